"""Formulas of the gamma and beta families, of numbers; see `funtorch.transforms.numeric`.

References:
    NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov: 5.11 (Stirling), 8.7,
    8.9 and 8.12 (incomplete gamma: series, fraction, large a), 8.17.22 (incomplete beta: fraction),
    25.2.9 (zeta: Euler-Maclaurin), 25.4.1 (reflection).
    W. J. Lentz, "Generating Bessel functions in Mie scattering calculations using continued
    fractions", Applied Optics 15 (1976).
    M. Figurnov, S. Mohamed, A. Mnih, "Implicit reparameterization gradients", NeurIPS 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from funtorch.ops import special
from funtorch.ops.families import full_like
from funtorch.scipy.special.arithmetic import (
    Doubled,
    minus,
    plus,
    poly,
    product,
    ratio_log,
    times,
    two_sum,
)
from funtorch.transforms import jvp
from funtorch.transforms.numeric import Maths, numeric

__all__ = [
    "beta_both",
    "beta_density",
    "betainc",
    "betaincinv",
    "gamma_density",
    "gammainccinv",
    "gammaincinv",
    "hurwitz",
    "igamma",
    "igammac",
    "random_gamma_grad",
    "riemann",
]

# Series go on far beyond the last digit: derivatives of their terms are larger than they are.
SMALL = 1e-21
_EPS = 1.2e-16
_NEVER = 1e9  # a number of steps that no loop reaches


# --------------------------------------------------------------------------------------- fractions
def fraction(
    m: Maths,
    used: Any,
    first: Any,
    coefficients: Callable[..., tuple[Any, Any]],
    consts: Sequence[Any],
    each: int = 1,
) -> Any:
    """Return ``1 / (b0 + a1 / (b1 + a2 / (b2 + ...)))`` where it is used, by Lentz' method.

    Args:
        m: the operations.
        used: where the fraction is wanted.
        first: b0.
        coefficients: ``coefficients(k, *consts)`` gives ak and bk.
        consts: arrays.
        each: steps between two looks at whether it has converged.

    When two values in a row agree, half as many steps again are taken for the sake of derivatives.
    """

    def going(c: Any, d: Any, h: Any, count: Any, last: Any, *consts: Any) -> Any:
        return count < last

    def step(k: Any, c: Any, d: Any, h: Any, count: Any, last: Any, *consts: Any) -> Any:
        change: Any = None
        for part in range(each):
            a, b = coefficients((k - 1.0) * each + part + 1.0, *consts)
            d = b + a * d
            c = b + a / c
            d = 1.0 / m.where(d == 0, 1e-300, d)
            c = m.where(c == 0, 1e-300, c)
            factor = c * d
            h = h * factor
            change = m.abs(factor - 1.0) if change is None else change + m.abs(factor - 1.0)
        ended = (change <= each * 2 * _EPS) & (last == _NEVER)
        return c, d, h, m.constant(count + 1.0), m.where(ended, 1.3 * k + 6.0, last)

    start = m.where(used, first, 1.0)
    start = m.where(start == 0, 1e-300, start)
    last = m.where(used, _NEVER, 0.0) + 0.0 * m.constant(start)
    state = (1e300, 1.0 / start, 1.0 / start, 0.0, last)
    return m.loop(going, step, state, consts, 5000)[2]


# -------------------------------------------------------------------------------- incomplete gamma
def _log1p_less(m: Maths, u: Any) -> Any:
    """Return ``log(1 + u) - u``, from 2 atanh(r) near 0."""
    near = m.abs(u) < 0.4
    v = m.where(near, u, 0.0)
    r = v / (2.0 + v)
    square = r * r
    series = poly([1 / (2 * k + 3) for k in range(12)][::-1], square)
    return m.where(near, 2.0 * r * square * series - r * v, m.log1p(m.where(near, 0.0, u)) - u)


def _stirling(a: Any) -> Any:
    """Return the logarithm of gamma(a) over its first approximation, for a >= 8."""
    return poly(special.STIRLING, 1.0 / (a * a)) / a


def _log_gamma_of_1_plus(m: Maths, a: Any) -> Any:
    """Return log(gamma(1 + a)) for 0 <= a <= 1."""
    return a * (a - 1.0) * poly(special.LGAMMA_FROM_1, a - 0.5)


_LOWEST = -800.0  # an exponent whose exponential is 0


def _exponent(m: Maths, a: Any, x: Any, rough: Any, exact: bool) -> Doubled:
    """Return ``a log(x / a) - (x - a)`` to 18 digits after the point, or as it is given roughly.

    Derivatives are those of the rough number.
    """
    if not exact:
        return rough, 0.0 * m.constant(a)
    a, x, known = m.constant(a), m.constant(x), m.constant(rough)
    difference = two_sum(x, -a)
    exact = plus(times((a, 0.0), ratio_log(m, x, a)), minus(difference))
    good = known > _LOWEST
    change = m.where(good, exact[0] - known, 0.0)
    return rough + change, m.where(good, exact[1], 0.0)


def _power_over_gamma(m: Maths, a: Any, x: Any, exact: bool = True) -> Any:
    """Return ``x**a exp(-x) / gamma(a + 1)`` for x > 0; unless ``exact``, large powers roughly."""
    small = a < 10.0
    b, y = m.where(small, a, 1.0), m.where(small, m.minimum(x, 1000.0), 1.0)
    whole = m.constant(m.floor(b))
    gamma = m.exp(_log_gamma_of_1_plus(m, b - whole))
    for k in range(1, 10):
        gamma = gamma * m.where(whole >= float(k), b - (whole - float(k)), 1.0)
    half = m.exp(-0.5 * y)
    near = (m.power(y, b) * half) / gamma * half
    b = m.where(small, 10.0, a)
    u = (x - b) / b
    close = m.abs(u) < 0.4
    less = m.where(close, _log1p_less(m, m.where(close, u, 0.0)), m.log(x / b) - u)
    high, low = _exponent(m, b, x, b * less, exact)
    far = m.exp(high) * (m.exp(low - _stirling(b)) / m.sqrt(2 * math.pi * b))
    return m.where(small, near, far)


def _lower_sum(m: Maths, used: Any, a: Any, x: Any) -> Any:
    """Return the sum of ``x**n / ((a + 1) ... (a + n))`` where it is used."""

    def going(term: Any, total: Any, a: Any, x: Any) -> Any:
        return term > SMALL * total

    def step(k: Any, term: Any, total: Any, a: Any, x: Any) -> Any:
        term = term * x / (a + k)
        return term, total + term

    start = m.where(used, 1.0, 0.0) + 0.0 * m.constant(x)
    return m.loop(going, step, (start, start), (a, x))[1]


def _upper_fraction(m: Maths, used: Any, a: Any, x: Any) -> Any:
    """Return ``gamma(a, x) / (x**a exp(-x))`` where it is used."""

    def coefficients(k: Any, a: Any, x: Any) -> tuple[Any, Any]:
        return k * (a - k), x + (2.0 * k + 1.0) - a

    return fraction(m, used, x + 1.0 - a, coefficients, (a, x))


def _upper_near_zero(m: Maths, used: Any, a: Any, x: Any) -> Any:
    """Return gamma(a, x) / gamma(a) for a < 1 and x < 1.1, where it may be small beside 1."""
    a, x = m.where(used, a, 0.5), m.where(used, x, 0.5)

    def going(term: Any, total: Any, a: Any, x: Any) -> Any:
        return m.abs(term) > SMALL * m.abs(total)

    def step(k: Any, term: Any, total: Any, a: Any, x: Any) -> Any:
        term = term * -x / (k + 1.0)
        return term, total + term / (a + k + 1.0)

    first = m.where(used, -x, 0.0)
    rest = m.loop(going, step, (first, first / (a + 1.0)), (a, x))[1]
    exponent = a * m.log(x) - _log_gamma_of_1_plus(m, a)
    return -m.expm1(exponent) - a * m.exp(exponent) * rest


def _valid_gamma(m: Maths, a: Any, x: Any) -> tuple[Any, Any, Any]:
    """Return where a and x are inside the domain, and both moved into it."""
    inside = (a > 0) & (x > 0) & (a < math.inf) & (x < math.inf)
    return inside, m.where(inside, a, 1.0), m.where(inside, x, 1.0)


def _gamma_edges(m: Maths, a: Any, x: Any, inside: Any, lower: float, value: Any) -> Any:
    """Put in the values at the edges: ``lower`` where all of the integral is below x."""
    full = ((x == math.inf) & (a >= 0) & (a < math.inf)) | ((a == 0) & (x > 0))
    none = ((x == 0) & (a > 0)) | ((a == math.inf) & (x >= 0) & (x < math.inf))
    out = m.where(full, lower, m.where(none, 1.0 - lower, math.nan))
    return m.where(inside, value, out)


# Temme's coefficients c_0, c_1, c_2 in powers of eta, lowest first.
_TEMME = (
    (
        -1 / 3,
        1 / 12,
        -2 / 135,
        1 / 864,
        1 / 2835,
        -139 / 777600,
        1 / 25515,
        -571 / 261273600,
        -281 / 151559100,
    ),
    (-1 / 540, -1 / 288, 1 / 378, -77 / 77760, 1 / 4860),
    (25 / 6048, -139 / 51840),
)


def _central(m: Maths, a: Any, x: Any) -> Any:
    """Tell where a is large and x so near that series would need thousands of terms."""
    return (a > 1e5) & (m.abs(x - a) < 0.06 * a)


def _temme(m: Maths, used: Any, a: Any, x: Any, exact: bool = True) -> tuple[Any, Any]:
    """Return P and Q by the uniform expansion for large a (DLMF 8.12.3-4)."""
    b = m.where(used, a, 1e6)
    u = m.where(used, (x - a) / a, 0.0)
    # eta**2 / 2 = u - log(1 + u)
    eta = u * m.sqrt(poly([2 * (-1.0) ** k / (k + 2) for k in range(16)][::-1], u))
    rest: Any = 0.0
    for coefficients in reversed(_TEMME):
        rest = rest / b + poly(coefficients[::-1], eta)
    half = -0.5 * b * eta * eta
    high, low = _exponent(m, b, m.where(used, x, 1e6), half, exact)
    rest = rest * (m.exp(high) * (m.exp(low) / m.sqrt(2 * math.pi * b)))
    z = eta * m.sqrt(0.5 * b)
    tail = 0.5 * m.erfc(m.abs(z))
    if exact:
        # erfc(z) is exp(-z * z) times what changes slowly: z is too rough for that exponent.
        square = plus(product(m.constant(z), m.constant(z)), (m.constant(high), m.constant(low)))
        tail = tail * m.exp(m.where(half > _LOWEST, square[0], 0.0))
    small, large = tail + m.where(z < 0, -rest, rest), 1.0 - tail + m.where(z < 0, rest, -rest)
    return m.where(z < 0, small, large), m.where(z < 0, large, small)


def _lower_and_upper(m: Maths, used: Any, a: Any, x: Any, exact: bool = True) -> tuple[Any, Any]:
    """Return P and Q inside the domain, the smaller of them to all digits."""
    central = _central(m, a, x)
    p, q = _temme(m, central, a, x, exact)
    lower, upper = _by_loops(m, used & ~central, a, x, exact)
    return m.where(central, p, lower), m.where(central, q, upper)


def _by_loops(m: Maths, used: Any, a: Any, x: Any, exact: bool) -> tuple[Any, Any]:
    small = (a < 1.0) & (x < 1.1)
    below = (x <= 1.0) | (x <= a) | small
    front = _power_over_gamma(m, a, x, exact)
    lower = front * _lower_sum(m, used & below & (front > 0), a, x)
    upper = front * a * _upper_fraction(m, used & ~below & (front > 0), a, x)
    q = m.where(below, 1.0 - lower, upper)
    q = m.where(small, _upper_near_zero(m, used & small, a, x), q)
    return m.where(below, lower, 1.0 - upper), q


@numeric(x=lambda a, x: gamma_density(a, x), a=lambda a, x: -igammac.partial(0)(a, x))
def igamma(m: Maths, a: Any, x: Any) -> Any:
    """Return the regularised lower incomplete gamma function P(a, x)."""
    inside, b, y = _valid_gamma(m, a, x)
    return _gamma_edges(m, a, x, inside, 1.0, _lower_and_upper(m, inside, b, y)[0])


@numeric(x=lambda a, x: -gamma_density(a, x))
def igammac(m: Maths, a: Any, x: Any) -> Any:
    """Return the regularised upper incomplete gamma function Q(a, x) = 1 - P(a, x)."""
    inside, b, y = _valid_gamma(m, a, x)
    return _gamma_edges(m, a, x, inside, 0.0, _lower_and_upper(m, inside, b, y)[1])


@numeric()
def gamma_density(m: Maths, a: Any, x: Any) -> Any:
    """Return ``x**(a - 1) exp(-x) / gamma(a)``."""
    inside, b, y = _valid_gamma(m, a, x)
    out = _power_over_gamma(m, b, y) * (b / y)
    at_zero = m.where(a < 1, math.inf, m.where(a == 1, 1.0, 0.0))
    out = m.where(inside, out, m.where((x == 0) & (a > 0), at_zero, 0.0))
    return m.where((a >= 0) & (x >= 0), out, math.nan)


@numeric(traced=True)
def random_gamma_grad(m: Maths, a: Any, x: Any) -> Any:
    """Return the derivative in a of the x at which P(a, x) keeps its value.

    It is the quotient of two derivatives of P, whose common factor, which may underflow, cancels.
    """
    inside, b, y = _valid_gamma(m, a, x)
    below = (y <= 1.0) | (y <= b)

    def lower(b: Any) -> Any:
        return _lower_sum(m, inside & below, b, y)

    def upper(b: Any) -> Any:
        return b * _upper_fraction(m, inside & above, b, y)

    central = _central(m, b, y)
    below, above = below & ~central, ~below & ~central
    along = full_like(b, 1.0)
    (p, tp), (q, tq) = jvp(lower, (b,), (along,)), jvp(upper, (b,), (along,))
    slope = m.log(y) - m.digamma(b + 1.0)
    out = y / b * m.where(below, -(p * slope + tp), q * slope + tq)
    # Roughly, for both alike: what the exponents lack cancels.
    far = jvp(lambda b: _temme(m, central, b, y, False)[0], (b,), (along,))[1]
    far = -far / m.where(central, _power_over_gamma(m, b, y, False) * (b / y), 1.0)
    out = m.where(central, far, out)
    return m.where(inside, out, m.where((x == 0) & (a > 0), 0.0, math.nan))


# --------------------------------------------------------------------------------- incomplete beta
def _valid_beta(m: Maths, a: Any, b: Any, x: Any) -> tuple[Any, Any, Any, Any]:
    inside = (a > 0) & (b > 0) & (x > 0) & (x < 1) & (a < math.inf) & (b < math.inf)
    return inside, m.where(inside, a, 1.0), m.where(inside, b, 1.0), m.where(inside, x, 0.5)


def _powers_over_beta(m: Maths, a: Any, b: Any, x: Any, y: Any) -> Any:
    """Return ``x**a y**b / beta(a, b)`` for y = 1 - x, by Stirling's formula for a, b and a + b."""
    low_a, low_b = a < 10.0, b < 10.0
    steps: Any = 1.0  # from gamma functions of a and b, where those are small, to larger ones
    for k in range(10):
        top_a, top_b = m.where(low_a, a + float(k), 1.0), m.where(low_b, b + float(k), 1.0)
        bottom = m.where(low_a | low_b, a + b + float(k), 1.0)
        second = m.where(low_a & low_b, a + b + float(k + 10), 1.0)
        steps = steps * ((top_a / bottom) * (top_b / second))
    shift_a, shift_b = m.where(low_a, 10.0, 0.0), m.where(low_b, 10.0, 0.0)
    a, b = a + shift_a, b + shift_b
    s, off = a + b, x * b - y * a  # the sum of a log(x s / a) and b log(y s / b) is of second order
    near_a, near_b = m.abs(off) < 0.4 * a, m.abs(off) < 0.4 * b
    terms = m.where(near_a, 0.0, -off) + m.where(near_b, 0.0, off)
    for near, u, c, shift, z in (
        (near_a, off / a, a, shift_a, x),
        (near_b, -off / b, b, shift_b, y),
    ):
        close = c * _log1p_less(m, m.where(near, u, 0.0)) - shift * m.log(z)
        terms = terms + m.where(near, close, (c - shift) * m.log(z) + c * m.log(s / c))
    correction = _stirling(s) - _stirling(a) - _stirling(b)
    return m.exp(terms + correction) * m.sqrt(a * b / (2 * math.pi * s)) * steps


