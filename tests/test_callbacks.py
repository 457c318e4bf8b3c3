"""Calls of Python from programs: how often, in which order, with what, and what they raise."""

import functools
import logging

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.experimental import io_callback

X = np.array([0.5, -1.0, 2.0])


def trace(seen, x):
    ft.debug.callback(lambda v: seen.append(np.asarray(v).tolist()), x)


# ------------------------------------------------------------------------------------ how often
def words():
    """Give programs of one traced value each: name, function of (f, x), and the calls expected."""
    one, three = [[0.5]], [[0.5], [1.5], [2.5]]
    steps = fnp.asarray([1.0, 1.0, 1.0])
    return [
        ("plain", lambda f, x: f(x), one),
        ("jit", lambda f, x: ft.jit(f)(x), one),
        ("grad", lambda f, x: ft.grad(f)(x), one),
        ("jvp", lambda f, x: ft.jvp(f, (x,), (x,)), one),
        ("linearize", lambda f, x: ft.linearize(f, x)[1](x), one),
        ("jit grad", lambda f, x: ft.jit(ft.grad(f))(x), one),
        ("grad jit", lambda f, x: ft.grad(ft.jit(f))(x), one),
        ("remat", lambda f, x: ft.checkpoint(f)(x), one),
        ("grad remat", lambda f, x: ft.grad(ft.checkpoint(f))(x), one * 2),
        ("vmap", lambda f, x: ft.vmap(f)(x + fnp.arange(3.0)), three),
        ("jit vmap", lambda f, x: ft.jit(ft.vmap(f))(x + fnp.arange(3.0)), three),
        ("vmap grad", lambda f, x: ft.vmap(ft.grad(f))(x + fnp.arange(3.0)), three),
        ("vmap jit", lambda f, x: ft.vmap(ft.jit(f))(x + fnp.arange(3.0)), three),
        ("map", lambda f, x: lax.map(f, x + fnp.arange(3.0)), three),
        ("jit map", lambda f, x: ft.jit(lambda y: lax.map(f, y))(x + fnp.arange(3.0)), three),
        ("scan", lambda f, x: lax.scan(lambda c, d: (c + d, f(c)), x, steps), three),
        (
            "jit grad scan",
            lambda f, x: ft.jit(
                ft.grad(lambda x: lax.scan(lambda c, d: (c + d, f(c)), x, steps)[0])
            )(x),
            three,
        ),
        ("cond", lambda f, x: lax.cond(x > 0, f, lambda y: y, x), one),
        ("cond not", lambda f, x: lax.cond(x < 0, f, lambda y: y, x), []),
        ("jit cond not", lambda f, x: ft.jit(lambda y: lax.cond(y < 0, f, lambda z: z, y))(x), []),
        (
            "jit while",
            lambda f, x: ft.jit(
                lambda y: lax.while_loop(lambda c: c < 3, lambda c: 0 * f(c) + c + 1, y)
            )(x),
            three,
        ),
    ]


@pytest.mark.parametrize(("word", "expected"), [(n, e) for n, _, e in words()])
def test_debug_callback_runs_as_often_as_the_program_says(word, expected):
    transform = {n: f for n, f, _ in words()}[word]
    seen = []

    def f(x):
        trace(seen, x)
        return x * x

    transform(f, fnp.float64(0.5))
    assert seen == [e[0] for e in expected]


def test_effects_keep_program_order():
    seen = []

    @ft.jit
    def f(x):
        trace(seen, x)
        io_callback(lambda v: seen.append("io"), None, x, ordered=True)
        for _ in range(2):
            ft.debug.callback(lambda v: seen.append("same"), x)
        y = lax.fori_loop(0, 2, lambda i, c: (trace(seen, c), c + 1)[1], x)
        trace(seen, y * 0)

    f(fnp.float64(3.0))
    assert seen == [3.0, "io", "same", "same", 3.0, 4.0, 0.0]


def test_calls_without_arguments_and_unused_results_stay():
    seen = []

    def count():
        seen.append(1)
        return np.int32(len(seen))

    @ft.jit
    def f():
        io_callback(count, np.int32(0))
        ft.debug.callback(lambda: seen.append(2))
        return io_callback(count, np.int32(0))

    assert int(f()) == 3
    assert seen == [1, 2, 1]


def test_callbacks_in_threads_of_a_parallel_map():
    seen = []
    ft.jit(lambda x: lax.map(lambda v: (trace(seen, v[0]), v * 2)[1], x))(fnp.ones((64, 4096)))
    assert seen == [1.0] * 64


def test_callback_may_use_the_library():
    inner = ft.jit(lambda v: v * 2)

    def call(v):
        return ft.grad(lambda u: inner(u).sum())(v)

    out = ft.jit(lambda x: ft.pure_callback(call, x, x) + 1)(fnp.asarray(X))
    np.testing.assert_array_equal(out, 3 * np.ones(3))


