"""The library of products of rows by rows: both operands are read along the sum, as they lie.

Where the terms of sums lie side by side in a and in b, a tile of some rows of a by some rows of b
(columns of the result) is a vector of partial sums each, which are added up at the end. Nothing is
packed, so b is read once from memory: what products of few rows take their time for. The rows of b
may be integers of 8 or 4 bits, which become floats in registers, and are scaled there: 16 integers
of 4 bits are places in a table of 16 multiples of their group's scale.

References:
    Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: accurate post-training quantization for generative
    pre-trained transformers", arXiv:2210.17323 (2022): weights in groups with scales, read by
    kernels that make floats of them on the way.
"""

from __future__ import annotations

from collections.abc import Sequence

from .packed import registers
from .tabled import Tabled
from .vectors import Vectors
from .writer import Index

__all__ = ["ALONG", "ALONG_FIELDS", "ALONG_SYMBOL", "along_symbol", "along_text", "most_columns"]

ALONG_SYMBOL = "funtorch_along_"
"""What the names of the library's functions begin with."""

ALONG = {
    "float32": "float",
    "float64": "double",
    "bytes": "float",
    "scaled": "float",
    "nibbles": "float",
}
"""LLVM's names of what sums are of, by what b is: these floats, or integers that float32 meet:
of 8 bits, of 8 bits in groups with scales, of 4 bits in groups with scales."""

ALONG_FIELDS = (
    "across", "down", "m", "n", "rows", "columns", "k", "groups", "a", "b", "c", "ar", "bn", "cr",
    "axes", "slots", "slot", "room",
)  # fmt: skip
"""What a table holds, in order; behind it, for every batch axis, its size and three strides.

across, down: blocks of columns, and of rows. m, n: rows and columns; rows, columns: of a block. k:
terms of a group; groups: of a sum, each with a scale for every column. a, b, c: where the arrays
begin. ar, bn, cr: how far apart rows of a, rows of b (in bytes where it is integers) and rows of c
are. axes: number of batch axes. slots, slot, room: where in the scratch copies of a tile's rows go,
bytes of one, and how many there are: none if a is read where it lies.
"""


def most_columns(rows: int) -> int:
    """Return how many columns a tile of so many rows has."""
    if registers()[1] < 24:
        return {1: 4, 2: 4, 3: 3, 4: 2}.get(rows, 1)
    return {1: 8, 2: 8, 3: 6, 4: 5, 5: 4, 6: 4, 7: 3, 8: 3}[rows]


class _Weights(Vectors):
    """Writes how vectors of b are read: as floats that lie there."""

    halves = 1  # terms that lie in one place
    integers = scaled = False  # whether they are no floats, and whether they have scales

    def of_group(self, scales: Sequence[str]) -> list[str]:
        """Return what the columns of a group of weights are read with."""
        return list(scales)

    def weights(self, at: str, mask: str | None, group: str) -> list[str]:
        """Return the floats at a vector of places, one vector for each half."""
        return [self.read(at, mask)]

    def weight_at(self, base: str, offset: Index) -> str:
        return self.element(base, offset)


class _Bytes(_Weights):
    """Weights are integers of 8 bits."""

    integers = True

    def narrow(self, at: str, mask: str | None) -> str:
        """Return the bytes at a vector of places."""
        v = f"<{self.lanes} x i8>"
        if mask is None:
            return self.b.op(f"load {v}, ptr {at}, align 1")
        name = f"llvm.masked.load.v{self.lanes}i8.p0"
        self.b.declared[name] = f"declare {v} @{name}(ptr, i32 immarg, {self.bits}, {v})"
        return self.b.op(
            f"call {v} @{name}(ptr {at}, i32 1, {self.bits} {mask}, {v} zeroinitializer)"
        )

    def weights(self, at: str, mask: str | None, group: str) -> list[str]:
        wide, v = f"<{self.lanes} x i32>", f"<{self.lanes} x i8>"
        whole = self.b.op(f"sext {v} {self.narrow(at, mask)} to {wide}")
        return [self.b.op(f"sitofp {wide} {whole} to {self.vector}")]

    def weight_at(self, base: str, offset: Index) -> str:
        return self.pointer(base, "i8", offset)


class _Scaled(_Bytes):
    """Weights are integers of 8 bits in groups with scales."""

    scaled = True

    def weights(self, at: str, mask: str | None, group: str) -> list[str]:
        numbers = super().weights(at, mask, group)
        return [self.b.op(f"fmul {self.vector} {x}, {group}") for x in numbers]


