"""sin, cos, tan.

sin and cos take a multiple of pi (an odd one of pi / 2 for cos) off and evaluate one odd
polynomial on |r| <= pi / 2; tan takes a multiple of pi / 2 off and divides a sine by a cosine.
The multiple's constant has three parts, each rounded down: the first difference is exact, the
second one rounds once, and zeros keep their signs. It is good to 2**17 in float32 and 2**30 in
float64. Beyond, a slow path multiplies by the bits of 2 / pi that matter. The polynomials are
minimax fits (Remez's exchange in 200-bit arithmetic, relative to the function).

References:
    W. J. Cody, W. Waite, "Software Manual for the Elementary Functions", 1980.
    M. H. Payne, R. N. Hanek, "Radian reduction for trigonometric functions", SIGNUM Newsletter 18,
    1983.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

from .rare import where_rare
from .values import Value, absolute, copysign, fma, mad, maximum, minimum, poly, select

__all__ = ["cos", "sin", "sine_of_half_turn", "tan"]


@dataclass(frozen=True)
class _Table:
    """Constants of a float format.

    Attributes:
        half_pi: pi / 2 in three parts, rounded down.
        limit: up to which size of x they are good.
        wide: ``(sin(r) / r - 1) / r**2`` on |r| <= pi / 2, in powers of r**2.
        sin: the same on |r| <= pi / 4.
        cos: ``(cos(r) - 1 + r**2 / 2) / r**4`` on |r| <= pi / 4, in powers of r**2.
    """

    half_pi: tuple[float, float, float]
    limit: float
    wide: tuple[float, ...]
    sin: tuple[float, ...]
    cos: tuple[float, ...]


_TABLES = {
    "float": _Table(
        half_pi=(1.570796251296997, 7.549789415861596e-08, 5.390302529957765e-15),
        limit=2.0**17,
        wide=(-0.1666666, 0.008333066, -0.0001980933, 2.6048297e-06),
        sin=(-0.16666654, 0.0083321, -0.00019506499),
        cos=(0.04166664, -0.001388713, 2.4412086e-05),
    ),
    "double": _Table(
        half_pi=(1.5707963267948966, 6.123233995736765e-17, 1.0828566739219139e-32),
        limit=2.0**30,
        wide=(
            -0.16666666666666666,
            0.008333333333333207,
            -0.0001984126984121248,
            2.7557319211569334e-06,
            -2.5052106904381507e-08,
            1.6058940998156894e-10,
            -7.643019194241551e-13,
            2.721416808583561e-15,
        ),
        sin=(
            -0.1666666666666663,
            0.00833333333332184,
            -0.00019841269829358606,
            2.7557313538569825e-06,
            -2.5050734401823806e-08,
            1.5895434205452262e-10,
        ),
        cos=(
            0.041666666666666595,
            -0.0013888888888873307,
            2.4801587288965203e-05,
            -2.755731420306446e-07,
            2.0875703136804036e-09,
            -1.1358616836863901e-11,
        ),
    ),
}


def _less(x: Value, n: Value, factor: float) -> Value:
    """Return x - n * (factor pi / 2)."""
    for part in _TABLES[x.kind].half_pi:
        x = fma(n, -factor * part, x)
    return x


def _odd(r: Value, terms: tuple[float, ...]) -> Value:
    z = r * r
    return copysign(mad(r * z, poly(z, terms), r), r)


def _even(r: Value) -> Value:
    z = r * r
    return mad(z * z, poly(z, _TABLES[r.kind].cos), mad(z, -0.5, r.like(1.0)))


def sine_of_half_turn(r: Value) -> Value:
    """Return sin(r) for |r| <= pi / 2, no greater than 1."""
    out = _odd(r, _TABLES[r.kind].wide)
    return maximum(r.like(-1.0), minimum(r.like(1.0), out))


def _negative_if_odd(y: Value, n: Value) -> Value:
    """Change the sign of y where the integer n is odd."""
    return (y.bits() ^ (n << (y.format.width - 1))).unbits()


def sin(x: Value) -> Value:
    """Return the sine."""
    shifted = mad(x, 1 / math.pi, x.format.magic)
    r = _less(x, shifted - x.format.magic, 2.0)
    out = _negative_if_odd(sine_of_half_turn(r), shifted.bits())
    return where_rare("sin", _is_large, _slowly(_slow_sin), out, x)


def cos(x: Value) -> Value:
    """Return the cosine, as the sine of the distance to a zero of it."""
    size = absolute(x)
    shifted = mad(size, 1 / math.pi, size.like(-0.5)) + x.format.magic
    r = _less(size, (shifted - x.format.magic) + 0.5, 2.0)
    out = _negative_if_odd(sine_of_half_turn(r), ~shifted.bits())
    return where_rare("cos", _is_large, _slowly(_slow_cos), out, x)


def tan(x: Value) -> Value:
    """Return the tangent."""
    t = _TABLES[x.kind]
    shifted = mad(x, 2 / math.pi, x.format.magic)
    r = _less(x, shifted - x.format.magic, 1.0)
    out = _quotient(_odd(r, t.sin), _even(r), shifted.bits())
    return where_rare("tan", _is_large, _slowly(_slow_tan), out, x)


def _quotient(sine: Value, cosine: Value, quadrant: Value) -> Value:
    odd = (quadrant & 1).cmp("ne", 0)
    return select(odd, -cosine, sine) / select(odd, sine, cosine)


# ---------------------------------------------------------------------- large arguments
_ZEROS = 64  # zero bits before the point, so that the least exponent has its place too
_WORDS = 21


def _is_large(x: Value) -> Value:
    return absolute(x) > _TABLES[x.kind].limit


def _slowly(f: Callable[[Value, Value, Value], Value]) -> Callable[[Value], Value]:
    """Return the slow path of a function of (x's sign as bits, reduced size of x, quadrant)."""

    def slow(x: Value) -> Value:
        wide = x.cast("fpext", "double") if x.kind == "float" else x
        bits = wide.bits()
        r, quadrant = _payne_hanek(bits & ((1 << 63) - 1))
        out = f(bits & (-1 << 63), r, quadrant)
        out = select(absolute(wide).equals(math.inf), out.like(math.nan), out)
        return out.cast("fptrunc", "float") if x.kind == "float" else out

    return slow


def _slow_sin(sign: Value, r: Value, quadrant: Value) -> Value:
    y = select((quadrant & 1).equals(0), _odd(r, _TABLES["double"].sin), _even(r))
    return (_negative_if_odd(y, quadrant >> 1).bits() ^ sign).unbits()


def _slow_cos(sign: Value, r: Value, quadrant: Value) -> Value:
    return _slow_sin(sign.like(0), r, quadrant + 1)


def _slow_tan(sign: Value, r: Value, quadrant: Value) -> Value:
    out = _quotient(_odd(r, _TABLES["double"].sin), _even(r), quadrant)
    return (out.bits() ^ sign).unbits()


@functools.cache
def _two_over_pi() -> list[int]:
    """Return the bits of 2 / pi as 64-bit words, pi by Machin's formula."""
    length = 64 * (_WORDS + 2)

    def arctan_inverse(k: int) -> int:
        power = total = (1 << length) // k
        n, sign = 1, -1
        while power:
            power //= k * k
            n += 2
            total += sign * (power // n)
            sign = -sign
        return total

    pi = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))  # in units of 2**-length
    bits = (2 << length + 64 * _WORDS - _ZEROS) // pi
    return [bits >> 64 * (_WORDS - 1 - k) & (1 << 64) - 1 for k in range(_WORDS)]


