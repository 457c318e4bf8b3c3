"""Vectorisation: the Batch interpreter and `vmap`. The batch axis is always in front inside."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from funtorch import arraytree as tree
from funtorch.core import Primitive, ShapedArray, Trace, Tracer, _state, current, source_of
from funtorch.errors import user_frame
from funtorch.ops.families import spread
from funtorch.ops.shape import transpose
from funtorch.origins import call_named, leaf_names
from funtorch.tracebacks import boundary

from .arguments import as_arrays, check_callable, function_name

__all__ = ["Axis", "Batch", "batch_flat", "vmap"]


class Axis(NamedTuple):
    """The axis being mapped: its size and, for collectives, its name."""

    size: int
    name: Hashable | None = None


class BatchTracer(Tracer):
    """A value with a batch axis in front that the user's function does not see."""

    __slots__ = ("val",)

    def __init__(self, trace: Batch, val: Any, source: Any) -> None:
        self.owner = trace
        self.val = val
        self.source = source

    @property
    def aval(self) -> ShapedArray:  # type: ignore[override]
        aval = self.val.aval
        return ShapedArray(aval.shape[1:], aval.dtype, aval.weak_type)


class Batch(Trace):
    """Apply every operation to a whole batch, by its batch rule."""

    __slots__ = ("axis",)

    def __init__(self, parent: Trace, axis: Axis, name: str = "") -> None:
        super().__init__(parent, name)
        self.axis = axis

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        vals, batched = [], []
        for a in args:
            mine = type(a) is BatchTracer and a.owner is self
            vals.append(a.val if mine else a)
            batched.append(mine)
        collective = self.axis.name is not None and params.get("axis_name") == self.axis.name
        saved, _state.trace = _state.trace, self.parent
        try:
            if not collective and True not in batched:
                return prim.bind(*vals, **params)
            out, out_batched = prim.rule("batch")(self.axis, vals, batched, **params)
        finally:
            _state.trace = saved
        source = source_of()
        if prim.multiple_results:
            return [
                BatchTracer(self, o, source) if b else o
                for o, b in zip(out, out_batched, strict=True)
            ]
        return BatchTracer(self, out, source) if out_batched else out

    def unwrap(self, x: Any) -> tuple[Any, bool]:
        """Return (value, whether it has the batch axis in front) of a value seen inside the
        trace."""
        if type(x) is BatchTracer and x.owner is self:
            return x.val, True
        return x, False


def batch_flat(
    f: Callable[..., Sequence[Any]],
    axis: Axis,
    args: Sequence[Any],
    batched: Sequence[bool],
    name: str = "",
) -> tuple[list[Any], list[bool]]:
    """Run ``f`` (flat arrays in, list of arrays out) over the leading axis of the batched
    arguments."""
    source = user_frame()
    trace = Batch(current(), axis, name)
    if axis.name is not None:
        _state.axes.append((axis.name, axis.size))
    try:
        with trace:
            ins = [
                BatchTracer(trace, a, source) if b else a
                for a, b in zip(args, batched, strict=True)
            ]
            pairs = [trace.unwrap(x) for x in f(*ins)]
    finally:
        if axis.name is not None:
            _state.axes.pop()
    return [x for x, _ in pairs], [b for _, b in pairs]


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
            None
            per subtree: the axis to map over, None for arguments that are the same in every call.
            Keyword arguments are mapped over axis 0.
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
        named = functools.partial(leaf_names, fun, args, kwargs)
        arrays = as_arrays(leaves, "argument", fun, named)
        axes = _in_axes(in_axes, args, kwargs, name)
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
            a, kw = tree.unflatten(treedef, flat_args)
            outs, out_tree = tree.flatten(call_named(fun, a, kw))
            store.append(out_tree)
            return as_arrays(outs, "output", fun)

        batched = [ax is not None for ax in axes]
        outs, out_batched = batch_flat(flat, Axis(size, axis_name), vals, batched, name)
        return _place_outputs(outs, out_batched, out_axes, store[0], size, name)

    return mapped


def _is_none(x: Any) -> bool:
    return x is None


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
