"""Products and convolutions of floats by arrays of small integers, which are read as they lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import funtorch.numpy as fnp
from funtorch.jaxpr import Eqn
from funtorch.ops.contract import dot_general, free_axes
from funtorch.ops.conv import conv_general_dilated
from funtorch.ops.families import broadcast_in_dim
from funtorch.ops.marks import optimization_barrier_p
from funtorch.ops.narrow import narrow_dot, narrow_dot_p
from funtorch.ops.shape import transpose

from .qarrays import QArray, as_they_are, largest_of, scale_of, whole_numbers
from .restage import expansion_rules

__all__ = ["by_rows", "contracted", "convolved", "rounds"]

_INT32, _FLOAT32 = np.dtype("int32"), np.dtype("float32")
_FEW = 8  # vectors by which a matrix is multiplied in one go
_USES = 128  # of an activation in a convolution, from which its rounding pays
_FEATURES = 8  # of a convolution, below which products of int8 are not full
_LANES = (64, 32, 16)  # terms of a long sum that are added up side by side


class _Sides(NamedTuple):
    """A product of activations and a quantised array, whichever comes first."""

    x: Any
    q: QArray
    first: bool  # whether q is the first operand
    contracted: tuple[tuple[int, ...], tuple[int, ...]]  # of x, of q
    batch: tuple[tuple[int, ...], tuple[int, ...]]

    def dot(self, x: Any, w: Any, out_dtype: Any = None) -> Any:
        """Multiply arrays that lie like both."""
        (cx, cq), (bx, bq) = self.contracted, self.batch
        numbers = ((cx, cq), (bx, bq))
        if self.first:
            x, w, numbers = w, x, ((cq, cx), (bq, bx))
        return dot_general(x, w, dimension_numbers=numbers, out_dtype=out_dtype)

    def spread(self, scale: Any, of_q: bool, shape: Sequence[int]) -> Any:
        """Return a scale of one of the operands as it lies in the result."""
        free_x = free_axes(self.x.ndim, self.contracted[0], self.batch[0])
        free_q = free_axes(self.q.ndim, self.contracted[1], self.batch[1])
        free, batch = (free_q, self.batch[1]) if of_q else (free_x, self.batch[0])
        order = (*batch, *free)
        rest = tuple(d for d in range(scale.ndim) if d not in order)
        nb, other = len(batch), len(free_x) if of_q else len(free_q)
        start = nb if of_q == self.first else nb + other
        dims = (*range(nb), *range(start, start + len(free)))
        scale = transpose(scale, perm=(*order, *rest))
        scale = scale.reshape(scale.shape[: len(order)])
        return broadcast_in_dim(scale, shape=tuple(shape), dims=dims)


def rounds(q: Sequence[int], params: dict[str, Any]) -> bool:
    """Tell whether a convolution of int8 pays: whether each activation, which is rounded and moved
    first, is used often enough. Else activations stay floats.

    Args:
        q: the shape of the weights.
        params: of the `conv_general_dilated`.
    """
    (outs, inner, *taps), groups = q, params["groups"]
    uses = outs // groups * math.prod(taps) / math.prod(params["strides"])
    return min(outs // groups, inner) >= _FEATURES and uses >= _USES


def contracted(x: Any, q: QArray, first: bool, params: dict[str, Any]) -> Any:
    """Return the product of activations and a quantised array, as floats.

    Args:
        x: floats.
        q: the array.
        first: whether q is the first operand.
        params: of the `dot_general`.
    """
    numbers = params["dimension_numbers"]
    contracting, batch = (pair[::-1] if first else pair for pair in numbers)
    sides = _Sides(x, q, first, contracting, batch)
    if q.zero is not None:
        y = _by_rows(sides) if x.dtype == _FLOAT32 else None
        return sides.dot(x, q.dequantize().astype(x.dtype)) if y is None else y
    grouped = [d for d in contracting[1] if q.scale.shape[d] != 1]
    if q.activations and q.bits == 8 and not grouped and x.dtype == _FLOAT32:
        return _ofintegers(sides)
    if x.dtype == _FLOAT32 and (y := _by_rows(sides)) is not None:
        return y
    return _in_floats(sides)


def _in_floats(sides: _Sides) -> Any:
    """Multiply floats by what the integers stand for."""
    x, q = sides.x, sides.q
    grouped = [d for d in sides.contracted[1] if q.scale.shape[d] != 1]
    if len(sides.contracted[1]) == 1 and _are_few(sides):
        return _with_vectors(sides)
    if grouped:
        whole, order = q.in_memory()  # halves are put side by side as they lie
        back = tuple(order.index(d) for d in range(q.ndim))
        return sides.dot(x, transpose(whole.dequantize().astype(x.dtype), perm=back))
    y = sides.dot(x, q.integers().astype(x.dtype))
    return y * sides.spread(q.scale, True, y.shape).astype(y.dtype)


def _ofintegers(sides: _Sides) -> Any:
    """Multiply int8 by int8, and sum in int32."""
    x, q = sides.x, sides.q
    if q.range is None:
        scale = scale_of(largest_of(x, sides.contracted[0]), 8)
    else:
        scale = scale_of(q.range, 8).reshape((1,) * x.ndim)
    y = sides.dot(whole_numbers(x, scale), q.values, out_dtype=_INT32).astype(x.dtype)
    y = y * sides.spread(scale, False, y.shape)
    return y * sides.spread(q.scale, True, y.shape)


def _by_rows(sides: _Sides) -> Any:
    """Multiply by rows of integers as they lie; None where they do not lie in rows of one sum."""
    x, given, contracted = sides.x, sides.q, sides.contracted
    if sides.batch[0] or len(contracted[1]) != 1:
        return None
    (i,), (d,) = contracted
    q, order = given.in_memory()
    *lead, count = q.shape
    wide = q.scale.shape[:-1] == tuple(lead)
    if order[-1] != d or not wide or 0 in (*lead, count) or q.scale.dtype != _FLOAT32:
        return None
    if q.bits == 4 and q.axis is None and q.scale.shape[-1] != 1:
        return None  # an odd sum, one in a byte
    free = free_axes(x.ndim, (i,), ())
    rows = x.transpose((*free, i)).reshape((-1, count))
    groups, n = q.scale.shape[-1], math.prod(lead)
    values, scale = q.values.reshape((n, -1)), q.scale.reshape((n, groups))
    if groups == 1 and q.axis is None:
        y = narrow_dot(rows, values) * scale.reshape((1, n))
    else:
        y = narrow_dot(rows, values, scale)
    if q.zero is not None:
        totals = rows.reshape((-1, groups, count // groups)).sum(2)
        y = y - totals @ (q.zero.reshape((n, groups)) * scale).T
    y = y.reshape((*(x.shape[k] for k in free), *lead))
    kept = [k for k in order if k != d]
    last = [len(free) + kept.index(k) for k in sorted(kept)]
    first = list(range(len(free)))
    return y.transpose((*last, *first) if sides.first else (*first, *last))


def _meaning(x: Any, values: Any, *scale: Any) -> Any:
    """Return what a narrow_dot means in other operations."""
    pairs = values.dtype == np.uint8
    scales = scale[0] if scale else fnp.ones((values.shape[0], 1), _FLOAT32)
    q = QArray(values, scales, None, 4 if pairs else 8, 1 if pairs else None)
    return _in_floats(_Sides(x, q, False, ((1,), (1,)), ((), ())))


def by_rows(eqn: Eqn) -> bool:
    """Tell whether an equation is a product by rows of small integers."""
    return eqn.prim is narrow_dot_p


narrow_dot_p.expand = _meaning
expansion_rules(narrow_dot_p)
_of_expansion = {name: getattr(narrow_dot_p, name) for name in ("jvp", "batch")}


def _jvp(primals: Any, tangents: Any) -> Any:
    if any(t is not None for t in tangents[1:]):
        return _of_expansion["jvp"](primals, tangents)
    t = tangents[0]
    made = [None if x is None else narrow_dot_p.bind(x, *primals[1:]) for x in (primals[0], t)]
    return tuple(made)


def _batch(axis: Any, args: Any, batched: Any) -> Any:
    if any(batched[1:]):
        return _of_expansion["batch"](axis, args, batched)
    (size, m, k), n = args[0].shape, args[1].shape[0]
    y = narrow_dot_p.bind(args[0].reshape((size * m, k)), *args[1:])
    return y.reshape((size, m, n)), True


narrow_dot_p.jvp, narrow_dot_p.batch, narrow_dot_p.linearize = _jvp, _batch, None


def _are_few(sides: _Sides) -> bool:
    """Tell whether the activations are few vectors for one matrix: then memory is what it costs."""
    x = sides.x
    free = free_axes(x.ndim, sides.contracted[0], sides.batch[0])
    return not sides.batch[0] and 0 < math.prod(x.shape[d] for d in free) <= _FEW


def _with_vectors(sides: _Sides) -> Any:
    """Multiply some vectors by a matrix that is read as it lies, once.

    Where the terms of a sum lie side by side, those of one place in all groups are added up first:
    so it is vectors that are added up.
    """
    x, (i,), (d,) = sides.x, *sides.contracted
    free = free_axes(x.ndim, (i,), ())
    rows = x.transpose((*free, i)).reshape((-1, x.shape[i]))
    q, order = sides.q.in_memory()
    d = order.index(d)
    count, groups = q.shape[d], q.scale.shape[d]
    side_by_side = d == q.ndim - 1
    if groups == 1 and q.axis is None and side_by_side:  # it may be cut anywhere
        groups = next((count // n for n in _LANES if count % n == 0), 1)
    if q.axis is None:
        parts = [q.values.reshape(*q.shape[:d], groups, count // groups, *q.shape[d + 1 :])]
    else:
        parts = list(q.halves())
    scale = fnp.expand_dims(q.scale, d + 1).astype(x.dtype)
    # One vector's terms are scaled when they are added up, several vectors' weights once for all.
    several = rows.shape[0] > 1
    weights = [w.astype(x.dtype) * scale if several else w.astype(x.dtype) for w in parts]
    vectors = rows.reshape((-1, groups, count // groups, *(1,) * (q.ndim - 1 - d)))
    totals = []
    for row in vectors:
        pieces = fnp.split(row, len(weights), axis=1)
        terms = [v * w for v, w in zip(pieces, weights, strict=True)]
        total = terms[0] if len(terms) == 1 else terms[0] + terms[1]
        total = total if several else total * scale
        if side_by_side:
            total = optimization_barrier_p.bind(total.sum(d))[0].sum(d)
        else:
            total = total.sum((d, d + 1))
        totals.append(total)
    kept = [k for k in order if k != sides.contracted[1][0]]
    found = fnp.stack([t.transpose([kept.index(k) for k in sorted(kept)]) for t in totals])
    sizes, axes = [x.shape[k] for k in free], found.ndim - 1
    found = found.reshape([*sizes, *found.shape[1:]])
    if sides.first:
        found = fnp.moveaxis(found, tuple(range(-axes, 0)), tuple(range(axes)))
    return found


def convolved(x: Any, q: QArray, params: dict[str, Any]) -> Any:
    """Return the convolution of activations with quantised weights, as floats.

    Args:
        x: floats, (batch, features, *space).
        q: the weights.
        params: of the `conv_general_dilated`.
    """
    if q.zero is not None or any(n != 1 for n in q.scale.shape[1:]):
        return conv_general_dilated(x, q.dequantize().astype(x.dtype), **params)
    features = (1, q.shape[0], *(1,) * (x.ndim - 2))
    whole = q.activations and q.bits == 8 and x.dtype == _FLOAT32
    if not (whole and rounds(q.shape, params)):
        x = as_they_are(x) if whole else x
        y = conv_general_dilated(x, q.integers().astype(x.dtype), **params)
        return y * fnp.broadcast_to(q.scale.reshape(-1), features[1:2]).reshape(features)
    axes = tuple(range(1, x.ndim))
    scale = scale_of(largest_of(x, axes) if q.range is None else q.range, 8)
    scale = scale.reshape((-1, *(1,) * (x.ndim - 1)))
    y = conv_general_dilated(
        whole_numbers(x, scale), q.values, **{**params, "out_dtype": _INT32}
    ).astype(x.dtype)
    return y * scale * fnp.broadcast_to(q.scale.reshape(-1), features[1:2]).reshape(features)
