"""Every optimizer steps as optax's of the same name does, in float64, on three problems."""

import numpy as np
import optim_rows as rows
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import optim

pytestmark = pytest.mark.parity


def run(library, module, numpy, ft_or_jax, name, problem):
    """Return the parameters after every step."""
    row = rows.ROWS[name]
    loss_of, start = rows.PROBLEMS[problem]
    optimizer = row.make(module)

    def loss(params):
        return loss_of(numpy, params)

    @ft_or_jax.jit
    def step(params, state):
        value, grads = ft_or_jax.value_and_grad(loss)(params)
        extra = rows.extras(row.extra, value, grads, loss)
        updates, state = optimizer.update(grads, state, params, **extra)
        return module.apply_updates(params, updates), state

    params = {k: numpy.asarray(v, dtype=numpy.float64) for k, v in start.items()}
    state = optimizer.init(params)
    seen = []
    for _ in range(rows.STEPS):
        params, state = step(params, state)
        seen.append(rows.flat(params))
    return np.array(seen)


@pytest.mark.parametrize("problem", rows.PROBLEMS)
@pytest.mark.parametrize("name", rows.ROWS)
def test_every_step_equals_optax(name: str, problem: str) -> None:
    jax = pytest.importorskip("jax", reason="compares with optax")
    optax = pytest.importorskip("optax", reason="compares with optax")
    with jax.enable_x64(True):
        theirs = run("optax", optax, jax.numpy, jax, name, problem)
    ours = run("funtorch", optim, fnp, ft, name, problem)
    rtol = rows.ROWS[name].rtol
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)


