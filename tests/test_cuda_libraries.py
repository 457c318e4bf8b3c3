"""What GPUs leave to NVIDIA's libraries, on the stand-in: products, linear algebra, transforms."""

import ctypes
import itertools
import os
import re
from pathlib import Path

import fake_libraries
import ml_dtypes
import numpy as np
import pytest
from fake_cupy import cuda
from gpu_programs import normal

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import hardware, lax
from funtorch.backends.cuda import libraries
from funtorch.backends.cuda.checking import check_launches
from funtorch.backends.cuda.instructions import Product, Run
from funtorch.backends.cuda.libraries import Blas, Solver
from funtorch.backends.cuda.runtime import plan_for
from funtorch.core import ArrayImpl
from funtorch.ops import linalg
from funtorch.ops.orthogonal import geqrf
from funtorch.placement import HOST, DeviceArray, put
from funtorch.transforms.simplify import simplify

BF16, F16 = np.dtype(ml_dtypes.bfloat16), np.dtype("float16")


def plan_of(f, *args):
    plan = plan_for(simplify(ft.jit(f).lower(*args)._program.jaxpr))[0]
    check_launches(plan)
    return plan.instructions


def there(*args):
    return ft.device_put(args, "cuda:0")


def asked(what):
    return [c for c in cuda.calls if c[0] == what]


