"""The places of the largest elements of windows, axis by axis.

A table of an axis has a row per window: the positions of its elements, those outside of the axis
too. Elements of a channel are numbered in row-major order over all axes of space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

import funtorch as ft
import funtorch.numpy as fnp

__all__ = ["best_places", "gathered"]


def _within(table: np.ndarray, n: int) -> np.ndarray:
    """Put the first element inside in the place of those outside, which then change nothing."""
    inside = (table >= 0) & (table < n)
    first = np.take_along_axis(table, inside.argmax(1)[:, None], 1)
    return np.clip(np.where(inside, table, first), 0, max(n - 1, 0)).astype(np.int32)


def best_places(x: ft.Array, tables: Sequence[np.ndarray]) -> ft.Array:
    """Return the number of the first largest element of each window.

    Args:
        x: array of shape (..., *space).
        tables: integer arrays of shape (windows, elements), one per axis of space.

    Returns:
        int32 array of shape (..., *windows).
    """
    m = len(tables)
    space = x.shape[x.ndim - m :]
    x = ft.lax.stop_gradient(x)
    number = fnp.arange(math.prod(space), dtype=fnp.int32).reshape(space)
    number = fnp.broadcast_to(number, x.shape)
    # The last axis first: of equal elements, the one in the first row then stays.
    for axis, table in reversed(list(enumerate(tables, x.ndim - m))):
        reads = _within(table, x.shape[axis])
        x, number = (fnp.take(a, reads, axis=axis, mode="clip") for a in (x, number))
        best = fnp.argmax(x, axis=axis + 1, keepdims=True)
        x, number = (fnp.take_along_axis(a, best, axis + 1).squeeze(axis + 1) for a in (x, number))
    return number


def gathered(x: ft.Array, places: ft.Array, space: int) -> ft.Array:
    """Return the elements of the last ``space`` axes of x that have these numbers.

    Args:
        x: array of shape (..., *space).
        places: integer array of shape (..., *others).
        space: how many axes of space both have.

    Returns:
        Array of the shape of ``places``.
    """
    lead = x.shape[: x.ndim - space]
    flat = x.reshape(*lead, math.prod(x.shape[x.ndim - space :]))
    where = places.reshape(*lead, math.prod(places.shape[places.ndim - space :]))
    return fnp.take_along_axis(flat, where, -1, mode="clip").reshape(places.shape)
