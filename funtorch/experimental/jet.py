"""Taylor-mode differentiation."""

from funtorch.transforms.jet import jet

__all__ = ["jet"]
