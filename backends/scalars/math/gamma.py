"""lgamma, digamma, polygamma: the formulas of the eager rules, all computed in float64.

Intervals are told apart by selecting arguments and coefficients; what the negative axis needs is
computed for all.

References:
    NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov: 5.5 (recurrence,
    reflection), 5.11.1 (asymptotics), 5.15 (polygamma), 25.11.43 (Hurwitz zeta).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from funtorch.ops import special

from .logarithm import log
from .trigonometric import sine_of_half_turn
from .values import Value, absolute, copysign, fma, mad, maximum, minimum, poly, select

__all__ = ["digamma", "lgamma", "polygamma"]


def _in_double(f: Callable[..., Value]) -> Callable[..., Value]:
    """Return a formula of doubles as one of floats too, which rounds once."""

    @functools.wraps(f)
    def formula(x: Value, **params: Any) -> Value:
        if x.kind == "double":
            return f(x, **params)
        return f(x.cast("fpext", "double"), **params).cast("fptrunc", "float")

    return formula


def _highest_first(x: Value, coefficients: Sequence[float]) -> Value:
    return poly(x, coefficients[::-1])


def _chosen(cond: Value, x: Value, if_true: Sequence[float], if_false: Sequence[float]) -> Value:
    """Evaluate one of two polynomials, highest power first."""
    size = max(len(if_true), len(if_false))
    yes, no = ((0.0,) * (size - len(c)) + tuple(c) for c in (if_true, if_false))
    total = select(cond, x.like(yes[0]), no[0])
    for a, b in zip(yes[1:], no[1:], strict=True):
        total = mad(x, total, select(cond, x.like(a), b))
    return total


def _from_integer(x: Value) -> Value:
    """Return the distance to the nearest integer, with its sign."""
    return x - x.call("llvm.rint")


def _lgamma_positive(x: Value) -> Value:
    z = minimum(x, 8.5)
    product = x.like(1.0)
    for _ in range(6):
        above = z >= 3.0
        less = z - 1.0
        product = select(above, product * less, product)
        z = select(above, less, z)
    below, two = z < 1.0, z >= 2.0
    at = select(two, z - 2.5, z - select(below, x.like(0.5), 1.5))
    less = z - 1.0
    factor = select(two, z - 2.0, select(below, z, z - 2.0) * less)
    near = factor * _chosen(two, at, special.LGAMMA_FROM_2, special.LGAMMA_FROM_1)
    # One logarithm for all: of the product, of a small z, or of a large x.
    large = x >= 8.5
    logarithm = log(select(large, x, select(below, z, product)))
    near = near + select(below, -logarithm, logarithm)
    inverse = 1.0 / maximum(x, 8.0)
    series = _highest_first(inverse * inverse, special.STIRLING) * inverse
    stirling = (x - 0.5) * logarithm - x + (series + 0.5 * math.log(2 * math.pi))
    return select(x.equals(math.inf), x, select(large, stirling, near))


@_in_double
def lgamma(x: Value) -> Value:
    """Return the logarithm of the absolute value of the gamma function."""
    size = absolute(x)
    positive = _lgamma_positive(maximum(size, 1e-100))
    part = absolute(_from_integer(size))
    sine = sine_of_half_turn(part * math.pi)
    tiny = size < 1e-100
    outer = log(select(tiny, size, math.pi / (size * sine)))
    out = select(tiny, -outer, select(x < 0.0, outer - positive, positive))
    pole = size.equals(0.0) | size.equals(math.inf) | ((x < 0.0) & part.equals(0.0))
    return select(x.is_nan(), x, select(pole, x.like(math.inf), out))


def _digamma_positive(x: Value) -> Value:
    w = maximum(x, 2.0) - 0.5
    u = 1.0 / (w * w)
    ratio = _highest_first(u, special.DIGAMMA_NUM) / _highest_first(u, special.DIGAMMA_DEN)
    far = mad(u, ratio, log(w))
    high, low = special.DIGAMMA_ROOT
    z = minimum(x, 2.0)
    below = z < 1.0
    t = z - select(below, x.like(0.5), 1.5)
    factor = (z - select(below, x.like(high - 1), high)) - low
    near = factor * _highest_first(t, special.DIGAMMA_NEAR)
    near = near - select(below, 1.0 / z, 0.0)
    return select(x < 2.0, near, far)


def _cot_pi(x: Value) -> Value:
    """Return cot(pi x), by sines of the distances to the nearest integer and half-integer."""
    part = _from_integer(x)
    size = absolute(part)
    cosine = sine_of_half_turn((0.5 - size) * math.pi)
    return copysign(cosine / sine_of_half_turn(size * math.pi), part)


@_in_double
def digamma(x: Value) -> Value:
    """Return the derivative of lgamma: -inf at 0, nan at negative integers."""
    negative = x <= 0.0
    out = _digamma_positive(select(negative, 1.0 - x, x))
    out = select(negative, mad(_cot_pi(x), -math.pi, out), out)
    whole = negative & x.equals(x.call("llvm.rint"))
    out = select(whole, x.like(math.nan), out)
    out = select(x.equals(0.0), x.like(-math.inf), out)
    return select(x.is_nan(), x, out)


def _inverse_power(w: Value, s: int) -> Value:
    """Return w**-s for w > 0: the power with what its products lose, then its reciprocal."""
    high, low = w, w.like(0.0)
    for bit in bin(s)[3:]:
        square = high * high
        low = mad(high + high, low, fma(high, high, -square))
        high = square
        if bit == "1":
            product = high * w
            low = mad(low, w, fma(high, w, -product))
            high = product
    inverse = 1.0 / high
    error = mad(-low, inverse, fma(-high, inverse, high.like(1.0)))
    normal = (high > high.format.tiny) & (high < 1.0 / high.format.tiny)
    return select(normal, mad(inverse, error, inverse), inverse)


def _hurwitz(s: int, x: Value) -> Value:
    """Return the sum of ``(x + k) ** -s`` over k >= 0 for x > 0."""
    terms = special.hurwitz_terms(s)
    few = x < float(terms)
    w = select(few, x + float(terms), x)
    v = 1.0 / w
    series = v * _highest_first(v * v, special.euler_maclaurin(s))
    total = _inverse_power(w, s - 1) * mad(v, series + 0.5, x.like(1 / (s - 1)))
    for k in reversed(range(terms)):
        total = select(few, total + _inverse_power(x + float(k), s), total)
    return total


@_in_double
def polygamma(x: Value, *, n: int) -> Value:
    """Return the n-th derivative (n >= 1) of digamma."""
    negative = x <= 0.0
    zeta = _hurwitz(n + 1, select(negative, 1.0 - x, x))
    out = zeta * ((-1.0) ** (n + 1) * math.factorial(n))
    cot = _highest_first(_cot_pi(x), special.cot_derivative(n))
    reflected = mad(cot, -(math.pi ** (n + 1)), out * (-1.0) ** n)
    return select(negative, reflected, out)
