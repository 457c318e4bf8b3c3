"""The library of matrix products: tiles in registers, packing, and the loops around them, as IR.

There is one module for each element type and number of rows in a tile; it is compiled when first
wanted, and kept on disk. What depends on a product's sizes comes in a table (`gemm_table` in
blas.py), so no program compiles a product of its own.

A tile is ``rows`` rows of the result by some vectors of columns, all in registers. In every step
one element of each row of a is broadcast, and multiplied by the vectors of a row of b. Both are
read where they lie, or from copies: of b a panel, ``depth`` rows as wide as a tile, which stays in
the first cache while all rows of a meet it; of a those of its columns that meet it.

References:
    Goto, van de Geijn, "Anatomy of high-performance matrix multiplication", ACM Transactions on
    Mathematical Software 34, 2008.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from .packed import HEADER, registers
from .quads import Quads
from .tabled import Tabled
from .vectors import Vectors, masked
from .writer import Index

__all__ = [
    "FIELDS",
    "KINDS",
    "PACKS",
    "beside",
    "gemm_symbol",
    "gemm_text",
    "turned_over",
    "widths",
]

KINDS = {"float32": "float", "float64": "double", "int32": "i32", "int64": "i64", "int8": "i32"}
"""LLVM's names of the types that products of a dtype are summed in; what is unsigned is summed as
signed. Elements of int8 are four terms side by side: see quads.py."""

FIELDS = (
    "across", "down", "pieces", "m", "n", "k", "rows", "columns", "piece", "depth", "turns",
    "steps", "panel", "a", "b", "c", "ak", "bk", "bn", "pack_a", "pack_b", "slots", "slot", "room",
    "copied", "list", "axes", "single", "r0", "r1", "ar0", "ar1", "ar2", "cr0", "cr1", "cr2",
    "s1", "s2", "as1", "as2", "as3", "bs1", "bs2", "bs3",
)  # fmt: skip
"""What a table holds, in order; behind it, for every batch axis, its size and three strides.

