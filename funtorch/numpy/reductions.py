"""Reductions and cumulative functions, with their nan-ignoring versions."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import primitives
from funtorch.errors import MismatchError
from funtorch.numpy import elementwise, straight
from funtorch.numpy.direct import FLOATS, LARGE, NUMBERS, direct
from funtorch.numpy.elementwise import (
    absolute,
    divide,
    isnan,
    logical_and,
    maximum,
    minimum,
    multiply,
    not_equal,
    square,
    subtract,
    where,
)
from funtorch.numpy.manipulation import ravel, reshape
from funtorch.numpy.promotion import (
    asarray,
    broadcast_to,
    canonical_axes,
    canonical_axis,
    convert,
    describe,
    no_out,
    promote,
    spread_to,
    to_array,
)

# fmt: off
__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "average", "count_nonzero", "cumprod",
    "cumsum", "cumulative_prod", "cumulative_sum", "max", "mean", "min", "nanargmax",
    "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean", "nanmin",
    "nanprod", "nanstd", "nansum", "nanvar",
    "prod", "ptp", "std", "sum", "var",
]
# fmt: on


# ---------------------------------------------------------------------------------------- mechanism
def _reduce(name: str, x: Any, axis: Any, keepdims: bool) -> Any:
    """Apply a reduction primitive over axes."""
    axes = canonical_axes(axis, x.ndim, name)
    out = primitives[f"reduce_{name}"].bind(x, axes=axes) if axes else x
    return _keep(out, x, axes) if keepdims else out


def _extreme_complex(name: str, x: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the lexicographic extremes of complex numbers, and where they are, axes kept."""
    re, im, isnan = elementwise.real(x), elementwise.imag(x), elementwise.isnan(x)
    first = _reduce(name, re, axes, True)
    beyond = -math.inf if name == "max" else math.inf
    second = _reduce(name, elementwise.where(elementwise.equal(re, first), im, beyond), axes, True)
    found = primitives["complex"].bind(first, second)
    nan = complex(math.nan, math.nan)
    found = elementwise.where(_reduce("or", isnan, axes, True), nan, found)
    return found, elementwise.where(isnan, 2, convert(elementwise.equal(x, found), dtypes.uint8))


def _keep(out: Any, x: Any, axes: tuple[int, ...]) -> Any:
    return reshape(out, tuple(1 if k in axes else n for k, n in enumerate(x.shape)))


def _sum_dtype(dtype: Any) -> Any:
    """Return the dtype that integers are summed in: at least as wide as the default int."""
    default = dtypes.default_int()
    if dtype == dtypes.bool_:
        return default
    if dtypes.is_integer(dtype) and dtype.itemsize < default.itemsize:
        return default if dtypes.is_signed(dtype) else np.dtype(f"uint{8 * default.itemsize}")
    return dtype


def _scalar(initial: Any, name: str) -> Any:
    if np.ndim(initial):
        raise ValueError(
            f"{name}: initial value must be a scalar. Got array of shape {np.shape(initial)}"
        )
    return initial


def _masked(x: Any, mask: Any, neutral: Any, name: str) -> Any:
    if mask is None:
        return x
    mask = to_array(mask, name, "where")
    if mask.dtype != dtypes.bool_:
        raise MismatchError(f"{name}: where must be None or a boolean array, got {describe(mask)}")
    return where(mask, x, convert(asarray(neutral), x.dtype, x.weak_type))


