"""pow, cbrt, hypot, rsqrt, reciprocal, and the remainder.

    pow(x, y) = 2**(y log2 abs(x))

needs the logarithm to more bits than the result has: float32 works in float64, float64 in pairs of
numbers whose sum counts. cbrt starts from a polynomial for x**(-1/3) on [1, 2) and takes Newton
steps. Polynomials are minimax fits (Remez's exchange in 200-bit arithmetic).

References:
    T. J. Dekker, "A floating-point technique for extending the available precision", 1971.
    ISO/IEC 9899 (C99), annex F.9.4.4: the special values of pow.
    J.-M. Muller et al., "Handbook of Floating-Point Arithmetic", 2nd ed., 2018 (fma; remainders).
"""

from __future__ import annotations

import math

from .exponential import exp2_of_sum
from .rare import where_rare
from .values import Value, absolute, copysign, fma, mad, maximum, minimum, poly, select, sqrt

__all__ = ["cbrt", "hypot", "masked_mul", "nextafter", "pow", "reciprocal", "rem", "rsqrt"]

# log2(1 + f) / f for -1/3 <= f <= 1/3.
_LOG2 = (
    1.4426950408923522,
    -0.7213475195694102,
    0.4808983439496441,
    -0.36067397864397094,
    0.28853944273476284,
    -0.24043365792158586,
    0.20607593972954946,
    -0.1808061285688108,
    0.16089177743690092,
    -0.13746042403181302,
    0.12355852720363356,
    -0.16610777970761953,
    0.1575545522428025,
)
# (atanh(s) / s - 1 - s**2 / 3) / s**4 in powers of s**2, abs(s) <= 1/5.
_ATANH = (
    0.1999999999999986,
    0.14285714285789922,
    0.11111111095398596,
    0.09090910783347977,
    0.07692202301971289,
    0.06670601310741366,
    0.05795742879653113,
    0.0628840322302083,
)
# 2**r for abs(r) <= 1/2.
_EXP2 = (
    1.0000000005539023,
    0.69314720577058,
    0.24022646891424093,
    0.0555032870439963,
    0.009618488810812923,
    0.0013399960209511557,
    0.00015345885373396005,
)
# x**(-1/3) on [1, 2).
_CBRT = {
    "float": (1.6700093, -1.1728867, 0.69548875, -0.22124031, 0.028591381),
    "double": (
        1.8797799365956716,
        -1.985371552393118,
        1.9769734802480028,
        -1.2733469334201049,
        0.501983270775974,
        -0.11040736410974442,
        0.010388269812656812,
    ),
}
_TWO_THIRDS = 0x3FE5555555555555  # bits of 2/3
_TWO_OVER_LN2 = (2.8853900817779268, 4.0710547481862066e-17)
_THIRD = (0.3333333333333333, 1.850371707708594e-17)


# ---------------------------------------------------------------------- pow
def _parts(x: Value) -> tuple[Value, Value]:
    """Return (n, f) with a normal double x = 2**n (1 + f) and -1/3 <= f <= 1/3."""
    bits = x.bits()
    n = (bits - _TWO_THIRDS) >> 52
    m = (bits - (n << 52)).unbits()
    magic = x.like(x.format.magic)
    return (n + magic.bits()).unbits() - magic, m - 1.0


def _power_of_single(x: Value, y: Value) -> Value:
    """Return x**y for a float x >= 0, not right yet where a factor is 0 or infinite."""
    wide_x, wide_y = x.cast("fpext", "double"), y.cast("fpext", "double")
    n, f = _parts(wide_x)
    logarithm = _with_ends(wide_x, mad(f, poly(f, _LOG2), n))
    t = wide_y * logarithm
    t = maximum(t.like(-300.0), minimum(t.like(300.0), t))
    magic = t.like(t.format.magic)
    shifted = t + magic
    p = poly(t - (shifted - magic), _EXP2)
    out = (p.bits() + (shifted.bits() << 52)).unbits().cast("fptrunc", "float")
    return select(t.is_nan(), x.like(math.nan), out)


