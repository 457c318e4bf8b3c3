"""Gradients averaged over processes, in buckets: few large messages instead of many small ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import funtorch.numpy as fnp
from funtorch import dtypes, lax, tree
from funtorch.core import _state
from funtorch.optim.base import EmptyState, GradientTransformation
from funtorch.transforms import pvary
from funtorch.transforms.varying import in_body, varying

__all__ = [
    "BUCKET_BYTES",
    "average",
    "average_gradients",
    "averaged",
    "buckets",
    "check_own",
    "checked",
    "is_mapped",
    "joined",
    "per_process",
    "widened",
]

BUCKET_BYTES = 25 << 20
"""Where a bucket is full: large enough that starting a message costs nothing beside it."""
ALONE_BYTES = 1 << 20
"""Arrays from here on have a message of their own: it needs no copy, and begins while the backward
pass still computes others."""


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
    that were used first; arrays of one dtype, until a group has ``limit`` bytes. Large ones are
    groups of their own.

    Args:
        leaves: the arrays.
        limit: in bytes.

    Yields:
        The places of a group's arrays.

    Example:
        >>> import numpy as np
        >>> [group for group in buckets([np.ones(4), np.ones(1), np.ones(2)], 24)]
        [[2, 1], [0]]
    """
    open_ones: dict[Any, tuple[list[int], int]] = {}
    for place in reversed(range(len(leaves))):
        x = leaves[place]
        size = math.prod(x.shape) * x.dtype.itemsize
        if size >= ALONE_BYTES:
            yield [place]
            continue
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


def check_own(what: str, grads: Any, axis_name: Hashable) -> None:
    """Check that gradients are those of each process's own loss.

    Raises:
        ValueError: they are the same in all processes of the axis, so something has summed them.
    """
    if not in_body() or not is_mapped(axis_name):
        return
    for path, g in tree.leaves_with_path(grads):
        if axis_name not in varying(g):
            raise ValueError(
                f"{what} takes gradients of each process's own part of the batch, but "
                f"{tree.keystr(path) or 'what it got'} is the same along {axis_name!r}: inside of "
                "shard_map gradients are sums over all processes already. Take them with "
                "parallel.per_process(value_and_grad(loss)), or pass check_vma=False to shard_map"
            )


def joined(parts: Sequence[Any], axis: int) -> Any:
    """Concatenate, without a copy of a single array."""
    return parts[0] if len(parts) == 1 else fnp.concatenate(parts, axis)


def average(x: Any, axis_name: Any = "data", *, bucket_bytes: int = BUCKET_BYTES) -> Any:
    """Average a pytree of arrays over a mapped axis, as `lax.pmean` does, with few messages.

    Arrays are joined to buckets in the reverse of their order, but for those of 1 MB and more; in a
    compiled program each message begins when its arrays are there. What is known to be the same in
    all processes stays as it is. float16 and bfloat16 are summed and divided in float32, and
    rounded once. Outside of any mapped axis, nothing changes.

    Args:
        x: pytree of arrays of floats, such as gradients; None is left alone.
        axis_name: the axis, or several.
        bucket_bytes: how large a bucket gets.

    Returns:
        The averages, the same everywhere.

    Raises:
        NameError: no axis of this name is mapped here.
        TypeError: an array is of integers.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch.parallel import average
        >>> ft.vmap(average, axis_name="data")({"a": fnp.array([1.0, 3.0])})["a"]
        Array([2., 2.], dtype=float32)
    """
    if not is_mapped(axis_name):
        return x
    leaves, wide, treedef = checked("average", x)
    count = lax.axis_size(axis_name)
    out: list[Any] = list(leaves)
    different = [k for k, x in enumerate(leaves) if _differs(x, axis_name)]
    for places in buckets([wide[k] for k in different], bucket_bytes):
        group = [different[k] for k in places]
        total = lax.psum(joined([wide[k].reshape(-1) for k in group], 0), axis_name) / count
        start = 0
        for k in group:
            end = start + leaves[k].size
            out[k] = total[start:end].reshape(leaves[k].shape).astype(leaves[k].dtype)
            start = end
    return tree.unflatten(treedef, out)


