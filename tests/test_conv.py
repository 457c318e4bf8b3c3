"""Convolutions and sliding windows: every rule of their primitives, and jax.lax's forms of them."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
from op_table import BF16, CHECKS, Row, arrays, assert_close, check_jit, compare_compiled

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.backends.cpu import packed
from funtorch.backends.fuse import fuse
from funtorch.backends.plan import Call, Conv, Dot, Launch
from funtorch.core import ArrayImpl, ShapedArray, aval_of
from funtorch.jaxpr import stage
from funtorch.ops import conv, window
from funtorch.transforms.simplify import simplify

RNG = np.random.default_rng(11)
LOW = ("float32", "float16", BF16)


def normal(*shape):
    return RNG.normal(size=shape)


def complexes(*shape):
    return normal(*shape) + 1j * normal(*shape)


# ------------------------------------------------------------------------------ windows
def taps_of(x, window, strides, dilation):
    """Yield (place, its window, flattened) over the last axes, by plain indexing."""
    lead = x.ndim - len(window)
    counts = [
        max(0, (n - (w - 1) * d - 1) // s + 1)
        for n, w, s, d in zip(x.shape[lead:], window, strides, dilation, strict=True)
    ]
    for p in np.ndindex(*counts):
        at = tuple(
            slice(i * s, i * s + (w - 1) * d + 1, d)
            for i, w, s, d in zip(p, window, strides, dilation, strict=True)
        )
        yield (..., *p), x[(..., *at)]


def windows_reference(x, *, window, strides, dilation):
    lead = x.ndim - len(window)
    counts = window_places(x.shape[lead:], window, strides, dilation)
    out = np.zeros((*x.shape[:lead], *window, *counts), x.dtype)
    for p, taps in taps_of(x, window, strides, dilation):
        out[p] = taps
    return out


def window_places(sizes, window, strides, dilation):
    return [
        max(0, (n - (w - 1) * d - 1) // s + 1)
        for n, w, s, d in zip(sizes, window, strides, dilation, strict=True)
    ]


def reduced_reference(f, x, *, window, strides, dilation, dtype=None):
    lead = x.ndim - len(window)
    shape = (*x.shape[:lead], *window_places(x.shape[lead:], window, strides, dilation))
    out = np.zeros(shape, dtype or x.dtype)
    for p, taps in taps_of(x, window, strides, dilation):
        out[p] = f(taps.reshape(*taps.shape[:lead], math.prod(window)), -1)
    return out


# x, window, strides, dilation: short and long windows, gaps, leftovers, none that fits, no axis
PLACES = [
    (normal(2, 7), (3,), (1,), (1,)),
    (normal(9, 8), (2, 3), (2, 1), (1, 2)),
    (normal(2, 25).T, (13,), (1,), (1,)),
    (normal(60), (17,), (1,), (2,)),
    (normal(3, 11)[:, ::2], (2,), (3,), (1,)),
    (normal(2, 3), (4,), (1,), (1,)),
    (normal(0, 5), (2,), (1,), (1,)),
    (normal(3), (), (), ()),
    (normal(2, 5, 4, 3), (2, 1, 3), (2, 1, 1), (1, 1, 1)),
]


def parameters(window, strides, dilation):
    return {"window": window, "strides": strides, "dilation": dilation}


def window_rows():
    rows = []
    for k, (x, *sizes) in enumerate(PLACES):
        p = parameters(*sizes)
        rows += [
            Row(
                f"windows-{k}",
                partial(window.windows, **p),
                [(x,)],
                partial(windows_reference, **p),
            ),
            Row(
                f"reduce_window_sum-{k}",
                partial(window.reduce_window_sum, **p),
                [(x,)],
                partial(reduced_reference, np.sum, **p),
                dtypes=LOW,
                ulps=64,
            ),
        ]
        for kind, f in (("max", np.max), ("min", np.min)):
            rows.append(
                Row(
                    f"reduce_window_{kind}-{k}",
                    partial(getattr(window, f"reduce_window_{kind}"), **p),
                    [(x,)],
                    partial(reduced_reference, f, **p),
                    dtypes=LOW,
                )
            )
        for kind, f in (("argmax", np.argmax), ("argmin", np.argmin)):
            rows.append(
                Row(
                    f"window_{kind}-{k}",
                    partial(getattr(window, f"window_{kind}"), **p),
                    [(np.round(x),)],
                    lambda v, f=f, p=p: reduced_reference(f, v, **p, dtype=np.int32),
                )
            )
        lead = x.ndim - len(sizes[0])
        y = normal(*windows_reference(x, **p).shape)
        rows.append(
            Row(
                f"overlap_add-{k}",
                partial(
                    window.overlap_add, shape=x.shape[lead:], strides=sizes[1], dilation=sizes[2]
                ),
                [(y,)],
                partial(overlap_reference, shape=x.shape, p=p),
                dtypes=LOW,
                ulps=64,
            )
        )
    return rows


def overlap_reference(y, *, shape, p):
    out = np.zeros(shape, y.dtype)
    for (_, *place), taps in taps_of(out, **p):
        taps += y[(..., *place)]
    return out


# ------------------------------------------------------------------------------ convolutions
def conv_reference(x, w, *, strides, padding, lhs_dilation, rhs_dilation, groups, out_dtype=None):
    """Sum over all taps and places, one product of features at a time."""
    counts = conv.out_sizes(x.shape[2:], w.shape[2:], strides, padding, lhs_dilation, rhs_dilation)
    out = np.zeros((x.shape[0], w.shape[0], *counts), np.result_type(x, w))
    xs, ws = np.split(x, groups, 1), np.split(w, groups, 0)
    for p, k in itertools.product(np.ndindex(*counts), np.ndindex(*w.shape[2:])):
        at = [
            i * s + j * rd - lo
            for i, j, s, rd, (lo, _) in zip(p, k, strides, rhs_dilation, padding, strict=True)
        ]
        inside = all(
            a % ld == 0 and 0 <= a // ld < n
            for a, ld, n in zip(at, lhs_dilation, x.shape[2:], strict=True)
        )
        if inside:
            at = tuple(a // ld for a, ld in zip(at, lhs_dilation, strict=True))
            parts = [a[(..., *at)] @ b[(..., *k)].T for a, b in zip(xs, ws, strict=True)]
            out[(..., *p)] += np.concatenate(parts, 1)
    return out


def conv_row(name, x, w, *axes, groups=1, **options):
    """One row; ``axes`` are (stride, lo, hi, lhs_dilation, rhs_dilation), one per space axis."""
    p = {
        "strides": tuple(a[0] for a in axes),
        "padding": tuple((a[1], a[2]) for a in axes),
        "lhs_dilation": tuple(a[3] for a in axes),
        "rhs_dilation": tuple(a[4] for a in axes),
        "groups": groups,
        "out_dtype": None,
    }
    return Row(
        f"conv-{name}",
        partial(conv.conv_general_dilated, **p),
        [(x, w)],
        partial(conv_reference, **p),
        **{"dtypes": LOW, "ulps": 128, **options},
    )


CONVS = [
    conv_row("plain", normal(2, 3, 6, 5), normal(4, 3, 3, 2), (1, 0, 0, 1, 1), (1, 0, 0, 1, 1)),
    conv_row("same", normal(2, 2, 5, 4), normal(3, 2, 3, 3), (1, 1, 1, 1, 1), (1, 1, 1, 1, 1)),
    conv_row("strides", normal(1, 2, 7, 8), normal(2, 2, 3, 2), (2, 1, 0, 1, 1), (3, 0, 2, 1, 1)),
    conv_row("cut", normal(2, 1, 8), normal(1, 1, 2), (1, -2, -1, 1, 1)),
    conv_row("gaps", normal(2, 2, 4), normal(3, 2, 3), (1, 1, 2, 2, 1)),
    conv_row("both-gaps", normal(1, 2, 5), normal(1, 2, 3), (2, 4, 3, 3, 2)),
    conv_row("even-gaps", normal(1, 1, 4), normal(1, 1, 3), (2, 1, 1, 4, 2)),
    conv_row("groups", normal(2, 4, 5), normal(6, 2, 2), (1, 1, 0, 1, 1), groups=2),
    conv_row("depthwise", normal(1, 3, 4, 4), normal(3, 1, 2, 3), *2 * [(1, 1, 1, 1, 1)], groups=3),
    conv_row("no-space", normal(3, 4), normal(2, 4)),
    conv_row("three", normal(1, 2, 3, 4, 3), normal(2, 2, 2, 2, 1), *3 * [(1, 0, 1, 1, 1)]),
    conv_row("pointwise", normal(2, 3, 4), normal(2, 3, 1), (1, 0, 0, 1, 1)),
    conv_row("too-wide", normal(1, 2, 3), normal(2, 2, 5), (1, 0, 0, 1, 1)),
    conv_row("no-batch", normal(0, 2, 4), normal(2, 2, 3), (1, 1, 1, 1, 1)),
    conv_row("no-features", normal(2, 0, 4), normal(2, 0, 3), (1, 1, 1, 1, 1)),
    conv_row("complex", complexes(1, 2, 5), complexes(2, 2, 2), (2, 1, 1, 1, 1), dtypes=()),
    conv_row("strided", normal(4, 2, 9).T[::-1], normal(3, 2, 4)[..., ::2], (1, 0, 0, 1, 1)),
]
ROWS = [*window_rows(), *CONVS]


@pytest.mark.parametrize(
    "check", [c for c in CHECKS if c is not check_jit], ids=lambda c: c.__name__
)
@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_row(row, check):
    check(row)


def test_compiled_windows():
    calls = [(row.flat, args) for row in ROWS for args in row.samples if row not in CONVS]
    ends = np.resize([np.nan, -np.inf, 1.0, 1.0, np.inf, -0.0, 0.0, 2.0, 2.0], (3, 8, 7))
    p = parameters((3, 2), (2, 1), (1, 2))
    for name in ("reduce_window_max", "reduce_window_min", "window_argmax", "window_argmin"):
        f = partial(getattr(window, name), **p)
        calls.append((lambda x, f=f: [f(x)], (ends,)))
        calls.append((lambda x, f=f: [f(x)], (np.arange(60).reshape(3, 5, 4) % 7,)))
    compare_compiled(calls, 64)


def test_compiled_convolutions():
    calls = []
    for row in CONVS:
        for dtype in ("float64", "float32"):
            cast = [a.astype(dtype) if a.dtype == np.float64 else a for a in row.samples[0]]
            calls.append((row.flat, cast))
        (args,) = row.samples
        out = row.flat(*arrays(args))[0]._data
        ct = (normal if out.dtype.kind == "f" else complexes)(*out.shape)

        def backward(x, w, ct, f=row.fn):
            return list(ft.vjp(f, x, w)[1](ct))

        calls.append((backward, (*args, ct)))
    compare_compiled(calls, 512)


def test_integers_and_wider_results():
    x, w = (RNG.integers(-9, 9, s).astype("int8") for s in ((2, 3, 6), (4, 3, 2)))
    p = {**CONVS[0].fn.keywords, "strides": (1,), "padding": ((0, 0),)}
    p |= {"lhs_dilation": (1,), "rhs_dilation": (1,)}
    out = conv.conv_general_dilated(*arrays((x, w)), **{**p, "out_dtype": np.dtype("int32")})
    want = conv_reference(x.astype(int), w.astype(int), **p)
    assert out.dtype == np.int32
    np.testing.assert_array_equal(out, want)
    half = [a.astype("float16") for a in (x, w)]
    p["out_dtype"] = np.dtype("f4")
    assert conv.conv_general_dilated(*arrays(half), **p).dtype == "f4"


def test_blocks_of_windows_join_up(monkeypatch):
    row = next(r for r in CONVS if r.name == "conv-strides")
    (args,) = row.samples
    whole = row.flat(*arrays(args))[0]
    for limit in (1, 5, 30):
        monkeypatch.setattr(conv, "_BLOCK", limit)
        np.testing.assert_allclose(row.flat(*arrays(args))[0], whole, rtol=1e-13)


def test_the_first_maximum_takes_the_tangent():
    x = fnp.array([[1.0, 3.0, 3.0, 0.0], [3.0, 3.0, 0.0, 0.0]])
    pool = lambda x: lax.reduce_window(x, -fnp.inf, lax.max, (2, 2), (2, 2))
    assert ft.grad(lambda x: pool(x).sum())(x).tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]
    broken = x.at[1, 0].set(fnp.nan)
    assert fnp.isnan(pool(broken)[0, 0])
    assert ft.grad(lambda x: pool(x).sum())(broken)[1, 0] == 1


def test_half_sums_accumulate_in_float32():
    for dtype in (np.float16, BF16):
        ones = ArrayImpl(np.ones((4096, 1), dtype))
        p = parameters((4096,), (1,), (1,))
        assert window.reduce_window_sum(ArrayImpl(ones._data[:, 0]), **p)._data == 4096
        taps = window.overlap_add(
            ArrayImpl(np.ones((4096, 1), dtype)), shape=(4096,), strides=(1,), dilation=(1,)
        )
        assert taps.dtype == dtype


# ------------------------------------------------------------------------------ lax
LAYOUTS = [
    None,
    ("NHWC", "HWIO", "NHWC"),
    ("NCHW", "HWIO", "NHWC"),
    ("CWHN", "IHOW", "HNWC"),
    ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=repr)
def test_layouts_agree_with_jax(layout):
    jax = pytest.importorskip("jax")
    dims = lax.conv_dimension_numbers((1,) * 4, (1,) * 4, layout)
    theirs = layout
    if layout is not None and not isinstance(layout[0], str):
        theirs = jax.lax.ConvDimensionNumbers(*layout)
    x, w = (normal(*s).astype("f4") for s in ((2, 4, 7, 6), (6, 2, 3, 2)))
    x, w = (a.transpose(np.argsort(s)) for a, s in ((x, dims.lhs_spec), (w, dims.rhs_spec)))
    options = {"rhs_dilation": (1, 2), "feature_group_count": 2}
    got = lax.conv_general_dilated(x, w, (2, 1), "SAME", dimension_numbers=layout, **options)
    want = jax.lax.conv_general_dilated(x, w, (2, 1), "SAME", dimension_numbers=theirs, **options)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    got, want = (
        m.conv_general_dilated_patches(
            x, (3, 2), (1, 2), [(1, 0), (2, 1)], rhs_dilation=(2, 1), dimension_numbers=d
        )
        for m, d in ((lax, layout), (jax.lax, theirs))
    )
    np.testing.assert_array_equal(got, want)
    patches = lax.conv_general_dilated_patches(x, (3, 2), (1, 1), "VALID", dimension_numbers=layout)
    sizes = [patches.shape[k] for k in dims.out_spec]
    local = normal(5, *sizes[1:]).astype("f4").transpose(np.argsort(dims.rhs_spec))
    got, want = (
        m.conv_general_dilated_local(x, local, (1, 1), "VALID", (3, 2), dimension_numbers=d)
        for m, d in ((lax, layout), (jax.lax, theirs))
    )
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", ["SAME", "VALID", [(1, 0), (2, 1)]])
@pytest.mark.parametrize("flags", [{}, {"transpose_kernel": True}, {"rhs_dilation": (2, 1)}])
def test_conv_transpose_agrees_with_jax(padding, flags):
    jax = pytest.importorskip("jax")
    x, w = normal(2, 4, 5, 3).astype("f4"), normal(3, 2, 3, 4).astype("f4")
    w = w.swapaxes(2, 3) if "transpose_kernel" in flags else w
    w = w if "transpose_kernel" in flags else normal(3, 2, 3, 4).astype("f4")
    for strides in ((1, 1), (2, 3)):
        got = lax.conv_transpose(x, w, strides, padding, **flags)
        want = jax.lax.conv_transpose(x, w, strides, padding, **flags)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_short_forms_and_batch_groups_agree_with_jax():
    jax = pytest.importorskip("jax")
    x, w = normal(4, 2, 9).astype("f4"), normal(6, 2, 3).astype("f4")
    cases = [
        lambda m: m.conv(x, w, (2,), "SAME"),
        lambda m: m.conv(x, w, (1,), "SAME_LOWER"),
        lambda m: m.conv_with_general_padding(x, w, (1,), [(1, 3)], (2,), (3,)),
        lambda m: m.conv_general_dilated(x, w, (1,), "VALID", batch_group_count=2),
        lambda m: m.conv(x.astype("f2"), w.astype("f2"), (1,), "VALID", None, np.float32),
    ]
    for f in cases:
        got, want = f(lax), f(jax.lax)
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    for shapes in (((7, 8), (3, 2), (2, 3)), ((1,), (4,), (2,))):
        for padding in ("SAME", "SAME_LOWER", "VALID"):
            assert lax.padtype_to_pads(*shapes, padding) == jax.lax.padtype_to_pads(
                *shapes, padding
            )


@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER", "VALID", [(1, 2), (0, 3)]])
def test_reduce_window_agrees_with_jax(padding):
    jax = pytest.importorskip("jax")
    x = normal(7, 9).astype("f4")
    sizes = {
        "window_strides": (2, 1),
        "padding": padding,
        "base_dilation": (1, 2),
        "window_dilation": (2, 1),
    }
    for init, f in (
        (0.0, lambda m: m.add),
        (-np.inf, lambda m: m.max),
        (np.inf, lambda m: m.min),
        (1.0, lambda m: m.mul),
        (0.5, lambda m: m.max),
        (0.0, lambda m: lambda a, b: a + b + a * b),
    ):
        got = lax.reduce_window(x, init, f(lax), (2, 3), **sizes)
        want = jax.lax.reduce_window(x, init, f(jax.lax), (2, 3), **sizes)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
        jitted = ft.jit(
            lambda x, init=init, f=f: lax.reduce_window(x, init, f(lax), (2, 3), **sizes)
        )
        np.testing.assert_allclose(jitted(x), want, rtol=1e-4, atol=1e-5)


def test_reduce_window_pads_with_its_start_and_starts_with_it():
    x = fnp.array([1.0, 5.0, 2.0])
    for start in (2.0, 0.0):
        got = lax.reduce_window(x, start, lax.add, (2,), padding=[(1, 0)])
        assert got.tolist() == [1 + 2 * start, 6 + start, 7 + start]
    assert lax.reduce_window(x, 4.0, lax.max, (2,)).tolist() == [5, 5]
    assert lax.reduce_window(x > 1, False, lax.bitwise_or, (2,)).tolist() == [True, True]
    assert lax.reduce_window(x > 1, False, lax.max, (2,)).tolist() == [True, True]


def test_reduce_window_of_a_tree():
    """The position of the maximum beside it, by an associative function of pairs."""
    x = np.round(normal(3, 40), 1)
    at = np.broadcast_to(np.arange(40), x.shape)

    def best(a, b):
        later = b[0] > a[0]
        return fnp.where(later, b[0], a[0]), fnp.where(later, b[1], a[1])

    values, where = lax.reduce_window((x, at), (-fnp.inf, 0), best, (1, 11), (1, 3))
    for k in range(10):
        np.testing.assert_array_equal(values[:, k], x[:, 3 * k : 3 * k + 11].max(1))
        np.testing.assert_array_equal(where[:, k], 3 * k + x[:, 3 * k : 3 * k + 11].argmax(1))


def test_derivative_of_a_product_over_windows():
    x = fnp.array([2.0, 3.0, 0.0, 5.0])
    f = lambda x: lax.reduce_window(x, 1.0, lax.mul, (2,)).sum()
    assert ft.grad(f)(x).tolist() == [3.0, 2.0, 8.0, 0.0]


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_convolve_and_correlate_are_those_of_numpy(mode):
    for n, m in ((7, 3), (3, 7), (4, 4), (1, 5), (2000, 900)):
        a, v = normal(n), normal(m)
        for name in ("convolve", "correlate"):
            got = getattr(fnp, name)(a, v, mode)
            np.testing.assert_allclose(got, getattr(np, name)(a, v, mode), rtol=1e-9, atol=1e-11)
        a, v = complexes(n), complexes(m)
        np.testing.assert_allclose(
            fnp.correlate(a, v, mode), np.correlate(a, v, mode), rtol=1e-9, atol=1e-11
        )
    bools = np.array([True, False]), np.array([True, True])
    assert fnp.convolve(*bools).tolist() == np.convolve(*bools).tolist()
    assert fnp.convolve(*bools, preferred_element_type=bool).dtype == bool


# ------------------------------------------------------------------------------ errors
X, W = np.ones((2, 4, 8, 8), "f4"), np.ones((6, 4, 3, 3), "f4")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: lax.conv(X[0], W, (1, 1), "SAME"),
            TypeError,
            r"must have the same number of axes, .* lhs: float32\[4,8,8\] and rhs: float32\[6",
        ),
        (
            lambda: lax.conv(X, W[:, :3], (1, 1), "SAME"),
            TypeError,
            r"lhs has 4 features, but rhs takes 3 in each of 1 groups",
        ),
        (
            lambda: lax.conv(X, W.astype("f8"), (1, 1), "SAME"),
            TypeError,
            r"the dtypes float32 and float64 differ: convert one",
        ),
        (lambda: lax.conv(X > 0, W > 0, (1, 1), "SAME"), TypeError, r"it takes numbers, not bool"),
        (
            lambda: lax.conv_general_dilated(X, W[:5, :1], (1, 1), "SAME", feature_group_count=4),
            TypeError,
            r"5 out features cannot be shared between 4 groups",
        ),
        (
            lambda: lax.conv_general_dilated(X, W, (1, 1), "SAME", batch_group_count=3),
            ValueError,
            r"batch_group_count=3 must divide the batch \(2\) and the out features \(6\)",
        ),
        (
            lambda: lax.conv(X, W, (1, 1), "SAMEE"),
            ValueError,
            r"padding 'SAMEE' is unknown: write 'SAME', 'SAME_LOWER', 'VALID', or a pair",
        ),
        (
            lambda: lax.conv_general_dilated(X, W, (1, 1), [(1, 1)]),
            TypeError,
            r"must be 'SAME', 'VALID' or a pair \(low, high\) for each of 2 axes, got \[\(1, 1\)\]",
        ),
        (
            lambda: lax.conv(X, W, (1,), "SAME"),
            TypeError,
            r"window_strides must have one entry for each of 2 axes, got \(1,\)",
        ),
        (
            lambda: lax.conv(X, W, (0, 1), "SAME"),
            ValueError,
            r"window_strides must be positive, got \(0, 1\)",
        ),
        (
            lambda: lax.conv_general_dilated(X, W, (1, 1), "SAME", lhs_dilation=(2, 2)),
            ValueError,
            r"padding 'SAME' is not defined with lhs_dilation \(2, 2\)",
        ),
        (
            lambda: lax.conv_general_dilated(
                X, W, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHC")
            ),
            ValueError,
            r"'NHC', for the result, must be 4 different letters, among them N and C",
        ),
        (
            lambda: lax.conv_general_dilated(
                X, W, (1, 1), "SAME", dimension_numbers=("NHWC", "HDIO", "NHWC")
            ),
            ValueError,
            r"all three must name the same space axes",
        ),
        (
            lambda: lax.conv_general_dilated(X, W, (1, 1), "SAME", dimension_numbers=("NC", "OI")),
            TypeError,
            r"dimension_numbers must have three parts, for lhs, rhs and the result",
        ),
        (
            lambda: lax.conv_dimension_numbers((1,) * 4, (1,) * 3, None),
            TypeError,
            r"takes lhs and rhs of equal rank, got shapes \(1, 1, 1, 1\) and \(1, 1, 1\)",
        ),
        (
            lambda: lax.reduce_window(X, 0.0, lax.add, (2, 2)),
            TypeError,
            r"window_dimensions must have one entry for each of 4 axes, got \(2, 2\)",
        ),
        (
            lambda: lax.reduce_window(X, X[0, 0, 0], lax.add, (1, 1, 2, 2)),
            TypeError,
            r"init_value must be a scalar, got float32\[8\]",
        ),
        (
            lambda: lax.reduce_window((X, X[0]), (0.0, 0.0), lambda a, b: a, (1, 1, 2, 2)),
            TypeError,
            r"must be arrays of one shape and a scalar for each",
        ),
        (
            lambda: lax.reduce_window(X, 0.0, lambda a, b: (a, b), (1, 1, 2, 2)),
            TypeError,
            r"the computation returned a tree .*; like its arguments it must be a tree",
        ),
        (
            lambda: window.windows(arrays([X])[0], window=(2,), strides=(1, 1), dilation=(1,)),
            TypeError,
            r"must have one entry for each of the last axes",
        ),
        (
            lambda: window.overlap_add_p.type(
                ShapedArray((2, 3), np.dtype("f4")), shape=(5,), strides=(1,), dilation=(1,)
            ),
            TypeError,
            r"have \(4,\) places, but f32\[2,3\] has \(3,\)",
        ),
    ],
)
def test_errors_name_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ------------------------------------------------------------------------------ compiled
SMALL = {"PACKED": 3000, "SUMS": 2000, "RUN": 32, "SMALL": 1}
# layout, lhs in (batch, features, space), rhs, strides, padding, lhs dilation, rhs dilation, groups
PROGRAMS = [
    (None, (3, 4, 9, 8), (6, 2, 3, 3), (1, 1), "SAME", (1, 1), (1, 1), 2),
    (("NHWC", "HWIO", "NHWC"), (2, 6, 11, 7), (9, 6, 3, 2), (2, 1), "SAME", (1, 1), (1, 2), 1),
    (("NHWC", "HWIO", "NHWC"), (2, 6, 8, 8), (6, 1, 3, 3), (2, 2), [(1, 1)] * 2, (1, 1), (1, 1), 6),
    (("CHWN", "IHWO", "CHWN"), (2, 3, 5, 5), (4, 3, 2, 3), (1, 3), [(2, 1)] * 2, (2, 3), (1, 1), 1),
    (None, (17, 3, 20), (5, 3, 4), (3,), [(0, 2)], (1,), (2,), 1),
    (None, (2, 3, 40), (4, 3, 40), (1,), "VALID", (1,), (1,), 1),
    (None, (2, 5, 6, 6), (8, 5, 1, 1), (1, 1), "VALID", (1, 1), (1, 1), 1),
    (None, (2, 2, 4, 5, 4), (3, 2, 2, 3, 2), (1, 2, 1), "SAME", (1, 1, 1), (1, 1, 2), 1),
    (None, (2, 2, 6, 6), (3, 2, 1, 1), (1, 1), [(0, 0)] * 2, (3, 3), (1, 1), 1),
]


@pytest.mark.parametrize(
    ("dtype", "tol", "sizes"),
    [("float32", 3e-5, {}), ("float64", 1e-12, SMALL)],
    ids=["whole", "blocks"],
)
@pytest.mark.parametrize("case", PROGRAMS, ids=lambda c: f"{c[1]}-{c[2]}")
def test_native_convolutions_and_gradients(case, dtype, tol, sizes, monkeypatch):
    layout, lhs, rhs, strides, padding, base, gaps, groups = case
    for name, value in sizes.items():
        monkeypatch.setattr(packed, name, value)
    dims = lax.conv_dimension_numbers(lhs, rhs, layout)
    f = partial(
        lax.conv_general_dilated, window_strides=strides, padding=padding, lhs_dilation=base,
        rhs_dilation=gaps, dimension_numbers=layout, feature_group_count=groups,
    )  # fmt: skip

    def both(x, w, ct):
        y, pull = ft.vjp(f, x, w)
        return y, *pull(ct)

    x = normal(*lhs).astype(dtype).transpose(np.argsort(dims.lhs_spec))
    w = normal(*rhs).astype(dtype).transpose(np.argsort(dims.rhs_spec))
    ct = normal(*f(x, w).shape).astype(dtype)
    jaxpr = simplify(stage(both, [aval_of(np.asarray(a)) for a in (x, w, ct)]))
    steps = fuse(jaxpr).steps
    assert not any(isinstance(s, Call) for s in steps)
    for got, want in zip(ft.jit(both)(x, w, ct), both(x, w, ct), strict=True):
        assert_close(np.asarray(got), want, tol, f"{case} {dtype}")


def test_layouts_and_mirrored_weights_are_strides():
    """A convolution, its transposes and its gradients read what the user gave, as it lies."""

    def both(x, w, ct):
        f = partial(lax.conv_general_dilated, window_strides=(1, 1), padding="SAME")
        y, pull = ft.vjp(lambda x, w: f(x, w, feature_group_count=2), x, w)
        return y, *pull(ct)

    shapes = (2, 4, 20, 20), (6, 2, 3, 3), (2, 6, 20, 20)
    plan = fuse(simplify(stage(both, [ShapedArray(s, np.dtype("f4")) for s in shapes])))
    assert [type(s) for s in plan.steps] == [Conv] * 3
    given = set(plan.jaxpr.invars)
    assert all({s.lhs, s.rhs} <= given for s in plan.steps)
    assert "convolved with" in str(plan)
    assert sum(c.products for s in plan.steps for c in s.parts) == 3 * 2 * 6 * 400 * 18

    def features_last(x, w):
        dims = ("NHWC", "HWIO", "NHWC")
        return [lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=dims)]

    shapes = (2, 8, 8, 4), (3, 3, 4, 6)
    plan = fuse(simplify(stage(features_last, [ShapedArray(s, np.dtype("f4")) for s in shapes])))
    assert [type(s) for s in plan.steps] == [Conv]


def test_native_convolution_does_not_depend_on_threads():
    x, w, ct = (normal(*s).astype("f4") for s in ((6, 8, 30, 30), (16, 8, 3, 3), (6, 16, 30, 30)))

    @ft.jit
    def both(x, w, ct):
        y, pull = ft.vjp(lambda x, w: lax.conv(x, w, (1, 1), "SAME"), x, w)
        return y, *pull(ct)

    results = []
    for n in (1, 2, 3):
        with ft.threads(n):
            results.append([np.asarray(a).tobytes() for a in both(x, w, ct)])
    assert results[0] == results[1] == results[2]


def test_native_convolution_of_values_that_are_not_finite():
    x, w = normal(2, 3, 9, 21).astype("f4"), normal(4, 3, 3, 3).astype("f4")
    x[0, 1, 0, 0], x[1, 2, 8, 20] = np.inf, np.nan
    ct = normal(2, 4, 9, 21).astype("f4")

    def both(x, w, ct):
        y, pull = ft.vjp(lambda x, w: lax.conv(x, w, (1, 1), "SAME"), x, w)
        return y, *pull(ct)

    for got, want in zip(ft.jit(both)(x, w, ct), both(x, w, ct), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_per_example_gradients_are_grouped_convolutions():
    x, w = normal(5, 2, 6, 6).astype("f4"), normal(3, 2, 3, 3).astype("f4")
    loss = lambda w, x: fnp.square(lax.conv(x[None], w, (1, 1), "VALID")).sum()
    each = ft.vmap(ft.grad(loss), (None, 0))
    want = np.stack([ft.grad(loss)(w, v) for v in x])
    np.testing.assert_allclose(each(w, x), want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ft.jit(each)(w, x), want, rtol=1e-4, atol=1e-4)


def test_explanation_and_cost_tell_of_convolutions():
    x, w = normal(2, 4, 10, 10).astype("f4"), normal(6, 4, 3, 3).astype("f4")
    f = lambda x, w: lax.conv(x, w, (1, 1), "VALID")
    flops = 2 * 2 * 6 * 64 * 36
    assert ft.jit(f).lower(x, w).compile().cost_analysis()["flops"] == flops
    (row,) = [r for r in ft.explain(f)(x, w).steps if r.kind == "convolution"]
    assert row.cost.flops == flops


@pytest.mark.parametrize(
    ("stride", "dilation", "groups", "window"),
    [(1, 1, 1, 3), (2, 1, 1, 3), (1, 2, 1, 3), (1, 1, 2, 3), (1, 1, 1, 1), (2, 1, 1, 5)],
)
def test_features_that_lie_together_are_columns_of_products(stride, dilation, groups, window):
    x = normal(3, 17, 19, 16).astype("f4")
    w = normal(window, window, 16 // groups, 24).astype("f4")

    def f(x, w):
        return lax.conv_general_dilated(
            x, w, (stride, stride), "SAME", rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
        )  # fmt: skip

    plan = fuse(
        simplify(stage(lambda x, w: [f(x, w)], [ShapedArray(a.shape, a.dtype) for a in (x, w)]))
    )
    assert {type(s) for s in plan.steps} <= {Dot, Launch}
    ct = normal(*f(x, w).shape).astype("f4")

    def both(x, w, ct):
        y, pull = ft.vjp(f, x, w)
        return y, *pull(ct)

    wide = both(*(a.astype("f8") for a in (x, w, ct)))
    run = ft.jit(both)
    for got, want in zip(run(x, w, ct), wide, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    with ft.threads(1):
        alone = run(x, w, ct)
    for got, want in zip(run(x, w, ct), alone, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_convolutions_of_halves_are_summed_in_float32(dtype):
    x, w = (fnp.asarray(normal(*s)).astype(dtype) for s in ((2, 5, 9, 9), (6, 5, 3, 3)))
    f = lambda x, w: lax.conv(x, w, (1, 1), "SAME")
    plan = fuse(
        simplify(stage(lambda x, w: [f(x, w)], [ShapedArray(a.shape, a.dtype) for a in (x, w)]))
    )
    assert {type(s) for s in plan.steps} == {Conv, Launch}
    got, want = ft.jit(f)(x, w), f(x, w)
    assert got.dtype == want.dtype == dtype
    np.testing.assert_allclose(got.astype("f4"), want.astype("f4"), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("layout", [("NCHW", "OIHW", "NCHW"), ("NHWC", "HWIO", "NHWC")])
@pytest.mark.parametrize(
    ("stride", "dilation", "gap"), [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)]
)
def test_features_on_their_own_are_stencils(layout, stride, dilation, gap):
    x, w = normal(2, 6, 19, 18).astype("f4"), normal(6, 1, 3, 2).astype("f4")
    if layout[0] == "NHWC":
        x, w = x.transpose(0, 2, 3, 1).copy(), w.transpose(2, 3, 1, 0).copy()

    def both(x, w):
        f = lambda x, w: lax.conv_general_dilated(
            x, w, (stride, stride), [(1, 2), (0, 1)], (gap, gap), (dilation, dilation), layout, 6
        )
        y, pull = ft.vjp(f, x, w)
        return y, *pull(fnp.cos(y))

    plan = fuse(simplify(stage(both, [ShapedArray(a.shape, a.dtype) for a in (x, w)])))
    assert type(plan.steps[0]) is Launch
    wide = both(*(a.astype("f8") for a in (x, w)))
    for got, want in zip(ft.jit(both)(x, w), wide, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "window", "gap", "low"), [(3, 9, 2, 0), (5, 8, 3, 2), (4, 9, 2, -1)]
)
def test_windows_larger_than_arrays_with_gaps_exchange_them(size, window, gap, low):
    x, w = normal(2, 3, size, size + 1).astype("f4"), normal(4, 3, window, window - 1).astype("f4")
    f = lambda x, w: lax.conv_general_dilated(
        x, w, (1, 1), [(low, 1), (2, low)], lhs_dilation=(gap, 2)
    )
    want = f(x.astype("f8"), w.astype("f8"))
    np.testing.assert_allclose(ft.jit(f)(x, w), want, rtol=1e-4, atol=1e-4)


def test_shapes_are_those_of_the_results():
    """Of convolutions in every layout, transposed ones and reductions over windows."""
    numbers = ("NHWC", "OIHW", "NCHW")
    x, w = fnp.ones((2, 7, 6, 3)), fnp.ones((4, 3, 3, 2))
    for padding in ("SAME", "VALID", [(1, 2), (0, 1)]):
        out = lax.conv_general_dilated(x, w, (2, 1), padding, dimension_numbers=numbers)
        found = lax.conv_general_shape_tuple(x.shape, w.shape, (2, 1), padding, numbers)
        assert found == out.shape
    numbers = ("NHWC", "HWIO", "NHWC")
    w = fnp.ones((3, 2, 3, 4))
    for padding in ("SAME", "VALID"):
        out = lax.conv_transpose(x, w, (2, 1), padding, dimension_numbers=numbers)
        found = lax.conv_transpose_shape_tuple(x.shape, w.shape, (2, 1), padding, numbers)
        assert found == out.shape
    y = fnp.ones((7, 6))
    out = lax.reduce_window(y, 0.0, lax.add, (3, 2), (2, 1), [(1, 0), (0, 2)], (2, 1), (1, 2))
    found = lax.reduce_window_shape_tuple(y.shape, (3, 2), (2, 1), [(1, 0), (0, 2)], (2, 1), (1, 2))
    assert found == out.shape
    with pytest.raises(ValueError, match="Negative padding is larger"):
        lax.conv_shape_tuple((1, 1, 3), (1, 1, 1), (1,), [(-2, -2)])
