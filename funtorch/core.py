"""The language: abstract values, arrays, primitives and the trace that is current.

A primitive is a name and its rules. Calling ``prim.bind(*args, **params)`` hands the operation to
the current trace, and the current trace decides what an operation means: `Eval` computes it,
`Stage` (in `funtorch.jaxpr`) writes it down, `JVP` and `Batch` (in `funtorch.transforms`) rewrite
it into other operations for their parent. Rules therefore run with the parent trace as the current
one, and that is all it takes for transforms to nest.
"""

from __future__ import annotations

import contextvars
import itertools
import math
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funtorch import dtypes
from funtorch.errors import (
    ADVICE_STATIC,
    CONCRETE,
    ConcretizationTypeError,
    Source,
    TracerArrayConversionError,
    UnexpectedTracerError,
    function_name,
    user_frame,
)
from funtorch.sharding import Mesh, NamedSharding, PartitionSpec

__all__ = [
    "Array",
    "ArrayImpl",
    "Eval",
    "Primitive",
    "ShapedArray",
    "Trace",
    "Tracer",
    "aval_of",
    "current",
    "decide",
    "eval_trace",
    "kind_of",
    "known_values",
    "no_source",
    "not_concrete",
    "source_of",
    "truth",
    "typeof",
    "use_trace",
]


# -------------------------------------------------------------------------------------------- avals
_DTYPES = {dtypes.KeyType, *map(type, dtypes.ALL), type(np.dtype(dtypes.float0))}


class ShapedArray:
    """What is known of an array before it has a value: shape, dtype, and whether the dtype is
    weak."""

    __slots__ = ("dtype", "shape", "weak_type")

    def __init__(
        self, shape: tuple[int, ...], dtype: Any, weak_type: bool = False, *, sharding: Any = None
    ) -> None:
        self.shape = shape
        self.dtype = dtype if type(dtype) in _DTYPES else dtypes.canonicalize_dtype(dtype, True)
        self.weak_type = weak_type

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        size = 1
        for n in self.shape:
            size *= n
        return size

    @property
    def sharding(self) -> NamedSharding:
        """How the array is divided: not at all, in programs."""
        return NamedSharding(Mesh((), ()), PartitionSpec(*[None] * self.ndim))

    def update(self, **changes: Any) -> ShapedArray:
        """Return a copy with some of ``shape``, ``dtype``, ``weak_type`` replaced."""
        fields = {"shape": self.shape, "dtype": self.dtype, "weak_type": self.weak_type}
        return ShapedArray(**{**fields, **changes})

    def tangent(self) -> ShapedArray:
        return ShapedArray(self.shape, self.dtype)

    def to_tangent_aval(self) -> ShapedArray:
        """Return the type of its derivatives: of dtype float0 for integers and booleans."""
        dtype = self.dtype if dtypes.is_inexact(self.dtype) else np.dtype(dtypes.float0)
        return ShapedArray(self.shape, dtype)

    def same_type(self, other: ShapedArray) -> bool:
        """Tell whether shape and dtype agree, whatever the weakness."""
        return self.shape == other.shape and self.dtype == other.dtype

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is ShapedArray
            and self.shape == other.shape
            and self.dtype == other.dtype
            and self.weak_type == other.weak_type
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype, self.weak_type))

    def str_short(self) -> str:
        return f"{dtypes.short_name(self.dtype)}[{','.join(map(str, self.shape))}]"

    def __repr__(self) -> str:
        weak = ", weak_type=True" if self.weak_type else ""
        return f"ShapedArray({self.dtype.name}[{','.join(map(str, self.shape))}]{weak})"

    __str__ = str_short


