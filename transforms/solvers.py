"""Derivatives of solutions: `custom_root` and `custom_linear_solve`.

What is solved is known by an equation that its solution fulfils, so its derivative needs no
derivative of how it was found.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from funtorch import arraytree as tree
from funtorch.core import LinearArg, Primitive, aval_of
from funtorch.jaxpr import Jaxpr, eval_jaxpr, stage
from funtorch.ops.elementwise import add, neg
from funtorch.ops.families import spread, zeros

from .arguments import as_arrays, check_callable, function_name
from .batching import Axis
from .custom import custom_jvp
from .forward import is_differentiable, jvp_flat, linearize
from .restage import batch_program, run_program, split
from .reverse import linear_part, transpose_jaxpr
from .staging import stage_tree

__all__ = ["custom_linear_solve", "custom_root"]


class _Staged(NamedTuple):
    """A staged function of one pytree: its program, constants first, those, and what it returns."""

    jaxpr: Jaxpr
    consts: list[Any]
    out_tree: Any


def _staged(f: Callable[..., Any], *args: Any) -> _Staged:
    leaves, treedef = tree.flatten((args, {}))
    jaxpr, out_tree = stage_tree(f, treedef, [aval_of(x) for x in leaves])
    return _Staged(jaxpr.hoisted(), jaxpr.consts, out_tree)


def _check(
    what: str, given: str, f: Any, found: _Staged, like: Sequence[Any], treedef: Any, aux: bool
) -> None:
    """Check the structure and shapes of a result, auxiliary data aside."""
    own = found.out_tree.children()[0] if aux else found.out_tree
    if own != treedef:
        raise TypeError(
            f"{what}: {function_name(f)} must return the structure of {given}, {treedef}; it "
            f"returned {own}"
        )
    for k, (a, b) in enumerate(zip(like, found.jaxpr.out_avals, strict=False)):
        if a.shape != b.shape:
            raise ValueError(
                f"{what}: {function_name(f)} must return the shapes of {given}; leaf {k} of that "
                f"is {a.str_short()}, of what it returned {b.str_short()}"
            )


def _as_types(found: _Staged, avals: Sequence[Any]) -> _Staged:
    """Return a program whose first results have the dtypes of ``avals``."""
    if all(a.dtype == b.dtype for a, b in zip(avals, found.jaxpr.out_avals, strict=False)):
        return found

    def f(*args: Any) -> list[Any]:
        outs = eval_jaxpr(found.jaxpr, *args)
        heads = [o.astype(a.dtype) for o, a in zip(outs, avals, strict=False)]
        return [*heads, *outs[len(avals) :]]

    return found._replace(jaxpr=stage(f, found.jaxpr.in_avals))


def _named(f: Callable[..., Any], user: Any) -> Callable[..., Any]:
    """Return ``f`` with the name, for errors, of the user's function that it calls."""
    f.__wrapped__ = user  # type: ignore[attr-defined]
    return f


def _pair(what: str, f: Any, has_aux: bool) -> Callable[..., Any]:
    """Return ``f``, checked to return a pair where it shall."""

    def checked(*args: Any) -> Any:
        out = f(*args)
        if has_aux and (not isinstance(out, (tuple, list)) or len(out) != 2):
            raise TypeError(
                f"{what} with has_aux=True: {function_name(f)} must return (solution, aux), got "
                f"{type(out).__name__}"
            )
        return (out[0], out[1]) if has_aux else out

    checked.__wrapped__ = f  # type: ignore[attr-defined]
    return checked


