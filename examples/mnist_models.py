"""Three families of convolutional networks side by side: VGG, residual, and Inception.

The classes have torchvision's fields, so that weights of its networks go into them as they are:
`ResNet((2, 2, 2, 2), 64, classes=1000, channels=3)` is its ResNet-18. Here each is a small one that
learns 4000 digits of MNIST in half a minute, and meets 1000 others.

    python examples/mnist_models.py [--only resnet vgg inception] [--epochs 6] [--out models_run]

The last line is the accuracy of the worst of them on the test digits. Losses, accuracies, and
histograms of the gradients are in the logs for TensorBoard, and the curves are in models.png.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from tensorboardX import SummaryWriter
from tqdm import tqdm

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import data, nnx, optim, random


# ----------------------------------------------------------------------------------------- VGG
class VGG(nnx.Module):
    """Stacks of 3 x 3 convolutions, a pool after each stack, and a classifier of three layers.

    Args:
        plan: channels of the convolutions in order; "M" stands for a pool.
        hidden: width of the classifier.
        places: height and width of what the classifier sees.

    References:
        Simonyan, Zisserman, "Very deep convolutional networks", ICLR (2015).
    """

    features: nnx.Sequential
    avgpool: nnx.AdaptiveAvgPool2d
    classifier: nnx.Sequential

    def __init__(
        self, plan: Sequence[int | str], hidden: int, places: int, *, classes: int = 10,
        channels: int = 1, key: Any,
    ) -> None:  # fmt: skip
        keys = iter(random.split(key, len(plan) + 3))
        layers: list[nnx.Module] = []
        for item in plan:
            if item == "M":
                layers.append(nnx.MaxPool2d(2))
            else:
                layers += [nnx.Conv2d(channels, item, 3, padding=1, key=next(keys)), nnx.ReLU()]
                channels = item
        self.features = nnx.Sequential(*layers)
        self.avgpool = nnx.AdaptiveAvgPool2d(places)
        self.classifier = nnx.Sequential(
            nnx.Linear(channels * places**2, hidden, key=next(keys)), nnx.ReLU(), nnx.Dropout(0.5),
            nnx.Linear(hidden, hidden, key=next(keys)), nnx.ReLU(), nnx.Dropout(0.5),
            nnx.Linear(hidden, classes, key=next(keys)),
        )  # fmt: skip

    def __call__(self, x: Any) -> Any:
        x = self.avgpool(self.features(x))
        return self.classifier(x.reshape(x.shape[0], -1))


# -------------------------------------------------------------------------------------- residual
class Block(nnx.Module):
    """y = relu(x + f(x)): f is two normalised convolutions; x is projected where f shrinks it."""

    conv1: nnx.Conv2d
    bn1: nnx.BatchNorm2d
    conv2: nnx.Conv2d
    bn2: nnx.BatchNorm2d
    downsample: nnx.Sequential | None

    def __init__(self, ins: int, outs: int, stride: int, key: Any) -> None:
        k1, k2, k3 = random.split(key, 3)
        self.conv1 = nnx.Conv2d(ins, outs, 3, stride, 1, bias=False, key=k1)
        self.bn1 = nnx.BatchNorm2d(outs)
        self.conv2 = nnx.Conv2d(outs, outs, 3, 1, 1, bias=False, key=k2)
        self.bn2 = nnx.BatchNorm2d(outs)
        self.downsample = None
        if stride != 1 or ins != outs:
            projection = nnx.Conv2d(ins, outs, 1, stride, bias=False, key=k3)
            self.downsample = nnx.Sequential(projection, nnx.BatchNorm2d(outs))

    def __call__(self, x: Any) -> Any:
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return nnx.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nnx.Module):
    """Four stages of residual blocks, each after the first at half the size and twice the width.

    Args:
        blocks: number of blocks in each stage.
        width: channels of the first stage.
        large: whether images are large, so that the first layers shrink them to a quarter.

    References:
        He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR (2016).
    """

    conv1: nnx.Conv2d
    bn1: nnx.BatchNorm2d
    layer1: nnx.Sequential
    layer2: nnx.Sequential
    layer3: nnx.Sequential
    layer4: nnx.Sequential
    fc: nnx.Linear
    large: bool = nnx.static()

    def __init__(
        self, blocks: Sequence[int], width: int, *, classes: int = 10, channels: int = 1,
        large: bool = False, key: Any,
    ) -> None:  # fmt: skip
        first, last, *keys = random.split(key, 6)
        size, stride = (7, 2) if large else (3, 1)
        self.large = large
        self.conv1 = nnx.Conv2d(channels, width, size, stride, size // 2, bias=False, key=first)
        self.bn1 = nnx.BatchNorm2d(width)
        stages, ins = [], width
        for i, (count, key) in enumerate(zip(blocks, keys, strict=True)):
            outs, stage = width * 2**i, []
            for j, k in enumerate(random.split(key, count)):
                stage.append(Block(ins, outs, 2 if i and not j else 1, k))
                ins = outs
            stages.append(nnx.Sequential(*stage))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nnx.Linear(ins, classes, key=last)

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.bn1(self.conv1(x)))
        if self.large:
            x = nnx.MaxPool2d(3, 2, 1)(x)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


# ------------------------------------------------------------------------------------- Inception
class Conv(nnx.Module):
    """A convolution, normalised, and a ReLU."""

    conv: nnx.Conv2d
    bn: nnx.BatchNorm2d

    def __init__(self, ins: int, outs: int, size: int, key: Any) -> None:
        self.conv = nnx.Conv2d(ins, outs, size, padding=size // 2, bias=False, key=key)
        self.bn = nnx.BatchNorm2d(outs, eps=0.001)

    def __call__(self, x: Any) -> Any:
        return nnx.relu(self.bn(self.conv(x)))


class Inception(nnx.Module):
    """Four ways side by side, whose channels are joined: 1 x 1, 3 x 3, a third, and a pool.

    Args:
        ins: channels of the input.
        outs: channels of the 1 x 1, (before, after) the 3 x 3, (before, after) the third, and after
            the pool.

    References:
        Szegedy et al., "Going deeper with convolutions", CVPR (2015).
    """

    branch1: Conv
    branch2: nnx.Sequential
    branch3: nnx.Sequential
    branch4: nnx.Sequential

    def __init__(
        self, ins: int, outs: tuple[int, tuple[int, int], tuple[int, int], int], key: Any
    ) -> None:
        k = random.split(key, 6)
        one, second, third, pooled = outs
        self.branch1 = Conv(ins, one, 1, k[0])
        self.branch2 = nnx.Sequential(Conv(ins, second[0], 1, k[1]), Conv(*second, 3, k[2]))
        # The paper's third way is 5 x 5; torchvision's network has 3 x 3 there.
        self.branch3 = nnx.Sequential(Conv(ins, third[0], 1, k[3]), Conv(*third, 3, k[4]))
        self.branch4 = nnx.Sequential(
            nnx.MaxPool2d(3, 1, 1, ceil_mode=True), Conv(ins, pooled, 1, k[5])
        )

    def __call__(self, x: Any) -> Any:
        ways = (self.branch1, self.branch2, self.branch3, self.branch4)
        return fnp.concatenate([way(x) for way in ways], axis=1)


def inception_net(key: Any) -> nnx.Sequential:
    """Make a network of three Inception blocks for images of 28 x 28 grey pixels."""
    k = random.split(key, 5)
    return nnx.Sequential(
        Conv(1, 16, 3, k[0]), nnx.MaxPool2d(2),
        Inception(16, (8, (8, 16), (4, 8), 8), k[1]), nnx.MaxPool2d(2),
        Inception(40, (16, (16, 32), (8, 16), 16), k[2]),
        Inception(80, (16, (16, 32), (8, 16), 16), k[3]),
        nnx.AdaptiveAvgPool2d(1), nnx.Flatten(), nnx.Dropout(0.2), nnx.Linear(80, 10, key=k[4]),
    )  # fmt: skip


MODELS: dict[str, Callable[[Any], Any]] = {
    "vgg": lambda key: VGG((16, "M", 32, "M", 64, 64, "M"), 256, 3, key=key),
    "resnet": lambda key: ResNet((1, 1, 1, 1), 16, key=key),
    "inception": inception_net,
}


# -------------------------------------------------------------------------------------- training
class Result(NamedTuple):
    """What a model has and reaches."""

    parameters: int
    losses: list[float]  # after each epoch
    accuracy: float
    seconds: float


def fit(model: Any, sets: Sequence[Any], log: SummaryWriter, args: argparse.Namespace) -> Result:
    """Train a model on the first of two data sets, and test it on the second."""
    started = time.perf_counter()
    train, test = sets
    loader = data.DataLoader(train, 64, shuffle=True, drop_last=True, seed=args.seed)
    steps = args.epochs * len(loader)
    optimizer = optim.adamw(optim.warmup_cosine_decay_schedule(1e-4, 4e-3, steps // 5, steps))
    state = optimizer.init(nnx.parameters(model))

    @ft.jit
    def step(model: Any, state: Any, key: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
        def loss(model: Any) -> tuple[Any, Any]:
            logits, model = nnx.train(model, key)(x)
            return nnx.cross_entropy(logits, y), model

        (value, model), grads = nnx.value_and_grad(loss, has_aux=True)(model)
        updates, state = optimizer.update(grads, state, nnx.parameters(model))
        return optim.apply_updates(model, updates), state, value

    @ft.jit
    def correct(model: Any, x: Any, y: Any) -> Any:
        return (model(x).argmax(-1) == y).sum()

    keys = iter(random.split(random.key(args.seed + 1), steps))
    losses, accuracy = [], 0.0
    for epoch in range(args.epochs):
        values = []
        for x, y in tqdm(loader, desc=f"epoch {epoch + 1}", leave=False, disable=None):
            model, state, value = step(model, state, next(keys), x, y)
            values.append(value)
        losses.append(float(np.mean(values)))
        right = sum(int(correct(model, x, y)) for x, y in data.DataLoader(test, 250))
        accuracy = right / len(test)
        log.add_scalar("loss", losses[-1], epoch)
        log.add_scalar("accuracy", accuracy, epoch)
        for name, weights in nnx.state_dict(nnx.parameters(model)).items():
            log.add_histogram(name, np.asarray(weights), epoch)
    return Result(nnx.param_count(model), losses, accuracy, time.perf_counter() - started)


def draw(file: Path, results: dict[str, Result]) -> None:
    """Draw the losses of all models."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, result in results.items():
        epochs = range(1, len(result.losses) + 1)
        axes.semilogy(epochs, result.losses, "o-", label=f"{name}: {result.accuracy:.1%}")
    axes.set(xlabel="epoch", ylabel="cross-entropy in training")
    axes.legend()
    figure.savefig(file, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("models_run"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    images, labels = data.mnist_5k().arrays
    sets = data.random_split(data.ArrayDataset(images[:, None], labels), [4000, 1000], args.seed)

    results: dict[str, Result] = {}
    print(f"{'model':10} {'parameters':>10} {'loss':>8} {'test accuracy':>14} {'seconds':>8}")
    for name in args.only:
        with SummaryWriter(str(args.out / "logs" / name)) as log:
            result = fit(MODELS[name](random.key(args.seed)), sets, log, args)
        print(
            f"{name:10} {result.parameters:10,} {result.losses[-1]:8.4f} {result.accuracy:14.1%} "
            f"{result.seconds:8.1f}"
        )
        results[name] = result
    draw(args.out / "models.png", results)
    worst = min(result.accuracy for result in results.values())
    print(f"test accuracy {worst:.1%} or more on {len(sets[1])} digits")


if __name__ == "__main__":
    main()
