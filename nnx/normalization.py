"""Normalisation by what one sample holds: no statistics are kept between calls.

Means are taken in float32 or wider; the result has the dtype of the input and the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, nn

from .module import Module, static, title

__all__ = ["CrossMapLRN2d", "GroupNorm", "LayerNorm", "LocalResponseNorm", "RMSNorm"]


def _wide(x: ft.Array) -> ft.Array:
    return x.astype(fnp.float32) if x.dtype.itemsize < 4 else x


def _result(y: ft.Array, x: ft.Array, weight: ft.Array | None) -> ft.Array:
    return y.astype(x.dtype if weight is None else fnp.promote_types(x.dtype, weight.dtype))


def _trailing(layer: Module, x: Any, shape: tuple[int, ...]) -> tuple[ft.Array, tuple[int, ...]]:
    """Return the input and its last axes, which must have the shape."""
    x = fnp.asarray(x)
    if x.ndim < len(shape) or x.shape[x.ndim - len(shape) :] != shape:
        wanted = ", ".join(("...", *map(str, shape)))
        raise ValueError(
            f"{title(layer)} takes an array of shape ({wanted}); it was given one of shape "
            f"{x.shape}"
        )
    return x, tuple(range(-len(shape), 0))


def _shape(name: str, shape: int | Sequence[int]) -> tuple[int, ...]:
    out = (shape,) if isinstance(shape, int) else tuple(shape)
    if not out or any(not isinstance(n, int) or n < 1 for n in out):
        raise ValueError(
            f"{name} takes normalized_shape as a positive int or several; it was given {shape!r}"
        )
    return out


class LayerNorm(Module):
    """Shift and scale the last axes to mean 0 and variance 1, then by learned parameters.

    y = (x - mean) / sqrt(variance + eps) * weight + bias

    Args:
        normalized_shape: sizes of the last axes, over which mean and variance are taken.
        eps: what is added to the variance.
        elementwise_affine: whether there is a weight, one at first.
        bias: whether there is a bias too, zero at first.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: a size is not positive; or, when called, the last axes have other sizes.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.LayerNorm(2)(fnp.array([[1.0, 3.0], [5.0, 1.0]])).round(3)
        Array([[-1.,  1.],
               [ 1., -1.]], dtype=float32)

    References:
        J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", 2016.
    """

    weight: ft.Array | None
    bias: ft.Array | None
    normalized_shape: tuple[int, ...] = static()
    eps: float = static()

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float = 1e-5,
        elementwise_affine: bool = True, bias: bool = True, *, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        self.normalized_shape = _shape("LayerNorm", normalized_shape)
        self.eps = eps
        self.weight = fnp.ones(self.normalized_shape, dtype) if elementwise_affine else None
        with_bias = elementwise_affine and bias
        self.bias = fnp.zeros(self.normalized_shape, dtype) if with_bias else None

    def __call__(self, x: Any) -> ft.Array:
        """Normalise x of shape (..., *normalized_shape)."""
        x, axes = _trailing(self, x, self.normalized_shape)
        y = _normalized(_wide(x), axes, self.eps)
        y = y if self.weight is None else y * self.weight
        y = y if self.bias is None else y + self.bias
        return _result(y, x, self.weight)


def _normalized(x: ft.Array, axes: tuple[int, ...], eps: float) -> ft.Array:
    return nn.standardize(x, axes, epsilon=eps, algorithm="stable")


class RMSNorm(Module):
    """Scale the last axes to mean square 1, then by learned parameters.

    y = x / sqrt(mean(x²) + eps) * weight

    Args:
        normalized_shape: sizes of the last axes, over which the mean is taken.
        eps: what is added to the mean; None is the distance from 1 to the next number of x's dtype.
        elementwise_affine: whether there is a weight, one at first.
        dtype: floating-point dtype of the weight.

    Raises:
        ValueError: a size is not positive; or, when called, the last axes have other sizes.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.RMSNorm(2)(fnp.array([1.0, 7.0])).round(2)
        Array([0.2, 1.4], dtype=float32)

    References:
        B. Zhang, R. Sennrich, "Root mean square layer normalization", NeurIPS 2019.
    """

    weight: ft.Array | None
    normalized_shape: tuple[int, ...] = static()
    eps: float | None = static()

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float | None = None,
        elementwise_affine: bool = True, *, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        self.normalized_shape = _shape("RMSNorm", normalized_shape)
        self.eps = eps
        self.weight = fnp.ones(self.normalized_shape, dtype) if elementwise_affine else None

    def __call__(self, x: Any) -> ft.Array:
        """Normalise x of shape (..., *normalized_shape)."""
        x, axes = _trailing(self, x, self.normalized_shape)
        eps = float(fnp.finfo(x.dtype).eps) if self.eps is None else self.eps
        y = _wide(x)
        y = y * lax.rsqrt(fnp.square(y).mean(axes, keepdims=True) + eps)
        return _result(y if self.weight is None else y * self.weight, x, self.weight)


class GroupNorm(Module):
    """Shift and scale groups of channels to mean 0 and variance 1, then by learned parameters.

    Args:
        num_groups: how many groups there are.
        num_channels: size of axis 1 of the input, a multiple of num_groups.
        eps: what is added to the variance.
        affine: whether each channel has a weight, one at first, and a bias, zero at first.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: num_channels is no multiple of num_groups; or, when called, the input has
            another number of channels.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.GroupNorm(3, 6)(fnp.ones((20, 6, 10, 10))).shape
        (20, 6, 10, 10)

    References:
        Y. Wu, K. He, "Group normalization", ECCV 2018.
    """

    weight: ft.Array | None
    bias: ft.Array | None
    num_groups: int = static()
    num_channels: int = static()
    eps: float = static()

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, *,
        dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        if num_groups < 1 or num_channels < 1 or num_channels % num_groups:
            raise ValueError(
                "GroupNorm takes a positive num_channels that is a multiple of num_groups; it was "
                f"given num_groups={num_groups}, num_channels={num_channels}"
            )
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = fnp.ones(num_channels, dtype) if affine else None
        self.bias = fnp.zeros(num_channels, dtype) if affine else None

    def __call__(self, x: Any) -> ft.Array:
        """Normalise x of shape (batch, num_channels, ...)."""
        x = fnp.asarray(x)
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ValueError(
                f"{title(self)} takes an array of shape (batch, {self.num_channels}, ...); it was "
                f"given one of shape {x.shape}"
            )
        size = math.prod(x.shape[1:]) // self.num_groups
        y = _normalized(_wide(x).reshape(x.shape[0], self.num_groups, size), (-1,), self.eps)
        y = y.reshape(x.shape)
        if self.weight is not None and self.bias is not None:
            channels = (-1, *(1,) * (x.ndim - 2))
            y = y * self.weight.reshape(channels) + self.bias.reshape(channels)
        return _result(y, x, self.weight)


class LocalResponseNorm(Module):
    """Divide by the size of neighbouring channels.

    y = x / (k + alpha * a) ** beta, where a is the mean of x² over ``size`` channels around.

    Args:
        size: how many channels count.
        alpha: weight of the mean.
        beta: the exponent.
        k: what is added.

    Raises:
        ValueError: when called, the input has fewer than three axes.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.LocalResponseNorm(2)(fnp.ones((32, 5, 24, 24))).shape
        (32, 5, 24, 24)

    References:
        A. Krizhevsky, I. Sutskever, G. E. Hinton, "ImageNet classification with deep convolutional
        neural networks", NeurIPS 2012.
    """

    size: int = static()
    alpha: float = static(1e-4)
    beta: float = static(0.75)
    k: float = static(1.0)

    def __call__(self, x: Any) -> ft.Array:
        """Normalise x of shape (batch, channels, ..., length)."""
        x = fnp.asarray(x)
        if x.ndim < 3:
            raise ValueError(
                f"{title(self)} takes an array of three or more axes, (batch, channels, ...); it "
                f"was given one of shape {x.shape}"
            )
        return _by_neighbours(self, x, self.size // 2)


class CrossMapLRN2d(Module):
    """Divide by the size of neighbouring channels, as many of them on both sides.

    As `LocalResponseNorm`, with PyTorch's numbers for this layer: of an even ``size`` the sum goes
    over size - 1 channels, and once the first channel is in it, it stays there.

    Args:
        size: how many channels count.
        alpha: weight of the mean.
        beta: the exponent.
        k: what is added.

    Raises:
        ValueError: when called, the input has not four axes.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.CrossMapLRN2d(3)(fnp.ones((32, 5, 24, 24))).shape
        (32, 5, 24, 24)
    """

    size: int = static()
    alpha: float = static(1e-4)
    beta: float = static(0.75)
    k: float = static(1.0)

    def __call__(self, x: Any) -> ft.Array:
        """Normalise x of shape (batch, channels, height, width)."""
        x = fnp.asarray(x)
        if x.ndim != 4:
            raise ValueError(
                f"{title(self)} takes an array of shape (batch, channels, height, width); it was "
                f"given one of shape {x.shape}"
            )
        reach = (self.size - 1) // 2
        far = fnp.arange(x.shape[1]) > reach  # from the first channel
        first = fnp.square(_wide(x))[:, :1] * far[:, None, None]
        return _by_neighbours(self, x, reach, first)


def _by_neighbours(layer: Any, x: ft.Array, before: int, more: Any = 0) -> ft.Array:
    """Divide by a power of the sum of squares of each channel and its neighbours."""
    after = (layer.size - 1) // 2
    rest = (1,) * (x.ndim - 2)
    pads = [(0, 0), (before, after), *[(0, 0)] * len(rest)]
    squares, window = fnp.square(_wide(x)), (1, before + after + 1, *rest)
    total = lax.reduce_window(squares, 0, lax.add, window, (1,) * x.ndim, pads) + more
    return x / ((total * (layer.alpha / layer.size) + layer.k) ** layer.beta).astype(x.dtype)
