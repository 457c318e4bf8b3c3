"""Programs of programs: the jvp, linearization, transpose and batch of a jaxpr, as jaxprs.

Higher-order primitives get their rules by re-tracing: each function here stages a transformed
program once and remembers it on the jaxpr it came from. Programs in and out are hoisted (no consts
of their own); array constants that a rule closes over come back as leading inputs with their values
in ``consts``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from funtorch.config import config
from funtorch.core import LinearArg, Primitive, Tracer, current
from funtorch.jaxpr import Jaxpr, Stage, dependent, eval_jaxpr, stage
from funtorch.ops.families import spread, zeros
from funtorch.placement import array_of, buffer_of

from .batching import Axis, batch_flat
from .forward import jvp_flat, linearize_flat
from .reverse import linear_part, masked, transpose_jaxpr

__all__ = [
    "Restaged",
    "batch_program",
    "call_rules",
    "divide_program",
    "expansion_rules",
    "fixpoint",
    "jvp_program",
    "linearize_program",
    "pick",
    "reordered",
    "run_program",
    "split",
    "stage_hoisted",
    "transpose_program",
]


class Restaged(NamedTuple):
    """A transformed program: its jaxpr, the constants it takes first, and a note on its outputs."""

    jaxpr: Jaxpr
    consts: list[Any]
    note: Any


def stage_hoisted(
    f: Callable[..., Sequence[Any]], avals: Sequence[Any], name: str = ""
) -> tuple[Jaxpr, list[Any]]:
    """Stage ``f``; return its jaxpr with constants as leading inputs, and the constants."""
    jaxpr = stage(f, avals, name)
    return jaxpr.hoisted(), jaxpr.consts


def _remembered(jaxpr: Jaxpr, key: Any, build: Callable[[], Any]) -> Any:
    found = jaxpr.memo.get(key)
    if found is None:
        found = jaxpr.memo[key] = build()
    return found


def jvp_program(
    jaxpr: Jaxpr, nonzero: tuple[bool, ...], force: tuple[bool, ...] | None = None
) -> Restaged:
    """Return the program (inputs, nonzero tangents) -> (outputs, their nonzero tangents).

    ``force`` marks outputs whose tangent is wanted even where zero. The note says which outputs
    have one.
    """

    def build() -> Restaged:
        n = len(jaxpr.invars)
        note: list[bool] = []

        def f(*args: Any) -> list[Any]:
            ts = iter(args[n:])
            tangents = [next(ts) if nz else None for nz in nonzero]
            outs, touts = jvp_flat(lambda *xs: eval_jaxpr(jaxpr, *xs), args[:n], tangents)
            if force is not None:
                touts = [
                    zeros(a) if t is None and w else t
                    for t, w, a in zip(touts, force, jaxpr.out_avals, strict=True)
                ]
            note[:] = [t is not None for t in touts]
            return [*outs, *[t for t in touts if t is not None]]

        avals = jaxpr.in_avals
        staged, consts = stage_hoisted(
            f, [*avals, *[a.tangent() for a, nz in zip(avals, nonzero, strict=True) if nz]]
        )
        return Restaged(staged, consts, note)

    return _remembered(jaxpr, ("jvp", nonzero, force), build)


def linearize_program(
    jaxpr: Jaxpr, nonzero: tuple[bool, ...], force: tuple[bool, ...] | None = None
) -> tuple[Restaged, Jaxpr, list[bool]]:
    """Return the program inputs -> (outputs, residuals), the linear program (residuals, nonzero
    tangents) ->
    nonzero output tangents, and which outputs have a tangent (``force`` adds some)."""

    def build() -> Any:
        box: list[Any] = []

        def f(*args: Any) -> list[Any]:
            outs, linear, active = linearize_flat(lambda *xs: eval_jaxpr(jaxpr, *xs), args, nonzero)
            residuals, linear = linear.consts, linear.hoisted()
            if force is not None:
                linear, active = _with_zeros(linear, active, force, jaxpr.out_avals)
            box.extend((linear, active))
            return [*outs, *residuals]

        staged, consts = stage_hoisted(f, jaxpr.in_avals)
        return Restaged(staged, consts, None), box[0], box[1]

    return _remembered(jaxpr, ("linearize", nonzero, force), build)


def _with_zeros(
    linear: Jaxpr, active: Sequence[bool], force: Sequence[bool], avals: Sequence[Any]
) -> Any:
    """Give a linear program explicit zeros for the forced outputs that have no tangent."""

    def f(*args: Any) -> list[Any]:
        found = iter(eval_jaxpr(linear, *args))
        touts = [
            next(found) if a else zeros(aval) if w else None
            for a, w, aval in zip(active, force, avals, strict=True)
        ]
        return [t for t in touts if t is not None]

    return stage(f, linear.in_avals), [a or w for a, w in zip(active, force, strict=True)]


def transpose_program(
    jaxpr: Jaxpr, is_linear: tuple[bool, ...], ct_nonzero: tuple[bool, ...], force: bool = False
) -> Restaged:
    """Return the program (known inputs, nonzero cotangents) -> nonzero cotangents of the linear
    inputs.

    The note says which linear inputs have one (all of them with ``force``).
    """

    def build() -> Restaged:
        avals = jaxpr.in_avals
        known = [a for a, lin in zip(avals, is_linear, strict=True) if not lin]
        cts = [a.tangent() for a, nz in zip(jaxpr.out_avals, ct_nonzero, strict=True) if nz]
        note: list[bool] = []

        def f(*args: Any) -> list[Any]:
            values, given = iter(args[: len(known)]), iter(args[len(known) :])
            ins = [
                LinearArg(a) if lin else next(values)
                for a, lin in zip(avals, is_linear, strict=True)
            ]
            found = transpose_jaxpr(
                linear_part(jaxpr, ins), [next(given) if nz else None for nz in ct_nonzero]
            )
            if force:
                lin_avals = [a for a, lin in zip(avals, is_linear, strict=True) if lin]
                found = [
                    zeros(a) if ct is None else ct for ct, a in zip(found, lin_avals, strict=True)
                ]
            note[:] = [ct is not None for ct in found]
            return [ct for ct in found if ct is not None]

        staged, consts = stage_hoisted(f, [*known, *cts])
        return Restaged(staged, consts, note)

    return _remembered(
        jaxpr, ("transpose", is_linear, ct_nonzero, force, masked(), config.strict_gradients), build
    )


def divide_program(
    jaxpr: Jaxpr, flags: tuple[bool, ...], force: tuple[bool, ...]
) -> tuple[Restaged, Jaxpr, list[bool]]:
    """Divide a program into what depends on the inputs that ``flags`` marks, and what does not.

    Returns:
        the program (other inputs) -> (independent outputs, residuals), the program (residuals,
        marked inputs) -> dependent outputs, and which outputs are dependent (``force`` adds some).
    """

    def build() -> Any:
        box: list[Any] = []

        def f(*args: Any) -> list[Any]:
            given = iter(args)
            with Stage(current()) as tape:
                ins = [
                    tape.new_input(a) if marked else next(given)  # type: ignore[attr-defined]
                    for a, marked in zip(jaxpr.in_avals, flags, strict=True)
                ]
                outs = eval_jaxpr(jaxpr, *ins)
            depends = [
                w or (isinstance(o, Tracer) and o.owner is tape)
                for o, w in zip(outs, force, strict=True)
            ]
            rest = tape.finish(pick(outs, depends))  # type: ignore[attr-defined]
            box.extend((rest.hoisted(), depends))
            return [*pick(outs, [not d for d in depends]), *rest.consts]

        known = pick(jaxpr.in_avals, [not marked for marked in flags])
        staged, consts = stage_hoisted(f, known)
        return Restaged(staged, consts, None), box[0], box[1]

    return _remembered(jaxpr, ("divide", flags, force), build)


def batch_program(
    jaxpr: Jaxpr, axis: Axis, batched: tuple[bool, ...], force: tuple[bool, ...] | None = None
) -> Restaged:
    """Return the program over batches; the note says which outputs are batched (``force`` adds
    some)."""

    def build() -> Restaged:
        note: list[bool] = []

        def f(*args: Any) -> list[Any]:
            outs, flags = batch_flat(lambda *xs: eval_jaxpr(jaxpr, *xs), axis, args, batched)
            if force is not None:
                outs = [
                    spread(o, axis.size) if w and not b else o
                    for o, b, w in zip(outs, flags, force, strict=True)
                ]
                flags = [b or w for b, w in zip(flags, force, strict=True)]
            note[:] = flags
            return outs

        avals = [
            a.update(shape=(axis.size, *a.shape)) if b else a
            for a, b in zip(jaxpr.in_avals, batched, strict=True)
        ]
        staged, consts = stage_hoisted(f, avals)
        return Restaged(staged, consts, note)

    return _remembered(jaxpr, ("batch", axis, batched, force), build)


def run_program(xp: Any, *buffers: Any, jaxpr: Jaxpr, **params: Any) -> list[Any]:
    """Run a call by its program: the eager rule of what has no better one."""
    return [buffer_of(o) for o in eval_jaxpr(jaxpr, *map(array_of, buffers))]


def call_rules(prim: Primitive) -> None:
    """Give a call-like primitive (``jaxpr`` among its params, inputs passed straight to it) its
    rules:
    eager evaluation,
    jvp, linearize, transpose and batch of a call are calls of the jvp, linearization ... of the
    program."""

    def bind(restaged: Restaged, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
        return prim.bind(*restaged.consts, *args, **{**params, "jaxpr": restaged.jaxpr})

    def jvp(
        primals: Any, tangents: Any, *, jaxpr: Jaxpr, **params: Any
    ) -> tuple[list[Any], list[Any]]:
        nonzero = tuple(t is not None for t in tangents)
        program = jvp_program(jaxpr, nonzero)
        results = bind(program, [*primals, *[t for t in tangents if t is not None]], params)
        n = len(jaxpr.outvars)
        touts = iter(results[n:])
        return results[:n], [next(touts) if a else None for a in program.note]

    def linearize(
        primals: Any, nonzero: tuple[bool, ...], *, jaxpr: Jaxpr, **params: Any
    ) -> tuple[list[Any], Any]:
        forward, linear_jaxpr, active = linearize_program(jaxpr, nonzero)
        results = bind(forward, primals, params)
        n = len(jaxpr.outvars)

        def linear(*tangents: Any) -> list[Any]:
            touts = iter(prim.bind(*results[n:], *tangents, **{**params, "jaxpr": linear_jaxpr}))
            return [next(touts) if a else None for a in active]

        return results[:n], linear

    def transpose(cts: Any, *args: Any, jaxpr: Jaxpr, **params: Any) -> list[Any]:
        is_linear = tuple(type(a) is LinearArg for a in args)
        program = transpose_program(jaxpr, is_linear, tuple(ct is not None for ct in cts))
        known = [a for a, lin in zip(args, is_linear, strict=True) if not lin]
        found = iter(bind(program, [*known, *[ct for ct in cts if ct is not None]], params))
        note = iter(program.note)
        return [next(found) if lin and next(note) else None for lin in is_linear]

    def batch(
        axis: Axis, args: Any, batched: Any, *, jaxpr: Jaxpr, **params: Any
    ) -> tuple[list[Any], list[bool]]:
        program = batch_program(jaxpr, axis, tuple(batched))
        return bind(program, args, params), program.note

    def type_rule(*avals: Any, jaxpr: Jaxpr, **params: Any) -> list[Any]:
        return jaxpr.out_avals

    def depends(flags: Any, *, jaxpr: Jaxpr, **params: Any) -> list[bool]:
        return dependent(jaxpr, flags)

    def divide(flags: Any, args: Any, *, jaxpr: Jaxpr, **params: Any) -> list[Any]:
        return eval_jaxpr(jaxpr, *args)

    prim.type, prim.call, prim.keeps_weak = type_rule, True, True
    prim.eager, prim.depends, prim.divide = run_program, depends, divide
    prim.jvp, prim.linearize, prim.transpose, prim.batch = jvp, linearize, transpose, batch


def expansion_rules(prim: Primitive) -> None:
    """Give a primitive with an expansion the rules that follow from it: those of a call.

    Its type rule, and any rule that is better, are left to be set.
    """
    expand, many = prim.expand, prim.multiple_results
    assert expand is not None

    def flat(params: dict[str, Any]) -> Callable[..., list[Any]]:
        def run(*args: Any) -> list[Any]:
            out = expand(*args, **params)
            return list(out) if many else [out]

        return run

    def one(outs: Sequence[Any]) -> Any:
        return outs if many else outs[0]

    def eager(xp: Any, *buffers: Any, **params: Any) -> Any:
        return one([buffer_of(o) for o in flat(params)(*map(array_of, buffers))])

    def jvp(primals: Any, tangents: Any, **params: Any) -> Any:
        outs, touts = jvp_flat(flat(params), primals, tangents)
        return one(outs), one(touts)

    def linearize(primals: Any, nonzero: tuple[bool, ...], **params: Any) -> Any:
        outs, linear, active = linearize_flat(flat(params), primals, nonzero)

        def apply(*tangents: Any) -> Any:
            found = iter(eval_jaxpr(linear, *tangents))
            return one([next(found) if a else None for a in active])

        return one(outs), apply

    def transpose(ct: Any, *args: Any, **params: Any) -> list[Any]:
        avals = [a.aval for a in args]
        jaxpr = stage(flat(params), avals)
        known = [*jaxpr.consts, *args]
        tape = linear_part(jaxpr.hoisted(), known)
        found = iter(transpose_jaxpr(tape, ct if many else [ct]))
        return [next(found) if type(a) is LinearArg else None for a in args]

    def batch(axis: Axis, args: Any, batched: Any, **params: Any) -> Any:
        outs, flags = batch_flat(flat(params), axis, args, batched)
        return one(outs), one(flags)

    prim.nests = True
    prim.eager, prim.jvp, prim.linearize = eager, jvp, linearize
    prim.transpose, prim.batch = transpose, batch


# ---------------------------------------------------------------------- parts of loops
def fixpoint(
    start: Sequence[bool], step: Callable[[tuple[bool, ...]], Sequence[bool]]
) -> tuple[bool, ...]:
    """Grow flags until ``step`` adds none: which carries become nonzero, or batched, in the end."""
    flags = tuple(start)
    while True:
        grown = tuple(a or b for a, b in zip(flags, step(flags), strict=True))
        if grown == flags:
            return flags
        flags = grown


def reordered(jaxpr: Jaxpr, ins: Sequence[int], outs: Sequence[int]) -> Jaxpr:
    """Return the program with inputs and outputs in another order; the same object for the same
    order."""
    key = ("reordered", tuple(ins), tuple(outs))
    if key not in jaxpr.memo:
        jaxpr.memo[key] = Jaxpr(
            [jaxpr.invars[k] for k in ins], jaxpr.eqns, [jaxpr.outvars[k] for k in outs]
        )
    return jaxpr.memo[key]


def split(xs: Sequence[Any], *sizes: int) -> list[list[Any]]:
    out, at = [], 0
    for n in sizes:
        out.append(list(xs[at : at + n]))
        at += n
    return [*out, list(xs[at:])]


def pick(xs: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    return [x for x, f in zip(xs, flags, strict=True) if f]
