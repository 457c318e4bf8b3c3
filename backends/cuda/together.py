"""Equal elementwise kernels on different arrays as one launch.

An optimizer does the same to every array of a model. Such kernels have one text up to their sizes;
in a group, blocks are shared out among the arrays, and each looks up, by its number, which pointers
and how many elements are its own. Pointers are parameters of the launch, as those of any kernel, so
that a captured graph has them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..kernel import Kernel
from ..together import Memory, in_sets
from .code import CudaCode, KernelLaunch
from .kernels import Printer, Scratch, is_wide, prepared
from .memory import memory_type
from .nest import Nest, scatters
from .schedules import THREADS, Schedule, schedule

__all__ = ["MOST_POINTERS", "Member", "member_of", "print_group", "sets_of"]

MOST_POINTERS = 500  # of a launch: its parameters are at most 4 KB
_MOST_BLOCKS = 1 << 30


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
    def units(self) -> int:
        """How many threads have something to do."""
        return int(self.kernel.sizes[0]) // self.lanes

    @property
    def blocks(self) -> int:
        return -(-self.units // THREADS)


def member_of(kernel: Kernel, lengths: Sequence[int]) -> Member | None:
    """Return a kernel as one that may be in a group; None where it is not elementwise on runs of
    memory."""
    made = prepared(kernel)
    places = [op.where for op in made.body if op.where is not None]
    places += [s.where for s in made.stores]
    known = (
        len(made.sizes) == 1
        and made.sizes[0]
        and not any(made.inner)
        and all(not w.dynamic and w.strides[0] in (0, 1) for w in places)
        and not any(s.over_rows or s.how != "set" or scatters(made, s) for s in made.stores)
        and not any(op.name in ("reduce", "cumulate") for op in made.body)
        and not is_wide(made, lengths)
    )
    if not known:
        return None
    lanes = schedule(made, Nest(made, 1, False).used, frozenset()).lanes
    key = repr(replace(made, name="", sizes=(0,))), lanes
    return Member(made, lanes, key, frozenset(s.buffer for s in made.stores))


def print_group(
    members: Sequence[Member], pointers: Sequence[Sequence[int]], name: str
) -> CudaCode:
    """Return kernels with one key as one launch.

    Args:
        members: them.
        pointers: for each of them, which pointer each of its buffers is.
        name: of the function.

    Returns:
        The code, whose function takes all pointers, and one to scratch.
    """
    first = members[0]
    units, dtypes = max(m.units for m in members), first.kernel.buffers
    plan = Schedule(units, 1, THREADS, lanes=first.lanes, piece=1)
    kernel = replace(first.kernel, sizes=(units * first.lanes,))
    p = Printer(kernel, plan, False, frozenset(), Scratch())
    kinds = ["const " * (k not in first.stored) + memory_type(d) for k, d in enumerate(dtypes)]
    given: dict[int, str] = {}
    for member, own in zip(members, pointers, strict=True):
        for k, at in enumerate(own):
            const = k not in member.stored and given.get(at, "const").startswith("const")
            given[at] = "const " * const + memory_type(dtypes[k])
    shared = {k for k in range(len(dtypes)) if len({own[k] for own in pointers}) == 1}
    for k, kind in enumerate(kinds):
        start = f" = q{pointers[0][k]}" if k in shared else ""
        p.b.do(f"GLOBAL({kind}) b{k}{start};")
    p.b.do("const int block = blockIdx.x;")
    p.b.do("int begin, units;")
    begins = [0]
    for member in members:
        begins.append(begins[-1] + member.blocks)
    _choice(p, members, pointers, shared, begins, 0, len(members))
    p.b.do(f"const int unit = (block - begin) * {THREADS} + threadIdx.x;")
    with p.b.braces("if (unit < units)"):
        p.decode(f"({first.lanes} * unit)" if first.lanes > 1 else "unit", [0])
        p.row(list(p.passes), True)
    head = f'extern "C" __global__ void __launch_bounds__({THREADS}) {name}'
    params = [f"GLOBAL({given[at]}) q{at}" for at in sorted(given)]
    text = "\n".join([f"{head}({', '.join([*params, 'GLOBAL(u8) scratch'])}) {{", *p.b.lines, "}"])
    launch = KernelLaunch(name, (begins[-1], 1, 1), THREADS)
    return CudaCode(text, (launch,), 0, dict(p.b.declared))


def _choice(
    p: Printer, members: Sequence[Member], pointers: Sequence[Sequence[int]], shared: set[int],
    begins: Sequence[int], low: int, high: int,
) -> None:  # fmt: skip
    """Write a search for the member whose block this is."""
    if high - low == 1:
        for k, at in enumerate(pointers[low]):
            if k not in shared:
                p.b.do(f"b{k} = q{at};")
        p.b.do(f"begin = {begins[low]};")
        p.b.do(f"units = {members[low].units};")
        return
    middle = (low + high) // 2
    with p.b.braces(f"if (block < {begins[middle]})"):
        _choice(p, members, pointers, shared, begins, low, middle)
    with p.b.braces("else"):
        _choice(p, members, pointers, shared, begins, middle, high)


# ---------------------------------------------------------------------- which ones
def sets_of(
    runs: Sequence[Any], members: Mapping[int, Member | None], same: Mapping[int, int]
) -> list[list[Any]]:
    """Return launches that follow each other, in an order in which equal ones are together.

    Args:
        runs: the launches: their ``code``, ``args`` and ``sizes``.
        members: by code, what may be one of a group.
        same: registers that hold the address of another one.

    Returns:
        Sets of launches, each of which is one launch.
    """
    if sum(members.get(x.code) is not None for x in runs) < 2:
        return [[x] for x in runs]
    steps: list[tuple[Hashable | None, list[Memory], list[Memory]]] = []
    for x in runs:
        used = [
            Memory(str(same.get(at.base, at.base)), at.offset, at.offset + n)
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
