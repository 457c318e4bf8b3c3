"""A step length that fulfils the strong Wolfe conditions.

References:
    J. Nocedal, S. Wright, "Numerical optimization", 2006: algorithms 3.5 and 3.6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch.transforms import while_loop

__all__ = ["Found", "line_search"]

_DECREASE, _CURVATURE = 1e-4, 0.9


class Found(NamedTuple):
    """A step, the value and gradient there, evaluations, and whether no step was good enough."""

    step: Any
    f: Any
    g: Any
    evaluations: Any
    failed: Any


class _Point(NamedTuple):
    """A step, with the value, slope and gradient there."""

    a: Any
    f: Any
    slope: Any
    g: Any


class _State(NamedTuple):
    """Growing steps until some interval must hold a good one, then smaller intervals.

    In the first phase ``low`` is the last step, in the second ``low`` and ``high`` are the ends.
    """

    zooming: Any
    done: Any
    k: Any
    low: _Point
    high: _Point
    best: _Point


def _choose(condition: Any, x: _Point, y: _Point) -> _Point:
    return _Point(*[fnp.where(condition, a, b) for a, b in zip(x, y, strict=True)])


def _inside(low: _Point, high: _Point) -> Any:
    """Return a step between two, by a cubic through values and slopes, not too near to the ends."""
    width = high.a - low.a
    d = low.slope + high.slope - 3 * (high.f - low.f) / fnp.where(width == 0, 1, width)
    square = d * d - low.slope * high.slope
    root = fnp.sign(width) * fnp.sqrt(fnp.where(square > 0, square, 0))
    below = high.slope - low.slope + 2 * root
    step = high.a - width * (high.slope + root - d) / fnp.where(below == 0, 1, below)
    left, right = fnp.minimum(low.a, high.a), fnp.maximum(low.a, high.a)
    margin = 0.1 * (right - left)
    good = fnp.isfinite(step) & (square >= 0) & (step > left + margin) & (step < right - margin)
    return fnp.where(good, step, low.a + 0.5 * width)


def line_search(
    both: Callable[[Any], tuple[Any, Any]],
    x: Any,
    direction: Any,
    f: Any,
    g: Any,
    before: Any,
    maxiter: int,
) -> Found:
    """Find a step along a direction that decreases the value and flattens the slope.

    Args:
        both: function that returns value and gradient.
        x, direction: vectors.
        f, g: value and gradient at x.
        before: the value an iteration ago, from which the first step is guessed.
        maxiter: most evaluations in either phase.

    Returns:
        A `Found`; the best step seen where none is good enough.
    """
    slope = fnp.sum(g * direction)

    def at(a: Any) -> _Point:
        value, gradient = both(x + a * direction)
        return _Point(a, value, fnp.sum(gradient * direction), gradient)

    def unfinished(state: _State) -> Any:
        return ~state.done & (state.k < 2 * maxiter)

    def step(state: _State) -> _State:
        low, high = state.low, state.high
        a = fnp.where(state.zooming, _inside(low, high), high.a)
        new = at(a)
        finite = fnp.isfinite(new.f)
        enough = finite & (new.f <= f + _DECREASE * a * slope)
        flat = finite & (abs(new.slope) <= -_CURVATURE * slope)
        done = enough & flat
        worse = ~enough | ((new.f >= low.f) & (state.zooming | (state.k > 0)))
        # New ends: between the lower one and a worse step, or on either side of a better one.
        turned = fnp.where(state.zooming, new.slope * (high.a - low.a) >= 0, new.slope >= 0)
        grow = ~state.zooming & ~worse & ~turned
        after_low = _choose(worse, low, new)
        after_high = _choose(worse, new, _choose(turned, low, high))
        larger = _Point(2 * a, high.f, high.slope, high.g)
        after_high = _choose(grow, larger, after_high)
        best = _choose(finite & (done | (enough & (new.f < state.best.f))), new, state.best)
        return _State(state.zooming | ~grow, done, state.k + 1, after_low, after_high, best)

    start = _Point(fnp.zeros_like(f), f, slope, g)
    guess = 1.01 * 2 * (f - before) / fnp.where(slope == 0, 1, slope)
    first = fnp.where((guess > 0) & (guess < 1) & fnp.isfinite(guess), guess, 1).astype(f.dtype)
    begin = _State(
        fnp.asarray(False),
        fnp.asarray(False),
        fnp.asarray(0, "int32"),
        start,
        start._replace(a=first),
        start,
    )
    end = while_loop(unfinished, step, begin)
    best = end.best
    return Found(best.a, best.f, best.g, end.k, ~end.done & (best.a == 0))
