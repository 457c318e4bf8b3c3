"""Softmax over many classes, of which most are rare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nn, random

from .layers import Linear, Sequential
from .module import Module, static, title

__all__ = ["AdaptiveLogSoftmaxWithLoss"]


class ASMOutput(NamedTuple):
    """Log-probabilities of the targets, and the negative of their mean."""

    output: ft.Array
    loss: ft.Array


class AdaptiveLogSoftmaxWithLoss(Module):
    """Model classes by a softmax over the frequent ones and clusters of the others.

    Classes are sorted by falling frequency. The first ones stand in the head, beside an entry for
    each cluster; a cluster's classes get features that are the fewer, the rarer they are.

    Args:
        in_features: size of the last axis of the input.
        n_classes: how many classes there are.
        cutoffs: rising numbers of classes at which the clusters begin.
        div_value: by what the features of each cluster are fewer than those of the one before.
        head_bias: whether the head has a bias.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: cutoffs are not rising numbers between 1 and n_classes - 1; or, when called,
            shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.AdaptiveLogSoftmaxWithLoss(16, 20, [5, 10], key=random.key(0))
        >>> output, loss = layer(fnp.ones((3, 16)), fnp.array([0, 7, 19]))
        >>> output.shape, loss.shape, layer.log_prob(fnp.ones((3, 16))).shape
        ((3,), (), (3, 20))

    References:
        E. Grave et al., "Efficient softmax approximation for GPUs", ICML 2017.
    """

    head: Linear
    tail: list[Sequential]
    in_features: int = static()
    n_classes: int = static()
    cutoffs: tuple[int, ...] = static()
    div_value: float = static()

    def __init__(
        self, in_features: int, n_classes: int, cutoffs: Sequence[int], div_value: float = 4.0,
        head_bias: bool = False, *, key: Any, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        cuts = tuple(cutoffs)
        rising = all(a < b for a, b in zip((0, *cuts), (*cuts, n_classes), strict=True))
        if not cuts or not rising:
            raise ValueError(
                f"{type(self).__name__} takes cutoffs that rise and lie between 1 and n_classes - "
                f"1; it was given {cutoffs!r} with n_classes={n_classes}"
            )
        self.in_features, self.n_classes, self.div_value = in_features, n_classes, div_value
        self.cutoffs = (*cuts, n_classes)
        head_key, *keys = random.split(key, 2 * len(cuts) + 1)
        self.head = Linear(
            in_features, cuts[0] + len(cuts), key=head_key, bias=head_bias, dtype=dtype
        )
        self.tail = []
        for i, (low, high) in enumerate(zip(self.cutoffs[:-1], self.cutoffs[1:], strict=True)):
            size = int(in_features // div_value ** (i + 1))
            self.tail.append(
                Sequential(
                    Linear(in_features, size, key=keys[2 * i], bias=False, dtype=dtype),
                    Linear(size, high - low, key=keys[2 * i + 1], bias=False, dtype=dtype),
                )
            )

    def __call__(self, x: Any, target: Any) -> ASMOutput:
        """Return the log-probabilities of the targets, and the loss.

        x has shape (batch, in_features) and the targets (batch,), integers; or neither has the
        batch axis.
        """
        x, target = fnp.asarray(x), fnp.asarray(target)
        if x.ndim not in (1, 2) or target.shape != x.shape[:-1]:
            raise ValueError(
                f"{title(self)} takes arrays of shapes (batch, {self.in_features}) and (batch,); "
                f"it was given {x.shape} and {target.shape}"
            )
        first = self.cutoffs[0]
        head = nn.log_softmax(self.head(x))
        output = _at(head, target)
        for i, (cluster, low) in enumerate(zip(self.tail, self.cutoffs, strict=False)):
            inside = head[..., first + i] + _at(nn.log_softmax(cluster(x)), target - low)
            output = fnp.where(target >= low, inside, output)
        return ASMOutput(output, -output.mean())

    def log_prob(self, x: Any) -> ft.Array:
        """Map x of (..., in_features) to the log-probabilities of all classes: (..., n_classes)."""
        first = self.cutoffs[0]
        head = nn.log_softmax(self.head(x))
        parts = [head[..., :first]]
        for i, cluster in enumerate(self.tail, first):
            parts.append(head[..., i : i + 1] + nn.log_softmax(cluster(x)))
        return fnp.concatenate(parts, -1)

    def predict(self, x: Any) -> ft.Array:
        """Map x of (..., in_features) to the most probable classes: integers of shape (...)."""
        return fnp.argmax(self.log_prob(x), axis=-1)


def _at(values: ft.Array, index: ft.Array) -> ft.Array:
    """Return the values along the last axis at these numbers; the nearest where there is none."""
    index = fnp.clip(index, 0, values.shape[-1] - 1)
    return fnp.take_along_axis(values, index[..., None], -1)[..., 0]
