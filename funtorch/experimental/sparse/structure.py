"""Movements of BCOO arrays: transposes, reshapes, slices, sums over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from funtorch import lax
from funtorch import numpy as fnp
from funtorch.core import Array

from .base import batches, static
from .bcoo import BCOO, bcoo_fromdense, bcoo_sum_duplicates, bcoo_update_layout, whole

__all__ = [
    "bcoo_broadcast_in_dim",
    "bcoo_concatenate",
    "bcoo_conv_general_dilated",
    "bcoo_dynamic_slice",
    "bcoo_gather",
    "bcoo_reduce_sum",
    "bcoo_reshape",
    "bcoo_rev",
    "bcoo_slice",
    "bcoo_squeeze",
    "bcoo_transpose",
]


def bcoo_transpose(mat: BCOO, *, permutation: Sequence[int]) -> BCOO:
    """Return a sparse array with its axes in another order, each kind for itself.

    Raises:
        NotImplementedError: batch, sparse and dense axes would change places with each other.
        TypeError: it is no permutation of the axes.

    Example:
        >>> import funtorch.numpy as fnp
        >>> M = BCOO.fromdense(fnp.array([[0, 1], [0, 2]]))
        >>> bcoo_transpose(M, permutation=(1, 0)).todense()
        Array([[0, 0],
               [1, 2]], dtype=int32)
    """
    order = [static(p, "permutation") for p in permutation]
    if sorted(order) != list(range(mat.ndim)):
        raise TypeError(
            f"bcoo_transpose: permutation must be one of the {mat.ndim} axes of shape {mat.shape}, "
            f"got {tuple(order)}"
        )
    n_batch, n_sparse, _, _ = mat.layout
    batch, sparse = order[:n_batch], order[n_batch : n_batch + n_sparse]
    dense = order[n_batch + n_sparse :]
    if sorted([*batch]) != list(range(n_batch)) or any(d < n_batch + n_sparse for d in dense):
        raise NotImplementedError(
            "transpose: permutation permutes batch dimensions with non-batch dimensions, or dense "
            f"with sparse ones: permutation={tuple(order)}, n_batch={n_batch}, "
            f"n_dense={mat.n_dense}"
        )
    data = mat.data.transpose((*batch, n_batch, *[d - n_sparse + 1 for d in dense]))
    indices = mat.indices.transpose((*batch, n_batch, n_batch + 1))
    indices = fnp.stack([indices[..., d - n_batch] for d in sparse], -1) if sparse else indices
    return BCOO(
        (data, indices),
        shape=[mat.shape[d] for d in order],
        unique_indices=mat.unique_indices,
        indices_sorted=mat.indices_sorted and sparse == sorted(sparse),
    )


def _stacked(columns: Sequence[Any], indices: Any) -> Any:
    if columns:
        return fnp.stack(list(columns), -1)
    return fnp.zeros((*indices.shape[:-1], 0), indices.dtype)


def bcoo_broadcast_in_dim(
    mat: BCOO, *, shape: Sequence[int], broadcast_dimensions: Sequence[int], sharding: Any = None
) -> BCOO:
    """Return a sparse array with new and grown axes, as `lax.broadcast_in_dim` does.

    New axes beside the batch axes are batch axes, those beside the dense ones dense.

    Args:
        mat: the array.
        shape: the new shape.
        broadcast_dimensions: which of the new axes are those of ``mat``.
        sharding: taken for JAX's sake.

    Example:
        >>> import funtorch.numpy as fnp
        >>> row = BCOO.fromdense(fnp.array([0, 1]))
        >>> bcoo_broadcast_in_dim(row, shape=(2, 2), broadcast_dimensions=(1,)).todense()
        Array([[0, 1],
               [0, 1]], dtype=int32)
    """
    shape, dims = tuple(shape), list(broadcast_dimensions)
    if len(dims) != mat.ndim or any(
        n not in (1, shape[d]) for n, d in zip(mat.shape, dims, strict=True)
    ):
        raise ValueError(
            f"bcoo_broadcast_in_dim: shape {mat.shape} does not fit axes {tuple(dims)} of {shape}"
        )
    n_batch, n_sparse, n_dense, _ = mat.layout
    if n_batch == mat.ndim - n_dense:
        first = last = dims[n_batch - 1] + 1 if n_batch else (dims[0] if dims else len(shape))
    else:
        first, last = dims[n_batch], dims[n_batch + n_sparse - 1] + 1
    if n_batch == 0:
        first = min(first, dims[0]) if n_sparse else first
        # Axes in front of the sparse ones become batch axes.
    kinds = [0] * first + [1] * (last - first) + [2] * (len(shape) - last)
    batch = [d for d, kind in enumerate(kinds) if kind == 0]
    dense = [d for d, kind in enumerate(kinds) if kind == 2]
    sparse = [d for d, kind in enumerate(kinds) if kind == 1]
    source = {d: k for k, d in enumerate(dims)}

    def spread_batch(x: Any) -> Any:
        sizes = [x.shape[source[d]] if d in source else 1 for d in batch]
        return x.reshape(*sizes, *x.shape[n_batch:])

    data, indices = spread_batch(mat.data), spread_batch(mat.indices)
    tail = [shape[d] if d not in source else mat.shape[source[d]] for d in dense]
    ones = [n if d in source else 1 for d, n in zip(dense, tail, strict=True)]
    data = data.reshape(*data.shape[: len(batch) + 1], *ones)
    data = fnp.broadcast_to(data, (*data.shape[: len(batch) + 1], *[shape[d] for d in dense]))
    zero = fnp.zeros(indices.shape[:-1], indices.dtype)
    columns = [indices[..., source[d] - n_batch] if d in source else zero for d in sparse]
    sizes = [mat.shape[source[d]] if d in source else 1 for d in sparse]
    # Places beyond an array with axes of size 1 must stay beyond the grown one.
    grown = [k for k, d in enumerate(sparse) if sizes[k] == 1 and shape[d] != 1]
    if grown and n_sparse:
        limit = fnp.asarray(mat.shape[n_batch : n_batch + n_sparse], indices.dtype)
        inside = (indices < limit).all(-1)
        columns = [fnp.where(inside, c, shape[d]) for c, d in zip(columns, sparse, strict=True)]
    wide = [shape[d] for d in batch]
    if grown:
        return _grow(data, columns, shape, wide, [(k, shape[sparse[k]]) for k in grown])
    made = BCOO(
        (data, _stacked(columns, indices)),
        shape=shape,
        indices_sorted=mat.indices_sorted,
        unique_indices=mat.unique_indices,
    )
    return made


def _grow(
    data: Any, columns: list[Any], shape: Any, batch: Sequence[int], grown: Sequence[Any]
) -> BCOO:
    """Repeat elements along sparse axes of size 1."""
    at = columns[0].ndim - 1
    for k, size in grown:
        columns = [
            fnp.broadcast_to(c[..., None, :], (*c.shape[:-1], size, c.shape[-1])) for c in columns
        ]
        lane = lax.broadcasted_iota(columns[k].dtype, columns[k].shape, at)
        columns[k] = fnp.where(columns[k] >= size, size, lane)
        columns = [c.reshape(*c.shape[:at], size * c.shape[-1]) for c in columns]
        data = fnp.expand_dims(data, at)
        data = fnp.broadcast_to(data, (*data.shape[:at], size, *data.shape[at + 1 :]))
        data = data.reshape(*data.shape[:at], size * data.shape[at + 1], *data.shape[at + 2 :])
    return BCOO((data, fnp.stack(columns, -1)), shape=shape)


def bcoo_concatenate(operands: Sequence[BCOO], *, dimension: int) -> BCOO:
    """Join sparse arrays of one layout along an axis.

    Raises:
        ValueError: layouts or the other axes differ.

    Example:
        >>> import funtorch.numpy as fnp
        >>> a = BCOO.fromdense(fnp.array([0, 1]))
        >>> bcoo_concatenate([a, a], dimension=0).todense()
        Array([0, 1, 0, 1], dtype=int32)
    """
    dimension = static(dimension, "dimension")
    kinds = {(x.ndim, x.n_batch, x.n_dense) for x in operands}
    if len(kinds) != 1:
        raise ValueError(
            "bcoo_concatenate: operands must have equal numbers of axes of each kind, got "
            + ", ".join(map(repr, operands))
        )
    shapes = [(*x.shape[:dimension], *x.shape[dimension + 1 :]) for x in operands]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"bcoo_concatenate: all axes but axis {dimension} must have equal sizes, got "
            + ", ".join(str(x.shape) for x in operands)
        )
    first = operands[0]
    n_batch, n_sparse, _, _ = first.layout
    shape = list(first.shape)
    shape[dimension] = sum(x.shape[dimension] for x in operands)
    if n_batch <= dimension < n_batch + n_sparse:
        parts, offset = [], 0
        for x in operands:
            column, limit = x.indices[..., dimension - n_batch], x.shape[dimension]
            column = fnp.where(column < limit, column + offset, shape[dimension])
            parts.append(x.indices.at[..., dimension - n_batch].set(column))
            offset += limit
        batch = batches(*[p.shape[:n_batch] for p in (*parts, *[x.data for x in operands])])
        data = [fnp.broadcast_to(x.data, (*batch, *x.data.shape[n_batch:])) for x in operands]
        parts = [fnp.broadcast_to(p, (*batch, *p.shape[n_batch:])) for p in parts]
        made = fnp.concatenate(data, n_batch), fnp.concatenate(parts, n_batch)
        return BCOO(made, shape=shape)
    if dimension >= n_batch + n_sparse:
        width, offset, blocks = shape[dimension], 0, []
        axis = dimension - n_sparse + 1
        for x in operands:
            pads = [(0, 0)] * x.data.ndim
            pads[axis] = (offset, width - offset - x.shape[dimension])
            blocks.append(BCOO((fnp.pad(x.data, pads), x.indices), shape=shape))
            offset += x.shape[dimension]
        return bcoo_concatenate_stored(blocks)
    nse = max(x.nse for x in operands)
    grown = [_with_nse(x, nse) for x in operands]
    pairs = [whole(x) for x in grown]
    data = fnp.concatenate([d for d, _ in pairs], dimension)
    return BCOO((data, fnp.concatenate([i for _, i in pairs], dimension)), shape=shape)


def bcoo_concatenate_stored(operands: Sequence[BCOO]) -> BCOO:
    """Return the sum of sparse arrays of one shape and layout: what all of them store."""
    n_batch = operands[0].n_batch
    pairs = [whole(x) for x in operands]
    data = fnp.concatenate([d for d, _ in pairs], n_batch)
    indices = fnp.concatenate([i for _, i in pairs], n_batch)
    return BCOO((data, indices), shape=operands[0].shape)


def _with_nse(mat: BCOO, nse: int) -> BCOO:
    """Store more elements: zeros beyond the shape."""
    n_batch, n_sparse, _, found = mat.layout
    if nse == found:
        return mat
    pads = [(0, 0)] * mat.data.ndim
    pads[n_batch] = (0, nse - found)
    limit = fnp.asarray(mat.shape[n_batch : n_batch + n_sparse], mat.indices.dtype)
    more = fnp.broadcast_to(limit, (*mat.indices.shape[:n_batch], nse - found, n_sparse))
    indices = fnp.concatenate([mat.indices, more], n_batch)
    return BCOO((fnp.pad(mat.data, pads), indices), shape=mat.shape)


def bcoo_reshape(
    mat: BCOO,
    *,
    new_sizes: Sequence[int],
    dimensions: Sequence[int] | None = None,
    sharding: Any = None,
) -> BCOO:
    """Return a sparse array with another shape, axes of each kind for themselves.

    Args:
        mat: the array.
        new_sizes: the new shape, whose first axes make up the batch axes.
        dimensions, sharding: taken for JAX's sake.

    Raises:
        ValueError: the sizes do not fit, or axes of different kinds would be mixed.

    Example:
        >>> import funtorch.numpy as fnp
        >>> bcoo_reshape(BCOO.fromdense(fnp.eye(2)), new_sizes=(4,)).todense()
        Array([1., 0., 0., 1.], dtype=float32)
    """
    n_batch, n_sparse, _, _ = mat.layout
    new_sizes = tuple(new_sizes)
    if _size(mat.shape) != _size(new_sizes):
        raise ValueError(f"bcoo_reshape: cannot make {new_sizes} of shape {mat.shape}")
    count = _leading(new_sizes, mat.shape[:n_batch], mat, "batch")
    last = _leading(new_sizes[count:][::-1], mat.shape[n_batch + n_sparse :][::-1], mat, "dense")
    dense = new_sizes[len(new_sizes) - last :]
    data, indices = whole(mat)
    batch, sparse = new_sizes[:count], new_sizes[count : len(new_sizes) - last]
    data = data.reshape(*batch, mat.nse, *dense)
    indices = indices.reshape(*batch, *indices.shape[n_batch:])
    old = mat.shape[n_batch : n_batch + n_sparse]
    if n_sparse:
        inside = (indices < fnp.asarray(old, indices.dtype)).all(-1)
        linear = fnp.zeros(indices.shape[:-1], indices.dtype)
        for k, n in enumerate(old):
            linear = linear * n + indices[..., k]
        columns = []
        for n in reversed(sparse):
            columns.append(fnp.where(inside, linear % max(n, 1), n))
            linear = linear // max(n, 1)
        indices = _stacked(columns[::-1], indices)
    elif sparse:
        indices = fnp.zeros((*indices.shape[:-1], len(sparse)), indices.dtype)
    return BCOO(
        (data, indices),
        shape=new_sizes,
        indices_sorted=mat.indices_sorted,
        unique_indices=mat.unique_indices,
    )


def _leading(sizes: Sequence[int], old: Sequence[int], mat: BCOO, kind: str) -> int:
    """Return how many of the new sizes the axes of a kind take."""
    size, count, total = 1, 0, _size(old)
    while old and count < len(sizes) and (size < total or count < 1):
        size *= sizes[count]
        count += 1
    if size != total:
        raise ValueError(
            f"bcoo_reshape: new shape cannot mix {kind} and sparse dimensions; got "
            f"shape={mat.shape} with n_batch={mat.n_batch}, n_dense={mat.n_dense}"
        )
    return count


def _size(sizes: Sequence[int]) -> int:
    return math.prod(sizes)


def bcoo_rev(operand: BCOO, dimensions: Sequence[int]) -> BCOO:
    """Return a sparse array mirrored along axes.

    Example:
        >>> import funtorch.numpy as fnp
        >>> bcoo_rev(BCOO.fromdense(fnp.array([1, 0, 2])), (0,)).todense()
        Array([2, 0, 1], dtype=int32)
    """
    n_batch, n_sparse, _, _ = operand.layout
    dims = [d % operand.ndim for d in dimensions]
    data, indices = operand.data, operand.indices
    batch = [d for d in dims if d < n_batch]
    dense = [d - n_sparse + 1 for d in dims if d >= n_batch + n_sparse]
    data, indices = fnp.flip(data, (*batch, *dense)), fnp.flip(indices, tuple(batch))
    for d in dims:
        if n_batch <= d < n_batch + n_sparse:
            column, size = indices[..., d - n_batch], operand.shape[d]
            column = fnp.where(column < size, size - 1 - column, size)
            indices = indices.at[..., d - n_batch].set(column)
    return BCOO((data, indices), shape=operand.shape, unique_indices=operand.unique_indices)


def bcoo_squeeze(arr: BCOO, *, dimensions: Sequence[int]) -> BCOO:
    """Return a sparse array without some axes of size 1.

    Raises:
        ValueError: such an axis has another size.

    Example:
        >>> import funtorch.numpy as fnp
        >>> bcoo_squeeze(BCOO.fromdense(fnp.ones((1, 2))), dimensions=(0,)).shape
        (2,)
    """
    n_batch, n_sparse, _, _ = arr.layout
    dims = {d % arr.ndim for d in dimensions}
    if any(arr.shape[d] != 1 for d in dims):
        raise ValueError(f"bcoo_squeeze: axes {sorted(dims)} of shape {arr.shape} must have size 1")
    batch = tuple(d for d in dims if d < n_batch)
    dense = tuple(d - n_sparse + 1 for d in dims if d >= n_batch + n_sparse)
    kept = [k for k in range(n_sparse) if n_batch + k not in dims]
    data, indices = fnp.squeeze(arr.data, (*batch, *dense)), fnp.squeeze(arr.indices, batch)
    gone = [indices[..., k] < 1 for k in range(n_sparse) if k not in kept]
    shape = [n for d, n in enumerate(arr.shape) if d not in dims]
    columns = [indices[..., k] for k in kept]
    if gone:  # what is beyond such an axis must count for nothing without it, too
        inside = gone[0]
        for here in gone[1:]:
            inside = inside & here
        sizes = [arr.shape[n_batch + k] for k in kept]
        columns = [fnp.where(inside, c, n) for c, n in zip(columns, sizes, strict=True)]
        rest = (1,) * (data.ndim - inside.ndim)
        data = fnp.where(inside.reshape(inside.shape + rest), data, 0)
    return BCOO(
        (data, _stacked(columns, indices)),
        shape=shape,
        indices_sorted=arr.indices_sorted,
        unique_indices=arr.unique_indices,
    )


def bcoo_slice(
    mat: BCOO,
    *,
    start_indices: Sequence[int],
    limit_indices: Sequence[int],
    strides: Sequence[int] | None = None,
) -> BCOO:
    """Return a part of a sparse array, as `lax.slice` does.

    Example:
        >>> import funtorch.numpy as fnp
        >>> M = BCOO.fromdense(fnp.array([1, 0, 2, 3]))
        >>> bcoo_slice(M, start_indices=(1,), limit_indices=(3,)).todense()
        Array([0, 2], dtype=int32)
    """
    starts, limits = list(start_indices), list(limit_indices)
    steps = [1] * mat.ndim if strides is None else list(strides)
    if not len(starts) == len(limits) == len(steps) == mat.ndim:
        raise ValueError(
            f"bcoo_slice: start_indices, limit_indices and strides must have a number for each of "
            f"the {mat.ndim} axes, got {starts}, {limits}, {strides}"
        )
    shape = [max(0, -((a - b) // s)) for a, b, s in zip(starts, limits, steps, strict=True)]
    return _sliced(mat, starts, steps, shape)


def _sliced(mat: BCOO, starts: Any, steps: Sequence[int], shape: Sequence[int]) -> BCOO:
    n_batch, n_sparse, n_dense, _ = mat.layout
    data, indices = mat.data, mat.indices

    def cut(x: Any, d: int, axis: int) -> Any:
        if x.shape[axis] == 1 and mat.shape[d] != 1:
            return x if shape[d] else lax.slice_in_dim(x, 0, 0, axis=axis)
        if isinstance(starts[d], Array):
            return lax.dynamic_slice_in_dim(x, starts[d], shape[d], axis)
        stop = starts[d] + max(0, (shape[d] - 1) * steps[d] + 1) if shape[d] else starts[d]
        return lax.slice_in_dim(x, starts[d], stop, steps[d], axis)

    for d in range(n_batch):
        data, indices = cut(data, d, d), cut(indices, d, d)
    for d in range(n_batch + n_sparse, mat.ndim):
        data = cut(data, d, d - n_sparse + 1)
    inside, columns = None, []
    for d in range(n_batch, n_batch + n_sparse):
        column = indices[..., d - n_batch] - starts[d]
        here = (column >= 0) & (column < shape[d] * steps[d])
        here = here & (indices[..., d - n_batch] < mat.shape[d])
        if steps[d] != 1:
            here = here & (column % steps[d] == 0)
            column = column // steps[d]
        inside = here if inside is None else inside & here
        columns.append(column.astype(indices.dtype))
    if inside is not None:
        sizes = shape[n_batch : n_batch + n_sparse]
        columns = [fnp.where(inside, c, n) for c, n in zip(columns, sizes, strict=True)]
        data = fnp.where(inside.reshape(inside.shape + (1,) * n_dense), data, 0)
    out = BCOO((data, _stacked(columns, indices)), shape=shape)
    room = _size(shape[n_batch : n_batch + n_sparse])
    return bcoo_sum_duplicates(out, nse=room) if room < out.nse else out


def bcoo_dynamic_slice(mat: BCOO, start_indices: Sequence[Any], slice_sizes: Sequence[int]) -> BCOO:
    """Return a part of a sparse array that begins at traced places, as `lax.dynamic_slice` does.

    Example:
        >>> import funtorch.numpy as fnp
        >>> M = BCOO.fromdense(fnp.array([1, 0, 2, 3]))
        >>> bcoo_dynamic_slice(M, [fnp.array(2)], [2]).todense()
        Array([2, 3], dtype=int32)
    """
    sizes = [static(n, "slice_sizes") for n in slice_sizes]
    starts = []
    for s, n, size in zip(start_indices, mat.shape, sizes, strict=True):
        start = fnp.asarray(s)
        start = fnp.where(start < 0, start + n, start)
        starts.append(fnp.clip(start, 0, n - size).astype(mat.indices.dtype))
    return _sliced(mat, starts, [1] * mat.ndim, sizes)


def bcoo_reduce_sum(mat: BCOO, *, axes: Sequence[int], out_sharding: Any = None) -> BCOO:
    """Return the sum of a sparse array over axes.

    Example:
        >>> import funtorch.numpy as fnp
        >>> bcoo_reduce_sum(BCOO.fromdense(fnp.array([[1, 0], [2, 3]])), axes=(0,)).todense()
        Array([3, 3], dtype=int32)
    """
    n_batch, n_sparse, _, _ = mat.layout
    dims = sorted({d % mat.ndim for d in axes})
    dense = tuple(d - n_sparse + 1 for d in dims if d >= n_batch + n_sparse)
    data, indices = mat.data, mat.indices
    if dense:
        data = data.sum(dense, dtype=data.dtype)
    gone = [d for d in dims if d < n_batch]
    if gone:  # lanes of a batch become elements
        data, indices = (
            fnp.broadcast_to(
                x, (*batches(data.shape[:n_batch], indices.shape[:n_batch]), *x.shape[n_batch:])
            )
            for x in (data, indices)
        )
        full = tuple(mat.shape[d] if d in gone else s for d, s in enumerate(data.shape[:n_batch]))
        data = fnp.broadcast_to(data, (*full, *data.shape[n_batch:]))
        indices = fnp.broadcast_to(indices, (*full, *indices.shape[n_batch:]))
        kept = [d for d in range(n_batch) if d not in gone]
        data = data.transpose((*kept, *gone, *range(n_batch, data.ndim)))
        indices = indices.transpose((*kept, *gone, n_batch, n_batch + 1))
        n = len(kept)
        count = _size(data.shape[n : n_batch + 1])
        data = data.reshape(*data.shape[:n], count, *data.shape[n_batch + 1 :])
        indices = indices.reshape(*indices.shape[:n], count, indices.shape[-1])
    kept_sparse = [k for k in range(n_sparse) if n_batch + k not in dims]
    if len(kept_sparse) < n_sparse:
        limit = fnp.asarray(mat.shape[n_batch : n_batch + n_sparse], indices.dtype)
        inside = (indices < limit).all(-1)
        rest = (1,) * (data.ndim - inside.ndim)
        data = fnp.where(inside.reshape(inside.shape + rest), data, 0)
        indices = _stacked([indices[..., k] for k in kept_sparse], indices)
    shape = [n for d, n in enumerate(mat.shape) if d not in dims]
    return BCOO((data.astype(mat.data.dtype), indices), shape=shape)


def bcoo_gather(operand: BCOO, start_indices: Any, *args: Any, **options: Any) -> BCOO:
    """Gather from a sparse array as `lax.gather` does, by way of the dense array.

    Args:
        operand: the array.
        start_indices: places, as in `lax.gather`.
        args, options: what `lax.gather` takes besides.

    Returns:
        A `BCOO` array without batch and dense axes; it stores all elements of the result.
    """
    out = lax.gather(operand.todense(), start_indices, *args, **options)
    return bcoo_fromdense(out, nse=out.size)


def bcoo_conv_general_dilated(lhs: BCOO, rhs: BCOO, **options: Any) -> BCOO:
    """Convolve two sparse arrays as `lax.conv_general_dilated` does, by way of dense arrays.

    Args:
        lhs, rhs: the arrays, of equal dtypes.
        options: what `lax.conv_general_dilated` takes besides.

    Returns:
        A `BCOO` array with two batch axes for samples and features.
    """
    out = lax.conv_general_dilated(lhs.todense(), rhs.todense(), **options)
    return bcoo_fromdense(out, nse=_size(out.shape[2:]), n_batch=2)


def in_layout(mats: Sequence[BCOO]) -> list[BCOO]:
    """Return sparse arrays of one shape in one layout: the fewest batch and dense axes."""
    n_batch, n_dense = min(m.n_batch for m in mats), min(m.n_dense for m in mats)
    return [bcoo_update_layout(m, n_batch=n_batch, n_dense=n_dense) for m in mats]
