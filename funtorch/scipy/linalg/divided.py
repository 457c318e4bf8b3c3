"""Functions of matrices with n eigenvectors, and their derivatives, by divided differences.

With A = V diag(w) V⁻¹, f(A) is V diag(f(w)) V⁻¹, and its derivatives are sums over products

    V (Σ f[wᵢ, wₖ, ..., wⱼ] (V⁻¹ E₁ V)ᵢₖ ... (V⁻¹ Eₙ V)ₗⱼ) V⁻¹

of directions E and divided differences of f. Equal values do no harm: there f[w, w] is f'(w).
Differentiating such a product in A puts one more direction at each of its n + 1 places.

References:
    Yu. L. Daletskii, S. G. Krein, "Integration and differentiation of functions of Hermitian
    operators", 1965. N. J. Higham, "Functions of Matrices", 2008, chapter 3.
"""

from __future__ import annotations

import functools
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import LinearArg, Primitive, ShapedArray
from funtorch.ops import linalg as ops
from funtorch.ops.matrices import check_matrices, diagonal, identity_like
from funtorch.ops.shape import iota
from funtorch.ops.sort import sort
from funtorch.transforms import closure_convert, fori_loop, jit, jvp, vmap
from funtorch.transforms.restage import expansion_rules

__all__ = ["error_of", "matrix_function"]

# Values nearer to each other than this share of their size are differenced by a quadrature.
_NEAR = 1 / 64
_NODES = {1: 8, 2: 5}  # of the quadrature per dimension; 4 for higher orders


def matrix_function(x: Any, func: Callable[[Any], Any], hermitian: bool) -> Any:
    """Return func of matrices that have a basis of eigenvectors.

    Args:
        x: matrices of floats or complex numbers, shape (..., n, n).
        func: from an Array of numbers to the Array of their values.
        hermitian: whether x equals its adjoint; then func takes and gives real numbers.
    """
    if not x.shape[-1]:
        return x
    example = fnp.zeros((), dtypes.real_dtype(x.dtype) if hermitian else x.dtype)
    f, consts = closure_convert(lambda v: fnp.asarray(func(v)), example)
    return _bind(x, (), consts, f, hermitian)


# ----------------------------------------------------------------------------------- the primitive
def _bind(x: Any, directions: Sequence[Any], consts: Sequence[Any], f: Any, hermitian: bool) -> Any:
    params = {"function": f, "order": len(directions), "hermitian": hermitian}
    return matrix_function_p.bind(x, *directions, *consts, **params)


def _product(x: Any, *rest: Any, function: Any, order: int, hermitian: bool) -> Any:
    """Return the product of the module's first lines; for order 0 and any matrix by Parlett."""
    directions, consts = rest[:order], rest[order:]

    def f(y: Any) -> Any:
        return _mapped(function, y, consts)

    if not order and not hermitian:
        return _parlett(x, f)
    if hermitian:
        w, v = ops.eigh(x)
        inverse = fnp.conj(fnp.matrix_transpose(v))
    else:
        w, v = ops.eig(x, left=False, right=True)
        inverse = ops.solve(v, identity_like(v))
    lead = w.shape[:-1]
    values = [w.reshape(lead + (1,) * k + (-1,) + (1,) * (order - k)) for k in range(order + 1)]
    table = _differences(f, values, fnp.max(fnp.abs(w), -1).reshape(lead + (1,) * (order + 1)))
    if not order:
        return fnp.matmul(v * table[..., None, :], inverse)
    inner = [fnp.matmul(inverse, fnp.matmul(e, v)) for e in directions]
    axes = string.ascii_lowercase[: order + 1]
    terms = ",".join(["..." + axes, *("..." + axes[k : k + 2] for k in range(order))])
    total = fnp.einsum(f"{terms}->...{axes[0]}{axes[-1]}", table.astype(v.dtype), *inner)
    return fnp.matmul(v, fnp.matmul(total, inverse))


def _type(x: ShapedArray, *rest: ShapedArray, **params: Any) -> ShapedArray:
    check_matrices("matrix_function", x)
    return ShapedArray(x.shape, x.dtype)


