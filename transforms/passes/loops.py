"""Passes on loops and branches: known operands move in, what does not change moves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch.core import ArrayImpl, primitives
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var

from ..restage import split
from .algebra import is_exact
from .rewrite import Atom, Rewriter, Rules, rewriter, substitute, used
from .steps import recompute_operands

__all__ = ["LOOPS", "hoist", "simplify_loops"]


def _replaced(
    body: Jaxpr, ins: Sequence[Var], env: dict[Any, Atom], before: Sequence[Eqn], outs: Any = None
) -> Jaxpr:
    """Return a body of other inputs: ``before`` first, then its equations with ``env`` applied."""
    eqns = [*before, *(used(eqn, env) for eqn in body.eqns)]
    return Jaxpr(ins, eqns, substitute(body.outvars if outs is None else outs, env))


def _run(b: Rewriter, body: Jaxpr, args: Sequence[Atom]) -> list[Atom]:
    """Write a program's equations; return its results."""
    env: dict[Any, Atom] = dict(zip(body.invars, args, strict=True))
    for eqn in body.eqns:
        outs = [Var(v.aval) for v in eqn.outvars]
        b.add(Eqn(eqn.prim, substitute(eqn.invars, env), eqn.params, outs, eqn.source))
        env.update(zip(eqn.outvars, substitute(outs, b.env), strict=True))
    return substitute(body.outvars, env)


def _broadcast(x: Atom, out: Var, shape: tuple[int, ...], dims: tuple[int, ...]) -> Eqn:
    params = {"shape": shape, "dims": dims}
    return Eqn(primitives["broadcast_in_dim"], [x], params, [out])


# ---------------------------------------------------------------------- operands known outside
class _Operands:
    """Sorts what a body takes unchanged at every step: literals and copies need no operand."""

    def __init__(self, b: Rewriter) -> None:
        self.b = b
        self.args: list[Atom] = []
        self.vars: list[Var] = []
        self.seen: dict[Any, Var] = {}
        self.env: dict[Any, Atom] = {}
        self.before: list[Eqn] = []

    def take(self, x: Atom, v: Var) -> None:
        """Let the body's variable ``v`` be the atom ``x`` of the program around."""
        value = self.b.value(x)
        if value is not None:
            lit = Lit(ArrayImpl(np.asarray(value, v.aval.dtype), v.aval.weak_type))
            self.env[v] = lit
            if v.aval.shape:
                full = Var(v.aval)
                self.before.append(_broadcast(lit, full, v.aval.shape, ()))
                self.env[v] = full
        elif x in self.seen:
            self.env[v] = self.seen[x]
        else:
            self.seen[x] = v
            self.args.append(x)
            self.vars.append(v)


def _scan_operands(b: Rewriter, eqn: Eqn) -> list[Atom] | None:
    """Literals, equal operands, carries that never change and xs that are one array repeated."""
    p = eqn.params
    body, n = p["jaxpr"], p["num_carry"]
    consts, init, xs = split(eqn.invars, p["num_consts"], n)
    const_vars, carry_vars, x_vars = split(body.invars, p["num_consts"], n)
    fixed = [v is out for v, out in zip(carry_vars, body.outvars[:n], strict=True)]
    ops = _Operands(b)
    for x, v in zip(consts, const_vars, strict=True):
        ops.take(x, v)
    for x, v, f in zip(init, carry_vars, fixed, strict=True):
        if f:
            ops.take(x, v)
    kept_xs: dict[Any, Var] = {}
    for x, v in zip(xs, x_vars, strict=True):
        made = b.maker(x, "broadcast_in_dim")
        if made is not None and 0 not in made.params["dims"]:
            source, dims = made.invars[0], tuple(d - 1 for d in made.params["dims"])
            inner = Var(source.aval)
            ops.take(source, inner)
            ops.before.append(_broadcast(ops.env.get(inner, inner), v, v.aval.shape, dims))
        elif x in kept_xs:
            ops.env[v] = kept_xs[x]
        else:
            kept_xs[x] = v
    if not any(fixed) and len(ops.args) == len(consts) and len(kept_xs) == len(xs):
        return None
    free = [not f for f in fixed]
    carry = [v for v, f in zip(carry_vars, free, strict=True) if f]
    outs = [o for o, f in zip(body.outvars[:n], free, strict=True) if f] + body.outvars[n:]
    new = _replaced(body, [*ops.vars, *carry, *kept_xs.values()], ops.env, ops.before, outs)
    starts = [x for x, f in zip(init, free, strict=True) if f]
    params = {**p, "jaxpr": new, "num_consts": len(ops.args), "num_carry": len(carry)}
    found = iter(b.emit("scan", *ops.args, *starts, *kept_xs, **params))
    return [*(x if f else next(found) for x, f in zip(init, fixed, strict=True)), *found]


