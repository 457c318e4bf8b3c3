"""What eager calls of elementwise functions on small arrays cost beside NumPy's own.

``python -m benchmarks.eager`` lists every function, the worst first: its time as
``funtorch.numpy.f(x)``, as ``numpy.f(x)`` on our array, and NumPy's own on its array.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import Run, Target, row, show

UNARY = [
    "abs", "negative", "sign", "square", "sqrt", "cbrt", "reciprocal", "exp", "exp2", "expm1",
    "log", "log2", "log10", "log1p", "sin", "cos", "tan", "arcsin", "arccos", "arctan",
    "sinh", "cosh", "tanh", "arcsinh", "arctanh", "floor", "ceil", "trunc", "rint", "deg2rad",
    "rad2deg", "isfinite", "isnan", "isinf", "signbit", "logical_not", "sinc", "nan_to_num",
    "angle", "frexp", "modf", "spacing", "real", "conj",
]  # fmt: skip
BINARY = [
    "add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "fmax", "fmin",
    "hypot", "arctan2", "copysign", "nextafter", "logaddexp", "logaddexp2", "heaviside",
    "floor_divide", "remainder", "fmod", "divmod", "equal", "not_equal", "less", "less_equal",
    "greater", "greater_equal", "logical_and", "logical_or", "logical_xor", "isclose",
]  # fmt: skip
SIZE, ROUNDS, CALLS = 16, 9, 300


class Cost(NamedTuple):
    """The times of one call of a function, in seconds.

    Args:
        name: of the function.
        ours, asked, numpy: ``funtorch.numpy.f(x)``, ``numpy.f(x)`` on our array, NumPy's own.
    """

    name: str
    ours: float
    asked: float
    numpy: float


def fastest(runs: list[Callable[[], Any]]) -> list[float]:
    """Return the time of one call of each in its fastest of short turns."""
    times = [float("inf")] * len(runs)
    for _ in range(ROUNDS):
        for k, run in enumerate(runs):
            begin = time.perf_counter()
            for _ in range(CALLS):
                run()
            times[k] = min(times[k], (time.perf_counter() - begin) / CALLS)
    return times


def costs(lib: ModuleType) -> Iterator[Cost]:
    """Yield what each function costs."""
    numbers = np.linspace(0.1, 0.9, SIZE, dtype=np.float32)
    x = lib.numpy.asarray(numbers)
    for name in (*UNARY, *BINARY):
        count = 2 if name in BINARY else 1
        ours, theirs = getattr(lib.numpy, name), getattr(np, name)
        given, plain = (x,) * count, (numbers,) * count
        runs = [
            lambda f=ours, a=given: f(*a),
            lambda f=theirs, a=given: f(*a),
            lambda f=theirs, a=plain: f(*a),
        ]
        yield Cost(name, *fastest(runs))


def worst_row(name: str, title: str, time_of: Callable[[Cost], float], *targets: Target) -> Any:
    """Declare a row of the function that costs most beside NumPy's own."""
    found: list[Cost] = []

    @row(name, title, *targets, peers=(), agree=None, own_clock=True)
    def worst(lib: ModuleType) -> Run:
        def run() -> float:
            found[:] = [max(costs(lib), key=lambda c: time_of(c) / c.numpy)]
            return time_of(found[0])

        return run

    @worst.also("numpy")
    def _(numpy: ModuleType) -> Run:
        return lambda: found[0].numpy if found else float("nan")

    return worst


worst_row(
    "eager-worst",
    f"the worst eager elementwise function, {SIZE} elements",
    lambda c: c.ours,
    Target(1 / 3, "numpy"),
    Target(1.0, "numpy", 2e-6),
)
worst_row(
    "eager-worst-np",
    f"the worst elementwise function called as NumPy's, {SIZE} elements",
    lambda c: c.asked,
    Target(1 / 3, "numpy"),
    Target(1.0, "numpy", 2e-6),
)


def main() -> None:
    """Print the table of all functions."""
    import funtorch

    class Asked:
        """What NumPy's protocol itself costs: a method that does nothing."""

        def __array_ufunc__(self, *args: Any, **kwargs: Any) -> None:
            return None

    nothing = Asked()
    (protocol,) = fastest([lambda: np.sin(nothing)])
    print(f"numpy.sin of an object whose __array_ufunc__ does nothing: {show(protocol)}")
    print(f"{'function':14} {'NumPy':>9} {'ours':>9} {'ratio':>6} {'np.f(ours)':>11} {'ratio':>6}")
    for c in sorted(costs(funtorch), key=lambda c: -c.ours / c.numpy):
        print(
            f"{c.name:14} {show(c.numpy):>9} {show(c.ours):>9} {c.ours / c.numpy:5.2f}x"
            f" {show(c.asked):>11} {c.asked / c.numpy:5.2f}x"
        )


if __name__ == "__main__":
    main()
