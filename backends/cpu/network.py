"""Sort many short rows at once: a sorting network, whose every lane is a row.

A block of rows lies in memory of the call's own with an element of each row in one vector, rounded
up to a power of two by greatest numbers. Sixteen vectors at a time are sorted in registers, then
sorted runs are merged two by two: the first comparison of a merge mirrors the second run, the
others halve the distance. Up to four of them are done at a time on sixteen vectors in registers.

References:
    K. E. Batcher, "Sorting networks and their applications", 1968.
    D. E. Knuth, "The art of computer programming", volume 3, 1998, section 5.3.4.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..plan import Sort
from .llvm import Code
from .packed import registers
from .writer import Index, Routine

__all__ = ["comparisons", "lanes_of", "network_code"]

_REGISTERS = 16  # vectors that are compared without going to memory


def _size(n: int) -> int:
    """Return the power of two that rows are rounded up to."""
    return max(1 << (n - 1).bit_length(), _REGISTERS)


def _wide(step: Sort) -> int:
    """Return the bytes of an element in registers."""
    return max(step.out.aval.dtype.itemsize, 4)


def lanes_of(step: Sort) -> int:
    """Return how many rows are sorted at once."""
    return int(registers()[0]) // _wide(step)


def comparisons(n: int) -> int:
    """Return how many pairs of vectors are compared to sort rows of n."""
    levels = _size(n).bit_length() - 1
    return _size(n) // 2 * levels * (levels + 1) // 2


def _sorted16() -> list[tuple[int, int]]:
    """Return the comparisons that sort sixteen elements, by Batcher's odd-even merges."""
    found, n, p = [], _REGISTERS, 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                for i in range(min(k, n - j - k)):
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p):
                        found.append((i + j, i + j + k))
            k //= 2
        p *= 2
    return found


def _halving(first: int, count: int) -> list[tuple[int, int]]:
    """Return the comparisons that halve their distance, among ``count`` vectors."""
    found, d = [], count // 2
    while d:
        found += [(first + i, first + i + d) for i in range(count) if not i & d]
        d //= 2
    return found


