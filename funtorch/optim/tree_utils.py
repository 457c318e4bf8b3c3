"""Arithmetic on trees of arrays, as on vectors.

`funtorch.optim.tree` has the same functions without the prefix. None is no array: where a tree
has one, so has the result.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import funtorch.numpy as fnp
from funtorch import dtypes, random
from funtorch import tree as pytree
from funtorch.optim.base import each
from funtorch.optim.moments import (
    tree_bias_correction,
    tree_update_infinity_moment,
    tree_update_moment,
    tree_update_moment_per_elem_norm,
)
from funtorch.optim.norms import tree_norm, tree_sum, tree_vdot
from funtorch.optim.states import (
    NamedTupleKey,
    tree_get,
    tree_get_all_with_path,
    tree_map_params,
    tree_set,
)

__all__ = [
    "NamedTupleKey",
    "tree_add",
    "tree_add_scale",
    "tree_allclose",
    "tree_batch_shape",
    "tree_bias_correction",
    "tree_cast",
    "tree_cast_like",
    "tree_clip",
    "tree_conj",
    "tree_div",
    "tree_dtype",
    "tree_full_like",
    "tree_get",
    "tree_get_all_with_path",
    "tree_map_params",
    "tree_max",
    "tree_min",
    "tree_mul",
    "tree_norm",
    "tree_ones_like",
    "tree_random_like",
    "tree_real",
    "tree_scale",
    "tree_set",
    "tree_size",
    "tree_split_key_like",
    "tree_sub",
    "tree_sum",
    "tree_unwrap_random_key_data",
    "tree_update_infinity_moment",
    "tree_update_moment",
    "tree_update_moment_per_elem_norm",
    "tree_vdot",
    "tree_where",
    "tree_zeros_like",
]


def tree_add(tree_x: Any, tree_y: Any, *other_trees: Any) -> Any:
    """Add trees.

    Args:
        tree_x: a pytree of arrays.
        tree_y: another, of the same structure.
        *other_trees: more of them.

    Returns:
        The tree of sums.

    Example:
        >>> optim.tree.add([fnp.ones(1)], [fnp.ones(1)], [fnp.ones(1)])
        [Array([3.], dtype=float32)]
    """
    return each(lambda *xs: functools.reduce(operator.add, xs), tree_x, tree_y, *other_trees)


def tree_sub(tree_x: Any, tree_y: Any) -> Any:
    """Subtract a tree from another of the same structure.

    Args:
        tree_x: a pytree of arrays.
        tree_y: what to subtract.

    Returns:
        The tree of differences.

    Example:
        >>> optim.tree.sub([fnp.ones(1)], [fnp.ones(1)])
        [Array([0.], dtype=float32)]
    """
    return each(operator.sub, tree_x, tree_y)


def tree_mul(tree_x: Any, tree_y: Any) -> Any:
    """Multiply trees of the same structure, element by element.

    Args:
        tree_x: a pytree of arrays.
        tree_y: another.

    Returns:
        The tree of products.

    Example:
        >>> optim.tree.mul([fnp.array([2.0])], [fnp.array([3.0])])
        [Array([6.], dtype=float32)]
    """
    return each(operator.mul, tree_x, tree_y)


def tree_div(tree_x: Any, tree_y: Any) -> Any:
    """Divide trees of the same structure, element by element.

    Args:
        tree_x: a pytree of arrays.
        tree_y: the divisors.

    Returns:
        The tree of quotients.

    Example:
        >>> optim.tree.div([fnp.array([6.0])], [fnp.array([3.0])])
        [Array([2.], dtype=float32)]
    """
    return each(operator.truediv, tree_x, tree_y)


def tree_scale(scalar: Any, tree: Any) -> Any:
    """Multiply all arrays of a tree by one number.

    Args:
        scalar: the number.
        tree: a pytree of arrays.

    Returns:
        The tree of products.

    Example:
        >>> optim.tree.scale(2.0, [fnp.ones(1)])
        [Array([2.], dtype=float32)]
    """
    return each(lambda x: scalar * x, tree)


def tree_add_scale(tree_x: Any, scalar: Any, tree_y: Any) -> Any:
    """Add a multiple of a tree: ``x + scalar * y``.

    Args:
        tree_x: a pytree of arrays.
        scalar: the number.
        tree_y: another tree, of the same structure.

    Returns:
        The tree of sums.

    Example:
        >>> optim.tree.add_scale([fnp.ones(1)], 0.5, [fnp.ones(1)])
        [Array([1.5], dtype=float32)]
    """
    return each(lambda x, y: x + scalar * y, tree_x, tree_y)


def tree_where(condition: Any, tree_x: Any, tree_y: Any) -> Any:
    """Choose between the elements of two trees of the same structure.

    Args:
        condition: a bool array, the same for all leaves.
        tree_x: what to take where it is true.
        tree_y: what to take elsewhere.

    Returns:
        The chosen tree.

    Example:
        >>> optim.tree.where(True, [fnp.ones(1)], [fnp.zeros(1)])
        [Array([1.], dtype=float32)]
    """
    return each(lambda x, y: fnp.where(condition, x, y), tree_x, tree_y)


def tree_max(tree: Any) -> Any:
    """Find the largest element of all arrays of a tree.

    Args:
        tree: a pytree of arrays; empty ones do not count.

    Returns:
        A scalar; -inf if there is none.

    Example:
        >>> optim.tree.max([fnp.array([1.0, 5.0]), fnp.array([2.0])])
        Array(5., dtype=float32)
    """
    return _extreme(tree, fnp.max, fnp.maximum, -float("inf"))


def tree_min(tree: Any) -> Any:
    """Find the smallest element of all arrays of a tree.

    Args:
        tree: a pytree of arrays; empty ones do not count.

    Returns:
        A scalar; inf if there is none.

    Example:
        >>> optim.tree.min([fnp.array([1.0, 5.0]), fnp.array([2.0])])
        Array(1., dtype=float32)
    """
    return _extreme(tree, fnp.min, fnp.minimum, float("inf"))


def _extreme(of: Any, inside: Callable[..., Any], between: Callable[..., Any], none: float) -> Any:
    found = [inside(x) for x in map(fnp.asarray, pytree.leaves(of)) if x.size]
    return functools.reduce(between, found) if found else fnp.asarray(none)


def tree_size(tree: Any) -> int:
    """Count the elements of all arrays of a tree.

    Args:
        tree: a pytree of arrays.

    Returns:
        Their number.

    Example:
        >>> optim.tree.size({"w": fnp.zeros((2, 3)), "b": fnp.zeros(3)})
        9
    """
    return sum(fnp.size(x) for x in pytree.leaves(tree))


def tree_conj(tree: Any) -> Any:
    """Conjugate all arrays of a tree.

    Args:
        tree: a pytree of arrays.

    Returns:
        The tree of conjugates.

    Example:
        >>> optim.tree.conj([fnp.array([1 + 2j])])
        [Array([1.-2.j], dtype=complex64)]
    """
    return each(fnp.conj, tree)


def tree_real(tree: Any) -> Any:
    """Take the real parts of all arrays of a tree.

    Args:
        tree: a pytree of arrays.

    Returns:
        The tree of real parts.

    Example:
        >>> optim.tree.real([fnp.array([1 + 2j])])
        [Array([1.], dtype=float32)]
    """
    return each(fnp.real, tree)


def tree_batch_shape(tree: Any, shape: tuple[int, ...] = ()) -> Any:
    """Repeat all arrays of a tree along new leading axes.

    Args:
        tree: a pytree of arrays.
        shape: sizes of the new axes.

    Returns:
        The tree of arrays of shape ``shape + x.shape``.

    Example:
        >>> optim.tree.batch_shape([fnp.ones(2)], (3,))[0].shape
        (3, 2)
    """
    return each(lambda x: fnp.broadcast_to(x, (*shape, *fnp.shape(x))), tree)


def tree_zeros_like(tree: Any, dtype: Any = None) -> Any:
    """Make zeros of the shapes of a tree.

    Args:
        tree: a pytree of arrays.
        dtype: of the zeros; each array's own by default.

    Returns:
        The tree of zeros.

    Example:
        >>> optim.tree.zeros_like([fnp.ones(2)])
        [Array([0., 0.], dtype=float32)]
    """
    return each(lambda x: fnp.zeros_like(x, dtype=dtype), tree)


def tree_ones_like(tree: Any, dtype: Any = None) -> Any:
    """Make ones of the shapes of a tree.

    Args:
        tree: a pytree of arrays.
        dtype: of the ones; each array's own by default.

    Returns:
        The tree of ones.

    Example:
        >>> optim.tree.ones_like([fnp.zeros(2)])
        [Array([1., 1.], dtype=float32)]
    """
    return each(lambda x: fnp.ones_like(x, dtype=dtype), tree)


def tree_full_like(tree: Any, fill_value: Any, dtype: Any = None) -> Any:
    """Make arrays of the shapes of a tree, full of one value.

    Args:
        tree: a pytree of arrays.
        fill_value: the value.
        dtype: of the results; each array's own by default.

    Returns:
        The tree of full arrays.

    Example:
        >>> optim.tree.full_like([fnp.zeros(2)], 3.0)
        [Array([3., 3.], dtype=float32)]
    """
    return each(lambda x: fnp.full_like(x, fill_value, dtype=dtype), tree)


def tree_clip(tree: Any, min_value: Any = None, max_value: Any = None) -> Any:
    """Clip all elements of a tree.

    Args:
        tree: a pytree of arrays.
        min_value: least value; None for none.
        max_value: largest value; None for none.

    Returns:
        The clipped tree.

    Example:
        >>> optim.tree.clip([fnp.array([-2.0, 2.0])], -1.0, 1.0)
        [Array([-1.,  1.], dtype=float32)]
    """
    return each(lambda x: fnp.clip(x, min_value, max_value), tree)


def tree_allclose(
    a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Tell whether two trees of the same structure are nearly equal.

    Args:
        a: a pytree of arrays.
        b: another.
        rtol: relative tolerance.
        atol: absolute tolerance.
        equal_nan: whether nan equals nan.

    Returns:
        A bool scalar.

    Example:
        >>> bool(optim.tree.allclose([fnp.ones(2)], [fnp.ones(2) + 1e-7]))
        True
    """
    close = each(lambda x, y: fnp.allclose(x, y, rtol, atol, equal_nan), a, b)
    return functools.reduce(operator.and_, pytree.leaves(close), fnp.asarray(True))


