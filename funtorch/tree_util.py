"""The functions of `funtorch.tree` under the names of `jax.tree_util`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from funtorch.tree import (
    DictKey,
    FlattenedIndexKey,
    GetAttrKey,
    KeyPath,
    Partial,
    PyTreeDef,
    SequenceKey,
    all_leaves,
    keystr,
    register_dataclass,
    register_pytree_node,
    register_pytree_node_class,
    register_pytree_with_keys,
    register_pytree_with_keys_class,
    register_static,
    treedef_children,
    treedef_is_leaf,
    treedef_tuple,
)
from funtorch.tree import all as tree_all
from funtorch.tree import broadcast as tree_broadcast
from funtorch.tree import flatten as tree_flatten
from funtorch.tree import flatten_with_path as tree_flatten_with_path
from funtorch.tree import leaves as tree_leaves
from funtorch.tree import leaves_with_path as tree_leaves_with_path
from funtorch.tree import map as tree_map
from funtorch.tree import map_with_path as tree_map_with_path
from funtorch.tree import reduce as tree_reduce
from funtorch.tree import reduce_associative as tree_reduce_associative
from funtorch.tree import structure as tree_structure
from funtorch.tree import transpose as tree_transpose
from funtorch.tree import unflatten as tree_unflatten
from funtorch.treedef import node_of

KeyEntry = Any

__all__ = [
    "DictKey",
    "FlattenedIndexKey",
    "GetAttrKey",
    "KeyEntry",
    "KeyPath",
    "Partial",
    "PyTreeDef",
    "SequenceKey",
    "all_leaves",
    "build_tree",
    "flatten_one_level",
    "flatten_one_level_with_keys",
    "is_tree_node",
    "keystr",
    "register_dataclass",
    "register_pytree_node",
    "register_pytree_node_class",
    "register_pytree_with_keys",
    "register_pytree_with_keys_class",
    "register_static",
    "tree_all",
    "tree_broadcast",
    "tree_flatten",
    "tree_flatten_with_path",
    "tree_leaves",
    "tree_leaves_with_path",
    "tree_map",
    "tree_map_with_path",
    "tree_reduce",
    "tree_reduce_associative",
    "tree_structure",
    "tree_transpose",
    "tree_unflatten",
    "treedef_children",
    "treedef_is_leaf",
    "treedef_tuple",
]


def flatten_one_level(tree: Any) -> tuple[Iterable[Any], Any]:
    """Take the root of a tree apart.

    Args:
        tree: a tree that is no leaf.

    Returns:
        ``(children, metadata)``.

    Raises:
        ValueError: the tree is a leaf.

    Example:
        >>> flatten_one_level({"a": (1, 2)})
        ([(1, 2)], ('a',))
    """
    node = node_of[type(tree)]
    if node is None:
        raise ValueError(f"can't tree-flatten type: {type(tree)} is that of a leaf")
    children, meta = node.flatten(tree)
    return (children if isinstance(children, list) else tuple(children)), meta


def flatten_one_level_with_keys(tree: Any) -> tuple[Iterable[tuple[Any, Any]], Any]:
    """Take the root of a tree apart; children come with their keys.

    Example:
        >>> flatten_one_level_with_keys([5])
        ([(SequenceKey(idx=0), 5)], None)
    """
    children, meta = flatten_one_level(tree)
    children = tuple(children)
    keys = node_of[type(tree)].keys(tree, meta, len(children))
    return list(zip(keys, children, strict=True)), meta


def is_tree_node(tree: Any) -> bool:
    """Tell whether the root of a tree is a node, not a leaf.

    Example:
        >>> is_tree_node((1, 2)), is_tree_node(1)
        (True, False)
    """
    return node_of[type(tree)] is not None


def build_tree(treedef: PyTreeDef, xs: Any) -> Any:
    """Build a tree from a structure and a tree of which it is a prefix.

    Args:
        treedef: the structure.
        xs: a tree with this structure at its top; what is below becomes the leaves.

    Returns:
        The tree.

    Example:
        >>> build_tree(tree_structure((0, 0)), ([1, 2], 3))
        ([1, 2], 3)
    """
    return treedef.unflatten(treedef.flatten_up_to(xs))
