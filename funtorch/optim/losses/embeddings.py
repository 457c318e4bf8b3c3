"""Losses of vectors that stand for samples."""

from __future__ import annotations

from typing import Any

import funtorch.numpy as fnp
from funtorch import nn

from .checks import floats
from .regression import cosine_similarity

__all__ = ["ntxent", "triplet_margin_loss"]


def ntxent(embeddings: Any, labels: Any, temperature: Any = 0.07) -> Any:
    """Compute the contrastive loss of embeddings: those of one label are to be near each other.

    Each pair (i, j) of equal labels gives -log(exp(c_ij/t) / (exp(c_ij/t) + sum_k exp(c_ik/t))),
    k over the samples with other labels, c the cosines.

    Args:
        embeddings: array (samples, features).
        labels: integers (samples).
        temperature: t.

    Returns:
        The mean over all pairs.

    References:
        Chen et al., "A simple framework for contrastive learning", ICML (2020).
    """
    embeddings, labels = floats("ntxent", "embeddings", embeddings), fnp.asarray(labels)
    if labels.shape != embeddings.shape[:1] or embeddings.ndim != 2:
        raise ValueError(
            "ntxent takes embeddings (samples, features) and labels (samples); it was given "
            f"{embeddings.shape} and {labels.shape}"
        )
    cosines = cosine_similarity(
        embeddings[None], embeddings[:, None], epsilon=fnp.finfo(embeddings.dtype).eps
    )
    cosines = cosines / temperature
    alike = labels[:, None] == labels
    pairs = alike & ~fnp.eye(len(labels), dtype=bool)
    others = nn.logsumexp(cosines, axis=1, where=~alike, keepdims=True)
    losses = fnp.logaddexp(cosines, others) - cosines
    return fnp.where(pairs, losses, 0).sum() / pairs.sum()


def triplet_margin_loss(
    anchors: Any,
    positives: Any,
    negatives: Any,
    axis: int = -1,
    norm_degree: Any = 2,
    margin: Any = 1.0,
    eps: Any = 1e-6,
) -> Any:
    """Compute max(0, d(anchor, positive) - d(anchor, negative) + margin).

    Args:
        anchors: vectors along ``axis``.
        positives: vectors that are to be near.
        negatives: vectors that are to be far.
        axis: along which the vectors lie.
        norm_degree: of the distance.
        margin: how much farther negatives are to be.
        eps: keeps the root from 0.

    Returns:
        The losses, without ``axis``.

    References:
        Balntas et al., "Learning local feature descriptors with triplets", BMVC (2016).
    """
    anchors = floats("triplet_margin_loss", "anchors", anchors)

    def distance(others: Any) -> Any:
        powers = fnp.power(fnp.abs(anchors - others), norm_degree).sum(axis)
        return fnp.power(powers + eps, 1.0 / norm_degree)

    return fnp.maximum(distance(positives) - distance(negatives) + margin, 0)
