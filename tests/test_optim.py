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
    "sgd": (optim.sgd(0.05), "SGD", {"lr": 0.05}, SGD := [1.4489887, 1.2168927, -0.55165261]),
    "momentum": (
        optim.sgd(0.02, momentum=0.9), "SGD", {"lr": 0.02, "momentum": 0.9},
        [1.4472551, 1.2178185, -0.54990852],
    ),
    "nesterov": (
        optim.sgd(0.02, momentum=0.9, nesterov=True), "SGD",
        {"lr": 0.02, "momentum": 0.9, "nesterov": True}, SGD,
    ),
    "adam": (optim.adam(0.1), "Adam", {"lr": 0.1}, SGD),
    "adamw": (
        optim.adamw(0.1, b1=0.8, b2=0.9, weight_decay=0.1), "AdamW",
        {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1}, SGD,
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
