"""Steps of training on a GPU as on the CPU: the networks that people train first."""

from typing import Any

import numpy as np

import funtorch as ft
from funtorch import lax, nnx, optim, random

OPTIMIZER = optim.adamw(optim.warmup_cosine_decay_schedule(1e-3, 1e-2, 2, 9, 1e-4))


class Convolutional(nnx.Module):
    """Digits: convolutions with batch norm, pooling, dropout."""

    features: nnx.Sequential
    head: nnx.Linear

    def __init__(self, key: Any) -> None:
        k1, k2, k3 = random.split(key, 3)
        self.features = nnx.Sequential(
            nnx.Conv2d(1, 4, 3, padding=1, bias=False, key=k1), nnx.BatchNorm2d(4), nnx.ReLU(),
            nnx.MaxPool2d(2), nnx.Conv2d(4, 6, 3, padding=1, key=k2), nnx.ReLU(),
            nnx.MaxPool2d(2), nnx.Flatten(), nnx.Dropout(0.25),
        )  # fmt: skip
        self.head = nnx.Linear(24, 5, key=k3)

    def __call__(self, x: Any) -> Any:
        return self.head(self.features(x))


class Letters(nnx.Module):
    """Letters: a block of causal attention between an embedding and scores."""

    embedding: nnx.Embedding
    norm: nnx.LayerNorm
    attention: nnx.MultiheadAttention
    mlp: nnx.Sequential
    head: nnx.Linear

    def __init__(self, key: Any) -> None:
        k1, k2, k3, k4, k5 = random.split(key, 5)
        self.embedding, self.norm = nnx.Embedding(7, 8, key=k1), nnx.LayerNorm(8)
        self.attention = nnx.MultiheadAttention(8, 2, batch_first=True, rotary_base=100.0, key=k2)
        self.mlp = nnx.Sequential(
            nnx.LayerNorm(8), nnx.Linear(8, 16, key=k3), nnx.GELU(), nnx.Linear(16, 8, key=k4)
        )
        self.head = nnx.Linear(8, 7, key=k5)

    def __call__(self, x: Any) -> Any:
        x = self.embedding(x)
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False, is_causal=True)[0]
        return self.head(x + self.mlp(x))


class Names(nnx.Module):
    """Names: an LSTM of two layers, and scores of its last output."""

    lstm: nnx.LSTM
    head: nnx.Linear

    def __init__(self, key: Any) -> None:
        k1, k2 = random.split(key)
        self.lstm, self.head = nnx.LSTM(4, 6, 2, key=k1), nnx.Linear(6, 3, key=k2)

    def __call__(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0][-1])


def _mlp(key: Any) -> nnx.Module:
    k1, k2 = random.split(key)
    return nnx.Sequential(nnx.Linear(9, 16, key=k1), nnx.Tanh(), nnx.Linear(16, 3, key=k2))


def step(model: Any, state: Any, key: Any, x: Any, y: Any) -> tuple[Any, Any, Any, Any]:
    """Train for one batch; return the model, the optimizer's state, a new key and the loss."""
    key, now = random.split(key)

    def loss(model: Any) -> tuple[Any, Any]:
        scores, model = nnx.train(model, now)(x)
        return nnx.cross_entropy(scores.reshape(-1, scores.shape[-1]), y.reshape(-1)), model

    (value, model), grads = nnx.value_and_grad(loss, has_aux=True)(model)
    updates, state = OPTIMIZER.update(grads, state, nnx.parameters(model))
    return optim.apply_updates(model, updates), state, key, value


def _training(make: Any, x: np.ndarray, y: np.ndarray) -> tuple[Any, ...]:
    """Return a step and its arguments."""
    model = make(random.key(0))
    return step, model, OPTIMIZER.init(nnx.parameters(model)), random.PRNGKey(1), x, y


_RNG = np.random.default_rng(6)


def _normal(*shape: int) -> np.ndarray:
    return _RNG.standard_normal(shape).astype(np.float32)


def _labels(count: int, *shape: int) -> np.ndarray:
    return _RNG.integers(0, count, shape).astype(np.int32)


def several(carry: Any, xs: Any) -> Any:
    """Train for several batches in one program."""
    model, state, key = carry

    def turn(c: Any, batch: Any) -> Any:
        *c, value = step(*c, *batch)
        return tuple(c), value

    return lax.scan(turn, (model, state, key), xs)


def _several() -> tuple[Any, ...]:
    _, model, state, key, *_ = _training(_mlp, _normal(6, 9), _labels(3, 6))
    return several, (model, state, key), (_normal(3, 6, 9), _labels(3, 3, 6))


TRAINING = {
    "MLP": _training(_mlp, _normal(6, 9), _labels(3, 6)),
    "CNN": _training(Convolutional, _normal(4, 1, 8, 8), _labels(5, 4)),
    "GPT": _training(Letters, _labels(7, 2, 5), _labels(7, 2, 5)),
    "LSTM": _training(Names, _normal(5, 3, 4), _labels(3, 3)),
    "MLP in a scan": _several(),
}
"""By name a function and its arguments."""


def flat(f: Any, args: tuple[Any, ...]) -> tuple[Any, list[np.ndarray]]:
    """Return a function of arrays that gives a list of arrays, and what it is called with."""
    leaves, tree = ft.tree.flatten(args)

    def called(*xs: Any) -> list[Any]:
        return ft.tree.leaves(f(*ft.tree.unflatten(tree, xs)))

    return called, [np.asarray(x) for x in leaves]
