"""Optimizers with PyTorch's arguments and numbers, where those differ from optax's.

Each takes what the class of torch.optim takes after the parameters, and steps as that does;
``lr`` may be a schedule too. Updates are added by `apply_updates`, as always.

Notation: p parameters, g gradients, m and v averages of g and g², t the number of the step.

References:
    The documentation of torch.optim.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch.optim.adaptive import scale_by_adamax
from funtorch.optim.adding import add_decayed_weights
from funtorch.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    chain,
    check_decay,
    check_params,
    check_positive,
    each,
    identity,
    per_leaf,
    piece,
    zero_count,
    zeros_like,
)
from funtorch.optim.descents import rprop as _rprop
from funtorch.optim.moments import mix, sum_of_weights, trace
from funtorch.optim.norms import abs_square, at_least_float32, safe_increment
from funtorch.optim.scaling import (
    scale_by_adadelta,
    scale_by_learning_rate,
    scale_by_rms,
    scale_by_stddev,
)

__all__ = [
    "ASGDState",
    "MomentsState",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "asgd",
    "nadam",
    "radam",
    "rmsprop",
    "rprop",
    "sgd",
    "sparse_adam",
]


class MomentsState(NamedTuple):
    """Steps (int32), and the averages that a method keeps."""

    count: Any
    moments: tuple[Any, ...]


class ASGDState(NamedTuple):
    """Steps (int32), the averaged parameters, their weight, and the step size.

    Attributes:
        count: steps.
        ax: the averaged parameters, those to use in the end.
    """

    count: Any
    ax: Any


def _rate(lr: ScalarOrSchedule, count: Any) -> Any:
    return lr(count) if callable(lr) else lr


def _method(
    name: str, moments: int, step: Any, lr: ScalarOrSchedule, start: float = 0.0
) -> GradientTransformation:
    """Return what steps by ``step(t, rate, g, p, *moments) -> (change, *moments)``, t from 1."""
    if not callable(lr):
        check_positive(name, lr=lr)

    def init(params: Any) -> MomentsState:
        full = each(lambda p: fnp.full_like(p, start), params)
        return MomentsState(zero_count(), (full,) * moments)

    def update(updates: Any, state: MomentsState, params: Any) -> tuple[Any, MomentsState]:
        check_params(name, params)
        count = safe_increment(state.count)
        rate = _rate(lr, state.count)

        def one(g: Any, *kept: Any) -> tuple[Any, ...]:
            *own, p = kept
            change, *new = step(count, fnp.asarray(rate, dtype=fnp.real(p).dtype), g, p, *own)
            return change.astype(p.dtype), *new

        updates, *new = per_leaf(one, updates, state.moments, params)
        return updates, MomentsState(count, tuple(new))

    init.__qualname__ = f"{name}.init"
    return piece(MomentsState, init, update)


def _weights(decay: Any, count: Any, like: Any) -> Any:
    """Return 1 - decay^t in the dtype to compute with."""
    return sum_of_weights(decay, count, at_least_float32(fnp.real(like).dtype))


def sgd(
    lr: ScalarOrSchedule = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> GradientTransformation:
    """Make gradient descent with damped momentum: ``torch.optim.SGD``.

    s <- momentum s + (1 - dampening) g, and s = g at the first step.

    Args:
        lr: learning rate, or a function of the number of steps taken before.
        momentum: decay of the sum s.
        dampening: part of the gradient that does not join it.
        weight_decay: part of the parameters that is added to gradients.
        nesterov: whether to use Nesterov's form of momentum.

    Returns:
        The optimizer; its update needs ``params``.

    Raises:
        ValueError: ``nesterov`` comes without momentum, or with dampening.

    Example:
        >>> optimizer, params = optim.pytorch.sgd(0.5, momentum=0.9), [fnp.zeros(1)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-0.5], dtype=float32)]
    """
    if nesterov and (momentum <= 0 or dampening != 0):
        raise ValueError("sgd with nesterov=True takes a momentum above 0 and no dampening")

    def step(t: Any, rate: Any, g: Any, p: Any, *kept: Any) -> tuple[Any, ...]:
        g = g + weight_decay * p
        if not kept:
            return (-rate * g,)
        s = fnp.where(t == 1, g, momentum * kept[0] + (1 - dampening) * g)
        return -rate * (g + momentum * s if nesterov else s), s

    return _method("sgd", int(momentum != 0), step, lr)


def _adam(name: str, lr: Any, betas: Any, eps: Any, decay: Any, amsgrad: bool, apart: bool) -> Any:
    b1, b2 = betas
    check_decay(name, b1=b1, b2=b2)

    def step(t: Any, rate: Any, g: Any, p: Any, m: Any, v: Any, *most: Any) -> tuple[Any, ...]:
        g = g if apart else g + decay * p
        m, v = mix(g, m, b1), mix(abs_square(g), v, b2)
        most = tuple([fnp.maximum(x, v) for x in most])
        divisor = fnp.sqrt((most[0] if amsgrad else v) / _weights(b2, t, p)) + eps
        change = -rate * (m / _weights(b1, t, p)) / divisor
        return (change - rate * decay * p if apart else change), m, v, *most

    return _method(name, 2 + amsgrad, step, lr)


def adam(
    lr: ScalarOrSchedule = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
) -> GradientTransformation:
    """Make Adam: ``torch.optim.Adam``.

    Args:
        lr: learning rate, or a function of the number of steps taken before.
        betas: decays of both averages.
        eps: keeps the divisor from 0.
        weight_decay: part of the parameters that is added to gradients.
        amsgrad: whether to divide by the largest average so far.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.pytorch.adam(0.5), [fnp.zeros(1)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-0.5], dtype=float32)]
    """
    return _adam("adam", lr, betas, eps, weight_decay, amsgrad, apart=False)


def adamw(
    lr: ScalarOrSchedule = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
) -> GradientTransformation:
    """Make Adam with decoupled weight decay: ``torch.optim.AdamW``.

    Args:
        lr: learning rate, or a function of the number of steps taken before.
        betas: decays of both averages.
        eps: keeps the divisor from 0.
        weight_decay: times the learning rate, the part of a weight that goes at each step.
        amsgrad: whether to divide by the largest average so far.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.pytorch.adamw(0.5), [fnp.zeros(1)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-0.5], dtype=float32)]
    """
    return _adam("adamw", lr, betas, eps, weight_decay, amsgrad, apart=True)


def nadam(
    lr: ScalarOrSchedule = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
) -> GradientTransformation:
    """Make NAdam with momentum that grows: ``torch.optim.NAdam``.

    With μ_t = b1 (1 - 0.96^(t momentum_decay) / 2) and M_t the product of all of them, the step is
    (1 - μ_t) / (1 - M_t) g + μ_(t+1) / (1 - M_(t+1)) m over sqrt(v̂) + eps.

    Args:
        lr: learning rate, or a function of the number of steps taken before.
        betas: decays of both averages.
        eps: keeps the divisor from 0.
        weight_decay: part of the parameters that is added to gradients, or goes by itself.
        momentum_decay: how fast the momentum grows.
        decoupled_weight_decay: which of both.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.pytorch.nadam(0.5), [fnp.zeros(1)]
        >>> fnp.round(optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0][0], 3)
        Array([-0.528], dtype=float32)
    """
    b1, b2 = betas
    check_decay("nadam", b1=b1, b2=b2)

    def step(t: Any, rate: Any, g: Any, p: Any, m: Any, v: Any, product: Any) -> tuple[Any, ...]:
        apart = decoupled_weight_decay
        g = g if apart else g + weight_decay * p
        base = fnp.asarray(0.96, dtype=at_least_float32(p.dtype))
        now, ahead = (b1 * (1 - 0.5 * base ** (k * momentum_decay)) for k in (t, t + 1))
        product = fnp.where(t == 1, 1.0, product) * now
        m, v = mix(g, m, b1), mix(abs_square(g), v, b2)
        divisor = fnp.sqrt(v / _weights(b2, t, p)) + eps
        by_g, by_m = (1 - now) / (1 - product), ahead / (1 - product * ahead)
        change = -rate * (by_g * g + by_m * m) / divisor
        return (change - rate * weight_decay * p if apart else change), m, v, product

    return _method("nadam", 3, step, lr)


def radam(
    lr: ScalarOrSchedule = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
) -> GradientTransformation:
    """Make RAdam: ``torch.optim.RAdam``. Its eps joins the root before it is corrected.

    Args:
        lr: learning rate, or a function of the number of steps taken before.
        betas: decays of both averages.
        eps: keeps the divisor from 0.
        weight_decay: part of the parameters that is added to gradients, or goes by itself.
        decoupled_weight_decay: which of both.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.pytorch.radam(0.5), [fnp.zeros(1)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-0.5], dtype=float32)]
    """
    b1, b2 = betas
    check_decay("radam", b1=b1, b2=b2)
    limit = 2 / (1 - b2) - 1

    def step(t: Any, rate: Any, g: Any, p: Any, m: Any, v: Any) -> tuple[Any, ...]:
        apart = decoupled_weight_decay
        g = g if apart else g + weight_decay * p
        m, v = mix(g, m, b1), mix(abs_square(g), v, b2)
        weight = sum_of_weights(b2, t, fnp.float64)
        rho = limit - 2 * t * (1 - weight) / weight
        tame = fnp.where(rho > 5, rho, limit)
        factor = (tame - 4) * (tame - 2) * limit / ((limit - 4) * (limit - 2) * tame)
        adapted = fnp.sqrt(factor * weight).astype(p.dtype) / (fnp.sqrt(v) + eps)
        change = -rate * m / _weights(b1, t, p) * fnp.where(rho > 5, adapted, 1)
        return (change - rate * weight_decay * p if apart else change), m, v

    return _method("radam", 2, step, lr)


def adagrad(
    lr: ScalarOrSchedule = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
) -> GradientTransformation:
    """Make AdaGrad: ``torch.optim.Adagrad``. Its eps joins the root.

    Args:
        lr: learning rate, or a function of the number of steps taken before.
        lr_decay: the rate is lr / (1 + (t - 1) lr_decay).
        weight_decay: part of the parameters that is added to gradients.
        initial_accumulator_value: what the sums of squares start at.
        eps: keeps the divisor from 0.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.pytorch.adagrad(0.5), [fnp.zeros(1)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-0.5], dtype=float32)]
    """

    def step(t: Any, rate: Any, g: Any, p: Any, total: Any) -> tuple[Any, ...]:
        g = g + weight_decay * p
        total = total + abs_square(g)
        rate = rate / (1 + (t - 1).astype(rate.dtype) * lr_decay)
        return -rate * g / (fnp.sqrt(total) + eps), total

    return _method("adagrad", 1, step, lr, initial_accumulator_value)


def adadelta(
    lr: ScalarOrSchedule = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0.0
) -> GradientTransformationExtraArgs:
    """Make Adadelta: ``torch.optim.Adadelta``.

    Args:
        lr: learning rate, or a function of the number of steps taken before.
        rho: decay of both averages.
        eps: added under both roots.
        weight_decay: part of the parameters that is added to gradients.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.pytorch.adadelta(eps=1.0), [fnp.zeros(1)]
        >>> optimizer.update([fnp.full(1, 3.0)], optimizer.init(params), params)[0]
        [Array([-2.1764288], dtype=float32)]
    """
    return chain(
        add_decayed_weights(weight_decay), scale_by_adadelta(rho, eps), scale_by_learning_rate(lr)
    )


def adamax(
    lr: ScalarOrSchedule = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> GradientTransformationExtraArgs:
    """Make Adamax: ``torch.optim.Adamax``.

    Args:
        lr: learning rate, or a function of the number of steps taken before.
        betas: decays of the average and of the maximum.
        eps: keeps the divisor from 0.
        weight_decay: part of the parameters that is added to gradients.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.pytorch.adamax(0.5), [fnp.zeros(1)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-0.5], dtype=float32)]
    """
    return chain(
        add_decayed_weights(weight_decay), scale_by_adamax(*betas, eps), scale_by_learning_rate(lr)
    )


def rmsprop(
    lr: ScalarOrSchedule = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
) -> GradientTransformationExtraArgs:
    """Make RMSProp: ``torch.optim.RMSprop``. Its eps joins the root.

    Args:
        lr: learning rate, or a function of the number of steps taken before.
        alpha: decay of the average of squares.
        eps: keeps the divisor from 0.
        weight_decay: part of the parameters that is added to gradients.
        momentum: decay of the sum of divided gradients.
        centered: whether to divide by the standard deviation.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.pytorch.rmsprop(0.5, alpha=0.75), [fnp.zeros(1)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-1.], dtype=float32)]
    """
    divide = scale_by_stddev if centered else scale_by_rms
    return chain(
        add_decayed_weights(weight_decay),
        divide(alpha, eps, eps_in_sqrt=False),
        trace(momentum) if momentum else identity(),
        scale_by_learning_rate(lr),
    )


def rprop(
    lr: float = 1e-2,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50.0),
) -> GradientTransformationExtraArgs:
    """Make Rprop: ``torch.optim.Rprop``.

    Args:
        lr: the first step sizes.
        etas: factors of step sizes where gradients change their signs, and where they do not.
        step_sizes: least and largest step size.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.pytorch.rprop(0.5)
        >>> optimizer.update([fnp.ones(1)], optimizer.init([fnp.zeros(1)]))[0]
        [Array([-0.5], dtype=float32)]
    """
    return _rprop(lr, *etas, *step_sizes)


def asgd(
    lr: float = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
) -> GradientTransformation:
    """Make gradient descent with averaged parameters: ``torch.optim.ASGD``.

    With η_t = lr / (1 + lambd lr t)^alpha: p <- (1 - lambd η) p - η g. The average of all p since
    step t0 is ``state.ax``: use it in the end.

    Args:
        lr: learning rate.
        lambd: decay of parameters.
        alpha: exponent of the decay of the rate.
        t0: at which step averaging begins.
        weight_decay: part of the parameters that is added to gradients.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.pytorch.asgd(0.5, lambd=0.0, t0=0), [fnp.zeros(1)]
        >>> updates, state = optimizer.update([fnp.ones(1)], optimizer.init(params), params)
        >>> updates, state.ax
        ([Array([-0.5], dtype=float32)], [Array([-0.5], dtype=float32)])

    References:
        Polyak & Juditsky, "Acceleration of stochastic approximation by averaging" (1992).
    """
    check_positive("asgd", lr=lr)

    def init(params: Any) -> ASGDState:
        return ASGDState(zero_count(), zeros_like(params))

    def update(updates: Any, state: ASGDState, params: Any) -> tuple[Any, ASGDState]:
        check_params("asgd", params)

        def step(g: Any, mean: Any, p: Any) -> tuple[Any, Any]:
            t = state.count.astype(at_least_float32(p.dtype))
            eta = (lr / (1 + lambd * lr * t) ** alpha).astype(p.dtype)
            weight = (1 / fnp.maximum(1, t - t0)).astype(p.dtype)
            change = -eta * (lambd * p + g + weight_decay * p)
            return change, mean + (p + change - mean) * weight

        updates, mean = per_leaf(step, updates, (state.ax,), params)
        return updates, ASGDState(safe_increment(state.count), mean)

    return piece(ASGDState, init, update)


def sparse_adam(
    lr: ScalarOrSchedule = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
) -> GradientTransformation:
    """Make Adam that leaves rows without a gradient alone: ``torch.optim.SparseAdam``.

    A row (an embedding, say) whose gradient is all zeros keeps its averages, and does not move.

    Args:
        lr: learning rate, or a function of the number of steps taken before.
        betas: decays of both averages.
        eps: keeps the divisor from 0.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.pytorch.sparse_adam(0.5), [fnp.zeros((2, 1))]
        >>> grads = [fnp.array([[0.0], [3.0]])]
        >>> optimizer.update(grads, optimizer.init(params), params)[0]
        [Array([[ 0.       ],
               [-0.4999999]], dtype=float32)]
    """
    b1, b2 = betas
    check_decay("sparse_adam", b1=b1, b2=b2)

    def step(t: Any, rate: Any, g: Any, p: Any, m: Any, v: Any) -> tuple[Any, ...]:
        there = fnp.any(g != 0, axis=tuple(range(1, g.ndim)), keepdims=True)
        m = fnp.where(there, mix(g, m, b1), m)
        v = fnp.where(there, mix(abs_square(g), v, b2), v)
        factor = fnp.sqrt(_weights(b2, t, p)) / _weights(b1, t, p)
        return fnp.where(there, -rate * factor * m / (fnp.sqrt(v) + eps), 0), m, v

    return _method("sparse_adam", 2, step, lr)


def adafactor(
    lr: ScalarOrSchedule = 1e-2,
    beta2_decay: float = -0.8,
    eps: tuple[float | None, float] = (None, 1e-3),
    d: float = 1.0,
    weight_decay: float = 0.0,
) -> GradientTransformation:
    """Make Adafactor: ``torch.optim.Adafactor``.

    Args:
        lr: largest rate, or a function of the number of steps taken before; 1 / sqrt(t) bounds it.
        beta2_decay: exponent of one minus the decay of averages, t**beta2_decay.
        eps: least root of squares (None for the dtype's), and least root mean square of weights.
        d: largest root mean square of steps, before they are scaled.
        weight_decay: times the rate, the part of a weight that goes at each step.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.pytorch.adafactor(0.5), [fnp.ones(1)]
        >>> optimizer.update([fnp.full(1, 3.0)], optimizer.init(params), params)[0]
        [Array([-0.5], dtype=float32)]

    References:
        Shazeer & Stern, "Adafactor", ICML (2018).
    """

    def init(params: Any) -> MomentsState:
        def shaped(cut: Any) -> Any:
            return each(
                lambda p: fnp.zeros_like(fnp.sum(p, cut, keepdims=True) if p.ndim > 1 else p),
                params,
            )

        return MomentsState(zero_count(), (shaped(-1), shaped(-2)))

    def update(updates: Any, state: MomentsState, params: Any) -> tuple[Any, MomentsState]:
        check_params("adafactor", params)
        count = safe_increment(state.count)

        def step(g: Any, row: Any, col: Any, p: Any) -> tuple[Any, Any, Any]:
            dtype = at_least_float32(p.dtype)
            t = count.astype(dtype)
            rate, part = fnp.asarray(_rate(lr, state.count), dtype=dtype), t**beta2_decay
            least = fnp.finfo(p.dtype).eps if eps[0] is None else eps[0]
            square = fnp.square(g.astype(dtype))
            if g.ndim > 1:
                row = row + (fnp.mean(square, -1, keepdims=True) - row) * part
                col = col + (fnp.mean(square, -2, keepdims=True) - col) * part
                estimate = row * col / fnp.maximum(fnp.mean(row, -2, keepdims=True), least)
            else:
                row = col = estimate = row + (square - row) * part
            change = g / fnp.sqrt(fnp.maximum(estimate, least * least))
            change = change / fnp.maximum(1.0, fnp.sqrt(fnp.mean(change**2)) / d)
            size = fnp.maximum(eps[1], fnp.sqrt(fnp.mean(p**2))) * fnp.minimum(rate, t**-0.5)
            shrunk = rate * weight_decay
            return (-shrunk * p - size * change).astype(p.dtype), row, col

        updates, *new = per_leaf(step, updates, state.moments, params)
        return updates, MomentsState(count, tuple(new))

    return piece(MomentsState, init, update)
