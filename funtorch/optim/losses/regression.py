"""Losses of numbers."""

from __future__ import annotations

from typing import Any

import funtorch.numpy as fnp

from .checks import errors, floats

__all__ = [
    "cosine_distance",
    "cosine_similarity",
    "huber_loss",
    "l2_loss",
    "log_cosh",
    "squared_error",
]

Axes = int | tuple[int, ...] | None


def squared_error(predictions: Any, targets: Any = None) -> Any:
    """Square the errors.

    Args:
        predictions: array of any shape.
        targets: array of the same shape; None for 0.

    Returns:
        (predictions - targets)², elementwise.

    Raises:
        ValueError: the shapes differ.
        TypeError: the predictions are no floating-point numbers.

    Example:
        >>> from funtorch import optim
        >>> optim.losses.squared_error(fnp.array([1.0, 3.0]), fnp.array([1.0, 1.0]))
        Array([0., 4.], dtype=float32)
    """
    return fnp.square(errors("squared_error", predictions, targets))


def l2_loss(predictions: Any, targets: Any = None) -> Any:
    """Compute half the squared errors; see `squared_error`."""
    return 0.5 * fnp.square(errors("l2_loss", predictions, targets))


def huber_loss(predictions: Any, targets: Any = None, *, delta: Any = 1.0) -> Any:
    """Compute Huber's loss: e²/2 where |e| <= delta, and delta (|e| - delta/2) elsewhere.

    Args:
        predictions: array of any shape.
        targets: array of the same shape; None for 0.
        delta: where the line begins.

    Returns:
        The losses, elementwise.

    References:
        Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35 (1964).
    """
    size = fnp.abs(errors("huber_loss", predictions, targets))
    inside = fnp.minimum(size, delta)
    return inside * (size - 0.5 * inside)


def log_cosh(predictions: Any, targets: Any = None) -> Any:
    """Compute log(cosh(error)), e²/2 near 0 and |e| - log 2 far away.

    Args:
        predictions: array of any shape.
        targets: array of the same shape; None for 0.

    Returns:
        The losses, elementwise.

    References:
        Chen et al., "Log hyperbolic cosine loss improves variational auto-encoder" (2019).
    """
    e = errors("log_cosh", predictions, targets)
    return fnp.logaddexp(e, -e) - fnp.log(fnp.asarray(2.0, e.dtype))


def cosine_similarity(
    predictions: Any, targets: Any, *, epsilon: Any = 0.0, axis: Axes = -1, where: Any = None
) -> Any:
    """Compute the cosines of the angles between vectors.

    Args:
        predictions: vectors along ``axis``.
        targets: vectors along ``axis``.
        epsilon: the least squared length that is divided by.
        axis: along which the vectors lie.
        where: which elements count.

    Returns:
        The cosines, without ``axis``.

    Raises:
        TypeError: an array has no floating-point numbers.
    """
    name = "cosine_similarity"
    unit = []
    for x in (floats(name, "predictions", predictions), floats(name, "targets", targets)):
        square = fnp.square(x).sum(axis, where=where, keepdims=True)
        unit.append(x / fnp.sqrt(fnp.maximum(square, epsilon)))
    return (unit[0] * unit[1]).sum(axis, where=where)


def cosine_distance(
    predictions: Any, targets: Any, *, epsilon: Any = 0.0, axis: Axes = -1, where: Any = None
) -> Any:
    """Compute 1 - `cosine_similarity`."""
    return 1 - cosine_similarity(predictions, targets, epsilon=epsilon, axis=axis, where=where)
