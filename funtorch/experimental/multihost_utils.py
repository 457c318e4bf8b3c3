"""What processes say to each other, by the names of jax.experimental.multihost_utils."""

from __future__ import annotations

from typing import Any

from funtorch.distributed import communicator, process_allgather, sync_global_devices

__all__ = ["broadcast_one_to_all", "process_allgather", "sync_global_devices"]


def broadcast_one_to_all(in_tree: Any, is_source: bool | None = None) -> Any:
    """Return the pytree that process 0 gives, in all processes.

    Args:
        in_tree: pytree of arrays.
        is_source: for compatibility: process 0 is the source.

    Example:
        >>> broadcast_one_to_all(3)
        3
    """
    return communicator().bcast_object(in_tree)
