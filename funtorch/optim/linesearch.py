"""Step lengths found by trying: backtracking, and zooming in on the strong Wolfe conditions.

Notation: φ(a) the loss at params + a * updates, φ'(a) its slope.

References:
    J. Nocedal, S. Wright, "Numerical optimization" (2006), algorithms 3.1, 3.5 and 3.6.
    W. Hager, H. Zhang, "A new conjugate gradient method with guaranteed descent and an efficient
    line search" (2005): the approximate decrease condition.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch import debug, lax, tree
from funtorch.optim.base import (
    GradientTransformationExtraArgs,
    check_params,
    each,
    is_none,
    piece_with_extra,
    zeros_like,
)
from funtorch.optim.norms import total
from funtorch.optim.scaling import times
from funtorch.optim.states import tree_get
from funtorch.transforms import value_and_grad

__all__ = [
    "BacktrackingLinesearchInfo",
    "ScaleByBacktrackingLinesearchState",
    "ScaleByZoomLinesearchState",
    "ZoomLinesearchInfo",
    "scale_by_backtracking_linesearch",
    "scale_by_zoom_linesearch",
    "value_and_grad_from_state",
]


class BacktrackingLinesearchInfo(NamedTuple):
    """How many steps were tried, and by how much the last one decreased too little."""

    num_linesearch_steps: Any
    decrease_error: Any


class ScaleByBacktrackingLinesearchState(NamedTuple):
    """The last step length, the loss there, and its gradient if it is kept."""

    learning_rate: Any
    value: Any
    grad: Any
    info: BacktrackingLinesearchInfo


class ZoomLinesearchInfo(NamedTuple):
    """How many steps were tried, and how far the last one was from both conditions."""

    num_linesearch_steps: Any
    decrease_error: Any
    curvature_error: Any


class ScaleByZoomLinesearchState(NamedTuple):
    """The last step length, the loss there, and its gradient."""

    learning_rate: Any
    value: Any
    grad: Any
    info: ZoomLinesearchInfo


def _dot(x: Any, y: Any) -> Any:
    return total(lambda a, b: fnp.real(fnp.conj(a) * b), x, y)


def _real_dtype(params: Any) -> Any:
    leaves = tree.leaves(params)
    return fnp.real(fnp.zeros((), leaves[0].dtype if leaves else None)).dtype


def _slopes(loss: Callable[[Any], Any], like: Any, params: Any) -> tuple[Any, Any]:
    """Return a loss and its gradient, the latter only where ``like`` has something.

    What does not move may well be of integers, as the buffers of a model are.
    """

    def of_own(own: Any) -> Any:
        return loss(tree.map(lambda o, p: p if o is None else o, own, params, is_leaf=is_none))

    return value_and_grad(of_own)(each(lambda own, p: p, like, params))


def _moved(params: Any, step: Any, updates: Any) -> Any:
    """Return ``params + step * updates``; where there is no update, the parameter."""
    return tree.map(
        lambda u, p: p if u is None else (p + step.astype(fnp.real(p).dtype) * u).astype(p.dtype),
        updates,
        params,
        is_leaf=is_none,
    )


def _bind(name: str, value_fn: Any, extra: dict[str, Any]) -> Callable[[Any], Any]:
    """Return the loss as a function of the parameters alone, given its other arguments by name."""
    if not callable(value_fn):
        raise ValueError(
            f"{name} tries steps: call update(grads, state, params, value=loss, grad=grads, "
            "value_fn=f), with f the loss as a function of the parameters"
        )
    known = inspect.signature(value_fn).parameters
    free = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    unknown = [] if free else sorted(set(extra) - set(known))
    if unknown:
        raise TypeError(
            f"{name}: update was given the arguments {', '.join(unknown)}, which value_fn does not "
            f"take; it takes {', '.join(known)}"
        )
    return lambda params: value_fn(params, **extra)


# ------------------------------------------------------------------------------------- backtracking
class _Trial(NamedTuple):
    rate: Any
    value: Any
    grad: Any
    error: Any
    number: Any


def scale_by_backtracking_linesearch(
    max_backtracking_steps: int,
    slope_rtol: float = 1e-4,
    decrease_factor: float = 0.8,
    increase_factor: float = 1.5,
    max_learning_rate: float = 1.0,
    atol: float = 0.0,
    rtol: float = 0.0,
    store_grad: bool = False,
    verbose: bool = False,
) -> GradientTransformationExtraArgs:
    """Multiply updates by a step length that is shortened until the loss decreases enough.

    Enough: φ(a) <= (1 + rtol) φ(0) + slope_rtol a φ'(0) + atol.

    Args:
        max_backtracking_steps: how often a step is shortened at most.
        slope_rtol: part of the slope that the decrease must have.
        decrease_factor: by which steps are shortened.
        increase_factor: by which the first step is longer than the last one that was taken.
        max_learning_rate: longest step.
        atol: how much too little the decrease may be.
        rtol: the same, as a part of the loss.
        store_grad: whether to keep the gradient at the end; see `value_and_grad_from_state`.
        verbose: whether to say where no step was good enough.

    Returns:
        The transformation; its update needs ``params``, ``value``, ``grad`` and ``value_fn``, and
        takes the further arguments of ``value_fn`` by name.

    Raises:
        TypeError: an argument is none of ``value_fn``'s.
        ValueError: one is missing.

    Example:
        >>> optimizer = optim.chain(optim.sgd(1.0), optim.scale_by_backtracking_linesearch(15))
        >>> loss = lambda x: (x**2).sum()
        >>> x, state = fnp.array([2.0]), optimizer.init(fnp.zeros(1))
        >>> value, grad = ft.value_and_grad(loss)(x)
        >>> updates, state = optimizer.update(grad, state, x, value=value, grad=grad, value_fn=loss)
        >>> bool(loss(x + updates) < value)
        True
    """

    def init(params: Any) -> ScaleByBacktrackingLinesearchState:
        dtype = _real_dtype(params)
        inf = fnp.full((), fnp.inf, dtype)
        return ScaleByBacktrackingLinesearchState(
            fnp.ones((), dtype), inf, zeros_like(params) if store_grad else None,
            BacktrackingLinesearchInfo(fnp.zeros((), fnp.int32), inf),
        )  # fmt: skip

    def update(
        updates: Any, state: ScaleByBacktrackingLinesearchState, params: Any = None, *,
        value: Any = None, grad: Any = None, value_fn: Any = None, **extra: Any,
    ) -> tuple[Any, ScaleByBacktrackingLinesearchState]:  # fmt: skip
        check_params("scale_by_backtracking_linesearch", params)
        loss = _bind("scale_by_backtracking_linesearch", value_fn, extra)
        dtype = state.value.dtype
        value = fnp.asarray(value, dtype=dtype)
        slope = _dot(updates, grad).astype(dtype)

        def go_on(trial: _Trial) -> Any:
            return ~(trial.error <= atol) & (trial.number <= max_backtracking_steps)

        def shorten(trial: _Trial) -> _Trial:
            rate = fnp.where(trial.number > 0, decrease_factor * trial.rate, trial.rate)
            place = _moved(params, rate, updates)
            found, slopes = _slopes(loss, updates, place) if store_grad else (loss(place), None)
            found = found.astype(dtype)
            error = found - (1.0 + rtol) * value - rate * slope_rtol * slope
            error = fnp.maximum(fnp.where(fnp.isnan(error), fnp.inf, error), 0.0)
            return _Trial(rate.astype(dtype), found, slopes, error.astype(dtype), trial.number + 1)

        first = fnp.minimum(increase_factor * state.learning_rate, max_learning_rate)
        inf = fnp.full((), fnp.inf, dtype)
        start = each(fnp.zeros_like, updates) if store_grad else None
        zero = fnp.zeros((), fnp.int32)
        end = lax.while_loop(go_on, shorten, _Trial(first.astype(dtype), value, start, inf, zero))
        rate = fnp.where(fnp.isinf(end.error), 0.0, end.rate).astype(dtype)
        if verbose:
            _say_if(
                end.error > atol,
                "backtracking: no step decreased the loss {} enough; slope {}, last step {}, too "
                "much by {}",
                value, slope, end.rate, end.error,
            )  # fmt: skip
        info = BacktrackingLinesearchInfo(end.number, end.error)
        return times(updates, rate), ScaleByBacktrackingLinesearchState(
            rate, end.value, end.grad, info
        )

    return piece_with_extra(ScaleByBacktrackingLinesearchState, init, update)


def _say_if(condition: Any, text: str, *values: Any) -> None:
    lax.cond(condition, lambda *v: debug.print(text, *v), lambda *v: None, *values)


# --------------------------------------------------------------------------------------------- zoom
class _Place(NamedTuple):
    """A step length, with the loss and the slope there."""

    step: Any
    value: Any
    slope: Any


class _Zoom(NamedTuple):
    """What the search knows: the last step, an interval, a third place, and a fallback."""

    count: Any
    last: _Place
    grad: Any
    decrease_error: Any
    curvature_error: Any
    found: Any
    done: Any
    failed: Any
    low: _Place
    high: _Place
    third: _Place
    safe: _Place
    safe_grad: Any


class _Rules(NamedTuple):
    """The search's settings, and its start."""

    most: int
    longest: float | None
    tol: float
    factor: float
    slope_rtol: float
    curv_rtol: float
    approx: float | None
    precision: float
    guess: Any
    start: _Place
    evaluate: Callable[[Any], tuple[_Place, Any]]


