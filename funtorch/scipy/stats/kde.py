"""Density estimates: a Gaussian around every point of a data set.

References:
    scipy.stats.gaussian_kde
    D. W. Scott, "Multivariate density estimation", Wiley 1992 (bandwidths).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import funtorch.numpy as fnp
from funtorch import dtypes, random
from funtorch.core import Array
from funtorch.numpy import promotion
from funtorch.scipy.special import logsumexp, ndtr
from funtorch.tree_util import register_pytree_node_class

__all__ = ["gaussian_kde"]


def _normal_log_density(off: Any, covariance: Any) -> Any:
    """Return the log density of a normal distribution at vectors along the first axis."""
    d = off.shape[0]
    flat = fnp.reshape(off, (d, -1))
    root = fnp.linalg.cholesky(covariance)
    y = fnp.reshape(fnp.linalg.solve(root, flat), off.shape)
    logs = fnp.sum(fnp.log(fnp.diagonal(root)))
    return -0.5 * fnp.sum(y * y, axis=0) - logs - 0.5 * d * math.log(2 * math.pi)


@register_pytree_node_class
class gaussian_kde:
    """Estimate a density from points, by a Gaussian around each.

    Args:
        dataset: float[n], or float[d, n] for points of d coordinates.
        bw_method: the bandwidth: "scott", "silverman", a number, or a function of the estimate.
        weights: the points' weights, float[n]; equal if None.

    Raises:
        ValueError: there are fewer than two points, or shapes do not fit.
        TypeError: the points are complex.

    Example:
        >>> from funtorch.scipy.stats import gaussian_kde
        >>> kde = gaussian_kde(fnp.array([-1.0, 1.0]))
        >>> round(float(kde(0.0)[0]), 4)
        0.233
    """

    dataset: Any
    weights: Any
    neff: Any
    covariance: Any
    inv_cov: Any

    def __init__(
        self,
        dataset: Any,
        bw_method: str | float | Callable[[gaussian_kde], Any] | None = None,
        weights: Any = None,
    ) -> None:
        x = fnp.atleast_2d(promotion.to_array(dataset, "gaussian_kde", "dataset"))
        if dtypes.is_complex(x.dtype):
            raise TypeError(f"gaussian_kde: dataset must be real, got {promotion.describe(x)}")
        n = x.shape[1]
        if n < 2:
            raise ValueError(
                f"gaussian_kde: dataset must have at least two points, got {promotion.describe(x)}"
            )
        if weights is None:
            (x,) = promotion.promote_inexact("gaussian_kde", x)
            w = fnp.full((n,), 1 / n, x.dtype)
        else:
            w = promotion.to_array(weights, "gaussian_kde", "weights")
            x, w = promotion.promote_inexact("gaussian_kde", x, fnp.atleast_1d(w))
            if w.shape != (n,):
                raise ValueError(
                    f"gaussian_kde: weights must have shape ({n},), one for each point, got "
                    f"{promotion.describe(w)}"
                )
            w = w / fnp.sum(w)
        self.dataset, self.weights, self.neff = x, w, 1 / fnp.sum(w * w)
        factor = self._factor(bw_method)
        spread = fnp.atleast_2d(fnp.cov(x, rowvar=True, bias=False, aweights=w))
        self.covariance = spread * factor**2
        self.inv_cov = fnp.linalg.inv(spread) / factor**2

    def _factor(self, bw_method: Any) -> Any:
        if bw_method is None or (isinstance(bw_method, str) and bw_method == "scott"):
            return self.neff ** (-1 / (self.d + 4))
        if isinstance(bw_method, str) and bw_method == "silverman":
            return (self.neff * (self.d + 2) / 4) ** (-1 / (self.d + 4))
        if callable(bw_method):
            return bw_method(self)
        if not isinstance(bw_method, str) and promotion.shape_of(bw_method) == ():
            return bw_method
        raise ValueError(
            "gaussian_kde: bw_method must be 'scott', 'silverman', a number or a function, got "
            f"{bw_method!r}"
        )

    @property
    def d(self) -> int:
        """How many coordinates points have."""
        return self.dataset.shape[0]

    @property
    def n(self) -> int:
        """How many points there are."""
        return self.dataset.shape[1]

    def tree_flatten(self) -> tuple[tuple[Any, ...], None]:
        """Return the arrays that the estimate consists of."""
        return (self.neff, self.dataset, self.weights, self.covariance, self.inv_cov), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: tuple[Any, ...]) -> gaussian_kde:
        """Make an estimate of its arrays."""
        out = object.__new__(cls)
        out.neff, out.dataset, out.weights, out.covariance, out.inv_cov = children
        return out

    def _points(self, function: str, points: Any) -> Any:
        x = fnp.atleast_2d(promotion.to_array(points, function, "points"))
        if dtypes.is_complex(x.dtype):
            raise TypeError(f"{function}: points must be real, got {promotion.describe(x)}")
        d, m = x.shape
        if d == self.d:
            return x.astype(self.dataset.dtype)
        if d == 1 and m == self.d:
            return fnp.reshape(x, (self.d, 1)).astype(self.dataset.dtype)
        raise ValueError(
            f"{function}: points must have {self.d} coordinates along the first axis, got "
            f"{promotion.describe(x)}"
        )

    def logpdf(self, x: Any) -> Array:
        """Return the logarithm of the density at points, float[d, m] -> float[m]."""
        points = self._points("gaussian_kde.logpdf", x)
        logs = _normal_log_density(points[:, None, :] - self.dataset[:, :, None], self.covariance)
        return logsumexp(logs, axis=0, b=self.weights[:, None])

    def evaluate(self, points: Any) -> Array:
        """Return the density at points, float[d, m] -> float[m]."""
        points = self._points("gaussian_kde.evaluate", points)
        logs = _normal_log_density(points[:, None, :] - self.dataset[:, :, None], self.covariance)
        return fnp.sum(self.weights[:, None] * fnp.exp(logs), axis=0)

    def __call__(self, points: Any) -> Array:
        """Return the density at points; see `evaluate`."""
        return self.evaluate(points)

    def pdf(self, x: Any) -> Array:
        """Return the density at points; see `evaluate`."""
        return self.evaluate(x)

    def integrate_gaussian(self, mean: Any, cov: Any) -> Array:
        """Return the integral of the density times that of a normal distribution.

        Raises:
            ValueError: mean or cov does not have the points' size.
        """
        mean, cov = fnp.atleast_1d(fnp.squeeze(fnp.asarray(mean))), fnp.atleast_2d(fnp.asarray(cov))
        if mean.shape != (self.d,) or cov.shape != (self.d, self.d):
            raise ValueError(
                f"gaussian_kde.integrate_gaussian: mean must have shape ({self.d},) and cov "
                f"({self.d}, {self.d}), got {promotion.describe(mean)} and "
                f"{promotion.describe(cov)}"
            )
        logs = _normal_log_density(self.dataset - mean[:, None], self.covariance + cov)
        return fnp.sum(self.weights * fnp.exp(logs))

    def integrate_box_1d(self, low: Any, high: Any) -> Array:
        """Return the probability between two numbers, for points of one coordinate.

        Raises:
            ValueError: points have more coordinates, or a bound is no number.
        """
        if self.d != 1 or promotion.shape_of(low) or promotion.shape_of(high):
            raise ValueError(
                "gaussian_kde.integrate_box_1d takes numbers as bounds, for points of 1 coordinate;"
                f" points have {self.d}, bounds shapes {promotion.shape_of(low)} and "
                f"{promotion.shape_of(high)}"
            )
        width = fnp.sqrt(self.covariance[0, 0])
        ends = [(bound - self.dataset[0]) / width for bound in (low, high)]
        return fnp.sum(self.weights * (ndtr(ends[1]) - ndtr(ends[0])))

    def integrate_kde(self, other: gaussian_kde) -> Array:
        """Return the integral of the product of two densities.

        Raises:
            ValueError: their points have different numbers of coordinates.
        """
        if other.d != self.d:
            raise ValueError(
                "gaussian_kde.integrate_kde: both estimates must have points of as many "
                f"coordinates, got {self.d} and {other.d}"
            )
        off = self.dataset[:, :, None] - other.dataset[:, None, :]
        logs = _normal_log_density(off, self.covariance + other.covariance)
        return fnp.sum(self.weights[:, None] * other.weights * fnp.exp(logs))

    def resample(self, key: Any, shape: tuple[int, ...] = ()) -> Array:
        """Draw points from the density: float[d, *shape]."""
        for_index, for_noise = random.split(key)
        index = random.choice(for_index, self.n, shape=shape, p=self.weights)
        noise = random.multivariate_normal(
            for_noise,
            fnp.zeros(self.d, self.covariance.dtype),
            self.covariance,
            shape=shape,
            dtype=self.dataset.dtype,
        )
        return self.dataset[:, index] + noise.T

    def integrate_box(self, low_bounds: Any, high_bounds: Any, maxpts: Any = None) -> Array:
        """Raise an error: boxes of several coordinates are not supported."""
        raise NotImplementedError(
            "gaussian_kde.integrate_box: only intervals are supported; use integrate_box_1d"
        )

    def set_bandwidth(self, bw_method: Any = None) -> None:
        """Raise an error: an estimate does not change."""
        raise NotImplementedError(
            "gaussian_kde.set_bandwidth: an estimate does not change; make another with bw_method"
        )
