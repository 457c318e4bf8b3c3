"""The Laplace distribution.

Example:
    >>> from funtorch.scipy.stats import laplace
    >>> float(laplace.cdf(0.0))
    0.5

References:
    scipy.stats.laplace
"""

from __future__ import annotations

import math
from typing import Any

import funtorch.numpy as fnp
from funtorch.scipy.stats.family import continuous

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]


def _half(z: Any) -> Any:
    tail = 0.5 * fnp.exp(-fnp.abs(z))
    return fnp.where(z > 0, 1 - tail, tail)


def _quantile(q: Any) -> Any:
    return fnp.where(q > 0.5, -fnp.log(2 * (1 - q)), fnp.log(2 * q))


_OF = continuous(
    "laplace",
    logpdf=lambda z: -fnp.abs(z) - math.log(2),
    cdf=lambda z: _half(z),
    sf=lambda z: _half(-z),
    ppf=lambda q: _quantile(q),
    isf=lambda q: -_quantile(q),
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
ppf = _OF["ppf"]
isf = _OF["isf"]