def _accumulating(
    name: str, combine: Callable[..., Any], neutral: int, text: str
) -> Callable[..., Any]:
    """Make sum or prod: small integers are widened, 16-bit floats accumulate in 32 bits."""

    def function(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: None = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = None,
        promote_integers: bool = True,
    ) -> Any:
        no_out(out, name)
        x = to_array(a, name, "a")
        result = (
            dtypes.canonical(dtype)
            if dtype is not None
            else (_sum_dtype(x.dtype) if promote_integers else x.dtype)
        )
        narrow = dtypes.is_float(result) and result.itemsize == 2
        x = _masked(convert(x, dtypes.float32 if narrow else result), where, neutral, name)
        reduced = _reduce(name, x, axis, keepdims)
        if initial is not None:
            reduced = combine(reduced, _scalar(initial, name))
        return convert(reduced, result)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{text}.

    Args:
        a: array of numbers.
        axis: axis or axes to reduce; None means all.
        dtype: dtype of the result; None widens small integers and keeps others.
        out: must be None; arrays are immutable.
        keepdims: keep reduced axes with size 1.
        initial: starting value.
        where: bool array; elements where it is False are left out.
        promote_integers: whether small integers are widened.

    Returns:
        An Array without the reduced axes.

    References:
        numpy.{name}
    """
    return function


def _choosing(name: str, combine: Callable[..., Any], text: str) -> Callable[..., Any]:
    """Make max or min."""

    def function(
        a: Any,
        axis: Any = None,
        out: None = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = None,
    ) -> Any:
        no_out(out, name)
        x = to_array(a, name, "a")
        if initial is not None:
            _scalar(initial, name)
        if where is not None and initial is None:
            raise ValueError(
                f"{name}: where= needs initial=, the result where no element is chosen"
            )
        axes = canonical_axes(axis, x.ndim, name)
        if any_(x.shape[k] == 0 for k in axes):
            if initial is None:
                raise ValueError(
                    f"{name}: zero-size array to reduction operation {name} which has no "
                    f"identity: {describe(x)} has no elements along axis {axis}; give initial="
                )
            sizes = ((1 if k in axes else n) for k, n in enumerate(x.shape))
            kept = tuple(n for k, n in enumerate(sizes) if keepdims or k not in axes)
            return broadcast_to(convert(to_array(initial, name, "initial"), x.dtype), kept)
        x = _masked(convert(x, x.dtype), where, initial, name)
        if x.dtype == dtypes.bool_:
            reduced = _reduce({"max": "or", "min": "and"}[name], x, axes, keepdims)
        elif dtypes.is_complex(x.dtype) and axes:
            reduced = _extreme_complex(name, x, axes)[0]
            if not keepdims:
                reduced = reshape(reduced, [n for k, n in enumerate(x.shape) if k not in axes])
        else:
            reduced = _reduce(name, x, axes, keepdims)
        return reduced if initial is None else combine(reduced, initial)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{text}; nan if there is one.

    Args:
        a: array.
        axis: axis or axes to reduce; None means all.
        out: must be None; arrays are immutable.
        keepdims: keep reduced axes with size 1.
        initial: value that takes part too.
        where: bool array; elements where it is False are left out. Needs ``initial``.

    Returns:
        An Array without the reduced axes.

    Raises:
        ValueError: there is no element to choose from.

    References:
        numpy.{name}
    """
    return function


def _logical(name: str, prim: str, neutral: bool, text: str) -> Callable[..., Any]:
    def function(
        a: Any, axis: Any = None, out: None = None, keepdims: bool = False, *, where: Any = None
    ) -> Any:
        no_out(out, name)
        x = to_array(a, name, "a")
        x = x if x.dtype == dtypes.bool_ else not_equal(x, 0)
        return _reduce(prim, _masked(x, where, neutral, name), axis, keepdims)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{text}.\n\n    References:\n        numpy.{name}\n    "
    return function


def _position(name: str, text: str) -> Callable[..., Any]:
    def function(
        a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None
    ) -> Any:
        no_out(out, name)
        x = to_array(a, name, "a")
        flat = ravel(x) if axis is None else x
        k = canonical_axis(0 if axis is None else axis, flat.ndim, name)
        if flat.shape[k] == 0:
            raise ValueError(
                f"{name}: attempt to get {name} of an empty sequence: {describe(x)} has no "
                f"elements along axis {axis}"
            )
        if flat.dtype == dtypes.bool_:
            flat = convert(flat, dtypes.uint8)
        prim = primitives[name]
        if dtypes.is_complex(flat.dtype):
            flat, prim = _extreme_complex(name[3:], flat, (k,))[1], primitives["argmax"]
        found = prim.bind(flat, axis=k, dtype=dtypes.default_int())
        if not keepdims:
            return found
        return _keep(found, x, tuple(range(x.ndim)) if axis is None else (k,))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"{text}; None as axis flattens.\n\n    References:\n        numpy.{name}\n    "
    )
    return function


