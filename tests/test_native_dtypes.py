"""Every numeric primitive has native code for every dtype that it takes, but for what is listed."""

import ml_dtypes
import numpy as np
import pytest
import test_conv
import test_ops_basic
import test_ops_more

import funtorch as ft
from funtorch import lax
from funtorch.backends.fuse import fuse
from funtorch.backends.plan import Call, plans_of
from funtorch.core import ArrayImpl, ShapedArray
from funtorch.jaxpr import stage
from funtorch.ops import elementwise, indexing, reduce
from funtorch.transforms.simplify import simplify

DTYPES = [
    *map(np.dtype, ("bool", "int8", "uint32", "int64", "float16", "float32", "float64")),
    *map(np.dtype, ("complex64", "complex128", ml_dtypes.bfloat16)),
]
# Primitive -> the kinds of dtypes that still run by their eager rules, and why.
EXCEPTIONS = {}
rng = np.random.default_rng(2)


def kind_of(dtype):
    return "h" if dtype.itemsize == 2 and dtype.kind not in "iu" else dtype.kind


def rows():
    for row in (*test_ops_basic.ROWS, *test_ops_more.CASES, *test_conv.ROWS):
        yield row.name, row.fn, (row.samples if hasattr(row, "samples") else [row.args])


def eager_calls(fn, avals):
    """Yield the equations of a compiled function that run by their eager rules."""

    def flat(*xs):
        out = fn(*xs)
        return list(out) if isinstance(out, (tuple, list)) else [out]

    try:
        program = stage(flat, avals)
    except (TypeError, ValueError):
        return  # a dtype that it does not take
    steps = list(fuse(simplify(program)).steps)
    while steps:
        step = steps.pop()
        if isinstance(step, Call):
            yield step.eqn
        for plan in plans_of(step):
            steps += plan.steps


def test_every_primitive_is_native_for_every_dtype():
    found, seen = {}, set()
    for name, fn, samples in rows():
        for args in samples[:3]:
            args = [np.asarray(a) for a in args]
            for dtype, kind in ((d, k) for d in DTYPES for k in "fci"):
                avals = [
                    ShapedArray(a.shape, dtype if a.dtype.kind == kind else a.dtype) for a in args
                ]
                key = (name, *(str(a) for a in avals))
                if key in seen or not any(a.dtype.kind == kind for a in args):
                    continue
                seen.add(key)
                for eqn in eager_calls(fn, avals):
                    kinds = {kind_of(v.aval.dtype) for v in eqn.invars[:1]}
                    allowed = EXCEPTIONS.get(eqn.prim.name, ("", ""))[0]
                    if not kinds <= set(allowed):
                        found.setdefault(eqn.prim.name, set()).update(
                            v.aval.str_short() for v in eqn.invars
                        )
    assert not found, f"these run by their eager rules in compiled programs: {found}"
    assert len(seen) > 1000


def test_the_exceptions_have_reasons():
    assert all(len(reason) > 20 for _, reason in EXCEPTIONS.values())


# ---------------------------------------------------------------------- values of what is rewritten
def same(f, *args):
    got, want = ft.jit(f)(*args), f(*(ArrayImpl(x) for x in args))
    assert got.dtype == want.dtype
    got, want = (np.asarray(x) for x in (got, want))
    if got.dtype.kind not in "biufc":
        got, want = got.astype("f4"), want.astype("f4")
    np.testing.assert_array_equal(got, want)


def test_integer_powers():
    for dtype in ("int8", "uint8", "int32", "int64", "uint64"):
        x = np.array([0, 1, 2, 3, 7, 100], dtype)
        y = np.array([0, 1, 5, 3, 63, 2], dtype)
        x, y = (a.reshape(-1) for a in np.meshgrid(x, y))
        if np.dtype(dtype).kind == "i":
            x, y = np.concatenate([x, -x, x, -x]), np.concatenate([y, y, -y, -y])
        same(elementwise.pow, x, y)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_next_16_bit_floats(dtype):
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    for y in (x[::-1].copy(), np.zeros_like(x), np.full_like(x, np.inf), -x, x):
        same(elementwise.nextafter, x, y)


def test_integers_are_finite():
    same(elementwise.is_finite, np.arange(5))


def test_products_of_bools():
    a, b = rng.random((7, 40)) > 0.9, rng.random((40, 5)) > 0.9
    same(lambda a, b: a @ b, a, b)
    np.testing.assert_array_equal(ft.jit(lambda a, b: a @ b)(a, b), a @ b)


@pytest.mark.parametrize("name", ["scatter_add", "scatter_mul", "scatter_min", "scatter_max"])
def test_bools_scatter(name):
    x, u = rng.random(8) > 0.5, rng.random(30) > 0.5
    where = rng.integers(-1, 9, 30).astype(np.int32)
    f = getattr(indexing, name)
    same(lambda x, u, i: f(x, u, i, axes=(0,), mode="drop", unique=False), x, u, where)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", ["scatter_min", "scatter_max"])
