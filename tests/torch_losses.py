"""Calls of PyTorch's losses, and what PyTorch gives for them, in `torch_losses.json`.

Run this file, with PyTorch 2.13 installed, to write the values anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("torch_losses.json")

R = np.random.default_rng(5)
X = R.normal(size=(4, 6)).astype(np.float32)
Y = R.normal(size=(4, 6)).astype(np.float32)
Z = R.normal(size=(4, 6)).astype(np.float32)
P = R.random((4, 6)).astype(np.float32)
Q = (P / P.sum(-1, keepdims=True)).astype(np.float32)
HOLES = Q * (P > 0.4).astype(np.float32)
LOG_Q = np.log((np.exp(X) / np.exp(X).sum(-1, keepdims=True)).astype(np.float32))
COUNTS = R.poisson(3, (4, 6)).astype(np.float32)
BITS = (P > 0.5).astype(np.float32)
SIGNS = 2 * BITS - 1
LABELS = R.integers(0, 6, 4)
SOME = np.array([2, -100, 0, 5])
DEEP = R.normal(size=(3, 5, 2, 4)).astype(np.float32)
DEEP_LABELS = R.integers(0, 5, (3, 2, 4))
DEEP_PROBS = np.exp(DEEP) / np.exp(DEEP).sum(1, keepdims=True)
WEIGHT = R.random(6).astype(np.float32) + 0.5
MANY = np.array([[3, 0, -1, 1, 2, 2], [-1, 0, 1, 2, 3, 4], [5, 4, 3, 2, 1, 0], [1, 1, -1, 0, 0, 0]])
FRAMES = np.log(np.exp(R.normal(size=(9, 3, 5))) / 9).astype(np.float32)
FRAMES -= np.log(np.exp(FRAMES).sum(-1, keepdims=True))
SPOKEN = np.array([[1, 2, 2, 4], [3, 1, 0, 0], [4, 4, 4, 0]])
HEARD, SAID = np.array([9, 7, 8]), np.array([4, 2, 3])
HARD = (FRAMES[:4], SPOKEN, np.array([4, 4, 4]), SAID)  # too short for a label that comes again

# class, its settings, arguments; each with every reduction that it has.
ROWS: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = [
    ("MSELoss", {}, (X, Y)),
    ("L1Loss", {}, (X, Y)),
    ("SmoothL1Loss", {}, (X, Y)),
    ("SmoothL1Loss", {"beta": 0.3}, (X, Y)),
    ("SmoothL1Loss", {"beta": 0.0}, (X, Y)),
    ("HuberLoss", {"delta": 0.4}, (X, Y)),
    ("BCELoss", {}, (P, Q)),
    ("BCELoss", {"weight": WEIGHT}, (P, BITS)),
    ("BCELoss", {}, (BITS, 1 - BITS)),
    ("BCEWithLogitsLoss", {}, (40 * X, BITS)),
    ("BCEWithLogitsLoss", {"weight": P, "pos_weight": WEIGHT}, (X, Q)),
    ("PoissonNLLLoss", {}, (X, COUNTS)),
    ("PoissonNLLLoss", {"full": True}, (X, COUNTS)),
    ("PoissonNLLLoss", {"log_input": False, "eps": 1e-3}, (P, COUNTS)),
    ("GaussianNLLLoss", {}, (X, Y, P)),
    ("GaussianNLLLoss", {"full": True, "eps": 0.3}, (X, Y, P)),
    ("GaussianNLLLoss", {}, (X, Y, P[:, 0])),
    ("GaussianNLLLoss", {}, (X, Y, P[:, :1])),
    ("KLDivLoss", {}, (LOG_Q, HOLES)),
    ("KLDivLoss", {"log_target": True}, (LOG_Q, np.log(Q))),
    ("HingeEmbeddingLoss", {"margin": 0.6}, (P, SIGNS)),
    ("SoftMarginLoss", {}, (40 * X, SIGNS)),
    ("NLLLoss", {}, (LOG_Q, LABELS)),
    ("NLLLoss", {"weight": WEIGHT}, (LOG_Q, SOME)),
    ("NLLLoss", {"ignore_index": 2, "weight": WEIGHT[:5]}, (DEEP, DEEP_LABELS)),
    ("NLLLoss", {}, (LOG_Q[0], LABELS[0])),
    ("CrossEntropyLoss", {}, (X, LABELS)),
    ("CrossEntropyLoss", {}, (X[0], LABELS[0])),
    ("CrossEntropyLoss", {"weight": WEIGHT, "label_smoothing": 0.1}, (X, SOME)),
    ("CrossEntropyLoss", {"label_smoothing": 0.2}, (DEEP, DEEP_LABELS)),
    ("CrossEntropyLoss", {"ignore_index": 3, "weight": WEIGHT[:5]}, (DEEP, DEEP_LABELS)),
    ("CrossEntropyLoss", {}, (X, Q)),
    ("CrossEntropyLoss", {"weight": WEIGHT[:5], "label_smoothing": 0.1}, (DEEP, DEEP_PROBS)),
    ("MultiMarginLoss", {}, (X, LABELS)),
    ("MultiMarginLoss", {"p": 2, "margin": 0.7, "weight": WEIGHT}, (X, LABELS)),
    ("MultiMarginLoss", {}, (X[0], LABELS[0])),
    ("MultiLabelMarginLoss", {}, (X, MANY)),
    ("MultiLabelMarginLoss", {}, (X[0], MANY[0])),
    ("MultiLabelSoftMarginLoss", {"weight": WEIGHT}, (X, BITS)),
    ("MarginRankingLoss", {"margin": 0.2}, (X, Y, SIGNS)),
    ("CosineEmbeddingLoss", {"margin": 0.1}, (X, Y, SIGNS[:, 0])),
    ("TripletMarginLoss", {}, (X, Y, Z)),
    ("TripletMarginLoss", {"p": 1.0, "margin": 2.0, "swap": True}, (X, Y, Z)),
    ("TripletMarginWithDistanceLoss", {"swap": True}, (X, Y, Z)),
    ("CTCLoss", {}, (FRAMES, SPOKEN, HEARD, SAID)),
    ("CTCLoss", {"blank": 3}, (FRAMES, SPOKEN % 3, HEARD, SAID)),
    ("CTCLoss", {"zero_infinity": True}, HARD),
    ("CTCLoss", {}, (FRAMES, np.array([1, 2, 2, 4, 3, 1, 4, 4, 4]), HEARD, SAID)),
    ("CTCLoss", {}, (FRAMES[:, 0], SPOKEN[0], HEARD[0], SAID[0])),
]
CASES = [
    (name, {**settings, "reduction": reduction}, args)
    for name, settings, args in ROWS
    for reduction in ("mean", "sum", "none", *(("batchmean",) if name == "KLDivLoss" else ()))
]


# Where PyTorch has derivatives in all arguments; else in the first.
EVERY = {"TripletMarginLoss", "TripletMarginWithDistanceLoss", "GaussianNLLLoss"}


def record() -> list[dict[str, Any]]:
    """Compute values and gradients with PyTorch."""
    import torch

    def tensor(x: Any) -> Any:
        return torch.tensor(x) if isinstance(x, (np.ndarray, np.generic)) else x

    found = []
    for name, settings, args in CASES:
        loss = getattr(torch.nn, name)(**{k: tensor(v) for k, v in settings.items()})
        given = [tensor(a) for a in args]
        for g in given if name in EVERY else given[:1]:
            g.requires_grad_()
        value = loss(*given)
        slopes = torch.autograd.grad(value.sum(), [g for g in given if g.requires_grad])
        found.append({"value": value.detach().tolist(), "slopes": [s.tolist() for s in slopes]})
    return found


if __name__ == "__main__":
    from optax_losses import rounded

    FILE.write_text(json.dumps(rounded(record())), encoding="utf-8")