class _Nibbles(_Bytes):
    """Weights are integers of 4 bits, a group's first half in the low ones of its bytes."""

    halves, scaled = 2, True

    def of_group(self, scales: Sequence[str]) -> list[str]:
        """Return tables of the multiples of scales where a vector has as many places."""
        if self.lanes != 16:
            return list(scales)
        steps = f"<{', '.join(f'float {k - 8}.0' for k in range(16))}>"
        return [self.b.op(f"fmul {self.vector} {steps}, {s}") for s in scales]

    def weights(self, at: str, mask: str | None, group: str) -> list[str]:
        wide, v = f"<{self.lanes} x i32>", f"<{self.lanes} x i8>"
        low = self.b.op(f"zext {v} {self.narrow(at, mask)} to {wide}")
        high = self.b.op(f"lshr {wide} {low}, {self._all(4)}")
        return [self._number(x, group) for x in (low, high)]

    def _number(self, x: str, group: str) -> str:
        wide, v = f"<{self.lanes} x i32>", self.vector
        if self.lanes == 16:  # of which the lowest four bits are the place
            name = "llvm.x86.avx512.permvar.sf.512"
            self.b.declared[name] = f"declare {v} @{name}({v}, {wide})"
            return self.b.op(f"call {v} @{name}({v} {group}, {wide} {x})")
        less = self.b.op(f"and {wide} {x}, {self._all(15)}")
        less = self.b.op(f"sub {wide} {less}, {self._all(8)}")
        number = self.b.op(f"sitofp {wide} {less} to {v}")
        return self.b.op(f"fmul {v} {number}, {group}")

    def _all(self, value: int) -> str:
        return f"<{', '.join([f'i32 {value}'] * self.lanes)}>"


_KINDS: dict[str, type[_Weights]] = {"bytes": _Bytes, "scaled": _Scaled, "nibbles": _Nibbles}

_TILE = ("a", "b", "c", "scales"), (
    "k", "groups", "ar", "bn", "cr", "high", "wide", "first", "step", "way",
)  # fmt: skip


def _tile(w: _Weights, columns: int) -> Vectors:
    """Write ``c[r, j] = sum over k of a[r, k] * b[j, k]`` for a tile of rows and columns.

    Rows from ``high`` on and columns from ``wide`` on are the last ones once more. ``way``: from
    one half of a group to the next one in a; ``first``, ``step``: from the first vector of a half
    to the second one, and on.
    """
    rows = w.rows
    up, right = w.minus("%high", 1), w.minus("%wide", 1)
    places_r = [w.least(r, up) if r else 0 for r in range(rows)]
    places_j = [w.least(j, right) if j else 0 for j in range(columns)]
    below = [w.element("%a", w.times(r, "%ar")) for r in places_r]
    beside = [w.weight_at("%b", w.times(j, "%bn")) for j in places_j]
    scales = [w.element("%scales", w.times(j, "%groups")) for j in places_j] if w.scaled else []
    half, rest, mask, more = _begun(w, w.b.op(f"lshr i64 %k, {w.halves - 1}"))

    def group(g: Index, *now: str) -> list[str]:
        at = w.times(w.times(g, w.halves), "%way")
        at_b = w.times(g, half)
        spread = [w.splat(w.b.op(f"load {w.kind}, ptr {w.element(s, g)}, align 4")) for s in scales]
        tables = w.of_group(spread) if spread else [""] * columns
        starts_a = [[w.element(p, at, h) for p in below] for h in (0, "%way")[: w.halves]]
        starts_b = [w.weight_at(p, at_b) for p in beside]

        def terms(k: Index, ka: Index, mask: str | None, sums: Sequence[str]) -> list[str]:
            out = list(sums)
            found = [
                w.weights(w.weight_at(p, k), mask, t) for p, t in zip(starts_b, tables, strict=True)
            ]
            for h in range(w.halves):
                for r in range(rows):
                    x = w.read(w.element(starts_a[h][r], ka), mask)
                    for j in range(columns):
                        n = r * columns + j
                        out[n] = w.product(x, found[j][h], out[n])
            return out

        def turn(k: Index, ka: str, *sums: str) -> list[str]:
            return [w.plus(ka, "%step"), *terms(k, ka, None, sums)]

        carried = [("i64", "%first"), *((w.vector, x) for x in terms(0, 0, mask, now))]
        return w.loop_if(more, rest, half, w.lanes, turn, carried)[1:]

    zeros = [(w.vector, "zeroinitializer")] * (rows * columns)
    sums = w.loop(0, "%groups", 1, group, zeros) if w.scaled else group(0, *(z for _, z in zeros))
    for n, total in enumerate(_totals(w, sums)):
        r, j = divmod(n, columns)
        to = w.element("%c", w.times(places_r[r], "%cr"), places_j[j])
        w.b.do(f"store {w.kind} {total}, ptr {to}, align {w.bytes}")
    return w


