"""Elementwise functions: two tables, for functions of one and of two arguments.

A row names the NumPy ufunc that computes the function eagerly and the strict function that means it
everywhere else, written with primitives; `funtorch.numpy.dispatch` makes the function of a row.
"""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl, primitives
from funtorch.errors import MismatchError
from funtorch.numpy import straight
from funtorch.numpy.direct import FLOATS, LARGE, NUMBERS, bounded, choice, direct
from funtorch.numpy.dispatch import OPERANDS, OPERATORS, binary, not_an_operand, strict_of, unary
from funtorch.numpy.promotion import (
    asarray,
    broadcast,
    broadcast_error,
    convert,
    describe,
    from_protocol,
    is_eager,
    no_out,
    promote,
    static_int,
    to_array,
    to_arrays,
)
from funtorch.ops import families

# fmt: off
__all__ = [
    "abs", "absolute", "acos", "acosh", "add", "angle", "arccos", "arccosh",
    "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "around",
    "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and", "bitwise_count", "bitwise_invert",
    "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "cbrt", "ceil", "clip", "conj", "conjugate", "copysign", "cos", "cosh", "deg2rad",
    "degrees", "divide", "divmod", "equal", "exp", "exp2", "expm1", "fabs", "fix",
    "float_power", "floor", "floor_divide", "fmax", "fmin", "fmod", "greater", "greater_equal",
    "heaviside", "hypot", "i0", "imag", "invert", "isfinite",
    "isinf", "isnan", "isneginf", "isposinf",
    "left_shift", "less", "less_equal", "log", "log10", "log1p", "log2", "logaddexp",
    "logaddexp2", "logical_and", "logical_not", "logical_or", "logical_xor", "maximum",
    "minimum", "mod", "multiply", "nan_to_num", "negative", "nextafter", "not_equal",
    "positive", "pow", "power", "rad2deg", "radians", "real", "reciprocal", "remainder",
    "right_shift", "rint", "round", "select", "sign", "signbit", "sin", "sinc", "sinh", "sqrt",
    "square", "subtract", "tan", "tanh", "true_divide", "trunc", "where",
]
# fmt: on


# --------------------------------------------------------------------------------- strict functions
# Arguments have one shape and dtype; these are written with primitives by name.
def _isnan(x: Any) -> Any:
    return primitives["ne"].bind(x, x)


def _isinf(x: Any) -> Any:
    if not dtypes.is_inexact(x.dtype):
        return not_equal(x, x)
    if dtypes.is_complex(x.dtype):
        return logical_or(isinf(real(x)), isinf(imag(x)))
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


_SINC = [(-1) ** k / math.factorial(2 * k + 1) for k in reversed(range(10))]


def _sinc(x: Any) -> Any:
    """Take the power series near 0, whose derivatives of every order are those of the function."""
    y = multiply(x, math.pi)
    near = less(absolute(y), 0.5)
    square_ = square(where(near, y, 0))
    series = functools.reduce(lambda total, c: total * square_ + c, _SINC)
    safe = where(near, 1, y)
    return where(near, series, sin(safe) / safe)


_ANGLES = [math.pi * (k + 0.5) / 32 for k in range(16)]


def _i0(x: Any) -> Any:
    """Average cosh(x cos(t)) by the midpoint rule; for large x, take the asymptotic series."""
    size = absolute(x)
    near = less_equal(size, 30)
    y = where(near, x, 0)
    mean = sum(cosh(multiply(y, math.cos(t))) for t in _ANGLES) / 16
    inverse = 1 / where(near, 60, size)
    term = series = 1.0
    for k in range(1, 22):
        term = term * inverse * ((2 * k - 1) ** 2 / (8 * k))
        series = series + term
    far = exp(where(near, 0, size)) * series * sqrt(inverse / (2 * math.pi))
    return where(near, mean, far)


def _not_zero(y: Any) -> Any:
    """Put 1 in the place of 0: then the remainder is 0, as in NumPy."""
    return where(equal(y, 0), convert(asarray(1, y.dtype), y.dtype, y.weak_type), y)


def _remainder(x: Any, y: Any) -> Any:
    if dtypes.is_integer(x.dtype):
        y = _not_zero(y)
    r = primitives["rem"].bind(x, y)
    if not dtypes.is_signed(x.dtype):
        return r
    wrong = logical_and(not_equal(r, 0), not_equal(less(r, 0), less(y, 0)))
    return where(wrong, add(r, y), r)


