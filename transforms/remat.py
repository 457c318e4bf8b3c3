"""`checkpoint` (also `remat`): keep a function's inputs instead of its intermediates, and compute
it again backwards."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from funtorch import arraytree as tree
from funtorch.core import Primitive, aval_of
from funtorch.jaxpr import Jaxpr, eval_jaxpr

from .arguments import as_arrays, check_callable
from .restage import call_rules, linearize_program, stage_hoisted
from .staging import stage_tree

__all__ = ["checkpoint", "remat", "remat_p"]

remat_p = Primitive("remat", multiple_results=True)
call_rules(remat_p)


def _linearize(primals: Any, nonzero: tuple[bool, ...], *, jaxpr: Jaxpr) -> tuple[list[Any], Any]:
    """Keep only the primals: the linear map recomputes its residuals from them."""
    if "io" in jaxpr.effects:
        raise NotImplementedError(
            "checkpoint: a function that is computed again for its derivative cannot contain "
            "io_callback, which would run twice: use pure_callback, or call it outside"
        )
    outs = remat_p.bind(*primals, jaxpr=jaxpr)
    forward, linear_jaxpr, active = linearize_program(jaxpr, nonzero)
    n_args, n_outs, n_consts = len(primals), len(jaxpr.outvars), len(forward.consts)

    def tangent_map(*args: Any) -> list[Any]:
        results = eval_jaxpr(forward.jaxpr, *args[: n_consts + n_args])
        return eval_jaxpr(linear_jaxpr, *results[n_outs:], *args[n_consts + n_args :])

    def linear(*tangents: Any) -> list[Any]:
        args = [*forward.consts, *primals, *tangents]
        staged, consts = stage_hoisted(tangent_map, [aval_of(a) for a in args], "remat")
        touts = iter(remat_p.bind(*consts, *args, jaxpr=staged))
        return [next(touts) if a else None for a in active]

    return outs, linear


remat_p.linearize = _linearize


def checkpoint(
    fun: Callable[..., Any] | None = None, *, static_argnums: int | Sequence[int] = ()
) -> Any:
    """Make reverse-mode differentiation recompute ``fun``'s intermediates instead of storing them.

    Args:
        fun: a function of arrays or pytrees of arrays. Without it, a decorator is returned.
        static_argnums: positions of arguments that stay Python values.

    Returns:
        A function with the same results and derivatives.

    Example:
        >>> import funtorch as ft
        >>> f = ft.checkpoint(lambda x: ft.numpy.sin(ft.numpy.sin(x)))
        >>> float(ft.grad(f)(0.0))
        1.0
    """
    if fun is None:
        return functools.partial(checkpoint, static_argnums=static_argnums)
    check_callable(fun, "checkpoint")
    static = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)

    @functools.wraps(fun)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        fixed = {k % len(args): args[k] for k in static}
        dynamic = tuple(a for k, a in enumerate(args) if k not in fixed)

        def on_dynamic(*some: Any, **kw: Any) -> Any:
            rest = iter(some)
            return fun(*[fixed[k] if k in fixed else next(rest) for k in range(len(args))], **kw)

        on_dynamic.__wrapped__ = fun  # type: ignore[attr-defined]
        leaves, treedef = tree.flatten((dynamic, kwargs))
        arrays = as_arrays(leaves, "argument", fun)
        jaxpr, out_tree = stage_tree(on_dynamic, treedef, [a.aval for a in arrays])
        return tree.unflatten(out_tree, remat_p.bind(*jaxpr.consts, *arrays, jaxpr=jaxpr.hoisted()))

    return checkpointed


remat = checkpoint
