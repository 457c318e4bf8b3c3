"""Errors where a nan or an infinity is made: the trace that looks at what it has computed.

While ``config.debug_nans`` or ``config.debug_infs`` holds, `Checked` is the trace that computes.
What it finds one in that a program made, a jitted function or a loop, it runs again operation by
operation, so that the error names the operation and the user's line.
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

__all__ = ["Checked", "checked_trace", "debug_infs", "debug_nans"]

_TESTS = {"nan": np.isnan, "inf": np.isinf}


def _has(what: str, x: Any) -> bool:
    return dtypes.is_inexact(x.dtype) and bool(_TESTS[what](np.asarray(x)).any())


def _found(outs: Sequence[Any]) -> str | None:
    """Return what arrays hold that is looked for."""
    wanted = {"nan": config.debug_nans, "inf": config.debug_infs}
    return next((k for k, on in wanted.items() if on and any(_has(k, x) for x in outs)), None)


class Checked(Eval):
    """Compute every primitive at once, and raise where a result holds what is looked for."""

    __slots__ = ()

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        out = super().process(prim, args, params)
        outs = out if prim.multiple_results else [out]
        what = _found(outs)
        if what is None:
            return out
        if prim.call:
            eval_jaxpr(params["jaxpr"], *args)
        elif sub_jaxprs(params) and not config.disable_jit:
            with config.override(disable_jit=True):
                super().process(prim, args, params)
        source = source_of()
        raise_at(_error(what, prim, args, outs, source), source)


def _error(
    what: str, prim: Primitive, args: Sequence[Any], outs: Sequence[Any], source: Source
) -> NanError:
    """Return the error that names the operation, and shows values at the first bad one."""
    given = [k for k, x in enumerate(args) if _has(what, x)]
    types = ", ".join(x.aval.str_short() for x in args)
    bad = _TESTS[what](np.asarray(next(o for o in outs if _has(what, o))))
    at = tuple(int(k) for k in np.unravel_index(int(bad.argmax()), bad.shape))
    elementwise = all(x.shape in (bad.shape, ()) for x in args)
    values = [str(np.asarray(x)[at if x.shape else ()]) for x in args] if elementwise else []
    return NanError(prim.name, types, given, source, at, values, what)


checked_trace = Checked(None, "eval")


def _choose() -> None:
    """Let this thread compute by the trace that its settings ask for."""
    if _state.trace in (eval_trace, checked_trace):
        _state.trace = checked_trace if config.debug_nans or config.debug_infs else eval_trace
    always = Config.debug_nans or Config.debug_infs
    type(_state).first = checked_trace if always else eval_trace


config.watch("debug_nans", _choose)
config.watch("debug_infs", _choose)


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


def debug_infs(new_val: bool = True) -> contextlib.AbstractContextManager[Config]:
    """Return a context in which operations that make an infinity raise `NanError`.

    Args:
        new_val: whether they do.

    Raises:
        TypeError: if it is no bool.

    Example:
        >>> import funtorch as ft
        >>> with ft.debug_infs():
        ...     ft.numpy.log(0.0)
        Traceback (most recent call last):
        ...
        funtorch.errors.NanError: ...log of (f32[]) gave inf...
    """
    return config.override(debug_infs=new_val)
