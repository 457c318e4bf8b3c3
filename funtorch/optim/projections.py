"""Projections: the nearest point of a set, for trees taken as one vector.

References:
    J. Duchi et al., "Efficient projections onto the l1-ball", ICML (2008): the simplex.
"""

from __future__ import annotations

from typing import Any

import funtorch.numpy as fnp
from funtorch import tree as pytree
from funtorch.flatten_util import ravel_pytree
from funtorch.optim.base import each
from funtorch.optim.norms import tree_norm, tree_vdot
from funtorch.transforms import custom_jvp

__all__ = [
    "projection_box",
    "projection_halfspace",
    "projection_hypercube",
    "projection_hyperplane",
    "projection_l1_ball",
    "projection_l1_sphere",
    "projection_l2_ball",
    "projection_l2_sphere",
    "projection_linf_ball",
    "projection_non_negative",
    "projection_simplex",
    "projection_vector",
]


def _times(tree: Any, factor: Any) -> Any:
    return each(lambda x: x * factor, tree)


def projection_non_negative(tree: Any) -> Any:
    """Project to where no element is negative.

    Args:
        tree: a pytree of arrays.

    Returns:
        The nearest tree.

    Example:
        >>> optim.projections.projection_non_negative(fnp.array([-1.0, 2.0]))
        Array([0., 2.], dtype=float32)
    """
    return each(lambda x: fnp.maximum(x, 0), tree)


def projection_box(tree: Any, lower: Any, upper: Any) -> Any:
    """Project to where all elements are between bounds.

    Args:
        tree: a pytree of arrays.
        lower: a number, or a tree of bounds of the same structure.
        upper: the same.

    Returns:
        The nearest tree.

    Example:
        >>> optim.projections.projection_box(fnp.array([-1.0, 2.0]), 0.0, 1.0)
        Array([0., 1.], dtype=float32)
    """
    low, high = (_like(bound, tree) for bound in (lower, upper))
    return each(fnp.clip, tree, low, high)


def _like(bound: Any, tree: Any) -> Any:
    single = pytree.treedef_is_leaf(pytree.structure(bound))
    return pytree.map(lambda x: bound, tree) if single else bound


def projection_hypercube(tree: Any, scale: Any = 1) -> Any:
    """Project to where all elements are between 0 and a bound.

    Args:
        tree: a pytree of arrays.
        scale: the bound.

    Returns:
        The nearest tree.

    Example:
        >>> optim.projections.projection_hypercube(fnp.array([-1.0, 2.0]))
        Array([0., 1.], dtype=float32)
    """
    return projection_box(tree, 0, scale)


@custom_jvp
def _unit_simplex(values: Any) -> Any:
    descending = fnp.sort(values)[::-1]
    excess = fnp.cumsum(descending) - 1
    numbers = fnp.arange(1, values.size + 1)
    count = fnp.sum(descending * numbers > excess)
    return fnp.maximum(values - excess[count - 1] / count, 0)


@_unit_simplex.defjvp
def _unit_simplex_jvp(primals: Any, tangents: Any) -> Any:
    (values,), (change,) = primals, tangents
    result = _unit_simplex(values)
    inside = (result > 0).astype(change.dtype)
    return result, inside * (change - fnp.sum(inside * change) / fnp.sum(inside))


def projection_simplex(tree: Any, scale: Any = 1) -> Any:
    """Project to where no element is negative and all of them add up to a number.

    Args:
        tree: a pytree of arrays.
        scale: the number, positive.

    Returns:
        The nearest tree.

    Example:
        >>> optim.projections.projection_simplex(fnp.array([1.0, 1.0, -3.0]))
        Array([0.5, 0.5, 0. ], dtype=float32)
    """
    values, back = ravel_pytree(tree)
    return back(scale * _unit_simplex(values / scale))


