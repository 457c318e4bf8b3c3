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


class ScalarType:
    """A dtype that can be called: ``float32(x)`` converts x to an array of that dtype.

    Args:
        dtype: the dtype it stands for.

    Example:
        >>> float32(2), np.zeros(2, float32).dtype
        (Array(2., dtype=float32), dtype('float32'))
    """

    __slots__ = ("dtype",)

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype

    def __call__(self, x: Any = 0) -> Any:
        return convert(asarray(x), dtypes.canonical(self.dtype))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ScalarType):
            return self.dtype == other.dtype
        return isinstance(other, (type, np.dtype, str)) and self.dtype == other

    def __hash__(self) -> int:
        return hash(self.dtype)

    def __repr__(self) -> str:
        return f"<funtorch.numpy.{self.dtype.name}>"


bool_ = ScalarType(dtypes.bool_)
uint8, uint16, uint32, uint64 = map(
    ScalarType, (dtypes.uint8, dtypes.uint16, dtypes.uint32, dtypes.uint64)
)
int8, int16, int32, int64 = map(ScalarType, (dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64))
float16, float32, float64 = map(ScalarType, (dtypes.float16, dtypes.float32, dtypes.float64))
bfloat16 = ScalarType(dtypes.bfloat16)
float4_e2m1fn = ScalarType(dtypes.float4_e2m1fn)
float8_e3m4 = ScalarType(dtypes.float8_e3m4)
float8_e4m3 = ScalarType(dtypes.float8_e4m3)
float8_e4m3b11fnuz = ScalarType(dtypes.float8_e4m3b11fnuz)
float8_e4m3fn = ScalarType(dtypes.float8_e4m3fn)
float8_e4m3fnuz = ScalarType(dtypes.float8_e4m3fnuz)
float8_e5m2 = ScalarType(dtypes.float8_e5m2)
float8_e5m2fnuz = ScalarType(dtypes.float8_e5m2fnuz)
float8_e8m0fnu = ScalarType(dtypes.float8_e8m0fnu)
int2 = ScalarType(dtypes.int2)
int4 = ScalarType(dtypes.int4)
uint2 = ScalarType(dtypes.uint2)
uint4 = ScalarType(dtypes.uint4)
complex64, complex128 = map(ScalarType, (dtypes.complex64, dtypes.complex128))
