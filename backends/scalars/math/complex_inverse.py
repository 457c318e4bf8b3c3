"""asin, acos, atanh of complex numbers; asinh, acosh and atan are the same, turned.

Single precision goes by way of double, where nothing overflows or vanishes.

References:
    T. E. Hull, T. F. Fairgrieve, P. T. P. Tang, "Implementing the complex arcsine and arccosine
    functions using exception handling", ACM TOMS 23 (1997).
    W. Kahan, "Branch cuts for complex elementary functions", 1987 (atanh).
    ISO/IEC 9899 (C99), annex G: values at infinities.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from . import inverse, logarithm, power
from .values import Value, absolute, copysign, mad, maximum, select, sqrt

__all__ = ["acos", "acosh", "asin", "atanh"]

Parts = tuple[Value, Value]

_CROSS = 0.6417  # b up to which asin b and acos b are accurate
_NEAR = 1.5  # a up to which a - 1 is computed apart
_LARGE = 2.0**500  # parts from which squares might overflow
_TINY = 2.0**-500  # imaginary parts whose squares might vanish


def _in_double(f: Callable[[Value, Value], Parts]) -> Callable[[Value, Value], Parts]:
    def g(x: Value, y: Value) -> Parts:
        if x.kind == "double":
            return f(x, y)
        re, im = f(*(v.cast("fpext", "double") for v in (x, y)))
        return re.cast("fptrunc", "float"), im.cast("fptrunc", "float")

    return g


class _Ellipse:
    """What asin and acos share, of abs(x) and abs(y).

    Attributes:
        b: x / a, a being half the sum of the distances of (x, y) from 1 and -1.
        root: sqrt(a**2 - x**2), without cancellation.
        size: log(a + sqrt(a**2 - 1)), the imaginary part.
        large, flat: whether the number is too large for this, or y too small.
    """

    def __init__(self, re: Value, im: Value) -> None:
        x, y = absolute(re), absolute(im)
        self.x, self.y = x, y
        # A nan beside an infinity must not count as small.
        self.large = (x > _LARGE) | (y > _LARGE)
        self.flat = y < _TINY
        r, s = power.hypot(x + 1.0, y), power.hypot(x - 1.0, y)
        a = (r + s) * 0.5
        self.b = x / a
        inside = x <= 1.0
        right = r + (x + 1.0)
        square = y * y
        gap = s + select(inside, 1.0 - x, x - 1.0)
        sum_of = a + x
        near = sqrt(sum_of * 0.5 * (square / right + gap))
        far = y * sqrt((sum_of / right + sum_of / gap) * 0.5)
        root = select(inside, near, far)
        less = select(inside, square / gap, gap)
        less = select(gap.equals(0.0), 0.0, less)
        excess = (square / right + less) * 0.5
        close = logarithm.log1p(excess + sqrt(excess * (a + 1.0)))
        size = select(a <= _NEAR, close, logarithm.log(a + sqrt(mad(a, a, a.like(-1.0)))))
        # y next to nothing: the square of 1 - x or x - 1 decides.
        over, wide = absolute(1.0 - x), sqrt(absolute(1.0 - x) * (x + 1.0))
        at_one = over.equals(0.0)
        flat = select(inside, y / wide, logarithm.log1p(over + wide))
        flat = select(at_one, sqrt(y), flat)
        self.root = select(
            self.flat, select(at_one, sqrt(y), select(inside, wide, y * x / wide)), root
        )
        self.b = select(self.flat, maximum(x.like(0.0), select(inside, x, 1.0)), self.b)
        # The logarithm of a large number, of 2**-32 of it where its size overflows.
        whole = logarithm.log(power.hypot(x * 2.0**-32, y * 2.0**-32))
        whole = whole + math.log(2.0) * 33
        self.size = select(self.large, whole, select(self.flat, flat, size))


@_in_double
def asin(re: Value, im: Value) -> Parts:
    """Return the inverse sine of re + i im."""
    e = _Ellipse(re, im)
    angle = select(e.b <= _CROSS, inverse.asin(e.b), inverse.atan2(e.x, e.root))
    angle = select(e.large, inverse.atan2(e.x, e.y), angle)
    angle = select(e.x.equals(0.0), e.x, angle)
    return copysign(angle, re), copysign(e.size, im)


@_in_double
def acos(re: Value, im: Value) -> Parts:
    """Return the inverse cosine of re + i im."""
    e = _Ellipse(re, im)
    signed = copysign(e.b, re)
    angle = select(e.b <= _CROSS, inverse.acos(signed), inverse.atan2(e.root, re))
    angle = select(e.large, inverse.atan2(e.y, re), angle)
    angle = select(e.x.equals(0.0) & ~e.large, re.like(math.pi / 2), angle)
    return angle, copysign(e.size, -im)


def acosh(re: Value, im: Value) -> Parts:
    """Return the inverse hyperbolic cosine of re + i im: the inverse cosine, turned."""
    angle, size = acos(re, im)
    return absolute(size), copysign(angle, im)


@_in_double
def atanh(re: Value, im: Value) -> Parts:
    """Return the inverse hyperbolic tangent of re + i im."""
    x, y = absolute(re), absolute(im)
    large = (x > _LARGE) | (y > _LARGE)
    gap = 1.0 - x
    pole = gap.equals(0.0) & (y < _TINY)
    distance = mad(gap, gap, y * y)
    size = logarithm.log1p(x * 4.0 / distance) * 0.25
    size = select(pole, (logarithm.log(y) - math.log(2.0)) * -0.5, size)
    # Of large numbers it is x / (x**2 + y**2).
    far = power.hypot(x * 2.0**-32, y * 2.0**-32)
    inverse_size = ((x * 2.0**-32) / far) / far * 2.0**-32
    inverse_size = select(far.equals(math.inf), x.like(0.0), inverse_size)
    size = select(large, inverse_size, size)
    size = select(x.equals(0.0), x, size)
    angle = inverse.atan2(y + y, mad(-y, y, gap * (x + 1.0))) * 0.5
    angle = select(large & ~y.is_nan(), y.like(math.pi / 2), angle)
    return copysign(size, re), copysign(angle, im)
