"""Formulas of the Bessel functions, of real order and argument.

References:
    NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov: 10.6 and 10.29
    (recurrences), 10.17 and 10.40 (large arguments), 10.25.2 and 10.32 (I: series, integrals of I
    and K), 10.4 and 10.27 (negative orders).
    N. M. Temme, "On the numerical evaluation of the ordinary Bessel function of the second kind",
    Journal of Computational Physics 21 (1976): the series for small arguments.
    A. R. Barnett, D. H. Feng, J. W. Steed, L. J. B. Goldfarb, "Coulomb wave functions for all real
    eta and rho", Computer Physics Communications 8 (1974): the two fractions.
    L. N. Trefethen, J. A. C. Weideman, "The exponentially convergent trapezoidal rule", SIAM Review
    56 (2014).
"""

from __future__ import annotations

import math
from typing import Any

from funtorch.scipy.special.arithmetic import poly
from funtorch.scipy.special.gammas import SMALL
from funtorch.transforms.numeric import Maths, numeric

__all__ = [
    "hankel", "i0", "i0e", "i1", "i1e", "iv", "ive", "j_and_y", "jv", "kv", "kve", "yv",
]  # fmt: skip

_FAR = 30.0


# -------------------------------------------------------------------------------------- order 0, 1
_BOUND = 12.0  # up to which I_0(x) and I_1(x) are polynomials in x**2 / 4, beyond in 1 / x
# By order: I_order(x) / (x / 2)**order, and sqrt(2 pi x) exp(-x) I_order(x); lowest power first.
# Least squares at Chebyshev's nodes, weighted for relative errors, in 50-digit arithmetic.
_NEAR_TERMS = (
    (
        1.0,
        1.0,
        0.25,
        0.027777777777777794,
        0.00173611111111109,
        6.944444444445957e-05,
        1.929012345672135e-06,
        3.936759889353291e-08,
        6.151187322131168e-10,
        7.594058502520927e-12,
        7.594057540248262e-14,
        6.276089366274004e-16,
        4.358334525624961e-18,
        2.579220604232129e-20,
        1.3146066045343596e-22,
        5.883517068954095e-25,
        2.204539798826246e-27,
        9.176769220653219e-30,
        1.0923879593545764e-32,
        1.4917763418515463e-34,
    ),
    (
        1.0,
        0.5,
        0.08333333333333333,
        0.006944444444444447,
        0.0003472222222222202,
        1.1574074074075393e-05,
        2.75573192239306e-07,
        4.920949861585116e-09,
        6.834652582043148e-11,
        7.594058477609375e-13,
        6.903688918136869e-15,
        5.2300726437521826e-17,
        3.3525753936672817e-19,
        1.8422556966309032e-21,
        8.765497552673822e-24,
        3.673702354751414e-26,
        1.3028166242936108e-28,
        5.027768978565136e-31,
        6.248479688213217e-34,
        7.297062041117886e-36,
    ),
)
_FAR_TERMS = (
    (
        1.0,
        0.12500000000001052,
        0.07031249998561177,
        0.07324219524988752,
        0.11214991283294884,
        0.22748060599689796,
        0.530843178327986,
        4.947815394718437,
        -171.88042140643873,
        7200.986393916728,
        -213220.1624037181,
        4675286.577547332,
        -74657590.94874822,
        844980094.5600834,
        -6380696206.34091,
        27674339238.364635,
        -31150986017.683136,
        -251610286211.53778,
        837219592903.123,
    ),
    (
        1.0,
        -0.37500000000001094,
        -0.11718749998511352,
        -0.10253907049431712,
        -0.14419330770042127,
        -0.2779584469513477,
        -0.6340253634360115,
        -5.271953188461914,
        173.5506340310721,
        -7268.675754515214,
        213848.3421414414,
        -4652590.082658302,
        73468815.07224919,
        -816958203.2338476,
        5966597877.92769,
        -23651181593.82279,
        6124875901.878318,
        341983285500.88403,
        -981061660356.8645,
    ),
)


