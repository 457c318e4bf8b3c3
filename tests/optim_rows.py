"""What optimizers are tested on: a table of them, and three problems, for any library.

A row makes the same optimizer of `funtorch.optim` or of optax, which have the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

STEPS = 50


class Row(NamedTuple):
    """An optimizer, the extra arguments its update wants, and how near it must come."""

    make: Callable[[Any], Any]
    extra: tuple[str, ...] = ()
    rtol: float = 1e-9


def mask(params: Any) -> Any:
    """Choose the matrices of a flat dict of parameters."""
    return {name: p.ndim > 1 for name, p in params.items()}


def labels(params: Any) -> Any:
    """Label matrices and the rest."""
    return {name: "matrix" if p.ndim > 1 else "rest" for name, p in params.items()}


SEARCH = ("value", "grad", "value_fn")
FLOAT32 = 2e-5  # where hyperparameters or schedules are computed in float32
ROWS: dict[str, Row] = {
    "sgd": Row(lambda o: o.sgd(0.02)),
    "momentum": Row(lambda o: o.sgd(0.01, momentum=0.9)),
    "nesterov": Row(lambda o: o.sgd(0.01, momentum=0.9, nesterov=True)),
    "noisy_sgd": Row(lambda o: o.noisy_sgd(0.01, eta=0.0, key=0)),
    "sign_sgd": Row(lambda o: o.sign_sgd(0.02)),
    "signum": Row(lambda o: o.signum(0.02)),
    "optimistic": Row(lambda o: o.optimistic_gradient_descent(0.01, 1.1, 0.9)),
    "polyak_sgd": Row(lambda o: o.polyak_sgd(0.05, scaling=0.9), ("value",)),
    "polyak_sgd+": Row(
        lambda o: o.polyak_sgd(0.1, f_min=0.1, eps=0.01, variant="sps+"), ("value",)
    ),
    "adagrad": Row(lambda o: o.adagrad(0.1)),
    "adadelta": Row(lambda o: o.adadelta(1.0, rho=0.8, weight_decay=0.01)),
    "rmsprop": Row(lambda o: o.rmsprop(0.01), rtol=1e-6),
    "rmsprop options": Row(
        lambda o: o.rmsprop(0.01, 0.8, eps_in_sqrt=False, momentum=0.9, bias_correction=True)
    ),
    "rmsprop centered": Row(
        lambda o: o.rmsprop(0.01, centered=True, momentum=0.5, nesterov=True, eps=1e-3), rtol=1e-7
    ),
    "sm3": Row(lambda o: o.sm3(0.1)),
    "adafactor": Row(lambda o: o.adafactor(0.1, min_dim_size_to_factor=2), rtol=FLOAT32),
    "adafactor options": Row(
        lambda o: o.adafactor(
            0.1, momentum=0.9, weight_decay_rate=0.01, multiply_by_parameter_scale=False
        ),
        rtol=FLOAT32,
    ),
    "novograd": Row(lambda o: o.novograd(0.05, weight_decay=0.01)),
    "lars": Row(lambda o: o.lars(0.5, 0.01, trust_coefficient=0.1, weight_decay_mask=mask)),
    "fromage": Row(lambda o: o.fromage(0.05)),
    "adam": Row(lambda o: o.adam(0.05, 0.8, 0.95, eps=1e-6, eps_root=1e-7)),
    "nadam": Row(lambda o: o.nadam(0.05)),
    "adamw": Row(lambda o: o.adamw(0.05, weight_decay=0.1, mask=mask)),
    "nadamw": Row(lambda o: o.nadamw(0.05, weight_decay=0.1)),
    "amsgrad": Row(lambda o: o.amsgrad(0.05)),
    "amsgrad uncorrected": Row(
        lambda o: o.amsgrad(0.05, bias_correction_mu=False, bias_correction_nu=False)
    ),
    "adamax": Row(lambda o: o.adamax(0.05)),
    "adamaxw": Row(lambda o: o.adamaxw(0.05, weight_decay=0.1)),
    "adan": Row(lambda o: o.adan(0.05, weight_decay=0.01)),
    "adabelief": Row(lambda o: o.adabelief(0.05, eps=1e-8), rtol=1e-6),
    "adabelief nesterov": Row(lambda o: o.adabelief(0.05, eps=1e-8, nesterov=True), rtol=1e-6),
    "yogi": Row(lambda o: o.yogi(0.05)),
    "radam": Row(lambda o: o.radam(0.05), rtol=1e-6),
    "radam nesterov": Row(lambda o: o.radam(0.05, b2=0.9, nesterov=True), rtol=1e-6),
    "lion": Row(lambda o: o.lion(0.01)),
    "lamb": Row(lambda o: o.lamb(0.05, weight_decay=0.01)),
    "optimistic_adam": Row(lambda o: o.optimistic_adam_v2(0.02)),
    "lion smooth": Row(
        lambda o: o.chain(o.scale_by_lion(mode="smooth", smooth_beta=2.0), o.scale(-0.02))
    ),
    "lion refined": Row(lambda o: o.chain(o.scale_by_lion(mode="refined"), o.scale(-0.02))),
    "distance over gradients": Row(
        lambda o: o.chain(o.scale_by_distance_over_gradients(0.01), o.scale(-1.0)), rtol=1e-5
    ),
    "param block": Row(
        lambda o: o.chain(
            o.scale_by_param_block_norm(), o.normalize_by_update_norm(), o.scale(-0.05)
        )
    ),
    "centralize": Row(lambda o: o.chain(o.centralize(), o.sgd(0.02))),
    "ema": Row(lambda o: o.chain(o.ema(0.9), o.scale(-0.02))),
    "clip": Row(lambda o: o.chain(o.clip(0.5), o.sgd(0.05))),
    "clip_by_block_rms": Row(lambda o: o.chain(o.clip_by_block_rms(0.5), o.sgd(0.05))),
    "clip_by_global_norm": Row(lambda o: o.chain(o.clip_by_global_norm(0.5), o.adam(0.05))),
    "adaptive_grad_clip": Row(lambda o: o.chain(o.adaptive_grad_clip(0.05), o.sgd(0.05))),
    "keep nonnegative": Row(lambda o: o.chain(o.sgd(0.02), o.keep_params_nonnegative())),
    "zero_nans": Row(lambda o: o.chain(o.zero_nans(), o.sgd(0.02))),
    "partition": Row(lambda o: o.partition({"matrix": o.adam(0.05), "rest": o.sgd(0.02)}, labels)),
    "masked": Row(lambda o: o.chain(o.sgd(0.02), o.masked(o.scale(0.5), mask))),
    "freeze": Row(lambda o: o.chain(o.sgd(0.02), o.freeze(mask))),
    "flatten": Row(lambda o: o.flatten(o.adam(0.05))),
    "apply_every": Row(lambda o: o.chain(o.sgd(0.005), o.apply_every(3))),
    "multi_steps": Row(lambda o: o.MultiSteps(o.adam(0.05), 3, accumulator_dtype=None)),
    "multi_steps sum": Row(
        lambda o: o.MultiSteps(
            o.sgd(0.01), lambda step: step + 1, False,
            partial(o.skip_large_updates, max_squared_norm=400.0), accumulator_dtype=None,
        )
    ),
    "apply_if_finite": Row(lambda o: o.apply_if_finite(o.adam(0.05), 3)),
    "conditionally": Row(
        lambda o: o.chain(
            o.conditionally_transform(o.scale(0.5), lambda step: step % 2 == 0),
            o.conditionally_mask(o.sgd(0.02), lambda step: step % 3 != 0),
        )
    ),
    "inject": Row(
        lambda o: o.inject_hyperparams(o.adamw)(
            o.linear_schedule(0.05, 0.01, 40), b1=0.8, weight_decay=0.1
        ),
        rtol=FLOAT32,
    ),
    "schedule": Row(
        lambda o: o.sgd(o.warmup_cosine_decay_schedule(0.0, 0.02, 10, 40)), rtol=FLOAT32
    ),
    "decay schedule": Row(
        lambda o: o.adamw(0.05, weight_decay=o.exponential_decay(0.1, 5, 0.9)), rtol=FLOAT32
    ),
    "acprop": Row(lambda o: o.contrib.acprop(0.01, weight_decay=0.01, eps=1e-4), rtol=1e-6),
    "ademamix": Row(
        lambda o: o.contrib.ademamix(0.02, b3=o.linear_schedule(0.9, 0.99, 50), weight_decay=0.01),
        rtol=FLOAT32,
    ),
    "simplified_ademamix": Row(lambda o: o.contrib.simplified_ademamix(0.001, alpha=0.5)),
    "adopt": Row(lambda o: o.contrib.adopt(0.02), rtol=FLOAT32),
    "adopt nesterov": Row(
        lambda o: o.contrib.adopt(0.01, b2=0.99, nesterov=True, use_clipping=False)
    ),
    "madgrad": Row(lambda o: o.contrib.madgrad(0.02, weight_decay=0.01), rtol=FLOAT32),
    "cocob": Row(lambda o: o.contrib.cocob(alpha=20.0, weight_decay=0.01)),
    "mechanize": Row(lambda o: o.contrib.mechanize(o.adam(0.5), s_init=1e-2), rtol=1e-6),
    "dog": Row(lambda o: o.contrib.dog(init_step=("heuristic", 0.05))),
    "dog distance": Row(
        lambda o: o.contrib.dog(0.9, init_step=("distance", 0.1), weight_decay=0.01)
    ),
    "dog rate": Row(lambda o: o.contrib.dog(init_step=("learning_rate", 0.01))),
    "dowg": Row(lambda o: o.contrib.dowg(init_estim_sq_dist=0.1)),
    "dadapt_adamw": Row(
        lambda o: o.contrib.dadapt_adamw(estim_lr0=0.01, weight_decay=0.1), rtol=1e-5
    ),
    "prodigy": Row(lambda o: o.contrib.prodigy(estim_lr0=0.01, weight_decay=0.1), rtol=1e-5),
    "prodigy safeguard": Row(
        lambda o: o.contrib.prodigy(
            o.linear_schedule(0.1, 1.0, 10), estim_lr0=0.01, safeguard_warmup=True
        ),
        rtol=1e-4,
    ),
    "momo": Row(lambda o: o.contrib.momo(0.05, weight_decay=0.1), ("value",)),
    "momo bound": Row(
        lambda o: o.contrib.momo(0.05, lower_bound=-2.0, adapt_lower_bound=True), ("value",)
    ),
    "momo_adam": Row(lambda o: o.contrib.momo_adam(0.05, weight_decay=0.1), ("value",), 1e-6),
    "momo_adam bound": Row(
        lambda o: o.contrib.momo_adam(0.05, lower_bound=0.01, adapt_lower_bound=True),
        ("value",), 1e-6,
    ),
    "muon": Row(lambda o: o.contrib.muon(0.02), rtol=FLOAT32),
    "muon dion": Row(
        lambda o: o.contrib.muon(
            0.02, "dion", adaptive=True, preconditioning="spectral", consistent_rms=0.2,
            adam_learning_rate=0.01, weight_decay=0.1,
        ),
        rtol=FLOAT32,
    ),
    "muon aol": Row(
        lambda o: o.contrib.muon(0.02, nesterov=False, preconditioning="aol", ns_steps=3),
        rtol=FLOAT32,
    ),
    "muon schatten": Row(
        lambda o: o.contrib.muon(0.02, preconditioning="schatten", beta=0.8), rtol=2e-3
    ),
    "galore": Row(
        lambda o: o.contrib.galore(0.02, rank=1, update_proj_gap=10, weight_decay=0.1), rtol=1e-3
    ),
    "sophia": Row(
        lambda o: o.contrib.sophia(
            0.05, update_interval=3, gamma=0.5,
            hessian_diagonal_fn=o.stateless(lambda g, p: {k: abs(v) + 0.1 for k, v in g.items()}),
        )
    ),
    "normalize": Row(lambda o: o.chain(o.contrib.normalize(), o.sgd(0.05))),
    "sam": Row(
        lambda o: o.contrib.sam(o.adam(0.05), o.chain(o.contrib.normalize(), o.sgd(0.02)))
    ),
    "sam kept": Row(
        lambda o: o.contrib.sam(o.sgd(0.02), o.adam(0.01), sync_period=3, reset_state=False)
    ),
    "schedule_free": Row(
        lambda o: o.contrib.schedule_free(
            o.sgd(0.02), o.linear_schedule(0.01, 0.02, 20), weight_lr_power=1.0
        ),
        rtol=FLOAT32,
    ),
    "schedule_free_sgd": Row(
        lambda o: o.contrib.schedule_free_sgd(0.03, warmup_steps=5, weight_decay=0.01),
        rtol=FLOAT32,
    ),
    "schedule_free_adamw": Row(
        lambda o: o.contrib.schedule_free_adamw(0.05, warmup_steps=5, weight_decay=0.01),
        rtol=FLOAT32,
    ),
    "reduce_on_plateau": Row(
        lambda o: o.chain(
            o.sgd(0.02),
            o.contrib.reduce_on_plateau(0.5, 2, rtol=0.05, cooldown=2, accumulation_size=2),
        ),
        ("value",),
    ),
    "lbfgs": Row(lambda o: o.lbfgs(), SEARCH, 1e-5),
    "lbfgs, no search": Row(
        lambda o: o.lbfgs(0.1, memory_size=4, scale_init_precond=False, linesearch=None), rtol=1e-6
    ),
    "zoom": Row(
        lambda o: o.chain(o.sgd(1.0), o.scale_by_zoom_linesearch(15, max_learning_rate=2.0)),
        SEARCH, 1e-5,
    ),
    "backtracking": Row(
        lambda o: o.chain(o.sgd(1.0), o.scale_by_backtracking_linesearch(30)), SEARCH, 1e-6
    ),
    "backtracking, grad": Row(
        lambda o: o.chain(
            o.adam(0.3),
            o.scale_by_backtracking_linesearch(
                9, slope_rtol=0.1, decrease_factor=0.5, rtol=1e-3, store_grad=True
            ),
        ),
        SEARCH, 1e-6,
    ),
}  # fmt: skip


# ----------------------------------------------------------------------------------------- problems
_RNG = np.random.default_rng(0)
_CURVATURE = np.linspace(0.5, 5.0, 6).reshape(2, 3)
_X = _RNG.normal(size=(16, 3))
_Y = np.tanh(_X @ _RNG.normal(size=(3, 2)))


def quadratic(xp: Any, params: Any) -> Any:
    """Pull a matrix and a vector to places, with different strengths."""
    matrix, vector = params["matrix"], params["vector"]
    return (_CURVATURE * (matrix - 1.0) ** 2).sum() + (vector * vector * 2.0 + vector).sum()


def rosenbrock(xp: Any, params: Any) -> Any:
    """Follow a bent valley (with a slope a tenth of the usual one)."""
    x, y = params["point"][0], params["point"][1]
    return (1 - x) ** 2 + 10 * (y - x**2) ** 2


def mlp(xp: Any, params: Any) -> Any:
    """Fit a small network to 16 points."""
    hidden = xp.tanh(xp.asarray(_X) @ params["w1"] + params["b1"])
    return ((hidden @ params["w2"] + params["b2"] - _Y) ** 2).mean()


PROBLEMS: dict[str, tuple[Callable[[Any, Any], Any], dict[str, np.ndarray]]] = {
    "quadratic": (
        quadratic,
        {"matrix": np.arange(6.0).reshape(2, 3) / 3 - 0.6, "vector": np.array([1.0, -0.7, 0.3])},
    ),
    "rosenbrock": (rosenbrock, {"point": np.array([-0.5, 0.8])}),
    "mlp": (
        mlp,
        {
            "w1": _RNG.normal(size=(3, 4)) / 2, "b1": np.full(4, 0.1),
            "w2": _RNG.normal(size=(4, 2)) / 2, "b2": np.array([0.1, -0.2]),
        },
    ),
}  # fmt: skip


def extras(names: tuple[str, ...], value: Any, grads: Any, loss: Callable[[Any], Any]) -> dict:
    """Return the extra arguments of these names."""
    every = {"value": value, "grad": grads, "value_fn": loss, "obj_fn": loss, "grad_fn": None}
    return {name: every[name] for name in names}


def flat(params: Any) -> list[float]:
    """Return all numbers of a dict of arrays."""
    return [float(x) for name in sorted(params) for x in np.asarray(params[name]).ravel()]


def together(xp: Any, params: Any) -> Any:
    """Add up the three problems, as one loss of all of their parameters."""
    return sum(
        loss(xp, {name: params[name] for name in start}) for loss, start in PROBLEMS.values()
    )


TOGETHER = {name: value for _, start in PROBLEMS.values() for name, value in start.items()}


def descend(library: Any, transforms: Any, xp: Any, row: Row, compiled: bool) -> list[float]:
    """Return all parameters of the three problems together after the steps."""
    optimizer = row.make(library)

    def loss(params: Any) -> Any:
        return together(xp, params)

    def step(params: Any, state: Any) -> Any:
        value, grads = transforms.value_and_grad(loss)(params)
        extra = extras(row.extra, value, grads, loss)
        updates, state = optimizer.update(grads, state, params, **extra)
        return library.apply_updates(params, updates), state

    step = transforms.jit(step) if compiled else step
    params = {k: xp.asarray(v, dtype=xp.float64) for k, v in TOGETHER.items()}
    state = optimizer.init(params)
    for _ in range(STEPS):
        params, state = step(params, state)
    return flat(params)
