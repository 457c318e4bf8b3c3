"""Large draws outside of programs run as one compiled program, and so do loops of rejections; so do
small ones that come often."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar

from funtorch.core import ArrayImpl, Eval, _state, eval_trace
from funtorch.numpy.promotion import to_array

__all__ = ["FEW", "LARGE", "drawn_whole"]

F = TypeVar("F", bound=Callable[..., Any])
LARGE = 1 << 13
FEW = 1 << 6
"""Elements from which draws, and draws by rejection, take much longer one operation at a time."""

_STATIC = frozenset({"axis", "dtype", "mode", "shape"})


def drawn_whole(least: int) -> Callable[[F], F]:
    """Let a draw of so many elements, or from arrays of so many, run as a compiled program.

    Args:
        least: elements.

    Returns:
        a decorator of functions with a parameter ``shape``.
    """

    def decorate(function: F) -> F:
        names = tuple(inspect.signature(function).parameters)
        place = names.index("shape")

        @functools.wraps(function)
        def draw(*args: Any, **kwargs: Any) -> Any:
            if _state.trace is eval_trace and kwargs.get("out_sharding") is None:
                shape = args[place] if place < len(args) else kwargs.get("shape")
                sizes = [x._data.size for x in args[1:] if type(x) is ArrayImpl]
                if max(_size(shape), *sizes, 0) >= least:
                    done = Eval.compiled(
                        function,
                        [_operand(n, x) for n, x in zip(names, args, strict=False)],
                        {n: _operand(n, x) for n, x in kwargs.items()},
                    )
                else:
                    done = Eval.repeated(function, args, kwargs, exact=True)
                if done is not NotImplemented:
                    return done
            return function(*args, **kwargs)

        return draw  # type: ignore[return-value]

    return decorate


def _size(shape: Any) -> int:
    plain = type(shape) is tuple and all(type(n) is int for n in shape)
    return math.prod(shape) if plain else 0


def _operand(name: str, x: Any) -> Any:
    return to_array(x, name) if type(x) in (int, float) and name not in _STATIC else x
