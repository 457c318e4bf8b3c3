"""Branches: `cond` and `switch`, one primitive ``cond(index, *operands; branches)``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch import dtypes
from funtorch.core import LinearArg, Primitive, aval_of
from funtorch.device import default_backend
from funtorch.errors import JaxprTypeError
from funtorch.jaxpr import Jaxpr, check_gives, check_takes, dependent, eval_jaxpr, stage
from funtorch.ops.elementwise import convert, eq, select
from funtorch.ops.elementwise import max as max_
from funtorch.ops.elementwise import min as min_
from funtorch.ops.families import broadcast_in_dim, scalar, spread, zeros
from funtorch.placement import array_of, buffer_of

from .arguments import as_arrays, check_callable, function_name
from .batching import Axis, batch_flat
from .lanes import are_costly, check_effects, map_lanes, suits_lanes
from .references import Bridge, Crossing, bridged, holds_refs, without_refs
from .restage import (
    Restaged,
    batch_program,
    divide_program,
    jvp_program,
    linearize_program,
    pick,
    stage_hoisted,
    transpose_program,
)
from .simplify import drop_dead
from .staging import stage_tree
from .varying import given

__all__ = ["cond", "cond_p", "switch"]

cond_p = Primitive("cond", multiple_results=True, keeps_weak=True)


def _type(index: Any, *avals: Any, branches: tuple[Jaxpr, ...]) -> list[Any]:
    if index.shape or index.dtype.kind not in "iub":
        raise JaxprTypeError(f"cond takes the number of a branch, got {index.str_short()}")
    for k, b in enumerate(branches):
        check_takes(f"branch {k} of a cond", b, avals)
        check_gives(f"branch {k} of a cond", b, branches[0].out_avals)
    columns = zip(*[b.out_avals for b in branches], strict=True)
    return [c[0].update(weak_type=all(a.weak_type for a in c)) for c in columns]


def _eager(xp: Any, index: Any, *buffers: Any, branches: tuple[Jaxpr, ...]) -> list[Any]:
    return [buffer_of(o) for o in eval_jaxpr(branches[int(index)], *map(array_of, buffers))]


def _bind(index: Any, programs: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """Bind restaged branches, whose constants differ, on operands they share: each takes all the
    constants."""
    counts = [len(p.consts) for p in programs]
    consts = [c for p in programs for c in p.consts]
    if not consts:
        return cond_p.bind(index, *args, branches=tuple(p.jaxpr for p in programs))
    avals = [aval_of(x) for x in (*consts, *args)]
    branches = []
    for k, p in enumerate(programs):
        lo = sum(counts[:k])

        def f(*xs: Any, lo: int = lo, p: Any = p, n: int = counts[k]) -> list[Any]:
            return eval_jaxpr(p.jaxpr, *xs[lo : lo + n], *xs[len(consts) :])

        branches.append(stage(f, avals))
    return cond_p.bind(index, *consts, *args, branches=tuple(branches))


def _union(notes: Sequence[Sequence[bool]]) -> tuple[bool, ...]:
    return tuple(any(column) for column in zip(*notes, strict=True))


def _jvp(
    primals: Any, tangents: Any, *, branches: tuple[Jaxpr, ...]
) -> tuple[list[Any], list[Any]]:
    nonzero = tuple(t is not None for t in tangents[1:])
    force = _union([jvp_program(b, nonzero).note for b in branches])
    programs = [jvp_program(b, nonzero, force) for b in branches]
    outs = _bind(primals[0], programs, [*primals[1:], *[t for t in tangents[1:] if t is not None]])
    n = len(branches[0].outvars)
    touts = iter(outs[n:])
    return outs[:n], [next(touts) if f else None for f in force]


def _linearize(
    primals: Any, nonzero: tuple[bool, ...], *, branches: tuple[Jaxpr, ...]
) -> tuple[list[Any], Any]:
    """Every branch returns room for the residuals of all branches, zeros in those of the others."""
    nonzero, n = nonzero[1:], len(branches[0].outvars)
    force = _union([linearize_program(b, nonzero)[2] for b in branches])
    parts = [linearize_program(b, nonzero, force) for b in branches]
    res_avals = [p[0].jaxpr.out_avals[n:] for p in parts]
    counts = [len(r) for r in res_avals]
    starts = [sum(counts[:k]) for k in range(len(counts))]
    everything = [a for r in res_avals for a in r]
    forwards = []
    for k, (forward, _, _) in enumerate(parts):

        def f(*args: Any, k: int = k, forward: Any = forward) -> list[Any]:
            results = eval_jaxpr(forward.jaxpr, *args)
            own = range(starts[k], starts[k] + counts[k])
            return [
                *results[:n],
                *[
                    results[n + j - starts[k]] if j in own else zeros(a)
                    for j, a in enumerate(everything)
                ],
            ]

        forwards.append(forward._replace(jaxpr=stage(f, forward.jaxpr.in_avals)))
    results = _bind(primals[0], forwards, primals[1:])
    residuals = results[n:]

    def linear(*tangents: Any) -> list[Any]:
        avals = [aval_of(x) for x in (*residuals, *tangents)]
        linears = []
        for k, (_, linear_jaxpr, _) in enumerate(parts):

            def f(*args: Any, k: int = k, linear_jaxpr: Jaxpr = linear_jaxpr) -> list[Any]:
                return eval_jaxpr(
                    linear_jaxpr, *args[starts[k] : starts[k] + counts[k]], *args[len(everything) :]
                )

            linears.append(stage(f, avals))
        touts = iter(cond_p.bind(primals[0], *residuals, *tangents, branches=tuple(linears)))
        return [next(touts) if w else None for w in force]

    return results[:n], linear


def _transpose(cts: Any, index: Any, *args: Any, branches: tuple[Jaxpr, ...]) -> list[Any]:
    is_linear = tuple(type(a) is LinearArg for a in args)
    ct_nonzero = tuple(ct is not None for ct in cts)
    programs = [transpose_program(b, is_linear, ct_nonzero, force=True) for b in branches]
    known = [a for a, lin in zip(args, is_linear, strict=True) if not lin]
    found = iter(_bind(index, programs, [*known, *[ct for ct in cts if ct is not None]]))
    return [None, *[next(found) if lin else None for lin in is_linear]]


def _batch(
    axis: Axis, args: Any, batched: Any, *, branches: tuple[Jaxpr, ...]
) -> tuple[list[Any], list[bool]]:
    index, operands = args[0], args[1:]
    if not batched[0]:
        force = _union([batch_program(b, axis, tuple(batched[1:])).note for b in branches])
        programs = [batch_program(b, axis, tuple(batched[1:]), force) for b in branches]
        return _bind(index, programs, operands), list(force)
    check_effects("cond, whose branches all run where lanes choose between them,", *branches)
    checks = any("check" in branch.effects for branch in branches)  # of the branch taken only
    if checks or (are_costly(branches) and suits_lanes(axis, *branches)):
        outs = map_lanes(lambda *xs: cond_p.bind(*xs, branches=branches), args, batched, axis.size)
        return outs, [True] * len(outs)
    chosen: list[Any] = []
    for k, branch in enumerate(branches):
        outs, flags = batch_flat(
            lambda *xs, b=branch: eval_jaxpr(b, *xs), axis, operands, batched[1:]
        )
        outs = [o if b else spread(o, axis.size) for o, b in zip(outs, flags, strict=True)]
        if k == 0:
            chosen = outs
            continue
        mask = eq(index, broadcast_in_dim(scalar(k, index.dtype), shape=index.shape, dims=()))
        chosen = [
            select(broadcast_in_dim(mask, shape=o.shape, dims=(0,)), o, c)
            for o, c in zip(outs, chosen, strict=True)
        ]
    return chosen, [True] * len(chosen)


def _depends(flags: Any, *, branches: tuple[Jaxpr, ...]) -> tuple[bool, ...]:
    return _union([[flags[0] or d for d in dependent(b, flags[1:])] for b in branches])


def _divide(flags: Any, args: Any, *, branches: tuple[Jaxpr, ...]) -> list[Any]:
    """Choose the independent results first, by branches that make nothing else."""
    depends = _depends(flags, branches=branches)
    marked, known = tuple(flags[1:]), [not f for f in flags[1:]]
    firsts = [_independent(divide_program(b, marked, depends)[0], depends) for b in branches]
    rests = tuple(_dependent(b, depends) for b in branches)
    independent = iter(_bind(args[0], firsts, pick(args[1:], known)))
    dependents = iter(cond_p.bind(*args, branches=rests))
    return [next(dependents) if d else next(independent) for d in depends]


def _independent(known: Restaged, depends: Sequence[bool]) -> Restaged:
    """Return the part of a divided branch that gives the independent outputs, no residuals.

    What only has effects is left to the other part.
    """
    whole = known.jaxpr
    eqns = [eqn for eqn in whole.eqns if eqn.outvars or not eqn.effects]
    outs = whole.outvars[: depends.count(False)]
    return known._replace(jaxpr=drop_dead(Jaxpr(whole.invars, eqns, outs)))


def _dependent(branch: Jaxpr, depends: Sequence[bool]) -> Jaxpr:
    key = ("dependent part", tuple(depends))
    if key not in branch.memo:
        branch.memo[key] = drop_dead(
            Jaxpr(branch.invars, branch.eqns, pick(branch.outvars, depends))
        )
    return branch.memo[key]


cond_p.type, cond_p.eager, cond_p.jvp, cond_p.linearize = _type, _eager, _jvp, _linearize
cond_p.transpose, cond_p.batch, cond_p.depends, cond_p.divide = (
    _transpose,
    _batch,
    _depends,
    _divide,
)


# ------------------------------------------------------------------------------------------- public
def _branch_call(
    what: str, index: Any, funs: Sequence[Callable[..., Any]], operands: tuple[Any, ...]
) -> Any:
    leaves, treedef = tree.flatten((operands, {}))
    if holds_refs(leaves):
        return bridged(functools.partial(_with_refs, what, index, funs, operands))
    arrays = as_arrays(leaves, "operand", funs[0])
    different = {id(f): f for f in funs}  # a function that is several branches is traced once
    avals = [a.aval for a in arrays]
    try:
        with given(arrays):
            programs = {k: stage_tree(f, treedef, avals) for k, f in different.items()}
    except Crossing as crossing:
        return bridged(functools.partial(_with_refs, what, index, funs, operands), crossing)
    staged = [programs[id(f)] for f in funs]
    out_tree = staged[0][1]
    for f, (_, other) in zip(funs, staged, strict=True):
        if other != out_tree:
            raise TypeError(
                f"{what}: all branches must return the same structure, but "
                f"{function_name(funs[0])} returns "
                f"{out_tree} and {function_name(f)} returns {other}"
            )
    jaxprs = _equal_types(what, funs, [j for j, _ in staged])
    outs = _bind(index, [_Closed(j.hoisted(), j.consts) for j in jaxprs], arrays)
    return out_tree.unflatten(outs)


def _with_refs(
    what: str,
    index: Any,
    funs: Sequence[Callable[..., Any]],
    operands: tuple[Any, ...],
    bridge: Bridge,
) -> Any:
    others, restored = without_refs(operands, funs[0])

    def through(f: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(f)
        def branch(state: Any, now: Any) -> Any:
            return bridge.run(state, f, *restored(now))

        return branch

    branches = {id(f): through(f) for f in funs}
    whole = (bridge.state(), others)
    state, result = _branch_call(what, index, [branches[id(f)] for f in funs], whole)
    bridge.write(state)
    return result


class _Closed:
    __slots__ = ("consts", "jaxpr")

    def __init__(self, jaxpr: Jaxpr, consts: Sequence[Any]) -> None:
        self.jaxpr, self.consts = jaxpr, consts


def _equal_types(what: str, funs: Sequence[Any], jaxprs: list[Jaxpr]) -> list[Jaxpr]:
    """Make outputs agree: weak dtypes follow strong ones; raise where shapes or strong dtypes
    differ."""
    avals = [j.out_avals for j in jaxprs]
    target = []
    for k, column in enumerate(zip(*avals, strict=True)):
        strong = [a for a in column if not a.weak_type]
        dtype = (
            strong[0].dtype
            if strong
            else dtypes.result_type_weak(*[(a.dtype, True) for a in column])[0]
        )
        for f, a in zip(funs, column, strict=True):
            if a.shape != column[0].shape or not dtypes.adapts(a.dtype, a.weak_type, dtype):
                raise TypeError(
                    f"{what}: all branches must return the same types, but output {k} of "
                    f"{function_name(funs[0])} is {column[0].str_short()} and of "
                    f"{function_name(f)} "
                    f"{a.str_short()}: convert or reshape one of them"
                )
        target.append(dtype)
    out = []
    for j in jaxprs:
        if all(a.dtype == d for a, d in zip(j.out_avals, target, strict=True)):
            out.append(j)
            continue

        def f(*args: Any, j: Jaxpr = j) -> list[Any]:
            return [
                o if o.dtype == d else convert(o, dtype=d, weak_type=False)
                for o, d in zip(eval_jaxpr(j.hoisted(), *args), target, strict=True)
            ]

        staged, consts = stage_hoisted(f, j.hoisted().in_avals)
        n = len(j.consts)
        out.append(
            Jaxpr(
                staged.invars[len(consts) + n :],
                staged.eqns,
                staged.outvars,
                staged.invars[: len(consts) + n],
                [*consts, *j.consts],
            )
        )
    return out


_NONE_GIVEN = object()


def _with_operand(what: str, operands: tuple[Any, ...], operand: Any) -> tuple[Any, ...]:
    """Return the operands, the only one of which may come by name."""
    if operand is _NONE_GIVEN:
        return operands
    if operands:
        raise TypeError(
            f"{what}: operand= is the only operand, but {len(operands)} came by position; pass "
            "all of them by position"
        )
    return (operand,)


def cond(
    pred: Any,
    true_fun: Callable[..., Any],
    false_fun: Callable[..., Any],
    *operands: Any,
    operand: Any = _NONE_GIVEN,
) -> Any:
    """Run one of two functions, chosen by a boolean scalar.

    Args:
        pred: boolean scalar (numbers count as true when nonzero).
        true_fun, false_fun: functions of the operands that return the same structure and types.
        *operands: pytrees of arrays.
        operand: the only operand, by name.

    Returns:
        What the chosen function returns.

    Raises:
        TypeError: if ``pred`` is not a scalar, the branches return different structures or
            types, or operands come both by position and by name.

    Example:
        >>> import funtorch as ft
        >>> float(ft.lax.cond(True, lambda x: x + 1.0, lambda x: x - 1.0, 3.0))
        4.0
    """
    if not callable(true_fun) and len(operands) == 2 and callable(operands[1]):
        on_true, on_false = false_fun, operands[1]  # pred, operand, function, operand, function
        check_callable(on_true, "cond")
        both = (true_fun, operands[0])
        return cond(pred, lambda xs: on_true(xs[0]), lambda xs: on_false(xs[1]), both)
    check_callable(true_fun, "cond")
    check_callable(false_fun, "cond")
    operands = _with_operand("cond", operands, operand)
    (pred,) = as_arrays([pred], "pred", true_fun)
    if pred.shape:
        raise TypeError(
            f"cond: pred must be a boolean scalar, got {pred.aval.str_short()}: reduce it with "
            "all() or any(), or "
            "use where to choose elementwise"
        )
    if pred.dtype != np.bool_:
        pred = pred != 0
    return _branch_call(
        "cond",
        convert(pred, dtype=np.dtype(np.int32), weak_type=False),
        (false_fun, true_fun),
        operands,
    )


def platform_dependent(*args: Any, default: Any = None, **per_platform: Any) -> Any:
    """Run the function for the platform that programs run on.

    Args:
        *args: its arguments.
        default: the function for platforms that are not named.
        **per_platform: functions by the names of platforms: ``cpu=...``, ``cuda=...``.

    Returns:
        What it returns.

    Raises:
        NotImplementedError: if there is no function for this platform.

    Example:
        >>> import funtorch as ft
        >>> float(ft.lax.platform_dependent(3.0, cpu=lambda x: x + 1, default=lambda x: x - 1))
        4.0
    """
    chosen = per_platform.get(default_backend(), default)
    if chosen is None:
        raise NotImplementedError(
            f"platform_dependent: there is no function for {default_backend()!r}, only for "
            f"{', '.join(map(repr, per_platform)) or 'nothing'}: pass default"
        )
    check_callable(chosen, "platform_dependent")
    return chosen(*args)


def switch(
    index: Any, branches: Sequence[Callable[..., Any]], *operands: Any, operand: Any = _NONE_GIVEN
) -> Any:
    """Run one of several functions, chosen by an integer scalar, clamped into range.

    Example:
        >>> import funtorch as ft
        >>> float(ft.lax.switch(1, [lambda x: x, lambda x: 2 * x, lambda x: 3 * x], 5.0))
        10.0
    """
    operands = _with_operand("switch", operands, operand)
    branches = tuple(branches)
    if not branches:
        raise ValueError("switch needs at least one branch")
    for f in branches:
        check_callable(f, "switch")
    (index,) = as_arrays([index], "index", branches[0])
    if index.shape or not dtypes.is_integer(index.dtype):
        raise TypeError(f"switch: index must be an integer scalar, got {index.aval.str_short()}")
    if len(branches) == 1:
        return branches[0](*operands)
    index = convert(index, dtype=np.dtype(np.int32), weak_type=False)
    index = max_(min_(index, scalar(len(branches) - 1, np.int32)), scalar(0, np.int32))
    return _branch_call("switch", index, branches, operands)
