"""What functions of ours come to on NumPy's arrays, for `funtorch.numpy.direct`.

Each takes what ours takes, and raises a TypeError, ValueError or IndexError where the two differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.numpy.direct import FLOATS

__all__ = [
    "cholesky",
    "chosen",
    "clip",
    "inv",
    "mean",
    "placed",
    "reduced",
    "reshape",
    "solve",
    "stack",
    "std",
    "var",
]

_FEW = 1 << 10  # elements of matrices for which finding one's way to LAPACK takes longest
_SIZES = {dtype: dtype.type for dtype in FLOATS}
_add_up: Callable[..., Any] = np.add.reduce


def reduced(ufunc: np.ufunc) -> Callable[..., Any]:
    """Return sum or prod."""
    reduce: Callable[..., Any] = ufunc.reduce
    return lambda x, axis=None, dtype=None, out=None, keepdims=False: reduce(
        x, axis, None, None, keepdims
    )


def chosen(ufunc: np.ufunc) -> Callable[..., Any]:
    """Return max, min, any or all."""
    reduce: Callable[..., Any] = ufunc.reduce
    return lambda x, axis=None, out=None, keepdims=False: reduce(x, axis, None, None, keepdims)


def placed(position: Callable[..., Any]) -> Callable[..., Any]:
    """Return argmax or argmin."""

    def place(x: np.ndarray, axis: int | None = None, out: None = None) -> Any:
        return position(x, axis).astype(dtypes.default_int())

    return place


def mean(
    x: np.ndarray, axis: Any = None, dtype: None = None, out: None = None, keepdims: bool = False
) -> Any:
    """Return the mean."""
    total = _add_up(x, axis, None, None, keepdims)
    return np.true_divide(total, total.size and x.size // total.size)


def var(
    x: np.ndarray,
    axis: Any = None,
    dtype: None = None,
    out: None = None,
    ddof: float = 0,
    keepdims: bool = False,
) -> Any:
    """Return the variance."""
    total = _add_up(x, axis, None, None, True)
    count = total.size and x.size // total.size
    centered = np.subtract(x, np.divide(total, _SIZES[x.dtype](count)))
    squares = _add_up(np.square(centered), axis, None, None, keepdims)
    n = _SIZES[x.dtype](count - ddof)
    return np.divide(squares, n if n > 0 else np.nan)


def std(*args: Any, **options: Any) -> Any:
    """Return the root of the variance."""
    return np.sqrt(var(*args, **options))


def reshape(x: np.ndarray, shape: Any, order: str = "C", *, copy: bool | None = None) -> np.ndarray:
    """Return what NumPy gives where it gives what `reshape` does, or raise a ValueError."""
    least = min(shape, default=0) if type(shape) is tuple else shape
    if least < -1:
        raise ValueError("NumPy takes any negative size for -1")
    if order == "C":
        return x.reshape(shape)
    return x.reshape(shape, order=order)  # type: ignore[call-overload]


def stack(arrays: list[np.ndarray], axis: int = 0) -> np.ndarray:
    """Return what `numpy.stack` gives, which spends five times as long on small arrays."""
    shape = arrays[0].shape
    for x in arrays:
        if x.shape != shape:
            raise ValueError("stack says what is wrong")
    if axis == 0:
        return np.concatenate([x[None] for x in arrays])
    if not -len(shape) - 1 <= axis <= len(shape):
        raise ValueError("stack says what is wrong")
    index = (slice(None),) * (axis % (len(shape) + 1)) + (None,)
    return np.concatenate([x[index] for x in arrays], axis)


def clip(x: np.ndarray, low: Any, high: Any) -> Any:
    """Return what is limited to a range."""
    out = x if low is None else np.maximum(x, low)
    return out if high is None else np.minimum(out, high)


def _check_few(x: np.ndarray) -> None:
    if x.size > _FEW:
        raise ValueError("LAPACK is called without NumPy")


def solve(a: np.ndarray, b: np.ndarray) -> Any:
    """Return the solution of linear equations."""
    _check_few(a)
    return np.linalg.solve(a, b)


def inv(a: np.ndarray) -> Any:
    """Return the inverses of matrices."""
    _check_few(a)
    return np.linalg.inv(a)


def cholesky(a: np.ndarray, *, upper: bool = False, symmetrize_input: bool = True) -> Any:
    """Return lower, or upper, triangular roots of matrices."""
    _check_few(a)
    if symmetrize_input:
        a = np.multiply(np.add(a, a.mT), a.dtype.type(0.5))
    return np.linalg.cholesky(a, upper=upper)
