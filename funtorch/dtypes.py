"""Dtypes: which there are, how they promote, and what Python scalars mean.

A dtype is a plain `numpy.dtype`; bfloat16 comes from ml_dtypes. Beside it stands a `weak` flag:
the dtype of a Python scalar is weak, which means it gives way to the dtype of an array.

Promotion is the least upper bound in this lattice, where i*, f* and c* are the weak types:

    bool -> i* -> u8 -> u16 -> u32 -> u64 ----------> f*
             |      \\      \\      \\                   ^
             +---> i8 -> i16 -> i32 -> i64 -----------+
    f* -> bfloat16, float16 -> float32 -> float64
    i* -> int2, int4, uint2, uint4     f* -> float8_*, float4_e2m1fn     (nothing above them)
    f* -> c* -> complex64 -> complex128,  float32 -> complex64,  float64 -> complex128

References:
    JAX, "Type promotion semantics", https://docs.jax.dev/en/latest/type_promotion.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from funtorch.config import config
from funtorch.errors import TypePromotionError
from funtorch.narrow import (
    ABSTRACT,
    NARROW,
    NARROW_FLOATS,
    NARROW_INTS,
    float4_e2m1fn,
    float8_e3m4,
    float8_e4m3,
    float8_e4m3b11fnuz,
    float8_e4m3fn,
    float8_e4m3fnuz,
    float8_e5m2,
    float8_e5m2fnuz,
    float8_e8m0fnu,
    int2,
    int4,
    uint2,
    uint4,
)

__all__ = [
    "HALVES", "NARROW", "NARROW_FLOATS", "NARROW_INTS", "TypePromotionError", "bfloat16",
    "bool_", "canonical", "canonicalize_dtype", "complex128", "complex64", "complex_dtype",
    "default_complex", "default_float", "default_int", "extended", "finfo", "float0", "float16",
    "float32", "float64", "float4_e2m1fn", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz",
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
    "iinfo", "int16", "int32", "int64", "int8", "int2", "int4", "is_bool", "is_complex",
    "is_float", "is_inexact", "is_integer", "is_signed", "issubdtype", "itemsize_bits",
    "prng_key", "promote", "promote_types", "real_dtype", "result_type", "result_type_weak",
    "scalar_type", "scalar_type_of", "short_name", "to_inexact", "uint16", "uint2", "uint32",
    "uint4", "uint64", "uint8",
]  # fmt: skip

bool_ = np.dtype("bool")
uint8, uint16, uint32, uint64 = map(np.dtype, ("uint8", "uint16", "uint32", "uint64"))
int8, int16, int32, int64 = map(np.dtype, ("int8", "int16", "int32", "int64"))
bfloat16 = np.dtype(ml_dtypes.bfloat16)
float16, float32, float64 = map(np.dtype, ("float16", "float32", "float64"))
complex64, complex128 = map(np.dtype, ("complex64", "complex128"))
HALVES = frozenset((float16, bfloat16, *NARROW_FLOATS))  # computed with in float32, rounded once

# The tangent type of integers and bools: arrays of it hold no bytes at all. Name as in JAX.
float0 = np.dtype([("float0", np.void, 0)])

_SHORT_NAMES = {
    bool_: "bool",
    uint8: "u8",
    uint16: "u16",
    uint32: "u32",
    uint64: "u64",
    int8: "i8",
    int16: "i16",
    int32: "i32",
    int64: "i64",
    bfloat16: "bf16",
    float16: "f16",
    float32: "f32",
    float64: "f64",
    complex64: "c64",
    complex128: "c128",
    float0: "float0",
    **{dtype: dtype.name.replace("float", "f") for dtype in NARROW_FLOATS},
    **{dtype: dtype.name.replace("int", "i").replace("ui", "u") for dtype in NARROW_INTS},
}

ALL = tuple(dtype for dtype in _SHORT_NAMES if dtype != float0 and dtype not in NARROW)


class extended(np.generic):
    """The kind of what stands in the place of a dtype without being one. Name as in JAX."""


class prng_key(extended):
    """The kind of the types of random keys. Name as in JAX."""


class KeyType:
    """The type of random keys, in the place where arrays have a dtype."""

    __slots__ = ()
    name = "key<fry>"
    type = prng_key

    def __repr__(self) -> str:
        return self.name


# --- which dtype is meant ------------------------------------------------------------------


def default_float() -> np.dtype:
    """Return the dtype that Python floats and arrays without a dtype get (float32)."""
    return config.default_float


def default_int() -> np.dtype:
    """Return the dtype that Python ints get (int32)."""
    return config.default_int


def default_complex() -> np.dtype:
    """Return the dtype that Python complex numbers get: complex128 if floats are float64."""
    return complex128 if config.default_float == float64 else complex64


_PYTHON_TYPES: dict[type, Callable[[], np.dtype]] = {
    bool: lambda: bool_,
    int: default_int,
    float: default_float,
    complex: default_complex,
}

_KNOWN = {dtype: dtype for dtype in _SHORT_NAMES}


class _CanonicalTable(dict[Any, np.dtype]):
    """dtype, scalar type or name -> our dtype."""

    def __missing__(self, key: Any) -> np.dtype:
        try:
            # np.dtype(None) would be float64; np.dtype(object) and the like fail in the table.
            native = np.dtype(key).newbyteorder("=") if key is not None else None
            self[key] = found = _KNOWN[native]
        except (TypeError, KeyError):
            names = ", ".join(str(dtype) for dtype in ALL)
            raise TypeError(f"dtype {key!r} is not supported; use one of {names}") from None
        return found


_canonical = _CanonicalTable(_KNOWN)
_NARROWER = {float64: float32, complex128: complex64, int64: int32, uint64: uint32}


def canonical(dtype_like: Any) -> np.dtype:
    """Turn anything that names a dtype into the dtype.

    Nothing is truncated: float64 stays float64, unless `config.narrow` is set. Only the Python
    types follow the defaults.

    Args:
        dtype_like: a dtype, a NumPy scalar type, a name such as `'bfloat16'`, or one of the
            Python types bool, int, float, complex.

    Returns:
        The dtype, in the machine's byte order.

    Raises:
        TypeError: there is no such dtype, or arrays of it are not supported.

    Example:
        >>> canonical(float), canonical("float64"), canonical("bfloat16")
        (dtype('float32'), dtype('float64'), dtype(bfloat16))
    """
    try:
        if dtype_like in _PYTHON_TYPES:
            return _PYTHON_TYPES[dtype_like]()
        found = _canonical[dtype_like]
        return _NARROWER.get(found, found) if config.narrow else found
    except TypeError:
        if hasattr(dtype_like, "dtype"):
            return canonical(dtype_like.dtype)
        if getattr(dtype_like, "__hash__", None) is None:
            return _canonical.__missing__(str(dtype_like))
        raise


def canonicalize_dtype(dtype: Any, allow_extended_dtype: bool = False) -> Any:
    """Turn anything that names a dtype into the dtype that arrays of it have.

    Args:
        dtype: what `canonical` takes, or None for the default float.
        allow_extended_dtype: whether the type of random keys may come, and is returned as it is.

    Returns:
        The dtype, or the type of random keys.

    Raises:
        TypeError: there is no such dtype.
        ValueError: the type of random keys was not asked for.

    Example:
        >>> canonicalize_dtype(np.float64), canonicalize_dtype(int)
        (dtype('float64'), dtype('int32'))
    """
    if isinstance(dtype, KeyType):
        if allow_extended_dtype:
            return dtype
        raise ValueError(
            f"canonicalize_dtype: {dtype} is not a NumPy dtype; pass allow_extended_dtype=True"
        )
    return default_float() if dtype is None else canonical(dtype)


def itemsize_bits(dtype: Any) -> int:
    """Return how many bits an element of a dtype takes in memory.

    Example:
        >>> itemsize_bits("bfloat16")
        16
    """
    dtype = canonical(dtype)
    if dtype in NARROW_INTS:
        return ml_dtypes.iinfo(dtype).bits
    return ml_dtypes.finfo(dtype).bits if dtype in NARROW_FLOATS else 8 * dtype.itemsize


def scalar_type_of(x: Any) -> type:
    """Return the Python type that stands for the kind of an array or number.

    Returns:
        bool, int, float or complex.

    Raises:
        TypeError: x is neither an array nor a number.

    Example:
        >>> scalar_type_of(np.float16(1)), scalar_type_of(3)
        (<class 'float'>, <class 'int'>)
    """
    dtype = canonical(x.dtype) if hasattr(x, "dtype") else scalar_type(x)[0]
    return {"b": bool, "u": int, "i": int, "f": float, "c": complex}[_kind[dtype]]


# --- predicates ----------------------------------------------------------------------------


class _KindTable(dict[Any, str]):
    """dtype -> 'b', 'u', 'i', 'f', 'c', or NumPy's letter for what is none of ours."""

    def __missing__(self, key: Any) -> str:
        # Read off NumPy, not `canonical`: a predicate answers no for strings and objects.
        dtype = np.dtype(key)
        if dtype == bfloat16 or dtype in NARROW_FLOATS:
            kind = "f"
        elif dtype in NARROW_INTS:
            kind = dtype.name[0]
        else:
            kind = dtype.kind
        self[key] = kind
        return kind


