"""What a GPU is asked to do: the instructions of a list, and the list, as data that prints itself.

Addresses are a *register* and an offset in bytes; see `program`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .attending import Attending
from .code import CudaCode
from .convolutions import Convolution
from .gemm import Gemm

__all__ = [
    "At",
    "Carry",
    "Choose",
    "Clear",
    "Copy",
    "Instruction",
    "LaunchPlan",
    "Product",
    "Repeat",
    "Rule",
    "Run",
    "Slice",
    "Until",
    "count_of",
    "each",
    "registers_of",
]


@dataclass(frozen=True)
class At:
    """An address: the one in a register, plus an offset."""

    base: int
    offset: int = 0

    def __add__(self, offset: int) -> At:
        return At(self.base, self.offset + offset)

    def __str__(self) -> str:
        return f"r{self.base}+{self.offset}" if self.offset else f"r{self.base}"


@dataclass(frozen=True)
class Run:
    """Launch the functions of a piece of code; its last pointer is that of scratch memory."""

    code: int
    args: tuple[At, ...]
    sizes: tuple[int, ...]  # bytes of each
    source: str = field(default="", compare=False, kw_only=True)  # the user's line that it is for
    asked: Convolution | Attending | None = None  # what it is, for a library that has it

    def __str__(self) -> str:
        return f"run {self.code} ({', '.join(map(str, self.args))})"


@dataclass(frozen=True)
class Copy:
    """Copy bytes."""

    target: At
    origin: At
    nbytes: int
    source: str = field(default="", compare=False, kw_only=True)

    def __str__(self) -> str:
        return f"copy {self.nbytes} bytes from {self.origin} to {self.target}"


@dataclass(frozen=True)
class Clear:
    """Fill with zeros."""

    target: At
    nbytes: int
    source: str = field(default="", compare=False, kw_only=True)

    def __str__(self) -> str:
        return f"clear {self.nbytes} bytes at {self.target}"


@dataclass(frozen=True)
class Product:
    """A product of matrices by the library."""

    gemm: Gemm
    a: At
    b: At
    out: At
    source: str = field(default="", compare=False, kw_only=True)

    def __str__(self) -> str:
        return f"{self.out} = {self.a} @ {self.b}: {self.gemm}"


@dataclass(frozen=True)
class Rule:
    """Compute a primitive by its eager rule, of arrays in memory, and copy its results there."""

    name: str
    params: dict[str, Any] = field(hash=False)
    ins: tuple[tuple[At, tuple[int, ...], np.dtype], ...]
    outs: tuple[tuple[At, tuple[int, ...], np.dtype], ...]
    source: str = field(default="", compare=False, kw_only=True)

    def __str__(self) -> str:
        made = ", ".join(str(at) for at, _, _ in self.outs)
        return f"{made} = {self.name} by rule of {', '.join(str(at) for at, _, _ in self.ins)}"


@dataclass(frozen=True)
class Slice:
    """A register that holds, in step i of a loop, ``start`` and i times ``stride`` bytes.

    ``written``: whether a step writes there.
    """

    register: int
    start: At
    stride: int
    written: bool = False


@dataclass(frozen=True)
class Carry:
    """A carry of a loop: its value is in ``old``, its next one goes to ``new``.

    Attributes:
        old, new: registers.
        init: where the first value is; it is copied.
        home: where the result is wanted.
        spare: a second buffer, which the two registers take turns at; None where a step works in
            place.
    """

    old: int
    new: int
    init: At
    home: At
    spare: At | None
    nbytes: int


@dataclass(frozen=True)
class Repeat:
    """Do ``body`` ``length`` times."""

    length: int
    reverse: bool
    carries: tuple[Carry, ...]
    slices: tuple[Slice, ...]
    body: tuple[Instruction, ...]


@dataclass(frozen=True)
class Until:
    """Do ``cond``, and as long as it leaves a true bool at ``holds``, ``body`` and ``cond``."""

    carries: tuple[Carry, ...]
    cond: tuple[Instruction, ...]
    holds: At
    body: tuple[Instruction, ...]


@dataclass(frozen=True)
class Choose:
    """Do one of the branches, by the integer at ``index``; one that is none of them: the last."""

    index: At
    dtype: np.dtype
    branches: tuple[tuple[Instruction, ...], ...]


Instruction = Run | Copy | Clear | Product | Rule | Repeat | Until | Choose


@dataclass(frozen=True)
class LaunchPlan:
    """What a program asks of a GPU.

    Attributes:
        inputs, outputs: bytes of each; constants of the program come first among the inputs.
        arena: bytes of the memory that a run needs besides.
        constants: bytes that lie in the GPU's memory from the beginning.
        pairs: (result, input) positions that share memory.
        registers: how many there are.
        codes: printed kernels.
        instructions: in order.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    arena: int
    constants: bytes
    pairs: tuple[tuple[int, int], ...]
    registers: int
    codes: tuple[CudaCode, ...]
    instructions: tuple[Instruction, ...]

    @property
    def first_output(self) -> int:
        """The register of the first result."""
        return len(self.inputs)

    @property
    def memory(self) -> int:
        """The register of the arena; that of the constants follows."""
        return len(self.inputs) + len(self.outputs)

    def __str__(self) -> str:
        head = (
            f"{len(self.inputs)} inputs, {len(self.outputs)} results, arena r{self.memory} of "
            f"{self.arena} bytes, {len(self.constants)} bytes of constants"
        )
        return "\n".join([head, *_lines(self.instructions, "  ")])


