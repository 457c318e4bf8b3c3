"""Optimizers are pure pairs, keep dtypes and structure, and step as PyTorch's do."""

import math
import re

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import optim

STEPS = 50
START = np.array([2.0, -1.0, 0.5], np.float32)
CURVATURE = np.array([1.0, 10.0, 0.1], np.float32)


def loss(x):
    """Pull x to 1, with a ripple, so that gradients change sign on the way."""
    return (CURVATURE * (x - 1) ** 2 / 2).sum() + fnp.sin(3 * x).sum()


OPTIMIZERS = {  # name -> ours, PyTorch's name and settings, values after 50 steps from PyTorch 2.13
    "sgd": (
        optim.sgd(0.05), "SGD", {"lr": 0.05}, [1.5134626, 1.2474648, -0.50684896],
    ),
    "momentum": (
        optim.sgd(0.02, momentum=0.9), "SGD", {"lr": 0.02, "momentum": 0.9},
        [1.4808452, 1.1170709, -0.49815241],
    ),
    "nesterov": (
        optim.sgd(0.02, momentum=0.9, nesterov=True), "SGD",
        {"lr": 0.02, "momentum": 0.9, "nesterov": True},
        [1.5133702, 1.247481, -0.50564256],
    ),
    "adam": (
        optim.adam(0.1), "Adam", {"lr": 0.1}, [1.5259467, 1.3134993, -0.49725611],
    ),
    "adamw": (
        optim.adamw(0.1, b1=0.8, b2=0.9, weight_decay=0.1), "AdamW",
        {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1},
        [1.5085375, 1.235976, -0.50836769],
    ),
}  # fmt: skip


