"""The Gumbel distribution of largest values.

Example:
    >>> from funtorch.scipy.stats import gumbel_r
    >>> round(float(gumbel_r.cdf(0.0)), 5)
    0.36788

References:
    scipy.stats.gumbel_r
"""

from __future__ import annotations

import funtorch.numpy as fnp
from funtorch.scipy.stats.family import continuous

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]

_OF = continuous(
    "gumbel_r",
    logpdf=lambda z: -z - fnp.exp(-z),
    logcdf=lambda z: -fnp.exp(-z),
    sf=lambda z: -fnp.expm1(-fnp.exp(-z)),
    ppf=lambda q: -fnp.log(-fnp.log(q)),
    isf=lambda q: -fnp.log(-fnp.log1p(-q)),
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
ppf = _OF["ppf"]
isf = _OF["isf"]
