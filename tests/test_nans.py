"""`debug_nans`: the operation that makes a nan is named, with the user's line, compiled or not."""

import re
import threading
import traceback

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

X = np.array([1.0, -1.0, 2.0])


def line_of(f):
    return f.__code__.co_firstlineno


def bad(x):
    y = x * 2
    z = fnp.log(y)  # the line
    return (z + 1).sum()


def loop(x):
    def body(c, _):
        d = c - 1
        return d, fnp.sqrt(d)  # the line

    return lax.scan(body, x, None, 5)[1].sum()


def branch(x):
    return lax.cond(
        x.sum() > 0,
        lambda y: fnp.log(y - 5),  # the line
        lambda y: y,
        x,
    )


def until(x):
    return lax.while_loop(
        lambda c: (c < 9).all(),
        lambda c: c + 1 + 0 * fnp.sqrt(c),  # the line
        x,
    )


def f_name(source):
    return source.function.split(".")[-1]


CASES = {
    "plain": (bad, "log"),
    "scan": (loop, "sqrt"),
    "cond": (branch, "log"),
    "while": (until, "sqrt"),
}
WORDS = {
    "eager": lambda f: f,
    "jit": ft.jit,
    "vmap": lambda f: lambda x: ft.vmap(f)(x[None]),
    "jit vmap": lambda f: lambda x: ft.jit(ft.vmap(f))(x[None]),
    "vjp": lambda f: lambda x: ft.vjp(f, x),
    "jit of jit": lambda f: ft.jit(lambda x: ft.jit(f)(x) * 2),
}


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("case", CASES)
def test_the_operation_and_its_line_are_named(case, word):
    f, name = CASES[case]
    g = WORDS[word](f)
    g(X)  # says nothing
    with (
        ft.debug_nans(),
        pytest.raises(FloatingPointError, match=f"{name} of .* gave nan") as error,
    ):
        g(X)
    source = error.value.source
    assert source.file == __file__
    frame = traceback.extract_tb(error.value.__traceback__)[-1]  # the error rises there
    assert (frame.filename, frame.lineno, frame.name) == (__file__, source.line, f_name(source))
    assert re.search(name + r"\(-\d", str(error.value))  # with the value that it is of
    with open(__file__) as lines:
        assert "the line" in lines.readlines()[source.line - 1]
    g(X)


BACKWARDS = {"plain": lambda f: f, "jit": ft.jit, "inner jit": lambda f: f}


@pytest.mark.parametrize("word", BACKWARDS)
def test_backwards_the_line_is_that_of_the_operation(word):
    def norm(x):
        total = (x * x).sum()  # the line
        return fnp.sqrt(total)

    f = ft.jit(norm) if word == "inner jit" else norm
    g = BACKWARDS[word](ft.grad(lambda x: f(x) * 2))
    with ft.config.override(strict_gradients=True):
        assert np.isnan(np.asarray(g(np.zeros(3)))).any()
        with ft.debug_nans(), pytest.raises(FloatingPointError) as error:
            g(np.zeros(3))
    with open(__file__) as lines:
        assert "the line" in lines.readlines()[error.value.source.line - 1]


def test_what_has_no_nan_runs_as_before():
    with ft.debug_nans():
        np.testing.assert_allclose(ft.jit(ft.grad(lambda x: (x * x).sum()))(X), 2 * X)
        assert float(ft.jit(lambda x: fnp.where(x > 0, x, 0).sum())(X)) == 3.0
        assert ft.vmap(fnp.exp)(X).shape == (3,)
        assert int(fnp.arange(3).sum()) == 3
    with ft.debug_nans(True), ft.debug_nans(False):
        assert np.isnan(fnp.log(-1.0))


def test_arguments_that_held_nan_are_named():
    with (
        ft.debug_nans(),
        pytest.raises(ft.errors.NanError, match="its argument 1 held nan already"),
    ):
        fnp.asarray(X) + fnp.asarray(X * np.nan)


def test_infinities_are_looked_for_when_asked():
    inverse = lambda x: 1 / x
    assert np.isinf(ft.jit(inverse)(0.0))
    with ft.debug_infs():
        assert np.isnan(fnp.sqrt(-1.0))
        assert float(ft.jit(inverse)(2.0)) == 0.5
        for f in (inverse, ft.jit(inverse), ft.grad(inverse)):
            with pytest.raises(ft.errors.NanError, match=r"div of .* gave inf: div\(1.0, 0.0\)"):
                f(fnp.float32(0))
    with ft.debug_nans(), ft.debug_infs(), pytest.raises(ft.errors.NanError, match="gave nan"):
        fnp.sqrt(-1.0)


def test_the_global_setting_reaches_new_threads():
    found = []

    def work():
        try:
            ft.jit(bad)(X)
        except FloatingPointError as error:
            found.append(str(error))

    ft.config.update("jax_debug_nans", True)
    try:
        work()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        ft.config.update("jax_debug_nans", False)
    assert len(found) == 2
    assert "log" in found[1]
    work()
    assert len(found) == 2
