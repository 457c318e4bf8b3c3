"""Sliding windows over the last axes: views of them, their overlapping sum, sums and extrema.

    windows(x; window, strides, dilation)

makes an array of every window that fits into the last ``len(window)`` axes of x, which it does not
pad: tap k of window p along an axis is element ``p * stride + k * dilation``. The leading axes are
left alone, so a batch axis in front changes no parameter. The result's axes are the leading ones,
the taps, the places. `overlap_add` is its transpose; the reductions give one value per place.
"""

from __future__ import annotations

import builtins
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Primitive, ShapedArray
from funtorch.ops.elementwise import eq, select
from funtorch.ops.families import (
    NO_TRANSPOSE,
    broadcast_in_dim,
    linear,
    linear_jvp,
    scalar,
    zeros,
    zeros_like,
)
from funtorch.ops.reduce import reduce_sum
from funtorch.ops.shape import iota, pad, reshape

# fmt: off
__all__ = [
    "overlap_add", "overlap_add_p", "places", "reduce_window_max", "reduce_window_max_p",
    "reduce_window_min", "reduce_window_min_p", "reduce_window_sum", "reduce_window_sum_p",
    "slide", "window_argmax", "window_argmax_p", "window_argmin", "window_argmin_p", "windows",
    "windows_p",
]
# fmt: on

Ints = tuple[int, ...]

_HALF = dtypes.HALVES
_KINDS = {"b": dtypes.is_bool, "i": dtypes.is_integer, "f": dtypes.is_float, "c": dtypes.is_complex}


# ---------------------------------------------------------------------------------- rules in common
def places(sizes: Ints, window: Ints, strides: Ints, dilation: Ints) -> Ints:
    """Return how many windows fit along each axis."""
    return tuple(
        max(0, (n - (w - 1) * d - 1) // s + 1)
        for n, w, s, d in zip(sizes, window, strides, dilation, strict=True)
    )


def _check(name: str, x: ShapedArray, axes: int, window: Ints, strides: Ints, dilation: Ints):
    """Raise unless the parameters describe windows over ``len(window)`` of the ``axes`` axes."""
    if not len(window) == len(strides) == len(dilation) <= axes:
        raise TypeError(
            f"{name}: window={window}, strides={strides} and dilation={dilation} must have one "
            f"entry for each of the last axes of {x.str_short()} that windows slide over"
        )
    if any(n < 1 for n in (*window, *strides, *dilation)):
        raise ValueError(
            f"{name}: window={window}, strides={strides} and dilation={dilation} must be positive"
        )


def _accept(name: str, x: ShapedArray, accepts: str) -> None:
    if not any(_KINDS[k](x.dtype) for k in accepts):
        raise TypeError(f"{name} does not accept dtype {x.dtype.name} (array {x.str_short()})")


def _batch(prim: Primitive) -> Callable[..., Any]:
    """Return the batch rule: the batch axis is one more leading axis."""
    return lambda axis, args, batched, **params: (prim.bind(args[0], **params), True)


def _reduced_type(name: str, accepts: str, dtype: Any = None) -> Callable[..., ShapedArray]:
    def type_rule(x: ShapedArray, *, window: Ints, strides: Ints, dilation: Ints) -> ShapedArray:
        _check(name, x, x.ndim, window, strides, dilation)
        _accept(name, x, accepts)
        lead = x.ndim - len(window)
        shape = (*x.shape[:lead], *places(x.shape[lead:], window, strides, dilation))
        return ShapedArray(shape, x.dtype) if dtype is None else ShapedArray(shape, dtype)

    return type_rule


# ----------------------------------------------------------------------------- windows, overlap_add
def _windows_type(x: ShapedArray, *, window: Ints, strides: Ints, dilation: Ints) -> ShapedArray:
    _check("windows", x, x.ndim, window, strides, dilation)
    lead = x.ndim - len(window)
    counts = places(x.shape[lead:], window, strides, dilation)
    return ShapedArray((*x.shape[:lead], *window, *counts), x.dtype, x.weak_type)


def _windows_eager(xp: Any, x: Any, *, window: Ints, strides: Ints, dilation: Ints) -> Any:
    """Return a view: no element is copied."""
    lead = x.ndim - len(window)
    counts = places(x.shape[lead:], window, strides, dilation)
    steps = x.strides[lead:]
    return xp.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:lead], *window, *counts),
        (
            *x.strides[:lead],
            *(n * d for n, d in zip(steps, dilation, strict=True)),
            *(n * s for n, s in zip(steps, strides, strict=True)),
        ),
    )


