"""Print Fourier transforms as LLVM functions: one pass over the array for each factor of its size.

Stockham's form: a pass of radix r takes r elements that lie far apart, transforms them, turns them
by powers of the root of unity, and writes them where the next pass wants them, so that nothing has
to be put in order in the end. Passes go to and fro between the result and scratch memory. Elements
that lie side by side are computed side by side, real and imaginary parts in vectors of their own.

The turns are products of two numbers from short tables, w^(h B + l) = w^(h B) w^l.

References:
    D. H. Bailey, "A high-performance FFT algorithm for vector supercomputers", 1988.
    C. Van Loan, "Computational frameworks for the fast Fourier transform", 1992, section 1.7.
"""

from __future__ import annotations

import functools
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from funtorch.ops.fft import TABLES, unit_roots

from ..plan import Fourier, Table
from .llvm import Code
from .packed import registers
from .writer import Index, Routine

__all__ = ["TABLE", "fourier_codes", "table", "table_address", "table_symbol"]

TABLE = "funtorch_table_"

_BLOCK = 1 << 12  # elements of one part, about
_RUN = 1 << 14  # elements that one turn of the outer loop may touch
_ROW = 1 << 17  # bytes of a row up to which all passes are done with it before the next one
_ARGS = ("ptr %b0", "ptr %b1", "ptr %scratch", "i64 %lo", "i64 %hi")
Pair = tuple[str, str]


@dataclass(frozen=True)
class _Pass:
    """One pass: y[q + s (r j + k)] = w^(p j k) sum_i x[q + s (j + m i)] e^(-+2 pi i ik / r).

    Attributes:
        radix, m, s: r, m and s above; j < m and q < s.
        before: p, the product of the radices of the passes before.
        source, target: names of the arrays that it reads and writes.
    """

    radix: int
    m: int
    s: int
    before: int
    source: str
    target: str


