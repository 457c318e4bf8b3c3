"""Functions that move elements: reshape, transpose, join, split, repeat."""

from __future__ import annotations

import builtins
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Array, Tracer, concrete_or_error, primitives
from funtorch.errors import MismatchError
from funtorch.numpy import straight
from funtorch.numpy.direct import LARGE, direct, sequence
from funtorch.numpy.places import divisible
from funtorch.numpy.promotion import (
    asarray,
    broadcast_to,
    canonical_axes,
    canonical_axis,
    canonical_shape,
    convert,
    describe,
    moves,
    no_out,
    promote,
    shape_of,
    static_int,
    to_array,
)

# fmt: off
__all__ = [
    "append", "array_split", "atleast_1d", "atleast_2d", "atleast_3d", "block", "column_stack",
    "concat", "concatenate", "dsplit", "dstack", "expand_dims", "flip", "fliplr", "flipud",
    "hsplit", "hstack", "matrix_transpose", "moveaxis", "ndim", "permute_dims", "ravel",
    "repeat", "reshape", "resize", "roll", "rollaxis", "rot90", "shape", "size", "split",
    "squeeze", "stack", "swapaxes", "tile", "transpose", "unstack", "vsplit", "vstack",
]
# fmt: on


# -------------------------------------------------------------------------------------------- facts
def shape(a: Any) -> tuple[int, ...]:
    """Return the shape of an array.

    References:
        numpy.shape
    """
    return shape_of(a)


def ndim(a: Any) -> int:
    """Return the number of axes of an array.

    References:
        numpy.ndim
    """
    return len(shape_of(a))


def size(a: Any, axis: Any = None) -> int:
    """Return the number of elements, of the whole array or along an axis or several.

    References:
        numpy.size
    """
    sizes = shape_of(a)
    axes = range(len(sizes)) if axis is None else canonical_axes(axis, len(sizes), "size")
    return math.prod(sizes[k] for k in axes)


