"""Functions that hand their state on: `closure_convert`, `custom_gradient`, `fwd_and_bwd`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from funtorch import arraytree as tree
from funtorch.core import Tracer, aval_of
from funtorch.jaxpr import Jaxpr, eval_jaxpr
from funtorch.tracebacks import boundary
from funtorch.tree import register_pytree_node

from .arguments import FlatFunction, as_arrays, check_callable, function_name, normalize_argnums
from .custom import custom_vjp
from .forward import as_weak_as, is_differentiable, linearize_flat, zero_tangent
from .jit import jit
from .reverse import checked_cotangent, transpose_jaxpr
from .staging import spec_of, stage_tree

__all__ = ["closure_convert", "custom_gradient", "fwd_and_bwd"]


def closure_convert(fun: Callable[..., Any], *example_args: Any) -> tuple[Callable[..., Any], list]:
    """Turn a function into one that takes what it closes over, and may be differentiated, as
    arguments.

    Args:
        fun: a function of pytrees of arrays.
        *example_args: arguments, or anything of their shapes and dtypes.

    Returns:
        ``(converted, values)`` with ``converted(*args, *values) == fun(*args)``: the values are
        traced arrays of float and complex dtypes that ``fun`` closes over.

    Example:
        >>> import funtorch as ft
        >>> def at(c):
        ...     f, values = ft.closure_convert(lambda x: c * x, 1.0)
        ...     return f(3.0, *values), len(values)
        >>> ft.jvp(lambda c: at(c)[0], (2.0,), (1.0,))[1]
        Array(3., dtype=float32, weak_type=True)
    """
    check_callable(fun, "closure_convert")
    leaves, treedef = tree.flatten((example_args, {}))
    jaxpr, out_tree = stage_tree(fun, treedef, [spec_of(x) for x in leaves])
    program = jaxpr.hoisted()
    moves = [isinstance(c, Tracer) and is_differentiable(c.dtype) for c in jaxpr.consts]
    hoisted = [c for c, m in zip(jaxpr.consts, moves, strict=True) if m]
    kept = [c for c, m in zip(jaxpr.consts, moves, strict=True) if not m]

    @boundary
    @functools.wraps(fun)
    def converted(*args: Any) -> Any:
        n = len(args) - len(hoisted)
        flat, structure = tree.flatten((args[:n], {}))
        if n < 0 or structure != treedef:
            raise TypeError(
                f"the function that closure_convert made of {function_name(fun)} takes arguments "
                f"of structure {treedef} and {len(hoisted)} more arrays, got {structure}"
            )
        given, own = iter(args[n:]), iter(kept)
        consts = [next(given) if m else next(own) for m in moves]
        outs = eval_jaxpr(program, *as_arrays([*consts, *flat], "argument", fun))
        return out_tree.unflatten(outs)

    return converted, hoisted


# ---------------------------------------------------------------------------------- residuals
class Residuals:
    """What a pass leaves for the next: arrays, and the program they belong to."""

    __slots__ = ("arrays", "program")

    def __init__(self, arrays: Sequence[Any], program: Any) -> None:
        self.arrays, self.program = arrays, program


register_pytree_node(
    Residuals, lambda r: (tuple(r.arrays), r.program), lambda program, xs: Residuals(xs, program)
)


def custom_gradient(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function return its own reverse-mode rule beside its value.

    Args:
        fun: ``fun(*args) -> (out, rule)``; ``rule(ct)`` returns the cotangent of the argument, or
            a tuple with one per argument.

    Returns:
        A function of the same arguments that returns ``out``, with that derivative.

    Example:
        >>> import funtorch as ft
        >>> f = ft.custom_gradient(lambda x: (x**2, lambda ct: ct * 100.0))
        >>> float(f(3.0)), float(ft.grad(f)(3.0))
        (9.0, 100.0)
    """
    check_callable(fun, "custom_gradient")

    @boundary
    @functools.wraps(fun)
    def value(*args: Any) -> Any:
        return _pair(fun, args)[0]

    ruled = custom_vjp(value)

    def fwd(*args: Any) -> Any:
        out, rule = _pair(fun, args)
        leaves, out_tree = tree.flatten(out)
        avals = [aval_of(x).tangent() for x in as_arrays(leaves, "output", fun)]
        in_tree = tree.structure(((out_tree.unflatten(leaves),), {}))
        jaxpr, ct_tree = stage_tree(rule, in_tree, avals)
        return out, Residuals(jaxpr.consts, (jaxpr.hoisted(), ct_tree, tree.structure(args)))

    def bwd(residuals: Residuals, ct: Any) -> Any:
        jaxpr, ct_tree, args_tree = residuals.program
        cts = as_arrays(tree.leaves(ct), "cotangent", fun)
        found = ct_tree.unflatten(eval_jaxpr(jaxpr, *residuals.arrays, *cts))
        one = len(args_tree.children()) == 1
        return (found,) if one and ct_tree != args_tree else found

    ruled.defvjp(fwd, bwd)
    return ruled


