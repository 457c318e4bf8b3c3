"""What sparse arrays of every format share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import numpy as fnp
from funtorch.core import Array, Tracer, concrete_or_error
from funtorch.transforms import vmap

__all__ = [
    "CuSparseEfficiencyWarning",
    "BatchedSparse",
    "JAXSparse",
    "SparseEfficiencyError",
    "SparseEfficiencyWarning",
    "batched",
    "batches",
    "count_stored",
    "static",
]


class SparseEfficiencyError(ValueError):
    """A sparse operation would store much more than its operands do. Name as in JAX."""


class SparseEfficiencyWarning(UserWarning):
    """A sparse operation stores much more than its operands do. Name as in JAX."""


class CuSparseEfficiencyWarning(SparseEfficiencyWarning):
    """Name as in JAX; nothing here gives it."""


class JAXSparse:
    """A sparse array: a pytree of its values and places, with a static shape. Name as in JAX."""

    data: Any
    shape: tuple[int, ...]
    _parts: tuple[str, ...] = ()  # names of the arrays it consists of, the values first

    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 1000
    __array_ufunc__ = None  # so that NumPy's arrays leave the operators to this class

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """How many elements the array has, zeros included."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the values."""
        return self.data.dtype

    @property
    def nse(self) -> int:
        """How many elements are stored."""
        return self.data.shape[0]

    @property
    def T(self) -> Any:
        """The transposed array."""
        return self.transpose()

    def transpose(self, axes: Sequence[int] | None = None) -> Any:
        """Return the array with its axes in another order."""
        raise NotImplementedError(f"{type(self).__name__} has no transpose")

    def todense(self) -> Any:
        """Return the array with all its zeros."""
        raise NotImplementedError(f"{type(self).__name__} has no todense")

    def block_until_ready(self) -> Any:
        """Wait until the values are computed, and return the array."""
        for name in self._parts:
            getattr(self, name).block_until_ready()
        return self

    def _extra(self) -> str:
        return ""

    def __repr__(self) -> str:
        name = type(self).__name__
        try:
            text = f"{name}({self.dtype}{list(self.shape)}, nse={self.nse}{self._extra()})"
        except (AttributeError, IndexError, TypeError):  # a tree of something else than arrays
            return f"{name}(<invalid>)"
        return f"{type(self.data).__name__}[{text}]" if isinstance(self.data, Tracer) else text


class BatchedSparse(JAXSparse):
    """What sparse arrays with batch axes in front and dense axes behind have in common."""

    n_batch: Any
    n_sparse: Any

    @property
    def n_dense(self) -> int:
        """How many trailing axes are dense."""
        return self.ndim - self.n_batch - self.n_sparse

    def _extra(self) -> str:
        kinds = (("n_batch", self.n_batch), ("n_dense", self.n_dense))
        return "".join(f", {name}={n}" for name, n in kinds if n)


def static(value: Any, what: str) -> int:
    """Return a static integer, or raise the error of a traced one."""
    return int(concrete_or_error(value, what)) if isinstance(value, Array) else int(value)


def count_stored(mat: Any, n_batch: int, n_dense: int) -> Any:
    """Count the elements to store: the most that any batch has, blocks of dense axes as one."""
    mask = mat != 0
    if n_dense:
        mask = mask.any(tuple(range(mat.ndim - n_dense, mat.ndim)))
    counts = mask.sum(tuple(range(n_batch, mask.ndim)))
    return counts.max() if counts.size else 0


def batches(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that batch axes of size 1 grow to."""
    return tuple(np.broadcast_shapes(*shapes))


def batched(fun: Callable[..., Any], n_batch: int, *args: Any) -> Any:
    """Apply a function over the leading axes of its arguments, axes of size 1 repeated."""
    if not n_batch:
        return fun(*args)
    shape = batches(*[x.shape[:n_batch] for x in args])
    args = tuple(fnp.broadcast_to(x, (*shape, *x.shape[n_batch:])) for x in args)
    return functools.reduce(lambda f, _: vmap(f), range(n_batch), fun)(*args)
