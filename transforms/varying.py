"""What differs between the devices of a mesh, inside of `shard_map`, and what that means for
derivatives.

A value *varies* along the axes of the mesh where devices may have different ones of it. Derivatives
that are taken inside of the function are those of all devices' results together in what is the
same everywhere: `grad` of a loss of one's own part of the data, with respect to weights that all
have, is the sum of the gradients of all parts.

References:
    JAX, "shard_map", https://docs.jax.dev/en/latest/notebooks/shard_map.html
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

from funtorch.core import ArrayImpl
from funtorch.jaxpr import Eqn, Jaxpr, Lit, StageTracer, Var, sub_jaxprs

from .batching import BatchTracer
from .forward import JVPTracer
from .paths import PathStage

__all__ = ["Body", "axes_to_share", "given", "in_body", "inside", "varying", "varying_outputs"]

Axes = frozenset[Hashable]
_NONE: Axes = frozenset()

# What collectives along an axis give.
_SAME = frozenset(("psum", "pmax", "pmin"))
_DIFFERENT = frozenset(
    ("all_gather", "all_to_all", "axis_index", "ppermute", "psum_scatter", "pvary")
)


class Body:
    """A function that is being traced for the devices of a mesh.

    Args:
        sizes: the axes of the mesh that are mapped, and their sizes.
        inputs: what each input varies along.
    """

    def __init__(self, sizes: Mapping[Hashable, int], inputs: Sequence[Axes]) -> None:
        self.sizes = dict(sizes)
        self.all = frozenset(sizes)
        self.known: dict[Var, Axes] = {}
        self.inputs: list[Sequence[Axes]] = [inputs]  # of the innermost program being traced

    def of(self, x: Any) -> Axes:
        """Return what a value varies along."""
        while isinstance(x, (JVPTracer, BatchTracer)):
            x = x.primal if isinstance(x, JVPTracer) else x.val
        if isinstance(x, ArrayImpl):
            return _NONE
        if type(x) is not StageTracer:
            return self.all
        if x._var not in self.known:
            self._look(x.owner)
        return self.known.get(x._var, self.all)

    def _look(self, trace: Any) -> None:
        """Find out about all that a trace has recorded."""
        known, inputs = self.known, self.inputs[-1]
        for k, v in enumerate(trace.invars):
            fits = len(inputs) == len(trace.invars)
            known.setdefault(v, inputs[k] if fits else self.all)
        for v, value in list(trace.constvars.values()):
            if v not in known:
                known[v] = self.of(value)
        past = trace.tree.nodes() if isinstance(trace, PathStage) else ()
        for eqn in (*[e for node in past for e in node.eqns], *trace.eqns):
            if any(v not in known for v in eqn.outvars):
                ins = [_NONE if type(v) is Lit else known.get(v, self.all) for v in eqn.invars]
                known.update(zip(eqn.outvars, _of_equation(eqn, ins), strict=True))


class _Bodies(threading.local):
    def __init__(self) -> None:
        self.stack: list[Body | None] = []


_bodies = _Bodies()


@contextlib.contextmanager
def inside(body: Body | None) -> Iterator[None]:
    """Return the context in which a function is traced for the devices of a mesh; with None,
    derivatives are those of each device's own values."""
    _bodies.stack.append(body)
    try:
        yield
    finally:
        _bodies.stack.pop()


def in_body() -> bool:
    """Tell whether the values of a function of `shard_map` are being told apart."""
    return bool(_bodies.stack) and _bodies.stack[-1] is not None


@contextlib.contextmanager
def given(operands: Sequence[Any]) -> Iterator[None]:
    """Return the context in which a program is traced that will have these operands."""
    body = _bodies.stack[-1] if _bodies.stack else None
    if body is None:
        yield
        return
    body.inputs.append([body.of(x) for x in operands])
    try:
        yield
    finally:
        body.inputs.pop()


def varying(x: Any) -> Axes:
    """Return the axes of the mesh that a value varies along."""
    body = _bodies.stack[-1] if _bodies.stack else None
    return _NONE if body is None else body.of(x)


def axes_to_share(
    inputs: Sequence[Any], outputs: Sequence[Any], tape: Jaxpr
) -> tuple[list[float], list[list[Hashable]]] | None:
    """Return how cotangents are shared between devices; None where they are not.

    Each device has a part in what is the same everywhere, so the cotangent of a result that n
    devices have the same is divided by n, and the cotangents of an input that they have the same
    are added up.

    Args:
        inputs: values with respect to which derivatives are taken.
        outputs: the results.
        tape: the linear program between their tangents.

    Returns:
        the factor of each output's cotangent, and the axes to sum each input's over.
    """
    body = _bodies.stack[-1] if _bodies.stack else None
    if body is None:
        return None
    ins, outs = [body.of(x) for x in inputs], [body.of(x) for x in outputs]
    told = frozenset().union(*outs, *ins, *map(body.of, tape.consts), _axes_named(tape)) & body.all
    if not told:
        return None
    factors = [1 / math.prod(body.sizes[a] for a in told - axes) for axes in outs]
    return factors, [[a for a in body.sizes if a in told - axes] for axes in ins]


