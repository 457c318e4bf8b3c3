"""Every elementwise, shape and reduction primitive: values, types, derivatives and batching."""

import builtins
import itertools
import math
from functools import partial

import numpy as np
import pytest
import scipy.special as sp
from op_table import BF16, CHECKS, FLOATS, Row

from funtorch.core import ArrayImpl, ShapedArray, primitives
from funtorch.ops import elementwise as e
from funtorch.ops import families, reduce, shape, special

RNG = np.random.default_rng(0)
SHAPES = ((), (0,), (1,), (2, 3), (2, 0, 3))
LOW = FLOATS[1:]


def draws(n, low=-2.0, high=2.0, kind="f"):
    """Return n-argument samples of every shape of interest, one of them not contiguous."""

    def one(s):
        x = RNG.uniform(low, high, s)
        if kind == "c":
            return x + 1j * RNG.uniform(low, high, s)
        return x if kind == "f" else x.astype(kind)

    out = [tuple(one(s) for _ in range(n)) for s in SHAPES]
    out.append(tuple(one((6, 4))[::-2, ::2].T for _ in range(n)))
    return out


def ints(n, dtype, values):
    line = np.array(values, dtype)
    return [
        tuple(np.roll(line, 3 * k) for k in range(n)),
        tuple(line[k] for k in range(n)),
        tuple(line[:0] for _ in range(n)),
    ]


# ------------------------------------------------------------------------------ elementwise
# name, NumPy or SciPy reference, range of the argument, whether NumPy has it for complex numbers
# fmt: off
UNARY = [
    ("neg", np.negative, -2, 2, True), ("sqrt", np.sqrt, 0.1, 3, True),
    ("rsqrt", lambda x: 1 / np.sqrt(x), 0.1, 3, True), ("cbrt", np.cbrt, 0.1, 3, False),
    ("exp", np.exp, -2, 2, True), ("exp2", np.exp2, -2, 2, True), ("expm1", np.expm1, -2, 2, True),
    ("log", np.log, 0.1, 3, True), ("log1p", np.log1p, -0.8, 3, True),
    ("log2", np.log2, 0.1, 3, True),
    ("log10", np.log10, 0.1, 3, True),
    ("sin", np.sin, -2, 2, True), ("cos", np.cos, -2, 2, True), ("tan", np.tan, -1, 1, True),
    ("asin", np.arcsin, -0.9, 0.9, True), ("acos", np.arccos, -0.9, 0.9, True),
    ("atan", np.arctan, -2, 2, True), ("sinh", np.sinh, -2, 2, True),
    ("cosh", np.cosh, -2, 2, True),
    ("tanh", np.tanh, -2, 2, True), ("asinh", np.arcsinh, -2, 2, True),
    ("acosh", np.arccosh, 1.2, 3, True), ("atanh", np.arctanh, -0.9, 0.9, True),
    ("logistic", lambda x: 1 / (1 + np.exp(-x)), -3, 3, True), ("erf", sp.erf, -3, 3, False),
    ("erfc", sp.erfc, -3, 3, False), ("erf_inv", sp.erfinv, -0.9, 0.9, False),
    ("lgamma", sp.gammaln, 0.2, 6, False), ("digamma", sp.digamma, 0.5, 6, False),
    ("square", np.square, -2, 2, True), ("reciprocal", np.reciprocal, 0.3, 2, True),
    ("abs", np.abs, 0.1, 2, True), ("copy", np.array, -2, 2, True), ("conj", np.conj, -2, 2, True),
    ("sampled_exp", np.exp, -2, 2, False), ("sampled_log", np.log, 0.1, 3, False),
    ("sampled_log1p", np.log1p, -0.8, 3, False), ("sampled_erf_inv", sp.erfinv, -0.9, 0.9, False),
]
# fmt: on
# primitives whose derivative is zero
STEPS = [
    ("sign", np.sign),
    ("floor", np.floor),
    ("ceil", np.ceil),
    ("round", np.rint),
    ("trunc", np.trunc),
    ("is_finite", np.isfinite),
]
# name, reference, range, dtypes beside float64
# fmt: off
BINARY = [
    ("add", np.add, -2, 2, True), ("sub", np.subtract, -2, 2, True),
    ("mul", np.multiply, -2, 2, True),
    ("div", np.divide, 0.5, 2, True), ("rem", np.fmod, 1.1, 1.9, False),
    ("pow", np.power, 0.3, 2, True),
    ("max", np.maximum, -2, 2, False), ("min", np.minimum, -2, 2, False),
    ("atan2", np.arctan2, 0.2, 2, False), ("hypot", np.hypot, 0.2, 2, False),
    ("logaddexp", np.logaddexp, -2, 2, False), ("masked_mul", np.multiply, -2, 2, True),
    ("copysign", np.copysign, -2, 2, False),
]
# fmt: on
COMPARE = [
    ("eq", np.equal),
    ("ne", np.not_equal),
    ("lt", np.less),
    ("le", np.less_equal),
    ("gt", np.greater),
    ("ge", np.greater_equal),
    ("nextafter", np.nextafter),
]
BITS = [
    ("bitwise_and", np.bitwise_and),
    ("bitwise_or", np.bitwise_or),
    ("bitwise_xor", np.bitwise_xor),
]
INTEGERS = tuple(f"{u}int{w}" for u in ("", "u") for w in (8, 16, 32, 64))


