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
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from tqdm import tqdm

import funtorch as ft
from funtorch import data, io, nnx, optim, random


class Run(NamedTuple):
    """All that changes as training goes on, and so all that a checkpoint holds."""

    model: nnx.Sequential
    state: Any
    key: Any
    loader: dict[str, int]


def train(folder: Path, steps: int) -> None:
    """Train, from the last checkpoint in the folder if there is one."""
    images, labels = load_digits(return_X_y=True)
    digits = data.ArrayDataset((images / 16).astype(np.float32), labels.astype(np.int32))
    loader = data.DataLoader(digits, 64, shuffle=True, seed=0, drop_last=True)
    key, k1, k2 = random.split(random.key(0), 3)
    model = nnx.Sequential(
        nnx.Linear(64, 128, key=k1), nnx.BatchNorm1d(128), nnx.ReLU(), nnx.Dropout(0.2),
        nnx.Linear(128, 10, key=k2),
    )  # fmt: skip
    optimizer = optim.adamw(optim.cosine_decay_schedule(1e-2, steps))
    run = Run(model, optimizer.init(nnx.parameters(model)), key, loader.state_dict())

    @ft.jit
    def step(run: Run, x: Any, y: Any) -> tuple[Run, Any]:
        key, now = random.split(run.key)

        def loss(model: Any) -> tuple[Any, Any]:
            logits, model = nnx.train(model, now)(x)
            return nnx.cross_entropy(logits, y), model

        (value, model), gradient = nnx.value_and_grad(loss, has_aux=True)(run.model)
        updates, state = optimizer.update(gradient, run.state, nnx.parameters(model))
        return Run(optim.apply_updates(model, updates), state, key, run.loader), value

    with io.CheckpointManager(folder, keep_last=2) as checkpoints:
        found = checkpoints.restore(like=run)
        done = 0
        if found is not None:
            done, run = found.step, found.tree
            loader.load_state_dict(run.loader)
        progress = tqdm(total=steps, initial=done, desc=folder.name, disable=None, leave=False)
        while done < steps:
            for x, y in loader:  # one that was interrupted goes on in the middle of its epoch
                run, _ = step(run, x, y)
                done += 1
                progress.update()
                if done % 10 == 0:
                    checkpoints.save(done, run._replace(loader=loader.state_dict()))
                if done == steps:
                    break
        progress.close()


def start(folder: Path, args: argparse.Namespace, *more: str) -> int:
    """Train in a process of its own and return how it ended."""
    command = [sys.executable, __file__, "--train", str(folder), "--steps", str(args.steps)]
    return subprocess.run([*command, *more]).returncode


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("resume_run"))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--train", type=Path, help="only train in this folder")
    parser.add_argument("--die", type=float, help="after so many seconds of training")
    args = parser.parse_args()
    if args.train:
        if args.die:
            threading.Timer(args.die, os.kill, (os.getpid(), signal.SIGKILL)).start()
        train(args.train, args.steps)
        return
