"""Print the sorting of rows of unsigned integers: networks for short rows, digits for long ones.

By digits, the least important first: the elements with each digit are counted, which says where
they go, and are moved there in order. A digit that all elements share is left out. Where the rows
are few, each is cut into blocks that are counted and moved by several threads. Any way of sorting
stably gives the same result.

References:
    D. E. Knuth, "The art of computer programming", volume 3, 1998, section 5.2.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..plan import Sort
from .llvm import Code
from .network import comparisons, lanes_of, network_code
from .writer import Index, Routine

__all__ = ["sort_codes"]

_NETWORK = 1 << 11  # elements of a row up to which its vectors stay in the near caches
_COMPARE, _MOVE, _COUNT = 1.0, 1.6, 0.4  # times of comparing vectors, moving and counting a digit
_LONG = 1 << 14  # elements of a row from which digits are long
_BLOCK, _BLOCKS = 1 << 15, 32  # least elements of a block of a row, and most blocks
_MANY = 8  # rows that keep all threads busy
_STATE = 64  # bytes before the counts: where elements are, where they go next, what is free, skip


def _digits(step: Sort) -> tuple[int, int]:
    """Return how many digits there are, and the bits of each; the last may have fewer."""
    count = -(-(step.high - step.low) // (11 if step.n >= _LONG else 8))
    return count, -(-(step.high - step.low) // count)


def sort_codes(step: Sort) -> list[tuple[str, Code]]:
    """Return the functions of a sort, by name, in the order in which they run.

    Each takes the addresses of x and of the result.
    """
    lanes, (digits, bits) = lanes_of(step), _digits(step)
    rows = int(step.rows)
    together = -(-rows // lanes) * comparisons(step.n) * _COMPARE
    apart = rows * digits * (step.n * _MOVE + (1 << bits) * _COUNT)
    if step.n <= _NETWORK and together <= apart:
        codes = [("sort", network_code(step))]
    elif rows >= _MANY or step.n < 2 * _BLOCK:
        codes = [("sort_rows", _Digits(step).rows())]
    else:
        codes = _Blocks.codes(step)
    if step.tie is not None:
        codes.append(("sort_ties", _Ties(step).code()))
    return codes


class _Sorting(Routine):
    """What all functions of a sort are written with."""

    ARGS = ("ptr %b0", "ptr %b1", "ptr %scratch", "i64 %lo", "i64 %hi")

    def __init__(self, step: Sort) -> None:
        super().__init__()
        self.step = step
        self.digits, self.bits = _digits(step)
        self.size = step.out.aval.dtype.itemsize
        self.kind = f"i{8 * self.size}"

    def element(self, base: str, place: Index) -> str:
        return self.b.op(f"load {self.kind}, ptr {self.pointer(base, self.kind, place)}")

    def digit(self, x: str, first: str) -> str:
        """Return the digit that begins at a bit, an i64, as an index."""
        if self.kind != "i64":
            x = self.b.op(f"zext {self.kind} {x} to i64")
        x = self.b.op(f"lshr i64 {x}, {first}")
        return self.b.op(f"and i64 {x}, {(1 << self.bits) - 1}")

    def clear(self, counts: str, number: int) -> None:
        self.b.declared["memset"] = "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1 immarg)"
        self.b.do(f"call void @llvm.memset.p0.i64(ptr {counts}, i8 0, i64 {4 * number}, i1 false)")

    def copy(self, target: str, source: str, number: Index) -> None:
        self.b.declared["memcpy"] = "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)"
        size = self.sum(0, [(number, self.size)])
        self.b.do(
            f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {size}, i1 false)"
        )

    def tally(self, counts: str, digit: str) -> str:
        """Add one to a digit's count; return what it was."""
        at = self.pointer(counts, "i32", digit)
        old = self.b.op(f"load i32, ptr {at}")
        self.b.do(f"store i32 {self.b.op(f'add i32 {old}, 1')}, ptr {at}")
        return old

    def count(self, x: str, counts: str, first: str, bounds: tuple[Index, Index]) -> None:
        """Write the loop that counts the digits of elements."""

        def one(i: Index) -> None:
            self.tally(counts, self.digit(self.element(x, i), first))

        self.loop(*bounds, 1, one)

    def move(
        self, pair: Sequence[str], counts: str, first: str, bounds: tuple[Index, Index]
    ) -> None:
        """Write the loop that moves elements to where their digits' counts say."""
        source, target = pair

        def one(i: Index) -> None:
            x = self.element(source, i)
            where = self.tally(counts, self.digit(x, first))
            wide = self.b.op(f"zext i32 {where} to i64")
            self.b.do(f"store {self.kind} {x}, ptr {self.pointer(target, self.kind, wide)}")

        self.loop(*bounds, 1, one)

    def swapped(self, cells: Sequence[str]) -> None:
        """Take what was written for what is read next, and the free memory for what is written."""
        _, target, free = (self.b.op(f"load ptr, ptr {c}") for c in cells)
        for cell, value in zip(cells, (target, free, target), strict=True):
            self.b.do(f"store ptr {value}, ptr {cell}")

    def start(self, cells: Sequence[str], source: str, out: str, other: str) -> None:
        """Choose the memory to write to first so that the last digit is written to the result."""
        first, second = (out, other) if self.digits % 2 else (other, out)
        for cell, value in zip(cells, (source, first, second), strict=True):
            self.b.do(f"store ptr {value}, ptr {cell}")


