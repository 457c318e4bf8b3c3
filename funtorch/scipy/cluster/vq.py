"""Points and their nearest centres under SciPy's names."""

from __future__ import annotations

from typing import Any

import funtorch.numpy as fnp
from funtorch.numpy import promotion

__all__ = ["vq"]


def vq(obs: Any, code_book: Any, check_finite: bool = True) -> tuple[Any, Any]:
    """Return the nearest centre of each point.

    Args:
        obs: points (n, d), or numbers (n,).
        code_book: centres (k, d), or (k,).
        check_finite: accepted for SciPy's sake.

    Returns:
        (number of the nearest centre, distance to it), both (n,).

    Raises:
        ValueError: points and centres differ in dimension.

    Example:
        >>> vq(fnp.asarray([[0.0, 1.0], [5.0, 5.0]]), fnp.asarray([[0.0, 0.0], [5.0, 4.0]]))
        (Array([0, 1], dtype=int32), Array([1., 1.], dtype=float32))

    References:
        scipy.cluster.vq.vq
    """
    x, c = promotion.promote_inexact("vq", *promotion.to_arrays("vq", obs=obs, code_book=code_book))
    if x.ndim != c.ndim or x.ndim not in (1, 2) or x.shape[1:] != c.shape[1:] or not c.shape[0]:
        raise ValueError(
            "vq: obs (n, d) and code_book (k, d), both with or without the axis d, and k > 0, are "
            f"needed, got {promotion.describe(x)} and {promotion.describe(c)}"
        )
    if x.ndim == 1:
        x, c = x[:, None], c[:, None]
    distances = fnp.linalg.norm(x[:, None] - c[None], axis=-1)
    return fnp.argmin(distances, -1), fnp.min(distances, -1)
