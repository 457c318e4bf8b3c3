"""Tables of vectors that are read by number: one at a time, or in bags."""

from __future__ import annotations

from typing import Any

import numpy as np

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, random

from .module import Module, static, title

__all__ = ["Embedding", "EmbeddingBag"]


class _Table(Module):
    """What tables of vectors share: the weight, and how its rows are read."""

    weight: ft.Array
    num_embeddings: int = static()
    embedding_dim: int = static()
    padding_idx: int | None = static()
    max_norm: float | None = static()
    norm_type: float = static()
    scale_grad_by_freq: bool = static()

    def _fill(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None,
        max_norm: float | None, norm_type: float, scale_grad_by_freq: bool, key: Any, dtype: Any,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        if num_embeddings < 1 or embedding_dim < 0:
            raise ValueError(
                f"{name} takes one embedding or more, of size 0 or more; it was given "
                f"num_embeddings={num_embeddings}, embedding_dim={embedding_dim}"
            )
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(
                f"{name} takes padding_idx within its {num_embeddings} embeddings; it was given "
                f"{padding_idx}"
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        weight = random.normal(key, (num_embeddings, embedding_dim), dtype)
        self.weight = weight if padding_idx is None else weight.at[padding_idx].set(0)

    def _indices(self, x: Any) -> ft.Array:
        """Return the input as integers, which are checked where they are known."""
        x = fnp.asarray(x)
        if not fnp.issubdtype(x.dtype, fnp.integer):
            raise TypeError(f"{title(self)} takes integers; it was given {x.dtype.name}")
        known = known_values(x)
        if known is not None and known.size:
            worst = known.min() if known.min() < 0 else known.max()
            if not 0 <= worst < self.num_embeddings:
                raise IndexError(
                    f"{title(self)} takes numbers from 0 to {self.num_embeddings - 1}; it was "
                    f"given {worst}"
                )
        return x

    def _rows(self, x: ft.Array) -> ft.Array:
        """Return the vectors of these numbers: x.shape + (embedding_dim,)."""
        rows = fnp.take(self.weight, x, axis=0)
        if self.max_norm is not None:
            size = fnp.linalg.norm(rows, self.norm_type, axis=-1, keepdims=True)
            scale = fnp.where(size > self.max_norm, self.max_norm / (size + 1e-7), 1)
            # The table itself counts as shortened: no derivative passes through the scale.
            rows = rows + lax.stop_gradient(rows * scale - rows)
        if self.scale_grad_by_freq:
            counts = fnp.zeros(self.num_embeddings, rows.dtype).at[x.ravel()].add(1)
            share = rows / fnp.take(counts, x)[..., None]
            rows = share + lax.stop_gradient(rows - share)
        return rows


def known_values(x: Any) -> np.ndarray | None:
    """Return the numbers of an array, None where only a compiled program will know them."""
    try:
        return np.asarray(x)
    except TypeError:  # a tracer, whose numbers no one knows yet
        return None


class Embedding(_Table):
    """Read vectors from a table by number.

    The table starts as standard normal numbers. Numbers beyond its end raise an error where they
    are known, and give nan under ``jit``.

    Args:
        num_embeddings: how many vectors there are.
        embedding_dim: the size of each.
        padding_idx: number of a vector that is 0 at first and has no gradient.
        max_norm: length to which longer vectors are shortened as they are read.
        norm_type: degree of the norm that measures them.
        scale_grad_by_freq: whether gradients are divided by how often the input has a number.
        key: random key for the initial values.
        dtype: floating-point dtype of the table.

    Raises:
        ValueError: a parameter is none of these.
        TypeError: when called, the input is not of integers.
        IndexError: when called, the input has a number that the table has not.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.Embedding(10, 3, padding_idx=0, key=random.key(0))
        >>> layer(fnp.array([[1, 2, 4], [0, 4, 0]])).shape
        (2, 3, 3)
        >>> layer(fnp.array(0))
        Array([0., 0., 0.], dtype=float32)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None,
        max_norm: float | None = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False,
        *, key: Any, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        self._fill(
            num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq,
            key, dtype,
        )  # fmt: skip

    def __call__(self, x: Any) -> ft.Array:
        """Map integers of any shape to vectors: (*shape, embedding_dim)."""
        x = self._indices(x)
        rows = self._rows(x)
        if self.padding_idx is None:
            return rows
        return fnp.where(fnp.equal(x, self.padding_idx)[..., None], lax.stop_gradient(rows), rows)


class EmbeddingBag(_Table):
    """Read vectors from a table by number and reduce them bag by bag.

    Args:
        num_embeddings: how many vectors there are.
        embedding_dim: the size of each.
        max_norm: length to which longer vectors are shortened as they are read.
        norm_type: degree of the norm that measures them.
        scale_grad_by_freq: whether gradients are divided by how often the input has a number.
        mode: 'mean', 'sum' or 'max'.
        include_last_offset: whether offsets end with the number of all elements.
        padding_idx: number of a vector that counts in no bag.
        key: random key for the initial values.
        dtype: floating-point dtype of the table.

    Raises:
        ValueError: a parameter is none of these; or, when called, shapes do not fit.
        TypeError: when called, the input is not of integers.
        IndexError: when called, the input has a number that the table has not.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.EmbeddingBag(10, 3, mode="sum", key=random.key(0))
        >>> numbers = fnp.array([1, 2, 4, 5, 4, 3, 2, 9])
        >>> layer(numbers.reshape(2, 4)).shape, layer(numbers, fnp.array([0, 3, 3])).shape
        ((2, 3), (3, 3))
    """

    mode: str = static()
    include_last_offset: bool = static()

    def __init__(
        self, num_embeddings: int, embedding_dim: int, max_norm: float | None = None,
        norm_type: float = 2.0, scale_grad_by_freq: bool = False, mode: str = "mean", *,
        include_last_offset: bool = False, padding_idx: int | None = None, key: Any,
        dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        if mode not in ("mean", "sum", "max"):
            raise ValueError(
                f"EmbeddingBag takes mode 'mean', 'sum' or 'max'; it was given {mode!r}"
            )
        self.mode, self.include_last_offset = mode, include_last_offset
        self._fill(
            num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq,
            key, dtype,
        )  # fmt: skip

    def __call__(self, x: Any, offsets: Any = None, per_sample_weights: Any = None) -> ft.Array:
        """Map integers to one vector for each bag: (bags, embedding_dim).

        x has shape (bags, elements), or (elements,) with offsets: where each bag begins. The
        vectors of a sum may be weighted, by numbers of the shape of x. An empty bag gives 0.
        """
        x = self._indices(x)
        bag, bags = self._bags(x, offsets)
        if per_sample_weights is not None:
            per_sample_weights = self._weights(x, per_sample_weights)
        numbers = x.ravel()
        rows = self._rows(numbers)
        counted = fnp.ones(numbers.shape, bool)
        if self.padding_idx is not None:
            counted = numbers != self.padding_idx
        shape = (bags, self.embedding_dim)
        count = fnp.zeros((bags, 1), rows.dtype).at[bag].add(counted[:, None].astype(rows.dtype))
        if self.mode == "max":
            lowest = fnp.full(shape, -fnp.inf, rows.dtype)
            best = lowest.at[bag].max(fnp.where(counted[:, None], rows, -fnp.inf))
            return fnp.where(count > 0, best, 0)
        if per_sample_weights is not None:
            rows = rows * per_sample_weights.ravel()[:, None]
        total = fnp.zeros(shape, rows.dtype).at[bag].add(fnp.where(counted[:, None], rows, 0))
        return total if self.mode == "sum" else total / fnp.maximum(count, 1)

    def _bags(self, x: ft.Array, offsets: Any) -> tuple[ft.Array, int]:
        """Return the bag of each element of the flattened input, and how many bags there are."""
        if x.ndim == 2 and offsets is None:
            return fnp.repeat(fnp.arange(x.shape[0]), x.shape[1]), x.shape[0]
        if x.ndim != 1 or offsets is None:
            raise ValueError(
                f"{title(self)} takes an array of shape (bags, elements), or (elements,) with "
                f"offsets; it was given one of shape {x.shape} with"
                f"{'out' if offsets is None else ''} offsets"
            )
        offsets = fnp.asarray(offsets)
        if offsets.ndim != 1 or offsets.shape[0] < self.include_last_offset:
            raise ValueError(
                f"{title(self)} takes offsets of shape (bags,); it was given {offsets.shape}"
            )
        starts = offsets[:-1] if self.include_last_offset else offsets
        bag = fnp.searchsorted(starts, fnp.arange(x.shape[0]), side="right") - 1
        return bag, starts.shape[0]

    def _weights(self, x: ft.Array, weights: Any) -> ft.Array:
        weights = fnp.asarray(weights)
        if self.mode != "sum" or weights.shape != x.shape:
            raise ValueError(
                f"{title(self)} takes per_sample_weights with mode 'sum', and of the input's shape "
                f"{x.shape}; the mode is {self.mode!r}, their shape {weights.shape}"
            )
        return weights
