"""Print convolutions as LLVM functions.

Two schedules, both without a copy of every window. The planes of x (one channel of one image) are
packed so that for each offset of the window, what all its elements meet lies in one run of memory:

    places  runs along the places of the output. A tile of out features by vectors of places stays
            in registers while all features and taps are added up; a weight is broadcast.
    taps    runs along the window: where the window is larger than the output, as in gradients of
            weights. A tile of out features by places stays in registers, a vector each, while runs
            are multiplied; the vectors are added up in the end.

What is packed fits into the second cache and lies in a slot that the running call holds. Parts do
not depend on the number of threads, so neither do results.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from funtorch.dims import NotDynamic, fixed

from ..correlate import runs
from ..plan import Correlation
from .epilogue import Behind
from .llvm import Code
from .packed import registers
from .places import Places
from .taps import Taps

__all__ = ["correlation_code"]

_FILLED = 0.85  # share of a sample's vectors that places fill, so that samples stay apart
_FULL = 0.92  # share of some samples' vectors that is good


def correlation_code(
    c: Correlation, dtype: np.dtype, after: Behind | None = None
) -> list[tuple[str, Code]]:
    """Return the functions of a convolution, by name, in the order in which they run.

    Each takes the addresses of x, w and y; with a kernel behind it, those of that kernel's other
    buffers instead of y's. All share their scratch.
    """
    c = _with_axis(c)
    check_sizes(c)
    if after is not None:
        return Places(c, dtype, after).codes()
    if math.prod(c.window) > math.prod(c.places) and runs(c.w, 3, c.window):
        return Taps(c, dtype).codes()
    if not fixed(c.batch):
        return _any_batch(c, dtype)
    return Places(_with_samples(c, registers()[0] // dtype.itemsize), dtype).codes()


def check_sizes(c: Correlation) -> None:
    """Check that all sizes are numbers, but for those of samples and of features to sum over.

    Raises:
        NotDynamic: if they are not.
    """
    sizes = [c.groups, c.outs, *c.space, *c.window, *c.places, *c.low]
    arrays = (
        (c.x, (c.batch, c.groups, c.features, *c.space)),
        (c.w, (c.groups, c.outs, c.features, *c.window)),
        (c.y, (c.batch, c.groups, c.outs, *c.places)),
    )
    for where, axes in arrays:
        strides = zip(where.strides, axes, strict=True)
        sizes += [where.offset, *(stride for stride, n in strides if n != 1)]
    if not all(map(fixed, sizes)):
        raise NotDynamic("convolutions are compiled for one size of the space")


def _any_batch(c: Correlation, dtype: np.dtype) -> list[tuple[str, Code]]:
    """Return the functions of a convolution of any number of samples.

    They are those for some number, for parts are of one sample each; there are more parts then.
    """
    weights, (name, main) = Places(replace(c, batch=int(c.batch)), dtype).codes()
    parts, work = main.parts // int(c.batch), main.work // int(c.batch)
    return [weights, (name, replace(main, parts=c.batch * parts, work=c.batch * work))]


def _with_samples(c: Correlation, lanes: int) -> Correlation:
    """Return a correlation with one more space axis, of some samples, if that fills vectors better.

    It is the second one, for along the first one no offset of the window is copied; but not the
    last one, along which vectors are read.
    """
    places = math.prod(c.places)
    filled = {m: m * places / (-(-m * places // lanes) * lanes) for m in _divisors(c.batch)}
    if filled[1] > _FILLED or c.features * math.prod(c.window) < lanes:
        return c
    many = next((m for m, share in filled.items() if share > _FULL), 0)
    many = many or max(filled, key=lambda m: filled[m])
    if many == 1:
        return c
    k = min(1, len(c.space) - 1)

    def axis(sizes: tuple[int, ...], one: int, first: int = 0) -> tuple[int, ...]:
        return (*sizes[: first + k], one, *sizes[first + k :])

    def apart(strides: tuple[int, ...]) -> tuple[int, ...]:
        return (many * strides[0], *strides[1:])

    return replace(
        c,
        batch=c.batch // many,
        space=axis(c.space, many),
        window=axis(c.window, 1),
        places=axis(c.places, many),
        strides=axis(c.strides, 1),
        dilation=axis(c.dilation, 1),
        low=axis(c.low, 0),
        x=replace(c.x, strides=axis(apart(c.x.strides), c.x.strides[0], 3)),
        w=replace(c.w, strides=axis(c.w.strides, 0, 3)),
        y=replace(c.y, strides=axis(apart(c.y.strides), c.y.strides[0], 3)),
    )


def _divisors(n: int) -> list[int]:
    return [m for m in range(1, n + 1) if n % m == 0]


def _with_axis(c: Correlation) -> Correlation:
    """Return a correlation with at least one space axis."""
    if c.space:
        return c
    one, zero = (1,), (0,)
    x, w, y = (replace(a, strides=(*a.strides, 0)) for a in (c.x, c.w, c.y))
    return replace(
        c, space=one, window=one, places=one, strides=one, dilation=one, low=zero, x=x, w=w, y=y
    )
