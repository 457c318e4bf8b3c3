"""What derivatives and compiling cost grows as it should: counted in equations, and in bytes."""

import time

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.backends.compile import plan_of
from funtorch.backends.plan import Launch
from funtorch.jaxpr import sub_jaxprs
from funtorch.transforms.simplify import simplify

W = np.eye(4) / 2
X = np.ones(4)


def size(jaxpr):
    """Count the equations of a program and of those inside."""
    return sum(1 + sum(map(size, sub_jaxprs(e.params))) for e in jaxpr.eqns)


def python_loop(n):
    def f(w, x):
        for _ in range(n):
            x = fnp.sin(w @ x)
        return x.sum()

    return f


def branching(n):
    """Each value is used twice: without sharing the program would double with each step."""

    def f(w, x):
        for _ in range(n):
            x = fnp.sin(x) * x
        return (x * w.sum()).sum()

    return f


def scanned(n):
    def f(w, x):
        return lax.scan(lambda c, _: (fnp.sin(w @ c), c), x, None, n)[0].sum()

    return f


def nested(n):
    """A loop of jitted calls, which are differentiated once each."""
    step = ft.jit(lambda w, x: fnp.sin(w @ x))

    def f(w, x):
        for _ in range(n):
            x = step(w, x)
        return x.sum()

    return f


TRANSFORMS = {
    "grad": ft.grad,
    "jvp": lambda f: lambda w, x: ft.jvp(f, (w, x), (w, x)),
    "grad of checkpoint": lambda f: ft.grad(ft.checkpoint(f)),
    "vmap of grad": lambda f: lambda w, x: ft.vmap(ft.grad(f), (None, 0))(w, fnp.stack([x, x])),
    "hessian product": lambda f: lambda w, x: ft.hvp(lambda v: f(w, v), (x,), (x,)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("loop", [python_loop, branching, nested])
def test_derivatives_of_python_loops_are_linear_in_the_steps(loop, transform):
    g = TRANSFORMS[transform]
    counts = [size(simplify(ft.make_jaxpr(g(loop(n)))(W, X).hoisted())) for n in (10, 20, 40)]
    first, second = np.diff(counts)
    assert 0 < second < 2.1 * first, counts


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_derivatives_of_scans_are_programs_of_one_size(transform):
    g = TRANSFORMS[transform]
    sizes = {size(simplify(ft.make_jaxpr(g(scanned(n)))(W, X).hoisted())) for n in (10, 10_000)}
    assert len(sizes) == 1


def test_the_gradient_of_a_scan_takes_memory_and_time_linear_in_the_steps():
    needs, seconds = [], []
    for n in (2000, 4000, 8000):
        f = ft.jit(ft.grad(scanned(n)))
        needs.append(f.lower(W, X).compile().memory_analysis().temp_size_in_bytes)
        f(W, X)
        runs = []
        for _ in range(7):
            start = time.process_time()
            f(W, X)
            runs.append(time.process_time() - start)
        seconds.append(min(runs))
    first, second = np.diff(needs)
    assert 0 < second <= 2.1 * first
    assert seconds[2] < 8 * seconds[0]  # four times the steps; other programs run here, too


def test_eager_gradients_of_python_loops_are_linear_in_the_steps():
    seconds = []
    for n in (50, 400):
        g = ft.grad(python_loop(n))
        g(W, X)
        runs = []
        for _ in range(5):
            start = time.process_time()
            g(W, X)
            runs.append(time.process_time() - start)
        seconds.append(min(runs))
    assert seconds[1] < 20 * seconds[0]  # eight times the steps


def test_ten_thousand_steps_compile_as_fast_as_ten():
    def compile_time(n):
        # Programs of new constants, so that nothing is known before.
        k = float(n)
        f = lambda w, x: lax.scan(lambda c, _: (fnp.sin(w @ c) + k, c), x, None, n)[0].sum()
        start = time.process_time()
        ft.jit(ft.value_and_grad(f)).lower(W, X).compile()
        return time.process_time() - start

    compile_time(7)
    few = min(compile_time(n) for n in (10, 11, 12))
    many = min(compile_time(n) for n in (10_000, 10_001, 10_002))
    assert many < 3 * few


def rolled(x):
    return fnp.roll(x, 1) * 0.5 + x


def padded(x):
    return fnp.pad(x, (1, 0))[:-1] * 0.5 + x


def pieced(x):
    return fnp.concatenate([x[:1], x[1:] - 0.5 * x[:-1]])


@pytest.mark.parametrize("step", [rolled, padded, pieced])
def test_steps_that_read_their_neighbours_are_not_written_out_for_every_path(step):
    """Each step reads the one before at several places: 3**24 of them, were none stored."""

    def f(x):
        for _ in range(24):
            x = step(x)
        return x

    x = fnp.asarray(np.random.default_rng(0).normal(size=40))
    np.testing.assert_allclose(ft.jit(f)(x), f(x), rtol=1e-9)
    rows = ft.jit(lambda x, y: y.at[1].add(f(x)))(x, fnp.zeros((2, 40), x.dtype))
    np.testing.assert_allclose(rows[1], f(x), rtol=1e-9)


def jacobi(n):
    """Steps on a plane that each read the one before, and a given array, at several places."""

    def f(p, d):
        for _ in range(n):
            around = [fnp.roll(p, k, axis) for k in (1, -1) for axis in (0, 1)]
            p = (d + sum(around)) / 4
        return (p * p).sum()

    return f


def test_a_stencil_is_stored_where_kernels_would_compute_it_over_and_over():
    p, d = np.random.default_rng(0).normal(size=(2, 24, 24))
    plan = plan_of(simplify(ft.jit(ft.grad(jacobi(12))).lower(p, d).jaxpr))
    lengths = [len(s.kernel.body) for s in plan.steps if isinstance(s, Launch)]
    assert len(lengths) <= 16, lengths  # 78, where only kernels that are too long are cut
    assert sum(lengths) < 6000, lengths
    f = ft.grad(jacobi(4))
    np.testing.assert_allclose(ft.jit(f)(p, d), f(p, d), rtol=1e-9, atol=1e-12)
