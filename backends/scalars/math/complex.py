"""Complex functions, written with the real ones: a `Pair` is a real and an imaginary part.

References:
    W. Kahan, "Branch cuts for complex elementary functions, or much ado about nothing's sign bit",
    1987 (sqrt, log, tanh; the signs of zeros choose the side of a cut).
    R. L. Smith, "Algorithm 116: complex division", Comm. ACM 5 (1962).
    ISO/IEC 9899 (C99), annex G: values at infinities.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import complex_inverse, exponential, inverse, logarithm, power, trigonometric
from .values import Value, absolute, copysign, mad, maximum, minimum, select, sqrt

__all__ = ["COMPLEX", "Pair"]


@dataclass(frozen=True)
class Pair:
    """A complex number: two values of one type."""

    re: Value
    im: Value


def _each(f: Callable[..., Value]) -> Callable[..., Pair]:
    """Return the complex function that does ``f`` to both parts."""
    return lambda *zs: Pair(f(*(z.re for z in zs)), f(*(z.im for z in zs)))


def _mul(z: Pair, w: Pair) -> Pair:
    return Pair(z.re * w.re - z.im * w.im, z.re * w.im + z.im * w.re)


def _masked_mul(z: Pair, w: Pair) -> Pair:
    nothing = (z.re.equals(0.0) & z.im.equals(0.0)) | (w.re.equals(0.0) & w.im.equals(0.0))
    zero = z.re.like(0.0)
    return _choose(nothing, Pair(zero, zero), _mul(z, w))


def _choose(cond: Value, z: Pair, w: Pair) -> Pair:
    return Pair(select(cond, z.re, w.re), select(cond, z.im, w.im))


def _div(z: Pair, w: Pair) -> Pair:
    """Divide by Smith's method: the ratio of the divisor's parts is at most 1."""
    flat = absolute(w.re) >= absolute(w.im)
    large, small = select(flat, w.re, w.im), select(flat, w.im, w.re)
    ratio = small / large
    ratio = select(large.equals(0.0), large, ratio)
    scale = 1.0 / mad(small, ratio, large)
    p, q = z.re * ratio, z.im * ratio
    re = select(flat, z.re + q, p + z.im)
    im = select(flat, z.im - p, q - z.re)
    # Of a zero divisor the parts of z are what is divided.
    nothing = large.equals(0.0)
    return Pair(
        select(nothing, z.re / large, re * scale), select(nothing, z.im / large, im * scale)
    )


def _of_real(x: Value) -> Pair:
    return Pair(x, x.like(0.0))


def _reciprocal(z: Pair) -> Pair:
    flat = absolute(z.re) >= absolute(z.im)
    large, small = select(flat, z.re, z.im), select(flat, z.im, z.re)
    ratio = small / large
    below = mad(small, ratio, large)
    return Pair(
        select(flat, ratio.like(1.0), ratio) / below, -select(flat, ratio, ratio.like(1.0)) / below
    )


def _integer_pow(z: Pair, *, y: int) -> Pair:
    """Multiply by repeated squaring."""
    exponent, out = abs(y), None
    while exponent:
        if exponent & 1:
            out = z if out is None else _mul(out, z)
        exponent >>= 1
        if exponent:
            z = _mul(z, z)
    if out is None:
        return _of_real(z.re.like(1.0))
    return _reciprocal(out) if y < 0 else out


def _extremum(before: str) -> Callable[[Pair, Pair], Pair]:
    """Return NumPy's choice of one of two numbers in lexicographic order: the first that is nan."""

    def choose(z: Pair, w: Pair) -> Pair:
        no_nan = ~(z.im.is_nan() | w.im.is_nan())
        first = z.re.cmp(before, w.re) & no_nan
        first |= z.re.equals(w.re) & z.im.cmp(before[:-1] + "e", w.im)
        return _choose(first | z.re.is_nan() | z.im.is_nan(), z, w)

    return choose


def _abs(z: Pair) -> Value:
    return power.hypot(z.re, z.im)


def _sign(z: Pair) -> Pair:
    """Return z / abs(z): of infinite numbers one of 1, -1, i, -i, or nan where both parts are."""
    size = _abs(z)
    zero, far = size.equals(0.0), size.equals(math.inf)
    both = absolute(z.re).equals(absolute(z.im))

    def part(x: Value) -> Value:
        unit = select(absolute(x).equals(math.inf), copysign(x.like(1.0), x), 0.0)
        unit = select(both, x.like(math.nan), unit)
        return select(zero, x, select(far, unit, x / size))

    return Pair(part(z.re), part(z.im))


def _times(factor: Value, y: Value) -> Value:
    """Return a product in which a factor 0 stays 0, whatever the other is."""
    return select(y.equals(0.0), y, factor * y)


