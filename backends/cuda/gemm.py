"""Products of matrices as calls of cuBLAS: which of its matrices lie in the operands' memory.

The library's matrices are column by column, ours row by row: it is asked for the transposed
product, of the transposed factors in the other order. Products of 16-bit floats are added up in
float32, of int8 in int32; float32 is rounded to TF32 only where that is asked for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from funtorch import dtypes

from ..plan import Dot
from ..products import FLOATS, SUMMED, Products
from ..scalars.elements import HALVES

__all__ = ["GPU_PRODUCTS", "Gemm", "gemms"]

_MOST = 64  # calls that a product with several batch axes may need
_LIMIT = 1 << 31  # sizes and strides of rows are 32-bit numbers
_LARGE = 1 << 22  # multiplications from which the library's kernels are worth a copy
_INT8 = 4  # elements of int8 whose multiples are where matrices and their rows begin, and end
_PAIRS = frozenset(
    (np.dtype(a), np.dtype(out))
    for a, out in (
        ("float32", "float32"),
        ("float64", "float64"),
        ("complex64", "complex64"),
        ("complex128", "complex128"),
        ("float16", "float16"),
        ("float16", "float32"),
        (dtypes.bfloat16, dtypes.bfloat16),
        (dtypes.bfloat16, "float32"),
        ("int8", "int32"),
    )
)
"""Dtypes of the operands and of the result of products that the library makes."""


@dataclass(frozen=True)
class Gemm:
    """``batch`` products of (m, k) by (k, n) matrices.

    Attributes:
        dtype: of the elements of both factors.
        made: dtype of the products.
        tf32: whether float32 elements may be rounded.
        turned_a, turned_b: whether a matrix lies column by column.
        lda, ldb, ldc: elements from one row, or column, to the next.
        strides: elements from one product's matrices to the next one's.
    """

    dtype: np.dtype
    batch: int
    m: int
    n: int
    k: int
    turned_a: bool
    turned_b: bool
    lda: int
    ldb: int
    ldc: int
    strides: tuple[int, int, int]
    made: np.dtype
    tf32: bool = False

    @property
    def dtypes(self) -> tuple[np.dtype, np.dtype, np.dtype]:
        """The dtypes of the three arrays."""
        return self.dtype, self.dtype, self.made

    def extents(self) -> tuple[int, int, int]:
        """Return the bytes from the first to behind the last element of each array."""
        a = (self.k, self.m) if self.turned_a else (self.m, self.k)
        b = (self.n, self.k) if self.turned_b else (self.k, self.n)
        pairs = ((*a, self.lda), (*b, self.ldb), (self.m, self.n, self.ldc))
        return tuple(  # type: ignore[return-value]
            ((self.batch - 1) * s + (rows - 1) * ld + columns) * dtype.itemsize
            for (rows, columns, ld), s, dtype in zip(pairs, self.strides, self.dtypes, strict=True)
        )

    def __str__(self) -> str:
        turned = "".join("T" if t else "N" for t in (self.turned_a, self.turned_b))
        kind = self.dtype.name if self.dtype == self.made else f"{self.dtype.name}->{self.made}"
        sizes = f"{self.batch} x {self.m} x {self.n} x {self.k}"
        return f"{sizes} {kind}{' as tf32' if self.tf32 else ''} {turned}"


def _one_axis(sizes: Sequence[int], strides: Sequence[int]) -> tuple[int, int] | None:
    """Return several axes as one, (size, stride); None where they are not one."""
    found: tuple[int, int] | None = None
    for n, s in zip(sizes, strides, strict=True):
        if n == 1:
            continue
        if found is None:
            found = n, s
        elif found[1] == s * n:
            found = found[0] * n, s
        else:
            return None
    return found or (1, 0)


def _matrix(rows: tuple[int, int], columns: tuple[int, int]) -> tuple[bool, int] | None:
    """Return whether a matrix lies column by column, and its leading dimension."""
    (m, rs), (n, cs) = rows, columns
    if (cs == 1 or n == 1) and (rs >= n or m == 1):
        return False, max(rs if m > 1 else n, n, 1)
    if (rs == 1 or m == 1) and (cs >= m or n == 1):
        return True, max(cs if n > 1 else m, m, 1)
    return None


def gemms(step: Dot) -> list[tuple[Gemm, tuple[int, int, int]]] | None:
    """Return a product as calls of the library, with the elements at which their arrays begin.

    Returns:
        The calls; None where the library has none for it.
    """
    dtype, made = np.dtype(step.a.aval.dtype), np.dtype(step.out.aval.dtype)
    if (dtype, made) not in _PAIRS or 0 in (step.m, step.n, step.k, step.batch):
        return None
    nb, nr, ns = len(step.batches), len(step.rows), len(step.sums)
    a, b, out = (p.strides for p in step.places)
    rows, sums = step.rows, step.sums
    row_a, sum_a = _one_axis(rows, a[nb : nb + nr]), _one_axis(sums, a[nb + nr :])
    sum_b, row_out = _one_axis(sums, b[nb : nb + ns]), _one_axis(rows, out[nb : nb + nr])
    if None in (row_a, sum_a, sum_b, row_out):
        return None
    column_b, column_out = (step.n, b[-1]), (step.n, out[-1])
    left, right = _matrix(row_a, sum_a), _matrix(sum_b, column_b)  # type: ignore[arg-type]
    result = _matrix(row_out, column_out)  # type: ignore[arg-type]
    if left is None or right is None or result is None or result[0]:
        return None
    if max(step.m, step.n, step.k, left[1], right[1], result[1]) >= _LIMIT:
        return None
    found = _batched(step, left, right, result[1])
    return found if found is None or dtype.name != "int8" or _aligned(found) else None


def _aligned(calls: list[tuple[Gemm, tuple[int, int, int]]]) -> bool:
    """Tell whether matrices of int8 lie as the library wants them."""
    gemm = calls[0][0]
    sizes = gemm.k, gemm.lda, gemm.ldb, *gemm.strides[:2]
    return not any(n % _INT8 for n in (*sizes, *(n for _, (a, b, _) in calls for n in (a, b))))


def _batched(
    step: Dot, left: tuple[bool, int], right: tuple[bool, int], ldc: int
) -> list[tuple[Gemm, tuple[int, int, int]]] | None:
    """Return one call for the longest batch axis, as often as the others say."""
    nb, places = len(step.batches), step.places
    axes = _joined(step.batches, [p.strides[:nb] for p in places])
    longest = max(axes, key=lambda axis: axis[0], default=(1, 0, 0, 0))
    others = [axis for axis in axes if axis is not longest]
    if math.prod(n for n, *_ in others) > _MOST:
        return None
    batch, *strides = longest
    dtype, made = (np.dtype(v.aval.dtype) for v in (step.a, step.out))
    gemm = Gemm(
        dtype, batch, step.m, step.n, step.k, left[0], right[0], left[1], right[1], ldc,
        tuple(strides), made, step.tf32 and dtype.name == "float32",  # type: ignore[arg-type]
    )  # fmt: skip
    found = []
    for index in itertools.product(*(range(n) for n, *_ in others)):
        starts = [p.offset for p in places]
        for i, (_, *steps) in zip(index, others, strict=True):
            starts = [at + i * s for at, s in zip(starts, steps, strict=True)]
        found.append((gemm, tuple(starts)))
    return found  # type: ignore[return-value]


def _joined(sizes: Sequence[int], strides: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Return batch axes (size, strides in the three arrays), with those made one that can be."""
    found: list[tuple[int, ...]] = []
    for n, *steps in zip(sizes, *strides, strict=True):
        if n == 1:
            continue
        if found and all(f == s * n for f, s in zip(found[-1][1:], steps, strict=True)):
            n *= found.pop()[0]
        found.append((n, *steps))
    return found


def _takes(step: Dot) -> bool:
    """Tell whether a product is a few calls, or so small that a kernel of our own will do."""
    dtype = step.out.aval.dtype
    ours = dtype in SUMMED and step.a.aval.dtype == dtype
    return gemms(step) is not None or (ours and (dtype.kind != "f" or step.products < _LARGE))


GPU_PRODUCTS = Products(_PAIRS | {(d, d) for d in SUMMED}, _takes, FLOATS | {*HALVES})
"""What cuBLAS and kernels of our own make."""
