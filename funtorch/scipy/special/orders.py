"""Bessel functions of fixed and of half orders, and Airy functions, under SciPy's names.

References:
    scipy.special, https://docs.scipy.org/doc/scipy/reference/special.html
    NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov: 9.4, 9.6 (Airy),
    10.9.1 (integrals of J), 10.47, 10.51 (spherical Bessel functions).
    L. N. Trefethen, J. A. C. Weideman, "The exponentially convergent trapezoidal rule", SIAM Review
    56 (2014).
"""

from __future__ import annotations

import math
from typing import Any

import funtorch.numpy as fnp
from funtorch.core import Array
from funtorch.scipy.special import bessel
from funtorch.scipy.special.arithmetic import poly
from funtorch.scipy.special.functions import function_row, real_arguments
from funtorch.transforms.numeric import Maths, numeric

__all__ = [
    "airy", "j0", "j1", "jn", "jve", "k0", "k0e", "k1", "k1e", "kn", "spherical_in",
    "spherical_jn", "spherical_kn", "spherical_yn", "y0", "y1", "yn", "yve",
]  # fmt: skip

_FAR = 25.0
_ANGLES = [math.pi * (k + 0.5) / 48 for k in range(24)]  # enough up to x = 25


# --------------------------------------------------------------------------------- orders 0 and 1
def _first_kind(m: Maths, order: float, x: Any) -> Any:
    """Return J_0(x) or J_1(x) for finite x."""
    size = m.abs(x)
    near = size <= _FAR
    y, total = m.where(near, x, 1.0), 0.0 * x
    for t in _ANGLES:
        s = math.sin(t)
        total = total + (s * m.sin(y * s) if order else m.cos(y * s))
    far = bessel.hankel(m, order + 0.0 * x, m.where(near, 60.0, size))[0]
    far = m.where(x < 0, -far, far) if order else far
    return m.where(near, total * (1 / 24), far)


def _of_finite(m: Maths, order: float, x: Any) -> Any:
    finite = m.abs(x) < math.inf
    out = _first_kind(m, order, m.where(finite, x, 1.0))
    return m.where(finite, out, m.where(x == x, 0.0, math.nan))


@numeric(x=lambda x: -_j1(x))
def _j0(m: Maths, x: Any) -> Any:
    return _of_finite(m, 0.0, x)


@numeric(x=lambda x: (_j0(x) - bessel.jv(fnp.full_like(x, 2), x)) / 2)
def _j1(m: Maths, x: Any) -> Any:
    return _of_finite(m, 1.0, x)


def _of_order(function: Any, order: float) -> Any:
    return lambda x: function(fnp.full_like(x, order), x)


j0 = function_row(
    "j0",
    _j0,
    "x",
    "Return the Bessel function of the first kind of order 0.",
    "float(j0(0.0)) -> 1.0",
)
j1 = function_row(
    "j1",
    _j1,
    "x",
    "Return the Bessel function of the first kind of order 1.",
    "round(float(j1(1.0)), 5) -> 0.44005",
)
y0 = function_row(
    "y0",
    _of_order(bessel.yv, 0.0),
    "x",
    "Return the Bessel function of the second kind of order 0.",
    "round(float(y0(1.0)), 5) -> 0.08826",
)
y1 = function_row(
    "y1",
    _of_order(bessel.yv, 1.0),
    "x",
    "Return the Bessel function of the second kind of order 1.",
    "round(float(y1(1.0)), 5) -> -0.78121",
)
k0 = function_row(
    "k0",
    _of_order(bessel.kv, 0.0),
    "x",
    "Return the modified Bessel function of the second kind of order 0.",
    "round(float(k0(1.0)), 5) -> 0.42102",
)
k1 = function_row(
    "k1",
    _of_order(bessel.kv, 1.0),
    "x",
    "Return the modified Bessel function of the second kind of order 1.",
    "round(float(k1(1.0)), 5) -> 0.60191",
)
k0e = function_row(
    "k0e",
    _of_order(bessel.kve, 0.0),
    "x",
    "Return exp(x) k0(x).",
    "round(float(k0e(1.0)), 5) -> 1.14446",
)
k1e = function_row(
    "k1e",
    _of_order(bessel.kve, 1.0),
    "x",
    "Return exp(x) k1(x).",
    "round(float(k1e(1.0)), 5) -> 1.63615",
)

