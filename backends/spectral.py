"""Which Fourier transforms have native code, and the factors that they are made of."""

from __future__ import annotations

import math

import numpy as np

from funtorch.jaxpr import Eqn, Lit

from .plan import Fourier

__all__ = ["radices", "transform"]

_COMPLEX = (np.dtype(np.complex64), np.dtype(np.complex128))


def radices(n: int) -> tuple[int, ...] | None:
    """Return factors of a size, powers of two first; None if it has a prime factor above 5.

    Three twos go together; where one is left over, two pairs do better than eight and two.
    """
    twos = (n & -n).bit_length() - 1
    rest = n >> twos
    eights, left = divmod(twos, 3)
    if left == 1 and eights:
        found = [8] * (eights - 1) + [4, 4]
    else:
        found = [8] * eights + [1 << left] * (left > 0)
    for prime in (3, 5):
        while rest % prime == 0:
            found.append(prime)
            rest //= prime
    return tuple(found) if rest == 1 and found else None


def transform(eqn: Eqn) -> Fourier | None:
    """Return the step of an fft of complex numbers, or None where it must run its eager rule."""
    (x,), (out,), p = eqn.invars, eqn.outvars, eqn.params
    factors = radices(p["n"])
    if p["kind"] not in ("fft", "ifft") or factors is None or isinstance(x, Lit):
        return None
    if x.aval.dtype not in _COMPLEX or x.aval.size == 0:
        return None
    shape, axis = x.aval.shape, p["axis"]
    batch, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    return Fourier(x, out, batch, p["n"], inner, factors, p["kind"] == "ifft")