def _jvp(primals: Any, tangents: Any, *, function: Any, order: int, hermitian: bool) -> Any:
    x, directions, consts = primals[0], primals[1 : order + 1], primals[order + 1 :]
    dx, changes, dconsts = tangents[0], tangents[1 : order + 1], tangents[order + 1 :]
    terms = []
    if dx is not None:
        for k in range(order + 1):
            more = (*directions[:k], dx, *directions[k:])
            terms.append(_bind(x, more, consts, function, hermitian))
    for k, change in enumerate(changes):
        if change is not None:
            replaced = (*directions[:k], change, *directions[k + 1 :])
            terms.append(_bind(x, replaced, consts, function, hermitian))
    moving = [k for k, t in enumerate(dconsts) if t is not None]
    if moving:
        moved = functools.partial(_moved, function, len(consts), tuple(moving))
        given = (*consts, *(dconsts[k] for k in moving))
        terms.append(_bind(x, directions, given, moved, hermitian))
    out = matrix_function_p.bind(*primals, function=function, order=order, hermitian=hermitian)
    return out, functools.reduce(fnp.add, terms)


def _moved(function: Any, count: int, moving: tuple[int, ...], y: Any, *args: Any) -> Any:
    """Return the derivative of a function in some of its constants."""

    def of(*some: Any) -> Any:
        full = list(args[:count])
        for k, c in zip(moving, some, strict=True):
            full[k] = c
        return function(y, *full)

    return jvp(of, tuple(args[k] for k in moving), args[count:])[1]


def _transpose(ct: Any, *args: Any, **params: Any) -> list[Any]:
    """Turn the trace of a product round until the direction that is asked for stands alone."""
    order = params["order"]
    places = [k for k, a in enumerate(args) if type(a) is LinearArg]
    place = places[0]
    if place > order:
        if any(args[k].aval.shape for k in places):
            return _by_expansion(ct, *args, **params)
        # The function is linear in numbers: what each does with the others at 0 is its share.
        shares: list[Any] = [None] * len(args)
        for k in places:
            ones = {j: fnp.asarray(float(j == k), args[j].aval.dtype) for j in places}
            full = [ones.get(j, a) for j, a in enumerate(args)]
            shares[k] = fnp.sum(ct * matrix_function_p.bind(*full, **params))
            shares[k] = _as(shares[k], args[k].aval.dtype)
        return shares
    x, directions, consts = args[0], args[1 : order + 1], args[order + 1 :]
    turned = (*directions[place:], fnp.matrix_transpose(ct), *directions[: place - 1])
    back = _bind(x, turned, consts, params["function"], params["hermitian"])
    return [fnp.matrix_transpose(back) if k == place else None for k in range(len(args))]


def _as(x: Any, dtype: Any) -> Any:
    return (x if dtypes.is_complex(dtype) else fnp.real(x)).astype(dtype)


def _batch(axis: Any, args: Any, batched: Any, **params: Any) -> tuple[Any, Any]:
    if any(batched[params["order"] + 1 :]):
        return _batch_by_expansion(axis, args, batched, **params)
    matrices = params["order"] + 1
    spread_out = [
        a if on or k >= matrices else fnp.broadcast_to(a, (axis.size, *a.shape))
        for k, (a, on) in enumerate(zip(args, batched, strict=True))
    ]
    return matrix_function_p.bind(*spread_out, **params), True


matrix_function_p = Primitive("matrix_function")
matrix_function_p.expand = _product
expansion_rules(matrix_function_p)
_by_expansion, _batch_by_expansion = matrix_function_p.transpose, matrix_function_p.batch
matrix_function_p.type, matrix_function_p.jvp, matrix_function_p.linearize = _type, _jvp, None
matrix_function_p.transpose, matrix_function_p.batch = _transpose, _batch


# --------------------------------------------------------------------------- triangular matrices
def _triangle(x: Any) -> tuple[Any, Any, Any, Any]:
    """Return the Schur form, its vectors, differences of its diagonal, and where to use them."""
    t, q = ops.schur(x)
    d = diagonal(t)
    above = _offsets(x) > 0
    gaps = d[..., None, :] - d[..., :, None]
    tiny = float(dtypes.finfo(x.dtype).tiny)
    return t, q, fnp.where(above, fnp.where(gaps == 0, tiny, gaps), 1), above


def _offsets(x: Any) -> Any:
    """Return the number of the diagonal that each place of a square matrix is on."""
    down, across = (iota(shape=x.shape[-2:], axis=k, dtype=dtypes.int32) for k in (0, 1))
    return across - down