def elementwise_rows():
    for name, ref, low, high, is_complex in UNARY:
        fn = primitives[name].bind
        yield Row(name, fn, draws(1, low, high), ref, dtypes=LOW)
        if is_complex:
            yield Row(f"{name}-complex", fn, draws(1, low, high, "c"), ref, ulps=64)
    for name, ref in STEPS:
        yield Row(name, getattr(e, name), draws(1, 0.1, 0.4), ref, dtypes=LOW)
    yield Row("stop_gradient", e.stop_gradient, draws(1), np.array, differentiable=False)
    for name, ref, low, high, is_complex in BINARY:
        fn = primitives[name].bind
        yield Row(name, fn, draws(2, low, high), ref, dtypes=LOW)
        if is_complex:
            yield Row(f"{name}-complex", fn, draws(2, low, high, "c"), ref, ulps=64)
    for name, ref in COMPARE:
        dtypes = () if name == "nextafter" else LOW
        yield Row(name, getattr(e, name), draws(2), ref, differentiable=False, dtypes=dtypes)
    for y in (-3, -1, 0, 1, 2, 3, 7):
        row = partial(Row, fn=partial(e.integer_pow, y=y), reference=lambda x, y=y: x**y, ulps=64)
        yield row(f"integer_pow-{y}", samples=draws(1, 0.5, 1.5), dtypes=LOW)
        yield row(f"integer_pow-{y}-complex", samples=draws(1, 0.5, 1.5, "c"))
    for n in (1, 2):
        yield Row(
            f"polygamma-{n}", partial(e.polygamma, n=n), draws(1, 0.6, 5), partial(sp.polygamma, n)
        )
    pairs = draws(2)
    yield Row("complex", e.complex, pairs, lambda x, y: x + 1j * y)
    yield Row("real", e.real, draws(1, kind="c"), np.real)
    yield Row("imag", e.imag, draws(1, kind="c"), np.imag)
    yield Row("select", e.select, [(x > 0, x, y) for x, y in pairs], np.where, dtypes=LOW)


