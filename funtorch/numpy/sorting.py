"""Sorting, searching, counting and sets.

Results whose size depends on the values need known values, or ``size=`` to fix it inside
transforms.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl, concrete_or_error, primitives
from funtorch.numpy import elementwise
from funtorch.numpy.creation import arange, zeros
from funtorch.numpy.elementwise import add, divide, isnan, logical_and, not_equal, subtract
from funtorch.numpy.indexing import AtView, take
from funtorch.numpy.manipulation import concatenate, flip, moveaxis, ravel, reshape, stack
from funtorch.numpy.promotion import (
    asarray,
    broadcast_to,
    canonical_axis,
    convert,
    describe,
    promote,
    static_int,
    to_array,
    to_arrays,
)
from funtorch.numpy.reductions import cumsum
from funtorch.numpy.reductions import max as max_
from funtorch.numpy.reductions import min as min_
from funtorch.numpy.reductions import sum as sum_

__all__ = [
    "argsort",
    "argwhere",
    "bincount",
    "compress",
    "delete",
    "digitize",
    "extract",
    "flatnonzero",
    "histogram",
    "histogram_bin_edges",
    "insert",
    "intersect1d",
    "isin",
    "lexsort",
    "nonzero",
    "partition",
    "searchsorted",
    "setdiff1d",
    "setxor1d",
    "sort",
    "union1d",
    "unique",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "where",
]


# ------------------------------------------------------------------------------------------ sorting
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
    if axis is None:
        x, axis = ravel(x), 0
    k = canonical_axis(axis, x.ndim, "sort")
    (out,) = primitives["sort"].bind(x, axis=k, num_keys=1)
    return flip(out, k) if descending else out


def argsort(
    a: Any,
    axis: int | None = -1,
    *,
    kind: None = None,
    order: None = None,
    stable: bool = True,
    descending: bool = False,
) -> Any:
    """Return the indices that sort along an axis; arguments as for `sort`.

    References:
        numpy.argsort
    """
    x = to_array(a, "argsort", "a")
    if axis is None:
        x, axis = ravel(x), 0
    k = canonical_axis(axis, x.ndim, "argsort")
    if descending:
        # Sorting the mirror image backwards keeps equal elements in order.
        return subtract(x.shape[k] - 1, flip(argsort(flip(x, k), k), k))
    return lexicographic([x], k)


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
    return lexicographic(arrays[::-1], canonical_axis(axis, arrays[0].ndim, "lexsort"))


def partition(a: Any, kth: int, axis: int = -1) -> Any:
    """Order so that element ``kth`` is where sorting puts it; here, sort.

    References:
        numpy.partition
    """
    return sort(a, axis)


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
    x, v = promote("searchsorted", *to_arrays("searchsorted", a=a, v=v))
    if x.ndim != 1:
        raise ValueError(f"searchsorted: a must be a vector, got {describe(x)}")
    if sorter is not None:
        x = x[sorter]
    if type(x) is ArrayImpl and type(v) is ArrayImpl:
        found = np.searchsorted(x._data, v._data, side)  # type: ignore[call-overload]
        return ArrayImpl(np.asarray(found).astype(dtypes.default_int()))
    n = x.shape[0]
    # Binary search on all values at once: the bounds halve their distance in each of log2(n) + 1
    # steps.
    low = zeros(v.shape, dtypes.int32)
    high = add(low, n)
    for _ in range(n.bit_length()):
        middle = elementwise.floor_divide(add(low, high), 2)
        there = take(x, middle, mode="clip")
        if side == "left":
            right = elementwise.less(there, v)
            after = elementwise.logical_and(isnan(v), elementwise.logical_not(isnan(there)))
        else:
            right = elementwise.less_equal(there, v)
            after = isnan(v)
        right = logical_and(elementwise.logical_or(right, after), elementwise.less(low, high))
        low = elementwise.where(right, add(middle, 1), low)
        high = elementwise.where(right, high, middle)
    return convert(low, dtypes.default_int())


def digitize(x: Any, bins: Any, right: bool = False) -> Any:
    """Return the number of the bin each value falls into.

    References:
        numpy.digitize
    """
    x, bins = to_arrays("digitize", x=x, bins=bins)
    if bins.ndim != 1:
        raise ValueError(f"digitize: bins must be a vector, got {describe(bins)}")
    side = "left" if right else "right"
    if not bins.shape[0]:
        return zeros(x.shape, dtypes.default_int())
    up = searchsorted(bins, x, side)
    down = subtract(bins.shape[0], searchsorted(flip(bins), x, "right" if right else "left"))
    return elementwise.where(elementwise.greater_equal(bins[-1], bins[0]), up, down)


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
    x, mask = to_array(a, "compress", "a"), asarray(condition)
    if axis is None:
        x, axis = ravel(x), 0
    k = canonical_axis(axis, x.ndim, "compress")
    indices = flatnonzero(mask, size=size, fill_value=x.shape[k])
    view = AtView(x, (slice(None),) * k + (indices,))
    return view.get() if size is None else view.get(mode="fill", fill_value=fill_value)


# ----------------------------------------------------------------------------------------- counting
def bincount(x: Any, weights: Any = None, minlength: int = 0, *, length: int | None = None) -> Any:
    """Count how often each nonnegative integer occurs.

    Args:
        x: integer array; inside transforms give ``length``.
        weights: numbers added up instead of counting.
        minlength: least size of the result.
        length: size of the result; larger integers are left out.

    References:
        numpy.bincount
    """
    x = to_array(x, "bincount")
    if not (dtypes.is_integer(x.dtype) or x.dtype == dtypes.bool_):
        raise TypeError(f"bincount: x must be integers, got {describe(x)}")
    x = ravel(convert(x, dtypes.int32))
    if length is None:
        top = int(_known(max_(x), "bincount")) + 1 if x.size else 0
        length = builtins.max(top, minlength)
    w = (
        asarray(1, dtypes.default_int())
        if weights is None
        else to_array(weights, "bincount", "weights")
    )
    if weights is not None:
        w = ravel(w)
    x = elementwise.where(elementwise.less(x, 0), 0, x)
    return zeros((length,), w.dtype).at[x].add(w, mode="drop")


def histogram_bin_edges(a: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Any:
    """Return the edges of the bins of a histogram.

    Args:
        a: array.
        bins: number of bins, or the edges.
        range: (low, high); None takes them from the values.

    References:
        numpy.histogram_bin_edges
    """
    if isinstance(bins, str):
        raise NotImplementedError(
            f"histogram_bin_edges: bins={bins!r} is not supported; give a number or the edges"
        )
    edges = asarray(bins)
    if edges.ndim == 1:
        return edges
    x = to_array(a, "histogram", "a")
    x = convert(x, dtypes.to_inexact(x.dtype))
    low, high = (
        (min_(x), max_(x))
        if range is None and x.size
        else (asarray(v, x.dtype) for v in range or (0, 1))
    )
    flat = elementwise.equal(low, high)
    low, high = elementwise.where(flat, low - 0.5, low), elementwise.where(flat, high + 0.5, high)
    n = static_int(bins, "histogram: bins")
    steps = asarray(np.arange(n + 1) / builtins.max(n, 1), x.dtype)
    return low * (1 - steps) + high * steps


def histogram(
    a: Any, bins: Any = 10, range: Any = None, weights: Any = None, density: bool | None = None
) -> tuple[Any, Any]:
    """Count values in bins.

    Returns:
        (counts or density, edges).

    References:
        numpy.histogram
    """
    x = to_array(a, "histogram", "a")
    edges = histogram_bin_edges(x, bins, range)
    dtype = dtypes.to_inexact(dtypes.promote(x.dtype, False, edges.dtype, False)[0])
    x, edges = ravel(convert(x, dtype)), convert(edges, dtype)
    n = edges.shape[0] - 1
    place = subtract(searchsorted(edges, x, "right"), 1)
    place = elementwise.where(elementwise.equal(x, edges[-1]), n - 1, place)
    inside = logical_and(
        elementwise.greater_equal(x, edges[0]), elementwise.less_equal(x, edges[-1])
    )
    w = (
        broadcast_to(asarray(1, dtype), x.shape)
        if weights is None
        else ravel(to_array(weights, "histogram", "weights"))
    )
    counts = zeros((n,), w.dtype).at[elementwise.where(inside, place, n)].add(w, mode="drop")
    if density:
        counts = divide(divide(counts, subtract(edges[1:], edges[:-1])), sum_(counts))
    return counts, edges


# ------------------------------------------------------------------------------------------ sets
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
) -> Any:
    """Return the sorted distinct elements.

    Args:
        ar: array.
        return_index, return_inverse, return_counts: also return the first positions, the positions
        in the
            result that rebuild the input, the numbers of occurrences.
        axis: find distinct slices along an axis (values must be known); None flattens.
        equal_nan: count all nan as one.
        size: size of the result; needed inside transforms, where values are not known.
        fill_value: what fills up to ``size`` (default: the smallest element).

    References:
        numpy.unique
    """
    x = to_array(ar, "unique", "ar")
    wanted = (return_index, return_inverse, return_counts)
    if size is None or axis is not None:
        value = np.asarray(_known(x, "unique"))
        found = np.unique(
            value,
            return_index=True,
            return_inverse=True,
            return_counts=True,
            axis=axis,
            equal_nan=equal_nan,
        )
        parts = [ArrayImpl(found[0])]
        parts += [ArrayImpl(np.asarray(part).astype(dtypes.default_int())) for part in found[1:]]
        if size is not None:
            raise NotImplementedError("unique: size= together with axis= is not supported")
    else:
        parts = _unique_sized(ravel(x), static_int(size, "unique: size"), fill_value, equal_nan)
        parts[2] = reshape(parts[2], x.shape)
    out = [parts[0], *(part for part, want in zip(parts[1:], wanted, strict=True) if want)]
    return out[0] if len(out) == 1 else tuple(out)


def _unique_sized(x: Any, size: int, fill_value: Any, equal_nan: bool) -> list[Any]:
    """Return values, first positions, inverse and counts, padded or cut to a size."""
    n = x.shape[0]
    dtype = dtypes.default_int()
    order = lexicographic([x], 0)
    ordered = x[order]
    new = not_equal(ordered[1:], ordered[:-1])
    if equal_nan:
        both = logical_and(isnan(ordered[1:]), isnan(ordered[:-1]))
        new = logical_and(new, elementwise.logical_not(both))
    group = concatenate([zeros((min(n, 1),), dtype), cumsum(convert(new, dtype), 0)])
    starts = concatenate([asarray([True] * min(n, 1), bool), new])
    (first,) = nonzero(starts, size=size, fill_value=n)
    fill = min_(x) if fill_value is None and n else asarray(fill_value or 0, x.dtype)
    there = elementwise.less(first, n)
    if n == 0:
        empty = zeros((size,), dtype)
        return [broadcast_to(convert(fill, x.dtype), (size,)), empty, zeros((0,), dtype), empty]
    values = elementwise.where(there, take(ordered, first, mode="clip"), convert(fill, x.dtype))
    positions = elementwise.where(there, take(order, first, mode="clip"), order[0])
    inverse = zeros((n,), dtype).at[order].set(group, unique_indices=True)
    counts = zeros((size,), dtype).at[group].add(1, mode="drop")
    return [values, positions, inverse, counts]


def unique_values(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Return the sorted distinct elements.

    References:
        numpy.unique_values
    """
    return unique(x, size=size, fill_value=fill_value, equal_nan=False)


