"""References to arrays, and how they get into functions that are transformed on their own.

A reference is a name for the array that it holds now: writing replaces that. Transforms take
functions of arrays, so where one's function uses a reference of an outer function, the transform
starts again with a function that takes what the reference holds and returns what it is to hold
afterwards. Programs stay free of effects, and every transform of them holds.

A reference that is only read is lent as a constant. One that is written is part of the `Bridge`'s
state: an argument and a result of a jitted function, carried by a loop, auxiliary to a derivative.

References:
    JAX, "Stateful computations" and jax.ref.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from funtorch import arraytree as tree
from funtorch.core import Eval, ShapedArray, Trace, _state, current, eval_trace, use_trace
from funtorch.errors import function_name
from funtorch.numpy.creation import broadcast_to
from funtorch.numpy.promotion import asarray, convert

__all__ = [
    "AbstractRef",
    "Bridge",
    "Crossing",
    "Ref",
    "Stateful",
    "apart",
    "beside",
    "bridged",
    "holds_refs",
    "new_ref",
    "taken_out",
    "unique_refs",
    "with_local_refs",
    "without_refs",
]


def _level_of(trace: Trace) -> Trace:
    """Return the trace; all that compute at once count as one."""
    return eval_trace if isinstance(trace, Eval) else trace


def _level() -> Trace:
    return _level_of(current())


class Crossing(NotImplementedError):
    """A reference is used in a function that is transformed on its own, of which ``trace`` is the
    trace; transforms that can bridge this catch it."""

    def __init__(self, trace: Trace) -> None:
        name = current().name or "a transformed function"
        super().__init__(
            f"a Ref made outside of {name} is used inside, where references cannot be followed: "
            "by jit, vmap, derivatives, checkpoint, loops and branches they can, but not by other "
            "transforms, in rules of custom derivatives that run inside of a loop, or after the "
            "function that made them has ended. Pass in ref[...], and return the new value"
        )
        self.trace = trace


# -------------------------------------------------------------------------------------- references
class AbstractRef:
    """The type of a mutable reference.

    Args:
        inner_aval: the type of the array that it holds.
    """

    __slots__ = ("inner_aval",)

    def __init__(self, inner_aval: ShapedArray) -> None:
        self.inner_aval = inner_aval

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner_aval.shape

    @property
    def dtype(self) -> Any:
        return self.inner_aval.dtype

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AbstractRef) and self.inner_aval == other.inner_aval

    def __hash__(self) -> int:
        return hash((AbstractRef, self.inner_aval))

    def __repr__(self) -> str:
        return f"Ref{{{self.inner_aval.str_short()}}}"


class Ref:
    """A mutable reference; make one with `new_ref`.

    Example:
        >>> import funtorch as ft
        >>> count = ft.new_ref(ft.numpy.zeros(2))
        >>> @ft.jit
        ... def step(x):
        ...     count[0] += x
        >>> step(1.0), step(2.0)
        (None, None)
        >>> count
        Ref([3., 0.], dtype=float32)
    """

    __slots__ = ("__weakref__", "_lent", "_trace", "_value")
    __hash__ = object.__hash__
    _value: Any

    def __init__(self, value: Any) -> None:
        self._trace = _level()
        self._value = value
        self._lent = 0

    @property
    def aval(self) -> ShapedArray:
        """The type of the array."""
        if self._value is None:
            raise _ended()
        return self._value.aval

    @property
    def abstract_value(self) -> AbstractRef:
        """What `typeof` gives."""
        return AbstractRef(self.aval)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> Any:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def size(self) -> int:
        return self.aval.size

    def __len__(self) -> int:
        return len(self._value)

    def __getitem__(self, idx: Any) -> Any:
        value = self.held()
        return value if idx is Ellipsis else value[idx]

    def __setitem__(self, idx: Any, value: Any) -> None:
        held = self.held()
        value = convert(asarray(value), held.dtype)
        if idx is Ellipsis:
            self._value = value if value.shape == held.shape else broadcast_to(value, held.shape)
        else:
            self._value = held.at[idx].set(value)

    def get(self) -> Any:
        """Return the whole array."""
        return self[...]

    def set(self, value: Any) -> None:
        """Replace the whole array."""
        self[...] = value

    def addupdate(self, value: Any, idx: Any = ...) -> None:
        """Add to the array, or to a part of it; places that an index array names several times get
        each."""
        held = self.held()
        self._value = held.at[idx].add(convert(asarray(value), held.dtype))

    def held(self) -> Any:
        """Return the array.

        Raises:
            ValueError: if the reference was frozen or freed.
            NotImplementedError: if a transform in between does not know references.
        """
        if self._value is None:
            raise _ended()
        trace = _level()
        if trace is not self._trace:
            _lend(self, trace)
        return self._value

    def replace(self, value: Any) -> None:
        """Hold another array, of the same type."""
        self.held()
        self._value = value

    def end(self) -> None:
        """Let nobody use it any more."""
        self.held()
        if self._lent:
            raise ValueError(
                "a Ref is frozen or freed by the function that made it, not by one that it was "
                "passed to or is used in: return nothing, and freeze it outside"
            )
        self._value = None

    def __repr__(self) -> str:
        if self._value is None:
            return "Ref(freed)"
        return f"Ref({repr(self._value).removeprefix('Array(').removesuffix(')')})"


def _ended() -> ValueError:
    return ValueError("this Ref was frozen or freed: make a new one with new_ref")


def new_ref(init_val: Any, *, memory_space: Any = None, kind: str | None = None) -> Ref:
    """Make a reference that holds an array.

    Args:
        init_val: array or number.
        memory_space, kind: accepted for compatibility.

    Example:
        >>> r = new_ref(1.0)
        >>> r[...] += 2.0
        >>> r
        Ref(3., dtype=float32)
    """
    if isinstance(init_val, Ref):
        raise TypeError("new_ref takes an array, not a Ref: there are no references to references")
    value = asarray(init_val)
    return Ref(convert(value, value.dtype))


# ----------------------------------------------------------------------------------------- bridges
class _Frame:
    """One run of a function: the trace that it runs in, and what was lent to it."""

    __slots__ = ("outer", "saved", "trace")

    def __init__(self, outer: Trace) -> None:
        self.outer = outer
        self.trace = _level()
        self.saved: dict[Ref, tuple[Trace, Any, Any]] = {}

    def lend(self, ref: Ref, value: Any) -> None:
        self.saved[ref] = (ref._trace, ref._value, value)
        ref._trace, ref._value = self.trace, value
        ref._lent += 1

    def end(self) -> None:
        for ref, (trace, value, _) in self.saved.items():
            ref._trace, ref._value = trace, value
            ref._lent -= 1


class _Frames(threading.local):
    def __init__(self) -> None:
        self.stack: list[_Frame] = []


_frames = _Frames()


def _lend(ref: Ref, trace: Trace) -> None:
    """Make what a reference holds known to the function that runs in ``trace``."""
    frames = _frames.stack
    if not frames or frames[-1].trace is not trace:
        raise Crossing(trace)
    frame = frames.pop()
    try:
        with use_trace(frame.outer):
            value = ref.held()
    finally:
        frames.append(frame)
    frame.lend(ref, value)


class _Used(Exception):
    """A function used references that its bridge did not know."""

    def __init__(self, bridge: Bridge, refs: Sequence[Ref]) -> None:
        super().__init__()
        self.bridge, self.refs = bridge, refs


class Bridge:
    """What a transform's function has to do with references of outer functions.

    Args:
        refs: those known to be part of its state.
        constants: whether references that are only read may be constants.
    """

    __slots__ = ("constants", "outer", "refs")

    def __init__(self, refs: Sequence[Ref] = (), constants: bool = True) -> None:
        self.refs, self.constants = list(refs), constants
        self.outer = current()

    def state(self) -> tuple[Any, ...]:
        """Return what the references hold outside."""
        return tuple([ref.held() for ref in self.refs])

    def run(self, state: Sequence[Any], fun: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        """Call ``fun`` with the references holding ``state``; return what they hold in the end, and
        its result."""
        frame = _Frame(self.outer)
        for ref, value in zip(self.refs, state, strict=True):
            frame.lend(ref, value)
        _frames.stack.append(frame)
        try:
            result = fun(*args, **kw)
            used = [
                ref
                for ref, (_, _, given) in frame.saved.items()
                if ref not in self.refs and (ref._value is not given or not self.constants)
            ]
            if used:
                raise _Used(self, used)
            return tuple([ref._value for ref in self.refs]), result
        finally:
            _frames.stack.pop()
            frame.end()

    def write(self, state: Sequence[Any]) -> None:
        """Let the references hold ``state``."""
        for ref, value in zip(self.refs, state, strict=True):
            ref.replace(value)


def bridged(
    attempt: Callable[[Bridge], Any], crossing: Crossing | None = None, bridge: Bridge | None = None
) -> Any:
    """Return ``attempt(bridge)``, with a bridge that knows all references that are written.

    Args:
        attempt: what calls the function through a bridge.
        crossing: the error that asked for it. It is raised again if a reference is not known
            outside either: then another transform, further out, has to bridge that first.
        bridge: the first bridge.
    """
    if crossing is not None and crossing.trace in map(_level_of, (*_state.stack, _state.trace)):
        raise crossing
    bridge = bridge or Bridge()
    while True:
        try:
            return attempt(bridge)
        except _Used as found:
            if found.bridge is not bridge:
                raise
            bridge.refs.extend(found.refs)
        except Exception as error:
            if error.__context__ is crossing:  # which is no part of what went wrong
                error.__context__ = None
            raise


Derived = tuple[list[Any], list[Any]]


def beside(
    bridge: Bridge,
    f: Callable[..., Sequence[Any]],
    run: Callable[[Callable[..., Sequence[Any]]], Derived],
    name: Any,
) -> Derived:
    """Run ``f``, of flat arrays, under a derivative: ``run`` gives results and their tangents. What
    references hold is beside that."""
    state = bridge.state()

    def whole(*args: Any) -> list[Any]:
        after, outs = bridge.run(state, f, *args)
        return [*outs, *after]

    outs, tangents = run(whole)
    n = len(outs) - len(state)
    if any(t is not None for t in tangents[n:]):
        what = name if isinstance(name, str) else function_name(name)
        raise ValueError(
            f"{what} is differentiated, and writes what depends on its differentiated arguments "
            "into a Ref made outside, where its derivative would be lost: write "
            "stop_gradient(value), or return the value"
        )
    bridge.write(outs[n:])
    return outs[:n], tangents[:n]


# --------------------------------------------------------------------------------------- arguments
def with_local_refs(fun: Callable[..., Any], where: Sequence[int]) -> Callable[..., Any]:
    """Return ``fun`` as a function that takes arrays for references, which are the leaves ``where``
    of its arguments, and returns what they hold in the end beside its result."""

    @functools.wraps(fun)
    def pure(*args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        leaves, treedef = tree.flatten((args, kwargs))
        local = {k: Ref(asarray(leaves[k])) for k in where}
        args, kwargs = tree.unflatten(treedef, [local.get(k, x) for k, x in enumerate(leaves)])
        result = fun(*args, **kwargs)
        return [ref.held() for ref in local.values()], result

    return pure


def apart(
    leaves: Sequence[Any], kinds: tuple[type, ...] = (Ref,)
) -> tuple[list[Any], Callable[[Sequence[Any]], list[Any]]]:
    """Take references, or items of other types, out of a list.

    Returns:
        the other items, and a function that puts what was taken out between such.
    """
    taken = {k: x for k, x in enumerate(leaves) if type(x) in kinds}
    n = len(leaves)

    def whole(others: Sequence[Any]) -> list[Any]:
        rest = iter(others)
        return [taken[k] if k in taken else next(rest) for k in range(n)]

    return [x for k, x in enumerate(leaves) if k not in taken], whole


def taken_out(args: Any, fun: Any) -> tuple[Any, dict[int, Ref]]:
    """Return arguments with arrays in the place of references, and those by the leaf they are.

    Raises:
        ValueError: if one is there twice.
    """
    leaves, treedef = tree.flatten(args)
    refs = {k: x for k, x in enumerate(leaves) if type(x) is Ref}
    unique_refs(list(refs.values()), fun)
    return tree.unflatten(
        treedef, [x.held() if k in refs else x for k, x in enumerate(leaves)]
    ), refs


def holds_refs(leaves: Sequence[Any]) -> bool:
    return any(type(x) is Ref for x in leaves)


def without_refs(args: Any, fun: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Take references out of arguments.

    Returns:
        the arguments with None in their places, and a function that puts them back.

    Raises:
        ValueError: if one is there twice.
    """
    leaves, treedef = tree.flatten(args)
    unique_refs([x for x in leaves if type(x) is Ref], fun)
    _, whole = apart(leaves)
    others = tree.unflatten(treedef, [None if type(x) is Ref else x for x in leaves])
    return others, lambda now: tree.unflatten(treedef, whole(tree.leaves(now)))


