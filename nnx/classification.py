"""Losses of classes.

Classes lie along the last axis, or along ``axis``; PyTorch's are along axis 1, and so are those of
the functions and layers with its names.
"""

from __future__ import annotations

from typing import Any

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nn

from .reducing import reduced, same_shape

__all__ = [
    "cross_entropy",
    "multi_margin",
    "multi_margin_loss",
    "multilabel_margin",
    "multilabel_margin_loss",
    "multilabel_soft_margin",
    "multilabel_soft_margin_loss",
    "nll",
    "nll_loss",
]


def nll(
    log_probs: Any,
    labels: Any,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    axis: int = -1,
    reduction: str = "mean",
) -> ft.Array:
    """Pick the negative log-probability of each label.

    Args:
        log_probs: log-probabilities of the classes along ``axis``.
        labels: integers in [0, classes), of the shape without ``axis``; another integer gives nan.
        weight: a factor for each class.
        ignore_index: a label that counts nothing, in the mean neither.
        axis: of the classes; PyTorch's is 1.
        reduction: 'mean', weighted if there are weights, 'sum' or 'none'.

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
    log_probs, labels = _classes_last(log_probs, axis), fnp.asarray(labels)
    losses, weights = _picked("nll", "log_probs", log_probs, labels, weight, ignore_index, axis)
    return reduced("nll", losses, reduction, weights)


def cross_entropy(
    logits: Any,
    labels: Any,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    axis: int = -1,
    reduction: str = "mean",
) -> ft.Array:
    """Compute the cross-entropy of labels with the probabilities softmax(logits).

    With q the labels' probabilities, -sum(q log softmax(logits)) over the classes. Smoothing by e
    replaces q with (1 - e) q + e / classes.

    Args:
        logits: scores of the classes along ``axis``.
        labels: integers in [0, classes), of the shape without ``axis``, where another integer gives
            nan; or floating-point probabilities of the logits' shape.
        weight: a factor for each class.
        ignore_index: a label that counts nothing, in the mean neither.
        label_smoothing: e, in [0, 1].
        axis: of the classes; PyTorch's is 1.
        reduction: 'mean', weighted by the labels' weights if there are some, 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array of the shape without ``axis``.

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
    log_probs, labels = nn.log_softmax(_classes_last(logits, axis), axis=-1), fnp.asarray(labels)
    weighted = log_probs if weight is None else log_probs * fnp.asarray(weight, log_probs.dtype)
    weights = None
    if fnp.issubdtype(labels.dtype, fnp.integer):
        losses, weights = _picked(
            "cross_entropy", "logits", log_probs, labels, weight, ignore_index, axis
        )
    else:
        names = ("logits", "labels (probabilities)")
        _, labels = same_shape("cross_entropy", fnp.asarray(logits), labels, names)
        losses = -fnp.sum(_classes_last(labels, axis) * weighted, axis=-1)
    if label_smoothing:
        uniform = -fnp.mean(weighted, axis=-1)
        if weights is not None:
            uniform = fnp.where(labels == ignore_index, 0, uniform)
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    return reduced("cross_entropy", losses, reduction, weights)


