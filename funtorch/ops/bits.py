"""`threefry2x32`: the counter-based generator behind `funtorch.random`.

    threefry2x32(k0, k1, x0, x1) -> (y0, y1)

encrypts the counters (x0, x1) with the key (k0, k1), element by element: four uint32 arrays of
equal shape in, two out. Equal keys and counters give equal bits on every machine and backend.

References:
    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as
    1, 2, 3", SC 2011 (Threefry-2x32 with 20 rounds; rotations and parity constant of Random123).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Primitive, ShapedArray
from funtorch.ops.families import NO_TRANSPOSE, elementwise_batch

__all__ = ["PARITY", "ROTATIONS", "threefry2x32", "threefry2x32_p"]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
_FEW = 1 << 7
_CHUNK = 1 << 14  # elements worked on at a time: three arrays of it stay in the nearest caches


def _type(*avals: ShapedArray) -> list[ShapedArray]:
    first = avals[0]
    if len(avals) != 4 or any(a.shape != first.shape or a.dtype != dtypes.uint32 for a in avals):
        raise TypeError(
            "threefry2x32 takes four uint32 arrays of equal shape (key, key, counter, "
            f"counter), got {', '.join(a.str_short() for a in avals)}"
        )
    return [ShapedArray(first.shape, dtypes.uint32)] * 2


def _eager(xp: Any, k0: Any, k1: Any, x0: Any, x1: Any) -> tuple[Any, Any]:
    shape = x0.shape
    keys = [_flat(xp, k0), _flat(xp, k1)]
    if xp is np and 0 < x0.size <= _FEW:
        return _encrypted_few(keys, x0, x1)
    y0, y1 = xp.array(x0).reshape(-1), xp.array(x1).reshape(-1)  # copies, overwritten below
    for start in range(0, y0.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        _encrypt(xp, [k if k.size == 1 else k[part] for k in keys], y0[part], y1[part])
    return y0.reshape(shape), y1.reshape(shape)


def _flat(xp: Any, key: Any) -> Any:
    """Return the key as a vector, of one element where it is a broadcast scalar."""
    if key.size and not any(key.strides):
        return key[(slice(0, 1),) * key.ndim].reshape(1)
    return xp.ascontiguousarray(key).reshape(-1)


def _encrypt(xp: Any, keys: Sequence[Any], y0: Any, y1: Any) -> None:
    """Encrypt the vectors y0 and y1 in place."""
    schedule = [*keys, keys[0] ^ keys[1] ^ xp.uint32(PARITY)]
    high = xp.empty_like(y0)
    y0 += schedule[0]
    y1 += schedule[1]
    for step in range(5):
        for r in ROTATIONS[step % 2]:
            y0 += y1
            xp.right_shift(y1, 32 - r, out=high)
            xp.left_shift(y1, r, out=y1)
            y1 |= high
            y1 ^= y0
        y0 += schedule[(step + 1) % 3]
        y1 += schedule[(step + 2) % 3] + xp.uint32(step + 1)


def _encrypted_few(keys: Sequence[Any], x0: Any, x1: Any) -> tuple[Any, Any]:
    """Return few counters encrypted, in Python's integers: 150 operations on arrays take longer.

    One integer holds all elements, each in 64 bits, so that nothing runs from one into the next.
    """
    size = x0.size
    ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * size, "little")
    words = ones * 0xFFFF_FFFF
    k0, k1 = (_lanes(k) * ones if k.size == 1 else _lanes(k) for k in keys)
    schedule = (k0, k1, k0 ^ k1 ^ PARITY * ones)
    y0, y1 = _lanes(x0) + k0 & words, _lanes(x1) + k1 & words
    for step in range(5):
        for r in ROTATIONS[step % 2]:
            y0 = y0 + y1 & words
            y1 <<= r
            y1 = (y1 | y1 >> 32) & words ^ y0
        y0 = y0 + schedule[(step + 1) % 3] & words
        y1 = y1 + schedule[(step + 2) % 3] + (step + 1) * ones & words
    return _unpacked(y0, x0.shape), _unpacked(y1, x0.shape)


def _lanes(x: Any) -> int:
    return int.from_bytes(x.astype("<u8").tobytes(), "little")


def _unpacked(y: int, shape: tuple[int, ...]) -> np.ndarray:
    size = 8 * math.prod(shape)
    return np.frombuffer(y.to_bytes(size, "little"), "<u8").astype(dtypes.uint32).reshape(shape)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[None]]:
    return threefry2x32(*primals), [None, None]


threefry2x32_p = Primitive("threefry2x32", multiple_results=True)
threefry2x32_p.type, threefry2x32_p.eager, threefry2x32_p.jvp = _type, _eager, _jvp
threefry2x32_p.batch = elementwise_batch(threefry2x32_p)
threefry2x32_p.none["transpose"] = NO_TRANSPOSE
threefry2x32 = threefry2x32_p.bind
