"""Convolution and correlation of signals under SciPy's names.

References:
    scipy.signal, https://docs.scipy.org/doc/scipy/reference/signal.html
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.numpy import promotion
from funtorch.ops.conv import conv_general_dilated
from funtorch.scipy.spectral import csd, istft, stft, welch

__all__ = [
    "convolve",
    "convolve2d",
    "correlate",
    "correlate2d",
    "csd",
    "detrend",
    "fftconvolve",
    "istft",
    "stft",
    "welch",
]


# ------------------------------------------------------------------------------------- convolution
def _pair(name: str, in1: Any, in2: Any, rank: int | None = None) -> list[Any]:
    x, y = promotion.promote_inexact(name, *promotion.to_arrays(name, in1=in1, in2=in2))
    if x.ndim != y.ndim or (rank is not None and x.ndim != rank):
        wanted = "as many axes each" if rank is None else f"{rank} axes each"
        raise ValueError(
            f"{name}: in1 and in2 must have {wanted}, got {promotion.describe(x)} and "
            f"{promotion.describe(y)}"
        )
    if not x.size or not y.size:
        raise ValueError(
            f"{name}: in1 and in2 must have elements, got {promotion.describe(x)} and "
            f"{promotion.describe(y)}"
        )
    return [x, y]


def _check(name: str, argument: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        names = ", ".join(map(repr, allowed))
        raise ValueError(f"{name}: {argument} must be one of {names}, got {value!r}")


_MODES = ("full", "same", "valid")


def _valid_order(name: str, x: Any, y: Any) -> tuple[Any, Any]:
    """Return the larger array first; one must be as large as the other in every axis."""
    if all(n >= m for n, m in zip(x.shape, y.shape, strict=True)):
        return x, y
    if all(n <= m for n, m in zip(x.shape, y.shape, strict=True)):
        return y, x
    raise ValueError(
        f"{name}: for mode 'valid' one array must be as large as the other in every axis, got "
        f"{promotion.describe(x)} and {promotion.describe(y)}"
    )


def _direct(name: str, x: Any, y: Any, mode: str) -> Any:
    """Convolve by sums of products."""
    if x.ndim == 0:
        return x * y
    if mode == "valid":
        x, y = _valid_order(name, x, y)
    margins = {
        "full": lambda m: (m - 1, m - 1),
        "same": lambda m: (m // 2, m - 1 - m // 2),
        "valid": lambda m: (0, 0),
    }[mode]
    ones = (1,) * x.ndim
    out = conv_general_dilated(
        x[None, None],
        fnp.flip(y)[None, None],
        strides=ones,
        padding=tuple(map(margins, y.shape)),
        lhs_dilation=ones,
        rhs_dilation=ones,
        groups=1,
        out_dtype=None,
    )
    return out[0, 0]


def _centered(x: Any, shape: Sequence[int], late: bool = False) -> Any:
    starts = [(have - n + late) // 2 for have, n in zip(x.shape, shape, strict=True)]
    return x[tuple(slice(k, k + n) for k, n in zip(starts, shape, strict=True))]


def fftconvolve(
    in1: Any, in2: Any, mode: str = "full", axes: Sequence[int] | int | None = None
) -> Any:
    """Convolve by Fourier transforms.

    Args:
        in1, in2: arrays of as many axes.
        mode: 'full', 'same' (of the size of in1) or 'valid'.
        axes: axes to convolve along, None for all; the other ones broadcast.

    Example:
        >>> fftconvolve(fnp.asarray([1.0, 2.0]), fnp.asarray([1.0, 1.0])).round(3).tolist()
        [1.0, 3.0, 2.0]

    References:
        scipy.signal.fftconvolve
    """
    _check("fftconvolve", "mode", mode, _MODES)
    x, y = _pair("fftconvolve", in1, in2)
    along = promotion.canonical_axes(axes, x.ndim, "fftconvolve")
    if mode == "valid":
        x, y = _valid_order("fftconvolve", x, y)
    other = [k for k in range(x.ndim) if k not in along]
    if any(x.shape[k] != y.shape[k] and 1 not in (x.shape[k], y.shape[k]) for k in other):
        raise ValueError(
            f"fftconvolve: shapes {x.shape} and {y.shape} do not broadcast on the axes other than "
            f"{along}"
        )
    if not along:
        return x * y
    sizes = [x.shape[k] + y.shape[k] - 1 for k in along]
    if dtypes.is_complex(x.dtype):
        product = fnp.fft.fftn(x, sizes, along) * fnp.fft.fftn(y, sizes, along)
        full = fnp.fft.ifftn(product, sizes, along)
    else:
        product = fnp.fft.rfftn(x, sizes, along) * fnp.fft.rfftn(y, sizes, along)
        full = fnp.fft.irfftn(product, sizes, along)
    if mode == "full":
        return full
    shape = list(full.shape)
    for k in along:
        shape[k] = x.shape[k] if mode == "same" else x.shape[k] - y.shape[k] + 1
    return _centered(full, shape)


def convolve(
    in1: Any, in2: Any, mode: str = "full", method: str = "auto", precision: Any = None
) -> Any:
    """Convolve two arrays.

    Args:
        in1, in2: arrays of as many axes.
        mode: 'full', 'same' (of the size of in1) or 'valid'.
        method: 'direct' and 'auto' sum products, 'fft' uses Fourier transforms.
        precision: accepted for JAX's sake.

    Example:
        >>> convolve(fnp.asarray([1.0, 2.0]), fnp.asarray([1.0, 1.0])).tolist()
        [1.0, 3.0, 2.0]

    References:
        scipy.signal.convolve
    """
    promotion.check_precision(precision, "convolve")
    _check("convolve", "mode", mode, _MODES)
    _check("convolve", "method", method, ("auto", "direct", "fft"))
    if method == "fft":
        return fftconvolve(in1, in2, mode)
    x, y = _pair("convolve", in1, in2)
    return _same_or("convolve", x, y, mode)


def _same_or(name: str, x: Any, y: Any, mode: str) -> Any:
    if mode != "same":
        return _direct(name, x, y, mode)
    return _centered(_direct(name, x, y, "full"), x.shape)


def correlate(
    in1: Any, in2: Any, mode: str = "full", method: str = "auto", precision: Any = None
) -> Any:
    """Correlate two arrays: convolve with the reversed conjugate; arguments as for `convolve`.

    Example:
        >>> correlate(fnp.asarray([1.0, 2.0]), fnp.asarray([0.0, 1.0])).tolist()
        [1.0, 2.0, 0.0]

    References:
        scipy.signal.correlate
    """
    promotion.check_precision(precision, "correlate")
    _check("correlate", "mode", mode, _MODES)
    y = promotion.to_array(in2, "correlate", "in2")
    return convolve(in1, fnp.flip(fnp.conj(y)), mode, method)


# 'boundary' -> how numpy.pad names it
_BOUNDARIES: dict[str, str] = {"fill": "constant", "wrap": "wrap", "symm": "symmetric"}


def _planar(
    name: str, in1: Any, in2: Any, mode: str, boundary: str, fillvalue: Any, late: bool
) -> Any:
    """Convolve matrices; with ``late`` the middle of an even number is the later one."""
    _check(name, "mode", mode, _MODES)
    _check(name, "boundary", boundary, tuple(_BOUNDARIES))
    x, y = _pair(name, in1, in2, 2)
    if mode == "valid":
        return _direct(name, x, y, mode)
    widths = [(m - 1, m - 1) for m in y.shape]
    options: dict[str, Any] = {"constant_values": fillvalue} if boundary == "fill" else {}
    full = _direct(name, fnp.pad(x, widths, _BOUNDARIES[boundary], **options), y, "valid")
    return full if mode == "full" else _centered(full, x.shape, late)


def convolve2d(
    in1: Any,
    in2: Any,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: float = 0,
    precision: Any = None,
) -> Any:
    """Convolve two matrices.

    Args:
        in1, in2: matrices.
        mode: 'full', 'same' (of the size of in1) or 'valid'.
        boundary: what lies beyond in1: 'fill' (``fillvalue``), 'wrap' or 'symm' (mirrored).
        fillvalue: number.
        precision: accepted for JAX's sake.

    References:
        scipy.signal.convolve2d
    """
    promotion.check_precision(precision, "convolve2d")
    return _planar("convolve2d", in1, in2, mode, boundary, fillvalue, False)


def correlate2d(
    in1: Any,
    in2: Any,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: float = 0,
    precision: Any = None,
) -> Any:
    """Correlate two matrices; arguments as for `convolve2d`.

    References:
        scipy.signal.correlate2d
    """
    promotion.check_precision(precision, "correlate2d")
    y = promotion.to_array(in2, "correlate2d", "in2")
    return _planar("correlate2d", in1, fnp.flip(fnp.conj(y)), mode, boundary, fillvalue, True)


# --------------------------------------------------------------------------------------- detrending
def detrend(
    data: Any,
    axis: int = -1,
    type: str = "linear",
    bp: int | Sequence[int] | np.ndarray = 0,
    overwrite_data: None = None,
) -> Any:
    """Take away the mean or the straight line that fits best, along an axis.

    Args:
        data: array.
        axis: the axis.
        type: 'linear', or 'constant' for the mean.
        bp: where lines break; between breaks each piece has its own.
        overwrite_data: must be None.

    Example:
        >>> detrend(fnp.asarray([1.0, 2.0, 4.0]), type="constant").round(3).tolist()
        [-1.3329999446868896, -0.3330000042915344, 1.6670000553131104]

    References:
        scipy.signal.detrend
    """
    if overwrite_data is not None:
        raise NotImplementedError("detrend: overwrite_data is not supported: arrays are immutable")
    _check("detrend", "type", type, ("constant", "linear"))
    x = promotion.to_array(data, "detrend", "data")
    x = promotion.convert(x, dtypes.to_inexact(x.dtype))
    k = promotion.canonical_axis(axis, x.ndim, "detrend")
    if type == "constant":
        return x - fnp.mean(x, k, keepdims=True)
    n = x.shape[k]
    breaks = np.unique(np.concatenate([[0], np.ravel(np.asarray(bp)), [n]])).astype(int)
    if breaks[0] < 0 or breaks[-1] > n:
        raise ValueError(f"detrend: bp must lie in 0..{n}, got {bp}")
    x = fnp.moveaxis(x, k, -1)
    pieces = [_less_line(x[..., start:stop]) for start, stop in itertools.pairwise(breaks)]
    return fnp.moveaxis(fnp.concatenate(pieces, -1), -1, k)


def _less_line(x: Any) -> Any:
    n = x.shape[-1]
    basis = np.stack([np.ones(n), np.arange(1, n + 1) / n], 1)
    q, _ = np.linalg.qr(basis)
    q = fnp.asarray(q, x.dtype)
    return x - (x @ q) @ q.T