def _exp(z: Pair) -> Pair:
    """Return e**x (cos y + i sin y), e**x in two factors where it might overflow alone."""
    large = z.re > z.re.format.bias * 0.68
    factor = exponential.exp(select(large, z.re * 0.5, z.re))
    again = select(large, factor, 1.0)
    real = z.im.equals(0.0)
    cos, sin = trigonometric.cos(z.im), trigonometric.sin(z.im)
    gone = z.re.equals(-math.inf)
    re = select(gone, z.re.like(0.0), (cos * factor) * again)
    re = select(z.re.equals(math.inf) & cos.is_nan(), z.re, re)
    im = select(gone | real, copysign(z.re.like(0.0), z.im), (sin * factor) * again)
    return Pair(re, im)


def _expm1(z: Pair) -> Pair:
    """Return e**z - 1: the real part is (e**x - 1) cos y - 2 sin(y / 2)**2."""
    sin = trigonometric.sin(z.im * 0.5)
    cos = trigonometric.cos(z.im)
    re = mad(exponential.expm1(z.re), cos, sin * sin * -2.0)
    return Pair(re, exponential.exp(z.re) * trigonometric.sin(z.im))


def _log(z: Pair) -> Pair:
    """Return log abs(z) + i arg(z); near the unit circle from (a - 1) (a + 1) + b**2."""
    a, b = absolute(z.re), absolute(z.im)
    less = a < b
    large, small = select(less, b, a), select(less, a, b)
    near = (large > 0.5) & (large < 2.0)
    excess = mad(small, small, (large - 1.0) * (large + 1.0))
    circle = logarithm.log1p(excess) * 0.5
    size = select(near, circle, logarithm.log(_scaled_abs(large, small)))
    # An overflowing size is taken of half the number.
    size = size + select(large > large.format.tiny**-1 * 0.5, large.like(math.log(2)), 0.0)
    return Pair(size, inverse.atan2(z.im, z.re))


def _scaled_abs(large: Value, small: Value) -> Value:
    half = select(large > large.format.tiny**-1 * 0.5, large.like(0.5), 1.0)
    return power.hypot(large * half, small * half)


def _sqrt(z: Pair) -> Pair:
    """Return the root with a real part that is not negative, by the root of (abs(z) + a) / 2."""
    a, b = absolute(z.re), absolute(z.im)
    huge = maximum(a, b) > z.re.format.tiny**-1 * 0.25
    tiny = maximum(a, b) < z.re.format.tiny * 2.0**30
    down = select(huge, a.like(2.0**-4), select(tiny, a.like(2.0**60), 1.0))
    up = select(huge, a.like(4.0), select(tiny, a.like(2.0**-30), 1.0))
    large, other = a * down, b * down
    t = sqrt((large + power.hypot(large, other)) * 0.5)
    half = select(t.equals(0.0), t, other / (t + t)) * up
    t = t * up
    right = (z.re >= 0.0) | z.re.is_nan()
    zero = a.equals(0.0) & b.equals(0.0)
    re = select(zero, a, select(right, t, half))
    im = select(right, half, t)
    unbounded = b.equals(math.inf)
    re = select(unbounded, b, re)
    im = select(unbounded, b, im)
    return Pair(re, copysign(im, z.im))


def _sinh(z: Pair) -> Pair:
    sin, cos = trigonometric.sin(z.im), trigonometric.cos(z.im)
    re = exponential.sinh(z.re)
    im = exponential.cosh(z.re)
    return Pair(_times(cos, re), _times(im, sin))


def _cosh(z: Pair) -> Pair:
    sin, cos = trigonometric.sin(z.im), trigonometric.cos(z.im)
    sinh, cosh = exponential.sinh(z.re), exponential.cosh(z.re)
    return Pair(cosh * cos, select(z.re.equals(0.0), z.re * sin, _times(sinh, sin)))


def _tanh(z: Pair) -> Pair:
    """Return (s c b + i t) / (1 + b s**2): s = sinh x, c = cosh x, t = tan y, b = 1 + t**2.

    Far out, it is (sign(x), 4 sin y cos y e**(-2 abs x)).
    """
    limit = 11.0 if z.re.kind == "float" else 22.0
    x = maximum(z.re.like(-limit), minimum(z.re.like(limit), z.re))
    t = trigonometric.tan(z.im)
    b = mad(t, t, t.like(1.0))
    s = exponential.sinh(x)
    c = sqrt(mad(s, s, s.like(1.0)))
    below = 1.0 / mad(b * s, s, s.like(1.0))
    far = absolute(z.re) >= limit
    rest = trigonometric.sin(z.im) * trigonometric.cos(z.im) * 4.0
    rest = rest * exponential.exp(absolute(z.re) * -2.0)
    one = copysign(s.like(1.0), z.re)
    return Pair(
        select(far, one, copysign(b * c * s * below, z.re)),
        select(far, select(absolute(z.im).equals(math.inf), t.like(0.0), rest), t * below),
    )


