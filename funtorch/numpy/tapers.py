"""Window functions, which taper a signal to its ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl
from funtorch.numpy.promotion import static_int

__all__ = ["bartlett", "blackman", "hamming", "hanning"]


def _window(name: str, source: Callable[[int], Any]) -> Callable[[int], Any]:
    def function(M: int) -> Any:
        return ArrayImpl(source(static_int(M, f"{name}: M")).astype(dtypes.default_float()))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"Make the {name} window of M points.\n\n    References:\n        numpy.{name}\n    "
    )
    return function


bartlett = _window("bartlett", np.bartlett)
blackman = _window("blackman", np.blackman)
hamming = _window("hamming", np.hamming)
hanning = _window("hanning", np.hanning)
