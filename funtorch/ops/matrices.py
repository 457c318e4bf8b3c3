"""What the primitives of linear algebra are made of: types, eager rules, batches, matrix algebra.

A primitive on matrices (..., m, n) has a recipe (`funtorch.ops.recipes`). Its eager rule runs that,
or NumPy's own function where the matrices are so small that calls cost more than work.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.config import config
from funtorch.core import Primitive, ShapedArray
from funtorch.jaxpr import Jaxpr, Lit, stage
from funtorch.ops.contract import dot_general
from funtorch.ops.elementwise import abs, conj, convert, div, eq, ge, gt, le, mul, real, select
from funtorch.ops.families import (
    NO_TRANSPOSE,
    broadcast_in_dim,
    full_like,
    ones_like,
    spread,
    zeros_like,
)
from funtorch.ops.lapack import run, takes
from funtorch.ops.recipes import batch_of, recipe_of
from funtorch.ops.reduce import reduce_sum
from funtorch.ops.shape import concatenate, iota, reshape, slice, transpose

__all__ = [
    "MACROS",
    "HALF",
    "adjoint",
    "as_dtype",
    "blocks",
    "check_matrices",
    "columns",
    "diagonal",
    "diagonal_part",
    "eager_rule",
    "identity_like",
    "macro",
    "mm",
    "part",
    "positions",
    "primitive",
    "real_part",
    "reciprocal_or_zero",
    "scale",
    "triangle",
    "turned",
]

HALF = (dtypes.float16, dtypes.bfloat16)
_FEWEST_ROWS = 24
"""Below, a call for each matrix costs more than NumPy's loop over them."""

MACROS: dict[str, Callable[..., Any]] = {}
"""Primitives that are programs of others, with derivatives of their own: their programs."""


# -------------------------------------------------------------------------------------------- types
def check_matrices(name: str, x: ShapedArray, square: bool = True) -> None:
    """Raise where an operand of a primitive is not one of float or complex matrices."""
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        what = "square matrices" if square else "matrices"
        raise TypeError(f"{name} takes an array of {what} (..., n, n or m), got {x.str_short()}")
    if not dtypes.is_inexact(x.dtype):
        raise TypeError(f"{name} takes floats or complex numbers, got {x.str_short()}: convert it")


# -------------------------------------------------------------------------------------------- eager
def eager_rule(
    prim: Primitive, small: Callable[..., tuple[Any, ...]] | None, unique: bool
) -> Callable[..., Any]:
    """Return the eager rule of a primitive with a recipe.

    Args:
        small: the same with NumPy's (or CuPy's) functions, raising LinAlgError where it fails; None
            where there is no such function: then other array libraries' arrays go by NumPy.
        unique: whether results have no free signs: then NumPy does small matrices.
    """

    def eager(xp: Any, *args: Any, **params: Any) -> Any:
        dtype = args[0].dtype
        if dtype in HALF:
            args = tuple(x.astype(dtypes.float32) if x.dtype == dtype else x for x in args)
        outs = _computed(prim, small, unique, xp, args, params)
        if dtype in HALF:
            outs = tuple(x.astype(dtype) if x.dtype == np.float32 else x for x in outs)
        return outs if prim.multiple_results else outs[0]

    return eager


def _is_small(x: Any) -> bool:
    return x.shape[-1] < _FEWEST_ROWS


def _computed(
    prim: Primitive,
    small: Callable[..., tuple[Any, ...]] | None,
    unique: bool,
    xp: Any,
    args: tuple[Any, ...],
    params: dict[str, Any],
) -> tuple[Any, ...]:
    if small is not None and (not takes(xp, args[0]) or (unique and _is_small(args[0]))):
        try:
            return small(xp, *args, **params)
        except np.linalg.LinAlgError:
            return _one_by_one(xp, small, args, params)
    if xp is not np:
        outs = _computed(prim, small, unique, np, tuple(x.get() for x in args), params)
        return tuple(map(xp.asarray, outs))
    avals = [ShapedArray(x.shape, x.dtype) for x in args]
    types = prim.type(*avals, **params)
    types = list(types) if prim.multiple_results else [types]
    recipe = recipe_of(prim.name, avals, params)
    if recipe is None:
        return tuple(map(_of_nothing, types))
    return run(recipe, args, types, batch_of(prim.name, avals))


def _of_nothing(aval: ShapedArray) -> np.ndarray:
    """Return what factors of empty matrices are: the identity, where they are not empty, too."""
    out = np.zeros(aval.shape, aval.dtype)
    if aval.ndim > 1 and aval.size:
        out[...] = np.eye(*aval.shape[-2:], dtype=aval.dtype)
    return out


