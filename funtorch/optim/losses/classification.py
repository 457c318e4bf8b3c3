"""Losses of classes and of distributions over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import funtorch.numpy as fnp
from funtorch import nn
from funtorch.scipy.special import logsumexp, xlogy
from funtorch.transforms import vmap

from .checks import alike, floats, mask

__all__ = [
    "convex_kl_divergence",
    "generalized_kl_divergence",
    "hinge_loss",
    "kl_divergence",
    "kl_divergence_with_log_targets",
    "make_fenchel_young_loss",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "perceptron_loss",
    "poly_loss_cross_entropy",
    "ranking_softmax_loss",
    "safe_softmax_cross_entropy",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "smooth_labels",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "sparsemax_loss",
]

Axes = int | tuple[int, ...] | None


def sigmoid_binary_cross_entropy(logits: Any, labels: Any) -> Any:
    """Compute the cross-entropy of labels with the probabilities sigmoid(logits).

    Args:
        logits: array of any shape.
        labels: probabilities; they may broadcast against the logits.

    Returns:
        The losses, elementwise.

    Raises:
        TypeError: the logits are no floating-point numbers.

    Example:
        >>> from funtorch import optim
        >>> optim.losses.sigmoid_binary_cross_entropy(fnp.zeros(1), fnp.ones(1))
        Array([0.6931472], dtype=float32)
    """
    logits = floats("sigmoid_binary_cross_entropy", "logits", logits)
    labels = fnp.asarray(labels).astype(logits.dtype)
    return labels * nn.softplus(-logits) + (1 - labels) * nn.softplus(logits)


def sigmoid_focal_loss(logits: Any, labels: Any, *, alpha: Any = None, gamma: Any = 2.0) -> Any:
    """Weigh the cross-entropy by (1 - p)^gamma, p the probability of the label.

    Args:
        logits: array of any shape.
        labels: 0 or 1, or between.
        alpha: weight of the label 1, that of 0 being 1 - alpha; None for no weights.
        gamma: how much less what is easy counts.

    Returns:
        The losses, elementwise.

    References:
        Lin et al., "Focal loss for dense object detection", ICCV (2017).
    """
    logits = floats("sigmoid_focal_loss", "logits", logits)
    labels = fnp.asarray(labels).astype(logits.dtype)
    log_p, log_q = nn.log_sigmoid(logits), nn.log_sigmoid(-logits)
    stacked, shares = fnp.stack([log_p, log_q], -1), fnp.stack([1 - labels, labels], -1)
    missing = logsumexp(stacked, axis=-1, b=fnp.broadcast_to(shares, stacked.shape))
    losses = sigmoid_binary_cross_entropy(logits, labels) * fnp.exp(gamma * missing)
    if alpha is None:
        return losses
    return losses * (alpha * labels + (1 - alpha) * (1 - labels))


def hinge_loss(predictor_outputs: Any, targets: Any) -> Any:
    """Compute max(0, 1 - targets * predictor_outputs), for targets -1 and 1."""
    return fnp.maximum(0, 1 - fnp.asarray(predictor_outputs) * targets)


def perceptron_loss(predictor_outputs: Any, targets: Any) -> Any:
    """Compute max(0, -targets * predictor_outputs), for targets -1 and 1.

    Raises:
        ValueError: the shapes differ.
    """
    outputs, targets = alike(
        "perceptron_loss", ("predictor_outputs", "targets"), predictor_outputs, targets
    )
    return fnp.maximum(0, -outputs * targets)


def sparsemax_loss(logits: Any, labels: Any) -> Any:
    """Compute the loss whose probabilities are a piecewise linear sigmoid of the logits.

    Args:
        logits: array of any shape.
        labels: 0 or 1.

    Returns:
        The losses, elementwise.

    References:
        Martins & Astudillo, "From softmax to sparsemax", ICML (2016).
    """
    logits = fnp.asarray(logits)
    return nn.sparse_plus(fnp.where(labels, -logits, logits))


def softmax_cross_entropy(logits: Any, labels: Any, axis: Axes = -1, where: Any = None) -> Any:
    """Compute the cross-entropy of labels with the probabilities softmax(logits).

    Args:
        logits: scores of the classes along ``axis``.
        labels: probabilities of the classes.
        axis: of the classes.
        where: which classes count; without the axis of classes, which samples.

    Returns:
        The losses, without ``axis``.

    Raises:
        TypeError: the logits are no floating-point numbers.

    Example:
        >>> from funtorch import optim
        >>> optim.losses.softmax_cross_entropy(fnp.zeros((1, 4)), fnp.eye(4)[:1])
        Array([1.3862944], dtype=float32)
    """
    logits = floats("softmax_cross_entropy", "logits", logits)
    where = mask(where, logits, axis)
    return -(labels * nn.log_softmax(logits, axis, where)).sum(axis, where=where)


def safe_softmax_cross_entropy(logits: Any, labels: Any) -> Any:
    """Compute `softmax_cross_entropy` where logits may be -inf at labels of 0, which count 0.

    Args:
        logits: scores (..., classes).
        labels: probabilities of the same shape.

    Returns:
        The losses, of shape (...).
    """
    logits = floats("safe_softmax_cross_entropy", "logits", logits)
    counted = fnp.asarray(labels) != 0
    log_probs = logits - logsumexp(logits, axis=-1, keepdims=True)
    return -fnp.where(counted, labels * fnp.where(counted, log_probs, 0), 0).sum(-1)


def softmax_cross_entropy_with_integer_labels(
    logits: Any, labels: Any, axis: int | tuple[int, ...] = -1, where: Any = None
) -> Any:
    """Compute the cross-entropy of classes given by number.

    Args:
        logits: scores of the classes along ``axis``; along several axes, a class is a place in
            them, counted row by row.
        labels: integers, of the shape of the logits without ``axis``.
        axis: of the classes.
        where: which classes count; a sample without any has loss 0.

    Returns:
        The losses, of the labels' shape.

    Raises:
        TypeError: the logits are no floating-point numbers, or the labels no integers.

    Example:
        >>> from funtorch import optim
        >>> optim.losses.softmax_cross_entropy_with_integer_labels(
        ...     fnp.zeros((1, 4)), fnp.array([2])
        ... )
        Array([1.3862944], dtype=float32)
    """
    name = "softmax_cross_entropy_with_integer_labels"
    logits, labels = floats(name, "logits", logits), fnp.asarray(labels)
    if not fnp.issubdtype(labels.dtype, fnp.integer):
        raise TypeError(f"{name} takes integer labels; it was given {labels.dtype.name}")
    where = mask(where, logits, axis)
    axes = tuple(a % logits.ndim for a in ((axis,) if isinstance(axis, int) else axis))

    def with_classes_last(x: Any) -> Any:
        x = fnp.moveaxis(x, axes, tuple(range(-len(axes), 0)))
        return x.reshape(*x.shape[: x.ndim - len(axes)], -1)

    scores = with_classes_last(logits)
    if labels.shape != scores.shape[:-1]:
        raise ValueError(
            f"{name} takes labels of the shape of the logits without the axis of classes, "
            f"{scores.shape[:-1]}; it was given logits {logits.shape} and labels {labels.shape}"
        )
    picked = fnp.take_along_axis(scores, labels[..., None], axis=-1)[..., 0]
    if where is None:
        return logsumexp(scores, axis=-1) - picked
    where = with_classes_last(fnp.broadcast_to(where, logits.shape))
    losses = nn.logsumexp(scores, axis=-1, where=where) - picked
    return fnp.where(where.any(-1), losses, 0)


def poly_loss_cross_entropy(
    logits: Any, labels: Any, *, epsilon: Any = 2.0, axis: Axes = -1, where: Any = None
) -> Any:
    """Add epsilon (1 - p) to the cross-entropy, p the probability of the label.

    Args:
        logits: scores of the classes along ``axis``.
        labels: probabilities of the classes.
        epsilon: weight of what is added.
        axis: of the classes.
        where: which classes count.

    Returns:
        The losses, without ``axis``.

    References:
        Leng et al., "PolyLoss", ICLR (2022).
    """
    name = "poly_loss_cross_entropy"
    logits, labels = floats(name, "logits", logits), floats(name, "labels", labels)
    probs = nn.softmax(logits, axis, where)
    missing = (labels * (1 - probs)).sum(axis, where=where)
    return softmax_cross_entropy(logits, labels, axis, where) + epsilon * missing


def multiclass_hinge_loss(scores: Any, labels: Any) -> Any:
    """Compute max(scores + 1 - onehot(labels)) - scores[labels], of scores (..., classes)."""
    scores = fnp.asarray(scores)
    chosen = nn.one_hot(labels, scores.shape[-1], dtype=scores.dtype)
    return (scores + 1 - chosen).max(-1) - (scores * chosen).sum(-1)


def multiclass_perceptron_loss(scores: Any, labels: Any) -> Any:
    """Compute max(scores) - scores[labels], of scores (..., classes)."""
    scores = fnp.asarray(scores)
    chosen = nn.one_hot(labels, scores.shape[-1], dtype=scores.dtype)
    return scores.max(-1) - (scores * chosen).sum(-1)


def multiclass_sparsemax_loss(scores: Any, labels: Any) -> Any:
    """Compute the loss whose probabilities p are the point of the simplex next to the scores.

    It is (s - s[label]) · p + (1 - |p|²) / 2.

    Args:
        scores: array (samples, classes).
        labels: integers (samples).

    Returns:
        The losses (samples).

    References:
        Martins & Astudillo, "From softmax to sparsemax", ICML (2016).
    """
    scores, labels = fnp.asarray(scores), fnp.asarray(labels)
    ordered = -fnp.sort(-scores, axis=-1)
    count = fnp.arange(1, scores.shape[-1] + 1, dtype=scores.dtype)
    excess = fnp.cumsum(ordered, axis=-1) - 1
    support = (ordered * count > excess).sum(-1, keepdims=True)
    level = fnp.take_along_axis(excess, support - 1, axis=-1) / support
    probs = fnp.maximum(scores - level, 0)
    gap = scores - fnp.take_along_axis(scores, labels[..., None], axis=-1)
    return (probs * gap).sum(-1) + 0.5 * (1 - fnp.square(probs).sum(-1))


def smooth_labels(labels: Any, alpha: Any, *, axis: Axes = -1, where: Any = None) -> Any:
    """Mix labels with the uniform distribution: (1 - alpha) labels + alpha / classes.

    Args:
        labels: probabilities of the classes along ``axis``.
        alpha: the part of the uniform distribution.
        axis: of the classes.
        where: which classes count.

    Returns:
        The new probabilities.

    Raises:
        TypeError: the labels are no floating-point numbers.

    Example:
        >>> from funtorch import optim
        >>> optim.losses.smooth_labels(fnp.array([0.0, 1.0]), 0.5)
        Array([0.25, 0.75], dtype=float32)

    References:
        Szegedy et al., "Rethinking the Inception architecture", CVPR (2016).
    """
    labels = floats("smooth_labels", "labels", labels)
    classes = fnp.ones_like(labels).sum(axis, where=where, keepdims=True)
    return (1 - alpha) * labels + alpha / classes


def ranking_softmax_loss(
    logits: Any,
    labels: Any,
    *,
    where: Any = None,
    weights: Any = None,
    reduce_fn: Callable[..., Any] | None = fnp.mean,
) -> Any:
    """Compute -sum(labels log softmax(logits)) over lists of items.

    Args:
        logits: scores (..., items).
        labels: relevance of the items, of the same shape.
        where: which items there are.
        weights: factors of the labels.
        reduce_fn: `fnp.mean`, `fnp.sum` or the like, over lists that have items; None for none.

    Returns:
        What ``reduce_fn`` makes of the losses; 0 for the mean of no lists.

    References:
        Cao et al., "Learning to rank", ICML (2007).
    """
    logits = floats("ranking_softmax_loss", "logits", logits)
    labels = fnp.asarray(labels).astype(logits.dtype)
    if where is not None:
        labels, logits = fnp.where(where, labels, 0), fnp.where(where, logits, -fnp.inf)
    if weights is not None:
        labels = labels * weights
    losses = -(labels * nn.log_softmax(logits, axis=-1)).sum(-1, where=where)
    some = None if where is None else fnp.asarray(where).any(-1)
    if reduce_fn is None:
        return losses if some is None else fnp.where(some, losses, 0)
    reduced = reduce_fn(losses, where=some)
    if some is None:
        return reduced
    return fnp.where(some.any() | fnp.isnan(losses).any(), reduced, 0)


def make_fenchel_young_loss(max_fun: Callable[..., Any]) -> Callable[..., Any]:
    """Make the loss max_fun(scores) - scores · targets of a convex function.

    Args:
        max_fun: from scores (classes) to a number, such as `logsumexp`.

    Returns:
        A function of scores (..., classes), targets of the same shape, and of further arguments
        that go to ``max_fun``; it gives losses (...).

    Example:
        >>> from funtorch import optim
        >>> from funtorch.scipy.special import logsumexp
        >>> optim.losses.make_fenchel_young_loss(logsumexp)(fnp.zeros((1, 2)), fnp.eye(2)[:1])
        Array([0.6931472], dtype=float32)

    References:
        Blondel et al., "Learning with Fenchel-Young losses", JMLR 21 (2020).
    """

    def loss(scores: Any, targets: Any, *args: Any, **kwargs: Any) -> Any:
        scores, targets = fnp.asarray(scores), fnp.asarray(targets)

        def best(one: Any) -> Any:
            return max_fun(one, *args, **kwargs)

        for _ in range(scores.ndim - 1):
            best = vmap(best)
        return best(scores) - (scores * targets).sum(-1)

    return loss


def kl_divergence(log_predictions: Any, targets: Any, axis: Axes = -1, where: Any = None) -> Any:
    """Compute sum(targets (log targets - log_predictions)), with 0 log 0 = 0.

    Args:
        log_predictions: log-probabilities.
        targets: probabilities.
        axis: of the classes.
        where: which classes count.

    Returns:
        The divergences, without ``axis``.

    References:
        Kullback & Leibler, "On information and sufficiency", Ann. Math. Statist. 22 (1951).
    """
    predictions = floats("kl_divergence", "log_predictions", log_predictions)
    targets = floats("kl_divergence", "targets", targets)
    return (xlogy(targets, targets) - targets * predictions).sum(axis, where=where)


def kl_divergence_with_log_targets(
    log_predictions: Any, log_targets: Any, axis: Axes = -1, where: Any = None
) -> Any:
    """Compute `kl_divergence` of targets that are given by their logarithms."""
    name = "kl_divergence_with_log_targets"
    predictions = floats(name, "log_predictions", log_predictions)
    targets = floats(name, "log_targets", log_targets)
    return (fnp.exp(targets) * (targets - predictions)).sum(axis, where=where)


def generalized_kl_divergence(
    log_predictions: Any, targets: Any, axis: Axes = -1, where: Any = None
) -> Any:
    """Compute `kl_divergence` + sum(predictions - targets), at least 0 for any positive numbers."""
    excess = fnp.exp(log_predictions) - targets
    plain = kl_divergence(log_predictions, targets, axis, where)
    return plain + excess.sum(axis, where=where)


convex_kl_divergence = generalized_kl_divergence  # its former name
