"""Products with one-hot matrices, which Jacobians push forward and pull back: no products at all.

A one-hot matrix ``E[i, j] = w[j] if i == j + at else 0`` places and scales: ``E @ x`` is ``x``,
scaled and padded; the product with its transpose is a slice of ``x``, scaled. What would be 0 times
an infinity or nan is not computed: there the result is better than the product's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funtorch import dtypes
from funtorch.jaxpr import Eqn
from funtorch.ops.contract import free_axes

from .rewrite import Atom, Rewriter, Rules

__all__ = ["ONE_HOT"]


class _OneHot(NamedTuple):
    """A matrix that holds ``scale`` where row = column + ``at``, each column's in it, else 0.

    The ``scale`` is a list of vectors as long as there are columns, or of scalars.
    """

    at: int
    scale: tuple[Atom, ...]


def _one_hot(b: Rewriter, v: Atom) -> _OneHot | None:
    """Return what a matrix is if it is made as a one-hot one: compared numbers, scaled."""
    made = b.made_by.get(v)
    if made is None or v.aval.ndim != 2 or not dtypes.is_float(v.aval.dtype):
        return None
    if made.prim.name == "convert":
        return _compared(b, made.invars[0])
    if made.prim.name != "mul":
        return None
    for x, y in (made.invars, made.invars[::-1]):
        hot, scale = _one_hot(b, x), _columns(b, y)
        if hot is not None and scale is not None:
            return _OneHot(hot.at, (*hot.scale, scale))
    return None


def _compared(b: Rewriter, v: Atom) -> _OneHot | None:
    """Return what ``row number == column number + at`` is, where every column has its row."""
    equal = b.maker(v, "eq")
    if equal is None or v.aval.ndim != 2:
        return None
    dtype = equal.invars[0].aval.dtype
    if not dtypes.is_integer(dtype) or max(v.aval.shape) > np.iinfo(dtype).max:
        return None  # numbers that wrap around, or are rounded, come twice
    for x, y in (equal.invars, equal.invars[::-1]):
        row, at = b.maker(x, "iota"), 0
        if row is None or row.params["axis"] != 0:
            continue
        column = b.maker(y, "iota")
        added = b.maker(y, "add")
        if added is not None:
            for part, other in (added.invars, added.invars[::-1]):
                value = b.value(other)
                if value is not None:
                    column, at = b.maker(part, "iota"), int(value)
        rows, columns = v.aval.shape
        if column is not None and column.params["axis"] == 1 and 0 <= at <= rows - columns:
            return _OneHot(at, ())
    return None


def _columns(b: Rewriter, v: Atom) -> Atom | None:
    """Return the vector, or the scalar, that a matrix repeats in every row."""
    made = b.maker(v, "broadcast_in_dim")
    if made is None or made.params["dims"] not in ((), (1,)):
        return None
    source = made.invars[0]
    return source if source.aval.shape in ((), v.aval.shape[1:]) else None


def _placed(b: Rewriter, hot: _OneHot, axes: Sequence[int], eye: Any, x: Atom, c: int) -> Atom:
    """Return the product of a one-hot matrix, summed over one of its axes, and ``x`` over ``c``."""
    (summed,) = axes
    rows, columns = eye.shape
    before, after = hot.at, rows - columns - hot.at
    if summed == 0:
        start = [before if k == c else 0 for k in range(x.aval.ndim)]
        limit = [before + columns if k == c else n for k, n in enumerate(x.aval.shape)]
        x = b.emit("slice", x, start=tuple(start), limit=tuple(limit), stride=(1,) * x.aval.ndim)
    for w in hot.scale:
        dims = (c,) if w.aval.shape else ()
        x = b.emit("mul", x, b.emit("broadcast_in_dim", w, shape=x.aval.shape, dims=dims))
    if summed == 1 and (before or after):
        lo = tuple(before if k == c else 0 for k in range(x.aval.ndim))
        hi = tuple(after if k == c else 0 for k in range(x.aval.ndim))
        x = b.emit(
            "pad", x, b.full(0, x.aval.update(shape=())), lo=lo, hi=hi, interior=(0,) * len(lo)
        )
    return x


def _product(b: Rewriter, eqn: Eqn) -> Atom | None:
    (ca, cb), (ba, _) = eqn.params["dimension_numbers"]
    if ba or len(ca) != 1:
        return None
    out = eqn.outvars[0].aval
    for k, (c, d) in enumerate(((ca, cb), (cb, ca))):
        eye, x = eqn.invars[k], eqn.invars[1 - k]
        hot = _one_hot(b, eye)
        if hot is None or out.dtype != eye.aval.dtype or x.aval.dtype != out.dtype:
            continue
        x = _placed(b, hot, c, eye.aval, x, d[0])
        free = free_axes(x.aval.ndim, d, ())
        order = (d[0], *free) if k == 0 else (*free, d[0])  # the matrix's axis, in its place
        return b.emit("transpose", x, perm=tuple(order))
    return None


ONE_HOT: Rules = {"dot_general": (_product,)}
