"""Pytrees: nested containers of arrays, and functions on all their leaves at once.

Nodes are dict (in the order of its sorted keys), list, tuple, None, named tuples, OrderedDict,
defaultdict, and the classes you register. Everything else is a leaf. Names and results are those
of `jax.tree`.

Example:
    >>> from funtorch import tree
    >>> params = {"w": [1.0, 2.0], "b": 3.0}
    >>> tree.map(lambda x: 2 * x, params)
    {'b': 6.0, 'w': [2.0, 4.0]}
"""

from __future__ import annotations

import dataclasses
import functools
from builtins import all as every
from builtins import map as each
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

from funtorch.partial import Partial
from funtorch.treedef import (
    DictKey,
    FlattenedIndexKey,
    GetAttrKey,
    KeyPath,
    PyTreeDef,
    SequenceKey,
    first_mismatch,
    flat_index_keys,
    is_opaque,
    keystr,
    make_treedef,
    mismatch_message,
    node_of,
    register_node,
    shorten,
    split,
    spread,
    walk,
    walk_paths,
    walk_until,
)

__all__ = [
    "DictKey",
    "FlattenedIndexKey",
    "GetAttrKey",
    "KeyPath",
    "Partial",
    "PyTreeDef",
    "SequenceKey",
    "all",
    "all_leaves",
    "broadcast",
    "broadcast_prefix",
    "flatten",
    "flatten_with_path",
    "keystr",
    "leaves",
    "leaves_with_path",
    "map",
    "map_with_path",
    "reduce",
    "reduce_associative",
    "register_dataclass",
    "register_pytree_node",
    "register_pytree_node_class",
    "register_pytree_with_keys",
    "register_pytree_with_keys_class",
    "register_static",
    "static",
    "structure",
    "transpose",
    "treedef_children",
    "treedef_is_leaf",
    "treedef_tuple",
    "unflatten",
]

IsLeaf = Callable[[Any], bool] | None
_Class = TypeVar("_Class", bound=type)
_MISSING = object()


# --- taking apart and putting together -----------------------------------------------------


def flatten(tree: Any, is_leaf: IsLeaf = None) -> tuple[list[Any], PyTreeDef]:
    """Take a tree apart into its leaves and its structure.

    Args:
        tree: any pytree.
        is_leaf: a predicate on subtrees; those it accepts are leaves as a whole.

    Returns:
        The list of leaves, and the structure.

    Raises:
        ValueError: the keys of a dict cannot be sorted.

    Example:
        >>> flatten({"b": (1, 2), "a": None, "c": 3})
        ([1, 2, 3], PyTreeDef({'a': None, 'b': (*, *), 'c': *}))
    """
    found: list[Any] = []
    if is_leaf is None:
        treedef = walk(tree, found)
        if not treedef._opaque:
            return found, treedef
        found.clear()
    return found, walk_until(tree, _leaf_test(is_leaf), found)


def _leaf_test(is_leaf: IsLeaf) -> Callable[[Any], bool]:
    return is_opaque if is_leaf is None else lambda x: is_opaque(x) or is_leaf(x)


def unflatten(treedef: PyTreeDef, leaves: Iterable[Any]) -> Any:
    """Put a tree together from its structure and its leaves.

    Args:
        treedef: the structure.
        leaves: the leaves, in the order in which `flatten` gives them.

    Returns:
        The tree.

    Raises:
        TypeError: treedef is no PyTreeDef.
        ValueError: too few or too many leaves.

    Example:
        >>> unflatten(structure([0, (0,)]), "xy")
        ['x', ('y',)]
    """
    _check_treedef("unflatten", "treedef", treedef)
    return treedef.unflatten(leaves)


def _check_treedef(function: str, argument: str, value: Any) -> None:
    if type(value) is not PyTreeDef:
        raise TypeError(
            f"tree.{function}: {argument} must be a PyTreeDef, as tree.structure gives it; got "
            f"{type(value).__name__}"
        )