def integer_rows():
    for name in INTEGERS:
        dtype = np.dtype(name)
        line = [
            0,
            1,
            2,
            3,
            7,
            100,
            np.iinfo(dtype).max,
            *((-1, -7, np.iinfo(dtype).min) if dtype.kind == "i" else ()),
        ]
        bits = 8 * dtype.itemsize
        for op, ref in [
            ("add", np.add),
            ("sub", np.subtract),
            ("mul", np.multiply),
            *BITS,
            ("max", np.maximum),
            ("min", np.minimum),
            ("lt", np.less),
        ]:
            yield Row(f"{op}-{name}", getattr(e, op), ints(2, dtype, line), ref)
        for op, ref in [("div", _c_div), ("rem", _c_rem), ("pow", _int_pow)]:
            yield Row(f"{op}-{name}", getattr(e, op), ints(2, dtype, line), ref)
        for op, ref in [
            ("bitwise_not", np.invert),
            ("neg", np.negative),
            ("sign", np.sign),
            ("abs", np.abs),
        ]:
            yield Row(f"{op}-{name}", getattr(e, op), ints(1, dtype, line), ref)
        one = np.vectorize(lambda v, bits=bits: (int(v) % 2**bits).bit_count(), otypes=[dtype])
        clz = np.vectorize(
            lambda v, bits=bits: bits - (int(v) % 2**bits).bit_length(), otypes=[dtype]
        )
        yield Row(f"population_count-{name}", e.population_count, ints(1, dtype, line), one)
        yield Row(f"clz-{name}", e.clz, ints(1, dtype, line), clz)
        amounts = np.array([0, 1, bits - 1, bits, bits + 1, 2], dtype)
        samples = [(np.array([v] * amounts.size, dtype), amounts) for v in (line[-1], line[6], 5)]
        # name, what it does to Python ints, whether the top bit is a sign
        for op, shift, signed in [
            ("shift_left", lambda v, k: v << k, False),
            ("shift_right_logical", lambda v, k: v >> k, False),
            ("shift_right_arithmetic", lambda v, k: v >> k, True),
        ]:
            yield Row(f"{op}-{name}", getattr(e, op), samples, _python(shift, dtype, signed))
    bools = [(np.array([True, True, False, False]), np.array([True, False, True, False]))]
    for op, ref in [
        *BITS,
        ("max", np.maximum),
        ("min", np.minimum),
        ("eq", np.equal),
        ("lt", np.less),
    ]:
        yield Row(f"{op}-bool", getattr(e, op), bools, ref)


def _python(f, dtype, signed):
    """Return ``f`` of Python ints (so of any width), wrapped back into the dtype."""
    bits = 8 * dtype.itemsize

    def one(v, k):
        out = f(wrapped(v, signed), int(k)) % 2**bits
        return wrapped(out, dtype.kind == "i")

    def wrapped(v, signed):
        v = int(v) % 2**bits
        return v - 2**bits if signed and v >= 2 ** (bits - 1) else v

    return np.vectorize(one, otypes=[dtype])


def _wrapped(f):
    def reference(x, y):
        return (
            _python(f, x.dtype, x.dtype.kind == "i")(x, y) if x.size else np.zeros(x.shape, x.dtype)
        )

    return reference


def _truncated(v, k):
    return -1 if k == 0 else abs(v) // abs(k) * (1 if (v < 0) == (k < 0) else -1)


_c_div = _wrapped(_truncated)
_c_rem = _wrapped(lambda v, k: v if k == 0 else v - _truncated(v, k) * k)
_int_pow = _wrapped(
    lambda v, k: pow(v, k, 2**64) if k >= 0 else {1: 1, -1: -1 if k % 2 else 1}.get(v, 0)
)


