"""odeint against SciPy, closed forms, finite differences and jax.experimental.ode."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import funtorch as ft
from funtorch import numpy as fnp
from funtorch.experimental.ode import odeint

TIMES = np.array([0.0, 0.3, 1.0, 2.5])
TIGHT = {"rtol": 1e-10, "atol": 1e-10}


def pendulum(y, t, a, b):
    return fnp.stack([y[1], -a * fnp.sin(y[0]) - b * y[1] + fnp.cos(3 * t)])


def test_odeint_is_scipys():
    y0 = np.array([1.0, -0.5])
    got = odeint(pendulum, y0, TIMES, 2.0, 0.3, **TIGHT)
    want = solve_ivp(
        lambda t, y: [y[1], -2 * np.sin(y[0]) - 0.3 * y[1] + np.cos(3 * t)],
        (0, 2.5), y0, t_eval=TIMES, rtol=1e-12, atol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(got, want.y.T, rtol=1e-7, atol=1e-8)
    assert got.dtype == np.float64
    jitted = ft.jit(lambda y: odeint(pendulum, y, TIMES, 2.0, 0.3, **TIGHT))(y0)
    np.testing.assert_allclose(jitted, got, rtol=1e-9)


def test_states_are_pytrees_of_any_dtype():
    y0 = {"a": np.float32(1.0), "b": np.ones((2, 1), np.complex64)}
    got = odeint(lambda y, t: {"a": -y["a"], "b": 1j * y["b"]}, y0, TIMES.astype("f"), rtol=1e-5)
    assert got["a"].dtype == np.float32
    assert got["b"].shape == (4, 2, 1)
    np.testing.assert_allclose(got["a"], np.exp(-TIMES), rtol=1e-3)
    np.testing.assert_allclose(got["b"][:, 0, 0], np.exp(1j * TIMES), rtol=1e-3)
    alone = odeint(lambda y, t: y, np.ones(2), TIMES[:1])
    assert alone.shape == (1, 2)
    still = odeint(lambda y, t: 0 * y, np.ones(2), TIMES)
    np.testing.assert_allclose(still, np.ones((4, 2)))


def test_gradients_are_differences():
    y0, w = np.array([1.0, -0.5]), np.random.default_rng(0).normal(size=(4, 2))

    def loss(y0, times, a, b):
        return (odeint(pendulum, y0, times, a, b, **TIGHT) * w).sum()

    at = (y0, TIMES, 2.0 * np.ones(()), 0.3 * np.ones(()))
    grads = ft.jit(ft.grad(loss, argnums=(0, 1, 2, 3)))(*at)
    value = ft.jit(loss)
    for k, g in enumerate(grads):
        for i in np.ndindex(at[k].shape):
            step = np.zeros(at[k].shape)
            step[i] = 1e-5
            up, down = ([*at[:k], at[k] + s, *at[k + 1 :]] for s in (step, -step))
            slope = (float(value(*up)) - float(value(*down))) / 2e-5
            np.testing.assert_allclose(g[i], slope, rtol=1e-5, atol=1e-6)


def test_gradients_reach_what_is_closed_over_and_pass_integers_by():
    n = np.int32(3)

    def loss(k):
        return odeint(lambda y, t, n: -k * y * n, np.float64(1), TIMES, n, **TIGHT)[-1]

    k = np.float64(0.2)
    np.testing.assert_allclose(ft.grad(loss)(k), -7.5 * np.exp(-1.5), rtol=1e-7)


def test_odeint_under_vmap():
    rates = np.array([0.1, 1.0, 3.0])
    got = ft.vmap(lambda k: odeint(lambda y, t: -k * y, np.float64(1), TIMES, **TIGHT))(rates)
    np.testing.assert_allclose(got, np.exp(-rates[:, None] * TIMES), rtol=1e-7)


def test_too_many_steps_give_nan():
    got = odeint(lambda y, t: -y, np.float64(1), np.array([0.0, 1e-3, 50.0]), mxstep=2, hmax=0.1)
    assert np.isfinite(got[:2]).all()
    assert np.isnan(got[2])


@pytest.mark.parametrize(
    ("func", "t", "error", "text"),
    [
        (lambda y, t: y, np.arange(3), TypeError, "t must be a float array, got dtype int64"),
        (lambda y, t: y, 1.0, TypeError, "t must be an array of times, got float"),
        (lambda y, t: y, np.ones((2, 2)), ValueError, r"of rank 1.* got shape \(2, 2\)"),
        (lambda y, t: y, -TIMES, ValueError, "t must increase; to integrate backwards"),
        (lambda y, t: (y, y), TIMES, TypeError, "must return the structure of the state"),
        (lambda y, t: y[:1], TIMES, TypeError, r"leaf 0 is f64\[1\] for a state of f64\[2\]"),
    ],
)
def test_odeint_names_what_is_wrong(func, t, error, text):
    with pytest.raises(error, match=text):
        odeint(func, np.ones(2), t)
