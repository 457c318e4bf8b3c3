"""Minimising functions of vectors under SciPy's names.

References:
    J. Nocedal, S. Wright, "Numerical optimization", 2006: algorithms 3.5, 3.6 (line search by the
    strong Wolfe conditions), 6.1 (BFGS), 7.4 (two-loop recursion of L-BFGS).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import Array
from funtorch.numpy import promotion
from funtorch.scipy.linesearch import line_search
from funtorch.transforms import scan, value_and_grad, while_loop

__all__ = ["OptimizeResults", "minimize"]


class OptimizeResults(NamedTuple):
    """What `minimize` found.

    Attributes:
        x: the place.
        success: whether the gradient is small enough there.
        status: 0 if so, 1: maxiter was reached, 3: the line search found no step.
        fun: the value.
        jac: the gradient.
        hess_inv: the estimate of the inverse of the Hessian; None for L-BFGS.
        nfev, njev: how often the function and its gradient were computed.
        nit: iterations.
    """

    x: Array
    success: Array | bool
    status: Array | int
    fun: Array
    jac: Array
    hess_inv: Array | None
    nfev: Array | int
    njev: Array | int
    nit: Array | int


class _State(NamedTuple):
    """Where the iteration is; ``memory`` is what the method knows about curvature."""

    x: Any
    f: Any
    g: Any
    memory: Any
    k: Any
    nfev: Any
    before: Any
    failed: Any
    done: Any


def _dot(a: Any, b: Any) -> Any:
    return fnp.sum(a * b)


# ------------------------------------------------------------------------------------------ methods
def _bfgs_start(n: int, dtype: Any, options: Mapping[str, Any]) -> Any:
    return fnp.eye(n, dtype=dtype)


def _bfgs_direction(h: Any, g: Any) -> Any:
    return -(h @ g)


def _bfgs_update(h: Any, s: Any, y: Any) -> Any:
    rho = 1 / _dot(y, s)
    fine = fnp.isfinite(rho) & (rho > 0)
    rho = fnp.where(fine, rho, 0)
    hy = h @ y
    outer = fnp.outer(s, hy)
    new = h - rho * (outer + outer.T) + (rho * rho * _dot(y, hy) + rho) * fnp.outer(s, s)
    return fnp.where(fine, new, h)


def _lbfgs_start(n: int, dtype: Any, options: Mapping[str, Any]) -> Any:
    m = promotion.static_int(options.get("maxcor", 10), "minimize: maxcor")
    if m < 1:
        raise ValueError(f"minimize: maxcor must be positive, got {m}")
    history = fnp.zeros((m, n), dtype)
    return history, history, fnp.zeros((m,), dtype), fnp.ones((), dtype)


def _lbfgs_direction(memory: Any, g: Any) -> Any:
    steps, changes, rhos, gamma = memory

    def down(q: Any, row: Any) -> Any:
        s, y, rho = row
        alpha = rho * _dot(s, q)
        return q - alpha * y, alpha

    def up(q: Any, row: Any) -> Any:
        s, y, rho, alpha = row
        return q + (alpha - rho * _dot(y, q)) * s, None

    # The latest first, then backwards; rows not filled yet have rho 0.
    q, alphas = scan(down, -g, (steps, changes, rhos))
    return scan(up, gamma * q, (steps, changes, rhos, alphas), reverse=True)[0]


def _lbfgs_update(memory: Any, s: Any, y: Any) -> Any:
    steps, changes, rhos, _ = memory
    curvature = _dot(s, y)
    fine = curvature > 0
    new = (
        fnp.roll(steps, 1, 0).at[0].set(s),
        fnp.roll(changes, 1, 0).at[0].set(y),
        fnp.roll(rhos, 1).at[0].set(1 / fnp.where(fine, curvature, 1)),
        curvature / fnp.where(fine, _dot(y, y), 1),
    )
    return tuple(fnp.where(fine, a, b) for a, b in zip(new, memory, strict=True))


class _Method(NamedTuple):
    start: Callable[..., Any]
    direction: Callable[[Any, Any], Any]
    update: Callable[[Any, Any, Any], Any]
    iterations: int
    options: tuple[str, ...]


_METHODS = {
    "bfgs": _Method(
        _bfgs_start, _bfgs_direction, _bfgs_update, 200, ("maxiter", "norm", "gtol",
        "line_search_maxiter"),
    ),
    "l-bfgs-experimental-do-not-rely-on-this": _Method(
        _lbfgs_start, _lbfgs_direction, _lbfgs_update, 200, ("maxiter", "norm", "maxcor", "ftol",
        "gtol", "maxfun", "maxgrad", "maxls"),
    ),
}  # fmt: skip
_METHODS["l-bfgs"] = _METHODS["l-bfgs-experimental-do-not-rely-on-this"]


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    *,
    method: str,
    tol: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> OptimizeResults:
    """Find a place where a function of a vector is least, by its gradient.

    It can be jitted and batched; it is not differentiable in reverse.

    Args:
        fun: function of a vector and ``args``, returning a number.
        x0: vector to start from.
        args: further arguments.
        method: 'BFGS', or 'l-bfgs' (also by JAX's name 'l-bfgs-experimental-do-not-rely-on-this').
        tol: the same as the option ``gtol``.
        options: maxiter (most iterations), gtol (largest gradient to stop at, 1e-5), norm (of which
            order, inf), line_search_maxiter or maxls; for 'l-bfgs' maxcor (steps remembered, 10).

    Returns:
        An `OptimizeResults`.

    Raises:
        TypeError: x0 is no array, or args no tuple.
        ValueError: there is no such method or option, or x0 is no vector.

    Example:
        >>> found = minimize(lambda x: fnp.sum((x - 3.0) ** 2), fnp.zeros(2), method="BFGS")
        >>> found.x.round(3).tolist(), bool(found.success)
        ([3.0, 3.0], True)

    References:
        scipy.optimize.minimize
    """
    if not isinstance(args, tuple):
        raise TypeError(f"minimize: args must be a tuple, got {type(args).__name__}: {args!r:.80}")
    if not isinstance(method, str) or method.lower() not in _METHODS:
        raise ValueError(f"minimize: method must be 'BFGS' or 'l-bfgs', got {method!r}")
    chosen = _METHODS[method.lower()]
    given = dict(options or {})
    unknown = set(given) - set(chosen.options)
    if unknown:
        raise ValueError(
            f"minimize: {method} has no options {sorted(unknown)}; it has {sorted(chosen.options)}"
        )
    x = promotion.to_array(x0, "minimize", "x0")
    x = promotion.convert(x, dtypes.to_inexact(x.dtype))
    if x.ndim != 1 or dtypes.is_complex(x.dtype):
        raise ValueError(f"minimize: x0 must be a real vector, got {promotion.describe(x)}")
    gtol = given.get("gtol", 1e-5 if tol is None else tol)
    return _iterate(fun, x, args, chosen, given, gtol)


def _iterate(
    fun: Any, x: Any, args: Any, method: _Method, options: Mapping[str, Any], gtol: Any
) -> OptimizeResults:
    order = options.get("norm", np.inf)
    n = x.shape[0]
    limit = options.get("maxiter")
    limit = n * method.iterations if limit is None else limit
    searches = options.get("line_search_maxiter", options.get("maxls", 10))
    both = value_and_grad(lambda p: fun(p, *args))

    def unfinished(state: _State) -> Any:
        return ~state.done & ~state.failed & (state.k < limit)

    def step(state: _State) -> _State:
        direction = method.direction(state.memory, state.g)
        found = line_search(both, state.x, direction, state.f, state.g, state.before, searches)
        s, y = found.step * direction, found.g - state.g
        return _State(
            state.x + s,
            found.f,
            found.g,
            method.update(state.memory, s, y),
            state.k + 1,
            state.nfev + found.evaluations,
            state.f,
            found.failed,
            fnp.linalg.norm(found.g, order) < gtol,
        )

    f, g = both(x)
    zero = fnp.asarray(0, "int32")
    # The first step aims at a decrease of half the gradient's norm.
    start = _State(
        x, f, g, method.start(n, x.dtype, options), zero, zero + 1, f + fnp.linalg.norm(g) / 2,
        fnp.asarray(False), fnp.linalg.norm(g, order) < gtol,
    )  # fmt: skip
    end = while_loop(unfinished, step, start)
    status = fnp.where(end.done, 0, fnp.where(end.failed, 3, fnp.where(end.k >= limit, 1, -1)))
    hessian = end.memory if method is _METHODS["bfgs"] else None
    return OptimizeResults(
        end.x, end.done & ~end.failed, status, end.f, end.g, hessian, end.nfev, end.nfev, end.k
    )
