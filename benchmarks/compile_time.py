"""The first call of training steps in a fresh process: tracing and compiling, and one step.

As a program it is that process: `python -m benchmarks.compile_time LIBRARY ROW` prints seconds.
"""

from __future__ import annotations

import atexit
import importlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

from benchmarks import training
from benchmarks.harness import Row, Run, Target, finisher, row

STEPS = {"mlp": training.mlp, "cnn": training.cnn, "transformer": training.transformer}
ROOT = Path(__file__).resolve().parent.parent
EAGER = {"torch": "does not compile"}


def seconds(library: str, step: str, cache: str) -> float:
    """Return what the first call takes in a process of its own, with a folder for object code."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compile_time", library, step],
        env={**os.environ, "FUNTORCH_CACHE_DIR": cache},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.splitlines()
        raise NotImplementedError(lines[-1] if lines else f"exit code {done.returncode}")
    return float(done.stdout.split()[-1])


def temporary() -> tempfile.TemporaryDirectory:
    made = tempfile.TemporaryDirectory(prefix="bench")
    atexit.register(made.cleanup)
    return made


def first_call(step: str) -> Row:
    """Declare the first call with nothing on disk."""
    title = f"first call, {STEPS[step].title}"

    @row(f"first-{step}", title, Target(2.0, "jax"), absent=EAGER, own_clock=True)
    def first(lib: ModuleType) -> Run:
        def run() -> float:
            with tempfile.TemporaryDirectory() as empty:
                return seconds(lib.__name__, step, empty)

        return started(run)

    return first


def second_process(step: str) -> Row:
    """Declare the first call in a second process: what the first left on disk is there."""
    title = f"second process, {STEPS[step].title}"

    @row(f"second-{step}", title, Target(5.0, "jax"), absent=EAGER, own_clock=True)
    def second(lib: ModuleType) -> Run:
        folder = temporary()
        return started(lambda: seconds(lib.__name__, step, folder.name))

    return second


def started(run: Run) -> Run:
    """Run once, so that a library that cannot says so before any clock is read."""
    run()
    return run


FIRST = [first_call(step) for step in STEPS]
SECOND = [second_process(step) for step in STEPS]


def main() -> None:
    """Make the inputs, then print how long the first call takes."""
    library, step = sys.argv[1:]
    module = importlib.import_module(library)
    finish = finisher(module)
    run = STEPS[step].makers[library](module)
    begin = time.perf_counter()
    finish(run())
    print(time.perf_counter() - begin)


if __name__ == "__main__":
    main()
