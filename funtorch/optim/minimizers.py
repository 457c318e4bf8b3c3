"""Minimising functions of pytrees to the end: for research code, not for noisy losses.

References:
    J. Nocedal, S. Wright, "Numerical optimization" (2006): 6.1 (BFGS), 7.1 (Newton-CG), 7.4
    (L-BFGS), 10.3 (least squares).
    K. Madsen, H. Nielsen, O. Tingleff, "Methods for non-linear least squares problems" (2004).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch import lax, tree
from funtorch.flatten_util import ravel_pytree
from funtorch.optim.base import check_positive
from funtorch.scipy import linalg
from funtorch.scipy import optimize as vectors
from funtorch.scipy.linesearch import line_search
from funtorch.transforms import grad, hvp, jacfwd, jacrev, value_and_grad

__all__ = ["MinimizeResults", "minimize"]


class MinimizeResults(NamedTuple):
    """What `minimize` found.

    Attributes:
        x: the place, a pytree like the start.
        fun: the value there; for least squares half the sum of squares.
        grad: the gradient there, a pytree.
        success: whether it converged.
        status: 0 if so, 1: maxiter was reached, 3: no step made the value smaller.
        nit: iterations.
        nfev: how often the function was computed.
    """

    x: Any
    fun: Any
    grad: Any
    success: Any
    status: Any
    nit: Any
    nfev: Any


class _End(NamedTuple):
    """Where a method ended, on vectors."""

    x: Any
    success: Any
    status: Any
    nit: Any
    nfev: Any


class _Stop(NamedTuple):
    """When to stop: largest gradient, relative change, and iterations."""

    gtol: float
    xtol: float
    maxiter: int


def _largest(g: Any) -> Any:
    return fnp.max(fnp.abs(g), initial=0)


def _status(done: Any, failed: Any) -> Any:
    return fnp.where(done, 0, fnp.where(failed, 3, 1)).astype(fnp.int32)


# ------------------------------------------------------------------------------------ quasi-Newton
def _quasi_newton(name: str) -> Callable[..., _End]:
    def run(f: Any, x: Any, stop: _Stop, memory: int) -> _End:
        options: dict[str, Any] = {"gtol": stop.gtol, "maxiter": stop.maxiter}
        if name == "l-bfgs":
            options["maxcor"] = memory
        end = vectors.minimize(f, x, method=name, options=options)
        return _End(end.x, end.success, end.status, end.nit, end.nfev)

    return run


# ---------------------------------------------------------------------------------------- Newton-CG
class _Newton(NamedTuple):
    x: Any
    f: Any
    g: Any
    before: Any
    k: Any
    nfev: Any
    done: Any
    failed: Any


def _newton_direction(f: Any, x: Any, g: Any) -> Any:
    """Solve H d = -g by conjugate gradients, up to a direction along which f bends down."""
    square = fnp.sum(g * g)
    norm = fnp.sqrt(square)
    near = fnp.minimum(0.5, fnp.sqrt(norm)) * norm

    def unfinished(state: Any) -> Any:
        _, r, _, _, k, bent = state
        return ~bent & (fnp.sqrt(fnp.sum(r * r)) > near) & (k < 2 * x.size + 10)

    def step(state: Any) -> Any:
        d, r, p, rr, k, _ = state
        hp = hvp(f, (x,), (p,))
        curvature = fnp.sum(p * hp)
        bent = curvature <= 0
        a = rr / fnp.where(bent, 1, curvature)
        # Where f bends down at once, the way is straight down.
        d = fnp.where(bent, fnp.where(k == 0, -g, d), d + a * p)
        r = r + a * hp
        new = fnp.sum(r * r)
        return d, r, -r + new / fnp.where(rr == 0, 1, rr) * p, new, k + 1, bent

    zero = fnp.zeros((), fnp.int32)
    start = (fnp.zeros_like(x), g, -g, square, zero, fnp.asarray(False))
    return lax.while_loop(unfinished, step, start)[0]


def _newton_cg(f: Any, x: Any, stop: _Stop, memory: int) -> _End:
    both = value_and_grad(f)

    def step(s: _Newton) -> _Newton:
        direction = _newton_direction(f, s.x, s.g)
        found = line_search(both, s.x, direction, s.f, s.g, s.before, 20)
        # The last digits of the value are noise: where its slope is 0, a whole step is right.
        stuck = found.failed
        whole_f, whole_g = both(s.x + direction)
        flat = stuck & (_largest(whole_g) < _largest(s.g)) & fnp.isfinite(whole_f)
        x = fnp.where(flat, s.x + direction, s.x + found.step * direction)
        f_new, g_new = fnp.where(flat, whole_f, found.f), fnp.where(flat, whole_g, found.g)
        return _Newton(
            x, f_new, g_new, s.f, s.k + 1, s.nfev + found.evaluations + 1,
            _largest(g_new) < stop.gtol, stuck & ~flat,
        )  # fmt: skip

    value, slope = both(x)
    zero = fnp.zeros((), fnp.int32)
    start = _Newton(
        x, value, slope, value + fnp.linalg.norm(slope) / 2, zero, zero + 1,
        _largest(slope) < stop.gtol, fnp.asarray(False),
    )  # fmt: skip
    end = lax.while_loop(lambda s: ~s.done & ~s.failed & (s.k < stop.maxiter), step, start)
    return _End(end.x, end.done, _status(end.done, end.failed), end.k, end.nfev)


# ------------------------------------------------------------------------------------ least squares
class _Squares(NamedTuple):
    """Where a method of least squares is; ``damping`` and ``factor`` are Levenberg-Marquardt's."""

    x: Any
    r: Any
    jacobian: Any
    scale: Any
    damping: Any
    factor: Any
    k: Any
    nfev: Any
    done: Any
    failed: Any


