"""Scalar functions as branch-free LLVM code, so that loops over them vectorise.

Each formula takes and returns a `Value`. All are right at nan, infinities, zeros and denormals, and
within 4 units in the last place elsewhere (docs/accuracy.md has the measured errors).
"""

from __future__ import annotations

from collections.abc import Callable

from .error import erf, erf_inv, erfc
from .exponential import cosh, exp, exp2, exp_of_negative, expm1, logistic, sinh, tanh
from .gamma import digamma, lgamma, polygamma
from .inverse import acos, asin, atan, atan2
from .logarithm import acosh, asinh, atanh, log, log1p, log2, log10, logaddexp
from .power import (
    cbrt,
    division_scale,
    hypot,
    masked_mul,
    nextafter,
    pow,
    quotient,
    reciprocal,
    rem,
    rsqrt,
)
from .sampling import sampled_erf_inv, sampled_exp, sampled_log, sampled_log1p, threefry2x32
from .trigonometric import cos, sin, tan
from .values import Value, absolute, copysign, number, select

__all__ = ["FORMULAS", "REWRITTEN", "Value", "absolute", "number", "select", "threefry2x32"]

_FORMULAS: tuple[Callable[..., Value], ...] = (
    *(exp, exp2, expm1, logistic, tanh, sinh, cosh),
    *(log, log2, log10, log1p, logaddexp, asinh, acosh, atanh),
    *(sin, cos, tan, asin, acos, atan, atan2),
    *(pow, cbrt, hypot, rsqrt, reciprocal, rem, nextafter, copysign, masked_mul),
    *(erf, erfc, erf_inv, lgamma, digamma, polygamma),
    *(sampled_erf_inv, sampled_exp, sampled_log, sampled_log1p),
)

FORMULAS: dict[str, Callable[..., Value]] = {f.__name__: f for f in _FORMULAS}
"""Formula by primitive, for float and double; parameters of the primitive by name."""

REWRITTEN: dict[str, Callable[..., Value]] = {
    f.__name__: f for f in (exp_of_negative, division_scale, quotient)
}
"""Formulas of what is no primitive: `quicker` writes them into kernels."""
