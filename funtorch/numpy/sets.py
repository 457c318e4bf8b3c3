"""Distinct elements, and arrays as sets.

Results whose size depends on the values need known values, or ``size=`` to fix it inside
transforms.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from funtorch import dtypes
from funtorch.core import Array, ArrayImpl, concrete_or_error
from funtorch.numpy import elementwise
from funtorch.numpy.creation import zeros
from funtorch.numpy.elementwise import logical_and, logical_not, not_equal
from funtorch.numpy.indexing import take
from funtorch.numpy.manipulation import concatenate, moveaxis, ravel, reshape
from funtorch.numpy.promotion import (
    asarray,
    broadcast_to,
    canonical_axis,
    convert,
    promote,
    static_int,
    to_array,
    to_arrays,
)
from funtorch.numpy.reductions import any as any_
from funtorch.numpy.reductions import cumsum
from funtorch.numpy.sorting import lexicographic, nonzero, searchsorted, sort

__all__ = [
    "intersect1d",
    "isin",
    "setdiff1d",
    "setxor1d",
    "union1d",
    "unique",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
]


def _known(x: Any, function: str) -> Any:
    return concrete_or_error(
        x, f"the size of the result of {function}, which depends on values (give size= to fix it),"
    )


# ----------------------------------------------------------------------------------------- distinct
def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
    size: int | None = None,
    fill_value: Any = None,
    sorted: bool = True,
) -> Any:
    """Return the sorted distinct elements.

    Args:
        ar: array.
        return_index, return_inverse, return_counts: also return the first positions, the positions
            in the result that rebuild the input, the numbers of occurrences.
        axis: find distinct slices along an axis; None flattens.
        equal_nan: count all nan as one.
        size: size of the result; needed inside transforms, where values are not known.
        fill_value: what fills up to ``size`` (default: the smallest element).
        sorted: results are always sorted.

    Example:
        >>> unique(asarray([3, 1, 3]), return_counts=True)
        (Array([1, 3], dtype=int32), Array([1, 2], dtype=int32))

    References:
        numpy.unique
    """
    x = to_array(ar, "unique", "ar")
    wanted = (return_index, return_inverse, return_counts)
    k = None if axis is None else canonical_axis(axis, x.ndim, "unique")
    if size is None:
        value = np.asarray(_known(x, "unique"))
        found: Any = np.unique(value, *wanted, k, equal_nan=equal_nan)  # type: ignore[call-overload]
        if not any(wanted):
            return ArrayImpl(found)
        integers = [np.asarray(part).astype(dtypes.default_int()) for part in found[1:]]
        return tuple(map(ArrayImpl, (found[0], *integers)))
    if k is None:
        parts = _unique_rows(reshape(x, (-1, 1)), _size(size), fill_value, equal_nan)
        parts[0], parts[2] = ravel(parts[0]), reshape(parts[2], x.shape)
    else:
        slices = moveaxis(x, k, 0)
        rows = reshape(slices, (slices.shape[0], _volume(slices.shape[1:])))
        parts = _unique_rows(rows, _size(size), fill_value, equal_nan)
        parts[0] = moveaxis(reshape(parts[0], (parts[0].shape[0], *slices.shape[1:])), 0, k)
    out = [parts[0], *(part for part, want in zip(parts[1:], wanted, strict=True) if want)]
    return out[0] if len(out) == 1 else tuple(out)


def _volume(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _size(size: Any) -> int:
    size = static_int(size, "size")
    if size < 0:
        raise ValueError(f"size must not be negative, got {size}")
    return size


def _unique_rows(x: Any, size: int, fill_value: Any, equal_nan: bool) -> list[Any]:
    """Return distinct rows, first positions, inverse and counts, padded or cut to a size."""
    n, width = x.shape
    dtype = dtypes.default_int()
    if n == 0 or width == 0:
        nothing = zeros((size,), dtype)
        fill = asarray(fill_value or 0, x.dtype)
        return [broadcast_to(fill, (size, width)), nothing, zeros((n,), dtype), nothing]
    order = lexicographic([x[:, k] for k in range(width)], 0)
    ordered = x[order]
    new = not_equal(ordered[1:], ordered[:-1])
    if equal_nan:
        both = logical_and(elementwise.isnan(ordered[1:]), elementwise.isnan(ordered[:-1]))
        new = logical_and(new, logical_not(both))
    new = any_(new, 1)
    group = concatenate([zeros((1,), dtype), cumsum(convert(new, dtype), 0)])
    (first,) = nonzero(concatenate([asarray([True]), new]), size=size, fill_value=n)
    fill = ordered[0] if fill_value is None else asarray(fill_value, x.dtype)
    there = elementwise.less(first, n)
    rows = take(ordered, first, 0, mode="clip")
    values = elementwise.where(there[:, None], rows, convert(fill, x.dtype))
    positions = elementwise.where(there, take(order, first, mode="clip"), order[0])
    inverse = zeros((n,), dtype).at[order].set(group, unique_indices=True)
    counts = zeros((size,), dtype).at[group].add(1, mode="drop")
    return [values, positions, inverse, counts]


class UniqueAll(NamedTuple):
    """What `unique_all` returns."""

    values: Array
    indices: Array
    inverse_indices: Array
    counts: Array


class UniqueCounts(NamedTuple):
    """What `unique_counts` returns."""

    values: Array
    counts: Array


class UniqueInverse(NamedTuple):
    """What `unique_inverse` returns."""

    values: Array
    inverse_indices: Array


def unique_all(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueAll:
    """Return the sorted distinct elements, first positions, inverse and numbers of occurrences.

    Example:
        >>> unique_all(asarray([5, 5, 2])).counts
        Array([1, 2], dtype=int32)

    References:
        numpy.unique_all
    """
    return UniqueAll(
        *unique(x, True, True, True, equal_nan=False, size=size, fill_value=fill_value)
    )


def unique_values(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Return the sorted distinct elements.

    References:
        numpy.unique_values
    """
    return unique(x, size=size, fill_value=fill_value, equal_nan=False)


