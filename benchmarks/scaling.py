"""What a step of training in several processes takes, and what it is made of.

    python -m funtorch.launch -n 2 --threads 1 benchmarks/scaling.py [--width 512] [--batch 128]

prints the time of a step of data-parallel training, of the same step of one process alone on its
part of the batch, and of all-reduces of as many bytes by mpi4py. The ideal is the sum of the last
two: what is sent while gradients are still computed makes it less. All are medians and quantiles of
single steps, in turns, since other programs may use the machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import funtorch as ft
from funtorch import distributed, nnx, optim, parallel, random


def make_step(optimizer: Any) -> Callable[..., Any]:
    def step(model: Any, state: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
        loss, grads = nnx.value_and_grad(lambda m: nnx.cross_entropy(m(x), y))(model)
        updates, state = optimizer.update(grads, state, model)
        return optim.apply_updates(model, updates), state, parallel.average(loss)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch", type=int, default=128, help="of all processes together")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20, help="in each round")
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
        "together": (parallel.data_parallel(make_step(together), batch_argnums=(2, 3)), together),
        "alone": (ft.jit(make_step(adam)), adam),
    }
    states = {name: (model, optimizer.init(model)) for name, (_, optimizer) in runs.items()}
    buffer = np.full(size, 0.0, np.float32)  # written, so that it is in memory of its own
    times: dict[str, list[float]] = {"together": [], "alone": [], "all-reduce": []}

    def trained(name: str) -> None:
        model, state = states[name]
        model, state, loss = runs[name][0](model, state, x, y)
        np.asarray(loss)
        states[name] = model, state

    for round_ in range(args.rounds):
        for name, found in times.items():
            everyone.barrier()
            for _ in range(args.steps):
                start = time.perf_counter()
                if name == "all-reduce":
                    everyone.allreduce(buffer)
                else:
                    trained(name)
                if round_ > 0:  # the first compiles
                    found.append(time.perf_counter() - start)
    every = everyone.allgather_object(times)
    if everyone.rank == 0:
        # A step lasts as long as the slowest process does, alone or not.
        worst = {n: np.max([t[n] for t in every], axis=0) * 1e3 for n in times}
        quantiles = {n: [round(float(q), 3) for q in np.quantile(t, (0, 0.1, 0.5))]
                     for n, t in worst.items()}  # fmt: skip
        ideal = [a + b for a, b in zip(quantiles["alone"], quantiles["all-reduce"], strict=True)]
        print(
            json.dumps(
                {
                    "processes": everyone.size,
                    "batch of each": own,
                    "bytes of gradients": 4 * size,
                    "ms (least, 10 %, median)": quantiles,
                    "step over ideal": [
                        round(t / i, 3) for t, i in zip(quantiles["together"], ideal, strict=True)
                    ],
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
