"""Rules of ONNX's operators on quantised integers."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

import funtorch.numpy as fnp

from .elementwise import narrow_float
from .networks import convolution
from .node import NARROW, Node, Rule, array, dtype_of

__all__ = ["QUANTIZED"]


def _spread(n: Node, v: Any, x: Any) -> Any:
    """Return scales or zero points as they meet the elements of an array."""
    v, block = array(v), int(n.get("block_size", 0))
    if v.ndim == 0 or v.size == 1:
        return v.reshape(())
    axis = n.axis(x.ndim, 1)
    if block:
        return fnp.repeat(v, block, axis=axis, total_repeat_length=x.shape[axis])
    wide = [1] * x.ndim
    wide[axis] = -1
    return v.reshape(wide)


def _quantize(n: Node, x: Any, scale: Any, zero: Any = None) -> Any:
    x = array(x)
    dtype = np.dtype(np.uint8) if zero is None else zero.dtype
    if n.get("output_dtype", 0):
        dtype = dtype_of(n.get("output_dtype"), n.place)
    steps = x / _spread(n, scale, x).astype(x.dtype)
    return _rounded(steps, None if zero is None else _spread(n, zero, x), dtype)


def _rounded(x: Any, zero: Any, dtype: np.dtype) -> Any:
    """Round to even, move, and stay within a type."""
    if NARROW.get(dtype) == np.float32:
        return narrow_float(x.astype("float32"), dtype, True)
    wide = x.astype("float32") if x.dtype.itemsize < 4 else x
    moved = fnp.round(wide)
    moved = moved if zero is None else moved + zero.astype(moved.dtype)
    info = ml_dtypes.iinfo(dtype)
    return fnp.clip(moved, int(info.min), int(info.max)).astype(NARROW.get(dtype, dtype))


def _dequantize(n: Node, x: Any, scale: Any, zero: Any = None) -> Any:
    number = int(n.get("output_dtype", 0))
    dtype = dtype_of(number, n.place) if number else array(scale).dtype
    x = array(x)
    wide = x.astype("float32") if dtype != np.float64 else x.astype(dtype)
    if zero is not None:
        wide = wide - _spread(n, zero, x).astype(wide.dtype)
    return (wide * _spread(n, scale, x).astype(wide.dtype)).astype(dtype)


def _whole(x: Any, zero: Any, wide: tuple[int, ...] | None = None) -> Any:
    """Return integers as int32, less their zero point."""
    found = array(x).astype("int32")
    if zero is None:
        return found
    zero = array(zero).astype("int32")
    if zero.ndim == 1 and zero.size > 1 and wide is not None:
        zero = zero.reshape(wide)
    return found - (zero.reshape(()) if zero.size == 1 else zero)


def _matmul_integer(n: Node, a: Any, b: Any, za: Any = None, zb: Any = None) -> Any:
    return fnp.matmul(_whole(a, za, (-1, 1)), _whole(b, zb))


def _conv_integer(n: Node, x: Any, w: Any, zx: Any = None, zw: Any = None) -> Any:
    rest = (-1, *[1] * (w.ndim - 1))
    return convolution(n, _whole(x, zx), _whole(w, zw, rest))


def _q_matmul(n: Node, a: Any, sa: Any, za: Any, b: Any, sb: Any, zb: Any, sy: Any, zy: Any) -> Any:
    rows = lambda v: array(v).reshape(-1, 1) if v.ndim == 1 and v.size > 1 else array(v)  # noqa: E731
    total = fnp.matmul(_whole(a, za, (-1, 1)), _whole(b, zb)).astype("float32")
    scale = rows(sa).astype("float32") * array(sb).astype("float32") / array(sy).astype("float32")
    return _rounded(total * scale, array(zy), np.dtype(zy.dtype))


def _q_conv(
    n: Node, x: Any, sx: Any, zx: Any, w: Any, sw: Any, zw: Any, sy: Any, zy: Any, bias: Any = None
) -> Any:
    rest = (-1, *[1] * (w.ndim - 1))
    total = convolution(n, _whole(x, zx), _whole(w, zw, rest))
    wide = (-1, *[1] * (w.ndim - 2))
    if bias is not None:
        total = total + array(bias).reshape(wide)
    weights = array(sw)
    scale = (
        array(sx).reshape(())
        / array(sy).reshape(())
        * (weights.reshape(()) if weights.size == 1 else weights.reshape(wide))
    )
    return _rounded(total.astype("float32") * scale, array(zy).reshape(()), np.dtype(zy.dtype))


def _dynamic(n: Node, x: Any) -> Any:
    """Quantise to bytes with the scale that the array's own range gives."""
    x = array(x)
    high, low = fnp.maximum(x.max(), 0), fnp.minimum(x.min(), 0)
    scale = (high - low) / 255
    zero = fnp.clip(fnp.round(-low / fnp.where(scale == 0, 1, scale)), 0, 255)
    steps = x / fnp.where(scale == 0, 1, scale)
    return _rounded(steps, zero, np.dtype(np.uint8)), scale, zero.astype("uint8")


QUANTIZED: dict[str, Rule] = {
    "QuantizeLinear": _quantize, "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic, "MatMulInteger": _matmul_integer,
    "ConvInteger": _conv_integer, "QLinearMatMul": _q_matmul, "QLinearConv": _q_conv,
}  # fmt: skip
"""Types of four bits are kept in bytes; quantised to, they stay within four bits."""
