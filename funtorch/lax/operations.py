"""The strict operations under funtorch.numpy, with the names of jax.lax.

Arrays given to one operation must have equal dtypes and equal shapes, in which axes of size 1 fit
to any; numbers take the dtype of the arrays beside them.
"""

from __future__ import annotations

import builtins
import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Array, primitives
from funtorch.numpy import creation, elementwise
from funtorch.numpy.bits import recast
from funtorch.numpy.promotion import (
    asarray,
    broadcast_shapes,
    convert,
    describe,
    moves,
    promote,
    spread_to,
    static_int,
    to_array,
)
from funtorch.tree import map as tree_map

__all__ = [
    "RoundingMethod",
    "dtype",
    "mulhi",
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
    "broadcast_shapes",
    "cbrt",
    "ceil",
    "clamp",
    "clz",
    "complex",
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
    "expm1",
    "floor",
    "ge",
    "gt",
    "imag",
    "integer_pow",
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
    "population_count",
    "pow",
    "real",
    "reciprocal",
    "rem",
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
    "sqrt",
    "square",
    "stop_gradient",
    "sub",
    "tan",
    "tanh",
]


# ------------------------------------------------------------------------------------------
# elementwise
def agree(name: str, args: Sequence[Any]) -> list[Any]:
    """Return the arguments as Arrays of one shape and dtype: numbers are converted and broadcast,
    and axes of size 1 grow."""
    xs = [to_array(x, name, str(k)) for k, x in enumerate(args)]
    fixed = [x for x, given in zip(xs, args, strict=True) if isinstance(given, (Array, np.ndarray))]
    shapes = {x.shape for x in fixed if x.ndim}
    strong = {x.dtype for x in fixed if not x.weak_type}
    if len(strong) == 1:  # NumPy's scalars give way as JAX's 32-bit mode has it
        (only,) = strong
        xs = [
            convert(x, only) if isinstance(given, np.generic) and _alike(x.dtype, only) else x
            for x, given in zip(xs, args, strict=True)
        ]
    joined = promote(name, *xs)
    shape = next(iter(shapes), ()) if len(shapes) < 2 else _common(shapes)
    if shape is None or len(strong) > 1 or strong - {joined[0].dtype}:
        named = ", ".join(f"argument {k} is {describe(x)}" for k, x in enumerate(xs))
        raise TypeError(
            f"lax.{name}: arrays must have equal shapes and dtypes, got {named}; funtorch.numpy "
            "broadcasts and promotes"
        )
    return [spread_to(x, shape) for x in joined]


def _alike(a: np.dtype, b: np.dtype) -> bool:
    return (dtypes.is_float(a) and dtypes.is_float(b)) or (
        dtypes.is_integer(a) and dtypes.is_integer(b)
    )


def _common(shapes: Iterable[tuple[int, ...]]) -> tuple[int, ...] | None:
    """Return the shape that axes of size 1 grow to, where the arrays have equal ranks."""
    if len({len(shape) for shape in shapes}) > 1:
        return None
    try:
        return broadcast_shapes(*shapes)
    except ValueError:
        return None


def _documented(function: Any, name: str, text: str) -> Any:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{text}.\n\n    References:\n        jax.lax.{name}\n    "
    return function


def _strict(name: str) -> Callable[..., Any]:
    """Return a primitive's function, which refuses eagerly, too, the dtypes that it is not for."""
    prim, fine = primitives[name], set()

    def strict(*xs: Any) -> Any:
        if xs[0].dtype not in fine:
            prim.type(*[x.aval for x in xs])
            fine.add(xs[0].dtype)
        return prim.bind(*xs)

    return strict


def _unary(name: str, text: str) -> Callable[..., Any]:
    strict = _strict(name)

    def function(x: Any) -> Any:
        return strict(to_array(x, name))

    return _documented(function, name, text)


def _approximable(name: str, text: str) -> Callable[..., Any]:
    """Make a function with JAX's argument ``accuracy``, which changes nothing."""
    strict = _strict(name)

    def function(x: Any, *, accuracy: Any = None) -> Any:
        return strict(to_array(x, name))

    return _documented(function, name, text)


def _binary(name: str, text: str, of_complex: Any = None) -> Callable[..., Any]:
    strict = _strict(name)

    def function(x: Any, y: Any) -> Any:
        xs = agree(name, (x, y))
        if of_complex is not None and dtypes.is_complex(xs[0].dtype):
            return of_complex(*xs)
        return strict(*xs)

    return _documented(function, name, text)


