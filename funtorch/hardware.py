"""Devices: the places where arrays live and programs run."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CPU", "Device"]


@dataclass(frozen=True, eq=False)
class Device:
    """A place where arrays live and programs run. It is equal to its name.

    Args:
        platform: ``'cpu'``.
        id: number of the device on its platform.

    Example:
        >>> Device("cpu") == "cpu", Device("cpu", 1) == "cpu", Device("cpu", 1) == "cpu:1"
        (True, False, True)
    """

    platform: str
    id: int = 0

    @property
    def device_kind(self) -> str:
        """What the platform calls this kind of device."""
        return self.platform

    @property
    def process_index(self) -> int:
        """Number of the process that owns the device."""
        return 0

    @property
    def name(self) -> str:
        """The platform, and the number of any but its first device."""
        return f"{self.platform}:{self.id}" if self.id else self.platform

    def __str__(self) -> str:
        return f"{self.platform}:{self.id}"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Device):
            return self.name == other.name
        return self.name == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.name)


CPU = Device("cpu")
