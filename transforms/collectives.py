"""Operations across named vmap axes: `psum` and relatives, `all_gather`, `all_to_all`, `ppermute`.

Each primitive works over one axis, and on the leading axis of its operand where it works on one;
the public functions take several names, any axis and whole pytrees.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch.core import ArrayImpl, Primitive, ShapedArray, _state
from funtorch.nccl import among_gpus
from funtorch.ops.elementwise import div, eq, mul, select
from funtorch.ops.families import broadcast_in_dim, full_like, linear_jvp, spread
from funtorch.ops.indexing import gather
from funtorch.ops.reduce import reduce_max, reduce_min, reduce_sum
from funtorch.ops.shape import iota, reshape
from funtorch.processes import Ranks

from .arguments import as_arrays
from .batching import Axis, move_axis
from .index_groups import IndexGroups

__all__ = [
    "all_gather",
    "all_to_all",
    "axis_index",
    "axis_size",
    "pcast",
    "pmax",
    "pmean",
    "pmin",
    "ppermute",
    "pshuffle",
    "psum",
    "psum_scatter",
    "pswapaxes",
    "pvary",
]

Apply = Callable[..., tuple[Any, bool]]


def _no_axis(axis_name: Hashable) -> NameError:
    known = ", ".join(repr(name) for name, _ in _state.axes)
    return NameError(
        f"unbound axis name: no axis named {axis_name!r} is being mapped here ("
        + (f"there is {known}" if known else "there is none")
        + f"); collectives work inside vmap(..., axis_name={axis_name!r}) and in shard_map"
    )


def _across(talk: Callable[..., Any]) -> Callable[..., Any]:
    """Return the eager rule of a collective: between processes, or else there is no axis.

    Args:
        talk: ``talk(communicator, x, **params)``, what is said.
    """

    def eager(xp: Any, *args: Any, axis_name: Hashable, **params: Any) -> Any:
        if type(axis_name) is not Ranks:
            raise _no_axis(axis_name)
        ranks = axis_name.communicator() if xp is np else among_gpus(axis_name)
        return talk(ranks, *args, **params)

    return eager


def _same_type(x: ShapedArray, *, axis_name: Hashable, **params: Any) -> ShapedArray:
    return x


def _collective(
    name: str,
    apply: Apply,
    talk: Callable[..., Any],
    type_rule: Callable[..., Any] = _same_type,
    *,
    takes_front: bool = False,
    gives_front: bool = False,
) -> Primitive:
    """Make a collective.

    Args:
        apply: ``apply(axis, x, batched, **params)``, its meaning under its own axis.
        talk: ``talk(communicator, x, **params)``, its meaning between processes.
        takes_front, gives_front: whether it takes a leading axis away, or makes one.
    """
    prim = Primitive(name)
    prim.type, prim.eager = type_rule, _across(talk)

    def batch(
        axis: Axis, args: Any, batched: Any, *, axis_name: Hashable, **params: Any
    ) -> tuple[Any, bool]:
        if axis.name == axis_name:
            return apply(axis, *args, *batched, **params)
        # Over another axis: the mapped one rides along behind the front.
        x = move_axis(args[0], 1, 0) if takes_front else args[0]
        out = prim.bind(x, axis_name=axis_name, **params)
        return (move_axis(out, 1, 0) if gives_front else out), True

    prim.batch = batch
    return prim


# --------------------------------------------------------------------------------------- reductions
def _psum_apply(axis: Axis, x: Any, batched: bool) -> tuple[Any, bool]:
    return (reduce_sum(x, axes=(0,)) if batched else mul(x, full_like(x, axis.size))), False


def _all_apply(reduce: Callable[..., Any]) -> Apply:
    return lambda axis, x, batched: (reduce(x, axes=(0,)) if batched else x, False)


def _reduced(operation: str) -> Callable[..., Any]:
    return lambda ranks, x: ranks.allreduce(x.copy(order="C"), operation)


psum_p = _collective("psum", _psum_apply, _reduced("sum"))
psum_p.jvp = linear_jvp(psum_p, lambda k: True)
psum_p.transpose = lambda ct, x, *, axis_name: [psum_p.bind(ct, axis_name=axis_name)]


def _extremum(name: str, reduce: Callable[..., Any]) -> Primitive:
    prim = _collective(name, _all_apply(reduce), _reduced(name[1:]))

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


all_gather_p = _collective(
    "all_gather",
    _gather_apply,
    lambda ranks, x, size: ranks.allgather(x),
    _gather_type,
    gives_front=True,
)
all_gather_p.jvp = linear_jvp(all_gather_p, lambda k: True)
all_gather_p.transpose = lambda ct, x, *, axis_name, size: [
    psum_scatter_p.bind(ct, axis_name=axis_name)
]


def _scatter_type(x: ShapedArray, *, axis_name: Hashable) -> ShapedArray:
    return x.update(shape=x.shape[1:])


def _scatter_apply(axis: Axis, x: Any, batched: bool) -> tuple[Any, bool]:
    return _psum_apply(axis, x, batched)[0], True  # place k of the sum belongs to lane k


psum_scatter_p = _collective(
    "psum_scatter",
    _scatter_apply,
    lambda ranks, x: ranks.reduce_scatter(x),
    _scatter_type,
    takes_front=True,
)
psum_scatter_p.jvp = linear_jvp(psum_scatter_p, lambda k: True)
psum_scatter_p.transpose = lambda ct, x, *, axis_name: [
    all_gather_p.bind(ct, axis_name=axis_name, size=x.aval.shape[0])
]


def _exchange_apply(axis: Axis, x: Any, batched: bool) -> tuple[Any, bool]:
    """Lane i gets at place j what lane j has at place i."""
    if batched:
        return move_axis(x, 1, 0), True
    shape = (axis.size, *x.shape)
    return broadcast_in_dim(x, shape=shape, dims=(0, *range(2, len(shape)))), True


all_to_all_p = _collective(
    "all_to_all",
    _exchange_apply,
    lambda ranks, x: ranks.alltoall(x),
    takes_front=True,
    gives_front=True,
)
all_to_all_p.jvp = linear_jvp(all_to_all_p, lambda k: True)
all_to_all_p.transpose = lambda ct, x, *, axis_name: [all_to_all_p.bind(ct, axis_name=axis_name)]


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


ppermute_p = _collective("ppermute", _ppermute_apply, lambda ranks, x, perm: ranks.permute(x, perm))
ppermute_p.jvp = linear_jvp(ppermute_p, lambda k: True)
ppermute_p.transpose = lambda ct, x, *, axis_name, perm: [
    ppermute_p.bind(ct, axis_name=axis_name, perm=tuple((d, s) for s, d in perm))
]


pvary_p = _collective(
    "pvary",
    lambda axis, x, batched: (x if batched else spread(x, axis.size), True),
    lambda ranks, x: x,
)
pvary_p.jvp = linear_jvp(pvary_p, lambda k: True)
pvary_p.transpose = lambda ct, x, *, axis_name: [ct]


axis_index_p = Primitive("axis_index")
axis_index_p.type = lambda *, axis_name: ShapedArray((), np.dtype(np.int32))
axis_index_p.eager = _across(lambda ranks: np.int32(ranks.rank))
axis_index_p.batch = lambda axis, args, batched, *, axis_name: (
    iota(shape=(axis.size,), axis=0, dtype=np.dtype(np.int32)),
    True,
)
axis_index_p.none.update(jvp="it takes no arrays", transpose="it takes no arrays")


# ------------------------------------------------------------------------------------------- public
def _names(axis_name: Any) -> Sequence[Hashable]:
    return axis_name if isinstance(axis_name, (tuple, list)) else (axis_name,)


def _size_of(axis_name: Hashable) -> int:
    for name, size in reversed(_state.axes):
        if name == axis_name:
            return size
    raise _no_axis(axis_name)


def _groups(
    what: str, axis_name: Any, axis_index_groups: Any, equal: bool = True
) -> IndexGroups | None:
    """Return the groups that a collective is among; None: all places are one."""
    if axis_index_groups is None:
        return None
    names = _names(axis_name)
    if len(names) > 1:
        raise ValueError(
            f"{what}: axis_index_groups are of the places of one axis, and axis_name has "
            f"{len(names)}, {tuple(names)}: name the one"
        )
    return IndexGroups(what, axis_index_groups, names[0], _size_of(names[0]), equal)


def _within(
    prim: Primitive, x: Any, name: Hashable, groups: IndexGroups | None, **params: Any
) -> Any:
    """Do a collective among all places, or those of a group."""
    if groups is None:
        return prim.bind(x, axis_name=name, **params)
    every = all_gather_p.bind(x, axis_name=name, size=_size_of(name))
    return groups.apply(prim.name, every, axis_index_p.bind(axis_name=name))


def _leaves(x: Any) -> tuple[list[Any], Any]:
    leaves, treedef = tree.flatten(x)
    return as_arrays(leaves, "x", None), treedef


def _each(
    prim: Primitive, x: Any, axis_name: Any, axis_index_groups: Any = None, **params: Any
) -> Any:
    out, treedef = _leaves(x)
    groups = _groups(prim.name, axis_name, axis_index_groups, equal=False)
    for name in _names(axis_name):
        _size_of(name)
        out = [_within(prim, a, name, groups, **params) for a in out]
    return treedef.unflatten(out)


def _axis_of(what: str, argument: str, axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise ValueError(f"{what}: {argument}={axis} is out of range for an array of rank {ndim}")
    return axis % ndim


def psum(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """Sum a pytree of arrays over a named mapped axis, or several.

    Args:
        x: pytree of arrays.
        axis_name: the name, or a tuple of names.
        axis_index_groups: the places of each group within which to sum; None: all are one group.
            Of any collective: each gets what all places have, and takes what its own group has.

    Returns:
        The sums, the same everywhere (in the group).

    Raises:
        NameError: if no axis of that name is being mapped.

    Example:
        >>> import funtorch as ft
        >>> ft.vmap(lambda v: v / ft.lax.psum(v, "i"), axis_name="i")(ft.numpy.array([1.0, 3.0]))
        Array([0.25, 0.75], dtype=float32)
    """
    return _each(psum_p, x, axis_name, axis_index_groups)


def pmean(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """Average a pytree of arrays over a named mapped axis, or several."""
    n: Any = axis_size(axis_name)
    if axis_index_groups is not None:
        n = psum(1, axis_name, axis_index_groups=axis_index_groups)
    total = psum(x, axis_name, axis_index_groups=axis_index_groups)
    return tree.map(lambda v: v / n, total)


def pmax(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """Take the maximum of a pytree of arrays over a named mapped axis, or several."""
    return _each(pmax_p, x, axis_name, axis_index_groups)


def pmin(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """Take the minimum of a pytree of arrays over a named mapped axis, or several."""
    return _each(pmin_p, x, axis_name, axis_index_groups)


def ppermute(x: Any, axis_name: Hashable, perm: Sequence[tuple[int, int]]) -> Any:
    """Send values along a named axis by (source, destination) pairs; places without a source get
    zeros.

    Raises:
        ValueError: if a place is out of range, or is a source or a destination twice.
    """
    pairs = tuple((int(s), int(d)) for s, d in perm)
    size = axis_size(axis_name)
    for what, places in (("source", [s for s, _ in pairs]), ("destination", [d for _, d in pairs])):
        if len(set(places)) < len(places) or any(not 0 <= p < size for p in places):
            raise ValueError(
                f"ppermute: each {what} must be a different place from 0 to {size - 1} of axis "
                f"{axis_name!r}, got {pairs}"
            )
    names = _names(axis_name)
    if len(names) == 1:
        return _each(ppermute_p, x, names, perm=pairs)
    source, received = np.zeros(size, np.int32), np.zeros(size, bool)
    for s, d in pairs:
        source[d], received[d] = s, True
    own = axis_index(names)

    def one(v: Any) -> Any:
        every = all_gather(v, names)
        at, some = (_entry(ArrayImpl(table), own) for table in (source, received))
        mask = broadcast_in_dim(some, shape=v.shape, dims=())
        return select(mask, _entry(every, at), full_like(v, 0))

    leaves, treedef = _leaves(x)
    return treedef.unflatten([one(v) for v in leaves])


def _entry(x: Any, at: Any) -> Any:
    return gather(x, at, axes=(0,), mode="clip", fill=None)


def pshuffle(x: Any, axis_name: Hashable, perm: Sequence[int]) -> Any:
    """Permute a pytree of arrays along a named axis: place k gets what place ``perm[k]`` has.

    Example:
        >>> import funtorch as ft
        >>> ft.vmap(lambda v: ft.lax.pshuffle(v, "i", [2, 0, 1]), axis_name="i")(ft.numpy.arange(3))
        Array([2, 0, 1], dtype=int32)
    """
    places = [int(p) for p in perm]
    if sorted(places) != list(range(len(places))):
        raise ValueError(f"pshuffle: perm does not represent a permutation: {places}")
    return ppermute(x, axis_name, list(zip(places, range(len(places)), strict=True)))


def all_gather(
    x: Any,
    axis_name: Any,
    *,
    axis_index_groups: Any = None,
    axis: int = 0,
    tiled: bool = False,
    to: str = "varying",
) -> Any:
    """Stack the values of all places along a new axis, the same everywhere.

    Args:
        x: pytree of arrays.
        axis_name: the name of the mapped axis, or a tuple of names.
        axis_index_groups: groups of places, of equal size, that stack their values; None: all.
        to: for compatibility.
        axis: where the new axis goes.
        tiled: whether to concatenate along that axis instead.

    Returns:
        pytree of arrays with one axis more, or with ``tiled`` a longer one.
    """
    groups = _groups("all_gather", axis_name, axis_index_groups)
    sizes = [_size_of(name) for name in _names(axis_name)] if groups is None else [groups.size]

    def one(v: Any) -> Any:
        at = _axis_of("all_gather", "axis", axis, v.ndim + (not tiled))
        shape = v.shape
        for name, size in zip(reversed(_names(axis_name)), reversed(sizes), strict=True):
            v = _within(all_gather_p, v, name, groups, size=size)
        v = reshape(v, shape=(int(np.prod(sizes)), *shape))
        return _merged(move_axis(v, 0, at), at) if tiled else move_axis(v, 0, at)

    leaves, treedef = _leaves(x)
    return treedef.unflatten([one(v) for v in leaves])


def _merged(v: Any, at: int) -> Any:
    """Return an array with axes ``at`` and ``at + 1`` as one."""
    shape = v.shape
    return reshape(v, shape=(*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]))


def _in_parts(what: str, v: Any, at: int, size: int, axis_name: Hashable) -> Any:
    """Return an array with axis ``at`` divided into (size, rest)."""
    if v.shape[at] % size:
        raise ValueError(
            f"{what}: axis {at} of {v.aval.str_short()} must be divisible by {size}, the size of "
            f"the mapped axis {axis_name!r}"
        )
    return reshape(v, shape=(*v.shape[:at], size, v.shape[at] // size, *v.shape[at + 1 :]))


def _by_names(v: Any, axis_name: Any) -> Any:
    """Return an array whose leading axis, that of several mapped ones together, is one for each."""
    return reshape(v, shape=(*[_size_of(name) for name in _names(axis_name)], *v.shape[1:]))


def _check_size(what: str, v: Any, at: int, size: int, axis_name: Hashable) -> None:
    if v.shape[at] != size:
        raise ValueError(
            f"{what}: axis {at} of {v.aval.str_short()} must have the size of the mapped axis "
            f"{axis_name!r}, which is {size}; tiled=True divides longer ones into parts"
        )


def psum_scatter(
    x: Any,
    axis_name: Hashable,
    *,
    scatter_dimension: int = 0,
    axis_index_groups: Any = None,
    tiled: bool = False,
) -> Any:
    """Sum over a named mapped axis, and leave at place k only part k of the sum.

    Args:
        x: pytree of arrays.
        axis_name: the name of the mapped axis.
        scatter_dimension: the axis whose parts are handed out.
        axis_index_groups: groups of places, of equal size, that do so among them; None: all.
        tiled: whether that axis stays, divided by the size of the mapped one, instead of going.

    Example:
        >>> import funtorch as ft
        >>> ft.vmap(lambda v: ft.lax.psum_scatter(v, "i"), axis_name="i")(
        ...     ft.numpy.arange(4).reshape(2, 2)
        ... )
        Array([2, 4], dtype=int32)
    """
    groups = _groups("psum_scatter", axis_name, axis_index_groups)
    size = axis_size(axis_name) if groups is None else groups.size

    def one(v: Any) -> Any:
        at = _axis_of("psum_scatter", "scatter_dimension", scatter_dimension, v.ndim)
        if tiled:
            v = _in_parts("psum_scatter", v, at, size, axis_name)
        else:
            _check_size("psum_scatter", v, at, size, axis_name)
        v = move_axis(v, at, 0)
        v = _by_names(v, axis_name) if groups is None else v
        for name in _names(axis_name):
            v = _within(psum_scatter_p, v, name, groups)
        return v

    leaves, treedef = _leaves(x)
    return treedef.unflatten([one(v) for v in leaves])


def all_to_all(
    x: Any,
    axis_name: Hashable,
    split_axis: int,
    concat_axis: int,
    *,
    axis_index_groups: Any = None,
    tiled: bool = False,
) -> Any:
    """Swap a named mapped axis with one of the arrays' own: place i gets part i of every place.

    Args:
        x: pytree of arrays.
        axis_name: the name of the mapped axis.
        split_axis: the axis whose parts are handed out.
        concat_axis: where, in the result, the parts of all places are.
        axis_index_groups: groups of places, of equal size, that do so among them; None: all.
        tiled: whether split_axis stays, divided by the size of the mapped axis, and parts are
            concatenated along concat_axis, instead of one axis going and one coming.

    Returns:
        pytree of arrays.

    Raises:
        ValueError: if split_axis does not have the size of the mapped axis (with ``tiled``, a
            multiple of it).

    Example:
        >>> import funtorch as ft
        >>> ft.vmap(lambda v: ft.lax.all_to_all(v, "i", 0, 0), axis_name="i")(
        ...     ft.numpy.arange(4).reshape(2, 2)
        ... )
        Array([[0, 2],
               [1, 3]], dtype=int32)
    """
    groups = _groups("all_to_all", axis_name, axis_index_groups)
    size = axis_size(axis_name) if groups is None else groups.size

    def one(v: Any) -> Any:
        at = _axis_of("all_to_all", "split_axis", split_axis, v.ndim)
        to = _axis_of("all_to_all", "concat_axis", concat_axis, v.ndim)
        if tiled:
            v = _in_parts("all_to_all", v, at, size, axis_name)
        else:
            _check_size("all_to_all", v, at, size, axis_name)
        out = move_axis(v, at, 0)
        out = _by_names(out, axis_name) if groups is None else out
        for k, name in enumerate(_names(axis_name)):
            out = move_axis(_within(all_to_all_p, move_axis(out, k, 0), name, groups), 0, k)
        out = reshape(out, shape=(size, *out.shape[len(_names(axis_name)) :]))
        return _merged(move_axis(out, 0, to), to) if tiled else move_axis(out, 0, to)

    leaves, treedef = _leaves(x)
    return treedef.unflatten([one(v) for v in leaves])


def pswapaxes(x: Any, axis_name: Hashable, axis: int, *, axis_index_groups: Any = None) -> Any:
    """Swap a named mapped axis with axis ``axis`` of the arrays, of the same size.

    Example:
        >>> import funtorch as ft
        >>> ft.vmap(lambda v: ft.lax.pswapaxes(v, "i", 0), axis_name="i")(
        ...     ft.numpy.arange(4).reshape(2, 2)
        ... )
        Array([[0, 2],
               [1, 3]], dtype=int32)
    """
    return all_to_all(x, axis_name, axis, axis, axis_index_groups=axis_index_groups)


def axis_index(axis_name: Any) -> Any:
    """Return this place's index along a named mapped axis, an int32 scalar.

    Of several names the last counts fastest.
    """
    index: Any = None
    for name in _names(axis_name):
        size = _size_of(name)
        own = axis_index_p.bind(axis_name=name)
        index = own if index is None else index * size + own
    return index


def pvary(x: Any, axis_name: Any) -> Any:
    """Return the same values, counted as different along named axes from now on.

    Loops inside `funtorch.shard_map` need it for a carry that is the same on all devices at first.
    """
    return _each(pvary_p, x, axis_name)


def pcast(x: Any, axis_name: Any = None, /, *, to: str) -> Any:
    """Return the same values, counted as different along named axes: `pvary`.

    Raises:
        ValueError: ``to`` is another kind than 'varying'.
    """
    if to != "varying":
        raise ValueError(f"pcast: to='varying' is the one way to cast, got {to!r}")
    return pvary(x, axis_name)


def axis_size(axis_name: Any) -> int:
    """Return the size of a named mapped axis, or the product of several, as a Python int."""
    size = 1
    for name in _names(axis_name):
        size *= _size_of(name)
    return size