def _scaled(f: Callable[[Pair], Pair], before: float, after: float) -> Callable[[Pair], Pair]:
    """Return ``after * f(before * z)``."""

    def times(z: Pair, factor: float) -> Pair:
        return z if factor == 1 else Pair(z.re * factor, z.im * factor)

    return lambda z: times(f(times(z, before)), after)


def _log1p(z: Pair) -> Pair:
    """Return log(1 + z), for small z from abs(1 + z)**2 - 1 = x (2 + x) + y**2."""
    out = _log(Pair(z.re + 1.0, z.im))
    near = logarithm.log1p(mad(z.im, z.im, z.re * (z.re + 2.0))) * 0.5
    small = maximum(absolute(z.re), absolute(z.im)) < 0.5
    return Pair(select(small, near, out.re), out.im)


def _rsqrt(z: Pair) -> Pair:
    return _div(_of_real(z.re.like(1.0)), _sqrt(z))


def _logistic(z: Pair) -> Pair:
    e = _exp(Pair(-z.re, -z.im))
    return _div(_of_real(e.re.like(1.0)), Pair(e.re + 1.0, e.im))


def _pow(z: Pair, w: Pair) -> Pair:
    """Return exp(w log(z)), single precision by way of double; 1 for w = 0."""
    if z.re.kind == "float":
        wide = _pow(*(Pair(*(p.cast("fpext", "double") for p in (v.re, v.im))) for v in (z, w)))
        return Pair(*(p.cast("fptrunc", "float") for p in (wide.re, wide.im)))
    one = w.re.equals(0.0) & w.im.equals(0.0)
    base_zero = z.re.equals(0.0) & z.im.equals(0.0)
    out = _exp(_mul(w, _log(z)))
    positive = (w.re > 0.0) & w.im.equals(0.0)
    at_zero = select(positive, z.re.like(0.0), math.nan)
    out = _choose(base_zero, Pair(at_zero, at_zero), out)
    return _choose(one, _of_real(z.re.like(1.0)), out)


def _turned(f: Callable[[Pair], Pair]) -> Callable[[Pair], Pair]:
    """Return ``-i f(i z)``."""

    def g(z: Pair) -> Pair:
        out = f(Pair(-z.im, z.re))
        return Pair(out.im, -out.re)

    return g


def _of_parts(f: Callable[[Value, Value], tuple[Value, Value]]) -> Callable[[Pair], Pair]:
    return lambda z: Pair(*f(z.re, z.im))


def _cos(z: Pair) -> Pair:
    return _cosh(Pair(-z.im, z.re))


def _equal(z: Pair, w: Pair) -> Value:
    return z.re.equals(w.re) & z.im.equals(w.im)


def _is_finite(z: Pair) -> Value:
    return (absolute(z.re) < math.inf) & (absolute(z.im) < math.inf)


COMPLEX: dict[str, Callable[..., Any]] = {
    "neg": _each(lambda x: -x),
    "add": _each(lambda x, y: x + y),
    "sub": _each(lambda x, y: x - y),
    "mul": _mul,
    "masked_mul": _masked_mul,
    "div": _div,
    "square": lambda z: _mul(z, z),
    "reciprocal": _reciprocal,
    "integer_pow": _integer_pow,
    "abs": _abs,
    "sign": _sign,
    "conj": lambda z: Pair(z.re, -z.im),
    "real": lambda z: z.re,
    "imag": lambda z: z.im,
    "complex": Pair,
    "exp": _exp,
    "log": _log,
    "exp2": _scaled(_exp, math.log(2), 1),
    "expm1": _expm1,
    "log1p": _log1p,
    "log2": _scaled(_log, 1, 1 / math.log(2)),
    "log10": _scaled(_log, 1, 1 / math.log(10)),
    "sqrt": _sqrt,
    "rsqrt": _rsqrt,
    "pow": _pow,
    "logistic": _logistic,
    "sin": _turned(_sinh),
    "cos": _cos,
    "tan": _turned(_tanh),
    "sinh": _sinh,
    "cosh": _cosh,
    "tanh": _tanh,
    "asin": _of_parts(complex_inverse.asin),
    "acos": _of_parts(complex_inverse.acos),
    "atan": _turned(_of_parts(complex_inverse.atanh)),
    "asinh": _turned(_of_parts(complex_inverse.asin)),
    "acosh": _of_parts(complex_inverse.acosh),
    "atanh": _of_parts(complex_inverse.atanh),
    "eq": _equal,
    "ne": lambda z, w: ~_equal(z, w),
    "max": _extremum("ogt"),
    "min": _extremum("olt"),
    "is_finite": _is_finite,
    "select": _choose,
    "copy": lambda z: z,
    "stop_gradient": lambda z: z,
}
"""Complex functions by primitive: of pairs, or of values where arguments are real."""
