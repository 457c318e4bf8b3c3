"""The Array API standard's special cases, names of results, copies and dtypes, by its reference."""

import inspect
import warnings

import numpy as np
import pytest
from test_array_api import ELEMENTWISE

import funtorch as ft
import funtorch.numpy as fnp

strict = pytest.importorskip("array_api_strict", reason="compares with the standard's reference")
strict.set_array_api_strict_flags(api_version="2024.12")
INF, NAN = np.inf, np.nan
ENDS = [NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 1.5, 2.5, -2.5, 3.0, -3.0]
ENDS += [1e30, -1e30, 1e-30, -1e-30]
PARTS = [NAN, INF, -INF, 0.0, -0.0, 1.0, -2.0]
# Zeros whose sign compiled code does not look after; in compiled complex functions nan may stand
# where NumPy has an infinity beside a nan.
SIGNLESS = ("remainder", "sign", "floor_divide")
LOOSE = ("cos", "cosh", "divide", "exp", "pow", "sin", "sinh", "tan", "tanh")
UNSPECIFIED = ("sign",)  # of complex infinities


def ends(name, dtype):
    """Return the arguments at which the standard lists special cases."""
    kind = np.dtype(dtype).kind
    base = ENDS if kind == "f" else [complex(a, b) for a in PARTS for b in PARTS]
    base = np.array(base, dtype)
    if "x2" not in inspect.signature(getattr(strict, name)).parameters:
        return [base]
    step = 1 if kind == "f" else 7
    return [a.ravel()[::step] for a in np.meshgrid(base, base)]


def agree(got, want, signs, what):
    assert got.dtype == want.dtype, what
    if want.dtype.kind == "c":
        agree(got.real, want.real, signs, what)
        agree(got.imag, want.imag, signs, what)
        return
    tol = 3e-6 if want.dtype == np.float32 else 1e-13
    np.testing.assert_allclose(got, want, rtol=tol, atol=1e-37, err_msg=what)
    if want.dtype.kind == "f" and signs:
        zero = (want == 0) & (got == 0)
        np.testing.assert_array_equal(np.signbit(got)[zero], np.signbit(want)[zero], what)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_special_cases(name):
    tried = 0
    for dtype in ("float32", "float64", "complex64", "complex128"):
        args = ends(name, dtype)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                want = np.asarray(getattr(strict, name)(*map(strict.asarray, args))._array)
            except (TypeError, ValueError):
                continue  # not in the standard for this dtype
        tried += 1
        is_complex = want.dtype.kind == "c"
        if is_complex and name in UNSPECIFIED:
            continue
        f = getattr(fnp, name)
        arrays = [fnp.asarray(a) for a in args]
        agree(np.asarray(f(*arrays)), want, True, f"{name} of {dtype}")
        if is_complex and name in LOOSE:
            fine = np.isfinite(want) & np.all([np.isfinite(a) for a in args], axis=0)
            args, want = [a[fine] for a in args], want[fine]
            arrays = [fnp.asarray(a) for a in args]
        got = np.asarray(ft.jit(f)(*arrays))
        agree(got, want, name not in (*SIGNLESS, *LOOSE), f"{name} of {dtype}, compiled")
    assert tried or name.startswith(("bitwise", "logical"))


REPEATED = [NAN, 1.0, NAN, 0.0, -0.0, 1.0]
S = [[2.0, 1.0], [1.0, 3.0]]
NAMED = {
    "unique_all": lambda xp, a: xp.unique_all(a(REPEATED)),
    "unique_counts": lambda xp, a: xp.unique_counts(a(REPEATED)),
    "unique_inverse": lambda xp, a: xp.unique_inverse(a(REPEATED)),
    "slogdet": lambda xp, a: xp.linalg.slogdet(a(S)),
    "svd": lambda xp, a: xp.linalg.svd(a(S)),
    "eigh": lambda xp, a: xp.linalg.eigh(a(S)),
    "qr": lambda xp, a: xp.linalg.qr(a(S), mode="complete"),
}


@pytest.mark.parametrize("name", NAMED)
def test_names_of_results(name):
    """Equal fields; where signs are free, equal sizes."""
    got, want = NAMED[name](fnp, fnp.asarray), NAMED[name](strict, wide)
    assert got._fields == want._fields
    for g, w in zip(got, want, strict=True):
        w = np.asarray(w._array)
        np.testing.assert_allclose(np.abs(np.asarray(g, w.dtype)), np.abs(w), rtol=1e-5, atol=1e-6)


def wide(x):
    return strict.asarray(x, dtype=strict.float64)


