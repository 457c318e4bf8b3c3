"""Exported programs: a shared library beside the jitted function, and how soon it starts."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.harness import Row, Run, Target, row
from benchmarks.training import normals

FOLDER = tempfile.TemporaryDirectory(prefix="exported")  # gone with the process

JITTED = Target(1 / 1.1, "jit")

SOON = 0.010
"""Seconds from loading a library to its first result."""


def cnn(lib: ModuleType) -> Any:
    """Return the CNN of the other rows, without its training."""
    keys = lib.random.split(lib.random.key(0), 3)
    layers = lib.nnx
    return layers.Sequential(
        layers.Conv2d(1, 16, 3, padding=1, key=keys[0]), layers.ReLU(), layers.MaxPool2d(2),
        layers.Conv2d(16, 32, 3, padding=1, key=keys[1]), layers.ReLU(), layers.MaxPool2d(2),
        layers.Flatten(), layers.Linear(1568, 10, key=keys[2]),
    )  # fmt: skip


def perceptron(lib: ModuleType) -> Any:
    keys = lib.random.split(lib.random.key(1), 3)
    layers = lib.nnx
    return layers.Sequential(
        layers.Linear(784, 512, key=keys[0]), layers.ReLU(), layers.Linear(512, 512, key=keys[1]),
        layers.ReLU(), layers.Linear(512, 10, key=keys[2]),
    )  # fmt: skip


MODELS = {"cnn": (cnn, (1, 28, 28)), "mlp": (perceptron, (784,))}


def written(lib: ModuleType, model: str, batch: int) -> Path:
    """Return the shared library of a model."""
    make, shape = MODELS[model]
    path = Path(FOLDER.name) / f"{model}{batch}.so"
    if not path.exists():
        spec = lib.ShapeDtypeStruct((batch, *shape), "float32")
        lib.export(make(lib))(spec).to_shared(path)
    return path


def library_row(model: str, batch: int, threads: int | None) -> Row:
    """Declare a model's shared library beside its jitted function."""
    make, shape = MODELS[model]
    x = normals(batch, *shape, seed=2)
    shown = "1 thread" if threads == 1 else "all threads"

    @row(
        f"export-{model}-{batch}{'' if threads == 1 else '-all'}",
        f"shared library of the {model.upper()}, batch {batch}, {shown}",
        JITTED,
        peers=(),
    )
    def shared(lib: ModuleType) -> Run:
        path = written(lib, model, batch)
        loaded = ctypes.CDLL(str(path))
        out = np.empty((batch, 10), np.float32)
        function = getattr(loaded, path.stem)
        getattr(loaded, f"{path.stem}_threads")(threads or lib.config.threads or 2)
        given = [a.ctypes.data_as(ctypes.c_void_p) for a in (x, out)]

        def run() -> np.ndarray:
            function(*given)
            return out

        return run

    @shared.also("jit")
    def _(lib: ModuleType) -> Run:
        f, array = lib.jit(make(lib)), lib.numpy.asarray(x)

        def run() -> Any:
            with lib.threads(threads):
                return f(array)

        return run

    return shared


LIBRARY_ROWS = [
    library_row(model, batch, threads)
    for model in MODELS
    for batch in (1, 64)
    for threads in (1, None)
]


START = """#include <dlfcn.h>
#include <stdio.h>
#include <time.h>
static float x[784], y[10];
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}
int main(int count, char **args) {
  double start = now();
  void *library = dlopen(args[1], RTLD_NOW);
  int (*run)(const float *, float *) = (int (*)(const float *, float *))dlsym(library, args[2]);
  if (run(x, y)) return 1;
  printf("%.9f", now() - start);
  return 0;
}
"""


@row(
    "export-start",
    "from loading the CNN's shared library to its first result",
    Target(1.0, "limit"),
    peers=(),
    own_clock=True,
)
def starting(lib: ModuleType) -> Run:
    path = written(lib, "cnn", 1)
    source, program = (Path(FOLDER.name) / name for name in ("start.c", "start"))
    source.write_text(START, encoding="utf-8")
    subprocess.run(["cc", str(source), "-o", str(program), "-ldl"], check=True)
    command = [str(program), str(path), path.stem]
    return lambda: float(subprocess.run(command, capture_output=True, check=True).stdout)


@starting.also("limit")
def _(lib: ModuleType) -> Run:
    return lambda: SOON
