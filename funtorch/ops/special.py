"""Special functions that array libraries lack: error functions and the gamma family, in float64.

All take the array library ``xp`` and a float64 array, evaluate every branch on arguments moved into
its range, and choose between them with ``where``: no loop runs over elements.

References:
    W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969).
    M. J. Wichura, "Algorithm AS 241: the percentage points of the normal distribution",
    Appl. Statist. 37 (1988), whose variables erf_inv's own rational fits (Lawson's weights with
    Loeb's linearisation, in 180-bit arithmetic) are in.
    M. B. Giles, "Approximating the erfinv function", GPU Computing Gems 2 (2010).
    S. L. Moshier, Cephes mathematical library, https://www.netlib.org/cephes (logf; log1p).
    XLA, https://github.com/openxla/xla: `log-plus-one` on CPUs, after Cephes.
    NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov: 5.7.3 (series of log
    gamma), 5.11.1-2 (asymptotics), 5.5 (recurrence, reflection), 5.15 (polygamma), 25.11.43
    (Hurwitz zeta).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = [
    "digamma",
    "erf",
    "erf_inv",
    "erf_inv_single",
    "erfc",
    "exp_single",
    "lgamma",
    "log1p_single",
    "log_single",
    "polygamma",
]


def _poly(coefficients: Sequence[float], x: Any) -> Any:
    """Evaluate a polynomial, highest power first."""
    total = coefficients[0]
    for c in coefficients[1:]:
        total = total * x + c
    return total


# ---- error functions Cody's approximations, highest power first: |x| <= 0.46875, <= 4, and beyond.
ERF_NUM = (
    1.85777706184603153e-1,
    3.16112374387056560,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
ERF_DEN = (
    1.0,
    2.36012909523441209e1,
    2.44024637934444173e2,
    1.28261652607737228e3,
    2.84423683343917062e3,
)
MID_NUM = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
MID_DEN = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)
FAR_NUM = (
    1.63153871373020978e-2,
    3.05326634961232344e-1,
    3.60344899949804439e-1,
    1.25781726111229246e-1,
    1.60837851487422766e-2,
    6.58749161529837803e-4,
)
FAR_DEN = (
    1.0,
    2.56852019228982242,
    1.87295284992346725,
    5.27905102951428412e-1,
    6.05183413124413191e-2,
    2.33520497626869185e-3,
)


def _erf_near(xp: Any, x: Any) -> Any:
    y = xp.minimum(xp.abs(x), 0.5)
    return x * (_poly(ERF_NUM, y * y) / _poly(ERF_DEN, y * y))


def _erfc_positive(xp: Any, y: Any) -> Any:
    """Return erfc of ``y >= 0.46875``."""
    mid, far = xp.clip(y, 0.4, 4.0), xp.clip(y, 4.0, 30.0)
    inverse = 1 / (far * far)
    tail = inverse * _poly(FAR_NUM, inverse) / _poly(FAR_DEN, inverse)
    scaled = xp.where(
        y <= 4, _poly(MID_NUM, mid) / _poly(MID_DEN, mid), (1 / math.sqrt(math.pi) - tail) / far
    )
    # exp(-y**2) from a y**2 split in two, the first part of which is exact.
    y = xp.clip(y, 0.0, 30.0)
    coarse = xp.trunc(y * 16) / 16
    return xp.exp(-coarse * coarse) * xp.exp(-(y - coarse) * (y + coarse)) * scaled


def erf(xp: Any, x: Any) -> Any:
    """Return the error function of a float64 array."""
    y = xp.abs(x)
    out = xp.where(y <= 0.46875, _erf_near(xp, x), xp.copysign(1 - _erfc_positive(xp, y), x))
    return xp.where(xp.isnan(x), x, out)


def erfc(xp: Any, x: Any) -> Any:
    """Return ``1 - erf(x)`` of a float64 array, accurate where erf is near 1."""
    y = xp.abs(x)
    tail = _erfc_positive(xp, y)
    out = xp.where(y <= 0.46875, 1 - _erf_near(xp, x), xp.where(x < 0, 2 - tail, tail))
    return xp.where(xp.isnan(x), x, out)


# erf_inv, highest power first. Up to 0.85: (erf_inv(x) / x - sqrt(pi) / 2) / x**2 in
# 0.85**2 - x**2. Beyond: r - erf_inv(x) in r - 1.6, with r = sqrt(-log((1 - x) / 2)).
CENTRE_NUM = (
    0.002552401335102766,
    0.6930801876114681,
    6.7424294931965,
    20.025694978478356,
    25.183737983112795,
    14.97053302691545,
    4.149229620447833,
    0.43087250673264127,
)
CENTRE_DEN = (
    1.0594130208689465,
    14.882456751948839,
    62.86437299256374,
    114.51426398234462,
    103.4089446487652,
    48.29749492910814,
    11.135910915365667,
    1.0,
)
TAIL_NUM = (
    2.7425969450984965e-09,
    3.910052688405661e-06,
    0.00026677278348943986,
    0.005601156635819117,
    0.05279801393454695,
    0.26442563055556845,
    0.7338031954388895,
    1.0485178990385446,
    0.5934779663963121,
)
TAIL_DEN = (
    1.167469124143899e-06,
    0.00010740857982133259,
    0.002889015855853113,
    0.03467878742044021,
    0.2240865442940137,
    0.8417762157276235,
    1.8300226234237875,
    2.1164704486775685,
    1.0,
)


def erf_inv(xp: Any, x: Any) -> Any:
    """Return the inverse of erf on (-1, 1): infinite at the ends, nan outside."""
    size = xp.abs(x)
    z = xp.minimum(size, 0.85) ** 2
    near = 0.85**2 - z
    centre = _poly(CENTRE_NUM, near) / _poly(CENTRE_DEN, near)
    centre = x * (math.sqrt(math.pi) / 2) + x * z * centre
    r = xp.sqrt(-xp.log(xp.clip((1 - size) / 2, 1e-300, 0.075)))
    beyond = r - 1.6
    tail = r - _poly(TAIL_NUM, beyond) / _poly(TAIL_DEN, beyond)
    out = xp.where(size <= 0.85, centre, xp.copysign(tail, x))
    out = xp.where(size == 1, xp.copysign(math.inf, x), out)
    return xp.where(size <= 1, out, math.nan)


# ---- erf_inv of float32 rounds where XLA's compiled code does. A product of float32 numbers is
# exact in float64, so a sum made there and then rounded is a fused multiply-add.
def _single(*coefficients: float) -> tuple[float, ...]:
    return tuple(float(np.float32(c)) for c in coefficients)


# Giles' single-precision approximations in w = -log(1 - x**2), highest power first: w < 5, beyond.
GILES_CENTRE = _single(
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
GILES_TAIL = _single(
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)
# log(1 + f) = f - f**2 / 2 + f**3 (p f**6 + q f**3 + r), each row a polynomial in f.
LOGF = (
    _single(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1),
    _single(-1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1),
    _single(2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
)
LN2_HIGH, LN2_LOW = _single(0.693359375, -2.12194440e-4)
# log(1 + z) = z - z**2 / 2 + z**3 P(z) / Q(z), highest power first.
LOG1P_NUM64 = (
    4.5270000862445199635215e-5,
    4.9854102823193375972212e-1,
    6.5787325942061044846969,
    2.9911919328553073277375e1,
    6.0949667980987787057556e1,
    5.7112963590585538103336e1,
    2.0039553499201281259648e1,
)
LOG1P_DEN64 = (
    1.0,
    1.5062909083469192043167e1,
    8.3047565967967209469434e1,
    2.2176239823732856465394e2,
    3.0909872225312059774938e2,
    2.1642788614495947685003e2,
    6.0118660497603843919306e1,
)
LOG1P_LIMIT = 0.41421356237309504880  # sqrt(2) - 1, from which log(1 + z) is taken as it stands
LOG1P_NUM, LOG1P_DEN = _single(*LOG1P_NUM64), _single(*LOG1P_DEN64)
# exp(r) = 1 + r + r**2 E(r) for r within log(2) / 2 of 0, highest power first.
EXP_TERMS = _single(
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)
EXP_LIMITS = _single(-88.0, 88.72284)  # beyond them exp is 0 and inf
TINY = np.finfo(np.float32).tiny  # XLA's code takes subnormal numbers for 0
LOG2_E = 1.44269504088896341
ROOT_HALF_BITS = 0x3F3504F3  # sqrt(1/2) as a float32
_SINGLE_CHUNK = 1 << 14  # elements worked on at a time, which stay in the near caches


def _fused(x: Any, wide: Any, z: Any) -> Any:
    """Return ``x * wide + z`` rounded once; ``wide`` holds float32 values in float64."""
    return (x * wide + z).astype(np.float32)


def _poly_fused(xp: Any, coefficients: Sequence[float], wide: Any) -> Any:
    """Evaluate a float32 polynomial by fused multiply-adds."""
    total = wide * coefficients[0]
    total += coefficients[1]
    rounded = xp.empty(wide.shape, np.float32)
    for c in coefficients[2:]:
        rounded[...] = total
        total[...] = rounded
        total *= wide
        total += c
    return total.astype(np.float32)


def _log_single(xp: Any, x: Any) -> Any:
    """Return log(x) of float32 numbers, nan below zero."""
    bits = x.view(np.int32)
    exponent = (bits - np.int32(ROOT_HALF_BITS)) >> 23
    f = (bits - (exponent << 23)).view(np.float32) - np.float32(1)
    n, square, wide = exponent.astype(np.float32), f * f, f.astype(np.float64)
    cube = (square * f).astype(np.float64)
    high, middle, low = (_poly_fused(xp, part, wide) for part in LOGF)
    tail = _fused(_fused(_fused(high, cube, middle), cube, low), cube, n * np.float32(LN2_LOW))
    out = _fused(n, LN2_HIGH, (f - np.float32(0.5) * square) + tail)
    out[x < TINY] = -math.inf
    out[x == math.inf] = math.inf
    out[~(x >= 0)] = math.nan
    return out


def _log1p_near_zero(xp: Any, z: Any) -> Any:
    wide, square = z.astype(np.float64), z * z
    ratio = _poly_fused(xp, LOG1P_NUM, wide) / _poly_fused(xp, LOG1P_DEN, wide)
    return z + (z * square * ratio - np.float32(0.5) * square)


def _log1p_single(xp: Any, z: Any) -> Any:
    """Return log(1 + z) of a float32 vector."""
    near = xp.abs(z) < np.float32(LOG1P_LIMIT)
    (here,), (there,) = xp.nonzero(near), xp.nonzero(~near)
    out = xp.empty_like(z)
    out[here] = _log1p_near_zero(xp, z[here])
    out[there] = _log_single(xp, np.float32(1) + z[there])
    return out


def _giles(xp: Any, x: Any) -> Any:
    w = -_log1p_single(xp, x * -x)
    factor = _poly_fused(xp, GILES_CENTRE, (w - np.float32(2.5)).astype(np.float64))
    (far,) = xp.nonzero(~(w < 5))
    if far.size:
        root = xp.sqrt(w[far]) - np.float32(3)
        factor[far] = _poly_fused(xp, GILES_TAIL, root.astype(np.float64))
        factor[xp.abs(x) == 1] = math.inf
    return factor * x


def _exp_single(xp: Any, x: Any) -> Any:
    """Return exp of a float32 vector."""
    n = xp.rint(xp.clip(x, *EXP_LIMITS) * np.float32(LOG2_E))
    wide = -n.astype(np.float64)
    r = _fused(_fused(LN2_HIGH, wide, x), 1, wide * LN2_LOW)
    wide = r.astype(np.float64)
    out = _fused(_poly_fused(xp, EXP_TERMS, wide), (r * r).astype(np.float64), r) + np.float32(1)
    out = xp.ldexp(out, n.astype(np.int32))
    out[x > EXP_LIMITS[1]] = math.inf
    out[out < TINY] = 0
    out[x != x] = math.nan
    return out


def _by_chunks(vector: Callable[[Any, Any], Any], name: str) -> Callable[[Any, Any], Any]:
    """Return a function of float32 arrays from one of vectors."""

    def single(xp: Any, x: Any) -> Any:
        flat, out = xp.ascontiguousarray(x).reshape(-1), xp.empty(x.size, np.float32)
        for start in range(0, x.size, _SINGLE_CHUNK):
            part = slice(start, start + _SINGLE_CHUNK)
            out[part] = vector(xp, flat[part])
        return out.reshape(x.shape)

    single.__name__ = name
    single.__doc__ = (
        f"Return {name} of a float32 array, to the bit as XLA computes it on CPUs.\n\n"
        "    Random numbers are made with it, which should be those of JAX for a key. Hence the\n"
        "    formulas of Cephes, which the most accurate ones would not do for.\n    "
    )
    return single


erf_inv_single = _by_chunks(_giles, "erf_inv")
log_single = _by_chunks(_log_single, "log")
log1p_single = _by_chunks(_log1p_single, "log1p")
exp_single = _by_chunks(_exp_single, "exp")


# ------------------------------------------------------------------------------------- gamma family
# B_2, B_4, ... , B_24.
BERNOULLI = (
    1 / 6,
    -1 / 30,
    1 / 42,
    -1 / 30,
    5 / 66,
    -691 / 2730,
    7 / 6,
    -3617 / 510,
    43867 / 798,
    -174611 / 330,
    854513 / 138,
    -236364091 / 2730,
)
# log gamma(x) / ((x - 1) (x - 2)) in x - 1.5 on [1, 2], and log gamma(x) / (x - 2) in x - 2.5 on
# [2, 3], minimax fits, highest power first.
LGAMMA_FROM_1 = (
    1.2166236478041306e-05,
    -1.8541607453616834e-05,
    1.3153170415567502e-05,
    -2.1471332672471332e-05,
    4.304517281810393e-05,
    -6.794550357640756e-05,
    0.00010534996534454024,
    -0.00016856956295981606,
    0.00027131465917808547,
    -0.0004380355233839491,
    0.0007115189656996133,
    -0.001164411341719942,
    0.00192291631966502,
    -0.0032120742226512695,
    0.005446457838858099,
    -0.009425622444765974,
    0.016797098631279518,
    -0.031308487501054166,
    0.06291140107456435,
    -0.14595989591430594,
    0.4831289505409809,
)
LGAMMA_FROM_2 = (
    4.000321637318493e-08,
    -1.0228241200687264e-07,
    2.3417025466554182e-07,
    -6.362400897386658e-07,
    1.746091962622825e-06,
    -4.787625203134017e-06,
    1.3275625099823823e-05,
    -3.735322392696674e-05,
    0.00010710021889475135,
    -0.00031505925957488765,
    0.0009610979280909049,
    -0.003095182293330563,
    0.010877001514208262,
    -0.04480584269738799,
    0.26758179939880966,
    0.5693657409458384,
)
# The Stirling series in 1 / x**2, highest power first.
STIRLING = tuple(b / (2 * k * (2 * k - 1)) for k, b in enumerate(BERNOULLI[:8], 1))[::-1]
# digamma(x) / (x - root) in x - 1.5 on [1, 2], its root in two parts, and
# (digamma(w + 1/2) - log w) w**2 in 1 / w**2 for w >= 1.5, highest power first.
DIGAMMA_NEAR = (
    0.0002572445891163656,
    -0.0003786249860519737,
    0.0002302776068387713,
    -0.0003544851602944251,
    0.0007217126639510573,
    -0.0010778257424107428,
    0.0015571053496828517,
    -0.0023375144831430383,
    0.003518922439150558,
    -0.00528090928185541,
    0.007926953856520508,
    -0.011908145901472782,
    0.01790725182459667,
    -0.026975800064768116,
    0.04076083383598938,
    -0.061922133189608465,
    0.09498872445448249,
    -0.14840492305487415,
    0.2405424842407777,
    -0.4236274212814572,
    0.9510558760318328,
)
DIGAMMA_ROOT = (1.4616321325302124, 1.2438149938918909e-08)
DIGAMMA_NUM = (
    0.02916181335218891,
    1.2511600023097604,
    5.570653460407451,
    7.309942699887229,
    3.5997363450256694,
    0.6869040050846243,
    0.041666666666666526,
)
DIGAMMA_DEN = (
    3.19472708490419,
    46.888797664484905,
    160.1183421644612,
    189.61367646944655,
    89.21703219867297,
    16.660696122025495,
    1.0,
)


def _lgamma_positive(xp: Any, x: Any) -> Any:
    # Below 8.5, step down to [2, 3).
    z = xp.minimum(x, 8.5)
    product = xp.ones_like(x)
    for _ in range(6):
        above = z >= 3
        product = xp.where(above, product * (z - 1), product)
        z = xp.where(above, z - 1, z)
    # Below 1, lgamma(z) = lgamma(z + 1) - log(z).
    below, two = z < 1, z >= 2
    t = z - xp.where(below, 0.5, 1.5)
    near_1 = xp.where(below, z * (z - 1), (z - 1) * (z - 2)) * _poly(LGAMMA_FROM_1, t)
    near = xp.where(two, (z - 2) * _poly(LGAMMA_FROM_2, z - 2.5), near_1)
    logarithm = xp.log(xp.where(below, z, product))
    near = near + xp.where(below, -logarithm, logarithm)
    big = xp.maximum(x, 8.0)
    series = _poly(STIRLING, 1 / (big * big)) / big
    stirling = (big - 0.5) * xp.log(big) - big + (0.5 * math.log(2 * math.pi) + series)
    return xp.where(x < 8.5, near, xp.where(xp.isinf(x), math.inf, stirling))


def lgamma(xp: Any, x: Any) -> Any:
    """Return the logarithm of the absolute value of the gamma function of a float64 array."""
    y = xp.abs(x)
    positive = _lgamma_positive(xp, xp.maximum(y, 1e-100))
    negative = x < 0
    part = xp.where(negative, y - xp.rint(y), 0.25)
    sine = xp.abs(xp.sin(math.pi * part))
    # gamma(x) gamma(-x) = -pi / (x sin(pi x)); near zero gamma(x) = 1 / x.
    reflected = xp.log(math.pi / (xp.where(negative, y, 1.0) * sine)) - positive
    out = xp.where(y < 1e-100, -xp.log(y), xp.where(negative, reflected, positive))
    out = xp.where((x == 0) | xp.isinf(x) | (negative & (part == 0)), math.inf, out)
    return xp.where(xp.isnan(x), x, out)


def _digamma_positive(xp: Any, x: Any) -> Any:
    w = xp.maximum(x, 2.0) - 0.5
    u = 1 / (w * w)
    far = xp.log(w) + u * (_poly(DIGAMMA_NUM, u) / _poly(DIGAMMA_DEN, u))
    # Below 1, digamma(x) = digamma(x + 1) - 1 / x, without rounding x + 1.
    z, (high, low) = xp.minimum(x, 2.0), DIGAMMA_ROOT
    below = z < 1
    t = z - xp.where(below, 0.5, 1.5)
    near = ((z - xp.where(below, high - 1, high)) - low) * _poly(DIGAMMA_NEAR, t)
    return xp.where(x < 2, near - xp.where(below, 1 / z, 0.0), far)


def _cot_pi(xp: Any, x: Any) -> Any:
    part = x - xp.rint(x)
    return 1 / xp.tan(math.pi * part)


def digamma(xp: Any, x: Any) -> Any:
    """Return the derivative of `lgamma` of a float64 array: -inf at 0, nan at negative integers."""
    negative = x <= 0
    out = _digamma_positive(xp, xp.where(negative, 1 - x, x))
    out = xp.where(negative, out - math.pi * _cot_pi(xp, xp.where(negative, x, 0.25)), out)
    out = xp.where(negative & (x == xp.rint(x)), math.nan, out)
    return xp.where(x == 0, -math.inf, out)


@functools.cache
def euler_maclaurin(s: int) -> tuple[float, ...]:
    """Return ``B_2k s (s + 1) ... (s + 2k - 2) / (2k)!`` for k = 1, 2, ..., highest k first."""
    return tuple(
        b * math.prod(range(s, s + 2 * k - 1)) / math.factorial(2 * k)
        for k, b in enumerate(BERNOULLI, 1)
    )[::-1]


def hurwitz_terms(s: int) -> int:
    """Return from where on Euler-Maclaurin's sum of powers -s has all digits."""
    return max(10, s + 6)


