"""Accumulators, and how the threads of a group join theirs: by shuffles, then in shared memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..scalars.elements import joined, parts
from ..scalars.reduce import Reduction
from .schedules import BYTES, Schedule
from .spelling import C_TYPES, CudaBlock, operand

__all__ = ["Accumulator", "accumulator", "combine_before", "join_group", "number_kinds"]

_MOST_SHARED = 48 << 10  # bytes of a block, without asking for more


def number_kinds(code: Reduction) -> list[str]:
    """Return the LLVM types of the numbers that a reduction accumulates in."""
    (kind,) = code.kinds
    if kind.startswith("{"):
        return [kind[2:].split(",")[0]] * 2
    return [kind]


@dataclass(frozen=True)
class Accumulator:
    """Variables that a thread accumulates a reduction in, two for complex numbers."""

    code: Reduction
    kinds: tuple[str, ...]
    cells: tuple[str, ...]

    def value(self, b: CudaBlock, cells: Sequence[str] | None = None) -> str:
        """Return what is accumulated, here or in other variables, as a value of the block."""
        cells = self.cells if cells is None else cells
        return joined(b, cells, self.kinds[0]) if len(cells) > 1 else cells[0]

    def put(self, b: CudaBlock, value: str) -> None:
        """Write that a value is what is accumulated."""
        found = parts(b, value, self.kinds[0]) if len(self.cells) > 1 else (value,)
        for cell, kind, x in zip(self.cells, self.kinds, found, strict=True):
            b.do(f"{cell} = {operand(x, kind)};")

    def take(self, b: CudaBlock, value: str) -> None:
        """Write that one more value is accumulated."""
        self.put(b, self.code.take(b, [self.value(b)], value)[0])

    def join(self, b: CudaBlock, cells: Sequence[str]) -> None:
        """Write that what other variables hold is accumulated too."""
        self.put(b, self.code.join(b, [self.value(b)], [self.value(b, cells)])[0])

    def end(self, b: CudaBlock) -> str:
        """Return the reduction's result."""
        return self.code.end(b, [self.value(b)])


def accumulator(b: CudaBlock, code: Reduction) -> Accumulator:
    """Write variables that hold what a reduction begins with."""
    kinds = tuple(number_kinds(code))
    cells = tuple(b.name("a") for _ in kinds)
    (start,) = code.starts
    first = parts(b, start, kinds[0]) if len(kinds) > 1 else (start,)
    for cell, kind, x in zip(cells, kinds, first, strict=True):
        b.do(f"{C_TYPES[kind]} {cell} = {operand(x, kind)};")
    return Accumulator(code, kinds, cells)


