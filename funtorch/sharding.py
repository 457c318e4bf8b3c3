"""Where the parts of an array are: on one device, or spread over the devices of a mesh."""

from __future__ import annotations

import enum
import functools
import math
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from funtorch.hardware import CPU, Device, cpus, processes

__all__ = [
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
    "current_mesh",
    "get_abstract_mesh",
    "get_mesh",
    "make_mesh",
    "named",
    "set_mesh",
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


# ----------------------------------------------------------------------------------------- meshes
class AxisType(enum.Enum):
    """Who divides arrays along an axis of a mesh, in JAX; here `shard_map` does, whatever it is."""

    Auto = enum.auto()
    Explicit = enum.auto()
    Manual = enum.auto()


class _Meshes(threading.local):
    def __init__(self) -> None:
        self.stack: list[Mesh] = []


_meshes = _Meshes()


class Mesh:
    """Devices in rows and columns, whose axes have names.

    As a context manager, it is the mesh of what is given none.

    Args:
        devices: an array of devices, or the shape of one, which then has the devices at hand.
        axis_names: a name for each of its axes.
        axis_types: for compatibility: kept, as ``axis_types``.

    Raises:
        ValueError: names and axes do not fit, or there are not as many devices.

    Attributes:
        devices: the array of devices.
        axis_names: the names.

    Example:
        >>> dict(Mesh((1, 1), ("data", "model")).shape)
        {'data': 1, 'model': 1}
    """

    __slots__ = ("_hash", "_key", "axis_names", "axis_types", "devices")

    def __init__(self, devices: Any, axis_names: Any, axis_types: Any = None) -> None:
        names = (axis_names,) if isinstance(axis_names, str) else tuple(axis_names)
        if not isinstance(devices, np.ndarray):
            devices = devices if isinstance(devices, (list, tuple)) else [devices]
            if all(isinstance(n, (int, np.integer)) for n in devices):
                devices = _taken(tuple(map(int, devices)), cpus())
        devices = np.array(devices, dtype=object)
        if devices.ndim != len(names) or len(set(names)) < len(names):
            raise ValueError(
                f"Mesh: devices have {devices.ndim} axes, of sizes {devices.shape}, and the names "
                f"are {names}: give each axis a name of its own"
            )
        if len(set(devices.flat)) < devices.size:
            raise ValueError("Mesh: a device occurs twice in its devices")
        devices.flags.writeable = False
        self.devices: np.ndarray = devices
        self.axis_names: tuple[Hashable, ...] = names
        given = (axis_types,) * len(names) if isinstance(axis_types, AxisType) else axis_types
        self.axis_types: tuple[AxisType, ...] = tuple(given or (AxisType.Auto,) * len(names))
        if len(self.axis_types) != len(names):
            raise ValueError(
                f"Mesh: axis_types has {len(self.axis_types)} entries for the {len(names)} axes "
                f"{names}: give one for each"
            )
        self._key = names, devices.shape, tuple(devices.flat)
        self._hash = hash(self._key)

    @property
    def shape(self) -> OrderedDict[Hashable, int]:
        """The sizes of the axes, by name."""
        return OrderedDict(zip(self.axis_names, self.devices.shape, strict=True))

    @property
    def axis_sizes(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return self.devices.shape

    @property
    def size(self) -> int:
        """The number of devices."""
        return self.devices.size

    @property
    def empty(self) -> bool:
        """Whether there is none."""
        return not self.axis_names or not self.devices.size

    @property
    def abstract_mesh(self) -> Mesh:
        """The mesh itself: names and sizes are all that programs know of it."""
        return self

    @property
    def are_all_axes_explicit(self) -> bool:
        """Whether types say how arrays are divided, as JAX's explicit axes do: they never do."""
        return False

    @property
    def is_multi_process(self) -> bool:
        """Whether devices belong to several processes."""
        return processes.count > 1

    @property
    def device_ids(self) -> np.ndarray:
        """The numbers of the devices."""
        return np.array([d.id for d in self.devices.flat]).reshape(self.devices.shape)

    @property
    def local_devices(self) -> list[Device]:
        """The devices of this process."""
        return [d for d in self.devices.flat if d.process_index == processes.index]

    def place(self, device: Device) -> dict[Hashable, int]:
        """Return where a device is: its index along each axis."""
        at = list(self.devices.flat).index(device)
        index = np.unravel_index(at, self.devices.shape)
        return dict(zip(self.axis_names, map(int, index), strict=True))

    def __enter__(self) -> Mesh:
        _meshes.stack.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _meshes.stack.pop()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mesh) and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> Any:
        return Mesh, (self.devices, self.axis_names, self.axis_types)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name!r}: {n}" for name, n in self.shape.items())
        return f"Mesh({sizes})"


