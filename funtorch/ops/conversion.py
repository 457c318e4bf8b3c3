"""Conversion of floats to integers, where NumPy leaves open what is out of range."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch import dtypes

__all__ = ["float_to_int"]


class _Strict(threading.local):
    """A context per thread in which NumPy raises where a conversion is not defined."""

    def __init__(self) -> None:
        context = contextvars.Context()
        context.run(np.seterr, all="ignore", invalid="raise")
        self.run: Callable[..., Any] = context.run


_strict = _Strict()
_CHECKED = frozenset({np.dtype(np.int32), np.dtype(np.int64)})  # smaller ones go through these


def float_to_int(xp: Any, x: Any, dtype: np.dtype) -> Any:
    """Convert towards zero; out of range gives the nearest integer there is, nan gives 0."""
    if xp is np and dtype in _CHECKED:
        with contextlib.suppress(FloatingPointError):  # where something is out of range
            return _strict.run(x.astype, dtype)
    limits = dtypes.iinfo(dtype)
    wide = x.astype(np.float32) if x.dtype in dtypes.HALVES else x
    low, high = wide.dtype.type(limits.min), wide.dtype.type(float(limits.max))
    inside = (wide > low) & (wide < high)
    out = xp.where(inside, wide, xp.zeros_like(wide)).astype(dtype)
    out = xp.where(wide >= high, xp.asarray(limits.max, dtype), out)
    return xp.where(wide <= low, xp.asarray(limits.min, dtype), out)