# ------------------------------------------------------------------------------------------- roots
def custom_root(
    f: Callable[[Any], Any],
    initial_guess: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    tangent_solve: Callable[[Callable[[Any], Any], Any], Any],
    has_aux: bool = False,
) -> Any:
    """Find a root by any solver, with the derivative of the root itself.

    For f(x, p) = 0 and values p that ``f`` closes over, dx/dp = -(df/dx)^-1 df/dp (the implicit
    function theorem), whatever ``solve`` does.

    Args:
        f: function of a pytree that returns one of the same structure and shapes.
        initial_guess: pytree of arrays.
        solve: ``solve(f, initial_guess)`` returns x with f(x) = 0.
        tangent_solve: ``tangent_solve(g, y)`` returns x with g(x) = y for the linear function g,
            the derivative of f at the root: for scalars ``lambda g, y: y / g(1.0)``.
        has_aux: whether ``solve`` returns ``(x, auxiliary data)``.

    Returns:
        What ``solve`` returns. Auxiliary data has no derivative.

    Raises:
        TypeError, ValueError: if a function returns another structure or other shapes.

    Example:
        >>> import funtorch as ft
        >>> def newton(f, x):
        ...     return ft.lax.fori_loop(0, 20, lambda i, x: x - f(x) / ft.grad(f)(x), x)
        >>> def sqrt(a):
        ...     f = lambda x: x * x - a
        ...     return ft.lax.custom_root(f, a, newton, lambda g, y: y / g(1.0))
        >>> round(float(ft.grad(sqrt)(4.0)), 5)
        0.25
    """
    for fun in (f, solve, tangent_solve):
        check_callable(fun, "custom_root")
    leaves, treedef = tree.flatten(initial_guess)
    guess = as_arrays(leaves, "initial_guess", f)
    avals = [x.aval.update(weak_type=False) for x in guess]
    guess = [x.astype(a.dtype) for x, a in zip(guess, avals, strict=True)]
    n = len(guess)
    like = treedef.unflatten(guess)
    equation = _staged(f, like)
    _check("custom_root", "initial_guess", f, equation, avals, treedef, False)
    solver = _staged(_pair("custom_root", lambda x: solve(f, x), has_aux), like)
    _check("custom_root", "initial_guess", solve, solver, avals, treedef, has_aux)
    solver = _as_types(solver, avals)

    def on_tangents(x: Any, y: Any) -> Any:
        return tangent_solve(linearize(f, x)[1], y)

    residual = treedef.unflatten([zeros(a) for a in equation.jaxpr.out_avals])
    tangents = _staged(on_tangents, like, residual)
    _check("custom_root", "initial_guess", tangent_solve, tangents, avals, treedef, False)
    tangents = _as_types(tangents, avals)

    @custom_jvp
    def root(f_consts: Any, solve_consts: Any, t_consts: Any, guess: Any) -> list[Any]:
        return eval_jaxpr(solver.jaxpr, *solve_consts, *guess)

    @root.defjvp
    def root_jvp(primals: Any, dots: Any) -> Any:
        f_consts, _, t_consts, _ = primals
        outs = root(*primals)
        x = outs[:n]
        dot = [t if is_differentiable(t.dtype) else None for t in dots[0]]
        _, rhs = jvp_flat(lambda *p: eval_jaxpr(equation.jaxpr, *p, *x), f_consts, dot)
        rhs = [
            zeros(a) if t is None else t for t, a in zip(rhs, equation.jaxpr.out_avals, strict=True)
        ]
        moved = eval_jaxpr(tangents.jaxpr, *t_consts, *x, *rhs)
        return outs, [*map(neg, moved), *[zeros(aval_of(o)) for o in outs[n:]]]

    outs = root(equation.consts, solver.consts, tangents.consts, guess)
    return solver.out_tree.unflatten(outs)


# ---------------------------------------------------------------------------------- linear solves
class _Parts(NamedTuple):
    """Four things of a linear solve, one for each of its functions."""

    matvec: Any
    vecmat: Any
    solve: Any
    transpose_solve: Any

    def transpose(self) -> _Parts:
        return _Parts(self.vecmat, self.matvec, self.transpose_solve, self.solve)


linear_solve_p = Primitive("custom_linear_solve", multiple_results=True)
linear_solve_p.call = True


def _bind(consts: _Parts, b: Sequence[Any], programs: _Parts) -> list[Any]:
    """Bind the primitive; its ``jaxpr`` is what it means: the solution, of all its arguments."""
    args = [*itertools.chain(*consts), *b]
    counts = _Parts(*map(len, consts))
    key = ("linear solve", counts, *(aval_of(x) for x in args))
    known = programs.solve.memo
    if key not in known:
        lo = counts.matvec + counts.vecmat

        def whole(*xs: Any) -> list[Any]:
            own = xs[lo : lo + counts.solve]
            return eval_jaxpr(programs.solve, *own, *xs[sum(counts) :])

        known[key] = stage(whole, [aval_of(x) for x in args])
    return linear_solve_p.bind(*args, jaxpr=known[key], counts=counts, programs=programs)


def _parts(xs: Sequence[Any], counts: _Parts) -> tuple[_Parts, list[Any]]:
    *consts, b = split(xs, *counts)
    return _Parts(*consts), b


def _solve_jvp(
    primals: Any, tangents: Any, *, jaxpr: Jaxpr, counts: _Parts, programs: _Parts
) -> Any:
    """A x = b gives A dx = db - dA x."""
    consts, b = _parts(primals, counts)
    t_consts, t_b = _parts(tangents, counts)
    outs = linear_solve_p.bind(*primals, jaxpr=jaxpr, counts=counts, programs=programs)
    n = len(b)
    rhs = list(t_b)
    if any(t is not None for t in t_consts.matvec):
        _, moved = jvp_flat(
            lambda *p: eval_jaxpr(programs.matvec, *p, *outs[:n]), consts.matvec, t_consts.matvec
        )
        rhs = [
            t if m is None else neg(m) if t is None else add(t, neg(m))
            for t, m in zip(rhs, moved, strict=True)
        ]
    if all(t is None for t in rhs):
        return outs, [None] * len(outs)
    rhs = [zeros(aval_of(x)) if t is None else t for t, x in zip(rhs, b, strict=True)]
    touts = _bind(consts, rhs, programs)
    return outs, [*touts[:n], *[None] * (len(outs) - n)]


