"""Functions with batching rules of their own: `custom_vmap` and `sequential_vmap`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from funtorch import arraytree as tree
from funtorch.core import LinearArg, Primitive, current, eval_trace
from funtorch.jaxpr import Jaxpr, eval_jaxpr
from funtorch.ops.families import spread, zeros

from .arguments import as_arrays, check_callable, function_name
from .batching import Axis
from .forward import is_differentiable, jvp
from .lanes import map_lanes
from .restage import call_rules, jvp_program, linearize_program, transpose_program
from .rules import WithRules
from .staging import stage_tree

__all__ = ["custom_vmap", "sequential_vmap"]

Rule = Callable[..., Any]

custom_vmap_p = Primitive("custom_vmap_call", multiple_results=True)
call_rules(custom_vmap_p)


def _flat_rule(rule: Rule, fun: Any, in_tree: Any, out_tree: Any) -> Rule:
    """Return a rule of flat arrays: (size, batched, arrays) -> (outputs, which are batched)."""
    name = function_name(rule)

    def flat(
        size: int, batched: Sequence[bool], args: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        found = rule(size, list(in_tree.unflatten(list(batched))), *in_tree.unflatten(args))
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise TypeError(
                f"the vmap rule {name} of {function_name(fun)} must return (output, which parts "
                f"are batched), got {type(found).__name__}"
            )
        outs, structure = tree.flatten(found[0])
        flags, flag_structure = tree.flatten(found[1])
        if structure != flag_structure:
            raise ValueError(
                "structure of output value and output batching specification returned by custom "
                f"vmap rule ({name}) do not match. Output values: {structure}, batching spec: "
                f"{flag_structure}"
            )
        if structure != out_tree:
            raise ValueError(
                f"structure of output returned by custom vmap rule ({name}) does not match that of "
                f"original custom-vmapped function. Original output: {out_tree}, rule output: "
                f"{structure}"
            )
        return as_arrays(outs, "output", rule), [bool(f) for f in flags]

    flat.__wrapped__ = rule  # type: ignore[attr-defined]
    return flat


def _batch(
    axis: Axis, args: Any, batched: Any, *, jaxpr: Jaxpr, rule: Rule, consts: int
) -> tuple[list[Any], list[bool]]:
    if any(batched[:consts]):
        raise ValueError(
            f"the custom vmap rule {function_name(rule)} cannot know a mapped value that its "
            "function closes over: pass the value as an argument"
        )
    outs, flags = rule(axis.size, batched[consts:], args[consts:])
    for k, (o, f, aval) in enumerate(zip(outs, flags, jaxpr.out_avals, strict=True)):
        wanted = (axis.size, *aval.shape) if f else aval.shape
        if o.shape != wanted or o.dtype != aval.dtype:
            raise ValueError(
                f"the custom vmap rule {function_name(rule)} gave output {k} as "
                f"{o.aval.str_short()}; it must be "
                f"{aval.update(shape=wanted).str_short()}"
            )
    return outs, flags


def _jvp_rule(rule: Rule, nonzero: Sequence[bool], note: Sequence[bool]) -> Rule:
    """Return the rule for primals and nonzero tangents: the derivative of the rule for primals.

    A primal and its tangent are batched together.
    """

    def pushed(size: int, batched: Sequence[bool], args: Sequence[Any]) -> Any:
        n = len(nonzero)
        given = iter(zip(args[n:], batched[n:], strict=True))
        primals, tangents, flags = [], [], []
        for x, b, nz in zip(args[:n], batched[:n], nonzero, strict=True):
            t, bt = next(given) if nz else (zeros(x.aval.tangent()), b)
            flags.append(b or bt)
            primals.append(spread(x, size) if bt and not b else x)
            tangents.append(spread(t, size) if b and not bt else t)
        out_flags: list[bool] = []
        moving = [k for k, x in enumerate(primals) if is_differentiable(x.dtype)]

        def on_moving(*xs: Any) -> Any:
            full = list(primals)
            for k, x in zip(moving, xs, strict=True):
                full[k] = x
            outs, found = rule(size, flags, full)
            out_flags[:] = found
            return outs

        outs, touts = jvp(on_moving, [primals[k] for k in moving], [tangents[k] for k in moving])
        kept = [(t, f) for t, f, a in zip(touts, out_flags, note, strict=True) if a]
        return [*outs, *[t for t, _ in kept]], [*out_flags, *[f for _, f in kept]]

    pushed.__wrapped__ = rule  # type: ignore[attr-defined]
    return pushed


def _jvp(primals: Any, tangents: Any, *, jaxpr: Jaxpr, rule: Rule, consts: int) -> Any:
    if any(t is not None for t in tangents[:consts]):
        return _inlined_jvp(primals, tangents, jaxpr)
    nonzero = tuple(t is not None for t in tangents)
    program = jvp_program(jaxpr, nonzero)
    more = len(program.consts)
    results = custom_vmap_p.bind(
        *program.consts,
        *primals,
        *[t for t in tangents if t is not None],
        jaxpr=program.jaxpr,
        rule=_jvp_rule(rule, nonzero[consts:], program.note),
        consts=more + consts,
    )
    n = len(jaxpr.outvars)
    touts = iter(results[n:])
    return results[:n], [next(touts) if a else None for a in program.note]


def _inlined_jvp(primals: Any, tangents: Any, jaxpr: Jaxpr) -> Any:
    nonzero = tuple(t is not None for t in tangents)
    program = jvp_program(jaxpr, nonzero)
    given = [t for t in tangents if t is not None]
    results = eval_jaxpr(program.jaxpr, *program.consts, *primals, *given)
    n = len(jaxpr.outvars)
    touts = iter(results[n:])
    return results[:n], [next(touts) if a else None for a in program.note]


def _linearize(
    primals: Any, nonzero: tuple[bool, ...], *, jaxpr: Jaxpr, rule: Rule, consts: int
) -> tuple[list[Any], Any]:
    """The value keeps its rule; the derivative is the function's own, batched as any other."""
    outs = custom_vmap_p.bind(*primals, jaxpr=jaxpr, rule=rule, consts=consts)
    forward, linear_jaxpr, active = linearize_program(jaxpr, nonzero)
    residuals = eval_jaxpr(forward.jaxpr, *forward.consts, *primals)[len(outs) :]

    def linear(*tangents: Any) -> list[Any]:
        touts = iter(eval_jaxpr(linear_jaxpr, *residuals, *tangents))
        return [next(touts) if a else None for a in active]

    return outs, linear


