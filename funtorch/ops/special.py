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

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["digamma", "erf", "erf_inv", "erf_inv_single", "erfc", "lgamma", "polygamma"]


def _poly(coefficients: Sequence[float], x: Any) -> Any:
    """Evaluate a polynomial, highest power first."""
    total = coefficients[0]
    for c in coefficients[1:]:
        total = total * x + c
    return total


# ---- error functions Cody's approximations, highest power first: |x| <= 0.46875, <= 4, and beyond.
_ERF_NUM = (
    1.85777706184603153e-1,
    3.16112374387056560,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_ERF_DEN = (
    1.0,
    2.36012909523441209e1,
    2.44024637934444173e2,
    1.28261652607737228e3,
    2.84423683343917062e3,
)
_MID_NUM = (
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
_MID_DEN = (
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
_FAR_NUM = (
    1.63153871373020978e-2,
    3.05326634961232344e-1,
    3.60344899949804439e-1,
    1.25781726111229246e-1,
    1.60837851487422766e-2,
    6.58749161529837803e-4,
)
_FAR_DEN = (
    1.0,
    2.56852019228982242,
    1.87295284992346725,
    5.27905102951428412e-1,
    6.05183413124413191e-2,
    2.33520497626869185e-3,
)


def _erf_near(xp: Any, x: Any) -> Any:
    y = xp.minimum(xp.abs(x), 0.5)
    return x * (_poly(_ERF_NUM, y * y) / _poly(_ERF_DEN, y * y))


def _erfc_positive(xp: Any, y: Any) -> Any:
    """Return erfc of ``y >= 0.46875``."""
    mid, far = xp.clip(y, 0.4, 4.0), xp.clip(y, 4.0, 30.0)
    inverse = 1 / (far * far)
    tail = inverse * _poly(_FAR_NUM, inverse) / _poly(_FAR_DEN, inverse)
    scaled = xp.where(
        y <= 4, _poly(_MID_NUM, mid) / _poly(_MID_DEN, mid), (1 / math.sqrt(math.pi) - tail) / far
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
LOG1P_NUM = _single(
    4.5270000862445199635215e-5,
    4.9854102823193375972212e-1,
    6.5787325942061044846969,
    2.9911919328553073277375e1,
    6.0949667980987787057556e1,
    5.7112963590585538103336e1,
    2.0039553499201281259648e1,
)
LOG1P_DEN = _single(
    1.0,
    1.5062909083469192043167e1,
    8.3047565967967209469434e1,
    2.2176239823732856465394e2,
    3.0909872225312059774938e2,
    2.1642788614495947685003e2,
    6.0118660497603843919306e1,
)
LOG1P_LIMIT = 0.41421356237309504880  # sqrt(2) - 1, from which log(1 + z) is taken as it stands
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
    out[x == 0] = -math.inf
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


def erf_inv_single(xp: Any, x: Any) -> Any:
    """Return the inverse of erf of a float32 array, to the bit as XLA computes it on CPUs.

    Normal random numbers are made with it, which should be those of JAX for the same key. Hence
    too its own log1p, after Cephes, that the most accurate one would not do for.
    """
    flat, out = xp.ascontiguousarray(x).reshape(-1), xp.empty(x.size, np.float32)
    for start in range(0, x.size, _SINGLE_CHUNK):
        part = slice(start, start + _SINGLE_CHUNK)
        out[part] = _giles(xp, flat[part])
    return out.reshape(x.shape)


# ------------------------------------------------------------------------------------- gamma family
_EULER = 0.57721566490153286061
# B_2, B_4, ... , B_24.
_BERNOULLI = (
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


def _zeta_minus_one(s: int) -> float:
    """Return ``zeta(s) - 1`` for s >= 2: a sum, and Euler-Maclaurin's estimate of its tail."""
    head, n = math.fsum(k**-s for k in range(2, 200)), 200.0
    return (
        head
        + n ** (1 - s) / (s - 1)
        + n**-s / 2
        + s * n ** (-s - 1) / 12
        - (s * (s + 1) * (s + 2) * n ** (-s - 3) / 720)
    )


# log gamma(2 + z) = (1 - Euler) z + sum over k >= 2 of (-1)**k (zeta(k) - 1) z**k / k, highest
# power first.
_LGAMMA_AT_2 = (*((-1) ** k * _zeta_minus_one(k) / k for k in range(30, 1, -1)), 1 - _EULER, 0.0)
# The Stirling series in 1 / x**2, highest first.
_STIRLING = tuple(b / (2 * k * (2 * k - 1)) for k, b in enumerate(_BERNOULLI[:8], 1))[::-1]
_DIGAMMA = tuple(b / (2 * k) for k, b in enumerate(_BERNOULLI[:8], 1))[::-1]


def _lgamma_positive(xp: Any, x: Any) -> Any:
    # Below 8.5, step to within a half of 2, where the zeros at 1 and 2 come out exactly.
    small = xp.minimum(x, 8.5)
    product = xp.ones_like(x)
    for _ in range(7):
        above = small > 2.5
        product = xp.where(above, product * (small - 1), product)
        small = xp.where(above, small - 1, small)
    near_2 = xp.log(product)
    # lgamma(x) = lgamma(x + 1) - log(x) once below 1.5, twice below 0.5.
    once, twice = small < 1.5, small < 0.5
    z = xp.where(twice, small, xp.where(once, small - 1, small - 2))
    near_2 = near_2 + _poly(_LGAMMA_AT_2, z)
    near_2 = near_2 - xp.where(once, xp.log1p(xp.where(once, z, 0.0)), 0.0)
    near_2 = near_2 - xp.where(twice, xp.log(xp.where(twice, small, 1.0)), 0.0)
    big = xp.maximum(x, 8.0)
    series = _poly(_STIRLING, 1 / (big * big)) / big
    stirling = (big - 0.5) * xp.log(big) - big + (0.5 * math.log(2 * math.pi) + series)
    return xp.where(x < 8.5, near_2, xp.where(xp.isinf(x), math.inf, stirling))


def lgamma(xp: Any, x: Any) -> Any:
    """Return the logarithm of the absolute value of the gamma function of a float64 array."""
    y = xp.abs(x)
    positive = _lgamma_positive(xp, xp.maximum(y, 1e-305))
    negative = x < 0
    part = xp.where(negative, y - xp.rint(y), 0.25)
    sine = xp.abs(xp.sin(math.pi * part))
    reflected = math.log(math.pi) - xp.log(xp.where(negative, y, 1.0)) - xp.log(sine) - positive
    out = xp.where(negative, reflected, positive)
    out = xp.where((x == 0) | xp.isinf(x) | (negative & (part == 0)), math.inf, out)
    return xp.where(xp.isnan(x), x, out)


def _digamma_positive(xp: Any, x: Any) -> Any:
    steps = xp.zeros_like(x)
    for _ in range(9):
        below = x < 9
        steps = xp.where(below, steps + 1 / xp.where(below, x, 1.0), steps)
        x = xp.where(below, x + 1, x)
    inverse = 1 / (x * x)
    return xp.log(x) - 0.5 / x - inverse * _poly(_DIGAMMA, inverse) - steps


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


def _hurwitz(xp: Any, s: int, x: Any) -> Any:
    """Return the sum of ``(x + k) ** -s`` over k >= 0 for x > 0: ten terms and Euler-Maclaurin."""
    total = xp.zeros_like(x)
    for k in range(10):
        total = total + (x + k) ** -s
    w = x + 10
    total = total + w ** (1 - s) / (s - 1) + w**-s / 2
    term = s * w ** (-s - 1) / 2
    for k, b in enumerate(_BERNOULLI, 1):
        total = total + b * term
        term = term * ((s + 2 * k - 1) * (s + 2 * k) / ((2 * k + 1) * (2 * k + 2))) / (w * w)
    return total


def _cot_derivative(n: int) -> list[float]:
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
    reflected = (-1) ** n * out - math.pi ** (n + 1) * _poly(_cot_derivative(n), cot)
    return xp.where(negative, reflected, out)
