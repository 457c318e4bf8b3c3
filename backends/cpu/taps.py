"""The schedule of convolutions that runs along large windows: gradients of weights."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from funtorch.dims import NotDynamic, fixed

from ..correlate import runs
from ..kernel import row_major
from ..plan import Correlation
from . import packed
from .llvm import Code
from .packed import Schedule, packing, pieces_of
from .writer import Index, Routine

__all__ = ["Taps"]


class Taps(Schedule):
    """A tile of out features by samples and places in registers, as vectors until the end."""

    def __init__(self, c: Correlation, dtype: np.dtype) -> None:
        if not fixed(c.batch):
            raise NotDynamic("convolutions of large windows are compiled for one batch size")
        raw = math.prod(c.places) == 1 and runs(c.x, 3, c.space) and c.window == c.space
        raw = raw and not any(c.low) and all(d == 1 for d in c.dilation)
        layout = packing(c.space, c.window, c.dilation, c.places, c.strides, c.low)
        super().__init__(c, dtype, layout, raw)
        self.run, self.places = math.prod(c.window), math.prod(c.places)
        wide = 9 if self.sums >= 24 else 4
        self.spots = pieces_of(self.places, wide)
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
        most = min(packed.SUMS // per, packed.PACKED // max(plane, 1), c.batch)
        large = int(self.c.products) > packed.SMALL
        if large:
            most = min(most, -(-c.batch * c.groups // packed.PARTS))
        self.together = max(self.samples, most // self.samples * self.samples)
        self.sample_tiles = -(-self.together // self.samples)
        self.across = -(-c.batch // self.together)
        parts = c.groups * self.across
        pieces = min(int(c.features), -(-packed.PARTS // parts)) if large else 1
        self.depth = -(-c.features // pieces)
        self.pieces = -(-c.features // self.depth)
        outputs = c.batch * c.groups * c.outs * self.places
        partial = outputs * self.pieces * self.bytes if self.pieces != 1 else 0
        self.first_slot = -(-(packed.HEADER + partial) // 64) * 64
        most = packed.RUN // self.run
        self.features = max(
            1, min(self.depth, most) if fixed(self.depth) else most
        )  # multiplied at a time
        if not self.raw:
            self.features = max(1, min(self.features, packed.PACKED // (self.together * plane)))
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
                self.slots,
                lambda slot: self.parts(sizes, lambda at: self.part(at, slot)),
            )
        )
        texts = [*self.constants(), self.finished("conv")]
        if self.pieces != 1:
            texts.append(self.end())
        text = "\n\n".join(texts)
        main = Code(
            text, self.b.declared, math.prod(sizes), scratch, self.pieces != 1, self.c.products // 8
        )
        start = Routine()
        start.b.do("store i64 0, ptr %scratch, align 8")
        args = ["ptr %b0", "ptr %b1", "ptr %b2", "ptr %scratch", "i64 %lo", "i64 %hi"]
        free = Code(start.text("slots", args), {}, 1, scratch, False, 1)
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
        if whole <= packed.RUN:
            self.tiles(lambda *tile: self.products(x, w, sums, count, (0, whole), True, *tile))
            return

        def some(q: Index) -> None:
            stop = self.least(self.sum(packed.RUN, [(q, 1)]), whole)
            self.tiles(lambda *tile: self.products(x, w, sums, count, (q, stop), False, *tile))

        self.loop(0, whole, packed.RUN, some)
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
            if self.pieces != 1:
                shape = (self.pieces, c.batch, c.groups, c.outs, self.places)
                strides, base = row_major(shape), self.pointer("%scratch", "i8", packed.HEADER)
                place = self.sum(0, zip((piece, *here, q), strides, strict=True))
            else:
                base = "%b2"
                spot = self.entry("spot", spots, q)
                terms = [*zip(here, c.y.strides[:3], strict=True), (spot, 1)]
                place = self.sum(c.y.offset, terms)
            self.b.do(f"store {kind} {total}, ptr {self.pointer(base, kind, place)}")

    def end(self) -> str:
        """Return the function that adds up what the pieces of the features gave."""
        c, w, kind = self.c, Routine(), self.kind
        strides = row_major((self.pieces, c.batch, c.groups, c.outs, *c.places))
        base = w.pointer("%scratch", "i8", packed.HEADER)

        def inside(at: list[Index]) -> None:
            if len(at) < 3 + len(c.places):
                sizes = (c.batch, c.groups, c.outs, *c.places)
                w.each(sizes[len(at)], lambda i: inside([*at, i]))
                return

            def piece(k: Index) -> str:
                place = w.sum(0, [(k, strides[0]), *zip(at, strides[1:], strict=True)])
                return w.b.op(f"load {kind}, ptr {w.pointer(base, kind, place)}")

            def more(k: Index, total: str) -> list[str]:
                return [w.b.op(f"fadd {kind} {total}, {piece(k)}")]

            if fixed(self.pieces):
                total = functools.reduce(
                    lambda x, k: more(k, x)[0], range(1, self.pieces), piece(0)
                )
            else:
                (total,) = w.loop(0, self.pieces, 1, more, [(kind, "0.0")])
            place = w.sum(c.y.offset, zip(at, c.y.strides, strict=True))
            w.b.do(f"store {kind} {total}, ptr {w.pointer('%b2', kind, place)}")

        inside([])
        return w.text("conv_end", ["ptr %b0", "ptr %b1", "ptr %b2", "ptr %scratch"])
