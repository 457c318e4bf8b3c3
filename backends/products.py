"""Matrix products: which matrices lie in the operands' memory, however they were moved.

An operand that is a movement (transpose, reshape, slice, broadcast) of an array in memory is read
where it is, if its rows or its columns lie next to each other; a result that is only transposed and
reshaped is written where it goes. Other contractions become products of turned operands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from funtorch.dims import fixed
from funtorch.jaxpr import Eqn, Lit, Var
from funtorch.ops.contract import dot_general, free_axes, inner_dtype
from funtorch.ops.elementwise import add, complex, convert, imag, mul, real, sub
from funtorch.ops.families import broadcast_in_dim, scalar
from funtorch.ops.reduce import reduce_sum
from funtorch.ops.shape import pad, reshape, transpose

from .kernel import Affine, row_major
from .moves import combine, identity, moved
from .plan import Dot

__all__ = [
    "BYTES",
    "CPU_PRODUCTS",
    "FLOATS",
    "INT32",
    "QUAD",
    "SUMMED",
    "Products",
    "convert_to",
    "destination",
    "dot",
    "in_order",
    "is_summed",
    "narrow",
    "product",
    "rewritten",
    "source",
]

FLOATS = frozenset(map(np.dtype, ("float32", "float64")))
"""The dtypes of which every machine makes convolutions."""

SUMMED = FLOATS | frozenset(map(np.dtype, ("int32", "uint32", "int64", "uint64")))
"""The dtypes of which there are products."""

BYTES, INT32 = np.dtype("int8"), np.dtype("int32")
QUAD = 4
"""Products of int8 are summed in int32, four terms at a time, which lie side by side."""


@dataclass(frozen=True)
class Products:
    """Which products a machine makes by itself; others are written in these.

    Attributes:
        pairs: dtypes of the operands and of the result.
        takes: whether the machine makes a step well, given where its matrices lie. It must, if
            operands and result lie row-major and are matrices with one batch axis, whatever is no
            plain product of one of the dtypes `SUMMED`, or that is not of the machine's own.
        convolved: dtypes of convolutions.
    """

    pairs: frozenset[tuple[np.dtype, np.dtype]]
    takes: Callable[[Dot], bool]
    convolved: frozenset[np.dtype] = FLOATS

    def makes(self, eqn: Eqn) -> bool:
        """Tell whether a dot_general of these dtypes may be one of the machine's."""
        a, b, out = (v.aval.dtype for v in (*eqn.invars, *eqn.outvars))
        whole = not any(isinstance(v, Lit) for v in eqn.invars)
        return whole and a == b and (a, out) in self.pairs

    def convolves(self, eqn: Eqn) -> bool:
        """Tell whether a convolution may be one of the machine's; those of every feature on its
        own, of 16 bits, are sums of products."""
        kinds = {v.aval.dtype for v in (*eqn.invars, *eqn.outvars)}
        alone = eqn.invars[1].aval.shape[0] == eqn.params["groups"]
        return len(kinds) == 1 and kinds <= (FLOATS if alone else self.convolved)


CPU_PRODUCTS = Products(frozenset([*((d, d) for d in SUMMED), (BYTES, INT32)]), lambda step: True)
"""What the CPU's kernels and BLAS make."""

Strides = tuple[int, tuple[int, ...]]
"""Where the elements of an array are: an offset and a stride per axis."""


_ROWS, _SUMS = 3, 4  # axes that rows and sums may have
_SHORT = 6  # terms that the innermost of several axes of a sum has at least
_TERMS = 16  # terms and columns that a product of tiny matrices has at most
_LEAST = 64  # operations of matrices that are tiny, however few they are
_MANY = 2048  # elements of a result that is worth its own kernel; operations of a tiny matrix


def source(v: Var, eqn_of: dict[Var, Eqn], moves: set[Eqn], held: set[Var]) -> tuple[Var, Strides]:
    """Return the array in memory that holds an operand's elements, and where.

    Args:
        moves: the equations that are movements.
        held: the arrays that are in memory in any case.
    """
    shape = v.aval.shape
    where, at = identity(shape), v
    while at not in held and at in eqn_of and eqn_of[at] in moves:
        eqn = eqn_of[at]
        x = eqn.invars[0]
        if not isinstance(x, Var):
            break
        found = moved(eqn, where, len(shape))
        if found is None:
            break
        where, at = found, x
    # What windows or broadcasts repeat is stored once instead.
    if at not in held and int(at.aval.size) >= int(v.aval.size):
        return in_order(v)
    place = combine(list(zip(row_major(at.aval.shape), where, strict=True)), len(shape))
    return at, (place.offset, place.strides)


