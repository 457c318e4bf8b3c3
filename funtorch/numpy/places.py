"""Where results lie: the arguments ``device``, ``out_sharding`` and ``sharding`` of functions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from funtorch.core import ArrayImpl, _state, eval_trace, use_trace
from funtorch.hardware import CPU, find
from funtorch.placement import Placed, known_at, put
from funtorch.sharding import NamedSharding, check_spec, named
from funtorch.spread import GlobalArray, own_part

__all__ = ["divisible", "on_device"]

F = TypeVar("F", bound=Callable[..., Any])


def on_device(device: Any, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return what a function that makes arrays makes on the device of that name.

    Raises:
        ValueError: there is no such device.
    """
    device = named(function.__name__, device)
    if isinstance(device, NamedSharding):
        return _divided_as(function(*args, **options), device, function.__name__)
    place = find(device, function.__name__)
    trace = eval_trace if type(_state.trace) is Placed else _state.trace
    with use_trace(trace if place == CPU else Placed(place)):
        out = function(*args, **options)
    return put(out, place) if isinstance(out, ArrayImpl) and place != CPU else out


def _divided_as(out: Any, sharding: Any, function: str) -> Any:
    """Return what a function has made, divided over a mesh; within programs it stays whole.

    Raises:
        ValueError: it cannot be divided so.
    """
    place = named(function, sharding)
    if not isinstance(place, NamedSharding):
        return out
    check_spec(function, place.mesh, place.spec, out.shape)
    if not place.mesh.is_multi_process:
        return known_at(out, place)
    if type(out) is not ArrayImpl or place.is_fully_replicated:
        return out
    return GlobalArray(own_part(out, place), out.shape, place)


def divisible(argument: str = "out_sharding") -> Callable[[F], F]:
    """Let what a function returns be divided over a mesh, as an argument of that name says.

    The function has the argument for its signature, and always gets None.
    """

    def decorate(function: F) -> F:
        name = function.__name__

        @functools.wraps(function)
        def divided(*args: Any, **kwargs: Any) -> Any:
            sharding = kwargs.pop(argument, None)
            out = function(*args, **kwargs)
            return out if sharding is None else _divided_as(out, sharding, name)

        return cast(F, divided)

    return decorate
