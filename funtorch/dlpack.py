"""Arrays that share memory with other libraries: the names of jax.dlpack."""

from funtorch.numpy import from_dlpack

__all__ = ["from_dlpack"]