_kind = _KindTable()


def is_bool(dtype: Any) -> bool:
    """Tell whether a dtype is bool."""
    return _kind[dtype] == "b"


def is_integer(dtype: Any) -> bool:
    """Tell whether a dtype is a signed or unsigned integer; bool is not."""
    return _kind[dtype] in "iu"


def is_signed(dtype: Any) -> bool:
    """Tell whether a dtype has negative numbers: signed integers, floats, complex."""
    return _kind[dtype] in "ifc"


def is_float(dtype: Any) -> bool:
    """Tell whether a dtype is a real float, bfloat16 included."""
    return _kind[dtype] == "f"


def is_complex(dtype: Any) -> bool:
    """Tell whether a dtype is complex."""
    return _kind[dtype] == "c"


def is_inexact(dtype: Any) -> bool:
    """Tell whether a dtype is a float or complex: whether it can be differentiated."""
    return _kind[dtype] in "fc"


# NumPy's kinds of the types of ml_dtypes, which are none to NumPy.
_ABSTRACT: dict[type, type] = {bfloat16.type: np.floating, **ABSTRACT}


def issubdtype(dtype: Any, kind: Any) -> bool:
    """Tell whether a dtype is of a kind, as `numpy.issubdtype` does, bfloat16 included.

    Args:
        dtype: a dtype or what names one.
        kind: an abstract NumPy type such as `numpy.floating`, or a dtype.

    Returns:
        True or False.

    Example:
        >>> issubdtype(bfloat16, np.floating), issubdtype("int32", np.inexact)
        (True, False)
    """
    if isinstance(dtype, KeyType):
        scalar_class = dtype.type
    elif dtype is None:
        scalar_class = np.float64  # what None means to NumPy
    elif isinstance(dtype, type) and issubclass(dtype, np.generic):
        scalar_class = dtype
    elif dtype in (object, str, bytes) or getattr(dtype, "kind", "") in ("O", "S", "U", "V"):
        scalar_class = np.dtype(dtype).type
    else:
        scalar_class = canonical(dtype).type
    if isinstance(kind, type) and issubclass(kind, np.generic):
        wanted = kind
    else:
        wanted = canonical(kind).type
    if scalar_class in _ABSTRACT and wanted is not scalar_class:
        return issubclass(_ABSTRACT[scalar_class], wanted)
    return issubclass(scalar_class, wanted)


