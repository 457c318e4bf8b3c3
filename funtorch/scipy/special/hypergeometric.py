"""Formulas of the hypergeometric functions, elliptic integrals and Lambert's W.

References:
    NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov: 13.2 (series), 13.2.39
    (Kummer), 13.3.1 (neighbours), 13.7 (large arguments), 15.2, 15.8 (series, transformations),
    15.4.20 (Gauss), 19.8 (arithmetic-geometric mean), 19.25 and 19.36 (symmetric integrals,
    duplication).
    R. M. Corless, G. H. Gonnet, D. E. G. Hare, D. J. Jeffrey, D. E. Knuth, "On the Lambert W
    function", Advances in Computational Mathematics 5 (1996).
"""

from __future__ import annotations

import math
from typing import Any

import funtorch.numpy as fnp
from funtorch.scipy.special.gammas import SMALL
from funtorch.transforms import custom_jvp
from funtorch.transforms.numeric import Maths, numeric

__all__ = ["ellipe", "ellipeinc", "ellipk", "ellipkinc", "hyp1f1", "hyp2f1", "lambertw", "means"]


def _whole_below(m: Maths, a: Any) -> Any:
    """Tell where a is 0, -1, -2, ..., at which a series ends or has a pole."""
    return (a <= 0) & (a == m.floor(a))


# --------------------------------------------------------------------------------------------- 1F1
def _kummer_sum(m: Maths, used: Any, a: Any, b: Any, x: Any) -> Any:
    def going(term: Any, last: Any, total: Any, a: Any, b: Any, x: Any) -> Any:
        return m.abs(term) + m.abs(last) > SMALL * m.abs(total)

    def step(k: Any, term: Any, last: Any, total: Any, a: Any, b: Any, x: Any) -> Any:
        new = term * (a + (k - 1.0)) / (b + (k - 1.0)) * x / k
        return new, term, total + new

    start = m.where(used, 1.0, 0.0) + 0.0 * m.constant(x)
    return m.loop(going, step, (start, 0.0, start), (a, b, x))[2]


def _kummer_polynomial(m: Maths, used: Any, a: Any, b: Any, x: Any) -> Any:
    """Return 1F1(a; b; x) for a = 0, -1, ... from those of 0 and -1, one after the other."""

    def going(n: Any, last: Any, now: Any, a: Any, b: Any, x: Any) -> Any:
        return n < -a

    def step(k: Any, n: Any, last: Any, now: Any, a: Any, b: Any, x: Any) -> Any:
        return n + 1.0, now, ((2.0 * n + b - x) * now - n * last) / (b + n)

    zero = 0.0 * m.constant(x)
    start = (zero, zero, zero + 1.0)
    return m.loop(going, step, start, (m.where(used, a, 0.0), b, x), 50_000)[2]


def _gamma_ratio(m: Maths, b: Any, a: Any) -> Any:
    """Return gamma(b) / gamma(a), with its sign."""
    sign: Any = 1.0
    for z in (a, b):
        odd = (z < 0) & (2.0 * m.floor(0.5 * m.floor(z)) != m.floor(z))
        sign = sign * m.where(odd, -1.0, 1.0)
    return sign * m.exp(m.lgamma(b) - m.lgamma(a))


