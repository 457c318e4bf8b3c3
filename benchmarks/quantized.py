"""Linear layers of int8 and int4 weights against float32: `python -m benchmarks.quantized`.

Variants of one shape take turns; wall-clock time and CPU time are medians, the latter for loaded
machines. Batch 1 is bound by memory, batch 256 by arithmetic.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import funtorch as ft
from funtorch import nnx, quant, random

SHAPES = (
    (1, 4096, 4096),
    (1, 1024, 4096),
    (4, 4096, 4096),
    (8, 4096, 4096),
    (16, 4096, 4096),
    (32, 2048, 2048),
    (256, 1024, 1024),
    (256, 1024, 16),
)
"""Batch, features in, features out."""


def measured(
    cases: dict[str, Callable[[], Any]], rounds: int = 15, calls: int = 5
) -> dict[str, tuple[float, float]]:
    """Return wall-clock and CPU milliseconds of a call of each, which take turns."""
    for f in cases.values():
        f()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, f in cases.items():
            start, cpu = time.perf_counter(), time.process_time()
            for _ in range(calls):
                f()
            ends = time.perf_counter() - start, time.process_time() - cpu
            times[name].append((1e3 * ends[0] / calls, 1e3 * ends[1] / calls))
    return {
        name: (statistics.median(w for w, _ in found), statistics.median(c for _, c in found))
        for name, found in times.items()
    }


def main() -> None:
    """Print a table."""
    print("batch x in x out      scheme        MB     wall ms   CPU ms   wall x   CPU x")
    for batch, ins, outs in SHAPES:
        layer = nnx.Linear(ins, outs, key=random.key(0))
        x = random.normal(random.key(1), (batch, ins))
        models = {"float32": layer}
        models |= {s: nnx.quantize(layer, x, scheme=s) for s in ("int8", "int8-weights")}
        models |= {"int4-weights": nnx.quantize(layer, x, scheme="int4-weights")}
        run = ft.jit(lambda model, x: model(x))
        found = measured({name: lambda m=m, x=x: run(m, x) for name, m in models.items()})
        wall, cpu = found["float32"]
        for name, (w, c) in found.items():
            size = quant.nbytes(models[name]) / 1e6
            print(
                f"{batch:4} x {ins} x {outs:5}  {name:14} {size:6.2f} {w:9.3f} {c:9.3f} "
                f"{wall / w:7.2f} {cpu / c:7.2f}"
            )


if __name__ == "__main__":
    main()
