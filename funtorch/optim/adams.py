"""Adam and its relatives, each a chain of pieces."""

from __future__ import annotations

from typing import Any

from funtorch.optim.adaptive import (
    scale_by_adam,
    scale_by_adamax,
    scale_by_adan,
    scale_by_amsgrad,
    scale_by_belief,
    scale_by_lion,
    scale_by_radam,
    scale_by_yogi,
)
from funtorch.optim.adding import add_decayed_weights
from funtorch.optim.base import GradientTransformationExtraArgs, ScalarOrSchedule, chain
from funtorch.optim.scaling import (
    scale_by_learning_rate,
    scale_by_optimistic_gradient,
    scale_by_trust_ratio,
)

__all__ = [
    "adabelief",
    "adam",
    "adamax",
    "adamaxw",
    "adamw",
    "adan",
    "amsgrad",
    "lamb",
    "lion",
    "nadam",
    "nadamw",
    "optimistic_adam_v2",
    "radam",
    "yogi",
]


def adam(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> GradientTransformationExtraArgs:
    """Make Adam: steps of about the learning rate in every coordinate, whatever its scale.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of gradients.
        b2: decay of the average of their squares.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        mu_dtype: dtype of the average of gradients; the parameters' by default.
        nesterov: whether to use Nesterov's momentum; see `nadam`.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.adam(0.5)
        >>> updates, state = optimizer.update([fnp.ones(1)], optimizer.init([fnp.zeros(1)]))
        >>> updates
        [Array([-0.5], dtype=float32)]

    References:
        Kingma & Ba, "Adam: a method for stochastic optimization", ICLR (2015).
    """
    divide = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    return chain(divide, scale_by_learning_rate(learning_rate))


def nadam(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
) -> GradientTransformationExtraArgs:
    """Make NAdam: Adam with Nesterov's momentum.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of gradients.
        b2: decay of the average of their squares.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        mu_dtype: dtype of the average of gradients; the parameters' by default.
        nesterov: False makes it Adam.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.nadam(0.5)
        >>> optimizer.update([fnp.ones(1)], optimizer.init([fnp.zeros(1)]))[0]
        [Array([-0.7368421], dtype=float32)]

    References:
        Dozat, "Incorporating Nesterov momentum into Adam" (2016).
    """
    return adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)


