"""Coordinates: grids, index arrays, and positions in the flattened array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl, concrete_or_error
from funtorch.errors import MismatchError
from funtorch.numpy.elementwise import clip, where
from funtorch.numpy.promotion import (
    array,
    asarray,
    broadcast_to,
    canonical_shape,
    convert,
    describe,
    shape_of,
    static_int,
    to_array,
)

__all__ = [
    "diag_indices",
    "diag_indices_from",
    "indices",
    "ix_",
    "meshgrid",
    "ravel_multi_index",
    "tril_indices",
    "tril_indices_from",
    "triu_indices",
    "triu_indices_from",
    "unravel_index",
]


def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> list[Any]:
    """Make coordinate arrays from coordinate vectors.

    Args:
        *xi: vectors.
        sparse: leave axes of size 1 instead of repeating values.
        indexing: 'xy' or 'ij'.

    References:
        numpy.meshgrid
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    arrays = [to_array(x, "meshgrid", f"xi[{k}]").reshape(-1) for k, x in enumerate(xi)]
    order = list(range(len(arrays)))
    if indexing == "xy" and len(arrays) >= 2:
        order[:2] = [1, 0]
    shape = [1] * len(arrays)
    for k, a in enumerate(arrays):
        shape[order[k]] = a.shape[0]
    out = []
    for k, a in enumerate(arrays):
        inner = [1] * len(arrays)
        inner[order[k]] = a.shape[0]
        a = a.reshape(tuple(inner))
        out.append(a if sparse else broadcast_to(a, tuple(shape)))
    return out


def indices(dimensions: Any, dtype: Any = None, sparse: bool = False) -> Any:
    """Make the arrays of coordinates of a shape.

    References:
        numpy.indices
    """
    shape = canonical_shape(dimensions, "indices")
    dtype = dtypes.canonical(int if dtype is None else dtype)
    out = np.indices(shape, sparse=sparse)  # type: ignore[call-overload]
    return tuple(array(x, dtype) for x in out) if sparse else ArrayImpl(out.astype(dtype))


def ix_(*args: Any) -> tuple[Any, ...]:
    """Make an open mesh from vectors, for indexing their product.

    References:
        numpy.ix_
    """
    out = []
    for k, x in enumerate(args):
        x = asarray(x)
        if x.ndim != 1:
            raise ValueError(f"ix_: argument {k} must be a vector, got shape {x.shape}")
        if x.dtype == dtypes.bool_:
            x = array(np.nonzero(concrete_or_error(x, "a mask given to ix_"))[0].astype(np.int32))
        shape = [1] * len(args)
        shape[k] = x.shape[0]
        out.append(x.reshape(tuple(shape)))
    return tuple(out)


def unravel_index(indices: Any, shape: Any) -> tuple[Any, ...]:
    """Turn indices of the flattened array into coordinates.

    Args:
        indices: integers; those out of range go to the nearest end, as under jit.
        shape: the shape of the array.

    Returns:
        One array of integers per axis, each of the shape of indices.

    Raises:
        TypeError: the indices are not integers.

    Example:
        >>> [int(k) for k in unravel_index(7, (3, 4))]
        [1, 3]

    References:
        numpy.unravel_index
    """
    sizes, flat = canonical_shape(shape, "unravel_index"), _integers("unravel_index", indices)
    total = math.prod(sizes)
    rest = clip(where(flat < 0, flat + total, flat), 0, max(total - 1, 0))
    out = []
    for n in reversed(sizes):
        rest, k = divmod(rest, n)
        out.append(k)
    return tuple(reversed(out))


def ravel_multi_index(
    multi_index: Any,
    dims: Any,
    mode: str | Sequence[str] = "raise",
    order: str = "C",
    *,
    dtype: Any = None,
) -> Any:
    """Turn coordinates into indices of the flattened array.

    Args:
        multi_index: one array of integers per axis.
        dims: the shape of the array.
        mode: what becomes of coordinates out of range: 'raise' (not under jit), 'wrap' or 'clip';
            one for all axes or one for each.
        order: 'C' or 'F'.
        dtype: dtype of the result; None gives that of the coordinates.

    Returns:
        An Array of integers.

    Raises:
        ValueError: coordinates are out of range, or their number is not that of the axes.

    Example:
        >>> int(ravel_multi_index((1, 3), (3, 4)))
        7

    References:
        numpy.ravel_multi_index
    """
    sizes, parts = canonical_shape(dims, "ravel_multi_index"), list(multi_index)
    modes = [mode] * len(sizes) if isinstance(mode, str) else list(mode)
    if not len(parts) == len(sizes) == len(modes):
        raise ValueError(
            f"ravel_multi_index: {len(parts)} coordinates and {len(modes)} modes were given for "
            f"the {len(sizes)} axes of shape {sizes}"
        )
    if order not in ("C", "F"):
        raise ValueError(f"ravel_multi_index: order must be 'C' or 'F', got {order!r}")
    inside = [
        _bounded(_integers("ravel_multi_index", x), n, how, axis)
        for axis, (x, n, how) in enumerate(zip(parts, sizes, modes, strict=True))
    ]
    total, stride = asarray(0), 1
    axes = range(len(sizes))
    for axis in reversed(axes) if order == "C" else axes:
        total, stride = total + inside[axis] * stride, stride * sizes[axis]
    return total if dtype is None else convert(total, dtypes.canonical(dtype))


