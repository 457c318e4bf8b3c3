"""Sample the weights of a logistic regression on scikit-learn's breast cancer data by HMC.

First the most probable weights are found, and the curvature there; in coordinates in which that is
round, Hamiltonian Monte Carlo needs no tuning. A trajectory is a loop, a chain is a scan of
trajectories, and `vmap` runs the chains side by side: all of it is one compiled program.

    python examples/hmc.py [--chains 32] [--draws 1000] [--out hmc_run]

The last line says how well the chains agree (the largest split R-hat of the 31 weights) and how
many independent draws they are worth. Means and deviations are saved in posterior.safetensors.

References:
    Neal (2011), MCMC using Hamiltonian dynamics.
    Gelman et al. (2013), Bayesian data analysis, 11.4 and 11.5.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from sklearn.datasets import load_breast_cancer

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, nn, optim, random

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def surprise(w: Any, x: Any, signs: Any) -> Any:
    """Return the negative log density of weights with a standard normal prior, but a constant."""
    return -nn.log_sigmoid(signs * (x @ w)).sum() + (w**2).sum() / 2


def trajectory(energy: Any, u: Any, key: Any, size: float, leaps: int) -> tuple[Any, Any]:
    """Follow the dynamics from a point with a random momentum; accept the end or stay."""
    k1, k2, k3 = random.split(key, 3)
    p = random.normal(k1, u.shape)
    size = size * random.uniform(k2, minval=0.8, maxval=1.2)  # no resonance with any direction
    slope = ft.grad(energy)

    def leap(_: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
        u, p = state
        u = u + size * p
        return u, p - size * slope(u)

    # Half a kick before the first leap and back after the last make it reversible.
    new, q = lax.fori_loop(0, leaps, leap, (u, p - size / 2 * slope(u)))
    q = q + size / 2 * slope(new)
    gain = energy(u) + (p**2).sum() / 2 - energy(new) - (q**2).sum() / 2
    accepted = fnp.log(random.uniform(k3)) < gain
    return fnp.where(accepted, new, u), accepted


def split_r_hat(draws: Any) -> Any:
    """Compare the variance between halves of chains with that within: near 1 if they agree."""
    halves = draws.reshape(2 * len(draws), -1, draws.shape[-1])
    n = halves.shape[1]
    within, between = halves.var(1, ddof=1).mean(0), halves.mean(1).var(0, ddof=1)
    return fnp.sqrt((n - 1) / n + between / within)


def effective_draws(draws: Any) -> Any:
    """Count independent draws of the same precision, by Geyer's initial positive sequence."""
    chains, n, _ = draws.shape
    spectrum = fnp.fft.rfft(draws - draws.mean(1, keepdims=True), 2 * n, axis=1)
    covariance = fnp.fft.irfft(abs(spectrum) ** 2, axis=1)[:, :n].mean(0) / n
    within = covariance[0] * n / (n - 1)
    total = covariance[0] + draws.mean(1).var(0, ddof=1)
    correlation = 1 - (within - covariance) / total
    pairs = correlation[: n // 2 * 2].reshape(n // 2, 2, -1).sum(1)
    positive = fnp.cumprod(pairs > 0, axis=0)
    return chains * n / (2 * (positive * pairs).sum(0) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--chains", type=int, default=32)
    parser.add_argument("--draws", type=int, default=1000, help="of each chain")
    parser.add_argument("--size", type=float, default=0.35, help="of a leap")
    parser.add_argument("--leaps", type=int, default=6, help="in a trajectory")
    parser.add_argument("--out", type=Path, default=Path("hmc_run"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    bunch = load_breast_cancer()
    x = (bunch.data - bunch.data.mean(0)) / bunch.data.std(0)
    x = np.column_stack([np.ones(len(x)), x]).astype(np.float32)
    signs = (2 * bunch.target - 1).astype(np.float32)

    mode = optim.minimize(surprise, fnp.zeros(31), (x, signs), method="newton-cg", tol=1e-3).x
    curvature = ft.hessian(surprise)(mode, x, signs)
    root = fnp.linalg.inv(fnp.linalg.cholesky(curvature)).T

    def weights(u: Any) -> Any:
        return mode + root @ u

    def energy(u: Any) -> Any:
        return surprise(weights(u), x, signs)

    @ft.jit
    @ft.vmap
    def chain(key: Any) -> tuple[Any, Any]:
        def step(u: Any, key: Any) -> tuple[Any, Any]:
            u, accepted = trajectory(energy, u, key, args.size, args.leaps)
            return u, (weights(u), accepted)

        k1, k2 = random.split(key)
        far = 2 * random.normal(k1, (31,))
        _, (draws, accepted) = lax.scan(step, far, random.split(k2, 100 + args.draws))
        return draws[100:], accepted[100:].mean()

    keys = random.split(random.key(args.seed), args.chains)
    chain.lower(keys).compile()
    started = time.perf_counter()
    draws, accepted = ft.block_until_ready(chain(keys))
    seconds = time.perf_counter() - started

    mean, deviation = draws.mean((0, 1)), draws.std((0, 1))
    args.out.mkdir(parents=True, exist_ok=True)
    ft.save(args.out / "posterior.safetensors", {"mean": mean, "deviation": deviation})
    figure, axes = plt.subplots(figsize=(7, 7), layout="constrained")
    axes.errorbar(mean, range(31), xerr=deviation, fmt="o")
    axes.set_yticks(range(31), ["constant", *bunch.feature_names])
    axes.set(xlabel="weight: mean and standard deviation of the posterior")
    figure.savefig(args.out / "weights.png", dpi=100)

    effective = effective_draws(draws).min()
    print(f"{args.chains} chains of {args.draws} draws, {accepted.mean():.0%} accepted")
    print(
        f"largest R-hat {split_r_hat(draws).max():.4f}, at least {effective:.0f} effective draws, "
        f"{effective / seconds:.0f} per second"
    )


if __name__ == "__main__":
    main()
