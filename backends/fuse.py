"""From a jaxpr to a plan: which values are written to memory, which kernels and calls make them.

Elementwise operations, conversions and movements (broadcast, transpose, slice, reverse, reshapes
that merge axes) are index maps and scalar code inside the kernels of the values that need them;
reductions take their producers in. A value is written to memory when it is an output, when
something that is no kernel reads it, when it is a reduction's result, or when it is expensive and
several kernels want it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var

from .coverage import ELEMENTWISE, KINDS, covers
from .kernel import Affine, Kernel, Op, Store, check_kernel, collapse, row_major
from .plan import Call, Dot, Launch, Plan, Step

__all__ = ["fuse"]

REDUCERS = frozenset(
    ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or")
)
FLOATS = frozenset(map(np.dtype, ("float32", "float64")))
MOVES = frozenset(("broadcast_in_dim", "transpose", "slice", "rev", "reshape"))
MOST_OPS = 400  # a kernel that grew to this many operations takes in no more neighbours

Map = tuple[Affine, ...]  # one affine index per axis of an array


# ---------------------------------------------------------------------- kinds
def kind(eqn: Eqn) -> str:
    """Return how an equation is compiled: 'scalar', 'move', 'iota', 'reduce', 'dot' or 'call'."""
    name, avals = eqn.prim.name, [v.aval for v in (*eqn.invars, *eqn.outvars)]
    if any(a.dtype not in KINDS or a.size == 0 for a in avals):
        return "call"
    if name in ELEMENTWISE:
        return "scalar" if covers(name, (a.dtype for a in avals)) else "call"
    if name in MOVES or name == "iota":
        return "iota" if name == "iota" else "move"
    if name in REDUCERS:
        return (
            "reduce"
            if avals[0].dtype.kind != "b" or name in ("reduce_and", "reduce_or")
            else "call"
        )
    if name == "dot_general" and all(a.dtype == avals[0].dtype for a in avals):
        return "dot" if avals[0].dtype in FLOATS and dot_layout(eqn) is not None else "call"
    return "call"


def dot_layout(eqn: Eqn) -> tuple[int, int, int, int, bool, bool] | None:
    """Return (batch, m, n, k, trans_a, trans_b) of a dot_general that BLAS can take, or None."""
    if any(isinstance(v, Lit) for v in eqn.invars):
        return None
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    (a, b), lead = (v.aval.shape for v in eqn.invars), tuple(range(len(ba)))
    pairs = sorted(zip(ca, cb, strict=True))
    ca, cb = tuple(i for i, _ in pairs), tuple(j for _, j in pairs)
    if ba != lead or bb != lead:
        return None

    def split(shape: Sequence[int], contracted: tuple[int, ...]) -> tuple[bool, int, int] | None:
        free = tuple(d for d in range(len(shape)) if d not in contracted and d >= len(lead))
        sizes = int(np.prod([shape[d] for d in free])), int(np.prod([shape[d] for d in contracted]))
        if (*free, *contracted) == tuple(range(len(lead), len(shape))):
            return True, *sizes
        return (
            (False, *sizes) if (*contracted, *free) == tuple(range(len(lead), len(shape))) else None
        )

    left, right = split(a, ca), split(b, cb)
    if left is None or right is None or max(*left[1:], right[1]) >= 2**31:
        return None
    return int(np.prod([a[d] for d in lead])), left[1], right[1], left[2], not left[0], right[0]


# ---------------------------------------------------------------------- index maps
def _identity(ndim: int) -> Map:
    return tuple(Affine(0, tuple(int(k == j) for j in range(ndim))) for k in range(ndim))


def _combine(terms: Sequence[tuple[int, Affine]], ndim: int, offset: int = 0) -> Affine:
    strides = [0] * ndim
    for factor, m in terms:
        offset += factor * m.offset
        strides = [s + factor * t for s, t in zip(strides, m.strides, strict=True)]
    return Affine(offset, tuple(strides))


def _merged_axes(small: Sequence[int], large: Sequence[int]) -> list[list[int]] | None:
    """Return, per axis of ``small``, the axes of ``large`` that it merges, or None."""
    groups, at = [], 0
    for n in small:
        size, group = 1, []
        while at < len(large) and size < n:
            size *= large[at]
            group.append(at)
            at += 1
        if size != n:
            return None
        groups.append(group)
    return groups if all(large[k] == 1 for k in range(at, len(large))) else None


def _moved(eqn: Eqn, where: Map, ndim: int) -> Map | None:
    """Return the index map into a movement's operand, given the one into its result."""
    name, params, shape = eqn.prim.name, eqn.params, eqn.invars[0].aval.shape
    zero = Affine(0, (0,) * ndim)
    if name == "broadcast_in_dim":
        return tuple(
            where[d] if n != 1 else zero for n, d in zip(shape, params["dims"], strict=True)
        )
    if name == "transpose":
        return tuple(where[params["perm"].index(k)] for k in range(len(shape)))
    if name == "slice":
        stride = params["stride"] or (1,) * len(shape)
        return tuple(
            _combine([(s, m)], ndim, start)
            for start, s, m in zip(params["start"], stride, where, strict=True)
        )
    if name == "rev":
        return tuple(
            _combine([(-1, m)], ndim, n - 1) if k in params["axes"] else m
            for k, (n, m) in enumerate(zip(shape, where, strict=True))
        )
    out_shape = eqn.outvars[0].aval.shape
    groups = _merged_axes(shape, out_shape)
    if groups is None:
        return None
    found = []
    for group in groups:
        sizes = [out_shape[k] for k in group]
        found.append(
            _combine([(s, where[k]) for s, k in zip(row_major(sizes), group, strict=True)], ndim)
        )
    return tuple(found)


