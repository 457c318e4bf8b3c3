"""Arrays of small integers with scales, and how they move.

A quantised array stands for ``(values - zero) * scale``. Each axis of the scale has size 1, the
size of the array's axis, or that of a number of groups of neighbours which share a scale; zeros lie
as scales do, or there are none. Four-bit integers lie two in a byte along one axis: a group's first
half in the low bits, its second half in the high ones, so that both halves of a sum of products
read the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import tree
from funtorch.core import ShapedArray

from .custom import custom_jvp

__all__ = ["QArray", "levels", "moved", "quantize_array", "quantize_rows", "scale_of"]
__all__ += ["whole_numbers"]

_each = range  # which is also what activations have


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
    """An array of integers with scales, which stands for ``(values - zero) * scale``.

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
        zero: the integers that stand for 0, as int8 of the scale's shape; None where 0 does.
        perm: which axis of these arrays each of its own axes is; None where they lie in order.

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
        activations: bool = False, perm: tuple[int, ...] | None = None, zero: Any = None,
    ) -> None:  # fmt: skip
        self.values, self.scale, self.range, self.zero = values, scale, range, zero
        self.bits, self.axis, self.activations, self.perm = bits, axis, activations, perm
        self._order = tuple(_each(len(getattr(values, "shape", ()))))

    def tree_flatten_with_keys(self) -> Any:
        """Take it apart, for pytrees."""
        names = ("values", "scale", "range", "zero")
        children = [(tree.GetAttrKey(name), getattr(self, name)) for name in names]
        return children, (self.bits, self.axis, self.activations, self.perm)

    def tree_flatten(self) -> Any:
        """Take it apart, for pytrees."""
        children = (self.values, self.scale, self.range, self.zero)
        return children, (self.bits, self.axis, self.activations, self.perm)

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> QArray:
        """Put it together, for pytrees."""
        values, scale, range_, zero = children
        bits, axis, activations, perm = aux
        return cls(values, scale, range_, bits, axis, activations, perm, zero)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array that it stands for."""
        found = [2 * n if d == self.axis else n for d, n in enumerate(self.values.shape)]
        return tuple(found) if self.perm is None else tuple(found[d] for d in self.perm)

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
        arrays = (self.values, self.scale, self.zero)
        return sum(x.size * x.dtype.itemsize for x in arrays if x is not None)

    def __repr__(self) -> str:
        sizes = ",".join(map(str, self.shape))
        scales = self.scale.shape
        scales = scales if self.perm is None else tuple(scales[d] for d in self.perm)
        return f"QArray(int{self.bits}[{sizes}], scale {scales})"

    def in_order(self) -> QArray:
        """Return it with its arrays' axes in the order of its own."""
        return self if self.perm is None else _transposed(self.replace(perm=None), self.perm)

    def integers(self) -> Any:
        """Return its integers as int8, of its shape."""
        if self.perm is not None:
            return self.in_order().integers()
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
        if self.perm is not None:
            return self.in_order().dequantize()
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
        numbers = numbers.reshape(parts)
        if self.zero is not None:
            numbers = numbers - self.zero.reshape(scale)
        return (numbers * self.scale.reshape(scale)).reshape(self.shape)

    def scales(self, change: Callable[[Any], Any]) -> dict[str, Any]:
        """Return the scales and zeros, changed, for `replace`."""
        zero = None if self.zero is None else change(self.zero)
        return {"scale": change(self.scale), "zero": zero}

    def replace(self, **changes: Any) -> QArray:
        """Return a copy with other attributes.

        Args:
            **changes: attributes by name.

        Returns:
            The copy.
        """
        names = ("values", "scale", "range", "bits", "axis", "activations", "perm", "zero")
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
    activations: bool = False, symmetric: bool = True,
) -> QArray:  # fmt: skip
    """Make an array of integers and scales: each scale brings the largest magnitude to 127 (or 7).

    Args:
        x: floats.
        axes: the axes along which numbers share a scale: those that products sum over.
        bits: 8 or 4.
        group: where there is one such axis, how many neighbours on it share a scale, at most.
        range: the largest magnitude of the activations that it will meet.
        activations: whether these become int8.
        symmetric: whether 0 is the integer 0. Else all integers are used for what lies between the
            smallest number (at most 0) and the largest (at least 0).

    Returns:
        The integers, rounded half to even, and their scales. The smallest integers, -128 and -8,
        are not used where 0 is 0. Four-bit integers whose axis is odd lie one in a byte.

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
        values, scale, zero = _rounded(x, axes, bits, symmetric)
        return QArray(values, scale, range, bits, None, activations, None, zero)
    size = _group_of(x.shape[d], group, bits)
    parts = x.reshape(*x.shape[:d], x.shape[d] // size, size, *x.shape[d + 1 :])
    values, scale, zero = _rounded(parts, (d + 1,), bits, symmetric)
    axis = None
    shape = list(x.shape)
    if bits == 4 and size % 2 == 0:
        low, high = fnp.split((values + np.int8(8)).astype(np.uint8), 2, axis=d + 1)
        values, axis, shape[d] = low | (high << 4), d, shape[d] // 2
    zero = None if zero is None else zero.squeeze(d + 1)
    return QArray(
        values.reshape(shape), scale.squeeze(d + 1), range, bits, axis, activations, None, zero
    )


def quantize_rows(x: Any, *, axes: Sequence[int], **options: Any) -> QArray:
    """Quantise an array so that the terms of its sums lie side by side, as products read them.

    Args:
        x: floats.
        axes: as in `quantize_array`.
        **options: of `quantize_array`.
    """
    if len(axes) != 1 or axes[0] == x.ndim - 1:
        return quantize_array(x, axes=axes, **options)
    (d,) = axes
    perm = (*(k for k in _each(x.ndim) if k != d), d)
    q = quantize_array(fnp.transpose(x, perm), axes=(x.ndim - 1,), **options)
    return q.replace(perm=tuple(perm.index(k) for k in _each(x.ndim)))


def _rounded(
    x: Any, axes: Sequence[int], bits: int, symmetric: bool
) -> tuple[Any, Any, Any]:  # fmt: skip
    """Return the integers of floats, their scales, and their zeros if there are any."""
    if symmetric or x.size == 0:
        scale = scale_of(largest_of(x, axes), bits)
        return integers(x, scale, bits), scale, None
    most = levels(bits)
    low, high = (
        f(extreme(x, axis=tuple(axes), keepdims=True), 0)
        for f, extreme in ((fnp.minimum, fnp.min), (fnp.maximum, fnp.max))
    )
    scale = (high - low) / (2 * most + 1)
    step = fnp.where(scale == 0, fnp.ones_like(scale), scale)
    zero = fnp.clip(fnp.round(-low / step) - (most + 1), -most - 1, most)
    values = fnp.clip(fnp.round(x / step) + zero, -most - 1, most).astype(np.int8)
    return values, scale, zero.astype(np.int8)


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
    moved = q.scales(lambda s: s.transpose(perm))
    out = q.replace(values=q.values.transpose(perm), axis=axis, **moved)
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
    moved_scales = q.scales(lambda s: s.reshape(scale))
    return q.replace(values=q.values.reshape(values), axis=axis, **moved_scales)


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
    return q.replace(values=q.values[tuple(values)], **q.scales(lambda s: s[tuple(scale)]))


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
    base, order = q.in_memory()  # so that loops read it as it lies
    back = tuple(order.index(d) for d in _each(q.ndim))
    leaves, treedef = tree.flatten(base)
    if not sliced:
        return leaves, lambda arrays: _transposed(tree.unflatten(treedef, arrays), back)
    n = q.shape[0]
    if order[0] != 0 or base.axis == 0 or base.scale.shape[0] not in (1, n):
        return unmade(QArray(q.dequantize(), fnp.ones((1,) * q.ndim)), True)
    range_ = None if q.range is None else fnp.broadcast_to(q.range, (n,))
    each = base.scales(lambda s: fnp.broadcast_to(s, (n, *s.shape[1:])))
    leaves, treedef = tree.flatten(base.replace(range=range_, **each))

    def part(arrays: Sequence[Any]) -> QArray:
        out = tree.unflatten(treedef, arrays)
        axis = None if out.axis is None else out.axis - 1
        out = out.replace(axis=axis)
        return _transposed(out, tuple(d - 1 for d in back[1:]))

    return leaves, part


def looked_up(q: QArray, indices: Sequence[Any], bind: Callable[..., Any], params: Any) -> Any:
    """Return the rows of a quantised array at some indices, as floats; None if it has no rows."""
    axes, fill = params["axes"], params["mode"] == "fill"
    if any(_along(q, d) is None for d in axes) or (fill and params["fill"] == params["fill"]):
        return None  # there are groups or pairs along the axis, or what is beyond it is no nan
    kept = [d for d in axes if not _along(q, d)]
    if fill and kept:
        return None
    # What is beyond the end is nan, as its scale is.
    whole = {**params, "mode": "clip", "fill": 0} if fill else params
    values = bind(q.values, *indices, **whole)
    at = [fnp.zeros_like(i) if d in kept else i for d, i in zip(axes, indices, strict=True)]
    rest = [d for d in _each(q.ndim) if d not in axes]
    axis = None if q.axis is None else indices[0].ndim + rest.index(q.axis)
    scale = bind(q.scale, *at, **params)
    zero = None if q.zero is None else bind(q.zero, *at, **whole)
    return QArray(values, scale, None, q.bits, axis, False, None, zero).dequantize()
