"""Contractions of any axes are matrix products in compiled programs, and equal eager ones."""

import itertools

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.backends.fuse import fuse
from funtorch.backends.plan import Call, Dot
from funtorch.transforms.simplify import simplify

rng = np.random.default_rng(11)
SIZES = dict(zip("abcde", (4, 6, 8, 10, 12), strict=True))
KERNELS = ("abde,adbe->ad", "abc,abc->", "abc,d->dcab", "ab,ab->ab", "cabd,bcae->abcde")
"""Those with a vector, or in which nothing is summed."""


def operand(axes, dtype="float32"):
    return fnp.asarray(rng.normal(size=[SIZES[k] for k in axes]).astype(dtype))


@pytest.mark.parametrize(
    "subscripts",
    [
        *(f"{''.join(x)},{''.join(y)}->abc" for x, y in zip(
            itertools.permutations("abd"), itertools.permutations("dca"), strict=True)),
        "abde,adbe->ad", "abcd,cbae->de", "bad,bcd->abc", "dab,acbe->bdce", "ab,cb->ac",
        "abc,abc->", "abc,d->dcab", "ab,ab->ab", "cabd,bcae->abcde", "ade,bed->ba",
    ],
)  # fmt: skip
def test_contractions_compile_to_products(subscripts):
    x, y = map(operand, subscripts.split("->")[0].split(","))

    def f(x, y):
        return fnp.einsum(subscripts, x, y)

    plan = fuse(simplify(ft.make_jaxpr(f)(x, y).jaxpr))
    kinds = {type(step) for step in plan.steps}
    assert Call not in kinds
    assert (Dot in kinds) is (subscripts not in KERNELS)
    want = np.einsum(subscripts, np.asarray(x), np.asarray(y))
    np.testing.assert_allclose(ft.jit(f)(x, y), want, rtol=1e-5, atol=1e-5)


def test_attention_and_its_gradient_run_no_eager_rule():
    q, k, v = (operand("bcde") for _ in range(3))

    def loss(q, k, v):
        weights = ft.nn.softmax(fnp.einsum("bthd,bshd->bhts", q, k))
        return (fnp.einsum("bhts,bshd->bthd", weights, v) ** 2).sum()

    g = ft.grad(loss, (0, 1, 2))
    plan = fuse(simplify(ft.make_jaxpr(g)(q, k, v).jaxpr))
    assert not [step for step in plan.steps if isinstance(step, Call)]
    for got, want in zip(ft.jit(g)(q, k, v), g(q, k, v), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-4)


def test_other_dtypes_and_empty_sums():
    for dtype in ("float64", "float16", "int32", "complex64"):
        x, y = operand("bad", dtype), operand("bcd", dtype)
        f = ft.jit(lambda x, y: fnp.einsum("bad,bcd->abc", x, y))
        want = np.einsum("bad,bcd->abc", np.asarray(x), np.asarray(y))
        np.testing.assert_allclose(f(x, y), want, rtol=5e-3, atol=5e-3)
    empty = ft.jit(lambda x, y: fnp.einsum("bad,bcd->abc", x, y))(x[..., :0], y[..., :0])
    np.testing.assert_array_equal(empty, np.zeros((4, 6, 8)))


# ---------------------------------------------------------------------- sizes and places
LAYOUTS = ("ij,jk->ik", "ji,jk->ik", "ij,kj->ik", "ji,kj->ik", "ij,jk->ki")


def agree(subscripts, x, y):
    """Compare a compiled product with NumPy's in a wide type, and with itself on one thread."""
    f = ft.jit(lambda x, y: fnp.einsum(subscripts, x, y))
    got = np.asarray(f(x, y))
    wide = np.int64 if x.dtype.kind in "iu" else np.promote_types(x.dtype, np.float64)
    x, y = (np.asarray(z, wide) for z in (x, y))
    want = np.einsum(subscripts, x, y)
    if wide is np.int64:
        np.testing.assert_array_equal(got, want.astype(got.dtype))
    else:
        # Each sum within the bound of any order of its additions, most of them far within.
        scale = np.einsum(subscripts, np.abs(x), np.abs(y))
        assert np.all(np.abs(got - want) <= 8 * np.finfo(got.dtype).eps * scale)
    return f, got


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int8", "uint64"])
@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 1, 1), (2, 3, 5), (7, 33, 17), (9, 70, 49), (50, 300, 129)]
)
def test_products_of_any_size_and_place(m, k, n, dtype):
    sizes = dict(zip("ijk", (m, k, n), strict=True))
    for subscripts in LAYOUTS:
        x, y = (
            fnp.asarray((50 * rng.normal(size=[sizes[d] for d in axes])).astype(dtype))
            for axes in subscripts.split("->")[0].split(",")
        )
        agree(subscripts, x, y)


