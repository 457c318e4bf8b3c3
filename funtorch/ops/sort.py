"""`sort`: stable, of several arrays at once, lexicographic in the first of them; `sort_bits`.

    sort(*xs; axis, num_keys) -> sorted arrays

All arrays have one shape and are reordered alike along ``axis``: by the first, ties by the second,
and so on through ``num_keys`` of them; what still ties keeps its order. nan comes last, and -0.0
and 0.0 are equal. Complex numbers go by real, then by imaginary part. argsort is ``sort(x, iota)``.

    sort_bits(x; low, high, tie) -> unsigned integers sorted along their last axis

What compiled programs make of it. Only the bits ``low <= k < high`` of an element differ from what
sorting by them alone would leave: those above are 0, those below increase along the axis of x. A
number ``tie`` is equal to ``tie + 1`` (the two zeros of floats), so that these keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Primitive, ShapedArray
from funtorch.ops.families import NO_TRANSPOSE, spread
from funtorch.ops.indexing import gather
from funtorch.ops.shape import iota

__all__ = ["sort", "sort_bits", "sort_bits_p", "sort_p", "stable_order"]


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
    if len(xs) == 1 and xs[0].dtype in _BY_VALUE:
        # Equal numbers cannot be told apart, but for the signs of zeros, which keep their order;
        # NumPy's vectorised sorts may lose them.
        x = xs[0]
        has_zeros = dtypes.is_float(x.dtype) and xp.count_nonzero(x) < x.size
        if not (has_zeros and (xp.signbit(x) & (x == 0)).any()):
            return [xp.sort(x, axis=axis)]
    # Stable sorts by one key at a time, the last key first.
    order = None
    for x in reversed(xs[:num_keys]):
        for key in _keys(xp, x):
            if order is None:
                order = stable_order(xp, key, axis)
            else:
                step = stable_order(xp, xp.take_along_axis(key, order, axis), axis)
                order = xp.take_along_axis(order, step, axis)
    return [xp.take_along_axis(x, order, axis) for x in xs]


# NumPy sorts values of these as we do; of complex numbers it puts all with a nan last.
_BY_VALUE = frozenset(d for d in dtypes.ALL if d.kind in "biuf")


def stable_order(xp: Any, key: Any, axis: int) -> Any:
    """Return the indices that sort an array stably.

    Of many keys of 32 bits, one sort of key and position side by side in 64 bits is faster.
    """
    n = key.shape[axis]
    if key.dtype not in _BITS or not _MANY <= n < 1 << 32:
        return xp.argsort(key, axis=axis, kind="stable")
    shape = [1] * key.ndim
    shape[axis] = n
    packed = _BITS[key.dtype](xp, key).astype(np.uint64) << np.uint64(32)
    packed |= xp.arange(n, dtype=np.uint64).reshape(shape)
    packed.sort(axis=axis)
    packed &= np.uint64(0xFFFF_FFFF)
    return packed.astype(np.int64)


_MANY = 1 << 14
_SIGN, _GREATEST = np.uint32(0x8000_0000), np.uint32(0xFFFF_FFFF)


def _float_bits(xp: Any, x: Any) -> Any:
    """Return integers in the order of floats: zeros are equal, nan comes last."""
    bits = (x + x.dtype.type(0)).view(np.uint32)  # -0.0 + 0.0 is 0.0
    ordered = xp.where(bits & _SIGN, ~bits, bits | _SIGN)
    return xp.where(xp.isnan(x), _GREATEST, ordered)


_BITS: dict[Any, Callable[[Any, Any], Any]] = {
    dtypes.float32: _float_bits,
    dtypes.int32: lambda xp, x: x.view(np.uint32) ^ _SIGN,
    dtypes.uint32: lambda xp, x: x,
}


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


# ---------------------------------------------------------------------- unsigned integers
def _bits_type(x: ShapedArray, *, low: int, high: int, tie: int | None) -> ShapedArray:
    if x.dtype.kind != "u" or x.ndim == 0:
        raise TypeError(
            f"sort_bits takes unsigned integers of at least one axis, got {x.str_short()}"
        )
    if not 0 <= low < high <= 8 * x.dtype.itemsize:
        raise TypeError(f"sort_bits: {x.str_short()} has no bits {low} to {high}")
    return ShapedArray(x.shape, x.dtype)


def _bits_eager(xp: Any, x: Any, *, low: int, high: int, tie: int | None) -> Any:
    if tie is None:
        return xp.sort(x, axis=-1)
    order = xp.argsort(xp.where(x == tie, x.dtype.type(tie + 1), x), axis=-1, kind="stable")
    return xp.take_along_axis(x, order, axis=-1)


def _bits_batch(
    axis_data: Any, args: Sequence[Any], batched: Sequence[bool], **params: Any
) -> tuple[Any, bool]:
    return sort_bits(*args, **params), True


sort_bits_p = Primitive("sort_bits")
sort_bits_p.type, sort_bits_p.eager, sort_bits_p.batch = _bits_type, _bits_eager, _bits_batch
sort_bits_p.none["jvp"] = "it takes integers, which have no tangents"
sort_bits_p.none["transpose"] = NO_TRANSPOSE
sort_bits = sort_bits_p.bind
