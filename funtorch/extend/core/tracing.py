"""The state of tracing, and types of values, under the names of jax.extend.core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from funtorch import core, dtypes
from funtorch.core import Array, ShapedArray, Trace, current, eval_trace, use_trace
from funtorch.jaxpr import Stage
from funtorch.transforms.batching import Batch
from funtorch.transforms.forward import is_differentiable

__all__ = [
    "OpaqueTraceState",
    "TraceTag",
    "concrete_or_error",
    "eval_context",
    "find_top_trace",
    "get_opaque_trace_state",
    "mapped_aval",
    "nonempty_axis_env_DO_NOT_USE",
    "primal_dtype_to_tangent_dtype",
    "set_current_trace",
    "take_current_trace",
    "trace_state_clean",
    "unmapped_aval",
    "unsafe_am_i_under_a_jit_DO_NOT_USE",
    "unsafe_am_i_under_a_vmap_DO_NOT_USE",
    "unsafe_get_axis_names_DO_NOT_USE",
    "valid_jaxtype",
]


class TraceTag:
    """A mark of one's own, by which a trace knows its tracers."""

    __slots__ = ()


class OpaqueTraceState:
    """Where a program is in its transforms; two are equal if nothing was entered or left between.

    Args:
        trace: the current trace.
    """

    __slots__ = ("_trace",)

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpaqueTraceState) and self._trace is other._trace

    def __hash__(self) -> int:
        return id(self._trace)

    def __repr__(self) -> str:
        return f"OpaqueTraceState({self._trace.kind})"


def get_opaque_trace_state(convention: str | None = None) -> OpaqueTraceState:
    """Return a token for the current trace.

    Args:
        convention: of no effect: who asks.

    Example:
        >>> import funtorch as ft
        >>> outside = get_opaque_trace_state()
        >>> seen = []
        >>> _ = ft.vmap(lambda x: seen.append(get_opaque_trace_state() == outside) or x)(
        ...     ft.numpy.ones(2)
        ... )
        >>> seen, get_opaque_trace_state() == outside
        ([False], True)
    """
    return OpaqueTraceState(current())


def find_top_trace(xs: Any) -> Trace:
    """Return the current trace."""
    return current()


def trace_state_clean() -> bool:
    """Tell whether no transform is at work."""
    return current() is eval_trace


@contextmanager
def eval_context() -> Iterator[None]:
    """Compute what is known in a block at once, though a program is being traced."""
    with use_trace(eval_trace):
        yield


@contextmanager
def take_current_trace() -> Iterator[Trace]:
    """Give the current trace, and compute at once within the block."""
    trace = current()
    with use_trace(eval_trace):
        yield trace


@contextmanager
def set_current_trace(trace: Trace, check_leaks: bool = False) -> Iterator[None]:
    """Make a trace the current one for a block."""
    with use_trace(trace):
        yield


def _traces() -> Iterator[Trace]:
    trace: Trace | None = current()
    while trace is not None:
        yield trace
        trace = trace.parent


def unsafe_am_i_under_a_jit_DO_NOT_USE() -> bool:
    """Tell whether the innermost transforms write a program down."""
    return any(isinstance(t, Stage) for t in (current(), *core._state.stack))


def unsafe_am_i_under_a_vmap_DO_NOT_USE() -> bool:
    """Tell whether an axis is being mapped."""
    return any(isinstance(t, Batch) for t in _traces())


def unsafe_get_axis_names_DO_NOT_USE() -> list[Any]:
    """Return the names of axes that are being mapped, outer ones first."""
    return [name for name, _ in core._state.axes if name is not None]


def nonempty_axis_env_DO_NOT_USE() -> bool:
    """Tell whether an axis with a name is being mapped."""
    return bool(unsafe_get_axis_names_DO_NOT_USE())


def mapped_aval(size: int, axis: int | None, aval: ShapedArray) -> ShapedArray:
    """Return the type of one lane of an array that is mapped over an axis.

    Example:
        >>> mapped_aval(3, 1, ShapedArray((2, 3), "float32")).str_short()
        'f32[2]'
    """
    if axis is None:
        return aval
    shape = list(aval.shape)
    if shape[axis] != size:
        raise ValueError(f"mapped_aval: axis {axis} of {aval.str_short()} has not size {size}")
    del shape[axis]
    return aval.update(shape=tuple(shape))


def unmapped_aval(
    size: int, axis: int | None, aval: ShapedArray, explicit_mesh_axis: Any = None
) -> ShapedArray:
    """Return the type of an array whose lanes along an axis have a type."""
    if axis is None:
        return aval
    shape = list(aval.shape)
    shape.insert(axis if axis >= 0 else axis + len(shape) + 1, size)
    return aval.update(shape=tuple(shape))


def primal_dtype_to_tangent_dtype(primal_dtype: Any) -> Any:
    """Return the dtype of derivatives: float0 for integers and booleans."""
    return primal_dtype if is_differentiable(np.dtype(primal_dtype)) else np.dtype(dtypes.float0)


def valid_jaxtype(x: Any) -> bool:
    """Tell whether transforms take a value as an array or a number.

    Example:
        >>> valid_jaxtype(2.0), valid_jaxtype("two")
        (True, False)
    """
    if isinstance(x, Array):
        return True
    if hasattr(x, "__jax_array__"):
        return False
    try:
        dtypes.canonical(core.aval_of(x).dtype)
    except TypeError:
        return False
    return True


def concrete_or_error(force: Callable[[Any], Any] | None, val: Any, context: str = "") -> Any:
    """Return ``force(val)``, of a value that is known.

    Args:
        force: a function of concrete values, or None to return the value as it is.
        val: an array, number or tracer.
        context: what it is for, which the error says.

    Raises:
        ConcretizationTypeError: if it is traced, and has no value.
    """
    if isinstance(val, core.Tracer):
        name = getattr(force, "__name__", "array")
        known = core.concrete_or_error(val, context or (name if name in _KINDS else "the value"))
        val = core.ArrayImpl(known)
    return val if force is None else force(val)


_KINDS = ("bool", "int", "float", "complex", "index")
