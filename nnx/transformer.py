"""Transformers of attention and position-wise layers, with PyTorch's parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nn, random

from . import init
from .dropout import Dropout
from .layers import Linear
from .module import Module, static, title
from .multihead import KVCache, MultiheadAttention
from .normalization import LayerNorm

__all__ = [
    "PositionalEncoding", "Transformer", "TransformerDecoder", "TransformerDecoderLayer",
    "TransformerEncoder", "TransformerEncoderLayer",
]  # fmt: skip

M = TypeVar("M", bound=Module)
_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": nn.relu,
    "gelu": lambda x: nn.gelu(x, approximate=False),
}


def _activation(layer: str, given: str | Callable[[Any], Any]) -> Callable[[Any], Any]:
    if callable(given):
        return given
    if given not in _ACTIVATIONS:
        raise ValueError(
            f"{layer} takes activation 'relu', 'gelu' or a function; it was given {given!r}"
        )
    return _ACTIVATIONS[given]


def _copies(layer: M, count: int, key: Any) -> list[M]:
    """Make layers with arrays of their own: equal ones, or with matrices drawn anew."""
    copies = [ft.tree.map(lambda x: fnp.array(x, copy=True), layer) for _ in range(count)]
    if key is None or not count:
        return copies
    keys = random.split(key, count)
    return [_drawn(copy, k) for copy, k in zip(copies, keys, strict=True)]


def _drawn(tree: Any, key: Any) -> Any:
    """Draw all matrices anew, as `Transformer` starts in PyTorch."""
    leaves, structure = ft.tree.flatten(tree)
    keys = random.split(key, len(leaves))
    return ft.tree.unflatten(
        structure,
        [
            init.xavier_uniform(k, x.shape, x.dtype) if x.ndim > 1 else x
            for k, x in zip(keys, leaves, strict=True)
        ],
    )


class DecoderCache(NamedTuple):
    """What a decoder layer keeps: its own keys and values so far, and those of the memory."""

    own: KVCache
    memory: KVCache


def _named(x: Any) -> str:
    return "None" if x is None else type(x).__name__


def _check_caches(model: Any, cache: Any) -> None:
    """Complain of what is no list of the caches of a model's layers."""
    several = isinstance(cache, list | tuple) and not hasattr(cache, "_fields")
    if cache is None or (several and len(cache) == len(model.layers)):
        return
    given = f"{len(cache)} caches" if several else _named(cache)
    raise ValueError(
        f"{type(model).__name__} takes a cache as its init_cache makes it, a list of those of its "
        f"{len(model.layers)} layers; it was given {given}"
    )


class _Block(Module):
    """What layers of encoders and decoders share: the part that treats each position alone."""

    linear1: Linear
    linear2: Linear
    dropout: Dropout
    activation: Callable[[Any], Any] = static()
    norm_first: bool = static()

    def _set(
        self, d_model: int, inner: int, rate: float, activation: Any, norm_first: bool, bias: bool,
        keys: Iterator[Any], dtype: Any,
    ) -> None:  # fmt: skip
        self.linear1 = Linear(d_model, inner, bias, key=next(keys), dtype=dtype)
        self.linear2 = Linear(inner, d_model, bias, key=next(keys), dtype=dtype)
        self.dropout, self.norm_first = Dropout(rate), norm_first
        self.activation = _activation(type(self).__name__, activation)

    def _wide(self, x: Any) -> Any:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))

    def _added(self, norm: Any, dropout: Any, x: Any, part: Callable[[Any], Any]) -> Any:
        """Add a part of the layer to its input, with a norm before or after."""
        if self.norm_first:
            return x + dropout(part(norm(x)))
        return norm(x + dropout(part(x)))