def _pick(condition: Any, a: Any, b: Any) -> Any:
    return tree.map(lambda x, y: fnp.where(condition, x, y), a, b)


def _errors(rules: _Rules, at: _Place) -> tuple[Any, Any]:
    """Return by how much a place misses the decrease and the curvature that are asked for."""
    start = rules.start
    decrease = at.value - start.value - rules.slope_rtol * at.step * start.slope
    if rules.approx is not None:
        slope = at.slope - (2 * rules.slope_rtol - 1.0) * start.slope
        rise = at.value - start.value - rules.approx * fnp.abs(start.value)
        decrease = fnp.minimum(fnp.maximum(slope, rise), decrease)
    curvature = fnp.abs(at.slope) - rules.curv_rtol * fnp.abs(start.slope)
    return tuple(  # type: ignore[return-value]
        fnp.where(fnp.isnan(e), fnp.inf, fnp.maximum(e, 0.0)).astype(at.value.dtype)
        for e in (decrease, curvature)
    )


def _search(rules: _Rules, state: _Zoom) -> _Zoom:
    """Try longer steps until an interval must hold a good one."""
    last = state.last
    step = fnp.where(state.count == 0, rules.guess, rules.factor * last.step)
    at_limit = fnp.asarray(False)
    if rules.longest is not None:
        at_limit = step >= rules.longest
        step = fnp.minimum(step, rules.longest)
    new, grad = rules.evaluate(step)
    decrease, curvature = _errors(rules, new)
    fine = fnp.maximum(decrease, curvature) <= rules.tol
    to_high = (decrease > 0) | ((new.value >= last.value) & (state.count > 0))
    to_low = (new.slope >= 0) & ~to_high
    low, high = _pick(to_low, (new, last), (last, new))
    found = to_high | to_low | fine
    done = fine | (at_limit & ~found)
    safe, safe_grad = _pick(decrease <= rules.tol, (new, grad), (state.safe, state.safe_grad))
    return _Zoom(
        state.count + 1, new, grad, decrease, curvature, found, done,
        (state.count + 1 >= rules.most) & ~done, low, high, low, safe, safe_grad,
    )  # fmt: skip


