"""Promotion of dtypes and ranks that users forbid by `config.numpy_dtype_promotion` and
`config.numpy_rank_promotion`.

The library's own operations promote as ever: what counts is whose code asks for an operation.

References:
    JAX, "Type promotion semantics" (strict dtype promotion) and "Rank promotion warning",
    https://docs.jax.dev/en/latest/type_promotion.html, .../rank_promotion_warning.html
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any

from funtorch import dtypes
from funtorch.config import config
from funtorch.errors import MismatchError, TypePromotionError, is_internal

__all__ = ["check_dtypes", "check_ranks"]

# Files between an operator or function and what it is made of.
_MACHINERY = (
    "numpy/promotion.py", "numpy/dispatch.py", "numpy/direct.py", "numpy/elementwise.py",
    "numpy/sorting.py", "tracebacks.py",
)  # fmt: skip
_KINDS = "ifc"  # the weaker first


def _asked_by_user() -> bool:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if not is_internal(name):
            return True
        if not name.replace("\\", "/").endswith(_MACHINERY):
            return False
        frame = frame.f_back
    return False


def check_ranks(function: str, arrays: Sequence[Any]) -> None:
    """Warn or raise, as the settings say, where arrays of several ranks above 0 meet.

    Raises:
        ValueError: they do, and ``numpy_rank_promotion`` is 'raise'.
    """
    ranks = {a.ndim for a in arrays if a.ndim}
    if len(ranks) < 2 or not _asked_by_user():
        return
    shapes = " and ".join(str(a.shape) for a in arrays)
    said = (
        f"{function}: operands of shapes {shapes} have different ranks, and config."
        f"numpy_rank_promotion is {config.numpy_rank_promotion!r}: add axes of size 1, such as "
        "x[None, :], or set it to 'allow'"
    )
    if config.numpy_rank_promotion == "raise":
        raise MismatchError(said)
    warnings.warn(said, stacklevel=4)


def check_dtypes(function: str, arrays: Sequence[Any]) -> None:
    """Raise where arrays of several dtypes meet, other than with Python's numbers.

    Raises:
        TypePromotionError: ``numpy_dtype_promotion`` is 'strict', and there is no way between them.
    """
    strong = {a.dtype for a in arrays if not a.weak_type}
    weak = [a.dtype for a in arrays if a.weak_type]
    fits = len(strong) < 2 and all(_gives_way(w, s) for w in weak for s in strong)
    if not fits and _asked_by_user():
        named = ", ".join(str(a.dtype) + " (weak)" * a.weak_type for a in arrays)
        raise TypePromotionError(
            f"{function}: dtypes {named} are not promoted while config.numpy_dtype_promotion is "
            "'strict': convert one by astype"
        )


def _gives_way(weak: Any, strong: Any) -> bool:
    kinds = [_KINDS.find(_kind(d)) for d in (weak, strong)]
    return weak == strong or (min(kinds) >= 0 and kinds[0] <= kinds[1])


def _kind(dtype: Any) -> str:
    for kind, belongs in (("i", dtypes.is_integer), ("f", dtypes.is_float)):
        if belongs(dtype):
            return kind
    return "c" if dtypes.is_complex(dtype) else "b"