def _jacobian(residuals: Any, x: Any) -> Callable[[Any], Any]:
    rows = residuals(x).size
    return jacfwd(residuals) if x.size <= rows else jacrev(residuals)


def _columns(jacobian: Any) -> Any:
    return fnp.sqrt(fnp.sum(jacobian**2, axis=0))


def _start(residuals: Any, x: Any, stop: _Stop) -> _Squares:
    r, jacobian = residuals(x), _jacobian(residuals, x)(x)
    zero = fnp.zeros((), fnp.int32)
    one = fnp.ones((), x.dtype)
    scale = _columns(jacobian)
    return _Squares(
        x, r, jacobian, fnp.where(scale > 0, scale, 1), one * 1e-3, one * 2, zero, zero + 1,
        _largest(jacobian.T @ r) < stop.gtol, fnp.asarray(False),
    )  # fmt: skip


def _finish(step: Any, residuals: Any, x: Any, stop: _Stop) -> _End:
    start = _start(residuals, x, stop)
    end = lax.while_loop(lambda s: ~s.done & ~s.failed & (s.k < stop.maxiter), step, start)
    return _End(end.x, end.done, _status(end.done, end.failed), end.k, end.nfev)


def _small(move: Any, x: Any, xtol: float) -> Any:
    return fnp.linalg.norm(move) <= xtol * (xtol + fnp.linalg.norm(x))


def _levenberg_marquardt(residuals: Any, x: Any, stop: _Stop, memory: int) -> _End:
    jacobian_of = _jacobian(residuals, x)

    def step(s: _Squares) -> _Squares:
        # QR of the damped Jacobian: the normal equations would square its condition.
        damped = fnp.concatenate([s.jacobian, fnp.diag(fnp.sqrt(s.damping) * s.scale)])
        q, upper = fnp.linalg.qr(damped)
        move = -linalg.solve_triangular(upper, q[: s.r.size].T @ s.r)
        r = residuals(s.x + move)
        slope = s.jacobian.T @ s.r
        hoped = fnp.sum(move * (s.damping * s.scale**2 * move - slope)) / 2
        gain = (fnp.sum(s.r**2) - fnp.sum(r**2)) / 2 / fnp.where(hoped > 0, hoped, 1)
        good = (gain > 0) & fnp.all(fnp.isfinite(r))
        x = fnp.where(good, s.x + move, s.x)
        jacobian = lax.cond(good, jacobian_of, lambda x: s.jacobian, x)
        r = fnp.where(good, r, s.r)
        less = s.damping * fnp.maximum(1 / 3, 1 - (2 * fnp.minimum(gain, 1) - 1) ** 3)
        small = _small(s.scale * move, s.scale * s.x, stop.xtol)
        return _Squares(
            x, r, jacobian, fnp.maximum(s.scale, _columns(jacobian)),
            fnp.where(good, less, s.damping * s.factor).astype(x.dtype),
            fnp.where(good, 2, 2 * s.factor).astype(x.dtype),
            s.k + 1, s.nfev + 1,
            (_largest(jacobian.T @ r) < stop.gtol) | small,
            ~fnp.all(fnp.isfinite(move)),
        )  # fmt: skip

    return _finish(step, residuals, x, stop)


def _gauss_newton(residuals: Any, x: Any, stop: _Stop, memory: int) -> _End:
    jacobian_of = _jacobian(residuals, x)

    def step(s: _Squares) -> _Squares:
        move = -fnp.linalg.lstsq(s.jacobian, s.r)[0]
        slope = fnp.sum((s.jacobian.T @ s.r) * move)
        square = fnp.sum(s.r**2) / 2

        def too_long(trial: Any) -> Any:
            a, new, k = trial
            worse = ~(new <= square + 1e-4 * a * slope)
            return worse & (k < 40)

        def halve(trial: Any) -> Any:
            a, _, k = trial
            return a / 2, fnp.sum(residuals(s.x + a / 2 * move) ** 2) / 2, k + 1

        one = fnp.ones((), s.x.dtype)
        first = (one, fnp.sum(residuals(s.x + move) ** 2) / 2, fnp.zeros((), fnp.int32))
        a, new, halved = lax.while_loop(too_long, halve, first)
        better = new <= square
        x = fnp.where(better, s.x + a * move, s.x)
        r, jacobian = residuals(x), jacobian_of(x)
        small = _small(a * move, s.x, stop.xtol) & better
        done = (_largest(jacobian.T @ r) < stop.gtol) | small
        return s._replace(
            x=x, r=r, jacobian=jacobian, k=s.k + 1, nfev=s.nfev + 2 + halved, done=done,
            failed=~done & ~(new < square),
        )  # fmt: skip

    return _finish(step, residuals, x, stop)


