"""Equal elementwise kernels, and equal reductions, of different arrays as one launch.

An optimizer does the same to every array of a model. Such kernels have one text up to their sizes;
in a group, blocks are shared out among the arrays, and each looks up, by its number, which pointers
and how many elements are its own. Pointers are parameters of the launch, as those of any kernel, so
that a captured graph has them.

Reductions of whole arrays, as the norm of all gradients needs them, are two launches: in one, each
block leaves in scratch what a piece of an array comes to, in the other each joins those of an
array, in order.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ..kernel import Kernel
from ..together import Memory, in_sets
from .code import CudaCode, KernelLaunch
from .kernels import Printer, Scratch
from .memory import memory_type
from .nest import Nest, is_wide, prepared, scatters
from .schedules import THREADS, Schedule, schedule

__all__ = ["MOST_POINTERS", "Member", "member_of", "print_group", "sets_of"]

MOST_POINTERS = 500  # of a launch: its parameters are at most 4 KB
_MOST_BLOCKS = 1 << 30
_TURNS = 8  # of a thread of a reduction


@dataclass(frozen=True)
class Member:
    """A kernel that may be one of a group.

    Attributes:
        kernel: as it is printed.
        lanes: elements that a thread does at a time.
        key: what all members of a group have in common.
        stored: the buffers that it writes.
    """

    kernel: Kernel
    lanes: int
    key: Hashable
    stored: frozenset[int]

    @property
    def reduces(self) -> bool:
        """Whether it makes a number of all elements."""
        return any(self.kernel.inner)

    @property
    def size(self) -> int:
        """How many elements there are."""
        return int(self.kernel.sizes[0])

    @property
    def piece(self) -> int:
        """Elements that a block does."""
        return THREADS * self.lanes * (_TURNS if self.reduces else 1)

    @property
    def blocks(self) -> int:
        return -(-self.size // self.piece)


def member_of(kernel: Kernel, lengths: Sequence[int]) -> Member | None:
    """Return a kernel as one that may be in a group.

    Returns:
        The member; None where it is neither elementwise on runs of memory, nor a reduction of all
        elements of such runs.
    """
    made = prepared(kernel)
    nest = Nest(made, 1, False)
    places = [op.where for op in made.body if op.where is not None]
    places += [s.where for s in made.stores]
    known = (
        len(made.sizes) == 1
        and made.sizes[0]
        and all(not w.dynamic and w.strides[0] in (0, 1) for w in places)
        and not any(s.over_rows or s.how != "set" or scatters(made, s) for s in made.stores)
        and not any(op.name == "cumulate" for op in made.body)
        and max((nest.stage[n] for n in nest.used), default=0) <= any(made.inner)
        and not (any(made.inner) and nest.element_stores)
        and not is_wide(made, lengths)
    )
    if not known:
        return None
    lanes = schedule(made, nest.used, frozenset()).lanes
    key = repr(replace(made, name="", sizes=(0,))), lanes
    return Member(made, lanes, key, frozenset(s.buffer for s in made.stores))


class _Group(Printer):
    """Writes a function of several members.

    Args:
        members: them.
        pointers: for each of them, which pointer each of its buffers is.
        scratch: memory that the functions of a group share.
    """

    def __init__(
        self, members: Sequence[Member], pointers: Sequence[Sequence[int]], scratch: Scratch
    ) -> None:
        first, self.members, self.pointers = members[0], members, pointers
        self.begins = [0]
        for member in members:
            self.begins.append(self.begins[-1] + member.blocks)
        most = max(m.size for m in members)
        plan = Schedule(most // first.lanes, 1, THREADS, piece=1, lanes=first.lanes)
        if first.reduces:
            parts = self.begins[-1]
            plan = Schedule(1, most, THREADS, THREADS, False, parts, first.piece, first.lanes)
        super().__init__(replace(first.kernel, sizes=(most,)), plan, False, frozenset(), scratch)
        dtypes = first.kernel.buffers
        self.given: dict[int, str] = {}  # the types of pointers
        for member, own in zip(members, pointers, strict=True):
            for k, at in enumerate(own):
                const = k not in member.stored and self.given.get(at, "const").startswith("const")
                self.given[at] = "const " * const + memory_type(dtypes[k])
        self.alike = {k for k in range(len(dtypes)) if len({own[k] for own in pointers}) == 1}
        for k, dtype in enumerate(dtypes):
            kind = "const " * (k not in first.stored) + memory_type(dtype)
            self.b.do(f"GLOBAL({kind}) b{k}{f' = q{pointers[0][k]}' * (k in self.alike)};")
        self.b.do("const int block = blockIdx.x;")

    # ---------------------------------------------------------------- whose block it is
    def choose(self, starts: Sequence[int], **values: Sequence[int]) -> None:
        """Write a search for the member whose block this is, and what is known of it.

        Args:
            starts: each member's first block.
            values: variables, with each member's value.
        """
        self.b.do(f"int {', '.join(values)};")
        self._choice(starts, values, 0, len(self.members))

    def _choice(
        self, starts: Sequence[int], values: Mapping[str, Sequence[int]], low: int, high: int
    ) -> None:
        if high - low == 1:
            for k, at in enumerate(self.pointers[low]):
                if k not in self.alike:
                    self.b.do(f"b{k} = q{at};")
            for name, numbers in values.items():
                self.b.do(f"{name} = {numbers[low]};")
            return
        middle = (low + high) // 2
        with self.b.braces(f"if (block < {starts[middle]})"):
            self._choice(starts, values, low, middle)
        with self.b.braces("else"):
            self._choice(starts, values, middle, high)

    # ---------------------------------------------------------------- reductions
    count = "count"

    def part_at(self, part: str = "") -> str:
        return f"begin + {part}" if part else "block"

    @contextmanager
    def every_element(self) -> Iterator[str]:
        """Write a loop over a thread's elements of a piece."""
        lanes = self.plan.lanes
        first = f"low + {lanes} * t" if lanes > 1 else "low + t"
        with self.b.braces(f"for (int j = {first}; j < high; j += {self.plan.step})"):
            self.decode("j", [0])
            yield "e"
        del self.at[0]

    # ---------------------------------------------------------------- the functions
    def elements(self) -> None:
        """Write what all members do to their elements."""
        lanes = self.plan.lanes
        units = [m.size // lanes for m in self.members]
        self.choose(self.begins, begin=self.begins, units=units)
        self.b.do(f"const int unit = (block - begin) * {THREADS} + threadIdx.x;")
        with self.b.braces("if (unit < units)"):
            self.decode(f"({lanes} * unit)" if lanes > 1 else "unit", [0])
            self.row(list(self.passes), True)

    def pieces(self) -> None:
        """Write that a block leaves what a piece of an array comes to."""
        piece = self.plan.piece
        self.choose(self.begins, begin=self.begins, length=[m.size for m in self.members])
        self.b.do(f"const int t = threadIdx.x, low = (block - begin) * {piece};")
        self.b.do(f"const int high = low + {piece} < length ? low + {piece} : length;")
        self.row(list(self.passes), False)

    def whole(self) -> None:
        """Write that a block joins the pieces of an array."""
        counts = [m.blocks for m in self.members]
        self.choose(range(len(counts)), begin=self.begins, count=counts)
        self.b.do("const int t = threadIdx.x;")
        self.row([], True)

    def function(self, name: str, threads: int) -> str:
        head = f'extern "C" __global__ void __launch_bounds__({threads}) {name}'
        params = [f"GLOBAL({self.given[at]}) q{at}" for at in sorted(self.given)]
        given = ", ".join([*params, "GLOBAL(u8) scratch"])
        return "\n".join([f"{head}({given}) {{", *self.b.lines, "}"])


def print_group(
    members: Sequence[Member], pointers: Sequence[Sequence[int]], name: str
) -> CudaCode:
    """Return kernels with one key as one launch, or two of reductions.

    Args:
        members: them.
        pointers: for each of them, which pointer each of its buffers is.
        name: what the functions' names begin with.

    Returns:
        The code, whose functions take all pointers, and one to scratch.
    """
    texts: list[str] = []
    launches: list[KernelLaunch] = []
    scratch, declared = Scratch(), dict[str, str]()
    total, kind = sum(m.blocks for m in members), _Group
    steps = [(kind.pieces, "", total), (kind.whole, "_whole", len(members))]
    for write, suffix, blocks in steps if members[0].reduces else [(kind.elements, "", total)]:
        p = _Group(members, pointers, scratch)
        write(p)
        texts.append(p.function(name + suffix, THREADS))
        launches.append(KernelLaunch(name + suffix, (blocks, 1, 1), THREADS, p.shared))
        declared.update(p.b.declared)
    return CudaCode("\n\n".join(texts), tuple(launches), scratch.size, declared)


# ---------------------------------------------------------------------- which ones
def sets_of(runs: Sequence[Any], members: Mapping[int, Member | None]) -> list[list[Any]]:
    """Return launches that follow each other, in an order in which equal ones are together.

    Args:
        runs: the launches: their ``code``, ``args`` and ``sizes``.
        members: by code, what may be one of a group.

    Returns:
        Sets of launches, each of which is one launch.
    """
    if sum(members.get(x.code) is not None for x in runs) < 2:
        return [[x] for x in runs]
    steps: list[tuple[Hashable | None, list[Memory], list[Memory]]] = []
    for x in runs:
        used = [
            Memory(str(at.base), at.offset, at.offset + n)
            for at, n in zip(x.args, x.sizes, strict=True)
        ]
        member = members.get(x.code)
        stored = member.stored if member is not None else range(len(used))  # all of them, maybe
        reads = [m for k, m in enumerate(used) if k not in stored]
        writes = [m for k, m in enumerate(used) if k in stored]
        steps.append((None if member is None else member.key, reads, writes))
    found = []
    for numbers in in_sets(steps):
        alike = [runs[k] for k in numbers]
        found += _in_launches(alike, members) if len(alike) > 1 else [alike]
    return found


def _in_launches(runs: Sequence[Any], members: Mapping[int, Member | None]) -> list[list[Any]]:
    """Return equal kernels in sets for which one launch has parameters."""
    found: list[list[Any]] = [[]]
    known, blocks = set[Hashable](), 0
    for x in runs:
        member = members[x.code]
        assert member is not None
        if len(known | {*x.args}) > MOST_POINTERS or blocks + member.blocks > _MOST_BLOCKS:
            found.append([])
            known, blocks = set(), 0
        found[-1].append(x)
        known |= {*x.args}
        blocks += member.blocks
    return found
