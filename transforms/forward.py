"""Forward differentiation: the JVP interpreter, `jvp`, and `linearize` = JVP over a linear tape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch import dtypes
from funtorch.core import (
    ArrayImpl,
    Primitive,
    ShapedArray,
    Trace,
    Tracer,
    _state,
    aval_of,
    current,
    known_values,
    source_of,
    truth,
)
from funtorch.dtypes import float0
from funtorch.errors import MismatchError, user_frame
from funtorch.jaxpr import Jaxpr, Stage, eval_jaxpr
from funtorch.ops.elementwise import convert
from funtorch.ops.families import zeros
from funtorch.partial import Partial
from funtorch.tracebacks import boundary

from .arguments import FlatFunction, as_arrays
from .references import Crossing, beside, bridged

__all__ = ["JVP", "JVPTracer", "jvp", "jvp_flat", "linearize", "linearize_flat"]


class JVPTracer(Tracer):
    """A primal with its tangent; the tangent ``None`` is zero."""

    __slots__ = ("primal", "tangent")

    def __init__(self, trace: JVP, primal: Any, tangent: Any, source: Any) -> None:
        self.owner = trace
        self.primal = primal
        self.tangent = tangent
        self.source = source

    @property
    def aval(self) -> ShapedArray:  # type: ignore[override]
        return self.primal.aval

    @property
    def shape(self) -> tuple[int, ...]:
        return self.primal.shape

    @property
    def dtype(self) -> Any:
        return self.primal.dtype

    @property
    def weak_type(self) -> bool:
        return self.primal.weak_type

    def concrete(self) -> ArrayImpl | None:
        primal = self.primal
        return primal if isinstance(primal, ArrayImpl) else primal.concrete()

    def values(self) -> tuple[np.ndarray, int] | None:
        return known_values(self.primal)


class JVP(Trace):
    """Push tangents through operations. ``tape`` is the parent when linearizing, else None.

    ``splits``: tangents may be on a tape, so a higher-order primitive must not compute primals and
    tangents in one program, which would put the primals on the tape as well; its linearize rule
    keeps them apart.
    """

    __slots__ = ("splits", "tape")

    def __init__(self, parent: Trace, fun: Any = "", tape: Stage | None = None) -> None:
        super().__init__(parent, fun)
        self.tape = tape
        self.splits = tape is not None or _over_tape(parent)

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        primals, tangents, active = [], [], False
        for a in args:
            if type(a) is JVPTracer and a.owner is self:
                primals.append(a.primal)
                tangents.append(a.tangent)
                active = active or a.tangent is not None
            else:
                primals.append(a)
                tangents.append(None)
        saved, _state.trace = _state.trace, self.parent
        before = _state.source
        try:
            if not active:
                return prim.bind(*primals, **params)
            # What the rule writes, tangents on the tape too, comes from the line of the operation.
            source = _state.source = source_of()
            if self.splits and prim.linearize is not None:
                out, tangent = _linearize_rule(prim, primals, tangents, params)
            else:
                out, tangent = (prim.jvp or prim.rule("jvp"))(primals, tangents, **params)
        finally:
            _state.trace, _state.source = saved, before
        if prim.multiple_results:
            return [
                o if t is None else JVPTracer(self, o, t, source)
                for o, t in zip(out, tangent, strict=True)
            ]
        return out if tangent is None else JVPTracer(self, out, tangent, source)

    def decide(self, x: Any, soft: bool = False) -> bool | None:
        return truth(x.primal, soft)

    def unwrap(self, x: Any) -> tuple[Any, Any]:
        """Return (primal, tangent or None) of a value seen inside the trace."""
        if type(x) is JVPTracer and x.owner is self:
            return x.primal, x.tangent
        return x, None


def _over_tape(trace: Trace | None) -> bool:
    """Tell whether operations handed to ``trace`` may end up on a linear tape."""
    while trace is not None:
        if isinstance(trace, Stage):
            return trace.parent is not None
        if isinstance(trace, JVP):
            return trace.tape is None and trace.splits
        trace = trace.parent
    return False


def _linearize_rule(
    prim: Primitive, primals: list, tangents: list, params: dict[str, Any]
) -> tuple[Any, Any]:
    nonzero = tuple(t is not None for t in tangents)
    outs, linear = prim.linearize(primals, nonzero, **params)  # type: ignore[misc]
    return outs, linear(*[t for t in tangents if t is not None])


# --------------------------------------------------------------------------------------- flat forms
def jvp_flat(
    f: Callable[..., Sequence[Any]], primals: Sequence[Any], tangents: Sequence[Any], name: Any = ""
) -> tuple[list[Any], list[Any]]:
    """Run ``f`` (flat arrays in, list of arrays out) on primals and tangents, None where zero."""
    source = user_frame()

    def run(f: Callable[..., Sequence[Any]]) -> tuple[list[Any], list[Any]]:
        trace = JVP(current(), name)
        with trace:
            ins = [
                p if t is None else JVPTracer(trace, p, t, source)
                for p, t in zip(primals, tangents, strict=True)
            ]
            pairs = [trace.unwrap(x) for x in f(*ins)]
        return [p for p, _ in pairs], [t for _, t in pairs]

    try:
        return run(f)
    except Crossing as crossing:
        return bridged(lambda bridge: beside(bridge, f, run, name), crossing)


def linearize_flat(
    f: Callable[..., Sequence[Any]],
    primals: Sequence[Any],
    nonzero: Sequence[bool] | None = None,
    name: Any = "",
) -> tuple[list[Any], Jaxpr, list[bool]]:
    """Run ``f`` and record its derivative.

    Returns:
        outputs; the linear jaxpr from the nonzero tangents to the tangents of those outputs that
        depend on them, its consts being the residuals; and which outputs those are.
    """
    source = user_frame()
    tapes: list[Stage] = []

    def run(f: Callable[..., Sequence[Any]]) -> tuple[list[Any], list[Any]]:
        tape = Stage(current(), name)
        tapes[:] = [tape]
        trace = JVP(tape, name, tape)
        with trace:
            ins = []
            for k, p in enumerate(primals):
                if nonzero is None or nonzero[k]:
                    aval = aval_of(p)
                    ins.append(JVPTracer(trace, p, tape.new_input(aval.tangent(), source), source))
                else:
                    ins.append(p)
            pairs = [trace.unwrap(x) for x in f(*ins)]
        return [p for p, _ in pairs], [t for _, t in pairs]

    try:
        outs, tangents = run(f)
    except Crossing as crossing:
        outs, tangents = bridged(lambda bridge: beside(bridge, f, run, name), crossing)
    active = [t is not None for t in tangents]
    jaxpr = tapes[0].finish([t for t in tangents if t is not None])
    tapes[0].alive = False
    return outs, jaxpr, active


# ------------------------------------------------------------------------------------------- public
def is_differentiable(dtype: Any) -> bool:
    return dtypes.is_inexact(dtype)


def zero_tangent(aval: ShapedArray) -> Any:
    """Return an explicit zero tangent: of dtype float0 for integers and booleans."""
    return zeros(aval) if is_differentiable(aval.dtype) else np.zeros(aval.shape, float0)


def as_weak_as(t: Any, x: Any) -> Any:
    """Return a derivative with the weakness of what it is the derivative of (an Array or aval)."""
    if t.weak_type == x.weak_type:
        return t
    return convert(t, dtype=t.dtype, weak_type=x.weak_type)


def jvp(
    fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> Any:
    """Compute a function's value and its directional derivative (forward mode).

    Args:
        fun: a function of arrays or pytrees of arrays.
        primals: tuple or list, one per argument of ``fun``: where to differentiate.
        tangents: the same structure, shapes and dtypes: the direction. Integer primals take float0
            tangents.
        has_aux: whether ``fun`` returns ``(output, auxiliary data)``.

    Returns:
        ``(output, output_tangent)``, and the auxiliary data as a third item with ``has_aux``.

    Raises:
        TypeError: when primals and tangents differ in structure, shape or dtype.

    Example:
        >>> import funtorch as ft
        >>> y, t = ft.jvp(lambda x: x**2, (3.0,), (1.0,))
        >>> float(y), float(t)
        (9.0, 6.0)
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError(
            f"jvp takes primals and tangents as tuples or lists, got {type(primals).__name__} and "
            f"{type(tangents).__name__}: write (x,) for one argument"
        )
    leaves, treedef = tree.flatten(tuple(primals))
    t_leaves, t_treedef = tree.flatten(tuple(tangents))
    if treedef != t_treedef:
        raise MismatchError(
            f"jvp: primals and tangents must have the same structure, got {treedef} and {t_treedef}"
        )
    primals_flat = as_arrays(leaves, "primals", fun)
    tangents_flat = [
        _checked_tangent(k, aval_of(p), t)
        for k, (p, t) in enumerate(zip(primals_flat, t_leaves, strict=True))
    ]
    flat = FlatFunction(fun, treedef, has_aux, "jvp")
    outs, touts = jvp_flat(flat, primals_flat, tangents_flat, fun)
    out, aux = flat.split(outs)
    t_out = flat.out_tree.unflatten(
        [
            zero_tangent(aval_of(o)) if t is None else as_weak_as(t, o)
            for o, t in zip(outs[: flat.count], touts[: flat.count], strict=True)
        ]
    )
    return (out, t_out, aux) if has_aux else (out, t_out)


