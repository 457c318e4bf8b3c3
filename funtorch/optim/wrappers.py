"""Transformations of some parameters only: masks, groups, and trees as vectors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch import tree
from funtorch.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    check_state,
    is_none,
    piece_with_extra,
    set_to_zero,
    with_extra_args_support,
)
from funtorch.optim.states import ParamsPlaceholder

__all__ = [
    "MaskedNode",
    "MaskedState",
    "MultiTransformState",
    "PartitionState",
    "flatten",
    "freeze",
    "masked",
    "multi_transform",
    "partition",
    "selective_transform",
]


class MaskedState(NamedTuple):
    """The state of what works on the parameters that are not masked."""

    inner_state: Any


class MaskedNode(NamedTuple):
    """What stands where a mask left a parameter out; it has no leaves."""


class PartitionState(NamedTuple):
    """The states of the groups, by label."""

    inner_states: Mapping[Hashable, Any]


MultiTransformState = PartitionState


def _chosen(mask: Any, example: Any) -> Any:
    """Return the tree of a mask or of labels: given, or a function of parameters."""
    leaves = tree.leaves(mask)
    return mask(example) if leaves and all(map(callable, leaves)) else mask


def _left_out(mask: Any, of: Any) -> Any:
    """Return a tree with a `MaskedNode` wherever the mask, which may be a prefix, is false."""
    return tree.map(lambda m, x: x if m else MaskedNode(), mask, of, is_leaf=is_none)


def masked(
    inner: GradientTransformation, mask: Any, *, mask_compatible_extra_args: bool = False
) -> GradientTransformationExtraArgs:
    """Transform the updates of some parameters, and pass on the others.

    Args:
        inner: the transformation; it sees only the parameters that are not left out.
        mask: a pytree of bools, like the parameters or a prefix of them, or a function from
            parameters to one.
        mask_compatible_extra_args: whether extra arguments of the structure of the updates are
            masked too.

    Returns:
        The transformation.

    Raises:
        ValueError: the mask's structure is not that of the parameters.

    Example:
        >>> t = optim.masked(optim.scale(-1.0), {"w": True, "b": False})
        >>> t.update({"w": 1.0, "b": 1.0}, t.init({"w": 0.0, "b": 0.0}))[0]
        {'b': 1.0, 'w': Array(-1., dtype=float32)}
    """
    inner = with_extra_args_support(inner)

    def init(params: Any) -> MaskedState:
        if isinstance(params, ParamsPlaceholder):
            return MaskedState(inner.init(params))
        return MaskedState(inner.init(_left_out(_chosen(mask, params), params)))

    def update(
        updates: Any, state: MaskedState, params: Any = None, **extra: Any
    ) -> tuple[Any, MaskedState]:
        chosen = _chosen(mask, updates if params is None else params)
        if mask_compatible_extra_args:
            like = tree.structure(updates)
            extra = {
                k: _left_out(chosen, v) if tree.structure(v) == like else v
                for k, v in extra.items()
            }
        hidden = None if params is None else _left_out(chosen, params)
        new, inner_state = inner.update(
            _left_out(chosen, updates), state.inner_state, hidden, **extra
        )
        updates = tree.map(
            lambda m, changed, old: changed if m else old, chosen, new, updates, is_leaf=is_none
        )
        return updates, MaskedState(inner_state)

    return piece_with_extra(MaskedState, init, update)


def freeze(mask: Any) -> GradientTransformationExtraArgs:
    """Set the updates of some parameters to zero.

    Args:
        mask: a pytree of bools, true where parameters stay as they are, or a function from
            parameters to one.

    Returns:
        The transformation.

    Example:
        >>> t = optim.freeze({"w": True, "b": False})
        >>> grads = {"w": fnp.ones(1), "b": fnp.ones(1)}
        >>> t.update(grads, t.init(grads))[0]
        {'b': Array([1.], dtype=float32), 'w': Array([0.], dtype=float32)}
    """
    return masked(set_to_zero(), mask)


def selective_transform(
    optimizer: GradientTransformation, *, freeze_mask: Any
) -> GradientTransformationExtraArgs:
    """Optimize some parameters, without any memory for the others, which stay.

    Args:
        optimizer: what the others are optimized by.
        freeze_mask: a pytree of bools, true where parameters stay as they are, or a function from
            parameters to one.

    Returns:
        The transformation.

    Example:
        >>> t = optim.selective_transform(optim.sgd(0.5), freeze_mask={"w": True, "b": False})
        >>> grads = {"w": fnp.ones(1), "b": fnp.ones(1)}
        >>> t.update(grads, t.init(grads))[0]
        {'b': Array([-0.5], dtype=float32), 'w': Array([0.], dtype=float32)}
    """

    def labels(params: Any) -> Any:
        return tree.map(lambda m: "freeze" if m else "train", _chosen(freeze_mask, params))

    return partition({"train": optimizer, "freeze": set_to_zero()}, labels)


def partition(
    transforms: Mapping[Hashable, GradientTransformation],
    param_labels: Any | Callable[[Any], Any],
    *,
    mask_compatible_extra_args: bool = False,
) -> GradientTransformationExtraArgs:
    """Transform groups of parameters differently, for example with rates of their own.

    Args:
        transforms: transformations by label.
        param_labels: a pytree of labels, like the parameters or a prefix of them, or a function
            from parameters to one.
        mask_compatible_extra_args: whether extra arguments of the structure of the updates are
            handed to each group masked.

    Returns:
        The transformation.

    Raises:
        ValueError: a label has no transformation.

    Example:
        >>> t = optim.partition(
        ...     {"fast": optim.sgd(1.0), "slow": optim.sgd(0.1)}, {"w": "slow", "b": "fast"}
        ... )
        >>> grads = {"w": fnp.ones(1), "b": fnp.ones(1)}
        >>> t.update(grads, t.init(grads))[0]
        {'b': Array([-1.], dtype=float32), 'w': Array([-0.1], dtype=float32)}
    """
    parts = {label: with_extra_args_support(t) for label, t in transforms.items()}

    def group(labels: Any, label: Hashable) -> GradientTransformationExtraArgs:
        return masked(
            parts[label],
            tree.map(lambda own: own == label, labels),
            mask_compatible_extra_args=mask_compatible_extra_args,
        )

    def init(params: Any) -> PartitionState:
        if isinstance(params, ParamsPlaceholder):
            return PartitionState({k: MaskedState(part.init(params)) for k, part in parts.items()})
        labels = _chosen(param_labels, params)
        unknown = sorted(set(tree.leaves(labels)) - set(parts), key=repr)
        if unknown:
            raise ValueError(
                f"partition: there are parameters labelled {', '.join(map(repr, unknown))}, but "
                f"transformations only for {', '.join(map(repr, parts))}"
            )
        return PartitionState({label: group(labels, label).init(params) for label in parts})

    def update(
        updates: Any, state: PartitionState, params: Any = None, **extra: Any
    ) -> tuple[Any, PartitionState]:
        labels = _chosen(param_labels, updates if params is None else params)
        new = {}
        for label in parts:
            check_state("partition", state.inner_states[label], MaskedState)
            updates, new[label] = group(labels, label).update(
                updates, state.inner_states[label], params, **extra
            )
        return updates, PartitionState(new)

    return piece_with_extra(PartitionState, init, update)


multi_transform = partition


def flatten(inner: GradientTransformation) -> GradientTransformationExtraArgs:
    """Let a transformation work on one vector of all parameters: few large arrays, not many small.

    Args:
        inner: the transformation; it must treat every element alike.

    Returns:
        The transformation.

    Example:
        >>> t = optim.flatten(optim.sgd(0.5))
        >>> grads = {"w": fnp.ones((1, 2)), "b": fnp.ones(1)}
        >>> t.update(grads, t.init(grads))[0]["w"]
        Array([[-0.5, -0.5]], dtype=float32)
    """
    inner = with_extra_args_support(inner)

    def ravel(of: Any) -> Any:
        parts = [fnp.ravel(x) for x in tree.leaves(of)]
        return fnp.concatenate(parts) if parts else fnp.zeros(0)

    def init(params: Any) -> Any:
        return inner.init(ravel(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        leaves, treedef = tree.flatten(updates)
        flat = None if params is None else ravel(params)
        moved, state = inner.update(ravel(updates), state, flat, **extra)
        parts, at = [], 0
        for leaf in leaves:
            size = fnp.size(leaf)
            parts.append(moved[at : at + size].reshape(fnp.shape(leaf)))
            at += size
        return tree.unflatten(treedef, parts), state

    return GradientTransformationExtraArgs(init, update)
