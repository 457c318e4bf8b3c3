"""From a jaxpr to a plan: which values are written to memory, which kernels and calls make them.

Elementwise operations, conversions and movements are index maps and scalar code inside the kernels
of the values that need them. What may have to be in memory is a *root*: outputs, operands of what
is no kernel, results of reductions, and expensive values that several others want. Every root joins
the first kernel that has its loops and in which all that it reads is at hand at its own position,
so that reductions, their operands and what is made of them become one kernel; what nobody outside
of its kernel reads is not stored.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Sequence

from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var
from funtorch.ops.recipes import batch_of, recipe_of

from .cumulative import CUMULATIVE, running
from .epilogue import with_epilogues
from .group import Apart, Group
from .indexed import UPDATES, Writes
from .kernel import Op
from .lower import lower
from .moves import combine, merged_axes
from .ordering import order
from .plan import Call, Library, Nothing, Plan, Step, Talk
from .products import CPU_PRODUCTS, Products
from .roots import MADE, SMALL, Program
from .spectral import table, transform
from .structure import structured
from .talk import overlapped

__all__ = ["fuse"]

_TOGETHER = 16  # elements: a vector of them is too little for a kernel of its own
_TRIES = 6  # kernels that a root tries to join
_LATEST = 64  # kernels that read an array, of which one is looked for
_PIECES = 4  # pieces of a concatenate that one kernel writes


def _families(program: Program) -> dict[Var, int]:
    """Return numbers of arrays, equal for those that elementwise code, movements and reductions
    make of each other, or make something of together. What is made of single numbers has none.
    """
    parent: dict[Var, Var] = {}
    numbers: set[Var] = set()

    def head(v: Var) -> Var:
        while parent.setdefault(v, v) is not v:
            parent[v] = v = parent[parent[v]]
        return v

    for eqn in program.jaxpr.eqns:
        if program.kinds[eqn] in ("scalar", "move", "indexed", "reduce"):
            ins = [v for v in eqn.invars if isinstance(v, Var)]
            ins = [v for v in ins if v.aval.size != 1 and v not in numbers]
            if not ins:
                numbers.update(eqn.outvars)
            outs = [v for v in eqn.outvars if v.aval.size != 1]
            for v in (*ins[1:], *outs) if ins else ():
                parent[head(v)] = head(ins[0])
    return {v: id(head(v)) for v in list(parent)}


class _Planner:
    """The steps so far; a root may join every kernel that does not come before what it reads."""

    def __init__(self, program: Program, together: int) -> None:
        self.program, self.together = program, together
        self.family = _families(program)
        self.number = {eqn: k for k, eqn in enumerate(program.jaxpr.eqns)}
        self.steps: list[Group | Step] = []
        self.place: dict[Var, int] = {}  # the step that makes a root
        self.reads: list[set[Var]] = []  # what each step reads, roots of its own aside
        self.users: dict[Var | int, list[int]] = {}  # the steps that read or make an array, or one
        # of its family
        self.open: dict[int, list[int]] = {}  # kernels by the size of their loops and rows
        self.opened: set[tuple[int, int]] = set()

    def append(self, step: Group | Step, made: Iterable[Var], reads: set[Var]) -> None:
        made = list(made)
        self.place.update((v, len(self.steps)) for v in made)
        self.steps.append(step)
        self.reads.append(reads)
        self.meet(len(self.steps) - 1, (*reads, *made))

    def meet(self, k: int, vars_: Collection[Var]) -> None:
        """Note that a step reads or makes these."""
        found: list[Var | int] = list(vars_)
        found += {self.family[v] for v in vars_ if v in self.family}
        for key in found:
            known = self.users.setdefault(key, [])
            if k not in known[-_TRIES:]:
                known.append(k)

    def near(self, size: int, large: set[Var], families: set[int]) -> Iterable[int]:
        """Return the kernels of so many elements that a root may join, the last one first."""
        found = self.open.get(size, [])
        if int(size) <= self.together:
            return reversed(found)
        keys = (*large, *(families if int(size) <= SMALL else ()))
        met = {k for key in keys for k in self.users.get(key, ())[-_LATEST:]}
        return sorted((k for k in met if (size, k) in self.opened), reverse=True)

    def root(self, eqn: Eqn) -> None:
        """Find a kernel for an equation that makes roots, or begin one."""
        program = self.program
        leaves, lazy = program.leaves(eqn.invars, self.place)
        first = max((self.place[v] for v in leaves if v in self.place), default=-1)
        shape = self.loops(eqn)
        size = math.prod(shape)
        large = {v for v in leaves if v.aval.size != 1}
        families = {self.family[v] for v in (*eqn.invars, *eqn.outvars) if v in self.family}
        for k in itertools.islice(self.near(size, large, families), _TRIES):
            if k < first:
                break
            group = self.steps[k]
            assert isinstance(group, Group)
            made = group.join(eqn)
            if made:
                self.place.update((v, k) for v in made)
                self.reads[k] |= leaves
                self.meet(k, (*leaves, *made))
                self.register(group, k)
                return
        group = Group(program, shape, self.place)
        made = group.join(eqn)
        if made:
            self.append(group, made, leaves)
            self.register(group, len(self.steps) - 1)
            return
        if not lazy:  # it is too long: what it is made of goes to memory first
            lazy = self.operands(eqn.invars)
            if not lazy:
                raise AssertionError(f"no kernel for {eqn.prim.name} of {shape}")
        for v in lazy:
            program.roots.add(v)
            if v not in self.place:
                self.root(program.eqn_of[v])
        self.root(eqn)

    def operands(self, atoms: Iterable[Var | Lit]) -> list[Var]:
        """Return the values that are no roots yet, in order: one may read another."""
        found = {v for v in atoms if isinstance(v, Var) and v not in self.program.roots}
        return sorted(found, key=lambda v: self.number[self.program.eqn_of[v]])

    def update(self, eqn: Eqn) -> None:
        """Take in an equation that writes a part of its first operand."""
        write, combined = UPDATES[eqn.prim.name]
        source, shape = eqn.invars[0], eqn.invars[1].aval.shape
        assert isinstance(source, Var)  # a literal has no part
        self.part(
            eqn.outvars[0],
            source,
            eqn.invars[1:],
            shape,
            lambda group: [write(group, eqn, group.identity)],
            combined,
        )

    def part(
        self,
        out: Var,
        source: Var | None,
        atoms: Sequence[Var | Lit],
        shape: Sequence[int],
        write: Callable[[Group], list[Writes]],
        how: str = "set",
        whole: bool = True,
    ) -> None:
        """Append a kernel that writes parts of ``out``; the rest is what ``source`` holds.

        Args:
            whole: whether the parts cannot be shared out among several kernels.
        """
        leaves, lazy = self.program.leaves(atoms, self.place)
        group = Group(self.program, tuple(shape), self.place)
        try:
            group.taken = []
            writes = write(group)
        except Apart:
            if not lazy and whole:
                lazy = self.operands(atoms)
            if not lazy:
                raise
            for v in lazy:
                self.program.roots.add(v)
                if v not in self.place:
                    self.root(self.program.eqn_of[v])
            self.part(out, source, atoms, shape, write, how, whole)
            return
        for v, where, number in group.taken:
            group.own[v] = where, number
        group.updates = [(out, w, how) for w in writes]
        if source is not None:
            group.seeds = ((out, source),)
            leaves = leaves | {source}
        self.append(group, [out, *group.own], leaves)

    def pieces(self, eqn: Eqn) -> None:
        """Append the kernels that write the pieces of a concatenate, those of a size together."""
        axis, start, source = eqn.params["axis"], 0, None
        todo = [list(run) for _, run in itertools.groupby(eqn.invars, lambda v: v.aval.shape)]
        todo = [run[k : k + _PIECES] for run in todo for k in range(0, len(run), _PIECES)]
        while todo:
            run = todo.pop(0)
            size = run[0].aval.shape[axis]
            out = Var(eqn.outvars[0].aval) if todo else eqn.outvars[0]

            def write(
                group: Group, run: list[Var | Lit] = run, start: int = start, size: int = size
            ) -> list[Writes]:
                found: list[Writes] = []
                for j, v in enumerate(run):
                    where = list(group.identity)
                    where[axis] = combine([(1, where[axis])], group.ndim, start + j * size)
                    found.append((group.value(v, group.identity), tuple(where), None))
                if len(run) > 1:
                    group.check()
                return found

            try:
                self.part(out, source, run, run[0].aval.shape, write, whole=len(run) == 1)
            except Apart:  # too much for one kernel
                if len(run) == 1:
                    raise
                todo[:0] = [run[: len(run) // 2], run[len(run) // 2 :]]
                continue
            source, start = out, start + size * len(run)

    def cumulate(self, eqn: Eqn) -> None:
        """Append the kernel of a cumulative sum or the like."""
        (x,), (out,), axis = eqn.invars, eqn.outvars, eqn.params["axis"]
        name, size = CUMULATIVE[eqn.prim.name], x.aval.shape[axis]

        def write(group: Group) -> list[Writes]:
            where = list(group.identity)
            if eqn.params["reverse"]:
                where[axis] = combine([(-1, where[axis])], group.ndim, size - 1)
            group.inner = frozenset([axis])
            value = group.value(x, tuple(where))
            return [(group.emit(Op("cumulate", (value,), x.aval.dtype, name)), tuple(where), None)]

        self.part(out, None, [x], x.aval.shape, write)

    def register(self, group: Group, k: int) -> None:
        total = math.prod(group.sizes)
        rows = total // math.prod(group.sizes[j] for j in group.inner or ())
        for size in {total, rows}:
            if (size, k) not in self.opened:
                self.opened.add((size, k))
                known = self.open.setdefault(size, [])
                known.append(k)
                known.sort()

    def close(self) -> None:
        """Let no root join a kernel that is there."""
        self.open.clear()
        self.opened.clear()

    def loops(self, eqn: Eqn) -> tuple[int, ...]:
        """Return the loops that an equation's kernel has if it begins one."""
        x, out = eqn.invars[0] if eqn.invars else None, eqn.outvars[0]
        if self.program.kinds[eqn] == "reduce":
            return x.aval.shape
        if eqn.prim.name == "reshape" and x not in self.program.roots:
            if merged_axes(x.aval.shape, out.aval.shape) is None:
                return x.aval.shape
        return out.aval.shape


