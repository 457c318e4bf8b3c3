"""The layout of a plan: where every variable lives, who shares memory, how large the arena is.

A variable lives in memory that the caller gives (``param`` k: the memory of input k; ``result`` k:
where output k is wanted), in the ``arena`` at an offset, or, when it is small, in a cell of its own
on the ``stack``, which the compiler turns into registers. The programs of loops and branches have
layouts of their own, whose arenas are blocks of the enclosing one.

Variables share memory where one dies in the step that makes the other and the step can work in
place: element by element, by changing a part of it (a seed), or by being the loop whose carry it
is. So a loop of ``x.at[i].set(v)`` changes one array.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from funtorch.dims import fixed, larger, scope_of
from funtorch.jaxpr import Lit, Var

from .kernel import Store, is_row_store, levels, serial_axes
from .plan import Branch, Dot, Launch, Plan, Scan, Step, Talk, While, plans_of, reads, writes
from .talk import IN_PLACE

__all__ = [
    "ALIGN",
    "Layout",
    "Loop",
    "Place",
    "carries",
    "check_layout",
    "is_small",
    "lay_out",
    "lifetimes",
    "nbytes",
]

ALIGN = 64
SMALL = 256  # bytes up to which a variable gets a cell on the stack
STACK = 1 << 15  # most bytes that a program keeps on the stack

Pairs = frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Place:
    """Memory: ``kind`` is 'param', 'result', 'arena' or 'stack'; ``at`` its number or offset."""

    kind: str
    at: int

    def __str__(self) -> str:
        return f"{self.kind} {self.at}"


@dataclass(frozen=True)
class Loop:
    """How the programs of one loop or branch lie in the enclosing arena.

    Attributes:
        layouts: one per program (of While: condition, body).
        block: offset of their arena.
        spares: by carry that needs two buffers, the offset of the second one.
    """

    layouts: tuple[Layout, ...]
    block: int
    spares: dict[int, int]


@dataclass(frozen=True)
class Layout:
    """Where the variables of ``plan`` live.

    Attributes:
        places: by variable.
        copies: (output, position) where an output is not made in its place but copied at the end.
        pairs: (input, output) positions that share memory.
        loops: by step.
        arena: bytes.
        cells: bytes of all cells on the stack, those of loops and branches too.
        small: bytes up to which loop carries, too, live on the stack.
        writable: input positions whose memory may be written to.
    """

    plan: Plan
    places: dict[Var, Place]
    copies: tuple[tuple[Var | Lit, int], ...]
    pairs: Pairs
    loops: dict[int, Loop]
    arena: int
    cells: int
    small: int
    writable: frozenset[int]

    def __str__(self) -> str:
        return "\n".join(self._lines(""))

    def _lines(self, indent: str) -> Iterator[str]:
        yield f"{indent}arena {self.arena} bytes, stack {self.cells} bytes"
        first, last = lifetimes(self.plan)
        for v, place in self.places.items():
            yield (
                f"{indent}  {v.aval.str_short()} {nbytes(v)} bytes, steps {first[v]} to "
                f"{last[v]}: {place}"
            )
        for v, k in self.copies:
            yield f"{indent}  output {k} is a copy of {v}"
        for k, loop in self.loops.items():
            yield f"{indent}  step {k}, at {loop.block}, carries twice: {loop.spares}"
            for layout in loop.layouts:
                yield from layout._lines(indent + "    ")


def nbytes(v: Var | Lit) -> int:
    """Return the bytes of a variable's value."""
    return v.aval.size * v.aval.dtype.itemsize


def is_small(size: int, limit: int) -> bool:
    """Tell whether so many bytes are known to be at most ``limit``."""
    return fixed(size) and size <= limit


def _inputs(plan: Plan) -> list[Var]:
    return [*plan.jaxpr.constvars, *plan.jaxpr.invars]


def _small_limits(plan: Plan) -> tuple[int, int]:
    """Return the bytes up to which variables of a program, and of those inside, get cells."""

    def own(plan: Plan) -> int:
        # A carry has two cells of its own beside its result's.
        found = (nbytes(v) for s in plan.steps for v in writes(s))
        return sum(3 * n for n in found if is_small(n, SMALL))

    def inside(plan: Plan) -> int:
        return sum(own(sub) + inside(sub) for step in plan.steps for sub in plans_of(step))

    needed = inside(plan)
    return (SMALL if own(plan) + needed <= STACK else 0), (SMALL if needed <= STACK else 0)


