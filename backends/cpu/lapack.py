"""Print recipes of library calls as LLVM functions: LAPACK without Python in between.

A function for each stage. Its parts are shares of a batch, each with a workspace of its own, or,
where there are few matrices, the blocks of the matrices; so results depend on sizes alone. The
first word of a workspace says whether its matrix has failed: later stages leave that one alone.
"""

from __future__ import annotations

import numpy as np

from funtorch.dims import smaller
from funtorch.ops.lapack import Arg, At, Invoke, Part, Recipe, Scalar, Stage, Work

from ..plan import Library
from .llvm import Code
from .small import is_small, small_code
from .writer import Index, Routine

__all__ = ["library_codes"]

_SHARES = 16  # most workspaces
_FILL = "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1 immarg)"
_NAN, _ZERO = 255, 0  # bytes: ones altogether are a nan of every width


def library_codes(step: Library) -> list[tuple[str, Code]]:
    """Return the functions of a recipe, by name, in the order in which they run.

    Each takes the addresses of the operands and the results.
    """
    if is_small(step):
        return [("small", small_code(step))]
    stages = step.recipe.stages
    return [("lapack", _Writing(step, k).code()) for k in range(len(stages))]


def _kind(a: Arg) -> str:
    """Return an argument's type in C."""
    if isinstance(a, bytes):
        return "i8 signext"
    if isinstance(a, (Part, int)):
        return "i32"
    if isinstance(a, Scalar) and a.dtype.kind != "c":
        return "float" if a.dtype.itemsize == 4 else "double"
    return "ptr"


