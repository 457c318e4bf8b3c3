"""Ordinary differential equations, with gradients by the adjoint equation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from funtorch import numpy as fnp
from funtorch import tree
from funtorch.core import Array, ArrayImpl, aval_of
from funtorch.flatten_util import ravel_pytree
from funtorch.lax import scan, while_loop
from funtorch.transforms import closure_convert, custom_vjp, vjp, vmap

__all__ = ["odeint"]

# The method of Dormand and Prince, of order 5 with an error estimate of order 4; its last stage is
# the next step's first.
_NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (-71 / 57600, 0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40)
# Shampine's interpolant: row k gives the powers 1 to 4 of the part of a step that stage k counts.
_INTERPOLANT = (
    (1, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432),
    (0, 0, 0, 0),
    (0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799),
    (0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072),
    (0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632),
    (0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844),
    (0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423),
)
_SAFETY, _GROW, _SHRINK, _ORDER = 0.9, 10.0, 0.2, 5


class _Options(NamedTuple):
    rtol: float
    atol: float
    mxstep: float
    hmax: float


def odeint(
    func: Callable[..., Any],
    y0: Any,
    t: Any,
    *args: Any,
    rtol: float = 1.4e-8,
    atol: float = 1.4e-8,
    mxstep: float = np.inf,
    hmax: float = np.inf,
) -> Any:
    """Integrate the differential equation ``dy/dt = func(y, t, *args)`` with steps of fitting size.

    Reverse mode solves the adjoint equation backwards, in memory that does not depend on the
    number of steps.

    Args:
        func: a function of a state, a time and ``args`` that returns what is like the state.
        y0: the state at ``t[0]``: a pytree of float or complex arrays.
        t: increasing times, a float array of rank 1.
        *args: pytrees of arrays, for ``func``. What it closes over is differentiated as well.
        rtol: relative tolerance of the error of a step.
        atol: absolute tolerance.
        mxstep: most steps between two times; what would take more is nan.
        hmax: longest step.

    Returns:
        The states at all times: like ``y0``, with a leading axis of the size of ``t``.

    Raises:
        TypeError: if ``t`` is not a float array, or ``func`` returns what is not like the state.
        ValueError: if ``t`` has no elements, is not of rank 1, or is known not to increase.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.experimental.ode import odeint
        >>> t = ft.numpy.array([0.0, 1.0, 2.0])
        >>> odeint(lambda y, t: -y, 1.0, t, rtol=1e-5, atol=1e-6).round(3)
        Array([1.   , 0.368, 0.135], dtype=float32)

    References:
        Dormand and Prince, A family of embedded Runge-Kutta formulae (1980). Shampine, Some
        practical Runge-Kutta formulas (1986): the interpolant. Hairer, Norsett and Wanner, Solving
        Ordinary Differential Equations I, II.4: the first step. Chen et al., Neural ordinary
        differential equations (2018), appendix C: the adjoint.
    """
    times = _checked_times(t)
    y0 = tree.map(_inexact, y0)
    args = tree.map(fnp.asarray, args)
    _check_slope(func, y0, times, args)
    converted, consts = closure_convert(func, y0, times[0], *args)
    flat, unravel = ravel_pytree(y0)
    leaves, structure = tree.flatten((args, list(consts)))

    def slope(y: Any, s: Any, *given: Any) -> Any:
        own, closed = structure.unflatten(given)
        return ravel_pytree(converted(unravel(y), s, *own, *closed))[0].astype(y.dtype)

    options = _Options(float(rtol), float(atol), float(mxstep), float(hmax))
    return vmap(unravel)(_solve(slope, options, flat, times, *leaves))


def _inexact(x: Any) -> Any:
    x = fnp.asarray(x)
    return x if fnp.issubdtype(x.dtype, np.inexact) else x.astype(float)


def _checked_times(t: Any) -> Any:
    if not isinstance(t, (Array, np.ndarray, list, tuple)):
        raise TypeError(f"odeint: t must be an array of times, got {type(t).__name__}")
    times = fnp.asarray(t)
    if not fnp.issubdtype(times.dtype, np.floating):
        raise TypeError(
            f"odeint: t must be a float array, got dtype {times.dtype.name}: convert it with "
            "astype(float)"
        )
    if times.ndim != 1 or not times.size:
        raise ValueError(
            "odeint: t must be a non-empty array of rank 1, whose first element is the time of y0, "
            f"got shape {times.shape}"
        )
    if isinstance(times, ArrayImpl) and not (np.diff(np.asarray(times)) > 0).all():
        raise ValueError(
            "odeint: t must increase; to integrate backwards solve for y(-t), whose slope is "
            "-func(y, -t)"
        )
    return times


def _check_slope(func: Callable[..., Any], y0: Any, times: Any, args: Any) -> None:
    found = tree.map(fnp.asarray, func(y0, times[0], *args))
    if tree.structure(found) != tree.structure(y0):
        raise TypeError(
            f"odeint: func must return the structure of the state, {tree.structure(y0)}, got "
            f"{tree.structure(found)}"
        )
    for k, (y, f) in enumerate(zip(tree.leaves(y0), tree.leaves(found), strict=True)):
        if y.shape != f.shape:
            raise TypeError(
                f"odeint: func must return the shapes of the state, but leaf {k} is "
                f"{aval_of(f).str_short()} for a state of {aval_of(y).str_short()}"
            )


# ----------------------------------------------------------------------------------------- steps
def _combined(weights: Any, stages: list[Any]) -> Any:
    return sum(float(w) * k for w, k in zip(weights, stages, strict=True) if w)


def _step(f: Callable[..., Any], y: Any, slope: Any, t: Any, dt: Any) -> tuple[Any, Any, Any, Any]:
    """Return the next state, its slope, the error, and the coefficients of the interpolant."""
    stages, h, at = [slope], dt.astype(y.dtype), y
    for node, weights in zip(_NODES, _STAGES, strict=True):
        at = y + h * _combined(weights, stages)
        stages.append(f(at, t + dt * node))
    powers = fnp.stack([h * _combined(w, stages) for w in zip(*_INTERPOLANT, strict=True)])
    return at, stages[-1], h * _combined(_ERROR, stages), powers


def _mean_ratio(error: Any, scale: Any) -> Any:
    return fnp.sqrt(fnp.mean((fnp.abs(error) / scale) ** 2)) if error.size else fnp.sum(scale)


def _first_step(f: Callable[..., Any], y: Any, slope: Any, t: Any, options: _Options) -> Any:
    scale = options.atol + options.rtol * fnp.abs(y)
    d0, d1 = (fnp.sqrt(fnp.sum((fnp.abs(v) / scale) ** 2)) for v in (y, slope))
    h0 = fnp.where((d0 < 1e-5) | (d1 < 1e-5), 1e-6, 0.01 * d0 / fnp.where(d1 == 0, 1, d1))
    after = f(y + h0.astype(y.dtype) * slope, t + h0.astype(t.dtype))
    d2 = fnp.sqrt(fnp.sum((fnp.abs(after - slope) / scale) ** 2)) / h0
    top = fnp.maximum(d1, d2)
    by_curve = (0.01 / fnp.where(top == 0, 1, top)) ** (1 / _ORDER)
    h1 = fnp.where(top <= 1e-15, fnp.maximum(1e-6, h0 * 1e-3), by_curve)
    return fnp.minimum(fnp.minimum(100 * h0, h1), options.hmax).astype(t.dtype)


def _next_size(dt: Any, ratio: Any, options: _Options) -> Any:
    lowest = fnp.where(ratio < 1, 1.0, _SHRINK)
    factor = fnp.clip(_SAFETY * fnp.where(ratio == 0, 1, ratio) ** (-1 / _ORDER), lowest, _GROW)
    factor = fnp.where(ratio == 0, _GROW, factor)
    return fnp.minimum(dt * factor.astype(dt.dtype), options.hmax).astype(dt.dtype)


def _states(
    func: Callable[..., Any], options: _Options, y0: Any, times: Any, args: tuple[Any, ...]
) -> Any:
    """Return the states, flat ones of rank 1, at all times."""

    def f(y: Any, t: Any) -> Any:
        return func(y, t, *args)

    def advance(carry: Any, target: Any) -> tuple[Any, Any]:
        def goes_on(state: Any) -> Any:
            count, (_, _, t, dt, _, _, _) = state
            return (t < target) & (count < options.mxstep) & (dt > 0)

        def step(state: Any) -> Any:
            count, (y, slope, t, dt, start, base, powers) = state
            new_y, new_slope, error, new_powers = _step(f, y, slope, t, dt)
            scale = options.atol + options.rtol * fnp.maximum(fnp.abs(y), fnp.abs(new_y))
            ratio = _mean_ratio(error, scale)
            size = _next_size(dt, ratio, options)
            new = (new_y, new_slope, t + dt, size, t, y, new_powers)
            old = (y, slope, t, size, start, base, powers)
            return count + 1, tree.map(lambda a, b: fnp.where(ratio <= 1, a, b), new, old)

        _, carry = while_loop(goes_on, step, (fnp.zeros((), np.int32), carry))
        _, _, t, _, start, base, powers = carry
        part = ((target - start) / (t - start)).astype(y0.dtype)
        p1, p2, p3, p4 = powers
        found = base + part * (p1 + part * (p2 + part * (p3 + part * p4)))
        return carry, fnp.where(t < target, fnp.nan, found)

    slope = f(y0, times[0])
    dt = _first_step(f, y0, slope, times[0], options)
    powers = fnp.zeros((4, *y0.shape), y0.dtype)
    carry = (y0, slope, times[0], dt, times[0], y0, powers)
    _, found = scan(advance, carry, times[1:])
    return fnp.concatenate([y0[None], found.astype(y0.dtype)])


# --------------------------------------------------------------------------------------- adjoint
def _primal(func: Callable[..., Any], options: _Options, y0: Any, times: Any, *args: Any) -> Any:
    return _states(func, options, y0, times, args)


_solve = custom_vjp(_primal, nondiff_argnums=(0, 1))


def _forward(
    func: Callable[..., Any], options: _Options, y0: Any, times: Any, *args: Any
) -> tuple[Any, Any]:
    states = _solve(func, options, y0, times, *args)
    return states, (states, times, args)


def _backward(func: Callable[..., Any], options: _Options, residuals: Any, ct: Any) -> Any:
    states, times, args = residuals
    chosen = [k for k, a in enumerate(args) if fnp.issubdtype(a.dtype, np.inexact)]

    def slope_of(y: Any, t: Any, *some: Any) -> Any:
        full = list(args)
        for k, a in zip(chosen, some, strict=True):
            full[k] = a
        return func(y, t, *full)

    some = [args[k] for k in chosen]

    def adjoint(state: Any, s: Any, *some: Any) -> Any:
        """The equation of (state, its cotangent, those of the arguments) in the time -t."""
        y, bar, _ = state
        slope, pull = vjp(lambda y, *a: slope_of(y, -s, *a), y, *some)
        y_bar, *bars = pull(bar)
        return -slope, y_bar, bars

    def back(carry: Any, now: Any) -> tuple[Any, Any]:
        bar, bars = carry
        y, t, earlier, ct_now, ct_earlier = now
        t_bar = fnp.sum(slope_of(y, t, *some) * ct_now).real
        found = odeint(
            adjoint, (y, bar, bars), fnp.stack([-t, -earlier]), *some, **options._asdict()
        )
        _, bar, bars = tree.map(lambda x: x[1], found)
        return (bar + ct_earlier, bars), t_bar

    carry = (ct[-1], [fnp.zeros_like(a) for a in some])
    each = (states[1:], times[1:], times[:-1], ct[1:], ct[:-1])
    (y_bar, bars), t_bars = scan(back, carry, each, reverse=True)
    first = -fnp.sum(slope_of(states[0], times[0], *some) * (y_bar - ct[0])).real
    t_bar = fnp.concatenate([first[None], t_bars]).astype(times.dtype)
    out: list[Any] = [None] * len(args)
    for k, b in zip(chosen, bars, strict=True):
        out[k] = b
    return (y_bar, t_bar, *out)


_solve.defvjp(_forward, _backward)
