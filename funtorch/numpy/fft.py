"""Discrete Fourier transforms, with the names of numpy.fft.

Transforms of one axis are the primitive `fft`; those of several apply it axis by axis. Integers and
half-precision floats are computed in float32; float64 and complex128 keep their precision.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import primitives
from funtorch.errors import MismatchError
from funtorch.numpy.creation import arange
from funtorch.numpy.elementwise import conjugate, multiply
from funtorch.numpy.manipulation import roll, slice_axis
from funtorch.numpy.padding import pad
from funtorch.numpy.places import on_device
from funtorch.numpy.promotion import (
    canonical_axes,
    canonical_axis,
    convert,
    describe,
    static_int,
    to_array,
)

__all__ = [
    "fft",
    "fft2",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifft2",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfft2",
    "irfftn",
    "rfft",
    "rfft2",
    "rfftfreq",
    "rfftn",
]

# The factor that a norm puts on a transform of size n, beside the one the primitive has: 1 forwards
# and 1 / n backwards.
_FORWARD: dict[Any, Callable[[int], float]] = {
    None: lambda n: 1.0,
    "backward": lambda n: 1.0,
    "ortho": lambda n: n**-0.5,
    "forward": lambda n: 1.0 / n,
}
_BACKWARD: dict[Any, Callable[[int], float]] = {
    None: lambda n: 1.0,
    "backward": lambda n: 1.0,
    "ortho": lambda n: n**0.5,
    "forward": lambda n: float(n),
}
_SCALES = {"fft": _FORWARD, "rfft": _FORWARD, "ifft": _BACKWARD, "irfft": _BACKWARD}
_OPPOSITE = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}


def _check_norm(function: str, norm: Any) -> None:
    if norm not in _OPPOSITE:
        raise ValueError(
            f"{function}: norm must be None, 'backward', 'ortho' or 'forward', got {norm!r}"
        )


def _resize(x: Any, axis: int, size: int) -> Any:
    """Return x cut off or filled up with zeros to a size along an axis."""
    have = x.shape[axis]
    if have >= size:
        return x if have == size else slice_axis(x, axis, 0, size)
    return pad(x, [(0, size - have if k == axis else 0) for k in range(x.ndim)])


def _prepare(function: str, kind: str, a: Any) -> Any:
    """Return the argument as an Array of a dtype that a kind of transform takes."""
    x = to_array(a, function, "a")
    if kind == "rfft" and dtypes.is_complex(x.dtype):
        raise MismatchError(
            f"{function}: argument a must be real, got {describe(x)}; take its real part, or use "
            "a transform of complex arrays (fft, fftn)"
        )
    # Integers become the default float, halves float32.
    wide = dtypes.promote_types(dtypes.to_inexact(x.dtype), dtypes.float32)
    dtype = wide if kind == "rfft" else dtypes.complex_dtype(wide)
    return convert(x, dtype, False)


def _one(function: str, kind: str, x: Any, n: int | None, axis: int, norm: Any) -> Any:
    """Transform a prepared array along one axis, counted from the front."""
    size = x.shape[axis]
    if n is None:
        n = 2 * (size - 1) if kind == "irfft" else size
    if n < 1:
        raise ValueError(
            f"{function}: at least one point is needed along axis {axis}, got n = {n} for "
            f"{describe(x)}"
        )
    x = _resize(x, axis, n // 2 + 1 if kind == "irfft" else n)
    out = primitives["fft"].bind(x, kind=kind, axis=axis, n=n)
    factor = _SCALES[kind][norm](n)
    return out if factor == 1.0 else multiply(out, factor)


def _along_axis(function: str, kind: str, a: Any, n: Any, axis: Any, norm: Any) -> Any:
    _check_norm(function, norm)
    x = _prepare(function, kind, a)
    size = None if n is None else static_int(n, f"{function}: n")
    return _one(function, kind, x, size, canonical_axis(axis, x.ndim, function), norm)


def _sizes(
    function: str, x: Any, s: Sequence[Any] | None, axes: Sequence[int] | None
) -> list[tuple[int, int | None]]:
    """Return the axes to transform and the size of each, None where it is the array's own."""
    if axes is None:
        axes = range(x.ndim) if s is None else range(-len(s), 0)
    at = [canonical_axis(k, x.ndim, function) for k in axes]
    canonical_axes(tuple(axes), x.ndim, function)  # none may be named twice
    if s is None:
        return [(k, None) for k in at]
    if len(s) != len(at):
        raise ValueError(
            f"{function}: s and axes must have equal lengths, got s = {tuple(s)} and axes = "
            f"{tuple(axes)}"
        )
    sizes = [None if n is None else static_int(n, f"{function}: s") for n in s]
    return list(zip(at, sizes, strict=True))


