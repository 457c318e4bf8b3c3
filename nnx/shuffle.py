"""Layers that move channels to places, places to channels, and channels among themselves."""

from __future__ import annotations

from typing import Any

import funtorch as ft
import funtorch.numpy as fnp

from .module import Module, static, title

__all__ = ["ChannelShuffle", "PixelShuffle", "PixelUnshuffle"]


def _image(layer: Module, x: Any, fits: bool, wanted: str) -> None:
    if not fits:
        raise ValueError(
            f"{title(layer)} takes an array of shape {wanted}; it was given one of shape {x.shape}"
        )


class PixelShuffle(Module):
    """Make images larger by a factor, taking the new places from channels.

    Args:
        upscale_factor: r; (..., C r², H, W) becomes (..., C, H r, W r).

    Raises:
        ValueError: when called, the number of channels is no multiple of r².

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.PixelShuffle(3)(fnp.ones((1, 9, 4, 4))).shape
        (1, 1, 12, 12)

    References:
        W. Shi et al., "Real-time single image and video super-resolution using an efficient
        sub-pixel convolutional neural network", CVPR 2016.
    """

    upscale_factor: int = static()

    def __call__(self, x: Any) -> ft.Array:
        x, r = fnp.asarray(x), self.upscale_factor
        fits = x.ndim >= 3 and x.shape[-3] % r**2 == 0
        _image(self, x, fits, f"(..., a multiple of {r**2}, height, width)")
        *lead, c, h, w = x.shape
        y = x.reshape(*lead, c // r**2, r, r, h, w)
        n = len(lead)
        y = y.transpose(*range(n), n, n + 3, n + 1, n + 4, n + 2)
        return y.reshape(*lead, c // r**2, h * r, w * r)


class PixelUnshuffle(Module):
    """Make images smaller by a factor, putting the places into channels: undo `PixelShuffle`.

    Args:
        downscale_factor: r; (..., C, H r, W r) becomes (..., C r², H, W).

    Raises:
        ValueError: when called, height or width is no multiple of r.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.PixelUnshuffle(3)(fnp.ones((1, 1, 12, 12))).shape
        (1, 9, 4, 4)
    """

    downscale_factor: int = static()

    def __call__(self, x: Any) -> ft.Array:
        x, r = fnp.asarray(x), self.downscale_factor
        fits = x.ndim >= 3 and x.shape[-1] % r == 0 and x.shape[-2] % r == 0
        _image(self, x, fits, f"(..., channels, a multiple of {r}, a multiple of {r})")
        *lead, c, h, w = x.shape
        y = x.reshape(*lead, c, h // r, r, w // r, r)
        n = len(lead)
        y = y.transpose(*range(n), n, n + 2, n + 4, n + 1, n + 3)
        return y.reshape(*lead, c * r**2, h // r, w // r)


class ChannelShuffle(Module):
    """Take channels in turn from groups of them.

    Args:
        groups: g; (batch, g n, ...) is read as (batch, g, n, ...), and g and n swapped.

    Raises:
        ValueError: when called, the number of channels is no multiple of groups.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ChannelShuffle(2)(fnp.arange(4.0).reshape(1, 4, 1)).ravel()
        Array([0., 2., 1., 3.], dtype=float32)

    References:
        X. Zhang et al., "ShuffleNet: an extremely efficient convolutional neural network for mobile
        devices", CVPR 2018.
    """

    groups: int = static()

    def __call__(self, x: Any) -> ft.Array:
        x, g = fnp.asarray(x), self.groups
        fits = x.ndim >= 3 and x.shape[1] % g == 0
        _image(self, x, fits, f"(batch, a multiple of {g}, ...)")
        parts = x.reshape(x.shape[0], g, x.shape[1] // g, *x.shape[2:])
        return parts.swapaxes(1, 2).reshape(x.shape)
