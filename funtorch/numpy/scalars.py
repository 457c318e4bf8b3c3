"""Dtypes as names of the namespace: ``float32`` is a dtype to NumPy, and ``float32(1.5)`` makes an
array."""

from __future__ import annotations

from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.numpy.promotion import asarray, convert

__all__ = [
    "bfloat16",
    "bool_",
    "complex128",
    "complex64",
    "float16",
    "float32",
    "float64",
    "float4_e2m1fn",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "int16",
    "int32",
    "int64",
    "int8",
    "int2",
    "int4",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
    "uint2",
    "uint4",
]


class ScalarMeta(type):
    """Class of dtypes that can be called: ``float32(x)`` converts x to an array of that dtype.

    They are classes, as NumPy's scalar types are, and numbers of NumPy are instances of theirs.

    Example:
        >>> float32(2), np.zeros(2, float32).dtype, isinstance(np.float32(1), float32)
        (Array(2., dtype=float32), dtype('float32'), True)
    """

    dtype: np.dtype

    def __call__(cls, x: Any = 0) -> Any:
        dtype = dtypes.canonical(cls.dtype)
        return convert(asarray(dtype.type(x) if isinstance(x, (int, str)) else x), dtype)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.dtype.type)

    def __eq__(cls, other: object) -> bool:
        if isinstance(other, ScalarMeta):
            return cls.dtype == other.dtype
        return isinstance(other, (type, np.dtype, str)) and cls.dtype == other

    def __hash__(cls) -> int:
        return hash(cls.dtype)

    def __repr__(cls) -> str:
        return f"<class 'funtorch.numpy.{cls.dtype.name}'>"


def _scalar_type(dtype: np.dtype) -> Any:
    text = f"The dtype {dtype.name}; called, it makes an array of it."
    members = {"dtype": dtype, "__module__": "funtorch.numpy", "__doc__": text}
    return ScalarMeta(dtype.name, (), members)


bool_ = _scalar_type(dtypes.bool_)
uint8, uint16, uint32, uint64 = map(
    _scalar_type, (dtypes.uint8, dtypes.uint16, dtypes.uint32, dtypes.uint64)
)
int8, int16, int32, int64 = map(
    _scalar_type, (dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64)
)
float16, float32, float64 = map(_scalar_type, (dtypes.float16, dtypes.float32, dtypes.float64))
bfloat16 = _scalar_type(dtypes.bfloat16)
float4_e2m1fn = _scalar_type(dtypes.float4_e2m1fn)
float8_e3m4 = _scalar_type(dtypes.float8_e3m4)
float8_e4m3 = _scalar_type(dtypes.float8_e4m3)
float8_e4m3b11fnuz = _scalar_type(dtypes.float8_e4m3b11fnuz)
float8_e4m3fn = _scalar_type(dtypes.float8_e4m3fn)
float8_e4m3fnuz = _scalar_type(dtypes.float8_e4m3fnuz)
float8_e5m2 = _scalar_type(dtypes.float8_e5m2)
float8_e5m2fnuz = _scalar_type(dtypes.float8_e5m2fnuz)
float8_e8m0fnu = _scalar_type(dtypes.float8_e8m0fnu)
int2 = _scalar_type(dtypes.int2)
int4 = _scalar_type(dtypes.int4)
uint2 = _scalar_type(dtypes.uint2)
uint4 = _scalar_type(dtypes.uint4)
complex64, complex128 = map(_scalar_type, (dtypes.complex64, dtypes.complex128))
