"""Functions with derivative rules of their own: `custom_jvp`, `custom_vjp`, and `stop_gradient`'s
relatives.

Both primitives carry the function and its rules as flat Python callables, so outside jit the user's
Python runs as written. Under `Stage` the function is staged once into ``jaxpr``, which is then also
its callable form.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from funtorch import arraytree as tree
from funtorch.core import LinearArg, Primitive, aval_of, current, eval_trace, no_source, use_trace
from funtorch.errors import MismatchError
from funtorch.jaxpr import Jaxpr, Stage, StageTracer, eval_jaxpr, stage
from funtorch.ops.families import accumulate, spread, zeros
from funtorch.origins import call_named
from funtorch.placement import array_of, buffer_of

from .arguments import as_arrays, check_callable, function_name
from .batching import Axis
from .custom_lanes import Lanes, batched_bwd, batched_rule, batched_vjp_rules
from .explore import Known
from .forward import is_differentiable, jvp_flat
from .references import Ref, apart
from .reverse import linear_part, transpose_jaxpr
from .rules import WithRules
from .symbolic import CustomVJPPrimal, SymbolicZero, is_zero

__all__ = ["custom_jvp", "custom_jvp_call_p", "custom_vjp", "custom_vjp_call_p"]

Flat = Callable[..., Any]


# ------------------------------------------------------------------------------------------ binding
class _CustomCall(Primitive):
    """A call with rules of its own; where it is written down, its function is staged first."""

    __slots__ = ()

    def bind(self, *args: Any, fun: Flat, jaxpr: Jaxpr | None = None, **params: Any) -> list[Any]:
        """Bind in the current trace; ``params`` holds the rules, and what is no function."""
        trace = current()
        if jaxpr is None and trace is eval_trace:
            return fun(*args)
        if jaxpr is not None or not isinstance(trace, Stage):
            return super().bind(*args, fun=fun, jaxpr=jaxpr, **params)
        if trace.parent is not None and not any(
            type(a) is StageTracer and a.owner is trace for a in args
        ):
            with use_trace(trace.parent):
                return self.bind(*args, fun=fun, **params)
        name = getattr(fun, "__name__", "")
        jaxpr = stage(fun, [aval_of(a) for a in args], name, Known(args, name))
        n, hoisted = len(jaxpr.consts), jaxpr.hoisted()
        lifted = {k: _drop_leading(v, n, k, fun) if callable(v) else v for k, v in params.items()}
        run = functools.partial(eval_jaxpr, hoisted)
        run.__wrapped__ = fun  # type: ignore[attr-defined]
        return super().bind(*jaxpr.consts, *args, fun=run, jaxpr=hoisted, **lifted)


def _drop_leading(rule: Flat, n: int, slot: str, fun: Flat) -> Flat:
    """Adapt a rule to a function that takes ``n`` constants first; constants get no derivative."""
    if n == 0:
        return rule

    def check(nonzero: Sequence[bool]) -> None:
        if any(nonzero[:n]):
            raise ValueError(
                f"{function_name(fun)} has a custom derivative rule and closes over a value that "
                "is differentiated; the rule is for its arguments only. Pass the value as an "
                "argument, and let the rule give its derivative"
            )

    def jvp(*pt: Any) -> list[Any]:
        half = len(pt) // 2
        check([t is not None for t in pt[half:]])
        return rule(*pt[n:half], *pt[half + n :])

    def fwd(nonzero: Sequence[bool], *args: Any) -> Any:
        check(nonzero)
        return rule(nonzero[n:], *args[n:])

    def bwd(*res_ct: Any) -> list[Any]:
        return [*[None] * n, *rule(*res_ct)]

    return {"jvp": jvp, "fwd": fwd, "bwd": bwd}[slot]


def _out_avals(*avals: Any, jaxpr: Jaxpr, **rules: Any) -> Any:
    return jaxpr.out_avals


def _recall(then: dict[str, Any], now: dict[str, Any]) -> None:
    """Know the structures of results that are taken over from another call."""
    _out_trees(now["fun"]).extend(_out_trees(then["fun"]))


def _out_trees(fun: Any) -> list[Any]:
    while hasattr(fun, "__wrapped__") and not hasattr(fun, "out_trees"):
        fun = fun.__wrapped__
    return getattr(fun, "out_trees", [])


def _run(xp: Any, *buffers: Any, fun: Flat, **rules: Any) -> list[Any]:
    return [buffer_of(o) for o in fun(*map(array_of, buffers))]


# --------------------------------------------------------------------------------------- custom_jvp
custom_jvp_call_p = _CustomCall("custom_jvp_call", multiple_results=True)


def _custom_jvp_jvp(
    primals: Any, tangents: Any, *, fun: Flat, jvp: Flat, jaxpr: Any
) -> tuple[Any, Any]:
    results = jvp(*primals, *tangents)
    n = len(results) // 2
    _check_outputs("jvp", results[:n], fun, jaxpr)
    return results[:n], results[n:]


def _check_outputs(rule: str, outs: Sequence[Any], fun: Flat, jaxpr: Jaxpr | None) -> None:
    """Check that a rule gives what the function gives, where that is known."""
    if jaxpr is None:
        return
    given, wanted = [aval_of(o) for o in outs], jaxpr.out_avals
    if len(given) != len(wanted):
        raise TypeError(
            f"the {rule} rule of {function_name(fun)} gave {len(given)} outputs, the function "
            f"gives {len(wanted)}: return the function's own output first"
        )
    for k, (a, b) in enumerate(zip(given, wanted, strict=True)):
        if not a.same_type(b):
            raise TypeError(
                f"the {rule} rule of {function_name(fun)} gave output {k} as {a.str_short()}, the "
                f"function gives {b.str_short()}: they must be equal"
            )


def _custom_jvp_batch(
    axis: Axis, args: Any, batched: Any, *, fun: Flat, jvp: Flat, jaxpr: Any
) -> Any:
    lanes = Lanes(batched)
    outs = custom_jvp_call_p.bind(
        *args,
        fun=batched_rule(fun, axis, batched, lanes),
        jvp=batched_rule(jvp, axis, [*batched, *batched], lanes),
    )
    return outs, [bool(lanes.batched)] * len(outs)


def _transpose_call(cts: Any, *args: Any, jaxpr: Jaxpr, **rules: Any) -> list[Any]:
    """Transpose what the function does: the call itself is linear, as part of another's rule."""
    found = iter(transpose_jaxpr(linear_part(jaxpr, args), cts))
    return [next(found) if type(a) is LinearArg else None for a in args]


