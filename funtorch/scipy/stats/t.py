"""Student's t distribution.

Example:
    >>> from funtorch.scipy.stats import t
    >>> float(t.cdf(0.0, 3.0))
    0.5

References:
    scipy.stats.t
"""

from __future__ import annotations

from typing import Any

import funtorch.numpy as fnp
from funtorch.scipy.special import betainc, betaincinv, betaln
from funtorch.scipy.stats.family import continuous

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]


def _below(z: Any, df: Any) -> Any:
    square = z * z
    near = square < df
    # The smaller of the two arguments keeps its digits.
    inner = 0.5 * betainc(0.5, df / 2, square / (df + square))
    tail = fnp.where(near, 0.5 - inner, 0.5 * betainc(df / 2, 0.5, df / (df + square)))
    return fnp.where(z > 0, 1 - tail, tail)


def _quantile(q: Any, df: Any) -> Any:
    tail = fnp.where(q > 0.5, 1 - q, q)
    far = betaincinv(df / 2, 0.5, 2 * tail)
    near = betaincinv(0.5, df / 2, 1 - 2 * tail)
    middle = far > 0.5
    size = fnp.where(middle, near / (1 - near), (1 - far) / far)
    # The derivative of a root at 0 is that of the quantile there.
    size = fnp.sqrt(df * size)
    return fnp.where(q > 0.5, size, -size)


_OF = continuous(
    "t",
    "df",
    valid=lambda df: df > 0,
    logpdf=lambda z, df: (
        -betaln(df / 2, fnp.full_like(df, 0.5))
        - 0.5 * fnp.log(df)
        - (df + 1) / 2 * fnp.log1p(z * z / df)
    ),
    cdf=lambda z, df: _below(z, df),
    sf=lambda z, df: _below(-z, df),
    ppf=lambda q, df: _quantile(q, df),
    isf=lambda q, df: -_quantile(q, df),
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]
ppf = _OF["ppf"]
isf = _OF["isf"]