def convert_rows():
    for source in (
        "bool",
        "int8",
        "int32",
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "complex128",
    ):
        x = np.array([0, 1, 3, 100], BF16 if source == "bfloat16" else source)
        for target in (bool, "int32", "uint8", BF16, "float16", "float32", "float64", "complex64"):
            dtype = np.dtype(target)
            fn = partial(e.convert, dtype=dtype, weak_type=False)
            # Results narrower than float64 have too few digits for finite differences.
            wide = dtype in (np.float64,)
            yield Row(
                f"convert-{source}-{dtype.name}",
                fn,
                [(x,), (x[1],), (x[:0],)],
                lambda x, dtype=dtype: (
                    x.real if dtype.kind != "c" and x.dtype.kind == "c" else x
                ).astype(dtype),
                differentiable=wide,
            )
    for bits in (8, 16, 32, 64):
        names = [f"int{bits}", f"uint{bits}", *([f"float{bits}"] if bits > 8 else [])]
        dtypes = [*map(np.dtype, names), *([BF16] if bits == 16 else [])]
        for source, target in itertools.permutations(dtypes, 2):
            yield Row(
                f"bitcast-{source}-{target}",
                partial(e.bitcast, dtype=target),
                [(np.array([1, 2, 0]).astype(source),)],
                lambda x, source=source, target=target: x.astype(source).view(target),
                differentiable=False,
            )


# ------------------------------------------------------------------------------ shape
def _reference_pad(x, value, lo, hi, interior):
    """Pad one axis after the other with Python lists of slices."""
    for axis, (low, high, i) in enumerate(zip(lo, hi, interior, strict=True)):
        x = np.moveaxis(x, axis, 0)
        blank = np.full(x.shape[1:], value, x.dtype)
        rows = []
        for k, row in enumerate(x):
            rows += [blank] * (i if k else 0) + [row]
        rows = ([blank] * 20 + rows + [blank] * 20)[20 - low : len(rows) + 20 + high]
        x = np.moveaxis(np.array(rows).reshape(len(rows), *blank.shape), 0, axis)
    return x


def shape_rows():
    m, cube = RNG.standard_normal((3, 4)), RNG.standard_normal((2, 3, 4))
    yield Row(
        "reshape",
        partial(shape.reshape, shape=(2, 6)),
        [(m,), (m.T,)],
        lambda x: x.reshape(2, 6),
        dtypes=LOW,
    )
    yield Row(
        "reshape-scalar", partial(shape.reshape, shape=()), [(m[:1, :1],)], lambda x: x.reshape(())
    )
    yield Row(
        "reshape-empty", partial(shape.reshape, shape=(3, 0)), [(m[:0],)], lambda x: x.reshape(3, 0)
    )
    yield Row(
        "transpose",
        partial(shape.transpose, perm=(2, 0, 1)),
        [(cube,), (cube[:, :0],)],
        lambda x: x.transpose(2, 0, 1),
        dtypes=LOW,
    )
    yield Row("rev", partial(shape.rev, axes=(0, 2)), [(cube,)], lambda x: np.flip(x, (0, 2)))
    for axis in (0, 1):
        yield Row(
            f"concatenate-{axis}",
            partial(shape.concatenate, axis=axis),
            [(m, m * 2), (m[::-1], m[:, ::-1])],
            lambda *xs, axis=axis: np.concatenate(xs, axis),
        )
    yield Row(
        "concatenate-uneven",
        partial(shape.concatenate, axis=1),
        [(m, m[:, :0], m[:, 1:3])],
        lambda *xs: np.concatenate(xs, 1),
    )
    yield Row(
        "split",
        partial(shape.split, axis=1, sizes=(1, 0, 2, m.shape[1] - 3)),
        [(m,), (m[::-1],)],
        lambda x: [x[:, :1], x[:, 1:1], x[:, 1:3], x[:, 3:]],
        dtypes=LOW,
    )
    for lo, hi, interior in [
        ((1, 0), (2, 3), (0, 0)),
        ((-1, 2), (0, -3), (0, 0)),
        ((0, -2), (1, -1), (2, 1)),
        ((-3, 0), (-2, 0), (1, 0)),
        ((-2, -4), (1, 1), (0, 0)),
        ((-9, 0), (9, 0), (0, 3)),
    ]:
        yield Row(
            f"pad{lo}{hi}{interior}",
            partial(shape.pad, lo=lo, hi=hi, interior=interior),
            [(m, np.array(5.0)), (m[:, ::-1], np.array(2.0))],
            partial(_reference_pad, lo=lo, hi=hi, interior=interior),
        )
    yield Row(
        "pad-empty",
        partial(shape.pad, lo=(1, 0), hi=(1, 0), interior=(2, 0)),
        [(m[:0], np.array(5.0))],
        lambda x, v: np.full((2, 4), v),
    )
    for start, limit, stride in [
        ((0, 1), (3, 4), (1, 1)),
        ((1, 0), (3, 4), (1, 3)),
        ((0, 0), (3, 4), (2, 2)),
        ((1, 1), (1, 3), (1, 2)),
    ]:
        yield Row(
            f"slice{start}{limit}{stride}",
            partial(shape.slice, start=start, limit=limit, stride=stride),
            [(m,), (m.T.copy().T,)],
            lambda x, s=start, t=limit, d=stride: x[s[0] : t[0] : d[0], s[1] : t[1] : d[1]],
        )
    starts = [(np.int32(a), np.int32(b)) for a, b in ((0, 1), (1, 2), (-5, 99))]
    for sizes in ((2, 2), (3, 2), (3, 4), (0, 1)):
        yield Row(
            f"dynamic_slice{sizes}",
            partial(shape.dynamic_slice, sizes=sizes),
            [(m * (k + 1), *map(np.asarray, s)) for k, s in enumerate(starts)],
            lambda x, *s, sizes=sizes: x[_clamped(x, s, sizes)],
        )
        update = RNG.standard_normal(sizes)
        yield Row(
            f"dynamic_update_slice{sizes}",
            shape.dynamic_update_slice,
            [(m, update + k, *map(np.asarray, s)) for k, s in enumerate(starts)],
            _updated,
        )
    yield Row(
        "broadcast_in_dim",
        partial(families.broadcast_in_dim, shape=(2, 3, 4), dims=(0, 2)),
        [(RNG.standard_normal((2, 4)),), (RNG.standard_normal((2, 1)),)],
        lambda x: np.broadcast_to(x[:, None, :], (2, 3, 4)),
    )


