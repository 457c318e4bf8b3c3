"""Norms of vectors and matrices. Where a norm is 0, so is its gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.numpy import elementwise
from funtorch.numpy.direct import FLOATS, LARGE, direct
from funtorch.numpy.elementwise import absolute, sqrt
from funtorch.numpy.manipulation import moveaxis, reshape
from funtorch.numpy.promotion import canonical_axes, canonical_axis, convert, describe, to_array
from funtorch.numpy.reductions import max as max_
from funtorch.numpy.reductions import min as min_
from funtorch.numpy.reductions import sum as sum_
from funtorch.ops.linalg import svd

__all__ = ["matrix_norm", "norm", "vector_norm"]


def _straight_norm(x: np.ndarray, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if ord is not None or (type(axis) is tuple and len(axis) > 2):
        raise TypeError("this is no root of a sum of squares")
    squares = np.add.reduce(np.square(x), axis, keepdims=keepdims)  # type: ignore[call-overload]
    return np.sqrt(squares)


@direct(_straight_norm, FLOATS, large=LARGE)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Return norms of vectors or matrices.

    Args:
        x: array.
        ord: None (root of the sum of squares), for vectors inf, -inf, 0 or a number p; for
            matrices 'fro', 'nuc', inf, -inf, 1, -1, 2, -2.
        axis: int for vectors, pair for matrices; None takes the whole array.
        keepdims: keep reduced axes with size 1.

    Returns:
        An Array of a real dtype.

    Where the norm of a vector is 0, so is its gradient, unless ``config.strict_gradients``.

    Raises:
        ValueError: ord or axis does not fit.

    Example:
        >>> norm(fnp.asarray([3.0, 4.0]))
        Array(5., dtype=float32)

    References:
        numpy.linalg.norm
    """
    x = to_array(x, "norm")
    x = convert(x, dtypes.to_inexact(x.dtype), x.weak_type)
    if axis is None and ord is None:
        return _euclid(x, tuple(range(x.ndim)), keepdims)
    axes = canonical_axes(axis, x.ndim, "norm")
    if isinstance(axis, (tuple, list)):
        axes = tuple(canonical_axis(k, x.ndim, "norm") for k in axis)
    if len(axes) == 1:
        return _vector(x, 2 if ord is None else ord, axes, keepdims)
    if len(axes) != 2:
        raise ValueError(
            f"norm: axis must be an int or a pair of ints, got {axis} for {describe(x)}"
        )
    return _matrix_norm(x, "fro" if ord is None else ord, axes, keepdims)


def _euclid(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if dtypes.is_complex(x.dtype):
        squares = elementwise.square(elementwise.real(x)) + elementwise.square(elementwise.imag(x))
    else:
        squares = elementwise.square(x)
    return sqrt(sum_(squares, axes, keepdims=keepdims))


def _vector(x: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if isinstance(ord, str):
        raise ValueError(f"norm: ord {ord!r} is for matrices; vectors take a number")
    if ord == 2:
        return _euclid(x, axes, keepdims)
    size = absolute(x)
    if ord == math.inf:
        return max_(size, axes, keepdims=keepdims, initial=0)
    if ord == -math.inf:
        return min_(size, axes, keepdims=keepdims)
    if ord == 0:
        return sum_(elementwise.not_equal(x, 0), axes, size.dtype, keepdims=keepdims)
    if ord == 1:
        return sum_(size, axes, keepdims=keepdims)
    return sum_(size**ord, axes, keepdims=keepdims) ** (1.0 / ord)


def _matrix_norm(x: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if ord == "fro":
        return _euclid(x, axes, keepdims)
    rows, columns = axes
    out = moveaxis(x, (rows, columns), (-2, -1))
    extreme = {math.inf: (max_, -1), -math.inf: (min_, -1), 1: (max_, -2), -1: (min_, -2)}
    if ord in ("nuc", 2, -2):
        (s,) = svd(out, vectors=False)
        out = sum_(s, -1) if ord == "nuc" else s[..., 0] if ord == 2 else s[..., -1]
    elif ord in extreme:
        choose, summed = extreme[ord]
        out = choose(sum_(absolute(out), summed), -1)
    else:
        raise ValueError(
            f"norm: ord {ord!r} is not one of 'fro', 'nuc', inf, -inf, 1, -1, 2, -2 for matrices"
        )
    if not keepdims:
        return out
    return reshape(out, tuple(1 if k in axes else n for k, n in enumerate(x.shape)))


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """Return norms of the matrices in the last two axes.

    References:
        numpy.linalg.matrix_norm
    """
    return norm(x, ord, (-2, -1), keepdims)


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    """Return norms of vectors; several axes count as one.

    References:
        numpy.linalg.vector_norm
    """
    x = to_array(x, "vector_norm")
    axes = canonical_axes(axis, x.ndim, "vector_norm")
    return _vector(convert(x, dtypes.to_inexact(x.dtype), x.weak_type), ord, axes, keepdims)
