"""What the steps of a loop read: cheap to compute from the rest, it is not kept in memory.

The loop of a gradient reads what the loop before it left, step by step: a sigmoid's value and its
slope, say. The slope follows from the value, so the first loop need not write it, nor the second
read it. Likewise arrays that only a loop reads, made elementwise of others, are made in the loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funtorch.core import ArrayImpl, primitives
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var

from ..restage import split
from .rewrite import Atom, Rewriter, used

__all__ = ["CHEAP", "recompute_operands"]

CHEAP = frozenset(
    """add sub mul neg abs sign square max min select convert eq ne lt le gt ge is_finite copy
    bitwise_and bitwise_or bitwise_xor bitwise_not""".split()  # noqa: SIM905
)
_DEEPEST = 16  # operations from what is read to what is computed of it


class _Steps:
    """Expresses the operands of a loop, at a step, in terms of fewer or smaller ones."""

    def __init__(self, b: Rewriter, eqn: Eqn) -> None:
        p = eqn.params
        self.b, self.body, self.length = b, p["jaxpr"], p["length"]
        n = p["num_consts"] + p["num_carry"]
        self.given = dict(zip(eqn.invars[n:], self.body.invars[n:], strict=True))
        self.reads: dict[Any, int] = {}
        for x in eqn.invars:
            self.reads[x] = self.reads.get(x, 0) + 1
        self.consts: dict[Any, Var] = {}
        self.xs: dict[Any, Var] = {}
        self.before: list[Eqn] = []
        self.known: dict[Any, Atom] = {}
        self.makers: dict[Eqn, dict[Any, Eqn]] = {}  # of the variables in other loops

    def write(self, eqn: Eqn, args: list[Atom], out: Var) -> Var:
        """Write an equation of a step."""
        self.before.append(Eqn(eqn.prim, args, eqn.params, [out], eqn.source))
        return out

    def const(self, x: Atom) -> Atom:
        """Return what stands in a step for an array that is the same at every step."""
        return x if type(x) is Lit else self.consts.setdefault(x, Var(x.aval))

    def kept(self, x: Atom) -> Var:
        """Return what stands in a step for a slice of an array that is read."""
        if x not in self.xs:
            given = self.given.get(x)
            self.xs[x] = Var(x.aval.update(shape=x.aval.shape[1:])) if given is None else given
        return self.xs[x]

    def at(self, x: Atom) -> Atom:
        """Return the slice at a step of an operand of the loop."""
        if x not in self.known:
            found = self.expressed(x, _DEEPEST)
            self.known[x] = self.kept(x) if found is None else found
        return self.known[x]

    def expressed(self, x: Atom, deepest: int) -> Atom | None:
        """Return the slice of an array computed from others; None if it had better be read."""
        made = self.b.made_by.get(x)
        if made is None or not deepest or not self.b.uses_are(x, self.reads.get(x, 1)):
            return None
        if made.prim.name == "scan":
            return self.left(made, x)
        if made.prim.name not in CHEAP:
            return None
        args = []
        for v in made.invars:
            found = self.spread(v)
            if found is None and int(v.aval.size) * v.aval.dtype.itemsize > int(_nbytes(x)):
                return None
            args.append(self.at(v) if found is None else found)
        return self.write(made, args, Var(x.aval.update(shape=x.aval.shape[1:])))

    def spread(self, x: Atom) -> Atom | None:
        """Return the slice of an array whose slices are all the same, or None if it is not."""
        value, aval = self.b.value(x), x.aval.update(shape=x.aval.shape[1:])
        if value is not None:
            source: Atom = Lit(ArrayImpl(np.asarray(value, aval.dtype), aval.weak_type))
            dims: tuple[int, ...] = ()
        else:
            made = self.b.maker(x, "broadcast_in_dim")
            if made is None or 0 in made.params["dims"]:
                return None
            source, dims = self.const(made.invars[0]), tuple(d - 1 for d in made.params["dims"])
        if source.aval.shape == aval.shape:
            return source
        params, out = {"shape": aval.shape, "dims": dims}, Var(aval)
        self.before.append(Eqn(primitives["broadcast_in_dim"], [source], params, [out]))
        return out

    # ---------------------------------------------------------------- what another loop left
    def left(self, scan: Eqn, x: Atom) -> Atom | None:
        """Return what a loop left at each step, computed from what this one reads of it anyway."""
        p = scan.params
        k = list(scan.outvars).index(x) - p["num_carry"]  # type: ignore[arg-type]
        if k < 0 or p["length"] != self.length:
            return None
        body, first = p["jaxpr"], p["num_consts"] + p["num_carry"]
        stacks = [*zip(body.invars[first:], scan.invars[first:], strict=True)]
        stacks += zip(body.outvars[p["num_carry"] :], scan.outvars[p["num_carry"] :], strict=True)
        target = body.outvars[p["num_carry"] + k]
        outside = {v: y for v, y in stacks if y in self.given and v is not target}
        if scan not in self.makers:
            self.makers[scan] = {v: e for e in body.eqns for v in e.outvars}
        made = self.makers[scan]
        inside: dict[Any, Atom] = {}

        def reachable(v: Atom, deepest: int) -> bool:
            if type(v) is Lit or (v in outside and deepest < _DEEPEST):
                return True
            e = made.get(v)
            if e is None or not deepest:
                return False
            if e.prim.name == "broadcast_in_dim":
                return type(e.invars[0]) is Lit
            return e.prim.name in CHEAP and all(reachable(a, deepest - 1) for a in e.invars)

        def value(v: Atom, top: bool = False) -> Atom:
            if type(v) is Lit:
                return v
            if v not in inside:
                if v in outside and not top:
                    inside[v] = self.at(outside[v])
                else:
                    e = made[v]
                    inside[v] = self.write(e, [value(a) for a in e.invars], Var(v.aval))
            return inside[v]

        return value(target, True) if reachable(target, _DEEPEST) else None


def _nbytes(x: Atom) -> int:
    return x.aval.size * x.aval.dtype.itemsize


def recompute_operands(b: Rewriter, eqn: Eqn) -> list[Atom] | None:
    """Compute in a scan's steps what is cheap to compute there, instead of reading it."""
    p = eqn.params
    body, k, n = p["jaxpr"], p["num_consts"], p["num_carry"]
    consts, init, xs = split(eqn.invars, k, n)
    const_vars, carry, x_vars = split(body.invars, k, n)
    if not p["length"]:
        return None
    steps = _Steps(b, eqn)
    env = {v: steps.at(x) for x, v in zip(xs, x_vars, strict=True)}
    bytes_before, bytes_after = (sum(map(_nbytes, arrays)) for arrays in ({*xs}, steps.xs))
    if not steps.before or bytes_after > 2 * bytes_before:
        return None
    new = Jaxpr(
        [*const_vars, *steps.consts.values(), *carry, *steps.xs.values()],
        [*steps.before, *(used(e, env) for e in body.eqns)],
        [env.get(v, v) for v in body.outvars],
    )
    params = {**p, "jaxpr": new, "num_consts": k + len(steps.consts)}
    return b.emit("scan", *consts, *steps.consts, *init, *steps.xs, **params)
