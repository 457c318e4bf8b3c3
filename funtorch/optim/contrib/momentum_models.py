"""Step sizes by the loss: momentum with a linear model of it that is bounded from below."""

from __future__ import annotations

from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch.optim.base import (
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    check_params,
    each,
    piece_with_extra,
    zero_count,
    zeros_like,
)
from funtorch.optim.contrib.adam_variants import at_step
from funtorch.optim.contrib.parameter_free import inner, number_like
from funtorch.optim.moments import sum_of_weights
from funtorch.optim.norms import at_least_float32, safe_increment, squared_norm

__all__ = ["MomoAdamState", "MomoState", "momo", "momo_adam"]


class MomoState(NamedTuple):
    """Averages of gradients, losses, and <g, p>; the lower bound; steps (int32)."""

    exp_avg: Any
    barf: Any
    gamma: Any
    lb: Any
    count: Any


class MomoAdamState(NamedTuple):
    """As MoMo's, with the average of squares."""

    exp_avg: Any
    exp_avg_sq: Any
    barf: Any
    gamma: Any
    lb: Any
    count: Any


def _needs_loss(name: str, value: Any) -> Any:
    if value is None:
        raise ValueError(f"{name} needs the loss: call update(grads, state, params, value=loss)")
    return value


def momo(
    learning_rate: ScalarOrSchedule = 1.0,
    beta: float = 0.9,
    lower_bound: float = 0.0,
    weight_decay: float = 0.0,
    adapt_lower_bound: bool = False,
) -> GradientTransformationExtraArgs:
    """Make MoMo: momentum with a step size by a model of the loss that is linear, but bounded.

    Args:
        learning_rate: largest step size, or a function of the number of steps taken before.
        beta: decay of the averages of gradients and losses.
        lower_bound: of the loss.
        weight_decay: times the learning rate, about the part of a weight that goes at each step.
        adapt_lower_bound: whether to estimate the bound on the way.

    Returns:
        The optimizer; its update needs ``params`` and the loss as ``value``.

    Raises:
        ValueError: update was called without them.

    Example:
        >>> optimizer, params = optim.contrib.momo(), [fnp.ones(1)]
        >>> optimizer.update([fnp.full(1, 2.0)], optimizer.init(params), params, value=1.0)[0]
        [Array([-0.5], dtype=float32)]

    References:
        Schaipp et al., "MoMo: momentum models for adaptive learning rates" (2023).
    """

    def init(params: Any) -> MomoState:
        zero = number_like(0.0, params)
        return MomoState(
            zeros_like(params), zero, zero, number_like(lower_bound, params), zero_count()
        )

    def update(
        updates: Any, state: MomoState, params: Any = None, *, value: Any = None, **extra: Any
    ) -> tuple[Any, MomoState]:
        check_params("momo", params)
        dtype = state.barf.dtype
        b = fnp.where(state.count == 0, 0, fnp.asarray(beta, dtype=dtype))
        loss = b * state.barf + (1 - b) * fnp.asarray(_needs_loss("momo", value), dtype=dtype)
        m = each(lambda m, g: b * m + (1 - b) * g, state.exp_avg, updates)
        gamma = b * state.gamma + (1 - b) * inner(updates, params).astype(dtype)
        square, along = squared_norm(m).astype(dtype), inner(m, params).astype(dtype)
        rate = fnp.asarray(at_step(learning_rate, state.count), dtype=dtype)
        bound, tau, grown = _bounded_step(
            loss, gamma, along, square, state.lb, rate, 1.0, weight_decay, lower_bound,
            adapt_lower_bound,
        )  # fmt: skip
        shrink = rate * weight_decay / (1 + rate * weight_decay)
        updates = each(lambda m, p: -shrink * p - tau * m, m, params)
        count = safe_increment(state.count)
        return updates, MomoState(m, loss, gamma, grown if adapt_lower_bound else bound, count)

    return piece_with_extra(MomoState, init, update)


