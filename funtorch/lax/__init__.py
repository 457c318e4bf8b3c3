"""The strict operations under funtorch.numpy, with the names of jax.lax.

Arrays given to one operation must have equal shapes and dtypes; numbers take the dtype of the arrays beside
them. Control flow and collectives come from `funtorch.transforms`, so this namespace belongs to the
package's face and nothing below it imports it.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import funtorch.ops.special
from funtorch import dtypes
from funtorch.core import Array, primitives
from funtorch.numpy import indexing, manipulation
from funtorch.numpy.promotion import (
    asarray,
    broadcast_shapes,
    canonical_axes,
    canonical_axis,
    canonical_shape,
    convert,
    describe,
    promote,
    spread_to,
    static_int,
    to_array,
)
from funtorch.transforms import (
    all_gather,
    axis_index,
    axis_size,
    cond,
    custom_jvp,
    custom_vjp,
    fori_loop,
    map,
    pmax,
    pmean,
    pmin,
    ppermute,
    psum,
    scan,
    switch,
    while_loop,
)
from funtorch.tree import map as tree_map

__all__ = [
    "DotDimensionNumbers", "Precision", "abs", "acos", "acosh", "add", "all_gather", "argmax", "argmin", "asin", "asinh", "atan",
    "atan2", "atanh", "axis_index", "axis_size", "batch_matmul", "bitcast_convert_type", "bitwise_and", "bitwise_not", "bitwise_or",
    "bitwise_xor", "broadcast", "broadcast_in_dim", "broadcast_shapes", "broadcast_to_rank", "broadcasted_iota",
    "cbrt", "ceil", "clamp", "clz", "collapse", "complex", "concatenate", "cond", "conj", "convert_element_type", "cos",
    "cosh", "cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum", "custom_jvp", "custom_vjp", "digamma", "div", "dot", "dot_general",
    "dynamic_index_in_dim", "dynamic_slice", "dynamic_slice_in_dim", "dynamic_update_index_in_dim",
    "dynamic_update_slice", "dynamic_update_slice_in_dim", "eq", "erf", "erf_inv", "erfc", "exp", "exp2",
    "expand_dims", "expm1", "floor", "fori_loop", "full", "full_like", "ge", "gt", "imag", "index_in_dim", "index_take",
    "integer_pow", "iota", "is_finite", "le", "lgamma", "log", "log1p", "logistic", "lt", "map", "max", "min", "mul", "ne",
    "neg", "nextafter", "pad", "pmax", "pmean", "pmin", "polygamma", "population_count", "pow", "ppermute", "psum", "real", "reciprocal", "reduce_and",
    "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum", "reduce_xor", "rem", "reshape", "rev",
    "round", "rsqrt", "scan", "select", "select_n", "shift_left", "shift_right_arithmetic", "shift_right_logical", "sign",
    "sin", "sinh", "slice", "slice_in_dim", "sort", "sort_key_val", "split", "sqrt", "square", "squeeze",
    "stop_gradient", "sub", "switch", "tan", "tanh", "top_k", "transpose", "while_loop", "zeros_like_array",
]


# ------------------------------------------------------------------------------------------ elementwise
def _agree(name: str, args: Sequence[Any]) -> list[Any]:
    """Return the arguments as Arrays of one shape and dtype; only numbers are converted and broadcast."""
    xs = [to_array(x, name, str(k)) for k, x in enumerate(args)]
    fixed = [x for x, given in zip(xs, args, strict=True) if isinstance(given, (Array, np.ndarray))]
    shapes = {x.shape for x in fixed if x.ndim}
    strong = {x.dtype for x in fixed if not x.weak_type}
    if len(shapes) > 1 or len(strong) > 1:
        named = ", ".join(f"argument {k} is {describe(x)}" for k, x in enumerate(xs))
        raise TypeError(
            f"lax.{name}: arrays must have equal shapes and dtypes, got {named}; funtorch.numpy broadcasts and "
            "promotes")
    xs = promote(name, *xs)
    shape = next(iter(shapes), ())
    return [spread_to(x, shape) for x in xs]


def _elementwise(name: str, prim: str, text: str) -> Callable[..., Any]:
    strict = primitives[prim].bind

    def function(*args: Any, accuracy: Any = None) -> Any:
        return strict(*_agree(name, args))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{text}.\n\n    References:\n        jax.lax.{name}\n    "
    return function


abs = _elementwise("abs", "abs", "Return the absolute value")
acos = _elementwise("acos", "acos", "Return the inverse cosine")
acosh = _elementwise("acosh", "acosh", "Return the inverse hyperbolic cosine")
add = _elementwise("add", "add", "Return x + y")
asin = _elementwise("asin", "asin", "Return the inverse sine")
asinh = _elementwise("asinh", "asinh", "Return the inverse hyperbolic sine")
atan = _elementwise("atan", "atan", "Return the inverse tangent")
atan2 = _elementwise("atan2", "atan2", "Return the angle of the point (y, x)")
atanh = _elementwise("atanh", "atanh", "Return the inverse hyperbolic tangent")
bitwise_and = _elementwise("bitwise_and", "bitwise_and", "Return x & y")
bitwise_not = _elementwise("bitwise_not", "bitwise_not", "Return ~x")
bitwise_or = _elementwise("bitwise_or", "bitwise_or", "Return x | y")
bitwise_xor = _elementwise("bitwise_xor", "bitwise_xor", "Return x ^ y")
cbrt = _elementwise("cbrt", "cbrt", "Return the cube root")
ceil = _elementwise("ceil", "ceil", "Round up")
clz = _elementwise("clz", "clz", "Count the leading zero bits")
complex = _elementwise("complex", "complex", "Join a real and an imaginary part")
conj = _elementwise("conj", "conj", "Return the complex conjugate")
cos = _elementwise("cos", "cos", "Return the cosine")
cosh = _elementwise("cosh", "cosh", "Return the hyperbolic cosine")
digamma = _elementwise("digamma", "digamma", "Return the derivative of lgamma")
div = _elementwise("div", "div", "Return x / y; of integers rounded towards zero")
eq = _elementwise("eq", "eq", "Tell where x == y")
erf = _elementwise("erf", "erf", "Return the error function")
erf_inv = _elementwise("erf_inv", "erf_inv", "Return the inverse of the error function")
erfc = _elementwise("erfc", "erfc", "Return 1 - erf(x)")
exp = _elementwise("exp", "exp", "Return e to the power x")
exp2 = _elementwise("exp2", "exp2", "Return 2 to the power x")
expm1 = _elementwise("expm1", "expm1", "Return exp(x) - 1")
floor = _elementwise("floor", "floor", "Round down")
ge = _elementwise("ge", "ge", "Tell where x >= y")
gt = _elementwise("gt", "gt", "Tell where x > y")
imag = _elementwise("imag", "imag", "Return the imaginary part")
is_finite = _elementwise("is_finite", "is_finite", "Tell where x is neither nan nor infinite")
le = _elementwise("le", "le", "Tell where x <= y")
lgamma = _elementwise("lgamma", "lgamma", "Return the logarithm of the absolute gamma function")
log = _elementwise("log", "log", "Return the natural logarithm")
log1p = _elementwise("log1p", "log1p", "Return log(1 + x)")
logistic = _elementwise("logistic", "logistic", "Return 1 / (1 + exp(-x))")
lt = _elementwise("lt", "lt", "Tell where x < y")
max = _elementwise("max", "max", "Return the larger")
min = _elementwise("min", "min", "Return the smaller")
mul = _elementwise("mul", "mul", "Return x * y")
ne = _elementwise("ne", "ne", "Tell where x != y")
neg = _elementwise("neg", "neg", "Return -x")
nextafter = _elementwise("nextafter", "nextafter", "Return the next float after x towards y")
polygamma = _elementwise("polygamma", "polygamma", "Return the derivative of digamma of order m")
population_count = _elementwise("population_count", "population_count", "Count the bits set")
real = _elementwise("real", "real", "Return the real part")
reciprocal = _elementwise("reciprocal", "reciprocal", "Return 1 / x")
rem = _elementwise("rem", "rem", "Return the remainder with the sign of x")
rsqrt = _elementwise("rsqrt", "rsqrt", "Return 1 / sqrt(x)")
shift_left = _elementwise("shift_left", "shift_left", "Shift bits left")
shift_right_arithmetic = _elementwise(
    "shift_right_arithmetic", "shift_right_arithmetic", "Shift bits right, copying the sign")
shift_right_logical = _elementwise("shift_right_logical", "shift_right_logical", "Shift bits right, filling with 0")
sign = _elementwise("sign", "sign", "Return -1, 0 or 1 by the sign")
sin = _elementwise("sin", "sin", "Return the sine")
sinh = _elementwise("sinh", "sinh", "Return the hyperbolic sine")
sqrt = _elementwise("sqrt", "sqrt", "Return the square root")
square = _elementwise("square", "square", "Return x * x")
stop_gradient_array = _elementwise("stop_gradient", "stop_gradient", "Return x, with derivative zero")
sub = _elementwise("sub", "sub", "Return x - y")
tan = _elementwise("tan", "tan", "Return the tangent")
tanh = _elementwise("tanh", "tanh", "Return the hyperbolic tangent")


def pow(x: Any, y: Any) -> Any:
    """Return x to the power y; the exponent may be of an integer dtype.

    References:
        jax.lax.pow
    """
    if isinstance(y, builtins.int) and not isinstance(y, bool):
        return integer_pow(x, y)
    base, exponent = to_array(x, "pow", "x"), to_array(y, "pow", "y")
    if dtypes.is_inexact(base.dtype) and dtypes.is_integer(exponent.dtype):
        exponent = convert(exponent, base.dtype, base.weak_type)
    return primitives["pow"].bind(*_agree("pow", (base, exponent)))


def integer_pow(x: Any, y: int) -> Any:
    """Return x to the power of a static int.

    References:
        jax.lax.integer_pow
    """
    return primitives["integer_pow"].bind(to_array(x, "integer_pow"), y=static_int(y, "integer_pow: y"))


def round(x: Any, rounding_method: Any = None) -> Any:
    """Round to the nearest integer: halves away from zero (method 0, the default), or to even (1).

    References:
        jax.lax.round
    """
    x = to_array(x, "round")
    if builtins.int(rounding_method or 0) == 1:
        return primitives["round"].bind(x)
    # Adding a half and cutting off would round 0.49999997 up: compare the fraction instead.
    whole = primitives["trunc"].bind(x)
    far = primitives["ge"].bind(abs(sub(x, whole)), spread_to(asarray(0.5, x.dtype), x.shape))
    return select(far, add(whole, sign(x)), whole)


def clamp(min: Any, x: Any, max: Any) -> Any:
    """Limit x to the range [min, max], whose ends are arrays of its shape or numbers.

    References:
        jax.lax.clamp
    """
    x = to_array(x, "clamp")
    low, high = (spread_to(convert(to_array(b, "clamp", n), x.dtype, x.weak_type), x.shape)
                 for n, b in (("min", min), ("max", max)))
    return primitives["min"].bind(primitives["max"].bind(x, low), high)


def select(pred: Any, on_true: Any, on_false: Any) -> Any:
    """Choose elements by a bool array of the same shape, or of rank 0.

    References:
        jax.lax.select
    """
    pred = to_array(pred, "select", "pred")
    x, y = _agree("select", (on_true, on_false))
    return primitives["select"].bind(spread_to(pred, x.shape), x, y)


def select_n(which: Any, *cases: Any) -> Any:
    """Choose elements among cases by a bool or integer array.

    References:
        jax.lax.select_n
    """
    which = to_array(which, "select_n", "which")
    xs = _agree("select_n", cases)
    which = spread_to(which, xs[0].shape)
    if which.dtype == dtypes.bool_:
        if len(xs) > 2:
            raise TypeError(f"select_n: a bool array chooses between 2 cases, got {len(xs)}")
        return primitives["select"].bind(which, xs[-1], xs[0])
    out = xs[-1]
    for k in reversed(range(len(xs) - 1)):
        here = primitives["le"].bind(which, spread_to(asarray(k, which.dtype), which.shape))
        out = primitives["select"].bind(here, xs[k], out)
    return out


def convert_element_type(operand: Any, new_dtype: Any) -> Any:
    """Convert to a dtype.

    References:
        jax.lax.convert_element_type
    """
    weak = new_dtype in (builtins.int, builtins.float, builtins.complex)
    return convert(to_array(operand, "convert_element_type", "operand"), dtypes.canonical(new_dtype), weak)


def bitcast_convert_type(operand: Any, new_dtype: Any) -> Any:
    """Read the bytes as another dtype of the same size.

    References:
        jax.lax.bitcast_convert_type
    """
    return to_array(operand, "bitcast_convert_type", "operand").view(new_dtype)


def stop_gradient(x: Any) -> Any:
    """Return x, with derivative zero; lists, tuples and dicts of arrays too.

    Example:
        >>> float(stop_gradient(2.0))
        2.0

    References:
        jax.lax.stop_gradient
    """
    if isinstance(x, (Array, np.ndarray, np.generic, builtins.float, builtins.int, builtins.complex)):
        x = to_array(x, "stop_gradient")
        return stop_gradient_array(x) if dtypes.is_inexact(x.dtype) else x
    return tree_map(stop_gradient, x)


# ------------------------------------------------------------------------------------------ shape
def reshape(operand: Any, new_sizes: Any, dimensions: Any = None) -> Any:
    """Give an array another shape.

    References:
        jax.lax.reshape
    """
    x = to_array(operand, "reshape", "operand")
    return manipulation.reshape(x if dimensions is None else transpose(x, dimensions), new_sizes)


def transpose(operand: Any, permutation: Sequence[int]) -> Any:
    """Permute axes.

    References:
        jax.lax.transpose
    """
    return manipulation.transpose(operand, permutation)


def rev(operand: Any, dimensions: Sequence[int]) -> Any:
    """Reverse axes.

    References:
        jax.lax.rev
    """
    return manipulation.flip(operand, tuple(dimensions))


def squeeze(array: Any, dimensions: Sequence[int]) -> Any:
    """Remove axes of size 1.

    References:
        jax.lax.squeeze
    """
    return manipulation.squeeze(array, tuple(dimensions))


def expand_dims(array: Any, dimensions: Sequence[int]) -> Any:
    """Insert axes of size 1.

    References:
        jax.lax.expand_dims
    """
    return manipulation.expand_dims(array, tuple(dimensions))


def collapse(operand: Any, start_dimension: int, stop_dimension: int | None = None) -> Any:
    """Merge the axes from start to stop into one.

    References:
        jax.lax.collapse
    """
    x = to_array(operand, "collapse", "operand")
    lo, hi, _ = builtins.slice(start_dimension, stop_dimension).indices(x.ndim)
    return manipulation.reshape(x, x.shape[:lo] + (math.prod(x.shape[lo:hi]),) + x.shape[hi:])


def broadcast(operand: Any, sizes: Sequence[int]) -> Any:
    """Add leading axes of given sizes.

    References:
        jax.lax.broadcast
    """
    x = to_array(operand, "broadcast", "operand")
    return spread_to(x, tuple(sizes) + x.shape)


def broadcast_in_dim(operand: Any, shape: Sequence[int], broadcast_dimensions: Sequence[int]) -> Any:
    """Broadcast to a shape; axis k of the operand becomes axis ``broadcast_dimensions[k]``.

    References:
        jax.lax.broadcast_in_dim
    """
    x = to_array(operand, "broadcast_in_dim", "operand")
    return primitives["broadcast_in_dim"].bind(
        x, shape=canonical_shape(shape, "broadcast_in_dim"), dims=tuple(broadcast_dimensions))


def broadcast_to_rank(x: Any, rank: int) -> Any:
    """Add leading axes of size 1 up to a rank.

    References:
        jax.lax.broadcast_to_rank
    """
    x = to_array(x, "broadcast_to_rank")
    return manipulation.reshape(x, (1,) * (rank - x.ndim) + x.shape)


def concatenate(operands: Sequence[Any], dimension: int) -> Any:
    """Join arrays along an axis.

    References:
        jax.lax.concatenate
    """
    return manipulation.concatenate(operands, dimension)


def split(operand: Any, sizes: Sequence[int], axis: int = 0) -> list[Any]:
    """Split an axis into parts of given sizes.

    References:
        jax.lax.split
    """
    cuts = np.cumsum(np.asarray(sizes))[:-1]
    return manipulation.split(operand, [builtins.int(c) for c in cuts], axis)


def pad(operand: Any, padding_value: Any, padding_config: Sequence[tuple[int, int, int]]) -> Any:
    """Add elements around an axis and between its elements: (low, high, interior) per axis; low and high may
    be negative.

    References:
        jax.lax.pad
    """
    x = to_array(operand, "pad", "operand")
    lo, hi, interior = (tuple(c[k] for c in padding_config) for k in range(3))
    value = convert(to_array(padding_value, "pad", "padding_value"), x.dtype)
    return primitives["pad"].bind(x, value, lo=lo, hi=hi, interior=interior)


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    """Make an array of one value.

    References:
        jax.lax.full
    """
    return spread_to(asarray(fill_value, dtype), canonical_shape(shape, "full"))


def full_like(x: Any, fill_value: Any, dtype: Any = None, shape: Any = None) -> Any:
    """Make an array of one value with the shape and dtype of another.

    References:
        jax.lax.full_like
    """
    x = to_array(x, "full_like")
    return full(x.shape if shape is None else shape, fill_value, x.dtype if dtype is None else dtype)


def zeros_like_array(x: Any) -> Any:
    """Make zeros with the shape and dtype of an array.

    References:
        jax.lax.zeros_like_array
    """
    return full_like(x, 0)


def iota(dtype: Any, size: int) -> Any:
    """Make the vector 0, 1, 2 ...

    Example:
        >>> iota('int32', 3)
        Array([0, 1, 2], dtype=int32)

    References:
        jax.lax.iota
    """
    return broadcasted_iota(dtype, (size,), 0)


def broadcasted_iota(dtype: Any, shape: Sequence[int], dimension: int) -> Any:
    """Make an array that counts along one axis.

    References:
        jax.lax.broadcasted_iota
    """
    sizes = canonical_shape(shape, "broadcasted_iota")
    return primitives["iota"].bind(
        shape=sizes, axis=canonical_axis(dimension, len(sizes), "broadcasted_iota"), dtype=dtypes.canonical(dtype))


# ------------------------------------------------------------------------------------------ slices
def slice(operand: Any, start_indices: Sequence[int], limit_indices: Sequence[int],
          strides: Sequence[int] | None = None) -> Any:
    """Take a static block.

    References:
        jax.lax.slice
    """
    x = to_array(operand, "slice", "operand")
    stride = (1,) * x.ndim if strides is None else tuple(strides)
    return primitives["slice"].bind(x, start=tuple(start_indices), limit=tuple(limit_indices), stride=stride)


def slice_in_dim(operand: Any, start_index: int | None, limit_index: int | None, stride: int = 1,
                 axis: int = 0) -> Any:
    """Take a static range of one axis.

    References:
        jax.lax.slice_in_dim
    """
    x = to_array(operand, "slice_in_dim", "operand")
    k = canonical_axis(axis, x.ndim, "slice_in_dim")
    start, stop, step = builtins.slice(start_index, limit_index, stride).indices(x.shape[k])
    return manipulation.slice_axis(x, k, start, stop, step)


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


def _starts(x: Any, starts: Any, name: str) -> list[Any]:
    """Return start indices as int32 scalars; negative ones count from the end."""
    given = list(starts) if not isinstance(starts, Array) else [starts[k] for k in range(starts.shape[0])]
    if len(given) != x.ndim:
        raise TypeError(f"lax.{name}: one start index per axis is required: {len(given)} given for {describe(x)}")
    out = []
    for k, (start, n) in enumerate(zip(given, x.shape, strict=True)):
        i = to_array(start, name, f"start_indices[{k}]")
        if i.ndim or not dtypes.is_integer(i.dtype):
            raise TypeError(f"lax.{name}: start_indices[{k}] must be an integer of rank 0, got {describe(i)}")
        out.append(convert(indexing.wrap_negative(i, n), dtypes.int32))
    return out


def dynamic_slice(operand: Any, start_indices: Any, slice_sizes: Sequence[int]) -> Any:
    """Take a block of static sizes at a start that may be traced; it is moved to fit inside.

    Args:
        operand: array.
        start_indices: one integer of rank 0 per axis, or a vector of them.
        slice_sizes: ints.

    Example:
        >>> dynamic_slice(asarray([1, 2, 3, 4]), [1], [2])
        Array([2, 3], dtype=int32)

    References:
        jax.lax.dynamic_slice
    """
    x = to_array(operand, "dynamic_slice", "operand")
    starts = _starts(x, start_indices, "dynamic_slice")
    return primitives["dynamic_slice"].bind(x, *starts, sizes=tuple(slice_sizes))


def dynamic_slice_in_dim(operand: Any, start_index: Any, slice_size: int, axis: int = 0) -> Any:
    """Take a range of static size of one axis.

    References:
        jax.lax.dynamic_slice_in_dim
    """
    x = to_array(operand, "dynamic_slice_in_dim", "operand")
    k = canonical_axis(axis, x.ndim, "dynamic_slice_in_dim")
    starts = [start_index if j == k else 0 for j in range(x.ndim)]
    return dynamic_slice(x, starts, [slice_size if j == k else n for j, n in enumerate(x.shape)])


def dynamic_index_in_dim(operand: Any, index: Any, axis: int = 0, keepdims: bool = True) -> Any:
    """Take one position of an axis.

    References:
        jax.lax.dynamic_index_in_dim
    """
    out = dynamic_slice_in_dim(operand, index, 1, axis)
    return out if keepdims else manipulation.squeeze(out, axis)


def dynamic_update_slice(operand: Any, update: Any, start_indices: Any) -> Any:
    """Replace a block at a start that may be traced; it is moved to fit inside.

    References:
        jax.lax.dynamic_update_slice
    """
    x, v = to_array(operand, "dynamic_update_slice", "operand"), to_array(update, "dynamic_update_slice", "update")
    if v.dtype != x.dtype and not v.weak_type:
        raise TypeError(f"lax.dynamic_update_slice: operand {describe(x)} and update {describe(v)} differ in dtype")
    v = convert(v, x.dtype)
    return primitives["dynamic_update_slice"].bind(x, v, *_starts(x, start_indices, "dynamic_update_slice"))


def dynamic_update_slice_in_dim(operand: Any, update: Any, start_index: Any, axis: int) -> Any:
    """Replace a range of one axis.

    References:
        jax.lax.dynamic_update_slice_in_dim
    """
    x = to_array(operand, "dynamic_update_slice_in_dim", "operand")
    k = canonical_axis(axis, x.ndim, "dynamic_update_slice_in_dim")
    return dynamic_update_slice(x, update, [start_index if j == k else 0 for j in range(x.ndim)])


def dynamic_update_index_in_dim(operand: Any, update: Any, index: Any, axis: int) -> Any:
    """Replace one position of an axis.

    References:
        jax.lax.dynamic_update_index_in_dim
    """
    x, v = to_array(operand, "dynamic_update_index_in_dim", "operand"), asarray(update)
    k = canonical_axis(axis, x.ndim, "dynamic_update_index_in_dim")
    if v.ndim != x.ndim:
        v = manipulation.expand_dims(v, k)
    return dynamic_update_slice_in_dim(x, v, index, k)


def index_take(src: Any, idxs: Sequence[Any], axes: Sequence[int]) -> Any:
    """Take elements by index arrays over several axes; their axes come first in the result.

    References:
        jax.lax.index_take
    """
    x = to_array(src, "index_take", "src")
    wrapped = [indexing.wrap_negative(to_array(i, "index_take", "idxs"), x.shape[k])
               for i, k in zip(idxs, axes, strict=True)]
    return primitives["gather"].bind(x, *wrapped, axes=tuple(axes), mode="clip", fill=None)


# ------------------------------------------------------------------------------------------ reductions
def _reduction(name: str) -> Callable[..., Any]:
    prim = primitives[name]

    def function(operand: Any, axes: Sequence[int], out_sharding: None = None) -> Any:
        x = to_array(operand, name, "operand")
        return prim.bind(x, axes=canonical_axes(tuple(axes), x.ndim, name))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Reduce over axes, by {name[7:]}.\n\n    References:\n        jax.lax.{name}\n    "
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
        f"Accumulate along an axis, by {name[3:]}.\n\n    References:\n        jax.lax.{name}\n    ")
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
    return primitives["argmax"].bind(x, axis=canonical_axis(axis, x.ndim, "argmax"), dtype=dtypes.canonical(index_dtype))


def argmin(operand: Any, axis: int, index_dtype: Any) -> Any:
    """Return the position of the first smallest element along an axis.

    References:
        jax.lax.argmin
    """
    x = to_array(operand, "argmin", "operand")
    return primitives["argmin"].bind(x, axis=canonical_axis(axis, x.ndim, "argmin"), dtype=dtypes.canonical(index_dtype))


# ------------------------------------------------------------------------------------------ sorting
def sort(operand: Any, dimension: int = -1, is_stable: bool = True, num_keys: int = 1) -> Any:
    """Sort an array, or several together by the first ``num_keys`` of them.

    References:
        jax.lax.sort
    """
    several = isinstance(operand, (tuple, list))
    xs = [to_array(x, "sort", f"operand[{k}]") for k, x in enumerate(operand if several else (operand,))]
    out = primitives["sort"].bind(*xs, axis=canonical_axis(dimension, xs[0].ndim, "sort"), num_keys=num_keys)
    return tuple(out) if several else out[0]


def sort_key_val(keys: Any, values: Any, dimension: int = -1, is_stable: bool = True) -> tuple[Any, Any]:
    """Sort keys, and values in the same order.

    References:
        jax.lax.sort_key_val
    """
    return sort((keys, values), dimension)


def top_k(operand: Any, k: int, *, axis: int = -1) -> tuple[Any, Any]:
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
    n = x.shape[axis]
    if not 0 <= k <= n:
        raise ValueError(f"top_k: k={k} must be between 0 and {n}, the size of axis {axis} of {describe(x)}")
    positions = broadcasted_iota(dtypes.int32, x.shape, axis)
    # Sorting the mirror image upwards and reading it backwards keeps equal elements in order.
    values, where = sort((manipulation.flip(x, axis), manipulation.flip(positions, axis)), axis)
    values, where = (manipulation.flip(manipulation.slice_axis(v, axis, n - k, n), axis) for v in (values, where))
    return values, where


# ------------------------------------------------------------------------------------------ contraction
class Precision:
    """Accepted where JAX takes it; products are always computed in full precision."""

    DEFAULT = "default"
    HIGH = "high"
    HIGHEST = "highest"


class DotDimensionNumbers(NamedTuple):
    """((contracted axes of lhs, of rhs), (batch axes of lhs, of rhs))."""

    contract: tuple[Sequence[int], Sequence[int]]
    batch: tuple[Sequence[int], Sequence[int]]


def dot_general(lhs: Any, rhs: Any, dimension_numbers: Any, precision: Any = None,
                preferred_element_type: Any = None) -> Any:
    """Contract axes of two arrays, with batch axes running together.

    Args:
        lhs, rhs: arrays.
        dimension_numbers: ((contracted of lhs, of rhs), (batch of lhs, of rhs)).
        precision: accepted for JAX's sake.
        preferred_element_type: dtype to accumulate and return; None keeps the common one.

    Returns:
        An Array with the batch axes, the free axes of lhs, the free axes of rhs.

    Example:
        >>> dot_general(asarray([1, 2]), asarray([3, 4]), (((0,), (0,)), ((), ())))
        Array(11, dtype=int32)

    References:
        jax.lax.dot_general
    """
    x, y = promote("dot_general", to_array(lhs, "dot_general", "lhs"), to_array(rhs, "dot_general", "rhs"))
    (ca, cb), (ba, bb) = dimension_numbers
    dims = ((_axes(ca, x), _axes(cb, y)), (_axes(ba, x), _axes(bb, y)))
    dtype = x.dtype if preferred_element_type is None else dtypes.canonical(preferred_element_type)
    return primitives["dot_general"].bind(x, y, dimension_numbers=dims, out_dtype=dtype)


def _axes(axes: Sequence[int], x: Any) -> tuple[int, ...]:
    return tuple(canonical_axis(k, x.ndim, "dot_general") for k in axes)


def dot(lhs: Any, rhs: Any, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Multiply vectors and matrices.

    References:
        jax.lax.dot
    """
    x, y = to_array(lhs, "dot", "lhs"), to_array(rhs, "dot", "rhs")
    if not (1 <= x.ndim <= 2 and 1 <= y.ndim <= 2 and x.shape[-1] == y.shape[0]):
        raise TypeError(f"lax.dot: vectors or matrices of fitting sizes are required, got {describe(x)}, {describe(y)}")
    return dot_general(x, y, (((x.ndim - 1,), (0,)), ((), ())), precision, preferred_element_type)


def batch_matmul(lhs: Any, rhs: Any, precision: Any = None) -> Any:
    """Multiply matrices in the last two axes; the leading axes are equal.

    References:
        jax.lax.batch_matmul
    """
    x, y = to_array(lhs, "batch_matmul", "lhs"), to_array(rhs, "batch_matmul", "rhs")
    batch = tuple(range(x.ndim - 2))
    return dot_general(x, y, (((x.ndim - 1,), (y.ndim - 2,)), (batch, batch)), precision)
