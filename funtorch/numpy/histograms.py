"""Counting values in bins."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import concrete_or_error
from funtorch.numpy import elementwise
from funtorch.numpy.coordinates import ravel_multi_index
from funtorch.numpy.creation import linspace, zeros
from funtorch.numpy.direct import FLOATS, INTEGERS, alike, direct
from funtorch.numpy.elementwise import divide, logical_and, multiply, subtract
from funtorch.numpy.manipulation import flip, ravel, reshape
from funtorch.numpy.promotion import (
    asarray,
    broadcast_to,
    convert,
    describe,
    promote_inexact,
    static_int,
    to_array,
    to_arrays,
)
from funtorch.numpy.reductions import max as max_
from funtorch.numpy.reductions import min as min_
from funtorch.numpy.reductions import sum as sum_
from funtorch.numpy.sorting import searchsorted

__all__ = ["bincount", "digitize", "histogram", "histogram2d", "histogram_bin_edges", "histogramdd"]


def _numpy_digitize(x: Any, bins: Any, right: bool = False) -> Any:
    return np.digitize(x, bins, right).astype(dtypes.default_int())


@direct(_numpy_digitize, FLOATS, alike)
def digitize(x: Any, bins: Any, right: bool = False, *, method: str | None = None) -> Any:
    """Return the number of the bin each value falls into.

    Args:
        x: array.
        bins: vector of edges, rising or falling.
        right: whether bins include their right edge instead of their left one.
        method: accepted for JAX's sake.

    Example:
        >>> digitize(asarray([0.5, 2.0]), asarray([0.0, 1.0, 2.0]))
        Array([1, 3], dtype=int32)

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
    down = subtract(bins.shape[0], searchsorted(flip(bins), x, side))
    return elementwise.where(elementwise.greater_equal(bins[-1], bins[0]), up, down)


def _numpy_bincount(x: Any, weights: None = None, minlength: int = 0) -> Any:
    return np.bincount(x, weights, minlength).astype(dtypes.default_int())


@direct(_numpy_bincount, INTEGERS)
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
    minlength = static_int(minlength, "bincount: minlength")
    if minlength < 0:
        raise ValueError(f"bincount: minlength must not be negative, got {minlength}")
    if x.ndim != 1:
        raise ValueError(f"bincount: only 1-dimensional input supported, got {describe(x)}")
    x = convert(x, dtypes.int32)
    if length is None:
        what = "the size of the result of bincount (give length= to fix it)"
        top = int(concrete_or_error(max_(x), what)) + 1 if x.size else 0
        length = builtins.max(top, minlength)
    length = static_int(length, "bincount: length")
    if weights is None:
        w = asarray(1, dtypes.default_int())
    else:
        w = ravel(to_array(weights, "bincount", "weights"))
        if w.shape != x.shape:
            raise ValueError(
                f"bincount: x has {x.shape[0]} elements and weights {w.shape[0]}; give as many"
            )
    x = elementwise.where(elementwise.less(x, 0), 0, x)
    return zeros((length,), w.dtype).at[x].add(w, mode="drop")


