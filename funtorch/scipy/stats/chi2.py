"""The chi-square distribution.

Example:
    >>> from funtorch.scipy.stats import chi2
    >>> round(float(chi2.cdf(2.0, 2.0)), 5)
    0.63212

References:
    scipy.stats.chi2
"""

from __future__ import annotations

import math

from funtorch.scipy.special import gammainc, gammaincc, gammainccinv, gammaincinv, gammaln, xlogy
from funtorch.scipy.stats.family import continuous

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]

_OF = continuous(
    "chi2",
    "df",
    low=0.0,
    inside=1.0,
    valid=lambda df: df > 0,
    logpdf=lambda z, df: xlogy(df / 2 - 1, z) - z / 2 - gammaln(df / 2) - df * (0.5 * math.log(2)),
    cdf=lambda z, df: gammainc(df / 2, z / 2),
    sf=lambda z, df: gammaincc(df / 2, z / 2),
    ppf=lambda q, df: 2 * gammaincinv(df / 2, q),
    isf=lambda q, df: 2 * gammainccinv(df / 2, q),
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
ppf = _OF["ppf"]
isf = _OF["isf"]
