"""The names that programs written for JAX look for in jax.core, beside what `funtorch.core` has."""

from __future__ import annotations

from typing import Any

import funtorch.core
from funtorch import ensure_compile_time_eval
from funtorch.extend import core
from funtorch.extend.core.programs import Atom, eval_jaxpr
from funtorch.extend.core.tracing import eval_context, trace_state_clean

__all__ = ["find"]

_NAMES = {
    **{name: getattr(core, name) for name in core.__all__},
    "AbstractValue": funtorch.core.ShapedArray,
    "Atom": Atom,
    "Value": Any,
    "ensure_compile_time_eval": ensure_compile_time_eval,
    "eval_context": eval_context,
    "eval_jaxpr": eval_jaxpr,
    "trace_state_clean": trace_state_clean,
}


def find(name: str) -> Any:
    """Return what jax.core calls by a name.

    Raises:
        AttributeError: it has none of that name.

    Example:
        >>> find("AbstractValue").__name__
        'ShapedArray'
    """
    if name in _NAMES:
        return _NAMES[name]
    raise AttributeError(f"module 'funtorch.core' has no attribute {name!r}")