def adamw(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
) -> GradientTransformationExtraArgs:
    """Make AdamW: Adam, with weight decay that its scaling does not touch.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of gradients.
        b2: decay of the average of their squares.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        mu_dtype: dtype of the average of gradients; the parameters' by default.
        weight_decay: times the learning rate, the part of a weight that goes at each step.
        mask: which weights decay; see `add_decayed_weights`.
        nesterov: whether to use Nesterov's momentum; see `nadamw`.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer = optim.adamw(0.5, weight_decay=0.5)
        >>> params = [fnp.array([2.0])]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-1.], dtype=float32)]

    References:
        Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR (2019).
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


def nadamw(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = True,
) -> GradientTransformationExtraArgs:
    """Make NAdamW: AdamW with Nesterov's momentum.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of gradients.
        b2: decay of the average of their squares.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        mu_dtype: dtype of the average of gradients; the parameters' by default.
        weight_decay: times the learning rate, the part of a weight that goes at each step.
        mask: which weights decay; see `add_decayed_weights`.
        nesterov: False makes it AdamW.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.nadamw(0.5, weight_decay=0.0), [fnp.zeros(1)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-0.7368421], dtype=float32)]

    References:
        Dozat, "Incorporating Nesterov momentum into Adam" (2016).
        Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR (2019).
    """
    return adamw(
        learning_rate, b1, b2, eps, eps_root, mu_dtype, weight_decay, mask, nesterov=nesterov
    )


def amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> GradientTransformationExtraArgs:
    """Make AMSGrad: Adam whose divisors never shrink.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of gradients.
        b2: decay of the average of their squares.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        mu_dtype: dtype of the average of gradients; the parameters' by default.
        bias_correction_mu: whether to correct the first average for its start at zero.
        bias_correction_nu: whether to correct the second, before the maximum is taken.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.amsgrad(0.5)
        >>> optimizer.update([fnp.ones(1)], optimizer.init([fnp.zeros(1)]))[0]
        [Array([-0.5], dtype=float32)]

    References:
        Reddi et al., "On the convergence of Adam and beyond", ICLR (2018).
    """
    divide = scale_by_amsgrad(
        b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu
    )
    return chain(divide, scale_by_learning_rate(learning_rate))


def adamax(
    learning_rate: ScalarOrSchedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> GradientTransformationExtraArgs:
    """Make Adamax: Adam with decaying maxima of gradients for divisors.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of gradients.
        b2: decay of the maximum.
        eps: keeps the divisor from 0.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.adamax(0.5)
        >>> optimizer.update([fnp.ones(1)], optimizer.init([fnp.zeros(1)]))[0]
        [Array([-0.5], dtype=float32)]

    References:
        Kingma & Ba, "Adam: a method for stochastic optimization", ICLR (2015), section 7.
    """
    return chain(scale_by_adamax(b1, b2, eps), scale_by_learning_rate(learning_rate))


def adamaxw(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Any = None,
) -> GradientTransformationExtraArgs:
    """Make Adamax with decoupled weight decay.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of gradients.
        b2: decay of the maximum.
        eps: keeps the divisor from 0.
        weight_decay: times the learning rate, the part of a weight that goes at each step.
        mask: which weights decay; see `add_decayed_weights`.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.adamaxw(0.5, weight_decay=0.5), [fnp.full(1, 2.0)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-1.], dtype=float32)]

    References:
        Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR (2019).
    """
    return chain(
        scale_by_adamax(b1, b2, eps),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


def adan(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.98,
    b2: float = 0.92,
    b3: float = 0.99,
    eps: float = 1e-8,
    eps_root: float = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> GradientTransformationExtraArgs:
    """Make Adan: averages of gradients, of their changes and of squares; see `scale_by_adan`.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of gradients.
        b2: decay of the average of their changes.
        b3: decay of the average of squares.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        weight_decay: times the learning rate, the part of a weight that goes at each step.
        mask: which weights decay; see `add_decayed_weights`.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.adan(0.5), [fnp.zeros(1)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-0.5], dtype=float32)]

    References:
        Xie et al., "Adan: adaptive Nesterov momentum algorithm" (2022).
    """
    return chain(
        scale_by_adan(b1, b2, b3, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


def adabelief(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-16,
    eps_root: float = 1e-16,
    *,
    nesterov: bool = False,
) -> GradientTransformationExtraArgs:
    """Make AdaBelief: steps divided by how far gradients are from their average.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of gradients.
        b2: decay of the average of squared surprises.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        nesterov: whether to use Nesterov's momentum.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.adabelief(0.9)
        >>> optimizer.update([fnp.ones(1)], optimizer.init([fnp.zeros(1)]))[0]
        [Array([-0.99999994], dtype=float32)]

    References:
        Zhuang et al., "AdaBelief optimizer", NeurIPS (2020).
    """
    divide = scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov)
    return chain(divide, scale_by_learning_rate(learning_rate))


def yogi(
    learning_rate: ScalarOrSchedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-3
) -> GradientTransformationExtraArgs:
    """Make Yogi: Adam whose averages of squares change slowly; see `scale_by_yogi`.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of gradients.
        b2: one minus the size of steps of the average of squares.
        eps: keeps the divisor from 0.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.yogi(0.5)
        >>> optimizer.update([fnp.ones(1)], optimizer.init([fnp.zeros(1)]))[0]
        [Array([-0.49925563], dtype=float32)]

    References:
        Zaheer et al., "Adaptive methods for nonconvex optimization", NeurIPS (2018).
    """
    return chain(scale_by_yogi(b1, b2, eps), scale_by_learning_rate(learning_rate))


def radam(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    threshold: float = 5.0,
    *,
    nesterov: bool = False,
) -> GradientTransformationExtraArgs:
    """Make RAdam: Adam with careful first steps; see `scale_by_radam`.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of gradients.
        b2: decay of the average of their squares.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        threshold: from which length of the average on steps are divided.
        nesterov: whether to use Nesterov's momentum.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.radam(0.5)
        >>> optimizer.update([fnp.ones(1)], optimizer.init([fnp.zeros(1)]))[0]
        [Array([-0.5], dtype=float32)]

    References:
        Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR (2020).
    """
    divide = scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov)
    return chain(divide, scale_by_learning_rate(learning_rate))


def lion(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.99,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-3,
    mask: Any = None,
) -> GradientTransformationExtraArgs:
    """Make Lion: steps of the learning rate by the sign of a mix of gradient and average.

    Args:
        learning_rate: a number, or a function of the number of steps taken before; a third to a
            tenth of Adam's.
        b1: part of the average in the mix.
        b2: decay of the average.
        mu_dtype: dtype of the average; the parameters' by default.
        weight_decay: times the learning rate, the part of a weight that goes at each step.
        mask: which weights decay; see `add_decayed_weights`.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.lion(0.5), [fnp.zeros(1)]
        >>> optimizer.update([fnp.full(1, 9.0)], optimizer.init(params), params)[0]
        [Array([-0.5], dtype=float32)]

    References:
        Chen et al., "Symbolic discovery of optimization algorithms" (2023).
    """
    return chain(
        scale_by_lion(b1, b2, mu_dtype),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


def lamb(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    eps_root: float = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> GradientTransformationExtraArgs:
    """Make LAMB: AdamW with steps of each array in proportion to its norm, for large batches.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of gradients.
        b2: decay of the average of their squares.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        weight_decay: times the learning rate, the part of a weight that goes at each step.
        mask: which weights decay; see `add_decayed_weights`.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.lamb(0.5), [fnp.full(1, 4.0)]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-2.], dtype=float32)]

    References:
        You et al., "Large batch optimization for deep learning", ICLR (2020).
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )


def optimistic_adam_v2(
    learning_rate: ScalarOrSchedule,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    nesterov: bool = True,
) -> GradientTransformationExtraArgs:
    """Make Adam with extrapolated steps, for games.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        alpha: part of the step.
        beta: part of its change.
        b1: decay of the average of gradients.
        b2: decay of the average of their squares.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.
        mu_dtype: dtype of the average of gradients; the parameters' by default.
        nesterov: whether to use Nesterov's momentum.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.optimistic_adam_v2(0.5, nesterov=False)
        >>> optimizer.update([fnp.ones(1)], optimizer.init([fnp.zeros(1)]))[0]
        [Array([-0.5], dtype=float32)]

    References:
        Daskalakis et al., "Training GANs with optimism", ICLR (2018).
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_optimistic_gradient(alpha, beta),
        scale_by_learning_rate(learning_rate),
    )
