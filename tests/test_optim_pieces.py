"""The pieces around optimizers: trees, wrappers, measurements, assignment, and what is refused."""

import re
from functools import partial

import numpy as np
import pytest
import scipy.optimize

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx, optim, random


# -------------------------------------------------------------------------------------------- trees
def test_tree_arithmetic() -> None:
    x = {"a": fnp.array([1.0, -2.0]), "b": None, "c": [fnp.array(3.0)]}
    y = {"a": fnp.array([4.0, 0.5]), "b": None, "c": [fnp.array(2.0)]}
    t = optim.tree
    got = t.add_scale(t.mul(t.add(x, y), t.sub(x, y)), 2.0, t.div(x, y))
    np.testing.assert_allclose(got["a"], [-14.5, -4.25])
    np.testing.assert_allclose(got["c"][0], 8.0)
    assert got["b"] is None
    assert t.size(x) == 3
    assert float(t.sum(x)) == 2.0
    assert float(t.max(x)) == 3.0
    assert float(t.min(x)) == -2.0
    assert float(t.vdot(x, y)) == 9.0
    assert float(t.norm(x, ord="inf")) == 3.0
    assert float(t.norm(x, squared=True)) == 14.0
    assert bool(t.allclose(x, t.scale(1.0, x)))
    assert not bool(t.allclose(x, y))
    assert float(t.norm({})) == float(t.sum({})) == 0.0
    assert t.dtype({"h": fnp.ones(1, fnp.float16), "f": fnp.ones(1)}, "promote") == np.float32
    with pytest.raises(ValueError, match=re.escape("the leaf at ['h'] is float16")):
        t.dtype({"f": fnp.ones(1), "h": fnp.ones(1, fnp.float16)})
    with pytest.raises(ValueError, match="ord is 1, 2 or inf, not 3"):
        t.norm(x, ord=3)


def test_state_by_name() -> None:
    optimizer = optim.chain(optim.clip(1.0), optim.inject_hyperparams(optim.adam)(0.1))
    state = optimizer.init({"w": fnp.ones(2)})
    assert float(optim.tree.get(state, "learning_rate")) == np.float32(0.1)
    assert optim.tree.get(state, "nothing", default=7) == 7
    assert isinstance(optim.tree.get(state, "ScaleByAdamState"), optim.ScaleByAdamState)
    new = optim.tree.set(state, learning_rate=fnp.float32(0.5))
    assert float(optim.tree.get(new, "learning_rate")) == 0.5
    assert ft.tree.structure(new) == ft.tree.structure(state)
    with pytest.raises(KeyError, match="2 values of the name 'count'"):
        optim.tree.get(state, "count")
    inner = optim.tree.get(
        state, "count", filtering=lambda path, value: str(path[-1]) == "ScaleByAdamState.count"
    )
    assert int(inner) == 0
    with pytest.raises(KeyError, match="nothing of the name 'rate'"):
        optim.tree.set(state, rate=1.0)


@pytest.mark.parametrize(
    "optimizer",
    [
        optim.adamw(0.1),
        optim.chain(optim.masked(optim.trace(0.9), {"w": True, "b": False}), optim.ema(0.5)),
        optim.partition({"a": optim.adam(0.1), "b": optim.sgd(0.1)}, {"w": "a", "b": "b"}),
        optim.MultiSteps(optim.lbfgs(), 2),
        optim.contrib.prodigy(),
    ],
)
def test_map_over_what_is_like_the_parameters(optimizer) -> None:
    params = {"w": fnp.ones((2, 3)), "b": fnp.ones(3)}
    state = optimizer.init(params)
    marked = optim.tree_map_params(
        optimizer, lambda x: "param", state, transform_non_params=lambda x: "other"
    )
    seen = ft.tree.leaves(marked)
    assert len(seen) == len(ft.tree.leaves(state))
    assert {"param"} <= set(seen) <= {"param", "other"}


