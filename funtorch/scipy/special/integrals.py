"""Formulas of integrals: exponential, sine, Fresnel, Dawson, Owen, the dilogarithm; erfcx, wofz.

References:
    NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov: 6.6 and 6.9 (exponential
    integrals: series, fractions), 8.19.12 and 8.19.17 (E_n), 7.5 (error functions), 25.12
    (dilogarithm).
    M. Abramowitz, I. A. Stegun, "Handbook of Mathematical Functions" (1964): 26.2.23 (quantiles of
    the normal distribution, to three digits).
    G. B. Rybicki, "Dawson's integral and the sampling theorem", Computers in Physics 3 (1989).
    M. Al Azah, S. N. Chandler-Wilde, "Computation of the complex error function using modified
    trapezoidal rules", SIAM Journal on Numerical Analysis 59 (2021).
    D. B. Owen, "Tables for computing bivariate normal probabilities", Annals of Mathematical
    Statistics 27 (1956).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch.ops import special
from funtorch.ops.elementwise import erf
from funtorch.scipy.special.arithmetic import poly
from funtorch.scipy.special.gammas import SMALL, fraction
from funtorch.transforms.numeric import Maths, numeric

__all__ = [
    "cosine_integral",
    "dawsn",
    "erfcx",
    "exp1",
    "expi",
    "expn",
    "fresnel_cosine",
    "fresnel_sine",
    "log_ndtr",
    "ndtri",
    "owens_t",
    "sine_integral",
    "spence",
]

_EULER = 0.57721566490153286061
_ROOT_PI = math.sqrt(math.pi)


# ------------------------------------------------------------------------------------- exponential
def _exponential_sum(m: Maths, used: Any, x: Any) -> Any:
    """Return the sum of ``x**k / (k k!)`` over k >= 1 where it is used."""

    def going(power: Any, total: Any, x: Any) -> Any:
        return m.abs(power) > SMALL * m.abs(total)

    def step(k: Any, power: Any, total: Any, x: Any) -> Any:
        power = power * x / (k + 1.0)
        return power, total + power / (k + 1.0)

    first = m.where(used, x, 0.0)
    return m.loop(going, step, (first, first), (x,))[1]


def _exponential_fraction(m: Maths, used: Any, n: Any, x: Any) -> Any:
    """Return ``exp(x) E_n(x)`` where it is used."""

    def coefficients(k: Any, n: Any, x: Any) -> tuple[Any, Any]:
        return -k * (n + k - 1.0), x + n + 2.0 * k

    return fraction(m, used, x + n, coefficients, (n, x))


def _exp1(m: Maths, used: Any, x: Any) -> Any:
    near = x <= 1.0
    y = m.where(used & near, x, 1.0)
    small = -_EULER - m.log(y) - _exponential_sum(m, used & near, -y)
    y = m.where(used & ~near, x, 2.0)
    return m.where(
        near, small, m.exp(-y) * _exponential_fraction(m, used & ~near, 1.0 + 0.0 * y, y)
    )


@numeric(x=lambda x: -fnp.exp(-x) / x)
def exp1(m: Maths, x: Any) -> Any:
    """Return E_1(x), the integral of ``exp(-t) / t`` from x on."""
    inside = (x > 0) & (x < math.inf)
    ends = m.where(x == 0, math.inf, m.where(x == math.inf, 0.0, math.nan))
    return m.where(inside, _exp1(m, inside, x), ends)


@numeric(x=lambda x: fnp.exp(x) / x)
def expi(m: Maths, x: Any) -> Any:
    """Return Ei(x), minus the integral of ``exp(-t) / t`` from -x on."""
    inside = (x != 0) & (m.abs(x) < math.inf)
    negative, y = x < 0, m.where(inside, m.abs(x), 1.0)
    near = y <= 40.0
    z = m.where(near, y, 1.0)
    # Around its zero, the function is that zero's distance times a slope.
    series = _EULER + m.log(z) + _exponential_sum(m, inside & near & ~negative, z)
    w = 1.0 / m.where(near, 50.0, y)
    far = (
        m.exp(m.where(near, 1.0, y))
        * w
        * poly([float(math.factorial(k)) for k in range(41)][::-1], w)
    )
    positive = m.where(near, series, far)
    out = m.where(negative, -_exp1(m, inside & negative, y), positive)
    ends = m.where(x == 0, -math.inf, m.where(x == math.inf, math.inf, 0.0))
    return m.where(inside, out, m.where(x == x, ends, math.nan))


@numeric(x=lambda n, x: -expn(n - 1, x))
def expn(m: Maths, n: Any, x: Any) -> Any:
    """Return E_n(x), the integral of ``exp(-x t) / t**n`` from 1 on, for whole n."""
    inside = (n >= 0) & (x > 0) & (x < math.inf) & (n == m.floor(n)) & (n < math.inf)
    order, y = m.where(inside, n, 1.0), m.where(inside, x, 1.0)
    near = (y <= 1.0) & (order >= 1) & (order <= 50)
    z = m.where(near, y, 1.0)
    e = m.exp(-z)

    def going(value: Any, at: Any, order: Any, z: Any, e: Any) -> Any:
        return at < order

    def step(k: Any, value: Any, at: Any, order: Any, z: Any, e: Any) -> Any:
        return (e - z * value) / at, at + 1.0

    start = _exp1(m, inside & near, z)
    small = m.loop(going, step, (start, 1.0), (m.where(near, order, 0.0), z, e))[0]
    fractional = inside & ~near & (order > 0)
    w = m.where(fractional, y, 2.0)
    n_far = m.where(fractional, order, 1.0)
    far = m.exp(-w) * _exponential_fraction(m, fractional, n_far, w)
    out = m.where(order == 0, m.exp(-y) / y, m.where(near, small, far))
    at_zero = m.where(n > 1, 1.0 / (m.where(n > 1, n, 2.0) - 1.0), math.inf)
    ends = m.where((x == 0) & (n >= 0), at_zero, m.where((x == math.inf) & (n >= 0), 0.0, math.nan))
    # The derivative of E_0 wants E_-1.
    minus = m.exp(-m.where(n == -1, x, 1.0)) * (1.0 + x) / (x * x)
    return m.where(inside, out, m.where((n == -1) & (x > 0), minus, ends))


# ------------------------------------------------------------------------------------ sine, cosine
def _trigonometric_sums(m: Maths, used: Any, x: Any) -> tuple[Any, Any]:
    """Return Si(x) and Ci(x) - log(x) - Euler's constant for small x."""

    def going(power: Any, si: Any, ci: Any, x: Any) -> Any:
        return m.abs(power) > SMALL

    def step(k: Any, power: Any, si: Any, ci: Any, x: Any) -> Any:
        cosine = -power * x / (2.0 * k)
        sine = cosine * x / (2.0 * k + 1.0)
        return sine, si + sine / (2.0 * k + 1.0), ci + cosine / (2.0 * k)

    first = m.where(used, x, 0.0)
    _, si, ci = m.loop(going, step, (first, first, 0.0), (x,))
    return si, ci


