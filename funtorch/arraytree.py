"""Pytrees as transforms see them, down to the arrays.

To users an array of random keys is a leaf; to a transform it is a node with one leaf, the words of
the keys. Functions here mean what their namesakes in `funtorch.tree` mean, but open such leaves.
"""

from __future__ import annotations

from builtins import map as each
from collections.abc import Callable
from typing import Any

from funtorch import tree as trees
from funtorch.tree import KeyPath, PyTreeDef, keystr, unflatten
from funtorch.treedef import walk, walk_paths, walk_until

__all__ = [
    "broadcast_prefix",
    "flatten",
    "keystr",
    "leaves",
    "leaves_with_path",
    "map",
    "structure",
    "unflatten",
]


def flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], PyTreeDef]:
    """Take a tree apart into its arrays and its structure.

    Example:
        >>> from funtorch import random
        >>> len(flatten({"key": random.key(0), "x": 1.0})[0])
        2
    """
    found: list[Any] = []
    if is_leaf is None:
        return found, walk(tree, found)
    return found, walk_until(tree, is_leaf, found)


def leaves(tree: Any) -> list[Any]:
    """List the arrays of a tree."""
    return flatten(tree)[0]


def structure(tree: Any) -> PyTreeDef:
    """Return the structure of a tree above its arrays."""
    return flatten(tree)[1]


def leaves_with_path(tree: Any) -> list[tuple[KeyPath, Any]]:
    """List the arrays of a tree, each with its key path."""
    found: list[tuple[KeyPath, Any]] = []
    walk_paths(tree, None, (), found)
    return found


def map(f: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply a function to every array of a tree and to its counterparts in trees like it."""
    first, treedef = flatten(tree)
    return treedef.unflatten(each(f, first, *[leaves(other) for other in rest]))


def broadcast_prefix(
    prefix_tree: Any, full_tree: Any, what: str, is_leaf: Callable[[Any], bool] | None = None
) -> list[Any]:
    """Repeat each leaf of a prefix for every array below its place in a full tree."""
    full = full_tree if type(full_tree) is PyTreeDef else structure(full_tree)
    return trees.broadcast_prefix(prefix_tree, full, what, is_leaf)
