"""The memory that a program's runs on a GPU write to: results, and the arena.

A graph is for fixed addresses, and an allocation takes longer than all else that a call does. So
small results go to one of two sets of arrays, as long as nobody holds what they held before; where
somebody does, as a list of losses, the program writes to a third place, from which it is copied.
What is large, or made anew in any case, comes from CuPy's pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from .driver import Driver

__all__ = ["Rooms", "Taken"]

_SMALL = 1 << 16  # bytes of a result that are kept
_MOST = 1 << 24  # bytes of all of a program's
_ARENA = 1 << 20  # bytes of an arena that is kept


class _Kept:
    """An array, and what tells whether anybody else sees its memory.

    Views hold the array, CuPy's `as_strided` its pointer alone, and others the memory.
    """

    __slots__ = ("address", "array", "alone", "memory", "pointer")

    def __init__(self, array: Any) -> None:
        self.array, self.pointer = array, array.data
        self.memory, self.address = self.pointer.mem, self.pointer.ptr
        self.alone = 0

    def holders(self) -> int:
        """Return how many hold it, in Python's count."""
        return getrefcount(self.array) + getrefcount(self.pointer) + getrefcount(self.memory)


class Taken:
    """Memory for a run.

    Attributes:
        outs: arrays for the results, None where an input's memory is used.
        addresses: where the program writes them.
        places: where they are at last.
        copies: (target, source, bytes, result) to be copied afterwards.
        arena: an array.
        where: the arena's address.
    """

    __slots__ = ("addresses", "arena", "copies", "outs", "places", "where")

    def __init__(self, count: int) -> None:
        self.outs: list[Any] = [None] * count
        self.addresses = self.places = [0] * count
        self.copies: list[tuple[int, int, int, int]] = []
        self.arena: Any = None
        self.where = 0


class _Sets:
    """What is kept for the runs on one stream."""

    def __init__(self, count: int) -> None:
        self.turn = 0
        self.sets: tuple[list[_Kept | None], ...] = ([None] * count, [None] * count)
        self.aside: list[_Kept | None] = [None] * count
        self.arena: Any = None


class Rooms:
    """The memory of one program.

    Args:
        driver: of the GPU.
        types: shapes and dtypes of the results.
        given: positions of the results that use memory of inputs.
        arena: bytes that a run needs besides.
    """

    def __init__(
        self,
        driver: Driver,
        types: Sequence[tuple[tuple[int, ...], np.dtype]],
        given: Sequence[int],
        arena: int,
    ) -> None:
        self.driver, self.types, self.arena = driver, list(types), arena
        self.sizes = [int(np.prod(s, dtype=np.int64)) * d.itemsize for s, d in self.types]
        self.kept: list[int] = []
        total = 0
        for j, size in enumerate(self.sizes):
            if j not in given and size <= _SMALL and total + size <= _MOST:
                total += size
                self.kept.append(j)
        self.fresh = [j for j in range(len(self.types)) if j not in {*given, *self.kept}]
        self.streams: dict[int, _Sets] = {}

    def take(self) -> Taken:
        """Return memory for the next run on the current stream."""
        stream = self.driver.current.ptr
        sets = self.streams.get(stream)
        if sets is None:
            sets = self.streams[stream] = _Sets(len(self.types))
        (own, free), taken = self._freer(sets), Taken(len(self.types))
        outs, addresses = taken.outs, taken.addresses
        for j in self.kept:
            entry = own[j]
            if entry is None:
                entry = own[j] = self._kept(j)
            if free or entry.holders() <= entry.alone:
                outs[j], addresses[j] = entry.array, entry.address
                continue
            outs[j], entry = self._made(j), sets.aside[j]
            if entry is None:
                entry = sets.aside[j] = self._kept(j)
            addresses[j] = entry.address
            taken.copies.append((outs[j].data.ptr, entry.address, self.sizes[j], j))
        for j in self.fresh:
            outs[j] = self._made(j)
            addresses[j] = outs[j].data.ptr
        taken.arena = sets.arena
        if taken.arena is None:
            taken.arena = self.driver.room(self.arena)
            sets.arena = taken.arena if self.arena <= _ARENA else None
        taken.where = taken.arena.data.ptr
        if taken.copies:
            taken.places = list(addresses)
            for target, _, _, j in taken.copies:
                taken.places[j] = target
        return taken

    def _freer(self, sets: _Sets) -> tuple[list[_Kept | None], bool]:
        """Return the set of which less is held, and whether nothing is; then that of the last run
        comes first."""
        counts = []
        for turn in (sets.turn, 1 - sets.turn):
            own = sets.sets[turn]
            held = 0
            for j in self.kept:
                entry = own[j]
                held += entry is not None and entry.holders() > entry.alone
            if not held:
                sets.turn = turn
                return own, True
            counts.append(held)
        sets.turn = sets.turn if counts[0] < counts[1] else 1 - sets.turn
        return sets.sets[sets.turn], False

    def _kept(self, j: int) -> _Kept:
        found = _Kept(self._made(j))
        found.alone = found.holders()  # here nobody else knows of it
        return found

    def _made(self, j: int) -> Any:
        return self.driver.empty(*self.types[j])
