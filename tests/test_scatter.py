"""Scatters of many elements in compiled programs, and what counts and sums by them."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.backends.fuse import fuse
from funtorch.transforms.simplify import simplify

rng = np.random.default_rng(6)
SHAPES = [((5,), 9000), ((5, 40), 9000), ((700, 300), 900), ((3, 5000), 80), ((2, 3, 4), 7)]


@pytest.mark.parametrize("name", ["add", "multiply", "min", "max", "set"])
@pytest.mark.parametrize(("shape", "count"), SHAPES)
def test_scatters_are_those_of_numpy(shape, count, name):
    x = rng.integers(1, 5, shape).astype(np.float64)
    u = rng.integers(1, 3, (count, *shape[1:])).astype(np.float64)
    where = rng.integers(0, shape[0], count)
    got = ft.jit(lambda x, u, i: getattr(x.at[i], name)(u))(x, u, where.astype(np.int32))
    want = x.copy()
    if name == "set":
        for k, v in zip(where, u, strict=True):
            want[k] = v
    else:
        ufunc = {"add": np.add, "multiply": np.multiply, "min": np.minimum, "max": np.maximum}[name]
        with np.errstate(over="ignore"):
            ufunc.at(want, where, u)
    np.testing.assert_array_equal(got, want)


def test_large_arrays_are_copied_whole():
    """Threads share the copy of what a scatter writes a part of."""
    x = rng.normal(size=(5003, 61)).astype(np.float32)
    where, u = np.int32([0, 5002, 7, 7]), np.ones((4, 61), np.float32)
    want = x.copy()
    np.add.at(want, where, u)
    for count in (1, 2, 3):
        with ft.threads(count):
            got = ft.jit(lambda x, i, u: x.at[i].add(u))(x, where, u)
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(ft.jit(lambda x: x.at[3].set(0.0))(x)[3], 0)


def test_results_do_not_depend_on_threads():
    x = np.zeros((50, 3000), np.float32)
    u, where = rng.normal(size=(400, 3000)).astype(np.float32), rng.integers(0, 50, 400)
    found = set()
    for count in (1, 2, 5):
        with ft.threads(count):
            got = ft.jit(lambda x, i, u: x.at[i].add(u))(x, where, u)
            found.add(np.asarray(got).tobytes())
    assert len(found) == 1


def test_counts_and_sums():
    i, x = rng.integers(0, 100, 20_000), rng.normal(size=20_000)
    np.testing.assert_array_equal(
        ft.jit(lambda i: fnp.bincount(i, length=120))(i), np.bincount(i, minlength=120)
    )
    for bins in (10, np.sort(rng.normal(size=30))):
        got, edges = ft.jit(lambda x, bins=bins: fnp.histogram(x, bins=bins))(x)
        want, exact = np.histogram(x, bins=bins)
        np.testing.assert_allclose(edges, exact)
        assert np.abs(np.asarray(got) - want).sum() <= 2  # values next to an edge
    got = ft.jit(lambda x, i: fnp.zeros(100).at[i].add(fnp.exp(x)))(x, i)
    np.testing.assert_allclose(got, np.bincount(i, np.exp(x), 100), rtol=1e-4)


def test_what_is_dear_is_made_before_it_is_scattered():
    def kinds(f, *args):
        steps = fuse(simplify(ft.make_jaxpr(f)(*args).jaxpr)).steps
        return len(steps)

    i, x = np.zeros(5000, np.int32), np.zeros(5000)
    zeros = np.zeros(10)
    assert kinds(lambda z, i, x: z.at[i].add(x * 2), zeros, i, x) == 1
    assert kinds(lambda z, i, x: z.at[i].add(fnp.exp(x)), zeros, i, x) == 2
    assert kinds(lambda z, i, x: z.at[i[i]].add(x), zeros, i, x) == 2
    assert kinds(lambda z, i, x: z.at[i].add(fnp.exp(x)), zeros, i[:50], x[:50]) == 1


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 9, 100])
def test_binary_search(n, side):
    a = np.sort(rng.integers(0, 20, n)).astype(np.float32)
    if n > 3:
        a[-2:] = np.nan
    v = np.float32([*range(-2, 22), np.nan, np.inf, -np.inf, 3.5])
    f = ft.jit(lambda a, v: fnp.searchsorted(a, v, side))
    np.testing.assert_array_equal(f(a, v), np.searchsorted(a, v, side))
    whole = np.arange(n, dtype=np.uint8)
    np.testing.assert_array_equal(f(whole, whole), np.searchsorted(whole, whole, side))


def test_segments_in_a_loop():
    u = rng.normal(size=(6, 3000)).astype(np.float32)
    where = rng.integers(0, 40, (6, 3000)).astype(np.int32)

    def step(c, xs):
        i, v = xs
        return c.at[i].add(v), None

    got = ft.jit(lambda i, u: lax.scan(step, fnp.zeros(40), (i, u))[0])(where, u)
    np.testing.assert_allclose(got, np.bincount(where.ravel(), u.ravel(), 40), rtol=2e-3, atol=1e-3)
