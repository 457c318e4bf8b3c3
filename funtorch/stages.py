"""The stages of jitted functions: the names of jax.stages."""

from funtorch.transforms.jit import Jitted as Wrapped
from funtorch.transforms.stages import Compiled, Lowered, Traced

__all__ = ["Compiled", "Lowered", "Traced", "Wrapped"]