def _payne_hanek(bits: Value) -> tuple[Value, Value]:
    """Return (r, quadrant) for the bits of a large positive double x = quadrant pi/2 + r mod 2 pi.

    With x = m 2**e, the bits of 2 / pi down to the second before the point of x 2 / pi make
    multiples of 4; of the rest, 192 leave an error below 2**-130.
    """
    b = bits.b
    mantissa = (bits & ((1 << 52) - 1)) | (1 << 52)
    first = bits.lshr(52) - (1075 + 2 - _ZEROS)
    word, within = first.lshr(6), first & 63
    words = []
    for k in range(4):
        found = b.entry("funtorch.two_over_pi", _two_over_pi(), (word + k).name)
        words.append(Value(b, found, "i64"))
    high, middle, low = (
        words[k].call("llvm.fshl", words[k + 1], within).cast("zext", "i128") for k in range(3)
    )
    m = mantissa.cast("zext", "i128")
    product = ((m * high) << 64) + m * middle + (m * low).lshr(64)
    quadrant = (product + (1 << 125)).lshr(126)
    rest = product - (quadrant << 126)
    whole = rest.lshr(64).cast("trunc", "i64").cast("sitofp", "double")
    part = rest.cast("trunc", "i64").cast("uitofp", "double")
    r = mad(part, 2.0**-64, whole)
    high_part, low_part = math.pi / 2, 6.123233995736766e-17
    return fma(r, high_part * 2.0**-62, r * (low_part * 2.0**-62)), quadrant.cast("trunc", "i64")
