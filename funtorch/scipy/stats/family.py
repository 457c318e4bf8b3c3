"""What distributions have in common: location, scale, support, functions that follow from others.

A module of a distribution gives formulas of standardised numbers, and gets SciPy's functions.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import funtorch.numpy as fnp
from funtorch.core import Array
from funtorch.scipy.special.functions import real_arguments

__all__ = ["continuous", "discrete"]

Formula = Callable[..., Any]
Bound = float | Callable[..., Any]

# By function: its summary, and its values below and above the support.
_OF_POINTS: dict[str, tuple[str, float, float]] = {
    "pdf": ("the probability density", 0.0, 0.0),
    "logpdf": ("the logarithm of the probability density", -math.inf, -math.inf),
    "cdf": ("the probability of at most x", 0.0, 1.0),
    "logcdf": ("the logarithm of the probability of at most x", -math.inf, 0.0),
    "sf": ("the probability of more than x", 1.0, 0.0),
    "logsf": ("the logarithm of the probability of more than x", 0.0, -math.inf),
}
_OF_COUNTS: dict[str, tuple[str, float, float]] = {
    "pmf": ("the probability", 0.0, 0.0),
    "logpmf": ("the logarithm of the probability", -math.inf, -math.inf),
    "cdf": ("the probability of at most k", 0.0, 1.0),
    "logcdf": ("the logarithm of the probability of at most k", -math.inf, 0.0),
    "sf": ("the probability of more than k", 1.0, 0.0),
    "logsf": ("the logarithm of the probability of more than k", 0.0, -math.inf),
}
_OF_PROBABILITIES = {
    "ppf": "the quantile: the x below which the probability is q",
    "isf": "the x above which the probability is q",
}


def _follows(given: dict[str, Formula]) -> dict[str, Formula]:
    """Return the formulas given and those that follow from them."""
    out = dict(given)
    rules: tuple[tuple[str, str, Callable[[Formula], Formula]], ...] = (
        ("pdf", "logpdf", lambda f: lambda *a: fnp.exp(f(*a))),
        ("logpdf", "pdf", lambda f: lambda *a: fnp.log(f(*a))),
        ("pmf", "logpmf", lambda f: lambda *a: fnp.exp(f(*a))),
        ("cdf", "logcdf", lambda f: lambda *a: fnp.exp(f(*a))),
        ("sf", "logsf", lambda f: lambda *a: fnp.exp(f(*a))),
        ("sf", "cdf", lambda f: lambda *a: 1 - f(*a)),
        ("cdf", "sf", lambda f: lambda *a: 1 - f(*a)),
        ("isf", "ppf", lambda f: lambda q, *a: f(1 - q, *a)),
    )
    for name, source, rule in rules:
        if name not in out and source in out:
            out[name] = rule(out[source])
    for name, mine, other in (("logcdf", "cdf", "sf"), ("logsf", "sf", "cdf")):
        if name not in out and mine in out:
            out[name] = _log(out[mine], out[other])
    return out


def _log(mine: Formula, other: Formula) -> Formula:
    """Return the logarithm of a probability, from its complement where that is smaller."""

    def logarithm(*args: Any) -> Any:
        value, rest = mine(*args), other(*args)
        most = value > 0.7
        return fnp.where(
            most, fnp.log1p(-fnp.where(most, rest, 0)), fnp.log(fnp.where(most, 1, value))
        )

    return logarithm


def _public(
    family: str,
    name: str,
    summary: str,
    arguments: tuple[str, ...],
    defaults: dict[str, float],
    body: Callable[..., Any],
) -> Callable[..., Array]:
    """Return a function with a signature and documentation of its own."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature(
        [
            inspect.Parameter(
                a, kind, default=defaults.get(a, inspect.Parameter.empty), annotation=Any
            )
            for a in arguments
        ],
        return_annotation=Array,
    )

    def function(*args: Any, **kwargs: Any) -> Array:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return body(*real_arguments(f"{family}.{name}", **bound.arguments))

    function.__name__, function.__qualname__ = name, f"{family}.{name}"
    function.__module__ = f"funtorch.scipy.stats.{family}"
    function.__signature__ = signature  # type: ignore[attr-defined]
    listed = "\n".join(f"        {a}: real numbers." for a in arguments)
    function.__doc__ = f"""Return {summary} of the distribution `{family}`.

    Args:
{listed}

    Returns:
        Floats of the shape that the arguments broadcast to; nan where parameters are invalid.

    References:
        scipy.stats.{family}.{name}
    """
    return function


