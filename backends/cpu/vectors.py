"""A writer of vector code: reads and writes of parts of vectors, sums and products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .packed import registers
from .writer import Index, Routine

__all__ = ["Vectors", "lanes_of", "masked"]

_BITS = {"float": 32, "double": 64, "i32": 32, "i64": 64}


def lanes_of(kind: str) -> int:
    """Return how many elements a vector has."""
    return registers()[0] * 8 // _BITS[kind]


def masked() -> bool:
    """Tell whether the processor reads parts of vectors as quickly as whole ones."""
    return registers()[0] >= 32


class Vectors(Routine):
    """Writes one function of the library."""

    def __init__(self, kind: str, rows: int = 0) -> None:
        super().__init__()
        self.kind, self.rows = kind, rows
        self.bytes = _BITS[kind] // 8
        self.shape(lanes_of(kind))

    def shape(self, lanes: int) -> None:
        """Choose how many elements a vector has."""
        self.lanes = lanes
        self.vector = f"<{lanes} x {self.kind}>"
        letter = "f" if self.kind in ("float", "double") else "i"
        self.mangled = f"v{lanes}{letter}{_BITS[self.kind]}"
        self.bits = f"<{lanes} x i1>"

    def of(self, lanes: int, kind: str | None = None) -> Vectors:
        """Return what writes other vectors into the same function."""
        other = Vectors(kind or self.kind, self.rows)
        other.shape(lanes)
        other.b = self.b
        return other

    # -------------------------------------------------------------------------------- vectors
    def mask(self, count: Index) -> str:
        """Return the mask of the first ``count`` lanes."""
        steps = ", ".join(f"i32 {k}" for k in range(self.lanes))
        many, same = f"<{self.lanes} x i32>", f"<{self.lanes} x i32> zeroinitializer"
        short = count if isinstance(count, int) else self.b.op(f"trunc i64 {count} to i32")
        one = self.b.op(f"insertelement {many} poison, i32 {short}, i64 0")
        limit = self.b.op(f"shufflevector {many} {one}, {many} poison, {same}")
        return self.b.op(f"icmp slt {many} <{steps}>, {limit}")

    def splat(self, value: str) -> str:
        v, same = self.vector, f"<{self.lanes} x i32> zeroinitializer"
        one = self.b.op(f"insertelement {v} poison, {self.kind} {value}, i64 0")
        return self.b.op(f"shufflevector {v} {one}, {v} poison, {same}")

    def alternating(self, x: str, y: str) -> str:
        """Return a vector of x, y, x, y and so on."""
        two, order = f"<2 x {self.kind}>", ", ".join("i32 0, i32 1" for _ in range(self.lanes // 2))
        one = self.b.op(f"insertelement {two} poison, {self.kind} {x}, i64 0")
        both = self.b.op(f"insertelement {two} {one}, {self.kind} {y}, i64 1")
        return self.b.op(
            f"shufflevector {two} {both}, {two} poison, <{self.lanes} x i32> <{order}>"
        )

    def read(self, pointer: str, mask: str | None = None) -> str:
        v = self.vector
        if mask is None:
            return self.b.op(f"load {v}, ptr {pointer}, align {self.bytes}")
        name = f"llvm.masked.load.{self.mangled}.p0"
        self.b.declared[name] = f"declare {v} @{name}(ptr, i32 immarg, {self.bits}, {v})"
        args = f"ptr {pointer}, i32 {self.bytes}, {self.bits} {mask}, {v} zeroinitializer"
        return self.b.op(f"call {v} @{name}({args})")

    def write(self, value: str, pointer: str, mask: str | None = None) -> None:
        v = self.vector
        if mask is None:
            self.b.do(f"store {v} {value}, ptr {pointer}, align {self.bytes}")
            return
        name = f"llvm.masked.store.{self.mangled}.p0"
        self.b.declared[name] = f"declare void @{name}({v}, ptr, i32 immarg, {self.bits})"
        args = f"{v} {value}, ptr {pointer}, i32 {self.bytes}, {self.bits} {mask}"
        self.b.do(f"call void @{name}({args})")

    def added(self, x: str, y: str) -> str:
        how = "fadd" if self.mangled[-3] == "f" else "add"
        return self.b.op(f"{how} {self.vector} {x}, {y}")

    def ready(self, value: str) -> Any:
        """Return a vector of b as `product` wants it."""
        return value

    def spread(self, one: str) -> Any:
        """Return an element of a in all lanes, as `product` wants it."""
        return self.splat(one)

    def beginning(self, sums: Sequence[str], starts: Sequence[str], count: Index) -> list[str]:
        """Return what sums of a tile begin with, whose rows have ``count`` terms from ``starts``
        on."""
        return list(sums)

    def product(self, x: Any, y: Any, total: str) -> str:
        """Return ``x * y + total``."""
        v = self.vector
        if self.mangled[-3] != "f":
            return self.added(self.b.op(f"mul {v} {x}, {y}"), total)
        name = f"llvm.fma.{self.mangled}"
        self.b.declared[name] = f"declare {v} @{name}({v}, {v}, {v})"
        return self.b.op(f"call {v} @{name}({v} {x}, {v} {y}, {v} {total})")

    # -------------------------------------------------------------------------------- integers
    def number(self, table: str, k: Index) -> str:
        """Return the k-th integer of a table."""
        return self.b.op(f"load i64, ptr {self.pointer(table, 'i64', k)}, align 8")

    def element(self, base: str, *offsets: Index) -> str:
        for offset in offsets:
            base = self.pointer(base, self.kind, offset)
        return base

    def times(self, x: Index, y: Index) -> str:
        return self.b.op(f"mul i64 {x}, {y}")

    def plus(self, x: Index, y: Index) -> str:
        return self.b.op(f"add i64 {x}, {y}")

    def minus(self, x: Index, y: Index) -> str:
        return self.b.op(f"sub i64 {x}, {y}")

    def rounded(self, x: Index) -> str:
        """Return the next multiple of a vector's elements."""
        return self.b.op(f"and i64 {self.plus(x, self.lanes - 1)}, {-self.lanes}")

    def chosen(self, condition: str, x: Index, y: Index) -> str:
        return self.b.select(condition, str(x), str(y), "i64")

    def loop_if(
        self,
        condition: str,
        start: Index,
        stop: Index,
        step: int,
        body: Callable[..., Sequence[str]],
        carried: Sequence[tuple[str, str]],
    ) -> list[str]:
        """Write a loop to run where an i1 holds; elsewhere what is carried stays as it is."""
        before, top, after = self.at, self.label(), self.label()
        self.b.do(f"br i1 {condition}, label %{top}, label %{after}")
        self.block(top)
        found = self.loop(start, stop, step, body, carried)
        inside = self.at
        self.b.do(f"br label %{after}")
        self.block(after)
        return [
            self.b.op(f"phi {kind} [ {x}, %{before} ], [ {y}, %{inside} ]")
            for (kind, x), y in zip(carried, found, strict=True)
        ]

    def when(self, condition: str, body: Callable[[], object]) -> None:
        """Write the body to run where an i1 holds."""
        yes, after = self.label(), self.label()
        self.b.do(f"br i1 {condition}, label %{yes}, label %{after}")
        self.block(yes)
        body()
        self.b.do(f"br label %{after}")
        self.block(after)
