"""Devices: what is there, arrays on them, operations that meet them; on a stand-in for CuPy."""

import importlib
import pickle
import types

import numpy as np
import pytest
import test_conv
import test_ops_basic
import test_ops_more
from fake_cupy import NAMES, Refused, cuda
from gpu_programs import WORDS, assert_same, normal

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import hardware
from funtorch.__main__ import doctor, main
from funtorch.backends.cuda.driver import driver_of
from funtorch.core import ArrayImpl
from funtorch.ops import linalg
from funtorch.placement import HOST, DeviceArray, put
from funtorch.transforms.programs import COMPILED_THERE

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def on(n=0, x=X):
    return ft.device_put(x, f"cuda:{n}")


# ------------------------------------------------------------------------------ no GPU
def absent(monkeypatch, reason):
    monkeypatch.setattr(hardware, "_probe", lambda: (None, 0, reason))


def test_asking_for_a_gpu_that_is_not_there_says_why(monkeypatch):
    absent(monkeypatch, "NVIDIA's driver is too old")
    assert ft.devices() == ft.devices("cpu") == ["cpu"]
    for ask in (
        lambda: ft.devices("gpu"),
        lambda: ft.device_put(1.0, "cuda:0"),
        lambda: fnp.ones(2).to("cuda"),
        lambda: fnp.zeros(2, device="gpu:0"),
        lambda: ft.jit(lambda x: x, device="cuda"),
        lambda: ft.default_device("cuda").__enter__(),
    ):
        with pytest.raises(RuntimeError, match="NVIDIA's driver is too old"):
            ask()
    with pytest.raises(RuntimeError, match="device_put: there is no device tpu; devices are cpu:0"):
        ft.device_put(1.0, "tpu")


def test_why_there_is_none(monkeypatch):
    probe = hardware._probe.__wrapped__
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install cupy-cuda12x" in probe()[2]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "there")
    monkeypatch.setattr(hardware, "_driver", lambda: False)
    assert "driver (libcuda) is not installed" in probe()[2]
    monkeypatch.setattr(hardware, "_driver", lambda: True)

    def broken(name):
        raise ImportError("libcudart.so.12 is missing")

    monkeypatch.setattr(importlib, "import_module", broken)
    assert probe()[2] == "CuPy cannot be imported: libcudart.so.12 is missing"

    def module(error):
        def count():
            raise RuntimeError(error)

        runtime = types.SimpleNamespace(
            getDeviceCount=count, driverGetVersion=lambda: 11040, runtimeGetVersion=lambda: 12090
        )
        return types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))

    old = module("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
    monkeypatch.setattr(importlib, "import_module", lambda name: old)
    assert "too old: it is for CUDA 11.4, CuPy for CUDA 12.9" in probe()[2]
    none = module("cudaErrorNoDevice: no CUDA-capable device is detected")
    monkeypatch.setattr(importlib, "import_module", lambda name: none)
    assert probe()[2] == ("CuPy finds none: cudaErrorNoDevice: no CUDA-capable device is detected")


def test_the_doctor(monkeypatch, capsys):
    absent(monkeypatch, "the reason")
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for what in ("versions", "CPU", "BLAS", "GPU", "driver", "NVRTC", "cuBLAS", "cuSOLVER",
                 "cuDNN", "graphs", "NCCL", "MPI"):  # fmt: skip
        assert f"\n{what}" in f"\n{said}"
    assert "GPU        none\n" in said
    assert "-> the reason" in said
    assert all(f.found for f in doctor())


def test_the_doctor_with_a_gpu(cupy, monkeypatch):
    found = {f.what: f for f in doctor()}
    assert found["GPU"].found == "cuda:0: a GPU of tests, cuda:1: a GPU of tests"
    assert found["graphs"] == ("graphs", "the GPU decides about loops and branches by itself", "")
    monkeypatch.setenv("FUNTORCH_CUDA_CONDITIONAL", "0")
    driver_of.cache_clear()
    (said,) = [f for f in doctor() if f.what == "graphs"]
    assert "without conditional nodes: FUNTORCH_CUDA_CONDITIONAL=0 says so" in str(said)
    assert "-> loops and branches ask the host" in str(said)


# ------------------------------------------------------------------------------ the face
def test_arrays_are_put_on_devices(cupy):
    place = ft.devices("gpu")[1]
    assert ft.devices() == ["cpu", "cuda:0", "cuda:1"]
    assert place == "gpu:1" == place
    assert place.device_kind == "a GPU of tests"
    assert str(place) == "cuda:1"
    x = on(1)
    assert x.device == place
    assert x.devices() == {place}
    assert x.committed
    assert x.sharding.device_set == {place}
    assert x.platform() == "cuda"
    assert repr(x) == repr(fnp.array(X))
    assert str(x) == str(X)
    assert f"{x[0, 1]:.1f}" == "1.0"
    np.testing.assert_array_equal(np.asarray(x), X)
    assert x.to("cpu").device == "cpu"
    assert x.to("cuda:0").device == "cuda:0"
    assert x.to_device(place) is x
    assert x.to(np.float16).dtype == np.float16
    assert ft.device_put({"a": X, "b": 1.0}, place)["b"].device == place
    assert ft.device_get(x).tolist() == x.tolist() == X.tolist()
    assert float(x.sum()) == x.sum().item() == 15
    assert bool(x[0, 1] > 0)
    assert x[1, 0].astype(int) == 3
    assert pickle.loads(pickle.dumps(x)).device == "cpu"
    assert len(x) == 2
    assert [float(r.sum()) for r in x] == [3, 12]


def test_what_is_made_on_devices(cupy):
    for make in (
        lambda **o: fnp.zeros(2, **o),
        lambda **o: fnp.ones_like(X, **o),
        lambda **o: fnp.arange(3, **o),
        lambda **o: fnp.linspace(0, 1, 3, **o),
        lambda **o: fnp.eye(2, **o),
        lambda **o: fnp.full((2,), 3.0, **o),
        lambda **o: fnp.asarray([1, 2], **o),
        lambda **o: fnp.array(X, **o),
    ):
        plain = make()
        assert plain.device == "cpu"
        made = make(device="cuda:1")
        assert made.device == "cuda:1"
        assert (made.dtype, made.shape) == (plain.dtype, plain.shape)
        np.testing.assert_array_equal(np.asarray(made), np.asarray(plain))
    with ft.default_device("cuda:0"):
        assert ft.device.default_backend() == "cuda"
        for made in (fnp.zeros(2), fnp.arange(3), fnp.array([1.0]), fnp.sin(2.0), fnp.eye(2)):
            assert made.device == "cuda:0"
        assert ft.random.normal(ft.random.key(0), (3,)).device == "cuda:0"
        with ft.default_device("cpu"):
            assert fnp.ones(2).device == "cpu"
    assert fnp.ones(2).device == "cpu"
    assert ft.device.default_backend() == "cpu"


def test_operations_stay_where_their_arguments_are(cupy):
    x = on()
    for out in (x + 1, x @ fnp.ones(3), fnp.where(x > 2, x, 0.0), x.at[0].set(5.0), x.T, -x):
        assert type(out) is DeviceArray
        assert out.device == "cuda:0"
    assert (x + 1).weak_type is False
    assert fnp.asarray(1.0).to("cuda").weak_type
    want = ft.grad(lambda a: (fnp.sin(a) ** 2).sum())(fnp.array(X))
    got = ft.grad(lambda a: (fnp.sin(a) ** 2).sum())(x)
    assert got.device == "cuda:0"
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-6)
    assert ft.vmap(lambda r: r / r.sum())(x).device == "cuda:0"
    loop = ft.lax.scan(lambda c, r: (c + r, c * r), fnp.zeros(3), x)
    assert {leaf.device.name for leaf in ft.tree.leaves(loop)} == {"cuda"}