# ---------------------------------------------------------------------------------------- one array
@direct(straight.reshape)
@moves
@divisible()
def reshape(
    a: Any, shape: Any, order: str = "C", *, copy: bool | None = None, out_sharding: Any = None
) -> Any:
    """Give an array another shape with the same elements.

    Args:
        a: array.
        shape: int or sequence of ints; one -1 is worked out.
        order: 'C' (last axis fastest) or 'F'.
        out_sharding: how the result is divided over a mesh.

    Raises:
        ValueError: the sizes differ.

    Example:
        >>> reshape(asarray([1, 2, 3, 4]), (2, -1))
        Array([[1, 2],
               [3, 4]], dtype=int32)

    References:
        numpy.reshape
    """
    x = to_array(a, "reshape", "a")
    many = isinstance(shape, (tuple, list)) or getattr(shape, "ndim", None)
    sizes = shape if many else (shape,)
    sizes = tuple(static_int(n, "reshape: a size in shape") for n in sizes)
    if -1 in sizes:
        known = math.prod(n for n in sizes if n != -1)
        if sizes.count(-1) > 1 or not known or x.size % known:
            raise MismatchError(
                f"reshape: {describe(x)} of size {x.size} does not fit into shape {sizes}"
            )
        sizes = tuple(x.size // known if n == -1 else n for n in sizes)
    if sizes == x.shape:
        return x
    if any(n < 0 for n in sizes) or math.prod(sizes) != x.size:
        raise MismatchError(
            f"reshape: {describe(x)} of size {x.size} does not fit into shape {sizes} of size "
            f"{math.prod(sizes)}"
        )
    if order == "F":
        return transpose(primitives["reshape"].bind(transpose(x), shape=sizes[::-1]))
    if order not in ("C", "A", "K"):
        raise ValueError(f"reshape: order must be 'C' or 'F', got {order!r}")
    return primitives["reshape"].bind(x, shape=sizes)


@direct(np.ndarray.ravel)
@moves
def ravel(a: Any, order: str = "C", *, out_sharding: Any = None) -> Any:
    """Flatten an array.

    References:
        numpy.ravel
    """
    return reshape(a, (-1,), order, out_sharding=out_sharding)


@direct(np.ndarray.transpose)
@moves
def transpose(a: Any, axes: Sequence[int] | None = None) -> Any:
    """Permute the axes of an array; None reverses them.

    Example:
        >>> transpose(asarray([[1, 2], [3, 4]]))
        Array([[1, 3],
               [2, 4]], dtype=int32)

    References:
        numpy.transpose
    """
    x = to_array(a, "transpose", "a")
    if axes is None:
        perm = tuple(range(x.ndim))[::-1]
    else:
        perm = tuple(canonical_axis(k, x.ndim, "transpose") for k in axes)
        if sorted(perm) != list(range(x.ndim)):
            raise MismatchError(
                f"transpose: axes {tuple(axes)} is no permutation of the axes of {describe(x)}"
            )
    if perm == tuple(range(x.ndim)):
        return x
    return primitives["transpose"].bind(x, perm=perm)


permute_dims = transpose


def matrix_transpose(x: Any, /) -> Any:
    """Exchange the last two axes.

    References:
        numpy.matrix_transpose
    """
    x = to_array(x, "matrix_transpose")
    if x.ndim < 2:
        raise ValueError(f"matrix_transpose: at least 2 axes are required, got shape {x.shape}")
    return swapaxes(x, -1, -2)


@direct(np.ndarray.swapaxes)
@moves
def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    """Exchange two axes.

    References:
        numpy.swapaxes
    """
    x = to_array(a, "swapaxes", "a")
    i, j = (canonical_axis(k, x.ndim, "swapaxes") for k in (axis1, axis2))
    perm = list(range(x.ndim))
    perm[i], perm[j] = perm[j], perm[i]
    return transpose(x, perm)


@direct(np.moveaxis)
@moves
def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    """Move axes to other positions; the others keep their order.

    References:
        numpy.moveaxis
    """
    x = to_array(a, "moveaxis", "a")
    both = [k if isinstance(k, (tuple, list)) else (k,) for k in (source, destination)]
    sources, targets = ([canonical_axis(k, x.ndim, "moveaxis") for k in ks] for ks in both)
    if (
        len(sources) != len(targets)
        or len(set(sources)) != len(sources)
        or len(set(targets)) != len(targets)
    ):
        raise ValueError(
            f"moveaxis: source {source} and destination {destination} must name as many axes, once"
        )
    perm = [k for k in range(x.ndim) if k not in sources]
    for target, k in sorted(zip(targets, sources, strict=True)):
        perm.insert(target, k)
    return transpose(x, perm)


def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    """Move an axis backwards until it lies at a position.

    References:
        numpy.rollaxis
    """
    x = to_array(a, "rollaxis", "a")
    k = canonical_axis(axis, x.ndim, "rollaxis")
    target = start + x.ndim if start < 0 else start
    return moveaxis(x, k, target - 1 if k < target else target)


@direct(np.expand_dims)
@moves
def expand_dims(a: Any, axis: Any) -> Any:
    """Insert axes of size 1 at the positions ``axis`` of the result.

    References:
        numpy.expand_dims
    """
    x = to_array(a, "expand_dims", "a")
    count = len(axis) if isinstance(axis, (tuple, list, range)) else 1
    axes = canonical_axes(axis, x.ndim + count, "expand_dims")
    sizes = iter(x.shape)
    return reshape(x, tuple(1 if k in axes else next(sizes) for k in range(x.ndim + count)))


@direct(np.ndarray.squeeze)
@moves
def squeeze(a: Any, axis: Any = None) -> Any:
    """Remove axes of size 1: those named, or all.

    References:
        numpy.squeeze
    """
    x = to_array(a, "squeeze", "a")
    if axis is None:
        return reshape(x, tuple(n for n in x.shape if n != 1))
    axes = canonical_axes(axis, x.ndim, "squeeze")
    if any(x.shape[k] != 1 for k in axes):
        raise ValueError(f"squeeze: axis {axis} of {describe(x)} does not have size 1")
    return reshape(x, tuple(n for k, n in enumerate(x.shape) if k not in axes))


@direct(np.flip)
@moves
def flip(m: Any, axis: Any = None) -> Any:
    """Reverse the order along axes; None means all.

    References:
        numpy.flip
    """
    x = to_array(m, "flip", "m")
    axes = canonical_axes(axis, x.ndim, "flip")
    return primitives["rev"].bind(x, axes=axes) if axes else x


def fliplr(m: Any) -> Any:
    """Reverse axis 1.

    References:
        numpy.fliplr
    """
    return flip(m, 1)


def flipud(m: Any) -> Any:
    """Reverse axis 0.

    References:
        numpy.flipud
    """
    return flip(m, 0)


def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    """Rotate by k quarter turns in the plane of two axes.

    References:
        numpy.rot90
    """
    x = to_array(m, "rot90", "m")
    i, j = (canonical_axis(axis, x.ndim, "rot90") for axis in axes)
    if i == j:
        raise ValueError(f"rot90: axes {axes} must differ")
    turns = static_int(k, "rot90: k") % 4
    if turns == 0:
        return x
    if turns == 2:
        return flip(x, (i, j))
    return swapaxes(flip(x, j), i, j) if turns == 1 else flip(swapaxes(x, i, j), j)


@direct(np.roll, large=LARGE)
@moves
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    """Shift elements along axes; what falls off one end comes in at the other.

    Args:
        a: array.
        shift: int or one int per axis, known while tracing.
        axis: axes; None rolls the flattened array.

    References:
        numpy.roll
    """
    x = to_array(a, "roll", "a")
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), x.shape)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,) * len(axes)
    if len(shifts) == 1:
        shifts = tuple(shifts) * len(axes)
    if len(axes) == 1:
        axes = tuple(axes) * len(shifts)
    if len(axes) != len(shifts):
        raise MismatchError(f"roll: {len(shifts)} shifts were given for {len(axes)} axes")
    for s, k in zip(shifts, axes, strict=True):
        k = canonical_axis(k, x.ndim, "roll")
        n = x.shape[k]
        if isinstance(s, Array) and s.ndim == 0:
            indices = (np.arange(n, dtype=np.int32) - s) % builtins.max(n, 1)
            x = x[(slice(None),) * k + (indices,)]
            continue
        cut = n - static_int(s, "roll: shift") % n if n else 0
        if cut not in (0, n):
            x = concatenate([slice_axis(x, k, cut, n), slice_axis(x, k, 0, cut)], k)
    return x