def _near(order: int, x: Any) -> Any:
    """Return ``I_order(x) / (x / 2)**order`` up to the bound."""
    return poly(_NEAR_TERMS[order][::-1], 0.25 * x * x)


def _far(m: Maths, order: int, x: Any) -> Any:
    """Return ``exp(-x) I_order(x)`` beyond the bound."""
    inverse = 1.0 / x
    return poly(_FAR_TERMS[order][::-1], inverse) * m.sqrt(inverse * (0.5 / math.pi))


def _sides(m: Maths, x: Any) -> tuple[Any, Any, Any]:
    """Return where x is near 0, and its size moved to either side of the bound."""
    y = m.abs(x)
    near = y <= _BOUND
    return near, m.where(near, y, 1.0), m.where(near, 60.0, y)


def _sign(m: Maths, x: Any) -> Any:
    return m.where(x > 0, 1.0, m.where(x < 0, -1.0, 0.0))


@numeric()
def i1e_over_x(m: Maths, x: Any) -> Any:
    """Return ``exp(-|x|) I_1(x) / x``."""
    near, y, w = _sides(m, x)
    return m.where(near, 0.5 * m.exp(-y) * _near(1, y), _far(m, 1, w) / w)


side = numeric(x=lambda x: 0 * x)(_sign)


@numeric(x=lambda x: i1e(x) - side(x) * i0e(x))
def i0e(m: Maths, x: Any) -> Any:
    """Return ``exp(-|x|) I_0(x)``."""
    near, y, w = _sides(m, x)
    out = m.where(near, m.exp(-y) * _near(0, y), _far(m, 0, w))
    return m.where(w == math.inf, 0.0, out)


@numeric(x=lambda x: i0e(x) - side(x) * i1e(x) - i1e_over_x(x))
def i1e(m: Maths, x: Any) -> Any:
    """Return ``exp(-|x|) I_1(x)``."""
    near, y, w = _sides(m, x)
    far = m.where(w == math.inf, 0.0, _sign(m, x) * _far(m, 1, w))
    return m.where(near, 0.5 * x * (m.exp(-y) * _near(1, y)), far)


@numeric()
def i1_over_x(m: Maths, x: Any) -> Any:
    """Return ``I_1(x) / x``."""
    near, y, w = _sides(m, x)
    return m.where(near, 0.5 * _near(1, y), m.exp(w) * _far(m, 1, w) / w)


@numeric(x=lambda x: i1(x))
def i0(m: Maths, x: Any) -> Any:
    """Return I_0(x)."""
    near, y, w = _sides(m, x)
    out = m.where(near, _near(0, y), m.exp(w) * _far(m, 0, w))
    return m.where(w == math.inf, math.inf, out)


@numeric(x=lambda x: i0(x) - i1_over_x(x))
def i1(m: Maths, x: Any) -> Any:
    """Return I_1(x)."""
    near, y, w = _sides(m, x)
    far = m.where(w == math.inf, x, _sign(m, x) * (m.exp(w) * _far(m, 1, w)))
    return m.where(near, 0.5 * x * _near(1, y), far)


# ----------------------------------------------------------------------------------------- I and K
def _sin_pi(m: Maths, v: Any) -> Any:
    """Return sin(pi v), 0 at whole numbers."""
    whole = m.rint(v)
    odd = 2.0 * m.floor(0.5 * whole) != whole
    return m.where(odd, -1.0, 1.0) * m.sin(math.pi * (v - whole))


def _cos_pi(m: Maths, v: Any) -> Any:
    return _sin_pi(m, v + 0.5)


def _asinh(m: Maths, x: Any) -> Any:
    large = x > 1e8
    y = m.where(large, 1.0, x)
    return m.where(
        large, m.log(m.where(large, x, 1.0)) + math.log(2), m.log(y + m.sqrt(y * y + 1.0))
    )


