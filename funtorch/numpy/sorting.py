"""Sorting, searching, choosing and editing.

Results whose size depends on the values need known values, or ``size=`` to fix it inside
transforms.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl, Tracer, concrete_or_error, primitives
from funtorch.numpy import elementwise
from funtorch.numpy.creation import arange, zeros
from funtorch.numpy.direct import NUMBERS, SORTED, compiled_from, direct
from funtorch.numpy.elementwise import add, isnan, logical_and, not_equal, subtract
from funtorch.numpy.indexing import AtView, take
from funtorch.numpy.manipulation import concatenate, flip, moveaxis, ravel, reshape, stack
from funtorch.numpy.promotion import (
    asarray,
    broadcast_to,
    canonical_axis,
    convert,
    describe,
    moves,
    no_out,
    promote,
    static_int,
    to_array,
    to_arrays,
)
from funtorch.numpy.reductions import cumsum
from funtorch.ops.sort import stable_order

__all__ = [
    "argsort",
    "argwhere",
    "compress",
    "delete",
    "extract",
    "flatnonzero",
    "insert",
    "lexsort",
    "nonzero",
    "partition",
    "searchsorted",
    "sort",
    "where",
]


# ------------------------------------------------------------------------------------------ sorting
def _straight_sort(
    x: np.ndarray, axis: Any = -1, *, stable: Any = True, descending: Any = False
) -> Any:
    if descending:
        raise TypeError("NumPy sorts upwards only")
    return primitives["sort"].eager(np, x, axis=operator.index(axis), num_keys=1)[0]


@direct(_straight_sort, NUMBERS, large=SORTED)
def sort(
    a: Any,
    axis: int | None = -1,
    *,
    kind: None = None,
    order: None = None,
    stable: bool = True,
    descending: bool = False,
) -> Any:
    """Sort along an axis; nan comes last.

    Args:
        a: array.
        axis: the axis; None sorts the flattened array.
        stable: sorting is always stable.
        descending: reverse the order.

    Example:
        >>> sort(asarray([3, 1, 2]))
        Array([1, 2, 3], dtype=int32)

    References:
        numpy.sort
    """
    x = to_array(a, "sort", "a")
    _no_order(order, "sort")
    if axis is None:
        x, axis = ravel(x), 0
    k = canonical_axis(axis, x.ndim, "sort")
    (out,) = primitives["sort"].bind(x, axis=k, num_keys=1)
    return flip(out, k) if descending else out


def _straight_argsort(
    x: np.ndarray, axis: Any = -1, *, stable: Any = True, descending: Any = False
) -> Any:
    if descending:
        raise TypeError("NumPy sorts upwards only")
    return stable_order(np, x, operator.index(axis)).astype(dtypes.default_int())


@direct(_straight_argsort, NUMBERS, large=SORTED)
def argsort(
    a: Any,
    axis: int | None = -1,
    *,
    kind: None = None,
    order: None = None,
    stable: bool = True,
    descending: bool = False,
    dtype: Any = None,
) -> Any:
    """Return the indices that sort along an axis; arguments as for `sort`.

    Args:
        dtype: dtype of the result; None gives the default int.

    References:
        numpy.argsort
    """
    x = to_array(a, "argsort", "a")
    _no_order(order, "argsort")
    if axis is None:
        x, axis = ravel(x), 0
    k = canonical_axis(axis, x.ndim, "argsort")
    if descending:
        # Sorting the mirror image backwards keeps equal elements in order.
        order = subtract(x.shape[k] - 1, flip(argsort(flip(x, k), k), k))
    else:
        order = lexicographic([x], k)
    return order if dtype is None else convert(order, dtypes.canonical(dtype))


def lexicographic(keys: Sequence[Any], axis: int) -> Any:
    """Return the indices that sort by several keys, the first one most important."""
    shape = keys[0].shape
    inner = [1] * len(shape)
    inner[axis] = shape[axis]
    positions = broadcast_to(
        reshape(arange(shape[axis], dtype=dtypes.default_int()), tuple(inner)), shape
    )
    return primitives["sort"].bind(*keys, positions, axis=axis, num_keys=len(keys))[-1]


def lexsort(keys: Any, axis: int = -1) -> Any:
    """Return the indices that sort by several keys, the last one most important.

    References:
        numpy.lexsort
    """
    arrays = [to_array(key, "lexsort", f"keys[{k}]") for k, key in enumerate(keys)]
    if not arrays:
        raise TypeError("lexsort: at least one key is required")
    if not arrays[0].ndim and axis in (-1, 0):
        return asarray(0, dtypes.default_int())
    return lexicographic(arrays[::-1], canonical_axis(axis, arrays[0].ndim, "lexsort"))


def _no_order(order: Any, name: str) -> None:
    if order is not None:
        raise ValueError(f"{name}: order={order!r} names fields, which arrays here do not have")


def partition(a: Any, kth: int, axis: int = -1) -> Any:
    """Order so that element ``kth`` is where sorting puts it; here, sort.

    References:
        numpy.partition
    """
    x = to_array(a, "partition", "a")
    canonical_axis(kth, x.shape[canonical_axis(axis, x.ndim, "partition")], "partition (kth)")
    return sort(x, axis)


@compiled_from(SORTED, repeats=False)
def searchsorted(
    a: Any, v: Any, side: str = "left", sorter: Any = None, *, method: str = "scan"
) -> Any:
    """Find where values would have to be inserted to keep a vector sorted.

    Args:
        a: sorted vector.
        v: array of values.
        side: 'left' for the first such place, 'right' for the last.
        sorter: indices that sort ``a``.
        method: accepted for JAX's sake.

    Example:
        >>> searchsorted(asarray([1, 2, 4]), asarray([2, 5]))
        Array([1, 3], dtype=int32)

    References:
        numpy.searchsorted
    """
    if side not in ("left", "right"):
        raise ValueError(f"searchsorted: side must be 'left' or 'right', got {side!r}")
    if method not in ("scan", "scan_unrolled", "sort", "compare_all"):
        raise ValueError(
            f"searchsorted: invalid argument method={method!r}, expected one of 'scan', "
            "'scan_unrolled', 'sort', 'compare_all'"
        )
    x, v = promote("searchsorted", *to_arrays("searchsorted", a=a, v=v))
    if x.ndim != 1:
        raise ValueError(f"searchsorted: a must be a vector, got {describe(x)}")
    if sorter is not None:
        x = x[sorter]
    if type(x) is ArrayImpl and type(v) is ArrayImpl:
        found = np.searchsorted(x._data, v._data, side)  # type: ignore[call-overload]
        return ArrayImpl(np.asarray(found).astype(dtypes.default_int()))
    n = x.shape[0]
    # Binary search on all values at once, by steps that halve. nan is the greatest number.
    found = zeros(v.shape, dtypes.int32 if n < 1 << 31 else dtypes.int64)
    step = 1 << n.bit_length() >> 1
    while step:
        further = add(found, step)
        there = take(x, subtract(further, 1), mode="clip")
        if side == "left":
            before = elementwise.less(there, v)
            after = logical_and(isnan(v), elementwise.logical_not(isnan(there)))
        else:
            before, after = elementwise.less_equal(there, v), isnan(v)
        if dtypes.is_inexact(v.dtype):
            before = elementwise.logical_or(before, after)
        before = logical_and(before, elementwise.less_equal(further, n))
        found = elementwise.where(before, further, found)
        step >>= 1
    return convert(found, dtypes.default_int())


# ------------------------------------------------------------------------------------------ finding
def _known(x: Any, function: str) -> Any:
    return concrete_or_error(
        x, f"the size of the result of {function}, which depends on values (give size= to fix it),"
    )


def nonzero(a: Any, *, size: int | None = None, fill_value: Any = None) -> tuple[Any, ...]:
    """Return the indices of the elements that are not zero, one array per axis.

    Args:
        a: array.
        size: number of indices to return; needed inside transforms, where values are not known.
        fill_value: index used where fewer are found (default 0); a number, or one per axis.

    Example:
        >>> nonzero(asarray([0, 5, 7]))
        (Array([1, 2], dtype=int32),)

    References:
        numpy.nonzero
    """
    x = to_array(a, "nonzero", "a")
    if x.ndim == 0:
        raise ValueError("nonzero: an array with at least 1 axis is required; use atleast_1d(x)")
    dtype = dtypes.default_int()
    if size is None:
        return tuple(ArrayImpl(i.astype(dtype)) for i in np.nonzero(_known(x, "nonzero")))
    size = static_int(size, "nonzero: size")
    if size < 0:
        raise ValueError(f"nonzero: size must not be negative, got {size}")
    fills = fill_value if isinstance(fill_value, (tuple, list)) else (fill_value,) * x.ndim
    mask = ravel(not_equal(x, 0))
    if not mask.shape[0] or not size:
        return tuple(broadcast_to(asarray(fill or 0, dtype), (size,)) for fill in fills)
    # Element number k that is not zero is the first at which k + 1 of them were seen.
    seen = cumsum(convert(mask, dtypes.int32), 0)
    flat = searchsorted(seen, arange(1, size + 1, dtype=dtypes.int32))
    found = elementwise.less(arange(size, dtype=dtypes.int32), seen[-1])
    out = []
    rest = flat
    for n in reversed(x.shape):
        out.append(elementwise.remainder(rest, n))
        rest = elementwise.floor_divide(rest, n)
    return tuple(
        convert(elementwise.where(found, i, 0 if fill is None else fill), dtype)
        for i, fill in zip(reversed(out), fills, strict=True)
    )


def flatnonzero(a: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Return the indices of the nonzero elements of the flattened array.

    References:
        numpy.flatnonzero
    """
    return nonzero(ravel(to_array(a, "flatnonzero", "a")), size=size, fill_value=fill_value)[0]


