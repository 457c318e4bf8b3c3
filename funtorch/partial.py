"""`Partial`: a function with some of its arguments, as a pytree of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from funtorch.treedef import register_node

__all__ = ["Partial"]


class _Hidden:
    """A callable that hides that it is a `functools.partial`.

    `functools.partial` merges a partial it is given into itself, which would turn the arguments
    of the inner one, static so far, into leaves.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.func(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden) and self.func == other.func

    def __hash__(self) -> int:
        return hash(self.func)

    def __repr__(self) -> str:
        return repr(self.func)


class Partial(functools.partial):
    """A `functools.partial` that is a pytree: its arguments are children, its function is not.

    Args:
        func: the function; part of the structure, so it must be hashable.
        *args: leading arguments, pytrees.
        **keywords: keyword arguments, pytrees.

    Example:
        >>> from funtorch import tree
        >>> add = Partial(lambda x, y: x + y, 1)
        >>> add(2), tree.leaves(add)
        (3, [1])
    """

    def __new__(cls, func: Callable[..., Any], /, *args: Any, **keywords: Any) -> Partial:
        if isinstance(func, functools.partial) and not isinstance(func, Partial):
            func = _Hidden(func)
        return super().__new__(cls, func, *args, **keywords)


def _unflatten_partial(func: Callable[..., Any], children: tuple[Any, ...]) -> Partial:
    args, keywords = children
    return Partial(func, *args, **keywords)


register_node(Partial, lambda x: ((x.args, x.keywords), x.func), _unflatten_partial)
