"""Matrix products."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from benchmarks.harness import Row, Run, Target, row

SIZES = (64, 128, 256, 512, 1024, 2048)
BATCHED = (64, 128, 128)


def pair(shape: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for _ in range(2)]


def product(name: str, title: str, shape: tuple[int, ...]) -> Row:
    """Declare the product of two arrays of a shape."""

    @row(name, title, Target(1.0))
    def multiply(lib: ModuleType) -> Run:
        a, b = (lib.numpy.asarray(x) for x in pair(shape))
        f = lib.jit(lib.numpy.matmul)
        return lambda: f(a, b)

    @multiply.also("torch")
    def _(torch: ModuleType) -> Run:
        a, b = (torch.tensor(x) for x in pair(shape))
        return lambda: torch.matmul(a, b)

    return multiply


MATMULS = [product(f"matmul-{n}", f"matmul {n} x {n}", (n, n)) for n in SIZES]
BATCHED_MATMUL = product("matmul-batched", f"{BATCHED[0]} matmuls of 128 x 128", BATCHED)
