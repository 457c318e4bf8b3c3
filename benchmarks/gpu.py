"""Measure programs on a GPU: `python -m benchmarks.gpu [--quick] [--only NAME ...]`.

Each row is one jitted function. Beside our time stand those of JAX and PyTorch (eager, and
compiled) where they are installed with their GPU builds, and the bytes per second that a row moves
as a part of what a plain copy reaches in the same run. Times are medians of rounds in which all
take turns.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import funtorch as ft
from funtorch import hardware

__all__ = ["ROWS", "Row", "main", "measure"]

Run = Callable[[], Any]
_ROUNDS, _LEAST = 15, 0.02  # rounds, and seconds that one of them takes at least


def _softmax(xp: Any, x: Any) -> Any:
    e = xp.exp(x - xp.max(x, -1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _norm(xp: Any, x: Any) -> Any:
    c = x - x.mean(-1, keepdims=True)
    return c / xp.sqrt((c * c).mean(-1, keepdims=True) + 1e-5)


def _loss(xp: Any, w: Any, v: Any, x: Any) -> Any:
    return ((xp.tanh(x @ w) @ v) ** 2).mean()


@dataclass(frozen=True)
class Row:
    """One program.

    Attributes:
        name: how it is called.
        sizes: shapes of its arguments; those of ``--quick`` have each axis an eighth as long.
        fn: ``fn(xp, *arrays)``, with xp the numpy namespace of a library.
        grad: whether the program is the gradient in all arguments, of a function to a number.
        moved: how many times the elements of the first argument are read or written; None where
            it is not memory that limits it.
    """

    name: str
    sizes: tuple[tuple[int, ...], ...]
    fn: Callable[..., Any]
    grad: bool = False
    moved: int | None = None


ROWS = (
    Row("copy", ((8192, 8192),), lambda xp, x: x * 1.5, moved=2),
    Row("elementwise", ((8192, 8192),), lambda xp, x: xp.tanh(x) * x + xp.exp(-x * x), moved=2),
    Row("softmax", ((8192, 4096),), _softmax, moved=2),
    Row("layer norm", ((8192, 4096),), _norm, moved=2),
    Row("sum of columns", ((8192, 4096),), lambda xp, x: x.sum(0), moved=1),
    Row("matmul", ((4096, 4096), (4096, 4096)), lambda xp, a, b: a @ b),
    Row("training step", ((2048, 4096), (4096, 512), (1024, 2048)), _loss, grad=True),
    Row("launch", ((64,),), lambda xp, x: x + 1.0),
)


def _ours(row: Row, arrays: Sequence[np.ndarray]) -> Run:
    f: Any = lambda *xs: row.fn(ft.numpy, *xs)  # noqa: E731
    if row.grad:
        f = ft.grad(f, tuple(range(len(arrays))))
    jitted, given = ft.jit(f), ft.device_put(tuple(arrays), "cuda:0")
    return lambda: jitted(*given)


def _jax(row: Row, arrays: Sequence[np.ndarray]) -> Run | None:
    if importlib.util.find_spec("jax") is None:
        return None
    jax = importlib.import_module("jax")
    if jax.default_backend() != "gpu":
        return None
    f: Any = lambda *xs: row.fn(jax.numpy, *xs)  # noqa: E731
    if row.grad:
        f = jax.grad(f, tuple(range(len(arrays))))
    jitted, given = jax.jit(f), [jax.device_put(a) for a in arrays]
    return lambda: jax.block_until_ready(jitted(*given))


class _TorchNames:
    """PyTorch under NumPy's names."""

    def __init__(self, torch: Any) -> None:
        self.exp, self.tanh, self.sqrt = torch.exp, torch.tanh, torch.sqrt
        self.max = lambda x, axis, keepdims: torch.amax(x, axis, keepdim=keepdims)


def _torch(row: Row, arrays: Sequence[np.ndarray], compiled: bool) -> Run | None:
    if importlib.util.find_spec("torch") is None:
        return None
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        return None
    names = _TorchNames(torch)
    given = [torch.from_numpy(a).cuda().requires_grad_(row.grad) for a in arrays]

    def f(*xs: Any) -> Any:
        out = row.fn(names, *xs)
        return torch.autograd.grad(out, xs) if row.grad else out

    made = torch.compile(f) if compiled else f
    return lambda: made(*given)


def _timed(run: Run, count: int) -> float:
    """Return the seconds that one of ``count`` calls takes, when all are done."""
    hardware.synchronize(ft.devices("cuda")[0])
    start = time.perf_counter()
    for _ in range(count):
        run()
    hardware.synchronize(ft.devices("cuda")[0])
    return (time.perf_counter() - start) / count


def measure(row: Row, quick: bool = False) -> dict[str, float]:
    """Return the seconds of a row by who ran it: 'ours', 'jax', 'torch', 'torch.compile'."""
    rng = np.random.default_rng(0)
    sizes = [tuple(max(n // 8, 1) for n in s) if quick else s for s in row.sizes]
    arrays = [rng.standard_normal(s).astype(np.float32) / np.float32(s[0]) ** 0.5 for s in sizes]
    runs = {
        "ours": _ours(row, arrays),
        "jax": _jax(row, arrays),
        "torch": _torch(row, arrays, False),
        "torch.compile": _torch(row, arrays, True),
    }
    there = {name: run for name, run in runs.items() if run is not None}
    counts = {}
    for name, run in there.items():
        for _ in range(3):  # compiled, captured, replayed
            once = _timed(run, 1)
        counts[name] = 1 if quick else max(1, int(_LEAST / max(once, 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in there}
    for _ in range(2 if quick else _ROUNDS):
        for name, run in there.items():
            times[name].append(_timed(run, counts[name]))
    return {name: statistics.median(found) for name, found in times.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small arrays, few rounds")
    parser.add_argument("--only", nargs="+", default=[], help="names of rows")
    options = parser.parse_args(arguments)
    if hardware.absence():
        print(f"there is no GPU: {hardware.absence()}", file=sys.stderr)
        return 1
    print(f"{ft.devices('cuda')[0].device_kind}; {', '.join(hardware.cuda_versions())}")
    print(f"{'row':<16}{'ours':>10}{'jax':>10}{'torch':>10}{'compiled':>10}{'of copy':>9}")
    speed = 0.0
    for row in ROWS:
        if options.only and row.name not in options.only:
            continue
        found = measure(row, options.quick)
        shown = [found.get(k) for k in ("ours", "jax", "torch", "torch.compile")]
        cells = "".join(f"{'-':>10}" if t is None else f"{t * 1e6:>8.1f}us" for t in shown)
        rate = (row.moved or 0) * 4 * np.prod(row.sizes[0]) / found["ours"]
        speed = speed or rate
        part = f"{rate / speed:>8.0%}" if row.moved and speed else f"{'':>8}"
        print(f"{row.name:<16}{cells} {part}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
