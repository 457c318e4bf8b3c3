"""What tests/test_distributed_training.py runs in several processes: training of every kind,
compared with one process that has the whole batch.

    python -m funtorch.launch -n 2 training_cases.py all FOLDER
    python -m funtorch.launch -n 2 training_cases.py resume FOLDER [STEP]

``all`` writes FOLDER/cases-N.json: for each case the largest difference, or the text of an error.
``resume`` trains to the end with checkpoints in FOLDER; the last rank kills itself after STEP.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import distributed, io, nnx, optim, parallel, random
from funtorch.distributed import NamedSharding, P, make_mesh, shard_map

distributed.initialize()
COUNT, RANK = distributed.size(), distributed.rank()
DATA = make_mesh((COUNT,), ("data",))
ROWS = P("data")
chance = np.random.default_rng(0)
X, Y = chance.normal(size=(16, 6)), chance.normal(size=(16, 3))
CASES: dict[str, Callable[[], float]] = {}


def case(function: Callable[[], float]) -> Callable[[], float]:
    CASES[function.__name__] = function
    return function


def with_two(function: Callable[[], float]) -> Callable[[], float]:
    return case(function) if COUNT == 2 else function


def linear(ins: int, outs: int, seed: int) -> nnx.Linear:
    return nnx.Linear(ins, outs, key=random.key(seed), dtype=fnp.float64)


MODEL = nnx.Sequential(linear(6, 8, 0), nnx.Tanh(), linear(8, 3, 1))
OPTIMIZER = optim.adamw(1e-2)


def loss(model: Any, x: Any, y: Any) -> Any:
    return nnx.mse(model(x), y)


def own(x: Any) -> Any:
    """Return this process's part of a batch."""
    return x.reshape(COUNT, -1, *x.shape[1:])[RANK]


def difference(some: Any, others: Any) -> float:
    pairs = zip(*map(ft.tree.leaves, distributed.gather((some, others))), strict=True)
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


def trained(step: Any, model: Any, state: Any, x: Any = X, y: Any = Y) -> tuple[Any, list[float]]:
    losses = []
    for _ in range(4):
        model, state, value = step(model, state, x, y)
        losses.append(float(value))
    return model, losses


