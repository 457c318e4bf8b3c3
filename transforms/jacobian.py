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
from funtorch.ops.families import broadcast_in_dim, full_like, ones_like, scalar
from funtorch.ops.shape import concatenate, iota, reshape
from funtorch.ops.shape import slice as slice_
from funtorch.origins import call_named
from funtorch.tracebacks import boundary

from .arguments import as_arrays, check_callable, function_name, normalize_argnums
from .batching import move_axis, vmap
from .forward import is_differentiable, jvp
from .reverse import grad, vjp, without_gradient
from .scan import map as map_

__all__ = ["hessian", "hvp", "jacfwd", "jacobian", "jacrev"]


_INT32, _INT64 = np.dtype("int32"), np.dtype("int64")


def _index_dtype(like: Sequence[Any]) -> np.dtype:
    return _INT32 if sum(x.size for x in like) < 2**31 else _INT64


def _basis(like: Sequence[Any], start: Any = None, count: int | None = None) -> list[Any]:
    """Return, per array, a stack of one-hot directions: together the standard basis of all of
    them, or the ``count`` directions of it from ``start``, a rank-0 array, on."""
    count = sum(x.size for x in like) if count is None else count
    dtype = _index_dtype(like)
    out, at = [], 0
    for x in like:
        shape = (count, x.size)
        row, column = (iota(shape=shape, axis=k, dtype=dtype) for k in (0, 1))
        if start is not None:
            row = add(row, broadcast_in_dim(start, shape=shape, dims=()))
        hot = eq(row, add(column, full_like(column, at)) if at else column)
        at += x.size
        hot = convert(hot, dtype=x.dtype, weak_type=False)
        out.append(hot if x.ndim == 1 else reshape(hot, shape=(count, *x.shape)))
    return out


def _check_chunk_size(what: str, chunk_size: int | None) -> None:
    if chunk_size is None:
        return
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, (int, np.integer)):
        raise TypeError(
            f"{what}: chunk_size must be an integer or None, got {type(chunk_size).__name__}"
        )
    if chunk_size < 1:
        raise ValueError(f"{what}: chunk_size must be at least 1, or None, got {chunk_size}")


def _in_chunks(f: Callable[..., Any], like: Sequence[Any], size: int) -> tuple[Any, Any]:
    """Apply ``f``, which gives (results, aux), to the standard basis, ``size`` directions at a
    time in a loop.

    Returns:
        The stacked results, and the aux of the first chunk, which is that of all.
    """
    total = sum(x.size for x in like)
    first = total % size or min(size, total)
    dtype = _index_dtype(like)
    run = vmap(f, out_axes=(0, None))
    out, aux = run(*_basis(like, scalar(0, dtype), first))
    if first == total:
        return out, aux
    starts = asarray(np.arange(first, total, size, dtype=dtype))
    rest = map_(lambda start: run(*_basis(like, start, size))[0], starts)

    def join(head: Any, tail: Any) -> Any:
        return concatenate(head, reshape(tail, shape=(total - first, *head.shape[1:])), axis=0)

    return tree.map(join, out, rest), aux


def _for_each(f: Callable[..., Any], like: Sequence[Any], chunk_size: int | None = None) -> Any:
    """Apply ``f`` to every direction of the standard basis; stack the results."""
    if chunk_size is not None and chunk_size < sum(x.size for x in like):
        return _in_chunks(lambda *ts: (f(*ts), None), like, chunk_size)[0]
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


def select_arguments(
    fun: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], nums: Sequence[int]
) -> Any:
    def partial(*chosen: Any) -> Any:
        full = list(args)
        for n, x in zip(nums, chosen, strict=True):
            full[n] = x
        return call_named(fun, full, kwargs)

    partial.__wrapped__ = fun  # type: ignore[attr-defined]
    return partial


