"""What programs of whole arrays are for one process of many, which holds parts of them.

A function of the parts (`shard_map`) is run as it is. Around it, elementwise operations on arrays
that are divided in the same way are done part by part; so are transposes, broadcasts, and sums,
maxima and minima, which processes put together. Everything else is computed by all of them, of the
whole arrays, which are gathered first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funtorch.core import ArrayImpl, Primitive, _state, primitives
from funtorch.jaxpr import Jaxpr, Lit, eval_jaxpr, stage, sub_jaxprs
from funtorch.ops.elementwise import mul
from funtorch.ops.families import ELEMENTWISE, full_like, scalar
from funtorch.ops.shape import dynamic_slice, reshape
from funtorch.placement import spread_rules
from funtorch.sharding import Mesh, NamedSharding, PartitionSpec, axes_of
from funtorch.spread import GlobalArray
from funtorch.watch import during

from .batching import move_axis
from .collectives import all_gather_p, axis_index_p
from .ranks import bound, meet, ranks_along
from .shard_map import OWN, local_aval

__all__ = ["Piece", "divided", "gathered", "has_shard_map", "piece_of", "spread_jaxpr", "whole_of"]


class Piece(NamedTuple):
    """What this process has of an array: a part, or, where ``sharding`` is None, all of it."""

    value: Any
    sharding: NamedSharding | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole array."""
        shape = self.value.shape
        if self.sharding is None:
            return shape
        sizes = self.sharding.mesh.shape
        axes = axes_of(self.sharding.spec, len(shape))
        return tuple(
            n * math.prod(sizes[name] for name in names)
            for n, names in zip(shape, axes, strict=True)
        )


Spread = Callable[[Primitive, Sequence[Piece], dict[str, Any]], list[Piece]]


# ------------------------------------------------------------------------------------- moving parts
def divided(piece: Piece, mesh: Mesh, spec: Any) -> Any:
    """Return this process's part of an array that is to be divided so."""
    sharding = piece.sharding
    if spec is OWN:
        return piece.value
    if sharding is not None:
        if NamedSharding(mesh, spec).is_equivalent_to(sharding, piece.value.ndim):
            return piece.value
        piece = Piece(gathered(piece))
    x = piece.value
    starts: list[Any] = []
    sizes = local_aval(x.aval, mesh, spec).shape
    for n, names in zip(sizes, axes_of(spec, x.ndim), strict=True):
        if not names:
            starts.append(_ZERO)
            continue
        index = axis_index_p.bind(axis_name=ranks_along(mesh, names))
        starts.append(mul(index, full_like(index, n)))
    return dynamic_slice(x, *starts, sizes=sizes) if sizes != x.shape else x


_ZERO = scalar(0, np.int32)


def gathered(piece: Piece) -> Any:
    """Return all of an array; every process calls it."""
    x, sharding = piece
    if sharding is None:
        return x
    for axis, names in enumerate(axes_of(sharding.spec, x.ndim)):
        ranks = ranks_along(sharding.mesh, names) if names else None
        if ranks is None or ranks.size == 1:
            continue
        parts = move_axis(all_gather_p.bind(x, axis_name=ranks, size=ranks.size), 0, axis)
        shape = (*x.shape[:axis], x.shape[axis] * ranks.size, *x.shape[axis + 1 :])
        x = reshape(parts, shape=shape)
    return x


def piece_of(x: Any) -> Piece:
    """Return what this process has of a concrete array."""
    return Piece(x._local, x.sharding) if type(x) is GlobalArray else Piece(x)


def whole_of(piece: Piece) -> Any:
    """Return the array that a process has a part of."""
    value, sharding = piece
    if sharding is None:
        return value
    return GlobalArray(value, piece.shape, sharding)


# ------------------------------------------------------------------------------------------- rules
def _of_shard_map(prim: Primitive, pieces: Sequence[Piece], params: dict[str, Any]) -> list[Piece]:
    mesh, outs = params["mesh"], params["out_specs"]
    pairs = zip(pieces, params["in_specs"], strict=True)
    parts = [divided(p, mesh, spec) for p, spec in pairs]
    program = bound(params["jaxpr"], mesh)
    if all(isinstance(x, ArrayImpl) for x in parts):
        with during(meet(program, "a function of shard_map")):
            results = eval_jaxpr(program, *parts)
    else:
        results = eval_jaxpr(program, *parts)
    return [Piece(x, _sharding(mesh, spec)) for x, spec in zip(results, outs, strict=True)]


def _sharding(mesh: Mesh, spec: Any) -> NamedSharding | None:
    """Return how a result is divided, None if it is not."""
    if spec is OWN:
        return None
    sharding = NamedSharding(mesh, spec)
    return None if sharding.is_fully_replicated else sharding


def _of_elementwise(
    prim: Primitive, pieces: Sequence[Piece], params: dict[str, Any]
) -> list[Piece]:
    sharding = next(p.sharding for p in pieces if p.sharding is not None)
    parts = [divided(p, sharding.mesh, sharding.spec) for p in pieces]
    return [Piece(prim.bind(*parts, **params), sharding)]


def _renamed(sharding: NamedSharding, names: Sequence[Any]) -> NamedSharding | None:
    """Return a sharding with other names for the axes of an array."""
    return _sharding(sharding.mesh, PartitionSpec(*[n or None for n in names]))


