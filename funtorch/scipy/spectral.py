"""Spectra of pieces of signals: short-time Fourier transforms and densities.

References:
    P. Welch, "The use of the fast Fourier transform for the estimation of power spectra", 1967.
    scipy.signal.stft, scipy.signal.csd
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.numpy import promotion

__all__ = ["csd", "get_window", "istft", "stft", "welch"]


# ------------------------------------------------------------------------------------------ windows
def _cosines(*weights: float) -> Callable[[int], np.ndarray]:
    """Return the window that is a sum of cosines, with alternating signs."""

    def window(n: int) -> np.ndarray:
        angle = 2 * np.pi * np.arange(n) / (n - 1)
        return sum((-1) ** k * w * np.cos(k * angle) for k, w in enumerate(weights))  # type: ignore[return-value]

    return window


def _triangular(n: int) -> np.ndarray:
    half = np.arange(1, (n + 1) // 2 + 1)
    if n % 2:
        return np.concatenate([2 * half / (n + 1), (2 * half / (n + 1))[-2::-1]])
    rising = (2 * half - 1) / n
    return np.concatenate([rising, rising[::-1]])


def _tukey(n: int, alpha: float = 0.5) -> np.ndarray:
    place = np.minimum(np.arange(n), np.arange(n)[::-1]) / (n - 1)
    if alpha <= 0:
        return np.ones(n)
    return np.where(place < alpha / 2, 0.5 * (1 - np.cos(2 * np.pi * place / alpha)), 1.0)


def _gaussian(n: int, std: float) -> np.ndarray:
    return np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / std) ** 2)


_WINDOWS: dict[str, Callable[..., np.ndarray]] = {
    "boxcar": np.ones,
    "bartlett": np.bartlett,
    "blackman": _cosines(0.42, 0.5, 0.08),
    "blackmanharris": _cosines(0.35875, 0.48829, 0.14128, 0.01168),
    "cosine": lambda n: np.sin(np.pi / n * (np.arange(n) + 0.5)),
    "flattop": _cosines(0.21557895, 0.41663158, 0.277263158, 0.083578947, 0.006947368),
    "gaussian": _gaussian,
    "hamming": _cosines(0.54, 0.46),
    "hann": _cosines(0.5, 0.5),
    "kaiser": np.kaiser,
    "nuttall": _cosines(0.3635819, 0.4891775, 0.1365995, 0.0106411),
    "triang": _triangular,
    "tukey": _tukey,
}


def get_window(window: Any, n: int) -> np.ndarray:
    """Return a periodic window of n points.

    Args:
        window: name, a tuple of a name and its parameters, or the n values themselves.
        n: number of points.

    Raises:
        ValueError: there is no such window, or the values are not n.

    Example:
        >>> get_window("hann", 4).round(3).tolist()
        [0.0, 0.5, 1.0, 0.5]
    """
    if not isinstance(window, (str, tuple)):
        values = np.asarray(window, np.float64)
        if values.shape != (n,):
            raise ValueError(f"window: {n} values are needed, got shape {values.shape}")
        return values
    name, *parameters = (window,) if isinstance(window, str) else window
    if name not in _WINDOWS:
        raise ValueError(f"window {name!r} is none of {', '.join(_WINDOWS)}")
    if n < 2:
        return np.ones(n)
    # A periodic window is a symmetric one of a point more, less that point.
    return _WINDOWS[name](n + 1, *parameters)[:-1]


# ---------------------------------------------------------------------------------------- segments
def _segments(
    name: str, x: Any, window: Any, nperseg: Any, noverlap: Any, nfft: Any
) -> tuple[np.ndarray, int, int, int]:
    """Return window, its length, the overlap and the length of transforms."""
    size = x.shape[-1]
    if not isinstance(window, (str, tuple)):
        length = len(window)
        if nperseg is not None and int(nperseg) != length:
            raise ValueError(f"{name}: nperseg {nperseg} is not the length {length} of window")
        if length > size:
            raise ValueError(f"{name}: window has {length} points, more than x, {size}")
        nperseg = length
    nperseg = promotion.static_int(256 if nperseg is None else nperseg, f"{name}: nperseg")
    if nperseg < 1:
        raise ValueError(f"{name}: nperseg must be positive, got {nperseg}")
    nperseg = min(nperseg, size)
    noverlap = promotion.static_int(
        nperseg // 2 if noverlap is None else noverlap, f"{name}: noverlap"
    )
    nfft = promotion.static_int(nperseg if nfft is None else nfft, f"{name}: nfft")
    if not 0 <= noverlap < nperseg:
        raise ValueError(f"{name}: noverlap must be in 0..nperseg-1={nperseg - 1}, got {noverlap}")
    if nfft < nperseg:
        raise ValueError(f"{name}: nfft {nfft} must be at least nperseg {nperseg}")
    return get_window(window, nperseg), nperseg, noverlap, nfft


_EXTENSIONS = {"zeros": "constant", "even": "reflect", "constant": "edge"}


def _extended(name: str, x: Any, boundary: str, n: int) -> Any:
    widths = [(0, 0)] * (x.ndim - 1) + [(n, n)]
    if boundary == "odd":
        return fnp.pad(x, widths, "reflect", reflect_type="odd")
    if boundary not in _EXTENSIONS:
        raise ValueError(
            f"{name}: boundary must be None, 'odd' or one of {', '.join(_EXTENSIONS)}, got "
            f"{boundary!r}"
        )
    return fnp.pad(x, widths, _EXTENSIONS[boundary])


def _frames(x: Any, nperseg: int, step: int) -> Any:
    """Return the pieces of the last axis: (..., pieces, nperseg)."""
    count = (x.shape[-1] - nperseg) // step + 1
    places = np.arange(count)[:, None] * step + np.arange(nperseg)
    return x[..., places.astype(np.int32)]


def _detrended(name: str, frames: Any, detrend: Any) -> Any:
    if not detrend:
        return frames
    if callable(detrend):
        return detrend(frames)
    if detrend == "constant":
        return frames - fnp.mean(frames, -1, keepdims=True)
    if detrend != "linear":
        raise ValueError(
            f"{name}: detrend must be 'constant', 'linear', False or a function, got {detrend!r}"
        )
    n = frames.shape[-1]
    q, _ = np.linalg.qr(np.stack([np.ones(n), np.arange(1, n + 1) / n], 1))
    basis = fnp.asarray(q, frames.dtype)
    return frames - (frames @ basis) @ basis.T


def _spectra(
    name: str, x: Any, win: Any, plan: tuple[int, int, int], detrend: Any, half: bool
) -> Any:
    nperseg, noverlap, nfft = plan
    frames = _detrended(name, _frames(x, nperseg, nperseg - noverlap), detrend)
    frames = frames * fnp.asarray(win, dtypes.real_dtype(x.dtype))
    transform = fnp.fft.rfft if half else fnp.fft.fft
    return transform(frames, nfft)


def _frequencies(nfft: int, fs: Any, half: bool) -> Any:
    return (fnp.fft.rfftfreq if half else fnp.fft.fftfreq)(nfft, 1 / fs)


def _float(x: Any, name: str, argument: str, axis: Any) -> Any:
    x = promotion.to_array(x, name, argument)
    k = promotion.canonical_axis(axis, x.ndim, name)
    return fnp.moveaxis(promotion.convert(x, dtypes.to_inexact(x.dtype)), k, -1)


def _scaling(name: str, scaling: str, win: np.ndarray, fs: Any) -> Any:
    if scaling == "density":
        return 1.0 / (fs * float((win * win).sum()))
    if scaling == "spectrum":
        return 1.0 / float(win.sum()) ** 2
    raise ValueError(f"{name}: scaling must be 'density' or 'spectrum', got {scaling!r}")


# ------------------------------------------------------------------------------------ public names
def stft(
    x: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: int = 256,
    noverlap: int | None = None,
    nfft: int | None = None,
    detrend: Any = False,
    return_onesided: bool = True,
    boundary: str | None = "zeros",
    padded: bool = True,
    axis: int = -1,
) -> tuple[Any, Any, Any]:
    """Return the short-time Fourier transform: the spectra of overlapping pieces of a signal.

    Args:
        x: array.
        fs: samples per unit of time.
        window: name such as 'hann', ('kaiser', beta), or values.
        nperseg: length of a piece.
        noverlap: how much pieces overlap; None means half.
        nfft: length of the transforms; pieces are filled with zeros to it.
        detrend: what to take away from each piece: 'constant', 'linear', a function, or False.
        return_onesided: only frequencies that are not negative, for real x.
        boundary: how the signal is extended by half a piece: 'zeros', 'even', 'odd', 'constant', or
            None for not at all.
        padded: fill with zeros to a whole number of pieces.
        axis: the axis of time.

    Returns:
        (frequencies, times, spectra with the frequencies at ``axis`` and times last).

    References:
        scipy.signal.stft
    """
    name = "stft"
    k = promotion.canonical_axis(axis, fnp.ndim(x), name)
    x = _float(x, name, "x", axis)
    win, nperseg, noverlap, nfft = _segments(name, x, window, nperseg, noverlap, nfft)
    step = nperseg - noverlap
    if boundary is not None:
        x = _extended(name, x, boundary, nperseg // 2)
    if padded:
        missing = -(x.shape[-1] - nperseg) % step
        x = fnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])
    half = bool(return_onesided) and not dtypes.is_complex(x.dtype)
    plan = (nperseg, noverlap, nfft)
    out = _spectra(name, x, win, plan, detrend, half) / abs(float(win.sum()))
    times = (fnp.arange(out.shape[-2]) * step + nperseg / 2) / fs
    if boundary is not None:
        times = times - (nperseg / 2) / fs
    out = fnp.moveaxis(fnp.swapaxes(out, -1, -2), -2, k)
    return _frequencies(nfft, fs, half), times, out


def csd(
    x: Any,
    y: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: int | None = None,
    noverlap: int | None = None,
    nfft: int | None = None,
    detrend: Any = "constant",
    return_onesided: bool = True,
    scaling: str = "density",
    axis: int = -1,
    average: str = "mean",
) -> tuple[Any, Any]:
    """Estimate the cross spectral density of two signals by Welch's method.

    Args:
        x: array.
        y: array; None is x.
        fs, window, noverlap, nfft, return_onesided, axis: as for `stft`.
        nperseg: length of a piece; None means 256.
        detrend: what to take away from each piece.
        scaling: 'density' or 'spectrum'.
        average: 'mean' or 'median' of the pieces.

    Returns:
        (frequencies, density with the frequencies at ``axis``).

    References:
        scipy.signal.csd
    """
    name = "csd"
    if average not in ("mean", "median"):
        raise ValueError(f"{name}: average must be 'mean' or 'median', got {average!r}")
    k = promotion.canonical_axis(axis, fnp.ndim(x), name)
    a = _float(x, name, "x", axis)
    alone = y is None or y is x
    b = a if alone else _float(y, name, "y", axis)
    a, b = promotion.promote(name, a, b)
    n = max(a.shape[-1], b.shape[-1])
    a, b = (
        fnp.pad(z, [(0, 0)] * (z.ndim - 1) + [(0, n - z.shape[-1])]) if z.shape[-1] < n else z
        for z in (a, b)
    )
    win, nperseg, noverlap, nfft = _segments(name, a, window, nperseg, noverlap, nfft)
    half = bool(return_onesided) and not dtypes.is_complex(a.dtype)
    plan = (nperseg, noverlap, nfft)
    first = _spectra(name, a, win, plan, detrend, half)
    second = first if alone else _spectra(name, b, win, plan, detrend, half)
    product = fnp.conj(first) * second * _scaling(name, scaling, win, fs)
    if alone:
        product = product.real
    if half:
        twice = np.full(product.shape[-1], 2.0)
        twice[0] = 1
        if nfft % 2 == 0:
            twice[-1] = 1
        product = product * fnp.asarray(twice, dtypes.real_dtype(product.dtype))
    out = fnp.moveaxis(_averaged(product, average), -1, k)
    return _frequencies(nfft, fs, half), out


def _averaged(pieces: Any, average: str) -> Any:
    """Average over the last axis but one."""
    if average == "mean":
        return fnp.mean(pieces, -2)
    count = pieces.shape[-2]
    terms = 2.0 * np.arange(1, (count - 1) // 2 + 1)
    bias = 1 + float(np.sum(1 / (terms + 1) - 1 / terms))
    if not dtypes.is_complex(pieces.dtype):
        return fnp.median(pieces, -2) / bias
    return (fnp.median(pieces.real, -2) + 1j * fnp.median(pieces.imag, -2)) / bias


def welch(
    x: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: int | None = None,
    noverlap: int | None = None,
    nfft: int | None = None,
    detrend: Any = "constant",
    return_onesided: bool = True,
    scaling: str = "density",
    axis: int = -1,
    average: str = "mean",
) -> tuple[Any, Any]:
    """Estimate the power spectral density of a signal by Welch's method; arguments as for `csd`.

    Returns:
        (frequencies, density with the frequencies at ``axis``).

    Example:
        >>> frequencies, density = welch(fnp.ones(8), nperseg=4, detrend=False)
        >>> frequencies.tolist()
        [0.0, 0.25, 0.5]

    References:
        scipy.signal.welch
    """
    return csd(
        x, None, fs, window, nperseg, noverlap, nfft, detrend, return_onesided, scaling, axis,
        average,
    )  # fmt: skip


def istft(
    Zxx: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: int | None = None,
    noverlap: int | None = None,
    nfft: int | None = None,
    input_onesided: bool = True,
    boundary: bool = True,
    time_axis: int = -1,
    freq_axis: int = -2,
) -> tuple[Any, Any]:
    """Return the signal whose short-time Fourier transform is given.

    Args:
        Zxx: spectra as `stft` gives them.
        fs, window, nperseg, noverlap, nfft: those given to `stft`.
        input_onesided: whether Zxx lacks the negative frequencies.
        boundary: whether the signal was extended.
        time_axis, freq_axis: axes of Zxx.

    Returns:
        (times, signal).

    References:
        scipy.signal.istft
    """
    name = "istft"
    z = promotion.to_array(Zxx, name, "Zxx")
    z = promotion.convert(z, dtypes.complex_dtype(z.dtype))
    if z.ndim < 2:
        raise ValueError(f"{name}: Zxx must have 2 axes or more, got {promotion.describe(z)}")
    t, f = (promotion.canonical_axis(k, z.ndim, name) for k in (time_axis, freq_axis))
    if t == f:
        raise ValueError(f"{name}: time_axis and freq_axis must differ, both are {t}")
    z = fnp.moveaxis(z, (t, f), (-2, -1))
    default = 2 * (z.shape[-1] - 1) if input_onesided else z.shape[-1]
    nperseg = promotion.static_int(default if nperseg is None else nperseg, f"{name}: nperseg")
    if nfft is None:
        nfft = nperseg if input_onesided and nperseg == default + 1 else default
    noverlap = nperseg // 2 if noverlap is None else promotion.static_int(noverlap, "noverlap")
    if nfft < nperseg or not 0 <= noverlap < nperseg or nperseg < 1:
        raise ValueError(
            f"{name}: needs 0 <= noverlap < nperseg <= nfft, got {noverlap}, {nperseg}, {nfft}"
        )
    step = nperseg - noverlap
    win = get_window(window, nperseg)
    frames = (fnp.fft.irfft if input_onesided else fnp.fft.ifft)(z, nfft)[..., :nperseg]
    frames = frames * fnp.asarray(win * float(win.sum()), dtypes.real_dtype(z.dtype))
    count = z.shape[-2]
    length = nperseg + (count - 1) * step
    places = (np.arange(count)[:, None] * step + np.arange(nperseg)).astype(np.int32)
    out = fnp.zeros((*frames.shape[:-2], length), frames.dtype).at[..., places].add(frames)
    norm = np.zeros(length)
    np.add.at(norm, places, np.broadcast_to(win * win, places.shape))
    if boundary:
        margin = nperseg // 2
        out, norm = out[..., margin : length - margin], norm[margin : length - margin]
    scale = fnp.asarray(np.where(norm > 1e-10, norm, 1.0), dtypes.real_dtype(z.dtype))
    out = out / scale
    times = fnp.arange(out.shape[-1]) / fs
    return times, fnp.moveaxis(out, -1, t - (f < t))