# --- related dtypes ------------------------------------------------------------------------

_REAL = {complex64: float32, complex128: float64}
_COMPLEX = {
    **dict.fromkeys(NARROW_FLOATS, complex64),
    bfloat16: complex64,
    float16: complex64,
    float32: complex64,
    float64: complex128,
    complex64: complex64,
    complex128: complex128,
}


def to_inexact(dtype: Any) -> np.dtype:
    """Return the dtype of functions such as `sin`: integers and bool become the default float."""
    return canonical(dtype) if _kind[dtype] in "fc" else config.default_float


def real_dtype(dtype: Any) -> np.dtype:
    """Return the dtype of the real part; real dtypes stay as they are."""
    dtype = canonical(dtype)
    return _REAL.get(dtype, dtype)


def complex_dtype(dtype: Any) -> np.dtype:
    """Return the complex dtype with room for a dtype; integers take the default complex."""
    return _COMPLEX.get(canonical(dtype)) or default_complex()


def short_name(dtype: Any) -> str:
    """Name a dtype as jaxprs do.

    Example:
        >>> short_name("float32"), short_name("bfloat16"), short_name("bool")
        ('f32', 'bf16', 'bool')
    """
    # Not canonical(): in 32-bit mode it would name another dtype than the one that is there.
    found = _SHORT_NAMES.get(dtype) if isinstance(dtype, np.dtype) else None
    if isinstance(dtype, KeyType):
        return dtype.name
    return found or _SHORT_NAMES[canonical(dtype)]