def histogram_bin_edges(a: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Any:
    """Return the edges of the bins of a histogram.

    Args:
        a: array.
        bins: number of bins, the edges, or the name of one of NumPy's rules to choose the number
            from values that are known: 'auto', 'fd', 'scott', ...
        range: (low, high); None takes them from the values.
        weights: accepted for NumPy's sake.

    References:
        numpy.histogram_bin_edges
    """
    if isinstance(bins, str):
        x = to_array(a, "histogram", "a")
        known = concrete_or_error(x, f"the number of edges that bins={bins!r} gives")
        edges = np.histogram_bin_edges(np.asarray(known, np.float64), bins, range)
        return asarray(edges, dtypes.to_inexact(x.dtype))
    edges = asarray(bins)
    if edges.ndim == 1:
        return edges
    n = static_int(bins, "histogram: bins")
    if n < 1:
        raise ValueError(f"histogram: bins must be positive, got {n}")
    x = to_array(a, "histogram", "a")
    x = convert(x, dtypes.to_inexact(x.dtype))
    if range is not None and np.shape(range) != (2,) and len(range) != 2:
        raise ValueError(f"histogram: range must be (low, high), got {range!r:.80}")
    low, high = (
        (min_(x), max_(x))
        if range is None and x.size
        else (asarray(v, x.dtype) for v in ((0, 1) if range is None else range))
    )
    flat = elementwise.equal(low, high)
    low, high = elementwise.where(flat, low - 0.5, low), elementwise.where(flat, high + 0.5, high)
    return linspace(low, high, n + 1)


def _places(x: Any, edges: Any) -> tuple[Any, Any]:
    """Return the number of the bin of each value, and whether there is one."""
    n = edges.shape[0] - 1
    place = subtract(searchsorted(edges, x, "right"), 1)
    place = elementwise.where(elementwise.equal(x, edges[-1]), n - 1, place)
    inside = logical_and(
        elementwise.greater_equal(x, edges[0]), elementwise.less_equal(x, edges[-1])
    )
    return place, inside


def _numpy_histogram(a: Any, bins: int = 10) -> Any:
    counts, edges = np.histogram(a, bins)
    return counts.astype(a.dtype), edges


@direct(_numpy_histogram, FLOATS)
def histogram(
    a: Any, bins: Any = 10, range: Any = None, weights: Any = None, density: bool | None = None
) -> tuple[Any, Any]:
    """Count values in bins.

    Args:
        a: array.
        bins, range: as for `histogram_bin_edges`.
        weights: numbers added up instead of counting, one per value.
        density: divide by the number of values and the widths of the bins.

    Returns:
        (counts or density, edges).

    References:
        numpy.histogram
    """
    x = to_array(a, "histogram", "a")
    edges = histogram_bin_edges(x, bins, range)
    if edges.shape[0] < 2:
        raise ValueError(f"histogram: bins needs at least 2 edges, got {describe(edges)}")
    dtype = dtypes.to_inexact(dtypes.promote(x.dtype, False, edges.dtype, False)[0])
    flat, edges = ravel(convert(x, dtype)), convert(edges, dtype)
    w = _weights(weights, x, dtype, dtype, "histogram")
    place, inside = _places(flat, edges)
    n = edges.shape[0] - 1
    counts = zeros((n,), w.dtype).at[elementwise.where(inside, place, n)].add(w, mode="drop")
    if density:
        counts = divide(divide(counts, subtract(edges[1:], edges[:-1])), sum_(counts))
    return counts, edges


def _weights(weights: Any, x: Any, dtype: Any, counts: Any, name: str) -> Any:
    """Return the weights in a dtype promoted with ``dtype``; without any, ones of dtype counts."""
    if weights is None:
        return broadcast_to(asarray(1, counts), (x.size,))
    w = to_array(weights, name, "weights")
    if w.shape != x.shape:
        raise ValueError(f"{name}: weights {describe(w)} must have the shape of a, {x.shape}")
    return convert(ravel(w), dtypes.promote_types(w.dtype, dtype))


def histogramdd(
    sample: Any,
    bins: Any = 10,
    range: Sequence[Any] | None = None,
    weights: Any = None,
    density: bool | None = None,
) -> tuple[Any, list[Any]]:
    """Count points in boxes.

    Args:
        sample: array of shape (n, d), or d vectors.
        bins: number of bins, for all axes or one per axis, or the edges of each axis.
        range: (low, high) of each axis; None takes them from the values.
        weights: numbers added up instead of counting, shape (n,).
        density: divide by the number of points and the volumes of the boxes.

    Returns:
        (counts or density with d axes, edges of each axis).

    Example:
        >>> counts, edges = histogramdd(asarray([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]]), bins=2)
        >>> counts.tolist()
        [[1, 0], [1, 1]]

    References:
        numpy.histogramdd
    """
    if isinstance(sample, (list, tuple)):
        points = asarray([ravel(to_array(column, "histogramdd", "sample")) for column in sample]).T
    else:
        points = to_array(sample, "histogramdd", "sample")
        points = reshape(points, (-1, 1)) if points.ndim < 2 else points
    if points.ndim != 2 or not points.shape[1]:
        raise ValueError(
            f"histogramdd: sample must be (points, axes) or vectors, got {describe(points)}"
        )
    (points,) = promote_inexact("histogramdd", points)
    d = points.shape[1]
    if not isinstance(bins, (list, tuple)) and np.ndim(bins) == 0:
        bins = [bins] * d
    if len(bins) != d or (range is not None and len(range) != d):
        raise ValueError(
            f"histogramdd: bins and range need one entry for each of the {d} axes of sample"
        )
    edges, places, fine = [], [], asarray(True)
    for k in builtins.range(d):
        span = None if range is None else range[k]
        edge = convert(histogram_bin_edges(points[:, k], bins[k], span), points.dtype)
        place, inside = _places(points[:, k], edge)
        edges.append(edge)
        places.append(place)
        fine = logical_and(fine, inside)
    sizes = tuple(edge.shape[0] - 1 for edge in edges)
    counted = points.dtype if density else dtypes.default_int()
    w = _weights(weights, points[:, 0], points.dtype, counted, "histogramdd")
    flat = elementwise.where(fine, ravel_multi_index(places, sizes, mode="clip"), _volume(sizes))
    counts = reshape(zeros((_volume(sizes),), w.dtype).at[flat].add(w, mode="drop"), sizes)
    if density:
        volume = asarray(1, points.dtype)
        for k, edge in enumerate(edges):
            width = subtract(edge[1:], edge[:-1])
            volume = multiply(volume, reshape(width, (-1,) + (1,) * (d - k - 1)))
        counts = divide(divide(counts, sum_(counts)), volume)
    return counts, edges


def _volume(sizes: tuple[int, ...]) -> int:
    return int(np.prod(sizes, dtype=np.int64))


def histogram2d(
    x: Any,
    y: Any,
    bins: Any = 10,
    range: Sequence[Any] | None = None,
    weights: Any = None,
    density: bool | None = None,
) -> tuple[Any, Any, Any]:
    """Count points of the plane in boxes.

    Args:
        x, y: vectors of coordinates.
        bins, range, weights, density: as for `histogramdd`; a vector as bins is the edges of both.

    Returns:
        (counts or density, edges along x, edges along y).

    References:
        numpy.histogram2d
    """
    if not isinstance(bins, (list, tuple)) and np.ndim(bins) == 1 and len(bins) not in (1, 2):
        bins = [bins, bins]
    counts, edges = histogramdd([x, y], bins, range, weights, density)
    return counts, edges[0], edges[1]
