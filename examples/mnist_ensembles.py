"""Several networks know more than one: deep ensembles, bagging and boosting on MNIST.

- A deep ensemble trains the same network from several initial values, and averages probabilities.
- Bagging gives each of its networks a sample of the data, drawn with replacement.
- Boosting trains very small networks one after another; each adds to the scores of those before.

The networks of the first two are one model whose arrays have one more axis (`nnx.vmap_init`), and
`vmap` of one network's training trains them all at once.

    python examples/mnist_ensembles.py [--epochs 10] [--members 8] [--rounds 16] [--out ...]

writes accuracy by number of members and diagrams of reliability (ensembles.png). The last line is
what ensembles gain on 1000 test digits over a single one of their networks.

References:
    Lakshminarayanan, Pritzel, Blundell, "Simple and scalable predictive uncertainty estimation
    using deep ensembles", NeurIPS (2017).
    Breiman, "Bagging predictors", Machine Learning 24 (1996).
    Friedman, "Greedy function approximation: a gradient boosting machine", Ann. Stat. 29 (2001).
    Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML (2017).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import data, lax, nnx, optim, random

BATCH = 64
OPTIMIZER = optim.adam(3e-3)


class Digits(NamedTuple):
    """Images of shape (n, 1, 28, 28), and their labels of shape (n,)."""

    x: Any
    y: Any


class Score(NamedTuple):
    """How good probabilities of classes are."""

    accuracy: float
    loss: float  # mean of -log p(right class)
    calibration: float  # by how much confidence differs from accuracy, on the average


# ---------------------------------------------------------------------------------------- networks
def network(key: Any, width: int = 8) -> nnx.Sequential:
    """Make one network."""
    k1, k2, k3 = random.split(key, 3)
    return nnx.Sequential(
        nnx.Conv2d(1, width, 5, 2, key=k1), nnx.ReLU(),
        nnx.Conv2d(width, 2 * width, 3, 2, key=k2), nnx.ReLU(),
        nnx.Flatten(), nnx.Linear(2 * width * 25, 10, key=k3),
    )  # fmt: skip


def one_epoch(model: Any, state: Any, batches: Any, train: Digits, scores: Any) -> tuple[Any, ...]:
    """Train one network on batches, an integer array (steps, BATCH) of numbers of samples.

    ``scores`` (n, 10) are added to those of the network: what the networks before it say.
    """

    def step(carry: Any, rows: Any) -> tuple[Any, Any]:
        model, state = carry

        def loss(model: Any) -> Any:
            return nnx.cross_entropy(scores[rows] + model(train.x[rows]), train.y[rows])

        value, grads = ft.value_and_grad(loss)(model)
        updates, state = OPTIMIZER.update(grads, state, model)
        return (optim.apply_updates(model, updates), state), value

    (model, state), losses = lax.scan(step, (model, state), batches)
    return model, state, losses.mean()


def batches_of(key: Any, samples: Any) -> Any:
    """Shuffle samples into batches (steps, BATCH)."""
    steps = len(samples) // BATCH
    return random.permutation(key, samples)[: steps * BATCH].reshape(steps, BATCH)


# --------------------------------------------------------------------------------------- ensembles
def side_by_side(samples: Any, train: Digits, epochs: int, key: Any, what: str) -> Any:
    """Train one network for each row of ``samples`` (members, n), all at once.

    Returns:
        A model of stacked networks.
    """
    init, *keys = random.split(key, epochs + 1)
    models = nnx.vmap_init(network, len(samples), init)
    states = ft.vmap(OPTIMIZER.init)(models)
    nothing = fnp.zeros((len(train.x), 10))
    epoch = ft.jit(ft.vmap(one_epoch, in_axes=(0, 0, 0, None, None)))
    shuffle = ft.jit(ft.vmap(batches_of))
    for k in tqdm(keys, desc=what, unit="epoch", leave=False, disable=None):
        batches = shuffle(random.split(k, len(samples)), samples)
        models, states, _ = epoch(models, states, batches, train, nothing)
    return models


def boosted(rounds: int, train: Digits, epochs: int, key: Any) -> list[Any]:
    """Train networks of 1 and 2 channels one after another."""
    everything, scores = fnp.arange(len(train.x)), fnp.zeros((len(train.x), 10))
    models, epoch = [], ft.jit(one_epoch)
    for k in tqdm(random.split(key, rounds), desc="boosting", leave=False, disable=None):
        init, *keys = random.split(k, epochs + 1)
        model = network(init, width=1)
        state = OPTIMIZER.init(model)
        for k in keys:
            model, state, _ = epoch(model, state, batches_of(k, everything), train, scores)
        scores = scores + model(train.x)
        models.append(model)
    return models


# ------------------------------------------------------------------------------------------ scores
def bins_of(probabilities: Any, y: Any, count: int = 10) -> tuple[Any, Any, Any]:
    """Return confidence, accuracy and share of the predictions in each bin of confidence."""
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == y
    rows = fnp.minimum((confidence * count).astype(int), count - 1)
    sums = [ft.ops.segment_sum(v, rows, count) for v in (confidence, right * 1.0, fnp.ones(len(y)))]
    total = fnp.maximum(sums[2], 1)
    return sums[0] / total, sums[1] / total, sums[2] / len(y)


def score(probabilities: Any, y: Any) -> Score:
    """Score probabilities (n, 10)."""
    confidence, accuracy, share = bins_of(probabilities, y)
    return Score(
        float((probabilities.argmax(-1) == y).mean()),
        float(nnx.nll(fnp.log(probabilities), y)),
        float((share * fnp.abs(confidence - accuracy)).sum()),
    )


class Ensemble(NamedTuple):
    """What an ensemble reaches."""

    one: Score  # of one of its networks
    all: Score
    growing: list[Any]  # probabilities (n, 10) by the first network, the first two, ...


def averaged(probabilities: Any, y: Any) -> Ensemble:
    """Score an ensemble that averages probabilities (members, n, 10), and one member on average."""
    counts = fnp.arange(1, len(probabilities) + 1).reshape(-1, 1, 1)
    growing = list(probabilities.cumsum(0) / counts)
    one = Score(*np.mean([score(p, y) for p in probabilities], axis=0))
    return Ensemble(one, score(growing[-1], y), growing)


def added(scores: Any, y: Any) -> Ensemble:
    """Score an ensemble that adds scores (members, n, 10)."""
    growing = list(nnx.softmax(scores.cumsum(0)))
    return Ensemble(score(growing[0], y), score(growing[-1], y), growing)


def draw(file: Path, ensembles: dict[str, Ensemble], y: Any) -> None:
    """Draw accuracy by number of members, and reliability of one member and of all."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, *others = figure.subplots(1, 1 + len(ensembles))
    for (name, ensemble), axes in zip(ensembles.items(), others, strict=True):
        steps = ensemble.growing
        left.plot(range(1, len(steps) + 1), [score(p, y).accuracy for p in steps], label=name)
        for p, label in ((steps[0], "one network"), (steps[-1], f"all {len(steps)}")):
            confidence, accuracy, share = map(np.asarray, bins_of(p, y))
            filled = share > 0
            axes.plot(confidence[filled], accuracy[filled], "o-", label=label)
        axes.plot([0, 1], [0, 1], "k:")
        axes.set(xlabel="confidence", ylabel="accuracy", title=name)
        axes.legend()
    left.set(xlabel="networks", ylabel="test accuracy")
    left.legend()
    figure.savefig(file, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("ensembles_run"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.perf_counter()
    key, split, deep_key, bag_key, boost_key = random.split(random.key(args.seed), 5)
    images, labels = data.mnist_5k().arrays
    order = random.permutation(split, 5000)
    x, y = fnp.asarray(images[:, None])[order], fnp.asarray(labels)[order]
    train, test = Digits(x[:4000], y[:4000]), Digits(x[4000:], y[4000:])

    same = fnp.broadcast_to(fnp.arange(4000), (args.members, 4000))
    drawn = random.randint(key, (args.members, 4000), 0, 4000)
    ensembles: dict[str, Ensemble] = {}
    for name, samples, k in (("deep ensemble", same, deep_key), ("bagging", drawn, bag_key)):
        models = side_by_side(samples, train, args.epochs, k, name)
        members = nnx.softmax(ft.vmap(lambda model: model(test.x))(models))
        ensembles[name] = averaged(members, test.y)
    parts = [model(test.x) for model in boosted(args.rounds, train, args.epochs, boost_key)]
    ensembles["boosting"] = added(fnp.stack(parts), test.y)

    print(f"{'':14} {'networks':>8} {'accuracy':>9} {'loss':>7} {'calibration error':>18}")
    for name, (one, whole, growing) in ensembles.items():
        for n, s in ((1, one), (len(growing), whole)):
            print(f"{name:14} {n:8} {s.accuracy:9.1%} {s.loss:7.3f} {s.calibration:18.2%}")
    args.out.mkdir(parents=True, exist_ok=True)
    draw(args.out / "ensembles.png", ensembles, test.y)
    gains = (
        f"{name} {one.accuracy:.1%} -> {whole.accuracy:.1%}, "
        f"loss {one.loss:.3f} -> {whole.loss:.3f}"
        for name, (one, whole, _) in ensembles.items()
    )
    print(f"{'; '.join(gains)}; in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
