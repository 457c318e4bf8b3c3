"""Elementwise functions: two tables, and one mechanism each for functions of one and of two
arguments.

A row names the NumPy ufunc that computes the function eagerly and the strict function that means it
everywhere else, written with primitives. Eager calls on arrays of equal dtype go straight to the
ufunc,
which broadcasts by itself; all other calls promote and broadcast first.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Array, ArrayImpl, _state, eval_trace, primitives
from funtorch.numpy.promotion import (
    SCALARS,
    asarray,
    broadcast,
    broadcast_error,
    convert,
    describe,
    is_eager,
    own,
    promote,
    quiet,
    to_array,
    to_arrays,
)

__all__ = [
    "abs",
    "absolute",
    "acos",
    "acosh",
    "add",
    "allclose",
    "angle",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "around",
    "array_equal",
    "array_equiv",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_count",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "cbrt",
    "ceil",
    "clip",
    "conj",
    "conjugate",
    "copysign",
    "cos",
    "cosh",
    "deg2rad",
    "degrees",
    "divide",
    "divmod",
    "equal",
    "exp",
    "exp2",
    "expm1",
    "fabs",
    "fix",
    "float_power",
    "floor",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "greater",
    "greater_equal",
    "heaviside",
    "hypot",
    "imag",
    "invert",
    "isclose",
    "iscomplex",
    "iscomplexobj",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "isreal",
    "isrealobj",
    "isscalar",
    "ldexp",
    "left_shift",
    "less",
    "less_equal",
    "log",
    "log10",
    "log1p",
    "log2",
    "logaddexp",
    "logaddexp2",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "mod",
    "modf",
    "multiply",
    "nan_to_num",
    "negative",
    "nextafter",
    "not_equal",
    "positive",
    "pow",
    "power",
    "rad2deg",
    "radians",
    "real",
    "reciprocal",
    "remainder",
    "right_shift",
    "rint",
    "round",
    "select",
    "sign",
    "signbit",
    "sin",
    "sinc",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "true_divide",
    "trunc",
    "where",
]

_ndarray = np.ndarray
_FLOATS = frozenset({dtypes.float16, dtypes.float32, dtypes.float64})
_COMPLEX = frozenset({dtypes.complex64, dtypes.complex128})
_INTS = frozenset(filter(dtypes.is_integer, dtypes.ALL))
_INEXACT = _FLOATS | _COMPLEX | {dtypes.bfloat16}
_NUMBERS = _INTS | _INEXACT
_NONE: frozenset[Any] = frozenset()


def _bits_dtype(dtype: Any) -> Any:
    if dtypes.is_inexact(dtype):
        raise TypeError(f"bitwise functions and shifts take integers or bool, got {dtype}")
    return dtype


# policy: (what becomes of the common dtype, the dtypes that a ufunc takes as they are)
_POLICIES: dict[str, tuple[Callable[[Any], Any], frozenset[Any]]] = {
    "any": (lambda d: d, _NUMBERS | {dtypes.bool_}),
    "number": (lambda d: dtypes.default_int() if d == dtypes.bool_ else d, _NUMBERS),
    "inexact": (dtypes.to_inexact, _INEXACT),
    "bits": (_bits_dtype, _INTS | {dtypes.bool_}),
    "shift": (lambda d: dtypes.default_int() if d == dtypes.bool_ else _bits_dtype(d), _INTS),
    "bool": (lambda d: dtypes.bool_, frozenset({dtypes.bool_})),
}
# Python scalar type -> dtypes of arrays that absorb it, as both NumPy and JAX have it.
_ABSORBS = {int: _INTS | _FLOATS | _COMPLEX, float: _FLOATS | _COMPLEX, complex: _COMPLEX}


def _prim(name: str, on_bool: str | None = None) -> Callable[..., Any]:
    """Return the strict function of a primitive, or of another one for bool arrays."""
    prim = primitives[name]
    if on_bool is None:
        return prim.bind
    logical = primitives[on_bool]

    def strict(*xs: Any) -> Any:
        return (logical if xs[0].dtype == dtypes.bool_ else prim).bind(*xs)

    return strict


# ---------------------------------------------------------------------------------------- mechanism
def _unary(
    name: str, strict: Callable[..., Any], ufunc: Any, policy: str, keep: bool, doc: str
) -> Any:
    to_dtype, fast = _POLICIES[policy]
    if ufunc is None:
        fast = _NONE

    def general(x: Any) -> Any:
        x = to_array(x, name)
        x = convert(x, to_dtype(x.dtype), x.weak_type)
        if is_eager(x) and x.dtype in fast:
            try:
                return ArrayImpl(own(quiet.run(ufunc, x._data)), keep and x._weak)
            except TypeError:
                return strict(x)  # NumPy has no loop for the dtype
        return strict(x)

    def function(x: Any, /) -> Any:
        if type(x) is ArrayImpl and _state.trace is eval_trace:
            data = x._data
            if data.dtype in fast:
                try:
                    out = quiet.run(ufunc, data)
                except TypeError:
                    return general(x)
                return ArrayImpl(out if type(out) is _ndarray else own(out), keep and x._weak)
        return general(x)

    return _named(function, name, f"{doc}.\n\n    References:\n        numpy.{name}\n    ")


def _binary(
    name: str, strict: Callable[..., Any], ufunc: Any, policy: str, keep: bool, doc: str
) -> Any:
    """Return the function of a row; leave in OPERATORS the twin that gives up on other types."""
    to_dtype, fast = _POLICIES[policy]
    if ufunc is None:
        fast = _NONE
    absorbs = {kind: fast & into for kind, into in _ABSORBS.items()}
    get = absorbs.get

    def general(x: Any, y: Any) -> Any:
        x, y = to_array(x, name, "x1"), to_array(y, name, "x2")
        dtype, weak = dtypes.promote(x.dtype, x.weak_type, y.dtype, y.weak_type)
        dtype = to_dtype(dtype)
        x, y = convert(x, dtype, weak), convert(y, dtype, weak)
        if dtype in fast and is_eager(x, y):
            try:
                return ArrayImpl(own(quiet.run(ufunc, x._data, y._data)), keep and weak)
            except ValueError:
                raise broadcast_error(name, (x, y)) from None
            except TypeError:
                return strict(*broadcast(name, x, y))
        if x.shape != y.shape:
            x, y = broadcast(name, x, y)
        return strict(x, y)

    def operator_general(x: Any, y: Any) -> Any:
        if isinstance(x, _OPERANDS) and isinstance(y, _OPERANDS):
            return general(x, y)
        return NotImplemented

    def make(fallback: Callable[..., Any]) -> Any:
        def function(x1: Any, x2: Any, /) -> Any:
            if _state.trace is not eval_trace:
                return fallback(x1, x2)
            weak = keep
            if type(x1) is ArrayImpl:
                a = x1._data
                weak = weak and x1._weak
                if type(x2) is ArrayImpl:
                    b = x2._data
                    if a.dtype is not b.dtype or a.dtype not in fast:
                        return fallback(x1, x2)
                    weak = weak and x2._weak
                else:
                    b = x2
                    if a.dtype not in get(type(b), _NONE):
                        return fallback(x1, x2)
            elif type(x2) is ArrayImpl:
                a, b = x1, x2._data
                weak = weak and x2._weak
                if b.dtype not in get(type(a), _NONE):
                    return fallback(x1, x2)
            else:
                return fallback(x1, x2)
            try:
                out = quiet.run(ufunc, a, b)
            except (TypeError, ValueError):
                return fallback(x1, x2)
            return ArrayImpl(out if type(out) is _ndarray else own(out), weak)

        return function

    doc = (
        f"{doc}.\n\n    Args broadcast against each other and are promoted to a common dtype.\n\n"
        f"    References:\n        numpy.{name}\n    "
    )
    OPERATORS[name] = _named(make(operator_general), name, doc)
    return _named(make(general), name, doc)


def _named(function: Any, name: str, doc: str) -> Any:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


OPERATORS: dict[str, Callable[..., Any]] = {}
_OPERANDS = (Array, np.ndarray, *SCALARS)


# --------------------------------------------------------------------------------- strict functions
# Arguments have one shape and dtype; these are written with primitives by name.
def _isnan(x: Any) -> Any:
    return primitives["ne"].bind(x, x)


def _isinf(x: Any) -> Any:
    if not dtypes.is_inexact(x.dtype):
        return not_equal(x, x)
    return logical_not(logical_or(isfinite(x), isnan(x)))


def _isfinite(x: Any) -> Any:
    return primitives["is_finite"].bind(x) if dtypes.is_inexact(x.dtype) else equal(x, x)


def _signbit(x: Any) -> Any:
    if not dtypes.is_float(x.dtype):
        return less(x, 0)
    bits = np.dtype(f"int{8 * x.dtype.itemsize}")
    return less(primitives["bitcast"].bind(x, dtype=bits), 0)


def _rounding(name: str) -> Callable[[Any], Any]:
    return lambda x: primitives[name].bind(x) if dtypes.is_inexact(x.dtype) else x


def _sinc(x: Any) -> Any:
    at_zero = equal(x, 0)
    safe = where(at_zero, 1, multiply(x, math.pi))
    return where(at_zero, 1 - square(multiply(x, math.pi)) / 6, sin(safe) / safe)


def _remainder(x: Any, y: Any) -> Any:
    r = primitives["rem"].bind(x, y)
    if not dtypes.is_signed(x.dtype):
        return r
    wrong = logical_and(not_equal(r, 0), not_equal(less(r, 0), less(y, 0)))
    return where(wrong, add(r, y), r)


def _floor_divide(x: Any, y: Any) -> Any:
    if dtypes.is_float(x.dtype):
        quotient = primitives["round"].bind(divide(subtract(x, _remainder(x, y)), y))
        return where(equal(y, 0), divide(x, y), quotient)
    q = primitives["div"].bind(x, y)
    if not dtypes.is_signed(x.dtype):
        return q
    r = primitives["rem"].bind(x, y)
    wrong = logical_and(not_equal(r, 0), not_equal(less(r, 0), less(y, 0)))
    return where(wrong, subtract(q, 1), q)


def _copysign(x: Any, y: Any) -> Any:
    return where(signbit(y), negative(absolute(x)), absolute(x))


def _ignoring_nan(choose: Callable[..., Any]) -> Callable[..., Any]:
    def strict(x: Any, y: Any) -> Any:
        if not dtypes.is_inexact(x.dtype):
            return choose(x, y)
        return where(isnan(x), y, where(isnan(y), x, choose(x, y)))

    return strict


def _heaviside(x: Any, y: Any) -> Any:
    return where(isnan(x), x, where(equal(x, 0), y, convert(greater(x, 0), x.dtype)))


def _logaddexp2(x: Any, y: Any) -> Any:
    ln2 = math.log(2)
    return divide(primitives["logaddexp"].bind(multiply(x, ln2), multiply(y, ln2)), ln2)


def _right_shift(x: Any, y: Any) -> Any:
    kind = "arithmetic" if dtypes.is_signed(x.dtype) else "logical"
    return primitives[f"shift_right_{kind}"].bind(x, y)


def _bitwise_count(x: Any) -> Any:
    magnitude = absolute(x) if dtypes.is_signed(x.dtype) else x
    return convert(primitives["population_count"].bind(magnitude), dtypes.uint8)


def _conj(x: Any) -> Any:
    return primitives["conj"].bind(x) if dtypes.is_complex(x.dtype) else x


def _real(x: Any) -> Any:
    return primitives["real"].bind(x) if dtypes.is_complex(x.dtype) else x


def _imag(x: Any) -> Any:
    return primitives["imag"].bind(x) if dtypes.is_complex(x.dtype) else subtract(x, x)


def _identity(x: Any) -> Any:
    return x


# --------------------------------------------------------------------------------------- the tables
_DEG = math.pi / 180
_abs = lambda x: x if not dtypes.is_signed(x.dtype) else primitives["abs"].bind(x)  # noqa: E731

# name, strict function, ufunc, policy, whether the result may be weak, what it does
negative = _unary("negative", _prim("neg"), np.negative, "any", True, "Return -x")
positive = _unary("positive", _identity, np.positive, "any", True, "Return x")
absolute = _unary(
    "absolute",
    _abs,
    np.absolute,
    "any",
    True,
    "Return the absolute value; of complex x the real modulus",
)
fabs = _unary(
    "fabs", _prim("abs"), np.fabs, "inexact", True, "Return the absolute value as a float"
)
sign = _unary("sign", _prim("sign"), np.sign, "any", True, "Return -1, 0 or 1 by the sign of x")
floor = _unary("floor", _rounding("floor"), np.floor, "any", True, "Round down")
ceil = _unary("ceil", _rounding("ceil"), np.ceil, "any", True, "Round up")
trunc = _unary("trunc", _rounding("trunc"), np.trunc, "any", True, "Round towards zero")
rint = _unary(
    "rint", _prim("round"), np.rint, "inexact", True, "Round to the nearest integer, halves to even"
)
sqrt = _unary("sqrt", _prim("sqrt"), np.sqrt, "inexact", True, "Return the square root")
cbrt = _unary("cbrt", _prim("cbrt"), np.cbrt, "inexact", True, "Return the cube root")
square = _unary("square", _prim("square"), np.square, "number", True, "Return x * x")
reciprocal = _unary(
    "reciprocal", _prim("reciprocal"), np.reciprocal, "inexact", True, "Return 1 / x"
)
exp = _unary("exp", _prim("exp"), np.exp, "inexact", True, "Return e to the power x")
exp2 = _unary("exp2", _prim("exp2"), np.exp2, "inexact", True, "Return 2 to the power x")
expm1 = _unary(
    "expm1", _prim("expm1"), np.expm1, "inexact", True, "Return exp(x) - 1, exact for small x"
)
log = _unary("log", _prim("log"), np.log, "inexact", True, "Return the natural logarithm")
log1p = _unary(
    "log1p", _prim("log1p"), np.log1p, "inexact", True, "Return log(1 + x), exact for small x"
)
log2 = _unary("log2", _prim("log2"), np.log2, "inexact", True, "Return the logarithm to base 2")
log10 = _unary(
    "log10", _prim("log10"), np.log10, "inexact", True, "Return the logarithm to base 10"
)
sin = _unary("sin", _prim("sin"), np.sin, "inexact", True, "Return the sine of x in radians")
cos = _unary("cos", _prim("cos"), np.cos, "inexact", True, "Return the cosine of x in radians")
tan = _unary("tan", _prim("tan"), np.tan, "inexact", True, "Return the tangent of x in radians")
arcsin = _unary(
    "arcsin", _prim("asin"), np.arcsin, "inexact", True, "Return the inverse sine in radians"
)
arccos = _unary(
    "arccos", _prim("acos"), np.arccos, "inexact", True, "Return the inverse cosine in radians"
)
arctan = _unary(
    "arctan", _prim("atan"), np.arctan, "inexact", True, "Return the inverse tangent in radians"
)
sinh = _unary("sinh", _prim("sinh"), np.sinh, "inexact", True, "Return the hyperbolic sine")
cosh = _unary("cosh", _prim("cosh"), np.cosh, "inexact", True, "Return the hyperbolic cosine")
tanh = _unary("tanh", _prim("tanh"), np.tanh, "inexact", True, "Return the hyperbolic tangent")
arcsinh = _unary(
    "arcsinh", _prim("asinh"), np.arcsinh, "inexact", True, "Return the inverse hyperbolic sine"
)
arccosh = _unary(
    "arccosh", _prim("acosh"), np.arccosh, "inexact", True, "Return the inverse hyperbolic cosine"
)
arctanh = _unary(
    "arctanh", _prim("atanh"), np.arctanh, "inexact", True, "Return the inverse hyperbolic tangent"
)
deg2rad = _unary(
    "deg2rad",
    lambda x: multiply(x, _DEG),
    np.deg2rad,
    "inexact",
    True,
    "Convert degrees to radians",
)
rad2deg = _unary(
    "rad2deg", lambda x: divide(x, _DEG), np.rad2deg, "inexact", True, "Convert radians to degrees"
)
sinc = _unary("sinc", _sinc, None, "inexact", True, "Return sin(pi x) / (pi x), and 1 at 0")
isnan = _unary("isnan", _isnan, np.isnan, "any", False, "Tell where x is nan")
isinf = _unary("isinf", _isinf, np.isinf, "any", False, "Tell where x is infinite")
isfinite = _unary(
    "isfinite", _isfinite, np.isfinite, "any", False, "Tell where x is neither nan nor infinite"
)
isposinf = _unary(
    "isposinf", lambda x: equal(x, math.inf), None, "any", False, "Tell where x is +inf"
)
isneginf = _unary(
    "isneginf", lambda x: equal(x, -math.inf), None, "any", False, "Tell where x is -inf"
)
signbit = _unary("signbit", _signbit, np.signbit, "any", False, "Tell where the sign bit is set")
logical_not = _unary(
    "logical_not", _prim("bitwise_not"), np.logical_not, "bool", False, "Return not x"
)
invert = _unary(
    "invert", _prim("bitwise_not"), np.invert, "bits", True, "Return the bitwise complement"
)
bitwise_count = _unary(
    "bitwise_count", _bitwise_count, np.bitwise_count, "bits", False, "Count the bits set in abs(x)"
)
conjugate = _unary("conjugate", _conj, None, "any", True, "Return the complex conjugate")
real = _unary("real", _real, None, "any", True, "Return the real part")
imag = _unary("imag", _imag, None, "any", True, "Return the imaginary part")

add = _binary("add", _prim("add", "bitwise_or"), np.add, "any", True, "Return x1 + x2")
subtract = _binary("subtract", _prim("sub"), np.subtract, "any", True, "Return x1 - x2")
multiply = _binary(
    "multiply", _prim("mul", "bitwise_and"), np.multiply, "any", True, "Return x1 * x2"
)
divide = _binary("divide", _prim("div"), np.divide, "inexact", True, "Return x1 / x2 as a float")
floor_divide = _binary(
    "floor_divide", _floor_divide, np.floor_divide, "number", True, "Return x1 / x2 rounded down"
)
remainder = _binary(
    "remainder",
    _remainder,
    np.remainder,
    "number",
    True,
    "Return the remainder with the sign of x2",
)
fmod = _binary(
    "fmod", _prim("rem"), np.fmod, "number", True, "Return the remainder with the sign of x1"
)
_power = _binary("power", _prim("pow"), np.power, "any", True, "Return x1 to the power x2")
float_power = _binary(
    "float_power", _prim("pow"), np.power, "inexact", True, "Return x1 to the power x2 as a float"
)
maximum = _binary(
    "maximum", _prim("max", "bitwise_or"), np.maximum, "any", True, "Return the larger; nan wins"
)
minimum = _binary(
    "minimum", _prim("min", "bitwise_and"), np.minimum, "any", True, "Return the smaller; nan wins"
)
fmax = _binary("fmax", _ignoring_nan(maximum), np.fmax, "any", True, "Return the larger; nan loses")
fmin = _binary(
    "fmin", _ignoring_nan(minimum), np.fmin, "any", True, "Return the smaller; nan loses"
)
arctan2 = _binary(
    "arctan2", _prim("atan2"), np.arctan2, "inexact", True, "Return the angle of the point (x2, x1)"
)
hypot = _binary(
    "hypot",
    _prim("hypot"),
    np.hypot,
    "inexact",
    True,
    "Return sqrt(x1**2 + x2**2) without overflow",
)
logaddexp = _binary(
    "logaddexp", _prim("logaddexp"), np.logaddexp, "inexact", True, "Return log(exp(x1) + exp(x2))"
)
logaddexp2 = _binary(
    "logaddexp2", _logaddexp2, np.logaddexp2, "inexact", True, "Return log2(2**x1 + 2**x2)"
)
nextafter = _binary(
    "nextafter",
    _prim("nextafter"),
    np.nextafter,
    "inexact",
    True,
    "Return the next float after x1 to x2",
)
copysign = _binary(
    "copysign", _copysign, np.copysign, "inexact", True, "Return abs(x1) with the sign of x2"
)
heaviside = _binary(
    "heaviside", _heaviside, np.heaviside, "inexact", True, "Return the step function; x2 at x1 = 0"
)
equal = _binary("equal", _prim("eq"), np.equal, "any", False, "Tell where x1 == x2")
not_equal = _binary("not_equal", _prim("ne"), np.not_equal, "any", False, "Tell where x1 != x2")
less = _binary("less", _prim("lt"), np.less, "any", False, "Tell where x1 < x2")
less_equal = _binary("less_equal", _prim("le"), np.less_equal, "any", False, "Tell where x1 <= x2")
greater = _binary("greater", _prim("gt"), np.greater, "any", False, "Tell where x1 > x2")
greater_equal = _binary(
    "greater_equal", _prim("ge"), np.greater_equal, "any", False, "Tell where x1 >= x2"
)
logical_and = _binary(
    "logical_and", _prim("bitwise_and"), np.logical_and, "bool", False, "Return x1 and x2"
)
logical_or = _binary(
    "logical_or", _prim("bitwise_or"), np.logical_or, "bool", False, "Return x1 or x2"
)
logical_xor = _binary(
    "logical_xor",
    _prim("bitwise_xor"),
    np.logical_xor,
    "bool",
    False,
    "Tell where one of two holds",
)
bitwise_and = _binary(
    "bitwise_and", _prim("bitwise_and"), np.bitwise_and, "bits", True, "Return x1 & x2"
)
bitwise_or = _binary(
    "bitwise_or", _prim("bitwise_or"), np.bitwise_or, "bits", True, "Return x1 | x2"
)
bitwise_xor = _binary(
    "bitwise_xor", _prim("bitwise_xor"), np.bitwise_xor, "bits", True, "Return x1 ^ x2"
)
left_shift = _binary(
    "left_shift",
    _prim("shift_left"),
    np.left_shift,
    "shift",
    True,
    "Return x1 shifted left by x2 bits",
)
right_shift = _binary(
    "right_shift", _right_shift, np.right_shift, "shift", True, "Return x1 shifted right by x2 bits"
)

acos = arccos
acosh = arccosh
asin = arcsin
asinh = arcsinh
atan = arctan
atanh = arctanh
atan2 = arctan2
bitwise_invert = invert
bitwise_left_shift = left_shift
bitwise_not = invert
bitwise_right_shift = right_shift
conj = conjugate
degrees = rad2deg
fix = trunc
mod = remainder
radians = deg2rad
true_divide = divide
abs = absolute


# -------------------------------------------------------------------------------------- written out
def power(x1: Any, x2: Any, /) -> Any:
    """Return x1 to the power x2.

    A Python int as the exponent is static: the power is then computed by repeated multiplication,
    and
    its derivative is right at 0 and for negative x1.

    Args:
        x1, x2: arrays or numbers that broadcast.

    Returns:
        An Array of the common dtype.

    Raises:
        ValueError: an integer base with a negative Python int as exponent.

    Example:
        >>> power(asarray([1.0, 2.0]), 3)
        Array([1., 8.], dtype=float32)

    References:
        numpy.power
    """
    if type(x2) is not int:
        return _power(x1, x2)
    x = to_array(x1, "power", "x1")
    if x.dtype == dtypes.bool_:
        x = convert(x, dtypes.default_int(), True)
    if x2 < 0 and not dtypes.is_inexact(x.dtype):
        raise ValueError(
            f"power: integers ({describe(x)}) to the negative integer power {x2} are not "
            "integers; convert "
            "the base to a float"
        )
    if x2 == 2:
        return square(x)
    return primitives["integer_pow"].bind(x, y=x2)


def _power_operator(x: Any, y: Any) -> Any:
    return power(x, y) if isinstance(y, _OPERANDS) and isinstance(x, _OPERANDS) else NotImplemented


OPERATORS["power"] = _power_operator
pow = power


def where(condition: Any, x: Any, y: Any) -> Any:
    """Choose from ``x`` where the condition holds, else from ``y``; see `funtorch.numpy.where`."""
    condition, x, y = to_arrays("where", condition=condition, x=x, y=y)
    x, y = promote("where", x, y)
    if condition.dtype != dtypes.bool_:
        condition = not_equal(condition, 0)
    return primitives["select"].bind(*broadcast("where", condition, x, y))


def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    """Choose each element from the first choice whose condition holds.

    Args:
        condlist: sequence of bool arrays.
        choicelist: sequence of as many arrays.
        default: what is taken where no condition holds.

    References:
        numpy.select
    """
    if len(condlist) != len(choicelist) or not condlist:
        raise ValueError(
            f"select: condlist has {len(condlist)} arrays and choicelist {len(choicelist)}; "
            "give as many of "
            "each, at least one"
        )
    out = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        out = where(condition, choice, out)
    return out


def clip(arr: Any, /, min: Any = None, max: Any = None) -> Any:
    """Limit values to a range; None leaves a side open.

    Args:
        arr: array.
        min, max: bounds that broadcast with it.

    Example:
        >>> clip(asarray([1, 5, 9]), 2, 8)
        Array([2, 5, 8], dtype=int32)

    References:
        numpy.clip
    """
    out = to_array(arr, "clip", "arr")
    for bound, choose in ((min, maximum), (max, minimum)):
        if bound is not None:
            out = choose(out, bound)
    return out


def round(a: Any, decimals: int = 0, out: None = None) -> Any:
    """Round to a number of decimals, halves to even.

    Args:
        a: array.
        decimals: may be negative, which rounds to tens, hundreds ...

    References:
        numpy.round
    """
    x = to_array(a, "round", "a")
    if not dtypes.is_inexact(x.dtype):
        if decimals >= 0:
            return x
        unit = 10**-decimals
        return convert(round(divide(x, unit)) * unit, x.dtype)
    if dtypes.is_complex(x.dtype):
        return primitives["complex"].bind(round(real(x), decimals), round(imag(x), decimals))
    if decimals == 0:
        return primitives["round"].bind(x)
    factor = 10.0 ** builtins.abs(decimals)
    if decimals > 0:
        return divide(primitives["round"].bind(multiply(x, factor)), factor)
    return multiply(primitives["round"].bind(divide(x, factor)), factor)


around = round


def divmod(x1: Any, x2: Any, /) -> tuple[Any, Any]:
    """Return (x1 // x2, x1 % x2).

    References:
        numpy.divmod
    """
    return floor_divide(x1, x2), remainder(x1, x2)


def modf(x: Any, /) -> tuple[Any, Any]:
    """Return the fractional and the integral part, both with the sign of x.

    References:
        numpy.modf
    """
    x = to_array(x, "modf")
    x = convert(x, dtypes.to_inexact(x.dtype), x.weak_type)
    whole = trunc(x)
    return where(isinf(x), copysign(0.0, x), subtract(x, whole)), whole


def ldexp(x1: Any, x2: Any, /) -> Any:
    """Return x1 * 2**x2 for integer x2.

    References:
        numpy.ldexp
    """
    x, n = to_arrays("ldexp", x1=x1, x2=x2)
    x = convert(x, dtypes.to_inexact(x.dtype), x.weak_type)
    # Two steps, so that the factor itself overflows or vanishes no earlier than the result.
    half = floor_divide(n, 2)
    return x * exp2(convert(half, x.dtype)) * exp2(convert(subtract(n, half), x.dtype))


def angle(z: Any, deg: bool = False) -> Any:
    """Return the argument of complex numbers, in radians or degrees.

    References:
        numpy.angle
    """
    z = to_array(z, "angle", "z")
    z = convert(z, dtypes.to_inexact(z.dtype), z.weak_type)
    out = arctan2(imag(z), real(z))
    return rad2deg(out) if deg else out


def nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    """Replace nan by a number and infinities by the largest finite values.

    Args:
        x: array.
        nan, posinf, neginf: replacements.

    References:
        numpy.nan_to_num
    """
    x = to_array(x, "nan_to_num")
    if not dtypes.is_inexact(x.dtype):
        return x
    if dtypes.is_complex(x.dtype):
        parts = [nan_to_num(part, copy, nan, posinf, neginf) for part in (real(x), imag(x))]
        return primitives["complex"].bind(*parts)
    info = dtypes.finfo(x.dtype)
    x = where(isnan(x), convert(to_array(nan, "nan_to_num", "nan"), x.dtype), x)
    x = where(isposinf(x), asarray(float(info.max) if posinf is None else posinf, x.dtype), x)
    return where(isneginf(x), asarray(float(info.min) if neginf is None else neginf, x.dtype), x)


def isclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    """Tell where |a - b| <= atol + rtol * |b|.

    References:
        numpy.isclose
    """
    a, b = promote("isclose", *to_arrays("isclose", a=a, b=b))
    if not dtypes.is_inexact(a.dtype):
        a, b = (convert(x, dtypes.default_float()) for x in (a, b))
    near = less_equal(absolute(a - b), absolute(b) * rtol + atol)
    out = where(logical_and(isfinite(a), isfinite(b)), near, equal(a, b))
    return logical_or(out, logical_and(isnan(a), isnan(b))) if equal_nan else out


def allclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    """Tell whether |a - b| <= atol + rtol * |b| everywhere, as a bool array of rank 0.

    References:
        numpy.allclose
    """
    return _all(isclose(a, b, rtol, atol, equal_nan))


def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    """Tell whether two arrays have the same shape and elements, as a bool array of rank 0.

    References:
        numpy.array_equal
    """
    a, b = asarray(a1), asarray(a2)
    if a.shape != b.shape:
        return asarray(False)
    same = equal(a, b)
    return _all(logical_or(same, logical_and(isnan(a), isnan(b))) if equal_nan else same)


def array_equiv(a1: Any, a2: Any) -> Any:
    """Tell whether two arrays broadcast to one shape and are equal there.

    References:
        numpy.array_equiv
    """
    try:
        a, b = broadcast("array_equiv", asarray(a1), asarray(a2))
    except ValueError:
        return asarray(False)
    return _all(equal(a, b))


def _all(x: Any) -> Any:
    return primitives["reduce_and"].bind(x, axes=tuple(range(x.ndim)))


def iscomplexobj(x: Any) -> bool:
    """Tell whether the dtype is complex.

    References:
        numpy.iscomplexobj
    """
    return dtypes.is_complex(asarray(x).dtype)


def isrealobj(x: Any) -> bool:
    """Tell whether the dtype is not complex.

    References:
        numpy.isrealobj
    """
    return not iscomplexobj(x)


def iscomplex(x: Any) -> Any:
    """Tell where the imaginary part is not 0.

    References:
        numpy.iscomplex
    """
    return not_equal(imag(x), 0)


def isreal(x: Any) -> Any:
    """Tell where the imaginary part is 0.

    References:
        numpy.isreal
    """
    return equal(imag(x), 0)


def isscalar(element: Any) -> bool:
    """Tell whether the value is a number or an array of rank 0.

    References:
        numpy.isscalar
    """
    return isinstance(element, (Array, *SCALARS)) and np.ndim(element) == 0
