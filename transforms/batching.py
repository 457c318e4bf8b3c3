"""Vectorisation: the Batch interpreter and `vmap`. The batch axis is always in front inside."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple
from weakref import ref

import numpy as np

from funtorch import arraytree as tree
from funtorch.core import (
    Array,
    ArrayImpl,
    Primitive,
    ShapedArray,
    Trace,
    Tracer,
    _state,
    aval_of,
    current,
    known_values,
    source_of,
    truth,
    use_trace,
)
from funtorch.errors import user_frame
from funtorch.jaxpr import eval_jaxpr
from funtorch.numpy.promotion import asarray
from funtorch.ops.elementwise import bitwise_and, bitwise_not, ne
from funtorch.ops.families import full_like, spread
from funtorch.ops.reduce import reduce_or
from funtorch.ops.shape import reshape, transpose
from funtorch.origins import call_named, leaf_names
from funtorch.tracebacks import boundary

from .arguments import as_arrays, check_callable, function_name
from .explore import explore
from .partition import Group, NoLanesError, Part, merge, take, too_many_groups
from .paths import MOST_PATHS
from .references import Bridge, Crossing, bridged, holds_refs, taken_out, with_local_refs

__all__ = ["Axis", "Batch", "batch_flat", "vmap"]


class Axis(NamedTuple):
    """The axis being mapped: its size and, for collectives, its name.

    ``home``: the trace whose tracers the functions that are batched may close over.
    """

    size: int
    name: Hashable | None = None
    home: Any = None


class BatchTracer(Tracer):
    """A value with a batch axis in front that the user's function does not see.

    ``version``: how often lanes had been divided when it was made, or cut to those that are left.
    """

    __slots__ = ("val", "version")

    def __init__(self, trace: Batch, val: Any, source: Any, version: int = 0) -> None:
        self.owner = trace
        self.val = val
        self.source = source
        self.version = version

    @property
    def aval(self) -> ShapedArray:  # type: ignore[override]
        aval = self.val.aval
        return ShapedArray(aval.shape[1:], aval.dtype, aval.weak_type)

    def values(self) -> tuple[np.ndarray, int] | None:
        if type(self.val) is _Gone or not self.owner.alive:
            return None
        found = known_values(self.owner.present(self))  # type: ignore[attr-defined]
        return None if found is None else (found[0], found[1] + 1)


class _Gone(NamedTuple):
    """Stands for a value of the past that nobody will use."""

    aval: ShapedArray


class Batch(Trace):
    """Apply every operation to a whole batch, by its batch rule.

    Args:
        parent: where the rules run.
        axis: the axis that is mapped.
        name: the function's name.
        group: the lanes that the trace is for; all of them to begin with.

    ``home`` is the trace itself, or the one it continues: of a function with rules of its own,
    which may close over the tracers of both.
    """

    __slots__ = ("_past", "axis", "group", "home", "log", "others", "taken", "version", "whole")

    def __init__(
        self, parent: Trace, axis: Axis, name: Any = "", group: Group | None = None
    ) -> None:
        super().__init__(parent, name)
        self.home = self if axis.home is None else axis.home
        self.whole = self.axis = Axis(axis.size, axis.name)
        self.group = group = group or Group()
        self.others: list[Group] = []  # that this run is not for
        # What was done: the primitive, weak references to its results, what it may have told.
        self.log: list[tuple[Primitive, Any, dict[str, Any] | None]] = []
        self.taken = 0  # decisions
        self.version = len(group.cuts)
        self._past = list(reversed(group.past))
        if group.cuts:
            self.axis = Axis(len(group.since(0)), axis.name)

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        vals: list[Any] = []
        batched = []
        for a in args:
            mine = type(a) is BatchTracer and a.owner.home is self.home  # type: ignore[attr-defined]
            vals.append(a if mine and self._past else self.present(a) if mine else a)
            batched.append(mine)
        name = self.axis.name
        collective = name is not None and params.get("axis_name") == name
        closes = prim.closes and params.get("jaxpr") is None
        kept = collective or closes or True in batched or prim.effect is not None
        if kept and self._past:
            return self._again(prim, args, params)
        axis, version = self.axis, self.version
        if self.group.is_part and (collective or prim.name in _WHOLE or prim.effect in _ONCE):
            axis, version = self._of_part(prim, batched, collective)
        saved, _state.trace = _state.trace, self.parent
        try:
            if closes:
                axis = Axis(axis.size, axis.name, self.home)
            if not collective and not closes and True not in batched:
                out = prim.bind(*vals, **params)
                out_batched: Any = [False] * len(out) if prim.multiple_results else False
            else:
                out, out_batched = prim.rule("batch")(axis, vals, batched, **params)
        finally:
            _state.trace = saved
        source = source_of()
        if prim.multiple_results:
            out = [
                BatchTracer(self, o, source, version) if b else o
                for o, b in zip(out, out_batched, strict=True)
            ]
            if kept:
                self._note(prim, params, [*map(ref, out)])
            return out
        if out_batched:
            out = BatchTracer(self, out, source, version)
        if kept:
            self._note(prim, params, ref(out))
        return out

    def _note(self, prim: Primitive, params: dict[str, Any], left: Any) -> None:
        self.log.append((prim, left, params if prim.recall is not None else None))

    def present(self, x: BatchTracer) -> Any:
        """Return a tracer's value, cut to the lanes that are left."""
        if x.owner is not self:
            val = x.owner.present(x)  # type: ignore[attr-defined]
            with use_trace(self.parent):  # type: ignore[arg-type]
                return take(val, self.group.since(0)) if self.version else val
        if x.version != self.version:
            with use_trace(self.parent):  # type: ignore[arg-type]
                x.val = take(x.val, self.group.since(x.version))
            x.version = self.version
        return x.val

    def unwrap(self, x: Any) -> tuple[Any, bool]:
        """Return (value, whether it has the batch axis in front) of a value seen inside the
        trace."""
        if type(x) is BatchTracer and x.owner.home is self.home:  # type: ignore[attr-defined]
            return self.present(x), True
        return x, False

    # ------------------------------------------------------------------- decisions of lanes
    def decide(self, x: Any, soft: bool = False) -> bool | None:
        if soft:
            return self._is_somewhere(self._predicate(x), True)
        route = self.group.route
        if self.taken < len(route):
            outcome: bool | None = route[self.taken]
        elif not self.axis.size:
            raise NoLanesError
        else:
            lanes = self._predicate(x)
            known = lanes if isinstance(lanes, ArrayImpl) else lanes.concrete()
            if known is None or self.group.mask is not None:
                outcome = self._masked(lanes)
            else:
                outcome = self._divided(np.asarray(known))
            if outcome is None:
                return None
            route.append(outcome)
        self.taken += 1
        return outcome

    def _predicate(self, x: BatchTracer) -> Any:
        """Return the truth of each lane, a value of the parent."""
        val = self.present(x)
        with use_trace(self.parent):  # type: ignore[arg-type]
            if val.ndim > 1:
                val = reshape(val, shape=(self.axis.size,))
            return val if val.dtype == np.bool_ else ne(val, full_like(val, 0))

    def _is_somewhere(self, lanes: Any, outcome: bool) -> bool | None:
        return self._side(lanes, outcome)[1]

    def _side(self, lanes: Any, outcome: bool) -> tuple[Any, bool | None]:
        """Return which lanes of the group have an outcome, and whether any may have it."""
        with use_trace(self.parent):  # type: ignore[arg-type]
            side = lanes if outcome else bitwise_not(lanes)
            if self.group.mask is not None:
                side = bitwise_and(self.group.mask, side)
            return side, truth(reduce_or(side, axes=(0,)), soft=True)

    def _divided(self, lanes: np.ndarray) -> bool:
        """Go on with the lanes that decide like the first."""
        outcome = bool(lanes[0])
        if (lanes == outcome).all():
            return outcome
        kept, left = np.flatnonzero(lanes == outcome), np.flatnonzero(lanes != outcome)
        group, where = self.group, user_frame()
        self._leave([*group.cuts, left], not outcome, None, where)
        group.cuts.append(kept)
        group.where = where
        self.version += 1
        self.axis = Axis(len(kept), self.axis.name)
        return outcome

    def _masked(self, lanes: Any) -> bool | None:
        """Go on with the lanes for which the outcome is False, if there may be any."""
        sides = {outcome: self._side(lanes, outcome) for outcome in (False, True)}
        if any(some is None for _, some in sides.values()):
            return None
        possible = [outcome for outcome, (_, some) in sides.items() if some]
        if not possible:
            raise NoLanesError
        outcome = possible[0]
        if len(possible) == 2:
            where = user_frame()
            self._leave(self.group.cuts, not outcome, sides[not outcome][0], where)
            self.group.mask, self.group.where = sides[outcome][0], where
        return outcome

    def _leave(self, cuts: Sequence[Any], outcome: bool, mask: Any, where: Any) -> None:
        """Note lanes that decide otherwise: the function is to run again for them."""
        if len(self.others) >= MOST_PATHS and mask is not None:
            raise too_many_groups(self.name, where)
        past = [
            (prim, [*map(_remains, left)] if type(left) is list else _remains(left), told)
            for prim, left, told in self.log
        ]
        self.others.append(Group(cuts, [*self.group.route, outcome], past, mask, where))

    def _again(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Give an operation of the past the results that it had."""
        then, left, told = self._past.pop()
        if then is not prim:
            raise RuntimeError(
                f"vmap of {self.name} ran again for {self.group}, and did another operation than "
                f"before they parted ({prim.name} in the place of {then.name}), at "
                f"{user_frame()}. Functions that are transformed must be pure: what they do may "
                "depend on their arguments only"
            )
        if told is not None:
            prim.recall(told, params)  # type: ignore[misc]
        avals: Any = None
        if left is None or (type(left) is list and None in left):
            avals = prim.type(*[a.aval for a in args], **params)
        if not prim.multiple_results:
            out = self._revived(left, avals)
            self._note(prim, params, ref(out))
            return out
        out = [self._revived(x, None if x is not None else avals[k]) for k, x in enumerate(left)]
        self._note(prim, params, [*map(ref, out)])
        return out

    def _revived(self, left: Any, aval: ShapedArray | None) -> Any:
        if left is None:
            assert aval is not None
            gone = _Gone(aval.update(shape=(0, *aval.shape)))
            return BatchTracer(self, gone, source_of(), self.version)
        value, version = left
        return value if version is None else BatchTracer(self, value, source_of(), version)

    def _of_part(
        self, prim: Primitive, batched: Sequence[bool], collective: bool
    ) -> tuple[Axis, int]:
        """Return the axis, and the version of results, for what needs all the lanes."""
        if collective and True not in batched:
            return self.whole, 0
        if prim.name in _WHOLE and not _collects(self.parent):
            return self.axis, self.version
        if prim.effect in _ONCE and self.group.mask is None:
            return self.axis, self.version
        what, hint = _PARTED.get(prim.name, (prim.name, "call it before the lanes decide"))
        raise NotImplementedError(
            f"vmap of {self.name}: {what}, at {source_of()}, needs all lanes, but only "
            f"{self.group} came here: they parted at {self.group.where}. Use funtorch.numpy.where "
            f"or funtorch.lax.cond for that decision, or {hint}"
        )


_WHOLE = frozenset(("sow", "sown_tangent"))
_ONCE = frozenset(("io", "check"))  # effects that must be those of the right lanes
_PARTED = {
    "sow": ("what is sown", "reap inside of vmap"),
    "io_callback": ("io_callback under jit", "call vmap outside of jit"),
    "check": ("a check under jit", "call vmap outside of jit"),
}


def _collects(trace: Trace | None) -> bool:
    """Tell whether a trace around keeps what is sown."""
    while trace is not None:
        if trace.collects:
            return True
        trace = trace.parent
    return False


def _remains(left: ref[Any]) -> Any:
    """Return what a result is now: None if nobody has it any more."""
    x = left()
    if x is None:
        return None
    return (x.val, x.version) if type(x) is BatchTracer else (x, None)


def _group_of(trace: Trace) -> str:
    return str(trace.group) if isinstance(trace, Batch) else "others"


def batch_flat(
    f: Callable[..., Sequence[Any]],
    axis: Axis,
    args: Sequence[Any],
    batched: Sequence[bool],
    name: str = "",
) -> tuple[list[Any], list[bool]]:
    """Run ``f`` (flat arrays in, list of arrays out) over the leading axis of the batched
    arguments; once for each group of lanes, if they decide differently in Python."""
    source, parent = user_frame(), current()
    waiting, parts = [Group()], []
    while waiting:
        group = waiting.pop()
        trace = Batch(parent, axis, name, group)
        if axis.name is not None:
            _state.axes.append((axis.name, axis.size))
        try:
            with trace:
                ins = [
                    BatchTracer(trace, a, source) if b else a
                    for a, b in zip(args, batched, strict=True)
                ]
                pairs = [trace.unwrap(x) for x in f(*ins)]
            parts.append(Part(group, [x for x, _ in pairs], [b for _, b in pairs]))
        except NoLanesError:
            if not axis.size:
                return _without_lanes(f, axis, args, batched, trace.name)
            if not (waiting or parts or trace.others):
                raise
        except Exception as error:
            if group.cuts:
                error.add_note(f"in {group} of vmap of {trace.name or 'a function'}")
            raise
        finally:
            if axis.name is not None:
                _state.axes.pop()
        waiting.extend(trace.others)
        if len(parts) + len(waiting) > MOST_PATHS and group.mask is not None:
            raise too_many_groups(trace.name, group.where)  # type: ignore[arg-type]
    if not parts:
        raise NoLanesError
    if len(parts) == 1 and not parts[0].group.cuts:
        return parts[0].outs, parts[0].batched
    outs = merge(parts, axis.size, function_name(name) if callable(name) else name)
    return outs, [True] * len(outs)


def _without_lanes(
    f: Callable[..., Sequence[Any]],
    axis: Axis,
    args: Sequence[Any],
    batched: Sequence[bool],
    name: str,
) -> tuple[list[Any], list[bool]]:
    """Find out what results are like where no lane decides."""
    avals = [
        a.update(shape=a.shape[1:]) if b else a
        for a, b in zip(map(aval_of, args), batched, strict=True)
    ]
    jaxpr, _ = explore(lambda *xs: (f(*xs), None), avals, name)
    return batch_flat(lambda *xs: eval_jaxpr(jaxpr, *xs), axis, args, batched)


def move_axis(x: Any, source: int, destination: int) -> Any:
    """Return ``x`` with one axis moved, the others in order."""
    if source == destination:
        return x
    perm = [k for k in range(x.ndim) if k != source]
    perm.insert(destination, source)
    return transpose(x, perm=tuple(perm))


# --------------------------------------------------------------------------------------------- vmap
def vmap(
    fun: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Hashable | None = None,
    axis_size: int | None = None,
    spmd_axis_name: Any = None,
) -> Callable[..., Any]:
    """Map a function over an axis of its arguments.

    Args:
        fun: a function of arrays or pytrees of arrays.
        in_axes: an int, None, or a pytree prefix of the positional arguments' tuple with one int or
            None per subtree: the axis to map over, None for arguments that are the same in every
            call; these may be anything, strings or functions too. Keyword arguments are mapped
            over axis 0.
        out_axes: the same for the outputs: where the mapped axis goes. None is right only for
            outputs that do not depend on mapped arguments.
        axis_name: a name for the axis that collectives (`funtorch.lax.psum` ...) refer to.
        axis_size: the size of the axis; needed only where no argument is mapped.
        spmd_axis_name: for compatibility: a name of a mesh of devices, of which there is one.

    Returns:
        The mapped function.

    Raises:
        ValueError: if the mapped axes differ in size, an axis is out of range, or out_axes does not
            fit.

    Example:
        >>> import funtorch as ft
        >>> x = ft.numpy.arange(6.0).reshape(2, 3)
        >>> ft.vmap(lambda r: r.sum())(x)
        Array([ 3., 12.], dtype=float32)
    """
    check_callable(fun, "vmap")
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    name = function_name(fun)

    @boundary
    @functools.wraps(fun)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        leaves, treedef = tree.flatten((args, kwargs))
        if holds_refs(leaves):
            return with_refs(args, kwargs)
        named = functools.partial(leaf_names, fun, args, kwargs)
        axes = _in_axes(in_axes, args, kwargs, name)
        fixed = {k: x for k, x in enumerate(leaves) if axes[k] is None and not _is_array_like(x)}
        shown = [0 if k in fixed else x for k, x in enumerate(leaves)]
        arrays = as_arrays(shown, "argument", fun, named)
        axes = [
            _checked_axis(ax, x, (args, kwargs), k, fun)
            for k, (ax, x) in enumerate(zip(axes, arrays, strict=True))
        ]
        size = _size(axes, arrays, (args, kwargs), axis_size, fun)
        vals = [
            x if ax is None else move_axis(x, ax, 0) for x, ax in zip(arrays, axes, strict=True)
        ]
        store: list[Any] = []

        def flat(*flat_args: Any) -> list[Any]:
            given = [fixed.get(k, x) for k, x in enumerate(flat_args)] if fixed else flat_args
            a, kw = tree.unflatten(treedef, given)
            outs, out_tree = tree.flatten(call_named(fun, a, kw))
            store.append(out_tree)
            if out_tree != store[0]:
                raise TypeError(
                    f"vmap of {name}: all lanes must return the same structure, but some return "
                    f"{store[0]}, and {_group_of(current())} {out_tree}"
                )
            return as_arrays(outs, "output", fun)

        batched = [ax is not None for ax in axes]
        try:
            outs, out_batched = batch_flat(flat, Axis(size, axis_name), vals, batched, name)
        except Crossing as crossing:
            store.clear()
            again = functools.partial(
                _with_shared, flat, Axis(size, axis_name), vals, batched, name
            )
            outs, out_batched = bridged(again, crossing)
        return _place_outputs(outs, out_batched, out_axes, store[0], size, name)

    def with_refs(args: Any, kwargs: Any) -> Any:
        axes = _in_axes(in_axes, args, kwargs, name)
        (args, kwargs), refs = taken_out((args, kwargs), fun)
        on_arrays = vmap(
            with_local_refs(fun, list(refs)),
            in_axes,
            ([axes[k] for k in refs], out_axes),
            axis_name,
            axis_size,
        )
        held, result = on_arrays(*args, **kwargs)
        for ref_, value in zip(refs.values(), held, strict=True):
            ref_.replace(value)
        return result

    return mapped


def _with_shared(
    flat: Callable[..., list[Any]],
    axis: Axis,
    vals: Sequence[Any],
    batched: Sequence[bool],
    name: str,
    bridge: Bridge,
) -> tuple[list[Any], list[bool]]:
    """Map a function that closes over references, which all lanes share."""
    state = bridge.state()

    def whole(*args: Any) -> list[Any]:
        after, outs = bridge.run(state, flat, *args)
        return [*outs, *after]

    outs, out_batched = batch_flat(whole, axis, vals, batched, name)
    n = len(outs) - len(state)
    if any(out_batched[n:]):
        raise ValueError(
            f"vmap of {name}: its calls write different values into one Ref, which the function "
            "closes over: make the Ref an argument, with one entry for each call, or write what "
            "does not depend on mapped arguments"
        )
    bridge.write(outs[n:])
    return outs[:n], out_batched[:n]


def _is_none(x: Any) -> bool:
    return x is None


def _is_array_like(x: Any) -> bool:
    """Tell whether a leaf can be an array; others may be passed on where they are not mapped."""
    try:
        return isinstance(x, Array) or asarray(x) is not None
    except TypeError:
        return False


def _in_axes(
    in_axes: Any, args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> list[int | None]:
    if isinstance(in_axes, tuple) and len(in_axes) != len(args):
        raise ValueError(
            f"vmap of {name}: in_axes has {len(in_axes)} entries for {len(args)} positional "
            "arguments: give "
            "one entry per argument, or one int for all"
        )
    found = tree.broadcast_prefix(in_axes, args, what="in_axes", is_leaf=_is_none)
    for ax in found:
        if ax is not None and (not isinstance(ax, int) or isinstance(ax, bool)):
            raise TypeError(
                f"vmap of {name}: in_axes must hold ints and None, got {ax!r} of type "
                f"{type(ax).__name__}"
            )
    return [*found, *[0] * len(tree.leaves(kwargs))]


def _argument_name(tree_of_args: Any, k: int, fun: Any) -> str:
    """Return how leaf ``k`` is written: args[0]['x'], or kwargs['y'], and by its own name."""
    place, own = _place(tree_of_args, k), leaf_names(fun, *tree_of_args)[k]
    return place if own == place else f"{place} ({own})"


def _place(tree_of_args: Any, k: int) -> str:
    path, _ = tree.leaves_with_path(tree_of_args)[k]
    return ("args" if path[0].idx == 0 else "kwargs") + tree.keystr(path[1:])


def _checked_axis(ax: int | None, x: Any, tree_of_args: Any, k: int, fun: Any) -> int | None:
    if ax is None:
        return None
    name = function_name(fun)
    if not -x.ndim <= ax < x.ndim:
        raise ValueError(
            f"vmap of {name}: in_axes asks for axis {ax} of "
            f"{_argument_name(tree_of_args, k, fun)}, which has shape "
            f"{x.shape}: use an axis from {-x.ndim} to {x.ndim - 1}, or None not to map it"
            if x.ndim
            else f"vmap of {name}: in_axes asks for axis {ax} of "
            f"{_argument_name(tree_of_args, k, fun)}, which is a "
            "scalar: use None for it in in_axes"
        )
    return ax % x.ndim


def _size(
    axes: list[int | None], arrays: list[Any], tree_of_args: Any, axis_size: int | None, fun: Any
) -> int:
    name = function_name(fun)
    sizes = [None if ax is None else x.shape[ax] for ax, x in zip(axes, arrays, strict=True)]
    known = {n for n in sizes if n is not None} | ({axis_size} if axis_size is not None else set())
    if len(known) == 1:
        return known.pop()
    if not known:
        raise ValueError(
            f"vmap of {name}: no argument is mapped (all in_axes are None), so the size of the "
            "axis is not "
            "known: map an argument or pass axis_size"
        )
    majority = (
        Counter(n for n in sizes if n is not None).most_common(1)[0][0]
        if axis_size is None
        else axis_size
    )
    lines = [f"vmap of {name}: mapped axes must have one size, but"]
    agree = [k for k, n in enumerate(sizes) if n == majority]
    if axis_size is not None:
        lines.append(f"  axis_size={axis_size}")
    if agree:
        what = ", ".join(_argument_name(tree_of_args, k, fun) for k in agree[:4]) + (
            ", ..." if len(agree) > 4 else ""
        )
        lines.append(f"  {'most have' if len(agree) > 1 else 'one has'} size {majority}: {what}")
    for k, n in enumerate(sizes):
        if n is not None and n != majority:
            lines.append(
                f"  {_place(tree_of_args, k)} has shape {arrays[k].shape}, size {n} along "
                f"axis {axes[k]} ({leaf_names(fun, *tree_of_args)[k]})"
            )
    lines.append(
        "Give arrays of equal size along the mapped axes, or None in in_axes for those not to map."
    )
    raise ValueError("\n".join(lines))


def _place_outputs(
    outs: list[Any], batched: list[bool], out_axes: Any, out_tree: Any, size: int, name: str
) -> Any:
    result = tree.unflatten(out_tree, outs)
    axes = tree.broadcast_prefix(out_axes, result, what="out_axes", is_leaf=_is_none)
    placed = []
    for k, (x, b, ax) in enumerate(zip(outs, batched, axes, strict=True)):
        shape = x.shape[1:] if b else x.shape
        if ax is None:
            if b:
                raise ValueError(
                    f"vmap of {name}: out_axes is None for output {k}, of shape {shape} per call, "
                    "but it depends "
                    "on mapped arguments: give it an axis"
                )
            placed.append(x)
            continue
        if not isinstance(ax, int) or not -len(shape) - 1 <= ax <= len(shape):
            raise ValueError(
                f"vmap of {name}: out_axes asks for axis {ax} of output {k}, which has shape "
                f"{shape} per call "
                f"and so {len(shape) + 1} axes when mapped: use {-len(shape) - 1} to {len(shape)}"
            )
        full = x if b else spread(x, size)
        placed.append(move_axis(full, 0, ax % (len(shape) + 1)))
    return tree.unflatten(out_tree, placed)
