"""Batching rules of one's own: the names of jax.custom_batching."""

from funtorch.transforms.custom_batching import custom_vmap, sequential_vmap

__all__ = ["custom_vmap", "sequential_vmap"]
