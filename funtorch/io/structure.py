"""A tree as arrays by name and a description in JSON; and back, without running what it says.

The description of a node is ``[kind, ...]``. A description is data: reading one creates only the
types in the table below, and named tuples of modules that the program itself has imported.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import tree
from funtorch.core import Array
from funtorch.numpy import promotion
from funtorch.random import keys
from funtorch.spread import GlobalArray

from . import parts

__all__ = ["decode", "divided", "encode", "fill"]

# Python values that are written into the description itself: (to JSON, from JSON). Floats go as
# text in base 16, because JSON has neither nan nor infinity.
_SCALARS: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    bool: ("bool", bool, bool),
    int: ("int", str, int),
    float: ("float", float.hex, float.fromhex),
    complex: (
        "complex",
        lambda z: [z.real.hex(), z.imag.hex()],
        lambda parts: complex(*map(float.fromhex, parts)),
    ),
    str: ("str", str, str),
    bytes: (
        "bytes",
        lambda b: base64.b64encode(b).decode(),
        lambda text: base64.b64decode(text, validate=True),
    ),
}
_SCALAR_READERS = {kind: read for kind, _, read in _SCALARS.values()}
_CONTAINERS: dict[str, type] = {"list": list, "tuple": tuple}


# ------------------------------------------------------------------------------------------ writing
def encode(value: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Describe a tree, and collect its arrays.

    Args:
        value: any pytree of arrays, random keys and Python scalars.

    Returns:
        The description, to be written as JSON, and the arrays by the names that it uses, but for
        those that are divided among processes.

    Raises:
        TypeError: a leaf is of another kind.
        ValueError: two arrays have the same dotted name.
    """
    arrays: dict[str, np.ndarray] = {}
    return _encode(value, (), arrays), arrays


def divided(value: Any) -> dict[str, GlobalArray]:
    """Return the arrays of a tree that are divided among processes, by their names.

    Args:
        value: the tree.
    """
    paths = tree.leaves_with_path(value)
    return {_dotted(path): x for path, x in paths if isinstance(x, GlobalArray)}


def _encode(value: Any, path: tuple[Any, ...], arrays: dict[str, np.ndarray]) -> Any:
    kind = type(value)
    if value is None:
        return ["none"]
    if kind in _SCALARS:
        name, write, _ = _SCALARS[kind]
        return [name, write(value)]
    if isinstance(value, keys.KeyArray):
        return ["key", str(keys.key_impl(value)), _add(keys.key_data(value), path, arrays)]
    if isinstance(value, GlobalArray):
        return parts.describe(_dotted(path), value)
    if isinstance(value, (Array, np.ndarray, np.generic)):
        weak = isinstance(value, Array) and value.weak_type
        return ["weak" if weak else "array", _add(value, path, arrays)]
    children = _children(value)
    if children is None:
        raise TypeError(
            f"save takes trees of arrays, random keys and Python scalars; {_named(path)} is a "
            f"{kind.__name__}. Register the class as a pytree, or leave the value out"
        )
    nodes = [_encode(child, (*path, key), arrays) for key, child in children]
    if kind is dict:
        return ["dict", [_encode(key, path, {}) for key in value], nodes]
    for name, container in _CONTAINERS.items():
        if kind is container:
            return [name, nodes]
    if isinstance(value, tuple):
        return ["named", f"{kind.__module__}:{kind.__qualname__}", list(kind._fields), nodes]
    # A class of the user's: what its structure holds cannot be data in general, so reading it
    # needs a tree to fill. The names are for messages.
    return ["node", kind.__qualname__, [str(key) for key, _ in children], nodes]


def _children(value: Any) -> list[tuple[Any, Any]] | None:
    """Return the children of a node with their keys; None if it is a leaf."""
    if type(value) is dict:  # in its own order, which flattening does not keep
        return [(tree.DictKey(key), child) for key, child in value.items()]
    paths, _ = tree.flatten_with_path(value, is_leaf=lambda x: x is not value)
    if len(paths) == 1 and not paths[0][0]:
        return None
    return [(path[0], child) for path, child in paths]


def _named(path: tuple[Any, ...]) -> str:
    return repr(_dotted(path)) if path else "what it was given"


def _dotted(path: tuple[Any, ...]) -> str:
    return tree.keystr(path, simple=True, separator=".")


def _add(x: Any, path: tuple[Any, ...], arrays: dict[str, np.ndarray]) -> str:
    name = _dotted(path)
    if name in arrays:
        raise ValueError(f"save got two arrays that are both named {name!r}")
    data = np.asarray(x)
    if data.dtype.kind in "OSUMm":
        raise TypeError(f"save got {name!r} of dtype {data.dtype}, which is no array of numbers")
    arrays[name] = data
    return name