def test_callback_keeps_what_it_was_given():
    kept = []

    @ft.jit
    def f(x):
        for k in range(4):
            x = fnp.sin(x) * k
            ft.debug.callback(kept.append, x)
        return x

    f(fnp.asarray(X))
    want = X
    for k, got in enumerate(kept):
        want = np.sin(want) * k
        np.testing.assert_allclose(got, want, rtol=1e-14)


# ------------------------------------------------------------------------------------ no number
def loss(x, w, show=lambda *a: None):
    h = fnp.tanh(x @ w)
    show(h)
    s = fnp.exp(h) / fnp.exp(h).sum(-1, keepdims=True)
    show(s)
    c, ys = lax.scan(lambda c, r: (c * 0.9 + r * r, c), s[0] * 3 + h[1], s)
    show(c, ys)
    return (c * ys + h).mean() + (s * s).sum()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transform", [lambda f: f, lambda f: ft.value_and_grad(f, argnums=(0, 1))])
def test_a_print_changes_no_number(transform, dtype, capsys):
    key = ft.random.key(0)
    x, w = (ft.random.normal(key, s, dtype) for s in ((33, 17), (17, 21)))

    def shown(*args):
        ft.debug.print("{}", args)

    plain = ft.jit(transform(loss))(x, w)
    printed = ft.jit(transform(functools.partial(loss, show=shown)))(x, w)
    assert capsys.readouterr().out
    for a, b in zip(ft.tree.leaves(plain), ft.tree.leaves(printed), strict=True):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------------ print
def test_print_formats(capsys):
    @ft.jit
    def f(x):
        ft.debug.print("x={x:.1f} {{}} {} {name}", x, x=x, name="text")
        ft.debug.print("plain", x, skip_format_check=True)
        ft.debug.print("{}", {"a": x, "b": (x, 2)})
        ft.debug.print(ordered=True)("ordered {x}", x=x)

    f(0.5)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "x=0.5 {} 0.5 text"
    assert out[1] == "plain 0.5"
    assert out[2].startswith("{'a': Array(0.5")
    assert out[3] == "ordered 0.5"


def test_print_under_vmap_shows_every_lane(capsys):
    ft.vmap(lambda x, y: ft.debug.print("{} {}", x, y), in_axes=(0, None))(fnp.arange(3), 7)
    assert capsys.readouterr().out == "0 7\n1 7\n2 7\n"


def test_print_checks_its_format():
    with pytest.raises(ValueError, match=r"no place for argument 0, y=.*f-string"):
        ft.debug.print("x", 1, y=2)
    with pytest.raises(KeyError, match="x"):
        ft.debug.print("{x}", y=2)
    with pytest.raises(TypeError, match="format string first, got int"):
        ft.debug.print(3)
    ft.debug.print("x", 1, skip_format_check=True)


def test_log(caplog):
    with caplog.at_level(logging.INFO, logger="funtorch"):
        ft.jit(lambda x: ft.debug.log("x is {}", x))(3)
    assert caplog.messages == ["x is 3"]


def test_breakpoint_has_local_names(monkeypatch, capsys):
    typed = iter(["print('seen', float(y) + float(extra))"])

    def read(prompt=""):
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)

    @ft.jit
    def f(x):
        y = x * 2
        ft.debug.breakpoint(extra=x)
        return y

    assert float(f(1.5)) == 3.0
    assert "seen 4.5" in capsys.readouterr().out


# ------------------------------------------------------------------------------------ vmap methods
@pytest.mark.parametrize(
    ("method", "shapes"),
    [
        ("sequential", [((2,), (3,))] * 4),
        ("sequential_unrolled", [((2,), (3,))] * 4),
        ("expand_dims", [((4, 2), (1, 3))]),
        ("broadcast_all", [((4, 2), (4, 3))]),
        ("legacy_vectorized", [((4, 2), (3,))]),
    ],
)
@pytest.mark.parametrize("transform", [lambda f: f, ft.jit])
def test_vmap_methods(transform, method, shapes):
    seen = []

    def call(x, y):
        seen.append((x.shape, y.shape))
        return np.asarray(x) * np.asarray(y).sum(-1, keepdims=True)

    x, y = fnp.arange(8.0).reshape(4, 2), fnp.arange(3.0)

    def f(x, y):
        return ft.pure_callback(call, ft.ShapeDtypeStruct((2,), x.dtype), x, y, vmap_method=method)

    got = transform(ft.vmap(f, in_axes=(0, None)))(x, y)
    np.testing.assert_array_equal(got, np.asarray(x) * 3)
    assert seen == shapes


def test_results_are_trees():
    def call(a, *, b):
        return {"sum": np.asarray(a + b), "parts": (a, np.float64(2.0))}

    out = {"sum": X, "parts": (X, np.float32(0))}
    got = ft.jit(lambda x: ft.pure_callback(call, out, x, b=x))(X)
    np.testing.assert_array_equal(got["sum"], 2 * X)
    assert got["parts"][1].dtype == np.float32
    empty = ft.jit(lambda x: ft.pure_callback(lambda v: v, x, x))(np.zeros((0, 3), np.int8))
    assert empty.shape == (0, 3)
    assert empty.dtype == np.int8


