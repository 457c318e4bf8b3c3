"""Ordinary Python under `jit` and `vmap`: `if`, `while`, `and`, `assert`, f-strings, `print`."""

import itertools
import math
import re

import numpy as np
import pytest
from programs_python import DISCRETE, SMOOTH, mandelbrot

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import errors, lax
from funtorch.config import config
from funtorch.errors import TooManyPathsError
from funtorch.jaxpr import eval_jaxpr
from funtorch.transforms import batching, switchboard
from funtorch.transforms.paths import MOST_PATHS

LANES = np.array([1.0, -2.0, 3.0, -4.0], np.float32)


def same(got, expected, **tolerance):
    """Compare pytrees of arrays; a list is an array of numbers."""
    got, expected = (
        [np.array([np.asarray(v) for v in x])] if isinstance(x, list) else ft.tree.leaves(x)
        for x in (got, expected)
    )
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), **tolerance)


def stacked(rows):
    return ft.tree.map(lambda *xs: np.stack([np.asarray(x) for x in xs]), *rows)


def message(call, kind=Exception):
    with pytest.raises(kind) as caught:
        call()
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def flip(x):
    return x * 2 if x > 0 else -x


# ----------------------------------------------------------------------- programs and words
WORDS = {
    "jit": ft.jit,
    "vmap": ft.vmap,
    "grad": lambda g: ft.grad(lambda x: g(x).sum()),
    "jvp": lambda g: lambda x: ft.jvp(g, (x,), (fnp.ones_like(x),))[1],
    "remat": ft.remat,
}
THRICE = ("distance", "huber")  # programs that are tried with words of three


