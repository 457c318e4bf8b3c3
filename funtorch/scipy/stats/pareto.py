"""The Pareto distribution.

Example:
    >>> from funtorch.scipy.stats import pareto
    >>> float(pareto.pdf(1.0, 2.0))
    2.0

References:
    scipy.stats.pareto
"""

from __future__ import annotations

import funtorch.numpy as fnp
from funtorch.scipy.stats.family import continuous

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]

_OF = continuous(
    "pareto",
    "b",
    low=1.0,
    inside=2.0,
    valid=lambda b: b > 0,
    logpdf=lambda z, b: fnp.log(b) - (b + 1) * fnp.log(z),
    cdf=lambda z, b: -fnp.expm1(-b * fnp.log(z)),
    logsf=lambda z, b: -b * fnp.log(z),
    ppf=lambda q, b: fnp.exp(-fnp.log1p(-q) / b),
    isf=lambda q, b: q ** (-1 / b),
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
ppf = _OF["ppf"]
isf = _OF["isf"]
