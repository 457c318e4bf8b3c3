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


class ScalarMeta(type):
    """Class of dtypes that can be called: ``float32(x)`` converts x to an array of that dtype.

    They are classes, as NumPy's scalar types are, and numbers of NumPy are instances of theirs.

    Example:
        >>> float32(2), np.zeros(2, float32).dtype, isinstance(np.float32(1), float32)
        (Array(2., dtype=float32), dtype('float32'), True)
    """

    dtype: np.dtype

    def __call__(cls, x: Any = 0) -> Any:
        return convert(asarray(cls.dtype.type(x) if isinstance(x, (int, str)) else x), cls.dtype)

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
complex64, complex128 = map(_scalar_type, (dtypes.complex64, dtypes.complex128))
