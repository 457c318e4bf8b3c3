"""Sparse Jacobians and Hessians against dense ones: the values, and that the pattern holds them."""

import time

import numpy as np
import pytest

import funtorch as ft
from funtorch import lax
from funtorch import numpy as fnp
from funtorch.transforms.sparsity import color

RNG = np.random.default_rng(0)
BAND = np.diag(RNG.normal(size=5), 1) + np.eye(6)
KEPT = np.array([0, 3, 3, 5])


def heat(x):
    padded = fnp.pad(x, 1)
    return padded[2:] - 2 * fnp.sin(padded[1:-1]) + padded[:-2] * x


@ft.custom_jvp
def turned(x):
    return fnp.sin(x)


turned.defjvp(lambda p, t: (fnp.sin(p[0]), t[0][::-1]))  # no derivative, but a mixing rule


FUNCTIONS = {
    "elementwise": (lambda x: fnp.exp(x) * fnp.sin(x), 6),
    "stencil": (heat, 16),
    "slices": (lambda x: x[::2] * x[1::2], 6),
    "reversed": (lambda x: x[::-1] ** 2, 6),
    "reshaped": (lambda x: (fnp.reshape(x, (2, 3)).T ** 2).sum(1), 6),
    "roll": (lambda x: fnp.roll(x, 1) * x, 12),
    "gather": (lambda x: x[KEPT] ** 2, 4),
    "scatter add": (lambda x: fnp.zeros(6).at[KEPT].add(x[:4] ** 2), 4),
    "scatter set": (lambda x: (x**2).at[KEPT[1:]].set(x[:3]), None),
    "where": (lambda x: fnp.where(np.arange(6) < 3, x[::-1], x * x), 6),
    "where unknown": (lambda x: fnp.where(x < 0, x[::-1], x * x), 12),
    "masked": (lambda x: x * (np.arange(6) > 2), 3),
    "band product": (lambda x: BAND @ x**2, 11),
    "product of band": (lambda x: (x**2) @ BAND, 11),
    "dense product": (lambda x: RNG_MATRIX @ x, 36),
    "rows": (lambda x: fnp.reshape(x, (2, 3)) @ RNG_MATRIX[:3, :3], 18),
    "products of two": (lambda x: fnp.outer(x[:3], x[3:]) @ x[:3], 9 + 9),
    "sum": (lambda x: x.sum() * x[:2], 12),
    "running sum": (lambda x: fnp.cumsum(x), 21),
    "maximum": (lambda x: fnp.maximum(x[1:], x[:-1]), 10),
    "sort": (lambda x: fnp.sort(x), None),
    "convolution": (lambda x: fnp.convolve(x, np.array([1.0, -2.0, 1.0]), "same"), 16),
    "dynamic slice": (lambda x: lax.dynamic_slice(x, (2,), (3,)) ** 2, 3),
    "piecewise constant": (lambda x: fnp.sign(x) + fnp.floor(x), 0),
    "stopped": (lambda x: x * lax.stop_gradient(x.sum()), 6),
    "jit": (lambda x: ft.jit(fnp.tanh)(x), 6),
    "checkpoint": (lambda x: ft.checkpoint(fnp.tanh)(x), 6),
    "loop": (lambda x: lax.fori_loop(0, 3, lambda i, c: c * x, x), None),
    "mixing rule": (turned, 6),
    "scalar": (lambda x: x[2] * x[4], 2),
    "two outputs": (lambda x: (x[:2], {"a": x.reshape(2, 3)}), 8),
    "vmap": (lambda x: ft.vmap(lambda y: y @ y)(x.reshape(3, 2)), 6),
    "no outputs of it": (lambda x: fnp.ones(3), 0),
}
RNG_MATRIX = RNG.normal(size=(6, 6))


def dense(f, x):
    leaves = ft.tree_util.tree_leaves(ft.jacfwd(f)(x))
    return np.concatenate([np.reshape(j, (-1, x.size)) for j in leaves])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sparse_jacobian_is_the_dense_one(name):
    f, nnz = FUNCTIONS[name]
    x = np.random.default_rng(1).normal(size=6)
    got = ft.sparse_jacobian(f)(x)
    want = dense(f, x)
    assert got.shape == want.shape
    np.testing.assert_allclose(got.todense(), want, rtol=1e-12, atol=1e-14)
    assert got.dtype == want.dtype
    if nnz is not None:
        assert got.nnz == nnz
    order = np.asarray(got.rows) * 6 + np.asarray(got.cols)
    assert (np.diff(order) > 0).all()
    np.testing.assert_allclose(ft.jit(ft.sparse_jacobian(f))(x).todense(), want, rtol=1e-12)


