"""The names of torch.func, as PyTorch means them: modules as functions of their parameters, and
transforms."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from funtorch import numpy, transforms, tree
from funtorch.transforms import grad, hessian, jacfwd, jacrev, jvp, linearize, vjp
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


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Map a function over an axis of its arguments, as `funtorch.vmap` with PyTorch's names.

    Args:
        func: a function of arrays or pytrees of arrays.
        in_dims: the axis of each argument, or for all; None for what is the same in every call.
        out_dims: where the axis goes in the results.
        randomness: for compatibility: random numbers follow from keys.
        chunk_size: how many calls are made at once; None: all.

    Example:
        >>> import funtorch as ft
        >>> dots = ft.func.vmap(lambda x, y: x @ y, in_dims=(0, 1), chunk_size=2)
        >>> dots(ft.numpy.ones((3, 2)), ft.numpy.ones((2, 3)))
        Array([2., 2., 2.], dtype=float32)
    """
    if chunk_size is None:
        return transforms.vmap(func, in_axes=in_dims, out_axes=out_dims)

    @functools.wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        leaves, treedef = tree.flatten((args, kwargs))
        dims = tree.broadcast_prefix(in_dims, args, "in_dims", lambda x: x is None)
        dims += [0] * (len(leaves) - len(dims))
        moved = [
            numpy.moveaxis(x, d, 0) for x, d in zip(leaves, dims, strict=True) if d is not None
        ]

        def one(xs: list[Any]) -> Any:
            given = iter(xs)
            filled = [x if d is None else next(given) for x, d in zip(leaves, dims, strict=True)]
            own_args, own_kwargs = treedef.unflatten(filled)
            return func(*own_args, **own_kwargs)

        out = transforms.map(one, moved, batch_size=chunk_size)
        return transforms.vmap(lambda y: y, out_axes=out_dims)(out)

    return mapped


def grad_and_value(
    func: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """Make a function that returns a gradient and the value: ``(gradient, value)``.

    Args:
        func: a function that returns a real scalar; with ``has_aux`` a pair of it and other data.
        argnums: position, or positions, of what is differentiated.
        has_aux: whether there are other data; the result is then ``(gradient, (value, data))``.

    Example:
        >>> import funtorch as ft
        >>> slope, value = ft.func.grad_and_value(lambda x: x**2)(3.0)
        >>> float(slope), float(value)
        (6.0, 9.0)
    """
    both = transforms.value_and_grad(func, argnums=argnums, has_aux=has_aux)

    @functools.wraps(func)
    def swapped(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[::-1]

    return swapped


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
