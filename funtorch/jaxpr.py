"""Programs as data: the jaxpr, its printer and checker, and `Stage`, the one recorder.

A `Jaxpr` is a list of equations in single-assignment form. `Stage(parent=None)` writes every
operation down (that is how jit, make_jaxpr and the control-flow primitives get their programs);
``Stage(parent=outer)`` writes down only what touches its inputs and lets ``outer`` do the rest (the
linear tape of reverse-mode differentiation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch.core import (
    Array,
    ArrayImpl,
    Primitive,
    ShapedArray,
    Trace,
    Tracer,
    _state,
    current,
    escaped_tracer,
    eval_trace,
    source_of,
)
from funtorch.errors import JaxprTypeError, Source, user_frame

__all__ = [
    "Eqn",
    "Jaxpr",
    "Lit",
    "Stage",
    "StageTracer",
    "Var",
    "check_gives",
    "check_jaxpr",
    "check_takes",
    "dependent",
    "eval_jaxpr",
    "stage",
    "sub_jaxprs",
]


class Var:
    """A variable of a jaxpr; identity is its name."""

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return f"Var:{self.aval.str_short()}"


class Lit:
    """A scalar constant inside an equation. ``val`` is a concrete rank-0 Array."""

    __slots__ = ("aval", "val")

    def __init__(self, val: ArrayImpl) -> None:
        self.val = val
        self.aval = val.aval

    def __repr__(self) -> str:
        return f"{self.val._data.item()!r}:{self.aval.str_short()}"


class Eqn:
    """One operation: ``outvars = prim[params](invars)``; ``source`` is the user's line."""

    __slots__ = ("invars", "outvars", "params", "prim", "source")

    def __init__(
        self,
        prim: Primitive,
        invars: Sequence[Var | Lit],
        params: dict[str, Any],
        outvars: Sequence[Var],
        source: Source | None = None,
    ) -> None:
        self.prim = prim
        self.invars = invars
        self.params = params
        self.outvars = outvars
        self.source = source

    @property
    def primitive(self) -> Primitive:
        return self.prim

    @property
    def effects(self) -> frozenset[str]:
        """What the equation does besides giving results, programs in its parameters included."""
        own = frozenset() if self.prim.effect is None else frozenset([self.prim.effect])
        return own.union(*[sub.effects for sub in sub_jaxprs(self.params)])

    @property
    def source_info(self) -> Source | None:
        return self.source

    def replace(self, **changes: Any) -> Eqn:
        """Return a copy with some of ``invars, outvars, primitive, params, source_info``
        replaced."""
        return Eqn(
            changes.get("primitive", self.prim),
            changes.get("invars", self.invars),
            changes.get("params", self.params),
            changes.get("outvars", self.outvars),
            changes.get("source_info", self.source),
        )


class Jaxpr:
    """A program: ``lambda constvars; invars. let eqns in outvars``, closed over ``consts``.

    Jaxprs are immutable and compared by identity, so they serve as cache keys; ``memo`` keeps the
    programs derived from this one.
    """

    __slots__ = ("__weakref__", "constvars", "consts", "eqns", "invars", "memo", "outvars")

    def __init__(
        self,
        invars: Sequence[Var],
        eqns: Sequence[Eqn],
        outvars: Sequence[Var | Lit],
        constvars: Sequence[Var] = (),
        consts: Sequence[Any] = (),
    ) -> None:
        self.invars = list(invars)
        self.eqns = list(eqns)
        self.outvars = list(outvars)
        self.constvars = list(constvars)
        self.consts = list(consts)
        self.memo: dict[Any, Any] = {}

    @property
    def jaxpr(self) -> Jaxpr:
        return self

    @property
    def literals(self) -> list[Any]:
        return self.consts

    @property
    def in_avals(self) -> list[ShapedArray]:
        return [v.aval for v in self.invars]

    @property
    def out_avals(self) -> list[ShapedArray]:
        return [v.aval for v in self.outvars]

    @property
    def effects(self) -> frozenset[str]:
        """What the program does besides giving results: see `Primitive`'s ``effect``."""
        if "effects" not in self.memo:
            self.memo["effects"] = frozenset().union(*[eqn.effects for eqn in self.eqns])
        return self.memo["effects"]

    def hoisted(self) -> Jaxpr:
        """Return the same program with its constants as leading inputs."""
        if not self.constvars:
            return self
        if "hoisted" not in self.memo:
            self.memo["hoisted"] = Jaxpr([*self.constvars, *self.invars], self.eqns, self.outvars)
        return self.memo["hoisted"]

    def without_consts(self) -> Jaxpr:
        """Return the same program, which does not know the values of its constants."""
        return Jaxpr(self.invars, self.eqns, self.outvars, self.constvars)

    def __str__(self) -> str:
        return "\n".join(_lines(self, {}))

    def __repr__(self) -> str:
        return str(self)


