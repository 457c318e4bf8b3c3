"""Operators and methods of arrays, attached to `Array`.

The methods are the namespace's functions, so there is nothing here but names and the conversions
to Python
and NumPy values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.config import config
from funtorch.core import Array, ArrayImpl, Tracer, concrete_or_error, decide
from funtorch.hardware import CPU, Device, find, synchronize
from funtorch.numpy import (
    bits,
    contractions,
    creation,
    elementwise,
    indexing,
    manipulation,
    reductions,
    selection,
    sorting,
    straight,
)
from funtorch.numpy.direct import FLOATS, direct, pair
from funtorch.numpy.promotion import SCALARS, describe, from_protocol
from funtorch.placement import DeviceArray, delete, device_of, is_deleted, known_at, put
from funtorch.sharding import NamedSharding, Shard, Sharding, SingleDeviceSharding

__all__: list[str] = []

# ---------------------------------------------------------------------------------------- operators
_BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
}
_COMPARE = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}


def _reflected(operator: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other: operator(other, self)


def _attach_operators() -> None:
    for name, function in _BINARY.items():
        operator = elementwise.OPERATORS[function]
        setattr(Array, f"__{name}__", operator)
        setattr(Array, f"__r{name}__", _reflected(operator))
    for name, function in _COMPARE.items():
        setattr(Array, f"__{name}__", elementwise.OPERATORS[function])


def _operand(x: Any) -> bool:
    return isinstance(x, (Array, np.ndarray, *SCALARS))


@direct(np.matmul, FLOATS, pair)
def _matmul(self: Any, other: Any) -> Any:
    other = from_protocol(other)
    return contractions.matmul(self, other) if _operand(other) else NotImplemented


def _rmatmul(self: Any, other: Any) -> Any:
    other = from_protocol(other)
    return contractions.matmul(other, self) if _operand(other) else NotImplemented


def _divmod(self: Any, other: Any) -> Any:
    return elementwise.divmod(self, other) if _operand(other) else NotImplemented


def _rdivmod(self: Any, other: Any) -> Any:
    return elementwise.divmod(other, self) if _operand(other) else NotImplemented


def _round(self: Any, ndigits: int | None = None) -> Any:
    out = elementwise.round(self, ndigits or 0)
    return out if ndigits is not None else creation.astype(out, dtypes.default_int())


# ------------------------------------------------------------------------------------ Python values
def _scalar(x: Any, what: str) -> Any:
    """Return the one element of an array."""
    value = concrete_or_error(x, what)
    if value.size != 1 or value.ndim:
        if value.size == 1 and what in ("bool", "item"):
            return value.item()
        raise TypeError(f"only an array of rank 0 can become a Python number, got {describe(x)}")
    return value.item()


def _bool(self: Any) -> bool:
    if isinstance(self, Tracer) and config.python_control_flow and self.owner.alive:
        known = decide(self) if self.size == 1 else None
        if known is not None:
            return known
        if self.size != 1:
            raise _ambiguous(self)
    value = concrete_or_error(self, "bool")
    if value.size != 1:
        raise _ambiguous(self)
    return bool(value.item())


def _ambiguous(x: Any) -> ValueError:
    return ValueError(
        f"the truth value of an array with {x.size} elements ({describe(x)}) is ambiguous: use "
        ".any() or .all()"
    )


def _index(self: Any) -> int:
    value = concrete_or_error(self, "index")
    if value.ndim or not dtypes.is_integer(value.dtype):
        raise TypeError(f"only an integer array of rank 0 can be an index, got {describe(self)}")
    return int(value)


def _item(self: Any, *args: int) -> Any:
    """Return an element as a Python number."""
    value = concrete_or_error(self, "a Python number, by .item(),")
    return value.item(*args)


def _len(self: Any) -> int:
    if not self.shape:
        raise TypeError("len() of an array of rank 0")
    return self.shape[0]


def _iter(self: Any) -> Iterator[Any]:
    if not self.shape:
        raise TypeError("an array of rank 0 cannot be iterated over")
    return (self[k] for k in range(self.shape[0]))


def _contains(self: Any, value: Any) -> bool:
    return bool(reductions.any(elementwise.equal(self, value)))


def _setitem(self: Any, index: Any, value: Any) -> None:
    raise TypeError(
        f"arrays are immutable, so {describe(self)} has no item assignment: instead of x[i] = v "
        "write "
        "x = x.at[i].set(v)"
    )


def _format(self: Any, spec: str) -> str:
    if not spec:
        return str(self)
    if isinstance(self, ArrayImpl):
        return format(self.host() if self.ndim else self.host().item(), spec)
    found = self.values()
    return _description(self) if found is None else _formatted(found[0].tolist(), spec)


def _formatted(values: Any, spec: str) -> str:
    if isinstance(values, list):
        return f"[{', '.join(_formatted(x, spec) for x in values)}]"
    return format(values, spec)


def _description(x: Any) -> str:
    return f"{x.dtype.name}[{','.join(map(str, x.shape))}]"


def _repr(self: ArrayImpl) -> str:
    data = np.asarray(self.host())
    weak = ", weak_type=True" if self._weak else ""
    tail = f", dtype={data.dtype.name}{weak})"
    if data.size or data.ndim == 1:
        body = np.array2string(data, separator=", ", prefix="Array(", suffix=tail)
        if "\n" not in body and data.size == 0:
            tail = f", shape={data.shape}{tail}"
    else:
        body, tail = "[]", f", shape={data.shape}{tail}"
    last = len(body.rsplit("\n", 1)[-1])
    if "\n" not in body:
        last += len("Array(")
    if last + len(tail) > np.get_printoptions()["linewidth"]:
        tail = ",\n      " + tail[2:]
    return f"Array({body}{tail}"


def _str(self: Any) -> str:
    if isinstance(self, ArrayImpl):
        return str(np.asarray(self.host()))
    found = self.values()
    return _description(self) if found is None else str(found[0])


# ------------------------------------------------------------------------------------------ methods
def _straight_reshape(x: np.ndarray, *sizes: Any, order: str = "C") -> Any:
    shape = sizes[0] if len(sizes) == 1 else sizes
    return straight.reshape(x, shape, order)


@direct(_straight_reshape)
def _reshape(self: Any, *args: Any, order: str = "C") -> Any:
    """Give the array another shape with the same elements."""
    shape = args[0] if len(args) == 1 else args
    if order == "C":
        return manipulation.reshape(self, shape)
    return manipulation.reshape(self, shape, order)


def _transpose(self: Any, *args: Any) -> Any:
    """Permute the axes; without arguments reverse them."""
    if len(args) == 1 and (args[0] is None or isinstance(args[0], (tuple, list))):
        args = args[0]
    return manipulation.transpose(self, args if args else None)


def _astype(self: Any, dtype: Any, copy: bool = False, device: Any = None) -> Any:
    """Convert to a dtype; None means the default float."""
    return creation.astype(self, dtype)


def _view(self: Any, dtype: Any = None, type: None = None) -> Any:
    """Read the bytes as another dtype; one of another size changes the size of the last axis."""
    if type is not None:
        raise NotImplementedError("view: type= is not supported; arrays have one class")
    return self if dtype is None else bits.view(self, dtypes.canonical(dtype))


def _byteswap(self: Any) -> Any:
    """Return the array with the order of the bytes of each element reversed."""
    if self.dtype.itemsize == 1:
        return self
    return bits.recast(bits.recast(self, dtypes.uint8)[..., ::-1], self.dtype)


def _flatten(self: Any, order: str = "C") -> Any:
    """Return the elements as a vector."""
    return manipulation.ravel(self, order)


def _tolist(self: Any) -> Any:
    """Return the elements as nested lists of Python numbers."""
    return concrete_or_error(self, "a list, by .tolist(),").tolist()


def _tobytes(self: Any) -> bytes:
    """Return the elements' bytes in C order."""
    return concrete_or_error(self, "bytes, by .tobytes(),").tobytes()