def _passes(step: Fourier) -> list[_Pass]:
    radices = step.radices
    done, found = 1, []
    for k, r in enumerate(radices):
        left = len(radices) - 1 - k
        source = "%b0" if k == 0 else ("%scratch" if left % 2 == 0 else "%b1")
        target = "%b1" if left % 2 == 0 else "%scratch"
        found.append(_Pass(r, step.n // (done * r), done * step.inner, done, source, target))
        done *= r
    return found


# ---------------------------------------------------------------------- tables
def table_symbol(step: Table) -> str:
    """Return the outside name of a table's memory, which says what it holds."""
    return f"{TABLE}{step.what}_{step.n}_{step.out.aval.size}_{step.out.aval.dtype.name}"


@functools.cache
def table(symbol: str) -> np.ndarray:
    """Return what lies in a table's memory, computed when it is first asked for."""
    what, n, size, dtype = symbol.removeprefix(TABLE).split("_")
    return np.ascontiguousarray(TABLES[what](int(n), int(size)).astype(dtype))


def table_address(symbol: str) -> int:
    """Return the address of a table's memory."""
    return table(symbol).ctypes.data


# ---------------------------------------------------------------------- passes
def fourier_codes(step: Fourier) -> list[tuple[str, Code]]:
    """Return the functions of a transform, by name, in the order in which they run.

    Each takes the addresses of x and of the result.
    """
    row = step.n * step.inner * step.out.aval.dtype.itemsize
    codes = [
        _Writing(step, p).code(f"fourier{k}", step.batch * row) for k, p in enumerate(_passes(step))
    ]
    if step.batch != 1 and row <= _ROW:
        return [("fourier", _by_rows(codes, step.batch))]
    return [(f"fourier{k}", code) for k, code in enumerate(codes)]


def _by_rows(codes: Sequence[Code], rows: int) -> Code:
    """Return one function of all passes, one row after the other, while it is in the cache."""
    writer = Routine()

    def row(r: Index) -> None:
        for k, code in enumerate(codes):
            each = code.parts // rows
            first = writer.sum(0, [(r, each)])
            stop = writer.sum(each, [(r, each)])
            args = "ptr %b0, ptr %b1, ptr %scratch"
            writer.b.do(f"call void @fourier{k}({args}, i64 {first}, i64 {stop})")

    writer.loop("%lo", "%hi", 1, row)
    text = writer.text("fourier", _ARGS)
    texts = [code.text.replace("@fourier", "@fourier_") for code in codes]
    text = re.sub(r"@fourier(?=\d)", "@fourier_", text)
    declared = dict(writer.b.declared)
    for code in codes:
        declared.update(code.declared)
    work = sum(code.work for code in codes)
    return Code("\n\n".join([*texts, text]), declared, rows, codes[0].scratch, False, work)


class _Writing(Routine):
    """Writes one pass."""

    def __init__(self, step: Fourier, p: _Pass) -> None:
        super().__init__()
        self.step, self.p = step, p
        single = step.out.aval.dtype == np.complex64
        self.kind, self.bytes = ("float", 4) if single else ("double", 8)
        self.real = np.dtype("float32" if single else "float64")
        most = registers()[0] // self.bytes
        # Along q, or in the first pass of a last axis along j.
        self.along_j = p.s == 1
        self.lanes = math.gcd(p.m if self.along_j else p.s, most)
        self.vector = f"<{self.lanes} x {self.kind}>"
        self.sign = 1 if step.inverse else -1
        self.low = max(1, (step.n - 1).bit_length() // 2)  # bits of the second table's index

    # ---------------------------------------------------------------- numbers
    def number(self, x: float) -> str:
        """Return a constant as LLVM spells it: the bits of a double."""
        return f"0x{struct.unpack('<Q', struct.pack('<d', float(self.real.type(x))))[0]:016X}"

    def constants(self, xs: Sequence[float]) -> str:
        return f"<{', '.join(f'{self.kind} {self.number(x)}' for x in xs)}>"

    def splat(self, x: float) -> str:
        return self.constants([x] * self.lanes)

    def root(self, power: int, n: int) -> complex:
        """Return the root of unity e^(-+2 pi i power / n)."""
        return self.roots_of([power], n)[0]

    def roots_of(self, powers: Sequence[int], n: int) -> list[complex]:
        found = unit_roots(np.asarray(powers, np.int64) % n, n)
        return list(found if self.sign < 0 else found.conj())

    def table(self, name: str, powers: range) -> str:
        """Return a constant array of roots of unity, real and imaginary parts in turn."""
        way = "i" if self.step.inverse else "f"
        symbol = f"@roots_{self.kind}_{way}_{self.step.n}_{name}"
        roots = self.roots_of(powers, self.step.n)
        flat = [f"{self.kind} {self.number(x)}" for w in roots for x in (w.real, w.imag)]
        self.b.declared[symbol] = (
            f"{symbol} = internal constant [{len(flat)} x {self.kind}] [{', '.join(flat)}]"
        )
        return symbol

    # ---------------------------------------------------------------- complex vectors
    def arith(self, op: str, x: str, y: str) -> str:
        return self.b.op(f"{op} contract {self.vector} {x}, {y}")

    def add(self, x: Pair, y: Pair) -> Pair:
        return self.arith("fadd", x[0], y[0]), self.arith("fadd", x[1], y[1])

    def sub(self, x: Pair, y: Pair) -> Pair:
        return self.arith("fsub", x[0], y[0]), self.arith("fsub", x[1], y[1])

    def mul(self, x: Pair, w: Pair) -> Pair:
        (a, b), (c, d) = x, w
        first = self.arith("fsub", self.arith("fmul", a, c), self.arith("fmul", b, d))
        return first, self.arith("fadd", self.arith("fmul", a, d), self.arith("fmul", b, c))

    def turned(self, x: Pair, power: int, n: int) -> Pair:
        """Multiply by a constant root of unity."""
        eighth = 8 * (power % n)
        if eighth == 0:
            return x
        if 4 * (power % n) == n:  # by -i or i
            minus = self.b.op(f"fneg {self.vector} {x[0 if self.sign < 0 else 1]}")
            return (x[1], minus) if self.sign < 0 else (minus, x[0])
        w = self.root(power, n)
        return self.mul(x, (self.splat(w.real), self.splat(w.imag)))

    def transform(self, xs: Sequence[Pair]) -> list[Pair]:
        """Return the transform of a few values, by halves where their number is even."""
        n = len(xs)
        if n == 1:
            return list(xs)
        if n % 2 == 0:
            even, odd = self.transform(xs[::2]), self.transform(xs[1::2])
            odd = [self.turned(x, k, n) for k, x in enumerate(odd)]
            sums = [self.add(x, y) for x, y in zip(even, odd, strict=True)]
            return sums + [self.sub(x, y) for x, y in zip(even, odd, strict=True)]
        return self.odd(xs)

    def odd(self, xs: Sequence[Pair]) -> list[Pair]:
        """Return the transform of an odd number of values.

        x_i and x_(n - i) have turns that mirror each other: sums take the cosines, differences the
        sines, and what belongs to n - k differs from what belongs to k by a sign.
        """
        n, half = len(xs), len(xs) // 2
        pairs = [(xs[i], xs[n - i]) for i in range(1, half + 1)]
        sums = [self.add(x, y) for x, y in pairs]
        gaps = [self.sub(x, y) for x, y in pairs]
        first = xs[0]
        for s in sums:
            first = self.add(first, s)
        out: list[Pair] = [first] * n
        for k in range(1, half + 1):
            even, odd = xs[0], None
            for i, (s, d) in enumerate(zip(sums, gaps, strict=True), start=1):
                w = self.root(i * k, n)
                even = self.add(even, self.scaled(s, w.real))
                turned = self.scaled(d, w.imag)
                odd = turned if odd is None else self.add(odd, turned)
            assert odd is not None
            low = self.arith("fsub", even[0], odd[1]), self.arith("fadd", even[1], odd[0])
            high = self.arith("fadd", even[0], odd[1]), self.arith("fsub", even[1], odd[0])
            out[k], out[n - k] = low, high
        return out

    def scaled(self, x: Pair, factor: float) -> Pair:
        c = self.splat(factor)
        return self.arith("fmul", x[0], c), self.arith("fmul", x[1], c)

    # ---------------------------------------------------------------- memory
    def load(self, place: Index) -> Pair:
        """Load neighbouring complex numbers."""
        wide, v = f"<{2 * self.lanes} x {self.kind}>", self.lanes
        at = self.pointer(self.p.source, f"{{{self.kind}, {self.kind}}}", place)
        both = self.b.op(f"load {wide}, ptr {at}, align {self.bytes}")
        parts = []
        for first in (0, 1):
            mask = ", ".join(f"i32 {2 * k + first}" for k in range(v))
            text = f"shufflevector {wide} {both}, {wide} poison, <{v} x i32> <{mask}>"
            parts.append(self.b.op(text))
        return parts[0], parts[1]

    def interleaved(self, x: Pair) -> str:
        v = self.lanes
        mask = ", ".join(f"i32 {k}, i32 {v + k}" for k in range(v))
        return self.b.op(
            f"shufflevector {self.vector} {x[0]}, {self.vector} {x[1]}, <{2 * v} x i32> <{mask}>"
        )

    def store(self, x: Pair, place: Index, apart: int) -> None:
        """Store complex numbers, whose places are so many elements apart."""
        both, wide = self.interleaved(x), f"<{2 * self.lanes} x {self.kind}>"
        element = f"{{{self.kind}, {self.kind}}}"
        at = self.pointer(self.p.target, element, place)
        if apart == 1 or self.lanes == 1:
            self.b.do(f"store {wide} {both}, ptr {at}, align {self.bytes}")
            return
        for k in range(self.lanes):
            mask = f"<2 x i32> <i32 {2 * k}, i32 {2 * k + 1}>"
            one = self.b.op(f"shufflevector {wide} {both}, {wide} poison, {mask}")
            to = self.pointer(at, element, k * apart)
            self.b.do(f"store <2 x {self.kind}> {one}, ptr {to}, align {self.bytes}")

    def spread(self, x: str) -> str:
        v = self.lanes
        one = self.b.op(f"insertelement {self.vector} poison, {self.kind} {x}, i32 0")
        zero = "zeroinitializer"
        return self.b.op(
            f"shufflevector {self.vector} {one}, {self.vector} poison, <{v} x i32> {zero}"
        )

    def entry(self, table: str, index: Index) -> Pair:
        """Load one number of a table into all lanes."""
        at = self.pointer(table, f"{{{self.kind}, {self.kind}}}", index)
        imag = self.pointer(at, self.kind, 1)
        re, im = (self.b.op(f"load {self.kind}, ptr {p}") for p in (at, imag))
        return self.spread(re), self.spread(im)

    # ---------------------------------------------------------------- the pass
    def roots(self, j: Index) -> list[Pair | None]:
        """Return what the results are turned by, for k < radix; None for no turn."""
        p, n = self.p, self.step.n
        if p.m == 1:
            return [None] * p.radix
        high = self.table("high", range(0, n, 1 << self.low))
        low = self.table("low", range(1 << self.low))
        found: list[Pair | None] = [None]
        for k in range(1, p.radix):
            t = self.sum(0, [(j, k * p.before)])
            first = self.b.op(f"lshr i64 {t}, {self.low}")
            second = self.b.op(f"and i64 {t}, {(1 << self.low) - 1}")
            w = self.mul(self.entry(high, first), self.entry(low, second))
            if self.along_j and self.lanes > 1:
                lanes = self.roots_of([k * i for i in range(self.lanes)], n)
                own = (
                    self.constants([z.real for z in lanes]),
                    self.constants([z.imag for z in lanes]),
                )
                w = self.mul(w, own)
            found.append(w)
        return found

    def elements(self, base: Index, j: Index, q: Index, roots: Sequence[Pair | None]) -> None:
        """Read, transform and write ``radix`` vectors."""
        p = self.p
        xs = [
            self.load(self.sum(k * p.m * p.s, [(base, 1), (q, 1), (j, p.s)]))
            for k in range(p.radix)
        ]
        last = p.m == 1
        for k, y in enumerate(self.transform(xs)):
            w = roots[k]
            y = y if w is None else self.mul(y, w)
            if last and self.step.inverse:
                scale = self.splat(1 / self.step.n)
                y = self.arith("fmul", y[0], scale), self.arith("fmul", y[1], scale)
            place = self.sum(k * p.s, [(base, 1), (q, 1), (j, p.s * p.radix)])
            self.store(y, place, p.radix if self.along_j else 1)

    def code(self, name: str, scratch: int) -> Code:
        p, step, v = self.p, self.step, self.lanes
        width = v if self.along_j else 1
        rows = max(width, _BLOCK // (p.radix * p.s) // width * width)
        columns = p.s if p.radix * p.s <= _RUN else max(v, _RUN // p.radix // v * v)
        sizes = (step.batch, -(-p.m // rows), -(-p.s // columns))

        def part(at: list[Index]) -> None:
            b, block, run = at
            base = self.sum(0, [(b, step.n * step.inner)])
            first = self.sum(0, [(block, rows)])
            stop = self.least(p.m, self.sum(rows, [(block, rows)]))
            begin = self.sum(0, [(run, columns)])
            end = self.least(p.s, self.sum(columns, [(run, columns)]))

            def row(j: Index) -> None:
                roots = self.roots(j)
                if self.along_j:
                    self.elements(base, j, 0, roots)
                else:
                    self.loop(begin, end, v, lambda q: self.elements(base, j, q, roots))

            self.loop(first, stop, width, row)

        self.parts(sizes, part)
        text = self.text(name, [a.replace("ptr ", "ptr noalias ") for a in _ARGS])
        work = 8 * step.batch * step.n * step.inner
        return Code(text, self.b.declared, math.prod(sizes), scratch, False, work)
