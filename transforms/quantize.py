"""Quantisation as a transform: a function's weights become integers, and its products read them.

One interpreter follows the weights of a function through movements (transposes, reshapes, slices)
to the products and convolutions that they meet. What happens there is up to its kind: `Watch` notes
the axes that are summed over and the activations, `Fake` rounds the activations as integers would
be, and `Real` multiplies integers. Anything else that reads a weight reads it as floats.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import tree
from funtorch.core import Array, Primitive, Trace, Tracer, _state, aval_of, current
from funtorch.jaxpr import eval_jaxpr
from funtorch.ops.attention import attention_p
from funtorch.ops.contract import dot_general_p
from funtorch.ops.conv import conv_general_dilated_p

from .arguments import check_callable
from .custom import custom_vjp
from .qarrays import (
    QArray,
    factors,
    integers,
    largest_of,
    looked_up,
    moved,
    quantize_array,
    quantize_rows,
    scale_of,
    unmade,
    whole_numbers,
)
from .qproducts import contracted, convolved, rounds
from .restage import split, stage_hoisted
from .scan import scan_p
from .schemes import SCHEMES, Scheme, Schemes, chosen, scheme_of
from .staging import eval_shape

__all__ = ["SCHEMES", "Scheme", "fake_quantize", "fake_quantized", "observed", "quantize"]
__all__ += ["quantized", "scheme_of"]

_FLOAT32 = np.dtype("float32")


# ------------------------------------------------------------------------------------ interpreter
class Weight(Tracer):
    """A weight on its way to products; ``held`` is a `QArray`, or a `_Plain` array."""

    __slots__ = ("aval", "held")

    def __init__(self, trace: Trace, held: Any) -> None:
        super().__init__(trace)
        self.held, self.aval = held, held.aval

    def concrete(self) -> Any:
        """Return the floats, where they are known."""
        whole = self.held.dequantize()
        return whole.concrete() if isinstance(whole, Tracer) else whole


class _Plain:
    """A weight of floats: leaf number ``leaf``, and which of its axes each axis comes from."""

    __slots__ = ("leaf", "origins", "value")

    def __init__(self, value: Any, leaf: int, origins: Sequence[frozenset[int]]) -> None:
        self.value, self.leaf, self.origins = value, leaf, list(origins)

    @property
    def aval(self) -> Any:
        return aval_of(self.value)

    def dequantize(self) -> Any:
        return self.value

    def moved(self, prim: Primitive, params: dict[str, Any]) -> Any:
        origins = self.origins
        if prim.name == "transpose":
            origins = [origins[d] for d in params["perm"]]
        elif prim.name == "reshape":
            found = factors(self.value.shape, params["shape"])
            if found is None:
                return None
            joined = [(frozenset().union(*(origins[d] for d in old)), new) for old, new in found]
            origins = [origin for origin, new in joined for _ in new]
        elif prim.name not in ("copy", "stop_gradient", "name", "slice", "split"):
            return None
        out = prim.bind(self.value, **params)
        if prim.multiple_results:
            return [_Plain(x, self.leaf, origins) for x in out]
        return _Plain(out, self.leaf, origins)

    def unmade(self, sliced: bool) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
        origins = self.origins[1:] if sliced else self.origins
        return [self.value], lambda arrays: _Plain(arrays[0], self.leaf, origins)


def _attended(*args: Any, **params: Any) -> Any:
    assert attention_p.expand is not None
    return attention_p.expand(*args, **params)


class _Following(Trace):
    """Follow weights to products; run everything else as it is."""

    __slots__ = ("products",)

    def __init__(self, parent: Trace, fun: Any, products: bool = False) -> None:
        super().__init__(parent, fun)
        self.products = products

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        places = [k for k, a in enumerate(args) if self.owns(a)]
        inner = params.get("jaxpr") if prim.call else None
        if inner is not None and (places or self.products):
            return eval_jaxpr(inner, *args)
        if places and callable(params.get("fun")) and self.opens:
            return params["fun"](*args)
        if self.products and prim is attention_p:
            return _attended(*args, **params)  # in products that are seen here
        saved, _state.trace = _state.trace, self.parent
        try:
            if prim is scan_p and (places or self.products):
                return self.scan(args, params)
            if not places:
                both = self.products and prim is dot_general_p
                return self.both(args, params) if both else prim.bind(*args, **params)
            out = self.follow(prim, args, params, places) if len(places) == 1 else None
            if out is None:
                out = prim.bind(*(_floats(a, self) for a in args), **params)
        finally:
            _state.trace = saved
        if isinstance(out, list):
            return [Weight(self, x) if _is_held(x) else x for x in out]
        return Weight(self, out) if _is_held(out) else out

    def follow(self, prim: Primitive, args: Any, params: dict[str, Any], places: Any) -> Any:
        """Return what a primitive makes of its one weight; None if it reads it as floats."""
        (k,) = places
        held = args[k].held
        if prim is dot_general_p:
            return self.meet(prim, args, params, k)
        if prim is conv_general_dilated_p and k == 1:
            return self.meet(prim, args, params, k)
        if isinstance(held, _Plain):
            if prim.name == "gather" and k == 0:
                self.look(held, params["axes"])
            return held.moved(prim, params) if k == 0 and len(args) == 1 else None
        if prim.name == "gather" and k == 0:
            return looked_up(held, args[1:], prim.bind, params)
        return moved(held, prim.name, params) if k == 0 and len(args) == 1 else None

    def look(self, held: _Plain, axes: Sequence[int]) -> None:
        """Take note of a weight of which rows are looked up."""

    opens = True  # whether functions with rules of their own are looked into

    def again(self, parent: Trace) -> _Following:
        """Return an interpreter of the same kind, for a program inside."""
        return type(self)(parent, self.fun, self.products)

    def noted(self) -> list[Any]:
        """Return the arrays that were noted, which a program inside gives as more results."""
        return []

    def note(self, inner: _Following, values: Sequence[Any]) -> None:
        """Take in what was noted in the steps of a loop."""

    def scan(self, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Run a loop whose constants and slices may be weights, which are so inside, too."""
        jaxpr, n_carry = params["jaxpr"], params["num_carry"]
        consts, init, xs = split(args, params["num_consts"], n_carry)
        init = [_floats(x, self) for x in init]
        fixed = [_flat(x.held if self.owns(x) else x, False) for x in consts]
        moving = [_flat(x.held if self.owns(x) else x, True) for x in xs]
        inside: list[_Following] = []

        def body(*ins: Any) -> list[Any]:
            rest = iter(ins)
            inner = self.again(current())
            with inner:
                whole = [
                    *(_whole(inner, made, rest) for made in fixed),
                    *(next(rest) for _ in init),
                    *(_whole(inner, made, rest) for made in moving),
                ]
                outs = eval_jaxpr(jaxpr, *whole)
            inside.append(inner)
            return [*(_floats(x, inner) for x in outs), *inner.noted()]

        leaves = [x for found, _ in fixed for x in found]
        slices = [x for found, _ in moving for x in found]
        avals = [aval_of(x) for x in (*leaves, *init)]
        avals += [a.update(shape=a.shape[1:]) for a in map(aval_of, slices)]
        staged, more = stage_hoisted(body, avals)
        results = scan_p.bind(
            *more, *leaves, *init, *slices,
            **{**params, "jaxpr": staged, "num_consts": len(more) + len(leaves)},
        )  # fmt: skip
        n = len(jaxpr.outvars)
        self.note(inside[-1], results[n:])
        return list(results[:n])

    def owns(self, x: Any) -> bool:
        """Tell whether x is one of this interpreter's weights."""
        return type(x) is Weight and x.owner is self

    def meet(self, prim: Primitive, args: Any, params: dict[str, Any], k: int) -> Any:
        """Return the product of a weight, operand ``k``, and activations."""
        raise NotImplementedError

    def both(self, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Return a product of activations by each other."""
        return dot_general_p.bind(*args, **params)


_Rebuild = Callable[[Sequence[Any]], Any] | None


def _flat(x: Any, sliced: bool) -> tuple[list[Any], _Rebuild]:
    """Return the arrays of what a loop reads, and what makes a weight of them, or of their slices,
    again; None if it is no weight."""
    if not _is_held(x):
        return [x], None
    return x.unmade(sliced) if isinstance(x, _Plain) else unmade(x, sliced)


def _whole(trace: Trace, made: tuple[list[Any], _Rebuild], rest: Iterator[Any]) -> Any:
    found = [next(rest) for _ in made[0]]
    return found[0] if made[1] is None else Weight(trace, made[1](found))


def _is_held(x: Any) -> bool:
    return isinstance(x, (QArray, _Plain))


def _floats(x: Any, trace: Trace) -> Any:
    return x.held.dequantize() if type(x) is Weight and x.owner is trace else x


def _run(trace: _Following, fun: Callable[..., Any], held: Any, args: Any, kwargs: Any) -> Any:
    """Run a function whose first argument has weights where there is something held."""
    with trace:
        whole = lambda x: x.in_order() if isinstance(x, QArray) else x  # noqa: E731
        wrapped = tree.map(
            lambda x: Weight(trace, whole(x)) if _is_held(x) else x, held, is_leaf=_is_held
        )
        out = fun(wrapped, *args, **kwargs)
        saved, _state.trace = _state.trace, trace.parent
        try:
            return tree.map(lambda x: _floats(x, trace), out)
        finally:
            _state.trace = saved


def _summed(prim: Primitive, params: dict[str, Any], k: int, ndim: int) -> tuple[int, ...]:
    """Return the axes of operand ``k`` that a product or a convolution sums over."""
    if prim is dot_general_p:
        return params["dimension_numbers"][0][k]
    return tuple(range(1, ndim))


# ----------------------------------------------------------------------------------------- watching
class Watch(_Following):
    """Note for every weight the axes that are summed over, and the activations that it meets."""

    __slots__ = ("looked", "seen", "statistic", "summed", "total")

    def __init__(
        self, parent: Trace, fun: Any, statistic: Callable[[Any], Any] | None, total: bool = False
    ) -> None:
        super().__init__(parent, fun)
        self.statistic, self.total = statistic, total
        self.summed: dict[int, set[int]] = {}
        self.looked: dict[int, set[int]] = {}
        self.seen: dict[int, Any] = {}

    def again(self, parent: Trace) -> Watch:
        """Return one for a program inside, which notes the same axes."""
        inner = Watch(parent, self.fun, self.statistic, self.total)
        inner.summed, inner.looked = self.summed, self.looked
        return inner

    def look(self, held: _Plain, axes: Sequence[int]) -> None:
        """Note the axes along which rows are looked up."""
        found = self.looked.setdefault(held.leaf, set())
        found.update(*(held.origins[d] for d in axes))

    def noted(self) -> list[Any]:
        """Return statistics."""
        return list(self.seen.values())

    def note(self, inner: Any, values: Sequence[Any]) -> None:
        """Take in the statistics of all steps, of which the greatest counts, or the sum."""
        for leaf, value in zip(inner.seen, values, strict=True):
            self._see(leaf, value.sum(0) if self.total or not value.size else value.max(0))

    def _see(self, leaf: int, value: Any) -> None:
        before = self.seen.get(leaf)
        join = fnp.add if self.total else fnp.maximum
        self.seen[leaf] = value if before is None else join(before, value)

    def meet(self, prim: Primitive, args: Any, params: dict[str, Any], k: int) -> Any:
        held, x = args[k].held, args[1 - k]
        axes = _summed(prim, params, k, held.value.ndim)
        found = self.summed.setdefault(held.leaf, set())
        found.update(*(held.origins[d] for d in axes))
        if self.statistic is not None:
            self._see(held.leaf, self.statistic(x))
        return prim.bind(*(_floats(a, self) for a in args), **params)


def _weights(params: Any) -> Iterator[tuple[int, str, Any]]:
    """Yield number, name and value of the leaves that may be weights: matrices of floats."""
    for k, (path, leaf) in enumerate(tree.leaves_with_path(params)):
        if hasattr(leaf, "dtype") and len(leaf.shape) > 1 and leaf.dtype == _FLOAT32:
            yield k, tree.keystr(path), leaf


def _held(params: Any) -> Any:
    """Return parameters with weights of floats where there may be weights."""
    leaves, treedef = tree.flatten(params)
    for k, _, leaf in _weights(params):
        origins = [frozenset([d]) for d in range(len(leaf.shape))]
        leaves[k] = _Plain(leaf if isinstance(leaf, Array) else fnp.asarray(leaf), k, origins)
    return tree.unflatten(treedef, leaves)


def _axes_of(
    fun: Callable[..., Any], params: Any, args: Any, kwargs: Any
) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
    """Return the axes that a function's products sum over, by the number of the weight, and those
    along which it looks up rows of what no product meets."""
    found: dict[int, set[int]] = {}
    looked: dict[int, set[int]] = {}

    leaves, treedef = tree.flatten((params, args, kwargs))
    arrays = {k: x for k, x in enumerate(leaves) if hasattr(x, "dtype")}

    def watched(arrays: Any) -> Any:
        trace = Watch(current(), fun, None)
        whole = [arrays.get(k, x) for k, x in enumerate(leaves)]
        params, args, kwargs = tree.unflatten(treedef, whole)
        out = _run(trace, fun, _held(params), args, kwargs)
        found.update(trace.summed)
        looked.update((k, axes) for k, axes in trace.looked.items() if k not in found)
        return [x for x in tree.leaves(out) if hasattr(x, "dtype")]

    eval_shape(watched, arrays)
    return found, looked


def _shared(
    params: Any, summed: dict[int, set[int]], looked: dict[int, set[int]],
    scheme: Callable[[str], Scheme | None],
) -> dict[int, tuple[str, Scheme, list[int]]]:  # fmt: skip
    """Return name, scheme and the axes along which scales are shared of the weights that become
    integers, by their numbers."""
    found: dict[int, tuple[str, Scheme, list[int]]] = {}
    for k, name, leaf in _weights(params):
        own = scheme(name) if k in summed or k in looked else None
        if own is None or (k not in summed and not own.embeddings):
            continue
        rest = set(range(len(leaf.shape))) - looked.get(k, set())
        axes = summed.get(k, rest)
        if axes:
            found[k] = name, own, sorted(axes)
    return found


def observed(
    fun: Callable[..., Any], statistic: Callable[[Any], Any], *, total: bool = False
) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Make a function that also returns a statistic of the activations that its weights meet.

    Args:
        fun: a function whose first argument is a tree of parameters.
        statistic: gives an array, of one shape, for an array of activations; of those that meet one
            weight at several places, the greatest numbers count.
        total: whether their sum counts instead, as of histograms.

    Returns:
        A function of the same arguments; it returns ``(result, {name of the weight: array})``.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import quant
        >>> seen = quant.observed(lambda p, x: x @ p["w"], lambda x: abs(x).max())
        >>> {
        ...     k: float(v)
        ...     for k, v in seen({"w": fnp.ones((2, 3))}, fnp.array([[1.0, -4.0]]))[1].items()
        ... }
        {"['w']": 4.0}
    """
    check_callable(fun, "observed")

    @functools.wraps(fun)
    def run(params: Any, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        trace = Watch(current(), fun, statistic, total)
        out = _run(trace, fun, _held(params), args, kwargs)
        return out, {name: trace.seen[k] for k, name, _ in _weights(params) if k in trace.seen}

    return run


def quantize(
    fun: Callable[..., Any], params: Any, *args: Any, scheme: Schemes = "int8",
    ranges: dict[str, Any] | None = None, skip: Callable[[str], bool] | None = None, **kwargs: Any,
) -> Any:  # fmt: skip
    """Quantise the parameters of a function.

    The function is traced to find the products and convolutions that parameters meet; those that do
    become integers, with a scale for each index that is not summed over. All others stay.

    Args:
        fun: a function whose first argument is a tree of parameters.
        params: the parameters, floats.
        *args: the other arguments, or `ShapeDtypeStruct`; only their shapes matter.
        scheme: a `Scheme` or the name of one: 'int8' (weights and activations), 'int8-weights',
            'int4-weights', 'int8-attention'; or a function from the name of a weight to its own, or
            to None for what stays as it is.
        ranges: the largest magnitudes of activations by the name of the weight, from `calibrate`;
            those that are not given are measured in every call.
        skip: tells by its name whether a weight stays as it is.
        **kwargs: keyword arguments of ``fun``.

    Returns:
        The tree, with a `QArray` in the place of each weight that a product meets.

    Raises:
        ValueError: no product meets a parameter, a range is not of a weight, or the scheme is
            unknown.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import quant
        >>> f = lambda p, x: fnp.tanh(x @ p["w"]) + p["b"]
        >>> params, x = {"w": fnp.eye(4), "b": fnp.ones(4)}, fnp.ones((2, 4))
        >>> small = quant.quantize(f, params, x)
        >>> small["w"]
        QArray(int8[4,4], scale (1, 4))
        >>> float(abs(quant.quantized(f)(small, x) - f(params, x)).max()) < 0.01
        True
    """
    check_callable(fun, "quantize")
    if not callable(scheme):
        scheme = scheme_of(scheme)  # which may be unknown
    ranges = dict(ranges or {})
    summed, looked = _axes_of(fun, params, args, kwargs)
    leaves, treedef = tree.flatten(params)
    names = [name for k, name, _ in _weights(params) if k in summed]
    unknown = sorted(set(ranges) - set(names))
    if unknown:
        raise ValueError(
            f"quantize was given ranges for {', '.join(unknown)}, which no product of the function "
            f"meets; those that one does are {', '.join(names) or 'none'}"
        )
    found = _shared(params, summed, looked, chosen(scheme, skip))
    for k, (name, own, axes) in found.items():
        leaves[k] = quantize_rows(
            fnp.asarray(leaves[k]), axes=axes, bits=own.bits, group=own.group,
            range=_range(ranges.get(name)), activations=own.activations, symmetric=own.symmetric,
        )  # fmt: skip
    if not found:
        raise ValueError(
            "quantize found no product or convolution of a float32 parameter of the function: pass "
            "the parameters as its first argument, as arrays of 2 or more axes"
        )
    return tree.unflatten(treedef, leaves)


def _range(value: Any) -> Any:
    return None if value is None else fnp.asarray(value, dtype=_FLOAT32)


# ----------------------------------------------------------------------------------------- integers
class Real(_Following):
    """Multiply integers."""

    __slots__ = ()

    def meet(self, prim: Primitive, args: Any, params: dict[str, Any], k: int) -> Any:
        q, x = args[k].held, args[1 - k]
        if aval_of(x).dtype.kind != "f" or params.get("out_dtype") not in (None, aval_of(x).dtype):
            return None
        if prim is dot_general_p:
            return contracted(x, q, k == 0, params)
        return convolved(x, q, params)

    def both(self, args: Sequence[Any], params: dict[str, Any]) -> Any:
        a, b = args
        if a.dtype != _FLOAT32 or b.dtype != _FLOAT32:
            return dot_general_p.bind(a, b, **params)
        axes = params["dimension_numbers"][0][1]
        return contracted(a, _on_the_fly(b, axes), False, params)


def _on_the_fly(x: Any, axes: Sequence[int]) -> QArray:
    scale = scale_of(largest_of(x, axes), 8)
    return QArray(whole_numbers(x, scale), scale, activations=True)


def quantized(fun: Callable[..., Any], *, products: bool = False) -> Callable[..., Any]:
    """Make a function compute with quantised parameters.

    Products and convolutions of a `QArray` in the first argument read its integers: with int8
    activations they are products of int8, summed exactly in int32; else the integers become floats
    on the way to the processor. What else is done with a `QArray` is done with the floats that it
    stands for.

    Args:
        fun: a function whose first argument is a tree of parameters.
        products: whether products of activations by each other, as in attention, become products of
            int8, too.

    Returns:
        A function of the same arguments, whose first one may hold `QArray`.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch import quant
        >>> f = lambda w, x: x @ w.T
        >>> w = quant.quantize(f, fnp.array([[1.0, -2.0]]), fnp.ones((3, 2)))
        >>> ft.jit(quant.quantized(f))(w, fnp.array([[1.0, 0.5]])).round(2)
        Array([[0.]], dtype=float32)
    """
    check_callable(fun, "quantized")

    @functools.wraps(fun)
    def run(params: Any, *args: Any, **kwargs: Any) -> Any:
        return _run(Real(current(), fun, products), fun, params, args, kwargs)

    return run


# --------------------------------------------------------------------------------------------- fake
_How = tuple[int | None, bool]  # neighbours that share a scale; whether 0 is 0


@functools.partial(custom_vjp, nondiff_argnums=(2, 3, 4))
def _straight(x: Any, largest: Any, axes: Any, bits: int, how: _How) -> Any:
    if largest is None:
        group, symmetric = how
        q = quantize_array(x, axes=axes, bits=bits, group=group, symmetric=symmetric)
        return q.dequantize()
    scale = scale_of(largest, bits).astype(x.dtype)
    return integers(x, scale, bits).astype(x.dtype) * scale


def _forward(x: Any, largest: Any, axes: Any, bits: int, how: _How) -> Any:
    inside = None if largest is None else fnp.abs(x) <= fnp.asarray(largest)
    return _straight(x, largest, axes, bits, how), (inside, largest)


def _backward(axes: Any, bits: int, how: _How, kept: Any, ct: Any) -> Any:
    inside, largest = kept
    if inside is None:
        return ct, None
    return fnp.where(inside, ct, fnp.zeros_like(ct)), fnp.zeros_like(largest)


_straight.defvjp(_forward, _backward)


def fake_quantize(
    x: Any, *, axes: Sequence[int] | None = None, bits: int = 8, group: int | None = None,
    range: Any = None, symmetric: bool = True,
) -> Any:  # fmt: skip
    """Round floats to the values that integers would give them, with straight-through gradients.

    The gradient passes as if nothing were rounded; where a given ``range`` cuts values off, it is
    zero.

    Args:
        x: floats.
        axes: the axes along which numbers share a scale; all where None.
        bits: 8 or 4.
        group: where there is one such axis, how many neighbours on it share a scale, at most.
        range: the largest magnitude, where it is not to be measured: one for the whole array.
        symmetric: whether 0 is the integer 0, as it is where there is a range.

    Returns:
        Floats of x's shape and dtype.

    Raises:
        ValueError: ``bits`` is neither 8 nor 4, or x is no array of floats.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch import quant
        >>> x = fnp.array([0.004, 1.27])
        >>> quant.fake_quantize(x), ft.grad(lambda x: quant.fake_quantize(x).sum())(x)
        (Array([0.  , 1.27], dtype=float32), Array([1., 1.], dtype=float32))

    References:
        Bengio, Léonard, Courville, "Estimating or propagating gradients through stochastic
        neurons", arXiv:1308.3432 (2013).
        Jacob et al., "Quantization and training of neural networks for efficient
        integer-arithmetic-only inference", CVPR (2018).
    """
    x = fnp.asarray(x)
    every = tuple(d for d, _ in enumerate(x.shape))
    axes = every if axes is None else tuple(sorted(d % x.ndim for d in axes))
    largest = None if range is None else fnp.asarray(range)
    return _straight(x, largest, axes, bits, (group, symmetric))


class Fake(_Following):
    """Round the activations that weights meet as int8 would be."""

    __slots__ = ("ranges",)
    opens = False

    def __init__(self, parent: Trace, fun: Any, products: bool, ranges: dict[int, Any]) -> None:
        super().__init__(parent, fun, products)
        self.ranges = ranges

    def again(self, parent: Trace) -> Fake:
        """Return one for a program inside."""
        return Fake(parent, self.fun, self.products, self.ranges)

    def meet(self, prim: Primitive, args: Any, params: dict[str, Any], k: int) -> Any:
        held, x = args[k].held, args[1 - k]
        whole = held.leaf in self.ranges and aval_of(x).dtype == _FLOAT32
        if whole and (prim is dot_general_p or rounds(held.value.shape, params)):
            axes = _summed(prim, params, 1 - k, x.ndim)
            x = fake_quantize(x, axes=axes, range=self.ranges[held.leaf])
        operands = [held.value, held.value]
        operands[1 - k] = x
        return prim.bind(*operands, **params)

    def both(self, args: Sequence[Any], params: dict[str, Any]) -> Any:
        if any(aval_of(x).dtype != _FLOAT32 for x in args):
            return dot_general_p.bind(*args, **params)
        axes = params["dimension_numbers"][0]
        fake = [fake_quantize(x, axes=d) for x, d in zip(args, axes, strict=True)]
        return dot_general_p.bind(*fake, **params)


def fake_quantized(
    fun: Callable[..., Any], *, scheme: Schemes = "int8",
    ranges: dict[str, Any] | None = None, skip: Callable[[str], bool] | None = None,
) -> Callable[..., Any]:  # fmt: skip
    """Make a function compute in floats what it will compute when it is quantised, for training.

    Parameters stay floats. Those that products meet are rounded as `quantize` rounds them, and so
    are the activations that meet them; gradients pass straight through the rounding.

    Args:
        fun: a function whose first argument is a tree of parameters.
        scheme: as in `quantize`.
        ranges: as in `quantize`.
        skip: as in `quantize`.

    Returns:
        A function of the same arguments.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch import quant
        >>> f = lambda w, x: x @ w
        >>> w, x = fnp.array([[1.0], [0.3]]), fnp.ones((1, 2))
        >>> fake, real = (
        ...     quant.fake_quantized(f)(w, x),
        ...     quant.quantized(f)(quant.quantize(f, w, x), x),
        ... )
        >>> float(abs(fake - real).max()) < 1e-6
        True
        >>> ft.grad(lambda w: quant.fake_quantized(f)(w, x).sum())(w).tolist()
        [[1.0], [1.0]]
    """
    check_callable(fun, "fake_quantized")
    known = dict(ranges or {})
    own = None if callable(scheme) else scheme_of(scheme)
    products = own is not None and own.products

    @functools.wraps(fun)
    def run(params: Any, *args: Any, **kwargs: Any) -> Any:
        shared = _shared(params, *_axes_of(fun, params, args, kwargs), chosen(own or scheme, skip))
        leaves, treedef = tree.flatten(_held(params))
        found: dict[int, Any] = {}
        for k, _, leaf in _weights(params):
            if k not in shared:
                leaves[k] = leaf
                continue
            name, each, axes = shared[k]
            leaves[k].value = fake_quantize(
                leaf, axes=axes, bits=each.bits, group=each.group, symmetric=each.symmetric
            )
            if each.activations:
                found[k] = known.get(name)
        trace = Fake(current(), fun, products, found)
        return _run(trace, fun, tree.unflatten(treedef, leaves), args, kwargs)

    return run
