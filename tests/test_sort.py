"""Sorting in compiled programs: native code against the eager rule, and what is built on it."""

import ml_dtypes
import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.backends.cpu import sorting
from funtorch.backends.cpu.network import comparisons, lanes_of
from funtorch.backends.fuse import fuse
from funtorch.backends.plan import Call, Sort
from funtorch.core import ArrayImpl, primitives
from funtorch.ops.sort import sort
from funtorch.transforms.simplify import simplify

BF16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [
    *map(np.dtype, ("bool", "int8", "uint8", "int16", "int32", "uint32", "int64", "uint64")),
    *map(np.dtype, ("float16", "float32", "float64", "complex64", "complex128")),
    BF16,
]
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, -np.nan, 1e-310, 5e-324)
# (shape, axis): one network, several, many rows; rows by digits, some blocks; axes in front.
SHAPES = [
    ((), None), ((0,), 0), ((3, 0), 0), ((1,), 0), ((2,), 0), ((17,), 0), ((64,), 0), ((3000,), 0),
    ((200, 100), 1), ((33, 16), 1), ((7, 65), 1), ((3, 5, 4), 1), ((9, 3000), 1), ((300, 33), 0),
]  # fmt: skip
rng = np.random.default_rng(5)


def sample(shape, dtype, few):
    """Return an array with all kinds of values, or with few different ones."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) > 0.5)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        low, high = (0, 2) if few else (limits.min, limits.max)
        return np.asarray(rng.integers(low, high, shape, dtype=dtype, endpoint=True))
    if dtype.kind == "c":
        parts = np.stack([sample(shape, dtype.type(0).real.dtype, few) for _ in range(2)], -1)
        return parts.view(dtype)[..., 0]
    x = rng.normal(size=shape) if not few else rng.choice([-1.0, 1.0, 0.0, -0.0], shape)
    with np.errstate(all="ignore"):
        return np.where(rng.random(shape) < 0.2, rng.choice(SPECIAL, shape), x).astype(dtype)


def same(got, want):
    """Compare bit for bit, one nan like another."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if got.dtype.kind == "c":
        same(got.real.copy(), want.real.copy())
        same(got.imag.copy(), want.imag.copy())
        return
    if got.dtype.kind not in "biu":
        got, want = got.astype("f8"), want.astype("f8")
        np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(want[want == 0]))
    np.testing.assert_array_equal(got, want)


def both(f, *args):
    args = [ArrayImpl(x) for x in args]
    for got, want in zip(ft.jit(f)(*args), f(*args), strict=True):
        same(got, want)