def _fmod(x: Any, y: Any) -> Any:
    if dtypes.is_integer(x.dtype):
        y = _not_zero(y)
    return primitives["rem"].bind(x, y)


def _floor_divide(x: Any, y: Any) -> Any:
    if dtypes.is_float(x.dtype):
        # The rest of truncation first: for an infinite y, x less the rest of flooring is nan.
        r = primitives["rem"].bind(x, y)
        whole = divide(subtract(x, r), y)
        below = logical_and(not_equal(r, 0), not_equal(less(r, 0), less(y, 0)))
        whole = primitives["round"].bind(where(below, subtract(whole, 1), whole))
        ratio = divide(x, y)
        return where(equal(y, 0), ratio, where(equal(whole, 0), multiply(0.0, sign(ratio)), whole))
    q = primitives["div"].bind(x, y)
    if not dtypes.is_signed(x.dtype):
        return q
    r = primitives["rem"].bind(x, y)
    opposite = logical_or(equal(y, 0), not_equal(less(r, 0), less(y, 0)))
    return where(logical_and(not_equal(r, 0), opposite), subtract(q, 1), q)


def _numpy_floor_divide(x: Any, y: Any) -> Any:
    """Divide as NumPy; integers by 0 as the machine and JAX: all bits set, less 1 for a rest."""
    out = np.floor_divide(x, y)
    if out.dtype.kind not in "iu" or (y if type(y) is int else np.count_nonzero(y) == np.size(y)):
        return out
    beyond = np.array(-1).astype(out.dtype)
    if out.dtype.kind == "i":
        beyond = np.where(np.equal(x, 0), beyond, beyond - beyond.dtype.type(1))
    return np.where(np.equal(y, 0), beyond, out)


def _ignoring_nan(choose: Callable[..., Any]) -> Callable[..., Any]:
    def strict(x: Any, y: Any) -> Any:
        if not dtypes.is_inexact(x.dtype):
            return choose(x, y)
        return where(isnan(x), y, where(isnan(y), x, choose(x, y)))

    return strict


def _heaviside(x: Any, y: Any) -> Any:
    return where(isnan(x), x, where(equal(x, 0), y, convert(greater(x, 0), x.dtype)))


def _logaddexp(x: Any, y: Any) -> Any:
    if not dtypes.is_complex(x.dtype):
        return primitives["logaddexp"].bind(x, y)
    first = greater_equal(real(x), real(y))
    larger, smaller = where(first, x, y), where(first, y, x)
    ratio = where(equal(x, y), asarray(0, x.dtype), subtract(smaller, larger))
    out = add(larger, log1p(exp(ratio)))
    turns = remainder(add(imag(out), math.pi), 2 * math.pi)  # the principal value of the logarithm
    return primitives["complex"].bind(real(out), subtract(turns, math.pi))


def _logaddexp2(x: Any, y: Any) -> Any:
    ln2 = math.log(2)
    return divide(_logaddexp(multiply(x, ln2), multiply(y, ln2)), ln2)


def _ordered(name: str) -> Callable[[Any, Any], Any]:
    """Return a comparison that orders complex numbers by their real, then their imaginary parts."""
    compare = primitives[name].bind

    def strict(x: Any, y: Any) -> Any:
        if not dtypes.is_complex(x.dtype):
            return compare(x, y)
        (a, b), (c, d) = ((_real(z), _imag(z)) for z in (x, y))
        return primitives["select"].bind(primitives["eq"].bind(a, c), compare(b, d), compare(a, c))

    return strict


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
    return primitives["imag"].bind(x) if dtypes.is_complex(x.dtype) else families.zeros_like(x)


def _identity(x: Any) -> Any:
    return x


# --------------------------------------------------------------------------------------- the tables
_DEG = math.pi / 180
_abs = lambda x: x if not dtypes.is_signed(x.dtype) else primitives["abs"].bind(x)  # noqa: E731