def _scan_results(b: Rewriter, eqn: Eqn) -> list[Atom] | None:
    """Stack no y that is known outside, that is an x, or that another y or a smaller one gives."""
    p = eqn.params
    body, n, length = p["jaxpr"], p["num_carry"], p["length"]
    outer = dict(zip(body.invars, eqn.invars, strict=True))
    consts, xs = set(body.invars[: p["num_consts"]]), set(body.invars[p["num_consts"] + n :])
    made = {v: e for e in body.eqns for v in e.outvars}
    stacked: list[Atom] = []
    place: dict[Any, int] = {}
    grow: list[Any] = []  # per y: a function of the stacked ys

    def stack(y: Atom) -> int:
        if y not in place:
            place[y] = len(stacked)
            stacked.append(y)
        return place[y]

    changed = False
    for y in body.outvars[n:]:
        shape = (length, *y.aval.shape)
        whole = tuple(range(1, len(shape)))
        source = made.get(y)
        if type(y) is Lit or y in consts:
            grow.append(("broadcast_in_dim", outer.get(y, y), {"shape": shape, "dims": whole}))
        elif y in xs:
            grow.append((None, outer[y], {}))
        elif source is not None and _is_full(source):
            grow.append(("broadcast_in_dim", source.invars[0], {"shape": shape, "dims": ()}))
        elif source is not None and _is_smaller(source):
            x, params = source.invars[0], dict(source.params)
            if "dims" in params:
                params = {"shape": shape, "dims": (0, *(d + 1 for d in params["dims"]))}
            grow.append((source.prim.name, stack(x), params))
        else:
            changed = changed or y in place
            grow.append((None, stack(y), {}))
            continue
        changed = True
    if not changed:
        return None
    new = Jaxpr(body.invars, body.eqns, [*body.outvars[:n], *stacked])
    outs = b.emit("scan", *eqn.invars, **{**p, "jaxpr": new})
    ys = outs[n:]
    results = []
    for name, x, params in grow:
        atom = ys[x] if type(x) is int else x
        results.append(b.emit(name, atom, **params) if name else atom)
    return [*outs[:n], *results]


def _is_full(eqn: Eqn) -> bool:
    return eqn.prim.name == "broadcast_in_dim" and type(eqn.invars[0]) is Lit


def _is_smaller(eqn: Eqn) -> bool:
    """Tell whether an equation's operand says the same in less memory."""
    x, out = eqn.invars[0] if eqn.invars else None, eqn.outvars[0].aval
    if type(x) is not Var:
        return False
    if eqn.prim.name == "broadcast_in_dim":
        return int(x.aval.size) < int(out.size)
    narrower = x.aval.dtype.itemsize < out.dtype.itemsize
    return eqn.prim.name == "convert" and narrower and is_exact(x.aval.dtype, out.dtype)


def _short_scan(b: Rewriter, eqn: Eqn) -> list[Atom] | None:
    """A scan of no steps gives its start; a scan of one step is its body."""
    p = eqn.params
    n, length = p["num_carry"], p["length"]
    consts, init, xs = split(eqn.invars, p["num_consts"], n)
    if length == 0:
        return [*init, *(b.full(0, v.aval) for v in eqn.outvars[n:])]
    if length != 1:
        return None
    firsts = [b.emit("reshape", x, shape=x.aval.shape[1:]) for x in xs]
    outs = _run(b, p["jaxpr"], [*consts, *init, *firsts])
    return [*outs[:n], *(b.emit("reshape", y, shape=(1, *y.aval.shape)) for y in outs[n:])]


