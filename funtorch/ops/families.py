"""Families of primitives: each turns a name and a few formulas into a primitive with all its rules.

``unary``, ``binary``: elementwise maths. ``nondiff``: elementwise with zero derivative. ``linear``:
linear in
some arguments, differentiated by applying itself, transposed by a given formula. ``bilinear``:
linear in each
of two arguments. All primitives are strict: equal shapes and dtypes, no broadcasting, no promotion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl, LinearArg, Primitive, ShapedArray, aval_of, primitives
from funtorch.errors import MismatchError

__all__ = [
    "BILINEAR",
    "ELEMENTWISE",
    "LINEAR",
    "accumulate",
    "bilinear",
    "binary",
    "broadcast_in_dim",
    "broadcast_in_dim_p",
    "elementwise_batch",
    "full",
    "full_like",
    "is_linear",
    "linear",
    "linear_jvp",
    "nondiff",
    "ones_like",
    "scalar",
    "unary",
    "zeros",
    "zeros_like",
]

ELEMENTWISE: set[str] = set()
"""Names of the primitives that work on each place of their operands, all of one shape, alone."""

LINEAR: dict[str, Callable[[int], bool]] = {}
"""Which arguments primitives are linear in, all of these together, by name."""

BILINEAR: set[str] = set()
"""Names of the primitives that are linear in each of their two arguments."""

NO_TRANSPOSE = "it is not linear: its derivative is written with other primitives"


# ---------------------------------------------------------------------------------------- constants
def scalar(value: Any, dtype: Any, weak_type: bool = False) -> ArrayImpl:
    """Return a concrete rank-0 array."""
    return ArrayImpl(np.asarray(value, dtype), weak_type)


def full(shape: Sequence[int], value: Any, dtype: Any, weak_type: bool = False) -> Any:
    """Return an array of one value: a broadcast scalar, so it costs nothing inside kernels."""
    one = scalar(value, dtype, weak_type)
    return broadcast_in_dim(one, shape=tuple(shape), dims=()) if len(shape) else one


def zeros(aval: ShapedArray) -> Any:
    return full(aval.shape, 0, aval.dtype, aval.weak_type)


def full_like(x: Any, value: Any) -> Any:
    aval = x.aval
    return full(aval.shape, value, aval.dtype, aval.weak_type)


def zeros_like(x: Any) -> Any:
    return full_like(x, 0)


def ones_like(x: Any) -> Any:
    return full_like(x, 1)


def accumulate(terms: Sequence[Any]) -> Any:
    """Add up the terms that are not None; None when there is none."""
    total = None
    for t in terms:
        if t is not None:
            total = t if total is None else primitives["add"].bind(total, t)
    return total


def is_linear(x: Any) -> bool:
    return type(x) is LinearArg


# -------------------------------------------------------------------------------------- elementwise
_KINDS: dict[str, Callable[[Any], bool]] = {
    "b": dtypes.is_bool,
    "i": dtypes.is_integer,
    "f": dtypes.is_float,
    "c": dtypes.is_complex,
}
_OUT: dict[str, Callable[[Any], Any]] = {
    "same": lambda d: d,
    "bool": lambda d: np.dtype(bool),
    "real": dtypes.real_dtype,
    "complex": dtypes.complex_dtype,
    "int32": lambda d: np.dtype(np.int32),
}
_KEEPS_WEAK = ("same", "real", "complex")


def _elementwise_type(name: str, accepts: str, out: str) -> Callable[..., ShapedArray]:
    """Return the type rule: equal shapes, equal dtypes of the kinds in ``accepts`` (from b i f
    c)."""
    kinds = [_KINDS[k] for k in accepts]
    accepted: set[Any] = set()
    out_dtype = _OUT[out]
    same, keep = out == "same", out in _KEEPS_WEAK

    def type_rule(x: ShapedArray, *rest: ShapedArray, **params: Any) -> ShapedArray:
        weak = x.weak_type
        for y in rest:
            if y.shape != x.shape or y.dtype != x.dtype:
                raise TypeError(
                    f"{name} takes arrays of equal shape and dtype, got "
                    f"{', '.join(a.str_short() for a in (x, *rest))}"
                )
            weak = weak and y.weak_type
        if x.dtype not in accepted:
            if not any(k(x.dtype) for k in kinds):
                raise MismatchError(
                    f"{name} does not accept dtype {x.dtype.name} (array {x.str_short()})"
                )
            accepted.add(x.dtype)
        if same and weak == x.weak_type:
            return x
        return ShapedArray(x.shape, out_dtype(x.dtype), weak and keep)

    return type_rule


def elementwise_batch(prim: Primitive) -> Callable[..., Any]:
    """Return the batch rule of an elementwise primitive: spread the unbatched, then apply."""
    ELEMENTWISE.add(prim.name)

    def batch(
        axis: Any, args: Sequence[Any], batched: Sequence[bool], **params: Any
    ) -> tuple[Any, Any]:
        args = [a if b else spread(a, axis.size) for a, b in zip(args, batched, strict=True)]
        out = prim.bind(*args, **params)
        return out, ([True] * len(out) if prim.multiple_results else True)

    return batch


def spread(x: Any, size: int) -> Any:
    """Return ``x`` repeated along a new leading axis."""
    shape = x.shape
    return broadcast_in_dim(x, shape=(size, *shape), dims=tuple(range(1, len(shape) + 1)))


def _elementwise(name: str, eager: Callable[..., Any], accepts: str, out: str) -> Primitive:
    prim = Primitive(name, keeps_weak=out in _KEEPS_WEAK)
    prim.type = _elementwise_type(name, accepts, out)
    prim.eager = eager
    prim.batch = elementwise_batch(prim)
    return prim


def unary(
    name: str,
    eager: Callable[..., Any],
    jvp: Callable[..., Any] | None = None,
    *,
    accepts: str = "fc",
    out: str = "same",
) -> Primitive:
    """Make an elementwise primitive of one argument.

    Args:
        eager: ``eager(xp, x, **params)``.
        jvp: ``jvp(t, x, y, **params)``, the tangent of ``y = prim(x)``; None where it is zero.
        accepts: dtype kinds among b, i, f, c.
        out: 'same', 'bool', 'real' or 'complex' dtype of the result.
    """
    prim = _elementwise(name, eager, accepts, out)

    def jvp_rule(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
        (x,), (t,) = primals, tangents
        y = prim.bind(x, **params)
        return y, None if jvp is None or t is None else jvp(t, x, y, **params)

    prim.jvp = jvp_rule
    prim.none["transpose"] = NO_TRANSPOSE
    return prim


def binary(
    name: str,
    eager: Callable[..., Any],
    jvps: Sequence[Callable[..., Any] | None],
    *,
    accepts: str = "ifc",
    out: str = "same",
    transpose: Callable[..., Any] | None = None,
) -> Primitive:
    """Make an elementwise primitive of two arguments.

    Args:
        jvps: one ``jvp(t, x, y, out)`` per argument, None where the derivative is zero.
        transpose: ``transpose(ct, x, y)`` where it is linear in an argument (division in its
            first).
    """
    prim = _elementwise(name, eager, accepts, out)

    def jvp_rule(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
        x, y = primals
        result = prim.bind(x, y, **params)
        terms = [
            f(t, x, y, result) if t is not None and f is not None else None
            for f, t in zip(jvps, tangents, strict=True)
        ]
        return result, accumulate(terms)

    prim.jvp = jvp_rule
    prim.transpose = transpose
    if transpose is None:
        prim.none["transpose"] = NO_TRANSPOSE
    return prim


def nondiff(
    name: str, eager: Callable[..., Any], nargs: int, *, accepts: str = "bifc", out: str = "same"
) -> Primitive:
    """Make an elementwise primitive whose derivative is zero (comparisons, rounding, bits)."""
    if nargs == 1:
        return unary(name, eager, None, accepts=accepts, out=out)
    return binary(name, eager, [None] * nargs, accepts=accepts, out=out)


# ------------------------------------------------------------------------------------------- linear
def linear_jvp(prim: Primitive, linear_in: Callable[[int], bool]) -> Callable[..., Any]:
    """Return the jvp rule of a primitive linear in the arguments ``linear_in`` selects: apply it to
    tangents."""
    LINEAR[prim.name] = linear_in

    def jvp(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
        out = prim.bind(*primals, **params)
        if all(t is None for k, t in enumerate(tangents) if linear_in(k)):
            return out, None
        args = [
            (zeros(aval_of(x)) if t is None else t) if linear_in(k) else x
            for k, (x, t) in enumerate(zip(primals, tangents, strict=True))
        ]
        return out, prim.bind(*args, **params)

    return jvp


def linear(
    name: str,
    *,
    type: Callable[..., Any],
    eager: Callable[..., Any],
    transpose: Callable[..., Any],
    batch: Callable[..., Any] | None,
    linear_in: Sequence[int] | None = None,
    keeps_weak: bool = True,
    multiple_results: bool = False,
) -> Primitive:
    """Make a primitive linear in the arguments at positions ``linear_in`` (None: in all of them).

    ``transpose(ct, *args, **params)`` returns one cotangent or None per argument; ``batch`` as in
    `Primitive` (None: elementwise).
    """
    prim = Primitive(name, keeps_weak=keeps_weak, multiple_results=multiple_results)
    prim.type, prim.eager, prim.transpose = type, eager, transpose
    prim.batch = elementwise_batch(prim) if batch is None else batch
    prim.jvp = linear_jvp(
        prim, (lambda k: True) if linear_in is None else set(linear_in).__contains__
    )
    return prim


def bilinear(
    name: str,
    *,
    type: Callable[..., Any],
    eager: Callable[..., Any],
    transposes: Sequence[Callable[..., Any]],
    batch: Callable[..., Any] | None,
    keeps_weak: bool = True,
) -> Primitive:
    """Make a primitive linear in each of its two arguments.

    Args:
        transposes: ``f(ct, other, aval, **params)`` for argument 0 and 1: the cotangent of that
            argument, given the other argument's value and its own aval.
    """
    prim = Primitive(name, keeps_weak=keeps_weak)
    BILINEAR.add(name)
    prim.type, prim.eager = type, eager
    prim.batch = elementwise_batch(prim) if batch is None else batch

    def jvp(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
        (x, y), (tx, ty) = primals, tangents
        terms = [
            None if tx is None else prim.bind(tx, y, **params),
            None if ty is None else prim.bind(x, ty, **params),
        ]
        return prim.bind(x, y, **params), accumulate(terms)

    def transpose(ct: Any, x: Any, y: Any, **params: Any) -> tuple[Any, Any]:
        if is_linear(x):
            return transposes[0](ct, y, x.aval, **params), None
        return None, transposes[1](ct, x, y.aval, **params)

    prim.jvp, prim.transpose = jvp, transpose
    return prim


def elementwise_linear_type(
    name: str, accepts: str = "bifc", out: str = "same"
) -> Callable[..., ShapedArray]:
    """Return the type rule for elementwise members of `linear` and `bilinear` (add, mul, neg,
    ...)."""
    return _elementwise_type(name, accepts, out)


# ---------------------------------------------------------------------------------------- broadcast
def _broadcast_type(
    x: ShapedArray, *, shape: tuple[int, ...], dims: tuple[int, ...]
) -> ShapedArray:
    if len(dims) != x.ndim or any(x.shape[k] not in (1, shape[d]) for k, d in enumerate(dims)):
        raise TypeError(
            f"broadcast_in_dim: {x.str_short()} does not fit into shape {shape} at axes {dims}"
        )
    return ShapedArray(shape, x.dtype, x.weak_type)


def _broadcast_eager(xp: Any, x: Any, *, shape: tuple[int, ...], dims: tuple[int, ...]) -> Any:
    if x.ndim:
        inner = [1] * len(shape)
        for n, d in zip(x.shape, dims, strict=True):
            inner[d] = n
        x = x.reshape(inner)
    return xp.broadcast_to(x, shape)


def _broadcast_transpose(
    ct: Any, x: Any, *, shape: tuple[int, ...], dims: tuple[int, ...]
) -> tuple[Any]:
    grown = {d for k, d in enumerate(dims) if x.aval.shape[k] == 1 and shape[d] != 1}
    axes = tuple(d for d in range(len(shape)) if d not in dims or d in grown)
    out = primitives["reduce_sum"].bind(ct, axes=axes) if axes else ct
    return (primitives["reshape"].bind(out, shape=x.aval.shape) if grown else out,)


def _broadcast_batch(
    axis: Any, args: Any, batched: Any, *, shape: Any, dims: Any
) -> tuple[Any, bool]:
    out = broadcast_in_dim(args[0], shape=(axis.size, *shape), dims=(0, *(d + 1 for d in dims)))
    return out, True


broadcast_in_dim_p = linear(
    "broadcast_in_dim",
    type=_broadcast_type,
    eager=_broadcast_eager,
    transpose=_broadcast_transpose,
    batch=_broadcast_batch,
)
broadcast_in_dim = broadcast_in_dim_p.bind
