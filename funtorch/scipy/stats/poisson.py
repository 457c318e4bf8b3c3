"""The Poisson distribution: counts of rare events.

Example:
    >>> from funtorch.scipy.stats import poisson
    >>> round(float(poisson.pmf(0, 1.0)), 5)
    0.36788

References:
    scipy.stats.poisson
"""

from __future__ import annotations

import math
from typing import Any

import funtorch.numpy as fnp
from funtorch.core import Array
from funtorch.scipy.special import entr, gammainc, gammaincc, gammaln, xlogy
from funtorch.scipy.special.functions import real_arguments
from funtorch.scipy.stats.family import discrete

__all__ = ["cdf", "entropy", "logcdf", "logpmf", "logsf", "pmf", "sf"]

_OF = discrete(
    "poisson",
    "mu",
    valid=lambda mu: mu >= 0,
    logpmf=lambda k, mu: xlogy(k, mu) - gammaln(k + 1) - mu,
    cdf=lambda k, mu: gammaincc(k + 1, mu),
    sf=lambda k, mu: gammainc(k + 1, mu),
)
pmf = _OF["pmf"]
logpmf = _OF["logpmf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]

_COUNTS = 240  # beyond which nothing is left of the probabilities for mu up to 100


def entropy(mu: Any, loc: Any = 0) -> Array:
    """Return the entropy, in nats.

    Args:
        mu: the mean.
        loc: what is added; it does not matter.

    Returns:
        Floats of the shape that the arguments broadcast to; nan where mu < 0.

    Example:
        >>> round(float(entropy(1.0)), 4)
        1.3048

    References:
        scipy.stats.poisson.entropy
        R. J. Evans, J. Boersma, N. M. Blachman, A. A. Jagers, "The entropy of a Poisson
        distribution", SIAM Review 30 (1988): the asymptotic series.
    """
    mu, loc = real_arguments("poisson.entropy", mu=mu, loc=loc)
    small = fnp.where(mu < 100, mu, 1)
    counts = fnp.arange(_COUNTS, dtype=mu.dtype).reshape(-1, *(1,) * mu.ndim)
    total = fnp.sum(entr(pmf(counts, small)), axis=0)
    large = fnp.where(mu < 100, 100, mu)
    w = 1 / large
    series = -w / 12 - w * w / 24 - 19 * w**3 / 360 - 9 * w**4 / 80
    series = 0.5 * fnp.log(2 * math.pi * math.e * large) + series
    return fnp.where(mu >= 0, fnp.where(mu < 100, total, series), math.nan)
