"""The uniform distribution.

Example:
    >>> from funtorch.scipy.stats import uniform
    >>> float(uniform.cdf(0.25))
    0.25

References:
    scipy.stats.uniform
"""

from __future__ import annotations

from funtorch.scipy.stats.family import continuous

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]

_OF = continuous(
    "uniform",
    low=0.0,
    high=1.0,
    inside=0.5,
    logpdf=lambda z: 0 * z,
    cdf=lambda z: z,
    sf=lambda z: 1 - z,
    ppf=lambda q: q,
    isf=lambda q: 1 - q,
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
ppf = _OF["ppf"]
isf = _OF["isf"]
