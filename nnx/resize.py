"""Images, lines and volumes of another size: each axis is read at places known in advance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

import funtorch as ft
import funtorch.numpy as fnp

from .adaptive import averaged
from .module import Module, static

__all__ = ["Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d", "interpolate"]

# What a place of the result is: the positions that it reads, and their weights, where not all 1.
Reads = tuple[np.ndarray, np.ndarray | None]


# ---------------------------------------------------------------------------------------- places
def _spacing(n: int, out: int, factor: float | None, kind: Any) -> Any:
    """Return how many elements of the input one place of the result is."""
    return kind(1 / factor) if factor else kind(n) / kind(out)


def _centres(n: int, out: int, factor: float | None, corners: bool, kind: Any) -> np.ndarray:
    place = np.arange(out, dtype=kind)
    if corners:
        return place * (kind(n - 1) / kind(out - 1) if out > 1 else kind(0))
    half = kind(0.5)
    return (place + half) * _spacing(n, out, factor, kind) - half


def _nearest(shift: float) -> Callable[..., Reads]:
    def reads(n: int, out: int, factor: float | None, corners: bool, kind: Any) -> Reads:
        # In float32 whatever the array is, as PyTorch rounds them.
        place = np.arange(out, dtype=np.float32) + np.float32(shift)
        read = np.floor(place * _spacing(n, out, factor, np.float32)).astype(np.int32)
        return np.minimum(read, n - 1)[:, None], None

    return reads


def _linear(n: int, out: int, factor: float | None, corners: bool, kind: Any) -> Reads:
    if n == out:  # whatever the factor was, as in PyTorch
        return np.arange(n)[:, None], None
    centre = np.maximum(_centres(n, out, factor, corners, kind), 0)
    first = np.minimum(centre.astype(np.int32), n - 1)
    share = np.clip(centre - first.astype(kind), 0, 1)
    read = np.stack([first, np.minimum(first + 1, n - 1)], 1)
    return read, np.stack([1 - share, share], 1)


def _cubic(t: np.ndarray, a: float) -> np.ndarray:
    """Return Keys' kernel at distances t: 1 at 0, and 0 from 2 on."""
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = (((t - 5) * t + 8) * t - 4) * a
    return np.where(t < 1, near, np.where(t < 2, far, 0))


def _cubics(n: int, out: int, factor: float | None, corners: bool, kind: Any) -> Reads:
    centre = _centres(n, out, factor, corners, kind)
    first = np.floor(centre)
    taps = np.arange(-1, 3)
    read = np.clip(first[:, None] + taps, 0, max(n - 1, 0)).astype(np.int32)
    return read, _cubic((centre - first)[:, None] - taps, -0.75)


def _smooth(reach: float, kernel: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Reads]:
    """Return reads through a kernel that widens as the result gets coarser."""

    def reads(n: int, out: int, factor: float | None, corners: bool, kind: Any) -> Reads:
        if corners:
            step = (n - 1) / (out - 1) if out > 1 else 0.0
        else:
            step = float(_spacing(n, out, factor, np.float64))
        wide = max(step, 1.0)
        centre = step * (np.arange(out) + 0.5)
        first = np.maximum((centre - reach * wide + 0.5).astype(int), 0)
        last = np.minimum((centre + reach * wide + 0.5).astype(int), n)
        read = first[:, None] + np.arange((last - first).max(initial=1))
        weight = kernel((read - centre[:, None] + 0.5) / wide) * (read < last[:, None])
        weight = weight / weight.sum(1, keepdims=True)
        return np.minimum(read, n - 1).astype(np.int32), weight

    return reads


# mode: how an axis is read, how many axes of space there are, whether align_corners means anything
_MODES: dict[str, tuple[Callable[..., Reads] | None, tuple[int, ...], bool]] = {
    "nearest": (_nearest(0.0), (1, 2, 3), False),
    "nearest-exact": (_nearest(0.5), (1, 2, 3), False),
    "area": (None, (1, 2, 3), False),
    "linear": (_linear, (1,), True),
    "bilinear": (_linear, (2,), True),
    "trilinear": (_linear, (3,), True),
    "bicubic": (_cubics, (2,), True),
}
_ANTIALIASED: dict[str, Callable[..., Reads]] = {
    "bilinear": _smooth(1.0, lambda t: np.maximum(1 - np.abs(t), 0)),
    "bicubic": _smooth(2.0, lambda t: _cubic(t, -0.5)),
}


