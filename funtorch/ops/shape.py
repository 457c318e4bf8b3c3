"""Primitives that move elements without computing: reshape, slices, pad, concatenate, split.

Every primitive ``name_p`` has the strict function ``name`` beside it. `slice` hides the builtin.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Primitive, ShapedArray, primitives
from funtorch.ops.elementwise import max as maximum
from funtorch.ops.elementwise import min as minimum
from funtorch.ops.elementwise import select, sub
from funtorch.ops.families import (
    broadcast_in_dim,
    full,
    full_like,
    is_linear,
    linear,
    scalar,
    spread,
    zeros,
)

# fmt: off
__all__ = [
    "concatenate", "concatenate_p", "dynamic_slice", "dynamic_slice_p", "dynamic_update_slice",
    "dynamic_update_slice_p", "iota", "iota_p", "pad", "pad_p", "reshape", "reshape_p", "rev",
    "rev_p", "slice", "slice_p", "split", "split_p", "transpose", "transpose_p",
]
# fmt: on

Ints = tuple[int, ...]


# ------------------------------------------------------------------------------------------ reshape
def _reshape_type(x: ShapedArray, *, shape: Ints) -> ShapedArray:
    out = ShapedArray(shape, x.dtype, x.weak_type)
    if out.size != x.size or any(n < 0 for n in shape):
        raise TypeError(
            f"reshape: {x.str_short()} has {x.size} elements, shape {shape} has {out.size}"
        )
    return out


reshape_p = linear(
    "reshape",
    type=_reshape_type,
    eager=lambda xp, x, *, shape: x.reshape(shape),
    transpose=lambda ct, x, *, shape: (reshape(ct, shape=x.aval.shape),),
    batch=lambda axis, args, batched, *, shape: (reshape(args[0], shape=(axis.size, *shape)), True),
)
reshape = reshape_p.bind


# ----------------------------------------------------------------------------------- transpose, rev
def _transpose_type(x: ShapedArray, *, perm: Ints) -> ShapedArray:
    if sorted(perm) != list(range(x.ndim)):
        raise TypeError(
            f"transpose: {perm} is no permutation of the {x.ndim} axes of {x.str_short()}"
        )
    return ShapedArray(tuple(x.shape[p] for p in perm), x.dtype, x.weak_type)


def _inverse(perm: Sequence[int]) -> Ints:
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


def _transpose_batch(axis: Any, args: Any, batched: Any, *, perm: Ints) -> tuple[Any, bool]:
    return transpose(args[0], perm=(0, *(p + 1 for p in perm))), True


def _rev_type(x: ShapedArray, *, axes: Ints) -> ShapedArray:
    if len(set(axes)) != len(axes) or any(not 0 <= a < x.ndim for a in axes):
        raise TypeError(f"rev: axes {axes} must be distinct axes of {x.str_short()}")
    return x


transpose_p = linear(
    "transpose",
    type=_transpose_type,
    eager=lambda xp, x, *, perm: x.transpose(perm),
    transpose=lambda ct, x, *, perm: (transpose(ct, perm=_inverse(perm)),),
    batch=_transpose_batch,
)
rev_p = linear(
    "rev",
    type=_rev_type,
    eager=lambda xp, x, *, axes: xp.flip(x, axes),
    transpose=lambda ct, x, *, axes: (rev(ct, axes=axes),),
    batch=lambda axis, args, batched, *, axes: (
        rev(args[0], axes=tuple(a + 1 for a in axes)),
        True,
    ),
)
transpose, rev = transpose_p.bind, rev_p.bind


# -------------------------------------------------------------------------------------- concatenate
def _concatenate_type(*xs: ShapedArray, axis: int) -> ShapedArray:
    first = xs[0]
    rest = first.shape[:axis] + first.shape[axis + 1 :]
    if not 0 <= axis < first.ndim or any(
        x.ndim != first.ndim
        or x.dtype != first.dtype
        or x.shape[:axis] + x.shape[axis + 1 :] != rest
        for x in xs
    ):
        raise TypeError(
            f"concatenate along axis {axis} takes arrays of one dtype that agree in all other "
            "axes, got "
            f"{', '.join(x.str_short() for x in xs)}"
        )
    shape = (*first.shape[:axis], sum(x.shape[axis] for x in xs), *first.shape[axis + 1 :])
    return ShapedArray(shape, first.dtype, all(x.weak_type for x in xs))


def _concatenate_transpose(ct: Any, *xs: Any, axis: int) -> list[Any]:
    out, start = [], 0
    for x in xs:
        stop = start + x.aval.shape[axis]
        out.append(_slice_axis(ct, axis, start, stop) if is_linear(x) else None)
        start = stop
    return out


def _slice_axis(x: Any, axis: int, start: int, stop: int) -> Any:
    shape = x.shape
    return slice(
        x,
        start=tuple(start if k == axis else 0 for k in range(len(shape))),
        limit=tuple(stop if k == axis else n for k, n in enumerate(shape)),
        stride=(1,) * len(shape),
    )


def _concatenate_batch(axis_: Any, args: Any, batched: Any, *, axis: int) -> tuple[Any, bool]:
    args = [x if b else spread(x, axis_.size) for x, b in zip(args, batched, strict=True)]
    return concatenate(*args, axis=axis + 1), True


concatenate_p = linear(
    "concatenate",
    type=_concatenate_type,
    eager=lambda xp, *xs, axis: xp.concatenate(xs, axis),
    transpose=_concatenate_transpose,
    batch=_concatenate_batch,
)
concatenate = concatenate_p.bind


# -------------------------------------------------------------------------------------------- split
def _split_type(x: ShapedArray, *, axis: int, sizes: Ints) -> list[ShapedArray]:
    if not 0 <= axis < x.ndim or any(n < 0 for n in sizes) or builtins.sum(sizes) != x.shape[axis]:
        raise TypeError(
            f"split: sizes {sizes} must not be negative and add up to the size of axis {axis} of "
            f"{x.str_short()}"
        )
    return [x.update(shape=(*x.shape[:axis], n, *x.shape[axis + 1 :])) for n in sizes]


def _split_eager(xp: Any, x: Any, *, axis: int, sizes: Ints) -> list[Any]:
    front, stop, out = (builtins.slice(None),) * axis, 0, []
    for n in sizes:
        start, stop = stop, stop + n
        out.append(x[(*front, builtins.slice(start, stop))])
    return out


def _split_transpose(cts: Any, x: Any, *, axis: int, sizes: Ints) -> tuple[Any]:
    avals = _split_type(x.aval, axis=axis, sizes=sizes)
    parts = [zeros(a) if ct is None else ct for ct, a in zip(cts, avals, strict=True)]
    return (concatenate(*parts, axis=axis),)


def _split_batch(
    axis_: Any, args: Any, batched: Any, *, axis: int, sizes: Ints
) -> tuple[list[Any], list[bool]]:
    return split(*args, axis=axis + 1, sizes=sizes), [True] * len(sizes)


split_p = linear(
    "split",
    type=_split_type,
    eager=_split_eager,
    transpose=_split_transpose,
    batch=_split_batch,
    multiple_results=True,
)
split = split_p.bind


# ---------------------------------------------------------------------------------------------- pad
def _pad_type(
    x: ShapedArray, value: ShapedArray, *, lo: Ints, hi: Ints, interior: Ints
) -> ShapedArray:
    if value.shape or value.dtype != x.dtype:
        raise TypeError(
            f"pad: the value must be a scalar of dtype {x.dtype.name}, got {value.str_short()}"
        )
    if not len(lo) == len(hi) == len(interior) == x.ndim or any(i < 0 for i in interior):
        raise TypeError(
            f"pad: lo={lo}, hi={hi}, interior={interior} must have one entry for each axis of "
            f"{x.str_short()}, and interior must not be negative"
        )
    shape = _padded_shape(x.shape, lo, hi, interior)
    if any(n < 0 for n in shape):
        raise TypeError(
            f"pad: lo={lo}, hi={hi} cut more from {x.str_short()} than there is: {shape}"
        )
    return ShapedArray(shape, x.dtype, x.weak_type and value.weak_type)


def _padded_shape(shape: Ints, lo: Ints, hi: Ints, interior: Ints) -> Ints:
    return tuple(
        n + (n - 1) * i * (n > 0) + low + high
        for n, low, high, i in zip(shape, lo, hi, interior, strict=True)
    )


def _pad_eager(xp: Any, x: Any, value: Any, *, lo: Ints, hi: Ints, interior: Ints) -> Any:
    shape = _padded_shape(x.shape, lo, hi, interior)
    out = xp.empty(shape, x.dtype)
    out[...] = value
    source, target = [], []
    for n, size, low, i in zip(x.shape, shape, lo, interior, strict=True):
        # Element k goes to low + k * step; first and last are the ones that stay inside.
        step = i + 1
        first = -(low // step) if low < 0 else 0
        count = builtins.min(n - 1, (size - 1 - low) // step) - first + 1
        if count <= 0:
            return out
        start = low + first * step
        source.append(builtins.slice(first, first + count))
        target.append(builtins.slice(start, start + (count - 1) * step + 1, step))
    out[tuple(target)] = x[tuple(source)]
    return out


def _pad_transpose(
    ct: Any, x: Any, value: Any, *, lo: Ints, hi: Ints, interior: Ints
) -> tuple[Any, Any]:
    none = (0,) * len(lo)
    spaced = pad(
        ct, scalar(0, ct.dtype), lo=tuple(-n for n in lo), hi=tuple(-n for n in hi), interior=none
    )
    ct_x = slice(spaced, start=none, limit=spaced.shape, stride=tuple(i + 1 for i in interior))
    if not is_linear(value):
        return ct_x, None
    axes = tuple(range(len(lo)))
    total, inside = (primitives["reduce_sum"].bind(c, axes=axes) for c in (ct, ct_x))
    return ct_x if is_linear(x) else None, sub(total, inside)


def _pad_batch(
    axis: Any, args: Any, batched: Any, *, lo: Ints, hi: Ints, interior: Ints
) -> tuple[Any, bool]:
    x, value = args
    x = x if batched[0] else spread(x, axis.size)
    params = {"lo": (0, *lo), "hi": (0, *hi), "interior": (0, *interior)}
    if not batched[1]:
        return pad(x, value, **params), True
    padded = pad(x, scalar(0, x.dtype), **params)
    inside = pad(full(x.shape, True, bool), scalar(False, bool), **params)
    return select(inside, padded, broadcast_in_dim(value, shape=padded.shape, dims=(0,))), True


pad_p = linear("pad", type=_pad_type, eager=_pad_eager, transpose=_pad_transpose, batch=_pad_batch)
pad = pad_p.bind


# -------------------------------------------------------------------------------------------- slice
def _slice_type(x: ShapedArray, *, start: Ints, limit: Ints, stride: Ints) -> ShapedArray:
    if not len(start) == len(limit) == len(stride) == x.ndim or any(
        not (0 <= a <= b <= n and s > 0)
        for a, b, n, s in zip(start, limit, x.shape, stride, strict=False)
    ):
        raise TypeError(
            f"slice: start={start}, limit={limit}, stride={stride} do not fit {x.str_short()}: "
            "each axis needs 0 <= start <= limit <= size and stride > 0"
        )
    shape = tuple(-(-(b - a) // s) for a, b, s in zip(start, limit, stride, strict=True))
    return ShapedArray(shape, x.dtype, x.weak_type)


def _slice_eager(xp: Any, x: Any, *, start: Ints, limit: Ints, stride: Ints) -> Any:
    return x[tuple(map(builtins.slice, start, limit, stride))]


def _slice_transpose(ct: Any, x: Any, *, start: Ints, limit: Ints, stride: Ints) -> tuple[Any]:
    hi = []
    for n, count, a, s in zip(x.aval.shape, ct.shape, start, stride, strict=True):
        hi.append(n - a - (1 + (count - 1) * s if count else 0))
    return (
        pad(ct, scalar(0, ct.dtype), lo=start, hi=tuple(hi), interior=tuple(s - 1 for s in stride)),
    )


def _slice_batch(
    axis: Any, args: Any, batched: Any, *, start: Ints, limit: Ints, stride: Ints
) -> tuple[Any, bool]:
    return slice(args[0], start=(0, *start), limit=(axis.size, *limit), stride=(1, *stride)), True


slice_p = linear(
    "slice", type=_slice_type, eager=_slice_eager, transpose=_slice_transpose, batch=_slice_batch
)
slice = slice_p.bind


# ----------------------------------------------------------------------------------- dynamic slices
def _check_starts(name: str, x: ShapedArray, starts: Sequence[ShapedArray], sizes: Ints) -> None:
    if len(starts) != x.ndim or any(s.shape or not dtypes.is_integer(s.dtype) for s in starts):
        raise TypeError(
            f"{name}: {x.str_short()} needs {x.ndim} integer scalars as starts, got "
            f"{', '.join(s.str_short() for s in starts) or 'none'}"
        )
    if len(sizes) != x.ndim or any(not 0 <= k <= n for k, n in zip(sizes, x.shape, strict=False)):
        raise TypeError(f"{name}: a block of shape {sizes} does not fit into {x.str_short()}")


def _dynamic_slice_type(x: ShapedArray, *starts: ShapedArray, sizes: Ints) -> ShapedArray:
    _check_starts("dynamic_slice", x, starts, sizes)
    return ShapedArray(sizes, x.dtype)


def _block(x: Any, starts: Sequence[Any], sizes: Ints) -> tuple[builtins.slice, ...]:
    """Return the index of the block, moved so that it lies inside ``x``."""
    if any(not 0 <= k <= n for n, k in zip(x.shape, sizes, strict=True)):
        raise TypeError(f"a block of shape {sizes} does not fit into {x.shape}")
    clamped = [
        builtins.min(builtins.max(int(s), 0), n - k)
        for s, n, k in zip(starts, x.shape, sizes, strict=True)
    ]
    return tuple(builtins.slice(s, s + k) for s, k in zip(clamped, sizes, strict=True))


def _dynamic_slice_transpose(ct: Any, x: Any, *starts: Any, sizes: Ints) -> list[Any]:
    return [dynamic_update_slice(zeros(x.aval), ct, *starts), *[None] * len(starts)]


def _block_indices(
    axis: Any, starts: Sequence[Any], batched: Sequence[bool], shape: Ints, sizes: Ints
) -> tuple[Ints, Ints, list[Any]]:
    """Return what turns batched blocks into indices: axes cut, axes kept whole, the indices.

    Indices have shape (batch, sizes of the axes cut); the first of them counts the batch.
    """
    cut = tuple(k for k in range(len(shape)) if sizes[k] != shape[k])
    whole = tuple(k for k in range(len(shape)) if sizes[k] == shape[k])
    spaced = (axis.size, *(sizes[k] for k in cut))
    indices = [iota(shape=spaced, axis=0, dtype=np.dtype(np.int32))]
    for place, k in enumerate(cut, 1):
        start = starts[k]
        low, high = full_like(start, 0), full_like(start, shape[k] - sizes[k])
        clamped = minimum(maximum(start, low), high)
        clamped = primitives["convert"].bind(clamped, dtype=np.dtype(np.int32), weak_type=False)
        spread_out = broadcast_in_dim(clamped, shape=spaced, dims=(0,) if batched[k] else ())
        offsets = iota(shape=spaced, axis=place, dtype=np.dtype(np.int32))
        indices.append(primitives["add"].bind(spread_out, offsets))
    return cut, whole, indices


def _dynamic_slice_batch(axis: Any, args: Any, batched: Any, *, sizes: Ints) -> tuple[Any, bool]:
    x, *starts = args
    if not any(batched[1:]):
        return dynamic_slice(x, scalar(0, np.int32), *starts, sizes=(axis.size, *sizes)), True
    shape = x.shape[1:] if batched[0] else x.shape
    cut, whole, indices = _block_indices(axis, starts, batched[1:], shape, sizes)
    if batched[0]:
        axes = (0, *(k + 1 for k in cut))
    else:
        axes, indices = cut, indices[1:]
    if not axes:
        return spread(x, axis.size), True
    out = primitives["gather"].bind(x, *indices, axes=axes, mode="promise", fill=None)
    return transpose(out, perm=_inverse((0, *(k + 1 for k in (*cut, *whole))))), True


def _dynamic_update_slice_type(
    x: ShapedArray, update: ShapedArray, *starts: ShapedArray
) -> ShapedArray:
    if update.dtype != x.dtype:
        raise TypeError(
            f"dynamic_update_slice: cannot write {update.str_short()} into {x.str_short()}"
        )
    _check_starts("dynamic_update_slice", x, starts, update.shape)
    return x


def _dynamic_update_slice_eager(xp: Any, x: Any, update: Any, *starts: Any) -> Any:
    out = x.copy()
    out[_block(x, starts, update.shape)] = update
    return out


def _dynamic_update_slice_transpose(ct: Any, x: Any, update: Any, *starts: Any) -> list[Any]:
    aval = update.aval
    return [
        dynamic_update_slice(ct, zeros(aval.update(dtype=ct.dtype)), *starts)
        if is_linear(x)
        else None,
        dynamic_slice(ct, *starts, sizes=aval.shape) if is_linear(update) else None,
        *[None] * len(starts),
    ]


def _dynamic_update_slice_batch(axis: Any, args: Any, batched: Any) -> tuple[Any, bool]:
    x, update, *starts = args
    x = x if batched[0] else spread(x, axis.size)
    update = update if batched[1] else spread(update, axis.size)
    if not any(batched[2:]):
        return dynamic_update_slice(x, update, scalar(0, np.int32), *starts), True
    cut, whole, indices = _block_indices(axis, starts, batched[2:], x.shape[1:], update.shape[1:])
    update = transpose(update, perm=(0, *(k + 1 for k in (*cut, *whole))))
    out = primitives["scatter"].bind(
        x, update, *indices, axes=(0, *(k + 1 for k in cut)), mode="promise", unique=True
    )
    return out, True


dynamic_slice_p = linear(
    "dynamic_slice",
    type=_dynamic_slice_type,
    eager=lambda xp, x, *starts, sizes: x[_block(x, starts, sizes)],
    transpose=_dynamic_slice_transpose,
    batch=_dynamic_slice_batch,
    linear_in=(0,),
    keeps_weak=False,
)
dynamic_update_slice_p = linear(
    "dynamic_update_slice",
    type=_dynamic_update_slice_type,
    eager=_dynamic_update_slice_eager,
    transpose=_dynamic_update_slice_transpose,
    batch=_dynamic_update_slice_batch,
    linear_in=(0, 1),
)
dynamic_update_slice_p.weak_args = builtins.slice(1)
dynamic_slice, dynamic_update_slice = dynamic_slice_p.bind, dynamic_update_slice_p.bind


# --------------------------------------------------------------------------------------------- iota
def _iota_eager(xp: Any, *, shape: Ints, axis: int, dtype: np.dtype) -> Any:
    n = shape[axis]
    line = xp.arange(n, dtype=np.int64).astype(dtype)
    return xp.broadcast_to(line.reshape((n,) + (1,) * (len(shape) - axis - 1)), shape)


def _iota_type(*, shape: Ints, axis: int, dtype: np.dtype) -> ShapedArray:
    if not 0 <= axis < len(shape):
        raise TypeError(f"iota: axis {axis} is no axis of shape {shape}")
    return ShapedArray(shape, dtype)


iota_p = Primitive("iota")
iota_p.type, iota_p.eager = _iota_type, _iota_eager
iota_p.none.update(dict.fromkeys(("jvp", "transpose", "batch"), "it has no arguments"))
iota = iota_p.bind
