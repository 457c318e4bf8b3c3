"""The names of jax.experimental.hijax, with which programs define types of their own.

Types of one's own are pytrees here. Programs that define both, and choose by a flag, import these
names; the operations of such types say that they are not here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from funtorch.core import ShapedArray
from funtorch.core import ShapedArray as AbstractValue
from funtorch.interpreters.ad import Zero, instantiate_zeros, is_undefined_primal

__all__ = [
    "AbstractValue",
    "AvalMutableQDD",
    "AvalQDD",
    "HiPrimitive",
    "HiType",
    "MutableHiType",
    "ShapedArray",
    "Zero",
    "aval_method",
    "aval_property",
    "control_flow_allowed_effects",
    "instantiate_zeros",
    "is_undefined_primal",
    "register_hitype",
]


class HiType:
    """A type of one's own."""


class MutableHiType(HiType):
    """A type of one's own, whose values change."""


class AvalQDD(NamedTuple):
    """A type, and the state of the value."""

    aval: Any
    qdd: Any


class AvalMutableQDD(NamedTuple):
    """A type, and the state of the value, which changes."""

    aval: Any
    mutable_qdd: Any


class HiPrimitive:
    """An operation of types of one's own.

    Args:
        name: its name.
    """

    multiple_results = False

    def __init__(self, name: str) -> None:
        self.name = name

    def bind(self, *args: Any, **params: Any) -> Any:
        """Raise the error that says what to do instead.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{self.name} works on a type that is defined by hijax, and there are none here: make "
            "the type a pytree (tree.register_pytree_node), and changing values `funtorch.new_ref`"
        )


class aval_property(NamedTuple):
    """A property that traced values of a type have."""

    fget: Callable[..., Any]


class aval_method(NamedTuple):
    """A method that traced values of a type have."""

    fun: Callable[..., Any]


class _Effects:
    def __init__(self) -> None:
        self.types: set[type] = set()

    def add_type(self, effect: type) -> None:
        """Allow an effect in loops and branches."""
        self.types.add(effect)


control_flow_allowed_effects = _Effects()


def register_hitype(val_cls: type, typeof_fn: Callable[[Any], Any]) -> None:
    """Note that values of a class have a type of one's own; no transform asks for it."""