# ----------------------------------------------------------------------------------------- wrappers
def test_hyperparameters_change_without_another_program() -> None:
    optimizer = optim.inject_hyperparams(optim.sgd)(0.5, momentum=0.9)
    traces = []

    @ft.jit
    def update(grads, state):
        traces.append(1)
        return optimizer.update(grads, state)

    state = optimizer.init([fnp.zeros(1)])
    updates, state = update([fnp.ones(1)], state)
    np.testing.assert_allclose(updates[0], [-0.5])
    state.hyperparams["learning_rate"] = fnp.float32(2.0)
    updates, state = update([fnp.ones(1)], state)
    np.testing.assert_allclose(updates[0], [-3.8])
    assert len(traces) == 1
    assert set(state.hyperparams) == {"learning_rate", "momentum"}


def test_stateful_schedules_see_extra_arguments() -> None:
    class Halving:
        """Halve the rate whenever the loss is above 1."""

        def init(self):
            return fnp.float32(1.0)

        def update(self, state, **extra):
            return fnp.where(extra["loss"] > 1, state / 2, state)

        def __call__(self, state, **extra):
            return state

    optimizer = optim.inject_hyperparams(optim.sgd)(Halving())
    state = optimizer.init([fnp.zeros(1)])
    seen = []
    for loss in (0.5, 2.0, 2.0, 0.5):
        updates, state = optimizer.update([fnp.ones(1)], state, loss=fnp.float32(loss))
        seen.append(-float(updates[0][0]))
    assert seen == [1.0, 1.0, 0.5, 0.25]


def test_gradients_of_hyperparameters() -> None:
    def after(rate):
        optimizer = optim.inject_hyperparams(optim.adam)(rate)
        x = fnp.float32(1.0)
        state = optimizer.init(x)
        for _ in range(2):
            updates, state = optimizer.update(2 * x, state)
            x = x + updates
        return x

    h = 1e-3
    numeric = (float(after(0.1 + h)) - float(after(0.1 - h))) / (2 * h)
    np.testing.assert_allclose(ft.grad(after)(0.1), numeric, rtol=1e-3)


def test_accumulation_equals_one_large_batch() -> None:
    x = random.normal(random.key(0), (12, 3))

    def grad(w, x):
        return ft.grad(lambda w: ((x @ w - 1) ** 2).mean())(w)

    inner = optim.adamw(0.1)
    optimizer = optim.MultiSteps(inner, 3)
    w = slow = fnp.zeros(3)
    state, whole = optimizer.init(w), inner.init(w)
    for _ in range(4):
        for part in range(3):
            updates, state = optimizer.update(grad(w, x[4 * part : 4 * part + 4]), state, w)
            assert bool(optimizer.has_updated(state)) == (part == 2)
            w = optim.apply_updates(w, updates)
        updates, whole = inner.update(grad(slow, x), whole, slow)
        slow = optim.apply_updates(slow, updates)
        np.testing.assert_allclose(w, slow, rtol=1e-5, atol=1e-6)


def test_bad_gradients_are_left_out() -> None:
    skip = optim.MultiSteps(optim.sgd(1.0), 2, should_skip_update_fn=optim.skip_not_finite)
    safe = optim.apply_if_finite(optim.sgd(1.0), 1)
    state, other = skip.init(fnp.zeros(1)), safe.init(fnp.zeros(1))
    seen, passed = [], []
    for g in (1.0, np.nan, 3.0, np.inf, np.inf, np.inf):
        updates, state = skip.update(fnp.array([g]), state)
        seen.append(float(updates[0]))
        assert bool(state.skip_state["should_skip"]) != np.isfinite(g)
        updates, other = safe.update(fnp.array([g]), other)
        passed.append(float(updates[0]))
    assert seen == [0.0, 0.0, -2.0, 0.0, 0.0, 0.0]
    assert passed == [-1.0, 0.0, -3.0, 0.0, -np.inf, -np.inf]
    assert int(other.total_notfinite) == 4
    assert int(other.notfinite_count) == 3