# ---------------------------------------------------------------------- materialise
class _Fuser:
    """What is known of a program while it is being fused."""

    def __init__(self, jaxpr: Jaxpr) -> None:
        self.jaxpr = jaxpr
        self.eqn_of: dict[Var, Eqn] = {v: e for e in jaxpr.eqns for v in e.outvars}
        self.kinds = {e: kind(e) for e in jaxpr.eqns}
        self.stored: set[Var] = {*jaxpr.constvars, *jaxpr.invars}
        self.stored.update(v for v in jaxpr.outvars if isinstance(v, Var))
        for eqn in jaxpr.eqns:
            how = self.kinds[eqn]
            if how in ("call", "dot", "reduce"):
                self.stored.update(eqn.outvars)
            if how in ("call", "dot"):
                self.stored.update(v for v in eqn.invars if isinstance(v, Var))
            if eqn.prim.name == "reshape" and how == "move" and isinstance(eqn.invars[0], Var):
                if (
                    _moved(eqn, _identity(eqn.outvars[0].aval.ndim), eqn.outvars[0].aval.ndim)
                    is None
                ):
                    self.stored.add(eqn.invars[0])
        self._store_shared()
        self._store_long()

    def _store_long(self) -> None:
        """Cut expressions that would make one kernel too long."""
        inside: dict[Var, frozenset[Eqn]] = {}
        for eqn in self.jaxpr.eqns:
            used = frozenset([eqn]).union(
                *(inside.get(v, ()) for v in eqn.invars if isinstance(v, Var))
            )
            if len(used) > MOST_OPS // 2 and self.kinds[eqn] in ("scalar", "move"):
                self.stored.update(eqn.outvars)
            for v in eqn.outvars:
                inside[v] = frozenset() if v in self.stored else used

    def _store_shared(self) -> None:
        """Mark expensive values that would be computed in several kernels."""
        sinks: dict[Var, set[Var]] = {}
        for eqn in reversed(self.jaxpr.eqns):
            shared = any(len(sinks.get(v, ())) > 1 for v in eqn.outvars)
            if shared and self.kinds[eqn] == "scalar" and ELEMENTWISE[eqn.prim.name].heavy:
                self.stored.update(eqn.outvars)
            ends = {v for v in eqn.outvars if v in self.stored}
            for v in eqn.outvars:
                if v not in self.stored:
                    ends |= sinks.get(v, set())
            for v in eqn.invars:
                if isinstance(v, Var):
                    sinks.setdefault(v, set()).update(ends)
        self.sinks = sinks

    def loop_key(self, eqn: Eqn) -> tuple[object, ...]:
        """Return what two kernels must have in common to become one: their loops."""
        if self.kinds[eqn] == "reduce":
            return ("reduce", eqn.invars[0].aval.shape, eqn.params["axes"])
        return ("map", eqn.outvars[0].aval.shape)


