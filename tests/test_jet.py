"""Taylor mode against nested jvp and jax.experimental.jet."""

import numpy as np
import pytest

import funtorch as ft
from funtorch import lax, nn
from funtorch import numpy as fnp
from funtorch.experimental.jet import jet


def nested(f, x, terms):
    """The derivatives at 0 of f along x + sum of t^k terms_k / k!, one jvp in another."""
    fact = [1, 1, 2, 6, 24, 120]

    def curve(t):
        return sum((c * t**k / fact[k] for k, c in enumerate(terms, 1)), x)

    def along(g):
        return lambda t: ft.jvp(g, (t,), (1.0,))[1]

    g, found = (lambda t: f(curve(t))), []
    for _ in terms:
        g = along(g)
        found.append(g(np.float64(0)))
    return found


UNARY = {
    "exp": fnp.exp,
    "exp2": fnp.exp2,
    "expm1": fnp.expm1,
    "log": fnp.log,
    "log1p": fnp.log1p,
    "log2": fnp.log2,
    "sin": fnp.sin,
    "cos": fnp.cos,
    "tan": fnp.tan,
    "sinh": fnp.sinh,
    "cosh": fnp.cosh,
    "tanh": fnp.tanh,
    "arctan": fnp.arctan,
    "arcsin": lambda x: fnp.arcsin(x / 3),
    "sqrt": fnp.sqrt,
    "rsqrt": lax.rsqrt,
    "square": fnp.square,
    "reciprocal": fnp.reciprocal,
    "cube": lambda x: x**3,
    "minus fourth": lambda x: x**-4,
    "zeroth": lambda x: x**0 + x,
    "pow": lambda x: x**2.5,
    "self power": lambda x: x**x,
    "quotient": lambda x: (1 + x * x) / (2 + fnp.sin(x)),
    "constant over": lambda x: 3.0 / x,
    "over constant": lambda x: x / 3.0,
    "sigmoid": nn.sigmoid,
    "softplus": nn.softplus,
    "gelu": nn.gelu,
    "erf": lax.erf,
    "abs": lambda x: fnp.abs(x - 1),
    "maximum": lambda x: fnp.maximum(x, x * x),
    "where": lambda x: fnp.where(x > 1, fnp.sin(x), x * x),
    "matmul": lambda x: fnp.outer(x, x) @ fnp.sin(x),
    "cumsum": lambda x: fnp.cumsum(x) * x[::-1],
    "prod": lambda x: fnp.prod(x) * x,
    "indexing": lambda x: x[fnp.array([2, 0, 0])] * x,
    "update": lambda x: fnp.asarray(x).at[1].set(x[0] ** 2),
    "through integers": lambda x: x * fnp.floor(x).astype(int).astype(float) + x.astype(int),
    "pad": lambda x: fnp.pad(x, 2) ** 2,
    "convolve": lambda x: fnp.convolve(x, x**2),
    "jit": lambda x: ft.jit(lambda y: fnp.sin(y) * x)(x * 2),
    "logsumexp": lambda x: nn.logsumexp(x) * x,
    "scan": lambda x: lax.scan(lambda c, y: (c * y, c + y), x[0], x)[1],
    "fori": lambda x: lax.fori_loop(0, 3, lambda i, c: c * fnp.sin(x), x),
    "cond": lambda x: lax.cond(x[0] > 0, fnp.sin, fnp.cos, x),
    "checkpoint": lambda x: ft.checkpoint(lambda y: fnp.sin(y) ** 2)(x),
}


@pytest.mark.parametrize("name", UNARY)
def test_jet_is_nested_jvp(name):
    rng = np.random.default_rng(len(name))
    x, terms = 0.5 + rng.random(3), list(rng.normal(size=(4, 3)))
    y, got = jet(UNARY[name], (x,), (terms,))
    np.testing.assert_allclose(y, UNARY[name](x), rtol=1e-14)
    for g, w in zip(got, nested(UNARY[name], x, terms), strict=True):
        assert (g.shape, g.dtype) == (w.shape, w.dtype)
        np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-9)