# ------------------------------------------------------------------------------ products
def some(dtype, *shape):
    x = normal(*shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * normal(*shape, seed=1)
    return (x * 3 if dtype == np.int8 else x).astype(dtype)


PRODUCTS = {
    "plain": (lambda a, b: a @ b, (8, 12), (12, 16)),
    "turned": (lambda a, b: a.T @ b.T, (12, 8), (16, 12)),
    "result turned": (lambda a, b: (a @ b).T, (8, 12), (12, 16)),
    "many": (lambda a, b: a @ b, (3, 8, 12), (3, 12, 16)),
    "shared": (lambda a, b: a @ b, (3, 8, 12), (12, 16)),
    "a part": (lambda a, b: a[4:, 4:] @ b[4:, ::1], (12, 16), (16, 8)),
    "heads": (lambda a, b: fnp.einsum("bqhd,bkhd->bhqk", a, b), (2, 4, 3, 8), (2, 4, 3, 8)),
    "two axes": (lambda a, b: fnp.tensordot(a, b, 2), (8, 4, 4), (4, 4, 8)),
}
SUMS = {F16: 68, BF16: 68, np.dtype("c8"): 68, np.dtype("c16"): 70, np.dtype("f8"): 70}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_go_to_the_library_as_they_are(cupy, name):
    """One product, without a conversion or a copy before; 16-bit floats are rounded once."""
    f, *shapes = PRODUCTS[name]
    for dtype, compute in SUMS.items():
        a, b = (some(dtype, *s) for s in shapes)
        steps = plan_of(f, a, b)
        assert all(isinstance(x, Product) for x in steps), [str(x) for x in steps]
        got, want = ft.jit(f)(*there(a, b)), f(fnp.array(a), fnp.array(b))
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        assert {c[5] for c in asked("gemm")} == {compute}
        tol = {2: 1e-2, 8: 1e-5}.get(got.dtype.itemsize, 1e-5)
        np.testing.assert_allclose(
            np.asarray(got).astype(complex), np.asarray(want).astype(complex), tol, tol
        )
        cuda.calls.clear()


@pytest.mark.parametrize("dtype", [F16, BF16])
def test_halves_make_float32(cupy, dtype):
    a, b = some(dtype, 5, 33), some(dtype, 33, 7)
    f = ft.jit(lambda a, b: fnp.matmul(a, b, preferred_element_type="float32"))
    np.testing.assert_allclose(
        np.asarray(f(*there(a, b))), a.astype("f4") @ b.astype("f4"), rtol=1e-6, atol=1e-6
    )
    assert [c[5:] for c in asked("gemm")] == [(68, 14 if dtype == BF16 else 2, 0)]


def test_gradients_of_halves_are_products_of_halves():
    w, x = some(BF16, 16, 8), some(BF16, 4, 16)
    loss = lambda w, x: (fnp.tanh(x @ w).astype("float32") ** 2).sum()
    made = [s.gemm for s in plan_of(ft.grad(loss, (0, 1)), w, x) if isinstance(s, Product)]
    assert {str(g) for g in made} == {
        "1 x 4 x 8 x 16 bfloat16 NN",
        "1 x 4 x 16 x 8 bfloat16 NT",
        "1 x 16 x 8 x 4 bfloat16 TN",
    }


def test_products_with_vectors_stay_kernels():
    for dtype in (F16, np.dtype("c8")):
        a = some(dtype, 8, 12)
        assert all(isinstance(s, Run) for s in plan_of(lambda a: (a @ a[0], a[:, :1] * a), a))


def test_int8(cupy):
    """cuBLAS takes int8 with the terms of sums side by side, by fours: others are moved first."""
    f = lambda a, b: fnp.matmul(a, b, preferred_element_type="int32")
    for shapes, moved in (
        (((2, 8, 12), (2, 16, 12)), 0),
        (((2, 8, 12), (2, 12, 16)), 1),
        (((5, 9), (9, 3)), 2),
        (((8, 12), (2, 12, 16)), 1),
    ):
        a, b = (some(np.int8, *s) for s in shapes)
        g = f if moved else lambda a, b: f(a, b.swapaxes(-1, -2))
        steps = plan_of(g, a, b)
        assert [type(s) for s in steps] == [Run] * moved + [Product], shapes
        assert "int8->int32 NT" in str(steps[-1].gemm)
        got, want = ft.jit(g)(*there(a, b)), ft.jit(g)(a, b)
        assert got.dtype == np.int32
        np.testing.assert_array_equal(np.asarray(got), np.asarray(want))
        assert asked("gemm")[-1][5:] == (72, 3, 10)


def test_tf32_is_asked_for(cupy):
    """Full precision, unless precision= or the setting allows TF32; then backwards too."""
    a, b = normal(6, 8), normal(8, 5)

    def kinds(f, *args):
        return [s.gemm.tf32 for s in plan_of(f, *args) if isinstance(s, Product)]

    for precision in (None, "highest", "float32", lax.Precision.HIGHEST, ("high", "highest")):
        assert kinds(lambda a, b, p=precision: fnp.matmul(a, b, precision=p), a, b) == [False]
    for precision in ("high", "default", "tf32", "tensorfloat32", lax.Precision.HIGH):
        assert kinds(lambda a, b, p=precision: fnp.matmul(a, b, precision=p), a, b) == [True]
    for f in (
        lambda a, b, **o: fnp.dot(a, b, **o),
        lambda a, b, **o: fnp.einsum("ij,jk->ik", a, b, **o),
        lambda a, b, **o: fnp.tensordot(a, b, 1, **o),
        lambda a, b, **o: fnp.inner(a, b.T, **o),
        lambda a, b, **o: lax.dot_general(a, b, (((1,), (0,)), ((), ())), **o),
        lambda a, b, **o: ft.vmap(lambda r: fnp.matmul(r[None], b, **o)[0])(a),
    ):
        assert kinds(lambda a, b, f=f: f(a, b, precision="high"), a, b) == [True]
        assert kinds(lambda a, b, f=f: f(a, b), a, b) == [False]
    loss = lambda a, b: (fnp.matmul(a, b, precision="high") ** 2).sum()
    assert kinds(ft.grad(loss, (0, 1)), a, b) == [True] * 3
    f = ft.jit(lambda a, b: a @ b)
    with ft.default_matmul_precision("high"):
        assert kinds(lambda a, b: a @ b, a, b) == [True]
        near = np.asarray(f(*there(a, b)))
    full = np.asarray(f(*there(a, b)))
    assert [c[5] for c in asked("gemm")] == [77, 68]
    assert 1e-6 < np.abs(near - full).max() < 1e-2
    np.testing.assert_array_equal(np.asarray(fnp.matmul(a, b, precision="high")), a @ b)
    assert kinds(lambda a, b: fnp.matmul(a, b, precision="high"), a.astype("f8"), b.astype("f8"))
    with pytest.raises(ValueError, match=r"precision must be None, one of .*tf32"):
        fnp.matmul(a, b, precision="low")


def test_eager_products_of_halves(cupy):
    """CuPy converts float16, and does not take stacks of bfloat16: they are compiled."""
    for dtype in (F16, BF16):
        a, b = some(dtype, 3, 4, 6), some(dtype, 3, 6, 5)
        got = put(ArrayImpl(a), ft.devices("cuda")[0]) @ put(ArrayImpl(b), ft.devices("cuda")[0])
        assert type(got) is DeviceArray
        assert asked("gemm")[-1][1:] == (3, 5, 4, 6, 68, *[14 if dtype == BF16 else 2] * 2)
        np.testing.assert_allclose(
            np.asarray(got).astype("f4"), a.astype("f4") @ b.astype("f4"), 2e-2, 2e-2
        )


# ------------------------------------------------------------------------------ linear algebra
def square(dtype, *lead, n=4):
    return some(dtype, *lead, n, n) + 3 * np.eye(n, dtype=dtype)


def positive(dtype, *lead, n=4):
    x = some(dtype, *lead, n, n)
    return x @ x.conj().swapaxes(-1, -2) + np.eye(n, dtype=dtype)


def remade(outs, kind):
    """Return what does not depend on the signs of vectors."""
    if kind == "eigh" and len(outs) > 1:
        w, v = outs
        return [w, (v * w[..., None, :]) @ v.conj().swapaxes(-1, -2)]
    if kind == "svd" and len(outs) > 1:
        u, s, vt = outs
        k = s.shape[-1]
        made = (u[..., :k] * s[..., None, :]) @ vt[..., :k, :]
        return [s, made, u.conj().swapaxes(-1, -2) @ u, vt @ vt.conj().swapaxes(-1, -2)]
    return outs


LINEAR = {
    "cholesky": (lambda x: linalg.cholesky(x), positive),
    "getrf": (lambda x: linalg.getrf(x), square),
    "lu": (lambda x: linalg.lu(x), square),
    "lu of wide ones": (lambda x: linalg.lu(x), lambda d, *lead: some(d, *lead, 3, 5)),
    "solve": (lambda x: linalg.solve(x, x[..., :2] + 1), square),
    "qr": (lambda x: linalg.qr(x), lambda d, *lead: some(d, *lead, 5, 3)),
    "qr of wide ones": (lambda x: linalg.qr(x), lambda d, *lead: some(d, *lead, 3, 5)),
    "full qr": (lambda x: linalg.qr(x, full=True), lambda d, *lead: some(d, *lead, 5, 3)),
    "reflectors": (geqrf, lambda d, *lead: some(d, *lead, 4, 3)),
    "eigh": (lambda x: linalg.eigh(x), positive),
    "eigenvalues": (lambda x: linalg.eigh(x, vectors=False), positive),
    "svd": (lambda x: linalg.svd(x), lambda d, *lead: some(d, *lead, 5, 3)),
    "svd of wide ones": (lambda x: linalg.svd(x), lambda d, *lead: some(d, *lead, 3, 5)),
    "full svd": (lambda x: linalg.svd(x, full=True), lambda d, *lead: some(d, *lead, 3, 5)),
    "singular values": (lambda x: linalg.svd(x, vectors=False), square),
    "slogdet": (lambda x: linalg.slogdet(x), square),
    "det": (lambda x: linalg.det(x), square),
    "pinv": (lambda x: linalg.pinv(x, rtol=1e-6), lambda d, *lead: some(d, *lead, 5, 3)),
}


def results(out):
    return [np.asarray(x) for x in (out if isinstance(out, (list, tuple)) else [out])]


@pytest.mark.parametrize("name", LINEAR)
def test_linear_algebra_is_done_there(cupy, name):
    f, make = LINEAR[name]
    for dtype, lead in itertools.product(map(np.dtype, "fdFD"), ((), (3,), (2, 1))):
        x = make(dtype, *lead)
        want, given = f(fnp.array(x)), put(ArrayImpl(x), ft.devices("cuda")[0])
        cuda.calls.clear()
        got = f(given)
        outs = got if isinstance(got, (list, tuple)) else [got]
        assert all(o.device == "cuda:0" for o in outs)
        read = [c for c in asked("get") if c[1] > 40 * max(1, np.prod(lead))]
        assert not read, "matrices went to the host"
        kind = next((k for k in ("svd", "eigh") if k in name), name)
        pairs = zip(*(remade(results(o), kind) for o in (got, want)), strict=True)
        tol = 2e-4 if dtype.char in "fF" else 1e-9
        for g, w in pairs:
            assert (g.dtype, g.shape) == (w.dtype, w.shape)
            np.testing.assert_allclose(g, w, tol, tol, err_msg=f"{name} {dtype} {lead}")


@pytest.mark.parametrize("dtype", ["f", "D"])
def test_triangular_systems(cupy, dtype):
    a, b = square(dtype, 3), some(dtype, 3, 4, 2)
    for lower, trans, unit, lead in itertools.product((0, 1), (0, 1, 2), (0, 1), ((), (3,))):
        params = {"lower": bool(lower), "trans": trans, "unit": bool(unit)}
        given = (a, b) if lead else (a[0], b[0])
        want = np.asarray(linalg.triangular_solve(*map(fnp.array, given), **params))
        got = linalg.triangular_solve(*there(*given), **params)
        np.testing.assert_allclose(np.asarray(got), want, 1e-3, 1e-3, err_msg=str(params))
    assert not asked("get") or all(c[1] <= b.nbytes for c in asked("get"))


def test_what_fails_is_nan(cupy):
    """The matrix that has no factorisation is nan, others do not suffer, nothing is raised."""
    bad, good = np.array([[1, 2], [2, 1]], "f"), np.array([[4, 1], [1, 3]], "f")
    both = there(np.stack([bad, good]))[0]
    low = np.asarray(linalg.cholesky(both))
    assert np.isnan(low[0]).all()
    np.testing.assert_allclose(low[1], np.linalg.cholesky(good), rtol=1e-6)
    singular, b = np.array([[1, 2], [2, 4]], "f"), np.ones((2, 2, 1), "f")
    x = np.asarray(linalg.solve(*there(np.stack([singular, good]), b)))
    assert np.isnan(x[0]).all()
    np.testing.assert_allclose(x[1], np.linalg.solve(good, b[1]), rtol=1e-6)
    zero = np.array([[0, 0], [1, 1]], "f")
    options = {"lower": True, "trans": 0, "unit": False}
    x = np.asarray(linalg.triangular_solve(*there(np.stack([zero, good]), b), **options))
    assert np.isnan(x[0]).all()
    assert np.isfinite(x[1]).all()
    sick = good * np.array([[np.nan, 1], [1, 1]], "f")
    for f in (linalg.eigh, linalg.svd, lambda z: linalg.svd(z, vectors=False)):
        for out in f(there(np.stack([sick, good]))[0]):
            assert np.isnan(np.asarray(out)[0]).all()
            assert np.isfinite(np.asarray(out)[1]).all()
    assert np.asarray(linalg.slogdet(there(singular)[0])[1]) == -np.inf


def test_halves_and_nothing(cupy):
    x = positive("f").astype(F16)
    got = linalg.cholesky(there(x)[0])
    assert got.dtype == F16
    np.testing.assert_allclose(np.asarray(got), np.linalg.cholesky(x.astype("f")), 1e-2, 1e-2)
    for shape in ((0, 3, 3), (0, 0)):
        outs = linalg.svd(there(np.zeros(shape, "f"))[0])
        assert [o.shape for o in outs] == [o.shape for o in linalg.svd(fnp.zeros(shape))]
        assert outs[0].device == "cuda:0"


def test_linear_algebra_in_programs(cupy):
    """Compiled programs call the same rules, and their gradients do."""

    def f(a, b):
        low = fnp.linalg.cholesky(a @ a.T + fnp.eye(4))
        return (fnp.linalg.solve(low, b) ** 2).sum() + fnp.linalg.slogdet(a)[1]

    a, b = square("f"), some("f", 4, 2)
    for g in (f, ft.grad(f)):
        got, want = ft.jit(g)(*there(a, b)), ft.jit(g)(a, b)
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), 1e-3, 1e-3)
    assert {"potrf", "getrf", "getrs"} <= {c[0] for c in cuda.calls}