def _check(
    what: str, fun: Any, chosen: Any, leaves: Sequence[Any], holomorphic: bool,
    allow_int: bool = False,
) -> None:  # fmt: skip
    for k, x in enumerate(leaves):
        if holomorphic and not dtypes.is_complex(x.dtype):
            raise TypeError(
                f"{what} with holomorphic=True needs complex inputs, but leaf {k} of "
                f"{function_name(fun)} has "
                f"dtype {x.dtype.name}"
            )
        if not is_differentiable(x.dtype) and not allow_int:
            owner = without_gradient(chosen)
            if owner is not None:
                raise TypeError(
                    f"{what} needs inputs of a float dtype, but leaf {k} of the arguments of "
                    f"{function_name(fun)} has dtype {x.dtype.name}: {owner.no_gradient}"
                )
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
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Make a function that computes the Jacobian by forward mode: one pass per input element, all
    at once.

    Args:
        fun: a function of arrays or pytrees of arrays.
        argnums: which positional arguments to differentiate.
        has_aux: whether ``fun`` returns ``(output, auxiliary data)``.
        holomorphic: whether ``fun`` is holomorphic (complex in, complex out).
        chunk_size: how many passes to do at once, None for all: their intermediate values are what
            takes memory.

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
    _check_chunk_size("jacfwd", chunk_size)

    @boundary
    @functools.wraps(fun)
    def jacobian_f(*args: Any, **kwargs: Any) -> Any:
        nums = normalize_argnums(argnums, len(args), "jacfwd", fun)
        chosen = tuple(args[n] for n in nums)
        leaves, treedef = tree.flatten(chosen)
        arrays = as_arrays(leaves, "argument", fun)
        _check("jacfwd", fun, chosen, arrays, holomorphic)
        partial = select_arguments(fun, args, kwargs, nums)

        def push(*tangents: Any) -> Any:
            primals = tree.unflatten(treedef, arrays)
            return jvp(partial, primals, tree.unflatten(treedef, tangents), has_aux=has_aux)[1:]

        if chunk_size is not None and chunk_size < sum(a.size for a in arrays):
            both = push if has_aux else lambda *tangents: (*push(*tangents), None)
            pushed = _in_chunks(both, arrays, chunk_size)
        else:
            pushed = vmap(push, out_axes=(0, None) if has_aux else (0,))(*_basis(arrays))

        def cut(out: Any) -> Any:
            pieces = _split_leading(out, arrays)
            pieces = [_input_axes_last(p, a.ndim) for p, a in zip(pieces, arrays, strict=True)]
            found = tree.unflatten(treedef, pieces)
            return found[0] if isinstance(argnums, (int, np.integer)) else found

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
    *,
    chunk_size: int | None = None,
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
    _check_chunk_size("jacrev", chunk_size)

    @boundary
    @functools.wraps(fun)
    def jacobian_f(*args: Any, **kwargs: Any) -> Any:
        nums = normalize_argnums(argnums, len(args), "jacrev", fun)
        chosen = tuple(args[n] for n in nums)
        arrays = as_arrays(tree.leaves(chosen), "argument", fun)
        _check("jacrev", fun, chosen, arrays, holomorphic, allow_int)
        out = vjp(select_arguments(fun, args, kwargs, nums), *chosen, has_aux=has_aux)
        y_leaves, y_tree = tree.flatten(out[0])
        for k, y in enumerate(y_leaves):
            if not (dtypes.is_complex(y.dtype) if holomorphic else dtypes.is_float(y.dtype)):
                raise TypeError(
                    f"jacrev needs {'complex' if holomorphic else 'real float'} outputs, but "
                    f"output {k} of "
                    f"{function_name(fun)} has dtype {y.dtype.name}"
                )
        pulled = _for_each(
            lambda *cts: out[1](tree.unflatten(y_tree, cts)),
            [asarray(y) for y in y_leaves],
            chunk_size,
        )
        grads, in_tree = tree.flatten(pulled)
        columns = [_split_leading(g, y_leaves) for g in grads]
        per_output = [
            tree.unflatten(in_tree, [c[k] for c in columns]) for k in range(len(y_leaves))
        ]
        jac = tree.unflatten(
            y_tree, [p[0] if isinstance(argnums, (int, np.integer)) else p for p in per_output]
        )
        return (jac, out[2]) if has_aux else jac

    return jacobian_f


jacobian = jacrev


def hessian(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Make a function that computes the Hessian, by forward over reverse mode; arguments as in
    `jacfwd`.

    Example:
        >>> import funtorch as ft
        >>> ft.hessian(lambda x: (x**3).sum())(ft.numpy.array([1.0, 2.0]))
        Array([[ 6.,  0.],
               [ 0., 12.]], dtype=float32)
    """
    _check_chunk_size("hessian", chunk_size)
    return jacfwd(
        jacrev(fun, argnums, has_aux=has_aux, holomorphic=holomorphic),
        argnums,
        has_aux=has_aux,
        holomorphic=holomorphic,
        chunk_size=chunk_size,
    )


def hvp(
    fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> Any:
    """Multiply a function's Hessian by a direction, by forward over reverse mode, without forming
    it.

    Args:
        fun: a function of arrays or pytrees of arrays with a scalar result.
        primals: tuple or list, one per argument of ``fun``: where to differentiate.
        tangents: the same structure, shapes and dtypes: the direction.
        has_aux: whether ``fun`` returns ``(output, auxiliary data)``.

    Returns:
        What `grad` of ``fun`` changes by along the direction: the argument's structure, or a tuple
        of those when there are several arguments. With ``has_aux``, ``(product, aux)``.

    Raises:
        TypeError: when primals and tangents differ in structure, shape or dtype, or the result of
            ``fun`` is no scalar.

    Example:
        >>> import funtorch as ft
        >>> x = ft.numpy.array([1.0, 2.0])
        >>> ft.hvp(lambda x: (x**3).sum(), (x,), (ft.numpy.ones(2),))
        Array([ 6., 12.], dtype=float32)

    References:
        Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994).
    """
    check_callable(fun, "hvp")
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError(
            f"hvp takes primals and tangents as tuples or lists, got {type(primals).__name__} and "
            f"{type(tangents).__name__}: write (x,) for one argument"
        )
    argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    gradient = grad(fun, argnums=argnums, has_aux=has_aux)
    found = jvp(gradient, primals, tangents, has_aux=has_aux)
    return found[1:] if has_aux else found[1]