def beta_both(m: Maths, used: Any, a: Any, b: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Return I_x(a, b) and its complement inside the domain, y being 1 - x."""
    front = _powers_over_beta(m, a, b, x, y)
    swap = x * (a + b + 2.0) > a + 1.0
    p, q, z = m.where(swap, b, a), m.where(swap, a, b), m.where(swap, y, x)

    def coefficients(k: Any, a: Any, b: Any, x: Any) -> tuple[Any, Any]:
        n = m.floor(k * 0.5)
        even = n * (b - n) * x / ((a + 2.0 * n - 1.0) * (a + 2.0 * n))
        odd = -(a + n) * (a + b + n) * x / ((a + 2.0 * n) * (a + 2.0 * n + 1.0))
        return m.where(2.0 * n == k, even, odd), 1.0

    one = 1.0 + 0.0 * m.constant(z)
    part = front / p * fraction(m, used & (front > 0), one, coefficients, (p, q, z), 2)
    return m.where(swap, 1.0 - part, part), m.where(swap, part, 1.0 - part)


@numeric(x=lambda a, b, x: beta_density(a, b, x))
def betainc(m: Maths, a: Any, b: Any, x: Any) -> Any:
    """Return the regularised incomplete beta function I_x(a, b)."""
    inside, p, q, y = _valid_beta(m, a, b, x)
    out = m.where(inside, beta_both(m, inside, p, q, y, 1.0 - y)[0], math.nan)
    between = (a >= 0) & (b >= 0) & (x > 0) & (x < 1)
    all_low = ((a == 0) & (b > 0)) | ((b == math.inf) & (a < math.inf))
    all_high = ((b == 0) & (a > 0)) | ((a == math.inf) & (b < math.inf))
    out = m.where(between & all_low, 1.0, m.where(between & all_high, 0.0, out))
    at_end = (a > 0) & (b > 0) & ((x == 0) | (x == 1))
    return m.where(at_end, m.where(x == 0, 0.0, 1.0), out)


@numeric()
def beta_density(m: Maths, a: Any, b: Any, x: Any) -> Any:
    """Return ``x**(a - 1) (1 - x)**(b - 1) / beta(a, b)``."""
    inside, p, q, y = _valid_beta(m, a, b, x)
    out = _powers_over_beta(m, p, q, y, 1.0 - y) / (y * (1.0 - y))
    power, other = m.where(x == 0, a, b), m.where(x == 0, b, a)
    ends = m.where(power < 1, math.inf, m.where(power == 1, other, 0.0))
    ends = m.where((a > 0) & (b > 0) & ((x == 0) | (x == 1)), ends, math.nan)
    return m.where(inside, out, ends)


# ---------------------------------------------------------------------------------------- inverses
def _solve(
    m: Maths,
    used: Any,
    both: Callable[..., tuple[Any, Any, Any]],
    start: Any,
    consts: Sequence[Any],
) -> Any:
    """Solve ``P(u) = p``, or ``Q(u) = q``, by Newton's method in the logarithm of the smaller one.

    Args:
        both: ``both(u, *consts)`` gives P, Q = 1 - P and the derivative of P.
        start: a first u; the solution is sought between -800 and 800.
        consts: ends in p and q.
    """

    def going(u: Any, lo: Any, hi: Any, left: Any, *consts: Any) -> Any:
        return left > 0

    def step(k: Any, u: Any, lo: Any, hi: Any, left: Any, *consts: Any) -> Any:
        p, q = consts[-2:]
        value, rest, slope = both(u, *consts)
        low = p <= q
        gap = m.where(low, m.log(value / p), m.log(q / rest))
        hi, lo = m.where(gap > 0, u, hi), m.where(gap > 0, lo, u)
        new = u - gap * m.where(low, value, rest) / slope
        new = m.where((new > lo) & (new < hi), new, 0.5 * (lo + hi))
        close = m.abs(new - u) <= 1e-15 * m.maximum(m.abs(new), 1.0)
        return new, lo, hi, m.where(close, 0.0, left - 1.0)

    left = m.where(used, 200.0, 0.0) + 0.0 * m.constant(start)
    return m.loop(going, step, (start, -800.0, 800.0, left), consts)[0]


def _polished(m: Maths, x: Any, new: Any) -> Any:
    """Take a last step where it is a small one."""
    return m.where(m.abs(new - x) <= 1e-6 * x, new, x)


def _inverse_gamma(m: Maths, a: Any, p: Any, q: Any) -> tuple[Any, Any]:
    """Return where there is an x with P = p and Q = q, and that x."""
    inside = (a > 0) & (p > 0) & (q > 0) & (a < math.inf)
    b = m.where(inside, a, 1.0)
    p, q = m.where(inside, p, 0.5), m.where(inside, q, 0.5)

    def both(u: Any, a: Any, p: Any, q: Any) -> tuple[Any, Any, Any]:
        x = m.exp(u)
        value, rest = _lower_and_upper(m, a > 0, a, x, False)
        return value, rest, _power_over_gamma(m, a, x, False) * a

    # As if P were x**a / gamma(a + 1), which it is near 0.
    start = m.minimum((m.log(p) + m.lgamma(b + 1.0)) / b, m.log(b + 1.0))
    u = _solve(m, inside, both, m.maximum(start, -790.0), (b, p, q))
    x = m.exp(u)
    value, rest = _lower_and_upper(m, inside, b, x)
    gap = m.where(p <= q, value - p, q - rest)
    return inside, _polished(m, x, x - x * gap / (_power_over_gamma(m, b, x, False) * b))


def _edges(m: Maths, a: Any, p: Any, q: Any, inside: Any, x: Any) -> Any:
    ends = m.where((p == 0) & (a > 0), 0.0, m.where((q == 0) & (a > 0), math.inf, math.nan))
    return m.where(inside, x, ends)


@numeric(
    p=lambda a, p: 1 / gamma_density(a, gammaincinv(a, p)),
    a=lambda a, p: random_gamma_grad(a, gammaincinv(a, p)),
)
def gammaincinv(m: Maths, a: Any, p: Any) -> Any:
    """Return the x with P(a, x) = p."""
    return _edges(m, a, p, 1.0 - p, *_inverse_gamma(m, a, p, 1.0 - p))


@numeric(
    q=lambda a, q: -1 / gamma_density(a, gammainccinv(a, q)),
    a=lambda a, q: random_gamma_grad(a, gammainccinv(a, q)),
)
def gammainccinv(m: Maths, a: Any, q: Any) -> Any:
    """Return the x with Q(a, x) = q."""
    return _edges(m, a, 1.0 - q, q, *_inverse_gamma(m, a, 1.0 - q, q))


def _beta_slope(k: int) -> Callable[..., Any]:
    """Return the derivative of betaincinv in parameter k."""

    def partial(a: Any, b: Any, p: Any) -> Any:
        x = betaincinv(a, b, p)
        return -betainc.partial(k)(a, b, x) / beta_density(a, b, x)

    return partial


@numeric(
    p=lambda a, b, p: 1 / beta_density(a, b, betaincinv(a, b, p)),
    a=_beta_slope(0),
    b=_beta_slope(1),
)
def betaincinv(m: Maths, a: Any, b: Any, p: Any) -> Any:
    """Return the x with I_x(a, b) = p."""
    inside = (a > 0) & (b > 0) & (p > 0) & (p < 1) & (a < 1e8) & (b < 1e8)
    first, second = m.where(inside, a, 1.0), m.where(inside, b, 1.0)
    part = m.where(inside, p, 0.5)

    def places(u: Any) -> tuple[Any, Any]:
        """Return x and 1 - x of the logarithm of their ratio."""
        e = m.exp(-m.abs(u))
        small, large = e / (1.0 + e), 1.0 / (1.0 + e)
        return m.where(u > 0, large, small), m.where(u > 0, small, large)

    def both(u: Any, a: Any, b: Any, p: Any, q: Any) -> tuple[Any, Any, Any]:
        x, y = places(u)
        return *beta_both(m, a > 0, a, b, x, y), _powers_over_beta(m, a, b, x, y)

    start = m.log(first / second)
    u = _solve(m, inside, both, start, (first, second, part, 1.0 - part))
    x, y = places(u)
    value, rest = beta_both(m, inside, first, second, x, y)
    gap = m.where(part <= 0.5, value - part, (1.0 - part) - rest)
    x = _polished(m, x, x - x * y * gap / _powers_over_beta(m, first, second, x, y))
    valid = (a > 0) & (b > 0)
    ends = m.where(valid & (p == 0), 0.0, m.where(valid & (p == 1), 1.0, math.nan))
    return m.where(inside, x, ends)


# -------------------------------------------------------------------------------------------- zeta
def _hurwitz(m: Maths, used: Any, s: Any, q: Any) -> Any:
    """Return the sum of ``(q + k)**-s`` over k >= 0, continued to s < 1, for q > 0.

    Terms are added up to where the Euler-Maclaurin series of the rest converges fast.
    """

    def going(term: Any, total: Any, w: Any, s: Any, far: Any) -> Any:
        return (w < far) & (term > 0)

    def step(k: Any, term: Any, total: Any, w: Any, s: Any, far: Any) -> Any:
        term = m.power(w, -s)
        return term, total + term, w + 1.0

    far = m.where(used, 12.0 + 0.5 * m.abs(m.constant(s)), 0.0)
    _, total, w = m.loop(going, step, (1.0, 0.0, q), (s, far))
    inverse = 1.0 / (w * w)
    term, series = s / w, 0.5
    for k, b in enumerate(special.BERNOULLI):
        series = series + (b / math.factorial(2 * k + 2)) * term
        term = term * ((s + (2.0 * k + 1.0)) * (s + (2.0 * k + 2.0))) * inverse
    return total + m.power(w, -s) * (w / (s - 1.0) + series)


@numeric(q=lambda s, q: -s * hurwitz(s + 1, q))
def hurwitz(m: Maths, s: Any, q: Any) -> Any:
    """Return the Hurwitz zeta function: inf at its pole s = 1, nan for s < 1."""
    inside = (s > 1) & (q > 0) & (s < math.inf) & (q < math.inf)
    out = _hurwitz(m, inside, m.where(inside, s, 2.0), m.where(inside, q, 1.0))
    pole = (s == 1) | ((q <= 0) & (q == m.floor(q)) & (s > 1))
    out = m.where(inside, out, m.where(pole, math.inf, math.nan))
    ends = m.where(q > 1, 0.0, m.where(q == 1, 1.0, math.inf))
    out = m.where((s == math.inf) & (q > 0), ends, out)
    return m.where((q == math.inf) & (s > 1), 0.0, out)


@numeric()
def riemann(m: Maths, s: Any) -> Any:
    """Return the Riemann zeta function of any real number."""
    left, inside = s < 0, (s == s) & (m.abs(s) < math.inf) & (s != 1)
    t = m.where(inside, m.where(left, 1.0 - s, s), 2.0)
    value = _hurwitz(m, inside, t, 1.0 + 0.0 * m.constant(t))
    # zeta(s) = 2 (2 pi)**(s - 1) sin(pi s / 2) gamma(1 - s) zeta(1 - s), with an exact sine.
    s_left = m.where(left & inside, s, -1.5)
    turns = 0.5 * s_left - m.rint(0.5 * s_left)
    sign = m.where(m.floor(m.rint(0.5 * s_left) * 0.5) * 2.0 == m.rint(0.5 * s_left), 1.0, -1.0)
    size = m.exp(m.lgamma(1.0 - s_left) + (s_left - 1.0) * math.log(2 * math.pi))
    mirrored = 2.0 * sign * m.sin(math.pi * turns) * size * value
    out = m.where(left, mirrored, value)
    out = m.where(inside, out, m.where(s == math.inf, 1.0, math.nan))
    return m.where(s == 1, math.inf, out)