def _clamped(x, starts, sizes):
    at = [
        builtins.min(builtins.max(int(s), 0), n - k)
        for s, n, k in zip(starts, x.shape, sizes, strict=True)
    ]
    return tuple(builtins.slice(a, a + k) for a, k in zip(at, sizes, strict=True))


def _updated(x, update, *starts):
    x = x.copy()
    x[_clamped(x, starts, update.shape)] = update
    return x


# ------------------------------------------------------------------------------ reductions
def reduce_rows():
    cube = RNG.uniform(0.5, 1.5, (2, 3, 4))
    cube_with_zeros = np.where(RNG.random((2, 3, 4)) < 0.2, 0.0, cube)
    tall = RNG.standard_normal((6, 4))[::2, ::-1]
    for axes in ((), (0,), (1, 2), (0, 1, 2)):
        for name, ref in [
            ("reduce_sum", np.sum),
            ("reduce_prod", np.prod),
            ("reduce_max", np.max),
            ("reduce_min", np.min),
        ]:
            fn = partial(getattr(reduce, name), axes=axes)
            yield Row(f"{name}{axes}", fn, [(cube,)], partial(ref, axis=axes), dtypes=LOW)
    yield Row(
        "reduce_prod-zeros",
        partial(reduce.reduce_prod, axes=(2, 0)),
        [(cube_with_zeros,)],
        partial(np.prod, axis=(2, 0)),
    )
    for name, ref in [("reduce_sum", np.sum), ("reduce_prod", np.prod)]:
        yield Row(
            f"{name}-empty",
            partial(getattr(reduce, name), axes=(0,)),
            [(cube[:0],), (cube[:, :0],)],
            partial(ref, axis=0),
        )
        yield Row(
            f"{name}-complex",
            partial(getattr(reduce, name), axes=(1,)),
            [(cube + 1j * cube[::-1],)],
            partial(ref, axis=1),
        )
    for name, ref in [("argmax", np.argmax), ("argmin", np.argmin)]:
        fn = partial(getattr(reduce, name), axis=1, dtype=np.dtype(np.int32))
        with_nan = np.where(cube < 0.8, np.nan, cube)
        yield Row(
            name,
            fn,
            [(cube,), (np.round(cube),), (with_nan,), (cube.astype(np.int32),)],
            lambda x, ref=ref: ref(x, axis=1).astype(np.int32),
            differentiable=False,
            dtypes=LOW,
        )
    for name, ref in [
        ("cumsum", np.cumsum),
        ("cumprod", np.cumprod),
        ("cummax", np.maximum.accumulate),
        ("cummin", np.minimum.accumulate),
        ("cumlogsumexp", np.logaddexp.accumulate),
    ]:
        for reverse in (False, True):
            fn = partial(getattr(reduce, name), axis=0, reverse=reverse)
            yield Row(
                f"{name}-{reverse}",
                fn,
                [(tall,), (cube,), (cube[:1],), (cube[:0],), (cube[:, :0],)],
                lambda x, ref=ref, back=reverse: (
                    ref(x[::-1], axis=0)[::-1] if back else ref(x, axis=0)
                ),
                dtypes=LOW,
            )
    yield Row(
        "cumprod-zeros",
        partial(reduce.cumprod, axis=2, reverse=False),
        [(cube_with_zeros,)],
        partial(np.cumprod, axis=2),
    )
    whole = RNG.integers(0, 7, (3, 4)).astype(np.int32)
    for name, ref in [
        ("reduce_and", np.bitwise_and),
        ("reduce_or", np.bitwise_or),
        ("reduce_xor", np.bitwise_xor),
    ]:
        fn = partial(getattr(reduce, name), axes=(1,))
        yield Row(name, fn, [(whole,), (whole > 3,), (whole[:, :0],)], partial(ref.reduce, axis=1))
    for dtype in (np.int8, np.uint32, np.int64):
        yield Row(
            f"reduce_sum-{dtype.__name__}",
            partial(reduce.reduce_sum, axes=(0,)),
            [(whole.astype(dtype),)],
            partial(np.sum, axis=0, dtype=dtype),
        )
        yield Row(
            f"cumsum-{dtype.__name__}",
            partial(reduce.cumsum, axis=1, reverse=False),
            [(whole.astype(dtype),)],
            partial(np.cumsum, axis=1, dtype=dtype),
        )