def join_group(b: CudaBlock, plan: Schedule, accs: Sequence[Accumulator]) -> int:
    """Write how the threads of each group join what they accumulated; all of them have it then.

    Returns:
        The bytes of shared memory that it takes.
    """
    if plan.group == 1 or not accs:
        return 0
    if plan.across:
        return max(_tree(b, plan, some) for some in _fitting(accs, plan.threads))
    _shuffled(b, accs, min(plan.group, 32))
    return _through_memory(b, accs, plan.group // 32) if plan.group > 32 else 0


def _fitting(accs: Sequence[Accumulator], count: int) -> Iterator[Sequence[Accumulator]]:
    """Yield runs of accumulators of which a block's shared memory holds ``count`` numbers each."""
    some: list[Accumulator] = []
    size = 0
    for acc in accs:
        own = sum(-(-8 * count // 16) * 16 for _ in acc.kinds)  # of the largest numbers
        if some and size + own > _MOST_SHARED:
            yield some
            some, size = [], 0
        some.append(acc)
        size += own
    yield some


def _shuffled(b: CudaBlock, accs: Sequence[Accumulator], width: int) -> None:
    distance = width // 2
    while distance:
        for acc in accs:
            with b.braces():
                other = [b.name("o") for _ in acc.cells]
                for name, kind, cell in zip(other, acc.kinds, acc.cells, strict=True):
                    b.do(f"const {C_TYPES[kind]} {name} = shuffle_xor({cell}, {distance});")
                acc.join(b, other)
        distance //= 2


def _slots(b: CudaBlock, accs: Sequence[Accumulator], count: int) -> tuple[list[list[str]], int]:
    """Write names of arrays in shared memory, ``count`` numbers for each variable."""
    offset, found = 0, []
    for acc in accs:
        names = []
        for kind in acc.kinds:
            held = "u8" if kind == "i1" else C_TYPES[kind]
            names.append(b.name("sh"))
            b.do(f"SHARED({held}, {names[-1]}, {offset}, {count});")
            offset += -(-BYTES[held] * count // 16) * 16
        found.append(names)
    return found, offset


def _through_memory(b: CudaBlock, accs: Sequence[Accumulator], warps: int) -> int:
    """Write how the warps of a block join: each leaves a number, and every warp joins all."""
    with b.braces():
        slots, size = _slots(b, accs, warps)
        b.do("__syncthreads();")
        with b.braces("if (threadIdx.x % 32 == 0)"):
            for acc, names in zip(accs, slots, strict=True):
                for cell, name in zip(acc.cells, names, strict=True):
                    b.do(f"{name}[threadIdx.x / 32] = {cell};")
        b.do("__syncthreads();")
        for acc, names in zip(accs, slots, strict=True):
            for cell, name in zip(acc.cells, names, strict=True):
                b.do(f"{cell} = {name}[threadIdx.x % {warps}];")
        _shuffled(b, accs, warps)
    return size


def _tree(b: CudaBlock, plan: Schedule, accs: Sequence[Accumulator]) -> int:
    """Write how groups whose threads are apart join: half of them take in the others, and so on."""
    width, half = plan.side, plan.group // 2
    with b.braces():
        slots, size = _slots(b, accs, plan.threads)
        b.do("__syncthreads();")
        _leave(b, accs, slots, "threadIdx.x")
        while half:
            b.do("__syncthreads();")
            with b.braces(f"if (t < {half})"):
                for acc, names in zip(accs, slots, strict=True):
                    other = [b.name("o") for _ in acc.cells]
                    for name, kind, slot in zip(other, acc.kinds, names, strict=True):
                        at = f"threadIdx.x + {half * width}"
                        b.do(f"const {C_TYPES[kind]} {name} = {slot}[{at}];")
                    acc.join(b, other)
                _leave(b, accs, slots, "threadIdx.x")
            half //= 2
        b.do("__syncthreads();")
        for acc, names in zip(accs, slots, strict=True):
            for cell, name in zip(acc.cells, names, strict=True):
                b.do(f"{cell} = {name}[threadIdx.x % {width}];")
    return size


def combine_before(b: CudaBlock, plan: Schedule, accs: Sequence[Accumulator]) -> int:
    """Write that each thread has what those before it in its group accumulated, in order.

    Returns:
        The bytes of shared memory that it takes.
    """
    return max(_before(b, plan, some) for some in _fitting(accs, plan.threads))


def _before(b: CudaBlock, plan: Schedule, accs: Sequence[Accumulator]) -> int:
    at = f"k * {plan.side} + threadIdx.x % {plan.side}"
    if not plan.across:
        at = f"threadIdx.x / {plan.group} * {plan.group} + k"
    with b.braces():
        slots, size = _slots(b, accs, plan.threads)
        b.do("__syncthreads();")
        _leave(b, accs, slots, "threadIdx.x")
        b.do("__syncthreads();")
        for acc in accs:
            acc.put(b, acc.code.starts[0])
        with b.braces("for (int k = 0; k < t; k++)"):
            for acc, names in zip(accs, slots, strict=True):
                other = [b.name("o") for _ in acc.cells]
                for name, kind, slot in zip(other, acc.kinds, names, strict=True):
                    b.do(f"const {C_TYPES[kind]} {name} = {slot}[{at}];")
                acc.join(b, other)
    return size


def _leave(
    b: CudaBlock, accs: Sequence[Accumulator], slots: Sequence[Sequence[str]], at: str
) -> None:
    for acc, names in zip(accs, slots, strict=True):
        for cell, name in zip(acc.cells, names, strict=True):
            b.do(f"{name}[{at}] = {cell};")
