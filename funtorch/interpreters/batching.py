"""Batching rules of primitives under the names of jax.interpreters.batching."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from funtorch.core import Primitive
from funtorch.interpreters.ad import _Rules
from funtorch.numpy import moveaxis
from funtorch.numpy.promotion import asarray
from funtorch.ops.families import spread

__all__ = [
    "axis_primitive_batchers",
    "bdim_at_front",
    "broadcast",
    "defbroadcasting",
    "defreducer",
    "defvectorized",
    "fancy_primitive_batchers",
    "moveaxis",
    "not_mapped",
    "primitive_batchers",
]

Rule = Callable[..., Any]
not_mapped = None


def bdim_at_front(x: Any, bdim: int | None, size: int) -> Any:
    """Return an array with its batch axis in front, which one that has none is given.

    Example:
        >>> import funtorch.numpy as jnp
        >>> bdim_at_front(jnp.zeros((2, 3)), 1, 3).shape, bdim_at_front(jnp.zeros(2), None, 3).shape
        ((3, 2), (3, 2))
    """
    return spread(asarray(x), size) if bdim is None else moveaxis(x, bdim, 0)


def broadcast(x: Any, sz: int, axis: int, mesh_axis: Any = None) -> Any:
    """Return an array that has equal lanes along a new axis."""
    return moveaxis(spread(asarray(x), sz), 0, axis)


def _install(prim: Primitive, rule: Rule, with_axis: bool = False) -> None:
    def batch(axis: Any, args: Any, batched: Any, **params: Any) -> Any:
        dims = tuple([0 if b else not_mapped for b in batched])
        head = (axis,) if with_axis else ()
        out, out_dims = rule(*head, tuple(args), dims, **params)
        outs, dims = (out, out_dims) if prim.multiple_results else ([out], [out_dims])
        if not isinstance(dims, (tuple, list)):
            dims = [dims] * len(outs)
        outs = [
            asarray(o) if d is None else moveaxis(o, d, 0) for o, d in zip(outs, dims, strict=True)
        ]
        flags = [d is not None for d in dims]
        return (outs, flags) if prim.multiple_results else (outs[0], flags[0])

    prim.batch = batch


primitive_batchers: dict[Primitive, Rule] = _Rules(_install)
# rule(args, dims, **params) -> (result, its batch axis); axes are None for what is not mapped.
fancy_primitive_batchers: dict[Primitive, Rule] = _Rules(partial(_install, with_axis=True))
# rule(axis, args, dims, **params): the axis that is mapped has a ``size`` and a ``name``.


def _install_with_size(prim: Primitive, rule: Rule) -> None:
    def batch(axis: Any, args: Any, dims: Any, **params: Any) -> Any:
        return rule(axis.size, axis.name, None, args, dims, **params)

    fancy_primitive_batchers[prim] = batch


axis_primitive_batchers: dict[Primitive, Rule] = _Rules(_install_with_size)
# rule(axis size, axis name, None, args, dims, **params).


def defreducer(prim: Primitive, ident: Any = None) -> None:
    """Say that a primitive reduces the axes that its parameter ``axes`` names."""

    def rule(args: Any, dims: Any, axes: Any, **params: Any) -> Any:
        (x,) = [bdim_at_front(x, d, 0) for x, d in zip(args, dims, strict=True)]
        return prim.bind(x, axes=tuple([a + 1 for a in axes]), **params), 0

    primitive_batchers[prim] = rule


def defvectorized(prim: Primitive) -> None:
    """Say that a primitive works element by element on arguments of one shape.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.extend.core import Primitive
        >>> half_p = Primitive("half")
        >>> _ = half_p.def_impl(lambda x: x / 2), half_p.def_abstract_eval(lambda x: x)
        >>> defvectorized(half_p)
        >>> ft.vmap(half_p.bind)(ft.numpy.ones(2))
        Array([0.5, 0.5], dtype=float32)
    """
    defbroadcasting(prim)


def defbroadcasting(prim: Primitive) -> None:
    """Say that a primitive works element by element; arguments that are not mapped are spread."""

    def rule(args: Any, dims: Any, **params: Any) -> Any:
        size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
        whole = [bdim_at_front(x, d, size) for x, d in zip(args, dims, strict=True)]
        out = prim.bind(*whole, **params)
        return out, [0] * len(out) if prim.multiple_results else 0

    primitive_batchers[prim] = rule