def _auxiliary(m: Maths, used: Any, x: Any) -> tuple[Any, Any]:
    """Return g and f with ``exp(i x) E_1(i x) = g - i f``, by the fraction of E_1."""

    def going(cr: Any, ci: Any, dr: Any, di: Any, hr: Any, hi: Any, left: Any, x: Any) -> Any:
        return left > 0

    def step(
        k: Any, cr: Any, ci: Any, dr: Any, di: Any, hr: Any, hi: Any, left: Any, x: Any
    ) -> Any:
        a, b = -k * k, 2.0 * k + 1.0
        er, ei = b + a * dr, x + a * di
        size = er * er + ei * ei
        dr, di = er / size, -ei / size
        size = cr * cr + ci * ci
        cr, ci = b + a * cr / size, x - a * ci / size
        fr, fi = cr * dr - ci * di, cr * di + ci * dr
        ended = m.abs(fr - 1.0) + m.abs(fi) <= 2.4e-16
        return cr, ci, dr, di, hr * fr - hi * fi, hr * fi + hi * fr, m.where(ended, 0.0, left - 1.0)

    size = 1.0 + x * x
    left = m.where(used, 500.0, 0.0) + 0.0 * x
    state = (1e150, 0.0, 1.0 / size, -x / size, 1.0 / size, -x / size, left)
    found = m.loop(going, step, state, (x,))
    return found[4], -found[5]