def _cubic(a: _Place, b: _Place, c: _Place) -> Any:
    """Return where a cubic is least that has a's value and slope, and b's and c's values."""
    db, dc = b.step - a.step, c.step - a.step
    rb, rc = b.value - a.value - a.slope * db, c.value - a.value - a.slope * dc
    divisor = (db * dc) ** 2 * (db - dc)
    third = (dc**2 * rb - db**2 * rc) / divisor
    second = (-(dc**3) * rb + db**3 * rc) / divisor
    root = second * second - 3.0 * third * a.slope
    return a.step + (-second + fnp.sqrt(root)) / (3.0 * third)


def _parabola(a: _Place, b: _Place) -> Any:
    """Return where a parabola is least that has a's value and slope, and b's value."""
    db = b.step - a.step
    second = (b.value - a.value - a.slope * db) / db**2
    return a.step - a.slope / (2.0 * second)


def _zoom(rules: _Rules, state: _Zoom) -> _Zoom:
    """Try a step inside the interval, and make the interval smaller."""
    low, high = state.low, state.high
    length = fnp.abs(high.step - low.step)
    left, right = fnp.minimum(low.step, high.step), fnp.maximum(low.step, high.step)
    middle = (low.step + high.step) / 2.0
    for guess, margin in ((_parabola(low, high), 0.1), (_cubic(low, high, state.third), 0.2)):
        inside = (guess > left + margin * length) & (guess < right - margin * length)
        middle = fnp.where(inside, guess, middle)
    new, grad = rules.evaluate(middle)
    decrease, curvature = _errors(rules, new)
    done = fnp.maximum(decrease, curvature) <= rules.tol
    better = (decrease <= rules.tol) & (new.value < state.safe.value)
    safe, safe_grad = _pick(better, (new, grad), (state.safe, state.safe_grad))
    to_high = (decrease > 0) | (new.value >= low.value)
    turn = (new.slope * (high.step - low.step) >= 0) & ~to_high
    small = (length <= rules.precision) & (safe.step > 0)
    return _Zoom(
        state.count + 1, new, grad, decrease, curvature, state.found, done,
        ((state.count + 1 >= rules.most) | small) & ~done,
        _pick(to_high, low, new),
        _pick(turn, low, _pick(to_high, new, high)),
        _pick(to_high | turn, high, low),
        safe, safe_grad,
    )  # fmt: skip


