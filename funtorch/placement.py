"""Arrays in the memory of GPUs: what they are, how they get there, how operations meet them.

A `DeviceArray` holds a CuPy array where an `ArrayImpl` holds a NumPy one, under another name. So
what reads NumPy's buffers does not find one, `Eval` hands the operation over to `process`, and
arrays on the CPU pay nothing for there being others.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from funtorch import dtypes, hardware
from funtorch.core import (
    ArrayImpl,
    Eval,
    Primitive,
    ShapedArray,
    Trace,
    aval_of,
    not_concrete,
    primitives,
)
from funtorch.hardware import CPU, Device
from funtorch.spread import MESH, GlobalArray

__all__ = [
    "HOST",
    "SYNC",
    "Deleted",
    "DeviceArray",
    "Placed",
    "array_of",
    "buffer_of",
    "delete",
    "device_of",
    "is_deleted",
    "known_at",
    "largest_arrays",
    "meeting",
    "moved",
    "on_gpu",
    "on_host",
    "own_rules",
    "placed",
    "put",
    "spread_rules",
]

_SERIAL = "the algorithm goes step by step, and NVIDIA's libraries do not have it"
HOST: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("hessenberg", "schur", "schur_shift", "sylvester", "trevc"), _SERIAL),
        **dict.fromkeys(("geqp3", "qr_pivoting"), "cuSOLVER has no pivoting in it"),
        **dict.fromkeys(("eig", "geev"), "cuSOLVER has no left eigenvectors"),
        "interchange": "it follows pivots, one after the other",
        "matrix_function": "it goes by Schur forms",
        "tridiagonal": "its reflectors are of use to LAPACK only",
        "tridiagonal_solve": "cuSPARSE's solver of many systems exchanges no rows",
    }
)
"""Primitives whose eager rule runs on the CPU, on copies, and why."""

SYNC = os.environ.get("FUNTORCH_DEBUG_SYNC", "").strip() not in ("", "0")
"""Whether the host waits after each thing that a GPU is asked to do, so that errors name it."""


class OwnRules(dict[str, Callable[..., Any]]):
    """Rules by primitive; ``rest`` gives those that are imported with the first one wanted."""

    rest: Callable[[], Mapping[str, Callable[..., Any]]] | None = None

    def find(self, name: str) -> Callable[..., Any] | None:
        """Return the rule of a primitive, None where it has none."""
        if self.rest is not None:
            self.update(self.rest())
            self.rest = None
        return self.get(name)


own_rules = OwnRules()
"""How primitives are computed on a GPU where neither CuPy nor the CPU does it: (device, *buffers,
**params) -> results."""

spread_rules: list[Callable[..., Any]] = []
"""How a primitive is computed among processes: (primitive, arrays, params) -> results."""


class Deleted:
    """Stands in an Array for the buffer that was given away; all but its type raises."""

    __slots__ = ("dtype", "shape", "why")

    def __init__(self, shape: tuple[int, ...], dtype: Any, why: str) -> None:
        self.shape, self.dtype, self.why = shape, dtype, why

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def error(self) -> RuntimeError:
        """Return the error for its use."""
        aval = ShapedArray(self.shape, self.dtype)
        return RuntimeError(f"Array has been deleted: {aval.str_short()} {self.why}")

    def _raise(self, *args: Any, **kwargs: Any) -> Any:
        raise self.error()

    __array__ = __array_ufunc__ = __array_function__ = __getitem__ = _raise

    def __getattr__(self, name: str) -> Any:
        return self._raise()


class DeviceArray(ArrayImpl):
    """A concrete array in the memory of a GPU: one CuPy buffer that nobody writes to.

    ``_pending`` holds what an asynchronous copy to the host has begun, ``_address`` where the
    buffer is, if it is row-major and aligned as kernels want it, else 0.
    """

    __slots__ = ("_address", "_buffer", "_pending")

    def __init__(
        self, buffer: Any, weak_type: bool = False, kind: int = 0, address: int = 0
    ) -> None:
        self._buffer = buffer
        self._weak = weak_type
        self._kind = kind
        self._address = address
        self._pending: Any = None

    @property
    def aval(self) -> ShapedArray:  # type: ignore[override]
        buffer = self._buffer
        return ShapedArray(buffer.shape, buffer.dtype, self._weak)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._buffer.shape

    @property
    def dtype(self) -> Any:
        return self._buffer.dtype

    @property
    def ndim(self) -> int:
        return self._buffer.ndim

    @property
    def size(self) -> int:
        return self._buffer.size

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """What lets other libraries read the array's memory."""
        return {**self._buffer.__cuda_array_interface__}

    def host(self) -> np.ndarray:
        """Return the values in the CPU's memory."""
        if self._pending is not None:
            copied, ready = self._pending
            ready.synchronize()
            return copied
        return self._buffer.get()

    def copy_to_host_async(self) -> None:
        """Begin to copy the values to page-locked memory of the CPU, which `host` waits for."""
        if self._pending is not None:
            return
        cuda = hardware.cupy().cuda
        with cuda.Device(device_of(self).id):
            buffer = self._buffer if self._buffer.flags.c_contiguous else self._buffer.copy()
            memory = cuda.alloc_pinned_memory(max(buffer.nbytes, 1))
            copied = np.frombuffer(memory, buffer.dtype, buffer.size).reshape(buffer.shape)
            stream = cuda.get_current_stream()
            copied = buffer.get(stream=stream, out=copied, blocking=False)
            ready = cuda.Event()
            ready.record(stream)
        self._pending = copied, ready
        while _under_way and _under_way[0][1].done:
            _under_way.popleft()
        _under_way.append(self._pending)


