"""The carries of a loop in the text of a program: where values live from one step to the next."""

from __future__ import annotations

from typing import Any

from ..layout import Layout, Loop, carries, is_small, nbytes
from ..plan import Scan, While

__all__ = ["Carries"]


class Carries:
    """The carries of a loop in the text: where each lives now, and where its next value goes.

    A small one lives in a cell, where LLVM makes a register of it. A large one that the body works
    on in place lives where the loop's result is wanted; any other one alternates between there and
    a second buffer.
    """

    def __init__(
        self, printer: Any, frame: Any, step: Scan | While, loop: Loop, body: Layout
    ) -> None:
        p = self.printer = printer
        start, count = carries(step)
        outs = step.eqn.outvars[:count]
        self.sizes = [nbytes(v) for v in outs]
        self.inits = [p.pointer(frame, v) for v in step.eqn.invars[start : start + count]]
        self.homes = [p.pointer(frame, v) for v in outs]
        self.spares = {j: p.shift(frame.arena, at) for j, at in loop.spares.items()}
        first = step.eqn.params["body_nconsts"] if isinstance(step, While) else start
        self.same = {j for j in range(count) if (first + j, j) in body.pairs}
        self.small = [is_small(n, body.small) for n in self.sizes]

    def begin(self) -> None:
        """Write the first values of the carries."""
        p = self.printer
        self.now = list(self.homes)
        self.cells: dict[int, tuple[str, str]] = {}
        for j, (size, small) in enumerate(zip(self.sizes, self.small, strict=True)):
            if small:
                self.now[j] = p.room(size)
            p.copy(self.now[j], self.inits[j], size)
            if j in self.spares:
                self.cells[j] = p.cell("ptr"), p.cell("ptr")
                for cell, where in zip(self.cells[j], (self.homes[j], self.spares[j]), strict=True):
                    p.do(f"store ptr {where}, ptr {cell}")

    def buffers(self) -> tuple[list[str], list[str]]:
        """Return, inside the loop, the addresses of the values and of the next ones."""
        p = self.printer
        old, new = list(self.now), list(self.now)
        for j, size in enumerate(self.sizes):
            if j in self.cells:
                old[j], new[j] = (p.op(f"load ptr, ptr {cell}") for cell in self.cells[j])
            elif j not in self.same:
                new[j] = p.room(size)
        self.old, self.new = old, new
        return old, new

    def turn(self) -> None:
        """Write the end of a step: the next values become the values."""
        p = self.printer
        for j, size in enumerate(self.sizes):
            if j in self.cells:
                p.do(f"store ptr {self.new[j]}, ptr {self.cells[j][0]}")
                p.do(f"store ptr {self.old[j]}, ptr {self.cells[j][1]}")
            else:
                p.copy(self.old[j], self.new[j], size)

    def end(self) -> None:
        """Write the loop's results to where they are wanted."""
        p = self.printer
        for j, size in enumerate(self.sizes):
            if j in self.cells:
                last = p.op(f"load ptr, ptr {self.cells[j][0]}")
                there = p.op(f"icmp eq ptr {last}, {self.homes[j]}")
                copy, after = p.label("copy"), p.label("there")
                p.do(f"br i1 {there}, label %{after}, label %{copy}")
                p.start(copy)
                p.copy(self.homes[j], last, size)
                p.do(f"br label %{after}")
                p.start(after)
            else:
                p.copy(self.homes[j], self.now[j], size)
