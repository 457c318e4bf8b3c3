"""Convolutions as cuDNN has them: forward, of the data, of the weights.

A `Correlation` is any of the three, by which of its axes are long and which way its weights lie:
the gradient of the weights is a correlation whose window is as large as the images, that of the
data one with turned weights. cuDNN has kernels for each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..plan import Conv, Correlation
from ..scalars.elements import HALVES

__all__ = ["Convolution", "Tensor", "as_convolution"]

_SPACES = (2, 3)  # axes of space that cuDNN takes
_DTYPES = (np.dtype(np.float32), *HALVES)


@dataclass(frozen=True)
class Tensor:
    """An array: its first element, sizes and strides, over (samples, features, *space)."""

    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Convolution:
    """One of cuDNN's three operations on images, filters and results of a forward convolution.

    Attributes:
        kind: what is made: ``'fprop'`` the results, ``'dgrad'`` images, ``'wgrad'`` filters.
        dtype: of all arrays.
        image, filter, result: of the forward convolution.
        order: which of x, w and y of the correlation these are.
        before, after: zeros around the images.
        stride, dilation: of the forward convolution.
        tf32: whether elements may be rounded to TF32.
    """

    kind: str
    dtype: np.dtype
    image: Tensor
    filter: Tensor
    result: Tensor
    order: tuple[int, int, int]
    before: tuple[int, ...]
    after: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    tf32: bool = False


def as_convolution(step: Conv, dtype: np.dtype) -> Convolution | None:
    """Return what cuDNN is asked for a step; None where it has nothing for it."""
    c, gaps = step.parts[0], (1,) * len(step.parts[0].space)
    if len(c.space) not in _SPACES or np.dtype(dtype) not in _DTYPES:
        return None
    if max(step.gaps, default=1) > 1:
        assert step.whole is not None
        c, gaps = step.whole, step.gaps
    elif len(step.parts) > 1:
        return None
    x, w, y = ([int(s) for s in where.strides] for where in (c.x, c.w, c.y))
    w[3:] = [abs(s) if n == 1 else s for s, n in zip(w[3:], c.window, strict=True)]
    if math.prod(c.window) > math.prod(c.places):
        return _of_filters(c, dtype, x, w, y) if max(gaps) == 1 else None
    if c.groups > 1 and not (x[1] == c.features * x[2] and y[1] == c.outs * y[2]):
        return None
    if all(s < 0 or n == 1 for s, n in zip(w[3:], c.window, strict=True)) and any(
        n > 1 for n in c.window
    ):
        return _of_images(c, gaps, dtype, x, w, y)
    if max(gaps) > 1 or min(w) < 0 or (c.groups > 1 and w[0] != c.outs * w[1]):
        return None
    image = Tensor(c.x.offset, (c.batch, c.groups * c.features, *c.space), (x[0], x[2], *x[3:]))
    image, before, after = _fitted(image, c)
    return Convolution(
        "fprop", np.dtype(dtype), image,
        Tensor(c.w.offset, (c.groups * c.outs, c.features, *c.window), (w[1], w[2], *w[3:])),
        Tensor(c.y.offset, (c.batch, c.groups * c.outs, *c.places), (y[0], y[2], *y[3:])),
        (0, 1, 2), before, after, tuple(c.strides), tuple(c.dilation),
    )  # fmt: skip


def _fitted(image: Tensor, c: Correlation) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """Return images without what no window reaches, and how many zeros are around them."""
    offset, sizes = int(image.offset), list(image.sizes)
    before, after = [], []
    for d, low in enumerate(c.low):
        reach = (c.places[d] - 1) * c.strides[d] + (c.window[d] - 1) * c.dilation[d] + 1
        left = max(-low, 0)
        right = max(sizes[2 + d] - (reach - low), 0)
        offset += left * image.strides[2 + d]
        sizes[2 + d] -= left + right
        before.append(max(low, 0))
        after.append(max(reach - low - sizes[2 + d] - left, 0))
    return Tensor(offset, tuple(sizes), image.strides), tuple(before), tuple(after)


def _of_images(
    c: Correlation, gaps: Sequence[int], dtype: np.dtype, x: Sequence[int], w: Sequence[int],
    y: Sequence[int],
) -> Convolution | None:  # fmt: skip
    """Return a correlation of an array with gaps, with turned filters, as the gradient of images
    of which a convolution had these strides."""
    if any(s != 1 for s in c.strides) or (c.groups > 1 and w[0] != c.features * w[2]):
        return None
    offset = c.w.offset + sum((n - 1) * s for n, s in zip(c.window, w[3:], strict=True))
    before, after = [], []
    for d, low in enumerate(c.low):
        reach = (c.window[d] - 1) * c.dilation[d]
        before.append(reach - low)
        after.append((c.space[d] - 1) * gaps[d] + reach + 1 - c.places[d] - before[d])
    if min(before) < 0 or any(-n >= gap for n, gap in zip(after, gaps, strict=True)):
        return None
    after = [max(n, 0) for n in after]  # no window begins at what is too much
    return Convolution(
        "dgrad", np.dtype(dtype),
        Tensor(c.y.offset, (c.batch, c.groups * c.outs, *c.places), (y[0], y[2], *y[3:])),
        Tensor(offset, (c.groups * c.features, c.outs, *c.window), (w[2], w[1], *map(abs, w[3:]))),
        Tensor(c.x.offset, (c.batch, c.groups * c.features, *c.space), (x[0], x[2], *x[3:])),
        (2, 1, 0), tuple(before), tuple(after), tuple(gaps), tuple(c.dilation),
    )  # fmt: skip


def _of_filters(
    c: Correlation, dtype: np.dtype, x: Sequence[int], w: Sequence[int], y: Sequence[int]
) -> Convolution | None:
    """Return a correlation with large windows as the gradient of filters: samples are summed."""
    groups, alone = c.groups, c.groups == 1
    joined = x[1] == c.batch * x[0] and w[0] == c.outs * w[1] and y[1] == c.outs * y[2]
    if min(w) < 0 or not (alone or joined):
        return None
    image = Tensor(c.x.offset, (c.features, groups * c.batch, *c.space), (x[2], x[0], *x[3:]))
    image, before, after = _fitted(image, c)
    return Convolution(
        "wgrad", np.dtype(dtype), image,
        Tensor(c.y.offset, (groups * c.outs, c.batch, *c.places), (y[2], y[0], *y[3:])),
        Tensor(c.w.offset, (c.features, groups * c.outs, *c.window), (w[2], w[1], *w[3:])),
        (0, 2, 1), before, after, tuple(c.dilation), tuple(c.strides),
    )  # fmt: skip