def _begun(w: Vectors, count: Index) -> tuple[Index, str, str, str]:
    """Return so many terms, how many of these come first, their mask, and whether more do.

    What is no whole vector comes first, so that something always does.
    """
    rest = w.plus(w.b.op(f"urem i64 {w.minus(count, 1)}, {w.lanes}"), 1)
    return count, rest, w.mask(rest), w.b.op(f"icmp slt i64 {rest}, {count}")


_DEAL = ("from", "to"), ("k", "halves", "ar", "high")


def _dealt(w: Vectors) -> Vectors:
    """Write a tile's rows of a side by side, vector by vector: runs of ``k`` terms, of which the
    first vector is filled with zeros; rows beyond the last one are that once more."""
    up = w.minus("%high", 1)
    below = [w.element("%from", w.times(w.least(r, up), "%ar")) for r in range(w.rows)]
    count, rest, mask, more = _begun(w, "%k")
    step = w.rows * w.lanes

    def copied(at: Index, to: str, mask: str | None) -> str:
        for r, start in enumerate(below):
            w.write(w.read(w.element(start, at), mask), w.element(to, r * w.lanes))
        return w.element(to, step)

    def half(h: Index, to: str) -> list[str]:
        start = w.times(h, count)

        def turn(k: Index, to: str) -> list[str]:
            return [copied(w.plus(start, k), to, None)]

        return w.loop_if(more, rest, count, w.lanes, turn, [("ptr", copied(start, to, mask))])

    w.loop(0, "%halves", 1, half, [("ptr", "%to")])
    return w


def _totals(w: Vectors, sums: Sequence[str]) -> list[str]:
    """Return the totals of the lanes of vectors.

    As many vectors as there are lanes become one: each step adds the halves of two vectors'
    blocks, which lie side by side in the result.
    """
    found: list[str] = []
    for start in range(0, len(sums), w.lanes):
        vectors: list[str | None] = list(sums[start : start + w.lanes])
        count = len(vectors)
        vectors += [None] * (w.lanes - count)
        names = [[n] * w.lanes for n in range(w.lanes)]  # whose total each lane is a part of
        size = w.lanes // 2
        while size:
            pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
            vectors = [_halved(w, x, y, size) for x, y in pairs]
            names = [
                [z for at in range(0, w.lanes, 2 * size) for s in (x, y) for z in s[at : at + size]]
                for x, y in zip(names[::2], names[1::2], strict=True)
            ]
            size //= 2
        for n in range(count):
            lane = names[0].index(n)
            found.append(w.b.op(f"extractelement {w.vector} {vectors[0]}, i64 {lane}"))
    return found


def _halved(w: Vectors, x: str | None, y: str | None, size: int) -> str | None:
    if x is None:
        return None
    blocks = range(0, w.lanes, 2 * size)
    low, high = (
        [at + k + n for at in blocks for n in (start, w.lanes + start) for k in range(size)]
        for start in (0, size)
    )
    v = w.vector
    parts = [
        w.b.op(
            f"shufflevector {v} {x}, {v} {y or 'poison'}, <{w.lanes} x i32> "
            f"<{', '.join(f'i32 {n}' for n in order)}>"
        )
        for order in (low, high)
    ]
    return w.added(*parts)


_MAIN = ("a", "b", "c", "table", "scratch"), ("lo", "hi")


