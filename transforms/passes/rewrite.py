"""The driver of the passes that replace single equations: rules by primitive, one walk.

A rule ``rule(b, eqn)`` gives what stands in the place of an equation's results: an atom, a list of
atoms where the primitive has several results, or None to leave the equation alone. It writes the
equations that it needs with ``b.emit``, which are themselves subject to the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from funtorch.core import ArrayImpl, ShapedArray, primitives
from funtorch.errors import Source
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var

__all__ = ["Atom", "Pass", "Rewriter", "Rules", "merged", "rewriter", "substitute", "used"]

Atom = Var | Lit
Pass = Callable[[Jaxpr], Jaxpr]
Rule = Callable[["Rewriter", Eqn], "Atom | list[Atom] | None"]
Rules = Mapping[str, Sequence[Rule]]

_DEEPEST = 20  # rules whose results set off other rules, and so on


def substitute(atoms: Iterable[Atom], env: Mapping[Any, Atom]) -> list[Atom]:
    """Return the atoms with variables replaced by what they stand for."""
    return [env.get(v, v) for v in atoms]


def used(eqn: Eqn, env: Mapping[Any, Atom]) -> Eqn:
    """Return the equation with its operands replaced by what they stand for."""
    for v in eqn.invars:
        if v in env:
            return Eqn(eqn.prim, substitute(eqn.invars, env), eqn.params, eqn.outvars, eqn.source)
    return eqn


class Rewriter:
    """What a rule may ask of the program around its equation, and how it writes new equations."""

    __slots__ = ("changed", "depth", "env", "eqns", "made_by", "rules", "source", "uses")

    def __init__(self, jaxpr: Jaxpr, rules: Rules) -> None:
        self.rules = rules
        self.eqns: list[Eqn] = []
        self.env: dict[Any, Atom] = {}
        self.made_by: dict[Any, Eqn] = {}
        self.changed = False
        self.depth = 0
        self.source: Source | None = None
        self.uses: dict[Any, int] = {}
        for eqn in jaxpr.eqns:
            for v in eqn.invars:
                self.uses[v] = self.uses.get(v, 0) + 1
        for v in jaxpr.outvars:
            self.uses[v] = self.uses.get(v, 0) + 1

    # ------------------------------------------------------------------ what is known
    def maker(self, v: Atom, name: str) -> Eqn | None:
        """Return the equation that makes ``v`` if it is of the primitive ``name``."""
        eqn = self.made_by.get(v)
        return eqn if eqn is not None and eqn.prim.name == name else None

    def once(self, v: Atom) -> bool:
        """Tell whether only one equation reads ``v``."""
        return self.uses_are(v, 1)

    def uses_are(self, v: Atom, count: int) -> bool:
        """Tell whether ``v`` is read so often."""
        return self.uses.get(v, count) == count

    def value(self, v: Atom) -> Any:
        """Return the NumPy scalar that an array is full of, or None where that is not known."""
        while type(v) is Var:
            eqn = self.made_by.get(v)
            if eqn is None or eqn.prim.name != "broadcast_in_dim":
                return None
            v = eqn.invars[0]
        return v.val._data[()]  # type: ignore[union-attr]

    # ------------------------------------------------------------------ writing
    def emit(self, name: str, *args: Atom, **params: Any) -> Any:
        """Write an equation; return its result, or the list of its results."""
        prim = primitives[name]
        avals = prim.type(*[v.aval for v in args], **params)
        many = prim.multiple_results
        outs = [Var(a) for a in (avals if many else [avals])]
        self.add(Eqn(prim, args, params, outs, self.source))
        return [self.env.get(v, v) for v in outs] if many else self.env.get(outs[0], outs[0])

    def full(self, value: Any, aval: ShapedArray) -> Atom:
        """Return an array of the aval's type that is full of one value."""
        lit = Lit(ArrayImpl(np.asarray(value, aval.dtype), aval.weak_type))
        if not aval.shape:
            return lit
        return self.emit("broadcast_in_dim", lit, shape=aval.shape, dims=())

    def add(self, eqn: Eqn) -> None:
        """Take an equation in, or what the rules make of it."""
        rules = self.rules.get(eqn.prim.name)
        if rules is not None and self.depth < _DEEPEST:
            self.depth += 1
            for rule in rules:
                found = rule(self, eqn)
                if found is not None:
                    self.changed = True
                    outs = found if type(found) is list else [found]
                    self.env.update(zip(eqn.outvars, outs, strict=True))  # type: ignore[arg-type]
                    self.depth -= 1
                    return
            self.depth -= 1
        for v in eqn.outvars:
            self.made_by[v] = eqn
        self.eqns.append(eqn)


def rewriter(name: str, doc: str, rules: Rules) -> Pass:
    """Return the pass that applies rules to every equation, once, in order."""

    def run(jaxpr: Jaxpr) -> Jaxpr:
        b = Rewriter(jaxpr, rules)
        env, add = b.env, b.add
        for eqn in jaxpr.eqns:
            b.source = eqn.source
            add(used(eqn, env) if env else eqn)
        if not b.changed:
            return jaxpr
        outs = substitute(jaxpr.outvars, env)
        return Jaxpr(jaxpr.invars, b.eqns, outs, jaxpr.constvars, jaxpr.consts)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = doc
    return run


def merged(*tables: Rules) -> Rules:
    """Return one table of the rules of several, in their order."""
    out: dict[str, tuple[Rule, ...]] = {}
    for table in tables:
        for name, rules in table.items():
            out[name] = (*out.get(name, ()), *rules)
    return out
