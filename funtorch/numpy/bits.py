"""Numbers taken apart: packed bits, mantissa and exponent, distance to the next number."""

from __future__ import annotations

from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import primitives
from funtorch.errors import MismatchError
from funtorch.numpy import elementwise
from funtorch.numpy.creation import zeros
from funtorch.numpy.direct import FLOATS, direct, indexed
from funtorch.numpy.elementwise import not_equal, where
from funtorch.numpy.manipulation import moveaxis, ravel, reshape, slice_axis, stack
from funtorch.numpy.padding import pad
from funtorch.numpy.promotion import (
    asarray,
    canonical_axis,
    convert,
    describe,
    no_out,
    static_int,
    to_array,
    to_arrays,
)
from funtorch.numpy.reductions import sum as sum_

__all__ = ["frexp", "ldexp", "modf", "packbits", "recast", "spacing", "unpackbits", "view"]

_WEIGHTS = {"big": np.arange(7, -1, -1), "little": np.arange(8)}


def _bit_order(name: str, bitorder: str) -> np.ndarray:
    if bitorder not in _WEIGHTS:
        raise ValueError(f"{name}: bitorder must be 'big' or 'little', got {bitorder!r}")
    return _WEIGHTS[bitorder].astype(np.uint8)


def packbits(a: Any, axis: int | None = None, bitorder: str = "big") -> Any:
    """Pack zeros and others into the bits of uint8 numbers.

    Args:
        a: integer or bool array.
        axis: the axis that shrinks eightfold; None flattens.
        bitorder: 'big' puts the first element into the highest bit, 'little' into the lowest.

    Example:
        >>> packbits(asarray([1, 0, 1]))
        Array([160], dtype=uint8)

    References:
        numpy.packbits
    """
    shifts = _bit_order("packbits", bitorder)
    x = to_array(a, "packbits", "a")
    if dtypes.is_inexact(x.dtype):
        raise TypeError(f"packbits: a must be integers or bool, got {describe(x)}")
    if axis is None:
        x, axis = ravel(x), 0
    k = canonical_axis(axis, x.ndim, "packbits")
    bits = moveaxis(convert(elementwise.not_equal(x, 0), dtypes.uint8), k, -1)
    n = bits.shape[-1]
    bits = pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, -n % 8)])
    bits = reshape(bits, (*bits.shape[:-1], -(-n // 8), 8))
    packed = sum_(elementwise.left_shift(bits, asarray(shifts)), -1, dtypes.uint8)
    return moveaxis(packed, -1, k)


def unpackbits(
    a: Any, axis: int | None = None, count: int | None = None, bitorder: str = "big"
) -> Any:
    """Return the bits of uint8 numbers as zeros and ones.

    Args:
        a: uint8 array.
        axis: the axis that grows eightfold; None flattens.
        count: number of bits to return; negative: to leave out at the end.
        bitorder: 'big' begins with the highest bit, 'little' with the lowest.

    Example:
        >>> unpackbits(asarray([160], "uint8"), count=3)
        Array([1, 0, 1], dtype=uint8)

    References:
        numpy.unpackbits
    """
    shifts = _bit_order("unpackbits", bitorder)
    x = to_array(a, "unpackbits", "a")
    if x.dtype != dtypes.uint8:
        raise TypeError(f"unpackbits: a must be uint8, got {describe(x)}")
    if axis is None:
        x, axis = ravel(x), 0
    k = canonical_axis(axis, x.ndim, "unpackbits")
    x = moveaxis(x, k, -1)
    bits = elementwise.bitwise_and(
        elementwise.right_shift(x[..., None], asarray(shifts)), asarray(1, dtypes.uint8)
    )
    bits = reshape(bits, (*x.shape[:-1], 8 * x.shape[-1]))
    n = bits.shape[-1]
    if count is not None:
        count = static_int(count, "unpackbits: count")
        if count < -n:
            raise ValueError(f"unpackbits: count {count} leaves out more than all {n} bits")
        if count > n:
            bits = pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, count - n)])
        else:
            bits = slice_axis(bits, bits.ndim - 1, 0, count if count >= 0 else n + count)
    return moveaxis(bits, -1, k)


