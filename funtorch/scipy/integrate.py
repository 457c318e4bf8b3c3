"""Integrals of samples under SciPy's names."""

from __future__ import annotations

from funtorch.numpy import trapezoid

__all__ = ["trapezoid"]
