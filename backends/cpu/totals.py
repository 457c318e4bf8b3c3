"""Kernels of rows that also reduce over all rows, as the gradients of a layer norm's factors do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from funtorch.dims import fixed, larger, smaller

from ..kernel import Kernel, Store, row_major
from ..scalars.reduce import Reduction, reduction
from ..scalars.scalar import store_value
from .nest import Env, Index, Space
from .passes import BYTES, CHUNK, CHUNKS, Passes, slot_of

__all__ = ["Total", "Totals"]

_LEAST = 32  # rows that a part does at least


@dataclass(frozen=True)
class Total:
    """A store of reductions over the rows.

    Attributes:
        code: the reduction.
        start: where in scratch the parts have their accumulators, one for every place along the
            inner axes.
    """

    code: Reduction
    start: int

    @property
    def kind(self) -> str:
        (kind,) = self.code.kinds
        return kind

    def room(self, count: int) -> int:
        """Return the bytes of so many accumulators."""
        return -(-count * BYTES[slot_of(self.kind)] // 64) * 64


class Totals(Passes):
    """Writes kernels of rows in blocks of rows."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.totals = [s for s in kernel.stores if s.over_rows]
        self.under_way: dict[Store, Total] = {}
        self.part: Index = 0

    def share_out(self, spaces: Sequence[Space], most: int) -> None:
        """Write parts that are blocks of rows if anything is reduced over them."""
        if not self.totals:
            super().share_out(spaces, most)
            return
        # Sums of more rows would lose digits; fewer would be all beginning and end.
        units, tile = math.prod(n for n, _ in spaces), max(self.tile, 1)
        block = larger(-(-_LEAST // tile), smaller(CHUNK // tile, -(-units // CHUNKS)))
        self.parts = -(-units // block)
        for s in self.totals:
            code = reduction(s.how, self.body[s.value].dtype, False)
            t = self.under_way[s] = Total(code, self.scratch)
            self.scratch += t.room(self.parts * self.length)

        def row(number: str) -> None:
            self.place(spaces, number)
            self.row()

        def part(p: str) -> None:
            self.part = p
            self.begin(p)
            first = self.sum(0, [(p, block)])
            self.loop(first, self.least(self.sum(block, [(first, 1)]), units), 1, row)

        self.loop("%lo", "%hi", 1, part)
        other = Totals(self.kernel)
        self.end = other.finish_totals(list(self.under_way.values()), self.parts)
        self.b.declared.update(other.b.declared)

    def begin(self, part: Index) -> None:
        """Write where the totals of a part begin."""
        for t in self.under_way.values():
            start = t.code.starts[0]
            self.loop(0, self.length, 1, lambda j, t=t, x=start: self.put(t, part, j, x))

    def place(self, spaces: Sequence[Space], number: Index) -> None:
        """Set the row axes to the row of a number."""
        left = math.prod(n for n, _ in spaces)
        for n, put in spaces:
            if fixed(n) and n == 1:  # a tile that is all rows, before or after others
                put(0)
                continue
            left //= n
            at = number if left == 1 else self.b.op(f"udiv i64 {number}, {left}")
            number = number if left == 1 else self.b.op(f"urem i64 {number}, {left}")
            put(at)

    # ---------------------------------------------------------------- accumulators in memory
    def cell_of(self, t: Total, part: Index, j: Index) -> str:
        base = self.pointer("%scratch", "i8", t.start)
        return self.pointer(base, slot_of(t.kind), self.sum(0, [(part, self.length), (j, 1)]))

    def get(self, t: Total, part: Index, j: Index) -> str:
        slot = slot_of(t.kind)
        found = self.b.op(f"load {slot}, ptr {self.cell_of(t, part, j)}")
        return found if t.kind == slot else self.b.op(f"icmp ne {slot} {found}, 0")

    def put(self, t: Total, part: Index, j: Index, value: str) -> None:
        slot = slot_of(t.kind)
        value = value if t.kind == slot else self.b.op(f"zext {t.kind} {value} to {slot}")
        self.b.do(f"store {slot} {value}, ptr {self.cell_of(t, part, j)}")

    def store(self, s: Store, env: Env) -> None:
        """Write a store, or how a total takes in the element at hand."""
        if not s.over_rows:
            super().store(s, env)
            return
        t, j = self.under_way[s], self.along_row()
        states = t.code.take(self.b, [self.get(t, self.part, j)], env[s.value])
        self.put(t, self.part, j, states[0])

    def along_row(self) -> Index:
        """Return the number of the element at hand in its row."""
        strides = row_major([self.kernel.sizes[k] for k in self.inner])
        return self.sum(0, [(self.index[k], s) for k, s in zip(self.inner, strides, strict=True)])

    def finish_totals(self, totals: Sequence[Total], parts: int) -> str:
        """Return the text of the function that joins what all parts left, in order."""
        for s, t in zip(self.totals, totals, strict=True):

            def joined(p: Index, t: Total = t) -> None:
                def one(j: Index) -> None:
                    states = t.code.join(self.b, [self.get(t, 0, j)], [self.get(t, p, j)])
                    self.put(t, 0, j, states[0])

                self.loop(0, self.length, 1, one)

            def element(s: Store = s, t: Total = t) -> None:
                value = t.code.end(self.b, [self.get(t, 0, self.along_row())])
                at = self.address(s.buffer, s.where, {})
                store_value(self.b, at, self.kernel.buffers[s.buffer], value)

            others = lambda: self.loop(1, parts, 1, joined)  # noqa: E731
            if not fixed(parts):
                self.when(self.b.op(f"icmp sgt i64 {parts}, 1"), others)
            elif parts > 1:
                others()
            self.nest([self.axis(k) for k in self.inner], element)
        return self.function(self.kernel.name + "_end", ["ptr %scratch"], False)
