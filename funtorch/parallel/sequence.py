"""Attention over sequences whose positions are divided among processes."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import funtorch.numpy as fnp
from funtorch import lax
from funtorch.transforms import checkpoint

from .averaging import is_mapped

__all__ = ["ring_attention"]


def ring_attention(
    query: Any,
    key: Any,
    value: Any,
    axis_name: Hashable = "sequence",
    *,
    is_causal: bool = False,
    scale: float | None = None,
) -> Any:
    """Let each position look at all others, where each process has a part of the sequence.

    Keys and values go round: at each step a process looks at one part, hands it on to the next, and
    keeps the largest logit and the sums of the softmax so far. So no process holds a row
    of all logits, nor all keys. Backward passes compute each step again.

    Args:
        query: (..., positions, size): this process's part of the sequence; parts follow each other
            in the order of the axis.
        key: (..., positions, size), as many positions in each process.
        value: (..., positions, features).
        axis_name: the axis along which positions are divided. Outside of any mapped axis, the
            sequence is one part.
        is_causal: whether a position looks only at itself and those before it.
        scale: of the logits; None: 1 / sqrt(size).

    Returns:
        (..., positions, features), in the dtype of ``query``; softmax and sums are in float32 or
        wider.

    Raises:
        NameError: other axes are mapped here, but not this one.
        ValueError: shapes do not fit, or a causal query has another number of positions than the
            keys.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch.parallel import ring_attention
        >>> q, k, v = fnp.ones((3, 2, 4, 8))  # 2 parts of 4 positions
        >>> run = lambda q, k, v: ring_attention(q, k, v, "i", is_causal=True)
        >>> ft.vmap(run, axis_name="i")(q, k, v).shape
        (2, 4, 8)

    References:
        H. Liu, M. Zaharia, P. Abbeel, "Ring attention with blockwise transformers for near-infinite
        context", 2023. M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax",
        2018.
    """
    q, k, v = (fnp.asarray(x) for x in (query, key, value))
    _check(q, k, v, is_causal)
    count, place = (1, 0)
    if is_mapped(axis_name):
        count, place = lax.axis_size(axis_name), lax.axis_index(axis_name)
    wide = fnp.promote_types(fnp.result_type(q, k, v), fnp.float32)
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    rows = fnp.arange(q.shape[-2])

    @checkpoint
    def look(q: Any, k: Any, v: Any, of: Any, state: Any) -> Any:
        """Add what a part of the keys and values, that of process ``of``, gives."""
        most, total, out = state
        logits = fnp.einsum("...qd,...kd->...qk", q.astype(wide), k.astype(wide)) * factor
        if is_causal:
            at = place * len(rows) + rows[:, None], of * len(rows) + rows
            logits = fnp.where(at[0] >= at[1], logits, -fnp.inf)
        new = lax.stop_gradient(fnp.maximum(most, logits.max(-1, keepdims=True)))
        shift = fnp.where(fnp.isfinite(new), new, 0)  # a row that has seen nothing yet
        weights, kept = fnp.exp(logits - shift), fnp.exp(most - shift)
        total = total * kept + weights.sum(-1, keepdims=True)
        return new, total, out * kept + weights @ v.astype(wide)

    first = fnp.zeros(fnp.broadcast_shapes(q.shape[:-1], (*v.shape[:-2], 1)), wide)[..., None]
    state = (first - fnp.inf, first, first * fnp.zeros(v.shape[-1], wide))
    onwards = [(j, (j + 1) % count) for j in range(count)]
    for step in range(count):
        state = look(q, k, v, (place - step) % count, state)
        if step < count - 1:
            k, v = lax.ppermute((k, v), axis_name, onwards)
    return (state[2] / state[1]).astype(q.dtype)


def _check(q: Any, k: Any, v: Any, is_causal: bool) -> None:
    fit = min(q.ndim, k.ndim, v.ndim) >= 2 and q.shape[-1] == k.shape[-1]
    if not fit or k.shape[-2] != v.shape[-2] or (is_causal and q.shape[-2] != k.shape[-2]):
        raise ValueError(
            "ring_attention takes (..., positions, size) arrays of which query and key have one "
            "size, key and value one number of positions, and with is_causal all three; got "
            f"query {q.shape}, key {k.shape}, value {v.shape}"
        )
