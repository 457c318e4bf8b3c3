"""The foundation: eager calls and gradients, the time to import, the training step of the demo."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from benchmarks.harness import Row, Run, Target, row
from benchmarks.training import perceptron_row

EAGER = {
    "add": ("eager x + x, 3 elements", lambda np_, x: x + x),
    "multiply": ("eager x * y, 3 elements", lambda np_, x: x * x),
    "sine": ("eager sin(x), 3 elements", lambda np_, x: np_.sin(x)),
    "index": ("eager x[1]", lambda np_, x: x[1]),
    "sum": ("eager sum(x), 3 elements", lambda np_, x: np_.sum(x)),
}
"""One operation each, given the library's NumPy-like namespace."""

SLACK = {"add": Target(1 / 1.2, "torch")}
"""What must hold; the rest are there to be looked at."""


def eager_row(name: str) -> Row:
    """Declare one eager operation."""
    title, operation = EAGER[name]
    targets = (SLACK[name],) if name in SLACK else ()

    @row(f"eager-{name}", title, *targets)
    def apply(lib: ModuleType) -> Run:
        x = lib.numpy.asarray([1.0, 2.0, 3.0])
        return lambda: operation(lib.numpy, x)

    @apply.also("torch")
    def _(torch: ModuleType) -> Run:
        x = torch.tensor([1.0, 2.0, 3.0])
        return lambda: operation(torch, x)

    @apply.also("numpy")
    def _(numpy: ModuleType) -> Run:
        x = numpy.asarray([1.0, 2.0, 3.0], numpy.float32)
        return lambda: operation(numpy, x)

    return apply


EAGER_ROWS = [eager_row(name) for name in EAGER]


def six_operations(np_: Any) -> Callable[[Any], Any]:
    return lambda x: np_.sin(x) * np_.exp(x) + np_.tanh(x) * x


@row(
    "eager-grad",
    "eager gradient of a scalar function of six operations",
    Target(1 / 1.5, "autograd"),
    Target(10.0, "jax"),
)
def eager_grad(lib: ModuleType) -> Run:
    g = lib.grad(six_operations(lib.numpy))
    return lambda: g(0.7)


@eager_grad.also("torch")
def _(torch: ModuleType) -> Run:
    f = six_operations(torch)

    def run() -> Any:
        x = torch.tensor(0.7, requires_grad=True)
        return torch.autograd.grad(f(x), x)[0]

    return run


@eager_grad.also("autograd")
def _(autograd: ModuleType) -> Run:
    import autograd.numpy

    g = autograd.grad(six_operations(autograd.numpy))
    return lambda: g(0.7)


digits = perceptron_row("digits", (64, 128, 64, 10), 64, Target(1.0))


# ---------------------------------------------------------------------------------------- import
def import_time(module: str) -> float:
    """Return the wall time of importing a module in a fresh interpreter."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    # As installed packages are: with bytecode. Without it every import compiles the sources.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return float(done.stdout)


def importing(module: ModuleType) -> Run:
    name = module.__name__
    import_time(name)
    return lambda: import_time(name)


@row(
    "import",
    "import in a fresh interpreter",
    Target(1.0, "numpy", 0.15),
    Target(1.0),
    agree=None,
    own_clock=True,
)
def import_row(lib: ModuleType) -> Run:
    return importing(lib)


import_row.also("torch")(importing)
import_row.also("numpy")(importing)

HEAVY = ("cupy", "llvmlite", "safetensors", "scipy_openblas32")


def heavy_imports() -> list[str]:
    """Return the heavy packages that `import funtorch` imports: there should be none."""
    code = f"import sys, funtorch; print(*set({HEAVY}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()
