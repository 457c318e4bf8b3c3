"""What lets other libraries handle Arrays: NumPy's dispatch protocols, DLPack, the Array API.

``np.sin(x)`` and ``np.concatenate([x, y])`` arrive here with an Array or tracer among their
arguments, and
go on to the function of the same name in our namespaces.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch.core import Array, ArrayImpl, Tracer, concrete_or_error
from funtorch.numpy import fft, linalg
from funtorch.numpy.dispatch import OPERANDS
from funtorch.numpy.promotion import SCALARS, describe, reading_lists
from funtorch.placement import DeviceArray
from funtorch.tracebacks import hide_frames, self_bounded

__all__ = ["attach"]


def _array(self: Any, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """Return the values as a read-only NumPy array that shares memory, or a copy in another
    dtype."""
    value: Any = concrete_or_error(self, "array")
    if dtype is not None and np.dtype(dtype) != value.dtype:
        if copy is False:
            raise ValueError(
                f"__array__: {value.dtype} cannot become {np.dtype(dtype)} without a copy"
            )
        return value.astype(dtype)
    if copy:
        return value.copy()
    view = value.view()
    view.flags.writeable = False
    return view


_READY = frozenset({ArrayImpl, np.ndarray, *SCALARS})  # what our functions take as it is
_DISPATCHED = (np.ufunc, type(np.sum))  # what NumPy sends here
NAMESPACES: dict[str, types.ModuleType] = {}
"""Modules of other libraries, and ours that have functions of the same names as their ufuncs."""


class _Dispatch:
    """NumPy's functions and ufuncs, and ours of the same name."""

    def __init__(self, namespace: types.ModuleType) -> None:
        self.namespace = namespace
        self.readings: dict[Any, _Reading] = {}
        self.ways: dict[np.ufunc, Callable[..., Any]] = {}  # filled by the first call of each

    @functools.cached_property
    def functions(self) -> dict[Any, Callable[..., Any]]:
        """The one table: NumPy's function -> ours, for every name that both have."""
        found: dict[Any, Callable[..., Any]] = {}
        for theirs, ours in ((np, self.namespace), (np.linalg, linalg), (np.fft, fft)):
            for name in dir(ours):
                source, target = getattr(theirs, name, None), getattr(ours, name)
                if isinstance(source, _DISPATCHED) and callable(target):
                    found.setdefault(source, target)
        return found

    def counterpart(self, ufunc: np.ufunc) -> Callable[..., Any] | None:
        """Return our function of the same name as a ufunc of NumPy or another library."""
        function = self.functions.get(ufunc)
        for module, ours in NAMESPACES.items() if function is None else ():
            if getattr(sys.modules.get(module), ufunc.__name__, None) is ufunc:
                function = self.functions[ufunc] = getattr(ours, ufunc.__name__, None)
        return function

    def ufunc(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = self.counterpart(ufunc)
        if method == "__call__" and not kwargs and function is not None:
            self.ways[ufunc] = getattr(function, "_call", function)  # what our ufuncs stand for
            return function(*[x if isinstance(x, OPERANDS) else self.read(x) for x in inputs])
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        if method != "__call__":
            function = getattr(function, method, None)
        if function is None and _unknown(inputs):
            raise TypeError(unsupported(name, inputs))
        if function is None:
            return getattr(ufunc, method)(*map(_as_numpy, inputs), **kwargs)
        if method == "at":
            raise TypeError(
                f"numpy.{name} changes its first argument, and arrays are immutable: write "
                f"x.at[indices].add(values), or funtorch.numpy.{name}(x, indices, values, "
                "inplace=False), and use the result"
            )
        out, where = kwargs.pop("out", None), kwargs.pop("where", True)
        kwargs = {key: value for key, value in kwargs.items() if value is not np._NoValue}
        inputs = tuple(map(self.read, inputs)) if method != "reduceat" else inputs
        if method != "__call__":
            if where is not True:
                kwargs["where"] = where
            return _into(name, out, True, function(*inputs, **kwargs))
        dtype = kwargs.pop("dtype", None)
        for option, usual in (("casting", "same_kind"), ("order", "K"), ("subok", True)):
            given = kwargs.pop(option, usual)
            if given != usual:
                raise TypeError(
                    f"numpy.{name}: {option}={given!r} is not supported for arrays of funtorch"
                )
        if where is not True and out is None:
            raise TypeError(
                f"numpy.{name}: where= needs out=; use funtorch.numpy.where on the result"
            )
        result = function(*inputs, **kwargs)
        if dtype is not None:
            parts = result if isinstance(result, tuple) else (result,)
            result = tuple(x.astype(dtype) for x in parts)
            result = result if len(parts) > 1 else result[0]
        return _into(name, out, where, result)

    def read(self, x: Any) -> Any:
        return self.namespace.asarray(x)

    def function(self, func: Any, args: Any, kwargs: Any) -> Any:
        name = getattr(func, "__name__", str(func))
        function = self.functions.get(func)
        if function is None:
            if _unknown(args):
                raise TypeError(unsupported(name, args))
            return func(*map(_as_numpy, args), **{k: _as_numpy(v) for k, v in kwargs.items()})
        out = kwargs.get("out")
        kwargs = {
            key: value for key, value in kwargs.items() if key != "out" and value is not np._NoValue
        }
        if name in _IN_PLACE:
            raise TypeError(
                f"numpy.{name} changes its first argument, and arrays are immutable: write "
                f"funtorch.numpy.{name}(..., inplace=False) and use the result"
            )
        reading = self.readings.get(func)
        if reading is None:
            reading = self.readings[func] = _Reading(func, function)
        args, kwargs = reading.translate(name, args, kwargs)
        result = _reading_lists(function, args, kwargs)
        return result if out is None else _into(name, (out,), True, result)


def _reading_lists(function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    token = reading_lists.set(True)
    try:
        return function(*args, **kwargs)
    finally:
        reading_lists.reset(token)


def _unknown(args: Any) -> bool:
    """Tell whether NumPy cannot compute with these."""
    return any(isinstance(x, Tracer) for x in args)


def _as_numpy(x: Any) -> Any:
    """Return an argument with the NumPy values of arrays, in lists and tuples too."""
    if type(x) in (list, tuple):
        return type(x)(map(_as_numpy, x))
    return np.asarray(x) if isinstance(x, Array) else x


class _Reading:
    """How the arguments of a function of NumPy become those of ours.

    ``alike`` leading parameters are the same in both; calls with no others go through as they are.
    """

    def __init__(self, theirs: Any, ours: Any) -> None:
        self.function = ours
        self.theirs = _signature(theirs).parameters
        self.ours = inspect.signature(ours).parameters
        places = [
            [p.name for p in parameters.values() if p.kind in _BY_PLACE]
            for parameters in (self.theirs, self.ours)
        ]
        pairs = list(zip(*places, strict=False))
        self.names = {
            a: b for a, b in pairs if a != b and a not in self.ours and b not in places[0]
        }
        fits = [a == b or self.names.get(a) == b for a, b in pairs]
        self.alike = fits.index(False) if False in fits else len(pairs)
        self.open = any(p.kind is p.VAR_POSITIONAL for p in self.theirs.values())
        self.places = sys.maxsize if self.open else self.alike
        self.keywords = frozenset(
            name for name, p in self.ours.items() if p.kind is not p.POSITIONAL_ONLY
        ) - {"out"}

    def takes(self, kwargs: dict[str, Any]) -> bool:
        """Tell whether our function takes these as they are."""
        return self.keywords.issuperset(kwargs) and not any(
            value is np._NoValue for value in kwargs.values()
        )

    def translate(self, name: str, args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]]:
        if self.open or (len(args) <= self.alike and self.keywords.issuperset(kwargs)):
            return args, kwargs
        given = dict(zip(self.theirs, args, strict=False)) | kwargs
        places, keywords = [], {}
        for key, value in given.items():
            known = self.ours.get(self.names.get(key, key))
            if known is None:
                default = self.theirs[key].default if key in self.theirs else None
                if value is not default and not (isinstance(value, str) and value == default):
                    raise TypeError(
                        f"numpy.{name}: {key}={value!r:.60} is not supported for arrays of funtorch"
                    )
            elif known.kind is known.POSITIONAL_ONLY:
                places.append(value)
            else:
                keywords[known.name] = value
        return tuple(places), keywords


# What functions written in C take, which NumPy tells itself from version 2.4 on.
# fmt: off
_UNTOLD: dict[str, Callable[..., None]] = {
    "bincount": lambda x, /, weights=None, minlength=0: None,
    "can_cast": lambda from_, to, casting="safe": None,
    "concatenate": lambda arrays, /, axis=0, out=None, *, dtype=None, casting="same_kind": None,
    "copyto": lambda dst, src, casting="same_kind", where=True: None,
    "dot": lambda a, b, out=None: None,
    "empty_like": lambda prototype, /, dtype=None, order="K", subok=True, shape=None, *,
        device=None: None,
    "inner": lambda a, b, /: None,
    "lexsort": lambda keys, axis=-1: None,
    "may_share_memory": lambda a, b, /, max_work=0: None,
    "min_scalar_type": lambda a, /: None,
    "packbits": lambda a, /, axis=None, bitorder="big": None,
    "putmask": lambda a, /, mask, values: None,
    "ravel_multi_index": lambda multi_index, dims, mode="raise", order="C": None,
    "result_type": lambda *arrays_and_dtypes: None,
    "shares_memory": lambda a, b, /, max_work=-1: None,
    "unpackbits": lambda a, /, axis=None, count=None, bitorder="big": None,
    "unravel_index": lambda indices, shape, order="C": None,
    "vdot": lambda a, b, /: None,
    "where": lambda condition, x=None, y=None, /: None,
}
# fmt: on


def _signature(function: Any) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:
        return inspect.signature(_UNTOLD[function.__name__])


_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


# Functions of NumPy that write into an argument.
_IN_PLACE = {"fill_diagonal", "place", "put", "put_along_axis"}


def _into(name: str, out: Any, where: Any, result: Any) -> Any:
    """Write a result into the NumPy arrays given as out=; ours are immutable and cannot be."""
    if out is None or all(o is None for o in out):
        return result
    parts = result if isinstance(result, tuple) else (result,)
    for o, part in zip(out, parts, strict=True):
        if not isinstance(o, np.ndarray) or (isinstance(part, Tracer) and part.concrete() is None):
            raise TypeError(
                f"numpy.{name}: out= cannot be used with traced or immutable arrays; use the "
                f"result: y = funtorch.numpy.{name}(...)"
            )
    for o, part in zip(out, parts, strict=True):
        np.copyto(o, np.asarray(part), casting="same_kind", where=np.asarray(where))
    return out if len(out) > 1 else out[0]


def unsupported(name: str, args: Any) -> str:
    """Return the message for a NumPy function that has no counterpart here."""
    arrays = [a for a in args if isinstance(a, Array)]
    came = f" of {describe(arrays[0])}" if arrays else ""
    return (
        f"numpy.{name}{came} has no counterpart in funtorch.numpy. On an array whose values are "
        "known, write "
        f"numpy.{name}(numpy.asarray(x)); inside a transform, write it with the functions of "
        "funtorch.numpy"
    )


# -------------------------------------------------------------------------------- DLPack, Array API
def _dlpack(self: Any, **options: Any) -> Any:
    """Return a DLPack capsule that shares the memory."""
    if type(self) is DeviceArray:
        with self._buffer.device:  # whose stream the consumer's one waits for
            return self._buffer.__dlpack__(**options)
    value = concrete_or_error(self, "a DLPack capsule")
    if options.get("max_version") is None:
        # Old consumers cannot be told that the memory is read-only, and NumPy refuses to lend it.
        value = value if value.flags.writeable else value.copy()
    else:
        value = _array(self)
    return value.__dlpack__(**options)


def _dlpack_device(self: Any) -> tuple[int, int]:
    """Return the DLPack number of the device."""
    if type(self) is DeviceArray:
        return self._buffer.__dlpack_device__()
    return concrete_or_error(self, "the DLPack device").__dlpack_device__()


_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")


def attach(namespace: types.ModuleType) -> None:
    """Give `Array` the protocols; ``namespace`` is funtorch.numpy."""
    dispatch = _Dispatch(namespace)
    readings, ways = dispatch.readings, dispatch.ways

    def array_namespace(self: Any, *, api_version: str | None = None) -> types.ModuleType:
        """Return the namespace of the Array API standard."""
        if api_version not in (None, *_VERSIONS):
            raise ValueError(
                f"__array_namespace__: api_version {api_version!r} is not supported; use one of "
                f"{', '.join(_VERSIONS)}"
            )
        return namespace

    @self_bounded
    def array_ufunc(self: Any, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        try:
            if method == "__call__" and not kwargs:
                way = ways.get(ufunc)
                if way is not None:
                    if len(inputs) == 1:
                        return way(inputs[0])
                    if len(inputs) == 2 and type(inputs[0]) in _READY and type(inputs[1]) in _READY:
                        return way(inputs[0], inputs[1])
            return dispatch.ufunc(ufunc, method, *inputs, **kwargs)
        except Exception as error:
            hide_frames(error)
            raise

    @self_bounded
    def array_function(self: Any, func: Any, kinds: Any, args: Any, kwargs: Any) -> Any:
        try:
            reading = readings.get(func)
            if (
                reading is not None
                and len(args) <= reading.places
                and (not kwargs or reading.takes(kwargs))
            ):
                return _reading_lists(reading.function, args, kwargs)
            return dispatch.function(func, args, kwargs)
        except Exception as error:
            hide_frames(error)
            raise

    methods = {
        "__array__": _array,
        "__array_ufunc__": array_ufunc,
        "__array_function__": array_function,
        "__dlpack__": _dlpack,
        "__dlpack_device__": _dlpack_device,
        "__array_namespace__": array_namespace,
    }
    for name, method in methods.items():
        setattr(Array, name, method)
