"""Order statistics: quantiles, percentiles and medians, with their nan-ignoring versions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import primitives
from funtorch.errors import MismatchError
from funtorch.numpy import elementwise
from funtorch.numpy.direct import FLOATS, direct, measured
from funtorch.numpy.elementwise import divide, isnan, maximum, multiply, subtract, where
from funtorch.numpy.indexing import take_along_axis
from funtorch.numpy.manipulation import reshape, transpose
from funtorch.numpy.promotion import (
    asarray,
    broadcast_to,
    canonical_axes,
    convert,
    describe,
    no_out,
    to_array,
)
from funtorch.numpy.reductions import any, cumsum, sum

__all__ = ["median", "nanmedian", "nanpercentile", "nanquantile", "percentile", "quantile"]


# method -> alpha and beta of the continuous ones, which say how far the quantiles of 0 and 1 lie
# outside of the sample (Hyndman and Fan, Sample quantiles in statistical packages, 1996).
_OUTSIDE = {
    "interpolated_inverted_cdf": (0.0, 1.0),
    "hazen": (0.5, 0.5),
    "weibull": (0.0, 0.0),
    "median_unbiased": (1 / 3, 1 / 3),
    "normal_unbiased": (3 / 8, 3 / 8),
}
_METHODS = (
    *("linear", "lower", "higher", "midpoint", "nearest", "inverted_cdf"),
    *("averaged_inverted_cdf", "closest_observation", *_OUTSIDE),
)


def _places(method: str, q: Any, last: Any) -> Any:
    """Return where quantiles lie in sorted rows, as numbers from 0 to the last index."""
    if method in _OUTSIDE:
        alpha, beta = _OUTSIDE[method]
        at = multiply(q, last + (2 - alpha - beta)) + (alpha - 1)
    elif method in ("averaged_inverted_cdf", "closest_observation"):
        at = multiply(q, last + 1) - (1 if method == "averaged_inverted_cdf" else 1.5)
        low = elementwise.floor(at)
        tie = elementwise.equal(at, low)
        if method == "averaged_inverted_cdf":
            at = where(tie, low + 0.5, low + 1)
        else:
            odd = elementwise.equal(elementwise.remainder(low, 2), 1)
            at = where(elementwise.logical_and(tie, odd), low, low + 1)
    else:
        return multiply(q, last)
    return elementwise.clip(at, 0, last)


def _unsupported(name: str, out: None, overwrite_input: bool) -> None:
    no_out(out, name)
    if overwrite_input:
        raise ValueError(f"{name}: overwrite_input=True is not supported: arrays are immutable")


def _quantile(
    name: str,
    a: Any,
    q: Any,
    axis: Any,
    method: str,
    keepdims: bool,
    skip_nan: bool,
    whole: int = 1,
    weights: Any = None,
) -> Any:
    if method not in _METHODS:
        raise ValueError(f"{name}: method must be one of {', '.join(_METHODS)}, got {method!r}")
    x, q = to_array(a, name, "a"), asarray(q)
    dtype = dtypes.to_inexact(dtypes.promote(x.dtype, x.weak_type, q.dtype, True)[0])
    x, q = convert(x, dtype), convert(q, dtype)
    if dtypes.is_complex(dtype):
        raise MismatchError(f"{name}: complex numbers have no order, got {describe(x)}")
    q = elementwise.clip(q if whole == 1 else divide(q, whole), 0, 1)
    axes = canonical_axes(axis, x.ndim, name)
    kept = tuple(k for k in range(x.ndim) if k not in axes)
    rest = tuple(x.shape[k] for k in kept)
    rows = reshape(transpose(x, (*kept, *axes)), (*rest, math.prod(x.shape[k] for k in axes)))
    n = rows.shape[-1]
    if n == 0:
        raise ValueError(f"{name}: {describe(x)} has no elements along axis {axis}")
    nan = isnan(rows)
    if weights is not None and method != "inverted_cdf":
        raise NotImplementedError(
            f"{name}: weights are for method='inverted_cdf', got method={method!r}"
        )
    if method == "inverted_cdf":
        w = _aligned_weights(name, weights, x, (*kept, *axes), axes, rows)
        rows, w = primitives["sort"].bind(
            rows, where(nan, 0, w) if skip_nan else w, axis=rows.ndim - 1, num_keys=1
        )
        out = _inverted_cdf(rows, w, q)
        return _finished(out, nan, q, x, axes, rest, keepdims, skip_nan)
    (rows,) = primitives["sort"].bind(rows, axis=rows.ndim - 1, num_keys=1)  # nan comes last
    last = n - 1
    if skip_nan:
        last = maximum(subtract(sum(elementwise.logical_not(nan), -1, dtype, keepdims=True), 1), 0)
    # One column per quantile, in front of nothing: rows are looked up along their last axis.
    at = _places(method, reshape(q, (1,) * len(rest) + (q.size,)), last)
    at = broadcast_to(at, (*rest, q.size))
    low, high = elementwise.floor(at), elementwise.ceil(at)
    below, above = (
        take_along_axis(rows, convert(k, dtypes.int32), -1, mode="clip") for k in (low, high)
    )
    weight = subtract(at, low)
    if method not in ("midpoint", "nearest", "lower", "higher"):
        # Where both ends are equal, infinities included, there is nothing to interpolate.
        between = multiply(below, subtract(1, weight)) + multiply(above, weight)
        out = where(elementwise.equal(above, below), below, between)
    elif method == "midpoint":
        out = where(elementwise.equal(weight, 0), below, (below + above) / 2)
    elif method == "nearest":
        out = where(elementwise.less_equal(weight, 0.5), below, above)
    else:
        out = below if method == "lower" else above
    return _finished(out, nan, q, x, axes, rest, keepdims, skip_nan)


def _finished(
    out: Any, nan: Any, q: Any, x: Any, axes: Any, rest: Any, keepdims: bool, skip_nan: bool
) -> Any:
    """Return quantiles, in the last axis of ``out``, in the shape of q and what was kept of x."""
    if not skip_nan:
        out = where(any(nan, -1, keepdims=True), math.nan, out)
    out = transpose(out, (len(rest), *range(len(rest))))
    if keepdims:
        rest = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
    return reshape(out, q.shape + rest)


def _aligned_weights(name: str, weights: Any, x: Any, order: Any, axes: Any, rows: Any) -> Any:
    """Return weights in the shape of the rows that are reduced."""
    if weights is None:
        return broadcast_to(asarray(1, rows.dtype), rows.shape)
    w = to_array(weights, name, "weights")
    if dtypes.is_complex(w.dtype):
        raise ValueError(f"{name}: weights must be real, got {describe(w)}")
    if w.shape != x.shape:
        if w.shape != tuple(x.shape[k] for k in axes):
            raise ValueError(
                f"{name}: weights {describe(w)} fit neither a, {describe(x)}, nor its axes {axes}"
            )
        w = reshape(w, tuple(n if k in axes else 1 for k, n in enumerate(x.shape)))
        w = broadcast_to(w, x.shape)
    return reshape(transpose(convert(w, rows.dtype), order), rows.shape)


def _inverted_cdf(rows: Any, w: Any, q: Any) -> Any:
    """Return, for each quantile, the first value at which its share of the weights is reached."""
    seen = cumsum(w, -1)
    wanted = multiply(reshape(q, (-1, 1)), seen[..., None, -1:])
    here = seen[..., None, :]
    before = elementwise.logical_or(elementwise.less(here, wanted), elementwise.less_equal(here, 0))
    place = elementwise.minimum(sum(before, -1, dtypes.int32), rows.shape[-1] - 1)
    return take_along_axis(rows, place, -1, mode="clip")


def _numpy_quantile(a: Any, q: float, *args: Any, **kwargs: Any) -> Any:
    if not a.size:
        raise ValueError("the quantile of nothing")
    return np.quantile(a, a.dtype.type(q), *args, **kwargs)


def _numpy_percentile(a: Any, q: float, *args: Any, **kwargs: Any) -> Any:
    return _numpy_quantile(a, a.dtype.type(q) / 100, *args, **kwargs)


@direct(_numpy_quantile, FLOATS, measured)
def quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """Return quantiles.

    Args:
        a: array of real numbers.
        q: number or array of numbers in [0, 1]; its axes come first in the result.
        axis: axis or axes to reduce; None means all.
        method: 'linear', 'lower', 'higher', 'midpoint', 'nearest' (of two as near the lower one)
            or 'inverted_cdf'.
        keepdims: keep reduced axes with size 1.
        weights: weights of the values, for the method 'inverted_cdf': an array like a, or like the
            reduced axes.

    Example:
        >>> quantile(asarray([1.0, 2.0, 3.0]), 0.25)
        Array(1.5, dtype=float32)

    References:
        numpy.quantile
    """
    _unsupported("quantile", out, overwrite_input)
    return _quantile("quantile", a, q, axis, method, keepdims, False, 1, weights)


def nanquantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """Return quantiles of the elements that are not nan; arguments as for `quantile`.

    References:
        numpy.nanquantile
    """
    _unsupported("nanquantile", out, overwrite_input)
    return _quantile("nanquantile", a, q, axis, method, keepdims, True, 1, weights)


@direct(_numpy_percentile, FLOATS, measured)
def percentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """Return percentiles: quantiles with q in [0, 100].

    References:
        numpy.percentile
    """
    _unsupported("percentile", out, overwrite_input)
    return _quantile("percentile", a, q, axis, method, keepdims, False, 100, weights)


def nanpercentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """Return percentiles of the elements that are not nan.

    References:
        numpy.nanpercentile
    """
    _unsupported("nanpercentile", out, overwrite_input)
    return _quantile("nanpercentile", a, q, axis, method, keepdims, True, 100, weights)


def _numpy_median(a: Any, *args: Any, **kwargs: Any) -> Any:
    if not a.size:
        raise ValueError("the median of nothing")
    return np.median(a, *args, **kwargs)


@direct(_numpy_median, FLOATS)
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
    _unsupported("median", out, overwrite_input)
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
    _unsupported("nanmedian", out, overwrite_input)
    return _quantile("nanmedian", a, 0.5, axis, "midpoint", keepdims, True)