# Bits of the mantissa, and the integer of the same width.
_FORMAT = {dtypes.float32: (23, dtypes.int32), dtypes.float64: (52, dtypes.int64)}


@direct(np.modf, FLOATS)
def modf(x: Any, /, out: None = None) -> tuple[Any, Any]:
    """Return the fractional and the integral part, both with the sign of x.

    References:
        numpy.modf
    """
    no_out(out, "modf")
    x = to_array(x, "modf")
    x = convert(x, dtypes.to_inexact(x.dtype), x.weak_type)
    whole = elementwise.trunc(x)
    fraction = elementwise.subtract(x, whole)
    return where(elementwise.isinf(x), elementwise.copysign(0.0, x), fraction), whole


@direct(np.ldexp, FLOATS, indexed)
def ldexp(x1: Any, x2: Any, /) -> Any:
    """Return x1 * 2**x2 for integer x2.

    References:
        numpy.ldexp
    """
    x, n = to_arrays("ldexp", x1=x1, x2=x2)
    if dtypes.is_complex(x.dtype) or not (dtypes.is_integer(n.dtype) or dtypes.is_bool(n.dtype)):
        raise MismatchError(
            f"ldexp: not supported for input types {describe(x)} and {describe(n)}: x1 must be "
            "real and x2 integers"
        )
    x = convert(x, dtypes.to_inexact(x.dtype), x.weak_type)
    # Two steps, so that the factor itself overflows or vanishes no earlier than the result.
    half = elementwise.floor_divide(n, 2)
    for part in (half, elementwise.subtract(n, half)):
        x = elementwise.multiply(x, elementwise.exp2(convert(part, x.dtype)))
    return x


@direct(np.frexp, FLOATS)
def frexp(x: Any, /) -> tuple[Any, Any]:
    """Take numbers apart: x = mantissa * 2**exponent, with the mantissa in [0.5, 1).

    Args:
        x: array of real numbers.

    Returns:
        (mantissa, int32 exponent); 0, infinities and nan are their own mantissas.

    Example:
        >>> mantissa, exponent = frexp(asarray([6.0]))
        >>> mantissa.tolist(), exponent.tolist()
        ([0.75], [3])

    References:
        numpy.frexp
    """
    x = to_array(x, "frexp")
    if dtypes.is_complex(x.dtype):
        raise TypeError(f"frexp: x must be real, got {describe(x)}")
    x = convert(x, dtypes.to_inexact(x.dtype), x.weak_type)
    wide = x if x.dtype in _FORMAT else convert(x, dtypes.float32)
    mantissa_bits, integer = _FORMAT[wide.dtype]
    tiny = elementwise.less(elementwise.absolute(wide), float(dtypes.finfo(wide.dtype).tiny))
    scaled = where(tiny, elementwise.multiply(wide, 2.0**mantissa_bits), wide)
    bits = primitives["bitcast"].bind(primitives["stop_gradient"].bind(scaled), dtype=integer)
    width = 8 * integer.itemsize - 1 - mantissa_bits
    exponent = elementwise.bitwise_and(
        elementwise.right_shift(bits, mantissa_bits), (1 << width) - 1
    )
    exponent = elementwise.subtract(exponent, (1 << (width - 1)) - 2)
    exponent = elementwise.subtract(exponent, where(tiny, mantissa_bits, 0))
    plain = elementwise.logical_and(elementwise.isfinite(wide), elementwise.not_equal(wide, 0))
    exponent = convert(where(plain, exponent, 0), dtypes.int32)
    mantissa = ldexp(wide, elementwise.negative(exponent))
    return convert(where(plain, mantissa, wide), x.dtype, x.weak_type), exponent


@direct(np.spacing, FLOATS)
def spacing(x: Any, /) -> Any:
    """Return the distance to the next number away from 0, with the sign of x.

    Args:
        x: array of real numbers.

    Example:
        >>> float(spacing(1.0)) * 2**23
        1.0

    References:
        numpy.spacing
    """
    x = to_array(x, "spacing")
    if dtypes.is_complex(x.dtype):
        raise TypeError(f"spacing: x must be real, got {describe(x)}")
    x = convert(x, dtypes.to_inexact(x.dtype), x.weak_type)
    outwards = elementwise.copysign(np.inf, x)
    step = elementwise.subtract(elementwise.nextafter(x, outwards), x)
    return where(elementwise.isfinite(x), step, np.nan)


