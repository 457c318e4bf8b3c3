"""Collectives over named axes: values, derivatives, nesting, and inside jit."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

rng = np.random.default_rng(5)
X = rng.normal(size=(4, 4, 8, 3))
SQUARE = X**2
AXES = ("outside", "inside")

# name, function of one lane, what all lanes together give
CASES = {
    "psum": (lambda x: lax.psum(x * x, "i"), np.broadcast_to(SQUARE.sum(0), X.shape)),
    "pmean": (lambda x: lax.pmean(x * x, "i"), np.broadcast_to(SQUARE.mean(0), X.shape)),
    "pmax": (lambda x: lax.pmax(x * x, "i"), np.broadcast_to(SQUARE.max(0), X.shape)),
    "all_gather": (
        lambda x: lax.all_gather(x * x, "i", axis=1),
        np.broadcast_to(np.moveaxis(SQUARE, 0, 1), (4, 4, 4, 8, 3)),
    ),
    "all_gather tiled": (
        lambda x: lax.all_gather(x * x, "i", axis=-1, tiled=True),
        np.broadcast_to(np.concatenate(SQUARE, -1), (4, 4, 8, 12)),
    ),
    "psum_scatter": (lambda x: lax.psum_scatter(x * x, "i"), SQUARE.sum(0)),
    "psum_scatter tiled": (
        lambda x: lax.psum_scatter(x * x, "i", scatter_dimension=1, tiled=True),
        np.moveaxis(SQUARE.sum(0).reshape(4, 4, 2, 3), 1, 0),
    ),
    "all_to_all": (
        lambda x: lax.all_to_all(x * x, "i", 0, 2),
        np.moveaxis(SQUARE.swapaxes(0, 1), 1, 3),
    ),
    "all_to_all tiled": (
        lambda x: lax.all_to_all(x * x, "i", 1, 0, tiled=True),
        SQUARE.reshape(4, 4, 4, 2, 3).transpose(2, 0, 1, 3, 4).reshape(4, 16, 2, 3),
    ),
    "pswapaxes": (lambda x: lax.pswapaxes(x * x, "i", 0), SQUARE.swapaxes(0, 1)),
    "pshuffle": (lambda x: lax.pshuffle(x * x, "i", [1, 3, 0, 2]), SQUARE[[1, 3, 0, 2]]),
    "ppermute": (
        lambda x: lax.ppermute(x * x, "i", [(0, 1), (2, 3)]),
        SQUARE[[0, 0, 0, 2]] * np.array([0, 1, 0, 1]).reshape(4, 1, 1, 1),
    ),
    "axis_index": (lambda x: x * lax.axis_index("i"), X * np.arange(4).reshape(4, 1, 1, 1)),
    "pvary": (lambda x: lax.pvary(x * x, "i"), SQUARE),
    "axis_size": (lambda x: x * lax.axis_size("i"), X * 4),
}
every = pytest.mark.parametrize("name", CASES)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


@every
def test_values(name):
    f, want = CASES[name]
    mapped = ft.vmap(f, axis_name="i")
    close(mapped(X), want)
    close(ft.jit(mapped)(X), want)
    close(ft.vmap(ft.jit(f), axis_name="i")(X), want)
    # Another mapped axis rides along, from outside or inside.
    both = np.stack([X, -X], 3)
    close(
        ft.vmap(mapped, in_axes=3)(both),
        np.stack([want, want])
        if name not in ("axis_index", "axis_size")
        else np.stack([want, -want]),
    )
    inner = ft.vmap(f, in_axes=2)
    close(ft.vmap(inner, axis_name="i")(both)[:, 0], want)


@every
def test_derivatives(name):
    """<w, J v> = <J^T w, v>, and J v is a difference quotient."""
    f, want = CASES[name]
    mapped = ft.vmap(f, axis_name="i")
    v, w = rng.normal(size=X.shape), rng.normal(size=want.shape)
    for transform in (lambda g: g, ft.jit):
        push = transform(lambda x, v: ft.jvp(mapped, (x,), (v,))[1])(X, v)
        pull = transform(lambda x, w: ft.vjp(mapped, x)[1](w)[0])(X, w)
        np.testing.assert_allclose((w * push).sum(), (pull * v).sum(), rtol=1e-9)
        slope = (np.asarray(mapped(X + 1e-6 * v)) - np.asarray(mapped(X - 1e-6 * v))) / 2e-6
        np.testing.assert_allclose(push, slope, rtol=1e-5, atol=1e-6)


def test_what_is_the_same_everywhere():
    """Operands that are not mapped count once per lane."""
    c = np.arange(8.0).reshape(4, 2)
    zero = fnp.zeros(4)

    def over(f):
        return ft.vmap(lambda x: f() + x, axis_name="i")(zero)

    close(over(lambda: lax.psum(c, "i")[0, 1]), np.full(4, 4.0))
    close(over(lambda: lax.psum_scatter(c, "i")[1]), 4 * c[:, 1])
    close(over(lambda: lax.all_to_all(c, "i", 0, 0)[2, 1]), c[:, 1])
    close(over(lambda: lax.all_gather(c, "i")[3, 2, 1]), np.full(4, 5.0))


def test_several_names():
    x = X[:2, :3, 0, 0]

    def f(v):
        names = ("i", "j")
        return lax.psum(v, names), lax.axis_index(names), lax.all_gather(v, names)

    for transform in (lambda g: g, ft.jit):
        total, index, gathered = transform(ft.vmap(ft.vmap(f, axis_name="j"), axis_name="i"))(x)
        close(total, np.full((2, 3), x.sum()))
        close(index, np.arange(6).reshape(2, 3))
        close(gathered, np.broadcast_to(x.ravel(), (2, 3, 6)))


def test_a_jitted_function_knows_its_axes():
    mean = ft.jit(lambda x: lax.pmean(x, "i") * lax.axis_size("i"))
    for n in (3, 5):
        close(ft.vmap(mean, axis_name="i")(np.ones(n)), np.full(n, n))
    loop = ft.vmap(
        lambda x: lax.scan(lambda c, _: (lax.psum(c, "i"), None), x, None, 3)[0], axis_name="i"
    )
    close(ft.jit(loop)(np.ones(2)), np.full(2, 8.0))


@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (
            lambda x: lax.psum(x, "k"),
            NameError,
            r"unbound axis name: no axis named 'k'.*there is 'i'",
        ),
        (lambda x: ft.jit(lambda y: lax.pmean(y, "k"))(x), NameError, "no axis named 'k'"),
        (lambda x: lax.axis_size("k"), NameError, "no axis named 'k'"),
        (lambda x: lax.all_to_all(x, "i", 1, 0), ValueError, r"axis 1 of f64\[4,8,3\].*which is 4"),
        (lambda x: lax.all_to_all(x, "i", 2, 0, tiled=True), ValueError, "divisible by 4"),
        (lambda x: lax.all_to_all(x, "i", 3, 0), ValueError, "split_axis=3 is out of range"),
        (lambda x: lax.psum_scatter(x, "i", scatter_dimension=2), ValueError, "size of the mapped"),
        (lambda x: lax.pshuffle(x, "i", [0, 0, 1, 2]), ValueError, "not represent a permutation"),
        (lambda x: lax.ppermute(x, "i", [(0, 1), (2, 1)]), ValueError, "each destination"),
        (lambda x: lax.ppermute(x, "i", [(4, 1)]), ValueError, "each source.*from 0 to 3"),
        (
            lambda x: lax.psum(x, "i", axis_index_groups=[[0, 1], [2]]),
            ValueError,
            r"each place of the axis 'i', 0 to 3, once; got \[\[0, 1\], \[2\]\]",
        ),
        (
            lambda x: lax.all_gather(x, "i", axis_index_groups=[[0, 1, 2], [3]]),
            ValueError,
            r"all_gather: axis_index_groups must be of the same size, got sizes \[1, 3\]",
        ),
        (
            lambda x: lax.ragged_all_to_all(x, x[:, 0], *np.zeros((4, 4), int), "i"),
            ValueError,
            "operand and output have rows of the same shape",
        ),
        (
            lambda x: lax.ragged_all_to_all(x, x, *np.zeros((4, 5), int), "i"),
            ValueError,
            "5 slices must be divisible among the 4 places",
        ),
    ],
)
def test_mistakes(f, error, message):
    with pytest.raises(error, match=message):
        ft.vmap(f, axis_name="i")(X)


def test_groups_of_places():
    """Collectives among groups are those of the places of each group alone."""
    groups, x = [[0, 2], [3, 1]], X[:, :2]
    for f in (
        lambda v, g: lax.psum(v, "i", axis_index_groups=g),
        lambda v, g: lax.pmean(v, "i", axis_index_groups=g),
        lambda v, g: lax.pmax(v, "i", axis_index_groups=g),
        lambda v, g: lax.all_gather(v, "i", axis=1, tiled=True, axis_index_groups=g),
        lambda v, g: lax.psum_scatter(v, "i", axis_index_groups=g),
        lambda v, g: lax.all_to_all(v, "i", 0, 1, axis_index_groups=g),
        lambda v, g: lax.pswapaxes(v, "i", 0, axis_index_groups=g),
    ):
        for wanted in (False, True):  # and derivatives

            def run(v, places, g=None, f=f, wanted=wanted):
                run = lambda v: ft.vmap(lambda v: f(v, g), axis_name="i")(v)
                return ft.grad(lambda v: (run(v) ** 3).sum())(v) if wanted else run(v)

            got = np.asarray(run(x, None, groups))
            for group in groups:
                np.testing.assert_allclose(got[group], run(x[group], group), rtol=1e-12)
    uneven = ft.jit(
        ft.vmap(lambda v: lax.psum(v, "i", axis_index_groups=[[1], [0, 3, 2]]), axis_name="i")
    )(x)
    np.testing.assert_allclose(uneven[1], x[1])
    np.testing.assert_allclose(uneven[2], x[[0, 2, 3]].sum(0), rtol=1e-12)


def test_ragged_all_to_all():
    """Every slice comes to the place that it was sent to; the rest of the output stays."""
    chance, n, each = np.random.default_rng(0), 3, 2
    send = chance.integers(0, 4, (n, n * each))
    x, out = chance.normal(size=(n, 30, 2)), np.full((n, 30, 2), -1.0)
    starts = lambda sizes: np.cumsum(sizes, 1) - sizes
    swap = lambda v: v.reshape(n, n, each).swapaxes(0, 1).reshape(n, n * each)
    begin, to, want = starts(send), swap(starts(swap(send))), out.copy()
    for source in range(n):
        for k in range(n * each):
            rows = x[source, begin[source, k] :][: send[source, k]]
            want[k // each, to[source, k] :][: send[source, k]] = rows
    f = ft.vmap(lambda *args: lax.ragged_all_to_all(*args, "i"), axis_name="i")
    np.testing.assert_array_equal(ft.jit(f)(x, out, begin, send, to, swap(send)), want)


def test_tokens_and_broadcasts():
    np.testing.assert_array_equal(
        ft.vmap(lambda v: lax.pbroadcast({"a": v}, "i", 2), axis_name="i")(X)["a"],
        np.broadcast_to(X[2], X.shape),
    )
    token = ft.jit(lambda x: lax.after_all(lax.create_token(x), lax.create_token()))(X)
    assert token.shape == (0,)


def test_movement_over_several_axes():
    """Over two axes a collective does what it does over one of their product."""
    x = np.arange(6.0 * 6 * 2).reshape(6, 6, 2)
    perm = [(0, 4), (4, 1), (5, 0)]
    functions = (
        lambda v, name: lax.ppermute(v, name, perm),
        lambda v, name: lax.psum_scatter(v, name),
        lambda v, name: lax.psum_scatter(v, name, tiled=True),
        lambda v, name: lax.all_to_all(v, name, 0, 1),
        lambda v, name: lax.all_to_all(v, name, 0, 1, tiled=True),
        lambda v, name: lax.all_gather(v, name, axis=1, tiled=True),
    )
    for f in functions:
        one = ft.vmap(lambda v, f=f: f(v, "i"), axis_name="i")
        both = ft.vmap(ft.vmap(lambda v, f=f: f(v, ("a", "b")), axis_name="b"), axis_name="a")
        want = one(x)
        got = both(x.reshape(2, 3, 6, 2))
        np.testing.assert_array_equal(got.reshape(want.shape), want)
