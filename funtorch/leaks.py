"""Find tracers that outlive the transform that made them."""

from __future__ import annotations

import contextlib
import gc

from funtorch.core import Tracer
from funtorch.errors import UnexpectedTracerError
from funtorch.tracebacks import boundary

__all__ = ["check_leaks", "check_tracer_leaks", "checking_leaks"]

_SHOWN = 5


def _leaked() -> list[Tracer]:
    gc.collect()
    return [x for x in gc.get_objects() if isinstance(x, Tracer) and not x.owner.alive]


class check_leaks(contextlib.ContextDecorator):
    """A context that raises at its end if traced arrays outlive their transforms.

    A traced array kept in a global, an attribute or a list fails when it is used, which may be much
    later; this finds it where it was kept. It looks through all objects of the process, so it is
    for debugging. Nothing is checked when the block raises.

    Raises:
        UnexpectedTracerError: if there are such arrays; it names the lines that made them.

    Example:
        >>> import funtorch as ft
        >>> kept = []
        >>> def f(x):
        ...     kept.append(2 * x)
        ...     return x
        >>> with ft.check_leaks():
        ...     y = ft.jit(f)(1.0)
        Traceback (most recent call last):
            ...
        funtorch.errors.UnexpectedTracerError: 1 traced array was kept ...

    References:
        jax.checking_leaks
    """

    def __enter__(self) -> None:
        self._before = _leaked()  # kept, so that no other object gets the id of one of these

    @boundary
    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        before, self._before = self._before, []
        if kind is not None:
            return
        known = {id(x) for x in before}
        found = [x for x in _leaked() if id(x) not in known]
        if found:
            raise _leak_error(found)


def _leak_error(found: list[Tracer]) -> UnexpectedTracerError:
    if len(found) == 1:
        first = "1 traced array was kept after the transform that made it had ended:"
    else:
        first = f"{len(found)} traced arrays were kept after the transforms that made them ended:"
    lines = [
        f"  {x.aval.str_short()} made at {x.source}, while "
        f"{x.owner.name or 'a function'} was being transformed ({type(x.owner).__name__.lower()})"
        for x in found[:_SHOWN]
    ]
    if len(found) > _SHOWN:
        lines.append(f"  and {len(found) - _SHOWN} more")
    advice = (
        "Do not keep traced values in globals, attributes, lists or closures: return them from the "
        "function instead."
    )
    return UnexpectedTracerError("\n".join([first, *lines, advice]))


checking_leaks = check_leaks
"""JAX's name of `check_leaks`."""


def check_tracer_leaks(new_val: bool = True) -> contextlib.AbstractContextManager[None]:
    """Return `check_leaks`, or with False a context that checks nothing."""
    return check_leaks() if new_val else contextlib.nullcontext()
