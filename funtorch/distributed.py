"""Programs that run as many processes, each with its part of the data.

Started by ``mpirun -n 4 python train.py`` (or ``srun``), a program runs as four processes, its
*ranks*, each of which is a device. Without such a launcher there is one, and the same program runs
in it. See docs/distributed.md.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch.core import ArrayImpl
from funtorch.numpy.promotion import asarray
from funtorch.placement import known_at
from funtorch.processes import Communicator, Pending, started, world
from funtorch.sharding import (
    Mesh,
    NamedSharding,
    P,
    PartitionSpec,
    axes_of,
    check_spec,
    make_mesh,
    set_mesh,
)
from funtorch.spread import GlobalArray
from funtorch.transforms import pmap, shard_map
from funtorch.transforms.spmd import gathered, piece_of

__all__ = [
    "Communicator",
    "Mesh",
    "NamedSharding",
    "P",
    "PartitionSpec",
    "Pending",
    "communicator",
    "gather",
    "initialize",
    "is_initialized",
    "make_array_from_callback",
    "make_array_from_process_local_data",
    "make_array_from_single_device_arrays",
    "make_mesh",
    "pmap",
    "process_allgather",
    "rank",
    "set_mesh",
    "shard_map",
    "shutdown",
    "size",
    "sync_global_devices",
]


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    local_device_ids: Any = None,
    **options: Any,
) -> None:
    """Find the other processes of the program; the launcher says who they are.

    What needs them does this by itself. Called first, it lets ``funtorch.devices()`` know of all.

    Args:
        coordinator_address, local_device_ids, options: for compatibility: the launcher knows.
        num_processes, process_id: for compatibility; if given, they must be what the launcher says.

    Raises:
        ImportError: there are several processes, and no MPI.
        RuntimeError: the launcher belongs to another MPI, or processes run other versions of
            FunTorch, NumPy or Python.
        ValueError: the launcher started another number of processes.

    Example:
        >>> from funtorch import distributed
        >>> distributed.initialize()
        >>> distributed.rank(), distributed.size()
        (0, 1)
    """
    everyone = world()
    given = (("num_processes", num_processes, everyone.size), ("process_id", process_id, rank()))
    for name, value, found in given:
        if value is not None and value != found:
            raise ValueError(
                f"distributed.initialize: {name}={value}, but the launcher says {found}: start the "
                f"program with `mpirun -n {num_processes or everyone.size}`"
            )


def is_initialized() -> bool:
    """Tell whether the processes know of each other."""
    return started()


def shutdown() -> None:
    """Wait for the other processes; MPI ends with the program."""
    world().barrier()


def rank() -> int:
    """Return the number of this process, from 0."""
    return world().rank


def size() -> int:
    """Return how many processes the program runs as."""
    return world().size


def communicator() -> Communicator:
    """Return all processes, to say things to them: objects, and buffers of NumPy.

    Example:
        >>> from funtorch import distributed
        >>> distributed.communicator().bcast_object({"seed": 3})
        {'seed': 3}
    """
    return world()


def sync_global_devices(name: str = "") -> None:
    """Wait until all processes have come here."""
    world().barrier()


# ------------------------------------------------------------------------------------------ arrays
def make_array_from_process_local_data(
    sharding: NamedSharding, local_data: Any, global_shape: tuple[int, ...] | None = None
) -> Any:
    """Return an array of which each process gives its part.

    Args:
        sharding: how the array is divided.
        local_data: this process's part.
        global_shape: the shape of the whole; None: what the parts make together.

    Raises:
        ValueError: the part has another shape than the sharding gives this process.

    Example:
        >>> import numpy as np
        >>> from funtorch import distributed
        >>> mesh = distributed.make_mesh((1,), ("data",))
        >>> sharding = distributed.NamedSharding(mesh, distributed.P("data"))
        >>> distributed.make_array_from_process_local_data(sharding, np.ones(2, "f4"))
        Array([1., 1.], dtype=float32)
    """
    local = asarray(local_data)
    shape = None if global_shape is None else tuple(global_shape)
    return _of_part(local, _whole_shape(sharding, local.shape, shape), sharding)


@functools.lru_cache(1024)
def _whole_shape(
    sharding: NamedSharding, local: tuple[int, ...], whole: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Return the shape of an array of which each process has a part.

    Raises:
        ValueError: the part has another shape than the sharding gives a process.
    """
    mesh = sharding.mesh
    if whole is None and not mesh.is_multi_process:
        whole = local
    if whole is None:
        parts = [[mesh.shape[n] for n in names] for names in axes_of(sharding.spec, len(local))]
        whole = tuple(n * math.prod(p) for n, p in zip(local, parts, strict=True))
    wanted = sharding.shard_shape(whole) if mesh.is_multi_process else whole
    if local != wanted:
        raise ValueError(
            f"make_array_from_process_local_data: the part of an array of shape {whole} is "
            f"{wanted} with {sharding.spec} on {mesh}, got {local}"
        )
    return whole