def in_order(v: Any) -> tuple[Var, Strides]:
    """Return an array's own place: in memory of its own, row-major."""
    return v, (0, row_major(v.aval.shape))


def destination(
    v: Var, readers: Mapping[Var, list[Eqn]], moves: set[Eqn], outputs: set[Var]
) -> tuple[Var, tuple[int, ...], list[Eqn]]:
    """Return where a product may be written instead of ``v``.

    Returns:
        the last of the transposes and reshapes that are all that happens to ``v``, the strides of
        v's axes in it, and these equations.
    """
    strides, at, passed, turned = row_major(v.aval.shape), v, [], False
    while at not in outputs and len(readers.get(at, ())) == 1:
        (eqn,) = readers[at]
        name = eqn.prim.name
        if eqn not in moves or name not in ("reshape", "transpose"):
            break
        if name == "transpose":
            if turned or passed:
                break  # after a reshape, axes of v are no axes any more
            turned, perm = True, eqn.params["perm"]
            there = row_major(eqn.outvars[0].aval.shape)
            strides = tuple(there[perm.index(k)] for k in range(v.aval.ndim))
        passed.append(eqn)
        at = eqn.outvars[0]
    return at, strides, passed


Axis = tuple[int, ...]
"""The size of an axis, and its strides in the arrays that have it."""


def _joined(axes: Sequence[Axis]) -> list[Axis]:
    """Return axes with those made one that are one in all arrays."""
    found: list[Axis] = []
    for size, *steps in axes:
        if size == 1:
            continue
        if found and all(f == s * size for f, s in zip(found[-1][1:], steps, strict=True)):
            size *= found.pop()[0]
        found.append((size, *steps))
    return found


def product(
    eqn: Eqn, a: tuple[Var, Strides], b: tuple[Var, Strides], out: tuple[Var, Strides]
) -> Dot | None:
    """Return the step of a dot_general of operands in these places; None if they lie otherwise."""
    if any(isinstance(v, Lit) for v in eqn.invars):
        return None
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    (left, right), result = (v.aval.shape for v in eqn.invars), eqn.outvars[0].aval.shape
    sa, sb, sc = (where[1] for _, where in (a, b, out))
    nb = len(ba)
    free_a, free_b = free_axes(len(left), ca, ba), free_axes(len(right), cb, bb)
    batches = [
        (result[k], sa[i], sb[j], sc[k]) for k, (i, j) in enumerate(zip(ba, bb, strict=True))
    ]
    rows = [(left[d], sa[d], sc[nb + k]) for k, d in enumerate(free_a)]
    columns = [(right[d], sb[d], sc[nb + len(free_a) + k]) for k, d in enumerate(free_b)]
    sums = [(left[i], sa[i], sb[j]) for i, j in zip(ca, cb, strict=True)]
    offsets = [x[1][0] for x in (a, b, out)]
    step = dot((a[0], b[0], out[0]), offsets, batches, rows, columns, sums)
    tf32 = eqn.params.get("precision") == "tf32"
    return replace(step, tf32=True) if step is not None and tf32 else step


def narrow(eqn: Eqn, place: Callable[[Var], tuple[Var, Strides]], out: Var) -> Dot:
    """Return the step of a narrow_dot, whose result's elements lie in order in ``out``.

    Args:
        place: says where an operand lies, if it is not made in memory of its own.
    """
    (m, k), (n, _) = (v.aval.shape for v in eqn.invars[:2])
    found = []
    for j, v in enumerate(eqn.invars):
        assert isinstance(v, Var)
        there = place(v)
        fits = there[1][1][1] == 1 and (j < 2 or there[1] == in_order(v)[1])
        found.append(there if fits else in_order(v))
    (x, (x0, (ar, _))), (values, (b0, (bn, _))), *scale = found
    places = Affine(x0, (ar, 1)), Affine(b0, (1, bn)), Affine(0, (n, 1))
    step = Dot(x, values, out, (), (m,), (k,), n, places)
    return replace(step, scale=scale[0][0]) if scale else step


