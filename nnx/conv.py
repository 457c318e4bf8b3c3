"""Convolution and pooling layers: PyTorch's parameters, layouts and numbers.

Inputs are (batch, channels, *space), or (channels, *space) for one sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, random

from .module import Module, static, title

__all__ = [
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
]

Sizes = int | Sequence[int]
_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _sizes(layer: str, name: str, value: Sizes, count: int, least: int = 1) -> tuple[int, ...]:
    """Return an int or ``count`` of them as a tuple."""
    out = (value,) * count if isinstance(value, int) else tuple(value)
    if len(out) != count or any(not isinstance(n, int) or n < least for n in out):
        raise ValueError(
            f"{layer} takes {name} as an int or {count} ints of {least} or more; it was given "
            f"{value!r}"
        )
    return out


def _samples(layer: Module, x: Any, space: int) -> tuple[Any, bool]:
    """Return the input with a batch axis, and whether it had one."""
    x = fnp.asarray(x)
    if x.ndim not in (space + 1, space + 2):
        raise ValueError(
            f"{title(layer)} takes an array of shape (batch, channels, {_axes(space)}) or "
            f"(channels, {_axes(space)}); it was given one of shape {x.shape}"
        )
    return (x, True) if x.ndim == space + 2 else (x[None], False)


def _axes(space: int) -> str:
    return ", ".join(("depth", "height", "width")[-space:]) if space > 1 else "length"


# ------------------------------------------------------------------------------------- convolution
class _Conv(Module):
    """What convolution layers of all ranks share."""

    weight: ft.Array
    bias: ft.Array | None
    in_channels: int = static()
    out_channels: int = static()
    kernel_size: tuple[int, ...] = static()
    stride: tuple[int, ...] = static()
    padding: str | tuple[int, ...] = static()
    dilation: tuple[int, ...] = static()
    groups: int = static()
    padding_mode: str = static()

    space: ClassVar[int]

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1,
        padding: str | Sizes = 0, dilation: Sizes = 1, groups: int = 1, bias: bool = True,
        padding_mode: str = "zeros", *, key: Any, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        name, m = type(self).__name__, self.space
        if min(in_channels, out_channels, groups) < 1 or in_channels % groups:
            raise ValueError(
                f"{name} takes positive channels, in_channels a multiple of groups; it was given "
                f"in_channels={in_channels}, out_channels={out_channels}, groups={groups}"
            )
        if out_channels % groups:
            raise ValueError(
                f"{name} takes out_channels that are a multiple of groups; it was given "
                f"out_channels={out_channels}, groups={groups}"
            )
        if padding_mode != "zeros" and padding_mode not in _PAD_MODES:
            raise ValueError(
                f"{name} takes padding_mode 'zeros', {', '.join(map(repr, _PAD_MODES))}; it was "
                f"given {padding_mode!r}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = _sizes(name, "kernel_size", kernel_size, m)
        self.stride = _sizes(name, "stride", stride, m)
        self.dilation = _sizes(name, "dilation", dilation, m)
        self.padding_mode = padding_mode
        if isinstance(padding, str):
            if padding not in ("same", "valid") or (padding == "same" and max(self.stride) > 1):
                raise ValueError(
                    f"{name} takes padding 'valid', 'same' (with stride 1) or sizes; it was given "
                    f"{padding!r} with stride {self.stride}"
                )
            self.padding = padding
        else:
            self.padding = _sizes(name, "padding", padding, m, 0)
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        weight_key, bias_key = random.split(key)
        self.weight = random.uniform(weight_key, shape, dtype, -bound, bound)
        self.bias = random.uniform(bias_key, shape[:1], dtype, -bound, bound) if bias else None

    def _pads(self) -> list[tuple[int, int]]:
        if self.padding == "valid":
            return [(0, 0)] * self.space
        if self.padding == "same":
            totals = [d * (k - 1) for k, d in zip(self.kernel_size, self.dilation, strict=True)]
            return [(n // 2, n - n // 2) for n in totals]
        return [(int(n), int(n)) for n in self.padding]

    def __call__(self, x: Any) -> ft.Array:
        """Map x of (batch, in_channels, *space) to (batch, out_channels, *space)."""
        x, batched = _samples(self, x, self.space)
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f"{title(self)} takes {self.in_channels} channels; it was given an array of shape "
                f"{x.shape if batched else x.shape[1:]}"
            )
        pads = self._pads()
        if self.padding_mode != "zeros":
            x = fnp.pad(x, [(0, 0), (0, 0), *pads], mode=_PAD_MODES[self.padding_mode])
            pads = [(0, 0)] * self.space
        y = lax.conv_general_dilated(
            x,
            self.weight,
            self.stride,
            pads,
            rhs_dilation=self.dilation,
            feature_group_count=self.groups,
        )
        if self.bias is not None:
            y = y + self.bias.reshape(-1, *(1,) * self.space)
        return y if batched else y[0]


class Conv1d(_Conv):
    """Convolve along one axis: (batch, channels, length).

    The parameters are those of `Conv2d`, with one size for its two.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.Conv1d(4, 8, 5, stride=2, key=random.key(0))
        >>> layer(fnp.ones((2, 4, 20))).shape
        (2, 8, 8)
    """

    space: ClassVar[int] = 1


class Conv2d(_Conv):
    """Convolve images: (batch, channels, height, width).

    Weight and bias start uniform in [-1/√n, 1/√n], n inputs to each output, as in PyTorch.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: int, or one per axis.
        stride: int, or one per axis.
        padding: int, one per axis, 'same' or 'valid'; on both sides.
        dilation: distance between the taps of the kernel: int, or one per axis.
        groups: groups of channels that are convolved apart.
        bias: whether there is a bias.
        padding_mode: 'zeros', 'reflect', 'replicate' or 'circular'.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: a parameter is none of these; or, when called, the input's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.Conv2d(3, 16, 3, padding=1, key=random.key(0))
        >>> layer.weight.shape, layer(fnp.ones((2, 3, 28, 28))).shape
        ((16, 3, 3, 3), (2, 16, 28, 28))
    """

    space: ClassVar[int] = 2


class Conv3d(_Conv):
    """Convolve volumes: (batch, channels, depth, height, width).

    The parameters are those of `Conv2d`, with three sizes for its two.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.Conv3d(1, 2, (1, 3, 3), key=random.key(0))
        >>> layer(fnp.ones((1, 4, 8, 8))).shape
        (2, 4, 6, 6)
    """

    space: ClassVar[int] = 3


# ----------------------------------------------------------------------------------------- pooling
class _Pool(Module):
    """What pooling layers of all kinds and ranks share: the windows."""

    kernel_size: tuple[int, ...] = static()
    stride: tuple[int, ...] = static()
    padding: tuple[int, ...] = static()
    dilation: tuple[int, ...] = static()
    ceil_mode: bool = static()

    space: ClassVar[int]

    def _windows(
        self, kernel_size: Sizes, stride: Sizes | None, padding: Sizes, dilation: Sizes, ceil: bool
    ) -> None:
        name, m = type(self).__name__, self.space
        self.kernel_size = _sizes(name, "kernel_size", kernel_size, m)
        given = self.kernel_size if stride is None else stride
        self.stride = _sizes(name, "stride", given, m)
        self.padding = _sizes(name, "padding", padding, m, 0)
        self.dilation = _sizes(name, "dilation", dilation, m)
        self.ceil_mode = bool(ceil)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(
                f"{name} takes padding of at most half the kernel_size; it was given "
                f"padding={self.padding}, kernel_size={self.kernel_size}"
            )

    def _pads(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Return the padding, which grows at the high end where a part of a window counts."""
        pads = []
        for n, k, s, p, d in zip(
            sizes, self.kernel_size, self.stride, self.padding, self.dilation, strict=True
        ):
            room = n + 2 * p - d * (k - 1) - 1
            count = (-(-room // s) if self.ceil_mode else room // s) + 1
            if self.ceil_mode and (count - 1) * s >= n + p:
                count -= 1  # a window that begins in the padding at the high end
            if room < 0 or count < 1:
                raise ValueError(
                    f"{title(self)}: no window fits into an axis of size {n} with padding {p}"
                )
            pads.append((p, p + max(0, (count - 1) * s - room)))
        return pads

    def _reduce(self, x: Any, start: Any, f: Any) -> tuple[Any, bool, list[tuple[int, int]]]:
        x, batched = _samples(self, x, self.space)
        pads = self._pads(x.shape[2:])
        out = lax.reduce_window(
            x,
            start,
            f,
            (1, 1, *self.kernel_size),
            (1, 1, *self.stride),
            [(0, 0), (0, 0), *pads],
            window_dilation=(1, 1, *self.dilation),
        )
        return out, batched, pads


class _MaxPool(_Pool):
    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
        dilation: Sizes = 1, ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        self._windows(kernel_size, stride, padding, dilation, ceil_mode)

    def __call__(self, x: Any) -> ft.Array:
        """Map x of (batch, channels, *space) to fewer places."""
        x = fnp.asarray(x)
        inexact = fnp.issubdtype(x.dtype, fnp.floating)
        start = -fnp.inf if inexact else fnp.iinfo(x.dtype).min
        y, batched, _ = self._reduce(x, start, lax.max)
        return y if batched else y[0]


class _AvgPool(_Pool):
    count_include_pad: bool = static()
    divisor_override: int | None = static()

    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
        ceil_mode: bool = False, count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:  # fmt: skip
        self._windows(kernel_size, stride, padding, 1, ceil_mode)
        if divisor_override == 0:
            raise ValueError(f"{type(self).__name__} takes a divisor_override other than 0")
        self.count_include_pad = bool(count_include_pad)
        self.divisor_override = divisor_override

    def __call__(self, x: Any) -> ft.Array:
        """Map x of (batch, channels, *space) to fewer places."""
        x = fnp.asarray(x)
        total, batched, pads = self._reduce(x, 0, lax.add)
        y = total / self._divisor(x.shape[-self.space :], pads, total.dtype)
        return y if batched else y[0]

    def _divisor(self, sizes: Sequence[int], pads: list[tuple[int, int]], dtype: Any) -> Any:
        """Return how many elements the windows have: one number, or one per place."""
        if self.divisor_override is not None:
            return self.divisor_override
        counts = np.ones(())
        for n, (lo, hi), k, s, p in zip(
            sizes, pads, self.kernel_size, self.stride, self.padding, strict=True
        ):
            first = np.arange(0, n + lo + hi - k + 1, s)
            low, high = (0, n + 2 * p) if self.count_include_pad else (lo, lo + n)
            inside = np.clip(first + k, low, high) - np.clip(first, low, high)
            counts = counts[..., None] * inside
        whole = math.prod(self.kernel_size)
        return whole if (counts == whole).all() else fnp.asarray(counts, dtype)


class MaxPool1d(_MaxPool):
    """Take the largest element of each window: (batch, channels, length); as `MaxPool2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.MaxPool1d(2)(fnp.array([[1.0, 3.0, 2.0, 0.0]]))
        Array([[3., 2.]], dtype=float32)
    """

    space: ClassVar[int] = 1


class MaxPool2d(_MaxPool):
    """Take the largest element of each window: (batch, channels, height, width).

    Its derivative goes to the first element that is the largest.

    Args:
        kernel_size: int, or one per axis.
        stride: int, or one per axis; kernel_size where None.
        padding: int, or one per axis, on both sides; at most half of kernel_size.
        dilation: distance between the elements of a window: int, or one per axis.
        ceil_mode: whether a window that only partly fits counts at the high end.

    Raises:
        ValueError: a parameter is none of these; or, when called, the input's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.MaxPool2d(2)(fnp.ones((1, 8, 28, 28))).shape
        (1, 8, 14, 14)
    """

    space: ClassVar[int] = 2


class MaxPool3d(_MaxPool):
    """Take the largest element of each window: (batch, channels, depth, height, width).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.MaxPool3d((1, 2, 2))(fnp.ones((1, 2, 4, 4, 4))).shape
        (1, 2, 4, 2, 2)
    """

    space: ClassVar[int] = 3


class AvgPool1d(_AvgPool):
    """Average each window: (batch, channels, length); as `AvgPool2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.AvgPool1d(2)(fnp.array([[1.0, 3.0, 2.0, 0.0]]))
        Array([[2., 1.]], dtype=float32)
    """

    space: ClassVar[int] = 1


class AvgPool2d(_AvgPool):
    """Average each window: (batch, channels, height, width).

    Args:
        kernel_size: int, or one per axis.
        stride: int, or one per axis; kernel_size where None.
        padding: int, or one per axis, on both sides; at most half of kernel_size.
        ceil_mode: whether a window that only partly fits counts at the high end.
        count_include_pad: whether padding counts among the elements that are averaged.
        divisor_override: what to divide sums by, in place of the number of elements.

    Raises:
        ValueError: a parameter is none of these; or, when called, the input's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.AvgPool2d(2)(fnp.ones((1, 8, 28, 28))).shape
        (1, 8, 14, 14)
    """

    space: ClassVar[int] = 2


class AvgPool3d(_AvgPool):
    """Average each window: (batch, channels, depth, height, width).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.AvgPool3d(2)(fnp.ones((1, 2, 4, 4, 4))).shape
        (1, 2, 2, 2, 2)
    """

    space: ClassVar[int] = 3
