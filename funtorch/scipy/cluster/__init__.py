"""Clusters of points under SciPy's names."""

from __future__ import annotations

from funtorch.scipy.cluster import vq

__all__ = ["vq"]
