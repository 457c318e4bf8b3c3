"""From what users pass to what primitives take: conversion, promotion, broadcasting.

Primitives are strict: equal shapes and dtypes. Everything NumPy allows beyond that is settled
here, once,
before the primitive is bound.
"""

from __future__ import annotations

import contextvars
import functools
import itertools
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import funtorch.ops.bits
import funtorch.ops.contract
import funtorch.ops.elementwise
import funtorch.ops.fft
import funtorch.ops.indexing
import funtorch.ops.linalg
import funtorch.ops.reduce
import funtorch.ops.shape
import funtorch.ops.sort  # noqa: F401  (registers its primitives)
from funtorch import dtypes
from funtorch.config import allows_tf32, config
from funtorch.core import (
    Array,
    ArrayImpl,
    Tracer,
    _state,
    aval_of,
    concrete_or_error,
    eval_trace,
    primitives,
)
from funtorch.errors import MismatchError
from funtorch.hardware import cupy
from funtorch.numpy.places import divisible, on_device
from funtorch.numpy.strictness import check_dtypes, check_ranks
from funtorch.ops.families import broadcast_in_dim
from funtorch.placement import DeviceArray, placed

__all__ = [
    "array",
    "asarray",
    "broadcast",
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_to",
    "canonical_axes",
    "canonical_axis",
    "convert",
    "describe",
    "from_protocol",
    "is_eager",
    "no_out",
    "moves",
    "own",
    "promote",
    "promote_inexact",
    "quiet",
    "reading_lists",
    "result_type",
    "shape_of",
    "static_int",
    "to_array",
    "to_arrays",
]

_WIDE = (dtypes.float64, dtypes.complex128)
SCALARS = (bool, int, float, complex, np.generic)


# ------------------------------------------------------------------------------------ eager helpers
class _Quiet(threading.local):
    """A context per thread in which NumPy's floating-point warnings are off.

    Running a ufunc in it costs 0.1 us; entering `numpy.errstate` costs 1 us. A context cannot be
    entered
    twice, hence one per thread, and only plain ufuncs run in it.
    """

    def __init__(self) -> None:
        context = contextvars.Context()
        context.run(np.seterr, all="ignore")
        self.run: Callable[..., Any] = context.run


quiet = _Quiet()


def own(out: Any) -> Any:
    """Return a result of NumPy as an array: 0-d results come back as NumPy scalars."""
    return np.asarray(out) if isinstance(out, np.generic) else out


def is_eager(*arrays: Any) -> bool:
    """Tell whether operations on these arrays are computed at once."""
    return _state.trace is eval_trace and all(type(a) is ArrayImpl for a in arrays)


# --------------------------------------------------------------------------------------- conversion
def describe(x: Any) -> str:
    """Return the short type of an array for messages, such as ``float32[3,2]``."""
    aval = aval_of(x)
    return f"{aval.dtype.name}[{','.join(map(str, aval.shape))}]"


reading_lists: contextvars.ContextVar[bool] = contextvars.ContextVar("lists", default=False)
"""Whether lists are taken for arrays, as NumPy does: in calls of NumPy's own functions."""


class PartsError(TypeError):
    """What came is made of several arrays, which only functions that move elements take."""

    def __init__(self, text: str, value: Any) -> None:
        super().__init__(text)
        self.value = value


