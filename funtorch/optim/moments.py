"""Averages over past steps: momentum, and what adaptive methods divide by."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch.optim.base import (
    GradientTransformation,
    each,
    per_leaf,
    piece,
    zero_count,
    zeros_like,
)
from funtorch.optim.norms import abs_square, at_least_float32, safe_increment

__all__ = [
    "EmaState",
    "TraceState",
    "bias_correction",
    "ema",
    "trace",
    "update_infinity_moment",
    "update_moment",
    "update_moment_per_elem_norm",
]


class TraceState(NamedTuple):
    """The decaying sum of past updates."""

    trace: Any


class EmaState(NamedTuple):
    """How many steps were taken (int32), and the average of updates."""

    count: Any
    ema: Any


# ----------------------------------------------------------------------------------------- averages
def mix(new: Any, old: Any, decay: Any) -> Any:
    """Return the average that a new term joins."""
    return (1 - decay) * new + decay * old


class Unbiased:
    """Divides averages that started at zero by ``1 - decay**count``, computed once per dtype."""

    def __init__(self, decay: Any, count: Any) -> None:
        self.decay, self.count = decay, fnp.asarray(count)
        self.weights: dict[Any, Any] = {}

    def __call__(self, moment: Any) -> Any:
        dtype = at_least_float32(fnp.finfo(moment.dtype).dtype)
        if dtype not in self.weights:
            self.weights[dtype] = sum_of_weights(self.decay, self.count, dtype)
        return (moment / self.weights[dtype]).astype(moment.dtype)


def sum_of_weights(decay: Any, count: Any, dtype: Any) -> Any:
    """Return ``1 - decay**count`` in ``dtype``: the weights of the terms of an average."""
    # expm1, since for a decay near 1 the difference 1 - decay**count would lose its digits.
    return -fnp.expm1(count.astype(dtype) * log_of(decay, dtype))


def log_of(decay: Any, dtype: Any) -> Any:
    """Return the logarithm of a number, with all its digits, or of an array in ``dtype``."""
    if isinstance(decay, (int, float)):
        return math.log(decay) if decay else -math.inf
    return fnp.log(fnp.asarray(decay, dtype=dtype))


def update_moment(updates: Any, moments: Any, decay: Any, order: int) -> Any:
    """Let powers of updates join averages.

    Args:
        updates: a pytree of arrays.
        moments: the averages so far, a tree of the same structure.
        decay: how much of them stays.
        order: which power.

    Returns:
        ``(1 - decay) * updates**order + decay * moments``.

    Example:
        >>> optim.tree.update_moment([fnp.full(1, 2.0)], [fnp.zeros(1)], 0.5, 2)
        [Array([2.], dtype=float32)]
    """
    return each(lambda g, m: mix(g**order, m, decay), updates, moments)


def update_moment_per_elem_norm(updates: Any, moments: Any, decay: Any, order: int) -> Any:
    """Let powers of absolute values of updates join averages.

    Args:
        updates: a pytree of arrays, which may be complex.
        moments: the averages so far, a tree of the same structure.
        decay: how much of them stays.
        order: which power.

    Returns:
        ``(1 - decay) * |updates|**order + decay * moments``.

    Example:
        >>> optim.tree.update_moment_per_elem_norm([fnp.array([3 + 4j])], [fnp.zeros(1)], 0.0, 2)
        [Array([25.], dtype=float32)]
    """

    def power(g: Any) -> Any:
        if not fnp.iscomplexobj(g):
            return g**order
        return abs_square(g) ** (order // 2 if order % 2 == 0 else order / 2)

    return each(lambda g, m: mix(power(g), m, decay), updates, moments)


def update_infinity_moment(updates: Any, moments: Any, decay: Any, eps: Any) -> Any:
    """Keep a decaying maximum of absolute values of updates.

    Args:
        updates: a pytree of arrays.
        moments: the maxima so far, a tree of the same structure.
        decay: how much of them stays.
        eps: added to the absolute values.

    Returns:
        ``maximum(|updates| + eps, decay * moments)``.

    Example:
        >>> optim.tree.update_infinity_moment([fnp.full(1, -2.0)], [fnp.ones(1)], 0.9, 0.0)
        [Array([2.], dtype=float32)]
    """
    return each(lambda g, m: fnp.maximum(fnp.abs(g) + eps, decay * m), updates, moments)


def bias_correction(moment: Any, decay: Any, count: Any) -> Any:
    """Divide averages that started at zero by the sum of the weights of their terms.

    Args:
        moment: a pytree of averages.
        decay: how much of them stayed at each step.
        count: number of steps.

    Returns:
        ``moment / (1 - decay**count)``, in the same dtypes.

    Example:
        >>> optim.tree.bias_correction([fnp.array([0.19])], 0.9, fnp.asarray(2))
        [Array([1.], dtype=float32)]
    """
    return each(Unbiased(decay, count), moment)


tree_update_moment = update_moment
tree_update_moment_per_elem_norm = update_moment_per_elem_norm
tree_update_infinity_moment = update_infinity_moment
tree_bias_correction = bias_correction


# ------------------------------------------------------------------------------------------- memory
def trace(
    decay: float, nesterov: bool = False, accumulator_dtype: Any = None
) -> GradientTransformation:
    """Add up past updates with exponential decay: momentum.

    With s the sum, s <- decay s + g. The update is s, or g + decay s after Nesterov.

    Args:
        decay: how much of the sum stays at each step.
        nesterov: whether to look one step ahead.
        accumulator_dtype: of the sum; the parameters' by default.

    Returns:
        The transformation.

    Example:
        >>> t = optim.trace(0.5)
        >>> _, state = t.update([fnp.ones(1)], t.init([fnp.zeros(1)]))
        >>> t.update([fnp.ones(1)], state)[0]
        [Array([1.5], dtype=float32)]

    References:
        Sutskever et al., "On the importance of initialization and momentum in deep learning",
        ICML (2013).
    """

    def init(params: Any) -> TraceState:
        return TraceState(zeros_like(params, accumulator_dtype))

    def step(g: Any, s: Any) -> tuple[Any, Any]:
        s = g + decay * s
        return (g + decay * s if nesterov else s), s

    def update(updates: Any, state: TraceState, params: Any) -> tuple[Any, TraceState]:
        updates, s = per_leaf(step, updates, (state.trace,))
        return updates, TraceState(s)

    return piece(TraceState, init, update)


def ema(decay: float, debias: bool = True, accumulator_dtype: Any = None) -> GradientTransformation:
    """Replace updates by their exponentially decaying average.

    Args:
        decay: how much of the average stays at each step.
        debias: whether to correct for its start at zero.
        accumulator_dtype: of the average; the parameters' by default.

    Returns:
        The transformation.

    Example:
        >>> t = optim.ema(0.5)
        >>> _, state = t.update([fnp.ones(1)], t.init([fnp.zeros(1)]))
        >>> t.update([fnp.full(1, 4.0)], state)[0]
        [Array([3.], dtype=float32)]
    """

    def init(params: Any) -> EmaState:
        return EmaState(zero_count(), zeros_like(params, accumulator_dtype))

    def update(updates: Any, state: EmaState, params: Any) -> tuple[Any, EmaState]:
        count = safe_increment(state.count)
        unbiased = Unbiased(decay, count)

        def step(g: Any, m: Any) -> tuple[Any, Any]:
            m = mix(g, m, decay)
            return (unbiased(m) if debias else m), m

        updates, average = per_leaf(step, updates, (state.ema,))
        return updates, EmaState(count, average)

    return piece(EmaState, init, update)
