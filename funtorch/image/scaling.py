"""Resampling: each axis is multiplied by a matrix of kernel values, whose rows sum to 1.

References:
    K. Turkowski, "Filters for common resampling tasks", 1990.
    R. Keys, "Cubic convolution interpolation for digital image processing", 1981.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.numpy import promotion
from funtorch.numpy.promotion import check_precision

__all__ = ["ResizeMethod", "resize", "scale_and_translate"]


class ResizeMethod(enum.Enum):
    """How values between pixels are found."""

    NEAREST = 0
    LINEAR = 1
    LANCZOS3 = 2
    LANCZOS5 = 3
    CUBIC = 4
    CUBIC_PYTORCH = 5
    AREA = 6

    @staticmethod
    def from_string(s: str) -> ResizeMethod:
        """Return the method of a name such as 'linear', 'bilinear', 'bicubic' or 'lanczos3'.

        Raises:
            ValueError: there is none.
        """
        if s not in _NAMES:
            raise ValueError(f"method must be one of {', '.join(map(repr, _NAMES))}, got {s!r}")
        return _NAMES[s]


_NAMES = {
    "nearest": ResizeMethod.NEAREST,
    **dict.fromkeys(("linear", "bilinear", "trilinear", "triangle"), ResizeMethod.LINEAR),
    "lanczos3": ResizeMethod.LANCZOS3,
    "lanczos5": ResizeMethod.LANCZOS5,
    **dict.fromkeys(("cubic", "bicubic", "tricubic"), ResizeMethod.CUBIC),
    **dict.fromkeys(("cubic-pytorch", "bicubic-pytorch"), ResizeMethod.CUBIC_PYTORCH),
    "area": ResizeMethod.AREA,
}


def _triangle(x: Any) -> Any:
    return fnp.maximum(0, 1 - abs(x))


def _lanczos(radius: int) -> Callable[[Any], Any]:
    def kernel(x: Any) -> Any:
        inner = fnp.sinc(x) * fnp.sinc(x / radius)
        return fnp.where(x > radius, 0.0, inner)

    return kernel


def _cubic(a: float) -> Callable[[Any], Any]:
    def kernel(x: Any) -> Any:
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return fnp.where(x >= 2, 0.0, fnp.where(x >= 1, far, near))

    return kernel


_KERNELS = {
    ResizeMethod.LINEAR: _triangle,
    ResizeMethod.LANCZOS3: _lanczos(3),
    ResizeMethod.LANCZOS5: _lanczos(5),
    ResizeMethod.CUBIC: _cubic(-0.5),
    ResizeMethod.CUBIC_PYTORCH: _cubic(-0.75),
}


def _between(n: int, place: Any, kernel: Callable[[Any], Any], wide: Any, margin: int) -> Any:
    """Return a kernel's values at the distances of places from n old pixels, and some beyond."""
    old = fnp.arange(-margin, n + margin, dtype=place.dtype)
    values = kernel(abs(place[None, :] - old[:, None]) / wide)
    if not margin:
        return values
    # What lies beyond the ends counts for the pixels at the ends.
    inner = values[margin : n + margin]
    inner = inner.at[0].add(fnp.sum(values[:margin], 0))
    return inner.at[-1].add(fnp.sum(values[n + margin :], 0))


def _overlaps(n: int, start: Any, end: Any) -> Any:
    """Return the lengths that n old pixels share with the new ones."""
    old = fnp.arange(n, dtype=start.dtype)[:, None]
    return fnp.maximum(0, fnp.minimum(end, old + 1) - fnp.maximum(start, old))


def _weights(n: int, m: int, scale: Any, shift: Any, way: _Way, dtype: Any) -> Any:
    """Return the matrix (n, m) that resamples an axis of size n to size m."""
    inverse = 1.0 / scale
    new = fnp.arange(m, dtype=dtype)
    # Where the centre of each new pixel lies, counted in centres of old ones.
    place = (new + 0.5) * inverse - shift * inverse - 0.5
    if way.method is ResizeMethod.AREA:
        start = new * inverse - shift * inverse
        values = _overlaps(n, start, start + inverse)
    else:
        wide = fnp.maximum(inverse, 1.0) if way.antialias else fnp.asarray(1.0, dtype)
        values = _between(n, place, _KERNELS[way.method], wide, way.margin)
    total = fnp.sum(values, 0, keepdims=True)
    fine = abs(total) > 1000.0 * float(np.finfo(np.float32).eps)
    values = fnp.where(fine, values / fnp.where(total != 0, total, 1), 0)
    if way.margin:
        return values
    inside = (place >= -0.5) & (place <= n - 0.5)
    return fnp.where(inside[None, :], values, 0)


class _Way(NamedTuple):
    """How an axis is resampled; ``margin`` pixels beyond the ends repeat those at the ends."""

    method: ResizeMethod
    antialias: bool
    margin: int


def _way(method: Any, antialias: bool) -> _Way:
    chosen = _method(method)
    if chosen is not ResizeMethod.CUBIC_PYTORCH:
        return _Way(chosen, bool(antialias), 0)
    if antialias:
        return _Way(ResizeMethod.CUBIC, True, 0)
    return _Way(chosen, False, 2)