# name, strict function, ufunc, policy, whether the result may be weak, what it does
negative = unary("negative", strict_of("neg"), np.negative, "any", True, "Return -x")
positive = unary("positive", _identity, np.positive, "any", True, "Return x")
absolute = unary(
    "absolute",
    _abs,
    np.absolute,
    "any",
    True,
    "Return the absolute value; of complex x the real modulus",
)
fabs = unary(
    "fabs", strict_of("abs"), np.fabs, "inexact", True, "Return the absolute value as a float"
)
sign = unary("sign", strict_of("sign"), np.sign, "any", True, "Return -1, 0 or 1 by the sign of x")
floor = unary("floor", _rounding("floor"), np.floor, "any", True, "Round down")
ceil = unary("ceil", _rounding("ceil"), np.ceil, "any", True, "Round up")
trunc = unary("trunc", _rounding("trunc"), np.trunc, "any", True, "Round towards zero")
rint = unary("rint", strict_of("round"), np.rint, "inexact", True, "Round, halves to even")
sqrt = unary("sqrt", strict_of("sqrt"), np.sqrt, "inexact", True, "Return the square root")
cbrt = unary("cbrt", strict_of("cbrt"), np.cbrt, "inexact", True, "Return the cube root")
square = unary("square", strict_of("square"), np.square, "number", True, "Return x * x")
reciprocal = unary(
    "reciprocal", strict_of("reciprocal"), np.reciprocal, "inexact", True, "Return 1 / x"
)
exp = unary("exp", strict_of("exp"), np.exp, "inexact", True, "Return e to the power x")
exp2 = unary("exp2", strict_of("exp2"), np.exp2, "inexact", True, "Return 2 to the power x")
expm1 = unary(
    "expm1", strict_of("expm1"), np.expm1, "inexact", True, "Return exp(x) - 1, exact for small x"
)
log = unary("log", strict_of("log"), np.log, "inexact", True, "Return the natural logarithm")
log1p = unary(
    "log1p", strict_of("log1p"), np.log1p, "inexact", True, "Return log(1 + x), exact for small x"
)
log2 = unary("log2", strict_of("log2"), np.log2, "inexact", False, "Return the logarithm to base 2")
log10 = unary(
    "log10", strict_of("log10"), np.log10, "inexact", False, "Return the logarithm to base 10"
)
sin = unary("sin", strict_of("sin"), np.sin, "inexact", True, "Return the sine of x in radians")
cos = unary("cos", strict_of("cos"), np.cos, "inexact", True, "Return the cosine of x in radians")
tan = unary("tan", strict_of("tan"), np.tan, "inexact", True, "Return the tangent of x in radians")
arcsin = unary(
    "arcsin", strict_of("asin"), np.arcsin, "inexact", True, "Return the inverse sine in radians"
)
arccos = unary(
    "arccos", strict_of("acos"), np.arccos, "inexact", True, "Return the inverse cosine in radians"
)
arctan = unary(
    "arctan", strict_of("atan"), np.arctan, "inexact", True, "Return the inverse tangent in radians"
)
sinh = unary("sinh", strict_of("sinh"), np.sinh, "inexact", True, "Return the hyperbolic sine")
cosh = unary("cosh", strict_of("cosh"), np.cosh, "inexact", True, "Return the hyperbolic cosine")
tanh = unary("tanh", strict_of("tanh"), np.tanh, "inexact", True, "Return the hyperbolic tangent")
arcsinh = unary(
    "arcsinh", strict_of("asinh"), np.arcsinh, "inexact", True, "Return the inverse hyperbolic sine"
)
arccosh = unary(
    "arccosh",
    strict_of("acosh"),
    np.arccosh,
    "inexact",
    True,
    "Return the inverse hyperbolic cosine",
)
arctanh = unary(
    "arctanh",
    strict_of("atanh"),
    np.arctanh,
    "inexact",
    True,
    "Return the inverse hyperbolic tangent",
)
deg2rad = unary(
    "deg2rad",
    lambda x: multiply(x, _DEG),
    np.deg2rad,
    "inexact",
    True,
    "Convert degrees to radians",
)
rad2deg = unary(
    "rad2deg", lambda x: divide(x, _DEG), np.rad2deg, "inexact", True, "Convert radians to degrees"
)
sinc = direct(np.sinc, FLOATS)(
    unary("sinc", _sinc, None, "inexact", True, "Return sin(pi x) / (pi x), and 1 at 0")
)
i0 = unary("i0", _i0, None, "inexact", True, "Return the modified Bessel function of order 0")
isnan = unary("isnan", _isnan, np.isnan, "any", False, "Tell where x is nan")
isinf = unary("isinf", _isinf, np.isinf, "any", False, "Tell where x is infinite")
isfinite = unary(
    "isfinite", _isfinite, np.isfinite, "any", False, "Tell where x is neither nan nor infinite"
)
isposinf = unary(
    "isposinf", lambda x: equal(x, math.inf), None, "any", False, "Tell where x is +inf"
)
isneginf = unary(
    "isneginf", lambda x: equal(x, -math.inf), None, "any", False, "Tell where x is -inf"
)
signbit = unary("signbit", _signbit, np.signbit, "any", False, "Tell where the sign bit is set")
logical_not = unary(
    "logical_not", strict_of("bitwise_not"), np.logical_not, "bool", False, "Return not x"
)
invert = unary(
    "invert", strict_of("bitwise_not"), np.invert, "bits", True, "Return the bitwise complement"
)
bitwise_count = unary(
    "bitwise_count", _bitwise_count, np.bitwise_count, "bits", False, "Count the bits set in abs(x)"
)
conjugate = unary("conjugate", _conj, None, "any", True, "Return the complex conjugate")
real = unary("real", _real, None, "any", True, "Return the real part")
imag = unary("imag", _imag, None, "any", True, "Return the imaginary part")

