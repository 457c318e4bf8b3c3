"""Loops: `scan` and `map`, `while_loop` and `fori_loop`.

A loop is one primitive whose body is a jaxpr. Its rules run the re-traced body in a loop again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import tree
from funtorch.core import (
    ArrayImpl,
    LinearArg,
    Primitive,
    ShapedArray,
    Tracer,
    aval_of,
    concrete_or_error,
)
from funtorch.errors import user_frame
from funtorch.jaxpr import Jaxpr, eval_jaxpr
from funtorch.ops.elementwise import add, lt, select
from funtorch.ops.families import broadcast_in_dim, scalar, spread, zeros
from funtorch.ops.reduce import reduce_or
from funtorch.ops.shape import concatenate, reshape
from funtorch.ops.shape import slice as slice_

from .arguments import as_arrays, check_callable, function_name
from .batching import Axis, move_axis, vmap
from .forward import is_differentiable
from .restage import batch_program, jvp_program, linearize_program, stage_hoisted, transpose_program
from .staging import stage_tree

__all__ = ["fori_loop", "map", "scan", "scan_p", "while_loop", "while_p"]


def _fixpoint(
    start: Sequence[bool], step: Callable[[tuple[bool, ...]], Sequence[bool]]
) -> tuple[bool, ...]:
    """Grow flags until ``step`` adds none: which carries become nonzero, or batched, in the end."""
    flags = tuple(start)
    while True:
        grown = tuple(a or b for a, b in zip(flags, step(flags), strict=True))
        if grown == flags:
            return flags
        flags = grown


def _reordered(jaxpr: Jaxpr, ins: Sequence[int], outs: Sequence[int]) -> Jaxpr:
    """Return the program with inputs and outputs in another order; the same object for the same
    order."""
    key = ("reordered", tuple(ins), tuple(outs))
    if key not in jaxpr.memo:
        jaxpr.memo[key] = Jaxpr(
            [jaxpr.invars[k] for k in ins], jaxpr.eqns, [jaxpr.outvars[k] for k in outs]
        )
    return jaxpr.memo[key]


def _split(xs: Sequence[Any], *sizes: int) -> list[list[Any]]:
    out, at = [], 0
    for n in sizes:
        out.append(list(xs[at : at + n]))
        at += n
    return [*out, list(xs[at:])]


def _pick(xs: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    return [x for x, f in zip(xs, flags, strict=True) if f]


# --------------------------------------------------------------------------------------------- scan
scan_p = Primitive("scan", multiple_results=True)


def _scan_type(
    *avals: Any, jaxpr: Jaxpr, num_consts: int, num_carry: int, length: int, reverse: bool
) -> list[Any]:
    outs = jaxpr.out_avals
    return [*outs[:num_carry], *[a.update(shape=(length, *a.shape)) for a in outs[num_carry:]]]


def _scan_eager(
    xp: Any,
    *buffers: Any,
    jaxpr: Jaxpr,
    num_consts: int,
    num_carry: int,
    length: int,
    reverse: bool,
) -> list[Any]:
    consts, carry, xs = _split(buffers, num_consts, num_carry)
    consts = [ArrayImpl(c) for c in consts]
    carry = [ArrayImpl(c) for c in carry]
    ys = [xp.empty((length, *a.shape), a.dtype) for a in jaxpr.out_avals[num_carry:]]
    for i in reversed(range(length)) if reverse else range(length):
        outs = eval_jaxpr(jaxpr, *consts, *carry, *[ArrayImpl(x[i]) for x in xs])
        carry = outs[:num_carry]
        for y, o in zip(ys, outs[num_carry:], strict=True):
            y[i] = o._data
    return [*[c._data for c in carry], *ys]


def _scan_jvp(
    primals: Any,
    tangents: Any,
    *,
    jaxpr: Jaxpr,
    num_consts: int,
    num_carry: int,
    length: int,
    reverse: bool,
) -> tuple[list[Any], list[Any]]:
    nz = [t is not None for t in tangents]
    nz_consts, nz_init, nz_xs = _split(nz, num_consts, num_carry)
    no_ys = (False,) * (len(jaxpr.outvars) - num_carry)
    nz_carry = _fixpoint(
        nz_init,
        lambda c: jvp_program(jaxpr, (*nz_consts, *c, *nz_xs), (*c, *no_ys)).note[:num_carry],
    )
    program = jvp_program(jaxpr, (*nz_consts, *nz_carry, *nz_xs), (*nz_carry, *no_ys))
    ts = [
        zeros(aval_of(p).tangent())
        if t is None and k >= num_consts and k < num_consts + num_carry and nz_carry[k - num_consts]
        else t
        for k, (p, t) in enumerate(zip(primals, tangents, strict=True))
    ]
    c, i, x = _split(primals, num_consts, num_carry)
    tc, ti, tx = ([t for t in part if t is not None] for part in _split(ts, num_consts, num_carry))
    sizes = [len(part) for part in (program.consts, c, i, x, tc, ti, tx)]
    k_, c_, i_, x_, tc_, ti_, tx_ = _split(range(sum(sizes)), *sizes[:-1])
    n_out = len(jaxpr.outvars)
    t_out = list(range(n_out, n_out + sum(program.note)))
    n_tc = sum(nz_carry)
    body = _reordered(
        program.jaxpr,
        [*k_, *c_, *tc_, *i_, *ti_, *x_, *tx_],
        [*range(num_carry), *t_out[:n_tc], *range(num_carry, n_out), *t_out[n_tc:]],
    )
    results = scan_p.bind(
        *program.consts,
        *c,
        *tc,
        *i,
        *ti,
        *x,
        *tx,
        jaxpr=body,
        num_consts=len(k_) + len(c) + len(tc),
        num_carry=num_carry + n_tc,
        length=length,
        reverse=reverse,
    )
    carry, tcarry, ys, tys = _split(results, num_carry, n_tc, n_out - num_carry)
    touts = iter([*tcarry, *tys])
    return [*carry, *ys], [next(touts) if a else None for a in program.note]


def _scan_linearize(
    primals: Any,
    nonzero: tuple[bool, ...],
    *,
    jaxpr: Jaxpr,
    num_consts: int,
    num_carry: int,
    length: int,
    reverse: bool,
) -> tuple[list[Any], Any]:
    nz_consts, nz_init, nz_xs = _split(nonzero, num_consts, num_carry)
    no_ys = (False,) * (len(jaxpr.outvars) - num_carry)
    nz_carry = _fixpoint(
        nz_init,
        lambda c: linearize_program(jaxpr, (*nz_consts, *c, *nz_xs), (*c, *no_ys))[2][:num_carry],
    )
    forward, linear_body, active = linearize_program(
        jaxpr, (*nz_consts, *nz_carry, *nz_xs), (*nz_carry, *no_ys)
    )
    n_out, n_k = len(jaxpr.outvars), len(forward.consts)
    results = scan_p.bind(
        *forward.consts,
        *primals,
        jaxpr=forward.jaxpr,
        num_consts=n_k + num_consts,
        num_carry=num_carry,
        length=length,
        reverse=reverse,
    )
    outs, residuals = results[:n_out], results[n_out:]
    init_avals = jaxpr.in_avals[num_consts : num_consts + num_carry]

    def linear(*tangents: Any) -> list[Any]:
        tc, ti, tx = _split(tangents, sum(nz_consts), sum(nz_init))
        given = iter(ti)
        ti = [
            next(given) if was else zeros(a.tangent())
            for was, now, a in zip(nz_init, nz_carry, init_avals, strict=True)
            if now
        ]
        sizes = [len(residuals), len(tc), len(ti), len(tx)]
        r_, tc_, ti_, tx_ = _split(range(sum(sizes)), *sizes[:-1])
        body = _reordered(linear_body, [*tc_, *ti_, *r_, *tx_], range(len(linear_body.outvars)))
        touts = iter(
            scan_p.bind(
                *tc,
                *ti,
                *residuals,
                *tx,
                jaxpr=body,
                num_consts=len(tc),
                num_carry=len(ti),
                length=length,
                reverse=reverse,
            )
        )
        return [next(touts) if a else None for a in active]

    return outs, linear


def _scan_transpose(
    cts: Any, *args: Any, jaxpr: Jaxpr, num_consts: int, num_carry: int, length: int, reverse: bool
) -> list[Any]:
    lin = [type(a) is LinearArg for a in args]
    lin_consts, lin_init, lin_xs = _split(lin, num_consts, num_carry)
    consts, init, xs = _split(args, num_consts, num_carry)
    # A carry that starts at a known zero tangent becomes linear in the first step: all carries are
    # linear.
    if any(
        not is_differentiable(aval_of(x).dtype)
        for x, f in zip(init, lin_init, strict=True)
        if not f
    ):
        raise NotImplementedError(
            "transpose of scan: the program is not linear in an integer carry; use vjp or grad, "
            "which linearize it first"
        )
    lin = [*lin_consts, *[True] * num_carry, *lin_xs]
    res_c, res_x = _pick(consts, [not f for f in lin_consts]), _pick(xs, [not f for f in lin_xs])
    body_avals = jaxpr.in_avals
    c_avals, carry_avals, x_avals = _split(body_avals, num_consts, num_carry)
    lin_c_avals = _pick(c_avals, lin_consts)
    program = transpose_program(jaxpr, tuple(lin), (True,) * len(jaxpr.outvars), force=True)
    n_k, n_rc, n_rx, n_lc = len(program.consts), len(res_c), len(res_x), len(lin_c_avals)

    def body(*args: Any) -> list[Any]:
        k, rc, acc, ct_carry, rx, ct_ys = _split(args, n_k, n_rc, n_lc, num_carry, n_rx)
        found = eval_jaxpr(program.jaxpr, *k, *rc, *rx, *ct_carry, *ct_ys)
        ct_c, ct_carry, ct_x = _split(found, n_lc, num_carry)
        return [*[add(a, c) for a, c in zip(acc, ct_c, strict=True)], *ct_carry, *ct_x]

    y_avals = jaxpr.out_avals[num_carry:]
    avals = [
        *[aval_of(k) for k in program.consts],
        *_pick(c_avals, [not f for f in lin_consts]),
        *lin_c_avals,
        *[a.tangent() for a in carry_avals],
        *_pick(x_avals, [not f for f in lin_xs]),
        *[a.tangent() for a in y_avals],
    ]
    key = ("scan_transpose", tuple(lin))
    if key not in jaxpr.memo:
        jaxpr.memo[key] = stage_hoisted(body, avals, "scan_transpose")
    staged, extra = jaxpr.memo[key]
    ct_carry = [
        zeros(a.tangent()) if ct is None else ct
        for ct, a in zip(cts[:num_carry], carry_avals, strict=True)
    ]
    ct_ys = [
        zeros(ShapedArray((length, *a.shape), a.dtype)) if ct is None else ct
        for ct, a in zip(cts[num_carry:], y_avals, strict=True)
    ]
    results = scan_p.bind(
        *extra,
        *program.consts,
        *res_c,
        *[zeros(a.tangent()) for a in lin_c_avals],
        *ct_carry,
        *res_x,
        *ct_ys,
        jaxpr=staged,
        num_consts=len(extra) + n_k + n_rc,
        num_carry=n_lc + num_carry,
        length=length,
        reverse=not reverse,
    )
    ct_c, ct_init, ct_xs = _split(results, n_lc, num_carry)
    given_c, given_x = iter(ct_c), iter(ct_xs)
    return [
        *[next(given_c) if f else None for f in lin_consts],
        *[ct if f else None for ct, f in zip(ct_init, lin_init, strict=True)],
        *[next(given_x) if f else None for f in lin_xs],
    ]


def _scan_batch(
    axis: Axis,
    args: Any,
    batched: Any,
    *,
    jaxpr: Jaxpr,
    num_consts: int,
    num_carry: int,
    length: int,
    reverse: bool,
) -> tuple[list[Any], list[bool]]:
    b_consts, b_init, b_xs = _split(batched, num_consts, num_carry)
    no_ys = (False,) * (len(jaxpr.outvars) - num_carry)
    b_carry = _fixpoint(
        b_init,
        lambda c: batch_program(jaxpr, axis, (*b_consts, *c, *b_xs), (*c, *no_ys)).note[:num_carry],
    )
    program = batch_program(jaxpr, axis, (*b_consts, *b_carry, *b_xs), (*b_carry, *no_ys))
    consts, init, xs = _split(args, num_consts, num_carry)
    init = [
        spread(x, axis.size) if now and not was else x
        for x, was, now in zip(init, b_init, b_carry, strict=True)
    ]
    xs = [move_axis(x, 1, 0) if b else x for x, b in zip(xs, b_xs, strict=True)]
    outs = scan_p.bind(
        *program.consts,
        *consts,
        *init,
        *xs,
        jaxpr=program.jaxpr,
        num_consts=len(program.consts) + num_consts,
        num_carry=num_carry,
        length=length,
        reverse=reverse,
    )
    note = program.note
    ys = [
        move_axis(y, 1, 0) if b else y
        for y, b in zip(outs[num_carry:], note[num_carry:], strict=True)
    ]
    return [*outs[:num_carry], *ys], note


scan_p.type, scan_p.eager, scan_p.jvp, scan_p.linearize = (
    _scan_type,
    _scan_eager,
    _scan_jvp,
    _scan_linearize,
)
scan_p.transpose, scan_p.batch = _scan_transpose, _scan_batch


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    """Loop over the leading axis of ``xs``, carrying state: ``carry, y = f(carry, x)``.

    Args:
        f: the body; its carry keeps structure, shapes and dtypes from step to step.
        init: pytree of arrays, the first carry.
        xs: pytree of arrays with one leading size, or None.
        length: number of steps; needed when ``xs`` is None.
        reverse: whether to run from the last x to the first (ys keep their places).
        unroll: accepted for compatibility; the compiler decides.

    Returns:
        ``(last carry, ys)`` with every y stacked along a new leading axis.

    Raises:
        TypeError: if the carry changes type; the message names the key path and both types.
        ValueError: if leading sizes differ or the length is not known.

    Example:
        >>> import funtorch as ft
        >>> total, partial = ft.lax.scan(
        ...     lambda c, x: (c + x, c + x), 0.0, ft.numpy.array([1.0, 2.0, 3.0])
        ... )
        >>> float(total), partial
        (6.0, Array([1., 3., 6.], dtype=float32))
    """
    check_callable(f, "scan")
    x_leaves, x_tree = tree.flatten(xs)
    xs_flat = as_arrays(x_leaves, "xs", f)
    length = _scan_length(f, xs_flat, length)
    init_leaves, init_tree = tree.flatten(init)
    carry = as_arrays(init_leaves, "init", f)
    x_avals = [a.aval.update(shape=a.shape[1:]) for a in xs_flat]
    jaxpr, carry = stage_body(f, carry, init_tree, x_avals, x_tree)
    out_tree = jaxpr.memo["out_tree"]
    n = len(carry)
    outs = scan_p.bind(
        *jaxpr.consts,
        *carry,
        *xs_flat,
        jaxpr=jaxpr.hoisted(),
        num_consts=len(jaxpr.consts),
        num_carry=n,
        length=length,
        reverse=bool(reverse),
    )
    y_tree = out_tree.children()[1]
    return init_tree.unflatten(outs[:n]), y_tree.unflatten(outs[n:])


def _scan_length(f: Any, xs: Sequence[Any], length: int | None) -> int:
    name = function_name(f)
    for k, x in enumerate(xs):
        if not x.shape:
            raise ValueError(
                f"scan over {name}: leaf {k} of xs is a scalar; every leaf needs a leading axis to "
                "loop over"
            )
    sizes = {x.shape[0] for x in xs} | ({int(length)} if length is not None else set())
    if len(sizes) > 1:
        shapes = ", ".join(str(x.shape) for x in xs)
        raise ValueError(
            f"scan over {name}: leading sizes must be equal, got shapes {shapes}"
            + (f" and length={length}" if length is not None else "")
        )
    if not sizes:
        raise ValueError(
            f"scan over {name}: xs has no arrays, so the number of steps is not known: pass length"
        )
    return sizes.pop()


def stage_body(
    f: Callable[..., Any], carry: list[Any], carry_tree: Any, x_avals: Sequence[Any], x_tree: Any
) -> tuple[Jaxpr, list[Any]]:
    """Stage a scan body; weak carries take the dtype the body gives them. Returns (jaxpr,
    carry)."""
    treedef = tree.structure(((carry_tree.unflatten(carry), x_tree.unflatten(list(x_avals))), {}))
    for _ in range(2):
        avals = [c.aval for c in carry]
        jaxpr, out_tree = stage_tree(f, treedef, [*avals, *x_avals])
        kids = out_tree.children()
        if len(kids) != 2 or out_tree.num_leaves != len(jaxpr.outvars):
            raise TypeError(
                f"the body of scan, {function_name(f)}, must return a pair (carry, y), got "
                f"{out_tree}"
            )
        if kids[0] != carry_tree:
            raise TypeError(
                f"the body of scan, {function_name(f)}, must return a carry of the structure it "
                "takes: given "
                f"{carry_tree}, returned {kids[0]}"
            )
        outs = jaxpr.out_avals[: len(carry)]
        promoted = [
            c.astype(o.dtype) if c.weak_type and c.dtype != o.dtype and c.shape == o.shape else c
            for c, o in zip(carry, outs, strict=True)
        ]
        if all(p is c for p, c in zip(promoted, carry, strict=True)):
            break
        carry = promoted
    check_carry("scan", f, carry, carry_tree, jaxpr.out_avals[: len(carry)])
    jaxpr.memo["out_tree"] = out_tree
    return jaxpr, carry


def check_carry(
    what: str, f: Any, carry: Sequence[Any], carry_tree: Any, outs: Sequence[Any]
) -> None:
    """Raise the error that names every carry whose type changes from one step to the next."""
    paths = [path for path, _ in tree.leaves_with_path(carry_tree.unflatten(list(carry)))]
    wrong = [
        f"  carry{tree.keystr(path)} goes in as {c.aval.str_short()} and comes out as "
        f"{o.str_short()}"
        for path, c, o in zip(paths, carry, outs, strict=True)
        if not c.aval.same_type(o)
    ]
    if wrong:
        raise TypeError(
            "\n".join(
                [
                    f"{what}: the body {function_name(f)} must return the carry with the types it "
                    "takes, "
                    "but",
                    *wrong,
                    "Convert the initial value or the result with astype, or reshape it.",
                ]
            )
        )


def map(f: Callable[[Any], Any], xs: Any, *, batch_size: int | None = None) -> Any:
    """Apply ``f`` to each slice along the leading axis, one after the other, and stack the results.

    Args:
        f: a function of one pytree of arrays.
        xs: pytree of arrays with one leading size.
        batch_size: number of slices to do at once with vmap.

    Example:
        >>> import funtorch as ft
        >>> ft.lax.map(lambda x: x * 2, ft.numpy.arange(3))
        Array([0, 2, 4], dtype=int32)
    """
    if batch_size is None:
        return scan(lambda _, x: ((), f(x)), (), xs)[1]
    leaves, treedef = tree.flatten(xs)
    arrays = as_arrays(leaves, "xs", f)
    n = _scan_length(f, arrays, None)
    whole = n // batch_size * batch_size

    def cut(x: Any, lo: int, hi: int) -> Any:
        rest = x.shape[1:]
        return slice_(x, start=(lo, *(0,) * len(rest)), limit=(hi, *rest), stride=(1,) * x.ndim)

    parts = []
    if whole:
        blocks = [
            reshape(cut(x, 0, whole), shape=(whole // batch_size, batch_size, *x.shape[1:]))
            for x in arrays
        ]
        out = scan(lambda _, x: ((), vmap(f)(x)), (), treedef.unflatten(blocks))[1]
        parts.append(tree.map(lambda y: reshape(y, shape=(whole, *y.shape[2:])), out))
    if whole < n:
        parts.append(vmap(f)(treedef.unflatten([cut(x, whole, n) for x in arrays])))
    return parts[0] if len(parts) == 1 else tree.map(lambda a, b: concatenate(a, b, axis=0), *parts)


# -------------------------------------------------------------------------------------------- while
while_p = Primitive("while", multiple_results=True)


def _while_type(
    *avals: Any, cond_jaxpr: Jaxpr, body_jaxpr: Jaxpr, cond_nconsts: int, body_nconsts: int
) -> list[Any]:
    return body_jaxpr.out_avals


def _while_eager(
    xp: Any,
    *buffers: Any,
    cond_jaxpr: Jaxpr,
    body_jaxpr: Jaxpr,
    cond_nconsts: int,
    body_nconsts: int,
) -> list[Any]:
    cond_consts, body_consts, carry = _split(
        [ArrayImpl(b) for b in buffers], cond_nconsts, body_nconsts
    )
    while bool(eval_jaxpr(cond_jaxpr, *cond_consts, *carry)[0]._data):
        carry = eval_jaxpr(body_jaxpr, *body_consts, *carry)
    return [c._data for c in carry]


def _while_jvp(
    primals: Any,
    tangents: Any,
    *,
    cond_jaxpr: Jaxpr,
    body_jaxpr: Jaxpr,
    cond_nconsts: int,
    body_nconsts: int,
) -> tuple[list[Any], list[Any]]:
    cond_consts, body_consts, init = _split(primals, cond_nconsts, body_nconsts)
    _, t_consts, t_init = _split(tangents, cond_nconsts, body_nconsts)
    nz_consts = [t is not None for t in t_consts]
    nz_carry = _fixpoint(
        [t is not None for t in t_init], lambda c: jvp_program(body_jaxpr, (*nz_consts, *c), c).note
    )
    program = jvp_program(body_jaxpr, (*nz_consts, *nz_carry), nz_carry)
    ts = [
        zeros(aval_of(p).tangent()) if t is None and nz else t
        for p, t, nz in zip(init, t_init, nz_carry, strict=True)
    ]
    tc, ti = [t for t in t_consts if t is not None], [t for t in ts if t is not None]
    sizes = [len(program.consts), len(body_consts), len(init), len(tc), len(ti)]
    k_, c_, i_, tc_, ti_ = _split(range(sum(sizes)), *sizes[:-1])
    body = _reordered(program.jaxpr, [*k_, *c_, *tc_, *i_, *ti_], range(len(init) + len(ti)))
    key = ("while_cond", len(ti), tuple(a.shape for a in program.jaxpr.in_avals), nz_carry)
    if key not in cond_jaxpr.memo:
        n = len(cond_jaxpr.invars)
        cond_jaxpr.memo[key] = stage_hoisted(
            lambda *args: eval_jaxpr(cond_jaxpr, *args[:n]),
            [*cond_jaxpr.in_avals, *[aval_of(t) for t in ti]],
        )[0]
    outs = while_p.bind(
        *cond_consts,
        *program.consts,
        *body_consts,
        *tc,
        *init,
        *ti,
        cond_jaxpr=cond_jaxpr.memo[key],
        body_jaxpr=body,
        cond_nconsts=cond_nconsts,
        body_nconsts=len(program.consts) + len(body_consts) + len(tc),
    )
    n = len(init)
    touts = iter(outs[n:])
    return outs[:n], [next(touts) if nz else None for nz in nz_carry]


def _while_linearize(primals: Any, nonzero: Any, **params: Any) -> Any:
    raise ValueError(
        "reverse-mode differentiation (grad, vjp) cannot go through while_loop, or fori_loop with "
        "traced bounds: the number "
        f"of steps, and so the memory needed, is not known (used at {user_frame()}). Use scan, or "
        "fori_loop with bounds "
        "that are Python ints; forward mode (jvp, jacfwd) works through while_loop"
    )


def _while_batch(
    axis: Axis,
    args: Any,
    batched: Any,
    *,
    cond_jaxpr: Jaxpr,
    body_jaxpr: Jaxpr,
    cond_nconsts: int,
    body_nconsts: int,
) -> tuple[list[Any], list[bool]]:
    b_cond, b_body, b_init = _split(batched, cond_nconsts, body_nconsts)
    cond_consts, body_consts, init = _split(args, cond_nconsts, body_nconsts)
    b_carry = _fixpoint(b_init, lambda c: batch_program(body_jaxpr, axis, (*b_body, *c), c).note)
    pred_batched = batch_program(cond_jaxpr, axis, (*b_cond, *b_carry)).note[0]
    if pred_batched:
        b_carry = (True,) * len(init)
    body = batch_program(body_jaxpr, axis, (*b_body, *b_carry), b_carry)
    cond = batch_program(cond_jaxpr, axis, (*b_cond, *b_carry))
    init = [
        spread(x, axis.size) if now and not was else x
        for x, was, now in zip(init, b_init, b_carry, strict=True)
    ]
    if not pred_batched:
        outs = while_p.bind(
            *cond.consts,
            *cond_consts,
            *body.consts,
            *body_consts,
            *init,
            cond_jaxpr=cond.jaxpr,
            body_jaxpr=body.jaxpr,
            cond_nconsts=len(cond.consts) + cond_nconsts,
            body_nconsts=len(body.consts) + body_nconsts,
        )
        return outs, list(b_carry)
    n_cond, n_body = len(cond.consts) + cond_nconsts, len(body.consts) + body_nconsts

    def any_lane(*xs: Any) -> list[Any]:
        return [reduce_or(eval_jaxpr(cond.jaxpr, *xs)[0], axes=(0,))]

    def masked(*xs: Any) -> list[Any]:
        cond_args, body_args, carry = _split(xs, n_cond, n_body)
        going = eval_jaxpr(cond.jaxpr, *cond_args, *carry)[0]
        new = eval_jaxpr(body.jaxpr, *body_args, *carry)
        return [
            select(broadcast_in_dim(going, shape=x.shape, dims=(0,)), x, old)
            for x, old in zip(new, carry, strict=True)
        ]

    carry_avals = [aval_of(x) for x in init]
    cond_avals = [aval_of(x) for x in (*cond.consts, *cond_consts)]
    body_avals = [aval_of(x) for x in (*body.consts, *body_consts)]
    cond_all, _ = stage_hoisted(any_lane, [*cond_avals, *carry_avals])
    body_all, _ = stage_hoisted(masked, [*cond_avals, *body_avals, *carry_avals])
    cond_args = [*cond.consts, *cond_consts]
    outs = while_p.bind(
        *cond_args,
        *cond_args,
        *body.consts,
        *body_consts,
        *init,
        cond_jaxpr=cond_all,
        body_jaxpr=body_all,
        cond_nconsts=n_cond,
        body_nconsts=n_cond + n_body,
    )
    return outs, [True] * len(outs)


while_p.type, while_p.eager, while_p.jvp, while_p.linearize = (
    _while_type,
    _while_eager,
    _while_jvp,
    _while_linearize,
)
while_p.batch = _while_batch
while_p.none["transpose"] = (
    "the number of steps is not known; use scan, or fori_loop with Python int bounds"
)


def while_loop(
    cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any
) -> Any:
    """Loop while ``cond_fun(value)`` holds: ``value = body_fun(value)``.

    Args:
        cond_fun: a function of the carried value that returns a boolean scalar.
        body_fun: a function that returns the next value, of the same structure, shapes and dtypes.
        init_val: pytree of arrays.

    Returns:
        The last value. Forward-mode differentiable only.

    Example:
        >>> import funtorch as ft
        >>> int(ft.lax.while_loop(lambda n: n < 100, lambda n: n * 2, 1))
        128
    """
    check_callable(cond_fun, "while_loop")
    check_callable(body_fun, "while_loop")
    leaves, treedef = tree.flatten(init_val)
    carry = as_arrays(leaves, "init_val", body_fun)
    args_tree = tree.structure(((treedef.unflatten(carry),), {}))
    for _ in range(2):
        body, out_tree = stage_tree(body_fun, args_tree, [c.aval for c in carry])
        if out_tree != treedef:
            raise TypeError(
                f"while_loop: the body {function_name(body_fun)} must return the structure it "
                "takes: given "
                f"{treedef}, returned {out_tree}"
            )
        carry = [
            c.astype(o.dtype) if c.weak_type and c.dtype != o.dtype else c
            for c, o in zip(carry, body.out_avals, strict=True)
        ]
    check_carry("while_loop", body_fun, carry, treedef, body.out_avals)
    cond, _ = stage_tree(cond_fun, args_tree, [c.aval for c in carry])
    outs = cond.out_avals
    if len(outs) != 1 or outs[0].shape or outs[0].dtype != np.bool_:
        raise TypeError(
            f"while_loop: the condition {function_name(cond_fun)} must return one boolean scalar, "
            "got "
            f"{', '.join(a.str_short() for a in outs) or 'nothing'}"
        )
    results = while_p.bind(
        *cond.consts,
        *body.consts,
        *carry,
        cond_jaxpr=cond.hoisted(),
        body_jaxpr=body.hoisted(),
        cond_nconsts=len(cond.consts),
        body_nconsts=len(body.consts),
    )
    return treedef.unflatten(results)


def fori_loop(
    lower: Any,
    upper: Any,
    body_fun: Callable[[Any, Any], Any],
    init_val: Any,
    *,
    unroll: int | bool | None = None,
) -> Any:
    """Loop over ``i`` in ``range(lower, upper)``: ``value = body_fun(i, value)``.

    With bounds known as Python ints the loop is a scan and reverse-differentiable; with traced
    bounds it is a while_loop.

    Example:
        >>> import funtorch as ft
        >>> float(ft.lax.fori_loop(0, 5, lambda i, s: s + i, 0.0))
        10.0
    """
    check_callable(body_fun, "fori_loop")
    if not any(isinstance(b, Tracer) and b.concrete() is None for b in (lower, upper)):
        lo, hi = (int(concrete_or_error(b, "int")) for b in (lower, upper))
        first = scalar(lo, np.int32)

        def step(carry: Any, _: Any) -> Any:
            i, value = carry
            return (add(i, scalar(1, np.int32)), body_fun(i, value)), None

        step.__wrapped__ = body_fun  # type: ignore[attr-defined]
        return scan(step, (first, init_val), None, length=max(hi - lo, 0))[0][1]
    lower, upper = as_arrays([lower, upper], "bounds", body_fun)
    dtype = upper.dtype if lower.weak_type else lower.dtype
    lower, upper = lower.astype(dtype), upper.astype(dtype)

    def body(carry: Any) -> Any:
        i, value = carry
        return add(i, scalar(1, dtype)), body_fun(i, value)

    body.__wrapped__ = body_fun  # type: ignore[attr-defined]
    return while_loop(lambda carry: lt(carry[0], upper), body, (lower, init_val))[1]
