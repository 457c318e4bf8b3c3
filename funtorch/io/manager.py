"""The checkpoints of a training run: a file each, the oldest dropped, the newest good one found."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from funtorch import tree
from funtorch.core import Array
from funtorch.processes import world
from funtorch.random import keys
from funtorch.spread import GlobalArray

from . import files, parts

__all__ = ["Checkpoint", "CheckpointManager"]

_NAME = re.compile(r"step-(\d{12,})\.safetensors")


class Checkpoint(NamedTuple):
    """What `CheckpointManager.restore` found.

    Attributes:
        step: the step at which it was saved.
        tree: what was saved.
        metrics: the figures that were given with it.
    """

    step: int
    tree: Any
    metrics: dict[str, float]


class CheckpointManager:
    """Saves the state of a run as it goes, and finds it again.

    A checkpoint is a file ``step-000000000100.safetensors`` that `funtorch.load` reads too. It
    appears only when it is complete and on the disk; older ones go only after that. So a run that
    is killed at any moment goes on from its last checkpoint.

    In a program of several processes all of them call `save` and `restore`. The first one writes
    what all have, and each one its parts of arrays that are divided; it can be restored by any
    number of processes.

    Args:
        directory: where the files are; made if it is not there. One run, one directory.
        keep_last: how many of the newest checkpoints stay; None for all.
        keep_best: how many of the best stay besides.
        metric: the name of the figure that says which is best.
        mode: 'min' or 'max': whether a small or a large figure is good.
        asynchronous: write in the background. Arrays are copied before `save` returns, so what is
            saved is what they were, whatever is done with their memory; an error in the
            background is raised by the next call.

    Raises:
        ValueError: the settings contradict each other.

    Example:
        >>> import tempfile
        >>> import funtorch.numpy as fnp
        >>> from funtorch import io
        >>> with io.CheckpointManager(tempfile.mkdtemp(), keep_last=2) as manager:
        ...     for step in range(5):
        ...         manager.save(step, {"w": fnp.full(2, step)}, metrics={"loss": 1 / (step + 1)})
        ...     manager.steps()
        ...     manager.restore().tree["w"]
        [3, 4]
        Array([4, 4], dtype=int32, weak_type=True)
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep_last: int | None = 3,
        keep_best: int = 0,
        metric: str | None = None,
        mode: str = "min",
        asynchronous: bool = True,
    ) -> None:
        if keep_last is not None and keep_last < 1:
            raise ValueError(f"CheckpointManager keeps at least one: keep_last={keep_last}")
        if keep_best and metric is None:
            raise ValueError(
                f"CheckpointManager(keep_best={keep_best}) needs to know which figure is to be "
                "best: metric='loss', for example"
            )
        if mode not in ("min", "max"):
            raise ValueError(f"CheckpointManager takes mode='min' or mode='max', got {mode!r}")
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._keep_last = keep_last
        self._keep_best = keep_best
        self._metric = metric
        self._sign = 1 if mode == "min" else -1
        self._asynchronous = asynchronous
        self._writer: Any = None
        self._pending: Any = None

    def save(self, step: int, tree: Any, *, metrics: dict[str, Any] | None = None) -> None:
        """Save a tree under a step; a checkpoint of that step is replaced.

        Args:
            step: the number of the step, at least 0.
            tree: any pytree of arrays, random keys and Python scalars.
            metrics: figures to keep with it, by name.

        Raises:
            ValueError: the step is negative, or the metric that decides is not among ``metrics``.
            Exception: whatever went wrong in an earlier save in the background.
        """
        step = int(step)
        if step < 0:
            raise ValueError(f"a checkpoint needs a step of at least 0, got {step}")
        figures = {name: float(value) for name, value in (metrics or {}).items()}
        if self._keep_best and self._metric not in figures:
            raise ValueError(
                f"this CheckpointManager keeps the best by {self._metric!r}, which is not in "
                f"metrics={figures}"
            )
        self.wait()
        token = parts.agreed(tree)
        if token is None and world().rank > 0:
            return
        if not self._asynchronous:
            self._write(step, tree, figures, token)
            return
        if self._writer is None:
            from concurrent.futures import ThreadPoolExecutor

            self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._pending = self._writer.submit(self._write, step, _snapshot(tree), figures, token)

    def restore(self, step: int | None = None, *, like: Any = None) -> Checkpoint | None:
        """Load a checkpoint: the newest one that is whole, unless a step is named.

        Args:
            step: which; None for the newest. Damaged ones are passed over with a warning.
            like: as for `funtorch.load`.

        Returns:
            The checkpoint; None if there is none at all.

        Raises:
            FileNotFoundError: there is none of that step.
            ValueError: the one of that step is damaged; or none is whole.
        """
        self.wait()
        everyone = world()
        everyone.barrier()  # all have written
        there = everyone.bcast_object(self._list())
        if step is not None:
            if step not in there:
                raise FileNotFoundError(
                    f"no checkpoint of step {step} in {self.directory}; there are {there}"
                )
            return self._read(step, like)
        failure: ValueError | None = None
        for candidate in reversed(there):
            found, bad = None, None
            try:
                found = self._read(candidate, like)
            except ValueError as error:
                bad = error
            failure = next(filter(None, everyone.allgather_object(bad)), None)
            if failure is None:
                return found
            warnings.warn(f"passing over a checkpoint: {failure}", stacklevel=2)
        if failure is not None:
            raise ValueError(f"no checkpoint in {self.directory} can be loaded") from failure
        return None

    def steps(self) -> list[int]:
        """List the steps of which there are checkpoints, in order."""
        self.wait()
        return self._list()

    def _list(self) -> list[int]:
        matches = map(_NAME.fullmatch, os.listdir(self.directory))
        return sorted(int(match[1]) for match in matches if match)

    def latest_step(self) -> int | None:
        """Return the newest step; None if there is no checkpoint."""
        self.wait()
        return max(self._list(), default=None)

    def best_step(self) -> int | None:
        """Return the step with the best figure; None if no checkpoint has one."""
        self.wait()
        return next(iter(self._ranked()), None)

    def metrics(self, step: int) -> dict[str, float]:
        """Return the figures that were saved with a checkpoint."""
        self.wait()
        return {name: float.fromhex(x) for name, x in files.read_note(self._path(step)).items()}

    def wait(self) -> None:
        """Wait until everything is on the disk, and raise what went wrong on the way there."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait, and end the thread that writes."""
        try:
            self.wait()
        finally:
            if self._writer is not None:
                self._writer.shutdown()
                self._writer = None

    def __enter__(self) -> CheckpointManager:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def _path(self, step: int) -> Path:
        return self.directory / f"step-{step:012d}.safetensors"

    def _read(self, step: int, like: Any) -> Checkpoint:
        path = self._path(step)
        return Checkpoint(step, files.load(path, like), self.metrics(step))

    def _write(self, step: int, tree: Any, figures: dict[str, float], token: str | None) -> None:
        note = {name: x.hex() for name, x in figures.items()}
        if world().rank > 0:
            files.write(self._path(step), tree, note, token)
            return
        self._clean(token)
        files.write(self._path(step), tree, note, token)
        if self._keep_last is None:
            return
        steps = self._list()
        keep = {step, *steps[-self._keep_last :], *self._ranked()[: self._keep_best]}
        for old in steps:
            if old not in keep:
                self._path(old).unlink(missing_ok=True)
                parts.forget(self._path(old), None)

    def _clean(self, token: str | None) -> None:
        """Delete what a run that was killed has left: files without an end, parts without a whole.

        Args:
            token: of the save that is under way, whose files other processes are writing now.
        """
        steps = set(self._list())
        for file in [*self.directory.glob(".step-*"), *self.directory.glob("step-*.part")]:
            whole = file.suffix == ".part" and int(file.name[5:].partition(".")[0]) in steps
            if not whole and (token is None or f".{token}." not in file.name):
                file.unlink(missing_ok=True)

    def _ranked(self) -> list[int]:
        """List the steps that have a figure, the best first; of equals the newest."""
        if self._metric is None:
            return []
        figures = {}
        for step in self._list():
            try:
                note = files.read_note(self._path(step))
            except ValueError:
                continue  # damaged: not among the best, and `restore` warns about it
            value = float.fromhex(note.get(self._metric, "nan"))
            if value == value:
                figures[step] = self._sign * value
        return sorted(figures, key=lambda step: (figures[step], -step))


def _snapshot(values: Any) -> Any:
    """Copy the arrays of a tree."""

    def copied(x: Any) -> Any:
        if isinstance(x, keys.KeyArray):
            return keys.wrap_key_data(copied(keys.key_data(x)), impl=keys.key_impl(x))
        if isinstance(x, GlobalArray):
            return GlobalArray(x.addressable_data(0).copy(), x.shape, x.sharding)
        if isinstance(x, Array):
            return x.copy()
        return np.array(x) if isinstance(x, np.ndarray) else x

    return tree.map(copied, values)
