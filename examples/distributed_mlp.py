"""Train a network on MNIST-5k in several processes, each with its part of every batch.

    python -m funtorch.launch -n 2 examples/distributed_mlp.py [--epochs 10] [--batch 128] [--zero]

Any number of processes that divides the batch gives the same losses, to rounding; so does
``python examples/distributed_mlp.py``, which is one. A run that is killed goes on from its last
checkpoint, in any number of processes. With --zero, they divide the state of the optimizer.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import data, distributed, io, nnx, optim, parallel, random
from funtorch.distributed import NamedSharding, P, make_mesh, shard_map


def make_model(width: int) -> nnx.Sequential:
    first, second, third = random.split(random.key(0), 3)
    return nnx.Sequential(
        nnx.Linear(784, width, key=first), nnx.ReLU(),
        nnx.Linear(width, width, key=second), nnx.ReLU(),
        nnx.Linear(width, 10, key=third),
    )  # fmt: skip


def load() -> tuple[data.ArrayDataset, tuple[np.ndarray, np.ndarray]]:
    """Return 4000 digits to learn from, and 1000 others."""
    digits = data.mnist_5k()
    images, labels = digits[np.arange(len(digits))]
    images = images.reshape(len(images), -1)
    order = np.random.default_rng(0).permutation(len(images))
    rest, test = order[:4000], order[4000:]
    return data.ArrayDataset(images[rest], labels[rest]), (images[test], labels[test])


def loss_fn(model: Any, images: Any, labels: Any) -> Any:
    return nnx.cross_entropy(model(images), labels)


def make_step(optimizer: Any, state: Any, zero: bool, mesh: Any) -> tuple[Any, Any]:
    """Return the step, and how the state is divided."""

    def step(model: Any, state: Any, images: Any, labels: Any) -> tuple[Any, Any, Any]:
        loss, grads = nnx.value_and_grad(loss_fn)(model, images, labels)
        updates, state = optimizer.update(grads, state, model)  # exchanges gradients
        return optim.apply_updates(model, updates), state, parallel.average(loss)

    if not zero:
        return parallel.data_parallel(step, batch_argnums=(2, 3), mesh=mesh), P()
    specs = parallel.divided_specs(state, mesh.size)
    rows = NamedSharding(mesh, P("data"))
    ins, outs = (P(), specs, rows.spec, rows.spec), (P(), specs, P())
    run = ft.jit(shard_map(step, mesh, ins, outs, check_vma=False))

    def of_own_part(model: Any, state: Any, *batch: Any) -> Any:
        whole = [distributed.make_array_from_process_local_data(rows, x) for x in batch]
        return run(model, state, *whole)

    return of_own_part, specs


@ft.jit
def right(model: Any, images: Any, labels: Any) -> Any:
    return (fnp.argmax(model(images), axis=-1) == labels).mean()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128, help="of all processes together")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--zero", action="store_true", help="divide the state of the optimizer")
    parser.add_argument("--out", type=Path, default=Path("distributed_run"))
    args = parser.parse_args()
    if args.batch % distributed.size():
        parser.error(f"--batch {args.batch} is no multiple of {distributed.size()} processes")
    return args


def main() -> None:
    args = parse()
    count, first = distributed.size(), distributed.rank() == 0
    mesh = make_mesh((count,), ("data",))
    train, test = load()
    sampler = data.DistributedSampler(train, drop_last=True)
    loader = data.DataLoader(train, args.batch // count, sampler=sampler, drop_last=True)

    adam = optim.adam(1e-3)
    optimizer: Any = parallel.zero(adam)
    if not args.zero:
        optimizer = optim.chain(parallel.average_gradients(), adam)
    model = make_model(args.width)
    state = optimizer.init(model)
    step, specs = make_step(optimizer, state, args.zero, mesh)
    if args.zero:
        places = ft.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
        state = ft.device_put(state, places)

    run = {"model": model, "state": state, "loader": loader.state_dict()}
    with io.CheckpointManager(args.out, keep_last=1) as checkpoints:
        found = checkpoints.restore(like=run)
        if found is not None:
            run = found.tree
            loader.load_state_dict(run["loader"])
            if first:
                print(f"goes on after epoch {found.step}")
        steps, start, loss = 0, time.perf_counter(), fnp.zeros(())
        for epoch in range(1 if found is None else found.step + 1, args.epochs + 1):
            for images, labels in loader:
                run["model"], run["state"], loss = step(run["model"], run["state"], images, labels)
                steps += 1
            run["loader"] = loader.state_dict()
            checkpoints.save(epoch, run)
            if first:
                print(f"epoch {epoch:2d}  loss {float(loss):.6f}")
    each = (time.perf_counter() - start) / max(steps, 1)
    if first:
        print(
            f"test accuracy {float(right(run['model'], *test)):.1%} on 1000 digits with {count} "
            f"processes, {each * 1e3:.1f} ms per step"
        )


if __name__ == "__main__":
    main()
