"""Which Fourier transforms have native code, and the factors that they are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch.jaxpr import Eqn, Lit
from funtorch.ops.elementwise import complex, conj, real
from funtorch.ops.families import zeros_like
from funtorch.ops.fft import fft
from funtorch.ops.shape import concatenate, rev
from funtorch.ops.shape import slice as cut

from .plan import Fourier

__all__ = ["of_real", "radices", "transform"]

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


def of_real(eqn: Eqn) -> Callable[..., Any] | None:
    """Return a transform from or to real numbers, written as one of complex numbers."""
    kind, axis, n = (eqn.params[k] for k in ("kind", "axis", "n"))
    if kind not in ("rfft", "irfft") or radices(n) is None:
        return None

    def part(x: Any, start: int, stop: int) -> Any:
        shape, m = x.aval.shape, x.aval.ndim
        lo = tuple(start if k == axis else 0 for k in range(m))
        hi = tuple(stop if k == axis else shape[k] for k in range(m))
        return cut(x, start=lo, limit=hi, stride=(1,) * m)

    def forth(x: Any) -> Any:
        whole = fft(complex(x, zeros_like(x)), kind="fft", axis=axis, n=n)
        return part(whole, 0, n // 2 + 1)

    def back(x: Any) -> Any:
        mirrored = n - (n // 2 + 1)
        if mirrored:
            x = concatenate(x, conj(rev(part(x, 1, 1 + mirrored), axes=(axis,))), axis=axis)
        return real(fft(x, kind="ifft", axis=axis, n=n))

    return forth if kind == "rfft" else back
