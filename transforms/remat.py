"""`checkpoint` (also `remat`): keep a function's inputs instead of its intermediates, and compute
it again backwards."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from funtorch import arraytree as tree
from funtorch.core import Primitive, aval_of, current
from funtorch.jaxpr import Jaxpr, Lit, StageTracer, Var, eval_jaxpr, stage
from funtorch.ops.marks import name_p, optimization_barrier
from funtorch.tracebacks import boundary

from .arguments import as_arrays, check_callable, function_name
from .forward import JVPTracer, is_differentiable, linearize_flat
from .harvest import recomputed
from .passes import drop_dead, inline
from .passes.rewrite import substitute, used
from .policies import Policy, everything_saveable
from .references import Bridge, Crossing, bridged, holds_refs, without_refs
from .restage import call_rules, linearize_program, split, stage_hoisted
from .staging import stage_tree

__all__ = ["checkpoint", "checkpoint_name", "print_saved_residuals", "remat", "remat_p"]

remat_p = Primitive("remat", multiple_results=True)
call_rules(remat_p)
_keep_residuals = remat_p.linearize


def _linearize(
    primals: Any, nonzero: tuple[bool, ...], *, jaxpr: Jaxpr, policy: Policy, prevent_cse: bool
) -> tuple[list[Any], Any]:
    """Keep the primals and what the policy says: the linear map recomputes its residuals."""
    params = {"policy": policy, "prevent_cse": prevent_cse}
    if "io" in jaxpr.effects:
        raise NotImplementedError(
            "checkpoint: a function that is computed again for its derivative cannot contain "
            "io_callback, which would run twice: use pure_callback, or call it outside"
        )
    if policy is everything_saveable:
        return _keep_residuals(primals, nonzero, jaxpr=jaxpr, **params)  # type: ignore[misc]
    n_outs = len(jaxpr.outvars)
    whole, kept = _divided(jaxpr, policy)
    first = Jaxpr(whole.invars, whole.eqns, [*whole.outvars, *kept]) if kept else jaxpr
    results = remat_p.bind(*primals, jaxpr=first, **params)
    outs, saved = results[:n_outs], results[n_outs:]
    again, consts, linear_jaxpr, active = _recomputation(whole, kept, nonzero)
    again = recomputed(again)
    known = [*consts, *primals, *saved]

    def tangent_map(*args: Any) -> list[Any]:
        given = list(args[: len(known)])
        if prevent_cse:
            given = optimization_barrier(*given)
        residuals = eval_jaxpr(again, *given)
        return eval_jaxpr(linear_jaxpr, *residuals, *args[len(known) :])

    def linear(*tangents: Any) -> list[Any]:
        args = [*known, *tangents]
        staged, more = stage_hoisted(tangent_map, [aval_of(a) for a in args], "remat")
        touts = iter(remat_p.bind(*more, *args, jaxpr=staged, **params))
        return [next(touts) if a else None for a in active]

    return outs, linear


remat_p.linearize = _linearize


def _divided(jaxpr: Jaxpr, policy: Policy | None) -> tuple[Jaxpr, list[Var]]:
    """Return the program with jitted calls opened, and the variables that the policy keeps."""
    if policy is None:
        return jaxpr, []
    key = ("divided", policy)
    if key not in jaxpr.memo:
        whole = inline(jaxpr, only=("jit",))
        kept: list[Var] = []
        for eqn in whole.eqns:
            if policy(eqn.prim, *[v.aval for v in eqn.invars], **eqn.params):
                kept.extend(eqn.outvars)
        jaxpr.memo[key] = whole, kept
    return jaxpr.memo[key]


def _recomputation(
    jaxpr: Jaxpr, kept: Sequence[Var], nonzero: tuple[bool, ...]
) -> tuple[Jaxpr, list[Any], Jaxpr, list[bool]]:
    """Linearize a program some of whose values are known.

    Returns:
        the program (constants, inputs, kept values) -> residuals, its constants, the linear
        program (residuals, nonzero tangents) -> tangents, and which outputs have one.
    """
    if not kept:
        forward, linear_jaxpr, active = linearize_program(jaxpr, nonzero)
        own = forward.jaxpr
        outs = own.outvars[len(jaxpr.outvars) :]
        return drop_dead(Jaxpr(own.invars, own.eqns, outs)), forward.consts, linear_jaxpr, active
    key = ("recomputation", tuple(kept), nonzero)
    if key not in jaxpr.memo:
        jaxpr.memo[key] = _with_kept(jaxpr, kept, nonzero)
    return jaxpr.memo[key]


def _with_kept(jaxpr: Jaxpr, kept: Sequence[Var], nonzero: tuple[bool, ...]) -> Any:
    box: list[Any] = []
    same: dict[Var | Lit, Var] = {}  # what is computed again, and the kept value that it equals

    def f(*args: Any) -> list[Any]:
        xs, saved = split(args, len(jaxpr.invars))
        value = dict(zip(kept, saved, strict=True))

        def run(*ins: Any) -> list[Any]:
            env: dict[Any, Any] = dict(zip(jaxpr.invars, ins, strict=True))
            process = current().process
            for eqn in jaxpr.eqns:
                given = [v.val if type(v) is Lit else env[v] for v in eqn.invars]
                out = process(eqn.prim, given, eqn.params)
                outs = out if eqn.prim.multiple_results else [out]
                env.update(zip(eqn.outvars, outs, strict=True))
                for v, o in zip(eqn.outvars, outs, strict=True):
                    if v in value:
                        # A name's operand is the value that has the name.
                        equal = [o, *given] if eqn.prim is name_p else [o]
                        same.update((x, value[v]._var) for x in map(_variable, equal) if x)
            return [v.val if type(v) is Lit else env[v] for v in jaxpr.outvars]

        _, linear, active = linearize_flat(run, xs, nonzero)
        box.extend((linear.hoisted(), active))
        return linear.consts

    avals = [*jaxpr.in_avals, *[v.aval for v in kept]]
    staged, consts = stage_hoisted(f, avals)
    eqns = [used(eqn, same) for eqn in staged.eqns]
    again = Jaxpr(staged.invars, eqns, substitute(staged.outvars, same))
    return drop_dead(again), consts, box[0], box[1]


def _variable(x: Any) -> Var | None:
    """Return the variable of a value's primal in the program that is being written."""
    if type(x) is JVPTracer:
        x = x.primal
    return x._var if type(x) is StageTracer else None