def _one_by_one(
    xp: Any, f: Callable[..., tuple[Any, ...]], args: Sequence[Any], params: dict[str, Any]
) -> tuple[Any, ...]:
    lead = args[0].shape[:-2]
    flat = [x.reshape(-1, *x.shape[-2:]) for x in args]
    results = []
    for matrices in zip(*flat, strict=True):
        try:
            results.append(f(xp, *matrices, **params))
        except np.linalg.LinAlgError:
            stand_in = f(
                xp, xp.eye(*matrices[0].shape, dtype=matrices[0].dtype), *matrices[1:], **params
            )
            results.append(tuple(xp.full_like(x, np.nan) for x in stand_in))
    return tuple(xp.stack(xs).reshape(*lead, *xs[0].shape) for xs in zip(*results, strict=True))


# -------------------------------------------------------------------------------------------- batch
def _spread_batch(prim: Primitive) -> Callable[..., Any]:
    def batch(
        axis: Any, args: Sequence[Any], batched: Sequence[bool], **params: Any
    ) -> tuple[Any, Any]:
        args = [x if b else spread(x, axis.size) for x, b in zip(args, batched, strict=True)]
        out = prim.bind(*args, **params)
        return out, [True] * len(out) if prim.multiple_results else True

    return batch


def _columns_batch(prim: Primitive) -> Callable[..., Any]:
    """Systems that share their matrix are one system with more columns: factorised once."""
    spread_all = _spread_batch(prim)

    def batch(
        axis: Any, args: Sequence[Any], batched: Sequence[bool], **params: Any
    ) -> tuple[Any, Any]:
        *system, b = args
        if any(batched[:-1]):
            return spread_all(axis, args, batched, **params)
        k = len(b.shape) - 1
        moved = transpose(b, perm=(*range(1, k), 0, k))
        wide = reshape(moved, shape=(*moved.shape[:-2], axis.size * moved.shape[-1]))
        out = reshape(prim.bind(*system, wide, **params), shape=moved.shape)
        return transpose(out, perm=(k - 1, *range(k - 1), k)), True

    return batch


# ----------------------------------------------------------------------------------- the primitives
def primitive(
    name: str,
    type: Callable[..., Any],
    jvp: Callable[..., Any] | str,
    *,
    small: Callable[..., Any] | None = None,
    unique: bool = False,
    transpose: Callable[..., Any] | None = None,
    multiple_results: bool = True,
    shares_matrix: bool = False,
) -> Primitive:
    """Make a primitive with a recipe.

    Args:
        name: of the primitive and its recipe.
        type: its type rule.
        jvp: its derivative, or why it has none.
        small, unique: see `eager_rule`.
        transpose: of what is linear in its last operand.
        multiple_results: whether it has several.
        shares_matrix: whether it solves a system for the columns of its last operand.
    """
    prim = Primitive(name, multiple_results=multiple_results)
    prim.type = type
    prim.eager = eager_rule(prim, small, unique)
    prim.batch = (_columns_batch if shares_matrix else _spread_batch)(prim)
    if isinstance(jvp, str):
        prim.none["jvp"] = jvp
    else:
        prim.jvp = jvp
    if transpose is None:
        prim.none["transpose"] = NO_TRANSPOSE
    else:
        prim.transpose = transpose
    return prim


def macro(
    name: str,
    check: Callable[..., None],
    program: Callable[..., Any],
    jvp: Callable[..., Any] | str,
    *,
    small: Callable[..., Any] | None = None,
) -> Primitive:
    """Make a primitive that is a program of others, but has a derivative of its own.

    Args:
        name: of the primitive.
        check: raises if the types of its operands or its parameters are wrong.
        program: the program, which returns a tuple or a list of results.
        jvp: its derivative, or why it has none.
        small: see `eager_rule`; results have no free signs.
    """
    prim = Primitive(name, multiple_results=True)

    @functools.lru_cache(256)
    def staged(avals: tuple[ShapedArray, ...], params: tuple[tuple[str, Any], ...]) -> Jaxpr:
        return stage(lambda *xs: list(program(*xs, **dict(params))), list(avals))

    def type_rule(*avals: ShapedArray, **params: Any) -> list[ShapedArray]:
        check(*avals, **params)
        plain = tuple(ShapedArray(a.shape, a.dtype) for a in avals)
        found = staged(plain, tuple(sorted(params.items())))
        return [v.aval for v in found.outvars]

    def eager(xp: Any, *args: Any, **params: Any) -> tuple[Any, ...]:
        x = args[0]
        if small is not None and x.dtype not in HALF and (not takes(xp, x) or _is_small(x)):
            return small(xp, *args, **params)
        avals = tuple(ShapedArray(x.shape, x.dtype) for x in args)
        return _evaluated(xp, staged(avals, tuple(sorted(params.items()))), args)

    prim.type, prim.eager, prim.batch = type_rule, eager, _spread_batch(prim)
    if isinstance(jvp, str):
        prim.none["jvp"] = jvp
    else:
        prim.jvp = jvp
    prim.none["transpose"] = NO_TRANSPOSE
    MACROS[name] = program
    return prim