def test_masks_are_prefixes_functions_and_nested() -> None:
    params = {"layer": {"w": fnp.ones((2, 2)), "b": fnp.ones(2)}, "head": fnp.ones(3)}
    t = optim.masked(optim.scale(-1.0), {"layer": True, "head": False})
    updates, _ = t.update(params, t.init(params))
    assert float(updates["layer"]["b"][0]) == -1.0
    assert float(updates["head"][0]) == 1.0
    matrices = partial(ft.tree.map, lambda p: p.ndim > 1)
    inner = optim.masked(optim.adam(0.1), matrices)
    t = optim.masked(inner, {"layer": True, "head": False})
    state = t.init(params)
    assert len(ft.tree.leaves(state)) == 3  # count, mu and nu of one matrix
    updates, _ = t.update(params, state, params)
    np.testing.assert_allclose(updates["layer"]["w"], -0.1, rtol=1e-5)
    np.testing.assert_allclose(updates["layer"]["b"], 1.0)


def test_models_are_parameters() -> None:
    model = nnx.Linear(3, 2, key=random.key(0))
    optimizer = optim.adamw(0.1)
    state = optimizer.init(model)
    grads = ft.grad(lambda m: (m(fnp.ones((4, 3))) ** 2).sum())(model)
    updates, _ = optimizer.update(grads, state, model)
    assert type(optim.apply_updates(model, updates)) is nnx.Linear


class Net(nnx.Module):
    """A layer, and buffers, one of them an integer."""

    linear: nnx.Linear
    norm: nnx.BatchNorm1d

    def __init__(self, key):
        self.linear = nnx.Linear(3, 4, key=key)
        self.norm = nnx.BatchNorm1d(4)

    def __call__(self, x):
        return self.norm(self.linear(x))


WITH_BUFFERS = {
    "adamw": optim.adamw(0.1, mask=partial(ft.tree.map, lambda p: p.ndim > 1)),
    "muon": optim.contrib.muon(0.1),
    "partition": optim.partition(
        {1: optim.sgd(0.1), 2: optim.adam(0.1)}, partial(ft.tree.map, lambda p: p.ndim)
    ),
    "lbfgs": optim.lbfgs(),
    "sam": optim.contrib.sam(optim.sgd(0.1), optim.sgd(0.1)),
    "schedule_free": optim.contrib.schedule_free_adamw(),
}


@pytest.mark.parametrize("name", WITH_BUFFERS)
def test_buffers_of_models_stay(name: str) -> None:
    optimizer, model = WITH_BUFFERS[name], Net(random.key(0))
    x = random.normal(random.key(1), (8, 3))

    def loss(model):
        return ((model(x) - 1) ** 2).mean()

    state = optimizer.init(nnx.parameters(model))
    first = float(loss(model))
    for _ in range(2):
        value, grads = nnx.value_and_grad(loss)(model)
        extra = {"value": value, "grad": grads, "value_fn": loss} if name == "lbfgs" else {}
        updates, state = optimizer.update(grads, state, model, **extra)
        new = optim.apply_updates(model, updates)
        assert new.norm.num_batches_tracked is model.norm.num_batches_tracked
        assert ft.tree.structure(new) == ft.tree.structure(model)
        model = new
    assert name == "sam" or float(loss(model)) < first


def test_l1_finds_zeros() -> None:
    optimizer = optim.chain(optim.add_l1_weights(0.5), optim.sgd(0.1))
    x = fnp.array([2.0, 0.3])
    state = optimizer.init(x)
    for _ in range(100):
        updates, state = optimizer.update(x - fnp.array([2.0, 0.3]), state, x)
        x = optim.apply_updates(x, updates)
    np.testing.assert_allclose(x, [1.5, 0.0], atol=0.06)


