"""Programs of functions some of whose arguments are known, under the names of
jax.interpreters.partial_eval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funtorch.arraytree import leaves
from funtorch.core import ShapedArray, current
from funtorch.dtypes import KeyType, uint32
from funtorch.errors import user_frame
from funtorch.extend.linear_util import WrappedFun
from funtorch.jaxpr import Eqn, Jaxpr, Stage, StageTracer, Var, stage
from funtorch.numpy.promotion import asarray
from funtorch.random import KeyArray

__all__ = [
    "DynamicJaxprTracer",
    "JaxprTracer",
    "PartialVal",
    "dce_jaxpr",
    "dce_jaxpr_consts",
    "trace_to_jaxpr_dynamic",
    "trace_to_jaxpr_nounits",
]

JaxprTracer = DynamicJaxprTracer = StageTracer


class PartialVal(tuple):
    """A value that is known, or the type of one that is not: ``(None, value)`` or
    ``(type, None)``."""

    __slots__ = ()

    @classmethod
    def known(cls, const: Any) -> PartialVal:
        """Return a known value."""
        return cls((None, const))

    @classmethod
    def unknown(cls, aval: ShapedArray) -> PartialVal:
        """Return an unknown value of a type."""
        return cls((aval, None))

    def is_known(self) -> bool:
        """Tell whether the value is known."""
        return self[0] is None

    def get_known(self) -> Any:
        """Return the value, or None."""
        return self[1]

    def get_aval(self) -> ShapedArray:
        """Return the type."""
        return asarray(self[1]).aval if self[0] is None else self[0]


def _input(recorder: Stage, aval: ShapedArray, source: Any) -> Any:
    if not isinstance(aval.dtype, KeyType):
        return recorder.new_input(aval, source)
    words = ShapedArray((*aval.shape, 2), uint32)  # programs know keys as these
    return KeyArray(recorder.new_input(words, source))


def trace_to_jaxpr_nounits(
    fun: WrappedFun, pvals: Sequence[PartialVal], instantiate: bool | Sequence[bool] = False
) -> tuple[Jaxpr, list[PartialVal], list[Any]]:
    """Compute what the known arguments of a function decide; write the rest down as a program.

    Args:
        fun: a function of flat arrays that returns a list of arrays.
        pvals: its arguments.
        instantiate: for all results, or each: whether the program gives it though it is known.

    Returns:
        the program, which takes the consts and then the unknown arguments, and gives the unknown
        results; the results; the consts.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.extend.linear_util import wrap_init
        >>> f = wrap_init(lambda x, y: [x * 2, y * 2])
        >>> args = [PartialVal.known(3), PartialVal.unknown(ft.core.ShapedArray((), "float32"))]
        >>> program, outs, consts = trace_to_jaxpr_nounits(f, args)
        >>> [out.is_known() for out in outs], len(program.eqns)
        ([True, False], 1)
    """
    recorder = Stage(current(), fun.__name__)
    source = user_frame()
    with recorder:
        args = [
            asarray(const) if aval is None else _input(recorder, aval, source)
            for aval, const in pvals
        ]
        outs = [asarray(x) for x in fun.call_wrapped(*args)]
        wanted = [instantiate] * len(outs) if isinstance(instantiate, bool) else list(instantiate)
        unknown = [
            w or any(type(part) is StageTracer and part.owner is recorder for part in leaves(x))
            for x, w in zip(outs, wanted, strict=True)
        ]
        program = recorder.finish(leaves([x for x, u in zip(outs, unknown, strict=True) if u]))
    results = [
        PartialVal.unknown(ShapedArray(x.shape, x.dtype, x.weak_type)) if u else PartialVal.known(x)
        for x, u in zip(outs, unknown, strict=True)
    ]
    return program.hoisted(), results, program.consts


def trace_to_jaxpr_dynamic(
    fun: WrappedFun, in_avals: Sequence[ShapedArray], **kwargs: Any
) -> tuple[Jaxpr, list[ShapedArray], list[Any]]:
    """Write a function of flat arrays, which returns a list of arrays, down as a program.

    Returns:
        the program, the types of its results, the values of its constants.
    """

    def flat(*args: Any) -> list[Any]:
        return [asarray(x) for x in fun.call_wrapped(*args)]

    program = stage(flat, list(in_avals), fun.__name__)
    return program, program.out_avals, program.consts


def dce_jaxpr(
    jaxpr: Jaxpr, used_outputs: bool | Sequence[bool], instantiate: bool | Sequence[bool] = False
) -> tuple[Jaxpr, list[bool]]:
    """Leave out of a program what only results that are not used need.

    Args:
        jaxpr: the program.
        used_outputs: for all results, or each: whether it is used.
        instantiate: for all arguments, or each: whether it is kept though it is not used.

    Returns:
        the program of the other arguments and results, and which arguments were kept.

    Example:
        >>> import funtorch as ft
        >>> program = ft.make_jaxpr(lambda x, y: (ft.numpy.sin(x), y + 1))(1.0, 2.0)
        >>> smaller, kept = dce_jaxpr(program, [True, False])
        >>> kept, len(smaller.eqns)
        ([True, False], 1)
    """
    outs, ins = len(jaxpr.outvars), len(jaxpr.invars)
    used = [used_outputs] * outs if isinstance(used_outputs, bool) else list(used_outputs)
    keep = [instantiate] * ins if isinstance(instantiate, bool) else list(instantiate)
    outvars = [v for v, u in zip(jaxpr.outvars, used, strict=True) if u]
    needed: set[Any] = {v for v in outvars if isinstance(v, Var)}
    eqns: list[Eqn] = []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or not needed.isdisjoint(eqn.outvars):
            eqns.append(eqn)
            needed.update(v for v in eqn.invars if isinstance(v, Var))
    kept = [k or v in needed for v, k in zip(jaxpr.invars, keep, strict=True)]
    invars = [v for v, k in zip(jaxpr.invars, kept, strict=True) if k]
    small = Jaxpr(invars, eqns[::-1], outvars, jaxpr.constvars, jaxpr.consts)
    return small, kept


def dce_jaxpr_consts(
    jaxpr: Jaxpr, used_outputs: Sequence[bool], instantiate: bool | Sequence[bool] = False
) -> tuple[Jaxpr, list[bool], list[bool]]:
    """Do what `dce_jaxpr` does, and leave out constants, too; tell which were kept."""
    small, kept = dce_jaxpr(jaxpr, used_outputs, instantiate)
    needed = {v for eqn in small.eqns for v in eqn.invars} | set(small.outvars)
    flags = [v in needed for v in jaxpr.constvars]
    constvars = [v for v, k in zip(jaxpr.constvars, flags, strict=True) if k]
    consts = [x for x, k in zip(jaxpr.consts, flags, strict=False) if k]
    return Jaxpr(small.invars, small.eqns, small.outvars, constvars, consts), flags, kept
