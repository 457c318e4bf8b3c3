"""Print a laid out plan as one native function.

``i32 run(ptr inputs, ptr outputs, ptr memory, ptr runtime, i32 threads)``: inputs and outputs are
Python lists of ndarrays, whose addresses native code reads itself; ``memory`` is the ndarray that
holds the arena, unless that is small enough for the stack; ``runtime`` is the Python object that
the callback of `Call` steps gets; ``threads`` is how many threads large steps may run on. It
returns DONE, or RAISED when a callback raised, or COPY when an input is not a plain contiguous
ndarray, or FAILED when MPI has failed. The module's entry, ``program``, is a method of CPython's
fast calling convention that takes these five and lets other Python threads run meanwhile, unless
the work is brief.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from funtorch.dims import NotDynamic, fixed, larger, scope_of, smaller
from funtorch.jaxpr import Eqn, Lit, Var

from ..kernel import Kernel, in_memory
from ..layout import ALIGN, Layout, Loop, Place, carries, is_small, nbytes
from ..plan import (
    Branch,
    Call,
    Conv,
    Dot,
    Epilogue,
    Fourier,
    Launch,
    Library,
    Nothing,
    Plan,
    Running,
    Scan,
    Sort,
    Table,
    Talk,
    Wait,
    While,
)
from ..talk import speaks
from .blas import dot_code
from .carries import Carries
from .conv import correlation_code
from .entry import DATA, POINTER, addresses, entry_text
from .epilogue import Behind
from .fourier import fourier_codes, table_symbol
from .lapack import library_codes
from .llvm import Code, copy_code, kernel_function
from .records import loads, with_sizes
from .running import running_codes
from .sorting import sort_codes
from .talk import begun, waited
from .together import Job, Memory, jobs, rows_text
from .work import ends, work_of

__all__ = ["COPY", "DONE", "FAILED", "RAISED", "Program", "print_program"]

DONE, RAISED, COPY, FAILED = range(4)
PARALLEL = 1 << 19  # scalar operations from which a step is worth several threads
CHUNK = 1 << 17  # scalar operations in one piece of such a step
PIECES = 128  # most pieces of a step
GRAIN = 1 << 12  # elements of which pieces of long loops are multiples
INLINE = 2000  # lines of small kernels that are written into the loops that call them
ON_STACK = 1 << 14  # bytes up to which an arena lies on the stack
TINY = 1 << 12  # scalar operations of a kernel that is small
_KERNEL = "k"  # the name of every kernel before it gets one that tells what it does


@dataclass(frozen=True)
class Program:
    """A printed program.

    Attributes:
        text: the module, without the attributes #0, which the machine defines.
        layout: where its variables live.
        calls: the equations that the callback runs, by number.
        externals: names of the outside functions and data that it uses.
        arena: bytes of the ndarray that a run needs besides inputs and outputs; 0: none.
        parallel: whether a step may run on several threads.
        symbol: the entry's name.
    """

    text: str
    layout: Layout
    calls: tuple[Eqn, ...]
    externals: tuple[str, ...]
    arena: int
    parallel: bool
    symbol: str = "program"


# Outside names: how each is declared.
EXTERNALS = {
    "funtorch_parallel": "declare void @funtorch_parallel(ptr, ptr, i64, i64, i32)",
    "funtorch_call": "declare i32 @funtorch_call(ptr, i64, ptr)",
    "funtorch_ndarray": "@funtorch_ndarray = external global i8",
    "PyLong_AsLong": "declare i64 @PyLong_AsLong(ptr)",
    "PyLong_FromLong": "declare ptr @PyLong_FromLong(i64)",
    "PyEval_SaveThread": "declare ptr @PyEval_SaveThread()",
    "PyEval_RestoreThread": "declare void @PyEval_RestoreThread(ptr)",
}
_CODES: dict[type, Callable[[Any], list[tuple[str, Code]]]] = {
    Fourier: fourier_codes, Running: running_codes, Sort: sort_codes
}  # fmt: skip
SHARED_COPY = 1 << 20  # bytes of an array that threads copy together
BRIEF = 1 << 15  # scalar operations up to which other Python threads may wait
_ZERO = "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1 immarg)"
_COPY = "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)"


def print_program(plan: Plan, layout: Layout, sized: bool = False, python: bool = True) -> Program:
    """Return a plan as the text of one native function and what the runtime must know of it.

    Args:
        plan, layout: the program.
        sized: whether the last constant is the record of the program's sizes (funtorch/dims.py).
        python: whether Python calls it. Otherwise ``run`` is its entry, and takes arrays of the
            addresses of data instead of lists of ndarrays, and an address for ``memory``.
    """
    return _Printer(sized, python).program(plan, layout)


@dataclass
class _Frame:
    """One run of a plan's steps in the text: where its variables' memory is."""

    layout: Layout
    params: Sequence[str]
    results: Sequence[str]
    arena: str
    known: dict[Place, str]


class _Printer:
    """Writes the entry and what it calls."""

    def __init__(self, sized: bool, python: bool) -> None:
        self.structured: dict[type, Callable[..., None]] = {
            Scan: self.scan, While: self.loop, Branch: self.branch
        }  # fmt: skip
        self.lines: list[str] = []
        self.cells: list[str] = []  # allocations on the stack, all at the entry
        self.functions: dict[str, str] = {}  # text with the name left open, name
        self.codes: dict[object, Code] = {}  # by kernel
        self.declared: dict[str, str] = {"memcpy": _COPY}
        self.constants: dict[bytes, str] = {}
        self.externals: set[str] = set()
        self.calls: list[Eqn] = []
        self.count = self.depth = self.inlined = self.scratch = 0
        self.parallel = self.looped = self.talked = False
        self.requests: dict[Var, str] = {}  # of collectives that have begun, by result
        self.alone = False  # inside a function that the thread pool runs
        self.sized = sized  # whether the last constant is the record of sizes
        self.python = python  # whether arrays are Python's objects

    # ---------------------------------------------------------------- text
    def do(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def op(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"  %v{self.count} = {text}")
        return f"%v{self.count}"

    def label(self, what: str) -> str:
        self.count += 1
        return f"{what}{self.count}"

    def start(self, label: str) -> None:
        self.lines.append(f"{label}:")

    def cell(self, kind: str, align: int = POINTER) -> str:
        self.count += 1
        self.cells.append(f"  %s{self.count} = alloca {kind}, align {align}")
        return f"%s{self.count}"

    def room(self, size: int) -> str:
        if not fixed(size):
            raise NotDynamic("memory on the stack has as many bytes as a size says")
        return self.cell(f"[{max(size, 1)} x i8]", 64 if size >= 64 else 16)

    def shift(self, pointer: str, offset: int | str) -> str:
        if offset == 0:
            return pointer
        return self.op(f"getelementptr i8, ptr {pointer}, i64 {offset}")

    def copy(self, target: str, source: str, size: int) -> None:
        if target != source and size:
            args = f"ptr {target}, ptr {source}, i64 {size}, i1 false"
            self.do(f"call void @llvm.memcpy.p0.p0.i64({args})")

    def external(self, name: str, declaration: str) -> str:
        self.externals.add(name)
        self.declared[name] = declaration
        return f"@{name}"

    def constant(self, v: Lit) -> str:
        return self.data(np.asarray(v.val._data).tobytes())

    def data(self, data: bytes) -> str:
        """Return the address of constant bytes."""
        if data not in self.constants:
            self.constants[data] = f"@const{len(self.constants)}"
        return self.constants[data]

    # ---------------------------------------------------------------- memory
    def pointer(self, frame: _Frame, v: Var | Lit) -> str:
        """Return the address of a variable's memory."""
        if isinstance(v, Lit):
            return self.constant(v)
        place = frame.layout.places[v]
        if place.kind == "param":
            return frame.params[place.at]
        if place.kind == "result":
            return frame.results[place.at]
        if place not in frame.known:
            if place.kind == "stack":
                frame.known[place] = self.room(nbytes(v))
            else:
                frame.known[place] = self.shift(frame.arena, place.at)
        return frame.known[place]

    def plan(
        self, layout: Layout, params: Sequence[str], results: Sequence[str], arena: str
    ) -> None:
        """Write a plan's steps and the copies of results that are not made in their place."""
        frame = _Frame(layout, params, results, arena, {})
        for v in layout.places:  # where a step in a branch may not be the first to ask
            if layout.places[v].kind in ("arena", "stack"):
                self.pointer(frame, v)
        waiting: list[Job] = []
        for k, step in enumerate(layout.plan.steps):
            if isinstance(step, Launch) and not step.seeds:
                waiting.append(self.job(frame, step))
                continue
            self.launches(waiting)
            waiting = []
            if isinstance(step, Launch):
                self.seeded(frame, step)
            elif isinstance(step, Dot):
                self.product(frame, step)
            elif isinstance(step, Conv):
                self.convolve(frame, step)
            elif isinstance(step, Table):
                symbol = table_symbol(step)
                source = self.external(symbol, f"@{symbol} = external global i8")
                self.copy(self.pointer(frame, step.out), source, nbytes(step.out))
            elif isinstance(step, (Fourier, Running, Sort)):
                pointers = [self.pointer(frame, v) for v in (step.x, step.out)]
                for name, code in _CODES[type(step)](step):
                    self.declared.update(code.declared)
                    self.drive(code, name, pointers)
            elif isinstance(step, Library):
                self.call_library(frame, step)
            elif isinstance(step, Talk):
                self.talk(frame, step)
            elif isinstance(step, Wait):
                self.checked(waited(self, self.requests[step.eqn.outvars[0]], step.only_look))
            elif isinstance(step, Nothing):
                continue
            elif isinstance(step, Call):
                self.call(frame, step)
            else:
                write = self.structured[type(step)]
                write(frame, step, layout.loops[k])
        self.launches(waiting)
        for v, k in layout.copies:
            self.copy(results[k], self.pointer(frame, v), nbytes(v))

    # ---------------------------------------------------------------- kernels and products
    def seeded(self, frame: _Frame, step: Launch) -> None:
        for out, source in step.seeds:
            target, origin = pair = [self.pointer(frame, v) for v in (out, source)]
            if int(nbytes(out)) < SHARED_COPY or target == origin:
                self.copy(target, origin, nbytes(out))
            else:
                code = copy_code(nbytes(out))
                self.declared.update(code.declared)
                self.drive(code, "copied", pair)
        self.launches([self.job(frame, step)])

    def job(self, frame: _Frame, step: Launch) -> Job:
        """Return a kernel's code, and where it works."""
        pointers = [self.pointer(frame, v) for v in step.vars]
        kernel, kept = in_memory(replace(step.kernel, name=_KERNEL), pointers)
        stored = {s.buffer for s in step.kernel.stores}
        memory: tuple[list[Memory], list[Memory]] = ([], [])
        for k, v in enumerate(step.vars if not self.sized else ()):
            place = frame.layout.places[v]
            name, at = (frame.arena, place.at) if place.kind == "arena" else (pointers[k], 0)
            memory[k in stored].append(Memory(name, at, at + nbytes(v)))
        return Job(self.printed(kernel), tuple(pointers[k] for k in kept), *map(tuple, memory))

    def printed(self, kernel: Kernel) -> Code:
        """Return a kernel as text, which is written once for equal ones."""
        key = None if self.sized else (str(kernel), kernel.buffers)
        code = self.codes.get(key)
        if code is None:
            code = kernel_function(kernel)
            self.declared.update(code.declared)
            if key:
                self.codes[key] = code
        return code

    def launches(self, given: Sequence[Job]) -> None:
        """Run kernels that follow each other; those that are one function, as one job."""
        inlined = self.depth and all(int(job.code.work) <= TINY for job in given)
        if self.sized or inlined or len(given) < 2:
            found = [[job] for job in given]
        else:
            found = jobs(given, PARALLEL)
        for same in found:
            if len(same) == 1:
                self.drive(same[0].code, _KERNEL, same[0].pointers)
            else:
                self.rows(same)

    def rows(self, found: Sequence[Job]) -> None:
        """Run a kernel on several sets of buffers."""
        symbol = self.function(found[0].code, _KERNEL, False)
        run = "@" + self.named(rows_text(symbol, len(found[0].pointers)))
        stop, table = 0, []
        for job in found:
            stop += job.code.parts
            table += [f"inttoptr (i64 {stop} to ptr)", *job.pointers]
        work = sum(job.code.work for job in found)
        if not self.alone and work >= PARALLEL:
            self.parallel_call(run, table, stop, min(max(work // CHUNK, 2), PIECES))
        else:
            self.do(f"call void {run}(ptr {self.table(table)}, i64 0, i64 {stop})")

    def product(self, frame: _Frame, step: Dot) -> None:
        pointers = [self.pointer(frame, v) for v in (step.a, step.b)]
        if step.a.aval.dtype != step.b.aval.dtype:
            scale = step.b if step.scale is None else step.scale
            pointers[1] = self.table([pointers[1], self.pointer(frame, scale)])
        if step.after is None:
            pointers.append(self.pointer(frame, step.out))
            codes = dot_code(step)
        else:
            behind, others = self.epilogue(frame, step.after)
            pointers += others
            codes = dot_code(step, behind)
        for name, code, outside in codes:
            for external, declaration in outside.items():
                self.external(external, declaration)
            self.declared.update(code.declared)
            self.drive(code, name, pointers)

    def epilogue(self, frame: _Frame, after: Epilogue) -> tuple[Behind, list[str]]:
        """Return an epilogue as it lies in memory, and the addresses of its buffers."""
        places = [
            "block" if n == after.tile else self.pointer(frame, v)
            for n, v in enumerate(after.launch.vars)
        ]
        kernel, kept = in_memory(after.launch.kernel, places)
        others = [places[n] for n in kept if n != after.tile]
        return Behind(kernel, kept.index(after.tile), after.lead, after.whole), others

    def convolve(self, frame: _Frame, step: Conv) -> None:
        pointers, behind = [self.pointer(frame, v) for v in (step.lhs, step.rhs)], None
        if step.after is None:
            pointers.append(self.pointer(frame, step.out))
        else:
            behind, others = self.epilogue(frame, step.after)
            pointers += others
        if not step.covered:
            self.declared["memset"] = _ZERO
            self.do(
                f"call void @llvm.memset.p0.i64(ptr {pointers[2]}, i8 0, i64 {nbytes(step.out)}, "
                "i1 false)"
            )
        for part in step.parts:
            for name, code in correlation_code(part, step.out.aval.dtype, behind):
                self.declared.update(code.declared)
                self.drive(code, name, pointers)

    def drive(self, code: Code, name: str, pointers: Sequence[str]) -> None:
        """Call a function of parts, or give it to the thread pool."""
        self.scratch = larger(self.scratch, code.scratch)
        scratch = "%scratch"
        if code.table:
            pointers = [*pointers, self.numbers(code.table)]
        text = with_sizes(code.text)
        if text != code.text:
            code, pointers = replace(code, text=text), [*pointers, "%sizes"]
        args = "".join(f"ptr {p}, " for p in pointers) + f"ptr {scratch}"
        known = fixed(code.parts) and fixed(code.work)
        shared = not self.alone and (not known or (code.parts > 1 and code.work >= PARALLEL))
        symbol = self.function(code, name, not shared)
        call = f"call void @{symbol}({args}, i64 0, i64 {code.parts})"
        if shared:
            run = self.spread(symbol, len(pointers))
            pieces = smaller(larger(code.work // CHUNK, 2), PIECES)
            share = lambda: self.parallel_call(run, [*pointers, scratch], code.parts, pieces)  # noqa: E731
            if known:
                share()
            else:
                large = self.op(f"icmp sge i64 {code.work}, {PARALLEL}")
                self.either(large, share, lambda: self.do(call))
        else:
            self.do(call)
        if code.finish:
            self.do(f"call void @{symbol}_end({args})")

    def numbers(self, table: Sequence[int]) -> str:
        """Return the address of integers."""
        scope = scope_of(table)
        if scope is None:
            return self.data(np.array(table, np.int64).tobytes())
        return self.shift("%sizes", scope.reserve(table) * POINTER)

    def either(self, condition: str, yes: Callable[[], None], no: Callable[[], None]) -> None:
        """Write what is done where a condition holds, and where it does not."""
        first, second, after = (self.label(what) for what in ("yes", "no", "joined"))
        self.do(f"br i1 {condition}, label %{first}, label %{second}")
        for label, body in ((first, yes), (second, no)):
            self.start(label)
            body()
            self.do(f"br label %{after}")
        self.start(after)

    def table(self, pointers: Sequence[str]) -> str:
        """Return the address of a table of pointers."""
        table = self.cell(f"[{max(len(pointers), 1)} x ptr]")
        for k, p in enumerate(pointers):
            self.do(f"store ptr {p}, ptr {self.shift(table, k * POINTER)}")
        return table

    def parallel_call(self, run: str, pointers: Sequence[str], parts: int, pieces: int) -> None:
        """Give ``run(table of pointers, lo, hi)`` to the thread pool, in about so many pieces."""
        self.parallel = True
        parallel = self.external("funtorch_parallel", EXTERNALS["funtorch_parallel"])
        grain = -(-parts // pieces)
        if int(grain) > GRAIN:  # of small parts, which are elements
            grain = -(-grain // GRAIN) * GRAIN
        self.do(
            f"call void {parallel}(ptr {run}, ptr {self.table(pointers)}, i64 {parts}, "
            f"i64 {grain}, i32 %threads)"
        )

    def function(self, code: Code, name: str, alone: bool) -> str:
        """Put a function into the module, unless an equal one is there; return its name."""
        text = re.sub(rf"@{name}(?=\W|_)", "@?", code.text)
        size = text.count("\n")
        if alone and self.depth and int(code.work) <= TINY and self.inlined + size < INLINE:
            self.inlined += size
            text = re.sub(r" (noinline )?nounwind #0 \{", " alwaysinline nounwind #0 {", text)
        return self.named(text)

    def named(self, text: str) -> str:
        """Take a function in; return its name, which is the same in all programs that have it."""
        if text not in self.functions:
            self.functions[text] = f"f{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        return self.functions[text]

    def spread(self, symbol: str, count: int) -> str:
        """Return the function that calls another one with the pointers in a table."""
        head = "define internal void @?_run(ptr %table, i64 %lo, i64 %hi)"
        lines = [f"{head} noinline optnone nounwind #0 {{"]
        for k in range(count + 1):
            lines.append(f"  %q{k} = getelementptr ptr, ptr %table, i64 {k}")
            lines.append(f"  %p{k} = load ptr, ptr %q{k}")
        args = "".join(f"ptr %p{k}, " for k in range(count + 1))
        lines += [f"  call void @{symbol}({args}i64 %lo, i64 %hi)", "  ret void", "}"]
        text = "\n".join(lines).replace("@?", f"@{symbol}")
        self.functions[text] = f"{symbol}_run"
        return f"@{symbol}_run"

    def call_library(self, frame: _Frame, step: Library) -> None:
        pointers = [self.pointer(frame, v) for v in (*step.eqn.invars, *step.eqn.outvars)]
        for name, code in library_codes(step):
            for function, declaration in code.declared.items():
                if function.startswith("scipy_"):
                    self.external(function, declaration)
            self.declared.update(code.declared)
            self.drive(code, name, pointers)

    # ---------------------------------------------------------------- other processes
    def talk(self, frame: _Frame, step: Talk) -> None:
        self.talked = True
        pointers = [self.pointer(frame, v) for v in (*step.eqn.invars, *step.eqn.outvars)]
        request = None
        if step.later:
            request = self.requests[step.eqn.outvars[0]] = self.cell("i64")
        self.checked(begun(self, step.eqn, pointers, request))

    def checked(self, code: str | None) -> None:
        """Write the end of the program for a call of MPI that gave another code than 0."""
        if code is not None:
            after = self.label("talked")
            self.do(f"br i1 {self.op(f'icmp eq i32 {code}, 0')}, label %{after}, label %failed")
            self.start(after)

    # ---------------------------------------------------------------- calls of Python
    def call(self, frame: _Frame, step: Call) -> None:
        ins = [v for v in step.eqn.invars if isinstance(v, Var)]
        table = self.table([self.pointer(frame, v) for v in (*ins, *step.eqn.outvars)])
        call = self.external("funtorch_call", EXTERNALS["funtorch_call"])
        code = self.op(f"call i32 {call}(ptr %runtime, i64 {len(self.calls)}, ptr {table})")
        self.calls.append(step.eqn)
        after = self.label("called")
        self.do(f"br i1 {self.op(f'icmp eq i32 {code}, 0')}, label %{after}, label %raised")
        self.start(after)

    # ---------------------------------------------------------------- loops
    def counted(self, start: int | str, stop: int | str, body: Callable[[str], None]) -> None:
        """Write ``for i in range(start, stop)``, which runs at least once."""
        self.looped = True
        i = self.cell("i64")
        self.do(f"store i64 {start}, ptr {i}")
        top, after = self.label("loop"), self.label("done")
        self.do(f"br label %{top}")
        self.start(top)
        now = self.op(f"load i64, ptr {i}")
        self.depth += 1
        body(now)
        self.depth -= 1
        following = self.op(f"add nuw nsw i64 {now}, 1")
        self.do(f"store i64 {following}, ptr {i}")
        more = self.op(f"icmp slt i64 {following}, {stop}")
        self.do(f"br i1 {more}, label %{top}, label %{after}")
        self.start(after)

    def scan(self, frame: _Frame, step: Scan, loop: Loop) -> None:
        ins = [self.pointer(frame, v) for v in step.eqn.invars]
        outs = [self.pointer(frame, v) for v in step.eqn.outvars]
        length = step.eqn.params["length"]
        if not length or not self.shared_scan(step, loop, ins, outs):
            state = Carries(self, frame, step, loop, loop.layouts[0])
            state.begin()
            arena = self.shift(frame.arena, loop.block)
            if length:
                self.counted(0, length, lambda i: self.turn(step, loop, ins, outs, arena, state, i))
            state.end()

    def turn(
        self,
        step: Scan,
        loop: Loop,
        ins: Sequence[str],
        outs: Sequence[str],
        arena: str,
        state: Carries | None,
        i: str,
    ) -> None:
        """Write one step of a scan."""
        params, (body,), (start, count) = step.eqn.params, loop.layouts, carries(step)
        if params["reverse"]:
            i = self.op(f"sub nuw nsw i64 {params['length'] - 1}, {i}")
        old, new = state.buffers() if state else ([], [])
        sizes = [nbytes(v) for v in body.plan.jaxpr.invars[start + count :]]
        sizes += [nbytes(v) for v in body.plan.jaxpr.outvars[count:]]
        stacks = [*ins[start + count :], *outs[count:]]
        slices = [
            self.shift(p, self.op(f"mul nuw nsw i64 {i}, {n}"))
            for p, n in zip(stacks, sizes, strict=True)
        ]
        xs = len(ins) - start - count
        self.plan(body, [*ins[:start], *old, *slices[:xs]], [*new, *slices[xs:]], arena)
        if state:
            state.turn()

    def shared_scan(self, step: Scan, loop: Loop, ins: Sequence[str], outs: Sequence[str]) -> bool:
        """Write a loop whose steps know nothing of each other for several threads, if it pays."""
        (body,), length = loop.layouts, step.eqn.params["length"]
        work = length * work_of(body.plan)
        if carries(step)[1] or self.alone or self.sized or not is_small(body.arena, ON_STACK):
            return False
        if length < 2 or work < PARALLEL:
            return False
        if speaks(body.plan):
            return False  # processes must say the same things in one order
        outside = self.lines, self.cells, self.scratch, self.depth, len(self.calls)
        self.lines, self.cells, self.scratch, self.depth, self.alone = [], [], 0, 0, True
        pointers = [*ins, *outs]
        inside = [
            self.op(f"load ptr, ptr {self.shift('%table', k * POINTER)}")
            for k in range(len(pointers))
        ]
        mine, theirs = inside[: len(ins)], inside[len(ins) :]
        self.counted("%lo", "%hi", lambda i: self.turn(step, loop, mine, theirs, "%arena", None, i))
        text = [
            "define internal void @?(ptr %table, i64 %lo, i64 %hi) nounwind #0 {",
            f"  %arena = alloca [{max(body.arena, 1)} x i8], align {ALIGN}",
            f"  %scratch = alloca [{max(self.scratch, 1)} x i8], align {ALIGN}",
            *self.cells,
            *self.lines,
            "  ret void",
            "}",
        ]
        possible = self.scratch <= ON_STACK and len(self.calls) == outside[4]
        self.lines, self.cells, self.scratch, self.depth, _ = outside
        self.alone = False
        if not possible:
            del self.calls[outside[4] :]
            return False
        symbol = self.named("\n".join(text))
        self.parallel_call(f"@{symbol}", pointers, length, max(1, min(length, PIECES)))
        return True

    def loop(self, frame: _Frame, step: While, loop: Loop) -> None:
        self.looped = True
        cond, body = loop.layouts
        n_cond, (start, _) = step.eqn.params["cond_nconsts"], carries(step)
        ins = [self.pointer(frame, v) for v in step.eqn.invars]
        state = Carries(self, frame, step, loop, body)
        state.begin()
        arena = self.shift(frame.arena, loop.block)
        holds = self.room(1)
        top, go, after = (self.label(what) for what in ("while", "go", "done"))
        self.do(f"br label %{top}")
        self.start(top)
        self.depth += 1
        old, new = state.buffers()
        self.plan(cond, [*ins[:n_cond], *old], [holds], arena)
        more = self.op(f"icmp ne i8 {self.op(f'load i8, ptr {holds}')}, 0")
        self.do(f"br i1 {more}, label %{go}, label %{after}")
        self.start(go)
        self.plan(body, [*ins[n_cond:start], *old], new, arena)
        state.turn()
        self.depth -= 1
        self.do(f"br label %{top}")
        self.start(after)
        state.end()

    def branch(self, frame: _Frame, step: Branch, loop: Loop) -> None:
        which, *operands = step.eqn.invars
        ins = [self.pointer(frame, v) for v in operands]
        outs = [self.pointer(frame, v) for v in step.eqn.outvars]
        for i, j in loop.layouts[0].pairs:  # a branch that works in place wants it there
            self.copy(outs[j], ins[i], nbytes(operands[i]))
            ins[i] = outs[j]
        kind = f"i{8 * which.aval.dtype.itemsize}"
        index = self.op(f"load {kind}, ptr {self.pointer(frame, which)}, align 1")
        labels = [self.label("case") for _ in loop.layouts]
        after = self.label("joined")
        arena = self.shift(frame.arena, loop.block)
        cases = " ".join(f"{kind} {k}, label %{name}" for k, name in enumerate(labels))
        self.do(f"switch {kind} {index}, label %{labels[-1]} [ {cases} ]")
        for layout, name in zip(loop.layouts, labels, strict=True):
            self.start(name)
            self.plan(layout, ins, outs, arena)
            self.do(f"br label %{after}")
        self.start(after)

    # ---------------------------------------------------------------- the entry
    def program(self, plan: Plan, layout: Layout) -> Program:
        jaxpr = plan.jaxpr
        params = addresses(self, "inputs", len(jaxpr.constvars) + len(jaxpr.invars), True)
        results = addresses(self, "outputs", len(jaxpr.outvars), False)
        begin, self.looped = len(self.lines), False
        self.plan(layout, params, results, "%arena")
        size = layout.arena + self.scratch
        start = [f"  %scratch = getelementptr i8, ptr %arena, i64 {layout.arena}"]
        if self.sized:
            record = params[len(jaxpr.constvars) - 1]
            given = loads("\n".join([*start, *self.lines]))
            head = [f"  %sizes = getelementptr i8, ptr {record}, i64 0", *given]
            self.lines[begin:begin], start = [*head, *start], []
        if is_small(size, ON_STACK):
            self.cells.append(f"  %arena = alloca [{max(size, 1)} x i8], align {ALIGN}")
            size = 0
        else:
            size += ALIGN
            self.cells += [
                f"  %at = getelementptr i8, ptr %memory, i64 {DATA if self.python else 0}",
                f"  %unaligned = {'load ptr, ptr' if self.python else 'freeze ptr'} %at",
                f"  %beyond = getelementptr i8, ptr %unaligned, i64 {ALIGN - 1}",
                f"  %arena = call ptr @llvm.ptrmask.p0.i64(ptr %beyond, i64 {-ALIGN})",
            ]
            self.declared["ptrmask"] = "declare ptr @llvm.ptrmask.p0.i64(ptr, i64)"
        brief = not (self.calls or self.talked) and ends(plan) and int(work_of(plan)) <= BRIEF
        # What only calls long functions one after the other is not worth optimising.
        care = "" if brief or self.looped else "noinline optnone "
        entry = [
            "define hidden i32 @run(ptr %inputs, ptr %outputs, ptr %memory, ptr %runtime, "
            f"i32 %threads) {care}nounwind #0 {{",
            *self.cells,
            *start,
            *self.lines,
            f"  ret i32 {DONE}",
            "raised:",
            f"  ret i32 {RAISED}",
            "failed:",
            f"  ret i32 {FAILED}",
            "copy:",
            f"  ret i32 {COPY}",
            "}",
        ]
        constants = []
        for data, name in self.constants.items():
            spelt = "".join(f"\\{b:02X}" for b in data)
            kind = f"[{len(data)} x i8]"
            constants.append(f'{name} = private unnamed_addr constant {kind} c"{spelt}", align 16')
        functions = [text.replace("@?", f"@{name}") for text, name in self.functions.items()]
        if self.python:
            entry.append("\n" + entry_text(brief))
            for name in ("funtorch_ndarray", *(n for n in EXTERNALS if n.startswith("Py"))):
                self.external(name, EXTERNALS[name])
        # Several parts of a program may declare the same function.
        named = {(re.findall(r"@[\w.]+", t) or [t])[0]: t for t in self.declared.values()}
        text = "\n\n".join([*sorted(named.values()), *constants, *functions, "\n".join(entry)])
        return Program(
            text, layout, tuple(self.calls), tuple(sorted(self.externals)), size, self.parallel
        )
