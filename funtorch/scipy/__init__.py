"""SciPy's names on FunTorch arrays."""

from __future__ import annotations

from funtorch.scipy import special, stats

__all__ = ["special", "stats"]
