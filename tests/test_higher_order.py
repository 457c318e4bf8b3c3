"""Higher order: products with Hessians, Jacobians in chunks, sparse ones, Taylor mode, odeint."""

import numpy as np
import pytest

import funtorch as ft
from funtorch import numpy as fnp


# ------------------------------------------------------------------------------- hvp, chunk_size
def energy(x, y):
    return (fnp.sin(x)[:, None] * y**2).sum() + (x**3).sum()


def test_hvp_is_the_hessian_times_the_direction():
    rng = np.random.default_rng(0)
    x, v = rng.normal(size=(2, 4))
    dense = ft.hessian(lambda x: (fnp.sin(x) * x[::-1]).sum())(x)
    got = ft.hvp(lambda x: (fnp.sin(x) * x[::-1]).sum(), (x,), (v,))
    np.testing.assert_allclose(got, dense @ v, rtol=1e-12)
    assert got.dtype == np.float64


def test_hvp_of_several_arguments_and_aux_under_jit():
    rng = np.random.default_rng(1)
    x, y, u, v = rng.normal(size=3), rng.normal(size=(3, 2)), rng.normal(size=3), np.ones((3, 2))
    (xx, xy), (yx, yy) = ft.hessian(energy, argnums=(0, 1))(x, y)
    got, aux = ft.jit(lambda *a: ft.hvp(lambda x, y: (energy(x, y), x), a[:2], a[2:], True))(
        x, y, u, v
    )
    np.testing.assert_allclose(got[0], xx @ u + fnp.tensordot(xy, v, 2), rtol=1e-12)
    np.testing.assert_allclose(got[1], yx @ u + fnp.tensordot(yy, v, 2), rtol=1e-12)
    np.testing.assert_allclose(aux, x)


def test_hvp_names_what_is_wrong():
    with pytest.raises(TypeError, match="hvp takes primals and tangents as tuples or lists"):
        ft.hvp(lambda x: x.sum(), np.ones(2), np.ones(2))


@pytest.mark.parametrize("mode", [ft.jacfwd, ft.jacrev, ft.hessian])
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 100])
def test_chunks_give_the_whole(mode, chunk_size):
    rng = np.random.default_rng(2)
    args = {"a": rng.normal(size=(2, 2)), "b": rng.normal(size=1).astype("f")}

    def f(p):
        return {"y": fnp.tanh(p["a"] @ p["a"]), "z": (p["b"] * p["a"]).sum()}

    whole, part = mode(f)(args), mode(f, chunk_size=chunk_size)(args)
    assert ft.tree_util.tree_structure(whole) == ft.tree_util.tree_structure(part)
    for w, p in zip(ft.tree_util.tree_leaves(whole), ft.tree_util.tree_leaves(part), strict=True):
        assert (w.shape, w.dtype) == (p.shape, p.dtype)
        np.testing.assert_allclose(w, p, rtol=1e-6, atol=1e-7)


def test_chunks_with_aux_and_jit():
    x = np.arange(5.0)
    jac, aux = ft.jit(ft.jacfwd(lambda x: (x**2, x.sum()), has_aux=True, chunk_size=2))(x)
    np.testing.assert_allclose(jac, np.diag(2 * x))
    assert float(aux) == 10.0
    empty = ft.jacfwd(lambda x: x**2, chunk_size=2)(np.ones(0))
    assert empty.shape == (0, 0)


def test_chunks_bound_the_size_of_intermediate_values():
    def f(x):
        return fnp.cos(x[:, None] * fnp.sin(x)).sum(1)

    def biggest(**options):
        jaxpr = ft.make_jaxpr(ft.jacfwd(f, **options))(np.ones(32)).jaxpr
        found = [v.aval.size for e in _equations(jaxpr) for v in e.outvars if v.aval.ndim == 3]
        return max(found)

    assert biggest() == 32**3
    assert biggest(chunk_size=4) == 4 * 32**2


def _equations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for value in eqn.params.values():
            if hasattr(value, "eqns"):
                yield from _equations(value)


@pytest.mark.parametrize("mode", [ft.jacfwd, ft.jacrev, ft.hessian])
def test_wrong_chunk_sizes_are_named(mode):
    with pytest.raises(ValueError, match="chunk_size must be at least 1, or None, got 0"):
        mode(lambda x: x, chunk_size=0)
    with pytest.raises(TypeError, match="chunk_size must be an integer or None, got float"):
        mode(lambda x: x, chunk_size=1.5)