def _library(eqn: Eqn) -> Library:
    name, avals = eqn.prim.name, [v.aval for v in eqn.invars]
    recipe = recipe_of(name, avals, eqn.params)
    assert recipe is not None  # by its kind
    return Library(eqn, recipe, batch_of(name, avals))


def _late_totals(program: Program) -> list[Eqn]:
    """Return the equations in order, reductions over leading axes as late as their operands allow.

    By then the kernel of rows that reads those operands is there, and can take them in. They come
    before who reads them, and not after the last other reader of what they read, so that no memory
    is held for longer.
    """
    eqns = program.jaxpr.eqns
    first: dict[Var, int] = {}  # the first and the last equation that needs a value to be made
    last: dict[Var, int] = {}
    for k in reversed(range(len(eqns))):
        eqn = eqns[k]
        made = program.kinds[eqn] in (*MADE, "conv", "join", "barrier")
        made = made or not program.roots.isdisjoint(eqn.outvars)
        begin = k if made else min((first[v] for v in eqn.outvars if v in first), default=k)
        end = k if made else max((last[v] for v in eqn.outvars if v in last), default=k)
        for v in eqn.invars:
            if isinstance(v, Var):
                first[v] = min(begin, first.get(v, begin))
                last[v] = max(end, last.get(v, end))
    late: dict[int, list[Eqn]] = {}
    for k, eqn in enumerate(eqns):
        x = eqn.invars[0] if eqn.invars else None
        if program.kinds[eqn] != "reduce" or x.aval.ndim - 1 in eqn.params["axes"]:
            continue
        leaves, _ = program.leaves(eqn.invars, ())
        ends = [last.get(v, k) for v in leaves if v.aval.size == x.aval.size]
        after = min(max(ends, default=k), first.get(eqn.outvars[0], len(eqns)) - 1)
        if after > k:
            late.setdefault(after, []).append(eqn)
    moved = {eqn for found in late.values() for eqn in found}
    order = []
    for k, eqn in enumerate(eqns):
        order += [] if eqn in moved else [eqn]
        order += late.get(k, [])
    return order