def _fall_back(state: _Zoom) -> _Zoom:
    """Take the step that at least decreases the loss, if there was one."""
    use = state.failed & ((state.safe.step > 0) | fnp.isinf(state.decrease_error))
    last, grad = _pick(use, (state.safe, state.safe_grad), (state.last, state.grad))
    return state._replace(last=last, grad=grad)


_GUESSES = ("one", "keep")


def scale_by_zoom_linesearch(
    max_linesearch_steps: int,
    max_learning_rate: float | None = None,
    tol: float = 0.0,
    increase_factor: float = 2.0,
    slope_rtol: float = 1e-4,
    curv_rtol: float = 0.9,
    approx_dec_rtol: float | None = 1e-6,
    stepsize_precision: float = 1e-5,
    initial_guess_strategy: str = "keep",
    verbose: bool = False,
) -> GradientTransformationExtraArgs:
    """Multiply updates by a step length that fulfils the strong Wolfe conditions.

    φ(a) <= φ(0) + slope_rtol a φ'(0) and |φ'(a)| <= curv_rtol |φ'(0)|: steps grow until an interval
    must hold such an a, and the interval shrinks around it.

    Args:
        max_linesearch_steps: how many steps are tried at most.
        max_learning_rate: longest step.
        tol: how far the conditions may be missed.
        increase_factor: by which steps grow.
        slope_rtol: part of the slope that the decrease must have.
        curv_rtol: part of the slope that may be left.
        approx_dec_rtol: where the loss changes by less than this part, its slopes decide; None
            for never.
        stepsize_precision: shortest interval.
        initial_guess_strategy: first step, 'one' or 'keep' (the last one that was taken).
        verbose: whether to say where no step was good enough.

    Returns:
        The transformation; its update needs ``params``, ``value``, ``grad`` and ``value_fn``, and
        takes the further arguments of ``value_fn`` by name.

    Raises:
        TypeError: an argument is none of ``value_fn``'s.
        ValueError: one is missing, or there is no such strategy.

    Example:
        >>> optimizer = optim.chain(optim.sgd(1.0), optim.scale_by_zoom_linesearch(15))
        >>> loss = lambda x: (x**2).sum()
        >>> x, state = fnp.array([2.0]), optimizer.init(fnp.zeros(1))
        >>> value, grad = ft.value_and_grad(loss)(x)
        >>> x + optimizer.update(grad, state, x, value=value, grad=grad, value_fn=loss)[0]
        Array([0.], dtype=float32)
    """
    if initial_guess_strategy not in _GUESSES:
        raise ValueError(
            f"scale_by_zoom_linesearch: initial_guess_strategy is one of {_GUESSES}, not "
            f"{initial_guess_strategy!r}"
        )

    def init(params: Any) -> ScaleByZoomLinesearchState:
        dtype = _real_dtype(params)
        inf = fnp.full((), fnp.inf, dtype)
        info = ZoomLinesearchInfo(fnp.zeros((), fnp.int32), inf, inf)
        return ScaleByZoomLinesearchState(fnp.ones((), dtype), inf, zeros_like(params), info)

    def update(
        updates: Any, state: ScaleByZoomLinesearchState, params: Any = None, *,
        value: Any = None, grad: Any = None, value_fn: Any = None, **extra: Any,
    ) -> tuple[Any, ScaleByZoomLinesearchState]:  # fmt: skip
        check_params("scale_by_zoom_linesearch", params)
        loss = _bind("scale_by_zoom_linesearch", value_fn, extra)
        dtype = state.value.dtype

        def evaluate(step: Any) -> tuple[_Place, Any]:
            found, grads = _slopes(loss, updates, _moved(params, step, updates))
            place = _Place(step.astype(dtype), found.astype(dtype), _dot(grads, updates))
            return place._replace(slope=place.slope.astype(dtype)), grads

        zero = fnp.zeros((), dtype)
        start = _Place(zero, fnp.asarray(value, dtype=dtype), _dot(grad, updates).astype(dtype))
        guess = state.learning_rate if initial_guess_strategy == "keep" else fnp.ones((), dtype)
        rules = _Rules(
            max_linesearch_steps, max_learning_rate, tol, increase_factor, slope_rtol, curv_rtol,
            approx_dec_rtol, stepsize_precision, guess, start, evaluate,
        )  # fmt: skip
        inf, no = fnp.full((), fnp.inf, dtype), fnp.asarray(False)
        grad = each(lambda g, p: fnp.asarray(g).astype(p.dtype), grad, params)
        first = _Zoom(
            fnp.zeros((), fnp.int32), start, grad, inf, inf, no, no, no, start, start, start,
            start, grad,
        )  # fmt: skip
        end = lax.while_loop(
            lambda s: ~(s.done | s.failed),
            lambda s: lax.cond(s.found, lambda s: _zoom(rules, s), lambda s: _search(rules, s), s),
            first,
        )
        end = _fall_back(end)
        if verbose:
            _say_if(
                end.failed,
                "zoom: no step fulfils both conditions; loss {}, slope {}, step {}, errors {}, {}",
                start.value, start.slope, end.last.step, end.decrease_error, end.curvature_error,
            )  # fmt: skip
        info = ZoomLinesearchInfo(end.count, end.decrease_error, end.curvature_error)
        return times(updates, end.last.step), ScaleByZoomLinesearchState(
            end.last.step, end.last.value, end.grad, info
        )

    return piece_with_extra(ScaleByZoomLinesearchState, init, update)