ROWS = [*elementwise_rows(), *integer_rows(), *convert_rows(), *shape_rows(), *reduce_rows()]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_row(row, check):
    check(row)


# ------------------------------------------------------------------------------ corner cases
def tangent(prim, *xs, **params):
    """Return the derivative of a primitive along ones."""
    xs = [ArrayImpl(np.asarray(x, np.float64)) for x in xs]
    return prim.jvp(xs, [families.ones_like(x) for x in xs], **params)[1]._data


def test_derivatives_at_corners():
    assert tangent(e.abs_p, 0.0) == 0
    assert tangent(e.integer_pow_p, 0.0, y=1) == 1
    assert tangent(e.hypot_p, 0.0, 0.0) == 0
    for prim in (e.max_p, e.min_p):
        x = ArrayImpl(np.float64([3.0]))
        _, t = prim.jvp((x, x), (families.ones_like(x), None))
        assert t._data == 0.5
    base, exponent = (ArrayImpl(np.float64(v)) for v in ([0.0, 0.0, 0.0], [0.0, 1.0, 2.0]))
    one = families.ones_like(base)
    assert e.pow_p.jvp((base, exponent), (one, None))[1]._data.tolist() == [0, 1, 0]
    assert e.pow_p.jvp((base, exponent), (None, one))[1]._data.tolist() == [0, 0, 0]


