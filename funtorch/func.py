"""The names of torch.func: modules as functions of their parameters, and transforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from funtorch import numpy, tree
from funtorch.transforms import (
    grad,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    value_and_grad,
    vjp,
    vmap,
)
from funtorch.tree_util import GetAttrKey, keystr, tree_leaves_with_path

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "linearize",
    "stack_module_state",
    "vjp",
    "vmap",
]

grad_and_value = value_and_grad
"""As `funtorch.value_and_grad`, whose results come in the other order than PyTorch's."""


def functional_call(
    module: Any, parameters: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
) -> Any:
    """Call a module with other parameters than its own.

    Args:
        module: a callable pytree of arrays, such as a `funtorch.nnx` module.
        parameters: a pytree like it, or a dictionary from names such as ``'layers.0.weight'`` to
            arrays, or several of them in a tuple; names are those of `funtorch.nnx.state_dict`, or
            of fields. What they do not name stays as it is.
        args: the positional arguments, as a tuple; or the only one.
        kwargs: the keyword arguments.

    Raises:
        KeyError: if a name is not one of the module's.

    Example:
        >>> import funtorch as ft
        >>> from funtorch import func, nnx
        >>> layer = nnx.Linear(2, 1, key=ft.random.key(0))
        >>> new = {"weight": ft.numpy.ones((1, 2)), "bias": ft.numpy.zeros(1)}
        >>> func.functional_call(layer, new, ft.numpy.asarray([1.0, 2.0]))
        Array([3.], dtype=float32)
    """
    if not isinstance(args, tuple):
        args = (args,)
    leaves, treedef = tree.flatten(module)
    if isinstance(parameters, tuple) and all(isinstance(p, Mapping) for p in parameters):
        parameters = {name: x for some in parameters for name, x in some.items()}
    if isinstance(parameters, Mapping):
        paths = [path for path, _ in tree_leaves_with_path(module)]
        names = [_dotted(module, path) for path in paths]
        places = {keystr(path, simple=True, separator="."): k for k, path in enumerate(paths)}
        places |= {name: k for k, name in enumerate(names)}
        unknown = sorted(parameters.keys() - places.keys())
        if unknown:
            raise KeyError(
                f"functional_call: the module has no parameters {unknown}; it has {names}"
            )
        for name, x in parameters.items():
            leaves[places[name]] = x
    else:
        leaves, given = tree.flatten(parameters)
        if given != treedef:
            raise TypeError(
                f"functional_call: parameters must have the module's structure, {treedef}; got "
                f"{given}"
            )
    return treedef.unflatten(leaves)(*args, **(kwargs or {}))


def _dotted(module: Any, path: Sequence[Any]) -> str:
    """Return a leaf's name in a state dict: nodes may call their fields otherwise there."""
    parts, node = [], module
    for key in path:
        name = keystr((key,), simple=True)
        field = isinstance(key, GetAttrKey)
        parts.append(node.dotted_name(name) if field and hasattr(node, "dotted_name") else name)
        node = getattr(node, name) if field else node[getattr(key, "key", getattr(key, "idx", 0))]
    return ".".join(filter(None, parts))


def stack_module_state(models: Sequence[Any]) -> Any:
    """Stack the parameters of equal modules, so that `vmap` runs all of them at once.

    Args:
        models: modules of one structure.

    Returns:
        A module each of whose arrays has a leading axis, one place per model.

    Raises:
        ValueError: if there are none, or their structures differ.

    Example:
        >>> import funtorch as ft
        >>> from funtorch import func, nnx
        >>> models = [nnx.Linear(2, 3, key=key) for key in ft.random.split(ft.random.key(0), 4)]
        >>> stacked = func.stack_module_state(models)
        >>> ft.vmap(lambda m, x: m(x), in_axes=(0, None))(stacked, ft.numpy.ones(2)).shape
        (4, 3)
    """
    models = list(models)
    if not models:
        raise ValueError("stack_module_state needs at least one model")
    first = tree.structure(models[0])
    for k, model in enumerate(models):
        if tree.structure(model) != first:
            raise ValueError(
                f"stack_module_state: model {k} has the structure {tree.structure(model)}, model "
                f"0 has {first}"
            )
    return tree.map(lambda *xs: numpy.stack(xs), *models)
