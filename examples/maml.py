"""Learn to learn: a start from which one gradient step on ten points finds a new sine wave.

Model-agnostic meta-learning takes the gradient of what a gradient step leads to, averaged over
tasks: `grad` of `vmap` of a function with a `grad` in it. A network trained on all waves at once,
without that, is the comparison: it can only learn their mean.

    python examples/maml.py [--steps 10000] [--shots 10] [--out maml_run]

The last line is the mean squared error on 1000 new waves after the step, of both networks.

References:
    Finn, Abbeel and Levine (2017), Model-agnostic meta-learning for fast adaptation of deep
    networks.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from tqdm import tqdm

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx, optim, random

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RATE = 0.01  # of the one step


def make_model(key: Any) -> nnx.Sequential:
    k1, k2, k3 = random.split(key, 3)
    return nnx.Sequential(
        nnx.Linear(1, 40, key=k1), nnx.ReLU(), nnx.Linear(40, 40, key=k2), nnx.ReLU(),
        nnx.Linear(40, 1, key=k3),
    )  # fmt: skip


def wave(key: Any, shots: int) -> tuple[Any, Any, Any, Any]:
    """Draw a sine wave, points of it to learn from, and as many to be tested on."""
    k1, k2, k3 = random.split(key, 3)
    height = random.uniform(k1, minval=0.1, maxval=5.0)
    phase = random.uniform(k2, maxval=np.pi)
    x = random.uniform(k3, (2, shots, 1), minval=-5.0, maxval=5.0)
    y = height * fnp.sin(x - phase)
    return x[0], y[0], x[1], y[1]


def loss(model: Any, x: Any, y: Any) -> Any:
    return ((model(x) - y) ** 2).mean()


def adapted(model: Any, x: Any, y: Any, steps: int = 1) -> Any:
    for _ in range(steps):
        gradient = ft.grad(loss)(model, x, y)
        model = ft.tree.map(lambda p, g: p - RATE * g, model, gradient)
    return model


def with_foresight(model: Any, x: Any, y: Any, x_test: Any, y_test: Any) -> Any:
    return loss(adapted(model, x, y), x_test, y_test)


def without(model: Any, x: Any, y: Any, x_test: Any, y_test: Any) -> Any:
    return loss(model, x_test, y_test)


def train(objective: Any, args: argparse.Namespace) -> Any:
    """Minimize the mean of an objective over waves."""
    optimizer = optim.adam(1e-3)

    @ft.jit
    def step(model: Any, state: Any, key: Any) -> Any:
        def mean(model: Any) -> Any:
            waves = ft.vmap(lambda key: wave(key, args.shots))(random.split(key, args.tasks))
            return ft.vmap(lambda wave: objective(model, *wave))(waves).mean()

        updates, state = optimizer.update(ft.grad(mean)(model), state, model)
        return optim.apply_updates(model, updates), state

    model = make_model(random.key(args.seed))
    state = optimizer.init(model)
    keys = random.split(random.key(args.seed + 1), args.steps)
    name = objective.__name__.replace("_", " ")
    for key in tqdm(keys, desc=name, disable=None, leave=False):
        model, state = step(model, state, key)
    return model


@ft.jit(static_argnames="shots")
def error(model: Any, key: Any, shots: int) -> Any:
    """Return the error on new waves after a step on each."""
    keys = random.split(key, 1000)
    return ft.vmap(lambda key: with_foresight(model, *wave(key, shots)))(keys).mean()


def draw(file: Path, models: dict[str, Any], shots: int, key: Any) -> None:
    x, y, x_test, y_test = wave(key, shots)
    line = fnp.linspace(-5, 5, 200)[:, None]
    figure, axes = plt.subplots(1, len(models), figsize=(10, 4), sharey=True, layout="constrained")
    for ax, (name, model) in zip(axes, models.items(), strict=True):
        ax.plot(line, model(line), ":", label="before")
        for steps in (1, 10):
            ax.plot(line, adapted(model, x, y, steps)(line), label=f"after {steps}")
        ax.plot(x, y, "k^", x_test, y_test, "k.")
        ax.set_title(name.replace("_", " "))
        ax.legend()
    figure.savefig(file, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=25, help="waves in a step")
    parser.add_argument("--shots", type=int, default=10, help="points to learn a wave from")
    parser.add_argument("--out", type=Path, default=Path("maml_run"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.perf_counter()

    models = {f.__name__: train(f, args) for f in (with_foresight, without)}
    args.out.mkdir(parents=True, exist_ok=True)
    draw(args.out / "waves.png", models, args.shots, random.key(args.seed + 2))
    new = random.key(args.seed + 3)
    meta, plain = (float(error(model, new, args.shots)) for model in models.values())
    print(
        f"error after one step on {args.shots} points: {meta:.3f} meta-learnt, {plain:.3f} not, "
        f"in {time.perf_counter() - started:.1f} s"
    )


if __name__ == "__main__":
    main()
