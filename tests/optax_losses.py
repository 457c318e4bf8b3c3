"""Calls of optax's losses, and what optax gives for them, in `optax_losses.json`.

Run this file, with optax installed, to write the values anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("optax_losses.json")

R = np.random.default_rng(0)
X = R.normal(size=(4, 6)).astype(np.float32)
Y = R.normal(size=(4, 6)).astype(np.float32)
Z = R.normal(size=(4, 6)).astype(np.float32)
P = (np.exp(Y) / np.exp(Y).sum(-1, keepdims=True)).astype(np.float32)
LOG_P = np.log((np.exp(X) / np.exp(X).sum(-1, keepdims=True)).astype(np.float32))
ZEROS = P * (R.random((4, 6)) > 0.4).astype(np.float32)
BITS = (R.random((4, 6)) > 0.5).astype(np.float32)
SIGNS = 2 * BITS - 1
LABELS = R.integers(0, 6, 4)
WHERE = R.random((4, 6)) > 0.3
WHERE[:, 0] = True
GROUPS = np.array([0, 0, 1, 1])
AREA = R.normal(size=(2, 5, 3, 4)).astype(np.float32)
TRUE = np.eye(4, dtype=np.float32)[R.integers(0, 4, (2, 5, 3))]
CTC = (
    R.normal(size=(3, 7, 5)).astype(np.float32),
    np.array([[0] * 7, [0] * 5 + [1] * 2, [0] * 6 + [1]], np.float32),
    np.array([[1, 1, 2], [3, 2, 0], [4, 0, 0]]),
    np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1]], np.float32),
)

# name, arguments, options; derivatives are compared in the first argument.
ROWS = [
    ("squared_error", (X, Y), {}),
    ("squared_error", (X,), {}),
    ("l2_loss", (X, Y), {}),
    ("huber_loss", (3 * X, Y), {"delta": 0.7}),
    ("huber_loss", (3 * X,), {}),
    ("log_cosh", (30 * X, Y), {}),
    ("cosine_similarity", (X, Y), {"epsilon": 1e-3}),
    ("cosine_similarity", (X, Y), {"axis": 0, "where": WHERE}),
    ("cosine_distance", (X, Y), {}),
    ("sigmoid_binary_cross_entropy", (30 * X, BITS), {}),
    ("sigmoid_focal_loss", (3 * X, BITS), {}),
    ("sigmoid_focal_loss", (3 * X, P), {"alpha": 0.3, "gamma": 1.5}),
    ("hinge_loss", (X, SIGNS), {}),
    ("perceptron_loss", (X, SIGNS), {}),
    ("sparsemax_loss", (2 * X, BITS), {}),
    ("softmax_cross_entropy", (X, P), {}),
    ("softmax_cross_entropy", (X, P), {"axis": 0}),
    ("softmax_cross_entropy", (X, P), {"where": WHERE}),
    ("safe_softmax_cross_entropy", (X, ZEROS), {}),
    ("softmax_cross_entropy_with_integer_labels", (X, LABELS), {}),
    ("softmax_cross_entropy_with_integer_labels", (X.T, LABELS), {"axis": 0}),
    ("softmax_cross_entropy_with_integer_labels", (AREA, LABELS[:2]), {"axis": (1, 2, 3)}),
    ("softmax_cross_entropy_with_integer_labels", (X, 0 * LABELS), {"where": WHERE}),
    ("poly_loss_cross_entropy", (X, P), {"epsilon": 1.3}),
    ("multiclass_hinge_loss", (X, LABELS), {}),
    ("multiclass_perceptron_loss", (X, LABELS), {}),
    ("multiclass_sparsemax_loss", (X, LABELS), {}),
    ("smooth_labels", (P, 0.2), {}),
    ("smooth_labels", (P, 0.2), {"where": WHERE}),
    ("ranking_softmax_loss", (X, BITS), {}),
    ("ranking_softmax_loss", (X, BITS), {"where": WHERE, "weights": P}),
    ("ranking_softmax_loss", (X, BITS), {"where": WHERE, "reduce_fn": None}),
    ("ranking_softmax_loss", (X, BITS), {"where": np.zeros_like(WHERE)}),
    ("kl_divergence", (LOG_P, P), {}),
    ("kl_divergence", (LOG_P, ZEROS), {"axis": 0}),
    ("kl_divergence_with_log_targets", (LOG_P, np.log(P)), {}),
    ("generalized_kl_divergence", (LOG_P, 2 * P), {"where": WHERE}),
    ("convex_kl_divergence", (LOG_P, P), {}),
    ("ctc_loss", CTC, {}),
    ("ctc_loss", CTC, {"blank_id": 4}),
    ("ctc_loss_with_forward_probs", CTC, {}),
    ("ntxent", (X, GROUPS), {}),
    ("ntxent", (X, GROUPS), {"temperature": 0.5}),
    ("triplet_margin_loss", (X, Y, Z), {"margin": 0.3}),
    ("dice_loss", (AREA, TRUE), {}),
    ("dice_loss", (AREA, TRUE), {"alpha": 0.3, "beta": 0.7, "reduction": "none"}),
    ("dice_loss", (AREA, TRUE), {"class_weights": P[0, :4], "reduction": "sum"}),
    ("dice_loss", (AREA, TRUE), {"ignore_background": True, "class_weights": P[0, :4]}),
    ("multiclass_generalized_dice_loss", (AREA, TRUE), {}),
    ("binary_dice_loss", (X, BITS), {}),
    ("binary_dice_loss", (X[..., None], BITS[..., None]), {}),
]


def total(f: Any, leaves: Any, more: Any, options: Any) -> Any:
    """Return a function whose gradient shows all results of f."""

    def scalar(x: Any) -> Any:
        return sum((o * (1 + k)).sum() for k, o in enumerate(leaves(f(x, *more, **options))))

    return scalar


def record() -> list[dict[str, Any]]:
    """Compute values and gradients with optax."""
    import jax
    import jax.numpy as jnp
    import optax

    def arrays(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, tree)

    found = []
    for name, args, options in ROWS:
        f, (x, *more), given = getattr(optax.losses, name), arrays(args), arrays(options)
        outs = jax.tree.leaves(f(x, *more, **given))
        slope = jax.grad(total(f, jax.tree.leaves, more, given))(x)
        found.append(
            {
                "values": [[np.asarray(o).dtype.name, np.asarray(o).tolist()] for o in outs],
                # nan at the roots of equal vectors, where we have numbers
                "slope": None if np.isnan(slope).any() else np.asarray(slope).tolist(),
            }
        )
    return found


def rounded(value: Any) -> Any:
    """Keep the digits that float32 has."""
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else value


if __name__ == "__main__":
    FILE.write_text(json.dumps(rounded(record())), encoding="utf-8")
