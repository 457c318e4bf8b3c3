"""Calls of Python from programs: `pure_callback`, `io_callback`, `debug_callback`, `debug_print`.

Compiled programs call Python back in the thread that runs them. What has an effect ('debug' or
'io', see `Primitive`) runs as often, and in the order, that the program says.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch.core import Array, ArrayImpl, Primitive, ShapedArray, eval_trace, no_source, use_trace
from funtorch.errors import user_frame
from funtorch.ops.families import spread
from funtorch.tracebacks import self_bounded

from .arguments import as_arrays, check_callable, function_name
from .batching import Axis
from .lanes import map_lanes
from .staging import spec_of

__all__ = [
    "debug_breakpoint",
    "debug_callback",
    "debug_log",
    "debug_print",
    "effects_barrier",
    "io_callback",
    "pure_callback",
]


# ------------------------------------------------------------------------------------ the function
class _Callback:
    """A user's function of a pytree as a function of buffers; equal ones are the same call.

    Leaves that are no arrays or numbers are kept, by their place.
    """

    __slots__ = ("fun", "static", "treedef", "what")

    def __init__(self, what: str, fun: Any, treedef: Any, static: tuple[Any, ...]) -> None:
        self.what, self.fun, self.treedef, self.static = what, fun, treedef, static

    @property
    def __name__(self) -> str:
        return getattr(self.fun, "__name__", type(self.fun).__name__)

    def _key(self) -> tuple[Any, ...]:
        return self.what, self.fun, self.treedef, self.static

    def __eq__(self, other: object) -> bool:
        return type(other) is _Callback and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.what, self.fun, self.treedef))

    def __call__(self, xp: Any, buffers: Sequence[Any]) -> Any:
        """Call the function with copies, for memory of compiled programs is used again."""
        host = [np.array(b if xp is np else xp.asnumpy(b)) for b in buffers]
        leaves: list[Any] = [ArrayImpl(x) for x in host]
        for k, value in self.static:
            leaves.insert(k, value)
        args, kwargs = self.treedef.unflatten(leaves)
        with use_trace(eval_trace), no_source(), np.errstate(all="warn"):
            return self.fun(*args, **kwargs)

    def results(self, xp: Any, buffers: Sequence[Any], avals: Sequence[ShapedArray]) -> list[Any]:
        """Call the function and return its result as buffers of the types that were promised."""
        leaves = tree.leaves(self(xp, buffers))
        name = function_name(self.fun)
        if len(leaves) != len(avals):
            raise TypeError(
                f"{self.what}: {name} returned {len(leaves)} arrays, result_shape_dtypes has "
                f"{len(avals)}"
            )
        found = []
        for k, (leaf, aval) in enumerate(zip(leaves, avals, strict=True)):
            x = np.asarray(leaf)
            same_kind = x.dtype.kind == aval.dtype.kind and np.can_cast(
                x.dtype, aval.dtype, "same_kind"
            )
            if x.shape != aval.shape or not (x.dtype == aval.dtype or same_kind):
                raise TypeError(
                    f"{self.what}: {name} returned {ShapedArray(x.shape, x.dtype).str_short()} as "
                    f"leaf {k}, result_shape_dtypes says {aval.str_short()}: give what the "
                    "function returns, or convert it there"
                )
            found.append(xp.asarray(x, dtype=aval.dtype))
        return found


def _flat(what: str, fun: Any, args: tuple[Any, ...], kwargs: Any) -> tuple[_Callback, list[Any]]:
    """Return the callback and the leaves that are arrays."""
    check_callable(fun, what)
    leaves, treedef = tree.flatten((args, kwargs))
    dynamic, static = [], []
    for k, leaf in enumerate(leaves):
        if isinstance(leaf, (Array, np.ndarray, np.generic, bool, int, float, complex)):
            dynamic.append(leaf)
        else:
            static.append((k, leaf))
    return _Callback(what, fun, treedef, tuple(static)), as_arrays(dynamic, "argument", fun)


def _result_types(result_shape_dtypes: Any) -> tuple[tuple[ShapedArray, ...], Any]:
    leaves, treedef = tree.flatten(result_shape_dtypes)
    return tuple(spec_of(x).update(weak_type=False) for x in leaves), treedef


def _one_by_one(prim: Primitive, axis: Axis, args: Any, batched: Any, params: Any) -> Any:
    outs = map_lanes(lambda *xs: prim.bind(*xs, **params), args, batched, axis.size)
    return outs, [True] * len(outs)


# ------------------------------------------------------------------------------------------- pure
pure_callback_p = Primitive("pure_callback", multiple_results=True)

_NO_JVP = "use custom_jvp or custom_vjp to give the function that calls back its derivative"


def _no_derivative(what: str) -> Callable[..., Any]:
    def rule(*args: Any, callback: _Callback, **params: Any) -> Any:
        raise ValueError(
            f"{what} does not support differentiation (of {function_name(callback.fun)}, used at "
            f"{user_frame()}): {_NO_JVP}"
        )

    return rule


def _pure_eager(xp: Any, *buffers: Any, callback: _Callback, result_avals: Any, **_: Any) -> Any:
    return callback.results(xp, buffers, result_avals)


def _pure_batch(
    axis: Axis, args: Any, batched: Any, *, callback: _Callback, result_avals: Any, vmap_method: Any
) -> Any:
    params = {"callback": callback, "vmap_method": vmap_method}
    if vmap_method in ("sequential", "sequential_unrolled"):
        params["result_avals"] = result_avals
        return _one_by_one(pure_callback_p, axis, args, batched, params)
    if vmap_method is None:
        raise NotImplementedError(
            f"vmap of pure_callback of {function_name(callback.fun)} needs to know how to call it: "
            "pass pure_callback vmap_method='sequential' (once per lane), 'expand_dims' or "
            "'broadcast_all' (once, arrays with a leading axis), got vmap_method=None"
        )
    if vmap_method != "legacy_vectorized":
        size = axis.size if vmap_method == "broadcast_all" else 1
        args = [a if b else spread(a, size) for a, b in zip(args, batched, strict=True)]
    avals = tuple(a.update(shape=(axis.size, *a.shape)) for a in result_avals)
    outs = pure_callback_p.bind(*args, result_avals=avals, **params)
    return outs, [True] * len(outs)


pure_callback_p.type = lambda *avals, result_avals, **_: list(result_avals)
pure_callback_p.eager = _pure_eager
pure_callback_p.jvp = _no_derivative("pure_callback")
pure_callback_p.batch = _pure_batch
pure_callback_p.none["transpose"] = _NO_JVP

_METHODS = (
    "sequential",
    "sequential_unrolled",
    "expand_dims",
    "broadcast_all",
    "legacy_vectorized",
    None,
)


def pure_callback(
    callback: Callable[..., Any],
    result_shape_dtypes: Any,
    *args: Any,
    sharding: None = None,
    vmap_method: str | None = None,
    **kwargs: Any,
) -> Any:
    """Call a Python function without side effects, also from compiled programs.

    It may be called any number of times, or never where its result is not used.

    Args:
        callback: a function of Arrays that returns arrays.
        result_shape_dtypes: pytree of things with shape and dtype: what it returns.
        *args, **kwargs: its arguments, pytrees of arrays and of values that are handed on.
        sharding: for compatibility; None.
        vmap_method: how `vmap` calls it: 'sequential', once per lane; 'expand_dims', once, with
            a leading axis on every array, of size 1 where it is not mapped; 'broadcast_all', the
            same with all axes of full size; None: not at all.

    Returns:
        What it returns, as arrays of the types promised.

    Raises:
        TypeError: if it returns other types than promised.
        ValueError: for an unknown vmap_method, and when differentiated.
        NotImplementedError: by vmap, without a vmap_method.

    Example:
        >>> import funtorch as ft
        >>> import numpy as np
        >>> sin = lambda x: ft.pure_callback(np.sin, x, x)
        >>> float(ft.jit(sin)(0.0))
        0.0
    """
    if vmap_method not in _METHODS:
        raise ValueError(f"pure_callback: vmap_method must be one of {_METHODS}, got {vmap_method}")
    call, arrays = _flat("pure_callback", callback, args, kwargs)
    avals, out_tree = _result_types(result_shape_dtypes)
    outs = pure_callback_p.bind(*arrays, callback=call, result_avals=avals, vmap_method=vmap_method)
    return out_tree.unflatten(outs)


# --------------------------------------------------------------------------------------------- io
io_callback_p = Primitive("io_callback", multiple_results=True)
io_callback_p.effect = "io"


def _io_batch(axis: Axis, args: Any, batched: Any, *, ordered: bool, **params: Any) -> Any:
    if ordered:
        raise ValueError(
            "Cannot `vmap` ordered IO callback: lanes have no order. Pass io_callback "
            f"ordered=False to call {function_name(params['callback'].fun)} once per lane"
        )
    params["ordered"] = ordered
    return _one_by_one(io_callback_p, axis, args, batched, params)


io_callback_p.type = lambda *avals, result_avals, **_: list(result_avals)
io_callback_p.eager = _pure_eager
io_callback_p.jvp = _no_derivative("io_callback")
io_callback_p.batch = _io_batch
io_callback_p.none["transpose"] = _NO_JVP


def io_callback(
    callback: Callable[..., Any],
    result_shape_dtypes: Any,
    *args: Any,
    sharding: None = None,
    ordered: bool = False,
    **kwargs: Any,
) -> Any:
    """Call a Python function with side effects, also from compiled programs.

    It is called exactly as often as the program says, in its order.

    Args:
        callback: a function of Arrays that returns arrays.
        result_shape_dtypes: pytree of things with shape and dtype: what it returns; None for
            nothing.
        *args, **kwargs: its arguments, pytrees of arrays and of values that are handed on.
        sharding: for compatibility; None.
        ordered: whether the order of calls matters; then `vmap` is refused.

    Returns:
        What it returns, as arrays of the types promised.

    Example:
        >>> import funtorch as ft
        >>> seen = []
        >>> @ft.jit
        ... def f(x):
        ...     ft.experimental.io_callback(lambda v: seen.append(float(v)), None, x)
        ...     return x + 1
        >>> float(f(2.0)), seen
        (3.0, [2.0])
    """
    call, arrays = _flat("io_callback", callback, args, kwargs)
    avals, out_tree = _result_types(result_shape_dtypes)
    outs = io_callback_p.bind(*arrays, callback=call, result_avals=avals, ordered=bool(ordered))
    return out_tree.unflatten(outs)


# ------------------------------------------------------------------------------------------ debug
debug_callback_p = Primitive("debug_callback", multiple_results=True)
debug_callback_p.effect = "debug"


def _debug_eager(xp: Any, *buffers: Any, callback: _Callback) -> list[Any]:
    callback(xp, buffers)
    return []


def _debug_jvp(primals: Any, tangents: Any, **params: Any) -> tuple[list[Any], list[Any]]:
    return debug_callback_p.bind(*primals, **params), []


debug_callback_p.type = lambda *avals, callback: []
debug_callback_p.eager = _debug_eager
debug_callback_p.jvp = _debug_jvp
debug_callback_p.transpose = lambda cts, *args, callback: [None] * len(args)
debug_callback_p.batch = lambda axis, args, batched, **params: _one_by_one(
    debug_callback_p, axis, args, batched, params
)


def _two_calls(what: str, once: Callable[..., None], first: Any, args: Any, kwargs: Any) -> Any:
    """Call ``once``, or return it where the first of two calls gave options alone."""
    if first is not None:
        return once(first, *args, **kwargs)
    if args or kwargs:
        raise TypeError(
            f"{what} without a first argument takes options only and returns a function of the "
            f"rest, got {args} and {kwargs}"
        )
    return once


def debug_callback(
    callback: Callable[..., None] | None = None,
    *args: Any,
    ordered: bool = False,
    partitioned: bool = False,
    **kwargs: Any,
) -> Any:
    """Call a Python function for its side effect on values of a program, also a compiled one.

    Under `vmap` it is called once per lane, under `grad` once, with the values and not their
    derivatives. It changes no result.

    Args:
        callback: a function of Arrays whose result is not used. Without it, a function that
            takes it and its arguments is returned.
        *args, **kwargs: its arguments, pytrees of arrays and of values that are handed on.
        ordered, partitioned: for compatibility: calls are always in order and whole.

    Example:
        >>> import funtorch as ft
        >>> seen = []
        >>> y = ft.vmap(lambda x: ft.debug.callback(lambda v: seen.append(int(v)), x))(
        ...     ft.numpy.arange(3)
        ... )
        >>> seen
        [0, 1, 2]
    """

    def once(callback: Any, *args: Any, **kwargs: Any) -> None:
        call, arrays = _flat("debug.callback", callback, args, kwargs)
        debug_callback_p.bind(*arrays, callback=call)

    return _two_calls("debug.callback", once, callback, args, kwargs)


class _Checker(string.Formatter):
    """Checks that a format string uses each argument, without formatting it."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return ""

    def check_unused_args(self, used_args: Any, args: Any, kwargs: Any) -> None:
        places = [k for k in range(len(args)) if k not in used_args]
        names = [name for name in kwargs if name not in used_args]
        if places or names:
            unused = ", ".join([*(f"argument {k}" for k in places), *(f"{n}=" for n in names)])
            raise ValueError(
                f"debug.print: the format string has no place for {unused}. Write "
                'debug.print("x is {x}", x=x), without an f before the string: an f-string would '
                "be filled in while the function is traced"
            )


