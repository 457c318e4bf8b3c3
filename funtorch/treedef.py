"""Node types and tree definitions: the inside of `funtorch.tree`.

A *pytree* is a leaf, or a node whose children are pytrees. Which Python types are nodes says one
table, `node_of`; everything else is a leaf. Flattening walks a tree once and gives its leaves and
a `PyTreeDef`, the tree without its leaves.

Jitted functions flatten their arguments at every call, so the common nodes (tuple, list, dict
with names) have short paths, and equal structures made of them are one shared object: comparing
two of those is `is`, and their hash is computed once.
"""

from __future__ import annotations

import operator
from builtins import map as each
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

__all__ = [
    "DictKey",
    "FlattenedIndexKey",
    "GetAttrKey",
    "KeyPath",
    "LEAF",
    "NodeType",
    "PyTreeDef",
    "SequenceKey",
    "first_mismatch",
    "flat_index_keys",
    "is_opaque",
    "keystr",
    "make_treedef",
    "mismatch_message",
    "node_of",
    "register_node",
    "shorten",
    "split",
    "spread",
    "walk",
    "walk_paths",
    "walk_until",
]

_LIMIT = 4096  # entries per cache of structures; a full one starts afresh


# --- key paths -----------------------------------------------------------------------------


@dataclass(frozen=True)
class SequenceKey:
    """A step of a key path into a tuple or list."""

    idx: int

    def __str__(self) -> str:
        return f"[{self.idx!r}]"


@dataclass(frozen=True)
class DictKey:
    """A step of a key path into a dict."""

    key: Hashable

    def __str__(self) -> str:
        return f"[{self.key!r}]"


@dataclass(frozen=True)
class GetAttrKey:
    """A step of a key path into an attribute."""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"


@dataclass(frozen=True)
class FlattenedIndexKey:
    """A step of a key path into a node that names its children by position only."""

    key: int

    def __str__(self) -> str:
        return f"[<flat index {self.key}>]"


KeyPath = tuple[Any, ...]
_SIMPLE = {SequenceKey: "idx", DictKey: "key", GetAttrKey: "name", FlattenedIndexKey: "key"}


def keystr(keys: KeyPath, *, simple: bool = False, separator: str = "") -> str:
    """Write a key path as text.

    Args:
        keys: the path.
        simple: write the bare keys, not the Python expression.
        separator: text between two steps.

    Returns:
        The text; empty for the root.

    Example:
        >>> keystr((DictKey("layers"), SequenceKey(0), GetAttrKey("w")))
        "['layers'][0].w"
        >>> keystr((DictKey("layers"), SequenceKey(0)), simple=True, separator="/")
        'layers/0'
    """
    if not simple:
        return separator.join(str(key) for key in keys)
    return separator.join(
        str(getattr(key, _SIMPLE[type(key)])) if type(key) in _SIMPLE else str(key) for key in keys
    )


# --- node types ----------------------------------------------------------------------------


class NodeType:
    """How one Python type is taken apart and put together again.

    Args:
        cls: the type.
        flatten: tree -> (children, metadata).
        unflatten: (metadata, tuple of children) -> tree.
        keys: (tree, metadata, number of children) -> one key per child.
        show: (metadata, texts of the children) -> text.
        shares: whether equal metadata means the same metadata (1 == True is the exception that
            matters), so that equal structures may be one object.
        opaque: whether it is a leaf to users, though transforms see the arrays in it.
    """

    __slots__ = ("cls", "flatten", "keys", "opaque", "shares", "show", "unflatten")

    def __init__(
        self,
        cls: type,
        flatten: Callable[[Any], tuple[Iterable[Any], Any]],
        unflatten: Callable[[Any, tuple[Any, ...]], Any],
        keys: Callable[[Any, Any, int], Sequence[Any]],
        show: Callable[[Any, list[str]], str],
        shares: bool = False,
        opaque: bool = False,
    ) -> None:
        self.cls = cls
        self.flatten = flatten
        self.unflatten = unflatten
        self.keys = keys
        self.show = show
        self.shares = shares
        self.opaque = opaque

    def __reduce__(self) -> Any:
        return _node_by_type, (self.cls,)


