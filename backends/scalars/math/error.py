"""erf, erfc and the inverse of erf.

With a = abs(x): erf is an odd polynomial up to 1, and 1 - erfc(a) from there. erfc is
``exp(-a**2) / (1 + 2 a)`` times a polynomial in (a - k) / (a + k); where only 1 - erfc(a) counts,
float32 takes ``2**P(a)``. Polynomials are minimax fits, relative to the function (Remez's
exchange, or Lawson's weights where that stalls, in 160-bit arithmetic).

The inverse is that of the eager rules: in float32 to the bit, which is what XLA computes; in
float64 by the same rational functions, with coefficients chosen by interval.

References:
    M. M. Shepherd, J. G. Laframboise, "Chebyshev approximation of (1 + 2x) exp(x**2) erfc x in
    0 <= x < inf", Math. Comp. 36 (1981).
    C. L. Lawson, "Contributions to the theory of linear least maximum approximation", 1961.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from funtorch.ops import special

from .exponential import exp_of_negative, scaled
from .logarithm import log
from .sampling import erf_inv_single
from .values import Value, absolute, copysign, fma, mad, maximum, minimum, poly, select, sqrt

__all__ = ["erf", "erf_inv", "erfc"]

# erf(x) / x - 1 in powers of x**2, |x| <= 1.
_ERF_NEAR = {
    "float": (
        0.12837917,
        -0.37612626,
        0.11283579,
        -0.026853347,
        0.005187162,
        -0.0007997853,
        7.806904e-05,
    ),
    "double": (
        0.12837916709551256,
        -0.3761263890318352,
        0.1128379167094418,
        -0.02686617064311047,
        0.005223977606108972,
        -0.0008548325928805558,
        0.00012055293560333574,
        -1.4924711961973514e-05,
        1.644712714755212e-06,
        -1.6206278376701112e-07,
        1.371082168319956e-08,
        -7.779162857162606e-10,
    ),
}
# log2(erfc(a)) on 1 <= a <= 3.95, where float32 erf becomes 1, and 2**r for abs(r) <= 1/2.
_ERFC_LOG2 = (
    -0.0004925538,
    -1.6260465,
    -0.9206476,
    -0.14875214,
    0.031505864,
    -0.0042526084,
    0.000268891,
)
_EXP2 = (1.0000001, 0.6931474, 0.24021919, 0.055497527, 0.00968482, 0.0013637103)
_ERF_ONE = 3.95
# k, the largest a that counts, and (1 + 2 a) exp(a**2) erfc(a) in powers of (a - k) / (a + k).
_ERFC = {
    "float": (
        2.0,
        10.1,
        (
            1.2769784,
            -0.09276412,
            -0.16603005,
            0.16405725,
            -0.054217238,
            -0.0080703925,
            0.008670594,
            0.0013427916,
            -0.0012674138,
            -0.00043129208,
        ),
    ),
    "double": (
        4.0,
        27.4,
        (
            1.2329951186255526,
            -0.13962111684056286,
            0.015379652102620083,
            0.06809705425473402,
            -0.10103906603632035,
            0.09373283499690085,
            -0.06633036581211398,
            0.03716751556087568,
            -0.016197734053817924,
            0.0050319697695242575,
            -0.0007577733676860827,
            -0.00019925557654716127,
            0.00015062231648103422,
            -2.4402953144954434e-05,
            -1.122488899465748e-05,
            5.717470867249364e-06,
            3.0137420138267286e-07,
            -8.34691161627965e-07,
            6.281344735823096e-08,
            1.1507315355494577e-07,
            -7.831742295990162e-09,
            -1.3611110261543343e-08,
            -1.7880983345982857e-09,
        ),
    ),
}


def _erfc_positive(a: Value) -> Value:
    """Return erfc(a) for a >= 0; what exp(-a**2) loses by rounding a**2 is put back."""
    k, most, terms = _ERFC[a.kind]
    a = minimum(a.like(most), a)
    square = a * a
    lost = fma(a, a, -square)
    t = (a - k) / (a + k)
    out = exp_of_negative(-square) * (poly(t, terms) / mad(a, 2.0, a.like(1.0)))
    return mad(-out, lost, out)


def _erf_near(x: Value) -> Value:
    """Return erf(x) for |x| <= 1, and anything beyond."""
    return mad(x, poly(x * x, _ERF_NEAR[x.kind]), x)


def erf(x: Value) -> Value:
    """Return the error function."""
    size = absolute(x)
    if x.kind == "float":
        exponent = poly(minimum(size, _ERF_ONE), _ERFC_LOG2)
        shifted = exponent + x.format.magic
        r = exponent - (shifted - x.format.magic)
        tail = scaled(poly(r, _EXP2), shifted)
    else:
        tail = _erfc_positive(size)
    return copysign(select(size > 1.0, 1.0 - tail, _erf_near(size)), x)


def erfc(x: Value) -> Value:
    """Return 1 - erf(x), accurate where erf is near 1."""
    size = absolute(x)
    tail = _erfc_positive(size)
    return select(size < 0.5, 1.0 - _erf_near(x), select(x < 0.0, 2.0 - tail, tail))


# ---------------------------------------------------------------------- the inverse of erf
def _inverse(x: Value) -> Value:
    """Return the inverse of erf of a double: the rational function of its interval."""
    size = absolute(x)
    centre = size <= 0.85
    z = x * x
    r = sqrt(-log(maximum((1.0 - size) * 0.5, 1e-300)))
    at = select(centre, 0.85**2 - z, r - 1.6)

    def value(inner: Sequence[float], outer: Sequence[float]) -> Value:
        inner = (0.0,) * (len(outer) - len(inner)) + tuple(inner)
        total = select(centre, x.like(inner[0]), outer[0])
        for c, t in zip(inner[1:], outer[1:], strict=True):
            total = mad(at, total, select(centre, x.like(c), t))
        return total

    ratio = value(special.CENTRE_NUM, special.TAIL_NUM) / value(
        special.CENTRE_DEN, special.TAIL_DEN
    )
    near = mad(x, x.like(math.sqrt(math.pi) / 2), x * z * ratio)
    out = select(centre, near, copysign(r - ratio, x))
    out = select(size.equals(1.0), copysign(x.like(math.inf), x), out)
    return select(size <= 1.0, out, math.nan)


def erf_inv(x: Value) -> Value:
    """Return the inverse of erf on (-1, 1): infinite at the ends, nan outside."""
    return erf_inv_single(x) if x.kind == "float" else _inverse(x)