def _sine_and_cosine(m: Maths, x: Any) -> tuple[Any, Any]:
    """Return Si(x) and Ci(x) for x > 0."""
    finite = (x > 0) & (x < math.inf)
    near = finite & (x <= 4.0)
    y = m.where(near, x, 1.0)
    si, ci = _trigonometric_sums(m, near, y)
    ci = ci + m.log(y) + _EULER
    z = m.where(finite & ~near, x, 8.0)
    g, f = _auxiliary(m, finite & ~near, z)
    far_si = 0.5 * math.pi - f * m.cos(z) - g * m.sin(z)
    far_ci = f * m.sin(z) - g * m.cos(z)
    si = m.where(near, si, m.where(x == math.inf, 0.5 * math.pi, far_si))
    ci = m.where(near, ci, m.where(x == math.inf, 0.0, far_ci))
    return m.where(x == 0, 0.0, si), m.where(x == 0, -math.inf, ci)


@numeric()
def sine_quotient(m: Maths, x: Any) -> Any:
    """Return ``sin(x) / x``, 1 at 0."""
    near = m.abs(x) < 1.0
    y = m.where(near, x, 0.0)
    terms = [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(11)]
    return m.where(near, poly(terms[::-1], y * y), m.sin(x) / m.where(near, 1.0, x))


@numeric(x=lambda x: sine_quotient(x))
def sine_integral(m: Maths, x: Any) -> Any:
    """Return Si(x), the integral of ``sin(t) / t`` from 0 to x."""
    si = _sine_and_cosine(m, m.abs(x))[0]
    return m.where(x == x, m.where(x < 0, -si, m.where(x == 0, x, si)), math.nan)


@numeric(x=lambda x: fnp.cos(x) / x)
def cosine_integral(m: Maths, x: Any) -> Any:
    """Return Ci(x), for x < 0 nan."""
    return m.where(x >= 0, _sine_and_cosine(m, m.abs(x))[1], math.nan)


# --------------------------------------------------------------------------------- error functions
def _erfc_scaled(m: Maths, y: Any) -> Any:
    """Return ``exp(y**2) erfc(y)`` for y >= 0.46875."""
    mid, far = m.minimum(m.maximum(y, 0.4), 4.0), m.maximum(y, 4.0)
    inverse = 1.0 / (far * far)
    tail = inverse * poly(special.FAR_NUM, inverse) / poly(special.FAR_DEN, inverse)
    middle = poly(special.MID_NUM, mid) / poly(special.MID_DEN, mid)
    return m.where(y <= 4.0, middle, (1 / _ROOT_PI - tail) / far)


@numeric()
def erfcx(m: Maths, x: Any) -> Any:
    """Return ``exp(x**2) erfc(x)``."""
    y = m.abs(x)
    near = m.minimum(y, 0.5)
    square = near * near
    small = x * (poly(special.ERF_NUM, square) / poly(special.ERF_DEN, square))
    tail = _erfc_scaled(m, y)
    # exp(x**2) from a square split in two parts, the first of which is exact.
    z = m.minimum(y, 30.0)
    coarse = m.floor(z * 16.0) * (1 / 16)
    growth = m.exp(coarse * coarse) * m.exp((z - coarse) * (z + coarse))
    out = m.where(x < 0, 2.0 * growth - tail, tail)
    out = m.where(y <= 0.46875, (1.0 - small) * m.exp(square), out)
    return m.where(x == x, out, math.nan)


def _slope_of_log_ndtr(x: Any) -> Any:
    return fnp.exp(-0.5 * x * x - log_ndtr(x)) / math.sqrt(2 * math.pi)


