"""`per_example_norms`: norms of every example's own gradient, without these gradients in memory.

The gradients of all examples, as `vmap` of `grad` would make them, are written down as a program.
What makes each of them last is read off it: a matrix product that contracts nothing, or a
sequence's positions; an addition to rows of a table; a sum. The norm of most of these follows from
their operands, which reverse mode has anyway.

For ``G = sum_t a_t c_t^T`` the squared norm is ``sum_ts (a_t . a_s) (c_t . c_s)``, the
sum over the product of two Gram matrices; for a single t it is ``|a|^2 |c|^2``.

References:
    Goodfellow, Efficient Per-Example Gradient Computations, arXiv:1510.01799 (2015), equation 3.
    Li, Tramer, Liang, Hashimoto, Large Language Models Can Be Strong Differentially Private
    Learners, arXiv:2110.05679 (2022), section 4: ghost clipping, for sequences and embeddings.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch import dtypes
from funtorch import numpy as fnp
from funtorch.core import ShapedArray
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var, eval_jaxpr
from funtorch.ops.families import ELEMENTWISE
from funtorch.tracebacks import boundary

from .arguments import as_arrays, check_callable, function_name, normalize_argnums
from .batching import vmap
from .passes import drop_dead
from .reverse import grad
from .scan import map as map_each
from .simplify import simplify
from .staging import stage_tree

__all__ = ["per_example_norms"]

Atom = Var | Lit
Values = Callable[[Atom], Any]

_LITTLE = 1 << 16  # elements, of all examples together, that are always made


# ---------------------------------------------------------------------- what gradients are made of
@dataclass(frozen=True)
class _Whole:
    """The squared norm of each row of a value; of all of it where it is the same for every
    example."""

    v: Atom
    same: bool = False

    def atoms(self) -> list[Atom]:
        return [self.v]

    def compute(self, get: Values) -> Any:
        x = get(self.v)
        return (x * x).sum() if self.same else (x * x).sum(tuple(range(1, x.ndim)))


@dataclass(frozen=True)
class _Scaled:
    """A multiple of another squared norm: by a number, and by the square of a scalar or of one
    number per example."""

    of: Any
    number: float = 1.0
    v: Atom | None = None
    inverse: bool = False

    def atoms(self) -> list[Atom]:
        return [*self.of.atoms(), *([] if self.v is None else [self.v])]

    def compute(self, get: Values) -> Any:
        out = self.of.compute(get) * self.number
        if self.v is None:
            return out
        factor = get(self.v) ** 2
        return out / factor if self.inverse else out * factor


@dataclass(frozen=True)
class _Sum:
    """The sum of squared norms of parts of a gradient."""

    parts: tuple[Any, ...]

    def atoms(self) -> list[Atom]:
        return [v for part in self.parts for v in part.atoms()]

    def compute(self, get: Values) -> Any:
        return sum(part.compute(get) for part in self.parts)


@dataclass(frozen=True)
class _Term:
    """A product ``a c``, times a number, that is added to a gradient.

    ``labels`` says of each axis of the gradient which axis it is: ('batch', position among the
    batch axes), ('a', axis of a) or ('c', axis of c).
    """

    a: Atom
    c: Atom
    dims: Any
    labels: tuple[tuple[str, int], ...]
    factor: float = 1.0

    def kinds(self) -> tuple[str, ...]:
        """Say of each axis of a gradient, the examples' aside, whose it is."""
        return tuple(kind for kind, _ in self.labels[1:])

    def swapped(self) -> _Term:
        (ca, cc), (ba, bc) = self.dims
        other = {"a": "c", "c": "a", "batch": "batch"}
        labels = tuple((other[kind], k) for kind, k in self.labels)
        return replace(self, a=self.c, c=self.a, dims=((cc, ca), (bc, ba)), labels=labels)

    def sides(self, get: Values, count: int) -> tuple[Any, Any]:
        """Return a and c as (examples, groups, terms of the sum, rest)."""
        a, c = self._side(get(self.a), 0, "a", count), self._side(get(self.c), 1, "c", count)
        return (a if self.factor == 1 else a * self.factor), c

    def _side(self, x: Any, which: int, name: str, count: int) -> Any:
        summed, batch = self.dims[0][which], self.dims[1][which]
        axis = {("batch", k): d for k, d in enumerate(batch)}
        axis.update({(name, k): k for k in range(x.ndim)})
        first, *rest = self.labels
        groups = [axis[e] for e in rest if e[0] == "batch"]
        free = [axis[e] for e in rest if e[0] == name]
        has = first in axis
        perm = [*([axis[first]] if has else []), *groups, *summed, *free]
        groups_summed_free = (
            math.prod(x.shape[d] for d in axes) for axes in (groups, summed, free)
        )
        shape = (count if has else 1, *groups_summed_free)
        out = fnp.transpose(x, perm).reshape(shape)
        return out if has else fnp.broadcast_to(out, (count, *shape[1:]))