# ------------------------------------------------------------------------------------------- public
def checkpoint(
    fun: Callable[..., Any] | None = None,
    *,
    prevent_cse: bool | Sequence[bool] = True,
    policy: Policy | None = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Iterable[str] = (),
) -> Any:
    """Make reverse-mode differentiation recompute ``fun``'s intermediates instead of storing them.

    Args:
        fun: a function of arrays or pytrees of arrays. Without it, a decorator is returned.
        prevent_cse: whether compiled programs must compute them again even where what was
            computed before the derivative is still known.
        policy: which of them to store after all, see `funtorch.checkpoint_policies`; None: none.
        static_argnums, static_argnames: arguments that stay Python values.

    Returns:
        A function with the same results and derivatives.

    Example:
        >>> import funtorch as ft
        >>> f = ft.checkpoint(lambda x: ft.numpy.sin(ft.numpy.sin(x)))
        >>> float(ft.grad(f)(0.0))
        1.0
    """
    if fun is None:
        return functools.partial(
            checkpoint,
            prevent_cse=prevent_cse,
            policy=policy,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
        )
    check_callable(fun, "checkpoint")
    if policy is not None and not callable(policy):
        raise TypeError(
            "checkpoint: policy must be a function such as those of funtorch.checkpoint_policies, "
            f"got {policy!r:.60}"
        )
    nums = [static_argnums] if isinstance(static_argnums, int) else list(static_argnums)
    names = [static_argnames] if isinstance(static_argnames, str) else list(static_argnames)
    if names:
        known = list(inspect.signature(fun).parameters)
        nums += [known.index(n) for n in names if n in known]
    params = {"policy": policy, "prevent_cse": bool(prevent_cse)}

    @boundary
    @functools.wraps(fun)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        fixed = {k % len(args): args[k % len(args)] for k in nums if k < len(args)}
        named = {k: v for k, v in kwargs.items() if k in names}
        dynamic = tuple(a for k, a in enumerate(args) if k not in fixed)
        others = {k: v for k, v in kwargs.items() if k not in named}

        def on_dynamic(*some: Any, **kw: Any) -> Any:
            rest = iter(some)
            full = [fixed[k] if k in fixed else next(rest) for k in range(len(args))]
            return fun(*full, **kw, **named)

        on_dynamic.__wrapped__ = fun  # type: ignore[attr-defined]
        leaves, treedef = tree.flatten((dynamic, others))

        def with_refs(bridge: Bridge) -> Any:
            rest, restored = without_refs((dynamic, others), fun)

            def whole(state: Any, now: Any) -> Any:
                some, kw = restored(now)
                return bridge.run(state, on_dynamic, *some, **kw)

            again = checkpoint(whole, policy=policy, prevent_cse=prevent_cse)
            state, result = again(bridge.state(), rest)
            bridge.write(state)
            return result

        if holds_refs(leaves):
            return bridged(with_refs)
        arrays = as_arrays(leaves, "argument", fun)
        try:
            jaxpr, out_tree = stage_tree(on_dynamic, treedef, [a.aval for a in arrays], arrays)
        except Crossing as crossing:
            return bridged(with_refs, crossing)
        outs = remat_p.bind(*jaxpr.consts, *arrays, jaxpr=jaxpr.hoisted(), **params)
        return tree.unflatten(out_tree, outs)

    return checkpointed


