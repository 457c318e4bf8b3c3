"""Python floats beside float64 arrays count with all their digits, under every transform."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

X = np.array([3.0, 1.0, 2.0])
PROGRAMS = {
    "product": (lambda m, x: x * 0.1, X * 0.1),
    "product from the left": (lambda m, x: 0.1 * x, X * 0.1),
    "power": (lambda m, x: 0.3**x + x**0.3, 0.3**X + X**0.3),
    "where": (lambda m, x: m.where(x > 1, 0.1, x), np.where(X > 1, 0.1, X)),
    "clip": (lambda m, x: m.clip(x, 1.1, 2.2), np.clip(X, 1.1, 2.2)),
    "array": (lambda m, x: m.array([x[0], 0.1]), np.array([3, 0.1])),
    "stack": (lambda m, x: m.stack([x[0], 0.1]), np.array([3, 0.1])),
    "append": (lambda m, x: m.append(x, 0.1), np.append(X, 0.1)),
    "update": (lambda m, x: x.at[0].set(0.1).at[1].add(0.1), np.array([0.1, 1.1, 2.0])),
    "full_like": (lambda m, x: m.full_like(x, 0.1), np.full(3, 0.1)),
    "percentile": (lambda m, x: m.percentile(x, 33.3), np.percentile(X, 33.3)),
    "linspace": (lambda m, x: m.linspace(0, 1, 11, dtype=x.dtype), np.linspace(0, 1, 11)),
    "logspace": (lambda m, x: m.logspace(0, 1, 4, dtype=x.dtype), np.logspace(0, 1, 4)),
    "loop": (lambda m, x: lax.fori_loop(0, 2, lambda i, c: c + 0.1, x), X + 0.1 + 0.1),
    "scan": (lambda m, x: lax.scan(lambda c, _: (c * 0.1, None), x, None, 1)[0], X * 0.1),
    "lax": (lambda m, x: lax.mul(x, 0.1), X * 0.1),
    "complex": (lambda m, x: m.real((0.1 + 0.2j) * x), X * 0.1),
    "sinc": (lambda m, x: m.sinc(x / 7), np.sinc(X / 7)),
    "degrees": (lambda m, x: m.degrees(x), np.degrees(X)),
    "std": (lambda m, x: m.std(x), np.std(X)),
}
WRAPS = {
    "eager": lambda f: f,
    "jit": ft.jit,
    "vmap": lambda f: lambda x: ft.vmap(f)(x[None])[0],
    "jvp": lambda f: lambda x: ft.jvp(f, (x,), (x,))[0],
    "vjp": lambda f: lambda x: ft.vjp(f, x)[0],
    "checkpoint": ft.checkpoint,
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_python_floats_are_not_rounded_to_float32(name, wrap):
    f, expected = PROGRAMS[name]
    got = WRAPS[wrap](lambda x: f(fnp, x))(fnp.asarray(X))
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-14)


def test_derivatives_have_all_digits():
    for wrap in (lambda f: f, ft.jit):
        assert float(wrap(ft.grad(lambda x: x * 0.1))(np.float64(3))) == 0.1
        assert float(wrap(ft.grad(lambda x: 0.1 * x**2))(np.float64(3))) == pytest.approx(
            0.6, abs=1e-15
        )


def test_weak_numbers_alone_stay_float32():
    assert (fnp.asarray(0.1) * 1).dtype == np.float32
    assert fnp.asarray(0.1).astype("float32").tolist() == np.float32(0.1)
    assert float(fnp.asarray(0.1)) == np.float32(0.1)
