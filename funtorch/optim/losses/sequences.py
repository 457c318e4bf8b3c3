"""Losses of sequences."""

from __future__ import annotations

from typing import Any

import funtorch.numpy as fnp
from funtorch import lax, nn

__all__ = ["ctc_loss", "ctc_loss_with_forward_probs"]


def ctc_loss(
    logits: Any,
    logit_paddings: Any,
    labels: Any,
    label_paddings: Any,
    *,
    blank_id: int = 0,
    log_epsilon: Any = -1e5,
) -> Any:
    """Compute the negative log-probability of label sequences under all alignments.

    Args:
        logits: scores (batch, time, classes).
        logit_paddings: (batch, time): 1 where a frame is padding, else 0; padding comes last.
        labels: integers (batch, length), without blanks.
        label_paddings: (batch, length): 1 where a label is padding.
        blank_id: the class that is no label.
        log_epsilon: stands for the logarithm of 0.

    Returns:
        The losses (batch).

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> from funtorch import optim
        >>> logits, label = fnp.zeros((1, 2, 2)), fnp.ones((1, 1), int)
        >>> fnp.exp(-optim.losses.ctc_loss(logits, fnp.zeros((1, 2)), label, fnp.zeros((1, 1))))
        Array([0.75], dtype=float32)

    References:
        Graves et al., "Connectionist temporal classification", ICML (2006).
    """
    return ctc_loss_with_forward_probs(
        logits, logit_paddings, labels, label_paddings, blank_id=blank_id, log_epsilon=log_epsilon
    )[0]


def ctc_loss_with_forward_probs(
    logits: Any,
    logit_paddings: Any,
    labels: Any,
    label_paddings: Any,
    *,
    blank_id: int = 0,
    log_epsilon: Any = -1e5,
) -> tuple[Any, Any, Any]:
    """Compute `ctc_loss`, and the log-probabilities of all beginnings.

    Returns:
        The losses (batch); log-probabilities (time, batch, length + 1) of having said so many
        labels and ending in a blank; and (time, batch, length) of ending in a label.
    """
    logits, pads = fnp.asarray(logits), fnp.asarray(logit_paddings)
    labels, label_pads = fnp.asarray(labels), fnp.asarray(label_paddings)
    if logits.ndim != 3 or pads.shape != logits.shape[:2]:
        raise ValueError(
            "ctc_loss takes logits (batch, time, classes) and logit_paddings (batch, time); it was "
            f"given {logits.shape} and {pads.shape}"
        )
    if labels.ndim != 2 or label_pads.shape != labels.shape or len(labels) != len(logits):
        raise ValueError(
            "ctc_loss takes labels and label_paddings (batch, length) for logits (batch, time, "
            f"classes); it was given {labels.shape} and {label_pads.shape} for {logits.shape}"
        )
    log_probs = nn.log_softmax(logits, axis=-1)
    dtype = log_probs.dtype
    length = labels.shape[1]
    # An equal label can follow only after a blank.
    same = fnp.pad(labels[:, :-1] == labels[:, 1:], ((0, 0), (0, 1))).astype(dtype)
    frames = labels.shape[:1] + log_probs.shape[1:2] + (length,)
    each = fnp.broadcast_to(labels[:, None, :], frames)
    of_labels = fnp.moveaxis(fnp.take_along_axis(log_probs, each, axis=2), 1, 0)
    of_blank = fnp.moveaxis(log_probs[:, :, blank_id, None], 1, 0)

    def joined(blank: Any, said: Any) -> Any:
        return fnp.concatenate([blank[:, :1], fnp.logaddexp(blank[:, 1:], said)], axis=1)

    def step(carry: Any, frame: Any) -> tuple[Any, Any]:
        blank, label = carry
        p_label, p_blank, pad = frame
        before = joined(blank, label + log_epsilon * same)
        next_label = fnp.logaddexp(before[:, :-1], label) + p_label
        next_blank = joined(before + p_blank, label + p_blank + log_epsilon * (1 - same))
        keep = pad[:, None] > 0
        new = fnp.where(keep, blank, next_blank), fnp.where(keep, label, next_label)
        return new, new

    never = fnp.full((len(labels), length + 1), log_epsilon, dtype)
    start = (never.at[:, 0].set(0), never[:, 1:])
    frames_in = (of_labels, of_blank, pads.T)
    _, (blanks, ends) = lax.scan(step, start, frames_in)
    last = joined(blanks[-1], ends[-1])
    lengths = length - label_pads.sum(1).astype(fnp.int32)
    losses = -fnp.take_along_axis(last, lengths[:, None], axis=1)[:, 0]
    return losses, blanks.at[-1].set(last), ends