def lifetimes(plan: Plan) -> tuple[dict[Var, int], dict[Var, int]]:
    """Return the steps that make and that last use each variable; -1: given, n: a result."""
    first = dict.fromkeys(_inputs(plan), -1)
    last = dict(first)
    for k, step in enumerate(plan.steps):
        last.update((v, k) for v in reads(step) if isinstance(v, Var))
        for v in writes(step):
            first.setdefault(v, k)
            last[v] = k
    last.update((v, len(plan.steps)) for v in plan.jaxpr.outvars if isinstance(v, Var))
    return first, last


# ---------------------------------------------------------------------- what can work in place
def _in_place(step: Step) -> Iterator[tuple[Var, Var]]:
    """Yield the pairs (result, operand) of a step without steps of its own that may share."""
    if isinstance(step, Launch):
        yield from _in_kernel(step)
    elif isinstance(step, Dot) and step.after is not None:  # blocks of a Conv may overlap
        launch = step.after.launch
        # What all blocks read, and what is no memory.
        others = {*step.operands, launch.vars[step.after.tile]}
        yield from (pair for pair in _in_kernel(launch) if pair[1] not in others)
    elif isinstance(step, Talk) and not step.later and step.eqn.prim.name in IN_PLACE:
        ((out,), (x,)) = step.eqn.outvars, step.eqn.invars
        if isinstance(x, Var):
            yield out, x


def _in_kernel(step: Launch) -> Iterator[tuple[Var, Var]]:
    """Yield the pairs (result, operand) that may share memory if the operand dies in a launch.

    What the kernel reads of the operand must be the element that it writes next, and it must not
    come back to that element.
    """
    kernel, seeds = step.kernel, dict(step.seeds)
    stores: dict[Var, list[Store]] = {}
    for s in kernel.stores:
        stores.setdefault(step.vars[s.buffer], []).append(s)
    stages, element = levels(kernel)
    passes = {}  # which pass over the elements a store belongs to; rows are stored after all
    for s in kernel.stores:
        used = [s.value, *(() if s.mask is None else (s.mask,)), *(n for n, _ in s.where.dynamic)]
        row = is_row_store(kernel, s, element)
        passes[s] = -1 if row else max(stages[n] for n in used)
    ends = [stages[n] - 1 for n, op in enumerate(kernel.body) if op.name == "reduce"]
    last = max([*ends, *passes.values()])
    serial = bool(serial_axes(kernel))
    read: dict[Var, set[object]] = {}
    for op in kernel.body:
        if op.name == "load":
            read.setdefault(step.vars[op.attr], set()).add(op.where)

    def own(stores: Sequence[Store], v: Var) -> bool:
        """Tell whether each element of ``v`` that is read is the one that is written, just then."""
        loads = read.get(v)
        if not loads or len(stores) > 1:
            return not loads
        (store,) = stores
        once = not serial and store.how == "set" and passes[store] in (-1, last)
        return once and loads == {store.where}

    for out, source in step.seeds:
        if own(stores[out], source):
            yield out, source
    for out, written in stores.items():
        for v in step.vars if out not in seeds else ():
            like = v.aval.dtype == out.aval.dtype and nbytes(v) == nbytes(out)
            if like and v not in stores and own(written, v):
                yield out, v


def carries(step: Scan | While) -> tuple[int, int]:
    """Return where the carries begin among a loop's operands, and how many there are."""
    params = step.eqn.params
    if isinstance(step, Scan):
        return params["num_consts"], params["num_carry"]
    start = params["cond_nconsts"] + params["body_nconsts"]
    return start, len(step.eqn.invars) - start