_under_way: deque[Any] = deque()
"""Copies to the host whose memory must not be given again, even if nobody wants them any more."""


def largest_arrays(count: int = 5) -> str:
    """Return a list of the largest arrays that GPUs hold, for errors."""
    arrays = [x for x in gc.get_objects() if type(x) is DeviceArray]
    arrays = [x for x in arrays if hasattr(x, "_buffer") and type(x._buffer) is not Deleted]
    found = [(a.size * a.dtype.itemsize, a.aval.str_short()) for a in arrays]
    shown = [f"  {n} bytes: {kind}" for n, kind in sorted(found, reverse=True)[:count]]
    return "\n".join(["the largest arrays on the GPU:", *shown] if shown else [])


def array_of(buffer: Any, weak_type: bool = False) -> ArrayImpl:
    """Return an array that holds a buffer of NumPy or CuPy."""
    if isinstance(buffer, (np.ndarray, np.generic)):
        return ArrayImpl(buffer, weak_type)
    return DeviceArray(buffer, weak_type)


def buffer_of(x: Any) -> Any:
    """Return the buffer of a concrete array."""
    if type(x) is GlobalArray:
        x.host()
    return x._buffer if type(x) is DeviceArray else x._data


def device_of(x: Any) -> Device:
    """Return the device of a concrete array."""
    if type(x) is DeviceArray and type(x._buffer) is not Deleted:
        return hardware.device_of(x._buffer)
    return MESH if type(x) is GlobalArray else CPU


def delete(x: Any, why: str) -> None:
    """Take the buffer out of an array; whoever uses it from now on gets a RuntimeError."""
    buffer = buffer_of(x)
    if type(buffer) is Deleted:
        return
    gone = Deleted(buffer.shape, buffer.dtype, why)
    if type(x) is DeviceArray:
        x._buffer, x._address = gone, 0
    else:
        x._data = gone
    x._kind = 0


def is_deleted(x: Any) -> bool:
    """Tell whether an array's buffer was given away."""
    x = x._local if type(x) is GlobalArray else x
    return isinstance(x, ArrayImpl) and type(buffer_of(x)) is Deleted


# ------------------------------------------------------------------------------------ moving
_numbers: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
_MOST_NUMBERS = 1024


