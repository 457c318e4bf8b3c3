"""The generator of random bits, under the names of jax.extend.random. There is one."""

from __future__ import annotations

from typing import Any

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.numpy.promotion import asarray
from funtorch.ops.bits import threefry2x32, threefry2x32_p
from funtorch.random import key

__all__ = ["random_seed", "seed_with_impl", "threefry2x32_p", "threefry_2x32", "threefry_prng_impl"]

threefry_prng_impl = "threefry2x32"


def seed_with_impl(impl: Any, seed: Any) -> Any:
    """Make a random key of a generator, `threefry_prng_impl`, from an integer."""
    return key(seed, impl=impl)


def random_seed(seeds: Any, impl: Any) -> Any:
    """Make a random key of a generator from an integer."""
    return key(seeds, impl=impl)


def threefry_2x32(keypair: Any, count: Any) -> Any:
    """Encrypt counters, in two halves, with the two words of a key.

    Args:
        keypair: uint32[2], or two uint32 numbers.
        count: uint32 array.

    Returns:
        uint32 array of the shape of ``count``.

    Example:
        >>> import funtorch.numpy as jnp
        >>> threefry_2x32(jnp.uint32([0, 1]), jnp.arange(3, dtype="uint32"))
        Array([2441914641, 1110694964, 3819641963], dtype=uint32)
    """
    count = asarray(count)
    if count.dtype != dtypes.uint32:
        raise TypeError(f"threefry_2x32: count must be uint32, got {count.dtype.name}")
    flat = count.ravel()
    x0, x1 = fnp.split(fnp.pad(flat, (0, flat.size % 2)), 2)
    k0, k1 = [fnp.broadcast_to(asarray(k), x0.shape) for k in keypair]
    return fnp.concatenate(threefry2x32(k0, k1, x0, x1))[: flat.size].reshape(count.shape)
