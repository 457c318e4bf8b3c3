"""Reductions and cumulative primitives along static axes.

Every primitive ``name_p`` has the strict function ``name`` beside it. Sums and products of 16-bit
floats accumulate in float32. A maximum of nothing is an error; a reduction over no axes is a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Primitive, ShapedArray
from funtorch.ops.elementwise import add, convert, div, eq, gt, logistic, mul, select, sub
from funtorch.ops.families import (
    NO_TRANSPOSE,
    broadcast_in_dim,
    full_like,
    linear_jvp,
    ones_like,
    scalar,
    zeros_like,
)
from funtorch.ops.shape import iota, pad, reshape, rev, transpose

# fmt: off
__all__ = [
    "argmax", "argmax_p", "argmin", "argmin_p", "cumlogsumexp", "cumlogsumexp_p", "cummax",
    "cummax_p", "cummin", "cummin_p", "cumprod", "cumprod_p", "cumsum", "cumsum_p",
    "reduce_and", "reduce_and_p", "reduce_max", "reduce_max_p", "reduce_min", "reduce_min_p",
    "reduce_or", "reduce_or_p", "reduce_prod", "reduce_prod_p", "reduce_sum", "reduce_sum_p",
    "reduce_xor", "reduce_xor_p",
]
# fmt: on

Ints = tuple[int, ...]

_HALF = dtypes.HALVES
_KINDS = {"b": dtypes.is_bool, "i": dtypes.is_integer, "f": dtypes.is_float, "c": dtypes.is_complex}


# ---------------------------------------------------------------------------------- rules in common
def _check(name: str, x: ShapedArray, axes: Ints, accepts: str) -> None:
    if len(set(axes)) != len(axes) or any(not 0 <= a < x.ndim for a in axes):
        raise TypeError(f"{name}: axes {axes} must be distinct axes of {x.str_short()}")
    if not any(_KINDS[k](x.dtype) for k in accepts):
        raise TypeError(f"{name} does not accept dtype {x.dtype.name} (array {x.str_short()})")


def _check_not_empty(name: str, shape: Ints, axes: Ints) -> None:
    if any(shape[a] == 0 for a in axes):
        raise ValueError(
            f"{name} has no value over no elements: an array of shape {shape} was reduced over "
            f"axes {axes}"
        )


def _drop(shape: Ints, axes: Ints) -> Ints:
    return tuple(n for k, n in enumerate(shape) if k not in axes)


def _reducer(name: str, eager: Callable[..., Any], accepts: str, empty: bool = True) -> Primitive:
    """Make a reduction ``name(x; axes)`` with all but its jvp and transpose rules."""
    prim = Primitive(name, keeps_weak=True)

    def type_rule(x: ShapedArray, *, axes: Ints) -> ShapedArray:
        _check(name, x, axes, accepts)
        if not empty:
            _check_not_empty(name, x.shape, axes)
        return ShapedArray(_drop(x.shape, axes), x.dtype, x.weak_type)

    def batch(axis: Any, args: Any, batched: Any, *, axes: Ints) -> tuple[Any, bool]:
        return prim.bind(args[0], axes=tuple(a + 1 for a in axes)), True

    prim.type, prim.eager, prim.batch = type_rule, eager, batch
    prim.none["transpose"] = NO_TRANSPOSE
    return prim


def _accumulated(function: str, ufunc: np.ufunc) -> Callable[..., Any]:
    """Return the eager rule of a sum or product in x's dtype, 16-bit floats in float32."""

    def eager(xp: Any, x: Any, *, axes: Ints) -> Any:
        if xp is np and x.dtype not in _HALF:  # what np.sum comes to, after microseconds
            return ufunc.reduce(x, axes, x.dtype)
        wide = np.dtype(np.float32) if x.dtype in _HALF else x.dtype
        return getattr(xp, function)(x, axis=axes, dtype=wide).astype(x.dtype, copy=False)

    return eager


def _keep(reduced: Any, x: Any, axes: Ints) -> Any:
    """Return a reduction's result spread over ``x`` again."""
    shape = x.aval.shape
    return broadcast_in_dim(
        reduced, shape=shape, dims=tuple(k for k in range(len(shape)) if k not in axes)
    )


