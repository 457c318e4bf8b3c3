"""What layers that slide over space share: sizes per axis, and inputs with or without a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import funtorch.numpy as fnp

from .module import Module, title

__all__ = ["Sizes", "axis_names", "samples_of", "sizes_of"]

Sizes = int | Sequence[int]


def sizes_of(layer: str, name: str, value: Sizes, count: int, least: int = 1) -> tuple[int, ...]:
    """Return an int or ``count`` of them as a tuple."""
    out = (value,) * count if isinstance(value, int) else tuple(value)
    if len(out) != count or any(not isinstance(n, int) or n < least for n in out):
        raise ValueError(
            f"{layer} takes {name} as an int or {count} ints of {least} or more; it was given "
            f"{value!r}"
        )
    return out


def samples_of(layer: Module, x: Any, space: int) -> tuple[Any, bool]:
    """Return the input with a batch axis, and whether it had one."""
    x = fnp.asarray(x)
    if x.ndim not in (space + 1, space + 2):
        raise ValueError(
            f"{title(layer)} takes an array of shape (batch, channels, {axis_names(space)}) or "
            f"(channels, {axis_names(space)}); it was given one of shape {x.shape}"
        )
    return (x, True) if x.ndim == space + 2 else (x[None], False)


def axis_names(space: int) -> str:
    return ", ".join(("depth", "height", "width")[-space:]) if space > 1 else "length"