@numeric(x=lambda a, b, x: a / b * hyp1f1(a + 1, b + 1, x))
def hyp1f1(m: Maths, a: Any, b: Any, x: Any) -> Any:
    """Return 1F1(a; b; x)."""
    finite = (m.abs(x) < math.inf) & (a == a) & (m.abs(b) < math.inf)
    ends = _whole_below(m, a) & (~_whole_below(m, b) | (a >= b)) & finite & (a > -50_000.0)
    valid = ~_whole_below(m, b) & finite & ~ends
    c, d, y = m.where(valid, a, 1.0), m.where(valid, b, 1.0), m.where(valid, x, 0.0)
    # exp(x) 1F1(b - a; b; -x) has no cancellation for negative x.
    turned = (y < 0) & ~_whole_below(m, c)
    c, z = m.where(turned, d - c, c), m.where(turned, -y, y)
    far = (z > 60.0 + 2.0 * (m.abs(c) * m.abs(c) + m.abs(d) * m.abs(d))) & ~_whole_below(m, c)
    near = _kummer_sum(m, valid & ~far, c, d, m.where(far, 1.0, z))
    near = near * m.exp(m.where(turned, -z, 0.0))
    w = m.where(far, z, 1e4)
    term, series = 1.0 + 0.0 * w, 1.0
    for k in range(1, 26):
        term = term * (d - c + (k - 1.0)) * (k - c) / (k * w)
        series = series + term
    large = _gamma_ratio(m, d, c) * m.power(w, c - d) * series
    large = large * m.exp(m.where(turned, 0.0, w))
    out = m.where(valid, m.where(far, large, near), math.nan)
    safe = (m.where(ends, v, w) for v, w in ((a, 0.0), (b, 1.0), (x, 0.0)))
    return m.where(ends, _kummer_polynomial(m, ends, *safe), out)


# --------------------------------------------------------------------------------------------- 2F1
def _gauss_sum(m: Maths, used: Any, a: Any, b: Any, c: Any, x: Any) -> Any:
    def going(term: Any, last: Any, total: Any, a: Any, b: Any, c: Any, x: Any) -> Any:
        return m.abs(term) + m.abs(last) > SMALL * (1.0 - m.abs(x)) * m.abs(total)

    def step(k: Any, term: Any, last: Any, total: Any, a: Any, b: Any, c: Any, x: Any) -> Any:
        n = k - 1.0
        new = term * ((a + n) / (c + n)) * ((b + n) / k) * x
        return new, term, total + new

    start = m.where(used, 1.0, 0.0) + 0.0 * m.constant(x)
    return m.loop(going, step, (start, 0.0, start), (a, b, c, x), 50_000)[2]


@numeric(x=lambda a, b, c, x: a * b / c * hyp2f1(a + 1, b + 1, c + 1, x))
def hyp2f1(m: Maths, a: Any, b: Any, c: Any, x: Any) -> Any:
    """Return 2F1(a, b; c; x) for x <= 1; nan above."""
    ends = _whole_below(m, a) | _whole_below(m, b)
    valid = ~_whole_below(m, c) & (x < 1) & (x > -math.inf) & (a == a) & (b == b)
    p, q, r, y = (m.where(valid, v, 0.5) for v in (a, b, c, x))
    # (1 - x)**-a 2F1(a, c - b; c; x / (x - 1)) for x < 0, with the smaller parameter in front.
    negative = (y < 0) & ~ends
    first, second = m.where(p < q, p, q), m.where(p < q, q, p)
    z = m.where(negative, y / (y - 1.0), y)
    front = m.where(negative, -first * m.log1p(-m.where(y < 0, y, 0.0)), 0.0)
    p, q = m.where(negative, first, p), m.where(negative, r - second, q)
    # (1 - x)**(c - a - b) 2F1(c - a, c - b; c; x), where its terms decrease faster.
    growing = (p + q - r > 0.5) & ~ends & (z > 0)
    front = front + m.where(growing, (r - p - q) * m.log1p(-z), 0.0)
    p, q = m.where(growing, r - p, p), m.where(growing, r - q, q)
    out = m.exp(front) * _gauss_sum(m, valid, p, q, r, z)
    one = (x == 1) & ~_whole_below(m, c)
    s = m.where(one & (c - a - b > 0), c - a - b, 1.0)
    gauss = _gamma_ratio(m, m.where(one, c, 1.0), m.where(one, c - a, 1.0))
    gauss = gauss * _gamma_ratio(m, s, m.where(one, c - b, 1.0))
    at_one = m.where(c - a - b > 0, gauss, math.inf)
    polynomial = ends & (x >= 1) & ~_whole_below(m, c)
    whole = _gauss_polynomial(m, polynomial, a, b, c, x)
    out = m.where(valid, out, m.where(one, at_one, math.nan))
    return m.where(polynomial, whole, out)