def _node_by_type(cls: type) -> NodeType | None:
    return _NAMEDTUPLE if cls is _NAMEDTUPLE.cls else node_of[cls]


def sorted_keys(tree: dict[Any, Any]) -> tuple[Any, ...]:
    """Sort the keys of a dict, with an error that says what is wrong with them."""
    try:
        return tuple(sorted(tree))
    except TypeError:
        types = ", ".join(sorted({type(key).__name__ for key in tree}))
        raise ValueError(
            "a dict in a pytree is flattened in the order of its sorted keys, but the keys "
            f"{list(tree)!r} (of types {types}) cannot be compared; use keys of one type, or a "
            "collections.OrderedDict, which keeps its own order"
        ) from None


def _index_keys(tree: Any, meta: Any, count: int) -> list[Any]:
    return [SequenceKey(i) for i in range(count)]


def _dict_keys(tree: Any, meta: Any, count: int) -> list[Any]:
    return [DictKey(key) for key in meta]


def flat_index_keys(tree: Any, meta: Any, count: int) -> list[Any]:
    """Name the children of a node by their position, for want of better names."""
    return [FlattenedIndexKey(i) for i in range(count)]


def _show_tuple(meta: Any, texts: list[str]) -> str:
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def _show_list(meta: Any, texts: list[str]) -> str:
    return f"[{', '.join(texts)}]"


def _show_dict(meta: Any, texts: list[str]) -> str:
    items = zip(meta, texts, strict=True)
    return f"{{{', '.join(f'{key!r}: {text}' for key, text in items)}}}"


def _show_custom(name: str) -> Callable[[Any, list[str]], str]:
    def show(meta: Any, texts: list[str]) -> str:
        return f"CustomNode({name}[{meta}], [{', '.join(texts)}])"

    return show


def _flatten_dict(tree: dict[Any, Any]) -> tuple[list[Any], tuple[Any, ...]]:
    keys = sorted_keys(tree)
    return [tree[key] for key in keys], keys


def _flatten_defaultdict(tree: defaultdict[Any, Any]) -> tuple[list[Any], Any]:
    keys = sorted_keys(tree)
    return [tree[key] for key in keys], (tree.default_factory, keys)


_TUPLE = NodeType(
    tuple, lambda x: (x, None), lambda meta, xs: xs, _index_keys, _show_tuple, shares=True
)
_LIST = NodeType(
    list, lambda x: (x, None), lambda meta, xs: list(xs), _index_keys, _show_list, shares=True
)
_DICT = NodeType(
    dict, _flatten_dict, lambda keys, xs: dict(zip(keys, xs, strict=True)), _dict_keys, _show_dict
)
_NONE = NodeType(
    type(None),
    lambda x: ((), None),
    lambda meta, xs: None,
    _index_keys,
    lambda meta, texts: "None",
    shares=True,
)
_ORDERED_DICT = NodeType(
    OrderedDict,
    lambda x: (list(x.values()), tuple(x)),
    lambda keys, xs: OrderedDict(zip(keys, xs, strict=True)),
    _dict_keys,
    _show_custom("OrderedDict"),
)
_DEFAULTDICT = NodeType(
    defaultdict,
    _flatten_defaultdict,
    lambda meta, xs: defaultdict(meta[0], zip(meta[1], xs, strict=True)),
    lambda x, meta, count: _dict_keys(x, meta[1], count),
    _show_custom("defaultdict"),
)


class _NamedTuple:
    """Stands for all named tuples: their class is the metadata."""


_NAMEDTUPLE = NodeType(
    _NamedTuple,
    lambda x: (x, type(x)),
    lambda cls, xs: cls._make(xs),
    lambda x, cls, count: [GetAttrKey(name) for name in cls._fields],
    lambda cls, texts: f"CustomNode(namedtuple[{cls.__name__}], [{', '.join(texts)}])",
    shares=True,
)