def _block_until_ready(self: Any) -> Any:
    """Return the array once it is computed; on the CPU that is at once."""
    if type(self) is DeviceArray:
        synchronize(self.device)
    return self


def _is_deleted(self: Any) -> bool:
    """Tell whether the array's memory was given away, by donation to a jitted function."""
    return is_deleted(self)


def _delete(self: Any) -> None:
    """Give the array's memory back now; using the array afterwards raises RuntimeError."""
    if isinstance(self, ArrayImpl):
        delete(self, "by its method delete()")


def _copy(self: Any) -> Any:
    """Return a copy."""
    return creation.copy(self)


def _shallow(self: Any, memo: Any = None) -> Any:
    return self


_ON_CPU = SingleDeviceSharding(CPU)


def _device(self: Any) -> Any:
    """The device that holds the array, or its sharding over several; of a traced array, the CPU or
    that of its value."""
    known = self.concrete() if isinstance(self, Tracer) else self
    place = getattr(known, "_stays", None)
    if isinstance(place, Sharding):
        return place.device if isinstance(place, SingleDeviceSharding) else place
    return CPU if known is None else device_of(known)


def _sharding(self: Any) -> Sharding:
    """The devices that hold the array, and how it is spread over them."""
    device = self.device
    if isinstance(device, Sharding):
        return device
    return _ON_CPU if device == CPU else SingleDeviceSharding(device)