abs = _unary("abs", "Return the absolute value")
acos = _unary("acos", "Return the inverse cosine")
acosh = _unary("acosh", "Return the inverse hyperbolic cosine")
add = _binary("add", "Return x + y")
asin = _unary("asin", "Return the inverse sine")
asinh = _unary("asinh", "Return the inverse hyperbolic sine")
atan = _unary("atan", "Return the inverse tangent")
atan2 = _binary("atan2", "Return the angle of the point (y, x)")
atanh = _unary("atanh", "Return the inverse hyperbolic tangent")
bitwise_and = _binary("bitwise_and", "Return x & y")
bitwise_not = _unary("bitwise_not", "Return ~x")
bitwise_or = _binary("bitwise_or", "Return x | y")
bitwise_xor = _binary("bitwise_xor", "Return x ^ y")
cbrt = _approximable("cbrt", "Return the cube root")
ceil = _unary("ceil", "Round up")
clz = _unary("clz", "Count the leading zero bits")
complex = _binary("complex", "Join a real and an imaginary part")
conj = _unary("conj", "Return the complex conjugate")
cos = _approximable("cos", "Return the cosine")
cosh = _unary("cosh", "Return the hyperbolic cosine")
digamma = _unary("digamma", "Return the derivative of lgamma")
div = _binary("div", "Return x / y; of integers rounded towards zero")
eq = _binary("eq", "Tell where x == y")
erf = _unary("erf", "Return the error function")
erf_inv = _unary("erf_inv", "Return the inverse of the error function")
erfc = _unary("erfc", "Return 1 - erf(x)")
exp = _approximable("exp", "Return e to the power x")
exp2 = _approximable("exp2", "Return 2 to the power x")
expm1 = _approximable("expm1", "Return exp(x) - 1")
floor = _unary("floor", "Round down")
ge = _binary("ge", "Tell where x >= y")
gt = _binary("gt", "Tell where x > y")
imag = _unary("imag", "Return the imaginary part")
is_finite = _unary("is_finite", "Tell where x is neither nan nor infinite")
le = _binary("le", "Tell where x <= y")
lgamma = _unary("lgamma", "Return the logarithm of the absolute gamma function")
log = _approximable("log", "Return the natural logarithm")
log1p = _approximable("log1p", "Return log(1 + x)")
logistic = _approximable("logistic", "Return 1 / (1 + exp(-x))")
lt = _binary("lt", "Tell where x < y")
max = _binary("max", "Return the larger", elementwise.maximum)
min = _binary("min", "Return the smaller", elementwise.minimum)


def mul(x: Any, y: Any, *, out_dtype: Any = None) -> Any:
    """Return x * y.

    Args:
        x, y: arrays of one shape and dtype, or numbers.
        out_dtype: dtype of the result; None keeps the common one.

    References:
        jax.lax.mul
    """
    x, y = agree("mul", (x, y))
    if out_dtype is not None:
        x, y = (convert(z, dtypes.canonical(out_dtype)) for z in (x, y))
    return primitives["mul"].bind(x, y)


ne = _binary("ne", "Tell where x != y")
neg = _unary("neg", "Return -x")


def nextafter(x1: Any, x2: Any) -> Any:
    """Return the next float after x1 towards x2.

    References:
        jax.lax.nextafter
    """
    return primitives["nextafter"].bind(*agree("nextafter", (x1, x2)))


population_count = _unary("population_count", "Count the bits set")
real = _unary("real", "Return the real part")
reciprocal = _unary("reciprocal", "Return 1 / x")
rem = _binary("rem", "Return the remainder with the sign of x")
rsqrt = _approximable("rsqrt", "Return 1 / sqrt(x)")
shift_left = _binary("shift_left", "Shift bits left")
shift_right_arithmetic = _binary("shift_right_arithmetic", "Shift bits right, copying the sign")
shift_right_logical = _binary("shift_right_logical", "Shift bits right, filling with 0")
sign = _unary("sign", "Return -1, 0 or 1 by the sign")
sin = _approximable("sin", "Return the sine")
sinh = _unary("sinh", "Return the hyperbolic sine")
sqrt = _approximable("sqrt", "Return the square root")
square = _unary("square", "Return x * x")
stop_gradient_array = _unary("stop_gradient", "Return x, with derivative zero")
sub = _binary("sub", "Return x - y")
tan = _approximable("tan", "Return the tangent")
tanh = _approximable("tanh", "Return the hyperbolic tangent")


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