def _while_operands(b: Rewriter, eqn: Eqn) -> list[Atom] | None:
    """Literals, equal operands and carries that never change."""
    p = eqn.params
    cond, body, c, m = p["cond_jaxpr"], p["body_jaxpr"], p["cond_nconsts"], p["body_nconsts"]
    cond_consts, body_consts, init = split(eqn.invars, c, m)
    fixed = [v is out for v, out in zip(body.invars[m:], body.outvars, strict=True)]
    free = [not f for f in fixed]
    programs, args = [], []
    for program, consts in ((cond, cond_consts), (body, body_consts)):
        ops, k = _Operands(b), len(consts)
        for x, v in zip(consts, program.invars[:k], strict=True):
            ops.take(x, v)
        for x, v, f in zip(init, program.invars[k:], fixed, strict=True):
            if f:
                ops.take(x, v)
        carry = [v for v, f in zip(program.invars[k:], free, strict=True) if f]
        outs = program.outvars
        if program is body:
            outs = [o for o, f in zip(outs, free, strict=True) if f]
        programs.append(_replaced(program, [*ops.vars, *carry], ops.env, ops.before, outs))
        args.append(ops.args)
    if not any(fixed) and len(args[0]) == c and len(args[1]) == m:
        return None
    params = {
        "cond_jaxpr": programs[0],
        "body_jaxpr": programs[1],
        "cond_nconsts": len(args[0]),
        "body_nconsts": len(args[1]),
    }
    starts = [x for x, f in zip(init, free, strict=True) if f]
    found = iter(b.emit("while", *args[0], *args[1], *starts, **params))
    return [x if f else next(found) for x, f in zip(init, fixed, strict=True)]


def _cond_operands(b: Rewriter, eqn: Eqn) -> list[Atom] | None:
    """A branch that is known is taken; literals and equal operands move into the branches."""
    index, *operands = eqn.invars
    branches = eqn.params["branches"]
    if type(index) is Lit:
        return _run(b, branches[int(index.val._data)], operands)
    if len(branches) == 1:
        return _run(b, branches[0], operands)
    smaller, args = [], operands
    for branch in branches:
        ops = _Operands(b)
        for x, v in zip(operands, branch.invars, strict=True):
            ops.take(x, v)
        smaller.append(_replaced(branch, ops.vars, ops.env, ops.before))
        args = ops.args
    if len(args) == len(operands):
        return None
    return b.emit("cond", index, *args, branches=tuple(smaller))


# ---------------------------------------------------------------------- products of all steps
_LARGEST = 1 << 24  # elements that may be kept of all steps instead of a sum


def _scan_products(b: Rewriter, eqn: Eqn) -> list[Atom] | None:
    """A carry that only adds products up is one product over all steps, after the loop.

    So the gradient of a weight that every step uses takes no product and no pass over it a step.
    """
    p = eqn.params
    body, k, n = p["jaxpr"], p["num_consts"], p["num_carry"]
    const_vars, carry, x_vars = split(body.invars, k, n)
    consts, init, xs = split(eqn.invars, k, n)
    made: dict[Any, Eqn] = {v: e for e in body.eqns for v in e.outvars}
    reads = Counter(v for e in body.eqns for v in e.invars) + Counter(body.outvars)
    products = {
        at: product
        for at, (c, out) in enumerate(zip(carry, body.outvars[:n], strict=True))
        if (product := _added_product(made, reads, c, out)) is not None
        and not {*const_vars, *carry}.intersection(product.invars)
    }
    steps: dict[Any, Atom] = dict(zip(x_vars, xs, strict=True))
    for at, product in list(products.items()):
        fresh = sum(v.aval.size for v in {*product.invars}.difference(steps))
        kept = int(fresh * p["length"])
        if int(fresh) > int(carry[at].aval.size) or kept > _LARGEST:
            del products[at]
    if not products:
        return None
    kept = [at for at in range(n) if at not in products]
    sums = {body.outvars[at] for at in products}
    fresh_vars = list(
        dict.fromkeys(v for e in products.values() for v in e.invars if v not in steps)
    )
    new = Jaxpr(
        [*const_vars, *(carry[at] for at in kept), *x_vars],
        [e for e in body.eqns if sums.isdisjoint(e.outvars)],
        [*(body.outvars[at] for at in kept), *body.outvars[n:], *fresh_vars],
    )
    params = {**p, "jaxpr": new, "num_carry": len(kept)}
    outs = b.emit("scan", *consts, *(init[at] for at in kept), *xs, **params)
    last, ys, stacks = split(outs, len(kept), len(body.outvars) - n)
    steps.update(zip(fresh_vars, stacks, strict=True))
    results: dict[int, Atom] = dict(zip(kept, last, strict=True))
    for at, product in products.items():
        (ca, cb), (ba, bb) = (
            [tuple(d + 1 for d in dims) for dims in pair]
            for pair in product.params["dimension_numbers"]
        )
        numbers = (((0, *ca), (0, *cb)), (ba, bb))
        params = {**product.params, "dimension_numbers": numbers}
        total = b.emit("dot_general", *(steps[v] for v in product.invars), **params)
        results[at] = b.emit("add", init[at], total)
    return [*(results[at] for at in range(n)), *ys]


