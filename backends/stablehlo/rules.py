"""Rules of primitives as StableHLO operations, one row each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import ShapedArray
from funtorch.jaxpr import Eqn, Jaxpr
from funtorch.ops.fft import TABLES

from ..lower import LOWERINGS
from ..onnx.graph import NotExpressible
from ..onnx.spectra import PROGRAMS
from ..onnx.written import WRITTEN, program
from .text import Rule, Text, array, ints

__all__ = ["RULES"]

INT32 = np.dtype(np.int32)
_SCALAR = ShapedArray((), INT32)


def _outs(eqn: Eqn) -> list[ShapedArray]:
    return [v.aval for v in eqn.outvars]


def _of(operator: str, attributes: Callable[..., str] | str = "") -> Rule:
    """A primitive that is one operation; attributes are made of its parameters."""

    def rule(t: Text, eqn: Eqn, *xs: str) -> Any:
        shown = attributes if isinstance(attributes, str) else attributes(**eqn.params)
        return t.op(operator, xs, _outs(eqn), shown)

    return rule


def _compare(direction: str) -> Rule:
    def rule(t: Text, eqn: Eqn, x: str, y: str) -> str:
        attribute = f"comparison_direction = #stablehlo<comparison_direction {direction}>"
        return t.op("compare", [x, y], _outs(eqn), attribute)

    return rule


def _same(t: Text, eqn: Eqn, *xs: str) -> Any:
    return list(xs) if eqn.prim.multiple_results else xs[0]


def _scaled(operator: str, before: float | None = None, after: float | None = None) -> Rule:
    """An operation whose operand or result is multiplied by a number."""

    def rule(t: Text, eqn: Eqn, x: str) -> str:
        aval = eqn.invars[0].aval
        number = lambda v: t.full(v, aval.shape, aval.dtype)  # noqa: E731
        x = x if before is None else t.like("multiply", x, number(before))
        y = t.like(operator, x)
        return y if after is None else t.like("multiply", y, number(after))

    return rule


def _lowered(name: str) -> Rule:
    """A primitive as the compiler writes it in terms of others."""

    def rule(t: Text, eqn: Eqn, *xs: str) -> Any:
        written = LOWERINGS[name](eqn)
        if written is None:
            raise NotExpressible("has no rule")
        bare = Eqn(eqn.prim, eqn.invars, {}, eqn.outvars, eqn.source)
        return program(written)(t, bare, *xs)

    return rule


def _where(accepts: str, rule: Rule, otherwise: Rule) -> Rule:
    """A rule for some kinds of dtypes, and another one for all others."""

    def chosen(t: Text, eqn: Eqn, *xs: str) -> Any:
        return (rule if eqn.invars[0].aval.dtype.kind in accepts else otherwise)(t, eqn, *xs)

    return chosen


def _power(x: Any, *, y: int) -> Any:
    """Square and multiply."""
    exponent, out = abs(y), None
    while exponent:
        if exponent & 1:
            out = x if out is None else out * x
        exponent >>= 1
        x = x * x if exponent else x
    out = fnp.ones_like(x) if out is None else out
    return 1 / out if y < 0 else out


def _hypot(x: Any, y: Any) -> Any:
    x, y = fnp.abs(x), fnp.abs(y)
    most = fnp.maximum(x, y)
    safe = fnp.where(most == 0, 1, most)
    ratio = fnp.where(fnp.isinf(most), 0, fnp.minimum(x, y) / safe)
    return most * fnp.sqrt(ratio * ratio + 1)


def _logaddexp(x: Any, y: Any) -> Any:
    most, apart = fnp.maximum(x, y), fnp.abs(x - y)
    return fnp.where(x == y, x + np.log(2).astype(x.dtype), most + fnp.log1p(fnp.exp(-apart)))


def _copysign(x: Any, y: Any) -> Any:
    """The sign of y, that of a zero too, is the highest of its bits."""
    kind = np.dtype(f"int{8 * y.dtype.itemsize}")
    return fnp.where(y.view(kind) < 0, -fnp.abs(x), fnp.abs(x))


def _windows(x: Any, *, window: Any, strides: Any, dilation: Any) -> Any:
    lead = x.ndim - len(window)
    counts = [
        max((n - (w - 1) * d - 1) // s + 1, 0)
        for n, w, s, d in zip(x.shape[lead:], window, strides, dilation, strict=True)
    ]
    taps = []
    for tap in np.ndindex(*window):
        cut = [
            slice(k * d, k * d + max((c - 1) * s + 1, 0), s)
            for k, d, c, s in zip(tap, dilation, counts, strides, strict=True)
        ]
        taps.append(x[(slice(None),) * lead + tuple(cut)])
    return fnp.stack(taps, lead).reshape(*x.shape[:lead], *window, *counts)


def _fft_table(t: Text, eqn: Eqn) -> str:
    p = eqn.params
    return t.const(TABLES[p["what"]](p["n"], p["size"]), p["dtype"])


def _iota(t: Text, eqn: Eqn) -> str:
    p = eqn.params
    if p["dtype"] != np.bool_:
        return t.op("iota", [], _outs(eqn), f"iota_dimension = {p['axis']} : i64")
    line = np.arange(p["shape"][p["axis"]]).astype(bool)
    return t.broadcast(t.const(line), p["shape"], [p["axis"]])


# ------------------------------------------------------------------------------ movement
def _split(t: Text, eqn: Eqn, x: str) -> list[str]:
    axis, shape, start, found = eqn.params["axis"], eqn.invars[0].aval.shape, 0, []
    for aval in _outs(eqn):
        low, high = [0] * len(shape), list(shape)
        low[axis], high[axis] = start, start + aval.shape[axis]
        start = high[axis]
        found.append(_cut(t, x, low, high, [1] * len(shape)))
    return found


def _cut(t: Text, x: str, low: Sequence[int], high: Sequence[int], step: Sequence[int]) -> str:
    shape = [max(-(-(b - a) // s), 0) for a, b, s in zip(low, high, step, strict=True)]
    attributes = (
        f"start_indices = {ints(low)}, limit_indices = {ints(high)}, strides = {ints(step)}"
    )
    return t.op("slice", [x], [ShapedArray(tuple(shape), t.types[x][1])], attributes)


def _slice_attributes(start: Any, limit: Any, stride: Any = None) -> str:
    stride = [1] * len(start) if stride is None else stride
    return f"start_indices = {ints(start)}, limit_indices = {ints(limit)}, strides = {ints(stride)}"


def _pad_attributes(lo: Any, hi: Any, interior: Any) -> str:
    return (
        f"edge_padding_low = {ints(lo)}, edge_padding_high = {ints(hi)}, "
        f"interior_padding = {ints(interior)}"
    )


def _dot(t: Text, eqn: Eqn, x: str, y: str) -> str:
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    out = eqn.outvars[0].aval
    attribute = (
        "dot_dimension_numbers = #stablehlo.dot<"
        f"lhs_batching_dimensions = {list(ba)}, rhs_batching_dimensions = {list(bb)}, "
        f"lhs_contracting_dimensions = {list(ca)}, rhs_contracting_dimensions = {list(cb)}>"
    )
    return t.op("dot_general", [t.cast(x, out.dtype), t.cast(y, out.dtype)], [out], attribute)


def _conv(t: Text, eqn: Eqn, x: str, w: str) -> str:
    p, out = eqn.params, eqn.outvars[0].aval
    space = list(range(2, 2 + len(p["padding"])))
    pads = np.asarray(p["padding"], np.int64).reshape(-1, 2)
    numbers = (
        "#stablehlo.conv<raw input_batch_dimension = 0, input_feature_dimension = 1, "
        f"input_spatial_dimensions = {space}, kernel_output_feature_dimension = 0, "
        f"kernel_input_feature_dimension = 1, kernel_spatial_dimensions = {space}, "
        f"output_batch_dimension = 0, output_feature_dimension = 1, "
        f"output_spatial_dimensions = {space}>"
    )
    attributes = (
        f"window_strides = {ints(p['strides'])}, padding = {array(pads)}, "
        f"lhs_dilation = {ints(p['lhs_dilation'])}, rhs_dilation = {ints(p['rhs_dilation'])}, "
        f"dimension_numbers = {numbers}, feature_group_count = {p['groups']} : i64, "
        "batch_group_count = 1 : i64"
    )
    return t.op("convolution", [t.cast(x, out.dtype), t.cast(w, out.dtype)], [out], attributes)


# ------------------------------------------------------------------------------ reductions
def _end(largest: bool) -> Callable[[np.dtype], Any]:
    def end(dtype: np.dtype) -> Any:
        if dtypes.is_bool(dtype):
            return largest
        if dtypes.is_float(dtype):
            return np.inf if largest else -np.inf
        info = np.iinfo(dtype)
        return info.max if largest else info.min

    return end


_COMBINE: dict[str, tuple[str, Callable[[np.dtype], Any]]] = {
    "sum": ("add", lambda dtype: 0), "prod": ("multiply", lambda dtype: 1),
    "max": ("maximum", _end(False)), "min": ("minimum", _end(True)),
    "and": ("and", lambda dtype: True if dtypes.is_bool(dtype) else ~np.zeros((), dtype)),
    "or": ("or", lambda dtype: 0), "xor": ("xor", lambda dtype: 0),
}  # fmt: skip
"""By reduction, what combines two elements, and what changes nothing."""


def _combined(t: Text, how: str, dtype: np.dtype) -> tuple[str, str]:
    """Return the start of a reduction and the region that combines two elements."""
    operator, neutral = _COMBINE[how]
    scalar = ShapedArray((), dtype)
    region = t.region([scalar, scalar], lambda inner, xs: [inner.like(operator, *xs)])
    return t.const(neutral(dtype), dtype), region


def _reduce(how: str) -> Rule:
    def rule(t: Text, eqn: Eqn, x: str) -> str:
        start, region = _combined(t, how, eqn.invars[0].aval.dtype)
        attribute = f"dimensions = {ints(eqn.params['axes'])}"
        return t.op("reduce", [x, start], _outs(eqn), attribute, [region])

    return rule


def _reduce_window(how: str) -> Rule:
    def rule(t: Text, eqn: Eqn, x: str) -> str:
        p, aval = eqn.params, eqn.invars[0].aval
        lead = [1] * (aval.ndim - len(p["window"]))
        start, region = _combined(t, how, aval.dtype)
        attributes = (
            f"window_dimensions = {ints([*lead, *p['window']])}, "
            f"window_strides = {ints([*lead, *p['strides']])}, "
            f"window_dilations = {ints([*lead, *p['dilation']])}"
        )
        return t.op("reduce_window", [x, start], _outs(eqn), attributes, [region])

    return rule


def _cumulative(how: str) -> Rule:
    """A window that begins before the array, or ends after it."""

    def rule(t: Text, eqn: Eqn, x: str) -> str:
        aval, axis = eqn.invars[0].aval, eqn.params["axis"]
        start, region = _combined(t, how, aval.dtype)
        sizes, pads = [1] * aval.ndim, np.zeros((aval.ndim, 2), np.int64)
        sizes[axis] = max(aval.shape[axis], 1)
        pads[axis, int(eqn.params["reverse"])] = sizes[axis] - 1
        attributes = f"window_dimensions = {ints(sizes)}, padding = {array(pads)}"
        return t.op("reduce_window", [x, start], _outs(eqn), attributes, [region])

    return rule


# ------------------------------------------------------------------------------ indexing
def _indices(t: Text, eqn: Eqn, indices: Sequence[str], first: int, clip: bool) -> str:
    """Return indices side by side along a last axis, within the array where asked."""
    shape, axes = eqn.invars[0].aval.shape, eqn.params["axes"]
    lead = eqn.invars[first].aval.shape
    wide = []
    for name, d in zip(indices, axes, strict=True):
        x = t.cast(name, np.int64)
        if clip:
            ends = [t.full(v, lead, np.int64) for v in (0, max(shape[d] - 1, 0))]
            x = t.like("maximum", t.like("minimum", x, ends[1]), ends[0])
        wide.append(t.reshape(x, [*lead, 1]))
    out = ShapedArray((*lead, len(axes)), np.dtype(np.int64))
    return t.op("concatenate", wide, [out], f"dimension = {len(lead)} : i64")


def _inside(t: Text, eqn: Eqn, indices: Sequence[str], first: int, shape: Sequence[int]) -> str:
    """Tell which indices lie in the array, as an array of a shape that begins as theirs."""
    lead = eqn.invars[first].aval.shape
    mask = t.full(True, lead, np.bool_)
    for name, d in zip(indices, eqn.params["axes"], strict=True):
        x = t.cast(name, np.int64)
        size = eqn.invars[0].aval.shape[d]
        for value, direction in ((0, "GE"), (size, "LT")):
            right = t.op(
                "compare",
                [x, t.full(value, lead, np.int64)],
                [ShapedArray(lead, np.dtype(np.bool_))],
                f"comparison_direction = #stablehlo<comparison_direction {direction}>",
            )
            mask = t.like("and", mask, right)
    return t.broadcast(mask, shape, range(len(lead)))


def _gather(t: Text, eqn: Eqn, x: str, *indices: str) -> str:
    aval, out, axes = eqn.invars[0].aval, eqn.outvars[0].aval, eqn.params["axes"]
    lead = eqn.invars[1].aval.ndim
    found = _indices(t, eqn, indices, 1, clip=True)
    sizes = [1 if d in axes else n for d, n in enumerate(aval.shape)]
    numbers = (
        f"#stablehlo.gather<offset_dims = {list(range(lead, out.ndim))}, "
        f"collapsed_slice_dims = {sorted(axes)}, start_index_map = {list(axes)}, "
        f"index_vector_dim = {lead}>"
    )
    attributes = f"dimension_numbers = {numbers}, slice_sizes = {ints(sizes)}"
    y = t.op("gather", [x, found], [out], attributes)
    if eqn.params["mode"] != "fill":
        return y
    fill = t.full(eqn.params["fill"], out.shape, out.dtype)
    return t.op("select", [_inside(t, eqn, indices, 1, out.shape), y, fill], [out])


def _scatter(operator: str | None) -> Rule:
    def rule(t: Text, eqn: Eqn, x: str, updates: str, *indices: str) -> str:
        aval, axes = eqn.invars[0].aval, eqn.params["axes"]
        lead, count = eqn.invars[2].aval.ndim, eqn.invars[1].aval.ndim
        found = _indices(t, eqn, indices, 2, clip=eqn.params["mode"] == "clip")
        numbers = (
            f"#stablehlo.scatter<update_window_dims = {list(range(lead, count))}, "
            f"inserted_window_dims = {sorted(axes)}, "
            f"scatter_dims_to_operand_dims = {list(axes)}, index_vector_dim = {lead}>"
        )
        scalar = ShapedArray((), aval.dtype)

        def combine(inner: Text, xs: list[str]) -> list[str]:
            return [xs[1] if operator is None else inner.like(operator, *xs)]

        region = t.region([scalar, scalar], combine)
        attributes = f"scatter_dimension_numbers = {numbers}, indices_are_sorted = false"
        return t.op("scatter", [x, found, updates], [aval], attributes, [region])

    return rule


def _sort(t: Text, eqn: Eqn, *xs: str) -> list[str]:
    """Sort by keys; nan comes last, and zeros are equal."""
    avals = [v.aval for v in eqn.invars]
    count, axis = eqn.params.get("num_keys", 1), eqn.params.get("axis", avals[0].ndim - 1)
    bool_ = ShapedArray((), np.dtype(np.bool_))

    def compare(inner: Text, a: str, b: str, direction: str, dtype: Any) -> str:
        order = "TOTALORDER" if dtypes.is_float(dtype) else None
        shown = f", compare_type = #stablehlo<comparison_type {order}>" if order else ""
        attribute = f"comparison_direction = #stablehlo<comparison_direction {direction}>{shown}"
        return inner.op("compare", [a, b], [bool_], attribute)

    def canonical(inner: Text, x: str, dtype: Any) -> str:
        """One zero, and one nan that is greater than all."""
        if not dtypes.is_float(dtype):
            return x
        zero, nan = inner.const(0, dtype), inner.const(np.nan, dtype)
        direction = "comparison_direction = #stablehlo<comparison_direction {}>".format
        is_zero = inner.op("compare", [x, zero], [bool_], direction("EQ"))
        is_nan = inner.op("compare", [x, x], [bool_], direction("NE"))
        x = inner.op("select", [is_zero, zero, x], [ShapedArray((), dtype)])
        return inner.op("select", [is_nan, nan, x], [ShapedArray((), dtype)])

    def keys(inner: Text, given: list[str]) -> list[tuple[str, str, Any]]:
        """Return what is compared; of complex numbers real parts, then imaginary ones."""
        made = []
        for k in range(count):
            a, b = given[2 * k : 2 * k + 2]
            if dtypes.is_complex(avals[k].dtype):
                part = ShapedArray((), dtypes.real_dtype(avals[k].dtype))
                for name in ("real", "imag"):
                    x, y = (inner.op(name, [v], [part]) for v in (a, b))
                    made.append((x, y, part.dtype))
            else:
                made.append((a, b, avals[k].dtype))
        return made

    def before(inner: Text, given: list[str]) -> list[str]:
        found = inner.const(False)
        for a, b, dtype in reversed(keys(inner, given)):
            a, b = canonical(inner, a, dtype), canonical(inner, b, dtype)
            less, equal = (compare(inner, a, b, d, dtype) for d in ("LT", "EQ"))
            found = inner.like("or", less, inner.like("and", equal, found))
        return [found]

    pairs = [ShapedArray((), a.dtype) for a in avals for _ in range(2)]
    attributes = f"dimension = {axis} : i64, is_stable = true"
    found = t.op("sort", xs, _outs(eqn), attributes, [t.region(pairs, before)])
    return [found] if len(xs) == 1 else found


# ------------------------------------------------------------------------------ loops, branches
def _listed(found: Any, count: int) -> list[str]:
    return [found] if count == 1 else list(found)


def _while(t: Text, eqn: Eqn, *xs: str) -> list[str]:
    p = eqn.params
    nc, nb = p["cond_nconsts"], p["body_nconsts"]
    carry, avals = xs[nc + nb :], _outs(eqn)
    if not carry:
        return []
    cond = t.region(avals, lambda i, given: i.run(p["cond_jaxpr"], [*xs[:nc], *given]))
    body = t.region(avals, lambda i, given: i.run(p["body_jaxpr"], [*xs[nc : nc + nb], *given]))
    return _listed(t.op("while", carry, avals, "", [cond, body]), len(avals))


def _cond(t: Text, eqn: Eqn, index: str, *xs: str) -> list[str]:
    branches: Sequence[Jaxpr] = eqn.params["branches"]
    avals = _outs(eqn)
    if not avals:
        return []

    def region(branch: Jaxpr) -> str:
        return t.region([], lambda inner, given: inner.run(branch, xs))

    regions = list(map(region, branches))
    number = t.cast(index, INT32)  # outside of the range, `case` takes the last one
    number = t.like("maximum", number, t.const(0, INT32))
    return _listed(t.op("case", [number], avals, "", regions), len(avals))


def _scan(t: Text, eqn: Eqn, *xs: str) -> list[str]:
    """A while loop that counts, cuts its turn out of what it reads, and puts in what it makes."""
    p = eqn.params
    consts, carries, length = p["num_consts"], p["num_carry"], p["length"]
    jaxpr: Jaxpr = p["jaxpr"]
    state, read = xs[consts : consts + carries], xs[consts + carries :]
    outs = _outs(eqn)
    stacked = [t.full(0, a.shape, a.dtype) for a in outs[carries:]]
    avals = [_SCALAR, *outs]

    def more(inner: Text, given: list[str]) -> list[str]:
        attribute = "comparison_direction = #stablehlo<comparison_direction LT>"
        end = inner.const(length, INT32)
        return [inner.op("compare", [given[0], end], [ShapedArray((), np.dtype(bool))], attribute)]

    def turn(inner: Text, given: list[str]) -> list[str]:
        k = given[0]
        place = k
        if p["reverse"]:
            place = inner.like("subtract", inner.const(length - 1, INT32), k)
        zero = inner.const(0, INT32)
        items = []
        for x in read:
            shape, dtype = inner.types[x]
            sizes = [1, *shape[1:]]
            part = inner.op(
                "dynamic_slice", [x, place, *[zero] * (len(shape) - 1)],
                [ShapedArray(tuple(sizes), dtype)], f"slice_sizes = {ints(sizes)}",
            )  # fmt: skip
            items.append(inner.reshape(part, shape[1:]))
        made = inner.run(jaxpr, [*xs[:consts], *given[1 : 1 + carries], *items])
        new = []
        for whole, x in zip(given[1 + carries :], made[carries:], strict=True):
            shape, dtype = inner.types[whole]
            row = inner.reshape(x, [1, *shape[1:]])
            starts = [place, *[zero] * (len(shape) - 1)]
            aval = ShapedArray(shape, dtype)
            new.append(inner.op("dynamic_update_slice", [whole, row, *starts], [aval]))
        return [inner.like("add", k, inner.const(1, INT32)), *made[:carries], *new]

    regions = [t.region(avals, more), t.region(avals, turn)]
    found = t.op("while", [t.const(0, INT32), *state, *stacked], avals, "", regions)
    return _listed(found, len(avals))[1:]


# ------------------------------------------------------------------------------ linear algebra, FFT
def _cholesky(t: Text, eqn: Eqn, x: str) -> str:
    """The operation says nothing of the other triangle: it becomes zeros."""
    aval = eqn.outvars[0].aval
    y = t.op("cholesky", [x], [aval], "lower = true")
    low = np.tri(aval.shape[-1], dtype=bool)
    mask = t.broadcast(t.const(low), aval.shape, [aval.ndim - 2, aval.ndim - 1])
    return t.op("select", [mask, y, t.full(0, aval.shape, aval.dtype)], [aval])


_TRANSPOSES = ("NO_TRANSPOSE", "TRANSPOSE", "ADJOINT")


def _triangular_attributes(lower: bool, trans: int, unit: bool) -> str:
    return (
        f"left_side = true, lower = {str(bool(lower)).lower()}, "
        f"unit_diagonal = {str(bool(unit)).lower()}, "
        f"transpose_a = #stablehlo<transpose {_TRANSPOSES[trans]}>"
    )


def _fft(t: Text, eqn: Eqn, x: str) -> str:
    p, out = eqn.params, eqn.outvars[0].aval
    shape, axis = eqn.invars[0].aval.shape, p["axis"]
    last = len(shape) - 1
    order = [*(d for d in range(len(shape)) if d != axis), axis]
    moved = _transposed(t, x, order) if axis != last else x
    kind_ = f"#stablehlo<fft_type {p['kind'].upper()}>"
    size = tuple(out.shape[d] for d in order)
    attributes = f"fft_type = {kind_}, fft_length = {ints([p['n']])}"
    y = t.op("fft", [moved], [ShapedArray(size, out.dtype)], attributes)
    return _transposed(t, y, [order.index(d) for d in range(len(shape))]) if axis != last else y


def _transposed(t: Text, x: str, order: Sequence[int]) -> str:
    shape, dtype = t.types[x]
    aval = ShapedArray(tuple(shape[d] for d in order), dtype)
    return t.op("transpose", [x], [aval], f"permutation = {ints(order)}")


_ONE: dict[str, Rule] = {
    name: _of(operator)
    for name, operator in {
        "add": "add", "atan2": "atan2", "bitwise_and": "and", "bitwise_not": "not",
        "bitwise_or": "or", "bitwise_xor": "xor", "cbrt": "cbrt", "ceil": "ceil",
        "clz": "count_leading_zeros", "complex": "complex", "convert": "convert",
        "cos": "cosine", "div": "divide", "dynamic_update_slice": "dynamic_update_slice",
        "exp": "exponential", "expm1": "exponential_minus_one", "floor": "floor", "imag": "imag",
        "is_finite": "is_finite", "log": "log", "log1p": "log_plus_one", "logistic": "logistic",
        "max": "maximum", "min": "minimum", "mul": "multiply", "neg": "negate",
        "population_count": "popcnt", "real": "real", "rem": "remainder",
        "reshape": "reshape", "round": "round_nearest_even", "rsqrt": "rsqrt", "select": "select",
        "shift_left": "shift_left", "shift_right_arithmetic": "shift_right_arithmetic",
        "shift_right_logical": "shift_right_logical", "sin": "sine",
        "sqrt": "sqrt", "sub": "subtract", "tan": "tan", "tanh": "tanh",
        "bitcast": "bitcast_convert", "conj": "chlo.conj",
        **{f: f"chlo.{f}" for f in ("erf", "erfc", "erf_inv", "lgamma", "digamma", "square")},
        **{f: f"chlo.{f}" for f in ("asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh")},
        "atanh": "chlo.atanh", "nextafter": "chlo.next_after",
        "sampled_exp": "exponential", "sampled_log": "log", "sampled_log1p": "log_plus_one",
        "sampled_erf_inv": "chlo.erf_inv",
    }.items()
}  # fmt: skip

_FORMULAS: dict[str, Rule] = {
    "reciprocal": program(lambda x: 1 / x), "integer_pow": program(_power),
    "pow": _where("iu", _lowered("pow"), _of("power")),
    "abs": _where("u", _same, _of("abs")),
    "sign": _where("u", program(lambda x: fnp.minimum(x, np.ones((), x.dtype))), _of("sign")),
    "trunc": program(lambda x: fnp.where(x < 0, fnp.ceil(x), fnp.floor(x))),
    "hypot": program(_hypot), "logaddexp": program(_logaddexp), "copysign": program(_copysign),
    "masked_mul": program(lambda x, y: fnp.where((x == 0) | (y == 0), 0, x * y)),
    "windows": program(_windows),
    "log2": _scaled("log", after=1 / np.log(2)), "log10": _scaled("log", after=1 / np.log(10)),
    "exp2": _scaled("exponential", before=np.log(2)),
    "copy": _same, "stop_gradient": _same, "optimization_barrier": _same,
}  # fmt: skip

_MOVEMENT: dict[str, Rule] = {
    "broadcast_in_dim": _of(
        "broadcast_in_dim", lambda shape, dims: f"broadcast_dimensions = {ints(dims)}"
    ),
    "concatenate": _of("concatenate", lambda axis: f"dimension = {axis} : i64"),
    "transpose": _of("transpose", lambda perm: f"permutation = {ints(perm)}"),
    "rev": _of("reverse", lambda axes: f"dimensions = {ints(axes)}"),
    "slice": _of("slice", _slice_attributes), "pad": _of("pad", _pad_attributes), "split": _split,
    "iota": _iota,
    "dynamic_slice": _of("dynamic_slice", lambda sizes: f"slice_sizes = {ints(sizes)}"),
    "dot_general": _dot, "conv_general_dilated": _conv, "gather": _gather,
    "scatter": _scatter(None), "scatter_add": _scatter("add"), "scatter_mul": _scatter("multiply"),
    "scatter_min": _scatter("minimum"), "scatter_max": _scatter("maximum"), "sort": _sort,
    "sort_bits": lambda t, eqn, x: _sort(t, eqn, x)[0],
    "fft": _fft,
    "cholesky": _cholesky,
    "triangular_solve": _of("triangular_solve", _triangular_attributes),
}  # fmt: skip

RULES: dict[str, Rule] = {
    **_ONE, **_FORMULAS, **_MOVEMENT,
    **{k: WRITTEN[k] for k in ("threefry2x32", "polygamma", "overlap_add")},
    **{k: WRITTEN[k] for k in ("cumlogsumexp", "window_argmax", "window_argmin")},
    **{k: _compare(k.upper()) for k in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{f"reduce_{k}": _reduce(k) for k in _COMBINE},
    **{f"reduce_window_{k}": _reduce_window(k) for k in ("sum", "max", "min")},
    **{f"cum{k}": _cumulative(k) for k in ("sum", "prod", "max", "min")},
    **{k: _lowered(k) for k in ("argmax", "argmin")},
    **{name: program(f) for name, f in PROGRAMS.items()}, "fft_table": _fft_table,
    **{k: _lowered(k) for k in ("lu", "det", "slogdet", "pinv", "qr_pivoting", "schur_shift")},
    "while": _while, "cond": _cond, "scan": _scan,
}  # fmt: skip
"""By primitive: ``rule(text, equation, *names of operands)`` gives the names of its results."""
