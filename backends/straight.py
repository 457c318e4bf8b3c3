"""A program as one Python function of NumPy arrays: what eager calls of a function come to, without
what each operation of its own costs around NumPy.

Every equation is a line that calls its eager rule, or NumPy's function itself where the rule is
that. Operations that are exact for each element let NumPy broadcast; others get whole arrays, as
they do one by one. So results are equal bit for bit to those of the operations on their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var
from funtorch.numpy.direct import LARGE

__all__ = ["straight"]

_FLOATS = frozenset({dtypes.float32, dtypes.float64})
_EXACT: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "select": np.where,
}
"""Functions of NumPy whose elements do not depend on how operands lie, of floats."""

_OF_ONE: dict[str, Callable[..., Any]] = {
    "neg": np.negative,
    "abs": np.absolute,
    "square": np.square,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
    "is_finite": np.isfinite,
}
"""Functions of NumPy that are the eager rules themselves, of floats."""

_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_sum": np.add.reduce,
    "reduce_max": np.maximum.reduce,
    "reduce_min": np.minimum.reduce,
}
"""The same of reductions. Those that are only needed with their axes kept keep them at once."""

_IDENTITIES = frozenset({"stop_gradient"})
_SEVERAL = frozenset({"sort", "threefry2x32"})
"""Primitives of several results whose rules are NumPy's work alone."""


def straight(jaxpr: Jaxpr, single: bool = False) -> Callable[..., Any] | None:
    """Return a function from input buffers to a list of results.

    Args:
        jaxpr: the program, without calls of other programs.
        single: whether the one result is returned without a list.

    Returns:
        the function; None where an equation is not computed at once by NumPy alone: it has an
        effect, may run programs, or its operands are large enough to be compiled.
    """
    for eqn in jaxpr.eqns:
        nests = eqn.prim.nests and eqn.prim.name not in _SEVERAL
        if eqn.effects or nests or _is_large(eqn):
            return None
    return _Writer(jaxpr).function(single)


def _is_large(eqn: Eqn) -> bool:
    least = eqn.prim.large or LARGE
    return any(v.aval.size >= least for v in (*eqn.invars, *eqn.outvars))


class _Writer:
    """Writes the lines of a program's function."""

    def __init__(self, jaxpr: Jaxpr) -> None:
        self.jaxpr = jaxpr
        self.lines: list[str] = []
        self.scope: dict[str, Any] = {"np": np, "array": np.asarray}
        self.names: dict[Var, str] = {}
        # Broadcasts that nobody needed as a whole so far: the name of the small array, and the
        # equation that makes the whole one.
        self.small: dict[Var, tuple[str, Eqn]] = {}
        self.readers: dict[Any, list[Eqn]] = {}
        for eqn in jaxpr.eqns:
            for v in eqn.invars:
                self.readers.setdefault(v, []).append(eqn)
        self.kept: set[Var] = set()  # reductions that have kept their axes

    def function(self, single: bool) -> Callable[..., Any]:
        inputs = [self.fresh(v) for v in self.jaxpr.invars]
        for v, const in zip(self.jaxpr.constvars, self.jaxpr.consts, strict=True):
            self.names[v] = self.constant(const._data)
        for eqn in self.jaxpr.eqns:
            self.write(eqn)
        results = ", ".join([self.whole(v) for v in self.jaxpr.outvars])
        tail = f"return {results}" if single else f"return [{results}]"
        text = [f"def made({', '.join(inputs)}):", *self.lines, tail]
        exec("\n    ".join(text), self.scope)
        return self.scope["made"]

    def fresh(self, v: Var) -> str:
        self.names[v] = name = f"v{len(self.names)}"
        return name

    def constant(self, value: Any) -> str:
        name = f"c{len(self.scope)}"
        self.scope[name] = value
        return name

    def whole(self, v: Any) -> str:
        """Return the name of a value in its own shape."""
        if type(v) is Lit:
            return self.constant(v.val._data)
        if v not in self.names:
            self.call(self.small[v][1])
        return self.names[v]

    def write(self, eqn: Eqn) -> None:
        out = eqn.outvars[0]
        if eqn.prim.name == "broadcast_in_dim":
            self.small[out] = self.spread(eqn), eqn
            return
        if eqn.prim.name in _IDENTITIES:
            self.names[out] = self.whole(eqn.invars[0])
            return
        floats = all(v.aval.dtype in _FLOATS for v in eqn.invars if v.aval.dtype != np.bool_)
        exact = _EXACT.get(eqn.prim.name) if floats else None
        if exact is None:
            self.call(eqn)
            return
        held = any(type(v) is Var and v in self.names for v in eqn.invars)
        args = [
            self.small[v][0] if held and v in self.small and v not in self.names else self.whole(v)
            for v in eqn.invars
        ]
        self.assign(out, f"{self.constant(exact)}({', '.join(args)})")

    def spread(self, eqn: Eqn) -> str:
        """Return the name of what a broadcast spreads, with axes of size 1 where it does."""
        x, shape, dims = eqn.invars[0], eqn.params["shape"], eqn.params["dims"]
        name = self.whole(x)
        if not x.aval.shape or dims == tuple(range(len(shape) - len(dims), len(shape))):
            return name
        small = tuple(x.aval.shape[dims.index(k)] if k in dims else 1 for k in range(len(shape)))
        self.lines.append(f"s{len(self.lines)} = {name}.reshape({self.constant(small)})")
        return f"s{len(self.lines) - 1}"

    def keeps_axes(self, eqn: Eqn) -> bool:
        """Tell whether the result of a reduction is only given back its axes, with size 1."""
        out, readers = eqn.outvars[0], self.readers.get(eqn.outvars[0], [])
        x, axes = eqn.invars[0].aval, eqn.params["axes"]
        kept = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
        return out not in self.jaxpr.outvars and all(
            r.prim.name == "reshape" and r.params["shape"] == kept for r in readers
        )

    def call(self, eqn: Eqn) -> None:
        """Write the call of an equation's rule on whole arrays."""
        if eqn.prim.name == "reshape" and eqn.invars[0] in self.kept:
            self.names[eqn.outvars[0]] = self.whole(eqn.invars[0])
            return
        args = [self.whole(v) for v in eqn.invars]
        floats = all(v.aval.dtype in _FLOATS for v in eqn.invars)
        plain = _OF_ONE.get(eqn.prim.name)
        if plain is not None and floats:
            self.assign(eqn.outvars[0], f"{self.constant(plain)}({args[0]})")
            return
        reduce = _REDUCTIONS.get(eqn.prim.name)
        if reduce is not None and floats and eqn.invars[0].aval.size and self.keeps_axes(eqn):
            self.kept.add(eqn.outvars[0])
            axes = self.constant(eqn.params["axes"])
            name = self.fresh(eqn.outvars[0])
            text = f"{self.constant(reduce)}({args[0]}, {axes}, None, None, True)"
            self.lines.append(f"{name} = {text}")
            return
        params = [f"{k}={self.constant(value)}" for k, value in eqn.params.items()]
        rule = self.constant(eqn.prim.eager)
        text = f"{rule}({', '.join(['np', *args, *params])})"
        if eqn.prim.multiple_results:
            self.lines.append(f"{''.join([f'{self.fresh(v)}, ' for v in eqn.outvars])}= {text}")
        else:
            self.assign(eqn.outvars[0], text)

    def assign(self, out: Var, text: str) -> None:
        # NumPy gives numbers where ours have rank 0: rules want arrays.
        text = text if out.aval.shape else f"array({text})"
        self.lines.append(f"{self.fresh(out)} = {text}")