def _axes_named(jaxpr: Jaxpr) -> frozenset[Hashable]:
    """Return the axes that the collectives of a program are along."""
    if "axes named" not in jaxpr.memo:
        own = [eqn.params["axis_name"] for eqn in jaxpr.eqns if "axis_name" in eqn.params]
        inner = [_axes_named(sub) for eqn in jaxpr.eqns for sub in sub_jaxprs(eqn.params)]
        jaxpr.memo["axes named"] = frozenset(own).union(*inner)
    return jaxpr.memo["axes named"]


# --------------------------------------------------------------------------------- through programs
def varying_outputs(jaxpr: Jaxpr, inputs: Sequence[Axes]) -> list[Axes]:
    """Return what the results of a program vary along, given what its inputs do."""
    key = ("varying", tuple(inputs))
    if key not in jaxpr.memo:
        known: dict[Any, Axes] = dict(zip(jaxpr.invars, inputs, strict=True))
        known.update(dict.fromkeys(jaxpr.constvars, _NONE))
        for eqn in jaxpr.eqns:
            ins = [known.get(v, _NONE) for v in eqn.invars]
            known.update(zip(eqn.outvars, _of_equation(eqn, ins), strict=True))
        jaxpr.memo[key] = [known.get(v, _NONE) for v in jaxpr.outvars]
    return jaxpr.memo[key]


def _of_equation(eqn: Eqn, ins: Sequence[Axes]) -> Sequence[Axes]:
    union = _NONE.union(*ins)
    name, axis = eqn.prim.name, eqn.params.get("axis_name")
    if name in _SAME:
        return [union - {axis}]
    if name in _DIFFERENT:
        return [union | {axis}]
    rule = _PROGRAMS.get(name)
    if rule is not None:
        return rule(ins, **eqn.params)
    jaxpr = eqn.params.get("jaxpr")
    if eqn.prim.call and jaxpr is not None:
        return varying_outputs(jaxpr, ins)
    inner = [_axes_named(sub) for sub in sub_jaxprs(eqn.params)]
    return [union.union(*inner)] * len(eqn.outvars)


def _fixed(carry: list[Axes], step: Callable[[list[Axes]], Sequence[Axes]]) -> list[Axes]:
    """Return what a carry varies along after any number of steps."""
    while True:
        new = [a | b for a, b in zip(carry, step(carry), strict=True)]
        if new == carry:
            return carry
        carry = new


def _of_scan(
    ins: Sequence[Axes], *, jaxpr: Jaxpr, num_consts: int, num_carry: int, **params: Any
) -> list[Axes]:
    consts, xs = list(ins[:num_consts]), list(ins[num_consts + num_carry :])
    first = list(ins[num_consts : num_consts + num_carry])

    def step(carry: list[Axes]) -> list[Axes]:
        return varying_outputs(jaxpr, [*consts, *carry, *xs])

    carry = _fixed(first, lambda c: step(c)[:num_carry])
    return [*carry, *step(carry)[num_carry:]]


def _of_while(
    ins: Sequence[Axes],
    *,
    cond_jaxpr: Jaxpr,
    body_jaxpr: Jaxpr,
    cond_nconsts: int,
    body_nconsts: int,
    **params: Any,
) -> list[Axes]:
    first = cond_nconsts + body_nconsts
    tests, consts = list(ins[:cond_nconsts]), list(ins[cond_nconsts:first])

    def step(carry: list[Axes]) -> list[Axes]:
        (test,) = varying_outputs(cond_jaxpr, [*tests, *carry])
        return [test | a for a in varying_outputs(body_jaxpr, [*consts, *carry])]

    return _fixed(list(ins[first:]), step)


def _of_cond(ins: Sequence[Axes], *, branches: Sequence[Jaxpr], **params: Any) -> list[Axes]:
    found = [varying_outputs(branch, ins[1:]) for branch in branches]
    return [ins[0].union(*column) for column in zip(*found, strict=True)]


_PROGRAMS: dict[str, Callable[..., Sequence[Axes]]] = {
    "scan": _of_scan,
    "while": _of_while,
    "cond": _of_cond,
}