def leaves(tree: Any, is_leaf: IsLeaf = None) -> list[Any]:
    """List the leaves of a tree.

    Example:
        >>> leaves({"a": [1, 2], "b": None})
        [1, 2]
    """
    return flatten(tree, is_leaf)[0]


def structure(tree: Any, is_leaf: IsLeaf = None) -> PyTreeDef:
    """Return the structure of a tree.

    Example:
        >>> structure({"a": [1, 2], "b": None})
        PyTreeDef({'a': [*, *], 'b': None})
    """
    return flatten(tree, is_leaf)[1]


def all_leaves(iterable: Iterable[Any], is_leaf: IsLeaf = None) -> bool:
    """Tell whether every element of an iterable is a leaf.

    Example:
        >>> all_leaves([1, "text"]), all_leaves([1, (2,)])
        (True, False)
    """
    test = _leaf_test(is_leaf)
    return every(node_of[type(x)] is None or test(x) for x in iterable)


# --- functions on leaves -------------------------------------------------------------------


def map(f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf = None) -> Any:
    """Apply a function to every leaf of a tree.

    Args:
        f: a function of one leaf, and of the subtrees at its place in each tree of `rest`.
        tree: the tree that gives the structure.
        *rest: more trees, of which the structure of `tree` is a prefix.
        is_leaf: a predicate on subtrees; those it accepts are leaves as a whole.

    Returns:
        A tree of the structure of `tree`.

    Raises:
        ValueError: a tree of `rest` does not have the structure.

    Example:
        >>> map(lambda x, y: x + y, {"a": 1, "b": (2, 3)}, {"a": 10, "b": (20, 30)})
        {'a': 11, 'b': (22, 33)}
    """
    first, treedef = flatten(tree, is_leaf)
    if not rest:
        return treedef.unflatten([f(leaf) for leaf in first])
    columns = [first, *_aligned(treedef, rest, "map")]
    return treedef.unflatten(each(f, *columns))


def _aligned(treedef: PyTreeDef, rest: Sequence[Any], function: str) -> list[list[Any]]:
    """Split each tree of `rest` into the subtrees at the leaves of the structure."""
    columns = []
    for i, other in enumerate(rest):
        try:
            found, other_def = flatten(other)
        except ValueError:  # a dict below one of the structure's leaves need not have an order
            found, other_def = [], None
        if other_def is not treedef:
            found = split(treedef, other, f"tree.{function}: tree {i + 2} of {len(rest) + 1}")
        columns.append(found)
    return columns


def reduce(
    function: Callable[[Any, Any], Any],
    tree: Any,
    initializer: Any = _MISSING,
    is_leaf: IsLeaf = None,
) -> Any:
    """Fold the leaves of a tree from the left, as `functools.reduce` does.

    Args:
        function: a function of the value so far and a leaf.
        tree: any pytree.
        initializer: the first value; without it, the first leaf.
        is_leaf: a predicate on subtrees; those it accepts are leaves as a whole.

    Returns:
        The last value.

    Raises:
        TypeError: there are no leaves and no initializer.

    Example:
        >>> reduce(lambda total, x: total + x, {"a": 1, "b": [2, 3]})
        6
    """
    found = leaves(tree, is_leaf)
    if initializer is not _MISSING:
        return functools.reduce(function, found, initializer)
    if not found:
        raise TypeError("tree.reduce: the tree has no leaves; pass an initializer")
    return functools.reduce(function, found)


