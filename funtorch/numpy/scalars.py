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
    "int16",
    "int32",
    "int64",
    "int8",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
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
complex64, complex128 = map(ScalarType, (dtypes.complex64, dtypes.complex128))
