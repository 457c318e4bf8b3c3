"""What every public transform does with its arguments: flatten, convert, select by argnums, name in
errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funtorch.core import Array
from funtorch.errors import function_name
from funtorch.numpy.promotion import asarray

__all__ = ["as_arrays", "check_callable", "function_name", "normalize_argnums"]


def as_arrays(leaves: Sequence[Any], what: str, fun: Any) -> list[Any]:
    """Return every leaf as an Array or tracer; the error names the leaf and the function."""
    out = []
    for k, x in enumerate(leaves):
        try:
            out.append(x if isinstance(x, Array) else asarray(x))
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


def check_callable(fun: Any, what: str) -> None:
    if not callable(fun):
        raise TypeError(f"{what} takes a function first, got {type(fun).__name__}")


def normalize_argnums(
    argnums: int | Sequence[int], count: int, what: str, fun: Any
) -> tuple[int, ...]:
    """Return non-negative argument positions; raise ValueError naming one that is out of range."""
    nums = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    out = []
    for n in nums:
        if not -count <= n < count:
            raise ValueError(
                f"{what} of {function_name(fun)}: argnums={argnums} asks for positional argument "
                f"{n}, but the call has "
                f"{count} "
                "positional arguments (differentiate keyword arguments by passing them by position)"
            )
        out.append(n % count)
    return tuple(out)
