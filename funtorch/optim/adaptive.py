"""Adam and its relatives: averages of gradients divided by roots of averages of their squares.

Notation: g the updates, m and v averages of g and of |g|², with a hat where they are corrected for
their start at zero, t the number of steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch.optim.base import (
    GradientTransformation,
    check_decay,
    check_params,
    each,
    per_leaf,
    piece,
    zero_count,
    zeros_like,
)
from funtorch.optim.moments import Unbiased, log_of, mix
from funtorch.optim.norms import abs_square, safe_increment

__all__ = [
    "ScaleByAdamState",
    "ScaleByAdanState",
    "ScaleByAmsgradState",
    "ScaleByBeliefState",
    "ScaleByLionState",
    "ScaleByNovogradState",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_adan",
    "scale_by_amsgrad",
    "scale_by_belief",
    "scale_by_lion",
    "scale_by_novograd",
    "scale_by_radam",
    "scale_by_yogi",
]


class ScaleByAdamState(NamedTuple):
    """How many steps were taken (int32), and the averages of gradients and of their squares."""

    count: Any
    mu: Any
    nu: Any


class ScaleByAmsgradState(NamedTuple):
    """The state of Adam, and the largest average of squares so far."""

    count: Any
    mu: Any
    nu: Any
    nu_max: Any


class ScaleByBeliefState(NamedTuple):
    """As Adam's, with the average of squared surprises."""

    count: Any
    mu: Any
    nu: Any


class ScaleByLionState(NamedTuple):
    """How many steps were taken (int32), and the average of gradients."""

    count: Any
    mu: Any


class ScaleByNovogradState(NamedTuple):
    """As Adam's, with one average of squares for each array."""

    count: Any
    mu: Any
    nu: Any


class ScaleByAdanState(NamedTuple):
    """Averages of gradients, of their differences and of squares, the last gradient, and steps."""

    m: Any
    v: Any
    n: Any
    g: Any
    t: Any


def _start(params: Any, mu_dtype: Any = None) -> tuple[Any, Any, Any]:
    squares = each(lambda p: fnp.zeros_like(fnp.real(p)), params)
    return zero_count(), zeros_like(params, mu_dtype), squares


class _First:
    """The corrected average of gradients, after Nesterov with the next step's weight if asked."""

    def __init__(self, b1: Any, count: Any, nesterov: bool) -> None:
        self.b1, self.nesterov = b1, nesterov
        self.now = Unbiased(b1, count)
        self.next = Unbiased(b1, count + 1)

    def __call__(self, g: Any, m: Any) -> Any:
        if not self.nesterov:
            return self.now(m)
        return mix(self.now(fnp.asarray(g)), self.next(m), self.b1)


