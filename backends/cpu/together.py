"""Kernels that follow each other and are one function run as one job.

A step of an optimizer runs one kernel for each array of a model. In the text that is a table, with
a row for each, and one call, whose parts are those of all rows: so threads share out many small
arrays, and the text of a program grows by a table's row for each.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from funtorch.dims import fixed

from .llvm import Code

__all__ = ["Job", "Memory", "jobs", "rows_text"]

_FEW = 4  # rows from which a table is worth its text, where threads have nothing to share


@dataclass(frozen=True)
class Memory:
    """Bytes ``start`` to ``stop`` of what a name stands for."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Job:
    """One run of a kernel.

    Attributes:
        code: the kernel.
        pointers: addresses of its buffers.
        reads, writes: their memory.
    """

    code: Code
    pointers: tuple[str, ...]
    reads: tuple[Memory, ...]
    writes: tuple[Memory, ...]

    @property
    def plain(self) -> bool:
        """Whether its parts are all that there is to run."""
        code = self.code
        known = fixed(code.parts) and fixed(code.work) and "%z" not in code.text
        return known and not (code.scratch or code.finish or code.table)


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


def jobs(given: Sequence[Job], least_work: int) -> list[list[Job]]:
    """Return kernels in sets that run one after the other; the jobs of a set in any order.

    Every job comes after those that wrote what it reads, and after those that used what it writes.

    Args:
        given: the kernels in order.
        least_work: the work from which threads are worth it.
    """
    sets: list[list[Job]] = []
    of_text: dict[str, list[int]] = {}
    read, written = defaultdict(_Uses), defaultdict(_Uses)
    for job in given:
        uses = [written[m.name].last(m) for m in (*job.reads, *job.writes)]
        uses += [read[m.name].last(m) for m in job.writes]
        first = max(uses, default=-1) + 1
        same = of_text.setdefault(job.code.text, [])
        at = next((k for k in same if k >= first), len(sets)) if job.plain else len(sets)
        if at == len(sets):
            sets.append([])
            same.append(at)
        sets[at].append(job)
        for m in job.reads:
            read[m.name].note(m, at)
        for m in job.writes:
            written[m.name].note(m, at)
    return [part for found in sets for part in _worth(found, least_work)]


def _worth(found: list[Job], least_work: int) -> list[list[Job]]:
    """Return a set as it is if it is worth a table, else each job by itself."""
    work = sum(int(job.code.work) for job in found)
    return [found] if len(found) >= _FEW or work >= least_work else [[job] for job in found]


def rows_text(symbol: str, count: int) -> str:
    """Return a function of parts that runs another one for each row of a table.

    A row is where its parts end among those of all rows, and so many addresses.
    """
    loads = []
    for k in range(count):
        loads.append(f"  %q{k} = getelementptr ptr, ptr %row, i64 {k + 1}")
        loads.append(f"  %p{k} = load ptr, ptr %q{k}")
    args = "".join(f"ptr %p{k}, " for k in range(count))
    return "\n".join(
        [
            "define internal void @?(ptr %table, i64 %lo, i64 %hi) noinline optnone nounwind #0 {",
            "entry:",
            "  br label %item",
            "item:",
            "  %row = phi ptr [ %table, %entry ], [ %next, %after ]",
            "  %start = phi i64 [ 0, %entry ], [ %stop, %after ]",
            "  %stop = load i64, ptr %row",
            f"  %next = getelementptr ptr, ptr %row, i64 {count + 1}",
            "  %below = icmp slt i64 %lo, %start",
            "  %first = select i1 %below, i64 %start, i64 %lo",
            "  %above = icmp slt i64 %stop, %hi",
            "  %last = select i1 %above, i64 %stop, i64 %hi",
            "  %some = icmp slt i64 %first, %last",
            "  br i1 %some, label %go, label %after",
            "go:",
            *loads,
            "  %from = sub nsw i64 %first, %start",
            "  %to = sub nsw i64 %last, %start",
            f"  call void @{symbol}({args}ptr null, i64 %from, i64 %to)",
            "  br label %after",
            "after:",
            "  br i1 %above, label %item, label %done",
            "done:",
            "  ret void",
            "}",
        ]
    )
