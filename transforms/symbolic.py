"""What rules with ``symbolic_zeros`` get: zeros that are no arrays, and who is differentiated."""

from __future__ import annotations

from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch.core import ShapedArray, aval_of
from funtorch.dtypes import float0

from .forward import is_differentiable

__all__ = [
    "CustomVJPPrimal",
    "SymbolicZero",
    "custom_vjp_primal_tree_values",
    "is_zero",
    "zero_from_primal",
]


class SymbolicZero:
    """A tangent or cotangent that is known to be zero: a shape and a dtype, but no array.

    Example:
        >>> import funtorch as ft
        >>> ft.custom_derivatives.zero_from_primal(ft.numpy.ones(3), symbolic_zeros=True)
        SymbolicZero(f32[3])
    """

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray) -> None:
        self.aval = aval

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> Any:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def size(self) -> int:
        return self.aval.size

    @staticmethod
    def from_primal_value(value: Any) -> SymbolicZero:
        """Return the zero tangent of a value."""
        return SymbolicZero(_tangent_type(aval_of(value)))

    def __repr__(self) -> str:
        return f"SymbolicZero({self.aval.str_short()})"


def _tangent_type(aval: ShapedArray) -> ShapedArray:
    dtype = aval.dtype if is_differentiable(aval.dtype) else np.dtype(float0)
    return ShapedArray(aval.shape, dtype)


def is_zero(x: Any) -> bool:
    """Tell whether a leaf is a symbolic zero, or None."""
    return x is None or type(x) is SymbolicZero


def zero_from_primal(val: Any, symbolic_zeros: bool = False) -> Any:
    """Return the zero tangents of a pytree of values, arrays or each a `SymbolicZero`."""

    def of(x: Any) -> Any:
        zero = SymbolicZero.from_primal_value(x)
        return zero if symbolic_zeros else np.zeros(zero.shape, zero.dtype)

    return tree.map(of, val)


class CustomVJPPrimal:
    """An argument as a fwd rule with ``symbolic_zeros`` gets it: its ``value``, and whether it is
    ``perturbed``, that is differentiated."""

    __slots__ = ("perturbed", "value")

    def __init__(self, value: Any, perturbed: bool) -> None:
        self.value, self.perturbed = value, perturbed

    def __repr__(self) -> str:
        return f"CustomVJPPrimal({self.value!r}, perturbed={self.perturbed})"


def custom_vjp_primal_tree_values(tree_of_primals: Any) -> Any:
    """Return a tree of `CustomVJPPrimal` as the tree of their values."""
    return tree.unflatten(
        *_swapped(tree.flatten(tree_of_primals, is_leaf=lambda x: isinstance(x, CustomVJPPrimal)))
    )


def _swapped(flat: tuple[list[Any], Any]) -> tuple[Any, list[Any]]:
    leaves, treedef = flat
    return treedef, [x.value if isinstance(x, CustomVJPPrimal) else x for x in leaves]