across, down, pieces: blocks of columns, blocks of rows, pieces of the sum. m, n: rows and columns;
k: size of the innermost axis of the sum. rows, columns: sizes of a block. depth: how much of that
axis a panel has; turns: panels along it; steps: panels of the whole sum; piece: those of a piece;
panel: columns of one. a, b, c: where the arrays begin. ak, bk, bn: how far apart elements are along
k of a and of b, and along columns of b. pack_a, pack_b: one of `PACKS`. slots, slot, room: where
the slots begin in the scratch, bytes of one, and how many there are. copied: elements of a copy of
a. list: where in a slot the places of rows of several axes are listed. axes: number of batch axes.
single: whether the rows have one axis. r0, r1: sizes of the inner axes of the rows; ar, cr: how far
apart elements are along these and an outer one. s1, s2, as, bs: the same of the axes around k.
"""

PACKS = {"in place": 0, "copied": 1, "turned": 2}
"""How an operand is read: where it lies, or from a copy of its rows or of its columns."""


def widths(rows: int) -> tuple[int, ...]:
    """Return the numbers of vectors that tiles of so many rows have, the largest first."""
    most = {8: 3, 7: 3, 6: 4, 5: 4, 4: 6}.get(rows, 8)
    if registers()[1] < 24:
        most = {1: 8, 2: 4, 3: 4, 4: 2, 5: 2, 6: 2}.get(rows, 1)
    return (most, *(v for v in (4, 2, 1) if v < most))


def gemm_symbol(dtype: str, rows: int) -> str:
    """Return the name of the function that makes products of a dtype with tiles of ``rows`` rows:

    ``void f(ptr a, ptr b, ptr c, ptr table, ptr scratch, i64 lo, i64 hi)``; with ``_end`` behind
    it, that of the function that adds up the pieces.
    """
    return f"funtorch_gemm_{dtype}_{rows}"


# ------------------------------------------------------------------------------------------- tiles
_TILE = ("a", "b", "c", "rows"), ("n", "ak", "bk", "last", "old")


def _tile(w: Vectors, wide: int) -> Vectors:
    """Write ``c[r] = old * c[r] + sum over k < n of a[r, k] * b[k]`` for a tile.

    ``rows``: where each row begins in a and in c; ``last``: columns of the last vector; ``old``: 0
    or 1; ``ak``, ``bk``: the way of one step of k.
    """
    kind, rows = w.kind, w.rows
    last = w.mask("%last")
    masks: list[str | None] = [None] * (wide - 1) + [last]
    reads = masks if masked() else [None] * wide
    kept = [w.mask(w.times("%old", w.lanes))] * (wide - 1) + [w.mask(w.times("%old", "%last"))]
    starts, sums = [], []
    for r in range(rows):
        starts.append(w.element("%a", w.number("%rows", 2 * r)))
        to = w.element("%c", w.number("%rows", 2 * r + 1))
        sums += [w.read(w.element(to, v * w.lanes), mask) for v, mask in enumerate(kept)]

    def step(k: Index, a: str, b: str, *now: str) -> list[str]:
        read = [w.read(w.element(b, v * w.lanes), mask) for v, mask in enumerate(reads)]
        values = [w.ready(value) for value in read]
        out = [w.plus(a, "%ak"), w.element(b, "%bk")]
        for r in range(rows):
            one = w.b.op(f"load {kind}, ptr {w.element(starts[r], a)}, align {w.bytes}")
            many = w.spread(one)
            out += [w.product(many, y, now[r * wide + v]) for v, y in enumerate(values)]
        return out

    sums = w.beginning(sums, starts, "%n")
    carried = [("i64", "0"), ("ptr", "%b"), *((w.vector, s) for s in sums)]
    sums = w.loop(0, "%n", 1, step, carried)[2:]
    for r in range(rows):
        to = w.element("%c", w.number("%rows", 2 * r + 1))
        for v, mask in enumerate(masks):
            w.write(sums[r * wide + v], w.element(to, v * w.lanes), mask)
    return w


# ----------------------------------------------------------------------------------------- packing
_PACK = ("from", "to"), ("k", "columns", "apart", "wide")


def _copied(kind: str) -> Vectors:
    """Write ``to[k, j] = from[k * apart + j]``, in rows of ``wide`` elements, whole vectors."""
    w = Vectors(kind)

    def row(k: Index, source: str, target: str) -> list[str]:
        def some(j: Index) -> None:
            mask = w.mask(w.minus("%columns", j))
            w.write(w.read(w.element(source, j), mask), w.element(target, j))

        w.loop(0, "%columns", w.lanes, some)
        return [w.element(source, "%apart"), w.element(target, "%wide")]

    w.loop(0, "%k", 1, row, [("ptr", "%from"), ("ptr", "%to")])
    return w


def _dealt(kind: str, rows: int) -> Vectors:
    """Write ``to[j // rows * wide + k * rows + j % rows] = from[k * apart + j]``."""
    w = Vectors(kind, rows)
    pieces = [(at, min(w.lanes, rows - at)) for at in range(0, rows, w.lanes)]
    whole = [w.mask(count) for _, count in pieces]

    def row(k: Index, source: str, target: str) -> list[str]:
        def some(j: Index, target: str) -> list[str]:
            left = w.minus("%columns", j)
            for (at, count), mask in zip(pieces, whole, strict=True):
                inside = w.mask(w.least(count, w.minus(left, at)))
                value = w.read(w.element(source, j, at), inside)
                w.write(value, w.element(target, at), mask)
            return [w.element(target, "%wide")]

        w.loop(0, "%columns", rows, some, [("ptr", target)])
        return [w.element(source, "%apart"), w.element(target, rows)]

    w.loop(0, "%k", 1, row, [("ptr", "%from"), ("ptr", "%to")])
    return w


def _turned(kind: str) -> Vectors:
    """Write ``to[k, j] = from[j * apart + k]``, in rows of ``wide``, for a vector of columns and as
    many k at a time as 16 bytes hold.

    What is beyond the columns is the last one; less than 16 bytes of rows follow.
    """
    w = Vectors(kind)
    final = w.minus("%columns", 1)
    size = 16 // w.bytes
    quarter = w.of(size)
    # In memory, since LLVM takes long to share out registers among so many.
    starts = w.cell("ptr", w.lanes)

    def columns(j: Index) -> None:
        def start(r: Index) -> None:
            column = w.element("%from", w.times(w.least(w.plus(j, r), final), "%apart"))
            w.b.do(f"store ptr {column}, ptr {w.pointer(starts, 'ptr', r)}, align 8")

        w.loop(0, w.lanes, 1, start)

        def some(k: Index, target: str) -> list[str]:
            mask = quarter.mask(w.minus("%k", k))
            cells = [w.pointer(starts, "ptr", r) for r in range(w.lanes)]
            sources = [w.b.op(f"load ptr, ptr {cell}, align 8") for cell in cells]
            x = [quarter.read(w.element(source, k), mask) for source in sources]
            for value in turned_over(w, [beside(w, x[i::size], size) for i in range(size)]):
                w.write(value, target)
                target = w.element(target, "%wide")
            return [target]

        w.loop(0, "%k", size, some, [("ptr", w.element("%to", j))])

    # Backwards: what one vector writes beyond its columns, the next one writes over.
    last = w.minus(w.b.op(f"sdiv i64 {w.plus('%columns', w.lanes - 1)}, {w.lanes}"), 1)
    w.loop(0, w.plus(last, 1), 1, lambda t: columns(w.times(w.minus(last, t), w.lanes)))
    return w


def beside(w: Vectors, x: Sequence[str], size: int) -> str:
    """Return short vectors, of ``size`` elements each, as one."""
    while len(x) > 1:
        order = ", ".join(f"i32 {n}" for n in range(2 * size))
        kind = f"<{size} x {w.kind}>"
        x = [
            w.b.op(f"shufflevector {kind} {a}, {kind} {b}, <{2 * size} x i32> <{order}>")
            for a, b in zip(x[::2], x[1::2], strict=True)
        ]
        size *= 2
    return x[0]


def turned_over(w: Vectors, x: Sequence[str]) -> list[str]:
    """Return vectors whose quarters, of 16 bytes, are squares turned over."""
    size = 1
    while size < len(x):  # interleave runs of ``size``: low halves of quarters, and high ones
        orders = [
            [
                at + n + start
                for block in range(0, w.lanes, len(x))
                for at in range(block + high, block + high + len(x) // 2, size)
                for start in (0, w.lanes)
                for n in range(size)
            ]
            for high in (0, len(x) // 2)
        ]
        texts = [", ".join(f"i32 {n}" for n in order) for order in orders]
        v = w.vector
        x = [
            w.b.op(f"shufflevector {v} {x[i]}, {v} {x[i + size]}, <{w.lanes} x i32> <{text}>")
            for group in range(0, len(x), 2 * size)
            for i in range(group, group + size)
            for text in texts
        ]
        size *= 2
    return list(x)


# --------------------------------------------------------------------------------------- the loops
_PARTS = ("a", "b", "c", "table", "scratch", "slot"), ("lo", "hi")


class _Parts(Tabled):
    """Writes the function that makes some parts of a product, with a slot for its copies."""

    def __init__(self, kind: str, rows: int, symbol: str) -> None:
        super().__init__(kind, FIELDS, rows)
        self.symbol = symbol
        self.widths = widths(rows)
        self.cells.append(f"  %places = alloca i64, i64 {2 * rows}, align 64")
        self.loop("%lo", "%hi", 1, self.part)

    def packed(self, which: str) -> str:
        """Return whether an operand is read from a copy."""
        return self.b.op(f"icmp ne i64 {self.f[f'pack_{which}']}, 0")

    def call(self, name: str, *args: tuple[str, Index]) -> None:
        given = ", ".join(f"{kind} {value}" for kind, value in args)
        self.b.do(f"call void @{self.symbol}_{name}({given})")

    def along(
        self, number: Index, sizes: Sequence[str], steps: Sequence[Sequence[str]]
    ) -> list[str]:
        """Return the offsets of an index of several axes, of which the first runs fastest."""
        totals = ["0"] * len(steps)
        for axis in range(len(sizes) + 1):
            i = number
            if axis < len(sizes):
                i = self.b.op(f"urem i64 {number}, {self.f[sizes[axis]]}")
                number = self.b.op(f"udiv i64 {number}, {self.f[sizes[axis]]}")
            moves = [self.times(i, self.f[step[axis]]) for step in steps]
            totals = [self.plus(x, y) for x, y in zip(totals, moves, strict=True)]
        return totals

    def put(self, places: str, row: Index, *offsets: str) -> None:
        """Store where a row begins in a and in c."""
        to = self.pointer(places, "i64", self.sum(0, [(row, 2)]))
        for n, offset in enumerate(offsets):
            self.b.do(f"store i64 {offset}, ptr {self.pointer(to, 'i64', n)}, align 8")

    def listed(self) -> None:
        """Write the list of where rows of several axes begin, up to the end of the last tile."""
        b, f, start = self.b, self.f, self.row
        q0, rest = b.op(f"urem i64 {start}, {f['r0']}"), b.op(f"udiv i64 {start}, {f['r0']}")
        q1 = b.op(f"urem i64 {rest}, {f['r1']}")
        there, to = self.along(start, ("r0", "r1"), (("ar0", "ar1", "ar2"), ("cr0", "cr1", "cr2")))
        to = self.chosen(self.whole, to, self.times(start, f["n"]))

        def row(r: Index, q0: str, q1: str, there: str, to: str) -> list[str]:
            self.put(self.list, r, there, to)
            more = b.op(f"icmp slt i64 {self.plus(r, 1)}, {self.high}")
            q0, q1, way_a, way_c = self.next_row(q0, q1)
            way_c = self.chosen(self.whole, way_c, f["n"])
            there = self.plus(there, self.chosen(more, way_a, 0))
            return [q0, q1, there, self.plus(to, self.chosen(more, way_c, 0))]

        up = b.op(f"udiv i64 {self.plus(self.high, self.rows - 1)}, {self.rows}")
        carried = [("i64", x) for x in (q0, q1, there, to)]
        self.loop(0, self.times(up, self.rows), 1, row, carried)

    def next_row(self, q0: str, q1: str) -> tuple[str, str, str, str]:
        """Return the place of the next row along its inner axes, and the ways there in a and c."""
        b, f = self.b, self.f
        n0 = self.plus(q0, 1)
        end0 = b.op(f"icmp eq i64 {n0}, {f['r0']}")
        n1 = self.plus(q1, b.op(f"zext i1 {end0} to i64"))
        end1 = b.op(f"icmp eq i64 {n1}, {f['r1']}")
        ways = []
        for x in ("ar", "cr"):
            back0, back1 = self.times(f["r0"], f[f"{x}0"]), self.times(f["r1"], f[f"{x}1"])
            way = self.plus(f[f"{x}0"], self.chosen(end0, self.minus(f[f"{x}1"], back0), 0))
            ways.append(self.plus(way, self.chosen(end1, self.minus(f[f"{x}2"], back1), 0)))
        return self.chosen(end0, 0, n0), self.chosen(end1, 0, n1), ways[0], ways[1]

    def part(self, p: Index) -> None:
        """Write one block of one piece of one product."""
        f, b = self.f, self.b
        blocks = self.times(f["down"], f["across"])
        each = self.times(blocks, f["pieces"])
        number, left = b.op(f"udiv i64 {p}, {each}"), b.op(f"urem i64 {p}, {each}")
        piece, block = b.op(f"udiv i64 {left}, {blocks}"), b.op(f"urem i64 {left}, {blocks}")
        row = self.times(b.op(f"udiv i64 {block}, {f['across']}"), f["rows"])
        column = self.times(b.op(f"urem i64 {block}, {f['across']}"), f["columns"])
        a0, b0, c0 = self.batch(number)
        self.whole = b.op(f"icmp eq i64 {f['pieces']}, 1")
        partial = self.times(
            self.plus(self.times(number, f["pieces"]), piece), self.times(f["m"], f["n"])
        )
        sums = self.pointer("%scratch", "i8", HEADER)
        c = b.select(self.whole, "%c", sums, "ptr")
        self.row = row
        self.a = self.element("%a", a0)
        self.b0 = self.element("%b", b0, self.times(column, f["bn"]))
        self.c = self.element(c, self.chosen(self.whole, c0, partial), column)
        self.high = self.least(f["rows"], self.minus(f["m"], row))
        self.wide = self.least(f["columns"], self.minus(f["n"], column))
        self.list = self.pointer("%slot", "i8", f["list"])
        self.when(b.op(f"icmp eq i64 {f['single']}, 0"), self.listed)
        first = self.times(piece, f["piece"])
        stop = self.least(f["steps"], self.plus(first, f["piece"]))
        self.loop(first, stop, 1, lambda step: self.deep(step, first))

    def deep(self, step: Index, first: str) -> None:
        """Write what the terms of one step add to a block."""
        f, b = self.f, self.b
        old = b.op(f"zext i1 {b.op(f'icmp sgt i64 {step}, {first}')} to i64")
        outer = b.op(f"udiv i64 {step}, {f['turns']}")
        k = self.times(b.op(f"urem i64 {step}, {f['turns']}"), f["depth"])
        count = self.least(f["depth"], self.minus(f["k"], k))
        starts = (("as1", "as2", "as3"), ("bs1", "bs2", "bs3"))
        a1, b1 = self.along(outer, ("s1", "s2"), starts)
        source = self.element(self.a, a1, self.times(k, f["ak"]))
        lines_of = self.element(self.b0, b1, self.times(k, f["bk"]))
        self.line = self.plus(self.times(count, self.rows), self.lanes)  # of a tile's copy
        block = self.element(source, self.times(self.row, f["ar0"]))
        self.pack("a", block, "%slot", count, self.high, (f["ak"], f["ar0"]), self.line)

        def panel(t: Index) -> None:
            j = self.times(t, f["panel"])
            columns = self.least(f["panel"], self.minus(self.wide, j))
            lines = self.element(lines_of, self.times(j, f["bn"]))
            wide = self.rounded(columns)
            packed, copy = self.packed("b"), self.element("%slot", f["copied"])
            self.pack("b", lines, copy, count, columns, (f["bk"], f["bn"]), wide)
            base = self.b.select(packed, copy, lines, "ptr")
            step = self.chosen(packed, wide, f["bk"])
            self.loop(
                0,
                self.high,
                self.rows,
                lambda i: self.tiles(source, i, (base, step), j, columns, count, old),
            )

        up = self.plus(self.wide, self.minus(f["panel"], 1))
        self.loop(0, b.op(f"udiv i64 {up}, {f['panel']}"), 1, panel)

    def pack(
        self,
        which: str,
        source: str,
        target: str,
        count: Index,
        columns: Index,
        steps: tuple[str, str],
        wide: Index,
    ) -> None:
        """Write a copy of ``count`` rows of columns, if there is to be one."""
        along, across = steps
        names = {"copied": ("deal" if which == "a" else "copy", along), "turned": ("turn", across)}
        for how, (name, apart) in names.items():
            if which == "a" and how == "turned":
                continue
            sizes = [("i64", x) for x in (count, columns, apart, wide)]
            self.when(
                self.b.op(f"icmp eq i64 {self.f[f'pack_{which}']}, {PACKS[how]}"),
                functools.partial(self.call, name, ("ptr", source), ("ptr", target), *sizes),
            )

    def tiles(
        self,
        source: str,
        i: Index,
        lines: tuple[str, Index],
        j: Index,
        columns: Index,
        count: Index,
        old: Index,
    ) -> None:
        """Write the tiles of some rows in one panel, narrower ones where that ends."""
        f, packed = self.f, self.packed("a")
        base, step = lines
        number = self.b.op(f"udiv i64 {i}, {self.rows}")
        copy = self.element("%slot", self.times(number, self.line))
        a = self.b.select(packed, copy, source, "ptr")
        along = self.chosen(packed, self.rows, f["ak"])
        c = self.element(self.c, j)
        final = self.minus(self.minus(self.high, i), 1)
        start = self.plus(self.row, i)

        def in_line() -> None:
            apart = self.chosen(packed, 1, f["ar0"])
            below = self.chosen(self.whole, f["cr0"], f["n"])
            there = self.times(self.chosen(packed, 0, start), apart)
            to = self.times(start, below)

            w = self.of(2 * self.rows, "i64")  # pairs, as `put` stores them
            # A row beyond the last one is the last one once more.
            numbers = ", ".join(f"i64 {r}, i64 {r}" for r in range(self.rows))
            limit = w.alternating(final, final)
            some = self.b.op(f"icmp slt {w.vector} <{numbers}>, {limit}")
            rows = self.b.op(f"select {w.bits} {some}, {w.vector} <{numbers}>, {w.vector} {limit}")
            moved = self.b.op(f"mul {w.vector} {rows}, {w.alternating(apart, below)}")
            value = self.b.op(f"add {w.vector} {moved}, {w.alternating(there, to)}")
            self.b.do(f"store {w.vector} {value}, ptr %places, align 64")

        single = self.b.op(f"icmp ne i64 {f['single']}, 0")
        self.when(single, in_line)
        listed = self.pointer(self.list, "i64", self.times(i, 2))
        places = self.b.select(single, "%places", listed, "ptr")

        def tile(wide: int, offset: Index) -> None:
            start = self.plus(offset, (wide - 1) * self.lanes)
            last = self.least(self.lanes, self.minus(columns, start))
            pointers = (a, self.element(base, offset), self.element(c, offset), places)
            args = [("ptr", p) for p in pointers]
            self.call(f"tile{wide}", *args, *(("i64", x) for x in (count, along, step, last, old)))

        most, *fewer = self.widths
        vectors = self.b.op(f"sdiv i64 {self.rounded(columns)}, {self.lanes}")
        self.when(self.b.op(f"icmp eq i64 {vectors}, {most}"), lambda: tile(most, 0))
        less = self.b.op(f"icmp slt i64 {vectors}, {most}")

        def narrower() -> None:
            for wide in fewer:
                some = self.b.op(f"and i64 {vectors}, {wide}")
                before = self.times(self.b.op(f"and i64 {vectors}, {-2 * wide}"), self.lanes)
                here = self.b.op(f"icmp ne i64 {some}, 0")
                self.when(here, functools.partial(tile, wide, before))

        if fewer:
            self.when(less, narrower)


def _entry(kind: str, symbol: str) -> Vectors:
    """Write the function that takes a slot, where copies are wanted, and makes parts."""
    w = Vectors(kind)
    room = w.number("%table", FIELDS.index("room"))
    head = "ptr %a, ptr %b, ptr %c, ptr %table, ptr %scratch"
    go = w.b.op("icmp slt i64 %lo, %hi")

    def parts(slot: str) -> None:
        w.b.do(f"call void @{symbol}_parts({head}, ptr {slot}, i64 %lo, i64 %hi)")

    def with_slot() -> None:
        base = w.pointer("%scratch", "i8", w.number("%table", FIELDS.index("slots")))
        w.held(base, w.number("%table", FIELDS.index("slot")), room, parts)

    none = w.b.op(f"icmp eq i64 {room}, 0")
    w.when(w.b.op(f"and i1 {go}, {none}"), lambda: parts("%scratch"))
    some = w.b.op(f"icmp ne i64 {room}, 0")
    w.when(w.b.op(f"and i1 {go}, {some}"), with_slot)
    return w


class _End(_Parts):
    """Writes the function that adds up what the pieces of a sum gave."""

    def __init__(self, kind: str) -> None:
        Tabled.__init__(self, kind, FIELDS)
        f, size = self.f, self.times(self.f["m"], self.f["n"])
        sums = self.pointer("%scratch", "i8", HEADER)

        def product(number: Index) -> None:
            start = self.element(sums, self.times(self.times(number, f["pieces"]), size))
            target = self.element("%c", self.batch(number)[2])
            self.loop(0, f["m"], 1, lambda i: row(start, target, i))

        def row(start: str, target: str, i: Index) -> None:
            (to,) = self.along(i, ("r0", "r1"), (("cr0", "cr1", "cr2"),))

            def some(j: Index) -> None:
                mask = self.mask(self.minus(f["n"], j))
                first = self.element(start, self.times(i, f["n"]), j)

                def piece(k: Index, total: str) -> list[str]:
                    value = self.read(self.element(first, self.times(k, size)), mask)
                    return [self.added(total, value)]

                (total,) = self.loop(0, f["pieces"], 1, piece, [(self.vector, "zeroinitializer")])
                self.write(total, self.element(target, to, j), mask)

            self.loop(0, f["n"], self.lanes, some)

        self.loop(0, "%batch", 1, product)


_COLD = ("_parts", "", "_end")  # called for many multiplications, or for few sums


def gemm_text(dtype: str, rows: int) -> str:
    """Return the module of products of a dtype with tiles of ``rows`` rows."""
    kind, symbol = KINDS[dtype], gemm_symbol(dtype, rows)
    driver = _Parts(kind, rows, symbol)
    writer = Quads if dtype == "int8" else Vectors
    main = ("a", "b", "c", "table", "scratch")
    made: list[tuple[str, Vectors, Sequence[str], Sequence[str]]] = [
        *((f"_tile{v}", _tile(writer(kind, rows), v), *_TILE) for v in widths(rows)),
        ("_copy", _copied(kind), *_PACK),
        ("_deal", _dealt(kind, rows), *_PACK),
        ("_turn", _turned(kind), *_PACK),
        ("_parts", driver, *_PARTS),
        ("", _entry(kind, symbol), main, ("lo", "hi")),
        ("_end", _End(kind), main, ("batch",)),
    ]
    texts, declared = [], {}
    for name, writer, pointers, numbers in made:
        args = [*(f"ptr %{p}" for p in pointers), *(f"i64 %{n}" for n in numbers)]
        text = writer.text(f"{symbol}{name}", args, name in _COLD)
        texts.append(text.replace("define internal", "define") if name in ("", "_end") else text)
        declared.update(writer.b.declared)
    return "\n\n".join([*texts, *declared.values()])
