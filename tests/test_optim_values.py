"""Every optimizer steps to what optax's steps to, keeps dtypes and structure, and batches.

optim_values.json was made by record_optim.py; test_optim_parity.py compares every single step
where optax is installed.
"""

import json
from pathlib import Path

import numpy as np
import optim_rows as rows
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, optim

RECORDED = json.loads(Path(__file__).with_name("optim_values.json").read_text("utf-8"))
# Loops that try steps cost much to run in Python; the others much to compile.
COMPILED = {name for name, row in rows.ROWS.items() if row.extra == rows.SEARCH}


@pytest.mark.parametrize("name", rows.ROWS)
def test_fifty_steps_end_where_optax_ends(name: str) -> None:
    row = rows.ROWS[name]
    found = rows.descend(optim, ft, fnp, row, compiled=name in COMPILED)
    rtol = max(row.rtol, 1e-7)
    np.testing.assert_allclose(found, RECORDED[name], rtol=rtol, atol=rtol)


def test_recorded_values_are_of_these_rows() -> None:
    assert set(RECORDED) == {*rows.ROWS, "made by"}


def started(name: str, dtype):
    row = rows.ROWS[name]
    optimizer = row.make(optim)
    params = {"matrix": fnp.ones((4, 3), dtype), "vector": fnp.full(3, 0.5, dtype)}
    return row, optimizer, params, optimizer.init(params)


def loss(params):
    return sum((x.astype(fnp.float32) ** 2).sum() for x in ft.tree.leaves(params))


def step(row, optimizer, params, state):
    value, grads = ft.value_and_grad(loss)(params)
    extra = rows.extras(row.extra, value, grads, loss)
    updates, state = optimizer.update(grads, state, params, **extra)
    return updates, optim.apply_updates(params, updates), state


def avals(of):
    of = optim.tree.unwrap_random_key_data(of)
    return [str(ft.typeof(x)) for x in ft.tree.leaves(of)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", rows.ROWS)
def test_types_stay(name: str, dtype: str) -> None:
    """So one program does for all steps, in a scan too."""
    row, optimizer, params, state = started(name, getattr(fnp, dtype))
    for _ in range(2):
        _, new_params, new_state = step(row, optimizer, params, state)
        assert ft.tree.structure(new_state) == ft.tree.structure(state)
        assert avals(new_state) == avals(state)
        assert avals(new_params) == avals(params)
        params, state = new_params, new_state
    assert all(np.isfinite(np.asarray(x, np.float32)).all() for x in params.values())


@pytest.mark.parametrize("name", sorted(set(rows.ROWS) - COMPILED))
def test_batches_equal_loops(name: str) -> None:
    row, optimizer, _, _ = started(name, fnp.float32)
    rng = np.random.default_rng(1)
    batch = {
        "matrix": fnp.asarray(rng.normal(size=(2, 4, 3)), dtype=fnp.float32),
        "vector": fnp.asarray(rng.normal(size=(2, 3)), dtype=fnp.float32),
    }

    def two_steps(params):
        state = optimizer.init(params)
        for _ in range(2):
            _, params, state = step(row, optimizer, params, state)
        return params

    together = ft.vmap(two_steps)(batch)
    for k in range(2):
        alone = two_steps({name: x[k] for name, x in batch.items()})
        for key, value in alone.items():
            np.testing.assert_allclose(together[key][k], value, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", sorted(rows.ROWS))
def test_nothing_to_optimize(name: str) -> None:
    row = rows.ROWS[name]
    optimizer = row.make(optim)
    state = optimizer.init({})
    extra = rows.extras(row.extra, fnp.float32(0.0), {}, lambda params: fnp.float32(0.0))
    updates, new = optimizer.update({}, state, {}, **extra)
    assert updates == {}
    assert ft.tree.structure(new) == ft.tree.structure(state)


@pytest.mark.parametrize("name", sorted(rows.ROWS))
def test_what_has_no_gradient_stays(name: str) -> None:
    """A model of which only a part is trained: None in the gradients."""
    if name in ("partition", "freeze", "masked", "lars", "adamw", "sophia"):
        pytest.skip("the row's own functions look at every parameter")
    row, optimizer, params, _ = started(name, fnp.float32)
    params = {**params, "buffer": fnp.arange(4.0), "nothing": None}
    state = optimizer.init({**params, "buffer": None})
    value, grads = ft.value_and_grad(lambda p: loss({**p, "buffer": 0 * p["buffer"]}))(params)
    grads = {**grads, "buffer": None}
    updates, new = optimizer.update(
        grads, state, params, **rows.extras(row.extra, value, grads, loss)
    )
    assert updates["buffer"] is None
    moved = optim.apply_updates(params, updates)
    assert moved["buffer"] is params["buffer"]
    assert moved["nothing"] is None
    assert ft.tree.structure(new) == ft.tree.structure(state)


@pytest.mark.parametrize("name", ["adamw", "inject", "multi_steps", "sam", "muon"])
def test_one_program_and_scans(name: str) -> None:
    row, optimizer, params, state = started(name, fnp.float32)
    traces = []

    @ft.jit
    def compiled(params, state):
        traces.append(1)
        return step(row, optimizer, params, state)[1:]

    looped = compiled(params, state)
    for _ in range(4):
        looped = compiled(*looped)
    assert len(traces) == 1
    scanned = ft.jit(
        lambda *c: lax.scan(lambda c, _: (step(row, optimizer, *c)[1:], None), c, None, length=5)[0]
    )(params, state)
    for key, value in scanned[0].items():
        np.testing.assert_allclose(value, looped[0][key], rtol=1e-5, atol=1e-6)
