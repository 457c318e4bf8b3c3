"""Optimizers that find their learning rate: by bets, and by distances.

Notation: p the parameters, p0 the first ones, g the gradients, d an estimate of |p0 - p*|.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch.optim.adding import add_decayed_weights
from funtorch.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    chain,
    check_params,
    each,
    identity,
    per_leaf,
    piece,
    piece_with_extra,
    with_extra_args_support,
    zero_count,
    zeros_like,
)
from funtorch.optim.contrib.adam_variants import at_step
from funtorch.optim.moments import sum_of_weights
from funtorch.optim.norms import at_least_float32, global_norm, safe_increment, squared_norm, total
from funtorch.optim.scaling import scale_by_learning_rate, times
from funtorch.optim.tree_utils import tree_dtype, tree_sub

__all__ = [
    "COCOBState",
    "DAdaptAdamWState",
    "DoGState",
    "DoWGState",
    "MechanicState",
    "ProdigyState",
    "cocob",
    "dadapt_adamw",
    "dog",
    "dowg",
    "mechanize",
    "prodigy",
    "scale_by_cocob",
    "scale_by_dog",
    "scale_by_dowg",
]


class COCOBState(NamedTuple):
    """First parameters, sums of -g, largest |g|, sums of |g|, and rewards."""

    init_particles: Any
    cumulative_gradients: Any
    scale: Any
    subgradients: Any
    reward: Any


class DoGState(NamedTuple):
    """Whether no step was taken, the first parameters, the farthest way, the sum of |g|²."""

    is_init_step: Any
    init_params: Any
    max_dist: Any
    sum_sq_norm_grads: Any


class DoWGState(NamedTuple):
    """The first parameters, the weighted sum of |g|², and the farthest way, squared."""

    init_params: Any
    weighted_sq_norm_grads: Any
    estim_sq_dist: Any


class DAdaptAdamWState(NamedTuple):
    """Averages of steps and squares, the sum of steps, the estimate d, its numerator, steps."""

    exp_avg: Any
    exp_avg_sq: Any
    grad_sum: Any
    estim_lr: Any
    numerator_weighted: Any
    count: Any


class ProdigyState(NamedTuple):
    """As D-Adaptation's, with the first parameters."""

    exp_avg: Any
    exp_avg_sq: Any
    grad_sum: Any
    params0: Any
    estim_lr: Any
    numerator_weighted: Any
    count: Any


class MechanicState(NamedTuple):
    """The optimizer's state, steps, sums of the bets for each decay, and the first parameters."""

    base_optimizer_state: Any
    count: Any
    r: Any
    m: Any
    v: Any
    s: Any
    x0: Any


def number_like(value: Any, params: Any) -> Any:
    """Return a scalar in the least dtype of the parameters."""
    return fnp.asarray(value, dtype=tree_dtype(params, "lowest"))


def _kept(params: Any) -> Any:
    return each(fnp.asarray, params)


def inner(x: Any, y: Any) -> Any:
    return total(lambda a, b: a * b, x, y)


def _decay(weight_decay: Any, mask: Any) -> GradientTransformation:
    return identity() if weight_decay is None else add_decayed_weights(weight_decay, mask)


# --------------------------------------------------------------------------------------------- bets
def scale_by_cocob(alpha: float = 100.0, eps: float = 1e-8) -> GradientTransformation:
    """Bet on the sign of the next gradient of every weight, with what was won before.

    Args:
        alpha: how long first bets stay small.
        eps: what the largest gradients start at.

    Returns:
        The transformation, whose updates go downhill; its update needs ``params``.

    Example:
        >>> t, params = optim.contrib.scale_by_cocob(), [fnp.zeros(1)]
        >>> t.update([fnp.ones(1)], t.init(params), params)[0]
        [Array([-0.01], dtype=float32)]

    References:
        Orabona & Tommasi, "Training deep networks without learning rates through coin betting",
        NeurIPS (2017).
    """

    def init(params: Any) -> COCOBState:
        zeros = zeros_like(params)
        return COCOBState(_kept(params), zeros, each(lambda x: x + eps, zeros), zeros, zeros)

    def step(g: Any, sums: Any, most: Any, sizes: Any, won: Any, p: Any, start: Any) -> Any:
        most = fnp.maximum(most, fnp.abs(g))
        sizes = sizes + fnp.abs(g)
        won = fnp.maximum(won - g * (p - start), 0)
        sums = sums - g
        place = start + sums / (most * fnp.maximum(sizes + most, alpha * most)) * (most + won)
        return place - p, sums, most, sizes, won

    def update(updates: Any, state: COCOBState, params: Any) -> tuple[Any, COCOBState]:
        check_params("scale_by_cocob", params)
        updates, *kept = per_leaf(step, updates, tuple(state[1:]), params, state.init_particles)
        return updates, COCOBState(state.init_particles, *kept)

    return piece(COCOBState, init, update)


