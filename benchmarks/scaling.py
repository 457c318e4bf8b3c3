"""What a step of training in several processes takes, and what it is made of.

    python -m funtorch.launch -n 2 --threads 1 benchmarks/scaling.py [--width 512] [--batch 128]

prints the time of a step of data-parallel training, and of its parts measured by themselves:

- computing: the same step on each process's part of the batch, of all processes at the same time,
  since they share memory, caches and the clock's head room, but without a word between them;
- all-reduces of as many bytes as the gradients have, by mpi4py: of memory that was just written, as
  gradients are ("written"), and of one array that nobody else touches, again and again ("hot");
- the sums that compiled programs make, of memory that was just written ("psum").

An ideal is computing plus one of these. What is sent while gradients are still computed makes a
step less than that; waiting for the slower process, which a barrier takes out of the parts, makes
it more.
All are the least, lower decile and median of single steps, in turns, of the slowest process each.
As root the program asks for a real-time priority while it measures, in bursts below a second, where
there is a processor for each process: other programs may use the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from mpi4py import MPI

import funtorch as ft
from funtorch import distributed, lax, nnx, optim, parallel, random
from funtorch.sharding import P

BUFFERS = 4  # arrays that take turns, so that none is left in a cache from its last time


def make_step(optimizer: Any) -> Callable[..., Any]:
    def step(model: Any, state: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
        loss, grads = nnx.value_and_grad(lambda m: nnx.cross_entropy(m(x), y))(model)
        updates, state = optimizer.update(grads, state, model)
        return optim.apply_updates(model, updates), state, parallel.average(loss)

    return step


def sums_of(size: int, everyone: Any) -> dict[str, Callable[[], Callable[[], Any]]]:
    """Return what prepares, untimed, an all-reduce of so many numbers, by name."""
    buffers = [np.zeros(size, np.float32) for _ in range(BUFFERS)]
    fresh = np.ones(size, np.float32)
    mesh = distributed.make_mesh((everyone.size,), ("i",))
    total = ft.jit(ft.shard_map(lambda x: lax.psum(x, "i"), mesh=mesh, in_specs=P(), out_specs=P()))

    def written() -> Callable[[], Any]:
        buffers.append(buffers.pop(0))
        buffers[0][...] = fresh
        return lambda: MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, buffers[0], MPI.SUM)

    def hot() -> Callable[[], Any]:
        return lambda: MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, fresh, MPI.MAX)

    def compiled() -> Callable[[], Any]:
        x = ft.numpy.asarray(fresh) * 1
        return lambda: total(x).block_until_ready()

    return {"written": written, "hot": hot, "psum": compiled}


@contextlib.contextmanager
def urgently(wanted: bool) -> Iterator[None]:
    """Run before all ordinary programs."""
    if wanted:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        if wanted:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch", type=int, default=128, help="of all processes together")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=12, help="in each round")
    args = parser.parse_args()
    everyone = distributed.communicator()
    chance = np.random.default_rng(everyone.rank)
    own = args.batch // everyone.size
    x, y = chance.random((own, 784), np.float32), chance.integers(0, 10, own)
    first, second, third = random.split(random.key(0), 3)
    model: Any = nnx.Sequential(
        nnx.Linear(784, args.width, key=first), nnx.ReLU(),
        nnx.Linear(args.width, args.width, key=second), nnx.ReLU(),
        nnx.Linear(args.width, 10, key=third),
    )  # fmt: skip
    size = sum(leaf.size for leaf in ft.tree.leaves(model))
    adam = optim.adam(1e-3)
    together = optim.chain(parallel.average_gradients(), adam)
    runs = {
        "step": (parallel.data_parallel(make_step(together), batch_argnums=(2, 3)), together),
        "computing": (ft.jit(make_step(adam)), adam),
    }
    states = {name: (model, optimizer.init(model)) for name, (_, optimizer) in runs.items()}
    sums = sums_of(size, everyone)

    def trained(name: str) -> None:
        model, state = states[name]
        model, state, loss = runs[name][0](model, state, x, y)
        np.asarray(loss)
        states[name] = model, state

    jobs: dict[str, Callable[[], Callable[[], Any]]] = {
        **{name: lambda name=name: lambda: trained(name) for name in runs}, **sums
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in jobs}
    urgent = hasattr(os, "geteuid") and os.geteuid() == 0
    urgent = urgent and everyone.size <= len(os.sched_getaffinity(0))
    for round_ in range(args.rounds):
        for name, prepare in jobs.items():
            everyone.barrier()
            time.sleep(0.02)  # what has waited for the processors shall have them
            with urgently(urgent and round_ > 0):
                for k in range(args.steps + 2):
                    job = prepare()
                    if name in sums or k == 0:
                        everyone.barrier()
                    start = time.perf_counter()
                    job()
                    if round_ > 0 and k > 1:  # the first compiles, or finds cold caches
                        times[name].append(time.perf_counter() - start)
    every = everyone.allgather_object(times)
    if everyone.rank == 0:
        report(every, own, 4 * size)


def report(every: list[dict[str, list[float]]], own: int, size: int) -> None:
    """Print what all processes have measured."""
    # A step lasts as long as the slowest process does, alone or not.
    worst = {n: np.max([t[n] for t in every], axis=0) * 1e3 for n in every[0]}
    found = {n: np.quantile(t, (0, 0.1, 0.5)) for n, t in worst.items()}
    over = {
        f"step over computing + {name}": found["step"] / (found["computing"] + found[name])
        for name in found
        if name not in ("step", "computing")
    }
    shown = {
        "processes": len(every),
        "batch of each": own,
        "bytes of gradients": size,
        "ms (least, 10 %, median)": {n: [round(float(q), 3) for q in t] for n, t in found.items()},
        **{n: [round(float(q), 3) for q in t] for n, t in over.items()},
    }
    print(json.dumps(shown, indent=1))


if __name__ == "__main__":
    main()
