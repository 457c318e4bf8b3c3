"""`while_loop` and `fori_loop`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch import dtypes
from funtorch.core import Primitive, ShapedArray, Tracer, aval_of, concrete_or_error, truth
from funtorch.errors import JaxprTypeError
from funtorch.jaxpr import Jaxpr, Var, check_gives, check_takes, eval_jaxpr, stage
from funtorch.ops.elementwise import add, convert, lt, select
from funtorch.ops.families import broadcast_in_dim, scalar, spread, zeros
from funtorch.ops.reduce import reduce_or, reduce_sum
from funtorch.ops.shape import concatenate, reshape
from funtorch.ops.shape import slice as slice_
from funtorch.origins import call_named
from funtorch.placement import array_of, buffer_of

from .arguments import as_arrays, check_callable, function_name
from .batching import Axis
from .lanes import check_effects, map_lanes, suits_lanes
from .references import Bridge, Crossing, bridged
from .restage import batch_program, fixpoint, jvp_program, reordered, split, stage_hoisted
from .rewind import COUNT, rewound_p
from .scan import check_carry, scan
from .staging import stage_tree
from .varying import given

__all__ = ["fori_loop", "run_while", "while_loop", "while_p"]


# -------------------------------------------------------------------------------------------- while
while_p = Primitive("while", multiple_results=True, keeps_weak=True)


def _while_type(
    *avals: Any, cond_jaxpr: Jaxpr, body_jaxpr: Jaxpr, cond_nconsts: int, body_nconsts: int
) -> list[Any]:
    if min(cond_nconsts, body_nconsts) < 0:
        raise JaxprTypeError("the number of a while loop's constants is negative")
    own, rest = avals[:cond_nconsts], avals[cond_nconsts:]
    carry = rest[body_nconsts:]
    check_takes("the condition of a while loop", cond_jaxpr, [*own, *carry])
    check_gives("the condition of a while loop", cond_jaxpr, [_TRUTH])
    check_takes("the body of a while loop", body_jaxpr, rest)
    check_gives("the body of a while loop", body_jaxpr, carry)
    return body_jaxpr.out_avals


_TRUTH = ShapedArray((), np.dtype(np.bool_))


def run_while(
    buffers: Sequence[Any],
    cond_jaxpr: Jaxpr,
    body_jaxpr: Jaxpr,
    cond_nconsts: int,
    body_nconsts: int,
    steps: float = math.inf,
) -> tuple[bool, list[Any]]:
    """Run a loop equation by equation; return whether it ended within ``steps``, and the carry."""
    cond_consts, body_consts, carry = split(
        [array_of(b) for b in buffers], cond_nconsts, body_nconsts
    )
    while going := truth(eval_jaxpr(cond_jaxpr, *cond_consts, *carry)[0]):
        if steps <= 0:
            break
        carry = eval_jaxpr(body_jaxpr, *body_consts, *carry)
        steps -= 1
    return not going, [buffer_of(c) for c in carry]


def _while_eager(xp: Any, *buffers: Any, **params: Any) -> list[Any]:
    return run_while(buffers, **params)[1]


def _while_jvp(
    primals: Any,
    tangents: Any,
    *,
    cond_jaxpr: Jaxpr,
    body_jaxpr: Jaxpr,
    cond_nconsts: int,
    body_nconsts: int,
) -> tuple[list[Any], list[Any]]:
    cond_consts, body_consts, init = split(primals, cond_nconsts, body_nconsts)
    _, t_consts, t_init = split(tangents, cond_nconsts, body_nconsts)
    nz_consts = [t is not None for t in t_consts]
    nz_carry = fixpoint(
        [t is not None for t in t_init], lambda c: jvp_program(body_jaxpr, (*nz_consts, *c), c).note
    )
    program = jvp_program(body_jaxpr, (*nz_consts, *nz_carry), nz_carry)
    ts = [
        zeros(aval_of(p).tangent()) if t is None and nz else t
        for p, t, nz in zip(init, t_init, nz_carry, strict=True)
    ]
    tc, ti = [t for t in t_consts if t is not None], [t for t in ts if t is not None]
    sizes = [len(program.consts), len(body_consts), len(init), len(tc), len(ti)]
    k_, c_, i_, tc_, ti_ = split(range(sum(sizes)), *sizes[:-1])
    body = reordered(program.jaxpr, [*k_, *c_, *tc_, *i_, *ti_], range(len(init) + len(ti)))
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


def _while_linearize(
    primals: Any,
    nonzero: Any,
    *,
    cond_jaxpr: Jaxpr,
    body_jaxpr: Jaxpr,
    cond_nconsts: int,
    body_nconsts: int,
) -> Any:
    """Count the steps; the linear map does them again."""
    cond_consts, body_consts, init = split(primals, cond_nconsts, body_nconsts)
    _, nz_consts, nz_init = split(nonzero, cond_nconsts, body_nconsts)
    nz_carry = fixpoint(nz_init, lambda c: jvp_program(body_jaxpr, (*nz_consts, *c), c).note)
    if "counted" not in body_jaxpr.memo:
        n_consts = body_nconsts
        count = ShapedArray((), COUNT)
        avals = body_jaxpr.in_avals

        def step(*xs: Any) -> list[Any]:
            consts, (i, *carry) = split(xs, n_consts)
            return [add(i, scalar(1, COUNT)), *eval_jaxpr(body_jaxpr, *consts, *carry)]

        body_jaxpr.memo["counted"] = stage(step, [*avals[:n_consts], count, *avals[n_consts:]])
    ins, at = cond_jaxpr.invars, cond_nconsts
    goes_on = Jaxpr(
        [*ins[:at], Var(ShapedArray((), COUNT)), *ins[at:]], cond_jaxpr.eqns, cond_jaxpr.outvars
    )
    n, *outs = while_p.bind(
        *cond_consts,
        *body_consts,
        scalar(0, COUNT),
        *init,
        cond_jaxpr=goes_on,
        body_jaxpr=body_jaxpr.memo["counted"],
        cond_nconsts=cond_nconsts,
        body_nconsts=body_nconsts,
    )

    def linear(*tangents: Any) -> list[Any]:
        _, tc, ti = split(tangents, sum(nonzero[:cond_nconsts]), sum(nz_consts))
        given = iter(ti)
        ti = [
            next(given) if was else zeros(aval_of(x).tangent())
            for was, now, x in zip(nz_init, nz_carry, init, strict=True)
            if now
        ]
        touts = iter(
            rewound_p.bind(
                n,
                *body_consts,
                *init,
                *tc,
                *ti,
                body=body_jaxpr,
                nz_consts=tuple(nz_consts),
                nz_carry=nz_carry,
            )
        )
        return [next(touts) if nz else None for nz in nz_carry]

    return outs, linear


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
    b_cond, b_body, b_init = split(batched, cond_nconsts, body_nconsts)
    cond_consts, body_consts, init = split(args, cond_nconsts, body_nconsts)
    b_carry = fixpoint(b_init, lambda c: batch_program(body_jaxpr, axis, (*b_body, *c), c).note)
    pred_batched = batch_program(cond_jaxpr, axis, (*b_cond, *b_carry)).note[0]
    if pred_batched:
        check_effects("while_loop, whose lanes end at different steps,", cond_jaxpr, body_jaxpr)
        b_carry = (True,) * len(init)
    if pred_batched and ("check" in cond_jaxpr.effects or "check" in body_jaxpr.effects):
        loop: dict[str, Any] = {"cond_jaxpr": cond_jaxpr, "body_jaxpr": body_jaxpr}
        loop |= {"cond_nconsts": cond_nconsts, "body_nconsts": body_nconsts}
        # A lane that has ended is not checked any more.
        outs = map_lanes(lambda *xs: while_p.bind(*xs, **loop), args, batched, axis.size)
        return outs, [True] * len(outs)
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
    if suits_lanes(axis, cond_jaxpr, body_jaxpr):
        flags = (*b_cond, *b_body, *b_carry)
        args = [*cond_consts, *body_consts, *init]
        params = {"cond_jaxpr": cond_jaxpr, "body_jaxpr": body_jaxpr}
        outs = _over_lanes(axis.size, args, flags, cond_nconsts, body_nconsts, **params)
    else:
        cond_args, body_args = [*cond.consts, *cond_consts], [*body.consts, *body_consts]
        outs = _lock_step(cond.jaxpr, body.jaxpr, cond_args, body_args, init, 0)
    return outs, [True] * len(outs)


def _lock_step(
    cond: Jaxpr,
    body: Jaxpr,
    cond_args: Sequence[Any],
    body_args: Sequence[Any],
    init: Sequence[Any],
    few: int,
) -> list[Any]:
    """Run a batched loop, all lanes at once, while more than ``few`` of them go on."""
    n_cond, n_body = len(cond_args), len(body_args)

    def more(*xs: Any) -> list[Any]:
        going = eval_jaxpr(cond, *xs)[0]
        if not few:
            return [reduce_or(going, axes=(0,))]
        count = convert(going, dtype=np.dtype(np.int32), weak_type=False)
        return [lt(scalar(few, np.int32), reduce_sum(count, axes=(0,)))]

    def masked(*xs: Any) -> list[Any]:
        conds, bodies, carry = split(xs, n_cond, n_body)
        going = eval_jaxpr(cond, *conds, *carry)[0]
        new = eval_jaxpr(body, *bodies, *carry)
        return [
            select(broadcast_in_dim(going, shape=x.shape, dims=(0,)), x, old)
            for x, old in zip(new, carry, strict=True)
        ]

    conds, bodies, carry = ([aval_of(x) for x in xs] for xs in (cond_args, body_args, init))
    cond_all, _ = stage_hoisted(more, [*conds, *carry])
    body_all, _ = stage_hoisted(masked, [*conds, *bodies, *carry])
    return while_p.bind(
        *cond_args,
        *cond_args,
        *body_args,
        *init,
        cond_jaxpr=cond_all,
        body_jaxpr=body_all,
        cond_nconsts=n_cond,
        body_nconsts=n_cond + n_body,
    )


_BLOCK = 128  # lanes that run in lock step while most of them go on
_MOST = 8  # one of how many lanes must go on for that
_NARROW = 32  # elements that the carries of a lane may have for that


def _over_lanes(
    size: int,
    args: Sequence[Any],
    batched: Sequence[bool],
    cond_nconsts: int,
    body_nconsts: int,
    *,
    cond_jaxpr: Jaxpr,
    body_jaxpr: Jaxpr,
) -> list[Any]:
    """Run a batched loop as a loop over the lanes, so that none waits for another.

    Lanes of few elements go in blocks, which run in lock step, vectorised, while most of a block's
    lanes go on; what is left of them runs one by one, from where they are.
    """

    def each(*xs: Any) -> list[Any]:
        return while_p.bind(
            *xs,
            cond_jaxpr=cond_jaxpr,
            body_jaxpr=body_jaxpr,
            cond_nconsts=cond_nconsts,
            body_nconsts=body_nconsts,
        )

    narrow = sum(a.size for a in body_jaxpr.out_avals) <= _NARROW
    if not narrow or size < _MOST:
        return map_lanes(each, args, batched, size)
    width = min(size, _BLOCK)
    b_cond, b_body, b_carry = split(batched, cond_nconsts, body_nconsts)
    axis = Axis(width)
    cond = batch_program(cond_jaxpr, axis, (*b_cond, *b_carry), (True,))
    body = batch_program(body_jaxpr, axis, (*b_body, *b_carry), tuple(b_carry))

    def block(*xs: Any) -> list[Any]:
        conds, bodies, carry = split(xs, cond_nconsts, body_nconsts)
        cond_args, body_args = [*cond.consts, *conds], [*body.consts, *bodies]
        few = width // _MOST
        carry = _lock_step(cond.jaxpr, body.jaxpr, cond_args, body_args, carry, few)
        return map_lanes(each, [*conds, *bodies, *carry], batched, width)

    whole = size // width * width
    parts = []
    if whole:
        cut = [_blocks(x, whole, width) if b else x for x, b in zip(args, batched, strict=True)]
        found = map_lanes(block, cut, batched, whole // width)
        parts.append([reshape(x, shape=(whole, *x.shape[2:])) for x in found])
    if whole < size:
        rest = [_lanes(x, whole, size) if b else x for x, b in zip(args, batched, strict=True)]
        parts.append(map_lanes(each, rest, batched, size - whole))
    if len(parts) == 1:
        return parts[0]
    return [concatenate(*column, axis=0) for column in zip(*parts, strict=True)]


def _lanes(x: Any, start: int, stop: int) -> Any:
    zeros = (0,) * (x.ndim - 1)
    return slice_(x, start=(start, *zeros), limit=(stop, *x.shape[1:]), stride=(1,) * x.ndim)


def _blocks(x: Any, stop: int, width: int) -> Any:
    return reshape(_lanes(x, 0, stop), shape=(stop // width, width, *x.shape[1:]))


while_p.type, while_p.eager, while_p.jvp, while_p.linearize = (
    _while_type,
    _while_eager,
    _while_jvp,
    _while_linearize,
)
while_p.batch = _while_batch
while_p.none["transpose"] = "a loop whose end depends on values is not linear"


def while_loop(
    cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any
) -> Any:
    """Loop while ``cond_fun(value)`` holds: ``value = body_fun(value)``.

    Args:
        cond_fun: a function of the carried value that returns a boolean scalar.
        body_fun: a function that returns the next value, of the same structure, shapes and dtypes.
        init_val: pytree of arrays.

    Returns:
        The last value. Reverse-mode differentiation does the steps again, twice, and keeps about
        ``2 sqrt(n)`` values for n steps.

    Example:
        >>> import funtorch as ft
        >>> int(ft.lax.while_loop(lambda n: n < 100, lambda n: n * 2, 1))
        128
    """
    check_callable(cond_fun, "while_loop")
    check_callable(body_fun, "while_loop")
    try:
        return _while_loop(cond_fun, body_fun, init_val)
    except Crossing as crossing:
        return bridged(functools.partial(_with_refs, cond_fun, body_fun, init_val), crossing)


def _with_refs(
    cond_fun: Callable[..., Any], body_fun: Callable[..., Any], init_val: Any, bridge: Bridge
) -> Any:
    def test(carry: Any) -> Any:
        after, answer = bridge.run(carry[0], cond_fun, carry[1])
        if any(x is not y for x, y in zip(after, carry[0], strict=True)):
            raise TypeError(
                f"while_loop: the condition {function_name(cond_fun)} writes a Ref, which only "
                "the body may do"
            )
        return answer

    def body(carry: Any) -> Any:
        return bridge.run(carry[0], body_fun, carry[1])

    body.__wrapped__ = body_fun  # type: ignore[attr-defined]
    state, value = _while_loop(test, body, (bridge.state(), init_val))
    bridge.write(state)
    return value


def _while_loop(
    cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any
) -> Any:
    leaves, treedef = tree.flatten(init_val)
    carry = as_arrays(leaves, "init_val", body_fun)
    args_tree = tree.structure(((treedef.unflatten(carry),), {}))
    for _ in range(2):
        with given(carry):
            body, out_tree = stage_tree(body_fun, args_tree, [c.aval for c in carry])
        if out_tree != treedef:
            raise TypeError(
                f"while_loop: the body {function_name(body_fun)} must return the structure it "
                "takes: given "
                f"{treedef}, returned {out_tree}"
            )
        carry = [
            c.astype(o.dtype)
            if c.dtype != o.dtype and dtypes.adapts(c.dtype, c.weak_type, o.dtype)
            else c
            for c, o in zip(carry, body.out_avals, strict=True)
        ]
    check_carry("while_loop", body_fun, carry, treedef, body.out_avals)
    with given(carry):
        cond, cond_tree = stage_tree(cond_fun, args_tree, [c.aval for c in carry])
    outs = cond.out_avals
    if len(outs) != 1 or outs[0].shape or outs[0].dtype != np.bool_ or cond_tree.children():
        found = ", ".join(a.str_short() for a in outs) or "nothing"
        raise TypeError(
            f"while_loop: the condition {function_name(cond_fun)} must return one boolean scalar, "
            f"got {f'{cond_tree} of {found}' if cond_tree.children() else found}"
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

    With bounds known as Python ints the loop is a scan; with traced bounds it is a while_loop.

    Example:
        >>> import funtorch as ft
        >>> float(ft.lax.fori_loop(0, 5, lambda i, s: s + i, 0.0))
        10.0
    """
    check_callable(body_fun, "fori_loop")
    lower, upper = as_arrays([lower, upper], "bounds", body_fun)
    for name, bound in (("lower", lower), ("upper", upper)):
        if bound.shape or not dtypes.is_integer(bound.dtype):
            raise TypeError(
                f"fori_loop: {name} must be an integer scalar, got {bound.aval.str_short()}"
            )
    if not any(isinstance(b, Tracer) and b.concrete() is None for b in (lower, upper)):
        lo, hi = (int(concrete_or_error(b, "int")) for b in (lower, upper))
        first = scalar(lo, np.int32, weak_type=True)

        one = scalar(1, np.int32, weak_type=True)

        def step(carry: Any, _: Any) -> Any:
            i, value = carry
            return (add(i, one), call_named(body_fun, (i, value), {})), None

        step.__wrapped__ = body_fun  # type: ignore[attr-defined]
        step._counts = True  # type: ignore[attr-defined]
        return scan(step, (first, init_val), None, length=max(hi - lo, 0))[0][1]
    dtype = upper.dtype if lower.weak_type else lower.dtype
    lower, upper = lower.astype(dtype), upper.astype(dtype)

    def body(carry: Any) -> Any:
        i, value = carry
        return add(i, scalar(1, dtype)), call_named(body_fun, (i, value), {})

    body.__wrapped__ = body_fun  # type: ignore[attr-defined]
    body._counts = True  # type: ignore[attr-defined]
    return while_loop(lambda carry: lt(carry[0], upper), body, (lower, init_val))[1]