def _gauss_polynomial(m: Maths, used: Any, a: Any, b: Any, c: Any, x: Any) -> Any:
    def going(term: Any, total: Any, a: Any, b: Any, c: Any, x: Any) -> Any:
        return term != 0

    def step(k: Any, term: Any, total: Any, a: Any, b: Any, c: Any, x: Any) -> Any:
        n = k - 1.0
        term = term * ((a + n) / (c + n)) * ((b + n) / k) * x
        return term, total + term

    start = m.where(used, 1.0, 0.0) + 0.0 * m.constant(x)
    return m.loop(going, step, (start, start), (a, b, c, x))[1]


# ---------------------------------------------------------------------------------------- elliptic
def means(m: Maths, b: Any) -> tuple[Any, Any]:
    """Return the arithmetic-geometric mean of 1 and b, and the sum of ``2**n c_n**2`` (n >= 1)."""
    a: Any = 1.0 + 0.0 * b
    total: Any = 0.0
    for n in range(1, 10):
        c = 0.5 * (a - b)
        total = total + 2.0**n * c * c
        a, b = 0.5 * (a + b), m.sqrt(a * b)
    return a, total


@numeric()
def ellipk(m: Maths, k: Any) -> Any:
    """Return the complete elliptic integral of the first kind of parameter k."""
    inside = (k < 1) & (k > -math.inf)
    out = 0.5 * math.pi / means(m, m.sqrt(1.0 - m.where(inside, k, 0.0)))[0]
    return m.where(inside, out, m.where(k == 1, math.inf, m.where(k < 1, 0.0, math.nan)))


@numeric()
def ellipe(m: Maths, k: Any) -> Any:
    """Return the complete elliptic integral of the second kind of parameter k."""
    inside = (k < 1) & (k > -math.inf)
    y = m.where(inside, k, 0.0)
    # For negative parameters E(k) = sqrt(1 - k) E(k / (k - 1)), whose sum does not cancel.
    negative = y < 0
    front = m.sqrt(1.0 - m.where(negative, y, 0.0))
    y = m.where(negative, y / (y - 1.0), y)
    mean, total = means(m, m.sqrt(1.0 - y))
    out = front * (0.5 * math.pi / mean) * (1.0 - 0.5 * y - 0.5 * total)
    return m.where(inside, out, m.where(k == 1, 1.0, m.where(k < 1, math.inf, math.nan)))


def _duplicated(m: Maths, x: Any, y: Any, z: Any) -> tuple[Any, Any]:
    """Return Carlson's R_F(x, y, z) and R_D(x, y, z)."""
    scale: Any = 1.0
    rest: Any = 0.0
    for _ in range(12):
        root = m.sqrt(x) * m.sqrt(y) + m.sqrt(y) * m.sqrt(z) + m.sqrt(z) * m.sqrt(x)
        rest = rest + scale / (m.sqrt(z) * (z + root))
        scale = 0.25 * scale
        x, y, z = 0.25 * (x + root), 0.25 * (y + root), 0.25 * (z + root)
    mean = (x + y + z) / 3.0
    a, b = 1.0 - x / mean, 1.0 - y / mean
    c = -(a + b)
    e2, e3 = a * b - c * c, a * b * c
    first = (1.0 - e2 / 10.0 + e3 / 14.0 + e2 * e2 / 24.0 - 3.0 * e2 * e3 / 44.0) / m.sqrt(mean)
    mean = (x + y + 3.0 * z) / 5.0
    a, b = 1.0 - x / mean, 1.0 - y / mean
    c = -(a + b) / 3.0
    e2, e3 = a * b - 6.0 * c * c, (3.0 * a * b - 8.0 * c * c) * c
    series = 1.0 - 3.0 * e2 / 14.0 + e3 / 6.0 + 9.0 * e2 * e2 / 88.0
    return first, 3.0 * rest + scale * series / (mean * m.sqrt(mean))


