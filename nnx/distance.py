"""Layers that compare two arrays."""

from __future__ import annotations

from typing import Any

import funtorch as ft
import funtorch.numpy as fnp

from .module import Module, static

__all__ = ["CosineSimilarity", "PairwiseDistance"]


class CosineSimilarity(Module):
    """Compute the cosine of the angle between vectors: x1 · x2 / (max(|x1|, eps) max(|x2|, eps)).

    Args:
        axis: the axis along which vectors lie.
        eps: the least length.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.CosineSimilarity(-1)(fnp.array([3.0, 4.0]), fnp.array([4.0, 3.0])).round(2)
        Array(0.96, dtype=float32)
    """

    axis: int = static(1)
    eps: float = static(1e-8)

    def __call__(self, x1: Any, x2: Any) -> ft.Array:
        """Compare x1 and x2, which are broadcast to one shape."""
        x1, x2 = fnp.broadcast_arrays(fnp.asarray(x1), fnp.asarray(x2))
        return (self._unit(x1) * self._unit(x2)).sum(self.axis)

    def _unit(self, x: ft.Array) -> ft.Array:
        square = fnp.square(x).sum(self.axis, keepdims=True)
        short = square <= self.eps**2
        # The inner choice keeps the root's derivative finite at 0.
        length = fnp.where(short, self.eps, fnp.sqrt(fnp.where(short, 1, square)))
        return x / length


class PairwiseDistance(Module):
    """Compute the p-norm of the difference of vectors along the last axis: |x1 - x2 + eps|.

    Args:
        p: degree of the norm.
        eps: what is added to each difference, so that there is a derivative at 0.
        keepdim: whether the last axis stays, of size 1.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.PairwiseDistance()(fnp.array([3.0, 4.0]), fnp.array([0.0, 0.0])).round(3)
        Array(5., dtype=float32)
    """

    p: float = static(2.0)
    eps: float = static(1e-6)
    keepdim: bool = static(False)

    def __call__(self, x1: Any, x2: Any) -> ft.Array:
        """Measure from x2 to x1, which are broadcast to one shape."""
        difference = fnp.asarray(x1) - fnp.asarray(x2) + self.eps
        return fnp.linalg.norm(difference, self.p, axis=-1, keepdims=self.keepdim)
