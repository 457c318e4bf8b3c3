"""Programs that run without the code they were made from.

``funtorch.export(f)(*types)`` is ``funtorch.export.export(f)(*types)``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from funtorch.dims import Scope as SymbolicScope
from funtorch.transforms.export import (
    Exported,
    deserialize,
    export,
    load,
    symbolic_args_specs,
    symbolic_shape,
)

__all__ = [
    "Exported",
    "SymbolicScope",
    "deserialize",
    "export",
    "load",
    "symbolic_args_specs",
    "symbolic_shape",
]


class _Callable(ModuleType):
    """A module that is its own function."""

    def __call__(self, fun: Any, **options: Any) -> Any:
        return export(fun, **options)


sys.modules[__name__].__class__ = _Callable
