"""Equal kernels on different arrays are one launch, in an order that is right."""

import numpy as np
import pytest
from fake_gpu import cupy  # noqa: F401
from gpu_programs import assert_same, normal
from test_cuda_kernels import needs_gxx, needs_nvrtc

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, optim
from funtorch.backends.cuda import nvrtc, together
from funtorch.backends.cuda.checking import check_launches
from funtorch.backends.cuda.code import module_text
from funtorch.backends.cuda.instructions import Run
from funtorch.backends.cuda.program import _Writer
from funtorch.backends.cuda.runtime import plan_for
from funtorch.transforms.simplify import simplify

SHAPES = ((400, 500), (3000,), (33, 129), (128, 64))  # which divide by the lanes, or do not


def training(optimizer, shapes):
    params = [fnp.asarray(normal(*s, seed=k)) for k, s in enumerate(shapes)]

    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optim.apply_updates(params, updates), state

    return step, (params, optimizer.init(params), [p / 3 for p in params])


def plan_of(f, args, donated=()):
    plan = plan_for(simplify(ft.jit(f).lower(*args)._program.jaxpr), frozenset(donated))[0]
    check_launches(plan)
    return plan


def launches(plan):
    return sum(len(plan.codes[x.code].launches) for x in plan.instructions if isinstance(x, Run))


def test_the_launches_of_a_step_do_not_grow_with_the_arrays(monkeypatch):
    step, args = training(optim.adamw(1e-2), [SHAPES[k % 4] for k in range(200)])
    plan = plan_of(step, args)
    with monkeypatch.context() as patch:
        patch.setattr(_Writer, "together", lambda self, found: list(found))
        apart = launches(plan_of(step, args))
    assert apart > 150
    assert launches(plan) <= 8
    assert all(len(x.args) <= together.MOST_POINTERS + 1 for x in plan.instructions)
    assert len(plan.codes) <= 8  # none that nobody launches


def test_clipping_by_the_norm_of_all_arrays_takes_a_few_launches():
    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.adamw(1e-2))
    step, args = training(optimizer, [SHAPES[k % 4] for k in range(200)])
    plan = plan_of(step, args)
    assert launches(plan) <= 12
    assert len(plan.instructions) <= 10


def numbers(xs):
    """Return what is reduced of arrays, by several kinds of reductions."""
    squares = lax.optimization_barrier([(abs(x) ** 2).sum().real for x in xs])
    return fnp.sqrt(sum(squares)), [(x.sum(), x.real.max(), (x != 0).any()) for x in xs]


@needs_gxx
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_reductions_of_many_arrays(cupy, dtype):  # noqa: F811
    shapes = [(300,), (301,), (31, 10), (4097,), (8196,)]
    xs = [fnp.asarray(normal(*s, seed=k)).astype(dtype) for k, s in enumerate(shapes)]
    plan = plan_of(numbers, (xs,))
    assert launches(plan) <= 16
    assert sum("_whole" in code.text for code in plan.codes) >= 2
    f, there = ft.jit(numbers), ft.device_put(xs, "cuda:0")
    first = None
    for _ in range(3):
        again = [np.asarray(x) for x in ft.tree.leaves(f(there))]
        tol = 5e-2 if dtype == "bfloat16" else 1e-4
        for got, want in zip(again, ft.tree.leaves(ft.jit(numbers)(xs)), strict=True):
            wide = complex if dtype == "complex64" else float
            got, want = got.astype(wide), np.asarray(want).astype(wide)
            np.testing.assert_allclose(got, want, tol, tol)
        first = first or again
        assert all(a.tobytes() == b.tobytes() for a, b in zip(first, again, strict=True))


def chained(x, y, z):
    """Return what later kernels make of what earlier, equal ones made."""
    found = []
    for _ in range(3):
        x, y, z = (lax.optimization_barrier(fnp.tanh(v) + w) for v, w in ((x, x), (y, y), (z, z)))
        found += [x * 2, y * 2, z * 2]
    return found


@needs_gxx
@pytest.mark.parametrize("donated", [(), (0, 1)])
def test_optimizers_on_a_gpu(cupy, donated):  # noqa: F811
    shapes = [(65, 64), (70, 60), (4097,), (4100,), (64, 66), (4099,)]
    for optimizer in (optim.adamw(1e-2), optim.sgd(1e-2, momentum=0.9)):
        step, args = training(optimizer, shapes)
        here, there = args, ft.device_put(args, "cuda:0")
        f, g = ft.jit(step), ft.jit(step, donate_argnums=donated)
        for _ in range(3):
            here, there = (*f(*here), here[2]), (*g(*there), there[2])
            assert_same(there[:2], here[:2])


@needs_gxx
def test_what_depends_on_each_other_stays_in_order(cupy):  # noqa: F811
    args = normal(4200), normal(4300), normal(70, 80)
    plan = plan_of(chained, args)
    assert 3 <= launches(plan) < 9
    f = ft.jit(chained)
    for _ in range(3):
        assert_same(f(*ft.device_put(args, "cuda:0")), ft.jit(chained)(*args))


@needs_gxx
def test_groups_inside_of_loops(cupy):  # noqa: F811
    shapes = [(65, 64), (4096,), (70, 60)]
    step, (params, state, grads) = training(optim.adam(1e-2), shapes)

    def run(params, state):
        return lax.scan(lambda c, _: (step(*c, grads), None), (params, state), None, 3)[0]

    (loop,) = [x for x in plan_of(run, (params, state)).instructions if hasattr(x, "length")]
    assert sum(isinstance(x, Run) for x in loop.body) <= 4
    got = ft.jit(run)(*ft.device_put((params, state), "cuda:0"))
    assert_same(got, ft.jit(run)(params, state))


@needs_nvrtc
def test_nvrtc_compiles_a_full_group():
    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.adamw(1e-2))
    step, args = training(optimizer, [(4096 + 4 * k,) for k in range(70)])
    plan = plan_of(step, args)
    used = nvrtc.library().usage(module_text(plan.codes), "sm_80")
    assert max(x.registers for x in used.values()) <= 64
    assert not any(x.spilled or x.stack for x in used.values())