def reduce_associative(
    operation: Callable[[Any, Any], Any],
    tree: Any,
    *,
    identity: Any = _MISSING,
    is_leaf: IsLeaf = None,
) -> Any:
    """Combine the leaves of a tree pairwise, in a balanced binary tree.

    Args:
        operation: an associative function of two values.
        tree: any pytree.
        identity: the result for a tree without leaves.
        is_leaf: a predicate on subtrees; those it accepts are leaves as a whole.

    Returns:
        The combined value.

    Raises:
        TypeError: there are no leaves and no identity.

    Example:
        >>> reduce_associative(lambda a, b: f"({a}{b})", ["a", "b", "c", "d"])
        '((ab)(cd))'
    """
    row = leaves(tree, is_leaf)
    if not row:
        if identity is _MISSING:
            raise TypeError("tree.reduce_associative: the tree has no leaves; pass an identity")
        return identity
    while len(row) > 1:
        pairs = [operation(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        row = pairs + row[2 * len(pairs) :]
    return row[0]


def all(tree: Any, *, is_leaf: IsLeaf = None) -> bool:
    """Tell whether every leaf is true.

    Example:
        >>> all({"a": True, "b": [1, 0]})
        False
    """
    return every(leaves(tree, is_leaf))


# --- key paths -----------------------------------------------------------------------------


def flatten_with_path(
    tree: Any, is_leaf: Callable[..., bool] | None = None, is_leaf_takes_path: bool = False
) -> tuple[list[tuple[KeyPath, Any]], PyTreeDef]:
    """Take a tree apart into pairs of key path and leaf, and its structure.

    Args:
        tree: any pytree.
        is_leaf: a predicate on subtrees; those it accepts are leaves as a whole.
        is_leaf_takes_path: call `is_leaf(path, subtree)` and not `is_leaf(subtree)`.

    Returns:
        The list of (key path, leaf), and the structure.

    Example:
        >>> pairs, treedef = flatten_with_path({"a": [1, 2]})
        >>> [(keystr(path), leaf) for path, leaf in pairs]
        [("['a'][0]", 1), ("['a'][1]", 2)]
    """

    def test(path: KeyPath, subtree: Any) -> bool:
        if is_leaf is None or is_opaque(subtree):
            return is_opaque(subtree)
        return is_leaf(path, subtree) if is_leaf_takes_path else is_leaf(subtree)

    found: list[tuple[KeyPath, Any]] = []
    return found, walk_paths(tree, test, (), found)


def leaves_with_path(
    tree: Any, is_leaf: Callable[..., bool] | None = None, is_leaf_takes_path: bool = False
) -> list[tuple[KeyPath, Any]]:
    """List the leaves of a tree, each with its key path; see `flatten_with_path`."""
    return flatten_with_path(tree, is_leaf, is_leaf_takes_path)[0]


def map_with_path(
    f: Callable[..., Any],
    tree: Any,
    *rest: Any,
    is_leaf: Callable[..., bool] | None = None,
    is_leaf_takes_path: bool = False,
) -> Any:
    """Apply a function to the key path and the value of every leaf.

    Args:
        f: a function of a key path, a leaf, and the subtrees at its place in `rest`.
        tree: the tree that gives the structure.
        *rest: more trees, of which the structure of `tree` is a prefix.
        is_leaf: a predicate on subtrees; those it accepts are leaves as a whole.
        is_leaf_takes_path: call `is_leaf(path, subtree)` and not `is_leaf(subtree)`.

    Returns:
        A tree of the structure of `tree`.

    Raises:
        ValueError: a tree of `rest` does not have the structure.

    Example:
        >>> map_with_path(lambda path, x: f"{keystr(path)}={x}", {"a": [1, 2]})
        {'a': ["['a'][0]=1", "['a'][1]=2"]}
    """
    pairs, treedef = flatten_with_path(tree, is_leaf, is_leaf_takes_path)
    columns = [*zip(*pairs, strict=True)] if pairs else [(), ()]
    return treedef.unflatten(each(f, *columns, *_aligned(treedef, rest, "map_with_path")))


# --- prefixes and transposition ------------------------------------------------------------


def broadcast_prefix(
    prefix_tree: Any, full_tree: Any, what: str = "prefix_tree", is_leaf: IsLeaf = None
) -> list[Any]:
    """Repeat each leaf of a prefix for every leaf below its place in a full tree.

    Args:
        prefix_tree: a tree whose structure is a prefix of that of `full_tree`.
        full_tree: the full tree, or its PyTreeDef.
        what: the name of the prefix in an error, such as `in_axes`.
        is_leaf: a predicate on subtrees of the prefix. None is a node without leaves; pass
            `lambda x: x is None` where it is a value.

    Returns:
        A list with one entry for each leaf of `full_tree`.

    Raises:
        ValueError: the structures do not fit; the message names the key path.

    Example:
        >>> broadcast_prefix((0, 1), ({"a": "x", "b": "y"}, "z"))
        [0, 0, 1]
    """
    full = full_tree if type(full_tree) is PyTreeDef else structure(full_tree)
    repeated: list[Any] = []
    if spread(prefix_tree, full, is_leaf, repeated):
        return repeated
    prefix = structure(prefix_tree, is_leaf)
    found = first_mismatch(prefix, full, prefix_tree)
    # Told from the side of the prefix: it is the one that has to change.
    turned = None if found is None else (found[0], found[2], found[1])
    raise ValueError(
        f"{what} does not fit the tree it is for: {mismatch_message(turned)}. {what} must be a "
        f"prefix of the tree: a leaf, or the same containers down to some depth\n"
        f"  {what}: {shorten(prefix)}\n"
        f"  tree: {shorten(full)}"
    )


def broadcast(prefix_tree: Any, full_tree: Any, is_leaf: IsLeaf = None) -> Any:
    """Repeat each leaf of a prefix so that it fills the structure of a full tree.

    Args:
        prefix_tree: a tree whose structure is a prefix of that of `full_tree`.
        full_tree: the tree that gives the structure.
        is_leaf: a predicate on subtrees of the prefix; those it accepts are leaves.

    Returns:
        A tree of the structure of `full_tree` with the leaves of the prefix.

    Raises:
        ValueError: the structures do not fit; the message names the key path.

    Example:
        >>> broadcast({"a": 1, "b": 2}, {"a": (0, 0), "b": 0})
        {'a': (1, 1), 'b': 2}
    """
    full = structure(full_tree)
    return full.unflatten(broadcast_prefix(prefix_tree, full, is_leaf=is_leaf))


def transpose(
    outer_treedef: PyTreeDef, inner_treedef: PyTreeDef | None, pytree_to_transpose: Any
) -> Any:
    """Turn a tree of trees inside out, as a list of dicts becomes a dict of lists.

    Args:
        outer_treedef: the structure of the outer tree.
        inner_treedef: the structure of each inner tree; None reads it off the first one.
        pytree_to_transpose: a tree of structure `outer_treedef.compose(inner_treedef)`.

    Returns:
        A tree of structure `inner_treedef.compose(outer_treedef)`.

    Raises:
        TypeError: a structure has no leaves, or the tree has another number of them.

    Example:
        >>> rows = [{"x": 1, "y": 2}, {"x": 3, "y": 4}]
        >>> transpose(structure([0, 0]), structure({"x": 0, "y": 0}), rows)
        {'x': [1, 3], 'y': [2, 4]}
    """
    _check_treedef("transpose", "outer_treedef", outer_treedef)
    if inner_treedef is None and outer_treedef.num_leaves:
        inner_treedef = structure(outer_treedef.flatten_up_to(pytree_to_transpose)[0])
    elif inner_treedef is not None:
        _check_treedef("transpose", "inner_treedef", inner_treedef)
    if inner_treedef is None or not outer_treedef.num_leaves or not inner_treedef.num_leaves:
        raise TypeError("tree.transpose: the outer and the inner structure must have leaves")
    found, treedef = flatten(pytree_to_transpose)
    expected = outer_treedef.compose(inner_treedef)
    if treedef.num_leaves != expected.num_leaves:  # metadata of custom nodes may hold structures
        raise TypeError(
            "tree.transpose: pytree_to_transpose does not have the structure of outer_treedef "
            f"with inner_treedef at its leaves\n  expected: {shorten(expected)}\n"
            f"  got:      {shorten(treedef)}"
        )
    size = inner_treedef.num_leaves
    columns = [outer_treedef.unflatten(found[i::size]) for i in range(size)]
    return inner_treedef.unflatten(columns)


# --- structures of structures --------------------------------------------------------------


def treedef_is_leaf(treedef: PyTreeDef) -> bool:
    """Tell whether a structure is one node: a leaf, or (as in JAX) an empty container."""
    return treedef.num_nodes == 1


def treedef_tuple(treedefs: Iterable[PyTreeDef]) -> PyTreeDef:
    """Return the structure of a tuple of trees with these structures.

    Example:
        >>> treedef_tuple([structure(0), structure([0])])
        PyTreeDef((*, [*]))
    """
    return make_treedef(node_of[tuple], None, tuple(treedefs))


def treedef_children(treedef: PyTreeDef) -> list[PyTreeDef]:
    """List the structures of the root's children."""
    return treedef.children()


# --- registering classes -------------------------------------------------------------------


def register_pytree_node(
    nodetype: type,
    flatten_func: Callable[[Any], tuple[Iterable[Any], Hashable]],
    unflatten_func: Callable[[Any, Any], Any],
    flatten_with_keys_func: Callable[[Any], tuple[Iterable[tuple[Any, Any]], Any]] | None = None,
) -> None:
    """Make a class a pytree node.

    Args:
        nodetype: the class; its subclasses have to be registered themselves.
        flatten_func: instance -> (children, metadata); the metadata is part of the structure
            and must be comparable.
        unflatten_func: (metadata, tuple of children) -> instance. Children may be anything, so
            it must not inspect them.
        flatten_with_keys_func: instance -> (pairs of key and child, metadata); gives the
            children names in key paths.

    Raises:
        ValueError: the class is registered already.
    """
    keys = flat_index_keys if flatten_with_keys_func is None else _keys_from(flatten_with_keys_func)
    register_node(nodetype, flatten_func, unflatten_func, keys)


def _keys_from(flatten_with_keys: Callable[[Any], Any]) -> Callable[[Any, Any, int], list[Any]]:
    def keys(tree: Any, meta: Any, count: int) -> list[Any]:
        return [key for key, _ in flatten_with_keys(tree)[0]]

    return keys


def register_pytree_with_keys(
    nodetype: type,
    flatten_with_keys: Callable[[Any], tuple[Iterable[tuple[Any, Any]], Hashable]],
    unflatten_func: Callable[[Any, Any], Any],
    flatten_func: Callable[[Any], tuple[Iterable[Any], Hashable]] | None = None,
) -> None:
    """Make a class a pytree node whose children have names in key paths.

    Args:
        nodetype: the class.
        flatten_with_keys: instance -> (pairs of key and child, metadata).
        unflatten_func: (metadata, tuple of children) -> instance.
        flatten_func: instance -> (children, metadata), where that is quicker.

    Raises:
        ValueError: the class is registered already.
    """

    def flatten_plain(x: Any) -> tuple[list[Any], Any]:
        pairs, meta = flatten_with_keys(x)
        return [child for _, child in pairs], meta

    register_node(
        nodetype, flatten_func or flatten_plain, unflatten_func, _keys_from(flatten_with_keys)
    )


def register_pytree_node_class(cls: _Class) -> _Class:
    """Make a class with methods `tree_flatten` and `tree_unflatten` a pytree node (decorator).

    Example:
        >>> @register_pytree_node_class
        ... class Pair:
        ...     def __init__(self, a, b):
        ...         self.a, self.b = a, b
        ...
        ...     def tree_flatten(self):
        ...         return (self.a, self.b), None
        ...
        ...     @classmethod
        ...     def tree_unflatten(cls, meta, children):
        ...         return cls(*children)
        >>> leaves(map(lambda x: x + 1, Pair(1, 2)))
        [2, 3]
    """
    methods: Any = cls
    register_pytree_node(cls, methods.tree_flatten, methods.tree_unflatten)
    return cls


def register_pytree_with_keys_class(cls: _Class) -> _Class:
    """Make a class with `tree_flatten_with_keys` and `tree_unflatten` a node (decorator)."""
    methods: Any = cls
    plain = getattr(cls, "tree_flatten", None)
    register_pytree_with_keys(cls, methods.tree_flatten_with_keys, methods.tree_unflatten, plain)
    return cls


def register_dataclass(
    nodetype: _Class,
    data_fields: Sequence[str] | None = None,
    meta_fields: Sequence[str] | None = None,
    drop_fields: Sequence[str] = (),
) -> _Class:
    """Make a dataclass a pytree node.

    Without field names, a field is data unless its metadata says `static=True`, as in
    `dataclasses.field(metadata={'static': True})`.

    Args:
        nodetype: the class.
        data_fields: names of the fields that are children.
        meta_fields: names of the fields that belong to the structure; hashable.
        drop_fields: names of fields that take their default when the tree is rebuilt.

    Returns:
        The class, so that this works as a decorator.

    Raises:
        TypeError: names are missing and the class is no dataclass, or only one list was given.
        ValueError: the names are not the fields of the dataclass.

    Example:
        >>> @register_dataclass
        ... @dataclasses.dataclass
        ... class Scale:
        ...     factor: float
        ...     name: str = dataclasses.field(default="s", metadata={"static": True})
        >>> map(lambda x: 2 * x, Scale(1.5))
        Scale(factor=3.0, name='s')
    """
    fields = _init_fields(nodetype)
    if (data_fields is None) != (meta_fields is None):
        raise TypeError("register_dataclass: give both data_fields and meta_fields, or neither")
    if data_fields is None or meta_fields is None:
        if fields is None:
            raise TypeError(
                f"register_dataclass: {nodetype.__name__} is no dataclass, so data_fields and "
                "meta_fields must be given"
            )
        static = {name for name, field in fields.items() if field.metadata.get("static", False)}
        meta_fields = [name for name in fields if name in static]
        data_fields = [name for name in fields if name not in static and name not in drop_fields]
    elif fields is not None:
        _check_fields(nodetype, fields, {*data_fields, *meta_fields, *drop_fields})
    _register_fields(nodetype, tuple(data_fields), tuple(meta_fields))
    return nodetype


def static(**kwargs: Any) -> Any:
    """Declare a field of a dataclass that belongs to the structure of its pytree.

    Args:
        **kwargs: as of `dataclasses.field`.

    Example:
        >>> @register_dataclass
        ... @dataclasses.dataclass
        ... class Shift:
        ...     by: float
        ...     name: str = static(default="s")
        >>> leaves(Shift(1.5))
        [1.5]
    """
    metadata = {**(kwargs.pop("metadata", None) or {}), "static": True}
    return dataclasses.field(metadata=metadata, **kwargs)


def _init_fields(nodetype: type) -> dict[str, dataclasses.Field[Any]] | None:
    if not dataclasses.is_dataclass(nodetype):
        return None
    return {field.name: field for field in dataclasses.fields(nodetype) if field.init}


def _check_fields(nodetype: type, fields: Iterable[str], given: set[str]) -> None:
    missing, unknown = sorted(set(fields) - given), sorted(given - set(fields))
    if missing or unknown:
        raise ValueError(
            f"register_dataclass: data_fields and meta_fields of {nodetype.__name__} must "
            f"together be its init fields {list(fields)}; missing: {missing}, unknown: {unknown}"
        )


def _register_fields(nodetype: type, data: tuple[str, ...], meta: tuple[str, ...]) -> None:
    names = data + meta

    def flatten_fields(x: Any) -> tuple[list[Any], tuple[Any, ...]]:
        return [getattr(x, name) for name in data], tuple([getattr(x, name) for name in meta])

    def unflatten_fields(values: tuple[Any, ...], children: tuple[Any, ...]) -> Any:
        return nodetype(**dict(zip(names, (*children, *values), strict=True)))

    keys = [GetAttrKey(name) for name in data]
    register_node(nodetype, flatten_fields, unflatten_fields, lambda x, values, count: keys)


def register_static(cls: _Class) -> _Class:
    """Make a class a pytree node without leaves, all of it structure (decorator).

    Its instances must be hashable and comparable; under `jit` a new value traces again.

    Example:
        >>> @register_static
        ... class Mode(str):
        ...     pass
        >>> leaves((Mode("train"), 1))
        [1]
    """
    register_node(cls, lambda x: ((), x), lambda x, children: x)
    return cls