def _added_product(made: dict[Any, Eqn], reads: Counter[Atom], carry: Var, out: Atom) -> Eqn | None:
    """Return the product that a step adds to a carry, if that is all that happens to it."""
    add = made.get(out)
    if add is None or add.prim.name != "add" or carry not in add.invars:
        return None
    term = add.invars[1] if add.invars[0] is carry else add.invars[0]
    product = made.get(term)
    if product is None or product.prim.name != "dot_general":
        return None
    once = all(reads[v] == 1 for v in (carry, out, term))
    return product if once and all(type(v) is Var for v in product.invars) else None


# ---------------------------------------------------------------------- loop invariants
# Not worth memory: kernels make these while they read. A loop may not end, and Python may
# raise, where it never began.
_STAYS = frozenset(("broadcast_in_dim", "iota"))
_NEVER = frozenset(("while", "pure_callback"))


def hoist(body: Jaxpr, invariant: Sequence[Var]) -> tuple[list[Eqn], list[Var]]:
    """Find what a loop's body computes anew at every step with the same result.

    Args:
        body: the program of one step.
        invariant: its inputs that never change.

    Returns:
        The equations that can run before the loop, and those of their results that the rest of the
        body reads.
    """
    known: set[Any] = set(invariant)
    made: dict[Any, Eqn] = {}
    hoisted, rest = [], []
    for eqn in body.eqns:
        same = all(type(v) is Lit or v in known for v in eqn.invars)
        if same and eqn.prim.name not in _NEVER and not eqn.effects:
            hoisted.append(eqn)
            known.update(eqn.outvars)
            made.update((v, eqn) for v in eqn.outvars)
        else:
            rest.append(eqn)
    frontier: dict[Any, None] = {}
    pending = [v for eqn in rest for v in eqn.invars] + list(body.outvars)
    seen: set[Any] = set()
    while pending:
        v = pending.pop()
        if v not in made or v in seen:
            continue
        seen.add(v)
        if made[v].prim.name in _STAYS or all(type(x) is Lit for x in made[v].invars):
            pending.extend(made[v].invars)
        else:
            frontier[v] = None
    return hoisted, list(frontier)


def _without(body: Jaxpr, moved: Sequence[Var], at: int) -> Jaxpr:
    """Return the body with some of its variables as inputs, from place ``at`` on."""
    gone = set(moved)
    eqns = [eqn for eqn in body.eqns if gone.isdisjoint(eqn.outvars)]
    return Jaxpr([*body.invars[:at], *moved, *body.invars[at:]], eqns, body.outvars)


def _outside(
    b: Rewriter, body: Jaxpr, hoisted: Sequence[Eqn], args: Sequence[Atom], wanted: Sequence[Var]
) -> list[Atom]:
    ins = body.invars[: len(args)]
    return _run(b, Jaxpr(ins, hoisted, wanted), args)


def _hoist_scan(b: Rewriter, eqn: Eqn) -> list[Atom] | None:
    p = eqn.params
    body, k = p["jaxpr"], p["num_consts"]
    hoisted, moved = hoist(body, body.invars[:k])
    if not moved:
        return None
    consts, rest = split(eqn.invars, k)
    extra = _outside(b, body, hoisted, consts, moved)
    params = {**p, "jaxpr": _without(body, moved, k), "num_consts": k + len(moved)}
    return b.emit("scan", *consts, *extra, *rest, **params)


def _hoist_while(b: Rewriter, eqn: Eqn) -> list[Atom] | None:
    p = eqn.params
    c, m = p["cond_nconsts"], p["body_nconsts"]
    cond_consts, body_consts, init = split(eqn.invars, c, m)
    parts, found = [], False
    for body, consts in ((p["cond_jaxpr"], cond_consts), (p["body_jaxpr"], body_consts)):
        hoisted, moved = hoist(body, body.invars[: len(consts)])
        found = found or bool(moved)
        extra = _outside(b, body, hoisted, consts, moved) if moved else []
        parts.append((_without(body, moved, len(consts)), [*consts, *extra]))
    if not found:
        return None
    (cond, cond_args), (body, body_args) = parts
    params = {
        "cond_jaxpr": cond,
        "body_jaxpr": body,
        "cond_nconsts": len(cond_args),
        "body_nconsts": len(body_args),
    }
    return b.emit("while", *cond_args, *body_args, *init, **params)


LOOPS: Rules = {
    "scan": (
        _short_scan,
        _scan_operands,
        _scan_results,
        _hoist_scan,
        _scan_products,
        recompute_operands,
    ),
    "while": (_while_operands, _hoist_while),
    "cond": (_cond_operands,),
}

simplify_loops = rewriter(
    "simplify_loops",
    "Move what is known into loops and branches, and what does not change out of them.",
    LOOPS,
)