def _folded(xp: Any, f: Callable[..., Any], x: Any, axis: int, identity: int) -> Any:
    """Reduce one axis with ``f``, halving it: for libraries whose functions have no ``reduce``."""
    x = xp.moveaxis(x, axis, 0)
    if x.shape[0] == 0:
        return xp.full(x.shape[1:], x.dtype.type(identity))
    while x.shape[0] > 1:
        half = x.shape[0] // 2
        x = xp.concatenate([f(x[:half], x[half : 2 * half]), x[2 * half :]])
    return x[0]


def _running(function: str) -> Callable[..., Any]:
    """Return ``accumulate(xp, x, axis)`` of a binary function, by doubling where xp lacks it."""

    def accumulate(xp: Any, x: Any, axis: int) -> Any:
        f = getattr(xp, function)
        if xp is np:
            return f.accumulate(x, axis)
        x, distance = xp.moveaxis(x, axis, 0), 1
        while distance < x.shape[0]:
            x = xp.concatenate([x[:distance], f(x[distance:], x[:-distance])])
            distance *= 2
        return xp.moveaxis(x, 0, axis)

    return accumulate


def _zero_jvp(prim: Primitive) -> Callable[..., Any]:
    return lambda primals, tangents, **params: (prim.bind(*primals, **params), None)


# ------------------------------------------------------------------------------------- sum, product
reduce_sum_p = _reducer("reduce_sum", _accumulated("sum", np.add), "bifc")
reduce_sum_p.jvp = linear_jvp(reduce_sum_p, lambda k: True)
reduce_sum_p.transpose = lambda ct, x, *, axes: (_keep(ct, x, axes),)
del reduce_sum_p.none["transpose"]
reduce_prod_p = _reducer("reduce_prod", _accumulated("prod", np.multiply), "bifc")
reduce_sum, reduce_prod = reduce_sum_p.bind, reduce_prod_p.bind


def _reduce_prod_jvp(primals: Any, tangents: Any, *, axes: Ints) -> tuple[Any, Any]:
    """Multiply each tangent by the product of all other elements, from its left and its right.

    There is no division, so zeros do no harm.
    """
    (x,), (t,) = primals, tangents
    out = reduce_prod(x, axes=axes)
    kept = tuple(k for k in range(x.ndim) if k not in axes)
    size = 1
    for a in axes:
        size *= x.shape[a]
    shape = (*(x.shape[k] for k in kept), size)
    x, t = (reshape(transpose(v, perm=(*kept, *axes)), shape=shape) for v in (x, t))
    last = len(kept)
    left = _shifted(cumprod(x, axis=last, reverse=False), last, 1, 1)
    right = _shifted(cumprod(x, axis=last, reverse=True), last, -1, 1)
    return out, reduce_sum(mul(t, mul(left, right)), axes=(last,))


reduce_prod_p.jvp = _reduce_prod_jvp


# ---------------------------------------------------------------------------------- max, min, logic
def _extremum(name: str, function: str, ufunc: np.ufunc) -> Primitive:
    def eager(xp: Any, x: Any, *, axes: Ints) -> Any:
        _check_not_empty(name, x.shape, axes)
        if xp is np:
            out = ufunc.reduce(x, axes)
            return out if out.dtype == x.dtype else out.astype(x.dtype)  # int4 becomes int8
        return getattr(xp, function)(x, axis=axes).astype(x.dtype, copy=False)

    def jvp(primals: Any, tangents: Any, *, axes: Ints) -> tuple[Any, Any]:
        """Average the tangents of the elements that attain the extremum."""
        (x,), (t,) = primals, tangents
        out = prim.bind(x, axes=axes)
        attained = eq(x, _keep(out, x, axes))
        count = reduce_sum(convert(attained, dtype=x.dtype, weak_type=False), axes=axes)
        return out, div(reduce_sum(select(attained, t, zeros_like(t)), axes=axes), count)

    prim = _reducer(name, eager, "bif", empty=False)
    prim.jvp = jvp
    return prim


def _logical(name: str, function: str) -> Primitive:
    def eager(xp: Any, x: Any, *, axes: Ints) -> Any:
        if xp is np:
            return getattr(np, function).reduce(x, axis=axes)
        identity = getattr(np, function).identity
        for axis in sorted(axes, reverse=True):
            x = _folded(xp, getattr(xp, function), x, axis, identity)
        return x

    prim = _reducer(name, eager, "bi")
    prim.jvp = _zero_jvp(prim)
    return prim