class RoundingMethod(enum.IntEnum):
    """What `round` does with halves."""

    AWAY_FROM_ZERO = 0
    TO_NEAREST_EVEN = 1


def round(x: Any, rounding_method: RoundingMethod = RoundingMethod.AWAY_FROM_ZERO) -> Any:
    """Round to the nearest integer.

    Args:
        x: array of floats.
        rounding_method: what halves do.

    References:
        jax.lax.round
    """
    x = to_array(x, "round")
    if RoundingMethod(rounding_method) is RoundingMethod.TO_NEAREST_EVEN:
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


@moves
def select(pred: Any, on_true: Any, on_false: Any) -> Any:
    """Choose elements by a bool array of the same shape, or of rank 0.

    References:
        jax.lax.select
    """
    pred = to_array(pred, "select", "pred")
    x, y = agree("select", (on_true, on_false))
    return primitives["select"].bind(spread_to(pred, x.shape), x, y)


@moves
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
    return convert(
        to_array(operand, "convert_element_type", "operand"), dtypes.canonical(new_dtype), False
    )


def bitcast_convert_type(operand: Any, new_dtype: Any) -> Any:
    """Read the bytes as another dtype; see `funtorch.numpy.bits.recast` for the shapes.

    References:
        jax.lax.bitcast_convert_type
    """
    x, dtype = to_array(operand, "bitcast_convert_type", "operand"), dtypes.canonical(new_dtype)
    return primitives["stop_gradient"].bind(x) if x.dtype == dtype else recast(x, dtype)


def dtype(x: Any) -> Any:
    """Return the dtype of an array or number, or what names a dtype as one.

    Example:
        >>> dtype(1.5)
        dtype('float32')

    References:
        jax.lax.dtype
    """
    if isinstance(x, (builtins.type, np.dtype)):
        return dtypes.canonical(x)
    return to_array(x, "dtype").dtype


_WIDER = {
    builtins.int: {8: dtypes.int32, 16: dtypes.int32, 32: dtypes.int64},
    builtins.bool: {8: dtypes.uint32, 16: dtypes.uint32, 32: dtypes.uint64},
}


def mulhi(x: Any, y: Any, /) -> Any:
    """Return the upper half of the bits of the full product of integers.

    Example:
        >>> mulhi(asarray([2**30]), asarray([8]))
        Array([2], dtype=int32)

    References:
        jax.lax.mulhi
    """
    x, y = agree("mulhi", (x, y))
    if not dtypes.is_integer(x.dtype):
        raise TypeError(f"lax.mulhi: x and y must be integers, got {describe(x)}")
    bits, signed = 8 * x.dtype.itemsize, dtypes.is_signed(x.dtype)
    if bits < 64:
        wide = _WIDER[builtins.int if signed else builtins.bool][bits]
        product = convert(x, wide) * convert(y, wide)
        return convert(product >> bits, x.dtype)
    # By halves: the product's upper word is that of the unsigned one, less corrections for signs.
    mask = 0xFFFF_FFFF
    a, b = convert(x, dtypes.uint64), convert(y, dtypes.uint64)
    low, high = (a & mask, a >> 32), (b & mask, b >> 32)
    middle = low[1] * high[0] + ((low[0] * high[0]) >> 32)
    other = low[0] * high[1] + (middle & mask)
    upper = convert(low[1] * high[1] + (middle >> 32) + (other >> 32), x.dtype)
    if not signed:
        return upper
    zero = creation.zeros_like(x)
    upper = upper - primitives["select"].bind(lt(x, zero), y, zero)
    return upper - primitives["select"].bind(lt(y, zero), x, zero)


def stop_gradient(x: Any) -> Any:
    """Return x, with derivative zero; lists, tuples and dicts of arrays too.

    Example:
        >>> float(stop_gradient(2.0))
        2.0

    References:
        jax.lax.stop_gradient
    """

    def stopped(leaf: Any) -> Any:
        leaf = to_array(leaf, "stop_gradient")
        return stop_gradient_array(leaf) if dtypes.is_inexact(leaf.dtype) else leaf

    return tree_map(stopped, x)
