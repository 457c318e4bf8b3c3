"""`jit`: stage a function once per combination of input types and run it as compiled code."""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
import time
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch import dtypes
from funtorch.config import config
from funtorch.core import (
    ArrayImpl,
    Primitive,
    ShapedArray,
    Tracer,
    _state,
    delete,
    eval_trace,
    kind_of,
)
from funtorch.jaxpr import Eqn, Jaxpr, Var
from funtorch.numpy.promotion import on_device
from funtorch.tracebacks import boundary, hide_frames
from funtorch.treecode import MISMATCH, builder, extractor

from ..backends import (
    Explanation,
    clear_disk,
    compile_jaxpr,
    cost_analysis,
    explain_program,
    memory_analysis,
    pool,
)
from .arguments import as_arrays, check_callable, function_name
from .loops import run_while, while_p
from .misses import Compile, Signature, Stats, leaf_names, why_it_missed
from .restage import call_rules
from .scan import scan_p
from .simplify import simplify
from .stages import Compiled, Lowered, Traced
from .staging import flat_function, spec_of, stage_tree
from .switchboard import Switchboard, Undecided

__all__ = [
    "Compiled",
    "Lowered",
    "Traced",
    "clear_caches",
    "disable_jit",
    "explain",
    "jit",
    "jit_p",
]

CACHE_SIZE = 4096
"""Most programs one jitted function keeps; the oldest goes first."""

_STRUCTURES = 64  # structures of arguments that one jitted function has code for


# ------------------------------------------------------------------------------------ the primitive
jit_p = Primitive("jit", multiple_results=True)
call_rules(jit_p)


def _compiled(
    jaxpr: Jaxpr, donated: frozenset[int] = frozenset()
) -> Callable[[list[Any]], list[Any]]:
    run = jaxpr.memo.get(("compiled", donated))
    if run is None:
        run = jaxpr.memo["compiled", donated] = compile_jaxpr(simplify(jaxpr), donated)
    return run


def _jit_eager(xp: Any, *buffers: Any, jaxpr: Jaxpr, name: str) -> list[Any]:
    return _compiled(jaxpr)(list(buffers))


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
    if short or config.disable_jit or xp is not np:
        return _scan_eager(xp, *buffers, **params)
    return _compiled(_loop_program(scan_p, buffers, params))(list(buffers))


def _compiled_while(xp: Any, *buffers: Any, **params: Any) -> list[Any]:
    if config.disable_jit or xp is not np:
        return _while_eager(xp, *buffers, **params)
    first = params["cond_nconsts"] + params["body_nconsts"]
    steps = _INTERPRETED // (1 + len(params["body_jaxpr"].eqns))
    ended, carry = run_while(buffers, **params, steps=steps)
    if ended:
        return carry
    rest = [*buffers[:first], *carry]
    return _compiled(_loop_program(while_p, rest, params))(rest)


scan_p.eager, while_p.eager = _compiled_scan, _compiled_while


# -------------------------------------------------------------------------------------- one program
class _Program:
    """One staged form of a function: its jaxpr (consts hoisted), output structure, and compiled
    code."""

    def __init__(
        self, jaxpr: Jaxpr, out_tree: Any, name: str, donated: frozenset[int], record: _Record
    ) -> None:
        self.record = record
        self.consts = jaxpr.consts
        self.jaxpr = jaxpr.hoisted()
        self.out_tree = out_tree
        self.name = name
        self.donated = _usable(self.jaxpr, [k + len(self.consts) for k in sorted(donated)])
        self.call: Callable[[Sequence[ArrayImpl]], Any] = self._first_call

    def holds_tracers(self) -> bool:
        return any(isinstance(x, Tracer) for x in self.consts)

    def compiled(self) -> Callable[[list[Any]], list[Any]]:
        return _compiled(self.jaxpr, self.donated)

    def _first_call(self, arrays: Sequence[ArrayImpl]) -> Any:
        with self.record:
            self.call = self._caller()
        return self.call(arrays)

    def _caller(self) -> Callable[[Sequence[ArrayImpl]], Any]:
        """Return the function from arrays, of the program's types and contiguous, to the result."""
        run, build = self.compiled(), builder(self.out_tree)
        consts = [_prepared(c)._data for c in self.consts]
        avals = self.jaxpr.out_avals
        weak = [a.weak_type for a in avals]
        kinds = [kind_of(a.shape, a.dtype, a.weak_type) for a in avals]
        gone = [k - len(consts) for k in sorted(self.donated)]
        why = f"It was donated to {self.name}, a jitted function; pass a copy to keep it."

        def call(arrays: Sequence[ArrayImpl]) -> Any:
            outs = run([*consts, *[x._data for x in arrays]])
            return build([*map(ArrayImpl, outs, weak, kinds)])

        def call_and_delete(arrays: Sequence[ArrayImpl]) -> Any:
            result = call(arrays)
            for k in gone:
                delete(arrays[k], why)
            return result

        return call_and_delete if gone else call

    def bind(self, arrays: Sequence[Any]) -> Any:
        outs = jit_p.bind(*self.consts, *arrays, jaxpr=self.jaxpr, name=self.name)
        return self.out_tree.unflatten(outs)

    def cost_analysis(self) -> dict[str, float]:
        return cost_analysis(simplify(self.jaxpr))

    def memory_analysis(self) -> Any:
        return memory_analysis(simplify(self.jaxpr), self.donated)

    def explain(self) -> Explanation:
        count = len(self.jaxpr.eqns)
        return explain_program(self.name, simplify(self.jaxpr), count, self.donated)


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


