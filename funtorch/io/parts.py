"""Arrays that are divided among processes, on disk: each process writes its parts into a file.

Beside ``run.safetensors`` lie ``run.safetensors.TOKEN.K.part``, one of each process K that has
parts nobody before it has. The token is that of one save, so parts of different saves never mix.
The main file comes last, and says where each array's parts begin; so any number of processes can
read it, each what it needs.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes, tree
from funtorch.numpy import promotion
from funtorch.processes import world
from funtorch.sharding import NamedSharding
from funtorch.spread import GlobalArray, own_part

__all__ = [
    "Divided",
    "agreed",
    "describe",
    "forget",
    "own_parts",
    "part_file",
    "placed",
    "wait_for",
]

_PATIENCE = 600.0


def divided(values: Any) -> list[GlobalArray]:
    """Return the arrays of a tree that are divided among processes."""
    return [x for x in tree.leaves(values) if type(x) is GlobalArray]


def agreed(values: Any) -> str | None:
    """Return a token for a save of a tree, the same in all processes, which call this together.

    Args:
        values: the tree.

    Returns:
        Eight letters; None if no array is divided among processes.
    """
    return world().bcast_object(secrets.token_hex(4)) if divided(values) else None


def part_file(path: Path, token: str, rank: int) -> Path:
    """Return the file of one process's parts."""
    return path.with_name(f"{path.name}.{token}.{rank}.part")


def _owners(x: GlobalArray) -> dict[tuple[int, ...], int]:
    """Return which process writes the part that begins at a place: the first that has it."""
    owners: dict[tuple[int, ...], int] = {}
    for device, index in x.sharding.devices_indices_map(x.shape).items():
        owners.setdefault(tuple(s.start or 0 for s in index), device.process_index)
    return owners


def describe(name: str, x: GlobalArray) -> list[Any]:
    """Describe a divided array for the main file: its type, and which process has which part."""
    table = [[rank, list(starts)] for starts, rank in _owners(x).items()]
    return ["divided", name, x.dtype.name, list(x.shape), x.weak_type, table]


def own_parts(arrays: dict[str, GlobalArray]) -> dict[str, Any]:
    """Return the parts that this process writes, by the names of the arrays."""
    rank = world().rank
    return {n: x.addressable_data(0) for n, x in arrays.items() if rank in _owners(x).values()}


def writers(arrays: dict[str, GlobalArray]) -> set[int]:
    """Return the processes that write parts of some arrays."""
    return {rank for x in arrays.values() for rank in _owners(x).values()}


def wait_for(path: Path, token: str, ranks: set[int]) -> None:
    """Wait until other processes have written their parts.

    This looks at the disk, since a thread in the background must not talk to other processes.

    Raises:
        TimeoutError: one has not for ten minutes.
    """
    deadline, pause = time.monotonic() + _PATIENCE, 0.001
    for rank in sorted(ranks):
        while not part_file(path, token, rank).exists():
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"process {rank} has not written its part of {path} within {_PATIENCE:.0f} s: "
                    "all processes must save together, to a folder that all of them see"
                )
            time.sleep(pause)
            pause = min(2 * pause, 0.1)


def forget(path: Path, but: str | None) -> None:
    """Delete the parts of a file, but those of one save."""
    for part in path.parent.glob(f"{path.name}.*.part"):
        if but is None or not part.name.startswith(f"{path.name}.{but}."):
            part.unlink(missing_ok=True)


class Divided:
    """An array in a file whose parts lie in others.

    Args:
        read: ``read(rank)``, the arrays of a process's file by name.
        name, dtype, shape, weak, table: what `describe` gave.

    Raises:
        ValueError: they do not fit each other.
    """

    def __init__(
        self,
        read: Callable[[int], dict[str, np.ndarray]],
        name: str,
        dtype: str,
        shape: Sequence[int],
        weak: bool,
        table: Sequence[Any],
    ) -> None:
        self.name, self.shape = name, tuple(map(int, shape))
        self.dtype, self.weak = np.dtype(dtypes.canonical(dtype)), bool(weak)
        self._read = read
        self._starts = {tuple(map(int, starts)): int(rank) for rank, starts in table}
        if any(len(s) != len(self.shape) for s in self._starts):
            raise ValueError(f"the parts of {name!r} have other axes than {self.shape}")

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Return a region of the array; only the files that have some of it are read."""
        bounds = [s.indices(n)[:2] for s, n in zip(index, self.shape, strict=True)]
        lows, highs = [b[0] for b in bounds], [b[1] for b in bounds]
        out = np.empty([max(0, h - lo) for lo, h in bounds], self.dtype)
        count = 0
        sizes = self._part_shape()
        for starts, rank in self._starts.items():
            ends = [s + n for s, n in zip(starts, sizes, strict=True)]
            low = list(map(max, starts, lows))
            high = list(map(min, ends, highs))
            if any(a >= b for a, b in zip(low, high, strict=True)):
                continue
            part = self._read(rank).get(self.name)
            if part is None or part.shape != sizes or part.dtype != self.dtype:
                raise ValueError(f"the parts of process {rank} do not have {self.name!r}")
            into = tuple(slice(a - b, c - b) for a, b, c in zip(low, lows, high, strict=True))
            what = tuple(slice(a - b, c - b) for a, b, c in zip(low, starts, high, strict=True))
            out[into] = part[what]
            count += out[into].size
        if count != out.size:
            raise ValueError(f"parts of {self.name!r} are missing")
        return out

    def _part_shape(self) -> tuple[int, ...]:
        """Return the shape of the parts, which are equal: as many as begin at different places."""
        counts = [len(set(column)) for column in zip(*self._starts, strict=True)]
        if any(n % c for n, c in zip(self.shape, counts, strict=True)):
            raise ValueError(f"{counts} parts do not make {self.name!r} of shape {self.shape}")
        return tuple(n // c for n, c in zip(self.shape, counts, strict=True))

    def whole(self) -> Any:
        """Return all of the array."""
        return self.typed(self[(slice(None),) * len(self.shape)])

    def typed(self, data: np.ndarray) -> Any:
        """Return some of the array as an Array."""
        return promotion.convert(fnp.asarray(data), data.dtype, self.weak)


def placed(x: Any, like: Any) -> Any:
    """Return an array where a tree to fill has it: whole, or this process's part of it.

    Args:
        x: an Array, or a `Divided` one that has not been read.
        like: the array in the tree.
    """
    sharding = getattr(like, "sharding", None)
    spread = isinstance(sharding, NamedSharding) and sharding.mesh.is_multi_process
    if not spread or sharding.is_fully_replicated:
        return x.whole() if isinstance(x, Divided) else x
    if not isinstance(x, Divided):
        return GlobalArray(fnp.asarray(own_part(x, sharding)), x.shape, sharding)
    (device,) = sharding.mesh.local_devices
    local = x.typed(x[sharding.index_of(device, x.shape)])
    return GlobalArray(local, x.shape, sharding)