def finfo(dtype: Any) -> Any:
    """Return the limits of a float or complex dtype, as `numpy.finfo` does.

    Args:
        dtype: a float or complex dtype, bfloat16 included.

    Returns:
        An object with `eps`, `max`, `min`, `tiny`, `bits`, ...

    Raises:
        ValueError: the dtype is not inexact.

    Example:
        >>> float(finfo("bfloat16").eps)
        0.0078125
    """
    dtype = canonical(dtype)
    if not is_inexact(dtype):
        raise ValueError(f"finfo needs a float or complex dtype; got {dtype}; use iinfo")
    foreign = dtype == bfloat16 or dtype in NARROW
    return ml_dtypes.finfo(dtype) if foreign else np.finfo(dtype)


def iinfo(dtype: Any) -> Any:
    """Return the limits of an integer dtype, as `numpy.iinfo` does.

    Raises:
        ValueError: the dtype is not an integer.

    Example:
        >>> iinfo("int8").max
        127
    """
    dtype = canonical(dtype)
    if not is_integer(dtype):
        raise ValueError(f"iinfo needs an integer dtype; got {dtype}")
    return ml_dtypes.iinfo(dtype) if dtype in NARROW else np.iinfo(dtype)


# --- promotion -----------------------------------------------------------------------------

# The edges of the lattice, upwards. Its nodes are the dtypes and the three weak types.
_ABOVE: dict[Any, tuple[Any, ...]] = {
    bool_: ("i*",),
    "i*": (uint8, int8, *NARROW_INTS),
    uint8: (uint16, int16),
    uint16: (uint32, int32),
    uint32: (uint64, int64),
    uint64: ("f*",),
    int8: (int16,),
    int16: (int32,),
    int32: (int64,),
    int64: ("f*",),
    "f*": (bfloat16, float16, "c*", *NARROW_FLOATS),
    **dict.fromkeys((*NARROW_FLOATS, *NARROW_INTS), ()),
    bfloat16: (float32,),
    float16: (float32,),
    float32: (float64, complex64),
    float64: (complex128,),
    "c*": (complex64,),
    complex64: (complex128,),
    complex128: (),
}
_DEFAULTS = {"i*": default_int, "f*": default_float, "c*": default_complex}


def _reachable(node: Any) -> frozenset[Any]:
    return frozenset({node}).union(*map(_reachable, _ABOVE[node]))


_UP = {node: _reachable(node) for node in _ABOVE}


def _node(dtype: np.dtype, weak: bool) -> Any:
    if not weak or dtype == bool_:
        return dtype
    return "i*" if is_integer(dtype) else f"{_kind[dtype]}*"


def _join(a: Any, b: Any) -> Any:
    """Find the least upper bound: the one common upper bound that is below all the others."""
    common = _UP[a] & _UP[b]
    if not common:
        raise TypePromotionError(
            f"dtypes {a} and {b} have no common dtype: floats of 8 bits and integers of 4 bits and "
            "less are not promoted implicitly; convert one of them by astype"
        )
    (least,) = (node for node in common if common <= _UP[node])
    return least


