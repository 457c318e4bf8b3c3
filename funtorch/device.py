"""Devices, and moving pytrees of arrays to them. Programs run on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from funtorch import arraytree
from funtorch.hardware import CPU, Device
from funtorch.numpy.promotion import asarray

__all__ = [
    "copy_to_host_async",
    "default_device",
    "device_count",
    "local_devices",
    "Device",
    "block_until_ready",
    "default_backend",
    "device_get",
    "device_put",
    "devices",
]


def devices(backend: str | None = None) -> list[Device]:
    """Return the devices at hand.

    Args:
        backend: ``'cpu'`` or None.

    Raises:
        RuntimeError: for a platform that is not there.

    Example:
        >>> import funtorch as ft
        >>> ft.devices()
        [Device(platform='cpu', id=0)]
    """
    if backend not in (None, "cpu"):
        raise RuntimeError(f"there is no {backend!r} device: this build runs on 'cpu' only")
    return [CPU]


def device_count(backend: str | None = None) -> int:
    """Return how many devices there are.

    Example:
        >>> import funtorch as ft
        >>> ft.device_count() == len(ft.devices())
        True
    """
    return len(devices(backend))


def local_devices(
    process_index: int | None = None, backend: str | None = None, host_id: int | None = None
) -> list[Device]:
    """Return the devices of this process: all there are.

    Raises:
        ValueError: for another process than 0.
    """
    for index in (process_index, host_id):
        if index not in (None, 0):
            raise ValueError(f"local_devices: there is one process, of index 0; got {index}")
    return devices(backend)


@contextlib.contextmanager
def default_device(new_val: Any = None) -> Iterator[None]:
    """Choose the device that arrays are made on, for a block.

    Args:
        new_val: the device, as of `device_put`.

    Raises:
        RuntimeError: for a device that is not there.

    Example:
        >>> import funtorch as ft
        >>> with ft.default_device(ft.devices("cpu")[0]):
        ...     x = ft.numpy.ones(2)
    """
    device_put((), new_val)
    yield


def copy_to_host_async(x: Any) -> Any:
    """Begin to copy the arrays of a pytree to the host, where those of the CPU are already.

    Returns:
        The pytree.
    """
    return x


def default_backend() -> str:
    """Return the platform that programs run on when none is named."""
    return CPU.platform


def device_put(x: Any, device: Any = None) -> Any:
    """Return a pytree with every leaf as an Array on ``device``.

    Args:
        x: pytree of arrays and numbers.
        device: a `Device`, ``'cpu'``, ``'cpu:0'``, a sharding, or None for the default.

    Raises:
        RuntimeError: for a device that is not there.

    Example:
        >>> import funtorch as ft
        >>> ft.device_put({"a": 1.0})
        {'a': Array(1., dtype=float32, weak_type=True)}
    """
    if device is not None and str(device) not in ("cpu", "cpu:0"):
        raise RuntimeError(
            f"device_put: there is no device {device!s}; devices are {[str(d) for d in devices()]}"
        )
    return arraytree.map(asarray, x)


def device_get(x: Any) -> Any:
    """Return a pytree with every Array as a read-only NumPy array."""
    return arraytree.map(lambda leaf: leaf.__array__() if hasattr(leaf, "__array__") else leaf, x)


def block_until_ready(x: Any) -> Any:
    """Wait until every array of a pytree is computed, and return the pytree.

    On the CPU results are computed when a call returns, so this returns at once.
    """
    return x
