"""The beta distribution.

Example:
    >>> from funtorch.scipy.stats import beta
    >>> float(beta.cdf(0.25, 1.0, 1.0))
    0.25

References:
    scipy.stats.beta
"""

from __future__ import annotations

from funtorch.scipy.special import betainc, betaincinv, betaln, xlog1py, xlogy
from funtorch.scipy.stats.family import continuous

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]

_OF = continuous(
    "beta",
    "a b",
    low=0.0,
    high=1.0,
    inside=0.5,
    valid=lambda a, b: (a > 0) & (b > 0),
    logpdf=lambda z, a, b: xlogy(a - 1, z) + xlog1py(b - 1, -z) - betaln(a, b),
    cdf=lambda z, a, b: betainc(a, b, z),
    sf=lambda z, a, b: betainc(b, a, 1 - z),
    ppf=lambda q, a, b: betaincinv(a, b, q),
    isf=lambda q, a, b: 1 - betaincinv(b, a, q),
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
ppf = _OF["ppf"]
isf = _OF["isf"]
