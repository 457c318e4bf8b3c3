"""Losses: functions of predictions and targets, and how to reduce them to one number."""

from __future__ import annotations

import math
from typing import Any

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nn
from funtorch.scipy.special import xlogy

from .reducing import reduced, same_shape

__all__ = [
    "bce",
    "bce_with_logits",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "gaussian_nll",
    "gaussian_nll_loss",
    "hinge_embedding",
    "hinge_embedding_loss",
    "huber",
    "huber_loss",
    "kl_div",
    "l1",
    "l1_loss",
    "mse",
    "mse_loss",
    "poisson_nll",
    "poisson_nll_loss",
    "smooth_l1",
    "smooth_l1_loss",
    "soft_margin",
    "soft_margin_loss",
]


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
    return reduced("mse", fnp.square(difference), reduction)


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
    return reduced("l1", fnp.abs(_difference("l1", predictions, targets)), reduction)


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
    return reduced("huber", losses, reduction)


def smooth_l1(
    predictions: Any, targets: Any, *, beta: float = 1.0, reduction: str = "mean"
) -> ft.Array:
    """Compute d²/(2 beta) where |d| < beta and |d| - beta/2 elsewhere, d = predictions - targets.

    Args:
        predictions: array of any shape.
        targets: array of the same shape.
        beta: where the square ends; 0 for `l1`.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array of the predictions' shape.

    Raises:
        ValueError: the shapes differ, beta is negative, or the reduction is unknown.

    References:
        Girshick, "Fast R-CNN", ICCV (2015).
    """
    if beta < 0:
        raise ValueError(f"smooth_l1 takes a beta of at least 0; it was given {beta}")
    size = fnp.abs(_difference("smooth_l1", predictions, targets))
    if beta:
        size = fnp.where(size < beta, size * size / (2 * beta), size - beta / 2)
    return reduced("smooth_l1", size, reduction)


def bce(probs: Any, targets: Any, *, weight: Any = None, reduction: str = "mean") -> ft.Array:
    """Compute the cross-entropy of yes-or-no targets with probabilities.

    Logarithms are at least -100, so the loss is finite. `bce_with_logits` is more accurate.

    Args:
        probs: probabilities of any shape.
        targets: probabilities of the same shape.
        weight: factors of the losses, broadcast against them.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array of the probabilities' shape.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.bce(fnp.array([0.5, 0.0]), fnp.array([1.0, 1.0]), reduction="none")
        Array([  0.6931472, 100.       ], dtype=float32)
    """
    probs, targets = same_shape("bce", probs, targets, ("probs", "targets"))
    losses = -(targets * _log(probs) + (1 - targets) * _log(1 - probs))
    return reduced("bce", _weighted(losses, weight), reduction)


def bce_with_logits(
    logits: Any,
    targets: Any,
    *,
    weight: Any = None,
    pos_weight: Any = None,
    reduction: str = "mean",
) -> ft.Array:
    """Compute the cross-entropy of yes-or-no targets with probabilities sigmoid(logits).

    Args:
        logits: array of any shape.
        targets: probabilities in [0, 1] of the same shape.
        weight: factors of the losses, broadcast against them.
        pos_weight: factors of what targets of 1 lose, broadcast against the targets.
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
    logits, targets = same_shape("bce_with_logits", logits, targets, ("logits", "targets"))
    # Both terms are positive, so nothing cancels however large the logits are.
    positive = targets * nn.softplus(-logits)
    losses = _weighted(positive, pos_weight) + (1 - targets) * nn.softplus(logits)
    return reduced("bce_with_logits", _weighted(losses, weight), reduction)


def poisson_nll(
    predictions: Any,
    targets: Any,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> ft.Array:
    """Compute the negative log-likelihood of counts with Poisson's distribution.

    Args:
        predictions: logarithms of the rates, of any shape.
        targets: counts of the same shape.
        log_input: whether the predictions are logarithms; else the rates themselves.
        full: add Stirling's approximation of log(targets!), for targets above 1.
        eps: added to rates before their logarithm.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array of the predictions' shape.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    rates, targets = same_shape("poisson_nll", predictions, targets, ("predictions", "targets"))
    if log_input:
        losses = fnp.exp(rates) - targets * rates
    else:
        losses = rates - targets * fnp.log(rates + eps)
    if full:
        stirling = xlogy(targets, targets) - targets
        stirling = stirling + 0.5 * fnp.log(2 * math.pi * fnp.maximum(targets, 1))
        losses = losses + fnp.where(targets > 1, stirling, 0)
    return reduced("poisson_nll", losses, reduction)


