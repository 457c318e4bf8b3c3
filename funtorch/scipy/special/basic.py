"""Special functions under SciPy's names.

References:
    scipy.special, https://docs.scipy.org/doc/scipy/reference/special.html
    NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import funtorch.numpy as fnp
from funtorch.core import Array
from funtorch.numpy import promotion
from funtorch.numpy.direct import compiled_if_large
from funtorch.ops import elementwise as ops

__all__ = [
    "beta",
    "betaln",
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfinv",
    "expit",
    "factorial",
    "gamma",
    "gammaln",
    "kl_div",
    "log_softmax",
    "logit",
    "logsumexp",
    "multigammaln",
    "ndtr",
    "poch",
    "rel_entr",
    "softmax",
    "xlog1py",
    "xlogy",
]


def _floats(function: str, *values: Any) -> list[Any]:
    """Return arguments as Arrays of one float dtype and one shape."""
    arrays = [promotion.to_array(v, function, f"number {k}") for k, v in enumerate(values, 1)]
    return promotion.broadcast(function, *promotion.promote_inexact(function, *arrays))


def _from_primitive(name: str, strict: Callable[[Any], Any], summary: str, example: str) -> Any:
    """Make a function of one float argument from a primitive."""

    def function(x: Any) -> Array:
        return strict(*_floats(name, x))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{summary}

    Args:
        x: real numbers; integers become the default float.

    Returns:
        Floats of the shape of x.

    Example:
        >>> {example}

    References:
        scipy.special.{name}
    """
    return function


erf = _from_primitive(
    "erf", ops.erf, "Return the error function, elementwise.", "float(erf(0.0))\n        0.0"
)
erfc = _from_primitive(
    "erfc",
    ops.erfc,
    "Return 1 - erf(x), accurate where that is small.",
    "float(erfc(0.0))\n        1.0",
)
erfinv = _from_primitive(
    "erfinv",
    ops.erf_inv,
    "Return the inverse of the error function.",
    "float(erfinv(0.0))\n        0.0",
)
expit = _from_primitive(
    "expit",
    ops.logistic,
    "Return the logistic sigmoid 1 / (1 + exp(-x)).",
    "float(expit(0.0))\n        0.5",
)
gammaln = _from_primitive(
    "gammaln",
    ops.lgamma,
    "Return the logarithm of |gamma(x)|.",
    "round(float(gammaln(3.0)), 5)\n        0.69315",
)
digamma = _from_primitive(
    "digamma",
    ops.digamma,
    "Return the derivative of gammaln.",
    "round(float(digamma(1.0)), 5)\n        -0.57722",
)


# --- sums of exponentials ------------------------------------------------------------------
def _peak(x: Any, axis: Any, where: Any) -> Any:
    """Return the largest member along axes, as a constant; 0 where it is infinite."""
    top = ops.stop_gradient(fnp.max(x, axis=axis, keepdims=True, where=where, initial=-math.inf))
    return fnp.where(fnp.isfinite(top), top, 0)


@compiled_if_large
def logsumexp(
    a: Any,
    axis: Any = None,
    b: Any = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: Any = None,
) -> Any:
    """Return ``log(sum(b * exp(a)))`` without overflow.

    Args:
        a: exponents, real numbers.
        axis: the axis or axes to sum over; all if None.
        b: factors, real numbers that broadcast against a; they may be negative with `return_sign`.
        keepdims: whether summed axes stay, with size 1.
        return_sign: whether the sign of the sum is returned too.
        where: bool; members where it is False do not count.

    Returns:
        The logarithm of the sum's absolute value, and its sign if asked for; without
        `return_sign` a negative sum gives nan.

    Example:
        >>> round(float(logsumexp(fnp.array([1000.0, 1000.0]))), 3)
        1000.693

    References:
        scipy.special.logsumexp
    """
    (x,) = _floats("logsumexp", a)
    if b is not None:
        x, factors = _floats("logsumexp", a, b)
        x = fnp.where(factors == 0, -math.inf, x)
    top = _peak(x, axis, where)
    terms = fnp.exp(x - top)
    total = fnp.sum(terms if b is None else terms * factors, axis=axis, keepdims=True, where=where)
    sign = fnp.sign(total)
    out = fnp.log(fnp.abs(total) if return_sign or b is None else total) + top
    if not keepdims:
        out, sign = (
            fnp.squeeze(v, promotion.canonical_axes(axis, x.ndim, "logsumexp")) for v in (out, sign)
        )
    return (out, sign) if return_sign else out