def _of_part(local: Any, shape: tuple[int, ...], sharding: NamedSharding) -> Any:
    if not sharding.mesh.is_multi_process:
        return known_at(local, sharding)
    return local if sharding.is_fully_replicated else GlobalArray(local, shape, sharding)


def make_array_from_callback(
    shape: tuple[int, ...],
    sharding: NamedSharding,
    data_callback: Callable[[Any], Any],
    *,
    dtype: Any = None,
) -> Any:
    """Return an array of which each process computes its part.

    Args:
        shape: the shape of the whole.
        sharding: how it is divided.
        data_callback: a function from the place of a part, a tuple of slices, to the part.
        dtype: what the parts are converted to; None: they stay as they are.

    Example:
        >>> import numpy as np
        >>> import funtorch as ft
        >>> rows = ft.NamedSharding(ft.make_mesh((1,), ("i",)), ft.P("i"))
        >>> ft.make_array_from_callback((3,), rows, lambda index: np.arange(3)[index])
        Array([0, 1, 2], dtype=int64)
    """
    shape = tuple(shape)
    check_spec("make_array_from_callback", sharding.mesh, sharding.spec, shape)

    def part(index: Any) -> Any:
        found = data_callback(index)
        return found if dtype is None else asarray(found, dtype)

    if not sharding.mesh.is_multi_process:
        places = sharding.devices_indices_map(shape).values()
        parts = {str(index): (index, part(index)) for index in _once(places)}
        return _put_together("make_array_from_callback", shape, sharding, list(parts.values()))
    (device,) = sharding.mesh.local_devices
    local = asarray(part(sharding.index_of(device, tuple(shape))))
    return make_array_from_process_local_data(sharding, local, tuple(shape))


def _once(places: Iterable[Any]) -> list[Any]:
    return list({str(index): index for index in places}.values())


def _put_together(
    what: str, shape: tuple[int, ...], sharding: NamedSharding, parts: Sequence[tuple[Any, Any]]
) -> Any:
    """Return an array of this process, of its parts and their places."""
    arrays = [(index, np.asarray(part)) for index, part in parts]
    wanted = sharding.shard_shape(shape)
    for index, part in arrays:
        if part.shape != wanted:
            raise ValueError(
                f"{what}: the part at {index} of an array of shape {shape} is {wanted} with "
                f"{sharding.spec} on {sharding.mesh}, got {part.shape}"
            )
    whole = np.empty(shape, arrays[0][1].dtype)
    for index, part in arrays:
        whole[index] = part
    return known_at(asarray(whole), sharding)


def make_array_from_single_device_arrays(
    shape: tuple[int, ...], sharding: NamedSharding, arrays: Sequence[Any], *, dtype: Any = None
) -> Any:
    """Return an array of parts, one from each device of this process, in the mesh's order.

    Args:
        shape: the shape of the whole.
        sharding: how it is divided.
        arrays: the parts.
        dtype: of them, for a process without any, as JAX asks for it.

    Raises:
        ValueError: there are more or fewer parts than devices, or one has another shape.

    Example:
        >>> import funtorch as ft
        >>> rows = ft.NamedSharding(ft.make_mesh((1,), ("i",)), ft.P("i"))
        >>> ft.make_array_from_single_device_arrays((2,), rows, [ft.numpy.ones(2)])
        Array([1., 1.], dtype=float32)
    """
    shape, places = tuple(shape), sharding.addressable_devices_indices_map(tuple(shape))
    if len(arrays) != len(places):
        raise ValueError(
            f"make_array_from_single_device_arrays: {sharding} has {len(places)} devices here, and "
            f"there are {len(arrays)} arrays: give one for each, in the order of mesh.devices"
        )
    if sharding.mesh.is_multi_process:
        return make_array_from_process_local_data(sharding, arrays[0], shape)
    parts = list(zip(places.values(), arrays, strict=True))
    return _put_together("make_array_from_single_device_arrays", shape, sharding, parts)


def gather(x: Any) -> Any:
    """Return a pytree whose arrays every process has all of; all processes call it.

    Example:
        >>> import funtorch as ft
        >>> ft.distributed.gather({"w": ft.numpy.ones(2)})
        {'w': Array([1., 1.], dtype=float32)}
    """
    return tree.map(lambda v: gathered(piece_of(v)) if isinstance(v, ArrayImpl) else v, x)


def process_allgather(in_tree: Any, tiled: bool = False) -> Any:
    """Return what all processes have, as NumPy arrays: the whole of arrays that are spread, and the
    values of others along a new axis in front.

    Args:
        in_tree: pytree of arrays.
        tiled: whether values are concatenated along their first axis instead.
    """

    def one(v: Any) -> np.ndarray:
        if type(v) is GlobalArray:
            return np.asarray(gather(v))
        found = world().allgather(np.asarray(v))
        return np.concatenate(found) if tiled and found.ndim > 1 else found

    return tree.map(one, in_tree)
