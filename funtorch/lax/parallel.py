"""Collectives made of others, and tokens: ragged_all_to_all, pbroadcast, after_all."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from funtorch.lax.reductions import optimization_barrier
from funtorch.numpy import creation, elementwise
from funtorch.numpy.promotion import describe, to_array
from funtorch.transforms import all_gather, all_to_all
from funtorch.tree import map as tree_map

__all__ = ["after_all", "create_token", "pbroadcast", "ragged_all_to_all"]


def create_token(_: Any = None) -> Any:
    """Return a token: an empty array, which orders what takes it after what gave it.

    Example:
        >>> from funtorch import lax
        >>> lax.create_token().shape
        (0,)
    """
    return creation.zeros(0, bool)


def after_all(*operands: Any) -> Any:
    """Return a token that is there once all of these are.

    Args:
        operands: tokens, or arrays.

    Example:
        >>> from funtorch import lax
        >>> lax.after_all(lax.create_token(), lax.create_token()).shape
        (0,)
    """
    return optimization_barrier((create_token(), operands))[0]


def pbroadcast(x: Any, axis_name: Hashable, source: int) -> Any:
    """Return, at all places of a mapped axis, what place ``source`` has.

    Args:
        x: pytree of arrays.
        axis_name: the name of the mapped axis.
        source: the place.

    Example:
        >>> import funtorch as ft
        >>> ft.vmap(lambda v: ft.lax.pbroadcast(v, "i", 1), axis_name="i")(ft.numpy.arange(3))
        Array([1, 1, 1], dtype=int32)
    """
    return tree_map(lambda v: all_gather(v, axis_name)[source], x)


def ragged_all_to_all(
    operand: Any,
    output: Any,
    input_offsets: Any,
    send_sizes: Any,
    output_offsets: Any,
    recv_sizes: Any,
    axis_name: Hashable,
    *,
    axis_index_groups: Sequence[Sequence[int]] | None = None,
) -> Any:
    """Send slices of different sizes from each place of a mapped axis to each.

    With K slices and n places, the slices from k K / n on go to place k, one after the other.

    Args:
        operand: (N, ...), what slices are cut from.
        output: (M, ...), what received slices are written into.
        input_offsets: (K,) integers: where the slices begin in ``operand``.
        send_sizes: (K,) integers: how many rows they have.
        output_offsets: (K,) integers: where they begin in their receivers' ``output``.
        recv_sizes: (K,) integers: how many rows come to this place: what
            ``all_to_all(send_sizes)`` gives.
        axis_name: the name of the mapped axis.
        axis_index_groups: groups of places, of equal size, that do so among them; None: all.

    Returns:
        (M, ...): ``output`` with the slices. Every place gets what all have, and takes its own.

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> def swapped(x, begin, size, to, get):
        ...     return ft.lax.ragged_all_to_all(x, fnp.zeros(4, int), begin, size, to, get, "i")
        >>> ft.vmap(swapped, axis_name="i")(
        ...     fnp.array([[1, 2, 2], [3, 4, 0]]),
        ...     fnp.array([[0, 1], [0, 1]]),
        ...     fnp.array([[1, 2], [1, 1]]),
        ...     fnp.array([[0, 0], [1, 2]]),
        ...     fnp.array([[1, 1], [2, 1]]),
        ... )
        Array([[1, 3, 0, 0],
               [2, 2, 4, 0]], dtype=int32)
    """
    x, out = (
        to_array(v, "ragged_all_to_all", n) for v, n in ((operand, "operand"), (output, "output"))
    )
    names = ("input_offsets", "send_sizes", "output_offsets", "recv_sizes")
    given = (input_offsets, send_sizes, output_offsets, recv_sizes)
    lists = [to_array(v, "ragged_all_to_all", n) for v, n in zip(given, names, strict=True)]
    every = all_gather(x, axis_name, axis_index_groups=axis_index_groups)  # (places, N, ...)
    count = every.shape[0]
    _check(x, out, dict(zip(names, lists, strict=True)), count)
    moved = [
        all_to_all(v, axis_name, 0, 0, axis_index_groups=axis_index_groups, tiled=True)
        for v in (lists[0], lists[2])
    ]
    begins, places, sizes = *moved, lists[3]
    each, rows = sizes.shape[0] // count, creation.arange(out.shape[0])
    for k in range(sizes.shape[0]):
        at = rows - places[k]
        here = elementwise.logical_and(at >= 0, at < sizes[k])
        source = elementwise.clip(at + begins[k], 0, max(x.shape[0] - 1, 0))
        mask = here.reshape(-1, *[1] * (out.ndim - 1))
        out = elementwise.where(mask, every[k // each][source], out)
    return out


def _check(x: Any, out: Any, lists: dict[str, Any], count: int) -> None:
    """Check the operands of `ragged_all_to_all`.

    Raises:
        ValueError: they do not fit.
    """
    if not x.ndim or x.shape[1:] != out.shape[1:] or x.dtype != out.dtype or not x.shape[0]:
        raise ValueError(
            "ragged_all_to_all: operand and output have rows of the same shape and dtype, got "
            f"{describe(x)} and {describe(out)}"
        )
    shapes = {v.shape for v in lists.values()}
    kinds = {v.dtype.kind for v in lists.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1 or not kinds <= set("iu"):
        shown = ", ".join(f"{name}: {describe(v)}" for name, v in lists.items())
        raise ValueError(
            "ragged_all_to_all: offsets and sizes are integer arrays of one axis and one size, got "
            f"{shown}"
        )
    (total,) = next(iter(shapes))
    if total % count or not total:
        raise ValueError(
            f"ragged_all_to_all: {total} slices must be divisible among the {count} places of the "
            "mapped axis"
        )
