"""Differences, sums of products along an axis, interpolation, covariance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import primitives
from funtorch.numpy import elementwise
from funtorch.numpy.contractions import matmul
from funtorch.numpy.direct import FLOATS, alike, direct, pair
from funtorch.numpy.elementwise import add, conjugate, divide, multiply, not_equal, subtract, where
from funtorch.numpy.indexing import take
from funtorch.numpy.manipulation import (
    concatenate,
    expand_dims,
    flip,
    moveaxis,
    ravel,
    reshape,
    slice_axis,
)
from funtorch.numpy.promotion import (
    asarray,
    broadcast_to,
    canonical_axes,
    canonical_axis,
    check_precision,
    convert,
    describe,
    promote,
    promote_inexact,
    static_int,
    to_array,
    to_arrays,
)
from funtorch.numpy.reductions import average, mean
from funtorch.numpy.reductions import sum as sum_
from funtorch.numpy.sorting import searchsorted
from funtorch.ops.conv import conv_general_dilated

__all__ = [
    "convolve",
    "corrcoef",
    "correlate",
    "cov",
    "diff",
    "ediff1d",
    "gradient",
    "interp",
    "trapezoid",
    "unwrap",
]


# -------------------------------------------------------------------------------------- differences
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """Return differences of neighbours along an axis, n times over.

    Args:
        a: array.
        n: how many times.
        axis: the axis.
        prepend, append: values joined to the ends first.

    Example:
        >>> diff(asarray([1, 4, 9]))
        Array([3, 5], dtype=int32)

    References:
        numpy.diff
    """
    x = to_array(a, "diff", "a")
    n = static_int(n, "diff: n")
    if n < 0:
        raise ValueError(f"diff: n must not be negative, got {n}")
    k = canonical_axis(axis, x.ndim, "diff")
    ends = []
    for value in (prepend, append):
        if value is None:
            ends.append([])
            continue
        v = to_array(value, "diff", "prepend or append")
        ends.append([broadcast_to(v, (*x.shape[:k], 1, *x.shape[k + 1 :])) if v.ndim == 0 else v])
    if ends[0] or ends[1]:
        x = concatenate([*ends[0], x, *ends[1]], k)
    step = not_equal if x.dtype == dtypes.bool_ else subtract
    for _ in range(n):
        size = x.shape[k]
        x = step(slice_axis(x, k, min(1, size), size), slice_axis(x, k, 0, max(size - 1, 0)))
    return x


@direct(np.ediff1d, FLOATS)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    """Return differences of neighbours of the flattened array, between given ends.

    References:
        numpy.ediff1d
    """
    x = ravel(to_array(ary, "ediff1d", "ary"))
    ends = [[] if v is None else [ravel(convert(asarray(v), x.dtype))] for v in (to_begin, to_end)]
    return concatenate([*ends[0], diff(x), *ends[1]])


def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int | None = None) -> Any:
    """Return central differences inside and one-sided ones at the ends.

    Args:
        f: array.
        *varargs: the spacing: nothing (1), one number, or one number or vector of positions per
            axis.
        axis: axis or axes; None means all.

    Returns:
        One Array per axis, in a list if there are several.

    References:
        numpy.gradient
    """
    if edge_order not in (None, 1):
        raise NotImplementedError(f"gradient: edge_order={edge_order} is not supported; use 1")
    x = to_array(f, "gradient", "f")
    x = convert(x, dtypes.to_inexact(x.dtype))
    axes = canonical_axes(axis, x.ndim, "gradient")
    if isinstance(axis, (tuple, list)):
        axes = tuple(canonical_axis(k, x.ndim, "gradient") for k in axis)
    spacings = varargs or (1.0,)
    if len(spacings) == 1:
        spacings = spacings * len(axes)
    if len(spacings) != len(axes):
        raise ValueError(f"gradient: {len(varargs)} spacings were given for {len(axes)} axes")
    out = [_gradient_along(x, k, asarray(h)) for k, h in zip(axes, spacings, strict=True)]
    return out[0] if len(out) == 1 else out


def _gradient_along(x: Any, k: int, h: Any) -> Any:
    n = x.shape[k]
    if n < 2:
        raise ValueError(f"gradient: axis {k} of {describe(x)} needs at least 2 elements")
    d = diff(x, axis=k)
    first, last = slice_axis(d, k, 0, 1), slice_axis(d, k, n - 2, n - 1)
    left, right = slice_axis(d, k, 0, n - 2), slice_axis(d, k, 1, n - 1)
    if h.ndim == 0:
        return divide(concatenate([first, multiply(add(left, right), 0.5), last], k), h)
    if h.shape != (n,):
        raise ValueError(f"gradient: positions {describe(h)} do not fit axis {k} of {describe(x)}")
    inner = [1] * x.ndim
    inner[k] = n - 1
    steps = reshape(diff(convert(h, x.dtype)), tuple(inner))
    a, b = slice_axis(steps, k, 0, n - 2), slice_axis(steps, k, 1, n - 1)
    # Weights that make the formula exact for parabolas.
    middle = divide(add(multiply(divide(left, a), b), multiply(divide(right, b), a)), add(a, b))
    return concatenate(
        [
            divide(first, slice_axis(steps, k, 0, 1)),
            middle,
            divide(last, slice_axis(steps, k, n - 2, n - 1)),
        ],
        k,
    )


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    """Integrate along an axis by the trapezoidal rule.

    References:
        numpy.trapezoid
    """
    y = moveaxis(to_array(y, "trapezoid", "y"), axis, -1)
    y = convert(y, dtypes.to_inexact(y.dtype))
    width = dx
    if x is not None:
        x = to_array(x, "trapezoid", "x")
        width = diff(x if x.ndim == 1 else moveaxis(x, axis, -1))
    return multiply(sum_(multiply(width, add(y[..., 1:], y[..., :-1])), -1), 0.5)


def unwrap(p: Any, discont: float | None = None, axis: int = -1, period: float = 2 * np.pi) -> Any:
    """Take out jumps of more than half a period.

    References:
        numpy.unwrap
    """
    x = to_array(p, "unwrap", "p")
    if dtypes.is_integer(x.dtype) and isinstance(period, (int, np.integer)):
        return convert(unwrap(convert(x, dtypes.float64), discont, axis, float(period)), x.dtype)
    x = convert(x, dtypes.to_inexact(x.dtype))
    k = canonical_axis(axis, x.ndim, "unwrap")
    d = diff(x, axis=k)
    half = divide(to_array(period, "unwrap", "period"), 2)
    folded = subtract(elementwise.remainder(add(d, half), period), half)
    folded = where(
        elementwise.logical_and(elementwise.equal(folded, -half), elementwise.greater(d, 0)),
        half,
        folded,
    )
    fix = subtract(folded, d)
    fix = where(
        elementwise.less(elementwise.absolute(d), half if discont is None else discont), 0, fix
    )
    total = primitives["cumsum"].bind(fix, axis=k, reverse=False)
    return concatenate([slice_axis(x, k, 0, 1), add(slice_axis(x, k, 1, x.shape[k]), total)], k)


# ------------------------------------------------------------------------------------ along an axis
def _numpy_interp(x: Any, xp: Any, fp: Any, **ends: Any) -> Any:
    return np.interp(x, xp, fp, **ends).astype(x.dtype)


@direct(_numpy_interp, FLOATS, alike)
def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Any:
    """Interpolate linearly between the points (xp, fp).

    Args:
        x: array of positions.
        xp, fp: vectors; xp increases.
        left, right: values outside; default the end values; 'extrapolate' goes on with the line
            between the last two points.
        period: treat xp as periodic.

    Example:
        >>> interp(asarray(1.5), asarray([1.0, 2.0]), asarray([10.0, 20.0]))
        Array(15., dtype=float32)

    References:
        numpy.interp
    """
    x, xp, fp = promote_inexact("interp", *to_arrays("interp", x=x, xp=xp, fp=fp))
    if xp.ndim != 1 or xp.shape != fp.shape:
        raise ValueError(
            f"interp: xp {describe(xp)} and fp {describe(fp)} must be vectors of one size"
        )
    if not xp.size:
        raise ValueError("interp: array of sample points is empty")
    for name, end in (("left", left), ("right", right)):
        if isinstance(end, str) and end != "extrapolate":
            raise ValueError(
                f"interp: the only valid string value of `{name}` is 'extrapolate', got {end!r}"
            )
    if period is not None:
        x, xp = elementwise.remainder(x, period), elementwise.remainder(xp, period)
        order = primitives["sort"].bind(
            xp, asarray(np.arange(xp.shape[0], dtype=np.int32)), axis=0, num_keys=1
        )[1]
        xp, fp = xp[order], fp[order]
        xp = concatenate([subtract(xp[-1:], period), xp, add(xp[:1], period)])
        fp = concatenate([fp[-1:], fp, fp[:1]])
    n = xp.shape[0]
    if n == 1:
        out = broadcast_to(fp[0], x.shape)
    else:
        i = elementwise.clip(searchsorted(xp, x, "right"), 1, n - 1)
        below, above = take(xp, i - 1, mode="clip"), take(xp, i, mode="clip")
        low, high = take(fp, i - 1, mode="clip"), take(fp, i, mode="clip")
        width = subtract(above, below)
        flat = elementwise.equal(width, 0)
        weight = where(flat, 0, divide(subtract(x, below), where(flat, 1, width)))
        out = add(low, multiply(weight, subtract(high, low)))
    if period is not None:
        return out
    for beyond, end, value in (
        (elementwise.less(x, xp[0]), fp[0], left),
        (elementwise.greater(x, xp[-1]), fp[-1], right),
    ):
        if value != "extrapolate" if isinstance(value, str) else True:
            out = where(beyond, end if value is None else value, out)
    return out


def _sliding_products(a: Any, v: Any, mode: str, name: str, preferred: Any) -> Any:
    """Return sums of a[i + k] * v[m - 1 - k], for the positions of a mode."""
    a, v = promote(name, a, v)
    if a.ndim != 1 or v.ndim != 1 or not a.shape[0] or not v.shape[0]:
        raise ValueError(
            f"{name}: both arguments must be vectors with elements, got {describe(a)}, "
            f"{describe(v)}"
        )
    if a.shape[0] < v.shape[0]:
        a, v = v, a
    n, m = a.shape[0], v.shape[0]
    margins = {"full": (m - 1, m - 1), "same": (m // 2, m - m // 2 - 1), "valid": (0, 0)}
    if mode not in margins:
        raise ValueError(f"{name}: mode must be 'full', 'same' or 'valid', got {mode!r}")
    wide = dtypes.int32 if a.dtype == dtypes.bool_ else a.dtype
    out = conv_general_dilated(
        reshape(convert(a, wide), (1, 1, n)),
        reshape(convert(flip(v), wide), (1, 1, m)),
        strides=(1,),
        padding=(margins[mode],),
        lhs_dilation=(1,),
        rhs_dilation=(1,),
        groups=1,
        out_dtype=None if preferred is None else dtypes.canonical(preferred),
    )
    return not_equal(ravel(out), 0) if wide != a.dtype and preferred is None else ravel(out)


def _factors(name: str, a: Any, v: Any, preferred: Any) -> list[Any]:
    arrays = to_arrays(name, a=a, v=v)
    return promote_inexact(name, *arrays) if preferred is None else arrays


@direct(np.convolve, FLOATS, pair)
def convolve(
    a: Any, v: Any, mode: str = "full", *, precision: Any = None, preferred_element_type: Any = None
) -> Any:
    """Convolve two vectors.

    Args:
        a, v: vectors.
        mode: 'full', 'same' or 'valid'.
        precision: accepted for JAX's sake.
        preferred_element_type: dtype to accumulate and return; None gives the common one, and a
            float for integers, as in JAX.

    Example:
        >>> convolve(asarray([1.0, 2.0, 3.0]), asarray([0.0, 1.0, 0.5]))
        Array([0. , 1. , 2.5, 4. , 1.5], dtype=float32)

    References:
        numpy.convolve
    """
    check_precision(precision, "convolve")
    x, y = _factors("convolve", a, v, preferred_element_type)
    if mode == "same" and x.shape[0] < y.shape[0]:
        x, y = y, x
    return _sliding_products(x, y, mode, "convolve", preferred_element_type)


@direct(np.correlate, FLOATS, pair)
def correlate(
    a: Any,
    v: Any,
    mode: str = "valid",
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Correlate two vectors: convolve with the reversed conjugate of the second.

    References:
        numpy.correlate
    """
    check_precision(precision, "correlate")
    x, y = _factors("correlate", a, v, preferred_element_type)
    if x.shape[0] < y.shape[0]:
        # The shorter one slides over the longer one; the lags then run the other way.
        return flip(
            _sliding_products(conjugate(y), flip(x), mode, "correlate", preferred_element_type)
        )
    return _sliding_products(x, flip(conjugate(y)), mode, "correlate", preferred_element_type)