_leaf_types: set[type] = set()  # the types seen so far that are leaves


class _NodeTable(dict[type, NodeType | None]):
    """Type -> its node type, or None for the type of a leaf."""

    def __missing__(self, cls: type) -> NodeType | None:
        is_named = issubclass(cls, tuple) and hasattr(cls, "_fields")
        self[cls] = node = _NAMEDTUPLE if is_named else None
        if node is None:
            _leaf_types.add(cls)
        return node


node_of = _NodeTable(
    {node.cls: node for node in (_TUPLE, _LIST, _DICT, _NONE, _ORDERED_DICT, _DEFAULTDICT)}
)
_registered = set(node_of)


def register_node(
    cls: type,
    flatten: Callable[[Any], tuple[Iterable[Any], Any]],
    unflatten: Callable[[Any, tuple[Any, ...]], Any],
    keys: Callable[[Any, Any, int], Sequence[Any]] = flat_index_keys,
    opaque: bool = False,
) -> None:
    """Make a type a node; see `NodeType` for the arguments."""
    if not isinstance(cls, type):
        raise TypeError(f"only a class can be registered as a pytree node; got {cls!r}")
    if cls in _registered:
        raise ValueError(f"Duplicate custom PyTreeDef type registration for {cls}")
    _registered.add(cls)
    _leaf_types.discard(cls)
    show = _show_custom(cls.__name__)
    node_of[cls] = NodeType(cls, flatten, unflatten, keys, show, opaque=opaque)


def is_opaque(x: Any) -> bool:
    """Tell whether a node is a leaf to users; see `NodeType`."""
    node = node_of[type(x)]
    return node is not None and node.opaque


# --- tree definitions ----------------------------------------------------------------------


class PyTreeDef:
    """The structure of a pytree: what is left when the leaves are taken out.

    Immutable; equal and hashed by structure. Get one from `funtorch.tree.structure`.

    Example:
        >>> from funtorch import tree
        >>> treedef = tree.structure({"a": 1, "b": (2, 3)})
        >>> treedef
        PyTreeDef({'a': *, 'b': (*, *)})
        >>> treedef.unflatten([10, 20, 30])
        {'a': 10, 'b': (20, 30)}
    """

    __slots__ = (
        "_children", "_flat", "_hash", "_meta", "_node", "_num_leaves", "_opaque", "_shared"
    )  # fmt: skip

    def __init__(
        self, node: NodeType | None, meta: Any, children: tuple[PyTreeDef, ...], shared: bool
    ) -> None:
        self._node = node
        self._meta = meta
        self._children = children
        self._shared = shared
        self._hash: int | None = None
        self._num_leaves: int = 1 if node is None else sum(c._num_leaves for c in children)
        self._flat = node is not None and all(c._node is None for c in children)
        self._opaque = node is not None and (node.opaque or any(c._opaque for c in children))

    @property
    def num_leaves(self) -> int:
        """Count the leaves."""
        return self._num_leaves

    @property
    def num_nodes(self) -> int:
        """Count the nodes, leaves included."""
        return 1 + sum(child.num_nodes for child in self._children)

    def children(self) -> list[PyTreeDef]:
        """List the structures of the root's children; a leaf has none."""
        return list(self._children)

    def node_data(self) -> tuple[type, Any] | None:
        """Return the type and the metadata of the root, or None for a leaf."""
        if self._node is None:
            return None
        return (self._meta, None) if self._node is _NAMEDTUPLE else (self._node.cls, self._meta)

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """Build a tree of this structure.

        Args:
            leaves: as many leaves as the structure has, in order.

        Returns:
            The tree.

        Raises:
            ValueError: too few or too many leaves.
        """
        leaves = tuple(leaves)
        if len(leaves) != self._num_leaves:
            amount = "few" if len(leaves) < self._num_leaves else "many"
            raise ValueError(
                f"Too {amount} leaves for PyTreeDef; expected {self._num_leaves}, got "
                f"{len(leaves)}. The structure is {shorten(self)}"
            )
        if self._flat:
            return self._node.unflatten(self._meta, leaves)
        return _build(self, iter(leaves))

    def flatten_up_to(self, tree: Any) -> list[Any]:
        """Take a tree apart as far as this structure goes.

        Args:
            tree: a tree that this structure is a prefix of.

        Returns:
            One subtree for each leaf of this structure.

        Raises:
            ValueError: the tree has another structure; the message names the key path.

        Example:
            >>> from funtorch import tree
            >>> tree.structure((0, 0)).flatten_up_to(([1, 2], 3))
            [[1, 2], 3]
        """
        return split(self, tree, "tree")

    def compose(self, inner: PyTreeDef) -> PyTreeDef:
        """Return this structure with every leaf replaced by the structure `inner`."""
        if self._node is None:
            return inner
        children = tuple([child.compose(inner) for child in self._children])
        return make_treedef(self._node, self._meta, children)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not PyTreeDef:
            return NotImplemented
        return (
            self._node is other._node
            and self._num_leaves == other._num_leaves
            and self._meta == other._meta
            and self._children == other._children
        )

    def __hash__(self) -> int:
        if self._hash is None:
            cls = None if self._node is None else self._node.cls
            self._hash = hash((cls, _hash_of(self._meta), self._children))
        return self._hash

    def __repr__(self) -> str:
        return f"PyTreeDef({_show(self)})"

    def __reduce__(self) -> Any:
        return _rebuild, (self._node, self._meta, self._children)