class _Digits(_Sorting):
    """Writes the sorting of whole rows, one in each part."""

    def rows(self) -> Code:
        step = self.step
        table = self.cell("i32", 1 << self.bits)
        cells = [self.cell("ptr") for _ in range(3)]
        self.loop("%lo", "%hi", 1, lambda r: self.row(r, table, cells))
        work = step.rows * step.n * self.digits * 8
        scratch = step.rows * step.n * self.size
        text = self.text("sort_rows", self.ARGS)
        return Code(text, self.b.declared, step.rows, scratch, False, work)

    def row(self, r: Index, counts: str, cells: Sequence[str]) -> None:
        n, at = self.step.n, self.sum(0, [(r, self.step.n)])
        x, out, other = (self.pointer(p, self.kind, at) for p in ("%b0", "%b1", "%scratch"))
        self.start(cells, x, out, other)

        def turn(d: Index) -> None:
            first = str(self.sum(self.step.low, [(d, self.bits)]))
            source = self.b.op(f"load ptr, ptr {cells[0]}")
            self.clear(counts, 1 << self.bits)
            self.count(source, counts, first, (0, n))
            shared = self.pointer(counts, "i32", self.digit(self.element(source, 0), first))
            differ = self.b.op(f"icmp ne i32 {self.b.op(f'load i32, ptr {shared}')}, {n}")
            self.when(differ, lambda: self.turn(counts, first, cells))

        self.each(self.digits, turn)
        last = self.b.op(f"load ptr, ptr {cells[0]}")
        self.when(self.b.op(f"icmp ne ptr {last}, {out}"), lambda: self.copy(out, last, n))

    def turn(self, counts: str, first: str, cells: Sequence[str]) -> None:
        """Write the moves by one digit."""

        def place(k: Index, before: str) -> list[str]:
            at = self.pointer(counts, "i32", k)
            here = self.b.op(f"load i32, ptr {at}")
            self.b.do(f"store i32 {before}, ptr {at}")
            return [self.b.op(f"add i32 {before}, {here}")]

        self.loop(0, 1 << self.bits, 1, place, [("i32", "0")])
        pair = [self.b.op(f"load ptr, ptr {c}") for c in cells[:2]]
        self.move(pair, counts, first, (0, self.step.n))
        self.swapped(cells)