def widths(jaxpr, n):
    return {v.aval.shape[0] for e in jaxpr.eqns for v in e.outvars if v.aval.shape[1:] == (n,)}


def test_a_tridiagonal_jacobian_of_ten_thousand_takes_three_passes():
    n = 10_000
    x = np.random.default_rng(2).normal(size=n)
    jac = ft.jit(ft.sparse_jacobian(heat))
    start = time.perf_counter()
    got = jac(x)
    assert time.perf_counter() - start < 20
    assert got.nnz == 3 * n - 2
    assert got.shape == (n, n)
    assert max(widths(ft.make_jaxpr(ft.sparse_jacobian(heat))(x).jaxpr, n)) == 3
    v = np.random.default_rng(3).normal(size=n)
    np.testing.assert_allclose(got @ v, ft.jvp(heat, (x,), (v,))[1], rtol=1e-10, atol=1e-12)


def test_sparse_hessian():
    x = np.random.default_rng(4).normal(size=30)

    def chain(x):
        return ((x[1:] - x[:-1] ** 2) ** 2).sum() + fnp.cos(x).sum()

    got = ft.sparse_hessian(chain)(x)
    assert got.nnz == 30 + 2 * 29
    np.testing.assert_allclose(got.todense(), ft.hessian(chain)(x), rtol=1e-11, atol=1e-11)
    pairs = np.array([[0, 7], [7, 12], [3, 29]])

    def bonds(x):
        return (fnp.sin(x[pairs[:, 0]] - x[pairs[:, 1]])).sum()

    got = ft.jit(ft.sparse_hessian(bonds))(x)
    assert got.nnz == 5 + 6
    np.testing.assert_allclose(got.todense(), ft.hessian(bonds)(x), rtol=1e-11, atol=1e-11)


def test_several_arguments_and_other_ones():
    x, y = np.arange(1.0, 4.0), {"a": np.arange(3.0, 6.0)}
    got = ft.sparse_jacobian(lambda x, k, y, scale: x * y["a"] * scale, argnums=(0, 2))(
        x, "unused", y, scale=2.0
    )
    assert got.nnz == 6
    want = np.hstack([np.diag(2 * y["a"]), np.diag(2 * x)])
    np.testing.assert_allclose(got.todense(), want)


def test_sparse_jacobian_composes():
    x = np.random.default_rng(5).normal(size=(4, 6))
    batch = ft.vmap(lambda x: ft.sparse_jacobian(heat)(x).todense())(x)
    np.testing.assert_allclose(batch, ft.vmap(ft.jacfwd(heat))(x), rtol=1e-12)
    got = ft.grad(lambda x: (ft.sparse_jacobian(heat)(x).values ** 2).sum())(x[0])
    want = ft.grad(lambda x: (ft.jacfwd(heat)(x) ** 2).sum())(x[0])
    np.testing.assert_allclose(got, want, rtol=1e-12)
    empty = ft.sparse_jacobian(fnp.sin)(np.ones(0))
    assert empty.shape == (0, 0)
    assert empty.nnz == 0
    got = ft.sparse_jacobian(heat)(x[0].astype("f"))
    assert got.dtype == np.float32
    assert repr(got) == "COO(6x6, 16 values, float32)"
    np.testing.assert_allclose(got @ x.T.astype("f"), got.todense() @ x.T.astype("f"), rtol=1e-5)


def test_colours_separate_columns_of_one_row():
    rng = np.random.default_rng(6)
    mask = rng.random((30, 40)) < 0.08
    rows, cols = np.nonzero(mask)
    colors = color(rows, cols, 40)
    for k in range(30):
        mine = colors[mask[k]]
        assert len(set(mine)) == len(mine)
    assert colors.max() < 39


def test_sparse_jacobian_names_what_is_wrong():
    with pytest.raises(TypeError, match="sparse_jacobian needs real float arrays, but argument 0"):
        ft.sparse_jacobian(fnp.sin)(np.arange(3))
    with pytest.raises(TypeError, match=r"but output 0 of .* has dtype complex128"):
        ft.sparse_jacobian(lambda x: x * 1j)(np.ones(3))
    with pytest.raises(ValueError, match=r"of shape \(6, 6\) multiplies arrays of shape \(6,\)"):
        ft.sparse_jacobian(fnp.sin)(np.ones(6)) @ np.ones(5)
