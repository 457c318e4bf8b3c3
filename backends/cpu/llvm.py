"""Print kernels as LLVM functions.

There is one schedule for each relation of the inner axes to the one along which memory runs:

    unrolled    no inner axes, or few elements a row: everything of one row in registers, vectorised
                over the last axis of the rows
    rows        the last axis is an inner one: one loop per stage, accumulators in registers
    columns     the last axis is a row axis: as rows, but for a tile of it at a time, accumulators
                in the nearest cache
    chunks      rows or columns that are few but long: every part does a piece of all of them and
                leaves its accumulators in scratch, where the finishing function joins them
    totals      rows, of which something is reduced over all rows too: every part does a block of
                rows, and leaves accumulators in scratch as well
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from funtorch.dims import fixed

from ..kernel import Kernel
from ..scalars.quicker import quicker
from .totals import Totals

__all__ = ["Code", "Printer", "copy_code", "kernel_function"]

_UNROLLED = 400  # operations that a row written out in full may have
_TINY = 64  # elements of a kernel that is not worth a call
_WRITTEN_OUT = 2000  # lines of such a kernel's loops: what they keep on the stack goes to registers
_PIECE = 1 << 16  # bytes that are copied at a time


@dataclass(frozen=True)
class Code:
    """A printed kernel, ``void @name(ptr b0, ..., ptr scratch, i64 lo, i64 hi)``.

    A call does the parts ``lo <= p < hi`` of its work.

    Attributes:
        text: the functions, to be put into a module beside the declarations.
        declared: declarations by the name that they declare.
        parts: how many independent parts there are, by sizes alone; 1 where it cannot be divided.
        scratch: bytes of memory that all parts of one run share.
        finish: whether ``void @name_end(ptr b0, ..., ptr scratch)`` must run after all parts.
        work: scalar operations altogether.
        table: integers, if any; a pointer to them comes before ``scratch``.
    """

    text: str
    declared: dict[str, str]
    parts: int
    scratch: int
    finish: bool
    work: int
    table: tuple[int, ...] = ()


class Printer(Totals):
    """Chooses the schedule of a kernel."""

    def brief(self) -> int:
        """Return the length up to which rows go side by side though memory runs along them."""
        dear = any(self.heavy(n) and self.is_element[n] for n in self.used)
        return 15 if dear else 8

    def is_brief(self, across: bool) -> bool:
        """Tell whether rows are so short that each is written out in full."""
        if self.totals or not self.kept or not fixed(self.length):
            return False
        written_out = len(self.used) + sum(self.length - 1 for n in self.used if self.is_element[n])
        return self.length <= (32 if across else self.brief()) and written_out <= _UNROLLED

    def code(self) -> Code:
        """Choose a schedule and print it."""
        sizes, name = self.kernel.sizes, self.kernel.name
        count = math.prod(sizes)
        inline = fixed(count) and count <= _TINY
        if inline:
            self.longest = _WRITTEN_OUT
        across = bool(self.kept) and self.kept[-1] == len(sizes) - 1
        go, none = self.label(), self.label()
        self.b.do(f"br i1 {self.b.op('icmp slt i64 %lo, %hi')}, label %{go}, label %{none}")
        self.block(go)
        if not self.inner or self.is_brief(across):
            self.unrolled()
        else:
            self.passes(across)
        self.b.do(f"br label %{none}")
        self.block(none)
        text = self.function(name, ["ptr %scratch", "i64 %lo", "i64 %hi"], inline)
        if self.end:
            text += "\n\n" + self.end
        return Code(text, self.b.declared, self.parts, self.scratch, bool(self.end), self.work)


def kernel_function(kernel: Kernel) -> Code:
    """Return a kernel as an LLVM function, and how it is driven."""
    return Printer(quicker(kernel)).code()


def copy_code(size: int) -> Code:
    """Return the function that copies so many bytes, in pieces that threads may share."""
    text = f"""define internal void @copied(ptr noalias %to, ptr noalias %from, ptr %table, \
ptr %scratch, i64 %lo, i64 %hi) noinline nounwind #0 {{
  %size = load i64, ptr %table
  %start = mul i64 %lo, {_PIECE}
  %end = mul i64 %hi, {_PIECE}
  %stop = call i64 @llvm.smin.i64(i64 %end, i64 %size)
  %length = sub i64 %stop, %start
  %target = getelementptr i8, ptr %to, i64 %start
  %source = getelementptr i8, ptr %from, i64 %start
  call void @llvm.memcpy.p0.p0.i64(ptr %target, ptr %source, i64 %length, i1 false)
  ret void
}}"""
    least = {"llvm.smin.i64": "declare i64 @llvm.smin.i64(i64, i64)"}
    return Code(text, least, -(-size // _PIECE), 0, False, size // 2, (size,))
