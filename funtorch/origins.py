"""Which argument of the user's function an array is, for messages of errors.

Transforms call the user's function by `call_named`, which notes its arguments while it runs. When
an error leaves a public function, the arrays that this was given are looked up among them: a traced
array by its variable, or by what it wraps, a concrete one by its memory, so that views count.
Nothing is looked up while nothing fails.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch import tracebacks
from funtorch.core import Array, ArrayImpl, Tracer
from funtorch.errors import CheckError, function_name
from funtorch.jaxpr import StageTracer
from funtorch.tree import DictKey

__all__ = ["call_named", "leaf_names", "origin", "parameter_names"]


class _Calls(threading.local):
    """The functions that are being transformed, with their arguments, outermost first."""

    def __init__(self) -> None:
        self.stack: list[tuple[Callable[..., Any], Any, Any]] = []


_calls = _Calls()
_MOST = 6  # arrays that a message names
_DEEPEST = 5  # lists in lists that are searched for arrays
_NAMED = (TypeError, ValueError, IndexError)
_VIEWS = frozenset(
    """reshape transpose broadcast_in_dim slice rev convert copy stop_gradient name sow""".split()  # noqa: SIM905
)


def call_named(fun: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call the user's function; errors meanwhile may name its arguments."""
    stack = _calls.stack
    stack.append((fun, args, kwargs))
    try:
        return fun(*args, **kwargs)
    finally:
        stack.pop()


def parameter_names(fun: Callable[..., Any]) -> list[str]:
    """Name the parameters of a function that may be given by position."""
    try:
        found = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return []
    return [p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def leaf_names(fun: Callable[..., Any], args: Any, kwargs: Any) -> list[str]:
    """Name every leaf of the arguments, such as ``params['w'][0]``."""
    names = parameter_names(fun)
    found = []
    for path, _ in tree.leaves_with_path((args, kwargs)):
        top = path[1]
        if isinstance(top, DictKey):
            first = str(top.key)
        else:
            first = names[top.idx] if top.idx < len(names) else f"args[{top.idx}]"
        found.append(first + tree.keystr(path[2:]))
    return found


# ---------------------------------------------------------------------- where an array comes from
def _identity(x: Any) -> int | None:
    """Return what an array and its views have in common, None for what is no array."""
    while isinstance(x, Tracer) and not isinstance(x, StageTracer):
        x = getattr(x, "val", getattr(x, "primal", None))
    if isinstance(x, StageTracer):
        var, made = x._var, {v: e for e in x.owner.eqns for v in e.outvars}  # type: ignore[attr-defined]
        while var in made and made[var].prim.name in _VIEWS:
            var = made[var].invars[0]
        return id(var)
    data = x.host() if isinstance(x, ArrayImpl) else x
    if not isinstance(data, np.ndarray):
        return None
    while isinstance(data.base, np.ndarray):
        data = data.base
    return id(data)


def origin(x: Any) -> tuple[str, Any, bool] | None:
    """Return the argument that an array is, or is a view of.

    Args:
        x: the array.

    Returns:
        Its name, such as ``params['w1']``, the function, and whether it is all of the argument;
        None where it is none.

    Example:
        >>> import funtorch as ft
        >>> ft.jit(lambda p: print(origin(p["w"].T)[0]))({"w": ft.numpy.ones((2, 3))})
        p['w']
    """
    wanted = _identity(x)
    if wanted is None:
        return None
    for fun, args, kwargs in reversed(_calls.stack):
        for k, leaf in enumerate(tree.leaves((args, kwargs))):
            if leaf is x or _identity(leaf) == wanted:
                whole = getattr(leaf, "shape", None) == x.shape
                return leaf_names(fun, args, kwargs)[k], fun, whole
    return None


# ---------------------------------------------------------------------- messages
def _arrays(value: Any, depth: int = 0) -> Iterator[Any]:
    if isinstance(value, (Array, np.ndarray)):
        yield value
    elif isinstance(value, (list, tuple)) and depth < _DEEPEST:
        for child in value:
            yield from _arrays(child, depth + 1)
    elif isinstance(value, dict) and depth < _DEEPEST:
        yield from _arrays(list(value.values()), depth + 1)


def _name_arguments(error: BaseException) -> None:
    """Add to an error of the package's own which arguments the arrays are that it is about."""
    text = error.args[0] if len(error.args) == 1 else None
    if not _calls.stack or not isinstance(text, str) or "_named" in vars(error):
        return
    if isinstance(error, CheckError) or not isinstance(error, _NAMED):
        return
    frame = tracebacks.entrance(error)
    if frame is None:
        return
    vars(error)["_named"] = True
    found = _named(frame)
    if found:
        error.args = (f"{text}\n{found}",)


def _named(frame: FrameType) -> str:
    """Describe the arguments among the arrays that a public function was given."""
    found: dict[Any, dict[str, str]] = {}
    for x in _arrays(dict(frame.f_locals)):
        known = origin(x)
        if known is not None and sum(map(len, found.values())) < _MOST:
            name, fun, same = known
            view = "is" if same else "as"
            kind = f"{view} {x.dtype.name}[{','.join(map(str, x.shape))}]"
            found.setdefault(fun, {}).setdefault(name, kind)
    return "; ".join(
        f"in {function_name(fun)}: {', '.join(f'{n} {kind}' for n, kind in names.items())}"
        for fun, names in found.items()
    )


tracebacks.on_the_way.append(_name_arguments)