def moved(data: np.ndarray, device: Device) -> Any:
    """Return a copy of a NumPy array in the memory of a GPU.

    What repeats along an axis is copied once, and numbers are kept there.
    """
    with on_gpu(device, "device_put") as xp:
        repeated = [n > 1 and not s for n, s in zip(data.shape, data.strides, strict=True)]
        if data.ndim and not any(repeated):
            return xp.asarray(data)
        once = data[tuple(slice(1) if r else slice(None) for r in repeated)]
        if once.size != 1:
            return xp.broadcast_to(xp.asarray(once), data.shape)
        key = device.id, data.dtype, once.tobytes()
        found = _numbers.get(key)
        if found is None:
            found = _numbers[key] = xp.asarray(once.reshape(()))
            if len(_numbers) > _MOST_NUMBERS:
                _numbers.popitem(last=False)
        return xp.broadcast_to(found, data.shape) if data.ndim else found


@contextlib.contextmanager
def on_gpu(device: Device, what: str) -> Iterator[Any]:
    """Return the context in which a GPU is the current one; it gives CuPy.

    Raises:
        MemoryError: it is out of memory; the error lists the largest arrays there.
    """
    xp = hardware.cupy()
    with xp.cuda.Device(device.id):
        try:
            yield xp
        except xp.cuda.memory.OutOfMemoryError as error:
            raise MemoryError(f"{what}: {error}; {largest_arrays()}") from None


def put(x: Any, device: Device) -> Any:
    """Return a concrete array on a device: itself where it is there."""
    if device_of(x) == device:
        if device == CPU and type(x) is ArrayImpl:
            x = ArrayImpl(x._data, x._weak, x._kind)
            x._stays = True
        return x
    if device == CPU:
        out = ArrayImpl(x.host(), x._weak)
        out._stays = True
        return out
    if type(x) is DeviceArray:
        with on_gpu(device, "device_put") as xp:
            return DeviceArray(_between(xp, x._buffer), x._weak)
    return DeviceArray(moved(x._data, device), x._weak)


def _between(xp: Any, buffer: Any) -> Any:
    """Return a copy of another GPU's buffer on the current one.

    The GPUs' streams know nothing of each other: what makes the buffer must have ended, and what
    will be in its memory next must wait for the copy.
    """
    here = xp.cuda.get_current_stream()
    with buffer.device:  # a default stream is that of the GPU at hand
        there = xp.cuda.get_current_stream()
        made = there.record()
    here.wait_event(made)
    copied, done = xp.array(buffer), here.record()
    with buffer.device:
        there.wait_event(done)
    return copied


def known_at(x: Any, sharding: Any) -> Any:
    """Return an array of the CPU that knows how it is spread over the devices of this process."""
    if type(x) is not ArrayImpl:
        return x
    x = ArrayImpl(x._data, x._weak, x._kind)
    x._stays = sharding
    return x


def _stays(x: Any) -> bool:
    """Tell whether an array must not move by itself: on a GPU, or put on the CPU by name."""
    return type(x) in (DeviceArray, GlobalArray) or getattr(x, "_stays", False)


def meeting(arrays: Sequence[Any], what: str, names: Sequence[str] = ()) -> Device | None:
    """Return the device that concrete arrays meet on; None where none says which.

    Arrays on the CPU go where the others are, unless they were put there by name.

    Args:
        arrays: arrays, or anything else, which has no say.
        what: the operation or function, for the error.
        names: of the arrays; without them they go by their positions.

    Raises:
        ValueError: two arrays are on different devices; it names both.
    """
    first: tuple[int, Device] | None = None
    for k, x in enumerate(arrays):
        if not isinstance(x, ArrayImpl) or not _stays(x):
            continue
        device = device_of(x)
        if first is None:
            first = k, device
        elif device != first[1]:
            pairs = (first, (k, device))
            shown = " and ".join(
                f"{names[n] if names else f'argument {n}'} ({arrays[n].aval.str_short()}) is on {d}"
                for n, d in pairs
            )
            raise ValueError(
                f"{what}: {shown}; move one of them: x.to('{first[1]}'), or "
                f"funtorch.device_put(x, '{first[1]}')"
            )
    return None if first is None else first[1]


