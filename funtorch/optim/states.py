"""Looking into the states of optimizers: values by name, and what is shaped like parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from funtorch import tree as pytree

__all__ = ["NamedTupleKey", "tree_get", "tree_get_all_with_path", "tree_map_params", "tree_set"]

Filter = Callable[[tuple[Any, ...], Any], bool]


@dataclass(frozen=True)
class NamedTupleKey:
    """A field of a named tuple in a key path, with the tuple's name.

    Attributes:
        tuple_name: name of the tuple's class.
        name: the field.
    """

    tuple_name: str
    name: str

    def __str__(self) -> str:
        """Write it as ``ScaleByAdamState.mu``."""
        return f"{self.tuple_name}.{self.name}"


@pytree.register_pytree_node_class
class ParamsPlaceholder:
    """Stands for a tree of parameters, so that a state shows where it holds trees like them."""

    def tree_flatten(self) -> tuple[tuple[()], None]:
        """Return no children."""
        return (), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: tuple[()]) -> ParamsPlaceholder:
        """Make another one."""
        return cls()


def tree_map_params(
    initable: Any,
    f: Callable[..., Any],
    state: Any,
    /,
    *rest: Any,
    transform_non_params: Callable[[Any], Any] | None = None,
    is_leaf: Callable[[Any], bool] | None = None,
) -> Any:
    """Map a function over the parts of a state that are shaped like the parameters.

    Args:
        initable: the optimizer, or its init.
        f: function of an array of the state, and of the partners in ``rest``.
        state: the state.
        *rest: pytrees like the parameters.
        transform_non_params: function of everything else; by default it stays.
        is_leaf: what else is a leaf of the trees like the parameters.

    Returns:
        The new state.

    Example:
        >>> optimizer = optim.trace(0.9)
        >>> state = optimizer.init({"w": fnp.ones(2)})
        >>> optim.tree_map_params(optimizer, lambda x: x.shape, state)
        TraceState(trace={'w': (2,)})
    """
    init = getattr(initable, "init", initable)
    pattern = init(ParamsPlaceholder())

    def change(own: Any, value: Any) -> Any:
        if isinstance(own, ParamsPlaceholder):
            return pytree.map(f, value, *rest, is_leaf=is_leaf)
        return value if transform_non_params is None else transform_non_params(value)

    return pytree.map(change, pattern, state, is_leaf=lambda x: isinstance(x, ParamsPlaceholder))


# ------------------------------------------------------------------------------------------ by name
def _children(node: Any) -> list[tuple[Any, Any, Any]] | None:
    """Return (name, key, child) of what a node holds, or None if it is a leaf."""
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        kind = type(node).__name__
        return [(n, NamedTupleKey(kind, n), getattr(node, n)) for n in node._fields]
    if isinstance(node, dict):
        return [(k, pytree.DictKey(k), child) for k, child in node.items()]
    if isinstance(node, (list, tuple)):
        return [(None, pytree.SequenceKey(k), child) for k, child in enumerate(node)]
    return None


def _walk(path: tuple[Any, ...], node: Any) -> Iterator[tuple[Any, tuple[Any, ...], Any]]:
    """Yield (name, path, value) of all that has a name, outside in; tuples by class too."""
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        yield type(node).__name__, path, node
    for name, key, child in _children(node) or []:
        if name is not None:
            yield name, (*path, key), child
        yield from _walk((*path, key), child)


def tree_get_all_with_path(
    tree: Any, key: Any, filtering: Filter | None = None
) -> list[tuple[tuple[Any, ...], Any]]:
    """Find everything of one name in a state.

    Args:
        tree: nested named tuples, dicts, lists and tuples.
        key: name of a field, a key of a dict, or the name of a named tuple's class.
        filtering: function of (path, value) that says what to keep.

    Returns:
        A list of (path, value).

    Example:
        >>> state = optim.adam(optim.linear_schedule(1.0, 0.0, 9)).init([fnp.zeros(1)])
        >>> [str(path[-1]) for path, _ in optim.tree.get_all_with_path(state, "count")]
        ['ScaleByAdamState.count', 'ScaleByScheduleState.count']
    """
    found = [(path, value) for name, path, value in _walk((), tree) if name == key]
    return [pair for pair in found if filtering is None or filtering(*pair)]


def tree_get(tree: Any, key: Any, default: Any = None, filtering: Filter | None = None) -> Any:
    """Find the one thing of a name in a state.

    Args:
        tree: nested named tuples, dicts, lists and tuples.
        key: name of a field, a key of a dict, or the name of a named tuple's class.
        default: what to return if there is none.
        filtering: function of (path, value) that says what to look at.

    Returns:
        The value.

    Raises:
        KeyError: there is more than one.

    Example:
        >>> state = optim.adam(1.0).init([fnp.zeros(1)])
        >>> optim.tree.get(state, "mu")
        [Array([0.], dtype=float32)]
    """
    found = tree_get_all_with_path(tree, key, filtering)
    if len(found) > 1:
        places = ", ".join(_written(path) for path, _ in found)
        raise KeyError(f"tree_get: there are {len(found)} values of the name {key!r}: {places}")
    return found[0][1] if found else default


def _written(path: tuple[Any, ...]) -> str:
    return "".join(f".{k}" if isinstance(k, NamedTupleKey) else str(k) for k in path) or "the whole"


def tree_set(tree: Any, filtering: Filter | None = None, /, **kwargs: Any) -> Any:
    """Replace everything of some names in a state.

    Args:
        tree: nested named tuples, dicts, lists and tuples.
        filtering: function of (path, value) that says what to replace.
        **kwargs: new values by name.

    Returns:
        The new state.

    Raises:
        KeyError: there is nothing of a name.

    Example:
        >>> state = optim.inject_hyperparams(optim.sgd)(0.1).init([fnp.zeros(1)])
        >>> state = optim.tree.set(state, learning_rate=fnp.asarray(0.5))
        >>> float(optim.tree.get(state, "learning_rate"))
        0.5
    """
    for key in kwargs:
        if not tree_get_all_with_path(tree, key, filtering):
            raise KeyError(f"tree_set: there is nothing of the name {key!r} that may be set")

    def replaced(name: Any, path: tuple[Any, ...], node: Any) -> Any:
        names = {name, type(node).__name__ if hasattr(node, "_fields") else name} & set(kwargs)
        if names and (filtering is None or filtering(path, node)):
            return kwargs[names.pop()]
        children = _children(node)
        if children is None:
            return node
        new = [replaced(n, (*path, key), child) for n, key, child in children]
        if isinstance(node, dict):
            return type(node)(zip(node, new, strict=True))
        return type(node)(*new) if hasattr(node, "_fields") else type(node)(new)

    return replaced(None, (), tree)