# ------------------------------------------------------------------------------ whole, real orders
jn = function_row(
    "jn",
    bessel.jv,
    "n x",
    "Return the Bessel function of the first kind of order n: another name of `jv`.",
    "round(float(jn(2, 1.0)), 5) -> 0.1149",
)
yn = function_row(
    "yn",
    bessel.yv,
    "n x",
    "Return the Bessel function of the second kind of whole order n.",
    "round(float(yn(2, 1.0)), 5) -> -1.65068",
)
kn = function_row(
    "kn",
    bessel.kv,
    "n x",
    "Return the modified Bessel function of the second kind of whole order n.",
    "round(float(kn(2, 1.0)), 5) -> 1.62484",
)
jve = function_row(
    "jve",
    bessel.jv,
    "v z",
    "Return ``jv(v, z) exp(-|z.imag|)``, which is jv for real z.",
    "round(float(jve(0.5, 1.0)), 5) -> 0.6714",
)
yve = function_row(
    "yve",
    bessel.yv,
    "v z",
    "Return ``yv(v, z) exp(-|z.imag|)``, which is yv for real z.",
    "round(float(yve(0.5, 1.0)), 5) -> -0.4311",
)


# --------------------------------------------------------------------------------------- spherical
def _spherical(
    name: str, function: Any, at_zero: tuple[float, float], signs: tuple[int, int], text: str
) -> Any:
    """Make a spherical Bessel function.

    Args:
        function: the Bessel function of real order.
        at_zero: values at 0 for order 0, and for higher orders.
        signs: of f_(n - 1) in f_n', and of f_1 in f_0'.
    """
    first_kind = at_zero[0] == 1  # those are even or odd, and finite at 0

    def value(n: Any, z: Any) -> Any:
        zero = z == 0
        y = fnp.where(zero, 1, z)
        size = fnp.abs(y) if first_kind else y
        out = fnp.sqrt(math.pi / 2 / size) * function(n + 0.5, size)
        out = fnp.where((y < 0) & (n % 2 == 1), -out, out)
        ends = fnp.where(n == 0, *at_zero)
        return fnp.where(zero, ends + fnp.where(n == 1, z / 3, 0) if first_kind else ends, out)

    def spherical(n: Any, z: Any, derivative: bool = False) -> Array:
        n, z = real_arguments(f"spherical_{name}", n=n, z=z)
        if not derivative:
            return value(n, z)
        lower = fnp.where(n == 0, signs[1] * value(n + 1, z), signs[0] * value(abs(n - 1), z))
        rest = fnp.where(n == 0, 0, (n + 1) / fnp.where(z == 0, 1, z) * value(n, z))
        ends = fnp.where(n == 1, 1 / 3, 0) if first_kind else -at_zero[0]
        return fnp.where(z == 0, ends, lower - rest)

    spherical.__name__ = spherical.__qualname__ = f"spherical_{name}"
    spherical.__doc__ = f"""Return the {text}.

    Args:
        n: orders, whole numbers from 0 on.
        z: real numbers.
        derivative: return the derivative in z instead.

    Returns:
        Floats of the shape that n and z broadcast to.

    References:
        scipy.special.spherical_{name}
    """
    return spherical


spherical_jn = _spherical(
    "jn", bessel.jv, (1, 0), (1, -1), "spherical Bessel function of the first kind"
)
spherical_yn = _spherical(
    "yn", bessel.yv, (-math.inf, -math.inf), (1, -1), "spherical Bessel function of the second kind"
)
spherical_in = _spherical(
    "in", bessel.iv, (1, 0), (1, 1), "modified spherical Bessel function of the first kind"
)
spherical_kn = _spherical(
    "kn", bessel.kv, (math.inf, math.inf), (-1, -1),
    "modified spherical Bessel function of the second kind",
)  # fmt: skip


# -------------------------------------------------------------------------------------------- Airy
_AI, _AI_SLOPE = 0.355028053887817239, -0.258819403792806798  # at 0
_SERIES = 14


def _maclaurin() -> tuple[list[float], list[float]]:
    """Return the coefficients in x**3 of f and g / x, which solve y'' = x y, f(0) = g'(0) = 1."""
    f, g = [1.0], [1.0]
    for k in range(1, _SERIES):
        f.append(f[-1] / ((3 * k - 1) * (3 * k)))
        g.append(g[-1] / ((3 * k) * (3 * k + 1)))
    return f[::-1], g[::-1]


