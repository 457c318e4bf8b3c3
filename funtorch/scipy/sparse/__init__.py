"""Sparse linear algebra under SciPy's names."""

from __future__ import annotations

from funtorch.scipy.sparse import linalg

__all__ = ["linalg"]