def _committed(self: Any) -> bool:
    """Whether the array stays where it is when it meets arrays on another device."""
    return type(self) is DeviceArray or bool(getattr(self, "_stays", False))


def _to(self: Any, place: Any) -> Any:
    """Return the array on a device, or converted to a dtype."""
    if isinstance(place, (Device, SingleDeviceSharding)) or (
        isinstance(place, str) and place.partition(":")[0] in ("cpu", "cuda", "gpu")
    ):
        return _to_device(self, place)
    return _astype(self, place)


def _copy_to_host_async(self: Any) -> None:
    """Begin to copy the values to the host; NumPy conversions then wait for that."""


def _devices(self: Any) -> set[Device]:
    """Return the set of devices that hold the array."""
    return _sharding(self).device_set


def _to_device(self: Any, device: Any, *, stream: Any = None) -> Any:
    """Return the array on a device: itself where it is there."""
    place = find(device, "to_device")
    if isinstance(self, Tracer):
        if self.device == place:
            return self
        raise ValueError(
            f"to_device: {describe(self)} is traced, and a traced program runs on one device: "
            "move the arguments of the function instead"
        )
    return self if device_of(self) == place else put(self, place)


def _addressable_data(self: Any, index: int) -> Any:
    """Return the part of the array on a device of this process, by number."""
    parts = _shards(self)
    if not -len(parts) <= index < len(parts):
        has = "one part, of index 0" if len(parts) == 1 else f"{len(parts)} parts, from index 0"
        raise IndexError(f"addressable_data: the array has {has}; got {index}")
    return parts[index].data


def _shards(self: Any) -> list[Shard]:
    """The parts of the array, one on each device."""
    sharding = _sharding(self)
    if isinstance(sharding, SingleDeviceSharding):
        return [Shard(sharding.device, (slice(None),) * self.ndim, self)]
    assert isinstance(sharding, NamedSharding)
    found: list[Shard] = []
    copies: Counter[str] = Counter()
    for device, index in sharding.devices_indices_map(self.shape).items():
        part = known_at(self[index], SingleDeviceSharding(device))
        found.append(Shard(device, index, part, copies[str(index)]))
        copies[str(index)] += 1
    return found


def _pointer(self: Any) -> int:
    """Return the address of the array's memory."""
    if type(self) is DeviceArray:
        return self._buffer.data.ptr
    return concrete_or_error(self, "an address, by .unsafe_buffer_pointer(),").ctypes.data


def _choose(self: Any, choices: Any, out: None = None, mode: str = "raise") -> Any:
    """Choose each element from the array of that number."""
    return selection.choose(self, choices, out, mode)


def _compress(self: Any, condition: Any, axis: int | None = None, **options: Any) -> Any:
    """Take the slices along an axis where the condition holds."""
    return sorting.compress(condition, self, axis, **options)


def _argsort(self: Any, axis: int | None = -1, **options: Any) -> Any:
    """Return the indices that sort the array."""
    return sorting.argsort(self, axis, **options)


