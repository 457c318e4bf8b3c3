"""Transformations that scale updates: by numbers, schedules, norms, and sums of squares."""

from __future__ import annotations

from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch.optim.base import (
    EmptyState,
    GradientTransformation,
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    Schedule,
    check_decay,
    check_params,
    check_positive,
    each,
    identity,
    per_leaf,
    piece,
    stateless,
    zero_count,
    zeros_like,
)
from funtorch.optim.moments import Unbiased, mix
from funtorch.optim.norms import (
    abs_square,
    global_norm,
    safe_increment,
    safe_norm,
    safe_root_mean_squares,
    squared_norm,
)

__all__ = [
    "ScaleByAdaDeltaState",
    "ScaleByDistanceOverGradientsState",
    "ScaleByOptimisticGradientState",
    "ScaleByRStdDevState",
    "ScaleByRStdDevWithCountState",
    "ScaleByRmsState",
    "ScaleByRmsWithCountState",
    "ScaleByRpropState",
    "ScaleByRssState",
    "ScaleByScheduleState",
    "centralize",
    "normalize_by_update_norm",
    "scale",
    "scale_by_adadelta",
    "scale_by_distance_over_gradients",
    "scale_by_learning_rate",
    "scale_by_optimistic_gradient",
    "scale_by_param_block_norm",
    "scale_by_param_block_rms",
    "scale_by_polyak",
    "scale_by_rms",
    "scale_by_rprop",
    "scale_by_rss",
    "scale_by_schedule",
    "scale_by_sign",
    "scale_by_stddev",
    "scale_by_trust_ratio",
]


class ScaleByScheduleState(NamedTuple):
    """How many steps were taken (int32)."""

    count: Any


class ScaleByRssState(NamedTuple):
    """The sum of squares of all gradients."""

    sum_of_squares: Any


class ScaleByRmsState(NamedTuple):
    """The average of squares of gradients."""

    nu: Any


class ScaleByRmsWithCountState(NamedTuple):
    """How many steps were taken (int32), and the average of squares of gradients."""

    count: Any
    nu: Any


class ScaleByRStdDevState(NamedTuple):
    """The averages of gradients and of their squares."""

    mu: Any
    nu: Any


class ScaleByRStdDevWithCountState(NamedTuple):
    """How many steps were taken (int32), and the averages of gradients and of their squares."""

    count: Any
    mu: Any
    nu: Any


class ScaleByAdaDeltaState(NamedTuple):
    """The averages of squares of gradients and of updates."""

    e_g: Any
    e_x: Any


class ScaleByRpropState(NamedTuple):
    """The step size of every weight, and the last updates."""

    step_sizes: Any
    prev_updates: Any


class ScaleByOptimisticGradientState(NamedTuple):
    """Whether no step was taken yet, and the last gradient."""

    is_initial_step: Any
    previous_gradient: Any


class ScaleByDistanceOverGradientsState(NamedTuple):
    """For each array the farthest way it went, its sum of squared gradients, and its start."""

    max_dist: Any
    grad_sum_of_squares: Any
    init_params: Any


# ------------------------------------------------------------------------------------------ numbers
def times(updates: Any, factor: Any) -> Any:
    """Return updates times a number, in their dtypes: an array would widen half-precision ones."""
    return each(lambda g: fnp.asarray(factor, dtype=fnp.asarray(g).dtype) * g, updates)


def scale(step_size: Any) -> GradientTransformation:
    """Multiply updates by a constant.

    Args:
        step_size: the constant; negative to descend.

    Returns:
        The transformation.

    Example:
        >>> optim.scale(-2.0).update([fnp.ones(2)], optim.EmptyState())[0]
        [Array([-2., -2.], dtype=float32)]
    """
    return stateless(lambda updates, params: times(updates, step_size))


