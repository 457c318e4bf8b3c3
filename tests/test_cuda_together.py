"""Equal elementwise kernels on different arrays are one launch, in an order that is right."""

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
    step, args = training(optim.adamw(1e-2), [(4096 + 4 * k,) for k in range(70)])
    plan = plan_of(step, args)
    used = nvrtc.library().usage(module_text(plan.codes), "sm_80")
    assert max(x.registers for x in used.values()) <= 64
    assert not any(x.spilled or x.stack for x in used.values())
