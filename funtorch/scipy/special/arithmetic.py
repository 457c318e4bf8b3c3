"""Polynomials, and numbers of twice the precision of float64: sums of two, the second one small.

Exponents of 700 need them: a unit in their last place is 500 of those of the exponential.

References:
    T. J. Dekker, "A floating-point technique for extending the available precision", Numerische
    Mathematik 18 (1971): sums and products whose rounding errors are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funtorch.transforms.numeric import Maths

__all__ = ["Doubled", "minus", "plus", "poly", "product", "ratio_log", "times", "two_sum"]

Doubled = tuple[Any, Any]
"""A number as the sum of two, of which the first is that sum rounded."""

_SPLITTER = 134217729.0  # 2**27 + 1
_LOG2 = 0.6931471805599453, 2.3190468138462996e-17
# 1 / 3, 1 / 5, 1 / 7, 1 / 9: where float64 numbers end, and what is left.
_ODD = (
    (0.3333333333333333, 1.850371707708594e-17),
    (0.2, -1.1102230246251566e-17),
    (0.14285714285714285, 7.93016446160826e-18),
    (0.1111111111111111, 6.1679056923619804e-18),
)


def poly(coefficients: Sequence[float], x: Any) -> Any:
    """Evaluate a polynomial, highest power first."""
    total: Any = coefficients[0]
    for c in coefficients[1:]:
        total = total * x + c
    return total


def _joined(large: Any, small: Any) -> Doubled:
    total = large + small
    return total, small - (total - large)


def two_sum(a: Any, b: Any) -> Doubled:
    """Return the sum of two float64 numbers, exactly."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _halves(a: Any) -> Doubled:
    scaled = _SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high


def product(a: Any, b: Any) -> Doubled:
    """Return the product of two float64 numbers, exactly."""
    total = a * b
    (p, q), (r, s) = _halves(a), _halves(b)
    return total, ((p * r - total) + p * s + q * r) + q * s


def plus(x: Doubled, y: Doubled) -> Doubled:
    """Return a sum, to the digits that the larger number has."""
    total, rest = two_sum(x[0], y[0])
    return _joined(total, rest + (x[1] + y[1]))


def minus(x: Doubled) -> Doubled:
    """Return the negative."""
    return -x[0], -x[1]


def times(x: Doubled, y: Doubled) -> Doubled:
    """Return a product."""
    total, rest = product(x[0], y[0])
    return _joined(total, rest + (x[0] * y[1] + x[1] * y[0]))


def _over(x: Doubled, y: Doubled) -> Doubled:
    first = x[0] / y[0]
    total, rest = product(first, y[0])
    return _joined(first, (((x[0] - total) - rest) + x[1] - first * y[1]) / y[0])


def ratio_log(m: Maths, x: Any, y: Any) -> Doubled:
    """Return log(x / y) of positive numbers, to about 23 digits.

    That is a multiple of log(2) and 2 atanh(s), whose series begins in doubled numbers.
    """
    ratio = _over((x, 0.0), (y, 0.0))
    power = m.rint(m.log(ratio[0]) / _LOG2[0])
    scale = m.power(2.0, -power)
    near = ratio[0] * scale, ratio[1] * scale
    s = _over(plus(near, (-1.0, 0.0)), plus(near, (1.0, 0.0)))
    square = times(s, s)
    series: Doubled = (poly([1 / (2 * k + 11) for k in range(13)][::-1], square[0]), 0.0)
    for coefficient in reversed(_ODD):
        series = plus(coefficient, times(square, series))
    series = times(s, plus((1.0, 0.0), times(square, series)))
    return plus(times((power, 0.0), _LOG2), (2.0 * series[0], 2.0 * series[1]))
