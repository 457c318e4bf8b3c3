"""Convolution layers: PyTorch's parameters, layouts and numbers.

Inputs are (batch, channels, *space), or (channels, *space) for one sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, random

from .module import Module, static, title
from .padding import extended
from .sizes import Sizes, samples_of, sizes_of

__all__ = ["Conv1d", "Conv2d", "Conv3d"]

_PAD_MODES = ("reflect", "replicate", "circular")


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
        self.kernel_size = sizes_of(name, "kernel_size", kernel_size, m)
        self.stride = sizes_of(name, "stride", stride, m)
        self.dilation = sizes_of(name, "dilation", dilation, m)
        self.padding_mode = padding_mode
        if isinstance(padding, str):
            if padding not in ("same", "valid") or (padding == "same" and max(self.stride) > 1):
                raise ValueError(
                    f"{name} takes padding 'valid', 'same' (with stride 1) or sizes; it was given "
                    f"{padding!r} with stride {self.stride}"
                )
            self.padding = padding
        else:
            self.padding = sizes_of(name, "padding", padding, m, 0)
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

    def _check_space(self, space: Sequence[int], pads: list[tuple[int, int]]) -> None:
        for n, (lo, hi), k, d in zip(space, pads, self.kernel_size, self.dilation, strict=True):
            if n + lo + hi < d * (k - 1) + 1:
                raise ValueError(
                    f"{title(self)}: no window fits into an axis of size {n} with padding "
                    f"{(lo, hi)}"
                )

    def __call__(self, x: Any) -> ft.Array:
        """Map x of (batch, in_channels, *space) to (batch, out_channels, *space)."""
        x, batched = samples_of(self, x, self.space)
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f"{title(self)} takes {self.in_channels} channels; it was given an array of shape "
                f"{x.shape if batched else x.shape[1:]}"
            )
        pads = self._pads()
        self._check_space(x.shape[2:], pads)
        if self.padding_mode != "zeros":
            x = extended(self, x, pads, self.padding_mode)
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
