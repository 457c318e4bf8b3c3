"""Which axes of a function's arguments `jit` is told to compile for any size."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from funtorch import arraytree as tree

from .arguments import function_name

__all__ = ["Marks", "check_axes", "marked_axes"]

Marks = dict[tuple[int, int], str]
"""By leaf of the arguments and axis: the name of the size, which may be that of other axes too."""


def _is_axes(spec: Any) -> bool:
    """Tell whether a part of ``dynamic_axes`` is axes, rather than a tree of such."""
    if isinstance(spec, (tuple, list)):
        return bool(spec) and all(isinstance(k, int) for k in spec)
    if isinstance(spec, dict):
        return bool(spec) and all(isinstance(k, int) for k in spec)
    return spec is None or isinstance(spec, int)


def check_axes(fun: Callable[..., Any], axes: Any) -> None:
    """Check that ``dynamic_axes`` names arguments of a function.

    Raises:
        TypeError: if it is neither a dict nor a tuple or list.
        ValueError: if there is no such argument.
    """
    where = f"jit of {function_name(fun)}"
    if not isinstance(axes, (dict, tuple, list)):
        raise TypeError(
            f"{where}: dynamic_axes is a dict from arguments' names to axes, or a tuple with an "
            f"entry for each positional argument; got {axes!r:.60}"
        )
    try:
        found = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):  # some builtins have no signature
        return
    names = [p.name for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if isinstance(axes, dict):
        open_ended = any(p.kind is p.VAR_KEYWORD for p in found)
        for name in axes:
            if name not in names and not open_ended:
                raise ValueError(
                    f"{where}: dynamic_axes names {name!r}, which is no argument; it has {names}"
                )
    elif len(axes) > len(names) and not any(p.kind is p.VAR_POSITIONAL for p in found):
        raise ValueError(
            f"{where}: dynamic_axes has {len(axes)} entries for {len(names)} arguments {names}"
        )


def _by_argument(
    fun: Callable[..., Any], axes: Any, args: Any, kwargs: Any
) -> Iterator[tuple[Any, Any]]:
    """Yield each argument, in the order of its leaves, with what is said of it."""
    try:
        found = inspect.signature(fun).parameters.values()
        names = [p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    except (TypeError, ValueError):
        names = []
    if not isinstance(axes, dict):
        names += [f"args[{k}]" for k in range(len(names), len(args))]
        axes = dict(zip(names, axes, strict=False))
    for k, value in enumerate(args):
        yield value, axes.get(names[k]) if k < len(names) else None
    for name in sorted(kwargs):
        yield kwargs[name], axes.get(name)


def _specs(spec: Any, value: Any, where: str) -> Iterator[Any]:
    """Yield what is said of each leaf of an argument."""
    if _is_axes(spec):
        yield from [spec] * len(tree.leaves(value))
        return
    if isinstance(value, dict) and isinstance(spec, dict):
        for key in spec:
            if key not in value:
                raise ValueError(
                    f"{where}: dynamic_axes has a key {key!r} where the argument has {list(value)}"
                )
        for key in sorted(value):
            yield from _specs(spec.get(key), value[key], where)
    elif isinstance(value, (tuple, list)) and isinstance(spec, (tuple, list)):
        if len(spec) != len(value):
            raise ValueError(
                f"{where}: dynamic_axes has {len(spec)} entries where the argument has {len(value)}"
            )
        for s, v in zip(spec, value, strict=True):
            yield from _specs(s, v, where)
    else:
        raise ValueError(
            f"{where}: dynamic_axes says {spec!r:.60} of an argument of type "
            f"{type(value).__name__}; give an axis, a tuple of axes, a dict from axes to names, "
            "or a tree of these that is a prefix of the argument"
        )


def marked_axes(
    fun: Callable[..., Any],
    axes: Any,
    args: Any,
    kwargs: Any,
    shapes: Sequence[tuple[int, ...]],
    names: Sequence[str],
) -> Marks:
    """Return the axes that ``dynamic_axes`` marks in a call, with the names of their sizes.

    Axes without a name have the same size as others where they have it in this call.

    Args:
        fun, axes: the function, and what was given for it.
        args, kwargs: the call's arguments, static ones None.
        shapes, names: of its leaves.

    Raises:
        ValueError: if there is no such axis, or axes of one name differ in size.
    """
    where = f"jit of {function_name(fun)}"
    specs = [s for v, spec in _by_argument(fun, axes, args, kwargs) for s in _specs(spec, v, where)]
    marks: Marks = {}
    first: dict[Any, tuple[str, int]] = {}  # by name, or size: what had it first
    entries = [
        (leaf, axis, key)
        for leaf, spec in enumerate(specs)
        for axis, key in (spec if isinstance(spec, dict) else dict.fromkeys(_axes(spec))).items()
    ]
    for leaf, axis, key in sorted(entries, key=lambda entry: entry[2] is None):  # names first
        shape, name = shapes[leaf], names[leaf]
        if not -len(shape) <= axis < len(shape):
            raise ValueError(
                f"{where}: dynamic_axes marks axis {axis} of argument {name}, which has shape "
                f"{shape}"
            )
        size = shape[axis]
        own = f"{name}.shape[{axis % len(shape)}]"
        label = own if key is None else str(key)
        other, known = first.setdefault(size if key is None else str(key), (label, size))
        first.setdefault(size, (label, size))
        if key is not None and known != size:
            raise ValueError(
                f"{where}: dynamic_axes gives one name, {key!r}, to axes of sizes {known} and "
                f"{size} ({own}); axes of one name have one size"
            )
        marks[leaf, axis % len(shape)] = other
    return marks


def _axes(spec: Any) -> Sequence[int]:
    return () if spec is None else (spec,) if isinstance(spec, int) else spec
