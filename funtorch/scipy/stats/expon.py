"""The exponential distribution.

Example:
    >>> from funtorch.scipy.stats import expon
    >>> float(expon.pdf(0.0))
    1.0

References:
    scipy.stats.expon
"""

from __future__ import annotations

import funtorch.numpy as fnp
from funtorch.scipy.stats.family import continuous

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]

_OF = continuous(
    "expon",
    low=0.0,
    inside=1.0,
    logpdf=lambda z: -z,
    cdf=lambda z: -fnp.expm1(-z),
    logsf=lambda z: -z,
    ppf=lambda q: -fnp.log1p(-q),
    isf=lambda q: -fnp.log(q),
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
ppf = _OF["ppf"]
isf = _OF["isf"]