def slice_axis(x: Any, axis: int, start: int, stop: int, step: int = 1) -> Any:
    """Take a static range of one axis of an Array."""
    starts, stops, steps = [0] * x.ndim, list(x.shape), [1] * x.ndim
    starts[axis], stops[axis], steps[axis] = start, stop, step
    return primitives["slice"].bind(x, start=tuple(starts), limit=tuple(stops), stride=tuple(steps))


def _at_least(name: str, rank: int) -> Any:
    def function(*arys: Any) -> Any:
        out = []
        for k, a in enumerate(arys):
            x = to_array(a, name, f"arys[{k}]")
            sizes = x.shape
            if rank == 3 and x.ndim in (1, 2):
                sizes = (1, *sizes, 1)[-3:] if x.ndim == 1 else (*sizes, 1)
            out.append(reshape(x, (1,) * (rank - len(sizes)) + sizes))
        return out[0] if len(out) == 1 else out

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"Give arrays at least {rank} axes.\n\n    References:\n        numpy.{name}\n    "
    )
    return function


atleast_1d = _at_least("atleast_1d", 1)
atleast_2d = _at_least("atleast_2d", 2)
atleast_3d = _at_least("atleast_3d", 3)


# ------------------------------------------------------------------------------------------ joining
def _sequence(arrays: Any, name: str) -> list[Any]:
    if isinstance(arrays, (Array, np.ndarray)):
        arrays = list(asarray(arrays))
    if not isinstance(arrays, (list, tuple)):
        raise TypeError(f"{name}: a sequence of arrays is required, got {type(arrays).__name__}")
    if not arrays:
        raise ValueError(f"{name}: at least one array is required")
    out = []
    for k, a in enumerate(arrays):
        if isinstance(a, (list, tuple)):
            a = asarray(a)
        out.append(to_array(a, name, f"arrays[{k}]"))
    return out


