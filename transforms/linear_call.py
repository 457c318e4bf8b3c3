"""`linear_call`: linear functions with transposes of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funtorch import arraytree as tree
from funtorch.core import LinearArg, Primitive, ShapedArray, aval_of
from funtorch.jaxpr import Jaxpr, eval_jaxpr, stage
from funtorch.ops.elementwise import add
from funtorch.ops.families import spread, zeros
from funtorch.tracebacks import boundary

from .arguments import as_arrays, check_callable, function_name
from .batching import Axis
from .forward import jvp_flat
from .restage import batch_program, run_program, split
from .staging import stage_tree

__all__ = ["linear_call"]

linear_call_p = Primitive("linear_call", multiple_results=True)
linear_call_p.call = True


# The arguments are (constants of the function, those of its transpose, residuals, linear ones);
# `counts` says how many there are of the first three. Programs take constants and residuals first.
Counts = tuple[int, int, int]


def _bind(args: Sequence[Any], counts: Counts, fun: Jaxpr, transposed: Jaxpr) -> list[Any]:
    """Bind the primitive; its ``jaxpr`` is what it means, of all its arguments."""
    avals = [aval_of(x) for x in args]
    key = ("linear call", counts, *avals)
    if key not in fun.memo:

        def whole(*xs: Any) -> list[Any]:
            own, _, residuals, linear = split(xs, *counts)
            return eval_jaxpr(fun, *own, *residuals, *linear)

        fun.memo[key] = stage(whole, avals)
    return linear_call_p.bind(
        *args, jaxpr=fun.memo[key], counts=counts, fun=fun, transposed=transposed
    )


def _jvp(
    primals: Any, tangents: Any, *, jaxpr: Jaxpr, counts: Counts, fun: Jaxpr, transposed: Jaxpr
) -> tuple[list[Any], list[Any]]:
    """The function of the tangents; what residuals add is the function's own derivative."""
    outs = _bind(primals, counts, fun, transposed)
    own, others, residuals, linear = split(primals, *counts)
    t_own, _, t_residuals, t_linear = split(tangents, *counts)
    touts: list[Any] = [None] * len(outs)
    if any(t is not None for t in t_linear):
        moved = [
            zeros(aval_of(x)) if t is None else t for x, t in zip(linear, t_linear, strict=True)
        ]
        touts = _bind([*own, *others, *residuals, *moved], counts, fun, transposed)
    t_first = [*t_own, *t_residuals]
    if any(t is not None for t in t_first):
        _, more = jvp_flat(lambda *xs: eval_jaxpr(fun, *xs, *linear), [*own, *residuals], t_first)
        touts = [
            a if b is None else b if a is None else add(a, b)
            for a, b in zip(touts, more, strict=True)
        ]
    return outs, touts


def _transpose(
    cts: Any, *args: Any, jaxpr: Jaxpr, counts: Counts, fun: Jaxpr, transposed: Jaxpr
) -> list[Any]:
    own, others, residuals, linear = split(args, *counts)
    if any(type(x) is LinearArg for x in (*own, *others, *residuals)):
        raise NotImplementedError("linear_call is linear in linear_args only, not in residual_args")
    cts = [zeros(a) if ct is None else ct for ct, a in zip(cts, fun.out_avals, strict=True)]
    turned = (counts[1], counts[0], counts[2])
    found = _bind([*others, *own, *residuals, *cts], turned, transposed, fun)
    return [*[None] * (len(args) - len(linear)), *found]


def _batch(
    axis: Axis,
    args: Any,
    batched: Any,
    *,
    jaxpr: Jaxpr,
    counts: Counts,
    fun: Jaxpr,
    transposed: Jaxpr,
) -> tuple[list[Any], list[bool]]:
    """Batch what is linear and the results; the rest stays as it is."""
    own, others, residuals, linear = split(args, *counts)
    *flags, linear_flags = split(batched, *counts)
    linear = [x if b else spread(x, axis.size) for x, b in zip(linear, linear_flags, strict=True)]
    programs = []
    for program, mapped in ((fun, flags[0]), (transposed, flags[1])):
        count = len(program.invars) - len(mapped) - len(flags[2])
        every = (*mapped, *flags[2], *(True,) * count)
        made = batch_program(program, axis, every, (True,) * len(program.outvars))
        programs.append(made)
    first, back = programs
    new = (len(first.consts) + counts[0], len(back.consts) + counts[1], counts[2])
    everything = [*first.consts, *own, *back.consts, *others, *residuals, *linear]
    outs = _bind(everything, new, first.jaxpr, back.jaxpr)
    return outs, [True] * len(outs)


