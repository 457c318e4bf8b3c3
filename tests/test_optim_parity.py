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


# ----------------------------------------------------------------------------------------- PyTorch
RMS = {"lr": 0.01, "alpha": 0.9, "weight_decay": 0.1}
TORCH = {  # PyTorch's class, the settings of both
    "sgd": ("SGD", {"lr": 0.01, "weight_decay": 0.1}),
    "sgd damped": ("SGD", {"lr": 0.01, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    "sgd nesterov": ("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "adam": ("Adam", {"lr": 0.05, "weight_decay": 0.1}),
    "adam amsgrad": ("Adam", {"lr": 0.05, "amsgrad": True, "betas": (0.8, 0.9)}),
    "adamw": ("AdamW", {"lr": 0.05, "weight_decay": 0.1}),
    "adamw amsgrad": ("AdamW", {"lr": 0.05, "amsgrad": True}),
    "nadam": ("NAdam", {"lr": 0.05, "weight_decay": 0.1}),
    "nadam decoupled": (
        "NAdam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}
    ),
    "radam": ("RAdam", {"lr": 0.05, "weight_decay": 0.1}),
    "radam decoupled": (
        "RAdam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}
    ),
    "adagrad": ("Adagrad", {"lr": 0.1, "lr_decay": 0.05, "weight_decay": 0.1}),
    "adadelta": ("Adadelta", {"lr": 0.9, "rho": 0.8, "weight_decay": 0.1}),
    "adamax": ("Adamax", {"lr": 0.05, "weight_decay": 0.1}),
    "rmsprop": ("RMSprop", RMS),
    "rmsprop centered": ("RMSprop", {**RMS, "momentum": 0.9, "centered": True, "eps": 1e-4}),
    "rprop": ("Rprop", {"lr": 0.01, "etas": (0.4, 1.3), "step_sizes": (1e-4, 0.1)}),
    "asgd": ("ASGD", {"lr": 0.02, "lambd": 0.01, "t0": 10, "weight_decay": 0.1}),
    "adafactor": ("Adafactor", {"lr": 0.05, "weight_decay": 0.1}),
}  # fmt: skip


@pytest.mark.parametrize("problem", rows.PROBLEMS)
@pytest.mark.parametrize("name", TORCH)
def test_every_step_equals_torch(name: str, problem: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    torch_name, settings = TORCH[name]
    loss_of, start = rows.PROBLEMS[problem]
    ours = getattr(optim.pytorch, torch_name.lower())(**settings)

    @ft.jit
    def step(params, state):
        grads = ft.grad(lambda p: loss_of(fnp, p))(params)
        updates, state = ours.update(grads, state, params)
        return grads, optim.apply_updates(params, updates), state

    params = {k: fnp.asarray(v, dtype=fnp.float64) for k, v in start.items()}
    state = ours.init(params)
    theirs = {k: torch.tensor(v) for k, v in start.items()}
    optimizer = getattr(torch.optim, torch_name)(list(theirs.values()), **settings)
    for _ in range(rows.STEPS):
        grads, params, state = step(params, state)
        for k, tensor in theirs.items():
            tensor.grad = torch.tensor(np.asarray(grads[k]))
        optimizer.step()
        for k, tensor in theirs.items():
            # PyTorch's ASGD keeps its step size in float32.
            rtol = 1e-5 if torch_name == "ASGD" else 1e-7
            np.testing.assert_allclose(params[k], tensor.numpy(), rtol=rtol, atol=1e-8)
    if torch_name == "ASGD":
        for k, tensor in theirs.items():
            mean = optimizer.state[tensor]["ax"]
            np.testing.assert_allclose(state.ax[k], mean.numpy(), rtol=1e-5, atol=1e-8)


def test_sparse_adam_equals_torch() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    ours = optim.sparse_adam(0.1)
    params = fnp.ones((4, 2), fnp.float64)
    state = ours.init(params)
    tensor = torch.ones((4, 2), dtype=torch.float64)
    theirs = torch.optim.SparseAdam([tensor], lr=0.1)
    rng = np.random.default_rng(0)
    for _ in range(20):
        grad = rng.normal(size=(4, 2)) * (rng.random((4, 1)) < 0.5)
        tensor.grad = torch.tensor(grad).to_sparse(1)
        theirs.step()
        updates, state = ours.update(fnp.asarray(grad), state, params)
        params = optim.apply_updates(params, updates)
        np.testing.assert_allclose(params, tensor.numpy(), rtol=1e-12)


# ------------------------------------------------------------------------------------ other pieces
def test_lookahead_equals_optax() -> None:
    optax = pytest.importorskip("optax", reason="compares with optax")
    jnp = pytest.importorskip("jax.numpy")
    for reset in (False, True):
        seen = []
        for o, xp in ((optim, fnp), (optax, jnp)):
            t = o.lookahead(o.adam(0.1), 3, 0.4, reset_state=reset)
            params = o.LookaheadParams.init_synced({"w": xp.asarray([1.0, -2.0], dtype="float32")})
            state = t.init(params)
            for _ in range(10):
                updates, state = t.update({"w": 2 * params.fast["w"]}, state, params)
                params = o.apply_updates(params, updates)
            seen.append(np.stack([params.fast["w"], params.slow["w"]]))
        np.testing.assert_allclose(*seen, rtol=1e-5)


def test_noise_equals_optax() -> None:
    optax = pytest.importorskip("optax", reason="compares with optax")
    jax = pytest.importorskip("jax")
    seen = []
    for o, library, xp in ((optim, ft, fnp), (optax, jax, jax.numpy)):
        t = o.add_noise(0.5, 0.3, key=library.random.key(3))
        grads = {"w": xp.ones((2, 3)), "b": xp.ones(2)}
        state = t.init(grads)
        for _ in range(3):
            updates, state = t.update(grads, state)
        private = o.contrib.differentially_private_aggregate(1.0, 0.5, library.random.key(1))
        noisy, _ = private.update(grads | {"w": xp.ones((2, 3)), "b": xp.ones(2)}, private.init(0))
        seen.append(np.concatenate([np.ravel(x) for x in (*updates.values(), *noisy.values())]))
    np.testing.assert_allclose(*seen, rtol=1e-5)


def test_per_example_clipping_equals_optax() -> None:
    optax = pytest.importorskip("optax", reason="compares with optax")
    jnp = pytest.importorskip("jax.numpy")
    rng = np.random.default_rng(0)
    grads = {
        "w": rng.normal(size=(5, 2, 3)).astype("f4"),
        "b": rng.normal(size=(5, 2)).astype("f4"),
    }
    ours = {k: fnp.asarray(v) for k, v in grads.items()}
    theirs = {k: jnp.asarray(v) for k, v in grads.items()}
    for f in (
        lambda o, g: o.per_example_global_norm_clip(g, 2.0),
        lambda o, g: o.per_example_layer_norm_clip(g, 2.0),
        lambda o, g: o.per_example_layer_norm_clip(g, 2.0, uniform=False),
    ):
        got, want = (ft.tree.leaves(f(o, g)) for o, g in ((optim, ours), (optax, theirs)))
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, np.asarray(b), rtol=1e-5)


PROJECTIONS = {
    "non_negative": lambda o, x, a: o.projection_non_negative(x),
    "box": lambda o, x, a: {k: o.projection_box(v, -0.5, 0.7) for k, v in x.items()},
    "hypercube": lambda o, x, a: {k: o.projection_hypercube(v, 0.8) for k, v in x.items()},
    "simplex": lambda o, x, a: o.projection_simplex(x, 1.5),
    "l1_sphere": lambda o, x, a: o.projection_l1_sphere(x, 1.5),
    "l1_ball": lambda o, x, a: o.projection_l1_ball(x, 1.5),
    "l1_ball inside": lambda o, x, a: o.projection_l1_ball(x, 99.0),
    "l2_sphere": lambda o, x, a: o.projection_l2_sphere(x, 1.5),
    "l2_ball": lambda o, x, a: o.projection_l2_ball(x, 1.5),
    "linf_ball": lambda o, x, a: o.projection_linf_ball(x, 0.4),
    "vector": lambda o, x, a: o.projection_vector(x, a),
    "hyperplane": lambda o, x, a: o.projection_hyperplane(x, a, 0.3),
    "halfspace": lambda o, x, a: o.projection_halfspace(x, a, -0.3),
}


@pytest.mark.parametrize("name", PROJECTIONS)
def test_projections_equal_optax(name: str) -> None:
    optax = pytest.importorskip("optax", reason="compares with optax")
    jax = pytest.importorskip("jax")
    x = {"a": np.array([[0.3, -1.2], [0.9, 0.1]], "f4"), "b": np.array([0.5, -0.05, 1.1], "f4")}
    n = {"a": np.array([[1.0, 0.5], [-0.3, 0.2]], "f4"), "b": np.array([0.1, 0.4, -0.7], "f4")}
    f = PROJECTIONS[name]

    def ours(x):
        return f(optim.projections, x, {k: fnp.asarray(v) for k, v in n.items()})

    def theirs(x):
        return f(optax.projections, x, {k: jax.numpy.asarray(v) for k, v in n.items()})

    got = ours({k: fnp.asarray(v) for k, v in x.items()})
    want = theirs({k: jax.numpy.asarray(v) for k, v in x.items()})
    for key in x:
        np.testing.assert_allclose(got[key], np.asarray(want[key]), rtol=1e-5, atol=1e-6)
    slopes = ft.grad(lambda x: sum((v**3).sum() for v in ours(x).values()))(
        {k: fnp.asarray(v) for k, v in x.items()}
    )
    expected = jax.grad(lambda x: sum((v**3).sum() for v in theirs(x).values()))(
        {k: jax.numpy.asarray(v) for k, v in x.items()}
    )
    for key in x:
        np.testing.assert_allclose(slopes[key], np.asarray(expected[key]), rtol=2e-4, atol=1e-5)


def test_hutchinson_draws_optax_signs() -> None:
    optax = pytest.importorskip("optax", reason="compares with optax")
    jax = pytest.importorskip("jax")
    matrix = np.random.default_rng(0).normal(size=(4, 4)).astype("f4")
    seen = []
    for o, library, xp in ((optim, ft, fnp), (optax, jax, jax.numpy)):
        t = o.contrib.hutchinson_estimator_diag_hessian(library.random.PRNGKey(5))
        x, a = xp.ones(4), xp.asarray(matrix)
        seen.append(t.update(x, t.init(x), x, obj_fn=lambda x, a=a: x @ a @ x)[0])
    np.testing.assert_allclose(*map(np.asarray, seen), rtol=1e-5)
