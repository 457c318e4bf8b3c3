"""Python code made for one tree structure: flatten a tree that has it, build a tree of it.

A jitted function sees the same structure call after call. Walking a tree asks at every node what it
is; code made for the structure only checks that it is what it was, and takes it apart. Both
functions mean the same as `funtorch.tree.flatten` and `PyTreeDef.unflatten`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from funtorch.treedef import PyTreeDef

__all__ = ["MISMATCH", "builder", "extractor"]

MISMATCH = (AttributeError, KeyError, TypeError, ValueError)
"""What an extractor may raise on a tree of another structure, besides returning None."""

_MOST = 3000  # nodes of a structure worth code of its own
_DEEPEST = 40  # Python's parser has a limit on brackets inside brackets

_KNOWN = 1024  # structures whose code is kept
_builders: OrderedDict[int, tuple[PyTreeDef, Callable[..., Any]]] = OrderedDict()


class _Code:
    """Lines of a function, the names it refers to, and fresh names for its variables."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}
        self.count = 0

    def fresh(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def constant(self, value: Any) -> str:
        name = f"c{len(self.names)}"
        self.names[name] = value
        return name

    def function(self, head: str, tail: str) -> Callable[..., Any]:
        text = "\n    ".join([f"def made({head}):", *self.lines, f"return {tail}"])
        exec(text, self.names)
        return self.names["made"]


def _depth(treedef: PyTreeDef) -> int:
    return 1 + max((_depth(child) for child in treedef._children), default=0)


def _is_small(treedef: PyTreeDef) -> bool:
    return treedef.num_nodes <= _MOST and _depth(treedef) <= _DEEPEST


def _listing(parts: Sequence[str]) -> str:
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


# ---------------------------------------------------------------------- taking apart
def extractor(treedef: PyTreeDef) -> Callable[[Any], tuple[Any, ...] | None] | None:
    """Return the function that takes the leaves out of a tree of this structure.

    Args:
        treedef: the structure.

    Returns:
        A function of a tree that returns the tuple of its leaves; it returns None or raises one of
        `MISMATCH` for a tree of another structure, except that it takes any subtree for a leaf.
        None when the structure is too large to be worth code of its own.

    Example:
        >>> from funtorch import tree
        >>> from funtorch.treecode import extractor
        >>> extractor(tree.structure({"b": (0, 0), "a": 0}))({"a": 1, "b": (2, 3)})
        (1, 2, 3)
    """
    if not _is_small(treedef):
        return None
    code = _Code()
    leaves: list[str] = []
    _take(code, treedef, "root", leaves)
    return code.function("root", _listing(leaves))


def _take(code: _Code, treedef: PyTreeDef, name: str, leaves: list[str]) -> None:
    node, meta, children = treedef._node, treedef._meta, treedef._children
    if node is None:
        leaves.append(name)
        return
    parts = [code.fresh() for _ in children]
    targets = f"[{', '.join(parts)}]"
    data = treedef.node_data()
    cls = None if data is None else data[0]
    if cls is type(None):
        code.lines.append(f"if {name} is not None: return None")
    elif cls is dict:
        code.lines.append(
            f"if type({name}) is not dict or len({name}) != {len(parts)}: return None"
        )
        if len(parts) == 1:
            code.lines.append(f"{parts[0]} = {name}[{code.constant(meta[0])}]")
        elif parts:
            code.lines.append(f"{targets} = {code.constant(itemgetter(*meta))}({name})")
    else:
        code.lines.append(f"if type({name}) is not {code.constant(cls)}: return None")
        if cls is tuple or cls is list or issubclass(cls, tuple):
            code.lines.append(f"{targets} = {name}")
        else:
            flatten, known = code.constant(node.flatten), code.constant(meta)
            code.lines.append(f"{targets}, meta = {flatten}({name})")
            code.lines.append(f"if meta is not {known} and meta != {known}: return None")
    for part, child in zip(parts, children, strict=True):
        _take(code, child, part, leaves)


# ---------------------------------------------------------------------- putting together
def builder(treedef: PyTreeDef) -> Callable[[Sequence[Any]], Any]:
    """Return the function that builds a tree of this structure from as many leaves as it has.

    Example:
        >>> from funtorch import tree
        >>> from funtorch.treecode import builder
        >>> builder(tree.structure({"b": (0, 0), "a": 0}))([1, 2, 3])
        {'a': 1, 'b': (2, 3)}
    """
    known = _builders.get(id(treedef))
    if known is not None:
        return known[1]
    if not _is_small(treedef):
        made: Callable[[Sequence[Any]], Any] = treedef.unflatten
    else:
        code = _Code()
        leaves: list[str] = []
        tree = _put(code, treedef, leaves)
        code.lines.append(f"[{', '.join(leaves)}] = leaves")
        made = code.function("leaves", tree)
    # The structure is kept with its code, so that its id cannot come to mean another.
    _builders[id(treedef)] = treedef, made
    if len(_builders) > _KNOWN:
        _builders.popitem(last=False)
    return made


def _put(code: _Code, treedef: PyTreeDef, leaves: list[str]) -> str:
    node, meta = treedef._node, treedef._meta
    if node is None:
        leaves.append(code.fresh())
        return leaves[-1]
    parts = [_put(code, child, leaves) for child in treedef._children]
    data = treedef.node_data()
    cls = None if data is None else data[0]
    if cls is type(None):
        return "None"
    if cls is tuple:
        return _listing(parts)
    if cls is list:
        return f"[{', '.join(parts)}]"
    if cls is dict:
        pairs = zip(meta, parts, strict=True)
        return f"{{{', '.join(f'{code.constant(key)}: {part}' for key, part in pairs)}}}"
    return f"{code.constant(node.unflatten)}({code.constant(meta)}, {_listing(parts)})"