def test_measurements() -> None:
    t = optim.monitor(
        {"norm": optim.global_norm, "mean": optim.measure_with_ema(optim.tree.max, 0.5)}
    )
    grads = {"w": fnp.array([3.0, 4.0])}
    state = t.init(grads)
    first = ft.tree.structure(state)
    for factor in (1.0, 3.0):
        updates, state = t.update({"w": factor * grads["w"]}, state)
    assert ft.tree.structure(state) == first
    np.testing.assert_allclose(updates["w"], [9.0, 12.0])
    np.testing.assert_allclose(state.measurements["norm"], 15.0)
    np.testing.assert_allclose(state.measurements["mean"], (0.25 * 4 + 0.5 * 12) / 0.75)


@pytest.mark.parametrize("kind", ["sum", "mean", "concat"])
def test_parts_of_batches(kind: str) -> None:
    def f(w, x, *, y):
        value = w * x.T - y
        return {"sum": value.sum(), "mean": value.mean(), "concat": value.T}[kind]

    x, y = random.normal(random.key(0), (6, 2)), random.normal(random.key(1), (2, 6))
    parted = optim.microbatch(f, 1, 3, kind, argnames="y", in_axes=(0, 1))
    np.testing.assert_allclose(ft.jit(parted)(2.0, x, y=y), f(2.0, x, y=y), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"of 4 must divide one batch size .* \[6\]"):
        optim.microbatch(f, 1, 4, kind)(2.0, x, y=y)


def test_complex_parameters_as_real_ones() -> None:
    t = optim.contrib.split_real_and_imaginary(optim.scale_by_adam())
    z = fnp.array([3 + 4j, -1j])
    pair = optim.scale_by_adam()
    state, state_of_pair = t.init(z), pair.init((fnp.real(z), fnp.imag(z)))
    for _ in range(3):
        moved, state = t.update(z, state, z)
        (re_, im), state_of_pair = pair.update((fnp.real(z), fnp.imag(z)), state_of_pair)
        np.testing.assert_allclose(moved, np.asarray(re_) + 1j * np.asarray(im), rtol=1e-6)


# ---------------------------------------------------------------------------------- more functions
@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (3, 6), (7, 2), (12, 12)])
def test_assignment_equals_scipy(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    costs = [rng.normal(size=shape), rng.integers(0, 3, size=shape).astype(float)]
    solve = ft.jit(optim.assignment.hungarian_algorithm)
    for cost in costs:
        i, j = map(np.asarray, solve(fnp.asarray(cost)))
        rows, columns = scipy.optimize.linear_sum_assignment(cost)
        assert len(set(i)) == len(set(j)) == len(i) == len(rows)
        np.testing.assert_allclose(cost[i, j].sum(), cost[rows, columns].sum(), rtol=1e-10)
    i, j = ft.vmap(optim.assignment.hungarian_algorithm)(fnp.asarray(np.stack(costs)))
    assert i.shape == j.shape == (2, min(shape))


def test_assignment_of_nothing_and_its_derivative() -> None:
    i, j = optim.assignment.hungarian_algorithm(fnp.zeros((0, 3)))
    assert i.shape == j.shape == (0,)
    cost = fnp.array([[1.0, 5.0], [5.0, 1.0]])
    slope = ft.grad(lambda c: c[optim.assignment.hungarian_algorithm(c)].sum())(cost)
    np.testing.assert_array_equal(slope, np.eye(2))


def test_least_squares_without_negatives_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(8, 4)), rng.normal(size=8)
    np.testing.assert_allclose(
        optim.nnls(a, b, 2000), scipy.optimize.nnls(a, b)[0], rtol=1e-6, atol=1e-8
    )


def test_power_iteration() -> None:
    a = np.array([[2.0, 1.0, 0.0], [1.0, -4.0, 0.5], [0.0, 0.5, 1.0]])
    values, vectors = np.linalg.eigh(a)
    k = np.argmax(np.abs(values))
    value, vector = optim.power_iteration(fnp.asarray(a), num_iters=500)
    np.testing.assert_allclose(value, values[k], rtol=1e-6)
    np.testing.assert_allclose(abs(np.asarray(vector) @ vectors[:, k]), 1.0, rtol=1e-6)
    by_product, _ = optim.power_iteration(
        lambda p: {"x": fnp.asarray(a) @ p["x"]}, v0={"x": fnp.ones(3, fnp.float64)}, num_iters=500
    )
    np.testing.assert_allclose(by_product, values[k], rtol=1e-6)


