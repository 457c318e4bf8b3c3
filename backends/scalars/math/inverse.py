"""asin, acos, atan, atan2.

Polynomials are minimax fits in the argument's square (Remez's exchange in 200-bit arithmetic,
relative to the function).

References:
    W. J. Cody, W. Waite, "Software Manual for the Elementary Functions", 1980: asin from its half
    angle above 1/2; atan by the three intervals around 0, 1 and infinity.
"""

from __future__ import annotations

import math

from .values import Value, absolute, copysign, mad, poly, select, sqrt

__all__ = ["acos", "asin", "atan", "atan2"]

# (asin(s) / s - 1) / s**2 on s <= 1/2.
_ASIN = {
    "float": (0.16666752, 0.074953064, 0.04546977, 0.02418081, 0.04216632),
    "double": (
        0.16666666666665403,
        0.07500000000338582,
        0.0446428568269458,
        0.030381959196952284,
        0.022371756551809018,
        0.01735972815730758,
        0.013884997377989008,
        0.012170816866619812,
        0.006520864597530322,
        0.019548156296922563,
        -0.016256106776634537,
        0.03193452236352201,
    ),
}
# (atan(t) / t - 1) / t**2 on t <= tan(pi / 8).
_ATAN = {
    "float": (-0.33333316, 0.19998525, -0.14244297, 0.105982654, -0.060873374),
    "double": (
        -0.3333333333333319,
        0.19999999999952187,
        -0.1428571428005464,
        0.1111111077633689,
        -0.0909089755223976,
        0.07692056548087962,
        -0.06663062224662333,
        0.05847583817504217,
        -0.05037922573054144,
        0.03802929465422364,
        -0.017868420266192682,
    ),
}
_PI = {
    "float": (3.1415927410125732, -8.742277657347586e-08),
    "double": (math.pi, 1.22464679914735e-16),
}
_NEAR, _FAR = math.sqrt(2) - 1, math.sqrt(2) + 1


def _asin_terms(x: Value) -> tuple[Value, Value, Value]:
    """Return (abs(x) > 1/2, s, s**2 P): asin(s) = s + s s**2 P, s = abs(x) or a half angle's."""
    size = absolute(x)
    big = size > 0.5
    z = select(big, mad(size, -0.5, size.like(0.5)), size * size)
    s = select(big, sqrt(z), size)
    return big, s, z * poly(z, _ASIN[x.kind])


def asin(x: Value) -> Value:
    """Return the inverse sine, ``pi / 2 - 2 asin(sqrt((1 - x) / 2))`` above 1/2."""
    high, low = (c / 2 for c in _PI[x.kind])
    big, s, tail = _asin_terms(x)
    y = mad(s, tail, s)
    return copysign(select(big, (y * -2.0 + low) + high, y), x)


def acos(x: Value) -> Value:
    """Return the inverse cosine, ``2 asin(sqrt((1 - x) / 2))`` above 1/2."""
    high, low = _PI[x.kind]
    big, s, tail = _asin_terms(x)
    y = mad(s, tail, s)
    middle = high / 2 - (copysign(y, x) - low / 2)
    twice = y + y
    return select(big, select(x < 0.0, high - (twice - low), twice), middle)


def _arctangent(y: Value, x: Value) -> Value:
    """Return the angle of (x, y), both of them positive and not both infinite or zero."""
    high, low = _PI[y.kind]
    far, near = y > x * _FAR, y <= x * _NEAR
    t = select(far, -x, select(near, y, y - x)) / select(far, y, select(near, x, y + x))
    z = t * t
    out = mad(t * z, poly(z, _ATAN[y.kind]), t)
    base = select(far, y.like(high / 2), select(near, y.like(0.0), high / 4))
    rest = select(far, y.like(low / 2), select(near, y.like(0.0), low / 4))
    return base + (out + rest)


def atan(x: Value) -> Value:
    """Return the inverse tangent."""
    return copysign(_arctangent(absolute(x), x.like(1.0)), x)


def atan2(y: Value, x: Value) -> Value:
    """Return the angle of the point (x, y): signed zeros and infinities count."""
    high, low = _PI[y.kind]
    tall, wide = absolute(y), absolute(x)
    # The ratio is what counts: its terms may be scaled.
    top = 2.0 ** (y.format.bias - 1)
    scale = select((tall > top) | (wide > top), y.like(0.25), 1.0)
    odd = tall.equals(wide) & (tall.equals(math.inf) | tall.equals(0.0))
    both_zero = odd & tall.equals(0.0)
    tall = select(odd, select(both_zero, tall, 1.0), tall * scale)
    wide = select(odd, y.like(1.0), wide * scale)
    out = _arctangent(tall, wide)
    behind = x.bits() < 0
    return copysign(select(behind, high - (out - low), out), y)