def scale_by_adam(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """Divide the running mean of gradients by the root of the running mean of their squares.

    The update is m̂ / (sqrt(v̂ + eps_root) + eps).

    Args:
        b1: decay of the average of gradients, in [0, 1).
        b2: decay of the average of squares, in [0, 1).
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0, where its derivative is infinite; for those who
            differentiate through the optimizer.
        mu_dtype: dtype of the average of gradients; the parameters' by default.
        nesterov: whether to use Nesterov's momentum, which makes it NAdam.

    Returns:
        The transformation.

    Raises:
        ValueError: ``b1`` or ``b2`` is outside [0, 1).

    Example:
        >>> t = optim.scale_by_adam()
        >>> fnp.round(t.update([fnp.array([3.0, -5.0])], t.init([fnp.zeros(2)]))[0][0], 4)
        Array([ 1., -1.], dtype=float32)

    References:
        Kingma & Ba, "Adam: a method for stochastic optimization", ICLR (2015).
        Dozat, "Incorporating Nesterov momentum into Adam" (2016).
    """
    check_decay("scale_by_adam", b1=b1, b2=b2)

    def init(params: Any) -> ScaleByAdamState:
        return ScaleByAdamState(*_start(params, mu_dtype))

    def update(updates: Any, state: ScaleByAdamState, params: Any) -> tuple[Any, ScaleByAdamState]:
        count = safe_increment(state.count)
        first, second = _First(b1, count, nesterov), Unbiased(b2, count)

        def step(g: Any, m: Any, v: Any) -> tuple[Any, Any, Any]:
            m, v = mix(g, m, b1), mix(abs_square(g), v, b2)
            return first(g, m) / (fnp.sqrt(second(v) + eps_root) + eps), m, v

        updates, mu, nu = per_leaf(step, updates, (state.mu, state.nu))
        return updates, ScaleByAdamState(count, mu, nu)

    return piece(ScaleByAdamState, init, update)


def scale_by_amsgrad(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> GradientTransformation:
    """Do as `scale_by_adam`, dividing by the root of the largest average so far.

    Args:
        b1: decay of the average of gradients, in [0, 1).
        b2: decay of the average of squares, in [0, 1).
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        mu_dtype: dtype of the average of gradients; the parameters' by default.
        bias_correction_mu: whether to correct the first average for its start at zero.
        bias_correction_nu: whether to correct the second, before the maximum is taken.

    Returns:
        The transformation.

    Example:
        >>> t = optim.scale_by_amsgrad()
        >>> fnp.round(t.update([fnp.array([3.0, -5.0])], t.init([fnp.zeros(2)]))[0][0], 4)
        Array([ 1., -1.], dtype=float32)

    References:
        Reddi et al., "On the convergence of Adam and beyond", ICLR (2018).
    """
    check_decay("scale_by_amsgrad", b1=b1, b2=b2)

    def init(params: Any) -> ScaleByAmsgradState:
        count, mu, nu = _start(params, mu_dtype)
        return ScaleByAmsgradState(count, mu, nu, nu)

    def update(
        updates: Any, state: ScaleByAmsgradState, params: Any
    ) -> tuple[Any, ScaleByAmsgradState]:
        count = safe_increment(state.count)
        first, second = Unbiased(b1, count), Unbiased(b2, count)

        def step(g: Any, m: Any, v: Any, most: Any) -> tuple[Any, Any, Any, Any]:
            m, v = mix(g, m, b1), mix(abs_square(g), v, b2)
            most = fnp.maximum(most, second(v) if bias_correction_nu else v)
            shown = first(m) if bias_correction_mu else m
            return shown / (fnp.sqrt(most + eps_root) + eps), m, v, most

        updates, *moments = per_leaf(step, updates, (state.mu, state.nu, state.nu_max))
        return updates, ScaleByAmsgradState(count, *moments)

    return piece(ScaleByAmsgradState, init, update)


def scale_by_adamax(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> GradientTransformation:
    """Divide the running mean of gradients by a decaying maximum of their absolute values.

    With u <- max(|g| + eps, b2 u), the update is m̂ / u.

    Args:
        b1: decay of the average of gradients, in [0, 1).
        b2: decay of the maximum, in [0, 1).
        eps: keeps the divisor from 0.

    Returns:
        The transformation.

    Example:
        >>> t = optim.scale_by_adamax()
        >>> t.update([fnp.array([3.0, -5.0])], t.init([fnp.zeros(2)]))[0]
        [Array([ 1., -1.], dtype=float32)]

    References:
        Kingma & Ba, "Adam: a method for stochastic optimization", ICLR (2015), section 7.
    """
    check_decay("scale_by_adamax", b1=b1, b2=b2)

    def init(params: Any) -> ScaleByAdamState:
        return ScaleByAdamState(*_start(params))

    def update(updates: Any, state: ScaleByAdamState, params: Any) -> tuple[Any, ScaleByAdamState]:
        count = safe_increment(state.count)
        first = Unbiased(b1, count)

        def step(g: Any, m: Any, u: Any) -> tuple[Any, Any, Any]:
            m, u = mix(g, m, b1), fnp.maximum(fnp.abs(g) + eps, b2 * u)
            return first(m) / u, m, u

        updates, mu, nu = per_leaf(step, updates, (state.mu, state.nu))
        return updates, ScaleByAdamState(count, mu, nu)

    return piece(ScaleByAdamState, init, update)


def scale_by_belief(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-16,
    eps_root: float = 1e-16,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """Divide the running mean of gradients by how far gradients are from it.

    With v the average of |g - m|², to which eps_root is added at each step: m̂ / (sqrt(v̂) + eps).

    Args:
        b1: decay of the average of gradients, in [0, 1).
        b2: decay of the average of squared surprises, in [0, 1).
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        nesterov: whether to use Nesterov's momentum.

    Returns:
        The transformation.

    Example:
        >>> t = optim.scale_by_belief()
        >>> fnp.round(t.update([fnp.array([9.0])], t.init([fnp.zeros(1)]))[0][0], 4)
        Array([1.1111], dtype=float32)

    References:
        Zhuang et al., "AdaBelief optimizer", NeurIPS (2020).
    """
    check_decay("scale_by_belief", b1=b1, b2=b2)

    def init(params: Any) -> ScaleByBeliefState:
        return ScaleByBeliefState(*_start(params))

    def update(
        updates: Any, state: ScaleByBeliefState, params: Any
    ) -> tuple[Any, ScaleByBeliefState]:
        count = safe_increment(state.count)
        first, second = _First(b1, count, nesterov), Unbiased(b2, count)

        def step(g: Any, m: Any, v: Any) -> tuple[Any, Any, Any]:
            m = mix(g, m, b1)
            v = mix(abs_square(g - m), v, b2) + eps_root
            return first(g, m) / (fnp.sqrt(second(v)) + eps), m, v

        updates, mu, nu = per_leaf(step, updates, (state.mu, state.nu))
        return updates, ScaleByBeliefState(count, mu, nu)

    return piece(ScaleByBeliefState, init, update)


def scale_by_yogi(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-3,
    eps_root: float = 0.0,
    initial_accumulator_value: float = 1e-6,
) -> GradientTransformation:
    """Do as `scale_by_adam`, with squares that come and go by steps of their own size.

    v <- v - (1 - b2) sign(v - |g|²) |g|².

    Args:
        b1: decay of the average of gradients, in [0, 1).
        b2: one minus the size of the steps, in [0, 1).
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        initial_accumulator_value: what both averages start at.

    Returns:
        The transformation.

    Example:
        >>> t = optim.scale_by_yogi()
        >>> t.update([fnp.array([3.0])], t.init([fnp.zeros(1)]))[0][0].shape
        (1,)

    References:
        Zaheer et al., "Adaptive methods for nonconvex optimization", NeurIPS (2018).
    """
    check_decay("scale_by_yogi", b1=b1, b2=b2)

    def init(params: Any) -> ScaleByAdamState:
        _, mu, nu = _start(params)
        full = [each(lambda x: fnp.full_like(x, initial_accumulator_value), x) for x in (mu, nu)]
        return ScaleByAdamState(zero_count(), *full)

    def update(updates: Any, state: ScaleByAdamState, params: Any) -> tuple[Any, ScaleByAdamState]:
        count = safe_increment(state.count)
        first, second = Unbiased(b1, count), Unbiased(b2, count)

        def step(g: Any, m: Any, v: Any) -> tuple[Any, Any, Any]:
            square = abs_square(g)
            m, v = mix(g, m, b1), v - (1 - b2) * fnp.sign(v - square) * square
            return first(m) / (fnp.sqrt(second(v) + eps_root) + eps), m, v

        updates, mu, nu = per_leaf(step, updates, (state.mu, state.nu))
        return updates, ScaleByAdamState(count, mu, nu)

    return piece(ScaleByAdamState, init, update)


def scale_by_radam(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    threshold: float = 5.0,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """Do as `scale_by_adam`, without a divisor in the first steps, whose variance is large.

    With ρ∞ = 2 / (1 - b2) - 1 and ρ = ρ∞ - 2 t b2^t / (1 - b2^t), steps with ρ >= threshold are
    Adam's times sqrt((ρ - 4) (ρ - 2) ρ∞ / ((ρ∞ - 4) (ρ∞ - 2) ρ)); the others are m̂.

    Args:
        b1: decay of the average of gradients, in [0, 1).
        b2: decay of the average of squares, in [0, 1).
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        threshold: from which ρ on steps are divided.
        nesterov: whether to use Nesterov's momentum.

    Returns:
        The transformation.

    Example:
        >>> t = optim.scale_by_radam()
        >>> t.update([fnp.array([3.0])], t.init([fnp.zeros(1)]))[0]
        [Array([3.], dtype=float32)]

    References:
        Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR (2020).
    """
    check_decay("scale_by_radam", b1=b1, b2=b2)
    limit = 2.0 / (1.0 - b2) - 1.0

    def init(params: Any) -> ScaleByAdamState:
        return ScaleByAdamState(*_start(params))

    def update(updates: Any, state: ScaleByAdamState, params: Any) -> tuple[Any, ScaleByAdamState]:
        count = safe_increment(state.count)
        first, second = _First(b1, count, nesterov), Unbiased(b2, count)
        # The difference loses three digits of its operands, so those have sixteen.
        steps = count.astype(fnp.float64)
        rho = limit - 2 * steps / fnp.expm1(-steps * log_of(b2, fnp.float64))
        # Of a negative number no root is taken: its nan would spoil derivatives.
        tame = fnp.where(rho >= threshold, rho, limit)
        factor = fnp.sqrt(
            (tame - 4.0) * (tame - 2.0) * limit / ((limit - 4.0) * (limit - 2.0) * tame)
        )

        def step(g: Any, m: Any, v: Any) -> tuple[Any, Any, Any]:
            m, v = mix(g, m, b1), mix(abs_square(g), v, b2)
            shown = first(g, m)
            divided = factor.astype(m.dtype) * shown / (fnp.sqrt(second(v) + eps_root) + eps)
            return fnp.where(rho >= threshold, divided, shown), m, v

        updates, mu, nu = per_leaf(step, updates, (state.mu, state.nu))
        return updates, ScaleByAdamState(count, mu, nu)

    return piece(ScaleByAdamState, init, update)


def scale_by_adan(
    b1: float = 0.98, b2: float = 0.92, b3: float = 0.99, eps: float = 1e-8, eps_root: float = 0.0
) -> GradientTransformation:
    """Average gradients, their differences and squares: Nesterov's momentum for Adam.

    With d the difference to the last gradient, m, v, n averages of g, d and (g + (1 - b2) d)²:
    (m̂ + (1 - b2) v̂) / (sqrt(n̂ + eps_root) + eps).

    Args:
        b1: decay of the average of gradients, in [0, 1).
        b2: decay of the average of differences, in [0, 1).
        b3: decay of the average of squares, in [0, 1).
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.

    Returns:
        The transformation.

    Example:
        >>> t = optim.scale_by_adan()
        >>> fnp.round(t.update([fnp.array([3.0])], t.init([fnp.zeros(1)]))[0][0], 4)
        Array([1.], dtype=float32)

    References:
        Xie et al., "Adan: adaptive Nesterov momentum algorithm" (2022).
    """
    check_decay("scale_by_adan", b1=b1, b2=b2, b3=b3)

    def init(params: Any) -> ScaleByAdanState:
        zeros = zeros_like(params)
        return ScaleByAdanState(zeros, zeros, _start(params)[2], zeros, zero_count())

    def update(updates: Any, state: ScaleByAdanState, params: Any) -> tuple[Any, ScaleByAdanState]:
        count = safe_increment(state.t)
        first, second, third = (Unbiased(b, count) for b in (b1, b2, b3))

        def step(g: Any, m: Any, v: Any, n: Any, last: Any) -> tuple[Any, ...]:
            change = fnp.where(state.t == 0, 0, g - last)
            m, v = mix(g, m, b1), mix(change, v, b2)
            n = mix(abs_square(g + (1 - b2) * change), n, b3)
            ahead = first(m) + (1 - b2) * second(v)
            return ahead / (fnp.sqrt(third(n) + eps_root) + eps), m, v, n, g

        updates, m, v, n, g = per_leaf(step, updates, (state.m, state.v, state.n, state.g))
        return updates, ScaleByAdanState(m, v, n, g, count)

    return piece(ScaleByAdanState, init, update)


_LION = {  # mode -> what becomes of the mix of gradient and average
    "hard": lambda x, beta: fnp.sign(x),
    "smooth": lambda x, beta: fnp.tanh(beta * x),
    "refined": lambda x, beta: fnp.where(fnp.abs(x) < 1.0, x, fnp.sign(x)),
}


def scale_by_lion(
    b1: float = 0.9,
    b2: float = 0.99,
    mu_dtype: Any = None,
    *,
    mode: str = "hard",
    smooth_beta: float = 1.0,
) -> GradientTransformation:
    """Replace updates by the sign of a mix of gradient and average.

    The update is sign((1 - b1) g + b1 m); then m joins g with decay b2.

    Args:
        b1: part of the average in the mix, in [0, 1).
        b2: decay of the average, in [0, 1).
        mu_dtype: dtype of the average; the parameters' by default.
        mode: 'hard' for the sign, 'smooth' for tanh(smooth_beta x), 'refined' for x up to 1.
        smooth_beta: steepness of 'smooth'.

    Returns:
        The transformation.

    Raises:
        ValueError: there is no such mode.

    Example:
        >>> t = optim.scale_by_lion()
        >>> t.update([fnp.array([3.0, -5.0])], t.init([fnp.zeros(2)]))[0]
        [Array([ 1., -1.], dtype=float32)]

    References:
        Chen et al., "Symbolic discovery of optimization algorithms" (2023).
    """
    check_decay("scale_by_lion", b1=b1, b2=b2)
    if mode not in _LION:
        raise ValueError(f"scale_by_lion: mode is one of {sorted(_LION)}, not {mode!r}")

    def init(params: Any) -> ScaleByLionState:
        return ScaleByLionState(zero_count(), zeros_like(params, mu_dtype))

    def step(g: Any, m: Any) -> tuple[Any, Any]:
        return _LION[mode](mix(g, m, b1), smooth_beta), mix(g, m, b2)

    def update(updates: Any, state: ScaleByLionState, params: Any) -> tuple[Any, ScaleByLionState]:
        updates, mu = per_leaf(step, updates, (state.mu,))
        return updates, ScaleByLionState(safe_increment(state.count), mu)

    return piece(ScaleByLionState, init, update)


def scale_by_novograd(
    b1: float = 0.9,
    b2: float = 0.25,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: float = 0.0,
    mu_dtype: Any = None,
) -> GradientTransformation:
    """Divide each array of gradients by an average of its norm, then add momentum.

    With v the average of |g|² over steps, one number for each array, which starts at the first:
    m <- b1 m + g / (sqrt(v + eps_root) + eps) + weight_decay p.

    Args:
        b1: decay of the sum m, in [0, 1).
        b2: decay of the average of squared norms, in [0, 1).
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        weight_decay: part of the parameters in the sum.
        mu_dtype: dtype of the sum; the parameters' by default.

    Returns:
        The transformation; its update needs ``params``.

    Example:
        >>> t, params = optim.scale_by_novograd(), [fnp.zeros(2)]
        >>> t.update([fnp.array([3.0, 4.0])], t.init(params), params)[0]
        [Array([0.6, 0.8], dtype=float32)]

    References:
        Ginsburg et al., "Stochastic gradient methods with layer-wise adaptive moments" (2019).
    """
    check_decay("scale_by_novograd", b1=b1, b2=b2)

    def init(params: Any) -> ScaleByNovogradState:
        norms = each(lambda p: fnp.zeros((), fnp.real(p).dtype), params)
        return ScaleByNovogradState(zero_count(), zeros_like(params, mu_dtype), norms)

    def update(
        updates: Any, state: ScaleByNovogradState, params: Any
    ) -> tuple[Any, ScaleByNovogradState]:
        check_params("scale_by_novograd", params)
        first = state.count == 0

        def step(g: Any, m: Any, v: Any, p: Any) -> tuple[Any, Any, Any]:
            square = fnp.sum(abs_square(g))
            v = fnp.where(first, square, mix(square, v, b2))
            m = b1 * m + g / (fnp.sqrt(v + eps_root) + eps) + weight_decay * p
            return m, m, v

        updates, mu, nu = per_leaf(step, updates, (state.mu, state.nu), params)
        return updates, ScaleByNovogradState(safe_increment(state.count), mu, nu)

    return piece(ScaleByNovogradState, init, update)