def descend(optimizer: optim.GradientTransformation, params, steps: int = STEPS):
    state = optimizer.init(params)

    @ft.jit
    def step(params, state):
        updates, state = optimizer.update(ft.grad(loss)(params), state, params)
        return optim.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_values_after_fifty_steps(name: str) -> None:
    ours, _, _, recorded = OPTIMIZERS[name]
    params, _ = descend(ours, fnp.asarray(START))
    np.testing.assert_allclose(params, recorded, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_step_equals_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    ours, torch_name, settings, _ = OPTIMIZERS[name]
    params = fnp.asarray(START, dtype=fnp.float64)
    theirs = torch.tensor(START.astype(np.float64))
    optimizer = getattr(torch.optim, torch_name)([theirs], **settings)
    state = ours.init(params)
    for _ in range(STEPS):
        gradient = CURVATURE * (theirs.numpy() - 1) + 3 * np.cos(3 * theirs.numpy())
        theirs.grad = torch.tensor(gradient)
        optimizer.step()
        updates, state = ours.update(fnp.asarray(gradient), state, params)
        params = optim.apply_updates(params, updates)
        np.testing.assert_allclose(params, theirs.numpy(), rtol=1e-12)


def test_one_program_for_all_steps() -> None:
    traces = []
    optimizer = optim.chain(
        optim.clip_by_global_norm(1.0), optim.adamw(lambda count: 0.1 / (1 + count))
    )

    @ft.jit
    def step(params, state):
        traces.append(1)
        updates, state = optimizer.update(params, state, params)
        return optim.apply_updates(params, updates), state

    params = {"w": fnp.ones((3, 2)), "b": [fnp.ones(2), None]}
    state = optimizer.init(params)
    structure = ft.tree.structure((params, state))
    for _ in range(4):
        params, state = step(params, state)
    assert len(traces) == 1
    assert ft.tree.structure((params, state)) == structure
    adam_state = state[1][0]
    assert isinstance(adam_state, optim.ScaleByAdamState)
    assert adam_state.count.dtype == np.int32
    assert int(adam_state.count) == 4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex64"])
@pytest.mark.parametrize(
    "optimizer",
    [
        optim.sgd(lambda count: 0.1 * count),
        optim.sgd(0.1, momentum=0.9, nesterov=True),
        optim.adam(0.1),
        optim.adamw(fnp.float32(0.1)),
        optim.chain(optim.clip_by_global_norm(0.5), optim.sgd(np.float64(0.1))),
    ],
)
def test_dtypes_stay(optimizer: optim.GradientTransformation, dtype: str) -> None:
    params = {"w": fnp.ones((2, 3), getattr(fnp, dtype))}
    state = optimizer.init(params)
    for _ in range(2):
        updates, state = optimizer.update(params, state, params)
        params = optim.apply_updates(params, updates)
    assert updates["w"].dtype == params["w"].dtype == getattr(fnp, dtype)
    assert np.isfinite(np.asarray(params["w"]).astype(complex)).all()


def test_schedule_counts_from_zero() -> None:
    optimizer = optim.sgd(lambda count: fnp.where(count < 2, 1.0, 0.5))
    state = optimizer.init(fnp.zeros(()))
    seen = []
    for _ in range(3):
        updates, state = optimizer.update(fnp.ones(()), state)
        seen.append(float(updates))
    assert seen == [-1.0, -1.0, -0.5]


def test_first_adam_step_keeps_its_digits() -> None:
    """1 - 0.999**1 computed in float32 would be wrong in the fifth digit."""
    t = optim.scale_by_adam(b1=0.0, b2=0.9999)
    updates, _ = t.update(fnp.asarray([3.0]), t.init(fnp.zeros(1)))
    np.testing.assert_allclose(updates, [1.0], rtol=1e-6)


def test_clip_by_global_norm() -> None:
    t = optim.clip_by_global_norm(1.0)
    grads = {"a": fnp.asarray([3.0]), "b": fnp.asarray([4.0])}
    clipped, _ = t.update(grads, t.init(grads))
    assert math.isclose(float(optim.global_norm(clipped)), 1.0, rel_tol=1e-6)
    for small in (0.0, 0.3):
        grads = [fnp.asarray([small, 0.0])]
        np.testing.assert_array_equal(t.update(grads, t.init(grads))[0][0], grads[0])


def test_global_norm_does_not_overflow_in_half_precision() -> None:
    assert float(optim.global_norm([fnp.full(4, 1000.0, fnp.float16)])) == 2000.0
    assert float(optim.global_norm([])) == 0.0


@pytest.mark.parametrize(
    "mask", [{"w": True, "b": False}, lambda params: ft.tree.map(lambda p: p.ndim > 1, params)]
)
def test_weights_decay_where_the_mask_says(mask) -> None:
    params = {"w": fnp.ones((2, 2)), "b": fnp.ones(2)}
    t = optim.add_decayed_weights(0.5, mask)
    updates, _ = t.update(ft.tree.map(fnp.zeros_like, params), t.init(params), params)
    np.testing.assert_array_equal(updates["w"], np.full((2, 2), 0.5))
    np.testing.assert_array_equal(updates["b"], np.zeros(2))


def test_optimizers_can_be_differentiated_through() -> None:
    def loss_after_two_steps(rate):
        optimizer = optim.sgd(1.0, momentum=0.5)
        x = fnp.asarray(1.0)
        state = optimizer.init(x)
        for _ in range(2):
            updates, state = optimizer.update(x, state)
            x = x + rate * updates
        return x

    # x1 = 1 - r, m1 = 1, m2 = 0.5 + x1, x2 = x1 - r (1.5 - r): dx2/dr = -2.5 + 2 r
    assert math.isclose(float(ft.grad(loss_after_two_steps)(0.1)), -2.3, rel_tol=1e-5)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: optim.sgd(0.1, nesterov=True), "needs momentum="),
        (lambda: optim.adam(0.1, b1=1.0), "takes b1 in [0, 1); it was given 1.0"),
        (lambda: optim.adam(0.1, b2=-0.1), "takes b2 in [0, 1); it was given -0.1"),
        (lambda: update_without_params(), "update(grads, state, params)"),
        (lambda: optim.chain(optim.identity()).update([], ()), "1 transformations was given a"),
    ],
)
def test_what_optimizers_refuse(call, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        call()


def update_without_params() -> None:
    optimizer = optim.adamw(0.1)
    optimizer.update([fnp.ones(1)], optimizer.init([fnp.ones(1)]))