def test_numbers_cross_once(cupy):
    x = on()
    _ = x * 2.5
    cuda.calls.clear()
    _ = x * 2.5
    assert not [c for c in cuda.calls if c[0] in ("set", "get")]
    _ = x + fnp.broadcast_to(fnp.array(7.0), (2, 3))
    assert max(c[1] for c in cuda.calls if c[0] == "set") == 4  # one element, not six


def test_devices_do_not_mix(cupy):
    message = (
        r"add: argument 0 \(f32\[2,3\]\) is on cuda:0 and argument 1 \(f32\[2,3\]\) is on cuda:1; "
        r"move one of them: x.to\('cuda:0'\), or funtorch.device_put\(x, 'cuda:0'\)"
    )
    with pytest.raises(ValueError, match=message):
        on() + on(1)
    with pytest.raises(ValueError, match=r"argument 1 \(f32\[2,3\]\) is on cpu:0"):
        on() + ft.device_put(X, "cpu")
    assert (on() + fnp.array(X)).device == "cuda:0"  # never put on the CPU by name
    f = ft.jit(lambda a, b: a + b)
    with pytest.raises(ValueError, match=r"jit of .*argument a .* is on cuda:0 and argument b"):
        f(on(), on(1))
    consts = on(), on(1)
    with pytest.raises(ValueError, match=r"what .* closes over"):
        ft.jit(lambda a: a + consts[0] + consts[1])(X)


def test_copies_to_the_host(cupy):
    x = on()
    cuda.calls.clear()
    assert ft.device.copy_to_host_async({"x": x})["x"] is x
    assert ("pinned", 24) in cuda.calls
    assert ("get", 24, False) in cuda.calls
    cuda.calls.clear()
    np.testing.assert_array_equal(np.asarray(x), X)
    assert not [c for c in cuda.calls if c[0] == "get"]
    ft.block_until_ready([x, on(1), X])
    devices = {c[1] for c in cuda.calls if c[0] == "synchronize device"}
    assert devices == {0, 1}


