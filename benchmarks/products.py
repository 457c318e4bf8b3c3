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


# ---------------------------------------------------------------------------------------- a layer
LAYER = (8192, 64, 512)


def layer_args() -> list[np.ndarray]:
    rng, (m, k, n) = np.random.default_rng(1), LAYER
    return [rng.normal(size=shape).astype(np.float32) for shape in ((m, k), (k, n), (n,))]


@row("linear", "a layer, bias and gelu, 8192 x 64 x 512", Target(1.0))
def layer(lib: ModuleType) -> Run:
    x, w, b = (lib.numpy.asarray(a) for a in layer_args())
    f = lib.jit(lambda x, w, b: lib.nn.gelu(x @ w + b))
    return lambda: f(x, w, b)


@layer.also("torch")
def _(torch: ModuleType) -> Run:
    x, w, b = (torch.tensor(a) for a in layer_args())
    gelu = torch.nn.functional.gelu
    return lambda: gelu(torch.addmm(b, x, w), approximate="tanh")
