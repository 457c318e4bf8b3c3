"""The optimizers themselves, each a chain of pieces from `funtorch.optim.transforms`."""

from __future__ import annotations

from typing import Any

from .transforms import (
    GradientTransformation,
    Schedule,
    add_decayed_weights,
    chain,
    identity,
    scale_by_adam,
    scale_by_learning_rate,
    trace,
)

__all__ = ["adam", "adamw", "sgd"]


def sgd(
    learning_rate: float | Schedule, momentum: float | None = None, nesterov: bool = False
) -> GradientTransformation:
    """Make stochastic gradient descent, with momentum if asked.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        momentum: decay of the sum of past gradients; None for no sum.
        nesterov: whether to use Nesterov's form of momentum.

    Returns:
        The optimizer.

    Raises:
        ValueError: ``nesterov`` comes without momentum.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> optimizer = optim.sgd(0.1, momentum=0.9)
        >>> updates, state = optimizer.update([fnp.ones(1)], optimizer.init([fnp.zeros(1)]))
        >>> updates
        [Array([-0.1], dtype=float32)]
    """
    if nesterov and momentum is None:
        raise ValueError("sgd with nesterov=True needs momentum=..., for example 0.9")
    memory = identity() if momentum is None else trace(momentum, nesterov)
    return chain(memory, scale_by_learning_rate(learning_rate))


def adam(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
) -> GradientTransformation:
    """Make Adam: steps of about the learning rate in every coordinate, whatever its scale.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of gradients.
        b2: decay of the average of their squares.
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0.

    Returns:
        The optimizer.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> optimizer = optim.adam(0.5)
        >>> updates, state = optimizer.update([fnp.ones(1)], optimizer.init([fnp.zeros(1)]))
        >>> updates
        [Array([-0.5], dtype=float32)]

    References:
        Kingma & Ba, "Adam: a method for stochastic optimization", ICLR (2015).
    """
    return chain(scale_by_adam(b1, b2, eps, eps_root), scale_by_learning_rate(learning_rate))


def adamw(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: float = 1e-4,
    mask: Any = None,
) -> GradientTransformation:
    """Make AdamW: Adam, with weight decay that its scaling does not touch.

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
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> optimizer = optim.adamw(0.5, weight_decay=0.5)
        >>> params = [fnp.array([2.0])]
        >>> optimizer.update([fnp.ones(1)], optimizer.init(params), params)[0]
        [Array([-1.], dtype=float32)]

    References:
        Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR (2019).
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