def _integers(name: str, x: Any) -> Any:
    x = asarray(x)
    if not dtypes.is_integer(x.dtype):
        raise MismatchError(f"{name}: indices must be integers, got {describe(x)}")
    return x


def _bounded(x: Any, n: int, mode: str, axis: int) -> Any:
    if mode == "clip":
        return clip(x, 0, n - 1)
    if mode == "wrap":
        return x % n
    if mode != "raise":
        raise ValueError(f"ravel_multi_index: mode must be 'raise', 'wrap' or 'clip', got {mode!r}")
    known = concrete_or_error(x, "a coordinate given to ravel_multi_index with mode='raise'")
    if ((known < 0) | (known >= n)).any():
        raise ValueError(
            f"ravel_multi_index: a coordinate along axis {axis} is out of range for size {n}: "
            f"{known.tolist()!s:.60}"
        )
    return x


def _places(found: Any) -> tuple[Any, ...]:
    return tuple(ArrayImpl(x.astype(dtypes.default_int())) for x in found)


def _matrix_size(name: str, *sizes: Any) -> list[int]:
    out = [static_int(n, f"{name}: a size") for n in sizes]
    if min(out) < 0:
        raise ValueError(f"{name}: sizes must not be negative, got {out}")
    return out


def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Any, Any]:
    """Return index arrays for the lower triangle of a matrix.

    Args:
        n: rows.
        k: the last diagonal taken.
        m: columns; None means n.

    References:
        numpy.tril_indices
    """
    rows, columns = _matrix_size("tril_indices", n, n if m is None else m)
    return _places(np.tril_indices(rows, static_int(k, "tril_indices: k"), columns))  # type: ignore[return-value]


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Any, Any]:
    """Return index arrays for the upper triangle of a matrix; arguments as for `tril_indices`.

    References:
        numpy.triu_indices
    """
    rows, columns = _matrix_size("triu_indices", n, n if m is None else m)
    return _places(np.triu_indices(rows, static_int(k, "triu_indices: k"), columns))  # type: ignore[return-value]


def _matrix_shape(name: str, arr: Any) -> tuple[int, int]:
    shape = shape_of(arr)
    if len(shape) != 2:
        raise ValueError(f"{name}: arr must be a matrix, got shape {shape}")
    return shape  # type: ignore[return-value]


def tril_indices_from(arr: Any, k: int = 0) -> tuple[Any, Any]:
    """Return index arrays for the lower triangle of a given matrix.

    References:
        numpy.tril_indices_from
    """
    n, m = _matrix_shape("tril_indices_from", arr)
    return tril_indices(n, k, m)


def triu_indices_from(arr: Any, k: int = 0) -> tuple[Any, Any]:
    """Return index arrays for the upper triangle of a given matrix.

    References:
        numpy.triu_indices_from
    """
    n, m = _matrix_shape("triu_indices_from", arr)
    return triu_indices(n, k, m)


def diag_indices(n: int, ndim: int = 2) -> tuple[Any, ...]:
    """Return index arrays for the main diagonal of an array with ``ndim`` axes of size n.

    References:
        numpy.diag_indices
    """
    n, ndim = _matrix_size("diag_indices", n, ndim)
    return _places(np.diag_indices(n, ndim))


def diag_indices_from(arr: Any) -> tuple[Any, ...]:
    """Return index arrays for the diagonal of a square array.

    References:
        numpy.diag_indices_from
    """
    shape = shape_of(arr)
    if len(shape) < 2 or len(set(shape)) != 1:
        raise ValueError(
            f"diag_indices_from: at least 2 axes of one size are required, got shape {shape}"
        )
    return diag_indices(shape[0], len(shape))