def softmax(x: Any, /, axis: Any = None, where: Any = None) -> Array:
    """Return ``exp(x) / sum(exp(x))``, probabilities that sum to 1.

    Args:
        x: real numbers.
        axis: the axis or axes of the sum; all if None.
        where: bool; members where it is False do not count and get 0.

    Returns:
        Floats of the shape of x.

    Example:
        >>> softmax(fnp.array([0.0, 0.0])).tolist()
        [0.5, 0.5]

    References:
        scipy.special.softmax
    """
    (x,) = _floats("softmax", x)
    x = x if where is None else fnp.where(where, x, -math.inf)
    terms = fnp.exp(x - _top(x, axis))
    out = terms / fnp.sum(terms, axis=axis, keepdims=True)
    return out if where is None else fnp.where(where, out, 0)


def log_softmax(x: Any, /, axis: Any = None, where: Any = None) -> Array:
    """Return ``log(softmax(x))``, accurate where softmax is 0 or 1.

    Args:
        x: real numbers.
        axis: the axis or axes of the sum; all if None.
        where: bool; members where it is False do not count and get -inf.

    Returns:
        Floats of the shape of x.

    Example:
        >>> log_softmax(fnp.array([0.0, 1000.0])).tolist()
        [-1000.0, 0.0]

    References:
        scipy.special.log_softmax
    """
    (x,) = _floats("log_softmax", x)
    x = x if where is None else fnp.where(where, x, -math.inf)
    shifted = x - _top(x, axis)
    out = shifted - fnp.log(fnp.sum(fnp.exp(shifted), axis=axis, keepdims=True))
    return out if where is None else fnp.where(where, out, -math.inf)


def _top(x: Any, axis: Any) -> Any:
    return ops.stop_gradient(fnp.max(x, axis=axis, keepdims=True, initial=-math.inf))


# --- gamma family --------------------------------------------------------------------------
def gamma(x: Any) -> Array:
    """Return the gamma function, ``(x - 1)!`` for whole numbers.

    Args:
        x: real numbers.

    Returns:
        Floats of the shape of x: nan at negative whole numbers.

    Example:
        >>> round(float(gamma(5.0)), 3)
        24.0

    References:
        scipy.special.gamma
    """
    (x,) = _floats("gamma", x)
    # Gamma is negative where the floor of a negative x is odd.
    odd = fnp.remainder(fnp.floor(x), 2) == 1
    sign = fnp.where((x < 0) & odd, -1, 1).astype(x.dtype)
    out = sign * fnp.exp(ops.lgamma(x))
    return fnp.where((x < 0) & (x == fnp.floor(x)), math.nan, out)


def factorial(n: Any, exact: bool = False) -> Array:
    """Return n! as floats, 0 where n is negative.

    Args:
        n: real numbers.
        exact: only False.

    Returns:
        Floats of the shape of n.

    Raises:
        NotImplementedError: exact integers are asked for.

    Example:
        >>> round(float(factorial(4)), 3)
        24.0

    References:
        scipy.special.factorial
    """
    if exact:
        raise NotImplementedError(
            "factorial: exact=True needs integers of any length; use math.factorial"
        )
    (n,) = _floats("factorial", n)
    return fnp.where(n < 0, 0, fnp.exp(ops.lgamma(n + 1)))


def betaln(a: Any, b: Any) -> Array:
    """Return the logarithm of ``gamma(a) gamma(b) / gamma(a + b)``.

    Args:
        a: real numbers above 0.
        b: real numbers above 0.

    Returns:
        Floats of the common shape.

    Example:
        >>> round(float(betaln(2.0, 3.0)), 4)
        -2.4849

    References:
        scipy.special.betaln
    """
    a, b = _floats("betaln", a, b)
    return ops.lgamma(a) + ops.lgamma(b) - ops.lgamma(a + b)


def beta(a: Any, b: Any) -> Array:
    """Return ``gamma(a) gamma(b) / gamma(a + b)``.

    Example:
        >>> round(float(beta(2.0, 3.0)), 4)
        0.0833

    References:
        scipy.special.beta
    """
    a, b = _floats("beta", a, b)
    return fnp.exp(betaln(a, b))


def poch(z: Any, m: Any) -> Array:
    """Return the rising factorial ``gamma(z + m) / gamma(z)`` of z above 0.

    Example:
        >>> round(float(poch(3.0, 2.0)), 3)
        12.0

    References:
        scipy.special.poch
    """
    z, m = _floats("poch", z, m)
    return fnp.where(m == 0, 1, fnp.exp(ops.lgamma(z + m) - ops.lgamma(z)))


