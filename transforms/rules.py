"""What functions with rules of their own have in common: methods, and rules set from outside."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

from .arguments import check_callable

__all__ = ["WithRules"]

_SETTERS = ("defjvp", "defjvps", "defvjp", "def_vmap")


class WithRules:
    """A function with rules of its own.

    It is a method where it is defined in a class. Around another such function it takes that one's
    rules, too: ``f.def_vmap`` of a `custom_vjp` of a `custom_vmap` sets the latter's.
    """

    def __init__(self, fun: Callable[..., Any], what: str) -> None:
        check_callable(fun, what)
        # A function's attributes, but not those of one with rules: they are its own.
        shown = ("__dict__",) if isinstance(fun, types.FunctionType) else ()
        functools.update_wrapper(self, fun, updated=shown)
        self.fun = fun

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, with its rules."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        inner = self.__dict__.get("fun")
        if name in _SETTERS and isinstance(inner, WithRules):
            return getattr(inner, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