def _with_ends(x: Value, logarithm: Value) -> Value:
    out = select(x.equals(0.0), x.like(-math.inf), logarithm)
    return select(x < math.inf, out, x)


def _sum(x: Value, y: Value) -> tuple[Value, Value]:
    """Return x + y and what it loses, for abs(x) >= abs(y)."""
    total = x + y
    return total, y - (total - x)


def _product(x: Value, y: Value | float) -> tuple[Value, Value]:
    """Return x * y and what it loses."""
    high = x * y
    return high, fma(x, y, -high)


def _log2_pair(x: Value) -> tuple[Value, Value]:
    """Return log2 of a double x > 0 as a sum of two numbers, to about 2**-64."""
    small = x < x.format.tiny
    n, f = _parts(select(small, x * 2.0**54, x))
    n = n - select(small, x.like(54.0), 0.0)
    # s = f / (2 + f)
    whole, rest = _sum(x.like(2.0), f)
    inverse = 1.0 / whole
    s = f * inverse
    s_low = (fma(-s, whole, f) - s * rest) * inverse
    z, z_low = _product(s, s)
    z_low = mad(s + s, s_low, z_low)
    # atanh(s) = s (1 + c)
    c, c_low = _product(z, _THIRD[0])
    c_low = c_low + mad(z, _THIRD[1], z_low * _THIRD[0])
    c_low = mad(z * z, poly(z, _ATANH), c_low)
    u, u_low = _product(s, c)
    head, head_low = _sum(s, u)
    head_low = head_low + (u_low + mad(s, c_low, mad(s_low, c, s_low)))
    high, low = _product(head, _TWO_OVER_LN2[0])
    low = low + mad(head, _TWO_OVER_LN2[1], head_low * _TWO_OVER_LN2[0])
    total, lost = _sum(n, high)
    return select(n.equals(0.0), high, total), select(n.equals(0.0), low, lost + low)


def _power_of_double(x: Value, y: Value) -> Value:
    high, low = _log2_pair(x)
    t, t_low = _product(y, _with_ends(x, high))
    t_low = mad(y, low, t_low)
    fits = absolute(t) < 2000.0
    return exp2_of_sum(t, select(fits, t_low, 0.0))


def pow(x: Value, y: Value) -> Value:
    """Return x**y, with C99's special values."""
    size = absolute(x)
    out = (_power_of_single if x.kind == "float" else _power_of_double)(size, y)
    # What no product gives: 1**y, x**0, (-1)**infinity; and signs.
    tall = absolute(y)
    one = y.equals(0.0) | x.equals(1.0) | (size.equals(1.0) & tall.equals(math.inf))
    out = select(one, x.like(1.0), out)
    whole = y.equals(y.call("llvm.trunc"))
    half = y * 0.5
    odd = whole & half.cmp("one", half.call("llvm.trunc"))
    negative = x.bits() < 0
    out = select(negative & odd, -out, out)
    # A negative finite number has no power that is no integer.
    undefined = (x < 0.0) & ~(whole | size.equals(math.inf))
    return select(undefined, x.like(math.nan), out)


