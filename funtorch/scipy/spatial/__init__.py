"""Geometry: rotations of space."""

from funtorch.scipy.spatial import transform

__all__ = ["transform"]