custom_jvp_call_p.type = _out_avals
custom_jvp_call_p.eager = _run
custom_jvp_call_p.jvp = _custom_jvp_jvp
custom_jvp_call_p.batch = _custom_jvp_batch
custom_jvp_call_p.call = True
custom_jvp_call_p.recall = _recall
custom_jvp_call_p.transpose = _transpose_call
custom_jvp_call_p.closes = True


def _split_args(
    fun: Callable[..., Any], nondiff: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[dict[int, Any], list[Any]]:
    """Resolve keyword arguments and defaults by the signature; return (nondiff by position,
    differentiated)."""
    bound = None
    if not isinstance(fun, functools.partial):  # what it fixes by name is no argument
        try:
            signature = inspect.signature(fun)
        except ValueError:
            signature = None
        try:
            bound = None if signature is None else signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(
                f"{function_name(fun)}{signature}, which has a custom derivative rule, was called "
                f"with other arguments: {error}"
            ) from None
    if bound is not None:
        bound.apply_defaults()
        if bound.kwargs:
            raise TypeError(
                f"{function_name(fun)} has a custom derivative rule, which takes arguments by "
                "position; "
                f"keyword-only arguments {sorted(bound.kwargs)} cannot be passed on to it"
            )
        args = bound.args
    elif kwargs:
        raise TypeError(
            f"{function_name(fun)} has a custom derivative rule, and no signature to find the "
            f"positions of keyword arguments {sorted(kwargs)} by: pass them by position"
        )
    nums = {n % len(args) for n in nondiff}
    return {n: args[n] for n in nums}, [a for k, a in enumerate(args) if k not in nums]


def _merge(fixed: dict[int, Any], rest: Sequence[Any]) -> list[Any]:
    items = iter(rest)
    return [fixed[k] if k in fixed else next(items) for k in range(len(fixed) + len(rest))]


class custom_jvp(WithRules):
    """Give a function its own jvp rule.

    Args:
        fun: a function of arrays or pytrees of arrays.
        nondiff_argnums: positions of arguments that are passed to the rule first, as Python values.

    Example:
        >>> import funtorch as ft
        >>> @ft.custom_jvp
        ... def f(x):
        ...     return ft.numpy.sin(x)
        >>> @f.defjvp
        ... def f_jvp(primals, tangents):
        ...     (x,), (t,) = primals, tangents
        ...     return f(x), 10.0 * t
        >>> float(ft.grad(f)(1.0))
        10.0
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        nondiff_argnums: int | Sequence[int] = (),
        nondiff_argnames: str | Sequence[str] = (),
    ) -> None:
        super().__init__(fun, "custom_jvp")
        self.nondiff = _positions(fun, nondiff_argnums, nondiff_argnames)
        self.jvp: Callable[..., Any] | None = None
        self.symbolic = False

    def defjvp(self, jvp: Callable[..., Any], symbolic_zeros: bool = False) -> Callable[..., Any]:
        """Set the rule ``jvp(*nondiff, primals, tangents) -> (out, tangent out)``.

        Args:
            jvp: the rule; ``primals`` and ``tangents`` are tuples.
            symbolic_zeros: whether tangents that are zero come as `SymbolicZero`, not as arrays;
                then the tangent out may be one, too.

        Returns:
            The rule, so that this works as a decorator.
        """
        check_callable(jvp, "defjvp")
        self.jvp, self.symbolic = jvp, bool(symbolic_zeros)
        return jvp

    def defjvps(self, *jvps: Callable[..., Any] | None) -> None:
        """Set one rule per argument, ``jvp(t, out, *primals) -> tangent out``, None where the
        derivative is zero."""
        if self.nondiff:
            raise TypeError("defjvps cannot be used with nondiff_argnums: use defjvp")

        def rule(primals: Any, tangents: Any) -> Any:
            out = self(*primals)
            if len(jvps) != len(tangents):
                raise TypeError(
                    f"defjvps of {function_name(self.fun)} was given {len(jvps)} rules; it is "
                    f"called with {len(tangents)} arguments: give one rule for each, None where "
                    "the derivative is zero"
                )
            terms = [
                f(t, out, *primals) for f, t in zip(jvps, tangents, strict=True) if f is not None
            ]
            leaves = [tree.leaves(t) for t in terms]
            return out, tree.unflatten(
                tree.structure(out),
                [
                    accumulate(as_arrays(column, "tangent", self.fun))
                    for column in zip(*leaves, strict=True)
                ],
            )

        self.jvp, self.symbolic = rule, False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.jvp is None:
            raise AttributeError(
                f"custom_jvp function {function_name(self.fun)} has no rule yet: define one with "
                "defjvp"
            )
        fixed, rest = _split_args(self.fun, self.nondiff, args, kwargs)
        leaves, treedef = tree.flatten(tuple(rest))
        arrays = as_arrays(leaves, "argument", self.fun)
        out_trees: list[Any] = []

        def fun(*flat: Any) -> list[Any]:
            given = _merge(fixed, tree.unflatten(treedef, flat))
            outs, out_tree = tree.flatten(call_named(self.fun, given, {}))
            out_trees.append(out_tree)
            return as_arrays(outs, "output", self.fun)

        fun.__wrapped__ = self.fun  # type: ignore[attr-defined]
        fun.out_trees = out_trees  # type: ignore[attr-defined]
        zero = SymbolicZero.from_primal_value if self.symbolic else _zero_of

        def jvp(*flat: Any) -> list[Any]:
            n = len(flat) // 2
            primals = flat[:n]
            ts = [zero(p) if t is None else t for p, t in zip(primals, flat[n:], strict=True)]
            with no_source():
                result = self.jvp(  # type: ignore[misc]
                    *[fixed[k] for k in sorted(fixed)],
                    tree.unflatten(treedef, primals),
                    tree.unflatten(treedef, ts),
                )
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                raise TypeError(
                    f"the jvp rule of {function_name(self.fun)} must return (output, tangent), got "
                    f"{type(result).__name__}"
                )
            outs, out_tree = tree.flatten(result[0])
            touts, tout_tree = tree.flatten(result[1])
            out_trees.append(out_tree)
            if out_tree != tout_tree:
                raise TypeError(
                    f"the jvp rule of {function_name(self.fun)} must return output and tangent of "
                    "the same "
                    f"structure, got {out_tree} and {tout_tree}"
                )
            return [*as_arrays(outs, "output", self.fun), *_match_tangents(outs, touts, self.fun)]

        outs = custom_jvp_call_p.bind(*arrays, fun=fun, jvp=jvp)
        return tree.unflatten(out_trees[-1], outs)


def _zero_of(x: Any) -> Any:
    return zeros(aval_of(x))


def _positions(
    fun: Callable[..., Any], nums: int | Sequence[int], names: str | Sequence[str]
) -> tuple[int, ...]:
    """Return the positions of arguments given by number or name."""
    found = [nums] if isinstance(nums, int) else list(nums)
    wanted = [names] if isinstance(names, str) else list(names)
    if wanted:
        known = list(inspect.signature(fun).parameters)
        for name in wanted:
            if name not in known:
                raise ValueError(
                    f"nondiff_argnames: {function_name(fun)} has no argument named {name!r}; it "
                    f"has {known}"
                )
            found.append(known.index(name))
    return tuple(found)


def _match_tangents(outs: Sequence[Any], touts: Sequence[Any], fun: Any) -> list[Any]:
    """Check the types of a rule's tangents; None where the output is not differentiable."""
    found = []
    for k, (o, t) in enumerate(zip(as_arrays(outs, "output", fun), touts, strict=True)):
        if is_zero(t) or not is_differentiable(o.dtype):
            found.append(None)
            continue
        (t,) = as_arrays([t], "tangent", fun)
        if t.weak_type and t.dtype != o.dtype:
            t = t.astype(o.dtype)
        if t.shape != o.shape or t.dtype != o.dtype:
            raise TypeError(
                f"the jvp rule of {function_name(fun)} gave output {k} as {o.aval.str_short()} but "
                "its tangent as "
                f"{t.aval.str_short()}: they must be equal"
            )
        found.append(t)
    return found


# --------------------------------------------------------------------------------------- custom_vjp
custom_vjp_call_p = _CustomCall("custom_vjp_call", multiple_results=True)
custom_lin_p = Primitive("custom_lin", multiple_results=True)


def _custom_vjp_rule(
    primals: Any,
    nonzero: Sequence[bool],
    *,
    fun: Flat,
    fwd: Flat,
    bwd: Flat,
    jaxpr: Any,
    symbolic: bool,
) -> Any:
    """Run ``fwd``; return its outputs and the linear map whose transpose is ``bwd``."""
    outs, residuals = fwd(nonzero, *primals)
    _check_outputs("fwd", outs, fun, jaxpr)
    in_avals = tuple(aval_of(p).tangent() for p in primals)
    out_avals = tuple(aval_of(o) for o in outs)

    def linear(*tangents: Any) -> list[Any]:
        given = iter(tangents)
        ts = [next(given) if nz else zeros(a) for nz, a in zip(nonzero, in_avals, strict=True)]
        touts = custom_lin_p.bind(
            *residuals, *ts, bwd=bwd, num_res=len(residuals), out_avals=out_avals, symbolic=symbolic
        )
        return [
            t if is_differentiable(a.dtype) else None for t, a in zip(touts, out_avals, strict=True)
        ]

    return outs, linear


def _custom_vjp_jvp(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
    outs, linear = _custom_vjp_rule(primals, [t is not None for t in tangents], **params)
    return outs, linear(*[t for t in tangents if t is not None])


def _custom_vjp_batch(
    axis: Axis,
    args: Any,
    batched: Any,
    *,
    fun: Flat,
    fwd: Flat,
    bwd: Flat,
    jaxpr: Any,
    **params: Any,
) -> Any:
    lanes = Lanes(batched)
    fwd_b, bwd_b = batched_vjp_rules(fwd, bwd, axis, batched, lanes)
    whole = batched_rule(fun, axis, batched, lanes)
    outs = custom_vjp_call_p.bind(*args, fun=whole, fwd=fwd_b, bwd=bwd_b, **params)
    return outs, [bool(lanes.batched)] * len(outs)


custom_vjp_call_p.type = _out_avals
custom_vjp_call_p.eager = _run
custom_vjp_call_p.jvp = _custom_vjp_jvp
custom_vjp_call_p.linearize = _custom_vjp_rule
custom_vjp_call_p.batch = _custom_vjp_batch
custom_vjp_call_p.call = True
custom_vjp_call_p.recall = _recall
custom_vjp_call_p.transpose = _transpose_call
custom_vjp_call_p.closes = True


def _lin_type(*avals: Any, out_avals: Any, **params: Any) -> list[Any]:
    return list(out_avals)


def _lin_transpose(
    cts: Any, *args: Any, bwd: Flat, num_res: int, out_avals: Any, symbolic: bool
) -> list[Any]:
    if not symbolic:
        cts = [zeros(a) if ct is None else ct for ct, a in zip(cts, out_avals, strict=True)]
    return [*[None] * num_res, *bwd(*args[:num_res], *cts)]


def _lin_apply(
    *args: Any, bwd: Flat, num_res: int, out_avals: Any, symbolic: bool = False
) -> list[Any]:
    """Apply the linear map itself: bwd is its transpose, so transpose that once more."""
    residuals, ts = args[:num_res], args[num_res:]
    present: list[bool] = []

    def flat(*cts: Any) -> list[Any]:
        found = bwd(*residuals, *cts)
        present[:] = [ct is not None for ct in found]
        return [ct for ct in found if ct is not None]

    jaxpr = stage(flat, list(out_avals), "bwd")
    given = [t for t, p in zip(ts, present, strict=True) if p]
    try:
        touts = transpose_jaxpr(linear_part(jaxpr, [LinearArg(a) for a in out_avals]), given)
    except NotImplementedError as error:
        raise TypeError(
            "forward mode (jvp, jacfwd) of a function with custom_vjp takes the transpose of its "
            f"backward rule, which is not linear in the cotangent: {error}. Use reverse mode "
            "(grad, vjp, jacrev), or give the function a rule by custom_jvp"
        ) from None
    return [zeros(a) if t is None else t for t, a in zip(touts, out_avals, strict=True)]


def _lin_eager(xp: Any, *buffers: Any, **params: Any) -> list[Any]:
    return [buffer_of(t) for t in _lin_apply(*map(array_of, buffers), **params)]


def _lin_jvp(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
    return jvp_flat(functools.partial(_lin_apply, **params), primals, tangents)


def _lin_batch(
    axis: Axis, args: Any, batched: Any, *, bwd: Flat, num_res: int, out_avals: Any, symbolic: bool
) -> Any:
    args = [a if b else spread(a, axis.size) for a, b in zip(args, batched, strict=True)]
    ts = len(args) - num_res
    avals = tuple(a.update(shape=(axis.size, *a.shape)) for a in out_avals)
    back = batched_bwd(bwd, axis, [True] * ts)
    outs = custom_lin_p.bind(*args, bwd=back, num_res=num_res, out_avals=avals, symbolic=symbolic)
    return outs, [True] * len(outs)


custom_lin_p.type = _lin_type
custom_lin_p.eager = _lin_eager
custom_lin_p.jvp = _lin_jvp
custom_lin_p.transpose = _lin_transpose
custom_lin_p.batch = _lin_batch
custom_lin_p.expand = _lin_apply


class custom_vjp(WithRules):
    """Give a function its own reverse-mode rule; forward mode is derived from it by transposing
    twice.

    Args:
        fun: a function of arrays or pytrees of arrays.
        nondiff_argnums: positions of arguments passed to ``bwd`` first, as Python values.

    Example:
        >>> import funtorch as ft
        >>> @ft.custom_vjp
        ... def f(x):
        ...     return ft.numpy.sin(x)
        >>> f.defvjp(lambda x: (f(x), x), lambda x, ct: (10.0 * ct,))
        >>> float(ft.grad(f)(1.0))
        10.0
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        nondiff_argnums: int | Sequence[int] = (),
        nondiff_argnames: str | Sequence[str] = (),
    ) -> None:
        super().__init__(fun, "custom_vjp")
        self.nondiff = _positions(fun, nondiff_argnums, nondiff_argnames)
        self.symbolic = False
        self.fwd: Callable[..., Any] | None = None
        self.bwd: Callable[..., Any] | None = None

    def defvjp(
        self,
        fwd: Callable[..., Any],
        bwd: Callable[..., Any],
        symbolic_zeros: bool = False,
        optimize_remat: bool = False,
    ) -> None:
        """Set the rules.

        Args:
            fwd: ``fwd(*args) -> (out, residuals)``.
            bwd: ``bwd(*nondiff, residuals, ct) -> tuple of cotangents``, one per differentiated
                argument; None stands for zero.
            symbolic_zeros: whether ``fwd`` gets its arguments as `CustomVJPPrimal`, which tell
                which are differentiated, and ``bwd`` zero cotangents as `SymbolicZero`.
            optimize_remat: for compatibility: under `checkpoint` the function itself always runs
                first, and ``fwd`` only for the derivative.
        """
        check_callable(fwd, "defvjp")
        check_callable(bwd, "defvjp")
        self.fwd, self.bwd, self.symbolic = fwd, bwd, bool(symbolic_zeros)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.fwd is None or self.bwd is None:
            raise AttributeError(
                f"custom_vjp function {function_name(self.fun)} has no rule yet: define one with "
                "defvjp"
            )
        fixed, rest = _split_args(self.fun, self.nondiff, args, kwargs)
        leaves, treedef = tree.flatten(tuple(rest))
        leaves, whole = apart(leaves)  # references are shared with the rules
        arrays = as_arrays(leaves, "argument", self.fun)
        in_avals = [x.aval for x in whole(arrays)]
        out_trees: list[Any] = []
        res_trees: list[tuple[Any, int, Any]] = []
        out_avals: list[Any] = []

        def fun(*flat: Any) -> list[Any]:
            given = _merge(fixed, tree.unflatten(treedef, whole(flat)))
            outs, out_tree = tree.flatten(call_named(self.fun, given, {}))
            out_trees.append(out_tree)
            return as_arrays(outs, "output", self.fun)

        fun.__wrapped__ = self.fun  # type: ignore[attr-defined]
        fun.out_trees = out_trees  # type: ignore[attr-defined]

        def fwd(nonzero: Sequence[bool], *flat: Any) -> tuple[list[Any], list[Any]]:
            primals = list(flat)
            if self.symbolic:
                primals = [CustomVJPPrimal(x, nz) for x, nz in zip(flat, nonzero, strict=True)]
            with no_source():
                result = self.fwd(  # type: ignore[misc]
                    *_merge(fixed, tree.unflatten(treedef, whole(primals)))
                )
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                raise TypeError(
                    f"the fwd rule of {function_name(self.fun)} must return (output, residuals), "
                    "got "
                    f"{type(result).__name__}"
                )
            outs, out_tree = tree.flatten(result[0])
            residuals, res_tree = tree.flatten(result[1])
            # Truths are for the rule's decisions.
            residuals, all_residuals = apart(residuals, (Ref, bool))
            out_trees.append(out_tree)
            res_trees.append((res_tree, len(residuals), all_residuals))
            found = as_arrays(outs, "output", self.fun)
            out_avals.append([o.aval.tangent() for o in found])
            return found, as_arrays(residuals, "residual", self.fun)

        def bwd(*flat: Any) -> list[Any]:
            res_tree, n, all_residuals = res_trees[-1]
            cts = [
                SymbolicZero(a) if ct is None else ct
                for a, ct in zip(out_avals[-1], flat[n:], strict=True)
            ]
            with no_source():
                found = self.bwd(  # type: ignore[misc]
                    *[fixed[k] for k in sorted(fixed)],
                    tree.unflatten(res_tree, all_residuals(flat[:n])),
                    tree.unflatten(out_trees[-1], cts),
                )
            cts = _flat_cotangents(found, treedef, in_avals, self.fun)
            return [ct for ct, x in zip(cts, whole(arrays), strict=True) if type(x) is not Ref]

        outs = custom_vjp_call_p.bind(*arrays, fun=fun, fwd=fwd, bwd=bwd, symbolic=self.symbolic)
        return tree.unflatten(out_trees[-1], outs)


def _flat_cotangents(found: Any, treedef: Any, in_avals: Sequence[Any], fun: Any) -> list[Any]:
    """Return bwd's result as one array or None per primal leaf; None stands for the zero of a whole
    argument."""
    name = function_name(fun)
    if not isinstance(found, (tuple, list)) or len(found) != len(treedef.children()):
        raise TypeError(
            f"the bwd rule of {name} must return a tuple with one cotangent per differentiated "
            "argument "
            f"({len(treedef.children())}), got {type(found).__name__}"
            + (f" of length {len(found)}" if isinstance(found, (tuple, list)) else "")
        )
    cts: list[Any] = []
    for k, (ct, child) in enumerate(zip(found, treedef.children(), strict=True)):
        if is_zero(ct) and not (isinstance(ct, SymbolicZero) and child.num_leaves == 1):
            cts.extend([None] * child.num_leaves)
            continue
        leaves, structure = tree.flatten(ct, is_leaf=is_zero)
        if structure != child:
            try:  # one for several leaves
                leaves = tree.broadcast_prefix(ct, child, "cotangent", is_zero)
            except ValueError as error:
                raise TypeError(
                    f"the bwd rule of {name} gave argument {k} a cotangent of structure "
                    f"{structure}, its argument has {child}"
                ) from error
        cts.extend(leaves)
    out = []
    for k, (ct, aval) in enumerate(zip(cts, in_avals, strict=True)):
        if isinstance(ct, SymbolicZero) and ct.shape != aval.shape:
            raise MismatchError(
                f"the bwd rule of {name} gave leaf {k} a SymbolicZero of shape {ct.shape}, its "
                f"primal is {aval.str_short()}: return None, which stands for a zero of any type"
            )
        if is_zero(ct) or not is_differentiable(aval.dtype):
            out.append(None)
            continue
        (ct,) = as_arrays([ct], "cotangent", fun)
        real = ct.dtype.kind != "c" or aval.dtype.kind == "c"
        if ct.shape == aval.shape and real and is_differentiable(ct.dtype):
            ct = ct.astype(aval.dtype)
        if ct.shape != aval.shape or ct.dtype != aval.dtype:
            raise MismatchError(
                f"the bwd rule of {name} gave leaf {k} the cotangent {ct.aval.str_short()}, its "
                "primal is "
                f"{aval.str_short()}: shapes and dtypes must be equal"
            )
        out.append(ct)
    return out
