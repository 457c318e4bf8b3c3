"""Print kernels as LLVM functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..kernel import Affine, Kernel
from .scalar import MEMORY, TYPES, Block, constant, load_value, reduction, scalar, store_value

__all__ = ["Code", "kernel_function"]

_CHUNK = 1024  # float sums add up partial sums of this many terms: the error grows with n / _CHUNK


@dataclass(frozen=True)
class Code:
    """A printed kernel, ``void @name(ptr b0, ..., ptr scratch, i64 lo, i64 hi)``.

    A call does the parts ``lo <= p < hi`` of its work.

    Attributes:
        text: the functions, to be put into a module beside the declarations.
        declared: declarations by the name that they declare.
        parts: how many independent parts there are, by sizes alone; 1 where it cannot be divided.
        scratch: bytes of memory that all parts of one run share.
        finish: whether ``void @name_end(ptr b0, ..., ptr scratch)`` must run after all parts.
        work: scalar operations altogether.
    """

    text: str
    declared: dict[str, str]
    parts: int
    scratch: int
    finish: bool
    work: int


class _Printer:
    """Writes the function of one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.b = Block()
        self.index: dict[int, str] = {}

    # ---------------------------------------------------------------- loops and addresses
    def loop(self, start: str, stop: str, step: int, body: Callable[[str], None]) -> None:
        """Write ``for i in range(start, stop, step)``, which runs at least once.

        Counters live in memory until LLVM moves them to registers.
        """
        b = self.b
        b.count += 1
        label, cell = f"l{b.count}", f"%c{b.count}"
        self.cells.append(f"  {cell} = alloca i64")
        b.do(f"store i64 {start}, ptr {cell}")
        b.do(f"br label %{label}")
        b.lines.append(f"{label}:")
        i = b.op(f"load i64, ptr {cell}")
        body(i)
        after = b.op(f"add nsw i64 {i}, {step}")
        b.do(f"store i64 {after}, ptr {cell}")
        b.do(f"br i1 {b.op(f'icmp slt i64 {after}, {stop}')}, label %{label}, label %{label}e")
        b.lines.append(f"{label}e:")

    def offset(self, where: Affine) -> str:
        total = None
        for k, s in enumerate(where.strides):
            if s:
                term = self.index[k] if s == 1 else self.b.op(f"mul nsw i64 {self.index[k]}, {s}")
                total = term if total is None else self.b.op(f"add nsw i64 {total}, {term}")
        if total is None:
            return str(where.offset)
        return self.b.op(f"add nsw i64 {total}, {where.offset}") if where.offset else total

    def address(self, buffer: int, where: Affine) -> str:
        kind = MEMORY[self.kernel.buffers[buffer]]
        return self.b.op(f"getelementptr inbounds {kind}, ptr %b{buffer}, i64 {self.offset(where)}")

    def load(self, buffer: int, where: Affine) -> str:
        return load_value(self.b, self.address(buffer, where), self.kernel.buffers[buffer])

    def store(self, buffer: int, where: Affine, value: str) -> None:
        pointer = self.address(buffer, where)
        store_value(self.b, pointer, self.kernel.buffers[buffer], value)

    # ---------------------------------------------------------------- the body
    def values(self) -> list[str]:
        """Write the scalar body at the current indices; return the names of its values."""
        out: list[str] = []
        body = self.kernel.body
        for op in body:
            if op.name == "load":
                out.append(self.load(op.attr, op.where))
            elif op.name == "const":
                out.append(constant(op.attr, op.dtype))
            elif op.name == "index":
                attr = {"dtype": op.dtype}
                out.append(
                    scalar(self.b, "convert", [self.offset(op.where)], [np.dtype("int64")], attr)
                )
            else:
                dtypes = [body[a].dtype for a in op.args]
                out.append(scalar(self.b, op.name, [out[a] for a in op.args], dtypes, op.attr))
        return out

    def nest(
        self, axes: Sequence[int], body: Callable[[], None], part: tuple[str, str] | None = None
    ) -> None:
        """Write loops over the axes, in order, around the body; ``part`` bounds the first one."""
        if not axes:
            body()
            return

        def inner(i: str) -> None:
            self.index[axes[0]] = i
            self.nest(axes[1:], body)

        first, end = part or ("0", str(self.kernel.sizes[axes[0]]))
        self.loop(first, end, 1, inner)

    # ---------------------------------------------------------------- the three shapes of a nest
    def elementwise(self) -> None:
        values = self.values()
        for s in self.kernel.stores:
            self.store(s.buffer, s.where, values[s.value])

    def in_registers(self, axes: Sequence[int]) -> None:
        """Reduce over ``axes``, the innermost ones, in one accumulator per store."""
        k, b = self.kernel, self.b
        cells = []
        for s in k.stores:
            dtype = k.buffers[s.buffer]
            start, step = reduction(s.reducer, dtype)
            b.count += 1
            pair = [f"%total{b.count}", f"%part{b.count}"]
            self.cells.extend(f"  {c} = alloca {TYPES[dtype]}" for c in pair)
            b.do(f"store {TYPES[dtype]} {start}, ptr {pair[0]}")
            cells.append((s, dtype, TYPES[dtype], start, step, pair))

        def take(which: int) -> None:
            values = self.values()
            for s, _, kind, _, step, pair in cells:
                acc = b.op(f"load {kind}, ptr {pair[which]}")
                b.do(f"store {kind} {step(b, acc, values[s.value])}, ptr {pair[which]}")

        def chunked(first: str) -> None:
            for _, _, kind, start, _, pair in cells:
                b.do(f"store {kind} {start}, ptr {pair[1]}")
            size = str(k.sizes[last])
            end = b.op(f"add nsw i64 {first}, {_CHUNK}")
            end = b.op(f"call i64 @llvm.smin.i64(i64 {end}, i64 {size})")

            def one(i: str) -> None:
                self.index[last] = i
                take(1)

            self.loop(first, end, 1, one)
            for _, _, kind, _, step, pair in cells:
                total, part = (b.op(f"load {kind}, ptr {p}") for p in pair)
                b.do(f"store {kind} {step(b, total, part)}, ptr {pair[0]}")

        last = axes[-1]
        if k.sizes[last] > 2 * _CHUNK:
            b.declared["llvm.smin.i64"] = "declare i64 @llvm.smin.i64(i64, i64)"
            self.nest(axes[:-1], lambda: self.loop("0", str(k.sizes[last]), _CHUNK, chunked))
        else:
            self.nest(axes, lambda: take(0))
        for s, _, kind, _, _, pair in cells:
            self.store(s.buffer, s.where, b.op(f"load {kind}, ptr {pair[0]}"))

    def in_memory(self, reduced: Sequence[int], inner: int) -> None:
        """Reduce over axes that lie outside a kept one: accumulate in the output itself."""
        k = self.kernel

        def start() -> None:
            for s in k.stores:
                self.store(s.buffer, s.where, reduction(s.reducer, k.buffers[s.buffer])[0])

        def take() -> None:
            values = self.values()
            for s in k.stores:
                step = reduction(s.reducer, k.buffers[s.buffer])[1]
                self.store(
                    s.buffer, s.where, step(self.b, self.load(s.buffer, s.where), values[s.value])
                )

        self.nest([inner], start)
        self.nest([*reduced, inner], take)

    def function(self) -> Code:
        """Return the printed function."""
        k = self.kernel
        self.cells: list[str] = []
        kept = [a for a, r in enumerate(k.reduced) if not r]
        reduced = [a for a, r in enumerate(k.reduced) if r]
        parts = 1
        if not reduced:
            parts = k.sizes[0] if k.sizes else 1
            self.nest(kept, self.elementwise, ("%lo", "%hi"))
        elif reduced[-1] == len(k.sizes) - 1:
            self.nest(kept, lambda: self.in_registers(reduced))
        else:
            self.nest(kept[:-1], lambda: self.in_memory(reduced, kept[-1]))
        args = "".join(f"ptr noalias %b{n}, " for n in range(len(k.buffers)))
        args += "ptr %scratch, i64 %lo, i64 %hi"
        text = "\n".join(
            [
                f"define internal void @{k.name}({args}) noinline nounwind #0 {{",
                "entry:",
                *self.cells,
                *self.b.lines,
                "  ret void",
                "}",
            ]
        )
        work = math.prod(k.sizes) * len(k.body)
        return Code(text, self.b.declared, parts, 0, False, work)


def kernel_function(kernel: Kernel) -> Code:
    """Return a kernel as an LLVM function, and how it is driven."""
    return _Printer(kernel).function()
