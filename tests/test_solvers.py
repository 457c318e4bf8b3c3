"""associative_scan, reduce by any function, custom_root, custom_linear_solve."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

rng = np.random.default_rng(3)
TRANSFORMS = {"eager": lambda f: f, "jit": ft.jit}
both = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------------------------ scans
@pytest.mark.parametrize("n", [*range(10), 33])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan_is_a_scan(n, reverse):
    x = rng.normal(size=(3, n, 2))
    for axis in (1, -2):
        got = lax.associative_scan(fnp.add, x, reverse=reverse, axis=axis)
        want = x[:, ::-1].cumsum(1)[:, ::-1] if reverse else x.cumsum(1)
        close(got, want)


@both
def test_associative_scan_of_pairs(transform):
    """Composing x -> a x + b is associative and does not commute."""
    a, b = rng.normal(size=(2, 7))

    def compose(f, g):
        return {"a": f["a"] * g["a"], "b": f["b"] * g["a"] + g["b"]}

    def last(a, b):
        return lax.associative_scan(compose, {"a": a, "b": b})["b"]

    want, c = [], 0.0
    for x, y in zip(a, b, strict=True):
        c = x * c + y
        want.append(c)
    close(transform(last)(a, b), want)
    close(transform(ft.jacrev(last, argnums=1))(a, b), ft.jacfwd(last, argnums=1)(a, b))
    close(transform(ft.vmap(last))(a[None] * [[1], [2]], b[None] * [[1], [1]])[0], want)


def test_associative_scan_mistakes():
    x = np.ones((3, 2))
    for args, error, message in [
        ((fnp.add, x, False, 2), ValueError, r"axis 2 is out of range for elems of \(3, 2\)"),
        (
            (fnp.add, (x, x[:2])),
            ValueError,
            r"one size along axis 0, got shapes \(3, 2\), \(2, 2\)",
        ),
        ((fnp.add, ()), ValueError, "no arrays"),
        ((lambda a, b: (a, b), x), TypeError, "structure of its arguments"),
        ((lambda a, b: a.sum(), x), TypeError, r"leaf 0 came in as f64\[1,2\] and out as f64\[\]"),
        ((None, x), TypeError, "takes a function first"),
    ]:
        with pytest.raises(error, match=message):
            lax.associative_scan(*args)


# ------------------------------------------------------------------------------------ reduce
@both
def test_reduce(transform):
    x = rng.normal(size=(3, 4, 5))
    index = np.arange(60).reshape(x.shape)

    def best(a, b):
        (va, ia), (vb, ib) = a, b
        first = va >= vb
        return fnp.where(first, va, vb), fnp.where(first, ia, ib)

    for f, want in [
        (lambda x: lax.reduce(x, 1.0, lax.mul, (0, 2)), x.prod((0, 2))),
        (lambda x: lax.reduce(x, np.float64(3.0), lax.add, (0, 1, 2)), x.sum() + 3),
        (lambda x: lax.reduce(x, -np.inf, lax.max, (1,)), x.max(1)),
        (lambda x: lax.reduce(x, 0.0, lax.add, ()), x),
        (lambda x: lax.reduce(x, -np.inf, fnp.logaddexp, (1,)), np.logaddexp.reduce(x, 1)),
        (lambda x: lax.reduce(x[:0], 1.0, lax.mul, (0,)), np.ones((4, 5))),
        (
            lambda x: lax.reduce((x, index), (-np.inf, -1), best, (2,))[1],
            x.argmax(2) + index[:, :, 0],
        ),
    ]:
        close(transform(f)(x), want)
    g = transform(ft.grad(lambda x: lax.reduce(x, 1.0, lax.mul, (0, 2)).sum()))(x)
    close(g, x.prod((0, 2), keepdims=True) / x)
    for args, error, message in [
        ((x, 0.0, lax.add, (3,)), ValueError, r"axes from 0 to 2.*got \(3,\)"),
        ((x, 0.0, lax.add, (1, 1)), ValueError, "different axes"),
        (((x, x[0]), (0.0, 0.0), lax.add, (0,)), TypeError, "arrays of one shape"),
    ]:
        with pytest.raises(error, match=message):
            lax.reduce(*args)


def test_reduce_precision_mistakes():
    close(ft.grad(lambda x: lax.reduce_precision(x, 5, 2) * 1.3)(2.0), 1.25)
    with pytest.raises(TypeError, match="must be floats"):
        lax.reduce_precision(3, 5, 10)
    with pytest.raises(ValueError, match="got 0 and 10"):
        lax.reduce_precision(3.0, 0, 10)


# ------------------------------------------------------------------------------------ roots
def newton(f, x):
    def step(state):
        x, _ = state
        new = x - f(x) / ft.grad(f)(x)
        return new, fnp.abs(new - x) > 1e-12

    return lax.while_loop(lambda s: s[1], step, (x, True))[0]


def cube_root(a):
    return lax.custom_root(
        lambda x: x**3 - a, fnp.ones_like(a), newton, lambda g, y: y / g(fnp.ones_like(y))
    )


@both
def test_custom_root(transform):
    a = np.array([0.5, 2.0, 27.0])
    r = np.cbrt(a)
    close(transform(ft.vmap(cube_root))(a), r)
    close(transform(ft.vmap(ft.grad(cube_root)))(a), 1 / (3 * r**2))
    close(transform(ft.vmap(ft.grad(ft.grad(cube_root))))(a), -2 / (9 * r**5))
    close(transform(ft.vmap(lambda v: ft.jvp(cube_root, (v,), (v,))[1]))(a), a / (3 * r**2))


@both
def test_custom_root_of_a_tree_with_aux(transform):
    def solution(a, b):
        def f(z):
            return {"x": z["x"] - a * z["y"], "y": z["y"] * b - 1.0}

        def solve(f, guess):
            y = 1.0 / ft.lax.stop_gradient(b)
            return {"x": a * y, "y": y}, {"steps": 3}

        def tangent_solve(g, t):
            pull = ft.jacobian(g)(t)
            m = fnp.array([[pull[i][j] for j in "xy"] for i in "xy"])
            x, y = fnp.linalg.solve(m, fnp.stack([t["x"], t["y"]]))
            return {"x": x, "y": y}

        guess = {"x": fnp.zeros_like(a), "y": fnp.zeros_like(a)}
        z, aux = lax.custom_root(f, guess, solve, tangent_solve, has_aux=True)
        return z["x"], aux

    grads, aux = transform(ft.grad(solution, argnums=(0, 1), has_aux=True))(
        fnp.float64(3.0), fnp.float64(2.0)
    )
    close(grads, (1 / 2, -3 / 4))
    assert int(aux["steps"]) == 3


def test_custom_root_mistakes():
    def call(f=lambda x: x, solve=lambda f, x: x, tangent=lambda g, y: y, **kwargs):
        return lax.custom_root(f, X, solve, tangent, **kwargs)

    X = fnp.ones(3)
    with pytest.raises(TypeError, match=r"custom_root: .*structure of initial_guess"):
        call(f=lambda x: (x, x))
    with pytest.raises(
        ValueError, match=r"leaf 0 of that is f32\[3\], of what it returned f32\[\]"
    ):
        call(solve=lambda f, x: x.sum())
    with pytest.raises(TypeError, match=r"must return \(solution, aux\)"):
        call(has_aux=True)
    with pytest.raises(TypeError, match="custom_root takes a function first"):
        call(f=3)


# ------------------------------------------------------------------------------------ linear solves
A = np.array([[4.0, 1.0, 0.2], [0.3, 5.0, 1.0], [0.1, 0.7, 3.0]])
B = np.array([1.0, -2.0, 0.5])


def dense(f, b):
    return fnp.linalg.solve(ft.jacobian(f)(b), b)


def system(scale, b, symmetric=False):
    m = (A + A.T if symmetric else A) * scale
    kwargs = {"symmetric": True} if symmetric else {"transpose_solve": dense}
    return lax.custom_linear_solve(lambda x: m @ x, b, dense, **kwargs)


@both
@pytest.mark.parametrize("symmetric", [False, True])
def test_custom_linear_solve(transform, symmetric):
    def f(s, b):
        return system(s, b, symmetric)

    inverse = np.linalg.inv(A + A.T if symmetric else A)
    s = np.float64(2.0)
    close(transform(f)(s, B), inverse @ B / 2)
    for jacobian in (ft.jacfwd, ft.jacrev):
        close(transform(jacobian(f, argnums=1))(s, B), inverse / 2)
        close(transform(jacobian(f))(s, B), -inverse @ B / 4)
    close(transform(ft.hessian(f))(s, B), inverse @ B / 4)
    scales, bs = np.array([1.0, 2.0]), np.stack([B, 3 * B])
    want = np.stack([inverse @ B, inverse @ B * 1.5])
    close(transform(ft.vmap(f))(scales, bs), want)
    close(transform(ft.vmap(f, in_axes=(0, None)))(scales, B), want / [[1], [1.5 / 0.5]])
    close(transform(ft.vmap(f, in_axes=(None, 0)))(1.0, bs), want * [[1], [2]])
    each = transform(ft.vmap(ft.jacrev(f, argnums=1)))(scales, bs)
    close(each, np.stack([inverse, inverse / 2]))


def test_custom_linear_solve_mistakes():
    def one_way(b):
        return lax.custom_linear_solve(lambda x: A @ x, b, dense).sum()

    close(ft.jvp(one_way, (B,), (B,))[1], np.linalg.solve(A, B).sum())
    with pytest.raises(TypeError, match="transpose_solve is needed for reverse-mode"):
        ft.grad(one_way)(B)
    with pytest.raises(ValueError, match=r"custom_linear_solve: .*shapes of b"):
        lax.custom_linear_solve(lambda x: x.sum(), B, dense)
    with pytest.raises(TypeError, match=r"custom_linear_solve: .*structure of b"):
        lax.custom_linear_solve(lambda x: x, B, lambda f, b: (b, b))


# ------------------------------------------------------------------------------------ bits
@both
def test_rng_bit_generator_gives_the_bits_of_xla(transform):
    """The numbers are those that jax.lax.rng_bit_generator gives."""
    key = np.array([1, 2, 3, 4], np.uint32)
    for algorithm, dtype, after, bits in [
        (0, "uint32", [1, 2, 6, 4], [512747620, 1298009047, 1267190206, 761827841, 1383286907]),
        (2, "uint8", [1, 2, 6, 4], [100, 215, 190, 1, 123]),
        (2, "uint64", [1, 2, 8, 4], [5574906407289874532, 3272025663544478142]),
        (1, "uint32", [1, 2, 8, 4], [1576285164, 2249660814, 740599976, 2425682526]),
    ]:
        draw = lambda k, a=algorithm, d=dtype: lax.rng_bit_generator(k, (9,), d, a)
        new, got = transform(draw)(key)
        assert got.dtype == dtype
        np.testing.assert_array_equal(new, after)
        np.testing.assert_array_equal(got[: len(bits)], np.array(bits, dtype))
    with pytest.raises(TypeError, match=r"uint32\[4\] or uint64\[2\], got"):
        lax.rng_bit_generator(key[:2], (3,))
    with pytest.raises(TypeError, match="unsigned integer's, got float32"):
        lax.rng_bit_generator(key, (3,), np.float32)