class _Blocks(_Sorting):
    """Writes the sorting of few long rows, which are cut into blocks."""

    def __init__(self, step: Sort) -> None:
        super().__init__(step)
        self.length = max(_BLOCK, -(-step.n // _BLOCKS))
        self.blocks = -(-step.n // self.length)
        counts = 4 * step.rows * self.blocks << self.bits
        self.state = [self.pointer("%scratch", "ptr", k) for k in range(3)]
        self.skip, self.first = (self.pointer("%scratch", "i64", k) for k in (3, 4))
        self.counts = self.pointer("%scratch", "i8", _STATE)
        self.other = self.pointer("%scratch", "i8", _STATE + counts)
        self.bytes = _STATE + counts + step.rows * step.n * self.size

    @classmethod
    def codes(cls, step: Sort) -> list[tuple[str, Code]]:
        turn = [("sort_count", cls(step).counting()), ("sort_move", cls(step).moving())]
        digits, _ = _digits(step)
        return [("sort_begin", cls(step).begin()), *turn * digits, ("sort_copy", cls(step).last())]

    def each_block(self, body: Callable[[Index, str, tuple[Index, Index]], None]) -> None:
        """Write a loop over the blocks of all rows.

        The body takes where a block's row begins, the block's counts, and its bounds.
        """

        def part(at: list[Index]) -> None:
            row, b = at
            place = self.sum(0, [(row, self.blocks << self.bits), (b, 1 << self.bits)])
            first = self.sum(0, [(b, self.length)])
            stop = self.least(self.sum(self.length, [(b, self.length)]), self.step.n)
            counts = self.pointer(self.counts, "i32", place)
            body(self.sum(0, [(row, self.step.n)]), counts, (first, stop))

        self.parts((self.step.rows, self.blocks), part)

    def code(self, name: str, end: str = "") -> Code:
        parts = self.step.rows * self.blocks
        work = 8 * self.step.rows * self.step.n
        text = "\n\n".join(filter(None, [self.text(name, self.ARGS), end]))
        return Code(text, self.b.declared, parts, self.bytes, bool(end), work)

    def begins(self) -> str:
        """Return the first bit of the digit at hand."""
        return self.b.op(f"load i64, ptr {self.first}")

    def begin(self) -> Code:
        """Write where elements are and where they go."""
        self.start(self.state, "%b0", "%b1", self.other)
        self.b.do(f"store i64 {self.step.low}, ptr {self.first}")
        text = self.text("sort_begin", self.ARGS)
        return Code(text, self.b.declared, 1, self.bytes, False, 1)

    def counting(self) -> Code:
        """Count the digits of every block."""
        source, first = self.b.op(f"load ptr, ptr {self.state[0]}"), self.begins()

        def body(start: Index, counts: str, bounds: tuple[Index, Index]) -> None:
            self.clear(counts, 1 << self.bits)
            self.count(self.pointer(source, self.kind, start), counts, first, bounds)

        self.each_block(body)
        return self.code("sort_count", _Blocks(self.step).placed())

    def placed(self) -> str:
        """Return the function that turns counts into places; it skips a digit that all share."""
        n, common = self.step.n, self.cell("i64")
        self.b.do(f"store i64 1, ptr {common}")

        def row(r: Index) -> None:
            place = self.sum(0, [(r, self.blocks << self.bits)])
            counts = self.pointer(self.counts, "i32", place)

            def bucket(k: Index, before: str, shared: str) -> list[str]:
                def block(b: Index, total: str) -> list[str]:
                    at = self.pointer(counts, "i32", self.sum(0, [(b, 1 << self.bits), (k, 1)]))
                    here = self.b.op(f"load i32, ptr {at}")
                    self.b.do(f"store i32 {total}, ptr {at}")
                    return [self.b.op(f"add i32 {total}, {here}")]

                (after,) = self.loop(0, self.blocks, 1, block, [("i32", before)])
                all_here = self.b.op(f"icmp eq i32 {self.b.op(f'sub i32 {after}, {before}')}, {n}")
                return [after, self.b.op(f"or i1 {shared}, {all_here}")]

            _, shared = self.loop(0, 1 << self.bits, 1, bucket, [("i32", "0"), ("i1", "false")])
            held = self.b.op(f"load i64, ptr {common}")
            both = self.b.op(f"and i64 {held}, {self.b.op(f'zext i1 {shared} to i64')}")
            self.b.do(f"store i64 {both}, ptr {common}")

        self.each(self.step.rows, row)
        self.b.do(f"store i64 {self.b.op(f'load i64, ptr {common}')}, ptr {self.skip}")
        return self.text("sort_count_end", self.ARGS[:3])

    def taken(self) -> str:
        """Return whether the digit is not skipped."""
        return self.b.op(f"icmp eq i64 {self.b.op(f'load i64, ptr {self.skip}')}, 0")

    def moving(self) -> Code:
        """Move the elements of every block."""
        first = self.begins()

        def body(start: Index, counts: str, bounds: tuple[Index, Index]) -> None:
            bases = [self.b.op(f"load ptr, ptr {c}") for c in self.state[:2]]
            pair = [self.pointer(p, self.kind, start) for p in bases]
            self.move(pair, counts, first, bounds)

        self.when(self.taken(), lambda: self.each_block(body))
        end = _Blocks(self.step)
        end.when(end.taken(), lambda: end.swapped(end.state))
        end.b.do(f"store i64 {end.b.op(f'add i64 {end.begins()}, {self.bits}')}, ptr {end.first}")
        return self.code("sort_move", end.text("sort_move_end", self.ARGS[:3]))

    def last(self) -> Code:
        """Copy what is not in the result, where digits were skipped."""
        source = self.b.op(f"load ptr, ptr {self.state[0]}")

        def body(start: Index, counts: str, bounds: tuple[Index, Index]) -> None:
            at = self.sum(0, [(start, 1), (bounds[0], 1)])
            target, x = (self.pointer(p, self.kind, at) for p in ("%b1", source))
            self.copy(target, x, self.b.op(f"sub i64 {bounds[1]}, {bounds[0]}"))

        self.when(self.b.op(f"icmp ne ptr {source}, %b1"), lambda: self.each_block(body))
        return self.code("sort_copy")


class _Ties(_Sorting):
    """Writes what puts two numbers that count as equal back into their order."""

    def code(self) -> Code:
        self.loop("%lo", "%hi", 1, self.row)
        rows = self.step.rows
        text = self.text("sort_ties", self.ARGS)
        return Code(text, self.b.declared, rows, 0, False, rows * 64)

    def row(self, r: Index) -> None:
        tie, at = self.step.tie, self.sum(0, [(r, self.step.n)])
        assert tie is not None
        x, out = (self.pointer(p, self.kind, at) for p in ("%b0", "%b1"))
        first, middle, end = (self.bound(out, tie + k) for k in range(3))
        both = self.b.op(
            f"and i1 {self.b.op(f'icmp slt i64 {first}, {middle}')}, "
            f"{self.b.op(f'icmp slt i64 {middle}, {end}')}"
        )

        def restore() -> None:
            def one(i: Index, place: str) -> list[str]:
                found = self.element(x, i)
                apart = self.b.op(f"sub {self.kind} {found}, {tie}")
                tied = self.b.op(f"icmp ult {self.kind} {apart}, 2")
                target = self.pointer(out, self.kind, place)
                self.when(tied, lambda: self.b.do(f"store {self.kind} {found}, ptr {target}"))
                return [self.b.op(f"add i64 {place}, {self.b.op(f'zext i1 {tied} to i64')}")]

            self.loop(0, self.step.n, 1, one, [("i64", first)])

        self.when(both, restore)

    def bound(self, out: str, key: int) -> str:
        """Return how many elements of a sorted row are less than a key."""
        n, steps = self.step.n, self.step.n.bit_length()

        def halve(k: Index, found: str) -> list[str]:
            size = self.b.op(f"lshr i64 {1 << (steps - 1)}, {k}")
            further = self.b.op(f"add i64 {found}, {size}")
            inside = self.b.op(f"icmp sle i64 {further}, {n}")
            x = self.element(out, self.b.op(f"sub i64 {self.least(further, n)}, 1"))
            less = self.b.op(f"icmp ult {self.kind} {x}, {key}")
            more = self.b.op(f"and i1 {inside}, {less}")
            return [self.b.op(f"select i1 {more}, i64 {further}, i64 {found}")]

        (found,) = self.loop(0, steps, 1, halve, [("i64", "0")])
        return found
