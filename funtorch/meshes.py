"""Meshes: devices in rows and columns, whose axes have names."""

from __future__ import annotations

import enum
import math
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from funtorch.hardware import Device, cpus, processes

__all__ = [
    "AbstractDevice",
    "AbstractMesh",
    "AxisType",
    "Mesh",
    "concrete",
    "current_mesh",
    "get_abstract_mesh",
    "get_mesh",
    "make_mesh",
    "set_mesh",
    "use_abstract_mesh",
    "use_mesh",
]


class AxisType(enum.Enum):
    """Who divides arrays along an axis of a mesh, in JAX; here `shard_map` does, whatever it is."""

    Auto = enum.auto()
    Explicit = enum.auto()
    Manual = enum.auto()

    def __repr__(self) -> str:
        return self.name


class _Meshes(threading.local):
    def __init__(self) -> None:
        self.stack: list[Mesh] = []


_meshes = _Meshes()


class _Axes:
    """What is known of a mesh by the names, sizes and types of its axes."""

    __slots__ = ()
    axis_names: tuple[Hashable, ...]
    axis_types: tuple[AxisType, ...]

    @property
    def axis_sizes(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        raise NotImplementedError

    @property
    def shape(self) -> OrderedDict[Hashable, int]:
        """The sizes of the axes, by name."""
        return OrderedDict(zip(self.axis_names, self.axis_sizes, strict=True))

    @property
    def shape_tuple(self) -> tuple[tuple[Hashable, int], ...]:
        """The names and sizes of the axes."""
        return tuple(self.shape.items())

    @property
    def size(self) -> int:
        """The number of devices."""
        return math.prod(self.axis_sizes) if self.axis_sizes else 0

    @property
    def empty(self) -> bool:
        """Whether there is none."""
        return not self.size

    def _of_type(self, kind: AxisType) -> tuple[Hashable, ...]:
        pairs = zip(self.axis_names, self.axis_types, strict=True)
        return tuple(name for name, found in pairs if found == kind)

    @property
    def auto_axes(self) -> tuple[Hashable, ...]:
        """The names of the axes of type Auto."""
        return self._of_type(AxisType.Auto)

    @property
    def explicit_axes(self) -> tuple[Hashable, ...]:
        """The names of the axes of type Explicit."""
        return self._of_type(AxisType.Explicit)

    @property
    def manual_axes(self) -> tuple[Hashable, ...]:
        """The names of the axes of type Manual."""
        return self._of_type(AxisType.Manual)

    @property
    def are_all_axes_auto(self) -> bool:
        """Whether all axes have the type Auto."""
        return len(self.auto_axes) == len(self.axis_names)

    @property
    def are_all_axes_explicit(self) -> bool:
        """Whether all axes, of which there are some, have the type Explicit."""
        return 0 < len(self.explicit_axes) == len(self.axis_names)

    @property
    def are_all_axes_manual(self) -> bool:
        """Whether all axes, of which there are some, have the type Manual."""
        return 0 < len(self.manual_axes) == len(self.axis_names)


def _types(axis_types: Any, names: tuple[Hashable, ...]) -> tuple[AxisType, ...]:
    """Return the type of each axis.

    Raises:
        ValueError: there are not as many as axes.
    """
    given = (axis_types,) * len(names) if isinstance(axis_types, AxisType) else axis_types
    found = tuple(given or (AxisType.Auto,) * len(names))
    if len(found) != len(names):
        raise ValueError(
            f"Mesh: axis_types has {len(found)} entries for the {len(names)} axes "
            f"{names}: give one for each"
        )
    return found


@dataclass(frozen=True)
class AbstractDevice:
    """What kind of device an `AbstractMesh` is of.

    Args:
        device_kind, num_cores, platform: as in JAX; kept.
    """

    device_kind: str
    num_cores: int | None = None
    platform: str = "cpu"


class AbstractMesh(_Axes):
    """The names and sizes of the axes of a mesh, without devices.

    Where a mesh with devices is needed, it is the current one that has these axes, or else one of
    the devices at hand.

    Args:
        axis_sizes: the sizes.
        axis_names: the names.
        axis_types: for compatibility: kept.
        abstract_device: for compatibility: kept.

    Raises:
        ValueError: there are not as many names as sizes, or a name occurs twice.

    Example:
        >>> AbstractMesh((2, 4), ("data", "model"))
        AbstractMesh('data': 2, 'model': 4, axis_types=(Auto, Auto))
    """

    __slots__ = ("_sizes", "abstract_device", "axis_names", "axis_types")

    def __init__(
        self,
        axis_sizes: Sequence[int],
        axis_names: Any,
        axis_types: Any = None,
        *,
        abstract_device: AbstractDevice | None = None,
    ) -> None:
        names = (axis_names,) if isinstance(axis_names, str) else tuple(axis_names)
        self._sizes = tuple(map(int, axis_sizes))
        if len(names) != len(self._sizes) or len(set(names)) < len(names):
            raise ValueError(
                f"AbstractMesh: axis_sizes are {self._sizes} and the names {names}: give each axis "
                "a name of its own"
            )
        self.axis_names, self.axis_types = names, _types(axis_types, names)
        self.abstract_device = abstract_device

    @property
    def axis_sizes(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return self._sizes

    @property
    def abstract_mesh(self) -> AbstractMesh:
        """The mesh itself."""
        return self

    @property
    def is_multi_process(self) -> bool:
        """Whether devices belong to several processes."""
        return processes.count > 1

    @property
    def devices(self) -> np.ndarray:
        """Refuse: there are none.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{self} has no devices, only names and sizes: funtorch.make_mesh makes one that has"
        )

    def update(self, **changes: Any) -> AbstractMesh:
        """Return one with other ``axis_sizes``, ``axis_names``, ``axis_types``..."""
        own = ("axis_sizes", "axis_names", "axis_types", "abstract_device")
        return AbstractMesh(**{name: getattr(self, name) for name in own} | changes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AbstractMesh):
            return NotImplemented
        return (self.shape_tuple, self.axis_types) == (other.shape_tuple, other.axis_types)

    def __hash__(self) -> int:
        return hash((self.shape_tuple, self.axis_types))

    def __reduce__(self) -> Any:
        return AbstractMesh, (self._sizes, self.axis_names, self.axis_types)

    def __repr__(self) -> str:
        sizes = "".join(f"{name!r}: {n}, " for name, n in self.shape.items())
        types = ", ".join(t.name for t in self.axis_types)
        types += "," if len(self.axis_types) == 1 else ""
        return f"AbstractMesh({sizes or '(), '}axis_types=({types}))"


class Mesh(_Axes):
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
        self.axis_names = names
        self.axis_types = _types(axis_types, names)
        self._key = names, devices.shape, tuple(devices.flat)
        self._hash = hash(self._key)

    @property
    def axis_sizes(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return self.devices.shape

    @property
    def abstract_mesh(self) -> AbstractMesh:
        """The names and sizes of the axes."""
        return AbstractMesh(self.axis_sizes, self.axis_names, self.axis_types)

    @property
    def local_mesh(self) -> Mesh:
        """The mesh of this process's devices: itself in one process."""
        if not self.is_multi_process:
            return self
        shape = (1,) * (self.devices.ndim - 1) + (-1,)
        own = np.array(self.local_devices, object).reshape(shape)
        return Mesh(own, self.axis_names, self.axis_types)

    def update(self, **changes: Any) -> Mesh:
        """Return a mesh with other ``devices``, ``axis_names`` or ``axis_types``."""
        own = {name: getattr(self, name) for name in ("devices", "axis_names", "axis_types")}
        return Mesh(**own | changes)

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


def get_abstract_mesh() -> AbstractMesh:
    """Return the axes of the mesh of what is given none; none where there is no such."""
    return get_mesh().abstract_mesh


def concrete(mesh: Mesh | AbstractMesh) -> Mesh:
    """Return a mesh with devices: itself, or of an abstract one, the current mesh if it has these
    axes, or else one of the devices at hand.

    Raises:
        ValueError: there are not as many devices.
    """
    if isinstance(mesh, Mesh):
        return mesh
    there = current_mesh()
    if there is not None and there.shape_tuple == mesh.shape_tuple:
        return there
    return make_mesh(mesh.axis_sizes, mesh.axis_names, mesh.axis_types)


def use_abstract_mesh(mesh: AbstractMesh) -> Mesh:
    """Return the context in which a mesh with these axes is that of what is given none."""
    return concrete(mesh)