class _PromotionTable(dict[tuple[np.dtype, bool, np.dtype, bool], tuple[np.dtype, bool]]):
    """(dtype, weak, dtype, weak) -> (dtype, weak)."""

    def __missing__(self, key: tuple[np.dtype, bool, np.dtype, bool]) -> tuple[np.dtype, bool]:
        a, b = canonical(key[0]), canonical(key[2])
        a_weak, b_weak = bool(key[1]), bool(key[3])
        if a == b:
            # Ahead of the lattice, in which float0 has no place.
            self[key] = result = a, a_weak and b_weak and a != bool_
            return result
        for dtype in (a, b):
            if dtype not in _UP:
                raise TypeError(f"dtypes {a} and {b} have no common dtype: convert one of them")
        both_weak = a_weak and b_weak
        node = _join(_node(a, a_weak and not both_weak), _node(b, b_weak and not both_weak))
        if not isinstance(node, str):
            self[key] = result = node, both_weak and node != bool_
            return result
        # A weak result keeps the dtype of the weak operand it came from: 2**40 stays int64.
        for dtype, weak in ((a, a_weak), (b, b_weak)):
            if weak and _node(dtype, weak) == node:
                self[key] = result = dtype, True
                return result
        # What follows the defaults is not remembered: they can change.
        return _DEFAULTS[node](), True


_promoted = _PromotionTable()


def promote(
    a_dtype: np.dtype, a_weak: bool, b_dtype: np.dtype, b_weak: bool
) -> tuple[np.dtype, bool]:
    """Promote two dtypes with their weak flags to a common one.

    Args:
        a_dtype: dtype of the first operand.
        a_weak: whether it comes from a Python scalar.
        b_dtype: dtype of the second operand.
        b_weak: whether it comes from a Python scalar.

    Returns:
        The common dtype, and whether it is weak.

    Raises:
        TypeError: a dtype is not supported.

    Example:
        >>> promote(float16, False, float32, True)
        (dtype('float16'), False)
    """
    found = _promoted[a_dtype, a_weak, b_dtype, b_weak]
    if config.narrow and found[0] in _NARROWER and found[0] not in (a_dtype, b_dtype):
        return _NARROWER[found[0]], found[1]  # int64 for uint32 and int32
    return found


def adapts(dtype: np.dtype, weak: bool, to: np.dtype) -> bool:
    """Tell whether a value takes on another dtype where one is asked for: if it has it, or if it is
    weak and of no higher kind.

    Example:
        >>> adapts(np.dtype("float32"), True, np.dtype("int32"))
        False
    """
    return dtype == to or (weak and promote(dtype, True, to, False)[0] == to)


def promote_types(a: Any, b: Any) -> np.dtype:
    """Promote two dtypes to a common one; Python types count as weak.

    Example:
        >>> promote_types("int32", "float16"), promote_types("bfloat16", "float16")
        (dtype('float16'), dtype('float32'))
    """

    def weak(t: Any) -> bool:
        # Not `t in (...)` alone: np.dtype("float64") == float holds, yet that dtype is not weak.
        return isinstance(t, type) and t in (int, float, complex)

    return promote(canonical(a), weak(a), canonical(b), weak(b))[0]


def result_type_weak(*operands: tuple[np.dtype, bool]) -> tuple[np.dtype, bool]:
    """Promote any number of (dtype, weak) pairs; the order does not matter.

    Args:
        *operands: at least one pair.

    Returns:
        The common dtype, and whether it is weak.

    Raises:
        TypeError: there are no operands.

    Example:
        >>> result_type_weak((int32, True), (float32, True), (bfloat16, False))
        (dtype(bfloat16), False)
    """
    if not operands:
        raise TypeError("result_type_weak needs at least one (dtype, weak) pair; got none")
    # Strong operands first: two weak ones that meet early would settle a width that a strong one
    # still has to choose.
    first, *others = sorted(operands, key=_is_weak)
    for operand in others:
        first = promote(*first, *operand)
    return first[0], first[1] and first[0] != bool_


