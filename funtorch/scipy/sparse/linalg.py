"""Linear systems given by a function, solved by iteration; differentiable at any depth.

Unknowns and right hand sides are pytrees. Derivatives do not go through the iterations: they solve
another system (`funtorch.lax.custom_linear_solve`).

References:
    Y. Saad, "Iterative methods for sparse linear systems", 2003: algorithms 6.9 (GMRES), 6.18 (CG),
    7.7 (BiCGSTAB).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import funtorch.numpy as fnp
from funtorch import dtypes, tree
from funtorch.numpy import promotion
from funtorch.transforms import custom_linear_solve, eval_shape, while_loop

__all__ = ["bicgstab", "cg", "gmres"]


# ----------------------------------------------------------------------------------- pytree vectors
def _inner(x: Any, y: Any) -> Any:
    """Return the real part of the inner product, and so a real number for the tests."""
    return functools.reduce(
        operator.add, [fnp.vdot(a, b) for a, b in zip(tree.leaves(x), tree.leaves(y), strict=True)]
    )


def _real_inner(x: Any, y: Any) -> Any:
    return _inner(x, y).real


def _norm(x: Any) -> Any:
    return fnp.sqrt(_real_inner(x, x))


def _plus(x: Any, y: Any, factor: Any = 1) -> Any:
    """Return x + factor * y."""
    return tree.map(lambda a, b: a + factor * b, x, y)


def _minus(x: Any, y: Any) -> Any:
    return tree.map(operator.sub, x, y)


def _times(factor: Any, x: Any) -> Any:
    return tree.map(lambda a: factor * a, x)


def _zeros(x: Any) -> Any:
    return tree.map(fnp.zeros_like, x)


def _safe(x: Any) -> Any:
    """Return a divisor that is not 0: what is divided is 0 too, or the loop ends."""
    return fnp.where(x == 0, fnp.ones_like(x), x)


# ------------------------------------------------------------------------------------------ methods
def _cg(matvec: Any, b: Any, x0: Any, *, tol: Any, atol: Any, maxiter: int, M: Any) -> Any:
    limit = _limit(b, tol, atol)

    def unfinished(state: Any) -> Any:
        _, r, gamma, _, k = state
        norm = gamma.real if M is _identity else _real_inner(r, r)
        return (norm > limit) & (k < maxiter)

    def step(state: Any) -> Any:
        x, r, gamma, p, k = state
        ap = matvec(p)
        alpha = gamma / _safe(_inner(p, ap).real).astype(gamma.dtype)
        x, r = _plus(x, p, alpha), _plus(r, ap, -alpha)
        z = M(r)
        new = _inner(r, z)
        p = _plus(z, p, new / _safe(gamma))
        return x, r, new, p, k + 1

    r = _minus(b, matvec(x0))
    z = M(r)
    return while_loop(unfinished, step, (x0, r, _inner(r, z), z, fnp.asarray(0, "int32")))[0]


def _bicgstab(matvec: Any, b: Any, x0: Any, *, tol: Any, atol: Any, maxiter: int, M: Any) -> Any:
    limit = _limit(b, tol, atol)

    def unfinished(state: Any) -> Any:
        _, r, *_, k = state
        return (_real_inner(r, r) > limit) & (k < maxiter) & (k >= 0)

    def step(state: Any) -> Any:
        x, r, shadow, alpha, omega, rho, p, q, k = state
        new = _inner(shadow, r)
        beta = new / _safe(rho) * alpha / _safe(omega)
        p = _plus(r, _plus(p, q, -omega), beta)
        phat = M(p)
        q = matvec(phat)
        alpha = new / _safe(_inner(shadow, q))
        s = _plus(r, q, -alpha)
        early = _real_inner(s, s) < limit
        shat = M(s)
        t = matvec(shat)
        omega = _inner(t, s) / _safe(_inner(t, t))
        half = _plus(x, phat, alpha)
        x = tree.map(lambda a, b: fnp.where(early, a, b), half, _plus(half, shat, omega))
        r = tree.map(lambda a, b: fnp.where(early, a, b), s, _plus(s, t, -omega))
        broken = (omega == 0) | (alpha == 0) | (new == 0)
        k = fnp.where(early | ~broken, k + 1, -1)
        return x, r, shadow, alpha, omega, new, p, q, k

    r = _minus(b, matvec(x0))
    one = fnp.ones_like(_inner(r, r))
    state = (x0, r, r, one, one, one, r, _zeros(r), fnp.asarray(0, "int32"))
    return while_loop(unfinished, step, state)[0]


def _gmres(
    matvec: Any, b: Any, x0: Any, *, tol: Any, atol: Any, restart: int, maxiter: int, M: Any
) -> Any:
    """Restarted GMRES, preconditioned from the left, on vectors with all leaves end to end."""
    flat, unflatten = _flattened(b)
    limit = fnp.sqrt(_limit(flat, tol, atol))

    def residual(v: Any) -> Any:
        return _flattened(M(_minus(b, matvec(unflatten(v)))))[0]

    def product(v: Any) -> Any:
        return _flattened(M(matvec(unflatten(v))))[0]

    def unfinished(state: Any) -> Any:
        _, _, norm, k = state
        return (norm > limit) & (k < maxiter)

    def step(state: Any) -> Any:
        x, r, norm, k = state
        x = x + _arnoldi_step(product, r, norm, restart)
        r = residual(x)
        return x, r, _norm(r), k + 1

    start = _flattened(x0)[0]
    r = residual(start)
    state = (start, r, _norm(r), fnp.asarray(0, "int32"))
    return unflatten(while_loop(unfinished, step, state)[0])


def _arnoldi_step(product: Any, r: Any, norm: Any, restart: int) -> Any:
    """Return the correction that makes the residual least over a Krylov space."""
    n = r.shape[0]
    eps = float(dtypes.finfo(r.dtype).eps)
    basis = fnp.zeros((restart + 1, n), r.dtype).at[0].set(r / _safe(norm))
    hessenberg = fnp.zeros((restart + 1, restart), r.dtype)

    def unfinished(state: Any) -> Any:
        return state[2] < restart

    def step(state: Any) -> Any:
        basis, hessenberg, k = state
        v = product(basis[k])
        before = _norm(v)
        h = fnp.zeros((restart + 1,), r.dtype)
        for _ in range(2):  # the second time takes away what rounding left
            part = fnp.conj(basis) @ v
            v, h = v - part @ basis, h + part
        after = _norm(v)
        lost = after <= eps * before  # the space is closed: nothing to add
        v = fnp.where(lost, 0, v / _safe(after))
        h = h.at[k + 1].set(fnp.where(lost, 0, after).astype(r.dtype))
        return basis.at[k + 1].set(v), hessenberg.at[:, k].set(h), k + 1

    state = (basis, hessenberg, fnp.asarray(0, "int32"))
    basis, hessenberg, _ = while_loop(unfinished, step, state)
    rhs = fnp.zeros((restart + 1,), r.dtype).at[0].set(norm.astype(r.dtype))
    y = fnp.linalg.lstsq(hessenberg, rhs)[0]
    return y @ basis[:-1]


def _flattened(x: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return the leaves as one vector, and the way back."""
    leaves, structure = tree.flatten(x)
    vector = fnp.concatenate([leaf.reshape((-1,)) for leaf in leaves])

    def back(v: Any) -> Any:
        out, start = [], 0
        for leaf in leaves:
            part = v[start : start + leaf.size]
            out.append(promotion.convert(part.reshape(leaf.shape), leaf.dtype))
            start += leaf.size
        return tree.unflatten(structure, out)

    return vector, back


