"""Transposed convolution layers: PyTorch's parameters, layouts and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, random

from .module import Module, static, title
from .sizes import Sizes, samples_of, sizes_of

__all__ = ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


class _ConvTranspose(Module):
    """What transposed convolutions of all ranks share."""

    weight: ft.Array
    bias: ft.Array | None
    in_channels: int = static()
    out_channels: int = static()
    kernel_size: tuple[int, ...] = static()
    stride: tuple[int, ...] = static()
    padding: tuple[int, ...] = static()
    output_padding: tuple[int, ...] = static()
    groups: int = static()
    dilation: tuple[int, ...] = static()

    space: ClassVar[int]

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1,
        padding: Sizes = 0, output_padding: Sizes = 0, groups: int = 1, bias: bool = True,
        dilation: Sizes = 1, *, key: Any, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        name, m = type(self).__name__, self.space
        if (
            min(in_channels, out_channels, groups) < 1
            or in_channels % groups
            or out_channels % groups
        ):
            raise ValueError(
                f"{name} takes positive channels, both multiples of groups; it was given "
                f"in_channels={in_channels}, out_channels={out_channels}, groups={groups}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = sizes_of(name, "kernel_size", kernel_size, m)
        self.stride = sizes_of(name, "stride", stride, m)
        self.padding = sizes_of(name, "padding", padding, m, 0)
        self.output_padding = sizes_of(name, "output_padding", output_padding, m, 0)
        self.dilation = sizes_of(name, "dilation", dilation, m)
        for extra, s, d in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if extra >= max(s, d):
                raise ValueError(
                    f"{name} takes output_padding smaller than stride or dilation; it was given "
                    f"{self.output_padding} with stride {self.stride}, dilation {self.dilation}"
                )
        shape = (in_channels, out_channels // groups, *self.kernel_size)
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        weight_key, bias_key = random.split(key)
        self.weight = random.uniform(weight_key, shape, dtype, -bound, bound)
        self.bias = None
        if bias:
            self.bias = random.uniform(bias_key, (out_channels,), dtype, -bound, bound)

    def __call__(self, x: Any, output_size: Sequence[int] | None = None) -> ft.Array:
        """Map x of (batch, in_channels, *space) to (batch, out_channels, *space).

        ``output_size`` is the space of the result, or its whole shape, in place of output_padding.
        """
        x, batched = samples_of(self, x, self.space)
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f"{title(self)} takes {self.in_channels} channels; it was given an array of shape "
                f"{x.shape if batched else x.shape[1:]}"
            )
        extents = [d * (k - 1) for k, d in zip(self.kernel_size, self.dilation, strict=True)]
        extra = self._extra(x.shape[2:], extents, output_size)
        pads = [(e - p, e - p + o) for e, p, o in zip(extents, self.padding, extra, strict=True)]
        for n, s, e, (lo, hi) in zip(x.shape[2:], self.stride, extents, pads, strict=True):
            if (n - 1) * s + 1 + lo + hi < e + 1:
                raise ValueError(
                    f"{title(self)}: an axis of size {n} leaves nothing after the padding"
                )
        y = lax.conv_general_dilated(
            x,
            self._mirrored(),
            (1,) * self.space,
            pads,
            lhs_dilation=self.stride,
            rhs_dilation=self.dilation,
            feature_group_count=self.groups,
        )
        if self.bias is not None:
            y = y + self.bias.reshape(-1, *(1,) * self.space)
        return y if batched else y[0]

    def _mirrored(self) -> ft.Array:
        """Return the weight of the convolution that this one is: (out, in / groups, *mirrored)."""
        g, m = self.groups, self.space
        ins, outs = self.weight.shape[:2]
        w = self.weight.reshape(g, ins // g, outs, *self.kernel_size).swapaxes(1, 2)
        return fnp.flip(w.reshape(g * outs, ins // g, *self.kernel_size), tuple(range(2, 2 + m)))

    def _extra(
        self, space: Sequence[int], extents: Sequence[int], output_size: Sequence[int] | None
    ) -> tuple[int, ...]:
        if output_size is None:
            return self.output_padding
        least = [
            (n - 1) * s - 2 * p + e + 1
            for n, s, p, e in zip(space, self.stride, self.padding, extents, strict=True)
        ]
        wanted = tuple(output_size)[-self.space :]
        if len(wanted) != self.space or any(
            not 0 <= n - low < s for n, low, s in zip(wanted, least, self.stride, strict=True)
        ):
            raise ValueError(
                f"{title(self)} takes an output_size from {tuple(least)} on, by less than a "
                f"stride; it was given {tuple(output_size)}"
            )
        return tuple(n - low for n, low in zip(wanted, least, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """Convolve along one axis with a fractional stride: (batch, channels, length).

    The parameters are those of `ConvTranspose2d`, with one size for its two.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.ConvTranspose1d(4, 8, 5, stride=2, key=random.key(0))
        >>> layer(fnp.ones((2, 4, 8))).shape
        (2, 8, 19)
    """

    space: ClassVar[int] = 1


class ConvTranspose2d(_ConvTranspose):
    """Convolve images with a fractional stride: (batch, channels, height, width).

    It is the transpose of the map that `Conv2d` of the same sizes is, so its output has the size of
    that one's input: (size - 1) stride - 2 padding + dilation (kernel_size - 1) + 1 +
    output_padding. Weight and bias start uniform in [-1/√n, 1/√n], n = out_channels / groups times
    the kernel's size, as in PyTorch; the weight's shape is (in, out / groups, height, width).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: int, or one per axis.
        stride: int, or one per axis: by what the axes grow.
        padding: int, or one per axis: what is cut off on both sides.
        output_padding: int, or one per axis: what is added on one side, less than stride or
            dilation.
        groups: groups of channels that are convolved apart.
        bias: whether there is a bias.
        dilation: distance between the taps of the kernel: int, or one per axis.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: a parameter is none of these; or, when called, shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.ConvTranspose2d(16, 3, 3, 2, 1, key=random.key(0))
        >>> layer(fnp.ones((2, 16, 7, 7))).shape
        (2, 3, 13, 13)
        >>> layer(fnp.ones((2, 16, 7, 7)), output_size=(14, 14)).shape
        (2, 3, 14, 14)
    """

    space: ClassVar[int] = 2


class ConvTranspose3d(_ConvTranspose):
    """Convolve volumes with a fractional stride: (batch, channels, depth, height, width).

    The parameters are those of `ConvTranspose2d`, with three sizes for its two.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.ConvTranspose3d(2, 1, 2, 2, key=random.key(0))
        >>> layer(fnp.ones((2, 3, 4, 5))).shape
        (1, 6, 8, 10)
    """

    space: ClassVar[int] = 3