# ---------------------------------------------------------------------------------------- schedules
WAVE = {"init_value": 0.1, "peak_value": 1.0, "warmup_steps": 3, "decay_steps": 9}
SCHEDULES = {
    "constant": lambda o: o.constant_schedule(0.3),
    "polynomial": lambda o: o.polynomial_schedule(1.0, 0.1, 2.5, 20, 5),
    "linear": lambda o: o.linear_schedule(0.1, 1.0, 20, 3),
    "linear, no steps": lambda o: o.linear_schedule(0.1, 1.0, 0),
    "piecewise": lambda o: o.piecewise_constant_schedule(0.5, {3: 0.5, 10: 4.0, 20: 0.1}),
    "linear pieces": lambda o: o.piecewise_interpolate_schedule("linear", 0.5, {5: 3.0, 9: 0.1}),
    "cosine pieces": lambda o: o.piecewise_interpolate_schedule("cosine", 0.5, {5: 3.0, 9: 0.1}),
    "exponential": lambda o: o.exponential_decay(0.9, 7, 0.5, 4, end_value=0.2),
    "stairs": lambda o: o.exponential_decay(0.9, 7, 1.5, 4, staircase=True, end_value=3.0),
    "cosine": lambda o: o.cosine_decay_schedule(0.7, 25, 0.1, 1.5),
    "linear onecycle": lambda o: o.linear_onecycle_schedule(30, 0.8),
    "cosine onecycle": lambda o: o.cosine_onecycle_schedule(30, 0.8),
    "join": lambda o: o.join_schedules([o.constant_schedule(1.0), o.linear_schedule(0, 1, 9)], [7]),
    "warmup constant": lambda o: o.warmup_constant_schedule(0.1, 0.9, 10),
    "warmup cosine": lambda o: o.warmup_cosine_decay_schedule(0.1, 0.9, 10, 30, 0.2, 1.2),
    "warmup exponential": lambda o: o.warmup_exponential_decay_schedule(0.1, 0.9, 5, 4, 0.5, 3),
    "sgdr": lambda o: o.sgdr_schedule([WAVE, {**WAVE, "peak_value": 0.5}, WAVE]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_equal_optax(name: str) -> None:
    optax = pytest.importorskip("optax", reason="compares with optax")
    ours, theirs = SCHEDULES[name](optim), SCHEDULES[name](optax)
    expected = [float(theirs(step)) for step in range(40)]
    np.testing.assert_allclose([float(ours(k)) for k in range(40)], expected, rtol=2e-5, atol=1e-7)
    compiled = ft.jit(ours)
    np.testing.assert_allclose(
        [float(compiled(fnp.int32(k))) for k in range(40)], expected, rtol=2e-5, atol=1e-7
    )


TORCH_SCHEDULES = {  # PyTorch's scheduler, ours
    "step": (lambda s, o: s.StepLR(o, 4, 0.3), lambda: optim.step_schedule(0.5, 4, 0.3)),
    "multistep": (
        lambda s, o: s.MultiStepLR(o, [3, 9, 9, 20], 0.5),
        lambda: optim.multistep_schedule(0.5, [3, 9, 9, 20], 0.5),
    ),
    "constant": (
        lambda s, o: s.ConstantLR(o, 0.2, 6), lambda: optim.constant_warmup_schedule(0.5, 0.2, 6),
    ),
    "linear": (
        lambda s, o: s.LinearLR(o, 0.2, 0.9, 6),
        lambda: optim.linear_warmup_schedule(0.5, 0.2, 0.9, 6),
    ),
    "exponential": (
        lambda s, o: s.ExponentialLR(o, 0.9), lambda: optim.exponential_schedule(0.5, 0.9),
    ),
    "polynomial": (
        lambda s, o: s.PolynomialLR(o, 12, 2.0),
        lambda: optim.polynomial_decay_schedule(0.5, 12, 2.0),
    ),
    "cosine": (
        lambda s, o: s.CosineAnnealingLR(o, 8, 0.05),
        lambda: optim.cosine_annealing_schedule(0.5, 8, 0.05),
    ),
    "restarts": (
        lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, 1, 0.05),
        lambda: optim.cosine_warm_restarts_schedule(0.5, 5, 1, 0.05),
    ),
    "longer restarts": (
        lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 2, 0.05),
        lambda: optim.cosine_warm_restarts_schedule(0.5, 3, 2, 0.05),
    ),
    "lambda": (
        lambda s, o: s.LambdaLR(o, lambda k: 0.9**k),
        lambda: optim.lambda_schedule(0.5, lambda k: 0.9**k),
    ),
    "multiplicative": (
        lambda s, o: s.MultiplicativeLR(o, lambda k: 1 - 0.01 * k),
        lambda: optim.multiplicative_schedule(0.5, lambda k: 1 - 0.01 * k),
    ),
    "cyclic": (
        lambda s, o: s.CyclicLR(o, 0.1, 0.5, 4, 6, cycle_momentum=False),
        lambda: optim.cyclic_schedule(0.1, 0.5, 4, 6),
    ),
    "cyclic, halved": (
        lambda s, o: s.CyclicLR(o, 0.1, 0.5, 4, mode="triangular2", cycle_momentum=False),
        lambda: optim.cyclic_schedule(0.1, 0.5, 4, mode="triangular2"),
    ),
    "cyclic, fading": (
        lambda s, o: s.CyclicLR(o, 0.1, 0.5, 4, mode="exp_range", gamma=0.9, cycle_momentum=False),
        lambda: optim.cyclic_schedule(0.1, 0.5, 4, mode="exp_range", gamma=0.9),
    ),
    "onecycle": (
        lambda s, o: s.OneCycleLR(o, 0.5, 30, cycle_momentum=False),
        lambda: optim.onecycle_schedule(0.5, 30),
    ),
    "onecycle, three phases": (
        lambda s, o: s.OneCycleLR(
            o, 0.5, 30, three_phase=True, anneal_strategy="linear", cycle_momentum=False
        ),
        lambda: optim.onecycle_schedule(0.5, 30, three_phase=True, anneal_strategy="linear"),
    ),
    "sequential": (
        lambda s, o: s.SequentialLR(o, [s.ConstantLR(o, 0.1, 5), s.ExponentialLR(o, 0.9)], [5]),
        lambda: optim.join_schedules(
            [optim.constant_warmup_schedule(0.5, 0.1, 5), optim.exponential_schedule(0.5, 0.9)], [5]
        ),
    ),
    "chained": (
        lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 5), s.ExponentialLR(o, 0.9)]),
        lambda: optim.chain_schedules(
            0.5, optim.constant_warmup_schedule(0.5, 0.1, 5), optim.exponential_schedule(0.5, 0.9)
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH_SCHEDULES)
def test_schedules_equal_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    make, ours = TORCH_SCHEDULES[name]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    compiled = ft.jit(ours())
    for step in range(30):
        expected = optimizer.param_groups[0]["lr"]
        np.testing.assert_allclose(float(compiled(fnp.int32(step))), expected, 2e-5, 1e-7)
        np.testing.assert_allclose(float(ours()(step)), expected, 2e-5, 1e-7)
        if step < 29:
            optimizer.step()
            scheduler.step()
