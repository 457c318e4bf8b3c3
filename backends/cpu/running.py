"""Print cumulative sums and the like along rows: vectors at a time, long rows in blocks.

A vector is summed up in steps that double: every lane takes what is 1, 2, 4, ... lanes before it;
what came before the vector is added at last. Of a row in several blocks, the totals of all blocks
are found first, so that each block knows what it begins with. Blocks depend on sizes alone.

References:
    G. E. Blelloch, "Prefix sums and their applications", 1990.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..plan import Running
from ..scalars.elements import TYPES, constant
from .llvm import Code
from .packed import registers
from .writer import Index, Routine

__all__ = ["running_codes"]

_LANES = 16  # most lanes of a vector
_BLOCK, _BLOCKS = 1 << 15, 64  # least elements of a block, a multiple of all lanes; most blocks
_SEVERAL = 4  # vectors of a total that are summed up apart

_INSTRUCTIONS = {"sum": ("fadd contract", "add"), "prod": ("fmul contract", "mul")}
_EXTREMES = {"max": ("maximum", "smax", "umax"), "min": ("minimum", "smin", "umin")}


def running_codes(step: Running) -> list[tuple[str, Code]]:
    """Return the functions of a cumulative sum or the like, by name, in the order in which they
    run.

    Each takes the addresses of x and of the result.
    """
    codes = [("running", _Writing(step).blocks_of_rows())]
    if _blocks(step)[1] > 1:
        codes.insert(0, ("totals", _Writing(step).totals()))
    return codes


def _blocks(step: Running) -> tuple[int, int]:
    """Return the elements of a block, and how many there are in a row."""
    size = max(_BLOCK, -(-step.n // _BLOCKS))
    size = -(-size // _BLOCK) * _BLOCK
    return size, -(-step.n // size)


class _Writing(Routine):
    """Writes one of the functions."""

    ARGS = ("ptr %b0", "ptr %b1", "ptr %scratch", "i64 %lo", "i64 %hi")

    def __init__(self, step: Running) -> None:
        super().__init__()
        self.step, self.dtype = step, step.out.aval.dtype
        self.kind = TYPES[self.dtype]
        self.lanes = min(int(registers()[0]) // self.dtype.itemsize, _LANES)
        self.vector = f"<{self.lanes} x {self.kind}>"
        self.size, self.count = _blocks(step)
        self.bytes = step.rows * self.count * self.dtype.itemsize

    # ---------------------------------------------------------------- values
    def identity(self) -> str:
        """Return what changes nothing."""
        name, real = self.step.name, self.dtype.kind == "f"
        if name in _EXTREMES:
            sign = -1 if name == "max" else 1
            limits = None if real else np.iinfo(self.dtype)
            value = sign * math.inf if limits is None else limits.min if sign < 0 else limits.max
        else:
            value = 1 if name == "prod" else -0.0 if real else 0
        return constant(value, self.dtype)

    def combined(self, x: str, y: str, kind: str) -> str:
        """Combine two values, or two vectors, that come one after the other."""
        name, real = self.step.name, self.dtype.kind == "f"
        if name in _INSTRUCTIONS:
            return self.b.op(f"{_INSTRUCTIONS[name][not real]} {kind} {x}, {y}")
        which = 0 if real else 1 if self.dtype.kind == "i" else 2
        suffix = {"float": "f32", "double": "f64"}.get(self.kind, self.kind)
        suffix = f"v{self.lanes}{suffix}" if kind == self.vector else suffix
        function = f"llvm.{_EXTREMES[name][which]}.{suffix}"
        self.b.declared[function] = f"declare {kind} @{function}({kind}, {kind})"
        return self.b.op(f"call {kind} @{function}({kind} {x}, {kind} {y})")

    def shuffled(self, x: str, y: str, lanes: Sequence[int]) -> str:
        mask = ", ".join(f"i32 {k}" for k in lanes)
        v = self.vector
        return self.b.op(f"shufflevector {v} {x}, {v} {y}, <{self.lanes} x i32> <{mask}>")

    def splat(self, x: str) -> str:
        one = self.b.op(f"insertelement {self.vector} poison, {self.kind} {x}, i32 0")
        return self.shuffled(one, "poison", [0] * self.lanes)

    def read(self, base: str, place: Index, kind: str) -> str:
        at = self.pointer(base, self.kind, place)
        return self.b.op(f"load {kind}, ptr {at}, align {self.dtype.itemsize}")

    def write(self, value: str, base: str, place: Index, kind: str) -> None:
        at = self.pointer(base, self.kind, place)
        self.b.do(f"store {kind} {value}, ptr {at}, align {self.dtype.itemsize}")

    def summed(self, x: str) -> tuple[str, str]:
        """Return a vector summed up by itself, and its total in all lanes."""
        n, back = self.lanes, self.step.reverse
        identity, far = self.splat(self.identity()), 1
        while far < n:
            lanes = [k + far if back else k - far for k in range(n)]
            moved = self.shuffled(x, identity, [k if 0 <= k < n else n for k in lanes])
            x = self.combined(moved, x, self.vector)
            far *= 2
        return x, self.shuffled(x, "poison", [0 if back else n - 1] * n)

    # ---------------------------------------------------------------- loops
    def ranges(self, begin: Index, end: Index) -> tuple[Index, Index]:
        """Return how many whole vectors lie in a block, and where they end."""
        length = self.sum(0, [(end, 1), (begin, -1)])
        if isinstance(length, int):
            whole: Index = length // self.lanes
        else:
            whole = self.b.op(f"udiv i64 {length}, {self.lanes}")
        return whole, self.sum(0, [(begin, 1), (whole, self.lanes)])

    def maybe(self, count: Index, body: Callable[[], object]) -> None:
        """Write the body to run where there is something to do."""
        if isinstance(count, int):
            if count:
                body()
            return
        self.when(self.b.op(f"icmp sgt i64 {count}, 0"), body)

    def each_block(self, body: Callable[[Index, Index, Index, Index], None]) -> None:
        """Write a loop over all blocks; the body takes a block's number, row, begin and end."""

        def part(at: list[Index]) -> None:
            row, block = at
            begin = self.sum(0, [(block, self.size)])
            end = self.step.n
            if self.count > 1:
                stop = self.least(self.sum(self.size, [(block, self.size)]), self.step.n)
                number = self.sum(0, [(row, self.count), (block, 1)])
                body(number, self.sum(0, [(row, self.step.n)]), begin, stop)
                return
            body(row, self.sum(0, [(row, self.step.n)]), 0, end)

        self.parts((self.step.rows, self.count), part)

    def code(self, name: str, end: str = "") -> Code:
        text = "\n\n".join(filter(None, [self.text(name, self.ARGS), end]))
        parts, work = self.step.rows * self.count, 2 * self.step.rows * self.step.n
        return Code(text, self.b.declared, parts, self.bytes, bool(end), work)

    # ---------------------------------------------------------------- totals of blocks
    def totals(self) -> Code:
        """Write the function that leaves every block's total in scratch memory."""

        def body(number: Index, start: Index, begin: Index, end: Index) -> None:
            x = self.pointer("%b0", self.kind, start)
            total = self.cell(self.kind)
            self.b.do(f"store {self.kind} {self.identity()}, ptr {total}")
            step = self.lanes * _SEVERAL
            length = self.sum(0, [(end, 1), (begin, -1)])
            whole = self.b.op(f"udiv i64 {length}, {step}")
            middle = self.sum(0, [(begin, 1), (whole, step)])

            def add(value: str) -> None:
                old = self.b.op(f"load {self.kind}, ptr {total}")
                new = self.combined(old, value, self.kind)
                self.b.do(f"store {self.kind} {new}, ptr {total}")

            def vectors() -> None:
                def several(i: Index, *sums: str) -> list[str]:
                    places = [self.sum(k * self.lanes, [(i, 1)]) for k in range(_SEVERAL)]
                    found = [self.read(x, p, self.vector) for p in places]
                    pairs = zip(sums, found, strict=True)
                    return [self.combined(s, y, self.vector) for s, y in pairs]

                first = [(self.vector, self.splat(self.identity()))] * _SEVERAL
                sums = self.loop(begin, middle, step, several, first)
                while len(sums) > 1:
                    pairs = zip(sums[::2], sums[1::2], strict=True)
                    sums = [self.combined(p, q, self.vector) for p, q in pairs]
                _, all_of_it = self.summed(sums[0])
                add(self.b.op(f"extractelement {self.vector} {all_of_it}, i32 0"))

            self.maybe(whole, vectors)
            rest = self.sum(0, [(end, 1), (middle, -1)])
            self.maybe(
                rest, lambda: self.loop(middle, end, 1, lambda i: add(self.read(x, i, self.kind)))
            )
            found = self.b.op(f"load {self.kind}, ptr {total}")
            self.write(found, "%scratch", number, self.kind)

        self.each_block(body)
        return self.code("totals", _Writing(self.step).starts())

    def starts(self) -> str:
        """Return the function that makes of totals what came before each block."""

        def row(r: Index) -> None:
            def block(k: Index, before: str) -> list[str]:
                at = [(r, self.count), (k, -1 if self.step.reverse else 1)]
                place = self.sum(self.count - 1 if self.step.reverse else 0, at)
                here = self.read("%scratch", place, self.kind)
                self.write(before, "%scratch", place, self.kind)
                return [self.combined(before, here, self.kind)]

            self.loop(0, self.count, 1, block, [(self.kind, self.identity())])

        self.each(self.step.rows, row)
        return self.text("totals_end", self.ARGS[:3])

    # ---------------------------------------------------------------- sums within blocks
    def blocks_of_rows(self) -> Code:
        """Write the function that sums up every block from what came before it."""

        def body(number: Index, start: Index, begin: Index, end: Index) -> None:
            x, out = (self.pointer(p, self.kind, start) for p in ("%b0", "%b1"))
            state = self.cell(self.kind)
            before = self.identity()
            if self.count > 1:
                before = self.read("%scratch", number, self.kind)
            self.b.do(f"store {self.kind} {before}, ptr {state}")
            whole, middle = self.ranges(begin, end)

            def vectors() -> None:
                held = self.splat(self.b.op(f"load {self.kind}, ptr {state}"))

                def one(k: Index, held: str) -> list[str]:
                    place = self.sum(0, [(begin, 1), (k, self.lanes)])
                    if self.step.reverse:
                        place = self.sum(-self.lanes, [(middle, 1), (k, -self.lanes)])
                    y, total = self.summed(self.read(x, place, self.vector))
                    self.write(self.combined(held, y, self.vector), out, place, self.vector)
                    return [self.combined(held, total, self.vector)]

                (held,) = self.loop(0, whole, 1, one, [(self.vector, held)])
                last = self.b.op(f"extractelement {self.vector} {held}, i32 0")
                self.b.do(f"store {self.kind} {last}, ptr {state}")

            def singles() -> None:
                def one(k: Index, before: str) -> list[str]:
                    place = self.sum(0, [(middle, 1), (k, 1)])
                    if self.step.reverse:
                        place = self.sum(-1, [(end, 1), (k, -1)])
                    y = self.combined(before, self.read(x, place, self.kind), self.kind)
                    self.write(y, out, place, self.kind)
                    return [y]

                first = self.b.op(f"load {self.kind}, ptr {state}")
                (last,) = self.loop(0, rest, 1, one, [(self.kind, first)])
                self.b.do(f"store {self.kind} {last}, ptr {state}")

            rest = self.sum(0, [(end, 1), (middle, -1)])
            todo = [(whole, vectors), (rest, singles)]
            for count, write in reversed(todo) if self.step.reverse else todo:
                self.maybe(count, write)

        self.each_block(body)
        return self.code("running")