def scale_by_schedule(step_size_fn: Schedule) -> GradientTransformation:
    """Multiply updates by a function of the number of steps taken before.

    Args:
        step_size_fn: from an int32 scalar, 0 at the first step, to a factor.

    Returns:
        The transformation.

    Example:
        >>> t = optim.scale_by_schedule(lambda step: 1.0 / (step + 1))
        >>> x, state = t.update([fnp.ones(1)], t.init([fnp.ones(1)]))
        >>> t.update([fnp.ones(1)], state)[0]
        [Array([0.5], dtype=float32)]
    """

    def init(params: Any) -> ScaleByScheduleState:
        return ScaleByScheduleState(zero_count())

    def update(updates: Any, state: ScaleByScheduleState, params: Any) -> tuple[Any, Any]:
        updates = times(updates, step_size_fn(state.count))
        return updates, ScaleByScheduleState(safe_increment(state.count))

    return piece(ScaleByScheduleState, init, update)


def scale_by_learning_rate(
    learning_rate: ScalarOrSchedule | None = None, *, flip_sign: bool = True
) -> GradientTransformation:
    """Multiply updates by minus the learning rate: the last piece of an optimizer that descends.

    Args:
        learning_rate: a number, a function of the number of steps taken before, or None for 1 and
            no change of sign.
        flip_sign: whether to multiply by minus it.

    Returns:
        The transformation.

    Raises:
        ValueError: the learning rate is a negative number.

    Example:
        >>> optim.scale_by_learning_rate(0.5).update([fnp.ones(2)], optim.EmptyState())[0]
        [Array([-0.5, -0.5], dtype=float32)]
    """
    if learning_rate is None:
        return identity()
    sign = -1 if flip_sign else 1
    if callable(learning_rate):
        return scale_by_schedule(lambda count: sign * learning_rate(count))
    check_positive("an optimizer", learning_rate=learning_rate)
    return scale(sign * learning_rate)


def scale_by_sign() -> GradientTransformation:
    """Replace updates by their signs.

    Returns:
        The transformation.

    Example:
        >>> optim.scale_by_sign().update([fnp.array([-3.0, 0.0])], optim.EmptyState())[0]
        [Array([-1.,  0.], dtype=float32)]
    """
    return stateless(lambda updates, params: each(fnp.sign, updates))


# -------------------------------------------------------------------------------------------- norms
def scale_by_param_block_norm(min_scale: float = 1e-3) -> GradientTransformation:
    """Multiply each array of updates by the norm of its parameters.

    Args:
        min_scale: least factor.

    Returns:
        The transformation; its update needs ``params``.

    Example:
        >>> t = optim.scale_by_param_block_norm()
        >>> t.update([fnp.ones(2)], t.init(None), [fnp.array([3.0, 4.0])])[0]
        [Array([5., 5.], dtype=float32)]
    """

    def change(updates: Any, params: Any) -> Any:
        check_params("scale_by_param_block_norm", params)
        return each(lambda g, p: g * safe_norm(p, min_scale), updates, params)

    return stateless(change)


def scale_by_param_block_rms(min_scale: float = 1e-3) -> GradientTransformation:
    """Multiply each array of updates by the root mean square of its parameters.

    Args:
        min_scale: least factor.

    Returns:
        The transformation; its update needs ``params``.

    Example:
        >>> t = optim.scale_by_param_block_rms()
        >>> t.update([fnp.ones(2)], t.init(None), [fnp.array([3.0, -3.0])])[0]
        [Array([3., 3.], dtype=float32)]
    """

    def change(updates: Any, params: Any) -> Any:
        check_params("scale_by_param_block_rms", params)
        return each(lambda g, p: g * safe_root_mean_squares(p, min_scale), updates, params)

    return stateless(change)


