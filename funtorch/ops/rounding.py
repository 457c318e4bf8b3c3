"""`reduce_precision`: round floats to fewer bits of exponent and mantissa.

    reduce_precision(x; exponent_bits, mantissa_bits)

It is written in operations on bits, and counts as linear: its derivative rounds in the same way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.ops.elementwise import (
    add,
    bitcast,
    bitwise_and,
    gt,
    le,
    ne,
    select,
    shift_right_logical,
)
from funtorch.ops.families import elementwise_linear_type, full_like, linear
from funtorch.placement import array_of, buffer_of

__all__ = ["reduce_precision", "reduce_precision_p"]


def _expand(x: Any, *, exponent_bits: int, mantissa_bits: int) -> Any:
    """Round the mantissa to even; what the exponent cannot say becomes infinite or zero."""
    about = dtypes.finfo(x.dtype)
    width, own_mantissa, own_exponent = about.bits, about.nmant, about.nexp
    word = np.dtype(f"uint{width}")
    bits = bitcast(x, dtype=word)
    result = bits

    def constant(value: int) -> Any:
        return full_like(bits, value)

    dropped = own_mantissa - mantissa_bits
    if dropped > 0:
        last = shift_right_logical(bitwise_and(bits, constant(1 << dropped)), constant(dropped))
        up = add(last, constant((1 << (dropped - 1)) - 1))
        keep = (1 << width) - (1 << dropped)
        result = bitwise_and(add(bits, up), constant(keep))
    if exponent_bits < own_exponent:
        sign = 1 << (width - 1)
        ones = ((1 << own_exponent) - 1) << own_mantissa
        bias, small_bias = (1 << (own_exponent - 1)) - 1, (1 << (exponent_bits - 1)) - 1
        exponent = bitwise_and(result, constant(ones))
        signs = bitwise_and(result, constant(sign))
        too_large = gt(exponent, constant((bias + small_bias) << own_mantissa))
        too_small = le(exponent, constant((bias - small_bias) << own_mantissa))
        result = select(too_large, add(signs, constant(ones)), result)
        result = select(too_small, signs, result)
    return select(ne(x, x), x, bitcast(result, dtype=x.dtype))


def _eager(xp: Any, x: Any, *, exponent_bits: int, mantissa_bits: int) -> Any:
    rounded = _expand(array_of(x), exponent_bits=exponent_bits, mantissa_bits=mantissa_bits)
    return buffer_of(rounded)


reduce_precision_p = linear(
    "reduce_precision",
    type=elementwise_linear_type("reduce_precision", "f"),
    eager=_eager,
    transpose=lambda ct, x, **params: [reduce_precision(ct, **params)],
    batch=None,
)
reduce_precision_p.expand, reduce_precision_p.nests = _expand, True
reduce_precision = reduce_precision_p.bind
