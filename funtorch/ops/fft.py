"""`fft`: discrete Fourier transforms along one axis.

    fft(x; kind, axis, n)

| kind    | argument               | result                 | sum                                 |
|---------|------------------------|------------------------|-------------------------------------|
| `fft`   | complex, size n        | complex, size n        | Σ_j x_j exp(-2πi jk / n)            |
| `ifft`  | complex, size n        | complex, size n        | Σ_j x_j exp(+2πi jk / n) / n        |
| `rfft`  | real, size n           | complex, size n//2 + 1 | the first half of `fft`             |
| `irfft` | complex, size n//2 + 1 | real, size n           | `ifft` of x and its mirrored conj x |

References:
    J. W. Cooley, J. W. Tukey, "An algorithm for the machine calculation of complex Fourier series",
    1965.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl, ShapedArray
from funtorch.ops.elementwise import complex, conj, mul
from funtorch.ops.families import broadcast_in_dim, linear, zeros_like

__all__ = ["fft", "fft_p"]

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
