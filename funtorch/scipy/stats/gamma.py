"""The gamma distribution.

Example:
    >>> from funtorch.scipy.stats import gamma
    >>> round(float(gamma.cdf(1.0, 1.0)), 5)
    0.63212

References:
    scipy.stats.gamma
"""

from __future__ import annotations

from funtorch.scipy.special import gammainc, gammaincc, gammainccinv, gammaincinv, gammaln, xlogy
from funtorch.scipy.stats.family import continuous

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]

_OF = continuous(
    "gamma",
    "a",
    low=0.0,
    inside=1.0,
    valid=lambda a: a > 0,
    logpdf=lambda z, a: xlogy(a - 1, z) - z - gammaln(a),
    cdf=lambda z, a: gammainc(a, z),
    sf=lambda z, a: gammaincc(a, z),
    ppf=lambda q, a: gammaincinv(a, q),
    isf=lambda q, a: gammainccinv(a, q),
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
ppf = _OF["ppf"]
isf = _OF["isf"]
