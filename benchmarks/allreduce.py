"""What a sum over processes takes, beside mpi4py's own.

    python -m funtorch.launch -n 2 --threads 1 benchmarks/allreduce.py [--bytes 8 4096]

prints microseconds: `MPI.Comm.Allreduce` of mpi4py in place, `Communicator.allreduce`, `lax.psum`
inside of a compiled loop, and, with as many bytes, `MPI.Comm.Reduce_scatter_block` and
`lax.psum_scatter`. Rounds take turns, since other programs may use the machine; each figure is the
median of rounds, and a ratio is that of the same rounds. As root it asks for a real-time priority
while it measures, where there is a processor for each process.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI

import funtorch as ft
from funtorch import distributed, lax
from funtorch.sharding import P

_SIZES = (8, 1 << 12, 1 << 16, 1 << 20, 2_700_000, 1 << 24, 1 << 26)


def looped(one: Callable[[Any], Any], mesh: Any, turns: int, x: Any) -> Callable[[], None]:
    """Return a call of a compiled loop, whose turns dirty the memory that they sum."""

    def run(x: Any) -> Any:
        return lax.fori_loop(0, turns, lambda i, v: one(v) * 0.5, x)

    f = ft.jit(ft.shard_map(run, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False))
    return lambda: f(x).block_until_ready()


def contestants(count: int, turns: int, everyone: Any) -> dict[str, Callable[[], None]]:
    """Return what does ``turns`` sums of ``count`` numbers, by name."""
    n, comm = everyone.size, everyone.comm
    mesh = distributed.make_mesh((n,), ("i",))
    x, array = np.ones(count, np.float32), ft.numpy.ones(count, "float32")
    part = np.empty(max(count // n, 1), np.float32)
    parts = np.ones((n, part.size), np.float32)
    rows = ft.numpy.ones(parts.shape, "float32")

    def repeated(f: Callable[[], Any], buffer: np.ndarray) -> Callable[[], None]:
        def run() -> None:
            for _ in range(turns):
                f()
                np.multiply(buffer, 0.5, out=buffer)

        return run

    def scattered(v: Any) -> Any:
        return lax.broadcast(lax.psum_scatter(v, "i"), (n,))

    return {
        "mpi4py": repeated(lambda: comm.Allreduce(MPI.IN_PLACE, x, MPI.SUM), x),
        "communicator": repeated(lambda: everyone.allreduce(x), x),
        "psum": looped(lambda v: lax.psum(v, "i"), mesh, turns, array),
        "mpi4py scatter": repeated(lambda: comm.Reduce_scatter_block(parts, part, MPI.SUM), parts),
        "psum_scatter": looped(scattered, mesh, turns, rows),
    }


def timed(f: Callable[[], None], everyone: Any, urgent: bool) -> float:
    """Return the seconds of a call that all processes begin together."""
    everyone.barrier()
    time.sleep(0.01)
    if urgent:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        everyone.barrier()
        start = time.perf_counter()
        f()
        return time.perf_counter() - start
    finally:
        if urgent:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bytes", type=int, nargs="*", default=_SIZES)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    everyone = distributed.communicator()
    if everyone.size == 1:
        raise SystemExit("start it with `python -m funtorch.launch -n 2 benchmarks/allreduce.py`")
    urgent = hasattr(os, "geteuid") and os.geteuid() == 0
    urgent = urgent and everyone.size <= len(os.sched_getaffinity(0))
    for size in args.bytes:
        turns = int(np.clip(2e6 / size, 2, 100))
        runs = contestants(max(size // 4, 1), turns, everyone)
        found: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(args.rounds + 1):  # the first compiles
            for name, f in runs.items():
                found[name].append(timed(f, everyone, urgent) / turns * 1e6)
        every = np.array([[f[1:] for f in found.values()]])
        every = np.max(everyone.allgather_object(every), 0)[0]
        if everyone.rank == 0:
            base = dict(zip(found, every, strict=True))
            shown = [
                f"{name} {np.median(t):.1f} (x{np.median(t / base[against]):.2f})"
                for (name, t), against in zip(
                    base.items(), ["mpi4py"] * 3 + ["mpi4py scatter"] * 2, strict=True
                )
            ]
            print(f"{size:>9} bytes, {everyone.size} ranks: {', '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
