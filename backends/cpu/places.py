"""The schedule of convolutions that runs along the places of the output."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..correlate import runs
from ..epilogue import TILE
from ..kernel import Affine, row_major
from ..plan import Correlation
from . import packed
from .epilogue import Behind, Grid
from .gemm import beside, turned_over
from .llvm import Code
from .packed import Packing, Schedule, packing, pieces_of
from .vectors import Vectors
from .writer import Index

__all__ = ["Places"]

_BAND = 16  # tiles that shall share what is packed again for each band, where that is much
_SPELT = 4  # taps that a loop over them takes at a time, at most


def _whole(c: Correlation) -> bool:
    """Tell whether the places are those of x."""
    return c.places == c.space and not any(c.low) and all(s == 1 for s in c.strides)


class Places(Schedule):
    """A tile of out features by vectors of places in registers."""

    def __init__(self, c: Correlation, dtype: np.dtype, after: Behind | None = None) -> None:
        self.after = after
        raw = math.prod(c.window) == 1 and runs(c.x, 3, c.space) and _whole(c)
        self.taps = math.prod(c.window)
        super().__init__(c, dtype, self.packing_of(c, c.places[0]), raw)
        self.rows = min(range(min(8, c.outs), 0, -1), key=lambda r: -(-c.outs // r) * r)
        self.tiles = -(-c.outs // self.rows)
        self.blocks()
        run = self.block_places
        self.vectors = max(1, min(self.sums // self.rows, 8, -(-run // self.lanes)))
        self.weights = c.groups * self.tiles * c.features * self.taps * self.rows * self.bytes
        self.first_slot = -(-(packed.HEADER + self.weights) // 64) * 64
        self.slot = self.block_at = 0 if raw else self.packed(self.chunk)
        if after is not None:
            self.begin_block(after)

    @staticmethod
    def packing_of(c: Correlation, rows: int) -> Packing:
        moving = (rows, *c.places[1:])
        return packing(c.space, moving, c.strides, c.window, c.dilation, c.low)

    def blocks(self) -> None:
        """Choose how many places along the first axis one part makes, from how many features."""
        c = self.c
        self.height, self.chunk = c.places[0], c.features
        row = math.prod(c.places[1:])
        least = -(-2 * self.lanes // row)  # rows of two vectors
        pieces = -(-packed.PARTS // (c.batch * c.groups)) if c.products > packed.SMALL else 1
        most = 1 if self.after is not None and self.after.whole else c.places[0]
        pieces, fits, good = min(pieces, most), False, False
        while not good and pieces <= most and -(-c.places[0] // pieces) >= least:
            # Of about so many pieces, those that overlap least and fill their vectors best.
            heights = {-(-c.places[0] // k) for k in range(pieces, 2 * pieces)}
            self.height = min(
                (h for h in heights if h >= least),
                key=lambda h: (-(-c.places[0] // h) * -(-h * row // self.lanes), -h),
            )
            self.packing = self.packing_of(c, self.height)
            fits = self.raw or self.packed(c.features) <= packed.PACKED
            good = fits and (self.raw or self.block_bytes(c.outs, self.height) <= TILE)
            pieces += 1
        if not fits:  # whole planes of a few features at a time
            self.height = c.places[0]
            self.packing = self.packing_of(c, self.height)
            if not self.raw:
                per = self.packing.elements * self.bytes
                self.chunk = pieces_of(c.features, packed.PACKED // per)
        self.across = -(-c.places[0] // self.height)
        self.block_places = self.height * math.prod(c.places[1:])
        # Few blocks are shared out by out features too, though each packs its windows again.
        few = c.batch * c.groups * self.across
        bands = -(-packed.FEW // few) if c.products > packed.SMALL else 1
        if self.chunk < c.features:  # packing takes long
            bands = min(bands, max(2, self.tiles // _BAND))
        self.band = -(-self.tiles // min(bands, self.tiles))
        if self.after is not None:
            self.band = min(self.band, max(1, TILE // self.block_bytes(self.rows, self.height)))

    def block_bytes(self, rows: int, height: int) -> int:
        """Return the bytes of a block of so many out features, where it has a place of its own."""
        return rows * height * math.prod(self.c.places[1:]) * self.bytes if self.after else 0

    def begin_block(self, after: Behind) -> None:
        """Let tiles be written to a block in the slot, which a kernel reads afterwards."""
        c, run = self.c, self.block_places
        grid = Grid(
            c.batch * c.groups, c.outs, math.prod(c.places), self.band * self.rows, run,
            self.bytes, self.slots,
        )  # fmt: skip
        local = row_major((self.height, *c.places[1:]))
        self.c = replace(c, y=Affine(0, (0, 0, run, *local)))
        self.behind = after.rows(grid, "conv_rows")
        self.pointers = 1 + len(self.behind.kernel.buffers)
        self.slot += grid.slot

    def codes(self) -> list[tuple[str, Code]]:
        c = self.c
        sizes = (c.batch, c.groups, self.across, -(-self.tiles // self.band))
        scratch = self.first_slot + self.slot * self.slots
        self.guarded(lambda: self.calls(sizes))
        texts, work = [*self.constants(), self.finished("conv")], c.products // 8
        if self.after is not None:
            texts.append(self.behind.text())
            self.b.declared.update(self.behind.b.declared)
            work += self.behind.work
        main = Code("\n\n".join(texts), self.b.declared, math.prod(sizes), scratch, False, work)
        return [("weights", self.weights_code(scratch)), ("conv", main)]

    def weights_code(self, scratch: int) -> Code:
        """Return the function that arranges weights as tiles need them: (feature, tap, row)."""
        c, writer = self.c, Schedule(self.c, self.dtype, self.packing, self.raw)
        writer.symbol, writer.pointers = "weights", self.pointers
        offsets = [
            sum(k * s for k, s in zip(f, c.w.strides[3:], strict=True))
            for f in itertools.product(*map(range, c.window))
        ]
        wg, wo, wi = c.w.strides[:3]

        def part(at: list[Index]) -> None:
            g, t = at
            size = c.features * self.taps * self.rows
            start = writer.sum(0, [(g, self.tiles * size), (t, size)])
            to = writer.pointer(writer.pointer("%scratch", "i8", packed.HEADER), self.kind, start)

            def feature(i: Index) -> None:
                writer.each(self.taps, lambda k: tap(i, k))

            def tap(i: Index, k: Index) -> None:
                spot = writer.entry("tap", offsets, k)
                start = writer.sum(c.w.offset, [(g, wg), (i, wi), (spot, 1)])

                def row(r: Index) -> None:
                    o = writer.least(writer.sum(0, [(t, self.rows), (r, 1)]), c.outs - 1)
                    where = writer.pointer("%b1", self.kind, writer.sum(0, [(start, 1), (o, wo)]))
                    value = writer.b.op(f"load {self.kind}, ptr {where}")
                    there = writer.sum(0, [(i, self.taps * self.rows), (k, self.rows), (r, 1)])
                    writer.b.do(
                        f"store {self.kind} {value}, ptr {writer.pointer(to, self.kind, there)}"
                    )

                writer.each(self.rows, row)

            if runs(c.w, 2, (c.features, *c.window)):
                self.turned(writer, g, t, to)
            else:
                writer.each(c.features, feature)

        def run() -> None:
            writer.b.do("store i64 0, ptr %scratch, align 8")
            writer.parts((c.groups, self.tiles), part)

        writer.guarded(run)
        text = "\n\n".join([*writer.constants(), writer.finished("weights")])
        work = c.groups * c.outs * c.features * self.taps
        return Code(text, writer.b.declared, c.groups * self.tiles, scratch, False, work)

    def turned(self, writer: Schedule, g: Index, t: Index, to: str) -> None:
        """Write the copy of a tile's weights where those of every out feature lie in a row."""
        c, kind, size = self.c, self.kind, 16 // self.bytes
        many = 8 if self.rows > 4 else 4
        short, wide = Vectors(kind), Vectors(kind)
        short.shape(size)
        wide.shape(many)
        short.b = wide.b = writer.b
        mask = None if many == self.rows else wide.mask(self.rows)
        sources = []
        for r in range(many):
            o = writer.least(writer.sum(min(r, self.rows - 1), [(t, self.rows)]), c.outs - 1)
            start = writer.sum(c.w.offset, [(g, c.w.strides[0]), (o, c.w.strides[1])])
            sources.append(writer.pointer("%b1", kind, start))
        count = c.features * self.taps
        whole = count // size * size

        def some(k: Index, target: str) -> list[str]:
            x = [short.read(writer.pointer(source, kind, k)) for source in sources]
            for value in turned_over(wide, [beside(wide, x[i::size], size) for i in range(size)]):
                wide.write(value, target, mask)
                target = writer.pointer(target, kind, self.rows)
            return [target]

        if whole:
            writer.loop(0, whole, size, some, [("ptr", to)])
        for k in range(whole, count):
            for r, source in enumerate(sources[: self.rows]):
                value = writer.b.op(f"load {kind}, ptr {writer.pointer(source, kind, k)}")
                there = writer.pointer(to, kind, k * self.rows + r)
                writer.b.do(f"store {kind} {value}, ptr {there}")

    def calls(self, sizes: Sequence[int]) -> None:
        if not self.slot:
            self.parts(sizes, lambda at: self.part(at, None))
        else:
            base = self.pointer("%scratch", "i8", self.first_slot)
            self.held(
                base,
                self.slot,
                self.slots,
                lambda slot: self.parts(sizes, lambda at: self.part(at, slot)),
            )

    def part(self, at: list[Index], slot: str | None) -> None:
        """Write one block of places, and of out features, of one group of one sample."""
        c = self.c
        b, g, k, band = at
        self.first_tile = self.sum(0, [(band, self.band)])
        m0 = self.sum(0, [(k, self.height)])
        if self.across * self.height != c.places[0]:  # the last block overlaps the one before
            m0 = self.least(m0, c.places[0] - self.height)
        xb, xg, xi = c.x.strides[:3]
        yb, yg = c.y.strides[:2]
        if self.after is None or slot is None:
            start = self.sum(c.y.offset, [(b, yb), (g, yg), (m0, c.y.strides[3])])
            y = self.pointer("%b2", self.kind, start)
        else:
            block = self.pointer(slot, "i8", self.block_at)
            first = self.sum(0, [(self.first_tile, -self.rows * self.block_places * self.bytes)])
            y = self.b.op(f"getelementptr i8, ptr {block}, i64 {first}")

        def features(i0: Index) -> None:
            count = self.least(self.chunk, self.sum(c.features, [(i0, -1)]))
            start = self.sum(c.x.offset, [(b, xb), (g, xg), (i0, xi)])
            if self.raw:
                start = self.sum(0, [(start, 1), (m0, c.x.strides[3])])
            x = self.pointer("%b0", self.kind, start)
            if slot is not None and not self.raw:
                self.pack(x, slot, count, xi, m0)
                x = slot
            self.tiled(g, i0, count, x, y)

        if self.chunk == c.features:
            features(0)
        else:
            self.loop(0, c.features, self.chunk, features)
        if self.after is not None:
            self.finish_block(block, self.sum(0, [(b, c.groups), (g, 1)]), m0)

    def finish_block(self, block: str, number: Index, m0: Index) -> None:
        """Write the call of the kernel for the block at hand, of one group of one sample."""
        c, run = self.c, self.block_places
        first = self.sum(0, [(self.first_tile, self.rows)])
        count = self.least(self.band * self.rows, self.sum(c.outs, [(first, -1)]))
        lo = self.sum(0, [(number, c.outs), (first, 1)])
        left = self.sum(0, [(m0, math.prod(c.places[1:]))])
        before = self.sum(0, [(lo, -run * self.bytes), (left, -self.bytes)])
        # Not inbounds: it is where the result would begin, had it memory.
        y = self.b.op(f"getelementptr i8, ptr {block}, i64 {before}")
        others = iter(range(2, self.pointers))
        args = [
            f"ptr {y if n == self.behind.tile_number else f'%b{next(others)}'}"
            for n in range(len(self.behind.kernel.buffers))
        ]
        bounds = lo, self.sum(0, [(lo, 1), (count, 1)]), left, self.sum(run, [(left, 1)]), 0
        args += ["ptr %scratch", *(f"i64 {x}" for x in bounds)]
        self.b.do(f"call void @conv_rows({', '.join(args)})")

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

        def tile(k: Index) -> None:
            t = self.sum(0, [(k, 1), (self.first_tile, 1)])
            at = self.sum(0, [(g, self.tiles * c.features), (t, c.features), (i0, 1)])
            size = self.taps * self.rows
            w = self.pointer(
                self.pointer("%scratch", "i8", packed.HEADER), kind, self.sum(0, [(at, size)])
            )
            targets = [self.target(y, t, r, spots) for r in range(self.rows)]
            sums = self.starts(targets, masks, i0)
            sums = self.products(x, w, count, sums, masks)
            for r, to in enumerate(targets):
                for v, mask in enumerate(masks):
                    self.put(sums[r * len(masks) + v], to[v], mask, bool(spots))

        left = self.sum(self.tiles, [(self.first_tile, -1)])
        self.each(self.least(self.band, left), tile)

    def spots(self, q: Index) -> str:
        """Return the offsets of a vector of places that do not lie one after another."""
        sizes, steps = (self.height, *self.c.places[1:]), self.c.y.strides[3:]
        many = f"<{self.lanes} x i64>"
        apart = min(s for s, n in zip(steps, sizes, strict=True) if n > 1)
        even = zip(sizes, steps, row_major(sizes), strict=True)
        if all(n == 1 or s == apart * r for n, s, r in even):
            factor = self.splat(str(apart), "i64")
            return self.b.op(f"mul nsw {many} {self.lane_numbers(q)}, {factor}")
        values = [
            sum(k * s for k, s in zip(p, steps, strict=True))
            for p in itertools.product(*map(range, sizes))
        ]
        values += [0] * self.lanes
        at = self.b.op(f"getelementptr i64, ptr {self.table('spot', values)}, i64 {q}")
        return self.b.op(f"load {many}, ptr {at}, align 8")

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
