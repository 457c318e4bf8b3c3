"""The multivariate normal distribution.

Example:
    >>> from funtorch.scipy.stats import multivariate_normal
    >>> round(float(multivariate_normal.pdf(fnp.zeros(2), fnp.zeros(2), fnp.eye(2))), 5)
    0.15915

References:
    scipy.stats.multivariate_normal
"""

from __future__ import annotations

import math
from typing import Any

import funtorch.numpy as fnp
from funtorch.core import Array
from funtorch.numpy import promotion
from funtorch.ops.linalg import triangular_solve

__all__ = ["logpdf", "pdf"]


def logpdf(x: Any, mean: Any, cov: Any, allow_singular: None = None) -> Array:
    """Return the logarithm of the probability density.

    Args:
        x: points along the last axis, float[..., n].
        mean: float[..., n], or a number for numbers x.
        cov: the covariance, float[..., n, n], or a number: that times the identity.
        allow_singular: only None; a singular covariance gives nan.

    Returns:
        Floats of the shape of x and mean before their last axis.

    Raises:
        NotImplementedError: allow_singular is given.
        ValueError: shapes do not fit.

    Example:
        >>> round(float(logpdf(0.0, 0.0, 1.0)), 5)
        -0.91894

    References:
        scipy.stats.multivariate_normal
    """
    if allow_singular is not None:
        raise NotImplementedError(
            f"multivariate_normal.logpdf: allow_singular must be None, got {allow_singular!r}"
        )
    name = "multivariate_normal.logpdf"
    x, mean, cov = promotion.promote_inexact(
        name, *promotion.to_arrays(name, x=x, mean=mean, cov=cov)
    )
    off = x - mean
    if not cov.ndim:
        count = mean.shape[-1] if mean.ndim else 1
        square = fnp.sum(off * off, axis=-1) if mean.ndim else off * off
        return -0.5 * (square / cov + count * fnp.log(2 * math.pi * cov))
    if mean.ndim == 0 or cov.ndim < 2 or cov.shape[-2:] != (mean.shape[-1], mean.shape[-1]):
        raise ValueError(
            f"{name}: cov must be a number or end in two axes of mean's size, got mean "
            f"{promotion.describe(mean)} and cov {promotion.describe(cov)}"
        )
    n = mean.shape[-1]
    batch = promotion.broadcast_shapes(off.shape[:-1], cov.shape[:-2])
    root = fnp.broadcast_to(fnp.linalg.cholesky(cov), (*batch, n, n))
    column = fnp.broadcast_to(off, (*batch, n))[..., None]
    y = triangular_solve(root, column, lower=True, trans=0, unit=False)[..., 0]
    logs = fnp.sum(fnp.log(fnp.diagonal(root, axis1=-2, axis2=-1)), axis=-1)
    return -0.5 * (fnp.sum(y * y, axis=-1) + n * math.log(2 * math.pi)) - logs


def pdf(x: Any, mean: Any, cov: Any) -> Array:
    """Return the probability density; see `logpdf`.

    Example:
        >>> round(float(pdf(0.0, 0.0, 1.0)), 5)
        0.39894
    """
    return fnp.exp(logpdf(x, mean, cov))
