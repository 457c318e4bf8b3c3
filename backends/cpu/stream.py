"""Stores past the caches, for results that are too large to stay in them.

An ordinary store to a cache line that is not in the caches reads it first; a nontemporal one does
not, and leaves what is there alone. It writes whole, aligned lines only, so a few lines of elements
go to memory of a kernel's own first, and from there on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..kernel import Kernel, Store

__all__ = ["LINE", "PIECE", "STREAM", "streamed"]

STREAM = 1 << 25  # bytes from which what a kernel reads and writes does not stay in the caches
LINE = 64  # bytes
PIECE = 64  # elements that go on together
_SHORT = 512  # bytes of a run that is worth looking where its lines begin


def _traffic(kernel: Kernel) -> int:
    """Estimate the bytes that a kernel reads and writes."""
    places = [(op.attr, op.where) for op in kernel.body if op.name == "load"]
    places += [(s.buffer, s.where) for s in kernel.stores]
    sizes: dict[int, int] = {}
    for buffer, where in places:
        wide = [n for n, s in zip(kernel.sizes, where.strides, strict=True) if s]
        size = int(math.prod(wide)) * kernel.buffers[buffer].itemsize
        sizes[buffer] = max(size, sizes.get(buffer, 0))
    return sum(sizes.values())


def streamed(kernel: Kernel, axis: int) -> Sequence[Store]:
    """Return the stores that go past the caches where an axis is run through innermost.

    What works in place does not: its lines have just been read.
    """
    if _traffic(kernel) < STREAM:
        return ()
    read = {op.attr for op in kernel.body if op.name == "load"}
    return [s for s in kernel.stores if s.buffer not in read and _is_run(kernel, s, axis)]


def _is_run(kernel: Kernel, s: Store, axis: int) -> bool:
    """Tell whether a store fills a long run of memory along an axis."""
    plain = s.how == "set" and s.mask is None and not s.where.dynamic
    run = int(kernel.sizes[axis]) * kernel.buffers[s.buffer].itemsize
    return plain and s.where.strides[axis] == 1 and run >= _SHORT
