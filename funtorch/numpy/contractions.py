"""Products of arrays: matmul, dot, tensordot, einsum and their kin, all of them one dot_general."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import primitives
from funtorch.errors import MismatchError
from funtorch.numpy import elementwise
from funtorch.numpy.direct import FLOATS, direct, pair
from funtorch.numpy.elementwise import conjugate, multiply, subtract
from funtorch.numpy.manipulation import expand_dims, moveaxis, ravel, reshape, stack, transpose
from funtorch.numpy.places import divisible
from funtorch.numpy.promotion import (
    asarray,
    broadcast_shapes,
    canonical_axis,
    check_precision,
    convert,
    describe,
    no_out,
    promote,
    reading_lists,
    rounded,
    spread_to,
    to_array,
    to_arrays,
)
from funtorch.numpy.reductions import sum as sum_

__all__ = [
    "cross",
    "diagonal",
    "dot",
    "einsum",
    "einsum_path",
    "inner",
    "kron",
    "matmul",
    "matvec",
    "outer",
    "tensordot",
    "trace",
    "vdot",
    "vecdot",
    "vecmat",
]


def contract(a: Any, b: Any, dims: Any, out_dtype: Any = None, precision: Any = None) -> Any:
    """Bind dot_general on two Arrays of any dtypes; bool and small integers stay in their dtype."""
    a, b = promote("dot_general", a, b)
    if a.dtype == dtypes.bool_:
        wide = contract(convert(a, dtypes.int32), convert(b, dtypes.int32), dims)
        return elementwise.not_equal(wide, 0)
    out_dtype = a.dtype if out_dtype is None else out_dtype
    return primitives["dot_general"].bind(
        a, b, dimension_numbers=dims, out_dtype=out_dtype, **rounded(precision)
    )


def _wanted(preferred: Any) -> Any:
    """Return the dtype that products are summed for."""
    return None if preferred is None else dtypes.canonical(preferred)


def _result(out: Any, preferred: Any) -> Any:
    return out if preferred is None else convert(out, dtypes.canonical(preferred))


@direct(np.matmul, FLOATS, pair)
@divisible()
def matmul(
    a: Any,
    b: Any,
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> Any:
    """Multiply matrices; leading axes broadcast, vectors contract.

    Args:
        a: array of shape (..., n, k) or (k,).
        b: array of shape (..., k, m) or (k,).
        precision: by JAX's names; 'high' and the like let GPUs round float32 operands to TF32,
            CPUs always compute in full precision.
        preferred_element_type: dtype of the result.
        out_sharding: how the result is divided over a mesh; None: it is not.

    Returns:
        An Array of shape (..., n, m), without n or m where that argument is a vector.

    Raises:
        ValueError: an argument has rank 0, or the sizes k differ.

    Example:
        >>> matmul(asarray([[1, 2], [3, 4]]), asarray([1, 1]))
        Array([3, 7], dtype=int32)

    References:
        numpy.matmul
    """
    check_precision(precision, "matmul")
    x, y = to_arrays("matmul", a=a, b=b)
    for name, array in (("a", x), ("b", y)):
        if array.ndim == 0:
            raise ValueError(
                f"matmul: argument {name} is {describe(array)}; at least 1 axis is required: use *"
            )
    ka, kb = x.ndim - 1, max(y.ndim - 2, 0)
    if x.shape[ka] != y.shape[kb]:
        raise MismatchError(
            f"matmul: the contracted sizes differ: a is {describe(x)}, whose axis {ka} has size "
            f"{x.shape[ka]}; b "
            f"is {describe(y)}, whose axis {kb} has size {y.shape[kb]}: transpose or reshape one"
        )
    out_dtype = None if preferred_element_type is None else dtypes.canonical(preferred_element_type)
    if x.ndim <= 2 and y.ndim <= 2:
        return contract(x, y, (((ka,), (kb,)), ((), ())), out_dtype, precision)
    if y.ndim <= 2:
        return contract(x, y, (((ka,), (kb,)), ((), ())), out_dtype, precision)
    if x.ndim == 1:
        out = contract(y, x, (((kb,), (0,)), ((), ())), out_dtype, precision)
        return out
    batch_x, batch_y = x.shape[:-2], y.shape[:-2]
    try:
        batch = broadcast_shapes(batch_x, batch_y)
    except ValueError:
        raise ValueError(
            f"matmul: the leading axes do not broadcast: a is {describe(x)}, b is {describe(y)}"
        ) from None
    x, y = spread_to(x, batch + x.shape[-2:]), spread_to(y, batch + y.shape[-2:])
    n = len(batch)
    axes = tuple(range(n))
    return contract(x, y, (((n + 1,), (n,)), (axes, axes)), out_dtype, precision)


@direct(np.dot, FLOATS, pair)
@divisible()
def dot(
    a: Any,
    b: Any,
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> Any:
    """Contract the last axis of a with the second last of b (its only one for vectors).

    Args:
        a, b: arrays; with rank 0 the product is elementwise.
        out_sharding: how the result is divided over a mesh; None: it is not.

    References:
        numpy.dot
    """
    check_precision(precision, "dot")
    x, y = to_arrays("dot", a=a, b=b)
    if not x.ndim or not y.ndim:
        return _result(multiply(x, y), preferred_element_type)
    ka, kb = x.ndim - 1, max(y.ndim - 2, 0)
    if x.shape[ka] != y.shape[kb]:
        raise MismatchError(
            f"dot: the contracted sizes differ: a is {describe(x)}, whose axis {ka} has size "
            f"{x.shape[ka]}; b is "
            f"{describe(y)}, whose axis {kb} has size {y.shape[kb]}: transpose or reshape one"
        )
    out = contract(x, y, (((ka,), (kb,)), ((), ())), _wanted(preferred_element_type), precision)
    return _result(out, preferred_element_type)


@divisible()
def tensordot(
    a: Any,
    b: Any,
    axes: Any = 2,
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> Any:
    """Contract several axes of two arrays.

    Args:
        a, b: arrays.
        axes: int n: the last n axes of a with the first n of b; or a pair of axes (sequences) of a
            and b.
        out_sharding: how the result is divided over a mesh; None: it is not.

    References:
        numpy.tensordot
    """
    check_precision(precision, "tensordot")
    x, y = to_arrays("tensordot", a=a, b=b)
    if isinstance(axes, int):
        if axes > min(x.ndim, y.ndim):
            raise MismatchError(
                f"tensordot: axes={axes} is more than {describe(x)} and {describe(y)} have: the "
                "number of tensordot axes exceeds input ranks"
            )
        axes = (tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes)))
    if not (isinstance(axes, (tuple, list)) and len(axes) == 2):
        raise TypeError(
            "tensordot: tensordot axes argument must be an int, a pair of ints, or a pair of lists "
            f"of ints, got {axes!r}"
        )
    pair = [tuple(k) if isinstance(k, (tuple, list)) else (k,) for k in axes]
    if len(pair[0]) != len(pair[1]):
        raise MismatchError(
            "tensordot: tensordot requires axes lists to have equal length, got "
            f"{axes[0]} and {axes[1]}"
        )
    ca = tuple(canonical_axis(k, x.ndim, "tensordot") for k in pair[0])
    cb = tuple(canonical_axis(k, y.ndim, "tensordot") for k in pair[1])
    if len(ca) != len(cb) or any(x.shape[i] != y.shape[j] for i, j in zip(ca, cb, strict=False)):
        raise MismatchError(
            f"tensordot: axes {ca} of a {describe(x)} do not match axes {cb} of b {describe(y)} "
            "in size"
        )
    out = contract(x, y, ((ca, cb), ((), ())), _wanted(preferred_element_type), precision)
    return _result(out, preferred_element_type)


@direct(np.inner, FLOATS, pair)
def inner(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Contract the last axes of two arrays.

    References:
        numpy.inner
    """
    check_precision(precision, "inner")
    x, y = to_arrays("inner", a=a, b=b)
    if not x.ndim or not y.ndim:
        return _result(multiply(x, y), preferred_element_type)
    options = {"precision": precision, "preferred_element_type": preferred_element_type}
    return tensordot(x, y, (-1, -1), **options)


