"""Attention of queries to keys and values.

References:
    JAX, "jax.nn", https://docs.jax.dev/en/latest/jax.nn.html
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import Array
from funtorch.numpy import promotion
from funtorch.ops.attention import attention, wide_of

__all__ = ["scaled_matmul", "dot_product_attention", "grouped_attention"]


def grouped_attention(
    query: Any,
    key: Any,
    value: Any,
    *masks: Any,
    scale: Any = None,
    left: int | None = None,
    right: int | None = None,
    empty: str = "zero",
) -> Array:
    """Return ``softmax(query @ key.T * scale + masks) @ value``, in little memory.

    It is what `dot_product_attention` and `funtorch.nnx.scaled_dot_product_attention` are made of.
    On a GPU it is one kernel, and so are its gradients; on the CPU long sequences are treated some
    queries at a time. The softmax is computed in float32 at least.

    Args:
        query: float[B, K, G, T, E]; the G queries of a group share a head of keys.
        key: float[B, K, S, E].
        value: float[B, K, S, V].
        *masks: bool, False hides a key from a query, or float, added to the products; each axis is
            that of [B, K, G, T, S] or 1.
        scale: factor of the products; 1 / sqrt(E) if None.
        left, right: how many keys before and after its own position a query sees; None for all.
        empty: what a query gives that sees nothing: 'zero', or the 'mean' of all values.

    Returns:
        float[B, K, G, T, V].

    Raises:
        TypeError: shapes or dtypes do not fit each other.

    Example:
        >>> import funtorch.numpy as fnp
        >>> q, k = fnp.ones((1, 2, 4, 5, 8)), fnp.ones((1, 2, 7, 8))
        >>> grouped_attention(q, k, k, right=0).shape
        (1, 2, 4, 5, 8)

    References:
        T. Dao, "FlashAttention-2: faster attention with better parallelism and work partitioning",
        ICLR 2024.
    """
    query, key, value = promotion.to_arrays("grouped_attention", query=query, key=key, value=value)
    dtype = dtypes.to_inexact(dtypes.result_type(query.dtype, key.dtype, value.dtype))
    inner = dtype
    factor = 1 / math.sqrt(max(query.shape[-1], 1)) if scale is None else scale
    if not isinstance(factor, Real):  # it is not known yet, or an array
        inner = wide_of(dtype)
        query, factor = promotion.convert(query, inner) * factor, 1.0
    q, k, v = (promotion.convert(x, inner) for x in (query, key, value))
    extras = [promotion.to_array(x, "grouped_attention") for x in masks if x is not None]
    if k.ndim > 2 and (0 in q.shape[:-1] or k.shape[2] == 0 or 0 in v.shape):
        return fnp.zeros((*q.shape[:-1], v.shape[-1]), dtype)
    out, _, _ = attention(
        q, k, v, *extras, scale=float(factor), left=left, right=right, empty=empty
    )
    return promotion.convert(out, dtype)


def _of_heads(x: Any, heads: int, group: int) -> Array:
    """Return what broadcasts to [B, N, T, S] with heads of keys and groups as axes of their own."""
    x = x.reshape((*(1,) * (4 - x.ndim), *x.shape))
    own = (heads, group) if x.shape[1] == heads * group else (x.shape[1], 1)
    return x.reshape((x.shape[0], *own, *x.shape[2:]))


def _check_attention(query: Any, key: Any, value: Any) -> None:
    fits = (
        query.ndim == key.ndim == 4
        and value.shape == key.shape
        and query.shape[0] == key.shape[0]
        and query.shape[3] == key.shape[3]
        and query.shape[2] % key.shape[2] == 0
        and query.dtype == key.dtype == value.dtype
    )
    if not fits:
        named = ", ".join(
            f"{n} {promotion.describe(a)}"
            for n, a in (("query", query), ("key", key), ("value", value))
        )
        raise ValueError(
            "dot_product_attention takes query[B, T, N, H], key[B, S, K, H] and value[B, S, K, H] "
            f"of one dtype, with N a multiple of K; got {named}"
        )


def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    query_seq_lengths: Any = None,
    key_value_seq_lengths: Any = None,
    local_window_size: Any = None,
    implementation: str | None = None,
) -> Array:
    """Return ``softmax(query @ key.T * scale + bias) @ value`` for each head.

    Args:
        query: float[B, T, N, H] or float[T, N, H].
        key: float[B, S, K, H]; with K below N, each head of key serves N / K heads of query.
        value: float[B, S, K, H].
        bias: added to the logits; broadcasts to [B, N, T, S].
        mask: bool that broadcasts to [B, N, T, S]; False hides a position.
        scale: factor of the logits; 1 / sqrt(H) if None.
        is_causal: whether a position sees only itself and what comes before.
        query_seq_lengths: int32[B], how much of each query counts; the rest gives 0.
        key_value_seq_lengths: int32[B], how much of each key counts.
        local_window_size: how far a position sees, an int or (left, right).
        implementation: 'xla', 'cudnn' or None, as in JAX; there is one here.

    Returns:
        An array like query. The softmax is computed in float32 at least.

    Raises:
        ValueError: shapes or dtypes do not fit each other.

    Example:
        >>> x = fnp.ones((1, 4, 2, 8))
        >>> dot_product_attention(x, x, x, is_causal=True).shape
        (1, 4, 2, 8)

    References:
        A. Vaswani et al., "Attention is all you need", NeurIPS 2017.
        J. Ainslie et al., "GQA: training generalized multi-query transformer models", EMNLP 2023.
    """
    if implementation not in (None, "xla", "cudnn"):
        raise ValueError(
            "dot_product_attention: implementation must be 'xla', 'cudnn' or None, got "
            f"{implementation!r}"
        )
    query, key, value = promotion.to_arrays(
        "dot_product_attention", query=query, key=key, value=value
    )
    out_shape = query.shape
    query, key, value = (x if x.ndim != 3 else x[None] for x in (query, key, value))
    _check_attention(query, key, value)
    (b, t, n, h), (_, s, k, _) = query.shape, key.shape
    extras = []
    if bias is not None:
        bias = promotion.to_array(bias, "dot_product_attention")
        extras.append(_of_heads(promotion.convert(bias, wide_of(query.dtype)), k, n // k))
    if mask is not None:
        mask = promotion.to_array(mask, "dot_product_attention")
        extras.append(_of_heads(promotion.convert(mask, bool), k, n // k))
    if key_value_seq_lengths is not None:
        counted = fnp.arange(s)[None, :] < key_value_seq_lengths[:, None]
        extras.append(counted[:, None, None, None, :])
    left = right = None
    if local_window_size is not None:
        window = local_window_size
        left, right = (window, window) if isinstance(window, int) else window
    if is_causal:
        right = 0 if right is None else min(right, 0)
    grouped = query.reshape((b, t, k, n // k, h)).transpose((0, 2, 3, 1, 4))
    key, value = (x.transpose((0, 2, 1, 3)) for x in (key, value))
    out = grouped_attention(
        grouped, key, value, *extras, scale=scale, left=left, right=right, empty="mean"
    )
    out = out.transpose((0, 3, 1, 2, 4)).reshape((b, t, n, h))
    if query_seq_lengths is not None:
        counted = fnp.arange(t)[None, :] < query_seq_lengths[:, None]
        out = fnp.where(counted[:, :, None, None], out, 0)
    return out.reshape(out_shape)


def scaled_matmul(
    lhs: Any, rhs: Any, lhs_scales: Any, rhs_scales: Any, preferred_element_type: Any = "float32"
) -> Array:
    """Multiply matrices of narrow floats, of whose rows each block has a scale.

    Args:
        lhs: [B, M, K], of float8 for example.
        rhs: [B, N, K].
        lhs_scales: [B, M, K / block], factors of blocks along the last axis.
        rhs_scales: [B, N, K / block].
        preferred_element_type: dtype of the result; sums are in float32.

    Returns:
        lhs @ rhs.T for each of the batch, [B, M, N].

    Raises:
        ValueError: shapes do not fit each other.

    Example:
        >>> x, scales = fnp.ones((1, 2, 4), "float8_e4m3fn"), fnp.full((1, 2, 2), 2.0)
        >>> scaled_matmul(x, x, scales, scales)
        Array([[[16., 16.],
                [16., 16.]]], dtype=float32)

    References:
        jax.nn.scaled_matmul
    """
    wide = []
    for name, x, scales in (("lhs", lhs, lhs_scales), ("rhs", rhs, rhs_scales)):
        x, scales = promotion.to_arrays("scaled_matmul", x=x, scales=scales)
        blocks = scales.shape[-1] if scales.ndim else 0
        if x.ndim != 3 or scales.shape[:2] != x.shape[:2] or not blocks or x.shape[2] % blocks:
            raise ValueError(
                f"scaled_matmul: {name} must be [B, M, K] and {name}_scales [B, M, K / block], got "
                f"{x.shape} and {scales.shape}"
            )
        factors = fnp.repeat(promotion.convert(scales, "float32"), x.shape[2] // blocks, -1)
        wide.append(promotion.convert(x, "float32") * factors)
    if wide[0].shape[::2] != wide[1].shape[::2]:
        raise ValueError(
            "scaled_matmul: lhs and rhs must have equal first and last axes, got "
            f"{wide[0].shape} and {wide[1].shape}"
        )
    out = fnp.matmul(wide[0], fnp.swapaxes(wide[1], 1, 2))
    return promotion.convert(out, preferred_element_type)
