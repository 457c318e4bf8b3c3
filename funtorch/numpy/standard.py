"""What the Array API standard asks a namespace to tell about itself: dtypes, devices, abilities.

References:
    Python array API standard, v2024.12, https://data-apis.org/array-api/2024.12/
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Array

__all__ = ["NamespaceInfo", "can_cast", "isdtype"]

# kind -> dtypes; the standard's kinds, and bfloat16 and float16 among the real ones.
_KINDS = {
    "bool": (dtypes.bool_,),
    "signed integer": (dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64),
    "unsigned integer": (dtypes.uint8, dtypes.uint16, dtypes.uint32, dtypes.uint64),
    "real floating": (dtypes.float32, dtypes.float64, dtypes.bfloat16, dtypes.float16),
    "complex floating": (dtypes.complex64, dtypes.complex128),
}
_KINDS["integral"] = _KINDS["signed integer"] + _KINDS["unsigned integer"]
_KINDS["numeric"] = _KINDS["integral"] + _KINDS["real floating"] + _KINDS["complex floating"]
_OUTSIDE = {dtypes.bfloat16, dtypes.float16}  # of the standard


def isdtype(dtype: Any, kind: Any) -> bool:
    """Tell whether a dtype is of a kind.

    Args:
        dtype: dtype or what names one.
        kind: 'bool', 'signed integer', 'unsigned integer', 'integral', 'real floating',
            'complex floating', 'numeric', a dtype, or a tuple of these.

    Raises:
        ValueError: there is no such kind.

    Example:
        >>> isdtype("float32", "real floating"), isdtype("int8", ("bool", "unsigned integer"))
        (True, False)

    References:
        numpy.isdtype
    """
    found = dtypes.canonical(dtype)
    for one in kind if isinstance(kind, tuple) else (kind,):
        if isinstance(one, str) and one in _KINDS:
            fits = found in _KINDS[one]
        else:
            try:
                fits = found == dtypes.canonical(one)
            except TypeError:
                raise ValueError(
                    f"isdtype: kind {one!r} is none of {', '.join(_KINDS)}, and no dtype"
                ) from None
        if fits:
            return True
    return False


def can_cast(from_: Any, to: Any, casting: str = "safe") -> bool:
    """Tell whether values of a dtype can become another one by a rule of NumPy's.

    Args:
        from_: dtype or array.
        to: dtype.
        casting: 'no', 'equiv', 'safe', 'same_kind' or 'unsafe'.

    Example:
        >>> can_cast("int32", "float64"), can_cast("float64", "float32")
        (True, False)

    References:
        numpy.can_cast
    """
    if isinstance(from_, (bool, int, float, complex)):
        raise TypeError(
            f"can_cast: from_ must be a dtype or an array, got the Python number {from_!r}"
        )
    source = from_.dtype if isinstance(from_, (Array, np.ndarray, np.generic)) else from_
    return np.can_cast(dtypes.canonical(source), dtypes.canonical(to), casting)  # type: ignore[arg-type]


class NamespaceInfo:
    """What `__array_namespace_info__` returns.

    Example:
        >>> NamespaceInfo().default_dtypes()["real floating"]
        dtype('float32')
    """

    def capabilities(self) -> dict[str, Any]:
        """Return what the standard leaves open: masks as indices, shapes that depend on values."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """Return where arrays are made."""
        return "cpu"

    def devices(self) -> list[str]:
        """Return the devices that arrays can be on."""
        return ["cpu"]

    def default_dtypes(self, *, device: Any = None) -> dict[str, Any]:
        """Return the dtypes of what is made without one.

        Args:
            device: all are alike.
        """
        return {
            "real floating": dtypes.default_float(),
            "complex floating": dtypes.default_complex(),
            "integral": dtypes.default_int(),
            "indexing": dtypes.default_int(),
        }

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, Any]:
        """Return the standard's dtypes, by name.

        Args:
            device: all are alike.
            kind: as for `isdtype`; None for all.

        Raises:
            ValueError: there is no such kind.
        """
        wanted = ("bool", "numeric") if kind is None else kind
        names = wanted if isinstance(wanted, tuple) else (wanted,)
        for name in names:
            if name not in _KINDS:
                raise ValueError(f"dtypes: kind {name!r} is none of {', '.join(_KINDS)}")
        found = [d for name in names for d in _KINDS[name] if d not in _OUTSIDE]
        return {d.name: d for d in found}