class TransformerEncoderLayer(_Block):
    """Let positions attend to each other, then treat each alone; each time the input is added.

    Args:
        d_model: size of the last axis.
        nhead: number of heads.
        dim_feedforward: size between the two linear layers.
        dropout: in training, the share that is dropped of weights and of what is added.
        activation: 'relu', 'gelu' or a function.
        layer_norm_eps: what `LayerNorm` adds to the variance.
        batch_first: whether arrays are (batch, length, d_model) rather than (length, batch,
            d_model).
        norm_first: whether norms come before attention and linear layers rather than after.
        bias: whether there are biases.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: an argument is none of these; or, when called, shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.TransformerEncoderLayer(8, 2, 16, batch_first=True, key=random.key(0))
        >>> layer(fnp.ones((3, 5, 8)), is_causal=True).shape
        (3, 5, 8)

    References:
        A. Vaswani et al., "Attention is all you need", NeurIPS 2017.
    """

    self_attn: MultiheadAttention
    norm1: LayerNorm
    norm2: LayerNorm
    dropout1: Dropout
    dropout2: Dropout

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = "relu", layer_norm_eps: float = 1e-5,
        batch_first: bool = False, norm_first: bool = False, bias: bool = True, *, key: Any,
        dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        keys = iter(random.split(key, 3))
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, key=next(keys), dtype=dtype
        )
        self._set(d_model, dim_feedforward, dropout, activation, norm_first, bias, keys, dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)

    def __call__(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None,
        is_causal: bool = False, *, cache: KVCache | None = None,
    ) -> Any:  # fmt: skip
        """Map src to an array like it. Masks and the cache are those of `MultiheadAttention`.

        With a cache, src are the positions that come next, and the new cache comes back, too.
        """
        new = cache

        def attend(x: Any) -> Any:
            nonlocal new
            y, new = self.self_attn(
                x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal, cache=cache
            )
            return y

        x = self._added(self.norm1, self.dropout1, fnp.asarray(src), attend)
        x = self._added(self.norm2, self.dropout2, x, self._wide)
        return x if cache is None else (x, new)

    def init_cache(self, batch: int, length: int, dtype: Any = None) -> KVCache:
        """Make an empty cache for so many sequences and positions: `MultiheadAttention`."""
        return self.self_attn.init_cache(batch, length, dtype)