# ------------------------------------------------------------------------- bytes as other dtypes
def _bits_dtype(dtype: Any) -> Any:
    return np.dtype(f"uint{8 * dtype.itemsize}")


def _divided(x: Any, dtype: Any) -> Any:
    """Return the parts of unsigned integers, the lowest first, along a new last axis."""
    width = 8 * dtype.itemsize
    parts = [
        convert(elementwise.right_shift(x, asarray(k * width, x.dtype)), dtype)
        for k in range(x.dtype.itemsize // dtype.itemsize)
    ]
    return stack(parts, -1)


def _joined(x: Any, dtype: Any) -> Any:
    """Undo `_divided`."""
    out = zeros(x.shape[:-1], dtype)
    for k in range(x.shape[-1]):
        part = convert(x[..., k], dtype)
        shift = asarray(8 * k * x.dtype.itemsize, dtype)
        out = elementwise.bitwise_or(out, elementwise.left_shift(part, shift))
    return out


def recast(x: Any, dtype: Any) -> Any:
    """Return the bytes of an array as another dtype.

    Args:
        x: array, of shape S.
        dtype: one of the same size, whose result has shape S; a smaller one, whose values come
            along a new last axis; or a greater one, of as many values as the last axis of x has.

    Raises:
        ValueError: a greater dtype does not take exactly the values of the last axis.
    """
    if dtype == x.dtype:
        return x
    if dtypes.is_complex(x.dtype) or dtypes.is_complex(dtype):
        raise TypeError(f"bitcast: complex numbers have no one word, got {describe(x)} and {dtype}")
    old, new = x.dtype.itemsize, dtype.itemsize
    if old == new:
        return primitives["bitcast"].bind(x, dtype=dtype)
    words = recast(x, _bits_dtype(x.dtype))
    if old > new:
        return recast(_divided(words, _bits_dtype(dtype)), dtype)
    if not x.ndim or x.shape[-1] != new // old:
        raise MismatchError(
            f"bitcast: {describe(x)} becomes {dtype} only if its last axis has size {new // old}"
        )
    return recast(_joined(words, _bits_dtype(dtype)), dtype)


def view(x: Any, dtype: Any) -> Any:
    """Return the bytes of an array as another dtype, along the last axis."""
    if dtype == x.dtype:
        return x
    if dtypes.is_bool(dtype):
        return not_equal(view(x, dtypes.uint8), 0)
    if dtypes.is_bool(x.dtype):
        return view(convert(x, dtypes.uint8), dtype)
    old, new = x.dtype.itemsize, dtype.itemsize
    divided = dtypes.is_complex(x.dtype) or dtypes.is_complex(dtype)
    if old == new and not divided:
        return recast(x, dtype)
    if not x.ndim:
        raise MismatchError(
            f"view: view() of a 0d array is only supported if the itemsize is unchanged, got "
            f"{describe(x)} and {dtype}"
        )
    if dtypes.is_complex(x.dtype):
        parts = stack([elementwise.real(x), elementwise.imag(x)], -1)
        return view(reshape(parts, (*x.shape[:-1], 2 * x.shape[-1])), dtype)
    if dtypes.is_complex(dtype):
        parts = view(x, dtypes.real_dtype(dtype))
        if parts.shape[-1] % 2:
            raise MismatchError(f"view: {describe(x)} has no whole number of {dtype} per row")
        return primitives["complex"].bind(parts[..., ::2], parts[..., 1::2])
    if old > new:
        parts = recast(x, dtype)
        return reshape(parts, (*x.shape[:-1], x.shape[-1] * (old // new)))
    if x.shape[-1] * old % new:
        raise MismatchError(
            f"view: when changing to a larger dtype, its size must be a divisor of the total size "
            f"in bytes of the last axis of the array, got {describe(x)} and {dtype}"
        )
    return recast(reshape(x, (*x.shape[:-1], x.shape[-1] * old // new, new // old)), dtype)