class _Body:
    """The scalar body of one kernel, grown from its roots backwards."""

    def __init__(self, fuser: _Fuser, sizes: tuple[int, ...], roots: Sequence[Eqn]) -> None:
        self.fuser, self.ndim = fuser, len(sizes)
        self.roots = {v for e in roots if fuser.kinds[e] != "reduce" for v in e.outvars}
        self.identity = _identity(self.ndim)
        self.ops: list[Op] = []
        self.known: dict[object, int] = {}
        self.buffers: dict[Var, int] = {}
        self.sound = True  # no root is read at any place but its own

    def emit(self, op: Op, key: object) -> int:
        self.ops.append(op)
        self.known[key] = len(self.ops) - 1
        return len(self.ops) - 1

    def buffer(self, v: Var) -> int:
        return self.buffers.setdefault(v, len(self.buffers))

    def load(self, v: Var, shape: Sequence[int], where: Map) -> int:
        place = _combine(list(zip(row_major(shape), where, strict=True)), self.ndim)
        key = ("load", v, place)
        if key in self.known:
            return self.known[key]
        return self.emit(Op("load", (), v.aval.dtype, self.buffer(v), place), key)

    def value(self, v: Var | Lit, where: Map) -> int:
        """Return the number of the value of ``v`` at an index map."""
        if isinstance(v, Lit):
            item = v.val._data.item()
            key = ("const", v.aval.dtype, repr(item))
            return (
                self.known[key]
                if key in self.known
                else self.emit(Op("const", (), v.aval.dtype, item), key)
            )
        key = (v, where)
        if key in self.known:
            return self.known[key]
        if v in self.fuser.stored and not (v in self.roots and where == self.identity):
            self.sound = self.sound and v not in self.roots
            return self.load(v, v.aval.shape, where)
        return self.compute(self.fuser.eqn_of[v], v, where)

    def compute(self, eqn: Eqn, v: Var, where: Map) -> int:
        how = self.fuser.kinds[eqn]
        if how == "iota":
            return self.emit(
                Op("index", (), v.aval.dtype, None, where[eqn.params["axis"]]), (v, where)
            )
        if how == "move":
            inner = _moved(eqn, where, self.ndim)
            operand = eqn.invars[0]
            found = (
                self.load(operand, v.aval.shape, where)
                if inner is None and isinstance(operand, Var)
                else self.value(operand, inner)
            )
            self.known[v, where] = found
            return found
        args, attr = tuple(self.value(a, where) for a in eqn.invars), dict(eqn.params)
        if eqn.prim.multiple_results:
            attr["result"] = eqn.outvars.index(v)
        return self.emit(Op(eqn.prim.name, args, v.aval.dtype, attr or None), (v, where))


def _kernel(fuser: _Fuser, roots: Sequence[Eqn], name: str) -> tuple[Launch, bool]:
    """Return the kernel that makes the results of ``roots``, and whether they may share it."""
    first = roots[0]
    reducing = fuser.kinds[first] == "reduce"
    sizes = (first.invars if reducing else first.outvars)[0].aval.shape
    reduced = tuple(reducing and k in first.params["axes"] for k in range(len(sizes)))
    body = _Body(fuser, sizes, roots)
    made = []
    for eqn in roots:
        out = eqn.outvars[0]
        if reducing:
            made.append(
                (
                    out,
                    body.value(eqn.invars[0], body.identity),
                    eqn.prim.name if any(reduced) else None,
                )
            )
        else:
            made += [(v, body.value(v, body.identity), None) for v in eqn.outvars]
    kept = iter(row_major([n for n, r in zip(sizes, reduced, strict=True) if not r]))
    where = Affine(0, tuple(0 if r else next(kept) for r in reduced))
    body.sound = body.sound and not any(out in body.buffers for out, _, _ in made)
    stores = tuple(Store(body.buffer(out), value, where, how) for out, value, how in made)
    kernel = Kernel(
        name, sizes, reduced, tuple(v.aval.dtype for v in body.buffers), tuple(body.ops), stores
    )
    return Launch(collapse(kernel) if sizes else kernel, tuple(body.buffers)), body.sound


def fuse(jaxpr: Jaxpr) -> Plan:
    """Return the plan of a program: kernels, matrix products and calls of eager rules, in order."""
    fuser = _Fuser(jaxpr)
    steps: list[Step] = []
    group: list[Eqn] = []

    def flush() -> None:
        if group:
            launch, _ = _kernel(fuser, group, f"k{len(steps)}")
            check_kernel(launch.kernel)
            steps.append(launch)
            group.clear()

    for eqn in jaxpr.eqns:
        how = fuser.kinds[eqn]
        if how in ("call", "dot"):
            flush()
            if how == "call":
                steps.append(Call(eqn))
            else:
                steps.append(Dot(*eqn.invars, eqn.outvars[0], *dot_layout(eqn)))  # type: ignore[call-arg, arg-type]
        elif any(v in fuser.stored for v in eqn.outvars):
            if group and fuser.loop_key(group[0]) != fuser.loop_key(eqn):
                flush()
            if group:
                launch, sound = _kernel(fuser, [*group, eqn], "trial")
                if not sound or len(launch.kernel.body) > MOST_OPS:
                    flush()
            group.append(eqn)
    flush()
    return Plan(jaxpr, tuple(steps))
