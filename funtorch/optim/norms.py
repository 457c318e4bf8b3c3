"""Norms, sums and inner products of arrays and of trees of them."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import funtorch.numpy as fnp
from funtorch import tree as pytree
from funtorch.optim.base import each

__all__ = [
    "global_norm",
    "safe_increment",
    "safe_norm",
    "safe_root_mean_squares",
    "tree_norm",
    "tree_sum",
    "tree_vdot",
]


def abs_square(x: Any) -> Any:
    """Return |x|², real."""
    if fnp.iscomplexobj(x):
        return fnp.square(fnp.real(x)) + fnp.square(fnp.imag(x))
    return fnp.square(x)


def at_least_float32(dtype: Any) -> Any:
    """Return the dtype to add up numbers of ``dtype`` in: squares of half floats overflow early."""
    return fnp.promote_types(dtype, fnp.float32)


def total(f: Callable[..., Any], *trees: Any) -> Any:
    """Return the sum over all places of ``f`` of the arrays there, each float32 or wider."""

    def term(*xs: Any) -> Any:
        arrays = map(fnp.asarray, xs)
        return fnp.sum(f(*[x.astype(at_least_float32(x.dtype)) for x in arrays]))

    terms = pytree.leaves(each(term, *trees))
    return functools.reduce(operator.add, terms) if terms else fnp.zeros((), fnp.float32)


def squared_norm(of: Any) -> Any:
    """Return the sum of |x|² over all arrays of a tree, float32 or wider."""
    return total(abs_square, of)


def global_norm(updates: Any) -> Any:
    """Compute the Euclidean norm of all arrays of a tree, taken as one vector.

    Args:
        updates: a pytree of arrays.

    Returns:
        A scalar, float32 or wider: squares of half-precision numbers overflow early.

    Example:
        >>> optim.global_norm({"a": fnp.array([3.0]), "b": fnp.array([[4.0]])})
        Array(5., dtype=float32)
    """
    return fnp.sqrt(squared_norm(updates))


def tree_norm(tree: Any, ord: Any = None, squared: bool = False) -> Any:
    """Compute a norm of all arrays of a tree, taken as one vector.

    Args:
        tree: a pytree of arrays.
        ord: 1, 2 (the default) or inf.
        squared: whether to return its square.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: ``ord`` is none of these.

    Example:
        >>> optim.tree.norm({"a": fnp.array([3.0]), "b": fnp.array([[4.0]])}, ord=1)
        Array(7., dtype=float32)
    """
    if ord is None or ord == 2:
        squares = squared_norm(tree)
        return squares if squared else fnp.sqrt(squares)
    if ord == 1:
        norm = total(fnp.abs, tree)
    elif ord in ("inf", "infinity", math.inf):
        norm = _largest(tree)
    else:
        raise ValueError(f"tree_norm: ord is 1, 2 or inf, not {ord!r}")
    return fnp.square(norm) if squared else norm


def _largest(of: Any) -> Any:
    found = [fnp.max(fnp.abs(x)) for x in map(fnp.asarray, pytree.leaves(of)) if x.size]
    return functools.reduce(fnp.maximum, found) if found else fnp.zeros((), fnp.float32)


def tree_sum(tree: Any, associative_reduction: bool = False) -> Any:
    """Add up all elements of all arrays of a tree.

    Args:
        tree: a pytree of arrays.
        associative_reduction: whether to add neighbours in pairs instead of one after the other.

    Returns:
        A scalar; 0 for a tree without arrays.

    Example:
        >>> optim.tree.sum({"a": fnp.ones(2), "b": fnp.ones((2, 2))})
        Array(6., dtype=float32)
    """
    sums = pytree.map(fnp.sum, tree)
    if associative_reduction:
        return pytree.reduce_associative(operator.add, sums, identity=0)
    return pytree.reduce(operator.add, sums, 0)


def tree_vdot(tree_x: Any, tree_y: Any) -> Any:
    """Compute the inner product of two trees of the same structure.

    Args:
        tree_x: a pytree of arrays, conjugated if they are complex.
        tree_y: another.

    Returns:
        A scalar; 0 for trees without arrays.

    Example:
        >>> optim.tree.vdot([fnp.array([1.0, 2.0])], [fnp.array([3.0, 4.0])])
        Array(11., dtype=float32)
    """
    products = pytree.map(lambda x, y: fnp.sum(fnp.conj(x) * y), tree_x, tree_y)
    return pytree.reduce(operator.add, products, 0)


def safe_norm(
    x: Any,
    min_norm: Any,
    ord: Any = None,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
) -> Any:
    """Compute the larger of a norm and a bound, with derivative 0 where the bound is larger.

    Args:
        x: an array.
        min_norm: the bound.
        ord: which norm, as in `funtorch.numpy.linalg.norm`.
        axis: over which axes; all by default.
        keepdims: whether they stay, with size 1.

    Returns:
        ``maximum(norm(x), min_norm)``.

    Example:
        >>> ft.grad(lambda x: optim.safe_norm(x, 1e-3))(fnp.zeros(2))
        Array([0., 0.], dtype=float32)
    """
    x = fnp.asarray(x)
    norm = fnp.linalg.norm(x, ord=ord, axis=axis, keepdims=True)
    small = norm <= min_norm
    norm = fnp.linalg.norm(fnp.where(small, fnp.ones_like(x), x), ord, axis, keepdims)
    return fnp.where(small.reshape(norm.shape), min_norm, norm)


def safe_root_mean_squares(x: Any, min_rms: Any) -> Any:
    """Compute the larger of a root mean square and a bound, with derivative 0 below the bound.

    Args:
        x: an array.
        min_rms: the bound.

    Returns:
        ``maximum(sqrt(mean(|x|²)), min_rms)``, a scalar.

    Example:
        >>> optim.safe_root_mean_squares(fnp.array([1.0, -1.0]), 0.1)
        Array(1., dtype=float32)
    """
    x = fnp.asarray(x)
    small = fnp.sqrt(fnp.mean(abs_square(x))) <= min_rms
    rms = fnp.sqrt(fnp.mean(abs_square(fnp.where(small, fnp.ones_like(x), x))))
    return fnp.where(small, min_rms, rms)


def safe_increment(count: Any) -> Any:
    """Add 1 to a count, unless that would overflow.

    Args:
        count: a number, integer or floating.

    Returns:
        The next one; the largest stays.

    Raises:
        TypeError: the count is no real number.

    Example:
        >>> optim.safe_increment(fnp.asarray(2**31 - 1, dtype=fnp.int32))
        Array(2147483647, dtype=int32)
    """
    count = fnp.asarray(count)
    if fnp.issubdtype(count.dtype, fnp.integer):
        most = fnp.iinfo(count.dtype).max
    elif fnp.issubdtype(count.dtype, fnp.floating):
        most = fnp.finfo(count.dtype).max
    else:
        raise TypeError(f"safe_increment takes an integer or a float, not {count.dtype}")
    return fnp.where(count < most, count + 1, most).astype(count.dtype)