def _along_axes(
    function: str, kind: str, a: Any, s: Sequence[Any] | None, axes: Sequence[int] | None, norm: Any
) -> Any:
    """Transform several axes; the last one is the one that is halved, where the real array is."""
    _check_norm(function, norm)
    x = _prepare(function, kind, a)
    work = _sizes(function, x, s, axes)
    if not work:
        if kind in ("rfft", "irfft"):
            raise ValueError(f"{function}: at least one axis must be transformed, got axes = ()")
        return x
    (last, size), *rest = reversed(work)
    if kind != "irfft":
        x = _one(function, kind, x, size, last, norm)
    for k, n in rest:
        x = _one(function, kind.replace("r", ""), x, n, k, norm)
    return _one(function, kind, x, size, last, norm) if kind == "irfft" else x


# --------------------------------------------------------------------------------------- one axis
def fft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Return the discrete Fourier transform of one axis: ``sum_j a[j] exp(-2πi jk / n)``.

    Args:
        a: array.
        n: size of the transform: the axis is cut off or filled up with zeros; None keeps it.
        axis: the axis.
        norm: None or 'backward' (no factor), 'ortho' (``1 / sqrt(n)``), 'forward' (``1 / n``).

    Returns:
        A complex Array, of size n along the axis.

    Raises:
        ValueError: there is no such axis or norm, or n is not positive.

    Example:
        >>> fft(fnp.array([1.0, 0.0, -1.0, 0.0]))
        Array([0.+0.j, 2.+0.j, 0.+0.j, 2.+0.j], dtype=complex64)

    References:
        numpy.fft.fft
    """
    return _along_axis("fft", "fft", a, n, axis, norm)


def ifft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Return the inverse of `fft`: ``sum_k a[k] exp(2πi jk / n) / n``.

    Args:
        a, n, axis: as in `fft`.
        norm: that of the `fft` to be inverted.

    Returns:
        A complex Array, of size n along the axis.

    Example:
        >>> ifft(fft(fnp.array([1.0, 2.0, 3.0, 4.0]))).real.tolist()
        [1.0, 2.0, 3.0, 4.0]

    References:
        numpy.fft.ifft
    """
    return _along_axis("ifft", "ifft", a, n, axis, norm)


def rfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Return the `fft` of a real array, without the half that mirrors the other.

    Returns:
        A complex Array, of size ``n // 2 + 1`` along the axis.

    Raises:
        TypeError: the array is complex.

    Example:
        >>> rfft(fnp.array([1.0, 0.0, -1.0, 0.0]))
        Array([0.+0.j, 2.+0.j, 0.+0.j], dtype=complex64)

    References:
        numpy.fft.rfft
    """
    return _along_axis("rfft", "rfft", a, n, axis, norm)


def irfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Return the inverse of `rfft`.

    Args:
        a: array.
        n: size of the result; None for ``2 * (size - 1)``. Odd sizes must be said.
        axis, norm: as in `ifft`.

    Returns:
        A real Array, of size n along the axis.

    Example:
        >>> irfft(rfft(fnp.array([1.0, 2.0, 3.0])), 3).round(3).tolist()
        [1.0, 2.0, 3.0]

    References:
        numpy.fft.irfft
    """
    return _along_axis("irfft", "irfft", a, n, axis, norm)


def hfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Return the real spectrum of a signal of which the half is given that mirrors the other.

    Example:
        >>> hfft(fnp.array([1.0, 2.0, 1.0])).tolist()
        [6.0, 0.0, -2.0, 0.0]

    References:
        numpy.fft.hfft
    """
    _check_norm("hfft", norm)
    return _along_axis(
        "hfft", "irfft", conjugate(to_array(a, "hfft", "a")), n, axis, _OPPOSITE[norm]
    )


def ihfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Return the inverse of `hfft`.

    Example:
        >>> ihfft(fnp.array([6.0, 0.0, -2.0, 0.0])).real.tolist()
        [1.0, 2.0, 1.0]

    References:
        numpy.fft.ihfft
    """
    _check_norm("ihfft", norm)
    return conjugate(_along_axis("ihfft", "rfft", a, n, axis, _OPPOSITE[norm]))


# ----------------------------------------------------------------------------------- several axes
def fftn(
    a: Any,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str | None = None,
) -> Any:
    """Return the discrete Fourier transform of several axes.

    Args:
        a: array.
        s: sizes of the transforms, one per axis; None keeps the array's.
        axes: the axes; None for the last ``len(s)``, or all.
        norm: as in `fft`.

    Returns:
        A complex Array.

    Raises:
        ValueError: an axis is named twice or is not there, or s does not fit axes.

    Example:
        >>> fftn(fnp.array([[1.0, 2.0], [3.0, 4.0]])).real.tolist()
        [[10.0, -2.0], [-4.0, 0.0]]

    References:
        numpy.fft.fftn
    """
    return _along_axes("fftn", "fft", a, s, axes, norm)


def ifftn(
    a: Any,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str | None = None,
) -> Any:
    """Return the inverse of `fftn`.

    Example:
        >>> ifftn(fftn(fnp.array([[1.0, 2.0], [3.0, 4.0]]))).real.tolist()
        [[1.0, 2.0], [3.0, 4.0]]

    References:
        numpy.fft.ifftn
    """
    return _along_axes("ifftn", "ifft", a, s, axes, norm)