def cocob(
    learning_rate: ScalarOrSchedule = 1.0,
    alpha: float = 100.0,
    eps: float = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> GradientTransformationExtraArgs:
    """Make COCOB: no learning rate, but bets; see `scale_by_cocob`.

    Args:
        learning_rate: factor of the gradients.
        alpha: how long first bets stay small.
        eps: what the largest gradients start at.
        weight_decay: part of the parameters that is added to the gradients.
        mask: which weights decay; see `add_decayed_weights`.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.contrib.cocob(), [fnp.zeros(1)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-0.01], dtype=float32)]

    References:
        Orabona & Tommasi, "Training deep networks without learning rates through coin betting",
        NeurIPS (2017).
    """
    return chain(
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate, flip_sign=False),
        scale_by_cocob(alpha, eps),
    )


def mechanize(
    base_optimizer: GradientTransformation,
    weight_decay: float = 1e-2,
    eps: float = 1e-8,
    s_init: float = 1e-6,
    num_betas: int = 6,
) -> GradientTransformationExtraArgs:
    """Find a factor for the steps of any optimizer, by bets on its direction.

    Args:
        base_optimizer: the optimizer, with a learning rate of 1 or a schedule that starts there.
        weight_decay: part of the parameters, in proportion to gradients, that joins them.
        eps: keeps divisors from 0.
        s_init: first factor.
        num_betas: number of decays to bet with, 0.9, 0.99, ...

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.contrib.mechanize(optim.sgd(1.0)), [fnp.ones(1)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0][0].shape
        (1,)

    References:
        Cutkosky et al., "Mechanic: a learning rate tuner", NeurIPS (2023).
    """
    optimizer = with_extra_args_support(base_optimizer)

    def init(params: Any) -> MechanicState:
        zeros = fnp.zeros(num_betas, tree_dtype(params, "lowest"))
        start = fnp.full_like(zeros, s_init)
        return MechanicState(
            optimizer.init(params), zero_count(), zeros, zeros, zeros, start, _kept(params)
        )

    def update(
        updates: Any, state: MechanicState, params: Any = None, **extra: Any
    ) -> tuple[Any, MechanicState]:
        check_params("mechanize", params)
        moves, inner_state = optimizer.update(updates, state.base_optimizer_state, params, **extra)
        dtype = state.s.dtype
        first = each(lambda p, x: fnp.where(state.count == 0, p, x), params, state.x0)
        factor = fnp.sum(state.s)
        pull = (weight_decay * factor * global_norm(updates) / (global_norm(params) + eps)).astype(
            dtype
        )
        grads = each(lambda g, p: g + pull * p, updates, params)
        before = each(lambda p, x0: (x0 - p) / (factor + eps), params, first)
        after = each(lambda way, move: way - move, before, moves)
        h = inner(grads, before).astype(dtype)
        betas = fnp.asarray([1.0 - 0.1**k for k in range(1, num_betas + 1)], dtype=dtype)
        clipped = fnp.clip(h, -state.m, state.m)
        m = fnp.maximum(betas * state.m, fnp.abs(h) + eps)
        v = betas**2 * state.v + h**2
        r = betas * state.r + clipped * state.s
        s = (s_init / num_betas * m + fnp.maximum(0, r)) / (fnp.sqrt(v) + eps)
        scale = fnp.sum(s)
        updates = each(lambda x0, way, p: x0 - scale * way - p, first, after, params)
        count = safe_increment(state.count)
        return updates, MechanicState(inner_state, count, r, m, v, s, first)

    return piece_with_extra(MechanicState, init, update)


