"""Train a variational autoencoder on MNIST: a model that draws digits of its own.

An encoder gives, for an image x, a normal distribution q(z|x) of 16 numbers; a decoder gives, for
such numbers, the probability of every pixel. Both are trained to make the evidence lower bound

    log p(x) >= E_q log p(x|z) - KL(q(z|x), p(z)),    p(z) standard normal,

as large as possible. With k draws of z instead of one, the mean of p(x|z) p(z) / q(z|x) inside of
the logarithm is a closer bound (Burda et al. 2016).

    python examples/mnist_vae.py [--epochs 20] [--draws 64] [--out vae_run] [--seed 0]

writes test digits with their reconstructions, digits drawn from the prior, and a walk between pairs
of digits (vae.png), the weights (vae.safetensors), and logs for TensorBoard. The last line is the
bounds for test digits, in nats.

References:
    Kingma, Welling, "Auto-encoding variational Bayes", ICLR (2014).
    Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", ICLR (2016).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tensorboardX import SummaryWriter
from tqdm import tqdm

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import data, nnx, optim, random
from funtorch.scipy.special import logsumexp
from funtorch.scipy.stats import norm

LATENT = 16


class VAE(nnx.Module):
    """An encoder of images into mean and logarithm of deviation of z, and a decoder of z."""

    encoder: nnx.Sequential
    decoder: nnx.Sequential

    def __init__(self, key: Any) -> None:
        k = random.split(key, 8)
        self.encoder = nnx.Sequential(
            nnx.Conv2d(1, 16, 4, 2, 1, key=k[0]), nnx.ReLU(),
            nnx.Conv2d(16, 32, 4, 2, 1, key=k[1]), nnx.ReLU(), nnx.Flatten(),
            nnx.Linear(32 * 7 * 7, 256, key=k[2]), nnx.ReLU(),
            nnx.Linear(256, 2 * LATENT, key=k[3]),
        )  # fmt: skip
        self.decoder = nnx.Sequential(
            nnx.Linear(LATENT, 256, key=k[4]), nnx.ReLU(), nnx.Linear(256, 32 * 7 * 7, key=k[5]),
            nnx.ReLU(), nnx.Unflatten(1, (32, 7, 7)),
            nnx.ConvTranspose2d(32, 16, 4, 2, 1, key=k[6]), nnx.ReLU(),
            nnx.ConvTranspose2d(16, 1, 4, 2, 1, key=k[7]),
        )  # fmt: skip

    def encode(self, x: Any) -> tuple[Any, Any]:
        """Return mean and deviation of q(z|x), each of shape (batch, LATENT)."""
        mean, log_deviation = fnp.split(self.encoder(x), 2, axis=-1)
        return mean, fnp.exp(log_deviation)

    def log_likelihood(self, x: Any, z: Any) -> Any:
        """Return log p(x|z) of each image."""
        return -nnx.bce_with_logits(self.decoder(z), x, reduction="none").sum((1, 2, 3))

    def elbo(self, x: Any, key: Any) -> Any:
        """Return the bound of each image, from one draw of z."""
        mean, deviation = self.encode(x)
        z = mean + deviation * random.normal(key, mean.shape)
        divergence = 0.5 * (mean**2 + deviation**2 - 1) - fnp.log(deviation)
        return self.log_likelihood(x, z) - divergence.sum(-1)

    def closer_bound(self, x: Any, keys: Any) -> Any:
        """Return the bound of each image, from one draw of z for each key."""
        mean, deviation = self.encode(x)

        def weight(key: Any) -> Any:
            z = mean + deviation * random.normal(key, mean.shape)
            prior = norm.logpdf(z).sum(-1)
            return self.log_likelihood(x, z) + prior - norm.logpdf(z, mean, deviation).sum(-1)

        weights = ft.lax.map(weight, keys)  # one draw at a time: less memory
        return logsumexp(weights, axis=0) - np.log(len(keys))


def grid(images: Any, columns: int) -> Any:
    """Lay images of 28 x 28 pixels out in rows, as one image."""
    tiles = images.reshape(-1, columns, 28, 28)
    return tiles.transpose(0, 2, 1, 3).reshape(-1, 28 * columns)


@ft.jit
def pictures(model: VAE, x: Any, key: Any) -> dict[str, Any]:
    """Draw what a model makes of 50 digits: reconstructions, new ones, walks between pairs."""
    mean, _ = model.encode(x)
    again, drawn = model.decoder(mean), model.decoder(random.normal(key, (100, LATENT)))
    pairs = fnp.stack([x.reshape(5, 10, 28, 28), nnx.sigmoid(again).reshape(5, 10, 28, 28)], 1)
    steps = fnp.linspace(0, 1, 10)[:, None]
    walks = [a + steps * (b - a) for a, b in zip(mean[:10], mean[10:20], strict=True)]
    return {
        "test digits, and below each its reconstruction": grid(pairs, 10),
        "drawn from the prior": grid(nnx.sigmoid(drawn), 10),
        "walks from digit to digit": grid(nnx.sigmoid(model.decoder(fnp.concatenate(walks))), 10),
    }


@ft.jit
def bounds(model: VAE, x: Any, keys: Any) -> tuple[Any, Any]:
    """Return both bounds, each averaged over some digits."""
    return model.elbo(x, keys[0]).mean(), model.closer_bound(x, keys).mean()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--draws", type=int, default=64, help="of z for the closer bound")
    parser.add_argument("--out", type=Path, default=Path("vae_run"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.perf_counter()

    images = data.mnist_5k().arrays[0][:, None]
    train, test = data.random_split(data.ArrayDataset(images), [4000, 1000], args.seed)
    loader = data.DataLoader(train, 64, shuffle=True, drop_last=True, seed=args.seed)
    steps = args.epochs * len(loader)
    init, draw, *keys = random.split(random.key(args.seed), 2 + steps)
    model = VAE(init)
    optimizer = optim.adam(optim.cosine_decay_schedule(3e-3, steps))
    state = optimizer.init(model)

    @ft.jit
    def step(model: VAE, state: Any, key: Any, x: Any) -> tuple[VAE, Any, Any]:
        value, grads = ft.value_and_grad(lambda m: -m.elbo(x, key).mean())(model)
        updates, state = optimizer.update(grads, state, model)
        return optim.apply_updates(model, updates), state, value

    log = SummaryWriter(str(args.out / "logs"))
    shown = test.take(np.arange(50))
    keys = iter(keys)
    for epoch in range(args.epochs):
        losses = []
        for x in tqdm(loader, desc=f"epoch {epoch + 1:2}", leave=False, disable=None):
            model, state, value = step(model, state, next(keys), x)
            losses.append(value)
        log.add_scalar("bound in training", -float(np.mean(losses)), epoch)
        for name, picture in pictures(model, shown, draw).items():
            log.add_image(name, np.asarray(picture), epoch, dataformats="HW")
        print(f"epoch {epoch + 1:2}  bound in training {-np.mean(losses):.1f}")
    log.close()

    found = pictures(model, shown, draw)
    figure = Figure(figsize=(15, 6), layout="constrained")
    for axes, (name, picture) in zip(figure.subplots(1, 3), found.items(), strict=True):
        axes.imshow(picture, cmap="gray_r")
        axes.set_title(name)
        axes.axis("off")
    figure.savefig(args.out / "vae.png", dpi=100)
    ft.save(args.out / "vae.safetensors", nnx.state_dict(model))
    keys = random.split(draw, args.draws)
    elbo, closer = np.mean([bounds(model, x, keys) for x in data.DataLoader(test, 100)], axis=0)
    print(
        f"log p(x) of {len(test)} test digits: at least {elbo:.1f} nats, by {args.draws} draws "
        f"{closer:.1f}, in {time.perf_counter() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
