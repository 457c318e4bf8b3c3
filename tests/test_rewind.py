"""Reverse mode through while_loop: right for any number of steps, in little memory."""

import tracemalloc

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

X = np.array([0.3, -0.7, 1.1])
A = np.float64(1.1)
TRANSFORMS = {"eager": lambda f: f, "jit": ft.jit}
both = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)


def step(y, z, a):
    return fnp.sin(y * a) + y * 0.5 * z, z * 0.9 + 0.1 * y


def until(x, a, n):
    """Step n times by while_loop; the carry holds an integer and a value that is not wanted."""

    def body(c):
        i, y, z, _ = c
        return i + 1, *step(y, z, a), y

    return lax.while_loop(lambda c: c[0] < n, body, (0, x, x * x, x))[1].sum()


def steps(x, a, n):
    return lax.fori_loop(0, n, lambda _, c: step(*c, a), (x, x * x))[0].sum()


def close(got, want):
    ft.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-8, atol=1e-12), got, want)


@both
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 70, 300])
def test_gradient_is_that_of_the_steps(transform, n):
    close(transform(ft.grad(until, (0, 1)))(X, A, n), ft.grad(steps, (0, 1))(X, A, n))


@both
def test_higher_order(transform):
    words = {
        "forward over reverse": lambda f: ft.jacfwd(ft.grad(f)),
        "reverse over reverse": lambda f: ft.jacrev(ft.grad(f)),
        "mixed": lambda f: ft.jacrev(ft.grad(f, 1)),
        "mixed the other way": lambda f: ft.jacfwd(ft.grad(f), 1),
        "reverse over forward": lambda f: ft.jacrev(ft.jacfwd(f)),
    }
    for name, word in words.items():
        got, want = transform(word(until))(X, A, 9), word(steps)(X, A, 9)
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-11, err_msg=name)


@both
def test_lanes_of_different_length(transform):
    ns, xs = np.array([3, 0, 17]), np.stack([X, 2 * X, X])
    each = [ft.grad(steps, (0, 1))(x, A, int(n)) for x, n in zip(xs, ns, strict=True)]
    want = ft.tree.map(lambda *gs: np.stack(gs), *each)
    close(transform(ft.vmap(ft.grad(until, (0, 1)), in_axes=(0, None, 0)))(xs, A, ns), want)
    total = lambda a: ft.vmap(until, in_axes=(0, None, 0))(xs, a, ns).sum()
    close(transform(ft.grad(total))(A), want[1].sum())
    same = transform(ft.vmap(ft.grad(until), in_axes=(0, None, None)))(xs, A, 17)
    close(same[2], want[0][2])


@both
def test_inside_other_loops(transform):
    def nested(f):
        return lambda x: lax.scan(lambda c, _: (f(c * x, A, 5) * x, c.sum()), x, None, 3)[1].sum()

    close(transform(ft.grad(nested(until)))(X), ft.grad(nested(steps))(X))

    def twice(x):
        inner = lambda c: (c[0] + 1, until(c[1], A, c[0]) * x)
        return lax.while_loop(lambda c: c[0] < 3, inner, (0, x))[1].sum()

    def unrolled(x):
        y = x
        for n in range(3):
            y = steps(y, A, n) * x
        return y.sum()

    close(transform(ft.grad(twice))(X), ft.grad(unrolled)(X))
    close(transform(ft.grad(ft.checkpoint(lambda x: until(x, A, 9))))(X), ft.grad(steps)(X, A, 9))


@both
def test_the_end_may_depend_on_what_is_differentiated(transform):
    def newton(a):
        def body(s):
            x, _ = s
            new = x - (x * x - a) / (2 * x)
            return new, fnp.abs(new - x)

        return lax.while_loop(lambda s: s[1] > 1e-14, body, (a, fnp.ones_like(a)))[0]

    close(transform(ft.grad(newton))(np.float64(2.0)), 1 / (2 * np.sqrt(2)))
    close(transform(ft.vmap(ft.grad(newton)))(np.array([2.0, 9.0])), 0.5 / np.sqrt([2.0, 9.0]))


@both
def test_any_order(transform):
    f = lambda x: lax.while_loop(lambda v: v < 9, lambda v: v * v, x)  # x^4 at 2
    for want in (32.0, 48.0, 48.0, 24.0):
        f = ft.grad(f)
        close(transform(f)(2.0), want)
    tangent = lambda x: ft.linearize(ft.grad(lambda y: until(y, A, 9)), x)[1](X)
    plain = lambda x: ft.linearize(ft.grad(lambda y: steps(y, A, 9)), x)[1](X)
    close(transform(ft.jacrev(tangent))(X), ft.jacrev(plain)(X))


def test_traced_bounds_of_fori_loop():
    f = ft.jit(ft.grad(lambda x, n: lax.fori_loop(0, n, lambda i, y: fnp.sin(y) * (i + 1), x)))
    for n in (0, 1, 4):
        close(
            f(0.5, n),
            ft.grad(lambda x, n=n: lax.fori_loop(0, n, lambda i, y: fnp.sin(y) * (i + 1), x))(0.5),
        )


def test_a_hundred_thousand_steps_in_little_memory():
    size, n = 200, 100_000

    def loss(x):
        return lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, fnp.sin(c[1])), (0, x))[
            1
        ].sum()

    f = ft.jit(ft.grad(loss))
    x = np.linspace(0.1, 1.0, size)
    f(x)
    tracemalloc.start()
    got = f(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Every step's state would take 800 MB.
    assert peak < 4 * 8 * size * np.sqrt(n)
    y, slope = x.copy(), np.ones(size)
    for _ in range(n):
        slope *= np.cos(y)
        y = np.sin(y)
    np.testing.assert_allclose(got, slope, rtol=1e-6)


def test_prints_of_steps_are_not_repeated():
    seen = []

    def body(c):
        ft.debug.callback(lambda v: seen.append(int(v)), c[0])
        return c[0] + 1, c[1] * 2

    f = lambda x: lax.while_loop(lambda c: c[0] < 4, body, (0, x))[1]
    assert float(ft.jit(ft.grad(f))(1.0)) == 16.0
    assert seen == [0, 1, 2, 3]


def test_forward_mode_of_a_rule_that_goes_back_through_a_loop():
    """The rule's reverse pass is a rewound loop, which is transposed for the forward pass."""

    def f(x):
        return lax.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, fnp.sin(c[1]) * 2), (0, x))[
            1
        ]

    g = ft.custom_vjp(f)
    g.defvjp(lambda x: (f(x), x), lambda x, ct: ft.vjp(f, x)[1](ct))
    x, t = np.array([0.3, 0.7]), np.array([1.0, -2.0])
    want = ft.jvp(f, (x,), (t,))[1]
    for transform in (lambda h: h, ft.jit):
        np.testing.assert_allclose(transform(lambda x: ft.jvp(g, (x,), (t,))[1])(x), want)
        np.testing.assert_allclose(transform(lambda x: ft.linearize(g, x)[1](t))(x), want)
