"""Contractions as batches of matrix products: which are some, and how the others become some."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch.jaxpr import Eqn, Lit
from funtorch.ops.contract import dot_general, free_axes
from funtorch.ops.shape import reshape, transpose

__all__ = ["as_matrices", "dot_layout"]


FLOATS = frozenset(map(np.dtype, ("float32", "float64")))
"""The dtypes whose products BLAS makes."""


def dot_layout(eqn: Eqn) -> tuple[int, int, int, int, bool, bool] | None:
    """Return (batch, m, n, k, trans_a, trans_b) of a dot_general that BLAS can take, or None."""
    if any(isinstance(v, Lit) for v in eqn.invars):
        return None
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    (a, b), lead = (v.aval.shape for v in eqn.invars), tuple(range(len(ba)))
    pairs = sorted(zip(ca, cb, strict=True))
    ca, cb = tuple(i for i, _ in pairs), tuple(j for _, j in pairs)
    if ba != lead or bb != lead:
        return None

    def split(shape: Sequence[int], contracted: tuple[int, ...]) -> tuple[bool, int, int] | None:
        free = tuple(d for d in range(len(shape)) if d not in contracted and d >= len(lead))
        sizes = int(np.prod([shape[d] for d in free])), int(np.prod([shape[d] for d in contracted]))
        if (*free, *contracted) == tuple(range(len(lead), len(shape))):
            return True, *sizes
        return (
            (False, *sizes) if (*contracted, *free) == tuple(range(len(lead), len(shape))) else None
        )

    left, right = split(a, ca), split(b, cb)
    if left is None or right is None or max(*left[1:], right[1]) >= 2**31:
        return None
    return int(np.prod([a[d] for d in lead])), left[1], right[1], left[2], not left[0], right[0]


def as_matrices(eqn: Eqn) -> Callable[..., Any] | None:
    """Return a contraction written as transposes and products of matrices; None if it is one.

    Each operand becomes (batch, rows, columns), its last axis staying last where it can: then the
    transpose moves whole runs of memory.
    """
    a, b = (v.aval for v in eqn.invars)
    if a.dtype not in FLOATS or b.dtype != a.dtype or eqn.outvars[0].aval.dtype != a.dtype:
        return None
    if any(isinstance(v, Lit) for v in eqn.invars) or dot_layout(eqn) is not None:
        return None
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    pairs = sorted(zip(ca, cb, strict=True))
    left = _turned(a.shape, ba, tuple(i for i, _ in pairs))
    right = _turned(b.shape, bb, tuple(j for _, j in pairs))
    if left[0] == tuple(range(a.ndim)) and right[0] == tuple(range(b.ndim)):
        return None  # turning does not help: it is too large
    numbers = ((left[2],), (right[2],)), ((0,), (0,))

    def product(x: Any, y: Any) -> Any:
        x, y = (
            reshape(z if perm == tuple(range(len(perm))) else transpose(z, perm=perm), shape=shape)
            for z, (perm, shape, _) in ((x, left), (y, right))
        )
        out = dot_general(x, y, dimension_numbers=numbers, out_dtype=a.dtype)
        return reshape(out, shape=eqn.outvars[0].aval.shape)

    return product


def _turned(
    shape: Sequence[int], batch: Sequence[int], contracted: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, int, int], int]:
    """Return the order of an operand's axes, its shape as matrices, and which axis of those is
    contracted."""
    free = free_axes(len(shape), contracted, batch)
    last = bool(contracted) and contracted[-1] == len(shape) - 1
    groups = (batch, free, contracted) if last else (batch, contracted, free)
    sizes = [math.prod(shape[d] for d in group) for group in groups]
    return tuple(d for group in groups for d in group), (*sizes,), 2 if last else 1  # type: ignore[return-value]
