"""Optimizers that follow the gradient, or divide it by sums of its squares."""

from __future__ import annotations

from typing import Any

import funtorch.numpy as fnp
from funtorch.optim.adaptive import scale_by_novograd
from funtorch.optim.adding import add_decayed_weights, add_noise
from funtorch.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    chain,
    check_positive,
    identity,
)
from funtorch.optim.clipping import clip_by_block_rms
from funtorch.optim.compact import scale_by_factored_rms, scale_by_sm3
from funtorch.optim.moments import ema, trace
from funtorch.optim.scaling import (
    scale,
    scale_by_adadelta,
    scale_by_learning_rate,
    scale_by_optimistic_gradient,
    scale_by_param_block_rms,
    scale_by_polyak,
    scale_by_rms,
    scale_by_rprop,
    scale_by_rss,
    scale_by_sign,
    scale_by_stddev,
    scale_by_trust_ratio,
)
from funtorch.optim.wrappers import masked

__all__ = [
    "adadelta",
    "adafactor",
    "adagrad",
    "fromage",
    "lars",
    "noisy_sgd",
    "novograd",
    "optimistic_gradient_descent",
    "polyak_sgd",
    "rmsprop",
    "rprop",
    "sgd",
    "sign_sgd",
    "signum",
    "sm3",
]