def _overlap_add_type(x: ShapedArray, *, shape: Ints, strides: Ints, dilation: Ints) -> ShapedArray:
    m = len(shape)
    lead = x.ndim - 2 * m
    _check("overlap_add", x, x.ndim // 2, shape and x.shape[lead : lead + m], strides, dilation)
    _accept("overlap_add", x, "ifc")
    window, counts = x.shape[lead : lead + m], x.shape[lead + m :]
    if places(shape, window, strides, dilation) != counts:
        raise TypeError(
            f"overlap_add: in {shape}, windows {window} with strides {strides} and dilation "
            f"{dilation} have {places(shape, window, strides, dilation)} places, but "
            f"{x.str_short()} has {counts}"
        )
    return ShapedArray((*x.shape[:lead], *shape), x.dtype, x.weak_type)


def _overlap_add_eager(xp: Any, x: Any, *, shape: Ints, strides: Ints, dilation: Ints) -> Any:
    """Add tap by tap, or place by place where there are fewer of them."""
    m = len(shape)
    lead = x.ndim - 2 * m
    window, counts = x.shape[lead : lead + m], x.shape[lead + m :]
    wide = np.dtype(np.float32) if x.dtype in _HALF else x.dtype
    out = xp.zeros((*x.shape[:lead], *shape), wide)
    by_tap = math.prod(window) <= math.prod(counts)
    outer, inner = (window, counts) if by_tap else (counts, window)
    far, near = (dilation, strides) if by_tap else (strides, dilation)
    front, whole = (builtins.slice(None),) * lead, (builtins.slice(None),) * m
    for k in itertools.product(*map(range, outer)):
        where = tuple(
            builtins.slice(i * f, i * f + (n - 1) * step + 1, step)
            for i, f, n, step in zip(k, far, inner, near, strict=True)
        )
        out[(*front, *where)] += x[(*front, *k, *whole) if by_tap else (*front, *whole, *k)]
    return out.astype(x.dtype, copy=False)


def _windows_transpose(
    ct: Any, x: Any, *, window: Ints, strides: Ints, dilation: Ints
) -> tuple[Any]:
    shape = x.aval.shape[len(x.aval.shape) - len(window) :]
    return (overlap_add(ct, shape=shape, strides=strides, dilation=dilation),)


def _overlap_add_transpose(
    ct: Any, x: Any, *, shape: Ints, strides: Ints, dilation: Ints
) -> tuple[Any]:
    lead = len(x.aval.shape) - 2 * len(shape)
    window = x.aval.shape[lead : lead + len(shape)]
    return (windows(ct, window=window, strides=strides, dilation=dilation),)


windows_p = linear(
    "windows",
    type=_windows_type,
    eager=_windows_eager,
    transpose=_windows_transpose,
    batch=lambda axis, args, batched, **params: (windows(args[0], **params), True),
)
overlap_add_p = linear(
    "overlap_add",
    type=_overlap_add_type,
    eager=_overlap_add_eager,
    transpose=_overlap_add_transpose,
    batch=lambda axis, args, batched, **params: (overlap_add(args[0], **params), True),
)
windows, overlap_add = windows_p.bind, overlap_add_p.bind


# -------------------------------------------------------------------------------------- reductions
def slide(
    x: Any,
    sizes: Sequence[int],
    window: Ints,
    strides: Ints,
    dilation: Ints,
    combine: Callable[[Any, Any, int], Any],
    cut: Callable[[Any, int, int, int, int], Any],
) -> Any:
    """Combine the elements of every window in row-major order, the last axis first.

    Each axis takes about ``2 log2(window)`` steps: runs of 1, 2, 4 ... taps are made by joining
    two shorter ones, and a window is put together from runs. What is combined must be associative.

    Args:
        x: an array or several, whatever ``cut`` and ``combine`` take.
        sizes: the sizes of the last axes of x, one per window axis.
        combine: ``combine(first, second, taps)`` of values of two runs, of which the second starts
            ``taps`` taps (counted in row-major order) after the first.
        cut: ``cut(x, axis, start, count, step)``: ``count`` elements of a (negative) axis.
    """
    taps = 1
    for k in reversed(range(len(window))):
        geometry = sizes[k], window[k], strides[k], dilation[k]
        x = _slide_axis(geometry, x, k - len(window), taps, combine, cut)
        taps *= window[k]
    return x


def _slide_axis(
    geometry: tuple[int, int, int, int],
    x: Any,
    axis: int,
    taps: int,
    combine: Callable[[Any, Any, int], Any],
    cut: Callable[[Any, int, int, int, int], Any],
) -> Any:
    """Combine along one axis; ``taps``: how many taps a step along it is in row-major order."""
    n, w, s, d = geometry
    if w == s == 1:
        return x
    (count,) = places((n,), (w,), (s,), (d,))
    if count == 0:
        return cut(x, axis, 0, 0, 1)
    if w - 1 <= 2 * s * w.bit_length():
        out = cut(x, axis, 0, count, s)
        for k in range(1, w):
            out = combine(out, cut(x, axis, k * d, count, s), k * taps)
        return out
    out, done, run = None, 0, 1
    while True:
        if w & run:
            piece = cut(x, axis, done * d, count, s)
            out = piece if out is None else combine(out, piece, done * taps)
            done += run
        if done == w:
            return out
        n -= run * d
        x = combine(cut(x, axis, 0, n, 1), cut(x, axis, run * d, n, 1), run * taps)
        run *= 2


def _cut(x: Any, axis: int, start: int, count: int, step: int) -> Any:
    stop = start + (count - 1) * step + 1 if count else start
    return x[(..., builtins.slice(start, stop, step), *(builtins.slice(None),) * (-1 - axis))]


def _reduced_eager(function: str, wide: bool) -> Callable[..., Any]:
    def eager(xp: Any, x: Any, *, window: Ints, strides: Ints, dilation: Ints) -> Any:
        f = getattr(xp, function)
        y = x.astype(np.float32) if wide and x.dtype in _HALF else x
        sizes = x.shape[x.ndim - len(window) :]
        y = slide(y, sizes, window, strides, dilation, lambda a, b, taps: f(a, b), _cut)
        return y.astype(x.dtype, copy=False)

    return eager


def _sum_transpose(ct: Any, x: Any, *, window: Ints, strides: Ints, dilation: Ints) -> tuple[Any]:
    """Sum the cotangents of all windows that an element lies in: a sum over windows again."""
    aval, m = x.aval, len(window)
    if 0 in ct.aval.shape:
        return (zeros(ct.aval.update(shape=aval.shape)),)
    none = (0,) * (aval.ndim - m)
    lo = tuple((w - 1) * d for w, d in zip(window, dilation, strict=True))
    last = tuple((n - 1) * s for n, s in zip(ct.aval.shape[-m:], strides, strict=True)) if m else ()
    hi = tuple(n - 1 - e for n, e in zip(aval.shape[aval.ndim - m :], last, strict=True))
    spaced = pad(
        ct,
        scalar(0, ct.dtype),
        lo=(*none, *lo),
        hi=(*none, *hi),
        interior=(*none, *(s - 1 for s in strides)),
    )
    return (reduce_window_sum(spaced, window=window, strides=(1,) * m, dilation=dilation),)


reduce_window_sum_p = Primitive("reduce_window_sum")
reduce_window_sum_p.type = _reduced_type("reduce_window_sum", "ifc")
reduce_window_sum_p.eager = _reduced_eager("add", wide=True)
reduce_window_sum_p.jvp = linear_jvp(reduce_window_sum_p, lambda k: True)
reduce_window_sum_p.transpose = _sum_transpose
reduce_window_sum_p.batch = _batch(reduce_window_sum_p)
reduce_window_sum = reduce_window_sum_p.bind


# --------------------------------------------------------------------------------- max, min, argmax
def _arg_eager(better: str) -> Callable[..., Any]:
    """Return the eager rule that gives the tap of the first best element; nan is the best."""

    def eager(xp: Any, x: Any, *, window: Ints, strides: Ints, dilation: Ints) -> Any:
        def combine(first: Any, second: Any, taps: int) -> Any:
            (a, i), (b, j) = first, second
            later = getattr(xp, better)(b, a)
            if floats:
                later |= (b != b) & (a == a)
            return xp.where(later, b, a), xp.where(later, j + np.int32(taps), i)

        def cut(pair: Any, *where: int) -> Any:
            return tuple(_cut(v, *where) for v in pair)

        floats = dtypes.is_float(x.dtype)
        start = xp.broadcast_to(xp.zeros((), np.int32), x.shape)
        sizes = x.shape[x.ndim - len(window) :]
        return slide((x, start), sizes, window, strides, dilation, combine, cut)[1]

    return eager


def _arg_extremum(name: str, better: str) -> Primitive:
    """Make ``name(x; window, strides, dilation)``: the number of the first best tap."""
    prim = Primitive(name)
    prim.type = _reduced_type(name, "bif", np.dtype(np.int32))
    prim.eager, prim.batch = _arg_eager(better), _batch(prim)
    prim.jvp = lambda primals, tangents, **params: (prim.bind(*primals, **params), None)
    prim.none["transpose"] = NO_TRANSPOSE
    return prim


def _extremum(name: str, function: str, arg: Primitive) -> Primitive:
    def jvp(
        primals: Any, tangents: Any, *, window: Ints, strides: Ints, dilation: Ints
    ) -> tuple[Any, Any]:
        """Take the tangent of the first element that attains the extremum."""
        (x,), (t,) = primals, tangents
        params = {"window": window, "strides": strides, "dilation": dilation}
        best = arg.bind(x, **params)
        every = windows(t, **params)
        shape, m = every.aval.shape, len(window)
        lead = tuple(range(len(shape) - 2 * m))
        last = tuple(range(len(shape) - m, len(shape)))
        taps = tuple(range(len(shape) - 2 * m, len(shape) - m))
        number = iota(shape=(math.prod(window),), axis=0, dtype=np.dtype(np.int32))
        number = broadcast_in_dim(reshape(number, shape=window), shape=shape, dims=taps)
        chosen = eq(broadcast_in_dim(best, shape=shape, dims=(*lead, *last)), number)
        return prim.bind(x, **params), reduce_sum(
            select(chosen, every, zeros_like(every)), axes=taps
        )

    prim = Primitive(name)
    prim.type, prim.eager = _reduced_type(name, "bif"), _reduced_eager(function, wide=False)
    prim.jvp, prim.batch = jvp, _batch(prim)
    prim.none["transpose"] = NO_TRANSPOSE
    return prim


window_argmax_p = _arg_extremum("window_argmax", "greater")
window_argmin_p = _arg_extremum("window_argmin", "less")
reduce_window_max_p = _extremum("reduce_window_max", "maximum", window_argmax_p)
reduce_window_min_p = _extremum("reduce_window_min", "minimum", window_argmin_p)
window_argmax, window_argmin = window_argmax_p.bind, window_argmin_p.bind
reduce_window_max, reduce_window_min = reduce_window_max_p.bind, reduce_window_min_p.bind
