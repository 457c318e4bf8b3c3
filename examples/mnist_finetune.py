"""Learn from few images with a network that has learnt from others: transfer learning.

A convolutional network that knows the digits 0 to 4 gets new last layers, for 5 to 9, and learns
them from five images each: first these layers alone, its convolutions being frozen; then all of it,
with a small rate. The same network without that knowledge learns the same images for comparison.

    python examples/mnist_finetune.py [--weights FILE] [--shots 5] [--epochs 6] [--out ...]

FILE is a state_dict of PyTorch's in the safetensors format, of the network

    torch.nn.Sequential(
        Conv2d(1, 16, 3, padding=1), BatchNorm2d(16), ReLU(), MaxPool2d(2),
        Conv2d(16, 32, 3, padding=1), BatchNorm2d(32), ReLU(), MaxPool2d(2),
        Flatten(), Linear(1568, 64), ReLU(), Linear(64, 5),
    )

as `safetensors.torch.save_file(net.state_dict(), FILE)` writes it. Without it the network is
trained here, and written to source.safetensors, which PyTorch can read. The last line is the
accuracies on other images of 5 to 9.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import funtorch as ft
from funtorch import data, nnx, optim, random

HEAD = 9  # the number of the first layer that is made anew


def network(key: Any) -> nnx.Sequential:
    """Make the network for five kinds of images."""
    k1, k2, k3, k4 = random.split(key, 4)
    return nnx.Sequential(
        nnx.Conv2d(1, 16, 3, padding=1, key=k1), nnx.BatchNorm2d(16), nnx.ReLU(), nnx.MaxPool2d(2),
        nnx.Conv2d(16, 32, 3, padding=1, key=k2), nnx.BatchNorm2d(32), nnx.ReLU(),
        nnx.MaxPool2d(2), nnx.Flatten(),
        nnx.Linear(32 * 7 * 7, 64, key=k3), nnx.ReLU(), nnx.Linear(64, 5, key=k4),
    )  # fmt: skip


def fit(
    model: Any, train: data.ArrayDataset, rate: float, epochs: int, what: str, batch: int = 25
) -> Any:
    """Train those parameters of a model that are not frozen."""
    optimizer = optim.adam(rate)
    # Frozen parameters are None here, so that the optimizer neither moves nor remembers them.
    state = optimizer.init(nnx.parameters(model))

    @ft.jit
    def step(model: Any, state: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
        def loss(model: Any) -> tuple[Any, Any]:
            logits, model = nnx.train(model)(x)
            return nnx.cross_entropy(logits, y), model

        (value, model), grads = nnx.value_and_grad(loss, has_aux=True)(model)
        updates, state = optimizer.update(grads, state, nnx.parameters(model))
        return optim.apply_updates(model, updates), state, value

    loader = data.DataLoader(train, batch, shuffle=True, drop_last=True)
    for _ in tqdm(range(epochs), desc=what, unit="epoch", leave=False, disable=None):
        for x, y in loader:
            model, state, _ = step(model, state, x, y)
    return model


@ft.jit
def predict(model: Any, x: Any) -> Any:
    return model(x).argmax(-1)


def accuracy(model: Any, test: data.ArrayDataset) -> float:
    x, y = test.arrays
    return float((predict(model, x) == y).mean())


def with_new_head(weights: dict[str, Any], key: Any) -> Any:
    """Make a network with given weights but for its last layers, which are new."""
    model = network(key)
    new = {n: x for n, x in nnx.state_dict(model).items() if int(n.split(".")[0]) >= HEAD}
    return nnx.load_state_dict(model, weights | new)


def draw(file: Path, model: Any, test: data.ArrayDataset) -> None:
    """Draw test digits under their predictions, wrong ones first and red."""
    images, labels = test.arrays
    guesses = np.asarray(predict(model, images))
    figure = Figure(figsize=(8, 5), layout="constrained")
    wrong_first = np.argsort(guesses == labels, kind="stable")
    for axes, i in zip(figure.subplots(5, 8).flat, wrong_first, strict=False):
        axes.imshow(images[i, 0], cmap="gray_r")
        axes.set_title(f"{guesses[i] + 5}", color="black" if guesses[i] == labels[i] else "red")
        axes.axis("off")
    figure.savefig(file, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--weights", type=Path, help="a state_dict in a safetensors file")
    parser.add_argument("--shots", type=int, default=5, help="images of each new digit")
    parser.add_argument("--epochs", type=int, default=6, help="on the digits 0 to 4")
    parser.add_argument("--out", type=Path, default=Path("finetune_run"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.perf_counter()
    first, second, third = random.split(random.key(args.seed), 3)
    args.out.mkdir(parents=True, exist_ok=True)

    images = data.mnist_5k().arrays[0].reshape(10, 500, 1, 28, 28)  # they come ordered by digit

    def part(digits: slice, which: slice) -> data.ArrayDataset:
        x = images[digits, which]
        return data.ArrayDataset(x.reshape(-1, 1, 28, 28), np.repeat(np.arange(5), x.shape[1]))

    if args.weights is None:
        known = part(slice(0, 5), slice(0, 400))
        source: Any = fit(network(first), known, 2e-3, args.epochs, "digits 0 to 4")
        print(f"digits 0 to 4: {accuracy(source, part(slice(0, 5), slice(400, 500))):.1%}")
        ft.save(args.out / "source.safetensors", nnx.state_dict(source))
    weights = ft.load(args.weights or args.out / "source.safetensors")

    few, test = (part(slice(5, 10), s) for s in (slice(0, args.shots), slice(args.shots, 500)))
    model = with_new_head(weights, second)
    frozen = nnx.freeze(model, lambda m: [m[i] for i in range(HEAD)])
    print("trained:", ", ".join(nnx.state_dict(nnx.parameters(frozen))))
    head = fit(frozen, few, 3e-3, 60, "the new layers")
    everything = fit(nnx.unfreeze(head), few, 1e-4, 30, "everything")
    scratch = fit(network(third), few, 2e-3, 90, "from nothing")
    ft.save(args.out / "tuned.safetensors", nnx.state_dict(head))
    draw(args.out / "finetune.png", everything, test)
    print(
        f"{5 * args.shots} images of 5 to 9: new layers {accuracy(head, test):.1%}, then all "
        f"{accuracy(everything, test):.1%}, from nothing {accuracy(scratch, test):.1%} of "
        f"{len(test)}, in {time.perf_counter() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