def _pair(fun: Callable[..., Any], args: Sequence[Any]) -> tuple[Any, Callable[..., Any]]:
    found = fun(*args)
    if not isinstance(found, (tuple, list)) or len(found) != 2 or not callable(found[1]):
        raise TypeError(
            f"custom_gradient: {function_name(fun)} must return (output, rule), a value and a "
            f"function of its cotangent, got {type(found).__name__}"
        )
    return found[0], found[1]


def fwd_and_bwd(
    fun: Callable[..., Any],
    argnums: int | Sequence[int],
    has_aux: bool = False,
    jitted: bool = True,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Make the two passes of reverse mode two functions, which compile once each.

    Args:
        fun: a function of arrays or pytrees of arrays.
        argnums: position, or positions, of the arguments to differentiate.
        has_aux: whether ``fun`` returns ``(output, auxiliary data)``.
        jitted: whether to `jit` both.

    Returns:
        ``fwd(*args) -> (out, residuals)``, with auxiliary data as a third item with ``has_aux``,
        and ``bwd(residuals, ct)`` -> the cotangent, or a tuple of them when ``argnums`` is a
        sequence.

    Example:
        >>> import funtorch as ft
        >>> fwd, bwd = ft.fwd_and_bwd(lambda x, w: x * w, argnums=(0, 1))
        >>> y, residuals = fwd(2.0, 5.0)
        >>> [float(ct) for ct in bwd(residuals, 1.0)]
        [5.0, 2.0]
    """
    check_callable(fun, "fwd_and_bwd")

    def fwd(*args: Any) -> Any:
        nums = normalize_argnums(argnums, len(args), "fwd_and_bwd", fun)

        def partial(*chosen: Any) -> Any:
            full = list(args)
            for n, x in zip(nums, chosen, strict=True):
                full[n] = x
            return fun(*full)

        partial.__wrapped__ = fun  # type: ignore[attr-defined]
        leaves, treedef = tree.flatten(tuple(args[n] for n in nums))
        primals = as_arrays(leaves, "argument", fun)
        flat = FlatFunction(partial, treedef, has_aux, "fwd_and_bwd")
        nonzero = [is_differentiable(p.dtype) for p in primals]
        outs, linear, active = linearize_flat(flat, primals, nonzero, fun)
        out, aux = flat.split(outs)
        out_avals = tuple(aval_of(o) for o in outs[: flat.count])
        passed = _Backward(
            linear.hoisted(),
            tuple(active[: flat.count]),
            sum(active[flat.count :]),
            tuple(aval_of(p) for p in primals),
            treedef,
            out_avals,
            flat.out_tree,
        )
        residuals = Residuals(linear.consts, passed)
        return (out, residuals, aux) if has_aux else (out, residuals)

    def bwd(residuals: Residuals, ct: Any) -> Any:
        cts = residuals.program(residuals.arrays, ct, fun)
        return cts[0] if isinstance(argnums, int) else cts

    fwd.__wrapped__ = bwd.__wrapped__ = fun  # type: ignore[attr-defined]
    return (jit(fwd), jit(bwd)) if jitted else (fwd, bwd)


class _Backward:
    """The backward pass of a function, but for its residuals."""

    def __init__(
        self,
        linear: Jaxpr,
        active: tuple[bool, ...],
        silent: int,
        in_avals: tuple[Any, ...],
        in_tree: Any,
        out_avals: tuple[Any, ...],
        out_tree: Any,
    ) -> None:
        self.linear, self.active, self.silent = linear, active, silent
        self.in_avals, self.in_tree = in_avals, in_tree
        self.out_avals, self.out_tree = out_avals, out_tree

    def __call__(self, residuals: Sequence[Any], ct: Any, fun: Any) -> Any:
        leaves, structure = tree.flatten(ct)
        if structure != self.out_tree:
            raise TypeError(
                f"bwd of {function_name(fun)}: the cotangent's structure {structure} is not the "
                f"output's, {self.out_tree}"
            )
        cts = [
            checked_cotangent(k, c, a)
            for k, (c, a) in enumerate(zip(leaves, self.out_avals, strict=True))
        ]
        given = [c for c, a in zip(cts, self.active, strict=True) if a] + [None] * self.silent
        n = len(residuals)
        linear = self.linear
        tape = Jaxpr(linear.invars[n:], linear.eqns, linear.outvars, linear.invars[:n], residuals)
        found = iter(transpose_jaxpr(tape, given))
        grads = []
        for aval in self.in_avals:
            g = next(found) if is_differentiable(aval.dtype) else None
            grads.append(zero_tangent(aval) if g is None else as_weak_as(g, aval))
        return self.in_tree.unflatten(grads)
