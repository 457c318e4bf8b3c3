"""Memory for results: large buffers are used again once nobody holds them.

Touching fresh memory for the first time costs more than most elementwise programs, so large results
live in buffers that the pool remembers. A NumPy view's ``base`` is the array that owns the memory,
so the owner's reference count tells exactly whether anybody can still see it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence

import numpy as np

__all__ = ["ALIGN", "LARGE", "Pool", "pool"]

LARGE = 1 << 20  # bytes from which memory is worth remembering
ALIGN = 64  # bytes of a cache line


class Pool:
    """Buffers by size in bytes, at most ``limit`` bytes altogether."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self.held = 0
        self.lock = threading.Lock()
        self.by_size: dict[int, list[np.ndarray]] = {}

    def empty(self, shape: Sequence[int], dtype: np.dtype, nbytes: int) -> np.ndarray:
        """Return an uninitialised contiguous array."""
        if nbytes < LARGE:
            return np.empty(shape, dtype)
        return np.ndarray(shape, dtype, buffer=self.block(nbytes))

    def block(self, nbytes: int) -> np.ndarray:
        """Return bytes that nobody else uses and that begin a cache line."""
        owner = self.owner(nbytes + ALIGN)
        first = -owner.ctypes.data % ALIGN
        return owner[first : first + nbytes]

    def owner(self, nbytes: int) -> np.ndarray:
        """Return a byte array that nobody else uses."""
        with self.lock:
            known = self.by_size.setdefault(nbytes, [])
            for k in range(len(known)):
                # One reference is the list's, one the argument's.
                if sys.getrefcount(known[k]) == 2:
                    return known[k]
            fresh = np.empty(nbytes, np.uint8)
            if self.held + nbytes > self.limit:
                self._drop_unused()
            if self.held + nbytes <= self.limit:
                self.by_size.setdefault(nbytes, []).append(fresh)
                self.held += nbytes
            return fresh

    def _drop_unused(self) -> None:
        for size in list(self.by_size):
            known = self.by_size[size]
            kept = [known[k] for k in range(len(known)) if sys.getrefcount(known[k]) > 2]
            self.held -= size * (len(known) - len(kept))
            self.by_size[size] = kept

    def clear(self) -> None:
        """Forget every buffer; those in use live on with their users."""
        with self.lock:
            self.by_size.clear()
            self.held = 0


pool = Pool()
