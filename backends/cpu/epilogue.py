"""Products whose result goes through a kernel, block by block, before it reaches memory.

A block is made in a slot that the running call holds, small enough to stay in the second cache;
then the kernel does the block's rows. The product sees a result whose rows are as long as a block's
and whose beginning lies so that the block falls into the slot: so does the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..kernel import Kernel
from ..scalars.quicker import quicker
from ..scalars.reduce import reduction
from .llvm import Code, Printer
from .nest import Index, Space
from .packed import HEADER
from .totals import Total, Totals
from .writer import Routine

__all__ = ["Behind", "Grid", "Rows", "with_kernel"]


@dataclass(frozen=True)
class Grid:
    """How the results of products are cut into blocks.

    Attributes:
        batch, m, n: products, and the rows and columns of each.
        rows, columns: of a block.
        size: bytes of an element.
        slots: how many blocks are in work at once.
    """

    batch: int
    m: int
    n: int
    rows: int
    columns: int
    size: int
    slots: int

    @property
    def down(self) -> int:
        return -(-self.m // self.rows)

    @property
    def across(self) -> int:
        return -(-self.n // self.columns)

    @property
    def parts(self) -> int:
        return self.batch * self.down * self.across

    @property
    def slot(self) -> int:
        """Bytes of a block."""
        return _aligned(self.rows * self.columns * self.size)


@dataclass(frozen=True)
class Behind:
    """A kernel behind a product, its buffers as they lie in memory.

    Attributes:
        tile: which buffer is the result.
        lead, whole: as an `Epilogue` has them.
    """

    kernel: Kernel
    tile: int
    lead: int
    whole: bool

    def rows(self, grid: Grid, name: str) -> Rows:
        """Return what writes the kernel for blocks of a grid."""
        kernel = replace(quicker(_in_tile(self, grid)), name=name)
        return Rows(kernel, self, grid)


def _aligned(size: int) -> int:
    return -(-size // 64) * 64


class Rows(Printer):
    """Writes a kernel as the function of some rows, ``void @name(b0, ..., scratch, lo, hi, left,
    right, part)``: of their columns ``left`` to ``right``, unless rows are ``whole``.
    """

    def __init__(self, kernel: Kernel, behind: Behind, grid: Grid) -> None:
        super().__init__(kernel)
        self.lead, self.whole, self.grid = behind.lead, behind.whole, grid
        self.tile_number = behind.tile

    def text(self) -> str:
        """Return the function."""
        rest = [k for k in self.kept if k >= self.lead]
        if not self.inner or (rest and self.is_brief(rest[-1] == len(self.kernel.sizes) - 1)):
            self.plain()
        else:
            self.passes(False)
        args = ["ptr %scratch", *(f"i64 %{x}" for x in ("lo", "hi", "left", "right", "part"))]
        return self.function(self.kernel.name, args, False)

    def plain(self) -> None:
        """Write rows whose elements, or whose short rows inside, are each for itself."""
        *others, last = self.kept
        spaces = [self.axis(k) for k in others]
        whole = self.whole or self.grid.across == 1
        left: Index = 0 if whole else "%left"
        right: Index = self.kernel.sizes[last] if whole else "%right"

        def row(number: Index) -> None:
            self.place(spaces[: self.lead], number)
            line = lambda: self.sweep(last, left, right, self.whole_row)  # noqa: E731
            self.nest(spaces[self.lead :], line)

        self.loop("%lo", "%hi", 1, row)

    def in_blocks(self, stages: int) -> bool:
        last = self.kept[-1]
        # Rows of one block are rows of one product: they lie side by side along the last axis.
        together = last >= self.lead or self.kernel.sizes[last] % self.grid.m == 0
        return together and super().in_blocks(stages)

    def chunks(self, spaces: Sequence[Space]) -> None:
        self.share_out(spaces, 0)

    def share_out(self, spaces: Sequence[Space], most: int) -> None:
        """Write the rows ``lo`` to ``hi``, and where totals of them begin."""
        self.part = "%part"
        for s in self.totals:
            t = Total(reduction(s.how, self.body[s.value].dtype, False), self.scratch)
            self.under_way[s] = t
            self.scratch += t.room(self.grid.parts * self.length)
        self.begin(self.part)
        lead, rest = spaces[: self.lead], spaces[self.lead :]
        if not (self.tile and self.kept[-1] < self.lead):

            def row(number: Index) -> None:
                self.place(lead, number)
                self.nest(rest, self.row)

            self.loop("%lo", "%hi", 1, row)
            return
        n = self.kernel.sizes[self.kept[-1]]

        def block(number: Index) -> None:
            self.place([*lead[:-1], (n, lambda i: setattr(self, "first", i))], number)
            left = self.sum(0, [("%hi", 1), (number, -1)])
            self.last = self.sum(0, [(self.first, 1), (self.least(left, self.tile), 1)])
            self.row()

        self.loop("%lo", "%hi", self.tile, block)

    def finished(self) -> str:
        """Return the text of the function that joins the totals of all parts."""
        other = Totals(self.kernel)
        text = other.finish_totals(list(self.under_way.values()), self.grid.parts)
        self.b.declared.update(other.b.declared)
        return text


def _in_tile(behind: Behind, grid: Grid) -> Kernel:
    """Return a kernel that reads rows of a block instead of those of the whole result."""
    body = []
    for op in behind.kernel.body:
        if op.name == "load" and op.attr == behind.tile:
            s, lead = op.where.strides, behind.lead
            rows = [x // grid.n * grid.columns for x in s[:lead]]
            op = replace(op, where=replace(op.where, strides=(*rows, *s[lead:])))
        body.append(op)
    return replace(behind.kernel, body=tuple(body))


def with_kernel(behind: Behind, grid: Grid, product: Code, symbol: str) -> tuple[Code, int]:
    """Return the function of products and of the kernel that goes over each block of them, and
    where in its scratch that of the product begins.

    It takes the addresses of a, b, the kernel's other buffers, the product's table and scratch.

    Args:
        product: the function ``symbol`` of the library, with a table for results of such blocks.
    """
    rows, tile = behind.rows(grid, "dot_rows"), behind.tile
    kernel = rows.kernel
    texts = [rows.text()]
    if rows.totals:
        texts.append(rows.finished())
    others = [n for n in range(len(kernel.buffers)) if n != tile]
    w = Routine()
    slots = HEADER
    totals = slots + grid.slot * grid.slots
    inner = _aligned(totals + rows.scratch)

    def part(p: Index, slot: str) -> None:
        blocks = grid.down * grid.across
        number, block = w.b.op(f"udiv i64 {p}, {blocks}"), w.b.op(f"urem i64 {p}, {blocks}")
        down = w.b.op(f"udiv i64 {block}, {grid.across}")
        row = w.b.op(f"mul i64 {down}, {grid.rows}")
        column = w.b.op(f"mul i64 {w.b.op(f'urem i64 {block}, {grid.across}')}, {grid.columns}")
        high = w.least(w.b.op(f"sub i64 {grid.m}, {row}"), grid.rows)
        wide = w.least(w.b.op(f"sub i64 {grid.n}, {column}"), grid.columns)
        lo = w.sum(0, [(number, grid.m), (row, 1)])
        hi, right = w.sum(0, [(lo, 1), (high, 1)]), w.sum(0, [(column, 1), (wide, 1)])
        before = w.sum(0, [(lo, -grid.columns * grid.size), (column, -grid.size)])
        # Not inbounds: it is where the result would begin, had it memory.
        c = w.b.op(f"getelementptr i8, ptr {slot}, i64 {before}")
        below = w.pointer("%scratch", "i8", inner)
        w.b.do(
            f"call void @{symbol}(ptr %a, ptr %b, ptr {c}, ptr %table, ptr {below}, i64 {p}, "
            f"i64 {w.sum(1, [(p, 1)])})"
        )
        given = [f"ptr {c}" if n == tile else f"ptr %x{n}" for n in range(len(kernel.buffers))]
        given.append(f"ptr {w.pointer('%scratch', 'i8', totals)}")
        given += [f"i64 {x}" for x in (lo, hi, column, right, p)]
        w.b.do(f"call void @dot_rows({', '.join(given)})")

    def run(slot: str) -> None:
        w.loop("%lo", "%hi", 1, lambda p: part(p, slot))

    base = w.pointer("%scratch", "i8", slots)
    w.guarded(lambda: w.held(base, grid.slot, grid.slots, run))
    head = ["ptr %a", "ptr %b", *(f"ptr %x{n}" for n in others), "ptr %table", "ptr %scratch"]
    texts.append(w.text("dot", [*head, "i64 %lo", "i64 %hi"]))
    if rows.totals:
        given = ", ".join(
            f"ptr {'null' if n == tile else f'%x{n}'}" for n in range(len(kernel.buffers))
        )
        texts.append(
            f"define internal void @dot_end({', '.join(head)}) noinline nounwind optnone #0 {{\n"
            f"  %totals = getelementptr i8, ptr %scratch, i64 {totals}\n"
            f"  call void @dot_rows_end({given}, ptr %totals)\n  ret void\n}}"
        )
    return Code(
        "\n\n".join(texts), rows.b.declared | w.b.declared, grid.parts, inner + product.scratch,
        bool(rows.totals), product.work + rows.work, product.table,
    ), inner  # fmt: skip