def _evaluated(xp: Any, jaxpr: Jaxpr, args: Sequence[Any]) -> tuple[Any, ...]:
    """Run a program by eager rules."""
    values: dict[Any, Any] = dict(zip(jaxpr.invars, args, strict=True))
    values.update(zip(jaxpr.constvars, (xp.asarray(c._data) for c in jaxpr.consts), strict=True))

    def value(v: Any) -> Any:
        return xp.asarray(v.val._data) if isinstance(v, Lit) else values[v]

    for eqn in jaxpr.eqns:
        outs = eqn.prim.eager(xp, *map(value, eqn.invars), **eqn.params)
        values.update(zip(eqn.outvars, outs if eqn.prim.multiple_results else (outs,), strict=True))
    return tuple(map(value, jaxpr.outvars))


# ----------------------------------------------------------------------------------- matrix algebra
def turned(x: Any) -> Any:
    n = len(x.shape)
    return transpose(x, perm=(*range(n - 2), n - 1, n - 2))


def adjoint(x: Any) -> Any:
    return conj(turned(x)) if dtypes.is_complex(x.dtype) else turned(x)


def mm(x: Any, y: Any) -> Any:
    n = len(x.shape)
    lead = tuple(range(n - 2))
    return dot_general(
        x, y, dimension_numbers=(((n - 1,), (n - 2,)), (lead, lead)), out_dtype=x.dtype
    )


def scale(x: Any, factor: float) -> Any:
    return mul(x, full_like(x, factor))


def positions(x: Any) -> tuple[Any, Any]:
    """Return the row and the column number of every element of the matrices x."""
    n = len(x.shape)
    row, column = (iota(shape=x.shape[-2:], axis=k, dtype=dtypes.int32) for k in (0, 1))
    return tuple(broadcast_in_dim(i, shape=x.shape, dims=(n - 2, n - 1)) for i in (row, column))


def triangle(x: Any, lower: bool, strict: bool = False) -> Any:
    row, column = positions(x)
    first, second = (row, column) if lower else (column, row)
    return select((gt if strict else ge)(first, second), x, zeros_like(x))


def diagonal_part(x: Any) -> Any:
    return select(eq(*positions(x)), x, zeros_like(x))


def diagonal(x: Any) -> Any:
    return reduce_sum(diagonal_part(x), axes=(len(x.shape) - 1,))


def columns(v: Any, like: Any, dims_end: int = 1) -> Any:
    """Return vectors (..., k) as matrices: element j fills column j (dims_end 1) or row j (2)."""
    n = len(like.shape)
    out = broadcast_in_dim(v, shape=like.shape, dims=(*range(n - 2), n - dims_end))
    return as_dtype(out, like.dtype)


def as_dtype(x: Any, dtype: Any) -> Any:
    return x if x.dtype == dtype else convert(x, dtype=dtype, weak_type=False)


def real_part(x: Any) -> Any:
    return real(x) if dtypes.is_complex(x.dtype) else x


def identity_like(x: Any) -> Any:
    """Return identity matrices of the shape and dtype of x."""
    return diagonal_part(ones_like(x))


def part(x: Any, rows: tuple[int, int], columns: tuple[int, int]) -> Any:
    """Return the rows and columns of matrices from a first one to before a last one."""
    n = len(x.shape)
    start = (*(0,) * (n - 2), rows[0], columns[0])
    limit = (*x.shape[:-2], rows[1], columns[1])
    return slice(x, start=start, limit=limit, stride=(1,) * n)


def blocks(rows: Sequence[Sequence[Any]]) -> Any:
    """Return the matrices that are made of these blocks."""
    n = len(rows[0][0].shape)
    wide = [concatenate(*row, axis=n - 1) for row in rows]
    return concatenate(*wide, axis=n - 2)


def reciprocal_or_zero(x: Any, size: Any, count: int) -> Any:
    """Return 1 / x, or zero where x is no more than the rounding errors of ``count`` terms.

    There, at equal or zero values, vectors are not unique and have no derivative; zero is right for
    all functions that depend on the space of such vectors only.

    Args:
        x: differences of eigenvalues, or the like.
        size: of the largest of the values, of the shape of x.
        count: how many values there are.
    """
    if config.strict_gradients:
        return div(ones_like(x), x)
    limit = scale(size, count * float(dtypes.finfo(x.dtype).eps))
    same = le(abs(x), limit)
    inverse = div(ones_like(x), select(same, ones_like(x), x))
    return select(same, zeros_like(x), inverse)
