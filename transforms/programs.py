"""Programs that a jitted function runs: the primitive ``jit``, and what it and loops compile to."""

from __future__ import annotations

import functools
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.config import config
from funtorch.core import ArrayImpl, Primitive, ShapedArray, Tracer, kind_of, primitives
from funtorch.dims import NotDynamic
from funtorch.hardware import CPU, Device, cupy, processes
from funtorch.jaxpr import Eqn, Jaxpr, Var, eval_jaxpr, stage
from funtorch.placement import DeviceArray, delete, device_of, meeting, moved, on_gpu, own_rules
from funtorch.processes import world
from funtorch.spread import MESH
from funtorch.treecode import builder
from funtorch.watch import during

from .. import backends
from .arguments import as_arrays
from .dynamic import Sizes
from .families import Bound, Family, TraceAt
from .loops import run_while, while_p
from .passes import drop_dead, inline, share
from .ranks import meet
from .restage import call_rules
from .scan import scan_p
from .simplify import simplify
from .spmd import Piece, has_shard_map, piece_of, spread_jaxpr, whole_of

__all__ = ["Program", "Record", "compiled", "jit_p", "prepared", "segment"]


# ------------------------------------------------------------------------------------ the primitive
jit_p = Primitive("jit", multiple_results=True)
call_rules(jit_p)


def simplified(jaxpr: Jaxpr, device: Device) -> Jaxpr:
    """Return a program as it is compiled for a device."""
    return simplify(jaxpr, backends.kept_by(device))


def compiled(
    jaxpr: Jaxpr, donated: frozenset[int] = frozenset(), device: Device = CPU
) -> Callable[[Sequence[Any]], list[Any]]:
    run = jaxpr.memo.get(("compiled", donated, device))
    if run is None:
        run = backends.compile_jaxpr(simplified(jaxpr, device), donated, device)
        jaxpr.memo["compiled", donated, device] = run
    return run


_segments: OrderedDict[Any, Callable[[Sequence[Any]], list[Any]]] = OrderedDict()
_MOST_SEGMENTS = 1024


def segment(
    jaxpr: Jaxpr, donated: Sequence[int] = (), device: Device = CPU
) -> tuple[Callable[[Sequence[Any]], list[Any]], frozenset[int]]:
    """Compile a part of a program; equal ones, as steps of a loop are, are compiled once.

    Args:
        jaxpr: the part.
        donated: positions of inputs that may be overwritten.
        device: where it runs.

    Returns:
        a function of buffers, and the positions of inputs that it overwrites.
    """
    gone = _usable(jaxpr, donated)
    spelling = (
        None
        if config.debug_nans or config.debug_infs
        else backends.spelled(simplified(jaxpr, device))
    )
    key = spelling, gone, device
    run = _segments.get(key)
    if run is None or spelling is None:
        run = _segments[key] = compiled(jaxpr, gone, device)
    _segments.move_to_end(key)
    while len(_segments) > _MOST_SEGMENTS:
        _segments.popitem(last=False)
    return run, gone


def _jit_eager(xp: Any, *buffers: Any, jaxpr: Jaxpr, name: str) -> list[Any]:
    return _run_on(xp, jaxpr, buffers)


def _run_on(xp: Any, jaxpr: Jaxpr, buffers: Sequence[Any]) -> list[Any]:
    """Compile a program for the current device, and run it."""
    device = CPU if xp is np else Device("cuda", int(xp.cuda.Device().id))
    return compiled(jaxpr, device=device)(list(buffers))


jit_p.eager = _jit_eager


# ------------------------------------------------------------------------------- loops outside jit
_INTERPRETED = 2000  # equations of a loop that run one by one before it is worth compiling


def _loop_program(prim: Primitive, buffers: Sequence[Any], params: dict[str, Any]) -> Jaxpr:
    """Return the program of one equation that a loop outside jit runs as, made once per loop."""
    body = params.get("jaxpr") or params["body_jaxpr"]
    types = tuple((b.shape, b.dtype) for b in buffers)
    key = ("loop", types, *(v for k, v in sorted(params.items()) if v is not body))
    if key not in body.memo:
        avals = [ShapedArray(*t) for t in types]
        ins = [Var(a) for a in avals]
        outs = [Var(a) for a in prim.type(*avals, **params)]
        body.memo[key] = Jaxpr(ins, [Eqn(prim, ins, params, outs)], outs)
    return body.memo[key]


_scan_eager, _while_eager = scan_p.eager, while_p.eager


