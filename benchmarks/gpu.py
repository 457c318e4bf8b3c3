"""Measure programs on a GPU: `python -m benchmarks.gpu [--quick] [--only NAME ...]`.

Each row is one jitted function. Beside our time stand those of JAX and PyTorch (eager, and
compiled) where they are installed with their GPU builds, the seconds that each took for its first
call, and the bytes per second that a row moves as a part of what a copy by the driver reaches in
the same run. Times are medians of rounds in which all take turns; within a round calls follow each
other, and their end is waited for once. float32 has its full precision for everyone: JAX and
PyTorch would round what they multiply or convolve.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import funtorch as ft
from funtorch import hardware

__all__ = ["ROWS", "Row", "Runner", "copied", "main", "measure", "our_names"]

Run = Callable[[], Any]
_ROUNDS, _LEAST = 15, 0.02  # rounds, and seconds that one of them takes at least
_COPIED = 1 << 28  # bytes of the copy that others are compared with


@dataclass(frozen=True)
class Runner:
    """A program of some library.

    Attributes:
        run: begins a call, and returns its result.
        wait: waits for a result, and all before it.
    """

    run: Run
    wait: Callable[[Any], None]


def _softmax(xp: Any, x: Any) -> Any:
    e = xp.exp(x - xp.max(x, -1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _norm(xp: Any, x: Any) -> Any:
    c = x - x.mean(-1, keepdims=True)
    return c / xp.sqrt((c * c).mean(-1, keepdims=True) + 1e-5)


def _loss(xp: Any, w: Any, v: Any, x: Any) -> Any:
    return ((xp.tanh(x @ w) @ v) ** 2).mean()


def _images(xp: Any, v: Any, w: Any, x: Any) -> Any:
    """Return the loss of two convolutions of images."""
    return (xp.conv(xp.tanh(xp.conv(x, w)), v) ** 2).mean()


def _transformer(xp: Any, w: Any, v: Any, up: Any, down: Any, x: Any) -> Any:
    """Return the loss of a layer of a transformer, with heads of 64 features."""
    n, t, e = x.shape
    heads = lambda y: y.reshape(n, t, max(e // 64, 1), min(e, 64))  # noqa: E731
    y = _norm(xp, x)
    y = xp.attend(heads(y), heads(y @ w), heads(y @ v)).reshape(n, t, e)
    x = x + y
    return ((x + xp.tanh(_norm(xp, x) @ up) @ down) ** 2).mean()


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
        dtype: of the arguments, by PyTorch's name.
    """

    name: str
    sizes: tuple[tuple[int, ...], ...]
    fn: Callable[..., Any]
    grad: bool = False
    moved: int | None = None
    dtype: str = "float32"


_TRAINED = ((1024, 1024),) * 2 + ((1024, 4096), (4096, 1024), (8, 512, 1024))
_PICTURES = ((64, 128, 3, 3), (128, 64, 3, 3), (128, 64, 32, 32))

ROWS = (
    Row("scaled", ((8192, 8192),), lambda xp, x: x * 1.5, moved=2),
    Row("elementwise", ((8192, 8192),), lambda xp, x: xp.tanh(x) * x + xp.exp(-x * x), moved=2),
    Row("softmax", ((8192, 4096),), _softmax, moved=2),
    Row("layer norm", ((8192, 4096),), _norm, moved=2),
    Row("sum of columns", ((8192, 4096),), lambda xp, x: x.sum(0), moved=1),
    Row("matmul", ((4096, 4096), (4096, 4096)), lambda xp, a, b: a @ b),
    Row("matmul bf16", ((4096, 4096),) * 2, lambda xp, a, b: a @ b, dtype="bfloat16"),
    Row("MLP step", ((2048, 4096), (4096, 512), (1024, 2048)), _loss, grad=True),
    Row("CNN step", _PICTURES, _images, grad=True),
    Row("CNN step bf16", _PICTURES, _images, grad=True, dtype="bfloat16"),
    Row("transformer", _TRAINED, _transformer, grad=True),
    Row("transf. bf16", _TRAINED, _transformer, grad=True, dtype="bfloat16"),
    Row("attention bf16", ((8, 2048, 16, 64),), lambda xp, x: xp.attend(x, x, x), dtype="bfloat16"),
    Row("launch", ((64,),), lambda xp, x: x + 1.0),
)


