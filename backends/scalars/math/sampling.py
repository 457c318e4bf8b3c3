"""What random numbers are made of: the cipher, and functions that round as the eager rules round.

float32 functions give the bits of `funtorch.ops.special` (`exp_single` and so on), which are those
that XLA's compiled code gives; every fused multiply-add is one here. float64 agrees to a few units
in the last place.

References:
    M. B. Giles, "Approximating the erfinv function", GPU Computing Gems 2 (2010).
    S. L. Moshier, Cephes mathematical library, https://www.netlib.org/cephes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from funtorch.ops import sampling, special
from funtorch.ops.bits import PARITY, ROTATIONS

from .exponential import exp
from .logarithm import log
from .values import Value, absolute, fma, mad, maximum, minimum, select, sqrt

__all__ = [
    "erf_inv_single",
    "sampled_erf_inv",
    "sampled_exp",
    "sampled_log",
    "sampled_log1p",
    "threefry2x32",
]


def threefry2x32(k0: Value, k1: Value, x0: Value, x1: Value, *, result: int) -> Value:
    """Return one of the two words that the counters (x0, x1) are encrypted to."""
    schedule = (k0, k1, k0 ^ k1 ^ PARITY)
    y0, y1 = x0 + k0, x1 + k1
    for step in range(5):
        for r in ROTATIONS[step % 2]:
            y0 = y0 + y1
            y1 = y1.call("llvm.fshl", y1, r) ^ y0
        y0 = y0 + schedule[(step + 1) % 3]
        y1 = y1 + (schedule[(step + 2) % 3] + (step + 1))
    return (y0, y1)[result]


def _fused(x: Value, coefficients: Sequence[float]) -> Value:
    """Evaluate a polynomial, highest power first, by fused multiply-adds."""
    total = x.like(coefficients[0])
    for c in coefficients[1:]:
        total = fma(x, total, c)
    return total


def _unfused(x: Value, coefficients: Sequence[float]) -> Value:
    """Evaluate a polynomial, highest power first."""
    total = x.like(coefficients[0])
    for c in coefficients[1:]:
        total = mad(x, total, x.like(c))
    return total


# ---------------------------------------------------------------------- float32
def _log_single(x: Value) -> Value:
    bits = x.bits()
    exponent = (bits - special.ROOT_HALF_BITS) >> 23
    f = (bits - (exponent << 23)).unbits() - 1.0
    n = exponent.to_float()
    square = f * f
    cube = square * f
    high, middle, low = (_fused(f, part) for part in special.LOGF)
    tail = fma(fma(fma(high, cube, middle), cube, low), cube, n * special.LN2_LOW)
    out = fma(n, special.LN2_HIGH, (f - square * 0.5) + tail)
    out = select(x < float(special.TINY), x.like(-math.inf), out)
    out = select(x.equals(math.inf), x, out)
    return select(x >= 0.0, out, math.nan)


def _log1p_near(z: Value, ratio: Value) -> Value:
    square = z * z
    return z + (z * square * ratio - square * 0.5)


def _log1p_single(z: Value) -> Value:
    near = _log1p_near(z, _fused(z, special.LOG1P_NUM) / _fused(z, special.LOG1P_DEN))
    return select(absolute(z) < special.LOG1P_LIMIT, near, _log_single(z + 1.0))


def _exp_single(x: Value) -> Value:
    least, most = special.EXP_LIMITS
    clamped = maximum(x.like(least), minimum(x.like(most), x))
    n = (clamped * special.LOG2_E).call("llvm.rint")
    r = fma(-n, special.LN2_LOW, fma(-n, special.LN2_HIGH, x))
    out = fma(_fused(r, special.EXP_TERMS), r * r, r) + 1.0
    # 2**n as two factors, for n may be one more than an exponent can be.
    magic = n.like(n.format.magic)
    whole = (n + magic).bits() - magic.bits()
    half = whole >> 1
    for part in (half, whole - half):
        out = out * ((part + 127) << 23).unbits()
    out = select(x > most, x.like(math.inf), out)
    out = select(out < float(special.TINY), x.like(0.0), out)
    return select(x.is_nan(), x.like(math.nan), out)


def erf_inv_single(x: Value) -> Value:
    """Return the inverse of erf of a float, by Giles' approximation in single precision."""
    w = -_log1p_single(x * -x)
    tail = _fused(sqrt(w) - 3.0, special.GILES_TAIL)
    tail = select(absolute(x).equals(1.0), x.like(math.inf), tail)
    return select(w < 5.0, _fused(w - 2.5, special.GILES_CENTRE), tail) * x


# ---------------------------------------------------------------------- float64
def _log1p_double(z: Value) -> Value:
    ratio = _unfused(z, special.LOG1P_NUM64) / _unfused(z, special.LOG1P_DEN64)
    return select(absolute(z) < special.LOG1P_LIMIT, _log1p_near(z, ratio), log(z + 1.0))


def _erf_inv_double(x: Value) -> Value:
    """Return the inverse of erf of a double, by Giles' approximation in double precision."""
    w = -_log1p_double(x * -x)
    centre, middle = w < 6.25, w < 16.0
    root = sqrt(w)
    at = select(centre, w - 3.125, root - select(middle, x.like(3.25), 5.0))
    tables = (sampling.CENTRE, sampling.MIDDLE, sampling.TAIL)
    size = max(map(len, tables))
    rows = [(0.0,) * (size - len(t)) + tuple(t) for t in tables]
    total = x.like(0.0)
    for c, m, t in zip(*rows, strict=True):
        total = mad(at, total, select(centre, x.like(c), select(middle, x.like(m), t)))
    return select(absolute(x).equals(1.0), x * math.inf, total * x)


Formula = Callable[[Value], Value]


def _of_both(name: str, single: Formula, double: Formula) -> Formula:
    """Return the formula of a name that is one formula for floats and another for doubles."""

    def formula(x: Value) -> Value:
        return single(x) if x.kind == "float" else double(x)

    formula.__name__ = name
    return formula


sampled_log = _of_both("sampled_log", _log_single, log)
sampled_log1p = _of_both("sampled_log1p", _log1p_single, _log1p_double)
sampled_exp = _of_both("sampled_exp", _exp_single, exp)
sampled_erf_inv = _of_both("sampled_erf_inv", erf_inv_single, _erf_inv_double)
