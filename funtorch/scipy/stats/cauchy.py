"""The Cauchy distribution.

Example:
    >>> from funtorch.scipy.stats import cauchy
    >>> float(cauchy.cdf(0.0))
    0.5

References:
    scipy.stats.cauchy
"""

from __future__ import annotations

import math

import funtorch.numpy as fnp
from funtorch.scipy.stats.family import continuous

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]

_OF = continuous(
    "cauchy",
    logpdf=lambda z: -math.log(math.pi) - fnp.log1p(z * z),
    cdf=lambda z: fnp.arctan2(fnp.ones_like(z), -z) / math.pi,
    sf=lambda z: fnp.arctan2(fnp.ones_like(z), z) / math.pi,
    ppf=lambda q: fnp.where(q < 0.25, -1 / fnp.tan(math.pi * q), fnp.tan(math.pi * (q - 0.5))),
    isf=lambda q: fnp.where(q < 0.25, 1 / fnp.tan(math.pi * q), fnp.tan(math.pi * (0.5 - q))),
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
ppf = _OF["ppf"]
isf = _OF["isf"]