# ------------------------------------------------------------------------------------ operations
def on_host(name: str, buffers: Sequence[Any], params: dict[str, Any]) -> Any:
    """Compute a primitive on copies in the CPU's memory."""
    prim = primitives[name]
    data = [np.asarray(b.get()) for b in buffers]
    with np.errstate(all="ignore"):
        return prim.eager(np, *data, **params)


def process(
    prim: Primitive, args: Sequence[Any], params: dict[str, Any], default: Device | None = None
) -> Any:
    """Compute a primitive on the device that its arguments are on.

    Args:
        prim: the primitive.
        args: concrete arrays.
        params: its parameters.
        default: the device where no argument says which.

    Raises:
        ValueError: arguments are on different devices.
        MemoryError: the device is out of memory; it lists the largest arrays there.
    """
    if not all(isinstance(a, ArrayImpl) for a in args):
        arrays = [_of_number(a) for a in args]
        if all(isinstance(a, ArrayImpl) for a in arrays):
            return prim.bind(*arrays, **params)
        raise not_concrete(args, prim)
    for a in args:
        if is_deleted(a):
            raise buffer_of(a).error()
    device = meeting(args, prim.name) or default or CPU
    if device == MESH or prim.spreads:
        return spread_rules[0](prim, args, params)
    if device == CPU:
        return Eval.process(_plain, prim, args, params)
    with on_gpu(device, prim.name) as xp:
        try:
            buffers = [
                a._buffer if type(a) is DeviceArray else moved(a._data, device) for a in args
            ]
            out = _computed(prim, xp, device, buffers, params)
        except (TypeError, ValueError):
            prim.type(*[a.aval for a in args], **params)  # its message, where it finds the fault
            raise
        if SYNC:
            xp.cuda.get_current_stream().synchronize()
    outs = out if prim.multiple_results else (out,)
    arrays = [
        DeviceArray(o if isinstance(o, xp.ndarray) else moved(np.asarray(o), device)) for o in outs
    ]
    if prim.keeps_weak and prim.multiple_results:
        for x, aval in zip(arrays, prim.type(*[a.aval for a in args], **params), strict=True):
            x._weak = aval.weak_type
    elif prim.keeps_weak:
        arrays[0]._weak = all(a._weak for a in args[prim.weak_args])
    else:
        for x in arrays:
            x._weak = params.get("weak_type", False)
    return arrays if prim.multiple_results else arrays[0]


def _computed(
    prim: Primitive, xp: Any, device: Device, buffers: Sequence[Any], params: dict[str, Any]
) -> Any:
    if prim.name in HOST:
        return on_host(prim.name, buffers, params)
    rule = own_rules.find(prim.name)
    return prim.eager(xp, *buffers, **params) if rule is None else rule(device, *buffers, **params)


def _of_number(x: Any) -> Any:
    """Return an array of a number or NumPy array, anything else as it is."""
    if not isinstance(x, (np.ndarray, np.generic, bool, int, float, complex)):
        return x
    aval = aval_of(x)
    return ArrayImpl(np.array(x, dtypes.canonical(aval.dtype)), aval.weak_type)


class Placed(Eval):
    """Compute every primitive at once, on a device unless its arguments are on another one."""

    __slots__ = ("device",)

    def __init__(self, device: Device) -> None:
        super().__init__(None, "eval")
        self.device = device

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        return process(prim, args, params, self.device)


def placed(x: Any, trace: Trace) -> Any:
    """Return a new array on the device that a trace computes on."""
    return put(x, trace.device) if type(trace) is Placed and type(x) is ArrayImpl else x


_plain = Eval(None, "eval")
Eval.elsewhere = staticmethod(process)  # type: ignore[assignment]
