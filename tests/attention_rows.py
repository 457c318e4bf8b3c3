"""Rows of the op table for attention, its tangents and cotangents."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch.ops.attention import attention, attention_grad, attention_tangent

rng = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape)


def weights_of(
    q: Any, k: Any, *extras: Any, scale: float, left: Any, right: Any, empty: str
) -> Any:
    logits = np.einsum("bhgte,bhse->bhgts", q, k) * scale
    (t, s), seen = logits.shape[3:], np.ones(logits.shape, bool)
    places = np.arange(s)[None, :] - np.arange(t)[:, None]
    seen &= places <= (s if right is None else right)
    seen &= places >= (-t if left is None else -left)
    for x in extras:
        if x.dtype == bool:
            seen &= x
        else:
            logits = logits + x
    logits = np.where(seen, logits, -np.inf if empty == "zero" else -1e300)
    top = logits.max(-1, keepdims=True)
    weights = np.exp(logits - np.where(top == -np.inf, 0, top))
    total = weights.sum(-1, keepdims=True)
    return weights / np.where(total == 0, 1, total), seen


def by_definition(q: Any, k: Any, v: Any, *extras: Any, **params: Any) -> Any:
    return np.einsum("bhgts,bhsv->bhgtv", weights_of(q, k, *extras, **params)[0], v)


def tangent_by_definition(
    tq: Any, tk: Any, tv: Any, q: Any, k: Any, v: Any, *extras: Any, **params: Any
) -> Any:
    weights, seen = weights_of(q, k, *extras, **params)
    moved = np.einsum("bhgte,bhse->bhgts", tq, k) + np.einsum("bhgte,bhse->bhgts", q, tk)
    moved = weights * np.where(seen, moved * params["scale"], 0)
    moved -= weights * moved.sum(-1, keepdims=True)
    return np.einsum("bhgts,bhsv->bhgtv", moved, v) + np.einsum("bhgts,bhsv->bhgtv", weights, tv)


def grad_by_definition(ct: Any, q: Any, k: Any, v: Any, *extras: Any, **params: Any) -> Any:
    weights, seen = weights_of(q, k, *extras, **params)
    back = np.where(seen, np.einsum("bhgtv,bhsv->bhgts", ct, v), 0)
    back = weights * (back - (weights * back).sum(-1, keepdims=True)) * params["scale"]
    return (
        np.einsum("bhgts,bhse->bhgte", back, k),
        np.einsum("bhgts,bhgte->bhse", back, q),
        np.einsum("bhgts,bhgtv->bhsv", weights, ct),
    )


PLAIN = {"scale": 0.5, "left": None, "right": None, "empty": "zero"}
CAUSAL = {"scale": 0.7, "left": 3, "right": 0, "empty": "mean"}
MASK = rng.random((1, 2, 1, 3, 5)) > 0.4
MASK[0, 0, 0, 1] = False  # a query that sees nothing
ADDED = normal(2, 1, 3, 1, 5)
Q, K, V = normal(2, 2, 3, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 3)
KEEPS = {"plain": ((), PLAIN), "causal": ((), CAUSAL), "masked": ((MASK, ADDED), PLAIN)}
KEEPS["masked mean"] = (MASK,), CAUSAL


def of(params: dict[str, Any]) -> Callable[..., Any]:
    return lambda *args: attention(*args, **params)[0]


def slope_of(params: dict[str, Any]) -> Callable[..., Any]:
    def slope(tq: Any, tk: Any, tv: Any, *args: Any) -> Any:
        outs = attention(*args, **params)
        return attention_tangent(*args, *outs, tq, tk, tv, of=(0, 1, 2), **params)

    return slope


def back_of(params: dict[str, Any]) -> Callable[..., Any]:
    def back(ct: Any, *args: Any) -> Any:
        return attention_grad(*args, *attention(*args, **params), ct, of=(0, 1, 2), **params)

    return back


def attention_rows() -> list[tuple[Any, ...]]:
    """Return (name, function, arguments, which to differentiate, the function in NumPy)."""
    found: list[tuple[Any, ...]] = []
    for name, (extras, params) in KEEPS.items():
        args = (Q, K, V, *extras)
        places = tuple(k for k, x in enumerate(args) if x.dtype != bool)
        want = functools.partial(by_definition, **params)
        found.append((f"attention-{name}", of(params), args, places, want))
    tangents, ct = (normal(*Q.shape), normal(*K.shape), normal(*V.shape)), normal(2, 2, 3, 3, 3)
    for name in ("causal", "masked"):
        extras, params = KEEPS[name]
        args = (Q, K, V, *extras[:1])
        slope = functools.partial(tangent_by_definition, **params)
        back = functools.partial(grad_by_definition, **params)
        three, one = (*tangents, *args), (ct, *args)
        found.append((f"attention_tangent-{name}", slope_of(params), three, (*range(6),), slope))
        found.append((f"attention_grad-{name}", back_of(params), one, (0, 1, 2, 3), back))
    return found