def _cumulative(name: str, text: str) -> Callable[..., Any]:
    def function(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
        no_out(out, name)
        x = to_array(a, name, "a")
        if axis is None:
            x, axis = ravel(x), 0
        k = canonical_axis(axis, x.ndim, name)
        result = (
            dtypes.canonical(dtype)
            if dtype is not None
            else (dtypes.default_int() if x.dtype == dtypes.bool_ else x.dtype)
        )
        return primitives[name].bind(convert(x, result), axis=k, reverse=False)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"{text}; None as axis flattens.\n\n    References:\n        numpy.{name}\n    "
    )
    return function


any_ = builtins.any
_TRUTHS = NUMBERS | {dtypes.bool_}
sum = direct(straight.reduced(np.add), FLOATS, large=LARGE)(
    _accumulating("sum", elementwise.add, 0, "Sum elements")
)
prod = direct(straight.reduced(np.multiply), FLOATS, large=LARGE)(
    _accumulating("prod", multiply, 1, "Multiply elements")
)
max = amax = direct(straight.chosen(np.maximum), NUMBERS, large=LARGE)(
    _choosing("max", maximum, "Return the largest element")
)
min = amin = direct(straight.chosen(np.minimum), NUMBERS, large=LARGE)(
    _choosing("min", minimum, "Return the smallest element")
)
any = direct(straight.chosen(np.logical_or), _TRUTHS, large=LARGE)(
    _logical("any", "or", False, "Tell whether any element is nonzero")
)
all = direct(straight.chosen(np.logical_and), _TRUTHS, large=LARGE)(
    _logical("all", "and", True, "Tell whether all elements are nonzero")
)
argmax = direct(straight.placed(np.ndarray.argmax), NUMBERS)(
    _position("argmax", "Return the position of the first largest element")
)
argmin = direct(straight.placed(np.ndarray.argmin), NUMBERS)(
    _position("argmin", "Return the position of the first smallest element")
)
cumsum = direct(np.ndarray.cumsum, FLOATS, large=LARGE)(
    _cumulative("cumsum", "Return the cumulative sum along an axis")
)
cumprod = direct(np.ndarray.cumprod, FLOATS, large=LARGE)(
    _cumulative("cumprod", "Return the cumulative product along an axis")
)


def _cumulative_standard(name: str, base: Callable[..., Any], start: int) -> Callable[..., Any]:
    def function(
        x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
    ) -> Any:
        x = to_array(x, name)
        if axis is None:
            if x.ndim != 1:
                raise ValueError(f"{name}: axis is required for {describe(x)}")
            axis = 0
        k = canonical_axis(axis, x.ndim, name)
        out = base(x, k, _sum_dtype(x.dtype) if dtype is None else dtype)
        if include_initial:
            first = asarray(start, out.dtype)
            shape = tuple(1 if j == k else n for j, n in enumerate(out.shape))
            out = primitives["concatenate"].bind(broadcast_to(first, shape), out, axis=k)
        return out

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"Like {base.__name__}, by the Array API standard.\n\n"
        f"    References:\n        numpy.{name}\n    "
    )
    return function


cumulative_sum = _cumulative_standard("cumulative_sum", cumsum, 0)
cumulative_prod = _cumulative_standard("cumulative_prod", cumprod, 1)


# --------------------------------------------------------------------------------------- statistics
def _count(x: Any, axes: tuple[int, ...], mask: Any, keepdims: bool, dtype: Any) -> Any:
    """Return how many elements take part: a Python int, or an array where a mask chooses."""
    if mask is None:
        n = 1
        for k in axes:
            n *= x.shape[k]
        return n
    mask = convert(broadcast_to(to_array(mask, "mean", "where"), x.shape), dtype)
    return sum(mask, axes, dtype, keepdims=keepdims)


def _float_result(x: Any, dtype: Any) -> tuple[Any, Any]:
    """Return the dtype to compute in and the dtype of the result."""
    result = dtypes.to_inexact(x.dtype) if dtype is None else dtypes.canonical(dtype)
    narrow = dtypes.is_float(result) and result.itemsize == 2
    return (dtypes.float32 if narrow else result), result