@pytest.mark.parametrize("name", SMOOTH)
def test_words(name):
    """A word gives what it means for each number: a derivative, or the value."""
    fun, points = SMOOTH[name].fun, np.array(SMOOTH[name].points)
    derivatives = [fun]
    for _ in range(3):
        derivatives.append(ft.grad(derivatives[-1]))
    expected = [np.array([float(d(x)) for x in points]) for d in derivatives]
    step = 1e-6
    slopes = [(float(fun(x + step)) - float(fun(x - step))) / (2 * step) for x in points]
    same(expected[1], slopes, rtol=1e-5, atol=1e-5)
    for length in (1, 2, 3) if name in THRICE else (1, 2):
        for word in itertools.product(WORDS, repeat=length):
            f = fun
            for transform in reversed(word):
                f = WORDS[transform](f)
            axes = word.count("vmap")
            if axes:
                got = np.asarray(f(points.reshape((*[1] * (axes - 1), -1)))).ravel()
            else:
                got = [float(f(x)) for x in points]
            order = word.count("grad") + word.count("jvp")
            same(got, expected[order], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_programs(name):
    fun, points = DISCRETE[name]
    expected, all_points = stacked([fun(x) for x in points]), np.stack(points)
    jitted = ft.jit(fun)
    for _ in range(2):
        same(stacked([jitted(x) for x in points]), expected)
    same(ft.vmap(fun)(all_points), expected)
    same(ft.jit(ft.vmap(fun))(all_points), expected)
    same(ft.vmap(jitted)(all_points), expected)
    same(ft.vmap(ft.vmap(fun))(all_points[None]), ft.tree.map(lambda x: x[None], expected))


def test_mandelbrot_on_a_grid():
    re_, im = np.meshgrid(np.linspace(-2, 0.6, 24), np.linspace(-1.2, 1.2, 24))
    grid = (re_ + 1j * im).astype(np.complex64)
    expected = np.array([[mandelbrot(c) for c in row] for row in grid])
    assert len(np.unique(expected)) > 10
    jitted = ft.jit(mandelbrot)
    assert [[int(jitted(c)) for c in row] for row in grid[:8]] == expected[:8].tolist()
    same(ft.vmap(mandelbrot)(grid.ravel()), expected.ravel())
    same(ft.vmap(ft.vmap(mandelbrot))(grid), expected)
    both = ft.jit(ft.vmap(ft.vmap(mandelbrot)))
    for _ in range(2):
        same(both(grid), expected)


# ------------------------------------------------------------------------------------- jit
def test_a_known_path_runs_no_python():
    runs = []

    @ft.jit
    def f(x):
        runs.append(1)
        if x.sum() > 0 and x[0] < -2:
            return x * 2
        return -x

    for scale in (1, -1, 1, -1, -3, 1):
        x = LANES * scale  # its sum is -2 * scale
        same(f(x), x * 2 if scale < 0 and x[0] < -2 else -x)
    assert len(runs) == 3
    reasons = [c.reason.split(" at ")[0] for c in f.stats().compiles]
    assert reasons[1:] == ["another path: True", "another path: True"]


def test_paths_may_return_different_things():
    @ft.jit
    def f(x):
        if x > 0:
            return {"positive": x}
        return (fnp.zeros(3), 7)

    assert list(f(2.0)) == ["positive"]
    zeros, seven = f(-2.0)
    assert zeros.shape == (3,)
    assert int(seven) == 7


def test_effects_are_those_of_the_path():
    seen = []

    @ft.jit
    def f(x):
        ft.debug.callback(lambda v: seen.append(("first", float(v))), x)
        if x > 0:
            ft.debug.callback(lambda v: seen.append(("positive", float(v))), x)
            return x
        ft.debug.callback(lambda v: seen.append(("other", float(v))), x)
        return -x

    for x in (1.0, -2.0, 3.0, -4.0):
        f(x)
    names = ["positive", "other"] * 2
    assert seen == [
        pair for k, x in enumerate((1.0, -2.0, 3.0, -4.0)) for pair in (("first", x), (names[k], x))
    ]


def test_a_decision_by_what_a_callback_returned():
    asked = []

    def answer(v):
        asked.append(float(v))
        return np.float32(v + 1)

    @ft.jit
    def f(x):
        y = ft.experimental.io_callback(answer, ft.ShapeDtypeStruct((), "float32"), x)
        return y * 2 if y > 0 else y

    assert [float(f(x)) for x in (1.0, -5.0, 2.0)] == [4.0, -4.0, 6.0]
    assert asked == [1.0, -5.0, 2.0]


def test_what_is_not_on_the_path_does_not_run():
    @ft.jit
    def f(x):
        if x > 0:  # otherwise the loop would not end
            return lax.while_loop(lambda v: v < 10, lambda v: v + x, x)
        return x

    assert [float(f(x)) for x in (3.0, -1.0, 4.0, -2.0)] == [12.0, -1.0, 12.0, -2.0]


def test_donated_arguments():
    f = ft.jit(lambda x: x + 1 if x[0] > 0 else x * 3, donate_argnums=0)
    for sign in (1.0, -1.0, 2.0, -2.0):
        x = fnp.full(5, sign)
        same(f(x), np.full(5, sign + 1 if sign > 0 else sign * 3))
        with pytest.raises(RuntimeError, match="donated"):
            x + 1


def test_static_arguments_keywords_and_constants():
    table = np.array([10.0, 20.0], np.float32)

    @ft.jit(static_argnames="n")
    def f(x, n, *, shift=0.0):
        for _ in range(n):
            x = x * 2 if x < table[0] else x - table[1]
        return x + shift

    for x, n in ((3.0, 3), (3.0, 5), (30.0, 3)):
        expected = x
        for _ in range(n):
            expected = expected * 2 if expected < 10.0 else expected - 20.0
        assert float(f(x, n)) == expected
        assert float(f(x, n, shift=1.0)) == expected + 1


def test_assert():
    @ft.jit
    def f(x):
        assert x > 0, "x must be positive"
        return fnp.sqrt(x)

    assert float(f(4.0)) == 2.0
    for _ in range(2):
        with pytest.raises(AssertionError, match="x must be positive"):
            f(-1.0)
    assert float(f(9.0)) == 3.0
    assert "lane 1" in message(lambda: ft.vmap(f)(LANES[:2]), AssertionError)
    compiled = ft.jit(ft.vmap(f))
    same(compiled(LANES[[0, 2]]), np.sqrt(LANES[[0, 2]]))
    with pytest.raises(AssertionError, match="x must be positive"):
        compiled(LANES[:2])


def test_calls_of_jitted_functions_become_part_of_what_calls_them():
    inner = ft.jit(flip)
    outer = ft.jit(lambda x: inner(x) + inner(-x))
    assert [float(outer(x)) for x in (1.0, -1.0)] == [3.0, 3.0]
    assert float(ft.grad(inner)(3.0)) == 2.0
    assert float(ft.grad(inner)(-3.0)) == -1.0
    assert [float(ft.jit(ft.value_and_grad(inner))(x)[1]) for x in (1.0, -1.0)] == [2.0, -1.0]
    same(ft.vmap(inner)(LANES), [2, 2, 6, 4])
    assert float(inner(5.0)) == 10.0


def test_derivatives_of_jitted_functions_follow_compiled_paths():
    runs, seen = [], []

    @ft.jit
    def f(x, flag):
        runs.append(1)
        y = fnp.sin(x) * x
        if y > 0.5:
            ft.debug.callback(lambda v: seen.append(float(v)), x)
            return y * y
        return -y if flag else y

    points, counts = (1.0, 0.1, 2.0), []
    for _ in range(3):
        for x in points:
            y, slope = math.sin(x) * x, math.cos(x) * x + math.sin(x)
            expected = 2 * y * slope if y > 0.5 else -slope
            same(ft.grad(f)(x, True), expected, rtol=1e-5)
            same(ft.jvp(lambda x: f(x, True), (x,), (1.0,))[1], expected, rtol=1e-5)
        counts.append(len(runs))
    assert counts[0] == counts[2]
    assert seen == [1.0, 1.0, 2.0, 2.0] * 3
    w = np.float32(2.0)  # a decision by what the function closes over
    assert float(ft.grad(lambda w: ft.jit(lambda x: x * w if x * w > 0 else x)(3.0))(w)) == 3.0


def test_an_inner_function_is_not_kept_for_what_an_outer_one_decided():
    """What it closes over may decide otherwise in the next call."""

    def outer(x):
        inner = ft.jit(lambda y: y * 2 if x > 0 else y * 3)
        return inner(1.0) + inner(1.0)

    assert [float(ft.jit(outer)(x)) for x in (1.0, -1.0)] == [4.0, 6.0]

    box = []

    def keeps(x):
        box.append(x)
        return shared(1.0)

    shared = ft.jit(lambda y: y * 2 if box[-1] > 0 else y * 3)
    jitted = ft.jit(keeps)
    assert [float(jitted(x)) for x in (1.0, -1.0, 1.0)] == [2.0, 3.0, 2.0]


def test_too_many_paths(monkeypatch):
    monkeypatch.setattr(switchboard, "MOST_PATHS", 6)

    @ft.jit
    def f(x, bits):
        for k in range(8):
            x = x + k if bits[k] > 0 else x  # this line
        return x

    line = f.__wrapped__.__code__.co_firstlineno + 3

    def call_all():
        for n in range(2**8):
            f(0.0, np.array([n >> k & 1 for k in range(8)], np.int32))

    text = message(call_all, TooManyPathsError)
    assert f"more than {MOST_PATHS} paths" in text
    assert len(f.stats().compiles) == 6
    assert re.search(rf"test_python_control_flow\.py:{line} ", text)
    for word in ("lax.cond", "where", "while_loop", "fori_loop"):
        assert word in text
    assert len(text.splitlines()) <= 15


def test_functions_must_be_pure():
    runs = []

    def f(x):
        runs.append(1)
        x = x + 1 if len(runs) == 1 else fnp.sin(x)
        return x if x > 0 else -x

    jitted = ft.jit(f)
    jitted(1.0)
    assert "must be pure" in message(lambda: jitted(-4.0), RuntimeError)
    runs.clear()
    text = message(lambda: ft.vmap(f)(LANES), RuntimeError)
    assert "must be pure" in text
    assert "lanes 1, 3" in text


def test_stats_show_the_paths():
    f = ft.jit(flip)
    f(1.0), f(-1.0)
    assert [c.reason.split(" at ")[0] for c in f.stats().compiles] == [
        "first call, with x: f32[] (weak)",
        "another path: False",
    ]
    assert "test_python_control_flow.py" in f.stats().compiles[1].reason
    for k, outcome in enumerate((True, False)):
        assert re.fullmatch(
            rf"{outcome} at .*test_python_control_flow\.py:\d+ \(flip\)", f.stats().paths[k]
        )
    assert "2 paths" in str(f.stats())
    assert "branch" in [step.kind for step in ft.explain(f)(1.0).steps]
    assert len(f.stats().paths) == 2

    @ft.jit
    def doubled(x):
        while x < 10:
            x = x * 2
        return x

    assert "more than" in message(lambda: ft.explain(doubled)(3.0), TooManyPathsError)
    doubled(3.0)
    assert [step.what for step in ft.explain(doubled)(3.0).steps] == ["mul"]
    assert ft.jit(lambda x: x).stats().paths == ()


# ------------------------------------------------------------------------ no values at hand
def test_all_paths_are_explored_where_there_are_no_values():
    jaxpr = ft.make_jaxpr(flip)(1.0)
    assert [eqn.prim.name for eqn in jaxpr.eqns] == ["gt", "convert", "cond"]
    assert ft.eval_shape(flip, ft.ShapeDtypeStruct((), "float64")).dtype == np.float64
    compiled = ft.jit(flip).lower(ft.ShapeDtypeStruct((), "float32")).compile()
    assert [float(compiled(np.float32(x))) for x in (1.0, -3.0)] == [2.0, 3.0]
    explained = ft.explain(flip)(1.0)
    assert "branch" in str(explained) or "cond" in str(explained)


def test_bodies_of_loops_and_branches():
    def step(carry, x):
        if x > 2 and carry < 5:
            carry = carry + x
        return carry, -carry if x == 4 else carry

    xs = np.arange(6.0, dtype=np.float32)
    carry, outs = 0.0, []
    for x in xs:
        carry, out = step(carry, x)
        outs.append(out)
    for scan in (lax.scan, ft.jit(lax.scan, static_argnums=0)):
        same(scan(step, 0.0, xs), (carry, np.array(outs)))
    count, _ = lax.while_loop(
        lambda s: s[0] < 10 and s[1] > 0, lambda s: (s[0] + 1, s[1] - 0.3), (0, 2.0)
    )
    assert int(count) == 7

    def choose(x):
        return lax.cond(
            x > 1, lambda x: x if x > 2 else x * 10, lambda x: -x if x < 0 else x * 100, x
        )

    points = np.array([3.0, 1.5, -1.0, 0.5], np.float32)
    expected = [3.0, 15.0, 1.0, 50.0]
    same([choose(x) for x in points], expected)
    same(ft.vmap(choose)(points), expected)
    same(ft.jit(ft.vmap(ft.grad(choose)))(points), [1.0, 10.0, -1.0, 100.0])


def test_explored_paths_must_agree():
    text = message(lambda: ft.make_jaxpr(lambda x: (x, x) if x > 0 else x)(1.0), TypeError)
    assert "(*, *)" in text
    assert "PyTreeDef(*)" in text
    assert "True at" in text
    text = message(lambda: ft.make_jaxpr(lambda x: fnp.ones(3) if x > 0 else x)(1.0), TypeError)
    assert "f32[3]" in text
    assert "f32[]" in text
    mixed = ft.make_jaxpr(lambda x: 1 if x > 0 else x)(np.float64(1.0))
    assert [str(a) for a in mixed.out_avals] == ["f64[]"]


def test_what_raises_on_an_explored_path_raises_when_it_is_taken():
    def f(x):
        assert x > 0, "not positive"
        if x > 100:
            raise ValueError("too large")
        return fnp.sqrt(x)

    def total(xs):
        return lax.scan(lambda c, x: (c + f(x), None), 0.0, xs)[0]

    good = np.array([4.0, 9.0], np.float32)
    for g in (total, ft.jit(total)):
        assert float(g(good)) == 5.0
        with pytest.raises(AssertionError, match="not positive"):
            g(-good)
        with pytest.raises(ValueError, match="too large"):
            g(good * 100)
    same(ft.jit(ft.grad(total))(good), 0.5 / np.sqrt(good))
    with pytest.raises(ValueError, match="broadcast"):  # a mistake, found at once
        ft.make_jaxpr(lambda x: fnp.ones(3) + fnp.ones(4) if x > 0 else x)(1.0)
    with pytest.raises(KeyError):
        ft.make_jaxpr(lambda x: {}[1] if x > 0 else {}[2])(1.0)


def test_many_explored_paths():
    def f(x):
        for k in range(120):
            if x < k:
                return x * k
        return x

    jaxpr = ft.make_jaxpr(f)(1.0)
    same([eval_jaxpr(jaxpr, fnp.asarray(x))[0] for x in (0.5, 7.25, 200.0)], [0.5, 58.0, 200.0])


def test_loops_of_no_known_length_are_an_error():
    def f(x):
        while x < 10:
            x = x * 2
        return x

    text = message(lambda: ft.make_jaxpr(f)(1.0), TooManyPathsError)
    assert "while_loop" in text
    assert "test_python_control_flow.py" in text
    assert float(ft.jit(f)(1.0)) == 16.0


# ------------------------------------------------------------------------------------ vmap
def test_only_branches_of_some_lane_run():
    ran = []

    def f(x):
        if x > 0:
            ran.append("positive")
            return x
        ran.append("other")
        return -x

    ft.vmap(f)(abs(LANES))
    assert ran == ["positive"]
    ran.clear()
    same(ft.vmap(f)(LANES), abs(LANES))
    assert sorted(ran) == ["other", "positive"]


def test_what_came_before_lanes_part_is_done_once():
    seen = []

    def f(x):
        ft.debug.callback(lambda v: seen.append(float(v)), x)
        return x if x > 0 else -x

    same(ft.vmap(f)(LANES), abs(LANES))
    assert sorted(seen) == sorted(LANES.tolist())


def test_axes_trees_and_types_of_results():
    def f(row, scale, *, shift):
        if row["x"].sum() > 0:
            return {"row": row["x"] * scale, "n": 1, "s": shift}
        return {"row": -row["x"], "n": 2.5, "s": shift * 2}

    xs = np.arange(12.0, dtype=np.float32).reshape(3, 4) - 4
    shifts = np.arange(4)
    got = ft.vmap(f, in_axes=({"x": 1}, None), out_axes={"row": 1, "n": 0, "s": 0})(
        {"x": xs}, 3.0, shift=shifts
    )
    rows = [f({"x": xs[:, k]}, np.float32(3.0), shift=shifts[k]) for k in range(4)]
    assert len({row["n"] for row in rows}) == 2
    same(got["row"], np.stack([row["row"] for row in rows], 1))
    same(got["n"], [row["n"] for row in rows])
    same(got["s"], [row["s"] for row in rows])
    assert got["n"].dtype == np.float32
    assert got["s"].dtype == shifts.dtype
    text = message(lambda: ft.vmap(lambda x: 1 if x > 0 else 2, out_axes=None)(LANES), ValueError)
    assert "out_axes is None" in text


def test_lanes_must_return_alike():
    text = message(lambda: ft.vmap(lambda x: (x, x) if x > 0 else x)(LANES), TypeError)
    assert "(*, *)" in text
    assert "PyTreeDef(*)" in text
    assert "lanes 1, 3" in text
    text = message(lambda: ft.vmap(lambda x: fnp.ones(3) if x > 0 else x)(LANES), TypeError)
    assert "f32[3] in lanes 0, 2" in text
    assert "f32[] in lanes 1, 3" in text


def test_no_lanes():
    none = np.zeros(0, np.float32)
    assert ft.vmap(flip)(none).shape == (0,)
    assert ft.jit(ft.vmap(flip))(none).dtype == np.float32


def test_collectives():
    def before(x):
        total = lax.psum(x, "i")
        return total if x > 0 else -total

    expected = np.where(LANES > 0, LANES.sum(), -LANES.sum())
    same(ft.vmap(before, axis_name="i")(LANES), expected)
    same(ft.jit(ft.vmap(before, axis_name="i"))(LANES), expected)

    def places(x):
        return lax.axis_index("i") + lax.psum(1, "i") if x > 0 else -lax.axis_index("i")

    same(ft.vmap(places, axis_name="i")(LANES), [4, -1, 6, -3])
    same(ft.jit(ft.vmap(places, axis_name="i"))(LANES), [4, -1, 6, -3])

    def after(x):
        return lax.psum(x, "i") if x > 0 else x

    for mapped in (ft.vmap(after, axis_name="i"), ft.jit(ft.vmap(after, axis_name="i"))):
        text = message(lambda m=mapped: m(LANES), NotImplementedError)
        assert "psum" in text
        assert "needs all lanes" in text
        assert "before the lanes decide" in text


def test_sown_values():
    def before(x):
        y = ft.sow(x * 2, name="a", tag="t")
        return y if x > 0 else -y

    out, sown = ft.reap(ft.vmap(before), tag="t")(LANES)
    same((out, sown["a"]), (abs(LANES) * 2, LANES * 2))

    def after(x):
        return ft.sow(x * 2 if x > 0 else x, name="a", tag="t")

    out, sown = ft.vmap(ft.reap(after, tag="t"))(LANES)
    same(sown["a"], np.where(LANES > 0, LANES * 2, LANES))
    same(ft.vmap(after)(LANES), np.where(LANES > 0, LANES * 2, LANES))
    text = message(lambda: ft.reap(ft.vmap(after), tag="t")(LANES), NotImplementedError)
    assert "sown" in text
    assert "reap inside of vmap" in text


def test_random_keys():
    def f(key):
        u = ft.random.uniform(key)
        return ft.random.normal(ft.random.split(key)[0]) if u > 0.5 else -u

    keys = ft.random.split(ft.random.key(0), 6)
    expected = [float(f(k)) for k in keys]
    assert min(expected) < 0 < max(expected)
    same(ft.vmap(f)(keys), expected, rtol=1e-6)
    same(ft.jit(ft.vmap(f))(keys), expected, rtol=1e-6)


def test_untaken_branches_do_not_poison_gradients():
    def f(x):
        return fnp.sqrt(x) + fnp.log(x) if x > 0 else 0.0 * x

    x = np.array([4.0, 0.0, -1.0], np.float32)

    def total(x):
        return ft.vmap(f)(x).sum()

    for g in (ft.grad(total), ft.jit(ft.grad(total)), ft.jit(ft.vmap(ft.grad(f)))):
        same(g(x), [0.5, 0.0, 0.0])


def test_functions_with_custom_rules():
    @ft.custom_jvp
    def f(x):
        return x * x if x > 0 else -x

    @f.defjvp
    def f_jvp(primals, tangents):
        (x,), (t,) = primals, tangents
        return f(x), (10 * t if x > 0 else 20 * t)

    @ft.custom_vjp
    def g(x):
        return x * x if x > 0 else -x

    g.defvjp(lambda x: (g(x), x), lambda x, ct: ((10 * ct if x > 0 else 20 * ct),))
    slopes = np.where(LANES > 0, 10.0, 20.0)
    for h in (f, g):
        same([ft.jit(h)(x) for x in LANES], np.where(LANES > 0, LANES**2, -LANES))
        same(ft.jit(ft.vmap(h))(LANES), np.where(LANES > 0, LANES**2, -LANES))
        same([ft.jit(ft.grad(h))(x) for x in LANES], slopes)
        for wrap in (lambda f: f, ft.jit):
            same(wrap(ft.vmap(ft.grad(h)))(LANES), slopes)
            same(wrap(ft.grad(lambda x, h=h: ft.vmap(h)(x).sum()))(LANES), slopes)


def test_groups_of_lanes_have_a_limit_under_jit(monkeypatch):
    monkeypatch.setattr(batching, "MOST_PATHS", 8)

    def f(x):
        for k in range(5):
            x = x + 1 if fnp.sin(x * 2.0**k) > 0 else x
        return x

    x = np.linspace(0, 50, 1000).astype(np.float32)
    same(ft.vmap(f)(x), [f(v) for v in x], rtol=1e-6)
    text = message(lambda: ft.jit(ft.vmap(f))(x), TooManyPathsError)
    assert "ways" in text
    assert "while_loop" in text
    assert "outside of jit" in text


def test_a_compiled_map_learns_of_new_lanes():
    """A branch that no lane took in the first call is added when one does."""
    ran = []

    @ft.jit
    @ft.vmap
    def f(x):
        if x > 0:
            return x * 2
        ran.append(1)
        return -x

    same(f(abs(LANES)), abs(LANES) * 2)
    assert ran == []
    for _ in range(2):
        same(f(LANES), np.where(LANES > 0, LANES * 2, -LANES))
        same(f(-abs(LANES)), abs(LANES))
    assert ran == [1]


# ---------------------------------------------------------------------- strings and errors
def test_tracers_can_be_printed(capsys):
    def f(x):
        print(x)
        texts.append((f"{x}", f"{x:.2f}", str(x), repr(x)))
        return (x * x).sum()

    texts = []
    ft.jit(f)(1.5), ft.jit(f)(LANES), ft.grad(f)(1.5), ft.vmap(f)(LANES[:2]), ft.make_jaxpr(f)(1)
    ft.vmap(ft.grad(f))(LANES[:2]), ft.jit(ft.vmap(f))(LANES)
    assert [t[:3] for t in texts] == [
        ("float32[]",) * 3,
        ("float32[4]",) * 3,
        ("1.5", "1.50", "1.5"),
        ("[ 1. -2.]", "[1.00, -2.00]", "[ 1. -2.]"),
        ("int32[]",) * 3,
        ("[ 1. -2.]", "[1.00, -2.00]", "[ 1. -2.]"),
        ("float32[]",) * 3,
    ]
    assert capsys.readouterr().out.splitlines() == [t[0] for t in texts]
    assert [t[3] for t in texts[:4]] == [
        f"Traced<f32[]>with<Stage({errors.function_name(f)})>",
        f"Traced<f32[4]>with<Stage({errors.function_name(f)})>",
        f"Traced<f32[]>with<JVP({errors.function_name(f)})> = 1.5",
        f"Traced<f32[]>with<Batch({errors.function_name(f)})> = [ 1. -2.] in 2 lanes",
    ]


@pytest.mark.parametrize("transform", [ft.jit, ft.vmap, ft.make_jaxpr])
def test_truth_of_more_than_one_element(transform):
    x = LANES[None] if transform is ft.vmap else LANES
    text = message(lambda: transform(lambda x: 1 if x > 0 else 2)(x), ValueError)
    assert "4 elements (bool[4]) is ambiguous" in text
    assert ".any()" in text


@pytest.mark.parametrize("transform", [ft.jit, ft.vmap])
def test_a_tracer_that_escaped_has_no_truth(transform):
    kept = []
    transform(lambda x: kept.append(x > 0) or x)(LANES)
    with pytest.raises(errors.UnexpectedTracerError, match="after the transform that made it"):
        bool(kept[0])


def test_numpy_arrays_and_python_numbers_stay_errors():
    text = message(lambda: ft.jit(lambda x: 1 if np.asarray(x) > 0 else 2)(1.0))
    assert "NumPy array" in text
    assert float(ft.jit(lambda x: 1 if np.any(x > 0) else 2)(LANES)) == 1
    for convert, kind in ((float, errors.ConcretizationTypeError), (range, TypeError)):
        with pytest.raises(kind):
            ft.jit(lambda x, c=convert: c(x))(1)
    with pytest.raises(errors.TracerIntegerConversionError):
        ft.jit(lambda k: [1, 2, 3][k])(1)


def test_strict():
    with config.override(python_control_flow=False):
        for f, x in (
            (ft.jit(flip), 1.0),
            (ft.make_jaxpr(flip), 1.0),
            (ft.vmap(flip), LANES),
            (ft.jit(ft.vmap(flip)), LANES),
        ):
            with pytest.raises(errors.TracerBoolConversionError, match=r"lax\.cond"):
                f(x)
        assert float(ft.grad(flip)(1.0)) == 2.0
    config.update("python_control_flow", False)
    try:
        with pytest.raises(errors.TracerBoolConversionError):
            ft.jit(flip)(1.0)
    finally:
        config.update("python_control_flow", True)
    assert math.isclose(float(ft.jit(flip)(-1.0)), 1.0)
