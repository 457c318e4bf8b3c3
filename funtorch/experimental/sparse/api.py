"""Sparse arrays made from nothing, and at random."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from funtorch import dtypes, random
from funtorch import numpy as fnp
from funtorch.transforms import vmap

from .base import JAXSparse, static
from .bcoo import BCOO
from .bcsr import BCSR
from .coo import COO, CSC, CSR

__all__ = ["empty", "eye", "random_bcoo"]

_FORMATS: dict[str, Any] = {"bcsr": BCSR, "bcoo": BCOO, "coo": COO, "csr": CSR, "csc": CSC}


def _format(name: str, choices: Sequence[str]) -> Any:
    if name not in choices:
        raise ValueError(f"sparse_format={name!r} not recognized; must be one of {list(choices)}")
    return _FORMATS[name]


def empty(
    shape: Sequence[int],
    dtype: Any = None,
    index_dtype: Any = "int32",
    sparse_format: str = "bcoo",
    **kwds: Any,
) -> JAXSparse:
    """Return a sparse array of zeros, which stores nothing.

    Args:
        shape: its shape.
        dtype: dtype of the values; None: the default float.
        index_dtype: dtype of the places.
        sparse_format: 'bcoo', 'bcsr', 'coo', 'csr' or 'csc'.
        kwds: ``n_batch``, ``n_dense``, ``nse`` of the batched formats.

    Example:
        >>> empty((2, 3))
        BCOO(float32[2, 3], nse=0)
    """
    made = _format(sparse_format, list(_FORMATS))
    return made._empty(tuple(shape), dtype=dtype, index_dtype=index_dtype, **kwds)


def eye(
    N: int,
    M: int | None = None,
    k: int = 0,
    dtype: Any = None,
    index_dtype: Any = "int32",
    sparse_format: str = "bcoo",
    **kwds: Any,
) -> JAXSparse:
    """Return a sparse matrix with ones on a diagonal.

    Args:
        N, M: how many rows and columns; M is N if not given.
        k: which diagonal; those above the main one are positive.
        dtype: dtype of the values.
        index_dtype: dtype of the places.
        sparse_format: 'bcoo', 'coo', 'csr' or 'csc'.
        kwds: ``n_batch`` and ``n_dense`` of the batched format.

    Example:
        >>> eye(3)
        BCOO(float32[3, 3], nse=3)
    """
    made = _format(sparse_format, [name for name in _FORMATS if name != "bcsr"])
    N, k = static(N, "N"), static(k, "k")
    M = N if M is None else static(M, "M")
    return made._eye(N, M, k, dtype=dtype, index_dtype=index_dtype, **kwds)


def random_bcoo(
    key: Any,
    shape: Sequence[int],
    *,
    dtype: Any = None,
    indices_dtype: Any = None,
    nse: float = 0.2,
    n_batch: int = 0,
    n_dense: int = 0,
    unique_indices: bool = True,
    sorted_indices: bool = False,
    generator: Callable[..., Any] = random.uniform,
    **kwds: Any,
) -> BCOO:
    """Return a sparse array with random values at random places.

    Args:
        key: random key.
        shape: shape of the array.
        dtype: dtype of the values; None: the default float.
        indices_dtype: dtype of the places; None: the default integer.
        nse: how many elements each batch stores, or which part of all, below 1.
        n_batch, n_dense: how many batch and dense axes.
        unique_indices: whether no place occurs twice.
        sorted_indices: whether places are in order.
        generator: makes the values from a key, a shape and a dtype.
        kwds: more arguments of the generator.

    Raises:
        ValueError: numbers do not fit the shape.

    Example:
        >>> random_bcoo(random.key(0), (4, 5), nse=0.5)
        BCOO(float32[4, 5], nse=10)
    """
    shape = tuple(int(n) for n in shape)
    if n_batch < 0 or n_dense < 0 or n_batch + n_dense > len(shape):
        raise ValueError(f"random_bcoo: invalid {n_batch=}, {n_dense=} for {shape=}")
    n_sparse = len(shape) - n_batch - n_dense
    batch, sparse = shape[:n_batch], shape[n_batch : n_batch + n_sparse]
    size = math.prod(sparse)
    if not 0 <= nse < size:
        raise ValueError(f"random_bcoo: got {nse=}, expected to be between 0 and {size}")
    count = math.ceil(nse * size) if 0 < nse < 1 else int(nse)
    at_dtype = dtypes.default_int() if indices_dtype is None else dtypes.canonical(indices_dtype)

    def places(key: Any) -> Any:
        if not sparse:
            return fnp.zeros((count, 0), at_dtype)
        flat = random.choice(key, size, (count,), replace=not unique_indices).astype(at_dtype)
        return fnp.stack(fnp.unravel_index(flat, sparse), -1)

    keys = random.split(key, math.prod(batch) + 1)
    dtype = dtypes.default_float() if dtype is None else dtype
    data = generator(
        keys[0], shape=(*batch, count, *shape[n_batch + n_sparse :]), dtype=dtype, **kwds
    )
    indices = vmap(places)(keys[1:]).reshape(*batch, count, n_sparse)
    made = BCOO((data, indices.astype(at_dtype)), shape=shape)
    return made.sort_indices() if sorted_indices else made