@pytest.mark.parametrize("few", [False, True], ids=["many", "few"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_array(dtype, few):
    for k, (shape, axis) in enumerate(SHAPES):
        if axis is not None and (k % 5 == DTYPES.index(dtype) % 5 or dtype == np.float32):
            both(lambda x, axis=axis: sort(x, axis=axis, num_keys=1), sample(shape, dtype, few))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_several_arrays(dtype):
    for k, (shape, axis) in enumerate(SHAPES):
        if axis is None or k % 6 != DTYPES.index(dtype) % 6:
            continue
        args = [sample(shape, d, True) for d in (dtype, "float32", "int16")]
        both(lambda *xs, axis=axis: sort(*xs, axis=axis, num_keys=1), *args)
        both(lambda *xs, axis=axis: sort(*xs, axis=axis, num_keys=3), *args)


def test_keys_longer_than_an_integer():
    args = [sample((40,), d, True) for d in ("complex128", "int64", "bool", "float64")]
    both(lambda *xs: sort(*xs, axis=0, num_keys=4), *args)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_long_rows_in_blocks(dtype, monkeypatch):
    monkeypatch.setattr(sorting, "_BLOCK", 64)
    for shape in ((1, 3000), (3, 257)):
        x = sample(shape, dtype, False)
        both(lambda x, y: [*sort(x, axis=1, num_keys=1), *sort(x, y, axis=1, num_keys=1)], x, x)
    both(lambda x: sort(x, axis=0, num_keys=1), np.full(1000, 7, dtype))


def test_results_do_not_depend_on_threads():
    x = sample((200_000,), "float32", False)
    y = sample((5000, 20), "float32", False)
    found = []
    for count in (1, 2, 5):
        with ft.threads(count):
            f = ft.jit(lambda x, y: (fnp.sort(x), fnp.argsort(x), fnp.sort(y), fnp.argsort(y)))
            found.append([np.asarray(a).tobytes() for a in f(x, y)])
    assert found[0] == found[1] == found[2]


def steps(f, *args):
    program = simplify(ft.make_jaxpr(f)(*args).jaxpr)
    return fuse(program).steps


def test_what_sorts_is_native():
    x = sample((30, 20), "float32", False)
    for f in (
        fnp.sort, fnp.argsort, fnp.median, lambda x: fnp.sort(x, axis=0),
        lambda x: lax.top_k(x, 3), lambda x: fnp.quantile(x, 0.3),
        lambda x: fnp.lexsort((x, x > 0)), lambda x: fnp.unique(x, size=5),
        lambda x: fnp.searchsorted(fnp.sort(x[0]), x),
    ):  # fmt: skip
        found = steps(f, x)
        assert any(isinstance(s, Sort) for s in found)
        assert not any(isinstance(s, Call) for s in found)
    # argsort reads no element again: one kernel makes keys, one takes the places out.
    assert [type(s).__name__ for s in steps(fnp.argsort, x[0])] == ["Launch", "Sort", "Launch"]


def test_results_of_others():
    y = rng.normal(size=(12, 51)).astype("f4")
    same(ft.jit(lambda y: lax.top_k(y, 7)[0])(y), -np.sort(-y)[:, :7])
    np.testing.assert_allclose(ft.jit(fnp.median)(y), np.median(y))
    np.testing.assert_allclose(
        ft.jit(lambda y: fnp.quantile(y, 0.3, axis=1))(y), np.quantile(y, 0.3, axis=1), rtol=1e-6
    )
    v = np.concatenate([rng.integers(0, 9, 40), np.arange(9)])
    np.testing.assert_array_equal(ft.jit(lambda v: fnp.unique(v, size=9))(v), np.unique(v))
    same(ft.jit(lambda x: fnp.sort(x.T[::-1], axis=0))(y), np.sort(y.T, axis=0))


def test_rows_choose_networks_and_long_rows_digits():
    def names(rows, n, dtype="uint32", tie=None):
        (step,) = steps(
            lambda x: primitives["sort_bits"].bind(
                x, low=0, high=8 * np.dtype(dtype).itemsize, tie=tie
            ),
            np.zeros((rows, n), dtype),
        )
        return [name for name, _ in sorting.sort_codes(step)]

    assert names(1000, 100) == names(1, 50) == ["sort"]
    assert names(1000, 100, tie=5) == ["sort", "sort_ties"]
    assert names(100, 5000) == ["sort_rows"]
    assert names(1, 1_000_000)[:3] == ["sort_begin", "sort_count", "sort_move"]
    assert len(names(1, 1_000_000)) == 2 * 3 + 2
    assert comparisons(3) == 80
    (step,) = steps(
        lambda x: primitives["sort_bits"].bind(x, low=0, high=64, tie=None),
        np.zeros((4, 4), "uint64"),
    )
    assert lanes_of(step) >= 2


def test_eager_sorts_keep_the_order_of_zeros():
    """NumPy's vectorised sorts do not."""
    x = rng.choice(np.float64([-0.0, 0.0, 1.0]), 500)
    got = np.asarray(sort(ArrayImpl(x), axis=0, num_keys=1)[0])
    np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(x[x == 0]))


@pytest.mark.parametrize(
    ("x", "params", "text"),
    [
        (np.zeros(3, np.int32), {"low": 0, "high": 8}, r"unsigned integers .* got i32\[3\]"),
        (np.zeros((), np.uint32), {"low": 0, "high": 8}, r"at least one axis, got u32\[\]"),
        (np.zeros(3, np.uint8), {"low": 0, "high": 9}, r"u8\[3\] has no bits 0 to 9"),
    ],
)
def test_errors(x, params, text):
    with pytest.raises(TypeError, match=text):
        ft.make_jaxpr(lambda x: primitives["sort_bits"].bind(x, tie=None, **params))(x)