def _transpose(cts: Any, *args: Any, jaxpr: Jaxpr, rule: Rule, consts: int) -> list[Any]:
    is_linear = tuple(type(a) is LinearArg for a in args)
    program = transpose_program(jaxpr, is_linear, tuple(ct is not None for ct in cts))
    known = [a for a, lin in zip(args, is_linear, strict=True) if not lin]
    given = [ct for ct in cts if ct is not None]
    found = iter(eval_jaxpr(program.jaxpr, *program.consts, *known, *given))
    note = iter(program.note)
    return [next(found) if lin and next(note) else None for lin in is_linear]


custom_vmap_p.batch, custom_vmap_p.jvp = _batch, _jvp
custom_vmap_p.linearize, custom_vmap_p.transpose = _linearize, _transpose


class custom_vmap(WithRules):
    """Give a function its own rule for `vmap`.

    Args:
        fun: a function of arrays or pytrees of arrays. What it closes over cannot be mapped.

    Example:
        >>> import funtorch as ft
        >>> @ft.custom_batching.custom_vmap
        ... def f(x, y):
        ...     return x + y
        >>> @f.def_vmap
        ... def f_vmap(axis_size, in_batched, xs, ys):
        ...     return xs * ys, True
        >>> ft.vmap(f)(ft.numpy.arange(3), ft.numpy.arange(1, 4))
        Array([0, 2, 6], dtype=int32)

    The derivative in forward mode has the derivative of the rule as its rule; in reverse mode it
    is the function's own, batched as any other.
    """

    def __init__(self, fun: Callable[..., Any]) -> None:
        super().__init__(fun, "custom_vmap")
        self.vmap_rule: Rule | None = None

    def def_vmap(self, vmap_rule: Rule) -> Rule:
        """Set the rule; usable as a decorator.

        Args:
            vmap_rule: ``vmap_rule(axis_size, in_batched, *args) -> (out, out_batched)``.
                ``in_batched`` is a list like args with a bool per array; arrays that are batched
                have the axis in front. ``out_batched`` has a bool for each array of ``out``.
        """
        check_callable(vmap_rule, "def_vmap")
        self.vmap_rule = vmap_rule
        return vmap_rule

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.vmap_rule is None:
            raise AttributeError(
                f"No batching rule defined for custom_vmap function {function_name(self.fun)} "
                "using def_vmap."
            )
        if current() is eval_trace:
            leaves, treedef = tree.flatten((args, kwargs))
            given, named = treedef.unflatten(as_arrays(leaves, "argument", self.fun))
            outs, out_tree = tree.flatten(self.fun(*given, **named))
            return out_tree.unflatten(as_arrays(outs, "output", self.fun))
        if kwargs:
            bound = inspect.signature(self.fun).bind(*args, **kwargs)
            bound.apply_defaults()
            if bound.kwargs:
                raise TypeError(
                    f"custom_vmap of {function_name(self.fun)}: keyword-only arguments "
                    f"{sorted(bound.kwargs)} cannot be passed on to the rule, which takes "
                    "arguments by position"
                )
            args = bound.args
        leaves, in_tree = tree.flatten(args)
        arrays = as_arrays(leaves, "argument", self.fun)
        jaxpr, out_tree = stage_tree(self.fun, tree.structure((args, {})), [a.aval for a in arrays])
        rule = _flat_rule(self.vmap_rule, self.fun, in_tree, out_tree)
        outs = custom_vmap_p.bind(
            *jaxpr.consts, *arrays, jaxpr=jaxpr.hoisted(), rule=rule, consts=len(jaxpr.consts)
        )
        return out_tree.unflatten(outs)


def sequential_vmap(f: Callable[..., Any]) -> custom_vmap:
    """Make `vmap` of a function a loop, for what cannot do with a batch.

    Args:
        f: a function of arrays or pytrees of arrays.

    Returns:
        A `custom_vmap` whose rule is `funtorch.lax.map`.

    Example:
        >>> import funtorch as ft
        >>> @ft.custom_batching.sequential_vmap
        ... def f(x):
        ...     ft.debug.print("{}", x)
        ...     return x + 1
        >>> ft.vmap(f)(ft.numpy.arange(2))
        0
        1
        Array([1, 2], dtype=int32)
    """
    looped = custom_vmap(f)

    @looped.def_vmap
    def rule(axis_size: int, in_batched: list[Any], *args: Any) -> Any:
        leaves, treedef = tree.flatten(args)
        store: list[Any] = []

        def one(*xs: Any) -> list[Any]:
            outs, out_tree = tree.flatten(looped(*treedef.unflatten(xs)))
            store.append(out_tree)
            return as_arrays(outs, "output", f)

        outs = map_lanes(one, leaves, tree.leaves(in_batched), axis_size)
        return store[-1].unflatten(outs), store[-1].unflatten([True] * len(outs))

    return looped
