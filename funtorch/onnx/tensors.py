"""Tensors and attributes of ONNX as arrays and Python values, checked before they are read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .node import DTYPES, OnnxError, UnsupportedOnnx, dtype_of, type_name

__all__ = ["attribute_value", "sparse", "tensor", "type_proto"]

MOST = 1 << 28
"""Elements that a sparse tensor may stand for."""

_TYPED = {
    1: "float_data", 14: "float_data", 11: "double_data", 15: "double_data", 7: "int64_data",
    12: "uint64_data", 13: "uint64_data",
}  # fmt: skip
"""Where a tensor without raw bytes has its elements, if not in int32_data."""


def tensor(proto: Any) -> np.ndarray:
    """Return a ``TensorProto`` as an array.

    Raises:
        OnnxError: its data do not fit its shape.
        UnsupportedOnnx: it is of a type that we have no arrays of.
    """
    import onnx

    place = f"tensor {proto.name!r}"
    if proto.data_type == onnx.TensorProto.STRING:
        return np.asarray([s.decode("utf-8", "replace") for s in proto.string_data], object)
    dtype = dtype_of(proto.data_type, place)
    if any(n < 0 for n in proto.dims):
        raise OnnxError(f"{place} has the shape {list(proto.dims)}")
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        raise OnnxError(f"{place} has its data in another file; give from_onnx the model's path")
    count = math.prod(proto.dims)
    bits = _bits(dtype)
    if proto.HasField("raw_data"):
        given, wanted = len(proto.raw_data), (count * bits + 7) // 8
    else:
        given = len(getattr(proto, _TYPED.get(proto.data_type, "int32_data")))
        each = 8 // bits if bits < 8 else 1
        wanted = -(-count // each) * (2 if dtype.kind == "c" else 1)
    if given != wanted:
        raise OnnxError(
            f"{place}, {dtype.name} of shape {list(proto.dims)}, has {given} bytes or numbers of "
            f"data, and needs {wanted}: the file is damaged or cut off"
        )
    try:
        found = np.asarray(onnx.numpy_helper.to_array(proto))
    except (TypeError, ValueError, OverflowError) as error:
        raise OnnxError(f"{place}: {error}") from error
    return found


def _bits(dtype: np.dtype) -> int:
    """Return how many bits an element has in a file."""
    for name, bits in (("int4", 4), ("float4", 4), ("int2", 2)):
        if name in dtype.name:
            return bits
    return 8 * dtype.itemsize


def sparse(proto: Any) -> np.ndarray:
    """Return a ``SparseTensorProto`` as a dense array."""
    shape = tuple(proto.dims)
    values, places = tensor(proto.values), tensor(proto.indices)
    if any(n < 0 for n in shape) or math.prod(shape) > MOST:
        raise OnnxError(f"sparse tensor {proto.values.name!r} stands for an array of shape {shape}")
    if places.ndim == 2 and places.shape[1] != len(shape):
        raise OnnxError(f"sparse tensor {proto.values.name!r}: its indices do not fit {shape}")
    dense = np.zeros(shape, values.dtype)
    flat = places if places.ndim == 1 else np.ravel_multi_index(tuple(places.T), shape)
    if flat.size and not 0 <= flat.min() <= flat.max() < dense.size:
        raise OnnxError(f"sparse tensor {proto.values.name!r} has indices outside of {shape}")
    dense.reshape(-1)[flat] = values
    return dense


def attribute_value(proto: Any, place: str) -> Any:
    """Return the value of an attribute: a number, a string, lists of these, an array, a graph."""
    import onnx

    kinds = onnx.AttributeProto
    if proto.type == kinds.STRING:
        return proto.s.decode("utf-8", "replace")
    if proto.type == kinds.STRINGS:
        return [s.decode("utf-8", "replace") for s in proto.strings]
    if proto.type == kinds.TENSOR:
        return tensor(proto.t)
    if proto.type == kinds.SPARSE_TENSOR:
        return sparse(proto.sparse_tensor)
    field = {
        kinds.FLOAT: "f", kinds.INT: "i", kinds.GRAPH: "g", kinds.FLOATS: "floats",
        kinds.INTS: "ints", kinds.GRAPHS: "graphs", kinds.TYPE_PROTO: "tp",
    }.get(proto.type)  # fmt: skip
    if field is None:
        raise UnsupportedOnnx(f"{place}: the attribute {proto.name!r} is of an unknown kind")
    found = getattr(proto, field)
    return list(found) if field in ("floats", "ints", "graphs") else found


def type_proto(x: Any) -> Any:
    """Describe the type of a value."""
    import onnx

    if x is None:
        return onnx.TypeProto()
    if isinstance(x, list):
        inside = type_proto(x[0]) if x else onnx.helper.make_tensor_type_proto(1, None)
        return onnx.helper.make_sequence_type_proto(inside)
    return onnx.helper.make_tensor_type_proto(number_of(x.dtype), list(x.shape))


def number_of(dtype: Any) -> int:
    """Return ONNX's number of a dtype."""
    for number, known in DTYPES.items():
        if np.dtype(known) == dtype:
            return number
    raise UnsupportedOnnx(f"ONNX has no {dtype}; of its types, {type_name(1)} is the nearest")