class _Parts(Tabled):
    """Writes the function that makes some blocks of a product.

    ``%b`` is where b's floats are, or else where the addresses of its integers and scales are.
    """

    def __init__(self, kind: str, rows: int, symbol: str, writer: type[_Weights]) -> None:
        super().__init__(kind, ALONG_FIELDS, rows)
        self.symbol, self.scaled, self.integers = symbol, writer.scaled, writer.integers
        self.columns, self.halves = most_columns(rows), writer.halves
        go = self.b.op("icmp slt i64 %lo, %hi")
        self.packs = self.b.op(f"icmp ne i64 {self.f['room']}, 0")
        some = self.b.op(f"and i1 {go}, {self.packs}")
        none = self.b.op(f"and i1 {go}, {self.b.op(f'xor i1 {self.packs}, true')}")

        def with_slot() -> None:
            base = self.pointer("%scratch", "i8", self.f["slots"])
            self.held(base, self.f["slot"], self.f["room"], self.run)

        self.when(none, lambda: self.run("null"))
        self.when(some, with_slot)

    def run(self, slot: str) -> None:
        """Write the loop over the parts."""
        self.loop("%lo", "%hi", 1, lambda p: self.part(p, slot))

    def part(self, p: Index, slot: str) -> None:
        """Write one block of one product."""
        f, b = self.f, self.b
        blocks = self.times(f["down"], f["across"])
        number, block = b.op(f"udiv i64 {p}, {blocks}"), b.op(f"urem i64 {p}, {blocks}")
        row = self.times(b.op(f"udiv i64 {block}, {f['across']}"), f["rows"])
        column = self.times(b.op(f"urem i64 {block}, {f['across']}"), f["columns"])
        a0, b0, c0 = self.batch(number)
        high = self.least(f["rows"], self.minus(f["m"], row))
        wide = self.least(f["columns"], self.minus(f["n"], column))
        a = self.element("%a", a0, self.times(row, f["ar"]))
        along = self.plus(b0, self.times(column, f["bn"]))
        start = scales = "%b"
        kind = "i8" if self.integers else self.kind
        if self.integers:
            start = b.op("load ptr, ptr %b, align 8")
        if self.scaled:
            scales = b.op(f"load ptr, ptr {self.pointer('%b', 'ptr', 1)}, align 8")
            scales = self.element(scales, self.times(column, f["groups"]))
        start = self.pointer(start, kind, along)
        c = self.element("%c", c0, self.times(row, f["cr"]), column)

        half = b.op(f"lshr i64 {f['k']}, {self.halves - 1}")
        rest = self.plus(b.op(f"urem i64 {self.minus(half, 1)}, {self.lanes}"), 1)
        step = self.rows * self.lanes
        runs = self.times(b.op(f"udiv i64 {self.plus(half, self.lanes - 1)}, {self.lanes}"), step)
        ways = [
            self.chosen(self.packs, x, y)
            for x, y in ((self.lanes, f["ar"]), (step, rest), (step, self.lanes), (runs, half))
        ]

        def tile(source: str, i: Index, j: Index) -> None:
            pointers = [
                source,
                self.pointer(start, kind, self.times(j, f["bn"])),
                self.element(c, self.times(i, f["cr"]), j),
                self.element(scales, self.times(j, f["groups"])) if self.scaled else scales,
            ]
            numbers = [f["k"], f["groups"], ways[0], f["bn"], f["cr"]]
            numbers += [self.minus(high, i), self.minus(wide, j), *ways[1:]]
            self.call("tile", pointers, numbers)

        def tiles(i: Index) -> None:
            there = self.element(a, self.times(i, f["ar"]))
            halves = self.times(f["groups"], self.halves)
            numbers = [half, halves, f["ar"], self.minus(high, i)]
            self.when(self.packs, lambda: self.call("deal", [there, slot], numbers))
            source = b.select(self.packs, slot, there, "ptr")
            self.loop(0, wide, self.columns, lambda j: tile(source, i, j))

        self.loop(0, high, self.rows, tiles)

    def call(self, name: str, pointers: Sequence[str], numbers: Sequence[Index]) -> None:
        given = [*(f"ptr {x}" for x in pointers), *(f"i64 {x}" for x in numbers)]
        self.b.do(f"call void @{self.symbol}_{name}({', '.join(given)})")


def along_symbol(what: str, rows: int) -> str:
    """Return the name of the function that makes products with tiles of ``rows`` rows:

    ``void f(ptr a, ptr b, ptr c, ptr table, ptr scratch, i64 lo, i64 hi)``, where b is the address
    of integers' address and their scales' where it is integers.
    """
    return f"{ALONG_SYMBOL}{what}_{rows}"


def along_text(what: str, rows: int) -> str:
    """Return the module of products along sums of one of `ALONG`, with tiles of ``rows`` rows."""
    kind, symbol = ALONG[what], along_symbol(what, rows)
    writer = _KINDS.get(what, _Weights)
    made: list[tuple[str, Vectors, Sequence[str], Sequence[str], bool]] = [
        ("_tile", _tile(writer(kind, rows), most_columns(rows)), *_TILE, False),
        ("_deal", _dealt(Vectors(kind, rows)), *_DEAL, False),
        ("", _Parts(kind, rows, symbol, writer), *_MAIN, True),
    ]
    texts, declared = [], {}
    for name, w, pointers, numbers, cold in made:
        args = [*(f"ptr %{p}" for p in pointers), *(f"i64 %{n}" for n in numbers)]
        text = w.text(f"{symbol}{name}", args, cold)
        texts.append(text if name else text.replace("define internal", "define"))
        declared.update(w.b.declared)
    return "\n\n".join([*texts, *declared.values()])