def test_complex_numbers_scatter_in_lexicographic_order(name, dtype):
    parts = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf]
    numbers = np.array([complex(a, b) for a in parts for b in parts], dtype)
    where = rng.integers(-1, 9, 200).astype(np.int32)
    f = getattr(indexing, name)

    def scatter(x, u, i):
        return f(x, u, i, axes=(0,), mode="drop", unique=False)

    x, u = rng.choice(numbers, 8), rng.choice(numbers, 200)
    assert not list(eager_calls(scatter, [ShapedArray(a.shape, a.dtype) for a in (x, u, where)]))
    same(scatter, x, u, where)
    got = ft.jit(scatter)(x, u, where)
    key = lambda z: (z.real, z.imag)
    for k in range(8):
        best = (max if name == "scatter_max" else min)([x[k], *u[where == k]], key=key)
        assert np.asarray(got)[k] == best
    # Nans stay, whichever part is one; the first one where there are several.
    bad = np.array([complex(np.nan, 1), complex(2, np.nan), 3, complex(1, np.nan)], dtype)
    for a, b in ((bad, bad[::-1].copy()), (bad, np.full(4, 2, dtype)), (np.full(4, 2, dtype), bad)):
        np.testing.assert_array_equal(
            ft.jit(scatter)(a, b, np.arange(4)),
            scatter(*(ArrayImpl(z) for z in (a, b, np.arange(4)))),
        )


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "float16", "complex64", "bfloat16"])
def test_convolutions_of_other_dtypes(dtype):
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    x, w = rng.integers(-9, 9, (2, 4, 9, 8)), rng.integers(-9, 9, (6, 2, 3, 2))
    x, w = x.astype(dtype), w.astype(dtype)
    if dtype.kind == "c":
        x, w = x + 1j * x[::-1], w - 2j * w[::-1]
    for p in (
        {"window_strides": (1, 1), "padding": "SAME"},
        {"window_strides": (2, 1), "padding": ((1, 2), (-1, 0)), "lhs_dilation": (2, 3)},
        {"window_strides": (1, 2), "padding": "VALID", "rhs_dilation": (2, 1)},
    ):
        same(lambda x, w, p=p: lax.conv_general_dilated(x, w, feature_group_count=2, **p), x, w)
    if dtype == np.int8:
        wide = {"preferred_element_type": np.int32, "feature_group_count": 2}
        same(lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "SAME", **wide), x, w)


@pytest.mark.parametrize("dtype", ["int32", "float32", "bool", "complex64"])
def test_nothing_gives_what_eager_rules_give(dtype):
    x = np.zeros((2, 0, 3), dtype)
    names = ["reduce_or", "reduce_and"] if dtype == "bool" else ["reduce_sum", "reduce_prod"]
    names += ["reduce_max", "reduce_min"] if dtype == "int32" else []
    for name in names:
        if dtype in ("int32", "float32", "complex64") and name in ("reduce_max", "reduce_min"):
            continue  # they raise
        same(lambda x, name=name: getattr(reduce, name)(x, axes=(1,)), x)
    fnp = ft.numpy
    y = np.ones((2, 3, 3), dtype)
    for f in (
        lambda x, y: fnp.concatenate([x, y, x], axis=1),
        lambda x, y: fnp.pad(x, ((0, 0), (1, 2), (0, 0)), constant_values=y[0, 0, 0]),
        lambda x, y: fnp.sort(x, axis=1),
        lambda x, y: y.at[:, fnp.zeros(0, fnp.int32)].add(x) if dtype != "bool" else x,
        lambda x, y: fnp.where(x == x, x, x)[:, :0],
        lambda x, y: y.at[0:0].set(y[0:0]),
    ):
        same(f, x, y)
    if dtype != "bool":
        same(lambda x, y: fnp.einsum("bik,bij->bkj", x, x), x, y)


def test_empty_results_make_no_step_that_runs():
    program = simplify(ft.make_jaxpr(lambda x: ft.numpy.sin(x) + 1)(np.zeros((0, 3))).jaxpr)
    assert {type(s).__name__ for s in fuse(program).steps} == {"Nothing"}
    assert ft.jit(lambda x: ft.numpy.sin(x) + 1)(np.zeros((0, 3))).shape == (0, 3)
    got = ft.jit(lambda x, y: (ft.numpy.sin(x), y + x.sum()))(np.zeros((0, 3)), np.ones(2))
    assert got[0].shape == (0, 3)
    np.testing.assert_array_equal(got[1], np.ones(2))