@pytest.mark.parametrize(
    ("subscripts", "left", "right"),
    [
        ("ij,jk->ik", (64, 5000), (5000, 48)),  # the sum is divided
        ("ji,jk->ik", (2100, 24), (2100, 70)),
        ("ij,jk->ik", (300, 90), (90, 1100)),  # rows far apart: copied
        ("ji,jk->ik", (90, 1100), (90, 100)),
        ("aij,ajk->aik", (5, 40, 33), (5, 33, 50)),
        ("abij,bajk->abik", (2, 3, 20, 9), (3, 2, 9, 18)),
        ("ijk,kjl->il", (10, 20, 30), (30, 20, 40)),  # a sum of two axes
        ("aib,acb->ic", (30, 20, 40), (30, 17, 40)),
    ],
)
def test_products_do_not_depend_on_the_number_of_threads(subscripts, left, right):
    x, y = (fnp.asarray(rng.normal(size=s).astype("float32")) for s in (left, right))
    f, got = agree(subscripts, x, y)
    for threads in (1, 2, 5):
        with ft.threads(threads):
            assert np.asarray(f(x, y)).tobytes() == got.tobytes()


def test_products_of_slices_and_of_nothing():
    x, y = (fnp.asarray(rng.normal(size=s).astype("float32")) for s in ((40, 60), (60, 50)))

    def f(x, y):
        return x[3:20, 5:50:3] @ y[15:30, ::2]

    want = f(np.asarray(x), np.asarray(y))
    np.testing.assert_allclose(ft.jit(f)(x, y), want, rtol=1e-4, atol=1e-5)
    strided = np.asarray(x).T[::2].T
    np.testing.assert_allclose(ft.jit(fnp.matmul)(strided, y[:30]), strided @ y[:30], rtol=1e-4)
    none = ft.jit(fnp.matmul)(x[:, :0], y[:0])
    np.testing.assert_array_equal(none, np.zeros((40, 50)))
    assert ft.jit(fnp.matmul)(x[:0], y).shape == (0, 50)


def test_products_keep_what_is_not_finite():
    x, y = np.ones((20, 40), "float32"), np.ones((40, 50), "float32")
    x[3, 5], x[7, 0], y[2, 33] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(ft.jit(fnp.matmul)(x, y), x @ y)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_halves_are_summed_in_float32(dtype):
    x, y = (
        fnp.asarray(rng.normal(size=s).astype("float32")).astype(dtype)
        for s in ((9, 400), (400, 33))
    )
    f = lambda x, y: x @ y
    assert not [
        s for s in fuse(simplify(ft.make_jaxpr(f)(x, y).jaxpr)).steps if isinstance(s, Call)
    ]
    np.testing.assert_array_equal(ft.jit(f)(x, y).astype("float32"), f(x, y).astype("float32"))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_products_are_made_of_real_ones(dtype):
    x, y = (
        fnp.asarray((rng.normal(size=s) + 1j * rng.normal(size=s)).astype(dtype))
        for s in ((9, 40), (40, 33))
    )
    f = lambda x, y: x.conj() @ y
    assert not [
        s for s in fuse(simplify(ft.make_jaxpr(f)(x, y).jaxpr)).steps if isinstance(s, Call)
    ]
    np.testing.assert_allclose(ft.jit(f)(x, y), np.asarray(x).conj() @ np.asarray(y), rtol=1e-4)


# ---------------------------------------------------------------------- tiny matrices
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int8", "float16", "complex64"])
@pytest.mark.parametrize(
    ("subscripts", "left", "right"),
    [
        ("bij,bjk->bik", (700, 3, 3), (700, 3, 3)),
        ("bij,bkj->bik", (200, 4, 4), (200, 4, 4)),
        ("ij,jk->ik", (1000, 3), (3, 5)),
        ("ijk,jkl->il", (600, 2, 2), (2, 2, 4)),
        ("ij,jk->ik", (2, 2), (2, 2)),
    ],
)
def test_tiny_matrices_are_elementwise(subscripts, left, right, dtype):
    x, y = (rng.integers(-4, 5, s).astype(dtype) for s in (left, right))

    def f(x, y):
        return fnp.einsum(subscripts, x, y)

    plan = fuse(simplify(ft.make_jaxpr(f)(x, y).jaxpr))
    assert (Dot in {type(step) for step in plan.steps}) is (dtype == "int8")
    want = np.einsum(subscripts, *(z.astype(complex) for z in (x, y)))
    got = np.asarray(ft.jit(f)(x, y))
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, want)
