"""What a jitted call costs beside its work."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from benchmarks.harness import Run, Target, row

EAGER = {"torch": "has no compiled call to compare"}
LEAVES = 100


@row("small-call", "a small jitted call, 3 elements", Target(1.0, "jax"), absent=EAGER)
def small_call(lib: ModuleType) -> Run:
    x, f = lib.numpy.asarray(np.ones(3, np.float32)), lib.jit(lambda x: x * 2.0 + 1.0)
    return lambda: f(x)


@row("leaves", "a jitted call on a dict of 100 arrays", Target(1.0, "jax"), absent=EAGER)
def hundred_leaves(lib: ModuleType) -> Run:
    x = {f"layer{k}": lib.numpy.asarray(np.ones(3, np.float32)) for k in range(LEAVES)}
    f = lib.jit(lambda tree: lib.tree.map(lambda x: x * 2.0, tree))
    return lambda: f(x)
