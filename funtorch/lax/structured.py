"""Slices, reductions, sorting and contractions with the names of jax.lax."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from funtorch import dtypes
from funtorch.core import Array, ArrayImpl, primitives
from funtorch.lax.shapes import broadcasted_iota
from funtorch.numpy import fft as transforms
from funtorch.numpy import indexing, manipulation
from funtorch.numpy.places import divisible
from funtorch.numpy.promotion import (
    asarray,
    canonical_axes,
    canonical_axis,
    check_precision,
    convert,
    describe,
    moves,
    promote,
    rounded,
    static_int,
    to_array,
)

__all__ = [
    "approx_max_k",
    "approx_min_k",
    "DotDimensionNumbers",
    "FftType",
    "Precision",
    "argmax",
    "argmin",
    "batch_matmul",
    "cumlogsumexp",
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "dot",
    "dot_general",
    "dynamic_index_in_dim",
    "dynamic_slice",
    "dynamic_slice_in_dim",
    "dynamic_update_index_in_dim",
    "dynamic_update_slice",
    "dynamic_update_slice_in_dim",
    "fft",
    "index_in_dim",
    "index_take",
    "reduce_and",
    "reduce_max",
    "reduce_min",
    "reduce_or",
    "reduce_prod",
    "reduce_sum",
    "reduce_xor",
    "slice",
    "slice_in_dim",
    "sort",
    "sort_key_val",
    "top_k",
]


# ------------------------------------------------------------------------------------------ slices
@moves
def slice(
    operand: Any,
    start_indices: Sequence[int],
    limit_indices: Sequence[int],
    strides: Sequence[int] | None = None,
) -> Any:
    """Take a static block.

    References:
        jax.lax.slice
    """
    x = to_array(operand, "slice", "operand")
    stride = (1,) * x.ndim if strides is None else _integers(strides, "slice: strides")
    start = _integers(start_indices, "slice: start_indices")
    limit = _integers(limit_indices, "slice: limit_indices")
    if isinstance(x, ArrayImpl):  # NumPy would cut what does not fit
        primitives["slice"].type(x.aval, start=start, limit=limit, stride=stride)
    return primitives["slice"].bind(x, start=start, limit=limit, stride=stride)


def _integers(found: Sequence[Any], what: str) -> tuple[int, ...]:
    return tuple(static_int(n, what) for n in found)


@moves
def slice_in_dim(
    operand: Any, start_index: int | None, limit_index: int | None, stride: int = 1, axis: int = 0
) -> Any:
    """Take a static range of one axis; negative places count from its end.

    Raises:
        TypeError: the range does not lie inside of the axis, or stride is not positive.

    References:
        jax.lax.slice_in_dim
    """
    x = to_array(operand, "slice_in_dim", "operand")
    k = canonical_axis(axis, x.ndim, "slice_in_dim")
    n = x.shape[k]
    given = {"start_index": (start_index, 0), "limit_index": (limit_index, n)}
    start, stop = (
        default if i is None else static_int(i, f"slice_in_dim: {name}")
        for name, (i, default) in given.items()
    )
    start, stop = (i + n if i < 0 else i for i in (start, stop))
    step = static_int(stride, "slice_in_dim: stride")
    if not 0 <= start <= stop <= n or step < 1:
        raise TypeError(
            f"slice_in_dim: start_index={start_index}, limit_index={limit_index} and "
            f"stride={stride} do not fit axis {k} of {describe(x)}"
        )
    return manipulation.slice_axis(x, k, start, stop, step)


@moves
def index_in_dim(operand: Any, index: int, axis: int = 0, keepdims: bool = True) -> Any:
    """Take a static position of one axis.

    References:
        jax.lax.index_in_dim
    """
    x = to_array(operand, "index_in_dim", "operand")
    k = canonical_axis(axis, x.ndim, "index_in_dim")
    at = canonical_axis(index, x.shape[k], "index_in_dim (index)")
    out = manipulation.slice_axis(x, k, at, at + 1)
    return out if keepdims else manipulation.squeeze(out, k)


def _starts(x: Any, starts: Any, name: str, negative: Any) -> list[Any]:
    """Return start indices as int32 scalars; negative ones count from the end, where allowed."""
    allowed = [negative] * x.ndim if isinstance(negative, bool) else list(negative)
    given = (
        list(starts)
        if not isinstance(starts, Array)
        else [starts[k] for k in range(starts.shape[0])]
    )
    if len(given) != x.ndim:
        raise TypeError(
            f"lax.{name}: one start index per axis is required: {len(given)} given for "
            f"{describe(x)}"
        )
    out = []
    for k, (start, n) in enumerate(zip(given, x.shape, strict=True)):
        i = to_array(start, name, f"start_indices[{k}]")
        if i.ndim or not dtypes.is_integer(i.dtype):
            raise TypeError(
                f"lax.{name}: start_indices[{k}] must be an integer of rank 0, got {describe(i)}"
            )
        i = indexing.wrap_negative(i, n) if allowed[k] else i
        out.append(convert(i, dtypes.int32))
    return out


@moves
def dynamic_slice(
    operand: Any,
    start_indices: Any,
    slice_sizes: Sequence[int],
    *,
    allow_negative_indices: bool | Sequence[bool] = True,
) -> Any:
    """Take a block of static sizes at a start that may be traced; it is moved to fit inside.

    Args:
        operand: array.
        start_indices: one integer of rank 0 per axis, or a vector of them.
        slice_sizes: ints.
        allow_negative_indices: whether negative starts count from the end, maybe by axis.

    Example:
        >>> dynamic_slice(asarray([1, 2, 3, 4]), [1], [2])
        Array([2, 3], dtype=int32)

    References:
        jax.lax.dynamic_slice
    """
    x = to_array(operand, "dynamic_slice", "operand")
    starts = _starts(x, start_indices, "dynamic_slice", allow_negative_indices)
    return primitives["dynamic_slice"].bind(
        x, *starts, sizes=_integers(slice_sizes, "dynamic_slice: slice_sizes")
    )


@moves
def dynamic_slice_in_dim(
    operand: Any,
    start_index: Any,
    slice_size: int,
    axis: int = 0,
    *,
    allow_negative_indices: bool = True,
) -> Any:
    """Take a range of static size of one axis.

    References:
        jax.lax.dynamic_slice_in_dim
    """
    x = to_array(operand, "dynamic_slice_in_dim", "operand")
    k = canonical_axis(axis, x.ndim, "dynamic_slice_in_dim")
    starts = [start_index if j == k else 0 for j in range(x.ndim)]
    sizes = [slice_size if j == k else n for j, n in enumerate(x.shape)]
    return dynamic_slice(x, starts, sizes, allow_negative_indices=allow_negative_indices)


@moves
def dynamic_index_in_dim(
    operand: Any,
    index: Any,
    axis: int = 0,
    keepdims: bool = True,
    *,
    allow_negative_indices: bool = True,
) -> Any:
    """Take one position of an axis.

    References:
        jax.lax.dynamic_index_in_dim
    """
    out = dynamic_slice_in_dim(
        operand, index, 1, axis, allow_negative_indices=allow_negative_indices
    )
    return out if keepdims else manipulation.squeeze(out, axis)


@moves
def dynamic_update_slice(
    operand: Any,
    update: Any,
    start_indices: Any,
    *,
    allow_negative_indices: bool | Sequence[bool] = True,
) -> Any:
    """Replace a block at a start that may be traced; it is moved to fit inside.

    References:
        jax.lax.dynamic_update_slice
    """
    x, v = (
        to_array(operand, "dynamic_update_slice", "operand"),
        to_array(update, "dynamic_update_slice", "update"),
    )
    if v.dtype != x.dtype and not v.weak_type:
        raise TypeError(
            f"lax.dynamic_update_slice: operand {describe(x)} and update {describe(v)} differ in "
            "dtype"
        )
    v = convert(v, x.dtype)
    return primitives["dynamic_update_slice"].bind(
        x, v, *_starts(x, start_indices, "dynamic_update_slice", allow_negative_indices)
    )


@moves
def dynamic_update_slice_in_dim(
    operand: Any, update: Any, start_index: Any, axis: int, *, allow_negative_indices: bool = True
) -> Any:
    """Replace a range of one axis.

    References:
        jax.lax.dynamic_update_slice_in_dim
    """
    x = to_array(operand, "dynamic_update_slice_in_dim", "operand")
    k = canonical_axis(axis, x.ndim, "dynamic_update_slice_in_dim")
    starts = [start_index if j == k else 0 for j in range(x.ndim)]
    return dynamic_update_slice(x, update, starts, allow_negative_indices=allow_negative_indices)


@moves
def dynamic_update_index_in_dim(
    operand: Any, update: Any, index: Any, axis: int, *, allow_negative_indices: bool = True
) -> Any:
    """Replace one position of an axis.

    References:
        jax.lax.dynamic_update_index_in_dim
    """
    x, v = to_array(operand, "dynamic_update_index_in_dim", "operand"), asarray(update)
    k = canonical_axis(axis, x.ndim, "dynamic_update_index_in_dim")
    if v.ndim != x.ndim:
        v = manipulation.expand_dims(v, k)
    return dynamic_update_slice_in_dim(
        x, v, index, k, allow_negative_indices=allow_negative_indices
    )


def index_take(src: Any, idxs: Sequence[Any], axes: Sequence[int]) -> Any:
    """Take elements by index arrays over several axes; their axes come first in the result.

    References:
        jax.lax.index_take
    """
    x = to_array(src, "index_take", "src")
    axes = canonical_axes(tuple(axes), x.ndim, "index_take: axes")
    wrapped = [
        indexing.wrap_negative(to_array(i, "index_take", "idxs"), x.shape[k])
        for i, k in zip(idxs, axes, strict=True)
    ]
    return primitives["gather"].bind(x, *wrapped, axes=tuple(axes), mode="clip", fill=None)


# ------------------------------------------------------------------------------------------
# reductions
def _reduction(name: str) -> Callable[..., Any]:
    prim = primitives[name]

    def function(operand: Any, axes: Sequence[int]) -> Any:
        x = to_array(operand, name, "operand")
        return prim.bind(x, axes=canonical_axes(tuple(axes), x.ndim, name))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"Reduce over axes, by {name[7:]}.\n\n    References:\n        jax.lax.{name}\n    "
    )
    return function


reduce_and = _reduction("reduce_and")
reduce_max = _reduction("reduce_max")
reduce_min = _reduction("reduce_min")
reduce_or = _reduction("reduce_or")
reduce_prod = _reduction("reduce_prod")
reduce_sum = _reduction("reduce_sum")
reduce_xor = _reduction("reduce_xor")


def _cumulative(name: str) -> Callable[..., Any]:
    prim = primitives[name]

    def function(operand: Any, axis: int = 0, reverse: bool = False) -> Any:
        x = to_array(operand, name, "operand")
        return prim.bind(x, axis=canonical_axis(axis, x.ndim, name), reverse=bool(reverse))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"Accumulate along an axis, by {name[3:]}.\n\n    References:\n        jax.lax.{name}\n    "
    )
    return function


cumlogsumexp = _cumulative("cumlogsumexp")
cummax = _cumulative("cummax")
cummin = _cumulative("cummin")
cumprod = _cumulative("cumprod")
cumsum = _cumulative("cumsum")


def argmax(operand: Any, axis: int, index_dtype: Any) -> Any:
    """Return the position of the first largest element along an axis.

    References:
        jax.lax.argmax
    """
    x = to_array(operand, "argmax", "operand")
    return primitives["argmax"].bind(
        x, axis=canonical_axis(axis, x.ndim, "argmax"), dtype=dtypes.canonical(index_dtype)
    )


def argmin(operand: Any, axis: int, index_dtype: Any) -> Any:
    """Return the position of the first smallest element along an axis.

    References:
        jax.lax.argmin
    """
    x = to_array(operand, "argmin", "operand")
    return primitives["argmin"].bind(
        x, axis=canonical_axis(axis, x.ndim, "argmin"), dtype=dtypes.canonical(index_dtype)
    )


# ------------------------------------------------------------------------------------------ sorting
def sort(operand: Any, dimension: int = -1, is_stable: bool = True, num_keys: int = 1) -> Any:
    """Sort an array, or several together by the first ``num_keys`` of them.

    References:
        jax.lax.sort
    """
    several = isinstance(operand, (tuple, list))
    xs = [
        to_array(x, "sort", f"operand[{k}]")
        for k, x in enumerate(operand if several else (operand,))
    ]
    out = primitives["sort"].bind(
        *xs, axis=canonical_axis(dimension, xs[0].ndim, "sort"), num_keys=num_keys
    )
    return tuple(out) if several else out[0]


def sort_key_val(
    keys: Any, values: Any, dimension: int = -1, is_stable: bool = True
) -> tuple[Any, Any]:
    """Sort keys, and values in the same order.

    References:
        jax.lax.sort_key_val
    """
    return sort((keys, values), dimension)


def top_k(operand: Any, k: int, *, axis: int = -1) -> list[Any]:
    """Return the k largest elements along an axis, in descending order, and their positions.

    Args:
        operand: array.
        k: how many, at most the size of the axis.
        axis: the axis.

    Example:
        >>> top_k(asarray([1, 9, 5]), 2)[0]
        Array([9, 5], dtype=int32)

    References:
        jax.lax.top_k
    """
    x = to_array(operand, "top_k", "operand")
    axis = canonical_axis(axis, x.ndim, "top_k")
    n, k = x.shape[axis], static_int(k, "top_k: k")
    if not 0 <= k <= n:
        raise ValueError(
            f"top_k: k={k} must be between 0 and {n}, the size of axis {axis} of {describe(x)}"
        )
    positions = broadcasted_iota(dtypes.int32, x.shape, axis)
    # Sorting the mirror image upwards and reading it backwards keeps equal elements in order.
    values, where = sort((manipulation.flip(x, axis), manipulation.flip(positions, axis)), axis)
    values, where = (
        manipulation.flip(manipulation.slice_axis(v, axis, n - k, n), axis) for v in (values, where)
    )
    return [values, where]


def approx_max_k(
    operand: Any,
    k: int,
    reduction_dimension: int = -1,
    recall_target: float = 0.95,
    reduction_input_size_override: int = -1,
    aggregate_to_topk: bool = True,
) -> tuple[Any, Any]:
    """Return the k largest elements along an axis, and their positions; here, exactly.

    Args:
        operand: array of floats.
        k: how many.
        reduction_dimension: the axis.
        recall_target, reduction_input_size_override, aggregate_to_topk: what JAX may miss.

    References:
        jax.lax.approx_max_k
    """
    values, places = top_k(operand, k, axis=reduction_dimension)
    return values, places


def approx_min_k(
    operand: Any,
    k: int,
    reduction_dimension: int = -1,
    recall_target: float = 0.95,
    reduction_input_size_override: int = -1,
    aggregate_to_topk: bool = True,
) -> tuple[Any, Any]:
    """Return the k smallest elements along an axis, and their positions; here, exactly.

    References:
        jax.lax.approx_min_k
    """
    values, places = top_k(
        -to_array(operand, "approx_min_k", "operand"), k, axis=reduction_dimension
    )
    return -values, places


# ------------------------------------------------------------------------------------------
# contraction
class Precision:
    """How precise products of float32 are on GPUs: all but HIGHEST, and none, allow TF32."""

    DEFAULT = "default"
    HIGH = "high"
    HIGHEST = "highest"


class DotDimensionNumbers(NamedTuple):
    """((contracted axes of lhs, of rhs), (batch axes of lhs, of rhs))."""

    contract: tuple[Sequence[int], Sequence[int]]
    batch: tuple[Sequence[int], Sequence[int]]


@divisible()
def dot_general(
    lhs: Any,
    rhs: Any,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
    *,
    out_sharding: Any = None,
) -> Any:
    """Contract axes of two arrays, with batch axes running together.

    Args:
        lhs, rhs: arrays.
        dimension_numbers: ((contracted of lhs, of rhs), (batch of lhs, of rhs)).
        precision: 'high' and the like let GPUs round float32 operands to TF32.
        preferred_element_type: dtype to accumulate and return; None keeps the common one.
        out_sharding: how the result is divided over a mesh; None: it is not.

    Returns:
        An Array with the batch axes, the free axes of lhs, the free axes of rhs.

    Example:
        >>> dot_general(asarray([1, 2]), asarray([3, 4]), (((0,), (0,)), ((), ())))
        Array(11, dtype=int32)

    References:
        jax.lax.dot_general
    """
    check_precision(precision, "dot_general")
    x, y = to_array(lhs, "dot_general", "lhs"), to_array(rhs, "dot_general", "rhs")
    narrow = x.dtype != y.dtype and {x.dtype, y.dtype} <= {*dtypes.NARROW_FLOATS}
    if narrow and preferred_element_type is not None:
        x, y = convert(x, dtypes.bfloat16), convert(y, dtypes.bfloat16)  # which holds both exactly
    elif x.dtype != y.dtype:
        dtype = max(x.dtype, y.dtype, key=_precision_of)
        x, y = promote("dot_general", x.astype(dtype), y.astype(dtype))
    (ca, cb), (ba, bb) = dimension_numbers
    dims = ((_axes(ca, x), _axes(cb, y)), (_axes(ba, x), _axes(bb, y)))
    dtype = x.dtype if preferred_element_type is None else dtypes.canonical(preferred_element_type)
    return primitives["dot_general"].bind(
        x, y, dimension_numbers=dims, out_dtype=dtype, **rounded(precision)
    )


def _precision_of(dtype: Any) -> tuple[Any, ...]:
    """Return what orders dtypes as XLA does for products: kind, range, precision, width, sign."""
    real = dtypes.real_dtype(dtype)
    exponent, digits = -1, -1
    if dtypes.is_inexact(real):
        info = dtypes.finfo(real)
        exponent, digits = info.maxexp, info.nmant
    width = 1 if real == dtypes.bool_ else 8 * real.itemsize
    signed = not dtypes.is_integer(real) or dtypes.is_signed(real)
    return dtypes.is_complex(dtype), exponent, digits, width, signed


def _axes(axes: Sequence[int], x: Any) -> tuple[int, ...]:
    return tuple(canonical_axis(k, x.ndim, "dot_general") for k in axes)


@divisible()
def dot(
    lhs: Any,
    rhs: Any,
    *,
    dimension_numbers: Any = None,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> Any:
    """Multiply vectors and matrices, or what ``dimension_numbers`` says, as `dot_general`.

    References:
        jax.lax.dot
    """
    check_precision(precision, "dot")
    if dimension_numbers is not None:
        return dot_general(lhs, rhs, dimension_numbers, precision, preferred_element_type)
    x, y = to_array(lhs, "dot", "lhs"), to_array(rhs, "dot", "rhs")
    if not (1 <= x.ndim <= 2 and 1 <= y.ndim <= 2 and x.shape[-1] == y.shape[0]):
        raise TypeError(
            f"lax.dot: vectors or matrices of fitting sizes are required, got {describe(x)}, "
            f"{describe(y)}"
        )
    return dot_general(x, y, (((x.ndim - 1,), (0,)), ((), ())), precision, preferred_element_type)


def batch_matmul(lhs: Any, rhs: Any, precision: Any = None) -> Any:
    """Multiply matrices in the last two axes; the leading axes are equal.

    References:
        jax.lax.batch_matmul
    """
    check_precision(precision, "batch_matmul")
    x, y = to_array(lhs, "batch_matmul", "lhs"), to_array(rhs, "batch_matmul", "rhs")
    batch = tuple(range(x.ndim - 2))
    return dot_general(x, y, (((x.ndim - 1,), (y.ndim - 2,)), (batch, batch)), precision)


# ------------------------------------------------------------------------------------------ fft
class FftType(enum.IntEnum):
    """The kinds of `fft`."""

    FFT = 0
    IFFT = 1
    RFFT = 2
    IRFFT = 3


_FFTS = {
    FftType.FFT: transforms.fftn,
    FftType.IFFT: transforms.ifftn,
    FftType.RFFT: transforms.rfftn,
    FftType.IRFFT: transforms.irfftn,
}


def fft(x: Any, fft_type: FftType | str, fft_lengths: Sequence[int]) -> Any:
    """Transform the last ``len(fft_lengths)`` axes.

    Args:
        x: array whose last axes have the sizes ``fft_lengths`` (the last one ``n // 2 + 1`` where
            its length is n and the kind is IRFFT).
        fft_type: an `FftType` or its name.
        fft_lengths: sizes of the transforms.

    Returns:
        A complex Array; real for IRFFT.

    Raises:
        ValueError: the kind is none, or the sizes do not fit.

    Example:
        >>> fft(asarray([1.0, 2.0]), "RFFT", (2,)).real.tolist()
        [3.0, -1.0]

    References:
        jax.lax.fft
    """
    operand = to_array(x, "fft", "x")
    if isinstance(fft_type, str) and fft_type not in FftType.__members__:
        raise ValueError(
            f"lax.fft: fft_type {fft_type!r} is none of {', '.join(FftType.__members__)}"
        )
    kind = FftType[fft_type] if isinstance(fft_type, str) else FftType(fft_type)
    sizes = tuple(fft_lengths)
    here = (*sizes[:-1], sizes[-1] // 2 + 1) if sizes and kind is FftType.IRFFT else sizes
    if len(sizes) > operand.ndim or here != operand.shape[operand.ndim - len(sizes) :]:
        raise ValueError(
            f"lax.fft: {kind.name} of lengths {sizes} takes an array whose last axes are {here}, "
            f"got {describe(operand)}"
        )
    return _FFTS[kind](operand, sizes, range(-len(sizes), 0))