def _incomplete(m: Maths, phi: Any, k: Any, second: bool) -> Any:
    """Return F(phi, k) or E(phi, k): the part within half a turn, and the whole half turns."""
    turns = m.constant(m.rint(phi * (1 / math.pi)))
    angle = phi - turns * math.pi
    s, c = m.sin(angle), m.cos(angle)
    square = s * s
    last = 1.0 - k * square
    first, other = _duplicated(m, c * c, last, 1.0 + 0.0 * last)
    out = s * (first - k * square * other * (1 / 3)) if second else s * first
    complete = (ellipe if second else ellipk).formula(m, k)
    return out + m.where(turns == 0, 0.0, 2.0 * turns * m.where(turns == 0, 0.0, complete))


def _delta(phi: Any, k: Any) -> Any:
    return fnp.sqrt(1 - k * fnp.sin(phi) ** 2)


@numeric(phi=lambda phi, k: 1 / _delta(phi, k))
def ellipkinc(m: Maths, phi: Any, k: Any) -> Any:
    """Return the incomplete elliptic integral of the first kind."""
    return m.where((k <= 1) & (m.abs(phi) < math.inf), _incomplete(m, phi, k, False), math.nan)


@numeric(phi=lambda phi, k: _delta(phi, k))
def ellipeinc(m: Maths, phi: Any, k: Any) -> Any:
    """Return the incomplete elliptic integral of the second kind."""
    return m.where((k <= 1) & (m.abs(phi) < math.inf), _incomplete(m, phi, k, True), math.nan)


# ----------------------------------------------------------------------------------------- Lambert
def lambertw(z: Any, k: int) -> Any:
    """Return branch k of the solution w of ``w exp(w) = z`` for complex z."""

    @custom_jvp
    def solve(z: Any) -> Any:
        w = _guess(z, k)
        for _ in range(16):
            e = fnp.exp(w)
            gap = w * e - z
            low = fnp.where(fnp.abs(w + 1) < 1e-12, 1e-12, w + 1)
            change = gap / (e * low - (w + 2) * gap / (2 * low))
            w = fnp.where(fnp.isfinite(change), w - change, w)
        at_zero = 0.0 if k == 0 else -math.inf
        w = fnp.where(z == 0, at_zero, w)
        branch_point = (z.real == -math.exp(-1)) & (z.imag == 0)
        w = fnp.where(branch_point & (k in (0, -1)), -1.0, w)
        return fnp.where(fnp.isinf(z), fnp.log(z) + 2j * math.pi * k, w)

    @solve.defjvp
    def solve_jvp(primals: Any, tangents: Any) -> Any:
        w = solve(*primals)
        return w, tangents[0] * fnp.exp(-w) / (1 + w)

    return solve(z)


def _guess(z: Any, k: int) -> Any:
    """Return a start: by the logarithm far out, by a root near the branch point at -1/e."""
    safe = fnp.where(z == 0, 1, z)
    log = fnp.log(safe) + 2j * math.pi * k
    far = log - fnp.log(fnp.where(log == 0, 1, log))
    root = fnp.sqrt(2 * (math.e * z + 1))
    if k not in (-1, 0, 1):
        return far
    distance = fnp.abs(z + math.exp(-1))
    if k == 0:
        out = fnp.where(fnp.abs(z) < 3.0, fnp.log1p(z), far)
        return fnp.where(distance < 0.7, -1 + root - root * root / 3, out)
    near = -1 - root - root * root / 3
    lower = (z.imag >= 0) if k == -1 else (z.imag < 0)
    real = (k == -1) & (z.imag == 0) & (z.real < 0) & (z.real > -math.exp(-1))
    log_real = fnp.log(fnp.where(real, -z.real, 0.1))
    on_axis = log_real - fnp.log(-log_real)
    out = fnp.where(real, on_axis, far)
    return fnp.where((distance < 0.3) & lower, near, out)
