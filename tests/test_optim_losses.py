"""optax's losses: values and gradients as optax has them."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from optax_losses import (
    AREA,
    CTC,
    FILE,
    GROUPS,
    LABELS,
    ROWS,
    TRUE,
    P,
    X,
    Y,
    record,
    rounded,
    total,
)

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import optim
from funtorch.optim import losses

EXPECTED = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("k", range(len(ROWS)), ids=lambda k: ROWS[k][0])
def test_values_and_gradients_equal_optax(k: int) -> None:
    name, (x, *more), options = ROWS[k]
    f, expected = getattr(losses, name), EXPECTED[k]
    slope = expected["slope"]
    for wrap in (lambda f: f, ft.jit):
        got = ft.tree.leaves(wrap(lambda x: f(x, *more, **options))(x))
        for a, (dtype, values) in zip(got, expected["values"], strict=True):
            b = np.array(values, dtype)
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
        ours = wrap(ft.grad(total(f, ft.tree.leaves, more, options)))(x)
        if slope is not None:
            scale = max(1.0, float(np.abs(slope).max()))
            np.testing.assert_allclose(ours, np.float32(slope), rtol=1e-4, atol=1e-3 * scale)


def test_what_was_recorded_is_what_optax_gives() -> None:
    pytest.importorskip("optax", reason="it is what is compared with")
    again = ft.tree.leaves(rounded(record()))
    before = ft.tree.leaves(EXPECTED)
    assert len(again) == len(before)
    for a, b in zip(again, before, strict=True):
        assert a == b if isinstance(b, str) else abs(a - b) <= 1e-4 * max(1, abs(b))


def test_every_name_has_a_row() -> None:
    assert {row[0] for row in ROWS} | {"make_fenchel_young_loss"} == set(losses.__all__)
    assert set(losses.__all__) <= set(optim.__all__)


def test_ctc_sums_over_all_alignments() -> None:
    logits, target = X[:, :3], [1, 2]
    log_probs = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    total = 0.0
    for path in itertools.product(range(3), repeat=4):
        said = [c for c, _ in itertools.groupby(path) if c]
        if said == target:
            total += np.exp(sum(log_probs[t, c] for t, c in enumerate(path)))
    loss = losses.ctc_loss(logits[None], np.zeros((1, 4)), np.array([target]), np.zeros((1, 2)))
    np.testing.assert_allclose(loss, [-np.log(total)], rtol=1e-5)


def test_fenchel_young_losses() -> None:
    loss = losses.make_fenchel_young_loss(fnp.max)
    np.testing.assert_allclose(loss(X, P), X.max(-1) - (X * P).sum(-1), rtol=1e-4, atol=1e-6)


def test_sparsemax_of_equal_and_distant_scores() -> None:
    scores = np.float32([[0, 0, 0], [9, 0, 0], [0, 9, 0]])
    got = losses.multiclass_sparsemax_loss(scores, np.zeros(3, int))
    np.testing.assert_allclose(got, [1 / 3, 0, 8.5 + 0.5 * 0], atol=1e-6, rtol=0.06)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: losses.l2_loss(X, Y[:, :1]), ValueError, r"\(4, 6\) and \(4, 1\). Reshape"),
        (lambda: losses.l2_loss(LABELS, LABELS), TypeError, "floating-point predictions"),
        (lambda: losses.perceptron_loss(X, Y[0]), ValueError, "same shape"),
        (
            lambda: losses.softmax_cross_entropy_with_integer_labels(X, X),
            TypeError,
            "integer labels; it was given float32",
        ),
        (
            lambda: losses.softmax_cross_entropy_with_integer_labels(X, LABELS[:, None]),
            ValueError,
            r"logits \(4, 6\) and labels \(4, 1\)",
        ),
        (lambda: losses.ctc_loss(X, X, X, X), ValueError, r"given \(4, 6\) and \(4, 6\)"),
        (lambda: losses.ctc_loss(*CTC[:3], CTC[3][:2]), ValueError, r"\(2, 3\) for \(3, 7, 5\)"),
        (lambda: losses.dice_loss(AREA, TRUE, reduction="max"), ValueError, "'max'"),
        (lambda: losses.ntxent(X, GROUPS[:2]), ValueError, r"\(4, 6\) and \(2,\)"),
    ],
)
def test_what_is_refused(call, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        call()
