"""Window functions, which taper a signal to its ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl
from funtorch.numpy.creation import ones
from funtorch.numpy.elementwise import divide, i0, multiply
from funtorch.numpy.promotion import asarray, convert, static_int, to_array

__all__ = ["bartlett", "blackman", "hamming", "hanning", "kaiser"]


def _points(M: Any, name: str) -> int:
    """Return a number of points, which NumPy takes as a float too."""
    if isinstance(M, (float, np.floating, np.ndarray)) and np.ndim(M) == 0 and int(M) == M:
        return int(M)
    return static_int(M, f"{name}: M")


def _window(name: str, source: Callable[[int], Any]) -> Callable[[int], Any]:
    def function(M: int) -> Any:
        return ArrayImpl(source(_points(M, name)).astype(dtypes.default_float()))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"Make the {name} window of M points.\n\n    References:\n        numpy.{name}\n    "
    )
    return function


bartlett = _window("bartlett", np.bartlett)
blackman = _window("blackman", np.blackman)
hamming = _window("hamming", np.hamming)
hanning = _window("hanning", np.hanning)


def kaiser(M: int, beta: Any) -> Any:
    """Make the Kaiser window of M points.

    Args:
        M: number of points.
        beta: shape parameter; it may be traced.

    Example:
        >>> kaiser(3, 2.0).round(4).tolist()
        [0.43869999051094055, 1.0, 0.43869999051094055]

    References:
        numpy.kaiser
    """
    n = _points(M, "kaiser")
    beta = to_array(beta, "kaiser", "beta")
    beta = convert(beta, dtypes.to_inexact(beta.dtype))
    if n <= 1:
        return ones((max(n, 0),), beta.dtype)
    place = asarray(np.sqrt(np.maximum(1 - (2 * np.arange(n) / (n - 1) - 1) ** 2, 0)), beta.dtype)
    return divide(i0(multiply(beta, place)), i0(beta))
