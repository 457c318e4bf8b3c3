"""The negative binomial distribution: failures before n successes.

Example:
    >>> from funtorch.scipy.stats import nbinom
    >>> round(float(nbinom.pmf(0, 1, 0.5)), 5)
    0.5

References:
    scipy.stats.nbinom
"""

from __future__ import annotations

from funtorch.scipy.special import betainc, gammaln, xlog1py, xlogy
from funtorch.scipy.stats.family import discrete

__all__ = ["cdf", "logcdf", "logpmf", "logsf", "pmf", "sf"]

_OF = discrete(
    "nbinom",
    "n p",
    valid=lambda n, p: (n > 0) & (p > 0) & (p <= 1),
    logpmf=lambda k, n, p: (
        gammaln(k + n) - gammaln(k + 1) - gammaln(n) + xlogy(n, p) + xlog1py(k, -p)
    ),
    cdf=lambda k, n, p: betainc(n, k + 1, p),
    sf=lambda k, n, p: betainc(k + 1, n, 1 - p),
)
pmf = _OF["pmf"]
logpmf = _OF["logpmf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