def _differs(x: Any, axis_name: Any) -> bool:
    """Tell whether processes may have different values."""
    names = axis_name if isinstance(axis_name, (tuple, list)) else (axis_name,)
    return not in_body() or any(name in varying(x) for name in names)


def per_process(value_and_grad: Callable[..., Any], axis_name: Any = "data") -> Callable[..., Any]:
    """Take gradients of each process's own loss, where `shard_map` would sum them over processes.

    Inside `shard_map` (with its ``check_vma``, which is on by default) the gradient in what all
    processes have is that of the sum of all their losses, array by array. `average_gradients` and
    `zero` sum in buckets, or parts, and need each process's own.

    Args:
        value_and_grad: what `funtorch.value_and_grad`, `nnx.value_and_grad` or a ``grad`` returned.
        axis_name: the axis, or several, that the batch is divided along.

    Returns:
        A function of the same arguments and results.

    Example:
        >>> import funtorch as ft
        >>> from funtorch import parallel
        >>> parallel.per_process(ft.grad(lambda w: w**2))(3.0)
        Array(6., dtype=float32, weak_type=True)
    """

    def function(*args: Any, **kwargs: Any) -> Any:
        if in_body():
            args, kwargs = tree.map(lambda x: _own(x, axis_name), (args, kwargs))
        return value_and_grad(*args, **kwargs)

    return function


def _own(x: Any, axis_name: Any) -> Any:
    """Count a value as different in each process."""
    names = axis_name if isinstance(axis_name, (tuple, list)) else (axis_name,)
    return pvary(x, tuple(n for n in names if n not in varying(x)))


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
        A function of the same arguments and results. Outside of any mapped axis it is
        ``value_and_grad``.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch import parallel
        >>> f = parallel.averaged(ft.value_and_grad(lambda w, x: (w * x).mean()), "data")
        >>> x = fnp.array([[1.0, 2.0], [3.0, 6.0]])
        >>> ft.vmap(f, (None, 0), axis_name="data")(2.0, x)
        (Array([6., 6.], dtype=float32), Array([3., 3.], dtype=float32))
    """
    own = per_process(value_and_grad, axis_name)

    def function(*args: Any, **kwargs: Any) -> Any:
        value, grads = own(*args, **kwargs)
        if not is_mapped(axis_name):
            return value, grads
        loss, *rest = value if isinstance(value, tuple) else (value,)
        count = lax.axis_size(axis_name)
        sums, others = _apart(grads, axis_name)
        loss, others = average((loss, others), axis_name, bucket_bytes=bucket_bytes)
        grads = tree.map(
            lambda s, o: o if s is None else s / count, sums, others, is_leaf=lambda x: x is None
        )
        return ((loss, *rest) if isinstance(value, tuple) else loss), grads

    return function


def _apart(grads: Any, axis_name: Hashable) -> tuple[Any, Any]:
    """Return the gradients that are sums over an axis already, and the others; None elsewhere."""

    def says(node: Any) -> bool:
        return hasattr(node, "gradients_summed_over")

    def part(node: Any, wanted: bool) -> Any:
        flags = tree.map(lambda g: False, node)
        if says(node):
            flags = node.gradients_summed_over(axis_name)
        return tree.map(lambda g, summed: g if summed is wanted else None, node, flags)

    return tuple(tree.map(lambda n: part(n, w), grads, is_leaf=says) for w in (True, False))


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
        >>> from funtorch.parallel import average_gradients
        >>> optimizer = optim.chain(average_gradients("data"), optim.sgd(1.0))
        >>> step = lambda g: optimizer.update(g, optimizer.init(fnp.zeros(())))[0]
        >>> ft.vmap(step, axis_name="data")(fnp.array([1.0, 3.0]))
        Array([-2., -2.], dtype=float32)
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        check_own("average_gradients", updates, axis_name)
        return average(updates, axis_name, bucket_bytes=bucket_bytes), state

    return GradientTransformation(lambda params: EmptyState(), update)
