"""Interpolation on grids under SciPy's names.

References:
    scipy.interpolate, https://docs.scipy.org/doc/scipy/reference/interpolate.html
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.numpy import promotion
from funtorch.tree_util import register_pytree_node_class

__all__ = ["RegularGridInterpolator"]

_METHODS = ("linear", "nearest")


@register_pytree_node_class
class RegularGridInterpolator:
    """Interpolate values given on a grid.

    Args:
        points: one rising vector of coordinates per axis of the grid.
        values: array over the grid, and maybe more axes.
        method: 'linear' or 'nearest'.
        bounds_error: must be False; outside of the grid the result is ``fill_value``.
        fill_value: number; None goes on beyond the grid.

    Example:
        >>> line = fnp.asarray([0.0, 1.0, 3.0])
        >>> f = RegularGridInterpolator((line,), line**2)
        >>> f(fnp.asarray([[0.5], [2.0]])).tolist()
        [0.5, 5.0]

    References:
        scipy.interpolate.RegularGridInterpolator
    """

    def __init__(
        self,
        points: Sequence[Any],
        values: Any,
        method: str = "linear",
        bounds_error: bool = False,
        fill_value: Any = np.nan,
    ) -> None:
        name = "RegularGridInterpolator"
        if method not in _METHODS:
            raise ValueError(f"{name}: method must be 'linear' or 'nearest', got {method!r}")
        if bounds_error:
            raise NotImplementedError(f"{name}: bounds_error=True is not supported")
        v = promotion.to_array(values, name, "values")
        grid = tuple(fnp.asarray(p) for p in points)
        if len(grid) > v.ndim:
            raise ValueError(
                f"{name}: points has {len(grid)} vectors, but values, {promotion.describe(v)}, "
                f"has {v.ndim} axes"
            )
        for k, p in enumerate(grid):
            if p.ndim != 1 or p.shape[0] != v.shape[k]:
                raise ValueError(
                    f"{name}: points[{k}] must be a vector of the {v.shape[k]} coordinates of axis "
                    f"{k} of values, got {promotion.describe(p)}"
                )
        self.method, self.bounds_error, self.fill_value = method, bounds_error, fill_value
        self.grid = grid
        self.values = promotion.convert(v, dtypes.to_inexact(v.dtype))

    def tree_flatten(self) -> tuple[Any, Any]:
        return (self.grid, self.values, self.fill_value), self.method

    @classmethod
    def tree_unflatten(cls, method: Any, children: Any) -> RegularGridInterpolator:
        made = object.__new__(cls)
        made.grid, made.values, made.fill_value = children
        made.method, made.bounds_error = method, False
        return made

    def __call__(self, xi: Any, method: str | None = None) -> Any:
        """Return values at points.

        Args:
            xi: array (..., axes), or a tuple of one array per axis.
            method: replaces that of the interpolator.

        Returns:
            An Array: the leading axes of xi, then the axes of values beyond the grid.
        """
        name = "RegularGridInterpolator"
        method = self.method if method is None else method
        if method not in _METHODS:
            raise ValueError(f"{name}: method must be 'linear' or 'nearest', got {method!r}")
        at = fnp.stack(fnp.broadcast_arrays(*xi), -1) if isinstance(xi, tuple) else fnp.asarray(xi)
        rank = len(self.grid)
        if not at.ndim or at.shape[-1] != rank:
            raise ValueError(
                f"{name}: xi must be (..., {rank}), one coordinate per axis of the grid, got "
                f"{promotion.describe(at)}"
            )
        lead = at.shape[:-1]
        at = at.reshape((-1, rank)).T
        low, share, inside = [], [], fnp.asarray(True)
        for x, g in zip(at, self.grid, strict=True):
            x, g = promotion.promote_inexact(name, x, g)
            n = g.shape[0]
            i = fnp.clip(fnp.searchsorted(g, x) - 1, 0, max(n - 2, 0))
            upper = g[fnp.minimum(i + 1, n - 1)]
            width = upper - g[i]
            low.append(i)
            share.append((x - g[i]) / fnp.where(width == 0, 1, width))
            inside = inside & (x >= g[0]) & (x <= g[-1])
        extra = (1,) * (self.values.ndim - rank)
        out = self._nearest(low, share) if method == "nearest" else self._linear(low, share, extra)
        if self.fill_value is not None:
            fill = promotion.convert(fnp.asarray(self.fill_value), out.dtype)
            out = fnp.where(inside.reshape(inside.shape + extra), out, fill)
        return out.reshape(lead + self.values.shape[rank:])

    def _nearest(self, low: list[Any], share: list[Any]) -> Any:
        places = [
            fnp.where(s <= 0.5, i, fnp.minimum(i + 1, n - 1))
            for i, s, n in zip(low, share, self.values.shape, strict=False)
        ]
        return self.values[tuple(places)]

    def _linear(self, low: list[Any], share: list[Any], extra: tuple[int, ...]) -> Any:
        out: Any = 0
        for corner in itertools.product((0, 1), repeat=len(low)):
            weight: Any = 1
            places = []
            for up, i, s, n in zip(corner, low, share, self.values.shape, strict=False):
                weight = weight * (s if up else 1 - s)
                places.append(fnp.minimum(i + up, n - 1))
            out = out + self.values[tuple(places)] * weight.reshape(weight.shape + extra)
        return out
