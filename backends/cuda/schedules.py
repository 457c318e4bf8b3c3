"""Which threads do what of a kernel: chosen by its sizes alone, so that results depend on nothing
else.

A *group* of threads does a row: one thread, some of a warp, a warp, or a whole block. Neighbouring
threads are neighbours along the last axis: members of a group where that is an inner one, groups
*across* each other where it is a row axis. Few long rows are cut into *parts*, which different
blocks do; a launch for each stage then reads what the parts of the stage before left in scratch.

    kernels               group                     across   parts
    no inner axes         1, on several lanes       -        1
    rows of a few         1                         -        1
    rows                  a part of a warp to 32    no       1
    long rows             a block                   no       1
    few long rows         a block                   no       many
    columns               1 to 8 (more for few)     yes      1 or many
    totals                a warp or a block, and each does a run of rows
    cumulative            1, or 2 to 256 for few long rows, each with neighbouring elements
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..kernel import Kernel, axes_of
from .nest import is_aligned

__all__ = ["BYTES", "FULL", "THREADS", "Schedule", "schedule"]

THREADS = 256  # of a block, usually
_BUSY = 1 << 15  # threads that keep a GPU busy with arithmetic, and
_LOADS = 1 << 17  # with memory, each reading one number at a time
FULL = 264  # blocks that keep it busy
_BRIEF = 8  # elements up to which one thread does a row
_REGISTERS = 32  # elements of a row that a thread may keep of each value
_TURNS = 8  # turns of a loop that is written out for that
_MOST_BLOCKS = 1 << 16
_LONGEST = 900  # operations that a thread's lanes may have
_ROWS = 8  # rows that a group does at least for a total
_TOTALS = 512  # most groups that do
BYTES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "float": 4, "double": 8}


@dataclass(frozen=True)
class Schedule:
    """How the threads of a launch share out a kernel.

    Attributes:
        units: rows, or runs of as many rows as there are lanes.
        length: elements of a row.
        threads: threads of a block.
        group: threads that do a row together.
        across: whether the threads of a group are apart, with neighbouring rows between them.
        parts: pieces of a row that different blocks do.
        piece: elements of a part, a multiple of the elements that a group does at a time.
        lanes: elements that a thread does at a time.
        turns: how often a thread's loop over a part turns, if it is unrolled and what is wanted
            again is kept in registers; otherwise 0.
        run: units that a group does one after the other for totals; 0 where there are none.
        chunk: neighbouring elements that a thread goes along for a cumulative operation, after what
            the threads before it came to; 0 where threads have every so many elements.
    """

    units: int
    length: int
    threads: int
    group: int = 1
    across: bool = False
    parts: int = 1
    piece: int = 0
    lanes: int = 1
    turns: int = 0
    run: int = 0
    chunk: int = 0

    @property
    def side(self) -> int:
        """Groups of a block."""
        return self.threads // self.group

    @property
    def blocks(self) -> int:
        """Blocks of a launch, for each part of the rows."""
        groups = -(-self.units // self.run) if self.run else self.units
        return min(-(-groups // self.side), _MOST_BLOCKS)

    @property
    def step(self) -> int:
        """Elements that a group does at a time."""
        return self.group * (1 if self.across else self.lanes)


def _above(n: int) -> int:
    """Return the least power of two that is not below n."""
    return 1 << max(n - 1, 0).bit_length()


def _lanes(kernel: Kernel, used: list[int]) -> int:
    """Return how many neighbours along the last axis a thread does at once."""
    if not kernel.sizes:
        return 1
    last = len(kernel.sizes) - 1
    axes = axes_of(kernel)
    still = {n for n, a in enumerate(axes) if last not in a}
    moving = [
        (op.where, kernel.buffers[op.attr])
        for n, op in enumerate(kernel.body)
        if op.name == "load" and n in used and op.where is not None
    ]
    moving += [(s.where, kernel.buffers[s.buffer]) for s in kernel.stores if not s.over_rows]
    varying = sum(n not in still for n in used)
    best = 1
    for lanes in (2, 4, 8):
        fits = int(kernel.sizes[last]) % lanes == 0 and varying * lanes <= _LONGEST
        vectors = [d for where, d in moving if is_aligned(kernel, where, lanes, still)]
        enough = all if lanes > 4 else any
        if fits and vectors and enough(lanes * d.itemsize <= 16 for d in vectors):
            best = lanes
    return best


def schedule(
    kernel: Kernel, used: list[int], serial: frozenset[int], whole: bool = False
) -> Schedule:
    """Choose a kernel's schedule.

    Args:
        kernel: it.
        used: numbers of the values that its stores need.
        serial: axes that one thread must go along in order.
        whole: whether rows must not be cut into parts.
    """
    pairs = list(zip(kernel.sizes, kernel.inner, strict=True))
    rows, length = 1, 1
    for n, inner in pairs:
        rows, length = (rows, length * int(n)) if inner else (rows * int(n), length)
    totals = any(s.over_rows for s in kernel.stores)
    inner_last = bool(pairs) and pairs[-1][1]
    if serial:
        units = math.prod(
            int(n) for k, (n, inner) in enumerate(pairs) if not inner and k not in serial
        )
        return Schedule(units, length, _few(units), piece=length)
    runs = any(op.name == "cumulate" for op in kernel.body)
    if runs and not totals:
        return _running(kernel, rows, length)
    if not any(kernel.inner):
        lanes = _lanes(kernel, used)
        return Schedule(rows // lanes, 1, _few(rows // lanes), lanes=lanes, piece=1)
    if totals:
        lanes = _lanes(kernel, used) if inner_last and not runs else 1
        group = max(128 if length >= 32 * _TURNS else 32, _group(length, lanes))
        return _with_totals(rows, length, lanes, 1 if runs else group)
    whole = whole or _in_place(kernel)
    if inner_last:
        return _along(kernel, used, rows, length, whole)
    return _across(kernel, rows, length, whole)


def _running(kernel: Kernel, rows: int, length: int) -> Schedule:
    """Choose for cumulative operations: few long rows are shared out among threads, each of which
    combines its elements first, and goes along them again when it knows what comes before."""
    found = [n for n, op in enumerate(kernel.body) if op.name == "cumulate"]
    reads: dict[int, set[int]] = {}
    for n, op in enumerate(kernel.body):
        given = (*op.args, *(m for m, _ in op.where.dynamic)) if op.where else op.args
        reads[n] = set(given).union(*(reads[m] for m in given))
    plain = all(reads[n].isdisjoint(found) for n in found)
    plain = plain and not any(op.name == "reduce" for op in kernel.body)
    across = not kernel.inner[-1]
    width = min(32, _above(int(kernel.sizes[-1]))) if across else 1
    group = 1
    while plain and group < 256 and group * width < 1024 and rows * group < _BUSY:
        if length < 16 * group:
            break
        group *= 2
    if group == 1:
        return Schedule(rows, length, _few(rows), piece=length)
    threads = width * group if across else max(group, 64)
    chunk = -(-length // group)
    return Schedule(rows, length, threads, group, across, 1, length, chunk=chunk)


def _in_place(kernel: Kernel) -> bool:
    """Tell whether a kernel stores to memory that it reads: a row's threads must stay together."""
    loaded = {op.attr for op in kernel.body if op.name == "load"}
    return any(s.buffer in loaded for s in kernel.stores)