def nll_loss(
    log_probs: Any,
    labels: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> ft.Array:
    """Compute `nll` with the classes along axis 1, or 0 of a single sample, as PyTorch does."""
    return nll(
        log_probs,
        labels,
        weight=weight,
        ignore_index=ignore_index,
        axis=second_axis(log_probs),
        reduction=reduction,
    )


def second_axis(x: Any) -> int:
    """Return the axis of the classes in PyTorch's layout."""
    return min(1, fnp.ndim(x) - 1)


def multi_margin(
    scores: Any,
    labels: Any,
    *,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    reduction: str = "mean",
) -> ft.Array:
    """Compute the mean over the other classes c of max(0, margin - scores[label] + scores[c])^p.

    Args:
        scores: array (..., classes).
        labels: integers (...).
        p: 1 or 2.
        margin: how much higher the label's score is to be.
        weight: a factor for each class, that of the label.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array (...). The mean counts all classes.

    Raises:
        ValueError: shapes do not fit, p is another number, or the reduction is unknown.
    """
    if p not in (1, 2):
        raise ValueError(f"multi_margin takes p=1 or p=2; it was given {p}")
    scores, labels = fnp.asarray(scores), fnp.asarray(labels)
    picked, _ = _picked("multi_margin", "scores", scores, labels, None, None, -1)
    gaps = fnp.maximum(0, margin + picked[..., None] + scores) ** p
    if weight is not None:
        gaps = gaps * fnp.asarray(weight)[labels][..., None]
    others = fnp.arange(scores.shape[-1]) != labels[..., None]
    losses = fnp.where(others, gaps, 0).mean(-1)
    return reduced("multi_margin", losses, reduction)


def multilabel_margin(scores: Any, labels: Any, *, reduction: str = "mean") -> ft.Array:
    """Compute the mean of max(0, 1 - scores[label] + scores[c]) over labels and other classes c.

    Args:
        scores: array (..., classes).
        labels: integers of the same shape: the labels, then -1, after which nothing counts.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array (...). Sums are divided by the number of classes.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    scores, labels = same_shape("multilabel_margin", scores, labels, ("scores", "labels"))
    given = fnp.cumsum(labels < 0, axis=-1) == 0
    places = fnp.where(given, labels, 0)
    chosen = fnp.arange(scores.shape[-1]) == places[..., None]
    is_label = (chosen & given[..., None]).any(-2)
    of_labels = fnp.take_along_axis(scores, places, axis=-1)
    gaps = fnp.maximum(0, 1 - of_labels[..., :, None] + scores[..., None, :])
    losses = fnp.where(given[..., :, None] & ~is_label[..., None, :], gaps, 0).sum((-2, -1))
    return reduced("multilabel_margin", losses / scores.shape[-1], reduction)


def multilabel_soft_margin(
    scores: Any, targets: Any, *, weight: Any = None, reduction: str = "mean"
) -> ft.Array:
    """Compute the mean over the classes of the yes-or-no cross-entropy with sigmoid(scores).

    Args:
        scores: array (..., classes).
        targets: 0 and 1, of the same shape.
        weight: a factor for each class.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array (...).

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    scores, targets = same_shape("multilabel_soft_margin", scores, targets, ("scores", "targets"))
    losses = targets * nn.softplus(-scores) + (1 - targets) * nn.softplus(scores)
    if weight is not None:
        losses = losses * weight
    return reduced("multilabel_soft_margin", losses.mean(-1), reduction)


# PyTorch's names.
multi_margin_loss, multilabel_margin_loss = multi_margin, multilabel_margin
multilabel_soft_margin_loss = multilabel_soft_margin


def _classes_last(x: Any, axis: int) -> Any:
    x = fnp.asarray(x)
    return x if axis == -1 or x.ndim == 0 else fnp.moveaxis(x, axis, -1)


def _picked(
    loss: str,
    name: str,
    log_probs: Any,
    labels: Any,
    weight: Any,
    ignore_index: int | None,
    axis: int,
) -> tuple[Any, Any]:
    """Return the weighted losses of labels, and the weights of their mean."""
    if not fnp.issubdtype(labels.dtype, fnp.integer):
        raise ValueError(f"{loss} takes integer labels; it was given {labels.dtype}")
    if log_probs.ndim == 0 or labels.shape != log_probs.shape[:-1]:
        hint = ""
        if (
            axis == -1
            and log_probs.ndim > 2
            and log_probs.shape[:1] + log_probs.shape[2:] == labels.shape
        ):
            hint = ". The classes seem to lie along axis 1, as PyTorch's do: say axis=1"
        raise ValueError(
            f"{loss} takes {name} of shape (..., classes) and integer labels of shape (...); it "
            f"was given {name} {log_probs.shape} and labels {labels.shape}{hint}"
        )
    ignored = labels == ignore_index if ignore_index is not None else fnp.zeros((), bool)
    picked = fnp.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0]
    # Indexing would count a negative label from the end: a wrong number, and nobody would know.
    valid = (labels >= 0) & (labels < log_probs.shape[-1])
    weights = fnp.ones((), log_probs.dtype)
    if weight is not None:
        weights = fnp.asarray(weight, log_probs.dtype)[fnp.where(valid, labels, 0)]
    losses = fnp.where(ignored, 0, fnp.where(valid, -picked * weights, fnp.nan))
    if ignore_index is None:
        return losses, None
    return losses, fnp.where(ignored, 0, fnp.broadcast_to(weights, labels.shape))
