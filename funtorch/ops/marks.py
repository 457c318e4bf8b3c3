"""Primitives that change no value and tell transforms and the compiler something.

name(x; name)             what policies of `checkpoint` know a value by
optimization_barrier(*xs) what is computed from the results is computed after everything before
                          it, and anew
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funtorch.core import Primitive, ShapedArray, aval_of
from funtorch.ops.families import linear, zeros

__all__ = ["name", "name_p", "optimization_barrier", "optimization_barrier_p"]


def _same_type(x: ShapedArray, *, name: str) -> ShapedArray:
    return x


name_p = linear(
    "name",
    type=_same_type,
    eager=lambda xp, x, *, name: x,
    transpose=lambda ct, x, *, name: [ct],
    batch=lambda axis, args, batched, *, name: (name_p.bind(*args, name=name), True),
)
name_p.expand = lambda x, *, name: x
name = name_p.bind

optimization_barrier_p = Primitive("optimization_barrier", multiple_results=True, keeps_weak=True)


def _barrier_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    ts = [zeros(aval_of(x)) if t is None else t for x, t in zip(primals, tangents, strict=True)]
    return optimization_barrier_p.bind(*primals), optimization_barrier_p.bind(*ts)


def _barrier_transpose(cts: Sequence[Any], *args: Any) -> list[Any]:
    there = iter(optimization_barrier_p.bind(*[ct for ct in cts if ct is not None]))
    return [None if ct is None else next(there) for ct in cts]


optimization_barrier_p.type = lambda *avals: list(avals)
optimization_barrier_p.eager = lambda xp, *xs: list(xs)
optimization_barrier_p.jvp = _barrier_jvp
optimization_barrier_p.transpose = _barrier_transpose
optimization_barrier_p.batch = lambda axis, args, batched: (
    optimization_barrier_p.bind(*args),
    list(batched),
)
optimization_barrier = optimization_barrier_p.bind