def test_jet_of_two_arguments_is_jaxs_scaled_or_not():
    jax = pytest.importorskip("jax")
    jax_jet = pytest.importorskip("jax.experimental.jet").jet
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 3)), rng.normal(size=(3, 2))
    sx, sy = list(rng.normal(size=(5, 2, 3))), list(rng.normal(size=(5, 3, 2)))

    def f(xp):
        return lambda a, b: (xp.tanh(a @ b), xp.exp(-xp.sum(a * b.T)))

    for scaled in (True, False):
        got = jet(f(fnp), (x, y), (sx, sy), factorial_scaled=scaled)
        with jax.enable_x64(True):
            want = jax_jet(f(jax.numpy), (x, y), (sx, sy), factorial_scaled=scaled)
        for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-11)


def test_jet_composes_with_the_transforms():
    x = np.linspace(0.5, 1.5, 4)

    def third(x):
        return jet(fnp.sin, (x,), ((1.0, 0.0, 0.0),))[1][2]

    np.testing.assert_allclose(ft.vmap(third)(x), -np.cos(x), rtol=1e-12)
    np.testing.assert_allclose(ft.jit(ft.vmap(third))(x), -np.cos(x), rtol=1e-12)
    np.testing.assert_allclose(ft.vmap(ft.grad(third))(x), np.sin(x), rtol=1e-12)
    inner = jet(ft.grad(lambda x: fnp.sin(x)), (x[0],), ((1.0, 0.0),))[1]
    np.testing.assert_allclose(inner, [-np.sin(0.5), -np.cos(0.5)], rtol=1e-12)


def test_jet_keeps_float32_and_gives_zeros():
    y, (d1, d2) = jet(lambda x: (x * 0 + 1, x > 0)[0], (np.float32(2),), ((1.0, 0.0),))
    assert y.dtype == d1.dtype == d2.dtype == np.float32
    assert float(d1) == float(d2) == 0.0
    assert float(jet(lambda x: 3.0, (2.0,), ((1.0,),))[1][0]) == 0.0
    assert [float(d) for d in jet(lambda x: x**3, (0.0,), ((1.0, 0.0, 0.0),))[1]] == [0, 0, 6]


def test_jet_high_orders_take_polynomial_time():
    order = 12
    terms = [1.0] + [0.0] * (order - 1)
    jaxpr = ft.make_jaxpr(lambda x: jet(lambda x: fnp.exp(fnp.sin(x)), (x,), (terms,)))(0.5)
    assert len(jaxpr.jaxpr.eqns) < 20 * order**2
    got = jet(fnp.log, (np.float64(2.0),), (terms,))[1][-1]
    np.testing.assert_allclose(got, -np.prod(np.arange(1.0, 12)) / 2.0**12, rtol=1e-12)


@pytest.mark.parametrize(
    ("primals", "series", "error", "text"),
    [
        (2.0, ((1.0,),), TypeError, "jet takes primals as a tuple or list, got float"),
        ((2.0,), ((1.0,), (1.0,)), ValueError, "got 1 primals and 2 series"),
        ((2.0, 3.0), ((1.0,), (1.0, 2.0)), ValueError, r"got lengths \[1, 2\]"),
        ((2.0,), (1.0,), TypeError, "the series of argument 0 must be a tuple or list"),
        ((2,), ((1.0,),), TypeError, "leaf 0 of the primals has dtype int32"),
        ((np.ones(2),), ((1.0,),), TypeError, r"f64\[2\] but its term of order 1 is f32"),
        ((2.0,), (([1.0],),), TypeError, "terms of order 1 have the structure"),
    ],
)
def test_jet_names_what_is_wrong(primals, series, error, text):
    with pytest.raises(error, match=text):
        jet(lambda *xs: xs[0], primals, series)