def projection_l1_sphere(tree: Any, scale: Any = 1) -> Any:
    """Project to where the absolute values of all elements add up to a number.

    Args:
        tree: a pytree of arrays.
        scale: the number, positive.

    Returns:
        The nearest tree.

    Example:
        >>> optim.projections.projection_l1_sphere(fnp.array([1.0, -1.0]))
        Array([ 0.5, -0.5], dtype=float32)
    """
    sizes = projection_simplex(each(fnp.abs, tree), scale)
    return each(lambda x, size: fnp.sign(x) * size, tree, sizes)


def projection_l1_ball(tree: Any, scale: Any = 1) -> Any:
    """Project to where the absolute values of all elements add up to a number at most.

    Args:
        tree: a pytree of arrays.
        scale: the number, positive.

    Returns:
        The nearest tree.

    Example:
        >>> optim.projections.projection_l1_ball(fnp.array([0.2, -0.3]))
        Array([ 0.2, -0.3], dtype=float32)
    """
    inside = tree_norm(tree, ord=1) <= scale
    return each(lambda x, y: fnp.where(inside, x, y), tree, projection_l1_sphere(tree, scale))


def projection_l2_sphere(tree: Any, scale: Any = 1) -> Any:
    """Project to where the Euclidean norm is a number.

    Args:
        tree: a pytree of arrays, not all zero.
        scale: the number, positive.

    Returns:
        The nearest tree.

    Example:
        >>> optim.projections.projection_l2_sphere(fnp.array([3.0, 4.0]))
        Array([0.6, 0.8], dtype=float32)
    """
    return _times(tree, scale / tree_norm(tree))


def projection_l2_ball(tree: Any, scale: Any = 1) -> Any:
    """Project to where the Euclidean norm is a number at most.

    Args:
        tree: a pytree of arrays.
        scale: the number, positive.

    Returns:
        The nearest tree.

    Example:
        >>> optim.projections.projection_l2_ball(fnp.array([0.3, 0.4]))
        Array([0.3, 0.4], dtype=float32)
    """
    return _times(tree, scale / fnp.sqrt(fnp.maximum(tree_norm(tree, squared=True), scale**2)))


def projection_linf_ball(tree: Any, scale: Any = 1) -> Any:
    """Project to where no element is larger than a number, in absolute value.

    Args:
        tree: a pytree of arrays.
        scale: the number, positive.

    Returns:
        The nearest tree.

    Example:
        >>> optim.projections.projection_linf_ball(fnp.array([-3.0, 0.5]))
        Array([-1. ,  0.5], dtype=float32)
    """
    return projection_box(tree, -scale, scale)


def projection_vector(x: Any, a: Any) -> Any:
    """Project to the multiples of a vector.

    Args:
        x: a pytree of arrays.
        a: the vector, of the same structure.

    Returns:
        The nearest tree.

    Example:
        >>> optim.projections.projection_vector(fnp.array([2.0, 3.0]), fnp.array([1.0, 0.0]))
        Array([2., 0.], dtype=float32)
    """
    return _times(a, tree_vdot(x, a) / tree_vdot(a, a))


def projection_hyperplane(x: Any, a: Any, b: Any) -> Any:
    """Project to where ``<a, x> = b``.

    Args:
        x: a pytree of arrays.
        a: the normal, of the same structure.
        b: a number.

    Returns:
        The nearest tree.

    Example:
        >>> optim.projections.projection_hyperplane(fnp.zeros(2), fnp.array([1.0, 1.0]), 2.0)
        Array([1., 1.], dtype=float32)
    """
    factor = (b - tree_vdot(x, a)) / tree_vdot(a, a)
    return each(lambda p, n: p + factor * n, x, a)


def projection_halfspace(x: Any, a: Any, b: Any) -> Any:
    """Project to where ``<a, x> <= b``.

    Args:
        x: a pytree of arrays.
        a: the normal, of the same structure.
        b: a number.

    Returns:
        The nearest tree.

    Example:
        >>> optim.projections.projection_halfspace(fnp.zeros(2), fnp.array([1.0, 1.0]), -2.0)
        Array([-1., -1.], dtype=float32)
    """
    factor = fnp.minimum((b - tree_vdot(x, a)) / tree_vdot(a, a), 0)
    return each(lambda p, n: p + factor * n, x, a)