def _lines(instructions: Sequence[Instruction], indent: str) -> Iterator[str]:
    for x in instructions:
        if isinstance(x, Repeat):
            yield f"{indent}{x.length} times{', backwards' if x.reverse else ''}:"
            yield from _loop_lines(x.carries, indent)
            yield from (f"{indent}  r{s.register} = {s.start} + {s.stride} * i" for s in x.slices)
            yield from _lines(x.body, indent + "  ")
        elif isinstance(x, Until):
            yield f"{indent}while {x.holds}:"
            yield from _loop_lines(x.carries, indent)
            yield from _lines(x.cond, indent + "  ")
            yield f"{indent} do"
            yield from _lines(x.body, indent + "  ")
        elif isinstance(x, Choose):
            for k, branch in enumerate(x.branches):
                yield f"{indent}if {x.index} is {k}:"
                yield from _lines(branch, indent + "  ")
        else:
            yield f"{indent}{x}"


def _loop_lines(found: Sequence[Carry], indent: str) -> Iterator[str]:
    for c in found:
        there = "in place" if c.spare is None else f"and {c.spare}"
        yield f"{indent}  r{c.old} to r{c.new} from {c.init}: {c.home} {there}"


def each(instructions: Sequence[Instruction]) -> Iterator[Instruction]:
    """Yield the instructions of a list, and those inside of loops and branches."""
    for x in instructions:
        yield x
        if isinstance(x, (Repeat, Until)):
            yield from each(x.body)
        if isinstance(x, Until):
            yield from each(x.cond)
        if isinstance(x, Choose):
            for branch in x.branches:
                yield from each(branch)


def count_of(instructions: Sequence[Instruction], alone: bool = False) -> int | None:
    """Return how many launches a list makes; None where the host decides about them.

    Args:
        instructions: the list.
        alone: whether the GPU decides about loops and branches; they count as what is in them.
    """
    total = 0
    for x in instructions:
        if isinstance(x, Rule) or (isinstance(x, (Until, Choose)) and not alone):
            return None
        if isinstance(x, (Repeat, Until, Choose)):
            lists = x.branches if isinstance(x, Choose) else [x.body]
            lists = [*lists, x.cond, x.cond] if isinstance(x, Until) else lists
            counts = [count_of(found, alone) for found in lists]
            if None in counts:
                return None
            inside = sum(n or 0 for n in counts)
            total += x.length * inside if isinstance(x, Repeat) else inside + 3 * len(lists)
            total += 0 if isinstance(x, Choose) else 2 * len(x.carries)
        else:
            total += 2 if isinstance(x, Run) else 1
    return total


def registers_of(instructions: Sequence[Instruction]) -> tuple[int, ...]:
    """Return the registers whose values decide what a list does, in order."""
    used: set[int] = set()
    own: set[int] = set()
    for x in each(instructions):
        places: list[At] = []
        if isinstance(x, Run):
            places += x.args
        elif isinstance(x, Copy):
            places += [x.target, x.origin]
        elif isinstance(x, Clear):
            places += [x.target]
        elif isinstance(x, Product):
            places += [x.a, x.b, x.out]
        elif isinstance(x, Rule):
            places += [at for at, _, _ in (*x.ins, *x.outs)]
        elif isinstance(x, Choose):
            places += [x.index]
        if isinstance(x, (Repeat, Until)):
            places += [at for c in x.carries for at in (c.init, c.home, c.spare) if at is not None]
            own.update(k for c in x.carries for k in (c.old, c.new))
        if isinstance(x, Repeat):
            places += [s.start for s in x.slices]
            own.update(s.register for s in x.slices)
        elif isinstance(x, Until):
            places += [x.holds]
        used.update(at.base for at in places)
    return tuple(sorted(used - own))
