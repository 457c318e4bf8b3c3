"""What runs on a real GPU: the tables that the stand-in runs, and what only hardware can tell.

Nothing here runs where there is no GPU; the same functions run against the stand-in elsewhere.
With FUNTORCH_GPU_TESTS=stand-in this file itself does, to find its own mistakes.
"""

import os

import numpy as np
import pytest
from cuda_proof import OTHERS, SHARES, SUMMED, VECTORS, share_of
from gpu_programs import LOOPS, STEPS, WORDS, assert_same, benchmark, normal
from gpu_training import TRAINING
from test_cuda_conditional import PROGRAMS
from test_devices import COMPILED_THERE, table, without_signs

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.backends.cuda.conditional import SINCE, Conditional
from funtorch.backends.cuda.driver import driver_of
from funtorch.backends.cuda.runtime import compile_for
from funtorch.core import ArrayImpl
from funtorch.placement import DeviceArray, put

pytestmark = pytest.mark.gpu
STAND_IN = os.environ.get("FUNTORCH_GPU_TESTS") == "stand-in"


@pytest.fixture(autouse=True)
def there(request):
    """Put the stand-in in the GPU's place, where that is asked for."""
    if STAND_IN:
        request.getfixturevalue("cupy")


X = np.arange(6, dtype=np.float32).reshape(2, 3)


ALL = {**STEPS, **LOOPS, **PROGRAMS, **{f"train {n}": p for n, p in TRAINING.items()}}


@pytest.mark.parametrize("name", ALL)
def test_programs(name):
    f, *args = ALL[name]
    want, jitted = ft.jit(f)(*args), ft.jit(f)
    there = ft.device_put(tuple(args), "cuda:0")
    for _ in range(4):  # plainly, captured, replayed
        assert_same(jitted(*there), want, 1e-4)


@pytest.mark.parametrize("which", [*range(SHARES), *OTHERS])
def test_every_kernel(which):
    """All programs of the op table and of words, in each dtype, compiled for this GPU."""
    bad, place = [], ft.devices("cuda")[0]
    for p in share_of(which).programs[: 4 if STAND_IN else None]:
        with np.errstate(all="ignore"):
            wanted = [np.asarray(x) for x in p.function(*map(ArrayImpl, p.args))]
        free = any(getattr(x, "name", "") in VECTORS for x in p.plan.instructions)
        try:
            found = compile_for(place, p.jaxpr)([put(ArrayImpl(a), place)._buffer for a in p.args])
            for out, want in zip(found, wanted, strict=True):
                got, tol = out.get(), SUMMED.get(want.dtype.name, 0)
                assert (got.shape, got.dtype) == (want.shape, want.dtype)
                if want.dtype.kind not in "biu":
                    wide = np.complex128 if want.dtype.kind == "c" else np.float64
                    got, want = got.astype(wide), want.astype(wide)
                got, want = (np.abs(got), np.abs(want)) if free else (got, want)
                np.testing.assert_allclose(got, want, rtol=tol, atol=tol)
        except Exception as error:  # all of them are reported at once
            bad.append(f"{p.label}: {type(error).__name__}: {error}"[:300])
    assert not bad, f"{len(bad)} differ\n" + "\n".join(bad[:20])


def test_the_gpu_decides_by_itself():
    """Conditional nodes work where the driver has them; `doctor` says why where they do not."""
    driver = driver_of(ft.devices("cuda")[0])
    if int(driver.runtime.driverGetVersion()) < SINCE:
        pytest.skip(str(driver.conditional))
    assert isinstance(driver.conditional, Conditional), driver.conditional


def test_every_eager_rule():
    place, bad = ft.devices("cuda")[0], []
    for name, f, args in table():
        args = [np.asarray(a) for a in args]
        wanted = [np.asarray(o) for o in f(*map(ArrayImpl, args))]
        try:
            found = f(*[put(ArrayImpl(a), place) for a in args])
            for got, want in zip(found, wanted, strict=True):
                assert type(got) is DeviceArray
                assert (got.dtype, got.shape) == (want.dtype, want.shape)
                tol = 2e-2 if want.dtype.itemsize < 4 else 1e-4
                np.testing.assert_allclose(*without_signs(name, got, want), rtol=tol, atol=tol)
        except Exception as error:  # all of them are reported at once
            bad.append(f"{name}: {type(error).__name__}: {error}"[:300])
    assert not bad, "\n".join(bad)
    assert COMPILED_THERE


@pytest.mark.parametrize("name", WORDS)
def test_words(name):
    x = normal(4, 3)
    assert_same(WORDS[name](ft.device_put(x, "cuda:0")), WORDS[name](fnp.array(x)), 1e-4)


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: ft.grad(lambda x: f(x).sum()),
        lambda f: ft.jit(ft.grad(lambda x: f(x).sum())),
        lambda f: ft.vmap(f),
        lambda f: ft.jit(ft.vmap(f)),
        lambda f: lambda x: ft.jvp(f, (x,), (x,))[1],
        lambda f: ft.jacfwd(f),
        lambda f: ft.hessian(lambda x: f(x).sum()),
        lambda f: ft.jit(ft.remat(f)),
    ],
    ids=["grad", "jit grad", "vmap", "jit vmap", "jvp", "jacfwd", "hessian", "remat"],
)
def test_transforms(transform):
    f = transform(lambda x: fnp.tanh(x) * x + fnp.exp(-x * x))
    got = f(ft.device_put(X, "cuda:0"))
    assert got.device == "cuda:0"
    np.testing.assert_allclose(np.asarray(got), np.asarray(f(X)), rtol=1e-5, atol=1e-6)


def test_random_numbers_are_those_of_the_cpu():
    key = ft.random.key(7)
    with ft.default_device("cuda:0"):
        there = ft.random.bits(key, (1000,)), ft.random.normal(key, (1000,))
    here = ft.random.bits(key, (1000,)), ft.random.normal(key, (1000,))
    np.testing.assert_array_equal(np.asarray(there[0]), np.asarray(here[0]))
    np.testing.assert_allclose(np.asarray(there[1]), np.asarray(here[1]), rtol=1e-5, atol=1e-6)


def test_memory_is_shared_with_cupy_and_torch():
    if STAND_IN:
        pytest.skip("the stand-in shares no memory with CuPy")
    cupy = pytest.importorskip("cupy")
    x = ft.device_put(X, "cuda:0")
    assert cupy.asarray(x).data.ptr == x.unsafe_buffer_pointer()
    assert cupy.from_dlpack(x).data.ptr == x.unsafe_buffer_pointer()
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    assert torch.from_dlpack(x).data_ptr() == x.unsafe_buffer_pointer()
    theirs = torch.arange(3.0, device="cuda")
    assert fnp.from_dlpack(theirs).unsafe_buffer_pointer() == theirs.data_ptr()


def test_copies_to_the_host():
    x = ft.device_put(np.arange(1 << 20, dtype=np.float32), "cuda:0") * 2
    x.copy_to_host_async()
    np.testing.assert_array_equal(np.asarray(x), np.arange(1 << 20, dtype=np.float32) * 2)


@pytest.mark.parametrize("row", benchmark.ROWS, ids=lambda row: row.name)
def test_benchmark_rows_run(row):
    assert benchmark.measure(row, quick=True)["ours"] > 0