def _parlett(x: Any, f: Callable[[Any], Any]) -> Any:
    """Return f of a complex matrix that may lack eigenvectors, if its values are apart."""
    t, q, gaps, _ = _triangle(x)
    start = fnp.where(_offsets(x) == 0, f(diagonal(t))[..., None], 0)
    y = _fill(t, start, gaps)
    return fnp.matmul(fnp.matmul(q, y), fnp.conj(fnp.matrix_transpose(q)))


@jit
def _fill(t: Any, y: Any, gaps: Any) -> Any:
    """Fill one diagonal after the other, from the main one on."""
    offset = _offsets(t)

    def along(p: Any, y: Any) -> Any:
        return fnp.where(offset == p, (fnp.matmul(t, y) - fnp.matmul(y, t)) / gaps, y)

    return fori_loop(1, t.shape[-1], along, y)


def error_of(x: Any, out: Any) -> Any:
    """Return an estimate of the relative error of Parlett's recurrence."""
    t, _, gaps, above = _triangle(x)
    eps = float(dtypes.finfo(x.dtype).eps)
    least = fnp.min(fnp.where(above, fnp.abs(gaps), 1), initial=1)
    size = fnp.max(fnp.sum(fnp.abs(fnp.triu(t, 1)), 0), initial=0)
    error = fnp.minimum(1, fnp.maximum(eps, eps / least * size))
    return fnp.where(fnp.all(fnp.isfinite(out)), error, fnp.inf)


# ------------------------------------------------------------------------------ divided differences
def _mapped(f: Callable[..., Any], y: Any, consts: tuple[Any, ...]) -> Any:
    """Apply a function of one number to an array of them."""
    flat = vmap(lambda v: f(v, *consts))(y.reshape(-1))
    return flat.reshape(y.shape).astype(y.dtype)


def _differences(f: Callable[[Any], Any], values: Sequence[Any], most: Any) -> Any:
    """Return f[x₀, ..., xₙ] for arrays x that broadcast; ``most``: the size of the largest values.

    The recurrence in the two values furthest apart, (f[without the least] - f[without the
    greatest]) / (their difference); where all are near to each other, the mean of the n-th
    derivative over the simplex that they span.
    """
    n = len(values) - 1
    if not n:
        return f(values[0])
    x = fnp.stack(fnp.broadcast_arrays(*values))
    order = fnp.real(x) + fnp.imag(x) * 0.3183 if dtypes.is_complex(x.dtype) else x
    _, x = sort(order, x, axis=0, num_keys=1)
    gap = x[-1] - x[0]
    size = fnp.max(fnp.abs(x), axis=0)
    least = float(dtypes.finfo(x.dtype).eps) ** 0.5 * most
    near = fnp.abs(gap) <= fnp.maximum(_NEAR * size, least)
    middle = fnp.where(near, x, fnp.mean(x, axis=0))
    together = _mean_derivative(f, list(middle))
    above, below = (_differences(f, list(part), most) for part in (x[1:], x[:-1]))
    return fnp.where(near, together, (above - below) / fnp.where(near, 1, gap))


def _mean_derivative(f: Callable[[Any], Any], values: list[Any]) -> Any:
    """Return the integral of the n-th derivative over the simplex of n + 1 values."""
    n = len(values) - 1
    for _ in range(n):
        f = _derivative(f)
    points, weights = _simplex(n)
    # Numbers, not arrays of them: programs that stand for an operation hold no arrays.
    return sum(
        weight * f(sum(share * v for share, v in zip(shares, values, strict=True)))
        for shares, weight in zip(points.tolist(), weights.tolist(), strict=True)
    )


def _derivative(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda y: jvp(f, (y,), (fnp.ones_like(y),))[1]


def _simplex(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return barycentric coordinates and weights of a rule for the simplex of n + 1 corners.

    Gauss and Legendre's rule in n dimensions, by the map of the cube to the simplex that cuts off
    a share of what is left each time.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES.get(n, 4))
    grid = np.stack(np.meshgrid(*[(nodes + 1) / 2] * n, indexing="ij"), -1).reshape(-1, n)
    share = np.stack(np.meshgrid(*[weights / 2] * n, indexing="ij"), -1).reshape(-1, n).prod(1)
    left, points = np.ones(len(grid)), []
    for k in range(n):
        points.append(left * grid[:, k])
        share = share * left  # the derivative of the k-th coordinate of the map
        left = left * (1 - grid[:, k])
    return np.stack([*points, left], -1), share