class TransformerDecoderLayer(_Block):
    """Let positions attend to each other, then to a memory, then treat each alone.

    Args:
        d_model: size of the last axis.
        nhead: number of heads.
        dim_feedforward: size between the two linear layers.
        dropout: in training, the share that is dropped of weights and of what is added.
        activation: 'relu', 'gelu' or a function.
        layer_norm_eps: what `LayerNorm` adds to the variance.
        batch_first: whether arrays are (batch, length, d_model) rather than (length, batch,
            d_model).
        norm_first: whether norms come before attention and linear layers rather than after.
        bias: whether there are biases.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: an argument is none of these; or, when called, shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.TransformerDecoderLayer(8, 2, 16, batch_first=True, key=random.key(0))
        >>> layer(fnp.ones((3, 5, 8)), fnp.ones((3, 7, 8)), tgt_is_causal=True).shape
        (3, 5, 8)

    References:
        A. Vaswani et al., "Attention is all you need", NeurIPS 2017.
    """

    self_attn: MultiheadAttention
    multihead_attn: MultiheadAttention
    norm1: LayerNorm
    norm2: LayerNorm
    norm3: LayerNorm
    dropout1: Dropout
    dropout2: Dropout
    dropout3: Dropout

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = "relu", layer_norm_eps: float = 1e-5,
        batch_first: bool = False, norm_first: bool = False, bias: bool = True, *, key: Any,
        dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        keys = iter(random.split(key, 4))
        self.self_attn, self.multihead_attn = (
            MultiheadAttention(
                d_model, nhead, dropout, bias, batch_first=batch_first, key=next(keys), dtype=dtype
            )
            for _ in range(2)
        )
        self._set(d_model, dim_feedforward, dropout, activation, norm_first, bias, keys, dtype)
        self.norm1, self.norm2, self.norm3 = (
            LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype) for _ in range(3)
        )
        self.dropout1, self.dropout2, self.dropout3 = (Dropout(dropout) for _ in range(3))

    def __call__(
        self, tgt: Any, memory: Any, tgt_mask: Any = None, memory_mask: Any = None,
        tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False, memory_is_causal: bool = False, *,
        cache: DecoderCache | None = None,
    ) -> Any:  # fmt: skip
        """Map tgt to an array like it. Masks are those of `MultiheadAttention`.

        With a cache, tgt are the positions that come next, memory is not looked at (the cache has
        it), and the new cache comes back, too.
        """
        if memory is None if cache is None else not isinstance(cache, DecoderCache):
            raise TypeError(
                "TransformerDecoderLayer takes a memory, or a cache that its init_cache made of "
                f"one; it was given memory {_named(memory)}, cache {_named(cache)}"
            )
        own, kept = (None, None) if cache is None else cache
        memory = fnp.asarray(memory) if cache is None else None
        new = own

        def attend(x: Any) -> Any:
            nonlocal new
            y, new = self.self_attn(
                x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal, cache=own
            )
            return y

        def look(x: Any) -> Any:
            return self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask,
                is_causal=memory_is_causal, cache=kept,
            )[0]  # fmt: skip

        x = self._added(self.norm1, self.dropout1, fnp.asarray(tgt), attend)
        x = self._added(self.norm2, self.dropout2, x, look)
        x = self._added(self.norm3, self.dropout3, x, self._wide)
        return x if cache is None else (x, DecoderCache(new, kept))

    def init_cache(self, memory: Any, length: int, dtype: Any = None) -> DecoderCache:
        """Make a cache of a memory, with room for so many positions of the decoder's own.

        Args:
            memory: (source, batch, d_model), (batch, source, d_model) with ``batch_first``, or
                (source, d_model).
            length: the most positions that it can hold.
            dtype: of its own keys and values; that of the parameters by default.

        Returns:
            A pytree of arrays whose shapes do not change, so a jitted step compiles once.
        """
        kept = self.multihead_attn.cache_of(memory, memory)
        return DecoderCache(self.self_attn.init_cache(len(kept.key), length, dtype), kept)


class TransformerEncoder(Module):
    """Apply copies of an encoder layer one after another.

    Args:
        encoder_layer: the layer.
        num_layers: how many copies, which start equal, as in PyTorch.
        norm: what is applied to the result, such as `LayerNorm`.
        key: random key; with it, matrices of the copies are drawn anew.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.TransformerEncoderLayer(8, 2, 16, key=random.key(0))
        >>> nnx.TransformerEncoder(layer, 2, key=random.key(1))(fnp.ones((5, 3, 8))).shape
        (5, 3, 8)
    """

    layers: list[Any]
    norm: Any

    def __init__(
        self, encoder_layer: Any, num_layers: int, norm: Any = None, *, key: Any = None
    ) -> None:
        self.layers, self.norm = _copies(encoder_layer, num_layers, key), norm

    def __call__(
        self, src: Any, mask: Any = None, src_key_padding_mask: Any = None,
        is_causal: bool | None = None, *, cache: list[Any] | None = None,
    ) -> Any:  # fmt: skip
        """Map src to an array like it; with a cache, also to the new one: see a layer's call."""
        _check_caches(self, cache)
        x, new = src, []
        for number, layer in enumerate(self.layers):
            own = {} if cache is None else {"cache": cache[number]}
            x = layer(x, mask, src_key_padding_mask, bool(is_causal), **own)
            if cache is not None:
                x, kept = x
                new.append(kept)
        x = x if self.norm is None else self.norm(x)
        return x if cache is None else (x, new)

    def init_cache(self, batch: int, length: int, dtype: Any = None) -> list[Any]:
        """Make empty caches of the layers, for so many sequences and positions.

        Example:
            >>> import funtorch.numpy as fnp
            >>> from funtorch import nnx, random
            >>> layer = nnx.TransformerEncoderLayer(8, 2, 16, batch_first=True, key=random.key(0))
            >>> model = nnx.TransformerEncoder(layer, 2, key=random.key(1))
            >>> y, cache = model(fnp.ones((3, 1, 8)), cache=model.init_cache(3, 100))
            >>> y.shape, cache[1].key.shape
            ((3, 1, 8), (3, 2, 100, 4))
        """
        return [layer.init_cache(batch, length, dtype) for layer in self.layers]


