"""Relatives of Adam that were proposed lately: AdEMAMix, ADOPT, ACProp, MADGRAD.

Notation: g the updates, m and v averages of g and of |g|², with a hat where they are corrected for
their start at zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch.optim.adaptive import ScaleByAdamState, ScaleByBeliefState
from funtorch.optim.adding import add_decayed_weights
from funtorch.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    chain,
    check_decay,
    check_params,
    each,
    per_leaf,
    piece,
    zero_count,
    zeros_like,
)
from funtorch.optim.moments import Unbiased, mix
from funtorch.optim.norms import abs_square, safe_increment
from funtorch.optim.scaling import scale_by_learning_rate

__all__ = [
    "MadgradState",
    "ScaleByAdemamixState",
    "ScaleBySimplifiedAdEMAMixState",
    "acprop",
    "ademamix",
    "adopt",
    "madgrad",
    "scale_by_acprop",
    "scale_by_ademamix",
    "scale_by_adopt",
    "scale_by_madgrad",
    "scale_by_simplified_ademamix",
    "simplified_ademamix",
]


class ScaleByAdemamixState(NamedTuple):
    """Steps (int32, twice), the fast and the slow average of gradients, and that of squares."""

    count: Any
    count_m2: Any
    m1: Any
    m2: Any
    nu: Any


class ScaleBySimplifiedAdEMAMixState(NamedTuple):
    """Steps (int32), the sum of gradients, and the average of squares."""

    t: Any
    m: Any
    n: Any


class MadgradState(NamedTuple):
    """Steps (int32), the weighted sums of squares and of gradients, and the first parameters."""

    count: Any
    grad_sum_sq: Any
    s: Any
    x0: Any


def at_step(value: ScalarOrSchedule, count: Any) -> Any:
    """Return a hyperparameter at a step: it may be a function of the number of steps."""
    return value(count) if callable(value) else value


def scale_by_ademamix(
    b1: float = 0.9,
    b2: float = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    alpha: ScalarOrSchedule = 6.0,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
) -> GradientTransformation:
    """Mix a fast and a slow average of gradients: (m̂1 + alpha m2) / (sqrt(v̂ + eps_root) + eps).

    Args:
        b1: decay of the fast average.
        b2: decay of the average of squares.
        b3: decay of the slow average, or a function of the number of steps.
        alpha: weight of the slow average, or a function of the number of steps.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        mu_dtype: dtype of the averages; the parameters' by default.

    Returns:
        The transformation.

    Example:
        >>> t = optim.contrib.scale_by_ademamix()
        >>> fnp.round(t.update([fnp.ones(1)], t.init([fnp.zeros(1)]))[0][0], 4)
        Array([1.0006], dtype=float32)

    References:
        Pagliardini et al., "The AdEMAMix optimizer" (2024).
    """
    check_decay("scale_by_ademamix", b1=b1, b2=b2)

    def init(params: Any) -> ScaleByAdemamixState:
        zeros = zeros_like(params, mu_dtype)
        return ScaleByAdemamixState(zero_count(), zero_count(), zeros, zeros, zeros)

    def update(updates: Any, state: ScaleByAdemamixState, params: Any) -> tuple[Any, Any]:
        slow, weight = at_step(b3, state.count_m2), at_step(alpha, state.count_m2)
        count = safe_increment(state.count)
        first, second = Unbiased(b1, count), Unbiased(b2, count)

        def step(g: Any, m1: Any, m2: Any, v: Any) -> tuple[Any, ...]:
            m1, m2, v = mix(g, m1, b1), mix(g, m2, slow), mix(abs_square(g), v, b2)
            return (first(m1) + weight * m2) / (fnp.sqrt(second(v) + eps_root) + eps), m1, m2, v

        updates, m1, m2, nu = per_leaf(step, updates, (state.m1, state.m2, state.nu))
        return updates, ScaleByAdemamixState(count, safe_increment(state.count_m2), m1, m2, nu)

    return piece(ScaleByAdemamixState, init, update)


def ademamix(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    alpha: ScalarOrSchedule = 5.0,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> GradientTransformationExtraArgs:
    """Make AdEMAMix: AdamW with a second, slow average of gradients.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the fast average.
        b2: decay of the average of squares.
        b3: decay of the slow average, or a function of the number of steps.
        alpha: weight of the slow average, or a function of the number of steps.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        mu_dtype: dtype of the averages; the parameters' by default.
        weight_decay: times the learning rate, the part of a weight that goes at each step.
        mask: which weights decay; see `add_decayed_weights`.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.contrib.ademamix(0.5), [fnp.zeros(1)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-0.50025], dtype=float32)]

    References:
        Pagliardini et al., "The AdEMAMix optimizer" (2024).
    """
    return chain(
        scale_by_ademamix(b1, b2, b3, alpha, eps, eps_root, mu_dtype),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


def scale_by_simplified_ademamix(
    b1: float = 0.99,
    b2: float = 0.95,
    alpha: ScalarOrSchedule = 0.0,
    eps: float = 1e-8,
    eps_root: float = 0.0,
) -> GradientTransformation:
    """Mix a sum of gradients and the gradient: (s + alpha g) / (sqrt(v̂ + eps_root) + eps).

    Args:
        b1: decay of the sum s <- b1 s + g.
        b2: decay of the average of squares.
        alpha: weight of the gradient, or a function of the number of steps.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.

    Returns:
        The transformation.

    Example:
        >>> t = optim.contrib.scale_by_simplified_ademamix()
        >>> fnp.round(t.update([fnp.ones(1)], t.init([fnp.zeros(1)]))[0][0], 4)
        Array([1.], dtype=float32)

    References:
        Morwani et al., "Connections between schedule-free optimizers, AdEMAMix, and accelerated
        SGD variants" (2025).
    """
    check_decay("scale_by_simplified_ademamix", b1=b1, b2=b2)

    def init(params: Any) -> ScaleBySimplifiedAdEMAMixState:
        zeros = zeros_like(params)
        return ScaleBySimplifiedAdEMAMixState(zero_count(), zeros, zeros)

    def update(updates: Any, state: ScaleBySimplifiedAdEMAMixState, params: Any) -> Any:
        weight = at_step(alpha, state.t)
        count = safe_increment(state.t)
        second = Unbiased(b2, count)

        def step(g: Any, s: Any, v: Any) -> tuple[Any, Any, Any]:
            s, v = g + b1 * s, mix(g * g, v, b2)
            return (s + weight * g) / (fnp.sqrt(second(v) + eps_root) + eps), s, v

        updates, m, n = per_leaf(step, updates, (state.m, state.n))
        return updates, ScaleBySimplifiedAdEMAMixState(count, m, n)

    return piece(ScaleBySimplifiedAdEMAMixState, init, update)


def simplified_ademamix(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.99,
    b2: float = 0.95,
    alpha: ScalarOrSchedule = 0.0,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> GradientTransformationExtraArgs:
    """Make simplified AdEMAMix: one sum of gradients instead of two averages.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the sum.
        b2: decay of the average of squares.
        alpha: weight of the gradient, or a function of the number of steps.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        weight_decay: times the learning rate, the part of a weight that goes at each step.
        mask: which weights decay; see `add_decayed_weights`.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.contrib.simplified_ademamix(0.5), [fnp.zeros(1)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-0.5], dtype=float32)]

    References:
        Morwani et al., "Connections between schedule-free optimizers, AdEMAMix, and accelerated
        SGD variants" (2025).
    """
    return chain(
        scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


def _fourth_root(count: Any) -> Any:
    return fnp.asarray(count, dtype=fnp.float32) ** 0.25


def scale_by_adopt(
    b1: float = 0.9,
    b2: float = 0.9999,
    eps: float = 1e-6,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[Any], Any] = _fourth_root,
) -> GradientTransformation:
    """Average gradients that are divided by the root of the squares before them.

    The first step only takes squares in. m <- average of clip(g / max(sqrt(v), eps)); then v.

    Args:
        b1: decay of the average m.
        b2: decay of the average of squares.
        eps: least divisor.
        mu_dtype: dtype of the average m; the parameters' by default.
        nesterov: whether to use Nesterov's momentum.
        use_clipping: whether to clip.
        clip_value_fn: function of the number of steps that gives the bound; its fourth root.

    Returns:
        The transformation.

    Example:
        >>> t = optim.contrib.scale_by_adopt()
        >>> t.update([fnp.ones(1)], t.init([fnp.zeros(1)]))[0]
        [Array([0.], dtype=float32)]

    References:
        Taniguchi et al., "ADOPT: modified Adam can converge with any beta2" (2024).
    """
    check_decay("scale_by_adopt", b1=b1, b2=b2)

    def init(params: Any) -> ScaleByAdamState:
        return ScaleByAdamState(zero_count(), zeros_like(params, mu_dtype), zeros_like(params))

    def update(updates: Any, state: ScaleByAdamState, params: Any) -> tuple[Any, Any]:
        started = state.count > 0
        bound = clip_value_fn(state.count)

        def step(g: Any, m: Any, v: Any) -> tuple[Any, Any, Any]:
            g = fnp.asarray(g)
            real = fnp.real(g).dtype
            d1 = fnp.where(started, fnp.asarray(b1, dtype=real), 1)
            d2 = fnp.where(started, fnp.asarray(b2, dtype=real), 0)
            divided = g / fnp.maximum(fnp.sqrt(v), eps)
            if use_clipping:
                divided = fnp.clip(divided, -bound, bound).astype(g.dtype)
            m = mix(divided, m, d1)
            return (mix(divided, m, d1) if nesterov else m), m, mix(abs_square(g), v, d2)

        updates, mu, nu = per_leaf(step, updates, (state.mu, state.nu))
        return updates, ScaleByAdamState(safe_increment(state.count), mu, nu)

    return piece(ScaleByAdamState, init, update)


def adopt(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.9999,
    eps: float = 1e-6,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[Any], Any] = _fourth_root,
) -> GradientTransformationExtraArgs:
    """Make ADOPT: Adam that divides before it averages; see `scale_by_adopt`.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of divided gradients.
        b2: decay of the average of squares.
        eps: least divisor.
        mu_dtype: dtype of the first average; the parameters' by default.
        nesterov: whether to use Nesterov's momentum.
        use_clipping: whether to clip divided gradients.
        clip_value_fn: function of the number of steps that gives the bound.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.contrib.adopt(0.5)
        >>> _, state = optimizer.update([fnp.ones(1)], optimizer.init([fnp.zeros(1)]))
        >>> fnp.round(optimizer.update([fnp.ones(1)], state)[0][0], 3)
        Array([-0.05], dtype=float32)

    References:
        Taniguchi et al., "ADOPT: modified Adam can converge with any beta2" (2024).
    """
    divide = scale_by_adopt(
        b1, b2, eps, mu_dtype, nesterov=nesterov, use_clipping=use_clipping,
        clip_value_fn=clip_value_fn,
    )  # fmt: skip
    return chain(divide, scale_by_learning_rate(learning_rate))


def scale_by_acprop(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-16, eps_root: float = 1e-16
) -> GradientTransformation:
    """Divide gradients by the surprises of the steps before: g / (sqrt(v̂_before) + eps).

    With v the average of |g - m_before|², to which eps_root is added at each step.

    Args:
        b1: decay of the average of gradients m.
        b2: decay of the average of squared surprises.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.

    Returns:
        The transformation.

    Example:
        >>> t = optim.contrib.scale_by_acprop()
        >>> t.update([fnp.ones(1)], t.init([fnp.zeros(1)]))[0]
        [Array([1.], dtype=float32)]

    References:
        Zhuang et al., "Momentum centering and asynchronous update for adaptive gradient methods",
        NeurIPS (2021).
    """
    check_decay("scale_by_acprop", b1=b1, b2=b2)

    def init(params: Any) -> ScaleByBeliefState:
        return ScaleByBeliefState(zero_count(), zeros_like(params), zeros_like(params))

    def update(updates: Any, state: ScaleByBeliefState, params: Any) -> tuple[Any, Any]:
        start = state.count == 0
        second = Unbiased(b2, fnp.maximum(state.count, 1))

        def step(g: Any, m: Any, v: Any) -> tuple[Any, Any, Any]:
            divided = g / (fnp.sqrt(fnp.where(start, 1, second(v))) + eps)
            return divided, mix(g, m, b1), mix(abs_square(g - m), v, b2) + eps_root

        updates, mu, nu = per_leaf(step, updates, (state.mu, state.nu))
        return updates, ScaleByBeliefState(safe_increment(state.count), mu, nu)

    return piece(ScaleByBeliefState, init, update)


def acprop(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-16,
    eps_root: float = 1e-16,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> GradientTransformationExtraArgs:
    """Make ACProp: AdaBelief whose divisors do not know the gradient that they divide.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of gradients.
        b2: decay of the average of squared surprises.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        weight_decay: times the learning rate, the part of a weight that goes at each step.
        mask: which weights decay; see `add_decayed_weights`.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.contrib.acprop(0.5), [fnp.zeros(1)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-0.5], dtype=float32)]

    References:
        Zhuang et al., "Momentum centering and asynchronous update for adaptive gradient methods",
        NeurIPS (2021).
    """
    return chain(
        scale_by_acprop(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


def scale_by_madgrad(
    learning_rate: ScalarOrSchedule, momentum: float = 0.9, eps: float = 1e-6
) -> GradientTransformation:
    """Average dual steps: from the first parameters, by the sum of gradients over a cube root.

    With w = (rate + eps) sqrt(t), s the sum of w g, q that of w g²: z = x0 - s / (q^(1/3) + eps),
    and the parameters go to (1 - momentum) z + momentum p.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        momentum: part of the way that is not gone.
        eps: keeps the divisor from 0.

    Returns:
        The transformation; its update needs ``params``.

    Example:
        >>> t, params = optim.contrib.scale_by_madgrad(1.0, momentum=0.0), [fnp.zeros(1)]
        >>> fnp.round(t.update([fnp.ones(1)], t.init(params), params)[0][0], 4)
        Array([-1.], dtype=float32)

    References:
        Defazio & Jelassi, "Adaptivity without compromise: MADGRAD" (2021).
    """

    def init(params: Any) -> MadgradState:
        zeros = zeros_like(params)
        return MadgradState(zero_count(), zeros, zeros, each(fnp.asarray, params))

    def update(updates: Any, state: MadgradState, params: Any) -> tuple[Any, MadgradState]:
        check_params("scale_by_madgrad", params)
        weight = (at_step(learning_rate, state.count) + eps) * fnp.sqrt(state.count + 1)

        def step(g: Any, squares: Any, total: Any, p: Any, start: Any) -> tuple[Any, Any, Any]:
            own = weight.astype(g.dtype)
            squares, total = squares + own * g**2, total + own * g
            dual = start - total / (fnp.cbrt(squares) + eps)
            return (1 - momentum) * (dual - p), squares, total

        sums = (state.grad_sum_sq, state.s)
        updates, squares, total = per_leaf(step, updates, sums, params, state.x0)
        return updates, MadgradState(safe_increment(state.count), squares, total, state.x0)

    return piece(MadgradState, init, update)


def madgrad(
    learning_rate: ScalarOrSchedule,
    momentum: float = 0.9,
    weight_decay: ScalarOrSchedule = 0.0,
    eps: float = 1e-6,
) -> GradientTransformationExtraArgs:
    """Make MADGRAD: dual averaging with momentum; see `scale_by_madgrad`.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        momentum: part of the way that is not gone.
        weight_decay: part of the parameters that is added to the gradients.
        eps: keeps the divisor from 0.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.contrib.madgrad(1.0), [fnp.zeros(1)]
        >>> fnp.round(optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0][0], 4)
        Array([-0.1], dtype=float32)

    References:
        Defazio & Jelassi, "Adaptivity without compromise: MADGRAD" (2021).
    """
    return chain(add_decayed_weights(weight_decay), scale_by_madgrad(learning_rate, momentum, eps))
