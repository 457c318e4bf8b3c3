"""`sparsify`: run a function that was written for dense arrays on sparse ones."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

from funtorch import dtypes, lax
from funtorch import numpy as fnp
from funtorch.core import ShapedArray, Tracer, aval_of
from funtorch.jaxpr import Jaxpr, Lit, eval_jaxpr, stage
from funtorch.transforms.branches import switch
from funtorch.tree import flatten, unflatten

from .base import JAXSparse
from .bcoo import BCOO, bcoo_sum_duplicates, like
from .bcsr import BCSR
from .coo import COO, CSC, CSR
from .products import bcoo_dot_general, bcoo_multiply_sparse, scaled
from .structure import (
    bcoo_broadcast_in_dim,
    bcoo_concatenate,
    bcoo_concatenate_stored,
    bcoo_dynamic_slice,
    bcoo_reduce_sum,
    bcoo_reshape,
    bcoo_rev,
    bcoo_slice,
    bcoo_squeeze,
    bcoo_transpose,
)

__all__ = ["SparseTracer", "sparsify", "todense"]

SparseTracer = Tracer  # what a sparsified function gets in the place of a sparse array


def is_sparse(x: Any) -> bool:
    """Tell whether something is a sparse array."""
    return isinstance(x, JAXSparse)


def todense(arr: Any) -> Any:
    """Return an array with all its zeros; one that is not sparse as it is.

    Inside a sparsified function, too, where sparse arrays look like dense ones.

    Example:
        >>> import funtorch.numpy as fnp
        >>> todense(BCOO.fromdense(fnp.array([0, 2])))
        Array([0, 2], dtype=int32)
    """
    if is_sparse(arr):
        return arr.todense()
    return lax.optimization_barrier(arr) if isinstance(arr, Tracer) else arr


class Spread:
    """A dense array that grows to a shape when somebody needs it whole."""

    def __init__(self, value: Any, shape: tuple[int, ...], dims: tuple[int, ...]) -> None:
        self.value, self.shape, self.dims = value, shape, dims

    def whole(self) -> Any:
        """Return the array in full size."""
        return lax.broadcast_in_dim(self.value, self.shape, self.dims)

    def small(self) -> Any:
        """Return it with axes of size 1 where it grows."""
        sizes = [1] * len(self.shape)
        for d, n in zip(self.dims, self.value.shape, strict=True):
            sizes[d] = n
        return self.value.reshape(sizes)


def _dense(x: Any) -> Any:
    return x.whole() if isinstance(x, Spread) else x


# -------------------------------------------------------------------------------------------- rules
def _by_values(prim: Any, mat: BCOO, params: dict[str, Any], linear: bool) -> BCOO:
    """Apply a function that keeps zeros to the values; one that is not linear to their sums."""
    if not linear and not mat.unique_indices:
        mat = bcoo_sum_duplicates(mat, nse=mat.nse)
    return like(mat, prim.bind(mat.data, **params))


_LINEAR = ("convert", "copy", "neg", "real", "imag", "conj", "stop_gradient", "name")
_ZERO_TO_ZERO = (
    *("abs", "asin", "asinh", "atan", "atanh", "cbrt", "ceil", "erf", "expm1", "floor", "log1p"),
    *("reduce_precision", "round", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc"),
)


def _power(prim: Any, x: Any, *, y: int) -> BCOO:
    if y <= 0:
        raise NotImplementedError(
            f"integer_pow of a sparse array with exponent {y} <= 0: it would be dense"
        )
    return _by_values(prim, x, {"y": y}, linear=y == 1)


def _add(prim: Any, x: Any, y: Any) -> Any:
    if is_sparse(x) and is_sparse(y):
        if x.indices is y.indices:
            return like(x, x.data + y.data)
        if (x.n_batch, x.n_dense) != (y.n_batch, y.n_dense):
            raise NotImplementedError(
                "Addition between sparse matrices with different batch/dense dimensions."
            )
        return bcoo_concatenate_stored([x, y])
    mat, other = (x, y) if is_sparse(x) else (y, x)
    if isinstance(other, Spread):
        raise NotImplementedError(
            "Addition between a sparse array X and a dense array Y is not implemented when the "
            f"output shape is larger than Y.shape, here {mat.shape} and {other.value.shape}: it "
            "would be dense. Convert the sparse array by todense() first."
        )
    return mat.todense() + other


def _sub(prim: Any, x: Any, y: Any) -> Any:
    minus = like(y, -y.data) if is_sparse(y) else -_dense(y)
    if is_sparse(x) and is_sparse(y) and x.indices is y.indices:
        return like(x, x.data - y.data)
    return _add(prim, x, minus)


def _mul(prim: Any, x: Any, y: Any) -> Any:
    if is_sparse(x) and is_sparse(y):
        if x.indices is y.indices and x.unique_indices:
            return like(x, x.data * y.data)
        return bcoo_multiply_sparse(x, y)
    mat, other = (x, y) if is_sparse(x) else (y, x)
    return scaled(mat, other.small() if isinstance(other, Spread) else other)


def _div(prim: Any, x: Any, y: Any) -> Any:
    if is_sparse(y):
        raise NotImplementedError(
            "Division by a sparse array is not implemented because it would result in dense "
            "output: convert it by sparse.todense() first."
        )
    return scaled(x, 1.0 / (y.small() if isinstance(y, Spread) else y))


def _dot(prim: Any, x: Any, y: Any, *, dimension_numbers: Any, out_dtype: Any, **_: Any) -> Any:
    return bcoo_dot_general(
        x, y, dimension_numbers=dimension_numbers, preferred_element_type=out_dtype
    )


def _reduce_sum(prim: Any, x: BCOO, *, axes: tuple[int, ...]) -> Any:
    out = bcoo_reduce_sum(x, axes=axes)
    return out if out.ndim else out.todense()


def _reshape(prim: Any, x: BCOO, *, shape: tuple[int, ...]) -> BCOO:
    """Reshape; what only adds or drops axes of size 1 keeps the kinds of all others."""
    if not x.n_dense:
        return bcoo_reshape(x, new_sizes=shape)
    kept = [d for d, n in enumerate(x.shape) if n != 1]
    dims = [d for d, n in enumerate(shape) if n != 1]
    if [x.shape[d] for d in kept] != [shape[d] for d in dims]:
        return bcoo_reshape(x, new_sizes=shape)
    ones = [d for d, n in enumerate(x.shape) if n == 1]
    mat = bcoo_squeeze(x, dimensions=ones) if ones else x
    if tuple(mat.shape) == tuple(shape):
        return mat
    return bcoo_broadcast_in_dim(mat, shape=shape, broadcast_dimensions=dims)


def _slice(prim: Any, x: BCOO, *, start: Any, limit: Any, stride: Any) -> BCOO:
    return bcoo_slice(x, start_indices=start, limit_indices=limit, strides=stride)


def _split(prim: Any, x: BCOO, *, axis: int, sizes: Sequence[int]) -> list[BCOO]:
    out, at = [], 0
    for size in sizes:
        start, limit = [0] * x.ndim, list(x.shape)
        start[axis], limit[axis] = at, at + size
        out.append(bcoo_slice(x, start_indices=start, limit_indices=limit))
        at += size
    return out


def _program(jaxpr: Jaxpr) -> Callable[..., list[Any]]:
    return functools.partial(eval_sparse, jaxpr)


def _call(prim: Any, *args: Any, jaxpr: Jaxpr, **_: Any) -> list[Any]:
    return eval_sparse(jaxpr, *args)


def _scan(
    prim: Any, *args: Any, jaxpr: Any, num_consts: int, num_carry: int, length: int, reverse: bool
) -> list[Any]:
    consts = [_dense(x) for x in args[:num_consts]]
    carry = [_dense(x) for x in args[num_consts : num_consts + num_carry]]
    xs = [_dense(x) for x in args[num_consts + num_carry :]]

    def step(carry: Any, x: Any) -> Any:
        out = eval_sparse(jaxpr, *consts, *carry, *x)
        return tuple(out[:num_carry]), tuple(map(_dense, out[num_carry:]))

    last, ys = lax.scan(step, tuple(carry), tuple(xs), length, reverse=reverse)
    return [*last, *ys]


def _while(
    prim: Any, *args: Any, cond_jaxpr: Any, body_jaxpr: Any, cond_nconsts: int, body_nconsts: int
) -> list[Any]:
    given = [_dense(x) for x in args]
    first, second = given[:cond_nconsts], given[cond_nconsts : cond_nconsts + body_nconsts]
    return list(
        lax.while_loop(
            lambda carry: eval_sparse(cond_jaxpr, *first, *carry)[0],
            lambda carry: tuple(eval_sparse(body_jaxpr, *second, *carry)),
            tuple(given[cond_nconsts + body_nconsts :]),
        )
    )


def _cond(prim: Any, index: Any, *args: Any, branches: Sequence[Jaxpr]) -> list[Any]:
    return list(switch(index, [_program(b) for b in branches], *map(_dense, args)))


_RULES: dict[str, Callable[..., Any]] = {
    "add": _add,
    "broadcast_in_dim": lambda prim, x, shape, dims: bcoo_broadcast_in_dim(
        x, shape=shape, broadcast_dimensions=dims
    ),
    "concatenate": lambda prim, *xs, axis: bcoo_concatenate(xs, dimension=axis),
    "cond": _cond,
    "custom_jvp_call": _call,
    "custom_vjp_call": _call,
    "div": _div,
    "dot_general": _dot,
    "dynamic_slice": lambda prim, x, *starts, sizes: bcoo_dynamic_slice(x, starts, sizes),
    "integer_pow": _power,
    "jit": _call,
    "mul": _mul,
    "optimization_barrier": lambda prim, *xs: [x.todense() if is_sparse(x) else x for x in xs],
    "reduce_sum": _reduce_sum,
    "remat": _call,
    "reshape": _reshape,
    "rev": lambda prim, x, axes: bcoo_rev(x, axes),
    "scan": _scan,
    "slice": _slice,
    "split": _split,
    "sub": _sub,
    "transpose": lambda prim, x, perm: bcoo_transpose(x, permutation=perm),
    "while": _while,
}
for _name in _LINEAR:
    _RULES[_name] = lambda prim, x, **params: _by_values(prim, x, params, linear=True)
for _name in _ZERO_TO_ZERO:
    _RULES[_name] = lambda prim, x, **params: _by_values(prim, x, params, linear=False)
_LAZY = {"add", "sub", "mul", "div"}  # they take an array that has yet to grow


def eval_sparse(jaxpr: Jaxpr, *args: Any) -> list[Any]:
    """Run a program on arrays, some of which are sparse."""
    env: dict[Any, Any] = dict(zip(jaxpr.constvars, jaxpr.consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    out: Any
    for eqn in jaxpr.eqns:
        ins = [v.val if type(v) is Lit else env[v] for v in eqn.invars]
        name = eqn.prim.name
        if any(map(is_sparse, ins)):
            if name not in _RULES:
                raise NotImplementedError(
                    f"sparse rule for {name} is not implemented: convert the sparse array by "
                    "sparse.todense() before"
                )
            ins = [x.to_bcoo() if hasattr(x, "to_bcoo") else x for x in ins]
            ins = ins if name in _LAZY else [_dense(x) for x in ins]
            out = _RULES[name](eqn.prim, *ins, **eqn.params)
        elif name == "broadcast_in_dim":
            (x,) = map(_dense, ins)
            out = Spread(x, tuple(eqn.params["shape"]), tuple(eqn.params["dims"]))
        else:
            out = eqn.prim.bind(*map(_dense, ins), **eqn.params)
        if eqn.prim.multiple_results:
            env.update(zip(eqn.outvars, out, strict=True))
        else:
            env[eqn.outvars[0]] = out
    outs = [v.val if type(v) is Lit else env[v] for v in jaxpr.outvars]
    return [_dense(x) for x in outs]


def sparsify(f: Callable[..., Any], use_tracer: bool = False) -> Callable[..., Any]:
    """Make a function of dense arrays one of sparse arrays, too.

    The function is traced as if all its arguments were dense; what it does to sparse ones is then
    done to their values and places.

    Args:
        f: a function of arrays or pytrees of them.
        use_tracer: taken for JAX's sake.

    Returns:
        A function that takes `BCOO` and `BCSR` arrays wherever ``f`` takes arrays, and returns
        them where a result is sparse. Keyword arguments are static.

    Raises:
        NotImplementedError: ``f`` does something that has no sparse form.

    Example:
        >>> import funtorch.numpy as fnp
        >>> M = BCOO.fromdense(fnp.array([[0.0, 2.0], [1.0, 0.0]]))
        >>> sparsify(lambda M, v: 2 * (M.T @ v))(M, fnp.array([1.0, 3.0]))
        Array([6., 4.], dtype=float32)
    """

    @functools.wraps(f)
    def sparsified(*args: Any, **kwargs: Any) -> Any:
        leaves, treedef = flatten(args, is_leaf=is_sparse)
        leaves = [x if is_sparse(x) else fnp.asarray(x) for x in leaves]
        avals = [
            ShapedArray(x.shape, x.dtype, False) if is_sparse(x) else aval_of(x) for x in leaves
        ]
        store: list[Any] = []

        def flat(*xs: Any) -> list[Any]:
            out, tree = flatten(f(*unflatten(treedef, xs), **kwargs))
            store.append(tree)
            return [fnp.asarray(x) for x in out]

        jaxpr = stage(flat, avals, getattr(f, "__name__", "f"))
        run = eval_sparse if any(map(is_sparse, leaves)) else eval_jaxpr
        return unflatten(store[0], run(jaxpr, *leaves))

    return sparsified


# ---------------------------------------------------------------------------------------- operators
def _matmul(x: Any, y: Any) -> Any:
    x, y = (z if is_sparse(z) else fnp.asarray(z) for z in (x, y))
    if x.ndim in (1, 2) and y.ndim in (1, 2):
        numbers = (([x.ndim - 1], [0]), ([], []))
        x, y = (z.to_bcoo() if hasattr(z, "to_bcoo") else z for z in (x, y))
        return bcoo_dot_general(x, y, dimension_numbers=numbers)
    return sparsify(operator.matmul)(x, y)


def _getitem(x: Any, index: Any) -> Any:
    return sparsify(lambda mat: mat[index])(x)


def _reversed(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y: f(y, x)


def _sum(x: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """Return the sum over some axes, or over all of them."""
    return sparsify(lambda mat: fnp.sum(mat, axis, dtype, keepdims=keepdims))(x)


def _reshaped(x: Any, *shape: Any, order: str = "C") -> Any:
    """Return the array in another shape."""
    return (
        sparsify(lambda mat: fnp.reshape(mat, *shape, order=order))(x)
        if len(shape) == 1
        else (sparsify(lambda mat: fnp.reshape(mat, shape, order=order))(x))
    )


def _astype(x: Any, dtype: Any) -> Any:
    """Return the array with values of another dtype."""
    return sparsify(lambda mat: mat.astype(dtypes.canonical(dtype)))(x)


def _transposed(x: Any, axes: Sequence[int] | None = None) -> Any:
    """Return the array with its axes in another order."""
    order = [d % x.ndim for d in (reversed(range(x.ndim)) if axes is None else axes)]
    return bcoo_transpose(x, permutation=order)


def _iterate(x: Any) -> Any:
    return iter([x[k] for k in range(x.shape[0])])


_OPERATORS: dict[str, Callable[..., Any]] = {
    "__abs__": sparsify(operator.abs),
    "__add__": sparsify(operator.add),
    "__matmul__": _matmul,
    "__mul__": sparsify(operator.mul),
    "__neg__": sparsify(operator.neg),
    "__pos__": lambda x: x,
    "__pow__": lambda x, n: sparsify(lambda mat: mat**n)(x),
    "__radd__": _reversed(sparsify(operator.add)),
    "__rmatmul__": _reversed(_matmul),
    "__rmul__": _reversed(sparsify(operator.mul)),
    "__rsub__": _reversed(sparsify(operator.sub)),
    "__sub__": sparsify(operator.sub),
    "__truediv__": sparsify(operator.truediv),
    "__getitem__": _getitem,
    "__iter__": _iterate,
    "astype": _astype,
    "reshape": _reshaped,
    "sum": _sum,
}
for _name, _method in _OPERATORS.items():
    for _format in (BCOO, BCSR):
        setattr(_format, _name, _method)
    if _name in ("__matmul__", "__rmatmul__"):
        for _format in (COO, CSR, CSC):
            setattr(_format, _name, _method)
setattr(BCOO, "transpose", _transposed)  # noqa: B010