class _Print:
    """Prints or logs what a format string makes of values; equal ones are the same function."""

    __slots__ = ("fmt", "log", "options")

    def __init__(self, fmt: str, options: dict[str, Any], log: bool) -> None:
        self.fmt, self.options, self.log = fmt, options, log

    def __eq__(self, other: object) -> bool:
        return type(other) is _Print and (self.fmt, self.log) == (other.fmt, other.log)

    def __hash__(self) -> int:
        return hash((self.fmt, self.log))

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        has_places = any(name is not None for _, name, _, _ in string.Formatter().parse(self.fmt))
        with np.printoptions(**self.options):
            text = (
                self.fmt.format(*args, **kwargs)
                if has_places or not args
                else " ".join((self.fmt, *map(str, args)))
            )
        if self.log:
            import logging

            logging.getLogger("funtorch").info(text)
        else:
            sys.stdout.write(text + "\n")


def debug_print(
    fmt: str | None = None,
    *args: Any,
    ordered: bool = False,
    partitioned: bool = False,
    skip_format_check: bool = False,
    _use_logging: bool = False,
    **kwargs: Any,
) -> Any:
    """Print values of a program while it runs, also a compiled one.

    Args:
        fmt: a format string as of `str.format`, not an f-string. Without it, a function that
            takes it and its arguments is returned.
        *args, **kwargs: what is filled in.
        ordered, partitioned: for compatibility: prints are always in order and whole.
        skip_format_check: whether arguments may be unused.

    Raises:
        ValueError: if the format string has no place for an argument.

    Example:
        >>> import funtorch as ft
        >>> @ft.jit
        ... def f(x):
        ...     ft.debug.print("x = {x}, twice {}", 2 * x, x=x)
        ...     return x
        >>> y = f(3)
        x = 3, twice 6
    """

    def once(fmt: str, *args: Any, **kwargs: Any) -> None:
        if not isinstance(fmt, str):
            raise TypeError(f"debug.print takes a format string first, got {type(fmt).__name__}")
        if not skip_format_check:
            _Checker().format(fmt, *args, **kwargs)
        show = _Print(fmt, dict(np.get_printoptions()), _use_logging)
        call, arrays = _flat("debug.print", show, args, kwargs)
        debug_callback_p.bind(*arrays, callback=call)

    return _two_calls("debug.print", once, fmt, args, kwargs)


