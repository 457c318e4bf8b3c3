"""Losses of distances, of orders, and of sequences of labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import optim

from .distance import CosineSimilarity, PairwiseDistance
from .reducing import reduced, same_shape

__all__ = [
    "cosine_embedding",
    "cosine_embedding_loss",
    "ctc",
    "ctc_loss",
    "margin_ranking",
    "margin_ranking_loss",
    "triplet_margin",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


def margin_ranking(
    x1: Any, x2: Any, targets: Any, *, margin: float = 0.0, reduction: str = "mean"
) -> ft.Array:
    """Compute max(0, margin - targets (x1 - x2)): 1 says that x1 is to be larger, -1 that x2 is.

    Args:
        x1: array of any shape.
        x2: array of the same shape.
        targets: 1 and -1, of the same shape.
        margin: by how much.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array of that shape.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    x1, x2 = same_shape("margin_ranking", x1, x2, ("x1", "x2"))
    x1, targets = same_shape("margin_ranking", x1, targets, ("x1", "targets"))
    return reduced("margin_ranking", fnp.maximum(0, margin - targets * (x1 - x2)), reduction)


def cosine_embedding(
    x1: Any, x2: Any, targets: Any, *, margin: float = 0.0, reduction: str = "mean"
) -> ft.Array:
    """Compute 1 - cos(x1, x2) where the target is 1, and max(0, cos - margin) where it is -1.

    Args:
        x1: vectors (..., features).
        x2: vectors of the same shape.
        targets: 1 and -1, of shape (...).
        margin: between -1 and 1.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array (...).

    Raises:
        ValueError: the shapes do not fit, or the reduction is unknown.
    """
    x1, x2 = same_shape("cosine_embedding", x1, x2, ("x1", "x2"))
    cosines, targets = same_shape(
        "cosine_embedding", CosineSimilarity(-1, 1e-8)(x1, x2), targets, ("vectors", "targets")
    )
    losses = fnp.where(targets == 1, 1 - cosines, fnp.maximum(0, cosines - margin))
    return reduced("cosine_embedding", losses, reduction)


def triplet_margin_with_distance_loss(
    anchors: Any,
    positives: Any,
    negatives: Any,
    *,
    distance_function: Callable[[Any, Any], Any] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> ft.Array:
    """Compute max(0, d(anchor, positive) - d(anchor, negative) + margin) for a distance d.

    Args:
        anchors: vectors (..., features).
        positives: vectors that are to be near, of the same shape.
        negatives: vectors that are to be far, of the same shape.
        distance_function: d; `PairwiseDistance` if None.
        margin: how much farther the negatives are to be.
        swap: take d(positive, negative) instead of d(anchor, negative) where that is less.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array (...).

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.

    References:
        Balntas et al., "Learning local feature descriptors with triplets", BMVC (2016).
    """
    name = "triplet_margin"
    anchors, positives = same_shape(name, anchors, positives, ("anchors", "positives"))
    anchors, negatives = same_shape(name, anchors, negatives, ("anchors", "negatives"))
    distance = distance_function or PairwiseDistance(2.0, 1e-6, False)
    far = distance(anchors, negatives)
    if swap:
        far = fnp.minimum(far, distance(positives, negatives))
    losses = fnp.maximum(0, distance(anchors, positives) - far + margin)
    return reduced(name, losses, reduction)


def triplet_margin(
    anchors: Any,
    positives: Any,
    negatives: Any,
    *,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> ft.Array:
    """Compute `triplet_margin_with_distance_loss` of the p-norm; see there."""
    return triplet_margin_with_distance_loss(
        anchors,
        positives,
        negatives,
        distance_function=PairwiseDistance(p, eps, False),
        margin=margin,
        swap=swap,
        reduction=reduction,
    )


def ctc(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    *,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> ft.Array:
    """Compute the negative log-probability of label sequences under all alignments.

    Args:
        log_probs: log-probabilities (time, batch, classes), or (time, classes) of one sequence.
        targets: integers (batch, length), or all sequences one after another in one axis, for
            which the target lengths must be known numbers.
        input_lengths: how many frames of each sequence count.
        target_lengths: how many labels.
        blank: the class that is no label.
        reduction: 'mean' of the losses divided by the target lengths, 'sum' or 'none'.
        zero_infinity: count sequences that fit no alignment as 0.

    Returns:
        A scalar; with 'none', an array (batch).

    Raises:
        ValueError: shapes do not fit, or the reduction is unknown.

    References:
        Graves et al., "Connectionist temporal classification", ICML (2006).
    """
    log_probs, targets = fnp.asarray(log_probs), fnp.asarray(targets)
    single = log_probs.ndim == 2
    if single:
        log_probs, targets = log_probs[:, None], targets.reshape(1, -1)
    frames = fnp.reshape(fnp.asarray(input_lengths), -1)
    labels = fnp.reshape(fnp.asarray(target_lengths), -1)
    if targets.ndim == 1:
        targets = _separated(targets, np.asarray(labels))
    batch = log_probs.shape[1:2]
    if log_probs.ndim != 3 or targets.shape[:1] != batch or {frames.shape, labels.shape} != {batch}:
        raise ValueError(
            "ctc takes log_probs (time, batch, classes), targets (batch, length) and lengths "
            f"(batch); it was given {log_probs.shape}, {targets.shape}, {frames.shape} and "
            f"{labels.shape}"
        )
    beyond = lambda lengths, size: fnp.arange(size) >= lengths[:, None]  # noqa: E731
    losses = optim.losses.ctc_loss(
        fnp.moveaxis(log_probs, 0, 1),
        beyond(frames, len(log_probs)),
        targets,
        beyond(labels, targets.shape[1]),
        blank_id=blank,
        log_epsilon=_NEVER,
    )
    impossible = losses > -_NEVER / 2
    losses = fnp.where(impossible, 0 if zero_infinity else fnp.inf, losses)
    if reduction == "mean":
        losses = losses / fnp.maximum(labels, 1)
    losses = losses[0] if single and reduction == "none" else losses
    return reduced("ctc", losses, reduction)


_NEVER = -1e5  # the logarithm of 0; larger ones would swallow the digits of the others


def _separated(targets: Any, lengths: np.ndarray) -> Any:
    """Cut sequences that lie one after another, and pad them to one length."""
    starts = np.cumsum(lengths) - lengths
    places = starts[:, None] + np.arange(max(lengths, default=0))
    return targets[np.minimum(places, max(targets.shape[0] - 1, 0))]


# PyTorch's names.
margin_ranking_loss, cosine_embedding_loss = margin_ranking, cosine_embedding
triplet_margin_loss, ctc_loss = triplet_margin, ctc