def _hash_of(meta: Any) -> int:
    """Return a hash of metadata; of what has none, lists and dicts, one of what is in it."""
    try:
        return hash(meta)
    except TypeError:
        if isinstance(meta, (list, tuple)):
            return hash(tuple(map(_hash_of, meta)))
        if isinstance(meta, dict):
            return hash(frozenset((key, _hash_of(value)) for key, value in meta.items()))
        return hash(type(meta))


def _rebuild(node: NodeType | None, meta: Any, children: tuple[PyTreeDef, ...]) -> PyTreeDef:
    return LEAF if node is None else make_treedef(node, meta, children)


def _show(treedef: PyTreeDef) -> str:
    if treedef._node is None:
        return "*"
    return treedef._node.show(treedef._meta, [_show(child) for child in treedef._children])


def shorten(treedef: PyTreeDef, width: int = 400) -> str:
    """Write a structure for an error message, cut to a readable length."""
    text = repr(treedef)
    return text if len(text) <= width else f"{text[: width - 4]}...)"


def _build(treedef: PyTreeDef, leaves: Iterator[Any]) -> Any:
    node = treedef._node
    if node is None:
        return next(leaves)
    if treedef._flat:
        return node.unflatten(treedef._meta, tuple(islice(leaves, treedef._num_leaves)))
    children = tuple(
        [
            next(leaves) if child._node is None else _build(child, leaves)
            for child in treedef._children
        ]
    )
    return node.unflatten(treedef._meta, children)


LEAF = PyTreeDef(None, None, (), shared=True)

_shared: dict[tuple[Any, ...], PyTreeDef] = {}
_TEXT = {str}


def make_treedef(node: NodeType, meta: Any, children: tuple[PyTreeDef, ...]) -> PyTreeDef:
    """Return the definition of a node with these children, shared where that is sound."""
    if node.shares or (node is _DICT and _TEXT.issuperset(each(type, meta))):
        return _share(node, meta, children)
    return PyTreeDef(node, meta, children, shared=False)


def _share(node: NodeType, meta: Any, children: tuple[PyTreeDef, ...]) -> PyTreeDef:
    # Children count by identity, not equality: {1: x} and {True: x} are equal structures, but
    # sharing would give one the other's keys. A stored entry keeps its children alive, so their
    # ids cannot come to mean other objects.
    key = (node, meta, *each(id, children))
    found = _shared.get(key)
    if found is None:
        shared = all(child._shared for child in children)
        found = PyTreeDef(node, meta, children, shared)
        if shared:
            if len(_shared) >= _LIMIT:
                _shared.clear()
            found = _shared.setdefault(key, found)
    return found


