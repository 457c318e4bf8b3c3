"""Tracebacks without the library's own frames, so that the last line shown is the user's.

Public functions are boundaries: an error that leaves one loses the frames inside the package, and
those of NumPy and the standard library below them. Frames of the user's functions, which a
transform calls, stay. ``config.traceback_filtering`` turns this off, for all frames.
"""

from __future__ import annotations

import ast
import functools
import os
import sys
from collections.abc import Callable
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import Any, NoReturn

import numpy as np

from funtorch.config import config
from funtorch.errors import Source, is_internal, user_frame

__all__ = [
    "add_boundaries",
    "boundary",
    "entrance",
    "hide_frames",
    "like",
    "on_the_way",
    "raise_at",
    "self_bounded",
]

on_the_way: list[Callable[[BaseException], None]] = []
"""What is done with an error at each public function that it leaves."""

# What the package calls, and whose frames below its own say nothing to the user.
_FOREIGN = tuple(os.path.dirname(f) + os.sep for f in (np.__file__, os.__file__))
_THIRD_PARTY = f"{os.sep}site-packages{os.sep}"


def _is_foreign(filename: str) -> bool:
    if filename.startswith((_FOREIGN[0], "<funtorch")):
        return True
    return filename.startswith(_FOREIGN[1]) and _THIRD_PARTY not in filename


def _kept(traceback: TracebackType | None) -> TracebackType | None:
    frames = []
    hidden = False
    while traceback is not None:
        filename = traceback.tb_frame.f_code.co_filename
        hidden = is_internal(filename) or (hidden and _is_foreign(filename))
        if not hidden:
            frames.append(traceback)
        traceback = traceback.tb_next
    below = None
    for frame in reversed(frames):
        frame.tb_next = below
        below = frame
    return below


def entrance(error: BaseException) -> FrameType | None:
    """Return the frame of the public function that an error is about to leave, None if it comes
    from a function of the user's that this called."""
    traceback = error.__traceback__
    if traceback is None:
        return None
    first, hidden = traceback.tb_frame, False
    while traceback is not None:
        filename = traceback.tb_frame.f_code.co_filename
        hidden = is_internal(filename) or (hidden and _is_foreign(filename))
        if not hidden:
            return None
        traceback = traceback.tb_next
    return first


def hide_frames(error: BaseException) -> None:
    """Take the package's frames out of an error's traceback, and of those that it came from.

    A bare ``raise`` in the handler then adds no frame.

    Args:
        error: the exception being handled.
    """
    for act in on_the_way:
        act(error)
    if not config.traceback_filtering:
        return
    error.__traceback__ = _kept(error.__traceback__)
    seen = {id(error)}
    while (cause := error.__cause__ or error.__context__) is not None and id(cause) not in seen:
        seen.add(id(cause))
        had = cause.__traceback__
        cause.__traceback__ = _kept(had)
        if had is not None and cause.__traceback__ is None and error.__cause__ is None:
            error.__suppress_context__ = True  # it rose and was caught inside the package
        error = cause


def raise_at(error: BaseException, source: Source) -> NoReturn:
    """Raise an error with one more frame, which says that it rose at a line of the user's.

    What went wrong in a compiled program has no Python frame of its own.

    Args:
        error: the error.
        source: the line.

    Example:
        >>> from funtorch.errors import Source
        >>> def f():
        ...     return 1
        >>> try:
        ...     raise_at(KeyError("x"), Source(f.__code__, 0))
        ... except KeyError as error:
        ...     print(error.__traceback__.tb_next.tb_next.tb_frame.f_code.co_name)
        f
    """
    here = user_frame()
    if source.code is None or (here.code is source.code and here.line == source.line):
        raise error
    module = ast.parse("raise error")
    for node in ast.walk(module.body[0]):
        if isinstance(node, (ast.stmt, ast.expr)):
            node.lineno, node.end_lineno, node.col_offset, node.end_col_offset = source.position
    made = compile(module, source.file, "exec")
    code = source.code
    exec(made.replace(co_name=code.co_name, co_qualname=code.co_qualname), {"error": error})
    raise error


def boundary(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with the package's frames hidden from errors that leave it.

    Example:
        >>> @boundary
        ... def half(x):
        ...     return x / 2
        >>> half(3)
        1.5
    """

    hide = hide_frames

    def bounded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            hide(error)
            raise

    return self_bounded(like(function, bounded))


def like(function: Callable[..., Any], made: Any) -> Any:
    """Return a function that is made to stand for another one: with its name, text and module.

    It has the globals of the other one, since doctest goes by these, so its own body must find
    what it needs in its closure.
    """
    scope = getattr(function, "__globals__", made.__globals__)
    moved = FunctionType(made.__code__, scope, made.__name__, made.__defaults__, made.__closure__)
    return functools.wraps(function)(moved)


def self_bounded(function: Callable[..., Any]) -> Any:
    """Mark a function that hides frames by itself, in its own body, which costs a call nothing."""
    function._is_boundary = True  # type: ignore[attr-defined]
    return function


def add_boundaries(owner: ModuleType | type | str) -> None:
    """Make boundaries of the package's functions that a namespace shows or a class has.

    Args:
        owner: the module, or its name, or the class.
    """
    if isinstance(owner, str):
        owner = sys.modules[owner]
    names = owner.__all__ if isinstance(owner, ModuleType) else list(vars(owner))
    made: dict[int, Any] = {}
    for name in names:
        function = vars(owner).get(name)
        if not isinstance(function, FunctionType) or hasattr(function, "_is_boundary"):
            continue
        if id(function) not in made:
            made[id(function)] = bounded = boundary(function)
            if isinstance(owner, ModuleType):
                bounded.__module__ = owner.__name__  # where pickle finds it
        setattr(owner, name, made[id(function)])
