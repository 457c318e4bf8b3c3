"""What lets other libraries handle Arrays: NumPy's dispatch protocols, DLPack, the Array API.

``np.sin(x)`` and ``np.concatenate([x, y])`` arrive here with an Array or tracer among their
arguments, and
go on to the function of the same name in our namespaces.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch.core import Array, concrete_or_error
from funtorch.numpy import fft, linalg, reductions
from funtorch.numpy.promotion import describe

__all__ = ["attach"]

_REDUCE: dict[str, Callable[..., Any]] = {
    "add": reductions.sum,
    "multiply": reductions.prod,
    "maximum": reductions.max,
    "minimum": reductions.min,
    "logical_and": reductions.all,
    "logical_or": reductions.any,
}
_ACCUMULATE: dict[str, Callable[..., Any]] = {
    "add": reductions.cumsum,
    "multiply": reductions.cumprod,
}


def _array(self: Any, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """Return the values as a read-only NumPy array that shares memory, or a copy in another
    dtype."""
    value: Any = concrete_or_error(self, "array")
    if type(value) is not np.ndarray:
        value = value.get()  # a CuPy array comes over from the GPU
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


class _Dispatch:
    """NumPy's functions and ufuncs, and ours of the same name."""

    def __init__(self, namespace: types.ModuleType) -> None:
        self.namespace = namespace
        self.functions: dict[Any, Callable[..., Any]] = {}
        for theirs, ours in ((np, namespace), (np.linalg, linalg), (np.fft, fft)):
            for name in dir(ours):
                source, target = getattr(theirs, name, None), getattr(ours, name)
                if callable(source) and isinstance(target, types.FunctionType):
                    self.functions.setdefault(source, target)

    def ufunc(self, array: Any, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        if out is not None:
            raise TypeError(
                f"numpy.{ufunc.__name__}: out= cannot be used with traced or immutable arrays; "
                "use the result: "
                f"y = funtorch.numpy.{ufunc.__name__}(...)"
            )
        if method == "reduce":
            return self.reduce(ufunc, _REDUCE, *inputs, **kwargs)
        if method == "accumulate":
            return self.reduce(ufunc, _ACCUMULATE, *inputs, **kwargs)
        name = ufunc.__name__
        function = self.functions.get(ufunc)
        if method == "outer" and function is not None:
            a, b = (self.namespace.asarray(x) for x in inputs)
            return function(a.reshape(a.shape + (1,) * b.ndim), b)
        if method != "__call__" or function is None:
            suffix = "" if method == "__call__" else f".{method}"
            raise TypeError(unsupported(f"{name}{suffix}", inputs))
        dtype, where = kwargs.pop("dtype", None), kwargs.pop("where", True)
        if where is not True:
            raise TypeError(
                f"numpy.{name}: where= needs out=; use funtorch.numpy.where on the result"
            )
        kwargs.pop("casting", None)
        result = function(*inputs, **kwargs)
        return result if dtype is None else result.astype(dtype)

    def reduce(
        self,
        ufunc: np.ufunc,
        table: dict[str, Callable[..., Any]],
        array: Any,
        axis: Any = 0,
        dtype: Any = None,
        **kwargs: Any,
    ) -> Any:
        function = table.get(ufunc.__name__)
        if function is None:
            raise TypeError(unsupported(f"{ufunc.__name__}.reduce", (array,)))
        options = {
            key: value
            for key, value in kwargs.items()
            if value is not np._NoValue and not (key == "where" and value is True)
        }
        if dtype is not None:
            options["dtype"] = dtype
        return function(self.namespace.asarray(array), axis, **options)

    def function(self, array: Any, func: Any, kinds: Any, args: Any, kwargs: Any) -> Any:
        function = self.functions.get(func)
        if function is None:
            raise TypeError(unsupported(getattr(func, "__name__", str(func)), args))
        if kwargs.get("out") is not None:
            raise TypeError(
                f"numpy.{func.__name__}: out= cannot be used with traced or immutable arrays; "
                "use the result"
            )
        kwargs = {
            key: value
            for key, value in kwargs.items()
            if value is not np._NoValue and not (key == "out" and value is None)
        }
        return function(*args, **kwargs)


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
    value = concrete_or_error(self, "a DLPack capsule")
    if options.get("max_version") is None:
        # Old consumers cannot be told that the memory is read-only, and NumPy refuses to lend it.
        value = value if value.flags.writeable else value.copy()
    else:
        value = _array(self)
    return value.__dlpack__(**options)


def _dlpack_device(self: Any) -> tuple[int, int]:
    """Return the DLPack number of the device."""
    return concrete_or_error(self, "the DLPack device").__dlpack_device__()


def attach(namespace: types.ModuleType) -> None:
    """Give `Array` the protocols; ``namespace`` is funtorch.numpy."""
    dispatch = _Dispatch(namespace)

    def array_namespace(self: Any, *, api_version: str | None = None) -> types.ModuleType:
        """Return the namespace of the Array API standard."""
        return namespace

    def array_ufunc(self: Any, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return dispatch.ufunc(self, ufunc, method, *inputs, **kwargs)

    def array_function(self: Any, func: Any, kinds: Any, args: Any, kwargs: Any) -> Any:
        return dispatch.function(self, func, kinds, args, kwargs)

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