class TransformerDecoder(Module):
    """Apply copies of a decoder layer one after another.

    Args:
        decoder_layer: the layer.
        num_layers: how many copies, which start equal, as in PyTorch.
        norm: what is applied to the result, such as `LayerNorm`.
        key: random key; with it, matrices of the copies are drawn anew.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.TransformerDecoderLayer(8, 2, 16, key=random.key(0))
        >>> nnx.TransformerDecoder(layer, 2)(fnp.ones((5, 3, 8)), fnp.ones((7, 3, 8))).shape
        (5, 3, 8)
    """

    layers: list[Any]
    norm: Any

    def __init__(
        self, decoder_layer: Any, num_layers: int, norm: Any = None, *, key: Any = None
    ) -> None:
        self.layers, self.norm = _copies(decoder_layer, num_layers, key), norm

    def __call__(
        self, tgt: Any, memory: Any, tgt_mask: Any = None, memory_mask: Any = None,
        tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None, memory_is_causal: bool = False, *,
        cache: list[Any] | None = None,
    ) -> Any:  # fmt: skip
        """Map tgt to an array like it; with a cache, also to the new one: see a layer's call."""
        _check_caches(self, cache)
        x, new = tgt, []
        for number, layer in enumerate(self.layers):
            own = {} if cache is None else {"cache": cache[number]}
            x = layer(
                x, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
                bool(tgt_is_causal), memory_is_causal, **own,
            )  # fmt: skip
            if cache is not None:
                x, kept = x
                new.append(kept)
        x = x if self.norm is None else self.norm(x)
        return x if cache is None else (x, new)

    def init_cache(self, memory: Any, length: int, dtype: Any = None) -> list[Any]:
        """Make caches of the layers, of a memory and for so many positions of their own.

        Example:
            >>> import funtorch.numpy as fnp
            >>> from funtorch import nnx, random
            >>> model = nnx.Transformer(8, 2, 1, 2, 16, batch_first=True, key=random.key(0))
            >>> memory = model.encoder(fnp.ones((3, 5, 8)))
            >>> cache = model.decoder.init_cache(memory, 100)
            >>> y, cache = model.decoder(fnp.ones((3, 1, 8)), memory, cache=cache)
            >>> y.shape, int(cache[1].own.position)
            ((3, 1, 8), 1)
        """
        return [layer.init_cache(memory, length, dtype) for layer in self.layers]