remat = checkpoint


def checkpoint_name(x: Any, name: str) -> Any:
    """Give the arrays of a pytree a name, by which policies of `checkpoint` know them.

    Args:
        x: pytree of arrays.
        name: the name.

    Returns:
        The same values.

    Example:
        >>> from funtorch.ad_checkpoint import checkpoint_name
        >>> float(checkpoint_name(2.0, "two"))
        2.0
    """
    if not isinstance(name, str):
        raise TypeError(f"checkpoint_name takes a string as name, got {type(name).__name__}")
    leaves, treedef = tree.flatten(x)
    named = [name_p.bind(a, name=name) for a in as_arrays(leaves, "x", None)]
    return treedef.unflatten(named)


def print_saved_residuals(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Print what reverse-mode differentiation of ``fun`` keeps between its two passes.

    Args:
        fun: a function of arrays or pytrees of arrays.
        *args, **kwargs: its arguments.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.ad_checkpoint import print_saved_residuals
        >>> print_saved_residuals(ft.checkpoint(lambda x: ft.numpy.sin(ft.numpy.sin(x))), 1.0)
        f32[] from argument 0
    """
    leaves, treedef = tree.flatten((args, kwargs))
    arrays = as_arrays(leaves, "argument", fun)

    def flat(*xs: Any) -> list[Any]:
        a, kw = treedef.unflatten(xs)
        return as_arrays(tree.leaves(fun(*a, **kw)), "output", fun)

    def residuals(*xs: Any) -> list[Any]:
        return linearize_flat(flat, xs, [is_differentiable(x.dtype) for x in xs])[1].consts

    jaxpr = stage(residuals, [a.aval for a in arrays], function_name(fun))
    made = {v: eqn for eqn in jaxpr.eqns for v in eqn.outvars}
    for v in jaxpr.outvars:
        if v in made:
            where = f"output of {made[v].prim.name}, at {made[v].source}"  # type: ignore[index]
        elif v in jaxpr.invars:
            where = f"argument {jaxpr.invars.index(v)}"  # type: ignore[arg-type]
        else:
            where = "a constant"
        print(f"{v.aval.str_short()} from {where}")