@functools.cache
def alone(clipped: bool = False) -> tuple[Any, list[float]]:
    """Train in one process."""
    optimizer = optim.chain(optim.clip_by_global_norm(0.1), OPTIMIZER) if clipped else OPTIMIZER

    def step(model: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = nnx.value_and_grad(loss)(model, x, y)
        updates, state = optimizer.update(grads, state, model)
        return optim.apply_updates(model, updates), state, value

    return trained(step, MODEL, optimizer.init(MODEL))


# ---------------------------------------------------------------------------------- of the gradient
@case
def data_parallel() -> float:
    optimizer = optim.chain(parallel.average_gradients(bucket_bytes=300), OPTIMIZER)

    def step(model: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = nnx.value_and_grad(loss)(model, x, y)
        updates, state = optimizer.update(grads, state, model)
        return optim.apply_updates(model, updates), state, parallel.average(value)

    step = parallel.data_parallel(step, batch_argnums=(2, 3))
    return difference(trained(step, MODEL, optimizer.init(MODEL), own(X), own(Y)), alone())


def _averaged(check: bool) -> float:
    def step(model: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = parallel.averaged(nnx.value_and_grad(loss))(model, x, y)
        updates, state = OPTIMIZER.update(grads, state, model)
        return optim.apply_updates(model, updates), state, value

    specs = (P(), P(), ROWS, ROWS)
    step = ft.jit(shard_map(step, DATA, specs, P(), check_vma=check))
    return difference(trained(step, MODEL, OPTIMIZER.init(MODEL)), alone())


@case
def averaged() -> float:
    return _averaged(True)


@with_two
def averaged_unchecked() -> float:
    return _averaged(False)


@case
def bfloat16_sums() -> float:
    """Averages of bfloat16 are rounded once."""
    x = chance.normal(size=(COUNT, 1000)).astype(np.float32)
    narrow = fnp.asarray(x).astype(fnp.bfloat16)
    mean = shard_map(parallel.average, DATA, ROWS, P())(narrow)[0]
    return difference(mean, np.asarray(narrow, np.float32).mean(0).astype(fnp.bfloat16))


# ------------------------------------------------------------------------ of the optimizer
@case
def zero() -> float:
    optimizer = parallel.zero(OPTIMIZER, max_norm=0.1, bucket_bytes=300)
    state = optimizer.init(MODEL)
    specs = parallel.divided_specs(state, COUNT)

    def step(model: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = nnx.value_and_grad(loss)(model, x, y)
        updates, state = optimizer.update(grads, state, model)
        return optim.apply_updates(model, updates), state, parallel.average(value)

    ins, outs = (P(), specs, ROWS, ROWS), (P(), specs, P())
    step = ft.jit(shard_map(step, DATA, ins, outs, check_vma=False))
    return difference(trained(step, MODEL, state), alone(clipped=True))


# ---------------------------------------------------------------------------------- of the model
def _sharded(check: bool) -> float:
    first = nnx.Sequential(linear(6, 8, 0), nnx.Tanh())
    model = nnx.Sequential(nnx.FullySharded(first), nnx.FullySharded(linear(8, 3, 1)))
    specs, state = nnx.partition_specs(model, DATA), OPTIMIZER.init(model)
    of_state = nnx.state_specs(OPTIMIZER, specs, state)

    def step(model: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = parallel.averaged(nnx.value_and_grad(loss))(model, x, y)
        updates, state = OPTIMIZER.update(grads, state, model)
        return optim.apply_updates(model, updates), state, value

    ins, outs = (specs, of_state, ROWS, ROWS), (specs, of_state, P())
    step = ft.jit(shard_map(step, DATA, ins, outs, check_vma=check))
    return difference(trained(step, model, state), alone())


@case
def fully_sharded() -> float:
    return _sharded(True)


@with_two
def fully_sharded_unchecked() -> float:
    return _sharded(False)


class Block(nnx.Module):
    """A layer of a transformer."""

    attention: nnx.ParallelAttention
    up: nnx.ColumnParallel
    down: nnx.RowParallel
    norm: nnx.LayerNorm

    def __call__(self, x: Any) -> Any:
        x = x + self.attention(self.norm(x), is_causal=True)
        return x + self.down(nnx.gelu(self.up(self.norm(x))))


def _tensor(check: bool) -> float:
    attention = nnx.ParallelAttention(8, 4, key=random.key(2), dtype=fnp.float64)
    up, down = nnx.ColumnParallel(linear(8, 16, 3)), nnx.RowParallel(linear(16, 8, 4))
    block = Block(attention, up, down, nnx.LayerNorm(8, dtype=fnp.float64))
    x = chance.normal(size=(3, 5, 8))
    mesh = make_mesh((COUNT,), ("model",))
    specs = nnx.partition_specs(block, mesh)
    function = nnx.value_and_grad(lambda block, x: (block(x) ** 2).mean())
    run = shard_map(function, mesh, (specs, P()), (P(), specs), check_vma=check)
    return difference(ft.jit(run)(block, x), function(block, x))


@case
def tensor_parallel() -> float:
    return _tensor(True)


@with_two
def tensor_parallel_unchecked() -> float:
    return _tensor(False)


def data_and_tensor_parallel() -> float:
    mesh = make_mesh((2, COUNT // 2), ("data", "model"))
    model = nnx.Sequential(
        nnx.ColumnParallel(linear(6, 8, 0)), nnx.Tanh(), nnx.RowParallel(linear(8, 3, 1))
    )
    specs, state = nnx.partition_specs(model, mesh), OPTIMIZER.init(model)
    of_state = nnx.state_specs(OPTIMIZER, specs, state)

    def step(model: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = parallel.averaged(nnx.value_and_grad(loss))(model, x, y)
        updates, state = OPTIMIZER.update(grads, state, model)
        return optim.apply_updates(model, updates), state, value

    ins, outs = (specs, of_state, ROWS, ROWS), (specs, of_state, P())
    step = ft.jit(shard_map(step, mesh, ins, outs, check_vma=False))
    return difference(trained(step, model, state), alone())


if COUNT == 4:
    case(data_and_tensor_parallel)


@case
def pipeline() -> float:
    weights, x = chance.normal(size=(COUNT, 4, 4)) / 2, chance.normal(size=(5, 3, 4))
    mesh = make_mesh((COUNT,), ("stage",))

    def total(weights: Any, x: Any) -> Any:
        stage = lambda w, h: fnp.tanh(h @ w.reshape(4, 4))
        return (parallel.pipeline(stage, weights, x) ** 2).sum()

    function = ft.value_and_grad(total, (0, 1))
    specs = P("stage"), P()
    run = ft.jit(shard_map(function, mesh, specs, (P(), specs), check_vma=False))
    return difference(run(weights, x), function(weights, x))


@case
def sampled_by_a_loader() -> float:
    """Every sample comes to one process, once in an epoch."""
    from funtorch import data

    numbers = data.ArrayDataset(np.arange(8 * COUNT))
    sampler = data.DistributedSampler(numbers, seed=3)
    loader = data.DataLoader(numbers, batch_size=4, sampler=sampler)
    mine = np.concatenate([np.asarray(batch) for batch in loader])
    seen = distributed.process_allgather(mine, tiled=True)
    return float(np.abs(np.sort(seen) - np.arange(8 * COUNT)).max())


# ---------------------------------------------------------------------------------- on disk
def divided_tree() -> dict[str, Any]:
    """Return arrays that are divided in several ways, and others."""
    other = P(None, "data")
    whole = {
        "rows": (np.arange(24.0).reshape(8, 3), ROWS),
        "columns": (np.arange(8, dtype=np.int32).reshape(1, 8), other),
        "half": (np.arange(16).astype(fnp.bfloat16), ROWS),
        "complex": (np.arange(4) * 1j, ROWS),
    }
    put = lambda x, spec: ft.device_put(x, NamedSharding(DATA, spec))
    tree = {name: put(fnp.asarray(x), spec) for name, (x, spec) in whole.items()}
    return tree | {"bias": fnp.ones(3), "step": 7}


@case
def saved_in_parts() -> float:
    """Files of 2 processes are read by 4, and the other way; each keeps its own part."""
    folder, tree = Path(sys.argv[2]), divided_tree()
    ft.save(folder / f"parts-{COUNT}.safetensors", tree)
    worst = 0.0
    for path in folder.glob("parts-?.safetensors"):
        again = ft.load(path, like=tree)
        assert again["rows"].sharding == tree["rows"].sharding
        assert again["half"].dtype == fnp.bfloat16
        assert again["step"] == 7
        worst = max(worst, difference(again, tree))
    return worst


# ---------------------------------------------------------------------------------- of bad input
@case
def gradients_that_are_summed_already() -> float:
    optimizer = optim.chain(parallel.average_gradients(), OPTIMIZER)

    def step(model: Any, x: Any, y: Any) -> Any:
        return optimizer.update(nnx.grad(loss)(model, x, y), optimizer.init(model), model)[0]

    try:
        shard_map(step, DATA, (P(), ROWS, ROWS), P())(MODEL, X, Y)
    except ValueError as error:
        return float("parallel.per_process(value_and_grad(loss))" not in str(error))
    return 1.0


def resume(folder: str, kill_after: int) -> None:
    optimizer = parallel.zero(OPTIMIZER)
    state = optimizer.init(MODEL)
    specs = parallel.divided_specs(state, COUNT)

    def step(model: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = nnx.value_and_grad(loss)(model, x, y)
        updates, state = optimizer.update(grads, state, model)
        return optim.apply_updates(model, updates), state, parallel.average(value)

    ins, outs = (P(), specs, ROWS, ROWS), (P(), specs, P())
    step = ft.jit(shard_map(step, DATA, ins, outs, check_vma=False))
    shardings = ft.tree.map(lambda spec: NamedSharding(DATA, spec), specs)
    run = {"model": MODEL, "state": ft.device_put(state, shardings), "step": 0}
    with io.CheckpointManager(folder, keep_last=2) as manager:
        found = manager.restore(like=run)
        run = run if found is None else found.tree
        if RANK == 0:
            print("begins after step", run["step"])
        for k in range(run["step"], 12):
            rows = slice(4 * (k % 4), 4 * (k % 4) + 4)
            model, state, _ = step(run["model"], run["state"], X[rows], Y[rows])
            run = {"model": model, "state": state, "step": k + 1}
            manager.save(k + 1, run)
            if k + 1 == kill_after and RANK == COUNT - 1:
                os.kill(os.getpid(), signal.SIGKILL)
    ft.save(Path(folder) / "final.safetensors", run)


def main() -> None:
    what, folder = sys.argv[1:3]
    if what == "resume":
        resume(folder, int(sys.argv[3]) if len(sys.argv) > 3 else 0)
        return
    found: dict[str, Any] = {}
    for name, function in CASES.items():
        try:
            found[name] = function()
        except Exception:
            found[name] = traceback.format_exc()
    worst = distributed.communicator().allgather_object(found)
    if RANK == 0:
        every = {n: [f[n] for f in worst] for n in found}
        Path(folder, f"cases-{COUNT}.json").write_text(json.dumps(every))


if __name__ == "__main__":
    main()
