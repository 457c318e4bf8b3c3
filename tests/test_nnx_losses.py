"""Losses: values and gradients as PyTorch has them, and what they refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
from torch_losses import (
    CASES,
    DEEP,
    DEEP_LABELS,
    EVERY,
    FILE,
    HARD,
    LABELS,
    SPOKEN,
    P,
    X,
    Y,
    record,
)

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx, random

EXPECTED = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "k", range(len(CASES)), ids=lambda k: f"{CASES[k][0]}-{CASES[k][1]['reduction']}"
)
def test_values_and_gradients_equal_pytorch(k: int) -> None:
    name, settings, args = CASES[k]
    loss, expected = getattr(nnx, name)(**settings), EXPECTED[k]
    count = len(args) if name in EVERY else 1
    value = loss(*args)
    np.testing.assert_allclose(value, np.float32(expected["value"]), rtol=3e-5, atol=1e-5)
    assert value.dtype == np.float32
    total = lambda *xs: loss(*xs, *args[count:]).sum()
    slopes = ft.jit(ft.grad(total, tuple(range(count))))(*args[:count])
    for slope, recorded in zip(slopes, expected["slopes"], strict=True):
        theirs = np.float32(recorded)
        if abs(theirs).max() > 1e9:  # the logarithm of 0, where ours has the slope 0
            assert not np.any(slope)
            continue
        scale = max(1.0, float(np.abs(theirs).max()))
        np.testing.assert_allclose(slope, theirs, rtol=2e-4, atol=2e-5 * scale)


def test_what_was_recorded_is_what_pytorch_gives() -> None:
    pytest.importorskip("torch", reason="it is what is compared with")
    for again, before in zip(record(), EXPECTED, strict=True):
        np.testing.assert_allclose(again["value"], before["value"], rtol=1e-4, atol=1e-6)
        for a, b in zip(again["slopes"], before["slopes"], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


def test_functions_have_pytorchs_names() -> None:
    for ours, theirs in {
        "mse": "mse_loss",
        "bce": "binary_cross_entropy",
        "ctc": "ctc_loss",
    }.items():
        assert ours in nnx.__all__
        assert theirs in nnx.__all__
    np.testing.assert_array_equal(
        nnx.nll_loss(DEEP, DEEP_LABELS), nnx.nll(DEEP, DEEP_LABELS, axis=1)
    )


def test_classes_last_or_second() -> None:
    last = np.moveaxis(DEEP, 1, -1)
    second = nnx.CrossEntropyLoss()(DEEP, DEEP_LABELS)
    np.testing.assert_allclose(nnx.cross_entropy(last, DEEP_LABELS), second, rtol=1e-6)
    with pytest.raises(ValueError, match="say axis=1"):
        nnx.cross_entropy(DEEP, DEEP_LABELS)


def test_labels_out_of_range_are_seen() -> None:
    assert np.isnan(nnx.cross_entropy(X, np.array([0, 6, 1, 2])))
    assert np.isnan(nnx.cross_entropy(X, np.array([0, -1, 1, 2])))
    assert np.isfinite(nnx.cross_entropy(X, np.array([0, -100, 1, 2])))
    assert np.isnan(nnx.cross_entropy(X, np.full(4, -100)))  # the mean of nothing
    slope = ft.grad(lambda x: nnx.cross_entropy(x, np.array([0, -100, 1, 2])))(fnp.asarray(X))
    assert not slope[1].any()


def test_impossible_sequences() -> None:
    loss = nnx.CTCLoss(reduction="none")
    assert np.isinf(loss(*HARD)[0])
    slope = ft.grad(lambda x: nnx.CTCLoss(zero_infinity=True)(x, *HARD[1:]))(HARD[0])
    assert np.isfinite(slope).all()
    batched = ft.vmap(lambda x: loss(x[:, None], SPOKEN[:1], np.array([9]), np.array([2])))
    assert batched(np.zeros((4, 9, 5), np.float32) - np.log(5)).shape == (4, 1)


def test_a_loss_of_a_linear_layer() -> None:
    loss = nnx.LinearCrossEntropyLoss(6, 5, bias=True, label_smoothing=0.1, key=random.key(0))
    labels = LABELS % 5
    expected = nnx.cross_entropy(loss.linear(X), labels, label_smoothing=0.1)
    np.testing.assert_allclose(loss(X, labels), expected, rtol=1e-6)
    assert set(nnx.state_dict(loss)) == {"linear.weight", "linear.bias"}


def test_losses_are_pytrees_and_batch() -> None:
    weighted = nnx.CrossEntropyLoss(weight=fnp.ones(6))
    assert list(nnx.state_dict(weighted)) == ["weight"]
    assert nnx.parameters(weighted).weight is None
    each = ft.vmap(lambda x, y: weighted(x, y))(X, LABELS)
    np.testing.assert_allclose(each, nnx.cross_entropy(X, LABELS, reduction="none"), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: nnx.MSELoss()(X, Y[:, :1]), r"predictions \(4, 6\) and targets \(4, 1\). Reshape"),
        (lambda: nnx.BCELoss()(P[:, 0], P[:, :1]), r"probs \(4,\) and targets \(4, 1\)"),
        (lambda: nnx.MSELoss("max")(X, Y), "reduction 'mean', 'sum' or 'none'; it was given 'max'"),
        (lambda: nnx.HuberLoss(delta=0.0)(X, Y), "positive delta"),
        (lambda: nnx.SmoothL1Loss(beta=-1.0)(X, Y), "beta of at least 0"),
        (lambda: nnx.GaussianNLLLoss()(X, Y, P[:2]), r"shape \(4, 6\), .* given \(2, 6\)"),
        (lambda: nnx.MultiMarginLoss(p=3)(X, LABELS), "p=1 or p=2"),
        (lambda: nnx.CrossEntropyLoss(label_smoothing=2.0)(X, LABELS), r"in \[0, 1\]"),
        (lambda: nnx.NLLLoss()(X, LABELS[:3]), r"log_probs \(4, 6\) and labels \(3,\)"),
        (lambda: nnx.NLLLoss()(X, np.zeros(4)), "integer labels; it was given float64"),
        (lambda: nnx.CosineEmbeddingLoss()(X, Y, X), r"vectors \(4,\) and targets \(4, 6\)"),
        (lambda: nnx.TripletMarginLoss()(X, Y, Y[:1]), "anchors and negatives"),
        (lambda: nnx.CTCLoss()(DEEP, SPOKEN, LABELS, LABELS), r"ctc takes log_probs \(time"),
    ],
)
def test_what_is_refused(call, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()
