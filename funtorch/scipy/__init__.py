"""SciPy's names on FunTorch arrays."""

from __future__ import annotations

from funtorch.scipy import linalg, special, stats

__all__ = ["linalg", "special", "stats"]
