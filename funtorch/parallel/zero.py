"""Optimizers whose state is divided among processes: each one updates its part of the parameters.

Where an array is divided depends on its shape alone, so the state of an optimizer is divided as
the parameters are, whatever optimizer it is; and the whole arrays are those of one process.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import funtorch.numpy as fnp
from funtorch import lax, tree
from funtorch.optim.base import (
    GradientTransformationExtraArgs,
    check_positive,
    with_extra_args_support,
)
from funtorch.optim.clipping import shrunk
from funtorch.optim.norms import global_norm, squared_norm
from funtorch.sharding import PartitionSpec

from .averaging import BUCKET_BYTES, average, buckets, check_own, checked, is_mapped, joined

__all__ = ["divided_axis", "divided_specs", "gathered", "own_part", "scattered", "zero"]


def divided_axis(shape: Sequence[int], parts: int) -> int | None:
    """Return which axis of an array of a shape is divided: the longest one that can be.

    Args:
        shape: the whole array's.
        parts: into how many equal parts.

    Returns:
        The first of the longest axes whose size is a multiple of ``parts``; None if there is none.

    Example:
        >>> from funtorch.parallel import divided_axis
        >>> divided_axis((10, 64), 4), divided_axis((10,), 4), divided_axis((), 4)
        (1, None, None)
    """
    found = [(-n, axis) for axis, n in enumerate(shape) if n and n % parts == 0]
    return min(found)[1] if found else None


def divided_specs(values: Any, parts: int, axis_name: Hashable = "data") -> Any:
    """Return how the arrays of a tree are divided, as `zero` does it.

    Args:
        values: pytree of arrays or of what has a shape: parameters, a state of an optimizer.
        parts: how many processes the axis has.
        axis_name: its name.

    Returns:
        A tree of `PartitionSpec`: the specs of `shard_map`, or of a `NamedSharding`.

    Example:
        >>> import numpy as np
        >>> from funtorch.parallel import divided_specs
        >>> divided_specs({"w": np.ones((3, 4)), "b": np.ones(3)}, 2)
        {'b': PartitionSpec(), 'w': PartitionSpec(None, 'data')}
    """

    def spec(x: Any) -> PartitionSpec:
        axis = divided_axis(fnp.shape(x), parts)
        return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, axis_name)

    return tree.map(spec, values)


def own_part(values: Any, axis_name: Hashable = "data") -> Any:
    """Take this process's part of each array of a tree; what cannot be divided stays whole."""
    parts = lax.axis_size(axis_name)

    def part(x: Any) -> Any:
        x = fnp.asarray(x)
        axis = divided_axis(x.shape, parts)
        if axis is None:
            return x
        size = x.shape[axis] // parts
        return lax.dynamic_slice_in_dim(x, lax.axis_index(axis_name) * size, size, axis)

    return tree.map(part, values)


def _rows(x: Any, axis: int, parts: int) -> Any:
    """Return an array as (parts, n): what each process has of it in a row."""
    return fnp.moveaxis(x, axis, 0).reshape(parts, -1)


def _from_rows(rows: Any, shape: Sequence[int], axis: int) -> Any:
    """Return the array of a shape whose rows these are."""
    moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return fnp.moveaxis(rows.reshape(moved), 0, axis)


def scattered(grads: Any, axis_name: Hashable = "data", *, bucket_bytes: int = BUCKET_BYTES) -> Any:
    """Average gradients over processes, and keep this process's part of each.

    The parts are those of `own_part`; together they cost half the communication of `average`.

    Args:
        grads: pytree of whole gradients of floats, of this process's share of the batch.
        axis_name: the axis.
        bucket_bytes: as of `average`.

    Returns:
        A tree of parts; what cannot be divided is averaged and whole.

    Raises:
        NameError: no axis of this name is mapped here.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch.parallel import scattered
        >>> ft.vmap(scattered, axis_name="data")(fnp.array([[1.0, 2.0], [3.0, 4.0]]))
        Array([[2.],
               [3.]], dtype=float32)
    """
    parts = lax.axis_size(axis_name)
    leaves, wide, treedef = checked("zero", grads)
    axes = [divided_axis(x.shape, parts) for x in leaves]
    divided = [k for k, axis in enumerate(axes) if axis is not None]
    whole = [k for k, axis in enumerate(axes) if axis is None]
    out: list[Any] = list(leaves)
    averages = average([leaves[k] for k in whole], axis_name, bucket_bytes=bucket_bytes)
    for k, x in zip(whole, averages, strict=True):
        out[k] = x
    for group in buckets([wide[k] for k in divided], bucket_bytes):
        places = [divided[k] for k in group]
        rows = joined([_rows(wide[k], axes[k], parts) for k in places], 1)
        own = lax.psum_scatter(rows, axis_name) / parts
        start = 0
        for k in places:
            shape = list(leaves[k].shape)
            shape[axes[k]] //= parts
            end = start + math.prod(shape)
            out[k] = _from_rows(own[start:end], shape, axes[k]).astype(leaves[k].dtype)
            start = end
    return tree.unflatten(treedef, out)


