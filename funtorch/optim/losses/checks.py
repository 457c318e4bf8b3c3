"""What losses ask of their arguments."""

from __future__ import annotations

from typing import Any

import funtorch.numpy as fnp

__all__ = ["alike", "errors", "floats", "mask"]


def floats(loss: str, name: str, x: Any) -> Any:
    x = fnp.asarray(x)
    if not fnp.issubdtype(x.dtype, fnp.floating):
        raise TypeError(f"{loss} takes floating-point {name}; it was given {x.dtype.name}")
    return x


def errors(loss: str, predictions: Any, targets: Any) -> Any:
    predictions = floats(loss, "predictions", predictions)
    if targets is None:
        return predictions
    predictions, targets = alike(loss, ("predictions", "targets"), predictions, targets)
    return predictions - targets


def alike(loss: str, names: tuple[str, str], a: Any, b: Any) -> tuple[Any, Any]:
    a, b = fnp.asarray(a), fnp.asarray(b)
    if a.shape != b.shape:
        raise ValueError(
            f"{loss} takes {names[0]} and {names[1]} of the same shape; it was given {a.shape} and "
            f"{b.shape}. Reshape one of them: broadcasting them against each other would pair "
            "every element with the wrong ones"
        )
    return a, b


def mask(where: Any, logits: Any, axis: Any) -> Any:
    if where is None:
        return None
    where = fnp.asarray(where)
    return where if where.ndim == logits.ndim else fnp.expand_dims(where, axis)