def tree_cast(tree: Any, dtype: Any) -> Any:
    """Convert all arrays of a tree.

    Args:
        tree: a pytree of arrays.
        dtype: to which; None leaves them.

    Returns:
        The converted tree.

    Example:
        >>> optim.tree.cast([fnp.ones(1)], fnp.float16)
        [Array([1.], dtype=float16)]
    """
    return tree if dtype is None else each(lambda x: fnp.asarray(x, dtype=dtype), tree)


def tree_cast_like(tree: Any, other_tree: Any) -> Any:
    """Convert all arrays of a tree to the dtypes of another of the same structure.

    Args:
        tree: a pytree of arrays.
        other_tree: whose dtypes to take.

    Returns:
        The converted tree.

    Example:
        >>> optim.tree.cast_like([fnp.ones(1)], [fnp.zeros(3, fnp.float16)])
        [Array([1.], dtype=float16)]
    """
    return each(
        lambda x, o: fnp.asarray(x, dtype=o.dtype) if hasattr(o, "dtype") else x, tree, other_tree
    )


def tree_dtype(tree: Any, mixed_dtype_handler: str | None = None) -> Any:
    """Find the dtype of the arrays of a tree.

    Args:
        tree: a pytree of arrays.
        mixed_dtype_handler: what to do if they differ: None raises, 'promote' takes the dtype that
            they promote to, 'lowest' and 'highest' the least and the greatest of them.

    Returns:
        The dtype; the default float for a tree without arrays.

    Raises:
        ValueError: the dtypes differ, or none of them is the least or the greatest.

    Example:
        >>> optim.tree.dtype([fnp.ones(1, fnp.float16), fnp.ones(1)], "lowest")
        dtype('float16')
    """
    leaves = pytree.leaves_with_path(tree)
    found = [fnp.asarray(x).dtype for _, x in leaves]
    if not found:
        return fnp.asarray(0.0).dtype
    if mixed_dtype_handler is None:
        for (path, _), dtype in zip(leaves, found, strict=True):
            if dtype != found[0]:
                raise ValueError(
                    f"tree_dtype: the leaf at {pytree.keystr(path)} is {dtype}, the first one is "
                    f"{found[0]}; say by mixed_dtype_handler what to do with different dtypes"
                )
        return found[0]
    if mixed_dtype_handler == "promote":
        return functools.reduce(fnp.promote_types, found)
    if mixed_dtype_handler not in ("lowest", "highest"):
        raise ValueError(
            "tree_dtype: mixed_dtype_handler is None, 'promote', 'lowest' or 'highest', not "
            f"{mixed_dtype_handler!r}"
        )
    return functools.reduce(functools.partial(_of_two, mixed_dtype_handler), found)


