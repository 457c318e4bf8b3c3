"""Kernels in passes over the elements of a row, or of a tile of rows, one for every stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from funtorch.dims import fixed

from ..kernel import Kernel, Op, Store, needs, operands, row_major
from ..scalars.reduce import Reduction, reduction
from ..scalars.scalar import MEMORY, TYPES, load_value, store_value
from .nest import Env, Index, Space
from .stream import streamed
from .whole import LARGE, PARTS, Whole

__all__ = ["BYTES", "CHUNK", "CHUNKS", "Passes", "slot_of"]

# Elements of the last axis that columns are accumulated for at a time: fewer would stay in a nearer
# cache, half of them at least are as much of a page as is worth going to.
_TILE = 512
_BLOCK = 4096  # elements of short rows that are done together
_SHORT = 128  # elements of such a row
_FEW = 4  # rows too few for that
_AT_ONCE = 4  # elements of a column that are taken in together
CHUNK = 1024  # float sums add up partial sums of this many terms: the error grows with n / CHUNK
CHUNKS = 16  # parts that a long reduction is cut into
_ROW = 1 << 14  # elements of rows of any length of which values are kept
_STASH = 1 << 18  # bytes of values that are kept from one stage to the next


@dataclass(frozen=True)
class _Accumulator:
    """A reduction under way: operation ``number``, and the addresses of its accumulators."""

    number: int
    code: Reduction
    cells: tuple[str, ...]


@dataclass(frozen=True)
class _Pass:
    """One pass over the elements: what it reduces and stores, and what it needs for that."""

    reduces: list[int]
    stores: list[Store]
    elements: list[int]
    rows: list[int]


def slot_of(kind: str) -> str:
    """Return the type in memory of an accumulator."""
    return "i8" if kind == "i1" else kind


BYTES = {"i8": 1, "i16": 2, "i32": 4, "i64": 8, "float": 4, "double": 8}
BYTES |= {"{ float, float }": 8, "{ double, double }": 16}


def _rounds(op: Op) -> bool:
    """Tell whether the order matters in which a reduction takes its values."""
    return op.attr in ("reduce_sum", "reduce_prod") and op.dtype.kind not in "iub"


class Passes(Whole):
    """Writes kernels of rows, of columns and of chunks."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.reduces = [n for n in self.used if self.body[n].name == "reduce"]
        self.scratch, self.end = 0, ""
        self.row_env: Env = {}  # values of the row at hand
        self.saved: dict[int, str] = {}  # where values of a tile's rows are kept
        self.stash: dict[int, str] = {}  # where values of a row's elements are kept
        self.tile = 0  # rows that are done together
        self.across = False  # whether memory runs along them
        self.lane: Index = 0  # which of them is at hand

    def stage_of(self, s: Store) -> int:
        return max(self.stage[n] for n in needs(s))

    def plan(self) -> list[_Pass]:
        """Return the passes; find out which values of elements are kept from one to the next."""
        last = max(
            [self.stage[n] - 1 for n in self.reduces]
            + [self.stage_of(s) for s in self.element_stores],
            default=-1,
        )
        self.kept_in: dict[int, Store | None] = {}  # the store that keeps a value, or a stash
        room = _STASH // max(self.tile, 1)  # of a row
        passes: list[_Pass] = []
        # No sums are under way in the last pass, so that it may go piece by piece.
        past = streamed(self.kernel, self.kept[-1] if self.across else self.inner[-1])
        for p in range(last + 1):
            reduces = [n for n in self.reduces if self.stage[n] == p + 1]
            stores = [
                s for s in self.element_stores if p == (last if s in past else self.stage_of(s))
            ]
            todo = [self.body[n].args[0] for n in reduces] + [n for s in stores for n in needs(s)]
            elements: set[int] = set()
            rows: set[int] = set()
            while todo:
                n = todo.pop()
                if n in elements:
                    continue
                if not self.is_element[n]:
                    rows.add(n)
                    continue
                elements.add(n)
                if n not in self.kept_in and self.heavy(n) and self.stage[n] < p:
                    room = self.keep(n, passes[self.stage[n]], room)
                if n not in self.kept_in or self.stage[n] == p:
                    todo.extend(operands(self.body[n]))
            passes.append(_Pass(reduces, stores, sorted(elements), sorted(rows)))
        return passes

    def keep(self, n: int, born: _Pass, room: int) -> int:
        """Keep an element's value for later passes if there is room; return the room left."""
        most = self.length if fixed(self.length) else _ROW
        size = most * self.body[n].dtype.itemsize
        for s in born.stores:
            if s.value == n and s.mask is None and s.how == "set" and not s.where.dynamic:
                self.kept_in[n] = s
                return room
        if n not in born.elements or size > room or self.length > most:
            return room
        self.kept_in[n] = None
        self.stash[n] = self.cell(MEMORY[self.body[n].dtype], most * max(self.tile, 1))
        return room - size

    def passes(self, across: bool) -> None:
        """Write one loop over the elements for every stage, around it those over the rows."""
        sizes, spaces = self.kernel.sizes, [self.axis(k) for k in self.kept]
        stages = max(self.stage[n] for n in self.used)
        simple = all(self.stage[n] == 0 for n in self.used if self.is_element[n])
        self.across = across
        if across:
            n, room = sizes[self.kept[-1]], _STASH // (int(self.length) * 4)
            tile = _TILE if simple else max(_TILE // 2, min(_TILE, room // 16 * 16))
            self.tile = min(n, tile) if fixed(n) else tile
        elif self.in_blocks(stages):
            n, tile = sizes[self.kept[-1]], max(_BLOCK // self.length, 1)
            self.tile = min(n, tile) if fixed(n) else tile
        if self.tile:
            spaces[-1] = (-(-sizes[self.kept[-1]] // self.tile), self.set_tile)
        self.planned = self.plan()
        self.running: dict[int, _Accumulator] = {}
        for n in self.used:
            op = self.body[n]
            if op.name == "cumulate":
                code = reduction(op.attr, op.dtype, False)
                self.running[n] = _Accumulator(n, code, self.cells_for(code))
        units = int(math.prod(n for n, _ in spaces))
        first = sizes[self.inner[0]]
        long = first != 1 and int(self.rows * self.length) >= LARGE
        if simple and stages and long and units < CHUNKS and not self.running:
            self.chunks(spaces)
            return
        most = PARTS if int(self.work) >= LARGE else 2
        if self.serial:
            self.nest(spaces, self.row)
        else:
            self.share_out(spaces, most)

    def in_blocks(self, stages: int) -> bool:
        """Tell whether what belongs to rows is worth computing for several of them at once."""
        if self.serial or not fixed(self.length) or self.length > _SHORT or not self.kept:
            return False
        if int(self.kernel.sizes[self.kept[-1]]) < _FEW or int(self.length * self.rows) < _BLOCK:
            return False
        rows = [n for n in self.used if not self.is_element[n]]
        many = any(self.body[n].name == "cumulate" for n in self.used)
        return not many and (stages > 1 or any(self.stage[n] and self.heavy(n) for n in rows))

    def share_out(self, spaces: Sequence[Space], most: int) -> None:
        """Write the loops over the rows, or over tiles of them, as parts."""
        self.parts = self.parallel(spaces, most, self.row)

    def set_tile(self, number: Index) -> None:
        self.first = self.sum(0, [(number, self.tile)])
        n = self.kernel.sizes[self.kept[-1]]
        whole = n % self.tile == 0
        self.last = self.sum(self.tile, [(self.first, 1)])
        if not whole:
            self.last = self.least(self.last, n)

    def lanes(self, body: Callable[[], None], stores: Sequence[Store] = ()) -> None:
        """Write the body, which does these stores of elements, for every row of the tile."""
        if not self.tile:
            body()
            return
        axis, self.here = self.kept[-1], stores

        def one() -> None:
            self.lane = self.sum(0, [(self.index[axis], 1), (self.first, -1)])
            body()

        if self.across:
            self.sweep(axis, self.first, self.last, one)
        else:
            self.along(axis, self.first, self.last, one)

    def row(self) -> None:
        """Write all passes over one row, or over a tile of rows, then the stores of rows."""
        self.row_env, self.saved = {}, {}
        for this in self.planned:
            if self.tile and not self.across:
                self.pass_of_block(this)
                continue
            for acc in self.accumulate(this, None):
                if self.tile:
                    self.saved[acc.number] = acc.cells[0]
                else:
                    states = self.read_all(acc.code, acc.cells)
                    self.row_env[acc.number] = acc.code.end(self.b, states)
        if self.row_stores:
            self.lanes(self.store_row)

    def pass_of_block(self, this: _Pass) -> None:
        """Write a pass over every row of a block; what their values are made of comes first."""
        self.prepare(this, [])
        found = {n: self.cell_of_rows(n) for n in this.reduces}

        def one() -> None:
            tile, saved = self.tile, self.saved
            wanted = [n for n in self.closure(this.rows, saved) if n in saved]
            self.row_env = {n: self.read(saved[n], TYPES[self.body[n].dtype]) for n in wanted}
            self.tile, self.saved = 0, {}  # one row, for now
            ends = {
                acc.number: acc.code.end(self.b, self.read_all(acc.code, acc.cells))
                for acc in self.accumulate(this, None)
            }
            self.tile, self.saved = tile, saved
            for n, value in ends.items():
                self.write(found[n], TYPES[self.body[n].dtype], value)

        self.lanes(one)
        self.lane = 0
        self.saved.update(found)

    def cell_of_rows(self, n: int) -> str:
        """Return memory for a value of every row of the tile."""
        return self.cell(slot_of(TYPES[self.body[n].dtype]), self.tile)

    def store_row(self) -> None:
        env = self.row_values([n for s in self.row_stores for n in needs(s)])
        for s in self.row_stores:
            self.store(s, env)

    def row_values(self, wanted: Iterable[int]) -> Env:
        """Write what the wanted values of the row need and is not there yet; return it all."""
        env = {} if self.tile else self.row_env
        for n in self.closure(wanted, {*env, *self.saved}):
            if n in env:
                continue
            if n in self.saved:
                env[n] = self.read(self.saved[n], TYPES[self.body[n].dtype])
            else:
                self.value(n, env)
        return env

    # ---------------------------------------------------------------- one pass
    def cells_for(self, code: Reduction) -> tuple[str, ...]:
        return tuple(self.cell(self.slot(kind), max(self.tile, 1)) for kind in code.kinds)

    def slot(self, kind: str) -> str:
        return slot_of(kind) if self.tile else kind

    def read(self, cell: str, kind: str) -> str:
        """Return what a cell of the row at hand holds."""
        slot = self.slot(kind)
        at = self.pointer(cell, slot, self.lane) if self.tile else cell
        found = self.b.op(f"load {slot}, ptr {at}")
        return found if slot == kind else self.b.op(f"icmp ne {slot} {found}, 0")

    def write(self, cell: str, kind: str, value: str) -> None:
        slot = self.slot(kind)
        at = self.pointer(cell, slot, self.lane) if self.tile else cell
        value = value if slot == kind else self.b.op(f"zext {kind} {value} to {slot}")
        self.b.do(f"store {slot} {value}, ptr {at}")

    def read_all(self, code: Reduction, cells: Sequence[str]) -> list[str]:
        return [self.read(c, kind) for c, kind in zip(cells, code.kinds, strict=True)]

    def write_all(self, code: Reduction, cells: Sequence[str], states: Sequence[str]) -> None:
        for c, kind, state in zip(cells, code.kinds, states, strict=True):
            self.write(c, kind, state)

    def accumulate(self, this: _Pass, bounds: tuple[Index, Index] | None) -> list[_Accumulator]:
        """Write a pass over the elements of the row or of the tile.

        Args:
            bounds: the part of the first inner axis to do, if not all of it.
        """
        accs = []
        for n in this.reduces:
            code = reduction(self.body[n].attr, self.body[n].dtype, not self.tile)
            accs.append(_Accumulator(n, code, self.cells_for(code)))
        self.prepare(this, accs)
        self.turns(this, accs, bounds)
        return accs

    def prepare(self, this: _Pass, accs: Sequence[_Accumulator]) -> None:
        """Write what comes before a pass: values of the rows, and where accumulators begin."""
        wanted = self.closure(this.rows, self.saved) if self.tile else []
        dear = {n: self.cell_of_rows(n) for n in wanted if self.heavy(n) and n not in self.saved}
        running = [acc for n, acc in self.running.items() if n in this.elements]

        def before() -> None:
            env = self.row_values(dear if self.tile else this.rows)
            for n, cell in dear.items():
                self.write(cell, TYPES[self.body[n].dtype], env[n])
            for acc in (*accs, *running):
                self.write_all(acc.code, acc.cells, acc.code.starts)

        if dear or accs or running or not self.tile:
            self.lanes(before)
        self.saved.update(dear)

    def turns(
        self, this: _Pass, accs: Sequence[_Accumulator], bounds: tuple[Index, Index] | None
    ) -> None:
        """Write the loops over the inner axes."""
        sizes, last = self.kernel.sizes, self.inner[-1]
        ranges: list[tuple[int, tuple[Index, Index]]] = [(k, (0, sizes[k])) for k in self.inner]
        if bounds:
            ranges[0] = (self.inner[0], bounds)

        def through(which: Sequence[_Accumulator], lo: Index, hi: Index) -> None:
            if self.tile:
                self.several(this, which, lo, hi)
            else:
                element = lambda: self.element(this, which)  # noqa: E731
                if which:
                    self.along(last, lo, hi, element, self.waits(this))
                else:
                    self.here = this.stores
                    self.sweep(last, lo, hi, element)

        lo, hi = ranges[-1][1]
        rounds = any(_rounds(self.body[acc.number]) for acc in accs)
        at_once = lambda: self.within(ranges[:-1], lambda: through(accs, lo, hi))  # noqa: E731
        if not rounds or (fixed(sizes[last]) and sizes[last] <= 2 * CHUNK):
            at_once()
            return
        partial = [_Accumulator(a.number, a.code, self.cells_for(a.code)) for a in accs]

        def reset() -> None:
            for acc in partial:
                self.write_all(acc.code, acc.cells, acc.code.starts)

        def join() -> None:
            for acc, part in zip(accs, partial, strict=True):
                both = self.read_all(acc.code, acc.cells), self.read_all(acc.code, part.cells)
                self.write_all(acc.code, acc.cells, acc.code.join(self.b, *both))

        def piece(first: str) -> None:
            self.lanes(reset)
            through(partial, first, self.least(self.sum(CHUNK, [(first, 1)]), hi))
            self.lanes(join)

        pieces = lambda: self.within(ranges[:-1], lambda: self.loop(lo, hi, CHUNK, piece))  # noqa: E731
        if fixed(sizes[last]):
            pieces()
        else:
            self.when(self.b.op(f"icmp sle i64 {sizes[last]}, {2 * CHUNK}"), at_once)
            self.when(self.b.op(f"icmp sgt i64 {sizes[last]}, {2 * CHUNK}"), pieces)

    def waits(self, this: _Pass) -> bool:
        return bool(this.reduces) and len(this.elements) < 12

    def several(self, this: _Pass, accs: Sequence[_Accumulator], lo: Index, hi: Index) -> None:
        """Write the loop over the last inner axis around the one over the rows of a tile.

        Short bodies take several turns at once, so that accumulators are read and written less.
        """
        last, at_once = self.inner[-1], _AT_ONCE if accs and len(this.elements) <= 16 else 1

        def turns(count: int) -> Callable[[str], None]:
            def body(i: str) -> None:
                places = [self.sum(k, [(i, 1)]) for k in range(count)]
                self.index[last] = places[0]
                stores = () if accs else this.stores
                self.lanes(lambda: self.element(this, accs, [(last, p) for p in places]), stores)

            return body

        if at_once == 1:
            self.loop(lo, hi, 1, turns(1))
            return
        length = self.sum(0, [(hi, 1), (lo, -1)])
        if isinstance(length, int) and fixed(length):
            middle = length // at_once * at_once
            if middle:
                self.loop(lo, middle, at_once, turns(at_once))
            if middle < length:
                self.loop(middle, hi, 1, turns(1))
            return
        middle = self.sum(0, [(lo, 1), (self.b.op(f"and i64 {length}, {-at_once}"), 1)])
        self.when(
            self.b.op(f"icmp slt i64 {lo}, {middle}"),
            lambda: self.loop(lo, middle, at_once, turns(at_once)),
        )
        self.when(
            self.b.op(f"icmp slt i64 {middle}, {hi}"), lambda: self.loop(middle, hi, 1, turns(1))
        )

    def element(
        self,
        this: _Pass,
        accs: Sequence[_Accumulator],
        turns: Sequence[tuple[int, Index]] | None = None,
    ) -> None:
        """Write what a pass does with one element, or with several along an axis."""
        row = self.row_values(this.rows)
        states = [self.read_all(acc.code, acc.cells) for acc in accs]
        for turn in turns or [None]:
            if turn is not None:
                self.index[turn[0]] = turn[1]
            env = self.element_values(this, dict(row))
            for k, acc in enumerate(accs):
                x = env[self.body[acc.number].args[0]]
                states[k] = acc.code.take(self.b, states[k], x)
            for s in this.stores:
                self.store(s, env)
        for acc, found in zip(accs, states, strict=True):
            self.write_all(acc.code, acc.cells, found)

    def element_values(self, this: _Pass, env: Env) -> Env:
        p = self.planned.index(this)
        for n in this.elements:
            dtype, early = self.body[n].dtype, self.stage[n] < p
            if early and self.kept_in.get(n) is not None:
                s = self.kept_in[n]
                env[n] = load_value(self.b, self.address(s.buffer, s.where, env), dtype)
            elif early and n in self.stash:
                env[n] = load_value(self.b, self.stash_place(n), dtype)
            else:
                if n in self.running:
                    self.run_on(self.running[n], env)
                else:
                    self.value(n, env)
                if not early and n in self.stash:
                    store_value(self.b, self.stash_place(n), dtype, env[n])
        return env

    def run_on(self, acc: _Accumulator, env: Env) -> None:
        """Write how a cumulative value takes in the element at hand."""
        states, x = self.read_all(acc.code, acc.cells), env[self.body[acc.number].args[0]]
        states = acc.code.take(self.b, states, x)
        self.write_all(acc.code, acc.cells, states)
        env[acc.number] = acc.code.end(self.b, states)

    def stash_place(self, n: int) -> str:
        strides = row_major([self.kernel.sizes[k] for k in self.inner])
        step, row = (self.tile, 1) if self.across else (1, self.length)
        terms = [(self.index[k], s * step) for k, s in zip(self.inner, strides, strict=True)]
        terms.append((self.lane, row))
        return self.pointer(self.stash[n], MEMORY[self.body[n].dtype], self.sum(0, terms))

    # ---------------------------------------------------------------- chunks
    def chunks(self, spaces: Sequence[Space]) -> None:
        """Write parts that do a piece of the first inner axis for all rows."""
        n = self.kernel.sizes[self.inner[0]]
        piece = -(-n // CHUNKS)
        piece = -(-piece // 64) * 64 if int(piece) > 64 else piece
        self.parts = -(-n // piece)
        places: dict[tuple[int, int], int] = {}

        def chunk(p: str) -> None:
            first = self.sum(0, [(p, piece)])
            bounds = first, self.least(self.sum(piece, [(first, 1)]), n)

            def some() -> None:
                self.row_env, self.saved = {}, {}
                accs = self.accumulate(self.planned[0], bounds)
                self.lanes(lambda: leave(accs))

            def leave(accs: Sequence[_Accumulator]) -> None:
                for acc in accs:
                    for k, state in enumerate(self.read_all(acc.code, acc.cells)):
                        kind = acc.code.kinds[k]
                        if (acc.number, k) not in places:
                            places[acc.number, k] = self.scratch
                            self.scratch += (
                                -(-self.parts * self.rows * BYTES[slot_of(kind)] // 64) * 64
                            )
                        at = self.scratch_place(places[acc.number, k], kind, p)
                        if kind == "i1":
                            state = self.b.op(f"zext i1 {state} to i8")
                        self.b.do(f"store {slot_of(kind)} {state}, ptr {at}, align 1")

            self.nest(spaces, some)

        self.loop("%lo", "%hi", 1, chunk)
        other = Passes(self.kernel)
        self.end = other.finish(places, self.parts, not self.tile)
        self.b.declared.update(other.b.declared)

    def scratch_place(self, start: int, kind: str, chunk: Index) -> str:
        """Return the address of the accumulator of a chunk and the row at hand."""
        strides = row_major([self.kernel.sizes[k] for k in self.kept])
        terms = [(self.index[k], s) for k, s in zip(self.kept, strides, strict=True)]
        offset = self.sum(0, [(chunk, self.rows), *terms])
        base = self.pointer("%scratch", "i8", start)
        return self.pointer(base, slot_of(kind), offset)

    def finish(self, places: dict[tuple[int, int], int], chunks: int, in_registers: bool) -> str:
        """Return the text of the function that joins the accumulators of all chunks."""

        def row() -> None:
            self.row_env = {}
            for n in self.reduces:
                code = reduction(self.body[n].attr, self.body[n].dtype, in_registers)
                states = self.joined(n, code, places, chunks)
                self.row_env[n] = code.end(self.b, states)
            self.store_row()

        self.nest([self.axis(k) for k in self.kept], row)
        return self.function(self.kernel.name + "_end", ["ptr %scratch"], False)

    def joined(
        self, n: int, code: Reduction, places: dict[tuple[int, int], int], chunks: int
    ) -> list[str]:
        """Return what the accumulators of all chunks come to."""
        if not fixed(chunks):

            def take(p: str, *states: str) -> list[str]:
                return code.join(self.b, states, self.of_chunk(n, code, places, p))

            return self.loop(0, chunks, 1, take, list(zip(code.kinds, code.starts, strict=True)))
        states = self.of_chunk(n, code, places, 0)
        for p in range(1, chunks):
            states = code.join(self.b, states, self.of_chunk(n, code, places, p))
        return states

    def of_chunk(
        self, n: int, code: Reduction, places: dict[tuple[int, int], int], chunk: Index
    ) -> list[str]:
        states = []
        for k, kind in enumerate(code.kinds):
            at = self.scratch_place(places[n, k], kind, chunk)
            found = self.b.op(f"load {slot_of(kind)}, ptr {at}, align 1")
            states.append(self.b.op(f"icmp ne i8 {found}, 0") if kind == "i1" else found)
        return states