# -------------------------------------------------------------------------------------------- face
class _Method(NamedTuple):
    run: Callable[[Any, Any, _Stop, int], _End]
    squares: bool
    maxiter: int


_METHODS: Mapping[str, _Method] = {
    "bfgs": _Method(_quasi_newton("bfgs"), False, 1000),
    "l-bfgs": _Method(_quasi_newton("l-bfgs"), False, 1000),
    "newton-cg": _Method(_newton_cg, False, 200),
    "gauss-newton": _Method(_gauss_newton, True, 200),
    "levenberg-marquardt": _Method(_levenberg_marquardt, True, 200),
}


def _check(name: Any, x: Any) -> _Method:
    method = _METHODS.get(name.lower()) if isinstance(name, str) else None
    if method is None:
        raise ValueError(f"minimize: method is one of {', '.join(_METHODS)}; it was given {name!r}")
    for path, leaf in tree.leaves_with_path(x):
        dtype = fnp.asarray(leaf).dtype
        if not fnp.issubdtype(dtype, fnp.floating):
            raise TypeError(
                f"minimize: x0 must be real floats; x0{tree.keystr(path)} is of dtype {dtype}"
            )
    return method


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    *,
    method: str = "bfgs",
    tol: float = 1e-5,
    xtol: float | None = None,
    maxiter: int | None = None,
    memory: int = 10,
    implicit: bool = True,
) -> MinimizeResults:
    """Find a place where a function of a pytree is least.

    ====================  =====================================================================
    bfgs                  estimates the inverse Hessian, for up to some thousand elements
    l-bfgs                the same from the last steps only, for any number
    newton-cg             products with the Hessian: few iterations, each of several products
    gauss-newton          least squares: of the Jacobian, for residuals that become small
    levenberg-marquardt   the same with damping: from anywhere, for any residuals
    ====================  =====================================================================

    The result can be jitted, batched, and differentiated with respect to ``args`` and to what
    ``fun`` closes over: by the implicit function theorem, at no cost of the iterations.

    Args:
        fun: function of a pytree and ``args``: to a number; or, for least squares, to a pytree of
            residuals, half of whose squares' sum is minimised.
        x0: pytree of real arrays to start from.
        args: further arguments.
        method: one of the above.
        tol: largest element of the gradient to stop at.
        xtol: for least squares, relative change of x to stop at; the dtype's eps by default.
        maxiter: most iterations.
        memory: how many steps 'l-bfgs' remembers.
        implicit: whether derivatives are those of the minimum; False differentiates the
            iterations.

    Returns:
        A `MinimizeResults`.

    Raises:
        ValueError: there is no such method, or ``tol`` is negative.
        TypeError: ``x0`` is not real, or ``args`` no tuple.

    Example:
        >>> found = optim.minimize(lambda p: ((p["a"] - 3.0) ** 2).sum(), {"a": fnp.zeros(2)})
        >>> fnp.round(found.x["a"], 3), bool(found.success)
        (Array([3., 3.], dtype=float32), True)
        >>> nearest = lambda c: optim.minimize(lambda x: (x - c) ** 2 + x**4, 0.0).x
        >>> slope = ft.grad(nearest)(3.0)  # 2 / (2 + 12 x²) at x = 1
        >>> round(float(slope), 3)
        0.143

    References:
        scipy.optimize.minimize, scipy.optimize.least_squares
    """
    if not isinstance(args, tuple):
        raise TypeError(f"minimize: args must be a tuple, got {type(args).__name__}: {args!r:.80}")
    chosen = _check(method, x0)
    check_positive("minimize", tol=tol)
    start, back = ravel_pytree(tree.map(fnp.asarray, x0))
    xtol = float(fnp.finfo(start.dtype).eps) if xtol is None else xtol
    stop = _Stop(tol, xtol, chosen.maxiter if maxiter is None else maxiter)

    def residuals(x: Any) -> Any:
        return ravel_pytree(fun(back(x), *args))[0]

    def value(x: Any) -> Any:
        if chosen.squares:
            return fnp.sum(residuals(x) ** 2) / 2
        return fnp.asarray(fun(back(x), *args))

    def run(x: Any) -> _End:
        return chosen.run(residuals if chosen.squares else value, x, stop, memory)

    if implicit:
        found, rest = lax.custom_root(
            grad(value), start, lambda _, x: _split(run(x)), _solve_linear, has_aux=True
        )
    else:
        found, rest = _split(run(start))
    final, slope = value_and_grad(value)(found)
    return MinimizeResults(back(found), final, back(slope), *rest)


def _split(end: _End) -> tuple[Any, tuple[Any, ...]]:
    return end.x, (end.success, end.status, end.nit, end.nfev)


def _solve_linear(g: Callable[[Any], Any], y: Any) -> Any:
    return fnp.linalg.solve(jacfwd(g)(fnp.zeros_like(y)), y)
