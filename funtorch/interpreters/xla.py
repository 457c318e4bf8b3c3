"""The names of jax.interpreters.xla that programs use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch.core import Primitive
from funtorch.extend.backend import Backend
from funtorch.numpy.promotion import asarray

__all__ = ["Backend", "apply_primitive", "canonicalize_dtype_handlers"]

# Type -> what makes a NumPy array of its values. Nothing needs to be registered: values with
# ``__array__`` or ``__jax_array__`` are arrays.
canonicalize_dtype_handlers: dict[type, Callable[[Any], Any]] = {np.ndarray: np.asarray}


def apply_primitive(prim: Primitive, *args: Any, **params: Any) -> Any:
    """Apply a primitive to arrays and numbers.

    Example:
        >>> import funtorch as ft
        >>> apply_primitive(ft.lax.add_p, 1.0, 2.0)
        Array(3., dtype=float32, weak_type=True)
    """
    return prim.bind(*map(asarray, args), **params)
