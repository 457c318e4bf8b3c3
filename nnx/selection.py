"""Taking models apart: parameters and the rest, chosen leaves, frozen parts, shared parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

import funtorch as ft
import funtorch.numpy as fnp

from .module import (
    Mark,
    Module,
    changed,
    field,
    is_inexact,
    is_module,
    marked,
    named_leaves,
    static,
)

__all__ = [
    "Shared", "combine", "filter", "freeze", "is_parameter", "nonfinite", "parameters", "partition",
    "tree_at", "unfreeze",
]  # fmt: skip

T = TypeVar("T")


def _is_none(x: Any) -> bool:
    return x is None


# ------------------------------------------------------------------------------------- filtering
def is_parameter(model: T) -> T:
    """Tell of each leaf of a model whether it is a parameter, which training changes.

    Parameters are floating-point and complex arrays, but for those in fields declared with
    `buffer` and in what `freeze` froze.

    Args:
        model: a module, or any pytree of modules and arrays.

    Returns:
        A tree of the model's structure with a bool for each leaf.

    Example:
        >>> import funtorch as ft
        >>> from funtorch import nnx
        >>> ft.tree.leaves(nnx.is_parameter(nnx.BatchNorm1d(2)))
        [True, True, False, False, False]
    """
    flags = [
        is_inexact(leaf.value) and not leaf.buffer and not leaf.frozen
        for leaf in named_leaves(model)
    ]
    return ft.tree.unflatten(ft.tree.structure(model), flags)


def _chosen(tree: Any, spec: Any) -> list[bool]:
    """Return which leaves a specification chooses."""
    if spec is None:
        spec = is_parameter(tree)

    def spread(part: Any, below: Any) -> Any:
        if callable(part):
            return ft.tree.map(lambda leaf: bool(part(leaf)), below)
        if isinstance(part, (bool, type(fnp.bool_(True)))):
            return ft.tree.map(lambda _: bool(part), below)
        raise TypeError(
            f"a specification of leaves holds functions and bools; this one holds {part!r:.60}"
        )

    if callable(spec) and not is_module(spec):
        return ft.tree.leaves(spread(spec, tree))
    return ft.tree.leaves(ft.tree.map(spread, spec, tree))


def partition(tree: T, spec: Any = None) -> tuple[T, T]:
    """Split a model in two of the same structure: chosen leaves, and the others.

    Args:
        tree: a module, or any pytree.
        spec: which leaves to choose: a function of a leaf, or a tree of bools or such functions
            with the model's structure at its top; by default its parameters, `is_parameter`.

    Returns:
        Two trees, with None where the other one has the leaf. `combine` joins them.

    Raises:
        TypeError: the specification holds something else.
        ValueError: its structure does not fit.

    Example:
        >>> import funtorch as ft
        >>> from funtorch import nnx
        >>> layer = nnx.BatchNorm1d(2)
        >>> parameters, rest = nnx.partition(layer)
        >>> parameters.weight, parameters.running_mean
        (Array([1., 1.], dtype=float32), None)
        >>> nnx.combine(parameters, rest).running_mean
        Array([0., 0.], dtype=float32)
    """
    leaves, treedef = ft.tree.flatten(tree)
    chosen = _chosen(tree, spec)
    ours = [leaf if c else None for leaf, c in zip(leaves, chosen, strict=True)]
    others = [None if c else leaf for leaf, c in zip(leaves, chosen, strict=True)]
    return ft.tree.unflatten(treedef, ours), ft.tree.unflatten(treedef, others)


def filter(tree: T, spec: Any = None, inverse: bool = False) -> T:
    """Keep chosen leaves of a model, and put None in the place of others.

    Args:
        tree: a module, or any pytree.
        spec: which leaves, as in `partition`; by default its parameters.
        inverse: whether to keep the others instead.

    Returns:
        A tree of the same structure.

    Example:
        >>> from funtorch import nnx, random
        >>> layer = nnx.Linear(3, 2, key=random.key(0))
        >>> nnx.filter(layer, lambda x: x.ndim == 2).bias is None
        True
    """
    return partition(tree, spec)[bool(inverse)]


def parameters(model: T) -> T:
    """Keep the parameters of a model; None stands in the place of buffers and what is frozen.

    Args:
        model: a module, or any pytree of modules and arrays.

    Returns:
        A tree of the same structure, as `grad` gives it and optimizers take it.

    Example:
        >>> from funtorch import nnx
        >>> nnx.parameters(nnx.BatchNorm1d(2)).running_mean is None
        True
    """
    return partition(model)[0]


def combine(*trees: Any) -> Any:
    """Join trees of one structure that have None in the place of what others have.

    Args:
        *trees: as `partition` gives them.

    Returns:
        A tree of the first value at each place that is not None.

    Raises:
        ValueError: the structures differ, or there is no tree.

    Example:
        >>> from funtorch import nnx
        >>> nnx.combine({"a": 1, "b": None}, {"a": None, "b": 2})
        {'a': 1, 'b': 2}
    """
    if not trees:
        raise ValueError("combine takes one or more trees; it was given none")

    def first(*values: Any) -> Any:
        return next((v for v in values if v is not None), None)

    return ft.tree.map(first, *trees, is_leaf=_is_none)


# ------------------------------------------------------------------------------------- replacing
class _Place:
    """Stands for a leaf, so that each one is its own object."""

    __slots__ = ("leaf",)

    def __init__(self, leaf: Any) -> None:
        self.leaf = leaf


def _places(where: Callable[[Any], Any], tree: Any, what: str) -> tuple[Any, list[Any], bool]:
    """Return the tree with a place for each leaf, the nodes chosen in it, whether there is one."""
    places = ft.tree.map(_Place, tree, is_leaf=_is_none)
    found = where(places)
    inside = [id(node) for node in _nodes(places)]
    # A list or tuple that is no node of the tree is one of nodes.
    several = isinstance(found, (list, tuple)) and id(found) not in inside
    nodes = list(found) if several else [found]
    for k, node in enumerate(nodes):
        count = inside.count(id(node))
        if count != 1 or isinstance(node, (int, str, type(None))):
            raise ValueError(
                f"{what}: where(tree) must pick nodes of the tree, fields and items of it; "
                f"{f'pick {k}' if several else 'it'} is a {type(node).__name__} that is none, or "
                "that stands in several places. Static fields are no nodes: use replace"
            )
    if len({id(node) for node in nodes}) != len(nodes):
        raise ValueError(f"{what}: where(tree) picks one node twice")
    return places, nodes, not several


def _nodes(tree: Any) -> list[Any]:
    """List all nodes and leaves of a tree of places."""
    found = [tree]
    for child in ft.tree.leaves(tree, is_leaf=lambda x: x is not tree):
        if child is not tree:
            found += _nodes(child)
    return found


def _unwrapped(tree: Any) -> Any:
    return ft.tree.map(lambda p: p.leaf if isinstance(p, _Place) else p, tree)


_NOT_GIVEN = object()


def tree_at(
    where: Callable[[T], Any],
    tree: T,
    replace: Any = _NOT_GIVEN,
    replace_fn: Callable[[Any], Any] | None = None,
) -> T:
    """Make a copy of a tree in which some nodes are others.

    Args:
        where: a function of the tree that returns a node of it, or a list or tuple of nodes:
            arrays, modules, lists or None.
        tree: a module, or any pytree.
        replace: what to put there: one value, or as many as ``where`` returns.
        replace_fn: instead, a function of the old node that returns the new one.

    Returns:
        The copy.

    Raises:
        ValueError: ``where`` returns something else, or ``replace`` has another length.
        TypeError: both or neither of ``replace`` and ``replace_fn`` are given.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> model = nnx.Sequential(nnx.Linear(3, 2, key=random.key(0)), nnx.ReLU())
        >>> model = nnx.tree_at(lambda m: m[0].bias, model, fnp.ones(2))
        >>> model[0].bias
        Array([1., 1.], dtype=float32)
        >>> nnx.tree_at(lambda m: m[0].bias, model, replace_fn=lambda b: 2 * b)[0].bias
        Array([2., 2.], dtype=float32)
    """
    if (replace is _NOT_GIVEN) == (replace_fn is None):
        raise TypeError("tree_at takes replace or replace_fn, one of them")
    places, nodes, single = _places(where, tree, "tree_at")
    if replace_fn is not None:
        values = [replace_fn(_unwrapped(node)) for node in nodes]
    else:
        values = [replace] if single else list(replace)
    if len(values) != len(nodes):
        raise ValueError(
            f"tree_at: where(tree) picks {len(nodes)} nodes; {len(values)} values were given"
        )
    new = {id(node): value for node, value in zip(nodes, values, strict=True)}
    leaves, treedef = ft.tree.flatten(places, is_leaf=lambda x: id(x) in new)
    filled = [
        new[id(x)] if id(x) in new else x.leaf if isinstance(x, _Place) else x for x in leaves
    ]
    return ft.tree.unflatten(treedef, filled)


# ------------------------------------------------------------------------------------- freezing
def freeze(model: T, where: Callable[[T], Any] | None = None) -> T:
    """Make a copy of a model in which some parts stay as they are in training.

    Their arrays are no parameters any more, and modules among them are in evaluation under `train`:
    no dropout, no new statistics. The shapes and names of arrays do not change.

    Args:
        model: a module, or any pytree of modules.
        where: a function of the model that returns the part, or a list of parts: modules, or
            fields of modules; by default all of it.

    Returns:
        The copy. `unfreeze` undoes it.

    Raises:
        ValueError: ``where`` returns something that is no part of the model, or part of a field.

    Example:
        >>> from funtorch import nnx, random
        >>> keys = random.split(random.key(0))
        >>> model = nnx.Sequential(nnx.Linear(4, 8, key=keys[0]), nnx.Linear(8, 2, key=keys[1]))
        >>> model = nnx.freeze(model, lambda m: m[0])
        >>> parameters = nnx.parameters(model)
        >>> parameters[0].weight is None, parameters[1].weight.shape
        (True, (2, 8))
    """
    return _frozen(model, where, True)


def unfreeze(model: T, where: Callable[[T], Any] | None = None) -> T:
    """Undo `freeze`.

    Args:
        model: a module, or any pytree of modules.
        where: a function of the model that returns the part, or a list of parts; by default all.

    Returns:
        A copy of the model in which nothing of that is frozen.

    Example:
        >>> from funtorch import nnx, random
        >>> layer = nnx.freeze(nnx.Linear(3, 2, key=random.key(0)))
        >>> nnx.parameters(nnx.unfreeze(layer)).weight.shape
        (2, 3)
    """
    return _frozen(model, where, False)


def _frozen(model: Any, where: Any, on: bool) -> Any:
    places, nodes, _ = _places(where or (lambda m: m), model, "freeze" if on else "unfreeze")
    wanted = {id(part) for node in nodes for part in _nodes(node)}
    used: set[int] = set()

    def mark(_: str, module: Any) -> Any:
        fields = {name: _nodes(getattr(module, name)) for name in module._children}
        named = frozenset(
            name for name, parts in fields.items() if all(id(p) in wanted for p in parts)
        )
        used.update(id(p) for name in named for p in fields[name])
        old = module._mark or Mark()
        whole = id(module) in wanted
        return marked(
            module,
            Mark(
                old.path,
                old.frozen | named if on else old.frozen - named,
                on if whole else old.still,
            ),
        )

    # Outer modules keep the objects below them, so ids hold: marks are set from the outside in.
    out = _outside_in(mark, places)
    left = [n for n in nodes if not is_module(n) and id(n) not in used and not _holds_modules(n)]
    if left:
        raise ValueError(
            f"freeze: where(model) picks a {type(left[0]).__name__} that is only a part of a field "
            "of a module, or in no module; pick the whole field"
        )
    return _unwrapped(out)


def _holds_modules(node: Any) -> bool:
    return any(is_module(x) for x in ft.tree.leaves(node, is_leaf=is_module))


def _outside_in(function: Callable[[str, Any], Any], tree: Any) -> Any:
    def at(node: Any) -> Any:
        if not is_module(node):
            return node
        below = {name: _outside_in(function, getattr(node, name)) for name in node._children}
        new = function("", node)
        return changed(new, **below)

    return ft.tree.map(at, tree, is_leaf=is_module)


# ------------------------------------------------------------------------------------- sharing
class Shared(Module):
    """A model that has one parameter, or one layer, in two places.

    A pytree holds each array once for each place, and training would let them drift apart. Here the
    second place is empty, and filled from the first one when the model is called.

    Args:
        model: the model.
        where: a function of the model that returns the place to leave empty, or a list of places.
        get: a function of the model that returns what is to stand there, or as many.

    Raises:
        ValueError: the shapes at the two places differ, or ``where`` picks no part of the model.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> class Twice(nnx.Module):
        ...     a: nnx.Linear
        ...     b: nnx.Linear
        ...
        ...     def __call__(self, x):
        ...         return self.b(self.a(x))
        >>> ka, kb = random.split(random.key(0))
        >>> model = Twice(nnx.Linear(3, 3, key=ka), nnx.Linear(3, 3, key=kb))
        >>> model = nnx.Shared(model, lambda m: m.b.weight, lambda m: m.a.weight)
        >>> model(fnp.ones(3)).shape, nnx.param_count(model)
        ((3,), 15)
        >>> bool((model.whole().b.weight == model.model.a.weight).all())
        True
    """

    model: Any = field(transparent=True)
    where: Callable[[Any], Any] = static()
    get: Callable[[Any], Any] = static()

    def __init__(self, model: Any, where: Callable[[Any], Any], get: Callable[[Any], Any]) -> None:
        _, there, single = _places(where, model, "Shared")
        given = [get(model)] if single else list(get(model))
        for old, new in zip(map(_unwrapped, there), given, strict=True):
            shapes = [[fnp.shape(x) for x in ft.tree.leaves(part)] for part in (old, new)]
            if ft.tree.leaves(old) and shapes[0] != shapes[1]:
                raise ValueError(
                    f"Shared puts arrays of shapes {shapes[1]} in the place of {shapes[0]}"
                )
        self.where, self.get = where, get
        self.model = tree_at(where, model, None if single else [None] * len(there))

    def whole(self) -> Any:
        """Return the model with all places filled."""
        return tree_at(self.where, self.model, self.get(self.model))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.whole()(*args, **kwargs)


# ------------------------------------------------------------------------------------- looking
def nonfinite(tree: Any) -> dict[str, Any]:
    """Count the infinities and nans in each array of a tree, by dotted name.

    Under `jit` all inexact arrays are listed; outside, those that have some.

    Args:
        tree: gradients, a model, or any pytree of arrays.

    Returns:
        A dict from names such as ``'encoder.layers.2.weight'`` to how many there are.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> {k: int(n) for k, n in nnx.nonfinite({"a": fnp.ones(2), "b": fnp.ones(2) / 0}).items()}
        {'b': 2}
    """
    counts = {
        leaf.name: fnp.sum(~fnp.isfinite(leaf.value))
        for leaf in named_leaves(tree)
        if is_inexact(leaf.value)
    }
    try:  # not `if n`, which traces both ways under jit
        return {name: n for name, n in counts.items() if np.asarray(n) > 0}
    except ft.errors.TracerArrayConversionError:
        return counts
