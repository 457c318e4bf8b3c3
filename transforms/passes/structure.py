"""Passes on whole programs: inline calls, compute equal expressions once, leave out dead code."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any

from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var, stage

from .rewrite import Atom, substitute, used

__all__ = ["drop_dead", "inline", "part", "share"]


# ---------------------------------------------------------------------- inline
def _meaning(eqn: Eqn) -> Jaxpr | None:
    """Return the program that may stand in the place of an equation."""
    if eqn.prim.call:
        return eqn.params["jaxpr"]
    expand = eqn.prim.expand
    if expand is None:
        return None
    many = eqn.prim.multiple_results

    def flat(*args: Any) -> Sequence[Any]:
        out = expand(*args, **eqn.params)
        return out if many else [out]

    return stage(flat, [v.aval for v in eqn.invars])


def inline(
    jaxpr: Jaxpr, only: Container[str] | None = None, keeps: Callable[[Eqn], bool] | None = None
) -> Jaxpr:
    """Replace calls (jit, custom rules, remat) by the equations of their programs, for no
    derivative will be asked for, and what has an expansion by that.

    Args:
        jaxpr: the program.
        only: names of the primitives to replace; None: all.
        keeps: which equations are left as they are.
    """
    eqns: list[Eqn] = []
    found = False

    def splice(body: Jaxpr, env: dict[Any, Atom], top: bool) -> None:
        nonlocal found
        for eqn in body.eqns:
            wanted = (only is None or eqn.prim.name in only) and not (keeps and keeps(eqn))
            sub = _meaning(eqn) if wanted else None
            if sub is not None and not sub.constvars:
                found = True
                args = substitute(eqn.invars, env)
                inner: dict[Any, Atom] = dict(zip(sub.invars, args, strict=True))
                splice(sub, inner, False)
                env.update(zip(eqn.outvars, substitute(sub.outvars, inner), strict=True))
                continue
            if top:
                eqns.append(used(eqn, env) if env else eqn)
                continue
            # A program called twice must not bind its variables twice.
            outs = [Var(v.aval) for v in eqn.outvars]
            eqns.append(Eqn(eqn.prim, substitute(eqn.invars, env), eqn.params, outs, eqn.source))
            env.update(zip(eqn.outvars, outs, strict=True))

    env: dict[Any, Atom] = {}
    splice(jaxpr, env, True)
    if not found:
        return jaxpr
    return Jaxpr(jaxpr.invars, eqns, substitute(jaxpr.outvars, env), jaxpr.constvars, jaxpr.consts)


# ---------------------------------------------------------------------- common subexpressions
_COMMUTES = frozenset(
    (
        "add",
        "mul",
        "masked_mul",
        "max",
        "min",
        "eq",
        "ne",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
    )
)


def _key(eqn: Eqn) -> Any:
    """Return what equal equations have in common."""
    args = [(v.aval.dtype, v.val._data.tobytes()) if type(v) is Lit else v for v in eqn.invars]
    if eqn.prim.name in _COMMUTES and id(args[0]) > id(args[1]):
        args.reverse()
    params = eqn.params
    if len(params) > 1:
        return (eqn.prim, *args, *sorted(params.items(), key=_first))
    return (eqn.prim, *args, *params.items())


def _first(item: tuple[str, Any]) -> str:
    return item[0]


def share(jaxpr: Jaxpr) -> Jaxpr:
    """Compute equal expressions once."""
    known: dict[Any, Sequence[Var]] = {}
    env: dict[Any, Atom] = {}
    eqns = []
    for eqn in jaxpr.eqns:
        new = used(eqn, env) if env else eqn
        eqns.append(new)
        try:
            outs = known.setdefault(_key(new), new.outvars)
        except TypeError:  # parameters that cannot be compared
            continue
        if outs is not new.outvars and not new.effects:
            env.update(zip(new.outvars, outs, strict=True))
            eqns.pop()
    if not env:
        return jaxpr
    return Jaxpr(jaxpr.invars, eqns, substitute(jaxpr.outvars, env), jaxpr.constvars, jaxpr.consts)


# ---------------------------------------------------------------------- dead code
def drop_dead(jaxpr: Jaxpr) -> Jaxpr:
    """Leave out what nobody needs: equations without effects, and inputs and outputs of loops and
    branches."""
    live: set[Any] = set(jaxpr.outvars)
    kept: list[Eqn] = []
    changed = False
    for eqn in reversed(jaxpr.eqns):
        if live.isdisjoint(eqn.outvars) and not eqn.effects:
            changed = True
            continue
        narrow = _NARROW.get(eqn.prim.name)
        if narrow is not None:
            smaller = narrow(eqn, [v in live for v in eqn.outvars])
            changed = changed or smaller is not eqn
            eqn = smaller
        kept.append(eqn)
        live.update(eqn.invars)
    if not changed:
        return jaxpr
    return Jaxpr(jaxpr.invars, kept[::-1], jaxpr.outvars, jaxpr.constvars, jaxpr.consts)


def _needed(jaxpr: Jaxpr, outs: Sequence[bool]) -> list[bool]:
    """Tell which inputs the marked outputs, and what has effects, depend on."""
    live: set[Any] = {v for v, wanted in zip(jaxpr.outvars, outs, strict=True) if wanted}
    for eqn in reversed(jaxpr.eqns):
        if not live.isdisjoint(eqn.outvars) or eqn.effects:
            live.update(eqn.invars)
    return [v in live for v in jaxpr.invars]


def part(jaxpr: Jaxpr, ins: Sequence[bool], outs: Sequence[bool]) -> Jaxpr:
    """Return the program of the marked inputs and outputs; the same object for the same marks."""
    if all(ins) and all(outs):
        return jaxpr
    key = ("part", tuple(ins), tuple(outs))
    if key not in jaxpr.memo:
        jaxpr.memo[key] = drop_dead(
            Jaxpr(_marked(jaxpr.invars, ins), jaxpr.eqns, _marked(jaxpr.outvars, outs))
        )
    return jaxpr.memo[key]


def _marked(xs: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    return [x for x, flag in zip(xs, flags, strict=True) if flag]


def _narrower(eqn: Eqn, ins: Sequence[bool], outs: Sequence[bool], params: dict[str, Any]) -> Eqn:
    return Eqn(
        eqn.prim,
        _marked(eqn.invars, ins),
        {**eqn.params, **params},
        _marked(eqn.outvars, outs),
        eqn.source,
    )


def _narrow_scan(eqn: Eqn, live: list[bool]) -> Eqn:
    """Keep the carries that results depend on, through any number of steps."""
    p = eqn.params
    body, consts, n = p["jaxpr"], p["num_consts"], p["num_carry"]
    carry, ys = live[:n], live[n:]
    while True:
        ins = _needed(body, [*carry, *ys])
        grown = [a or b for a, b in zip(carry, ins[consts : consts + n], strict=True)]
        if grown == carry:
            break
        carry = grown
    ins[consts : consts + n] = carry
    outs = [*carry, *ys]
    if all(ins) and all(outs):
        return eqn
    changes = {"jaxpr": part(body, ins, outs), "num_consts": sum(ins[:consts])}
    return _narrower(eqn, ins, outs, {**changes, "num_carry": sum(carry)})


def _narrow_while(eqn: Eqn, live: list[bool]) -> Eqn:
    """Keep the carries that results or the condition depend on, through any number of steps."""
    p = eqn.params
    cond, body, c, n = p["cond_jaxpr"], p["body_jaxpr"], p["cond_nconsts"], p["body_nconsts"]
    cond_ins = _needed(cond, [True])
    carry = [a or b for a, b in zip(live, cond_ins[c:], strict=True)]
    while True:
        body_ins = _needed(body, carry)
        grown = [a or b for a, b in zip(carry, body_ins[n:], strict=True)]
        if grown == carry:
            break
        carry = grown
    ins = [*cond_ins[:c], *body_ins[:n], *carry]
    if all(ins):
        return eqn
    changes = {
        "cond_jaxpr": part(cond, [*cond_ins[:c], *carry], [True]),
        "body_jaxpr": part(body, [*body_ins[:n], *carry], carry),
        "cond_nconsts": sum(cond_ins[:c]),
        "body_nconsts": sum(body_ins[:n]),
    }
    return _narrower(eqn, ins, carry, changes)


def _narrow_cond(eqn: Eqn, live: list[bool]) -> Eqn:
    """Keep the operands that any branch needs for the results that are wanted."""
    branches = eqn.params["branches"]
    needs = [_needed(branch, live) for branch in branches]
    ins = [any(column) for column in zip(*needs, strict=True)]
    if all(ins) and all(live):
        return eqn
    return _narrower(
        eqn, [True, *ins], live, {"branches": tuple(part(b, ins, live) for b in branches)}
    )


def _narrow_barrier(eqn: Eqn, live: list[bool]) -> Eqn:
    return eqn if all(live) else _narrower(eqn, live, live, {})


_NARROW: dict[str, Callable[[Eqn, list[bool]], Eqn]] = {
    "optimization_barrier": _narrow_barrier,
    "scan": _narrow_scan,
    "while": _narrow_while,
    "cond": _narrow_cond,
}