def _read(x: ft.Array, axis: int, reads: Reads) -> ft.Array:
    read, weight = reads
    n = x.shape[axis]
    if weight is None:
        times = len(read) // max(n, 1)
        if times and np.array_equal(read[:, 0], np.arange(len(read)) // times):
            return x if times == 1 else fnp.repeat(x, times, axis)
        return fnp.take(x, read[:, 0], axis=axis, mode="clip")
    rest = (1,) * (x.ndim - axis - 1)
    weights = fnp.asarray(weight.reshape(*weight.shape, *rest), x.dtype)
    return (fnp.take(x, read, axis=axis, mode="clip") * weights).sum(axis + 1)


# ------------------------------------------------------------------------------------ the function
def interpolate(
    x: Any,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> ft.Array:
    """Resize lines, images or volumes to a size, or by a factor.

    Args:
        x: array of shape (batch, channels, *space).
        size: int, or one per axis of space.
        scale_factor: number, or one per axis, in place of size; the size is rounded down.
        mode: 'nearest', 'nearest-exact' or 'area' for any space; 'linear' for lines, 'bilinear' or
            'bicubic' for images, 'trilinear' for volumes.
        align_corners: whether the first and last elements stay at the ends; otherwise elements are
            cells, whose borders stay there. Not for the first three modes.
        recompute_scale_factor: whether the factor is that of the rounded size.
        antialias: whether to average over more elements where the result is smaller: 'bilinear' and
            'bicubic'.

    Returns:
        Array of shape (batch, channels, *size), of the dtype of x.

    Raises:
        ValueError: the mode is unknown, or does not go with the array or the other arguments.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.interpolate(fnp.array([[[1.0, 2.0]]]), scale_factor=2, mode="linear")
        Array([[[1.  , 1.25, 1.75, 2.  ]]], dtype=float32)

    References:
        R. Keys, "Cubic convolution interpolation for digital image processing", IEEE Transactions
        on Acoustics, Speech, and Signal Processing 29 (1981).
    """
    x = fnp.asarray(x)
    rule = _checked_mode(x, mode, align_corners, antialias)
    m = x.ndim - 2
    factors: tuple[Any, ...] = (None,) * m
    if (size is None) == (scale_factor is None):
        raise ValueError(
            f"interpolate takes either size or scale_factor; it was given size={size}, "
            f"scale_factor={scale_factor}"
        )
    if size is not None:
        outs = tuple(int(n) for n in _each("size", size, m))
    else:
        given = tuple(float(f) for f in _each("scale_factor", scale_factor, m))
        outs = tuple(math.floor(n * f) for n, f in zip(x.shape[2:], given, strict=True))
        factors = factors if recompute_scale_factor else given
    if min((*outs, *x.shape[2:])) < 1:
        raise ValueError(
            f"interpolate takes sizes of 1 or more; it was to make {outs} of {x.shape[2:]}"
        )
    if rule is None:
        return averaged(x, outs)
    y = x.astype(fnp.float32) if x.dtype.itemsize < 4 and mode[:7] != "nearest" else x
    kind = np.float64 if x.dtype == np.float64 else np.float32
    for k, (out, factor) in enumerate(zip(outs, factors, strict=True)):
        y = _read(y, 2 + k, rule(x.shape[2 + k], out, factor, bool(align_corners), kind))
    return y.astype(x.dtype)


def _checked_mode(
    x: ft.Array, mode: str, align_corners: bool | None, antialias: bool
) -> Callable[..., Reads] | None:
    if mode not in _MODES:
        raise ValueError(
            f"interpolate takes mode {', '.join(map(repr, _MODES))}; it was given {mode!r}"
        )
    rule, spaces, cornered = _MODES[mode]
    if x.ndim - 2 not in spaces:
        raise ValueError(
            f"interpolate with mode {mode!r} takes an array of shape (batch, channels, *space) "
            f"with {' or '.join(map(str, spaces))} axes of space; it was given one of shape "
            f"{x.shape}"
        )
    if align_corners is not None and not cornered:
        raise ValueError(f"interpolate with mode {mode!r} does not take align_corners")
    if not antialias:
        return rule
    if mode not in _ANTIALIASED:
        raise ValueError(
            f"interpolate takes antialias with mode {' or '.join(map(repr, _ANTIALIASED))}; the "
            f"mode is {mode!r}"
        )
    return _ANTIALIASED[mode]


def _each(name: str, value: Any, count: int) -> tuple[Any, ...]:
    out = (value,) * count if isinstance(value, (int, float)) else tuple(value)
    if len(out) != count:
        raise ValueError(
            f"interpolate takes {name} as a number or {count} of them; it was given {value!r}"
        )
    return out


# ---------------------------------------------------------------------------------------- layers
def _hashable(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float)) else tuple(value)


class Upsample(Module):
    """Resize lines, images or volumes to a size, or by a factor; as `interpolate`.

    Args:
        size: int, or one per axis of space.
        scale_factor: number, or one per axis, in place of size.
        mode: 'nearest', 'linear', 'bilinear', 'bicubic' or 'trilinear'.
        align_corners: whether the first and last elements stay at the ends.
        recompute_scale_factor: whether the factor is that of the rounded size.

    Raises:
        ValueError: when called, the arguments do not go with each other or the input.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Upsample(scale_factor=2)(fnp.array([[[1.0, 2.0]]]))
        Array([[[1., 1., 2., 2.]]], dtype=float32)
    """

    size: int | tuple[int, ...] | None = static()
    scale_factor: float | tuple[float, ...] | None = static()
    mode: str = static()
    align_corners: bool | None = static()
    recompute_scale_factor: bool | None = static()

    def __init__(
        self, size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None, mode: str = "nearest",
        align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    ) -> None:  # fmt: skip
        self.size, self.scale_factor = _hashable(size), _hashable(scale_factor)
        self.mode, self.align_corners = mode, align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def __call__(self, x: Any) -> ft.Array:
        """Map x of (batch, channels, *space) to another size of space."""
        return interpolate(
            x,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
        )


class _Upsampling2d(Upsample):
    way: ClassVar[dict[str, Any]]

    def __init__(
        self, size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(size, scale_factor, **self.way)


class UpsamplingNearest2d(_Upsampling2d):
    """Resize images, each place taking the nearest element.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.UpsamplingNearest2d(scale_factor=2)(fnp.ones((1, 3, 4, 5))).shape
        (1, 3, 8, 10)
    """

    way: ClassVar[dict[str, Any]] = {"mode": "nearest"}


class UpsamplingBilinear2d(_Upsampling2d):
    """Resize images bilinearly, corners staying where they are.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.UpsamplingBilinear2d(size=(1, 3))(fnp.array([[[[1.0, 2.0]]]]))
        Array([[[[1. , 1.5, 2. ]]]], dtype=float32)
    """

    way: ClassVar[dict[str, Any]] = {"mode": "bilinear", "align_corners": True}
