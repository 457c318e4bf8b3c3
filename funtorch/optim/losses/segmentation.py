"""Losses of areas in images."""

from __future__ import annotations

from typing import Any

import funtorch.numpy as fnp
from funtorch import nn

from .checks import alike

__all__ = ["binary_dice_loss", "dice_loss", "multiclass_generalized_dice_loss"]


def dice_loss(
    predictions: Any,
    targets: Any,
    *,
    class_weights: Any = None,
    smooth: Any = 1.0,
    alpha: Any = 0.5,
    beta: Any = 0.5,
    apply_softmax: bool = True,
    reduction: str = "mean",
    ignore_background: bool = False,
    axis: Any = None,
) -> Any:
    """Compute 1 - the overlap of predicted with true areas, class by class.

    With I the sum of p t, P of p and T of t, 1 - (I + s) / (I + alpha (P - I) + beta (T - I) + s).

    Args:
        predictions: scores (batch, ..., classes); one class means a sigmoid.
        targets: 0 and 1, of the same shape.
        class_weights: factors of the classes.
        smooth: s, which keeps the divisor from 0.
        alpha: weight of what is wrongly predicted.
        beta: weight of what is missed.
        apply_softmax: whether the predictions are scores rather than probabilities.
        reduction: over the classes: 'mean', 'sum' or 'none'.
        ignore_background: leave class 0 out.
        axis: the axes of the area; all but the first and the last if None.

    Returns:
        The losses (batch), or (batch, classes).

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.

    References:
        Milletari et al., "V-Net" (2016); Salehi et al., "Tversky loss function" (2017).
    """
    probs, targets = _areas("dice_loss", predictions, targets, apply_softmax, ignore_background)
    axes = tuple(range(1, probs.ndim - 1)) if axis is None else axis
    both, predicted, true = ((x).sum(axes) for x in (probs * targets, probs, targets))
    divisor = both + alpha * (predicted - both) + beta * (true - both) + smooth
    losses = 1 - (both + smooth) / divisor
    if class_weights is not None:
        weights = fnp.asarray(class_weights)
        losses = losses * (weights[1:] if ignore_background and len(weights) > 1 else weights)
    reductions = {"mean": lambda x: x.mean(-1), "sum": lambda x: x.sum(-1), "none": lambda x: x}
    if reduction not in reductions:
        raise ValueError(f"dice_loss takes reduction 'mean', 'sum' or 'none', got {reduction!r}")
    return reductions[reduction](losses)


def multiclass_generalized_dice_loss(
    predictions: Any,
    targets: Any,
    *,
    smooth: Any = 1.0,
    apply_softmax: bool = True,
    ignore_background: bool = False,
) -> Any:
    """Compute a dice loss whose classes weigh 1 / (their area)².

    Args:
        predictions: scores (batch, ..., classes).
        targets: 0 and 1, of the same shape.
        smooth: keeps the divisor from 0.
        apply_softmax: whether the predictions are scores rather than probabilities.
        ignore_background: leave class 0 out.

    Returns:
        The mean over the batch.

    References:
        Sudre et al., "Generalised Dice overlap" (2017).
    """
    targets = fnp.asarray(targets)
    areas = targets.sum(tuple(range(targets.ndim - 1)))
    weights = 1 / (fnp.square(areas) + 1e-7)
    losses = dice_loss(
        predictions,
        targets,
        class_weights=weights * (len(weights) / weights.sum()),
        smooth=smooth,
        apply_softmax=apply_softmax,
        reduction="none",
        ignore_background=ignore_background,
    )
    return losses.mean()


def binary_dice_loss(
    predictions: Any, targets: Any, *, smooth: Any = 1.0, apply_sigmoid: bool = True
) -> Any:
    """Compute a dice loss of one class.

    Args:
        predictions: scores (batch, ...).
        targets: 0 and 1, of the same shape.
        smooth: keeps the divisor from 0.
        apply_sigmoid: whether the predictions are scores rather than probabilities.

    Returns:
        The losses (batch).
    """
    predictions, targets = fnp.asarray(predictions), fnp.asarray(targets)
    if predictions.shape[-1:] != (1,):
        predictions, targets = predictions[..., None], targets[..., None]
    return dice_loss(predictions, targets, smooth=smooth, apply_softmax=apply_sigmoid)


def _areas(
    loss: str, predictions: Any, targets: Any, scores: bool, no_background: bool
) -> tuple[Any, Any]:
    predictions, targets = alike(loss, ("predictions", "targets"), predictions, targets)
    classes = predictions.shape[-1]
    if scores:
        predictions = nn.sigmoid(predictions) if classes == 1 else nn.softmax(predictions, axis=-1)
    if no_background and classes > 1:
        predictions, targets = predictions[..., 1:], targets[..., 1:]
    return predictions, targets