@direct(np.concatenate, take=sequence)
@moves
def concatenate(arrays: Any, axis: int | None = 0, dtype: Any = None) -> Any:
    """Join arrays along an existing axis.

    Args:
        arrays: sequence of arrays of equal shape but for that axis.
        axis: the axis; None joins the flattened arrays.
        dtype: dtype of the result; None promotes.

    Raises:
        ValueError: a shape does not fit; the message names its position.

    Example:
        >>> concatenate([asarray([1, 2]), asarray([3.0])])
        Array([1., 2., 3.], dtype=float32)

    References:
        numpy.concatenate
    """
    xs = _sequence(arrays, "concatenate")
    if axis is None:
        xs, axis = [ravel(x) for x in xs], 0
    if xs[0].ndim == 0:
        raise ValueError("concatenate: arrays of rank 0 cannot be joined: use stack")
    k = canonical_axis(axis, xs[0].ndim, "concatenate")
    first = xs[0].shape
    for i, x in enumerate(xs):
        if x.ndim != len(first) or x.shape[:k] != first[:k] or x.shape[k + 1 :] != first[k + 1 :]:
            raise MismatchError(
                f"concatenate: sizes must agree on every axis but axis {k}: arrays[0] is "
                f"{describe(xs[0])}, "
                f"arrays[{i}] is {describe(x)}"
            )
    xs = (
        promote("concatenate", *xs)
        if dtype is None
        else [convert(x, dtypes.canonical(dtype)) for x in xs]
    )
    return primitives["concatenate"].bind(*xs, axis=k) if len(xs) > 1 else xs[0]


concat = concatenate


@direct(straight.stack, take=sequence)
@moves
def stack(arrays: Any, axis: int = 0, out: None = None, dtype: Any = None) -> Any:
    """Join arrays of one shape along a new axis.

    Example:
        >>> stack([asarray([1, 2]), asarray([3, 4])])
        Array([[1, 2],
               [3, 4]], dtype=int32)

    References:
        numpy.stack
    """
    no_out(out, "stack")
    xs = promote("stack", *_sequence(arrays, "stack"))
    for i, x in enumerate(xs):
        if x.shape != xs[0].shape:
            raise ValueError(
                f"stack: all arrays must have one shape: arrays[0] is {describe(xs[0])}, "
                f"arrays[{i}] is "
                f"{describe(x)}"
            )
    k = canonical_axis(axis, xs[0].ndim + 1, "stack")
    return concatenate([expand_dims(x, k) for x in xs], k, dtype)


@moves
def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """Split an array into the slices along an axis.

    References:
        numpy.unstack
    """
    return tuple(moveaxis(x, axis, 0))


@direct(np.vstack, take=sequence)
@moves
def vstack(tup: Any, dtype: Any = None) -> Any:
    """Join arrays as rows.

    References:
        numpy.vstack
    """
    return concatenate([atleast_2d(x) for x in _sequence(tup, "vstack")], 0, dtype)