# ------------------------------------------------------------------------------------------- arrays
class Array:
    """An immutable n-dimensional array, or a tracer that stands for one inside a transform.

    Make one with `funtorch.numpy.array`, `zeros`, `arange` ... Operators and methods follow NumPy;
    since arrays never change, ``x.at[i].set(v)`` gives an updated copy. ``isinstance(x, ft.Array)``
    holds for concrete arrays and for tracers. Operators and methods are attached by
    `funtorch.numpy`.
    """

    __slots__ = ("__weakref__",)
    __array_priority__ = 100
    aval: ShapedArray

    if TYPE_CHECKING:  # funtorch.numpy.methods attaches these
        __add__: Any
        __radd__: Any
        __sub__: Any
        __rsub__: Any
        __mul__: Any
        __rmul__: Any
        __truediv__: Any
        __rtruediv__: Any
        __pow__: Any
        __matmul__: Any
        __neg__: Any
        __getitem__: Any

        def __getattr__(self, name: str) -> Any: ...

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> Any:
        return self.aval.dtype

    @property
    def weak_type(self) -> bool:
        return self.aval.weak_type

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def size(self) -> int:
        return self.aval.size


class ArrayImpl(Array):
    """A concrete array: one NumPy buffer that nobody writes to (`funtorch.placement` has others).

    ``_kind`` is the number of its type for look-ups by jitted functions, see `kind_of`; 0 until one
    asked, and for buffers that compiled programs cannot read as they are.
    ``_exact`` is set on weak arrays made from a Python float or complex: that number, of which the
    buffer of the default dtype holds a rounded one; ``_stays`` on those put on the CPU by name: a
    sharding, or True.
    """

    __slots__ = ("_data", "_exact", "_kind", "_stays", "_weak")
    _exact: complex
    _stays: Any

    def __init__(self, data: Any, weak_type: bool = False, kind: int = 0) -> None:
        self._data = data
        self._weak = weak_type
        self._kind = kind

    @property
    def aval(self) -> ShapedArray:  # type: ignore[override]
        data = self._data
        return ShapedArray(data.shape, data.dtype, self._weak)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> Any:
        return self._data.dtype

    @property
    def weak_type(self) -> bool:
        return self._weak

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    def host(self) -> np.ndarray:
        """Return the values in the CPU's memory."""
        return self._data

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (np.asarray(self.host()), self._weak)


def _unpickle(data: np.ndarray, weak_type: bool) -> ArrayImpl:
    return ArrayImpl(data, weak_type)


_kinds: dict[tuple[Any, ...], int] = {}
_numbers = itertools.count(1)
_MOST_KINDS = 1 << 16


def kind_of(shape: tuple[int, ...], dtype: Any, weak_type: bool, device: Any = None) -> int:
    """Return the number that stands for a shape, a dtype, its weakness, and the device of what is
    to stay on one: the same each time.

    Programs are looked up by such numbers: they are quicker to hash and compare than what they
    stand for. After very many types they start afresh, with numbers not used before.
    """
    key = (shape, dtype, weak_type, device)
    found = _kinds.get(key)
    if found is None:
        if len(_kinds) >= _MOST_KINDS:
            _kinds.clear()
        found = _kinds.setdefault(key, next(_numbers))
    return found


# ------------------------------------------------------------------------------------------- traces
class Trace:
    """One interpreter of primitives.

    ``parent`` is the trace its rules run in; ``fun`` the user's function being transformed, or its
    name; ``collects``, whether it keeps what is sown.
    """

    __slots__ = ("alive", "fun", "parent")
    collects = False

    def __init__(self, parent: Trace | None, fun: Any = "") -> None:
        self.parent = parent
        self.fun = fun
        self.alive = True

    @property
    def main(self) -> Trace:
        """The trace itself, by which JAX's tools know its tracers."""
        return self

    @property
    def kind(self) -> str:
        """How errors call the trace."""
        return type(self).__name__

    @property
    def name(self) -> str:
        """How errors call the function being transformed."""
        return self.fun if isinstance(self.fun, str) else function_name(self.fun)

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        raise NotImplementedError

    def decide(self, x: Tracer, soft: bool = False) -> bool | None:
        """Return the truth of a tracer of this trace, of one element; None where it has none.

        ``soft`` asks whether it may be true for some of the lanes that the trace stands for: True
        is never wrong then.
        """
        return None

    def visit(self) -> None:
        """Take note that what is traced here depends on the truth of an outer trace's tracer."""

    def __enter__(self) -> Trace:
        """Make this trace current until the block ends; leaving it also ends the trace's life."""
        _state.stack.append(_state.trace)
        _state.trace = self
        return self

    def __exit__(self, *exc: object) -> None:
        _state.trace = _state.stack.pop()
        self.alive = False


