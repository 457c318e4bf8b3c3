"""Errors that leave a module say where in the model it is.

Each module's calls and public methods put the names of the fields that lead to it before the
message, on the error's way up; nothing is done while nothing fails.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Iterator
from types import FunctionType
from typing import Any

from funtorch import tracebacks
from funtorch.errors import IndexKindError, IndexShapeError, MismatchError

__all__ = ["entries", "located", "methods_of", "path_to"]

_NODES = (list, tuple)
# Errors whose message is their only argument. Others may mean more by theirs.
_PLAIN = (ValueError, TypeError, IndexError, MismatchError, IndexKindError, IndexShapeError)


def entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a module, list, tuple or dict holds, by the names that a state dict gives it.

    Args:
        value: the node; anything else has no entries.
    """
    if isinstance(value, dict):
        yield from ((str(key), child) for key, child in value.items())
    elif isinstance(value, _NODES):
        yield from ((str(i), child) for i, child in enumerate(value))
    else:
        for name in getattr(type(value), "_children", ()):
            child = getattr(value, name)
            if name in type(value)._transparent:
                yield from entries(child)
            else:
                yield name, child


def path_to(wanted: Any, root: Any) -> str | None:
    """Find an object inside a model.

    Args:
        wanted: the object itself, not one that is equal to it.
        root: the model.

    Returns:
        The dotted path of the first place that holds it, '' for the root; None where none does.

    Example:
        >>> from funtorch import nnx
        >>> relu = nnx.ReLU()
        >>> path_to(relu, {"body": nnx.Sequential(nnx.Tanh(), relu)})
        'body.1'
    """
    if wanted is root:
        return ""
    for name, child in entries(root):
        below = path_to(wanted, child)
        if below is not None:
            return f"{name}.{below}" if below else name
    return None


def _add_place(error: Exception, module: Any) -> None:
    if type(error) not in _PLAIN or len(error.args) != 1 or not isinstance(error.args[0], str):
        return
    last, path, text = vars(error).get("_place", (module, "", error.args[0]))
    step = path_to(last, module)
    if step is None:  # made while the model ran, and no part of it
        step = type(last).__name__
    path = ".".join(filter(None, (step, path)))
    vars(error)["_place"] = (module, path, text)
    if path:
        error.args = (f"{path}: {text}",)


def methods_of(namespace: dict[str, Any], fields: Container[str]) -> list[str]:
    """List the methods of a class whose errors are located: ``__call__`` and the public ones.

    Args:
        namespace: what the class body defines.
        fields: names of the class's fields, whose defaults may be functions too.
    """
    return [
        name
        for name, value in namespace.items()
        if isinstance(value, FunctionType)
        and (name == "__call__" or not name.startswith("_"))
        and name not in fields
    ]


def located(call: Callable[..., Any]) -> Any:
    """Return a method of a module whose errors say where in the model the module is."""
    add_place, hide = _add_place, tracebacks.hide_frames

    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return call(self, *args, **kwargs)
        except Exception as error:
            add_place(error, self)
            hide(error)
            raise

    # With the globals of the function it is one of the same module, as doctest sees it.
    scope = getattr(call, "__globals__", called.__globals__)
    made = FunctionType(called.__code__, scope, "called", None, called.__closure__)
    return tracebacks.self_bounded(functools.wraps(call)(made))
