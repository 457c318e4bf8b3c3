"""Print convolutions as LLVM functions.

Two schedules, both without a copy of every window. The planes of x (one channel of one image) are
packed so that for each offset of the window, what all its elements meet lies in one run of memory:

    places  runs along the places of the output. A tile of out features by vectors of places stays
            in registers while all features and taps are added up; a weight is broadcast.
    taps    runs along the window: where the window is larger than the output, as in gradients of
            weights. A tile of out features by places stays in registers, a vector each, while runs
            are multiplied; the vectors are added up in the end.

What is packed fits into the second cache and lies in a slot that the running call holds. Parts do
not depend on the number of threads, so neither do results.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..correlate import runs
from ..kernel import row_major
from ..plan import Correlation
from .llvm import Code
from .writer import Index, Writer

__all__ = ["correlation_code"]

_PACKED = 1 << 19  # bytes of packed planes in one slot
_SUMS = 1 << 17  # bytes of sums in one slot
_RUN = 1024  # elements of a run that are multiplied at a time, so that they stay in the first cache
_SPELT = 4  # taps that a loop over them takes at a time, at most
_SMALL = 1 << 20  # products of a convolution that one thread does
_PARTS = 16  # parts that are enough for any number of threads
_HEADER = 64  # bytes before the slots: which of them are taken


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


# ------------------------------------------------------------------------------------------ packing
@dataclass(frozen=True)
class _Packing:
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


def _pack(
    space: Sequence[int],
    moving: Sequence[int],
    step: Sequence[int],
    count: Sequence[int],
    gap: Sequence[int],
    low: Sequence[int],
) -> _Packing:
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
        for (m, r), *others in itertools.product(moves, *map(range, count[1:]))
    ]
    return _Packing(
        tuple(rests), rows, tuple(starts), tuple(moving[1:]), tuple(step), tuple(low),
        tuple(space), tuple(offsets), math.prod(sizes),
    )  # fmt: skip


def _split(n: int, most: int) -> int:
    """Return the size of the fewest equal pieces of n of at most ``most``."""
    return -(-n // -(-n // max(1, most)))


# --------------------------------------------------------------------------------------- schedules
class _Schedule(Writer):
    """What both schedules write with: vectors, tables, slots, and packing."""

    def __init__(self, c: Correlation, dtype: np.dtype, packing: _Packing, raw: bool) -> None:
        super().__init__()
        self.symbol = "conv"
        self.c, self.packing, self.raw = c, packing, raw
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

    # -------------------------------------------------------------------------------------- slots
    def held(self, base: str, size: int, body: Callable[[str], None]) -> None:
        """Write the body with the address of a slot that no other call holds meanwhile."""
        b, top, turn = self.b, self.label(), self.label()
        before = self.at
        b.do(f"br label %{top}")
        self.block(top)
        taken = b.op("load atomic i64, ptr %scratch monotonic, align 8")
        free = b.op(f"xor i64 {taken}, -1")
        k = b.op(f"call i64 @llvm.cttz.i64(i64 {free}, i1 false)")
        b.declared["llvm.cttz.i64"] = "declare i64 @llvm.cttz.i64(i64, i1 immarg)"
        some = b.op(f"icmp slt i64 {k}, {self.slots}")
        b.do(f"br i1 {some}, label %{turn}, label %{top}")
        self.block(turn)
        bit = b.op(f"shl i64 1, {k}")
        with_it = b.op(f"or i64 {taken}, {bit}")
        pair = b.op(f"cmpxchg ptr %scratch, i64 {taken}, i64 {with_it} acquire monotonic, align 8")
        won, go = b.op(f"extractvalue {{ i64, i1 }} {pair}, 1"), self.label()
        b.do(f"br i1 {won}, label %{go}, label %{top}")
        self.block(go)
        assert before
        body(self.pointer(base, "i8", b.op(f"mul i64 {k}, {size}")))
        keep = b.op(f"xor i64 {bit}, -1")
        b.op(f"atomicrmw and ptr %scratch, i64 {keep} release, align 8")

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
        low = self.splat(str(inside[0]), "i64")

        def chunk(m: Index) -> None:
            lanes = self.lane_numbers(m)
            above = self.b.op(f"icmp sge <{self.lanes} x i64> {lanes}, {low}")
            mask = self.b.op(f"and {self.bits} {above}, {self.below(lanes, inside[1])}")
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
        args = ["ptr noalias %b0", "ptr noalias %b1", "ptr noalias %b2", "ptr noalias %scratch"]
        return self.function(name, [*args, "i64 %lo", "i64 %hi"])

    def guarded(self, body: Callable[[], None]) -> None:
        """Write the body to run where there is a part to do."""
        go, none = self.label(), self.label()
        self.b.do(f"br i1 {self.b.op('icmp slt i64 %lo, %hi')}, label %{go}, label %{none}")
        self.block(go)
        body()
        self.b.do(f"br label %{none}")
        self.block(none)


# ------------------------------------------------------------------------------------------ places
class _Places(_Schedule):
    """A tile of out features by vectors of places in registers."""

    def __init__(self, c: Correlation, dtype: np.dtype) -> None:
        raw = math.prod(c.window) == 1 and runs(c.x, 3, c.space) and _whole(c)
        self.taps = math.prod(c.window)
        super().__init__(c, dtype, self.packing_of(c, c.places[0]), raw)
        self.rows = min(range(min(8, c.outs), 0, -1), key=lambda r: -(-c.outs // r) * r)
        self.blocks()
        run = self.block_places
        self.vectors = max(1, min(self.sums // self.rows, 8, -(-run // self.lanes)))
        self.tiles = -(-c.outs // self.rows)
        self.weights = c.groups * self.tiles * c.features * self.taps * self.rows * self.bytes
        self.first_slot = -(-(_HEADER + self.weights) // 64) * 64
        self.slot = 0 if raw else self.packed(self.chunk)

    @staticmethod
    def packing_of(c: Correlation, rows: int) -> _Packing:
        moving = (rows, *c.places[1:])
        return _pack(c.space, moving, c.strides, c.window, c.dilation, c.low)

    def blocks(self) -> None:
        """Choose how many places along the first axis one part makes, from how many features."""
        c = self.c
        self.height, self.chunk = c.places[0], c.features
        row = math.prod(c.places[1:])
        least = -(-2 * self.lanes // row)  # rows of two vectors
        pieces = -(-_PARTS // (c.batch * c.groups)) if c.products > _SMALL else 1
        pieces, fits = min(pieces, c.places[0]), False
        while not fits and pieces <= c.places[0] and -(-c.places[0] // pieces) >= least:
            # Of about so many pieces, those that overlap least and fill their vectors best.
            heights = {-(-c.places[0] // k) for k in range(pieces, 2 * pieces)}
            self.height = min(
                (h for h in heights if h >= least),
                key=lambda h: (-(-c.places[0] // h) * -(-h * row // self.lanes), -h),
            )
            self.packing = self.packing_of(c, self.height)
            fits = self.raw or self.packed(c.features) <= _PACKED
            pieces += 1
        if not fits:  # whole planes of a few features at a time
            self.height = c.places[0]
            self.packing = self.packing_of(c, self.height)
            if not self.raw:
                per = self.packing.elements * self.bytes
                self.chunk = _split(c.features, _PACKED // per)
        self.across = -(-c.places[0] // self.height)
        self.block_places = self.height * math.prod(c.places[1:])

    def codes(self) -> list[tuple[str, Code]]:
        c = self.c
        sizes = (c.batch, c.groups, self.across)
        scratch = self.first_slot + self.slot * self.slots
        self.guarded(lambda: self.calls(sizes))
        text = "\n\n".join([*self.constants(), self.finished("conv")])
        main = Code(text, self.b.declared, math.prod(sizes), scratch, False, self.c.products // 8)
        return [("weights", self.weights_code(scratch)), ("conv", main)]

    def weights_code(self, scratch: int) -> Code:
        """Return the function that arranges weights as tiles need them: (feature, tap, row)."""
        c, writer = self.c, _Schedule(self.c, _DTYPES[self.kind], self.packing, self.raw)
        writer.symbol = "weights"
        offsets = [
            sum(k * s for k, s in zip(f, c.w.strides[3:], strict=True))
            for f in itertools.product(*map(range, c.window))
        ]
        wg, wo, wi = c.w.strides[:3]

        def part(at: list[Index]) -> None:
            g, t = at
            to = writer.sum(
                0, [(g, self.tiles * c.features * self.taps * self.rows)]
                + [(t, c.features * self.taps * self.rows)]
            )  # fmt: skip
            out = writer.pointer(writer.pointer("%scratch", "i8", _HEADER), self.kind, to)
            outs = []
            for r in range(self.rows):
                o = writer.sum(r, [(t, self.rows)])
                outs.append(writer.least(o, c.outs - 1))

            def feature(i: Index) -> None:
                def tap(k: Index) -> None:
                    off = writer.entry("tap", offsets, k)
                    for r, o in enumerate(outs):
                        where = writer.sum(c.w.offset, [(g, wg), (o, wo), (i, wi), (off, 1)])
                        value = writer.b.op(
                            f"load {self.kind}, ptr {writer.pointer('%b1', self.kind, where)}"
                        )
                        there = writer.sum(r, [(i, self.taps * self.rows), (k, self.rows)])
                        place = writer.pointer(out, self.kind, there)
                        writer.b.do(f"store {self.kind} {value}, ptr {place}")

                writer.each(self.taps, tap)

            writer.each(c.features, feature)

        def run() -> None:
            writer.b.do("store i64 0, ptr %scratch, align 8")
            writer.parts((c.groups, self.tiles), part)

        writer.guarded(run)
        text = "\n\n".join([*writer.constants(), writer.finished("weights")])
        work = c.groups * c.outs * c.features * self.taps
        return Code(text, writer.b.declared, c.groups * self.tiles, scratch, False, work)

    def calls(self, sizes: Sequence[int]) -> None:
        if self.raw:
            self.parts(sizes, lambda at: self.part(at, None))
        else:
            base = self.pointer("%scratch", "i8", self.first_slot)
            self.held(
                base, self.slot, lambda slot: self.parts(sizes, lambda at: self.part(at, slot))
            )

    def part(self, at: list[Index], slot: str | None) -> None:
        """Write one block of places of one group of one sample."""
        c = self.c
        b, g, k = at
        m0 = self.sum(0, [(k, self.height)])
        if self.across * self.height != c.places[0]:  # the last block overlaps the one before
            m0 = self.least(m0, c.places[0] - self.height)
        xb, xg, xi = c.x.strides[:3]
        yb, yg = c.y.strides[:2]
        y = self.pointer(
            "%b2", self.kind, self.sum(c.y.offset, [(b, yb), (g, yg), (m0, c.y.strides[3])])
        )

        def features(i0: Index) -> None:
            count = self.least(self.chunk, self.sum(c.features, [(i0, -1)]))
            start = self.sum(c.x.offset, [(b, xb), (g, xg), (i0, xi)])
            if self.raw:
                start = self.sum(0, [(start, 1), (m0, c.x.strides[3])])
            x = self.pointer("%b0", self.kind, start)
            if slot is not None:
                self.pack(x, slot, count, xi, m0)
                x = slot
            self.tiled(g, i0, count, x, y)

        if self.chunk == c.features:
            features(0)
        else:
            self.loop(0, c.features, self.chunk, features)

    def tiled(self, g: Index, i0: Index, count: Index, x: str, y: str) -> None:
        """Write the tiles of a block, of which the last may be narrower."""
        wide, run = self.vectors * self.lanes, self.block_places
        whole = run // wide
        rest = run - whole * wide
        if whole:
            self.each(
                whole,
                lambda q: self.column(
                    g, i0, count, x, y, self.sum(0, [(q, wide)]), [self.lanes] * self.vectors
                ),
            )
        if rest:
            counts = [min(self.lanes, rest - k) for k in range(0, rest, self.lanes)]
            self.column(g, i0, count, x, y, whole * wide, counts)

    def column(
        self, g: Index, i0: Index, count: Index, x: str, y: str, q: Index, lanes: list[int]
    ) -> None:
        c, kind = self.c, self.kind
        x = self.pointer(x, kind, q)
        flat = runs(c.y, 3, (self.height, *c.places[1:]))
        masks = [None if n == self.lanes else self.mask(n) for n in lanes]
        if flat:
            y, spots = self.pointer(y, kind, q), []
        else:
            spots = [self.spots(self.sum(v * self.lanes, [(q, 1)])) for v in range(len(lanes))]

        def tile(t: Index) -> None:
            at = self.sum(0, [(g, self.tiles * c.features), (t, c.features), (i0, 1)])
            size = self.taps * self.rows
            w = self.pointer(
                self.pointer("%scratch", "i8", _HEADER), kind, self.sum(0, [(at, size)])
            )
            targets = [self.target(y, t, r, spots) for r in range(self.rows)]
            sums = self.starts(targets, masks, i0)
            sums = self.products(x, w, count, sums, masks)
            for r, to in enumerate(targets):
                for v, mask in enumerate(masks):
                    self.put(sums[r * len(masks) + v], to[v], mask, bool(spots))

        self.each(self.tiles, tile)

    def spots(self, q: Index) -> str:
        """Return the offsets of a vector of places that do not lie in a row."""
        c = self.c
        sizes = (self.height, *c.places[1:])
        values = [
            sum(k * s for k, s in zip(p, c.y.strides[3:], strict=True))
            for p in itertools.product(*map(range, sizes))
        ]
        values += [0] * (8 * self.lanes)
        at = self.b.op(f"getelementptr i64, ptr {self.table('spot', values)}, i64 {q}")
        return self.b.op(f"load <{self.lanes} x i64>, ptr {at}, align 8")

    def target(self, y: str, t: Index, r: int, spots: Sequence[str]) -> list[str]:
        """Return where the vectors of one out feature go; those of a last tile may be nowhere."""
        c, yo = self.c, self.c.y.strides[2]
        o = self.sum(r, [(t, self.rows)])
        to = self.pointer(y, self.kind, self.sum(0, [(o, yo)]))
        if spots:
            to_spots = [self.scattered(to, s) for s in spots]
        if self.tiles * self.rows != c.outs:
            real = self.b.op(f"icmp slt i64 {o}, {c.outs}")
            if spots:
                nowhere = self.splat(self.dummy(), "ptr")
                return [self.b.select(real, s, nowhere, f"<{self.lanes} x ptr>") for s in to_spots]
            to = self.b.select(real, to, self.dummy(), "ptr")
        if spots:
            return to_spots
        return [self.pointer(to, self.kind, v * self.lanes) for v in range(self.vectors)]

    def dummy(self) -> str:
        """Return the address of room for a row of a tile that nobody reads."""
        if not self.cells:
            self.cells.append(f"  %dummy = alloca [{self.vectors + 1} x {self.vector}], align 64")
        return "%dummy"

    def starts(self, targets: list, masks: list, i0: Index) -> list[str]:
        """Return the sums that a tile begins with: 0, or what earlier features gave."""
        if self.chunk == self.c.features:
            return [self.zero] * (len(targets) * len(masks))
        new = self.b.op(f"icmp eq i64 {i0}, 0")
        sums = []
        for to in targets:
            for v, mask in enumerate(masks):
                if to[v].startswith("%") and self.is_spots:
                    held = self.gather(to[v], mask or self.mask(self.lanes))
                else:
                    held = self.read(to[v], mask)
                sums.append(self.b.select(new, self.zero, held, self.vector))
        return sums

    @property
    def is_spots(self) -> bool:
        return not runs(self.c.y, 3, (self.height, *self.c.places[1:]))

    def put(self, value: str, to: str, mask: str | None, spots: bool) -> None:
        if spots:
            self.scatter(value, to, mask or self.mask(self.lanes))
        else:
            self.write(value, to, mask)

    def together(self) -> list[int]:
        """Return how far apart the taps lie that are written out in the loop over taps."""
        offsets = self.packing.offsets
        for n in range(min(_SPELT, self.taps), 1, -1):
            pieces = [offsets[k : k + n] for k in range(0, self.taps, n)]
            apart = {tuple(o - piece[0] for o in piece) for piece in pieces}
            if len(apart) == 1:
                return list(apart.pop())
        return [0]

    def products(self, x: str, w: str, count: Index, sums: list[str], masks: list) -> list[str]:
        """Write the sum over features and taps of a tile."""
        c, kind, p = self.c, self.kind, self.packing
        far = c.x.strides[2] if self.raw else p.elements

        def add(xk: str, wk: str, held: Sequence[str]) -> list[str]:
            values = [
                self.read(self.pointer(xk, kind, v * self.lanes), mask if self.raw else None)
                for v, mask in enumerate(masks)
            ]
            out = list(held)
            for r in range(self.rows):
                one = self.b.op(f"load {kind}, ptr {self.pointer(wk, kind, r)}, align {self.bytes}")
                many = self.splat(one, kind)
                for v, value in enumerate(values):
                    n = r * len(values) + v
                    out[n] = self.fma(many, value, out[n])
            return out

        def feature(i: Index, *held: str) -> list[str]:
            xi = self.pointer(x, kind, self.sum(0, [(i, far)]))
            wi = self.pointer(w, kind, self.sum(0, [(i, self.taps * self.rows)]))

            def some(k: Index, *held: str) -> list[str]:
                xk = self.pointer(xi, kind, self.entry("offset", p.offsets, k))
                wk = self.pointer(wi, kind, self.sum(0, [(k, self.rows)]))
                for j, apart in enumerate(together):
                    xj, wj = self.pointer(xk, kind, apart), self.pointer(wk, kind, j * self.rows)
                    held = add(xj, wj, held)
                return list(held)

            if len(together) == self.taps:
                return some(0, *held)
            carried = [(self.vector, h) for h in held]
            return self.loop(0, self.taps, len(together), some, carried)

        together = self.together()
        if count == 1:
            return feature(0, *sums)
        return self.loop(0, count, 1, feature, [(self.vector, s) for s in sums])


# --------------------------------------------------------------------------------------------- taps
class _Taps(_Schedule):
    """A tile of out features by samples and places in registers, as vectors until the end."""

    def __init__(self, c: Correlation, dtype: np.dtype) -> None:
        raw = math.prod(c.places) == 1 and runs(c.x, 3, c.space) and c.window == c.space
        raw = raw and not any(c.low) and all(d == 1 for d in c.dilation)
        packing = _pack(c.space, c.window, c.dilation, c.places, c.strides, c.low)
        super().__init__(c, dtype, packing, raw)
        self.run, self.places = math.prod(c.window), math.prod(c.places)
        wide = 9 if self.sums >= 24 else 4
        self.spots = _split(self.places, wide)
        self.samples = min(c.batch, max(1, (wide - 1) // self.places))
        self.columns = self.spots * self.samples
        self.rows = max(1, min(c.outs, self.sums // self.columns))
        self.spot_tiles = -(-self.places // self.spots)
        self.row_tiles = -(-c.outs // self.rows)
        self.sum_size = self.rows * self.columns * self.lanes
        self.blocks()

    def blocks(self) -> None:
        """Choose how many samples one part takes, and how many features."""
        c = self.c
        per = self.row_tiles * self.spot_tiles * self.sum_size * self.bytes // self.samples
        plane = 0 if self.raw else self.packing.elements * self.bytes
        most = min(_SUMS // per, _PACKED // max(plane, 1), c.batch)
        large = self.c.products > _SMALL
        if large:
            most = min(most, -(-c.batch * c.groups // _PARTS))
        self.together = max(self.samples, most // self.samples * self.samples)
        self.sample_tiles = -(-self.together // self.samples)
        self.across = -(-c.batch // self.together)
        parts = c.groups * self.across
        pieces = min(c.features, -(-_PARTS // parts)) if large else 1
        self.depth = -(-c.features // pieces)
        self.pieces = -(-c.features // self.depth)
        outputs = c.batch * c.groups * c.outs * self.places
        partial = outputs * self.pieces * self.bytes if self.pieces > 1 else 0
        self.first_slot = -(-(_HEADER + partial) // 64) * 64
        self.features = max(1, min(self.depth, _RUN // self.run))  # multiplied at a time
        if not self.raw:
            self.features = max(1, min(self.features, _PACKED // (self.together * plane)))
        self.planes = 0 if self.raw else self.packed(self.together * self.features)
        tiles = self.sample_tiles * self.spot_tiles * self.row_tiles
        self.all_sums = tiles * self.sum_size
        self.slot = self.planes + self.all_sums * self.bytes

    def codes(self) -> list[tuple[str, Code]]:
        scratch = self.first_slot + self.slot * self.slots
        sizes = (self.c.groups, self.across, self.pieces)
        self.guarded(
            lambda: self.held(
                self.pointer("%scratch", "i8", self.first_slot),
                self.slot,
                lambda slot: self.parts(sizes, lambda at: self.part(at, slot)),
            )
        )
        texts = [*self.constants(), self.finished("conv")]
        if self.pieces > 1:
            texts.append(self.end())
        text = "\n\n".join(texts)
        main = Code(
            text, self.b.declared, math.prod(sizes), scratch, self.pieces > 1, self.c.products // 8
        )
        start = Writer()
        start.b.do("store i64 0, ptr %scratch, align 8")
        args = ["ptr %b0", "ptr %b1", "ptr %b2", "ptr %scratch", "i64 %lo", "i64 %hi"]
        free = Code(start.function("slots", args), {}, 1, scratch, False, 1)
        return [("slots", free), ("conv", main)]

    def part(self, at: list[Index], slot: str) -> None:
        """Write the sums of one block of samples over one piece of the features."""
        c = self.c
        g, k, piece = at
        b0 = self.sum(0, [(k, self.together)])
        if self.across * self.together != c.batch:  # the last block overlaps the one before
            b0 = self.least(b0, c.batch - self.together)
        sums = self.pointer(slot, "i8", self.planes)
        self.loop(
            0,
            self.all_sums,
            self.lanes,
            lambda n: self.write(self.zero, self.pointer(sums, self.kind, n)),
        )
        xb, xg, xi = c.x.strides[:3]
        wg, _, wi = c.w.strides[:3]
        i0 = self.sum(0, [(piece, self.depth)])
        stop = self.least(self.sum(self.depth, [(i0, 1)]), c.features)

        def feature(i: Index) -> None:
            start = self.sum(c.x.offset, [(b0, xb), (g, xg), (i, xi)])
            x = self.pointer("%b0", self.kind, start)
            w = self.pointer("%b1", self.kind, self.sum(c.w.offset, [(g, wg), (i, wi)]))
            count = self.least(self.features, self.sum(0, [(stop, 1), (i, -1)]))
            if not self.raw:
                size = self.together * self.packing.elements

                def pack(k: Index) -> None:
                    source = self.pointer(x, self.kind, self.sum(0, [(k, xi)]))
                    target = self.pointer(slot, self.kind, self.sum(0, [(k, size)]))
                    self.pack(source, target, self.together, xb, 0)

                self.each(count, pack)
            self.runs(x if self.raw else slot, w, sums, count)

        if c.features == 1:
            feature(0)
        else:
            self.loop(i0, stop, self.features, feature)
        self.tiles(lambda *tile: self.join(sums, b0, g, piece, *tile))

    def runs(self, x: str, w: str, sums: str, count: Index) -> None:
        """Write the products of all runs of some features, a piece of long runs at a time."""
        whole = self.run // self.lanes * self.lanes
        if whole <= _RUN:
            self.tiles(lambda *tile: self.products(x, w, sums, count, (0, whole), True, *tile))
            return

        def some(q: Index) -> None:
            stop = self.least(self.sum(_RUN, [(q, 1)]), whole)
            self.tiles(lambda *tile: self.products(x, w, sums, count, (q, stop), False, *tile))

        self.loop(0, whole, _RUN, some)
        if self.run > whole:
            self.tiles(lambda *tile: self.products(x, w, sums, count, (whole, whole), True, *tile))

    def tiles(self, body: Callable[[Index, Index, Index, Index], None]) -> None:
        """Write loops over tiles; the body takes their number, sample, place, and out feature."""
        c = self.c

        def sample(b: Index) -> None:
            def spot(p: Index) -> None:
                def row(o: Index) -> None:
                    n = self.sum(
                        0, [(b, self.spot_tiles * self.row_tiles), (p, self.row_tiles), (o, 1)]
                    )
                    body(
                        n,
                        self.least(self.sum(0, [(b, self.samples)]), self.together - self.samples),
                        self.least(self.sum(0, [(p, self.spots)]), self.places - self.spots),
                        self.least(self.sum(0, [(o, self.rows)]), c.outs - self.rows),
                    )

                self.each(self.row_tiles, row)

            self.each(self.spot_tiles, spot)

        self.each(self.sample_tiles, sample)

    def products(
        self,
        x: str,
        w: str,
        sums: str,
        count: Index,
        span: tuple[Index, Index],
        to_end: bool,
        n: Index,
        b: Index,
        p: Index,
        o: Index,
    ) -> None:
        """Add the products of pieces of runs, and of what their ends leave, to a tile's sums."""
        c, kind = self.c, self.kind
        far = c.x.strides[0] if self.raw else self.packing.elements
        xs = []
        for k, j in itertools.product(range(self.samples), range(self.spots)):
            offset = self.entry("offset", self.packing.offsets, self.sum(j, [(p, 1)]))
            xs.append(self.sum(0, [(self.sum(k, [(b, 1)]), far), (offset, 1)]))
        ws = [self.sum(0, [(self.sum(r, [(o, 1)]), c.w.strides[1])]) for r in range(self.rows)]
        cells = self.pointer(sums, kind, self.sum(0, [(n, self.sum_size)]))
        places = [
            self.pointer(cells, kind, k * self.lanes) for k in range(self.rows * self.columns)
        ]
        held = [self.read(place) for place in places]
        first, stop = span
        rest = self.run % self.lanes if to_end else 0
        twice = 2 if self.run // self.lanes % 2 == 0 else 1

        def feature(i: Index, *now: str) -> list[str]:
            xi = c.x.strides[2] if self.raw else self.together * self.packing.elements
            right = [
                self.pointer(self.pointer(x, kind, self.sum(0, [(i, xi)])), kind, k) for k in xs
            ]
            base = self.pointer(w, kind, self.sum(0, [(i, c.w.strides[2])]))
            left = [self.pointer(base, kind, k) for k in ws]

            def step(q: Index, mask: str | None, now: Sequence[str]) -> list[str]:
                rows = [self.read(self.pointer(y, kind, q), mask) for y in left]
                columns = [self.read(self.pointer(y, kind, q), mask) for y in right]
                pairs = itertools.product(rows, columns)
                return [self.fma(*pair, acc) for pair, acc in zip(pairs, now, strict=True)]

            def steps(q: Index, *now: str) -> list[str]:
                for k in range(twice):
                    now = step(self.sum(k * self.lanes, [(q, 1)]), None, now)
                return list(now)

            if first != stop:
                carried = [(self.vector, h) for h in now]
                now = self.loop(first, stop, twice * self.lanes, steps, carried)
            return step(stop, self.mask(rest), now) if rest else list(now)

        if count == 1:
            out = feature(0, *held)
        else:
            out = self.loop(0, count, 1, feature, [(self.vector, h) for h in held])
        for value, place in zip(out, places, strict=True):
            self.write(value, place)

    def join(
        self, sums: str, b0: Index, g: Index, piece: Index, n: Index, b: Index, p: Index, o: Index
    ) -> None:
        """Add up the vectors of a tile, and store what they give."""
        c, kind = self.c, self.kind
        cells = self.pointer(sums, kind, self.sum(0, [(n, self.sum_size)]))
        spots = [
            sum(k * s for k, s in zip(q, c.y.strides[3:], strict=True))
            for q in itertools.product(*map(range, c.places))
        ]
        order = itertools.product(range(self.rows), range(self.samples), range(self.spots))
        for m, (r, k, j) in enumerate(order):
            value = self.read(self.pointer(cells, kind, m * self.lanes))
            total = self.call(
                f"llvm.vector.reduce.fadd.{self.mangled}",
                kind,
                (kind, "-0.0"),
                (self.vector, value),
                flags="reassoc ",
            )
            here = [self.sum(k, [(b, 1), (b0, 1)]), g, self.sum(r, [(o, 1)])]
            q = self.sum(j, [(p, 1)])
            if self.pieces > 1:
                shape = (self.pieces, c.batch, c.groups, c.outs, self.places)
                strides, base = row_major(shape), self.pointer("%scratch", "i8", _HEADER)
                place = self.sum(0, zip((piece, *here, q), strides, strict=True))
            else:
                base = "%b2"
                spot = self.entry("spot", spots, q)
                terms = [*zip(here, c.y.strides[:3], strict=True), (spot, 1)]
                place = self.sum(c.y.offset, terms)
            self.b.do(f"store {kind} {total}, ptr {self.pointer(base, kind, place)}")

    def end(self) -> str:
        """Return the function that adds up what the pieces of the features gave."""
        c, w, kind = self.c, Writer(), self.kind
        strides = row_major((self.pieces, c.batch, c.groups, c.outs, *c.places))
        base = w.pointer("%scratch", "i8", _HEADER)

        def inside(at: list[Index]) -> None:
            if len(at) < 3 + len(c.places):
                sizes = (c.batch, c.groups, c.outs, *c.places)
                w.each(sizes[len(at)], lambda i: inside([*at, i]))
                return
            total = None
            for k in range(self.pieces):
                place = w.sum(k * strides[0], zip(at, strides[1:], strict=True))
                value = w.b.op(f"load {kind}, ptr {w.pointer(base, kind, place)}")
                total = value if total is None else w.b.op(f"fadd {kind} {total}, {value}")
            place = w.sum(c.y.offset, zip(at, c.y.strides, strict=True))
            w.b.do(f"store {kind} {total}, ptr {w.pointer('%b2', kind, place)}")

        inside([])
        return w.function("conv_end", ["ptr %b0", "ptr %b1", "ptr %b2", "ptr %scratch"])


_DTYPES = {"float": np.dtype("float32"), "double": np.dtype("float64")}


def _whole(c: Correlation) -> bool:
    """Tell whether the places are those of x."""
    return c.places == c.space and not any(c.low) and all(s == 1 for s in c.strides)


def correlation_code(c: Correlation, dtype: np.dtype) -> list[tuple[str, Code]]:
    """Return the functions of a convolution, by name, in the order in which they run.

    Each takes the addresses of x, w and y. All share their scratch.
    """
    c = _with_axis(c)
    by_taps = math.prod(c.window) > math.prod(c.places) and runs(c.w, 3, c.window)
    return (_Taps if by_taps else _Places)(c, dtype).codes()


def _with_axis(c: Correlation) -> Correlation:
    """Return a correlation with at least one space axis."""
    if c.space:
        return c
    one, zero = (1,), (0,)
    x, w, y = (replace(a, strides=(*a.strides, 0)) for a in (c.x, c.w, c.y))
    return replace(
        c, space=one, window=one, places=one, strides=one, dilation=one, low=zero, x=x, w=w, y=y
    )