class Eval(Trace):
    """Compute every primitive at once, by its eager rule."""

    __slots__ = ()

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        try:
            data = [a._data for a in args]
        except AttributeError:
            return self.elsewhere(prim, args, params)
        if prim.large and self is eval_trace and max([x.size for x in data]) >= prim.large:
            done = self.compiled(prim.bind, args, params)
            if done is not NotImplemented:
                return done
        if prim.nests:  # and a context runs only once
            if prim.spreads:
                return self.elsewhere(prim, args, params)
            with np.errstate(all="ignore"):
                out = prim.eager(np, *data, **params)
            many = prim.multiple_results
            outs = out if many else (out,)
            arrays = [ArrayImpl(o if type(o) is np.ndarray else np.asarray(o)) for o in outs]
            if prim.keeps_weak:
                avals = prim.type(*[a.aval for a in args], **params)
                for x, aval in zip(arrays, avals if many else (avals,), strict=True):
                    x._weak = aval.weak_type
            return arrays if many else arrays[0]
        try:
            out = _state.quiet(prim.eager, np, *data, **params)
        except (TypeError, ValueError):
            prim.type(*[a.aval for a in args], **params)  # its message, where it finds the fault
            raise
        if type(out) is not np.ndarray:
            out = np.asarray(out)
        if prim.keeps_weak:
            for a in args[prim.weak_args]:
                if not a._weak:
                    return ArrayImpl(out)
            return ArrayImpl(out, True)
        return ArrayImpl(out, params.get("weak_type", False))

    @staticmethod
    def elsewhere(prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Compute what has arguments on other devices; `funtorch.placement` says how."""
        raise not_concrete(args, prim)

    @staticmethod
    def compiled(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call a function as a program; NotImplemented if that is not wanted: transforms.large."""
        return NotImplemented

    @staticmethod
    def repeated(
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        exact: bool = False,
    ) -> Any:
        """Call a function of several operations as one of NumPy's, or, if it gives the same bits
        then, as a program; NotImplemented if that is not known to be worth it yet:
        transforms.repeated."""
        return NotImplemented


def not_concrete(args: Sequence[Any], prim: Primitive) -> Exception:
    """Return the error for arguments that hold no buffer."""
    for x in args:
        if isinstance(x, Tracer):
            return escaped_tracer(x)
        if type(x) is LinearArg:
            return TypeError(
                f"{prim.name} is not linear in all of its arguments that are being transposed: "
                "linear_transpose and the rules of linear functions need a function that is "
                "linear in all of them together; close over the others"
            )
    kinds = ", ".join(type(x).__name__ for x in args)
    return TypeError(
        f"primitive {prim.name} got ({kinds}); it takes funtorch arrays only: convert with "
        "funtorch.numpy.asarray first"
    )


class _State(threading.local):
    """What each thread has of its own: the current trace, and a context to run NumPy quietly.

    ``quiet(f, *args)`` calls f with NumPy's floating-point warnings off. It costs 0.1 us where
    entering `numpy.errstate` costs 1 us, but cannot be nested.
    """

    first: Trace  # the one that a new thread begins with

    def __init__(self) -> None:
        self.trace: Trace = self.first
        self.stack: list[Trace] = []
        self.axes: list[tuple[Any, int]] = []  # names and sizes of axes being mapped, outer first
        self.source: Source | None = None  # of the equation that is being traced again
        context = contextvars.Context()
        context.run(np.seterr, all="ignore")
        self.quiet: Callable[..., Any] = context.run


eval_trace = Eval(None, "eval")
_State.first = eval_trace
_state = _State()


def source_of() -> Source:
    """Return the user's line that an operation comes from: of the program it is in, or the
    caller's."""
    return _state.source or user_frame(1)


class no_source:
    """Let lines of the user's rules count for themselves while a program is traced again."""

    __slots__ = ("saved",)

    def __enter__(self) -> None:
        self.saved, _state.source = _state.source, None

    def __exit__(self, *exc: object) -> None:
        _state.source = self.saved


def current() -> Trace:
    """Return the trace that gives operations their meaning now."""
    return _state.trace


class use_trace:
    """Make a trace the current one for a block, without ending its life afterwards."""

    __slots__ = ("trace",)

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def __enter__(self) -> Trace:
        _state.stack.append(_state.trace)
        _state.trace = self.trace
        return self.trace

    def __exit__(self, *exc: object) -> None:
        _state.trace = _state.stack.pop()


# ------------------------------------------------------------------------------------------ tracers
class Tracer(Array):
    """A stand-in for an array while a transform runs the user's function.

    ``source`` is the user's line that made it; errors name it.
    """

    __slots__ = ("owner", "source")

    def __init__(self, trace: Trace, source: Source | None = None) -> None:
        self.owner = trace
        self.source = source if source is not None else user_frame()

    @property
    def _trace(self) -> Trace:
        return self.owner

    def concrete(self) -> ArrayImpl | None:
        """Return the value behind this tracer where one is known now, else None."""
        return None

    def values(self) -> tuple[np.ndarray, int] | None:
        """Return the values it stands for where they are known, and how many axes in front of
        them count the lanes of `vmap`."""
        known = self.concrete()
        return None if known is None else (known.host(), 0)

    def __repr__(self) -> str:
        kind = f"{self.owner.kind}({self.owner.name})"
        found = self.values()
        shown = "" if found is None else f" = {found[0]}"
        if found is not None and found[1]:
            shown += f" in {math.prod(found[0].shape[: found[1]])} lanes"
        return f"Traced<{self.aval.str_short()}>with<{kind}>{shown}"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"a traced array ({self.aval.str_short()}, made at {self.source}) cannot be pickled"
        )


