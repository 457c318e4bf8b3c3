"""What all losses share: how many numbers come out, and which shapes go together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import funtorch.numpy as fnp

__all__ = ["reduced", "same_shape"]

_REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "mean": fnp.mean,
    "sum": fnp.sum,
    "none": lambda losses: losses,
}


def same_shape(loss: str, a: Any, b: Any, names: tuple[str, str]) -> tuple[Any, Any]:
    """Return two arguments of a loss as arrays, after a check that their shapes are equal."""
    a, b = fnp.asarray(a), fnp.asarray(b)
    if a.shape != b.shape:
        raise ValueError(
            f"{loss} takes {names[0]} and {names[1]} of the same shape; it was given {names[0]} "
            f"{a.shape} and {names[1]} {b.shape}. Reshape one of them: broadcasting them against "
            "each other would pair every element with the wrong ones"
        )
    return a, b


def reduced(loss: str, losses: Any, reduction: str, weights: Any = None) -> Any:
    """Return the mean or sum of losses, or all of them.

    Args:
        loss: the name of the loss, for messages.
        losses: array of any shape.
        reduction: 'mean', 'sum' or 'none'.
        weights: of the mean, by which the losses are multiplied already; all 1 if None.
    """
    if reduction not in _REDUCTIONS:
        raise ValueError(
            f"{loss} takes reduction 'mean', 'sum' or 'none'; it was given {reduction!r}"
        )
    if reduction == "mean" and weights is not None:
        return losses.sum() / weights.sum()
    return _REDUCTIONS[reduction](losses)