# ---------------------------------------------------------------------- roots
def cbrt(x: Value) -> Value:
    """Return the cube root, y + (x - y**3) / (3 y**2) with y from x**(-1/3)."""
    f = x.format
    size = absolute(x)
    grow = 3 * (f.mantissa // 3 + 1)
    small = size < f.tiny
    bits = select(small, size * 2.0**grow, size).bits()
    # The exponent as 3 third + rest, counted from -bias - 2 or -bias, a multiple of 3.
    offset = -f.bias % 3
    exponent = bits.lshr(f.mantissa) + offset
    third = (exponent * 43691).lshr(17)
    rest = exponent - third * 3
    one = (bits & ((1 << f.mantissa) - 1)) | (f.bias << f.mantissa)
    m = one.unbits()
    z = poly(m, _CBRT[x.kind])
    first, second = rest.equals(1), rest.equals(2)
    z = z * select(first, x.like(2 ** (-1 / 3)), select(second, x.like(2 ** (-2 / 3)), 1.0))
    m = m * select(first, x.like(2.0), select(second, x.like(4.0), 1.0))
    # A Newton step for m**(-1/3), then one for the root.
    z = mad(z, mad(-(m * z), z * z, z.like(1.0)) * (1 / 3), z)
    square = z * z
    y = m * square
    y = mad(fma(-(y * y), y, m), square * (1 / 3), y)
    shift = third - (f.bias + offset) // 3 + f.bias
    shift = shift - select(small, shift.like(grow // 3), 0)
    out = y * (shift << f.mantissa).unbits()
    out = select(size.equals(0.0) | size.cmp("uge", math.inf), size, out)
    return copysign(out, x)


_HYPOT = {"float": (2.0**62, 2.0**-40, 2.0**96), "double": (2.0**500, 2.0**-400, 2.0**700)}


def hypot(x: Value, y: Value) -> Value:
    """Return sqrt(x**2 + y**2), scaled so that no square overflows or vanishes."""
    most, least, factor = _HYPOT[x.kind]
    a, b = absolute(x), absolute(y)
    less = a < b
    large, small = select(less, b, a), select(less, a, b)
    above, below = large > most, large < least
    down = select(above, x.like(1 / factor), select(below, x.like(factor), 1.0))
    up = select(above, x.like(factor), select(below, x.like(1 / factor), 1.0))
    large, small = large * down, small * down
    out = sqrt(mad(large, large, small * small)) * up
    return select(a.equals(math.inf) | b.equals(math.inf), x.like(math.inf), out)


def rsqrt(x: Value) -> Value:
    """Return 1 / sqrt(x)."""
    return 1.0 / sqrt(x)


def masked_mul(x: Value, y: Value) -> Value:
    """Return x * y, 0 where either is 0 whatever the other is."""
    return select(x.equals(0.0) | y.equals(0.0), x.like(0.0), x * y)


def reciprocal(x: Value) -> Value:
    """Return 1 / x."""
    return 1.0 / x


def division_scale(y: Value) -> Value:
    """Return the power of two by which a divisor, and its dividends, must be multiplied.

    It is 1 unless the divisor is denormal, whose reciprocal overflows. A dividend that overflows by
    it has an infinite quotient.
    """
    f = y.format
    return select(absolute(y) < f.tiny, y.like(2.0 ** ((f.bias + 1) // 2)), 1.0)


def quotient(x: Value, y: Value, inverse: Value) -> Value:
    """Return x / y, given 1 / y of a y that is not denormal.

    The remainder of x times the inverse corrects it to the nearest number; where there is no
    remainder, because something is infinite, the product is right.

    References:
        P. W. Markstein, "Computation of elementary functions on the IBM RISC System/6000
        processor", 1990.
    """
    near = x * inverse
    nearest = mad(mad(-near, y, x), inverse, near)
    return select(nearest.is_nan(), near, nearest)


# ---------------------------------------------------------------------- steps and remainders
def nextafter(x: Value, y: Value) -> Value:
    """Return the number next to x in the direction of y."""
    bits = x.bits()
    away = (x < y) ^ (x < 0.0)
    step = select(away, bits.like(1), -1)
    least = copysign(bits.like(1).unbits(), y)
    out = select(x.equals(0.0), least, (bits + step).unbits())
    out = select(x.equals(y), y, out)
    return select(x.cmp("uno", y), x + y, out)


def _quotient(x: Value, y: Value) -> Value:
    return (x / y).call("llvm.trunc")


def _is_far(x: Value, y: Value) -> Value:
    """Tell where the quotient has more digits than a number, or there is none."""
    return ~(absolute(x / y) < 2.0**x.format.mantissa)


def _library_rem(x: Value, y: Value) -> Value:
    return x.call("fmodf" if x.kind == "float" else "fmod", y)


def rem(x: Value, y: Value) -> Value:
    """Return x - trunc(x / y) y, exactly, with the sign of x.

    The rounded quotient may be one too large; then the difference, exact as well, has the other
    sign.
    """
    size, step = absolute(x), absolute(y)
    out = fma(-_quotient(size, step), step, size)
    out = select(out < 0.0, out + step, out)
    out = copysign(select(size < step, size, out), x)
    return where_rare("rem", _is_far, _library_rem, out, x, y)
