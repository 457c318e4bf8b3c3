"""Sparse derivatives: `sparse_jacobian`, `sparse_hessian`, by few passes for many columns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch import dtypes
from funtorch import numpy as fnp
from funtorch.core import aval_of
from funtorch.jaxpr import Jaxpr, stage
from funtorch.ops.elementwise import convert, eq
from funtorch.ops.families import broadcast_in_dim, zeros
from funtorch.ops.shape import iota, reshape
from funtorch.tree import register_pytree_node

from .arguments import FlatFunction, as_arrays, check_callable, function_name, normalize_argnums
from .batching import vmap
from .forward import jvp_flat
from .jacobian import select_arguments
from .reverse import grad
from .simplify import simplify
from .sparsity import color, pattern_of

__all__ = ["COO", "sparse_hessian", "sparse_jacobian"]


class COO:
    """A sparse matrix: ``values`` at places (``rows``, ``cols``), which are sorted by rows.

    It is a pytree, so it may come out of compiled functions.

    Example:
        >>> import funtorch as ft
        >>> J = ft.sparse_jacobian(lambda x: x[1:] * x[:-1])(ft.numpy.array([1.0, 2.0, 3.0]))
        >>> J
        COO(2x3, 4 values, float32)
        >>> J.todense()
        Array([[2., 1., 0.],
               [0., 3., 2.]], dtype=float32)
    """

    __slots__ = ("cols", "rows", "shape", "values")

    def __init__(self, rows: Any, cols: Any, values: Any, shape: tuple[int, int]) -> None:
        self.rows, self.cols, self.values, self.shape = rows, cols, values, shape

    @property
    def nnz(self) -> int:
        """How many values are stored."""
        return self.values.shape[0]

    @property
    def dtype(self) -> Any:
        """The dtype of the values."""
        return self.values.dtype

    def todense(self) -> Any:
        """Return the matrix as an array."""
        return fnp.zeros(self.shape, self.dtype).at[self.rows, self.cols].set(self.values)

    def __matmul__(self, other: Any) -> Any:
        """Multiply by a vector or a matrix."""
        other = fnp.asarray(other)
        if other.ndim not in (1, 2) or other.shape[0] != self.shape[1]:
            raise ValueError(
                f"a sparse matrix of shape {self.shape} multiplies arrays of shape "
                f"({self.shape[1]},) or ({self.shape[1]}, n), got {other.shape}"
            )
        values = self.values if other.ndim == 1 else self.values[:, None]
        terms = values * other[self.cols]
        out = fnp.zeros((self.shape[0], *other.shape[1:]), terms.dtype)
        return out.at[self.rows].add(terms)

    def __repr__(self) -> str:
        return f"COO({self.shape[0]}x{self.shape[1]}, {self.nnz} values, {self.dtype.name})"


register_pytree_node(
    COO,
    lambda x: ((x.rows, x.cols, x.values), x.shape),
    lambda shape, parts: COO(parts[0], parts[1], parts[2], shape),
)


def sparse_jacobian(
    fun: Callable[..., Any], argnums: int | Sequence[int] = 0
) -> Callable[..., COO]:
    """Make a function that computes a sparse Jacobian by few passes of forward mode.

    The program of the derivative says which outputs may depend on which inputs. Inputs that no
    output has in common share one pass: a tridiagonal Jacobian of any size takes three. What is
    not known, such as the body of a loop, counts as depending on all that goes in.

    Args:
        fun: a function of float arrays or pytrees of them; without Python branches on values.
        argnums: which positional arguments to differentiate.

    Returns:
        A function that returns a `COO` matrix with a row per element of the output, a column per
        element of the arguments, pytrees and arrays laid out flat. Under `jit` the pattern is found
        once, when it compiles.

    Raises:
        TypeError: if an argument or output is not of a real float dtype.

    Example:
        >>> import funtorch as ft
        >>> J = ft.sparse_jacobian(lambda x: x**2)(ft.numpy.array([1.0, 2.0, 3.0]))
        >>> J.cols
        Array([0, 1, 2], dtype=int32)
        >>> J.values
        Array([2., 4., 6.], dtype=float32)

    References:
        Curtis, Powell and Reid, On the estimation of sparse Jacobian matrices (1974).
    """
    check_callable(fun, "sparse_jacobian")
    return _derivative(fun, argnums, "sparse_jacobian", lambda partial: partial)


def sparse_hessian(fun: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., COO]:
    """Make a function that computes a sparse Hessian, by few products with directions.

    Args:
        fun: a function with a scalar result, otherwise as for `sparse_jacobian`.
        argnums: which positional arguments to differentiate.

    Returns:
        A function that returns a `COO` matrix with a row and a column per element of the arguments.

    Example:
        >>> import funtorch as ft
        >>> H = ft.sparse_hessian(lambda x: (x[1:] * x[:-1] ** 2).sum())
        >>> H(ft.numpy.array([1.0, 2.0, 3.0])).todense()
        Array([[4., 2., 0.],
               [2., 6., 4.],
               [0., 4., 0.]], dtype=float32)
    """
    check_callable(fun, "sparse_hessian")
    return _derivative(
        fun,
        argnums,
        "sparse_hessian",
        lambda partial: lambda *chosen: grad(partial, tuple(range(len(chosen))))(*chosen),
    )


def _derivative(
    fun: Callable[..., Any],
    argnums: int | Sequence[int],
    what: str,
    prepared: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> Callable[..., COO]:
    @functools.wraps(fun)
    def sparse(*args: Any, **kwargs: Any) -> COO:
        nums = normalize_argnums(argnums, len(args), what, fun)
        leaves, treedef = tree.flatten(tuple(args[n] for n in nums))
        arrays = as_arrays(leaves, "argument", fun)
        _check_real(what, fun, "argument", arrays)
        flat = FlatFunction(
            prepared(select_arguments(fun, args, kwargs, nums)), treedef, False, what
        )
        jaxpr = _tangents(flat, arrays)
        _check_real(what, fun, "output", jaxpr.outvars)
        return _filled(flat, arrays, jaxpr)

    return sparse


def _check_real(what: str, fun: Any, which: str, values: Sequence[Any]) -> None:
    for k, x in enumerate(values):
        aval = x.aval if hasattr(x, "aval") else aval_of(x.val)
        if not dtypes.is_float(aval.dtype):
            raise TypeError(
                f"{what} needs real float arrays, but {which} {k} of {function_name(fun)} has "
                f"dtype {aval.dtype.name}: convert it with astype(float) or choose other argnums"
            )


def _push(flat: FlatFunction, arrays: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    outs, touts = jvp_flat(flat, arrays, tangents, flat.fun)
    return [
        zeros(aval_of(o).tangent()) if t is None else t for o, t in zip(outs, touts, strict=True)
    ]


def _tangents(flat: FlatFunction, arrays: Sequence[Any]) -> Jaxpr:
    """Return the program from (arguments, tangents) to the tangents of the outputs."""
    count = len(arrays)
    avals = [a.aval for a in arrays]
    return simplify(
        stage(
            lambda *both: _push(flat, both[:count], both[count:]),
            [*avals, *[a.tangent() for a in avals]],
        )
    )


def _filled(flat: FlatFunction, arrays: Sequence[Any], jaxpr: Jaxpr) -> COO:
    sizes = [a.size for a in arrays]
    columns, seeds, at = sum(sizes), [], 0
    for n in sizes:
        seeds.append(np.arange(n) * max(columns, 1) + np.arange(at, at + n))
        at += n
    found = pattern_of(jaxpr, [*[None] * len(arrays), *seeds], columns)
    codes, total = [], 0
    for v, p in zip(jaxpr.out_avals, found, strict=True):
        codes.append(p + total * max(columns, 1))
        total += v.size
    places = np.concatenate([np.zeros(0, np.int64), *codes])
    rows, cols = np.divmod(places, max(columns, 1))
    dtype = fnp.result_type(*jaxpr.out_avals) if jaxpr.outvars else np.dtype("float32")
    index = np.int32 if max(total, columns) < 2**31 else np.int64
    kept = fnp.asarray(rows.astype(index)), fnp.asarray(cols.astype(index))
    if not places.size:
        return COO(*kept, fnp.zeros(0, dtype), (total, columns))
    colors = color(rows, cols, columns)

    def push(*tangents: Any) -> Any:
        touts = _push(flat, arrays, tangents)
        return fnp.concatenate([reshape(t, shape=(t.size,)) for t in touts])

    packed = vmap(push)(*_directions(colors, arrays))
    values = packed[fnp.asarray(colors[cols].astype(index)), kept[0]]
    return COO(*kept, values.astype(dtype), (total, columns))


def _directions(colors: np.ndarray, arrays: Sequence[Any]) -> list[Any]:
    """Return, per array, a stack of directions: ones at the elements of a number, one each."""
    count, out, at = int(colors.max()) + 1, [], 0
    for x in arrays:
        shape = (count, x.size)
        mine = fnp.asarray(colors[at : at + x.size].astype(np.int32))
        at += x.size
        hot = eq(
            broadcast_in_dim(mine, shape=shape, dims=(1,)),
            iota(shape=shape, axis=0, dtype=np.dtype("int32")),
        )
        hot = convert(hot, dtype=x.dtype, weak_type=False)
        out.append(reshape(hot, shape=(count, *x.shape)))
    return out
