"""The multinomial distribution: counts of n draws that fall into classes.

Example:
    >>> from funtorch.scipy.stats import multinomial
    >>> round(float(multinomial.pmf(fnp.array([1, 1]), 2, fnp.array([0.5, 0.5]))), 5)
    0.5

References:
    scipy.stats.multinomial
"""

from __future__ import annotations

import math
from typing import Any

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import Array
from funtorch.numpy import promotion
from funtorch.scipy.special import gammaln, xlogy

__all__ = ["logpmf", "pmf"]


def logpmf(x: Any, n: Any, p: Any) -> Array:
    """Return the logarithm of the probability.

    Args:
        x: counts along the last axis, int[..., k].
        n: how many draws, int[...].
        p: the classes' probabilities, float[..., k].

    Returns:
        Floats; -inf where the counts do not add up to n.

    Raises:
        TypeError: x is not of an integer dtype.

    Example:
        >>> round(float(logpmf(fnp.array([2, 0]), 2, fnp.array([0.5, 0.5]))), 5)
        -1.38629

    References:
        scipy.stats.multinomial
    """
    x, n, p = promotion.to_arrays("multinomial.logpmf", x=x, n=n, p=p)
    (p,) = promotion.promote_inexact("multinomial.logpmf", p)
    if not dtypes.is_integer(x.dtype):
        raise TypeError(
            f"multinomial.logpmf: x must hold integers, got {promotion.describe(x)}; "
            "convert it with astype"
        )
    counts, n = x.astype(p.dtype), n.astype(p.dtype)
    terms = xlogy(counts, p) - gammaln(counts + 1)
    whole = (fnp.sum(counts, axis=-1) == n) & fnp.all(counts >= 0, axis=-1)
    return fnp.where(whole, gammaln(n + 1) + fnp.sum(terms, axis=-1), -math.inf)


def pmf(x: Any, n: Any, p: Any) -> Array:
    """Return the probability; see `logpmf`.

    Example:
        >>> round(float(pmf(fnp.array([2, 0]), 2, fnp.array([0.5, 0.5]))), 5)
        0.25
    """
    return fnp.exp(logpmf(x, n, p))