def _compiled_scan(xp: Any, *buffers: Any, **params: Any) -> list[Any]:
    short = params["length"] * len(params["jaxpr"].eqns) <= _INTERPRETED
    if short or config.disable_jit:
        return _scan_eager(xp, *buffers, **params)
    return _run_on(xp, _loop_program(scan_p, buffers, params), buffers)


def _compiled_while(xp: Any, *buffers: Any, **params: Any) -> list[Any]:
    if config.disable_jit:
        return _while_eager(xp, *buffers, **params)
    first = params["cond_nconsts"] + params["body_nconsts"]
    steps = _INTERPRETED // (1 + len(params["body_jaxpr"].eqns))
    ended, carry = run_while(buffers, **params, steps=steps)
    if ended:
        return carry
    rest = [*buffers[:first], *carry]
    return _run_on(xp, _loop_program(while_p, rest, params), rest)


scan_p.eager, while_p.eager = _compiled_scan, _compiled_while


# -------------------------------------------------------------------------- operations on a GPU
_singles: OrderedDict[Any, Jaxpr] = OrderedDict()
_MOST_SINGLES = 512
COMPILED_THERE = ("scatter", "scatter_add", "scatter_max", "scatter_min", "scatter_mul")
"""Primitives that have no function in CuPy: on a GPU they are compiled, one by one."""


def _compiled_there(prim: Primitive) -> Callable[..., Any]:
    """Return the rule that compiles a primitive, for each type of its arguments, and runs it."""

    many = prim.multiple_results

    def rule(device: Device, *buffers: Any, **params: Any) -> Any:
        types = tuple((b.shape, b.dtype) for b in buffers)
        key = prim.name, types, tuple(sorted(params.items()))
        if key not in _singles:
            avals = [ShapedArray(*t) for t in types]
            made = prim.type(*avals, **params)
            ins, outs = [Var(a) for a in avals], [Var(a) for a in (made if many else [made])]
            _singles[key] = Jaxpr(ins, [Eqn(prim, ins, params, outs)], outs)
            if len(_singles) > _MOST_SINGLES:
                _singles.popitem(last=False)
        found = compiled(_singles[key], device=device)(list(buffers))
        return found if many else found[0]

    return rule


ATTENTION = ("attention", "attention_grad")
"""Primitives that have kernels on a GPU, but no eager rule that is as good."""

own_rules.update(
    {name: _compiled_there(primitives[name]) for name in (*COMPILED_THERE, *ATTENTION)}
)


def _narrow_products(prim: Primitive) -> Callable[..., Any]:
    """Return the rule of products: CuPy converts float16 and fails for stacks of bfloat16, so that
    products of narrow dtypes, and those that are to be quick, are compiled."""
    there = _compiled_there(prim)

    def rule(device: Device, a: Any, b: Any, **params: Any) -> Any:
        if a.dtype in _NARROW or "precision" in params:
            return there(device, a, b, **params)
        return prim.eager(cupy(), a, b, **params)

    return rule


_NARROW = (dtypes.float16, dtypes.bfloat16, dtypes.int8)
own_rules["dot_general"] = _narrow_products(primitives["dot_general"])
own_rules.rest = lambda: backends.gpu_rules


# -------------------------------------------------------------------------------------- one program
class Record:
    """Why a program was made, how long it took until it could run, and how it fits in memory."""

    __slots__ = ("memory", "reason", "seconds", "shared", "sizes")

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.seconds = 0.0
        self.memory: backends.Fitted | None = None
        self.sizes = ""  # that the program is for, in words
        self.shared = False  # whether it was compiled for other sizes before

    def __enter__(self) -> None:
        self.seconds -= time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        self.seconds += time.perf_counter()


