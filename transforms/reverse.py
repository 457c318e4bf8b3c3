"""Reverse differentiation: transpose the tape. `vjp`, `grad`, `value_and_grad`, Jacobians,
`linear_transpose`."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch import dtypes
from funtorch.config import config
from funtorch.core import LinearArg, ShapedArray, _state, aval_of, current
from funtorch.dtypes import float0
from funtorch.errors import MismatchError
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Stage, Var, eval_jaxpr, stage, sub_jaxprs
from funtorch.numpy.promotion import asarray
from funtorch.ops.elementwise import add, convert, mul, reciprocal
from funtorch.ops.families import full_like, ones_like, zeros
from funtorch.ops.masked import masked_mul, masked_mul_p
from funtorch.origins import call_named, parameter_names
from funtorch.tracebacks import boundary

from .arguments import FlatFunction, as_arrays, check_callable, function_name, normalize_argnums
from .collectives import psum_p
from .forward import as_weak_as, is_differentiable, linearize_flat, zero_tangent
from .pullback import Pullback, RefPullback, WithRefs
from .references import holds_refs, taken_out, with_local_refs
from .varying import axes_to_share

__all__ = [
    "grad",
    "linear_part",
    "linear_transpose",
    "masked",
    "transpose_jaxpr",
    "value_and_grad",
    "vjp",
    "without_gradient",
]


# -------------------------------------------------------------------------------- masked cotangents
class _Masking(threading.local):
    """Whether the cotangents that a program is given may have been masked."""

    given = False


_masking = _Masking()

# How products pass on cotangents that a `select` has set to 0 where its other branch was taken: so
# that they stay 0 beside an infinite or undefined derivative.
_MASKED: dict[str, Callable[..., Any]] = {
    "mul": masked_mul_p.rule("transpose"),
    "div": lambda ct, x, y: (masked_mul(ct, reciprocal(y)), None),
}
_MASKING = frozenset(("select", "masked_mul"))  # they make such cotangents
# They add up cotangents of many elements, and no zeros are left.
_UNMASKING = frozenset(("dot_general", "conv_general_dilated"))


def masked() -> bool:
    """Tell whether the cotangents that programs are given now may have been masked."""
    return _masking.given


def _masks(eqn: Eqn) -> bool:
    """Tell whether an equation masks the cotangents of its operands."""
    if eqn.prim.name in _MASKING:
        return True
    return bool(eqn.params) and any(map(_has_masks, sub_jaxprs(eqn.params)))


def _has_masks(jaxpr: Jaxpr) -> bool:
    found = jaxpr.memo.get("masks")
    if found is None:
        found = jaxpr.memo["masks"] = any(map(_masks, jaxpr.eqns))
    return found


# -------------------------------------------------------------------------------- the backward pass
def linear_part(jaxpr: Jaxpr, args: Sequence[Any]) -> Jaxpr:
    """Run what does not depend on linear arguments; return the rest, a program of those alone.

    Args:
        jaxpr: a program that is linear in some of its inputs, given the others.
        args: one per invar: a value, or a `LinearArg` where the program is linear in it.
    """
    with Stage(current()) as tape:
        ins = [tape.new_input(a.aval) if type(a) is LinearArg else a for a in args]  # type: ignore[attr-defined]
        outs = eval_jaxpr(jaxpr, *ins)
    return tape.finish(outs)  # type: ignore[attr-defined]


def transpose_jaxpr(
    jaxpr: Jaxpr, cts: Sequence[Any], consts: Sequence[Any] | None = None
) -> list[Any]:
    """Run a linear program backwards.

    Args:
        jaxpr: a program all of whose equations depend on its inputs, and linearly: a tape.
        cts: one per output, None where zero.
        consts: the values of its constants, where it has none itself.

    Returns:
        one cotangent or None per invar.
    """
    values = jaxpr.consts if consts is None else consts
    known = dict(zip(jaxpr.constvars, values, strict=True))
    careful, before = not config.strict_gradients, _masking.given
    marked: set[Var | Lit] = set(jaxpr.outvars) if careful and _masking.given else set()
    ct_of: dict[Var | Lit, Any] = {}

    def give(atoms: Sequence[Var | Lit], cts: Sequence[Any]) -> None:
        for v, ct in zip(atoms, cts, strict=True):
            if ct is not None and type(v) is Var and v not in known:
                there = ct_of.get(v)
                ct_of[v] = ct if there is None else add(there, ct)

    give(jaxpr.outvars, cts)
    line = _state.source
    try:
        for eqn in reversed(jaxpr.eqns):
            prim = eqn.prim
            if prim.multiple_results:
                ct: Any = [ct_of.pop(v, None) for v in eqn.outvars]
                if all(c is None for c in ct):
                    continue
            else:
                ct = ct_of.pop(eqn.outvars[0], None)
                if ct is None:
                    continue
            ins = [
                v.val if type(v) is Lit else known[v] if v in known else LinearArg(v.aval)
                for v in eqn.invars
            ]
            rule = prim.transpose or prim.rule("transpose")
            if careful:
                is_marked = bool(marked) and not marked.isdisjoint(eqn.outvars)
                if (is_marked and prim.name not in _UNMASKING) or _masks(eqn):
                    marked.update(eqn.invars)
                if is_marked:
                    rule = _MASKED.get(prim.name, rule)
                _masking.given = is_marked
            _state.source = eqn.source or line  # of the operation that this is the derivative of
            give(eqn.invars, rule(ct, *ins, **eqn.params))
    finally:
        _masking.given, _state.source = before, line
    return [ct_of.get(v) for v in jaxpr.invars]


# ---------------------------------------------------------------------------------------------- vjp
def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Evaluate a function and return it with its vector-Jacobian product (reverse mode).

    Args:
        fun: a function of arrays or pytrees of arrays.
        *primals: where to evaluate and differentiate.
        has_aux: whether ``fun`` returns ``(output, auxiliary data)``.

    Returns:
        ``(output, vjpfun)``; ``vjpfun(ct)`` takes a cotangent shaped like the output and returns a
        tuple with one cotangent per primal (dtype float0 for integers). It is a pytree of what it
        remembers, so transformed functions may take and return it. With ``has_aux``,
        ``(output, vjpfun, aux)``.

    Example:
        >>> import funtorch as ft
        >>> y, back = ft.vjp(lambda a, b: a * b, 2.0, 5.0)
        >>> [float(g) for g in back(1.0)]
        [5.0, 2.0]
    """
    check_callable(fun, "vjp")
    if holds_refs(tree.leaves(primals)):
        return _vjp_of_refs(fun, primals, has_aux)
    outs, flat, pull = _pullback(fun, primals, has_aux, "vjp")
    out_avals, out_tree = [aval_of(o) for o in outs[: flat.count]], flat.out_tree

    @boundary
    def vjpfun(consts: Sequence[Any], *cts: Any) -> Any:
        if len(cts) != 1:
            raise TypeError(
                f"vjp of {function_name(fun)}: the function that it returned takes one cotangent, "
                f"of the structure of the output, {out_tree}; it was given {len(cts)} arguments"
            )
        ct_leaves, ct_tree = tree.flatten(cts[0])
        if ct_tree != out_tree:
            raise MismatchError(
                f"vjp of {function_name(fun)}: the cotangent's structure {ct_tree} is not the "
                f"output's, {out_tree}"
            )
        return pull(
            consts,
            [
                checked_cotangent(k, c, aval)
                for k, (c, aval) in enumerate(zip(ct_leaves, out_avals, strict=True))
            ],
        )

    out, aux = flat.split(outs)
    back = Pullback(vjpfun, pull.consts)
    pull.consts, pull.jaxpr = [], pull.jaxpr.without_consts()  # only the pytree holds them now
    return (out, back, aux) if has_aux else (out, back)