def _log_and_scale(m: Maths, used: Any, v: Any, x: Any) -> tuple[Any, Any]:
    """Return (e, s) with ``K_v(x) = s exp(e)``: the trapezoidal rule for an integral.

    The integral is that of ``exp(-x cosh(t)) cosh(v t)``; steps suit the width of its peak.
    """
    size, y = m.abs(m.constant(v)), m.constant(x)
    peak = _asinh(m, size / y)
    wide = m.maximum(y, size)
    length = wide * m.sqrt((y / wide) * (y / wide) + (size / wide) * (size / wide))
    # Exponents are taken relative to that of the peak, and cosh(t) as 1 + 2 sinh(t / 2)**2.
    top = size * peak - length
    rise = size * peak - size * (size / (length + y)) + (x - y)
    h = m.minimum(0.15, 0.5 / m.sqrt(length))

    def term(t: Any, v: Any, x: Any, rise: Any) -> Any:
        half = m.sinh(0.5 * t)
        down = 2.0 * x * half * half + rise
        return 0.5 * (m.exp(v * t - down) + m.exp(-v * t - down))

    def going(total: Any, last: Any, t: Any, h: Any, v: Any, x: Any, rise: Any, peak: Any) -> Any:
        return (last > SMALL * total) | (t < peak)

    def step(
        k: Any, total: Any, last: Any, t: Any, h: Any, v: Any, x: Any, rise: Any, peak: Any
    ) -> Any:
        new = term(t, v, x, rise)
        return total + new, new, t + h

    start = m.where(used, 0.5, 0.0) * term(0.0 * top, v, x, rise)
    peak = m.where(used, peak, -1.0)
    first = m.where(used, 1.0, 0.0) + 0.0 * top
    state = (start, first, h + 0.0 * top, h, v, x, rise, peak)
    total = m.loop(going, step, state[:3], state[3:])[0]
    return top, total * h


def _log_i(m: Maths, used: Any, v: Any, x: Any) -> tuple[Any, Any]:
    """Return (e, s) with ``I_v(x) = s exp(e)`` for v >= 0, x > 0."""
    far = (x > _FAR) & (x > v * v)
    near = used & ~far

    def going(term: Any, total: Any, v: Any, x: Any) -> Any:
        return term > SMALL * total

    def step(k: Any, term: Any, total: Any, v: Any, x: Any) -> Any:
        term = term * (0.5 * x) / k * (0.5 * x) / (k + v)
        return term, total + term

    y = m.where(near, x, 1.0)
    large = y > 600.0  # where the sum may overflow
    start = m.where(near, m.where(large, 1e-280, 1.0), 0.0) + 0.0 * m.constant(v)
    total = m.loop(going, step, (start, start), (v, y))[1]
    few = v < 20.0
    u = m.where(few, v, 1.0)
    power = m.where(few, m.power(0.5 * y, u) * m.exp(-m.lgamma(u + 1.0)), 1.0)
    exponent = m.where(few, 0.0, v * m.log(0.5 * y) - m.lgamma(v + 1.0))
    exponent = exponent + m.where(large, 280 * math.log(10), 0.0)
    total = total * power
    w = m.where(far, x, 60.0)
    u = m.where(far, v, 0.0)
    c, series, n = 1.0 + 0.0 * w, 1.0, 4.0 * u * u
    for k in range(1, 30):
        c = c * (n - (2.0 * k - 1.0) ** 2) * (-0.125 / k) / w
        series = series + c
    series = series / m.sqrt(2 * math.pi * w)
    return m.where(far, w, exponent), m.where(far, series, total)


def _i_and_k(m: Maths, v: Any, x: Any, scaled: bool) -> Any:
    """Return I_v(x), times exp(-|x|) if scaled, for all real v; nan for x < 0 unless v is whole."""
    whole = v == m.rint(v)
    y = m.abs(x)
    inside = (y > 0) & (y < math.inf) & (m.abs(v) < math.inf) & ((x > 0) | whole)
    order, y = m.where(inside, m.abs(v), 1.0), m.where(inside, y, 1.0)
    less = y if scaled else 0.0
    exponent, factor = _log_i(m, inside, order, y)
    out = m.exp(exponent - less) * factor
    mirrored = inside & (v < 0) & ~whole
    e, s = _log_and_scale(m, mirrored, m.where(mirrored, order, 0.5), m.where(mirrored, y, 1.0))
    other = (2 / math.pi) * _sin_pi(m, order) * m.exp(e - less) * s
    out = m.where(mirrored, out + other, out)
    odd = whole & (2.0 * m.floor(0.5 * v) != v)
    out = m.where((x < 0) & odd, -out, out)
    at_zero = m.where(v == 0, 1.0, m.where((v > 0) | whole, 0.0, math.inf))
    ends = m.where(x == 0, at_zero, m.where(x == math.inf, 0.0 if scaled else math.inf, math.nan))
    return m.where(inside, out, m.where(v == v, ends, math.nan))


