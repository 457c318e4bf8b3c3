"""Derivatives by the values of sparse arrays, at the places that they store."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from funtorch import transforms
from funtorch.transforms import vmap
from funtorch.tree import flatten, unflatten

from .base import JAXSparse

__all__ = ["grad", "jacfwd", "jacobian", "jacrev", "value_and_grad"]


def _is_sparse(x: Any) -> bool:
    return isinstance(x, JAXSparse)


def _by_values(args: Any, argnums: int | Sequence[int]) -> tuple[Any, Any, Any]:
    """Return the values of the chosen arguments, what puts values in their places, and what makes
    an argument's derivative of its values' derivatives."""
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    numbers = tuple(n % len(args) for n in numbers)
    chosen = [args[n] for n in numbers]
    leaves, treedef = flatten(chosen, is_leaf=_is_sparse)
    values = [x.data if _is_sparse(x) else x for x in leaves]

    def put(like: Any, value: Any) -> Any:
        if not _is_sparse(like):
            return value
        parts, tree = flatten(like)

        def one(v: Any) -> Any:
            return unflatten(tree, [v, *parts[1:]])

        return functools.reduce(lambda f, _: vmap(f), range(value.ndim - parts[0].ndim), one)(value)

    def arguments(new: Sequence[Any]) -> Any:
        made = unflatten(treedef, [put(x, v) for x, v in zip(leaves, new, strict=True)])
        out = list(args)
        for n, x in zip(numbers, made, strict=True):
            out[n] = x
        return out

    def derivative(found: Sequence[Any]) -> Any:
        made = unflatten(treedef, [put(x, d) for x, d in zip(leaves, found, strict=True)])
        return made[0] if isinstance(argnums, int) else tuple(made)

    return values, arguments, derivative


def _transformed(transform: Callable[..., Any], gives: str, text: str) -> Callable[..., Any]:
    def sparse_transform(
        fun: Callable[..., Any],
        argnums: int | Sequence[int] = 0,
        has_aux: bool = False,
        **options: Any,
    ) -> Callable[..., Any]:
        @functools.wraps(fun)
        def derived(*args: Any, **kwargs: Any) -> Any:
            values, arguments, derivative = _by_values(args, argnums)

            def of_values(values: Any) -> Any:
                return fun(*arguments(values), **kwargs)

            out = transform(of_values, has_aux=has_aux, **options)(values)
            if gives == "value and derivative":
                return out[0], derivative(out[1])
            return (derivative(out[0]), out[1]) if has_aux else derivative(out)

        return derived

    sparse_transform.__name__ = sparse_transform.__qualname__ = transform.__name__
    sparse_transform.__doc__ = f"""{text}

    Args:
        fun: a function of arrays and sparse arrays.
        argnums: which arguments to differentiate by.
        has_aux: whether ``fun`` returns something beside its result.
        options: what the function of the same name takes besides.

    Returns:
        A function; derivatives by a sparse array are sparse arrays with its places.

    References:
        jax.experimental.sparse.{transform.__name__}
    """
    return sparse_transform


value_and_grad = _transformed(
    transforms.value_and_grad,
    "value and derivative",
    "Return a function for the value and the gradient, by sparse arrays at their places.",
)
grad = _transformed(
    transforms.grad,
    "derivative",
    "Return a function for the gradient, by sparse arrays at their places.",
)
jacfwd = _transformed(
    transforms.jacfwd,
    "derivative",
    "Return a function for the Jacobian by forward mode, by sparse arrays at their places.",
)
jacrev = _transformed(
    transforms.jacrev,
    "derivative",
    "Return a function for the Jacobian by reverse mode, by sparse arrays at their places.",
)
jacobian = jacrev
