"""Normalization by statistics of batches and instances, with running ones for evaluation.

Names, numbers and buffers are PyTorch's.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

from .module import Module, buffer, static, title

__all__ = [
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "InstanceNorm1d", "InstanceNorm2d",
    "InstanceNorm3d",
]  # fmt: skip


def _moments(x: Any, axes: tuple[int, ...], axis_name: Any) -> tuple[Any, Any]:
    """Return mean and biased variance with axes of size 1, in float32 or better."""
    wide = x.astype(fnp.promote_types(x.dtype, fnp.float32))
    mean = wide.mean(axes, keepdims=True)
    if axis_name is not None:
        mean = lax.pmean(mean, axis_name)
    var = fnp.square(wide - mean).mean(axes, keepdims=True)
    return mean, var if axis_name is None else lax.pmean(var, axis_name)


def _unbiasing(count: Any, dtype: Any) -> Any:
    """Return n / (n - 1), in the variance's precision also where n is known only to a transform."""
    if isinstance(count, int):
        return count / max(count - 1, 1)
    wide = count.astype(dtype)
    return wide / fnp.maximum(wide - 1, 1)


class _Norm(Module):
    """What batch and instance normalization share."""

    weight: ft.Array | None
    bias: ft.Array | None
    running_mean: ft.Array | None = buffer()
    running_var: ft.Array | None = buffer()
    num_batches_tracked: ft.Array | None = buffer()
    num_features: int = static()
    eps: float = static()
    momentum: float | None = static()

    ranks: ClassVar[tuple[int, ...]]
    space: ClassVar[str]

    def _fill(
        self, num_features: int, eps: float, momentum: float | None, affine: bool, tracked: bool,
        dtype: Any,
    ) -> None:  # fmt: skip
        if num_features < 0:
            raise ValueError(
                f"{type(self).__name__} takes num_features of 0 or more; it was given "
                f"{num_features}"
            )
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = fnp.ones(num_features, dtype) if affine else None
        self.bias = fnp.zeros(num_features, dtype) if affine else None
        self.running_mean = fnp.zeros(num_features, dtype) if tracked else None
        self.running_var = fnp.ones(num_features, dtype) if tracked else None
        self.num_batches_tracked = fnp.zeros((), fnp.int64) if tracked else None

    def _checked(self, x: Any, shapes: str, channel: int) -> Any:
        x = fnp.asarray(x)
        if x.ndim not in self.ranks:
            raise ValueError(
                f"{title(self)} takes an array of shape {shapes}; it was given one of shape "
                f"{x.shape}"
            )
        if x.shape[channel] != self.num_features:
            raise ValueError(
                f"{title(self)} takes {self.num_features} channels; it was given an array of shape "
                f"{x.shape}"
            )
        if not fnp.issubdtype(x.dtype, fnp.floating):
            raise ValueError(
                f"{title(self)} takes a floating-point array; it was given one of {x.dtype}"
            )
        return x

    def _along(self, parameter: Any, x: Any) -> Any:
        """Return one number a channel in a shape that goes with x of (batch, channels, ...)."""
        return parameter.reshape(-1, *(1,) * (x.ndim - 2))

    def _normalized(self, x: Any, mean: Any, var: Any) -> ft.Array:
        scale = lax.rsqrt(var + self.eps)
        if self.weight is not None:
            scale = scale * self._along(self.weight, x)
        y = (x - mean) * scale
        if self.bias is not None:
            y = y + self._along(self.bias, x)
        return y.astype(x.dtype)

    def _by_running(self, x: Any) -> ft.Array:
        return self._normalized(
            x, self._along(self.running_mean, x), self._along(self.running_var, x)
        )

    def _mixed(self, factor: Any, mean: Any, var: Any) -> dict[str, Any]:
        """Return the running statistics after new ones, which weigh ``factor``."""
        old_mean, old_var = self.running_mean, self.running_var
        return {
            "running_mean": ((1 - factor) * old_mean + factor * mean).astype(old_mean.dtype),
            "running_var": ((1 - factor) * old_var + factor * var).astype(old_var.dtype),
        }


class _BatchNorm(_Norm):
    axis_name: Any = static(None)

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
        affine: bool = True, track_running_stats: bool = True, *, axis_name: Any = None,
        dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        self._fill(num_features, eps, momentum, affine, track_running_stats, dtype)
        self.axis_name = axis_name

    def __call__(self, x: Any) -> ft.Array:
        """Normalize x of (batch, channels, *space)."""
        x = self._checked(x, self.space, 1)
        if not self.training and self.running_mean is not None:
            return self._by_running(x)
        axes = (0, *range(2, x.ndim))
        count = math.prod(x.shape[a] for a in axes)
        if self.axis_name is not None:
            count = count * lax.psum(1, self.axis_name)
        if isinstance(count, int) and count == 1:
            raise ValueError(
                f"{title(self)} with statistics of the batch takes more than 1 value per channel; "
                f"it was given an array of shape {x.shape}"
            )
        mean, var = _moments(x, axes, self.axis_name)
        if self.training and self.running_mean is not None:
            unbiased = var * _unbiasing(count, var.dtype)
            self.observe(mean=mean.ravel(), var=unbiased.ravel())
        return self._normalized(x, mean, var)

    def absorb(self, mean: Any, var: Any) -> Any:
        """Move the running statistics towards those of a batch."""
        tracked = self.num_batches_tracked + 1
        factor = 1 / tracked if self.momentum is None else self.momentum
        return self.replace(num_batches_tracked=tracked, **self._mixed(factor, mean, var))


