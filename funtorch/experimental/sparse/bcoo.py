"""BCOO: batched arrays of values and their coordinates."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funtorch import dtypes, lax
from funtorch import numpy as fnp
from funtorch.core import Tracer
from funtorch.tree import register_pytree_node_class

from .base import (
    BatchedSparse,
    SparseEfficiencyError,
    SparseEfficiencyWarning,
    batched,
    batches,
    count_stored,
    static,
)

__all__ = [
    "BCOO",
    "bcoo_eliminate_zeros",
    "bcoo_extract",
    "bcoo_fromdense",
    "bcoo_sort_indices",
    "bcoo_sum_duplicates",
    "bcoo_todense",
    "bcoo_update_layout",
]


class Layout(NamedTuple):
    """How many axes are of which kind, and how many elements are stored."""

    n_batch: int
    n_sparse: int
    n_dense: int
    nse: int


def layout_of(data: Any, indices: Any, shape: Sequence[int]) -> Layout:
    """Return the layout of a BCOO array, or raise the error that says what does not fit."""
    if not dtypes.is_integer(indices.dtype):
        raise TypeError(f"BCOO: indices must be integers, got {indices.dtype}")
    if indices.ndim < 2:
        raise ValueError(
            f"BCOO: indices must have shape (*batch, nse, n_sparse), got {indices.shape}"
        )
    n_batch, (nse, n_sparse) = indices.ndim - 2, indices.shape[-2:]
    n_dense = len(shape) - n_batch - n_sparse
    if n_dense < 0:
        raise ValueError(
            f"BCOO: indices of shape {indices.shape} name {n_batch} batch and {n_sparse} sparse "
            f"axes, the array has shape {tuple(shape)}"
        )
    for name, x in (("data", data), ("indices", indices)):
        if len(x.shape) < n_batch or any(
            s not in (1, n) for s, n in zip(x.shape[:n_batch], shape[:n_batch], strict=True)
        ):
            raise ValueError(
                f"BCOO: {name} batch dimensions not compatible: {name} has shape {x.shape}, "
                f"the array {tuple(shape)}"
            )
    wanted = (nse, *shape[n_batch + n_sparse :])
    if tuple(data.shape[n_batch:]) != tuple(wanted):
        raise ValueError(
            f"BCOO: data has shape {data.shape}; behind {n_batch} batch axes it must be {wanted}: "
            "the number of indices, and the dense axes"
        )
    return Layout(n_batch, n_sparse, n_dense, nse)


@register_pytree_node_class
class BCOO(BatchedSparse):
    """A sparse array of values at coordinates, in batches. Name as in JAX.

    Args:
        args: ``(data, indices)``: values of shape ``(*batch, nse, *dense)``, and their places in
            the sparse axes, integers of shape ``(*batch, nse, n_sparse)``. Values at equal places
            are added; those whose place is beyond the shape count for nothing.
        shape: shape of the array: batch, sparse and dense axes in this order.
        indices_sorted: whether places are in order.
        unique_indices: whether no place occurs twice.

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> M = BCOO.fromdense(fnp.array([[0.0, 2.0, 0.0], [1.0, 0.0, 4.0]]))
        >>> M
        BCOO(float32[2, 3], nse=3)
        >>> M @ fnp.array([1.0, 1.0, 1.0])
        Array([2., 5.], dtype=float32)
    """

    indices: Any
    indices_sorted: bool
    unique_indices: bool
    _parts = ("data", "indices")

    def __init__(
        self,
        args: tuple[Any, Any],
        *,
        shape: Sequence[int],
        indices_sorted: bool = False,
        unique_indices: bool = False,
    ) -> None:
        self.data, self.indices = map(fnp.asarray, args)
        self.shape = tuple(int(n) for n in shape)
        self.indices_sorted, self.unique_indices = indices_sorted, unique_indices
        layout_of(self.data, self.indices, self.shape)

    @property
    def nse(self) -> int:
        """How many elements each batch stores."""
        return self.indices.shape[-2]

    @property
    def n_batch(self) -> int:
        """How many leading axes are batch axes."""
        return self.indices.ndim - 2

    @property
    def n_sparse(self) -> int:
        """How many axes are sparse."""
        return self.indices.shape[-1]

    @property
    def layout(self) -> Layout:
        """How many axes are of which kind, and how many elements are stored."""
        return Layout(self.n_batch, self.n_sparse, self.n_dense, self.nse)

    @classmethod
    def fromdense(
        cls,
        mat: Any,
        *,
        nse: int | None = None,
        index_dtype: Any = np.int32,
        n_dense: int = 0,
        n_batch: int = 0,
    ) -> BCOO:
        """Store the elements of an array that are not zero; see `bcoo_fromdense`."""
        return bcoo_fromdense(
            mat, nse=nse, index_dtype=index_dtype, n_dense=n_dense, n_batch=n_batch
        )

    @classmethod
    def from_scipy_sparse(
        cls, mat: Any, *, index_dtype: Any = None, n_dense: int = 0, n_batch: int = 0
    ) -> BCOO:
        """Take over a matrix of scipy.sparse."""
        if n_dense or n_batch:
            raise NotImplementedError("BCOO.from_scipy_sparse: n_dense and n_batch must be 0")
        mat = mat.tocoo()
        indices = fnp.asarray(np.column_stack((mat.row, mat.col)), index_dtype or np.int32)
        return cls((fnp.asarray(mat.data), indices), shape=mat.shape)

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
    ) -> BCOO:
        n_sparse = len(shape) - n_dense - n_batch
        if min(n_sparse, n_dense, n_batch, nse) < 0:
            raise ValueError(
                f"empty: {n_batch} batch and {n_dense} dense axes, {nse} elements do not go into "
                f"shape {tuple(shape)}"
            )
        batch, sparse = shape[:n_batch], shape[n_batch : n_batch + n_sparse]
        data = fnp.zeros((*batch, nse, *shape[n_batch + n_sparse :]), dtype)
        places = fnp.broadcast_to(fnp.asarray(sparse, index_dtype), (*batch, nse, n_sparse))
        return cls((data, places), shape=shape, indices_sorted=True, unique_indices=True)

    @classmethod
    def _eye(
        cls,
        N: int,
        M: int,
        k: int,
        *,
        dtype: Any = None,
        index_dtype: Any = "int32",
        n_batch: int = 0,
        n_dense: int = 0,
    ) -> BCOO:
        if min(2 - n_batch - n_dense, n_dense, n_batch) < 0:
            raise ValueError(f"eye: a matrix has no {n_batch} batch and {n_dense} dense axes")
        count = min(N, M - k) if k > 0 else min(N + k, M)
        options: Any = {"dtype": dtype, "index_dtype": index_dtype}
        if count <= 0:
            return cls._empty((N, M), n_batch=n_batch, n_dense=n_dense, **options)
        if n_batch or n_dense:
            mat = fnp.eye(N, M, k, dtype=dtype)
            return cls.fromdense(mat, n_batch=n_batch, n_dense=n_dense, index_dtype=index_dtype)
        at = np.arange(count)
        places = np.column_stack((at - min(k, 0), at + max(k, 0)))
        return cls(
            (fnp.ones(count, dtype), fnp.asarray(places, index_dtype)),
            shape=(N, M),
            indices_sorted=True,
            unique_indices=True,
        )

    def update_layout(
        self,
        *,
        n_batch: int | None = None,
        n_dense: int | None = None,
        on_inefficient: str | None = "error",
    ) -> BCOO:
        """Return the array with other numbers of batch and dense axes."""
        return bcoo_update_layout(
            self, n_batch=n_batch, n_dense=n_dense, on_inefficient=on_inefficient
        )

    def sum_duplicates(self, nse: int | None = None, remove_zeros: bool = True) -> BCOO:
        """Return the array with the values at equal places added, and places in order."""
        reduce = bcoo_eliminate_zeros if remove_zeros else bcoo_sum_duplicates
        return reduce(self, nse=nse)

    def sort_indices(self) -> BCOO:
        """Return the array with places in order."""
        return bcoo_sort_indices(self)

    def todense(self) -> Any:
        """Return the array with all its zeros."""
        return bcoo_todense(self)

    def tree_flatten(self) -> tuple[tuple[Any, Any], tuple[Any, ...]]:
        """Return the arrays, and what is static."""
        return (self.data, self.indices), (
            self.shape,
            self.indices_sorted,
            self.unique_indices,
            getattr(self.indices, "ndim", 2) - 2,
        )

    @classmethod
    def tree_unflatten(cls, static: tuple[Any, ...], children: Sequence[Any]) -> BCOO:
        """Build the array from what `tree_flatten` gave; batch axes follow those of the arrays."""
        made = object.__new__(cls)
        made.data, made.indices = children
        shape, made.indices_sorted, made.unique_indices, n_batch = static
        made.shape = follow(shape, n_batch, made.data, made.indices, 2)
        return made


def follow(
    shape: tuple[int, ...], n_batch: int, data: Any, indices: Any, fixed: int
) -> tuple[int, ...]:
    """Return the shape of an array whose buffers lost or gained batch axes, as under vmap.

    ``fixed`` is how many axes of the indices are no batch axes.
    """
    if not (hasattr(data, "shape") and hasattr(indices, "shape")):
        return shape
    found = len(indices.shape) - fixed
    if found == n_batch or found < 0 or len(data.shape) < found:
        return shape
    return (*batches(data.shape[:found], indices.shape[:found]), *shape[n_batch:])


def like(mat: BCOO, data: Any, **changes: Any) -> BCOO:
    """Return an array with other values at the places of one."""
    options = {
        "shape": mat.shape,
        "indices_sorted": mat.indices_sorted,
        "unique_indices": mat.unique_indices,
    }
    return BCOO((data, mat.indices), **{**options, **changes})


def whole(mat: BCOO) -> tuple[Any, Any]:
    """Return data and indices with batch axes of full size."""
    batch = mat.shape[: mat.n_batch]
    return tuple(
        fnp.broadcast_to(x, (*batch, *x.shape[mat.n_batch :])) for x in (mat.data, mat.indices)
    )  # type: ignore[return-value]


def coordinates(indices: Any, n_batch: int, batch: Sequence[int]) -> tuple[Any, ...]:
    """Return index arrays, one per batch axis and per sparse axis, of shape (*batch, nse)."""
    shape = tuple(batch)
    grids = tuple(
        lax.broadcasted_iota(indices.dtype, (*shape, 1), k) if shape[k] else fnp.zeros((*shape, 1))
        for k in range(n_batch)
    )
    return (*grids, *[indices[..., k] for k in range(indices.shape[-1])])


# ------------------------------------------------------------------------------ to and from dense
def bcoo_todense(mat: BCOO) -> Any:
    """Return a sparse array with all its zeros.

    Example:
        >>> import funtorch.numpy as fnp
        >>> bcoo_todense(BCOO.fromdense(fnp.array([0, 3, 0])))
        Array([0, 3, 0], dtype=int32)
    """
    n_batch, n_sparse, _, nse = mat.layout
    data, indices = whole(mat)
    if not n_sparse:
        return data.sum(n_batch, dtype=data.dtype)
    if not nse or 0 in mat.shape[:n_batch]:
        return fnp.zeros(mat.shape, data.dtype)
    at = coordinates(indices, n_batch, mat.shape[:n_batch])
    zeros = fnp.zeros(mat.shape, data.dtype)
    if data.dtype == dtypes.bool_:
        return zeros.at[at].max(data, mode="drop")
    return zeros.at[at].add(data, mode="drop")


def extract(indices: Any, arr: Any) -> Any:
    """Return the elements of a dense array at places, 0 for places beyond it."""
    n_batch, n_sparse = indices.ndim - 2, indices.shape[-1]
    batch = arr.shape[:n_batch]
    if not n_sparse:
        data = fnp.expand_dims(arr, n_batch)
        shape = (*batch, indices.shape[-2], *arr.shape[n_batch:])
        return fnp.broadcast_to(data, shape)
    indices = fnp.broadcast_to(indices, (*batch, *indices.shape[n_batch:]))
    if 0 in (*batch, indices.shape[-2]) or 0 in arr.shape:
        shape = (*batch, indices.shape[-2], *arr.shape[n_batch + n_sparse :])
        return fnp.zeros(shape, arr.dtype)
    at = coordinates(indices, n_batch, batch)
    return arr.at[at].get(mode="fill", fill_value=0)


def bcoo_fromdense(
    mat: Any,
    *,
    nse: int | None = None,
    n_batch: int = 0,
    n_dense: int = 0,
    index_dtype: Any = np.int32,
) -> BCOO:
    """Store the elements of an array that are not zero.

    Args:
        mat: the array.
        nse: how many elements each batch stores; None counts them, which a traced array's values
            do not allow. Places that are left over are beyond the shape.
        n_batch: how many leading axes are batch axes.
        n_dense: how many trailing axes are dense: whole blocks of them are stored.
        index_dtype: dtype of the places.

    Returns:
        A `BCOO` array with places in order.

    Raises:
        TypeError: nse is not given, and the values are not known.

    Example:
        >>> import funtorch.numpy as fnp
        >>> bcoo_fromdense(fnp.array([[0.0, 1.0], [2.0, 0.0]])).indices
        Array([[0, 1],
               [1, 0]], dtype=int32)
    """
    mat = fnp.asarray(mat)
    counted = nse is None
    if counted:
        nse = count_stored(mat, n_batch, n_dense)
    nse = static(
        nse,
        "the number of nonzero elements, which depends on values (give nse= to fix it),"
        if counted
        else "nse of bcoo_fromdense",
    )
    sparse = mat.shape[n_batch : mat.ndim - n_dense]
    mask = mat != 0
    if n_dense:
        mask = mask.any(tuple(range(mat.ndim - n_dense, mat.ndim)))

    def places(one: Any) -> Any:
        if not sparse:
            return fnp.zeros((nse, 0), index_dtype)
        found = fnp.nonzero(one, size=nse, fill_value=sparse)
        return fnp.stack([f.astype(index_dtype) for f in found], -1)

    indices = batched(places, n_batch, mask)
    data = extract(indices, mat)
    if not sparse:  # one element at most: the others are zeros
        keep = fnp.arange(nse) < fnp.expand_dims(mask.astype(np.int32), n_batch)
        data = fnp.where(keep.reshape(keep.shape + (1,) * n_dense), data, 0)
    return BCOO(
        (data.astype(mat.dtype), indices), shape=mat.shape, indices_sorted=True, unique_indices=True
    )


def bcoo_extract(sparr: BCOO, arr: Any, *, assume_unique: bool | None = None) -> BCOO:
    """Return the elements of a dense array at the places of a sparse one.

    Args:
        sparr: the sparse array, whose values do not matter.
        arr: a dense array of its shape.
        assume_unique: whether no place occurs twice; None asks ``sparr``. Of places that occur
            more often the first one gets the value.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> import funtorch.numpy as fnp
        >>> bcoo_extract(BCOO.fromdense(fnp.array([0, 1, 1])), fnp.array([5, 6, 7])).data
        Array([6, 7], dtype=int32)
    """
    arr = fnp.asarray(arr)
    if arr.shape != sparr.shape:
        raise ValueError(f"bcoo_extract: arr has shape {arr.shape}, sparr {sparr.shape}")
    data = extract(sparr.indices, arr)
    if not (sparr.unique_indices if assume_unique is None else assume_unique):
        first = batched(_is_first, sparr.n_batch, sparr.indices)
        data = fnp.where(first.reshape(first.shape + (1,) * sparr.n_dense), data, 0)
    return like(sparr, data)


# ------------------------------------------------------------------------------------------- order
def _order(indices: Any) -> tuple[Any, Any]:
    """Sort the places of one batch; return them and where they were."""
    at = fnp.arange(indices.shape[0], dtype=np.int32)
    columns = [indices[:, k] for k in range(indices.shape[1])]
    *columns, at = lax.sort((*columns, at), num_keys=max(1, len(columns)))
    places = fnp.stack(columns, -1) if columns else indices
    return places, at


def _starts(places: Any) -> Any:
    """Tell which of sorted places differ from the one before."""
    differ = (places[1:] != places[:-1]).any(-1)
    return fnp.concatenate([fnp.ones((min(1, places.shape[0]),), bool), differ])


def _is_first(indices: Any) -> Any:
    places, at = _order(indices)
    return fnp.zeros(indices.shape[0], bool).at[at].set(_starts(places))


def bcoo_sort_indices(mat: BCOO) -> BCOO:
    """Return a sparse array with its places in order.

    Example:
        >>> import funtorch.numpy as fnp
        >>> bcoo_sort_indices(BCOO((fnp.array([1, 2]), fnp.array([[1], [0]])), shape=(2,))).data
        Array([2, 1], dtype=int32)
    """

    def one(data: Any, indices: Any) -> Any:
        places, at = _order(indices)
        return data[at], places

    data, indices = batched(one, mat.n_batch, mat.data, mat.indices)
    return BCOO(
        (data, indices), shape=mat.shape, indices_sorted=True, unique_indices=mat.unique_indices
    )


def bcoo_sum_duplicates(mat: BCOO, nse: int | None = None) -> BCOO:
    """Return a sparse array with the values at equal places added, and places in order.

    Args:
        mat: the array.
        nse: how many elements the result stores; None: as many as there are places, which the
            values of a traced array do not allow.

    Raises:
        ValueError: nse is not given, and the places are not known.

    Example:
        >>> import funtorch.numpy as fnp
        >>> M = BCOO((fnp.array([1, 2, 3]), fnp.array([[1], [0], [1]])), shape=(2,))
        >>> bcoo_sum_duplicates(M).data
        Array([2, 4], dtype=int32)
    """
    sparse = mat.shape[mat.n_batch : mat.n_batch + mat.n_sparse]
    limit = fnp.asarray(sparse, mat.indices.dtype)

    def valid(indices: Any) -> Any:
        return (indices < limit).all(-1)

    def count(indices: Any) -> Any:
        places, _ = _order(fnp.where(valid(indices)[:, None], indices, limit))
        return (_starts(places) & valid(places)).sum()

    if nse is None:
        if isinstance(mat.indices, Tracer) and mat.indices.concrete() is None:
            raise ValueError(
                "bcoo_sum_duplicates: nse must be specified when using the function within jit, "
                "vmap, and other transformations requiring abstract evaluation."
            )
        counts = batched(count, mat.n_batch, mat.indices)
        nse = int(counts.max()) if counts.size else 0
    total = static(nse, "nse of bcoo_sum_duplicates")
    if not mat.n_sparse:
        return _sum_scalars(mat, total)

    def one(data: Any, indices: Any) -> Any:
        places, at = _order(fnp.where(valid(indices)[:, None], indices, limit))
        group = fnp.cumsum(_starts(places).astype(np.int32)) - 1
        group = fnp.where(valid(places), group, total)
        shape = (total, *data.shape[1:])
        out = fnp.zeros(shape, data.dtype).at[group].add(data[at], mode="drop")
        kept = fnp.broadcast_to(limit, (total, places.shape[1]))
        return out, kept.at[group].set(places, mode="drop")

    data, indices = batched(one, mat.n_batch, mat.data, mat.indices)
    return BCOO((data, indices), shape=mat.shape, indices_sorted=True, unique_indices=True)


def _sum_scalars(mat: BCOO, nse: int) -> BCOO:
    """Sum the values of an array without sparse axes."""
    axis = mat.n_batch
    data = mat.data.sum(axis, keepdims=True, dtype=mat.data.dtype)
    rest = [(0, 0)] * data.ndim
    rest[axis] = (0, max(0, nse - 1))
    data = fnp.pad(data, rest)[(slice(None),) * axis + (slice(0, nse),)]
    indices = fnp.zeros((*mat.indices.shape[:-2], nse, 0), mat.indices.dtype)
    return BCOO((data, indices), shape=mat.shape, indices_sorted=True, unique_indices=True)


def bcoo_eliminate_zeros(mat: BCOO, nse: int | None = None) -> BCOO:
    """Return a sparse array without stored zeros, the values at equal places added.

    Args:
        mat: the array.
        nse: how many elements the result stores, as in `bcoo_sum_duplicates`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> bcoo_eliminate_zeros(BCOO((fnp.array([0, 2]), fnp.array([[1], [0]])), shape=(2,))).nse
        1
    """
    n_batch, n_sparse, n_dense, _ = mat.layout
    zero = mat.data == 0
    if n_dense:
        zero = zero.all(tuple(range(n_batch + 1, zero.ndim)))
    limit = fnp.asarray(mat.shape[n_batch : n_batch + n_sparse], mat.indices.dtype)
    indices = fnp.where(zero[..., None], limit, mat.indices)
    return bcoo_sum_duplicates(BCOO((mat.data, indices), shape=mat.shape), nse=nse)


# ------------------------------------------------------------------------------------------ layout
def _wasteful(how: str | None, text: str) -> None:
    message = f"bcoo_update_layout: {text}; pass on_inefficient=None or 'warn' to do it anyway"
    if how == "error":
        raise SparseEfficiencyError(message)
    if how == "warn":
        warnings.warn(message, SparseEfficiencyWarning, stacklevel=4)


def bcoo_update_layout(
    mat: BCOO,
    *,
    n_batch: int | None = None,
    n_dense: int | None = None,
    on_inefficient: str | None = "error",
) -> BCOO:
    """Return a sparse array with other numbers of batch and dense axes.

    Args:
        mat: the array.
        n_batch: how many batch axes; None keeps their number.
        n_dense: how many dense axes; None keeps their number.
        on_inefficient: what to do where more has to be stored than before: 'error', 'warn' or None.

    Raises:
        SparseEfficiencyError: more has to be stored, and `on_inefficient` is 'error'.
        ValueError: the numbers do not go into the array's axes.

    Example:
        >>> import funtorch.numpy as fnp
        >>> M = BCOO.fromdense(fnp.eye(3), n_batch=1)
        >>> bcoo_update_layout(M, n_batch=0)
        BCOO(float32[3, 3], nse=3)
    """
    n_batch = mat.n_batch if n_batch is None else static(n_batch, "n_batch")
    n_dense = mat.n_dense if n_dense is None else static(n_dense, "n_dense")
    if on_inefficient not in ("error", "warn", None):
        raise ValueError(
            f"on_inefficient must be one of ['error', 'warn', None], got {on_inefficient!r}"
        )
    if n_batch < 0 or n_dense < 0 or n_batch + n_dense > mat.ndim:
        raise ValueError(
            f"bcoo_update_layout: n_batch={n_batch} and n_dense={n_dense} must not be negative, "
            f"nor more than the {mat.ndim} axes of the array together"
        )
    while mat.n_dense > n_dense:
        mat = _dense_to_sparse(mat)
    while mat.n_batch > n_batch:
        mat = _batch_to_sparse(mat)
    while mat.n_dense < n_dense:
        _wasteful(on_inefficient, "more dense axes store whole blocks for each element")
        mat = _sparse_to_dense(mat)
    while mat.n_batch < n_batch:
        if mat.shape[mat.n_batch] > 1:
            _wasteful(on_inefficient, "more batch axes store all elements in each batch")
        mat = _sparse_to_batch(mat)
    return mat


def _dense_to_sparse(mat: BCOO) -> BCOO:
    """Make the first dense axis the last sparse one."""
    n_batch, n_sparse, _, nse = mat.layout
    size = mat.shape[n_batch + n_sparse]
    data = mat.data.reshape(*mat.data.shape[:n_batch], nse * size, *mat.data.shape[n_batch + 2 :])
    batch = mat.indices.shape[:n_batch]
    wide = fnp.broadcast_to(mat.indices[..., None, :], (*batch, nse, size, n_sparse))
    last = lax.broadcasted_iota(mat.indices.dtype, (*batch, nse, size, 1), n_batch + 1)
    indices = fnp.concatenate([wide, last], -1).reshape(*batch, nse * size, n_sparse + 1)
    return BCOO(
        (data, indices),
        shape=mat.shape,
        indices_sorted=mat.indices_sorted,
        unique_indices=mat.unique_indices,
    )


def _batch_to_sparse(mat: BCOO) -> BCOO:
    """Make the last batch axis the first sparse one."""
    n_batch, n_sparse, _, nse = mat.layout
    axis = n_batch - 1
    size = mat.shape[axis]

    def grown(x: Any) -> Any:
        return fnp.broadcast_to(x, (*x.shape[:axis], size, *x.shape[n_batch:]))

    data, indices = grown(mat.data), grown(mat.indices)
    first = lax.broadcasted_iota(indices.dtype, (*indices.shape[:-1], 1), axis)
    indices = fnp.concatenate([first, indices], -1)
    data = data.reshape(*data.shape[:axis], size * nse, *data.shape[n_batch + 1 :])
    indices = indices.reshape(*indices.shape[:axis], size * nse, n_sparse + 1)
    return BCOO(
        (data, indices),
        shape=mat.shape,
        indices_sorted=mat.indices_sorted,
        unique_indices=mat.unique_indices,
    )


def _sparse_to_dense(mat: BCOO) -> BCOO:
    """Make the last sparse axis the first dense one: each element becomes a block."""
    n_batch, n_sparse, _, _ = mat.layout
    size = mat.shape[n_batch + n_sparse - 1]
    data = fnp.expand_dims(mat.data, n_batch + 1)
    here = mat.indices[..., -1:] == fnp.arange(size, dtype=mat.indices.dtype)
    here = here.reshape(here.shape + (1,) * mat.n_dense)
    return BCOO((fnp.where(here, data, 0), mat.indices[..., :-1]), shape=mat.shape)


def _sparse_to_batch(mat: BCOO) -> BCOO:
    """Make the first sparse axis the last batch one: every batch stores all elements."""
    n_batch, n_sparse, _, nse = mat.layout
    size = mat.shape[n_batch]
    batch = mat.indices.shape[:n_batch]
    lane = fnp.arange(size, dtype=mat.indices.dtype).reshape((size, 1))
    here = fnp.expand_dims(mat.indices[..., 0], n_batch) == lane
    limit = fnp.asarray(mat.shape[n_batch + 1 : n_batch + n_sparse], mat.indices.dtype)
    rest = fnp.expand_dims(mat.indices[..., 1:], n_batch)
    indices = fnp.where(here[..., None], rest, limit)
    indices = fnp.broadcast_to(indices, (*batch, size, nse, n_sparse - 1))
    data = fnp.expand_dims(mat.data, n_batch)
    data = fnp.where(here.reshape(here.shape + (1,) * mat.n_dense), data, 0)
    return BCOO((data, indices), shape=mat.shape)
