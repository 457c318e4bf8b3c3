"""Discrete cosine transforms under SciPy's names.

References:
    scipy.fft, https://docs.scipy.org/doc/scipy/reference/fft.html
    J. Makhoul, "A fast cosine transform in one and two dimensions", 1980.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.numpy import promotion

__all__ = ["dct", "dctn", "idct", "idctn"]

_INVERSE = {1: 1, 2: 3, 3: 2, 4: 4}


def _real(x: Any, name: str) -> Any:
    x = promotion.to_array(x, name)
    if dtypes.is_complex(x.dtype):
        raise TypeError(f"{name}: x must be real, got {promotion.describe(x)}")
    return promotion.convert(x, dtypes.to_inexact(x.dtype))


def _sized(x: Any, n: Any, name: str) -> Any:
    """Return x with its last axis cut or filled with zeros to size n."""
    if n is None:
        n = x.shape[-1]
    n = promotion.static_int(n, f"{name}: n")
    if n < 1:
        raise ValueError(f"{name}: the transform needs at least 1 element, got n={n}")
    missing = n - x.shape[-1]
    if missing <= 0:
        return x[..., :n]
    return fnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])


def _twiddle(angles: np.ndarray, x: Any) -> Any:
    return fnp.asarray(np.exp(-1j * np.pi * angles), dtypes.complex_dtype(x.dtype))


def _plain(x: Any, kind: int) -> Any:
    """Return the transform along the last axis, without a factor in front."""
    n = x.shape[-1]
    k = np.arange(n)
    if kind == 1:
        if n < 2:
            raise ValueError("dct: type 1 needs at least 2 elements")
        return fnp.fft.rfft(fnp.concatenate([x, x[..., -2:0:-1]], -1)).real
    if kind == 2:
        # Even elements upwards, then odd ones downwards: a transform of n numbers is enough.
        folded = fnp.concatenate([x[..., ::2], x[..., 1::2][..., ::-1]], -1)
        return 2 * (fnp.fft.fft(folded) * _twiddle(k / (2 * n), x)).real
    if kind == 3:
        weights = fnp.asarray(np.where(k == 0, 1.0, 2.0), x.dtype)
        return fnp.fft.fft(x * weights * _twiddle(k / (2 * n), x), 2 * n)[..., :n].real
    turned = fnp.fft.fft(x * _twiddle(k / (2 * n), x), 2 * n)[..., :n]
    return 2 * (turned * _twiddle((2 * k + 1) / (4 * n), x)).real


def _ortho(x: Any, kind: int) -> Any:
    """Return the transform scaled so that it keeps the norm."""
    n = x.shape[-1]
    k = np.arange(n)
    ends = (k == 0) | (k == n - 1) if kind == 1 else k == 0
    root = np.where(ends, np.sqrt(2.0), 1.0)
    before = {1: root, 3: root}.get(kind, np.ones(n))
    after = {1: 1 / root, 2: 1 / root}.get(kind, np.ones(n))
    scale = np.sqrt(1 / (2 * (n - 1 if kind == 1 else n)))
    out = _plain(x * fnp.asarray(before, x.dtype), kind)
    return out * fnp.asarray(after * scale, x.dtype)


def _transform(x: Any, kind: Any, n: Any, axis: Any, norm: Any, inverse: bool, name: str) -> Any:
    x = _real(x, name)
    if kind not in _INVERSE:
        raise ValueError(f"{name}: type must be 1, 2, 3 or 4, got {kind!r}")
    if norm not in (None, "backward", "ortho", "forward"):
        raise ValueError(
            f"{name}: norm must be None, 'backward', 'ortho' or 'forward', got {norm!r}"
        )
    k = promotion.canonical_axis(axis, x.ndim, name)
    x = _sized(fnp.moveaxis(x, k, -1), n, name)
    kind = _INVERSE[kind] if inverse else kind
    if norm == "ortho":
        out = _ortho(x, kind)
    else:
        out = _plain(x, kind)
        if inverse == (norm != "forward"):
            size = x.shape[-1]
            out = out / (2 * (size - 1 if kind == 1 else size))
    return fnp.moveaxis(out, -1, k)


def _over_axes(x: Any, kind: Any, s: Any, axes: Any, norm: Any, inverse: bool, name: str) -> Any:
    x = _real(x, name)
    if axes is None:
        count = x.ndim if s is None else len(s)
        axes = range(x.ndim - count, x.ndim)
    axes = [promotion.canonical_axis(k, x.ndim, name) for k in axes]
    sizes = [None] * len(axes) if s is None else list(s)
    if len(sizes) != len(axes) or len(set(axes)) != len(axes):
        raise ValueError(f"{name}: s {s} and axes {axes} must be as many, and axes distinct")
    for k, n in zip(axes, sizes, strict=True):
        x = _transform(x, kind, n, k, norm, inverse, name)
    return x


def dct(
    x: Any, type: int = 2, n: int | None = None, axis: int = -1, norm: str | None = None
) -> Any:
    """Return the discrete cosine transform along an axis.

    Args:
        x: real array.
        type: 1, 2, 3 or 4.
        n: size of the transform; the axis is cut or filled with zeros to it.
        axis: the axis.
        norm: None or 'backward' (no factor), 'ortho', or 'forward'.

    Returns:
        A real Array.

    Raises:
        TypeError: x is complex.
        ValueError: there is no such type, norm or axis.

    Example:
        >>> dct(fnp.asarray([1.0, 2.0])).round(3).tolist()
        [6.0, -1.4140000343322754]

    References:
        scipy.fft.dct
    """
    return _transform(x, type, n, axis, norm, False, "dct")


def idct(
    x: Any, type: int = 2, n: int | None = None, axis: int = -1, norm: str | None = None
) -> Any:
    """Return the inverse of `dct` with the same arguments.

    Example:
        >>> idct(dct(fnp.asarray([1.0, 2.0]))).round(3).tolist()
        [1.0, 2.0]

    References:
        scipy.fft.idct
    """
    return _transform(x, type, n, axis, norm, True, "idct")


def dctn(
    x: Any,
    type: int = 2,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str | None = None,
) -> Any:
    """Return the discrete cosine transform along several axes, in turn.

    Args:
        x: real array.
        type, norm: as for `dct`.
        s: sizes of the transforms.
        axes: the axes; None means the last ``len(s)``, or all.

    References:
        scipy.fft.dctn
    """
    return _over_axes(x, type, s, axes, norm, False, "dctn")


def idctn(
    x: Any,
    type: int = 2,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str | None = None,
) -> Any:
    """Return the inverse of `dctn` with the same arguments.

    References:
        scipy.fft.idctn
    """
    return _over_axes(x, type, s, axes, norm, True, "idctn")