class Transformer(Module):
    """Encode one sequence and decode another one with it.

    Args:
        d_model: size of the last axis.
        nhead: number of heads.
        num_encoder_layers: how many layers of the encoder.
        num_decoder_layers: how many layers of the decoder.
        dim_feedforward: size between the two linear layers.
        dropout: in training, the share that is dropped.
        activation: 'relu', 'gelu' or a function.
        custom_encoder: what takes the encoder's place.
        custom_decoder: what takes the decoder's place.
        layer_norm_eps: what `LayerNorm` adds to the variance.
        batch_first: whether arrays are (batch, length, d_model) rather than (length, batch,
            d_model).
        norm_first: whether norms come before attention and linear layers rather than after.
        bias: whether there are biases.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: an argument is none of these; or, when called, shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> model = nnx.Transformer(8, 2, 1, 1, 16, key=random.key(0))
        >>> model(fnp.ones((7, 3, 8)), fnp.ones((5, 3, 8)), tgt_is_causal=True).shape
        (5, 3, 8)

    References:
        A. Vaswani et al., "Attention is all you need", NeurIPS 2017.
    """

    encoder: Any
    decoder: Any

    def __init__(
        self, d_model: int = 512, nhead: int = 8, num_encoder_layers: int = 6,
        num_decoder_layers: int = 6, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = "relu", custom_encoder: Any = None,
        custom_decoder: Any = None, layer_norm_eps: float = 1e-5, batch_first: bool = False,
        norm_first: bool = False, bias: bool = True, *, key: Any, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        keys = random.split(key, 4)
        args = (
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first,
            norm_first, bias,
        )  # fmt: skip

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)

        self.encoder, self.decoder = custom_encoder, custom_decoder
        if custom_encoder is None:
            layer: Any = TransformerEncoderLayer(*args, key=keys[0], dtype=dtype)
            self.encoder = TransformerEncoder(layer, num_encoder_layers, norm(), key=keys[1])
        if custom_decoder is None:
            layer = TransformerDecoderLayer(*args, key=keys[2], dtype=dtype)
            self.decoder = TransformerDecoder(layer, num_decoder_layers, norm(), key=keys[3])

    def __call__(
        self, src: Any, tgt: Any, src_mask: Any = None, tgt_mask: Any = None,
        memory_mask: Any = None, src_key_padding_mask: Any = None, tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None, src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None, memory_is_causal: bool = False,
    ) -> ft.Array:  # fmt: skip
        """Map src and tgt to an array like tgt. Masks are those of `MultiheadAttention`."""
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(
            tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
            tgt_is_causal, memory_is_causal,
        )  # fmt: skip

    @staticmethod
    def generate_square_subsequent_mask(sz: int, dtype: Any = fnp.float32) -> ft.Array:
        """Make the mask to be added that hides what comes later: -inf above the diagonal.

        Args:
            sz: length of the sequence.
            dtype: of the mask.

        Returns:
            float[sz, sz].
        """
        return fnp.triu(fnp.full((sz, sz), -fnp.inf, dtype), 1)


class PositionalEncoding(Module):
    """Add sines and cosines of the position, of wavelengths from 2π to 2π · 10000, then drop.

    Args:
        d_model: size of the last axis.
        dropout: in training, the share that is dropped.
        batch_first: whether arrays are (batch, length, d_model) rather than (length, batch,
            d_model).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.PositionalEncoding(4)(fnp.zeros((2, 4))).round(4)
        Array([[0.    , 1.    , 0.    , 1.    ],
               [0.8415, 0.5403, 0.01  , 1.    ]], dtype=float32)

    References:
        A. Vaswani et al., "Attention is all you need", NeurIPS 2017.
    """

    dropout: Dropout
    d_model: int = static()
    batch_first: bool = static()

    def __init__(self, d_model: int, dropout: float = 0.0, batch_first: bool = False) -> None:
        self.d_model, self.dropout, self.batch_first = d_model, Dropout(dropout), batch_first

    def __call__(self, x: Any, start: Any = 0) -> ft.Array:
        """Map x of shape (length, batch, d_model) or (length, d_model) to an array like it.

        The first position has the number ``start``, an integer that may be traced.
        """
        x = fnp.asarray(x)
        axis = 1 if self.batch_first and x.ndim == 3 else 0
        if x.ndim not in (2, 3) or x.shape[-1] != self.d_model:
            raise ValueError(
                f"{title(self)} takes an array of shape (length, batch, {self.d_model}) or "
                f"(length, {self.d_model}), or batch first; it was given one of shape {x.shape}"
            )
        places = fnp.arange(self.d_model)
        rates = fnp.exp((places // 2) * (-2 * math.log(10000.0) / self.d_model))
        angles = (start + fnp.arange(x.shape[axis]))[:, None] * rates
        table = fnp.where(places % 2, fnp.cos(angles), fnp.sin(angles)).astype(x.dtype)
        return self.dropout(x + (table[:, None] if x.ndim == 3 and not axis else table))