@numeric(x=lambda v, x: (iv(v - 1, x) + iv(v + 1, x)) / 2)
def iv(m: Maths, v: Any, x: Any) -> Any:
    """Return I_v(x)."""
    return _i_and_k(m, v, x, False)


@numeric(x=lambda v, x: (ive(v - 1, x) + ive(v + 1, x)) / 2 - side(x) * ive(v, x))
def ive(m: Maths, v: Any, x: Any) -> Any:
    """Return ``exp(-|x|) I_v(x)``."""
    return _i_and_k(m, v, x, True)


def _k(m: Maths, v: Any, x: Any, scaled: bool) -> Any:
    inside = (x > 0) & (x < math.inf) & (m.abs(v) < math.inf)
    order, y = m.where(inside, v, 0.5), m.where(inside, x, 1.0)
    exponent, factor = _log_and_scale(m, inside, order, y)
    out = m.exp(exponent + (y if scaled else 0.0)) * factor
    ends = m.where(x == 0, math.inf, m.where(x == math.inf, 0.0, math.nan))
    return m.where(inside, out, m.where(v == v, ends, math.nan))


@numeric(x=lambda v, x: -(kv(v - 1, x) + kv(v + 1, x)) / 2)
def kv(m: Maths, v: Any, x: Any) -> Any:
    """Return K_v(x)."""
    return _k(m, v, x, False)


@numeric(x=lambda v, x: kve(v, x) - (kve(v - 1, x) + kve(v + 1, x)) / 2)
def kve(m: Maths, v: Any, x: Any) -> Any:
    """Return ``exp(x) K_v(x)``."""
    return _k(m, v, x, True)


# ----------------------------------------------------------------------------------------- J and Y
# 1 / gamma(1 + u) in u, for |u| <= 1/2, lowest power first.
_INVERSE_GAMMA = (
    1.0,
    0.5772156649015329,
    -0.6558780715202539,
    -0.04200263503409524,
    0.16653861138229148,
    -0.04219773455554433,
    -0.009621971527876973,
    0.0072189432466631,
    -0.0011651675918590652,
    -0.00021524167411495098,
    0.0001280502823881162,
    -2.013485478078824e-05,
    -1.2504934821426706e-06,
    1.133027231981696e-06,
    -2.056338416977607e-07,
    6.116095104481416e-09,
    5.002007644469223e-09,
    -1.18127457048702e-09,
    1.0434267116911005e-10,
    7.782263439905071e-12,
    -3.696805618642206e-12,
    5.100370287454476e-13,
    -2.0583260535665066e-14,
    -5.348122539423018e-15,
    1.2267786282382608e-15,
    -1.1812593016974588e-16,
)
_NEAR = 2.0  # up to which Temme's series is used
_SINC = [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(12)][::-1]
_SINHC = [1 / math.factorial(2 * k + 1) for k in range(10)][::-1]


