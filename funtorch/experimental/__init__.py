"""Names that JAX keeps in jax.experimental."""

from funtorch.experimental import jet, ode
from funtorch.transforms.callbacks import io_callback

__all__ = ["io_callback", "jet", "ode"]
