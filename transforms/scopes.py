"""Blocks that change how a function is traced: `ensure_compile_time_eval`, and names of parts."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from funtorch.core import Primitive, Trace, Tracer, current, eval_trace, use_trace
from funtorch.tracebacks import boundary

from .arguments import check_callable

__all__ = ["ensure_compile_time_eval", "named_call", "named_scope"]


class _Folding(Trace):
    """Compute at once what no traced array goes into, and leave the rest to the parent."""

    __slots__ = ()

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        traced = any(isinstance(a, Tracer) for a in args)
        with use_trace(self.parent if traced else eval_trace):  # type: ignore[arg-type]
            return prim.bind(*args, **params)


@contextlib.contextmanager
def ensure_compile_time_eval() -> Iterator[None]:
    """Compute at once what a block does, also while a function is traced.

    What depends on the function's arguments is not known then, and goes into its program.

    Example:
        >>> import funtorch as ft
        >>> @ft.jit
        ... def f(x):
        ...     with ft.ensure_compile_time_eval():
        ...         n = int(ft.numpy.arange(4).sum())
        ...     return x * n
        >>> int(f(2))
        12
    """
    outer = current()
    with use_trace(outer if outer is eval_trace else _Folding(outer)):
        yield


@contextlib.contextmanager
def named_scope(name: str) -> Iterator[None]:
    """Name a part of a program; also usable as a decorator.

    Names change nothing: errors, `explain` and `debug_nans` name the lines of the source.

    Args:
        name: the name.

    Raises:
        TypeError: if it is no string.

    Example:
        >>> import funtorch as ft
        >>> with ft.named_scope("head"):
        ...     y = ft.numpy.ones(2) * 3
    """
    if not isinstance(name, str):
        raise TypeError(f"named_scope takes a string, got {type(name).__name__}: {name!r:.60}")
    yield


def named_call(fun: Callable[..., Any], *, name: str | None = None) -> Callable[..., Any]:
    """Give a function a name for errors and `explain`.

    Args:
        fun: the function.
        name: the name; None: the function's own.

    Example:
        >>> import funtorch as ft
        >>> ft.named_call(lambda x: x + 1, name="increment").__name__
        'increment'
    """
    check_callable(fun, "named_call")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"named_call takes a string as name, got {type(name).__name__}")

    @boundary
    @functools.wraps(fun)
    def named(*args: Any, **kwargs: Any) -> Any:
        return fun(*args, **kwargs)

    if name is not None:
        named.__name__ = name
    return named