def test_ties_share_the_tangent_of_a_maximum():
    x = ArrayImpl(np.float64([[3.0, 1.0, 3.0], [2.0, 2.0, 2.0]]))
    t = ArrayImpl(np.float64([[1.0, 10.0, 5.0], [1.0, 2.0, 6.0]]))
    assert reduce.reduce_max_p.jvp((x,), (t,), axes=(1,))[1]._data.tolist() == [3.0, 3.0]


def test_nothing_has_no_maximum():
    x = ArrayImpl(np.zeros((2, 0)))
    for fn in (
        partial(reduce.reduce_max, axes=(1,)),
        partial(reduce.argmin, axis=1, dtype=np.dtype("int32")),
    ):
        with pytest.raises(ValueError, match=r"no value over no elements.*\(2, 0\)"):
            fn(x)
    with pytest.raises(ValueError, match="reduce_max"):
        reduce.reduce_max_p.type(x.aval, axes=(1,))
    assert reduce.reduce_max(x, axes=(0,)).shape == (0,)


@pytest.mark.parametrize(
    ("prim", "avals", "params", "message"),
    [
        (
            e.add_p,
            [((2,), "float32"), ((3,), "float32")],
            {},
            r"add takes arrays of equal shape and dtype",
        ),
        (e.sin_p, [((2,), "int32")], {}, r"sin does not accept dtype int32"),
        (
            e.bitcast_p,
            [((2,), "bool")],
            {"dtype": np.dtype("int8")},
            r"got bool\[2\] and dtype int8",
        ),
        (e.select_p, [((2,), "float32")] * 3, {}, r"select takes a bool predicate"),
        (
            shape.reshape_p,
            [((2, 3), "float32")],
            {"shape": (4,)},
            r"reshape: f32\[2,3\] has 6 elements",
        ),
        (
            shape.slice_p,
            [((3,), "float32")],
            {"start": (1,), "limit": (4,), "stride": (1,)},
            r"slice: .*f32\[3\]",
        ),
        (
            shape.concatenate_p,
            [((2, 3), "float32"), ((2, 3), "int32")],
            {"axis": 0},
            r"concatenate along axis 0",
        ),
        (
            reduce.reduce_sum_p,
            [((2, 3), "float32")],
            {"axes": (2,)},
            r"reduce_sum: axes \(2,\).*f32\[2,3\]",
        ),
        (
            reduce.cumsum_p,
            [((2, 3), "float32")],
            {"axis": 5, "reverse": False},
            r"cumsum: axes \(5,\)",
        ),
    ],
)
def test_type_errors_name_what_is_wrong(prim, avals, params, message):
    with pytest.raises(TypeError, match=message):
        prim.type(*[ShapedArray(s, np.dtype(d)) for s, d in avals], **params)


def test_conversion_saturates():
    x = ArrayImpl(np.array([np.nan, np.inf, -np.inf, 3e9, -3e9, -1.7, 2147483646.0]))
    whole = e.convert(x, dtype=np.dtype(np.int32), weak_type=False)._data
    assert whole.tolist() == [0, 2**31 - 1, -(2**31), 2**31 - 1, -(2**31), -1, 2147483646]
    assert e.convert(x, dtype=np.dtype(np.uint8), weak_type=False)._data.tolist() == [
        0,
        255,
        0,
        255,
        0,
        0,
        255,
    ]


def test_weak_types_survive_what_keeps_dtypes():
    weak, strong = ArrayImpl(np.float32(2), True), ArrayImpl(np.float32(3))
    assert e.mul(weak, weak).weak_type
    assert e.abs(weak).weak_type
    assert not e.mul(weak, strong).weak_type
    assert e.convert(strong, dtype=np.dtype(np.float32), weak_type=True).weak_type