def escaped_tracer(x: Tracer) -> UnexpectedTracerError:
    """Return the error for a tracer used where its transform is over or not in sight."""
    kind = x.owner.kind.lower()
    if x.owner.alive:
        return UnexpectedTracerError(
            f"a traced array of type {x.aval.str_short()} was used where the transform that made "
            f"it does not reach. It was made while {x.owner.name or 'a function'} was being "
            f"transformed ({kind}), at {x.source}, and used at {user_frame()}. A function with a "
            "custom rule must not close over such a value: pass it to that function as an argument"
        )
    return UnexpectedTracerError(
        f"a traced array of type {x.aval.str_short()} was used after the transform that made it "
        f"had ended. It was made while {x.owner.name or 'a function'} was being transformed "
        f"({kind}), at {x.source}. "
        "Traced values must not be kept in globals, attributes, lists or closures: return them "
        "from the function instead."
    )


def known_values(x: Any) -> tuple[np.ndarray, int] | None:
    """Return what `Tracer.values` does, of an array or a tracer."""
    return (x.host(), 0) if isinstance(x, ArrayImpl) else x.values()


def truth(x: Any, soft: bool = False) -> bool | None:
    """Return the truth of an array of one element as its trace decides it, None where none can."""
    if isinstance(x, ArrayImpl):
        return bool(x.host().item())
    if not x.owner.alive:
        raise escaped_tracer(x)
    return x.owner.decide(x, soft)


