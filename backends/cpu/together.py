"""Kernels that follow each other and are one function run as one job.

A step of an optimizer runs one kernel for each array of a model. In the text that is a table, with
a row for each, and one call, whose parts are those of all rows: so threads share out many small
arrays, and the text of a program grows by a table's row for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from funtorch.dims import fixed

from ..together import Memory, in_sets
from .llvm import Code

__all__ = ["Job", "Memory", "jobs", "rows_text"]

_FEW = 4  # rows from which a table is worth its text, where threads have nothing to share


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


def jobs(given: Sequence[Job], least_work: int) -> list[list[Job]]:
    """Return kernels in sets that run one after the other; the jobs of a set in any order.

    Args:
        given: the kernels in order.
        least_work: the work from which threads are worth it.
    """
    steps = [(job.code.text if job.plain else None, job.reads, job.writes) for job in given]
    sets = [[given[k] for k in found] for found in in_sets(steps)]
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
