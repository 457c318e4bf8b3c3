"""Measure the foundation against its peers: eager calls, eager gradients, import time, jit.

Contenders take turns inside one process, so that whatever else the machine does falls on all of
them alike; the figure of each is its median. Peers that are not installed are said to be missing.

    python benchmarks/foundation.py [--rounds 15] [--only jit]
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import funtorch as ft
import funtorch.numpy as fnp


class Target(NamedTuple):
    """What must hold: our time is at most ``factor`` times the peer's."""

    peer: str
    factor: float


class Benchmark(NamedTuple):
    """One measurement: makers of what is run, by contender, ours first; and what it must reach."""

    title: str
    makers: dict[str, Callable[[], Callable[[], Any]]]
    targets: tuple[Target, ...]


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


# ---------------------------------------------------------------------------------------- measuring
def calls_for(run: Callable[[], Any], seconds: float) -> int:
    """Return how many calls fill about ``seconds``."""
    run()
    start = time.perf_counter()
    run()
    return max(1, int(seconds / max(time.perf_counter() - start, 1e-7)))


def measure(
    runs: dict[str, Callable[[], Any]], rounds: int, seconds: float = 0.02
) -> dict[str, float]:
    """Return the median time of one call of each, taking turns."""
    counts = {name: calls_for(run, seconds) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(counts[name]):
                run()
            times[name].append((time.perf_counter() - start) / counts[name])
    return {name: statistics.median(t) for name, t in times.items()}


def show(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def report(
    title: str, medians: dict[str, float], missing: list[str], targets: tuple[Target, ...]
) -> bool:
    """Print one measurement; return whether every target that could be compared was met."""
    ours = medians["funtorch"]
    print(f"\n{title}")
    for name, t in medians.items():
        ratio = "" if name == "funtorch" else f"   funtorch / {name} = {ours / t:.3f}"
        print(f"  {name:10} {show(t):>10}{ratio}")
    for name in missing:
        print(f"  {name:10} {'not installed':>10}")
    met = True
    for peer, factor in targets:
        if peer in medians:
            good = ours <= factor * medians[peer]
            met = met and good
            print(f"  must be at most {factor:g} x {peer}: {'yes' if good else 'NO'}")
    return met


# ---------------------------------------------------------------------------------------- eager
def add_funtorch() -> Callable[[], Any]:
    x = fnp.asarray([1.0, 2.0, 3.0])
    return lambda: x + x


def add_torch() -> Callable[[], Any]:
    import torch

    x = torch.tensor([1.0, 2.0, 3.0])
    return lambda: x + x


def add_jax() -> Callable[[], Any]:
    import jax.numpy as jnp

    x = jnp.asarray([1.0, 2.0, 3.0])
    return lambda: x + x


def add_numpy() -> Callable[[], Any]:
    x = np.asarray([1.0, 2.0, 3.0], np.float32)
    return lambda: x + x


def six_operations(np_: Any) -> Callable[[Any], Any]:
    return lambda x: np_.sin(x) * np_.exp(x) + np_.tanh(x) * x


def grad_funtorch() -> Callable[[], Any]:
    g = ft.grad(six_operations(fnp))
    return lambda: g(0.7)


def grad_autograd() -> Callable[[], Any]:
    import autograd
    import autograd.numpy as anp

    g = autograd.grad(six_operations(anp))
    return lambda: g(0.7)


def grad_jax() -> Callable[[], Any]:
    import jax

    g = jax.grad(six_operations(jax.numpy))
    return lambda: g(0.7).block_until_ready()


# ---------------------------------------------------------------------------------------- jit
def gelu(np_: Any, x: Any) -> Any:
    return 0.5 * x * (1.0 + np_.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def gelu_input() -> np.ndarray:
    return np.random.default_rng(0).normal(size=10_000_000).astype(np.float32)


def gelu_funtorch() -> Callable[[], Any]:
    x, f = fnp.asarray(gelu_input()), ft.jit(functools.partial(gelu, fnp))
    return lambda: ft.block_until_ready(f(x))


def gelu_jax() -> Callable[[], Any]:
    import jax

    x, f = jax.numpy.asarray(gelu_input()), jax.jit(functools.partial(gelu, jax.numpy))
    return lambda: f(x).block_until_ready()


SIZES = (64, 128, 64, 10)
BATCH = 64


def digits_data() -> tuple[list[Any], np.ndarray, np.ndarray]:
    """Return parameters and one batch in the shapes of the digits example."""
    rng = np.random.default_rng(0)
    params = [
        {"w": rng.normal(size=(n, m)).astype(np.float32) / n**0.5, "b": np.zeros(m, np.float32)}
        for n, m in itertools.pairwise(SIZES)
    ]
    return (
        params,
        rng.uniform(size=(BATCH, 64)).astype(np.float32),
        rng.integers(0, 10, BATCH).astype(np.int32),
    )


def digits_step(np_: Any, transforms: Any) -> Callable[..., Any]:
    """Return one step of gradient descent with momentum on a perceptron, in the given library."""

    def loss(params: Any, x: Any, y: Any) -> Any:
        for layer in params[:-1]:
            x = np_.maximum(x @ layer["w"] + layer["b"], 0.0)
        scores = x @ params[-1]["w"] + params[-1]["b"]
        scores = scores - scores.max(axis=1, keepdims=True)
        logs = scores - np_.log(np_.exp(scores).sum(axis=1, keepdims=True))
        return -(logs * (y[:, None] == np_.arange(10))).sum() / BATCH

    def step(params: Any, velocity: Any, x: Any, y: Any) -> Any:
        value, grads = transforms.value_and_grad(loss)(params, x, y)
        velocity = transforms.tree_util.tree_map(lambda v, g: 0.9 * v + g, velocity, grads)
        return (
            transforms.tree_util.tree_map(lambda p, v: p - 0.05 * v, params, velocity),
            velocity,
            value,
        )

    return transforms.jit(step)


def digits(np_: Any, transforms: Any, finish: Callable[[Any], Any]) -> Callable[[], Any]:
    step = digits_step(np_, transforms)
    params, x, y = digits_data()
    params, x, y = transforms.tree_util.tree_map(np_.asarray, (params, x, y))
    state = [params, transforms.tree_util.tree_map(np_.zeros_like, params)]

    def run() -> Any:
        *state[:], value = step(*state, x, y)
        return finish(value)

    return run


def digits_funtorch() -> Callable[[], Any]:
    return digits(fnp, ft, ft.block_until_ready)


def digits_jax() -> Callable[[], Any]:
    import jax

    return digits(jax.numpy, jax, lambda value: value.block_until_ready())


# ---------------------------------------------------------------------------------------- import
def import_time(module: str, times: int) -> float:
    """Return the median wall time of importing a module in a fresh interpreter."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    # As installed packages are: with bytecode. Without it every import compiles the sources.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    found = []
    for _ in range(times):
        out = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        found.append(float(out.stdout))
    return statistics.median(found)


def report_import(rounds: int) -> bool:
    times = max(3, rounds // 3)
    import_time("funtorch", 1)
    numpy, ours = import_time("numpy", times), import_time("funtorch", times)
    print("\nimport in a fresh interpreter")
    print(f"  {'numpy':10} {show(numpy):>10}")
    print(f"  {'funtorch':10} {show(ours):>10}   {show(max(ours - numpy, 0))} more")
    good = ours <= numpy + 0.15
    print(f"  must be at most numpy + 0.15 s: {'yes' if good else 'NO'}")
    code = "import sys, funtorch; print(*{'llvmlite', 'cupy', 'safetensors'} & set(sys.modules))"
    heavy = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    print(f"  heavy packages it imports: {heavy or 'none'}")
    return good and not heavy


BENCHMARKS = (
    Benchmark(
        "eager x + x, 3 elements",
        {"funtorch": add_funtorch, "torch": add_torch, "jax": add_jax, "numpy": add_numpy},
        (Target("torch", 1.2),),
    ),
    Benchmark(
        "eager grad of a scalar function of six operations",
        {"funtorch": grad_funtorch, "autograd": grad_autograd, "jax": grad_jax},
        (Target("autograd", 1.5), Target("jax", 0.1)),
    ),
    Benchmark(
        "jit(gelu), 10M float32",
        {"funtorch": gelu_funtorch, "jax": gelu_jax},
        (Target("jax", 0.2),),
    ),
    Benchmark(
        f"jitted training step, perceptron {'-'.join(map(str, SIZES))}, batch {BATCH}",
        {"funtorch": digits_funtorch, "jax": digits_jax},
        (Target("jax", 1.0),),
    ),
)


def main() -> None:
    """Run every measurement and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="turns each contender takes")
    parser.add_argument("--only", default="", help="run those whose title contains this")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    args = parser.parse_args()
    met = []
    for title, makers, targets in BENCHMARKS:
        if args.only in title:
            missing = [name for name in makers if not installed(name)]
            runs = {name: make() for name, make in makers.items() if name not in missing}
            met.append(report(title, measure(runs, args.rounds), missing, targets))
    if args.only in "import":
        met.append(report_import(args.rounds))
    print(f"\n{sum(met)} of {len(met)} targets met")
    if args.check and not all(met):
        sys.exit(1)


if __name__ == "__main__":
    main()