def _taken(shape: tuple[int, ...], devices: Sequence[Device]) -> np.ndarray:
    """Return the first devices, in a shape.

    Raises:
        ValueError: there are fewer; it says how to get more.
    """
    count = math.prod(shape)
    if count > len(devices):
        raise ValueError(
            f"a mesh of shape {shape} needs {count} devices, and there are {len(devices)}: start "
            f"the program with `mpirun -n {count}`, or try it in one process with "
            f'config.update("num_cpu_devices", {count})'
        )
    found = np.empty(count, object)
    found[:] = devices[:count]
    return found.reshape(shape)


def make_mesh(
    axis_shapes: Sequence[int],
    axis_names: Sequence[Hashable],
    axis_types: Any = None,
    *,
    devices: Sequence[Device] | None = None,
) -> Mesh:
    """Return a mesh of the devices at hand.

    Args:
        axis_shapes: the sizes of its axes.
        axis_names: their names.
        axis_types: for compatibility.
        devices: the devices to take from; None: all of the processes', in order.

    Raises:
        ValueError: there are not as many devices.

    Example:
        >>> make_mesh((1,), ("data",))
        Mesh('data': 1)
    """
    there = cpus() if devices is None else tuple(devices)
    return Mesh(_taken(tuple(axis_shapes), there), tuple(axis_names), axis_types)


def current_mesh() -> Mesh | None:
    """Return the mesh of the innermost ``with mesh:`` block, None outside of any."""
    return _meshes.stack[-1] if _meshes.stack else None


class set_mesh:
    """Make a mesh that of what is given none: from now on, or for a block.

    Args:
        mesh: the mesh.

    Example:
        >>> with set_mesh(make_mesh((1,), ("data",))):
        ...     current_mesh()
        Mesh('data': 1)
    """

    def __init__(self, mesh: Mesh) -> None:
        _meshes.stack.append(mesh)

    def __enter__(self) -> Mesh:
        return _meshes.stack[-1]

    def __exit__(self, *exc: object) -> None:
        _meshes.stack.pop()


def use_mesh(mesh: Mesh) -> Mesh:
    """Return the context in which a mesh is that of what is given none: the mesh itself."""
    return mesh


def get_mesh() -> Mesh:
    """Return the mesh of what is given none; one without axes where there is no such."""
    return current_mesh() or Mesh((), ())


def get_abstract_mesh() -> Mesh:
    """Return the mesh of what is given none, as `get_mesh`."""
    return get_mesh()


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

    def __new__(cls, *partitions: Any) -> PartitionSpec:
        return super().__new__(cls, map(_entry, partitions))

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

    mesh: Mesh
    spec: PartitionSpec
    memory_kind: str | None = None

    def __post_init__(self) -> None:
        check_names("NamedSharding", self.mesh, self.spec)

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
    """Return a sharding for a `PartitionSpec`, on the current mesh; other things as they are.

    Raises:
        ValueError: there is no current mesh.
    """
    if not isinstance(sharding, PartitionSpec):
        return sharding
    mesh = current_mesh()
    if mesh is None:
        raise ValueError(
            f"{what}: {sharding} needs a mesh: call it inside of `with funtorch.set_mesh(mesh):`, "
            "or pass NamedSharding(mesh, spec)"
        )
    return NamedSharding(mesh, sharding)