def _ratio(m: Maths, used: Any, v: Any, x: Any) -> tuple[Any, Any]:
    """Return J'_v(x) / J_v(x) by its fraction, and the sign of J_v(x)."""

    def going(b: Any, c: Any, d: Any, h: Any, s: Any, n: Any, last: Any, x: Any) -> Any:
        return n < last

    def step(
        k: Any, b: Any, c: Any, d: Any, h: Any, s: Any, n: Any, last: Any, x: Any
    ) -> tuple[Any, ...]:
        b = b + 2.0 / x
        d = b - d
        d = 1.0 / m.where(d == 0, 1e-300, d)
        c = b - 1.0 / c
        c = m.where(c == 0, 1e-300, c)
        factor = c * d
        ended = (m.abs(factor - 1.0) <= 2.3e-16) & (last == 1e9)
        s = m.where(d < 0, -s, s)
        return b, c, d, h * factor, s, m.constant(n + 1.0), m.where(ended, k + 12.0, last)

    h = v / x
    h = m.where(h < 1e-300, 1e-300, h)
    last = m.where(used, 1e9, 0.0) + 0.0 * m.constant(x)
    found = m.loop(going, step, (2.0 * h, h, 0.0, h, 1.0, 0.0, last), (x,))
    return found[3], found[4]


def _temme(m: Maths, used: Any, u: Any, x: Any) -> tuple[Any, Any]:
    """Return Y_u(x) and Y_(u+1)(x) for small x, |u| <= 1/2."""
    even, odd = (poly(_INVERSE_GAMMA[k::2][::-1], u * u) for k in (0, 1))
    angle = math.pi * u
    sinc = poly(_SINC, angle * angle)
    half_sinc = poly(_SINC, 0.25 * angle * angle)
    d = m.log(2.0 / x)
    e = u * d
    small = m.abs(e) < 1.0
    z = m.where(small, e, 0.0)
    sinhc = m.where(small, poly(_SINHC, z * z), m.sinh(e) / m.where(small, 1.0, e))
    f = (2 / math.pi) / sinc * (even * sinhc * d - odd * m.cosh(e))
    p = m.exp(e) / ((even + u * odd) * math.pi)
    q = m.exp(-e) / ((even - u * odd) * math.pi)
    r = 0.5 * math.pi * math.pi * u * half_sinc * half_sinc
    square = -0.25 * x * x

    def going(f: Any, p: Any, q: Any, c: Any, total: Any, other: Any, *consts: Any) -> Any:
        return m.abs(c * f) + m.abs(c * p) > SMALL * (m.abs(total) + 1e-3)

    def step(
        k: Any, f: Any, p: Any, q: Any, c: Any, total: Any, other: Any, u: Any, r: Any, z: Any
    ) -> tuple[Any, ...]:
        f = (k * f + p + q) / (k * k - u * u)
        c = c * z / k
        p, q = p / (k - u), q / (k + u)
        return f, p, q, c, total + c * (f + r * q), other + c * (p - k * (f + r * q))

    first = m.where(used, 1.0, 0.0) + 0.0 * m.constant(x)
    state = (f, p, q, first, f + r * q, p)
    found = m.loop(going, step, state, (u, r, square))
    return -found[4], -found[5] * 2.0 / x


def _steed(m: Maths, used: Any, u: Any, x: Any) -> tuple[Any, Any]:
    """Return p and q with ``p + i q`` the logarithmic derivative of J_u + i Y_u, for x >= 2."""

    def going(
        cr: Any, ci: Any, dr: Any, di: Any, p: Any, q: Any, n: Any, last: Any, u: Any, x: Any
    ) -> Any:
        return n < last

    def step(
        k: Any,
        cr: Any,
        ci: Any,
        dr: Any,
        di: Any,
        p: Any,
        q: Any,
        n: Any,
        last: Any,
        u: Any,
        x: Any,
    ) -> tuple[Any, ...]:
        a, br, bi = (k - 0.5) * (k - 0.5) - u * u, 2.0 * x, 2.0 * k
        er, ei = a * dr + br, a * di + bi
        size = er * er + ei * ei
        dr, di = er / size, -ei / size
        size = a / (cr * cr + ci * ci)
        cr, ci = br + cr * size, bi - ci * size
        fr, fi = cr * dr - ci * di, cr * di + ci * dr
        p, q = p * fr - q * fi, p * fi + q * fr
        ended = (m.abs(fr - 1.0) + m.abs(fi) <= 2.3e-16) & (last == 1e9)
        return cr, ci, dr, di, p, q, m.constant(n + 1.0), m.where(ended, 1.3 * k + 6.0, last)

    last = m.where(used, 1e9, 0.0) + 0.0 * m.constant(x)
    # The fraction a1 / (b1 + a2 / (b2 + ...)) with b0 = 0, as a product of changes.
    a, br, bi = 0.25 - u * u, 2.0 * x, 2.0
    size = br * br + bi * bi
    start_r, start_i = a * br / size, -a * bi / size
    # From the second change on; a first change c1 d1 of an unknown tiny number is a1 / b1.
    second = 1e150 + 0.0 * start_r
    state = (second, 0.0, br / size, -bi / size, start_r, start_i, 0.0, last)

    def shifted(k: Any, *values: Any) -> tuple[Any, ...]:
        return step(k + 1.0, *values)

    found = m.loop(going, shifted, state, (u, x))
    zr, zi = found[4], found[5]
    # p + i q = -1 / (2 x) + i + (i / x) z
    return -0.5 / x - zi / x, 1.0 + zr / x


