"""What optimizers are made of: pairs of pure functions, and how they are chained and applied."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch import lax, tree

__all__ = [
    "EmptyState",
    "GradientTransformation",
    "GradientTransformationExtraArgs",
    "ScalarOrSchedule",
    "Schedule",
    "apply_updates",
    "chain",
    "identity",
    "incremental_update",
    "named_chain",
    "periodic_update",
    "set_to_zero",
    "stateless",
    "stateless_with_tree_map",
    "with_extra_args_support",
]

Schedule = Callable[[Any], Any]
ScalarOrSchedule = float | Any | Schedule


class GradientTransformation(NamedTuple):
    """A pair of pure functions that is an optimizer, or a piece of one.

    Attributes:
        init: from parameters to the state before the first step.
        update: from (updates, state, params=None) to (updates, state).
    """

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]


class GradientTransformationExtraArgs(GradientTransformation):
    """A `GradientTransformation` whose update takes further named arguments, such as a loss."""


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


# ------------------------------------------------------------------------------------------- leaves
def is_none(x: Any) -> bool:
    """Tell whether a place in a tree is left out: None is no parameter, and has no update."""
    return x is None


def zeros_like(params: Any, dtype: Any = None) -> Any:
    """Return a tree of zeros of the shapes of ``params``, in their dtypes or in ``dtype``."""
    return tree.map(lambda p: fnp.zeros_like(p, dtype=dtype), params)


def zero_count() -> Any:
    """Return a number of steps: none yet."""
    return fnp.zeros((), fnp.int32)


def cast_to(x: Any, like: Any) -> Any:
    """Return ``x`` in the dtype of ``like``."""
    return fnp.asarray(x, dtype=fnp.asarray(like).dtype)


def each(f: Callable[..., Any], updates: Any, *others: Any) -> Any:
    """Return ``f`` of every array of ``updates`` and its partners; None where any of them is."""
    leaves, treedef, columns = _aligned(updates, others)
    rows = zip(leaves, *columns, strict=True)
    return tree.unflatten(treedef, [None if any(map(is_none, r)) else f(*r) for r in rows])


def per_leaf(
    f: Callable[..., tuple[Any, ...]], updates: Any, states: tuple[Any, ...], *others: Any
) -> Any:
    """Return the trees of what ``f(update, *states, *others)`` gives: an update, and new states.

    States keep their dtypes. Where there is no update, None comes out, and states stay.
    """
    leaves, treedef, columns = _aligned(updates, (*states, *others))
    rows = []
    for update, *partners in zip(leaves, *columns, strict=True):
        old = partners[: len(states)]
        if update is None:
            rows.append((None, *old))
            continue
        if any(map(is_none, partners)):
            raise ValueError(_without_partner(updates, len(rows)))
        result, *new = f(update, *partners)
        rows.append((result, *map(_keep_dtype, new, old)))
    if not rows:
        return (updates, *states)
    return tuple(tree.unflatten(treedef, column) for column in zip(*rows, strict=True))


def _keep_dtype(new: Any, old: Any) -> Any:
    return tree.map(lambda n, o: cast_to(n, o), new, old)


def _aligned(updates: Any, others: tuple[Any, ...]) -> tuple[list[Any], Any, list[list[Any]]]:
    leaves, treedef = tree.flatten(updates, is_leaf=is_none)
    columns = []
    for other in others:
        try:
            columns.append(treedef.flatten_up_to(other))
        except ValueError as error:
            raise ValueError(
                "the updates, the parameters and the optimizer's state are not trees of one "
                f"structure. {str(error).removeprefix('PyTreeDef.flatten_up_to: ')}\n  Give "
                "update() gradients of the parameters that init() was given, and the state that "
                "init() or the last update() returned"
            ) from None
    return leaves, treedef, columns


def path_of(updates: Any, place: int) -> str:
    """Return the key path of the leaf number ``place``, as one would write it."""
    paths = tree.flatten_with_path(updates, is_leaf=is_none)[0]
    return f"updates{tree.keystr(paths[place][0])}"


def _without_partner(updates: Any, place: int) -> str:
    return (
        f"there is a gradient at {path_of(updates, place)}, but None in the parameters or in the "
        "state there: init the optimizer with the parameters that gradients are taken of"
    )


def check_shapes(what: str, updates: Any, others: Any) -> None:
    """Raise a ValueError if the shapes of two trees differ anywhere: they would broadcast."""
    leaves, _, (partners,) = _aligned(updates, (others,))
    for place, (update, other) in enumerate(zip(leaves, partners, strict=True)):
        if update is None or other is None:
            continue
        if fnp.shape(update) != fnp.shape(other):
            raise ValueError(
                f"{path_of(updates, place)} has shape {fnp.shape(update)}, but the {what} there "
                f"has shape {fnp.shape(other)}: they must be equal"
            )


# ------------------------------------------------------------------------------------------- pieces
def piece(
    state_type: type, init: Callable[[Any], Any], update: Callable[..., tuple[Any, Any]]
) -> GradientTransformation:
    """Return a transformation that refuses states which are not its own, saying so."""
    name = owner(init)

    def checked(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        check_state(name, state, state_type)
        return update(updates, state, params)

    return GradientTransformation(init, checked)


def piece_with_extra(
    state_type: type, init: Callable[[Any], Any], update: Callable[..., tuple[Any, Any]]
) -> GradientTransformationExtraArgs:
    """Do as `piece` does, for an update that takes extra arguments."""
    name = owner(init)

    def checked(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        check_state(name, state, state_type)
        return update(updates, state, params, **extra)

    return GradientTransformationExtraArgs(init, checked)


def owner(inner: Callable[..., Any]) -> str:
    """Return the name of the function in which ``inner`` was made: the one that users call."""
    return inner.__qualname__.partition(".")[0]


def check_state(name: str, state: Any, state_type: type) -> None:
    """Raise a TypeError if a state is not of the type that ``name`` makes."""
    if not isinstance(state, state_type):
        raise TypeError(
            f"{name} was given a state of type {type(state).__name__}, where it takes "
            f"{state_type.__name__}: pass the state that its init or its last update returned"
        )


def check_params(name: str, params: Any) -> Any:
    """Return ``params``, or raise a ValueError that ``name`` cannot do without."""
    if params is None:
        raise ValueError(f"{name} needs the parameters: call update(grads, state, params)")
    return params


def check_decay(name: str, **decays: Any) -> None:
    """Raise a ValueError for a decay, given as a number, that is not in [0, 1)."""
    for argument, value in decays.items():
        if isinstance(value, (int, float)) and not 0 <= value < 1:
            raise ValueError(f"{name} takes {argument} in [0, 1); it was given {value}")


def check_positive(name: str, zero: bool = True, **values: Any) -> None:
    """Raise a ValueError for a number that is negative, or 0 unless ``zero``, or nan."""
    for argument, value in values.items():
        fine = not isinstance(value, (int, float)) or value > 0 or (zero and value == 0)
        if not fine:
            least = "at least 0" if zero else "above 0"
            raise ValueError(f"{name} takes {argument} {least}; it was given {value}")


def with_extra_args_support(tx: GradientTransformation) -> GradientTransformationExtraArgs:
    """Let a transformation be called with extra arguments, which it ignores if it takes none.

    Args:
        tx: any transformation.

    Returns:
        One whose update takes named arguments.

    Raises:
        TypeError: ``tx`` is no transformation.

    Example:
        >>> t = optim.with_extra_args_support(optim.scale(2.0))
        >>> t.update([fnp.ones(1)], t.init(None), loss=1.0)[0]
        [Array([2.], dtype=float32)]
    """
    if isinstance(tx, GradientTransformationExtraArgs):
        return tx
    init, update = getattr(tx, "init", None), getattr(tx, "update", None)
    if not callable(init) or not callable(update):
        raise TypeError(
            f"a gradient transformation has an init and an update; got {type(tx).__name__}: "
            f"{tx!r:.80}"
        )
    if not isinstance(tx, GradientTransformation):  # an object of one's own, such as MultiSteps
        return GradientTransformationExtraArgs(init, update)

    def ignore(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        return update(updates, state, params)

    return GradientTransformationExtraArgs(init, ignore)


def stateless(f: Callable[[Any, Any], Any]) -> GradientTransformation:
    """Make a transformation without state of a function of updates and parameters.

    Args:
        f: from (updates, params) to updates; params may be None.

    Returns:
        The transformation.

    Example:
        >>> half = optim.stateless(lambda updates, params: ft.tree.map(lambda g: g / 2, updates))
        >>> half.update([fnp.ones(1)], half.init(None))[0]
        [Array([0.5], dtype=float32)]
    """
    return GradientTransformation(
        lambda params: EmptyState(), lambda updates, state, params=None: (f(updates, params), state)
    )


def stateless_with_tree_map(f: Callable[[Any, Any], Any]) -> GradientTransformation:
    """Make a transformation without state of a function of one update and its parameter.

    Args:
        f: from (update, param), arrays of one shape, to an update; param is None where update()
            was called without parameters.

    Returns:
        The transformation.

    Example:
        >>> t = optim.stateless_with_tree_map(lambda g, p: g * p)
        >>> t.update([fnp.ones(1)], t.init(None), [fnp.full(1, 3.0)])[0]
        [Array([3.], dtype=float32)]
    """

    def update(updates: Any, params: Any) -> Any:
        if params is None:
            return each(lambda g: f(g, None), updates)
        return each(f, updates, params)

    return stateless(update)


def identity() -> GradientTransformation:
    """Pass updates through unchanged.

    Returns:
        The transformation.

    Example:
        >>> from funtorch import optim
        >>> optim.identity().update([1.0], optim.EmptyState())
        ([1.0], EmptyState())
    """
    return stateless(lambda updates, params: updates)


def set_to_zero() -> GradientTransformation:
    """Replace all updates by zeros: parameters stay as they are.

    Returns:
        The transformation.

    Example:
        >>> optim.set_to_zero().update([fnp.ones(2)], optim.EmptyState())[0]
        [Array([0., 0.], dtype=float32)]
    """
    return stateless(lambda updates, params: each(fnp.zeros_like, updates))


def chain(*transformations: GradientTransformation) -> GradientTransformationExtraArgs:
    """Apply transformations one after another.

    Args:
        *transformations: each gets the updates of the one before it.

    Returns:
        One transformation; its state is the tuple of theirs. Extra arguments reach all of them.

    Raises:
        TypeError: one of them is no transformation.

    Example:
        >>> optimizer = optim.chain(optim.clip(1.0), optim.scale(-0.5))
        >>> optimizer.update([fnp.array([0.5, 9.0])], optimizer.init(None))[0]
        [Array([-0.25, -0.5 ], dtype=float32)]
    """
    parts = [with_extra_args_support(t) for t in transformations]

    def init(params: Any) -> tuple[Any, ...]:
        return tuple([t.init(params) for t in parts])

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, tuple[Any, ...]]:
        if not isinstance(state, (tuple, list)) or len(state) != len(parts):
            got = f"of {len(state)}" if isinstance(state, (tuple, list)) else type(state).__name__
            raise ValueError(
                f"a chain of {len(parts)} transformations was given a state {got}: use the state "
                "that this chain's init or update returned"
            )
        new_state = []
        for part, own in zip(parts, state, strict=True):
            updates, own = part.update(updates, own, params, **extra)
            new_state.append(own)
        return updates, tuple(new_state)

    return GradientTransformationExtraArgs(init, update)


def named_chain(
    *transformations: tuple[str, GradientTransformation],
) -> GradientTransformationExtraArgs:
    """Apply transformations one after another, and keep their states by name.

    Args:
        *transformations: pairs of a name and a transformation.

    Returns:
        One transformation; its state is a dict.

    Raises:
        ValueError: two have one name.

    Example:
        >>> t = optim.named_chain(("memory", optim.trace(0.9)), ("rate", optim.scale(-1.0)))
        >>> list(t.init([fnp.zeros(1)]))
        ['memory', 'rate']
    """
    names = [name for name, _ in transformations]
    if len(set(names)) < len(names):
        raise ValueError(f"named_chain takes different names; it was given {names}")
    parts = {name: with_extra_args_support(t) for name, t in transformations}

    def init(params: Any) -> dict[str, Any]:
        return OrderedDict((name, part.init(params)) for name, part in parts.items())

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, dict[str, Any]]:
        new_state = OrderedDict()
        for name, part in parts.items():
            updates, new_state[name] = part.update(updates, state[name], params, **extra)
        return updates, new_state

    return GradientTransformationExtraArgs(init, update)


# ----------------------------------------------------------------------------------------- applying
def apply_updates(params: Any, updates: Any) -> Any:
    """Add updates to parameters, in the parameters' dtypes.

    Args:
        params: a pytree of arrays, such as a model.
        updates: a pytree of the same structure and shapes; where it has None, the parameter stays.

    Returns:
        The new parameters.

    Raises:
        ValueError: structures or shapes differ.

    Example:
        >>> optim.apply_updates([fnp.array([1.0, 2.0])], [fnp.array([0.5, 0.0])])
        [Array([1.5, 2. ], dtype=float32)]
    """
    check_shapes("parameter", updates, params)

    def add(update: Any, param: Any) -> Any:
        if update is None or param is None:
            return param
        param = fnp.asarray(param)
        return (param + update).astype(param.dtype)

    leaves, treedef, (old,) = _aligned(updates, (params,))
    return tree.unflatten(treedef, map(add, leaves, old))


def incremental_update(new_tensors: Any, old_tensors: Any, step_size: Any) -> Any:
    """Move slowly changing parameters towards new ones.

    Args:
        new_tensors: a pytree of arrays.
        old_tensors: a pytree of the same structure.
        step_size: part of the way to go, in [0, 1].

    Returns:
        ``step_size * new + (1 - step_size) * old``.

    Example:
        >>> optim.incremental_update([fnp.ones(1)], [fnp.zeros(1)], 0.25)
        [Array([0.25], dtype=float32)]

    References:
        Polyak & Juditsky, "Acceleration of stochastic approximation by averaging" (1992).
    """
    return each(lambda n, o: step_size * n + (1.0 - step_size) * o, new_tensors, old_tensors)


def periodic_update(new_tensors: Any, old_tensors: Any, steps: Any, update_period: int) -> Any:
    """Take new parameters every so many steps, and keep the old ones in between.

    Args:
        new_tensors: a pytree of arrays.
        old_tensors: a pytree of the same structure, shapes and dtypes.
        steps: number of steps taken, an integer.
        update_period: steps between two changes.

    Returns:
        ``new_tensors`` if ``steps`` is a multiple of ``update_period``, else ``old_tensors``.

    Example:
        >>> [int(optim.periodic_update(1, 0, step, 3)) for step in range(5)]
        [1, 0, 0, 1, 0]
    """
    return lax.cond(
        fnp.asarray(steps) % update_period == 0, lambda new, old: new, lambda new, old: old,
        new_tensors, old_tensors,
    )  # fmt: skip