def decide(x: Tracer) -> bool | None:
    """Return the truth of a tracer of one element to a Python program that asks for it."""
    for trace in (_state.trace, *reversed(_state.stack)):
        if trace is x.owner:
            break
        trace.visit()
    return truth(x)


def concrete_or_error(x: Any, what: str) -> np.ndarray:
    """Return the NumPy value of ``x``, or raise the error that says why there is none.

    Args:
        x: an Array, tracer, NumPy value or Python scalar.
        what: one of 'bool', 'int', 'float', 'complex', 'array', 'index', or a phrase naming the
            use.
    """
    if type(x) is ArrayImpl:
        return x._data
    if not isinstance(x, Tracer):
        return x.host() if isinstance(x, ArrayImpl) else np.asarray(x)
    if not x.owner.alive:
        raise escaped_tracer(x)
    value = x.concrete()
    if value is not None:
        if what == "array":
            raise TracerArrayConversionError(
                f"{CONCRETE[what][0]} was asked of a traced array of type {x.aval.str_short()} "
                f"while {x.owner.name or 'the function'} is being differentiated: the array would "
                f"have no derivative. It was made at {x.source}, and used at {user_frame()}. "
                f"{CONCRETE[what][2]} Where no derivative is wanted, take stop_gradient(x) first."
            )
        return value.host()
    kind, error, advice = CONCRETE.get(what, (what, ConcretizationTypeError, ADVICE_STATIC))
    raise error(
        f"{kind} was asked of a traced array of type {x.aval.str_short()}, whose value is not "
        "known while "
        f"{x.owner.name or 'the function'} is being traced. It was made at {x.source}, and used at "
        f"{user_frame()}. {advice}"
    )