# --- walks ---------------------------------------------------------------------------------


class _FlatTable(dict[int, PyTreeDef]):
    """Length -> the structure of a tuple (or list) of so many leaves."""

    def __init__(self, node: NodeType) -> None:
        self.node = node

    def __missing__(self, count: int) -> PyTreeDef:
        treedef = _share(self.node, None, (LEAF,) * count)
        if len(self) < _LIMIT:
            self[count] = treedef
        return treedef


class _LayoutTable(dict[tuple[str, ...], tuple[Any, ...]]):
    """Keys of a dict in its order -> (sorted keys, picker of the values, structure if flat)."""

    def __missing__(self, keys: tuple[str, ...]) -> tuple[Any, ...]:
        ordered = tuple(sorted(keys))
        if keys == ordered:
            pick: Callable[[Any], Any] = dict.values
        else:
            pick = operator.itemgetter(*ordered)
        if len(self) >= _LIMIT:
            self.clear()
        self[keys] = layout = ordered, pick, _share(_DICT, ordered, (LEAF,) * len(keys))
        return layout


_flat_of: dict[type, _FlatTable] = {tuple: _FlatTable(_TUPLE), list: _FlatTable(_LIST)}
_layouts = _LayoutTable()


def walk(tree: Any, leaves: list[Any]) -> PyTreeDef:
    """Append the leaves of a tree to a list and return its structure."""
    cls = type(tree)
    node = node_of[cls]
    if node is None:
        leaves.append(tree)
        return LEAF
    if cls is tuple or cls is list:
        # These tests of all types at once run in C; most containers hold leaves only.
        if _leaf_types.issuperset(each(type, tree)):
            leaves.extend(tree)
            return _flat_of[cls][len(tree)]
        return _share(node, None, tuple([walk(child, leaves) for child in tree]))
    if cls is dict and _TEXT.issuperset(each(type, tree)):
        keys, pick, flat = _layouts[tuple(tree)]
        values = pick(tree)
        if _leaf_types.issuperset(each(type, values)):
            leaves.extend(values)
            return flat
        return _share(node, keys, tuple([walk(child, leaves) for child in values]))
    children, meta = node.flatten(tree)
    return make_treedef(node, meta, tuple([walk(child, leaves) for child in children]))


def walk_until(tree: Any, is_leaf: Callable[[Any], bool], leaves: list[Any]) -> PyTreeDef:
    """Do as `walk`, but take for a leaf whatever `is_leaf` accepts."""
    node = node_of[type(tree)]
    if node is None or is_leaf(tree):
        leaves.append(tree)
        return LEAF
    children, meta = node.flatten(tree)
    defs = tuple([walk_until(child, is_leaf, leaves) for child in children])
    return make_treedef(node, meta, defs)


def walk_paths(
    tree: Any,
    is_leaf: Callable[[KeyPath, Any], bool] | None,
    path: KeyPath,
    found: list[tuple[KeyPath, Any]],
) -> PyTreeDef:
    """Append (key path, leaf) pairs to a list and return the structure."""
    node = node_of[type(tree)]
    if node is None or (is_leaf is not None and is_leaf(path, tree)):
        found.append((path, tree))
        return LEAF
    children, meta = node.flatten(tree)
    children = tuple(children)
    keys = node.keys(tree, meta, len(children))
    defs = [
        walk_paths(child, is_leaf, (*path, key), found)
        for key, child in zip(keys, children, strict=True)
    ]
    return make_treedef(node, meta, tuple(defs))


# --- prefixes and mismatches ---------------------------------------------------------------


