"""SciPy's names on FunTorch arrays."""

from __future__ import annotations

from funtorch.scipy import special

__all__ = ["special"]