# ------------------------------------------------------------------------------------------ reading
def decode(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Build the tree that a description describes.

    Args:
        node: the description.
        arrays: arrays by name.

    Returns:
        The tree.

    Raises:
        ValueError: it holds an object of a class that only a ``like`` can tell.
        KeyError, TypeError, IndexError: it is no description.
    """
    return _decode(node, arrays, ())


def _decode(node: Any, arrays: dict[str, np.ndarray], path: tuple[Any, ...]) -> Any:
    kind, *rest = node
    if kind == "none":
        return None
    if kind in _SCALAR_READERS:
        return _SCALAR_READERS[kind](rest[0])
    if kind in _LEAVES:
        return _LEAVES[kind](arrays, *rest)
    if kind == "dict":
        names = [_decode(name, {}, path) for name in rest[0]]
        values = _decode_all(rest[1], arrays, path, map(tree.DictKey, names))
        return dict(zip(names, values, strict=True))
    if kind == "node":
        raise ValueError(
            f"it holds a {rest[0]} at {_named(path)}; give an object of the same structure to "
            "fill: load(path, like=...)"
        )
    values = _decode_all(rest[-1], arrays, path, map(tree.SequenceKey, range(len(rest[-1]))))
    if kind in _CONTAINERS:
        return _CONTAINERS[kind](values)
    if kind == "named":
        return _named_tuple(rest[0], rest[1], path)(*values)
    raise KeyError(kind)


def _decode_all(nodes: Any, arrays: dict[str, np.ndarray], path: Any, steps: Any) -> list[Any]:
    return [_decode(n, arrays, (*path, step)) for n, step in zip(nodes, steps, strict=True)]


_LEAVES: dict[str, Callable[..., Any]] = {
    "array": lambda arrays, name: fnp.asarray(arrays[name]),
    "weak": lambda arrays, name: _weak(arrays[name]),
    "key": lambda arrays, impl, name: keys.wrap_key_data(fnp.asarray(arrays[name]), impl=impl),
    "divided": lambda arrays, *about: _apart(arrays, *about).whole(),
}


def _apart(arrays: Any, *about: Any) -> parts.Divided:
    return parts.Divided(arrays.part, *about)


def _weak(data: np.ndarray) -> Any:
    return promotion.convert(fnp.asarray(data), data.dtype, True)


def _named_tuple(where: str, fields: list[str], path: tuple[Any, ...]) -> Any:
    """Find a named tuple among the modules that are loaded; nothing is imported for a file."""
    module, _, qualname = where.partition(":")
    found: Any = sys.modules.get(module)
    for step in qualname.split("."):
        found = vars(found).get(step) if found is not None else None
    ok = isinstance(found, type) and issubclass(found, tuple)
    ok = ok and getattr(found, "_fields", None) == tuple(fields)
    if not ok:
        raise ValueError(
            f"it holds a named tuple {where} with fields {', '.join(fields)} at {_named(path)}, "
            "which this program does not have: import its module first, or give an object of the "
            "same structure to fill: load(path, like=...)"
        )
    return found


# ------------------------------------------------------------------------------------------ filling
def fill(node: Any, arrays: dict[str, np.ndarray], like: Any) -> Any:
    """Put what a description holds where a tree of the same structure has its leaves.

    Args:
        node: the description.
        arrays: arrays by name.
        like: the tree; of its leaves only shapes and dtypes matter.

    Returns:
        A tree with the structure of ``like``.

    Raises:
        ValueError: leaves are missing or unknown, or differ in shape or dtype; all are named.
    """
    stored = dict(_leaves(node, ""))
    paths, treedef = tree.flatten_with_path(like)
    wanted = {tree.keystr(path): leaf for path, leaf in paths}
    found = {p: _to_place(stored[p], arrays) for p in wanted if p in stored}
    problems = [f"missing: {path} {_typed(x)}" for path, x in wanted.items() if path not in stored]
    problems += [f"unknown: {path}" for path in stored if path not in wanted]
    problems += [
        f"{path} is {_typed(wanted[path])} in like, {_typed(x)} in the file"
        for path, x in found.items()
        if hasattr(wanted[path], "shape") and _typed(x) != _typed(wanted[path])
    ]
    if problems:
        raise ValueError("what it holds does not fit like:\n  " + "\n  ".join(problems))
    return tree.unflatten(treedef, [parts.placed(x, wanted[p]) for p, x in found.items()])


def _to_place(node: Any, arrays: Any) -> Any:
    """Return a leaf, but of a divided array only where its parts are."""
    return _apart(arrays, *node[1:]) if node[0] == "divided" else _decode(node, arrays, ())


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    kind, *rest = node
    if kind == "dict":
        steps = [str(tree.DictKey(_decode(key, {}, ()))) for key in rest[0]]
    elif kind in _CONTAINERS:
        steps = [str(tree.SequenceKey(i)) for i in range(len(rest[-1]))]
    elif kind == "named":
        steps = [str(tree.GetAttrKey(name)) for name in rest[1]]
    elif kind == "node":
        steps = rest[1]
    else:
        if kind != "none":
            yield path, node
        return
    for step, child in zip(steps, rest[-1], strict=True):
        yield from _leaves(child, path + step)


def _typed(x: Any) -> str:
    if not hasattr(x, "shape"):
        return type(x).__name__
    return f"{getattr(x.dtype, 'name', x.dtype)}[{','.join(map(str, x.shape))}]"
