"""`jit`: stage a function once per combination of input types and run it as compiled code."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from funtorch import tree
from funtorch.config import config
from funtorch.core import ArrayImpl, Primitive, ShapedArray, Tracer, _state, eval_trace
from funtorch.jaxpr import Eqn, Jaxpr, Var

from ..backends import compile_jaxpr
from .arguments import as_arrays, check_callable, function_name
from .loops import run_while, while_p
from .restage import call_rules
from .scan import scan_p
from .simplify import simplify
from .staging import ShapeDtypeStruct, spec_of, stage_tree

__all__ = ["Compiled", "Lowered", "clear_caches", "disable_jit", "jit", "jit_p"]

CACHE_SIZE = 4096
"""Most programs one jitted function keeps; the least recently used goes first."""


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


# ---------------------------------------------------------------------------------- loops outside jit
_INTERPRETED = 2000  # equations of a loop that run one by one before it is worth compiling


def _loop_program(prim: Primitive, buffers: Sequence[Any], params: dict[str, Any]) -> Jaxpr:
    """Return the program of one equation that a loop outside jit runs as, made once per loop."""
    body = params.get("jaxpr") or params["body_jaxpr"]
    types = tuple((b.shape, b.dtype) for b in buffers)
    key = ("loop", types, *(v for k, v in sorted(params.items()) if v is not body))
    if key not in body.memo:
        avals = [ShapedArray(*t) for t in types]
        ins, outs = map(Var, avals), map(Var, prim.type(*avals, **params))
        eqn = Eqn(prim, list(ins), params, list(outs))
        body.memo[key] = Jaxpr(eqn.invars, [eqn], eqn.outvars)
    return body.memo[key]


_scan_eager, _while_eager = scan_p.eager, while_p.eager


def _compiled_scan(xp: Any, *buffers: Any, **params: Any) -> list[Any]:
    short = params["length"] * len(params["jaxpr"].eqns) <= _INTERPRETED
    if short or config.disable_jit:
        return _scan_eager(xp, *buffers, **params)
    return _compiled(_loop_program(scan_p, buffers, params))(list(buffers))


def _compiled_while(xp: Any, *buffers: Any, **params: Any) -> list[Any]:
    if config.disable_jit:
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

    __slots__ = ("consts", "donated", "jaxpr", "name", "out_tree", "run", "weak")

    def __init__(self, jaxpr: Jaxpr, out_tree: Any, name: str, donated: frozenset[int]) -> None:
        self.consts = jaxpr.consts
        self.jaxpr = jaxpr.hoisted()
        self.out_tree = out_tree
        self.name = name
        self.donated = frozenset(k + len(self.consts) for k in donated)
        self.weak = [a.weak_type for a in self.jaxpr.out_avals]
        self.run: Callable[[list[Any]], list[Any]] | None = None

    def holds_tracers(self) -> bool:
        return any(isinstance(x, Tracer) for x in self.consts)

    def compiled(self) -> Callable[[list[Any]], list[Any]]:
        """Return the function from buffers of all arguments to output buffers, constants bound."""
        run = _compiled(self.jaxpr, self.donated)
        if self.consts:
            consts = [c._data for c in self.consts]
            inner = run

            def run(buffers: list[Any]) -> list[Any]:
                return inner(consts + buffers)

        self.run = run
        return run

    def call(self, buffers: list[Any]) -> Any:
        run = self.run or self.compiled()
        outs = [ArrayImpl(b, w) for b, w in zip(run(buffers), self.weak, strict=True)]
        return self.out_tree.unflatten(outs)

    def bind(self, arrays: Sequence[Any]) -> Any:
        outs = jit_p.bind(*self.consts, *arrays, jaxpr=self.jaxpr, name=self.name)
        return self.out_tree.unflatten(outs)


# ------------------------------------------------------------------------------------ the transform
_jitted: weakref.WeakSet[Jitted] = weakref.WeakSet()


def clear_caches() -> None:
    """Forget every compiled program of every jitted function."""
    for f in list(_jitted):
        f.clear_cache()


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
        functools.update_wrapper(self, fun)
        self.__wrapped__ = fun
        self._fun = fun
        self._name = function_name(fun)
        self._static_argnums = static_argnums
        self._static_argnames = static_argnames
        self._donate_argnums = donate_argnums
        self._donate_argnames = donate_argnames
        self._programs: OrderedDict[Any, _Program] = OrderedDict()
        _jitted.add(self)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self) -> str:
        return f"<jit of {self._name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if config.disable_jit:
            return self._fun(*args, **kwargs)
        static: Any = None
        if self._static_argnums or self._static_argnames:
            args, kwargs, static = self._split_static(args, kwargs)
        leaves, treedef = tree.flatten((args, kwargs))
        types, buffers, eager = [], [], _state.trace is eval_trace
        for k, x in enumerate(leaves):
            if type(x) is ArrayImpl:
                data = x._data
                types.append((data.shape, data.dtype, x._weak))
                buffers.append(data)
            elif eager and type(x) is np.ndarray and x.dtype.kind in "fiubc":
                types.append((x.shape, x.dtype, False))  # read in place: nothing outlives the call
                buffers.append(x)
            else:
                (leaves[k],) = (x,) = as_arrays([x], "argument", self._fun)
                aval = x.aval
                types.append((aval.shape, aval.dtype, aval.weak_type))
                eager = eager and type(x) is ArrayImpl
                buffers.append(x._data if type(x) is ArrayImpl else None)
        key = (treedef, tuple(types), static, config.trace_key())
        program = self._programs.get(key)
        if program is None:
            program = self._stage(
                key, treedef, [ShapedArray(*t) for t in types], static, args, kwargs
            )
        if eager and not program.holds_tracers():
            return program.call(buffers)
        return program.bind(as_arrays(leaves, "argument", self._fun))

    def _split_static(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, Any]:
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
        key: Any,
        treedef: Any,
        avals: Sequence[ShapedArray],
        static: Any,
        args: Any,
        kwargs: Any,
    ) -> _Program:
        values = {where: value for where, _, value in static or ()}

        def call(*a: Any, **kw: Any) -> Any:
            named = {k: v for k, v in values.items() if isinstance(k, str)}
            return self._fun(
                *[values.get(k, x) if k in values else x for k, x in enumerate(a)], **kw, **named
            )

        call.__wrapped__ = self._fun  # type: ignore[attr-defined]
        jaxpr, out_tree = stage_tree(call, treedef, avals)
        program = _Program(jaxpr, out_tree, self._name.split(" ")[0], self._donated(args, kwargs))
        if not program.holds_tracers():
            self._programs[key] = program
            if len(self._programs) > CACHE_SIZE:
                self._programs.popitem(last=False)
        return program

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

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Stage for the given arguments (arrays or `ShapeDtypeStruct`) without running."""
        static: Any = None
        if self._static_argnums or self._static_argnames:
            args, kwargs, static = self._split_static(args, kwargs)
        leaves, treedef = tree.flatten((args, kwargs))
        avals = [spec_of(x) for x in leaves]
        key = (
            treedef,
            tuple((a.shape, a.dtype, a.weak_type) for a in avals),
            static,
            config.trace_key(),
        )
        program = self._programs.get(key) or self._stage(key, treedef, avals, static, args, kwargs)
        return Lowered(program, treedef, avals)

    def eval_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Return shapes and dtypes of the outputs without running."""
        return self.lower(*args, **kwargs).out_info

    def clear_cache(self) -> None:
        """Forget all compiled programs of this function."""
        self._programs.clear()

    def _cache_size(self) -> int:
        return len(self._programs)


class Lowered:
    """A staged program, before compilation."""

    def __init__(self, program: _Program, in_tree: Any, avals: Sequence[ShapedArray]) -> None:
        self._program = program
        self.in_tree = in_tree
        self.in_avals = list(avals)

    @property
    def jaxpr(self) -> Jaxpr:
        return self._program.jaxpr

    @property
    def out_info(self) -> Any:
        return self._program.out_tree.unflatten(
            [ShapeDtypeStruct(a.shape, a.dtype) for a in self.jaxpr.out_avals]
        )

    def as_text(self) -> str:
        """Return the simplified program as text."""
        return str(simplify(self._program.jaxpr))

    def compile(self) -> Compiled:
        """Compile the program to native code."""
        self._program.compiled()
        return Compiled(self)


class Compiled:
    """A compiled program: call it with arguments of exactly the types it was lowered for."""

    def __init__(self, lowered: Lowered) -> None:
        self._lowered = lowered

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, treedef = tree.flatten((args, kwargs))
        if treedef != self._lowered.in_tree:
            raise TypeError(
                f"the compiled function takes arguments of structure {self._lowered.in_tree}, got "
                f"{treedef}"
            )
        arrays = as_arrays(leaves, "argument", None)
        for k, (x, aval) in enumerate(zip(arrays, self._lowered.in_avals, strict=True)):
            if not x.aval.same_type(aval):
                raise TypeError(
                    f"the compiled function takes {aval.str_short()} as leaf {k}, got "
                    f"{x.aval.str_short()}"
                )
        if all(type(x) is ArrayImpl for x in arrays) and _state.trace is eval_trace:
            return self._lowered._program.call([x._data for x in arrays])
        return self._lowered._program.bind(arrays)

    def as_text(self) -> str:
        return self._lowered.as_text()


def jit(
    fun: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Iterable[str] | None = None,
    donate_argnums: int | Sequence[int] | None = None,
    donate_argnames: str | Iterable[str] | None = None,
) -> Any:
    """Compile a function: it is traced once per combination of argument types, and then runs as
    native code.

    Args:
        fun: a pure function of arrays or pytrees of arrays. Without it, a decorator is returned.
        static_argnums, static_argnames: arguments that stay Python values; they must be hashable,
            and each new value compiles again.
        donate_argnums, donate_argnames: arguments whose buffers the program may overwrite; the
            caller must not use them afterwards.

    Returns:
        The compiled function, with ``lower(*args)``, ``eval_shape(*args)`` and ``clear_cache()``.

    Raises:
        TypeError: if an argument is not an array or a number and not marked static.
        ValueError: if a static argument is not hashable.

    Example:
        >>> import funtorch as ft
        >>> @ft.jit
        ... def f(x):
        ...     return ft.numpy.sin(x) ** 2 + 1.0
        >>> float(f(0.0))
        1.0
    """
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