def dot(
    arrays: Sequence[Var],
    offsets: Sequence[int],
    batches: Sequence[Axis],
    rows: Sequence[Axis],
    columns: Sequence[Axis],
    sums: Sequence[Axis],
) -> Dot | None:
    """Return the step of products of arrays a and b, or None if they lie otherwise.

    Args:
        arrays, offsets: a, b and the result, and where they begin.
        batches: with strides of all three arrays.
        rows: with strides of a and of the result.
        columns: with strides of b and of the result.
        sums: with strides of a and of b.
    """
    (a, b, out), (a0, b0, c0) = arrays, offsets
    turned = [(n, j, i) for n, i, j in sums]
    for key in (1, 2):
        order = sorted(range(len(sums)), key=lambda k: -abs(int(sums[k][key])))
        found = _made(
            (a, b, out), (a0, b0, c0), batches, rows, columns, [sums[k] for k in order]
        ) or _made(
            (b, a, out),
            (b0, a0, c0),
            [(n, j, i, k) for n, i, j, k in batches],
            columns,
            rows,
            [turned[k] for k in order],
        )
        if found is not None:
            return found
    return None


def _made(
    arrays: tuple[Var, Var, Var],
    offsets: tuple[int, int, int],
    batches: Sequence[Axis],
    rows: Sequence[Axis],
    columns: Sequence[Axis],
    sums: Sequence[Axis],
) -> Dot | None:
    batches, rows, columns, sums = map(_joined, (batches, rows, columns, sums))
    rows, columns = rows or [(1, 0, 0)], columns or [(1, 1, 1)]
    sums = sums or [(1, 0, 0)]
    (n, bn, cn), bk = columns[-1], sums[-1][2]
    if len(columns) > 1 or cn != 1 or len(rows) > _ROWS or len(sums) > _SUMS:
        return None
    if bn != 1 and bk != 1 and sums[-1][0] != 1:
        return None
    if arrays[0].aval.dtype == BYTES and not _in_quads(offsets, batches, rows, columns, sums):
        return None
    if len(sums) > 1 and int(sums[-1][0]) < _SHORT:
        return None
    steps = (
        [x[1] for x in (*batches, *rows, *sums)],
        [*(x[2] for x in (*batches, *sums)), bn],
        [*(x[3] for x in batches), *(x[2] for x in rows), 1],
    )
    places = tuple(Affine(at, tuple(s)) for at, s in zip(offsets, steps, strict=True))
    sizes = [tuple(x[0] for x in axes) for axes in (batches, rows, sums)]
    return Dot(*arrays, sizes[0], sizes[1], sizes[2], n, (places[0], places[1], places[2]))


def _in_quads(offsets: Sequence[int], *axes: Sequence[Axis]) -> bool:
    """Tell whether the terms of a product of int8 lie side by side by fours, in both operands."""
    batches, rows, columns, sums = axes
    inner, *along = sums[-1]
    steps = [*offsets[:2], inner, *(x for _, *two in sums[:-1] for x in two)]
    steps += [x for _, i, j, _ in batches for x in (i, j)]
    steps += [x for n, x, _ in (*rows, *columns) if n != 1]
    return along == [1, 1] and all(x % QUAD == 0 for x in steps)


def rewritten(eqn: Eqn, machine: Products = CPU_PRODUCTS) -> Callable[..., Any] | None:
    """Return a contraction written in what is compiled well; None if it is that already."""
    if machine.makes(eqn) and _elementwise(eqn) is None:
        step = product(eqn, *(in_order(v) for v in (*eqn.invars, *eqn.outvars)))
        if step is not None and machine.takes(step):
            return None
        known = step is not None and eqn.invars[0].aval.dtype == BYTES
        turned = None if known else _as_matrices(eqn)
        if turned is not None or (step is not None and is_summed(eqn)):
            return turned
    for rule in (_in_one_dtype, _elementwise, _in_parts):
        found = rule(eqn)
        if found is not None:
            return found
    return None


def is_summed(eqn: Eqn) -> bool:
    """Tell whether a dot_general is one of those that every machine has kernels for."""
    dtype = eqn.invars[0].aval.dtype
    return dtype in SUMMED and eqn.outvars[0].aval.dtype == dtype


def _in_one_dtype(eqn: Eqn) -> Callable[..., Any] | None:
    """Return a contraction whose operands and result have the dtype that it is summed in."""
    given, out = eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype
    inner = inner_dtype(given, out)
    if inner.kind in "iu" and inner.itemsize < 4:
        inner = INT32  # what is above the narrow type's bits changes none of them
    narrow = given == BYTES and inner == INT32 and not _is_elementwise(eqn)
    if inner == given == out or (narrow and out == inner):
        return None
    if narrow:
        return lambda x, y: convert_to(
            dot_general(x, y, dimension_numbers=eqn.params["dimension_numbers"], out_dtype=inner),
            out,
        )

    def converted(x: Any, y: Any) -> Any:
        x, y = (convert_to(z, inner) for z in (x, y))
        made = dot_general(x, y, **{**eqn.params, "out_dtype": inner})
        return convert_to(made, out)

    return converted