def _vjp_of_refs(fun: Callable[..., Any], primals: Sequence[Any], has_aux: bool) -> Any:
    """Differentiate with respect to what references hold at first."""
    arrays, refs = taken_out(tuple(primals), fun)
    pure = with_local_refs(fun, list(refs))

    @functools.wraps(fun)
    def whole(*args: Any) -> Any:
        held, result = pure(*args)
        return ((held, result[0]), result[1]) if has_aux else (held, result)

    (held, out), back, *aux = vjp(whole, *arrays, has_aux=has_aux)
    for ref, value in zip(refs.values(), held, strict=True):
        ref.replace(value)
    pull = WithRefs(back.func, {k: ref.aval.tangent() for k, ref in refs.items()})
    return (out, RefPullback(pull, *back.args), *aux)


class _Pull:
    """The function from one cotangent (or None) per output to the cotangents of the primals.

    ``consts``: what the linear program that it runs backwards remembers.
    """

    __slots__ = ("active", "avals", "consts", "jaxpr", "nonzero", "shared", "treedef")

    def __init__(
        self,
        arrays: Sequence[Any],
        treedef: Any,
        nonzero: Sequence[bool],
        active: Sequence[bool],
        shared: Any,
        jaxpr: Jaxpr,
    ) -> None:
        self.avals = [aval_of(p) for p in arrays]
        self.treedef, self.nonzero, self.active, self.shared = treedef, nonzero, active, shared
        self.consts, self.jaxpr = jaxpr.consts, jaxpr

    def __call__(self, consts: Sequence[Any], cts: Sequence[Any]) -> Any:
        shared, active = self.shared, self.active
        if shared is not None:
            cts = [_scaled(c, factor) for c, factor in zip(cts, shared[0], strict=True)]
        given = [c for c, a in zip(cts, active[: len(cts)], strict=True) if a]
        given += [None] * sum(active[len(cts) :])
        grads = transpose_jaxpr(self.jaxpr, given, consts)
        if shared is not None:
            grads = [_summed(g, axes) for g, axes in zip(grads, shared[1], strict=True)]
        found = iter(grads)
        grads = []
        for aval, nz in zip(self.avals, self.nonzero, strict=True):
            g = next(found) if nz else None
            grads.append(zero_tangent(aval) if g is None else as_weak_as(g, aval))
        return self.treedef.unflatten(grads)


