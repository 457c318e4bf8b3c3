"""`mulhi`: the upper half of the bits of products of integers."""

from __future__ import annotations

import builtins
from typing import Any

from funtorch import dtypes
from funtorch.core import primitives
from funtorch.lax.operations import agree, lt
from funtorch.numpy.promotion import convert, describe
from funtorch.ops import families

__all__ = ["mulhi"]

_WIDER = {
    builtins.int: {8: dtypes.int32, 16: dtypes.int32, 32: dtypes.int64},
    builtins.bool: {8: dtypes.uint32, 16: dtypes.uint32, 32: dtypes.uint64},
}


def mulhi(x: Any, y: Any, /) -> Any:
    """Return the upper half of the bits of the full product of integers.

    Example:
        >>> import funtorch.numpy as fnp
        >>> mulhi(fnp.asarray([2**30]), fnp.asarray([8]))
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
    zero = families.zeros_like(x)
    upper = upper - primitives["select"].bind(lt(x, zero), y, zero)
    return upper - primitives["select"].bind(lt(y, zero), x, zero)
