"""Fit a Gaussian process to scikit-learn's diabetes data, and compare with scikit-learn's own.

Its kernel has a length for each of the ten measurements, a height and a noise: twelve numbers,
found by maximizing the marginal likelihood with L-BFGS. The gradient goes through the Cholesky
factorization; nobody wrote it down. Several starts run at once under `vmap`.

    python examples/gaussian_process.py [--starts 4] [--out gp_run]

The last line is the mean negative log likelihood of 142 patients that were not learnt from, here
and in scikit-learn.

References:
    Rasmussen and Williams (2006), Gaussian processes for machine learning, algorithm 2.1.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.gaussian_process import GaussianProcessRegressor, kernels

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import optim, random
from funtorch.scipy.linalg import cho_solve, solve_triangular

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def covariance(p: dict[str, Any], a: Any, b: Any) -> Any:
    """Return the kernel between the rows of two matrices; parameters are logarithms."""
    scale = fnp.exp(-p["lengths"])
    squares = (((a[:, None] - b[None]) * scale) ** 2).sum(-1)
    return fnp.exp(2 * p["height"] - squares / 2)


def factor(p: dict[str, Any], x: Any) -> Any:
    return fnp.linalg.cholesky(covariance(p, x, x) + fnp.exp(2 * p["noise"]) * fnp.eye(len(x)))


def log_density(y: Any, mean: Any, deviation: Any) -> Any:
    return -(((y - mean) / deviation) ** 2) / 2 - fnp.log(deviation) - math.log(2 * math.pi) / 2


def surprise(p: dict[str, Any], x: Any, y: Any) -> Any:
    """Return the negative log marginal likelihood."""
    root = factor(p, x)
    white = solve_triangular(root, y, lower=True)
    return (white**2).sum() / 2 + fnp.log(fnp.diag(root)).sum() + len(y) * math.log(2 * math.pi) / 2


def predict(p: dict[str, Any], x: Any, y: Any, new: Any) -> tuple[Any, Any]:
    """Return mean and standard deviation of new measurements."""
    root, across = factor(p, x), covariance(p, x, new)
    mean = across.T @ cho_solve((root, True), y)
    explained = (solve_triangular(root, across, lower=True) ** 2).sum(0)
    return mean, fnp.sqrt(fnp.exp(2 * p["height"]) + fnp.exp(2 * p["noise"]) - explained)


def scikit_learn(x: Any, y: Any, x_test: Any, y_test: Any) -> tuple[float, float]:
    """Return the log marginal likelihood and the test figure that scikit-learn finds."""
    kernel = kernels.ConstantKernel() * kernels.RBF(np.full(10, 3.0)) + kernels.WhiteKernel()
    with warnings.catch_warnings(action="ignore"):  # lengths that grow without end
        model = GaussianProcessRegressor(kernel).fit(x, y)
    mean, deviation = model.predict(x_test, return_std=True)
    return model.log_marginal_likelihood_value_, float(-log_density(y_test, mean, deviation).mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--patients", type=int, default=300, help="to learn from")
    parser.add_argument("--out", type=Path, default=Path("gp_run"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(args.seed).permutation(len(y))
    x, y = (x / x.std(0))[order], ((y - y.mean()) / y.std())[order]
    (x, _, x_test), (y, _, y_test) = (np.split(each, [args.patients, 300]) for each in (x, y))

    started = time.perf_counter()

    def fit(lengths: Any) -> Any:
        start = {"lengths": lengths, "height": np.zeros(()), "noise": np.zeros(())}
        return optim.minimize(surprise, start, (x, y), method="l-bfgs", tol=1e-3)

    starts = math.log(3.0) + random.normal(random.key(args.seed), (args.starts, 10), np.float64)
    found = ft.jit(ft.vmap(fit))(starts.at[0].set(math.log(3.0)))
    best = ft.tree.map(lambda leaf: leaf[found.fun.argmin()], found.x)
    mean, deviation = ft.jit(predict)(best, x, y, x_test)
    figure = float(-log_density(y_test, mean, deviation).mean())
    seconds = time.perf_counter() - started

    started = time.perf_counter()
    their_likelihood, theirs = scikit_learn(x, y, x_test, y_test)
    their_seconds = time.perf_counter() - started

    args.out.mkdir(parents=True, exist_ok=True)
    plot, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.errorbar(mean, y_test, xerr=deviation, fmt=".", alpha=0.5)
    left.axline((0, 0), slope=1, color="black")
    left.set(xlabel="predicted progression", ylabel="measured")
    right.bar(load_diabetes().feature_names, fnp.exp(-best["lengths"]))
    right.set(ylabel="how much each measurement matters (1 / length)")
    plot.savefig(args.out / "diabetes.png", dpi=100)

    print(f"{args.starts} starts ended at log likelihoods {fnp.round(-found.fun, 2).tolist()}")
    print(f"scikit-learn's one start ended at {their_likelihood:.2f}")
    print(
        f"test negative log likelihood {figure:.4f} in {seconds:.1f} s; "
        f"scikit-learn {theirs:.4f} in {their_seconds:.1f} s"
    )


if __name__ == "__main__":
    main()