def rfftn(
    a: Any,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str | None = None,
) -> Any:
    """Return the `fftn` of a real array, without the mirrored half of the last axis named.

    Example:
        >>> rfftn(fnp.array([[1.0, 2.0], [3.0, 4.0]])).real.tolist()
        [[10.0, -2.0], [-4.0, 0.0]]

    References:
        numpy.fft.rfftn
    """
    return _along_axes("rfftn", "rfft", a, s, axes, norm)


def irfftn(
    a: Any,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str | None = None,
) -> Any:
    """Return the inverse of `rfftn`; an odd size of the last axis must be said in s.

    Example:
        >>> irfftn(rfftn(fnp.array([[1.0, 2.0], [3.0, 4.0]]))).tolist()
        [[1.0, 2.0], [3.0, 4.0]]

    References:
        numpy.fft.irfftn
    """
    return _along_axes("irfftn", "irfft", a, s, axes, norm)


def fft2(
    a: Any, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None
) -> Any:
    """Return `fftn` of two axes.

    References:
        numpy.fft.fft2
    """
    return _along_axes("fft2", "fft", a, s, axes, norm)


def ifft2(
    a: Any, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None
) -> Any:
    """Return `ifftn` of two axes.

    References:
        numpy.fft.ifft2
    """
    return _along_axes("ifft2", "ifft", a, s, axes, norm)


def rfft2(
    a: Any, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None
) -> Any:
    """Return `rfftn` of two axes.

    References:
        numpy.fft.rfft2
    """
    return _along_axes("rfft2", "rfft", a, s, axes, norm)


def irfft2(
    a: Any, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None
) -> Any:
    """Return `irfftn` of two axes.

    References:
        numpy.fft.irfft2
    """
    return _along_axes("irfft2", "irfft", a, s, axes, norm)


# ------------------------------------------------------------------------------------ frequencies
def fftfreq(n: int, d: Any = 1.0, *, dtype: Any = None, device: Any = None) -> Any:
    """Return the frequency of each result of `fft`, in cycles per unit of the spacing d.

    Args:
        n: size of the transform.
        d: distance of the samples.
        dtype: dtype of the result; the default float if None.
        device: where it is to be: None, or as for `funtorch.device_put`.

    Example:
        >>> fftfreq(4).tolist()
        [0.0, 0.25, -0.5, -0.25]

    References:
        numpy.fft.fftfreq
    """
    if device is not None:
        return on_device(device, fftfreq, n, d, dtype=dtype)
    n = _samples("fftfreq", n, d)
    k = arange(n, dtype=dtypes.default_float() if dtype is None else dtype)
    half = (n + 1) // 2
    return roll(k - n // 2, half) / (n * d)


def rfftfreq(n: int, d: Any = 1.0, *, dtype: Any = None, device: Any = None) -> Any:
    """Return the frequency of each result of `rfft`.

    Example:
        >>> rfftfreq(4).tolist()
        [0.0, 0.25, 0.5]

    References:
        numpy.fft.rfftfreq
    """
    if device is not None:
        return on_device(device, rfftfreq, n, d, dtype=dtype)
    n = _samples("rfftfreq", n, d)
    k = arange(n // 2 + 1, dtype=dtypes.default_float() if dtype is None else dtype)
    return k / (n * d)


def _samples(function: str, n: Any, d: Any) -> int:
    """Return the number of samples; both arguments are single numbers."""
    for name, value in (("n", n), ("d", d)):
        if np.ndim(value):
            raise ValueError(f"{function}: {name} must be a single number, got {value!r:.80}")
    if isinstance(n, (float, np.floating)) and n == int(n):
        n = int(n)
    return _count(function, n)


def _count(function: str, n: Any) -> int:
    count = static_int(n, f"{function}: n")
    if count < 1:
        raise ValueError(f"{function}: n must be at least 1, got {count}")
    return count


def _shift(function: str, x: Any, axes: Any, way: Callable[[int], int]) -> Any:
    x = to_array(x, function, "x")
    at = canonical_axes(axes, x.ndim, function)
    return roll(x, tuple(way(x.shape[k] // 2) for k in at), at) if at else x


def fftshift(x: Any, axes: Any = None) -> Any:
    """Move frequency zero to the middle of the axes (None: all).

    Example:
        >>> fftshift(fftfreq(4)).tolist()
        [-0.5, -0.25, 0.0, 0.25]

    References:
        numpy.fft.fftshift
    """
    return _shift("fftshift", x, axes, operator.pos)


def ifftshift(x: Any, axes: Any = None) -> Any:
    """Undo `fftshift`.

    Example:
        >>> ifftshift(fftshift(fftfreq(5))).tolist() == fftfreq(5).tolist()
        True

    References:
        numpy.fft.ifftshift
    """
    return _shift("ifftshift", x, axes, operator.neg)
