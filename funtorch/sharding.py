"""Where the parts of an array are: on one device, or spread over the devices of a mesh."""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

from funtorch.hardware import CPU, Device
from funtorch.meshes import (
    AbstractDevice,
    AbstractMesh,
    AxisType,
    Mesh,
    concrete,
    current_mesh,
    get_abstract_mesh,
    get_mesh,
    make_mesh,
    set_mesh,
    use_abstract_mesh,
    use_mesh,
)

__all__ = [
    "AbstractDevice",
    "AbstractMesh",
    "AxisType",
    "Mesh",
    "NamedSharding",
    "P",
    "PartitionSpec",
    "Shard",
    "Sharding",
    "SingleDeviceSharding",
    "axes_of",
    "check_spec",
    "concrete",
    "current_mesh",
    "get_abstract_mesh",
    "get_mesh",
    "make_mesh",
    "named",
    "make_single_device_sharding",
    "set_mesh",
    "use_abstract_mesh",
    "use_mesh",
]

Index = tuple[slice, ...]


class Sharding:
    """How an array is spread over devices: `SingleDeviceSharding` or `NamedSharding`."""

    __slots__ = ()

    @property
    def device_set(self) -> set[Device]:
        """The devices that hold the array."""
        raise NotImplementedError

    @property
    def is_fully_replicated(self) -> bool:
        """Whether each device has all of the array."""
        raise NotImplementedError


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


def make_single_device_sharding(
    device: Device, *, memory_kind: str | None = "device"
) -> SingleDeviceSharding:
    """Return the sharding of all of an array on one device."""
    return SingleDeviceSharding(device, memory_kind)


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


# ------------------------------------------------------------------------------------------ specs
class _Unconstrained:
    """Stands in a spec where an axis may be divided in any way: it is not."""

    def __repr__(self) -> str:
        return "UNCONSTRAINED"


class PartitionSpec(tuple):
    """Which axes of a mesh the axes of an array are divided along: a name, several, or None each.

    Axes of the array beyond its length are not divided. An array is repeated along the axes of the
    mesh that it does not name.

    Example:
        >>> PartitionSpec("data", None, ("x", "y"))
        PartitionSpec('data', None, ('x', 'y'))
    """

    __slots__ = ()

    UNCONSTRAINED = _Unconstrained()

    def __new__(cls, *partitions: Any, unreduced: Any = (), reduced: Any = ()) -> PartitionSpec:
        if unreduced or reduced:
            raise NotImplementedError(
                "PartitionSpec: unreduced= and reduced= are of JAX's explicit axes; here sums over "
                "devices are made where they are asked for, by lax.psum"
            )
        return super().__new__(cls, map(_entry, partitions))

    unreduced = reduced = frozenset()

    def __repr__(self) -> str:
        return f"PartitionSpec({', '.join(map(repr, self))})"

    def __reduce__(self) -> Any:
        return PartitionSpec, tuple(self)

    def __add__(self, other: Any) -> PartitionSpec:  # type: ignore[override]
        return PartitionSpec(*self, *other)


def _entry(p: Any) -> Any:
    """Return an entry in the one way to spell it."""
    if not isinstance(p, (list, tuple)):
        return p
    return tuple(p) if len(p) > 1 else p[0] if p else None


P = PartitionSpec


def axes_of(spec: PartitionSpec, ndim: int) -> tuple[tuple[Hashable, ...], ...]:
    """Return the names of the mesh's axes that each axis of an array is divided along.

    Example:
        >>> axes_of(P("x"), 2)
        (('x',), ())
    """
    found = tuple(
        p if isinstance(p, tuple) else () if p is None or p is P.UNCONSTRAINED else (p,)
        for p in spec
    )
    return found + ((),) * (ndim - len(found))


def check_spec(what: str, mesh: Mesh, spec: Any, shape: tuple[int, ...]) -> None:
    """Check that an array of a shape can be divided so.

    Args:
        what: what is divided, for the error.

    Raises:
        ValueError: a name is no axis of the mesh or occurs twice, there are more entries than the
            array has axes, or an axis does not divide.
    """
    if len(spec) > len(shape):
        raise ValueError(
            f"{what}: {spec} has {len(spec)} entries for an array of shape {shape}, which has "
            f"{len(shape)} axes"
        )
    check_names(what, mesh, spec)
    for axis, names in enumerate(axes_of(spec, len(shape))):
        parts = math.prod(mesh.shape[name] for name in names)
        if shape[axis] % parts:
            shown = " * ".join(f"{name!r} ({mesh.shape[name]})" for name in names)
            raise ValueError(
                f"{what}: axis {axis} of shape {shape} must be divisible by {parts}, the size of "
                f"the mesh along {shown}, as {spec} asks for: pad it, or do not divide it"
            )


def check_names(what: str, mesh: Mesh, spec: Any) -> None:
    """Check that a spec names axes of a mesh, each once.

    Raises:
        ValueError: it does not.
        TypeError: it is no spec.
    """
    if not isinstance(spec, PartitionSpec):
        raise TypeError(
            f"{what}: a PartitionSpec is needed, such as P('data'), got {spec!r:.60} of type "
            f"{type(spec).__name__}"
        )
    names = [name for names in axes_of(spec, 0) for name in names]
    for name in names:
        if name not in mesh.axis_names:
            raise ValueError(
                f"{what}: {spec} names the axis {name!r}, and the axes of the mesh are "
                f"{', '.join(map(repr, mesh.axis_names))}"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"{what}: {spec} names an axis twice")