# ---------------------------------------------------------------------------------------- distances
_FIRST_STEPS = ("distance", "heuristic", "learning_rate")


def scale_by_dog(init_step: tuple[str, float], eps: float = 1e-8) -> GradientTransformation:
    """Multiply updates by the farthest way from the start over the root of the sum of |g|².

    Args:
        init_step: ('distance', first way), ('heuristic', first way as a part of 1 + |p|) or
            ('learning_rate', first rate).
        eps: keeps the root from 0.

    Returns:
        The transformation; its update needs ``params``.

    Raises:
        ValueError: there is no such kind of first step.

    Example:
        >>> t, params = optim.contrib.scale_by_dog(("distance", 0.1)), [fnp.zeros(1)]
        >>> t.update([fnp.full(1, 4.0)], t.init(params), params)[0]
        [Array([0.1], dtype=float32)]

    References:
        Ivgi et al., "DoG is SGD's best friend", ICML (2023).
    """
    kind, size = init_step
    if kind not in _FIRST_STEPS:
        raise ValueError(f"scale_by_dog: init_step[0] is one of {_FIRST_STEPS}, not {kind!r}")

    def init(params: Any) -> DoGState:
        way = {"distance": size, "learning_rate": 0.0}.get(kind)
        way = size * (1 + global_norm(params)) if way is None else way
        return DoGState(
            fnp.asarray(True), _kept(params), number_like(way, params), number_like(0.0, params)
        )

    def update(updates: Any, state: DoGState, params: Any) -> tuple[Any, DoGState]:
        check_params("scale_by_dog", params)
        dtype = state.max_dist.dtype
        way = global_norm(tree_sub(state.init_params, params)).astype(dtype)
        way = fnp.maximum(state.max_dist, way)
        squares = state.sum_sq_norm_grads + squared_norm(updates).astype(dtype)
        rate = way / fnp.sqrt(squares + eps)
        if kind == "learning_rate":
            rate = fnp.where(state.is_init_step, fnp.asarray(size, dtype=dtype), rate)
        return times(updates, rate), DoGState(fnp.asarray(False), state.init_params, way, squares)

    return piece(DoGState, init, update)


def dog(
    learning_rate: ScalarOrSchedule = 1.0,
    init_step: tuple[str, float] = ("heuristic", 1e-6),
    eps: float = 1e-8,
    weight_decay: ScalarOrSchedule | None = None,
    mask: Any = None,
) -> GradientTransformationExtraArgs:
    """Make DoG: gradient descent by distance over gradients; see `scale_by_dog`.

    Args:
        learning_rate: factor of its rate, or a function of the number of steps taken before.
        init_step: kind and size of the first step.
        eps: keeps the root from 0.
        weight_decay: part of the parameters that is added to the gradients.
        mask: which weights decay; see `add_decayed_weights`.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.contrib.dog(init_step=("distance", 0.1)), [fnp.zeros(1)]
        >>> optimizer.update([fnp.full(1, 4.0)], optimizer.init(params), params)[0]
        [Array([-0.1], dtype=float32)]

    References:
        Ivgi et al., "DoG is SGD's best friend", ICML (2023).
    """
    return chain(
        _decay(weight_decay, mask),
        scale_by_dog(init_step, eps),
        scale_by_learning_rate(learning_rate),
    )


