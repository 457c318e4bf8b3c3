"""Polynomials, given by their coefficients with the highest power first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import concrete_or_error
from funtorch.errors import MismatchError
from funtorch.numpy import elementwise, linalg
from funtorch.numpy.calculus import convolve
from funtorch.numpy.contractions import dot, outer
from funtorch.numpy.creation import diag, ones, vander, zeros
from funtorch.numpy.elementwise import add, divide, less, multiply, subtract, where
from funtorch.numpy.manipulation import atleast_1d, concatenate, ravel, roll
from funtorch.numpy.promotion import (
    asarray,
    broadcast_to,
    convert,
    describe,
    promote,
    promote_inexact,
    static_int,
    to_array,
    to_arrays,
)
from funtorch.numpy.reductions import cumprod
from funtorch.numpy.reductions import sum as sum_
from funtorch.numpy.sorting import argsort

__all__ = [
    "polyadd",
    "polyder",
    "polyfit",
    "polyint",
    "polymul",
    "polysub",
    "roots",
    "trimmed",
    "vector",
]


def vector(x: Any, function: str, argument: str) -> Any:
    """Return coefficients as a vector; a number is a polynomial of degree 0."""
    x = to_array(x, function, argument)
    if x.ndim > 1:
        raise ValueError(f"{function}: {argument} must be a vector, got {describe(x)}")
    return ravel(x)


def _sum(a1: Any, a2: Any, name: str) -> Any:
    """Add polynomials; the lower powers of the longer one meet the shorter one, and broadcast."""
    x, y = (atleast_1d(z) for z in promote(name, *to_arrays(name, a1=a1, a2=a2)))
    if x.shape[0] < y.shape[0]:
        x, y = y, x
    return add(x, y) if x.shape[0] == y.shape[0] else x.at[x.shape[0] - y.shape[0] :].add(y)


def polyadd(a1: Any, a2: Any) -> Any:
    """Add polynomials.

    Args:
        a1, a2: coefficients along the first axis, the highest power first.

    Example:
        >>> polyadd(asarray([1, 2]), asarray([3, 4, 5])).tolist()
        [3, 5, 7]

    References:
        numpy.polyadd
    """
    return _sum(a1, a2, "polyadd")


def polysub(a1: Any, a2: Any) -> Any:
    """Subtract polynomials.

    References:
        numpy.polysub
    """
    return _sum(a1, elementwise.negative(to_array(a2, "polysub", "a2")), "polysub")


def polymul(a1: Any, a2: Any, *, trim_leading_zeros: bool = False) -> Any:
    """Multiply polynomials.

    Args:
        a1, a2: vectors of coefficients.
        trim_leading_zeros: drop the zeros in front first, as NumPy does; values must be known.

    References:
        numpy.polymul
    """
    x, y = (vector(a, "polymul", n) for a, n in ((a1, "a1"), (a2, "a2")))
    if trim_leading_zeros:
        x, y = trimmed(x, "polymul"), trimmed(y, "polymul")
    x, y = promote_inexact("polymul", x, y)
    return convolve(*(z if z.shape[0] else zeros((1,), z.dtype) for z in (x, y)))


def trimmed(p: Any, name: str) -> Any:
    """Return coefficients without the zeros in front; the last one stays."""
    known = concrete_or_error(p, f"the number of leading zeros, in {name},")
    found = np.flatnonzero(known)
    return p[int(found[0]) if found.size else max(p.shape[0] - 1, 0) :]


def polyder(p: Any, m: int = 1) -> Any:
    """Differentiate a polynomial m times.

    References:
        numpy.polyder
    """
    p = atleast_1d(to_array(p, "polyder", "p"))
    p = convert(p, dtypes.to_inexact(p.dtype))
    m = _order(m, "polyder")
    for _ in range(m):
        n = p.shape[0]
        powers = np.arange(n - 1, 0, -1).reshape((-1,) + (1,) * (p.ndim - 1))
        p = multiply(p[:-1], asarray(powers, p.dtype))
    return p


def _order(m: Any, name: str) -> int:
    m = static_int(m, f"{name}: m")
    if m < 0:
        raise ValueError(f"{name}: m must not be negative, got {m}")
    return m


def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    """Integrate a polynomial m times, with integration constants k (default 0).

    References:
        numpy.polyint
    """
    p = vector(p, "polyint", "p")
    p = convert(p, dtypes.to_inexact(p.dtype))
    m = _order(m, "polyint")
    constants = ravel(asarray(0 if k is None else k))
    if constants.shape[0] == 1 and m:
        constants = broadcast_to(constants, (m,))
    if constants.shape[0] != m:
        raise ValueError(
            f"polyint: k must hold 1 or m={m} integration constants, got {constants.shape[0]}"
        )
    for j in range(m):
        powers = asarray(np.arange(p.shape[0], 0, -1), p.dtype)
        p = concatenate([divide(p, powers), convert(constants[j : j + 1], p.dtype)])
    return p


def roots(p: Any, *, strip_zeros: bool = True) -> Any:
    """Return the zeros of a polynomial: the eigenvalues of its companion matrix.

    Args:
        p: coefficients.
        strip_zeros: handle zeros at both ends as NumPy does, for which values must be known;
            without it, as is needed under jit, zeros in front leave nan among the roots.

    Returns:
        A complex vector.

    Example:
        >>> sorted(roots(asarray([1.0, -3.0, 2.0])).real.round(4).tolist())
        [1.0, 2.0]

    References:
        numpy.roots
    """
    p = vector(p, "roots", "p")
    p = convert(p, dtypes.to_inexact(p.dtype))
    if not strip_zeros:
        return _all_roots(p)
    known = concrete_or_error(p, "the number of zeros at the ends (see strip_zeros=False)")
    found = np.flatnonzero(known)
    if not found.size:
        return zeros((0,), dtypes.complex_dtype(p.dtype))
    trailing = p.shape[0] - 1 - int(found[-1])
    found_roots = _finite_roots(p[int(found[0]) : int(found[-1]) + 1])
    return concatenate([found_roots, zeros((trailing,), found_roots.dtype)])


def _finite_roots(p: Any) -> Any:
    """Return the zeros of a polynomial whose first coefficient is not 0."""
    n = p.shape[0] - 1
    if n < 1:
        return zeros((0,), dtypes.complex_dtype(p.dtype))
    below = diag(ones((n - 1,), p.dtype), -1)
    return linalg.eigvals(below.at[0].set(elementwise.negative(divide(p[1:], p[0]))))


def _all_roots(p: Any) -> Any:
    """Return as many zeros as the coefficients allow; those lost to leading zeros are nan.

    With the k leading zeros moved to the end, the polynomial has its own zeros and k times 0.
    """
    if not p.shape[0]:
        return zeros((0,), dtypes.complex_dtype(p.dtype))
    leading = sum_(cumprod(convert(elementwise.equal(p, 0), dtypes.int32)))
    nothing = elementwise.equal(leading, p.shape[0])
    p = roll(where(nothing, asarray(1, p.dtype), p), elementwise.negative(leading))
    found = _finite_roots(p)
    found = found[argsort(elementwise.equal(found, 0))]
    kept = less(asarray(np.arange(found.shape[0])), subtract(found.shape[0], leading))
    return where(kept, found, asarray(complex(math.nan, math.nan), found.dtype))


def polyfit(
    x: Any,
    y: Any,
    deg: int,
    rcond: float | None = None,
    full: bool = False,
    w: Any = None,
    cov: bool | str = False,
) -> Any:
    """Fit a polynomial to points by least squares.

    Args:
        x: vector of m arguments.
        y: values of shape (m,) or (m, k).
        deg: degree.
        rcond: singular values below this share of the largest are left out (default m * eps).
        full: also return residuals, rank, singular values and rcond.
        w: weights of shape (m,).
        cov: also return the covariance of the coefficients; 'unscaled' leaves it unscaled.

    Returns:
        Coefficients of shape (deg + 1,) or (deg + 1, k); with what was asked for beside.

    Raises:
        ValueError: the shapes do not fit, or deg is negative.

    Example:
        >>> polyfit(asarray([0.0, 1.0, 2.0]), asarray([1.0, 3.0, 5.0]), 1).round(4).tolist()
        [2.0, 1.0]

    References:
        numpy.polyfit
    """
    deg = static_int(deg, "polyfit: deg")
    xs, ys = promote_inexact("polyfit", *to_arrays("polyfit", x=x, y=y))
    if deg < 0:
        raise ValueError(f"polyfit: deg must not be negative, got {deg}")
    if xs.ndim != 1 or not xs.shape[0] or ys.ndim not in (1, 2) or ys.shape[0] != xs.shape[0]:
        raise MismatchError(
            "polyfit: x must be a vector that is not empty, and y a vector or matrix with as many "
            f"rows; got x {describe(xs)}, y {describe(ys)}"
        )
    m, order = xs.shape[0], deg + 1
    if rcond is None:
        rcond = m * float(dtypes.finfo(xs.dtype).eps)
    lhs, rhs = vander(xs, order), ys
    if w is not None:
        weights = convert(to_array(w, "polyfit", "w"), xs.dtype)
        if weights.shape != (m,):
            raise ValueError(f"polyfit: w must have shape ({m},) as x has, got {describe(weights)}")
        lhs = multiply(lhs, weights[:, None])
        rhs = multiply(rhs, weights[:, None] if ys.ndim == 2 else weights)
    scale = elementwise.sqrt(sum_(multiply(lhs, lhs), 0))
    lhs = divide(lhs, scale)
    c, residuals, rank, singular = linalg.lstsq(lhs, rhs, rcond)
    c = divide(c, scale[:, None] if ys.ndim == 2 else scale)
    if full:
        return c, residuals, rank, singular, asarray(rcond)
    if not cov:
        return c
    base = divide(linalg.inv(dot(lhs.T, lhs)), outer(scale, scale))
    if cov == "unscaled":
        factor = asarray(1.0, base.dtype)
    elif m <= order:
        raise ValueError(
            f"polyfit: {m} points are too few to scale the covariance of {order} coefficients; "
            "pass cov='unscaled'"
        )
    else:
        factor = divide(residuals, m - order)
    if ys.ndim == 1:
        return c, multiply(base, factor)
    return c, multiply(base[:, :, None], factor)
