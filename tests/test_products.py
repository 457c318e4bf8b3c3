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
SIZES = dict(zip("abcde", (2, 3, 4, 5, 6), strict=True))
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
    np.testing.assert_array_equal(empty, np.zeros((2, 3, 4)))
