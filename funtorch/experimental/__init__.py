"""Names that JAX keeps in jax.experimental."""

from funtorch.experimental import checkify, jet, ode
from funtorch.transforms.callbacks import io_callback

__all__ = ["checkify", "io_callback", "jet", "ode"]
