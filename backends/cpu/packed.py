"""Packed planes: what the elements of a window meet, as runs of memory, and the code for them."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..kernel import row_major
from ..plan import Correlation
from .writer import Index, Routine

__all__ = ["FEW", "HEADER", "PACKED", "PARTS", "RUN", "SMALL", "SUMS", "Packing", "Schedule"]
__all__ += ["packing", "pieces_of", "registers"]

PACKED = 1 << 19  # bytes of packed planes in one slot
SUMS = 1 << 17  # bytes of sums in one slot
RUN = 1024  # elements of a run that are multiplied at a time, so that they stay in the first cache
SMALL = 1 << 20  # products of a convolution that one thread does
FEW = 8  # parts that a convolution should have at least, even if some work is done twice
PARTS = 16  # parts that are enough for any number of threads
HEADER = 64  # bytes before the slots: which of them are taken


@functools.cache
def registers() -> tuple[int, int]:
    """Return the bytes of a vector, and how many of them may hold sums."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 24
    if features.get("avx2"):
        return 32, 12
    return 16, 24 if features.get("neon") else 12


def pieces_of(n: int, most: int) -> int:
    """Return the size of the fewest equal pieces of n of at most ``most``."""
    return -(-n // -(-n // max(1, most)))


# ------------------------------------------------------------------------------------------ packing
@dataclass(frozen=True)
class Packing:
    """How one plane is packed: for every offset, a run over all moving places.

    Along an axis, ``place * step + offset * gap - low`` is an index into the plane. Along the first
    axis offsets move whole rows, so those are stored once for each remainder of ``offset * gap`` by
    ``step``; along the others every offset has a copy of its own. What is stored, outermost first:
    copies, remainders, rows, places along the other axes.

    Attributes:
        rests, rows: remainders, and stored rows of each.
        starts: for every axis but the first, the index of each copy's first element.
        moving: places along every axis but the first.
        step, low, space: of every axis.
        offsets: where the run of each offset starts.
        elements: of one packed plane.
    """

    rests: tuple[int, ...]
    rows: int
    starts: tuple[tuple[int, ...], ...]
    moving: tuple[int, ...]
    step: tuple[int, ...]
    low: tuple[int, ...]
    space: tuple[int, ...]
    offsets: tuple[int, ...]
    elements: int


def packing(
    space: Sequence[int],
    moving: Sequence[int],
    step: Sequence[int],
    count: Sequence[int],
    gap: Sequence[int],
    low: Sequence[int],
) -> Packing:
    moves = [divmod(f * gap[0], step[0]) for f in range(count[0])]
    rests = sorted({r for _, r in moves})
    rows = moving[0] + max(m for m, _ in moves)
    starts = [
        tuple(f * g - lo for f in range(n))
        for n, g, lo in zip(count[1:], gap[1:], low[1:], strict=True)
    ]
    row = math.prod(moving[1:])
    sizes = [*count[1:], len(rests), rows * row]
    strides = row_major(sizes)
    offsets = [
        sum(k * s for k, s in zip((*others, rests.index(r)), strides[:-1], strict=True)) + m * row
        for m, r in moves
        for others in itertools.product(*map(range, count[1:]))
    ]
    return Packing(
        tuple(rests), rows, tuple(starts), tuple(moving[1:]), tuple(step), tuple(low),
        tuple(space), tuple(offsets), math.prod(sizes),
    )  # fmt: skip


# --------------------------------------------------------------------------------------- schedules
class Schedule(Routine):
    """What both schedules write with: vectors, tables, slots, and packing."""

    def __init__(self, c: Correlation, dtype: np.dtype, packing: Packing, raw: bool) -> None:
        super().__init__()
        self.symbol = "conv"
        self.c, self.packing, self.raw = c, packing, raw
        self.dtype = dtype
        self.kind, bits = ("float", 32) if dtype == np.float32 else ("double", 64)
        self.bytes = bits // 8
        width, self.sums = registers()
        self.lanes = width // self.bytes
        self.vector = f"<{self.lanes} x {self.kind}>"
        self.mangled = f"v{self.lanes}f{bits}"
        self.bits = f"<{self.lanes} x i1>"
        self.zero = "zeroinitializer"
        self.tables: dict[tuple[str, tuple[int, ...]], str] = {}
        self.slots = min(64, os.cpu_count() or 1)
        self.pointers = 3  # of arrays

    # ------------------------------------------------------------------------------------ vectors
    def call(self, function: str, kind: str, *args: tuple[str, object], flags: str = "") -> str:
        """Call an intrinsic function; arguments are pairs (type, value)."""
        self.b.declared[function] = f"declare {kind} @{function}({', '.join(t for t, _ in args)})"
        text = f"call {flags}{kind} @{function}({', '.join(f'{t} {v}' for t, v in args)})"
        if kind == "void":
            self.b.do(text)
            return ""
        return self.b.op(text)

    def fma(self, x: str, y: str, z: str) -> str:
        v = self.vector
        return self.call(f"llvm.fmuladd.{self.mangled}", v, (v, x), (v, y), (v, z))

    def splat(self, value: str, kind: str) -> str:
        one = self.b.op(f"insertelement <{self.lanes} x {kind}> poison, {kind} {value}, i64 0")
        many = f"<{self.lanes} x {kind}>"
        return self.b.op(
            f"shufflevector {many} {one}, {many} poison, <{self.lanes} x i32> zeroinitializer"
        )

    def lane_numbers(self, start: Index) -> str:
        steps = ", ".join(f"i64 {k}" for k in range(self.lanes))
        return self.b.op(f"add nsw <{self.lanes} x i64> {self.splat(str(start), 'i64')}, <{steps}>")

    def below(self, lanes: str, limit: Index) -> str:
        return self.b.op(f"icmp slt <{self.lanes} x i64> {lanes}, {self.splat(str(limit), 'i64')}")

    def mask(self, count: int) -> str:
        """Return the constant mask of the first ``count`` lanes."""
        return f"<{', '.join(f'i1 {int(k < count)}' for k in range(self.lanes))}>"

    def read(self, pointer: str, mask: str | None = None) -> str:
        v = self.vector
        if mask is None:
            return self.b.op(f"load {v}, ptr {pointer}, align {self.bytes}")
        return self.call(
            f"llvm.masked.load.{self.mangled}.p0",
            v,
            ("ptr", pointer),
            ("i32", self.bytes),
            (self.bits, mask),
            (v, self.zero),
        )

    def write(self, value: str, pointer: str, mask: str | None = None) -> None:
        v = self.vector
        if mask is None:
            self.b.do(f"store {v} {value}, ptr {pointer}, align {self.bytes}")
            return
        self.call(
            f"llvm.masked.store.{self.mangled}.p0",
            "void",
            (v, value),
            ("ptr", pointer),
            ("i32", self.bytes),
            (self.bits, mask),
        )

    def scattered(self, pointer: str, lanes: str) -> str:
        """Return the addresses of elements at a vector of offsets."""
        return self.b.op(f"getelementptr {self.kind}, ptr {pointer}, <{self.lanes} x i64> {lanes}")

    def gather(self, places: str, mask: str) -> str:
        v = self.vector
        return self.call(
            f"llvm.masked.gather.{self.mangled}.v{self.lanes}p0",
            v,
            (f"<{self.lanes} x ptr>", places),
            ("i32", self.bytes),
            (self.bits, mask),
            (v, self.zero),
        )

    def scatter(self, value: str, places: str, mask: str) -> None:
        self.call(
            f"llvm.masked.scatter.{self.mangled}.v{self.lanes}p0",
            "void",
            (self.vector, value),
            (f"<{self.lanes} x ptr>", places),
            ("i32", self.bytes),
            (self.bits, mask),
        )

    # ------------------------------------------------------------------------------------- tables
    def entry(self, name: str, values: Sequence[int], k: Index) -> Index:
        """Return the k-th of some constants."""
        if isinstance(k, int):
            return values[k]
        if len(set(values)) == 1:
            return values[0]
        at = self.b.op(f"getelementptr inbounds i64, ptr {self.table(name, values)}, i64 {k}")
        return self.b.op(f"load i64, ptr {at}, align 8")

    def table(self, name: str, values: Sequence[int]) -> str:
        return self.tables.setdefault((name, tuple(values)), f"@{self.symbol}_t{len(self.tables)}")

    def constants(self) -> list[str]:
        return [
            f"{name} = internal unnamed_addr constant [{len(values)} x i64] "
            f"[{', '.join(f'i64 {n}' for n in values)}], align 64"
            for (_, values), name in self.tables.items()
        ]

    # ------------------------------------------------------------------------------------ packing
    def pack(self, source: str, target: str, count: Index, stride: int, m0: Index) -> None:
        """Write the packing of ``count`` planes that lie ``stride`` elements apart.

        ``m0``: the place that is the first one along the first axis.
        """
        p, steps = self.packing, self.c.x.strides[3:]
        axes = len(p.space)
        alone = axes == 1  # the first axis is the last one
        row = math.prod(p.moving)
        strides = row_major([*(len(f) for f in p.starts), len(p.rests), p.rows, row])

        def plane(c: Index) -> None:
            copies(c, [], [])

        def copies(c: Index, chosen: list[Index], starts: list[Index]) -> None:
            a = len(chosen)
            if a == axes - 1:
                self.each(len(p.rests), lambda k: rest(c, chosen, starts, k))
                return

            def copy(k: Index) -> None:
                start = self.entry(f"start{a}", p.starts[a], k)
                copies(c, [*chosen, k], [*starts, start])

            self.each(len(p.starts[a]), copy)

        def rest(c: Index, chosen: list[Index], starts: list[Index], k: Index) -> None:
            first = self.sum(-p.low[0], [(self.entry("rest", p.rests, k), 1), (m0, p.step[0])])
            starts = [first, *starts]
            if alone:
                line(c, [*chosen, k], starts, [])
            else:
                self.each(p.rows, lambda j: places(c, [*chosen, k], starts, [j]))

        def places(c: Index, chosen: list[Index], starts: list[Index], js: list[Index]) -> None:
            a = len(js)
            if a == axes - 1:
                line(c, chosen, starts, js)
            else:
                self.each(p.moving[a - 1], lambda j: places(c, chosen, starts, [*js, j]))

        def line(c: Index, chosen: list[Index], starts: list[Index], js: list[Index]) -> None:
            found = [
                self.sum(0, [(start, 1), (j, n)])
                for start, j, n in zip(starts, js, p.step, strict=False)
            ]
            where = zip((c, starts[-1], *found), (stride, steps[-1], *steps), strict=False)
            here = self.b.op(f"getelementptr {self.kind}, ptr {source}, i64 {self.sum(0, where)}")
            lowest = self.ceiling(starts[-1], 0, p.step[-1])
            stop = self.ceiling(starts[-1], p.space[-1], p.step[-1])
            for i, n in zip(found, p.space, strict=False):
                inside = self.b.op(f"icmp ult i64 {i}, {n}")
                stop = self.b.select(inside, str(stop), "-1", "i64")
            inner = row_major([1, *p.moving])[: len(js)]
            spots = [*zip(chosen, strides, strict=False), *zip(js, inner, strict=True)]
            to = self.pointer(target, self.kind, self.sum(0, [(c, p.elements), *spots]))
            length = p.rows if alone else p.moving[-1]
            self.row(here, to, p.step[-1] * steps[-1], (lowest, stop), length)

        self.each(count, plane)

    def ceiling(self, start: Index, end: int, step: int) -> Index:
        """Return the first place m with ``start + m * step >= end``."""
        if isinstance(start, int):
            return -((start - end) // step)
        left = self.sum(end + step - 1, [(start, -1)])
        if step == 1:
            return left
        # Where it is negative, any number that is not positive will do.
        return self.b.op(f"sdiv i64 {left}, {step}")

    def row(
        self, source: str, target: str, apart: int, inside: tuple[Index, Index], length: int
    ) -> None:
        """Copy a row, elements ``apart``, with zeros outside of some places."""
        low, half = self.splat(str(inside[0]), "i64"), self.lanes // 2

        def mask_of(lanes: str) -> str:
            above = self.b.op(f"icmp sge <{self.lanes} x i64> {lanes}, {low}")
            return self.b.op(f"and {self.bits} {above}, {self.below(lanes, inside[1])}")

        def every_other(m: Index) -> str:
            """Read whole vectors, and keep the even elements."""
            evens = ", ".join(f"i1 {int(k % 2 == 0)}" for k in range(self.lanes))
            found = []
            for n in (0, 1):
                # Element k belongs to place n * half + k // 2.
                numbers = ", ".join(f"i64 {n * half + k // 2}" for k in range(self.lanes))
                many = f"<{self.lanes} x i64>"
                lanes = self.b.op(f"add nsw {many} {self.splat(str(m), 'i64')}, <{numbers}>")
                mask = self.b.op(f"and {self.bits} {mask_of(lanes)}, <{evens}>")
                found.append(
                    self.read(
                        self.pointer(source, self.kind, self.sum(n * self.lanes, [(m, 2)])), mask
                    )
                )
            order = ", ".join(f"i32 {2 * k}" for k in range(self.lanes))
            v = self.vector
            return self.b.op(
                f"shufflevector {v} {found[0]}, {v} {found[1]}, <{self.lanes} x i32> <{order}>"
            )

        def chunk(m: Index) -> None:
            if apart == 2:
                value = every_other(m)
            else:
                lanes = self.lane_numbers(m)
                mask = mask_of(lanes)
                if apart == 1:
                    where = self.b.op(f"getelementptr {self.kind}, ptr {source}, i64 {m}")
                    value = self.read(where, mask)
                else:
                    far = self.splat(str(apart), "i64")
                    far = self.b.op(f"mul nsw <{self.lanes} x i64> {lanes}, {far}")
                    value = self.gather(self.scattered(source, far), mask)
            self.write(value, self.pointer(target, self.kind, m))

        if length <= self.lanes:
            chunk(0)
        else:
            self.loop(0, length, self.lanes, chunk)

    def packed(self, planes: int) -> int:
        """Return the bytes of packed planes, which a whole vector may be read beyond."""
        return -(-(planes * self.packing.elements + 8 * self.lanes) * self.bytes // 64) * 64

    def finished(self, name: str) -> str:
        args = [f"ptr noalias %{x}" for x in (*(f"b{n}" for n in range(self.pointers)), "scratch")]
        return self.text(name, [*args, "i64 %lo", "i64 %hi"])
