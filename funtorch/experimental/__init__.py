"""Names that JAX keeps in jax.experimental."""

from funtorch.transforms.callbacks import io_callback

__all__ = ["io_callback"]