def argwhere(a: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Return the indices of the nonzero elements as rows.

    References:
        numpy.argwhere
    """
    x = to_array(a, "argwhere", "a")
    if x.ndim == 0:
        found = nonzero(reshape(x, (1,)), size=size, fill_value=fill_value)[0]
        return zeros((found.shape[0], 0), found.dtype)
    return stack(nonzero(x, size=size, fill_value=fill_value), -1)


@moves
def where(
    condition: Any,
    x: Any = None,
    y: Any = None,
    /,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Choose from ``x`` where the condition holds, else from ``y``.

    Args:
        condition: array of any dtype; nonzero counts as true.
        x, y: arrays or numbers; the three broadcast. Without both, the result is
            ``nonzero(condition)``.
        size, fill_value: as in `nonzero`; only without x and y.

    Returns:
        An Array of the common dtype of x and y.

    Raises:
        ValueError: only one of x and y is given, or the shapes do not broadcast.

    Example:
        >>> where(asarray([True, False]), 1.0, asarray([5.0, 6.0]))
        Array([1., 6.], dtype=float32)

    References:
        numpy.where
    """
    if x is None and y is None:
        return nonzero(condition, size=size, fill_value=fill_value)
    if x is None or y is None:
        raise ValueError("where: give both x and y, or neither")
    if size is not None or fill_value is not None:
        raise ValueError(
            "where: size and fill_value are only for the form with the condition alone"
        )
    return elementwise.where(condition, x, y)


def extract(condition: Any, arr: Any, *, size: int | None = None, fill_value: Any = 0) -> Any:
    """Return the elements of the flattened array where the condition holds.

    References:
        numpy.extract
    """
    return compress(
        ravel(to_array(condition, "extract", "condition")), arr, size=size, fill_value=fill_value
    )


def compress(
    condition: Any,
    a: Any,
    axis: int | None = None,
    *,
    size: int | None = None,
    fill_value: Any = 0,
    out: None = None,
) -> Any:
    """Take the slices along an axis where the condition holds; None flattens.

    References:
        numpy.compress
    """
    no_out(out, "compress")
    x, mask = to_array(a, "compress", "a"), asarray(condition)
    if mask.ndim != 1:
        raise ValueError(f"compress: condition must be a 1D array, got {describe(mask)}")
    if axis is None:
        x, axis = ravel(x), 0
    k = canonical_axis(axis, x.ndim, "compress")
    indices = flatnonzero(mask, size=size, fill_value=x.shape[k])
    view = AtView(x, (slice(None),) * k + (indices,))
    return view.get() if size is None else view.get(mode="fill", fill_value=fill_value)


# ------------------------------------------------------------------------------------------ editing
def delete(
    arr: Any, obj: Any, axis: int | None = None, *, assume_unique_indices: bool = False
) -> Any:
    """Return a copy without the slices at given positions of an axis.

    Args:
        arr: array.
        obj: int, slice or integers: positions, known while tracing unless they are unique.
        axis: the axis; None flattens.
        assume_unique_indices: whether to trust that no position comes twice.

    References:
        numpy.delete
    """
    x = to_array(arr, "delete", "arr")
    if axis is None:
        x, axis = ravel(x), 0
    k = canonical_axis(axis, x.ndim, "delete")
    if assume_unique_indices and isinstance(obj, Tracer) and obj.concrete() is None:
        gone = zeros((x.shape[k],), dtypes.bool_).at[ravel(obj)].set(True)
        kept = argsort(gone, stable=True)[: x.shape[k] - obj.size]
        return x[(slice(None),) * k + (kept,)]
    where_ = (
        obj
        if isinstance(obj, slice)
        else np.asarray(concrete_or_error(obj, "the argument obj of delete"))
    )
    kept = np.delete(np.arange(x.shape[k]), where_)
    return x[(slice(None),) * k + (kept,)]


def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Any:
    """Return a copy with values inserted before given positions of an axis, which must be known.

    References:
        numpy.insert
    """
    x = to_array(arr, "insert", "arr")
    if axis is None:
        x, axis = ravel(x), 0
    k = canonical_axis(axis, x.ndim, "insert")
    v = convert(asarray(values), x.dtype)
    n = x.shape[k]
    places = np.asarray(
        obj
        if isinstance(obj, (int, slice)) is False
        else np.arange(n)[obj]
        if isinstance(obj, slice)
        else obj
    )
    if places.ndim == 0:
        # One position: the values are moved so that their axis 0 runs along the axis.
        v = moveaxis(reshape(v, (1,) * (x.ndim - v.ndim) + v.shape), 0, k)
        count = v.shape[k]
        order = np.insert(np.arange(n), int(places), np.arange(n, n + count))
    else:
        count = places.size
        v = reshape(v, (1,) * (x.ndim - v.ndim) + v.shape)
        order = np.insert(np.arange(n), places, np.arange(n, n + count))
    v = broadcast_to(v, (*x.shape[:k], count, *x.shape[k + 1 :]))
    return concatenate([x, v], k)[(slice(None),) * k + (order,)]
