"""The machines that programs run on, under the names of jax.extend.backend."""

from __future__ import annotations

from typing import Any

from funtorch.device import Device, device_count, devices, local_devices, process_index
from funtorch.transforms import clear_caches

__all__ = ["Backend", "backends", "clear_backends", "get_backend", "get_default_device"]


class Backend:
    """One kind of device.

    Args:
        platform: 'cpu' or 'gpu'.
    """

    __slots__ = ("platform",)

    def __init__(self, platform: str) -> None:
        self.platform = platform

    @property
    def platform_version(self) -> str:
        return self.platform

    def devices(self) -> list[Device]:
        """Return its devices."""
        return devices(self.platform)

    def local_devices(self) -> list[Device]:
        """Return those of this process."""
        return local_devices(backend=self.platform)

    def device_count(self) -> int:
        """Count its devices."""
        return device_count(self.platform)

    def local_device_count(self) -> int:
        """Count those of this process."""
        return len(self.local_devices())

    def process_index(self) -> int:
        """Return the number of this process."""
        return process_index()

    def __repr__(self) -> str:
        return f"Backend({self.platform!r})"


def get_backend(platform: str | None = None) -> Backend:
    """Return a kind of device.

    Args:
        platform: 'cpu' or 'gpu'; None for that of the default device.

    Example:
        >>> get_backend("cpu").platform
        'cpu'
    """
    return Backend(devices(platform)[0].platform)


def backends() -> dict[str, Backend]:
    """Return the kinds of devices there are, by name."""
    return {d.platform: Backend(d.platform) for d in reversed(devices())}


def get_default_device() -> Device:
    """Return the device that new arrays are on, where nothing else is said."""
    return devices()[0]


def clear_backends(_crash: Any = False) -> None:
    """Forget compiled programs."""
    clear_caches()