def gaussian_nll(
    predictions: Any,
    targets: Any,
    var: Any,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> ft.Array:
    """Compute the negative log-likelihood of targets with normal distributions.

    Args:
        predictions: means of any shape.
        targets: array of the same shape.
        var: variances of that shape, of that shape with a last axis of 1, or without the last
            axis; or a number. Below ``eps`` it counts as ``eps``, with the gradient of ``var``.
        full: add the constant log(2 pi) / 2.
        eps: the least variance.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array of the predictions' shape.

    Raises:
        ValueError: shapes do not fit, a known variance is negative, or the reduction is unknown.

    References:
        Nix & Weigend, "Estimating the mean and variance of the target distribution" (1994).
    """
    gap, var = _difference("gaussian_nll", predictions, targets), fnp.asarray(var)
    if var.shape == gap.shape[:-1] and gap.ndim > 0 and var.ndim > 0:
        var = var[..., None]
    if var.ndim and var.shape not in (gap.shape, (*gap.shape[:-1], 1)):
        raise ValueError(
            f"gaussian_nll takes var of the predictions' shape {gap.shape}, with or without its "
            f"last axis; it was given {var.shape}"
        )
    kept = var + ft.lax.stop_gradient(fnp.maximum(var, eps) - var)
    losses = 0.5 * (fnp.log(kept) + gap * gap / kept)
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return reduced("gaussian_nll", losses, reduction)


def kl_div(
    log_probs: Any, targets: Any, *, reduction: str = "mean", log_target: bool = False
) -> ft.Array:
    """Compute targets (log targets - log_probs), with 0 log 0 = 0.

    Args:
        log_probs: log-probabilities of any shape.
        targets: probabilities of the same shape.
        reduction: 'mean' over all elements, 'sum', 'none', or 'batchmean': the sum divided by the
            size of the first axis, which is the mean divergence.
        log_target: whether the targets are logarithms.

    Returns:
        A scalar; with 'none', an array of the targets' shape.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    log_probs, targets = same_shape("kl_div", log_probs, targets, ("log_probs", "targets"))
    if log_target:
        losses = fnp.exp(targets) * (targets - log_probs)
    else:
        losses = xlogy(targets, targets) - targets * log_probs
    if reduction == "batchmean":
        return losses.sum() / (losses.shape[0] if losses.ndim else 1)
    return reduced("kl_div", losses, reduction)


def hinge_embedding(
    distances: Any, targets: Any, *, margin: float = 1.0, reduction: str = "mean"
) -> ft.Array:
    """Compute the distance where the target is 1, and max(0, margin - distance) where it is -1.

    Args:
        distances: array of any shape.
        targets: 1 and -1, of the same shape.
        margin: how far apart those with -1 are to be.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array of the distances' shape.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    distances, targets = same_shape("hinge_embedding", distances, targets, ("distances", "targets"))
    losses = fnp.where(targets == 1, distances, fnp.maximum(0, margin - distances))
    return reduced("hinge_embedding", losses, reduction)


def soft_margin(scores: Any, targets: Any, *, reduction: str = "mean") -> ft.Array:
    """Compute log(1 + exp(-targets scores)), for targets 1 and -1.

    Args:
        scores: array of any shape.
        targets: array of the same shape.
        reduction: 'mean', 'sum' or 'none'.

    Returns:
        A scalar; with 'none', an array of the scores' shape.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    scores, targets = same_shape("soft_margin", scores, targets, ("scores", "targets"))
    return reduced("soft_margin", nn.softplus(-targets * scores), reduction)


# PyTorch's names.
mse_loss, l1_loss, smooth_l1_loss, huber_loss = mse, l1, smooth_l1, huber
binary_cross_entropy, binary_cross_entropy_with_logits = bce, bce_with_logits
poisson_nll_loss, gaussian_nll_loss = poisson_nll, gaussian_nll
hinge_embedding_loss, soft_margin_loss = hinge_embedding, soft_margin


def _difference(loss: str, predictions: Any, targets: Any) -> Any:
    predictions, targets = same_shape(loss, predictions, targets, ("predictions", "targets"))
    return predictions - targets


def _log(x: Any) -> Any:
    """Return logarithms, -100 at 0 with the slope 0."""
    return fnp.where(x == 0, -100, fnp.maximum(fnp.log(fnp.where(x == 0, 1, x)), -100))


def _weighted(losses: Any, weight: Any) -> Any:
    return losses if weight is None else losses * weight