def test_what_stays_on_the_host_says_why():
    assert all(len(reason) > 20 for reason in HOST.values())
    assert not {"cholesky", "lu", "qr", "svd", "eigh", "solve", "triangular_solve"} & set(HOST)


# ------------------------------------------------------------------------------ the libraries
def test_transforms_are_cufft_s(cupy):
    x = normal(3, 12)
    f = ft.jit(lambda x: (fnp.fft.fft(x).real, fnp.fft.irfft(fnp.fft.rfft(x), 12)))
    for got, want in zip(f(*there(x)), f(x), strict=True):
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), 1e-5, 1e-5)
    assert {"fft", "ifft"} & cupy.fft.used


@pytest.mark.parametrize(
    ("name", "majors", "message"),
    [
        ("cublas", (12,), r"cuBLAS \(libcublas.so.12\) .* pip install nvidia-cublas-cu12 \(or"),
        ("cusolver", (12,), r"cuSOLVER .* pip install nvidia-cusolver-cu12 .*cupy-cuda12x\[ctk\]"),
        ("cusolver", (13,), r"cuSOLVER \(libcusolver.so.12\) .* pip install nvidia-cusolver \("),
    ],
)
def test_missing_libraries_name_their_wheel(monkeypatch, name, majors, message):
    def missing(file):
        raise OSError(file)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.setattr(hardware, "cuda_majors", lambda: majors)
    with pytest.raises(RuntimeError, match=message):
        libraries.load(name)


