"""A laid out plan as a list of what a GPU is asked to do: pure data, printable and checkable.

Addresses are a *register* and an offset in bytes. Registers 0, 1, ... hold the addresses of the
program's inputs, then of its results, then of the arena and of the constants; what follows belongs
to loops, which change it from one step to the next. So one list serves all calls.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from funtorch.config import config
from funtorch.core import primitives
from funtorch.jaxpr import Lit, Var

from ..kernel import Kernel, in_memory, is_row_store, levels
from ..layout import Layout, Loop, carries, nbytes
from ..plan import (
    Attention,
    Branch,
    Call,
    Conv,
    Dot,
    Fourier,
    Launch,
    Library,
    Nothing,
    Plan,
    Running,
    Scan,
    Sort,
    Table,
    Wait,
    While,
    writes,
)
from .attending import Attending, as_attending
from .attention import print_attention
from .code import CudaCode
from .convolutions import Convolution, as_convolution
from .fragments import in_fragments, print_fragments
from .gemm import gemms
from .instructions import (
    At,
    Carry,
    Choose,
    Clear,
    Copy,
    Instruction,
    LaunchPlan,
    Product,
    Repeat,
    Rule,
    Run,
    Slice,
    Until,
)
from .kernels import print_kernel, rows_stay_apart
from .scans import print_running
from .sorting import print_sort
from .tiles import print_convs, print_dot
from .together import Member, member_of, print_group, sets_of
from .turns import in_turns

__all__ = ["launch_plan"]

ALIGN = 256  # bytes, of what lies in the arena's tail; kernels need 16
VECTOR = 16  # bytes that kernels read and write at once


# ---------------------------------------------------------------------------------------- writing
@dataclass(eq=False)
class _Frame:
    """One program in the list: where its variables are."""

    layout: Layout
    params: Sequence[At]
    results: Sequence[At]
    arena: At


class _Writer:
    """Makes the list of a plan."""

    def __init__(self, plan: Plan, layout: Layout) -> None:
        jaxpr = plan.jaxpr
        self.layout = layout
        self.inputs = tuple(nbytes(v) for v in (*jaxpr.constvars, *jaxpr.invars))
        self.outputs = tuple(nbytes(v) for v in jaxpr.outvars)
        self.memory = len(self.inputs) + len(self.outputs)
        self.registers = self.memory + 2
        self.constants = bytearray()
        self.known: dict[bytes, int] = {}
        self.codes: list[CudaCode] = []
        self.numbers: dict[Any, int] = {}
        self.members: dict[int, Member | None] = {}  # by code, if it may be a part of a launch
        self.scratch = 0
        self.tail = -(-layout.arena // ALIGN) * ALIGN
        self.out: list[Instruction] = []

    def whole(self) -> LaunchPlan:
        params = [At(k) for k in range(len(self.inputs))]
        # A result in an input's memory goes by its register: a place must have one name, since
        # kernels are told that what has two names is two pieces of memory.
        shared = {j: i for i, j in self.layout.pairs}
        results = [At(shared.get(j, len(params) + j)) for j in range(len(self.outputs))]
        self.plan(self.layout, params, results, At(self.memory))
        self.out = self.together(self.out)
        codes, instructions = _used(self.codes, tuple(self.out))
        arena = self.tail + self.scratch
        return LaunchPlan(
            self.inputs,
            self.outputs,
            arena,
            bytes(self.constants),
            tuple((j, i) for i, j in sorted(self.layout.pairs)),
            self.registers,
            codes,
            _with_scratch(instructions, At(self.memory, self.tail)),
        )

    # ---------------------------------------------------------------- memory
    def register(self) -> int:
        self.registers += 1
        return self.registers - 1

    def room(self, size: int) -> At:
        """Return memory in the arena's tail that nobody else uses."""
        at = At(self.memory, self.tail)
        self.tail += -(-size // ALIGN) * ALIGN
        return at

    def constant(self, v: Lit) -> At:
        data = np.asarray(v.val._data).tobytes()
        if data not in self.known:
            self.known[data] = len(self.constants)
            self.constants += data + bytes(-len(data) % VECTOR)
        return At(self.memory + 1, self.known[data])

    def at(self, frame: _Frame, v: Var | Lit) -> At:
        """Return where a variable's memory is."""
        if isinstance(v, Lit):
            return self.constant(v)
        place = frame.layout.places[v]
        if place.kind == "param":
            return frame.params[place.at]
        if place.kind == "result":
            return frame.results[place.at]
        if place.kind == "stack":  # of no bytes
            return frame.arena
        return frame.arena + place.at

    def copy(self, target: At, source: At, size: int) -> None:
        if target != source and size:
            self.out.append(Copy(target, source, size))

    def inside(self, layout: Layout, params: Any, results: Any, arena: At) -> list[Instruction]:
        """Return the list of a program inside of a loop or branch."""
        outer, self.out = self.out, []
        self.plan(layout, params, results, arena)
        inner, self.out = self.together(self.out), outer
        return inner

    # ---------------------------------------------------------------- launches together
    def together(self, instructions: Sequence[Instruction]) -> list[Instruction]:
        """Return a list whose equal kernels on arrays, where they follow each other, are one."""
        found: list[Instruction] = []
        for launches, run in itertools.groupby(instructions, lambda x: isinstance(x, Run)):
            part: list[Any] = list(run)
            groups = sets_of(part, self.members) if launches else [[x] for x in part]
            found += [self.one(alike) if len(alike) > 1 else alike[0] for alike in groups]
        return found

    def one(self, runs: Sequence[Run]) -> Run:
        """Return several launches as one."""
        sizes: dict[At, int] = {}
        for x in runs:
            for at, n in zip(x.args, x.sizes, strict=True):
                sizes[at] = max(n, sizes.get(at, 0))
        number = {at: k for k, at in enumerate(sizes)}
        members: list[Any] = [self.members[x.code] for x in runs]
        pointers = [tuple(number[at] for at in x.args) for x in runs]
        key = "group", members[0].key, tuple(m.size for m in members), tuple(pointers)
        if key not in self.numbers:
            self.numbers[key] = len(self.codes)
            self.codes.append(print_group(members, pointers, f"k{len(self.codes)}"))
        self.scratch = max(self.scratch, self.codes[self.numbers[key]].scratch)
        lines = ", ".join(dict.fromkeys(x.source for x in runs if x.source))
        return Run(self.numbers[key], tuple(sizes), tuple(sizes.values()), source=lines)

    # ---------------------------------------------------------------- steps
    def plan(self, layout: Layout, params: Sequence[At], results: Sequence[At], arena: At) -> None:
        frame = _Frame(layout, params, results, arena)
        made = {v: str(e.source) for e in layout.plan.jaxpr.eqns for v in e.outvars}
        for k, step in enumerate(layout.plan.steps):
            done = len(self.out)
            if isinstance(step, (Scan, While, Branch)):
                getattr(self, type(step).__name__.lower())(frame, step, layout.loops[k])
            elif not isinstance(step, Nothing):
                getattr(self, type(step).__name__.lower())(frame, step)
            lines = ", ".join(dict.fromkeys(made[v] for v in writes(step) if v in made))
            self.out[done:] = [_from(x, lines) for x in self.out[done:]]
        for v, k in layout.copies:
            self.copy(results[k], self.at(frame, v), nbytes(v))

    def launch(self, frame: _Frame, step: Launch) -> None:
        for out, source in step.seeds:
            self.copy(self.at(frame, out), self.at(frame, source), nbytes(out))
        self.kernel(step.kernel, [(self.at(frame, v), v) for v in step.vars])

    def kernel(self, kernel: Kernel, given: Sequence[tuple[At, Var | Lit]]) -> None:
        given = self.apart(kernel, given)
        kernel, kept = in_memory(kernel, [at for at, _ in given])
        given = [given[k] for k in kept]
        lengths = tuple(int(v.aval.size) for _, v in given)
        key = repr(replace(kernel, name="")), lengths  # attributes may be dicts
        self.run(key, lambda name: print_kernel(replace(kernel, name=name), lengths), given)
        number = self.numbers[key]
        if number not in self.members:
            self.members[number] = member_of(kernel, lengths)

    def run(
        self,
        key: Any,
        printed: Callable[[str], CudaCode],
        given: Sequence[tuple[At, Var | Lit]],
        asked: Convolution | Attending | None = None,
    ) -> None:
        """Write the launches of code that is printed under a name; equal ones share it."""
        if key not in self.numbers:
            self.numbers[key] = len(self.codes)
            self.codes.append(printed(f"k{len(self.codes)}"))
        number = self.numbers[key]
        self.scratch = max(self.scratch, self.codes[number].scratch)
        if self.codes[number].launches:
            addresses, sizes = zip(*[(at, nbytes(v)) for at, v in given], strict=True)
            self.out.append(Run(number, addresses, sizes, asked=asked))

    def apart(
        self, kernel: Kernel, given: Sequence[tuple[At, Var | Lit]]
    ) -> Sequence[tuple[At, Var | Lit]]:
        """Return the buffers of a kernel, copies for those whose rows it changes in place.

        Others than a row's threads may read its value, and nobody knows when it is written.
        """
        if not any(kernel.inner):
            return given
        element = levels(kernel)[1]
        rows = {given[s.buffer][0] for s in kernel.stores if is_row_store(kernel, s, element)}
        stored = {s.buffer for s in kernel.stores}
        read = {k: v for k, (at, v) in enumerate(given) if k not in stored and at in rows}
        if read:
            merged, kept = in_memory(kernel, [at for at, _ in given])
            if rows_stay_apart(merged, [int(given[k][1].aval.size) for k in kept]):
                return given
        found = list(given)
        for k, v in read.items():
            if nbytes(v):
                found[k] = self.room(nbytes(v)), v
                self.copy(found[k][0], given[k][0], nbytes(v))
        return found

    def dot(self, frame: _Frame, step: Dot) -> None:
        a, b, out = (self.at(frame, v) for v in (step.a, step.b, step.out))
        found = gemms(step)
        if found is None:
            dtypes = (step.a.aval.dtype, step.out.aval.dtype)
            fields = (step.batches, step.rows, step.sums, step.n, step.places, dtypes)
            given = [(a, step.a), (b, step.b), (out, step.out)]
            self.run(("dot", *fields), functools.partial(print_dot, step), given)
            return
        for gemm, starts in found:
            places = zip((a, b, out), starts, gemm.dtypes, strict=True)
            left, right, made = (at + k * d.itemsize for at, k, d in places)
            self.out.append(Product(gemm, left, right, made))

    def conv(self, frame: _Frame, step: Conv) -> None:
        lhs, rhs, out = (self.at(frame, v) for v in (step.lhs, step.rhs, step.out))
        if not step.covered:
            self.out.append(Clear(out, nbytes(step.out)))
        dtype, given = step.out.aval.dtype, [(lhs, step.lhs), (rhs, step.rhs), (out, step.out)]
        printed = functools.partial(print_convs, step.parts, dtype)
        spec = as_convolution(step, dtype)
        self.run((step.parts, dtype), printed, given, spec and replace(spec, tf32=config.tf32))

    def running(self, frame: _Frame, step: Running | Sort) -> None:
        fields = [getattr(step, f.name) for f in dataclasses.fields(step)[2:]]
        key = type(step), step.x.aval.dtype, *fields
        printed = print_running if isinstance(step, Running) else print_sort
        given = [(self.at(frame, v), v) for v in (step.x, step.out)]
        self.run(key, functools.partial(printed, step), given)  # type: ignore[arg-type]

    sort = running

    def attention(self, frame: _Frame, step: Attention) -> None:
        eqn = step.eqn
        given = [(self.at(frame, v), v) for v in (*step.ins, *step.outs)]
        avals = tuple(v.aval for v in (*eqn.invars, *eqn.outvars, *step.ins, *step.outs))
        key = eqn.prim, avals, step.places, tuple(sorted(eqn.params.items()))
        printed = print_fragments if in_fragments(eqn) else print_attention
        self.run(key, functools.partial(printed, step), given, as_attending(step))

    def rule(
        self, frame: _Frame, name: str, params: dict[str, Any], ins: Any, outs: Any, shapes: Any
    ) -> None:
        """Write the call of an eager rule; ``shapes`` of operands and results may be given."""
        pairs = zip((*ins, *outs), shapes or [v.aval.shape for v in (*ins, *outs)], strict=True)
        arrays = [(self.at(frame, v), tuple(s), np.dtype(v.aval.dtype)) for v, s in pairs]
        count = len(ins)
        self.out.append(Rule(name, params, tuple(arrays[:count]), tuple(arrays[count:])))

    def fourier(self, frame: _Frame, step: Fourier) -> None:
        kind = "ifft" if step.inverse else "fft"
        shape = (step.batch, step.n, step.inner)
        params = {"kind": kind, "axis": 1, "n": step.n}
        self.rule(frame, "fft", params, [step.x], [step.out], [shape, shape])

    def table(self, frame: _Frame, step: Table) -> None:
        aval = step.out.aval
        params = {"what": step.what, "n": step.n, "size": aval.size, "dtype": aval.dtype}
        made = np.asarray(primitives["fft_table"].eager(np, **params))
        held = self.constant(Lit(_Held(made)))  # type: ignore[arg-type]
        self.copy(self.at(frame, step.out), held, nbytes(step.out))

    def call(self, frame: _Frame, step: Call | Library) -> None:
        eqn = step.eqn
        self.rule(frame, eqn.prim.name, dict(eqn.params), eqn.invars, eqn.outvars, None)

    library = talk = call

    def wait(self, frame: _Frame, step: Wait) -> None:
        """Do nothing: on a GPU, collectives end in the order of its stream."""

    # ---------------------------------------------------------------- loops
    def carries(
        self, frame: _Frame, step: Scan | While, loop: Loop, body: Layout, turns: int | None
    ) -> list[Carry]:
        """Return the carries of a loop; ``turns``: how many steps it has, if that is known."""
        start, count = carries(step)
        first = step.eqn.params["body_nconsts"] if isinstance(step, While) else start
        found = []
        for j in range(count):
            v = step.eqn.outvars[j]
            init, home = (self.at(frame, x) for x in (step.eqn.invars[start + j], v))
            spare = frame.arena + loop.spares[j] if j in loop.spares else None
            old = self.register()
            same = spare is None or (first + j, j) in body.pairs
            found.append(Carry(old, old if same else self.register(), init, home, spare, nbytes(v)))
        return found

    def scan(self, frame: _Frame, step: Scan, loop: Loop) -> None:
        params, (body,), (start, count) = step.eqn.params, loop.layouts, carries(step)
        length, jaxpr = params["length"], body.plan.jaxpr
        ins = [self.at(frame, v) for v in step.eqn.invars]
        outs = [self.at(frame, v) for v in step.eqn.outvars]
        held = self.carries(frame, step, loop, body, length)
        inside = [*jaxpr.invars[start + count :], *jaxpr.outvars[count:]]
        xs = len(ins) - start - count
        slices, addresses, before, after = [], [], [], []
        for k, (at, v) in enumerate(
            zip((*ins[start + count :], *outs[count:]), inside, strict=True)
        ):
            slices.append(Slice(self.register(), at, nbytes(v), k >= xs))
            here = At(slices[-1].register)
            if nbytes(v) % VECTOR and length > 1:  # kernels want it aligned
                there = self.room(nbytes(v))
                (before if k < xs else after).append((there, here, nbytes(v)))
                here = there
            addresses.append(here)
        old, new = [At(c.old) for c in held], [At(c.new) for c in held]
        instructions = self.inside(
            body,
            [*ins[:start], *old, *addresses[:xs]],
            [*new, *addresses[xs:]],
            frame.arena + loop.block,
        )
        lead = [Copy(there, here, n) for there, here, n in before if n]
        last = [Copy(here, there, n) for there, here, n in after if n]
        whole = (*lead, *instructions, *last)
        found = Repeat(length, params["reverse"], tuple(held), tuple(slices), whole)
        self.out += in_turns(found, self.register, self.room)

    def __getattr__(self, name: str) -> Any:
        if name == "while":  # a word of Python's
            return self.loop
        raise AttributeError(name)

    def loop(self, frame: _Frame, step: While, loop: Loop) -> None:
        cond, body = loop.layouts
        n_cond, (start, _) = step.eqn.params["cond_nconsts"], carries(step)
        ins = [self.at(frame, v) for v in step.eqn.invars]
        held = self.carries(frame, step, loop, body, None)
        arena, holds = frame.arena + loop.block, self.room(1)
        old, new = [At(c.old) for c in held], [At(c.new) for c in held]
        test = self.inside(cond, [*ins[:n_cond], *old], [holds], arena)
        turn = self.inside(body, [*ins[n_cond:start], *old], new, arena)
        self.out.append(Until(tuple(held), tuple(test), holds, tuple(turn)))

    def branch(self, frame: _Frame, step: Branch, loop: Loop) -> None:
        which, *operands = step.eqn.invars
        ins = [self.at(frame, v) for v in operands]
        outs = [self.at(frame, v) for v in step.eqn.outvars]
        for i, j in loop.layouts[0].pairs:  # a branch that works in place wants it there
            self.copy(outs[j], ins[i], nbytes(operands[i]))
            ins[i] = outs[j]
        arena = frame.arena + loop.block
        found = tuple(tuple(self.inside(x, ins, outs, arena)) for x in loop.layouts)
        self.out.append(Choose(self.at(frame, which), np.dtype(which.aval.dtype), found))


def _from(x: Instruction, lines: str) -> Instruction:
    """Return an instruction that says whose lines it is for; what is inside of loops says so."""
    if lines and isinstance(x, (Run, Copy, Clear, Product, Rule)):
        return replace(x, source=lines)
    return x


class _Held:
    """A constant that no program has."""

    def __init__(self, data: np.ndarray) -> None:
        self._data = data
        self.aval = data


def _used(
    codes: Sequence[CudaCode], instructions: tuple[Instruction, ...]
) -> tuple[tuple[CudaCode, ...], tuple[Instruction, ...]]:
    """Return the codes that a list launches, and the list with their numbers."""
    numbers: dict[int, int] = {}

    def one(x: Instruction) -> Instruction:
        if isinstance(x, Run):
            return replace(x, code=numbers.setdefault(x.code, len(numbers)))
        if isinstance(x, Repeat):
            return replace(x, body=tuple(map(one, x.body)))
        if isinstance(x, Until):
            return replace(x, cond=tuple(map(one, x.cond)), body=tuple(map(one, x.body)))
        if isinstance(x, Choose):
            return replace(x, branches=tuple(tuple(map(one, b)) for b in x.branches))
        return x

    again = tuple(map(one, instructions))
    return tuple(codes[k] for k in numbers), again


def _with_scratch(instructions: tuple[Instruction, ...], scratch: At) -> tuple[Instruction, ...]:
    """Return a list whose launches have the pointer to scratch memory."""
    again = functools.partial(_with_scratch, scratch=scratch)

    def one(x: Instruction) -> Instruction:
        if isinstance(x, Run):
            return replace(x, args=(*x.args, scratch), sizes=(*x.sizes, 0))
        if isinstance(x, Repeat):
            return replace(x, body=again(x.body))
        if isinstance(x, Until):
            return replace(x, cond=again(x.cond), body=again(x.body))
        return replace(x, branches=tuple(map(again, x.branches))) if isinstance(x, Choose) else x

    return tuple(map(one, instructions))


def launch_plan(plan: Plan, layout: Layout) -> LaunchPlan:
    """Return what a laid out plan asks of a GPU.

    Args:
        plan: the plan, without epilogues.
        layout: its layout, without cells on a stack.
    """
    return _Writer(plan, layout).whole()
