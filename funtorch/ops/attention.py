"""Attention as one operation, so that backends may compute it without the matrix of all pairs.

attention(q, k, v, *extras)             -> out, top, total
attention_tangent(..., *results, *ts)   -> the tangent of out for those of some of q, k, v
attention_grad(..., *results, ct)       -> the cotangents of some of q, k, v for that of out

Queries are (batch, heads of keys, group, T, E): those of a group share a head of keys
(batch, heads, S, E) and of values (batch, heads, S, V). ``top`` and ``total`` are what the softmax
of each query subtracted and divided by; they are for the other two operations alone, and have no
derivatives. Extras are masks of bools and floats to add, of which each axis is that of the pairs
(batch, heads, group, T, S) or 1.

Parameters: ``scale`` of the products; ``left`` and ``right``, how many keys before and after its
own position a query sees, None for all; ``empty``, what a query gives that sees nothing: 'zero', or
the 'mean' of all values; ``of``, which of q, k and v (0, 1, 2) tangents or cotangents are of.

Derivatives, batches and what the operations mean in others are set in `transforms/attention.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Primitive, ShapedArray

__all__ = [
    "LOWEST",
    "attention",
    "attention_grad",
    "attention_grad_p",
    "attention_p",
    "attention_tangent",
    "attention_tangent_p",
    "narrowed",
    "wide_of",
]

LOWEST = -0.7 * float(np.finfo(np.float32).max)
"""What hidden products are where a query that sees nothing gives a mean: large and finite."""

_EMPTY = ("zero", "mean")


def wide_of(dtype: Any) -> np.dtype:
    """Return the dtype in which the softmax of a dtype is computed."""
    return np.dtype(dtypes.promote_types(dtype, dtypes.float32))


def _check(
    name: str, q: ShapedArray, k: ShapedArray, v: ShapedArray, extras: Any, empty: str
) -> None:
    """Raise where operands do not fit each other."""
    given = ", ".join(x.str_short() for x in (q, k, v, *extras))
    fit = (q.ndim, k.ndim, v.ndim) == (5, 4, 4) and q.dtype == k.dtype == v.dtype
    fit = fit and q.shape[:2] == k.shape[:2] == v.shape[:2]
    fit = fit and q.shape[4] == k.shape[3] and k.shape[2] == v.shape[2]
    if not fit or not dtypes.is_float(q.dtype):
        raise TypeError(
            f"{name} takes q (batch, heads, group, T, E), k (batch, heads, S, E) and v (batch, "
            f"heads, S, V) of one float dtype, got {given}"
        )
    pairs = (*q.shape[:4], k.shape[2])
    for x in extras:
        known = dtypes.is_bool(x.dtype) or dtypes.is_float(x.dtype)
        if (
            not known
            or x.ndim != 5
            or any(m not in (1, n) for m, n in zip(x.shape, pairs, strict=True))
        ):
            raise TypeError(
                f"{name} takes masks of bools and floats whose axes are those of the pairs {pairs} "
                f"or 1, got {given}"
            )
    if empty not in _EMPTY:
        raise ValueError(f"{name} takes empty of 'zero' or 'mean', got {empty!r}")


def _attention_type(
    q: ShapedArray, k: ShapedArray, v: ShapedArray, *extras: ShapedArray,
    scale: float, left: int | None, right: int | None, empty: str,
) -> list[ShapedArray]:  # fmt: skip
    _check("attention", q, k, v, extras, empty)
    row = ShapedArray(q.shape[:4], wide_of(q.dtype))
    return [ShapedArray((*q.shape[:4], v.shape[3]), q.dtype), row, row]


def _tangent_type(
    q: ShapedArray, k: ShapedArray, v: ShapedArray, *rest: ShapedArray,
    of: tuple[int, ...], empty: str, **params: Any,
) -> ShapedArray:  # fmt: skip
    extras, (out, *_) = rest[: -3 - len(of)], rest[-3 - len(of) :]
    _check("attention_tangent", q, k, v, extras, empty)
    return ShapedArray(out.shape, out.dtype)


def _grad_type(
    q: ShapedArray, k: ShapedArray, v: ShapedArray, *rest: ShapedArray,
    of: tuple[int, ...], empty: str, **params: Any,
) -> list[ShapedArray]:  # fmt: skip
    _check("attention_grad", q, k, v, rest[:-4], empty)
    return [ShapedArray(x.shape, x.dtype) for x in ((q, k, v)[n] for n in of)]


attention_p = Primitive("attention", multiple_results=True)
attention_tangent_p = Primitive("attention_tangent")
attention_grad_p = Primitive("attention_grad", multiple_results=True)
attention_p.type = _attention_type
attention_tangent_p.type = _tangent_type
attention_grad_p.type = _grad_type
_NOT_LINEAR = "it is not linear: its derivative is attention_tangent"
attention_p.none["transpose"] = _NOT_LINEAR

attention, attention_tangent, attention_grad = (
    p.bind for p in (attention_p, attention_tangent_p, attention_grad_p)
)


def narrowed(prim: Primitive, count: int, params: dict[str, Any]) -> set[int]:
    """Return which of the arguments are in the dtype of queries: all but extras, top and total."""
    ends = {attention_p: 0, attention_tangent_p: 3 + len(params.get("of", ())), attention_grad_p: 4}
    rest = range(count - ends[prim], count)
    return {0, 1, 2, *(k for k in rest if k - rest.start not in (1, 2))}
