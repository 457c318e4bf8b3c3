"""The binomial distribution: successes among n trials.

Example:
    >>> from funtorch.scipy.stats import binom
    >>> round(float(binom.pmf(1, 2, 0.5)), 5)
    0.5

References:
    scipy.stats.binom
"""

from __future__ import annotations

import funtorch.numpy as fnp
from funtorch.scipy.special import betainc, betaln, xlog1py, xlogy
from funtorch.scipy.stats.family import discrete

__all__ = ["cdf", "logcdf", "logpmf", "logsf", "pmf", "sf"]

_OF = discrete(
    "binom",
    "n p",
    high=lambda n, p: n,
    valid=lambda n, p: (n >= 0) & (n == fnp.floor(n)) & (p >= 0) & (p <= 1),
    logpmf=lambda k, n, p: (
        -fnp.log1p(n) - betaln(n - k + 1, k + 1) + xlogy(k, p) + xlog1py(n - k, -p)
    ),
    cdf=lambda k, n, p: fnp.where(k >= n, 1, betainc(fnp.maximum(n - k, 1), k + 1, 1 - p)),
    sf=lambda k, n, p: fnp.where(k >= n, 0, betainc(k + 1, fnp.maximum(n - k, 1), p)),
)
pmf = _OF["pmf"]
logpmf = _OF["logpmf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