def test_half_precision_sums_accumulate_in_float32():
    for dtype in (np.float16, BF16):
        ones = ArrayImpl(np.ones(4096, dtype))
        assert reduce.reduce_sum(ones, axes=(0,))._data == 4096
        assert reduce.cumsum(ones, axis=0, reverse=False)._data[-1] == 4096


class OtherLibrary:
    """NumPy seen as an array library whose functions have no ``reduce`` and no ``accumulate``."""

    def __getattr__(self, name):
        f = getattr(np, name)
        return f if isinstance(f, type) else lambda *args, **kwargs: f(*args, **kwargs)


def test_scans_and_folds_without_ufunc_methods():
    x = RNG.integers(-9, 9, (5, 7, 3))
    other = OtherLibrary()
    for prim in (reduce.cummax_p, reduce.cummin_p, reduce.cumlogsumexp_p):
        for axis, reverse in ((0, False), (1, True)):
            v = x.astype(np.float64)
            got, want = (prim.eager(xp, v, axis=axis, reverse=reverse) for xp in (other, np))
            np.testing.assert_allclose(got, want, rtol=1e-14)
    for prim in (reduce.reduce_and_p, reduce.reduce_or_p, reduce.reduce_xor_p):
        for v in (x, x[:0], x > 0):
            got, want = (prim.eager(xp, v, axes=(0, 2)) for xp in (other, np))
            np.testing.assert_array_equal(got, want)
            assert got.dtype == want.dtype


# ------------------------------------------------------------------------------ special functions
def check_special(got, want, ulps):
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    np.testing.assert_allclose(got[finite], want[finite], rtol=ulps * 2.3e-16, atol=2e-15)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_special_functions_agree_with_scipy_over_their_range():
    ends = [math.inf, math.nan, 0.0]
    x = np.concatenate(
        [np.linspace(-10, 26, 4001), np.geomspace(1e-300, 1e300, 401), ends, [-math.inf]]
    )
    check_special(special.erf(np, x), sp.erf(x), 4)
    check_special(special.erfc(np, x), sp.erfc(x), 8)
    u = np.concatenate([np.linspace(-1, 1, 4001), 1 - np.geomspace(1e-16, 1, 200), [2.0, math.nan]])
    check_special(special.erf_inv(np, u), sp.erfinv(u), 8)
    y = np.concatenate(
        [np.linspace(-20.03, 30, 4001), np.geomspace(1e-300, 1e300, 401), ends, [-1, -3]]
    )
    check_special(special.lgamma(np, y), sp.gammaln(y), 100)
    check_special(special.digamma(np, y), sp.digamma(y), 1000)
    z = np.concatenate([np.linspace(0.01, 100, 1001), np.geomspace(1e-30, 1e30, 101)])
    for n in (1, 2, 3, 6):
        check_special(special.polygamma(np, z, n=n), sp.polygamma(n, z), 16)


def test_erfc_keeps_its_digits_in_the_tail():
    x = np.array([2.0, 10.0, 25.0])
    want = [4.677734981047266e-3, 2.088487583762545e-45, 8.300172571196522e-274]
    np.testing.assert_allclose(special.erfc(np, x), want, rtol=4e-15)


def test_polygamma_of_negative_numbers():
    # By the recurrence psi_n(x) = psi_n(x + 1) - (-1)**n n! x**(-n - 1).
    x = np.array([-0.5, -1.25])
    np.testing.assert_allclose(
        special.polygamma(np, x, n=1),
        special.polygamma(np, x + 3, n=1) + sum(1 / (x + k) ** 2 for k in range(3)),
        rtol=1e-14,
    )
    np.testing.assert_allclose(
        special.polygamma(np, x, n=2),
        special.polygamma(np, x + 3, n=2) - sum(2 / (x + k) ** 3 for k in range(3)),
        rtol=1e-13,
    )
