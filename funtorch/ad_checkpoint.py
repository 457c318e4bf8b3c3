"""Recomputing instead of storing: the names of jax.ad_checkpoint."""

from funtorch.transforms import checkpoint_policies
from funtorch.transforms.remat import checkpoint, checkpoint_name, print_saved_residuals, remat

__all__ = ["checkpoint", "checkpoint_name", "checkpoint_policies", "print_saved_residuals", "remat"]
