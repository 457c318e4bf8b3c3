"""Errors where a nan is made: the trace that computes, and looks at what it has computed.

While ``config.debug_nans`` holds, `Checked` is the trace that computes. What it finds a nan in
that a program made, a jitted function or a loop, it runs again operation by operation, so that the
error names the operation and the user's line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.config import Config, config
from funtorch.core import Eval, Primitive, _state, eval_trace, source_of
from funtorch.errors import NanError, Source
from funtorch.jaxpr import eval_jaxpr, sub_jaxprs
from funtorch.tracebacks import raise_at

__all__ = ["Checked", "checked_trace", "debug_nans"]


def _has_nan(x: Any) -> bool:
    return dtypes.is_inexact(x.dtype) and bool(np.isnan(np.asarray(x)).any())


class Checked(Eval):
    """Compute every primitive at once, and raise where a result holds a nan."""

    __slots__ = ()

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        out = super().process(prim, args, params)
        outs = out if prim.multiple_results else [out]
        if not any(map(_has_nan, outs)):
            return out
        if prim.call:
            eval_jaxpr(params["jaxpr"], *args)
        elif sub_jaxprs(params) and not config.disable_jit:
            with config.override(disable_jit=True):
                super().process(prim, args, params)
        source = source_of()
        raise_at(_error(prim, args, outs, source), source)


def _error(prim: Primitive, args: Sequence[Any], outs: Sequence[Any], source: Source) -> NanError:
    """Return the error that names the operation, and shows values at the first nan."""
    given = [k for k, x in enumerate(args) if _has_nan(x)]
    types = ", ".join(x.aval.str_short() for x in args)
    bad = np.isnan(np.asarray(next(o for o in outs if _has_nan(o))))
    at = tuple(int(k) for k in np.unravel_index(int(bad.argmax()), bad.shape))
    elementwise = all(x.shape in (bad.shape, ()) for x in args)
    values = [str(np.asarray(x)[at if x.shape else ()]) for x in args] if elementwise else []
    return NanError(prim.name, types, given, source, at, values)


checked_trace = Checked(None, "eval")


def _choose() -> None:
    """Let this thread compute by the trace that its settings ask for."""
    if _state.trace in (eval_trace, checked_trace):
        _state.trace = checked_trace if config.debug_nans else eval_trace
    type(_state).first = checked_trace if Config.debug_nans else eval_trace


config.watch("debug_nans", _choose)


def debug_nans(new_val: bool = True) -> contextlib.AbstractContextManager[Config]:
    """Return a context in which operations that make a nan raise `NanError`.

    Compiled programs are run again, operation by operation, to name the one that made it and the
    line it is in.

    Args:
        new_val: whether they do.

    Raises:
        TypeError: if it is no bool.

    Example:
        >>> import funtorch as ft
        >>> f = ft.jit(lambda x: ft.numpy.log(x) + 1)
        >>> with ft.debug_nans():
        ...     f(-1.0)
        Traceback (most recent call last):
        ...
        funtorch.errors.NanError: ...log of (f32[]) gave nan...
    """
    return config.override(debug_nans=new_val)
