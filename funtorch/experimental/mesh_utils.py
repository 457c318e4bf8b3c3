"""Devices in the shape of a mesh: what JAX keeps in jax.experimental.mesh_utils."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch.hardware import Device
from funtorch.sharding import make_mesh

__all__ = ["create_device_mesh"]


def create_device_mesh(
    mesh_shape: Sequence[int], devices: Sequence[Device] | None = None, **options: Any
) -> np.ndarray:
    """Return an array of devices in a shape, for `funtorch.Mesh`.

    Args:
        mesh_shape: the sizes of its axes.
        devices: the devices to take from; None: all of the processes'.
        options: for compatibility.

    Raises:
        ValueError: there are not as many devices.

    Example:
        >>> create_device_mesh((1, 1)).shape
        (1, 1)
    """
    return make_mesh(mesh_shape, tuple(range(len(mesh_shape))), devices=devices).devices