def moves(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function that only moves elements take what is made of several arrays (decorator).

    Such a value, an array of random keys, says how by ``move_parts(function, args, kwargs)``.
    """

    @functools.wraps(function)
    def moved(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except PartsError as error:
            value = error.value
        return value.move_parts(function, args, kwargs)

    return moved


def from_protocol(x: Any) -> Any:
    """Return the array that an object says it is, by JAX's ``__jax_array__``, or itself."""
    return x.__jax_array__() if hasattr(type(x), "__jax_array__") else x


def to_array(x: Any, function: str, argument: str = "x") -> Any:
    """Return an argument of a function as an Array; Python scalars become weak.

    Raises:
        TypeError: it is neither an array nor a number.
    """
    if isinstance(x, Array):
        return x
    if isinstance(x, np.ndarray):
        return ArrayImpl(np.array(x, dtype=dtypes.canonical(x.dtype)))
    if isinstance(x, SCALARS):
        dtype, weak = dtypes.scalar_type(x)
        out = ArrayImpl(quiet.run(np.array, x, dtype), weak)
        if weak and isinstance(x, (float, complex)):
            out._exact = x
        return out
    if hasattr(type(x), "__jax_array__"):
        return to_array(x.__jax_array__(), function, argument)
    if reading_lists.get() and (isinstance(x, (list, tuple)) or hasattr(x, "__array__")):
        return asarray(x)
    text = (
        f"{function}: argument {argument} must be an array or a number, got {type(x).__name__}; "
        "convert it with funtorch.numpy.asarray first"
    )
    raise PartsError(text, x) if hasattr(type(x), "move_parts") else TypeError(text)


def to_arrays(function: str, **arguments: Any) -> list[Any]:
    """Return several named arguments of a function as Arrays."""
    return [to_array(x, function, name) for name, x in arguments.items()]


def no_out(out: Any, function: str) -> None:
    """Check the argument ``out`` of a function, which is there for NumPy's signature only."""
    if out is not None:
        raise NotImplementedError(
            f"{function}: out= is not supported, as arrays are immutable; use the result"
        )


_PRECISIONS = frozenset(
    ["default", "fastest", "bfloat16", "bfloat16_3x", "tensorfloat32", "tf32", "high"]
    + ["float32", "highest"]
)


def check_precision(precision: Any, function: str) -> None:
    """Check the argument ``precision`` of a product, which must make sense.

    It is None, a name, that of an algorithm such as 'BF16_BF16_F32', or one of these per operand.
    """
    if precision is None:
        return
    pair = type(precision) is tuple and len(precision) == 2
    for one in precision if pair else (precision,):
        known = one is None or (isinstance(one, str) and (one in _PRECISIONS or one.count("_") > 1))
        if not known:
            raise ValueError(
                f"{function}: precision must be None, one of {', '.join(sorted(_PRECISIONS))}, the "
                f"name of an algorithm such as 'F32_F32_F32', or a pair of these; got {precision!r}"
            )


def rounded(precision: Any) -> dict[str, Any]:
    """Return what dot_general is told of a precision; None is that of the settings."""
    tf32 = config.tf32 if precision is None else allows_tf32(precision)
    return {"precision": "tf32"} if tf32 else {}


def shape_of(x: Any) -> tuple[int, ...]:
    return x.shape if isinstance(x, (Array, np.ndarray)) else np.shape(x)


def convert(x: Any, dtype: Any, weak: bool = False) -> Any:
    """Return an Array with another dtype; values that are known are converted at once."""
    if x.dtype == dtype and x.weak_type == weak:
        return x
    if type(x) is ArrayImpl:
        if x.dtype == dtype:
            return ArrayImpl(x._data, weak)
        if x._weak and dtype in _WIDE and hasattr(x, "_exact"):
            exact = x._exact if dtypes.is_complex(dtype) else x._exact.real
            return ArrayImpl(np.array(exact, dtype), weak)
        data = quiet.run(primitives["convert"].eager, np, x._data, dtype=dtype, weak_type=weak)
        return ArrayImpl(own(data), weak)
    return primitives["convert"].bind(x, dtype=dtype, weak_type=weak)


_SEQUENCES = (list, tuple, range)


def _leaves(x: Any) -> Iterator[Any]:
    if isinstance(x, _SEQUENCES):
        for item in x:
            yield from _leaves(item)
    else:
        yield x


def _leaves_and_kinds(x: Any) -> tuple[Sequence[Any], set[type]]:
    """Return what nested sequences hold, and its types; regular ones are gone through natively."""
    items: Sequence[Any] = x
    while True:
        kinds = set(map(type, items))
        nested = [issubclass(kind, _SEQUENCES) for kind in kinds]
        if not any(nested):
            return items, kinds
        if not all(nested):
            items = list(_leaves(items))
            return items, set(map(type, items))
        items = list(itertools.chain.from_iterable(items))


def _from_sequence(x: Any, dtype: Any) -> Any:
    leaves, kinds = _leaves_and_kinds(x)
    if any(issubclass(kind, Array) or hasattr(kind, "__jax_array__") for kind in kinds):
        return _stack_nested(x, dtype, leaves)
    if dtype is not None:
        return ArrayImpl(np.array(x, dtype))
    if not kinds:
        return ArrayImpl(np.array(x, dtypes.default_float()))
    if kinds <= {bool, int, float, complex}:
        data = np.array(x)
        if data.dtype.kind in "fc":
            # A complex list is complex, a float one float, whatever the ints among them.
            dtype = dtypes.canonical({"f": float, "c": complex}[data.dtype.kind])
        elif data.dtype.kind == "i" and data.size:
            dtype = dtypes.result_type_weak(
                dtypes.scalar_type(int(data.min())), dtypes.scalar_type(int(data.max()))
            )[0]
        else:
            dtype = dtypes.canonical(data.dtype)
        return ArrayImpl(data.astype(dtype, copy=False))
    for leaf in leaves:
        if hasattr(leaf, "__array__") and not isinstance(leaf, (np.ndarray, *SCALARS)):
            return _stack_nested(x, dtype, leaves)
        if not isinstance(leaf, (np.ndarray, *SCALARS)):
            raise (MismatchError if leaf is None else TypeError)(
                f"array: a value of type {type(leaf).__name__} is not a number or an array: "
                f"{leaf!r:.80}"
            )
    dtype = dtypes.result_type_weak(*[_dtype_weak(leaf) for leaf in leaves])[0]
    return ArrayImpl(np.array(x, dtype))


def _dtype_weak(x: Any) -> tuple[Any, bool]:
    aval = aval_of(from_protocol(x))
    return dtypes.canonical(aval.dtype), aval.weak_type


def _stack_nested(x: Any, dtype: Any, leaves: Sequence[Any]) -> Any:
    if dtype is None:
        known = [asarray(leaf) if hasattr(leaf, "__array__") else leaf for leaf in leaves]
        dtype = dtypes.result_type_weak(*[_dtype_weak(x) for x in known])[0]

    def build(node: Any) -> Any:
        if not isinstance(node, (list, tuple, range)):
            return convert(asarray(node), dtype)
        if not node:
            return ArrayImpl(np.zeros((0,), dtype))
        parts = [build(item) for item in node]
        for k, part in enumerate(parts):
            if part.shape != parts[0].shape:
                raise MismatchError(
                    "array: the items of a list must have one shape; item 0 is "
                    f"{describe(parts[0])}, item "
                    f"{k} is {describe(part)}"
                )
        shape = (1, *parts[0].shape)
        rows = [primitives["reshape"].bind(part, shape=shape) for part in parts]
        return primitives["concatenate"].bind(*rows, axis=0)

    return build(x)


def array(
    object: Any,
    dtype: Any = None,
    *,
    copy: bool | None = True,
    order: str | None = "K",
    ndmin: int = 0,
    device: Any = None,
    out_sharding: Any = None,
) -> Any:
    """Make an Array from numbers, nested lists, NumPy arrays or Arrays.

    NumPy arrays keep their dtype, float64 included; Python ints become int32 (int64 where they
    need it)
    and floats the default float. Values are copied, so later writes to a NumPy input do not show.

    Args:
        object: number, (nested) list or tuple that may hold Arrays and tracers, NumPy array, Array.
        dtype: dtype of the result; None keeps the one the values have.
        copy: Arrays are immutable, so this changes nothing.
        order: only 'C' and 'K' layouts exist.
        ndmin: leading axes of size 1 are added up to this rank.
        device, out_sharding: where it is to be: None, or as for `funtorch.device_put`.

    Returns:
        An Array.

    Raises:
        TypeError: a value is no number, or the dtype is not supported.

    Example:
        >>> array([1.0, 2.0])
        Array([1., 2.], dtype=float32)

    References:
        numpy.array
    """
    if order not in (None, "C", "K", "A"):
        raise NotImplementedError(f"array: order={order!r} is not supported; arrays have C order")
    out = asarray(object, dtype, device=device, out_sharding=out_sharding)
    ndmin = static_int(ndmin, "array: ndmin")
    if out.ndim < ndmin:
        out = primitives["reshape"].bind(out, shape=(1,) * (ndmin - out.ndim) + out.shape)
    return out


def _buffer(a: Any) -> np.ndarray | None:
    """Return the numbers in an object with Python's buffer protocol, such as `array.array`."""
    if isinstance(a, (str, bytes)):
        return None
    try:
        return np.asarray(memoryview(a))
    except (TypeError, ValueError):
        return None


def asarray(
    a: Any,
    dtype: Any = None,
    order: str | None = None,
    *,
    copy: bool | None = None,
    device: Any = None,
    out_sharding: Any = None,
) -> Any:
    """Return an Array with the values of ``a``; an Array comes back as it is.

    Args:
        a: as for `array`.
        dtype: dtype of the result; None keeps the one the values have. A bare Python scalar
            without a dtype becomes weakly typed.
        order: only 'C' and 'K' layouts exist.
        copy: Arrays are immutable, so None and True are alike; False raises where the values
            have to be copied.
        device, out_sharding: where it is to be: None, or as for `funtorch.device_put`.

    Returns:
        An Array.

    Raises:
        TypeError: a value is no number, or the dtype is not supported.
        ValueError: a copy is needed and not allowed, or there is no such device.

    Example:
        >>> asarray(1.5)
        Array(1.5, dtype=float32, weak_type=True)

    References:
        numpy.asarray
    """
    if dtype is not None:
        dtype = dtypes.canonical(dtype)
    device = out_sharding if device is None else device
    if device is not None:
        return on_device(device, asarray, a, dtype, order, copy=copy)
    if copy is False and not (isinstance(a, Array) and dtype in (None, a.dtype)):
        raise ValueError(
            f"asarray: copy=False, but a {type(a).__name__} becomes an array of dtype "
            f"{dtype or 'its own'} only by a copy"
        )
    if isinstance(a, Array):
        return a if dtype is None else convert(a, dtype)
    if isinstance(a, (list, tuple, range)):
        return placed(_from_sequence(a, dtype), _state.trace)
    if isinstance(a, SCALARS):
        if dtype is not None:
            return placed(ArrayImpl(np.array(a, dtype)), _state.trace)
        return to_array(a, "asarray", "a")
    known = isinstance(a, np.ndarray)
    if not known and hasattr(type(a), "__jax_array__"):
        return asarray(a.__jax_array__(), dtype)
    if not known and dtype is None and hasattr(type(a), "move_parts"):
        return a  # made of arrays, as keys are
    if not known and hasattr(a, "__cuda_array_interface__"):
        out = DeviceArray(cupy().asarray(a))
        return convert(out, dtypes.canonical(out.dtype) if dtype is None else dtype)
    if known or hasattr(a, "__array__") or hasattr(a, "__array_interface__"):
        data = np.asarray(a)
        with np.errstate(all="ignore"):
            made = np.array(data, dtype=dtypes.canonical(data.dtype) if dtype is None else dtype)
        return placed(ArrayImpl(made), _state.trace)
    if hasattr(a, "__dlpack__"):
        return asarray(np.from_dlpack(a), dtype)
    buffer = _buffer(a)
    if buffer is not None:
        return asarray(buffer, dtype)
    if a is None:
        raise MismatchError("asarray: None is not a valid value for an array: give numbers")
    raise TypeError(
        f"asarray: a value of type {type(a).__name__} cannot become an array: {a!r:.80}; give "
        "numbers, "
        "nested lists of numbers, or an array"
    )


# ---------------------------------------------------------------------------------------- promotion
def promote(function: str, *arrays: Any) -> list[Any]:
    """Return Arrays with their common dtype (shapes as they are)."""
    dtype, weak = arrays[0].dtype, arrays[0].weak_type
    for a in arrays:
        if a.dtype is not dtype or a.weak_type != weak:
            break
    else:
        return list(arrays)
    if config.numpy_dtype_promotion == "strict":
        check_dtypes(function, arrays)
    dtype, weak = dtypes.result_type_weak(*[(a.dtype, a.weak_type) for a in arrays])
    return [convert(a, dtype, weak) for a in arrays]


def promote_inexact(function: str, *arrays: Any) -> list[Any]:
    """Return Arrays with their common dtype, floats where they are integers or bool."""
    dtype, weak = dtypes.result_type_weak(*[(a.dtype, a.weak_type) for a in arrays])
    dtype = dtypes.to_inexact(dtype)
    return [convert(a, dtype, weak) for a in arrays]


def result_type(*args: Any) -> Any:
    """Return the dtype that arrays, scalars and dtypes promote to.

    Example:
        >>> result_type(asarray([1], "int8"), 2.0)
        dtype('float32')

    References:
        numpy.result_type
    """
    return dtypes.result_type(*args)


# ------------------------------------------------------------------------------------- broadcasting
def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """Return the shape that shapes broadcast to.

    Raises:
        ValueError: two sizes of an axis differ and neither is 1.

    Example:
        >>> broadcast_shapes((3, 1), (4,))
        (3, 4)

    References:
        numpy.broadcast_shapes
    """
    shapes = tuple((s,) if isinstance(s, int) else tuple(s) for s in shapes)
    ndim = max(map(len, shapes), default=0)
    out = [1] * ndim
    for shape in shapes:
        for k, n in enumerate(shape, ndim - len(shape)):
            if out[k] == 1:
                out[k] = n
            elif n not in (1, out[k]):
                named = ", ".join(f"shape {s} at position {i}" for i, s in enumerate(shapes))
                raise MismatchError(
                    f"shapes cannot be broadcast together: {named}; counted from the right, "
                    "sizes of an axis "
                    "must be equal or 1"
                )
    return tuple(out)


def spread_to(x: Any, shape: tuple[int, ...]) -> Any:
    """Broadcast an Array to a shape it is known to fit."""
    if x.shape == shape:
        return x
    return broadcast_in_dim(x, shape=shape, dims=tuple(range(len(shape) - x.ndim, len(shape))))


def broadcast(function: str, *arrays: Any) -> list[Any]:
    """Return Arrays broadcast against each other.

    Raises:
        ValueError: the shapes do not fit; the message names positions, shapes and dtypes.
    """
    shapes = {a.shape for a in arrays}
    if len(shapes) == 1:
        return list(arrays)
    if config.numpy_rank_promotion != "allow" and function != "broadcast_arrays":
        check_ranks(function, arrays)
    try:
        shape = broadcast_shapes(*shapes)
    except ValueError:
        raise broadcast_error(function, arrays) from None
    return [spread_to(a, shape) for a in arrays]


def broadcast_error(function: str, arrays: Sequence[Any]) -> ValueError:
    """Return the error for shapes that do not broadcast."""
    named = ", ".join(f"argument {k} is {describe(a)}" for k, a in enumerate(arrays))
    return MismatchError(
        f"{function}: shapes cannot be broadcast together: {named}; counted from the right, "
        "sizes of an axis must be equal or 1: reshape one, or add axes of size 1 (x[:, None])"
    )


@moves
@divisible()
def broadcast_to(array: Any, shape: Any, *, out_sharding: Any = None) -> Any:
    """Broadcast an array to a shape.

    Args:
        array: array of any shape that broadcasts to ``shape``.
        shape: int or sequence of ints.
        out_sharding: how the result is divided over a mesh; None: it is not.

    Returns:
        An Array of that shape.

    Raises:
        ValueError: it does not fit.

    Example:
        >>> broadcast_to(asarray([1, 2]), (2, 2))
        Array([[1, 2],
               [1, 2]], dtype=int32)

    References:
        numpy.broadcast_to
    """
    x = to_array(array, "broadcast_to", "array")
    shape = canonical_shape(shape, "broadcast_to")
    fits = len(shape) >= x.ndim and all(
        n in (1, m) for n, m in zip(reversed(x.shape), reversed(shape), strict=False)
    )
    if not fits:
        raise MismatchError(
            f"broadcast_to: {describe(x)} cannot be broadcast to shape {shape}; counted from the "
            "right, sizes must be equal or 1 in the array: add axes of size 1 (x[:, None])"
        )
    return spread_to(x, shape)


def broadcast_arrays(*args: Any) -> list[Any]:
    """Broadcast arrays against each other.

    References:
        numpy.broadcast_arrays
    """
    return broadcast(
        "broadcast_arrays", *[to_array(a, "broadcast_arrays", str(k)) for k, a in enumerate(args)]
    )


# --------------------------------------------------------------------------------- static arguments
def static_int(x: Any, what: str) -> int:
    """Return a static argument as a Python int.

    Raises:
        TypeError: it is not an integer; a traced one says that its value is not known.
    """
    if type(x) is int:
        return x
    if isinstance(x, Array):
        x = concrete_or_error(x, f"{what} (a static Python int)")
        if x.ndim == 0 and x.dtype.kind in "iub":
            return int(x)
    try:
        return operator.index(x)
    except TypeError:
        raise TypeError(f"{what} must be an integer, got {type(x).__name__}: {x!r:.80}") from None


def canonical_shape(shape: Any, function: str) -> tuple[int, ...]:
    """Return a shape argument, an int or a sequence of ints, as a tuple."""
    if type(shape) is tuple and all(type(n) is int and n >= 0 for n in shape):
        return shape
    if isinstance(shape, Tracer):
        concrete_or_error(shape, f"the shape given to {function}")
    if isinstance(shape, (list, tuple)) or np.ndim(shape):
        out = tuple(static_int(n, f"{function}: a size in shape") for n in shape)
    else:
        out = (static_int(shape, f"{function}: shape"),)
    if any(n < 0 for n in out):
        raise MismatchError(f"{function}: shape {out} has a negative size")
    return out


def canonical_axis(axis: Any, ndim: int, function: str) -> int:
    """Return an axis counted from the front.

    Raises:
        ValueError: there is no such axis.
    """
    k = static_int(axis, f"{function}: axis")
    if not -ndim <= k < ndim:
        use = f": use {-ndim} to {ndim - 1}" if ndim else ""
        raise ValueError(
            f"{function}: axis {k} is out of bounds for an array with {ndim} axes{use}"
        )
    return k % ndim


def canonical_axes(axis: Any, ndim: int, function: str) -> tuple[int, ...]:
    """Return an axis argument (None: all of them, an int, or a sequence) as a sorted tuple."""
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, (tuple, list, range)) else (axis,)
    axes = tuple(sorted(canonical_axis(k, ndim, function) for k in given))
    if len(set(axes)) != len(axes):
        raise ValueError(f"{function}: axis {axis} names an axis twice")
    return axes
