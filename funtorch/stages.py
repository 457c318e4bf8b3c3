"""The stages of jitted functions: the names of jax.stages."""

from funtorch.transforms.jit import Jitted as Wrapped
from funtorch.transforms.stages import ArgInfo, Compiled, CompilerOptions, Lowered, Traced

__all__ = ["ArgInfo", "Compiled", "CompilerOptions", "Lowered", "Traced", "Wrapped"]
