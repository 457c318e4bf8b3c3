"""Operations that change shapes, and those that make arrays, with the names of jax.lax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import primitives
from funtorch.numpy import manipulation
from funtorch.numpy.places import divisible
from funtorch.numpy.promotion import (
    asarray,
    broadcast_to,
    canonical_axis,
    canonical_shape,
    convert,
    describe,
    moves,
    spread_to,
    static_int,
    to_array,
)

__all__ = [
    "broadcast",
    "broadcast_in_dim",
    "broadcast_like",
    "broadcast_to_rank",
    "broadcasted_iota",
    "collapse",
    "concatenate",
    "empty",
    "expand_dims",
    "full",
    "full_like",
    "iota",
    "pad",
    "reshape",
    "rev",
    "split",
    "squeeze",
    "stack",
    "tile",
    "transpose",
    "unstack",
    "zeros_like_array",
]


@moves
@divisible()
def reshape(
    operand: Any, new_sizes: Any, dimensions: Any = None, *, out_sharding: Any = None
) -> Any:
    """Give an array another shape.

    References:
        jax.lax.reshape
    """
    x = to_array(operand, "reshape", "operand")
    return manipulation.reshape(x if dimensions is None else transpose(x, dimensions), new_sizes)


@moves
def transpose(operand: Any, permutation: Sequence[int]) -> Any:
    """Permute axes.

    References:
        jax.lax.transpose
    """
    return manipulation.transpose(operand, permutation)


@moves
def rev(operand: Any, dimensions: Sequence[int]) -> Any:
    """Reverse axes.

    References:
        jax.lax.rev
    """
    return manipulation.flip(operand, tuple(dimensions))


@moves
def squeeze(array: Any, dimensions: Sequence[int]) -> Any:
    """Remove axes of size 1.

    References:
        jax.lax.squeeze
    """
    return manipulation.squeeze(array, tuple(dimensions))


@moves
def expand_dims(array: Any, dimensions: Sequence[int]) -> Any:
    """Insert axes of size 1.

    References:
        jax.lax.expand_dims
    """
    return manipulation.expand_dims(array, tuple(dimensions))


def collapse(operand: Any, start_dimension: int, stop_dimension: int | None = None) -> Any:
    """Merge the axes from start to stop into one.

    References:
        jax.lax.collapse
    """
    x = to_array(operand, "collapse", "operand")
    lo, hi, _ = slice(start_dimension, stop_dimension).indices(x.ndim)
    return manipulation.reshape(x, x.shape[:lo] + (math.prod(x.shape[lo:hi]),) + x.shape[hi:])


@moves
@divisible()
def broadcast(operand: Any, sizes: Sequence[int], *, out_sharding: Any = None) -> Any:
    """Add leading axes of given sizes.

    References:
        jax.lax.broadcast
    """
    x = to_array(operand, "broadcast", "operand")
    return spread_to(x, canonical_shape(sizes, "broadcast") + x.shape)


@moves
@divisible()
def broadcast_in_dim(
    operand: Any,
    shape: Sequence[int],
    broadcast_dimensions: Sequence[int],
    *,
    out_sharding: Any = None,
) -> Any:
    """Broadcast to a shape; axis k of the operand becomes axis ``broadcast_dimensions[k]``.

    References:
        jax.lax.broadcast_in_dim
    """
    x = to_array(operand, "broadcast_in_dim", "operand")
    return primitives["broadcast_in_dim"].bind(
        x, shape=canonical_shape(shape, "broadcast_in_dim"), dims=tuple(broadcast_dimensions)
    )


def broadcast_to_rank(x: Any, rank: int) -> Any:
    """Add leading axes of size 1 up to a rank.

    References:
        jax.lax.broadcast_to_rank
    """
    x = to_array(x, "broadcast_to_rank")
    return manipulation.reshape(x, (1,) * (rank - x.ndim) + x.shape)


@moves
def concatenate(operands: Sequence[Any], dimension: int) -> Any:
    """Join arrays along an axis.

    References:
        jax.lax.concatenate
    """
    return manipulation.concatenate(operands, dimension)


@moves
def stack(operands: Sequence[Any], axis: int = 0) -> Any:
    """Join arrays along a new axis.

    References:
        jax.lax.stack
    """
    return manipulation.stack(operands, axis)


@moves
def unstack(x: Any, axis: int = 0) -> tuple[Any, ...]:
    """Split an array into those along an axis.

    References:
        jax.lax.unstack
    """
    return manipulation.unstack(x, axis=axis)


@moves
def tile(operand: Any, reps: Sequence[int]) -> Any:
    """Repeat an array along its axes, as often as ``reps`` says for each.

    References:
        jax.lax.tile
    """
    x = to_array(operand, "tile", "operand")
    if len(reps) != x.ndim:
        raise ValueError(
            f"lax.tile: reps {tuple(reps)} must have one entry per axis of {describe(x)}"
        )
    return manipulation.tile(x, reps)


@moves
def split(operand: Any, sizes: Sequence[int], axis: int = 0) -> Sequence[Any]:
    """Split an axis into parts of given sizes.

    References:
        jax.lax.split
    """
    cuts = np.cumsum(np.asarray(sizes))[:-1]
    return manipulation.split(operand, [int(c) for c in cuts], axis)


def pad(operand: Any, padding_value: Any, padding_config: Sequence[tuple[int, int, int]]) -> Any:
    """Add elements around an axis and between its elements: (low, high, interior) per axis; low and
    high may be negative.

    References:
        jax.lax.pad
    """
    x = to_array(operand, "pad", "operand")
    lo, hi, interior = (
        tuple(static_int(c[k], "pad: padding_config") for c in padding_config) for k in range(3)
    )
    value = convert(to_array(padding_value, "pad", "padding_value"), x.dtype)
    return primitives["pad"].bind(x, value, lo=lo, hi=hi, interior=interior)


@divisible("sharding")
def full(shape: Any, fill_value: Any, dtype: Any = None, *, sharding: Any = None) -> Any:
    """Make an array of one value.

    References:
        jax.lax.full
    """
    return spread_to(asarray(fill_value, dtype), canonical_shape(shape, "full"))


@divisible("sharding")
def full_like(
    x: Any, fill_value: Any, dtype: Any = None, shape: Any = None, *, sharding: Any = None
) -> Any:
    """Make an array of one value with the shape and dtype of another.

    References:
        jax.lax.full_like
    """
    x = to_array(x, "full_like")
    return full(
        x.shape if shape is None else shape, fill_value, x.dtype if dtype is None else dtype
    )


@divisible()
def empty(shape: Any, dtype: Any, *, out_sharding: Any = None) -> Any:
    """Make an array of zeros: arrays never change, so unset values would serve nobody.

    References:
        jax.lax.empty
    """
    return full(shape, 0, dtype)


def broadcast_like(arr: Any, like_arr: Any) -> Any:
    """Broadcast an array to the shape of another.

    References:
        jax.lax.broadcast_like
    """
    shape = to_array(like_arr, "broadcast_like", "like_arr").shape
    return broadcast_to(to_array(arr, "broadcast_like", "arr"), shape)


def zeros_like_array(x: Any) -> Any:
    """Make zeros with the shape and dtype of an array.

    References:
        jax.lax.zeros_like_array
    """
    return full_like(x, 0)


def iota(dtype: Any, size: int) -> Any:
    """Make the vector 0, 1, 2 ...

    Example:
        >>> iota("int32", 3)
        Array([0, 1, 2], dtype=int32)

    References:
        jax.lax.iota
    """
    return broadcasted_iota(dtype, (size,), 0)


@divisible()
def broadcasted_iota(
    dtype: Any, shape: Sequence[int], dimension: int, *, out_sharding: Any = None
) -> Any:
    """Make an array that counts along one axis.

    References:
        jax.lax.broadcasted_iota
    """
    sizes = canonical_shape(shape, "broadcasted_iota")
    return primitives["iota"].bind(
        shape=sizes,
        axis=canonical_axis(dimension, len(sizes), "broadcasted_iota"),
        dtype=dtypes.canonical(dtype),
    )