def value_and_grad_from_state(value_fn: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """Take the loss and its gradient from a line search's state, which has them, if it has.

    Args:
        value_fn: the loss, a function of the parameters and of more arguments.

    Returns:
        A function of the same arguments, and of ``state``, to (loss, gradient). Before the first
        step it computes them.

    Raises:
        ValueError: the state keeps no loss or no gradient.

    Example:
        >>> optimizer = optim.lbfgs()
        >>> loss = lambda x: (x**2).sum()
        >>> x, state = fnp.array([2.0]), optimizer.init(fnp.zeros(1))
        >>> optim.value_and_grad_from_state(loss)(x, state=state)
        (Array(4., dtype=float32), Array([4.], dtype=float32))
    """

    def found(params: Any, *args: Any, state: Any, **kwargs: Any) -> tuple[Any, Any]:
        value, grad = tree_get(state, "value"), tree_get(state, "grad")
        if value is None or grad is None:
            raise ValueError(
                "value_and_grad_from_state: the state keeps no loss or no gradient; use lbfgs, or "
                "another line search (scale_by_backtracking_linesearch with store_grad=True)"
            )

        def compute(params: Any, value: Any, grad: Any) -> tuple[Any, Any]:
            new, slopes = _slopes(lambda p: value_fn(p, *args, **kwargs), grad, params)
            return new.astype(value.dtype), slopes

        return lax.cond(
            fnp.isfinite(value), lambda params, value, grad: (value, grad), compute,
            params, value, grad,
        )  # fmt: skip

    return found
