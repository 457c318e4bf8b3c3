"""`scan` and `map`: a loop over the leading axis is one primitive whose body is a jaxpr.

Its rules run the re-traced body in a loop again.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch import dtypes
from funtorch.core import LinearArg, Primitive, ShapedArray, aval_of
from funtorch.errors import JaxprTypeError
from funtorch.jaxpr import Jaxpr, check_gives, check_takes, dependent, eval_jaxpr
from funtorch.ops.elementwise import add
from funtorch.ops.families import spread, zeros
from funtorch.ops.shape import concatenate, reshape
from funtorch.ops.shape import slice as slice_
from funtorch.origins import call_named
from funtorch.placement import array_of, buffer_of

from .arguments import as_arrays, check_callable, function_name
from .batching import Axis, move_axis, vmap
from .forward import is_differentiable
from .references import Bridge, Crossing, bridged
from .restage import (
    batch_program,
    divide_program,
    fixpoint,
    jvp_program,
    linearize_program,
    pick,
    reordered,
    split,
    stage_hoisted,
    transpose_program,
)
from .staging import stage_tree
from .varying import given

__all__ = ["check_carry", "is_counting", "map", "scan", "scan_p"]


# --------------------------------------------------------------------------------------------- scan
scan_p = Primitive("scan", multiple_results=True, keeps_weak=True)


def _scan_type(
    *avals: Any, jaxpr: Jaxpr, num_consts: int, num_carry: int, length: int, reverse: bool
) -> list[Any]:
    outs, first = jaxpr.out_avals, num_consts + num_carry
    if min(num_consts, num_carry, length) < 0 or any(
        a.shape[:1] != (length,) for a in avals[first:]
    ):
        shown = ", ".join(a.str_short() for a in avals[first:])
        raise JaxprTypeError(f"a scan of length {length} reads {shown or 'nothing'}")
    read = [a.update(shape=a.shape[1:]) for a in avals[first:]]
    check_takes("the body of a scan", jaxpr, [*avals[:first], *read])
    carry = Jaxpr([], [], jaxpr.outvars[:num_carry])
    check_gives("the body of a scan", carry, avals[num_consts:first])
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
    consts, carry, xs = split(buffers, num_consts, num_carry)
    consts = [array_of(c) for c in consts]
    carry = [array_of(c) for c in carry]
    ys = [xp.empty((length, *a.shape), a.dtype) for a in jaxpr.out_avals[num_carry:]]
    for i in reversed(range(length)) if reverse else range(length):
        outs = eval_jaxpr(jaxpr, *consts, *carry, *[array_of(x[i]) for x in xs])
        carry = outs[:num_carry]
        for y, o in zip(ys, outs[num_carry:], strict=True):
            y[i] = buffer_of(o)
    return [*[buffer_of(c) for c in carry], *ys]


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
    nz_consts, nz_init, nz_xs = split(nz, num_consts, num_carry)
    no_ys = (False,) * (len(jaxpr.outvars) - num_carry)
    nz_carry = fixpoint(
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
    c, i, x = split(primals, num_consts, num_carry)
    tc, ti, tx = ([t for t in part if t is not None] for part in split(ts, num_consts, num_carry))
    sizes = [len(part) for part in (program.consts, c, i, x, tc, ti, tx)]
    k_, c_, i_, x_, tc_, ti_, tx_ = split(range(sum(sizes)), *sizes[:-1])
    n_out = len(jaxpr.outvars)
    t_out = list(range(n_out, n_out + sum(program.note)))
    n_tc = sum(nz_carry)
    body = reordered(
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
    carry, tcarry, ys, tys = split(results, num_carry, n_tc, n_out - num_carry)
    touts = iter([*tcarry, *tys])
    return [*carry, *ys], [next(touts) if a else None for a in program.note]


def _bind_rest(
    body: Jaxpr,
    residuals: Sequence[Any],
    consts: Sequence[Any],
    init: Sequence[Any],
    xs: Sequence[Any],
    **loop: Any,
) -> list[Any]:
    """Run a loop over what another one left step by step, which its body takes first."""
    r_, c_, i_, x_ = split(range(len(body.invars)), len(residuals), len(consts), len(init))
    return scan_p.bind(
        *consts,
        *init,
        *residuals,
        *xs,
        jaxpr=reordered(body, [*c_, *i_, *r_, *x_], range(len(body.outvars))),
        num_consts=len(consts),
        num_carry=len(init),
        **loop,
    )


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
    nz_consts, nz_init, nz_xs = split(nonzero, num_consts, num_carry)
    no_ys = (False,) * (len(jaxpr.outvars) - num_carry)
    nz_carry = fixpoint(
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
        tc, ti, tx = split(tangents, sum(nz_consts), sum(nz_init))
        given = iter(ti)
        ti = [
            next(given) if was else zeros(a.tangent())
            for was, now, a in zip(nz_init, nz_carry, init_avals, strict=True)
            if now
        ]
        touts = iter(_bind_rest(linear_body, residuals, tc, ti, tx, length=length, reverse=reverse))
        return [next(touts) if a else None for a in active]

    return outs, linear


def _scan_transpose(
    cts: Any, *args: Any, jaxpr: Jaxpr, num_consts: int, num_carry: int, length: int, reverse: bool
) -> list[Any]:
    lin = [type(a) is LinearArg for a in args]
    lin_consts, lin_init, lin_xs = split(lin, num_consts, num_carry)
    consts, init, xs = split(args, num_consts, num_carry)
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
    res_c, res_x = pick(consts, [not f for f in lin_consts]), pick(xs, [not f for f in lin_xs])
    body_avals = jaxpr.in_avals
    c_avals, carry_avals, x_avals = split(body_avals, num_consts, num_carry)
    lin_c_avals = pick(c_avals, lin_consts)
    program = transpose_program(jaxpr, tuple(lin), (True,) * len(jaxpr.outvars), force=True)
    n_k, n_rc, n_rx, n_lc = len(program.consts), len(res_c), len(res_x), len(lin_c_avals)

    def body(*args: Any) -> list[Any]:
        k, rc, acc, ct_carry, rx, ct_ys = split(args, n_k, n_rc, n_lc, num_carry, n_rx)
        found = eval_jaxpr(program.jaxpr, *k, *rc, *rx, *ct_carry, *ct_ys)
        ct_c, ct_carry, ct_x = split(found, n_lc, num_carry)
        return [*[add(a, c) for a, c in zip(acc, ct_c, strict=True)], *ct_carry, *ct_x]

    y_avals = jaxpr.out_avals[num_carry:]
    avals = [
        *[aval_of(k) for k in program.consts],
        *pick(c_avals, [not f for f in lin_consts]),
        *lin_c_avals,
        *[a.tangent() for a in carry_avals],
        *pick(x_avals, [not f for f in lin_xs]),
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
    ct_c, ct_init, ct_xs = split(results, n_lc, num_carry)
    given_c, given_x = iter(ct_c), iter(ct_xs)
    return [
        *[next(given_c) if f else None for f in lin_consts],
        *[ct if f else None for ct, f in zip(ct_init, lin_init, strict=True)],
        *[next(given_x) if f else None for f in lin_xs],
    ]


def _scan_depends(flags: Any, *, jaxpr: Jaxpr, num_consts: int, num_carry: int, **_: Any) -> Any:
    f_consts, f_init, f_xs = split(flags, num_consts, num_carry)
    f_carry = fixpoint(f_init, lambda c: dependent(jaxpr, (*f_consts, *c, *f_xs))[:num_carry])
    return (*f_carry, *dependent(jaxpr, (*f_consts, *f_carry, *f_xs))[num_carry:])


def _scan_divide(
    flags: Any,
    args: Any,
    *,
    jaxpr: Jaxpr,
    num_consts: int,
    num_carry: int,
    length: int,
    reverse: bool,
) -> list[Any]:
    """Run the independent carries in a loop of their own, which leaves residuals step by step."""
    f_consts, _, f_xs = split(flags, num_consts, num_carry)
    force = _scan_depends(flags, jaxpr=jaxpr, num_consts=num_consts, num_carry=num_carry)
    f_carry = force[:num_carry]
    known, rest, depends = divide_program(jaxpr, (*f_consts, *f_carry, *f_xs), force)
    loop: dict[str, Any] = {"length": length, "reverse": reverse}
    consts, init, xs = split(args, num_consts, num_carry)
    marks = (f_consts, f_carry, f_xs)
    parts = list(zip((consts, init, xs), marks, strict=True))
    kc, ki, kx = (pick(part, [not f for f in mark]) for part, mark in parts)
    found = scan_p.bind(
        *known.consts,
        *kc,
        *ki,
        *kx,
        jaxpr=known.jaxpr,
        num_consts=len(known.consts) + len(kc),
        num_carry=len(ki),
        **loop,
    )
    n_known = depends.count(False)
    residuals = found[n_known:]
    dc, di, dx = (pick(part, mark) for part, mark in parts)
    others = _bind_rest(rest, residuals, dc, di, dx, length=length, reverse=reverse)
    independent, dependents = iter(found), iter(others)
    return [next(dependents) if d else next(independent) for d in depends]


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
    b_consts, b_init, b_xs = split(batched, num_consts, num_carry)
    no_ys = (False,) * (len(jaxpr.outvars) - num_carry)
    b_carry = fixpoint(
        b_init,
        lambda c: batch_program(jaxpr, axis, (*b_consts, *c, *b_xs), (*c, *no_ys)).note[:num_carry],
    )
    program = batch_program(jaxpr, axis, (*b_consts, *b_carry, *b_xs), (*b_carry, *no_ys))
    consts, init, xs = split(args, num_consts, num_carry)
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
scan_p.depends, scan_p.divide = _scan_depends, _scan_divide


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    _split_transpose: bool = False,
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
    if not isinstance(unroll, (bool, np.bool_)) and operator.index(unroll) < 0:
        raise ValueError(f"scan: unroll must be a bool or a whole number from 0, got {unroll!r}")
    x_leaves, x_tree = tree.flatten(xs)
    xs_flat = as_arrays(x_leaves, "xs", f)
    length = _scan_length(f, xs_flat, length)
    init_leaves, init_tree = tree.flatten(init)
    carry = as_arrays(init_leaves, "init", f)
    x_avals = [a.aval.update(shape=a.shape[1:]) for a in xs_flat]
    try:
        with given([*carry, *xs_flat]):
            jaxpr, carry = stage_body(f, carry, init_tree, x_avals, x_tree)
    except Crossing as crossing:
        return bridged(functools.partial(_with_refs, f, init, xs, length, reverse), crossing)
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


def _with_refs(
    f: Callable[..., Any], init: Any, xs: Any, length: int, reverse: bool, bridge: Bridge
) -> tuple[Any, Any]:
    def body(carry: Any, x: Any) -> Any:
        state, own = carry
        state, pair = bridge.run(state, f, own, x)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(
                f"the body of scan, {function_name(f)}, must return a pair (carry, y), got "
                f"{type(pair).__name__}"
            )
        return (state, pair[0]), pair[1]

    body.__wrapped__ = f  # type: ignore[attr-defined]
    (state, carry), ys = scan(body, (bridge.state(), init), xs, length, reverse)
    bridge.write(state)
    return carry, ys


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
            c.astype(o.dtype)
            if c.dtype != o.dtype
            and c.shape == o.shape
            and dtypes.adapts(c.dtype, c.weak_type, o.dtype)
            else c
            for c, o in zip(carry, outs, strict=True)
        ]
        if all(p is c for p, c in zip(promoted, carry, strict=True)):
            break
        carry = promoted
    check_carry("scan", f, carry, carry_tree, jaxpr.out_avals[: len(carry)])
    jaxpr.memo["out_tree"] = out_tree
    return jaxpr, carry


def is_counting(f: Any) -> bool:
    """Tell whether a body is one of `fori_loop`, whose carry is (number, the user's carry)."""
    return getattr(f, "_counts", False)


def check_carry(
    what: str, f: Any, carry: Sequence[Any], carry_tree: Any, outs: Sequence[Any]
) -> None:
    """Raise the error that names every carry whose type changes from one step to the next."""
    counts = is_counting(f)
    what = "fori_loop" if counts else what
    paths = [path for path, _ in tree.leaves_with_path(carry_tree.unflatten(list(carry)))]
    paths = [path[1:] for path in paths] if counts else paths  # its number is not the user's
    pairs = list(zip(carry, outs, strict=True))
    wrong = [
        f"  carry{tree.keystr(path)} goes in as {c.aval.str_short()} and comes out as "
        f"{o.str_short()}"
        for path, (c, o) in zip(paths, pairs, strict=True)
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
                    *([_NUMBERS] if any(_widened(c, o) for c, o in pairs) else []),
                ]
            )
        )


_NUMBERS = (
    "NumPy's own numbers are float64: np.sqrt(2.0) * x is, where float(np.sqrt(2.0)) * x and "
    "math.sqrt(2.0) * x keep the dtype of x."
)


def _widened(c: Any, o: Any) -> bool:
    """Tell whether float32 has become float64, or the like."""
    return o.dtype in (dtypes.float64, dtypes.complex128) and dtypes.promote(
        c.dtype, False, o.dtype, False
    ) == (o.dtype, False) != (c.dtype, False)


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

        def step(_: Any, x: Any) -> Any:
            return (), call_named(f, (x,), {})

        step.__wrapped__ = f  # type: ignore[attr-defined]
        return scan(step, (), xs)[1]
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