def debug_log(fmt: str | None = None, *args: Any, **kwargs: Any) -> Any:
    """Write values of a program to the logger 'funtorch'; arguments as of `debug.print`."""
    return debug_print(fmt, *args, _use_logging=True, **kwargs)


@self_bounded  # it looks at the frame of its caller
def debug_breakpoint(
    *,
    backend: str | None = None,
    filter_frames: bool = True,
    num_frames: int | None = None,
    ordered: bool = False,
    token: Any = None,
    **kwargs: Any,
) -> None:
    """Stop a program, also a compiled one, at a Python prompt where its local names have values.

    The arrays among the caller's local variables are names at the prompt. ``Ctrl-D`` goes on.

    Args:
        backend, filter_frames, num_frames, ordered, token: for compatibility.
        **kwargs: more names and their values.
    """
    frame = sys._getframe(1)
    found = {k: v for k, v in {**frame.f_locals, **kwargs}.items() if isinstance(v, Array)}
    where = str(user_frame())

    def stop(values: dict[str, Any]) -> None:
        import code

        names = ", ".join(values) or "no arrays"
        code.interact(f"breakpoint at {where}: {names}", local=dict(values), exitmsg="")

    debug_callback(stop, found)


def effects_barrier() -> None:
    """Wait until all callbacks have run: programs return after theirs, so there is none to wait."""
