"""Products of BCOO arrays: with dense arrays, with each other, and sampled at places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from funtorch import dtypes, lax
from funtorch import numpy as fnp

from .base import JAXSparse, batched
from .bcoo import BCOO, bcoo_sum_duplicates, bcoo_update_layout, extract, like, whole

__all__ = [
    "bcoo_dot_general",
    "bcoo_dot_general_sampled",
    "bcoo_multiply_dense",
    "bcoo_multiply_sparse",
]

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def dot_numbers(dimension_numbers: Any, a: Any, b: Any, name: str) -> tuple[list[int], ...]:
    """Return checked contracting and batch axes of both operands, none of them negative."""
    (ca, cb), (ba, bb) = dimension_numbers
    found = tuple(
        [d % max(1, len(x.shape)) for d in map(int, axes)]
        for axes, x in ((ca, a), (cb, b), (ba, a), (bb, b))
    )
    for one, other in ((found[0], found[1]), (found[2], found[3])):
        sizes = [a.shape[d] for d in one], [b.shape[d] for d in other]
        if sizes[0] != sizes[1]:
            raise TypeError(
                f"{name}: axes {one} of shape {tuple(a.shape)} and {other} of shape "
                f"{tuple(b.shape)} must have equal sizes, got {sizes[0]} and {sizes[1]}"
            )
    return found


def bcoo_dot_general(
    lhs: Any,
    rhs: Any,
    *,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> Any:
    """Contract two arrays, one or both of them sparse, as `lax.dot_general` does.

    Args:
        lhs, rhs: `BCOO` arrays, or one of them an array.
        dimension_numbers: ``((lhs contracting, rhs contracting), (lhs batch, rhs batch))``.
        precision, out_sharding: taken for JAX's sake.
        preferred_element_type: dtype of the result; None: that of the operands.

    Returns:
        An array, or a `BCOO` array if both operands are sparse.

    Example:
        >>> import funtorch.numpy as fnp
        >>> M = BCOO.fromdense(fnp.array([[0.0, 2.0], [1.0, 0.0]]))
        >>> bcoo_dot_general(M, fnp.array([1.0, 3.0]), dimension_numbers=(([1], [0]), ([], [])))
        Array([6., 1.], dtype=float32)
    """
    numbers = dot_numbers(dimension_numbers, lhs, rhs, "bcoo_dot_general")
    ca, cb, ba, bb = numbers
    if isinstance(lhs, BCOO) and isinstance(rhs, BCOO):
        return _sparse_sparse(lhs, rhs, numbers, preferred_element_type)
    if isinstance(lhs, BCOO):
        return _sparse_dense(lhs, fnp.asarray(rhs), numbers, preferred_element_type)
    if isinstance(rhs, BCOO):
        out = _sparse_dense(rhs, fnp.asarray(lhs), (cb, ca, bb, ba), preferred_element_type)
        # The free axes of rhs come first in it.
        batch, free = len(ba), rhs.ndim - len(cb) - len(bb)
        rest = range(batch + free, out.ndim)
        return out.transpose((*range(batch), *rest, *range(batch, batch + free)))
    return lax.dot_general(
        lhs, rhs, dimension_numbers, preferred_element_type=preferred_element_type
    )


def _sparse_dense(mat: BCOO, dense: Any, numbers: Sequence[list[int]], dtype: Any) -> Any:
    """Gather from the dense array what each element meets, multiply, and add up by places."""
    ca, cb, ba, bb = numbers
    n_batch, n_sparse, _, _ = mat.layout
    wanted = dtypes.result_type(mat.data, dense) if dtype is None else dtypes.canonical(dtype)
    pairs = dict(zip((*ca, *ba), (*cb, *bb), strict=True))
    data, indices = whole(mat)
    left = _LETTERS[: mat.ndim]
    right = list(_LETTERS[mat.ndim : mat.ndim + dense.ndim])
    for one, other in pairs.items():
        right[other] = left[one]
    stored = left[:n_batch] + "Z" + left[n_batch + n_sparse :]
    # Axes of the dense array that meet sparse ones are read at places; with them those that meet
    # batch axes, along the diagonal.
    met = [d for d in range(n_batch + n_sparse) if d in pairs]
    if any(d >= n_batch for d in met):
        dense = fnp.moveaxis(dense, tuple(pairs[d] for d in met), tuple(range(len(met))))
        beside = "".join(c for k, c in enumerate(right) if k not in {pairs[d] for d in met})
        dense = _read(dense, indices, met, mat)
        factor = left[:n_batch] + "Z" + beside
    else:
        factor = "".join(right)
    free_right = "".join(c for k, c in enumerate(right) if k not in (*cb, *bb))
    scattered = [d for d in range(n_batch, n_batch + n_sparse) if d in ba or d not in pairs]
    out = "".join(left[d] for d in (*ba, *[d for d in range(mat.ndim) if d not in pairs]))
    out += free_right
    if not scattered:
        spec = f"{stored},{factor}->{out}"
        return fnp.einsum(spec, data, dense, preferred_element_type=wanted).astype(wanted)
    free_dense = "".join(left[d] for d in range(n_batch + n_sparse, mat.ndim) if d not in ca)
    spec = f"{stored},{factor}->{left[:n_batch]}Z{free_dense}{free_right}"
    terms = fnp.einsum(spec, data, dense, preferred_element_type=wanted).astype(wanted)
    placed = [d for d in range(n_batch) if d not in ca] + scattered
    sizes = tuple(mat.shape[d] for d in placed)
    rest = terms.shape[n_batch + 1 :]
    if 0 in terms.shape or 0 in sizes:
        made = fnp.zeros((*sizes, *rest), wanted)
    else:
        at = tuple(_places(indices, d, mat) for d in placed)
        made = fnp.zeros((*sizes, *rest), wanted).at[at].add(terms, mode="drop")
    names = "".join(left[d] for d in placed) + free_dense + free_right
    return made.transpose([names.index(c) for c in out])


def _places(indices: Any, axis: int, mat: BCOO) -> Any:
    """Return where along a batch or sparse axis each element lies: shape (*batch, nse)."""
    if axis >= mat.n_batch:
        return indices[..., axis - mat.n_batch]
    return lax.broadcasted_iota(indices.dtype, indices.shape[:-1], axis)


def _read(dense: Any, indices: Any, met: Sequence[int], mat: BCOO) -> Any:
    """Read the leading axes of a dense array at the places of each element along those axes."""
    if 0 in dense.shape or 0 in indices.shape[:-1]:
        return fnp.zeros((*indices.shape[:-1], *dense.shape[len(met) :]), dense.dtype)
    at = tuple(_places(indices, d, mat) for d in met)
    return dense.at[at].get(mode="fill", fill_value=0)


def _sparse_sparse(a: BCOO, b: BCOO, numbers: Sequence[list[int]], dtype: Any) -> BCOO:
    """Meet every element of one with every element of the other."""
    ca, cb, ba, bb = numbers
    if a.n_dense or b.n_dense:
        raise NotImplementedError("bcoo_dot_general: two sparse arrays with dense axes")
    if max(ba, default=-1) >= a.n_batch or max(bb, default=-1) >= b.n_batch:
        raise NotImplementedError(
            "bcoo_dot_general: batch axes of two sparse arrays must be batch axes of their layouts"
        )
    if min(ca, default=a.n_batch) < a.n_batch or min(cb, default=b.n_batch) < b.n_batch:
        raise NotImplementedError(
            "bcoo_dot_general: of two sparse arrays only sparse axes are contracted"
        )
    if b.n_batch > len(bb) and a.n_sparse > len(ca):
        raise ValueError(
            "bcoo_dot_general: unused batch axes on rhs with unused sparse axes on lhs"
        )
    wanted = dtypes.result_type(a.data, b.data) if dtype is None else dtypes.canonical(dtype)
    a, b = _batch_first(a, ba), _batch_first(b, bb)
    ca, cb = [d - a.n_batch for d in ca], [d - b.n_batch for d in cb]
    keep_a = [d for d in range(a.n_sparse) if d not in ca]
    keep_b = [d for d in range(b.n_sparse) if d not in cb]
    shared, only_a, only_b = len(ba), a.n_batch - len(ba), b.n_batch - len(bb)
    sparse = (*[a.shape[a.n_batch + d] for d in keep_a], *[b.shape[b.n_batch + d] for d in keep_b])
    shape = (*a.shape[: a.n_batch], *b.shape[shared : b.n_batch], *sparse)
    nse = min((a.nse if keep_a else 1) * (b.nse if keep_b else 1), math.prod(sparse))
    limit = fnp.asarray([a.shape[a.n_batch + d] for d in ca], a.indices.dtype)

    def one(x: Any, i: Any, y: Any, j: Any) -> Any:
        places, others = i[:, fnp.asarray(ca, int)], j[:, fnp.asarray(cb, int)]
        fits = (places[:, None] == others[None]).all(-1) & (places < limit).all(-1)[:, None]
        terms = fnp.where(fits, x[:, None] * y[None], 0).astype(wanted).ravel()
        left = fnp.broadcast_to(
            i[:, None][:, :, fnp.asarray(keep_a, int)], (i.shape[0], j.shape[0], len(keep_a))
        )
        right = fnp.broadcast_to(
            j[None][:, :, fnp.asarray(keep_b, int)], (i.shape[0], j.shape[0], len(keep_b))
        )
        at = fnp.concatenate([left, right], -1).reshape(terms.shape[0], len(sparse))
        summed = bcoo_sum_duplicates(BCOO((terms, at), shape=sparse), nse=nse)
        return summed.data, summed.indices

    def spread(x: Any, before: int, after: int) -> Any:
        at = shared if before else shared + only_a
        return fnp.expand_dims(x, tuple(range(at, at + before + after)))

    data, indices = batched(
        one,
        shared + only_a + only_b,
        *[spread(x, 0, only_b) for x in (a.data, a.indices)],
        *[spread(x, only_a, 0) for x in (b.data, b.indices)],
    )
    return BCOO((data, indices), shape=shape, indices_sorted=True, unique_indices=True)


def _batch_first(mat: BCOO, first: Sequence[int]) -> BCOO:
    """Put some of the batch axes in front."""
    order = (*first, *[d for d in range(mat.n_batch) if d not in first])
    data = mat.data.transpose((*order, *range(mat.n_batch, mat.data.ndim)))
    indices = mat.indices.transpose((*order, mat.n_batch, mat.n_batch + 1))
    shape = (*[mat.shape[d] for d in order], *mat.shape[mat.n_batch :])
    return BCOO((data, indices), shape=shape)


def bcoo_dot_general_sampled(A: Any, B: Any, indices: Any, *, dimension_numbers: Any) -> Any:
    """Contract two dense arrays, and return the result's elements at places.

    Args:
        A, B: arrays.
        indices: integers of shape ``(*batch, nse, n_sparse)``.
        dimension_numbers: as in `lax.dot_general`.

    Returns:
        Array of shape ``(*batch, nse, *dense)``.

    Example:
        >>> import funtorch.numpy as fnp
        >>> A, numbers = fnp.array([[1.0, 2.0], [3.0, 4.0]]), (([1], [0]), ([], []))
        >>> bcoo_dot_general_sampled(A, A, fnp.array([[1, 0]]), dimension_numbers=numbers)
        Array([15.], dtype=float32)
    """
    A, B, indices = fnp.asarray(A), fnp.asarray(B), fnp.asarray(indices)
    ca, cb, ba, bb = dot_numbers(dimension_numbers, A, B, "bcoo_dot_general_sampled")
    if ba or indices.ndim > 2 or indices.shape[-1] != A.ndim + B.ndim - 2 * len(ca):
        return extract(indices, lax.dot_general(A, B, ((ca, cb), (ba, bb))))
    free_a = [d for d in range(A.ndim) if d not in ca]
    free_b = [d for d in range(B.ndim) if d not in cb]
    columns = [indices[:, k] for k in range(indices.shape[1])]
    rows = _taken(A, free_a, ca, columns[: len(free_a)], indices.shape[0])
    others = _taken(B, free_b, cb, columns[len(free_a) :], indices.shape[0])
    return (rows * others).sum(tuple(range(1, rows.ndim)))


def _taken(x: Any, free: Sequence[int], contracted: Sequence[int], at: Any, count: int) -> Any:
    x = x.transpose((*free, *contracted))
    if not free:
        return fnp.broadcast_to(x, (count, *x.shape))
    return x.at[tuple(at)].get(mode="fill", fill_value=0)


# ------------------------------------------------------------------------------------- elementwise
def bcoo_multiply_dense(sp_mat: BCOO, v: Any) -> Any:
    """Multiply a sparse array by a dense one that fits to its shape.

    Args:
        sp_mat: the sparse array.
        v: a number or an array whose axes are those of the sparse one, or 1.

    Returns:
        The values of the product, which has the places of ``sp_mat``.

    Raises:
        NotImplementedError: the product would have another shape than ``sp_mat``.

    Example:
        >>> import funtorch.numpy as fnp
        >>> bcoo_multiply_dense(BCOO.fromdense(fnp.array([0, 2, 3])), fnp.array([4, 5, 6]))
        Array([10, 18], dtype=int32)
    """
    v = fnp.asarray(v)
    if not v.ndim:
        return sp_mat.data * v
    if v.ndim > sp_mat.ndim or any(
        s not in (1, n) for s, n in zip(v.shape[::-1], sp_mat.shape[::-1], strict=False)
    ):
        raise NotImplementedError(
            "multiplication between sparse and dense is only implemented for cases where the output"
            f" shape matches the sparse matrix shape. Got shape={sp_mat.shape}, v.shape={v.shape}"
        )
    v = v.reshape((1,) * (sp_mat.ndim - v.ndim) + v.shape)
    n_batch, n_sparse, _, _ = sp_mat.layout
    if sp_mat.shape == v.shape:
        return sp_mat.data * extract(sp_mat.indices, v)

    def one(data: Any, indices: Any, v: Any) -> Any:
        if not n_sparse:
            return data * v[None]
        at = tuple(
            indices[:, k] if v.shape[k] != 1 else fnp.zeros_like(indices[:, k])
            for k in range(n_sparse)
        )
        return data * v.at[at].get(mode="fill", fill_value=0)

    return batched(one, n_batch, sp_mat.data, sp_mat.indices, v)


def bcoo_multiply_sparse(lhs: BCOO, rhs: BCOO) -> BCOO:
    """Multiply two sparse arrays of fitting shapes element by element.

    Raises:
        TypeError: they have different numbers of axes.
        NotImplementedError: they have different numbers of dense axes.

    Example:
        >>> import funtorch.numpy as fnp
        >>> a, b = (BCOO.fromdense(fnp.array(x)) for x in ([0, 2, 3], [4, 0, 5]))
        >>> bcoo_multiply_sparse(a, b).todense()
        Array([ 0,  0, 15], dtype=int32)
    """
    if lhs.ndim != rhs.ndim:
        raise TypeError(
            "bcoo_multiply_sparse: arrays must have same number of dimensions, got "
            f"{lhs.shape}, {rhs.shape}"
        )
    if lhs.n_dense != rhs.n_dense:
        raise NotImplementedError(
            "bcoo_multiply_sparse: arrays with differing numbers of dense dimensions: "
            f"{lhs.n_dense}, {rhs.n_dense}"
        )
    n_batch = min(lhs.n_batch, rhs.n_batch)
    lhs, rhs = (bcoo_update_layout(x, n_batch=n_batch) for x in (lhs, rhs))
    n_sparse = lhs.n_sparse
    sizes = [x.shape[n_batch : n_batch + n_sparse] for x in (lhs, rhs)]
    shape = tuple(fnp.broadcast_shapes(lhs.shape, rhs.shape))
    limit = fnp.asarray(shape[n_batch : n_batch + n_sparse], lhs.indices.dtype)

    def one(x: Any, i: Any, y: Any, j: Any) -> Any:
        fits = (i < fnp.asarray(sizes[0], i.dtype)).all(-1)[:, None]
        fits = fits & (j < fnp.asarray(sizes[1], j.dtype)).all(-1)[None]
        for k, (m, n) in enumerate(zip(*sizes, strict=True)):
            if m != 1 and n != 1:
                fits = fits & (i[:, None, k] == j[None, :, k])
        places = fnp.where(fits[..., None], fnp.maximum(i[:, None], j[None]), limit)
        keep = fits.reshape(fits.shape + (1,) * lhs.n_dense)
        data = fnp.where(keep, x[:, None] * y[None], 0)
        count = i.shape[0] * j.shape[0]
        return data.reshape(count, *data.shape[2:]), places.reshape(count, n_sparse)

    data, indices = batched(one, n_batch, lhs.data, lhs.indices, rhs.data, rhs.indices)
    return BCOO((data, indices), shape=shape)


def scaled(mat: BCOO, factor: Any) -> BCOO:
    """Return a sparse array multiplied by what fits to its shape."""
    if isinstance(factor, JAXSparse):
        return bcoo_multiply_sparse(mat, factor)  # type: ignore[arg-type]
    return like(mat, bcoo_multiply_dense(mat, factor))
