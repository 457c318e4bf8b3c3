"""Devices, and moving pytrees of arrays to them.

Arrays are made on the CPU unless a device is named; what is computed of arrays on a GPU is computed
there. Arrays on the CPU follow those on a GPU that they meet, unless they were put there by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from funtorch import arraytree
from funtorch.core import ArrayImpl, Tracer, _state, eval_trace, use_trace
from funtorch.hardware import CPU, Device, absence, cpus, find, gpus, processes, synchronize
from funtorch.numpy.promotion import asarray
from funtorch.placement import DeviceArray, Placed, device_of, known_at, put
from funtorch.sharding import (
    NamedSharding,
    PartitionSpec,
    Sharding,
    SingleDeviceSharding,
    check_spec,
    named,
)
from funtorch.spread import GlobalArray, own_part

__all__ = [
    "copy_to_host_async",
    "default_device",
    "device_count",
    "local_device_count",
    "local_devices",
    "process_count",
    "process_index",
    "Device",
    "block_until_ready",
    "default_backend",
    "device_get",
    "device_put",
    "devices",
]


def devices(backend: str | None = None) -> list[Device]:
    """Return the devices at hand, the CPU first.

    Args:
        backend: ``'cpu'``, ``'cuda'`` or ``'gpu'``; None for all.

    Raises:
        RuntimeError: for a platform that is not there; it says why.

    Example:
        >>> import funtorch as ft
        >>> ft.devices()[0], ft.devices("cpu")
        (Device(platform='cpu', id=0), [Device(platform='cpu', id=0)])
    """
    if backend is None:
        return [*cpus(), *gpus()]
    if backend == "cpu":
        return list(cpus())
    if backend not in ("cuda", "gpu"):
        raise RuntimeError(f"there is no {backend!r} device: platforms are 'cpu' and 'cuda'")
    if not gpus():
        raise RuntimeError(f"there is no {backend!r} device: {absence()}")
    return list(gpus())


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
    """Return the devices of this process, or of another.

    Raises:
        ValueError: there is no such process.
    """
    wanted = {i for i in (process_index, host_id) if i is not None} or {processes.index}
    if len(wanted) > 1 or not wanted <= set(range(processes.count)):
        raise ValueError(
            f"local_devices: processes have the numbers 0 to {processes.count - 1}; got "
            f"{' and '.join(map(str, sorted(wanted)))}"
        )
    return [d for d in devices(backend) if d.process_index in wanted]


def local_device_count(backend: str | None = None) -> int:
    """Return how many devices this process has."""
    return len(local_devices(backend=backend))


def process_index() -> int:
    """Return the number of this process; `funtorch.distributed.initialize` finds the others.

    Example:
        >>> process_index()
        0
    """
    return processes.index


def process_count() -> int:
    """Return how many processes the program runs as, once they know of each other.

    Example:
        >>> process_count()
        1
    """
    return processes.count


@contextlib.contextmanager
def default_device(new_val: Any = None) -> Iterator[None]:
    """Choose the device that arrays are made on, for a block.

    It also is where operations on arrays are computed that were not put on another device, and
    where jitted functions of such arrays run. Inside of a function that is being traced it changes
    nothing.

    Args:
        new_val: the device, as of `device_put`.

    Raises:
        RuntimeError: for a device that is not there.

    Example:
        >>> import funtorch as ft
        >>> with ft.default_device("cpu"):
        ...     x = ft.numpy.ones(2)
        >>> x.device
        Device(platform='cpu', id=0)
    """
    if new_val is None:
        yield
        return
    device = find(new_val, "default_device")
    known = _state.trace if type(_state.trace) is not Placed else eval_trace
    with use_trace(known if device == CPU else Placed(device)):
        yield


def copy_to_host_async(x: Any) -> Any:
    """Begin to copy the arrays of a pytree to the host, where those of the CPU are already.

    NumPy conversions, `device_get` and the like then take these copies.

    Returns:
        The pytree.
    """
    for leaf in arraytree.leaves(x):
        if type(leaf) is DeviceArray:
            leaf.copy_to_host_async()
    return x


def default_backend() -> str:
    """Return the platform that arrays are made on when none is named.

    Example:
        >>> default_backend()
        'cpu'
    """
    return _state.trace.device.platform if type(_state.trace) is Placed else CPU.platform


def device_put(
    x: Any,
    device: Any = None,
    *,
    src: Any = None,
    donate: bool = False,
    may_alias: bool | None = None,
) -> Any:
    """Return a pytree with every leaf as an Array on ``device``.

    Args:
        x: pytree of arrays and numbers.
        device: a `Device`, ``'cpu'``, ``'cuda:0'``, a sharding, or None for where arrays are, or
            else the default; or a pytree prefix of these. With a `NamedSharding` each process keeps
            its part of arrays that all of them have; in one process arrays stay whole, and know
            their ``sharding``. A `PartitionSpec` is one on the current mesh.
        src, donate, may_alias: accepted for compatibility: arrays know where they are, and never
            change, so one that is there already is given back as it is.

    Raises:
        RuntimeError: for a device that is not there; it says why.

    Example:
        >>> import funtorch as ft
        >>> ft.device_put({"a": 1.0})
        {'a': Array(1., dtype=float32, weak_type=True)}
    """
    if device is None:
        return arraytree.map(asarray, x)
    treedef = arraytree.structure(x)
    places = arraytree.broadcast_prefix(device, x, "device_put: device", is_leaf=_is_place)
    pairs = zip(arraytree.leaves(x), places, strict=True)
    return treedef.unflatten([_put(asarray(leaf), place) for leaf, place in pairs])


def _is_place(x: Any) -> bool:
    return x is None or isinstance(x, (Device, Sharding, PartitionSpec))


def _spread(x: Any, sharding: NamedSharding) -> Any:
    """Return an array divided: this process's part of it, where there are several."""
    check_spec("device_put", sharding.mesh, sharding.spec, x.shape)
    if not sharding.mesh.is_multi_process or not isinstance(x, ArrayImpl):
        return known_at(x, sharding)
    if type(x) is GlobalArray:
        if sharding.is_equivalent_to(x.sharding, x.ndim):
            return x
        raise ValueError(
            f"device_put: {x!r} is spread over processes in another way: gather it first "
            "(funtorch.distributed.gather), or reshard it in a jitted function"
        )
    if sharding.is_fully_replicated:
        return x
    return GlobalArray(asarray(own_part(x, sharding)), x.shape, sharding)


def _put(x: Any, place: Any) -> Any:
    """Return an array on a device, or spread; a traced one is where its program runs."""
    place = named("device_put", place)
    if isinstance(place, NamedSharding):
        return _spread(x, place)
    if place is None or not isinstance(x, ArrayImpl):
        return x
    out = put(x, find(place, "device_put"))
    place = place.device if isinstance(place, SingleDeviceSharding) else place
    if type(place) is Device and place.platform == "cpu" and place != CPU:
        return known_at(out, SingleDeviceSharding(place))
    return out


def device_get(x: Any) -> Any:
    """Return a pytree with every Array as a read-only NumPy array; traced ones stay as they are."""

    def get(leaf: Any) -> Any:
        keep = isinstance(leaf, Tracer) or not hasattr(leaf, "__array__")
        return leaf if keep else leaf.__array__()

    return arraytree.map(get, x)


def block_until_ready(x: Any) -> Any:
    """Wait until every array of a pytree is computed, and return the pytree.

    On the CPU results are computed when a call returns, so this waits for GPUs alone.
    """
    for device in {device_of(leaf) for leaf in arraytree.leaves(x) if type(leaf) is DeviceArray}:
        synchronize(device)
    return x
