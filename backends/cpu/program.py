"""From a plan to a callable: native segments, one foreign call each, and eager steps between."""

from __future__ import annotations

import ctypes
import itertools
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch.config import config
from funtorch.jaxpr import Jaxpr, Var

from ..buffers import LARGE, pool
from ..eager import eager_step, output_collector
from ..plan import Call, Dot, Launch, Plan
from .blas import gemm_address, threads_setter
from .llvm import Code, kernel_function
from .threads import executor, thread_count

__all__ = ["native_program"]

_lock = threading.Lock()
_counter = itertools.count()
_ALIGN = 64
_SHARED = 1 << 21  # kernels of so many scalar operations are worth several threads
_ALONE = 1 << 26  # matrix products of fewer multiplications run on one thread
_DATA = object.__basicsize__  # where an ndarray object keeps the address of its data


# ---------------------------------------------------------------------- LLVM
class _Machine:
    """The host's code generator, made once."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        self.llvm = llvm
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_default_triple()
        cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features()
        self.target = target.create_target_machine(
            cpu=cpu, features=features.flatten(), opt=3, jit=True
        )
        wide = 512 if features.get("avx512f") else 256
        self.attributes = (
            f'attributes #0 = {{ "prefer-vector-width"="{wide}" "target-cpu"="{cpu}" '
            f'"target-features"="{features.flatten()}" "no-trapping-math"="true" }}'
        )
        self.engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), self.target)

    def load(self, text: str, symbols: Sequence[str]) -> list[int]:
        """Compile a module; return the addresses of its functions."""
        module = self.llvm.parse_assembly(text)
        module.verify()
        options = self.llvm.create_pipeline_tuning_options(speed_level=3)
        builder = self.llvm.create_pass_builder(self.target, options)
        builder.getModulePassManager().run(module, builder)
        self.engine.add_module(module)
        self.engine.finalize_object()
        return [self.engine.get_function_address(s) for s in symbols]


_machine: list[_Machine] = []


def _load(functions: Sequence[str], declared: dict[str, str], symbols: Sequence[str]) -> list[int]:
    with _lock:
        if not _machine:
            _machine.append(_Machine())
        text = "\n\n".join([*declared.values(), *functions, _machine[0].attributes])
        if config.debug >= 4:
            print(text, file=sys.stderr)
        return _machine[0].load(text, symbols)


# ---------------------------------------------------------------------- layout
def _nbytes(v: Var) -> int:
    return v.aval.size * v.aval.dtype.itemsize


def _vars_of(step: Launch | Dot) -> tuple[Var, ...]:
    return step.vars if isinstance(step, Launch) else (step.a, step.b, step.out)


def _arena(steps: Sequence[Launch | Dot], inner: set[Var]) -> tuple[dict[Var, int], int]:
    """Place the variables that live inside one segment; memory of the dead is used again."""
    last = {v: k for k, step in enumerate(steps) for v in _vars_of(step) if v in inner}
    place: dict[Var, int] = {}
    free: list[tuple[int, int]] = []  # (size, offset)
    top = 0
    for k, step in enumerate(steps):
        for v in _vars_of(step):
            if v in inner and v not in place:
                size = -(-_nbytes(v) // _ALIGN) * _ALIGN
                fits = [f for f in free if f[0] == size]
                if fits:
                    free.remove(fits[0])
                    place[v] = fits[0][1]
                else:
                    place[v], top = top, top + size
        for v in {v for v in _vars_of(step) if last.get(v) == k}:
            free.append((-(-_nbytes(v) // _ALIGN) * _ALIGN, place[v]))
    return place, top


# ---------------------------------------------------------------------- a segment
class _Segment:
    """Consecutive kernels and matrix products: one native function ``run(objects, arena)``."""

    def __init__(
        self, steps: Sequence[Launch | Dot], outer: set[Var], slots: dict[Var, int]
    ) -> None:
        used = list(dict.fromkeys(v for s in steps for v in _vars_of(s)))
        inner = {v for v in used if v not in outer}
        written = {s.out for s in steps if isinstance(s, Dot)}
        written |= {
            s.vars[st.buffer] for s in steps if isinstance(s, Launch) for st in s.kernel.stores
        }
        tables = [v for v in used if v in outer]
        self.place, self.arena = _arena(steps, inner)
        self.table = {v: k for k, v in enumerate(tables)}
        self.slots = [slots[v] for v in tables]
        self.fresh = [
            (slots[v], v.aval.shape, v.aval.dtype, _nbytes(v)) for v in tables if v in written
        ]
        self.steps = steps
        self.codes = [kernel_function(s.kernel) if isinstance(s, Launch) else None for s in steps]
        self.split = _split(self.codes)
        self.scratch = max((c.scratch for c in self.codes if c), default=0)
        self.symbol = f"segment{next(_counter)}"
        self.array = ctypes.c_size_t * len(tables)

    def text(self) -> tuple[list[str], dict[str, str]]:
        """Return the segment's functions and what they declare."""
        functions, declared, lines = [], {}, []
        for _v, k in self.table.items():
            lines += [
                f"  %o{k} = getelementptr ptr, ptr %objects, i64 {k}",
                f"  %p{k} = load ptr, ptr %o{k}",
                f"  %q{k} = getelementptr i8, ptr %p{k}, i64 {_DATA}",
                f"  %d{k} = load ptr, ptr %q{k}",
            ]
        lines.append(f"  %scratch = getelementptr i8, ptr %arena, i64 {self.arena}")
        for k, place in enumerate(self.place.values()):
            lines.append(f"  %t{k} = getelementptr i8, ptr %arena, i64 {place}")
        temp = {v: k for k, v in enumerate(self.place)}
        name = {
            **{v: f"%d{k}" for v, k in self.table.items()},
            **{v: f"%t{k}" for v, k in temp.items()},
        }
        for n, (step, code) in enumerate(zip(self.steps, self.codes, strict=True)):
            if code is not None:
                symbol = f"{self.symbol}_{step.kernel.name}"
                bounds = ("%lo", "%hi") if self.split else ("0", str(code.parts))
                functions.append(code.text.replace(f"@{step.kernel.name}", f"@{symbol}"))
                declared.update(code.declared)
                pointers = "".join(f"ptr {name[v]}, " for v in step.vars) + "ptr %scratch"
                lines.append(f"  call void @{symbol}({pointers}, i64 {bounds[0]}, i64 {bounds[1]})")
                if code.finish:
                    lines.append(f"  call void @{symbol}_end({pointers})")
            else:
                lines += _gemm(step, name, n)
        functions.append(
            "\n".join(
                [
                    f"define void @{self.symbol}(ptr %objects, ptr %arena, i64 %lo, i64 %hi) #0 {{",
                    *lines,
                    "  ret void",
                    "}",
                ]
            )
        )
        return functions, declared

    def bind(self, address: int) -> Callable[[list[Any]], None]:
        """Return the function that runs the segment on an environment."""
        i64 = ctypes.c_int64
        entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, i64, i64)(address)
        slots, fresh, array = self.slots, self.fresh, self.array
        size = self.arena + self.scratch
        empty, cuts = pool.empty, self.split
        spare: list[tuple[Any, int]] = []  # small arenas at rest; one call at a time uses each

        def run(env: list[Any]) -> None:
            for slot, shape, dtype, nbytes in fresh:
                env[slot] = empty(shape, dtype, nbytes)
            table = array(*[id(env[k]) for k in slots])
            if cuts:
                others = [executor().submit(entry, table, None, lo, hi) for lo, hi in cuts[1:]]
                entry(table, None, *cuts[0])
                for other in others:
                    other.result()
                return
            if not size:
                entry(table, None, 0, 0)
                return
            if size >= LARGE:
                memory = pool.owner(size)
                entry(table, memory.ctypes.data, 0, 0)
                return
            try:
                arena = spare.pop()
            except IndexError:
                memory = np.empty(size, np.uint8)
                arena = (memory, memory.ctypes.data)
            entry(table, arena[1], 0, 0)
            spare.append(arena)

        return run