def _pullback(
    fun: Callable[..., Any], primals: Sequence[Any], has_aux: bool, what: str
) -> tuple[list[Any], FlatFunction, _Pull]:
    """Run ``fun`` over a tape.

    Returns:
        its flat results, the `FlatFunction` that knows their structure, and what takes their
        cotangents back.
    """
    leaves, treedef = tree.flatten(tuple(primals))
    arrays = as_arrays(leaves, "argument", fun)
    flat = FlatFunction(fun, treedef, has_aux, what)
    nonzero = [is_differentiable(p.dtype) for p in arrays]
    outs, jaxpr, active = linearize_flat(flat, arrays, nonzero, fun)
    chosen = [x for x, nz in zip(arrays, nonzero, strict=True) if nz]
    shared = axes_to_share(chosen, outs[: flat.count], jaxpr)
    return outs, flat, _Pull(arrays, treedef, nonzero, active, shared, jaxpr)


def _scaled(ct: Any, factor: float) -> Any:
    return ct if ct is None or factor == 1 else mul(ct, full_like(ct, factor))


def _summed(ct: Any, axes: Sequence[Any]) -> Any:
    """Add up the cotangents of all devices along axes of a mesh."""
    for axis in axes if ct is not None else ():
        ct = psum_p.bind(ct, axis_name=axis)
    return ct


def checked_cotangent(k: int, ct: Any, aval: ShapedArray) -> Any:
    if getattr(ct, "dtype", None) == float0:
        return None
    ct = asarray(ct)
    fits = dtypes.is_complex(aval.dtype) or not dtypes.is_complex(ct.dtype)
    if ct.weak_type and fits and ct.ndim == len(aval.shape) == 0 and ct.dtype != aval.dtype:
        ct = convert(ct, dtype=aval.dtype, weak_type=False)
    if ct.shape != aval.shape or ct.dtype != aval.dtype:
        raise MismatchError(
            f"vjp: output {k} is {aval.str_short()} but the cotangent given for it is "
            f"{ct.aval.str_short()}; shapes and dtypes must be equal"
        )
    return ct


