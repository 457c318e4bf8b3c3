"""Products of matrices whose elements lie anywhere: what kernels that make tiles have in common.

A convolution is one, too: its rows are out features, its columns the places of all samples, its
sums run over features and taps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Element", "Tiled", "also", "cut", "position"]

_FULL = 264  # blocks that keep a GPU busy
_PIECE = 256  # least terms of a piece of the sums
_INT_MAX = 2**31 - (1 << 26)

Element = Callable[[str, str], tuple[str, str]]
"""From the names of two positions to a condition ('' if it always holds) and an offset."""


@dataclass(frozen=True)
class Tiled:
    """A product to be printed.

    Attributes:
        dtype: of the result, and of sums.
        batch, m, n, k: sizes: of the batch, rows, columns, sums.
        a: of a row and a term, b: of a term and a column, out: of a row and a column.
        a_along, b_along: whether neighbouring terms (a), columns (b) are neighbours in memory.
        reach: the greatest offset.
        buffers: numbers of the buffers of a and b.
        given: the dtype of a and b, where it is another one than that of sums.
    """

    dtype: np.dtype
    batch: int
    m: int
    n: int
    k: int
    a: Element
    b: Element
    out: Element
    a_along: bool
    b_along: bool
    reach: int
    buffers: tuple[int, int] = (0, 1)
    given: np.dtype | None = None


def cut(p: Tiled, tiles: int, deep: int, tall: int, broad: int) -> tuple[int, int, bool]:
    """Return how the sums of a product are cut into pieces that different blocks do.

    Args:
        tiles: how many there are of one product.
        deep: terms that are in shared memory at a time.
        tall, broad: sides of a tile.

    Returns:
        The terms of a piece, how many pieces there are, and whether places need 64 bits.
    """
    pieces = 1
    if tiles * p.batch < _FULL:
        pieces = max(1, min(-(-_FULL // (tiles * p.batch)), p.k // _PIECE))
    piece = -(-p.k // (pieces * deep)) * deep
    pieces = max(1, -(-p.k // piece))
    most = max(p.reach, p.batch * p.m * p.n * pieces, (p.m + tall) * (p.n + broad))
    return piece, pieces, most > _INT_MAX


def also(condition: str) -> str:
    """Return one more condition of several."""
    return f" && {condition}" if condition else ""


def position(linear: str, sizes: Sequence[int], strides: Sequence[int]) -> str:
    """Return the expression of an offset for a position in row-major order of some axes."""
    axes: list[tuple[int, int]] = []  # (size, stride), neighbours that are one axis merged
    for n, s in zip(sizes, strides, strict=True):
        if n == 1:
            continue
        if axes and axes[-1][1] == n * s:
            axes[-1] = axes[-1][0] * int(n), int(s)
        else:
            axes.append((int(n), int(s)))
    terms, left = [], math.prod(n for n, _ in axes)
    for number, (n, s) in enumerate(axes):
        left //= n
        at = linear if left == 1 else f"{linear} / {left}"
        if number:
            at = f"({at}) % {n}" if left > 1 else f"{at} % {n}"
        if s:
            terms.append(at if s == 1 and len(axes) == 1 else f"({at}) * {s}")
    return " + ".join(terms) or "0"