class Program:
    """One staged form of a function: its jaxpr (consts hoisted), output structure, and compiled
    code."""

    def __init__(
        self,
        jaxpr: Jaxpr,
        out_tree: Any,
        name: str,
        donated: frozenset[int],
        record: Record,
        budget: int | None = None,
        device: Device = CPU,
    ) -> None:
        self.record = record
        self.device = meeting(jaxpr.consts, f"what {name} closes over") or device
        if has_shard_map(jaxpr) and processes.count > 1:
            self.device = MESH
        self.budget = budget
        self.consts = jaxpr.consts
        self.jaxpr = jaxpr.hoisted()
        self.out_tree = out_tree
        self.name = name
        self.donated = _usable(self.jaxpr, [k + len(self.consts) for k in sorted(donated)])
        self.family: tuple[Family, Sizes, TraceAt] | None = None  # it may run a program of
        self.call: Callable[[Sequence[ArrayImpl]], Any] = self._first_call

    def holds_tracers(self) -> bool:
        return any(isinstance(x, Tracer) for x in self.consts)

    def compiled(self) -> Callable[[Sequence[Any]], list[Any]]:
        if self.budget is None:
            return compiled(self.jaxpr, self.donated, self.device)
        return backends.compile_jaxpr(self.simplified(), self.donated, self.device)

    def simplified(self) -> Jaxpr:
        """Return the program that is compiled."""
        jaxpr = simplified(self.jaxpr, self.device)
        if self.budget is not None and self.record.memory is None:
            self.record.memory = backends.fit(jaxpr, self.donated, self.budget, self.name)
        return jaxpr if self.record.memory is None else self.record.memory.jaxpr

    def _first_call(self, arrays: Sequence[ArrayImpl]) -> Any:
        with self.record:
            self.call = self._caller()
        return self.call(arrays)

    def _caller(self) -> Callable[[Sequence[ArrayImpl]], Any]:
        """Return the function from arrays, of the program's types and contiguous, to the result."""
        if self.device == MESH:
            build = builder(self.out_tree)
            return functools.partial(_call_spread, self.jaxpr, self.consts, self.name, build)
        (run, scalars), build = self._runnable(), builder(self.out_tree)
        avals, place = self.jaxpr.out_avals, None if self.device == CPU else self.device
        if place is None:
            consts = [_buffer_here(prepared(c)) for c in (*scalars, *self.consts)]
        else:
            consts = [_array_on(place, prepared(c)) for c in (*scalars, *self.consts)]
        weak = [a.weak_type for a in avals]
        kinds = [kind_of(a.shape, a.dtype, a.weak_type, place) for a in avals]
        gone = [k - len(self.consts) for k in sorted(self.donated)]
        why = f"It was donated to {self.name}, a jitted function; pass a copy to keep it."

        def call(arrays: Sequence[ArrayImpl]) -> Any:
            outs = run([*consts, *[x._data for x in arrays]])
            return build([*map(ArrayImpl, outs, weak, kinds)])

        def call_there(arrays: Sequence[ArrayImpl]) -> Any:
            given = [x if type(x) is DeviceArray else _array_on(place, x) for x in arrays]
            outs, where = run.on_arrays([*consts, *given])  # type: ignore[attr-defined]
            return build([*map(DeviceArray, outs, weak, kinds, where)])

        if place is not None:
            call = call_there

        def call_and_delete(arrays: Sequence[ArrayImpl]) -> Any:
            result = call(arrays)
            for k in gone:
                delete(arrays[k], why)
            return result

        return call_and_delete if gone else call

    def _runnable(self) -> Bound:
        """Return compiled code, for several sizes where it can be, and what it takes first."""
        if self.family is not None and self.device == CPU:
            (family, sizes, trace_at), self.family = self.family, None
            try:
                bound, fresh = family.bound(self.jaxpr, sizes, self.donated, trace_at)
            except NotDynamic as error:
                self.record.sizes = f"for these sizes alone: {error}"
            else:
                self.record.sizes = f"for any {', '.join(sizes)}"
                self.record.shared = not fresh
                return bound
        return self.compiled(), []

    def bind(self, arrays: Sequence[Any]) -> Any:
        outs = jit_p.bind(*self.consts, *arrays, jaxpr=self.jaxpr, name=self.name)
        return self.out_tree.unflatten(outs)

    def cost_analysis(self) -> dict[str, float]:
        return backends.cost_analysis(self.simplified())

    def memory_analysis(self) -> Any:
        return backends.memory_analysis(self.simplified(), self.donated)

    def stablehlo(self) -> str:
        closed = drop_dead(share(inline(self.jaxpr)))
        return backends.to_stablehlo(closed, re.sub(r"\W", "_", self.name))

    def explain(self) -> backends.Explanation:
        jaxpr, count = self.simplified(), len(self.jaxpr.eqns)
        return backends.explain_program(self.name, jaxpr, count, self.donated, self.record.memory)


