"""`threefry2x32`, the cipher behind random numbers, element by element."""

from __future__ import annotations

from funtorch.ops.bits import PARITY, ROTATIONS

from .values import Value

__all__ = ["threefry2x32"]


def threefry2x32(k0: Value, k1: Value, x0: Value, x1: Value, *, result: int) -> Value:
    """Return one of the two words that the counters (x0, x1) are encrypted to."""
    schedule = (k0, k1, k0 ^ k1 ^ PARITY)
    y0, y1 = x0 + k0, x1 + k1
    for step in range(5):
        for r in ROTATIONS[step % 2]:
            y0 = y0 + y1
            y1 = y1.call("llvm.fshl", y1, r) ^ y0
        y0 = y0 + schedule[(step + 1) % 3]
        y1 = y1 + (schedule[(step + 2) % 3] + (step + 1))
    return (y0, y1)[result]
