"""Passes on programs: inline, common subexpressions, constant folding, algebra, dead code.

Each pass takes a jaxpr and returns an equal one; `simplify` runs them in order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from funtorch.config import config
from funtorch.core import ArrayImpl
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var

__all__ = ["drop_dead", "fold", "inline", "share", "simplify"]

Atom = Var | Lit

# Calls whose program may stand in their place once no derivative will be asked for.
_CALLS = frozenset(("jit", "custom_jvp_call", "custom_vjp_call", "remat"))


def _substitute(atoms: Iterable[Atom], env: dict[Var, Atom]) -> list[Atom]:
    return [env.get(v, v) if isinstance(v, Var) else v for v in atoms]


# ---------------------------------------------------------------------- inline
def inline(jaxpr: Jaxpr) -> Jaxpr:
    """Replace calls (jit, custom rules, remat) by the equations of their programs."""
    eqns: list[Eqn] = []

    def splice(body: Jaxpr, env: dict[Var, Atom], top: bool) -> None:
        for eqn in body.eqns:
            args = _substitute(eqn.invars, env)
            sub = eqn.params["jaxpr"] if eqn.prim.name in _CALLS else None
            if sub is not None and not sub.constvars:
                inner: dict[Var, Atom] = dict(zip(sub.invars, args, strict=True))
                splice(sub, inner, False)
                env.update(zip(eqn.outvars, _substitute(sub.outvars, inner), strict=True))
                continue
            outs = list(eqn.outvars)
            if not top:  # a program called twice must not bind its variables twice
                outs = [Var(v.aval) for v in eqn.outvars]
                env.update(zip(eqn.outvars, outs, strict=True))
            eqns.append(Eqn(eqn.prim, args, eqn.params, outs, eqn.source))

    env: dict[Var, Atom] = {}
    splice(jaxpr, env, True)
    return Jaxpr(jaxpr.invars, eqns, _substitute(jaxpr.outvars, env), jaxpr.constvars, jaxpr.consts)


# ---------------------------------------------------------------------- common subexpressions
def _key(eqn: Eqn) -> Any:
    """Return what equal equations have in common, or None where it cannot be told."""
    args = tuple(
        (v.aval.dtype, v.val._data.tobytes()) if isinstance(v, Lit) else v for v in eqn.invars
    )
    key = (eqn.prim, args, tuple(sorted(eqn.params.items(), key=lambda item: item[0])))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def share(jaxpr: Jaxpr) -> Jaxpr:
    """Compute equal expressions once."""
    known: dict[Any, Sequence[Var]] = {}
    env: dict[Var, Atom] = {}
    eqns = []
    for eqn in jaxpr.eqns:
        new = Eqn(eqn.prim, _substitute(eqn.invars, env), eqn.params, eqn.outvars, eqn.source)
        key = _key(new)
        if key is not None and key in known:
            env.update(zip(eqn.outvars, known[key], strict=True))
            continue
        if key is not None:
            known[key] = eqn.outvars
        eqns.append(new)
    return Jaxpr(jaxpr.invars, eqns, _substitute(jaxpr.outvars, env), jaxpr.constvars, jaxpr.consts)


# ---------------------------------------------------------------------- folding and algebra
def _scalar_of(v: Atom, made_by: dict[Var, Eqn]) -> Any:
    """Return the one value that an array is full of, or None where that is not known."""
    while isinstance(v, Var):
        eqn = made_by.get(v)
        if eqn is None or eqn.prim.name != "broadcast_in_dim":
            return None
        v = eqn.invars[0]
    return v.val._data[()]


def _fold_literals(eqn: Eqn, made_by: dict[Var, Eqn]) -> Atom | None:
    """Compute an operation on literals."""
    if eqn.prim.multiple_results or not eqn.invars or eqn.outvars[0].aval.shape:
        return None
    if not all(isinstance(v, Lit) for v in eqn.invars) or eqn.prim.name.startswith("scatter"):
        return None
    with np.errstate(all="ignore"):
        out = eqn.prim.eager(
            np, *[v.val._data for v in eqn.invars if isinstance(v, Lit)], **eqn.params
        )
    return Lit(ArrayImpl(np.asarray(out), eqn.outvars[0].aval.weak_type))


def _drop_neutral(eqn: Eqn, made_by: dict[Var, Eqn]) -> Atom | None:
    """x * 1, x / 1, x - 0 and, for integers, x + 0 (among floats -0 + 0 is 0)."""
    name = eqn.prim.name
    if name not in ("mul", "div", "sub", "add"):
        return None
    x = eqn.invars[0]
    whole = x.aval.dtype.kind in "iu"
    right = _scalar_of(eqn.invars[1], made_by)
    if right is not None:
        if name in ("mul", "div") and right == 1:
            return x
        if right == 0 and ((name == "sub" and not np.signbit(right)) or (name == "add" and whole)):
            return x
    left = _scalar_of(x, made_by)
    if left is None:
        return None
    neutral = (name == "mul" and left == 1) or (name == "add" and whole and left == 0)
    return eqn.invars[1] if neutral else None


def _drop_identity(eqn: Eqn, made_by: dict[Var, Eqn]) -> Atom | None:
    """Movements and conversions that change nothing, and stop_gradient."""
    name, params = eqn.prim.name, eqn.params
    if name not in ("stop_gradient", "copy", "convert", "reshape", "broadcast_in_dim", "transpose"):
        return None
    x, out = eqn.invars[0], eqn.outvars[0].aval
    if not x.aval.same_type(out):
        return None
    in_order = tuple(range(out.ndim))
    if name == "transpose" and params["perm"] != in_order:
        return None
    return None if name == "broadcast_in_dim" and params["dims"] != in_order else x


_DROPS: tuple[Callable[[Eqn, dict[Var, Eqn]], Atom | None], ...] = (
    _fold_literals,
    _drop_neutral,
    _drop_identity,
)


def _join_movements(eqn: Eqn, made_by: dict[Var, Eqn]) -> Eqn:
    """Make one of two movements of the same kind in a row."""
    source = made_by.get(eqn.invars[0]) if eqn.invars and isinstance(eqn.invars[0], Var) else None
    if source is None or source.prim is not eqn.prim:
        return eqn
    if eqn.prim.name == "transpose":
        params = {"perm": tuple(source.params["perm"][k] for k in eqn.params["perm"])}
    elif eqn.prim.name == "reshape":
        params = eqn.params
    elif eqn.prim.name == "broadcast_in_dim":
        params = {**eqn.params, "dims": tuple(eqn.params["dims"][d] for d in source.params["dims"])}
    else:
        return eqn
    return Eqn(eqn.prim, source.invars, params, eqn.outvars, eqn.source)


def _untransposed(v: Atom, axes: Sequence[tuple[int, ...]], made_by: dict[Var, Eqn]) -> Any:
    """Return a dot operand without its matrix transposition, and its renumbered axes."""
    source = made_by.get(v) if isinstance(v, Var) else None
    if source is None or source.prim.name != "transpose" or v.aval.ndim != 2:
        return v, axes
    perm = source.params["perm"]
    return source.invars[0], [tuple(perm[d] for d in group) for group in axes]


def _absorb_transposes(eqn: Eqn, made_by: dict[Var, Eqn]) -> Eqn:
    """Let a product read operands transposed, and be computed transposed, where wanted."""
    if (
        eqn.prim.name == "transpose"
        and eqn.params["perm"] == (1, 0)
        and isinstance(eqn.invars[0], Var)
    ):
        dot = made_by.get(eqn.invars[0])
        if dot is None or dot.prim.name != "dot_general":
            return eqn
        (a, b), ((ca, cb), (ba, bb)) = dot.invars, dot.params["dimension_numbers"]
        if ba or a.aval.ndim != 2 or b.aval.ndim != 2:
            return eqn
        params = {**dot.params, "dimension_numbers": ((cb, ca), (bb, ba))}
        return Eqn(dot.prim, [b, a], params, eqn.outvars, eqn.source)
    if eqn.prim.name != "dot_general":
        return eqn
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    if ba or len(ca) != 1:
        return eqn
    a, (ca,) = _untransposed(eqn.invars[0], [ca], made_by)
    b, (cb,) = _untransposed(eqn.invars[1], [cb], made_by)
    params = {**eqn.params, "dimension_numbers": ((ca, cb), (ba, bb))}
    return Eqn(eqn.prim, [a, b], params, eqn.outvars, eqn.source)


_REWRITES: tuple[Callable[[Eqn, dict[Var, Eqn]], Eqn], ...] = (_join_movements, _absorb_transposes)


def fold(jaxpr: Jaxpr) -> Jaxpr:
    """Fold constants, drop neutral operations, join movements, absorb transposes into products."""
    env: dict[Var, Atom] = {}
    made_by: dict[Var, Eqn] = {}
    eqns = []
    for old in jaxpr.eqns:
        eqn = Eqn(old.prim, _substitute(old.invars, env), old.params, old.outvars, old.source)
        for rewrite in _REWRITES:
            eqn = rewrite(eqn, made_by)
        found = next((a for drop in _DROPS if (a := drop(eqn, made_by)) is not None), None)
        if found is not None:
            env[eqn.outvars[0]] = found
            continue
        made_by.update((v, eqn) for v in eqn.outvars)
        eqns.append(eqn)
    return Jaxpr(jaxpr.invars, eqns, _substitute(jaxpr.outvars, env), jaxpr.constvars, jaxpr.consts)


# ---------------------------------------------------------------------- dead code
def drop_dead(jaxpr: Jaxpr) -> Jaxpr:
    """Leave out equations whose results nobody needs (all primitives are pure)."""
    live = {v for v in jaxpr.outvars if isinstance(v, Var)}
    kept = []
    for eqn in reversed(jaxpr.eqns):
        if any(v in live for v in eqn.outvars):
            kept.append(eqn)
            live.update(v for v in eqn.invars if isinstance(v, Var))
    return Jaxpr(jaxpr.invars, kept[::-1], jaxpr.outvars, jaxpr.constvars, jaxpr.consts)


# ---------------------------------------------------------------------- programs inside
# Equations whose programs are compiled as parts of the enclosing one.
_STRUCTURED = frozenset(("scan", "while", "cond"))


def _inner(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_inner, value))
    if not isinstance(value, Jaxpr):
        return value
    if "simplified" not in value.memo:
        value.memo["simplified"] = simplify(value)
    return value.memo["simplified"]


def nested(jaxpr: Jaxpr) -> Jaxpr:
    """Simplify the programs of loops and branches."""
    eqns = [
        Eqn(e.prim, e.invars, {k: _inner(v) for k, v in e.params.items()}, e.outvars, e.source)
        if e.prim.name in _STRUCTURED
        else e
        for e in jaxpr.eqns
    ]
    return Jaxpr(jaxpr.invars, eqns, jaxpr.outvars, jaxpr.constvars, jaxpr.consts)


_PASSES = (inline, fold, share, fold, drop_dead, nested)


def simplify(jaxpr: Jaxpr) -> Jaxpr:
    """Return an equal, simpler program of the same inputs and outputs.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.transforms.simplify import simplify
        >>> len(simplify(ft.make_jaxpr(lambda x: x * 1.0 + 0.0 * 2.0)(3.0).jaxpr).eqns)
        1
    """
    for run in _PASSES:
        jaxpr = run(jaxpr)
        if config.debug >= 2:
            print(f"after {run.__name__}:\n{jaxpr}", file=sys.stderr)
    return jaxpr