def unique_refs(refs: Sequence[Ref], fun: Any) -> None:
    if len({*refs}) != len(refs):
        raise ValueError(
            f"{function_name(fun)} is given the same Ref twice: what it writes by one name would "
            "change what another name holds. Pass it once"
        )


# ---------------------------------------------------------------------------------------- programs
class Stateful:
    """Calls of a function whose programs are kept: what references hold is among their arguments
    and results.

    Args:
        fun: the function.
        keeping: makes a function that keeps its programs, by the types of its arguments and the
            value of ``_where``.
    """

    def __init__(
        self, fun: Callable[..., Any], keeping: Callable[[Callable[..., Any]], Callable[..., Any]]
    ) -> None:
        self.fun = fun
        self.refs: list[Ref] = []  # those of outer functions that are known to be used
        bridges = self._bridges = [Bridge()]

        @functools.wraps(fun)
        def pure(*args: Any, _state: Any, _where: tuple[int, ...], **kwargs: Any) -> Any:
            return bridges[-1].run(_state, with_local_refs(fun, _where), *args, **kwargs)

        self.pure = keeping(pure)

    def call(self, args: Any, kwargs: Any, crossing: Crossing | None) -> Any:
        (args, kwargs), refs = taken_out((args, kwargs), self.fun)
        more = {"_where": tuple(refs)}

        def attempt(bridge: Bridge) -> Any:
            unique_refs([*refs.values(), *bridge.refs], self.fun)
            self.refs = bridge.refs
            self._bridges.append(bridge)
            try:
                after, (held, out) = self.pure(*args, **kwargs, **more, _state=bridge.state())
            finally:
                self._bridges.pop()
            bridge.write(after)
            for ref, value in zip(refs.values(), held, strict=True):
                ref.replace(value)
            return out

        return bridged(attempt, crossing, Bridge(self.refs, constants=False))