@direct(straight.mean, FLOATS, large=LARGE)
def mean(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    *,
    where: Any = None,
) -> Any:
    """Return the arithmetic mean.

    Args:
        a: array of numbers.
        axis: axis or axes to reduce; None means all.
        dtype: dtype of the result; None gives that of the input, or the default float for integers.
        keepdims: keep reduced axes with size 1.
        where: bool array; elements where it is False are left out.

    Returns:
        An Array without the reduced axes.

    Example:
        >>> mean(asarray([1.0, 2.0, 6.0]))
        Array(3., dtype=float32)

    References:
        numpy.mean
    """
    no_out(out, "mean")
    x = to_array(a, "mean", "a")
    compute, result = _float_result(x, dtype)
    x = convert(x, compute)
    axes = canonical_axes(axis, x.ndim, "mean")
    total = sum(x, axes, keepdims=keepdims, where=where)
    return convert(
        divide(total, _count(x, axes, where, keepdims, dtypes.real_dtype(compute))), result
    )


def average(
    a: Any, axis: Any = None, weights: Any = None, returned: bool = False, keepdims: bool = False
) -> Any:
    """Return the weighted mean, and with ``returned`` also the sum of weights.

    References:
        numpy.average
    """
    x = to_array(a, "average", "a")
    if weights is None:
        out = mean(x, axis, keepdims=keepdims)
        total = broadcast_to(asarray(x.size // builtins.max(out.size, 1), out.dtype), out.shape)
        return (out, total) if returned else out
    w = to_array(weights, "average", "weights")
    axes = canonical_axes(axis, x.ndim, "average")
    if w.shape != x.shape:
        if w.shape != tuple(x.shape[k] for k in axes):
            raise ValueError(
                f"average: weights {describe(w)} do not fit {describe(x)} along axis {axis}"
            )
        w = reshape(w, tuple(n if k in axes else 1 for k, n in enumerate(x.shape)))
    x, w = promote("average", x, w)
    dtype = dtypes.to_inexact(x.dtype)
    x, w = convert(x, dtype), spread_to(convert(w, dtype), x.shape)
    total = sum(w, axes, keepdims=keepdims)
    out = divide(sum(multiply(x, w), axes, keepdims=keepdims), total)
    return (out, total) if returned else out


_mean = mean


@direct(straight.var, FLOATS, large=LARGE)
def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    where: Any = None,
    mean: Any = None,
    correction: float | None = None,
) -> Any:
    """Return the variance, the mean of squared distances from the mean.

    Args:
        a: array of numbers.
        axis: axis or axes to reduce; None means all.
        dtype: dtype of the result.
        ddof, correction: the sum is divided by n - ddof.
        keepdims: keep reduced axes with size 1.
        where: bool array; elements where it is False are left out.
        mean: the mean, where it is known already, with the reduced axes as size 1.

    Returns:
        An Array of a real dtype without the reduced axes.

    References:
        numpy.var
    """
    no_out(out, "var")
    x = to_array(a, "var", "a")
    if correction is not None:
        if ddof:
            raise ValueError("var: ddof and correction can't be provided simultaneously")
        ddof = correction
    compute, result = _float_result(x, dtype)
    real = dtypes.real_dtype(compute)
    if not (dtypes.is_complex(x.dtype) and not dtypes.is_complex(compute)):
        x = convert(x, compute)
    axes = canonical_axes(axis, x.ndim, "var")
    if mean is None:
        mean = _mean(x, axes, keepdims=True, where=where)
    centered = subtract(x, mean)
    squared = square(absolute(centered)) if dtypes.is_complex(x.dtype) else square(centered)
    total = sum(squared, axes, keepdims=keepdims, where=where)
    n = subtract(_count(x, axes, where, keepdims, real), ddof)
    n = elementwise.where(elementwise.greater(n, 0), n, math.nan)
    return convert(divide(total, n), dtypes.real_dtype(result))


@direct(straight.std, FLOATS, large=LARGE)
def std(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    where: Any = None,
    mean: Any = None,
    correction: float | None = None,
) -> Any:
    """Return the standard deviation; arguments as for `var`.

    References:
        numpy.std
    """
    return elementwise.sqrt(
        var(a, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)
    )


def ptp(a: Any, axis: Any = None, out: None = None, keepdims: bool = False) -> Any:
    """Return the difference of the largest and the smallest element.

    References:
        numpy.ptp
    """
    no_out(out, "ptp")
    return subtract(max(a, axis, keepdims=keepdims), min(a, axis, keepdims=keepdims))


def count_nonzero(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Count the elements that are not zero.

    References:
        numpy.count_nonzero
    """
    return sum(not_equal(to_array(a, "count_nonzero", "a"), 0), axis, keepdims=keepdims)


# ------------------------------------------------------------------------------------- ignoring nan
def _neutral(x: Any, neutral: float) -> Any:
    return where(isnan(x), neutral, x)


def _without_nan(name: str, function: Callable[..., Any], neutral: float) -> Callable[..., Any]:
    def wrapped(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: None = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = None,
    ) -> Any:
        x = _neutral(to_array(a, name, "a"), neutral)
        return function(x, axis, dtype, out, keepdims, initial, where)

    return _like(wrapped, name, function, neutral)


def _cumulative_without_nan(
    name: str, function: Callable[..., Any], neutral: float
) -> Callable[..., Any]:
    def wrapped(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
        return function(_neutral(to_array(a, name, "a"), neutral), axis, dtype, out)

    return _like(wrapped, name, function, neutral)


def _like(wrapped: Any, name: str, function: Callable[..., Any], neutral: float) -> Any:
    wrapped.__name__ = wrapped.__qualname__ = name
    wrapped.__doc__ = (
        f"Like {function.__name__}, with nan counted as {neutral}.\n\n"
        f"    References:\n        numpy.{name}\n    "
    )
    return wrapped


nansum = _without_nan("nansum", sum, 0)
nanprod = _without_nan("nanprod", prod, 1)
nancumsum = _cumulative_without_nan("nancumsum", cumsum, 0)
nancumprod = _cumulative_without_nan("nancumprod", cumprod, 1)


def _choosing_number(name: str, choose: Callable[..., Any], worst: float) -> Callable[..., Any]:
    def function(
        a: Any,
        axis: Any = None,
        out: None = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = None,
    ) -> Any:
        no_out(out, name)
        x = to_array(a, name, "a")
        if not dtypes.is_inexact(x.dtype):
            return choose(x, axis, None, keepdims, initial, where)
        nan = isnan(x)
        found = choose(elementwise.where(nan, worst, x), axis, None, keepdims, initial, where)
        if initial is not None:
            return found
        return elementwise.where(all(nan, axis, keepdims=keepdims), math.nan, found)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"Like {choose.__name__}, ignoring nan; nan where there is nothing else.\n\n"
        f"    References:\n        numpy.{name}\n    "
    )
    return function


nanmax = _choosing_number("nanmax", max, -math.inf)
nanmin = _choosing_number("nanmin", min, math.inf)


def _number_position(name: str, find: Callable[..., Any], worst: float) -> Callable[..., Any]:
    def function(
        a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None
    ) -> Any:
        no_out(out, name)
        x = to_array(a, name, "a")
        if not dtypes.is_inexact(x.dtype):
            return find(x, axis, None, keepdims)
        nan = isnan(x)
        found = find(where(nan, worst, x), axis, None, keepdims)
        return where(all(nan, axis, keepdims=bool(keepdims)), -1, found)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"Like {find.__name__}, ignoring nan; -1 where there is nothing else.\n\n"
        f"    References:\n        numpy.{name}\n    "
    )
    return function


nanargmax = _number_position("nanargmax", argmax, -math.inf)
nanargmin = _number_position("nanargmin", argmin, math.inf)


def _present(x: Any, mask: Any) -> Any:
    there = elementwise.logical_not(isnan(x))
    return there if mask is None else logical_and(there, mask)


def nanmean(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    where: Any = None,
) -> Any:
    """Return the mean of the elements that are not nan.

    References:
        numpy.nanmean
    """
    x = to_array(a, "nanmean", "a")
    return mean(x, axis, dtype, out, keepdims, where=_present(x, where))


def nanvar(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    ddof: float = 0,
    keepdims: bool = False,
    where: Any = None,
    mean: Any = None,
    correction: float | None = None,
) -> Any:
    """Return the variance of the elements that are not nan.

    References:
        numpy.nanvar
    """
    x = to_array(a, "nanvar", "a")
    options = {"mean": mean, "correction": correction}
    return var(x, axis, dtype, out, ddof, keepdims, where=_present(x, where), **options)


def nanstd(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    ddof: float = 0,
    keepdims: bool = False,
    where: Any = None,
    mean: Any = None,
    correction: float | None = None,
) -> Any:
    """Return the standard deviation of the elements that are not nan.

    References:
        numpy.nanstd
    """
    options = (ddof, keepdims, where, mean, correction)
    return elementwise.sqrt(nanvar(a, axis, dtype, out, *options))