def _bound(bound: Bound, shapes: tuple[Any, ...]) -> Any:
    return bound(*shapes) if callable(bound) else bound


def continuous(
    family: str,
    shapes: str = "",
    *,
    low: Bound = -math.inf,
    high: Bound = math.inf,
    inside: Bound = 0.0,
    valid: Formula | None = None,
    **formulas: Formula,
) -> dict[str, Callable[..., Array]]:
    """Return the functions of a continuous distribution by name.

    Args:
        family: the distribution's name.
        shapes: names of its shape parameters, separated by spaces.
        low: where the support begins: a number or a function of the shape parameters.
        high: where it ends.
        inside: a point of the support, where formulas are evaluated in place of points outside.
        valid: tells which shape parameters make sense.
        **formulas: functions of a standardised number, or for ppf and isf of a probability, and the
            shape parameters; the density's are without the scale.
    """
    names = tuple(shapes.split())

    def checked(out: Any, scale: Any, given: tuple[Any, ...]) -> Any:
        good = scale > 0
        good = good & valid(*given) if valid is not None else good
        return fnp.where(good, out, math.nan)

    def of_points(name: str, formula: Formula) -> Callable[..., Any]:
        _, below, above = _OF_POINTS[name]

        def body(x: Any, *rest: Any) -> Any:
            given, (loc, scale) = rest[:-2], rest[-2:]
            z = (x - loc) / scale
            under, over = z < _bound(low, given), z > _bound(high, given)
            out = formula(fnp.where(under | over, _bound(inside, given), z), *given)
            out = out / scale if name == "pdf" else out
            out = out - fnp.log(scale) if name == "logpdf" else out
            return checked(fnp.where(under, below, fnp.where(over, above, out)), scale, given)

        return body

    def of_probabilities(name: str, formula: Formula) -> Callable[..., Any]:
        first, last = (low, high) if name == "ppf" else (high, low)

        def body(q: Any, *rest: Any) -> Any:
            given, (loc, scale) = rest[:-2], rest[-2:]
            within = (q > 0) & (q < 1)
            z = formula(fnp.where(within, q, 0.5), *given)
            ends = fnp.where(
                q == 0, _bound(first, given), fnp.where(q == 1, _bound(last, given), math.nan)
            )
            return checked(loc + scale * fnp.where(within, z, ends), scale, given)

        return body

    out = {}
    for name, formula in _follows(formulas).items():
        if name in _OF_POINTS:
            summary, first, body = _OF_POINTS[name][0], "x", of_points(name, formula)
        else:
            summary, first, body = _OF_PROBABILITIES[name], "q", of_probabilities(name, formula)
        arguments = (first, *names, "loc", "scale")
        out[name] = _public(family, name, summary, arguments, {"loc": 0, "scale": 1}, body)
    return out


def discrete(
    family: str,
    shapes: str,
    *,
    low: Bound = 0.0,
    high: Bound = math.inf,
    valid: Formula,
    **formulas: Formula,
) -> dict[str, Callable[..., Array]]:
    """Return the functions of a distribution of whole numbers by name.

    Args:
        family: the distribution's name.
        shapes: names of its parameters, separated by spaces.
        low: where the support begins: a number or a function of the parameters.
        high: where it ends.
        valid: tells which parameters make sense.
        **formulas: functions of a number of the support and the parameters.
    """
    names = tuple(shapes.split())

    def of_counts(name: str, formula: Formula) -> Callable[..., Any]:
        _, below, above = _OF_COUNTS[name]

        def body(k: Any, *rest: Any) -> Any:
            given, loc = rest[:-1], rest[-1]
            n, first, last = k - loc, _bound(low, given), _bound(high, given)
            whole = fnp.floor(n)
            under, over = whole < first, whole > last
            if name in ("pmf", "logpmf"):
                under = under | (whole < n)
            out = formula(fnp.where(under | over, first, whole), *given)
            out = fnp.where(under, below, fnp.where(over, above, out))
            return fnp.where(valid(*given) & ~fnp.isnan(n), out, math.nan)

        return body

    return {
        name: _public(
            family,
            name,
            _OF_COUNTS[name][0],
            ("k", *names, "loc"),
            {"loc": 0},
            of_counts(name, formula),
        )
        for name, formula in _follows(formulas).items()
    }
