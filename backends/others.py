"""Operations on dtypes that have no code of their own, written in those that have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.jaxpr import Eqn
from funtorch.ops.contract import dot_general, inner_dtype
from funtorch.ops.conv import conv_general_dilated, phases
from funtorch.ops.elementwise import (
    abs,
    add,
    bitcast,
    bitwise_and,
    bitwise_or,
    complex,
    convert,
    eq,
    gt,
    imag,
    lt,
    mul,
    ne,
    real,
    select,
    shift_right_logical,
    sub,
)
from funtorch.ops.families import broadcast_in_dim, full_like, scalar, zeros_like
from funtorch.ops.indexing import scatter_max, scatter_min
from funtorch.ops.reduce import reduce_sum
from funtorch.ops.shape import pad, reshape, transpose
from funtorch.ops.window import windows

from .products import BYTES, INT32, QUAD

__all__ = [
    "bits_of_halves",
    "contracted_bools",
    "convolved",
    "integer_powers",
    "is_finite_number",
    "meets",
    "next_half",
    "scattered_bools",
]

Written = Callable[..., Any]

_WIDE = 8  # features from which a convolution of int8 is a product
_EXACT = 1024  # products of int8 whose sum is exact in float32


def _as(x: Any, dtype: Any) -> Any:
    return x if x.dtype == dtype else convert(x, dtype=np.dtype(dtype), weak_type=False)


# ---------------------------------------------------------------------- elementwise
def is_finite_number(eqn: Eqn) -> Written | None:
    """All integers are finite."""
    if dtypes.is_float(eqn.invars[0].aval.dtype) or dtypes.is_complex(eqn.invars[0].aval.dtype):
        return None
    shape = eqn.outvars[0].aval.shape
    return lambda x: broadcast_in_dim(scalar(True, np.dtype(bool)), shape=shape, dims=())


def integer_powers(eqn: Eqn) -> Written | None:
    """Powers of integers by repeated squaring; a negative one of anything but 1 and -1 is 0."""
    dtype = eqn.outvars[0].aval.dtype
    if dtype.kind not in "iu":
        return None

    def power(x: Any, y: Any) -> Any:
        one, none = full_like(x, 1), zeros_like(x)
        out, square = one, x
        for k in range(8 * dtype.itemsize - (dtype.kind == "i")):
            bit = bitwise_and(shift_right_logical(y, full_like(y, k)), one)
            out = select(ne(bit, none), mul(out, square), out)
            square = mul(square, square)
        if dtype.kind == "u":
            return out
        odd = select(ne(bitwise_and(y, one), none), x, one)
        return select(lt(y, none), select(eq(abs(x), one), odd, none), out)

    return power


def bits_of_halves(eqn: Eqn) -> Written | None:
    """Bits of one 16-bit float as those of the other, by way of integers: both are computed in
    float32."""
    source, to = eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype
    if source == to or source.itemsize != 2 or not all(map(dtypes.is_float, (source, to))):
        return None
    return lambda x: bitcast(bitcast(x, dtype=np.dtype(np.uint16)), dtype=to)


def next_half(eqn: Eqn) -> Written | None:
    """The 16-bit float after x in the direction of y: its bits are one more or one less."""
    dtype = eqn.outvars[0].aval.dtype
    if dtype.itemsize != 2:
        return None
    bits_of = np.dtype("int16")

    def after(x: Any, y: Any) -> Any:
        bits, none = bitcast(x, dtype=bits_of), zeros_like(x)
        outwards = eq(gt(y, x), gt(x, none))
        ones = full_like(bits, 1)
        moved = select(outwards, add(bits, ones), sub(bits, ones))
        sign = bitwise_and(bitcast(y, dtype=bits_of), full_like(bits, -(1 << 15)))
        moved = select(eq(x, none), bitwise_or(sign, ones), moved)
        moved = select(eq(x, y), bitcast(y, dtype=bits_of), moved)
        bad = bitwise_or(ne(x, x), ne(y, y))
        return select(bad, add(x, y), bitcast(moved, dtype=dtype))

    return after


def scattered_bools(greatest: bool) -> Callable[[Eqn], Written | None]:
    """Combine bools as numbers 0 and 1: by the greater of two, or by the lesser."""

    def rule(eqn: Eqn) -> Written | None:
        if eqn.invars[0].aval.dtype.kind != "b":
            return None
        f = scatter_max if greatest else scatter_min

        def scatter(x: Any, updates: Any, *indices: Any) -> Any:
            return _as(f(_as(x, "uint8"), _as(updates, "uint8"), *indices, **eqn.params), bool)

        return scatter

    return rule


def contracted_bools(eqn: Eqn) -> Written | None:
    """A product of bools holds where both do for any term: where a sum of ones is not 0."""
    if eqn.outvars[0].aval.dtype.kind != "b":
        return None
    numbers = eqn.params["dimension_numbers"]

    def contracted(a: Any, b: Any) -> Any:
        a, b = (_as(x, "float32") for x in (a, b))
        out = dot_general(a, b, dimension_numbers=numbers, out_dtype=None)
        return ne(out, zeros_like(out))

    return contracted


# ---------------------------------------------------------------------- convolutions
def meets(eqn: Eqn) -> bool:
    """Tell whether a convolution has a tap that meets an element."""
    (lhs, rhs), p = eqn.invars, eqn.params
    geometry = (p["strides"], p["padding"], p["lhs_dilation"], p["rhs_dilation"])
    return bool(list(phases(lhs.aval.shape[2:], rhs.aval.shape[2:], *geometry)))


def convolved(eqn: Eqn) -> Written | None:
    """Convolutions of what is neither float32 nor float64, and those whose taps all miss."""
    lhs, out, p = eqn.invars[0].aval, eqn.outvars[0].aval, dict(eqn.params)
    p.pop("out_dtype")
    if not meets(eqn):
        return lambda *xs: broadcast_in_dim(scalar(0, out.dtype), shape=out.shape, dims=())
    inner = inner_dtype(lhs.dtype, out.dtype)
    if lhs.dtype == BYTES and inner.kind == "i" and inner.itemsize <= 4:
        return lambda x, w: _as(_of_bytes(x, w, p), out.dtype)
    if {lhs.dtype, out.dtype} != {inner}:
        return lambda x, w: _as(
            conv_general_dilated(_as(x, inner), _as(w, inner), **p, out_dtype=None), out.dtype
        )
    if dtypes.is_complex(inner):
        return lambda x, w: _by_parts(x, w, p)
    return None if inner.kind == "f" else lambda x, w: _by_sums(x, w, p)


def _of_bytes(x: Any, w: Any, p: dict[str, Any]) -> Any:
    """Convolve int8, in int32.

    It is a product of matrices, whose terms are features that lie next to each other, filled up to
    fours; the border is written. Few features are convolved as floats, in which the sums are exact.
    """
    groups, (outs, inner, *taps), m = p["groups"], w.shape, x.ndim - 2
    if min(outs // groups, inner) < _WIDE:
        exact = np.dtype("float32" if inner * math.prod(taps) <= _EXACT else "float64")
        made = conv_general_dilated(_as(x, exact), _as(w, exact), **p, out_dtype=None)
        return _as(made, INT32)
    more = -inner % QUAD
    lo, hi = ((0, *(pair[k] for pair in p["padding"]), 0, k * more) for k in (0, 1))
    gaps = (0, *(d - 1 for d in p["lhs_dilation"]), 0, 0)
    zero, last = scalar(0, BYTES), tuple(range(3, 3 + m))
    x = transpose(
        reshape(x, shape=(x.shape[0], groups, inner, *x.shape[2:])), perm=(0, *last, 1, 2)
    )
    x = pad(x, zero, lo=lo, hi=hi, interior=gaps)
    w = transpose(reshape(w, shape=(groups, outs // groups, inner, *taps)), perm=(0, 1, *last, 2))
    none = (0,) * w.ndim
    w = pad(w, zero, lo=none, hi=(*none[1:], more), interior=none) if more else w
    x = windows(
        transpose(x, perm=(0, 1 + m, 2 + m, *range(1, 1 + m))),
        window=tuple(taps),
        strides=p["strides"],
        dilation=p["rhs_dilation"],
    )
    # Terms last, as products of int8 want them: (groups, batch, *places, *taps, features).
    x = transpose(x, perm=(1, 0, *range(3 + m, 3 + 2 * m), *last, 2))
    summed = tuple(range(x.ndim - m - 1, x.ndim)), tuple(range(2, 3 + m))
    y = dot_general(x, w, dimension_numbers=(summed, ((0,), (0,))), out_dtype=INT32)
    # The result's axes: groups, batch, *places, out features of the group.
    y = transpose(y, perm=(1, 0, y.ndim - 1, *range(2, y.ndim - 1)))
    return reshape(y, shape=(y.shape[0], outs, *y.shape[3:]))


def _by_parts(x: Any, w: Any, p: dict[str, Any]) -> Any:
    """Convolve real and imaginary parts with each other."""
    (a, b), (c, d) = ((real(z), imag(z)) for z in (x, w))
    ac, bd, ad, bc = (
        conv_general_dilated(u, v, **p, out_dtype=None) for u, v in ((a, c), (b, d), (a, d), (b, c))
    )
    return complex(sub(ac, bd), add(ad, bc))


def _by_sums(x: Any, w: Any, p: dict[str, Any]) -> Any:
    """Write a convolution as the sum of products that it is, over all taps and features."""
    groups, (outs, inner, *taps) = p["groups"], w.aval.shape
    m = len(taps)
    lo, hi = ((0, 0, *(pair[k] for pair in p["padding"])) for k in (0, 1))
    gaps = (0, 0, *(d - 1 for d in p["lhs_dilation"]))
    x = pad(x, scalar(0, x.dtype), lo=lo, hi=hi, interior=gaps)
    x = windows(x, window=tuple(taps), strides=p["strides"], dilation=p["rhs_dilation"])
    batch, places = x.aval.shape[0], x.aval.shape[2 + m :]
    x = reshape(x, shape=(batch, groups, inner, *taps, *places))
    w = reshape(w, shape=(groups, outs // groups, inner, *taps))
    shape = (batch, groups, outs // groups, inner, *taps, *places)
    ndim = len(shape)
    x = broadcast_in_dim(x, shape=shape, dims=(0, 1, *range(3, ndim)))
    w = broadcast_in_dim(w, shape=shape, dims=tuple(range(1, 4 + m)))
    out = reduce_sum(mul(x, w), axes=tuple(range(3, 4 + m)))
    return reshape(out, shape=(batch, outs, *places))