CASES = {
    "searchsorted": lambda xp, a: xp.searchsorted(a([1.0, 2, 3]), a([[2.0, NAN]]), side="right"),
    "with a start": lambda xp, a: xp.cumulative_sum(a(S), axis=1, include_initial=True),
    "product with a start": lambda xp, a: xp.cumulative_prod(a(S), axis=0, include_initial=True),
    "negative places": lambda xp, a: xp.take_along_axis(a(S), xp.asarray([[-1], [0]]), axis=1),
    "flat repeats": lambda xp, a: xp.repeat(a(S), 2),
    "no differences": lambda xp, a: xp.diff(a(S), n=0),
    "nan in bounds": lambda xp, a: xp.clip(a([1.0, NAN]), 0.0, NAN),
    "downwards": lambda xp, a: xp.sort(a([3.0, NAN, 1.0]), descending=True),
    "of nothing": lambda xp, a: xp.tensordot(a(S), a(S), axes=0),
    "norms": lambda xp, a: xp.stack(
        [xp.linalg.vector_norm(a(S), ord=o) for o in (0, 1, 2, 3, INF, -INF, -1)]
    ),
    "norms of matrices": lambda xp, a: xp.stack(
        [xp.linalg.matrix_norm(a(S), ord=o) for o in (1, 2, -1, -2, "fro", "nuc", INF, -INF)]
    ),
    "all of it": lambda xp, a: xp.argmax(a(S), axis=None, keepdims=True),
    "trace": lambda xp, a: xp.linalg.trace(a(S)),
    "backwards": lambda xp, a: xp.roll(a(S), (1, 1), axis=(0, 0)),
}


@pytest.mark.parametrize("name", CASES)
def test_cases(name):
    got = CASES[name](fnp, lambda x: fnp.asarray(x, dtype="float64"))
    want = np.asarray(CASES[name](strict, wide)._array)
    assert got.dtype.kind == want.dtype.kind
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_dtypes_of_transforms(dtype):
    complex_in = dtype.startswith("complex")
    for name in ("fft", "ifft", "fftn", "ifftn", "irfft", "irfftn", "hfft"):
        if complex_in:
            got = getattr(fnp.fft, name)(fnp.asarray(S, dtype=dtype))
            x = strict.astype(wide(S), getattr(strict, dtype))
            assert got.dtype == getattr(strict.fft, name)(x).dtype._np_dtype, name
    for name in ("rfft", "rfftn", "ihfft"):
        x = fnp.asarray(S, dtype=dtype)
        if complex_in:
            with pytest.raises(TypeError, match="must be real"):
                getattr(fnp.fft, name)(x)
        else:
            like = strict.astype(wide(S), getattr(strict, dtype))
            assert (
                getattr(fnp.fft, name)(x).dtype == getattr(strict.fft, name)(like).dtype._np_dtype
            )
    place = fnp.asarray(1.0).device
    for name in ("fftfreq", "rfftfreq"):
        if not complex_in:
            assert getattr(fnp.fft, name)(4, d=0.5, dtype=dtype, device=place).dtype == dtype


def test_kinds_and_casts():
    kinds = [
        "bool", "signed integer", "unsigned integer", "integral", "real floating",
        "complex floating", "numeric", ("bool", "integral"), ("int8", "uint8")[:0],
    ]  # fmt: skip
    for kind in kinds:
        for name in ("bool", "int8", "uint8", "uint64", "float32", "complex64"):
            want = strict.isdtype(getattr(strict, name), kind)
            assert fnp.isdtype(getattr(fnp, name), kind) == want, (kind, name)
    names = list(strict.__array_namespace_info__().dtypes())
    for a in names:
        for b in names:
            pair = [getattr(strict, n) for n in (a, b)]
            try:
                want = strict.result_type(*pair)
            except TypeError:
                continue  # not in the standard
            assert fnp.result_type(getattr(fnp, a), getattr(fnp, b)) == want._np_dtype, (a, b)
            if strict.can_cast(*pair):
                assert fnp.can_cast(getattr(fnp, a), getattr(fnp, b)), (a, b)


def test_copies_and_capsules():
    x = fnp.asarray(S, dtype="float64")
    assert fnp.astype(x, x.dtype, copy=False) is x
    assert fnp.reshape(x, (4,), copy=True).tolist() == fnp.reshape(x, (4,), copy=False).tolist()
    for options in ({}, {"max_version": (1, 0)}, {"max_version": (1, 0), "copy": True},
                    {"max_version": (1, 0), "dl_device": (1, 0), "copy": False}):  # fmt: skip
        assert "dltensor" in repr(x.__dlpack__(**options))
    with pytest.raises(BufferError, match="device"):
        x.__dlpack__(max_version=(1, 0), dl_device=(2, 0))
    assert not np.from_dlpack(x).flags.writeable
    for options in ({}, {"device": "cpu"}, {"device": x.device}, {"copy": True}, {"copy": False}):
        assert fnp.from_dlpack(np.arange(3.0), **options).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="no device gpu"):
        fnp.from_dlpack(np.arange(3.0), device="gpu")