def gathered(
    values: Any, like: Any, axis_name: Hashable = "data", *, bucket_bytes: int = BUCKET_BYTES
) -> Any:
    """Put the parts that all processes have together to whole arrays: the inverse of `own_part`.

    Args:
        values: pytree of parts.
        like: the same tree of whole arrays, of which only the shapes matter.
        axis_name: the axis.
        bucket_bytes: as of `average`.

    Returns:
        The whole arrays, the same everywhere.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch.parallel import gathered
        >>> gather = ft.vmap(lambda x: gathered(x, fnp.zeros(2)), axis_name="data")
        >>> gather(fnp.array([[1.0], [2.0]]))
        Array([[1., 2.],
               [1., 2.]], dtype=float32)
    """
    parts = lax.axis_size(axis_name)
    leaves, treedef = tree.flatten(values)
    shapes = [fnp.shape(x) for x in tree.leaves(like)]
    axes = [divided_axis(shape, parts) for shape in shapes]
    divided = [k for k, axis in enumerate(axes) if axis is not None]
    out = list(leaves)
    for group in buckets([leaves[k] for k in divided], bucket_bytes):
        places = [divided[k] for k in group]
        own = joined([_rows(leaves[k], axes[k], 1).reshape(-1) for k in places], 0)
        rows = lax.all_gather(own, axis_name)
        start = 0
        for k in places:
            end = start + leaves[k].size
            out[k] = _from_rows(rows[:, start:end], shapes[k], axes[k])
            start = end
    return tree.unflatten(treedef, out)


def _global_norm(parts: Any, like: Any, axis_name: Hashable) -> Any:
    """Return the norm of all gradients, of which this process has parts."""
    count = lax.axis_size(axis_name)
    pairs = list(zip(tree.leaves(parts), tree.leaves(like), strict=True))
    divided = [x for x, g in pairs if divided_axis(g.shape, count) is not None]
    whole = [x for x, g in pairs if divided_axis(g.shape, count) is None]
    return fnp.sqrt(lax.psum(squared_norm(divided), axis_name) + squared_norm(whole))


def zero(
    optimizer: Any,
    axis_name: Hashable = "data",
    *,
    max_norm: float | None = None,
    bucket_bytes: int = BUCKET_BYTES,
) -> GradientTransformationExtraArgs:
    """Divide an optimizer's state, and its work, among the processes of an axis (ZeRO, stage 1).

    Each process gets its part of the average gradients, updates its part of the parameters with
    its part of the state, and all exchange the updates: as many bytes as averaging gradients
    takes, and 1/N of the state's memory. The gradients that ``update`` takes are those of each
    process's share of the batch: they must not be averaged before.

    ``init`` stays outside of `shard_map`; its state is that of the optimizer itself, and comes in
    and out with the specs that `divided_specs` gives. So a checkpoint of it fits any number of
    processes.

    Args:
        optimizer: an optimizer that treats all entries alike (sgd, adam, adamw, lion ...). One that
            computes norms or factors of whole arrays (lamb, lars, adafactor, muon) would see parts.
        axis_name: the axis.
        max_norm: the largest norm of the whole gradients; they are scaled down to it. This is
            `optim.clip_by_global_norm`, which cannot stand in ``optimizer``.
        bucket_bytes: as of `average`.

    Returns:
        An optimizer with the same state. Outside of any mapped axis it is ``optimizer``.

    Raises:
        NameError: no axis of this name is mapped where ``update`` is called.
        ValueError: the state that comes in is not divided.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> from funtorch.parallel import zero
        >>> optimizer = zero(optim.sgd(1.0, momentum=0.9), "data")
        >>> params = fnp.zeros(2)
        >>> state = optimizer.init(params)  # of two entries; each process has one of them
        >>> grads = fnp.array([[1.0, 2.0], [3.0, 4.0]])
        >>> halves = ft.tree.map(lambda x: x.reshape(2, 1), state)
        >>> step = lambda g, s: optimizer.update(g, s, params)[0]
        >>> ft.vmap(step, axis_name="data")(grads, halves)
        Array([[-2., -3.],
               [-2., -3.]], dtype=float32)

    References:
        S. Rajbhandari, J. Rasley, O. Ruwase, Y. He, "ZeRO: memory optimizations toward training
        trillion parameter models", SC 2020.
    """
    inner = with_extra_args_support(optimizer)
    if max_norm is not None:
        check_positive("zero", max_norm=max_norm)

    def update(grads: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        if not is_mapped(axis_name):
            if max_norm is not None:
                grads = shrunk(grads, global_norm(grads), max_norm)
            return inner.update(grads, state, params, **extra)
        check_own("zero", grads, axis_name)
        parts = scattered(grads, axis_name, bucket_bytes=bucket_bytes)
        if max_norm is not None:
            parts = shrunk(parts, _global_norm(parts, grads, axis_name), max_norm)
        own = None if params is None else own_part(params, axis_name)
        updates, state = inner.update(parts, state, own, **extra)
        return gathered(updates, grads, axis_name, bucket_bytes=bucket_bytes), state

    return GradientTransformationExtraArgs(inner.init, update)
