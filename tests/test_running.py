"""Cumulative operations in compiled programs: along rows, columns, in blocks, of every dtype."""

import ml_dtypes
import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.backends.cpu import running
from funtorch.backends.fuse import fuse
from funtorch.core import ArrayImpl
from funtorch.ops import reduce
from funtorch.transforms.simplify import simplify

BF16 = np.dtype(ml_dtypes.bfloat16)
NAMES = ("cumsum", "cumprod", "cummax", "cummin")
TOLERANCE = {"f2": 2e-3, "f4": 2e-5, "f8": 1e-12, "c8": 2e-5}
rng = np.random.default_rng(8)


def sample(shape, dtype):
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) > 0.5
    if dtype.kind in "iu":
        return rng.integers(0, 100, shape).astype(dtype)
    if dtype.kind == "c":
        return (sample(shape, "f4") + 1j * sample(shape, "f4")).astype(dtype)
    return rng.uniform(0.9, 1.1, shape).astype(dtype) * rng.choice([-1, 1], shape).astype(dtype)


def check(name, x, axis, reverse, tolerance=None):
    f = getattr(reduce, name)
    want = np.asarray(f(ArrayImpl(x), axis=axis, reverse=reverse))
    got = np.asarray(ft.jit(lambda x: f(x, axis=axis, reverse=reverse))(x))
    assert got.dtype == want.dtype
    if x.dtype.kind in "biu" or name in ("cummax", "cummin"):
        np.testing.assert_array_equal(got, want)
        return
    if tolerance is None:
        tolerance = 1e-2 if x.dtype == BF16 else TOLERANCE[x.dtype.str[1:]]
    wide = np.complex128 if x.dtype.kind == "c" else np.float64
    finite = np.abs(want.astype(wide))[np.isfinite(want.astype(wide))]
    scale = finite.max(initial=1)
    np.testing.assert_allclose(got.astype(wide), want.astype(wide), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_rows_of_every_length(name, reverse):
    for shape in ((1,), (0,), (65,), (80,), (3, 999), (2, 3, 128)):
        check(name, sample(shape, "f4"), len(shape) - 1, reverse)


@pytest.mark.parametrize("dtype", ["bool", "i1", "u2", "i8", "f2", "f8", BF16, "c8"], ids=str)
def test_every_dtype(dtype):
    for name in NAMES:
        if np.dtype(dtype).kind in "cb" and name != ("cumsum" if dtype == "c8" else "cummax"):
            continue
        check(name, sample((2, 300), dtype), 1, name == "cumprod")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_long_rows_in_blocks(name, reverse, monkeypatch):
    monkeypatch.setattr(running, "_BLOCK", 64)
    for shape in ((1000,), (3, 64 * 64 + 1), (2, 130)):
        check(name, sample(shape, "f4"), len(shape) - 1, reverse)
    check(name, sample((777,), "u1"), 0, reverse)


def test_columns():
    for shape, axis in (((300, 20), 0), (((5000, 3)), 0), ((2, 4100, 2), 1), ((200, 100), 0)):
        check("cumsum", sample(shape, "f4"), axis, False)
        check("cummax", sample(shape, "i4"), axis, True)


def test_special_values():
    x = np.float32([1, np.inf, 2, -np.inf, 3, np.nan, 1, -0.0] * 20)
    for name in NAMES:
        f = getattr(reduce, name)
        for y in (x, x[:120][::-1].copy(), np.full(100, -0.0, np.float32)):
            got = np.asarray(ft.jit(lambda y, f=f: f(y, axis=0, reverse=False))(y))
            want = np.asarray(f(ArrayImpl(y), axis=0, reverse=False))
            np.testing.assert_array_equal(got, want)
            assert name != "cumsum" or np.signbit(got[0]) == np.signbit(want[0])


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_logsumexp(dtype):
    x = (30 * rng.normal(size=(3, 100))).astype(dtype)
    x[0, :3] = -np.inf
    for axis, reverse in ((1, False), (0, True), (1, True)):
        check("cumlogsumexp", x, axis, reverse, 2e-2 if dtype == "f2" else 1e-5)
    assert kinds(lambda x: reduce.cumlogsumexp(x, axis=1, reverse=False), x) == ["Launch"]


def kinds(f, x):
    program = simplify(ft.make_jaxpr(f)(x).jaxpr)
    return [type(step).__name__ for step in fuse(program).steps]


def test_which_operations_are_steps():
    x = np.zeros((4, 100), np.float32)
    assert kinds(lambda x: fnp.cumsum(x, 1), x) == ["Running"]
    assert kinds(lambda x: fnp.cumsum(x * 2, 0), x) == ["Launch"]
    assert kinds(lambda x: fnp.cumsum(x * 2, 1), x) == ["Launch", "Running"]
    assert kinds(lambda x: fnp.cumsum(x[:, :50] * 2, 1), x) == ["Launch"]


def test_results_do_not_depend_on_threads():
    x = rng.normal(size=1_000_003).astype(np.float32)
    found = set()
    for count in (1, 2, 7):
        with ft.threads(count):
            found.add(np.asarray(ft.jit(lambda x: fnp.cumsum(x))(x)).tobytes())
    assert len(found) == 1


def test_gradients():
    x = sample((2, 70), "f8")
    for f in (fnp.cumsum, fnp.cumprod):
        g = lambda x, f=f: (fnp.sin(f(x, axis=1)) ** 2).sum()
        np.testing.assert_allclose(ft.jit(ft.grad(g))(x), ft.grad(g)(x), rtol=1e-9)
