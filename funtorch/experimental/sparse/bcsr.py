"""BCSR: batched matrices of values, their columns, and where each row begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch import lax
from funtorch import numpy as fnp
from funtorch.tree import register_pytree_node_class

from .base import BatchedSparse, batched
from .bcoo import (
    BCOO,
    bcoo_eliminate_zeros,
    bcoo_fromdense,
    bcoo_sort_indices,
    bcoo_sum_duplicates,
    extract,
    follow,
)
from .products import bcoo_dot_general
from .structure import bcoo_broadcast_in_dim, bcoo_concatenate

__all__ = [
    "BCSR",
    "bcsr_broadcast_in_dim",
    "bcsr_concatenate",
    "bcsr_dot_general",
    "bcsr_extract",
    "bcsr_fromdense",
    "bcsr_sum_duplicates",
    "bcsr_todense",
]


def rows_of(indptr: Any, nse: int) -> Any:
    """Return the row of each stored element; elements behind the last row get the row count."""
    at = fnp.arange(nse, dtype=indptr.dtype)
    return fnp.searchsorted(indptr[1:], at, side="right").astype(indptr.dtype)


def starts_of(rows: Any, count: int, dtype: Any) -> Any:
    """Return where each of so many rows begins, and where the last one ends."""
    counts = fnp.zeros(count, dtype).at[rows].add(fnp.ones_like(rows, dtype), mode="drop")
    return fnp.concatenate([fnp.zeros(1, dtype), fnp.cumsum(counts, dtype=dtype)])


@register_pytree_node_class
class BCSR(BatchedSparse):
    """A sparse matrix by rows, in batches. Name as in JAX.

    Args:
        args: ``(data, indices, indptr)``: values of shape ``(*batch, nse, *dense)``, their columns,
            ``(*batch, nse)``, and where the elements of each row begin, ``(*batch, rows + 1)``.
        shape: shape of the array: batch axes, two sparse ones, dense axes.
        indices_sorted: whether the columns of each row are in order.
        unique_indices: whether no place occurs twice.

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> M = BCSR.fromdense(fnp.array([[0.0, 2.0, 0.0], [1.0, 0.0, 4.0]]))
        >>> M
        BCSR(float32[2, 3], nse=3)
        >>> M.indptr
        Array([0, 1, 3], dtype=int32)
    """

    indices: Any
    indptr: Any
    indices_sorted: bool
    unique_indices: bool
    _parts = ("data", "indices", "indptr")

    def __init__(
        self,
        args: tuple[Any, Any, Any],
        *,
        shape: Sequence[int],
        indices_sorted: bool = False,
        unique_indices: bool = False,
    ) -> None:
        self.data, self.indices, self.indptr = map(fnp.asarray, args)
        self.shape = tuple(int(n) for n in shape)
        self.indices_sorted, self.unique_indices = indices_sorted, unique_indices
        n_batch = self.n_batch
        if len(self.shape) < n_batch + 2:
            raise ValueError(
                f"BCSR array must have 2 sparse dimensions; {len(self.shape) - n_batch} is given."
            )
        if self.indptr.shape[n_batch:] != (self.shape[n_batch] + 1,):
            raise ValueError(
                f"BCSR: indptr shape must match the matrix shape plus 1: it is {self.indptr.shape} "
                f"for {self.shape[n_batch]} rows"
            )
        wanted = (self.nse, *self.shape[n_batch + 2 :])
        if self.data.shape[n_batch:] != wanted:
            raise ValueError(
                f"BCSR: data has shape {self.data.shape}; behind {n_batch} batch axes "
                f"it must be {wanted}"
            )
        for name in self._parts:
            found = getattr(self, name).shape[:n_batch]
            if any(s not in (1, n) for s, n in zip(found, self.shape, strict=False)):
                raise ValueError(
                    f"{name} batch dimensions not compatible for {name}.shape="
                    f"{getattr(self, name).shape}, shape={self.shape}"
                )

    @property
    def nse(self) -> int:
        """How many elements each batch stores."""
        return self.indices.shape[-1]

    @property
    def n_batch(self) -> int:
        """How many leading axes are batch axes."""
        return self.indices.ndim - 1

    @property
    def n_sparse(self) -> int:
        """How many axes are sparse: two."""
        return 2

    @classmethod
    def fromdense(
        cls,
        mat: Any,
        *,
        nse: int | None = None,
        index_dtype: Any = np.int32,
        n_dense: int = 0,
        n_batch: int = 0,
    ) -> BCSR:
        """Store the elements of an array that are not zero; see `bcsr_fromdense`."""
        return bcsr_fromdense(
            mat, nse=nse, index_dtype=index_dtype, n_dense=n_dense, n_batch=n_batch
        )

    @classmethod
    def from_bcoo(cls, arr: BCOO) -> BCSR:
        """Return a `BCOO` array with two sparse axes by rows."""
        if arr.n_sparse != 2:
            raise NotImplementedError(
                f"BCSR.from_bcoo requires n_sparse=2; got n_sparse={arr.n_sparse}"
            )
        arr = arr if arr.indices_sorted else bcoo_sort_indices(arr)
        rows, dtype = arr.shape[arr.n_batch], arr.indices.dtype
        indptr = batched(lambda r: starts_of(r, rows, dtype), arr.n_batch, arr.indices[..., 0])
        return cls(
            (arr.data, arr.indices[..., 1], indptr),
            shape=arr.shape,
            indices_sorted=True,
            unique_indices=arr.unique_indices,
        )

    @classmethod
    def from_scipy_sparse(
        cls, mat: Any, *, index_dtype: Any = None, n_dense: int = 0, n_batch: int = 0
    ) -> BCSR:
        """Take over a matrix of scipy.sparse."""
        if n_dense or n_batch:
            raise NotImplementedError("BCSR.from_scipy_sparse: n_dense and n_batch must be 0")
        mat, dtype = mat.tocsr(), index_dtype or np.int32
        parts = fnp.asarray(mat.indices, dtype), fnp.asarray(mat.indptr, dtype)
        return cls((fnp.asarray(mat.data), *parts), shape=mat.shape)

    @classmethod
    def _empty(
        cls,
        shape: Sequence[int],
        *,
        dtype: Any = None,
        index_dtype: Any = "int32",
        n_dense: int = 0,
        n_batch: int = 0,
        nse: int = 0,
    ) -> BCSR:
        if len(shape) - n_dense - n_batch != 2 or min(n_dense, n_batch, nse) < 0:
            raise ValueError(
                f"BCSR sparse.empty: must have 2 sparse dimensions, got {shape=}, "
                f"{n_dense=}, {n_batch=}"
            )
        batch, dense = shape[:n_batch], shape[n_batch + 2 :]
        data = fnp.zeros((*batch, nse, *dense), dtype)
        indices = fnp.full((*batch, nse), shape[n_batch + 1], index_dtype)
        indptr = fnp.zeros((*batch, shape[n_batch] + 1), index_dtype)
        return cls((data, indices, indptr), shape=shape)

    def to_bcoo(self) -> BCOO:
        """Return the array by coordinates."""
        n_batch, nse = self.n_batch, self.nse
        rows = batched(lambda p: rows_of(p, nse), n_batch, self.indptr)
        batch = np.broadcast_shapes(rows.shape[:-1], self.indices.shape[:-1])
        rows, columns = (fnp.broadcast_to(x, (*batch, nse)) for x in (rows, self.indices))
        return BCOO(
            (self.data, fnp.stack([rows.astype(columns.dtype), columns], -1)),
            shape=self.shape,
            indices_sorted=self.indices_sorted,
            unique_indices=self.unique_indices,
        )

    def sum_duplicates(self, nse: int | None = None, remove_zeros: bool = True) -> BCSR:
        """Return the array with the values at equal places added, and places in order."""
        reduce = bcoo_eliminate_zeros if remove_zeros else bcoo_sum_duplicates
        return BCSR.from_bcoo(reduce(self.to_bcoo(), nse=nse))

    def todense(self) -> Any:
        """Return the array with all its zeros."""
        return self.to_bcoo().todense()

    def transpose(self, axes: Sequence[int] | None = None) -> Any:
        """Raise: rows do not become columns in place; convert by `to_bcoo` first."""
        raise NotImplementedError("Tranpose is not implemented for BCSR: use to_bcoo().transpose()")

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the arrays, and what is static."""
        return (self.data, self.indices, self.indptr), (
            self.shape,
            self.indices_sorted,
            self.unique_indices,
            getattr(self.indices, "ndim", 1) - 1,
        )

    @classmethod
    def tree_unflatten(cls, static: tuple[Any, ...], children: Sequence[Any]) -> BCSR:
        """Build the array from what `tree_flatten` gave; batch axes follow those of the arrays."""
        made = object.__new__(cls)
        made.data, made.indices, made.indptr = children
        shape, made.indices_sorted, made.unique_indices, n_batch = static
        made.shape = follow(shape, n_batch, made.data, made.indices, 1)
        return made


