"""Elementwise primitives: arithmetic, functions of a number, comparisons, bits, conversions.

Every primitive ``name_p`` has the strict function ``name`` beside it. Some of those names hide
Python builtins (abs, round, pow, max, min, complex): in this module they mean the primitive.

References:
    XLA, "Operation semantics", https://openxla.org/xla/operation_semantics (integer
    division by zero, shifts beyond the width, saturating conversions).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.config import config
from funtorch.core import ShapedArray
from funtorch.ops import special
from funtorch.ops.conversion import float_to_int
from funtorch.ops.families import (
    accumulate,
    bilinear,
    binary,
    elementwise_linear_type,
    full_like,
    is_linear,
    linear,
    nondiff,
    unary,
    zeros_like,
)

# fmt: off
__all__ = [
    "abs", "abs_p", "acos", "acos_p", "acosh", "acosh_p", "add", "add_p", "asin", "asin_p", "asinh",
    "asinh_p", "atan", "atan2", "atan2_p", "atan_p", "atanh", "atanh_p", "bitcast", "bitcast_p",
    "bitwise_and", "bitwise_and_p", "bitwise_not", "bitwise_not_p", "bitwise_or", "bitwise_or_p",
    "bitwise_xor", "bitwise_xor_p", "cbrt", "cbrt_p", "ceil", "ceil_p", "clz", "clz_p", "complex",
    "complex_p", "conj", "conj_p", "convert", "convert_p", "copy", "copy_p", "copysign",
    "copysign_p", "cos", "cos_p", "cosh", "cosh_p", "digamma", "digamma_p", "div", "div_p", "eq",
    "eq_p", "erf", "erf_inv", "erf_inv_p", "erf_p", "erfc", "erfc_p", "exp", "exp2", "exp2_p",
    "exp_p", "expm1", "expm1_p", "floor", "floor_p", "ge", "ge_p", "gt", "gt_p", "hypot", "hypot_p",
    "imag", "imag_p", "integer_pow", "integer_pow_p", "is_finite", "is_finite_p", "le", "le_p",
    "lgamma", "lgamma_p", "log", "log10", "log10_p", "log1p", "log1p_p", "log2", "log2_p", "log_p",
    "logaddexp", "logaddexp_p", "logistic", "logistic_p", "lt", "lt_p", "max", "max_p", "min",
    "min_p", "mul", "mul_p", "ne", "ne_p", "neg", "neg_p", "nextafter", "nextafter_p", "polygamma",
    "polygamma_p", "population_count", "population_count_p", "pow", "pow_p", "real", "real_p",
    "reciprocal", "reciprocal_p", "rem", "rem_p", "round", "round_p", "rsqrt", "rsqrt_p", "select",
    "select_p", "shift_left", "shift_left_p", "shift_right_arithmetic", "shift_right_arithmetic_p",
    "shift_right_logical", "shift_right_logical_p", "sign", "sign_p", "sin", "sin_p", "sinh",
    "sinh_p", "sqrt", "sqrt_p", "square", "square_p", "stop_gradient", "stop_gradient_p", "sub",
    "sub_p", "tan", "tan_p", "tanh", "tanh_p", "trunc", "trunc_p",
]
# fmt: on

_HALF = dtypes.HALVES


# -------------------------------------------------------------------------------------- eager rules
def _ufunc(name: str) -> Callable[..., Any]:
    """Return the eager rule that calls the array library's function of that name."""
    ufunc = getattr(np, name)
    return lambda xp, *xs: (ufunc if xp is np else getattr(xp, name))(*xs)


def _of_int8(name: str) -> Callable[..., Any]:
    """Return the same rule for a function that NumPy takes to int8 for narrower integers."""
    f = _ufunc(name)
    return lambda xp, *xs: f(xp, *xs).astype(xs[0].dtype, copy=False)