# ------------------------------------------------------------------------------ spread programs
def _call_spread(
    jaxpr: Jaxpr,
    consts: Sequence[Any],
    name: str,
    build: Callable[[Any], Any],
    arrays: Sequence[Any],
) -> Any:
    """Run this process's part of a program of whole arrays, compiled for where their parts are."""
    arrays = [*consts, *arrays]
    pieces = [piece_of(x) for x in arrays]
    shardings = tuple(p.sharding for p in pieces)
    found = jaxpr.memo.get(("spread", shardings))
    if found is None:
        found = jaxpr.memo["spread", shardings] = _spread_program(jaxpr, name, pieces)
    local, said, run, outputs = found
    parts = [p.value for p in pieces]
    if any(type(x) is not ArrayImpl for x in parts) and (meeting(parts, name) or CPU) != CPU:
        with during(said):
            values = eval_jaxpr(local, *parts)
    else:
        native = run()
        with during(said):
            outs = native([_buffer_here(prepared(x)) for x in parts])
        values = list(map(ArrayImpl, outs, outputs.weak, outputs.kinds))
    for k in outputs.divided:
        values[k] = whole_of(Piece(values[k], outputs.shardings[k]))
    return build(values)


class _Outputs:
    """Results of a program of one process of many: their types, and where their parts are."""

    def __init__(self, avals: Sequence[Any], shardings: Sequence[Any]) -> None:
        self.weak = [a.weak_type for a in avals]
        self.kinds = [kind_of(a.shape, a.dtype, a.weak_type, None) for a in avals]
        self.shardings = shardings
        self.divided = [k for k, s in enumerate(shardings) if s is not None]


def _spread_program(
    jaxpr: Jaxpr, name: str, pieces: Sequence[Piece]
) -> tuple[Jaxpr, Any, Callable[[], Any], _Outputs]:
    """Return the program of this process, what it says, what compiles it, and what its results
    are. On GPUs it runs operation by operation."""
    after: list[Any] = []

    def run(*values: Any) -> list[Any]:
        ins = [Piece(v, p.sharding) for v, p in zip(values, pieces, strict=True)]
        outs = spread_jaxpr(jaxpr, ins)
        after[:] = [p.sharding for p in outs]
        return [p.value for p in outs]

    local = stage(run, [p.value.aval for p in pieces])
    said = meet(local, name)

    @functools.cache
    def run() -> Callable[[Sequence[Any]], list[Any]]:
        return world().in_turn(lambda: compiled(local))

    return local, said, run, _Outputs(local.out_avals, after)


def _usable(jaxpr: Jaxpr, donated: Sequence[int]) -> frozenset[int]:
    """Return the donated inputs that can become outputs: one of equal type for each."""
    free = [(a.shape, a.dtype) for a in jaxpr.out_avals]
    found = []
    for k in donated:
        aval = jaxpr.invars[k].aval
        if (aval.shape, aval.dtype) in free:
            free.remove((aval.shape, aval.dtype))
            found.append(k)
    return frozenset(found)


def prepared(x: Any) -> Any:
    """Return an argument as compiled programs read it: contiguous, and with its kind known.

    NumPy arrays are read in place, since nothing outlives the call.
    """
    weak, place = False, None
    if type(x) is DeviceArray:
        return _prepared_there(x)
    if type(x) is ArrayImpl:
        if x._kind:
            return x
        weak = x._weak
        place = CPU if hasattr(x, "_stays") else None
    elif type(x) is np.ndarray and x.dtype.kind in "fiubc" and x.dtype == dtypes.canonical(x.dtype):
        x = ArrayImpl(x)
    else:
        (x,) = as_arrays([x], "argument", None)
        if type(x) is not ArrayImpl:
            return _prepared_there(x) if type(x) is DeviceArray else x
        weak = x._weak
    data = x._data
    if type(data) is not np.ndarray or not (data.flags.c_contiguous and data.flags.aligned):
        x = ArrayImpl(np.array(data, order="C"), weak)
        data = x._data
    x._kind = kind_of(data.shape, data.dtype, weak, place)
    return x


def _prepared_there(x: DeviceArray) -> DeviceArray:
    """Return an array on a GPU as compiled programs read it."""
    if not x._kind:
        if not x._buffer.flags.c_contiguous:
            with on_gpu(device_of(x), "jit") as xp:
                x = DeviceArray(xp.ascontiguousarray(x._buffer), x._weak)
        x._kind = kind_of(x.shape, x.dtype, x._weak, device_of(x))
    return x


def _buffer_here(x: ArrayImpl) -> Any:
    """Return an array's buffer in the CPU's memory."""
    return x.host() if type(x) is DeviceArray else x._data


def _array_on(device: Device, x: ArrayImpl) -> DeviceArray:
    """Return an array in the memory of a GPU, moved there if need be."""
    return x if type(x) is DeviceArray else DeviceArray(moved(x._data, device))
