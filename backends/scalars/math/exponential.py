"""exp and its relatives: exp2, expm1, tanh, sinh, cosh, logistic.

All reduce to ``e**x = 2**n e**r`` with n = round(x / ln 2) and ``e**r - 1 = r + r**2 P(r)`` on
|r| <= ln(2) / 2. P is a minimax fit (Remez's exchange in 200-bit arithmetic, relative to e**r - 1,
coefficients then rounded). n is found by adding a number so large that its last bits are integers;
shifted into the exponent's place, those bits are a factor 2**n. Arguments are kept within what the
exponent can say, and the factors are such that the last product is the only one that can overflow
or become denormal: it rounds, and hands on nan, by itself.

References:
    J.-M. Muller, "Elementary Functions: Algorithms and Implementation", 3rd ed., 2016 (additive
    range reduction; minimax approximations).
    W. J. Cody, W. Waite, "Software Manual for the Elementary Functions", 1980 (two-part constants;
    hyperbolic functions from exp and expm1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .values import Value, absolute, copysign, mad, maximum, minimum, poly, select

__all__ = [
    "cosh",
    "exp",
    "exp2",
    "exp2_of_sum",
    "exp_of_negative",
    "expm1",
    "logistic",
    "scaled",
    "sinh",
    "tanh",
]


@dataclass(frozen=True)
class _Table:
    """Constants of a float format.

    Attributes:
        ln2: ln 2 as a part so short that its product with n is exact, and the rest.
        terms: P, lowest power first.
        most: the largest x whose exp is finite.
        small: below it, exp may be denormal; ``least``: from there on it is 0.
        lift: the exponent by which small results are computed too large.
        one: from this size on, tanh is 1, and expm1 of minus it -1.
        sinh_most: above it, sinh overflows.
    """

    ln2: tuple[float, float]
    terms: tuple[float, ...]
    most: float
    small: float
    least: float
    lift: int
    one: float
    sinh_most: float


_TABLES = {
    "float": _Table(
        ln2=(0.693359375, -2.12194440054690583e-4),
        terms=(0.49999997, 0.16666535, 0.041667715, 0.008367719, 0.0013841501),
        most=88.72283172607422,
        small=-86.0,
        least=-104.0,
        lift=64,
        one=18.0,
        sinh_most=89.5,
    ),
    "double": _Table(
        ln2=(6.93147180369123816490e-01, 1.90821492927058770002e-10),
        terms=(
            0.5000000000000006,
            0.16666666666666582,
            0.041666666666569395,
            0.008333333333393965,
            0.0013888888934160263,
            0.00019841269712030356,
            2.480150197974973e-05,
            2.755741064742882e-06,
            2.762740483216126e-07,
            2.5053954944169894e-08,
        ),
        most=709.782712893384,
        small=-707.0,
        least=-746.0,
        lift=128,
        one=40.0,
        sinh_most=710.6,
    ),
}


def _expm1_near_zero(r: Value) -> Value:
    """Return e**r - 1 for |r| <= ln(2) / 2."""
    return mad(r * r, poly(r, _TABLES[r.kind].terms), r)


def _reduced(x: Value, magic: Value | float) -> tuple[Value, Value, Value]:
    """Return (n + magic, n, x - n ln 2)."""
    high, low = _TABLES[x.kind].ln2
    shifted = mad(x, 1 / math.log(2), magic)
    n = shifted - magic
    return shifted, n, mad(n, -low, mad(n, -high, x))


def scaled(p: Value, shifted: Value, is_small: Value | None = None) -> Value:
    """Return p times 2**n, for p between 1/2 and 2, by adding n to its exponent.

    Args:
        p: a number that is not nan.
        shifted: n plus the format's magic number.
        is_small: where the result may be denormal; there ``shifted`` is a number lifted further.
    """
    exponent = shifted.bits() << p.format.mantissa
    out = (p.bits() + exponent).unbits()
    if is_small is None:
        return out
    return out * select(is_small, p.like(2.0 ** -_TABLES[p.kind].lift), 1.0)


def _magic(x: Value, is_small: Value) -> Value:
    """Return the number to add for rounding; it raises the exponent of small results."""
    magic = x.format.magic
    return select(is_small, x.like(magic + _TABLES[x.kind].lift), magic)


def _power_of_two(shifted: Value) -> Value:
    """Return the float whose exponent is in the last bits of a number, biased."""
    return (shifted.bits() << shifted.format.mantissa).unbits()


def _exp_of_reduced(r: Value, unit: float) -> Value:
    """Return unit * e**r for |r| <= ln(2) / 2 and a power of two."""
    return poly(r, [c * unit for c in (1.0, 1.0, *_TABLES[r.kind].terms)])


def exp_of_negative(x: Value) -> Value:
    """Return e**x for x <= 0 or nan: (2**-lift e**r) 2**(n + lift)."""
    t, f = _TABLES[x.kind], x.format
    shifted, _, r = _reduced(maximum(x.like(t.least), x), f.magic + f.bias + t.lift)
    return _exp_of_reduced(r, 2.0**-t.lift) * _power_of_two(shifted)


def exp(x: Value) -> Value:
    """Return e**x: (2 e**r) 2**(n - 1), times 2**lift 2**-lift where it may be denormal."""
    t, f = _TABLES[x.kind], x.format
    is_small = x < t.small
    inside = minimum(x.like(t.most + 0.25), maximum(x.like(t.least), x))
    shifted, _, r = _reduced(inside, f.magic + f.bias - 1)
    bits = shifted.bits()
    bits = select(is_small, bits + t.lift, bits) << f.mantissa
    out = _exp_of_reduced(r, 2.0) * bits.unbits()
    return select(is_small, out * 2.0**-t.lift, out)


def exp2(x: Value) -> Value:
    """Return 2**x, exact for integers."""
    return exp2_of_sum(x, 0.0)


def exp2_of_sum(x: Value, rest: Value | float) -> Value:
    """Return 2**(x + rest) for a rest of at most half a unit of x."""
    f = x.format
    is_small = x < 5.0 - f.bias
    magic = _magic(x, is_small)
    clamped = maximum(x.like(-(f.bias + f.mantissa + 1.0)), x)
    shifted = clamped + magic
    r = ((clamped - (shifted - magic)) + rest) * math.log(2)
    out = scaled(_expm1_near_zero(r) + 1.0, shifted, is_small)
    return select(x.cmp("uge", f.bias + 1.0), x * math.inf, out)


def _fraction_of_expm1(x: Value, halvings: int) -> tuple[Value, Value, Value, Value]:
    """Return ((e**x - 1) / 2**halvings, 2**(n - halvings), n, e**r - 1)."""
    f = x.format
    shifted, n, r = _reduced(x, f.magic)
    q = _expm1_near_zero(r)
    bits = (shifted.bits() << f.mantissa) + ((f.bias - halvings) << f.mantissa)
    scale = bits.unbits()
    return mad(scale, q, scale - 2.0**-halvings), scale, n, q


def expm1(x: Value) -> Value:
    """Return e**x - 1 = 2**n (e**r - 1) + (2**n - 1), accurate near zero."""
    t = _TABLES[x.kind]
    clamped = maximum(x.like(-t.one), minimum(x.like(t.most + 0.25), x))
    half, _, n, q = _fraction_of_expm1(clamped, 1)
    return copysign(select(n.equals(0), q, half + half), x)


def tanh(x: Value) -> Value:
    """Return t / (t + 2) with t = e**2x - 1."""
    limit = _TABLES[x.kind].one
    y = maximum(x.like(-limit), minimum(x.like(limit), x + x))
    t, _, _, _ = _fraction_of_expm1(y, 0)
    return copysign(t / (t + 2.0), x)


def sinh(x: Value) -> Value:
    """Return (t + t / (t + 1)) / 2 with t = e**x - 1; a quarter of t where t might overflow."""
    size = absolute(x)
    quarter, _, n, q = _fraction_of_expm1(minimum(x.like(_TABLES[x.kind].sinh_most), size), 2)
    near = n.equals(0)
    t = select(near, q, quarter)
    sum_ = t + t / mad(t, select(near, t.like(1.0), 4.0), t.like(1.0))
    return copysign(sum_ * select(near, t.like(0.5), 2.0), x)


def cosh(x: Value) -> Value:
    """Return 2 y + 1 / (8 y) with y = e**abs(x) / 4."""
    size = minimum(x.like(_TABLES[x.kind].sinh_most), absolute(x))
    _, scale, _, q = _fraction_of_expm1(size, 2)
    y = mad(scale, q, scale)
    return y + y + y.like(0.125) / y


def logistic(x: Value) -> Value:
    """Return 1 / (1 + e**-x), as e**x / (1 + e**x) for negative x."""
    e = exp_of_negative(-absolute(x))
    return select(x < 0.0, e, 1.0) / (e + 1.0)