def _solve_transpose(
    cts: Any, *args: Any, jaxpr: Jaxpr, counts: _Parts, programs: _Parts
) -> list[Any]:
    consts, b = _parts(args, counts)
    if programs.transpose_solve is None:
        raise TypeError(
            "custom_linear_solve: transpose_solve is needed for reverse-mode differentiation: "
            "pass it, or symmetric=True where the matrix is symmetric"
        )
    if any(type(x) is LinearArg for x in itertools.chain(*consts)):
        raise NotImplementedError(
            "custom_linear_solve is linear in b only, not in what matvec closes over"
        )
    given = [zeros(x.aval) if ct is None else ct for ct, x in zip(cts, b, strict=False)]
    found = _bind(consts.transpose(), given, programs.transpose())
    return [*[None] * (len(args) - len(b)), *found[: len(b)]]


def _solve_batch(
    axis: Axis, args: Any, batched: Any, *, jaxpr: Jaxpr, counts: _Parts, programs: _Parts
) -> tuple[list[Any], list[bool]]:
    """Batch the solution and b; constants that are not batched stay as they are."""
    consts, b = _parts(args, counts)
    flags, b_flags = _parts(batched, counts)
    b = [x if f else spread(x, axis.size) for x, f in zip(b, b_flags, strict=True)]
    found: list[Any] = []
    more: list[Any] = []
    for program, own, mapped in zip(programs, consts, flags, strict=True):
        if program is None:
            found.append(None)
            more.append(own)
            continue
        everything = (True,) * len(program.outvars)
        made = batch_program(program, axis, (*mapped, *(True,) * len(b)), everything)
        found.append(made.jaxpr)
        more.append([*made.consts, *own])
    outs = _bind(_Parts(*more), b, _Parts(*found))
    return outs, [True] * len(outs)


linear_solve_p.type = lambda *avals, jaxpr, counts, programs: jaxpr.out_avals
linear_solve_p.eager = run_program
linear_solve_p.jvp = _solve_jvp
linear_solve_p.transpose = _solve_transpose
linear_solve_p.batch = _solve_batch


def custom_linear_solve(
    matvec: Callable[[Any], Any],
    b: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    transpose_solve: Callable[[Callable[[Any], Any], Any], Any] | None = None,
    symmetric: bool = False,
    has_aux: bool = False,
) -> Any:
    """Solve a linear system by any solver, with the derivative of the solution itself.

    Args:
        matvec: linear function of a pytree like ``b``; what it closes over is differentiated.
        b: pytree of arrays.
        solve: ``solve(matvec, b)`` returns x with matvec(x) = b; it need not be differentiable.
        transpose_solve: the same for the transposed system; needed for reverse mode.
        symmetric: whether matvec is its own transpose; then ``solve`` serves for both.
        has_aux: whether the solvers return ``(x, auxiliary data)``.

    Returns:
        What ``solve`` returns. Auxiliary data has no derivative.

    Raises:
        TypeError: if a function returns another structure; in reverse mode without
            ``transpose_solve``.
        ValueError: if a function returns other shapes.

    Example:
        >>> import funtorch as ft
        >>> b = ft.numpy.array([2.0, 4.0])
        >>> def solution(d):
        ...     return ft.lax.custom_linear_solve(
        ...         lambda x: d * x, b, lambda f, y: y / f(ft.numpy.ones(2)), symmetric=True
        ...     ).sum()
        >>> ft.grad(solution)(ft.numpy.array([1.0, 2.0]))
        Array([-2., -1.], dtype=float32)
    """
    for fun in (matvec, solve):
        check_callable(fun, "custom_linear_solve")
    if transpose_solve is None and symmetric:
        transpose_solve = solve
    leaves, treedef = tree.flatten(b)
    given = as_arrays(leaves, "b", matvec)
    avals = [x.aval.update(weak_type=False) for x in given]
    given = [x.astype(a.dtype) for x, a in zip(given, avals, strict=True)]
    like = treedef.unflatten(given)

    def staged(f: Any, *args: Any, aux: bool = False) -> _Staged:
        found = _staged(_pair("custom_linear_solve", f, aux), *args)
        _check("custom_linear_solve", "b", f, found, avals, treedef, aux)
        return _as_types(found, avals)

    product = staged(matvec, like)

    def vecmat(y: Any) -> Any:
        cts = tree.leaves(y)
        ins = [*product.consts, *[LinearArg(a) for a in avals]]
        found = transpose_jaxpr(linear_part(product.jaxpr, ins), cts)
        return treedef.unflatten(
            [zeros(a) if ct is None else ct for ct, a in zip(found, avals, strict=True)]
        )

    solver = staged(_named(lambda y: solve(matvec, y), solve), like, aux=has_aux)
    back: Any = None
    turned: Any = None
    if transpose_solve is not None:
        after = transpose_solve
        turned = product if symmetric else staged(vecmat, like)
        other = matvec if symmetric else vecmat
        back = staged(_named(lambda y: after(other, y), after), like, aux=has_aux)
    programs = _Parts(product, turned, solver, back)
    outs = _bind(
        _Parts(*[[] if p is None else p.consts for p in programs]),
        given,
        _Parts(*[None if p is None else p.jaxpr for p in programs]),
    )
    return solver.out_tree.unflatten(outs)
