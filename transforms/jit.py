"""`jit`: stage a function once per combination of input types and run it as compiled code."""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch.config import config
from funtorch.core import ArrayImpl, ShapedArray, _state, eval_trace
from funtorch.errors import TooManyPathsError
from funtorch.hardware import CPU, Device, find
from funtorch.jaxpr import Jaxpr
from funtorch.origins import leaf_names
from funtorch.placement import Placed, device_of, meeting, put
from funtorch.tracebacks import boundary, hide_frames
from funtorch.treecode import MISMATCH, extractor

from .. import backends
from .argnames import ints, named_arguments, names_of
from .arguments import as_arrays, check_callable, function_name
from .constraints import Shardings
from .dynamic import Sizes
from .dynamic_axes import Marks, check_axes, marked_axes
from .families import Family, TraceAt, alike
from .misses import Compile, Signature, Stats, why_it_missed
from .programs import Program, Record, jit_p, prepared, segment
from .references import Crossing, Stateful, holds_refs
from .stages import Compiled, Lowered, Traced
from .staging import flat_function, spec_of, stage_tree
from .switchboard import Switchboard, Undecided
from .varying import in_body

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

_RECENT = 16  # programs that a new one is compared with, and families that are kept

_STRUCTURES = 64  # structures of arguments that one jitted function has code for


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
    backends.pool.clear()
    if disk:
        backends.clear_disk()