def scale_by_trust_ratio(
    min_norm: float = 0.0, trust_coefficient: float = 1.0, eps: float = 0.0
) -> GradientTransformation:
    """Give each array of updates a norm in proportion to that of its parameters.

    The factor is trust_coefficient |p| / (|g| + eps), and 1 where a norm is 0.

    Args:
        min_norm: least value of both norms.
        trust_coefficient: the proportion.
        eps: keeps the divisor from 0.

    Returns:
        The transformation; its update needs ``params``.

    Example:
        >>> t = optim.scale_by_trust_ratio()
        >>> t.update([fnp.array([1.0, 0.0])], t.init(None), [fnp.array([3.0, 4.0])])[0]
        [Array([5., 0.], dtype=float32)]

    References:
        You et al., "Large batch optimization for deep learning", ICLR (2020).
    """

    def rescale(g: Any, p: Any) -> Any:
        p_norm, g_norm = safe_norm(p, min_norm), safe_norm(g, min_norm)
        zero = (p_norm == 0) | (g_norm == 0)
        ratio = trust_coefficient * p_norm / fnp.where(zero, 1, g_norm + eps)
        return g * fnp.where(zero, 1, ratio).astype(p_norm.dtype)

    def change(updates: Any, params: Any) -> Any:
        check_params("scale_by_trust_ratio", params)
        return each(rescale, updates, params)

    return stateless(change)


def normalize_by_update_norm(
    scale_factor: float = 1.0, eps: float = 1e-6
) -> GradientTransformation:
    """Divide all updates by their global norm.

    Args:
        scale_factor: the norm that they get.
        eps: added to the norm.

    Returns:
        The transformation.

    Example:
        >>> t = optim.normalize_by_update_norm(5.0)
        >>> fnp.round(t.update([fnp.array([30.0, 40.0])], t.init(None))[0][0], 3)
        Array([3., 4.], dtype=float32)
    """
    return stateless(
        lambda updates, params: times(updates, scale_factor / (global_norm(updates) + eps))
    )


def centralize() -> GradientTransformation:
    """Subtract from updates of rank 2 and more their mean over all axes but the first.

    Returns:
        The transformation.

    Example:
        >>> optim.centralize().update([fnp.array([[1.0, 3.0]])], optim.EmptyState())[0]
        [Array([[-1.,  1.]], dtype=float32)]

    References:
        Yong et al., "Gradient centralization", ECCV (2020).
    """

    def subtract(g: Any) -> Any:
        g = fnp.asarray(g)
        return g - g.mean(tuple(range(1, g.ndim)), keepdims=True) if g.ndim > 1 else g

    return stateless(lambda updates, params: each(subtract, updates))


# ------------------------------------------------------------------------------------------ squares
def scale_by_rss(
    initial_accumulator_value: float = 0.1, eps: float = 1e-7
) -> GradientTransformation:
    """Divide updates by the root of the sum of all squares so far: g / sqrt(s + eps).

    Args:
        initial_accumulator_value: what the sums start at.
        eps: keeps the root from 0.

    Returns:
        The transformation.

    Example:
        >>> t = optim.scale_by_rss(0.0)
        >>> t.update([fnp.array([3.0])], t.init([fnp.zeros(1)]))[0]
        [Array([1.], dtype=float32)]

    References:
        Duchi et al., "Adaptive subgradient methods", JMLR (2011).
    """

    def init(params: Any) -> ScaleByRssState:
        full = each(lambda p: fnp.full_like(fnp.real(p), initial_accumulator_value), params)
        return ScaleByRssState(full)

    def step(g: Any, s: Any) -> tuple[Any, Any]:
        s = abs_square(g) + s
        return g * fnp.where(s > 0, 1 / fnp.sqrt(s + eps), 0), s

    def update(updates: Any, state: ScaleByRssState, params: Any) -> tuple[Any, ScaleByRssState]:
        updates, s = per_leaf(step, updates, (state.sum_of_squares,))
        return updates, ScaleByRssState(s)

    return piece(ScaleByRssState, init, update)