def _outer(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.multiply.outer(x.ravel(), y.ravel())


@direct(_outer, FLOATS, pair)
def outer(a: Any, b: Any, out: None = None) -> Any:
    """Return the matrix of all products of two flattened arrays.

    References:
        numpy.outer
    """
    no_out(out, "outer")
    x, y = to_arrays("outer", a=a, b=b)
    return multiply(reshape(x, (-1, 1)), reshape(y, (1, -1)))


@direct(np.vdot, FLOATS, pair)
def vdot(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Return the sum of conj(a) * b over flattened arrays.

    References:
        numpy.vdot
    """
    check_precision(precision, "vdot")
    x, y = to_arrays("vdot", a=a, b=b)
    options = {"precision": precision, "preferred_element_type": preferred_element_type}
    return dot(conjugate(ravel(x)), ravel(y), **options)


@direct(np.vecdot, FLOATS, pair)
def vecdot(
    x1: Any,
    x2: Any,
    /,
    *,
    axis: int = -1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Return the sum of conj(x1) * x2 along an axis; the other axes broadcast.

    References:
        numpy.vecdot
    """
    check_precision(precision, "vecdot")
    x, y = (moveaxis(a, axis, -1) for a in to_arrays("vecdot", x1=x1, x2=x2))
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"vecdot: axis {axis} differs in size: x1 is {describe(x)}, x2 is {describe(y)}"
        )
    out = matmul(
        expand_dims(conjugate(x), -2),
        expand_dims(y, -1),
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    return out[..., 0, 0]


def matvec(x1: Any, x2: Any, /) -> Any:
    """Multiply matrices (..., n, k) by vectors (..., k).

    References:
        numpy.matvec
    """
    x, y = to_arrays("matvec", x1=x1, x2=x2)
    return matmul(x, expand_dims(y, -1))[..., 0]


def vecmat(x1: Any, x2: Any, /) -> Any:
    """Multiply conjugated vectors (..., n) by matrices (..., n, k).

    References:
        numpy.vecmat
    """
    x, y = to_arrays("vecmat", x1=x1, x2=x2)
    return matmul(expand_dims(conjugate(x), -2), y)[..., 0, :]


def kron(a: Any, b: Any) -> Any:
    """Return the Kronecker product.

    References:
        numpy.kron
    """
    x, y = to_arrays("kron", a=a, b=b)
    rank = max(x.ndim, y.ndim)
    x, y = (reshape(z, (1,) * (rank - z.ndim) + z.shape) for z in (x, y))
    left = reshape(x, tuple(n for k in x.shape for n in (k, 1)))
    right = reshape(y, tuple(n for k in y.shape for n in (1, k)))
    return reshape(
        multiply(left, right), tuple(m * n for m, n in zip(x.shape, y.shape, strict=True))
    )


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Take a diagonal of the matrices in two axes; it becomes the last axis.

    References:
        numpy.diagonal
    """
    x = to_array(a, "diagonal", "a")
    if x.ndim < 2:
        raise ValueError(f"diagonal: at least 2 axes are required, got shape {x.shape}")
    i, j = (canonical_axis(k, x.ndim, "diagonal") for k in (axis1, axis2))
    if i == j:
        raise ValueError(f"diagonal: axis1 {axis1} and axis2 {axis2} must differ")
    x = moveaxis(x, (i, j), (0, 1))
    rows, columns = x.shape[:2]
    top, left = max(-offset, 0), max(offset, 0)
    n = max(min(rows - top, columns - left), 0)
    found = x[_range(top, n), _range(left, n)]
    return moveaxis(found, 0, -1)


def _range(start: int, n: int) -> Any:
    return asarray([*range(start, start + n)], "int32")


@direct(np.ndarray.trace, FLOATS)
def trace(
    a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: None = None
) -> Any:
    """Sum a diagonal.

    References:
        numpy.trace
    """
    no_out(out, "trace")
    return sum_(diagonal(a, offset, axis1, axis2), -1, dtype)


def cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Any:
    """Return the cross product of vectors of size 3 (or 2, whose third part is 0).

    References:
        numpy.cross
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = promote("cross", *to_arrays("cross", a=a, b=b))
    x, y = moveaxis(x, axisa, -1), moveaxis(y, axisb, -1)
    if x.shape[-1] not in (2, 3) or y.shape[-1] not in (2, 3):
        raise ValueError(
            f"cross: vectors must have size 2 or 3, got {describe(x)} and {describe(y)}"
        )
    xs = [x[..., k] for k in range(x.shape[-1])]
    ys = [y[..., k] for k in range(y.shape[-1])]
    third = subtract(multiply(xs[0], ys[1]), multiply(xs[1], ys[0]))
    if len(xs) == len(ys) == 2:
        return third
    x2 = xs[2] if len(xs) == 3 else multiply(xs[0], 0)
    y2 = ys[2] if len(ys) == 3 else multiply(ys[0], 0)
    parts = [
        subtract(multiply(xs[1], y2), multiply(x2, ys[1])),
        subtract(multiply(x2, ys[0]), multiply(xs[0], y2)),
        third,
    ]
    return moveaxis(stack(parts, -1), -1, axisc)


# ------------------------------------------------------------------------------------------- einsum
@functools.lru_cache(maxsize=4096)
def _einsum_plan(
    equation: str, shapes: tuple[tuple[int, ...], ...], optimize: Any
) -> tuple[Any, ...]:
    """Return (positions, equation) of each pairwise step, as opt_einsum orders them."""
    import opt_einsum

    _, info = opt_einsum.contract_path(equation, *shapes, shapes=True, optimize=optimize)
    return tuple((tuple(sorted(step[0], reverse=True)), step[2]) for step in info.contraction_list)


@divisible()
def einsum(
    subscripts: Any,
    /,
    *operands: Any,
    out: None = None,
    optimize: Any = "auto",
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    _dot_general: Callable[..., Any] | None = None,
) -> Any:
    """Sum products of arrays along named axes.

    Args:
        subscripts: such as ``'ij,jk->ik'``; '...' stands for axes that broadcast.
        *operands: arrays.
        optimize: how opt_einsum orders the products: 'auto', 'optimal', 'greedy', True, False ...
        out_sharding: how the result is divided over a mesh; None: it is not.
        _dot_general: what multiplies two arrays, called as `lax.dot_general`; None for that.

    Returns:
        An Array with the axes after '->'.

    Raises:
        ValueError: the subscripts and the shapes do not fit.

    Example:
        >>> einsum("ij->i", asarray([[1, 2], [3, 4]]))
        Array([3, 7], dtype=int32)

    References:
        numpy.einsum; D. G. A. Smith, J. Gray, "opt_einsum", JOSS 3(26), 753 (2018).
    """
    check_precision(precision, "einsum")
    no_out(out, "einsum")
    if not isinstance(subscripts, str):
        import opt_einsum

        given = (subscripts, *operands)
        arrays: list[Any] = [
            asarray(a)
            if k % 2 == 0 and k < len(given) - (len(given) % 2)
            else np.asarray(a).tolist()
            if hasattr(a, "__array__")
            else a
            for k, a in enumerate(given)
        ]
        try:
            subscripts, operands = opt_einsum.parser.convert_interleaved_input(arrays)
        except (KeyError, AttributeError) as error:
            raise TypeError(
                "einsum: without a string of subscripts, give each array followed by its list of "
                f"axes; got {subscripts!r:.80} first"
            ) from error
    xs = [to_array(a, "einsum", f"operands[{k}]") for k, a in enumerate(operands)]
    shapes = tuple(x.shape for x in xs)
    optimize = "auto" if optimize is True else optimize
    if isinstance(optimize, list):
        optimize = tuple(step for step in optimize if step != "einsum_path")
    try:
        steps = _einsum_plan(subscripts.replace(" ", ""), shapes, optimize)
    except ValueError as error:
        named = ", ".join(f"operands[{k}] is {describe(x)}" for k, x in enumerate(xs))
        raise ValueError(
            f"einsum: {subscripts!r} does not fit its operands: {named}: {error}"
        ) from None
    xs, wanted = promote("einsum", *xs), _wanted(preferred_element_type)

    def product(a: Any, b: Any, dims: Any) -> Any:
        if _dot_general is None:
            return contract(a, b, dims, wanted, precision)
        return _dot_general(a, b, dims, precision, preferred_element_type=preferred_element_type)

    for positions, equation in steps:
        taken = [xs.pop(k) for k in positions]
        inputs, output = equation.split("->")
        xs.append(_einsum_step(taken, inputs.split(","), output, product))
    return _result(xs[0], preferred_element_type)


def _einsum_step(
    xs: list[Any], names: list[str], output: str, product: Callable[[Any, Any, Any], Any]
) -> Any:
    """Compute one step, of one array, or of two (of more by turns), by a product of two."""
    if _is_product(tuple(names), output) and not any(1 in x.shape for x in xs):
        dims, perm = _product_of(*names, output)
        a, b = xs
        out = product(a, b, dims)
        return out if perm is None else transpose(out, perm)
    while len(xs) > 2:
        rest = set("".join(names[2:])) | set(output)
        kept = "".join(dict.fromkeys(c for c in names[0] + names[1] if c in rest))
        xs[:2], names[:2] = [_einsum_step(xs[:2], names[:2], kept, product)], [kept]
    others = [set(output) | set(names[1 - k] if len(xs) == 2 else "") for k in range(len(xs))]
    for k, other in enumerate(others):
        xs[k], names[k] = _einsum_reduce(xs[k], names[k], other)
    if len(xs) == 1:
        return transpose(xs[0], [names[0].index(c) for c in output])
    (a, b), (na, nb) = xs, names
    # An axis of size 1 broadcasts against the other's: drop it from the pair.
    sizes = {}
    for x, name in zip(xs, names, strict=True):
        for c, n in zip(name, x.shape, strict=True):
            sizes[c] = n if sizes.get(c, 1) == 1 else sizes[c]
    a, b = (spread_to_names(x, name, sizes) for x, name in ((a, na), (b, nb)))
    dims, perm = _product_of(na, nb, output)
    out = product(a, b, dims)
    return out if perm is None else transpose(out, perm)


@functools.lru_cache(4096)
def _product_of(na: str, nb: str, output: str) -> tuple[Any, tuple[int, ...] | None]:
    """Return the dimension numbers of a product, and how its result is transposed, if it is."""
    shared = [c for c in na if c in nb]
    batch = [c for c in shared if c in output]
    summed = [c for c in shared if c not in output]
    dims = (
        (tuple(map(na.index, summed)), tuple(map(nb.index, summed))),
        (tuple(map(na.index, batch)), tuple(map(nb.index, batch))),
    )
    order = batch + [c for c in na if c not in shared] + [c for c in nb if c not in shared]
    perm = tuple(order.index(c) for c in output)
    return dims, None if perm == tuple(range(len(perm))) else perm


@functools.lru_cache(4096)
def _is_product(names: tuple[str, ...], output: str) -> bool:
    """Tell whether a step is one product: of two arrays, no axis of which goes by itself."""
    if len(names) != 2 or any(len(set(name)) < len(name) for name in names):
        return False
    return all(c in output or c in other for one, other in (names, names[::-1]) for c in one)


def spread_to_names(x: Any, names: str, sizes: dict[str, int]) -> Any:
    """Broadcast axes of size 1 to the size their name has elsewhere."""
    return spread_to(x, tuple(sizes[c] for c in names))


def _einsum_reduce(x: Any, names: str, keep: set[str]) -> tuple[Any, str]:
    """Take diagonals of repeated names and sum names that nobody needs."""
    for c in dict.fromkeys(names):
        while names.count(c) > 1:
            i = names.index(c)
            j = names.index(c, i + 1)
            x = diagonal(x, 0, i, j)
            names = names[:i] + names[i + 1 : j] + names[j + 1 :] + c
    gone = tuple(k for k, c in enumerate(names) if c not in keep)
    if gone:
        x = sum_(x, gone, x.dtype)
        names = "".join(c for c in names if c in keep)
    return x, names


def einsum_path(
    subscripts: str, /, *operands: Any, optimize: Any = "auto"
) -> tuple[list[Any], Any]:
    """Return the order in which `einsum` multiplies, for its ``optimize``, and a description.

    References:
        numpy.einsum_path
    """
    import opt_einsum

    if not isinstance(subscripts, str):
        raise TypeError(f"einsum_path: subscripts must be a string, got {subscripts!r:.80}")
    shapes = [to_array(a, "einsum_path", f"operands[{k}]").shape for k, a in enumerate(operands)]
    path, info = opt_einsum.contract_path(subscripts, *shapes, shapes=True, optimize=optimize)
    return [*(["einsum_path"] if reading_lists.get() else ()), *path], info  # as NumPy has it


def multi_dot(arrays: Sequence[Any], *, precision: Any = None) -> Any:
    """Multiply a chain of matrices in the cheapest order.

    Args:
        arrays: at least two; the first and the last may be vectors.

    References:
        numpy.linalg.multi_dot
    """
    check_precision(precision, "multi_dot")
    import opt_einsum

    xs = [to_array(a, "multi_dot", f"arrays[{k}]") for k, a in enumerate(arrays)]
    if len(xs) < 2:
        raise ValueError(f"multi_dot: at least two arrays are required, got {len(xs)}")
    letters = iter(map(opt_einsum.get_symbol, range(len(xs) + 1)))
    left = next(letters) if xs[0].ndim == 2 else ""
    names, current = [], next(letters)
    names.append(left + current)
    for x in xs[1:]:
        following = next(letters) if x.ndim == 2 else ""
        names.append(current + following)
        current = following
    return einsum(f"{','.join(names)}->{left}{current}", *xs, optimize="optimal")
