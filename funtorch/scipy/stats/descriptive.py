"""Statistics of samples: mode, ranks, the standard error of the mean.

References:
    scipy.stats, https://docs.scipy.org/doc/scipy/reference/stats.html
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import Array
from funtorch.numpy import promotion
from funtorch.ops.reduce import cummax

__all__ = ["ModeResult", "mode", "rankdata", "sem"]

_METHODS = ("average", "min", "max", "dense", "ordinal")


class ModeResult(NamedTuple):
    """The most frequent values, and how often they occur."""

    mode: Array
    count: Array  # type: ignore[assignment]  # a field as SciPy has it


def _propagates(function: str, nan_policy: str, allowed: tuple[str, ...] = ("propagate",)) -> None:
    if nan_policy not in ("propagate", "omit", "raise"):
        raise ValueError(
            f"{function}: nan_policy must be 'propagate', 'omit' or 'raise', got {nan_policy!r}"
        )
    if nan_policy not in allowed:
        raise NotImplementedError(
            f"{function}: nan_policy={nan_policy!r} is not supported; remove nan first"
        )


def _starts(ordered: Any) -> Any:
    """Tell, along the last axis of sorted numbers, where a new value begins."""
    first = fnp.ones((*ordered.shape[:-1], 1), bool)
    return fnp.concatenate([first, ordered[..., 1:] != ordered[..., :-1]], axis=-1)


def mode(
    a: Any, axis: int | None = 0, nan_policy: str = "propagate", keepdims: bool = False
) -> ModeResult:
    """Return the most frequent values along an axis, the least of several.

    Args:
        a: real numbers.
        axis: the axis; all elements if None.
        nan_policy: only "propagate": nan among the numbers gives nan.
        keepdims: whether the axis stays, with size 1.

    Returns:
        (mode, count), the values and how often they occur.

    Raises:
        ValueError: the policy is unknown.
        NotImplementedError: it is not "propagate".

    Example:
        >>> [v.tolist() for v in mode(fnp.array([2, 1, 1]))]
        [1, 2]

    References:
        scipy.stats.mode
    """
    _propagates("mode", nan_policy)
    x = fnp.atleast_1d(promotion.to_array(a, "mode", "a"))
    shape = (1,) * x.ndim
    if axis is None:
        x, axis = fnp.ravel(x), 0
    else:
        axis = promotion.canonical_axis(axis, x.ndim, "mode")
        shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    x = fnp.moveaxis(x, axis, -1)
    n = x.shape[-1]
    if n == 0:
        value = fnp.full(x.shape[:-1], math.nan)
        count = fnp.zeros(x.shape[:-1])
    else:
        ordered = fnp.sort(x, axis=-1)
        places = fnp.broadcast_to(fnp.arange(n), ordered.shape)
        begun = fnp.where(_starts(ordered), places, 0)
        length = places - _running_max(begun) + 1
        best = fnp.argmax(length, axis=-1, keepdims=True)
        value = fnp.take_along_axis(ordered, best, axis=-1)[..., 0]
        count = fnp.max(length, axis=-1)
        if dtypes.is_float(x.dtype):
            value = fnp.where(fnp.any(fnp.isnan(x), axis=-1), math.nan, value)
    if keepdims:
        return ModeResult(fnp.reshape(value, shape), fnp.reshape(count, shape))
    return ModeResult(value, count)


def _running_max(x: Any) -> Any:
    return cummax(x, axis=x.ndim - 1, reverse=False)


def rankdata(
    a: Any, method: str = "average", *, axis: int | None = None, nan_policy: str = "propagate"
) -> Array:
    """Return ranks, from 1 on.

    Args:
        a: real numbers.
        method: what equal numbers get: "average", "min" or "max" of their ranks, "dense" ranks
            without gaps, or "ordinal": ranks in the order they come in.
        axis: the axis; if None the elements are ranked as one vector.
        nan_policy: only "propagate": nan among the numbers makes all ranks nan.

    Returns:
        The default float, of the shape of a; a vector if axis is None.

    Raises:
        ValueError: the method or the policy is unknown.
        NotImplementedError: the policy is not "propagate".

    Example:
        >>> rankdata(fnp.array([10, 30, 20, 30])).tolist()
        [1.0, 3.5, 2.0, 3.5]

    References:
        scipy.stats.rankdata
    """
    _propagates("rankdata", nan_policy)
    if method not in _METHODS:
        raise ValueError(f"rankdata: method must be one of {', '.join(_METHODS)}; got {method!r}")
    x = promotion.to_array(a, "rankdata", "a")
    if axis is None:
        return _ranks(fnp.ravel(x), method)
    axis = promotion.canonical_axis(axis, x.ndim, "rankdata")
    return fnp.moveaxis(_ranks(fnp.moveaxis(x, axis, -1), method), -1, axis)


def _ranks(x: Any, method: str) -> Any:
    n, to = x.shape[-1], dtypes.canonical(float)
    if x.size == 0:
        return fnp.zeros(x.shape, to)
    order = fnp.argsort(x, axis=-1, stable=True)
    ordered = fnp.take_along_axis(x, order, axis=-1)
    places = fnp.broadcast_to(fnp.arange(n), x.shape)
    new = _starts(ordered)
    first = _running_max(fnp.where(new, places, 0))
    # Where the next value begins, seen from behind.
    ends = fnp.concatenate([new[..., 1:], fnp.ones((*x.shape[:-1], 1), bool)], axis=-1)
    last = n - 1 - fnp.flip(_running_max(fnp.where(fnp.flip(ends, -1), places, 0)), -1)
    ranks = {
        "average": lambda: (first + last).astype(to) / 2 + 1,
        "min": lambda: (first + 1).astype(to),
        "max": lambda: (last + 1).astype(to),
        "dense": lambda: fnp.cumsum(new, axis=-1).astype(to),
        "ordinal": lambda: (places + 1).astype(to),
    }[method]()
    out = fnp.take_along_axis(ranks, fnp.argsort(order, axis=-1), axis=-1)
    if dtypes.is_float(x.dtype):
        out = fnp.where(fnp.any(fnp.isnan(x), axis=-1, keepdims=True), math.nan, out)
    return out


def sem(
    a: Any,
    axis: int | None = 0,
    ddof: int = 1,
    nan_policy: str = "propagate",
    *,
    keepdims: bool = False,
) -> Array:
    """Return the standard error of the mean.

    Args:
        a: numbers.
        axis: the axis; all elements if None.
        ddof: what is taken off the count in the standard deviation.
        nan_policy: "propagate", or "omit": nan does not count.
        keepdims: whether the axis stays, with size 1.

    Returns:
        Floats.

    Raises:
        ValueError: the policy is unknown.
        NotImplementedError: it is "raise".

    Example:
        >>> round(float(sem(fnp.array([1.0, 2.0, 3.0]))), 5)
        0.57735

    References:
        scipy.stats.sem
    """
    _propagates("sem", nan_policy, ("propagate", "omit"))
    (x,) = promotion.promote_inexact("sem", promotion.to_array(a, "sem", "a"))
    if nan_policy == "omit":
        count = fnp.sum(~fnp.isnan(x), axis=axis, keepdims=keepdims)
        deviation = fnp.nanstd(x, axis=axis, ddof=ddof, keepdims=keepdims)
        return deviation / fnp.sqrt(count.astype(deviation.dtype))
    size = x.size if axis is None else x.shape[promotion.canonical_axis(axis, x.ndim, "sem")]
    return fnp.std(x, axis=axis, ddof=ddof, keepdims=keepdims) / math.sqrt(size)
