"""Loops, addresses and values of one kernel as LLVM instructions: what all schedules write with."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence

import numpy as np

from ..coverage import ELEMENTWISE
from ..kernel import Affine, Kernel, Op, Store, is_row_store, levels, needs, operands
from ..scalars.quicker import HEAVY
from ..scalars.scalar import MEMORY, TYPES, constant, load_value, scalar, store_value
from .stream import LINE, PIECE
from .writer import Index, Writer

__all__ = ["Env", "Index", "Nest", "Space"]

Env = dict[int, str]
Space = tuple[int, Callable[[Index], None]]
"""A number of turns, and what is to be told the number of each."""

INT64 = np.dtype("int64")
_NONTEMPORAL = "nontemporal"


class Nest(Writer):
    """Writes one function of a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel, self.body = kernel, kernel.body
        self.index: dict[int, Index] = {}
        self.stage, self.is_element = levels(kernel)
        self.row_stores = [s for s in kernel.stores if is_row_store(kernel, s, self.is_element)]
        self.element_stores = [s for s in kernel.stores if s not in self.row_stores]
        self.used = self.closure(n for s in kernel.stores for n in needs(s))
        self.aside: dict[Store, str] = {}  # where elements wait that go past the caches
        self.waiting: Index = 0  # how many wait already
        self.settled: Env = {}  # comparisons whose results are known where code is written

    # ---------------------------------------------------------------- what needs what
    def closure(self, wanted: Iterable[int], known: Container[int] = ()) -> list[int]:
        """Return, in order, what the wanted values are computed from, themselves included.

        What known values are computed from is left out.
        """
        found, todo = set(), list(wanted)
        while todo:
            n = todo.pop()
            if n not in found:
                found.add(n)
                if n not in known:
                    todo.extend(operands(self.body[n]))
        return sorted(found)

    def heavy(self, n: int) -> bool:
        """Tell whether a value is dearer to compute than to read from the cache."""
        op = self.body[n]
        if op.name in ELEMENTWISE:
            return ELEMENTWISE[op.name].heavy
        return op.name in HEAVY or (op.where is not None and bool(op.where.dynamic))

    # ---------------------------------------------------------------- loops
    def nest(self, spaces: Sequence[Space], body: Callable[[], None]) -> None:
        """Write loops, the first outermost, around the body."""
        if not spaces:
            body()
            return
        (count, put), rest = spaces[0], spaces[1:]

        def inner(i: Index) -> None:
            put(i)
            self.nest(rest, body)

        if count == 1:
            inner(0)
        else:
            self.loop(0, count, 1, inner)

    def axis(self, k: int) -> Space:
        """Return a loop axis as a space."""
        return self.kernel.sizes[k], lambda i: self.index.__setitem__(k, i)

    def parallel(self, spaces: Sequence[Space], most: int, body: Callable[[], None]) -> int:
        """Write loops over the parts ``%lo`` to ``%hi``, and what they leave of the spaces inside.

        Args:
            spaces: what is divided, the outermost first.
            most: as many of the spaces are cut into parts as it takes for so many of them.

        Returns:
            The number of parts.
        """
        cut, parts = 0, 1
        while cut < len(spaces) and int(parts) < most:
            parts *= spaces[cut][0]
            cut += 1
        if parts == 1:
            self.nest(spaces, body)
            return 1
        outer, rest = spaces[:cut], spaces[cut:]

        def part(p: Index) -> None:
            numbers, left = [], parts
            for count, _ in reversed(outer):
                left //= count
                number = (
                    0 if count == 1 else self.b.op(f"urem i64 {p}, {count}") if left != 1 else p
                )
                numbers.append(number)
                p = self.b.op(f"udiv i64 {p}, {count}") if count != 1 and left != 1 else p
            # In order, for the last may write a loop around what follows.
            for (_, put), number in zip(outer, reversed(numbers), strict=True):
                put(number)
            self.nest(rest, body)

        self.loop("%lo", "%hi", 1, part)
        return parts

    # ---------------------------------------------------------------- addresses
    def offset(self, where: Affine, env: Env) -> Index:
        terms: list[tuple[Index, int]] = [
            (self.index[k], s) for k, s in enumerate(where.strides) if s
        ]
        for n, s in where.dynamic:
            dtype = self.body[n].dtype
            terms.append((scalar(self.b, "convert", [env[n]], [dtype], {"dtype": INT64}), s))
        return self.sum(where.offset, terms)

    def address(self, buffer: int, where: Affine, env: Env) -> str:
        kind = MEMORY[self.kernel.buffers[buffer]]
        return self.pointer(f"%b{buffer}", kind, self.offset(where, env))

    # ---------------------------------------------------------------- values
    def load(self, op: Op, env: Env) -> str:
        dtype = self.kernel.buffers[op.attr]
        if not op.args:
            return load_value(self.b, self.address(op.attr, op.where, env), dtype)
        found: list[str] = []

        def read() -> None:
            found.append(load_value(self.b, self.address(op.attr, op.where, env), dtype))

        before, after = self.when(env[op.args[0]], read)
        kind, zero = TYPES[dtype], constant(0, dtype)
        return self.b.op(f"phi {kind} [ {found[0]}, %{after} ], [ {zero}, %{before} ]")

    def value(self, n: int, env: Env) -> None:
        """Write operation ``n``, whose operands are in ``env``, at the current indices."""
        op = self.body[n]
        if n in self.settled:
            env[n] = self.settled[n]
        elif op.name == "load":
            env[n] = self.load(op, env)
        elif op.name == "const":
            env[n] = constant(op.attr, op.dtype)
        elif op.name == "index":
            place = str(self.offset(op.where, env))
            env[n] = scalar(self.b, "convert", [place], [INT64], {"dtype": op.dtype})
        else:
            dtypes = [self.body[a].dtype for a in op.args]
            env[n] = scalar(self.b, op.name, [env[a] for a in op.args], dtypes, op.attr)

    def store(self, s: Store, env: Env) -> None:
        """Write a store of what ``env`` holds at the current indices."""
        dtype = self.kernel.buffers[s.buffer]
        if s in self.aside:
            place = self.pointer(self.aside[s], MEMORY[dtype], self.waiting)
            store_value(self.b, place, dtype, env[s.value])
            return

        def write() -> None:
            pointer, value = self.address(s.buffer, s.where, env), env[s.value]
            if s.how != "set":
                held = load_value(self.b, pointer, dtype)
                value = scalar(self.b, s.how, [held, value], [dtype, dtype], None)
            store_value(self.b, pointer, dtype, value)

        if s.mask is None:
            write()
        else:
            self.when(env[s.mask], write)

    def pass_on(self, stores: Sequence[Store]) -> None:
        """Write what a piece of elements that waited aside goes past the caches with."""
        self.b.declared[_NONTEMPORAL] = "!9010 = !{i32 1}"
        for s in stores:
            dtype, cell = self.kernel.buffers[s.buffer], self.aside[s]
            to = self.address(s.buffer, s.where, {})
            for line in range(0, PIECE * dtype.itemsize, LINE):
                source, target = self.pointer(cell, "i8", line), self.pointer(to, "i8", line)
                found = self.b.op(f"load <16 x i32>, ptr {source}, align {LINE}")
                self.b.do(
                    f"store <16 x i32> {found}, ptr {target}, align {LINE}, !nontemporal !9010"
                )

    # ---------------------------------------------------------------- the text
    def function(self, name: str, args: Sequence[str], inline: bool) -> str:
        """Return the text of a function of what was written."""
        head = ", ".join([*(f"ptr noalias %b{n}" for n in range(len(self.kernel.buffers))), *args])
        flags = "nounwind" if inline else "noinline nounwind"
        return "\n".join(
            [
                f"define internal void @{name}({head}) {flags} #0 {{",
                "entry:",
                *self.cells,
                *self.b.lines,
                # What went past the caches is there before anybody hears that it is done.
                *(["  fence seq_cst"] if _NONTEMPORAL in self.b.declared else ()),
                "  ret void",
                "}",
            ]
        )