def _by_fractions(m: Maths, used: Any, v: Any, x: Any) -> tuple[Any, Any]:
    """Return J_v(x) and Y_v(x) for v >= 0 and x > 0, not too large."""
    near = x < _NEAR
    steps = m.maximum(m.where(near, m.floor(v + 0.5), m.floor(v - x + 1.5)), 0.0)
    steps = m.where(used, m.constant(steps), 0.0)
    u = v - steps
    ratio, sign = _ratio(m, used, v, x)

    def going(j: Any, slope: Any, n: Any, steps: Any, v: Any, x: Any) -> Any:
        return n < steps

    def down(k: Any, j: Any, slope: Any, n: Any, steps: Any, v: Any, x: Any) -> tuple[Any, ...]:
        lower = (v - n) / x * j + slope
        return lower, (v - n - 1.0) / x * lower - j, m.constant(n + 1.0)

    tiny = sign * 1e-100
    j, slope, _ = m.loop(going, down, (tiny, ratio * tiny, 0.0), (steps, v, x))
    j = m.where(j == 0, 1e-120, j)
    f = slope / j
    width = 2.0 / (math.pi * x)
    y_near, next_near = _temme(m, used & near, m.where(near, u, 0.25), m.where(near, x, 1.0))
    j_near = width / (u / x * y_near - next_near - f * y_near)
    w = m.where(near, 3.0, x)
    p, q = _steed(m, used & ~near, m.where(near, 0.25, u), w)
    gam = (p - f) / q
    j_far = m.sqrt(width / ((p - f) * gam + q))
    j_far = m.where(j < 0, -j_far, j_far)
    y_far = j_far * gam
    next_far = u / x * y_far - (p * y_far + q * j_far)
    j_low, y, above = (
        m.where(near, a, b) for a, b in ((j_near, j_far), (y_near, y_far), (next_near, next_far))
    )

    def up(k: Any, y: Any, above: Any, n: Any, steps: Any, u: Any, x: Any) -> tuple[Any, ...]:
        return above, (u + n + 1.0) * 2.0 / x * above - y, m.constant(n + 1.0)

    def climbing(y: Any, above: Any, n: Any, steps: Any, u: Any, x: Any) -> Any:
        return n < steps

    y = m.loop(climbing, up, (y, above, 0.0), (steps, u, x))[0]
    return j_low * (tiny / j), y


def _small_j(m: Maths, used: Any, v: Any, x: Any) -> Any:
    """Return J_v(x) for x**2 <= v + 1 by its series."""

    def going(term: Any, total: Any, v: Any, x: Any) -> Any:
        return m.abs(term) > SMALL * m.abs(total)

    def step(k: Any, term: Any, total: Any, v: Any, x: Any) -> tuple[Any, Any]:
        term = term * (-0.25 * x * x) / (k * (k + v))
        return term, total + term

    start = m.where(used, 1.0, 0.0) + 0.0 * m.constant(x)
    total = m.loop(going, step, (start, start), (v, x))[1]
    few = v < 20.0
    w = m.where(few, v, 1.0)
    power = m.power(0.5 * x, w) * m.exp(-m.lgamma(w + 1.0))
    return total * m.where(few, power, m.exp(v * m.log(0.5 * x) - m.lgamma(v + 1.0)))