# ---------------------------------------------------------------------- packing
def pack(items: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Place blocks (bytes, first step, last step) so that no two overlap in both time and memory.

    The largest go first, each into the tightest gap that the ones placed before it leave.

    Returns:
        the offsets, and the bytes needed altogether.
    """
    n = len(items)
    offsets, top = [0] * n, 0
    begin, end, first, last = (np.zeros(n, np.int64) for _ in range(4))
    order = sorted(range(n), key=lambda k: (-items[k][0], items[k][1]))
    for count, k in enumerate(order):
        size, born, dies = items[k]
        size = -(-size // ALIGN) * ALIGN
        busy = np.flatnonzero((first[:count] <= dies) & (last[:count] >= born))
        best, room, at = -1, 0, 0
        for j in busy[np.argsort(begin[busy], kind="stable")]:
            gap = int(begin[j]) - at
            if gap >= size and (best < 0 or gap < room):
                best, room = at, gap
            at = max(at, int(end[j]))
        offsets[k] = best if best >= 0 else at
        begin[count], end[count], first[count], last[count] = (
            offsets[k],
            offsets[k] + size,
            born,
            dies,
        )
        top = max(top, offsets[k] + size)
    return offsets, top


def _offsets(*items: tuple[int, int, int]) -> list[int]:
    offsets, top = pack(items)
    return [*offsets, top]


def _packed(items: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Place blocks as `pack` does, for sizes that may be known only later."""
    scope = scope_of([size for size, _, _ in items])
    if scope is None:
        return pack(items)
    *offsets, top = scope.computed(_offsets, tuple(items), len(items) + 1)
    return offsets, top


# ---------------------------------------------------------------------- groups that share memory
@dataclass(eq=False)
class _Group:
    """Variables, one after the other, in one memory."""

    members: list[Var]
    size: int
    first: int
    last: int
    param: int | None = None
    result: int | None = None


@dataclass
class _Planner:
    """The layout of one plan while it is being made."""

    plan: Plan
    writable: frozenset[int]  # inputs whose memory may be written to
    allowed: Pairs | None  # (input, output) pairs that may share; None: any
    small: int  # bytes up to which a variable gets a cell
    inside: int  # the same for the programs inside
    group: dict[Var, _Group] = field(default_factory=dict)
    copies: list[tuple[Var | Lit, int]] = field(default_factory=list)
    loops: dict[int, tuple[tuple[Layout, ...], list[int]]] = field(default_factory=dict)

    def run(self) -> Layout:
        self._start()
        for k, step in enumerate(self.plan.steps):
            for out, operand in self._shareable(k, step):
                self._join(self.group[operand], self.group[out])
        self._pair_disjoint()
        return self._placed()

    def _start(self) -> None:
        first, last = lifetimes(self.plan)
        numbers = {v: k for k, v in enumerate(_inputs(self.plan))}
        for v in first:
            self.group[v] = _Group([v], nbytes(v), first[v], last[v], numbers.get(v))
        for k, v in enumerate(self.plan.jaxpr.outvars):
            g = self.group[v] if isinstance(v, Var) else None
            given = g is not None and g.param is not None
            if g is None or g.result is not None or (given and not self._pairs_up(g.param, k)):
                self.copies.append((v, k))
            else:
                g.result = k

    def _pairs_up(self, param: int | None, result: int | None) -> bool:
        if param is None or result is None:
            return True
        if param not in self.writable:
            return False
        return self.allowed is None or (param, result) in self.allowed

    def _joinable(self, old: _Group, new: _Group) -> bool:
        """Tell whether what ``new`` holds may come after what ``old`` holds in its memory."""
        return (
            old is not new
            and old.last <= new.first
            and old.size == new.size > 0
            and old.result is None
            and new.param is None
            and (old.param is None or old.param in self.writable)
            and self._pairs_up(old.param, new.result)
        )

    def _join(self, old: _Group, new: _Group) -> None:
        if not self._joinable(old, new):
            return
        old.members += new.members
        old.last, old.result = new.last, new.result
        self.group.update((v, old) for v in new.members)

    def _shareable(self, k: int, step: Step) -> Iterator[tuple[Var, Var]]:
        """Yield the pairs (result, operand) of a step that may share memory; lay loops out."""
        yield from _in_place(step)
        if isinstance(step, (Scan, While)):
            start, count = carries(step)
            self._lay_out_loop(k, step, start, count)
            for j in range(count):
                operand = step.eqn.invars[start + j]
                if isinstance(operand, Var) and step.eqn.invars.count(operand) == 1:
                    yield step.eqn.outvars[j], operand
        elif isinstance(step, Branch):
            pairs = self._lay_out_branches(k, step)
            operands = step.eqn.invars[1:]
            for i, j in sorted(pairs):
                yield step.eqn.outvars[j], operands[i]  # type: ignore[misc]

    def _lay_out_loop(self, k: int, step: Scan | While, start: int, count: int) -> None:
        if isinstance(step, While):
            start = step.eqn.params["body_nconsts"]
        own = frozenset((start + j, j) for j in range(count))
        body = _Planner(
            step.body, frozenset(i for i, _ in own), own, self.inside, self.inside
        ).run()
        twice = [
            j
            for j in range(count)
            if (start + j, j) not in body.pairs
            and not is_small(nbytes(step.eqn.outvars[j]), self.inside)
        ]
        layouts = (body,)
        if isinstance(step, While):
            cond = _Planner(step.cond, frozenset(), frozenset(), self.inside, self.inside).run()
            layouts = (cond, body)
        self.loops[k] = layouts, twice

    def _lay_out_branches(self, k: int, step: Branch) -> Pairs:
        """Lay the branches out, with the pairs that all of them can work on in place."""
        operands = step.eqn.invars[1:]
        dying = {
            i: self.group[v]
            for i, v in enumerate(operands)
            if isinstance(v, Var) and step.eqn.invars.count(v) == 1
        }
        outs = [self.group[v] for v in step.eqn.outvars]
        pairs = frozenset(
            (i, j) for i, g in dying.items() for j, o in enumerate(outs) if self._joinable(g, o)
        )
        while True:
            writable = frozenset(i for i, _ in pairs)
            layouts = tuple(
                _Planner(b, writable, pairs, self.inside, self.inside).run() for b in step.branches
            )
            common = frozenset.intersection(pairs, *(layout.pairs for layout in layouts))
            if common == pairs:
                self.loops[k] = layouts, []
                return pairs
            pairs = common

    def _pair_disjoint(self) -> None:
        """Let results live in inputs whose memory is free by the time they are made."""
        inputs = [self.group[_inputs(self.plan)[i]] for i in sorted(self.writable)]
        for v in self.plan.jaxpr.outvars:
            new = self.group[v] if isinstance(v, Var) else None
            for old in inputs:
                # A step that reads the one and writes the other was asked before.
                if new is not None and old.last < new.first and self._joinable(old, new):
                    self._join(old, new)
                    break

    def _placed(self) -> Layout:
        groups = list(dict.fromkeys(self.group.values()))
        free = [g for g in groups if g.param is None and g.result is None]
        large = [g for g in free if not is_small(g.size, self.small)]
        blocks: list[tuple[int, int, int]] = [(g.size, g.first, g.last) for g in large]
        for k, (layouts, twice) in self.loops.items():
            blocks.append((functools.reduce(larger, [x.arena for x in layouts]), k, k))
            outs = self.plan.steps[k].eqn.outvars  # type: ignore[union-attr]
            blocks += [(nbytes(outs[j]), k, k) for j in twice]
        offsets, arena = _packed(blocks)
        at = iter(offsets)
        where = {id(g): Place("arena", next(at)) for g in large}
        loops = {}
        for k, (layouts, twice) in self.loops.items():
            loops[k] = Loop(layouts, next(at), {j: next(at) for j in twice})
        cells = 0
        total = sum(x.cells for layouts, _ in self.loops.values() for x in layouts)
        for g in groups:
            if g.param is not None:
                where[id(g)] = Place("param", g.param)
            elif g.result is not None:
                where[id(g)] = Place("result", g.result)
            elif id(g) not in where:
                where[id(g)] = Place("stack", cells)
                cells += 1
                total += g.size
        return Layout(
            self.plan,
            {v: where[id(g)] for v, g in self.group.items()},
            tuple(self.copies),
            frozenset(
                (g.param, g.result) for g in groups if g.param is not None and g.result is not None
            ),
            loops,
            arena,
            total,
            self.small,
            self.writable,
        )


def lay_out(plan: Plan, donated: Collection[int] = (), cells: bool = True) -> Layout:
    """Return where the variables of a whole program live.

    Args:
        plan: the program.
        donated: positions among the jaxpr's inputs whose memory the program may write to.
        cells: whether small variables get cells on the stack, of a machine that has one.
    """
    shift = len(plan.jaxpr.constvars)
    writable = frozenset(k + shift for k in donated)
    limits = _small_limits(plan) if cells else (0, 0)
    return _Planner(plan, writable, None, *limits).run()


# ---------------------------------------------------------------------- checking
@dataclass(frozen=True)
class _Span:
    """Bytes ``start`` to ``stop`` of some memory, in use from step ``first`` to step ``last``."""

    what: str
    start: int
    stop: int
    first: int
    last: int
    var: Var | None = None

    def __str__(self) -> str:
        return f"{self.what}, steps {self.first} to {self.last}"


def _spans(layout: Layout) -> dict[object, list[_Span]]:
    """Return what lies in each memory: variables, and what loops need for themselves."""
    first, last = lifetimes(layout.plan)
    result_of = dict(layout.pairs)
    found: dict[object, list[_Span]] = {}
    for v, place in layout.places.items():
        inside = place.kind == "arena"
        memory: object = "arena" if inside else (place.kind, place.at)
        if place.kind == "param" and place.at in result_of:
            memory = "result", result_of[place.at]
        start, what = (place.at if inside else 0), f"{v.aval.str_short()} at {place}"
        span = _Span(what, start, start + nbytes(v), first[v], last[v], v)
        found.setdefault(memory, []).append(span)
    for k, loop in layout.loops.items():
        outs = layout.plan.steps[k].eqn.outvars  # type: ignore[union-attr]
        sizes = [(loop.block, max(inner.arena for inner in loop.layouts))]
        sizes += [(at, nbytes(outs[j])) for j, at in loop.spares.items()]
        for at, size in sizes:
            span = _Span(f"{size} bytes of a loop at arena {at}", at, at + size, k, k)
            found.setdefault("arena", []).append(span)
    return found


def check_layout(layout: Layout) -> None:
    """Check that no two values that are alive at once share memory, in all programs of a layout.

    Raises:
        ValueError: naming the variables and their places.
    """
    steps = range(len(layout.plan.steps))
    passed = {(k, out, v) for k in steps for out, v in _passes(layout, k)}
    for memory, found in _spans(layout).items():
        spans = sorted((s for s in found if s.stop > s.start), key=lambda s: (s.start, s.first))
        for a, u in enumerate(spans):
            if memory == "arena" and u.stop > layout.arena:
                raise ValueError(f"this lies outside of the arena: {u}")
            for v in spans[a + 1 :]:
                if v.start >= u.stop:
                    break
                early, late = (u, v) if u.first <= v.first else (v, u)
                touching = early.last == late.first
                if early.last > late.first or (
                    touching and (late.first, late.var, early.var) not in passed
                ):
                    raise ValueError(f"what is alive at once must not overlap: {early}; {late}")
    written = {v for step in layout.plan.steps for v in writes(step)}
    for v, place in layout.places.items():
        if place.kind == "param" and v in written and place.at not in layout.writable:
            raise ValueError(f"input {place.at} must not change, but is written to")
    for loop in layout.loops.values():
        for inner in loop.layouts:
            check_layout(inner)


def _passes(layout: Layout, k: int) -> Iterator[tuple[Var, Var]]:
    """Yield the pairs (result, operand) of a laid out step that may share memory."""
    step = layout.plan.steps[k]
    yield from _in_place(step)
    if isinstance(step, (Scan, While)):
        start, count = carries(step)
        for j in range(count):
            operand = step.eqn.invars[start + j]
            if isinstance(operand, Var) and step.eqn.invars.count(operand) == 1:
                yield step.eqn.outvars[j], operand
    elif isinstance(step, Branch):
        common = frozenset.intersection(*(inner.pairs for inner in layout.loops[k].layouts))
        for i, j in common:
            operand = step.eqn.invars[1 + i]
            if isinstance(operand, Var) and step.eqn.invars.count(operand) == 1:
                yield step.eqn.outvars[j], operand