def scale_by_rms(
    decay: float = 0.9,
    eps: float = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> GradientTransformation:
    """Divide updates by the root of the average of their squares.

    Args:
        decay: of the average, in [0, 1).
        eps: keeps the divisor from 0.
        initial_scale: what the average starts at.
        eps_in_sqrt: whether to divide by sqrt(v + eps), rather than sqrt(v) + eps.
        bias_correction: whether to correct the average for its start.

    Returns:
        The transformation.

    Example:
        >>> t = optim.scale_by_rms(0.75)
        >>> t.update([fnp.array([3.0])], t.init([fnp.zeros(1)]))[0]
        [Array([2.], dtype=float32)]

    References:
        Tieleman & Hinton, "Lecture 6.5: rmsprop" (2012).
    """
    return _scale_by_deviation("scale_by_rms", decay, eps, initial_scale, eps_in_sqrt,
                               bias_correction, centered=False)  # fmt: skip


def scale_by_stddev(
    decay: float = 0.9,
    eps: float = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> GradientTransformation:
    """Divide updates by their standard deviation over past steps, sqrt(v - |m|²).

    Args:
        decay: of the averages, in [0, 1).
        eps: keeps the divisor from 0.
        initial_scale: what the average of squares starts at.
        eps_in_sqrt: whether to add eps under the root, rather than to it.
        bias_correction: whether to correct the averages for their start.

    Returns:
        The transformation.

    Example:
        >>> t = optim.scale_by_stddev(0.5)
        >>> t.update([fnp.array([3.0])], t.init([fnp.zeros(1)]))[0]
        [Array([2.], dtype=float32)]

    References:
        Hinton, "Overview of mini-batch gradient descent" (2012).
    """
    return _scale_by_deviation("scale_by_stddev", decay, eps, initial_scale, eps_in_sqrt,
                               bias_correction, centered=True)  # fmt: skip


def _scale_by_deviation(
    name: str, decay: Any, eps: Any, start: Any, inside: bool, corrected: bool, centered: bool
) -> GradientTransformation:
    check_decay(name, decay=decay)
    state_type: Any = {
        (False, False): ScaleByRmsState,
        (False, True): ScaleByRmsWithCountState,
        (True, False): ScaleByRStdDevState,
        (True, True): ScaleByRStdDevWithCountState,
    }[centered, corrected]

    def pack(count: Any, mu: Any, nu: Any) -> Any:
        return state_type(*([count] * corrected), *([mu] * centered), nu)

    def init(params: Any) -> Any:
        nu = each(lambda p: fnp.full_like(fnp.real(p), start), params)
        return pack(zero_count(), zeros_like(params) if centered else None, nu)

    def update(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        count = safe_increment(state.count) if corrected else None
        show = Unbiased(decay, count) if corrected else lambda x: x

        def step(g: Any, v: Any, *m: Any) -> tuple[Any, ...]:
            v = mix(abs_square(g), v, decay)
            m = tuple([mix(g, old, decay) for old in m])
            square = show(v) - abs_square(show(m[0])) if centered else show(v)
            return g / (fnp.sqrt(square + eps) if inside else fnp.sqrt(square) + eps), v, *m

        moments = (state.nu, state.mu) if centered else (state.nu,)
        updates, nu, *mu = per_leaf(step, updates, moments)
        return updates, pack(count, mu[0] if centered else None, nu)

    init.__qualname__ = f"{name}.init"
    return piece(state_type, init, update)


def scale_by_adadelta(rho: float = 0.9, eps: float = 1e-6) -> GradientTransformation:
    """Multiply updates by the root mean square of past updates over that of gradients.

    Args:
        rho: decay of both averages, in [0, 1).
        eps: added under both roots.

    Returns:
        The transformation.

    Example:
        >>> t = optim.scale_by_adadelta(eps=1.0)
        >>> fnp.round(t.update([fnp.array([3.0])], t.init([fnp.zeros(1)]))[0][0], 4)
        Array([2.1764], dtype=float32)

    References:
        Zeiler, "ADADELTA: an adaptive learning rate method" (2012).
    """
    check_decay("scale_by_adadelta", rho=rho)

    def init(params: Any) -> ScaleByAdaDeltaState:
        zeros = zeros_like(params)
        return ScaleByAdaDeltaState(zeros, zeros)

    def step(g: Any, squares: Any, moves: Any) -> tuple[Any, Any, Any]:
        squares = mix(g**2, squares, rho)
        move = fnp.sqrt(moves + eps) / fnp.sqrt(squares + eps) * g
        return move, squares, mix(move**2, moves, rho)

    def update(updates: Any, state: ScaleByAdaDeltaState, params: Any) -> tuple[Any, Any]:
        updates, e_g, e_x = per_leaf(step, updates, (state.e_g, state.e_x))
        return updates, ScaleByAdaDeltaState(e_g, e_x)

    return piece(ScaleByAdaDeltaState, init, update)


# ----------------------------------------------------------------------------------- own step sizes
def scale_by_rprop(
    learning_rate: float,
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    min_step_size: float = 1e-6,
    max_step_size: float = 50.0,
) -> GradientTransformation:
    """Give every weight a step size that grows while its gradient keeps its sign.

    Where the sign changes, the step size shrinks, and the weight does not move.

    Args:
        learning_rate: the first step sizes.
        eta_minus: factor where the sign changes.
        eta_plus: factor where it does not.
        min_step_size: least step size.
        max_step_size: largest step size.

    Returns:
        The transformation.

    Example:
        >>> t = optim.scale_by_rprop(0.1)
        >>> x, state = t.update([fnp.array([9.0, -9.0])], t.init([fnp.zeros(2)]))
        >>> fnp.round(t.update([fnp.array([1.0, 1.0])], state)[0][0], 4)
        Array([0.12, 0.  ], dtype=float32)

    References:
        Riedmiller & Braun, "A direct adaptive method for faster backpropagation learning" (1993).
    """

    def init(params: Any) -> ScaleByRpropState:
        sizes = each(lambda p: fnp.full_like(p, learning_rate), params)
        return ScaleByRpropState(sizes, zeros_like(params))

    def step(g: Any, size: Any, last: Any) -> tuple[Any, Any, Any]:
        agreement = g * last
        grown = fnp.where(agreement > 0, eta_plus * size, eta_minus * size)
        grown = fnp.clip(grown, min_step_size, max_step_size)
        size = fnp.where(agreement == 0, size, grown)
        move = fnp.where(agreement < 0, 0, size * fnp.sign(g))
        return move, size, move

    def update(updates: Any, state: ScaleByRpropState, params: Any) -> tuple[Any, Any]:
        updates, *kept = per_leaf(step, updates, (state.step_sizes, state.prev_updates))
        return updates, ScaleByRpropState(*kept)

    return piece(ScaleByRpropState, init, update)


def scale_by_optimistic_gradient(alpha: float = 1.0, beta: float = 1.0) -> GradientTransformation:
    """Extrapolate from the last gradient: (alpha + beta) g - beta g_last.

    Args:
        alpha: part of the gradient.
        beta: part of its change.

    Returns:
        The transformation.

    Example:
        >>> t = optim.scale_by_optimistic_gradient()
        >>> x, state = t.update([fnp.array([3.0])], t.init([fnp.zeros(1)]))
        >>> t.update([fnp.array([4.0])], state)[0]
        [Array([5.], dtype=float32)]

    References:
        Mokhtari et al., "A unified analysis of extra-gradient and optimistic gradient methods for
        saddle point problems", AISTATS (2020).
    """

    def init(params: Any) -> ScaleByOptimisticGradientState:
        return ScaleByOptimisticGradientState(fnp.asarray(True), zeros_like(params))

    def update(updates: Any, state: ScaleByOptimisticGradientState, params: Any) -> Any:
        def step(g: Any, last: Any) -> tuple[Any, Any]:
            return (alpha + beta) * g - beta * fnp.where(state.is_initial_step, g, last), g

        updates, last = per_leaf(step, updates, (state.previous_gradient,))
        return updates, ScaleByOptimisticGradientState(fnp.asarray(False), last)

    return piece(ScaleByOptimisticGradientState, init, update)


def scale_by_distance_over_gradients(
    reps_rel: float = 1e-6, eps: float = 1e-8, param_dtype: Any = fnp.float32,
    global_scale: float = 1.0,
) -> GradientTransformation:  # fmt: skip
    """Choose each array's rate as the way it went over the root of its sum of squared gradients.

    Args:
        reps_rel: first way, as a part of 1 + the norm of the parameters.
        eps: keeps the root from 0.
        param_dtype: in which the first parameters are kept.
        global_scale: factor of all rates.

    Returns:
        The transformation; its update needs ``params``.

    Example:
        >>> t, params = optim.scale_by_distance_over_gradients(1.0), [fnp.zeros(1)]
        >>> t.update([fnp.array([4.0])], t.init(params), params)[0]
        [Array([1.], dtype=float32)]

    References:
        Ivgi et al., "DoG is SGD's best friend", ICML (2023).
    """

    def norm(x: Any) -> Any:
        return fnp.sqrt(fnp.sum(fnp.square(x)))

    def init(params: Any) -> ScaleByDistanceOverGradientsState:
        return ScaleByDistanceOverGradientsState(
            each(lambda p: reps_rel * (1 + norm(p)), params),
            each(lambda p: fnp.zeros(1), params),
            each(lambda p: fnp.asarray(p, dtype=param_dtype), params),
        )

    def step(g: Any, way: Any, squares: Any, p: Any, start: Any) -> tuple[Any, Any, Any]:
        way = fnp.maximum(way, norm(p - start))
        squares = squares + fnp.sum(fnp.square(g))
        return (global_scale * way / fnp.sqrt(squares + eps)).astype(g.dtype) * g, way, squares

    def update(updates: Any, state: ScaleByDistanceOverGradientsState, params: Any) -> Any:
        check_params("scale_by_distance_over_gradients", params)
        start = state.init_params
        kept = (state.max_dist, state.grad_sum_of_squares)
        updates, way, squares = per_leaf(step, updates, kept, params, start)
        return updates, ScaleByDistanceOverGradientsState(way, squares, start)

    return piece(ScaleByDistanceOverGradientsState, init, update)


def scale_by_polyak(
    f_min: float = 0.0, max_learning_rate: float = 1.0, eps: float = 0.0, variant: str = "sps"
) -> GradientTransformationExtraArgs:
    """Multiply updates by Polyak's step: (f - f_min) / (|g|² + eps), at most the largest rate.

    Args:
        f_min: the least value of the loss.
        max_learning_rate: the largest rate.
        eps: keeps the divisor from 0.
        variant: 'sps', or 'sps+', which takes a loss below ``f_min`` for ``f_min``.

    Returns:
        The transformation; its update needs the loss as ``value``.

    Raises:
        ValueError: there is no such variant.

    Example:
        >>> t = optim.scale_by_polyak()
        >>> t.update([fnp.array([4.0])], t.init(None), value=8.0)[0]
        [Array([2.], dtype=float32)]

    References:
        Loizou et al., "Stochastic Polyak step-size for SGD", AISTATS (2021).
    """
    if variant not in ("sps", "sps+"):
        raise ValueError(f"scale_by_polyak: variant is 'sps' or 'sps+', not {variant!r}")

    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any, **extra: Any
    ) -> tuple[Any, Any]:
        squares = squared_norm(updates)
        gap = fnp.asarray(value).astype(squares.dtype) - f_min
        gap = gap if variant == "sps" else fnp.maximum(gap, 0)
        small = squares + eps <= fnp.finfo(squares.dtype).eps
        rate = fnp.minimum(gap / fnp.where(small, 1, squares + eps), max_learning_rate)
        return times(updates, fnp.where(small, 0, rate)), state

    return GradientTransformationExtraArgs(lambda params: EmptyState(), update)