def sgd(
    learning_rate: ScalarOrSchedule,
    momentum: float | None = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Make stochastic gradient descent, with momentum if asked.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        momentum: decay of the sum of past gradients; None for no sum.
        nesterov: whether to use Nesterov's form of momentum.
        accumulator_dtype: dtype of the sum; the parameters' by default.

    Returns:
        The optimizer.

    Raises:
        ValueError: ``nesterov`` comes without momentum.

    Example:
        >>> optimizer = optim.sgd(0.1, momentum=0.9)
        >>> updates, state = optimizer.update([fnp.ones(1)], optimizer.init([fnp.zeros(1)]))
        >>> updates
        [Array([-0.1], dtype=float32)]

    References:
        Sutskever et al., "On the importance of initialization and momentum in deep learning",
        ICML (2013).
    """
    if nesterov and momentum is None:
        raise ValueError("sgd with nesterov=True needs momentum=..., for example 0.9")
    memory = identity() if momentum is None else trace(momentum, nesterov, accumulator_dtype)
    return chain(memory, scale_by_learning_rate(learning_rate))


def noisy_sgd(
    learning_rate: ScalarOrSchedule,
    eta: float = 0.01,
    gamma: float = 0.55,
    key: Any = 0,
    *,
    seed: int | None = None,
) -> GradientTransformationExtraArgs:
    """Make gradient descent with noise that fades; see `add_noise`.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        eta: variance of the noise at the first step.
        gamma: how fast it fades.
        key: random key, or an integer to make one of.
        seed: another name of an integer key.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.noisy_sgd(0.5, eta=0.0)
        >>> optimizer.update([fnp.ones(1)], optimizer.init([fnp.zeros(1)]))[0]
        [Array([-0.5], dtype=float32)]

    References:
        Neelakantan et al., "Adding gradient noise improves learning for very deep networks" (2015).
    """
    return chain(add_noise(eta, gamma, key, seed=seed), scale_by_learning_rate(learning_rate))


def sign_sgd(learning_rate: ScalarOrSchedule) -> GradientTransformationExtraArgs:
    """Make descent by the signs of gradients.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.sign_sgd(0.5)
        >>> optimizer.update([fnp.full(1, 9.0)], optimizer.init([fnp.zeros(1)]))[0]
        [Array([-0.5], dtype=float32)]

    References:
        Bernstein et al., "signSGD", ICML (2018).
    """
    return chain(scale_by_sign(), scale_by_learning_rate(learning_rate))


def signum(
    learning_rate: ScalarOrSchedule, beta: float = 0.9, accumulator_dtype: Any = None
) -> GradientTransformationExtraArgs:
    """Make descent by the signs of an average of gradients.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        beta: decay of the average.
        accumulator_dtype: its dtype; the parameters' by default.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.signum(0.5)
        >>> optimizer.update([fnp.full(1, 9.0)], optimizer.init([fnp.zeros(1)]))[0]
        [Array([-0.5], dtype=float32)]

    References:
        Bernstein et al., "signSGD", ICML (2018).
    """
    average = ema(beta, debias=False, accumulator_dtype=accumulator_dtype)
    return chain(average, scale_by_sign(), scale_by_learning_rate(learning_rate))


def optimistic_gradient_descent(
    learning_rate: ScalarOrSchedule, alpha: float = 1.0, beta: float = 1.0
) -> GradientTransformationExtraArgs:
    """Make descent by extrapolated gradients, for games; see `scale_by_optimistic_gradient`.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        alpha: part of the gradient.
        beta: part of its change.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.optimistic_gradient_descent(0.5)
        >>> optimizer.update([fnp.ones(1)], optimizer.init([fnp.zeros(1)]))[0]
        [Array([-0.5], dtype=float32)]

    References:
        Mokhtari et al., "A unified analysis of extra-gradient and optimistic gradient methods for
        saddle point problems", AISTATS (2020).
    """
    return chain(scale_by_optimistic_gradient(alpha, beta), scale_by_learning_rate(learning_rate))


def polyak_sgd(
    max_learning_rate: float = 1.0,
    scaling: ScalarOrSchedule = 1.0,
    f_min: float = 0.0,
    eps: float = 0.0,
    variant: str = "sps",
) -> GradientTransformationExtraArgs:
    """Make gradient descent with Polyak's step size; see `scale_by_polyak`.

    Args:
        max_learning_rate: the largest step size.
        scaling: factor of it, or a function of the number of steps taken before.
        f_min: the least value of the loss.
        eps: keeps a divisor from 0.
        variant: 'sps' or 'sps+'.

    Returns:
        The optimizer; its update needs the loss as ``value``.

    Example:
        >>> optimizer = optim.polyak_sgd()
        >>> optimizer.update([fnp.full(1, 4.0)], optimizer.init([fnp.zeros(1)]), value=8.0)[0]
        [Array([-2.], dtype=float32)]

    References:
        Loizou et al., "Stochastic Polyak step-size for SGD", AISTATS (2021).
    """
    check_positive("polyak_sgd", max_learning_rate=max_learning_rate)
    return chain(sgd(scaling), scale_by_polyak(f_min, max_learning_rate, eps, variant))


def rprop(
    learning_rate: float,
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    min_step_size: float = 1e-6,
    max_step_size: float = 50.0,
) -> GradientTransformationExtraArgs:
    """Make Rprop: step sizes of every weight's own, for gradients without noise.

    Args:
        learning_rate: the first step sizes.
        eta_minus: factor of a step size where the gradient changes its sign.
        eta_plus: factor where it does not.
        min_step_size: least step size.
        max_step_size: largest step size.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.rprop(0.5)
        >>> optimizer.update([fnp.full(1, 9.0)], optimizer.init([fnp.zeros(1)]))[0]
        [Array([-0.5], dtype=float32)]

    References:
        Riedmiller & Braun, "A direct adaptive method for faster backpropagation learning" (1993).
    """
    check_positive("rprop", learning_rate=learning_rate)
    sizes = scale_by_rprop(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size)
    return chain(sizes, scale(-1.0))


def adagrad(
    learning_rate: ScalarOrSchedule, initial_accumulator_value: float = 0.1, eps: float = 1e-7
) -> GradientTransformationExtraArgs:
    """Make AdaGrad: gradients divided by the root of the sum of all their squares.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        initial_accumulator_value: what the sums start at.
        eps: keeps the root from 0.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.adagrad(0.5, initial_accumulator_value=0.0)
        >>> optimizer.update([fnp.full(1, 9.0)], optimizer.init([fnp.zeros(1)]))[0]
        [Array([-0.5], dtype=float32)]

    References:
        Duchi et al., "Adaptive subgradient methods", JMLR (2011).
    """
    return chain(
        scale_by_rss(initial_accumulator_value, eps), scale_by_learning_rate(learning_rate)
    )


def adadelta(
    learning_rate: ScalarOrSchedule | None = None,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    weight_decay_mask: Any = None,
) -> GradientTransformationExtraArgs:
    """Make Adadelta: steps of the size of past steps.

    Args:
        learning_rate: a number, or a function of the number of steps taken before; None for
            no factor at all, where the updates point uphill.
        rho: decay of the averages of squares.
        eps: added under their roots.
        weight_decay: part of the parameters that is added to the gradients.
        weight_decay_mask: which weights decay; see `add_decayed_weights`.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.adadelta(1.0, eps=1.0), [fnp.zeros(1)]
        >>> optimizer.update([fnp.full(1, 3.0)], optimizer.init(params), params)[0]
        [Array([-2.1764288], dtype=float32)]

    References:
        Zeiler, "ADADELTA: an adaptive learning rate method" (2012).
    """
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_adadelta(rho, eps),
        scale_by_learning_rate(learning_rate),
    )


def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: float = 0.9,
    eps: float = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: float | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> GradientTransformationExtraArgs:
    """Make RMSProp: gradients divided by the root of the average of their squares.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        decay: of the average.
        eps: keeps the divisor from 0.
        initial_scale: what the average starts at.
        eps_in_sqrt: whether to add eps under the root (False is PyTorch's way).
        centered: whether to divide by the standard deviation instead.
        momentum: decay of the sum of steps; None for no sum.
        nesterov: whether to use Nesterov's form of momentum.
        bias_correction: whether to correct the average for its start.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.rmsprop(0.5, decay=0.75)
        >>> optimizer.update([fnp.full(1, 9.0)], optimizer.init([fnp.zeros(1)]))[0]
        [Array([-1.], dtype=float32)]

    References:
        Tieleman & Hinton, "Lecture 6.5: rmsprop" (2012).
    """
    divide = scale_by_stddev if centered else scale_by_rms
    return chain(
        divide(decay, eps, initial_scale, eps_in_sqrt, bias_correction),
        scale_by_learning_rate(learning_rate),
        identity() if momentum is None else trace(momentum, nesterov),
    )


def sm3(learning_rate: float, momentum: float = 0.9) -> GradientTransformationExtraArgs:
    """Make SM3: AdaGrad whose memory is that of the arrays' axes; see `scale_by_sm3`.

    Args:
        learning_rate: a number.
        momentum: decay of the average of steps.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.sm3(0.5, momentum=0.0)
        >>> optimizer.update([fnp.full((1, 2), 9.0)], optimizer.init([fnp.zeros((1, 2))]))[0]
        [Array([[-0.5, -0.5]], dtype=float32)]

    References:
        Anil et al., "Memory-efficient adaptive optimization", NeurIPS (2019).
    """
    return chain(scale_by_sm3(momentum), scale_by_learning_rate(learning_rate))


def adafactor(
    learning_rate: ScalarOrSchedule | None = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: float = 0.8,
    decay_offset: int = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: float | None = 1.0,
    momentum: float | None = None,
    dtype_momentum: Any = fnp.float32,
    weight_decay_rate: float | None = None,
    eps: float = 1e-30,
    factored: bool = True,
    weight_decay_mask: Any = None,
) -> GradientTransformationExtraArgs:
    """Make Adafactor: squares of matrices kept as rows and columns; steps in proportion to weights.

    Args:
        learning_rate: a number, or a function of the number of steps taken before; None for 1.
        min_dim_size_to_factor: least size of the axes of arrays that are factored.
        decay_rate: exponent of the decay of averages, 1 - (step + 1)**-decay_rate.
        decay_offset: number of the first step.
        multiply_by_parameter_scale: whether to multiply steps by the root mean square of weights.
        clipping_threshold: largest root mean square of an array's steps; None for no bound.
        momentum: decay of an average of steps; None for none.
        dtype_momentum: its dtype.
        weight_decay_rate: part of the weights that goes at each step; None for none.
        eps: added to squares.
        factored: whether to factor at all.
        weight_decay_mask: which weights decay; see `add_decayed_weights`.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.adafactor(0.5), [fnp.ones(1)]
        >>> optimizer.update([fnp.full(1, 9.0)], optimizer.init(params), params)[0]
        [Array([-0.5], dtype=float32)]

    References:
        Shazeer & Stern, "Adafactor", ICML (2018).
    """
    parts: list[GradientTransformation] = [
        scale_by_factored_rms(factored, decay_rate, decay_offset, min_dim_size_to_factor, eps)
    ]
    if clipping_threshold is not None:
        parts.append(clip_by_block_rms(clipping_threshold))
    if learning_rate is not None:
        parts.append(scale_by_learning_rate(learning_rate, flip_sign=False))
    if multiply_by_parameter_scale:
        parts.append(scale_by_param_block_rms())
    if momentum is not None:
        parts.append(ema(momentum, debias=False, accumulator_dtype=dtype_momentum))
    if weight_decay_rate is not None:
        parts.append(add_decayed_weights(weight_decay_rate, weight_decay_mask))
    return chain(*parts, scale(-1.0))


def novograd(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.25,
    eps: float = 1e-6,
    eps_root: float = 0.0,
    weight_decay: float = 0.0,
) -> GradientTransformationExtraArgs:
    """Make NovoGrad: each array's gradient divided by its norm, then momentum.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the sum of steps.
        b2: decay of the average of squared norms.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        weight_decay: part of the parameters that joins the sum.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.novograd(0.5), [fnp.zeros(2)]
        >>> optimizer.update([fnp.array([3.0, 4.0])], optimizer.init(params), params)[0]
        [Array([-0.29999995, -0.39999992], dtype=float32)]

    References:
        Ginsburg et al., "Stochastic gradient methods with layer-wise adaptive moments" (2019).
    """
    divide = scale_by_novograd(b1, b2, eps, eps_root, weight_decay)
    return chain(divide, scale_by_learning_rate(learning_rate))


def lars(
    learning_rate: ScalarOrSchedule,
    weight_decay: float = 0.0,
    weight_decay_mask: Any = True,
    trust_coefficient: float = 0.001,
    eps: float = 0.0,
    trust_ratio_mask: Any = True,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> GradientTransformationExtraArgs:
    """Make LARS: steps of each array in proportion to its norm, for large batches.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        weight_decay: part of the parameters that is added to the gradients.
        weight_decay_mask: which weights decay; see `add_decayed_weights`.
        trust_coefficient: the proportion.
        eps: keeps the divisor from 0.
        trust_ratio_mask: which arrays are scaled.
        momentum: decay of the sum of steps.
        nesterov: whether to use Nesterov's form of momentum.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.lars(0.5, trust_coefficient=1.0), [fnp.array([3.0, 4.0])]
        >>> optimizer.update([fnp.array([0.0, 1.0])], optimizer.init(params), params)[0]
        [Array([ 0. , -2.5], dtype=float32)]

    References:
        You et al., "Large batch training of convolutional networks" (2017).
    """
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        masked(scale_by_trust_ratio(0.0, trust_coefficient, eps), trust_ratio_mask),
        scale_by_learning_rate(learning_rate),
        trace(momentum, nesterov),
    )


def fromage(
    learning_rate: ScalarOrSchedule, min_norm: float = 1e-6
) -> GradientTransformationExtraArgs:
    """Make Fromage: each array turns by an angle, and keeps its norm.

    p <- (p - rate g |p| / |g|) / sqrt(1 + rate²).

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        min_norm: least value of the norms.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.fromage(1.0), [fnp.array([2.0, 0.0])]
        >>> optimizer.update([fnp.array([0.0, 9.0])], optimizer.init(params), params)[0]
        [Array([-0.58578646, -1.4142135 ], dtype=float32)]

    References:
        Bernstein et al., "On the distance between two neural networks and the stability of
        learning", NeurIPS (2020).
    """

    def shrink(rate: Any) -> Any:
        return 1 / (1 + rate**2) ** 0.5

    turn = scale_by_trust_ratio(min_norm)
    if callable(learning_rate):
        return chain(
            turn,
            scale_by_learning_rate(lambda t: learning_rate(t) * shrink(learning_rate(t))),
            add_decayed_weights(lambda t: shrink(learning_rate(t)) - 1),
        )
    check_positive("fromage", learning_rate=learning_rate)
    factor = shrink(learning_rate)
    return chain(
        turn, scale_by_learning_rate(learning_rate * factor), add_decayed_weights(factor - 1)
    )
