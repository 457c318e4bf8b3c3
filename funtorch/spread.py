"""Arrays spread over processes, of which each holds a part."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funtorch.core import ArrayImpl, ShapedArray, kind_of
from funtorch.hardware import Device
from funtorch.sharding import NamedSharding, Shard

__all__ = ["MESH", "GlobalArray", "own_part"]

MESH = Device("mesh")
"""Where arrays that are spread over processes are: what meets them is computed there."""


def own_part(x: Any, sharding: NamedSharding) -> Any:
    """Return this process's part of an array that it holds all of."""
    (device,) = sharding.mesh.local_devices
    return x[sharding.index_of(device, x.shape)]


class GlobalArray(ArrayImpl):
    """A concrete array of which this process holds a part, in the CPU's memory.

    Args:
        local: the part, an Array.
        shape: the shape of the whole.
        sharding: how it is divided.
    """

    __slots__ = ("_local", "_shape", "_sharding")

    def __init__(self, local: ArrayImpl, shape: tuple[int, ...], sharding: NamedSharding) -> None:
        self._local = local
        self._shape = shape
        self._sharding = sharding
        self._weak = local._weak
        self._kind = kind_of(shape, local.dtype, local._weak, sharding)

    @property
    def aval(self) -> ShapedArray:  # type: ignore[override]
        return ShapedArray(self._shape, self._local.dtype, self._weak)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def dtype(self) -> Any:
        return self._local.dtype

    @property
    def ndim(self) -> int:
        return len(self._shape)

    @property
    def size(self) -> int:
        return math.prod(self._shape)

    @property
    def sharding(self) -> NamedSharding:
        """How the array is divided."""
        return self._sharding

    @property
    def device(self) -> NamedSharding:
        """How the array is divided."""
        return self._sharding

    @property
    def is_fully_addressable(self) -> bool:
        """Whether this process holds all of the array."""
        return False

    @property
    def is_fully_replicated(self) -> bool:
        """Whether each process holds all of the array."""
        return self._sharding.is_fully_replicated

    @property
    def committed(self) -> bool:
        """Whether the array stays where it is when it meets others."""
        return True

    @property
    def addressable_shards(self) -> list[Shard]:
        """The parts that this process holds."""
        return [
            Shard(device, self._sharding.index_of(device, self._shape), self._local)
            for device in self._sharding.mesh.local_devices
        ]

    def addressable_data(self, index: int) -> ArrayImpl:
        """Return the part that this process holds, of index 0.

        Raises:
            IndexError: for another index.
        """
        if index not in (0, -1):
            raise IndexError(f"addressable_data: a process holds one part, of index 0; got {index}")
        return self._local

    def devices(self) -> set[Device]:
        """Return the devices that hold parts."""
        return self._sharding.device_set

    def block_until_ready(self) -> GlobalArray:
        """Return the array, which is computed."""
        return self

    def host(self) -> np.ndarray:
        """Refuse: the values are not all in this process.

        Raises:
            RuntimeError: always; it says how to get them.
        """
        raise RuntimeError(
            f"this process holds a part, {self._local.aval.str_short()}, of an array "
            f"{self.aval.str_short()} that is spread over processes ({self._sharding}). "
            "funtorch.distributed.gather(x), called by all of them, returns the whole; "
            "x.addressable_data(0) is the part"
        )

    def _refused(self, *args: Any, **kwargs: Any) -> Any:
        self.host()

    __array__ = __float__ = __int__ = __bool__ = __complex__ = __index__ = _refused
    __iter__ = item = tolist = tobytes = __dlpack__ = __buffer__ = __reduce__ = _refused

    def __repr__(self) -> str:
        return f"Array(shape={self._shape}, dtype={self.dtype}, sharding={self._sharding})"