def _split(codes: Sequence[Code | None]) -> list[tuple[int, int]]:
    """Return the parts that threads take, where a segment is one large kernel."""
    code, threads = codes[0], thread_count()
    if len(codes) > 1 or code is None:
        return []
    if code.work < _SHARED or code.parts < threads or threads == 1 or code.scratch:
        return []
    edges = [code.parts * k // threads for k in range(threads + 1)]
    return list(itertools.pairwise(edges))


def _gemm(step: Dot, name: dict[Var, str], n: int) -> list[str]:
    """Return the calls of one (batched) matrix product, row-major."""
    dtype = step.out.aval.dtype
    kind = "float" if dtype == np.float32 else "double"
    lda, ldb = (step.m if step.trans_a else step.k), (step.k if step.trans_b else step.n)
    setter, most = threads_setter()
    threads = 1 if step.m * step.n * step.k < _ALONE else most
    lines = [
        f"  %g{n} = inttoptr i64 {gemm_address(dtype)} to ptr",
        f"  %h{n} = inttoptr i64 {setter} to ptr",
        f"  call void %h{n}(i32 {threads})",
    ]
    flags = ", ".join(f"i32 {112 if t else 111}" for t in (step.trans_a, step.trans_b))
    for i in range(step.batch):
        at = []
        for which, v, size in (
            ("a", step.a, step.m * step.k),
            ("b", step.b, step.k * step.n),
            ("c", step.out, step.m * step.n),
        ):
            at.append(f"%g{n}{which}{i}")
            lines.append(f"  {at[-1]} = getelementptr {kind}, ptr {name[v]}, i64 {i * size}")
        lines.append(
            f"  call void %g{n}(i32 101, {flags}, i32 {step.m}, i32 {step.n}, i32 {step.k}, "
            f"{kind} 1.0, ptr {at[0]}, i32 {lda}, ptr {at[1]}, i32 {ldb}, "
            f"{kind} 0.0, ptr {at[2]}, i32 {step.n})"
        )
    return lines


# ---------------------------------------------------------------------- the program
def _segments(plan: Plan) -> list[list[Launch | Dot] | Call]:
    out: list[list[Launch | Dot] | Call] = []
    for step in plan.steps:
        if isinstance(step, Call):
            out.append(step)
        elif out and isinstance(out[-1], list):
            out[-1].append(step)
        else:
            out.append([step])
    return out


def _outer(plan: Plan, parts: Sequence[list[Launch | Dot] | Call]) -> set[Var]:
    """Return the variables that need an ndarray: inputs, outputs, and what crosses segments."""
    outer = {*plan.jaxpr.constvars, *plan.jaxpr.invars}
    outer.update(v for v in plan.jaxpr.outvars if isinstance(v, Var))
    seen: dict[Var, int] = {}
    for k, part in enumerate(parts):
        if isinstance(part, Call):
            outer.update(part.eqn.outvars)
            outer.update(v for v in part.eqn.invars if isinstance(v, Var))
            continue
        for v in {v for s in part for v in _vars_of(s)}:
            if seen.setdefault(v, k) != k:
                outer.add(v)
    return outer


def native_program(plan: Plan) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """Compile a plan; return the function from input buffers to output buffers."""
    jaxpr, parts = plan.jaxpr, _segments(plan)
    outer = _outer(plan, parts)
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    slots = {v: k for k, v in enumerate([*inputs, *(v for e in jaxpr.eqns for v in e.outvars)])}
    native = [p if isinstance(p, Call) else _Segment(p, outer, slots) for p in parts]
    functions: list[str] = []
    declared: dict[str, str] = {}
    segments = [p for p in native if isinstance(p, _Segment)]
    for segment in segments:
        text, needs = segment.text()
        functions += text
        declared.update(needs)
    addresses = iter(_load(functions, declared, [s.symbol for s in segments]) if segments else ())
    steps = [
        eager_step(p.eqn, slots) if isinstance(p, Call) else p.bind(next(addresses)) for p in native
    ]
    return _runner(
        jaxpr,
        inputs,
        slots,
        steps,
        {v for p in parts if isinstance(p, Call) for v in p.eqn.outvars},
    )


def _runner(
    jaxpr: Jaxpr,
    inputs: Sequence[Var],
    slots: dict[Var, int],
    steps: Sequence[Callable[[list[Any]], None]],
    foreign: set[Var],
) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    consts = [np.ascontiguousarray(c._data) for c in jaxpr.consts]
    room = [None] * (len(slots) - len(inputs))
    outputs = output_collector(jaxpr, slots, foreign)

    def run(args: Sequence[np.ndarray]) -> list[np.ndarray]:
        # Native code reads the fields of ndarray objects, so nothing else may come in.
        buffers = [
            a if type(a) is np.ndarray and a.flags.c_contiguous else np.array(a, order="C")
            for a in args
        ]
        env = [*consts, *buffers, *room]
        for step in steps:
            step(env)
        return outputs(env)

    return run