def _few(units: int) -> int:
    """Return the threads of a block when each does a unit: few units, more blocks."""
    return THREADS if units >= _BUSY else 128 if units >= 1 << 12 else 64


def _kept(made: Schedule) -> Schedule:
    """Let a schedule keep values in registers, if its parts are short."""
    turns = -(-made.piece // made.step)
    short = turns <= _TURNS and turns * made.lanes <= _REGISTERS
    return Schedule(**{**made.__dict__, "turns": turns if short else 0})


def _group(length: int, lanes: int) -> int:
    """Return the threads of a group for rows of a length: each does some elements."""
    each = 8 * lanes
    wanted = _above(-(-length // each))
    return max(4, wanted) if wanted <= 32 else min(max(wanted, 64), 1024)


def _along(kernel: Kernel, used: list[int], rows: int, length: int, whole: bool) -> Schedule:
    """Choose for rows that lie along memory."""
    lanes = _lanes(kernel, used)
    if length <= _BRIEF:
        return _kept(Schedule(rows, length, _few(rows), piece=length, lanes=lanes))
    group = _group(length, lanes)
    while group < 1024 and rows * group < _BUSY and group * lanes < length:
        group *= 2
    group = 64 if group == 32 and rows * 32 < _BUSY // 4 and length > 32 * lanes else group
    threads = max(group, min(THREADS, 128)) if group <= 32 else group
    parts, piece = _cut(rows, length, threads, group * lanes, whole)
    if parts > 1:
        group = threads = THREADS
        parts, piece = _cut(rows, length, threads, group * lanes, whole)
    return _kept(Schedule(rows, length, threads, group, False, parts, piece, lanes))


def _cut(rows: int, length: int, threads: int, step: int, whole: bool) -> tuple[int, int]:
    """Return how many parts few long rows have, and how long these are."""
    wanted = min(max(1, 2 * FULL // max(rows, 1)), -(-length // (8 * step)))
    if whole or wanted <= 1 or rows >= FULL:
        return 1, -(-length // step) * step
    piece = -(-length // (wanted * step)) * step
    return -(-length // piece), piece


def _across(kernel: Kernel, rows: int, length: int, whole: bool) -> Schedule:
    """Choose for rows that lie across memory."""
    width = min(32, _above(int(kernel.sizes[-1])))
    group = 1
    while group * width < THREADS and rows * group < _LOADS and 16 * group < length:
        group *= 2
    if group == 1:
        return Schedule(rows, length, _few(rows), piece=length)
    threads = width * group
    parts, piece = 1, -(-length // group) * group
    blocks = -(-rows // width)
    if not whole and blocks * threads < _LOADS and length >= 64 * group:
        wanted = min(-(-_LOADS // (blocks * threads)), -(-length // (16 * group)), 512)
        piece = -(-length // (wanted * group)) * group
        parts = -(-length // piece)
    return Schedule(rows, length, threads, group, True, parts, piece)


def _with_totals(rows: int, length: int, lanes: int, group: int) -> Schedule:
    """Choose for rows of which something is reduced over all rows, too."""
    threads = max(group, 128)
    groups = max(1, min(_TOTALS, -(-rows // _ROWS)))
    run = -(-rows // groups)
    piece = -(-length // (group * lanes)) * group * lanes
    return _kept(Schedule(rows, length, threads, group, False, 1, piece, lanes, 0, run))