# --------------------------------------------------------------------------------------------- grad
def value_and_grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """Make a function that returns both the value and the gradient of ``fun``.

    Args:
        fun: a function that returns a real scalar (complex with ``holomorphic``).
        argnums: position, or positions, of the arguments to differentiate.
        has_aux: whether ``fun`` returns ``(scalar, auxiliary data)``.
        holomorphic: whether ``fun`` is complex-differentiable; inputs and output must then be
            complex.
        allow_int: whether integer arguments may be differentiated (their gradients have dtype
            float0).

    Returns:
        A function of the same arguments that returns ``(value, gradient)``, or ``((value, aux),
        gradient)``. The gradient has the structure of the argument, or is a tuple of such when
        ``argnums`` is a sequence.

    Raises:
        TypeError: if the output is not a real scalar or an argument is not of a float dtype.

    Example:
        >>> import funtorch as ft
        >>> v, g = ft.value_and_grad(lambda x: (x**2).sum())(ft.numpy.array([1.0, 2.0]))
        >>> float(v), g
        (5.0, Array([2., 4.], dtype=float32))
    """
    check_callable(fun, "grad")

    @boundary
    @functools.wraps(fun)
    def value_and_grad_f(*args: Any, **kwargs: Any) -> Any:
        nums = normalize_argnums(argnums, len(args), "grad", fun)
        diff = [args[n] for n in nums]
        _check_inputs(fun, nums, diff, holomorphic, allow_int)

        def partial(*chosen: Any) -> Any:
            full_args = list(args)
            for n, x in zip(nums, chosen, strict=True):
                full_args[n] = x
            return call_named(fun, full_args, kwargs)

        partial.__wrapped__ = fun  # type: ignore[attr-defined]
        outs, flat, pull = _pullback(partial, diff, has_aux, "grad")
        value, aux = flat.split(outs)
        _check_output(fun, value, holomorphic)
        grads = pull(pull.consts, [ones_like(outs[0])])
        if isinstance(argnums, (int, np.integer)):
            grads = grads[0]
        return ((value, aux), grads) if has_aux else (value, grads)

    return value_and_grad_f


def grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """Make a function that computes the gradient of ``fun``; arguments as in `value_and_grad`.

    Returns:
        A function of the same arguments that returns the gradient, or ``(gradient, aux)`` with
        ``has_aux``.

    Example:
        >>> import funtorch as ft
        >>> float(ft.grad(ft.numpy.sin)(0.0))
        1.0
        >>> float(ft.grad(ft.grad(lambda x: x**3))(2.0))
        12.0
    """
    both = value_and_grad(fun, argnums, has_aux, holomorphic, allow_int)

    @boundary
    @functools.wraps(fun)
    def grad_f(*args: Any, **kwargs: Any) -> Any:
        value, grads = both(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return grad_f


def _check_inputs(
    fun: Any, nums: tuple[int, ...], diff: list[Any], holomorphic: bool, allow_int: bool
) -> None:
    for n, arg in zip(nums, diff, strict=True):
        for k, leaf in enumerate(tree.leaves(arg)):
            if not hasattr(leaf, "dtype") and not isinstance(leaf, (bool, int, float, complex)):
                continue  # vjp's own conversion names what it is
            dtype = aval_of(leaf).dtype
            if dtypes.is_complex(dtype) if holomorphic else allow_int or is_differentiable(dtype):
                continue
            path, _ = tree.leaves_with_path(arg)[k]
            names = parameter_names(fun)
            own = f" ({names[n]}{tree.keystr(path)})" if n < len(names) else ""
            where = f"argument {n}{tree.keystr(path)}{own} of {function_name(fun)}"
            if holomorphic:
                raise TypeError(
                    f"grad with holomorphic=True needs complex inputs, but {where} has dtype "
                    f"{dtype.name}"
                )
            owner = without_gradient(arg)
            if owner is not None:
                raise TypeError(
                    f"grad needs inputs of a float or complex dtype, but {where} has dtype "
                    f"{dtype.name}: {owner.no_gradient}"
                )
            raise TypeError(
                f"grad needs inputs of a float or complex dtype, but {where} has dtype "
                f"{dtype.name}: pass a float (for instance {_float_hint(leaf)}), choose other "
                "argnums, or set allow_int=True"
            )


def without_gradient(arg: Any) -> Any:
    """Return a node of a tree whose class says in ``no_gradient`` why it has none; else None."""
    nodes: list[Any] = []

    def found(node: Any) -> bool:
        if hasattr(type(node), "no_gradient"):
            nodes.append(node)
        return bool(nodes)

    tree.flatten(arg, found)
    return nodes[0] if nodes else None


def _float_hint(leaf: Any) -> str:
    return f"{float(leaf)}" if isinstance(leaf, (bool, int)) else "x.astype(float)"


def _check_output(fun: Any, value: Any, holomorphic: bool) -> None:
    try:
        aval = aval_of(value)
    except TypeError:
        raise TypeError(
            f"grad needs a function that returns one scalar, but {function_name(fun)} returned "
            f"{tree.structure(value)}; with extra outputs use has_aux=True"
        ) from None
    if aval.shape:
        raise TypeError(
            f"grad needs a scalar output, but {function_name(fun)} returned an array of shape "
            f"{aval.shape}: "
            "reduce it (sum, mean), or use jacrev, jacfwd or vjp"
        )
    if holomorphic:
        if not dtypes.is_complex(aval.dtype):
            raise TypeError(
                f"grad with holomorphic=True needs a complex output, but {function_name(fun)} "
                "returned "
                f"dtype {aval.dtype.name}"
            )
    elif not dtypes.is_float(aval.dtype):
        hint = (
            "take the real part, or set holomorphic=True for a holomorphic function"
            if dtypes.is_complex(aval.dtype)
            else "its derivative is not defined"
        )
        raise TypeError(
            f"grad needs a real-valued output, but {function_name(fun)} returned dtype "
            f"{aval.dtype.name}: "
            f"{hint}"
        )


# --------------------------------------------------------------------------------- linear_transpose
def linear_transpose(fun: Callable[..., Any], *primals: Any) -> Callable[..., Any]:
    """Transpose a function that is linear in all its arguments.

    Args:
        fun: a linear function of arrays.
        *primals: example arguments: arrays or anything with shape and dtype.

    Returns:
        A function that takes a cotangent shaped like the output and returns a tuple with one per
        argument.

    Example:
        >>> import funtorch as ft
        >>> t = ft.linear_transpose(lambda x: 3.0 * x, 1.0)
        >>> [float(v) for v in t(2.0)]
        [6.0]
    """
    leaves, treedef = tree.flatten(primals)
    avals = [x if isinstance(x, ShapedArray) else _spec(x) for x in leaves]
    store: list[Any] = []

    def flat(*args: Any) -> list[Any]:
        outs, out_tree = tree.flatten(fun(*tree.unflatten(treedef, args)))
        store.append(out_tree)
        return as_arrays(outs, "output", fun)

    jaxpr = stage(flat, avals, function_name(fun))
    out_tree, linear = store[0], linear_part(jaxpr, [LinearArg(a) for a in avals])

    @boundary
    def transposed(ct: Any) -> Any:
        cts, ct_tree = tree.flatten(ct)
        if ct_tree != out_tree:
            raise MismatchError(
                f"linear_transpose: the cotangent's structure {ct_tree} is not the output's, "
                f"{out_tree}"
            )
        cts = [
            checked_cotangent(k, c, a)
            for k, (c, a) in enumerate(zip(cts, jaxpr.out_avals, strict=True))
        ]
        found = transpose_jaxpr(linear, cts)
        return tree.unflatten(
            treedef,
            [
                zeros(a) if g is None else as_weak_as(g, a)
                for g, a in zip(found, avals, strict=True)
            ],
        )

    return transposed


def _spec(x: Any) -> ShapedArray:
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return ShapedArray(tuple(x.shape), np.dtype(x.dtype))
    return aval_of(x)
