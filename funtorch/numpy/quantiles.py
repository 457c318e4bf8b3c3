"""Order statistics: quantiles, percentiles and medians, with their nan-ignoring versions."""

from __future__ import annotations

import math
from typing import Any

from funtorch import dtypes
from funtorch.core import primitives
from funtorch.numpy import elementwise
from funtorch.numpy.elementwise import divide, isnan, maximum, multiply, subtract, where
from funtorch.numpy.indexing import take_along_axis
from funtorch.numpy.manipulation import reshape, transpose
from funtorch.numpy.promotion import (
    asarray,
    broadcast_to,
    canonical_axes,
    convert,
    describe,
    to_array,
)
from funtorch.numpy.reductions import any, sum

__all__ = ["median", "nanmedian", "nanpercentile", "nanquantile", "percentile", "quantile"]


_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def _quantile(
    name: str,
    a: Any,
    q: Any,
    axis: Any,
    method: str,
    keepdims: bool,
    skip_nan: bool,
    whole: int = 1,
) -> Any:
    if method not in _METHODS:
        raise ValueError(f"{name}: method must be one of {', '.join(_METHODS)}, got {method!r}")
    x, q = to_array(a, name, "a"), asarray(q)
    dtype = dtypes.to_inexact(dtypes.promote(x.dtype, x.weak_type, q.dtype, True)[0])
    x, q = convert(x, dtype), convert(q, dtype)
    q = q if whole == 1 else divide(q, whole)
    if dtypes.is_complex(dtype):
        raise TypeError(f"{name}: complex numbers have no order, got {describe(x)}")
    axes = canonical_axes(axis, x.ndim, name)
    kept = tuple(k for k in range(x.ndim) if k not in axes)
    rest = tuple(x.shape[k] for k in kept)
    rows = reshape(transpose(x, (*kept, *axes)), (*rest, math.prod(x.shape[k] for k in axes)))
    n = rows.shape[-1]
    if n == 0:
        raise ValueError(f"{name}: {describe(x)} has no elements along axis {axis}")
    nan = isnan(rows)
    (rows,) = primitives["sort"].bind(rows, axis=rows.ndim - 1, num_keys=1)  # nan comes last
    last = n - 1
    if skip_nan:
        last = maximum(subtract(sum(elementwise.logical_not(nan), -1, dtype, keepdims=True), 1), 0)
    # One column per quantile, in front of nothing: rows are looked up along their last axis.
    at = multiply(reshape(q, (1,) * len(rest) + (q.size,)), last)
    at = broadcast_to(at, (*rest, q.size))
    low, high = elementwise.floor(at), elementwise.ceil(at)
    below, above = (
        take_along_axis(rows, convert(k, dtypes.int32), -1, mode="clip") for k in (low, high)
    )
    weight = subtract(at, low)
    if method == "linear":
        # Where both ends are equal, infinities included, there is nothing to interpolate.
        between = below + multiply(subtract(above, below), weight)
        out = where(elementwise.equal(above, below), below, between)
    elif method == "midpoint":
        out = where(elementwise.equal(weight, 0), below, (below + above) / 2)
    elif method == "nearest":
        nearest = convert(primitives["round"].bind(at), dtypes.int32)
        out = take_along_axis(rows, nearest, -1, mode="clip")
    else:
        out = below if method == "lower" else above
    if not skip_nan:
        out = where(any(nan, -1, keepdims=True), math.nan, out)
    out = transpose(out, (len(rest), *range(len(rest))))
    if keepdims:
        rest = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
    return reshape(out, q.shape + rest)


def quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
) -> Any:
    """Return quantiles.

    Args:
        a: array of real numbers.
        q: number or array of numbers in [0, 1]; its axes come first in the result.
        axis: axis or axes to reduce; None means all.
        method: 'linear', 'lower', 'higher', 'midpoint' or 'nearest'.
        keepdims: keep reduced axes with size 1.

    Example:
        >>> quantile(asarray([1.0, 2.0, 3.0]), 0.25)
        Array(1.5, dtype=float32)

    References:
        numpy.quantile
    """
    return _quantile("quantile", a, q, axis, method, keepdims, False)


def nanquantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
) -> Any:
    """Return quantiles of the elements that are not nan; arguments as for `quantile`.

    References:
        numpy.nanquantile
    """
    return _quantile("nanquantile", a, q, axis, method, keepdims, True)


def percentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
) -> Any:
    """Return percentiles: quantiles with q in [0, 100].

    References:
        numpy.percentile
    """
    return _quantile("percentile", a, q, axis, method, keepdims, False, 100)


def nanpercentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
) -> Any:
    """Return percentiles of the elements that are not nan.

    References:
        numpy.nanpercentile
    """
    return _quantile("nanpercentile", a, q, axis, method, keepdims, True, 100)


def median(
    a: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    keepdims: bool = False,
) -> Any:
    """Return the median.

    References:
        numpy.median
    """
    return _quantile("median", a, 0.5, axis, "midpoint", keepdims, False)


def nanmedian(
    a: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    keepdims: bool = False,
) -> Any:
    """Return the median of the elements that are not nan.

    References:
        numpy.nanmedian
    """
    return _quantile("nanmedian", a, 0.5, axis, "midpoint", keepdims, True)
