"""The generalised normal distribution.

Example:
    >>> from funtorch.scipy.stats import gennorm
    >>> float(gennorm.cdf(0.0, 1.5))
    0.5

References:
    scipy.stats.gennorm
"""

from __future__ import annotations

from typing import Any

import funtorch.numpy as fnp
from funtorch.scipy.special import gammaincc, gammainccinv, gammaln
from funtorch.scipy.stats.family import continuous

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]


def _below(z: Any, beta: Any) -> Any:
    tail = 0.5 * gammaincc(1 / beta, fnp.abs(z) ** beta)
    return fnp.where(z > 0, 1 - tail, tail)


def _quantile(q: Any, beta: Any) -> Any:
    size = gammainccinv(1 / beta, 2 * fnp.where(q > 0.5, 1 - q, q)) ** (1 / beta)
    return fnp.where(q > 0.5, size, -size)


_OF = continuous(
    "gennorm",
    "beta",
    valid=lambda beta: beta > 0,
    logpdf=lambda z, beta: fnp.log(0.5 * beta) - gammaln(1 / beta) - fnp.abs(z) ** beta,
    cdf=lambda z, beta: _below(z, beta),
    sf=lambda z, beta: _below(-z, beta),
    ppf=lambda q, beta: _quantile(q, beta),
    isf=lambda q, beta: -_quantile(q, beta),
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
ppf = _OF["ppf"]
isf = _OF["isf"]