@direct(np.hstack, take=sequence)
@moves
def hstack(tup: Any, dtype: Any = None) -> Any:
    """Join arrays along axis 1; vectors along axis 0.

    References:
        numpy.hstack
    """
    xs = [atleast_1d(x) for x in _sequence(tup, "hstack")]
    return concatenate(xs, 0 if xs[0].ndim == 1 else 1, dtype)


@direct(np.dstack, take=sequence)
@moves
def dstack(tup: Any, dtype: Any = None) -> Any:
    """Join arrays along axis 2.

    References:
        numpy.dstack
    """
    return concatenate([atleast_3d(x) for x in _sequence(tup, "dstack")], 2, dtype)


@direct(np.column_stack, take=sequence)
def column_stack(tup: Any) -> Any:
    """Join vectors as the columns of a matrix.

    References:
        numpy.column_stack
    """
    xs = _sequence(tup, "column_stack")
    return concatenate([reshape(x, (-1, 1)) if x.ndim < 2 else x for x in xs], 1)


def block(arrays: Any) -> Any:
    """Assemble an array from nested lists of blocks.

    References:
        numpy.block
    """

    def depth(node: Any) -> int:
        if not isinstance(node, list):
            return 0
        inner = {depth(item) for item in node}
        if len(inner) != 1:
            what = "mismatched list depths" if inner else "an empty list"
            raise ValueError(f"block: {what} in arrays: nest lists of arrays equally deep")
        return 1 + inner.pop()

    def build(node: Any, level: int, rank: int) -> Any:
        if not isinstance(node, list):
            x = to_array(node, "block", "arrays")
            return reshape(x, (1,) * (rank - x.ndim) + x.shape)
        parts = [build(item, level + 1, rank) for item in node]
        return concatenate(parts, level - levels)

    def ranks(node: Any) -> int:
        return builtins.max(map(ranks, node)) if isinstance(node, list) else ndim(node)

    levels = depth(arrays)
    return build(arrays, 0, builtins.max(levels, ranks(arrays)))


@moves
def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    """Join values to the end of an array; None flattens both.

    References:
        numpy.append
    """
    return concatenate(promote("append", to_array(arr, "append", "arr"), asarray(values)), axis)


# ---------------------------------------------------------------------------------------- splitting
def _bounds(n: int, sections: Any, name: str, exact: bool) -> list[int]:
    if isinstance(sections, (list, tuple)) or np.ndim(sections):
        cuts = [static_int(c, f"{name}: an index") for c in list(sections)]
        inner = [builtins.min(builtins.max(c + n if c < 0 else c, 0), n) for c in cuts]
        return [0, *inner, n]
    count = static_int(sections, f"{name}: indices_or_sections")
    if count <= 0:
        raise ValueError(f"{name}: the number of sections must be positive, got {count}")
    if exact and n % count:
        raise ValueError(
            f"{name}: an axis of size {n} has no {count} equal sections; array_split allows others"
        )
    each, more = divmod(n, count)
    return [k * each + builtins.min(k, more) for k in range(count + 1)]


def _split(ary: Any, sections: Any, axis: int, name: str, exact: bool) -> list[Any]:
    x = to_array(ary, name, "ary")
    k = canonical_axis(axis, x.ndim, name)
    cuts = _bounds(x.shape[k], sections, name, exact)
    sizes = tuple(b - a for a, b in itertools.pairwise(cuts))
    if builtins.min(sizes) >= 0:
        return primitives["split"].bind(x, axis=k, sizes=sizes)
    return [slice_axis(x, k, a, builtins.max(a, b)) for a, b in itertools.pairwise(cuts)]


@moves
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Split an array along an axis into equal sections, or at indices.

    References:
        numpy.split
    """
    return _split(ary, indices_or_sections, axis, "split", True)


@moves
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Split an array into sections of nearly equal size.

    References:
        numpy.array_split
    """
    return _split(ary, indices_or_sections, axis, "array_split", False)


def vsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Split along axis 0.

    References:
        numpy.vsplit
    """
    return split(ary, indices_or_sections, 0)


def hsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Split along axis 1; a vector along axis 0.

    References:
        numpy.hsplit
    """
    return split(ary, indices_or_sections, 0 if ndim(ary) == 1 else 1)


def dsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Split along axis 2.

    References:
        numpy.dsplit
    """
    return split(ary, indices_or_sections, 2)


# ---------------------------------------------------------------------------------------- repeating
@direct(np.tile)
@moves
def tile(A: Any, reps: Any) -> Any:
    """Repeat an array as a whole along axes.

    References:
        numpy.tile
    """
    x = to_array(A, "tile", "A")
    counts = canonical_shape(reps, "tile")
    rank = builtins.max(len(counts), x.ndim)
    counts = (1,) * (rank - len(counts)) + counts
    sizes = (1,) * (rank - x.ndim) + x.shape
    paired = [n for pair in zip(counts, sizes, strict=True) for n in pair]
    inner = [n for size in sizes for n in (1, size)]
    out = broadcast_to(reshape(x, tuple(inner)), tuple(paired))
    return reshape(out, tuple(c * n for c, n in zip(counts, sizes, strict=True)))


@direct(np.ndarray.repeat)
@moves
def repeat(
    a: Any, repeats: Any, axis: int | None = None, *, total_repeat_length: int | None = None
) -> Any:
    """Repeat each element.

    Args:
        a: array.
        repeats: int, or one int per element of the axis; known while tracing, unless
            ``total_repeat_length`` is given.
        axis: the axis; None flattens.
        total_repeat_length: size of the result where it must be fixed; the last element fills up.

    References:
        numpy.repeat
    """
    x = to_array(a, "repeat", "a")
    if axis is None:
        x, axis = ravel(x), 0
    k = canonical_axis(axis, x.ndim, "repeat")
    if isinstance(repeats, Tracer) and repeats.concrete() is None and total_repeat_length:
        indices = _repeated(repeats, x.shape[k], total_repeat_length)
        return x[(slice(None),) * k + (indices,)]
    counts = np.asarray(concrete_or_error(repeats, "the argument repeats of repeat"))
    if counts.ndim == 0 and total_repeat_length is None:
        n = int(counts)
        grown = broadcast_to(expand_dims(x, k + 1), (*x.shape[: k + 1], n, *x.shape[k + 1 :]))
        return reshape(grown, (*x.shape[:k], x.shape[k] * n, *x.shape[k + 1 :]))
    indices = np.repeat(np.arange(x.shape[k]), counts)
    if total_repeat_length is not None:
        short = builtins.max(total_repeat_length - indices.size, 0)
        indices = np.pad(indices, (0, short), mode="edge")[:total_repeat_length]
    return x[(slice(None),) * k + (indices,)]


def _repeated(repeats: Any, n: int, total: int) -> Any:
    """Return which of n elements, each repeated as traced numbers say, stand at total places."""
    counts = convert(broadcast_to(repeats, (n,)), dtypes.int32)
    running = functools.partial(primitives["cumsum"].bind, axis=0, reverse=False)
    starts = running(counts) - counts
    zero, one = (asarray(k, dtypes.int32) for k in (0, 1))
    places = broadcast_to(zero, (total,)), broadcast_to(one, (n,)), starts
    marks = primitives["scatter_add"].bind(*places, axes=(0,), mode="drop", unique=False)
    return running(marks) - 1


def resize(a: Any, new_shape: Any) -> Any:
    """Fill a shape with repeated copies of an array.

    References:
        numpy.resize
    """
    x = ravel(to_array(a, "resize", "a"))
    sizes = canonical_shape(new_shape, "resize")
    total = int(np.prod(sizes, dtype=np.int64))
    if not x.size and total:
        return broadcast_to(asarray(0, x.dtype), sizes)
    return reshape(tile(x, -(-total // builtins.max(x.size, 1)))[:total], sizes)
