"""sow, reap, plant: through every transform, and the mistakes one can make."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

X = np.array([0.5, -1.0, 2.0])
TRANSFORMS = {"eager": lambda f: f, "jit": ft.jit}
both = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)


def close(got, want):
    ft.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), got, want)


def layer(x):
    h = ft.sow(fnp.sin(x), name="h")
    return h * h + x


def loss(f):
    return lambda x: f(x).sum()


def custom_jvp_of(f):
    g = ft.custom_jvp(f)
    g.defjvp(lambda primals, tangents: ft.jvp(f, primals, tangents))
    return g


def custom_vjp_of(f):
    g = ft.custom_vjp(f)
    g.defvjp(lambda x: (f(x), x), lambda x, ct: ft.vjp(f, x)[1](ct))
    return g


# What a transform makes of `layer`, and what it gives with a value h in the place of sin(x):
# result and derivative of h * h + x.
S = np.sin(X)
VALUES = {
    "jit": (ft.jit, lambda h: h * h + X),
    "vmap": (ft.vmap, lambda h: h * h + X),
    "vmap jit": (lambda f: ft.vmap(ft.jit(f)), lambda h: h * h + X),
    "jit vmap": (lambda f: ft.jit(ft.vmap(f)), lambda h: h * h + X),
    "remat": (ft.checkpoint, lambda h: h * h + X),
    "custom_jvp": (custom_jvp_of, lambda h: h * h + X),
    "custom_vjp": (custom_vjp_of, lambda h: h * h + X),
    "map": (lambda f: lambda x: lax.map(f, x), lambda h: h * h + X),
    "scan": (lambda f: lambda x: lax.scan(lambda c, y: (c, f(y)), 0, x)[1], lambda h: h * h + X),
    "cond": (lambda f: lambda x: lax.cond(True, f, lambda y: f(y) + 0, x), lambda h: h * h + X),
    "linearize": (lambda f: lambda x: ft.linearize(f, x)[0], lambda h: h * h + X),
}
SLOPES = {
    "jvp": lambda f: lambda x: ft.jvp(f, (x,), (fnp.ones(3, x.dtype),))[1],
    "grad": lambda f: ft.grad(loss(f)),
    "vmap grad": lambda f: ft.vmap(ft.grad(f)),
    "grad jit": lambda f: ft.grad(loss(ft.jit(f))),
    "jit grad": lambda f: ft.jit(ft.grad(loss(f))),
    "jit vmap grad": lambda f: ft.jit(ft.vmap(ft.grad(f))),
    "grad vmap": lambda f: ft.grad(loss(ft.vmap(f))),
    "grad remat": lambda f: ft.grad(loss(ft.checkpoint(f))),
    "grad jit remat": lambda f: ft.grad(loss(ft.jit(ft.checkpoint(f)))),
    "grad map": lambda f: ft.grad(loss(lambda x: lax.map(f, x))),
    "grad cond": lambda f: ft.grad(loss(lambda x: lax.cond(True, f, f, x))),
    "f_jvp": lambda f: lambda x: ft.linearize(f, x)[1](fnp.ones(3, x.dtype)),
    "grad of remat of map": lambda f: ft.grad(loss(ft.checkpoint(lambda x: lax.map(f, x)))),
}


@both
@pytest.mark.parametrize("word", [*VALUES, *SLOPES])
def test_reap_and_plant_through(word, transform):
    if word in VALUES:
        make, value = VALUES[word]
        plain, planted = value(S), value(7.0)
    else:
        make = SLOPES[word]
        plain, planted = 2 * S * np.cos(X) + 1, np.ones(3)
    f = make(layer)
    close(transform(f)(X), plain)
    out, sown = transform(ft.reap(f))(X)
    close((out, sown), (plain, {"h": S}))
    close(transform(ft.plant(f))({"h": np.full(3, 7.0)}, X), planted)
    by_function = ft.plant(f)
    close(
        transform(lambda x: by_function(lambda name, like: fnp.full_like(like, 7.0), x))(X), planted
    )
    close(transform(lambda x: by_function(lambda name, like: None, x))(X), plain)


@both
def test_a_function_is_asked_in_the_programs_order(transform):
    asked = []

    def give(name, like):
        asked.append((name, like.shape, str(like.dtype)))
        return fnp.full(like.shape, len(asked), like.dtype)

    def steps(x):
        x = ft.sow(x, name="a", mode="append") + ft.sow(x, name="a", mode="append")
        return lax.scan(lambda c, y: (c, ft.sow(y, name="b") + 0), 0, x)[1]

    close(transform(lambda x: ft.plant(steps)(give, x))(X), [3.0] * 3)
    assert asked == [("a", (3,), "float64"), ("a", (3,), "float64"), ("b", (3,), "float64")]


@both
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_branches_may_differ_where_all_is_planted(transform, sign):
    def f(x):
        return lax.cond(x.sum() > 0, layer, lambda y: 3 * y, x)

    x = sign * X
    want = 25.0 + x if sign > 0 else 3 * x
    close(transform(ft.plant(f))({"h": np.full(3, 5.0)}, x), want)


@both
def test_derivatives_of_what_is_reaped(transform):
    def f(x):
        out, sown = ft.reap(ft.jit(layer))(x)
        return (sown["h"] ** 2).sum() + 0 * out.sum()

    close(transform(ft.grad(f))(X), 2 * S * np.cos(X))
    close(transform(ft.vmap(lambda x: ft.reap(layer)(x)[1]["h"]))(X), S)
    close(transform(ft.grad(lambda h: ft.plant(layer)({"h": h}, X).sum()))(X), 2 * X)


@both
def test_activations_of_a_network(transform):
    ws = [np.eye(3) * k for k in (1.0, 2.0, 3.0)]

    def net(ws, x):
        for w in ws:
            x = ft.sow(fnp.tanh(x @ w), name="layer", tag="activations", mode="append")
        return x

    out, sown = transform(ft.reap(ft.jit(net), tag="activations"))(ws, X)
    want, x = [], X
    for w in ws:
        x = np.tanh(x @ w)
        want.append(x)
    close((out, sown["layer"]), (x, tuple(want)))
    ones = tuple([np.ones(3)] * 3)
    close(transform(ft.plant(net, tag="activations"))({"layer": ones}, ws, X), np.ones(3))
    close(ft.reap(net, tag="other")(ws, X), (x, {}))


@both
def test_running_statistics(transform):
    """A state that a training loop carries from step to step, in no object."""

    def normalize(x, mean):
        new = ft.sow(0.9 * mean + 0.1 * x.mean(), name="mean", tag="statistics")
        return x - lax.stop_gradient(new), new

    def train(w, mean, xs):
        def step(carry, x):
            w, mean = carry
            cost = lambda w: ((w * normalize(x, mean)[0]) ** 2).mean()
            g, sown = ft.reap(ft.grad(cost), tag="statistics")(w)
            return (w - 0.1 * g, sown["mean"]), sown["mean"]

        return lax.scan(step, (w, mean), xs)

    xs = np.random.default_rng(0).normal(size=(5, 4)) + 3
    (_, last), means = transform(train)(np.float64(1.0), np.float64(0.0), xs)
    want, mean = [], 0.0
    for x in xs:
        mean = 0.9 * mean + 0.1 * x.mean()
        want.append(mean)
    close((last, means), (want[-1], np.array(want)))


@both
def test_loops(transform):
    def f(x):
        def step(c, y):
            c = ft.sow(c + y, name="total", mode="clobber")
            return c, ft.sow({"a": y, "b": (y * y,)}, name="parts")

        last, _ = lax.scan(step, 0.0, x, reverse=True)
        n = lax.while_loop(
            lambda c: c < 5,
            lambda c: ft.sow(c * 2.0, name="doubled", mode="clobber"),
            1.0 + 0 * last,
        )
        return last, n

    (last, n), sown = transform(ft.reap(f))(X)
    close((last, n), (1.5, 8.0))
    close(sown, {"total": 1.5, "parts": {"a": X, "b": (X * X,)}, "doubled": 8.0})
    (last, n) = transform(ft.plant(f))({"total": np.float64(4.0), "doubled": np.float64(6.0)}, X)
    close((last, n), (4.0, 6.0))
    swap = lambda x: lax.scan(lambda c, y: (c + ft.sow(y, name="y"), None), 0.0, x)[0]
    close(transform(ft.plant(swap))({"y": np.array([1.0, 2.0, 4.0])}, X), 7.0)

    def until(x):
        body = lambda c: ft.sow(fnp.sin(c), name="s", mode="clobber")
        return lax.while_loop(lambda c: (c > 0.5).all(), body, x).sum()

    g, sown = transform(ft.reap(ft.grad(until)))(np.array([1.0, 1.5]))
    close(g, ft.grad(until)(np.array([1.0, 1.5])))
    assert sown["s"].shape == (2,)


@both
def test_tags_are_kept_apart(transform):
    def f(x):
        x = ft.sow(x * 2, name="v", tag="a")
        return ft.sow(x * 3, name="v", tag="b")

    (out, b), a = transform(ft.reap(ft.reap(ft.jit(f), tag="b"), tag="a"))(X)
    close((out, a, b), (6 * X, {"v": 2 * X}, {"v": 6 * X}))


def test_sowing_costs_nothing_compiled():
    text = ft.jit(layer).lower(X).as_text()
    assert "sow" not in text
    assert "sow" not in ft.jit(ft.grad(loss(layer))).lower(X).as_text()


def twice(x):
    return ft.sow(ft.sow(x, name="v") * 2, name="v")


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda: ft.reap(twice)(X), ValueError, r"'v' \(tag 'state'\) is used twice, at "),
        (lambda: ft.reap(ft.jit(twice))(X), ValueError, "is used twice"),
        (
            lambda: ft.reap(lambda x: lax.cond(True, layer, lambda y: y, x))(X),
            ValueError,
            r"every branch.*branch 0 sows nothing; branch 1 sows 'h' f64\[3\]",
        ),
        (
            lambda: ft.reap(lambda x: lax.while_loop(lambda c: c.sum() < 9, layer, x))(X),
            ValueError,
            "'h'.*while_loop.*mode='clobber'",
        ),
        (
            lambda: ft.reap(
                lambda x: lax.while_loop(lambda c: ft.sow(c, name="c")[0] < 9, lambda c: c, x)
            )(X),
            ValueError,
            "condition of while_loop cannot sow",
        ),
        (lambda: ft.plant(layer)({"k": 1.0}, X), ValueError, "sows nothing named 'k' with"),
        (lambda: ft.plant(layer)({"h": X[:2]}, X), TypeError, r"f64\[3\]; given is f64\[2\]"),
        (lambda: ft.plant(ft.jit(layer))({"h": (X, X)}, X), TypeError, "'h'.*has the structure"),
        (lambda: ft.plant(layer)(lambda n, x: X[:2], X), TypeError, r"f64\[3\]; given is f64\[2\]"),
        (lambda: ft.sow(X, name=3), TypeError, "name and tag must be strings, got int"),
        (lambda: ft.sow(X, name="a", mode="all"), ValueError, "mode must be one of"),
        (lambda: ft.reap(3), TypeError, "reap takes a function first"),
    ],
)
def test_mistakes(use, error, message):
    with pytest.raises(error, match=message):
        use()
