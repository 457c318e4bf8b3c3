"""Print factorisations of small matrices: each lane of a vector is a matrix.

A call of LAPACK takes longer than the arithmetic of a matrix of a few rows. Here as many matrices
as a vector has lanes are copied into memory of the call's own, the elements of one place side by
side, and are worked on together by the textbook's algorithms: LU factors with LAPACK's choice of
pivots, Cholesky's factor, substitution, Householder's reflectors. What fails in LAPACK gives nan
here, too.

References:
    G. H. Golub, C. F. Van Loan, "Matrix computations", 4th edition, 2013: 3.1, 3.4, 4.2, 5.1, 5.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from funtorch.dims import fixed

from ..plan import Library
from ..scalars.block import Block
from ..scalars.math.values import Value, absolute, mad, select, sqrt
from .llvm import Code
from .packed import registers
from .writer import Index, Routine

__all__ = ["is_small", "small_code"]

_SIDE = 16  # rows and columns that a matrix has at most
_KINDS = {np.dtype("float32"): "float", np.dtype("float64"): "double"}
_ROOM = 512  # vectors of a call's own memory, at most


def is_small(step: Library) -> bool:
    """Tell whether a step is one of small matrices, however many: so results are the same."""
    if step.eqn.prim.name not in _PROGRAMS:
        return False
    avals = [v.aval for v in (*step.eqn.invars, *step.eqn.outvars)]
    sides = [n for v in step.eqn.invars for n in v.aval.shape[-2:]]
    if avals[0].dtype not in _KINDS or not all(map(fixed, sides)):
        return False
    room = sum(int(a.size) // int(step.batch) for a in avals)
    return max(avals[0].shape[-2:]) <= _SIDE and room <= _ROOM


def small_code(step: Library) -> Code:
    """Return the function that a step of small matrices is."""
    return _Lanes(step).code()


class _Wide(Block):
    """What writes vectors into the function of another block."""

    def __init__(self, b: Block, lanes: int) -> None:
        super().__init__(lanes)
        self.lines, self.declared = b.lines, b.declared
        self.name = b.name  # type: ignore[method-assign]


class _Matrix:
    """Matrices in memory of the call's own: a vector for each place.

    Args:
        r: what writes the function.
        rows, columns: the size of each.
        kind: of elements.
    """

    def __init__(self, r: _Lanes, rows: int, columns: int, kind: str) -> None:
        self.r, self.rows, self.columns, self.kind = r, rows, columns, kind
        self.type = f"<{r.lanes} x {kind}>"
        self.memory = r.cell(self.type, max(rows * columns, 2))

    def at(self, i: Index, j: Index) -> str:
        place = self.r.sum(0, [(i, self.columns), (j, 1)])
        return self.r.pointer(self.memory, self.type, place)

    def __getitem__(self, place: tuple[Index, Index]) -> Value:
        name = self.r.b.op(f"load {self.type}, ptr {self.at(*place)}")
        return Value(self.r.wide, name, self.kind)

    def __setitem__(self, place: tuple[Index, Index], value: Value) -> None:
        self.r.b.do(f"store {self.type} {value.name}, ptr {self.at(*place)}")

    def each(self, body: Callable[[Index, Index], None]) -> None:
        self.r.span(0, self.rows, lambda i: self.r.span(0, self.columns, lambda j: body(i, j)))


class _Flag:
    """Tells which matrices have a result."""

    def __init__(self, r: _Lanes) -> None:
        self.held = _Matrix(r, 1, 1, "i32")
        self.held[0, 0] = r.number(1, "i32")

    def need(self, good: Value) -> None:
        self.held[0, 0] = select(good, self.held[0, 0], 0)

    def or_nan(self, out: _Matrix) -> _Matrix:
        """Put nan in the place of what is no result."""

        def one(i: Index, j: Index) -> None:
            out[i, j] = select(self.held[0, 0].cmp("ne", 0), out[i, j], math.nan)

        out.each(one)
        return out


class _Lanes(Routine):
    """Writes the function: copies in, a program of the primitive, copies out."""

    def __init__(self, step: Library) -> None:
        super().__init__()
        self.step = step
        self.avals = [v.aval for v in (*step.eqn.invars, *step.eqn.outvars)]
        self.kind = _KINDS[self.avals[0].dtype]
        most = int(registers()[0]) // self.avals[0].dtype.itemsize
        self.lanes = min(most, 1 << (int(step.batch) - 1).bit_length())
        self.wide = _Wide(self.b, self.lanes)

    # ---------------------------------------------------------------- helpers
    def number(self, value: float, kind: str | None = None) -> Value:
        return Value(self.wide, "", kind or self.kind).like(value)

    def span(self, start: Index, stop: int, body: Callable[[Index], None]) -> None:
        """Write a loop that may have no turns, or one."""
        if isinstance(start, int) and stop - start <= 1:
            if start < stop:
                body(start)
            return
        if isinstance(start, int):
            self.loop(start, stop, 1, body)
            return
        some = self.b.op(f"icmp slt i64 {start}, {stop}")
        self.when(some, lambda: self.loop(start, stop, 1, body))

    def everywhere(self, i: Index) -> Value:
        """Return an index in every lane."""
        if isinstance(i, int):
            return self.number(i, "i32")
        kind = self.wide.type("i32")
        one = self.b.op(
            f"insertelement {kind} poison, i32 {self.b.op(f'trunc i64 {i} to i32')}, i64 0"
        )
        zeros = f"<{self.lanes} x i32> zeroinitializer"
        return Value(
            self.wide, self.b.op(f"shufflevector {kind} {one}, {kind} poison, {zeros}"), "i32"
        )

    # ---------------------------------------------------------------- copies
    def copy(self, array: int, matrix: _Matrix, first: Index, inwards: bool) -> None:
        """Copy matrices in or out; lanes that have none of their own repeat the last one."""
        b, size = self.b, matrix.rows * matrix.columns

        def lane(k: Index) -> None:
            number = self.least(self.sum(0, [(first, 1), (k, 1)]), self.step.batch - 1)
            there = self.pointer(f"%b{array}", matrix.kind, self.sum(0, [(number, size)]))
            here = self.pointer(matrix.memory, matrix.kind, k)

            def element(e: Index) -> None:
                ends = [
                    self.pointer(there, matrix.kind, e),
                    self.pointer(here, matrix.kind, self.sum(0, [(e, self.lanes)])),
                ]
                source, target = ends if inwards else ends[::-1]
                x = b.op(f"load {matrix.kind}, ptr {source}")
                b.do(f"store {matrix.kind} {x}, ptr {target}")

            self.span(0, size, element)

        self.span(0, self.lanes, lane)

    def code(self) -> Code:
        eqn, batch = self.step.eqn, self.step.batch
        operands = len(eqn.invars)
        shapes = [a.shape[-2:] for a in self.avals[:operands]]
        given = [_Matrix(self, rows, columns, self.kind) for rows, columns in shapes]
        program = _PROGRAMS[eqn.prim.name]

        def part(place: list[Index]) -> None:
            first = self.sum(0, [(place[0], self.lanes)])
            for k, matrix in enumerate(given):
                self.copy(k, matrix, first, True)
            for k, matrix in enumerate(program(self, *given, **eqn.params)):
                self.copy(operands + k, matrix, first, False)

        count = -(-batch // self.lanes)
        self.guarded(lambda: self.parts([count], part))
        args = [*(f"ptr %b{k}" for k in range(len(self.avals))), "ptr %scratch"]
        text = self.text("small", [*args, "i64 %lo", "i64 %hi"])
        moved = sum(a.size for a in self.avals)
        work = moved + batch * int(self.step.recipe.flops) // self.lanes
        return Code(text, self.b.declared, count, 0, False, work)


# ------------------------------------------------------------------------------------------ LU
def _pivot(r: _Lanes, a: _Matrix, k: int) -> Value:
    """Return the row, from k on, of the greatest element of column k: the first one of several."""
    if k + 1 == a.rows:
        return r.number(k, "i32")

    def look(i: Index, best: str, where: str) -> list[str]:
        size, old = absolute(a[i, k]), Value(r.wide, best, r.kind)
        more = size > old
        row = select(more, r.everywhere(i), Value(r.wide, where, "i32"))
        return [select(more, size, old).name, row.name]

    first = r.number(k, "i32")
    carried = [(r.wide.type(r.kind), absolute(a[k, k]).name), (r.wide.type("i32"), first.name)]
    return Value(r.wide, r.loop(k + 1, a.rows, 1, look, carried)[1], "i32")


def _interchange(r: _Lanes, matrices: Sequence[_Matrix], k: int, where: Value) -> None:
    """Interchange row k with another one below."""

    def row(i: Index) -> None:
        here = where.cmp("eq", r.everywhere(i))
        for m in matrices:

            def place(j: Index, m: _Matrix = m) -> None:
                x, y = m[k, j], m[i, j]
                m[k, j], m[i, j] = select(here, y, x), select(here, x, y)

            r.span(0, m.columns, place)

    r.span(k + 1, matrices[0].rows, row)


def _clear(r: _Lanes, a: _Matrix, others: Sequence[_Matrix], k: int) -> None:
    """Subtract multiples of row k from those below; the factors stay in column k."""
    pivot = a[k, k]
    divisor = select(pivot.equals(0.0), 1.0, pivot)

    def row(i: Index) -> None:
        factor = a[i, k] / divisor
        a[i, k] = factor
        for m in (a, *others):

            def place(j: Index, m: _Matrix = m) -> None:
                m[i, j] = mad(-factor, m[k, j], m[i, j])

            r.span(k + 1 if m is a else 0, m.columns, place)

    r.span(k + 1, a.rows, row)


def _getrf(r: _Lanes, a: _Matrix) -> list[_Matrix]:
    pivots = _Matrix(r, 1, min(a.rows, a.columns), "i32")
    for k in range(pivots.columns):
        where = _pivot(r, a, k)
        pivots[0, k] = where + 1
        _interchange(r, [a], k, where)
        _clear(r, a, [], k)
    return [a, pivots]


def _solve(r: _Lanes, a: _Matrix, b: _Matrix) -> list[_Matrix]:
    flag = _Flag(r)
    a.each(lambda i, j: flag.need(a[i, j].equals(a[i, j])))
    for k in range(a.rows):
        _interchange(r, [a, b], k, _pivot(r, a, k))
        flag.need(a[k, k].cmp("une", 0.0))
        _clear(r, a, [b], k)
    _substitute(r, a, b, lower=False, trans=False, unit=False)
    return [flag.or_nan(b)]


# ------------------------------------------------------------------------------------- triangles
def _substitute(r: _Lanes, a: _Matrix, b: _Matrix, lower: bool, trans: bool, unit: bool) -> None:
    """Solve with a triangle of a, or its transpose, in place of b."""
    n, forward = a.rows, lower != trans
    for k in range(n) if forward else reversed(range(n)):
        if not unit:
            divisor = a[k, k]

            def divided(j: Index, k: int = k, divisor: Value = divisor) -> None:
                b[k, j] = b[k, j] / divisor

            r.span(0, b.columns, divided)

        def row(i: Index, k: int = k) -> None:
            factor = -(a[k, i] if trans else a[i, k])

            def place(j: Index) -> None:
                b[i, j] = mad(factor, b[k, j], b[i, j])

            r.span(0, b.columns, place)

        r.span(k + 1 if forward else 0, n if forward else k, row)


def _triangular(
    r: _Lanes, a: _Matrix, b: _Matrix, *, lower: bool, trans: int, unit: bool
) -> list[_Matrix]:
    flag = _Flag(r)
    if not unit:
        r.span(0, a.rows, lambda k: flag.need(a[k, k].cmp("une", 0.0)))
    _substitute(r, a, b, lower, bool(trans), unit)
    return [flag.or_nan(b)]


def _cholesky(r: _Lanes, a: _Matrix) -> list[_Matrix]:
    n, flag = a.rows, _Flag(r)
    for k in range(n):
        flag.need(a[k, k] > 0.0)
        root = sqrt(a[k, k])
        a[k, k] = root

        def scaled(i: Index, k: int = k, root: Value = root) -> None:
            a[i, k] = a[i, k] / root
            a[k, i] = r.number(0.0)

        r.span(k + 1, n, scaled)

        def row(i: Index, k: int = k) -> None:
            factor = -a[i, k]

            def place(j: Index) -> None:
                a[i, j] = mad(factor, a[j, k], a[i, j])

            r.span(k + 1, n, place)

        r.span(k + 1, n, row)
    return [flag.or_nan(a)]


_PROGRAMS: dict[str, Callable[..., list[_Matrix]]] = {
    "cholesky": _cholesky,
    "getrf": _getrf,
    "solve": _solve,
    "triangular_solve": _triangular,
}
"""By primitive: what writes the work on matrices in memory, and returns the results."""
