"""vmap as a loop over lanes: each lane runs its own loop, and only the branch it takes.

A batched loop in lock step runs as long as its longest lane; a batched branch runs every branch.
Where the program will be compiled, and consists of what compiled code does without calling Python,
a loop over the lanes, a scan without carries, is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from funtorch.core import Trace, aval_of, current, eval_trace
from funtorch.jaxpr import Jaxpr, sub_jaxprs
from funtorch.ops.families import ELEMENTWISE

from .batching import Axis
from .passes.steps import CHEAP
from .restage import stage_hoisted
from .scan import scan_p

__all__ = ["are_costly", "check_effects", "has_loop", "map_lanes", "suits_lanes"]

# What is compiled to loops over elements, and what holds programs of such.
_NATIVE = frozenset(
    """broadcast_in_dim reshape transpose rev slice pad concatenate split iota dynamic_slice
    dynamic_update_slice gather scatter scatter_add scatter_mul scatter_min scatter_max argmax
    argmin reduce_sum reduce_prod reduce_max reduce_min reduce_and reduce_or reduce_xor dot_general
    scan while cond optimization_barrier""".split()  # noqa: SIM905
)
_DTYPES = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64".split()  # noqa: SIM905
)

_HEAVY = 8  # cheap operations that take as long as an exp or the like
_AT_ONCE = 4  # multiplications of a product that take as long as a cheap operation
_WORTH = 256  # cheap operations from which a lane's branches are worth choosing between


def _root(trace: Trace) -> Trace:
    while trace.parent is not None:
        trace = trace.parent
    return trace


def _native(jaxpr: Jaxpr, name: Any) -> bool:
    """Tell whether a program is all native code and does not speak to other lanes of an axis."""
    for eqn in jaxpr.eqns:
        op = eqn.prim.name
        if not (eqn.prim.call or op in _NATIVE or op in ELEMENTWISE):
            return False
        if name is not None and eqn.params.get("axis_name") == name:
            return False
        if any(v.aval.dtype.name not in _DTYPES for v in (*eqn.invars, *eqn.outvars)):
            return False
        if not all(_native(sub, name) for sub in sub_jaxprs(eqn.params)):
            return False
    return True


def suits_lanes(axis: Axis, *jaxprs: Jaxpr) -> bool:
    """Tell whether programs that are being batched are worth a loop over the lanes.

    Nothing is where the batch is computed at once, outside jit.
    """
    return _root(current()) is not eval_trace and all(_native(j, axis.name) for j in jaxprs)


def check_effects(what: str, *jaxprs: Jaxpr) -> None:
    """Raise the error for batched programs that would run what has effects when they should not.

    Those that only show values may.
    """
    if any("io" in jaxpr.effects for jaxpr in jaxprs):
        raise NotImplementedError(
            f"vmap of {what} cannot run io_callback for the right lanes only: use pure_callback, "
            "or lax.map in the place of vmap"
        )


def has_loop(jaxpr: Jaxpr) -> bool:
    """Tell whether a program contains a loop."""
    return any(
        eqn.prim.name in ("scan", "while") or any(map(has_loop, sub_jaxprs(eqn.params)))
        for eqn in jaxpr.eqns
    )


def are_costly(branches: Sequence[Jaxpr]) -> bool:
    """Tell whether a lane saves more by running its own branch than a loop over lanes costs."""
    return any(map(has_loop, branches)) or sum(map(_cost, branches)) >= _WORTH


def _cost(jaxpr: Jaxpr) -> int:
    """Estimate how many cheap operations on numbers a program without loops takes."""
    total = 0
    for eqn in jaxpr.eqns:
        size = max((v.aval.size for v in (*eqn.invars, *eqn.outvars)), default=0)
        subs = sub_jaxprs(eqn.params)
        if subs:
            total += max(map(_cost, subs))
        elif eqn.prim.name == "dot_general":
            summed = eqn.params["dimension_numbers"][0][0]
            length = math.prod(eqn.invars[0].aval.shape[a] for a in summed)
            total += eqn.outvars[0].aval.size * length // _AT_ONCE
        else:
            heavy = eqn.prim.name in ELEMENTWISE and eqn.prim.name not in CHEAP
            total += size * (_HEAVY if heavy else 1)
    return total


def map_lanes(
    f: Callable[..., Sequence[Any]], args: Sequence[Any], batched: Sequence[bool], size: int
) -> list[Any]:
    """Apply ``f`` to each slice of the batched arguments, beside the whole of the others.

    Args:
        f: a function of flat arrays that returns a list of arrays.
        args: arrays; the batched ones have the lanes in front.
        batched: which ones do.
        size: the number of lanes.

    Returns:
        the results, lanes in front.
    """
    order = [k for k, b in enumerate(batched) if not b] + [k for k, b in enumerate(batched) if b]
    avals = [aval_of(args[k]) for k in order]
    avals = [
        a.update(shape=a.shape[1:]) if batched[k] else a for k, a in zip(order, avals, strict=True)
    ]

    def body(*xs: Any) -> Sequence[Any]:
        at = dict(zip(order, xs, strict=True))
        return f(*[at[k] for k in range(len(xs))])

    jaxpr, consts = stage_hoisted(body, avals)
    return scan_p.bind(
        *consts,
        *[args[k] for k in order],
        jaxpr=jaxpr,
        num_consts=len(consts) + len(batched) - sum(batched),
        num_carry=0,
        length=size,
        reverse=False,
    )
