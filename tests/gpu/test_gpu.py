"""What runs on a real GPU: the tables that the stand-in runs, and what only hardware can tell.

Nothing here runs where there is no GPU; the same functions run against the stand-in elsewhere.
With FUNTORCH_GPU_TESTS=stand-in this file itself does, to find its own mistakes.
"""

import os
import time

import numpy as np
import pytest
import test_cuda_convolutions
import test_cuda_libraries
from cuda_proof import OTHERS, SHARES, SUMMED, VECTORS, share_of
from gpu_programs import LOOPS, STEPS, WORDS, assert_same, benchmark, normal
from gpu_training import TRAINING
from test_cuda_conditional import PROGRAMS
from test_devices import COMPILED_THERE, table, without_signs

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import hardware
from funtorch.backends.cuda import cudnn
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
    assert not driver_of(ft.devices("cuda")[0]).uncaptured


def test_streams_wait_for_each_other():
    """Runs on several streams share constants, kept results and cuBLAS's workspace."""
    cuda = hardware.cupy().cuda
    f, g = ft.jit(lambda a: a @ a + 1), ft.jit(lambda a: fnp.tanh(a @ a.T))
    x = ft.device_put(normal(256, 256) / 16, "cuda:0")
    want = np.asarray(g(f(x)))
    for _ in range(4):
        with cuda.Stream(non_blocking=True):
            y = f(x)
        with cuda.Stream(non_blocking=True):
            z = g(y)
            np.testing.assert_allclose(np.asarray(z), want, rtol=1e-5, atol=1e-5)


def test_arrays_move_between_gpus():
    if len(ft.devices("cuda")) < 2:
        pytest.skip("there is one GPU")
    x = ft.device_put(normal(1 << 10, 1 << 8), "cuda:0")
    for _ in range(4):
        y = (x * 2 + 1).to("cuda:1")
        np.testing.assert_allclose(np.asarray(y), np.asarray(x) * 2 + 1, rtol=1e-6)
        assert ft.jit(lambda a: a @ a.T)(y).device == "cuda:1"


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


@pytest.mark.parametrize("name", test_cuda_libraries.PRODUCTS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64", "float64"])
def test_products(name, dtype):
    f, *shapes = test_cuda_libraries.PRODUCTS[name]
    kind = ft.dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    a, b = (test_cuda_libraries.some(kind, *s) for s in shapes)
    got, want = ft.jit(f)(*ft.device_put((a, b), "cuda:0")), f(fnp.array(a), fnp.array(b))
    tol = 2e-2 if kind.itemsize == 2 else 1e-4
    wide = [np.asarray(x).astype(complex) for x in (got, want)]
    np.testing.assert_allclose(*wide, rtol=tol, atol=tol)


def test_int8_and_tf32():
    a, b = (np.arange(64, dtype=np.int8).reshape(8, 8) - 30 for _ in range(2))
    f = ft.jit(lambda a, b: fnp.matmul(a, b, preferred_element_type="int32"))
    np.testing.assert_array_equal(np.asarray(f(*ft.device_put((a, b), "cuda:0"))), f(a, b))
    x = ft.device_put(normal(256, 256), "cuda:0")
    full, near = (
        np.asarray(ft.jit(lambda x, p=p: fnp.matmul(x, x, precision=p))(x)) for p in (None, "high")
    )
    exact = np.asarray(x).astype("f8") @ np.asarray(x).astype("f8")
    assert np.abs(full - exact).max() < 1e-3
    assert np.abs(near - exact).max() < 0.5


@pytest.mark.parametrize("name", test_cuda_libraries.LINEAR)
def test_linear_algebra(name):
    f, make = test_cuda_libraries.LINEAR[name]
    for dtype in map(np.dtype, "fdFD"):
        for lead in ((), (3,)):
            x = make(dtype, *lead)
            got, want = f(ft.device_put(x, "cuda:0")), f(fnp.array(x))
            kind = next((k for k in ("svd", "eigh") if k in name), name)
            outs = [
                test_cuda_libraries.remade(test_cuda_libraries.results(o), kind)
                for o in (got, want)
            ]
            tol = 1e-3 if dtype.char in "fF" else 1e-8
            for g, w in zip(*outs, strict=True):
                np.testing.assert_allclose(g, w, tol, tol, err_msg=f"{dtype} {lead}")


def test_what_fails_is_nan():
    bad, good = np.array([[1, 2], [2, 1]], "f"), np.array([[4, 1], [1, 3]], "f")
    low = np.asarray(fnp.linalg.cholesky(ft.device_put(np.stack([bad, good]), "cuda:0")))
    assert np.isnan(low[0]).all()
    np.testing.assert_allclose(low[1], np.linalg.cholesky(good), rtol=1e-5)
    x = fnp.linalg.solve(*ft.device_put((np.ones((2, 2), "f"), np.ones((2, 1), "f")), "cuda:0"))
    assert np.isnan(np.asarray(x)).all()


def test_results_that_are_held_stay_as_they_are():
    f, kept, xs = ft.jit(lambda a: a @ a + 1), [], [normal(4, 4, seed=k) for k in range(9)]
    for x in xs:
        kept.append(f(ft.device_put(x, "cuda:0")))
    for got, x in zip(kept, xs, strict=True):
        np.testing.assert_allclose(np.asarray(got), x @ x + 1, rtol=1e-4, atol=1e-4)


def test_a_replayed_call_is_quick():
    f = ft.jit(lambda xs: [x * 2 + 1 for x in xs])
    xs = ft.device_put([normal(3, seed=k) for k in range(10)], "cuda:0")
    times = []
    for _ in range(300):
        start = time.perf_counter()
        f(xs)
        times.append(time.perf_counter() - start)
    ft.block_until_ready(f(xs))
    print(f"a replayed call of 10 arrays: {np.median(times) * 1e6:.1f} us")
    assert STAND_IN or np.median(times) < 100e-6


@pytest.mark.parametrize("name", test_cuda_convolutions.ROWS)
def test_convolutions_by_cudnn(name, monkeypatch):
    pytest.importorskip("cudnn", reason="nvidia-cudnn-frontend is not installed")
    monkeypatch.setenv("FUNTORCH_CUDNN", "1")
    cudnn.cudnn_of.cache_clear()
    f, g, args = test_cuda_convolutions.functions(name)
    for h in (f, g):
        got, want = ft.jit(h)(*ft.device_put(args, "cuda:0")), ft.jit(h)(*args)
        for a, b in zip(*map(ft.tree.leaves, (got, want)), strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-3, atol=1e-3)
    cudnn.cudnn_of.cache_clear()
