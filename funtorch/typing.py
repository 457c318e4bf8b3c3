"""Types for annotations, as `jax.typing` has them.

Example:
    >>> from funtorch import numpy as jnp
    >>> def norm(x: ArrayLike) -> Array:
    ...     return jnp.sqrt(jnp.sum(jnp.square(x)))
    >>> norm(np.array([3.0, 4.0], np.float32))
    Array(5., dtype=float32)
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np

from funtorch.core import Array

__all__ = ["ArrayLike", "DTypeLike", "SupportsDType"]


class SupportsDType(Protocol):
    """Anything with a dtype: arrays, tracers, `ShapeDtypeStruct`s."""

    @property
    def dtype(self) -> np.dtype: ...


# What an argument may be where an array is wanted; lists and tuples are not among them.
ArrayLike: TypeAlias = Array | np.ndarray | np.bool_ | np.number | bool | int | float | complex

# What may name a dtype.
DTypeLike: TypeAlias = str | type[Any] | np.dtype | SupportsDType
