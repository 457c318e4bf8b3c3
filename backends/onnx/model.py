"""A program as an ONNX model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch.jaxpr import Eqn, Jaxpr, sub_jaxprs

from ..lower import LOWERINGS
from .graph import Graph, symbol_of, value_info
from .pairs import NODES, as_reals, has_complex
from .rules import RULES
from .spectra import PROGRAMS
from .written import WHOLE

__all__ = ["is_plain", "spelled_out", "to_onnx"]


_PROGRAMS = PROGRAMS | WHOLE
_APART = frozenset(_PROGRAMS) | {"lu", "pinv", "qr_pivoting", "schur_shift", "slogdet"}
"""Primitives that are written as programs, for which sizes are numbers."""


def _written(eqn: Eqn) -> Callable[..., Any] | None:
    """Return an equation in other operations, where there are any that it is written in."""
    name = eqn.prim.name
    if name in _PROGRAMS:
        return lambda *xs: _PROGRAMS[name](*xs, **eqn.params)
    rule = LOWERINGS.get(name)
    return None if rule is None else rule(eqn)


def is_plain(jaxpr: Jaxpr) -> bool:
    """Tell whether every equation has a rule for sizes that are known later."""

    def apart(program: Jaxpr) -> bool:
        return any(
            e.prim.name in _APART or any(map(apart, sub_jaxprs(e.params))) for e in program.eqns
        )

    return not (has_complex(jaxpr) or apart(jaxpr))


def spelled_out(jaxpr: Jaxpr) -> Jaxpr:
    """Return a program, whose sizes are numbers, in equations of reals that have rules for any
    size; complex inputs and results are real numbers with a last axis of 2."""
    return as_reals(jaxpr, _written, _APART)


def to_onnx(jaxpr: Jaxpr, names: Sequence[str], title: str) -> Any:
    """Return a program as an ONNX model.

    Args:
        jaxpr: the program; its sizes may be Dims, each of which is some input's axis, if it has no
            complex numbers.
        names: of its inputs and results.
        title: of the model.

    Returns:
        an ``onnx.ModelProto``, checked.

    Raises:
        NotExpressible: a step has no counterpart; the message names it and its line.
    """
    import onnx

    if has_complex(jaxpr):
        jaxpr = as_reals(jaxpr, _written)
    graph = Graph(rules=RULES | NODES)
    given, made = names[: len(jaxpr.invars)], names[len(jaxpr.invars) :]
    consts = [graph.const(np.asarray(c._data)) for c in jaxpr.consts]
    graph.names.update(zip(jaxpr.constvars, consts, strict=True))
    for name, v in zip(given, jaxpr.invars, strict=True):
        for axis, n in enumerate(v.aval.shape):
            symbol = symbol_of(n)
            if symbol is not None and symbol not in graph.sizes:
                shape = graph.op("Shape", name)
                graph.sizes[symbol] = graph.op("Gather", shape, graph.const(axis, np.int64))
    outs = graph.run(jaxpr, given)
    for name, out in zip(made, outs, strict=True):
        graph.nodes.append(onnx.helper.make_node("Identity", [out], [name]))
    found = graph.made(
        title,
        [value_info(n, v.aval) for n, v in zip(given, jaxpr.invars, strict=True)],
        [value_info(n, v.aval) for n, v in zip(made, jaxpr.outvars, strict=True)],
    )
    versions = [onnx.helper.make_opsetid("", graph.opset)]
    model = onnx.helper.make_model(found, producer_name="funtorch", opset_imports=versions)
    model.ir_version = onnx.helper.find_min_ir_version_for(versions)
    onnx.checker.check_model(model)
    return model
