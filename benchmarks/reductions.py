"""Reductions with their producers and consumers, and a running sum."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.harness import Run, Target, row

ROWS_AND_COLUMNS = (4096, 1024)
SUM_SIZE = 10_000_000


def matrix(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=ROWS_AND_COLUMNS).astype(np.float32)


@row("softmax", "softmax, 4096 x 1024", Target(1.5))
def softmax(lib: ModuleType) -> Run:
    x, f = lib.numpy.asarray(matrix()), lib.jit(lib.nn.softmax)
    return lambda: f(x)


@softmax.also("torch")
def _(torch: ModuleType) -> Run:
    x = torch.tensor(matrix())
    return lambda: torch.softmax(x, -1)


@row("softmax-grad", "softmax, value and gradient, 4096 x 1024", Target(1.5))
def softmax_grad(lib: ModuleType) -> Run:
    def both(x: Any, ct: Any) -> Any:
        y, pull = lib.vjp(lib.nn.softmax, x)
        return y, pull(ct)[0]

    x, ct, f = lib.numpy.asarray(matrix()), lib.numpy.asarray(matrix(1)), lib.jit(both)
    return lambda: f(x, ct)


@softmax_grad.also("torch")
def _(torch: ModuleType) -> Run:
    x, ct = torch.tensor(matrix(), requires_grad=True), torch.tensor(matrix(1))

    def run() -> Any:
        y = torch.softmax(x, -1)
        return y.detach(), torch.autograd.grad(y, x, ct)[0]

    return run


def layer_norm_inputs() -> tuple[np.ndarray, ...]:
    """Return the input, the factor, the shift and a cotangent."""
    rng = np.random.default_rng(2)
    columns = ROWS_AND_COLUMNS[1]
    scale = rng.uniform(0.5, 1.5, columns).astype(np.float32)
    return matrix(), scale, rng.normal(size=columns).astype(np.float32), matrix(1)


@row("layer-norm", "layer norm, value and gradients, 4096 x 1024", Target(1.5))
def layer_norm(lib: ModuleType) -> Run:
    def norm(x: Any, scale: Any, shift: Any) -> Any:
        mean = x.mean(axis=-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
        return (x - mean) * lib.lax.rsqrt(variance + 1e-5) * scale + shift

    def both(x: Any, scale: Any, shift: Any, ct: Any) -> Any:
        y, pull = lib.vjp(norm, x, scale, shift)
        return y, pull(ct)

    args = [lib.numpy.asarray(x) for x in layer_norm_inputs()]
    f = lib.jit(both)
    return lambda: f(*args)


@layer_norm.also("torch")
def _(torch: ModuleType) -> Run:
    *wrt, ct = (torch.tensor(x) for x in layer_norm_inputs())
    wrt = [x.requires_grad_() for x in wrt]

    def run() -> Any:
        y = torch.nn.functional.layer_norm(wrt[0], ROWS_AND_COLUMNS[1:], *wrt[1:])
        return y.detach(), torch.autograd.grad(y, wrt, ct)

    return run


@row("sum-0", "sum over axis 0, 4096 x 1024", Target(1.5))
def sum_axis_0(lib: ModuleType) -> Run:
    x, f = lib.numpy.asarray(matrix()), lib.jit(lambda x: x.sum(axis=0))
    return lambda: f(x)


@sum_axis_0.also("torch")
def _(torch: ModuleType) -> Run:
    x = torch.tensor(matrix())
    return lambda: x.sum(0)


def steps() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SUM_SIZE).astype(np.float32)


@row("cumsum", "cumsum, 10M", Target(1.5))
def cumsum(lib: ModuleType) -> Run:
    x, f = lib.numpy.asarray(steps()), lib.jit(lib.numpy.cumsum)
    return lambda: f(x)


@cumsum.also("torch")
def _(torch: ModuleType) -> Run:
    x = torch.tensor(steps())
    return lambda: torch.cumsum(x, 0)