def result_type(*args: Any, return_weak_type_flag: bool = False) -> Any:
    """Return the dtype that arrays, scalars and dtypes promote to.

    Args:
        *args: at least one array, Python or NumPy scalar, or what names a dtype; the Python types
            int, float and complex count as weak.
        return_weak_type_flag: return whether the result is weak, too.

    Returns:
        The dtype; or a pair of it and the flag.

    Raises:
        TypeError: an argument is none of these.
        ValueError: there is no argument.

    Example:
        >>> result_type("int8", 2.0), result_type(np.zeros(2, np.float16), "bfloat16")
        (dtype('float32'), dtype('float32'))
    """
    if not args:
        raise ValueError("result_type: at least one array or dtype is required")
    if all(isinstance(getattr(x, "dtype", x), KeyType) for x in args):
        found: Any = getattr(args[0], "dtype", args[0])
        return (found, False) if return_weak_type_flag else found
    dtype, weak = result_type_weak(*[_dtype_and_weak(x) for x in args])
    return (dtype, weak) if return_weak_type_flag else dtype


def _dtype_and_weak(x: Any) -> tuple[np.dtype, bool]:
    if isinstance(x, (type, str, np.dtype)):
        # Not `x in (...)` alone: np.dtype("float64") == float holds, yet that dtype is not weak.
        return canonical(x), isinstance(x, type) and x in (int, float, complex)
    if isinstance(x, (bool, int, float, complex, np.generic)):
        return scalar_type(x)
    if hasattr(x, "dtype"):
        return canonical(x.dtype), bool(getattr(x, "weak_type", False))
    raise TypeError(f"result_type: {x!r} is neither an array, nor a number, nor a dtype")


def _is_weak(operand: tuple[np.dtype, bool]) -> bool:
    return operand[1]


# --- Python scalars ------------------------------------------------------------------------


def _type_of_int(x: int) -> tuple[np.dtype, bool]:
    if -0x8000_0000 <= x <= 0x7FFF_FFFF:
        return config.default_int, True
    if config.narrow:
        raise OverflowError(f"Python int {x} does not fit in int32, the widest with config.narrow")
    if -0x8000_0000_0000_0000 <= x <= 0x7FFF_FFFF_FFFF_FFFF:
        return int64, True
    if 0 <= x <= 0xFFFF_FFFF_FFFF_FFFF:
        return uint64, True
    raise OverflowError(f"Python int {x} does not fit in int64 or uint64; convert it to a float")


_SCALAR_TYPES: dict[type, Callable[[Any], tuple[np.dtype, bool]]] = {
    bool: lambda x: (bool_, False),
    int: _type_of_int,
    float: lambda x: (config.default_float, True),
    complex: lambda x: (default_complex(), True),
}


def scalar_type(x: Any) -> tuple[np.dtype, bool]:
    """Return the dtype and the weak flag of a Python or NumPy scalar.

    Args:
        x: a bool, int, float, complex or NumPy scalar. A NumPy scalar keeps its dtype and is
            not weak. An int that needs more than 32 bits is int64, or uint64 beyond that.

    Returns:
        The dtype, and whether it is weak.

    Raises:
        OverflowError: an int fits in no integer dtype.
        TypeError: x is no scalar.

    Example:
        >>> scalar_type(1), scalar_type(True), scalar_type(np.float64(1))
        ((dtype('int32'), True), (dtype('bool'), False), (dtype('float64'), False))
    """
    rule = _SCALAR_TYPES.get(type(x))
    if rule is not None:
        return rule(x)
    if isinstance(x, np.generic):  # first: numpy.float64 is a Python float too
        return canonical(x.dtype), False
    for python_type in (int, float, complex):  # subclasses, such as enum.IntEnum
        if isinstance(x, python_type):
            return _SCALAR_TYPES[python_type](x)
    raise TypeError(f"expected a Python or NumPy scalar; got {x!r} of type {type(x).__name__}")