class _Writing(Routine):
    """Writes one stage."""

    def __init__(self, step: Library, number: int) -> None:
        super().__init__()
        recipe: Recipe = step.recipe
        self.stage: Stage = recipe.stages[number]
        self.first, self.alone = number == 0, len(recipe.stages) == 1
        self.work, self.batch, self.flops = recipe.work, step.batch, recipe.flops
        self.avals = [v.aval for v in (*step.eqn.invars, *step.eqn.outvars)]
        self.operands = len(step.eqn.invars)
        self.slots = smaller(self.batch, _SHARES) if self.alone else self.batch

    def bytes_of(self, array: int) -> int:
        """Return the bytes of one matrix."""
        aval = self.avals[array]
        return aval.size * aval.dtype.itemsize // self.batch

    def place(self, base: str, offset: int, block: Index, step: int) -> str:
        return self.pointer(base, "i8", self.sum(offset, [(block, step)]))

    def argument(self, a: Arg, matrices: list[str], work: str, block: Index) -> str:
        """Write an argument of a call; return its type and its name or value."""
        kind = _kind(a)
        if isinstance(a, At):
            size = self.avals[a.array].dtype.itemsize
            where = self.place(matrices[a.array], a.offset * size, block, a.step * size)
            return f"{kind} {where}"
        if isinstance(a, Work):
            return f"{kind} {self.place(work, a.offset, block, a.step)}"
        if isinstance(a, Part):
            rest = self.sum(a.total, [(block, -a.size)])
            least = self.least(rest, a.size)
            narrow = least if isinstance(least, int) else self.b.op(f"trunc i64 {least} to i32")
            return f"{kind} {narrow}"
        if isinstance(a, Scalar):
            return self.scalar(a, kind)
        if isinstance(a, bytes):
            return f"{kind} {a[0]}"
        return f"{kind} null" if a is None else f"{kind} {a}"

    def scalar(self, a: Scalar, kind: str) -> str:
        if kind != "ptr":
            return f"{kind} {float(a.value):e}"
        data = np.array(a.value, a.dtype).tobytes()
        spelt = "".join(f"\\{byte:02X}" for byte in data)
        symbol = f"@number_{data.hex()}"
        self.b.declared[symbol] = (
            f'{symbol} = private unnamed_addr constant [{len(data)} x i8] c"{spelt}", align 16'
        )
        return f"ptr {symbol}"

    def call(self, call: Invoke, matrices: list[str], work: str, block: Index) -> str | None:
        """Write one call; return the bit that says that it failed, if it can."""
        args = ", ".join(self.argument(a, matrices, work, block) for a in call.args)
        kinds = ", ".join(map(_kind, call.args))
        result = "i32" if call.returns else "void"
        self.b.declared[call.function] = f"declare {result} @{call.function}({kinds})"
        text = f"call {result} @{call.function}({args})"
        if not call.returns:
            self.b.do(text)
            return None
        code = self.b.op(text)
        return self.b.op(f"icmp ne i32 {code}, 0") if call.fails else None

    def fill(self, matrices: list[str]) -> None:
        """Write nan to all results of a matrix, 0 to integers."""
        self.b.declared["memset"] = _FILL
        for k in range(self.operands, len(self.avals)):
            byte = _NAN if self.avals[k].dtype.kind in "fc" else _ZERO
            if self.bytes_of(k):
                self.b.do(
                    f"call void @llvm.memset.p0.i64(ptr {matrices[k]}, i8 {byte}, "
                    f"i64 {self.bytes_of(k)}, i1 false)"
                )

    def calls(self, matrix: Index, work: str, block: Index) -> None:
        """Write the calls for a block of a matrix."""
        b = self.b
        matrices = [
            self.pointer(f"%b{k}", "i8", self.sum(0, [(matrix, self.bytes_of(k))]))
            for k in range(len(self.avals))
        ]
        failed, done = self.label(), self.label()
        flag = not self.alone
        if flag and self.first:
            b.do(f"store i32 0, ptr {work}")
        elif flag:
            bad, go = b.op(f"icmp ne i32 {b.op(f'load i32, ptr {work}')}, 0"), self.label()
            b.do(f"br i1 {bad}, label %{done}, label %{go}")
            self.block(go)
        for call in self.stage.calls:
            bad_call = self.call(call, matrices, work, block)
            if bad_call is not None:
                go = self.label()
                b.do(f"br i1 {bad_call}, label %{failed}, label %{go}")
                self.block(go)
        b.do(f"br label %{done}")
        self.block(failed)
        self.fill(matrices)
        if flag:
            b.do(f"store i32 1, ptr {work}")
        b.do(f"br label %{done}")
        self.block(done)

    def share(self, place: list[Index]) -> None:
        """Write the matrices of one share of the batch."""
        per = -(-self.batch // self.slots)
        work = self.pointer("%scratch", "i8", self.sum(0, [(place[0], self.work)]))
        if per == 1:
            self.calls(place[0], work, 0)
            return
        first = self.sum(0, [(place[0], per)])
        last = self.least(self.sum(per, [(first, 1)]), self.batch)
        go, none = self.label(), self.label()
        self.b.do(f"br i1 {self.b.op(f'icmp slt i64 {first}, {last}')}, label %{go}, label %{none}")
        self.block(go)
        self.loop(first, last, 1, lambda i: self.calls(i, work, 0))
        self.b.do(f"br label %{none}")
        self.block(none)

    def code(self) -> Code:
        blocks = self.stage.blocks

        def body(place: list[Index]) -> None:
            if self.alone and blocks == 1:
                self.share(place)
            else:
                work = self.pointer("%scratch", "i8", self.sum(0, [(place[0], self.work)]))
                self.calls(place[0], work, place[1] if blocks > 1 else 0)

        grid = [self.slots, blocks] if blocks > 1 else [self.slots]
        self.guarded(lambda: self.parts(grid, body))
        args = [f"ptr %b{k}" for k in range(len(self.avals))]
        text = self.text("lapack", [*args, "ptr %scratch", "i64 %lo", "i64 %hi"])
        parts = self.slots * blocks
        # The library does about eight operations in the time of a scalar one.
        work = self.batch * int(self.flops) // 8
        return Code(text, self.b.declared, parts, self.slots * self.work, False, work)