@dataclass(frozen=True)
class NamedSharding(Sharding):
    """An array divided along axes of a mesh.

    Args:
        mesh: the mesh.
        spec: along which of its axes each axis of the array is divided.

    Raises:
        ValueError: the spec names what is no axis of the mesh.

    Example:
        >>> NamedSharding(make_mesh((1,), ("data",)), P("data")).shard_shape((4, 3))
        (4, 3)
    """

    mesh: Any  # a Mesh, or where no devices are asked for, an AbstractMesh
    spec: PartitionSpec
    memory_kind: str | None = None

    def __post_init__(self) -> None:
        check_names("NamedSharding", self.mesh, self.spec)
        if self.memory_kind is None:
            object.__setattr__(self, "memory_kind", "device")

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.mesh, self.spec, self.memory_kind))

    def __hash__(self) -> int:  # programs are looked up by it
        return self._hash

    def __reduce__(self) -> Any:
        return NamedSharding, (self.mesh, self.spec, self.memory_kind)

    @property
    def device_set(self) -> set[Device]:
        """The devices of the mesh."""
        return set(self.mesh.devices.flat)

    @property
    def addressable_devices(self) -> set[Device]:
        """The devices of this process."""
        return set(self.mesh.local_devices)

    @property
    def num_devices(self) -> int:
        """The number of devices."""
        return self.mesh.size

    @property
    def is_fully_addressable(self) -> bool:
        """Whether all devices are this process's."""
        return not self.mesh.is_multi_process

    @property
    def is_fully_replicated(self) -> bool:
        """Whether each device has all of the array."""
        return all(self.mesh.shape[n] == 1 for names in axes_of(self.spec, 0) for n in names)

    @property
    def divided_along(self) -> tuple[Hashable, ...]:
        """The axes of the mesh that the array is divided along."""
        return tuple(name for names in axes_of(self.spec, 0) for name in names)

    def shard_shape(self, global_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the part on each device of an array of a shape.

        Raises:
            ValueError: it cannot be divided so.
        """
        check_spec("NamedSharding", self.mesh, self.spec, tuple(global_shape))
        sizes = self.mesh.shape
        return tuple(
            n // math.prod(sizes[name] for name in names)
            for n, names in zip(global_shape, axes_of(self.spec, len(global_shape)), strict=True)
        )

    def index_of(self, device: Device, global_shape: tuple[int, ...]) -> Index:
        """Return the part of an array of a shape that a device holds."""
        place, found = self.mesh.place(device), []
        axes = axes_of(self.spec, len(global_shape))
        for n, names in zip(self.shard_shape(global_shape), axes, strict=True):
            at = 0
            for name in names:
                at = at * self.mesh.shape[name] + place[name]
            found.append(slice(at * n, (at + 1) * n) if names else slice(None))
        return tuple(found)

    def devices_indices_map(self, global_shape: tuple[int, ...]) -> dict[Device, Index]:
        """Return, for each device, the part of an array of a shape that it holds."""
        return {d: self.index_of(d, global_shape) for d in self.mesh.devices.flat}

    def addressable_devices_indices_map(self, global_shape: tuple[int, ...]) -> dict[Device, Index]:
        """Return the same for the devices of this process."""
        return {d: self.index_of(d, global_shape) for d in self.mesh.local_devices}

    def is_equivalent_to(self, other: Any, ndim: int) -> bool:
        """Tell whether another sharding puts arrays of ``ndim`` axes in the same places."""
        return (
            isinstance(other, NamedSharding)
            and other.mesh == self.mesh
            and axes_of(other.spec, ndim) == axes_of(self.spec, ndim)
        )

    def update(self, **changes: Any) -> NamedSharding:
        """Return a sharding with another ``mesh``, ``spec`` or ``memory_kind``."""
        return replace(self, **changes)

    def with_memory_kind(self, kind: str) -> NamedSharding:
        """Return the same sharding in another kind of memory."""
        return NamedSharding(self.mesh, self.spec, kind)

    def __repr__(self) -> str:
        return f"NamedSharding(mesh={self.mesh}, spec={self.spec})"


def named(what: str, sharding: Any) -> Any:
    """Return a sharding for a `PartitionSpec`, on the current mesh; one with devices for one of an
    `AbstractMesh`; other things as they are.

    Raises:
        ValueError: there is no current mesh.
    """
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, AbstractMesh):
        return sharding.update(mesh=concrete(sharding.mesh))
    if not isinstance(sharding, PartitionSpec):
        return sharding
    mesh = current_mesh()
    if mesh is None:
        raise ValueError(
            f"{what}: {sharding} needs a mesh: call it inside of `with funtorch.set_mesh(mesh):`, "
            "or pass NamedSharding(mesh, spec)"
        )
    return NamedSharding(mesh, sharding)
