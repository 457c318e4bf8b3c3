"""The beta-binomial distribution: binomial with a beta-distributed probability.

Example:
    >>> from funtorch.scipy.stats import betabinom
    >>> round(float(betabinom.pmf(1, 1, 1.0, 1.0)), 5)
    0.5

References:
    scipy.stats.betabinom
"""

from __future__ import annotations

import funtorch.numpy as fnp
from funtorch.scipy.special import betaln
from funtorch.scipy.stats.family import discrete

__all__ = ["logpmf", "pmf"]

_OF = discrete(
    "betabinom",
    "n a b",
    high=lambda n, a, b: n,
    valid=lambda n, a, b: (n >= 0) & (n == fnp.floor(n)) & (a > 0) & (b > 0),
    logpmf=lambda k, n, a, b: (
        -fnp.log1p(n) - betaln(n - k + 1, k + 1) + betaln(k + a, n - k + b) - betaln(a, b)
    ),
)
pmf = _OF["pmf"]
logpmf = _OF["logpmf"]