def unique_counts(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> tuple[Any, Any]:
    """Return the sorted distinct elements and how often they occur.

    References:
        numpy.unique_counts
    """
    return unique(x, return_counts=True, size=size, fill_value=fill_value, equal_nan=False)


def unique_inverse(
    x: Any, /, *, size: int | None = None, fill_value: Any = None
) -> tuple[Any, Any]:
    """Return the sorted distinct elements and the positions that rebuild the input.

    References:
        numpy.unique_inverse
    """
    return unique(x, return_inverse=True, size=size, fill_value=fill_value, equal_nan=False)


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
    x, tests = promote(
        "isin", *to_arrays("isin", element=element, test_elements=asarray(test_elements))
    )
    if not tests.size:
        found = zeros(x.shape, dtypes.bool_)
    else:
        ordered = sort(ravel(tests))
        found = elementwise.equal(take(ordered, searchsorted(ordered, x), mode="clip"), x)
    return elementwise.logical_not(found) if invert else found


def _set_function(name: str, text: str) -> Any:
    source = getattr(np, name)

    def function(ar1: Any, ar2: Any, assume_unique: bool = False) -> Any:
        x, y = promote(name, *to_arrays(name, ar1=asarray(ar1), ar2=asarray(ar2)))
        known = [np.asarray(_known(a, name)) for a in (x, y)]
        return ArrayImpl(source(*known))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"{text}; the values must be known.\n\n    References:\n        numpy.{name}\n    "
    )
    return function


intersect1d = _set_function("intersect1d", "Return the sorted elements that two arrays share")
union1d = _set_function("union1d", "Return the sorted elements of either array")
setdiff1d = _set_function(
    "setdiff1d", "Return the sorted elements of the first array that the second lacks"
)
setxor1d = _set_function("setxor1d", "Return the sorted elements that only one of two arrays has")


# ------------------------------------------------------------------------------------------ editing
def delete(arr: Any, obj: Any, axis: int | None = None) -> Any:
    """Return a copy without the slices at given positions of an axis, which must be known.

    References:
        numpy.delete
    """
    x = to_array(arr, "delete", "arr")
    if axis is None:
        x, axis = ravel(x), 0
    k = canonical_axis(axis, x.ndim, "delete")
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
