"""The normal distribution, cut off at standardised bounds.

Example:
    >>> from funtorch.scipy.stats import truncnorm
    >>> float(truncnorm.cdf(0.0, -1.0, 1.0))
    0.5

References:
    scipy.stats.truncnorm
"""

from __future__ import annotations

import math
from typing import Any

import funtorch.numpy as fnp
from funtorch.scipy.special import log_ndtr, ndtr
from funtorch.scipy.stats.family import continuous

__all__ = ["cdf", "logcdf", "logpdf", "logsf", "pdf", "sf"]


def _log_difference(high: Any, low: Any) -> Any:
    """Return ``log(exp(high) - exp(low))``."""
    gap = fnp.where(high > low, low - high, -1)
    return fnp.where(high > low, high + fnp.log(-fnp.expm1(gap)), -math.inf)


def _log_mass(a: Any, b: Any) -> Any:
    """Return the logarithm of the normal probability between a and b."""
    right = a > 0
    low, high = fnp.where(right, -b, a), fnp.where(right, -a, b)
    across = high > 0
    tail = _log_difference(
        log_ndtr(fnp.where(across, -1, high)), log_ndtr(fnp.where(across, -2, low))
    )
    return fnp.where(across, fnp.log1p(-ndtr(a) - ndtr(-b)), tail)


def _log_share(part: Any, rest: Any, whole: Any) -> Any:
    """Return the logarithm of a part's share, from that of the rest where it is nearly all."""
    most = part - whole > -0.1
    return fnp.where(most, fnp.log1p(-fnp.exp(fnp.where(most, rest - whole, -1))), part - whole)


_OF = continuous(
    "truncnorm",
    "a b",
    low=lambda a, b: a,
    high=lambda a, b: b,
    inside=lambda a, b: fnp.where(a > 0, a, fnp.where(b < 0, b, 0)),
    valid=lambda a, b: a < b,
    logpdf=lambda z, a, b: -0.5 * z * z - 0.5 * math.log(2 * math.pi) - _log_mass(a, b),
    cdf=lambda z, a, b: fnp.exp(_log_mass(a, z) - _log_mass(a, b)),
    sf=lambda z, a, b: fnp.exp(_log_mass(z, b) - _log_mass(a, b)),
    logcdf=lambda z, a, b: _log_share(_log_mass(a, z), _log_mass(z, b), _log_mass(a, b)),
    logsf=lambda z, a, b: _log_share(_log_mass(z, b), _log_mass(a, z), _log_mass(a, b)),
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
