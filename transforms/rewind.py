"""Reverse differentiation of loops of unknown length, in memory of about sqrt(n) states.

Forwards, a loop only counts its steps. Backwards, n steps are done again in blocks of about sqrt(n)
steps: first from block to block, keeping the state at the beginning of each, then the last block
once more, keeping every state, and back through it, and so on. That is three times the steps of the
loop, and their derivatives once.

Three primitives, all of the number of steps, what the body reads besides the carry, and the carry
that the loop begins with:

    rewound(n, *consts, *init, *tangents)     the tangents of the last carry
    rewind(n, *consts, *init, *cotangents)    its transpose: cotangents of consts and init
    swayed(n, *consts, *init, *cotangents, *directions)   the derivative of that
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch.config import config
from funtorch.core import LinearArg, Primitive, ShapedArray, aval_of, primitives
from funtorch.jaxpr import Jaxpr, eval_jaxpr, stage
from funtorch.ops.elementwise import add, lt, select, sub
from funtorch.ops.families import broadcast_in_dim, scalar, spread, zeros
from funtorch.ops.reduce import reduce_max
from funtorch.ops.shape import dynamic_slice, dynamic_update_slice, reshape
from funtorch.placement import array_of, buffer_of

from .batching import Axis
from .forward import linearize_flat
from .harvest import recomputed
from .restage import batch_program, expansion_rules, jvp_program, pick, reordered, split
from .reverse import transpose_jaxpr

__all__ = ["COUNT", "count_to", "rewind_p", "rewound_p"]

COUNT = np.dtype(np.int32)
_FEWEST = 8  # steps of a block
_INTERPRETED = 500  # equations up to which it is not worth compiling


def _int(value: int) -> Any:
    return scalar(value, COUNT)


def count_to(
    n: Any, f: Callable[[Any, list[Any]], Sequence[Any]], carry: Sequence[Any]
) -> list[Any]:
    """Do ``carry = f(i, carry)`` for i in range(n), n an int32 scalar that need not be known."""
    carry = list(carry)
    avals = [ShapedArray((), COUNT), *[aval_of(c) for c in carry]]
    body = stage(lambda i, *xs: [add(i, _int(1)), *f(i, list(xs))], avals)
    cond = stage(lambda n, i, *xs: [lt(i, n)], [ShapedArray((), COUNT), *avals])
    outs = primitives["while"].bind(
        n,
        *body.consts,
        _int(0),
        *carry,
        cond_jaxpr=cond,
        body_jaxpr=body.hoisted(),
        cond_nconsts=1,
        body_nconsts=len(body.consts),
    )
    return outs[1:]


def _silent(body: Jaxpr) -> Jaxpr:
    """Return the body without what only shows values, for it has been shown."""
    if "io" in body.effects:
        raise NotImplementedError(
            "reverse-mode differentiation of while_loop runs its steps again, so they cannot "
            "contain io_callback: use pure_callback"
        )
    body = recomputed(body)
    if not body.effects:
        return body
    if "silent" not in body.memo:
        eqns = [eqn for eqn in body.eqns if eqn.outvars or not eqn.effects]
        body.memo["silent"] = Jaxpr(body.invars, eqns, body.outvars)
    return body.memo["silent"]


# ------------------------------------------------------------------------------ the linear map
rewound_p = Primitive("rewound", multiple_results=True)
Flags = tuple[bool, ...]


def _expand(n: Any, *args: Any, body: Jaxpr, nz_consts: Flags, nz_carry: Flags) -> list[Any]:
    """Run the loop again with tangents."""
    consts, init, tangents = split(args, len(nz_consts), len(nz_carry))
    program = jvp_program(_silent(body), (*nz_consts, *nz_carry), nz_carry)
    tc, ti = split(tangents, sum(nz_consts))

    def step(i: Any, carry: list[Any]) -> list[Any]:
        x, t = split(carry, len(init))
        return eval_jaxpr(program.jaxpr, *program.consts, *consts, *x, *tc, *t)

    return count_to(n, step, [*init, *ti])[len(init) :]


def _rewound_transpose(
    cts: Any, n: Any, *args: Any, body: Jaxpr, nz_consts: Flags, nz_carry: Flags
) -> list[Any]:
    known = args[: len(nz_consts) + len(nz_carry)]
    tangents = args[len(known) :]
    avals = [a.tangent() for a in pick(body.out_avals, nz_carry)]
    given = [zeros(a) if ct is None else ct for ct, a in zip(cts, avals, strict=True)]
    params = {"body": body, "nz_consts": nz_consts, "nz_carry": nz_carry}
    found = rewind_p.bind(n, *known, *given, **params)
    mine = [ct if type(t) is LinearArg else None for ct, t in zip(found, tangents, strict=True)]
    return [None, *[None] * len(known), *mine]


rewound_p.expand = _expand
expansion_rules(rewound_p)
rewound_p.transpose = _rewound_transpose
rewound_p.type = lambda *avals, body, nz_consts, nz_carry: [
    a.tangent() for a in pick(body.out_avals, nz_carry)
]


# ------------------------------------------------------------------------------ its transpose
rewind_p = Primitive("rewind", multiple_results=True)


def _pull(
    body: Jaxpr, nonzero: Flags, ins: Sequence[Any], nz_carry: Flags, cts: Sequence[Any]
) -> list[Any]:
    """Return the cotangents of one step's nonzero inputs."""
    _, linear, active = linearize_flat(lambda *xs: eval_jaxpr(body, *xs), ins, nonzero)
    of_out = iter(cts)
    every = [next(of_out) if nz else None for nz in nz_carry]
    found = transpose_jaxpr(linear, pick(every, active))
    avals = pick([a.tangent() for a in body.in_avals], nonzero)
    return [zeros(a) if ct is None else ct for ct, a in zip(found, avals, strict=True)]


