"""log and its relatives: log2, log10, log1p, logaddexp, asinh, acosh, atanh.

``log x = n ln 2 + log(1 + f)`` with 1 + f between 2/3 and 4/3. float32 takes the polynomial
``f - f**2 / 2 + f**3 P(f)``; float64 the series in ``s = f / (2 + f)``, whose polynomial in s**2 is
short: ``log(1 + f) = f - (f**2 / 2 - s (f**2 / 2 + s**2 P(s**2)))``. P is a minimax fit, relative
to log(1 + f) (Remez's exchange, or Lawson's weights where that stalls, in 200-bit arithmetic).

References:
    J.-M. Muller, "Elementary Functions: Algorithms and Implementation", 3rd ed., 2016.
    W. Kahan, "Branch cuts for complex elementary functions", 1987 (the inverse hyperbolic functions
    from log1p).
    C. L. Lawson, "Contributions to the theory of linear least maximum approximation", 1961.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .exponential import exp_of_negative
from .values import FORMATS, Value, absolute, copysign, mad, poly, select, sqrt

__all__ = ["acosh", "asinh", "atanh", "log", "log1p", "log2", "log10", "logaddexp"]


@dataclass(frozen=True)
class _Table:
    """Constants of a float format: two-part logarithms, P, and the bits of 2/3.

    The first part of a logarithm of 2 is so short that its product with n is exact.
    """

    ln2: tuple[float, float]
    log10_2: tuple[float, float]
    log2_e: tuple[float, float]
    terms: tuple[float, ...]
    two_thirds: int


_TABLES = {
    "float": _Table(
        ln2=(0.693359375, -2.12194440054690583e-4),
        log10_2=(0.30078125, 0.0002487456639811952),
        log2_e=(1.4426950216293335, 1.9259629911266175e-08),
        terms=(
            0.33333215,
            -0.24999797,
            0.20010419,
            -0.16680515,
            0.14005627,
            -0.1218384,
            0.13985762,
            -0.12893662,
        ),
        two_thirds=0x3F2AAAAB,
    ),
    "double": _Table(
        ln2=(6.93147180369123816490e-01, 1.90821492927058770002e-10),
        log10_2=(0.3010299801826477, 1.5481333490135613e-08),
        log2_e=(1.4426950408889634, 2.0355273740931033e-17),
        terms=(
            0.6666666666667271,
            0.3999999999616019,
            0.28571429395551534,
            0.22222138480299727,
            0.18186356939625276,
            0.15250171150477215,
            0.15368326736391813,
        ),
        two_thirds=0x3FE5555555555555,
    ),
}


def _split(x: Value) -> tuple[Value, Value]:
    """Return (n as bits in the exponent's place, x / 2**n between 2/3 and 4/3), x normal."""
    mantissa = x.format.mantissa
    bits = x.bits()
    n = (bits - _TABLES[x.kind].two_thirds) >> mantissa
    return n, (bits - (n << mantissa)).unbits()


def _small_to_float(n: Value, kind: str) -> Value:
    """Convert an integer of fewer bits than a mantissa has."""
    magic = n.constant(FORMATS[kind].magic, kind)
    return (n + magic.bits()).unbits() - magic


def _near_one(f: Value, low: Value | None = None) -> Value:
    """Return log(1 + f) for -1/3 <= f <= 1/3, plus a number small against it."""
    square = f * f
    terms = _TABLES[f.kind].terms
    if f.kind == "float":
        tail = f * square * poly(f, terms)
        tail = tail if low is None else tail + low
        return f + mad(square, -0.5, tail)
    half = square * 0.5
    s = f / (f + 2.0)
    z = s * s
    inner = s * mad(z, poly(z, terms), half)
    inner = inner if low is None else inner + low
    return f - (half - inner)


def _parts(x: Value) -> tuple[Value, Value]:
    """Return (n, f) with x = 2**n (1 + f), for x > 0."""
    grow = x.format.mantissa + 2
    small = x < x.format.tiny
    n, m = _split(select(small, x * 2.0**grow, x))
    count = _small_to_float(n, x.kind) - select(small, x.like(grow), 0.0)
    return count, m - 1.0


def _with_ends(x: Value, out: Value) -> Value:
    """Return a logarithm's values where x is not a positive number."""
    out = select(x.equals(math.inf), x, out)
    out = select(x.equals(0.0), x.like(-math.inf), out)
    return select(x.cmp("ult", 0.0), x.like(math.nan), out)


def _sum(n: Value, f: Value) -> Value:
    high, low = _TABLES[f.kind].ln2
    return mad(n, high, _near_one(f, n * low))


def log(x: Value) -> Value:
    """Return the natural logarithm."""
    return _with_ends(x, _sum(*_parts(x)))


def log2(x: Value) -> Value:
    """Return the logarithm to base 2, exact for powers of 2."""
    n, f = _parts(x)
    high, low = _TABLES[x.kind].log2_e
    near = _near_one(f)
    return _with_ends(x, mad(near, low, mad(near, high, n)))


def log10(x: Value) -> Value:
    """Return the logarithm to base 10."""
    n, f = _parts(x)
    high, low = _TABLES[x.kind].log10_2
    return _with_ends(x, mad(n, high, mad(_near_one(f), 1 / math.log(10), n * low)))


def log1p(x: Value) -> Value:
    """Return log(1 + x), with what 1 + x loses by rounding put back into f."""
    f = x.format
    u = x + 1.0
    lost = x - (u - 1.0)
    n, m = _split(u)
    # 2**-n, or 0 where x is so large that nothing is lost.
    bits = ((f.bias - n) << f.mantissa).call("llvm.smax", 0)
    rest = mad(lost, bits.unbits(), m - 1.0)
    out = copysign(_sum(_small_to_float(n, x.kind), rest), x)
    out = select(x.equals(math.inf), x, out)
    out = select(x.equals(-1.0), x.like(-math.inf), out)
    return select(x.cmp("ult", -1.0), x.like(math.nan), out)


def logaddexp(x: Value, y: Value) -> Value:
    """Return log(e**x + e**y), as the greater plus log(1 + e**-distance)."""
    less = x < y
    high, low = select(less, y, x), select(less, x, y)
    distance = select(high.equals(low), high.like(0.0), low - high)
    return high + log1p(exp_of_negative(distance))


def _doubled(x: Value, large: Value, near: Value) -> Value:
    """Return log1p(near), or log(2 x) where x is large."""
    out = log1p(select(large, x, near))
    return out + select(large, x.like(math.log(2)), 0.0)


def asinh(x: Value) -> Value:
    """Return log1p(a + a**2 / (1 + sqrt(1 + a**2))) with a = abs(x), and the sign of x."""
    size = absolute(x)
    square = size * size
    near = size + square / (sqrt(square + 1.0) + 1.0)
    large = size > 2.0 ** (x.format.mantissa + 5)
    return copysign(_doubled(size, large, near), x)


def acosh(x: Value) -> Value:
    """Return log1p(t + sqrt(2 t + t**2)) with t = x - 1; nan below 1."""
    t = x - 1.0
    near = t + sqrt(mad(t, t, t + t))
    out = _doubled(x, x > 2.0 ** (x.format.mantissa + 5), near)
    return select(x < 1.0, x.like(math.nan), out)


def atanh(x: Value) -> Value:
    """Return log1p(2 a / (1 - a)) / 2 with a = abs(x), and the sign of x."""
    size = absolute(x)
    return copysign(log1p((size + size) / (1.0 - size)) * 0.5, x)
