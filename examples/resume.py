"""Kill a training run again and again, and end where it would have ended without.

The run trains a network on scikit-learn's digits and writes a checkpoint after every few steps:
parameters, the optimizer's state, the random key of dropout, the place in the data. This program
starts it once undisturbed and once more in a second folder, where it kills itself with SIGKILL at
random moments, also while a checkpoint is being written, until it comes to its end.

    python examples/resume.py [--kills 3] [--steps 600] [--out resume_run]

The last line says whether the two last checkpoints are equal, byte for byte.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

import funtorch as ft
from funtorch import data, io, nnx, optim


class Run(NamedTuple):
    """All that changes as training goes on, and so all that a checkpoint holds."""

    model: nnx.Sequential
    state: Any
    key: Any
    loader: dict[str, int]


class Die(NamedTuple):
    """When to die: so many steps after a start, and some milliseconds later."""

    steps: int
    milliseconds: float

    def now(self) -> None:
        wait = self.milliseconds / 1000
        threading.Timer(wait, os.kill, (os.getpid(), signal.SIGKILL)).start()


def train(folder: Path, steps: int, die: Die | None) -> None:
    """Train, from the last checkpoint in the folder if there is one."""
    loader = data.DataLoader(data.digits(), 64, shuffle=True, seed=0, drop_last=True)
    key, k1, k2 = ft.random.split(ft.random.key(0), 3)
    model = nnx.Sequential(
        nnx.Flatten(), nnx.Linear(64, 128, key=k1), nnx.BatchNorm1d(128), nnx.ReLU(),
        nnx.Dropout(0.2), nnx.Linear(128, 10, key=k2),
    )  # fmt: skip
    optimizer = optim.adamw(optim.cosine_decay_schedule(1e-2, steps))
    run = Run(model, optimizer.init(nnx.parameters(model)), key, loader.state_dict())

    @ft.jit
    def step(run: Run, x: Any, y: Any) -> Run:
        key, now = ft.random.split(run.key)

        def loss(model: Any) -> tuple[Any, Any]:
            logits, model = nnx.train(model, now)(x)
            return nnx.cross_entropy(logits, y), model

        gradient, model = nnx.grad(loss, has_aux=True)(run.model)
        updates, state = optimizer.update(gradient, run.state, nnx.parameters(model))
        return Run(optim.apply_updates(model, updates), state, key, run.loader)

    with io.CheckpointManager(folder, keep_last=2) as checkpoints:
        found = checkpoints.restore(like=run)
        first = 0
        if found is not None:
            first, run = found.step, found.tree
            loader.load_state_dict(run.loader)  # in the middle of an epoch
        epochs = (batch for _ in itertools.count() for batch in loader)
        progress = tqdm(
            range(first + 1, steps + 1), desc=folder.name, initial=first, total=steps,
            leave=False, disable=None,
        )  # fmt: skip
        for i, (x, y) in zip(progress, epochs, strict=False):
            run = step(run, x, y)
            if i % 10 == 0:
                checkpoints.save(i, run._replace(loader=loader.state_dict()))
            if die is not None and i == first + die.steps:
                die.now()


def start(folder: Path, steps: int, die: Die | None = None) -> int:
    """Train in a process of its own and return how it ended."""
    command = [sys.executable, __file__, "--train", str(folder), "--steps", str(steps)]
    return subprocess.run(command + (["--die", *map(str, die)] if die else [])).returncode


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("resume_run"))
    parser.add_argument("--train", type=Path, metavar="FOLDER", help="only train")
    parser.add_argument("--die", type=float, nargs=2, help="steps and milliseconds, when training")
    args = parser.parse_args()
    if args.train:
        train(args.train, args.steps, Die(int(args.die[0]), args.die[1]) if args.die else None)
        return

    shutil.rmtree(args.out, ignore_errors=True)
    undisturbed, killed = args.out / "undisturbed", args.out / "killed"
    if start(undisturbed, args.steps):
        sys.exit("training failed")
    for _ in range(args.kills):
        steps = random.randrange(1, args.steps // (args.kills + 1))
        if start(killed, args.steps, Die(steps, random.uniform(0, 10))) != -signal.SIGKILL:
            sys.exit("training failed, or was not killed")
        print(f"killed; there are checkpoints of steps {io.CheckpointManager(killed).steps()}")
    if start(killed, args.steps):
        sys.exit("training failed")
    last = f"step-{args.steps:012d}.safetensors"
    equal = (undisturbed / last).read_bytes() == (killed / last).read_bytes()
    verdict = "equal" if equal else "NOT equal"
    print(f"killed {args.kills} times: the last checkpoint is {verdict} to that of a quiet run")


if __name__ == "__main__":
    main()