@numeric(x=_slope_of_log_ndtr)
def log_ndtr(m: Maths, x: Any) -> Any:
    """Return the logarithm of the normal distribution function, exact in both tails."""
    left = x < 0
    y = m.where(left & (x > -math.inf), x, -1.0)
    tail = m.log(erfcx.formula(m, y * -math.sqrt(0.5))) - math.log(2) - 0.5 * y * y
    body = m.log1p(-0.5 * m.erfc(m.where(left, 0.0, x) * math.sqrt(0.5)))
    return m.where(x == -math.inf, -math.inf, m.where(left, tail, body))


@numeric(p=lambda p: math.sqrt(2 * math.pi) * fnp.exp(0.5 * ndtri(p) ** 2))
def ndtri(m: Maths, p: Any) -> Any:
    """Return the quantile of the normal distribution, exact in the tails."""
    inside = (p > 0) & (p < 1)
    low = p < 0.5
    tail = m.where(inside, m.where(low, p, 1.0 - p), 0.25)
    log_tail = m.log(tail)
    t = m.sqrt(-2.0 * log_tail)
    x = t - poly((0.010328, 0.802853, 2.515517), t) / poly((0.001308, 0.189269, 1.432788, 1.0), t)
    for _ in range(2):  # Halley's steps for the logarithm of the tail
        value = 0.5 * m.erfc(x * math.sqrt(0.5))
        ratio = m.exp(-0.5 * x * x) / (math.sqrt(2 * math.pi) * value)
        off = (m.log(value) - log_tail) / ratio
        x = x + off / (1.0 + 0.5 * off * (ratio - x))
    x = m.where(low, -x, x)
    off = 0.5 * m.erf(x * math.sqrt(0.5)) - (p - 0.5)  # Newton's step, to all digits near p = 0.5
    middle = m.abs(p - 0.5) < 0.2
    x = m.where(middle, x - off * math.sqrt(2 * math.pi) * m.exp(0.5 * x * x), x)
    ends = m.where(p == 0, -math.inf, m.where(p == 1, math.inf, math.nan))
    return m.where(inside, m.where(p == 0.5, 0.0, x), ends)


_STEP = 0.25


@numeric()
def dawsn(m: Maths, x: Any) -> Any:
    """Return Dawson's integral, ``exp(-x**2)`` times the integral of ``exp(t**2)`` from 0 to x."""
    y = m.abs(x)
    near = y < 0.5
    s = m.where(near, y, 0.0)
    coefficients, c = [], 1.0
    for k in range(16):
        coefficients.append(c)
        c *= -2.0 / (2 * k + 3)
    small = s * poly(coefficients[::-1], s * s)
    z = m.where(near, 1.0, m.minimum(y, 1e3))
    centre = 2.0 * m.rint(z * (0.5 / _STEP))
    off = z - centre * _STEP
    total: Any = 0.0
    for n in range(-25, 26, 2):
        distance = off - n * _STEP
        total = total + m.exp(-distance * distance) / (centre + float(n))
    far = 1.0 / m.maximum(y, 10.0)
    square = 0.5 * far * far
    factors = [float(math.prod(range(1, 2 * k, 2))) for k in range(9)]
    asymptotic = 0.5 * far * poly(factors[::-1], square)
    out = m.where(near, small, m.where(y > 50.0, asymptotic, total / _ROOT_PI))
    return m.where(x < 0, -out, m.where(x == x, out, math.nan))


_NODES = 11
_H = math.sqrt(math.pi / (_NODES + 1))


def wofz(z: Any) -> Any:
    """Return the Faddeeva function ``exp(-z**2) erfc(-i z)`` of complex numbers."""
    lower = z.imag < 0
    x, y = fnp.abs(z.real), fnp.abs(z.imag)
    w = x + 1j * y  # in the first quadrant
    phase = x / _H - fnp.floor(x / _H)
    high = y >= fnp.maximum(x, math.pi / _H)
    # The nodes that lie farther from x: whole or half multiples of the step.
    whole = ~high & (y < x) & (phase >= 0.25) & (phase <= 0.75)
    square, total = w * w, 0
    for k in range(_NODES + 1):
        node = (fnp.where(whole, 1.0, 0.5).astype(x.dtype) + k) * _H
        node = node * node
        total = total + fnp.exp(-node) / (square - node)
    total = 2j * _H / math.pi * w * total
    total = fnp.where(whole, total + 1j * _H / math.pi / fnp.where(whole, w, 1), total)
    turns = fnp.exp(-2j * math.pi / _H * fnp.where(high, 1, w))
    bottom = 1 + fnp.where(whole, -turns, turns)
    poles = 2 * fnp.exp(-fnp.where(high, 1, square)) / bottom
    out = fnp.where(high, total, total + poles)
    out = fnp.where(z.real < 0, fnp.conj(out), out)
    # w(z) = 2 exp(-z**2) - w(-z), and w(-conj(z)) = conj(w(z)).
    return fnp.where(lower, 2 * fnp.exp(-z * z) - fnp.conj(out), out)


