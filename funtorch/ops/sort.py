"""`sort`: stable, of several arrays at once, lexicographic in the first of them.

    sort(*xs; axis, num_keys) -> sorted arrays

All arrays have one shape and are reordered alike along ``axis``: by the first, ties by the second,
and so on through ``num_keys`` of them; what still ties keeps its order. nan comes last, and -0.0
and 0.0 are equal. Complex numbers go by real, then by imaginary part. argsort is ``sort(x, iota)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funtorch import dtypes
from funtorch.core import Primitive, ShapedArray
from funtorch.ops.families import NO_TRANSPOSE, spread
from funtorch.ops.indexing import gather
from funtorch.ops.shape import iota

__all__ = ["sort", "sort_p"]


def _type(*xs: ShapedArray, axis: int, num_keys: int) -> list[ShapedArray]:
    shown = ", ".join(x.str_short() for x in xs)
    if not xs or any(x.shape != xs[0].shape for x in xs):
        raise TypeError(f"sort takes arrays of equal shape, at least one; got {shown or 'none'}")
    if not 0 <= axis < xs[0].ndim:
        raise TypeError(f"sort: axis {axis} is not an axis of {shown}")
    if not 1 <= num_keys <= len(xs):
        raise TypeError(f"sort: num_keys is {num_keys}; it must be within 1..{len(xs)} for {shown}")
    return [ShapedArray(x.shape, x.dtype) for x in xs]


def _eager(xp: Any, *xs: Any, axis: int, num_keys: int) -> list[Any]:
    if len(xs) == 1 and not dtypes.is_inexact(xs[0].dtype):
        return [xp.sort(xs[0], axis=axis)]  # equal integers cannot be told apart
    # Stable sorts by one key at a time, the last key first.
    order = None
    for x in reversed(xs[:num_keys]):
        for key in _keys(xp, x):
            if order is None:
                order = xp.argsort(key, axis=axis, kind="stable")
            else:
                step = xp.argsort(xp.take_along_axis(key, order, axis), axis=axis, kind="stable")
                order = xp.take_along_axis(order, step, axis)
    return [xp.take_along_axis(x, order, axis) for x in xs]


def _keys(xp: Any, x: Any) -> list[Any]:
    """Return what to sort by, the least important first."""
    if x.dtype == dtypes.bfloat16:
        return [x.astype(dtypes.float32)]
    return [x.imag, x.real] if dtypes.is_complex(x.dtype) else [x]


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, axis: int, num_keys: int
) -> tuple[list[Any], list[Any]]:
    shape = primals[0].shape
    *out, order = sort(
        *primals, iota(shape=shape, axis=axis, dtype=dtypes.int32), axis=axis, num_keys=num_keys
    )
    indices = [
        order if d == axis else iota(shape=shape, axis=d, dtype=dtypes.int32)
        for d in range(len(shape))
    ]
    axes = tuple(range(len(shape)))
    return out, [
        None if t is None else gather(t, *indices, axes=axes, mode="promise", fill=0)
        for t in tangents
    ]


def _batch(
    axis_data: Any, args: Sequence[Any], batched: Sequence[bool], *, axis: int, num_keys: int
) -> tuple[list[Any], list[bool]]:
    args = [x if b else spread(x, axis_data.size) for x, b in zip(args, batched, strict=True)]
    return sort(*args, axis=axis + 1, num_keys=num_keys), [True] * len(args)


sort_p = Primitive("sort", multiple_results=True)
sort_p.type, sort_p.eager, sort_p.jvp, sort_p.batch = _type, _eager, _jvp, _batch
sort_p.none["transpose"] = NO_TRANSPOSE
sort = sort_p.bind