def multigammaln(a: Any, d: int) -> Array:
    """Return the logarithm of the multivariate gamma function of dimension d.

    Args:
        a: real numbers above (d - 1) / 2.
        d: dimension, a Python int.

    Returns:
        Floats of the shape of a.

    Example:
        >>> round(float(multigammaln(3.0, 2)), 4)
        1.5502

    References:
        scipy.special.multigammaln
    """
    size = promotion.static_int(d, "multigammaln: d")
    (a,) = _floats("multigammaln", a)
    total = functools.reduce(lambda s, k: s + ops.lgamma(a - k / 2), range(1, size), ops.lgamma(a))
    return total + size * (size - 1) / 4 * math.log(math.pi)


# --- entropy -------------------------------------------------------------------------------
def _guarded(log: Callable[[Any], Any], pole: float, x: Any, y: Any) -> Array:
    """Return ``x * log(y)``, and 0 where x is 0 and y is a number.

    Only where the logarithm is not finite is the product replaced: elsewhere at x = 0 its
    derivative in x is the logarithm.
    """
    replaced = (x == 0) & ~fnp.isnan(y) & ~((y > pole) & (y < math.inf))
    return fnp.where(replaced, 0, x * log(fnp.where(replaced, 1, y)))


def xlogy(x: Any, y: Any) -> Array:
    """Return ``x * log(y)``, which is 0 where x is 0.

    Example:
        >>> float(xlogy(0.0, 0.0))
        0.0

    References:
        scipy.special.xlogy
    """
    x, y = _floats("xlogy", x, y)
    return _guarded(fnp.log, 0.0, x, y)


def xlog1py(x: Any, y: Any) -> Array:
    """Return ``x * log(1 + y)``, which is 0 where x is 0.

    Example:
        >>> float(xlog1py(0.0, -1.0))
        0.0

    References:
        scipy.special.xlog1py
    """
    x, y = _floats("xlog1py", x, y)
    return _guarded(fnp.log1p, -1.0, x, y)


def entr(x: Any) -> Array:
    """Return ``-x * log(x)``: 0 at 0, -inf below.

    Example:
        >>> float(entr(1.0)) == 0, float(entr(-1.0))
        (True, -inf)

    References:
        scipy.special.entr
    """
    (x,) = _floats("entr", x)
    return fnp.where(x < 0, -math.inf, -xlogy(fnp.where(x < 0, 1, x), fnp.where(x < 0, 1, x)))


def rel_entr(p: Any, q: Any) -> Array:
    """Return ``p * log(p / q)``: 0 where p is 0 and q is not negative, inf where it makes no sense.

    Example:
        >>> float(rel_entr(0.0, 1.0)), float(rel_entr(1.0, 0.0))
        (0.0, inf)

    References:
        scipy.special.rel_entr
    """
    p, q = _floats("rel_entr", p, q)
    zero, both = (p == 0) & (q >= 0), (p > 0) & (q > 0)
    top, bottom = fnp.where(both, p, 1), fnp.where(both, q, 1)
    inner = fnp.where(both, top * (fnp.log(top) - fnp.log(bottom)), fnp.where(zero, 0, math.inf))
    return fnp.where(fnp.isnan(p) | fnp.isnan(q), math.nan, inner)


def kl_div(p: Any, q: Any) -> Array:
    """Return ``p * log(p / q) - p + q``.

    Example:
        >>> float(kl_div(1.0, 1.0))
        0.0

    References:
        scipy.special.kl_div
    """
    p, q = _floats("kl_div", p, q)
    return rel_entr(p, q) - p + q


# --- normal distribution -------------------------------------------------------------------
def logit(x: Any) -> Array:
    """Return ``log(x / (1 - x))``, the inverse of `expit`.

    Example:
        >>> float(logit(0.5))
        0.0

    References:
        scipy.special.logit
    """
    (x,) = _floats("logit", x)
    distance = 2 * x - 1  # exact near 1/2, where the logarithms cancel
    near = abs(distance) < 0.5
    middle = 2 * fnp.arctanh(fnp.where(near, distance, 0))
    return fnp.where(near, middle, fnp.log(x) - fnp.log1p(-x))


def ndtr(x: Any) -> Array:
    """Return the distribution function of the standard normal distribution.

    Example:
        >>> float(ndtr(0.0))
        0.5

    References:
        scipy.special.ndtr
    """
    (x,) = _floats("ndtr", x)
    return 0.5 * ops.erfc(-x * math.sqrt(0.5))
