"""The Gumbel distribution of smallest values.

Example:
    >>> from funtorch.scipy.stats import gumbel_l
    >>> round(float(gumbel_l.sf(0.0)), 5)
    0.36788

References:
    scipy.stats.gumbel_l
"""

from __future__ import annotations

import funtorch.numpy as fnp
from funtorch.scipy.stats.family import continuous

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]

_OF = continuous(
    "gumbel_l",
    logpdf=lambda z: z - fnp.exp(z),
    cdf=lambda z: -fnp.expm1(-fnp.exp(z)),
    logsf=lambda z: -fnp.exp(z),
    ppf=lambda q: fnp.log(-fnp.log1p(-q)),
    isf=lambda q: fnp.log(-fnp.log(q)),
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
ppf = _OF["ppf"]
isf = _OF["isf"]