def fuse(
    jaxpr: Jaxpr,
    epilogues: bool = True,
    together: int = _TOGETHER,
    machine: Products = CPU_PRODUCTS,
) -> Plan:
    """Return the plan of a program: kernels, matrix products and calls of eager rules, in order.

    Args:
        jaxpr: the program, simplified.
        epilogues: whether kernels may run on blocks of a product while they are made.
        together: elements up to which kernels join that nothing relates. Each has code of its own
            otherwise, and equal ones the same.
        machine: which matrix products the machine makes by itself.
    """
    jaxpr = lower(jaxpr, machine)
    program = Program(jaxpr, machine)
    planner = _Planner(program, together)
    inside = functools.partial(fuse, epilogues=epilogues, together=together, machine=machine)
    for eqn in _late_totals(program):
        how = program.kinds[eqn]
        if eqn in program.operands:
            eqn = Eqn(eqn.prim, program.operands[eqn], eqn.params, eqn.outvars, eqn.source)
        operands = {v for v in eqn.invars if isinstance(v, Var)}
        if how == "call":
            planner.append(structured(eqn, inside) or Call(eqn), eqn.outvars, operands)
        elif how == "barrier":
            planner.close()  # what comes after it joins no kernel before it
        elif how == "cumulate":
            planner.cumulate(eqn)
        elif how == "join":
            planner.pieces(eqn)
        elif how == "update":
            planner.update(eqn)
        elif how == "library":
            planner.append(_library(eqn), eqn.outvars, operands)
        elif how == "talk":
            planner.append(Talk(eqn), eqn.outvars, operands)
        elif how == "fft":
            planner.append(transform(eqn), eqn.outvars, operands)  # type: ignore[arg-type]
        elif how == "table":
            planner.append(table(eqn), eqn.outvars, operands)
        elif how == "running":
            planner.append(running(eqn), eqn.outvars, operands)
        elif how == "nothing":
            planner.append(Nothing(tuple(eqn.outvars)), eqn.outvars, set())
        elif how == "attention":
            step = program.attends[eqn]
            planner.append(step, step.outs, {v for v in step.ins if isinstance(v, Var)})
        elif how == "sort":
            planner.append(order(eqn), eqn.outvars, operands)
        elif how == "conv":
            conv = program.convs[eqn]
            planner.append(conv, [conv.out], {conv.lhs, conv.rhs})
        elif how == "dot":
            dot = program.dots[eqn]
            planner.append(dot, [dot.out], set(dot.operands))
        elif eqn in program.passed:
            continue
        elif any(v in program.roots and v not in program.lazy for v in eqn.outvars):
            planner.root(eqn)
    stored = set(program.wanted)
    for group, reads in zip(planner.steps, planner.reads, strict=True):
        own = group.own if isinstance(group, Group) else ()
        stored.update(v for v in reads if v not in own)
    steps: list[Step] = []
    for step in planner.steps:
        made = step.launch(stored, f"k{len(steps)}") if isinstance(step, Group) else step
        if made is not None:
            steps.append(made)
    plan = Plan(jaxpr, tuple(steps))
    return overlapped(with_epilogues(plan) if epilogues else plan)
