"""Kernels without passes: everything that belongs to a row is written out, and loops around it."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

from funtorch.dims import fixed, larger

from ..kernel import Kernel, Store, serial_axes
from ..scalars.reduce import reduction
from ..scalars.scalar import MEMORY, constant, load_value, store_value
from .nest import Env, Index, Nest
from .stream import LINE, PIECE, streamed

__all__ = ["LARGE", "PARTS", "Whole"]

PARTS = 64  # parts that are enough for any number of threads
_BLOCK = 4096  # elements of the last axis that one part takes
_SQUARE = 64  # elements of each of two axes that are done together where arrays run along both
_LANES, _CUTS = 1024, 4  # least size and most number of the blocks of a scattering kernel
_BORDERS, _LINES = (
    4,
    400,
)  # most places where a loop is cut, and most operations that it is written in
_LONG = 16  # elements of an axis that is worth cutting
_BELOW = {"lt": True, "ge": False}  # comparisons, and whether places below a limit fulfil them
LARGE = 1 << 17  # operations or elements from which a kernel is worth dividing


class Whole(Nest):
    """Writes kernels row by row."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.serial = serial_axes(kernel)
        self.kept = [k for k, r in enumerate(kernel.inner) if not r]
        self.inner = [k for k, r in enumerate(kernel.inner) if r]
        self.rows = math.prod(kernel.sizes[k] for k in self.kept)
        self.length = math.prod(kernel.sizes[k] for k in self.inner)
        # Those that the loop at hand does, at the position that it sets.
        self.here: Sequence[Store] = self.row_stores if self.inner else kernel.stores
        self.work = math.prod(kernel.sizes) * max(len(self.used), 1)
        self.parts = 1

    def unrolled(self) -> None:
        """Write one row at a time in full, vectorised over the last row axis."""
        free = [k for k in self.kept if k not in self.serial]
        large = int(self.work) >= LARGE
        if self.serial:
            self.in_order(free)
            return
        if not free:
            self.whole_row()
            return
        if len(free) == 1:
            self.stretch(free[0])
            return
        *spaces, last = [self.axis(k) for k in free]
        across = self.other_run(free) if large and not self.inner else None
        if across is not None:
            self.squares(free, across)
            return
        blocks = -(-last[0] // _BLOCK)
        if large and int(blocks) > 1 and int(math.prod(n for n, _ in spaces)) < PARTS:
            block = self.block_of(free[-1], _BLOCK, self.whole_row)
            self.parts = self.parallel([*spaces, (blocks, block)], self.rows, lambda: None)
            return
        most = PARTS if large else 2
        self.parts = self.parallel(
            spaces, most, lambda: self.sweep(free[-1], 0, last[0], self.whole_row)
        )

    def in_order(self, free: list[int]) -> None:
        """Write the loops of a scattering kernel: parts are blocks of an axis that may be cut."""
        serial = [self.axis(k) for k in self.kept if k in self.serial]
        if not free or free[-1] != self.kept[-1]:
            inside = [self.axis(k) for k in free]
            self.nest([*inside, *serial], self.whole_row)
            return
        *spaces, last = [self.axis(k) for k in free]
        size = larger(_LANES, -(-last[0] // _CUTS)) if int(self.work) >= LARGE else last[0]

        def block(number: Index) -> None:
            inner = self.block_of(free[-1], size, self.whole_row)
            self.nest(serial, lambda: inner(number))

        blocks: list[Index] = []
        spaces.append((-(-last[0] // size), blocks.append))
        self.parts = self.parallel(spaces, self.rows, lambda: block(blocks[-1]))

    def other_run(self, free: list[int]) -> int | None:
        """Return an axis other than the last along which some array lies, the last jumping."""
        maps = [op.where for op in self.body if op.where is not None and op.name == "load"]
        maps += [s.where for s in self.kernel.stores]
        for k in free[:-1]:
            if any(abs(m.strides[k]) == 1 and abs(m.strides[free[-1]]) > 1 for m in maps):
                return k
        return None

    def squares(self, free: list[int], across: int) -> None:
        """Write loops over squares of two axes, so that cache lines along both are used whole.

        What lies along the other axis is copied into a square of this call's own first.
        """
        last, sizes = free[-1], self.kernel.sizes
        packed = {}
        for n in self.used:
            op = self.body[n]
            if op.name == "load" and not op.args and not op.where.dynamic:
                if abs(op.where.strides[across]) == 1 and abs(op.where.strides[last]) > 1:
                    packed[n] = self.cell(MEMORY[op.dtype], _SQUARE * _SQUARE)
        corner: dict[int, Index] = {}

        def place(n: int) -> str:
            terms = [(self.index[last], _SQUARE), (corner[last], -_SQUARE)]
            terms += [(self.index[across], 1), (corner[across], -1)]
            return self.pointer(packed[n], MEMORY[self.body[n].dtype], self.sum(0, terms))

        def copy() -> None:
            for n in packed:
                dtype = self.body[n].dtype
                store_value(self.b, place(n), dtype, self.load(self.body[n], {}))

        def element() -> None:
            env: Env = {}
            for n in self.used:
                if n in packed:
                    env[n] = load_value(self.b, place(n), self.body[n].dtype)
                else:
                    self.value(n, env)
            for s in self.kernel.stores:
                self.store(s, env)

        def square(row: Index, column: Index) -> None:
            bounds = {}
            for k, number in ((across, row), (last, column)):
                corner[k] = self.sum(0, [(number, _SQUARE)])
                bounds[k] = corner[k], self.least(self.sum(_SQUARE, [(corner[k], 1)]), sizes[k])
            if packed:
                self.within([(last, bounds[last]), (across, bounds[across])], copy)
            lines = lambda: self.sweep(last, *bounds[last], element)  # noqa: E731
            self.within([(across, bounds[across])], lines)

        columns = -(-sizes[last] // _SQUARE)

        def line(row: Index) -> None:
            self.nest([(columns, lambda column: square(row, column))], lambda: None)

        spaces = [self.axis(k) for k in free[:-1] if k != across]
        rows: list[Index] = []
        spaces.append((-(-sizes[across] // _SQUARE), rows.append))
        self.parts = self.parallel(spaces, self.rows, lambda: line(rows[-1]))

    def stretch(self, axis: int) -> None:
        """Write one loop over the elements ``%lo`` to ``%hi`` of an axis.

        So kernels that differ in this size alone are one function.
        """
        self.parts = self.kernel.sizes[axis]
        self.sweep(axis, "%lo", "%hi", self.whole_row)

    def block_of(self, axis: int, size: int, body: Callable[[], None]) -> Callable[[Index], None]:
        """Return what writes the loop over one block of an axis, given the block's number."""

        def block(number: Index) -> None:
            first, n = self.sum(0, [(number, size)]), self.kernel.sizes[axis]
            end = self.sum(size, [(first, 1)])
            self.sweep(axis, first, end if n % size == 0 else self.least(end, n), body)

        return block

    def sweep(self, axis: int, first: Index, end: Index, body: Callable[[], None]) -> None:
        """Write a loop along an axis; what is to go past the caches goes there piece by piece.

        Ordinary stores do what lies before the first whole line and after the last piece.
        """
        stores = [s for s in streamed(self.kernel, axis) if s in self.here]
        if not stores:
            self.in_segments(axis, first, end, body)
            return
        begin = self.first_line(stores, axis, first, end)
        pieces = self.sum(0, [(end, 1), (begin, -1)])
        stop = self.sum(0, [(begin, 1), (self.b.op(f"and i64 {pieces}, {-PIECE}"), 1)])
        cells = [self.cell(MEMORY[self.kernel.buffers[s.buffer]], PIECE) for s in stores]

        def piece(start: Index) -> None:
            self.aside = dict(zip(stores, cells, strict=True))

            def element(j: Index) -> None:
                self.waiting, self.index[axis] = j, self.sum(0, [(start, 1), (j, 1)])
                body()

            self.loop(0, PIECE, 1, element)
            self.index[axis] = start
            self.pass_on(stores)
            self.aside = {}

        def in_order(number: Index) -> None:
            last = self.b.op(f"icmp eq i64 {number}, 1")
            lo = self.b.select(last, str(stop), str(first), "i64")
            hi = self.b.select(last, str(end), str(begin), "i64")
            some = self.b.op(f"icmp slt i64 {lo}, {hi}")
            self.when(some, lambda: self.along(axis, lo, hi, body))
            some = self.b.op(
                f"icmp slt i64 {begin}, {self.b.select(last, str(begin), str(stop), 'i64')}"
            )
            self.when(some, lambda: self.loop(begin, stop, PIECE, piece))

        self.loop(0, 2, 1, in_order)

    def in_segments(self, axis: int, first: Index, end: Index, body: Callable[[], None]) -> None:
        """Write a loop along an axis for each stretch on which comparisons with places agree.

        So what is inside of a border asks nothing, and reads whole vectors.
        """
        size = self.kernel.sizes[axis]
        edges = [0, *self.borders(axis), size]
        if len(edges) == 2:
            self.along(axis, first, end, body)
            return
        for lo, hi in itertools.pairwise(edges):
            for n, (limit, below) in self.comparisons(axis).items():
                self.settled[n] = constant((lo < limit) == below, self.body[n].dtype)
            if (first, end) == (0, size):
                self.along(axis, lo, hi, body)
                continue
            start, stop = self.greatest(first, lo), self.least(end, hi)
            some = self.b.op(f"icmp slt i64 {start}, {stop}")
            self.when(some, functools.partial(self.along, axis, start, stop, body))
        self.settled = {}

    def borders(self, axis: int) -> list[int]:
        """Return the places at which a loop along an axis is worth cutting."""
        size = self.kernel.sizes[axis]
        limits = sorted({limit for limit, _ in self.comparisons(axis).values()})
        if not limits:
            return []
        found = [limit for limit in limits if 0 < limit < size]
        longest = max(hi - lo for lo, hi in itertools.pairwise([0, *found, size]))
        lines = len(self.used) * int(self.length) * (len(found) + 1)
        worth = len(found) <= _BORDERS and lines <= _LINES and 2 * longest >= size >= _LONG
        return found if worth else []

    def comparisons(self, axis: int) -> dict[int, tuple[int, bool]]:
        """Return comparisons of the place along an axis: with what, and whether it must be less."""
        found: dict[int, tuple[int, bool]] = {}
        if not (fixed(self.kernel.sizes[axis]) and fixed(self.length)):
            return found
        for n in self.used:
            op = self.body[n]
            if op.name not in _BELOW:
                continue
            place, other = (self.body[a] for a in op.args)
            if place.name != "index" or other.name != "const" or place.where.dynamic:
                continue
            steps = {k: s for k, s in enumerate(place.where.strides) if s != 0}
            if steps == {axis: 1} and fixed(place.where.offset) and fixed(other.attr):
                found[n] = int(other.attr) - place.where.offset, _BELOW[op.name]
        return found

    def greatest(self, a: Index, b: Index) -> str:
        self.b.declared["llvm.smax.i64"] = "declare i64 @llvm.smax.i64(i64, i64)"
        return self.b.op(f"call i64 @llvm.smax.i64(i64 {a}, i64 {b})")

    def first_line(self, stores: Sequence[Store], axis: int, first: Index, end: Index) -> Index:
        """Return where the first whole line begins, the end where that is not one place for all."""
        b, places = self.b, []
        self.index[axis] = first
        for s in stores:
            at = b.op(f"ptrtoint ptr {self.address(s.buffer, s.where, {})} to i64")
            gap = b.op(f"and i64 {b.op(f'sub i64 0, {at}')}, {LINE - 1}")
            size = self.kernel.buffers[s.buffer].itemsize
            places.append(b.op(f"udiv i64 {gap}, {size}"))
        begin = self.sum(0, [(first, 1), (places[0], 1)])
        for other in places[1:]:
            begin = b.select(b.op(f"icmp eq i64 {places[0]}, {other}"), str(begin), str(end), "i64")
        return self.least(begin, end)

    def along(
        self,
        axis: int,
        first: Index,
        end: Index,
        body: Callable[[], None],
        side_by_side: bool = False,
    ) -> None:
        if isinstance(first, int) and isinstance(end, int) and end - first == 1:
            self.index[axis] = first
            body()
            return

        def one(i: str) -> None:
            self.index[axis] = i
            body()

        self.loop(first, end, 1, one, side_by_side=side_by_side)

    def least(self, a: Index, b: Index) -> str:
        self.b.declared["llvm.smin.i64"] = "declare i64 @llvm.smin.i64(i64, i64)"
        return self.b.op(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")

    def whole_row(self) -> None:
        places = list(itertools.product(*(range(self.kernel.sizes[k]) for k in self.inner)))
        row: Env = {}
        envs: list[Env] = [{} for _ in places]

        def at_each() -> Iterator[tuple[Env, Env]]:
            for place, env in zip(places, envs, strict=True):
                self.index.update(zip(self.inner, place, strict=True))
                yield env, row | env

        for n in self.used:
            op = self.body[n]
            if op.name == "reduce":
                code = reduction(op.attr, op.dtype, False)
                states = list(code.starts)
                for _, both in at_each():
                    states = code.take(self.b, states, both[op.args[0]])
                row[n] = code.end(self.b, states)
            elif op.name == "cumulate":
                code = reduction(op.attr, op.dtype, False)
                states = list(code.starts)
                for env, both in at_each():
                    states = code.take(self.b, states, both[op.args[0]])
                    env[n] = states[0]
            elif self.is_element[n]:
                for env, both in at_each():
                    self.value(n, both)
                    env[n] = both[n]
            else:
                self.value(n, row)
        for s in self.row_stores:
            self.store(s, row)
        for _, both in at_each():
            for s in self.element_stores:
                self.store(s, both)

    def within(
        self, ranges: Sequence[tuple[int, tuple[Index, Index]]], body: Callable[[], object]
    ) -> None:
        """Write loops over ranges of axes, the first outermost."""
        if not ranges:
            body()
            return
        (axis, (lo, hi)), rest = ranges[0], ranges[1:]
        self.along(axis, lo, hi, lambda: self.within(rest, body))