# --------------------------------------------------------------------------------------- covariance
def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    dtype: Any = None,
) -> Any:
    """Return the covariance matrix of variables in rows.

    Args:
        m: vector, or matrix of shape (variables, observations).
        y: more variables.
        rowvar: False takes variables from columns.
        bias, ddof: divide by n - ddof; ddof is 0 with bias, else 1.
        fweights, aweights: weights of observations: counts, and importances.
        dtype: dtype to compute in and return; None gives that of m, or the default float.

    References:
        numpy.cov
    """
    x = to_array(m, "cov", "m")
    if x.ndim > 2 or np.ndim(y) > 2:
        raise ValueError(f"cov: m and y must have at most 2 dimensions, got {describe(x)}")
    x = convert(x, dtypes.to_inexact(x.dtype if dtype is None else dtype))
    rows = [reshape(x, (1, -1)) if x.ndim < 2 else x if rowvar else x.T]
    if y is not None:
        z = convert(to_array(y, "cov", "y"), x.dtype)
        rows.append(reshape(z, (1, -1)) if z.ndim < 2 else z if rowvar else z.T)
    x = concatenate(rows, 0)
    if ddof is None:
        ddof = 0 if bias else 1
    elif not isinstance(ddof, (float, np.floating)):
        ddof = static_int(ddof, "cov: ddof")
    if fweights is not None and not dtypes.is_integer(asarray(fweights).dtype):
        raise TypeError(f"cov: fweights must be integer, got {describe(asarray(fweights))}")
    weights = None
    for w in (fweights, aweights):
        if w is not None:
            w = convert(asarray(w), dtypes.real_dtype(x.dtype))
            if w.ndim != 1:
                raise RuntimeError(
                    f"cov: cannot handle multidimensional weights, got {describe(w)}"
                )
            if w.shape[0] != x.shape[1]:
                raise RuntimeError(
                    f"cov: incompatible numbers of samples and weights: {x.shape[1]} samples, "
                    f"{w.shape[0]} weights"
                )
            weights = w if weights is None else multiply(weights, w)
    if weights is None:
        centered = subtract(x, mean(x, 1, keepdims=True))
        weighted, norm = centered, x.shape[1] - ddof
    else:
        total = sum_(weights)
        centre, _ = average(x, 1, weights, returned=True)
        centered = subtract(x, expand_dims(centre, 1))
        weighted = multiply(centered, weights)
        correction = (
            ddof
            if aweights is None
            else divide(
                multiply(ddof, sum_(multiply(weights, convert(asarray(aweights), weights.dtype)))),
                total,
            )
        )
        norm = subtract(total, correction)
    out = divide(matmul(weighted, conjugate(centered).T), norm)
    if not x.shape[1]:
        out = multiply(out, math.nan)
    return reshape(out, ()) if out.shape == (1, 1) else out


def corrcoef(x: Any, y: Any = None, rowvar: bool = True, dtype: Any = None) -> Any:
    """Return the matrix of correlation coefficients; arguments as for `cov`.

    References:
        numpy.corrcoef
    """
    c = cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return divide(c, c)
    scale = elementwise.sqrt(elementwise.real(c.diagonal()))
    return divide(divide(c, scale[:, None]), scale[None, :])


# -------------------------------------------------------------------------------------- polynomials
