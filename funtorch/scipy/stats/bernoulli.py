"""The Bernoulli distribution: 1 with probability p, else 0.

Example:
    >>> from funtorch.scipy.stats import bernoulli
    >>> float(bernoulli.pmf(1, 0.25))
    0.25

References:
    scipy.stats.bernoulli
"""

from __future__ import annotations

import math
from typing import Any

import funtorch.numpy as fnp
from funtorch.core import Array
from funtorch.scipy.special import xlog1py, xlogy
from funtorch.scipy.special.functions import real_arguments
from funtorch.scipy.stats.family import discrete

__all__ = ["cdf", "logcdf", "logpmf", "logsf", "pmf", "ppf", "sf"]

_OF = discrete(
    "bernoulli",
    "p",
    high=1.0,
    valid=lambda p: (p >= 0) & (p <= 1),
    logpmf=lambda k, p: xlogy(k, p) + xlog1py(1 - k, -p),
    cdf=lambda k, p: fnp.where(k >= 1, 1, 1 - p),
    sf=lambda k, p: fnp.where(k >= 1, 0, p),
)
pmf = _OF["pmf"]
logpmf = _OF["logpmf"]
cdf = _OF["cdf"]
logcdf = _OF["logcdf"]
sf = _OF["sf"]
logsf = _OF["logsf"]


def ppf(q: Any, p: Any, loc: Any = 0) -> Array:
    """Return the quantile: the least k with a probability of at most k that is q or more.

    Args:
        q: probabilities.
        p: the probability of 1.
        loc: what is added.

    Returns:
        Floats of the shape that the arguments broadcast to; nan where q or p is no probability.

    Example:
        >>> float(ppf(0.9, 0.25))
        1.0

    References:
        scipy.stats.bernoulli.ppf
    """
    q, p, loc = real_arguments("bernoulli.ppf", q=q, p=p, loc=loc)
    valid = (p >= 0) & (p <= 1) & (q >= 0) & (q <= 1)
    return fnp.where(valid, fnp.where(q <= 1 - p, loc, 1 + loc), math.nan)
