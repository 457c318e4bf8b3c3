"""Fit a program into a budget of memory by computing values again that it would keep.

What to drop is found step by step: the value that takes most off the memory above the budget, for
what making it again costs, goes first. The model of `recompute` judges, the layout of the rewritten
program decides. Values that turn out not to have been worth it are kept after all.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from funtorch.errors import Source
from funtorch.jaxpr import Eqn, Jaxpr, Var

from .compile import plan_of
from .cost import MemoryStats, memory_analysis, program_cost
from .layout import lay_out, lifetimes, nbytes
from .lower import lower
from .plan import Scan
from .recompute import Graph, Schedule, rewritten, schedule

__all__ = ["Fitted", "Recomputed", "fit"]

_MOST = 192  # values that are considered for being dropped, the most promising ones
_ROUNDS = 12  # programs that are planned on the way to the budget
_SHOWN = 5  # arrays that an error names
_STEP = 0.8  # by how much the aim goes down where the budget itself cannot be aimed at
_FRUITLESS = 3  # such steps in a row that find nothing better, until it is given up


@dataclass(frozen=True)
class Recomputed:
    """A value that is computed again: its type, its bytes, what makes it, and the user's line."""

    type: str
    bytes: int
    what: str
    where: str


@dataclass(frozen=True)
class Fitted:
    """A program that fits into its budget.

    Attributes:
        jaxpr: the program.
        budget: the bytes allowed.
        peak, before: the bytes needed, and those that keeping everything would need.
        again: what is computed again.
        cost: the share of operations that are added.
    """

    jaxpr: Jaxpr
    budget: int
    peak: int
    before: int
    again: tuple[Recomputed, ...] = ()
    cost: float = 0.0

    def __str__(self) -> str:
        head = f"memory budget {self.budget} bytes: peak {self.peak}"
        if not self.again:
            return f"{head}, nothing is computed again"
        saved = sum(r.bytes for r in self.again)
        return (
            f"{head}, was {self.before}; {len(self.again)} arrays of {saved} bytes are computed "
            f"again, for {self.cost:.0%} more operations"
        )


def _line(source: Source | None) -> str:
    return "" if source is None or source.code is None else str(source)