def _checked_tangent(k: int, aval: ShapedArray, t: Any) -> Any:
    """Return the tangent as an array, None where it is float0; check it against its primal."""
    if getattr(t, "dtype", None) == float0:
        return None
    if not is_differentiable(aval.dtype):
        raise TypeError(
            f"jvp: primal {k} has dtype {aval.dtype.name}, so its tangent must have dtype float0 "
            f"(numpy.zeros(shape, funtorch.float0)), got {aval_of(t).str_short()}; or leave the "
            "argument out of the differentiated ones"
        )
    (t,) = as_arrays([t], "tangents", None)
    if t.weak_type and t.dtype != aval.dtype and not t.shape:
        t = t.astype(aval.dtype)
    if t.shape != aval.shape or t.dtype != aval.dtype:
        raise MismatchError(
            f"jvp: primal {k} is {aval.str_short()} but its tangent is {t.aval.str_short()}; "
            "shapes and "
            "dtypes must be equal"
        )
    return t


def linearize(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Evaluate a function and return it with its linear approximation there.

    Args:
        fun: a function of arrays or pytrees of arrays.
        *primals: where to evaluate and differentiate.
        has_aux: whether ``fun`` returns ``(output, auxiliary data)``.

    Returns:
        ``(output, f_jvp)``; ``f_jvp(*tangents)`` gives the output tangent without running ``fun``
        again. It is a pytree of what it remembers. With ``has_aux``, ``(output, f_jvp, aux)``.

    Example:
        >>> import funtorch as ft
        >>> y, f_jvp = ft.linearize(lambda x: x**3, 2.0)
        >>> float(y), float(f_jvp(1.0))
        (8.0, 12.0)
    """
    leaves, treedef = tree.flatten(primals)
    flat_primals = as_arrays(leaves, "primals", fun)
    flat = FlatFunction(fun, treedef, has_aux, "linearize")
    nonzero = [is_differentiable(p.dtype) for p in flat_primals]
    outs, jaxpr, active = linearize_flat(flat, flat_primals, nonzero, fun)
    in_avals, out_avals = [aval_of(p) for p in flat_primals], [aval_of(o) for o in outs]
    program, out_tree = jaxpr.hoisted(), flat.out_tree

    @boundary
    def f_jvp(consts: Sequence[Any], *tangents: Any) -> Any:
        t_leaves, t_treedef = tree.flatten(tangents)
        if t_treedef != treedef:
            raise MismatchError(
                f"the linearized function takes tangents of structure {treedef}, got {t_treedef}"
            )
        given = [
            _checked_tangent(k, aval, t)
            for k, (aval, t) in enumerate(zip(in_avals, t_leaves, strict=True))
        ]
        ts = [
            zeros(aval) if t is None else t
            for aval, t, nz in zip(in_avals, given, nonzero, strict=True)
            if nz
        ]
        results = iter(eval_jaxpr(program, *consts, *ts))
        touts = [
            as_weak_as(next(results), aval) if a else zero_tangent(aval)
            for a, aval in zip(active, out_avals, strict=True)
        ]
        return out_tree.unflatten(touts[: out_tree.num_leaves])

    out, aux = flat.split(outs)
    linear = Partial(f_jvp, jaxpr.consts)
    return (out, linear, aux) if has_aux else (out, linear)