def _is_elementwise(eqn: Eqn) -> bool:
    """Tell whether a contraction is one without a sum, or with a vector."""
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    a, b = (v.aval for v in eqn.invars)
    axes = (a, ca), (a, free_axes(a.ndim, ca, ba)), (b, free_axes(b.ndim, cb, bb))
    return any(math.prod(x.shape[d] for d in found) == 1 for x, found in axes)


def convert_to(x: Any, dtype: np.dtype) -> Any:
    """Return x as an array of a dtype."""
    return x if x.dtype == dtype else convert(x, dtype=dtype, weak_type=False)


def _elementwise(eqn: Eqn) -> Callable[..., Any] | None:
    """Return a contraction without a sum, or with a vector, as what kernels do.

    So it fuses with what is around it, and reads memory once, which is what it takes its time for.
    """
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    a, b = (v.aval for v in eqn.invars)
    if a.dtype.kind == "b":
        return None
    free_a, free_b = free_axes(a.ndim, ca, ba), free_axes(b.ndim, cb, bb)
    batch, result = len(ba), eqn.outvars[0].aval.shape
    if math.prod(a.shape[d] for d in ca) == 1:
        rows = tuple(range(batch, batch + len(free_a)))
        columns = tuple(range(batch + len(free_a), len(result)))

        def multiplied(x: Any, y: Any) -> Any:
            x = _spread(x, (*ba, *free_a), (*range(batch), *rows), result)
            return mul(x, _spread(y, (*bb, *free_b), (*range(batch), *columns), result))

        return multiplied
    alone = [math.prod(z.shape[d] for d in f) == 1 for z, f in ((a, free_a), (b, free_b))]
    if not any(alone):
        return _of_few_terms(eqn) if _is_tiny(eqn) else None

    def summed(x: Any, y: Any) -> Any:
        # The larger operand's axes are the loops, in the order in which they lie in memory.
        if alone[1]:
            large, axes, small, match = x, (*ba, *ca), y, (*bb, *cb)
            free, sums = free_a, ca
        else:
            large, axes, small, match = y, (*bb, *cb), x, (*ba, *ca)
            free, sums = free_b, cb
        lead = axes[:batch]
        terms = mul(large, _spread(small, match, axes, large.shape))
        total = reduce_sum(terms, axes=tuple(sorted(sums)))
        left = [d for d in range(len(large.shape)) if d not in sums]
        perm = tuple(left.index(d) for d in (*lead, *free))
        if perm != tuple(range(len(perm))):
            total = transpose(total, perm=perm)
        return total if total.shape == result else reshape(total, shape=result)

    return summed


