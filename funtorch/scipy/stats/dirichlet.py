"""The Dirichlet distribution, of probability vectors.

Example:
    >>> from funtorch.scipy.stats import dirichlet
    >>> round(float(dirichlet.pdf(fnp.array([0.5, 0.5]), fnp.array([1.0, 1.0]))), 5)
    1.0

References:
    scipy.stats.dirichlet
"""

from __future__ import annotations

import math
from typing import Any

import funtorch.numpy as fnp
from funtorch.core import Array
from funtorch.numpy import promotion
from funtorch.scipy.special import gammaln, xlogy

__all__ = ["logpdf", "pdf"]

_SLACK = 1e-6  # by which the sum of a probability vector may differ from 1


def logpdf(x: Any, alpha: Any) -> Array:
    """Return the logarithm of the probability density.

    Args:
        x: vectors along the first axis, float[n, ...]; with n - 1 numbers the last one follows.
        alpha: concentrations, float[n].

    Returns:
        Floats of the shape of x after its first axis; -inf where x is no probability vector.

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> round(float(logpdf(fnp.array([0.5, 0.5]), fnp.array([2.0, 1.0]))), 5)
        0.0

    References:
        scipy.stats.dirichlet
    """
    x, alpha = promotion.promote_inexact(
        "dirichlet.logpdf", *promotion.to_arrays("dirichlet.logpdf", x=x, alpha=alpha)
    )
    if alpha.ndim != 1:
        raise ValueError(
            f"dirichlet.logpdf: alpha must have one axis, got {promotion.describe(alpha)}"
        )
    n = alpha.shape[0]
    if x.ndim == 0 or x.shape[0] not in (n, n - 1):
        raise ValueError(
            f"dirichlet.logpdf: x must have {n} or {n - 1} numbers along its first axis, as alpha "
            f"{promotion.describe(alpha)} has, got {promotion.describe(x)}"
        )
    if x.shape[0] != n:
        x = fnp.concatenate([x, 1 - fnp.sum(x, axis=0, keepdims=True)])
    inside = fnp.all(x > 0, axis=0) & (fnp.abs(fnp.sum(x, axis=0) - 1) < _SLACK)
    normal = fnp.sum(gammaln(alpha)) - gammaln(fnp.sum(alpha))
    powers = fnp.reshape(alpha - 1, (n, *(1,) * (x.ndim - 1)))
    return fnp.where(inside, fnp.sum(xlogy(powers, x), axis=0) - normal, -math.inf)


def pdf(x: Any, alpha: Any) -> Array:
    """Return the probability density; see `logpdf`.

    Example:
        >>> round(float(pdf(fnp.array([0.5, 0.5]), fnp.array([2.0, 1.0]))), 5)
        1.0
    """
    return fnp.exp(logpdf(x, alpha))