def hankel(m: Maths, v: Any, x: Any) -> tuple[Any, Any]:
    """Return J_v(x) and Y_v(x) for x large beside 25 and v**2."""
    n = 4.0 * v * v
    p, q, c = 1.0, 0.0, 1.0 + 0.0 * x
    for k in range(1, 24):
        c = c * (n - (2.0 * k - 1.0) ** 2) * (0.125 / k) / x
        if k % 2:
            q = q + (-1.0) ** (k // 2) * c
        else:
            p = p + (-1.0) ** (k // 2) * c
    # cos(x - (v / 2 + 1 / 4) pi), whose two angles are reduced apart.
    shift = 0.5 * v + 0.25
    shift = math.pi * (shift - m.constant(2.0 * m.rint(0.5 * shift)))
    sx, cx, ss, cs = m.sin(x), m.cos(x), m.sin(shift), m.cos(shift)
    cosine, sine = cx * cs + sx * ss, sx * cs - cx * ss
    front = m.sqrt(2 / math.pi / x)
    return front * (p * cosine - q * sine), front * (p * sine + q * cosine)


def j_and_y(m: Maths, v: Any, x: Any) -> tuple[Any, Any]:
    """Return J_v(x) and Y_v(x) for x > 0 and any v, both finite."""
    size = m.where(v < 0, -v, v)
    far = x > m.maximum(25.0, 1.0 * v * v)
    small = x * x <= size + 1.0
    y = m.where(far, 1.0, x)
    j, other = _by_fractions(m, ~far, m.where(far, 1.0, size), y)
    series = _small_j(m, small & ~far, m.where(small, size, 1.0), m.where(small & ~far, x, 1.0))
    j = m.where(small & ~far, series, j)
    far_j, far_y = hankel(m, m.where(far, size, 0.0), m.where(far, x, 60.0))
    j, other = m.where(far, far_j, j), m.where(far, far_y, other)
    sine, cosine = _sin_pi(m, size), _cos_pi(m, size)
    # Products with an exact zero are left out: Y may be infinite.
    turned = m.where(sine == 0, 0.0, sine * m.where(sine == 0, 1.0, other))
    back = m.where(cosine == 0, 0.0, cosine * m.where(cosine == 0, 1.0, other))
    return m.where(v < 0, cosine * j - turned, j), m.where(v < 0, sine * j + back, other)


@numeric(x=lambda v, x: (jv(v - 1, x) - jv(v + 1, x)) / 2)
def jv(m: Maths, v: Any, x: Any) -> Any:
    """Return J_v(x); nan for x < 0 unless v is whole."""
    whole = v == m.rint(v)
    inside = (x != 0) & (m.abs(x) < math.inf) & (m.abs(v) < math.inf) & ((x > 0) | whole)
    out = j_and_y(m, m.where(inside, v, 0.5), m.where(inside, m.abs(x), 1.0))[0]
    odd = whole & (2.0 * m.floor(0.5 * v) != v)
    out = m.where((x < 0) & odd, -out, out)
    at_zero = m.where(v == 0, 1.0, m.where((v > 0) | whole, 0.0, math.inf))
    ends = m.where(x == 0, at_zero, m.where(x == math.inf, 0.0, math.nan))
    return m.where(inside, out, m.where(v == v, ends, math.nan))


@numeric(x=lambda v, x: (yv(v - 1, x) - yv(v + 1, x)) / 2)
def yv(m: Maths, v: Any, x: Any) -> Any:
    """Return Y_v(x), nan for x < 0."""
    inside = (x > 0) & (x < math.inf) & (m.abs(v) < math.inf)
    out = j_and_y(m, m.where(inside, v, 0.5), m.where(inside, x, 1.0))[1]
    ends = m.where(x == 0, -math.inf, m.where(x == math.inf, 0.0, math.nan))
    return m.where(inside, out, m.where(v == v, ends, math.nan))