def _identity(x: Any) -> Any:
    return x


def _limit(b: Any, tol: Any, atol: Any) -> Any:
    """Return the squared norm of the residual at which to stop."""
    return fnp.maximum(fnp.square(tol) * _real_inner(b, b), fnp.square(atol))


# ------------------------------------------------------------------------------------ public names
def _operator(A: Any, argument: str, name: str) -> Callable[[Any], Any]:
    if callable(A):
        return A
    a = promotion.to_array(A, name, argument)
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise ValueError(
            f"{name}: {argument} must be a function or a square matrix, got {promotion.describe(a)}"
        )
    return functools.partial(fnp.matmul, a)


def _solve(
    name: str,
    method: Callable[..., Any],
    A: Any,
    b: Any,
    x0: Any,
    M: Any,
    symmetric: bool,
    maxiter: Any,
    scale: int,
    **options: Any,
) -> tuple[Any, None]:
    b = tree.map(lambda leaf: _inexact(leaf, name, "b"), b)
    start = _zeros(b) if x0 is None else tree.map(lambda leaf: _inexact(leaf, name, "x0"), x0)
    if tree.structure(b) != tree.structure(start):
        raise ValueError(
            f"{name}: x0 and b must have one structure, got {tree.structure(start)} and "
            f"{tree.structure(b)}"
        )
    shapes = [[leaf.shape for leaf in tree.leaves(t)] for t in (start, b)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{name}: arrays in x0 and b must have matching shapes: {shapes}")
    if maxiter is None:
        maxiter = scale * sum(leaf.size for leaf in tree.leaves(b))
    maxiter = promotion.static_int(maxiter, f"{name}: maxiter")
    matvec = _operator(A, "A", name)
    precondition = _identity if M is None else _operator(M, "M", name)
    if name == "gmres":
        size = sum(leaf.size for leaf in tree.leaves(b))
        options["restart"] = min(promotion.static_int(options["restart"], "gmres: restart"), size)
    given = [*tree.leaves(start), *tree.leaves(b), *tree.leaves(eval_shape(matvec, b))]
    shared = dtypes.result_type_weak(*[(x.dtype, False) for x in given])[0]
    start = tree.map(lambda leaf: promotion.convert(leaf, shared), start)
    b = tree.map(lambda leaf: promotion.convert(leaf, shared), b)

    def run(matvec: Any, b: Any) -> Any:
        return method(matvec, b, start, maxiter=maxiter, M=precondition, **options)

    def run_transposed(matvec: Any, b: Any) -> Any:
        return method(matvec, b, _zeros(b), maxiter=maxiter, M=precondition, **options)

    x = custom_linear_solve(
        matvec, b, solve=run, transpose_solve=run_transposed, symmetric=symmetric
    )
    return x, None


def _inexact(x: Any, name: str, argument: str) -> Any:
    x = promotion.to_array(x, name, argument)
    return promotion.convert(x, dtypes.to_inexact(x.dtype))


def cg(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    tol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
) -> tuple[Any, None]:
    """Solve A x = b for a Hermitian positive definite A by conjugate gradients.

    Args:
        A: linear function, or matrix.
        b: array or pytree of arrays.
        x0: first guess, like b.
        tol, atol: stop when norm(residual) <= max(tol * norm(b), atol).
        maxiter: most iterations; None means 10 times the number of unknowns.
        M: an approximate inverse of A, function or matrix.

    Returns:
        (x, None).

    Raises:
        ValueError: shapes or structures do not fit.

    Example:
        >>> x, _ = cg(fnp.asarray([[4.0, 1.0], [1.0, 3.0]]), fnp.asarray([1.0, 2.0]))
        >>> x.round(3).tolist()
        [0.09099999815225601, 0.6359999775886536]

    References:
        scipy.sparse.linalg.cg
    """
    return _solve("cg", _cg, A, b, x0, M, True, maxiter, 10, tol=tol, atol=atol)


def bicgstab(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    tol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
) -> tuple[Any, None]:
    """Solve A x = b by stabilised biconjugate gradients; arguments as for `cg`.

    Example:
        >>> x, _ = bicgstab(fnp.asarray([[2.0, 1.0], [0.0, 4.0]]), fnp.asarray([3.0, 4.0]))
        >>> x.round(3).tolist()
        [1.0, 1.0]

    References:
        scipy.sparse.linalg.bicgstab
    """
    return _solve("bicgstab", _bicgstab, A, b, x0, M, False, maxiter, 10, tol=tol, atol=atol)


def gmres(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    tol: float = 1e-5,
    atol: float = 0.0,
    restart: int = 20,
    maxiter: int | None = None,
    M: Any = None,
    solve_method: str = "batched",
) -> tuple[Any, None]:
    """Solve A x = b by generalised minimal residuals.

    Args:
        A, b, x0, tol, atol, maxiter, M: as for `cg`; an iteration is one restart.
        restart: size of the Krylov space, which is kept in memory.
        solve_method: 'batched' or 'incremental'; both are computed alike.

    Example:
        >>> x, _ = gmres(fnp.asarray([[2.0, 1.0], [0.0, 4.0]]), fnp.asarray([3.0, 4.0]))
        >>> x.round(3).tolist()
        [1.0, 1.0]

    References:
        scipy.sparse.linalg.gmres
    """
    if solve_method not in ("batched", "incremental"):
        raise ValueError(
            f"gmres: solve_method must be 'batched' or 'incremental', got {solve_method!r}"
        )
    return _solve(
        "gmres", _gmres, A, b, x0, M, False, maxiter, 10, tol=tol, atol=atol, restart=restart
    )