def test_mean_over_noise_is_a_softmax() -> None:
    def argmax(x):
        return (x == x.max()).astype(x.dtype)

    f = optim.perturbations.make_perturbed_fun(argmax, num_samples=20_000, sigma=1.0)
    x = fnp.array([0.3, -0.5, 1.0])
    np.testing.assert_allclose(f(random.key(0), x), ft.nn.softmax(x), atol=0.02)
    slope = ft.jacobian(lambda x: f(random.key(0), x))(x)
    np.testing.assert_allclose(slope, ft.jacobian(ft.nn.softmax)(x), atol=0.05)


def test_schedule_free_average() -> None:
    """The averaged parameters are the mean of the optimizer's own, for a constant rate."""
    optimizer = optim.contrib.schedule_free_sgd(0.1, b1=0.9)
    y = fnp.array([1.0])
    state = optimizer.init(y)
    own = []
    for _ in range(5):
        updates, state = optimizer.update(2 * y, state, y)
        y = optim.apply_updates(y, updates)
        own.append(float(state.z[0]))
    found = optim.contrib.schedule_free_eval_params(state, y)
    np.testing.assert_allclose(found, [np.mean(own)], rtol=1e-4)


def test_private_gradients_have_noise_of_the_right_size() -> None:
    t = optim.contrib.differentially_private_aggregate(2.0, 3.0, key=1)
    noisy, state = t.update([fnp.zeros((4, 10_000))], t.init(None))
    np.testing.assert_allclose(np.std(np.asarray(noisy[0])), 2.0 * 3.0 / 4, rtol=0.03)
    again, _ = t.update([fnp.zeros((4, 10_000))], state)
    assert not np.array_equal(noisy[0], again[0])


# ------------------------------------------------------------------------------------------ refused
PARAMS = {"w": fnp.ones((2, 3)), "b": [fnp.ones(3)]}


def update(optimizer, grads=PARAMS, state=None, params=PARAMS, **extra):
    optimizer.update(grads, optimizer.init(PARAMS) if state is None else state, params, **extra)


