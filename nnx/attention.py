"""Attention as a function, its masks, and positions as rotations.

It is `funtorch.nn.grouped_attention`, but where weights are dropped or wanted. With dropout, long
sequences are treated some queries at a time, each time with all keys, so that the matrix of all
pairs never exists; the reverse pass computes each tile again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, nn, random

__all__ = [
    "combine_masks", "make_attention_mask", "make_causal_mask", "rotary_embedding",
    "scaled_dot_product_attention",
]  # fmt: skip

# With more pairs than this, queries are treated in tiles of about a quarter as many pairs.
_MOST_PAIRS = 1 << 22
_LEAST_ROWS = 16
# Causal queries are treated in so many parts, each with the keys that the last of them sees.
_CAUSAL_PARTS = 4


class Weighing(NamedTuple):
    """How pairs are weighed: what a tile needs to know beside its arrays."""

    scale: float
    causal: bool
    dropout: float


def scaled_dot_product_attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False, *,
    dropout_key: Any = None,
) -> ft.Array:  # fmt: skip
    """Return softmax(query keyᵀ scale + mask) value, in memory that is linear in the length.

    A query that may see nothing gives 0. The softmax is computed in float32 or wider.

    Args:
        query: float[..., L, E].
        key: float[..., S, E].
        value: float[..., S, V].
        attn_mask: broadcasts to [..., L, S]; of bools, True lets a query see a key; numbers are
            added.
        dropout_p: share of the weights that is dropped; needs ``dropout_key``.
        is_causal: whether query i sees keys 0 ... i only, and of these what the mask allows.
        scale: factor of the products; 1/√E by default.
        enable_gqa: whether query [..., H, L, E] may have several times as many heads as key and
            value, whose heads serve H / K neighbouring ones each.
        dropout_key: random key.

    Returns:
        float[..., L, V].

    Raises:
        ValueError: shapes do not fit, or dropout has no key.
        TypeError: the mask is one of integers.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> q, k = fnp.ones((2, 8, 5, 4)), fnp.ones((2, 2, 7, 4))
        >>> nnx.scaled_dot_product_attention(q, k, k, enable_gqa=True).shape
        (2, 8, 5, 4)

    References:
        A. Vaswani et al., "Attention is all you need", NeurIPS 2017.
        M. N. Rabe, C. Staats, "Self-attention does not need O(n²) memory", 2021.
        J. Ainslie et al., "GQA: training generalized multi-query transformer models", EMNLP 2023.
    """
    q, k, v = (fnp.asarray(x) for x in (query, key, value))
    mask = as_mask("scaled_dot_product_attention", "attn_mask", attn_mask)
    weighing = _weighing(q, k, v, mask, dropout_p, is_causal, scale, enable_gqa, dropout_key)
    grouped, mask = _grouped(q, k, mask, enable_gqa)
    if not dropout_p:
        return _ungrouped(_by_heads(grouped, k, v, mask, weighing), enable_gqa)
    rows = _rows_of_tile(q.shape, k.shape)
    if rows < q.shape[-2]:
        out = _tiled(grouped, k, v, mask, weighing, dropout_key, rows)
    else:
        out, _ = _attend(grouped, k, v, mask, weighing, dropout_key, 0)
    return _ungrouped(out, enable_gqa)


def _by_heads(q: Any, k: Any, v: Any, mask: Any, weighing: Weighing) -> Any:
    """Return attention of queries with an axis of groups, of any leading axes."""
    batch = fnp.broadcast_shapes(q.shape[:-3], k.shape[:-2], v.shape[:-2])
    batch = batch if len(batch) else (1,)
    lead = (math.prod(batch[:-1]), batch[-1])

    def led(x: Any, rank: int) -> Any:
        last = x.shape[x.ndim - rank :]
        whole = x if x.shape[: x.ndim - rank] == batch else fnp.broadcast_to(x, (*batch, *last))
        return whole.reshape(*lead, *last)

    masks = [] if mask is None else [_led_mask(mask, batch, lead[0])]
    right = 0 if weighing.causal else None
    out = nn.grouped_attention(
        led(q, 3), led(k, 2), led(v, 2), *masks, scale=weighing.scale, right=right
    )
    whole = fnp.broadcast_shapes(q.shape[:-3], k.shape[:-2], v.shape[:-2])
    return out.reshape(*whole, *out.shape[2:])


def _led_mask(mask: Any, batch: tuple[int, ...], size: int) -> Any:
    """Return a mask with two leading axes, which are those of the batch or 1."""
    more = len(batch) + 3 - mask.ndim
    mask = mask.reshape(*(1,) * more, *mask.shape)
    first, last = mask.shape[: len(batch) - 1], mask.shape[len(batch) - 1 :]
    if math.prod(first) not in (1, size):
        mask = fnp.broadcast_to(mask, (*batch[:-1], *last))
        first = batch[:-1]
    return mask.reshape(math.prod(first), *last)


def as_mask(taker: str, name: str, mask: Any) -> Any:
    """Return a mask as an array of bools or of numbers to be added; None as it is."""
    if mask is None:
        return None
    mask = fnp.asarray(mask)
    if mask.dtype != bool and not fnp.issubdtype(mask.dtype, fnp.floating):
        raise TypeError(
            f"{taker} takes {name} of bools, or of floats that are added; it was given "
            f"{mask.dtype} of shape {mask.shape}. Compare it with 0 to make bools"
        )
    return mask


def attention_with_weights(
    query: ft.Array, key: ft.Array, value: ft.Array, mask: Any, dropout: float, causal: bool,
    dropout_key: Any,
) -> tuple[ft.Array, ft.Array]:  # fmt: skip
    """Return attention of float[batch, heads, ...] and the weights of all pairs.

    Heads of queries may be several times those of keys.
    """
    weighing = _weighing(query, key, value, mask, dropout, causal, None, True, dropout_key)
    grouped, mask = _grouped(query, key, mask, True)
    out, weights = _attend(grouped, key, value, mask, weighing, dropout_key, 0)
    return _ungrouped(out, True), _ungrouped(weights, True)


def _weighing(
    q: Any, k: Any, v: Any, mask: Any, dropout: float, causal: bool, scale: float | None,
    several: bool, dropout_key: Any,
) -> Weighing:  # fmt: skip
    """Check all arguments."""
    name = "scaled_dot_product_attention"
    shapes = f"query {q.shape}, key {k.shape}, value {v.shape}"
    least = 3 if several else 2
    fit = min(q.ndim, k.ndim, v.ndim) >= least and q.shape[-1] == k.shape[-1]
    if not fit or k.shape[-2] != v.shape[-2]:
        heads = "H, " if several else ""
        raise ValueError(
            f"{name} takes query (..., {heads}L, E), key (..., {heads}S, E), "
            f"value (..., {heads}S, V); it was given {shapes}"
        )
    heads = (q.shape[-3], k.shape[-3], v.shape[-3]) if several else (1, 1, 1)
    if heads[1] != heads[2] or (heads[0] % heads[1] if heads[1] else heads[0]):
        raise ValueError(
            f"{name} takes as many heads of keys as of values, and a multiple of them of queries; "
            f"it was given {shapes}"
        )
    lead = len(q.shape) - least
    try:
        batch = fnp.broadcast_shapes(*(x.shape[: x.ndim - least] for x in (q, k, v)))
        whole = (*batch, *q.shape[lead:-1], k.shape[-2])
        masked = whole if mask is None else fnp.broadcast_shapes(mask.shape, whole)
    except ValueError:
        masked = None
    if masked is None or masked != whole:
        with_mask = "" if mask is None else f", attn_mask {mask.shape}, which must broadcast to "
        with_mask += "" if mask is None else f"(..., {q.shape[-2]}, {k.shape[-2]})"
        raise ValueError(
            f"{name} takes arrays whose leading axes broadcast; it was given {shapes}{with_mask}"
        )
    if not 0 <= dropout <= 1 or (dropout and dropout_key is None):
        raise ValueError(
            f"{name} takes dropout_p in [0, 1], and with it dropout_key=random.key(...); it was "
            f"given dropout_p={dropout}, dropout_key={dropout_key}"
        )
    size = max(q.shape[-1], 1)
    return Weighing(1 / math.sqrt(size) if scale is None else scale, causal, dropout)


def _grouped(q: Any, k: Any, mask: Any, several: bool) -> tuple[Any, Any]:
    """Give queries an axis before their last two: those of a group share a head of keys."""
    groups = 1
    if several:
        heads, groups = k.shape[-3], q.shape[-3] // max(k.shape[-3], 1)
        shape = (*q.shape[:-3], heads, groups)
        if mask is not None and mask.ndim > 2 and mask.shape[-3] == q.shape[-3] > 1:
            mask = mask.reshape(*mask.shape[:-3], heads, groups, *mask.shape[-2:])
        elif mask is not None and mask.ndim > 2:
            mask = mask[..., None, :, :]
        return q.reshape(*shape, *q.shape[-2:]), mask
    if mask is not None and mask.ndim > 2:
        mask = mask[..., None, :, :]
    return q[..., None, :, :], mask


def _ungrouped(y: Any, several: bool) -> Any:
    heads = (y.shape[-4] * y.shape[-3],) if several else ()
    return y.reshape(*y.shape[: -4 if several else -3], *heads, *y.shape[-2:])


def _rows_of_tile(q: tuple[int, ...], k: tuple[int, ...]) -> int:
    """Return how many queries are treated at a time."""
    length, each = q[-2], math.prod(q[:-2]) * k[-2]
    if length * each <= _MOST_PAIRS:
        return length
    rows = max(_MOST_PAIRS // 4 // each, _LEAST_ROWS)
    return min(length, math.ceil(length / math.ceil(length / rows)))


def _attend(
    q: Any, k: Any, v: Any, mask: Any, weighing: Weighing, dropout_key: Any, first: Any
) -> tuple[Any, Any]:
    """Treat queries, the first of which has this number; return their outputs and weights."""
    wide = fnp.promote_types(fnp.result_type(q, k), fnp.float32)
    group, rows = q.shape[-3:-1]
    flat = (q.astype(wide) * weighing.scale).reshape(*q.shape[:-3], group * rows, q.shape[-1])
    logits = flat @ k.astype(wide).swapaxes(-1, -2)
    logits = logits.reshape(*logits.shape[:-2], group, rows, k.shape[-2])
    if weighing.causal:
        own, others = first + fnp.arange(rows), fnp.arange(k.shape[-2])
        logits = fnp.where(others <= own[:, None], logits, -fnp.inf)
    if mask is not None and mask.dtype == bool:
        logits = fnp.where(mask, logits, -fnp.inf)
    elif mask is not None:
        logits = logits + mask.astype(wide)
    # Of a row that sees nothing all are -inf: it must become 0, with derivatives 0.
    top = lax.stop_gradient(logits.max(-1, keepdims=True, initial=-fnp.inf))
    weights = fnp.exp(logits - fnp.where(top == -fnp.inf, 0, top))
    total = weights.sum(-1, keepdims=True)
    weights = weights / fnp.where(total == 0, 1, total)
    if weighing.dropout:
        kept = random.bernoulli(dropout_key, 1 - weighing.dropout, weights.shape)
        share = 1 - weighing.dropout if weighing.dropout < 1 else 1.0
        weights = fnp.where(kept, weights / share, 0)
    weights = weights.astype(fnp.result_type(q, k))
    out = weights.reshape(*weights.shape[:-3], group * rows, k.shape[-2]) @ v
    return out.reshape(*weights.shape[:-1], v.shape[-1]), weights


def _tiled(
    q: Any, k: Any, v: Any, mask: Any, weighing: Weighing, dropout_key: Any, rows: int
) -> Any:
    """Treat ``rows`` queries at a time. Those that come first of causal ones need few keys."""
    length, source = q.shape[-2], k.shape[-2]
    long = mask is not None and mask.ndim > 1 and mask.shape[-2] == length
    wide = mask is not None and mask.ndim > 0 and mask.shape[-1] == source
    tiles = math.ceil(length / rows)
    each = math.ceil(tiles / _CAUSAL_PARTS) if weighing.causal else tiles
    outs = []
    for first in range(0, tiles, each):
        start, stop = first * rows, min((first + each) * rows, length)
        seen = min(stop, source) if weighing.causal else source
        part = mask[..., start:stop, :] if long else mask
        part = part[..., :seen] if wide else part
        outs.append(
            _looped(
                q[..., start:stop, :],
                k[..., :seen, :],
                v[..., :seen, :],
                part,
                weighing,
                dropout_key,
                rows,
                first,
            )
        )
    return fnp.concatenate(outs, -2)


def _looped(
    q: Any, k: Any, v: Any, mask: Any, weighing: Weighing, dropout_key: Any, rows: int, first: int
) -> Any:
    """Treat tiles one after the other; the first one has this number."""
    length = q.shape[-2]
    count = math.ceil(length / rows)
    long = mask is not None and mask.ndim > 1 and mask.shape[-2] == length

    @ft.checkpoint
    def tile(args: Any, k: Any, v: Any, whole: Any, dropout_key: Any) -> Any:
        number, q, part = args
        if dropout_key is not None:
            dropout_key = random.fold_in(dropout_key, number)
        part = part if long else whole
        return _attend(q, k, v, part, weighing, dropout_key, number * rows)[0]

    parts, whole = (_split(mask, rows, count), None) if long else (None, mask)
    out = lax.map(
        lambda args: tile(args, k, v, whole, dropout_key),
        (first + fnp.arange(count), _split(q, rows, count), parts),
    )
    out = fnp.moveaxis(out, 0, -3)
    return out.reshape(*out.shape[:-3], count * rows, out.shape[-1])[..., :length, :]


def _split(x: Any, rows: int, count: int) -> Any:
    """Split the last axis but one; the parts are a new first axis."""
    more = count * rows - x.shape[-2]
    x = fnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, more), (0, 0)])
    return fnp.moveaxis(x.reshape(*x.shape[:-2], count, rows, x.shape[-1]), -3, 0)


# ---------------------------------------------------------------------------------------- positions
def rotary_embedding(
    x: Any, positions: Any = None, *, base: float = 10000.0, interleaved: bool = False
) -> ft.Array:
    """Rotate pairs of features by angles that grow with the position.

    Products of rotated queries and keys depend on the distance of their positions only.

    Args:
        x: float[..., length, size], of an even size.
        positions: broadcasts to x's shape without the last axis; 0, 1, ... by default.
        base: pair i of n turns by base^(-i/n) for each position.
        interleaved: whether pairs are neighbours, rather than one feature of each half.

    Returns:
        An array like x.

    Raises:
        ValueError: the size is odd.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.rotary_embedding(fnp.ones((2, 2))).round(4)
        Array([[ 1.    ,  1.    ],
               [-0.3012,  1.3818]], dtype=float32)

    References:
        J. Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021.
    """
    x = fnp.asarray(x)
    if x.ndim < 2 or x.shape[-1] % 2:
        raise ValueError(
            "rotary_embedding takes an array of shape (..., length, size) of an even size; it was "
            f"given one of shape {x.shape}"
        )
    half = x.shape[-1] // 2
    wide = fnp.promote_types(x.dtype, fnp.float32)
    positions = fnp.arange(x.shape[-2]) if positions is None else fnp.asarray(positions)
    rates = fnp.exp(fnp.arange(half, dtype=wide) * (-math.log(base) / max(half, 1)))
    angles = positions[..., None].astype(wide) * rates
    cos, sin = fnp.cos(angles), fnp.sin(angles)
    x_wide = x.astype(wide)
    if interleaved:
        a, b = x_wide[..., ::2], x_wide[..., 1::2]
        turned = fnp.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)
    else:
        a, b = x_wide[..., :half], x_wide[..., half:]
        turned = fnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
    return turned.astype(x.dtype)


# -------------------------------------------------------------------------------------------- masks
def make_attention_mask(
    query_input: Any, key_input: Any,
    pairwise_fn: Callable[[Any, Any], Any] = fnp.multiply, dtype: Any = fnp.float32,
) -> ft.Array:  # fmt: skip
    """Make a mask of pairs from what is known of queries and of keys, such as which count.

    Args:
        query_input: [..., L].
        key_input: [..., S].
        pairwise_fn: what is made of a pair.
        dtype: of the mask; bool is what `scaled_dot_product_attention` takes.

    Returns:
        [..., 1, L, S]; the axis of 1 is that of heads.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.make_attention_mask(fnp.array([1, 1]), fnp.array([1, 0, 1]), dtype=bool)[0]
        Array([[ True, False,  True],
               [ True, False,  True]], dtype=bool)
    """
    a, b = fnp.asarray(query_input)[..., :, None], fnp.asarray(key_input)[..., None, :]
    return pairwise_fn(a, b)[..., None, :, :].astype(dtype)


def make_causal_mask(x: Any, dtype: Any = fnp.float32) -> ft.Array:
    """Make a mask in which each position sees itself and what comes before.

    Args:
        x: [..., length]; only its shape matters.
        dtype: of the mask.

    Returns:
        [..., 1, length, length].

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.make_causal_mask(fnp.zeros(2))[0]
        Array([[1., 0.],
               [1., 1.]], dtype=float32)
    """
    x = fnp.asarray(x)
    places = fnp.broadcast_to(fnp.arange(x.shape[-1]), x.shape)
    return make_attention_mask(places, places, fnp.greater_equal, dtype)


def combine_masks(*masks: Any, dtype: Any = fnp.float32) -> ft.Array | None:
    """Allow what all masks allow.

    Args:
        *masks: arrays of the same rank; those that are None do not count.
        dtype: of the result.

    Returns:
        The mask, or None where there is none.

    Raises:
        ValueError: ranks differ.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.combine_masks(fnp.array([1, 1, 0]), None, fnp.array([0, 1, 1]))
        Array([0., 1., 0.], dtype=float32)
    """
    given = [fnp.asarray(mask) for mask in masks if mask is not None]
    if not given:
        return None
    if len({mask.ndim for mask in given}) > 1:
        raise ValueError(
            "combine_masks takes masks of the same rank; it was given shapes "
            f"{', '.join(str(mask.shape) for mask in given)}"
        )
    total = given[0] != 0
    for mask in given[1:]:
        total = total & (mask != 0)
    return total.astype(dtype)