def sub_jaxprs(params: dict[str, Any]) -> list[Jaxpr]:
    """Return the jaxprs among an equation's parameters, in order."""
    found = []
    for value in params.values():
        if isinstance(value, Jaxpr):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found.extend(v for v in value if isinstance(v, Jaxpr))
    return found


# ----------------------------------------------------------------------------------------- printing
def _name(n: int) -> str:
    out = ""
    while True:
        out = chr(97 + n % 26) + out
        n = n // 26 - 1
        if n < 0:
            return out


def _lines(jaxpr: Jaxpr, names: dict[Var, str]) -> list[str]:
    def name(v: Var | Lit, typed: bool = False) -> str:
        if isinstance(v, Lit):
            return repr(v) if typed else f"{v.val._data.item()!r}"
        if v not in names:
            names[v] = _name(len(names))
        return f"{names[v]}:{v.aval.str_short()}" if typed else names[v]

    head = " ".join(name(v, True) for v in jaxpr.constvars)
    args = " ".join(name(v, True) for v in jaxpr.invars)
    lines = [f"{{ lambda {head} ; {args}. let"]
    for eqn in jaxpr.eqns:
        left = " ".join(name(v, True) for v in eqn.outvars) + " = " if eqn.outvars else ""
        subs, plain = [], []
        for key, value in sorted(eqn.params.items()):
            nested = isinstance(value, Jaxpr) or (
                isinstance(value, (tuple, list)) and any(isinstance(v, Jaxpr) for v in value)
            )
            (subs if nested else plain).append((key, value))
        shown = " ".join(f"{k}={_show(v)}" for k, v in plain)
        right = " ".join(name(v) for v in eqn.invars)
        if not subs:
            lines.append(f"    {left}{eqn.prim.name}{f'[{shown}]' if shown else ''} {right}")
            continue
        lines.append(f"    {left}{eqn.prim.name}[{shown}")
        for key, value in subs:
            for k, sub in enumerate([value] if isinstance(value, Jaxpr) else value):
                inner = _lines(sub, dict(names)) if isinstance(sub, Jaxpr) else [str(sub)]
                mark = key if isinstance(value, Jaxpr) else f"{key}[{k}]"
                lines.append(f"      {mark}={inner[0]}")
                lines.extend("      " + line for line in inner[1:])
        lines.append(f"    ] {right}")
    outs = ", ".join(name(v) for v in jaxpr.outvars)
    lines.append(f"  in ({outs}{',' if len(jaxpr.outvars) == 1 else ''}) }}")
    return lines


def _show(value: Any) -> str:
    if isinstance(value, np.dtype):
        return value.name
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return str(value).replace(" ", "")


