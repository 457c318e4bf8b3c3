"""Say why a jitted function compiles: which argument changed, from what to what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from funtorch.config import config
from funtorch.core import ShapedArray
from funtorch.hardware import CPU, Device
from funtorch.origins import leaf_names

__all__ = ["Compile", "Signature", "Stats", "why_it_missed"]


class Compile(NamedTuple):
    """One compile of a jitted function: why, how long it took until the program could run, and what
    it computes again for its ``memory_budget``.

    ``sizes`` says which sizes the program is for where that was a question: any, of some axes, or
    one, and why.
    """

    reason: str
    seconds: float
    memory: Any = None
    sizes: str = ""

    def __str__(self) -> str:
        sizes = f"; {self.sizes}" if self.sizes else ""
        fitted = "" if self.memory is None else f"\n    {self.memory}"
        return f"{self.seconds:.3g} s: {self.reason}{sizes}{fitted}"


class Stats(NamedTuple):
    """What a jitted function has done; see `Jitted.stats`.

    ``paths`` says how it decides in Python on each path that a call took, and where.
    """

    calls: int
    compiles: tuple[Compile, ...]
    paths: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """The time that tracing and compiling took, in seconds."""
        return sum(c.seconds for c in self.compiles)

    def __str__(self) -> str:
        head = f"{self.calls} calls, {len(self.compiles)} compiles in {self.seconds:.3g} s"
        paths = [f"{len(self.paths)} paths"] if self.paths else []
        lines = [head, *(f"  {c}" for c in self.compiles), *paths, *(f"  {p}" for p in self.paths)]
        return "\n".join(lines)


class Signature(NamedTuple):
    """What a jitted function looks its programs up by."""

    treedef: Any
    types: tuple[tuple[Any, ...], ...]  # shape, dtype, weakness of each leaf
    static: tuple[tuple[Any, type, Any], ...] | None  # position or name, type, value
    settings: tuple[Any, ...]
    axes: tuple[tuple[Any, int], ...] = ()  # names and sizes of mapped axes around the call
    device: Device = CPU  # that it runs on


def _shown(kind: tuple[Any, ...]) -> str:
    aval = ShapedArray(*kind)
    return aval.str_short() + (" (weak)" if aval.weak_type else "")


def _differences(old: Signature, new: Signature, names: Sequence[str]) -> list[str]:
    if old.treedef != new.treedef:
        return [f"the arguments had the structure {old.treedef}, now {new.treedef}"]
    found = [
        f"argument {name} was {_shown(a)}, is {_shown(b)}"
        for name, a, b in zip(names, old.types, new.types, strict=True)
        if a != b
    ]
    before = {where: value for where, _, value in old.static or ()}
    for where, _, value in new.static or ():
        if where not in before or type(before[where]) is not type(value) or before[where] != value:
            was = f"was {before[where]!r:.60}" if where in before else "was not given"
            found.append(f"static argument {where} {was}, is {value!r:.60}")
    found += [
        f"static argument {where} was {value!r:.60}, is not given"
        for where, value in before.items()
        if all(where != now for now, _, _ in new.static or ())
    ]
    found += [
        f"config.{name} was {a}, is {b}"
        for name, a, b in zip(config.traced, old.settings, new.settings, strict=True)
        if a != b
    ]
    if old.device != new.device:
        found.append(f"it ran on {old.device}, now on {new.device}")
    if old.axes != new.axes:
        found.append(f"mapped axes were {dict(old.axes)}, are {dict(new.axes)}")
    return found


def why_it_missed(
    fun: Callable[..., Any], known: Iterable[Signature], new: Signature, args: Any, kwargs: Any
) -> str:
    """Compare a call with the most similar one that was compiled before.

    Args:
        fun: the function.
        known: signatures of its compiled programs.
        new: the signature of the call.
        args, kwargs: its arguments, static ones taken out.

    Returns:
        One line.
    """
    names = leaf_names(fun, args, kwargs)
    found = [_differences(old, new, names) for old in known]
    if not found:
        types = (f"{n}: {_shown(t)}" for n, t in zip(names, new.types, strict=True))
        return f"first call, with {', '.join(types) or 'no arrays'}"
    fewest = min(found, key=len)
    return "; ".join(fewest)