# ------------------------------------------------------------------------------------ errors
def boom(*args):
    raise KeyError("my own")


LOOPS = {
    "alone": lambda x: ft.pure_callback(boom, x, x),
    "io": lambda x: io_callback(boom, x, x),
    "debug": lambda x: ft.debug.callback(boom, x),
    "scan": lambda x: lax.scan(lambda c, _: (ft.pure_callback(boom, c, c), None), x, None, 9)[0],
    "long scan": lambda x: lax.scan(
        lambda c, _: (ft.pure_callback(boom, c, c), None), x, None, 9999
    )[0],
    "map": lambda x: lax.map(lambda v: ft.pure_callback(boom, v, v), x),
    "while": lambda x: lax.while_loop(
        lambda c: (c < 9).all(), lambda c: ft.pure_callback(boom, c, c), x
    ),
    "cond": lambda x: lax.cond(x[0] > 0, lambda y: ft.pure_callback(boom, y, y), lambda y: y, x),
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("transform", [lambda f: f, ft.jit])
def test_an_error_is_the_users_own_and_leaves_the_library_usable(transform, loop):
    f = transform(LOOPS[loop])
    for _ in range(2):
        with pytest.raises(KeyError, match="my own"):
            f(fnp.asarray(X))
    again = ft.jit(lambda x: ft.grad(lambda y: (y * y).sum())(x))(fnp.asarray(X))
    np.testing.assert_array_equal(again, 2 * X)


def test_wrong_results_are_named():
    for wrong, message in [
        (lambda x: np.zeros(2), r"returned f64\[2\] as leaf 0, result_shape_dtypes says f64\[3\]"),
        (lambda x: np.zeros(3, np.int32), r"returned i32\[3\] as leaf 0.*says f64\[3\]"),
        (lambda x: (x, x), "returned 2 arrays, result_shape_dtypes has 1"),
    ]:
        for transform in (lambda f: f, ft.jit):
            with pytest.raises(TypeError, match=message):
                transform(lambda x, w=wrong: ft.pure_callback(w, x, x))(fnp.asarray(X))


def test_what_callbacks_refuse():
    x = fnp.asarray(X)
    with pytest.raises(ValueError, match=r"pure_callback does not support differentiation.*custom"):
        ft.grad(lambda x: ft.pure_callback(np.sin, x, x).sum())(x)
    with pytest.raises(ValueError, match="io_callback does not support differentiation"):
        ft.jvp(lambda x: io_callback(np.sin, x, x), (x,), (x,))
    with pytest.raises(NotImplementedError, match="vmap_method='sequential'"):
        ft.vmap(lambda x: ft.pure_callback(np.sin, x, x))(x)
    with pytest.raises(ValueError, match="vmap_method must be one of"):
        ft.pure_callback(np.sin, x, x, vmap_method="all")
    with pytest.raises(ValueError, match="Cannot `vmap` ordered IO callback"):
        ft.vmap(lambda x: io_callback(np.sin, x, x, ordered=True))(x)
    with pytest.raises(NotImplementedError, match=r"vmap of cond.*io_callback"):
        ft.vmap(lambda x: lax.cond(x > 0, lambda y: io_callback(np.sin, y, y), lambda y: y, x))(x)
    with pytest.raises(NotImplementedError, match=r"vmap of while_loop.*io_callback"):
        ft.vmap(lambda x: lax.while_loop(lambda c: c < 3, lambda c: io_callback(np.exp, c, c), x))(
            x
        )
    with pytest.raises(NotImplementedError, match=r"checkpoint.*run twice"):
        ft.grad(ft.checkpoint(lambda x: (io_callback(np.sin, 0 * x, 0), x.sum())[1]))(x)
    with pytest.raises(TypeError, match="pure_callback takes a function first, got int"):
        ft.pure_callback(3, x, x)


def test_custom_rules_give_callbacks_derivatives():
    @ft.custom_jvp
    def sin(x):
        return ft.pure_callback(np.sin, x, x, vmap_method="expand_dims")

    sin.defjvp(lambda primals, tangents: (sin(*primals), fnp.cos(primals[0]) * tangents[0]))
    got = ft.jit(ft.vmap(ft.grad(sin)))(fnp.asarray(X))
    np.testing.assert_allclose(got, np.cos(X))


def test_effects_of_programs():
    jaxpr = ft.make_jaxpr(lambda x: lax.map(lambda v: ft.debug.print("{}", v), x))(X)
    assert jaxpr.effects == {"debug"}
    assert jaxpr.eqns[0].effects == {"debug"}
    assert ft.make_jaxpr(fnp.sin)(X).effects == frozenset()
    assert "    debug_callback[" in str(ft.make_jaxpr(lambda x: ft.debug.print("{}", x))(X))
    ft.effects_barrier()
