"""Jacobians and Hessians: `jacfwd`, `jacrev`, `hessian`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch import dtypes
from funtorch.numpy.promotion import asarray
from funtorch.ops.elementwise import add, convert, eq
from funtorch.ops.families import full_like, ones_like
from funtorch.ops.shape import iota, reshape
from funtorch.ops.shape import slice as slice_
from funtorch.tracebacks import boundary

from .arguments import as_arrays, check_callable, function_name, normalize_argnums
from .batching import move_axis, vmap
from .forward import is_differentiable, jvp
from .reverse import vjp

__all__ = ["hessian", "jacfwd", "jacobian", "jacrev"]


_INT32, _INT64 = np.dtype("int32"), np.dtype("int64")


def _basis(like: Sequence[Any]) -> list[Any]:
    """Return, per array, a stack of one-hot directions: together the standard basis of all of
    them."""
    total = sum(x.size for x in like)
    dtype = _INT32 if total < 2**31 else _INT64
    out, at = [], 0
    for x in like:
        shape = (total, x.size)
        row, column = (iota(shape=shape, axis=k, dtype=dtype) for k in (0, 1))
        hot = eq(row, add(column, full_like(column, at)) if at else column)
        at += x.size
        hot = convert(hot, dtype=x.dtype, weak_type=False)
        out.append(hot if x.ndim == 1 else reshape(hot, shape=(total, *x.shape)))
    return out


def _for_each(f: Callable[..., Any], like: Sequence[Any]) -> Any:
    """Apply ``f`` to every direction of the standard basis; stack the results."""
    if len(like) == 1 and like[0].size == 1:  # a batch of one is but a burden
        out = f(ones_like(like[0]))
        return tree.map(lambda x: reshape(x, shape=(1, *x.shape)), out)
    return vmap(f)(*_basis(like))


def _split_leading(x: Any, like: Sequence[Any]) -> list[Any]:
    """Cut the leading axis into pieces, one per array, shaped like it."""
    out, at = [], 0
    for y in like:
        rest = x.shape[1:]
        piece = slice_(
            x, start=(at, *(0,) * len(rest)), limit=(at + y.size, *rest), stride=(1,) * x.ndim
        )
        out.append(reshape(piece, shape=(*y.shape, *rest)))
        at += y.size
    return out


def _select(
    fun: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], nums: Sequence[int]
) -> Any:
    def partial(*chosen: Any) -> Any:
        full = list(args)
        for n, x in zip(nums, chosen, strict=True):
            full[n] = x
        return fun(*full, **kwargs)

    partial.__wrapped__ = fun  # type: ignore[attr-defined]
    return partial


def _check(
    what: str, fun: Any, leaves: Sequence[Any], holomorphic: bool, allow_int: bool = False
) -> None:
    for k, x in enumerate(leaves):
        if holomorphic and not dtypes.is_complex(x.dtype):
            raise TypeError(
                f"{what} with holomorphic=True needs complex inputs, but leaf {k} of "
                f"{function_name(fun)} has "
                f"dtype {x.dtype.name}"
            )
        if not is_differentiable(x.dtype) and not allow_int:
            raise TypeError(
                f"{what} needs inputs of a float dtype, but leaf {k} of the arguments of "
                f"{function_name(fun)} has "
                f"dtype {x.dtype.name}: convert it with astype(float) or choose other argnums"
            )
        if what == "jacfwd" and not holomorphic and dtypes.is_complex(x.dtype):
            raise TypeError(
                f"jacfwd needs real inputs, but leaf {k} of {function_name(fun)} has dtype "
                f"{x.dtype.name}: set "
                "holomorphic=True for a holomorphic function"
            )


def jacfwd(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """Make a function that computes the Jacobian by forward mode: one pass per input element, all
    at once.

    Args:
        fun: a function of arrays or pytrees of arrays.
        argnums: which positional arguments to differentiate.
        has_aux: whether ``fun`` returns ``(output, auxiliary data)``.
        holomorphic: whether ``fun`` is holomorphic (complex in, complex out).

    Returns:
        A function whose result has, for each output leaf and input leaf, an array of shape output +
        input.

    Example:
        >>> import funtorch as ft
        >>> ft.jacfwd(lambda x: x**2)(ft.numpy.array([1.0, 2.0]))
        Array([[2., 0.],
               [0., 4.]], dtype=float32)
    """
    check_callable(fun, "jacfwd")

    @boundary
    @functools.wraps(fun)
    def jacobian_f(*args: Any, **kwargs: Any) -> Any:
        nums = normalize_argnums(argnums, len(args), "jacfwd", fun)
        leaves, treedef = tree.flatten(tuple(args[n] for n in nums))
        arrays = as_arrays(leaves, "argument", fun)
        _check("jacfwd", fun, arrays, holomorphic)
        partial = _select(fun, args, kwargs, nums)

        def push(*tangents: Any) -> Any:
            primals = tree.unflatten(treedef, arrays)
            return jvp(partial, primals, tree.unflatten(treedef, tangents), has_aux=has_aux)[1:]

        axes = (-1, None) if has_aux else (-1,)
        pushed = vmap(push, out_axes=axes)(*_basis(arrays))

        def cut(out: Any) -> Any:
            pieces = _split_leading(move_axis(out, out.ndim - 1, 0), arrays)
            pieces = [_input_axes_last(p, a.ndim) for p, a in zip(pieces, arrays, strict=True)]
            found = tree.unflatten(treedef, pieces)
            return found[0] if isinstance(argnums, int) else found

        jac = tree.map(cut, pushed[0])
        return (jac, pushed[1]) if has_aux else jac

    return jacobian_f


def _input_axes_last(x: Any, ndim: int) -> Any:
    for _ in range(ndim):
        x = move_axis(x, 0, x.ndim - 1)
    return x


def jacrev(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """Make a function that computes the Jacobian by reverse mode: one pass per output element, all
    at once.

    Arguments and result as in `jacfwd`.

    Example:
        >>> import funtorch as ft
        >>> ft.jacrev(lambda x: x**2)(ft.numpy.array([1.0, 2.0]))
        Array([[2., 0.],
               [0., 4.]], dtype=float32)
    """
    check_callable(fun, "jacrev")

    @boundary
    @functools.wraps(fun)
    def jacobian_f(*args: Any, **kwargs: Any) -> Any:
        nums = normalize_argnums(argnums, len(args), "jacrev", fun)
        chosen = tuple(args[n] for n in nums)
        _check(
            "jacrev", fun, as_arrays(tree.leaves(chosen), "argument", fun), holomorphic, allow_int
        )
        out = vjp(_select(fun, args, kwargs, nums), *chosen, has_aux=has_aux)
        y_leaves, y_tree = tree.flatten(out[0])
        for k, y in enumerate(y_leaves):
            if not (dtypes.is_complex(y.dtype) if holomorphic else dtypes.is_float(y.dtype)):
                raise TypeError(
                    f"jacrev needs {'complex' if holomorphic else 'real float'} outputs, but "
                    f"output {k} of "
                    f"{function_name(fun)} has dtype {y.dtype.name}"
                )
        pulled = _for_each(
            lambda *cts: out[1](tree.unflatten(y_tree, cts)), [asarray(y) for y in y_leaves]
        )
        grads, in_tree = tree.flatten(pulled)
        columns = [_split_leading(g, y_leaves) for g in grads]
        per_output = [
            tree.unflatten(in_tree, [c[k] for c in columns]) for k in range(len(y_leaves))
        ]
        jac = tree.unflatten(y_tree, [p[0] if isinstance(argnums, int) else p for p in per_output])
        return (jac, out[2]) if has_aux else jac

    return jacobian_f


jacobian = jacrev


def hessian(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """Make a function that computes the Hessian, by forward over reverse mode; arguments as in
    `jacfwd`.

    Example:
        >>> import funtorch as ft
        >>> ft.hessian(lambda x: (x**3).sum())(ft.numpy.array([1.0, 2.0]))
        Array([[ 6.,  0.],
               [ 0., 12.]], dtype=float32)
    """
    return jacfwd(
        jacrev(fun, argnums, has_aux=has_aux, holomorphic=holomorphic),
        argnums,
        has_aux=has_aux,
        holomorphic=holomorphic,
    )
