"""What every public transform does with its arguments: flatten, convert, select by argnums, name in
errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Array, ArrayImpl

__all__ = ["as_array", "as_arrays", "check_callable", "function_name", "normalize_argnums"]

_NUMBERS = (bool, int, float, complex)


def as_array(x: Any) -> Any:
    """Return ``x`` as an Array or tracer, without conversion of dtype; raise TypeError if it is no
    number."""
    if isinstance(x, Array):
        return x
    if isinstance(x, np.ndarray):
        if x.dtype.kind in "OUSMm" or x.dtype.names:
            raise TypeError(f"a NumPy array of dtype {x.dtype} is not numeric")
        return ArrayImpl(x.copy())
    if isinstance(x, (*_NUMBERS, np.generic)):
        dtype, weak = dtypes.scalar_type(x)
        return ArrayImpl(np.asarray(x, dtype), weak)
    convert = getattr(x, "__jax_array__", None) or getattr(x, "__funtorch_array__", None)
    if convert is not None:
        return as_array(convert())
    raise TypeError(f"a value of type {type(x).__name__} is not an array or a number")


def as_arrays(leaves: Sequence[Any], what: str, fun: Any) -> list[Any]:
    """Return every leaf as an Array or tracer; the error names the leaf and the function."""
    out = []
    for k, x in enumerate(leaves):
        try:
            out.append(x if isinstance(x, Array) else as_array(x))
        except TypeError as e:
            of = f" of {function_name(fun)}" if fun is not None else ""
            raise TypeError(
                f"{what}{of}: leaf {k} is {x!r:.60} of type {type(x).__name__}; transforms take "
                "arrays, numbers and "
                "pytrees of them (tuples, lists, dicts, registered classes). Close over other "
                "values, or mark them "
                "static in jit (static_argnums/static_argnames)"
            ) from e
    return out


def function_name(fun: Any) -> str:
    """Return 'name (file.py:12)' for a Python function, or its type's name."""
    while hasattr(fun, "__wrapped__"):
        fun = fun.__wrapped__
    fun = getattr(fun, "func", fun)
    code = getattr(fun, "__code__", None)
    name = getattr(fun, "__name__", type(fun).__name__)
    return (
        f"{name} ({code.co_filename.rsplit('/', 1)[-1]}:{code.co_firstlineno})"
        if code is not None
        else name
    )


def check_callable(fun: Any, what: str) -> None:
    if not callable(fun):
        raise TypeError(f"{what} takes a function first, got {type(fun).__name__}")


def normalize_argnums(argnums: int | Sequence[int], count: int, what: str) -> tuple[int, ...]:
    """Return non-negative argument positions; raise ValueError naming one that is out of range."""
    nums = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    out = []
    for n in nums:
        if not -count <= n < count:
            raise ValueError(
                f"{what}: argnums={argnums} asks for positional argument {n}, but the call has "
                f"{count} "
                "positional arguments (differentiate keyword arguments by passing them by position)"
            )
        out.append(n % count)
    return tuple(out)
