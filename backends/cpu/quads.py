"""Products of int8: an element of the library is four terms of a sum, side by side in an int32.

Where the processor multiplies four pairs of bytes at once (VNNI), one factor is signed and the
other is not, so b's bytes are read as b + 128, and 128 times the sum of a's is taken away again.
Elsewhere bytes become 16-bit numbers, of which processors multiply and add up two pairs at once.
All of this is exact, modulo 2³² as sums of int32 are.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from .packed import registers
from .vectors import Vectors
from .writer import Index

__all__ = ["QUAD", "SIGNS", "Quads", "multiplies_bytes"]

QUAD = 4
"""Terms of a sum that an element has."""

SIGNS = -0x7F7F7F80
"""0x80808080: the sign of each byte, and 128 in each."""


@functools.cache
def multiplies_bytes() -> bool:
    """Tell whether the processor multiplies four pairs of bytes at once, in whole vectors."""
    import llvmlite.binding as llvm

    return registers()[0] == 64 and bool(llvm.get_host_cpu_features().get("avx512vnni"))


class Quads(Vectors):
    """Writes one function of the library of products of int8."""

    def ready(self, value: str) -> tuple[str, ...]:
        """Return a vector of b as products want it."""
        if not multiplies_bytes():
            return self._halves(value)
        return (self.b.op(f"xor {self.vector} {value}, {self._all(SIGNS)}"),)

    def spread(self, one: str) -> tuple[str, ...]:
        """Return an element of a in all lanes, as products want it."""
        return (self.splat(one),) if multiplies_bytes() else self._halves(self.splat(one))

    def product(self, x: Sequence[str], y: Sequence[str], total: str) -> str:
        """Return the sum of four products in every lane, added to ``total``."""
        if multiplies_bytes():
            return self._bytes(y[0], x[0], total)
        for one, other in zip(x, y, strict=True):
            total = self.added(total, self._pairs(one, other))
        return total

    def beginning(self, sums: Sequence[str], starts: Sequence[str], count: Index) -> list[str]:
        """Take away what b's 128s add to sums of ``count`` elements of a."""
        if not multiplies_bytes():
            return list(sums)
        ones = self._all(SIGNS)

        def some(k: Index, *now: str) -> list[str]:
            mask = self.mask(self.minus(count, k))
            read = [self.read(self.element(start, k), mask) for start in starts]
            return [self._bytes(ones, x, total) for x, total in zip(read, now, strict=True)]

        zeros = [(self.vector, "zeroinitializer") for _ in starts]
        name = f"llvm.vector.reduce.add.{self.mangled}"
        self.b.declared[name] = f"declare i32 @{name}({self.vector})"
        begun, each = [], len(sums) // len(starts)
        for r, found in enumerate(self.loop(0, count, self.lanes, some, zeros)):
            less = self.splat(self.b.op(f"call i32 @{name}({self.vector} {found})"))
            row = sums[r * each : (r + 1) * each]
            begun += [self.b.op(f"sub {self.vector} {x}, {less}") for x in row]
        return begun

    def _all(self, value: int) -> str:
        return f"<{', '.join([f'i32 {value}'] * self.lanes)}>"

    def _bytes(self, unsigned: str, signed: str, total: str) -> str:
        v, name = self.vector, f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}"
        self.b.declared[name] = f"declare {v} @{name}({v}, {v}, {v})"
        return self.b.op(f"call {v} @{name}({v} {total}, {v} {unsigned}, {v} {signed})")

    def _halves(self, value: str) -> tuple[str, str]:
        """Return the even and the odd bytes of a vector as 16-bit numbers."""
        v = f"<{2 * self.lanes} x i16>"
        eight = f"<{', '.join(['i16 8'] * (2 * self.lanes))}>"
        short = self.b.op(f"bitcast {self.vector} {value} to {v}")
        even = self.b.op(f"ashr {v} {self.b.op(f'shl {v} {short}, {eight}')}, {eight}")
        return even, self.b.op(f"ashr {v} {short}, {eight}")

    def _pairs(self, x: str, y: str) -> str:
        """Return sums of the products of two neighbours, as LLVM knows them."""
        many = 2 * self.lanes
        wide = f"<{many} x i32>"
        x, y = (self.b.op(f"sext <{many} x i16> {z} to {wide}") for z in (x, y))
        terms = self.b.op(f"mul {wide} {x}, {y}")
        order = [", ".join(f"i32 {k + at}" for k in range(0, many, 2)) for at in (0, 1)]
        halves = [
            self.b.op(f"shufflevector {wide} {terms}, {wide} poison, <{self.lanes} x i32> <{o}>")
            for o in order
        ]
        return self.added(*halves)
