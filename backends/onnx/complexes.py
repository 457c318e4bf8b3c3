"""Complex numbers as pairs of reals: what each function does to the real and the imaginary part.

The formulas are in the public operations, so they are programs whose equations have rules of their
own. They are those of `backends/scalars/math/complex.py` in the operators that ONNX has: no bits of
floats, and few nodes.

References:
    W. Kahan, "Branch cuts for complex elementary functions, or much ado about nothing's sign bit",
    1987. R. L. Smith, "Algorithm 116: complex division", Comm. ACM 5 (1962).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import funtorch.numpy as fnp

__all__ = ["FORMULAS", "Pair", "both", "multiplied"]


@dataclass(frozen=True)
class Pair:
    """A complex array: two real ones of one type."""

    re: Any
    im: Any


def both(f: Callable[..., Any]) -> Callable[..., Pair]:
    """Return the complex function that does ``f`` to both parts."""
    return lambda *zs: Pair(f(*(z.re for z in zs)), f(*(z.im for z in zs)))


def _chosen(where: Any, z: Pair, w: Pair) -> Pair:
    """Return ``z`` where a condition holds, else ``w``."""
    return Pair(fnp.where(where, z.re, w.re), fnp.where(where, z.im, w.im))


def _of_real(x: Any) -> Pair:
    return Pair(x, fnp.zeros_like(x))


def _one(x: Any) -> Pair:
    return Pair(fnp.ones_like(x), fnp.zeros_like(x))


def multiplied(z: Pair, w: Pair) -> Pair:
    """Return the product."""
    return Pair(z.re * w.re - z.im * w.im, z.re * w.im + z.im * w.re)


def _divided(z: Pair, w: Pair) -> Pair:
    """Divide by Smith's method: the ratio of the divisor's parts is at most 1."""
    flat = fnp.abs(w.re) >= fnp.abs(w.im)
    large, small = fnp.where(flat, w.re, w.im), fnp.where(flat, w.im, w.re)
    nothing = large == 0
    safe = fnp.where(nothing, 1, large)
    ratio = small / safe
    below = large + small * ratio
    first, second = fnp.where(flat, z.re, z.im), fnp.where(flat, z.im, z.re)
    re = (first + second * ratio) / below
    im = (second - first * ratio) / below
    # Of a zero divisor the parts are what is divided.
    re = fnp.where(nothing, z.re / large, re)
    return Pair(re, fnp.where(nothing, z.im / large, fnp.where(flat, im, -im)))


def _masked_mul(z: Pair, w: Pair) -> Pair:
    nothing = ((z.re == 0) & (z.im == 0)) | ((w.re == 0) & (w.im == 0))
    return _chosen(nothing, _of_real(fnp.zeros_like(z.re)), multiplied(z, w))


def _is_nan(z: Pair) -> Any:
    """Tell whether a part is nan."""
    return (z.re != z.re) | (z.im != z.im)


def _integer_pow(z: Pair, *, y: int) -> Pair:
    exponent, out = abs(y), None
    while exponent:
        if exponent & 1:
            out = z if out is None else multiplied(out, z)
        exponent >>= 1
        z = multiplied(z, z) if exponent else z
    if out is None:
        return _one(z.re)
    return _divided(_one(out.re), out) if y < 0 else out


def _extremum(less: bool) -> Callable[[Pair, Pair], Pair]:
    """Return NumPy's choice of one of two numbers in lexicographic order: the first that is nan."""

    def choose(z: Pair, w: Pair) -> Pair:
        a, b = (z, w) if less else (w, z)
        first = (a.re < b.re) | ((z.re == w.re) & (a.im < b.im)) | ((z.re == w.re) & (z.im == w.im))
        return _chosen(_is_nan(z) | (first & ~_is_nan(w)), z, w)

    return choose


# ------------------------------------------------------------------------------ powers
def _abs(z: Pair) -> Any:
    return fnp.hypot(z.re, z.im)


def _sign(z: Pair) -> Pair:
    size = _abs(z)
    zero = size == 0
    return both(lambda x: fnp.where(zero, x, x / fnp.where(zero, 1, size)))(z)


def _sqrt(z: Pair) -> Pair:
    """Return the root whose real part is not negative, by that of (abs(z) + abs(re)) / 2."""
    a, b = fnp.abs(z.re), fnp.abs(z.im)
    most = fnp.maximum(a, b)
    zero = most == 0
    scale = fnp.where(zero | (most == math.inf), 1, most)
    large, other = a / scale, b / scale
    t = fnp.sqrt((large + fnp.hypot(large, other)) / 2)
    root = fnp.sqrt(scale)
    half = other / fnp.where(zero, 1, 2 * t) * root
    t = t * root
    right = ~(z.re < 0)
    far = b == math.inf
    re = fnp.where(far, b, fnp.where(right, t, half))
    im = fnp.where(far, b, fnp.where(right, half, t))
    return Pair(re, fnp.copysign(im, z.im))