# ----------------------------------------------------------------------------------------- Fresnel
def _fresnel_sums(m: Maths, used: Any, x: Any) -> tuple[Any, Any]:
    """Return S(x) and C(x) for small x."""
    t = 0.5 * math.pi * x * x

    def going(term: Any, s: Any, c: Any, t: Any) -> Any:
        return m.abs(term) > SMALL

    def step(k: Any, term: Any, s: Any, c: Any, t: Any) -> Any:
        n = 2.0 * k - 1.0
        odd = term * t / n
        even = -odd * t / (n + 1.0)
        return even, s + odd / (2.0 * n + 1.0), c + even / (2.0 * n + 3.0)

    first = m.where(used, x, 0.0)
    _, s, c = m.loop(going, step, (first, 0.0, first), (t,))
    return s, c


_FRESNEL_STEP = 0.2


def _fresnel_auxiliary(x: Any) -> tuple[Any, Any]:
    """Return f and g (DLMF 7.7.10-11) for x >= 1.6, by the trapezoidal rule."""
    scale = 1.0 / (0.5 * math.pi * x * x)
    f, g = 0.5, 0.0
    for k in range(1, 33):
        square = (k * _FRESNEL_STEP) ** 2
        s = square * scale
        term = math.exp(-square) / (1.0 + s * s)
        f, g = f + term, g + s * term
    front = 2 * _FRESNEL_STEP / math.pi**1.5 / x
    return front * f, front * g


def _fresnel(m: Maths, x: Any) -> tuple[Any, Any]:
    """Return S(x) and C(x) for x >= 0: far from 0, by the fraction of erfc."""
    near = x <= 1.6
    s, c = _fresnel_sums(m, near, m.where(near, x, 0.0))
    z = m.where(near | (x == math.inf), 2.0, x)
    f, g = _fresnel_auxiliary(z)
    # pi x**2 / 2 modulo whole turns, from x split in two parts whose square is exact.
    big = z * 134217729.0
    high = big - (big - z)
    low = z - high
    first, second = high * high, 2.0 * high * low + low * low
    first, second = first - 4.0 * m.rint(first * 0.25), second - 4.0 * m.rint(second * 0.25)
    angle = 0.5 * math.pi * (first + second)
    sine, cosine = m.sin(angle), m.cos(angle)
    far_s, far_c = 0.5 - f * cosine - g * sine, 0.5 + f * sine - g * cosine
    s = m.where(near, s, m.where(x == math.inf, 0.5, far_s))
    return s, m.where(near, c, m.where(x == math.inf, 0.5, far_c))


@numeric(x=lambda x: fnp.sin(math.pi / 2 * x * x))
def fresnel_sine(m: Maths, x: Any) -> Any:
    """Return S(x), the integral of ``sin(pi t**2 / 2)`` from 0 to x."""
    s = _fresnel(m, m.abs(x))[0]
    return m.where(x == x, m.where(x < 0, -s, s), math.nan)


@numeric(x=lambda x: fnp.cos(math.pi / 2 * x * x))
def fresnel_cosine(m: Maths, x: Any) -> Any:
    """Return C(x), the integral of ``cos(pi t**2 / 2)`` from 0 to x."""
    c = _fresnel(m, m.abs(x))[1]
    return m.where(x == x, m.where(x < 0, -c, c), math.nan)


