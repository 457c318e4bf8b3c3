"""Train a network on scikit-learn's handwritten digits, save it, and use it in a fresh process.

The data are 1797 real scans of 8 x 8 pixels, which come with scikit-learn; nothing is downloaded.

    python examples/train_digits.py [--epochs 25] [--batch-size 32] [--out digits_run] [--seed 0]

writes, into the folder --out, the parameters (digits.safetensors) and a picture of the loss curves
and of test digits with their predictions (digits.png).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import io, nnx, optim, random


class Split(NamedTuple):
    """Images of shape (n, 64) with values in [0, 1], and their labels of shape (n,)."""

    images: np.ndarray
    labels: np.ndarray


class History(NamedTuple):
    """Loss and accuracy on both splits after each epoch."""

    train_loss: list[float]
    test_loss: list[float]
    train_accuracy: list[float]
    test_accuracy: list[float]


class MLP(nnx.Module):
    """64 pixels -> 128 -> 64 -> scores of 10 digits."""

    l1: nnx.Linear
    l2: nnx.Linear
    l3: nnx.Linear

    def __init__(self, key: Any) -> None:
        k1, k2, k3 = random.split(key, 3)
        self.l1 = nnx.Linear(64, 128, key=k1)
        self.l2 = nnx.Linear(128, 64, key=k2)
        self.l3 = nnx.Linear(64, 10, key=k3)

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.l1(x))
        x = nnx.relu(self.l2(x))
        return self.l3(x)


def load_data(seed: int) -> tuple[Split, Split]:
    """Return training and test data; a fifth is for the test, with all digits in proportion."""
    digits = load_digits()
    images = (digits.data / 16).astype(np.float32)
    labels = digits.target.astype(np.int32)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=seed
    )
    return Split(x_train, y_train), Split(x_test, y_test)


def loss_fn(model: MLP, images: Any, labels: Any) -> Any:
    # Smoothed labels keep so small a data set from being learnt by heart.
    return nnx.cross_entropy(model(images), labels, label_smoothing=0.1)


@ft.jit
def evaluate(model: MLP, images: Any, labels: Any) -> tuple[Any, Any]:
    scores = model(images)
    accuracy = (fnp.argmax(scores, axis=-1) == labels).mean()
    return nnx.cross_entropy(scores, labels), accuracy


@ft.jit
def predict(model: MLP, images: Any) -> Any:
    return fnp.argmax(model(images), axis=-1)


def train(model: MLP, data: tuple[Split, Split], args: argparse.Namespace) -> tuple[MLP, History]:
    train_data, test_data = data
    batches = -(-len(train_data.labels) // args.batch_size)
    steps = args.epochs * batches

    def learning_rate(step: Any) -> Any:
        return 3e-3 * 0.5 * (1 + fnp.cos(np.pi * step / steps))

    optimizer = optim.adamw(learning_rate, weight_decay=1e-2)

    @ft.jit
    def train_step(model: MLP, state: Any, images: Any, labels: Any) -> tuple[MLP, Any]:
        _, gradients = ft.value_and_grad(loss_fn)(model, images, labels)
        updates, state = optimizer.update(gradients, state, model)
        return optim.apply_updates(model, updates), state

    state = optimizer.init(model)
    history = History([], [], [], [])
    shuffler = np.random.default_rng(args.seed)
    progress = tqdm(total=steps, unit="step", disable=None, leave=False)
    for epoch in range(1, args.epochs + 1):
        order = shuffler.permutation(len(train_data.labels))
        # Batches of one size, so that the step is compiled once; the last takes up the slack.
        order = np.concatenate([order, order[: batches * args.batch_size - len(order)]])
        for rows in order.reshape(batches, args.batch_size):
            model, state = train_step(
                model, state, train_data.images[rows], train_data.labels[rows]
            )
            progress.update()
        train_loss, train_accuracy = map(float, evaluate(model, *train_data))
        test_loss, test_accuracy = map(float, evaluate(model, *test_data))
        row = (train_loss, test_loss, train_accuracy, test_accuracy)
        for values, value in zip(history, row, strict=True):
            values.append(value)
        progress.write(
            f"epoch {epoch:3d}   loss {train_loss:.4f}   "
            f"train accuracy {train_accuracy:6.1%}   test accuracy {test_accuracy:6.1%}",
            file=sys.stdout,
        )
    progress.close()
    return model, history


def predict_afresh(file: Path, seed: int) -> np.ndarray:
    """Predict the test digits in a new process, which knows the model from its file alone."""
    command = [sys.executable, __file__, "--predict", str(file), "--seed", str(seed)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return np.array(json.loads(done.stdout))


def draw(file: Path, history: History, test_data: Split, predictions: np.ndarray) -> None:
    """Draw the loss curves, and test digits under their predictions, wrong ones first and red."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subfigures(1, 2)
    axes = left.subplots()
    epochs = range(1, len(history.train_loss) + 1)
    axes.semilogy(epochs, history.train_loss, label="train")
    axes.semilogy(epochs, history.test_loss, label="test")
    axes.set(xlabel="epoch", ylabel="cross-entropy")
    axes.set_title(f"test accuracy {history.test_accuracy[-1]:.1%}")
    axes.legend()
    wrong_first = np.argsort(predictions == test_data.labels, kind="stable")
    for axes, i in zip(right.subplots(5, 8).flat, wrong_first, strict=False):
        right_answer, guess = test_data.labels[i], predictions[i]
        axes.imshow(test_data.images[i].reshape(8, 8), cmap="gray_r")
        title = f"{guess}" if guess == right_answer else f"{guess}, is {right_answer}"
        color = "black" if guess == right_answer else "red"
        axes.set_title(title, color=color, fontsize=9)
        axes.axis("off")
    figure.savefig(file, dpi=100)
    plt.close(figure)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=positive, default=25)
    parser.add_argument("--batch-size", type=positive, default=32)
    parser.add_argument("--out", type=Path, default=Path("digits_run"), help="folder to write to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--predict", type=Path, metavar="FILE", help="only print the predictions of a saved model"
    )
    return parser.parse_args(argv)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def main() -> None:
    start = time.perf_counter()
    args = parse()
    data = load_data(args.seed)
    model = MLP(random.key(args.seed))
    if args.predict:
        model = nnx.load_state_dict(model, io.load(args.predict))
        print(json.dumps(np.asarray(predict(model, data[1].images)).tolist()))
        return

    print(model)
    model, history = train(model, data, args)
    args.out.mkdir(parents=True, exist_ok=True)
    parameters, picture = args.out / "digits.safetensors", args.out / "digits.png"
    io.save(parameters, nnx.state_dict(model))
    predictions = np.asarray(predict(model, data[1].images))
    afresh = predict_afresh(parameters, args.seed)
    if not np.array_equal(afresh, predictions):
        sys.exit(f"a fresh process predicts differently from {parameters}")
    draw(picture, history, data[1], predictions)
    print(f"saved {parameters} (a fresh process predicts the same from it) and {picture}")
    print(
        f"test accuracy {history.test_accuracy[-1]:.1%} on {len(predictions)} digits "
        f"in {time.perf_counter() - start:.1f} s"
    )


if __name__ == "__main__":
    main()
