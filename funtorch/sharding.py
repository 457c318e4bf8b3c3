"""Where the parts of an array are: on one device, all of it.

Programs written for several devices ask arrays for their sharding; here there is one answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from funtorch.hardware import CPU, Device

__all__ = ["Shard", "Sharding", "SingleDeviceSharding"]

Index = tuple[slice, ...]


class Sharding:
    """How an array is spread over devices; `SingleDeviceSharding` is the only way."""

    __slots__ = ()


@dataclass(frozen=True)
class SingleDeviceSharding(Sharding):
    """All of an array on one device.

    Args:
        device: the device.
        memory_kind: the kind of its memory: 'device'.

    Example:
        >>> import funtorch.numpy as fnp
        >>> fnp.ones(3).sharding.device_set
        {Device(platform='cpu', id=0)}
    """

    device: Device = CPU
    memory_kind: str | None = "device"
    is_fully_addressable = True
    is_fully_replicated = True
    has_addressable_devices = True
    num_devices = 1

    @property
    def device_set(self) -> set[Device]:
        """The devices that hold the array."""
        return {self.device}

    addressable_devices = device_set

    def devices_indices_map(self, global_shape: tuple[int, ...]) -> dict[Device, Index]:
        """Return, for each device, the part of an array of a shape that it holds."""
        return {self.device: (slice(None),) * len(global_shape)}

    addressable_devices_indices_map = devices_indices_map

    def shard_shape(self, global_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the part on each device of an array of a shape."""
        return tuple(global_shape)

    def is_equivalent_to(self, other: Any, ndim: int) -> bool:
        """Tell whether another sharding puts arrays of ``ndim`` axes in the same places."""
        return isinstance(other, SingleDeviceSharding) and other.device == self.device

    def with_memory_kind(self, kind: str) -> SingleDeviceSharding:
        """Return the same sharding in another kind of memory.

        Raises:
            ValueError: the device has no such memory.
        """
        if kind != self.memory_kind:
            raise ValueError(f"with_memory_kind: {self.device} has 'device' memory, not {kind!r}")
        return self

    def __str__(self) -> str:
        return str(self.device)


@dataclass(frozen=True, eq=False)
class Shard:
    """The part of an array that one device holds.

    Args:
        device: the device.
        index: where the part is in the array.
        data: the part, an Array.
        replica_id: number of this copy of the part.
    """

    device: Device
    index: Index
    data: Any
    replica_id: int = 0