def _is_tiny(eqn: Eqn) -> bool:
    """Tell whether the matrices are so small that calling for each would take most of the time."""
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    a, b, out = (v.aval for v in (*eqn.invars, *eqn.outvars))
    if not all(map(fixed, (*a.shape, *b.shape))) or out.size == 0:
        return False
    if not (is_summed(eqn) or a.dtype.kind == out.dtype.kind == "c"):
        return False
    terms = math.prod(a.shape[d] for d in ca)
    columns = math.prod(b.shape[d] for d in free_axes(b.ndim, cb, bb))
    if max(terms, columns) > _TERMS:
        return False
    batch = math.prod(out.shape[: len(ba)])
    each = out.size * terms // batch
    if each <= _LEAST:
        return True
    return out.size >= _MANY and (terms <= _TERMS // 2 or (batch > 1 and each <= _MANY))


def _of_few_terms(eqn: Eqn) -> Callable[..., Any]:
    """Return a contraction as sums of products of elements."""
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    a, b, out = (v.aval for v in (*eqn.invars, *eqn.outvars))
    free_a, free_b = free_axes(a.ndim, ca, ba), free_axes(b.ndim, cb, bb)
    rows, terms = len(ba) + len(free_a), tuple(a.shape[d] for d in ca)
    shape = (*out.shape[:rows], *terms, *out.shape[rows:])
    sums = tuple(range(rows, rows + len(ca)))

    def summed(x: Any, y: Any) -> Any:
        x = _spread(x, (*ba, *free_a, *ca), (*range(rows), *sums), shape)
        dims = (*range(len(ba)), *sums, *range(rows + len(ca), len(shape)))
        return reduce_sum(mul(x, _spread(y, (*bb, *cb, *free_b), dims, shape)), axes=sums)

    return summed


def _spread(x: Any, axes: Sequence[int], dims: Sequence[int], shape: Sequence[int]) -> Any:
    """Return x with some of its axes as the axes ``dims`` of a shape; its others have size 1."""
    perm = sorted(range(len(axes)), key=lambda k: dims[k])
    order = tuple(axes[k] for k in perm)
    rest = tuple(d for d in range(len(x.shape)) if d not in axes)
    if (*order, *rest) != tuple(range(len(x.shape))):
        x = transpose(x, perm=(*order, *rest))
    if rest:
        x = reshape(x, shape=x.shape[: len(order)])
    return broadcast_in_dim(x, shape=tuple(shape), dims=tuple(dims[k] for k in perm))


def _in_parts(eqn: Eqn) -> Callable[..., Any] | None:
    """Return a contraction of complex numbers as four of real ones."""
    if eqn.invars[0].aval.dtype.kind != "c":
        return None
    params = {k: v for k, v in eqn.params.items() if k != "out_dtype"}

    def parts(x: Any, y: Any) -> Any:
        rr, ii, ri, ir = (
            dot_general(f(x), g(y), **params)
            for f, g in ((real, real), (imag, imag), (real, imag), (imag, real))
        )
        return complex(sub(rr, ii), add(ri, ir))

    return parts


def _as_matrices(eqn: Eqn) -> Callable[..., Any] | None:
    """Return a contraction written as transposes and products of matrices; None if it is one.

    Each operand becomes (batch, rows, columns), its last axis staying last where it can: then the
    transpose moves whole runs of memory.
    """
    a, b, out = (v.aval for v in (*eqn.invars, *eqn.outvars))
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    pairs = sorted(zip(ca, cb, strict=True))
    if a.dtype == BYTES:
        return lambda x, y: _by_quads(x, y, eqn, pairs)
    left = _turned(a.shape, ba, tuple(i for i, _ in pairs))
    right = _turned(b.shape, bb, tuple(j for _, j in pairs))
    if left[0] == tuple(range(a.ndim)) and right[0] == tuple(range(b.ndim)):
        return None  # turning does not help: it is too large
    numbers = ((left[2],), (right[2],)), ((0,), (0,))

    def turned(x: Any, y: Any) -> Any:
        x, y = (
            reshape(z if perm == tuple(range(len(perm))) else transpose(z, perm=perm), shape=shape)
            for z, (perm, shape, _) in ((x, left), (y, right))
        )
        made = dot_general(x, y, **{**eqn.params, "dimension_numbers": numbers})
        return reshape(made, shape=out.shape)

    return turned


def _by_quads(x: Any, y: Any, eqn: Eqn, pairs: Sequence[tuple[int, int]]) -> Any:
    """Return a product of int8 whose terms are the last axis of both, filled up to whole quads."""
    _, (ba, bb) = eqn.params["dimension_numbers"]
    made = []
    for z, batch, summed in ((x, ba, [i for i, _ in pairs]), (y, bb, [j for _, j in pairs])):
        groups = (batch, free_axes(len(z.shape), summed, batch), summed)
        perm = tuple(d for group in groups for d in group)
        sizes = tuple(math.prod(z.shape[d] for d in group) for group in groups)
        z = z if perm == tuple(range(len(perm))) else transpose(z, perm=perm)
        z = z if z.shape == sizes else reshape(z, shape=sizes)
        none, more = (0, 0, 0), (0, 0, -sizes[2] % QUAD)
        made.append(pad(z, scalar(0, BYTES), lo=none, hi=more, interior=none) if more[2] else z)
    out = dot_general(*made, dimension_numbers=(((2,), (2,)), ((0,), (0,))), out_dtype=INT32)
    return reshape(out, shape=eqn.outvars[0].aval.shape)


def _turned(
    shape: Sequence[int], batch: Sequence[int], contracted: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, int, int], int]:
    """Return the order of an operand's axes, its shape as matrices, and which axis of those is
    contracted."""
    free = free_axes(len(shape), contracted, batch)
    last = bool(contracted) and contracted[-1] == len(shape) - 1
    groups = (batch, free, contracted) if last else (batch, contracted, free)
    sizes = [math.prod(shape[d] for d in group) for group in groups]
    return tuple(d for group in groups for d in group), (*sizes,), 2 if last else 1  # type: ignore[return-value]
