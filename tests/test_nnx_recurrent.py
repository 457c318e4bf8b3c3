"""Recurrent layers equal Python loops over their cells; lengths, dropout, mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layer_reference import numbers

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, nnx, random

KEY = random.key(0)
X = numbers((5, 3, 4), 0)  # length, batch, size
LSTM = nnx.LSTM(4, 6, key=KEY)


def cell_of(layer: Any) -> Any:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return nnx.LSTMCell(4, 6, key=KEY).replace(**{n: getattr(layer, n + "_l0") for n in names})


def by_loop(layer: Any, x: Any) -> Any:
    cell, state, ys = cell_of(layer), None, []
    for row in x:
        state = cell(row, state)
        ys.append(state[0])
    return fnp.stack(ys)


def by_layer(layer: Any, x: Any) -> Any:
    return layer(x)[0]


def cost(run: Any) -> Any:
    return lambda layer, x: (run(layer, x) ** 2).sum()


def by_scan(run: Any) -> Any:
    """Run over three sequences, each of which begins with the last outputs of the one before."""

    def step(first: Any, x: Any) -> Any:
        y = run(LSTM, x.at[0].set(first))
        return y[-1, :, :4], y

    return lambda layer, x: lax.scan(step, fnp.asarray(x[0]), fnp.stack([x, -x, 2 * x]))


def direction(layer: Any) -> Any:
    return ft.tree.map(fnp.cos, layer)


TRANSFORMS = {
    "plain": lambda run: run,
    "jit": ft.jit,
    "grad": lambda run: ft.grad(cost(run), (0, 1)),
    "jit of grad": lambda run: ft.jit(ft.grad(cost(run), (0, 1))),
    "vmap": lambda run: lambda layer, x: ft.vmap(run, (None, 0))(layer, fnp.stack([x, 1 - x])),
    "vmap of grad": lambda run: (
        lambda layer, x: ft.vmap(ft.grad(cost(run)), (None, 0))(layer, fnp.stack([x, 1 - x]))
    ),
    "hvp": lambda run: (
        lambda layer, x: ft.jvp(lambda m: ft.grad(cost(run))(m, x), (layer,), (direction(layer),))
    ),
    "scan": by_scan,
    "remat": lambda run: ft.grad(cost(ft.checkpoint(run))),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_lstm_equals_a_python_loop_under(name: str) -> None:
    transform = TRANSFORMS[name]
    got, want = (
        ft.tree.leaves(transform(run)(LSTM, fnp.asarray(X))) for run in (by_layer, by_loop)
    )
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [nnx.RNN, nnx.LSTM, nnx.GRU])
def test_padded_sequences_are_as_each_alone(make: Any) -> None:
    layer = make(4, 6, 2, bidirectional=True, key=KEY)
    lengths = fnp.array([5, 2, 0])
    padded = X.copy()
    padded[2:, 1] = np.nan  # what is behind the end does not count
    y, last = ft.jit(lambda lengths: layer(padded, lengths=lengths))(lengths)
    for k, n in enumerate(lengths.tolist()):
        assert bool((y[n:, k] == 0).all())
        if n:
            alone, end = layer(X[:n, k])
            np.testing.assert_allclose(y[:n, k], alone, rtol=1e-5, atol=1e-6)
            for a, b in zip(ft.tree.leaves(last), ft.tree.leaves(end), strict=True):
                np.testing.assert_allclose(a[:, k], b, rtol=1e-5, atol=1e-6)


def test_what_is_behind_the_end_gets_no_gradient() -> None:
    g = ft.grad(lambda x: LSTM(x, lengths=[5, 2, 1])[0].sum())(X)
    assert bool((g[2:, 1] == 0).all() & (g[1, 1] != 0).all())


@pytest.mark.parametrize("batch_first", [False, True])
def test_bidirectional_is_the_flag(batch_first: bool) -> None:
    both = nnx.GRU(4, 6, bidirectional=True, batch_first=batch_first, key=KEY)
    one = nnx.GRU(4, 6, batch_first=batch_first, key=KEY)
    state = nnx.state_dict(both)
    first = nnx.load_state_dict(one, {k: state[k] for k in nnx.state_dict(one)})
    second = nnx.load_state_dict(one, {k: state[f"{k}_reverse"] for k in nnx.state_dict(one)})
    pair, x = nnx.Bidirectional(first, second), X.swapaxes(0, 1) if batch_first else X
    for lengths in (None, fnp.array([5, 2, 3])):
        y, (h, h_back) = pair(x, lengths=lengths)
        want, last = both(x, lengths=lengths)
        np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(fnp.concatenate([h, h_back]), last, rtol=1e-5, atol=1e-6)
    y, _ = pair(X[:, 1], lengths=2)
    np.testing.assert_allclose(y, both(X[:, 1], lengths=2)[0], rtol=1e-5, atol=1e-6)


def test_dropout_between_layers_in_training() -> None:
    layer = nnx.RNN(4, 200, 2, "relu", dropout=0.25, key=KEY)
    plain = layer.replace(dropout=0.0)
    np.testing.assert_array_equal(layer(X)[0], plain(X)[0])
    (a, _), again = nnx.train(layer, random.key(1))(X)
    (b, _), _ = ft.jit(lambda m, key: nnx.train(m, key)(X))(layer, random.key(1))
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert not np.allclose(a, plain(X)[0])
    assert not np.allclose(a, nnx.train(layer, random.key(2))(X)[0][0])
    assert ft.tree.structure(again) == ft.tree.structure(layer)
    # With weights of one, an output counts what was kept of the layer before.
    ones = nnx.RNN(1, 400, 2, "relu", bias=False, dropout=0.25, key=KEY)
    ones = ft.tree.map(lambda w: fnp.full_like(w, w.shape[1] == 1), ones)
    ones = nnx.tree_at(lambda m: m.weight_ih_l1, ones, fnp.ones((400, 400)) / 400)
    y, _ = ones(np.ones((1, 50, 1), np.float32), key=random.key(0))
    assert abs(float(y.mean()) - 1) < 0.02
    assert float(y.std()) > 0.01


def test_numbers_of_lanes_differ() -> None:
    layer = nnx.GRU(4, 6, 2, dropout=0.5, key=KEY)
    (y, _), _ = nnx.train(layer, KEY, method=lambda m, x: ft.vmap(m)(x))(fnp.stack([X, X]))
    assert not np.allclose(y[0], y[1])


def test_sequences_without_steps() -> None:
    y, (h, _) = LSTM(X[:0])
    assert y.shape == (0, 3, 6)
    assert bool((h == 0).all())
    assert LSTM(X[:, :0])[0].shape == (5, 0, 6)


class Model(nnx.Module):
    encoder: dict[str, Any]

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.encoder["rnn"](*args, **options)


MODEL = Model({"rnn": nnx.LSTM(4, 6, proj_size=2, key=KEY)})
GIVEN = {
    "size": (
        lambda: MODEL(X[..., :3]),
        r"\(length, batch, 4\) or \(length, 4\).*shape \(5, 3, 3\)",
    ),
    "rank": (lambda: MODEL(X[0, 0]), r"shape \(length, batch, 4\).*shape \(4,\)"),
    "state": (
        lambda: MODEL(X, (fnp.zeros((1, 3, 6)), fnp.zeros((1, 3, 6)))),
        r"\(1, 3, 2\) and \(1, 3, 6\).*given \(1, 3, 6\) and \(1, 3, 6\)",
    ),
    "lengths": (lambda: MODEL(X, lengths=[5, 2]), r"integers of shape \(3,\).*of shape \(2,\)"),
    "too long": (lambda: MODEL(X, lengths=[5, 2, 6]), r"from 0 to .* 5; it was given \[5, 2, 6\]"),
}


def test_one_array_is_no_pair_of_states() -> None:
    with pytest.raises(TypeError, match=r"rnn: .* states \(h, c\); it was given float32\[1,3,2\]"):
        MODEL(X, fnp.zeros((1, 3, 2)))


@pytest.mark.parametrize("name", GIVEN)
def test_mistakes_name_the_place(name: str) -> None:
    call, text = GIVEN[name]
    with pytest.raises(ValueError, match=r"^encoder\.rnn: LSTM\(input_size=4.*" + text):
        call()


MADE = {
    "proj_size": (lambda: nnx.LSTM(4, 6, proj_size=6, key=KEY), "proj_size=6, hidden_size=6"),
    "size": (lambda: nnx.GRU(4, 0, key=KEY), "GRU takes hidden_size as a positive int"),
    "dropout": (lambda: nnx.GRU(4, 6, dropout=2, key=KEY), r"dropout in \[0, 1\]; .* 2"),
    "nonlinearity": (lambda: nnx.RNN(4, 6, nonlinearity="x", key=KEY), "'tanh' or 'relu'.*'x'"),
    "cell": (lambda: nnx.LSTMCell(4, 6, key=KEY)(X[0, :, :3]), r"\(batch, 4\) or \(4,\)"),
    "cell's state": (
        lambda: nnx.LSTMCell(4, 6, key=KEY)(X[0], (X[0],)), r"2 arrays of shape \(3, 6\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_mistakes_in_making(name: str) -> None:
    make, text = MADE[name]
    with pytest.raises(ValueError, match=text):
        make()
    with pytest.raises(AttributeError, match="LSTM has no 'weight_hr_l0'"):
        _ = LSTM.weight_hr_l0
