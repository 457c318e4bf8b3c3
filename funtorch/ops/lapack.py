"""Recipes: what LAPACK and BLAS are called with, matrix by matrix, to run an operation.

A `Recipe` is data: stages of calls whose arguments are sizes, letters, places in the matrices of
the operands and results, and places in a workspace. Eager rules run it with `run`; compiled
programs contain the same calls as native code, so both give the same numbers. Matrices that have no
factorisation or no solution become nan, each for itself.

The library computes on its caller's thread alone. Parallel are the matrices of a batch, and the
*blocks* of a stage: pieces of one matrix's result that know nothing of each other.

References:
    E. Anderson et al., "LAPACK Users' Guide", third edition, 1999.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from funtorch import dtypes, openblas
from funtorch.core import ShapedArray

__all__ = [
    "LETTERS",
    "At",
    "Invoke",
    "Part",
    "Recipe",
    "Scalar",
    "Stage",
    "Work",
    "ask",
    "run",
    "takes",
]

LETTERS = {dtypes.float32: "s", dtypes.float64: "d", dtypes.complex64: "c", dtypes.complex128: "z"}
"""What the names of routines for a dtype begin with."""


# ------------------------------------------------------------------------------------------ recipes
@dataclass(frozen=True)
class At:
    """A place in the matrix at hand of an array: operands are numbered first, then results.

    Attributes:
        array: its number.
        offset: elements before the place.
        step: elements between one block's place and the next one's.
    """

    array: int
    offset: int = 0
    step: int = 0


@dataclass(frozen=True)
class Work:
    """A place in the workspace of the matrix at hand, in bytes, and from one block to the next."""

    offset: int
    step: int = 0


@dataclass(frozen=True)
class Part:
    """How many of ``total`` rows or columns a block has, if blocks have ``size`` each."""

    total: int
    size: int


@dataclass(frozen=True)
class Scalar:
    """A number of the matrices' dtype: real ones are passed by value, complex ones by address."""

    dtype: np.dtype
    value: float


Arg = At | Work | Part | Scalar | int | bytes | None


@dataclass(frozen=True)
class Invoke:
    """One call of a C function of the library.

    Attributes:
        function: its name.
        args: ints are C ints, bytes one character, None a null pointer.
        returns: whether it returns a C int.
        fails: whether another number than 0 means that the matrix has no result.
    """

    function: str
    args: tuple[Arg, ...]
    returns: bool = True
    fails: bool = True


@dataclass(frozen=True)
class Stage:
    """Calls in order, once for each block; a stage of several blocks has no calls that fail."""

    calls: tuple[Invoke, ...]
    blocks: int = 1


@dataclass(frozen=True)
class Recipe:
    """All calls for one matrix: stages in order.

    Attributes:
        stages: several only where there are few matrices.
        work: bytes of workspace.
        flops: floating-point operations for a matrix, about.
    """

    stages: tuple[Stage, ...]
    work: int
    flops: float


# ---------------------------------------------------------------------------------------- execution
_MOST_PLANS = 1024


def takes(xp: Any, a: Any) -> bool:
    """Tell whether matrices are for this module: of NumPy, and not empty."""
    return xp is np and a.dtype in LETTERS and a.size > 0


@functools.cache
def _function(name: str, returns: bool) -> Any:
    f = getattr(openblas.load(), name)
    f.restype = ctypes.c_int if returns else None
    return f


