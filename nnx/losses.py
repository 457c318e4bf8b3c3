"""Losses: functions of predictions and targets, and how to reduce them to one number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nn

__all__ = ["bce_with_logits", "cross_entropy", "huber", "l1", "mse", "nll"]

_REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "mean": fnp.mean,
    "sum": fnp.sum,
    "none": lambda losses: losses,
}


def mse(predictions: Any, targets: Any, *, reduction: str = "mean") -> ft.Array:
    """Compute the squared error, (predictions - targets)².

    Args:
        predictions: array of any shape.
        targets: array of the same shape.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array of the predictions' shape.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.mse(fnp.array([1.0, 2.0]), fnp.array([1.0, 4.0]))
        Array(2., dtype=float32)
    """
    difference = _difference("mse", predictions, targets)
    return _reduce("mse", fnp.square(difference), reduction)


def l1(predictions: Any, targets: Any, *, reduction: str = "mean") -> ft.Array:
    """Compute the absolute error, |predictions - targets|.

    Args:
        predictions: array of any shape.
        targets: array of the same shape.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array of the predictions' shape.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.l1(fnp.array([1.0, 2.0]), fnp.array([1.0, 4.0]))
        Array(1., dtype=float32)
    """
    return _reduce("l1", fnp.abs(_difference("l1", predictions, targets)), reduction)


def huber(
    predictions: Any, targets: Any, *, delta: float = 1.0, reduction: str = "mean"
) -> ft.Array:
    """Compute Huber's loss of d = predictions - targets.

    It is d²/2 where |d| <= delta and delta (|d| - delta/2) elsewhere.

    Args:
        predictions: array of any shape.
        targets: array of the same shape.
        delta: where the square ends and the line begins.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array of the predictions' shape.

    Raises:
        ValueError: the shapes differ, delta is not positive, or the reduction is unknown.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.huber(fnp.array([1.0, 2.0]), fnp.array([1.0, 4.0]), reduction="sum")
        Array(1.5, dtype=float32)

    References:
        P. J. Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35 (1964).
    """
    if delta <= 0:
        raise ValueError(f"huber takes a positive delta; it was given {delta}")
    size = fnp.abs(_difference("huber", predictions, targets))
    losses = fnp.where(size <= delta, 0.5 * size * size, delta * (size - 0.5 * delta))
    return _reduce("huber", losses, reduction)


def bce_with_logits(logits: Any, targets: Any, *, reduction: str = "mean") -> ft.Array:
    """Compute the cross-entropy of yes-or-no targets with probabilities sigmoid(logits).

    Args:
        logits: array of any shape.
        targets: probabilities in [0, 1] of the same shape.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array of the logits' shape.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.bce_with_logits(fnp.array([0.0, 100.0]), fnp.array([1.0, 0.0]), reduction="none")
        Array([  0.6931472, 100.       ], dtype=float32)
    """
    logits, targets = _same_shape("bce_with_logits", logits, targets, ("logits", "targets"))
    # Both terms are positive, so nothing cancels however large the logits are.
    losses = targets * nn.softplus(-logits) + (1 - targets) * nn.softplus(logits)
    return _reduce("bce_with_logits", losses, reduction)


def nll(log_probs: Any, labels: Any, *, reduction: str = "mean") -> ft.Array:
    """Pick the negative log-probability of each label.

    Args:
        log_probs: log-probabilities of shape (..., classes).
        labels: integers in [0, classes) of shape (...); another integer gives nan.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array of the labels' shape.

    Raises:
        ValueError: the shapes do not fit, the labels are no integers, or the reduction is unknown.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.nll(fnp.log(fnp.array([[0.5, 0.5]])), fnp.array([1]))
        Array(0.6931472, dtype=float32)
    """
    log_probs, labels = fnp.asarray(log_probs), fnp.asarray(labels)
    return _reduce("nll", _picked_nll("nll", "log_probs", log_probs, labels), reduction)


def cross_entropy(
    logits: Any, labels: Any, *, label_smoothing: float = 0.0, reduction: str = "mean"
) -> ft.Array:
    """Compute the cross-entropy of labels with the probabilities softmax(logits).

    With q the labels' probabilities, -sum(q log softmax(logits)) over the last axis. Smoothing by e
    replaces q with (1 - e) q + e / classes.

    Args:
        logits: scores of shape (..., classes).
        labels: integers in [0, classes) of shape (...), where another integer gives nan; or
            floating-point probabilities of the logits' shape.
        label_smoothing: e, in [0, 1].
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array of shape (...).

    Raises:
        ValueError: shapes do not fit, or ``label_smoothing`` or ``reduction`` is out of range.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.cross_entropy(fnp.zeros((2, 4)), fnp.array([0, 3]))
        Array(1.3862944, dtype=float32)

    References:
        Szegedy et al., "Rethinking the Inception architecture", CVPR (2016), for the smoothing.
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(
            f"cross_entropy takes a label_smoothing in [0, 1]; it was given {label_smoothing}"
        )
    log_probs, labels = nn.log_softmax(fnp.asarray(logits), axis=-1), fnp.asarray(labels)
    if fnp.issubdtype(labels.dtype, fnp.integer):
        losses = _picked_nll("cross_entropy", "logits", log_probs, labels)
    else:
        names = ("logits", "labels (probabilities)")
        log_probs, labels = _same_shape("cross_entropy", log_probs, labels, names)
        losses = -fnp.sum(labels * log_probs, axis=-1)
    if label_smoothing:
        uniform = -fnp.mean(log_probs, axis=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    return _reduce("cross_entropy", losses, reduction)


def _picked_nll(loss: str, name: str, log_probs: Any, labels: Any) -> Any:
    if not fnp.issubdtype(labels.dtype, fnp.integer):
        raise ValueError(f"{loss} takes integer labels; it was given {labels.dtype}")
    if log_probs.ndim == 0 or labels.shape != log_probs.shape[:-1]:
        raise ValueError(
            f"{loss} takes {name} of shape (..., classes) and integer labels of shape (...); it "
            f"was given {name} {log_probs.shape} and labels {labels.shape}"
        )
    picked = fnp.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0]
    # Indexing would count a negative label from the end: a wrong number, and nobody would know.
    valid = (labels >= 0) & (labels < log_probs.shape[-1])
    return fnp.where(valid, -picked, fnp.nan)


def _difference(loss: str, predictions: Any, targets: Any) -> Any:
    predictions, targets = _same_shape(loss, predictions, targets, ("predictions", "targets"))
    return predictions - targets


def _same_shape(loss: str, a: Any, b: Any, names: tuple[str, str]) -> tuple[Any, Any]:
    a, b = fnp.asarray(a), fnp.asarray(b)
    if a.shape != b.shape:
        raise ValueError(
            f"{loss} takes {names[0]} and {names[1]} of the same shape; it was given {names[0]} "
            f"{a.shape} and {names[1]} {b.shape}. Reshape one of them: broadcasting them against "
            "each other would pair every element with the wrong ones"
        )
    return a, b


def _reduce(loss: str, losses: Any, reduction: str) -> Any:
    if reduction not in _REDUCTIONS:
        raise ValueError(
            f"{loss} takes reduction 'mean', 'sum' or 'none'; it was given {reduction!r}"
        )
    return _REDUCTIONS[reduction](losses)
