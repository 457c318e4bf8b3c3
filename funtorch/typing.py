"""Types for annotations, as `jax.typing` has them.

Example:
    >>> from funtorch import numpy as jnp
    >>> def norm(x: ArrayLike) -> Array:
    ...     return jnp.sqrt(jnp.sum(jnp.square(x)))
    >>> norm(np.array([3.0, 4.0], np.float32))
    Array(5., dtype=float32)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from funtorch import core

__all__ = ["Array", "ArrayLike", "DTypeLike", "SupportsDType"]

if TYPE_CHECKING:
    from funtorch.core import Array
else:

    class _AnyArray(type):
        """Counts as arrays also what is made of several, as arrays of random keys are."""

        def __instancecheck__(cls, x: Any) -> bool:
            return isinstance(x, core.Array) or hasattr(type(x), "move_parts")

        def __subclasscheck__(cls, kind: type) -> bool:
            return issubclass(kind, core.Array) or hasattr(kind, "move_parts")

    class Array(core.Array, metaclass=_AnyArray):
        __doc__ = core.Array.__doc__
        __slots__ = ()
        __module__ = "funtorch"


class SupportsDType(Protocol):
    """Anything with a dtype: arrays, tracers, `ShapeDtypeStruct`s."""

    @property
    def dtype(self) -> np.dtype: ...


# What an argument may be where an array is wanted; lists and tuples are not among them.
ArrayLike: TypeAlias = Array | np.ndarray | np.bool_ | np.number | bool | int | float | complex

# What may name a dtype.
DTypeLike: TypeAlias = str | type[Any] | np.dtype | SupportsDType