def _pow(z: Pair, w: Pair) -> Pair:
    """Return exp(w log(z)); 1 for w = 0."""
    none = (w.re == 0) & (w.im == 0)
    zero = (z.re == 0) & (z.im == 0)
    found = _exp(multiplied(w, _log(_chosen(zero, _one(z.re), z))))
    at_zero = fnp.where((w.re > 0) & (w.im == 0), fnp.zeros_like(z.re), math.nan)
    return _chosen(none, _one(z.re), _chosen(zero, Pair(at_zero, at_zero), found))


# ------------------------------------------------------------------------------ exponentials
def _times(factor: Any, y: Any) -> Any:
    """Return a product in which a zero ``y`` stays zero, whatever the factor is."""
    return fnp.where(y == 0, y, factor * y)


def _exp(z: Pair) -> Pair:
    """Return e**re (cos im + i sin im), e**re in two factors, so that it may overflow alone."""
    half = fnp.exp(z.re / 2)
    gone = z.re == -math.inf
    cos, sin = fnp.cos(z.im), fnp.sin(z.im)
    zero = fnp.zeros_like(z.re)
    re = fnp.where(gone, zero, half * cos * half)
    return Pair(re, fnp.where(gone, zero, _times(half, _times(half, sin))))


def _expm1(z: Pair) -> Pair:
    """Return e**z - 1: the real part is (e**x - 1) cos y - 2 sin(y / 2)**2."""
    sin = fnp.sin(z.im / 2)
    re = fnp.expm1(z.re) * fnp.cos(z.im) - 2 * sin * sin
    return Pair(re, fnp.exp(z.re) * fnp.sin(z.im))


def _log(z: Pair) -> Pair:
    """Return log abs(z) + i arg(z); near the unit circle from (a - 1) (a + 1) + b**2."""
    a, b = fnp.abs(z.re), fnp.abs(z.im)
    large, small = fnp.maximum(a, b), fnp.minimum(a, b)
    near = (large > 0.5) & (large < 2)
    excess = fnp.where(near, (large - 1) * (large + 1) + small * small, 0)
    ratio = small / fnp.where((large == 0) | (large == math.inf), 1, large)
    far = fnp.log(large) + fnp.log1p(fnp.where(large == math.inf, 0, ratio * ratio)) / 2
    return Pair(fnp.where(near, fnp.log1p(excess) / 2, far), fnp.arctan2(z.im, z.re))


def _log1p(z: Pair) -> Pair:
    """Return log(1 + z), for small z from abs(1 + z)**2 - 1 = x (2 + x) + y**2."""
    found = _log(Pair(z.re + 1, z.im))
    small = fnp.maximum(fnp.abs(z.re), fnp.abs(z.im)) < 0.5
    near = fnp.log1p(fnp.where(small, z.re * (z.re + 2) + z.im * z.im, 0)) / 2
    return Pair(fnp.where(small, near, found.re), found.im)


def _logistic(z: Pair) -> Pair:
    e = _exp(Pair(-z.re, -z.im))
    return _divided(_one(e.re), Pair(e.re + 1, e.im))


def _scaled(f: Callable[[Pair], Pair], before: float, after: float) -> Callable[[Pair], Pair]:
    """Return ``after * f(before * z)``."""

    def run(z: Pair) -> Pair:
        found = f(Pair(z.re * before, z.im * before))
        return Pair(found.re * after, found.im * after)

    return run


# ------------------------------------------------------------------------------ circles
def _sinh(z: Pair) -> Pair:
    sin, cos = fnp.sin(z.im), fnp.cos(z.im)
    return Pair(_times(cos, fnp.sinh(z.re)), _times(fnp.cosh(z.re), sin))


def _cosh(z: Pair) -> Pair:
    sin, cos = fnp.sin(z.im), fnp.cos(z.im)
    return Pair(fnp.cosh(z.re) * cos, _times(fnp.sinh(z.re), sin))