def test_errors_name_the_function(cupy, monkeypatch):
    x = there(positive("f"))[0]
    monkeypatch.setattr(
        fake_libraries.FakeSolver, "_sizes", lambda *a: (_ for _ in ()).throw(AssertionError)
    )
    monkeypatch.setattr(
        fake_libraries.FakeSolver,
        "cusolverDnXpotrf_bufferSize",
        lambda self, h, p, u, n, k, a, lda, c, d, i: 2,
    )
    with pytest.raises(RuntimeError, match="cuSOLVER: cusolverDnXpotrf_bufferSize: out of memory"):
        linalg.cholesky(x)


def header(wheel, name):
    """Return the text of a header of the installed wheel, or of the CUDA toolkit."""
    folders = [Path(f, "include") for f in libraries._wheel(wheel)]
    given = os.environ.get("FUNTORCH_CUDA_HEADERS", "").split(os.pathsep)  # folders
    for folder in (*folders, *map(Path, filter(None, given)), Path("/usr/local/cuda/include")):
        if (folder / name).exists():
            return (folder / name).read_text(encoding="utf-8", errors="replace")
    return pytest.skip(f"{name} is not installed: pip install nvidia-{wheel}-cu12 brings it")


def letters_of(text, name):
    """Return the types of a function's parameters, as `Library.signatures` spells them."""
    given = re.search(rf"\b{name}\s*\(([^)]*)\)", text)[1]
    codes = []
    words = {"int64_t": "l", "long": "l", "size_t": "z", "signed": "b"}
    for parameter in re.sub(r"/\*.*?\*/", "", given).split(","):
        kind = re.sub(r"\bconst\b", "", parameter).split()[0]
        pointer = re.search(r"[*\[]|Handle_t|Params_t|cudaStream_t", parameter)
        codes.append("p" if pointer else words.get(kind, "i"))
    return "".join(codes)