# ----------------------------------------------------------------------------------------- checking
def check_jaxpr(jaxpr: Jaxpr) -> None:
    """Check that variables are bound once and before use and that every equation has the types it
    claims.

    Raises:
        JaxprTypeError: naming the first equation that is wrong.
    """
    if len(jaxpr.constvars) != len(jaxpr.consts):
        raise JaxprTypeError(f"{len(jaxpr.constvars)} constvars, {len(jaxpr.consts)} consts")
    bound: set[Var] = set()
    for v in [*jaxpr.constvars, *jaxpr.invars]:
        if v in bound:
            raise JaxprTypeError(f"input {v} is bound twice")
        bound.add(v)
    for k, eqn in enumerate(jaxpr.eqns):
        for v in eqn.invars:
            if isinstance(v, Var) and v not in bound:
                raise JaxprTypeError(
                    f"equation {k} ({eqn.prim}) uses {v} before it is bound\n{jaxpr}"
                )
        for sub in sub_jaxprs(eqn.params):
            check_jaxpr(sub)
        found = eqn.prim.type(*[v.aval for v in eqn.invars], **eqn.params)
        found = found if eqn.prim.multiple_results else [found]
        if len(found) != len(eqn.outvars):
            raise JaxprTypeError(
                f"equation {k} ({eqn.prim}) has {len(eqn.outvars)} outputs, types say {len(found)}"
            )
        for v, aval in zip(eqn.outvars, found, strict=True):
            if v in bound:
                raise JaxprTypeError(f"equation {k} ({eqn.prim}) binds {v} again")
            if not v.aval.same_type(aval):
                raise JaxprTypeError(
                    f"equation {k} ({eqn.prim}) claims {v.aval}, its type rule says {aval}\n{jaxpr}"
                )
            bound.add(v)
    for v in jaxpr.outvars:
        if isinstance(v, Var) and v not in bound:
            raise JaxprTypeError(f"output {v} is not bound\n{jaxpr}")


def check_takes(what: str, jaxpr: Jaxpr, avals: Sequence[ShapedArray]) -> None:
    """Check that a program inside of an equation takes operands of these types.

    Raises:
        JaxprTypeError: it does not.
    """
    wanted = [v.aval for v in jaxpr.invars]
    if len(wanted) != len(avals) or not all(map(ShapedArray.same_type, wanted, avals)):
        shown = (", ".join(a.str_short() for a in part) or "nothing" for part in (wanted, avals))
        raise JaxprTypeError("{} takes {}, got {}".format(what, *shown))


def check_gives(what: str, jaxpr: Jaxpr, avals: Sequence[ShapedArray]) -> None:
    """Check that a program inside of an equation gives results of these types.

    Raises:
        JaxprTypeError: it does not.
    """
    found = jaxpr.out_avals
    if len(found) != len(avals) or not all(map(ShapedArray.same_type, found, avals)):
        shown = (", ".join(a.str_short() for a in part) or "nothing" for part in (found, avals))
        raise JaxprTypeError("{} gives {}, not {}".format(what, *shown))


# ---------------------------------------------------------------------------------------- recording
class StageTracer(Tracer):
    """A tracer that is a variable of the program being recorded."""

    __slots__ = ("_var",)

    def __init__(self, trace: Stage, var: Var, source: Source | None) -> None:
        self.owner = trace
        self._var = var
        self.source = source

    @property
    def aval(self) -> ShapedArray:  # type: ignore[override]
        return self._var.aval


