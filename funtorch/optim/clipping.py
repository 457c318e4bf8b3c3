"""Bounds on updates: by value, by norms of all, of each array, of each example."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import funtorch.numpy as fnp
from funtorch import tree
from funtorch.optim.base import (
    GradientTransformation,
    check_params,
    check_positive,
    each,
    stateless,
)
from funtorch.optim.norms import abs_square, at_least_float32, global_norm
from funtorch.optim.scaling import times

__all__ = [
    "adaptive_grad_clip",
    "clip",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "per_example_global_norm_clip",
    "per_example_layer_norm_clip",
]


def clip(max_delta: Any) -> GradientTransformation:
    """Clip each element of the updates to [-max_delta, max_delta].

    Args:
        max_delta: the bound.

    Returns:
        The transformation.

    Raises:
        ValueError: the bound is negative.

    Example:
        >>> optim.clip(1.0).update([fnp.array([0.5, -9.0])], optim.EmptyState())[0]
        [Array([ 0.5, -1. ], dtype=float32)]
    """
    check_positive("clip", max_delta=max_delta)
    return stateless(
        lambda updates, params: each(lambda g: fnp.clip(g, -max_delta, max_delta), updates)
    )


def clip_by_block_rms(threshold: Any) -> GradientTransformation:
    """Shrink each array of updates so that its root mean square is at most ``threshold``.

    Args:
        threshold: the bound.

    Returns:
        The transformation.

    Example:
        >>> t = optim.clip_by_block_rms(1.0)
        >>> t.update([fnp.array([3.0, -3.0]), fnp.array([0.5])], t.init(None))[0]
        [Array([ 1., -1.], dtype=float32), Array([0.5], dtype=float32)]

    References:
        Shazeer & Stern, "Adafactor", ICML (2018), section 6.
    """
    check_positive("clip_by_block_rms", zero=False, threshold=threshold)

    def shrink(g: Any) -> Any:
        rms = fnp.sqrt(fnp.mean(abs_square(g)))
        return g / fnp.maximum(1.0, rms / threshold).astype(rms.dtype)

    return stateless(lambda updates, params: each(shrink, updates))


def clip_by_global_norm(max_norm: Any) -> GradientTransformation:
    """Shrink all updates by one factor so that their `global_norm` is at most ``max_norm``.

    Args:
        max_norm: the bound.

    Returns:
        The transformation.

    Raises:
        ValueError: the bound is negative.

    Example:
        >>> t = optim.clip_by_global_norm(1.0)
        >>> t.update([fnp.array([3.0, 4.0])], t.init(None))[0]
        [Array([0.6, 0.8], dtype=float32)]

    References:
        Pascanu et al., "On the difficulty of training recurrent neural networks", ICML (2013).
    """
    check_positive("clip_by_global_norm", max_norm=max_norm)

    def shrink(updates: Any, params: Any) -> Any:
        return shrunk(updates, global_norm(updates), max_norm)

    return stateless(shrink)


def shrunk(updates: Any, norm: Any, max_norm: Any) -> Any:
    """Return updates of a norm with the norm ``max_norm`` instead, if theirs is larger."""
    # Dividing by the larger of the two never divides by 0 and leaves short updates exact.
    larger = fnp.maximum(norm, max_norm)
    return times(updates, fnp.where(larger > 0, max_norm / fnp.where(larger > 0, larger, 1), 1))


# ------------------------------------------------------------------------------------- each example
def _batch_size(name: str, grads: Any) -> int:
    shapes = [fnp.shape(g) for g in tree.leaves(grads)]
    if not shapes or () in shapes or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(
            f"{name} takes gradients of single examples, each array with the batch as its first "
            "axis, as vmap(grad(loss), (None, 0)) gives them; it was given arrays of shapes "
            f"{', '.join(map(str, shapes)) or 'none'}"
        )
    return shapes[0][0]


def per_example_global_norm_clip(grads: Any, l2_norm_clip: Any) -> tuple[Any, Any]:
    """Shrink each example's gradient to a norm of at most ``l2_norm_clip``, and add them up.

    Args:
        grads: a pytree of arrays with the batch as their first axis.
        l2_norm_clip: the bound.

    Returns:
        (sum, number of gradients that were shrunk).

    Raises:
        ValueError: the arrays do not have one batch axis.

    Example:
        >>> optim.per_example_global_norm_clip([fnp.array([[3.0, 4.0], [0.0, 0.0]])], 1.0)
        ([Array([0.6, 0.8], dtype=float32)], Array(1, dtype=int32))

    References:
        Abadi et al., "Deep learning with differential privacy" (2016).
    """
    _batch_size("per_example_global_norm_clip", grads)

    def squares(g: Any) -> Any:
        g = g.astype(at_least_float32(g.dtype))
        return fnp.sum(abs_square(g), axis=tuple(range(1, g.ndim)))

    norms = fnp.sqrt(functools.reduce(operator.add, map(squares, tree.leaves(grads))))
    factors = l2_norm_clip / fnp.maximum(norms, l2_norm_clip)
    shrunk = each(lambda g: fnp.tensordot(factors.astype(g.dtype), g, axes=1), grads)
    return shrunk, fnp.sum(norms > l2_norm_clip)


def per_example_layer_norm_clip(
    grads: Any, global_l2_norm_clip: Any, uniform: bool = True
) -> tuple[Any, Any]:
    """Shrink each array of each example's gradient to a bound of its own, and add them up.

    Args:
        grads: a pytree of arrays with the batch as their first axis.
        global_l2_norm_clip: bound on the norm of an example's whole gradient.
        uniform: whether all arrays have the same bound, rather than one by the root of their size.

    Returns:
        (sum, tree of numbers of arrays that were shrunk).

    Raises:
        ValueError: the arrays do not have one batch axis.

    Example:
        >>> optim.per_example_layer_norm_clip([fnp.array([[3.0, 4.0], [0.0, 0.0]])], 1.0)
        ([Array([0.6, 0.8], dtype=float32)], [Array(1, dtype=int32)])

    References:
        McMahan et al., "Learning differentially private recurrent language models", ICLR (2018).
    """
    batch = max(_batch_size("per_example_layer_norm_clip", grads), 1)
    leaves, treedef = tree.flatten(grads)
    sizes = [1 if uniform else g.size // batch for g in leaves]
    bounds = [global_l2_norm_clip * math.sqrt(size / sum(sizes)) for size in sizes]
    pairs = [per_example_global_norm_clip(g, b) for g, b in zip(leaves, bounds, strict=True)]
    sums, numbers = zip(*pairs, strict=True)
    return tree.unflatten(treedef, sums), tree.unflatten(treedef, numbers)


# ---------------------------------------------------------------------------------------- each unit
_UNIT_AXES = {0: (), 1: (0,), 2: (0,), 3: (0,), 4: (0, 1, 2), 5: (0, 1, 2, 3)}


def _unitwise_norm(x: Any, axis: Any) -> Any:
    if axis is None:
        if x.ndim > 1 and sum(size != 1 for size in x.shape) <= 1:
            axis = tuple(range(x.ndim))
        elif x.ndim in _UNIT_AXES:
            axis = _UNIT_AXES[x.ndim]
        else:
            raise ValueError(
                "adaptive_grad_clip knows the units of arrays of rank 0 to 5; for one of shape "
                f"{x.shape} say by axis= which axes a unit's weights lie along"
            )
    return fnp.sqrt(fnp.sum(abs_square(x), axis=axis, keepdims=True))


def adaptive_grad_clip(
    clipping: float, eps: float = 1e-3, axis: int | tuple[int, ...] | None = None
) -> GradientTransformation:
    """Shrink each unit's gradient to at most a part of the norm of its weights.

    Args:
        clipping: the part.
        eps: least norm of weights.
        axis: the axes that a unit's weights lie along; by default the first of matrices, all but
            the last of kernels (features last).

    Returns:
        The transformation; its update needs ``params``.

    Raises:
        ValueError: an array has too high a rank, and ``axis`` is None.

    Example:
        >>> t = optim.adaptive_grad_clip(0.1)
        >>> t.update([fnp.array([3.0, 4.0])], t.init(None), [fnp.array([0.0, 10.0])])[0]
        [Array([0.6, 0.8], dtype=float32)]

    References:
        Brock et al., "High-performance large-scale image recognition without normalization" (2021).
    """

    def shrink(g: Any, p: Any) -> Any:
        norm = _unitwise_norm(g, axis)
        most = clipping * fnp.maximum(_unitwise_norm(p, axis), eps)
        return fnp.where(norm < most, g, g * (most / fnp.maximum(norm, 1e-6)))

    def change(updates: Any, params: Any) -> Any:
        check_params("adaptive_grad_clip", params)
        return each(shrink, updates, params)

    return stateless(change)
