"""Functions that make arrays: constants, ranges, identities, grids."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.config import config
from funtorch.core import (
    Array,
    ArrayImpl,
    _state,
    aval_of,
    concrete_or_error,
    eval_trace,
    primitives,
)
from funtorch.hardware import cupy
from funtorch.numpy.direct import compiled_if_large, direct
from funtorch.numpy.elementwise import absolute, add, divide, log10, multiply, subtract, where
from funtorch.numpy.places import on_device
from funtorch.numpy.promotion import (
    SCALARS,
    array,
    asarray,
    broadcast_to,
    canonical_axis,
    canonical_shape,
    convert,
    promote_inexact,
    static_int,
    to_array,
    to_arrays,
)
from funtorch.ops import families
from funtorch.placement import DeviceArray, placed

__all__ = [
    "arange",
    "astype",
    "copy",
    "diag",
    "diagflat",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "frombuffer",
    "fromfile",
    "fromiter",
    "full",
    "full_like",
    "geomspace",
    "identity",
    "linspace",
    "logspace",
    "ones",
    "ones_like",
    "tri",
    "tril",
    "triu",
    "vander",
    "zeros",
    "zeros_like",
]


# ---------------------------------------------------------------------------------------- constants
def _filled(shape: tuple[int, ...], value: Any, dtype: Any, weak: bool = False) -> Any:
    if _state.trace is eval_trace or dtype == dtypes.float0:  # which has no values to broadcast
        # NumPy's zeros are pages that nobody has touched yet.
        made = np.zeros(shape, dtype) if type(value) is int and value == 0 else None
        return ArrayImpl(np.full(shape, value, dtype) if made is None else made, weak)
    # Under a transform a broadcast scalar costs nothing inside kernels, a constant array would.
    return families.full(shape, value, dtype)


def zeros(shape: Any, dtype: Any = None, *, device: Any = None, out_sharding: Any = None) -> Any:
    """Make an array of zeros.

    Args:
        shape: int or sequence of ints.
        dtype: dtype; None gives the default float.
        device, out_sharding: where it is to be: None, or as for `funtorch.device_put`.

    Returns:
        An Array of that shape.

    Example:
        >>> zeros(2)
        Array([0., 0.], dtype=float32)

    References:
        numpy.zeros
    """
    device = out_sharding if device is None else device
    if device is not None:
        return on_device(device, zeros, shape, dtype)
    dtype = dtypes.canonical(float if dtype is None else dtype)
    if _state.trace is eval_trace and (type(shape) is tuple or type(shape) is int):
        try:
            return ArrayImpl(np.zeros(shape, dtype))
        except (TypeError, ValueError):
            shape = canonical_shape(shape, "zeros")  # it says what is wrong
    return _filled(canonical_shape(shape, "zeros"), 0, dtype)


def ones(shape: Any, dtype: Any = None, *, device: Any = None, out_sharding: Any = None) -> Any:
    """Make an array of ones; arguments as for `zeros`.

    References:
        numpy.ones
    """
    device = out_sharding if device is None else device
    if device is not None:
        return on_device(device, ones, shape, dtype)
    return _filled(
        canonical_shape(shape, "ones"), 1, dtypes.canonical(float if dtype is None else dtype)
    )


def empty(shape: Any, dtype: Any = None, *, device: Any = None, out_sharding: Any = None) -> Any:
    """Make an array of zeros: arrays never change, so unset values would serve nobody.

    References:
        numpy.empty
    """
    return zeros(shape, dtype, device=device, out_sharding=out_sharding)


def full(
    shape: Any, fill_value: Any, dtype: Any = None, *, device: Any = None, out_sharding: Any = None
) -> Any:
    """Make an array of one value.

    Args:
        shape: int or sequence of ints.
        fill_value: number or array that broadcasts to the shape.
        dtype: dtype; None gives that of the value.
        device, out_sharding: where it is to be: None, or as for `funtorch.device_put`.

    Example:
        >>> full((2,), 7)
        Array([7, 7], dtype=int32, weak_type=True)

    References:
        numpy.full
    """
    device = out_sharding if device is None else device
    if device is not None:
        return on_device(device, full, shape, fill_value, dtype)
    shape = canonical_shape(shape, "full")
    value = asarray(fill_value, dtype)
    if type(value) is ArrayImpl and _state.trace is eval_trace and not value.shape:
        return _filled(shape, value._data, value.dtype, value._weak)
    return broadcast_to(value, shape)


def _model(a: Any, function: str) -> Any:
    """Return what has the shape and dtype of an argument: an array, or what describes one."""
    if hasattr(a, "weak_type"):
        return a
    return aval_of(a) if isinstance(a, np.ndarray) else to_array(a, function, "a")


def _like(name: str, value: int) -> Callable[..., Any]:
    def function(
        a: Any,
        dtype: Any = None,
        shape: Any = None,
        *,
        device: Any = None,
        out_sharding: Any = None,
    ) -> Any:
        device = out_sharding if device is None else device
        if device is not None:
            return on_device(device, function, a, dtype, shape)
        model = _model(a, name)
        shape = model.shape if shape is None else canonical_shape(shape, name)
        if dtype is None:
            return _filled(shape, value, model.dtype, model.weak_type)
        return _filled(shape, value, dtypes.canonical(dtype))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"Make an array of {'ones' if value else 'zeros'} with the shape and dtype of "
        "another.\n\n    Args:\n"
        "        a: array, or what describes one, such as a ShapeDtypeStruct.\n"
        "        dtype, shape: replace those of ``a``.\n"
        "        device: where it is to be: None, or as for `funtorch.device_put`.\n\n"
        f"    References:\n        numpy.{name}\n    "
    )
    return function


zeros_like = _like("zeros_like", 0)
ones_like = _like("ones_like", 1)


def empty_like(prototype: Any, dtype: Any = None, shape: Any = None, *, device: Any = None) -> Any:
    """Make an array of zeros with the shape and dtype of another; arguments as for `zeros_like`.

    References:
        numpy.empty_like
    """
    return zeros_like(prototype, dtype, shape, device=device)


def full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    shape: Any = None,
    *,
    device: Any = None,
    out_sharding: Any = None,
) -> Any:
    """Make an array of one value with the shape and dtype of another.

    References:
        numpy.full_like
    """
    device = out_sharding if device is None else device
    if device is not None:
        return on_device(device, full_like, a, fill_value, dtype, shape)
    model = _model(a, "full_like")
    shape = model.shape if shape is None else shape
    out = full(shape, fill_value, model.dtype if dtype is None else dtype)
    return convert(out, out.dtype, model.weak_type and dtype is None)


# -------------------------------------------------------------------------------------- conversions
def copy(a: Any, order: str | None = None) -> Any:
    """Return a copy of an array.

    References:
        numpy.copy
    """
    return primitives["copy"].bind(asarray(a))


def astype(x: Any, dtype: Any, /, *, copy: bool = False, device: Any = None) -> Any:
    """Convert an array to a dtype; None means the default float.

    References:
        numpy.astype
    """
    if device is not None:
        return on_device(device, astype, x, dtype)
    return convert(to_array(x, "astype"), dtypes.canonical(float if dtype is None else dtype))


_CUDA = 2  # DLPack's number of NVIDIA's GPUs


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Any:
    """Make an Array from any object that speaks DLPack, such as a PyTorch tensor.

    What is on a GPU is shared unless ``copy`` is true, what is on the CPU copied.

    References:
        numpy.from_dlpack
    """
    if device is not None:
        return on_device(device, from_dlpack, x, copy=copy)
    if not hasattr(x, "__dlpack__"):
        raise TypeError(f"from_dlpack: x must have the method __dlpack__, got {x!r:.80}")
    if isinstance(x, Array):
        return x
    if hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] == _CUDA:
        with cupy().cuda.Device(x.__dlpack_device__()[1]):
            shared = cupy().from_dlpack(x)
            return DeviceArray(shared.copy() if copy else shared)
    return array(np.from_dlpack(x))


def fromiter(iter: Any, dtype: Any, count: int = -1) -> Any:
    """Make a vector of what an iterator gives, now.

    References:
        numpy.fromiter
    """
    return ArrayImpl(np.fromiter(iter, dtypes.canonical(dtype), count))


def fromfile(file: Any, dtype: Any = float, count: int = -1, sep: str = "", offset: int = 0) -> Any:
    """Make a vector of the numbers in a file, now.

    References:
        numpy.fromfile
    """
    if not hasattr(file, "fileno") and not isinstance(file, (str, bytes, os.PathLike)):
        raise TypeError(f"fromfile: file must be a path or an open file, got {file!r:.80}")
    return ArrayImpl(np.fromfile(file, dtypes.canonical(dtype), count, sep, offset))


def frombuffer(buffer: Any, dtype: Any = float, count: int = -1, offset: int = 0) -> Any:
    """Make a 1-D array from the bytes of a buffer.

    References:
        numpy.frombuffer
    """
    with config.override(narrow=False):  # the bytes are of the dtype that was asked for
        stored = dtypes.canonical(dtype)
    return array(np.frombuffer(buffer, stored, count, offset))


# ------------------------------------------------------------------------------------------- ranges
_BEYOND = 1 << 31  # the default int holds what is less


def arange(
    start: Any,
    stop: Any = None,
    step: Any = None,
    dtype: Any = None,
    *,
    device: Any = None,
    out_sharding: Any = None,
) -> Any:
    """Make evenly spaced values in [start, stop).

    Args:
        start, stop, step: numbers, known while tracing; one number alone is ``stop``.
        dtype: dtype; None gives the default int, or the default float if a number is a float.
        device, out_sharding: where it is to be: None, or as for `funtorch.device_put`.

    Returns:
        A 1-D Array.

    Example:
        >>> arange(3)
        Array([0, 1, 2], dtype=int32)

    References:
        numpy.arange
    """
    device = out_sharding if device is None else device
    if device is not None:
        return on_device(device, arange, start, stop, step, dtype)
    if type(start) is int and stop is step is dtype is None and -_BEYOND < start < _BEYOND:
        return placed(ArrayImpl(np.arange(start, dtype=dtypes.default_int())), _state.trace)
    named = (("start", start), ("stop", stop), ("step", step))
    given = [
        x if isinstance(x, SCALARS) else concrete_or_error(x, f"the argument {name} of arange")[()]
        for name, x in named
        if x is not None
    ]
    if dtype is None:
        pairs = [dtypes.scalar_type(x) for x in given]
        dtype = dtypes.result_type_weak(*pairs)[0]
        if dtype == dtypes.bool_:
            dtype = dtypes.default_int()
    dtype = dtypes.canonical(dtype)
    # NumPy computes in double precision and rounds once.
    plain = [x.item() if isinstance(x, np.generic) else x for x in given]
    if stop is None and step is not None:
        plain = [0, *plain]
    made = ArrayImpl(np.arange(*plain).astype(dtype))  # type: ignore[arg-type]
    return placed(made, _state.trace)


def _spaced(a: Any, b: Any, delta: Any, num: int, div: int, endpoint: bool) -> Any:
    """Return values from a on, in steps of delta / div: rounded exact ones, if both are known."""
    if type(a) is ArrayImpl and type(b) is ArrayImpl:
        wide = np.complex128 if dtypes.is_complex(a.dtype) else np.float64
        low, high = (x._data.astype(wide) for x in (a, b))
        with np.errstate(all="ignore"):
            made = np.linspace(low, high, num, endpoint=endpoint).astype(a.dtype)
        return placed(ArrayImpl(made), _state.trace)
    k = np.arange(num).reshape((num,) + (1,) * delta.ndim)
    step = divide(delta, div)
    out = add(multiply(asarray(k, dtypes.real_dtype(a.dtype)), step), a)
    return where(asarray(k == div), b, out) if endpoint and num > 1 else out


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> Any:
    """Make ``num`` evenly spaced values from start to stop.

    Args:
        start, stop: numbers or arrays that broadcast.
        num: how many.
        endpoint: whether ``stop`` is the last one.
        retstep: also return the distance.
        dtype: dtype of the result; None gives a float.
        axis: where the new axis goes.
        device: where it is to be: None, or as for `funtorch.device_put`.

    Returns:
        An Array, or (Array, step).

    Example:
        >>> linspace(0, 1, 3)
        Array([0. , 0.5, 1. ], dtype=float32)

    References:
        numpy.linspace
    """
    if device is not None:
        return on_device(device, linspace, start, stop, num, endpoint, retstep, dtype, axis)
    num = static_int(num, "linspace: num")
    if num < 0:
        raise ValueError(f"linspace: num must not be negative, got {num}")
    plain = {type(start), type(stop)} <= {int, float} and dtype is None
    if plain and axis == 0 and not retstep and builtins.max(start, stop, -start, -stop) < 1e38:
        single = dtypes.default_float()
        low, high = np.array([start, stop], single).astype(np.float64)
        return ArrayImpl(np.linspace(low, high, num, endpoint=endpoint).astype(single))
    a, b = promote_inexact("linspace", *to_arrays("linspace", start=start, stop=stop))
    out_dtype = dtypes.canonical(a.dtype if dtype is None else dtype)
    inner = dtypes.promote_types(a.dtype, out_dtype) if dtypes.is_inexact(out_dtype) else a.dtype
    a, b = convert(a, inner), convert(b, inner)
    div = builtins.max(num - 1 if endpoint else num, 1)
    delta = subtract(b, a)
    out = _spaced(a, b, delta, num, div, endpoint)
    if dtypes.is_integer(out_dtype):
        out = primitives["floor"].bind(out)
    out = convert(out, out_dtype)
    out = _first_axis_at(axis, out, "linspace")
    if not retstep:
        return out
    return out, divide(delta, div) if num > endpoint else full_like(delta, np.nan)


def _first_axis_at(axis: int, x: Any, name: str) -> Any:
    """Move the first axis to another place."""
    k = canonical_axis(axis, x.ndim, name)
    order = list(range(1, x.ndim))
    order.insert(k, 0)
    return primitives["transpose"].bind(x, perm=tuple(order)) if k else x


def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """Make values whose logarithms to ``base`` are evenly spaced from start to stop.

    References:
        numpy.logspace
    """
    inner = dtype if dtype is not None and dtypes.is_inexact(dtype) else None
    start, stop, base = to_arrays("logspace", start=start, stop=stop, base=base)
    if base.ndim:
        rank = builtins.max(start.ndim, stop.ndim, base.ndim)
        start, stop, base = (
            v.reshape((1,) * (rank - v.ndim) + v.shape) for v in (start, stop, base)
        )
        k = canonical_axis(axis, rank + 1, "logspace")
        base = base.reshape(base.shape[:k] + (1,) + base.shape[k:])
    exponents = linspace(start, stop, num, endpoint, dtype=inner, axis=axis)
    out = convert(base, exponents.dtype) ** exponents
    return out if dtype is None else convert(out, dtypes.canonical(dtype))


def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Any:
    """Make values from start to stop with a constant ratio.

    References:
        numpy.geomspace
    """
    a, b = promote_inexact("geomspace", *to_arrays("geomspace", start=start, stop=stop))
    # Powers of ten, since most sequences go from one power of ten to another.
    if dtypes.is_complex(a.dtype):
        out = a * 10 ** linspace(zeros_like(a), log10(divide(b, a)), num, endpoint)
    else:
        sign = where(a < 0, -1, 1) * where(a * b < 0, np.nan, 1)
        out = sign * 10 ** linspace(log10(absolute(a)), log10(absolute(b)), num, endpoint)
    place = arange(num).reshape((-1,) + (1,) * (out.ndim - 1))
    out = where(place == 0, a, out)
    if endpoint and num > 1:
        out = where(place == num - 1, b, out)
    out = _first_axis_at(axis, out, "geomspace")
    return out if dtype is None else convert(out, dtypes.canonical(dtype))


# ----------------------------------------------------------------------------------------- matrices
def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None, *, device: Any = None) -> Any:
    """Make a matrix with ones on a diagonal.

    Args:
        N: rows.
        M: columns; None means N.
        k: which diagonal; positive is above the main one.
        dtype: dtype; None gives the default float.
        device: where it is to be: None, or as for `funtorch.device_put`.

    Example:
        >>> eye(2)
        Array([[1., 0.],
               [0., 1.]], dtype=float32)

    References:
        numpy.eye
    """
    if device is not None:
        return on_device(device, eye, N, M, k, dtype)
    n = static_int(N, "eye: N")
    m = n if M is None else static_int(M, "eye: M")
    k = static_int(k, "eye: k")
    if n < 0 or m < 0:
        raise ValueError(f"eye: N and M must not be negative, got {n} and {m}")
    made = np.eye(n, m, k).astype(dtypes.canonical(float if dtype is None else dtype))
    return placed(ArrayImpl(made), _state.trace)


def identity(n: int, dtype: Any = None) -> Any:
    """Make the identity matrix.

    References:
        numpy.identity
    """
    return eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Any:
    """Make a matrix with ones on and below a diagonal.

    References:
        numpy.tri
    """
    n, k = static_int(N, "tri: N"), static_int(k, "tri: k")
    m = n if M is None else static_int(M, "tri: M")
    return ArrayImpl(np.tri(n, m, k).astype(dtypes.canonical(float if dtype is None else dtype)))


def _mask(x: Any, k: int, name: str) -> Any:
    if x.ndim < 2:
        raise ValueError(f"{name}: an array with at least 2 axes is required, got shape {x.shape}")
    return ArrayImpl(np.tri(*x.shape[-2:], k, dtype=bool))  # type: ignore[call-overload]


@compiled_if_large
def tril(m: Any, k: int = 0) -> Any:
    """Return a matrix with zeros above a diagonal.

    References:
        numpy.tril
    """
    m, k = to_array(m, "tril", "m"), static_int(k, "tril: k")
    return where(_mask(m, k, "tril"), m, zeros_like(m))


@compiled_if_large
def triu(m: Any, k: int = 0) -> Any:
    """Return a matrix with zeros below a diagonal.

    References:
        numpy.triu
    """
    m, k = to_array(m, "triu", "m"), static_int(k, "triu: k")
    return where(_mask(m, k - 1, "triu"), zeros_like(m), m)


@direct(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    """Take a diagonal of a matrix, or make a matrix with a vector on its diagonal.

    Args:
        v: vector or matrix.
        k: which diagonal.

    Example:
        >>> diag(asarray([1, 2]))
        Array([[1, 0],
               [0, 2]], dtype=int32)

    References:
        numpy.diag
    """
    v, k = to_array(v, "diag", "v"), static_int(k, "diag: k")
    if v.ndim == 2:
        return v.diagonal(k)
    if v.ndim != 1:
        raise ValueError(f"diag: v must have 1 or 2 axes, got shape {v.shape}")
    n = v.shape[0] + builtins.abs(k)
    lo = (builtins.max(k, 0), builtins.max(-k, 0))
    padded = primitives["pad"].bind(
        v, families.scalar(0, v.dtype), lo=(lo[0],), hi=(n - v.shape[0] - lo[0],), interior=(0,)
    )
    mask = ArrayImpl(np.eye(n, k=k, dtype=bool))
    return where(mask, padded, zeros((n, n), v.dtype))


def diagflat(v: Any, k: int = 0) -> Any:
    """Make a matrix with the flattened input on its diagonal.

    References:
        numpy.diagflat
    """
    return diag(to_array(v, "diagflat", "v").reshape(-1), k)


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """Make the Vandermonde matrix: columns are powers of a vector.

    References:
        numpy.vander
    """
    x = to_array(x, "vander")
    if x.ndim != 1:
        raise ValueError(f"vander: x must be a vector, got shape {x.shape}")
    n = x.shape[0] if N is None else static_int(N, "vander: N")
    if n < 0:
        raise ValueError(f"vander: N must be nonnegative, got {n}")
    powers = np.arange(n) if increasing else np.arange(n)[::-1]
    columns = [ones_like(x) if p == 0 else x ** int(p) for p in powers]
    if not columns:
        return zeros((x.shape[0], 0), x.dtype)
    return primitives["concatenate"].bind(*[c.reshape((-1, 1)) for c in columns], axis=1)
