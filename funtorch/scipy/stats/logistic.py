"""The logistic distribution.

Example:
    >>> from funtorch.scipy.stats import logistic
    >>> float(logistic.cdf(0.0))
    0.5

References:
    scipy.stats.logistic
"""

from __future__ import annotations

import funtorch.numpy as fnp
from funtorch.scipy.special import expit, logit
from funtorch.scipy.stats.family import continuous

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]

_OF = continuous(
    "logistic",
    logpdf=lambda z: -fnp.abs(z) - 2 * fnp.log1p(fnp.exp(-fnp.abs(z))),
    cdf=expit,
    sf=lambda z: expit(-z),
    logcdf=lambda z: -fnp.logaddexp(0, -z),
    logsf=lambda z: -fnp.logaddexp(0, z),
    ppf=logit,
    isf=lambda q: -logit(q),
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
ppf = _OF["ppf"]
isf = _OF["isf"]
