"""One vector for a whole pytree: `ravel_pytree`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch import dtypes, tree
from funtorch.numpy.promotion import asarray
from funtorch.ops.elementwise import convert
from funtorch.ops.families import full
from funtorch.ops.shape import concatenate, reshape
from funtorch.ops.shape import slice as slice_

__all__ = ["ravel_pytree"]


def ravel_pytree(pytree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Flatten a pytree of arrays into one vector.

    Args:
        pytree: arrays of any shapes; dtypes are promoted to a common one.

    Returns:
        ``(vector, unravel)``: the vector of all elements, and the function that puts a vector of
        the same length back into the pytree's structure, shapes and dtypes. Where all arrays have
        one dtype, they then have the vector's.

    Raises:
        ValueError: from ``unravel``, when the vector has another shape.
        TypeError: from ``unravel``, when the arrays have several dtypes, and the vector's is not
            their common one.

    Example:
        >>> import funtorch as ft
        >>> v, unravel = ft.flatten_util.ravel_pytree({"a": 1.0, "b": ft.numpy.zeros(2)})
        >>> v
        Array([1., 0., 0.], dtype=float32)
        >>> unravel(v)["b"]
        Array([0., 0.], dtype=float32)
    """
    leaves, treedef = tree.flatten(pytree)
    arrays = [asarray(x) for x in leaves]
    sizes = [x.size for x in arrays]
    if arrays:
        dtype, _ = dtypes.result_type_weak(*[(x.dtype, x.weak_type) for x in arrays])
        parts = [reshape(_cast(x, dtype), shape=(x.size,)) for x in arrays]
        vector = concatenate(*parts, axis=0)
    else:
        dtype = dtypes.default_float()
        vector = full((0,), 0, dtype)
    types = tuple([x.dtype for x in arrays])
    same = all(t == dtype for t in types)
    bounds = tuple(np.cumsum([0, *sizes]).tolist())
    return vector, _Unravel(treedef, tuple([x.shape for x in arrays]), types, bounds, dtype, same)


@dataclasses.dataclass(frozen=True)
class _Unravel:
    """Puts a vector into a structure; equal ones do the same, so they may be static arguments."""

    treedef: Any
    shapes: tuple[tuple[int, ...], ...]
    types: tuple[Any, ...]
    bounds: tuple[int, ...]
    dtype: Any
    same: bool  # all arrays have this dtype, and take that of the vector

    def __call__(self, vector: Any) -> Any:
        vector, bounds = asarray(vector), self.bounds
        if vector.shape != (bounds[-1],):
            raise ValueError(f"unravel takes a vector of shape {(bounds[-1],)}, got {vector.shape}")
        if not self.same and vector.dtype != self.dtype:
            raise TypeError(
                f"unravel was given a vector of dtype {vector.dtype.name}, but expected dtype "
                f"{self.dtype.name}, from which it makes arrays of several dtypes: convert it first"
            )
        pieces = []
        for lo, hi, shape, to in zip(bounds, bounds[1:], self.shapes, self.types, strict=False):
            part = reshape(slice_(vector, start=(lo,), limit=(hi,), stride=(1,)), shape=shape)
            pieces.append(_cast(part, vector.dtype if self.same else to))
        return self.treedef.unflatten(pieces)


def _cast(x: Any, dtype: Any) -> Any:
    return x if x.dtype == dtype and not x.weak_type else convert(x, dtype=dtype, weak_type=False)
