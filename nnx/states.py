"""State dicts: the arrays of a model by their dotted paths, which are PyTorch's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

import funtorch as ft
import funtorch.numpy as fnp

from .module import Leaf, is_array, named_leaves, typed

__all__ = ["load_state_dict", "state_dict"]

M = TypeVar("M")


def _unique_leaves(model: Any) -> list[Leaf]:
    leaves = list(named_leaves(model))
    seen: set[str] = set()
    for leaf in leaves:
        if leaf.name in seen:
            raise ValueError(
                f"two arrays of the model have the dotted name {leaf.name!r}: a dict in it has a "
                "key with a dot in it. Rename that key"
            )
        seen.add(leaf.name)
    return leaves


def state_dict(model: Any) -> dict[str, Any]:
    """List the arrays of a model by their dotted paths.

    Args:
        model: a module, or any pytree of arrays.

    Returns:
        A dict such as ``{'l1.weight': ..., 'l1.bias': ...}``, ready for `funtorch.io.save`.

    Raises:
        ValueError: two arrays have the same dotted path.

    Example:
        >>> from funtorch import nnx, random
        >>> list(nnx.state_dict(nnx.Sequential(nnx.Linear(2, 3, key=random.key(0)), nnx.ReLU())))
        ['0.weight', '0.bias']
    """
    return {leaf.name: leaf.value for leaf in _unique_leaves(model) if is_array(leaf.value)}


def load_state_dict(model: M, state: Mapping[str, Any]) -> M:
    """Make a copy of a model whose arrays are those of a state dict.

    Arrays are converted to the model's dtypes within one kind (float to float), and never change
    shape.

    Args:
        model: a module, or any pytree of arrays; only its structure, shapes and dtypes matter.
        state: arrays by dotted path, as from `state_dict`, `funtorch.io.load` or a PyTorch module,
            whose tensors are copied.

    Returns:
        A model of the same structure.

    Raises:
        ValueError: names are missing or unknown, or shapes or kinds differ; all of them are named.

    Example:
        >>> from funtorch import nnx, random
        >>> a, b = (nnx.Linear(2, 3, key=random.key(i)) for i in range(2))
        >>> c = nnx.load_state_dict(b, nnx.state_dict(a))
        >>> bool((c.weight == a.weight).all())
        True
    """
    named = _unique_leaves(model)
    wanted = {leaf.name: leaf.value for leaf in named if is_array(leaf.value)}
    state = {name: _given(x) for name, x in state.items()}
    problems = [f"missing: {name} {typed(wanted[name])}" for name in wanted if name not in state]
    problems += [f"unknown: {name} {typed(state[name])}" for name in state if name not in wanted]
    problems += [
        f"different: {name} is {typed(wanted[name])} in the model, {typed(state[name])} given"
        for name in wanted
        if name in state and not _fits(state[name], wanted[name])
    ]
    if problems:
        raise ValueError(
            f"the state dict does not fit {type(model).__name__}:\n  " + "\n  ".join(problems)
        )
    leaves = [
        fnp.asarray(state[name], dtype=leaf.dtype) if name in wanted else leaf
        for name, leaf, *_ in named
    ]
    return ft.tree.unflatten(ft.tree.structure(model), leaves)


def _given(x: Any) -> Any:
    """Return an array as it is, and a copy of another library's, which may change in place."""
    foreign = hasattr(x, "__dlpack__") and not isinstance(x, ft.Array | np.ndarray)
    if str(getattr(x, "dtype", None)) == "torch.bfloat16":  # which PyTorch hands to nobody
        x = x.float()
    return fnp.array(x) if foreign or not is_array(x) else x


def _fits(given: Any, wanted: Any) -> bool:
    same_kind = _kind(given) == _kind(wanted)
    return tuple(given.shape) == tuple(wanted.shape) and same_kind


def _kind(x: Any) -> str:
    kinds = ("floating", "complexfloating", "integer", "bool_")
    matches = (kind for kind in kinds if fnp.issubdtype(x.dtype, getattr(fnp, kind)))
    return next(matches, str(x.dtype))