def split(treedef: PyTreeDef, tree: Any, what: str) -> list[Any]:
    """Do as `PyTreeDef.flatten_up_to`; `what` names the tree in an error."""
    subtrees: list[Any] = []
    if _split(treedef, tree, subtrees):
        return subtrees
    leaves: list[Any] = []
    got = walk(tree, leaves)
    raise ValueError(
        f"{what} does not have the expected structure: "
        f"{mismatch_message(first_mismatch(treedef, got, tree))}\n"
        f"  expected: {shorten(treedef)}\n"
        f"  got:      {shorten(got)}"
    )


def _split(treedef: PyTreeDef, tree: Any, subtrees: list[Any]) -> bool:
    node = treedef._node
    if node is None:
        subtrees.append(tree)
        return True
    if node_of[type(tree)] is not node:
        return False
    children, meta = node.flatten(tree)
    children = tuple(children)
    if len(children) != len(treedef._children) or meta != treedef._meta:
        return False
    pairs = zip(treedef._children, children, strict=True)
    return all(_split(child_def, child, subtrees) for child_def, child in pairs)


def spread(
    prefix: Any, full: PyTreeDef, is_leaf: Callable[[Any], bool] | None, repeated: list[Any]
) -> bool:
    """Append each leaf of a prefix once for every leaf of `full` below it.

    Args:
        prefix: a tree.
        full: the structure to fill.
        is_leaf: a predicate on subtrees of the prefix; those it accepts are leaves.
        repeated: the list that grows.

    Returns:
        Whether the tree is a prefix of the structure; if not, the list is of no use.
    """
    node = node_of[type(prefix)]
    if node is None or (is_leaf is not None and is_leaf(prefix)):
        repeated.extend([prefix] * full._num_leaves)
        return True
    if node is not full._node:
        return False
    children, meta = node.flatten(prefix)
    children = tuple(children)
    if len(children) != len(full._children) or meta != full._meta:
        return False
    pairs = zip(children, full._children, strict=True)
    return all(spread(child, child_def, is_leaf, repeated) for child, child_def in pairs)


Mismatch = tuple[KeyPath, PyTreeDef, PyTreeDef]


def first_mismatch(
    prefix: PyTreeDef, full: PyTreeDef, tree: Any, path: KeyPath = ()
) -> Mismatch | None:
    """Find where a structure stops being a prefix of another.

    Args:
        prefix: the shorter structure.
        full: the longer one.
        tree: a tree of either structure; it gives the names of the steps.
        path: the key path of the three.

    Returns:
        The key path and the two structures there, or None if nothing is wrong.
    """
    if prefix._node is None:
        return None
    same_arity = len(prefix._children) == len(full._children)
    if prefix._node is not full._node or not same_arity or prefix._meta != full._meta:
        return path, prefix, full
    children, meta = prefix._node.flatten(tree)
    children = tuple(children)
    keys = prefix._node.keys(tree, meta, len(children))
    for a, b, key, child in zip(prefix._children, full._children, keys, children, strict=True):
        found = first_mismatch(a, b, child, (*path, key))
        if found is not None:
            return found
    return None


def mismatch_message(found: Mismatch | None) -> str:
    """Tell in words what `first_mismatch` found."""
    if found is None:
        return "no difference was found"
    path, expected, got = found
    place = f"at key path {keystr(path)}" if path else "at the root"
    return f"{place} it should be {_describe(expected)}, but is {_describe(got)}"


def _describe(treedef: PyTreeDef) -> str:
    node, meta, count = treedef._node, treedef._meta, len(treedef._children)
    if node is None:
        return "a leaf"
    if node is _NONE:
        return "None"
    if node is _TUPLE or node is _LIST:
        return f"a {node.cls.__name__} of length {count}"
    if node is _NAMEDTUPLE:
        return f"a named tuple {meta.__name__}({', '.join(meta._fields)})"
    if node is _DICT or node is _ORDERED_DICT:
        return f"a {node.cls.__name__} with keys {list(meta)}"
    return f"a {node.cls.__name__} with {count} children and metadata {meta!r}"
