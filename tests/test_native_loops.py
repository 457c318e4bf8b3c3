"""Loops and branches as native code: against the same loops in Python; layouts and donation."""

import tracemalloc

import numpy as np
import pytest
from eager import eagerly

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.backends import compile_jaxpr
from funtorch.backends import layout as layout_module
from funtorch.backends.fuse import fuse
from funtorch.backends.layout import Place, check_layout, lay_out
from funtorch.backends.plan import Branch, Call, Scan, While
from funtorch.core import Primitive, ShapedArray, primitives
from funtorch.jaxpr import stage
from funtorch.transforms.simplify import simplify

RNG = np.random.default_rng(3)


def floats(*shape, dtype="float32"):
    return RNG.normal(size=shape).astype(dtype)


def program(f, *args):
    """Stage and simplify ``f`` of NumPy arrays, which returns a pytree."""
    avals = [ShapedArray(a.shape, a.dtype) for a in map(np.asarray, args)]
    return simplify(stage(lambda *xs: ft.tree.leaves(f(*xs)), avals))


def check(f, *args, rtol=2e-5):
    """Compare ``f`` compiled with ``f`` run operation by operation; check every layout."""
    check_layout(lay_out(fuse(program(f, *args))))
    args = [fnp.asarray(a) for a in args]
    with ft.disable_jit():
        want = ft.tree.leaves(f(*args))
    jitted = ft.jit(f)
    for _ in range(2):
        got = ft.tree.leaves(jitted(*args))
        for a, b in zip(got, want, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(
                np.asarray(a, "complex128"), np.asarray(b, "complex128"), rtol=rtol, atol=1e-5
            )
    return got


X, Y = floats(5), floats(7, 5)
BIG = floats(40, 30)


def swap(c, x):
    a, b = c
    return (b, a + x), (a * x).sum()


PROGRAMS = {
    "carry": (lambda x: lax.scan(lambda c, _: (fnp.sin(c) + 1, None), x, None, length=9), X),
    "scalars": (lambda x: lax.fori_loop(0, 50, lambda i, c: c * 0.9 + i, x), np.float32(3)),
    "stacked": (lambda x, y: lax.scan(lambda c, r: (c + r, c * r), x, y), X, Y),
    "reverse": (lambda x, y: lax.scan(lambda c, r: (c + r, c * r), x, y, reverse=True), X, Y),
    "no steps": (lambda x, y: lax.scan(lambda c, r: (c + r, c * r), x, y[:0]), X, Y),
    "one step": (lambda x, y: lax.scan(lambda c, r: (c @ c * r[0], c), x, y[:1]), BIG[:30, :30], Y),
    "swapped carries": (lambda x, y: lax.scan(swap, (x, x * 2), y), X, Y),
    "large swapped carries": (lambda x: lax.scan(swap, (x, x * 2), x[:8, 0]), BIG),
    "carry kept": (lambda x, y: lax.scan(lambda c, r: (c, c[0] * r), (x, x), y), X, Y),
    "carry given out": (lambda x, y: lax.scan(lambda c, r: (c * r, c * r), x, y), X, Y),
    "carry of a constant": (lambda x, y: lax.scan(lambda c, r: (fnp.ones(5), c), x, y), X, Y),
    "same start twice": (lambda x: lax.scan(swap, (x, x), x[:8, 0]), BIG),
    "product": (
        lambda x: lax.scan(lambda c, _: (fnp.tanh(c @ x), c.sum()), x, None, length=4),
        BIG[:30, :30],
    ),
    "constants": (lambda x, y: lax.scan(lambda c, r: (c + (x * r).sum(), None), 0.0, y), X, Y),
    "nested": (
        lambda x, y: lax.scan(
            lambda c, r: (lax.fori_loop(0, 3, lambda i, d: d * 0.5 + r * i, c), c.sum()), x, y
        ),
        X,
        Y,
    ),
    "while": (
        lambda x: lax.while_loop(
            lambda c: (c[0] < 100) & (c[1].sum() < 1e6),
            lambda c: (c[0] + 7, c[1] * 1.5 + 1),
            (0, x),
        ),
        X,
    ),
    "while over large arrays": (
        lambda x: lax.while_loop(lambda c: c[1].sum() < 900.0, lambda c: (c[1], c[0] + 1), (x, x)),
        BIG,
    ),
    "while that never runs": (
        lambda x: lax.while_loop(lambda c: c[0] > 1e9, lambda c: c * 2, x),
        X,
    ),
    "while of a flag": (lambda b: lax.while_loop(lambda c: c, lambda c: ~c, b), np.bool_(True)),
    "cond": (lambda p, x: lax.cond(p > 0, fnp.sin, lambda x: x.sum() + x, x), np.float32(1), X),
    "switch": (
        lambda k, x: lax.switch(
            k, [lambda x: x, lambda x: -x, lambda x: x[::-1], lambda x: fnp.ones(5)], x
        ),
        np.int32(2),
        X,
    ),
    "switch out of range": (
        lambda k, x: lax.switch(k, [lambda x: x, lambda x: -x, lambda x: x[::-1]], x),
        np.int32(-4),
        X,
    ),
    "cond in scan": (
        lambda x, y: lax.scan(
            lambda c, r: (lax.cond(r[0] > 0, lambda: c + r, lambda: c * 0.5), None), x, y
        ),
        X,
        Y,
    ),
    "scan in cond": (
        lambda p, x, y: lax.cond(
            p, lambda: lax.scan(lambda c, r: (c + r, c), x, y)[1], lambda: y * 2
        ),
        np.bool_(True),
        X,
        Y,
    ),
    "eager rules inside": (
        lambda x, y: lax.scan(lambda c, r: (eagerly(c + r), fnp.linalg.norm(c)), x, y),
        X,
        Y,
    ),
    "empty arrays": (lambda x: lax.scan(lambda c, r: (c * 2, r + 1), x, x[None]), floats(0, 3)),
    "doubles": (
        lambda x: lax.fori_loop(0, 9, lambda i, c: c / 3 + i, x),
        floats(4, dtype="float64"),
    ),
    "integers": (
        lambda x: lax.scan(lambda c, r: (c * 3 ^ r, c >> 1), x[0], x),
        np.arange(-4, 4, dtype="int64"),
    ),
    "small integers": (
        lambda x: lax.fori_loop(0, 20, lambda i, c: c * 3 + 1, x),
        np.arange(8, dtype="uint8"),
    ),
    "halves": (
        lambda x: lax.fori_loop(0, 5, lambda i, c: c / 2 + 1, x),
        floats(4).astype("float16"),
    ),
    "complex": (
        lambda x: lax.fori_loop(0, 5, lambda i, c: c * (0.5 + 0.5j), x),
        floats(4).astype("complex64"),
    ),
    "gradient": (
        lambda x, y: ft.grad(
            lambda x: lax.scan(lambda c, r: (fnp.sin(c) * r, c.sum()), x, y)[1].sum()
        )(x),
        X,
        Y,
    ),
    "vmapped scan": (
        lambda y: ft.vmap(lambda r: lax.fori_loop(0, 6, lambda i, c: c * r, r.sum() + r))(y),
        Y,
    ),
    "update in place": (
        lambda x, y: lax.fori_loop(0, 7, lambda i, c: c.at[i % 5].set(y[i, 2] + c[0]), x),
        X,
        Y,
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_native_loops_agree_with_python_loops(name):
    f, *args = PROGRAMS[name]
    check(f, *args, rtol=2e-2 if name == "halves" else 2e-5)


def test_the_plan_has_native_loops_and_branches():
    def f(p, x):
        x = lax.fori_loop(0, 9, lambda i, c: c + i, x)
        x = lax.while_loop(lambda c: c[0] < 3, lambda c: c + 1, x)
        return lax.cond(p, fnp.sin, fnp.cos, x)

    plan = fuse(program(f, np.bool_(True), X))
    assert {Scan, While, Branch} <= {type(step) for step in plan.steps}
    assert not any(isinstance(step, Call) for step in plan.steps)
    assert "scan" in str(plan)
    assert "arena" in str(lay_out(plan))


# ---------------------------------------------------------------------- calls of Python inside
def failing(error):
    """Return a primitive whose eager rule raises ``error`` in its third run."""
    runs = []
    prim = Primitive("fails_at_last")
    del primitives["fails_at_last"]
    prim.type = lambda x: x

    def eager(xp, x):
        runs.append(1)
        if len(runs) % 3 == 0:
            raise error
        return x + 1

    prim.eager = eager
    return prim


@pytest.mark.parametrize("error", [ValueError("at last"), KeyboardInterrupt()], ids=str)
def test_what_an_eager_rule_raises_in_a_native_loop_comes_out(error):
    prim = failing(error)
    jaxpr = program(lambda x: lax.fori_loop(0, 5, lambda i, c: prim.bind(c) * 2, x), X)
    run = compile_jaxpr(jaxpr)
    for _ in range(2):
        with pytest.raises(type(error)):
            run([X])


def test_a_loop_runs_python_once_per_call_inside_and_never_without():
    runs = []
    prim = Primitive("counts_runs")
    del primitives["counts_runs"]
    prim.type = lambda x: x
    prim.eager = lambda xp, x: runs.append(1) or x * 2
    run = compile_jaxpr(program(lambda x: lax.fori_loop(0, 6, lambda i, c: prim.bind(c) + 1, x), X))
    (got,) = run([X])
    want = X
    for _ in range(6):
        want = want * 2 + 1
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert len(runs) == 6


def test_a_rule_that_breaks_its_type_is_named():
    prim = Primitive("changes_type")
    del primitives["changes_type"]
    prim.type = lambda x: x
    prim.eager = lambda xp, x: x.astype("float64")
    run = compile_jaxpr(program(lambda x: prim.bind(x * 2) + 1, X))
    with pytest.raises(TypeError, match=r"changes_type gave float64\[5\] where .* float32\[5\]"):
        run([X])


# ---------------------------------------------------------------------- outside jit
def test_loops_outside_jit_run_compiled_when_they_are_long():
    calls = []

    def body(c):
        calls.append(1)
        return c + 1

    assert int(lax.while_loop(lambda c: c < 200_000, body, 0)) == 200_000
    assert len(calls) <= 4
    total, ys = lax.scan(lambda c, x: (c + x, c), 0.0, np.ones(50_000, "float32"))
    assert float(total) == 50_000
    np.testing.assert_array_equal(ys, np.arange(50_000))


def test_disable_jit_runs_loops_step_by_step():
    runs = []
    prim = Primitive("notes_values")
    del primitives["notes_values"]
    prim.type = lambda x: x
    prim.eager = lambda xp, x: runs.append(x.copy()) or x
    with ft.disable_jit():
        lax.fori_loop(0, 3000, lambda i, c: prim.bind(c) + 1, np.float32(0))
    assert [float(x) for x in runs] == list(range(3000))


# ---------------------------------------------------------------------- memory
def test_a_loop_that_sets_one_element_changes_its_carry_in_place():
    n = 1 << 20
    f = program(
        lambda x: lax.fori_loop(0, 5000, lambda i, c: c.at[i].set(c[i] + 1.0), x * 2), floats(n)
    )
    layout = lay_out(fuse(f))
    check_layout(layout)
    (loop,) = layout.loops.values()
    assert not loop.spares
    assert layout.arena < n
    x = floats(n)
    (got,) = compile_jaxpr(f)([x])
    want = x * 2
    want[:5000] += 1
    np.testing.assert_array_equal(got, want)


def test_updates_in_branches_of_a_loop_work_in_place():
    n = 1 << 16

    def body(i, c):
        return lax.cond(i % 2 == 0, lambda c: c.at[i].set(7.0), lambda c: c, c)

    f = program(lambda x: lax.fori_loop(0, 1000, body, x), floats(n))
    layout = lay_out(fuse(f))
    check_layout(layout)
    assert layout.arena < n
    x = floats(n)
    want = x.copy()
    want[:1000:2] = 7
    np.testing.assert_array_equal(compile_jaxpr(f)([x])[0], want)


def test_memory_of_the_dead_is_used_again():
    def f(x):
        for _ in range(20):
            x = fnp.tanh(x @ x)
        return x

    jaxpr = program(f, floats(50, 50))
    layout = lay_out(fuse(jaxpr))
    check_layout(layout)
    assert layout.arena <= 3 * 50 * 50 * 4 + 3 * 64
    run = compile_jaxpr(jaxpr)
    assert run.memory.arguments == run.memory.outputs == 50 * 50 * 4
    assert run.memory.temporaries >= 50 * 50 * 4
    assert "test_native_loops" in str(run.memory)


def test_loops_read_arrays_of_other_shapes_where_they_lie():
    """Blocks of an array, and an intermediate that products read as well, are not copied."""

    def f(x, w):
        def total(y, n):
            step = lambda c, b: (c + fnp.tanh(b @ w).sum(0), None)
            return lax.scan(step, w[0], y.reshape(n, -1, 16))[0]

        y = fnp.tanh(x @ w)
        return total(x, 8) + total(y, 8) + total(y, 16)

    x, w = floats(256, 16), floats(16, 16)
    assert ft.jit(f).lower(x, w).compile().memory_analysis().temp_size_in_bytes < 1.5 * x.nbytes
    np.testing.assert_allclose(ft.jit(f)(x, w), f(x, w), rtol=1e-5)


def test_loops_keep_their_cells_beside_very_many_small_arrays(monkeypatch):
    """What a program has of small arrays may be too much for the stack; its loops come first."""
    monkeypatch.setattr(layout_module, "STACK", 200)

    def f(x):
        for k in range(20):
            x = eagerly(x) + k
        return lax.fori_loop(0, 10, lambda i, c: c * 0.5 + i, x)

    layout = lay_out(fuse(program(f, floats(3))))
    assert layout.small == 0
    assert layout.arena > 0
    (loop,) = layout.loops.values()
    assert loop.layouts[0].small > 0
    check(f, floats(3))


def test_the_checker_names_values_that_overlap():
    plan = fuse(program(lambda x: fnp.tanh(x @ x) @ x, floats(50, 50)))
    layout = lay_out(plan)
    check_layout(layout)
    inner = [v for v, place in layout.places.items() if place.kind in ("arena", "result")]
    broken = dict.fromkeys(inner, Place("arena", 0))
    layout.places.update(broken)
    with pytest.raises(ValueError, match=r"must not overlap: f32\[50,50\] at arena 0"):
        check_layout(layout)


def address(x):
    return np.asarray(x).ctypes.data


def test_a_donated_argument_becomes_the_result():
    f = ft.jit(lambda x, y: (x * 2 + y, y.sum()), donate_argnums=0)
    x = fnp.asarray(BIG) + 0
    want = np.asarray(x) * 2 + BIG
    where = address(x)
    for _ in range(3):
        x, _ = f(x, fnp.asarray(BIG))
        assert address(x) == where
        np.testing.assert_allclose(x, want, rtol=1e-6)
        want = want * 2 + BIG


def test_donation_leaves_memory_alone_that_others_see():
    f = ft.jit(lambda x: x * 2, donate_argnums=0)
    mine = BIG.copy()
    np.testing.assert_array_equal(f(mine), BIG * 2)
    np.testing.assert_array_equal(mine, BIG)
    x = fnp.asarray(BIG) + 0
    view = np.asarray(x)
    before = view.copy()
    np.testing.assert_array_equal(f(x), before * 2)
    np.testing.assert_array_equal(view, before)
    g = ft.jit(lambda x, y: (x * 2, y + 1), donate_argnums=0)
    x = fnp.asarray(BIG) + 0
    got, other = g(x, x)
    np.testing.assert_array_equal(got, BIG * 2)
    np.testing.assert_array_equal(other, BIG + 1)


@pytest.mark.parametrize(
    ("inside", "calls"), [(eagerly, 1000), (fnp.sin, 10_000)], ids=["eager", "native"]
)
def test_memory_stays_flat_over_many_calls(inside, calls):
    f = ft.jit(lambda x: lax.scan(lambda c, r: (inside(c) + r, c.sum()), x, x[:4]))
    x = fnp.asarray(floats(6))
    for _ in range(200):
        f(x)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(calls):
            f(x)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 20_000


# ---------------------------------------------------------------------- lanes
def halvings(n, x):
    """Loop a number of times that the data decides."""
    return lax.while_loop(lambda c: c[0] > 0, lambda c: (c[0] // 2, c[1] * 0.5 + 1.0), (n, x))


def collatz(n):
    step = lambda n: lax.cond(n % 2 == 0, lambda n: n // 2, lambda n: 3 * n + 1, n)
    return lax.while_loop(lambda c: c[1] > 1, lambda c: (c[0] + 1, step(c[1])), (0, n))[0]


def python_collatz(n):
    count = 0
    while n > 1:
        n, count = (n // 2 if n % 2 == 0 else 3 * n + 1), count + 1
    return count


def python_halvings(n, x):
    x = np.float32(x)
    while n > 0:
        n, x = n // 2, x * np.float32(0.5) + np.float32(1)
    return x


@pytest.mark.parametrize("size", [1, 5, 128, 150])
def test_vmapped_while_loops_agree_with_loops_one_by_one(size):
    n = RNG.integers(0, 60, size).astype("int32")
    n[0] = 30_000
    x = floats(size)
    got = ft.jit(ft.vmap(halvings))(n, x)
    np.testing.assert_array_equal(got[0], np.zeros(size))
    want = [python_halvings(int(a), b) for a, b in zip(n, x, strict=True)]
    np.testing.assert_allclose(got[1], want, rtol=1e-6)
    steps = ft.jit(ft.vmap(collatz))(np.arange(1, size + 1, dtype="int32"))
    np.testing.assert_array_equal(steps, [python_collatz(k) for k in range(1, size + 1)])


def test_vmapped_loops_under_other_transforms():
    n = np.array([3, 700, 0, 12, 5, 1, 9, 100, 2, 4], "int32")
    x = floats(10)
    f = lambda n, x: halvings(n, x * x)[1]
    each = ft.vmap(f)
    want = [
        float(ft.jvp(lambda x, n=n: f(n, x), (x,), (1.0,))[1]) for n, x in zip(n, x, strict=True)
    ]
    tangent = ft.jit(lambda x: ft.jvp(lambda x: each(n, x), (x,), (fnp.ones(10),))[1])
    np.testing.assert_allclose(tangent(x), want, rtol=1e-5)
    table = ft.jit(ft.vmap(ft.vmap(f, (None, 0)), (0, None)))(n, x)
    np.testing.assert_allclose(table[np.arange(10), np.arange(10)], each(n, x), rtol=1e-6)
    shared = ft.jit(ft.vmap(f, (0, None)))(n, x[1])
    np.testing.assert_allclose(shared, [float(f(k, x[1])) for k in n], rtol=1e-6)
    wide = ft.jit(ft.vmap(lambda n, x: halvings(n, x)[1], (0, None)))(n, BIG)
    np.testing.assert_allclose(wide[1], halvings(n[1], BIG)[1], rtol=1e-5)


def test_a_collective_in_a_vmapped_loop_keeps_its_lanes_together():
    def f(n):
        body = lambda c: (c[0] - 1, c[1] + lax.psum(c[0], "i"))
        return lax.while_loop(lambda c: lax.psum(c[0], "i") > 3, body, (n, 0))[1]

    n = np.array([3, 4, 5], "int32")
    np.testing.assert_array_equal(
        ft.jit(ft.vmap(f, axis_name="i"))(n), ft.vmap(f, axis_name="i")(n)
    )


def test_a_vmapped_branch_with_loops_runs_only_the_branch_taken():
    def f(p, x):
        many = lambda x: lax.fori_loop(0, 50, lambda i, c: fnp.sin(c) + i, x)
        return lax.cond(p, many, lambda x: x * 2, x)

    p, x = RNG.integers(0, 2, 40).astype(bool), floats(40, dtype="float64")
    names = [e.prim.name for e in program(ft.vmap(f), p, x).eqns]
    assert "scan" in names
    assert "select" not in names
    np.testing.assert_allclose(ft.jit(ft.vmap(f))(p, x), ft.vmap(f)(p, x), rtol=1e-10)
    gradient = ft.vmap(ft.grad(f, 1))
    np.testing.assert_allclose(ft.jit(gradient)(p, x), gradient(p, x), rtol=1e-10)


@pytest.mark.parametrize(
    ("yes", "width", "lanes"),
    [
        (lambda x: x + 1.0, 64, False),
        (lambda x: fnp.sin(x) + 1.0, 2, False),
        (lambda x: fnp.sin(fnp.exp(fnp.tanh(x))) + x, 16, True),
        (lambda x: fnp.outer(x, x) @ x, 16, True),
        (lambda x: ft.jit(lambda x: fnp.outer(x, x) @ fnp.sin(x))(x), 16, True),
    ],
)
def test_vmapped_branches_that_cost_much_are_chosen_between(yes, width, lanes):
    """Each lane runs its own branch where branches cost more than a loop over lanes."""
    f = ft.vmap(lambda p, x: lax.cond(p, yes, lambda x: -x, x))
    p, x = RNG.integers(0, 2, 30).astype(bool), floats(30, width)
    found = [e.prim.name for e in program(f, p, x).eqns]
    assert ("scan" in found, "select" in found) == (lanes, not lanes)
    want = np.where(p[:, None], np.stack([yes(fnp.asarray(row)) for row in x]), -x)
    np.testing.assert_allclose(ft.jit(f)(p, x), want, rtol=1e-5, atol=1e-6)
    slope = ft.grad(lambda x: (f(p, x) ** 2).sum())
    np.testing.assert_allclose(ft.jit(slope)(x), slope(fnp.asarray(x)), rtol=1e-4, atol=1e-4)


def test_lanes_do_not_depend_on_the_number_of_threads():
    n, x = RNG.integers(0, 3000, 4000).astype("int32"), floats(4000)
    f = ft.jit(ft.vmap(lambda n, x: halvings(n, fnp.sin(x) * 1e3)))
    found = []
    for count in (1, 2, 3):
        with ft.threads(count):
            found.append(np.asarray(f(n, x)[1]))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
