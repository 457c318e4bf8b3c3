"""Loops and scans whose steps are small, and their gradients."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.harness import Run, Target, row

NO_LOOP = {"torch": "has no compiled loop; in Python it would take seconds"}
STEPS = 1_000_000


@row("fori", "fori_loop of 1,000,000 scalar steps", Target(1.0), absent=NO_LOOP)
def fori(lib: ModuleType) -> Run:
    f = lib.jit(lambda x: lib.lax.fori_loop(0, STEPS, lambda i, x: x * 0.999 + 0.5, x))
    x = lib.numpy.asarray(np.float32(3.0))
    return lambda: f(x)


RK4_STEPS, RK4_STEP = 1000, 0.01
START = np.array([1.0, 0.0, 0.5], np.float32)


def lorenz(np_: Any, s: Any) -> Any:
    """Return the time derivative of Lorenz's system (1963)."""
    x, y, z = s[0], s[1], s[2]
    return np_.stack([10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z])


def rk4(np_: Any, s: Any) -> Any:
    """Return the state a step later, by the classical method of Runge and Kutta."""
    h = RK4_STEP
    k1 = lorenz(np_, s)
    k2 = lorenz(np_, s + 0.5 * h * k1)
    k3 = lorenz(np_, s + 0.5 * h * k2)
    k4 = lorenz(np_, s + h * k3)
    return s + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)


# Chaos: over 10 units of time rounding errors grow until no digits agree.
@row("rk4", "gradient of 1000 RK4 steps, Lorenz's system", Target(1.0), agree=None)
def rk4_gradient(lib: ModuleType) -> Run:
    def end(s: Any) -> Any:
        s, _ = lib.lax.scan(lambda s, _: (rk4(lib.numpy, s), None), s, None, length=RK4_STEPS)
        return s.sum()

    f, s = lib.jit(lib.grad(end)), lib.numpy.asarray(START)
    return lambda: f(s)


@rk4_gradient.also("torch")
def _(torch: ModuleType) -> Run:
    start = torch.tensor(START, requires_grad=True)

    def run() -> Any:
        s = start
        for _ in range(RK4_STEPS):
            s = rk4(torch, s)
        return torch.autograd.grad(s.sum(), start)[0]

    return run


CARRIES, LENGTH = 60, 1000


@row(
    "carries",
    "gradient of a scan with 60 scalar carries, 1000 steps",
    Target(3.0),
    absent={"torch": "has no scan; in Python it would take a second"},
)
def carries(lib: ModuleType) -> Run:
    def end(start: Any) -> Any:
        def body(carry: Any, _: Any) -> Any:
            ahead = carry[1:] + carry[:1]
            return [
                lib.numpy.sin(x) * 0.5 + y * 0.4 for x, y in zip(carry, ahead, strict=True)
            ], None

        last, _ = lib.lax.scan(body, [start[k] for k in range(CARRIES)], None, length=LENGTH)
        return sum(last[1:], last[0])

    f = lib.jit(lib.grad(end))
    start = lib.numpy.asarray(np.linspace(0.1, 1.0, CARRIES, dtype=np.float32))
    return lambda: f(start)


LANES, SHORT, LONG = 10_000, 10, 10_000


@row(
    "lanes", "vmapped while_loop, 10,000 lanes, one 1000 times longer", Target(20.0), absent=NO_LOOP
)
def lanes(lib: ModuleType) -> Run:
    def run_lane(x: Any, steps: Any) -> Any:
        def body(carry: Any) -> Any:
            k, x = carry
            return k + 1, x * 0.999 + 0.5

        return lib.lax.while_loop(lambda carry: carry[0] < steps, body, (0, x))[1]

    counts = np.full(LANES, SHORT, np.int32)
    counts[LANES // 3] = LONG
    f = lib.jit(lib.vmap(run_lane))
    args = lib.numpy.asarray(np.linspace(0, 1, LANES, dtype=np.float32)), lib.numpy.asarray(counts)
    return lambda: f(*args)
