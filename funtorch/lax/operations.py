"""The strict operations under funtorch.numpy, with the names of jax.lax.

Arrays given to one operation must have equal shapes and dtypes; numbers take the dtype of the
arrays beside them.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Array, primitives
from funtorch.numpy import manipulation
from funtorch.numpy.promotion import (
    asarray,
    broadcast_shapes,
    canonical_axis,
    canonical_shape,
    convert,
    describe,
    promote,
    spread_to,
    static_int,
    to_array,
)
from funtorch.tree import map as tree_map

__all__ = [
    "abs",
    "acos",
    "acosh",
    "add",
    "agree",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitcast_convert_type",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "broadcast",
    "broadcast_in_dim",
    "broadcast_shapes",
    "broadcast_to_rank",
    "broadcasted_iota",
    "cbrt",
    "ceil",
    "clamp",
    "clz",
    "collapse",
    "complex",
    "concatenate",
    "conj",
    "convert_element_type",
    "cos",
    "cosh",
    "digamma",
    "div",
    "eq",
    "erf",
    "erf_inv",
    "erfc",
    "exp",
    "exp2",
    "expand_dims",
    "expm1",
    "floor",
    "full",
    "full_like",
    "ge",
    "gt",
    "imag",
    "integer_pow",
    "iota",
    "is_finite",
    "le",
    "lgamma",
    "log",
    "log1p",
    "logistic",
    "lt",
    "max",
    "min",
    "mul",
    "ne",
    "neg",
    "nextafter",
    "pad",
    "population_count",
    "pow",
    "real",
    "reciprocal",
    "rem",
    "reshape",
    "rev",
    "round",
    "rsqrt",
    "select",
    "select_n",
    "shift_left",
    "shift_right_arithmetic",
    "shift_right_logical",
    "sign",
    "sin",
    "sinh",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stop_gradient",
    "sub",
    "tan",
    "tanh",
    "transpose",
    "zeros_like_array",
]


# ------------------------------------------------------------------------------------------
# elementwise
def agree(name: str, args: Sequence[Any]) -> list[Any]:
    """Return the arguments as Arrays of one shape and dtype; only numbers are converted and
    broadcast."""
    xs = [to_array(x, name, str(k)) for k, x in enumerate(args)]
    fixed = [x for x, given in zip(xs, args, strict=True) if isinstance(given, (Array, np.ndarray))]
    shapes = {x.shape for x in fixed if x.ndim}
    strong = {x.dtype for x in fixed if not x.weak_type}
    if len(shapes) > 1 or len(strong) > 1:
        named = ", ".join(f"argument {k} is {describe(x)}" for k, x in enumerate(xs))
        raise TypeError(
            f"lax.{name}: arrays must have equal shapes and dtypes, got {named}; funtorch.numpy "
            "broadcasts and "
            "promotes"
        )
    xs = promote(name, *xs)
    shape = next(iter(shapes), ())
    return [spread_to(x, shape) for x in xs]


def _elementwise(name: str, prim: str, text: str) -> Callable[..., Any]:
    strict = primitives[prim].bind

    def function(*args: Any, accuracy: Any = None) -> Any:
        return strict(*agree(name, args))

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
population_count = _elementwise("population_count", "population_count", "Count the bits set")
real = _elementwise("real", "real", "Return the real part")
reciprocal = _elementwise("reciprocal", "reciprocal", "Return 1 / x")
rem = _elementwise("rem", "rem", "Return the remainder with the sign of x")
rsqrt = _elementwise("rsqrt", "rsqrt", "Return 1 / sqrt(x)")
shift_left = _elementwise("shift_left", "shift_left", "Shift bits left")
shift_right_arithmetic = _elementwise(
    "shift_right_arithmetic", "shift_right_arithmetic", "Shift bits right, copying the sign"
)
shift_right_logical = _elementwise(
    "shift_right_logical", "shift_right_logical", "Shift bits right, filling with 0"
)
sign = _elementwise("sign", "sign", "Return -1, 0 or 1 by the sign")
sin = _elementwise("sin", "sin", "Return the sine")
sinh = _elementwise("sinh", "sinh", "Return the hyperbolic sine")
sqrt = _elementwise("sqrt", "sqrt", "Return the square root")
square = _elementwise("square", "square", "Return x * x")
stop_gradient_array = _elementwise(
    "stop_gradient", "stop_gradient", "Return x, with derivative zero"
)
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
    return primitives["pow"].bind(*agree("pow", (base, exponent)))


def integer_pow(x: Any, y: int) -> Any:
    """Return x to the power of a static int.

    References:
        jax.lax.integer_pow
    """
    return primitives["integer_pow"].bind(
        to_array(x, "integer_pow"), y=static_int(y, "integer_pow: y")
    )


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
    low, high = (
        spread_to(convert(to_array(b, "clamp", n), x.dtype, x.weak_type), x.shape)
        for n, b in (("min", min), ("max", max))
    )
    return primitives["min"].bind(primitives["max"].bind(x, low), high)


def select(pred: Any, on_true: Any, on_false: Any) -> Any:
    """Choose elements by a bool array of the same shape, or of rank 0.

    References:
        jax.lax.select
    """
    pred = to_array(pred, "select", "pred")
    x, y = agree("select", (on_true, on_false))
    return primitives["select"].bind(spread_to(pred, x.shape), x, y)


def select_n(which: Any, *cases: Any) -> Any:
    """Choose elements among cases by a bool or integer array.

    References:
        jax.lax.select_n
    """
    which = to_array(which, "select_n", "which")
    xs = agree("select_n", cases)
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
    return convert(
        to_array(operand, "convert_element_type", "operand"), dtypes.canonical(new_dtype), weak
    )


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
    if isinstance(
        x, (Array, np.ndarray, np.generic, builtins.float, builtins.int, builtins.complex)
    ):
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


def broadcast_in_dim(
    operand: Any, shape: Sequence[int], broadcast_dimensions: Sequence[int]
) -> Any:
    """Broadcast to a shape; axis k of the operand becomes axis ``broadcast_dimensions[k]``.

    References:
        jax.lax.broadcast_in_dim
    """
    x = to_array(operand, "broadcast_in_dim", "operand")
    return primitives["broadcast_in_dim"].bind(
        x, shape=canonical_shape(shape, "broadcast_in_dim"), dims=tuple(broadcast_dimensions)
    )


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
    """Add elements around an axis and between its elements: (low, high, interior) per axis; low and
    high may be negative.

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
    return full(
        x.shape if shape is None else shape, fill_value, x.dtype if dtype is None else dtype
    )


def zeros_like_array(x: Any) -> Any:
    """Make zeros with the shape and dtype of an array.

    References:
        jax.lax.zeros_like_array
    """
    return full_like(x, 0)


def iota(dtype: Any, size: int) -> Any:
    """Make the vector 0, 1, 2 ...

    Example:
        >>> iota("int32", 3)
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
        shape=sizes,
        axis=canonical_axis(dimension, len(sizes), "broadcasted_iota"),
        dtype=dtypes.canonical(dtype),
    )
