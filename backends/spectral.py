"""Which Fourier transforms have native code, and how the others are written in terms of these.

A size whose prime factors are small is transformed factor by factor. Any other n is a convolution
with a chirp (Bluestein), done by transforms of a larger size that has small factors: with
jk = (j² + k² - (k - j)²) / 2,

    sum_j x_j exp(-2πi jk / n) = c_k sum_j (x_j c_j) conj(c_(k - j)),    c_k = exp(-πi k² / n).

Transforms from and to an even number of reals are of half the size: even and odd elements are real
and imaginary parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch.jaxpr import Eqn, Lit
from funtorch.ops.elementwise import (
    add,
    bitwise_or,
    complex,
    conj,
    eq,
    imag,
    mul,
    real,
    select,
    sub,
)
from funtorch.ops.families import broadcast_in_dim, full_like, scalar, zeros_like
from funtorch.ops.fft import fft, fft_table
from funtorch.ops.shape import concatenate, iota, pad, reshape, rev
from funtorch.ops.shape import slice as cut

from .plan import Fourier, Table

__all__ = ["by_convolution", "radices", "table", "transform"]

_COMPLEX = (np.dtype(np.complex64), np.dtype(np.complex128))
_PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31)  # factors beside 2 whose transforms are written out
_ODD = (1, 3, 5, 9, 15)  # odd factors of the sizes that convolutions are done in


def radices(n: int) -> tuple[int, ...] | None:
    """Return factors of a size, powers of two first; None if it has a prime factor above 31.

    Three twos go together; where one is left over, two pairs do better than eight and two.
    """
    twos = (n & -n).bit_length() - 1
    rest = n >> twos
    eights, left = divmod(twos, 3)
    if left == 1 and eights:
        found = [8] * (eights - 1) + [4, 4]
    else:
        found = [8] * eights + [1 << left] * (left > 0)
    for prime in _PRIMES:
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


def table(eqn: Eqn) -> Table:
    """Return the step of an fft_table."""
    return Table(eqn.outvars[0], eqn.params["what"], eqn.params["n"])


def _length(n: int) -> int:
    """Return a size with small factors, and many of two, that a convolution of n has room in."""
    turns = {odd: -(-(2 * n - 1) // odd) for odd in _ODD}
    return min(odd << max(4, (count - 1).bit_length()) for odd, count in turns.items())


def _part(x: Any, axis: int, start: int, stop: int, stride: int = 1) -> Any:
    shape, m = x.aval.shape, x.aval.ndim
    lo = tuple(start if k == axis else 0 for k in range(m))
    hi = tuple(stop if k == axis else shape[k] for k in range(m))
    return cut(x, start=lo, limit=hi, stride=tuple(stride if k == axis else 1 for k in range(m)))


def _along(v: Any, like: Any, axis: int) -> Any:
    return broadcast_in_dim(v, shape=like.aval.shape, dims=(axis,))


def _convolved(x: Any, axis: int, n: int) -> Any:
    """Return the transform of any size."""
    m, dtype, ndim = _length(n), x.dtype, x.aval.ndim
    chirp = _along(fft_table(what="chirp", n=n, size=n, dtype=dtype), x, axis)
    none, hi = (0,) * ndim, tuple(m - n if k == axis else 0 for k in range(ndim))
    y = pad(mul(x, chirp), scalar(0, dtype), lo=none, hi=hi, interior=none)
    y = fft(y, kind="fft", axis=axis, n=m)
    y = conj(mul(y, _along(fft_table(what="filter", n=n, size=m, dtype=dtype), y, axis)))
    y = fft(y, kind="fft", axis=axis, n=m)  # the conjugate of a transform back
    return mul(_times(conj(_part(y, axis, 0, n)), 1 / m), chirp)


def _of_complex(x: Any, axis: int, n: int, inverse: bool) -> Any:
    if n == 1:
        return x
    if not inverse:
        return _convolved(x, axis, n)
    return _times(conj(_convolved(conj(x), axis, n)), 1 / n)


def _times(x: Any, factor: Any) -> Any:
    return mul(x, broadcast_in_dim(scalar(factor, x.dtype), shape=x.aval.shape, dims=()))


def _roots(like: Any, axis: int, n: int) -> Any:
    size = like.aval.shape[axis]
    return _along(fft_table(what="roots", n=n, size=size, dtype=like.dtype), like, axis)


def _of_real(x: Any, axis: int, n: int) -> Any:
    if n % 2:
        whole = fft(complex(x, zeros_like(x)), kind="fft", axis=axis, n=n)
        return _part(whole, axis, 0, n // 2 + 1)
    # The transforms of even and odd elements are told apart by the mirror images of their parts.
    both = complex(_part(x, axis, 0, n, 2), _part(x, axis, 1, n, 2))
    both = fft(both, kind="fft", axis=axis, n=n // 2)
    first = _part(both, axis, 0, 1)
    ends = [
        complex(f(real(first), imag(first)), zeros_like(real(first)))  # what has no counterpart
        for f in (add, sub)
    ]
    if n == 2:
        return concatenate(*ends, axis=axis)
    inside = _part(both, axis, 1, n // 2)
    mirrored = rev(inside, axes=(axis,))
    re, im, mirrored_re, mirrored_im = (f(z) for z in (inside, mirrored) for f in (real, imag))
    even = add(re, mirrored_re), sub(im, mirrored_im)
    odd = add(im, mirrored_im), sub(mirrored_re, re)
    roots = fft_table(what="roots", n=n, size=n // 2, dtype=both.dtype)
    roots = _along(_part(roots, 0, 1, n // 2), inside, axis)
    cos, sin = real(roots), imag(roots)
    inside = complex(
        _times(add(even[0], sub(mul(odd[0], cos), mul(odd[1], sin))), 0.5),
        _times(add(even[1], add(mul(odd[0], sin), mul(odd[1], cos))), 0.5),
    )
    return concatenate(ends[0], inside, ends[1], axis=axis)


def _to_real(x: Any, axis: int, n: int) -> Any:
    if n % 2:
        mirror = conj(rev(_part(x, axis, 1, n // 2 + 1), axes=(axis,)))
        return real(fft(concatenate(x, mirror, axis=axis), kind="ifft", axis=axis, n=n))
    half, shape = n // 2, x.aval.shape
    place = iota(shape=shape, axis=axis, dtype=np.dtype("int32" if n < 1 << 31 else "int64"))
    edge = bitwise_or(eq(place, full_like(place, 0)), eq(place, full_like(place, half)))
    re = real(x)
    x = complex(re, select(edge, zeros_like(re), imag(x)))  # what has no counterpart is real
    mirrored = _part(conj(rev(x, axes=(axis,))), axis, 0, half)
    x = _part(x, axis, 0, half)
    even, odd = add(x, mirrored), mul(sub(x, mirrored), conj(_roots(x, axis, n)))
    both = _times(add(even, _times(odd, 1j)), 0.5)
    both = fft(both, kind="ifft", axis=axis, n=half)
    parts = [
        reshape(y, shape=(*shape[:axis], half, 1, *shape[axis + 1 :]))
        for y in (real(both), imag(both))
    ]
    return reshape(concatenate(*parts, axis=axis + 1), shape=(*shape[:axis], n, *shape[axis + 1 :]))


def by_convolution(eqn: Eqn) -> Callable[..., Any] | None:
    """Return a transform written in those that have native code."""
    kind, axis, n = (eqn.params[k] for k in ("kind", "axis", "n"))
    if kind == "rfft":
        return lambda x: _of_real(x, axis, n)
    if kind == "irfft":
        return lambda x: _to_real(x, axis, n)
    if radices(n) is not None:
        return None
    return lambda x: _of_complex(x, axis, n, kind == "ifft")
