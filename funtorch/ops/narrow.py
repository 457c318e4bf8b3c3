"""Products of floats by rows of small integers, as one operation, so that backends may read these
as they lie.

narrow_dot(x, values)         -> x @ values.T
narrow_dot(x, values, scale)  -> x @ w.T, where w is what integers in groups with scales stand for

x is (M, K) of float32. Values are (N, K) of int8; or (N, K / 2) of uint8, two four-bit integers in
a byte, each plus 8, of a group's first half in the low bits and of its second half in the high
ones. The scale is (N, groups) of float32; groups are neighbours along K, and divide it.

Rules and the meaning in other operations are set in `transforms/qarrays.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funtorch.core import Primitive, ShapedArray

__all__ = ["narrow_dot", "narrow_dot_p"]

_FLOAT32, _BYTES, _PAIRS = (np.dtype(name) for name in ("float32", "int8", "uint8"))


def _type(x: ShapedArray, values: ShapedArray, scale: ShapedArray | None = None) -> ShapedArray:
    given = ", ".join(a.str_short() for a in (x, values, scale) if a is not None)
    two = x.ndim == values.ndim == 2 and (scale is None or scale.ndim == 2)
    known = x.dtype == _FLOAT32 and values.dtype in (_BYTES, _PAIRS)
    known = known and (scale is None or scale.dtype == _FLOAT32)
    pairs = values.dtype == _PAIRS
    if not two or not known or (pairs and scale is None):
        raise TypeError(
            "narrow_dot takes a float32 (M, K), int8 (N, K) or uint8 (N, K / 2), and a float32 (N, "
            f"groups), which pairs in bytes need; got {given}"
        )
    k = values.shape[1] * (2 if pairs else 1)
    fits = x.shape[1] == k
    if scale is not None:
        groups = scale.shape[1]
        fits = fits and scale.shape[0] == values.shape[0] and (groups > 0 or k == 0)
        fits = fits and (groups == 0 or values.shape[1] % groups == 0)
    if not fits:
        raise TypeError(
            "narrow_dot takes rows of one length, with a scale for each row of the integers and "
            f"each group, whose number divides that length; got {given}"
        )
    return ShapedArray((x.shape[0], values.shape[0]), _FLOAT32)


narrow_dot_p = Primitive("narrow_dot")
narrow_dot_p.type = _type


def narrow_dot(x: Any, values: Any, scale: Any = None) -> Any:
    """Multiply rows of floats by rows of small integers: ``x @ w.T``."""
    return narrow_dot_p.bind(x, values) if scale is None else narrow_dot_p.bind(x, values, scale)