def _of_two(which: str, a: Any, b: Any) -> Any:
    higher = fnp.promote_types(a, b)
    if higher not in (a, b):
        raise ValueError(f"tree_dtype: neither of {a} and {b} is the {which}")
    lower = b if higher == a else a
    return lower if which == "lowest" else higher


def tree_split_key_like(rng_key: Any, target_tree: Any) -> Any:
    """Split a key into one for every array of a tree.

    Args:
        rng_key: a random key.
        target_tree: the tree.

    Returns:
        A tree of keys of the same structure.

    Example:
        >>> ft.tree.structure(optim.tree.split_key_like(random.key(0), {"a": 1, "b": 2}))
        PyTreeDef({'a': *, 'b': *})
    """
    treedef = pytree.structure(target_tree)
    keys = random.split(rng_key, treedef.num_leaves)
    return pytree.unflatten(treedef, [keys[k] for k in range(treedef.num_leaves)])


def tree_random_like(
    rng_key: Any, target_tree: Any, sampler: Callable[..., Any] = random.normal, dtype: Any = None
) -> Any:
    """Draw random arrays of the shapes of a tree.

    Args:
        rng_key: a random key.
        target_tree: the tree.
        sampler: function of (key, shape, dtype).
        dtype: of the draws; each array's own by default.

    Returns:
        The tree of draws.

    Example:
        >>> optim.tree.random_like(random.key(0), {"w": fnp.zeros((2, 3))})["w"].shape
        (2, 3)
    """
    keys = tree_split_key_like(rng_key, target_tree)
    return pytree.map(lambda x, key: sampler(key, x.shape, dtype or x.dtype), target_tree, keys)


def tree_unwrap_random_key_data(input_tree: Any) -> Any:
    """Replace random keys in a tree by the integers they are made of.

    Args:
        input_tree: a pytree.

    Returns:
        The tree without keys.

    Example:
        >>> optim.tree.unwrap_random_key_data({"key": random.key(3)})
        {'key': Array([0, 3], dtype=uint32)}
    """

    def unwrap(x: Any) -> Any:
        dtype = getattr(x, "dtype", None)
        is_key = dtype is not None and dtypes.issubdtype(dtype, dtypes.prng_key)
        return random.key_data(x) if is_key else x

    return pytree.map(unwrap, input_tree)