reduce_max_p = _extremum("reduce_max", "max", np.maximum)
reduce_min_p = _extremum("reduce_min", "min", np.minimum)
reduce_and_p = _logical("reduce_and", "bitwise_and")
reduce_or_p = _logical("reduce_or", "bitwise_or")
reduce_xor_p = _logical("reduce_xor", "bitwise_xor")
reduce_max, reduce_min = reduce_max_p.bind, reduce_min_p.bind
reduce_and, reduce_or, reduce_xor = reduce_and_p.bind, reduce_or_p.bind, reduce_xor_p.bind


# ----------------------------------------------------------------------------------- argmax, argmin
def _arg_extremum(name: str) -> Primitive:
    """Make ``name(x; axis, dtype)``: the first place of the extremum; nan counts as one."""
    prim = Primitive(name)

    def type_rule(x: ShapedArray, *, axis: int, dtype: np.dtype) -> ShapedArray:
        _check(name, x, (axis,), "bif")
        _check_not_empty(name, x.shape, (axis,))
        return ShapedArray(_drop(x.shape, (axis,)), dtype)

    def eager(xp: Any, x: Any, *, axis: int, dtype: np.dtype) -> Any:
        _check_not_empty(name, x.shape, (axis,))
        return getattr(xp, name)(x, axis=axis).astype(dtype)

    def batch(
        axis_: Any, args: Any, batched: Any, *, axis: int, dtype: np.dtype
    ) -> tuple[Any, bool]:
        return prim.bind(args[0], axis=axis + 1, dtype=dtype), True

    prim.type, prim.eager, prim.batch, prim.jvp = type_rule, eager, batch, _zero_jvp(prim)
    prim.none["transpose"] = NO_TRANSPOSE
    return prim


argmax_p, argmin_p = _arg_extremum("argmax"), _arg_extremum("argmin")
argmax, argmin = argmax_p.bind, argmin_p.bind


# --------------------------------------------------------------------------------------- cumulative
def _cumulative(name: str, accumulate: Callable[..., Any], accepts: str, wide: bool) -> Primitive:
    """Make ``name(x; axis, reverse)`` from ``accumulate(xp, x, axis)``.

    Args:
        wide: whether 16-bit floats are accumulated in float32.
    """
    prim = Primitive(name, keeps_weak=True)

    def type_rule(x: ShapedArray, *, axis: int, reverse: bool) -> ShapedArray:
        _check(name, x, (axis,), accepts)
        return x

    def eager(xp: Any, x: Any, *, axis: int, reverse: bool) -> Any:
        y = x.astype(np.float32) if wide and x.dtype in _HALF else x
        y = accumulate(xp, xp.flip(y, axis), axis) if reverse else accumulate(xp, y, axis)
        return (xp.flip(y, axis) if reverse else y).astype(x.dtype, copy=False)

    def batch(axis_: Any, args: Any, batched: Any, *, axis: int, reverse: bool) -> tuple[Any, bool]:
        return prim.bind(args[0], axis=axis + 1, reverse=reverse), True

    prim.type, prim.eager, prim.batch = type_rule, eager, batch
    prim.none["transpose"] = NO_TRANSPOSE
    return prim


def _shifted(x: Any, axis: int, by: int, fill: Any) -> Any:
    """Return ``x`` moved ``by`` places along an axis, with ``fill`` in the places set free."""
    none = [0] * x.ndim
    lo, hi = list(none), list(none)
    lo[axis], hi[axis] = by, -by
    return pad(x, scalar(fill, x.dtype), lo=tuple(lo), hi=tuple(hi), interior=tuple(none))


def _linear_recurrence(a: Any, b: Any, axis: int) -> Any:
    """Return the y with ``y[k] = a[k] * y[k - 1] + b[k]`` and ``y[-1] = 0``.

    Each pass composes every step with the one ``distance`` before it, so their number is log2(n).
    """
    n, distance = a.shape[axis], 1
    while distance < n:
        b = add(b, mul(a, _shifted(b, axis, distance, 0)))
        if 2 * distance < n:
            a = mul(a, _shifted(a, axis, distance, 1))
        distance *= 2
    return b


