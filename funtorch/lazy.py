"""Names of a namespace that are imported when they are first asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["later"]


def later(namespace: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return what a module calls ``__getattr__``: it imports a name from where it is defined.

    Not every program compiles, trains or goes to a GPU, and importing what those take would be
    most of the time that ``import funtorch`` takes.

    Args:
        namespace: the module's name.
        homes: the module that defines each name, relative to the namespace: '.budget', or
            '.cache:clear' where it has another name there, or '.data' if that module is meant:
            its own name.

    Returns:
        a function from a name to its value.

    Example:
        >>> __getattr__ = later("funtorch.nn", {"silu": ".functions", "swiglu": ".functions:glu"})
        >>> __getattr__("swiglu").__name__
        'glu'
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {namespace!r} has no attribute {name!r}")
        home, _, there = homes[name].partition(":")
        module = importlib.import_module(home, namespace)
        value = module if home == f".{name}" else getattr(module, there or name)
        setattr(sys.modules[namespace], name, value)
        return value

    return get