_METHODS: dict[str, Callable[..., Any]] = {
    "__neg__": elementwise.negative,
    "__pos__": elementwise.positive,
    "__abs__": elementwise.absolute,
    "__invert__": elementwise.invert,
    "__matmul__": _matmul,
    "__rmatmul__": _rmatmul,
    "__divmod__": _divmod,
    "__rdivmod__": _rdivmod,
    "__round__": _round,
    "__bool__": _bool,
    "__index__": _index,
    "__len__": _len,
    "__iter__": _iter,
    "__contains__": _contains,
    "__getitem__": indexing.getitem,
    "__setitem__": _setitem,
    "__format__": _format,
    "__copy__": _shallow,
    "__deepcopy__": _shallow,
    "__int__": lambda self: int(_scalar(self, "int")),
    "__float__": lambda self: float(_scalar(self, "float")),
    "__complex__": lambda self: complex(_scalar(self, "complex")),
    "addressable_data": _addressable_data,
    "all": reductions.all,
    "any": reductions.any,
    "argmax": reductions.argmax,
    "argmin": reductions.argmin,
    "argpartition": selection.argpartition,
    "argsort": _argsort,
    "astype": _astype,
    "block_until_ready": _block_until_ready,
    "byteswap": _byteswap,
    "choose": _choose,
    "clip": elementwise.clip,
    "clone": _copy,
    "compress": _compress,
    "conj": elementwise.conjugate,
    "conjugate": elementwise.conjugate,
    "copy": _copy,
    "copy_to_host_async": _copy_to_host_async,
    "cumprod": reductions.cumprod,
    "cumsum": reductions.cumsum,
    "delete": _delete,
    "devices": _devices,
    "diagonal": contractions.diagonal,
    "dot": contractions.dot,
    "flatten": _flatten,
    "is_deleted": _is_deleted,
    "is_ready": lambda self: True,
    "item": _item,
    "max": reductions.max,
    "mean": reductions.mean,
    "min": reductions.min,
    "nonzero": sorting.nonzero,
    "on_device_size_in_bytes": lambda self: self.nbytes,
    "platform": lambda self: self.device.platform,
    "prod": reductions.prod,
    "ptp": reductions.ptp,
    "ravel": manipulation.ravel,
    "repeat": manipulation.repeat,
    "reshape": _reshape,
    "round": elementwise.round,
    "searchsorted": sorting.searchsorted,
    "sort": sorting.sort,
    "squeeze": manipulation.squeeze,
    "std": reductions.std,
    "sum": reductions.sum,
    "swapaxes": manipulation.swapaxes,
    "take": indexing.take,
    "to_device": _to_device,
    "to": _to,
    "tobytes": _tobytes,
    "tolist": _tolist,
    "trace": contractions.trace,
    "transpose": _transpose,
    "unsafe_buffer_pointer": _pointer,
    "var": reductions.var,
    "view": _view,
}
_PROPERTIES: dict[str, Callable[[Any], Any]] = {
    "T": manipulation.transpose,
    "mT": manipulation.matrix_transpose,
    "real": elementwise.real,
    "imag": elementwise.imag,
    "at": indexing.AtIndex,
    "nbytes": lambda self: self.size * self.dtype.itemsize,
    "itemsize": lambda self: self.dtype.itemsize,
    "device": _device,
    "sharding": _sharding,
    "is_fully_addressable": lambda self: True,
    "is_fully_replicated": lambda self: _sharding(self).is_fully_replicated,
    "committed": _committed,
    "addressable_shards": _shards,
    "global_shards": _shards,
    "flat": lambda self: manipulation.ravel(self),
}


def _attach() -> None:
    _attach_operators()
    for name, method in _METHODS.items():
        setattr(Array, name, method)
    for name, getter in _PROPERTIES.items():
        setattr(Array, name, property(getter, doc=(getter.__doc__ or "").split("\n")[0]))
    # Equality is elementwise, so arrays cannot be keys; caches use id or the values.
    setattr(Array, "__hash__", None)  # noqa: B010
    ArrayImpl.__repr__ = _repr  # type: ignore[method-assign, assignment]
    ArrayImpl.__str__ = Tracer.__str__ = _str  # type: ignore[method-assign]


_attach()
