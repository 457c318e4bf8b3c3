"""Operations across a named vmap axis: `psum`, `pmean`, `pmax`, `pmin`, `all_gather`, `ppermute`,
`axis_index`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch.core import ArrayImpl, Primitive, ShapedArray
from funtorch.ops.elementwise import div, eq, mul, select
from funtorch.ops.families import broadcast_in_dim, full_like, linear_jvp, spread
from funtorch.ops.indexing import gather
from funtorch.ops.reduce import reduce_max, reduce_min, reduce_sum
from funtorch.ops.shape import iota

from .arguments import as_arrays
from .batching import Axis, move_axis

__all__ = ["all_gather", "axis_index", "axis_size", "pmax", "pmean", "pmin", "ppermute", "psum"]


def _unbound(xp: Any, *args: Any, axis_name: Hashable, **params: Any) -> Any:
    raise NameError(
        f"no axis named {axis_name!r} is being mapped here: collectives work inside vmap(..., "
        f"axis_name={axis_name!r})"
    )


def _same_type(x: ShapedArray, *, axis_name: Hashable, **params: Any) -> ShapedArray:
    return x


def _collective(
    name: str, apply: Callable[..., tuple[Any, bool]], type_rule: Callable[..., Any] = _same_type
) -> Primitive:
    """Make a collective; ``apply(axis, x, batched, **params)`` is its meaning under its own
    axis."""
    prim = Primitive(name)
    prim.type, prim.eager = type_rule, _unbound

    def batch(
        axis: Axis, args: Any, batched: Any, *, axis_name: Hashable, **params: Any
    ) -> tuple[Any, bool]:
        if axis.name == axis_name:
            return apply(axis, *args, *batched, **params)
        return _through(prim, axis, args[0], axis_name=axis_name, **params)

    prim.batch = batch
    return prim


def _through(prim: Primitive, axis: Axis, x: Any, **params: Any) -> tuple[Any, bool]:
    """Let a collective over another axis pass through a mapped one: its extra axis rides along."""
    out = prim.bind(x, **params)
    return (move_axis(out, 1, 0) if prim is all_gather_p else out), True


# --------------------------------------------------------------------------------------- reductions
def _psum_apply(axis: Axis, x: Any, batched: bool) -> tuple[Any, bool]:
    return (reduce_sum(x, axes=(0,)) if batched else mul(x, full_like(x, axis.size))), False


def _all_apply(reduce: Callable[..., Any]) -> Callable[..., tuple[Any, bool]]:
    return lambda axis, x, batched: (reduce(x, axes=(0,)) if batched else x, False)


psum_p = _collective("psum", _psum_apply)
psum_p.jvp = linear_jvp(psum_p, lambda k: True)
psum_p.transpose = lambda ct, x, *, axis_name: [psum_p.bind(ct, axis_name=axis_name)]


def _extremum(name: str, reduce: Callable[..., Any]) -> Primitive:
    prim = _collective(name, _all_apply(reduce))

    def jvp(primals: Any, tangents: Any, *, axis_name: Hashable) -> tuple[Any, Any]:
        (x,), (t,) = primals, tangents
        out = prim.bind(x, axis_name=axis_name)
        hit = eq(x, out)
        count = psum_p.bind(select(hit, full_like(x, 1), full_like(x, 0)), axis_name=axis_name)
        share = psum_p.bind(select(hit, t, full_like(t, 0)), axis_name=axis_name)
        return out, div(share, count)

    prim.jvp = jvp
    prim.none["transpose"] = "it is not linear"
    return prim


pmax_p = _extremum("pmax", reduce_max)
pmin_p = _extremum("pmin", reduce_min)


# ----------------------------------------------------------------------------------------- movement
def _gather_type(x: ShapedArray, *, axis_name: Hashable, size: int) -> ShapedArray:
    return x.update(shape=(size, *x.shape))


def _gather_apply(axis: Axis, x: Any, batched: bool, *, size: int) -> tuple[Any, bool]:
    return (x if batched else spread(x, axis.size)), False


all_gather_p = _collective("all_gather", _gather_apply, _gather_type)
all_gather_p.jvp = linear_jvp(all_gather_p, lambda k: True)


def _gather_transpose(ct: Any, x: Any, *, axis_name: Hashable, size: int) -> list[Any]:
    total = psum_p.bind(ct, axis_name=axis_name)
    own = axis_index_p.bind(axis_name=axis_name)
    return [gather(total, own, axes=(0,), mode="clip", fill=None)]


all_gather_p.transpose = _gather_transpose


def _ppermute_apply(
    axis: Axis, x: Any, batched: bool, *, perm: tuple[tuple[int, int], ...]
) -> tuple[Any, bool]:
    x = x if batched else spread(x, axis.size)
    source, received = np.zeros(axis.size, np.int32), np.zeros(axis.size, bool)
    for src, dst in perm:
        source[dst], received[dst] = src, True
    moved = gather(x, ArrayImpl(source), axes=(0,), mode="clip", fill=None)
    mask = broadcast_in_dim(ArrayImpl(received), shape=x.shape, dims=(0,))
    return select(mask, moved, full_like(moved, 0)), True


ppermute_p = _collective("ppermute", _ppermute_apply)
ppermute_p.jvp = linear_jvp(ppermute_p, lambda k: True)
ppermute_p.transpose = lambda ct, x, *, axis_name, perm: [
    ppermute_p.bind(ct, axis_name=axis_name, perm=tuple((d, s) for s, d in perm))
]


axis_index_p = Primitive("axis_index")
axis_index_p.type = lambda *, axis_name: ShapedArray((), np.dtype(np.int32))
axis_index_p.eager = _unbound
axis_index_p.batch = lambda axis, args, batched, *, axis_name: (
    iota(shape=(axis.size,), axis=0, dtype=np.dtype(np.int32)),
    True,
)
axis_index_p.none.update(jvp="it takes no arrays", transpose="it takes no arrays")


# ------------------------------------------------------------------------------------------- public
def _each(prim: Primitive, x: Any, axis_name: Any, **params: Any) -> Any:
    names: Sequence[Hashable] = axis_name if isinstance(axis_name, (tuple, list)) else (axis_name,)
    leaves, treedef = tree.flatten(x)
    out = as_arrays(leaves, "x", None)
    for name in names:
        out = [prim.bind(a, axis_name=name, **params) for a in out]
    return treedef.unflatten(out)


def psum(x: Any, axis_name: Any) -> Any:
    """Sum a pytree of arrays over a named mapped axis.

    Example:
        >>> import funtorch as ft
        >>> ft.vmap(lambda v: v / ft.lax.psum(v, "i"), axis_name="i")(ft.numpy.array([1.0, 3.0]))
        Array([0.25, 0.75], dtype=float32)
    """
    return _each(psum_p, x, axis_name)


def pmean(x: Any, axis_name: Any) -> Any:
    """Average a pytree of arrays over a named mapped axis."""
    n = axis_size(axis_name)
    return tree.map(lambda v: v / n, psum(x, axis_name))


def pmax(x: Any, axis_name: Any) -> Any:
    """Take the maximum of a pytree of arrays over a named mapped axis."""
    return _each(pmax_p, x, axis_name)


def pmin(x: Any, axis_name: Any) -> Any:
    """Take the minimum of a pytree of arrays over a named mapped axis."""
    return _each(pmin_p, x, axis_name)


def ppermute(x: Any, axis_name: Hashable, perm: Sequence[tuple[int, int]]) -> Any:
    """Send values along a named axis by (source, destination) pairs; places without a source get
    zeros."""
    return _each(ppermute_p, x, axis_name, perm=tuple((int(s), int(d)) for s, d in perm))


def all_gather(x: Any, axis_name: Hashable, *, axis: int = 0) -> Any:
    """Stack the values of all places along a new axis, the same everywhere."""
    size = axis_size(axis_name)
    out = _each(all_gather_p, x, axis_name, size=size)
    return tree.map(lambda v: move_axis(v, 0, axis % v.ndim), out)


def axis_index(axis_name: Hashable) -> Any:
    """Return this place's index along a named mapped axis, an int32 scalar."""
    return axis_index_p.bind(axis_name=axis_name)


def axis_size(axis_name: Any) -> int:
    """Return the size of a named mapped axis as a Python int."""
    names = axis_name if isinstance(axis_name, (tuple, list)) else (axis_name,)
    size = 1
    for name in names:
        one = psum_p.bind(ArrayImpl(np.asarray(1, np.int32)), axis_name=name)
        size *= int(one)
    return size