def _prepared(x: Any) -> Any:
    """Return an argument as compiled programs read it: contiguous, and with its kind known.

    NumPy arrays are read in place, since nothing outlives the call.
    """
    weak = False
    if type(x) is ArrayImpl:
        if x._kind:
            return x
        weak = x._weak
    elif type(x) is np.ndarray and x.dtype.kind in "fiubc" and x.dtype == dtypes.canonical(x.dtype):
        x = ArrayImpl(x)
    else:
        (x,) = as_arrays([x], "argument", None)
        if type(x) is not ArrayImpl:
            return x
        weak = x._weak
    data = x._data
    if type(data) is not np.ndarray or not (data.flags.c_contiguous and data.flags.aligned):
        x = ArrayImpl(np.array(data, order="C"), weak)
        data = x._data
    x._kind = kind_of(data.shape, data.dtype, weak)
    return x


def _signature(arrays: Sequence[Any], treedef: Any, static: Any) -> Signature:
    types = tuple([(x.shape, x.dtype, x.weak_type) for x in arrays])
    return Signature(treedef, types, static, config.trace_key(), tuple(_state.axes))


# ------------------------------------------------------------------------------------ the transform
_jitted: weakref.WeakSet[Jitted] = weakref.WeakSet()


def clear_caches(disk: bool = False) -> None:
    """Forget every compiled program of every jitted function, and memory kept for results.

    Args:
        disk: whether to delete what compiled code is kept on disk as well.
    """
    for f in list(_jitted):
        f.clear_cache()
    pool.clear()
    if disk:
        clear_disk()


_RECORDS = 256
"""Most compiles that one jitted function remembers the reasons of; the oldest go first."""


class _Record:
    """Why a program was made, and how long it took until it could run."""

    __slots__ = ("reason", "seconds")

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.seconds = 0.0

    def __enter__(self) -> None:
        self.seconds -= time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        self.seconds += time.perf_counter()


_Fast = tuple[Callable[[Any], Any], dict[Any, Callable[..., Any]]]