_F, _G = _maclaurin()
_F_SLOPE = [c * 3 * (_SERIES - 1 - k) for k, c in enumerate(_F)]  # of x f'
_G_SLOPE = [c * (3 * (_SERIES - 1 - k) + 1) for k, c in enumerate(_G)]


def _parts(m: Maths, x: Any) -> tuple[Any, Any, Any]:
    """Return where the series is used, |x| elsewhere, and 2/3 |x|**1.5."""
    near = m.abs(x) < 1.0
    z = m.where(near | ~(m.abs(x) < math.inf), 4.0, m.abs(x))
    return near, z, 2 / 3 * z * m.sqrt(z)


def _ends(m: Maths, x: Any, out: Any, high: float) -> Any:
    ends = m.where(x == math.inf, high, m.where(x == -math.inf, 0.0, math.nan))
    return m.where(m.abs(x) < math.inf, out, ends)


def _airy(m: Maths, x: Any, second: bool) -> Any:
    """Return Ai(x) or Bi(x)."""
    near, z, arc = _parts(m, x)
    y = m.where(near, x, 0.0)
    f, g = poly(_F, y * y * y), y * poly(_G, y * y * y)
    third = 1 / 3 + 0.0 * x
    j, other = bessel.j_and_y(m, third, arc)
    minus = 0.5 * j - math.sqrt(0.75) * other  # J of order -1/3
    if second:
        series = math.sqrt(3) * (_AI * f - _AI_SLOPE * g)
        up = bessel.iv.formula(m, third, arc) + bessel.iv.formula(m, -third, arc)
        right, left = m.sqrt(z / 3) * up, m.sqrt(z / 3) * (minus - j)
    else:
        series = _AI * f + _AI_SLOPE * g
        right = m.sqrt(z / 3) / math.pi * bessel.kv.formula(m, third, arc)
        left = m.sqrt(z) / 3 * (j + minus)
    out = m.where(near, series, m.where(x > 0, right, left))
    return _ends(m, x, out, math.inf if second else 0.0)


def _airy_slope(m: Maths, x: Any, second: bool) -> Any:
    """Return Ai'(x) or Bi'(x)."""
    near, z, arc = _parts(m, x)
    y = m.where(near, x, 0.0)
    f, g = y * y * poly(_F_SLOPE[:-1], y * y * y), poly(_G_SLOPE, y * y * y)
    two = 2 / 3 + 0.0 * x
    j, other = bessel.j_and_y(m, two, arc)
    minus = -0.5 * j - math.sqrt(0.75) * other
    if second:
        series = math.sqrt(3) * (_AI * f - _AI_SLOPE * g)
        up = bessel.iv.formula(m, two, arc) + bessel.iv.formula(m, -two, arc)
        right, left = z / math.sqrt(3) * up, z / math.sqrt(3) * (minus + j)
    else:
        series = _AI * f + _AI_SLOPE * g
        right = -z / (math.pi * math.sqrt(3)) * bessel.kv.formula(m, two, arc)
        left = z / 3 * (j - minus)
    out = m.where(near, series, m.where(x > 0, right, left))
    return _ends(m, x, out, math.inf if second else 0.0)


@numeric(x=lambda x: _aip(x))
def _ai(m: Maths, x: Any) -> Any:
    return _airy(m, x, False)


@numeric(x=lambda x: x * _ai(x))
def _aip(m: Maths, x: Any) -> Any:
    return _airy_slope(m, x, False)


@numeric(x=lambda x: _bip(x))
def _bi(m: Maths, x: Any) -> Any:
    return _airy(m, x, True)


@numeric(x=lambda x: x * _bi(x))
def _bip(m: Maths, x: Any) -> Any:
    return _airy_slope(m, x, True)


def airy(z: Any) -> tuple[Array, Array, Array, Array]:
    """Return the Airy functions and their derivatives.

    Args:
        z: real numbers.

    Returns:
        ``(Ai(z), Ai'(z), Bi(z), Bi'(z))``, each of the shape of z.

    Raises:
        TypeError: z is complex.

    Example:
        >>> round(float(airy(0.0)[0]), 5)
        0.35503

    References:
        scipy.special.airy
    """
    (x,) = real_arguments("airy", z=z)
    return _ai(x), _aip(x), _bi(x), _bip(x)
