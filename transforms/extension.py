"""Primitives from outside the library: `primitive` makes one from its rules, and checks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch.core import LinearArg, Primitive, ShapedArray, aval_of
from funtorch.jaxpr import stage
from funtorch.ops.families import spread

from .arguments import as_arrays, function_name
from .batching import Axis
from .lanes import map_lanes
from .restage import expansion_rules

__all__ = ["Operation", "primitive"]

Rule = Callable[..., Any]


class Operation(Primitive):
    """A primitive made by `primitive`: call it with arrays and its parameters."""

    __slots__ = ()

    def __call__(self, *args: Any, **params: Any) -> Any:
        for key, value in params.items():
            try:
                hash(value)
            except TypeError:
                raise TypeError(
                    f"{self.name}: parameter {key} must be hashable, got {type(value).__name__}: "
                    "pass arrays by position, and tuples for lists"
                ) from None
        return self.bind(*as_arrays(args, "argument", self), **params)


def _tuple(out: Any, many: bool) -> Sequence[Any]:
    return tuple(out) if many else (out,)


def _same(prim: Primitive, slot: str, rule: Any, got: Sequence[Any], want: Sequence[Any]) -> None:
    """Raise the error for results of a rule whose types are not those expected."""
    if len(got) != len(want):
        raise TypeError(
            f"the {slot} rule of {prim.name}, {function_name(rule)}, must give {len(want)} "
            f"results, got {len(got)}"
        )
    for k, (g, w) in enumerate(zip(got, want, strict=True)):
        if g is not None and not g.same_type(w):
            raise TypeError(
                f"the {slot} rule of {prim.name}, {function_name(rule)}, must give "
                f"{w.str_short()} as result {k}, got {g.str_short()}"
            )


def _types(prim: Primitive, avals: Sequence[Any], params: dict[str, Any]) -> Sequence[ShapedArray]:
    return _tuple(prim.type(*avals, **params), prim.multiple_results)


def _checked_type(prim: Primitive, rule: Rule) -> Rule:
    def type_rule(*avals: Any, **params: Any) -> Any:
        found = rule(*avals, **params)
        out = [_as_type(prim, rule, a) for a in _tuple(found, prim.multiple_results)]
        return out if prim.multiple_results else out[0]

    return type_rule


def _as_type(prim: Primitive, rule: Rule, x: Any) -> ShapedArray:
    if isinstance(x, ShapedArray):
        return x
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return ShapedArray(tuple(x.shape), np.dtype(x.dtype))
    raise TypeError(
        f"the type rule of {prim.name}, {function_name(rule)}, must give what has a shape and a "
        f"dtype (a ShapeDtypeStruct), got {x!r:.60}"
    )


def _checked_eager(prim: Primitive, rule: Rule) -> Rule:
    many = prim.multiple_results

    def eager(xp: Any, *buffers: Any, **params: Any) -> Any:
        views = [_read_only(b) for b in buffers]
        out = _tuple(rule(xp, *views, **params), many)
        found = [xp.asarray(o) for o in out]
        avals = [ShapedArray(b.shape, b.dtype) for b in buffers]
        got = [ShapedArray(o.shape, o.dtype) for o in found]
        _same(prim, "eager", rule, got, _types(prim, avals, params))
        return found if many else found[0]

    return eager


def _read_only(x: Any) -> Any:
    """Return an array whose memory others own as one that cannot be written to."""
    if type(x) is np.ndarray:
        x = x.view()
        x.flags.writeable = False
    return x


def _checked_jvp(prim: Primitive, rule: Rule) -> Rule:
    many = prim.multiple_results

    def jvp(primals: Any, tangents: Any, **params: Any) -> Any:
        found = rule(primals, tangents, **params)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise TypeError(
                f"the jvp rule of {prim.name}, {function_name(rule)}, must give (results, their "
                f"tangents), got {type(found).__name__}"
            )
        want = _types(prim, [aval_of(p) for p in primals], params)
        outs, touts = (_tuple(part, many) for part in found)
        _same(prim, "jvp", rule, [aval_of(o) for o in outs], want)
        _same(prim, "jvp", rule, [t if t is None else aval_of(t) for t in touts], want)
        return found

    return jvp


def _checked_transpose(prim: Primitive, rule: Rule) -> Rule:
    def transpose(ct: Any, *args: Any, **params: Any) -> Any:
        found = list(rule(ct, *args, **params))
        got = [
            None if ct is None or type(a) is not LinearArg else aval_of(ct)
            for ct, a in zip(found, args, strict=False)
        ]
        _same(
            prim,
            "transpose",
            rule,
            [*got, *[None] * (len(found) - len(got))],
            [a.aval for a in args],
        )
        return found

    return transpose


def _checked_batch(prim: Primitive, rule: Rule) -> Rule:
    many = prim.multiple_results

    def batch(axis: Axis, args: Any, batched: Any, **params: Any) -> Any:
        out, flags = rule(axis, args, batched, **params)
        avals = [
            a.update(shape=a.shape[1:]) if b else a
            for a, b in zip(map(aval_of, args), batched, strict=True)
        ]
        want = [
            a.update(shape=(axis.size, *a.shape)) if f else a
            for a, f in zip(_types(prim, avals, params), _tuple(flags, many), strict=True)
        ]
        _same(prim, "batch", rule, [aval_of(o) for o in _tuple(out, many)], want)
        return out, flags

    return batch


def _batch_elementwise(prim: Primitive) -> Rule:
    def batch(axis: Axis, args: Any, batched: Any, **params: Any) -> Any:
        args = [a if b else spread(a, axis.size) for a, b in zip(args, batched, strict=True)]
        out = prim.bind(*args, **params)
        return out, [True] * len(out) if prim.multiple_results else True

    return batch


def _batch_by_loop(prim: Primitive) -> Rule:
    many = prim.multiple_results

    def batch(axis: Axis, args: Any, batched: Any, **params: Any) -> Any:
        def one(*xs: Any) -> Sequence[Any]:
            return _tuple(prim.bind(*xs, **params), many)

        outs = map_lanes(one, args, batched, axis.size)
        return (outs, [True] * len(outs)) if many else (outs[0], True)

    return batch


_BATCHES: dict[str, Callable[[Primitive], Rule]] = {
    "elementwise": _batch_elementwise,
    "loop": _batch_by_loop,
}
_CHECKED: dict[str, Callable[[Primitive, Rule], Rule]] = {
    "eager": _checked_eager,
    "jvp": _checked_jvp,
    "transpose": _checked_transpose,
    "batch": _checked_batch,
}


def primitive(
    name: str,
    *,
    type: Rule | None = None,
    eager: Rule | None = None,
    expand: Rule | None = None,
    jvp: Rule | None = None,
    transpose: Rule | None = None,
    linearize: Rule | None = None,
    batch: Rule | str | None = None,
    multiple_results: bool = False,
    effect: str | None = None,
) -> Operation:
    """Make a new primitive operation.

    It needs ``expand``, from which all its rules follow, or ``type`` and ``eager``; the other
    rules say how it is differentiated and batched where that is asked for.

    Args:
        name: its name, with that of its package and a dot before.
        type: ``type(*avals, **params)`` -> what has the shape and dtype of the result (a list
            with ``multiple_results``), or raises for arguments that do not fit.
        eager: ``eager(xp, *arrays, **params)`` -> the result, of read-only arrays of the module
            ``xp`` (numpy). Compiled programs call it, too, where there is no ``expand``.
        expand: ``expand(*args, **params)`` -> the result, by functions of the library. Compiled
            programs contain that.
        jvp: ``jvp(primals, tangents, **params)`` -> (result, tangent). Tangents that are zero are
            None, in and out.
        transpose: ``transpose(ct, *args, **params)`` -> a cotangent or None for each argument;
            those that the operation is linear in come as `LinearArg`, with an ``aval`` alone.
        linearize: ``linearize(primals, nonzero, **params)`` -> (result, a function of the nonzero
            tangents that gives the tangent).
        batch: ``batch(axis, args, batched, **params)`` -> (result, whether it is batched). What
            is batched has the axis, of ``axis.size``, in front. Or 'elementwise', for operations
            that treat leading axes alike, or 'loop', for a loop.
        multiple_results: whether results, tangents and cotangents are lists.
        effect: 'debug' or 'io' if it does more than give a result.

    Returns:
        The operation, to be called with arrays and, by keyword, hashable parameters.

    Raises:
        ValueError: if the name has no dot, or a rule is missing.

    Example:
        >>> import numpy as np
        >>> import funtorch as ft
        >>> twice = ft.extend.primitive(
        ...     "example.twice",
        ...     type=lambda x: x,
        ...     eager=lambda xp, x: x + x,
        ...     jvp=lambda primals, tangents: (twice(*primals), twice(*tangents)),
        ...     transpose=lambda ct, x: [twice(ct)],
        ...     batch="elementwise",
        ... )
        >>> float(ft.jit(ft.grad(lambda x: twice(x) ** 2))(3.0))
        24.0
    """
    if "." not in name:
        raise ValueError(
            f"primitive: the name {name!r} must begin with that of its package and a dot, such as "
            f"'mypackage.{name}': names without one are the library's own"
        )
    if expand is None and (type is None or eager is None):
        raise ValueError(f"primitive {name} needs expand, or both type and eager")
    if effect not in (None, "debug", "io"):
        raise ValueError(f"primitive {name}: effect must be None, 'debug' or 'io', got {effect!r}")
    prim = Operation(name, multiple_results=multiple_results)
    prim.nests, prim.effect, prim.expand = True, effect, expand
    if expand is not None:
        expansion_rules(prim)
        prim.type = _expanded_type(prim)
    if type is not None:
        prim.type = _checked_type(prim, type)
    if isinstance(batch, str):
        if batch not in _BATCHES:
            raise ValueError(
                f"primitive {name}: batch must be a function or one of {sorted(_BATCHES)}, got "
                f"{batch!r}"
            )
        batch = _BATCHES[batch](prim)
    rules = {"eager": eager, "jvp": jvp, "transpose": transpose, "batch": batch}
    if jvp is not None:
        prim.linearize = None  # that of the expansion would take its place
    for slot, rule in rules.items():
        if rule is not None:
            setattr(prim, slot, _CHECKED[slot](prim, rule))
    if linearize is not None:
        prim.linearize = linearize
    for slot in ("jvp", "transpose", "batch"):
        if getattr(prim, slot) is None:
            prim.none[slot] = f"pass {slot}= to funtorch.extend.primitive"
    return prim


def _expanded_type(prim: Primitive) -> Rule:
    many, expand = prim.multiple_results, prim.expand
    assert expand is not None

    def type_rule(*avals: Any, **params: Any) -> Any:
        outs = stage(lambda *xs: _tuple(expand(*xs, **params), many), avals).out_avals
        return outs if many else outs[0]

    return type_rule