def bcsr_fromdense(
    mat: Any,
    *,
    nse: int | None = None,
    n_batch: int = 0,
    n_dense: int = 0,
    index_dtype: Any = np.int32,
) -> BCSR:
    """Store the elements of an array that are not zero, by rows.

    Args:
        mat: the array, with two axes that are neither batch nor dense ones.
        nse: how many elements each batch stores; None counts them.
        n_batch: how many leading axes are batch axes.
        n_dense: how many trailing axes are dense.
        index_dtype: dtype of the places.

    Raises:
        ValueError: the number of sparse axes is not 2.

    Example:
        >>> import funtorch.numpy as fnp
        >>> bcsr_fromdense(fnp.array([[0, 1], [0, 2]])).indices
        Array([1, 1], dtype=int32)
    """
    mat = fnp.asarray(mat)
    if mat.ndim - n_batch - n_dense != 2:
        raise ValueError(
            "bcsr_fromdense: must have 2 sparse dimensions; "
            f"{mat.ndim - n_batch - n_dense} is given."
        )
    options: Any = {"nse": nse, "n_batch": n_batch, "n_dense": n_dense, "index_dtype": index_dtype}
    return BCSR.from_bcoo(bcoo_fromdense(mat, **options))


def bcsr_todense(mat: BCSR) -> Any:
    """Return a sparse array with all its zeros.

    Example:
        >>> import funtorch.numpy as fnp
        >>> bcsr_todense(BCSR.fromdense(fnp.array([[0, 1]])))
        Array([[0, 1]], dtype=int32)
    """
    return mat.todense()