def _recurrence_jvp(prim: Primitive, slopes: Callable[..., tuple[Any, Any]]) -> Callable[..., Any]:
    """Return the jvp of a cumulative primitive ``y[k] = f(y[k - 1], x[k])``.

    Args:
        slopes: ``slopes(x, y, axis)``, the derivatives of f in its two arguments at every k.
    """

    def jvp(primals: Any, tangents: Any, *, axis: int, reverse: bool) -> tuple[Any, Any]:
        (x,), (t,) = primals, tangents
        out = prim.bind(x, axis=axis, reverse=reverse)
        if x.size == 0:
            return out, None
        x, t, y = (rev(v, axes=(axis,)) if reverse else v for v in (x, t, out))
        in_previous, in_own = slopes(x, y, axis)
        dy = _linear_recurrence(in_previous, mul(in_own, t), axis)
        return out, rev(dy, axes=(axis,)) if reverse else dy

    return jvp


def _slopes_of_choice(weigh: Callable[[Any, Any], Any]) -> Callable[..., tuple[Any, Any]]:
    """Return slopes ``w`` and ``1 - w``, w the weight of what came before (0 for the first)."""

    def slopes(x: Any, y: Any, axis: int) -> tuple[Any, Any]:
        places = iota(shape=x.shape, axis=axis, dtype=np.dtype(np.int32))
        weight = weigh(_shifted(y, axis, 1, 0), x)
        weight = select(eq(places, zeros_like(places)), zeros_like(x), weight)
        return weight, sub(ones_like(x), weight)

    return slopes


def _slopes_of_product(x: Any, y: Any, axis: int) -> tuple[Any, Any]:
    return x, _shifted(y, axis, 1, 1)


def _choose(before: Any, own: Any, if_before: Any) -> Any:
    """Return ``if_before``, but a half where the two are equal."""
    return select(eq(before, own), full_like(own, 0.5), if_before)


def _weigh_max(before: Any, own: Any) -> Any:
    return _choose(before, own, convert(gt(before, own), dtype=own.dtype, weak_type=False))


def _weigh_min(before: Any, own: Any) -> Any:
    return _choose(before, own, convert(gt(own, before), dtype=own.dtype, weak_type=False))


def _weigh_logsumexp(before: Any, own: Any) -> Any:
    equal = eq(before, own)
    return _choose(before, own, logistic(select(equal, zeros_like(own), sub(before, own))))


def _cumsum_transpose(ct: Any, x: Any, *, axis: int, reverse: bool) -> tuple[Any]:
    return (cumsum(ct, axis=axis, reverse=not reverse),)


cumsum_p = _cumulative(
    "cumsum", lambda xp, x, axis: xp.cumsum(x, axis, dtype=x.dtype), "ifc", wide=True
)
cumprod_p = _cumulative(
    "cumprod", lambda xp, x, axis: xp.cumprod(x, axis, dtype=x.dtype), "ifc", wide=True
)
cummax_p = _cumulative("cummax", _running("maximum"), "bif", wide=False)
cummin_p = _cumulative("cummin", _running("minimum"), "bif", wide=False)
cumlogsumexp_p = _cumulative("cumlogsumexp", _running("logaddexp"), "f", wide=True)

cumsum_p.jvp = linear_jvp(cumsum_p, lambda k: True)
cumsum_p.transpose = _cumsum_transpose
del cumsum_p.none["transpose"]
_SLOPES: Sequence[tuple[Primitive, Callable[..., tuple[Any, Any]]]] = (
    (cumprod_p, _slopes_of_product),
    (cummax_p, _slopes_of_choice(_weigh_max)),
    (cummin_p, _slopes_of_choice(_weigh_min)),
    (cumlogsumexp_p, _slopes_of_choice(_weigh_logsumexp)),
)
for _prim, _slopes in _SLOPES:
    _prim.jvp = _recurrence_jvp(_prim, _slopes)
cumsum, cumprod, cummax, cummin = cumsum_p.bind, cumprod_p.bind, cummax_p.bind, cummin_p.bind
cumlogsumexp = cumlogsumexp_p.bind
