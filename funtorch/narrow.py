"""Floats of 8 bits and less, and integers of 2 and 4 bits, as ml_dtypes has them.

They are for storage: read and written, converted, and computed with by eager rules, also in
compiled programs. They promote with Python numbers, bools and (the floats) integers only.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

__all__ = [
    "ABSTRACT",
    "NARROW",
    "NARROW_FLOATS",
    "NARROW_INTS",
    "float4_e2m1fn",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "int2",
    "int4",
    "uint2",
    "uint4",
]

NARROW_FLOATS = (
    float8_e3m4 := np.dtype(ml_dtypes.float8_e3m4),
    float8_e4m3 := np.dtype(ml_dtypes.float8_e4m3),
    float8_e4m3b11fnuz := np.dtype(ml_dtypes.float8_e4m3b11fnuz),
    float8_e4m3fn := np.dtype(ml_dtypes.float8_e4m3fn),
    float8_e4m3fnuz := np.dtype(ml_dtypes.float8_e4m3fnuz),
    float8_e5m2 := np.dtype(ml_dtypes.float8_e5m2),
    float8_e5m2fnuz := np.dtype(ml_dtypes.float8_e5m2fnuz),
    float8_e8m0fnu := np.dtype(ml_dtypes.float8_e8m0fnu),
    float4_e2m1fn := np.dtype(ml_dtypes.float4_e2m1fn),
)
NARROW_INTS = (
    int2 := np.dtype(ml_dtypes.int2),
    int4 := np.dtype(ml_dtypes.int4),
    uint2 := np.dtype(ml_dtypes.uint2),
    uint4 := np.dtype(ml_dtypes.uint4),
)
NARROW = frozenset((*NARROW_FLOATS, *NARROW_INTS))

ABSTRACT: dict[type, type] = {
    **{dtype.type: np.floating for dtype in NARROW_FLOATS},
    **{
        dtype.type: np.unsignedinteger if dtype.name[0] == "u" else np.signedinteger
        for dtype in NARROW_INTS
    },
}
"""NumPy's kinds of these types, which are of none to NumPy."""
