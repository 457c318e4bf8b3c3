"""Arguments that `jit` is told of by position or by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from .arguments import function_name

__all__ = ["ints", "named_arguments", "names_of"]


def ints(x: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return positions as a tuple."""
    return () if x is None else (x,) if isinstance(x, int) else tuple(x)


def names_of(x: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return names as a tuple."""
    return () if x is None else (x,) if isinstance(x, str) else tuple(x)


def named_arguments(
    fun: Any, nums: tuple[int, ...], names: tuple[str, ...]
) -> tuple[tuple[int, ...], frozenset[str]]:
    """Return positions and names that mean the same arguments, so that either way of passing them
    works. Where both are given they are meant as they are."""
    if not nums and not names:
        return (), frozenset()
    try:
        params = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):  # some builtins have no signature: take what was given
        return nums, frozenset(names)
    positional = [p.name for p in params if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    known = {p.name for p in params}
    has_kwargs = any(p.kind is p.VAR_KEYWORD for p in params)
    for name in names:
        if name not in known and not has_kwargs:
            raise ValueError(
                f"jit of {function_name(fun)}: there is no argument named {name!r}; it has "
                f"{sorted(known)}"
            )
    has_args = any(p.kind is p.VAR_POSITIONAL for p in params)
    for n in nums:
        if not has_args and not -len(positional) <= n < len(positional):
            raise ValueError(
                f"jit of {function_name(fun)}: argnums {n} is out of range for {len(positional)} "
                "positional "
                "arguments"
            )
    if nums and names:
        return nums, frozenset(names)
    all_nums = set(nums) | {positional.index(n) for n in names if n in positional}
    all_names = set(names) | {
        positional[n] for n in nums if -len(positional) <= n < len(positional)
    }
    return tuple(sorted(all_nums)), frozenset(all_names)
