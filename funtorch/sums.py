"""Sums between processes: which way for how many bytes.

MPI's own functions are right between machines. On one machine, where the processors move the
messages, compiled programs of a few processes need none: each puts what it has, slot by slot, into
memory that they share, past the caches, and adds up what all have put there, in the order of ranks,
so that all have the same bits. (A line of a cache that another processor has read takes long to be
written again: a sum of 2.7 MB took 1.4 ms through the caches, and 0.3 ms past them.) Many processes
would read too much. There two functions of Open MPI are slow: a sum that comes in parts
(`Reduce_scatter_block`) and sums of more than 16 MiB (`Allreduce` works in memory that is mapped
anew each time). So each process sums one part, of messages that it exchanges with one other after
the other, and sums of many bytes are put together from these parts.

References:
    R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of collective communication operations in
    MPICH", International Journal of High Performance Computing Applications 19 (2005).
"""

from __future__ import annotations

import math
import mmap
import os
from typing import Any

import numpy as np

__all__ = ["ALONE", "FEW", "PIECE", "SLOT", "Room", "scattered", "shared_room", "summed", "way"]

PIECE = 256 << 10
"""Bytes of a message: it is added while it is in a processor's cache."""
SLOT = 256 << 10
"""Bytes that a process puts into shared memory at a time."""
FEW = 4
"""Processes up to which each reads what all others have."""
ALONE = 16 << 20
"""Bytes up to which MPI's own function sums best."""

# By what is asked: up to how many bytes (of a process's part, or of all), and how. Measured with
# benchmarks/allreduce.py; docs/distributed.md has the figures.
_WAYS: dict[str, tuple[tuple[float, str], ...]] = {
    "scatter": ((32 << 10, "library"), (math.inf, "exchange")),
    "all": ((ALONE, "library"), (math.inf, "exchange")),
    "program": ((1 << 10, "library"), (ALONE, "memory"), (math.inf, "exchange")),
    "program of two": ((1 << 10, "library"), (math.inf, "memory")),
}


def way(what: str, size: int, count: int, near: bool) -> str:
    """Return how to sum: by MPI's own function, 'library', by 'exchange' of parts, or in 'memory'.

    Args:
        what: 'scatter' for a part of the sum in each process, 'all' for all of it in all, 'program'
            for that in a compiled program.
        size: bytes of a part, or of all.
        count: the number of processes.
        near: whether all are on one machine; else MPI knows the network better.

    Example:
        >>> [way("program", 1 << 20, n, True) for n in (1, 2, 8)]
        ['library', 'memory', 'library']
    """
    if count == 1 or not near:
        return "library"
    if what == "program":
        what = "program of two" if count == 2 else "program" if count <= FEW else "all"
    for limit, name in _WAYS[what]:
        if size <= limit:
            return name
    raise ValueError(f"no way to sum {size} bytes")


class Room:
    """Memory that the processes of one machine share: two slots of each.

    While the processes add up what lies in one slot, they fill the other; a barrier lies between.

    Args:
        memory: all slots.
        own: the number of this process.

    Attributes:
        table: for native code: how many slots have been used, the number of this process, and the
            addresses of all processes' slots, by rank.
    """

    def __init__(self, memory: mmap.mmap, own: int) -> None:
        self.memory = memory
        slots = np.frombuffer(memory, np.uint8)
        places = slots.ctypes.data + 2 * SLOT * np.arange(slots.size // (2 * SLOT))
        self.table = np.array([0, own, *places], np.int64)


def shared_room(comm: Any) -> Room | None:
    """Return memory that processes of one machine share; None where it has none for all of them.

    Args:
        comm: mpi4py's communicator; all processes call this together.
    """
    own, size, path, memory = comm.Get_rank(), 2 * SLOT * comm.Get_size(), "", None
    try:
        if own == 0:
            path = os.path.join(_SHARED, f"funtorch-{os.getpid()}-{os.urandom(8).hex()}")
            with open(path, "x+b", opener=_private) as opened:
                # Otherwise there might be too little when it is first used.
                os.posix_fallocate(opened.fileno(), 0, size)
                memory = mmap.mmap(opened.fileno(), size)
    except (OSError, AttributeError):
        memory = None
    path = comm.bcast(path)
    try:
        if own and path:
            with open(path, "r+b") as opened:
                memory = mmap.mmap(opened.fileno(), size)
    except (OSError, ValueError):
        memory = None
    there = all(comm.allgather(memory is not None))
    if own == 0 and os.path.exists(path):
        os.unlink(path)
    return Room(memory, own) if there and memory is not None else None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


_SHARED = "/dev/shm"  # Linux's files in memory


def scattered(comm: Any, parts: np.ndarray, out: np.ndarray, kind: Any) -> None:
    """Sum this process's part of all processes' arrays, message by message.

    Args:
        comm: mpi4py's communicator.
        parts: (processes, n), contiguous: a part for each process.
        out: (n,): the sum of what all have for this one; it may be its row of ``parts``.
        kind: MPI's type of the numbers.
    """
    rank, count = comm.Get_rank(), comm.Get_size()
    step = max(PIECE // out.itemsize, 1)
    received = np.empty(min(step, out.size), out.dtype)
    for k in range(1, count):
        target, source = (rank + k) % count, (rank - k) % count
        before = parts[rank] if k == 1 else out
        for at in range(0, out.size, step):
            here = slice(at, at + step)
            got = received[: out[here].size]
            comm.Sendrecv([parts[target, here], kind], target, 0, [got, kind], source, 0)
            np.add(before[here], got, out=out[here])


def summed(comm: Any, buffer: np.ndarray, kind: Any, op: Any, mpi: Any) -> None:
    """Replace a contiguous array by the sum of all processes' ones: parts are summed, and gathered.

    Args:
        comm: mpi4py's communicator.
        buffer: the array.
        kind: MPI's type of its numbers.
        op: MPI's operation that sums them.
        mpi: mpi4py's module.
    """
    count, flat = comm.Get_size(), buffer.reshape(-1)
    part = flat.size // count
    parts, rest = flat[: part * count].reshape(count, part), flat[part * count :]
    scattered(comm, parts, parts[comm.Get_rank()], kind)
    comm.Allgather(mpi.IN_PLACE, [parts, part, kind])
    if rest.size:
        comm.Allreduce(mpi.IN_PLACE, [rest, kind], op)
