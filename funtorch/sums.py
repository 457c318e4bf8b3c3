"""Sums between processes: which way for how many bytes.

MPI's own functions are right for most sizes. On one machine, where the processors move the
messages, two of Open MPI's are not: a sum that comes in parts (`Reduce_scatter_block`) and sums of
more than 16 MiB (`Allreduce` works in memory that is mapped anew each time). There each process
sums one part, of messages that it exchanges with one other after the other, and sums of many bytes
are put together from these parts. As one process computes each part, all have the same bits.

References:
    R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of collective communication operations in
    MPICH", International Journal of High Performance Computing Applications 19 (2005).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["PIECE", "scattered", "summed", "way"]

PIECE = 256 << 10
"""Bytes of a message: it is added while it is in a processor's cache."""

# By what is asked: up to how many bytes (of a process's part, or of all), and how. Measured with
# benchmarks/allreduce.py; docs/distributed.md has the figures.
_WAYS: dict[str, tuple[tuple[float, str], ...]] = {
    "scatter": ((32 << 10, "library"), (math.inf, "exchange")),
    "all": ((16 << 20, "library"), (math.inf, "exchange")),
}


def way(what: str, size: int, count: int, near: bool) -> str:
    """Return how to sum: by MPI's own function, 'library', or by 'exchange' of parts.

    Args:
        what: 'scatter' for a part of the sum in each process, 'all' for all of it in all.
        size: bytes of a part, or of all.
        count: the number of processes.
        near: whether all are on one machine; else MPI knows the network better.

    Example:
        >>> way("all", 1 << 20, 2, True), way("all", 1 << 26, 2, True)
        ('library', 'exchange')
    """
    if count == 1 or not near:
        return "library"
    for limit, name in _WAYS[what]:
        if size <= limit:
            return name
    raise ValueError(f"no way to sum {size} bytes")


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
