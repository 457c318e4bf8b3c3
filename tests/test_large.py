"""Eager work on large arrays runs as compiled programs, and gives what it gives on small ones."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.core import Eval
from funtorch.numpy.direct import LARGE

ROWS, COLUMNS = 64, LARGE // 64

FUNCTIONS = {
    "erf": ft.lax.erf,
    "half precision": lambda x: x.astype(np.float16) * 2 + x.astype(np.float16),
    "remainder": lambda x: x % 0.3,
    "complex": lambda x: fnp.exp(x + 1j * x),
    "sin of float64": lambda x: fnp.sin(x.astype(np.float64)),
    "where": lambda x: fnp.where(x > 0, x, 2.0),
    "clip": lambda x: fnp.clip(x, -0.5, 0.5),
    "sum": lambda x: x.sum(axis=1, keepdims=True),
    "variance": lambda x: fnp.var(x, axis=0, ddof=1),
    "running sum": lambda x: fnp.cumsum(x, axis=1),
    "softmax": ft.nn.softmax,
    "softplus": ft.nn.softplus,
    "gelu": lambda x: ft.nn.gelu(x, approximate=False),
    "fft": lambda x: fnp.fft.fft(x, axis=1),
    "gradient": ft.grad(lambda x: ft.nn.silu(x).sum()),
}


@pytest.fixture
def programs(monkeypatch):
    """Return the list of functions that ran as programs since."""
    ran, compiled = [], Eval.compiled

    def noted(function, args, kwargs):
        done = compiled(function, args, kwargs)
        if done is not NotImplemented:
            ran.append(function)
        return done

    monkeypatch.setattr(Eval, "compiled", staticmethod(noted))
    return ran


@pytest.mark.parametrize("name", FUNCTIONS)
def test_large_arrays_go_through_programs(name, programs):
    x = fnp.asarray(np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32))
    found = FUNCTIONS[name](x)
    assert programs
    with ft.disable_jit():
        wanted = FUNCTIONS[name](x)
    assert (found.shape, found.dtype, found.weak_type) == (
        wanted.shape,
        wanted.dtype,
        wanted.weak_type,
    )
    half = found.dtype == np.float16
    a, b = np.asarray(found, np.complex128), np.asarray(wanted, np.complex128)
    np.testing.assert_allclose(a, b, rtol=2e-3 if half else 2e-5, atol=2e-5 * abs(b).max())


def test_small_arrays_do_not(programs):
    x = fnp.ones((4, 5))
    for function in FUNCTIONS.values():
        function(x)
    assert not programs


def test_disabled_jit_and_checks_for_nans_keep_operations_apart(programs):
    x = fnp.zeros((ROWS, COLUMNS))
    with ft.disable_jit():
        ft.lax.erf(x)
    with ft.debug_nans(True), pytest.raises(FloatingPointError, match="log"):
        fnp.log(ft.lax.erf(x) - 1)
    assert not programs


@pytest.mark.parametrize(
    "draw",
    [
        lambda r, k: r.normal(k, (ROWS, COLUMNS)),
        lambda r, k: r.randint(k, (ROWS, COLUMNS), 3, 17),
        lambda r, k: r.uniform(k, (LARGE,), fnp.float32, -1.0, maxval=2.0),
        lambda r, k: r.gamma(k, 2.5, (100,)),
        lambda r, k: r.bernoulli(k, 0.3, (ROWS, COLUMNS)),
        lambda r, k: r.categorical(k, np.zeros((ROWS, COLUMNS), np.float32), axis=0),
    ],
)
def test_large_draws_are_those_of_single_operations(draw, programs):
    key = ft.random.key(3)
    found = draw(ft.random, key)
    with ft.disable_jit():
        np.testing.assert_array_equal(found, draw(ft.random, key))


def test_a_draw_is_one_program(programs):
    ft.random.normal(ft.random.key(0), (ROWS, COLUMNS))
    assert len(programs) == 1
    ft.random.normal(ft.random.key(0), [ROWS, COLUMNS])  # a list: as before
    ft.random.normal(ft.random.key(0), (3,))
    assert programs[0].__name__ == "normal"


def test_errors_are_those_of_single_operations():
    with pytest.raises(ValueError, match="uniform: dtype must be a real float dtype, got int32"):
        ft.random.uniform(ft.random.key(0), (ROWS, COLUMNS), np.int32)
    with pytest.raises(TypeError, match="normal: a raw key is uint32"):
        ft.random.normal(5, (ROWS, COLUMNS))