def _of_transpose(prim: Primitive, pieces: Sequence[Piece], params: dict[str, Any]) -> list[Piece]:
    x, sharding = pieces[0]
    assert sharding is not None
    axes = axes_of(sharding.spec, x.ndim)
    out = prim.bind(x, **params)
    return [Piece(out, _renamed(sharding, [axes[k] for k in params["perm"]]))]


def _of_broadcast(prim: Primitive, pieces: Sequence[Piece], params: dict[str, Any]) -> list[Piece]:
    (piece,) = pieces
    x, sharding = piece
    assert sharding is not None
    shape = list(params["shape"])
    names: list[tuple[Hashable, ...]] = [()] * len(shape)
    for k, (axis, own) in enumerate(
        zip(params["dims"], axes_of(sharding.spec, x.ndim), strict=True)
    ):
        if own:
            shape[axis], names[axis] = x.shape[k], own
    out = prim.bind(x, shape=tuple(shape), dims=params["dims"])
    return [Piece(out, _renamed(sharding, names))]


_TOGETHER = {"reduce_sum": "psum", "reduce_max": "pmax", "reduce_min": "pmin"}


def _of_reduction(prim: Primitive, pieces: Sequence[Piece], params: dict[str, Any]) -> list[Piece]:
    x, sharding = pieces[0]
    assert sharding is not None
    axes, reduced = axes_of(sharding.spec, x.ndim), params["axes"]
    names = tuple(n for k in reduced for n in axes[k])
    out = prim.bind(x, **params)
    if names:
        out = _put_together(_TOGETHER[prim.name], out, sharding.mesh, names)
    return [Piece(out, _renamed(sharding, [a for k, a in enumerate(axes) if k not in reduced]))]


def _put_together(name: str, x: Any, mesh: Mesh, names: tuple[Hashable, ...]) -> Any:
    jaxpr = stage(lambda v: [_over(name, v, names)], [x.aval])
    (out,) = eval_jaxpr(bound(jaxpr, mesh), x)
    return out


def _over(name: str, x: Any, names: tuple[Hashable, ...]) -> Any:
    for axis in names:
        x = primitives[name].bind(x, axis_name=axis)
    return x


def _of_call(prim: Primitive, pieces: Sequence[Piece], params: dict[str, Any]) -> list[Piece]:
    return spread_jaxpr(params["jaxpr"], pieces)


_RULES: dict[str, Spread] = {
    "shard_map": _of_shard_map,
    "transpose": _of_transpose,
    "broadcast_in_dim": _of_broadcast,
    **dict.fromkeys(_TOGETHER, _of_reduction),
}


def _rule(prim: Primitive, pieces: Sequence[Piece], params: dict[str, Any]) -> list[Piece]:
    """Do one operation."""
    spread = any(p.sharding is not None for p in pieces)
    if prim.call and (spread or has_shard_map(params["jaxpr"])):
        return _of_call(prim, pieces, params)
    if prim.spreads:
        return _of_shard_map(prim, pieces, params)
    if spread and prim.name in ELEMENTWISE:
        return _of_elementwise(prim, pieces, params)
    if spread and prim.name in _RULES:
        return _RULES[prim.name](prim, pieces, params)
    params = {k: _replicated_value(v) for k, v in params.items()}
    out = prim.bind(*[gathered(p) for p in pieces], **params)
    return [Piece(x) for x in (out if prim.multiple_results else [out])]


# ---------------------------------------------------------------------------------------- programs
def has_shard_map(jaxpr: Jaxpr) -> bool:
    """Tell whether a program runs functions of parts of arrays."""
    found = jaxpr.memo.get("spreads")
    if found is None:
        found = jaxpr.memo["spreads"] = any(
            eqn.prim.spreads or any(map(has_shard_map, sub_jaxprs(eqn.params)))
            for eqn in jaxpr.eqns
        )
    return found


def spread_jaxpr(jaxpr: Jaxpr, pieces: Sequence[Piece]) -> list[Piece]:
    """Run a program without constants of its own, in the current trace, for this process."""
    env: dict[Any, Piece] = dict(zip(jaxpr.invars, pieces, strict=True))
    line = _state.source
    try:
        for eqn in jaxpr.eqns:
            if eqn.source is not None:
                _state.source = eqn.source
            ins = [Piece(v.val) if type(v) is Lit else env[v] for v in eqn.invars]
            env.update(zip(eqn.outvars, _rule(eqn.prim, ins, eqn.params), strict=True))
    finally:
        _state.source = line
    return [Piece(v.val) if type(v) is Lit else env[v] for v in jaxpr.outvars]


def _replicated(jaxpr: Jaxpr) -> Jaxpr:
    """Return a program whose inputs and results every process has all of."""
    if not has_shard_map(jaxpr):
        return jaxpr
    if "replicated" not in jaxpr.memo:

        def run(*args: Any) -> list[Any]:
            return [gathered(p) for p in spread_jaxpr(jaxpr, [Piece(x) for x in args])]

        jaxpr.memo["replicated"] = stage(run, jaxpr.in_avals)
    return jaxpr.memo["replicated"]


def _replicated_value(value: Any) -> Any:
    if isinstance(value, Jaxpr):
        return _replicated(value)
    if isinstance(value, tuple) and any(isinstance(v, Jaxpr) for v in value):
        return tuple(map(_replicated_value, value))
    return value


# ----------------------------------------------------------------------------------- outside of jit
def _process(prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
    """Compute a primitive on concrete arrays, of which processes have parts."""
    outs = [whole_of(p) for p in _rule(prim, [piece_of(x) for x in args], params)]
    return outs if prim.multiple_results else outs[0]


spread_rules.append(_process)