def unique_counts(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueCounts:
    """Return the sorted distinct elements and how often they occur.

    References:
        numpy.unique_counts
    """
    return UniqueCounts(
        *unique(x, return_counts=True, size=size, fill_value=fill_value, equal_nan=False)
    )


def unique_inverse(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueInverse:
    """Return the sorted distinct elements and the positions that rebuild the input.

    References:
        numpy.unique_inverse
    """
    return UniqueInverse(
        *unique(x, return_inverse=True, size=size, fill_value=fill_value, equal_nan=False)
    )


# --------------------------------------------------------------------------------------------- sets
def isin(
    element: Any,
    test_elements: Any,
    assume_unique: bool = False,
    invert: bool = False,
    *,
    method: str = "auto",
) -> Any:
    """Tell for each element whether it occurs in another array.

    References:
        numpy.isin
    """
    if method not in ("auto", "compare_all", "binary_search", "sort"):
        raise ValueError(
            f"isin: method={method!r} is not implemented; options are 'compare_all', "
            "'binary_search', 'sort', and 'auto'"
        )
    x, tests = promote(
        "isin", *to_arrays("isin", element=element, test_elements=asarray(test_elements))
    )
    if not tests.size:
        found = zeros(x.shape, dtypes.bool_)
    else:
        ordered = sort(ravel(tests))
        found = elementwise.equal(take(ordered, searchsorted(ordered, x), mode="clip"), x)
    return logical_not(found) if invert else found


def _flat(name: str, ar1: Any, ar2: Any) -> list[Any]:
    arrays = promote(name, *to_arrays(name, ar1=asarray(ar1), ar2=asarray(ar2)))
    return [ravel(x) for x in arrays]


def _chosen(x: Any, chosen: Any, size: int, fill_value: Any) -> tuple[Any, Any]:
    """Return the distinct elements of x that are chosen, and their first positions.

    Where there are fewer than ``size``, the rest is filled with ``fill_value``, by default the
    smallest of them, or 0 where there is none.
    """
    n = x.shape[0]
    size = _size(size)
    if not n:
        return broadcast_to(asarray(fill_value or 0, x.dtype), (size,)), zeros((size,), np.int32)
    order = lexicographic([x], 0)
    ordered = x[order]
    kept = chosen[order]
    new = concatenate([asarray([True]), not_equal(ordered[1:], ordered[:-1])])
    (places,) = nonzero(logical_and(kept, new), size=size, fill_value=n)
    there = elementwise.less(places, n)
    values = take(ordered, places, mode="clip")
    if fill_value is None:
        fill = values[:1] if size else values
        fill = elementwise.where(there[:1], fill, convert(asarray(0), x.dtype)) if size else fill
    else:
        fill = asarray(fill_value, x.dtype)
    positions = elementwise.where(there, take(order, places, mode="clip"), n)
    return elementwise.where(there, values, fill), positions


def _count_distinct(x: Any, chosen: Any, name: str) -> int:
    return len(np.unique(np.asarray(_known(x, name))[np.asarray(_known(chosen, name))]))


def intersect1d(
    ar1: Any,
    ar2: Any,
    assume_unique: bool = False,
    return_indices: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Return the sorted elements that two arrays share.

    Args:
        ar1, ar2: arrays; they are flattened.
        assume_unique: that their elements are distinct; not needed.
        return_indices: also return where each array has them first.
        size: size of the result; needed inside transforms.
        fill_value: what fills up to ``size`` (default: the smallest shared element).

    Example:
        >>> intersect1d(asarray([1, 2, 3]), asarray([3, 1, 5]))
        Array([1, 3], dtype=int32)

    References:
        numpy.intersect1d
    """
    x, y = _flat("intersect1d", ar1, ar2)
    common = isin(x, y)
    if size is None:
        size = _count_distinct(x, common, "intersect1d")
    values, first = _chosen(x, common, size, fill_value)
    if not return_indices:
        return values
    _, second = _chosen(y, isin(y, x), size, fill_value)
    return values, first, second


def union1d(ar1: Any, ar2: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Return the sorted elements of either array.

    Args:
        ar1, ar2: arrays; they are flattened.
        size: size of the result; needed inside transforms.
        fill_value: what fills up to ``size`` (default: the smallest element).

    References:
        numpy.union1d
    """
    x, y = _flat("union1d", ar1, ar2)
    return unique(concatenate([x, y]), size=size, fill_value=fill_value)


def setdiff1d(
    ar1: Any,
    ar2: Any,
    assume_unique: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Return the sorted elements of the first array that the second lacks.

    Args:
        ar1, ar2: arrays; they are flattened.
        assume_unique: that their elements are distinct; not needed.
        size: size of the result; needed inside transforms.
        fill_value: what fills up to ``size`` (default 0).

    References:
        numpy.setdiff1d
    """
    x = ravel(to_array(asarray(ar1), "setdiff1d", "ar1"))
    chosen = logical_not(isin(x, asarray(ar2)))
    if size is None:
        size = _count_distinct(x, chosen, "setdiff1d")
    return _chosen(x, chosen, size, 0 if fill_value is None else fill_value)[0]


def setxor1d(
    ar1: Any,
    ar2: Any,
    assume_unique: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Return the sorted elements that only one of two arrays has.

    Args:
        ar1, ar2: arrays; they are flattened.
        assume_unique: that their elements are distinct; not needed.
        size: size of the result; needed inside transforms.
        fill_value: what fills up to ``size`` (default: the smallest of them).

    References:
        numpy.setxor1d
    """
    x, y = _flat("setxor1d", ar1, ar2)
    both = concatenate([x, y])
    chosen = logical_not(concatenate([isin(x, y), isin(y, x)]))
    if size is None:
        size = _count_distinct(both, chosen, "setxor1d")
    return _chosen(both, chosen, size, fill_value)[0]