def _hurwitz(xp: Any, s: int, x: Any) -> Any:
    """Return the sum of ``(x + k) ** -s`` over k >= 0 for x > 0.

    For small x it is a number of terms, the smallest added first, and Euler-Maclaurin's sum of the
    rest.
    """
    terms = hurwitz_terms(s)
    few = x < terms
    w = xp.where(few, x + terms, x)
    v = 1 / w
    series = v * _poly(euler_maclaurin(s), v * v)
    total = w ** (1 - s) * (1 / (s - 1) + v * (0.5 + series))
    for k in reversed(range(terms)):
        total = xp.where(few, total + (x + k) ** -s, total)
    return total


def cot_derivative(n: int) -> list[float]:
    """Return the n-th derivative of cot as a polynomial in cot, highest power first."""
    lowest_first = [0.0, 1.0]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(lowest_first)][1:]
        lowest_first = [
            -(a + b) for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)
        ]
    return lowest_first[::-1]


def polygamma(xp: Any, x: Any, *, n: int) -> Any:
    """Return the n-th derivative (n >= 1) of `digamma` of a float64 array."""
    negative = x <= 0
    out = (-1) ** (n + 1) * math.factorial(n) * _hurwitz(xp, n + 1, xp.where(negative, 1 - x, x))
    cot = _cot_pi(xp, xp.where(negative, x, 0.25))
    reflected = (-1) ** n * out - math.pi ** (n + 1) * _poly(cot_derivative(n), cot)
    return xp.where(negative, reflected, out)