class BatchNorm1d(_BatchNorm):
    """Normalize each channel over the batch: (batch, channels) or (batch, channels, length).

    y = (x - mean) / sqrt(var + eps) * weight + bias. In training (see `train`) mean and variance
    are those of the batch, and the running ones move towards them by ``momentum``; in evaluation
    they are the running ones.

    Args:
        num_features: number of channels.
        eps: what is added to the variance.
        momentum: weight of a new batch in the running statistics; None: their plain average.
        affine: whether there are weight and bias.
        track_running_stats: whether there are running statistics; without them those of the batch
            are used also in evaluation.
        axis_name: name of a mapped axis, or names, over which statistics are computed too.
        dtype: floating-point dtype of parameters and statistics.

    Raises:
        ValueError: num_features is negative; or, when called, the input's shape or dtype does not
            fit, or has one value per channel in training.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> y, layer = nnx.train(nnx.BatchNorm1d(2))(fnp.array([[1.0, 2.0], [3.0, 6.0]]))
        >>> layer.running_mean, layer.running_var
        (Array([0.2, 0.4], dtype=float32), Array([1.1, 1.7], dtype=float32))

    References:
        Ioffe, Szegedy, "Batch normalization", ICML (2015).
    """

    ranks: ClassVar[tuple[int, ...]] = (2, 3)
    space: ClassVar[str] = "(batch, channels) or (batch, channels, length)"


class BatchNorm2d(_BatchNorm):
    """Normalize each channel over the batch: (batch, channels, height, width); as `BatchNorm1d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.BatchNorm2d(3)(fnp.ones((2, 3, 8, 8))).shape
        (2, 3, 8, 8)
    """

    ranks: ClassVar[tuple[int, ...]] = (4,)
    space: ClassVar[str] = "(batch, channels, height, width)"


class BatchNorm3d(_BatchNorm):
    """Normalize each channel over the batch: (batch, channels, depth, height, width).

    As `BatchNorm1d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.BatchNorm3d(3)(fnp.ones((2, 3, 4, 4, 4))).shape
        (2, 3, 4, 4, 4)
    """

    ranks: ClassVar[tuple[int, ...]] = (5,)
    space: ClassVar[str] = "(batch, channels, depth, height, width)"


class _InstanceNorm(_Norm):
    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
        affine: bool = False, track_running_stats: bool = False, *, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        self._fill(num_features, eps, momentum, affine, track_running_stats, dtype)

    def __call__(self, x: Any) -> ft.Array:
        """Normalize x of (batch, channels, *space) or (channels, *space)."""
        x = self._checked(x, self.space, -self.ranks[0])
        y = self._of_batch(x if x.ndim == self.ranks[1] else x[None])
        return y.reshape(x.shape)

    def _of_batch(self, x: Any) -> ft.Array:
        if not self.training and self.running_mean is not None:
            return self._by_running(x)
        axes = tuple(range(2, x.ndim))
        count = math.prod(x.shape[2:])
        if count == 1:
            raise ValueError(
                f"{title(self)} takes more than 1 value per channel and sample; it was given an "
                f"array of shape {x.shape}"
            )
        mean, var = _moments(x, axes, None)
        if self.training and self.running_mean is not None:
            unbiased = var * (count / max(count - 1, 1))
            flat = (x.shape[0], self.num_features)
            self.observe(mean=mean.reshape(flat).mean(0), var=unbiased.reshape(flat).mean(0))
        return self._normalized(x, mean, var)

    def absorb(self, mean: Any, var: Any) -> Any:
        """Move the running statistics towards those of a batch."""
        return self.replace(**self._mixed(self.momentum or 0.0, mean, var))


class InstanceNorm1d(_InstanceNorm):
    """Normalize each channel of each sample: (batch, channels, length) or (channels, length).

    y = (x - mean) / sqrt(var + eps) * weight + bias, with mean and variance of the channel in the
    sample; with ``track_running_stats`` in evaluation the running ones, as in `BatchNorm1d`.

    Args:
        num_features: number of channels.
        eps: what is added to the variance.
        momentum: weight of new statistics in the running ones; None: 0, as in PyTorch.
        affine: whether there are weight and bias.
        track_running_stats: whether there are running statistics, which evaluation uses.
        dtype: floating-point dtype of parameters and statistics.

    Raises:
        ValueError: num_features is negative; or, when called, the input's shape or dtype does not
            fit, or has one value per channel.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.InstanceNorm1d(1, eps=0)(fnp.array([[1.0, 3.0]]))
        Array([[-1.,  1.]], dtype=float32)

    References:
        Ulyanov et al., "Instance normalization", arXiv:1607.08022 (2016).
    """

    ranks: ClassVar[tuple[int, ...]] = (2, 3)
    space: ClassVar[str] = "(batch, channels, length) or (channels, length)"


class InstanceNorm2d(_InstanceNorm):
    """Normalize each channel of each sample: (batch, channels, height, width).

    As `InstanceNorm1d`; the batch axis may be missing.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.InstanceNorm2d(3)(fnp.ones((2, 3, 8, 8))).shape
        (2, 3, 8, 8)
    """

    ranks: ClassVar[tuple[int, ...]] = (3, 4)
    space: ClassVar[str] = "(batch, channels, height, width) or (channels, height, width)"


class InstanceNorm3d(_InstanceNorm):
    """Normalize each channel of each sample: (batch, channels, depth, height, width).

    As `InstanceNorm1d`; the batch axis may be missing.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.InstanceNorm3d(3)(fnp.ones((2, 3, 4, 4, 4))).shape
        (2, 3, 4, 4, 4)
    """

    ranks: ClassVar[tuple[int, ...]] = (4, 5)
    space: ClassVar[str] = (
        "(batch, channels, depth, height, width) or (channels, depth, height, width)"
    )