def _method(method: Any) -> ResizeMethod:
    if isinstance(method, ResizeMethod):
        return method
    if isinstance(method, str):
        return ResizeMethod.from_string(method)
    raise TypeError(f"method must be a ResizeMethod or its name, got {method!r:.80}")


def _resampled(x: Any, shape: Any, axes: Sequence[int], scale: Any, shift: Any, way: _Way) -> Any:
    for j, k in enumerate(axes):
        w = _weights(x.shape[k], shape[k], scale[j], shift[j], way, dtypes.real_dtype(x.dtype))
        x = fnp.moveaxis(fnp.moveaxis(x, k, -1) @ promotion.convert(w, x.dtype), -1, k)
    return x


def scale_and_translate(
    image: Any,
    shape: Sequence[int],
    spatial_dims: Sequence[int],
    scale: Any,
    translation: Any,
    method: str | ResizeMethod,
    antialias: bool = True,
    precision: Any = None,
) -> Any:
    """Scale and move an image: place y of the result is place (y - translation) / scale.

    Args:
        image: array.
        shape: shape of the result; axes that are no spatial ones keep their sizes.
        spatial_dims: the axes to resample.
        scale, translation: vectors with an entry per spatial axis; they may be traced.
        method: a `ResizeMethod` or its name; not 'nearest'.
        antialias: widen the kernel where an image becomes smaller.
        precision: accepted for JAX's sake.

    Returns:
        An Array of the given shape, 0 where it lies outside of the image.

    Raises:
        ValueError: shapes do not fit, or the method is 'nearest'.

    References:
        jax.image.scale_and_translate
    """
    check_precision(precision, "scale_and_translate")
    name = "scale_and_translate"
    x = promotion.to_array(image, name, "image")
    sizes = promotion.canonical_shape(shape, name)
    axes = [promotion.canonical_axis(k, x.ndim, name) for k in spatial_dims]
    _check_shapes(name, x, sizes, axes)
    if _method(method) is ResizeMethod.NEAREST:
        raise ValueError(f"{name}: the method 'nearest' is not supported; use resize")
    x = promotion.convert(x, dtypes.to_inexact(x.dtype))
    factors, shifts = (
        promotion.convert(fnp.asarray(v), dtypes.real_dtype(x.dtype)) for v in (scale, translation)
    )
    for label, v in (("scale", factors), ("translation", shifts)):
        if v.shape != (len(axes),):
            raise ValueError(
                f"{name}: {label} must have an entry for each of the {len(axes)} axes, got "
                f"{promotion.describe(v)}"
            )
    return _resampled(x, sizes, axes, factors, shifts, _way(method, antialias))


def _check_shapes(name: str, x: Any, sizes: tuple[int, ...], axes: Sequence[int]) -> None:
    kept = [k for k in range(x.ndim) if k not in axes]
    if len(sizes) != x.ndim or any(sizes[k] != x.shape[k] for k in kept):
        raise ValueError(
            f"{name}: shape {sizes} must have the axes of image, {promotion.describe(x)}, and its "
            f"sizes in axes {kept}"
        )


def resize(
    image: Any,
    shape: Sequence[int],
    method: str | ResizeMethod,
    antialias: bool = True,
    precision: Any = None,
) -> Any:
    """Resize an image.

    Args:
        image: array.
        shape: shape of the result, of as many axes.
        method: a `ResizeMethod` or its name: 'nearest', 'linear', 'cubic', 'lanczos3', 'lanczos5',
            'area', or 'cubic-pytorch', which is PyTorch's.
        antialias: widen the kernel where an image becomes smaller.
        precision: accepted for JAX's sake.

    Returns:
        An Array of the given shape; integers become floats unless the method is 'nearest'.

    Raises:
        ValueError: the number of axes differs, or there is no such method.

    Example:
        >>> resize(fnp.asarray([0.0, 2.0]), (4,), "linear").tolist()
        [0.0, 0.5, 1.5, 2.0]

    References:
        jax.image.resize
    """
    check_precision(precision, "resize")
    x = promotion.to_array(image, "resize", "image")
    sizes = promotion.canonical_shape(shape, "resize")
    if len(sizes) != x.ndim:
        raise ValueError(
            f"resize: shape {sizes} must have as many axes as image, {promotion.describe(x)}"
        )
    chosen = _method(method)
    axes = [k for k in range(x.ndim) if x.shape[k] != sizes[k]]
    if chosen is ResizeMethod.NEAREST:
        for k in axes:
            places = np.floor((np.arange(sizes[k]) + 0.5) * x.shape[k] / sizes[k])
            x = fnp.take(x, places.astype(np.int32), k, mode="clip")
        return x
    x = promotion.convert(x, dtypes.to_inexact(x.dtype))
    real = dtypes.real_dtype(x.dtype)
    scale = [fnp.asarray(1.0 if not x.shape[k] else sizes[k] / x.shape[k], real) for k in axes]
    shift = [fnp.asarray(0.0, real)] * len(axes)
    return _resampled(x, sizes, axes, scale, shift, _way(chosen, antialias))