def scale_by_dowg(
    init_estim_sq_dist: float | None = None, eps: float = 1e-4
) -> GradientTransformation:
    """Multiply updates by the farthest way, squared, over the root of |g|² weighted by it.

    Args:
        init_estim_sq_dist: first value of the squared way; ``eps`` by default.
        eps: keeps the divisor from 0.

    Returns:
        The transformation; its update needs ``params``.

    Example:
        >>> t, params = optim.contrib.scale_by_dowg(), [fnp.zeros(1)]
        >>> fnp.round(t.update([fnp.full(1, 4.0)], t.init(params), params)[0][0], 4)
        Array([0.01], dtype=float32)

    References:
        Khaled et al., "DoWG unleashed", NeurIPS (2023).
    """

    def init(params: Any) -> DoWGState:
        first = eps if init_estim_sq_dist is None else init_estim_sq_dist
        return DoWGState(_kept(params), number_like(0.0, params), number_like(first, params))

    def update(updates: Any, state: DoWGState, params: Any) -> tuple[Any, DoWGState]:
        check_params("scale_by_dowg", params)
        dtype = state.estim_sq_dist.dtype
        way = squared_norm(tree_sub(state.init_params, params)).astype(dtype)
        way = fnp.maximum(state.estim_sq_dist, way)
        squares = way * squared_norm(updates).astype(dtype) + state.weighted_sq_norm_grads
        rate = way / (fnp.sqrt(squares) + eps)
        return times(updates, rate), DoWGState(state.init_params, squares, way)

    return piece(DoWGState, init, update)


def dowg(
    learning_rate: ScalarOrSchedule = 1.0,
    init_estim_sq_dist: float | None = None,
    eps: float = 1e-4,
    weight_decay: ScalarOrSchedule | None = None,
    mask: Any = None,
) -> GradientTransformationExtraArgs:
    """Make DoWG: gradient descent by distance over weighted gradients; see `scale_by_dowg`.

    Args:
        learning_rate: factor of its rate, or a function of the number of steps taken before.
        init_estim_sq_dist: first value of the squared way; ``eps`` by default.
        eps: keeps the divisor from 0.
        weight_decay: part of the parameters that is added to the gradients.
        mask: which weights decay; see `add_decayed_weights`.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.contrib.dowg(), [fnp.zeros(1)]
        >>> fnp.round(optimizer.update([fnp.full(1, 4.0)], optimizer.init(params), params)[0][0], 4)
        Array([-0.01], dtype=float32)

    References:
        Khaled et al., "DoWG unleashed", NeurIPS (2023).
    """
    return chain(
        _decay(weight_decay, mask),
        scale_by_dowg(init_estim_sq_dist, eps),
        scale_by_learning_rate(learning_rate),
    )


def dadapt_adamw(
    learning_rate: ScalarOrSchedule = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    estim_lr0: float = 1e-6,
    weight_decay: float = 0.0,
) -> GradientTransformationExtraArgs:
    """Make D-Adaptation's AdamW: the distance to the solution, estimated, is the learning rate.

    Args:
        learning_rate: factor of the estimate, or a function of the number of steps taken before.
        betas: decays of the averages of steps and of squares.
        eps: keeps divisors from 0.
        estim_lr0: first estimate, less than the distance.
        weight_decay: times the rate, the part of a weight that goes at each step.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.contrib.dadapt_adamw(estim_lr0=0.5), [fnp.zeros(1)]
        >>> fnp.round(optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0][0], 3)
        Array([-0.5], dtype=float32)

    References:
        Defazio & Mishchenko, "Learning-rate-free learning by D-Adaptation", ICML (2023).
    """
    b1, b2 = betas
    root = b2**0.5

    def init(params: Any) -> DAdaptAdamWState:
        zeros = zeros_like(params)
        first = number_like(estim_lr0, params)
        return DAdaptAdamWState(zeros, zeros, zeros, first, fnp.zeros_like(first), zero_count())

    def update(updates: Any, state: DAdaptAdamWState, params: Any = None, **extra: Any) -> Any:
        check_params("dadapt_adamw", params)
        count = safe_increment(state.count)
        dtype = state.estim_lr.dtype
        rate = (
            state.estim_lr * at_step(learning_rate, state.count) * _correction(b1, b2, count, dtype)
        )
        rate = rate.astype(dtype)
        divided = each(lambda s, v: s / (fnp.sqrt(v) + eps), state.grad_sum, state.exp_avg_sq)
        gained = inner(updates, divided).astype(dtype)

        def step(g: Any, m: Any, v: Any, s: Any, p: Any) -> tuple[Any, Any, Any, Any]:
            m = b1 * m + (1 - b1) * rate * g
            v = b2 * v + (1 - b2) * g * g
            s = root * s + (1 - root) * rate * g
            return -weight_decay * rate * p - m / (fnp.sqrt(v) + eps), m, v, s

        moments = (state.exp_avg, state.exp_avg_sq, state.grad_sum)
        updates, m, v, s = per_leaf(step, updates, moments, params)
        numerator = root * state.numerator_weighted + (1 - root) * rate * gained
        estimate = numerator / ((1 - root) * total(fnp.abs, s)).astype(dtype)
        best = fnp.maximum(state.estim_lr, estimate)
        return updates, DAdaptAdamWState(m, v, s, best, numerator, count)

    return piece_with_extra(DAdaptAdamWState, init, update)