class Stage(Trace):
    """Record operations as equations; see the module's first lines."""

    __slots__ = ("constvars", "eqns", "invars")
    kind = "Stage"  # subclasses too

    def __init__(self, parent: Trace | None = None, name: str = "") -> None:
        super().__init__(parent, name)
        self.eqns: list[Eqn] = []
        self.invars: list[Var] = []
        self.constvars: dict[int, tuple[Var, Any]] = {}

    def new_input(self, aval: ShapedArray, source: Source | None = None) -> StageTracer:
        var = Var(aval)
        self.invars.append(var)
        return StageTracer(self, var, source)

    def atom(self, x: Any) -> Var | Lit:
        """Return what stands for ``x`` in the program: its variable, a literal, or a new
        constant."""
        if type(x) is StageTracer and x.owner is self:
            return x._var
        if type(x) is ArrayImpl:
            if not x._data.shape and type(x._data) is np.ndarray:
                return Lit(x)
        elif isinstance(x, Tracer) and not x.owner.alive:
            raise escaped_tracer(x)
        if not isinstance(x, Array):
            raise TypeError(f"{type(x).__name__} is not a funtorch array: {x!r:.80}")
        known = self.constvars.get(id(x))
        if known is None:
            known = self.constvars[id(x)] = (Var(x.aval), x)
        return known[0]

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        if self.parent is not None:
            for a in args:
                if type(a) is StageTracer and a.owner is self:
                    break
            else:
                parent = self.parent
                if parent is eval_trace and not prim.nests:
                    return parent.process(prim, args, params)  # it binds nothing in turn
                _state.trace = parent
                try:
                    return parent.process(prim, args, params)
                finally:
                    _state.trace = self
            source = _state.source  # users never see the tape's tracers, but errors backwards
            if prim.depends is not None:
                flags = [_is_from(self, a) for a in args]
                if not all(prim.depends(flags, **params)):
                    return prim.rule("divide")(flags, args, **params)
        else:
            source = source_of()
        invars = [self.atom(a) for a in args]
        avals = prim.type(*[v.aval for v in invars], **params)
        if prim.multiple_results:
            outvars = [Var(aval) for aval in avals]
            self.eqns.append(Eqn(prim, invars, params, outvars, source))
            return [StageTracer(self, v, source) for v in outvars]
        var = Var(avals)
        self.eqns.append(Eqn(prim, invars, params, [var], source))
        return StageTracer(self, var, source)

    def finish(self, outs: Sequence[Any]) -> Jaxpr:
        """Return the recorded program with ``outs`` as its outputs."""
        outvars = [self.atom(x) for x in outs]
        consts = list(self.constvars.values())
        return Jaxpr(
            self.invars, self.eqns, outvars, [v for v, _ in consts], [x for _, x in consts]
        )


def _is_from(trace: Trace, x: Any) -> bool:
    return type(x) is StageTracer and x.owner is trace


def dependent(jaxpr: Jaxpr, flags: Sequence[bool]) -> list[bool]:
    """Tell which outputs depend on one of the inputs that ``flags`` marks."""
    key = ("dependent", tuple(flags))
    if key not in jaxpr.memo:
        reached = {v for v, f in zip(jaxpr.invars, flags, strict=True) if f}
        for eqn in jaxpr.eqns:
            if reached.isdisjoint(eqn.invars):
                continue
            outs = eqn.outvars
            if eqn.prim.depends is not None:
                found = eqn.prim.depends([v in reached for v in eqn.invars], **eqn.params)
                outs = [v for v, f in zip(outs, found, strict=True) if f]
            reached.update(outs)
        jaxpr.memo[key] = [v in reached for v in jaxpr.outvars]
    return jaxpr.memo[key]


def stage(
    f: Callable[..., Sequence[Any]],
    avals: Sequence[ShapedArray],
    name: str = "",
    trace: Stage | None = None,
) -> Jaxpr:
    """Record ``f``, a function of flat arrays that returns a list of arrays, as a jaxpr.

    What the function closes over becomes the jaxpr's consts, tracers of enclosing transforms
    included. ``trace`` is the recorder, where it is to be one of another kind.
    """
    source = user_frame()
    recorder = trace or Stage(None, name or getattr(f, "__name__", ""))
    with recorder:
        tracers = [recorder.new_input(aval, source) for aval in avals]
        return recorder.finish(f(*tracers))


def eval_jaxpr(jaxpr: Jaxpr, *args: Any) -> list[Any]:
    """Run a jaxpr on arrays or tracers, one bind per equation, in the current trace."""
    env: dict[Any, Any] = dict(zip(jaxpr.constvars, jaxpr.consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    process, state = current().process, _state
    saved = state.source
    try:
        for eqn in jaxpr.eqns:
            ins = [v.val if type(v) is Lit else env[v] for v in eqn.invars]
            if eqn.source is not None:
                state.source = eqn.source
            out = process(eqn.prim, ins, eqn.params)
            if eqn.prim.multiple_results:
                env.update(zip(eqn.outvars, out, strict=True))
            else:
                env[eqn.outvars[0]] = out
    finally:
        state.source = saved
    return [v.val if type(v) is Lit else env[v] for v in jaxpr.outvars]