def _programs(body: Jaxpr, size: int, nz_consts: Flags, nz_carry: Flags) -> tuple[Jaxpr, Jaxpr]:
    """Return the programs that go on by some steps, and that go back through at most ``size``."""
    key = ("rewind", size, nz_consts, nz_carry)
    if key in body.memo:
        return body.memo[key]
    n_consts, n_carry, quiet = len(nz_consts), len(nz_carry), _silent(body)
    nonzero = (*nz_consts, *nz_carry)
    carries = body.in_avals[n_consts:]

    def advance(steps: Any, *args: Any) -> list[Any]:
        consts, carry = split(args, n_consts)
        return count_to(steps, lambda i, xs: eval_jaxpr(quiet, *consts, *xs), carry)

    def back(steps: Any, *args: Any) -> list[Any]:
        consts, carry, totals, cts = split(args, n_consts, n_carry, sum(nz_consts))

        def keep(i: Any, xs: list[Any]) -> list[Any]:
            kept, now = split(xs, n_carry)
            kept = [
                dynamic_update_slice(
                    k, reshape(x, shape=(1, *x.shape)), i, *[_int(0)] * len(x.shape)
                )
                for k, x in zip(kept, now, strict=True)
            ]
            return [*kept, *eval_jaxpr(quiet, *consts, *now)]

        room = [zeros(a.update(shape=(size, *a.shape), weak_type=False)) for a in carries]
        states = count_to(steps, keep, [*room, *carry])[:n_carry]

        def undo(i: Any, xs: list[Any]) -> list[Any]:
            totals, cts = split(xs, sum(nz_consts))
            at = sub(sub(steps, _int(1)), i)
            then = [
                reshape(
                    dynamic_slice(s, at, *[_int(0)] * len(a.shape), sizes=(1, *a.shape)),
                    shape=a.shape,
                )
                for s, a in zip(states, carries, strict=True)
            ]
            found = _pull(quiet, nonzero, [*consts, *then], nz_carry, cts)
            more, cts = split(found, sum(nz_consts))
            return [*[add(t, m) for t, m in zip(totals, more, strict=True)], *cts]

        return count_to(steps, undo, [*totals, *cts])

    strong = [a.update(weak_type=False) for a in body.in_avals]
    ins = [ShapedArray((), COUNT), *strong]
    tangents = [a.tangent() for a in pick(strong, nonzero)]
    found = stage(advance, ins), stage(back, [*ins, *tangents])
    body.memo[key] = found
    return found