linear_call_p.type = lambda *avals, jaxpr, counts, fun, transposed: jaxpr.out_avals
linear_call_p.eager = run_program
linear_call_p.jvp = _jvp
linear_call_p.transpose = _transpose
linear_call_p.batch = _batch


@boundary
def linear_call(
    fun: Callable[[Any, Any], Any],
    fun_transpose: Callable[[Any, Any], Any],
    residual_args: Any,
    linear_args: Any,
) -> Any:
    """Call a linear function that has a transpose of its own.

    Reverse mode and `linear_transpose` run ``fun_transpose`` in place of the function's transpose;
    the transpose of that is ``fun`` again.

    Args:
        fun: ``fun(residual_args, linear_args)``, linear in the second.
        fun_transpose: ``fun_transpose(residual_args, cotangents)``, linear in the second; takes
            what is like the results of ``fun`` and returns what is like ``linear_args``.
        residual_args: pytree of arrays. Its derivative is that of ``fun``.
        linear_args: pytree of arrays.

    Returns:
        What ``fun`` returns.

    Raises:
        TypeError: if what ``fun_transpose`` returns is not like ``linear_args``.

    Example:
        >>> import funtorch as ft
        >>> def divided(x, by):
        ...     return ft.custom_derivatives.linear_call(
        ...         lambda by, x: x / by, lambda by, ct: 7 * ct / by, by, x
        ...     )
        >>> float(divided(9.0, 3.0)), float(ft.grad(divided)(9.0, 2.0))
        (3.0, 3.5)
    """
    check_callable(fun, "linear_call")
    check_callable(fun_transpose, "linear_call")
    residuals, res_tree = tree.flatten(residual_args)
    linear, lin_tree = tree.flatten(linear_args)
    residuals = as_arrays(residuals, "residual_args", fun)
    linear = as_arrays(linear, "linear_args", fun)

    def staged(f: Any, like: Any) -> tuple[Jaxpr, Any]:
        given = res_tree.unflatten(residuals)
        leaves, treedef = tree.flatten(((given, like), {}))
        return stage_tree(f, treedef, [aval_of(x) for x in leaves])

    jaxpr, out_tree = staged(fun, lin_tree.unflatten(linear))
    back, back_tree = staged(fun_transpose, out_tree.unflatten([zeros(a) for a in jaxpr.out_avals]))
    transposed = _like(fun_transpose, back, back_tree, [x.aval for x in linear], lin_tree)
    counts = (len(jaxpr.consts), len(back.consts), len(residuals))
    outs = _bind(
        [*jaxpr.consts, *back.consts, *residuals, *linear], counts, jaxpr.hoisted(), transposed
    )
    return out_tree.unflatten(outs)


def _like(
    f: Any, found: Jaxpr, found_tree: Any, avals: Sequence[ShapedArray], treedef: Any
) -> Jaxpr:
    """Return the program of the transpose, with results of the types that it must have."""
    outs = found.out_avals
    fits = found_tree == treedef and all(
        a.shape == b.shape and (a.dtype == b.dtype or a.weak_type or b.weak_type)
        for a, b in zip(outs, avals, strict=True)
    )
    if not fits:
        own, wanted = ([a.str_short() for a in types] or ["nothing"] for types in (outs, avals))
        raise TypeError(
            f"linear_call: the transpose {function_name(f)} must return what is like linear_args, "
            f"{treedef} of {', '.join(wanted)}; it returned {found_tree} of {', '.join(own)}"
        )
    program = found.hoisted()
    if all(a.dtype == b.dtype for a, b in zip(outs, avals, strict=True)):
        return program

    def converted(*args: Any) -> list[Any]:
        results = eval_jaxpr(program, *args)
        return [x.astype(a.dtype) for x, a in zip(results, avals, strict=True)]

    return stage(converted, program.in_avals)