# ---------------------------------------------------------------------------------------- Owen's T
@functools.cache
def _gauss() -> list[tuple[float, float]]:
    """Return the points and weights of Gauss' rule."""
    points, weights = np.polynomial.legendre.leggauss(36)
    return list(zip(points.tolist(), weights.tolist(), strict=True))


def _owen_inside(m: Maths, h: Any, a: Any) -> Any:
    """Return T(h, a) for 0 <= a <= 1 by Gauss' rule, where the integrand is not negligible."""
    top = m.minimum(a, 9.0 / m.maximum(h, 1e-300))
    half, square = 0.5 * top, 0.5 * h * h
    total: Any = 0.0
    for p, w in _gauss():
        x = half * (p + 1.0)
        grown = 1.0 + x * x
        total = total + w * m.exp(-square * x * x) / grown
    return total * half * m.exp(-square) * (0.5 / math.pi)


@numeric(
    h=lambda h, a: -fnp.exp(-h * h / 2) * erf(a * h * math.sqrt(0.5)) / (2 * _ROOT_PI * 2**0.5),
    a=lambda h, a: fnp.exp(-h * h * (1 + a * a) / 2) / (2 * math.pi * (1 + a * a)),
)
def owens_t(m: Maths, h: Any, a: Any) -> Any:
    """Return Owen's T function."""
    x, y = m.abs(h), m.abs(a)
    beyond = y > 1.0
    product = m.where(beyond, x * m.where(y == math.inf, 1.0, y), x)
    product = m.where(beyond & (y == math.inf) & (x > 0), math.inf, product)
    inner = m.where(beyond, 1.0 / m.where(beyond, y, 1.0), y)
    value = _owen_inside(m, m.minimum(m.where(beyond, product, x), 1e150), inner)
    # T(h, a) = (Q(h) + Q(ah)) / 2 - Q(h) Q(ah) - T(ah, 1 / a), Q being 1 - Phi.
    q, r = 0.5 * m.erfc(x * math.sqrt(0.5)), 0.5 * m.erfc(product * math.sqrt(0.5))
    out = m.where(beyond, 0.5 * (q + r) - q * r - value, value)
    out = m.where(a < 0, -out, out)
    return m.where((h == h) & (a == a), out, math.nan)


# ------------------------------------------------------------------------------------- dilogarithm
@numeric(x=lambda x: log_quotient(x))
def spence(m: Maths, x: Any) -> Any:
    """Return the dilogarithm of 1 - x: the integral of ``log(t) / (1 - t)`` from 1 to x."""
    inside = (x > 0) & (x < math.inf)
    y = m.where(inside, x, 1.0)
    large = y > 2.0
    y = m.where(large, 1.0 / y, y)  # spence(x) = -log(x)**2 / 2 - spence(1 / x)
    small = y < 0.5
    z = m.where(small, 1.0 - y, y)  # spence(x) = pi**2 / 6 - log(x) log(1 - x) - spence(1 - x)
    u = -m.log1p(z - 1.0)
    square = u * u
    terms = [b / math.factorial(2 * k + 3) for k, b in enumerate(special.BERNOULLI)]
    value = u - 0.25 * square + u * square * poly(terms[::-1], square)
    mirrored = math.pi**2 / 6 + m.log(m.where(small, y, 1.0)) * u - value
    value = m.where(small, mirrored, value)
    logarithm = m.log(m.where(large, x, 1.0))
    value = m.where(large, -0.5 * logarithm * logarithm - value, value)
    ends = m.where(x == 0, math.pi**2 / 6, m.where(x == math.inf, -math.inf, math.nan))
    return m.where(inside, value, ends)


@numeric()
def log_quotient(m: Maths, x: Any) -> Any:
    """Return ``log(x) / (1 - x)``, -1 at 1."""
    u = x - 1.0
    near = m.abs(u) < 0.2
    r = m.where(near, u, 0.0)
    r = r / (2.0 + r)
    series = poly([2 / (2 * k + 1) for k in range(12)][::-1], r * r)
    # log(x) = 2 atanh(r), and 1 - x = -2 r / (1 - r).
    close = -0.5 * (1.0 - r) * series
    return m.where(near, close, -m.log(x) / m.where(near, 1.0, u))