@functools.lru_cache(4096)
def ask(function: str, args: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the sizes of the workspaces that a routine wants.

    Args:
        function: its name.
        args: as of `Invoke`; a dtype where it is to write a size.
    """
    nothing = np.zeros(2)
    rooms = [np.zeros(2, a) if isinstance(a, np.dtype) else None for a in args]
    given: list[Any] = []
    for a, room in zip(args, rooms, strict=True):
        if a is None or room is not None:
            given.append(ctypes.c_void_p((nothing if room is None else room).ctypes.data))
        else:
            given.append(ctypes.c_char(a) if isinstance(a, bytes) else ctypes.c_int(a))
    _function(function, True)(*given)
    # Sizes come as floats, too, which may have rounded them down.
    sizes = [math.ceil(float(room[0].real) * (1 + 1e-6)) for room in rooms if room is not None]
    return tuple(max(n, 1) for n in sizes)


def run(
    recipe: Recipe, operands: Sequence[np.ndarray], results: Sequence[ShapedArray], batch: int
) -> tuple[np.ndarray, ...]:
    """Run a recipe on all matrices of a batch.

    Args:
        recipe: what to call.
        operands: arrays of ``batch`` matrices each.
        results: the types of the arrays to make.
        batch: how many matrices there are.

    Returns:
        the results.
    """
    outs = tuple(np.empty(a.shape, a.dtype) for a in results)
    arrays = [*(np.ascontiguousarray(x) for x in operands), *outs]
    work = np.empty(recipe.work + 64, np.uint8)
    room = work.ctypes.data
    room += -room % 64
    plan = _plan(recipe, [x.dtype.itemsize for x in arrays])
    places = [x.ctypes.data for x in arrays]
    steps = [x.nbytes // batch for x in arrays]
    for matrix in range(batch):
        if not plan.succeeds(places, room):
            for x in outs:
                x.reshape(batch, -1)[matrix] = np.nan if x.dtype.kind in "fc" else 0
        places = [place + step for place, step in zip(places, steps, strict=True)]
    return outs


class _Plan:
    """The calls of a recipe, ready but for addresses."""

    def __init__(self, recipe: Recipe, itemsizes: Sequence[int]) -> None:
        self.numbers: list[np.ndarray] = []  # in memory, as long as they are pointed to
        self.calls = [
            self._call(call, block, itemsizes)
            for stage in recipe.stages
            for block in range(stage.blocks)
            for call in stage.calls
        ]

    def _call(self, call: Invoke, block: int, itemsizes: Sequence[int]) -> _Ready:
        args: list[Any] = []
        arrays, rooms = [], []
        for k, a in enumerate(call.args):
            if isinstance(a, At):
                arrays.append((k, a.array, itemsizes[a.array] * (a.offset + block * a.step)))
            elif isinstance(a, Work):
                rooms.append((k, a.offset + block * a.step))
            args.append(self._value(a, block))
        function = _function(call.function, call.returns)
        function.argtypes = [_C_TYPES[type(a)] if a is not None else _POINTER for a in args]
        return function, args, arrays, rooms, call.fails

    def _value(self, a: Arg, block: int) -> Any:
        """Return an argument; a place is found later."""
        if isinstance(a, (At, Work)):
            return None
        if isinstance(a, Part):
            return min(a.size, a.total - block * a.size)
        if not isinstance(a, Scalar):
            return a
        if a.dtype.kind != "c":
            return (ctypes.c_float if a.dtype.itemsize == 4 else ctypes.c_double)(a.value)
        self.numbers.append(np.array(a.value, a.dtype))
        return ctypes.c_void_p(self.numbers[-1].ctypes.data)

    def succeeds(self, places: Sequence[int], room: int) -> bool:
        """Run all calls for matrices at these addresses, unless one fails."""
        for function, template, arrays, rooms, fails in self.calls:
            args = template.copy()
            for k, which, offset in arrays:
                args[k] = places[which] + offset
            for k, offset in rooms:
                args[k] = room + offset
            if function(*args) and fails:
                return False
        return True


_Ready = tuple[Any, list[Any], list[tuple[int, int, int]], list[tuple[int, int]], bool]
_POINTER = ctypes.c_void_p
_C_TYPES: dict[type, Any] = {
    int: ctypes.c_int,
    bytes: ctypes.c_char,
    ctypes.c_float: ctypes.c_float,
    ctypes.c_double: ctypes.c_double,
    ctypes.c_void_p: _POINTER,
}
_plans: dict[int, tuple[Recipe, _Plan]] = {}  # by the recipe's identity: hashing one takes longer


def _plan(recipe: Recipe, itemsizes: Sequence[int]) -> _Plan:
    found = _plans.get(id(recipe))
    if found is None:
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        found = _plans[id(recipe)] = recipe, _Plan(recipe, itemsizes)
    return found[1]