add = binary("add", strict_of("add", "bitwise_or"), np.add, "any", True, "Return x1 + x2")
subtract = binary("subtract", strict_of("sub"), np.subtract, "any", True, "Return x1 - x2")
multiply = binary(
    "multiply", strict_of("mul", "bitwise_and"), np.multiply, "any", True, "Return x1 * x2"
)
divide = binary("divide", strict_of("div"), np.divide, "inexact", True, "Return x1 / x2 as a float")
floor_divide = binary(
    "floor_divide",
    _floor_divide,
    _numpy_floor_divide,
    "number",
    True,
    "Return x1 / x2 rounded down; integers divided by 0 give -2 (of 0: -1), or all bits set",
)
remainder = binary(
    "remainder",
    _remainder,
    np.remainder,
    "number",
    True,
    "Return the remainder with the sign of x2",
)
fmod = binary("fmod", _fmod, np.fmod, "number", True, "Return the remainder with the sign of x1")
_power = binary("power", strict_of("pow"), np.power, "number", True, "Return x1 to the power x2")
float_power = binary(
    "float_power",
    strict_of("pow"),
    np.power,
    "inexact",
    True,
    "Return x1 to the power x2 as a float",
)


def _extreme(name: str, on_bool: str, before: str) -> Callable[..., Any]:
    """Return the strict function of max or min; complex numbers are in lexicographic order."""
    ordered = strict_of(name, on_bool)

    def strict(x: Any, y: Any) -> Any:
        if not dtypes.is_complex(x.dtype):
            return ordered(x, y)
        first = logical_or(_isnan(x), logical_and(logical_not(_isnan(y)), _ordered(before)(x, y)))
        return where(first, x, y)

    return strict


