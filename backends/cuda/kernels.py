"""Print kernels as CUDA C++.

Every schedule is the same text with other numbers (`schedules`): a group of threads goes over the
elements of its row once for each stage, joins what its threads accumulated, and goes on with the
row's values. Values that a later pass wants again stay in registers where rows are short, and are
computed again where they are long. The rows of a total are done in runs, and what the groups have
accumulated for each column is joined by a launch of its own.

Sums have one order, which depends on sizes alone: results are equal bit for bit from run to run.
Scattered updates of floats by several threads (``how`` other than 'set') are the exception: they
are atomic, in whatever order the threads come. Where several elements are scattered to one place,
the last one stays, as on the CPU: launches before find out which of them it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ..coverage import ELEMENTWISE
from ..kernel import Kernel, Store, needs, serial_axes
from ..scalars.elements import TYPES, joined, part_kind, parts, register_dtype
from ..scalars.quicker import HEAVY
from ..scalars.reduce import reduction
from .code import CudaCode, KernelLaunch
from .groups import Accumulator, accumulator, combine_before, join_group, number_kinds
from .memory import memory_type, numbers
from .nest import Env, Nest, is_wide, prepared, scatters
from .schedules import BYTES, THREADS, Schedule, schedule
from .spelling import C_TYPES, operand

__all__ = ["Printer", "Scratch", "print_kernel", "rows_stay_apart"]

_KEPT = 96  # registers of a thread that values of several passes may take
_JOINERS = 8  # threads that join the totals of a column
_FEW_IN_ORDER = 64  # stores that one thread may do in order, rather than find out who is last

Pass = tuple[list[int], list[Store]]
"""The reductions and the stores of a pass over the elements of a row."""


class Scratch:
    """Memory that the launches of a kernel share: arrays by what they are for."""

    def __init__(self) -> None:
        self.size = 0
        self.places: dict[object, tuple[str, int, int]] = {}

    def array(self, key: object, kind: str, count: int) -> tuple[str, int, int]:
        """Return the C type, the offset and the length of an array, the same for the same key."""
        if key not in self.places:
            held = "u8" if kind in ("i1", "bool") else C_TYPES.get(kind, kind)
            self.places[key] = held, self.size, count
            self.size += -(-BYTES[held] * count // 64) * 64
        return self.places[key]


class Printer(Nest):
    """Writes one ``__global__`` function of a kernel."""

    def __init__(
        self, kernel: Kernel, plan: Schedule, wide: bool, serial: frozenset[int], scratch: Scratch
    ) -> None:
        super().__init__(kernel, plan.lanes, wide)
        self.plan, self.serial, self.memory = plan, serial, scratch
        self.shared = 0
        self.named: dict[object, str] = {}
        self.kept: dict[int, list[str]] = {}
        self.under_way: dict[Store, list[str]] = {}
        self.running: dict[int, list[Accumulator]] = {}
        self.guard = ""  # a condition under which a thread's row is its own
        self.lanes_are_rows = not kernel.inner or not kernel.inner[-1]
        self.passes = self.find_passes()

    # ---------------------------------------------------------------- what there is to do
    def find_passes(self) -> dict[int, Pass]:
        """Return, by stage, the passes over the elements."""
        found: dict[int, Pass] = {}
        for n in self.used:
            if self.body[n].name == "reduce":
                found.setdefault(self.stage[n] - 1, ([], []))[0].append(n)
        for s in (*self.element_stores, *self.totals):
            stage = max(self.stage[n] for n in needs(s))
            found.setdefault(stage, ([], []))[1].append(s)
        return dict(sorted(found.items()))

    def wanted(self, done: Pass) -> list[int]:
        """Return the values that a pass needs."""
        return [self.body[n].args[0] for n in done[0]] + [n for s in done[1] for n in needs(s)]

    def rows_of(self, n: int) -> int:
        """Return the lanes of a row's value."""
        return self.lanes if self.lanes_are_rows else 1

    # ---------------------------------------------------------------- scratch
    def array(self, key: object, kind: str, count: int) -> str:
        """Return the name of an array in scratch."""
        held, offset, count = self.memory.array(key, kind, count)
        if key not in self.named:
            self.named[key] = f"m{len(self.named)}"
            text = f"  PART({held}, {self.named[key]}, scratch, {offset}, {count});"
            self.b.lines.insert(0, text)
        return self.named[key]

    # ---------------------------------------------------------------- where threads are
    def decode(self, linear: str, axes: Sequence[int]) -> None:
        """Write the indices of these axes for a position in them."""
        left = math.prod(int(self.kernel.sizes[k]) for k in axes)
        for k in axes:
            n, whole = int(self.kernel.sizes[k]), left
            left //= n
            text = linear if left == 1 else f"{linear} / {left}"
            if whole != math.prod(int(self.kernel.sizes[a]) for a in axes):
                text = f"{text} % {n}" if left == 1 else f"({text}) % {n}"
            self.b.do(f"const {self.index} i{k} = {text};")
            self.at[k] = f"i{k}"

    @contextmanager
    def every_row(self) -> Iterator[None]:
        """Write loops over the rows of a group around what the body writes."""
        b, p, index = self.b, self.plan, self.index
        width, group, loop = p.side, p.group, p.blocks * p.side < p.units
        me = f"threadIdx.x % {width}" if p.across else f"threadIdx.x / {group}"
        if group > 1:
            b.do(f"const int t = threadIdx.x {f'/ {width}' if p.across else f'% {group}'};")
        if p.run:
            b.do(f"const {index} g = ({index})blockIdx.x * {width} + {me};")
            self.begin_totals()
            head = f"for (int turn = 0; turn < {p.run}; turn++)"
            mine, exact = f"g * {p.run} + turn", p.blocks * width * p.run == p.units
        elif group == 1:
            mine = f"({index})blockIdx.x * {width} + threadIdx.x"
            step = f"unit += ({index})gridDim.x * {width}"
            if loop:
                head = f"for ({index} unit = {mine}; unit < {p.units}; {step})"
            else:
                b.do(f"const {index} unit = {mine};")
                head = f"if (unit < {p.units})"
            exact = True
        else:
            first, step = f"({index})blockIdx.x * {width}", f"({index})gridDim.x * {width}"
            head = ""
            if loop:
                head = f"for ({index} first = {first}; first < {p.units}; first += {step})"
            mine = f"{'first' if loop else first} + {me}"
            exact = p.units % width == 0
        with b.braces(head):
            if group > 1 or p.run:
                b.do(f"const {index} mine = {mine};")
                b.do(f"const {index} unit = {self.clamped(exact)};")
                self.guard = "" if exact else f"mine < {p.units}"
            rows = [k for k, r in enumerate(self.kernel.inner) if not r]
            many = self.lanes_are_rows and self.lanes > 1
            self.decode(
                f"({self.lanes} * unit)" if many else "unit",
                [k for k in rows if k not in self.serial],
            )
            with self.in_order([k for k in rows if k in self.serial]):
                yield
        if p.run:
            self.end_totals()

    def clamped(self, exact: bool) -> str:
        last = self.plan.units - 1
        return "mine" if exact else f"mine < {self.plan.units} ? mine : {last}"

    @contextmanager
    def in_order(self, axes: Sequence[int]) -> Iterator[None]:
        """Write loops along axes that one thread does in order."""
        if not axes:
            yield
            return
        k, n = axes[0], int(self.kernel.sizes[axes[0]])
        with self.b.braces(f"for ({self.index} i{k} = 0; i{k} < {n}; i{k}++)"):
            self.at[k] = f"i{k}"
            with self.in_order(axes[1:]):
                yield

    @contextmanager
    def every_element(self) -> Iterator[str]:
        """Write a loop over a thread's elements; the body gets the number of the turn."""
        b, p, index = self.b, self.plan, self.index
        lanes = 1 if self.lanes_are_rows else self.lanes
        if p.chunk:
            with self.own_chunk():
                yield "0"
            return
        whole = p.parts * p.piece == p.length
        low = f"({index})blockIdx.y * {p.piece}" if p.parts > 1 else ""
        own = "t" if lanes == 1 else f"{lanes} * t"
        own = own if p.group > 1 else ""
        high = str(p.length)
        if p.parts > 1 and not p.turns:
            high = b.name("h")
            text = f"{low} + {p.piece}"
            b.do(f"const {index} {high} = {text} < {p.length} ? {text} : {p.length};")
        inner = [k for k, r in enumerate(self.kernel.inner) if r]
        if p.turns:
            b.do("#pragma unroll")
            head = f"for (int e = 0; e < {p.turns}; e++)"
            terms = " + ".join(x for x in (low, f"{p.step} * e", own) if x)
            with b.braces(head):
                b.do(f"const {index} j = {terms};")
                inside = [] if whole else [f"j < {p.length}"]
                inside += [self.guard] if self.guard and self.changes_in_place else []
                with b.braces(f"if ({' && '.join(inside)})" if inside else ""):
                    self.decode("j", inner)
                    yield "e"
        else:
            first = " + ".join(x for x in (low, own) if x) or "0"
            ours = f" && {self.guard}" if self.guard and self.changes_in_place else ""
            with b.braces(f"for ({index} j = {first}; j < {high}{ours}; j += {p.step})"):
                self.decode("j", inner)
                yield "e"
        for k in inner:
            del self.at[k]

    @contextmanager
    def own_chunk(self) -> Iterator[None]:
        """Write a loop over the neighbouring elements that are a thread's own."""
        b, p, index = self.b, self.plan, self.index
        inner = [k for k, r in enumerate(self.kernel.inner) if r]
        high = b.name("h")
        b.do(f"const {index} {high} = t * {p.chunk} + {p.chunk} < {p.length} ? "
             f"t * {p.chunk} + {p.chunk} : {p.length};")  # fmt: skip
        ours = f" && {self.guard}" if self.guard and self.changes_in_place else ""
        with b.braces(f"for ({index} j = t * {p.chunk}; j < {high}{ours}; j++)"):
            self.decode("j", inner)
            yield
        for k in inner:
            del self.at[k]

    @property
    def changes_in_place(self) -> bool:
        """Whether an array is read and written: then threads without a row must not read one."""
        read = {op.attr for op in self.body if op.name == "load"}
        return not read.isdisjoint(s.buffer for s in self.kernel.stores)

    # ---------------------------------------------------------------- a row
    def row(self, own: Sequence[int], ends: bool) -> None:
        """Write what a group does with a row.

        Args:
            own: the stages whose passes are done here; what earlier ones reduce was left in scratch
                by the parts.
            ends: whether the row's values are stored.
        """
        env: Env = {}
        last = max([*self.passes, *(self.stage[n] for n in self.used)], default=0)
        for stage in range(last + 1):
            for n in self.used:
                if not self.is_element[n] and self.stage[n] == stage and n not in env:
                    self.value(n, env)
            done = self.passes.get(stage)
            if done is not None and stage in own:
                self.one_pass(done, env, [self.passes[s] for s in own if s > stage])
            elif done is not None and done[0]:
                self.from_parts(done[0], env)
            if stage == max(own, default=-1) and not ends:
                return
        if ends:
            self.store_row(env)

    def store_row(self, env: Env) -> None:
        """Write the stores of a row's values, by one of its threads."""
        if not self.row_stores:
            return
        loaded = {op.attr for op in self.body if op.name == "load"}
        if self.plan.group > 1 and any(s.buffer in loaded for s in self.row_stores):
            block = self.plan.across or self.plan.group > 32
            self.b.do("__syncthreads();" if block else "__syncwarp();")
        first = "" if self.plan.group == 1 else "t == 0"
        alone = " && ".join(c for c in (self.guard, first) if c)
        for s in self.row_stores:
            self.store(s, env, alone)

    def one_pass(self, done: Pass, env: Env, later: Sequence[Pass]) -> None:
        """Write a pass over the elements, and what its reductions come to."""
        b = self.b
        accs = {n: self.accumulators(n) for n in done[0]}
        wanted = self.wanted(done)
        known = {*env, *self.kept}
        found = self.closure(wanted, known)
        if self.plan.turns and not self.serial:
            rest = self.closure([n for p in later for n in self.wanted(p)], known)
            for n in found:
                if n in rest and self.is_element[n] and self.dear(n) and self.fits(n):
                    self.keep(n)
        self.running = {n: self.accumulators(n) for n in found if self.body[n].name == "cumulate"}
        if self.plan.chunk:
            self.combine_before(env)
        read = {*wanted, *(a for n in found for a in self.reads(n))} & {*self.kept} - {*found}
        with self.every_element() as turn:
            here = dict(env)
            for n in sorted(read):
                here[n] = self.recalled(n, turn)
            for n in found:
                if n in self.running:
                    here[n] = self.so_far(n, here)
                else:
                    self.value(n, here)
                if n in self.kept:
                    self.remember(n, here[n], turn)
            for n, lanes in accs.items():
                (x,) = self.body[n].args
                for v in range(self.lanes):
                    acc = lanes[v if self.lanes_are_rows else 0]
                    acc.take(b, self.get(here, x, v))
            for s in done[1]:
                if s.over_rows:
                    self.take_total(s, here, turn)
                else:
                    self.store(s, here, self.guard)
        every = [a for lanes in accs.values() for a in lanes]
        self.shared = max(self.shared, join_group(b, self.plan, every))
        for n, lanes in accs.items():
            if self.plan.parts > 1:
                self.leave(n, lanes)
            env[n] = [a.end(b) for a in lanes]

    def combine_before(self, env: Env) -> None:
        """Write that cumulative operations begin with what the threads before come to."""
        b, known = self.b, {*env, *self.kept}
        operands = {n: self.body[n].args[0] for n in self.running}
        found = self.closure(list(operands.values()), known)
        with self.every_element():
            here = dict(env)
            for n in found:
                self.value(n, here)
            for n, x in operands.items():
                for v, acc in enumerate(self.running[n]):
                    acc.take(b, self.get(here, x, v))
        every = [a for lanes in self.running.values() for a in lanes]
        self.shared = max(self.shared, combine_before(b, self.plan, every))

    def accumulators(self, n: int) -> list[Accumulator]:
        """Write the variables that a reduction is accumulated in."""
        op = self.body[n]
        code = reduction(op.attr, op.dtype, False)
        return [accumulator(self.b, code) for _ in range(self.rows_of(n))]

    def so_far(self, n: int, env: Env) -> list[str]:
        """Return what all elements so far come to, the one at hand included."""
        out, (x,) = [], self.body[n].args
        for v, acc in enumerate(self.running[n]):
            acc.take(self.b, self.get(env, x, v))
            cells = [self.b.put(k, c) for k, c in zip(acc.kinds, acc.cells, strict=True)]
            out.append(acc.code.end(self.b, [acc.value(self.b, cells)]))
        return out

    def reads(self, n: int) -> tuple[int, ...]:
        op = self.body[n]
        return (*op.args, *(m for m, _ in op.where.dynamic)) if op.where else op.args

    def dear(self, n: int) -> bool:
        """Tell whether a value is dearer to compute than to keep."""
        op = self.body[n]
        if op.name in ELEMENTWISE:
            return ELEMENTWISE[op.name].heavy
        return op.name in HEAVY or op.name == "load"

    # ---------------------------------------------------------------- values between passes
    def kinds(self, n: int) -> list[str]:
        dtype = self.body[n].dtype
        kind = part_kind(dtype) if dtype.kind == "c" else TYPES[register_dtype(dtype)]
        return [kind] * numbers(dtype)

    def width(self, n: int) -> int:
        return self.lanes if self.varies[n] else 1

    def fits(self, n: int) -> bool:
        """Tell whether there are registers for a value of all turns."""
        held = sum(len(names) * self.width(m) for m, names in self.kept.items())
        held += sum(len(names) * self.lanes for names in self.under_way.values())
        return self.plan.turns * (held + len(self.kinds(n)) * self.width(n)) <= _KEPT

    def keep(self, n: int) -> None:
        """Write arrays, which become registers, for what all turns compute of a value."""
        names = []
        for kind in self.kinds(n):
            names.append(self.b.name("k"))
            self.b.do(f"{C_TYPES[kind]} {names[-1]}[{self.plan.turns * self.width(n)}];")
        self.kept[n] = names

    def slot(self, n: int, turn: str, lane: int) -> str:
        width = self.width(n)
        return f"{turn} * {width} + {lane}" if width > 1 else turn

    def remember(self, n: int, values: Sequence[str], turn: str) -> None:
        kinds = self.kinds(n)
        for v, value in enumerate(values):
            found = parts(self.b, value, kinds[0]) if len(kinds) > 1 else (value,)
            for name, kind, x in zip(self.kept[n], kinds, found, strict=True):
                self.b.do(f"{name}[{self.slot(n, turn, v)}] = {operand(x, kind)};")

    def recalled(self, n: int, turn: str) -> list[str]:
        out, kinds = [], self.kinds(n)
        for v in range(self.width(n)):
            text = [f"{name}[{self.slot(n, turn, v)}]" for name in self.kept[n]]
            held = [self.b.put(k, x) for k, x in zip(kinds, text, strict=True)]
            out.append(joined(self.b, held, kinds[0]) if len(held) > 1 else held[0])
            if register_dtype(self.body[n].dtype) != self.body[n].dtype:
                self.b.exact.add((out[-1], self.body[n].dtype.name))
        return out

    # ---------------------------------------------------------------- parts of rows
    @property
    def count(self) -> str:
        """How many parts the row at hand has."""
        return str(self.plan.parts)

    def part_at(self, part: str = "blockIdx.y") -> str:
        """Return where a part of the row at hand leaves its numbers."""
        return f"unit * {self.plan.parts} + {part}"

    def partials(self, n: int, lane: int) -> list[str]:
        """Return the arrays that parts leave the numbers of a reduction in."""
        op = self.body[n]
        kinds = number_kinds(reduction(op.attr, op.dtype, False))
        count = self.plan.units * self.plan.parts
        return [self.array((n, lane, k), kind, count) for k, kind in enumerate(kinds)]

    def leave(self, n: int, lanes: Sequence[Accumulator]) -> None:
        """Write that one thread leaves what a part's group has accumulated."""
        first = "" if self.plan.group == 1 else "t == 0"
        condition = " && ".join(c for c in (self.guard, first) if c)
        with self.b.braces(f"if ({condition})" if condition else ""):
            for v, acc in enumerate(lanes):
                for cell, name in zip(acc.cells, self.partials(n, v), strict=True):
                    self.b.do(f"{name}[{self.part_at()}] = {cell};")

    def from_parts(self, reductions: Sequence[int], env: Env) -> None:
        """Write reductions as what the parts have left, joined."""
        b, p = self.b, self.plan
        accs = {n: self.accumulators(n) for n in reductions}
        first = "t" if p.group > 1 else "0"
        with b.braces(f"for (int part = {first}; part < {self.count}; part += {p.group})"):
            for n, lanes in accs.items():
                for v, acc in enumerate(lanes):
                    held = []
                    for name, kind in zip(self.partials(n, v), acc.kinds, strict=True):
                        held.append(b.put(kind, f"{name}[{self.part_at('part')}]"))
                    acc.join(b, held)
        every = [a for lanes in accs.values() for a in lanes]
        self.shared = max(self.shared, join_group(b, p, every))
        for n, lanes in accs.items():
            env[n] = [a.end(b) for a in lanes]

    # ---------------------------------------------------------------- totals
    def total(self, s: Store) -> Accumulator:
        """Return a total's accumulator, whose variables are yet to be named."""
        code = reduction(s.how, self.body[s.value].dtype, False)
        return Accumulator(code, tuple(number_kinds(code)), ())

    def total_arrays(self, s: Store) -> list[str]:
        count = self.plan.blocks * self.plan.side * self.plan.length
        return [self.array((s, k), kind, count) for k, kind in enumerate(self.total(s).kinds)]

    def begin_totals(self) -> None:
        """Write where a group accumulates totals, and what they begin with."""
        b, p = self.b, self.plan
        for s in self.totals:
            acc = self.total(s)
            start = (
                parts(b, acc.code.starts[0], acc.kinds[0])
                if len(acc.kinds) > 1
                else (acc.code.starts[0],)
            )
            first = [operand(x, k) for x, k in zip(start, acc.kinds, strict=True)]
            if p.turns:
                names = [b.name("k") for _ in acc.kinds]
                lanes = 1 if self.lanes_are_rows else self.lanes
                for name, kind, x in zip(names, acc.kinds, first, strict=True):
                    b.do(f"{C_TYPES[kind]} {name}[{p.turns * lanes}];")
                    b.do("#pragma unroll")
                    b.do(f"for (int e = 0; e < {p.turns * lanes}; e++) {name}[e] = {x};")
                self.under_way[s] = names
            else:
                self.under_way[s] = self.total_arrays(s)
                with self.every_column():
                    for name, x in zip(self.under_way[s], first, strict=True):
                        b.do(f"{name}[g * {p.length} + j] = {x};")

    @contextmanager
    def every_column(self) -> Iterator[None]:
        """Write a loop over the columns whose totals are a thread's own."""
        p, lanes = self.plan, 1 if self.lanes_are_rows else self.lanes
        own = "t" if p.group > 1 else "0"
        slots = -(-p.piece // p.step) * lanes
        if p.turns:
            self.b.do("#pragma unroll")
        with self.b.braces(f"for (int n = 0; n < {slots}; n++)"):
            at = f"{p.step} * (n / {lanes}) + {lanes} * {own} + n % {lanes}"
            self.b.do(f"const {self.index} j = {at};")
            with self.b.braces(f"if (j < {p.length})"):
                yield

    def take_total(self, s: Store, env: Env, turn: str) -> None:
        """Write that a total takes in the elements at hand."""
        b, p = self.b, self.plan
        lanes = 1 if self.lanes_are_rows else self.lanes
        with b.braces(f"if ({self.guard})" if self.guard else ""):
            for v in range(lanes):
                at = f"{turn} * {lanes} + {v}" if p.turns else f"g * {p.length} + j + {v}"
                cells = [f"{name}[{at}]" for name in self.under_way[s]]
                acc = replace(self.total(s), cells=tuple(cells))
                held = [b.put(k, c) for k, c in zip(acc.kinds, cells, strict=True)]
                states = acc.code.take(b, [acc.value(b, held)], self.get(env, s.value, v))
                acc.put(b, states[0])

    def end_totals(self) -> None:
        """Write that what was accumulated in registers goes to scratch."""
        if not self.plan.turns:
            return
        for s in self.totals:
            arrays = self.total_arrays(s)
            with self.every_column():
                for name, held in zip(arrays, self.under_way[s], strict=True):
                    self.b.do(f"{name}[g * {self.plan.length} + j] = {held}[n];")

    def join_totals(self) -> Schedule:
        """Write how some threads join what all groups left for a column; return their schedule."""
        b, p, index = self.b, self.plan, self.index
        left = p.blocks * p.side
        group = min(_JOINERS, 1 << (left - 1).bit_length())
        plan = Schedule(p.length, left, 32 * group, group, True)
        b.do("const int t = threadIdx.x / 32;")
        b.do(f"const {index} mine = ({index})blockIdx.x * 32 + threadIdx.x % 32;")
        b.do(f"const {index} j = mine < {p.length} ? mine : {p.length - 1};")
        self.decode("j", [k for k, r in enumerate(self.kernel.inner) if r])
        accs = {s: accumulator(b, self.total(s).code) for s in self.totals}
        with b.braces(f"for (int g = t; g < {left}; g += {group})"):
            for s, acc in accs.items():
                held = [
                    b.put(k, f"{name}[({index})g * {p.length} + j]")
                    for k, name in zip(acc.kinds, self.total_arrays(s), strict=True)
                ]
                acc.join(b, held)
        self.shared = join_group(b, plan, list(accs.values()))
        with b.braces(f"if (t == 0 && mine < {p.length})"):
            for s, acc in accs.items():
                env = {s.value: [acc.end(b)]}
                self.write(replace(s, how="set"), env, 0, self.kernel.buffers[s.buffer])
        return plan

    # ---------------------------------------------------------------- the text
    def function(self, name: str, threads: int) -> str:
        """Return the text of a function of what was written."""
        stored = {s.buffer for s in self.kernel.stores}
        given = []
        for k, dtype in enumerate(self.kernel.buffers):
            const = "" if k in stored else "const "
            given.append(f"GLOBAL({const}{memory_type(dtype)}) b{k}")
        given.append("GLOBAL(u8) scratch")
        head = f'extern "C" __global__ void __launch_bounds__({threads}) {name}'
        return "\n".join([f"{head}({', '.join(given)}) {{", *self.b.lines, "}"])


# ---------------------------------------------------------------------- a kernel's launches
class _Launches:
    """Prints the launches of a kernel, one after the other."""

    def __init__(
        self,
        kernel: Kernel,
        plan: Schedule,
        wide: bool,
        serial: frozenset[int],
        claims: dict[int, int],
    ) -> None:
        self.kernel, self.plan, self.wide, self.serial = kernel, plan, wide, serial
        self.claims = claims
        self.scratch = Scratch()
        self.texts: list[str] = []
        self.launches: list[KernelLaunch] = []
        self.declared: dict[str, str] = {}

    def printer(self) -> Printer:
        p = Printer(self.kernel, self.plan, self.wide, self.serial, self.scratch)
        for buffer, count in self.claims.items():
            p.claims[buffer] = p.array(("claim", buffer), "u64", count)
        return p

    def claim(self) -> None:
        """Print launches that find out which of the stores to a place is the last."""
        p = self.printer()
        for buffer, count in self.claims.items():
            with p.b.braces():
                p.b.do(f"const {p.index} n = ({p.index})blockIdx.x * {THREADS} + threadIdx.x;")
                p.b.do(f"if (n < {count}) {p.claims[buffer]}[n] = 0;")
        most = max(self.claims.values())
        self.add(p, "_clear", (-(-most // THREADS), 1, 1), THREADS)
        stores = tuple(s for s in self.kernel.stores if s.buffer in self.claims)
        whole, self.kernel = self.kernel, replace(self.kernel, stores=stores)
        p = self.printer()
        p.claiming = True
        with p.every_row():
            p.row(list(p.passes), True)
        self.add(p, "_claim", (self.plan.blocks, 1, 1), self.plan.threads)
        self.kernel = whole

    def add(self, p: Printer, suffix: str, grid: tuple[int, int, int], threads: int) -> None:
        name = self.kernel.name + suffix
        self.texts.append(p.function(name, threads))
        self.launches.append(KernelLaunch(name, grid, threads, p.shared))
        self.declared.update(p.b.declared)

    def code(self) -> CudaCode:
        plan, first = self.plan, self.printer()
        stages, passes = list(first.passes), first.passes
        if self.claims:
            self.claim()
        if plan.parts == 1:
            with first.every_row():
                first.row(stages, True)
            self.add(first, "", (plan.blocks, 1, 1), plan.threads)
        else:
            for k, stage in enumerate(stages):
                p = first if k == 0 else self.printer()
                with p.every_row():
                    p.row([stage], False)
                self.add(p, f"_{k}" if k else "", (plan.blocks, plan.parts, 1), plan.threads)
            if first.row_stores or not passes:
                p = self.printer()
                with p.every_row():
                    p.row([], True)
                self.add(p, "_end", (plan.blocks, 1, 1), plan.threads)
        if first.totals:
            p = self.printer()
            joining = p.join_totals()
            self.add(p, "_totals", (joining.blocks, 1, 1), joining.threads)
        text = "\n\n".join(self.texts)
        return CudaCode(text, tuple(self.launches), self.scratch.size, self.declared)


def _scattering(
    kernel: Kernel, lengths: Sequence[int] | None
) -> tuple[frozenset[int], dict[int, int]]:
    """Return the axes to go along in order, and by buffer the places whose last store is sought."""
    serial = serial_axes(kernel)
    turns = math.prod(int(kernel.sizes[k]) for k in serial)
    if turns <= _FEW_IN_ORDER:
        return serial, {}
    claims = {}
    for s in kernel.stores:
        if s.over_rows or not scatters(kernel, s):
            continue
        if s.how == "set" and lengths is not None:
            claims[s.buffer] = int(lengths[s.buffer])
        elif s.how == "set" or (kernel.buffers[s.buffer].kind == "c" and s.how != "add"):
            return serial, {}
    return frozenset(), claims


def rows_stay_apart(kernel: Kernel, lengths: Sequence[int]) -> bool:
    """Tell whether no thread reads a row's values but those of the row's own group, so that they
    may be changed in place: when each group of a block has a row of its own."""
    kernel = prepared(kernel)
    serial, claims = _scattering(kernel, lengths)
    plan = schedule(kernel, Nest(kernel, 1, is_wide(kernel, lengths)).used, serial, bool(claims))
    own = plan.group == 1 or plan.units % plan.side == 0
    return own and plan.parts == 1 and not plan.run


def print_kernel(kernel: Kernel, lengths: Sequence[int] | None = None) -> CudaCode:
    """Return a kernel as CUDA C++.

    Args:
        kernel: the kernel; its functions have names that begin with its name.
        lengths: elements of each buffer. Without them, places that values decide are computed in 64
            bits, and stores that are scattered with 'set' are done in order by few threads.

    Returns:
        The code, whose functions take a pointer to each buffer and one to scratch.
    """
    kernel = prepared(kernel)
    if 0 in kernel.sizes and not any(op.name == "reduce" for op in kernel.body):
        return CudaCode("", ())
    serial, claims = _scattering(kernel, lengths)
    wide = is_wide(kernel, lengths)
    plan = schedule(kernel, Nest(kernel, 1, wide).used, serial, bool(claims))
    return _Launches(kernel, plan, wide, serial, claims).code()