class _Names:
    """NumPy's names of a library, and how it convolves images and attends."""

    def __init__(self, xp: Any, conv: Callable[..., Any], attend: Callable[..., Any]) -> None:
        self.exp, self.tanh, self.sqrt = xp.exp, xp.tanh, xp.sqrt
        self.max, self.conv, self.attend = getattr(xp, "amax", None), conv, attend


def our_names() -> _Names:
    """Return our namespace, as rows use it."""
    return _Names(
        ft.numpy,
        lambda x, w: ft.lax.conv(x, w, (1, 1), "SAME"),
        lambda q, k, v: ft.nn.dot_product_attention(q, k, v, is_causal=True),
    )


def _ours(row: Row, arrays: Sequence[np.ndarray]) -> Runner:
    names = our_names()
    f: Any = lambda *xs: row.fn(names, *xs)  # noqa: E731
    if row.grad:
        f = ft.grad(f, tuple(range(len(arrays))))
    held = tuple(ft.numpy.asarray(a).astype(row.dtype) for a in arrays)
    jitted, given = ft.jit(f), ft.device_put(held, "cuda:0")
    place = ft.devices("cuda")[0]
    return Runner(lambda: jitted(*given), lambda out: hardware.synchronize(place))


def _jax(row: Row, arrays: Sequence[np.ndarray]) -> Runner | None:
    if importlib.util.find_spec("jax") is None:
        return None
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # others need memory, too
    jax = importlib.import_module("jax")
    if jax.default_backend() != "gpu":
        return None
    names = _Names(
        jax.numpy,
        lambda x, w: jax.lax.conv(x, w, (1, 1), "SAME"),
        lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True),
    )

    def f(*xs: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return row.fn(names, *xs)

    made = jax.jit(jax.grad(f, tuple(range(len(arrays)))) if row.grad else f)
    given = [jax.device_put(jax.numpy.asarray(a, row.dtype)) for a in arrays]
    return Runner(lambda: made(*given), lambda out: jax.block_until_ready(out))


def _torch_names(torch: Any) -> _Names:
    functions = torch.nn.functional

    def attend(q: Any, k: Any, v: Any) -> Any:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out = functions.scaled_dot_product_attention(q, k, v, is_causal=True)
        return out.transpose(1, 2)

    names = _Names(torch, lambda x, w: functions.conv2d(x, w, padding="same"), attend)
    names.max = lambda x, axis, keepdims: torch.amax(x, axis, keepdim=keepdims)
    return names


def _torch(row: Row, arrays: Sequence[np.ndarray], compiled: bool) -> Runner | None:
    if importlib.util.find_spec("torch") is None:
        return None
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    names, dtype = _torch_names(torch), getattr(torch, row.dtype)
    given = [torch.from_numpy(a).to("cuda", dtype).requires_grad_(row.grad) for a in arrays]
    f: Any = lambda *xs: row.fn(names, *xs)  # noqa: E731
    made = torch.compile(f) if compiled else f

    def run() -> Any:  # what is compiled is the loss: its backward pass is, too
        out = made(*given)
        return torch.autograd.grad(out, given) if row.grad else out

    return Runner(run, lambda out: torch.cuda.synchronize())


def _timed(runner: Runner, count: int) -> float:
    """Return the seconds that one of ``count`` calls takes, when all are done."""
    runner.wait(runner.run())
    start = time.perf_counter()
    for _ in range(count):
        out = runner.run()
    runner.wait(out)
    return (time.perf_counter() - start) / count


def copied(quick: bool = False) -> float:
    """Return the bytes per second that a copy by the driver reads and writes."""
    cupy, size = hardware.cupy(), _COPIED >> 12 if quick else _COPIED
    place, runtime = ft.devices("cuda")[0], cupy.cuda.runtime
    one, two = (cupy.zeros((size,), np.dtype(np.uint8)) for _ in range(2))
    kind, stream = runtime.memcpyDeviceToDevice, cupy.cuda.get_current_stream()

    def run() -> None:
        runtime.memcpyAsync(two.data.ptr, one.data.ptr, size, kind, stream.ptr)

    runner = Runner(run, lambda out: hardware.synchronize(place))
    times = [_timed(runner, 2 if quick else 50) for _ in range(2 if quick else _ROUNDS)]
    return 2 * size / statistics.median(times)


def measure(row: Row, quick: bool = False) -> dict[str, float]:
    """Return the seconds of a row by who ran it: 'ours', 'jax', 'torch', 'torch.compile', and
    those of first calls: 'first ours', ...

    A library that fails in a row is left out of it, and the reason goes to stderr.
    """
    rng = np.random.default_rng(0)
    sizes = [tuple(max(n // 8, 1) for n in s) if quick else s for s in row.sizes]
    arrays = [rng.standard_normal(s).astype(np.float32) / np.float32(s[0]) ** 0.5 for s in sizes]
    makers: dict[str, Callable[[], Runner | None]] = {
        "ours": lambda: _ours(row, arrays),
        "jax": lambda: _jax(row, arrays),
        "torch": lambda: _torch(row, arrays, False),
        "torch.compile": lambda: _torch(row, arrays, True),
    }
    there: dict[str, Runner] = {}
    counts, found = {}, {}
    for name, make in makers.items():
        try:
            runner = make()
            if runner is None:
                continue
            start = time.perf_counter()
            runner.wait(runner.run())
            found[f"first {name}"] = time.perf_counter() - start
            for _ in range(3):  # captured, replayed; chosen by trials, by others
                once = _timed(runner, 1)
        except Exception as error:
            if name == "ours":
                raise
            print(f"{row.name}: {name} failed: {error!r:.200}", file=sys.stderr)
            continue
        there[name] = runner
        counts[name] = 1 if quick else max(1, int(_LEAST / max(once, 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in there}
    for _ in range(2 if quick else _ROUNDS):
        for name, runner in there.items():
            times[name].append(_timed(runner, counts[name]))
    return found | {name: statistics.median(all_) for name, all_ in times.items()}


def _line(row: Row, found: dict[str, float], speed: float, quick: bool) -> str:
    """Return a row of the table."""
    who = ("ours", "jax", "torch", "torch.compile")
    cells = [found.get(k) for k in who]
    shown = "".join(f"{'-':>10}" if t is None else f"{t * 1e6:>8.1f}us" for t in cells)
    firsts = [found.get(f"first {k}") for k in who]
    part = f"{'':>8}"
    if row.moved:
        count = np.prod([max(n // 8, 1) if quick else n for n in row.sizes[0]], dtype=float)
        part = f"{row.moved * 4 * count / found['ours'] / speed:>8.0%}"
    after = "".join(f"{'-':>7}" if t is None else f"{t:>6.2f}s" for t in firsts)
    return f"{row.name:<16}{shown} {part}  {after}"


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
    speed = copied(options.quick)
    print(f"a copy by the driver reads and writes {speed / 1e9:.0f} GB/s")
    head = f"{'row':<16}{'ours':>10}{'jax':>10}{'torch':>10}{'compiled':>10}{'of copy':>9}"
    print(f"{head}  first calls: ours, jax, torch, compiled")
    failed = 0
    for row in ROWS:
        if options.only and row.name not in options.only:
            continue
        try:
            line = _line(row, measure(row, options.quick), speed, options.quick)
        except Exception as error:  # the rows that follow are wanted all the same
            line, failed = f"{row.name:<16} failed: {error!r:.300}", failed + 1
        print(line, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
