"""Steps that follow each other, in sets whose steps may run in any order: equal ones together.

What a step reads and writes decides what it may come before; a step joins the first set of steps
like it that is not too early.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

__all__ = ["Memory", "in_sets"]


@dataclass(frozen=True)
class Memory:
    """Bytes ``start`` to ``stop`` of what a name stands for."""

    name: str
    start: int
    stop: int


class _Uses:
    """The last set of jobs that used each byte of a memory, -1 where none did."""

    def __init__(self) -> None:
        self.starts, self.sets = [-1], [-1]  # of each run of bytes that have the same

    def _cut(self, at: int) -> int:
        """Let a run begin at a byte; return its number."""
        k = bisect_left(self.starts, at)
        if k == len(self.starts) or self.starts[k] != at:
            self.starts.insert(k, at)
            self.sets.insert(k, self.sets[k - 1])
        return k

    def last(self, m: Memory) -> int:
        first, end = bisect_right(self.starts, m.start) - 1, bisect_left(self.starts, m.stop)
        return max(self.sets[first:end], default=-1)

    def note(self, m: Memory, number: int) -> None:
        first, end = self._cut(m.start), self._cut(m.stop)
        self.sets[first:end] = [max(k, number) for k in self.sets[first:end]]


def in_sets(
    given: Sequence[tuple[Hashable | None, Sequence[Memory], Sequence[Memory]]],
) -> list[list[int]]:
    """Return the numbers of steps in sets that run one after the other; a set's in any order.

    Every step comes after those that wrote what it reads, and after those that used what it writes.

    Args:
        given: the steps in order: what those that may share a set have in common, None where a
            step stays alone; what it reads, and what it writes.
    """
    sets: list[list[int]] = []
    alike: dict[Hashable, list[int]] = {}
    read, written = defaultdict(_Uses), defaultdict(_Uses)
    for number, (key, reads, writes) in enumerate(given):
        uses = [written[m.name].last(m) for m in (*reads, *writes)]
        uses += [read[m.name].last(m) for m in writes]
        first = max(uses, default=-1) + 1
        same = alike.setdefault(key, [])
        at = len(sets) if key is None else next((k for k in same if k >= first), len(sets))
        if at == len(sets):
            sets.append([])
            same.append(at)
        sets[at].append(number)
        for m in reads:
            read[m.name].note(m, at)
        for m in writes:
            written[m.name].note(m, at)
    return sets