def test_memory_is_shared_with_other_libraries(cupy):
    x = on()
    theirs = cupy.asarray(x)
    assert theirs is x._buffer
    assert x.__cuda_array_interface__["shape"] == (2, 3)
    ours = fnp.asarray(theirs)
    assert ours.unsafe_buffer_pointer() == x.unsafe_buffer_pointer()
    assert ours.device == "cuda:0"
    assert x.__dlpack_device__() == (2, 0)
    again = fnp.from_dlpack(theirs)
    assert again.unsafe_buffer_pointer() == x.unsafe_buffer_pointer()
    other = cupy.from_dlpack(x)
    assert other.data.ptr == x.unsafe_buffer_pointer()


def test_deleted_arrays(cupy):
    x = on()
    x.delete()
    assert x.is_deleted()
    assert x.shape == (2, 3)
    with pytest.raises(RuntimeError, match="Array has been deleted: f32"):
        _ = x + 1


def test_out_of_memory_names_the_largest(cupy, monkeypatch):
    x = on(0, np.zeros((100, 100), np.float32))
    monkeypatch.setattr(cuda, "limit", cuda.taken)
    with pytest.raises(
        MemoryError, match=r"largest arrays on the GPU:\n  40000 bytes: f32\[100,100\]"
    ):
        on(0, np.ones((7, 100), np.float32))
    del x


# ------------------------------------------------------------------------------ words
def test_transforms_and_functions(cupy):
    x = normal(4, 3)
    for name, f in WORDS.items():
        if name != "updates":  # these are compiled
            assert_same(f(on(0, x)), f(fnp.array(x)))


def test_nans_are_found(cupy):
    with ft.debug_nans(), pytest.raises(ft.errors.NanError, match="log of"):
        fnp.log(-on() - 1)


# ------------------------------------------------------------------------------ every eager rule
def table():
    """Yield the name, function and first arguments of every row of the tables of primitives."""
    for row in (*test_ops_basic.ROWS, *test_conv.ROWS):
        for args in row.samples[:2]:
            yield row.name, row.flat, args
            if row.dtypes:
                small = [a.astype(row.dtypes[-1]) if a.dtype == np.float64 else a for a in args]
                yield row.name, row.flat, small
    for case in test_ops_more.CASES:
        yield case.name, lambda *a, case=case: _listed(case.fn(*a)), case.args


def without_signs(name, got, want):
    """Return values to be compared: absolute ones of vectors whose signs nothing says.

    That they make the matrix is in `test_cuda_libraries`.
    """
    wide = np.asarray(got).astype(complex), np.asarray(want).astype(complex)
    return [np.abs(x) for x in wide] if name.startswith(("svd", "eigh")) else wide


def _listed(out):
    return list(out) if isinstance(out, (list, tuple)) else [out]


def test_every_eager_rule_runs_with_cupy(cupy):
    place, done = ft.devices("cuda")[0], 0
    for name, f, args in table():
        if name.split("-")[0] in COMPILED_THERE:
            continue
        args = [np.asarray(a) for a in args]
        wanted = [np.asarray(o) for o in f(*map(ArrayImpl, args))]
        found = f(*[put(ArrayImpl(a), place) for a in args])
        for got, want in zip(found, wanted, strict=True):
            assert type(got) is DeviceArray, name
            assert (got.dtype, got.shape) == (want.dtype, want.shape), name
            tol = 1e-2 if want.dtype.itemsize < 4 else 1e-6
            wide = without_signs(name, got, want)
            np.testing.assert_allclose(*wide, rtol=tol, atol=tol, err_msg=name)
        done += 1
    assert done > 500
    assert {"sin", "matmul", "where", "take_along_axis"} <= cupy.used


def test_the_host_computes_what_is_said(cupy):
    assert "schur" in HOST
    assert "add" not in HOST
    x = on(0, np.eye(3, dtype=np.float32))
    cuda.calls.clear()
    assert linalg.schur(x)[0].device == "cuda:0"
    assert ("get", 36, True) in cuda.calls


def test_the_stand_in_is_strict(cupy):
    x = on()._buffer
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(x)
    with pytest.raises(TypeError, match="Unsupported type"):
        _ = x + X
    with pytest.raises(Refused, match="cupy has no spacing"):
        _ = cupy.spacing
    with pytest.raises(Refused, match="no parameters"):
        cupy.sum(x, where=True)
    with pytest.raises(TypeError, match="not supported for the input types"):
        cupy.bitwise_and(x, x)


def test_the_recorded_names_are_those_of_cupy():
    theirs = pytest.importorskip("cupy", reason="CuPy is not installed")
    from record_cupy import recorded

    if theirs.__version__ != NAMES["version"]:
        pytest.skip(f"recorded of CuPy {NAMES['version']}, installed is {theirs.__version__}")
    assert recorded() == NAMES
