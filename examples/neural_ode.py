"""Learn the motion of a spiral from noisy points: a differential equation with a network in it.

The network says how fast a state moves; `odeint` follows it. Gradients come from the adjoint
equation, solved backwards, so their memory does not depend on how many steps the solver takes.

    python examples/neural_ode.py [--steps 2000] [--out ode_run]

The last line is the error of a path that was not learnt from, all the way from its first point.

References:
    Chen, Rubanova, Bettencourt and Duvenaud (2018), Neural ordinary differential equations.
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
from funtorch.experimental.ode import odeint

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NOISE = 0.01  # of each point
TURN = np.array([[-0.1, 2.0], [-2.0, -0.1]], np.float32)


def spiral(y: Any, t: Any) -> Any:
    """Return the speed of the true motion."""
    return y**3 @ TURN


class Field(nnx.Module):
    """A state of two numbers -> its speed."""

    layers: nnx.Sequential

    def __init__(self, key: Any) -> None:
        k1, k2 = random.split(key)
        self.layers = nnx.Sequential(
            nnx.Linear(2, 50, key=k1), nnx.Tanh(), nnx.Linear(50, 2, key=k2)
        )

    def __call__(self, y: Any) -> Any:
        return self.layers(y**3)


def path(field: Field, start: Any, t: Any) -> Any:
    return odeint(lambda y, t, field: field(y), start, t, field, rtol=1e-4, atol=1e-4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("ode_run"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.perf_counter()
    k1, k2, k3 = random.split(random.key(args.seed), 3)

    t = fnp.linspace(0.0, 25.0, 1000)
    truth = odeint(spiral, fnp.array([2.0, 0.0]), t)
    seen = truth + NOISE * random.normal(k1, truth.shape)
    length, pieces = 20, 20  # a step sees 20 pieces of 20 points

    field = Field(k2)
    optimizer = optim.adam(optim.cosine_decay_schedule(1e-2, args.steps))

    @ft.jit
    def step(field: Field, state: Any, key: Any) -> Any:
        starts = random.randint(key, (pieces,), 0, len(t) - length)
        wanted = ft.vmap(lambda i: ft.lax.dynamic_slice_in_dim(seen, i, length))(starts)

        def loss(field: Field) -> Any:
            found = ft.vmap(path, (None, 0, None))(field, wanted[:, 0], t[:length])
            return abs(found - wanted).mean()

        value, gradient = ft.value_and_grad(loss)(field)
        updates, state = optimizer.update(gradient, state, field)
        return optim.apply_updates(field, updates), state, value

    state = optimizer.init(field)
    progress = tqdm(random.split(k3, args.steps), disable=None, leave=False)
    for i, key in enumerate(progress):
        field, state, value = step(field, state, key)
        if i % 20 == 0:
            progress.set_postfix(loss=f"{value:.4f}")

    new = fnp.array([1.5, 1.0])  # where no path that was seen goes
    t = t[:400]
    expected, found = odeint(spiral, new, t), ft.jit(path)(field, new, t)
    error = fnp.sqrt(((expected - found) ** 2).sum(-1).mean())

    args.out.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
    axes.plot(*seen.T, ".", color="0.8", label="seen")
    axes.plot(*expected.T, label="true motion from elsewhere")
    axes.plot(*found.T, "--", label="what the network says")
    axes.legend()
    figure.savefig(args.out / "spiral.png", dpi=100)
    print(
        f"error {error:.3f} over 10 units of time from a new start, radius 1.8, "
        f"in {time.perf_counter() - started:.1f} s"
    )


if __name__ == "__main__":
    main()