def _wide(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return the eager rule ``f`` with 16-bit floats computed in float32: they round once."""

    def eager(xp: Any, *xs: Any, **params: Any) -> Any:
        dtype = xs[0].dtype
        if dtype in _HALF:
            return f(xp, *(x.astype(np.float32) for x in xs), **params).astype(dtype)
        return f(xp, *xs, **params)

    return eager


def _special(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return an eager rule that computes in float64 and rounds once to the argument's dtype."""

    def eager(xp: Any, x: Any, **params: Any) -> Any:
        out = f(xp, xp.atleast_1d(x.astype(np.float64)), **params)
        return out.astype(x.dtype).reshape(x.shape)

    return eager


def _scaled(t: Any, factor: Any) -> Any:
    return mul(t, full_like(t, factor))


# --------------------------------------------------------------------------------------- arithmetic
def _sum_jvp(prim: Any, combine: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Return the jvp rule of add and sub: a missing tangent costs nothing."""

    def jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
        return prim.bind(*primals), combine(*tangents)

    return jvp


def _sub_tangents(tx: Any, ty: Any) -> Any:
    if ty is None:
        return tx
    return neg(ty) if tx is None else sub(tx, ty)


def _transpose_add(ct: Any, x: Any, y: Any) -> tuple[Any, Any]:
    return ct if is_linear(x) else None, ct if is_linear(y) else None


def _transpose_sub(ct: Any, x: Any, y: Any) -> tuple[Any, Any]:
    return ct if is_linear(x) else None, neg(ct) if is_linear(y) else None


neg_p = linear(
    "neg",
    type=elementwise_linear_type("neg", "ifc"),
    eager=_of_int8("negative"),
    transpose=lambda ct, x: (neg(ct),),
    batch=None,
)
add_p = linear(
    "add",
    type=elementwise_linear_type("add", "ifc"),
    eager=_ufunc("add"),
    transpose=_transpose_add,
    batch=None,
)
sub_p = linear(
    "sub",
    type=elementwise_linear_type("sub", "ifc"),
    eager=_ufunc("subtract"),
    transpose=_transpose_sub,
    batch=None,
)
add_p.jvp = _sum_jvp(add_p, lambda tx, ty: accumulate((tx, ty)))
sub_p.jvp = _sum_jvp(sub_p, _sub_tangents)
mul_p = bilinear(
    "mul",
    type=elementwise_linear_type("mul", "ifc"),
    eager=_ufunc("multiply"),
    transposes=(lambda ct, y, aval: mul(ct, y), lambda ct, x, aval: mul(ct, x)),
    batch=None,
)
neg, add, sub, mul = neg_p.bind, add_p.bind, sub_p.bind, mul_p.bind


def _div_eager(xp: Any, x: Any, y: Any) -> Any:
    if x.dtype.kind not in "iu":
        return xp.divide(x, y)
    by_zero = y == 0
    quotient = xp.floor_divide(x, xp.where(by_zero, xp.ones_like(y), y))
    if x.dtype.kind == "i":
        inexact = quotient * y != x
        quotient = quotient + ((x < 0) ^ (y < 0)) * inexact.astype(x.dtype)
    return xp.where(by_zero, ~xp.zeros_like(x), quotient)


def _rem_eager(xp: Any, x: Any, y: Any) -> Any:
    if x.dtype.kind not in "iu":
        return xp.fmod(x, y)
    return xp.where(y == 0, x, x - _div_eager(xp, x, y) * y)


def _integer_power(xp: Any, x: Any, y: Any) -> Any:
    """Return ``x ** y`` of integers; a negative power of anything but 1 and -1 is 0."""
    negative = y < 0
    out = xp.power(x, xp.where(negative, xp.zeros_like(y), y))
    odd_sign = xp.where((y & 1) != 0, x, xp.ones_like(x))
    return xp.where(negative, xp.where(xp.abs(x) == 1, odd_sign, xp.zeros_like(x)), out)


def _pow_eager(xp: Any, x: Any, y: Any) -> Any:
    return _integer_power(xp, x, y) if x.dtype.kind in "iu" else xp.power(x, y)


def _where_zero(cond_of: Any, if_zero: float, otherwise: Any) -> Any:
    """Return ``otherwise`` with ``if_zero`` in it where ``cond_of`` is zero."""
    return select(eq(cond_of, zeros_like(cond_of)), full_like(otherwise, if_zero), otherwise)


def _pow_jvp_base(t: Any, x: Any, y: Any, out: Any) -> Any:
    # The exponent is made harmless where 0 * 0**-1 would be nan, and for roots as for `sqrt`.
    root = eq(y, zeros_like(y))
    if not (config.strict_gradients or dtypes.is_complex(x.dtype)):
        root = bitwise_and(lt(y, full_like(y, 1)), le(zeros_like(y), y))
    corner = bitwise_and(eq(x, zeros_like(x)), root)
    less = select(corner, full_like(y, 1), sub(y, full_like(y, 1)))
    return mul(t, mul(y, pow(x, less)))


def _pow_jvp_exponent(t: Any, x: Any, y: Any, out: Any) -> Any:
    return mul(t, mul(log(_where_zero(x, 1, x)), out))


def _extremum_jvp(t: Any, x: Any, y: Any, out: Any) -> Any:
    share = select(eq(y, out), full_like(x, 0.5), full_like(x, 1))
    return mul(t, select(eq(x, out), share, zeros_like(x)))


def _hypot_jvp(t: Any, x: Any, y: Any, out: Any) -> Any:
    return mul(t, div(x, _where_zero(out, 1, out)))


def _logaddexp_jvp(t: Any, x: Any, y: Any, out: Any) -> Any:
    # Equal infinities would give inf - inf; equal numbers keep the difference and its derivative.
    infinite = bitwise_and(eq(x, y), bitwise_not(is_finite(x)))
    return mul(t, logistic(select(infinite, zeros_like(x), sub(x, y))))


def _swapped(jvp: Callable[..., Any]) -> Callable[..., Any]:
    """Return the derivative in the second argument of a symmetric function."""
    return lambda t, x, y, out: jvp(t, y, x, out)


def _sum_of_squares(x: Any, y: Any) -> Any:
    return add(mul(x, x), mul(y, y))


def _unit(x: Any) -> Any:
    return copysign(full_like(x, 1), x)


div_p = binary(
    "div",
    _div_eager,
    # Both divide the cotangent by y, once.
    (lambda t, x, y, out: div(t, y), lambda t, x, y, out: div(neg(mul(t, out)), y)),
    transpose=lambda ct, x, y: (div(ct, y), None),
)
rem_p = binary(
    "rem",
    _rem_eager,
    (lambda t, x, y, out: t, lambda t, x, y, out: neg(mul(t, trunc(div(x, y))))),
    accepts="if",
)
pow_p = binary("pow", _pow_eager, (_pow_jvp_base, _pow_jvp_exponent))
max_p = binary("max", _of_int8("maximum"), (_extremum_jvp, _swapped(_extremum_jvp)), accepts="bif")
min_p = binary("min", _of_int8("minimum"), (_extremum_jvp, _swapped(_extremum_jvp)), accepts="bif")
atan2_p = binary(
    "atan2",
    _ufunc("arctan2"),
    (
        lambda t, x, y, out: mul(t, div(y, _sum_of_squares(x, y))),
        lambda t, x, y, out: mul(t, div(neg(x), _sum_of_squares(x, y))),
    ),
    accepts="f",
)
hypot_p = binary("hypot", _ufunc("hypot"), (_hypot_jvp, _swapped(_hypot_jvp)), accepts="f")
logaddexp_p = binary(
    "logaddexp", _ufunc("logaddexp"), (_logaddexp_jvp, _swapped(_logaddexp_jvp)), accepts="f"
)
nextafter_p = nondiff("nextafter", _ufunc("nextafter"), 2, accepts="f")
copysign_p = binary(
    "copysign",
    _ufunc("copysign"),
    # The derivative is 1 where the signs agree and -1 where they do not, zeros included.
    (lambda t, x, y, out: mul(t, mul(_unit(x), _unit(y))), None),
    accepts="f",
)
div, rem, pow, max, min = div_p.bind, rem_p.bind, pow_p.bind, max_p.bind, min_p.bind
atan2, hypot, logaddexp, nextafter = atan2_p.bind, hypot_p.bind, logaddexp_p.bind, nextafter_p.bind
copysign = copysign_p.bind


# --------------------------------------------------------------------------------- powers, rounding
def _integer_pow_eager(xp: Any, x: Any, *, y: int) -> Any:
    """Multiply by repeated squaring, the way compiled code does."""
    exponent = -y if y < 0 else y
    out = None
    while exponent:
        if exponent & 1:
            out = x if out is None else out * x
        exponent >>= 1
        if exponent:
            x = x * x
    if out is None:
        return xp.ones_like(x)
    return xp.reciprocal(out) if y < 0 else out


def _integer_pow_type(x: ShapedArray, *, y: int) -> ShapedArray:
    if y < 0 and dtypes.is_integer(x.dtype):
        raise TypeError(
            f"integer_pow: integers have no negative powers, got {x.str_short()} ** {y}"
        )
    return _PLAIN_INTEGER_POW_TYPE(x)


def _integer_pow_jvp(t: Any, x: Any, out: Any, *, y: int) -> Any:
    if y == 0:
        return None
    return t if y == 1 else mul(t, _scaled(integer_pow(x, y=y - 1), y))


def _sign_of(t: Any, x: Any, out: Any) -> Any:
    """Return the tangent of abs; at complex x it is the real part of t times conj(x) / abs(x)."""
    if not dtypes.is_complex(x.dtype):
        return mul(t, sign(x))
    length = _where_zero(out, 1, out)
    return real(mul(t, div(conj(x), complex(length, zeros_like(length)))))


def _or_inf(y: Any) -> Any:
    """Return the divisor of a root's derivative, infinite where the root is 0.

    So the derivative there is 0, and with it that of the root of a sum of squares.
    """
    if config.strict_gradients or dtypes.is_complex(y.dtype):
        return y
    return _where_zero(y, math.inf, y)


def _sqrt1m(x: Any) -> Any:
    """Return ``1 / sqrt(1 - x**2)``, factored so that it stays accurate near 1 and -1."""
    one = full_like(x, 1)
    return rsqrt(mul(sub(one, x), add(one, x)))


def _sign_eager(xp: Any, x: Any) -> Any:
    """Return the sign; zeros keep theirs."""
    return xp.where(x == 0, x, xp.sign(x)) if dtypes.is_float(x.dtype) else xp.sign(x)


sign_p = nondiff("sign", _sign_eager, 1, accepts="ifc")
abs_p = unary("abs", _ufunc("abs"), _sign_of, accepts="ifc", out="real")
floor_p = nondiff("floor", _ufunc("floor"), 1, accepts="f")
ceil_p = nondiff("ceil", _ufunc("ceil"), 1, accepts="f")
round_p = nondiff("round", _ufunc("rint"), 1, accepts="f")
trunc_p = nondiff("trunc", _ufunc("trunc"), 1, accepts="f")
is_finite_p = nondiff("is_finite", _ufunc("isfinite"), 1, out="bool")
square_p = unary("square", _ufunc("square"), lambda t, x, y: mul(t, add(x, x)), accepts="ifc")
reciprocal_p = unary("reciprocal", _ufunc("reciprocal"), lambda t, x, y: neg(mul(t, mul(y, y))))
sqrt_p = unary("sqrt", _ufunc("sqrt"), lambda t, x, y: div(_scaled(t, 0.5), _or_inf(y)))
rsqrt_p = unary(
    "rsqrt", _wide(lambda xp, x: 1 / xp.sqrt(x)), lambda t, x, y: mul(t, _scaled(div(y, x), -0.5))
)
cbrt_p = unary(
    "cbrt", _ufunc("cbrt"), lambda t, x, y: div(_scaled(t, 1 / 3), _or_inf(mul(y, y))), accepts="f"
)
integer_pow_p = unary("integer_pow", _wide(_integer_pow_eager), _integer_pow_jvp, accepts="ifc")
_PLAIN_INTEGER_POW_TYPE = elementwise_linear_type("integer_pow", "ifc")
integer_pow_p.type = _integer_pow_type
sign, abs, floor, ceil, round = sign_p.bind, abs_p.bind, floor_p.bind, ceil_p.bind, round_p.bind
trunc, is_finite, square, reciprocal = (
    trunc_p.bind,
    is_finite_p.bind,
    square_p.bind,
    reciprocal_p.bind,
)
sqrt, rsqrt, cbrt, integer_pow = sqrt_p.bind, rsqrt_p.bind, cbrt_p.bind, integer_pow_p.bind

# ----------------------------------------------------------------------------------- transcendental
exp_p = unary("exp", _ufunc("exp"), lambda t, x, y: mul(t, y))
exp2_p = unary("exp2", _ufunc("exp2"), lambda t, x, y: mul(t, _scaled(y, math.log(2))))
expm1_p = unary("expm1", _ufunc("expm1"), lambda t, x, y: mul(t, add(y, full_like(y, 1))))
log_p = unary("log", _ufunc("log"), lambda t, x, y: div(t, x))


def _log1p_eager(xp: Any, x: Any) -> Any:
    """Return log(1 + x); of small complex x from abs(1 + x)**2 - 1, which NumPy rounds away."""
    if not dtypes.is_complex(x.dtype):
        return xp.log1p(x)
    re, im = x.real, x.imag
    small = xp.maximum(xp.abs(re), xp.abs(im)) < 0.5
    near = xp.log1p(xp.where(small, re * (re + 2) + im * im, 0)) / 2
    out = xp.log(x + 1)
    return _complex_eager(xp, xp.where(small, near, out.real), out.imag)


log1p_p = unary("log1p", _log1p_eager, lambda t, x, y: div(t, add(x, full_like(x, 1))))
log2_p = unary("log2", _ufunc("log2"), lambda t, x, y: div(_scaled(t, 1 / math.log(2)), x))
log10_p = unary("log10", _ufunc("log10"), lambda t, x, y: div(_scaled(t, 1 / math.log(10)), x))
sin_p = unary("sin", _ufunc("sin"), lambda t, x, y: mul(t, cos(x)))
cos_p = unary("cos", _ufunc("cos"), lambda t, x, y: neg(mul(t, sin(x))))
tan_p = unary("tan", _ufunc("tan"), lambda t, x, y: mul(t, add(full_like(y, 1), mul(y, y))))
asin_p = unary("asin", _ufunc("arcsin"), lambda t, x, y: mul(t, _sqrt1m(x)))
acos_p = unary("acos", _ufunc("arccos"), lambda t, x, y: neg(mul(t, _sqrt1m(x))))
atan_p = unary("atan", _ufunc("arctan"), lambda t, x, y: div(t, add(full_like(x, 1), mul(x, x))))
sinh_p = unary("sinh", _ufunc("sinh"), lambda t, x, y: mul(t, cosh(x)))
cosh_p = unary("cosh", _ufunc("cosh"), lambda t, x, y: mul(t, sinh(x)))
tanh_p = unary(
    "tanh",
    _ufunc("tanh"),
    lambda t, x, y: mul(t, mul(add(full_like(y, 1), y), sub(full_like(y, 1), y))),
)
asinh_p = unary(
    "asinh", _ufunc("arcsinh"), lambda t, x, y: mul(t, rsqrt(add(mul(x, x), full_like(x, 1))))
)
# Two roots rather than one of the product: their branch cuts are those of acosh.
acosh_p = unary(
    "acosh",
    _ufunc("arccosh"),
    lambda t, x, y: mul(t, mul(rsqrt(sub(x, full_like(x, 1))), rsqrt(add(x, full_like(x, 1))))),
)
atanh_p = unary(
    "atanh",
    _ufunc("arctanh"),
    lambda t, x, y: div(t, mul(add(full_like(x, 1), x), sub(full_like(x, 1), x))),
)


def _logistic_eager(xp: Any, x: Any) -> Any:
    """Return 1 / (1 + e**-x); of negative real x, e**x / (1 + e**x), which may be denormal."""
    if dtypes.is_complex(x.dtype):
        return 1 / (1 + xp.exp(-x))
    zero, one, less = _units(x.dtype) if xp is np else (0, 1, -1)
    return xp.exp(xp.minimum(x, zero)) / (one + xp.exp(xp.copysign(x, less)))


@functools.cache
def _units(dtype: Any) -> tuple[np.ndarray, ...]:
    """Return 0, 1 and -1 as arrays, which NumPy takes sooner than Python's numbers."""
    return tuple(np.array(n, dtype) for n in (0, 1, -1))


logistic_p = unary(
    "logistic", _wide(_logistic_eager), lambda t, x, y: mul(t, mul(y, sub(full_like(y, 1), y)))
)
exp, exp2, expm1, log, log1p, log2, log10 = (
    p.bind for p in (exp_p, exp2_p, expm1_p, log_p, log1p_p, log2_p, log10_p)
)
sin, cos, tan, asin, acos, atan = (p.bind for p in (sin_p, cos_p, tan_p, asin_p, acos_p, atan_p))
sinh, cosh, tanh = sinh_p.bind, cosh_p.bind, tanh_p.bind
asinh, acosh, atanh, logistic = asinh_p.bind, acosh_p.bind, atanh_p.bind, logistic_p.bind


def _gauss(t: Any, x: Any, factor: float) -> Any:
    """Return ``t * factor * exp(-x**2)``."""
    return mul(_scaled(t, factor), exp(neg(mul(x, x))))


erf_p = unary(
    "erf", _special(special.erf), lambda t, x, y: _gauss(t, x, 2 / math.sqrt(math.pi)), accepts="f"
)
erfc_p = unary(
    "erfc",
    _special(special.erfc),
    lambda t, x, y: _gauss(t, x, -2 / math.sqrt(math.pi)),
    accepts="f",
)


def _erf_inv_eager(xp: Any, x: Any) -> Any:
    if x.dtype == np.float64:
        return _special(special.erf_inv)(xp, x)
    return special.erf_inv_single(xp, x.astype(np.float32, copy=False)).astype(x.dtype, copy=False)


erf_inv_p = unary(
    "erf_inv",
    _erf_inv_eager,
    lambda t, x, y: mul(_scaled(t, math.sqrt(math.pi) / 2), exp(mul(y, y))),
    accepts="f",
)
lgamma_p = unary(
    "lgamma", _special(special.lgamma), lambda t, x, y: mul(t, digamma(x)), accepts="f"
)
digamma_p = unary(
    "digamma", _special(special.digamma), lambda t, x, y: mul(t, polygamma(x, n=1)), accepts="f"
)
polygamma_p = unary(
    "polygamma",
    _special(special.polygamma),
    lambda t, x, y, *, n: mul(t, polygamma(x, n=n + 1)),
    accepts="f",
)
erf, erfc, erf_inv = erf_p.bind, erfc_p.bind, erf_inv_p.bind
lgamma, digamma, polygamma = lgamma_p.bind, digamma_p.bind, polygamma_p.bind


# -------------------------------------------------------------------------------- comparisons, bits
def _as_unsigned(xp: Any, x: Any) -> Any:
    return x.view(np.dtype(f"u{x.dtype.itemsize}"))


def _shift_parts(xp: Any, y: Any) -> tuple[Any, Any, int]:
    """Return (amount within the width, whether it was, width); negatives count as too large."""
    width = 8 * y.dtype.itemsize
    within = (y >= 0) & (y < width)
    return xp.where(within, y, xp.zeros_like(y)), within, width


def _shift_left(xp: Any, x: Any, y: Any) -> Any:
    amount, within, _ = _shift_parts(xp, y)
    return xp.where(within, xp.left_shift(x, amount), xp.zeros_like(x))


def _shift_right_logical(xp: Any, x: Any, y: Any) -> Any:
    amount, within, _ = _shift_parts(xp, y)
    shifted = xp.right_shift(_as_unsigned(xp, x), _as_unsigned(xp, amount)).view(x.dtype)
    return xp.where(within, shifted, xp.zeros_like(x))


def _shift_right_arithmetic(xp: Any, x: Any, y: Any) -> Any:
    amount, within, width = _shift_parts(xp, y)
    signed = x.view(np.dtype(f"i{x.dtype.itemsize}"))
    amount = xp.where(within, amount, xp.full_like(amount, width - 1)).view(signed.dtype)
    return xp.right_shift(signed, amount).view(x.dtype)


def _popcount(xp: Any, x: Any) -> Any:
    return xp.bitwise_count(_as_unsigned(xp, x)).astype(x.dtype)


def _clz(xp: Any, x: Any) -> Any:
    """Copy the highest set bit into all lower ones; the bits still clear are the leading zeros."""
    bits = _as_unsigned(xp, x)
    shift = 1
    while shift < 8 * x.dtype.itemsize:
        bits = bits | (bits >> bits.dtype.type(shift))
        shift *= 2
    return xp.bitwise_count(~bits).astype(x.dtype)


eq_p = nondiff("eq", _ufunc("equal"), 2, out="bool")
ne_p = nondiff("ne", _ufunc("not_equal"), 2, out="bool")
lt_p = nondiff("lt", _ufunc("less"), 2, accepts="bif", out="bool")
le_p = nondiff("le", _ufunc("less_equal"), 2, accepts="bif", out="bool")
gt_p = nondiff("gt", _ufunc("greater"), 2, accepts="bif", out="bool")
ge_p = nondiff("ge", _ufunc("greater_equal"), 2, accepts="bif", out="bool")
eq, ne, lt, le, gt, ge = eq_p.bind, ne_p.bind, lt_p.bind, le_p.bind, gt_p.bind, ge_p.bind

bitwise_not_p = nondiff("bitwise_not", _ufunc("invert"), 1, accepts="bi")
bitwise_and_p = nondiff("bitwise_and", _ufunc("bitwise_and"), 2, accepts="bi")
bitwise_or_p = nondiff("bitwise_or", _ufunc("bitwise_or"), 2, accepts="bi")
bitwise_xor_p = nondiff("bitwise_xor", _ufunc("bitwise_xor"), 2, accepts="bi")
population_count_p = nondiff("population_count", _popcount, 1, accepts="i")
clz_p = nondiff("clz", _clz, 1, accepts="i")
shift_left_p = nondiff("shift_left", _shift_left, 2, accepts="i")
shift_right_logical_p = nondiff("shift_right_logical", _shift_right_logical, 2, accepts="i")
shift_right_arithmetic_p = nondiff(
    "shift_right_arithmetic", _shift_right_arithmetic, 2, accepts="i"
)
bitwise_not, bitwise_and, bitwise_or = bitwise_not_p.bind, bitwise_and_p.bind, bitwise_or_p.bind
bitwise_xor, population_count, clz = bitwise_xor_p.bind, population_count_p.bind, clz_p.bind
shift_left, shift_right_logical = shift_left_p.bind, shift_right_logical_p.bind
shift_right_arithmetic = shift_right_arithmetic_p.bind


# ------------------------------------------------------------------------------------------ complex
def _complex_eager(xp: Any, re: Any, im: Any) -> Any:
    out = xp.empty(re.shape, dtypes.complex_dtype(re.dtype))
    out.real, out.imag = re, im
    return out


def _complex_transpose(ct: Any, re: Any, im: Any) -> tuple[Any, Any]:
    # Transposes are of real-linear maps under <a, b> = real(sum(a * b)), as in JAX.
    return real(ct) if is_linear(re) else None, neg(imag(ct)) if is_linear(im) else None


def _wide_floats(rule: Callable[..., ShapedArray]) -> Callable[..., ShapedArray]:
    """Return the type rule of `complex`, which has no 16-bit result."""

    def type_rule(re: ShapedArray, im: ShapedArray) -> ShapedArray:
        if re.dtype in _HALF:
            raise TypeError(
                f"complex takes float32 or float64 parts, got {re.str_short()}: convert them first"
            )
        return rule(re, im)

    return type_rule


complex_p = linear(
    "complex",
    type=_wide_floats(elementwise_linear_type("complex", "f", "complex")),
    eager=_complex_eager,
    transpose=_complex_transpose,
    batch=None,
)
real_p = linear(
    "real",
    type=elementwise_linear_type("real", "c", "real"),
    eager=_ufunc("real"),
    transpose=lambda ct, x: (complex(ct, zeros_like(ct)),),
    batch=None,
)
imag_p = linear(
    "imag",
    type=elementwise_linear_type("imag", "c", "real"),
    eager=_ufunc("imag"),
    transpose=lambda ct, x: (complex(zeros_like(ct), neg(ct)),),
    batch=None,
)
conj_p = linear(
    "conj",
    type=elementwise_linear_type("conj", "fc"),
    eager=_ufunc("conjugate"),
    transpose=lambda ct, x: (conj(ct),),
    batch=None,
)
complex, real, imag, conj = complex_p.bind, real_p.bind, imag_p.bind, conj_p.bind

copy_p = linear(
    "copy",
    type=elementwise_linear_type("copy"),
    eager=lambda xp, x: x.copy(),
    transpose=lambda ct, x: (ct,),
    batch=None,
)
stop_gradient_p = nondiff("stop_gradient", lambda xp, x: x, 1)
copy, stop_gradient = copy_p.bind, stop_gradient_p.bind


# ------------------------------------------------------------------------------------------- select
def _select_type(pred: ShapedArray, on_true: ShapedArray, on_false: ShapedArray) -> ShapedArray:
    same = on_true.same_type(on_false)
    if not same or pred.shape != on_true.shape or not dtypes.is_bool(pred.dtype):
        raise TypeError(
            "select takes a bool predicate and two arrays of equal dtype, all of one shape, got "
            f"{', '.join(a.str_short() for a in (pred, on_true, on_false))}"
        )
    return on_true if on_true.weak_type == on_false.weak_type else on_true.update(weak_type=False)


def _select_transpose(ct: Any, pred: Any, on_true: Any, on_false: Any) -> tuple[None, Any, Any]:
    none = zeros_like(ct)
    return (
        None,
        select(pred, ct, none) if is_linear(on_true) else None,
        select(pred, none, ct) if is_linear(on_false) else None,
    )


select_p = linear(
    "select",
    type=_select_type,
    eager=_ufunc("where"),
    transpose=_select_transpose,
    batch=None,
    linear_in=(1, 2),
)
select_p.weak_args = slice(1, None)
select = select_p.bind


# -------------------------------------------------------------------------------------- conversions
def _convert_eager(xp: Any, x: Any, *, dtype: np.dtype, weak_type: bool = False) -> Any:
    if x.dtype == dtype:
        return x
    if dtypes.is_complex(x.dtype) and not dtypes.is_complex(dtype):
        if dtypes.is_bool(dtype):
            return x != 0
        x = x.real
    if dtypes.is_integer(dtype) and dtypes.is_float(x.dtype):
        return float_to_int(xp, x, dtype)
    return x.astype(dtype)


def _convert_type(x: ShapedArray, *, dtype: np.dtype, weak_type: bool = False) -> ShapedArray:
    return ShapedArray(x.shape, dtype, weak_type)


def _convert_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, dtype: np.dtype, weak_type: bool = False
) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    out = convert(x, dtype=dtype, weak_type=weak_type)
    if t is None or not (dtypes.is_inexact(x.dtype) and dtypes.is_inexact(dtype)):
        return out, None
    return out, t if t.dtype == dtype else convert(t, dtype=dtype, weak_type=False)


def _convert_transpose(ct: Any, x: Any, **params: Any) -> tuple[Any]:
    to = x.aval.dtype
    return (ct if ct.dtype == to else convert(ct, dtype=to, weak_type=False),)


def _bitcast_type(x: ShapedArray, *, dtype: np.dtype) -> ShapedArray:
    kinds = {x.dtype.kind, dtype.kind}
    if x.dtype.itemsize != dtype.itemsize or (x.dtype != dtype and kinds & {"b", "c"}):
        what = "keeps the width of an element, and takes neither bools nor complex numbers"
        raise TypeError(f"bitcast {what}: got {x.str_short()} and dtype {dtype.name}")
    return ShapedArray(x.shape, dtype)


convert_p = linear(
    "convert",
    type=_convert_type,
    eager=_convert_eager,
    transpose=_convert_transpose,
    batch=None,
    keeps_weak=False,
)
convert_p.jvp = _convert_jvp
bitcast_p = nondiff("bitcast", lambda xp, x, *, dtype: x.view(dtype), 1)
bitcast_p.type, bitcast_p.keeps_weak = _bitcast_type, False
convert, bitcast = convert_p.bind, bitcast_p.bind