class Jitted:
    """A function that compiles itself; see `jit`."""

    def __init__(
        self,
        fun: Callable[..., Any],
        static_argnums: tuple[int, ...],
        static_argnames: frozenset[str],
        donate_argnums: tuple[int, ...],
        donate_argnames: frozenset[str],
    ) -> None:
        functools.update_wrapper(self, fun, updated=())  # not its attributes: they are its own
        self.__wrapped__ = fun
        self._fun = fun
        self._name = function_name(fun)
        self._static_argnums = static_argnums
        self._static_argnames = static_argnames
        self._has_static = bool(static_argnums or static_argnames)
        self._donate_argnums = donate_argnums
        self._donate_argnames = donate_argnames
        self._programs: OrderedDict[Signature, _Program | Switchboard] = OrderedDict()
        self._inlined: set[Signature] = set()  # decide in Python, and were traced without values
        # For the structure of the last call: what takes the leaves out, and its programs by number.
        self._fast: _Fast | None = None
        self._structures: dict[Any, _Fast] = {}
        self._calls = 0
        self._compiles: deque[_Record] = deque(maxlen=_RECORDS)
        _jitted.add(self)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<jit of {self._name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._calls += 1
        try:
            fast = self._fast
            if fast is not None and _state.trace is eval_trace:
                extract, calls = fast
                static: Any = None
                try:
                    if self._has_static:
                        dynamic, named, static = self._split_static(args, kwargs)
                        leaves = extract((dynamic, named))
                    else:
                        leaves = extract((args, kwargs))
                    try:
                        kinds = [x._kind for x in leaves]
                        ready = 0 not in kinds
                    except AttributeError:  # numbers and NumPy arrays
                        ready = False
                    if not ready:
                        leaves = [_prepared(x) for x in leaves]
                        kinds = [x._kind for x in leaves]
                    call = calls[(config.token, static, *kinds)]
                except MISMATCH:
                    pass  # another structure or type than in the last call: the long way
                else:
                    return call(leaves)
            return self._call(args, kwargs)
        except Exception as error:
            hide_frames(error)
            raise

    def _call(self, args: Any, kwargs: Any) -> Any:
        """Look the program up by structure, types and values; stage it if there is none."""
        if config.disable_jit:
            return self._fun(*args, **kwargs)
        args, kwargs, static = self._split_static(args, kwargs)
        leaves, treedef = tree.flatten((args, kwargs))
        eager = _state.trace is eval_trace
        if eager:
            leaves = [x if type(x) is not np.ndarray else _prepared(x) for x in leaves]
        arrays = as_arrays(leaves, "argument", self._fun)
        eager = eager and all(type(x) is ArrayImpl for x in arrays)
        key = _signature(arrays, treedef, static)
        if eager:
            arrays = [_prepared(x) for x in arrays]
        program: Any = self._programs.get(key)
        if program is None and (eager or key not in self._inlined):
            program = self._stage(key, args, kwargs, arrays if eager else None)
        if program is None or (type(program) is Switchboard and not eager):
            # It decides in Python by what only the trace around it may know.
            args, kwargs = treedef.unflatten(arrays)
            return self._of_dynamic(key)(*args, **kwargs)
        if not eager or program.holds_tracers():
            return program.bind(arrays)
        kinds = [x._kind for x in arrays]  # before donated ones are gone
        result = program.call(arrays)
        self._remember(key, kinds, program)
        return result

    def _remember(self, key: Signature, kinds: Sequence[int], program: _Program) -> None:
        """Let the next call with arguments like these find the program at once."""
        token = config.token
        if token < 0:
            return
        fast = self._structures.get(key.treedef)
        if fast is None:
            extract = extractor(key.treedef)
            if extract is None:
                return
            if len(self._structures) >= _STRUCTURES:
                self._structures.clear()
            fast = self._structures[key.treedef] = extract, {}
        calls = fast[1]
        if len(calls) >= CACHE_SIZE:
            calls.clear()
        calls[(token, key.static, *kinds)] = program.call
        self._fast = fast

    def _split_static(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, Any]:
        """Take static arguments out: the others, with None in their places, and the values."""
        if not self._has_static:
            return args, kwargs, None
        nums = {n % len(args) if -len(args) <= n < 0 else n for n in self._static_argnums}
        static = [(n, args[n]) for n in sorted(nums) if n < len(args)] + [
            (k, kwargs[k]) for k in sorted(self._static_argnames & kwargs.keys())
        ]
        for where, value in static:
            try:
                hash(value)
            except TypeError:
                what = (
                    f"argument {where}" if isinstance(where, int) else f"keyword argument {where!r}"
                )
                raise ValueError(
                    f"jit of {self._name}: static {what} must be hashable, got "
                    f"{type(value).__name__} ({value!r:.60}): "
                    "static values are keys of the compilation cache. Pass a tuple instead of a "
                    "list, or do not mark "
                    "an array static"
                ) from None
        rest = tuple(None if k in nums else a for k, a in enumerate(args))
        key = tuple((where, type(value), value) for where, value in static)
        return rest, {k: v for k, v in kwargs.items() if k not in self._static_argnames}, key

    def _stage(
        self,
        key: Signature,
        args: Any,
        kwargs: Any,
        arrays: Sequence[ArrayImpl] | None = None,
        explored: bool = False,
    ) -> _Program | Switchboard | None:
        """Trace the function.

        Args:
            key: the types.
            args, kwargs: the arguments.
            arrays: their leaves, if they have values.
            explored: whether the program is to contain all paths through the function.

        Returns:
            the program; None if the function decides in Python and there are no values.
        """
        old = max(0, len(self._programs) - _RECORDS)
        recent = itertools.islice(self._programs, old, None)
        record = _Record(why_it_missed(self._fun, recent, key, args, kwargs))
        with record:
            donated = self._donated(args, kwargs)
            program = self._staged(key, arrays, explored, donated, record)
        if program is None:
            self._inlined.add(key)
            return None
        self._note(record)
        if not program.holds_tracers():
            self._programs[key] = program
            if len(self._programs) > CACHE_SIZE:
                self._programs.popitem(last=False)
                self._forget()
        return program

    def _note(self, record: _Record) -> _Record:
        if config.debug >= 1:
            print(f"jit of {self._name} is traced and compiled: {record.reason}", file=sys.stderr)
        self._compiles.append(record)
        return record

    def _staged(
        self,
        key: Signature,
        arrays: Sequence[ArrayImpl] | None,
        explored: bool,
        donated: frozenset[int],
        record: _Record,
    ) -> _Program | Switchboard | None:
        call, avals = self._of_dynamic(key), [ShapedArray(*t) for t in key.types]
        name = self._name.split(" ")[0]
        if explored or not config.python_control_flow:
            jaxpr, out_tree = stage_tree(call, key.treedef, avals)
            return _Program(jaxpr, out_tree, name, donated, record)
        board = Switchboard(
            flat_function(call, key.treedef),
            avals,
            self._name,
            compile=_compiled,
            make_end=lambda jaxpr, out_tree, gone: _Program(
                jaxpr, out_tree, name, frozenset(gone), record
            ),
            donated=donated,
            prepare=_prepared,
            record=lambda reason: self._note(_Record(reason)),
        )
        try:
            end = board.begin(arrays)
        except Undecided as signal:
            if signal.board is not board:
                raise
            return None
        if board.tree.root is not end:
            return board
        return _Program(board.tree.whole(), end.out_tree, name, donated, record)

    def _of_dynamic(self, key: Signature) -> Callable[..., Any]:
        """Return the function of the arguments that are not static."""
        values = {where: value for where, _, value in key.static or ()}
        named = {k: v for k, v in values.items() if isinstance(k, str)}

        def call(*a: Any, **kw: Any) -> Any:
            if values:
                a = tuple([values.get(k, x) for k, x in enumerate(a)])
            return self._fun(*a, **kw, **named)

        call.__wrapped__ = self._fun  # type: ignore[attr-defined]
        return call

    def _forget(self) -> None:
        self._fast = None
        self._structures.clear()

    def _donated(self, args: Any, kwargs: Any) -> frozenset[int]:
        """Return the positions, among the flat inputs, of donated leaves."""
        found, at = set(), 0
        entries = [(k in self._donate_argnums, a) for k, a in enumerate(args)]
        entries += [(k in self._donate_argnames, kwargs[k]) for k in sorted(kwargs)]
        for donate, value in entries:
            n = len(tree.leaves(value))
            if donate:
                found.update(range(at, at + n))
            at += n
        return frozenset(found)

    def trace(self, *args: Any, **kwargs: Any) -> Traced:
        """Trace for the given arguments (arrays or `ShapeDtypeStruct`) without compiling."""
        args, kwargs, static = self._split_static(args, kwargs)
        leaves, treedef = tree.flatten((args, kwargs))
        avals = [spec_of(x) for x in leaves]
        key = _signature(avals, treedef, static)
        program: Any = self._programs.get(key)
        if type(program) is not _Program:
            program = self._stage(key, args, kwargs, explored=True)
        return Traced(program, treedef, avals, leaf_names(self._fun, args, kwargs))

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Trace and simplify for the given arguments without running."""
        return self.trace(*args, **kwargs).lower()

    def eval_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Return shapes and dtypes of the outputs without running."""
        return self.trace(*args, **kwargs).out_info

    def clear_cache(self) -> None:
        """Forget all compiled programs of this function."""
        self._programs.clear()
        self._inlined.clear()
        self._forget()

    def stats(self) -> Stats:
        """Say how often the function was called and compiled, and why each time.

        Calls inside another jitted function count when that one is traced. Tracing counts as part
        of a compile; programs that were only traced have no other part.

        Returns:
            A named tuple: ``calls``, ``compiles`` (each with its ``reason``, one line, and
            ``seconds``; of the last 256), and the sum ``seconds``. It can be printed.

        Example:
            >>> import funtorch as ft
            >>> double = ft.jit(lambda x: 2 * x)
            >>> _ = double(ft.numpy.ones(3)), double(ft.numpy.ones(3)), double(ft.numpy.ones(4))
            >>> stats = double.stats()
            >>> stats.calls
            3
            >>> [compile.reason for compile in stats.compiles]
            ['first call, with x: f32[3]', 'argument x was f32[3], is f32[4]']
        """
        return Stats(self._calls, tuple([Compile(r.reason, r.seconds) for r in self._compiles]))

    def _cache_size(self) -> int:
        return len(self._programs)


def jit(
    fun: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Iterable[str] | None = None,
    donate_argnums: int | Sequence[int] | None = None,
    donate_argnames: str | Iterable[str] | None = None,
    keep_unused: bool = False,
    inline: bool = False,
    device: Any = None,
    backend: str | None = None,
    compiler_options: Any = None,
) -> Any:
    """Compile a function: it is traced once per combination of argument types, and then runs as
    native code.

    Args:
        fun: a pure function of arrays or pytrees of arrays. Without it, a decorator is returned.
        static_argnums, static_argnames: arguments that stay Python values; they must be hashable,
            and each new value compiles again.
        donate_argnums, donate_argnames: arguments whose buffers the program may overwrite with
            results of the same type. Such arrays are deleted by the call.
        keep_unused, inline, compiler_options: accepted for compatibility; arguments are never left
            out, calls inside a compiled program always become part of it, and there is no XLA.
        device, backend: None or the CPU.

    Returns:
        The compiled function, with ``trace(*args)``, ``lower(*args)``, ``eval_shape(*args)``,
        ``stats()`` and ``clear_cache()``.

    Raises:
        TypeError: if an argument is not an array or a number and not marked static.
        ValueError: if a static argument is not hashable, or there is no such device.

    Example:
        >>> import funtorch as ft
        >>> @ft.jit
        ... def f(x):
        ...     return ft.numpy.sin(x) ** 2 + 1.0
        >>> float(f(0.0))
        1.0
    """
    for place in (device, backend):
        on_device(place, "jit")
    if fun is None:
        return functools.partial(
            jit,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
            donate_argnums=donate_argnums,
            donate_argnames=donate_argnames,
        )
    check_callable(fun, "jit")
    nums, names = _resolve(fun, _ints(static_argnums), _names(static_argnames))
    donate_nums, donate_names = _resolve(fun, _ints(donate_argnums), _names(donate_argnames))
    return Jitted(fun, nums, names, donate_nums, donate_names)


def _ints(x: int | Sequence[int] | None) -> tuple[int, ...]:
    return () if x is None else (x,) if isinstance(x, int) else tuple(x)


def _names(x: str | Iterable[str] | None) -> tuple[str, ...]:
    return () if x is None else (x,) if isinstance(x, str) else tuple(x)


def _resolve(
    fun: Any, nums: tuple[int, ...], names: tuple[str, ...]
) -> tuple[tuple[int, ...], frozenset[str]]:
    """Return positions and names that mean the same arguments, so that either way of passing them
    works."""
    if not nums and not names:
        return (), frozenset()
    try:
        params = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):  # some builtins have no signature: take what was given
        return nums, frozenset(names)
    positional = [p.name for p in params if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    known = {p.name for p in params}
    has_kwargs = any(p.kind is p.VAR_KEYWORD for p in params)
    for name in names:
        if name not in known and not has_kwargs:
            raise ValueError(
                f"jit of {function_name(fun)}: there is no argument named {name!r}; it has "
                f"{sorted(known)}"
            )
    has_args = any(p.kind is p.VAR_POSITIONAL for p in params)
    for n in nums:
        if not has_args and not -len(positional) <= n < len(positional):
            raise ValueError(
                f"jit of {function_name(fun)}: argnums {n} is out of range for {len(positional)} "
                "positional "
                "arguments"
            )
    all_nums = set(nums) | {positional.index(n) for n in names if n in positional}
    all_names = set(names) | {
        positional[n] for n in nums if -len(positional) <= n < len(positional)
    }
    return tuple(sorted(all_nums)), frozenset(all_names)


def explain(fun: Callable[..., Any]) -> Callable[..., Explanation]:
    """Make a function that tells what ``fun`` compiles to: steps, source lines, costs and memory.

    Args:
        fun: a jitted function, or one that is then jitted.

    Returns:
        A function of the same arguments (arrays, numbers or `ShapeDtypeStruct`) that returns an
        object to print, with ``steps``, ``buffers``, ``memory`` and ``save_svg(path)``.

    Example:
        >>> import funtorch as ft
        >>> found = ft.explain(lambda x: ft.numpy.exp(x).sum())(ft.numpy.ones(10))
        >>> [(step.kind, step.what) for step in found.steps]
        [('kernel', 'exp+sum')]
    """
    check_callable(fun, "explain")
    jitted = fun if isinstance(fun, Jitted) else jit(fun)

    @boundary
    @functools.wraps(fun)
    def explained(*args: Any, **kwargs: Any) -> Explanation:
        return jitted.trace(*args, **kwargs)._program.explain()

    return explained


def disable_jit(disable: bool = True) -> Any:
    """Return a context in which jitted functions run as plain Python, operation by operation.

    Example:
        >>> import funtorch as ft
        >>> with ft.disable_jit():
        ...     y = ft.jit(lambda x: x + 1)(2)
        >>> int(y)
        3
    """
    return config.override(disable_jit=disable)