@dataclass(frozen=True)
class _Products:
    """Gradients that are sums of products."""

    terms: tuple[_Term, ...]
    count: int

    def atoms(self) -> list[Atom]:
        return [v for t in self.terms for v in (t.a, t.c)]

    def compute(self, get: Values) -> Any:
        sides = [t.sides(get, self.count) for t in self.terms]
        a, c = sides[0]
        (_, groups, _, m), n = a.shape, c.shape[3]
        terms = sum(a.shape[2] for a, _ in sides)
        if terms == 1:
            return ((a * a).sum((2, 3)) * (c * c).sum((2, 3))).sum(1)
        if terms * (m + n) <= m * n:
            return _in_blocks(_square_by_grams, sides, groups * terms * terms)
        return _in_blocks(_square_by_product, sides, groups * m * n)


def _in_blocks(square: Callable[[Any], Any], examples: Any, size: int) -> Any:
    """Apply ``square``, which makes an array of ``size`` elements, to every example: to as many
    of them at once that all their arrays are small, and stay in the cache."""
    count = tree.leaves(examples)[0].shape[0]
    block = max(_LITTLE // max(size, 1), 1)
    if count <= block:
        return vmap(square)(examples)
    blocks = -(-count // block)
    return map_each(square, examples, batch_size=-(-count // blocks))


def _joined_terms(sides: Sequence[tuple[Any, Any]]) -> list[Any]:
    return [fnp.concatenate(xs, axis=1) for xs in zip(*sides, strict=True)]


def _square_by_grams(sides: Sequence[tuple[Any, Any]]) -> Any:
    a, c = _joined_terms(sides)
    return fnp.maximum(((a @ a.swapaxes(1, 2)) * (c @ c.swapaxes(1, 2))).sum(), 0)


def _square_by_product(sides: Sequence[tuple[Any, Any]]) -> Any:
    a, c = _joined_terms(sides)
    return ((a.swapaxes(1, 2) @ c) ** 2).sum()


@dataclass(frozen=True)
class _Rows:
    """Gradients of a table, to whose rows ``updates`` are added."""

    updates: Atom
    places: tuple[Atom, ...]
    sizes: tuple[int, ...]
    mode: str

    def atoms(self) -> list[Atom]:
        return [self.updates, *self.places]

    def compute(self, get: Values) -> Any:
        x = get(self.updates)
        count, terms = x.shape[0], math.prod(get(self.places[0]).shape[1:])
        x = x.reshape(count, terms, -1)
        number: Any = 0
        for v, size in zip(self.places, self.sizes, strict=True):
            row = get(v).reshape(count, terms)
            if self.mode == "clip":
                row = fnp.clip(row, 0, size - 1)
            elif self.mode == "drop":
                x = fnp.where(((row >= 0) & (row < size))[:, :, None], x, 0)
            number = number * size + row
        by_grams = terms <= x.shape[2]
        square = _square_of_rows_by_grams if by_grams else _square_of_rows_by_sums
        return _in_blocks(square, (x, number), terms * (terms if by_grams else x.shape[2]))


def _square_of_rows_by_grams(example: tuple[Any, Any]) -> Any:
    x, rows = example
    return fnp.maximum(fnp.where(rows[:, None] == rows, x @ x.T, 0).sum(), 0)


def _square_of_rows_by_sums(example: tuple[Any, Any]) -> Any:
    """Add up what goes to one row in a table of the rows that there are."""
    x, rows = example
    order = fnp.argsort(rows)
    rows = rows[order]
    place = fnp.cumsum(fnp.append(False, rows[1:] != rows[:-1]))
    return (fnp.zeros_like(x).at[place].add(x[order]) ** 2).sum()


# ---------------------------------------------------------------------- reading it off the program
class _Reader:
    """Finds out what the gradients of a program are made of; ``count`` is how many examples."""

    def __init__(self, jaxpr: Jaxpr, count: int) -> None:
        self.maker = {v: e for e in jaxpr.eqns for v in e.outvars}
        self.count = count
        last = self._last(jaxpr.outvars)
        rest = (v for v in (*jaxpr.invars, *self.maker) if v not in last)
        self.room = max(_LITTLE, *(v.aval.size for v in rest), 0)

    def _last(self, outs: Sequence[Atom]) -> set[Atom]:
        """Return the gradients, and what they are copies and sums of: arrays of their size."""
        found: set[Atom] = set()
        todo = list(outs)
        while todo:
            v = todo.pop()
            eqn = self.maker.get(v)  # type: ignore[arg-type]
            if v in found or eqn is None:
                continue
            found.add(v)
            if eqn.prim.name in ELEMENTWISE or eqn.prim.name in _MOVES:
                least = v.aval.size // len(eqn.invars) if eqn.invars else 0
                todo += [u for u in eqn.invars if isinstance(u, Var) and u.aval.size >= least > 0]
        return found

    def gradient(self, v: Atom) -> Any:
        """Return what the squared norms of a gradient follow from, None if it is not known."""
        return None if dtypes.is_complex(v.aval.dtype) else self.norm(v)

    def norm(self, v: Atom) -> Any:
        """Return what the squared norms of a real array's rows follow from."""
        eqn = self.maker.get(v)  # type: ignore[arg-type]
        rule = None if eqn is None else _NORMS.get(eqn.prim.name)
        found = None if rule is None or eqn is None else rule(self, eqn)
        if found is not None:
            return found
        rows = v.aval.shape[:1] == (self.count,)
        return _Whole(v) if rows and v.aval.size <= self.room else None

    def terms(self, v: Atom) -> list[_Term] | None:
        """Return the products that a value is the sum of, None if it is another."""
        eqn = self.maker.get(v)  # type: ignore[arg-type]
        if self.number(v) == 0:
            return []
        rule = None if eqn is None else _TERMS.get(eqn.prim.name)
        return None if rule is None else rule(self, eqn)

    def number(self, v: Atom) -> float | None:
        """Return the number that a value is full of, where one is known."""
        while not isinstance(v, Lit):
            eqn = self.maker.get(v)
            if eqn is None or eqn.prim.name != "broadcast_in_dim":
                return None
            v = eqn.invars[0]
        return float(v.val._data.real) if v.aval.dtype.kind in "fiu" else None

    def per_example(self, v: Atom) -> Atom | None:
        """Return the scalar, or the vector of one number per example, that was spread to ``v``."""
        eqn = self.maker.get(v)  # type: ignore[arg-type]
        if eqn is None or eqn.prim.name != "broadcast_in_dim":
            return None
        (x,), dims = eqn.invars, eqn.params["dims"]
        return x if not dims or (dims == (0,) and x.aval.size == self.count) else None


def _same(r: _Reader, eqn: Eqn) -> Any:
    return r.norm(eqn.invars[0])


def _converted(r: _Reader, eqn: Eqn) -> Any:
    (x,), (out,) = eqn.invars, eqn.outvars
    return r.norm(x) if x.aval.dtype.kind == out.aval.dtype.kind else None


def _reshaped(r: _Reader, eqn: Eqn) -> Any:
    (x,) = eqn.invars
    return r.norm(x) if x.aval.shape[:1] == (r.count,) else None


def _transposed(r: _Reader, eqn: Eqn) -> Any:
    return r.norm(eqn.invars[0]) if eqn.params["perm"][0] == 0 else None


def _reversed(r: _Reader, eqn: Eqn) -> Any:
    return None if 0 in eqn.params["axes"] else r.norm(eqn.invars[0])


def _broadcast(r: _Reader, eqn: Eqn) -> Any:
    (x,), (out,) = eqn.invars, eqn.outvars
    if isinstance(x, Lit) or eqn.params["dims"][:1] != (0,):
        times = out.aval.size // max(r.count * x.aval.size, 1)
        return _Scaled(_Whole(x, True), times)
    inner = r.norm(x)
    times = out.aval.size // max(x.aval.size, 1)
    return None if inner is None or x.aval.shape[0] != r.count else _Scaled(inner, times)


def _padded(r: _Reader, eqn: Eqn) -> Any:
    x, value = eqn.invars
    grows = all(n >= 0 for n in (*eqn.params["lo"], *eqn.params["hi"]))
    return r.norm(x) if grows and r.number(value) == 0 and x.aval.shape[0] == r.count else None


def _joined(r: _Reader, eqn: Eqn) -> Any:
    parts = [r.norm(x) for x in eqn.invars]
    known = eqn.params["axis"] > 0 and all(p is not None for p in parts)
    return _Sum(tuple(parts)) if known else None


def _multiplied(r: _Reader, eqn: Eqn) -> Any:
    for x, y in (eqn.invars, eqn.invars[::-1]):
        factor = r.per_example(y)
        inner = None if factor is None or isinstance(x, Lit) else r.norm(x)
        if inner is not None:
            return _Scaled(inner, v=factor)
    return None


def _divided(r: _Reader, eqn: Eqn) -> Any:
    x, y = eqn.invars
    factor = r.per_example(y)
    inner = None if factor is None or isinstance(x, Lit) else r.norm(x)
    return None if inner is None else _Scaled(inner, v=factor, inverse=True)


def _added(r: _Reader, eqn: Eqn) -> Any:
    """Add up products of one kind; anything may be added to zero."""
    x, y = eqn.invars
    for zero, other in ((x, y), (y, x)):
        if r.number(zero) == 0:
            return r.norm(other)
    return _product(r, eqn)


def _product(r: _Reader, eqn: Eqn) -> Any:
    found = r.terms(eqn.outvars[0])
    if not found:
        return None
    first, *others = found
    aligned = [first]
    for t in others:
        if t.kinds() != first.kinds():
            t = t.swapped()
        if t.kinds() != first.kinds():
            return None
        aligned.append(t)
    return _Products(tuple(aligned), r.count)


def _rows_added(r: _Reader, eqn: Eqn) -> Any:
    """Add to rows of a table of zeros, each example to its own."""
    x, updates, *places = eqn.invars
    axes, mode, shape = eqn.params["axes"], eqn.params["mode"], x.aval.shape
    own = r.maker.get(places[0])  # type: ignore[arg-type]
    counted = own is not None and own.prim.name == "iota" and own.params["axis"] == 0
    if r.number(x) != 0 or axes[:1] != (0,) or not counted or shape[0] != r.count:
        return None
    if places[0].aval.shape[:1] != (r.count,) or len(places) < 2:
        return None
    terms = math.prod(places[0].aval.shape[1:])
    if terms > math.prod(shape[d] for d in axes[1:]):
        return None
    return _Rows(updates, tuple(places[1:]), tuple(shape[d] for d in axes[1:]), mode)


_MOVES = frozenset(("reshape", "transpose", "rev", "concatenate", "pad", "broadcast_in_dim"))
_NORMS: dict[str, Callable[[_Reader, Eqn], Any]] = {
    **dict.fromkeys(("neg", "copy", "name"), _same),
    "convert": _converted,
    "reshape": _reshaped,
    "transpose": _transposed,
    "rev": _reversed,
    "broadcast_in_dim": _broadcast,
    "pad": _padded,
    "concatenate": _joined,
    "mul": _multiplied,
    "div": _divided,
    "add": _added,
    "sub": _product,
    "dot_general": _product,
    "scatter_add": _rows_added,
}


def _dot_terms(r: _Reader, eqn: Eqn) -> list[_Term] | None:
    a, c = eqn.invars
    (sa, sc), (ba, bc) = dims = eqn.params["dimension_numbers"]
    labels = [("batch", k) for k in range(len(ba))]
    labels += [("a", k) for k in range(a.aval.ndim) if k not in (*sa, *ba)]
    labels += [("c", k) for k in range(c.aval.ndim) if k not in (*sc, *bc)]
    if eqn.outvars[0].aval.shape[:1] != (r.count,):
        return None
    return [_Term(a, c, dims, tuple(labels))]


def _transposed_terms(r: _Reader, eqn: Eqn) -> list[_Term] | None:
    perm, found = eqn.params["perm"], r.terms(eqn.invars[0])
    if found is None or perm[0] != 0:
        return None
    return [replace(t, labels=tuple(t.labels[k] for k in perm)) for t in found]


def _scaled_terms(found: list[_Term] | None, factor: float) -> list[_Term] | None:
    return None if found is None else [replace(t, factor=t.factor * factor) for t in found]


def _both_terms(sign: float) -> Callable[[_Reader, Eqn], list[_Term] | None]:
    def rule(r: _Reader, eqn: Eqn) -> list[_Term] | None:
        x, y = (r.terms(v) for v in eqn.invars)
        y = _scaled_terms(y, sign)
        return None if x is None or y is None else [*x, *y]

    return rule


def _multiplied_terms(r: _Reader, eqn: Eqn) -> list[_Term] | None:
    for x, y in (eqn.invars, eqn.invars[::-1]):
        factor = r.number(y)
        if factor is not None:
            return _scaled_terms(r.terms(x), factor)
    return None


_TERMS: dict[str, Callable[[_Reader, Eqn], list[_Term] | None]] = {
    "dot_general": _dot_terms,
    "transpose": _transposed_terms,
    "add": _both_terms(1.0),
    "sub": _both_terms(-1.0),
    "neg": lambda r, eqn: _scaled_terms(r.terms(eqn.invars[0]), -1.0),
    "mul": _multiplied_terms,
}


# ---------------------------------------------------------------------- public
def per_example_norms(
    fun: Callable[..., Any], argnums: int | Sequence[int] = 0, in_axes: Any = 0
) -> Callable[..., Any]:
    """Make a function that returns the norm of every example's gradient, without making these.

    The norms are those of ``vmap(grad(fun))``, over all leaves of the differentiated arguments
    together. Gradients of matrices in products, of biases and of tables need about the memory of
    one backward pass for the whole batch. Parameters that are used otherwise (filters of
    convolutions that are larger than what they are applied to, states of loops) are
    differentiated example by example, in a loop.

    Args:
        fun: a loss ``fun(params, *example)`` of one example: a real scalar.
        argnums: position, or positions, of the parameters, which all examples share.
        in_axes: the axis of the examples, as in `vmap`: an int for all other arguments, or a tuple
            with an entry for each argument, those of parameters None.

    Returns:
        A function ``(params, *batch) -> norms``, shape (examples,).

    Raises:
        TypeError: if ``fun`` returns no real scalar, or a parameter is not of a float dtype.
        ValueError: if axes of the examples differ in size, or parameters are mapped.

    Example:
        >>> import funtorch as ft
        >>> loss = lambda w, x, y: (x @ w - y) ** 2
        >>> x = ft.numpy.array([[3.0, 4.0], [6.0, 8.0]])
        >>> ft.per_example_norms(loss)(ft.numpy.zeros(2), x, ft.numpy.array([1.0, 0.5]))
        Array([10., 10.], dtype=float32)
    """
    check_callable(fun, "per_example_norms")
    name = function_name(fun)

    @boundary
    @functools.wraps(fun)
    def norms(*args: Any) -> Any:
        nums = normalize_argnums(argnums, len(args), "per_example_norms", fun)
        axes = in_axes if isinstance(in_axes, (tuple, list)) else [in_axes] * len(args)
        if not isinstance(in_axes, (tuple, list)):
            axes = [None if k in nums else ax for k, ax in enumerate(axes)]
        wrong = [k for k in nums if k < len(axes) and axes[k] is not None]
        if wrong:
            raise ValueError(
                f"per_example_norms of {name}: argument {wrong[0]} is differentiated and shared by "
                f"all examples, but in_axes maps it over axis {axes[wrong[0]]}: give None there"
            )
        batched = vmap(grad(fun, argnums=nums), in_axes=tuple(axes))
        leaves, treedef = tree.flatten((args, {}))
        arrays = as_arrays(leaves, "argument", fun)
        jaxpr, _ = stage_tree(batched, treedef, [x.aval for x in arrays])
        consts, jaxpr = jaxpr.consts, simplify(jaxpr.hoisted())
        found, dtype = _norms_of(jaxpr, [*consts, *arrays])
        others = [k for k, x in enumerate(found) if x is None]
        squares = [x for x in found if x is not None]
        if others:
            squares.append(_one_by_one(fun, nums, axes, args, others))
        return fnp.sqrt(sum(squares[1:], squares[0])).astype(dtype)

    return norms


def _norms_of(jaxpr: Jaxpr, args: Sequence[Any]) -> tuple[list[Any], Any]:
    """Return the squared norms of each output of a program, None where they do not follow from
    what makes it, and the dtype of all."""
    avals: list[ShapedArray] = jaxpr.out_avals
    count = avals[0].shape[0]
    reader = _Reader(jaxpr, count)
    parts = [reader.gradient(v) for v in jaxpr.outvars]
    squares: list[Any] = [None] * len(parts)
    for k, found in _as_they_come(jaxpr, args, parts):
        squares[k] = fnp.broadcast_to(found, (count,))
    return squares, fnp.result_type(*[dtypes.real_dtype(a.dtype) for a in avals])


def _as_they_come(jaxpr: Jaxpr, args: Sequence[Any], parts: list[Any]) -> Iterator[tuple[int, Any]]:
    """Run a program, and compute each squared norm as soon as what it follows from is there.

    So no array is kept for longer than the backward pass itself needs it.
    """
    needed = {k: _variables(p) for k, p in enumerate(parts) if p is not None}
    wanted = list(dict.fromkeys(v for vs in needed.values() for v in vs))
    eqns = drop_dead(Jaxpr(jaxpr.invars, jaxpr.eqns, wanted)).eqns
    maker = {v: k for k, eqn in enumerate(eqns) for v in eqn.outvars}
    ready = {k: max((maker.get(v, -1) for v in vs), default=-1) + 1 for k, vs in needed.items()}
    known: dict[Var, Any] = dict(zip(jaxpr.invars, args, strict=True))

    def get(v: Atom) -> Any:
        x = v.val if isinstance(v, Lit) else known[v]
        short = dtypes.is_float(x.dtype) and x.dtype.itemsize == 2
        return x.astype(np.float32) if short else x  # for squares

    done = 0
    order = sorted(ready, key=ready.__getitem__)
    for place, k in enumerate(order):
        used = {v for eqn in eqns[ready[k] :] for v in eqn.invars if isinstance(v, Var)}
        used.update(v for later in order[place:] for v in needed[later])
        here = list(known)
        kept = [v for v in (*here, *maker) if v in used and maker.get(v, -1) < ready[k]]
        piece = Jaxpr(here, eqns[done : ready[k]], kept)
        known = dict(zip(kept, eval_jaxpr(piece, *known.values()), strict=True))
        done = ready[k]
        yield k, parts[k].compute(get)


def _variables(part: Any) -> list[Var]:
    return [v for v in part.atoms() if isinstance(v, Var)]


def _one_by_one(
    fun: Callable[..., Any],
    nums: Sequence[int],
    axes: Sequence[Any],
    args: Sequence[Any],
    which: Sequence[int],
) -> Any:
    """Return the squared norms of some leaves' gradients, from one example at a time."""
    mapped = [k for k, ax in enumerate(axes) if ax is not None and tree.leaves(args[k])]
    moved = [vmap(lambda x: x, in_axes=(axes[k],))(args[k]) for k in mapped]
    leaves, treedef = tree.flatten(tuple(args[k] for k in nums))

    def square(example: Any) -> Any:
        def loss(chosen: Sequence[Any]) -> Any:
            full, every = list(args), list(leaves)
            for k, x in zip(which, chosen, strict=True):
                every[k] = x
            params = dict(zip(nums, treedef.unflatten(every), strict=True))
            params.update(zip(mapped, example, strict=True))
            return fun(*[params.get(k, x) for k, x in enumerate(full)])

        found = grad(loss)([leaves[k] for k in which])
        return sum((abs(g) ** 2).sum() for g in found)

    return map_each(square, moved)
