"""Losses as modules, with PyTorch's names and settings: `MSELoss` calls `mse`, and so on.

Weights of classes are buffers, as PyTorch's are. Classes lie along axis 1, or 0 of a single sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import funtorch as ft
import funtorch.numpy as fnp

from . import classification, losses, metric_losses
from .layers import Linear
from .module import Module, buffer, static

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CTCLoss",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "LinearCrossEntropyLoss",
    "MSELoss",
    "MarginRankingLoss",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "PoissonNLLLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
]


class _Loss(Module):
    """A loss whose fields are the options of a function."""

    function: ClassVar[Callable[..., Any]]

    def __call__(self, *args: Any) -> ft.Array:
        """Compute the loss of predictions and targets."""
        options = {name: getattr(self, name) for name in self._children + self._statics}
        return type(self).function(*args, **options)


class MSELoss(_Loss):
    """Compute `mse`."""

    function = staticmethod(losses.mse)
    reduction: str = static("mean")


class L1Loss(_Loss):
    """Compute `l1`."""

    function = staticmethod(losses.l1)
    reduction: str = static("mean")


class SmoothL1Loss(_Loss):
    """Compute `smooth_l1`."""

    function = staticmethod(losses.smooth_l1)
    reduction: str = static("mean")
    beta: float = static(1.0)


class HuberLoss(_Loss):
    """Compute `huber`."""

    function = staticmethod(losses.huber)
    reduction: str = static("mean")
    delta: float = static(1.0)


class BCELoss(_Loss):
    """Compute `bce`."""

    function = staticmethod(losses.bce)
    weight: Any = buffer(None)
    reduction: str = static("mean")


class BCEWithLogitsLoss(_Loss):
    """Compute `bce_with_logits`."""

    function = staticmethod(losses.bce_with_logits)
    weight: Any = buffer(None)
    reduction: str = static("mean")
    pos_weight: Any = buffer(None)


class PoissonNLLLoss(_Loss):
    """Compute `poisson_nll`."""

    function = staticmethod(losses.poisson_nll)
    log_input: bool = static(True)
    full: bool = static(False)
    eps: float = static(1e-8)
    reduction: str = static("mean")


class GaussianNLLLoss(_Loss):
    """Compute `gaussian_nll`."""

    function = staticmethod(losses.gaussian_nll)
    full: bool = static(False)
    eps: float = static(1e-6)
    reduction: str = static("mean")


class KLDivLoss(_Loss):
    """Compute `kl_div`."""

    function = staticmethod(losses.kl_div)
    reduction: str = static("mean")
    log_target: bool = static(False)


class HingeEmbeddingLoss(_Loss):
    """Compute `hinge_embedding`."""

    function = staticmethod(losses.hinge_embedding)
    margin: float = static(1.0)
    reduction: str = static("mean")


class SoftMarginLoss(_Loss):
    """Compute `soft_margin`."""

    function = staticmethod(losses.soft_margin)
    reduction: str = static("mean")


class NLLLoss(_Loss):
    """Compute `nll_loss`."""

    function = staticmethod(classification.nll_loss)
    weight: Any = buffer(None)
    ignore_index: int = static(-100)
    reduction: str = static("mean")


class MultiMarginLoss(_Loss):
    """Compute `multi_margin`."""

    function = staticmethod(classification.multi_margin)
    p: int = static(1)
    margin: float = static(1.0)
    weight: Any = buffer(None)
    reduction: str = static("mean")


class MultiLabelMarginLoss(_Loss):
    """Compute `multilabel_margin`."""

    function = staticmethod(classification.multilabel_margin)
    reduction: str = static("mean")


class MultiLabelSoftMarginLoss(_Loss):
    """Compute `multilabel_soft_margin`."""

    function = staticmethod(classification.multilabel_soft_margin)
    weight: Any = buffer(None)
    reduction: str = static("mean")


class MarginRankingLoss(_Loss):
    """Compute `margin_ranking`."""

    function = staticmethod(metric_losses.margin_ranking)
    margin: float = static(0.0)
    reduction: str = static("mean")


class CosineEmbeddingLoss(_Loss):
    """Compute `cosine_embedding`."""

    function = staticmethod(metric_losses.cosine_embedding)
    margin: float = static(0.0)
    reduction: str = static("mean")


class TripletMarginLoss(_Loss):
    """Compute `triplet_margin`."""

    function = staticmethod(metric_losses.triplet_margin)
    margin: float = static(1.0)
    p: float = static(2.0)
    eps: float = static(1e-6)
    swap: bool = static(False)
    reduction: str = static("mean")


class TripletMarginWithDistanceLoss(_Loss):
    """Compute `triplet_margin_with_distance_loss`."""

    function = staticmethod(metric_losses.triplet_margin_with_distance_loss)
    distance_function: Callable[[Any, Any], Any] | None = static(None)
    margin: float = static(1.0)
    swap: bool = static(False)
    reduction: str = static("mean")


class CTCLoss(_Loss):
    """Compute `ctc`."""

    function = staticmethod(metric_losses.ctc)
    blank: int = static(0)
    reduction: str = static("mean")
    zero_infinity: bool = static(False)


class CrossEntropyLoss(_Loss):
    """Compute `cross_entropy` of classes along axis 1.

    Args:
        weight: a factor for each class.
        ignore_index: a label that counts nothing.
        reduction: 'mean', 'sum' or 'none'.
        label_smoothing: in [0, 1].

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.CrossEntropyLoss()(fnp.zeros((2, 4, 5)), fnp.zeros((2, 5), int))
        Array(1.3862944, dtype=float32)
    """

    weight: Any = buffer(None)
    ignore_index: int = static(-100)
    reduction: str = static("mean")
    label_smoothing: float = static(0.0)

    @staticmethod
    def function(logits: Any, labels: Any, **options: Any) -> ft.Array:
        """Compute the loss."""
        axis = classification.second_axis(logits)
        return classification.cross_entropy(logits, labels, axis=axis, **options)


class LinearCrossEntropyLoss(Module):
    """Compute the cross-entropy of labels with the scores that a linear layer gives.

    Args:
        in_features: size of each sample.
        num_classes: how many classes there are.
        bias: whether the layer adds one.
        reduction: 'mean', 'sum' or 'none'.
        weight: a factor for each class.
        ignore_index: a label that counts nothing.
        label_smoothing: in [0, 1].
        key: a random key, for the layer.
    """

    linear: Linear
    weight: Any = buffer(None)
    reduction: str = static("mean")
    ignore_index: int = static(-100)
    label_smoothing: float = static(0.0)

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        bias: bool = False,
        reduction: str = "mean",
        weight: Any = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        key: Any,
    ) -> None:
        self.linear = Linear(in_features, num_classes, bias, key=key)
        self.weight = weight
        self.reduction = reduction
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def __call__(self, x: Any, labels: Any) -> ft.Array:
        """Compute the loss of samples (..., in_features) and labels (...)."""
        logits, labels = self.linear(x), fnp.asarray(labels)
        return classification.cross_entropy(
            logits,
            labels,
            weight=self.weight,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
        )