class _Search:
    """The search for what to drop from one program."""

    def __init__(self, jaxpr: Jaxpr, donated: frozenset[int]) -> None:
        self.jaxpr, self.donated = lower(jaxpr), donated
        plan = plan_of(self.jaxpr)
        self.graph = Graph(plan, lay_out(plan, donated))
        self.memory = memory_analysis(self.jaxpr, donated)
        self.fixed = self.memory.peak_memory_in_bytes - self.memory.temp_size_in_bytes
        self.dropped: set[Var] = set()
        self.best: tuple[int, Jaxpr] = self.memory.peak_memory_in_bytes, self.jaxpr

    def now(self) -> Schedule:
        return schedule(self.graph, self.dropped)

    def aim(self, target: float) -> bool:
        """Drop values until the model's memory is below a target; tell whether one was dropped."""
        graph, state = self.graph, self.now()
        least = max(1024, state.peak // 1000)
        found = [v for v in graph.candidates(least) if v not in self.dropped]
        # At most this is gained: what the value takes while memory is above the target.
        above = np.cumsum(np.concatenate([[0], state.bytes > target]))
        most = [-self._room(v, above) / max(graph.cost(v), 1.0) for v in found]
        order = np.argsort(most, kind="stable")[:_MOST]
        names = {k: found[k] for k in order.tolist()}
        heap = [(most[k], k) for k in names]
        heapq.heapify(heap)
        fresh: set[int] = set()  # those whose score is of the present state
        changed = False
        while heap and state.excess(target) > 0:
            score, k = heapq.heappop(heap)
            if score >= 0:
                break
            if k in fresh:
                self.dropped.add(names[k])
                state, changed = self.now(), True
                fresh.clear()
                continue
            after = schedule(graph, self.dropped | {names[k]})
            gain = state.excess(target) - after.excess(target)
            more = max(after.cost - state.cost, 1.0)
            heapq.heappush(heap, (-gain / more if gain > 0 else 0.0, k))
            fresh.add(k)
        return changed

    def _room(self, v: Var, above: np.ndarray) -> float:
        """Return the bytes of a value, times the steps of its rest at which memory is short."""
        start, stop = self.graph.pause(v)
        return float(self.graph.bytes[v] * (above[stop] - above[start + 1]))

    def measure(self) -> int:
        """Write the program down, and return its true peak."""
        program = rewritten(self.graph, self.now().ops)
        peak = memory_analysis(program, self.donated).peak_memory_in_bytes
        if peak < self.best[0]:
            self.best = peak, program
        return peak

    def reach(self, budget: int) -> bool:
        """Drop values until the program fits, aiming lower while the true peak is above."""
        target: float = budget - self.fixed
        for _ in range(_ROUNDS):
            changed = self.aim(target)
            peak = self.measure()
            if peak <= budget:
                return True
            if not changed and self.now().peak > target:
                return False
            target = min(target, self.now().peak) - (peak - budget)
        return False

    def descend(self, budget: int) -> bool:
        """Aim at lower and lower peaks, the same for every budget: what is found is the least."""
        self.best = self.memory.peak_memory_in_bytes, self.jaxpr
        self.dropped.clear()
        target, fruitless = float(self.now().peak), 0
        while fruitless < _FRUITLESS:
            target *= _STEP
            self.dropped.clear()
            self.aim(target)
            least = self.best[0]
            if self.measure() <= budget:
                return True
            fruitless = 0 if self.best[0] < least else fruitless + 1
        return False

    def keep_more(self, budget: int) -> None:
        """Keep what need not be dropped, the dearest first, while the program fits."""
        target = self.now().peak
        for v in sorted(self.dropped, key=lambda v: -self.graph.cost(v)):
            without = self.dropped - {v}
            after = schedule(self.graph, without)
            if after.peak <= target and after.cost < self.now().cost:
                program = rewritten(self.graph, after.ops)
                peak = memory_analysis(program, self.donated).peak_memory_in_bytes
                if peak <= budget:
                    self.dropped, self.best = without, (peak, program)

    def fits(self, budget: int) -> bool:
        """Drop what is needed for a budget, and no more; tell whether it was reached."""
        if self.memory.peak_memory_in_bytes > budget:
            if not self.reach(budget) and not self.descend(budget):
                return False
            self.keep_more(budget)
        return True

    def again(self) -> list[Recomputed]:
        """Describe what is computed again."""
        found = []
        for v in self.now().again:
            eqn = self.graph.maker[v]
            kind = v.aval.str_short()
            found.append(Recomputed(kind, nbytes(v), eqn.prim.name, _line(eqn.source)))
        return found

    def report(
        self, budget: int, jaxpr: Jaxpr, before: int, inside: Sequence[Recomputed]
    ) -> Fitted:
        """Describe the program found beside the one that there was."""
        peak, program = self.best
        base, more = program_cost(jaxpr), program_cost(program)
        total = max(base.flops + base.transcendentals, 1.0)
        cost = (more.flops + more.transcendentals) / total - 1
        again = (*inside, *self.again())
        return Fitted(program, budget, peak, before, again, cost)


def fit(jaxpr: Jaxpr, donated: frozenset[int], budget: int, name: str) -> Fitted:
    """Return an equal program whose peak of memory is within a budget.

    Args:
        jaxpr: the program, simplified.
        donated: positions of the inputs whose memory outputs may take.
        budget: bytes for arguments, results and temporary arrays together.
        name: what errors call the program.

    Raises:
        ValueError: if there is none, naming the least peak found and what it consists of.
    """
    search = _Search(jaxpr, donated)
    before = search.memory.peak_memory_in_bytes
    if before <= budget:
        return Fitted(jaxpr, budget, before, before)
    inner, again = _with_smaller_loop(search, budget)
    if again:
        search = _Search(inner, donated)
    if not search.fits(budget):
        raise ValueError(_unreachable(search, budget, name, before))
    return search.report(budget, jaxpr, before, again)


def _with_smaller_loop(search: _Search, budget: int) -> tuple[Jaxpr, list[Recomputed]]:
    """Return the program with less memory in the scan where it needs most, if it does in one."""
    graph = search.graph
    at = int(search.now().bytes.argmax())
    step = graph.plan.steps[at]
    if not isinstance(step, Scan):
        return search.jaxpr, []
    body = _Search(step.eqn.params["jaxpr"], frozenset())
    had = body.memory.peak_memory_in_bytes
    body.fits(max(0, had - (search.memory.peak_memory_in_bytes - budget)))
    if body.best[0] >= had:
        return search.jaxpr, []
    eqn, old = step.eqn, search.jaxpr
    params = {**eqn.params, "jaxpr": body.best[1]}
    new = Eqn(eqn.prim, eqn.invars, params, eqn.outvars, eqn.source)
    eqns = [new if e is eqn else e for e in old.eqns]
    again = body.again() if body.dropped else []
    return Jaxpr(old.invars, eqns, old.outvars, old.constvars, old.consts), again


def _unreachable(search: _Search, budget: int, name: str, before: int) -> str:
    peak, program = search.best
    memory = memory_analysis(program, search.donated)
    lines = [
        f"jit of {name}: memory_budget={budget} bytes cannot be met. The least peak found is "
        f"{peak} bytes ({before} without computing anything again): "
        f"{_parts(memory)}. The largest arrays alive at that peak:"
    ]
    lines += [f"  {row}" for row in _largest(program, search.donated)]
    lines.append(
        f"Set memory_budget to {peak} or more, donate arguments (donate_argnums), or compute on "
        "smaller batches"
    )
    return "\n".join(lines)


def _parts(m: MemoryStats) -> str:
    shared = f" ({m.alias_size_in_bytes} of them in donated arguments)"
    return (
        f"arguments {m.argument_size_in_bytes}, results {m.output_size_in_bytes}"
        f"{shared if m.alias_size_in_bytes else ''}, temporary arrays {m.temp_size_in_bytes}"
    )


def _largest(jaxpr: Jaxpr, donated: frozenset[int]) -> Sequence[str]:
    """Describe the largest arrays that are alive when the program needs most."""
    plan = plan_of(jaxpr)
    layout = lay_out(plan, donated)
    first, last = lifetimes(plan)
    sizes = [0] * (len(plan.steps) + 1)
    for k, loop in layout.loops.items():
        sizes[k] += max(inner.arena for inner in loop.layouts)
    for v, place in layout.places.items():
        if place.kind == "arena":
            for k in range(first[v], last[v] + 1):
                sizes[k] += nbytes(v)
    top = sizes.index(max(sizes))
    alive = [v for v in layout.places if first[v] <= top <= last[v]]
    alive.sort(key=nbytes, reverse=True)
    maker = {v: e for e in plan.jaxpr.eqns for v in e.outvars}
    given = {*plan.jaxpr.invars, *plan.jaxpr.constvars}

    def origin(v: Var) -> str:
        if v in given:
            return "an argument"
        eqn = maker.get(v)
        return f"from {eqn.prim.name}, {_line(eqn.source)}" if eqn is not None else "a part"

    return [f"{v.aval.str_short()}, {nbytes(v)} bytes, {origin(v)}" for v in alive[:_SHOWN]]
