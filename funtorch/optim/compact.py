"""Adaptive methods whose memory is smaller than the parameters: rows and columns of squares."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import funtorch.numpy as fnp
from funtorch.optim.base import (
    GradientTransformation,
    check_params,
    each,
    per_leaf,
    piece,
    zero_count,
    zeros_like,
)
from funtorch.optim.moments import mix
from funtorch.optim.norms import abs_square, safe_increment

__all__ = ["FactoredState", "ScaleBySM3State", "scale_by_factored_rms", "scale_by_sm3"]


class ScaleBySM3State(NamedTuple):
    """For each array the sums of squares along each of its axes, and the momentum."""

    mu: Any
    nu: Any


class FactoredState(NamedTuple):
    """Steps (int32), averages of squares of rows and of columns, and of arrays not factored."""

    count: Any
    v_row: Any
    v_col: Any
    v: Any


def scale_by_sm3(b1: float = 0.9, b2: float = 1.0, eps: float = 1e-8) -> GradientTransformation:
    """Divide updates by roots of sums of squares, of which only maxima along axes are kept.

    Args:
        b1: decay of the momentum of the divided updates, in [0, 1).
        b2: decay of the sums; 1 for none.
        eps: keeps the root from 0.

    Returns:
        The transformation.

    Raises:
        TypeError: a parameter is complex.

    Example:
        >>> t = optim.scale_by_sm3(b1=0.0)
        >>> t.update([fnp.array([3.0])], t.init([fnp.zeros(1)]))[0]
        [Array([1.], dtype=float32)]

    References:
        Anil et al., "Memory-efficient adaptive optimization", NeurIPS (2019).
    """

    def init(params: Any) -> ScaleBySM3State:
        def zeros(p: Any) -> list[Any]:
            p = fnp.asarray(p)
            if fnp.iscomplexobj(p):
                raise TypeError(f"scale_by_sm3 takes real parameters, not {p.dtype}")
            return [fnp.zeros(size, p.dtype) for size in p.shape]

        return ScaleBySM3State(each(zeros, params), zeros_like(params))

    def step(g: Any, along: list[Any], momentum: Any) -> tuple[Any, list[Any], Any]:
        shapes = [
            [size if k == axis else 1 for k, size in enumerate(g.shape)] for axis in range(g.ndim)
        ]
        spread = [m.reshape(shape) for m, shape in zip(along, shapes, strict=True)]
        bound = functools.reduce(fnp.minimum, spread) if spread else fnp.zeros_like(g)
        total = (1.0 if b2 == 1.0 else 1.0 - b2) * g**2 + b2 * bound
        divided = g * fnp.where(total > 0, 1 / fnp.sqrt(total + eps), 0)
        momentum = mix(divided, momentum, b1)
        axes = range(g.ndim)
        along = [fnp.max(total, axis=tuple(k for k in axes if k != axis)) for axis in axes]
        return momentum, along, momentum

    def update(updates: Any, state: ScaleBySM3State, params: Any) -> tuple[Any, ScaleBySM3State]:
        updates, mu, nu = per_leaf(step, updates, (state.mu, state.nu))
        return updates, ScaleBySM3State(mu, nu)

    return piece(ScaleBySM3State, init, update)


def decay_rate_power(step: Any, exponent: Any = 0.8) -> Any:
    """Return Adafactor's decay of averages, ``1 - (step + 1)**-exponent``."""
    return 1.0 - fnp.asarray(step + 1, dtype=fnp.float32) ** -exponent


def _factored_axes(shape: tuple[int, ...], factored: bool, least: int) -> tuple[int, int] | None:
    """Return the second largest and the largest axis, if both are long enough."""
    if not factored or len(shape) < 2:
        return None
    order = np.argsort(shape)
    if shape[order[-2]] < least:
        return None
    return int(order[-2]), int(order[-1])


def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: float = 0.8,
    step_offset: int = 0,
    min_dim_size_to_factor: int = 128,
    epsilon: float = 1e-30,
    decay_rate_fn: Callable[[Any, Any], Any] = decay_rate_power,
) -> GradientTransformation:
    """Divide updates by roots of averages of squares, kept as a row and a column.

    The average of a matrix's squares is estimated by the outer product of its means over rows and
    over columns, divided by the mean of all. Other arrays keep their averages whole.

    Args:
        factored: whether to factor at all.
        decay_rate: exponent of the decay; see ``decay_rate_fn``.
        step_offset: number of the first step.
        min_dim_size_to_factor: least size of the two longest axes of an array that is factored.
        epsilon: added to squares.
        decay_rate_fn: from (step, decay_rate) to the decay of the averages.

    Returns:
        The transformation; its update needs ``params``.

    Example:
        >>> t, params = optim.scale_by_factored_rms(), [fnp.zeros(2)]
        >>> t.update([fnp.array([3.0, -4.0])], t.init(params), params)[0]
        [Array([ 1., -1.], dtype=float32)]

    References:
        Shazeer & Stern, "Adafactor", ICML (2018).
    """

    def shapes_of(p: Any) -> tuple[tuple[int, ...], ...]:
        shape = tuple(fnp.shape(p))
        axes = _factored_axes(shape, factored, min_dim_size_to_factor)
        if axes is None:
            return (1,), (1,), shape
        return tuple(np.delete(shape, axes[1])), tuple(np.delete(shape, axes[0])), (1,)

    def init(params: Any) -> FactoredState:
        def zeros(which: int) -> Any:
            return each(
                lambda p: fnp.zeros(tuple(map(int, shapes_of(p)[which])), fnp.asarray(p).dtype),
                params,
            )

        return FactoredState(zero_count(), *map(zeros, range(3)))

    def update(updates: Any, state: FactoredState, params: Any) -> tuple[Any, FactoredState]:
        check_params("scale_by_factored_rms", params)
        decay = decay_rate_fn(state.count - step_offset, decay_rate)

        def step(g: Any, row: Any, col: Any, whole: Any, p: Any) -> tuple[Any, ...]:
            squares = abs_square(g) + epsilon
            axes = _factored_axes(tuple(p.shape), factored, min_dim_size_to_factor)
            if axes is None:
                whole = mix(squares, whole, decay).astype(whole.dtype)
                return g / fnp.sqrt(whole), row, col, whole
            second, first = axes
            row = mix(fnp.mean(squares, axis=first), row, decay).astype(row.dtype)
            col = mix(fnp.mean(squares, axis=second), col, decay).astype(col.dtype)
            mean = fnp.mean(row, axis=second - (second > first), keepdims=True)
            by_row = fnp.expand_dims(1 / fnp.sqrt(row / mean), first)
            by_col = fnp.expand_dims(1 / fnp.sqrt(col), second)
            return g * by_row * by_col, row, col, whole

        updates, *averages = per_leaf(step, updates, (state.v_row, state.v_col, state.v), params)
        return updates, FactoredState(safe_increment(state.count), *averages)

    return piece(FactoredState, init, update)
