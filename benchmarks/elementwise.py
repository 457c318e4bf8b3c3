"""Long chains of elementwise operations over large arrays: bounded by memory or by arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.harness import Row, Run, Target, row

GELU_SIZE = 10_000_000
OPTIONS = 4_000_000
RATE, VOLATILITY = 0.02, 0.3


def copies(work: Row, arrays: int, size: int) -> None:
    """Let a memory copy take part that moves as many bytes as ``arrays`` float32 arrays hold."""

    @work.also("copy")
    def copy(numpy: ModuleType) -> Run:
        source = numpy.ones(arrays * size // 2, np.float32)
        target = numpy.empty_like(source)
        return lambda: numpy.copyto(target, source)


def normals(size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=size).astype(np.float32)


@row("gelu", "gelu, 10M", Target(3.0), Target(1 / 1.5, "copy"))
def gelu(lib: ModuleType) -> Run:
    x, f = lib.numpy.asarray(normals(GELU_SIZE)), lib.jit(lib.nn.gelu)
    return lambda: f(x)


@gelu.also("torch")
def _(torch: ModuleType) -> Run:
    x = torch.tensor(normals(GELU_SIZE))
    return lambda: torch.nn.functional.gelu(x, approximate="tanh")


copies(gelu, 2, GELU_SIZE)


@row("grad-gelu", "grad(gelu), 10M", Target(3.0), Target(1 / 1.5, "copy"))
def grad_gelu(lib: ModuleType) -> Run:
    x = lib.numpy.asarray(normals(GELU_SIZE))
    g = lib.jit(lib.grad(lambda x: lib.nn.gelu(x).sum()))
    return lambda: g(x)


@grad_gelu.also("torch")
def _(torch: ModuleType) -> Run:
    x = torch.tensor(normals(GELU_SIZE), requires_grad=True)

    def run() -> Any:
        y = torch.nn.functional.gelu(x, approximate="tanh")
        return torch.autograd.grad(y.sum(), x)[0]

    return run


copies(grad_gelu, 2, GELU_SIZE)


def options() -> tuple[np.ndarray, ...]:
    """Return the spot prices, strikes and times of European options."""
    rng = np.random.default_rng(0)
    bounds = ((10.0, 50.0), (10.0, 50.0), (1.0, 2.0))
    return tuple(rng.uniform(lo, hi, OPTIONS).astype(np.float32) for lo, hi in bounds)


def price(np_: Any, erf: Callable[[Any], Any], spot: Any, strike: Any, time: Any) -> tuple:
    """Return call and put prices by the formula of Black and Scholes (1973)."""

    def normal_cdf(x: Any) -> Any:
        return 0.5 + 0.5 * erf(x * 0.7071067811865476)

    spread = VOLATILITY * np_.sqrt(time)
    d1 = (np_.log(spot / strike) + (RATE + 0.5 * VOLATILITY**2) * time) / spread
    d2 = d1 - spread
    discounted = strike * np_.exp(-RATE * time)
    call = spot * normal_cdf(d1) - discounted * normal_cdf(d2)
    return call, call - spot + discounted


@row("black-scholes", "Black-Scholes, 4M options", Target(3.0))
def black_scholes(lib: ModuleType) -> Run:
    arrays = [lib.numpy.asarray(x) for x in options()]
    f = lib.jit(lambda *xs: price(lib.numpy, lib.lax.erf, *xs))
    return lambda: f(*arrays)


@black_scholes.also("torch")
def _(torch: ModuleType) -> Run:
    arrays = [torch.tensor(x) for x in options()]
    return lambda: price(torch, torch.erf, *arrays)


copies(black_scholes, 5, OPTIONS)
