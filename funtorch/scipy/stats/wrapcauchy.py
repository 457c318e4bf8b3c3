"""The Cauchy distribution wrapped around the circle.

Example:
    >>> from funtorch.scipy.stats import wrapcauchy
    >>> round(float(wrapcauchy.pdf(0.0, 0.5)), 5)
    0.47746

References:
    scipy.stats.wrapcauchy
"""

from __future__ import annotations

import math

import funtorch.numpy as fnp
from funtorch.scipy.stats.family import continuous

__all__ = ["logpdf", "pdf"]

_OF = continuous(
    "wrapcauchy",
    "c",
    low=0.0,
    high=2 * math.pi,
    inside=1.0,
    valid=lambda c: (c > 0) & (c < 1),
    logpdf=lambda z, c: (
        fnp.log((1 - c) * (1 + c)) - math.log(2 * math.pi) - fnp.log(1 + c * c - 2 * c * fnp.cos(z))
    ),
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
