"""Names that JAX keeps in jax.experimental."""

from funtorch import tracebacks as _tracebacks
from funtorch.experimental import (
    checkify,
    hijax,
    jet,
    layout,
    mesh_utils,
    multihost_utils,
    ode,
    shard_map,
    sparse,
)
from funtorch.transforms.callbacks import io_callback

__all__ = [
    "checkify",
    "hijax",
    "io_callback",
    "jet",
    "layout",
    "mesh_utils",
    "multihost_utils",
    "ode",
    "shard_map",
    "sparse",
]

for _owner in ("funtorch.experimental", checkify, checkify.Error):
    _tracebacks.add_boundaries(_owner)
del _owner
