"""`rng_bit_generator`: bits from a key of four words, as XLA makes them."""

from __future__ import annotations

import enum
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funtorch import dtypes
from funtorch import numpy as fnp
from funtorch.numpy.promotion import describe, to_array
from funtorch.ops.bits import threefry2x32

__all__ = ["RandomAlgorithm", "rng_bit_generator"]


class RandomAlgorithm(enum.IntEnum):
    """The generators of `rng_bit_generator`."""

    RNG_DEFAULT = 0
    RNG_THREE_FRY = 1
    RNG_PHILOX = 2


_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORD = 0xFFFFFFFF


def _low(x: Any) -> Any:
    return x & np.uint64(_WORD)


def _high(x: Any) -> Any:
    return x >> np.uint64(32)


def _philox(counter: Any, key: Any) -> Any:
    """Encrypt counters of 128 bits, whose upper half is the key: (n, 4) words.

    Lower halves are counted up from the first; where one begins again at 0, the upper one goes on.
    """
    k0, k1 = _low(key), _high(key)
    upper = key + (counter < counter[:1]).astype(np.uint64)
    x0, x1, x2, x3 = _low(counter), _high(counter), _low(upper), _high(upper)
    for _ in range(_ROUNDS):
        p0, p1 = x0 * np.uint64(_MULTIPLIERS[0]), x2 * np.uint64(_MULTIPLIERS[1])
        x0, x1, x2, x3 = _high(p1) ^ x1 ^ k0, _low(p1), _high(p0) ^ x3 ^ k1, _low(p0)
        k0, k1 = _low(k0 + np.uint64(_STEPS[0])), _low(k1 + np.uint64(_STEPS[1]))
    return fnp.stack([x0, x1, x2, x3], 1)


def _threefry(counter: Any, key: Any) -> Any:
    """Encrypt 64-bit counters: (n, 2) words."""
    words = [x.astype(np.uint32) for x in (_low(key), _high(key), _low(counter), _high(counter))]
    k0, k1 = (fnp.broadcast_to(k, words[2].shape) for k in words[:2])
    return fnp.stack(threefry2x32(k0, k1, words[2], words[3]), 1).astype(np.uint64)


def _in_order(words: Any, sizes: tuple[int, ...]) -> Any:
    """Lay out the words of blocks: those of one block follow each other."""
    return words.ravel()[: math.prod(sizes)].reshape(sizes)


def _halves(sizes: tuple[int, ...]) -> int:
    """Return the axis along which the two words of a block follow each other."""
    even = [k for k, n in enumerate(sizes) if n % 2 == 0]
    return even[0] if even else sizes.index(max(sizes))


def _side_by_side(words: Any, sizes: tuple[int, ...]) -> Any:
    """Lay out the two words of blocks along the first even axis, or else the longest one."""
    if not sizes:
        return words[0, 0]
    at = _halves(sizes)
    half = (*sizes[:at], -(-sizes[at] // 2), *sizes[at + 1 :])
    both = fnp.moveaxis(words.reshape(*half, 2), -1, at + 1)
    whole = both.reshape(*half[:at], 2 * half[at], *half[at + 1 :])
    return whole[(*[slice(None)] * at, slice(sizes[at]))]


def _blocks_in_order(sizes: tuple[int, ...]) -> int:
    return -(-math.prod(sizes) // 4)


def _blocks_side_by_side(sizes: tuple[int, ...]) -> int:
    if not sizes:
        return 1
    at = _halves(sizes)
    return math.prod((*sizes[:at], -(-sizes[at] // 2), *sizes[at + 1 :]))


class _Generator(NamedTuple):
    words: int  # that a counter gives
    encrypt: Callable[[Any, Any], Any]
    blocks: Callable[[tuple[int, ...]], int]
    lay_out: Callable[[Any, tuple[int, ...]], Any]


_PHILOX = _Generator(4, _philox, _blocks_in_order, _in_order)
_THREEFRY = _Generator(2, _threefry, _blocks_side_by_side, _side_by_side)
_GENERATORS = {
    RandomAlgorithm.RNG_DEFAULT: _PHILOX,
    RandomAlgorithm.RNG_PHILOX: _PHILOX,
    RandomAlgorithm.RNG_THREE_FRY: _THREEFRY,
}


def rng_bit_generator(
    key: Any,
    shape: Sequence[int],
    dtype: Any = np.uint32,
    algorithm: RandomAlgorithm = RandomAlgorithm.RNG_DEFAULT,
    *,
    out_sharding: None = None,
) -> tuple[Any, Any]:
    """Draw bits; unlike `funtorch.random`, the key holds a counter that moves on.

    Args:
        key: four uint32 words, or two uint64: the key and the counter.
        shape: sizes of the result.
        dtype: uint8, uint16, uint32 or uint64.
        algorithm: Philox (the default) or ThreeFry.
        out_sharding: for compatibility; None.

    Returns:
        the key for the next call, and the bits.

    Raises:
        TypeError: if the key or the dtype is another.

    Example:
        >>> from funtorch import lax
        >>> import funtorch.numpy as fnp
        >>> key, bits = lax.rng_bit_generator(fnp.array([1, 2, 3, 4], "uint32"), (2,))
        >>> key, bits
        (Array([1, 2, 4, 4], dtype=uint32), Array([ 512747620, 1298009047], dtype=uint32))

    References:
        J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as
        1, 2, 3", SC 2011 (Philox-4x32 with 10 rounds, Threefry-2x32 with 20)
    """
    words = to_array(key, "rng_bit_generator", "key")
    kind = (words.shape, words.dtype)
    if kind not in (((4,), np.uint32), ((2,), np.uint64)):
        raise TypeError(
            f"lax.rng_bit_generator: key must be uint32[4] or uint64[2], got {describe(words)}"
        )
    wanted = np.dtype(dtypes.canonical(dtype))
    if wanted.kind != "u":
        raise TypeError(
            f"lax.rng_bit_generator: dtype must be an unsigned integer's, got {wanted.name}"
        )
    sizes = tuple(operator.index(n) for n in shape)
    generator = _GENERATORS[RandomAlgorithm(algorithm)]
    pairs = words.astype(np.uint64)
    if words.dtype == np.uint32:
        pairs = pairs[::2] | (pairs[1::2] << np.uint64(32))
    state, counter = pairs[0], pairs[1]
    wide = wanted.itemsize == 8
    doubled = 2 * math.prod(sizes)
    blocks = -(-doubled // generator.words) if wide else generator.blocks(sizes)
    found = generator.encrypt(counter + fnp.arange(blocks, dtype=np.uint64), state)
    if wide:
        flat = found.ravel()[:doubled]
        bits = (flat[::2] | (flat[1::2] << np.uint64(32))).reshape(sizes)
    else:
        bits = generator.lay_out(found, sizes)
    after = fnp.stack([state, counter + np.uint64(blocks)])
    if words.dtype == np.uint32:
        after = fnp.stack([_low(after), _high(after)], 1).ravel().astype(np.uint32)
    return after, bits.astype(wanted)
