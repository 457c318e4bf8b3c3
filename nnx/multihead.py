"""Attention of several heads as a layer, with a cache for generating one position at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, quant, random

from . import init
from .attention import (
    as_mask,
    attention_with_weights,
    rotary_embedding,
    scaled_dot_product_attention,
)
from .embedding import known_values
from .layers import Linear
from .module import Module, static, title

__all__ = ["KVCache", "MultiHeadAttention", "MultiheadAttention"]


class KVCache(NamedTuple):
    """Keys and values (batch, heads, length, size) of the positions before ``position``; those of
    int8 have ``scales`` (batch, heads, length, 1)."""

    key: ft.Array
    value: ft.Array
    position: ft.Array
    scales: tuple[ft.Array, ft.Array] | None = None

    def whole(self, dtype: Any) -> list[Any]:
        """Return keys and values as floats where they are int8."""
        if self.scales is None:
            return [self.key, self.value]
        pairs = zip((self.key, self.value), self.scales, strict=True)
        return [(x.astype(dtype) * scale.astype(dtype)) for x, scale in pairs]


class MultiheadAttention(Module):
    """Let each position of a query gather values from where its heads look.

    Parameters are PyTorch's: ``in_proj_weight`` (or ``q_proj_weight`` ... where sizes differ),
    ``in_proj_bias``, ``bias_k``, ``bias_v``, ``out_proj.weight``, ``out_proj.bias``.

    Args:
        embed_dim: size of the query and of the result.
        num_heads: number of heads, a divisor of embed_dim.
        dropout: in training, the share of the weights that is dropped.
        bias: whether there are biases.
        add_bias_kv: whether a learned key and value stand after all others.
        add_zero_attn: whether a key and value of 0 stand after all others.
        kdim: size of the key; embed_dim by default.
        vdim: size of the value; embed_dim by default.
        batch_first: whether arrays are (batch, length, size) rather than (length, batch, size).
        num_kv_heads: number of heads of keys and values, a divisor of num_heads, which is the
            default; each serves several heads of queries.
        rotary_base: base of `rotary_embedding`, which turns queries and keys; None does not.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: sizes do not divide; or, when called, shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.MultiheadAttention(8, 2, batch_first=True, key=random.key(0))
        >>> x = fnp.ones((3, 5, 8))
        >>> y, weights = layer(x, x, x)
        >>> y.shape, weights.shape
        ((3, 5, 8), (3, 5, 5))
        >>> cache = layer.init_cache(3, 100)
        >>> y, cache = layer(x[:, :1], x[:, :1], x[:, :1], cache=cache)
        >>> y.shape, int(cache.position)
        ((3, 1, 8), 1)

    References:
        A. Vaswani et al., "Attention is all you need", NeurIPS 2017.
    """

    in_proj_weight: ft.Array | None
    q_proj_weight: ft.Array | None
    k_proj_weight: ft.Array | None
    v_proj_weight: ft.Array | None
    in_proj_bias: ft.Array | None
    bias_k: ft.Array | None
    bias_v: ft.Array | None
    out_proj: Linear
    embed_dim: int = static()
    num_heads: int = static()
    dropout: float = static()
    add_zero_attn: bool = static()
    kdim: int = static()
    vdim: int = static()
    batch_first: bool = static()
    num_kv_heads: int = static()
    rotary_base: float | None = static()

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True,
        add_bias_kv: bool = False, add_zero_attn: bool = False, kdim: int | None = None,
        vdim: int | None = None, batch_first: bool = False, *, num_kv_heads: int | None = None,
        rotary_base: float | None = None, key: Any, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        sizes = (embed_dim, num_heads, kv_heads)
        if min(sizes) < 1 or embed_dim % num_heads or num_heads % kv_heads:
            raise ValueError(
                "MultiheadAttention takes embed_dim, a multiple of num_heads, a multiple of "
                f"num_kv_heads, all positive; it was given embed_dim={embed_dim}, "
                f"num_heads={num_heads}, num_kv_heads={kv_heads}"
            )
        if not 0 <= dropout <= 1:
            raise ValueError(
                f"MultiheadAttention takes dropout in [0, 1]; it was given {dropout!r}"
            )
        self.embed_dim, self.num_heads, self.num_kv_heads = embed_dim, num_heads, kv_heads
        self.dropout, self.add_zero_attn, self.batch_first = dropout, add_zero_attn, batch_first
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.rotary_base = rotary_base
        keys = iter(random.split(key, 6))
        inner = embed_dim // num_heads * kv_heads
        rows = embed_dim + 2 * inner
        packed = self.kdim == self.vdim == embed_dim
        draw = init.xavier_uniform
        self.in_proj_weight = draw(next(keys), (rows, embed_dim), dtype) if packed else None
        self.q_proj_weight, self.k_proj_weight, self.v_proj_weight = (
            None if packed else draw(next(keys), shape, dtype)
            for shape in ((embed_dim, embed_dim), (inner, self.kdim), (inner, self.vdim))
        )
        self.in_proj_bias = fnp.zeros(rows, dtype) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, key=next(keys), dtype=dtype)
        if bias:
            self.out_proj = self.out_proj.replace(bias=fnp.zeros(embed_dim, dtype))
        kv_keys = random.split(next(keys))
        self.bias_k, self.bias_v = (
            init.xavier_normal(k, (1, 1, inner), dtype) if add_bias_kv else None for k in kv_keys
        )

    def __call__(
        self, query: Any, key: Any, value: Any, key_padding_mask: Any = None,
        need_weights: bool = True, attn_mask: Any = None, average_attn_weights: bool = True,
        is_causal: bool = False, *, cache: KVCache | None = None, dropout_key: Any = None,
    ) -> tuple[ft.Array, Any]:  # fmt: skip
        """Attend. In both masks True hides a key and numbers are added, as in PyTorch.

        Args:
            query: (length, batch, embed_dim), (batch, length, embed_dim) with ``batch_first``, or
                (length, embed_dim).
            key: (source, batch, kdim) or as above; None, as the value, adds nothing to a cache.
            value: (source, batch, vdim) or as above.
            key_padding_mask: (batch, source), or (source,) without batch.
            need_weights: whether to return the weights; without them long sequences need no
                matrix of all pairs.
            attn_mask: (length, source) or (batch * num_heads, length, source).
            average_attn_weights: whether weights are averaged over heads.
            is_causal: whether a position sees only itself and what comes before, with a mask too.
            cache: keys and values of earlier positions, to which these are added; masks are then
                for all positions of the cache. More than fit into it are an error, and give nan
                under ``jit``.
            dropout_key: random key; drops as in training.

        Returns:
            The result, and: the new cache where one was given; else weights (batch, length,
            source), or (batch, num_heads, length, source), or None.
        """
        if cache is not None and not isinstance(cache, KVCache):
            raise TypeError(
                f"{title(self)} takes a cache that its init_cache or cache_of made; it was given "
                f"{type(cache).__name__}"
            )
        recalls = key is None and value is None
        if (key is None or value is None) and not (recalls and cache is not None):
            raise TypeError(
                f"{title(self)} takes a key and a value; or None for both, and a cache that has "
                "them"
            )
        given = tuple(fnp.asarray(x) for x in ((query,) if recalls else (query, key, value)))
        single = given[0].ndim == 2
        self._check(given)
        same = query is key and key is value
        xs = [x[None] if single else x if self.batch_first else x.swapaxes(0, 1) for x in given]
        q, *kv = self._projected(xs, same)
        start: Any = 0 if cache is None else cache.position
        if recalls:
            self._check_recalled(q, cache, is_causal)
        elif self.rotary_base is not None:
            q, kv[0] = (
                rotary_embedding(x, start + fnp.arange(x.shape[2]), base=self.rotary_base)
                for x in (q, kv[0])
            )
        source = (kv[0] if cache is None else cache.key).shape[2]
        hidden = self._hidden(attn_mask, key_padding_mask, single, q, source)
        if cache is not None:
            cache = cache if recalls else self._stored(kv[0], kv[1], cache)
            kv = cache.whole(q.dtype)
        k, v = kv
        if recalls:
            hidden = _joined(hidden, fnp.arange(k.shape[2]) >= cache.position)
        elif cache is not None or (is_causal and self._appends):  # what is appended all may see
            hidden, is_causal = _joined(hidden, _later(q, k, start, is_causal)), False
        k, v, hidden = self._appended(k, v, hidden)
        mask = ~hidden if hidden is not None and hidden.dtype == bool else hidden
        rate = self.dropout if self.training or dropout_key is not None else 0.0
        if rate and dropout_key is None:
            dropout_key = self.fresh_key(*given)
        weights = None
        if need_weights and cache is None:
            y, weights = attention_with_weights(q, k, v, mask, rate, is_causal, dropout_key)
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights[0] if single else weights
        else:
            y = scaled_dot_product_attention(
                q, k, v, mask, rate, is_causal, enable_gqa=True, dropout_key=dropout_key
            )
        y = self.out_proj(y.swapaxes(1, 2).reshape(len(y), y.shape[2], self.embed_dim))
        if cache is not None and known_values(cache.position) is None:  # else it was checked
            y = fnp.where(fnp.less_equal(cache.position, source), y, fnp.nan)
        y = y[0] if single else y if self.batch_first else y.swapaxes(0, 1)
        return y, weights if cache is None else cache

    def init_cache(self, batch: int, length: int, dtype: Any = None) -> KVCache:
        """Make an empty cache.

        Args:
            batch: size of the batch; 1 for inputs without one.
            length: the most positions that it can hold.
            dtype: of keys and values; that of the parameters by default. Those of ``'int8'`` are
                rounded, with a scale for each position and head: a quarter of the memory.

        Returns:
            A pytree of arrays whose shapes do not change, so a jitted step compiles once.

        Example:
            >>> from funtorch import nnx, random
            >>> layer = nnx.MultiheadAttention(8, 4, num_kv_heads=2, key=random.key(0))
            >>> layer.init_cache(1, 10).key.shape
            (1, 2, 10, 2)
        """
        size = self.embed_dim // self.num_heads
        dtype = self.out_proj.weight.dtype if dtype is None else dtype
        empty = fnp.zeros((batch, self.num_kv_heads, length, size), dtype)
        scale = fnp.zeros((*empty.shape[:3], 1), self.out_proj.weight.dtype)
        scales = (scale, scale) if empty.dtype == fnp.int8 else None
        return KVCache(empty, empty, fnp.zeros((), fnp.int32), scales)

    def cache_of(self, key: Any, value: Any) -> KVCache:
        """Make a full cache of the keys and values of a memory, which many queries look at.

        Args:
            key: (source, batch, kdim), (batch, source, kdim) with ``batch_first``, or (source,
                kdim).
            value: as key, of size vdim.

        Returns:
            A cache to call the layer with, in which key and value are None.

        Raises:
            ValueError: shapes do not fit.

        Example:
            >>> import funtorch.numpy as fnp
            >>> from funtorch import nnx, random
            >>> layer = nnx.MultiheadAttention(8, 2, batch_first=True, key=random.key(0))
            >>> memory = random.normal(random.key(1), (3, 5, 8))
            >>> y, _ = layer(memory[:, :1], None, None, cache=layer.cache_of(memory, memory))
            >>> bool(fnp.allclose(y, layer(memory[:, :1], memory, memory)[0], atol=1e-6))
            True
        """
        k, v = fnp.asarray(key), fnp.asarray(value)
        self._check((fnp.zeros((*k.shape[:-1], self.embed_dim), k.dtype), k, v))
        if k.ndim == 2:
            k, v = k[None], v[None]
        elif not self.batch_first:
            k, v = k.swapaxes(0, 1), v.swapaxes(0, 1)
        k, v = self._projected([k, v], False, 1)
        if self.rotary_base is not None:
            k = rotary_embedding(k, base=self.rotary_base)
        return KVCache(k, v, fnp.full((), k.shape[2], fnp.int32))

    # ------------------------------------------------------------------------------------ parts
    @property
    def _appends(self) -> bool:
        return self.bias_k is not None or self.add_zero_attn

    def _check(self, xs: tuple[Any, ...]) -> None:
        sizes, ranks = (self.embed_dim, self.kdim, self.vdim), {x.ndim for x in xs}
        fit = ranks in ({2}, {3}) and all(
            x.shape[-1] == n for x, n in zip(xs, sizes[: len(xs)], strict=True)
        )
        q, k, v = (xs[0].shape,) * 3 if len(xs) == 1 else (x.shape for x in xs)
        batch = 0 if self.batch_first else 1
        if not fit or k[:-1] != v[:-1] or (len(q) == 3 and q[batch] != k[batch]):
            axes = ("batch, length", "batch, source") if self.batch_first else (
                "length, batch", "source, batch")  # fmt: skip
            raise ValueError(
                f"{title(self)} takes query ({axes[0]}, {sizes[0]}), key ({axes[1]}, {sizes[1]}), "
                f"value ({axes[1]}, {sizes[2]}), or all without batch; it was given query {q}, "
                f"key {k}, value {v}"
            )

    def _check_recalled(self, q: Any, cache: Any, is_causal: bool) -> None:
        if is_causal or self.rotary_base is not None:
            raise ValueError(
                f"{title(self)} takes key=None and value=None neither with is_causal=True nor with "
                "rotary_base, since it does not know the positions of the query"
            )
        if len(cache.key) != len(q):
            raise ValueError(
                f"{title(self)} was given a cache of {len(cache.key)} sequences, and {len(q)} "
                "sequences of queries"
            )

    def _projected(self, xs: list[Any], same: bool, first: int = 0) -> list[Any]:
        """Return (batch, heads, length, size) of queries, keys and values, or of some of them."""
        inner = self.embed_dim // self.num_heads * self.num_kv_heads
        cuts, some = [self.embed_dim, self.embed_dim + inner], slice(first, first + len(xs))
        if self.in_proj_weight is not None and same:
            made = fnp.split(xs[0] @ self.in_proj_weight.T, cuts, -1)
        else:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
            if self.in_proj_weight is not None:
                weights = fnp.split(self.in_proj_weight, cuts)
            made = [x @ w.T for x, w in zip(xs, weights[some], strict=True)]  # type: ignore[union-attr]
        if self.in_proj_bias is not None:
            biases = fnp.split(self.in_proj_bias, cuts)[some]
            made = [y + b for y, b in zip(made, biases, strict=True)]
        return [self._heads(y) for y in made]

    def _heads(self, y: Any) -> Any:
        size = self.embed_dim // self.num_heads
        return y.reshape(*y.shape[:2], y.shape[2] // size, size).swapaxes(1, 2)

    def _hidden(self, attn_mask: Any, padding: Any, single: bool, q: Any, source: int) -> Any:
        """Return both masks in one that broadcasts to (batch, heads, length, source)."""
        batch, heads, length = q.shape[:3]
        attn_mask = as_mask(title(self), "attn_mask", attn_mask)
        padding = as_mask(title(self), "key_padding_mask", padding)
        if attn_mask is not None:
            if attn_mask.shape == (batch * heads, length, source):
                attn_mask = attn_mask.reshape(batch, heads, length, source)
            elif attn_mask.shape != (length, source):
                raise ValueError(
                    f"{title(self)} takes attn_mask of shape {(length, source)} or "
                    f"{(batch * heads, length, source)}; it was given {attn_mask.shape}"
                )
        if padding is not None:
            wanted = (source,) if single else (batch, source)
            if padding.shape != wanted:
                raise ValueError(
                    f"{title(self)} takes key_padding_mask of shape {wanted}; it was given "
                    f"{padding.shape}"
                )
            padding = padding.reshape(batch, 1, 1, source)
        return _joined(attn_mask, padding)

    def _appended(self, k: Any, v: Any, hidden: Any) -> tuple[Any, Any, Any]:
        """Put learned and zero keys and values after all others, and let them be seen."""
        ends = []
        if self.bias_k is not None and self.bias_v is not None:
            ends.append((self._heads(self.bias_k), self._heads(self.bias_v)))
        if self.add_zero_attn:
            ends.append((fnp.zeros((), k.dtype), fnp.zeros((), v.dtype)))
        for pair in ends:
            k, v = (
                fnp.concatenate([x, fnp.broadcast_to(end, (*x.shape[:2], 1, x.shape[3]))], 2)
                for x, end in zip((k, v), pair, strict=True)
            )
            if hidden is not None:
                hidden = fnp.pad(hidden, [(0, 0)] * (hidden.ndim - 1) + [(0, 1)])
        return k, v, hidden

    def _stored(self, k: Any, v: Any, cache: KVCache) -> KVCache:
        room, count = cache.key.shape[2], k.shape[2]
        if self._appends:
            raise ValueError(f"{title(self)} takes no cache with add_bias_kv or add_zero_attn")
        start = known_values(cache.position)
        taken = 0 if start is None else int(start.max())
        if taken + count > room or cache.key.shape[0] != k.shape[0]:
            raise ValueError(
                f"{title(self)} was given a cache of {cache.key.shape[0]} sequences of {room} "
                f"positions, of which {taken} are taken, and "
                f"{k.shape[0]} sequences of {count} more"
            )
        scales = None
        if cache.scales is not None:
            (k, one), (v, two) = map(_rounded, (k, v))
            pairs = zip(cache.scales, (one, two), strict=True)
            scales = tuple(_put(old, new, cache.position) for old, new in pairs)
        k, v = (_put(old, new, cache.position) for old, new in ((cache.key, k), (cache.value, v)))
        return KVCache(k, v, cache.position + count, scales)


def _rounded(x: Any) -> tuple[Any, Any]:
    """Return vectors as int8, with a scale for each."""
    q = quant.quantize_array(x, axes=(3,))
    return q.values, q.scale


def _put(old: Any, new: Any, position: Any) -> Any:
    return lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), position, 2)


def _later(q: Any, k: Any, start: Any, is_causal: bool) -> Any:
    """Return which positions of a cache are not there yet, or come later than a query."""
    own = start + fnp.arange(q.shape[2])
    last = own if is_causal else fnp.broadcast_to(own[-1:], own.shape)
    return fnp.arange(k.shape[2]) > last[:, None]


def _joined(a: Any, b: Any) -> Any:
    """Hide what either mask hides."""
    if a is None or b is None:
        return b if a is None else a
    if a.dtype == bool and b.dtype == bool:
        return a | b
    return _numbers(a) + _numbers(b)


def _numbers(mask: Any) -> Any:
    return fnp.where(mask, -fnp.inf, 0) if mask.dtype == bool else mask


# Flax's name.
MultiHeadAttention = MultiheadAttention