_RECORDS = 256
"""Most compiles that one jitted function remembers the reasons of; the oldest go first."""


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
        memory_budget: int | None = None,
        dynamic_axes: Any = None,
        device: Device | None = None,
    ) -> None:
        functools.update_wrapper(self, fun, updated=())
        # A function's attributes, but none in the place of what a compiled one has.
        if isinstance(fun, types.FunctionType):
            shown = {k: v for k, v in vars(fun).items() if k[0] != "_" and not hasattr(Jitted, k)}
            vars(self).update(shown)
        self.__wrapped__ = fun
        self._fun = fun
        self._name = function_name(fun)
        self._static_argnums = static_argnums
        self._static_argnames = static_argnames
        self._has_static = bool(static_argnums or static_argnames)
        self._donate_argnums = donate_argnums
        self._donate_argnames = donate_argnames
        self._budget = memory_budget
        self._dynamic_axes = dynamic_axes
        self._device = device
        self._families: list[Family] = []
        self._programs: OrderedDict[Signature, Program | Switchboard] = OrderedDict()
        # What decided in Python when it was traced without values, and whether values may help.
        self._inlined: dict[Signature, bool] = {}
        # For the structure of the last call: what takes the leaves out, and its programs by number.
        self._fast: _Fast | None = None
        self._structures: dict[Any, _Fast] = {}
        self._calls = 0
        self._compiles: deque[Record] = deque(maxlen=_RECORDS)
        self._stateful: Stateful | None = None  # what calls it with references
        _jitted.add(self)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    @property
    def __signature__(self) -> inspect.Signature:
        # Asked for even by those who do not follow __wrapped__.
        return inspect.signature(self.__wrapped__)

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
                        leaves = [prepared(x) for x in leaves]
                        kinds = [x._kind for x in leaves]
                    call = calls[(config.token, static, *kinds)]
                except MISMATCH:
                    pass  # another structure or type than in the last call: the long way
                else:
                    return call(leaves)
            try:
                return self._call(args, kwargs)
            except Crossing as crossing:
                return self._call_with_refs(args, kwargs, crossing)
        except Exception as error:
            hide_frames(error)
            raise

    def _call(self, args: Any, kwargs: Any) -> Any:
        """Look the program up by structure, types and values; stage it if there is none."""
        if config.disable_jit or in_body():
            return self._fun(*args, **kwargs)
        given = args, kwargs
        args, kwargs, static = self._split_static(args, kwargs)
        leaves, treedef = tree.flatten((args, kwargs))
        if (self._stateful is not None and self._stateful.refs) or holds_refs(leaves):
            return self._call_with_refs(*given)
        eager = _state.trace is eval_trace or type(_state.trace) is Placed
        if eager:
            leaves = [x if type(x) is not np.ndarray else prepared(x) for x in leaves]
        names = functools.partial(leaf_names, self._fun, args, kwargs)
        arrays = as_arrays(leaves, "argument", self._fun, names)
        eager = eager and all(isinstance(x, ArrayImpl) for x in arrays)
        key = _signature(arrays, treedef, static)
        if eager:
            device = self._place(arrays, names)
            if device != CPU:
                key = key._replace(device=device)
            if self._device is not None:
                arrays = [x if device_of(x) in (CPU, device) else put(x, device) for x in arrays]
            arrays = [prepared(x) for x in arrays]
        program: Any = self._programs.get(key)
        if program is None and (eager or key not in self._inlined):
            program = self._stage(key, args, kwargs, arrays if eager else None)
        if not eager and (program is None or type(program) is Switchboard):
            return self._call_inside(key, args, kwargs, arrays)
        if program is None:
            return self._call_as_it_is(key, arrays)
        if not eager or program.holds_tracers():
            return program.bind(arrays)
        kinds = [x._kind for x in arrays]  # before donated ones are gone
        result = program.call(arrays)
        if _state.trace is eval_trace:  # and no other device is the default
            self._remember(key, kinds, program)
        return result

    def _call_with_refs(self, args: Any, kwargs: Any, crossing: Crossing | None = None) -> Any:
        if self._stateful is None:
            numbers = (self._static_argnums, self._static_argnames | {"_where"})
            donated = (self._donate_argnums, self._donate_argnames)
            others: tuple[Any, ...] = (self._budget, self._dynamic_axes, self._device)
            self._stateful = Stateful(self._fun, lambda f: Jitted(f, *numbers, *donated, *others))
        return self._stateful.call(args, kwargs, crossing)

    def _call_inside(self, key: Signature, args: Any, kwargs: Any, arrays: Sequence[Any]) -> Any:
        """Call a function that decides in Python inside of another trace.

        Where that knows the values, as under `grad` alone, they say which path to take. Otherwise
        the function becomes a part of what is traced.
        """
        values = [x if isinstance(x, ArrayImpl) else x.concrete() for x in arrays]
        if self._inlined.get(key, True) and not any(v is None for v in values):
            values = [prepared(v) for v in values]
            board: Any = self._programs.get(key)
            try:
                if board is None:
                    board = self._stage(key, args, kwargs, values, pure=True)
                if type(board) is Switchboard:
                    jaxpr, out_tree = board.decide(values)
                    hoisted, name = jaxpr.hoisted(), self._name.split(" ")[0]
                    outs = jit_p.bind(*jaxpr.consts, *arrays, jaxpr=hoisted, name=name)
                    return out_tree.unflatten(outs)
            except Undecided as signal:
                if signal.board is not board:
                    raise
            self._inlined[key] = False
        return self._call_as_it_is(key, arrays)

    def _call_as_it_is(self, key: Signature, arrays: Sequence[Any]) -> Any:
        args, kwargs = key.treedef.unflatten(arrays)
        return self._of_dynamic(key)(*args, **kwargs)

    def _remember(self, key: Signature, kinds: Sequence[int], program: Program) -> None:
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

    def _place(self, arrays: Sequence[Any], names: Callable[[], Sequence[str]]) -> Device:
        """Return the device that a call runs on."""
        if self._device is not None:
            return self._device
        try:
            found = meeting(arrays, f"jit of {self._name}")
        except ValueError:
            meeting(arrays, f"jit of {self._name}", [f"argument {n}" for n in names()])
            raise
        return found or (_state.trace.device if type(_state.trace) is Placed else CPU)

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
        pure: bool = False,
    ) -> Program | Switchboard | None:
        """Trace the function.

        Args:
            key: the types.
            args, kwargs: the arguments.
            arrays: their leaves, if they have values.
            explored: whether the program is to contain all paths through the function.
            pure: whether nothing that has effects may run.

        Returns:
            the program; None if the function decides in Python and there are no values.
        """
        count = _RECENT if self._families else _RECORDS
        old = max(0, len(self._programs) - count)
        recent = itertools.islice(self._programs, old, None)
        record = Record(why_it_missed(self._fun, recent, key, args, kwargs))
        with record:
            donated = self._donated(args, kwargs)
            program = self._staged(key, arrays, explored, pure, donated, record)
        if program is None:
            self._inlined.setdefault(key, True)
            return None
        self._note(record)
        if not program.holds_tracers() and key not in self._programs:
            if type(program) is Program and self._budget is None:
                program.family = self._family_of(key, args, kwargs)
            self._programs[key] = program
            if len(self._programs) > CACHE_SIZE:
                self._programs.popitem(last=False)
                self._forget()
        return program

    def _note(self, record: Record) -> Record:
        if config.debug >= 1:
            print(f"jit of {self._name} is traced and compiled: {record.reason}", file=sys.stderr)
        self._compiles.append(record)
        return record

    def _staged(
        self,
        key: Signature,
        arrays: Sequence[ArrayImpl] | None,
        explored: bool,
        pure: bool,
        donated: frozenset[int],
        record: Record,
    ) -> Program | Switchboard | None:
        call, avals = self._of_dynamic(key), [ShapedArray(*t) for t in key.types]
        name = self._name.split(" ")[0]
        if explored or not config.python_control_flow:
            jaxpr, out_tree = stage_tree(call, key.treedef, avals)
            return Program(jaxpr, out_tree, name, donated, record, self._budget, key.device)
        board = Switchboard(
            flat_function(call, key.treedef),
            avals,
            self._name,
            compile=functools.partial(segment, device=key.device),
            donated=donated,
            prepare=prepared,
            record=lambda reason: self._note(Record(reason)),
        )
        try:
            end = board.begin(arrays, pure)
        except Undecided as signal:
            if signal.board is not board:
                raise
            return None
        if board.tree.root is not end:
            return board
        whole = board.tree.whole()
        return Program(whole, end.out_tree, name, donated, record, self._budget, key.device)

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

    def _family_of(
        self, key: Signature, args: Any, kwargs: Any
    ) -> tuple[Family, Sizes, TraceAt] | None:
        found = self._family(key, args, kwargs)
        if found is None:
            return None
        family, sizes = found

        def trace_at(sizes: Sizes) -> Jaxpr:
            avals = [ShapedArray(*t) for t in family.types(key, sizes)]
            return stage_tree(self._of_dynamic(key), key.treedef, avals)[0].hoisted()

        return family, sizes, trace_at

    def _family(self, key: Signature, args: Any, kwargs: Any) -> tuple[Family, Sizes] | None:
        """Return the calls that differ from this one in sizes alone, and its sizes."""
        marks: Marks | None = None
        if self._dynamic_axes is not None:
            shapes, names = [t[0] for t in key.types], leaf_names(self._fun, args, kwargs)
            marks = marked_axes(self._fun, self._dynamic_axes, args, kwargs, shapes, names)
        elif not config.dynamic_sizes:
            return None
        for family in self._families:
            sizes = family.sizes(key)
            if sizes and (marks is None or marks.keys() == family.marks.keys()):
                return family, sizes
        if marks is None:
            recent = itertools.islice(reversed(self._programs), _RECENT)
            marks = alike(key, recent, leaf_names(self._fun, args, kwargs))
        if not marks:
            return None
        family = Family.of(key, marks)
        self._families = [*self._families[-_RECENT:], family]
        for other in itertools.islice(reversed(self._programs), _RECENT):
            program = self._programs[other]
            if type(program) is Program:
                family.remember(other, program.jaxpr)
        sizes = family.sizes(key)
        assert sizes is not None
        return family, sizes

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
        names = functools.partial(leaf_names, self._fun, args, kwargs)
        key = _signature(avals, treedef, static)._replace(device=self._place(leaves, names))
        program: Any = self._programs.get(key)
        if type(program) is Switchboard:
            program.explored = program.explored or self._stage(key, args, kwargs, explored=True)
            program = program.explored
        elif program is None:
            program = self._stage(key, args, kwargs, explored=True)
        gone = {where for where, *_ in static or ()}
        own = tuple(x for k, x in enumerate(args) if k not in gone)
        in_tree = tree.structure((own, kwargs)) if gone else treedef
        return Traced(program, in_tree, avals, names())

    def _last_path(self, args: Any, kwargs: Any) -> Program | None:
        """Return the path that the last call took, of those with arguments of such types."""
        args, kwargs, static = self._split_static(args, kwargs)
        leaves, treedef = tree.flatten((args, kwargs))
        board = self._programs.get(_signature([spec_of(x) for x in leaves], treedef, static))
        if type(board) is not Switchboard or board.last is None:
            return None
        jaxpr, out_tree = board.path_to(board.last)
        return Program(jaxpr, out_tree, self._name.split(" ")[0], frozenset(), Record("a path"))

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
        self._families.clear()
        self._forget()

    def stats(self) -> Stats:
        """Say how often the function was called and compiled, and why each time.

        Calls inside another jitted function count when that one is traced. Tracing counts as part
        of a compile; programs that were only traced have no other part.

        Returns:
            A named tuple: ``calls``, ``compiles`` (each with its ``reason``, one line, ``seconds``,
            and ``memory``, what a ``memory_budget`` led to; of the last 256), ``paths``, how it
            decides in Python, and the sum ``seconds``. It can be printed.

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
        found = [
            Compile(r.reason, r.seconds, r.memory, r.sizes) for r in self._compiles if not r.shared
        ]
        boards = [p for p in self._programs.values() if type(p) is Switchboard]
        paths = [path for board in boards for path in board.paths()]
        return Stats(self._calls, tuple(found), tuple(paths))

    def _cache_size(self) -> int:
        return len(self._programs)


class _Divided(Jitted):
    """A compiled function whose arguments and results are divided over a mesh as the user says."""

    def __init__(self, fun: Callable[..., Any], shardings: Shardings, *given: Any) -> None:
        super().__init__(fun, *given)
        self._fun = functools.wraps(fun)(shardings.around(fun))
        self._shardings = shardings

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._shardings.results(super().__call__(*args, **kwargs))


def jit(
    fun: Callable[..., Any] | None = None,
    *,
    in_shardings: Any = None,
    out_shardings: Any = None,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Iterable[str] | None = None,
    donate_argnums: int | Sequence[int] | None = None,
    donate_argnames: str | Iterable[str] | None = None,
    memory_budget: int | None = None,
    dynamic_axes: Any = None,
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
        in_shardings, out_shardings: how arguments (by position, without static ones) and results
            are divided over a mesh, as `funtorch.lax.with_sharding_constraint` takes it.
        static_argnums, static_argnames: arguments that stay Python values; they must be hashable,
            and each new value compiles again.
        donate_argnums, donate_argnames: arguments whose buffers the program may overwrite with
            results of the same type. Such arrays are deleted by the call.
        memory_budget: bytes that arguments, results and temporary arrays may take together. Where
            they would take more, what is worth it is computed again instead of being kept, as
            ``stats()`` tells. It holds for calls from outside of other compiled programs.
        dynamic_axes: axes whose size may be any in one compiled program: a dict from arguments'
            names, or a tuple by position, of an axis, a tuple of axes, a dict from axes to names,
            or trees of these. Axes of one name have one size. Without it, axes are marked when a
            call comes that differs from one before in their sizes alone. See
            docs/dynamic-axes.md.
        keep_unused, inline, compiler_options: accepted for compatibility; arguments are never left
            out, calls inside a compiled program always become part of it, and there is no XLA.
        device, backend: where it runs, as for `funtorch.device_put`; arguments are moved there.
            Without it, where its arguments are.

    Returns:
        The compiled function, with ``trace(*args)``, ``lower(*args)``, ``eval_shape(*args)``,
        ``stats()`` and ``clear_cache()``.

    Raises:
        TypeError: if an argument is not an array or a number and not marked static.
        ValueError: if a static argument is not hashable, there is no such device, or the
            memory_budget cannot be met; the error names the least peak that can be. If
            ``dynamic_axes`` marks what is not there, or gives axes of different sizes one name.

    Example:
        >>> import funtorch as ft
        >>> @ft.jit
        ... def f(x):
        ...     return ft.numpy.sin(x) ** 2 + 1.0
        >>> float(f(0.0))
        1.0
    """
    places = [find(place, "jit") for place in (device, backend) if place is not None]
    if fun is None:
        return functools.partial(
            jit,
            in_shardings=in_shardings,
            out_shardings=out_shardings,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
            donate_argnums=donate_argnums,
            donate_argnames=donate_argnames,
            memory_budget=memory_budget,
            dynamic_axes=dynamic_axes,
            device=device,
            backend=backend,
        )
    check_callable(fun, "jit")
    if dynamic_axes is not None:
        check_axes(fun, dynamic_axes)
    if memory_budget is not None and (type(memory_budget) is not int or memory_budget < 0):
        raise ValueError(
            f"jit of {function_name(fun)}: memory_budget is a number of bytes, an int of 0 or "
            f"more, got {memory_budget!r:.60}"
        )
    nums, names = named_arguments(fun, ints(static_argnums), names_of(static_argnames))
    donate_nums, donate_names = named_arguments(
        fun, ints(donate_argnums), names_of(donate_argnames)
    )
    both: list[Any] = sorted({*nums} & {*donate_nums}) or sorted({*names} & {*donate_names})
    if both:
        raise ValueError(
            f"jit of {function_name(fun)}: arguments {both} are both static and donated; only "
            "arrays have buffers to donate"
        )
    place = places[0] if places and places[0] != CPU else None
    given = (nums, names, donate_nums, donate_names, memory_budget, dynamic_axes, place)
    if in_shardings is None and out_shardings is None:
        return Jitted(fun, *given)
    shardings = Shardings(function_name(fun), in_shardings, out_shardings, nums)
    return _Divided(fun, shardings, *given)


def explain(fun: Callable[..., Any]) -> Callable[..., backends.Explanation]:
    """Make a function that tells what ``fun`` compiles to: steps, source lines, costs and memory.

    Args:
        fun: a jitted function, or one that is then jitted.

    Returns:
        A function of the same arguments (arrays, numbers or `ShapeDtypeStruct`) that returns an
        object to print, with ``steps``, ``buffers``, ``memory`` and ``save_svg(path)``. A function
        that decides in Python is explained with all its paths as branches, or, where there are too
        many, by the path of the last call.

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
    def explained(*args: Any, **kwargs: Any) -> backends.Explanation:
        try:
            return jitted.trace(*args, **kwargs)._program.explain()
        except TooManyPathsError:
            path = jitted._last_path(args, kwargs)
            if path is None:
                raise
        return path.explain()

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
