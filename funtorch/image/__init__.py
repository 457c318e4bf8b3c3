"""Images made larger and smaller, with the names of jax.image."""

from __future__ import annotations

from funtorch.image.scaling import ResizeMethod, resize, scale_and_translate

__all__ = ["ResizeMethod", "resize", "scale_and_translate"]
