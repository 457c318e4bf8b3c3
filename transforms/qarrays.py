"""Arrays of small integers with scales, and the products that read them as they lie.

A quantised array stands for ``values * scale``. Each axis of the scale has size 1, the size of the
array's axis, or that of a number of groups of neighbours which share a scale. Four-bit integers lie
two in a byte along one axis: a group's first half in the low bits, its second half in the high
ones, so that both halves of a sum of products read the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import funtorch.numpy as fnp
from funtorch import tree
from funtorch.core import ShapedArray
from funtorch.ops.contract import dot_general, free_axes
from funtorch.ops.conv import conv_general_dilated
from funtorch.ops.families import broadcast_in_dim
from funtorch.ops.marks import optimization_barrier_p
from funtorch.ops.narrow import narrow_dot, narrow_dot_p
from funtorch.ops.shape import transpose

from .custom import custom_jvp
from .restage import expansion_rules

__all__ = ["QArray", "contracted", "levels", "moved", "quantize_array", "scale_of", "whole_numbers"]
__all__ += ["convolved", "rounds"]

_INT32, _FLOAT32 = np.dtype("int32"), np.dtype("float32")
_each = range  # which is also what activations have
_FEW = 8  # vectors by which a matrix is multiplied in one go
_USES = 128  # of an activation in a convolution, from which its rounding pays
_FEATURES = 8  # of a convolution, below which products of int8 are not full
_LANES = (64, 32, 16)  # terms of a long sum that are added up side by side


def levels(bits: int) -> int:
    """Return the largest integer of so many bits; the smallest is its negative."""
    return (1 << (bits - 1)) - 1


# ------------------------------------------------------------------------------------------ numbers
def scale_of(largest: Any, bits: int) -> Any:
    """Return the scale at which ``largest`` is the largest integer: 0 where that is 0."""
    return fnp.asarray(largest) / levels(bits)


def integers(x: Any, scale: Any, bits: int) -> Any:
    """Return x in units of a scale, rounded half to even, as int8; 0 where the scale is 0."""
    units = x / fnp.where(scale == 0, fnp.ones_like(scale), scale)
    most = levels(bits)
    return fnp.clip(fnp.round(units), -most, most).astype(np.int8)


@custom_jvp
def whole_numbers(x: Any, scale: Any) -> Any:
    """Return activations as int8. It has no derivative, and says so."""
    return integers(x, scale, 8)


@custom_jvp
def as_they_are(x: Any) -> Any:
    """Return activations that stay floats because it is quicker; like whole numbers, they have no
    derivative."""
    return x


@as_they_are.defjvp
@whole_numbers.defjvp
def _no_derivative(primals: Any, tangents: Any) -> Any:
    raise TypeError(
        "a program of int8 activations has no derivative: they are rounded to whole numbers. "
        "Differentiate quant.fake_quantized(f) instead, which rounds with straight-through "
        "gradients, and quantize its parameters afterwards; or quantize weights alone "
        "(scheme='int8-weights'), whose activations stay floats"
    )


def largest_of(x: Any, axes: Sequence[int]) -> Any:
    """Return the largest magnitudes over some axes, which are kept with size 1."""
    if any(x.shape[d] == 0 for d in axes):
        return fnp.zeros([1 if d in axes else n for d, n in enumerate(x.shape)], x.dtype)
    return fnp.abs(x).max(axis=tuple(axes), keepdims=True)


# ----------------------------------------------------------------------------------------- the type
@tree.register_pytree_with_keys_class
class QArray:
    """An array of integers with scales, which stands for their product.

    It is a pytree of arrays, to be stored, saved, jitted and mapped; `funtorch.quant.quantized`
    makes functions compute with it.

    Attributes:
        values: int8, or uint8 with two four-bit integers in a byte.
        scale: floats, of the same rank: each axis has size 1, the array's, or that of its groups.
        range: the largest magnitude of the activations that meet the array, from calibration, a
            scalar; None where none is known.
        bits: 8 or 4.
        axis: the axis along which bytes hold two integers; None where they hold one.
        activations: whether the activations that it is multiplied by become int8.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import quant
        >>> q = quant.quantize_array(fnp.array([[1.0, -2.54], [0.0, 0.0]]), axes=(1,))
        >>> q.values.tolist(), [round(float(s), 6) for s in q.scale[:, 0]]
        ([[50, -127], [0, 0]], [0.02, 0.0])
        >>> q.dequantize().shape
        (2, 2)
    """

    no_gradient = (
        "it is quantised, and integers have no derivative. Differentiate with respect to the "
        "float parameters that it was made of, through quant.fake_quantized(f) or "
        "nnx.FakeQuantized(model) to train for the rounding, and quantize them afterwards"
    )

    def __init__(
        self, values: Any, scale: Any, range: Any = None, bits: int = 8, axis: int | None = None,
        activations: bool = False,
    ) -> None:  # fmt: skip
        self.values, self.scale, self.range = values, scale, range
        self.bits, self.axis, self.activations = bits, axis, activations
        self._order = tuple(_each(len(getattr(values, "shape", ()))))

    def tree_flatten_with_keys(self) -> Any:
        """Take it apart, for pytrees."""
        names = ("values", "scale", "range")
        children = [(tree.GetAttrKey(name), getattr(self, name)) for name in names]
        return children, (self.bits, self.axis, self.activations)

    def tree_flatten(self) -> Any:
        """Take it apart, for pytrees."""
        return (self.values, self.scale, self.range), (self.bits, self.axis, self.activations)

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> QArray:
        """Put it together, for pytrees."""
        return cls(*children, *aux)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array that it stands for."""
        return tuple(2 * n if d == self.axis else n for d, n in enumerate(self.values.shape))

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return self.values.ndim

    @property
    def size(self) -> int:
        """How many numbers it stands for."""
        return math.prod(self.shape)

    @property
    def aval(self) -> ShapedArray:
        """The type of the array that it stands for."""
        return ShapedArray(self.shape, np.dtype(self.scale.dtype))

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return sum(x.size * x.dtype.itemsize for x in (self.values, self.scale))

    def __repr__(self) -> str:
        sizes = ",".join(map(str, self.shape))
        return f"QArray(int{self.bits}[{sizes}], scale {self.scale.shape})"

    def integers(self) -> Any:
        """Return its integers as int8, of its shape."""
        if self.axis is None:
            return self.values
        return fnp.concatenate(self.halves(), axis=self.axis + 1).reshape(self.shape)

    def halves(self) -> tuple[Any, Any]:
        """Return both halves of four-bit integers, as int8, with the groups as an axis of its own
        before that along which they lie."""
        assert self.axis is not None
        d, shape = self.axis, self.values.shape
        groups = self.scale.shape[d]
        v = self.values.reshape(*shape[:d], groups, shape[d] // groups, *shape[d + 1 :])
        eight = np.int8(8)
        return (v & 15).astype(np.int8) - eight, (v >> 4).astype(np.int8) - eight

    def dequantize(self) -> Any:
        """Return the array that it stands for.

        Returns:
            floats of its shape.
        """
        return self._scaled(self.integers().astype(self.scale.dtype))

    def in_memory(self) -> tuple[QArray, tuple[int, ...]]:
        """Return it with its axes in the order in which they lay when transposes began, and which
        of its axes each of these is."""
        return _transposed(self, self._order), self._order

    def _scaled(self, numbers: Any) -> Any:
        parts, scale = [], []
        for n, s in zip(self.shape, self.scale.shape, strict=True):
            grouped = 1 < s < n
            parts += [s, n // s] if grouped else [n]
            scale += [s, 1] if grouped else [s]
        return (numbers.reshape(parts) * self.scale.reshape(scale)).reshape(self.shape)

    def replace(self, **changes: Any) -> QArray:
        """Return a copy with other attributes.

        Args:
            **changes: attributes by name.

        Returns:
            The copy.
        """
        names = ("values", "scale", "range", "bits", "axis", "activations")
        return QArray(**{name: changes.get(name, getattr(self, name)) for name in names})


def _group_of(size: int, wanted: int | None, bits: int) -> int:
    """Return how many neighbours share a scale: the most that divide the axis, and are in pairs
    where four-bit integers are."""
    if wanted is None:
        return size
    fits = (g for g in range(min(wanted, size), 0, -1) if size % g == 0)
    return next((g for g in fits if bits == 8 or size % 2 or g % 2 == 0), size)


def quantize_array(
    x: Any, *, axes: Sequence[int], bits: int = 8, group: int | None = None, range: Any = None,
    activations: bool = False,
) -> QArray:  # fmt: skip
    """Make an array of integers and scales: each scale brings the largest magnitude to 127 (or 7).

    Args:
        x: floats.
        axes: the axes along which numbers share a scale: those that products sum over.
        bits: 8 or 4.
        group: where there is one such axis, how many neighbours on it share a scale, at most.
        range: the largest magnitude of the activations that it will meet.
        activations: whether these become int8.

    Returns:
        The integers, rounded half to even, and their scales. The smallest integers, -128 and -8,
        are not used. Four-bit integers whose axis is odd lie one in a byte.

    Raises:
        ValueError: ``bits`` is neither 8 nor 4, or x is no array of floats.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import quant
        >>> q = quant.quantize_array(fnp.ones((3, 64)), axes=(1,), bits=4, group=32)
        >>> q, q.values.shape, q.nbytes
        (QArray(int4[3,64], scale (3, 2)), (3, 32), 120)
    """
    x = fnp.asarray(x)
    if bits not in (4, 8):
        raise ValueError(f"quantize_array takes bits 8 or 4; it was given {bits}")
    if not fnp.issubdtype(x.dtype, fnp.floating):
        raise ValueError(
            f"quantize_array takes an array of floats; it was given one of {x.dtype.name} "
            f"{list(x.shape)}"
        )
    axes = tuple(sorted(d % x.ndim for d in axes))
    (d,) = axes if len(axes) == 1 else (None,)
    if d is None or x.shape[d] == 0:
        scale = scale_of(largest_of(x, axes), bits)
        return QArray(integers(x, scale, bits), scale, range, bits, None, activations)
    size = _group_of(x.shape[d], group, bits)
    parts = x.reshape(*x.shape[:d], x.shape[d] // size, size, *x.shape[d + 1 :])
    scale = scale_of(largest_of(parts, (d + 1,)), bits)
    values, axis = integers(parts, scale, bits), None
    shape = list(x.shape)
    if bits == 4 and size % 2 == 0:
        low, high = fnp.split((values + np.int8(8)).astype(np.uint8), 2, axis=d + 1)
        values, axis, shape[d] = low | (high << 4), d, shape[d] // 2
    return QArray(values.reshape(shape), scale.squeeze(d + 1), range, bits, axis, activations)


# ---------------------------------------------------------------------------------------- movements
def _along(q: QArray, d: int) -> bool | None:
    """Tell whether the scale moves with an axis; None where it is shared by groups or by pairs."""
    if d == q.axis or 1 < q.scale.shape[d] < q.shape[d]:
        return None
    return q.scale.shape[d] == q.shape[d] != 1


def _transposed(q: QArray, perm: Sequence[int]) -> QArray:
    perm = tuple(perm)
    if perm == tuple(range(q.ndim)):
        return q
    axis = None if q.axis is None else perm.index(q.axis)
    out = q.replace(values=q.values.transpose(perm), scale=q.scale.transpose(perm), axis=axis)
    out._order = tuple(perm.index(d) for d in q._order)
    return out


def _reshaped(q: QArray, shape: Sequence[int]) -> QArray | None:
    """Reshape axes that are split, or merged where all of them have scales, or none has."""
    moved = factors(q.shape, shape)
    if moved is None:
        return None
    values, scale, axis = [], [], None
    for old, new in moved:
        if len(old) == len(new) == 1:
            axis = len(values) if old[0] == q.axis else axis
            values.append(q.values.shape[old[0]])
            scale.append(q.scale.shape[old[0]])
            continue
        found = {_along(q, d) for d in old if q.shape[d] != 1}
        if len(found) > 1 or None in found:
            return None
        values += [shape[d] for d in new]
        scale += [shape[d] if found == {True} else 1 for d in new]
    return q.replace(values=q.values.reshape(values), scale=q.scale.reshape(scale), axis=axis)


def factors(
    old: Sequence[int], new: Sequence[int]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]] | None:
    """Return which axes of one shape become which of another, in order; None if any is empty."""
    if 0 in old:
        return None
    found, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        a, b, n, m = i, j, 1, 1
        while n != m or (a, b) == (i, j):
            if (n <= m and i < len(old)) or j == len(new):
                n, i = n * old[i], i + 1
            else:
                m, j = m * new[j], j + 1
        found.append((tuple(range(a, i)), tuple(range(b, j))))
    return found


def _cut(q: QArray, start: Sequence[int], limit: Sequence[int], stride: Any) -> QArray | None:
    values, scale = list[Any](), list[Any]()
    for d, (a, b, n) in enumerate(zip(start, limit, q.shape, strict=True)):
        step = 1 if stride is None else stride[d]
        whole = (a, b, step) == (0, n, 1)
        if not whole and _along(q, d) is None:
            return None
        values.append(slice(None) if whole else slice(a, b, step))
        scale.append(values[-1] if _along(q, d) else slice(None))
    return q.replace(values=q.values[tuple(values)], scale=q.scale[tuple(scale)])


def _pieces(q: QArray, axis: int, sizes: Sequence[int]) -> list[QArray] | None:
    found, at = [], 0
    for n in sizes:
        start, limit = [0] * q.ndim, list(q.shape)
        start[axis], limit[axis] = at, at + n
        piece = _cut(q, start, limit, None)
        if piece is None:
            return None
        found.append(piece)
        at += n
    return found


MOVES: dict[str, Callable[..., Any]] = {
    "copy": lambda q: q,
    "stop_gradient": lambda q: q,
    "name": lambda q, name: q,
    "reshape": _reshaped,
    "slice": _cut,
    "split": _pieces,
    "transpose": _transposed,
}
"""By primitive: what it makes of a quantised array and its parameters; None where it makes none."""


def moved(q: QArray, name: str, params: dict[str, Any]) -> Any:
    """Return what a primitive makes of a quantised array: one, a list of them, or None if none."""
    rule = MOVES.get(name)
    return None if rule is None else rule(q, **params)


def unmade(q: QArray, sliced: bool) -> tuple[list[Any], Callable[[Sequence[Any]], QArray]]:
    """Return the arrays of a quantised array, and what makes one of them again, or of a slice of
    each along the first axis."""
    leaves, treedef = tree.flatten(q)
    if not sliced:

        def whole(arrays: Sequence[Any]) -> QArray:
            out = tree.unflatten(treedef, arrays)
            out._order = q._order
            return out

        return leaves, whole
    n = q.values.shape[0]
    if q.axis == 0 or q.scale.shape[0] not in (1, n):
        return unmade(QArray(q.dequantize(), fnp.ones((1,) * q.ndim)), True)
    scale = fnp.broadcast_to(q.scale, (n, *q.scale.shape[1:]))
    range_ = None if q.range is None else fnp.broadcast_to(q.range, (n,))
    leaves, treedef = tree.flatten(q.replace(scale=scale, range=range_))

    def part(arrays: Sequence[Any]) -> QArray:
        out = tree.unflatten(treedef, arrays)
        axis = None if out.axis is None else out.axis - 1
        out = out.replace(axis=axis)
        out._order = tuple(d - 1 for d in q._order if d)
        return out

    return leaves, part


def looked_up(q: QArray, indices: Sequence[Any], bind: Callable[..., Any], params: Any) -> Any:
    """Return the rows of a quantised array at some indices, as floats; None if it has no rows."""
    if any(_along(q, d) is None for d in range(q.ndim)):
        return None
    if params["mode"] == "fill":  # which is nan for floats, and has none for integers
        return None
    axes = params["axes"]
    kept = [d for d in axes if not _along(q, d)]
    values = bind(q.values, *indices, **params)
    at = [fnp.zeros_like(i) if d in kept else i for d, i in zip(axes, indices, strict=True)]
    return values.astype(q.scale.dtype) * bind(q.scale, *at, **params)


# ----------------------------------------------------------------------------------------- products
class _Sides(NamedTuple):
    """A product of activations and a quantised array, whichever comes first."""

    x: Any
    q: QArray
    first: bool  # whether q is the first operand
    contracted: tuple[tuple[int, ...], tuple[int, ...]]  # of x, of q
    batch: tuple[tuple[int, ...], tuple[int, ...]]

    def dot(self, x: Any, w: Any, out_dtype: Any = None) -> Any:
        """Multiply arrays that lie like both."""
        (cx, cq), (bx, bq) = self.contracted, self.batch
        numbers = ((cx, cq), (bx, bq))
        if self.first:
            x, w, numbers = w, x, ((cq, cx), (bq, bx))
        return dot_general(x, w, dimension_numbers=numbers, out_dtype=out_dtype)

    def spread(self, scale: Any, of_q: bool, shape: Sequence[int]) -> Any:
        """Return a scale of one of the operands as it lies in the result."""
        free_x = free_axes(self.x.ndim, self.contracted[0], self.batch[0])
        free_q = free_axes(self.q.ndim, self.contracted[1], self.batch[1])
        free, batch = (free_q, self.batch[1]) if of_q else (free_x, self.batch[0])
        order = (*batch, *free)
        rest = tuple(d for d in range(scale.ndim) if d not in order)
        nb, other = len(batch), len(free_x) if of_q else len(free_q)
        start = nb if of_q == self.first else nb + other
        dims = (*range(nb), *range(start, start + len(free)))
        scale = transpose(scale, perm=(*order, *rest))
        scale = scale.reshape(scale.shape[: len(order)])
        return broadcast_in_dim(scale, shape=tuple(shape), dims=dims)


def rounds(q: Sequence[int], params: dict[str, Any]) -> bool:
    """Tell whether a convolution of int8 pays: whether each activation, which is rounded and moved
    first, is used often enough. Else activations stay floats.

    Args:
        q: the shape of the weights.
        params: of the `conv_general_dilated`.
    """
    (outs, inner, *taps), groups = q, params["groups"]
    uses = outs // groups * math.prod(taps) / math.prod(params["strides"])
    return min(outs // groups, inner) >= _FEATURES and uses >= _USES


def contracted(x: Any, q: QArray, first: bool, params: dict[str, Any]) -> Any:
    """Return the product of activations and a quantised array, as floats.

    Args:
        x: floats.
        q: the array.
        first: whether q is the first operand.
        params: of the `dot_general`.
    """
    numbers = params["dimension_numbers"]
    contracting, batch = (pair[::-1] if first else pair for pair in numbers)
    sides = _Sides(x, q, first, contracting, batch)
    grouped = [d for d in contracting[1] if q.scale.shape[d] != 1]
    if q.activations and q.bits == 8 and not grouped and x.dtype == _FLOAT32:
        return _ofintegers(sides)
    if x.dtype == _FLOAT32 and (y := _by_rows(sides)) is not None:
        return y
    return _in_floats(sides)


def _in_floats(sides: _Sides) -> Any:
    """Multiply floats by what the integers stand for."""
    x, q = sides.x, sides.q
    grouped = [d for d in sides.contracted[1] if q.scale.shape[d] != 1]
    if len(sides.contracted[1]) == 1 and _are_few(sides):
        return _with_vectors(sides)
    if grouped:
        whole, order = q.in_memory()  # halves are put side by side as they lie
        back = tuple(order.index(d) for d in range(q.ndim))
        return sides.dot(x, transpose(whole.dequantize().astype(x.dtype), perm=back))
    y = sides.dot(x, q.integers().astype(x.dtype))
    return y * sides.spread(q.scale, True, y.shape).astype(y.dtype)


def _ofintegers(sides: _Sides) -> Any:
    """Multiply int8 by int8, and sum in int32."""
    x, q = sides.x, sides.q
    if q.range is None:
        scale = scale_of(largest_of(x, sides.contracted[0]), 8)
    else:
        scale = scale_of(q.range, 8).reshape((1,) * x.ndim)
    y = sides.dot(whole_numbers(x, scale), q.values, out_dtype=_INT32).astype(x.dtype)
    y = y * sides.spread(scale, False, y.shape)
    return y * sides.spread(q.scale, True, y.shape)


def _by_rows(sides: _Sides) -> Any:
    """Multiply by rows of integers as they lie; None where they do not lie in rows of one sum."""
    x, given, contracted = sides.x, sides.q, sides.contracted
    if sides.batch[0] or len(contracted[1]) != 1:
        return None
    (i,), (d,) = contracted
    q, order = given.in_memory()
    *lead, count = q.shape
    wide = q.scale.shape[:-1] == tuple(lead)
    if order[-1] != d or not wide or 0 in (*lead, count) or q.scale.dtype != _FLOAT32:
        return None
    if q.bits == 4 and q.axis is None and q.scale.shape[-1] != 1:
        return None  # an odd sum, one in a byte
    free = free_axes(x.ndim, (i,), ())
    rows = x.transpose((*free, i)).reshape((-1, count))
    groups, n = q.scale.shape[-1], math.prod(lead)
    values, scale = q.values.reshape((n, -1)), q.scale.reshape((n, groups))
    if groups == 1 and q.axis is None:
        y = narrow_dot(rows, values) * scale.reshape((1, n))
    else:
        y = narrow_dot(rows, values, scale)
    y = y.reshape((*(x.shape[k] for k in free), *lead))
    kept = [k for k in order if k != d]
    last = [len(free) + kept.index(k) for k in sorted(kept)]
    first = list(_each(len(free)))
    return y.transpose((*last, *first) if sides.first else (*first, *last))


def _meaning(x: Any, values: Any, *scale: Any) -> Any:
    """Return what a narrow_dot means in other operations."""
    pairs = values.dtype == np.uint8
    scales = scale[0] if scale else fnp.ones((values.shape[0], 1), _FLOAT32)
    q = QArray(values, scales, None, 4 if pairs else 8, 1 if pairs else None)
    return _in_floats(_Sides(x, q, False, ((1,), (1,)), ((), ())))


narrow_dot_p.expand = _meaning
expansion_rules(narrow_dot_p)
_of_expansion = {name: getattr(narrow_dot_p, name) for name in ("jvp", "batch")}


def _jvp(primals: Any, tangents: Any) -> Any:
    if any(t is not None for t in tangents[1:]):
        return _of_expansion["jvp"](primals, tangents)
    t = tangents[0]
    made = [None if x is None else narrow_dot_p.bind(x, *primals[1:]) for x in (primals[0], t)]
    return tuple(made)


def _batch(axis: Any, args: Any, batched: Any) -> Any:
    if any(batched[1:]):
        return _of_expansion["batch"](axis, args, batched)
    (size, m, k), n = args[0].shape, args[1].shape[0]
    y = narrow_dot_p.bind(args[0].reshape((size * m, k)), *args[1:])
    return y.reshape((size, m, n)), True


narrow_dot_p.jvp, narrow_dot_p.batch, narrow_dot_p.linearize = _jvp, _batch, None


def _are_few(sides: _Sides) -> bool:
    """Tell whether the activations are few vectors for one matrix: then memory is what it costs."""
    x = sides.x
    free = free_axes(x.ndim, sides.contracted[0], sides.batch[0])
    return not sides.batch[0] and 0 < math.prod(x.shape[d] for d in free) <= _FEW


def _with_vectors(sides: _Sides) -> Any:
    """Multiply some vectors by a matrix that is read as it lies, once.

    Where the terms of a sum lie side by side, those of one place in all groups are added up first:
    so it is vectors that are added up.
    """
    x, (i,), (d,) = sides.x, *sides.contracted
    free = free_axes(x.ndim, (i,), ())
    rows = x.transpose((*free, i)).reshape((-1, x.shape[i]))
    q, order = sides.q.in_memory()
    d = order.index(d)
    count, groups = q.shape[d], q.scale.shape[d]
    side_by_side = d == q.ndim - 1
    if groups == 1 and q.axis is None and side_by_side:  # it may be cut anywhere
        groups = next((count // n for n in _LANES if count % n == 0), 1)
    if q.axis is None:
        parts = [q.values.reshape(*q.shape[:d], groups, count // groups, *q.shape[d + 1 :])]
    else:
        parts = list(q.halves())
    scale = fnp.expand_dims(q.scale, d + 1).astype(x.dtype)
    # One vector's terms are scaled when they are added up, several vectors' weights once for all.
    several = rows.shape[0] > 1
    weights = [w.astype(x.dtype) * scale if several else w.astype(x.dtype) for w in parts]
    vectors = rows.reshape((-1, groups, count // groups, *(1,) * (q.ndim - 1 - d)))
    totals = []
    for row in vectors:
        pieces = fnp.split(row, len(weights), axis=1)
        terms = [v * w for v, w in zip(pieces, weights, strict=True)]
        total = terms[0] if len(terms) == 1 else terms[0] + terms[1]
        total = total if several else total * scale
        if side_by_side:
            total = optimization_barrier_p.bind(total.sum(d))[0].sum(d)
        else:
            total = total.sum((d, d + 1))
        totals.append(total)
    kept = [k for k in order if k != sides.contracted[1][0]]
    found = fnp.stack([t.transpose([kept.index(k) for k in sorted(kept)]) for t in totals])
    sizes, axes = [x.shape[k] for k in free], found.ndim - 1
    found = found.reshape([*sizes, *found.shape[1:]])
    if sides.first:
        found = fnp.moveaxis(found, tuple(range(-axes, 0)), tuple(range(axes)))
    return found


def convolved(x: Any, q: QArray, params: dict[str, Any]) -> Any:
    """Return the convolution of activations with quantised weights, as floats.

    Args:
        x: floats, (batch, features, *space).
        q: the weights.
        params: of the `conv_general_dilated`.
    """
    if any(n != 1 for n in q.scale.shape[1:]):
        return conv_general_dilated(x, q.dequantize().astype(x.dtype), **params)
    features = (1, q.shape[0], *(1,) * (x.ndim - 2))
    whole = q.activations and q.bits == 8 and x.dtype == _FLOAT32
    if not (whole and rounds(q.shape, params)):
        x = as_they_are(x) if whole else x
        y = conv_general_dilated(x, q.integers().astype(x.dtype), **params)
        return y * fnp.broadcast_to(q.scale.reshape(-1), features[1:2]).reshape(features)
    axes = tuple(range(1, x.ndim))
    scale = scale_of(largest_of(x, axes) if q.range is None else q.range, 8)
    scale = scale.reshape((-1, *(1,) * (x.ndim - 1)))
    y = conv_general_dilated(
        whole_numbers(x, scale), q.values, **{**params, "out_dtype": _INT32}
    ).astype(x.dtype)
    return y * scale * fnp.broadcast_to(q.scale.reshape(-1), features[1:2]).reshape(features)