def bcsr_extract(indices: Any, indptr: Any, mat: Any) -> Any:
    """Return the elements of a dense array at the places of a BCSR array.

    Args:
        indices: columns, shape ``(*batch, nse)``.
        indptr: where rows begin, ``(*batch, rows + 1)``.
        mat: a dense array.

    Example:
        >>> import funtorch.numpy as fnp
        >>> bcsr_extract(fnp.array([1]), fnp.array([0, 1]), fnp.array([[5, 6]]))
        Array([6], dtype=int32)
    """
    indices, indptr, mat = map(fnp.asarray, (indices, indptr, mat))
    rows = batched(lambda p: rows_of(p, indices.shape[-1]), indices.ndim - 1, indptr)
    return extract(fnp.stack([rows.astype(indices.dtype), indices], -1), mat)


def bcsr_dot_general(
    lhs: Any,
    rhs: Any,
    *,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> Any:
    """Contract two arrays, one of them sparse, as `lax.dot_general` does.

    Args:
        lhs, rhs: arrays, one of them `BCSR`.
        dimension_numbers: ``((lhs contracting, rhs contracting), (lhs batch, rhs batch))``.
        precision, out_sharding: taken for JAX's sake.
        preferred_element_type: dtype of the result.

    Example:
        >>> import funtorch.numpy as fnp
        >>> M = BCSR.fromdense(fnp.array([[0.0, 2.0], [1.0, 0.0]]))
        >>> bcsr_dot_general(M, fnp.array([1.0, 3.0]), dimension_numbers=(([1], [0]), ([], [])))
        Array([6., 1.], dtype=float32)
    """
    lhs, rhs = (x.to_bcoo() if isinstance(x, BCSR) else x for x in (lhs, rhs))
    if not isinstance(lhs, BCOO) and not isinstance(rhs, BCOO):
        return lax.dot_general(lhs, rhs, dimension_numbers)
    return bcoo_dot_general(
        lhs, rhs, dimension_numbers=dimension_numbers, preferred_element_type=preferred_element_type
    )


def bcsr_sum_duplicates(mat: BCSR, nse: int | None = None) -> BCSR:
    """Return a sparse array with the values at equal places added, as `bcoo_sum_duplicates`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> bcsr_sum_duplicates(BCSR.fromdense(fnp.eye(2))).nse
        2
    """
    return mat.sum_duplicates(nse, remove_zeros=False)


def bcsr_broadcast_in_dim(
    mat: BCSR, *, shape: Sequence[int], broadcast_dimensions: Sequence[int], sharding: Any = None
) -> BCSR:
    """Return a sparse array with new and grown axes, as `bcoo_broadcast_in_dim` does.

    Example:
        >>> import funtorch.numpy as fnp
        >>> M = BCSR.fromdense(fnp.eye(2))
        >>> bcsr_broadcast_in_dim(M, shape=(3, 2, 2), broadcast_dimensions=(1, 2)).shape
        (3, 2, 2)
    """
    made = bcoo_broadcast_in_dim(
        mat.to_bcoo(), shape=shape, broadcast_dimensions=broadcast_dimensions
    )
    return BCSR.from_bcoo(made)


def bcsr_concatenate(operands: Sequence[BCSR], *, dimension: int) -> BCSR:
    """Join sparse arrays of one layout along an axis.

    Example:
        >>> import funtorch.numpy as fnp
        >>> M = BCSR.fromdense(fnp.eye(2))
        >>> bcsr_concatenate([M, M], dimension=0).shape
        (4, 2)
    """
    return BCSR.from_bcoo(bcoo_concatenate([x.to_bcoo() for x in operands], dimension=dimension))
