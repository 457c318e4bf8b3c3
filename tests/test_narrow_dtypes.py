"""Floats of 8 bits and integers of 4: storage, conversions, arithmetic by float32 and int8.

The values are ml_dtypes' roundings and, where marked, those of JAX 0.10.
"""

import ml_dtypes
import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.errors import TypePromotionError

FLOATS = [d.name for d in dtypes.NARROW_FLOATS]
INTS = [d.name for d in dtypes.NARROW_INTS]
X = np.array([0.5, 1, 1.5, 2, 3, 4], np.float32)


@pytest.mark.parametrize("name", FLOATS)
def test_floats(name):
    dtype = np.dtype(getattr(ml_dtypes, name))
    x = X.astype(dtype)
    wide = x.astype(np.float32)
    y = fnp.asarray(X).astype(name)
    assert y.dtype == dtype == getattr(fnp, name).dtype == ft.jit(lambda x: x.astype(name))(X).dtype
    assert np.asarray(y).tolist() == x.tolist()
    for k, f in enumerate((lambda x: x + x, lambda x: x * 2, lambda x: x * 0.5, lambda x: x / x)):
        for run in (f, *((ft.jit(f), ft.vmap(f)) if k == 2 else ())):
            assert run(y).dtype == dtype
            want = f(wide).astype(dtype).astype(np.float32)
            assert run(y).astype("float32").tolist() == want.tolist()
    assert ft.jit(lambda y: y.astype("float32").sum())(y) == wide.sum()
    want = np.exp(wide).astype(dtype).astype(np.float32)  # nan where the dtype has no inf
    assert np.array_equal(fnp.exp(y).astype("float32"), want, equal_nan=True)
    assert (y > 1).tolist() == (wide > 1).tolist()
    assert fnp.concatenate([y, y])[1:7].reshape(2, 3).T.dtype == dtype
    assert ft.lax.dot(y, y, preferred_element_type=fnp.float32) == wide @ wide
    assert (y @ y).dtype == dtype
    gradient = ft.grad(lambda x: (x.astype(name).astype("float32") * 2).sum())(fnp.ones(2))
    assert gradient.tolist() == [2, 2]
    assert fnp.finfo(name).bits == ml_dtypes.finfo(name).bits
    assert fnp.issubdtype(name, fnp.floating)
    assert not fnp.issubdtype(name, fnp.integer)


@pytest.mark.parametrize("name", INTS)
def test_integers(name):
    """What floats beyond the range become is JAX's: the nearest integer there is."""
    info = ml_dtypes.iinfo(name)
    x = fnp.asarray([300.0, -300.0, 1.7, np.nan]).astype(name)
    assert x.astype("int32").tolist() == [info.max, info.min, 1, 0]
    y = fnp.asarray([1, 0, 1], name)
    for f in (lambda x: -x, lambda x: x + x, lambda x: fnp.maximum(x, 0), lambda x: x * 1):
        for run in (f, ft.jit(f)):
            assert run(y).dtype == name
            want = np.asarray(f(y.astype("int32"))).astype(np.dtype(getattr(ml_dtypes, name)))
            assert (np.asarray(run(y)) == want).all()
    assert y.max().dtype == name
    assert ft.jit(lambda x: (x.astype("float32") * 0.5).astype(name))(y).tolist() == [0, 0, 0]
    assert fnp.iinfo(name).max == info.max
    assert dtypes.itemsize_bits(name) == info.bits


def test_promotion():
    """As in JAX: with Python numbers and bools, floats with integers; with nothing else."""
    for name in FLOATS:
        assert dtypes.promote_types(name, float) == dtypes.promote_types(name, int) == name
        assert dtypes.promote_types(name, "int32") == dtypes.promote_types(name, bool) == name
    for name in INTS:
        assert dtypes.promote_types(name, int) == dtypes.promote_types(name, bool) == name
    for a, b in (("float8_e5m2", "float32"), ("float8_e5m2", "float8_e4m3fn"), ("int4", "int8")):
        with pytest.raises(TypePromotionError, match=f"dtypes {a} and {b} have no common dtype"):
            fnp.ones(2, a) + fnp.ones(2, b)


def test_scaled_matmul():
    """Each block along the summed axis has a factor; values are NumPy's."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(2, n, 8)).astype(ml_dtypes.float8_e4m3fn) for n in (3, 5))
    a, b = (2.0 ** rng.integers(-2, 3, (2, n, 2)) for n in (3, 5))
    got = ft.nn.scaled_matmul(x, y, a.astype(ml_dtypes.float8_e8m0fnu), b)
    wide = [v.astype(np.float64) * np.repeat(s, 4, -1) for v, s in ((x, a), (y, b))]
    assert np.allclose(got, wide[0] @ wide[1].swapaxes(1, 2), rtol=1e-5)
    assert got.dtype == np.float32
    with pytest.raises(ValueError, match=r"rhs_scales \[B, M, K / block\], got \(2, 5, 8\)"):
        ft.nn.scaled_matmul(x, y, a, b[:, :1])


def test_composite():
    """It is its decomposition, in any transform."""
    tangent = ft.lax.composite(lambda x, *, scale: fnp.sin(x) / fnp.cos(x) * scale, name="my.tan")
    x = fnp.asarray(0.5)
    assert np.isclose(tangent(x, scale=2.0), 2 * np.tan(0.5))
    assert np.isclose(ft.jit(ft.grad(lambda x: tangent(x, scale=1.0)))(x), 1 / np.cos(0.5) ** 2)