def _rewind_eager(
    xp: Any, n: Any, *buffers: Any, body: Jaxpr, nz_consts: Flags, nz_carry: Flags
) -> list[Any]:
    consts, init, cts = split(buffers, len(nz_consts), len(nz_carry))
    steps = int(n)
    size = max(_FEWEST, 1 << math.isqrt(max(steps - 1, 0)).bit_length())
    advance, back = _programs(body, size, nz_consts, nz_carry)
    compiled = steps * len(body.eqns) > _INTERPRETED and not config.disable_jit

    def call(program: Jaxpr, count: int, args: Sequence[Any]) -> list[Any]:
        given = [*map(buffer_of, program.consts), xp.asarray(count, COUNT), *args]
        if compiled:
            return primitives["jit"].eager(xp, *given, jaxpr=program.hoisted(), name="rewind")
        return [buffer_of(o) for o in eval_jaxpr(program.hoisted(), *map(array_of, given))]

    starts = [init]
    for _ in range((steps - 1) // size):
        starts.append(call(advance, size, [*consts, *starts[-1]]))
    avals = pick(body.in_avals[: len(nz_consts)], nz_consts)
    given: list[Any] = [*[xp.zeros(a.shape, a.dtype) for a in avals], *cts]
    while starts:
        count = min(size, steps - (len(starts) - 1) * size)
        given = call(back, count, [*consts, *starts.pop(), *given])
    return given


def _rewind_transpose(cts: Any, n: Any, *args: Any, **params: Any) -> list[Any]:
    """It is linear in the cotangents that it is given, and the loop with tangents is its
    transpose; it is not linear in what the loop begins with."""
    count = len(params["nz_consts"]) + len(params["nz_carry"])
    known, given = split(args, count)
    directions = [zeros(a) if ct is None else ct for ct, a in zip(cts, _types(params), strict=True)]
    found = rewound_p.bind(n, *known, *directions, **params)
    mine = [t if type(x) is LinearArg else None for t, x in zip(found, given, strict=True)]
    return [None, *[None] * count, *mine]


def _rewind_type(n: Any, *avals: Any, body: Jaxpr, nz_consts: Flags, nz_carry: Flags) -> list[Any]:
    return [a.tangent() for a in pick(body.in_avals, (*nz_consts, *nz_carry))]


def _with_tangents(body: Jaxpr, n: int, moving: Flags) -> tuple[Any, Jaxpr, Flags]:
    """Return the step of (carry, its tangents) whose ``n`` consts come with tangents, too.

    Returns:
        the program that it comes from, the step, and which inputs move in the end.
    """
    while True:  # carries that are moved by others
        program = jvp_program(body, moving)
        grown = (*moving[:n], *[a or b for a, b in zip(moving[n:], program.note, strict=True)])
        if grown == moving:
            break
        moving = grown
    program = jvp_program(body, moving, moving[n:])
    n_k, n_in, n_tc = len(program.consts), len(body.invars), sum(moving[:n])
    k_, c_, x_, tc_, tx_ = split(range(len(program.jaxpr.invars)), n_k, n, n_in - n, n_tc)
    order = [*k_, *c_, *tc_, *x_, *tx_]
    return program, reordered(program.jaxpr, order, range(len(program.jaxpr.outvars))), moving


def _rewind_jvp(
    primals: Any, tangents: Any, *, body: Jaxpr, nz_consts: Flags, nz_carry: Flags
) -> tuple[list[Any], list[Any]]:
    """Rewind the loop that carries tangents, too.

    For y = F(x) and t' = J(x) t, the cotangents of (x, t) for (m, l) of (y, t') are
    J^T m + (D J[t])^T l and J^T l; with t a direction of x and m one of l, that is the derivative
    of J^T l in this direction, for second derivatives are symmetric, and J^T l itself.
    """
    body = _silent(body)
    n_consts, n_carry = len(nz_consts), len(nz_carry)
    consts, init, cts = split(primals[1:], n_consts, n_carry)
    t_ins, t_cts = split(tangents[1:], n_consts + n_carry)
    nonzero = (*nz_consts, *nz_carry)
    # What is asked for a cotangent moves, perhaps by zero.
    moves = tuple(nz or t is not None for nz, t in zip(nonzero, t_ins, strict=True))
    program, step, moving = _with_tangents(body, n_consts, moves)
    ins = [*consts, *init]
    ts = [
        zeros(aval_of(x).tangent()) if t is None else t
        for x, t, m in zip(ins, t_ins, moving, strict=True)
        if m
    ]
    tc, ti = split(ts, sum(moving[:n_consts]))
    of_ct = iter(zip(cts, t_cts, strict=True))
    m_cts, l_cts = [], []
    for k, aval in enumerate(body.out_avals):
        ct, t_ct = next(of_ct) if nz_carry[k] else (None, None)
        none = zeros(aval.tangent())
        if moving[n_consts + k]:
            m_cts.append(none if t_ct is None else t_ct)
            l_cts.append(none if ct is None else ct)
    n_k = len(program.consts)
    of_moving = moving[:n_consts]
    found = rewind_p.bind(
        primals[0],
        *program.consts,
        *consts,
        *tc,
        *init,
        *ti,
        *m_cts,
        *l_cts,
        body=step,
        nz_consts=(*(False,) * n_k, *of_moving, *(True,) * len(tc)),
        nz_carry=(*moving[n_consts:], *(True,) * len(ti)),
    )
    n_x = sum(moving[n_consts:])
    xc, tc_, xi, ti_ = split(found, len(tc), len(tc), n_x)
    wanted = pick(nonzero, moving)
    return pick([*tc_, *ti_], wanted), pick([*xc, *xi], wanted)


def _rewind_linearize(
    primals: Any, nonzero: Flags, *, body: Jaxpr, nz_consts: Flags, nz_carry: Flags
) -> tuple[list[Any], Any]:
    """Rewind for all that moves; the linear map is `swayed`."""
    n_consts, n_carry = len(nz_consts), len(nz_carry)
    ins, cts = split(primals[1:], n_consts + n_carry)
    nz_ins, nz_cts = split(nonzero[1:], len(ins))
    wanted = (*nz_consts, *nz_carry)
    moves = tuple(a or b for a, b in zip(wanted, nz_ins, strict=True))
    moving = _with_tangents(_silent(body), n_consts, moves)[2]
    of_ct, of_nz = iter(cts), iter(nz_cts)
    every, flags = [], []
    for aval, was, now in zip(body.out_avals, nz_carry, moving[n_consts:], strict=True):
        if now:
            every.append(next(of_ct) if was else zeros(aval.tangent()))
            flags.append(was and next(of_nz))
    params = {"body": body, "nz_consts": moving[:n_consts], "nz_carry": moving[n_consts:]}
    outs = rewind_p.bind(primals[0], *ins, *every, **params)
    chosen = pick(wanted, moving)

    def linear(*tangents: Any) -> list[Any]:
        of_t = iter(tangents)
        directions = [
            next(of_t) if nz else zeros(aval_of(x).tangent()) if m else None
            for x, nz, m in zip(ins, nz_ins, moving, strict=True)
        ]
        of_cts = [next(of_t) if f else zeros(aval_of(x)) for x, f in zip(every, flags, strict=True)]
        given = [*[t for t in directions if t is not None], *of_cts]
        return pick(swayed_p.bind(primals[0], *ins, *every, *given, **params), chosen)

    return pick(outs, chosen), linear


# ------------------------------------------------------------------ the derivative of the transpose
swayed_p = Primitive("swayed", multiple_results=True)


def _parts(args: Sequence[Any], nz_consts: Flags, nz_carry: Flags) -> list[list[Any]]:
    """Return the inputs of the loop, the cotangents, and directions of both."""
    nonzero = (*nz_consts, *nz_carry)
    return split(args, len(nonzero), sum(nz_carry), sum(nonzero))


def _sway(n: Any, *args: Any, **params: Any) -> list[Any]:
    """Return H u + J^T m, for H u the derivative of J^T l in the direction u."""
    nz_consts, nz_carry = params["nz_consts"], params["nz_carry"]
    ins, cts, u, m = _parts(args, nz_consts, nz_carry)
    given = iter(u)
    directions = [next(given) if nz else None for nz in (*nz_consts, *nz_carry)]
    touts = _rewind_jvp([n, *ins, *cts], [None, *directions, *m], **params)[1]
    return [zeros(a) if t is None else t for t, a in zip(touts, _types(params), strict=True)]


def _types(params: Any) -> list[Any]:
    return _rewind_type(None, **params)


def _sway_transpose(cts: Any, n: Any, *args: Any, **params: Any) -> list[Any]:
    """H is symmetric: the cotangents for v are H v and J v."""
    nz_carry = params["nz_carry"]
    ins, l_cts, u, m = _parts(args, params["nz_consts"], nz_carry)
    v = [zeros(a) if ct is None else ct for ct, a in zip(cts, _types(params), strict=True)]
    of_u = _sway(n, *ins, *l_cts, *v, *[zeros(aval_of(x)) for x in l_cts], **params)
    of_m = rewound_p.bind(n, *ins, *v, **params)
    known = [None] * (1 + len(ins) + len(l_cts))
    found = zip((*of_u, *of_m), (*u, *m), strict=True)
    return [*known, *[ct if type(x) is LinearArg else None for ct, x in found]]


swayed_p.type = lambda *avals, **params: _types(params)
swayed_p.expand = _sway
expansion_rules(swayed_p)
swayed_p.transpose = _sway_transpose


# --------------------------------------------------------------------------------------- batches
def _rewind_batch(
    axis: Axis, args: Any, batched: Any, *, body: Jaxpr, nz_consts: Flags, nz_carry: Flags
) -> tuple[list[Any], list[bool]]:
    """Rewind all lanes together; a lane stands still after its own last step."""
    n_consts, n_carry = len(nz_consts), len(nz_carry)
    n, own = args[0], list(args[1:])
    flags = list(batched[1:])
    # Carries and cotangents are batched, and consts whose cotangent is wanted for each lane.
    for k in range(len(own)):
        if not flags[k] and (k >= n_consts or nz_consts[k]):
            own[k], flags[k] = spread(own[k], axis.size), True
    program = batch_program(body, axis, tuple(flags[: n_consts + n_carry]), (True,) * n_carry)
    consts, rest = split(own, n_consts)
    more = list(program.consts)
    jaxpr = program.jaxpr
    none: tuple[bool, ...] = (False,) * len(more)
    if not batched[0]:
        outs = rewind_p.bind(
            n, *more, *consts, *rest, body=jaxpr, nz_consts=(*none, *nz_consts), nz_carry=nz_carry
        )
        return outs, [True] * len(outs)

    def masked(ends: Any, *xs: Any) -> list[Any]:
        given, i, carry = xs[: len(more) + n_consts], xs[len(more) + n_consts], xs[-n_carry:]
        new = eval_jaxpr(jaxpr, *given, *carry)
        going = lt(broadcast_in_dim(i, shape=ends.shape, dims=()), ends)
        kept = [
            select(broadcast_in_dim(going, shape=x.shape, dims=(0,)), x, old)
            for x, old in zip(new, carry, strict=True)
        ]
        return [add(i, _int(1)), *kept]

    count = ShapedArray((), COUNT)
    ins = jaxpr.in_avals
    split_at = len(more) + n_consts
    avals = [aval_of(n), *ins[:split_at], count, *ins[split_at:]]
    step = stage(masked, avals)
    outs = rewind_p.bind(
        reduce_max(n, axes=(0,)),
        n,
        *more,
        *consts,
        _int(0),
        *rest,
        body=step,
        nz_consts=(False, *none, *nz_consts),
        nz_carry=(False, *nz_carry),
    )
    return outs, [True] * len(outs)


rewind_p.type, rewind_p.eager, rewind_p.batch = _rewind_type, _rewind_eager, _rewind_batch
rewind_p.jvp, rewind_p.linearize = _rewind_jvp, _rewind_linearize
rewind_p.transpose = _rewind_transpose
