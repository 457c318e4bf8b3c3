"""COO, CSR and CSC: matrices without batches, as SciPy has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from funtorch import numpy as fnp
from funtorch.tree import register_pytree_node_class

from .base import JAXSparse
from .bcoo import BCOO
from .bcsr import BCSR

__all__ = [
    "COO",
    "CSC",
    "CSR",
    "coo_fromdense",
    "coo_matmat",
    "coo_matvec",
    "coo_todense",
    "csr_fromdense",
    "csr_matmat",
    "csr_matvec",
    "csr_todense",
]

_Matrix = TypeVar("_Matrix", bound="Matrix")


class Matrix(JAXSparse):
    """A sparse matrix of three arrays."""

    def __init__(self, args: tuple[Any, Any, Any], *, shape: Sequence[int], **flags: bool) -> None:
        for name, value in zip(self._parts, args, strict=True):
            setattr(self, name, fnp.asarray(value))
        self.shape = tuple(int(n) for n in shape)
        self._flags = tuple(sorted(flags.items()))

    @classmethod
    def fromdense(
        cls: type[_Matrix], mat: Any, *, nse: int | None = None, index_dtype: Any = np.int32
    ) -> _Matrix:
        """Store the elements of a matrix that are not zero."""
        return cls.from_bcoo(BCOO.fromdense(mat, nse=nse, index_dtype=index_dtype))

    @classmethod
    def from_bcoo(cls: type[_Matrix], mat: BCOO) -> _Matrix:
        """Take over a matrix of another format."""
        raise NotImplementedError(f"{cls.__name__}.from_bcoo")

    def to_bcoo(self) -> BCOO:
        """Return the matrix by coordinates."""
        raise NotImplementedError(f"{type(self).__name__}.to_bcoo")

    @classmethod
    def _empty(
        cls: type[_Matrix], shape: Sequence[int], *, dtype: Any = None, index_dtype: Any = "int32"
    ) -> _Matrix:
        if len(shape) != 2:
            raise ValueError(f"{cls.__name__} must have ndim=2; got shape={tuple(shape)}")
        return cls.from_bcoo(BCOO._empty(shape, dtype=dtype, index_dtype=index_dtype))

    @classmethod
    def _eye(
        cls: type[_Matrix], N: int, M: int, k: int, *, dtype: Any = None, index_dtype: Any = "int32"
    ) -> _Matrix:
        return cls.from_bcoo(BCOO._eye(N, M, k, dtype=dtype, index_dtype=index_dtype))

    def todense(self) -> Any:
        """Return the matrix with all its zeros."""
        return self.to_bcoo().todense()

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the arrays, and what is static."""
        return tuple(getattr(self, name) for name in self._parts), (self.shape, self._flags)

    @classmethod
    def tree_unflatten(
        cls: type[_Matrix], static: tuple[Any, ...], parts: Sequence[Any]
    ) -> _Matrix:
        """Build the matrix from what `tree_flatten` gave."""
        made = object.__new__(cls)
        for name, value in zip(cls._parts, parts, strict=True):
            setattr(made, name, value)
        made.shape, made._flags = static
        return made


@register_pytree_node_class
class COO(Matrix):
    """A sparse matrix of values at (row, col). Name as in JAX.

    Args:
        args: ``(data, row, col)``, arrays of shape ``(nse,)``.
        shape: shape of the matrix.
        flags: ``rows_sorted``, ``cols_sorted``: what is known of the order.

    Example:
        >>> import funtorch.numpy as fnp
        >>> COO.fromdense(fnp.array([[0, 1], [2, 0]])).col
        Array([1, 0], dtype=int32)
    """

    row: Any
    col: Any
    _parts = ("data", "row", "col")

    @classmethod
    def from_bcoo(cls, mat: BCOO) -> COO:
        """Take over a matrix of another format."""
        return cls(
            (mat.data, mat.indices[:, 0], mat.indices[:, 1]),
            shape=mat.shape,
            rows_sorted=mat.indices_sorted,
        )

    def to_bcoo(self) -> BCOO:
        """Return the matrix as BCOO."""
        return BCOO((self.data, fnp.stack([self.row, self.col], -1)), shape=self.shape)

    def _sort_indices(self) -> COO:
        return COO.from_bcoo(self.to_bcoo().sort_indices())

    def transpose(self, axes: Sequence[int] | None = None) -> COO:
        """Return the transposed matrix."""
        return COO((self.data, self.col, self.row), shape=self.shape[::-1])