def _tanh(z: Pair) -> Pair:
    """Return (s c b + i t) / (1 + b s**2): s = sinh x, c = cosh x, t = tan y, b = 1 + t**2.

    Far out, it is (sign(x), 4 sin y cos y e**(-2 abs x)).
    """
    limit = 11.0 if z.re.dtype == "float32" else 22.0
    size = fnp.abs(z.re)
    x = fnp.clip(z.re, -limit, limit)
    t = fnp.tan(z.im)
    b = t * t + 1
    s = fnp.sinh(x)
    c = fnp.sqrt(s * s + 1)
    below = 1 / (b * s * s + 1)
    rest = fnp.sin(z.im) * fnp.cos(z.im) * 4 * fnp.exp(size * -2)
    far = size >= limit
    re = fnp.where(far, fnp.ones_like(s), fnp.abs(b * c * s * below))
    return Pair(fnp.copysign(re, z.re), fnp.where(far, rest, t * below))


def _turned(f: Callable[[Pair], Pair]) -> Callable[[Pair], Pair]:
    """Return ``-i f(i z)``."""

    def run(z: Pair) -> Pair:
        found = f(Pair(-z.im, z.re))
        return Pair(found.im, -found.re)

    return run


def _roots(z: Pair) -> tuple[Pair, Pair]:
    """Return sqrt(1 - z) and sqrt(1 + z)."""
    return _sqrt(Pair(1 - z.re, -z.im)), _sqrt(Pair(1 + z.re, z.im))


def _asin(z: Pair) -> Pair:
    less, more = _roots(z)
    re = fnp.arctan2(z.re, less.re * more.re - less.im * more.im)
    return Pair(re, fnp.arcsinh(less.re * more.im - less.im * more.re))


def _acos(z: Pair) -> Pair:
    less, more = _roots(z)
    re = 2 * fnp.arctan2(less.re, more.re)
    return Pair(re, fnp.arcsinh(more.re * less.im - more.im * less.re))


def _acosh(z: Pair) -> Pair:
    less, more = _sqrt(Pair(z.re - 1, z.im)), _sqrt(Pair(z.re + 1, z.im))
    re = fnp.arcsinh(less.re * more.re + less.im * more.im)
    return Pair(re, 2 * fnp.arctan2(less.im, more.re))


def _atanh(z: Pair) -> Pair:
    """Near 1, squares of small parts vanish; far out, those of large ones overflow."""
    x, y = fnp.abs(z.re), fnp.abs(z.im)
    gap = 1 - x
    pole = (gap == 0) & (y < 1e-9)
    far = fnp.maximum(x, y) > 1e9
    distance = fnp.where(pole | far, 1, gap * gap + y * y)
    size = fnp.log1p(4 * fnp.where(far, 0, x) / distance) / 4
    size = fnp.where(pole, (math.log(2) - fnp.log(fnp.where(pole, y, 1))) / 2, size)
    distant = _divided(_one(x), Pair(x, y)).re
    size = fnp.where(far, distant, size)
    angle = fnp.arctan2(2 * y, fnp.where(far, -1, gap * (1 + x) - y * y)) / 2
    angle = fnp.where(far, math.pi / 2, angle)
    return Pair(fnp.copysign(size, z.re), fnp.copysign(angle, z.im))


FORMULAS: dict[str, Callable[..., Any]] = {
    "mul": multiplied, "div": _divided, "masked_mul": _masked_mul,
    "square": lambda z: multiplied(z, z), "reciprocal": lambda z: _divided(_one(z.re), z),
    "integer_pow": _integer_pow, "abs": _abs, "sign": _sign, "sqrt": _sqrt, "pow": _pow,
    "rsqrt": lambda z: _divided(_one(z.re), _sqrt(z)),
    "real": lambda z: z.re, "imag": lambda z: z.im, "conj": lambda z: Pair(z.re, -z.im),
    "complex": Pair,
    "exp": _exp, "expm1": _expm1, "exp2": _scaled(_exp, math.log(2), 1),
    "log": _log, "log1p": _log1p, "log2": _scaled(_log, 1, 1 / math.log(2)),
    "log10": _scaled(_log, 1, 1 / math.log(10)), "logistic": _logistic,
    "sin": _turned(_sinh), "cos": lambda z: _cosh(Pair(-z.im, z.re)), "tan": _turned(_tanh),
    "sinh": _sinh, "cosh": _cosh, "tanh": _tanh,
    "asin": _asin, "acos": _acos, "atan": _turned(_atanh), "asinh": _turned(_asin),
    "acosh": _acosh, "atanh": _atanh,
    "eq": lambda z, w: (z.re == w.re) & (z.im == w.im),
    "ne": lambda z, w: (z.re != w.re) | (z.im != w.im),
    "max": _extremum(False), "min": _extremum(True),
    "is_finite": lambda z: fnp.isfinite(z.re) & fnp.isfinite(z.im),
}  # fmt: skip
"""By primitive: of pairs, or of arrays where its operands are real."""