@pytest.mark.parametrize(
    ("library", "wheel", "name"),
    [(Blas, "cublas", "cublas_api.h"), (Solver, "cusolver", "cusolverDn.h")],
)
def test_signatures_are_those_of_the_headers(library, wheel, name):
    text = header(wheel, name)
    for function, letters in library.signatures.items():
        for letter in ("", *"SDCZ"):
            if bool(letter) == ("?" in function):
                middle = "un" if letter in "CZ" else "or"
                spelled = function.replace("???", letter + middle).replace("?", letter)
                assert letters_of(text, spelled) == letters, spelled


def test_numbers_are_those_of_the_headers():
    text = header("cublas", "cublas_api.h")
    for name, number in (
        ("CUBLAS_COMPUTE_32F", 68), ("CUBLAS_COMPUTE_64F", 70), ("CUBLAS_COMPUTE_32I", 72),
        ("CUBLAS_COMPUTE_32F_FAST_TF32", 77), ("CUBLAS_GEMM_DEFAULT", -1), ("CUBLAS_OP_T", 1),
        ("CUBLAS_FILL_MODE_LOWER", 0), ("CUBLAS_FILL_MODE_UPPER", 1), ("CUBLAS_SIDE_RIGHT", 1),
        ("CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION", 16), ("CUBLAS_OP_C", 2),
    ):  # fmt: skip
        assert re.search(rf"\b{name} *= *{number}\b", text), name


def test_whoever_shares_memory_says_on_which_stream(cupy, monkeypatch):
    x, seen = there(normal(3))[0], []
    theirs = type(x._buffer).__dlpack__

    def exported(self, **options):
        seen.append(options)
        return theirs(self, **options)

    monkeypatch.setattr(type(x._buffer), "__dlpack__", exported)
    x.__dlpack__(stream=7)
    assert seen == [{"stream": 7}]
    assert x.__cuda_array_interface__["stream"] == 1