def _bounded_step(
    loss: Any, gamma: Any, along: Any, square: Any, bound: Any, rate: Any, start: Any,
    weight_decay: Any, least: Any, adapt: bool,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """Return the bound, the step to where the linear model meets it, and the next bound."""
    shrink = 1 + rate * weight_decay
    cap = shrink * (loss - gamma) + along
    used = bound
    if adapt:
        low = fnp.maximum(cap / (2 * start * shrink), least)
        used = fnp.where(cap < shrink * start * bound, low, bound).astype(bound.dtype)
    gap = fnp.maximum(cap - shrink * start * used, 0.0)
    flat = square <= fnp.finfo(square.dtype).eps
    tau = fnp.minimum(rate / start, fnp.where(flat, 0.0, gap / fnp.where(flat, 1, square)))
    grown = fnp.maximum((loss + along - gamma - tau * square / 2) / start, least)
    return used, tau, grown.astype(bound.dtype)


def momo_adam(
    learning_rate: ScalarOrSchedule = 1e-2,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    lower_bound: float = 0.0,
    weight_decay: float = 0.0,
    adapt_lower_bound: bool = False,
) -> GradientTransformationExtraArgs:
    """Make MoMo-Adam: Adam with a step size by a bounded linear model of the loss.

    Args:
        learning_rate: largest step size, or a function of the number of steps taken before.
        b1: decay of the averages of gradients and losses.
        b2: decay of the average of squares.
        eps: keeps the divisor from 0.
        lower_bound: of the loss.
        weight_decay: times the learning rate, about the part of a weight that goes at each step.
        adapt_lower_bound: whether to estimate the bound on the way.

    Returns:
        The optimizer; its update needs ``params`` and the loss as ``value``.

    Raises:
        ValueError: update was called without them.

    Example:
        >>> optimizer, params = optim.contrib.momo_adam(1.0), [fnp.ones(1)]
        >>> updates = optimizer.update([fnp.ones(1)], optimizer.init(params), params, value=0.5)[0]
        >>> fnp.round(updates[0], 3)
        Array([-0.5], dtype=float32)

    References:
        Schaipp et al., "MoMo: momentum models for adaptive learning rates" (2023).
    """

    def init(params: Any) -> MomoAdamState:
        zero, zeros = number_like(0.0, params), zeros_like(params)
        return MomoAdamState(
            zeros, zeros, zero, zero, number_like(lower_bound, params), zero_count()
        )

    def update(
        updates: Any, state: MomoAdamState, params: Any = None, *, value: Any = None, **extra: Any
    ) -> tuple[Any, MomoAdamState]:
        check_params("momo_adam", params)
        count = safe_increment(state.count)
        dtype = state.barf.dtype
        value = fnp.asarray(_needs_loss("momo_adam", value), dtype=dtype)
        loss = b1 * state.barf + (1 - b1) * value
        m = each(lambda m, g: b1 * m + (1 - b1) * g, state.exp_avg, updates)
        v = each(lambda v, g: b2 * v + (1 - b2) * g * g, state.exp_avg_sq, updates)
        wide = at_least_float32(dtype)
        start1, start2 = (sum_of_weights(b, count, wide).astype(dtype) for b in (b1, b2))
        divisor = each(lambda v: eps + fnp.sqrt(v / start2), v)
        divided = each(lambda m, d: m / d, m, divisor)
        gamma = b1 * state.gamma + (1 - b1) * inner(updates, params).astype(dtype)
        square, along = (inner(m, x).astype(dtype) for x in (divided, params))
        rate = fnp.asarray(at_step(learning_rate, state.count), dtype=dtype)
        bound, tau, grown = _bounded_step(
            loss, gamma, along, square, state.lb, rate, start1, weight_decay, lower_bound,
            adapt_lower_bound,
        )  # fmt: skip
        shrink = rate * weight_decay / (1 + rate * weight_decay)
        updates = each(lambda m, p: -shrink * p - tau * m, divided, params)
        bound = grown if adapt_lower_bound else bound
        return updates, MomoAdamState(m, v, loss, gamma, bound, count)

    return piece_with_extra(MomoAdamState, init, update)