maximum = binary(
    "maximum",
    _extreme("max", "bitwise_or", "ge"),
    np.maximum,
    "any",
    True,
    "Return the larger; nan wins",
)
minimum = binary(
    "minimum",
    _extreme("min", "bitwise_and", "le"),
    np.minimum,
    "any",
    True,
    "Return the smaller; nan wins",
)
fmax = binary("fmax", _ignoring_nan(maximum), np.fmax, "any", True, "Return the larger; nan loses")
fmin = binary("fmin", _ignoring_nan(minimum), np.fmin, "any", True, "Return the smaller; nan loses")
arctan2 = binary(
    "arctan2",
    strict_of("atan2"),
    np.arctan2,
    "inexact",
    True,
    "Return the angle of the point (x2, x1)",
)
hypot = binary(
    "hypot",
    strict_of("hypot"),
    np.hypot,
    "inexact",
    True,
    "Return sqrt(x1**2 + x2**2) without overflow",
)
logaddexp = binary(
    "logaddexp", _logaddexp, np.logaddexp, "inexact", True, "Return log(exp(x1) + exp(x2))"
)
logaddexp2 = binary(
    "logaddexp2", _logaddexp2, np.logaddexp2, "inexact", True, "Return log2(2**x1 + 2**x2)"
)
nextafter = binary(
    "nextafter",
    strict_of("nextafter"),
    np.nextafter,
    "inexact",
    True,
    "Return the next float after x1 to x2",
)
copysign = binary(
    "copysign",
    strict_of("copysign"),
    np.copysign,
    "inexact",
    True,
    "Return abs(x1) with the sign of x2",
)
heaviside = binary(
    "heaviside", _heaviside, np.heaviside, "inexact", True, "Return the step function; x2 at x1 = 0"
)
equal = binary("equal", strict_of("eq"), np.equal, "any", False, "Tell where x1 == x2")
not_equal = binary("not_equal", strict_of("ne"), np.not_equal, "any", False, "Tell where x1 != x2")
less = binary("less", _ordered("lt"), np.less, "any", False, "Tell where x1 < x2")
less_equal = binary(
    "less_equal", _ordered("le"), np.less_equal, "any", False, "Tell where x1 <= x2"
)
greater = binary("greater", _ordered("gt"), np.greater, "any", False, "Tell where x1 > x2")
greater_equal = binary(
    "greater_equal", _ordered("ge"), np.greater_equal, "any", False, "Tell where x1 >= x2"
)
logical_and = binary(
    "logical_and", strict_of("bitwise_and"), np.logical_and, "bool", False, "Return x1 and x2"
)
logical_or = binary(
    "logical_or", strict_of("bitwise_or"), np.logical_or, "bool", False, "Return x1 or x2"
)
logical_xor = binary(
    "logical_xor",
    strict_of("bitwise_xor"),
    np.logical_xor,
    "bool",
    False,
    "Tell where one of two holds",
)
bitwise_and = binary(
    "bitwise_and", strict_of("bitwise_and"), np.bitwise_and, "bits", True, "Return x1 & x2"
)
bitwise_or = binary(
    "bitwise_or", strict_of("bitwise_or"), np.bitwise_or, "bits", True, "Return x1 | x2"
)
bitwise_xor = binary(
    "bitwise_xor", strict_of("bitwise_xor"), np.bitwise_xor, "bits", True, "Return x1 ^ x2"
)
left_shift = binary(
    "left_shift",
    strict_of("shift_left"),
    np.left_shift,
    "shift",
    True,
    "Return x1 shifted left by x2 bits",
)
right_shift = binary(
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
    and its derivative is right at 0 and for negative x1.

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
        raise MismatchError(
            f"power: integers ({describe(x)}) cannot be raised to negative powers, got {x2}; "
            "convert the base to a float"
        )
    if x2 == 2:
        return square(x)
    return primitives["integer_pow"].bind(x, y=x2)


def _power_operator(x: Any, y: Any) -> Any:
    x, y = from_protocol(x), from_protocol(y)
    if isinstance(y, OPERANDS) and isinstance(x, OPERANDS):
        return power(x, y)
    return not_an_operand("power", x, y)


OPERATORS["power"] = _power_operator
pow = power


@direct(np.where, take=choice, large=LARGE)
def where(condition: Any, x: Any, y: Any) -> Any:
    """Choose from ``x`` where the condition holds, else from ``y``; see `funtorch.numpy.where`."""
    condition, x, y = to_arrays("where", condition=condition, x=x, y=y)
    x, y = promote("where", x, y)
    if condition.dtype != dtypes.bool_:
        condition = not_equal(condition, 0)
    if is_eager(condition, x, y):
        try:
            return ArrayImpl(np.where(condition._data, x._data, y._data), x._weak)
        except ValueError:
            raise broadcast_error("where", (condition, x, y)) from None
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
    for condition, chosen in zip(reversed(condlist), reversed(choicelist), strict=True):
        out = where(condition, chosen, out)
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
    return _clip(arr, min, max)


@direct(straight.clip, NUMBERS, bounded, large=LARGE)
def _clip(arr: Any, min: Any, max: Any) -> Any:
    out = to_array(arr, "clip", "arr")
    bounds = [(to_array(min, "clip", "min"), maximum)] if min is not None else []
    bounds += [(to_array(max, "clip", "max"), minimum)] if max is not None else []
    if any(dtypes.is_complex(x.dtype) for x in (out, *(bound for bound, _ in bounds))):
        raise MismatchError(
            "clip: complex values have no ordering and cannot be clipped; clip real(x) and imag(x)"
        )
    for bound, choose in bounds:
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
    no_out(out, "round")
    decimals = static_int(decimals, "round: decimals")
    if not dtypes.is_inexact(x.dtype):
        if decimals >= 0:
            return x
        unit = 10**-decimals
        return convert(round(divide(x, unit)) * unit, x.dtype)
    if dtypes.is_complex(x.dtype):
        return primitives["complex"].bind(round(real(x), decimals), round(imag(x), decimals))
    if decimals == 0:
        return primitives["round"].bind(x)
    if decimals > -math.log10(float(dtypes.finfo(x.dtype).smallest_subnormal)):
        return x  # it has no more digits than that
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


@direct(np.angle, FLOATS)
def angle(z: Any, deg: bool = False) -> Any:
    """Return the argument of complex numbers, in radians or degrees.

    References:
        numpy.angle
    """
    z = to_array(z, "angle", "z")
    z = convert(z, dtypes.to_inexact(z.dtype), z.weak_type)
    out = arctan2(imag(z), real(z))
    return rad2deg(out) if deg else out


@direct(np.nan_to_num, FLOATS)
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