def _correction(b1: Any, b2: Any, count: Any, dtype: Any) -> Any:
    """Return Adam's factor for the start at zero, sqrt(1 - b2^t) / (1 - b1^t)."""
    wide = at_least_float32(dtype)
    factor = fnp.sqrt(sum_of_weights(b2, count, wide)) / sum_of_weights(b1, count, wide)
    return factor.astype(dtype)


def prodigy(
    learning_rate: ScalarOrSchedule = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    beta3: float | None = None,
    eps: float = 1e-8,
    estim_lr0: float = 1e-6,
    estim_lr_coef: float = 1.0,
    weight_decay: float = 0.0,
    safeguard_warmup: bool = False,
) -> GradientTransformationExtraArgs:
    """Make Prodigy: D-Adaptation whose estimate grows faster.

    Args:
        learning_rate: factor of the estimate, or a function of the number of steps taken before.
        betas: decays of the averages of steps and of squares.
        beta3: decay of the sums that the estimate is made of; the root of the second by default.
        eps: keeps divisors from 0.
        estim_lr0: first estimate, less than the distance to the solution.
        estim_lr_coef: factor of new estimates.
        weight_decay: times the rate, the part of a weight that goes at each step.
        safeguard_warmup: whether to leave the learning rate out of a sum, for schedules that
            start low.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.contrib.prodigy(estim_lr0=0.5), [fnp.zeros(1)]
        >>> fnp.round(optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0][0], 3)
        Array([-0.5], dtype=float32)

    References:
        Mishchenko & Defazio, "Prodigy: an expeditiously adaptive parameter-free learner" (2023).
    """
    b1, b2 = betas
    b3 = b2**0.5 if beta3 is None else beta3

    def init(params: Any) -> ProdigyState:
        zeros = zeros_like(params)
        first = number_like(estim_lr0, params)
        return ProdigyState(
            zeros, zeros, zeros, _kept(params), first, fnp.zeros_like(first), zero_count()
        )

    def update(updates: Any, state: ProdigyState, params: Any = None, **extra: Any) -> Any:
        check_params("prodigy", params)
        count = safe_increment(state.count)
        d, dtype = state.estim_lr, state.estim_lr.dtype
        rate = (d * at_step(learning_rate, state.count) * _correction(b1, b2, count, dtype)).astype(
            dtype
        )
        ways = tree_sub(state.params0, params)
        gained = inner(updates, ways).astype(dtype)
        weight = d if safeguard_warmup else rate

        def step(g: Any, m: Any, v: Any, s: Any, p: Any) -> tuple[Any, Any, Any, Any]:
            dg = d * g
            m, v = b1 * m + (1 - b1) * dg, b2 * v + (1 - b2) * dg * dg
            s = b3 * s + weight * dg / estim_lr0
            return -weight_decay * rate * p - rate * m / (fnp.sqrt(v) + d * eps), m, v, s

        moments = (state.exp_avg, state.exp_avg_sq, state.grad_sum)
        updates, m, v, s = per_leaf(step, updates, moments, params)
        numerator = b3 * state.numerator_weighted + d / estim_lr0 * rate * gained
        estimate = estim_lr_coef * numerator / total(fnp.abs, s).astype(dtype)
        best = fnp.maximum(d, estimate)
        return updates, ProdigyState(m, v, s, state.params0, best, numerator, count)

    return piece_with_extra(ProdigyState, init, update)