@register_pytree_node_class
class CSR(Matrix):
    """A sparse matrix by rows. Name as in JAX.

    Args:
        args: ``(data, indices, indptr)``: values, their columns, where each row begins.
        shape: shape of the matrix.

    Example:
        >>> import funtorch.numpy as fnp
        >>> CSR.fromdense(fnp.array([[0, 1], [2, 0]])).indptr
        Array([0, 1, 2], dtype=int32)
    """

    indices: Any
    indptr: Any
    _parts = ("data", "indices", "indptr")

    @classmethod
    def from_bcoo(cls, mat: BCOO) -> CSR:
        """Take over a matrix of another format."""
        made = BCSR.from_bcoo(mat)
        return cls((made.data, made.indices, made.indptr), shape=mat.shape)

    def to_bcoo(self) -> BCOO:
        """Return the matrix by coordinates."""
        return BCSR((self.data, self.indices, self.indptr), shape=self.shape).to_bcoo()

    def transpose(self, axes: Sequence[int] | None = None) -> CSC:
        """Return the transposed matrix, by columns."""
        return CSC((self.data, self.indices, self.indptr), shape=self.shape[::-1])


@register_pytree_node_class
class CSC(Matrix):
    """A sparse matrix by columns. Name as in JAX.

    Args:
        args: ``(data, indices, indptr)``: values, their rows, where each column begins.
        shape: shape of the matrix.

    Example:
        >>> import funtorch.numpy as fnp
        >>> CSC.fromdense(fnp.array([[0, 1], [2, 0]])).data
        Array([2, 1], dtype=int32)
    """

    indices: Any
    indptr: Any
    _parts = ("data", "indices", "indptr")

    @classmethod
    def from_bcoo(cls, mat: BCOO) -> CSC:
        """Take over a matrix of another format."""
        made = BCSR.from_bcoo(mat.T)
        return cls((made.data, made.indices, made.indptr), shape=mat.shape)

    def to_bcoo(self) -> BCOO:
        """Return the matrix by coordinates."""
        return BCSR((self.data, self.indices, self.indptr), shape=self.shape[::-1]).to_bcoo().T

    def transpose(self, axes: Sequence[int] | None = None) -> CSR:
        """Return the transposed matrix, by rows."""
        return CSR((self.data, self.indices, self.indptr), shape=self.shape[::-1])


def coo_fromdense(mat: Any, *, nse: int | None = None, index_dtype: Any = np.int32) -> COO:
    """Store the elements of a matrix that are not zero.

    Example:
        >>> coo_fromdense(np.eye(2)).nse
        2
    """
    return COO.fromdense(mat, nse=nse, index_dtype=index_dtype)


def csr_fromdense(mat: Any, *, nse: int | None = None, index_dtype: Any = np.int32) -> CSR:
    """Store the elements of a matrix that are not zero, by rows.

    Example:
        >>> csr_fromdense(np.eye(2)).nse
        2
    """
    return CSR.fromdense(mat, nse=nse, index_dtype=index_dtype)


def _todense(mat: Matrix) -> Any:
    """Return a sparse matrix with all its zeros."""
    return mat.todense()


def _product(mat: Matrix, other: Any, transpose: bool = False) -> Any:
    """Multiply a sparse matrix, or its transpose, by a vector or matrix."""
    return (mat.to_bcoo().T if transpose else mat.to_bcoo()) @ fnp.asarray(other)


coo_todense = csr_todense = _todense
coo_matvec = csr_matvec = coo_matmat = csr_matmat = _product
