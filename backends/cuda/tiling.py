"""Products of matrices whose elements lie anywhere: what kernels that make tiles have in common.

A convolution is one, too: its rows are out features, its columns the places of all samples, its
sums run over features and taps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .code import INT_MAX, KernelLaunch
from .schedules import BYTES, FULL, THREADS

__all__ = ["Cut", "Element", "Tiled", "also", "cut", "position"]

_PIECE = 256  # least terms of a piece of the sums
_MOST_BATCHES = (1 << 16) - 1  # blocks along the second axis of a grid

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


@dataclass(frozen=True)
class Cut:
    """How blocks share out a product: tiles of the result, and pieces of the sums.

    Attributes:
        product: it.
        tall, broad: sides of a tile.
        piece: terms of a piece; ``pieces``: how many there are.
        index: the C type of places.
    """

    product: Tiled
    tall: int
    broad: int
    piece: int
    pieces: int
    index: str

    @property
    def across(self) -> int:
        """Tiles beside each other."""
        return -(-self.product.n // self.broad)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Blocks of the launch that multiplies."""
        tiles = -(-self.product.m // self.tall) * self.across
        return tiles, min(self.product.batch, _MOST_BATCHES), self.pieces

    @property
    def size(self) -> int:
        """Elements of the result."""
        return self.product.batch * self.product.m * self.product.n

    def parts(self, kind: str) -> str:
        """Return the declaration of what pieces leave in scratch."""
        return f"  PART({kind}, part, scratch, 0, {self.pieces * self.size});"

    def scratch(self, kind: str) -> int:
        """Return the bytes of what pieces leave."""
        return -(-self.pieces * self.size * BYTES[kind] // 64) * 64 if self.pieces > 1 else 0

    def begin(self) -> str:
        """Write where a block's tile and its terms begin, and the head of a loop over a batch."""
        p, index, piece = self.product, self.index, self.piece
        return f"""  const {index} r0 = ({index})(blockIdx.x / {self.across}) * {self.tall};
  const {index} c0 = ({index})(blockIdx.x % {self.across}) * {self.broad};
  const {index} low = ({index})blockIdx.z * {piece};
  const {index} high = low + {piece} < {p.k} ? low + {piece} : {p.k};
  for ({index} batch = blockIdx.y; batch < {p.batch}; batch += gridDim.y) {{"""

    def store(self, value: str, made: str) -> str:
        """Write how a sum gets to where it is wanted: ``made`` of it to the result, or, where it is
        one of a piece, itself to scratch."""
        p = self.product
        condition, place = p.out("r", "c")
        target = f"b2[{place}] = {made};"
        if self.pieces > 1:
            at = f"(({self.index})blockIdx.z * {p.batch} + batch) * {p.m} + r"
            target = f"part[({at}) * {p.n} + c] = {value};"
        return f"if (r < {p.m} && c < {p.n}{also(condition)}) {target}"

    def join(self, head: str, kind: str, made: str) -> tuple[str, KernelLaunch]:
        """Return the launch that adds up pieces in order, and its text.

        Args:
            head: the function's name, and its parameters.
            kind: the C type of sums.
            made: what becomes of ``total``.
        """
        p, index = self.product, self.index
        name, _, given = head.partition("(")
        name = f"{name}_end"
        text = f"""extern "C" __global__ void __launch_bounds__({THREADS}) {name}({given} {{
{self.parts(kind)}
  const {index} at = ({index})blockIdx.x * {THREADS} + threadIdx.x;
  if (at < {self.size}) {{
    const {index} c = at % {p.n}, r = at / {p.n} % {p.m}, batch = at / {p.n * p.m};
    {kind} total = 0;
    for (int s = 0; s < {self.pieces}; s++) total = total + part[({index})s * {self.size} + at];
    b2[{p.out("r", "c")[1]}] = {made};
  }}
}}"""
        return text, KernelLaunch(name, (-(-self.size // THREADS), 1, 1), THREADS)


def cut(p: Tiled, deep: int, tall: int, broad: int) -> Cut:
    """Return how a product is cut.

    Args:
        deep: terms that are in shared memory at a time.
        tall, broad: sides of a tile.
    """
    pieces, tiles = 1, -(-p.m // tall) * -(-p.n // broad)
    if tiles * p.batch < FULL:
        pieces = max(1, min(-(-FULL // (tiles * p.batch)), p.k // _PIECE))
    piece = -(-p.k // (pieces * deep)) * deep
    pieces = max(1, -(-p.k // piece))
    most = max(p.reach, p.batch * p.m * p.n * pieces, (p.m + tall) * (p.n + broad))
    return Cut(p, tall, broad, piece, pieces, "s64" if most > INT_MAX else "int")


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
