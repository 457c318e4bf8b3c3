"""What every public transform does with its arguments: flatten, convert, select by argnums, name in
errors."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch.core import Array
from funtorch.errors import MismatchError, function_name
from funtorch.numpy.promotion import asarray
from funtorch.origins import call_named

__all__ = ["FlatFunction", "as_arrays", "check_callable", "function_name", "normalize_argnums"]


def as_arrays(
    leaves: Sequence[Any], what: str, fun: Any, names: Callable[[], Sequence[str]] | None = None
) -> list[Any]:
    """Return every leaf as an Array or tracer; the error names the leaf and the function.

    ``names`` gives the leaves' names, for the error.
    """
    out = []
    for k, x in enumerate(leaves):
        try:
            out.append(x if isinstance(x, Array) else asarray(x))
        except TypeError as e:
            of = f" of {function_name(fun)}" if fun is not None else ""
            own = f" ({names()[k]})" if names is not None else ""
            raise TypeError(
                f"{what}{of}: leaf {k} is {x!r:.60} of type {type(x).__name__}{own}; transforms "
                "take arrays, numbers and pytrees of them (tuples, lists, dicts, registered "
                "classes). Close over other values, or mark them static in jit "
                "(static_argnums/static_argnames)"
            ) from e
    return out


class FlatFunction:
    """A function of pytrees as a function of flat arrays that returns a list of arrays.

    After a call it knows the structure of what came back: ``out_tree``, the number of output
    leaves ``count``, and with ``has_aux`` the structure of the auxiliary data, whose leaves follow.
    """

    __slots__ = ("aux_tree", "count", "fun", "has_aux", "in_tree", "out_tree", "what")

    def __init__(self, fun: Callable[..., Any], in_tree: Any, has_aux: bool, what: str) -> None:
        self.fun, self.in_tree, self.has_aux, self.what = fun, in_tree, has_aux, what

    def __call__(self, *flat: Any) -> list[Any]:
        out = call_named(self.fun, self.in_tree.unflatten(flat), {})
        if not self.has_aux:
            outs, self.out_tree = tree.flatten(out)
            self.count = len(outs)
            return as_arrays(outs, "output", self.fun)
        if not isinstance(out, (tuple, list)) or len(out) != 2:
            raise TypeError(
                f"{self.what} with has_aux=True needs a function that returns (output, aux), got "
                f"{type(out).__name__}"
            )
        outs, self.out_tree = tree.flatten(out[0])
        aux, self.aux_tree = tree.flatten(out[1])
        self.count = len(outs)
        return [*as_arrays(outs, "output", self.fun), *aux]  # aux may hold anything

    def split(self, leaves: Sequence[Any]) -> tuple[Any, Any]:
        """Return flat results as (output, auxiliary data or None)."""
        out = self.out_tree.unflatten(leaves[: self.count])
        return out, self.aux_tree.unflatten(leaves[self.count :]) if self.has_aux else None


def check_callable(fun: Any, what: str) -> None:
    if not callable(fun):
        raise TypeError(f"{what} takes a function first, got {type(fun).__name__}")


def normalize_argnums(
    argnums: int | Sequence[int], count: int, what: str, fun: Any
) -> tuple[int, ...]:
    """Return non-negative argument positions; raise an error naming one that is out of range."""
    nums = (argnums,) if isinstance(argnums, (int, np.integer)) else tuple(argnums)
    out = []
    for n in nums:
        if not -count <= n < count:
            raise MismatchError(
                f"{what} of {function_name(fun)}: argnums={argnums} asks for positional argument "
                f"{n}, but the call has "
                f"{count} "
                "positional arguments (differentiate keyword arguments by passing them by position)"
            )
        out.append(operator.index(n) % count)
    return tuple(out)