# --------------------------------------------------------------------------------------- primitives
class Primitive:
    """A name and its rules.

    Slots (``None`` where there is no rule; `none` then says why):
        type(*avals, **params) -> aval, or list of avals when ``multiple_results``.
        eager(xp, *buffers, **params) -> buffer or sequence of buffers; xp is numpy or cupy.
        jvp(primals, tangents, **params) -> (out, tangent out); a tangent that is zero is ``None``,
            on the way in and out; at least one tangent is not None. Lists with
            ``multiple_results``.
        transpose(ct, *args, **params) -> one cotangent or None per argument. Arguments that the
            output is linear in come as `LinearArg`; the others have values. With
            ``multiple_results`` ct is a list whose members may be None.
        batch(axis, args, batched, **params) -> (out, batched out). Batched arguments carry the
            batch axis in front, and so must batched outputs; ``axis.size``, ``axis.name``.
        linearize(primals, nonzero, **params) -> (outs, linear), for higher-order primitives:
            ``linear`` takes the nonzero tangents and gives the tangents of outs.
        depends(flags, **params) -> which outputs depend on the marked arguments, where that is not
            all of them; such primitives have a rule divide(flags, args, **params) -> outs, too,
            which binds what does not depend on the marked arguments apart from what does.
    ``keeps_weak``: the output's dtype is weak when that of every input in the slice ``weak_args``
        is (predicates and indices have no say); with ``multiple_results``, where the type rule
        says so.
    ``call``: it means running the jaxpr in its parameters on its arguments.
    ``effect``: what it does besides giving results: None for nothing, 'debug' for what only shows
        values, 'io' for anything else. Equations that have one, also by a program in their
        parameters, run exactly as often as the program says, in its order.
    ``expand``: what it means in other operations: ``expand(*args, **params)`` -> its result, or the
        list of its results. Compiled programs contain that in its place.
    ``recall``: recall(params then, params now), where parameters are told something by a call, and
        its results are taken over from an equal call.
    ``nests``: its eager rule may bind other primitives (as those of ``multiple_results`` may).
    ``spreads``: its results may be spread over processes (`funtorch.spread`).
    ``closes``: its parameters are Python functions, which may close over tracers.
    ``large``: elements of its largest operand from which `Eval` runs it as a compiled program;
        0: never.
    """

    __slots__ = (
        "batch", "call", "closes", "depends", "divide", "eager", "effect", "expand", "jvp",
        "keeps_weak", "large", "linearize", "multiple_results", "name", "nests", "none",
        "recall", "spreads", "transpose", "type", "weak_args",
    )  # fmt: skip
    call_primitive = map_primitive = False  # JAX's interpreters of programs ask

    def __init__(
        self, name: str, *, multiple_results: bool = False, keeps_weak: bool = False
    ) -> None:
        self.name = name
        self.multiple_results = self.nests = multiple_results
        self.keeps_weak = keeps_weak
        self.weak_args = slice(None)
        self.call = self.closes = False
        self.spreads = False
        self.large = 0
        self.effect: str | None = None
        self.expand: Callable[..., Any] | None = None
        self.type: Callable[..., Any] = _missing(name, "type")
        self.eager: Callable[..., Any] = _missing(name, "eager")
        self.jvp: Callable[..., Any] | None = None
        self.transpose: Callable[..., Any] | None = None
        self.batch: Callable[..., Any] | None = None
        self.linearize: Callable[..., Any] | None = None
        self.depends: Callable[..., Any] | None = None
        self.divide: Callable[..., Any] | None = None
        self.recall: Callable[[dict[str, Any], dict[str, Any]], None] | None = None
        self.none: dict[str, str] = {}
        primitives[name] = self

    def bind(self, *args: Any, **params: Any) -> Any:
        return _state.trace.process(self, args, params)

    def get_bind_params(self, params: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return what `bind` takes for an equation's parameters: functions in front of the
        arguments, which there are none of, and the parameters."""
        return [], dict(params)

    def rule(self, slot: str) -> Callable[..., Any]:
        """Return the rule in ``slot``, or raise the error that says why there is none."""
        rule = getattr(self, slot)
        if rule is None:
            raise NotImplementedError(
                f"primitive {self.name} has no {slot} rule: "
                f"{self.none.get(slot, 'none was defined')}"
            )
        return rule

    def __repr__(self) -> str:
        return self.name


def _missing(name: str, slot: str) -> Callable[..., Any]:
    def rule(*args: Any, **params: Any) -> Any:
        raise NotImplementedError(f"primitive {name} has no {slot} rule")

    return rule


primitives: dict[str, Primitive] = {}


class LinearArg:
    """Stands in a transpose rule for an argument that the output is linear in."""

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return f"LinearArg({self.aval})"


# ---------------------------------------------------------------------------------- types of values
pytype_aval_mappings: dict[type, Callable[[Any], ShapedArray]] = {}  # of values of other types


def aval_of(x: Any) -> ShapedArray:
    """Return the abstract value of an Array, tracer, NumPy array or scalar, or Python scalar."""
    if isinstance(x, Array):
        return x.aval
    if isinstance(x, np.ndarray):
        return ShapedArray(x.shape, x.dtype)
    if isinstance(x, (bool, int, float, complex, np.generic)):
        dtype, weak = dtypes.scalar_type(x)
        return ShapedArray((), dtype, weak)
    if type(x) in pytype_aval_mappings:
        return pytype_aval_mappings[type(x)](x)
    raise TypeError(f"a value of type {type(x).__name__} is not an array or a number: {x!r:.80}")


pytype_aval_mappings[np.ndarray] = aval_of


def typeof(x: Any) -> ShapedArray:
    """Return the type of an array, number, or array of random keys: its shape and dtype.

    Example:
        >>> typeof(np.zeros(2)).str_short()
        'f64[2]'
    """
    # Of what is no array but holds some, keys and references.
    return x.abstract_value if hasattr(type(x), "abstract_value") else aval_of(x)
