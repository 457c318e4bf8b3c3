"""Gradients averaged over processes, in buckets: few large messages instead of many small ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import funtorch.numpy as fnp
from funtorch import dtypes, lax, tree
from funtorch.core import _state
from funtorch.optim.base import EmptyState, GradientTransformation

__all__ = ["BUCKET_BYTES", "average", "average_gradients", "averaged", "buckets", "is_mapped"]

BUCKET_BYTES = 25 << 20
"""Where a bucket is full: large enough that starting a message costs nothing beside it."""


def is_mapped(axis_name: Any) -> bool:
    """Tell whether code runs inside a `shard_map` or `vmap`, where collectives have a meaning.

    Args:
        axis_name: the name that is about to be used, or several.

    Raises:
        NameError: there are mapped axes, but not this one.
    """
    if not _state.axes:
        return False
    lax.axis_size(axis_name)
    return True


def buckets(leaves: Sequence[Any], limit: int) -> Iterator[list[int]]:
    """Group arrays for common messages: the last ones first, since backward passes end with those
    that were used first; arrays of one dtype, until a group has ``limit`` bytes.

    Args:
        leaves: the arrays.
        limit: in bytes.

    Yields:
        The places of a group's arrays.

    Example:
        >>> import numpy as np
        >>> [group for group in buckets([np.ones(4), np.ones(1), np.ones(2)], 20)]
        [[2, 1], [0]]
    """
    open_ones: dict[Any, tuple[list[int], int]] = {}
    for place in reversed(range(len(leaves))):
        x = leaves[place]
        size = math.prod(x.shape) * x.dtype.itemsize
        group, total = open_ones.pop(x.dtype, ([], 0))
        if group and total + size > limit:
            yield group
            group, total = [], 0
        open_ones[x.dtype] = [*group, place], total + size
    for group, _ in open_ones.values():
        yield group


def widened(x: Any) -> Any:
    """Return float16 and bfloat16 in float32, in which sums of many parts are right."""
    return x.astype(fnp.float32) if x.dtype.itemsize < 4 else x


def checked(what: str, tree_: Any) -> tuple[list[Any], list[Any], Any]:
    """Flatten a tree of arrays that can be averaged.

    Returns:
        The arrays, the same ones as wide as they are summed, and the structure.

    Raises:
        TypeError: one is of integers.
    """
    paths, treedef = tree.flatten_with_path(tree_)
    leaves = [fnp.asarray(x) for _, x in paths]
    for (path, _), x in zip(paths, leaves, strict=True):
        if not dtypes.issubdtype(x.dtype, fnp.inexact):
            raise TypeError(
                f"{what} averages arrays of floats; {tree.keystr(path) or 'it'} is {x.dtype}"
                f"{list(x.shape)}. Average the rest, or sum this with lax.psum"
            )
    return leaves, [widened(x) for x in leaves], treedef


def joined(parts: Sequence[Any], axis: int) -> Any:
    """Concatenate, without a copy of a single array."""
    return parts[0] if len(parts) == 1 else fnp.concatenate(parts, axis)


def average(x: Any, axis_name: Any = "data", *, bucket_bytes: int = BUCKET_BYTES) -> Any:
    """Average a pytree of arrays over a mapped axis, as `lax.pmean` does, with few messages.

    Arrays are joined to buckets in the reverse of their order. float16 and bfloat16 are summed
    and divided in float32, and rounded once. Outside of any mapped axis, nothing changes.

    Args:
        x: pytree of arrays of floats, such as gradients; None is left alone.
        axis_name: the axis, or several.
        bucket_bytes: how large a bucket gets; a larger array has one of its own.

    Returns:
        The averages, the same everywhere.

    Raises:
        NameError: no axis of this name is mapped here.
        TypeError: an array is of integers.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch.distributed.averaging import average
        >>> ft.vmap(average, axis_name="data")({"a": fnp.array([1.0, 3.0])})["a"]
        Array([2., 2.], dtype=float32)
    """
    if not is_mapped(axis_name):
        return x
    leaves, wide, treedef = checked("average", x)
    count = lax.axis_size(axis_name)
    out: list[Any] = list(leaves)
    for group in buckets(wide, bucket_bytes):
        total = lax.psum(joined([wide[k].reshape(-1) for k in group], 0), axis_name) / count
        start = 0
        for k in group:
            end = start + leaves[k].size
            out[k] = total[start:end].reshape(leaves[k].shape).astype(leaves[k].dtype)
            start = end
    return tree.unflatten(treedef, out)


def averaged(
    value_and_grad: Callable[..., Any],
    axis_name: Hashable = "data",
    *,
    bucket_bytes: int = BUCKET_BYTES,
) -> Callable[..., Any]:
    """Average the loss and the gradients that a function gives over the processes of an axis.

    Each process has its part of a batch; the mean of its loss is one over its part, so what comes
    out is what one process with the whole batch would get, when parts are equally large.
    Parameters that are divided along the axis (`nnx.FullySharded`) have gradients that are
    sums over the processes already; those become averages, too.

    Args:
        value_and_grad: what `funtorch.value_and_grad` or `nnx.value_and_grad` returned. With
            ``has_aux`` the other results of the loss stay as they are in each process.
        axis_name: the axis of `shard_map` along which the batch is divided.
        bucket_bytes: as of `average`.

    Returns:
        A function of the same arguments and results.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch.distributed.averaging import averaged
        >>> f = averaged(ft.value_and_grad(lambda w, x: (w * x).mean()), "data")
        >>> x = fnp.array([[1.0, 2.0], [3.0, 6.0]])
        >>> ft.vmap(f, (None, 0), axis_name="data")(2.0, x)
        (Array([6., 6.], dtype=float32), Array([3., 3.], dtype=float32))
    """

    def function(*args: Any, **kwargs: Any) -> Any:
        value, grads = value_and_grad(*args, **kwargs)
        if not is_mapped(axis_name):
            return value, grads
        loss, *rest = value if isinstance(value, tuple) else (value,)

        def divided(node: Any) -> bool:
            return axis_name in getattr(node, "summed_over", ())

        nodes, treedef = tree.flatten(grads, is_leaf=divided)
        count = lax.axis_size(axis_name)
        sums = {k: tree.map(lambda g: g / count, n) for k, n in enumerate(nodes) if divided(n)}
        others = [None if k in sums else n for k, n in enumerate(nodes)]
        loss, others = average((loss, others), axis_name, bucket_bytes=bucket_bytes)
        nodes = [sums.get(k, n) for k, n in enumerate(others)]
        value = (loss, *rest) if isinstance(value, tuple) else loss
        return value, tree.unflatten(treedef, nodes)

    return function


def average_gradients(
    axis_name: Any = "data", *, bucket_bytes: int = BUCKET_BYTES
) -> GradientTransformation:
    """Make a piece of an optimizer that averages gradients over the processes of an axis.

    Args:
        axis_name: the axis, or several.
        bucket_bytes: as of `average`.

    Returns:
        The transformation; it stands first in an `optim.chain`, and has no state.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> from funtorch.distributed.averaging import average_gradients
        >>> optimizer = optim.chain(average_gradients("data"), optim.sgd(1.0))
        >>> step = lambda g: optimizer.update(g, optimizer.init(fnp.zeros(())))[0]
        >>> ft.vmap(step, axis_name="data")(fnp.array([1.0, 3.0]))
        Array([-2., -2.], dtype=float32)
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return average(updates, axis_name, bucket_bytes=bucket_bytes), state

    return GradientTransformation(lambda params: EmptyState(), update)
