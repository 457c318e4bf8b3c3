"""The geometric distribution: trials until the first success.

Example:
    >>> from funtorch.scipy.stats import geom
    >>> round(float(geom.pmf(2, 0.5)), 5)
    0.25

References:
    scipy.stats.geom
"""

from __future__ import annotations

import funtorch.numpy as fnp
from funtorch.scipy.special import xlog1py
from funtorch.scipy.stats.family import discrete

__all__ = ["cdf", "logcdf", "logpmf", "logsf", "pmf", "sf"]

_OF = discrete(
    "geom",
    "p",
    low=1.0,
    valid=lambda p: (p > 0) & (p <= 1),
    logpmf=lambda k, p: xlog1py(k - 1, -p) + fnp.log(p),
    cdf=lambda k, p: -fnp.expm1(xlog1py(k, -p)),
    logsf=lambda k, p: xlog1py(k, -p),
)
pmf = _OF["pmf"]
logpmf = _OF["logpmf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