class _Writing(Routine):
    """Writes the functions of a network."""

    def __init__(self, step: Sort) -> None:
        super().__init__()
        self.step, self.lanes = step, lanes_of(step)
        self.element = f"i{8 * step.out.aval.dtype.itemsize}"
        self.kind = f"i{8 * _wide(step)}"
        self.vector = f"<{self.lanes} x {self.kind}>"

    # ---------------------------------------------------------------- vectors
    def extreme(self, which: str, x: str, y: str) -> str:
        name = f"llvm.{which}.v{self.lanes}{self.kind}"
        v = self.vector
        self.b.declared[name] = f"declare {v} @{name}({v}, {v})"
        return self.b.op(f"call {v} @{name}({v} {x}, {v} {y})")

    def compare(self, xs: list[str], pairs: Sequence[tuple[int, int]]) -> None:
        """Put the smaller elements of pairs of vectors into the first, the greater into the
        second."""
        for i, j in pairs:
            x, y = xs[i], xs[j]
            xs[i], xs[j] = self.extreme("umin", x, y), self.extreme("umax", x, y)

    def transposed(self, xs: Sequence[str]) -> list[str]:
        """Return the columns of a square of vectors: halves are interleaved over and over."""
        n, xs = len(xs), list(xs)
        masks = [
            ", ".join(f"i32 {first + k // 2 + n * (k % 2)}" for k in range(n))
            for first in (0, n // 2)
        ]
        for _ in range(n.bit_length() - 1):
            xs = [
                self.b.op(
                    f"shufflevector {self.vector} {xs[i]}, {self.vector} {xs[i + n // 2]}, "
                    f"<{n} x i32> <{mask}>"
                )
                for i in range(n // 2)
                for mask in masks
            ]
        return xs

    def places(self, buffer: str, places: Sequence[Index]) -> list[str]:
        return [self.pointer(buffer, self.vector, p) for p in places]

    def worked(self, buffer: str, places: Sequence[Index], pairs: list[tuple[int, int]]) -> None:
        """Compare vectors where they lie."""
        at = self.places(buffer, places)
        xs = [self.b.op(f"load {self.vector}, ptr {p}") for p in at]
        self.compare(xs, pairs)
        for x, p in zip(xs, at, strict=True):
            self.b.do(f"store {self.vector} {x}, ptr {p}")

    # ---------------------------------------------------------------- rows
    def mask(self, start: Index) -> str | None:
        """Return which of the neighbouring elements from ``start`` on a row has; None: all."""
        n, v = self.step.n, self.lanes
        if n % _REGISTERS == 0:
            return None
        left = self.b.op(f"sub i64 {n}, {start}")
        one = self.b.op(f"insertelement <{v} x i64> poison, i64 {left}, i32 0")
        many = self.b.op(
            f"shufflevector <{v} x i64> {one}, <{v} x i64> poison, <{v} x i32> zeroinitializer"
        )
        numbers = ", ".join(f"i64 {k}" for k in range(v))
        return self.b.op(f"icmp sgt <{v} x i64> {many}, <{numbers}>")

    def read(self, pointer: str, mask: str | None) -> str:
        v, memory = self.lanes, f"<{self.lanes} x {self.element}>"
        align = self.step.out.aval.dtype.itemsize
        if mask is None:
            found = self.b.op(f"load {memory}, ptr {pointer}, align {align}")
        else:
            name = f"llvm.masked.load.v{v}{self.element}.p0"
            self.b.declared[name] = f"declare {memory} @{name}(ptr, i32, <{v} x i1>, {memory})"
            ones = ", ".join(f"{self.element} -1" for _ in range(v))
            found = self.b.op(
                f"call {memory} @{name}(ptr {pointer}, i32 {align}, <{v} x i1> {mask}, "
                f"{memory} <{ones}>)"
            )
        return (
            found if memory == self.vector else self.b.op(f"zext {memory} {found} to {self.vector}")
        )

    def write(self, value: str, pointer: str, mask: str | None) -> None:
        v, memory = self.lanes, f"<{self.lanes} x {self.element}>"
        align = self.step.out.aval.dtype.itemsize
        if memory != self.vector:
            value = self.b.op(f"trunc {self.vector} {value} to {memory}")
        if mask is None:
            self.b.do(f"store {memory} {value}, ptr {pointer}, align {align}")
            return
        name = f"llvm.masked.store.v{v}{self.element}.p0"
        self.b.declared[name] = f"declare void @{name}({memory}, ptr, i32, <{v} x i1>)"
        self.b.do(
            f"call void @{name}({memory} {value}, ptr {pointer}, i32 {align}, <{v} x i1> {mask})"
        )

    def blocks(self, body: object) -> None:
        """Write a loop over the places of sixteen neighbouring elements."""
        count = -(-self.step.n // _REGISTERS)
        self.each(count, lambda k: body(self.sum(0, [(k, _REGISTERS)])))  # type: ignore[operator]

    # ---------------------------------------------------------------- the functions
    def flip(self, levels: int) -> str:
        """Return the function of the first comparisons of all merges of two runs of size ``%k``.

        The first mirrors the second run; ``levels`` more halve their distance.
        """
        count = 1 << levels
        pairs = [(j, 2 * count - 1 - j) for j in range(count)]
        pairs += [
            pair
            for d in (count >> e for e in range(1, levels + 1))
            for first in (0, count)
            for pair in ((first + i, first + i + d) for i in range(count) if not i & d)
        ]
        twice = self.b.op("shl i64 %k, 1")
        stride = self.b.op(f"lshr i64 %k, {levels}")
        far = self.b.op(f"sub i64 {stride}, 1")

        def run(start: Index) -> None:
            def one(i: Index) -> None:
                low = self.b.op(f"add i64 {start}, {i}")
                mirrored = self.b.op(f"sub i64 {far}, {i}")
                high = self.b.op(f"add i64 {self.b.op(f'add i64 {start}, %k')}, {mirrored}")
                steps = [self.b.op(f"mul i64 {stride}, {j}") for j in range(count)]
                places = [self.b.op(f"add i64 {p}, {s}") for p in (low, high) for s in steps]
                self.worked("%buffer", places, pairs)

            self.each(stride, one)

        self.stepped(twice, run)
        return self.helper(f"flip{levels}")

    def clean(self) -> str:
        """Return the function of four comparisons of halving distances, of runs of size ``%k``."""
        stride = self.b.op(f"lshr i64 %k, {_REGISTERS.bit_length() - 1}")

        def run(start: Index) -> None:
            def one(i: Index) -> None:
                first = self.b.op(f"add i64 {start}, {i}")
                steps = [self.b.op(f"mul i64 {stride}, {j}") for j in range(_REGISTERS)]
                places = [self.b.op(f"add i64 {first}, {s}") for s in steps]
                self.worked("%buffer", places, _halving(0, _REGISTERS))

            self.each(stride, one)

        self.stepped("%k", run)
        return self.helper("clean")

    def stepped(self, size: str, body: object) -> None:
        """Write a loop over the starts of runs below ``%n``."""
        up = self.b.op(f"add i64 %n, {size}")
        count = self.b.op(f"udiv i64 {self.b.op(f'sub i64 {up}, 1')}, {size}")
        self.each(count, lambda r: body(self.b.op(f"mul i64 {r}, {size}")))  # type: ignore[operator]

    def helper(self, name: str) -> str:
        return "\n".join(
            [
                f"define internal void @sort_{name}(ptr noalias %buffer, i64 %n, i64 %k) noinline "
                "nounwind #0 {",
                "entry:",
                *self.b.lines,
                "  ret void",
                "}",
            ]
        )

    def group(self, number: Index) -> None:
        """Write the sorting of one group of rows."""
        step, buffer = self.step, self.buffer
        firsts = [
            self.sum(0, [(self.least(self.sum(r, [(number, self.lanes)]), step.rows - 1), step.n)])
            for r in range(self.lanes)
        ]

        def squares(start: Index) -> list[tuple[Index, str | None]]:
            starts = [self.sum(k, [(start, 1)]) for k in range(0, _REGISTERS, self.lanes)]
            return [(p, self.mask(p)) for p in starts]

        def take(start: Index) -> None:
            xs: list[str] = []
            for p, mask in squares(start):
                at = [
                    self.pointer("%b0", self.element, self.sum(0, [(f, 1), (p, 1)])) for f in firsts
                ]
                xs += self.transposed([self.read(q, mask) for q in at])
            self.compare(xs, _sorted16())
            places = [self.sum(k, [(start, 1)]) for k in range(_REGISTERS)]
            for x, p in zip(xs, self.places(buffer, places), strict=True):
                self.b.do(f"store {self.vector} {x}, ptr {p}")

        def give(start: Index) -> None:
            places = [self.sum(k, [(start, 1)]) for k in range(_REGISTERS)]
            xs = [self.b.op(f"load {self.vector}, ptr {p}") for p in self.places(buffer, places)]
            for k, (p, mask) in enumerate(squares(start)):
                square = self.transposed(xs[k * self.lanes : (k + 1) * self.lanes])
                for f, x in zip(firsts, square, strict=True):
                    at = self.pointer("%b1", self.element, self.sum(0, [(f, 1), (p, 1)]))
                    self.write(x, at, mask)

        self.blocks(take)
        for half in range(_REGISTERS.bit_length() - 1, _size(step.n).bit_length() - 1):
            levels = (half - 4) % 4
            self.call(f"flip{levels}", 1 << half)
            k = 1 << (half - levels)
            while k > 1:
                self.call("clean", k)
                k //= _REGISTERS
        self.blocks(give)

    def call(self, name: str, k: int) -> None:
        self.b.do(f"call void @sort_{name}(ptr {self.buffer}, i64 {self.step.n}, i64 {k})")

    def main(self) -> str:
        size, filled = _size(self.step.n), -(-self.step.n // _REGISTERS) * _REGISTERS
        self.buffer = self.cell(self.vector, size)
        if filled < size:
            ones = ", ".join(f"{self.kind} -1" for _ in range(self.lanes))

            def fill(k: str) -> None:
                at = self.pointer(self.buffer, self.vector, k)
                self.b.do(f"store {self.vector} <{ones}>, ptr {at}")

            self.loop(filled, size, 1, fill)
        self.loop("%lo", "%hi", 1, self.group)
        args = ["ptr %b0", "ptr %b1", "ptr %scratch", "i64 %lo", "i64 %hi"]
        return self.text("sort", args)


def network_code(step: Sort) -> Code:
    """Return the function of a sort of short rows; its parts are as many rows as a vector has
    lanes."""
    main = _Writing(step)
    texts, declared = [main.main()], dict(main.b.declared)
    halves = range(_REGISTERS.bit_length() - 1, _size(step.n).bit_length() - 1)
    for levels in sorted({(half - 4) % 4 for half in halves}):
        helper = _Writing(step)
        texts.append(helper.flip(levels))
        declared |= helper.b.declared
    if halves:
        helper = _Writing(step)
        texts.append(helper.clean())
        declared |= helper.b.declared
    parts = -(-step.rows // lanes_of(step))
    return Code("\n\n".join(texts), declared, parts, 0, False, 3 * comparisons(step.n) * parts)
