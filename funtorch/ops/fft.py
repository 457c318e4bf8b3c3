"""`fft`: discrete Fourier transforms along one axis; `fft_table`: the constants they are made of.

    fft(x; kind, axis, n)

| kind    | argument               | result                 | sum                                 |
|---------|------------------------|------------------------|-------------------------------------|
| `fft`   | complex, size n        | complex, size n        | Σ_j x_j exp(-2πi jk / n)            |
| `ifft`  | complex, size n        | complex, size n        | Σ_j x_j exp(+2πi jk / n) / n        |
| `rfft`  | real, size n           | complex, size n//2 + 1 | the first half of `fft`             |
| `irfft` | complex, size n//2 + 1 | real, size n           | `ifft` of x and its mirrored conj x |

    fft_table(; what, n, size, dtype) -> complex vector

| what     | element k                                                                           |
|----------|-------------------------------------------------------------------------------------|
| `roots`  | exp(-2πi k / n)                                                                     |
| `chirp`  | exp(-πi k² / n)                                                                     |
| `filter` | transform, of size `size`, of exp(πi j² / n), -n < j < n, negative j at the end  |

References:
    L. I. Bluestein, "A linear filtering approach to the computation of discrete Fourier transform",
    1970.
    J. W. Cooley, J. W. Tukey, "An algorithm for the machine calculation of complex Fourier series",
    1965.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl, Primitive, ShapedArray
from funtorch.ops.elementwise import complex, conj, mul
from funtorch.ops.families import NO_TRANSPOSE, broadcast_in_dim, linear, zeros_like

__all__ = ["fft", "fft_p", "fft_table", "fft_table_p", "unit_roots"]

KINDS = {
    "fft": (dtypes.is_complex, "complex"),
    "ifft": (dtypes.is_complex, "complex"),
    "rfft": (dtypes.is_float, "real"),
    "irfft": (dtypes.is_complex, "complex"),
}
"""The dtypes each kind takes."""

WIDE = (dtypes.float32, dtypes.float64, dtypes.complex64, dtypes.complex128)


def _type(x: ShapedArray, *, kind: str, axis: int, n: int) -> ShapedArray:
    if kind not in KINDS:
        raise TypeError(f"fft: kind {kind!r} is none of {', '.join(KINDS)}")
    takes, what = KINDS[kind]
    if not takes(x.dtype) or x.dtype not in WIDE:
        raise TypeError(f"fft: {kind} takes {what} arrays of 32 or 64 bits, got {x.str_short()}")
    if not 0 <= axis < x.ndim:
        raise TypeError(f"fft: {x.str_short()} has no axis {axis}")
    wanted = n // 2 + 1 if kind == "irfft" else n
    if n < 1 or x.shape[axis] != wanted:
        raise TypeError(
            f"fft: {kind} of n = {n} takes {wanted} elements along axis {axis}, got "
            f"{x.str_short()}; n must be at least 1"
        )
    size = n // 2 + 1 if kind == "rfft" else n
    convert = {"rfft": dtypes.complex_dtype, "irfft": dtypes.real_dtype}.get(kind, lambda d: d)
    return ShapedArray((*x.shape[:axis], size, *x.shape[axis + 1 :]), convert(x.dtype))


def _eager(xp: Any, x: Any, *, kind: str, axis: int, n: int) -> Any:
    return getattr(xp.fft, kind)(x, n, axis)


def _weights(like: Any, axis: int, n: int, ends: float, inner: float) -> Any:
    """Return the frequencies' weights: those that are their own mirror image count once."""
    size = n // 2 + 1
    values = np.full(size, inner, dtypes.real_dtype(like.dtype))
    values[0] = ends
    if n % 2 == 0:
        values[-1] = ends
    out = broadcast_in_dim(ArrayImpl(values), shape=like.shape, dims=(axis,))
    return complex(out, zeros_like(out))


def _transpose(ct: Any, x: Any, *, kind: str, axis: int, n: int) -> tuple[Any]:
    if kind in ("fft", "ifft"):  # the matrix is symmetric
        return (fft(ct, kind=kind, axis=axis, n=n),)
    if kind == "rfft":
        # Σ_k Re(ct_k exp(-2πi jk/n)) over half the frequencies, which irfft would count twice.
        half = mul(conj(ct), _weights(ct, axis, n, n, n / 2))
        return (fft(half, kind="irfft", axis=axis, n=n),)
    out = conj(fft(ct, kind="rfft", axis=axis, n=n))
    return (mul(out, _weights(out, axis, n, 1 / n, 2 / n)),)


def _batch(
    axis_data: Any, args: Any, batched: Any, *, kind: str, axis: int, n: int
) -> tuple[Any, bool]:
    return fft(args[0], kind=kind, axis=axis + 1, n=n), True


fft_p = linear(
    "fft", type=_type, eager=_eager, transpose=_transpose, batch=_batch, keeps_weak=False
)
fft = fft_p.bind


# ---------------------------------------------------------------------- tables
def unit_roots(power: np.ndarray, n: int) -> np.ndarray:
    """Return exp(-2πi power / n) for 0 <= power < n, from angles up to an eighth of a turn."""
    eighth, rest = np.divmod(8 * power, n)
    angle = np.where(eighth % 2, n - rest, rest) * (np.pi / 4 / n)
    c, s = np.cos(angle), np.sin(angle)
    swapped = np.isin(eighth, (1, 2, 5, 6))
    re, im = np.where(swapped, s, c), np.where(swapped, c, s)
    re = np.where(np.isin(eighth, (2, 3, 4, 5)), -re, re)
    return re - 1j * np.where(eighth >= 4, -im, im)


def _chirp(n: int, size: int) -> np.ndarray:
    k = np.arange(size, dtype=np.int64)
    return unit_roots(k * k % (2 * n), 2 * n)


def _filter(n: int, size: int) -> np.ndarray:
    wave, found = _chirp(n, n).conj(), np.zeros(size, np.complex128)
    found[:n], found[size - n + 1 :] = wave, wave[:0:-1]
    return np.fft.fft(found)


TABLES = {
    "roots": lambda n, size: unit_roots(np.arange(size, dtype=np.int64) % n, n),
    "chirp": _chirp,
    "filter": _filter,
}
"""What makes the vectors of `fft_table` in double precision."""


def _table_type(*, what: str, n: int, size: int, dtype: np.dtype) -> ShapedArray:
    if what not in TABLES or n < 1 or size < (2 * n - 1 if what == "filter" else 0):
        raise TypeError(f"fft_table: there is no {what!r} of {size} elements for n = {n}")
    return ShapedArray((size,), dtype)


def _table_eager(xp: Any, *, what: str, n: int, size: int, dtype: np.dtype) -> Any:
    return xp.asarray(TABLES[what](n, size).astype(dtype))


fft_table_p = Primitive("fft_table")
fft_table_p.type, fft_table_p.eager = _table_type, _table_eager
fft_table_p.none.update(jvp="it has no arguments", batch="it has no arguments")
fft_table_p.none["transpose"] = NO_TRANSPOSE
fft_table = fft_table_p.bind
