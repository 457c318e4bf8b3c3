"""Programs that compute values again instead of keeping them: a model of their memory, and the
programs themselves.

What is stored of a program, and which step makes and reads it, its plan says. A value is *dropped*
after the use that precedes its longest rest, and made again, from what is in memory by then or made
again in turn, just before its next use. `schedule` says in which order things happen then, and what
that takes; `rewritten` writes it down as a program, with barriers that keep the two makings apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from funtorch.core import primitives
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var

from .cost import equation_cost
from .layout import Layout, nbytes
from .lower import BARRIER
from .plan import Call, Launch, Plan, Scan, While, writes

__all__ = ["Graph", "Op", "Schedule", "rewritten", "schedule"]

_SLOW = 10.0  # operations that exp, sin and their like take
_MOVED = 5.0  # operations done in the time that a byte moves
_KEPT = 4  # what is so much smaller than what is made of it is kept rather than made again


class Graph:
    """The stored values of a planned program: who makes them, from what, and when they are used.

    Attributes:
        jaxpr: the program, lowered.
        targets: what each step writes to memory.
        leaves: for each stored value, the stored values that it is computed from.
        uses: the steps that make and read each value that lives in the arena.
        rest: the use after which a value is longest not needed.
        own: bytes that a step needs for itself: those of loops.
        launches: the steps that may work in place.
    """

    def __init__(self, plan: Plan, layout: Layout) -> None:
        self.jaxpr = jaxpr = plan.jaxpr
        self.plan = plan
        self.maker = {v: e for e in jaxpr.eqns for v in e.outvars}
        self.index = {e: k for k, e in enumerate(jaxpr.eqns)}
        self.targets = [
            sorted((v for v in set(writes(s)) if v in self.maker), key=self.place)
            for s in plan.steps
        ]
        self.given: set[Var] = {*jaxpr.constvars, *jaxpr.invars}
        self.stored = self.given | {v for vs in self.targets for v in vs}
        self.results = {v for v in jaxpr.outvars if isinstance(v, Var)}
        self._cones: dict[Var, list[Eqn]] = {}
        self.leaves: dict[Var, list[Var]] = {}
        for v in self.stored - self.given:
            self._look_up(v)
        self.reads = [
            list(dict.fromkeys(u for v in vs for u in self.leaves[v] if u not in vs))
            for vs in self.targets
        ]
        self.bytes = {v: nbytes(v) for v, p in layout.places.items() if p.kind == "arena"}
        self.uses: dict[Var, list[int]] = {v: [] for v in self.stored}
        for k, vs in enumerate(self.targets):
            for v in dict.fromkeys([*vs, *self.reads[k]]):
                self.uses[v].append(k)
        self.rest = {v: _longest_rest(ks) for v, ks in self.uses.items() if len(ks) > 1}
        self.own = [0] * len(plan.steps)
        for k, loop in layout.loops.items():
            spares: list[Var] = [plan.steps[k].eqn.outvars[j] for j in loop.spares]  # type: ignore[union-attr]
            self.own[k] = max(inner.arena for inner in loop.layouts) + sum(map(nbytes, spares))
        self.launches = [isinstance(s, (Launch, Scan, While)) for s in plan.steps]
        self._costs: dict[Var, float] = {}

    def place(self, v: Var) -> int:
        """Return the number of the equation that makes a value."""
        return self.index[self.maker[v]]

    def _look_up(self, v: Var) -> None:
        found: set[Eqn] = set()
        leaves: dict[Var, None] = {}
        todo = [self.maker[v]]
        while todo:
            eqn = todo.pop()
            if eqn in found:
                continue
            found.add(eqn)
            for u in eqn.invars:
                if isinstance(u, Lit):
                    continue
                if u in self.stored:
                    leaves[u] = None
                else:
                    todo.append(self.maker[u])
        self._cones[v] = sorted(found, key=self.index.__getitem__)
        self.leaves[v] = list(leaves)

    def cone(self, v: Var) -> list[Eqn]:
        """Return the equations that make a value from its leaves, in order."""
        return self._cones[v]

    def cost(self, v: Var) -> float:
        """Return about how many operations making a value again takes."""
        if v not in self._costs:
            total = _MOVED * sum(map(nbytes, [v, *self.leaves[v]]))
            for eqn in self.cone(v):
                cost = equation_cost(eqn)
                total += cost.flops + _SLOW * cost.transcendentals
            self._costs[v] = total
        return self._costs[v]

    def candidates(self, least: int) -> list[Var]:
        """Return the values of so many bytes that may be made again, and rest for a while."""
        calls = {v for s in self.plan.steps if isinstance(s, Call) for v in writes(s)}
        return [
            v
            for v, size in self.bytes.items()
            if size >= least
            and v in self.rest
            and self.pause(v)[1] > self.pause(v)[0] + 1
            and v not in calls
            and not any(eqn.effects for eqn in self.cone(v))
        ]

    def pause(self, v: Var) -> tuple[int, int]:
        """Return the steps between which a value is longest not used."""
        uses = self.uses[v]
        return self.rest[v], uses[uses.index(self.rest[v]) + 1]


def _longest_rest(uses: Sequence[int]) -> int:
    gaps = [b - a for a, b in itertools.pairwise(uses)]
    return uses[gaps.index(max(gaps))]


@dataclass
class Op:
    """One thing to do: the targets of a step, or a value made again.

    Attributes:
        step: the step it is, or that it is done for.
        targets: what it makes.
        used: what it reads that has been made again.
        again: whether it makes its target again.
    """

    step: int
    targets: list[Var]
    used: set[Var]
    again: bool


@dataclass
class Schedule:
    """What is done in which order, its bytes in the arena over time, and what is done twice."""

    ops: list[Op]
    again: list[Var]
    cost: float
    bytes: np.ndarray = field(repr=False)  # the most during each step of the plan

    @property
    def peak(self) -> int:
        return int(self.bytes.max(initial=0))

    def excess(self, target: float) -> float:
        """Return how far memory is above a target, added up over the steps."""
        return float(np.maximum(self.bytes - target, 0).sum())


def schedule(graph: Graph, dropped: Collection[Var]) -> Schedule:
    """Say what happens when some values are dropped and made again.

    What such a value is made from, and nobody keeps, is made again, too, unless it is small.
    """
    gone = {v: graph.rest[v] for v in dropped}
    ops: list[Op] = []
    again: dict[Var, None] = {}
    ends = len(graph.targets)

    def is_there(v: Var, step: int) -> bool:
        if v in graph.given or v in graph.results or v not in graph.bytes:
            return True
        return graph.uses[v][-1] >= step

    def missing(v: Var, step: int) -> bool:
        return v in gone and step > gone[v]

    def make(v: Var, step: int) -> None:
        todo = [(v, False)]
        while todo:
            w, ready = todo.pop()
            if w in again:
                continue
            if ready:
                used = {u for u in graph.leaves[w] if u in again}
                ops.append(Op(step, [w], used, True))
                stored = [o for o in graph.maker[w].outvars if o in graph.stored]
                again.update(dict.fromkeys(stored))
                continue
            todo.append((w, True))
            for u in graph.leaves[w]:
                lost = not is_there(u, step) and graph.bytes[u] * _KEPT > graph.bytes.get(w, 0)
                if u not in again and (missing(u, step) or (lost and u in graph.maker)):
                    todo.append((u, False))

    for k in range(ends):
        for u in graph.reads[k]:
            if missing(u, k):
                make(u, k)
        used = {u for u in graph.reads[k] if missing(u, k)}
        ops.append(Op(k, graph.targets[k], used, False))
    return Schedule(ops, list(again), sum(map(graph.cost, again)), _memory(graph, ops))


def _memory(graph: Graph, ops: Sequence[Op]) -> np.ndarray:
    """Return the bytes in the arena during each step of the plan, its preparations included."""
    first: dict[tuple[Var, bool], int] = {}
    last: dict[tuple[Var, bool], int] = {}
    for k, op in enumerate(ops):
        reads = graph.leaves[op.targets[0]] if op.again else graph.reads[op.step]
        made = graph.maker[op.targets[0]].outvars if op.again else op.targets
        for v in (*reads, *made):
            if v not in graph.bytes:
                continue
            new = v in op.used or (op.again and v in made)
            first.setdefault((v, new), k)
            last[v, new] = k
    change = np.zeros(len(ops) + 1, np.int64)
    dying: dict[int, list[int]] = {}
    for key, k in last.items():
        dying.setdefault(k, []).append(graph.bytes[key[0]])
    for key, k in first.items():
        change[k] += graph.bytes[key[0]]
        change[last[key] + 1] -= graph.bytes[key[0]]
    own = np.array([0 if op.again else graph.own[op.step] for op in ops], np.int64)
    for key, k in first.items():
        # What is made may take the place of what dies.
        size, op = graph.bytes[key[0]], ops[k]
        if (op.again or graph.launches[op.step]) and last[key] != k and size in dying.get(k, ()):
            dying[k].remove(size)
            own[k] -= size
    during = np.cumsum(change)[: len(ops)] + own
    bounds = np.flatnonzero(np.diff([op.step for op in ops], prepend=-1))
    return np.maximum.reduceat(during, bounds) if len(ops) else during


# ---------------------------------------------------------------------- the program
def rewritten(graph: Graph, ops: Iterable[Op]) -> Jaxpr:
    """Return the program that does these things in this order."""
    eqns: list[Eqn] = []
    done: set[Eqn] = set()
    fresh: dict[Var, Var] = {}  # what has been made again
    known: dict[tuple[Eqn, tuple[Var | Lit, ...]], list[Var]] = {}
    barrier = primitives[BARRIER]
    fences = [e for e in graph.jaxpr.eqns if e.prim is barrier]
    fence = Eqn(barrier, [], {}, [])

    def write(eqn: Eqn, env: dict[Var, Var], keep: bool, alone: bool) -> None:
        args = [env.get(a, a) if isinstance(a, Var) else a for a in eqn.invars]
        same = all(a is b for a, b in zip(args, eqn.invars, strict=True))
        if keep or (same and not alone):
            if eqn not in done:
                done.add(eqn)
                eqns.append(Eqn(eqn.prim, args, eqn.params, eqn.outvars, eqn.source))
            return
        key = (eqn, tuple(args))
        outs = None if alone else known.get(key)
        if outs is None:
            outs = [Var(v.aval) for v in eqn.outvars]
            eqns.append(Eqn(eqn.prim, args, eqn.params, outs, eqn.source))
            if not alone:
                known[key] = outs
        env.update(zip(eqn.outvars, outs, strict=True))

    before = False
    for op in ops:
        at = min(map(graph.place, op.targets), default=-1)
        while not op.again and fences and graph.index[fences[0]] < at:
            eqns.append(fences.pop(0))
        if op.again and not before:
            eqns.append(fence)
        before = op.again
        env = {v: fresh[v] for v in op.used}
        for v in op.targets:
            for eqn in graph.cone(v):
                mine = not op.again and not graph.stored.isdisjoint(eqn.outvars)
                if op.again and any(o in env for o in eqn.outvars):
                    continue
                write(eqn, env, mine, op.again)
        if op.again:
            outs = graph.maker[op.targets[0]].outvars
            fresh.update((o, env[o]) for o in outs)
        elif not op.targets:
            eqn = getattr(graph.plan.steps[op.step], "eqn", None)
            if eqn is not None and eqn not in done:
                write(eqn, env, True, False)
    j = graph.jaxpr
    return Jaxpr(j.invars, eqns, j.outvars, j.constvars, j.consts)