BAD = [
    (lambda: optim.sgd(-0.1), ValueError, "takes learning_rate at least 0; it was given -0.1"),
    (lambda: optim.adam(float("nan")), ValueError, "learning_rate at least 0; it was given nan"),
    (lambda: optim.clip(-1.0), ValueError, "clip takes max_delta at least 0; it was given -1.0"),
    (lambda: optim.rmsprop(0.1, decay=1.0), ValueError, "scale_by_rms takes decay in [0, 1)"),
    (lambda: optim.pytorch.adam(lr=-1.0), ValueError, "adam takes lr at least 0"),
    (lambda: optim.pytorch.sgd(0.1, nesterov=True), ValueError, "a momentum above 0"),
    (lambda: optim.chain(optim.sgd(0.1), 0.5), TypeError, "got float: 0.5"),
    (
        lambda: update(optim.adam(0.1), {"w": PARAMS["w"]}),
        ValueError, "at the root it should be a dict with keys ['w'], but is a dict with keys",
    ),
    (
        lambda: update(optim.adam(0.1), {**PARAMS, "b": [fnp.ones(3), fnp.ones(1)]}),
        ValueError, "at key path ['b'] it should be a list of length 2, but is a list of length 1",
    ),
    (
        lambda: update(optim.adam(0.1), state=optim.sgd(0.1).init(PARAMS)),
        TypeError,
        "scale_by_adam was given a state of type EmptyState, where it takes ScaleByAdamState",
    ),
    (lambda: update(optim.adam(0.1), state=(1, 2, 3)), ValueError, "a chain of 2 transformations "),
    (lambda: update(optim.adam(0.1), state=7), ValueError, "was given a state int"),
    (
        lambda: update(optim.contrib.prodigy(), state=optim.EmptyState()),
        TypeError, "prodigy was given a state of type EmptyState",
    ),
    (
        lambda: optim.apply_updates(PARAMS, {"w": fnp.ones(3), "b": [fnp.ones(3)]}),
        ValueError, "updates['w'] has shape (3,), but the parameter there has shape (2, 3)",
    ),
    (
        lambda: update(optim.trace(0.9), state=optim.TraceState({"w": None, "b": [fnp.ones(3)]})),
        ValueError, "there is a gradient at updates['w'], but None in the parameters or in the",
    ),
    (lambda: update(optim.lamb(0.1), params=None), ValueError, "needs the parameters: call "),
    (
        lambda: update(optim.contrib.momo()),
        ValueError, "momo needs the loss: call update(grads, state, params, value=loss)",
    ),
    (lambda: update(optim.lbfgs()), ValueError, "value_fn=f), with f the loss as a function"),
    (
        lambda: update(optim.lbfgs(), value_fn=lambda p: 0.0, batch=1),
        TypeError, "was given the arguments batch, which value_fn does not take; it takes p",
    ),
    (lambda: update(optim.contrib.sophia(0.1)), ValueError, "needs the loss: call update(grads, "),
    (
        lambda: optim.partition({"a": optim.sgd(0.1)}, {"w": "a", "b": "c"}).init(PARAMS),
        ValueError, "parameters labelled 'c', but transformations only for 'a'",
    ),
    (
        lambda: optim.inject_hyperparams(optim.sgd, static_args="lr"),
        ValueError, "static_args ['lr'] are no arguments of sgd",
    ),
    (lambda: optim.named_chain(("a", optim.sgd(1.0)), ("a", optim.sgd(1.0))), ValueError, "names"),
    (lambda: optim.MultiSteps(optim.sgd(1.0), 0), ValueError, "at least 1 gradient to a step"),
    (lambda: optim.lookahead(optim.sgd(1.0), 0, 0.5), ValueError, "sync_period of at least 1"),
    (
        lambda: optim.lookahead(optim.sgd(1.0), 2, 0.5).update(
            PARAMS, optim.LookaheadState((), 0), PARAMS
        ),
        TypeError, "takes LookaheadParams(fast=..., slow=...)",
    ),
    (
        lambda: optim.per_example_global_norm_clip([fnp.ones((2, 3)), fnp.ones(3)], 1.0),
        ValueError, "it was given arrays of shapes (2, 3), (3,)",
    ),
    (lambda: optim.contrib.scale_by_muon(preconditioning="x"), ValueError, "preconditioning is "),
    (
        lambda: optim.contrib.scale_by_muon().update(
            [fnp.ones(3)], optim.contrib.scale_by_muon().init([fnp.ones(3)])
        ),
        ValueError, "muon works on arrays of rank 2 and more, not on shape (3,)",
    ),
    (lambda: optim.contrib.reduce_on_plateau(factor=2.0), ValueError, "a factor in (0, 1)"),
    (lambda: optim.join_schedules([abs, abs], []), ValueError, "2 schedules and 0 boundaries"),
    (lambda: optim.cosine_decay_schedule(1.0, 0), ValueError, "takes decay_steps above 0"),
    (
        lambda: optim.warmup_cosine_decay_schedule(0.0, 1.0, 10, 10),
        ValueError, "must be more; it was given warmup_steps=10 and decay_steps=10",
    ),
    (lambda: optim.assignment.hungarian_algorithm(fnp.ones(3)), ValueError, "not shape (3,)"),
    (lambda: optim.nnls(fnp.ones((2, 2)), fnp.ones(3), 1), ValueError, "given (2, 2) and (3,)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), BAD)
def test_what_is_refused(call, error, text) -> None:
    with pytest.raises(error, match=re.escape(text)):
        call()
