"""Layers that drop parts of their input at random in training.

Their keys come from `train`, or by ``key=...`` in a call.
"""

from __future__ import annotations

from typing import Any, ClassVar

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import random

from .module import Module, static, title

__all__ = [
    "AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout",
]  # fmt: skip

# What SELU tends to far below zero, -scale * alpha.
_ALPHA = -1.0507009873554805 * 1.6732632423543772


class _Dropout(Module):
    """What all of them share: when to drop. Subclasses say which elements go together, and how."""

    rate: float = static()

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError(
                f"{type(self).__name__} takes a rate in [0, 1]; it was given {self.rate}"
            )

    def __call__(self, x: Any, *, key: Any = None, deterministic: bool | None = None) -> ft.Array:
        """Drop parts of x in training, or when there is a key; never if ``deterministic``."""
        x = fnp.asarray(x)
        together = self._together(x)
        if deterministic is False and key is None and not self.training:
            raise ValueError(f"{title(self)} with deterministic=False needs key=...")
        if deterministic or self.rate == 0 or (key is None and not self.training):
            return x
        if self.rate == 1:
            return fnp.zeros_like(x)
        key = self.fresh_key(x) if key is None else key
        return self._drop(x, random.bernoulli(key, 1 - self.rate, together))

    def _together(self, x: Any) -> tuple[int, ...]:
        """Return the shape of the mask: 1 along axes that are dropped as one."""
        return x.shape

    def _drop(self, x: Any, keep: Any) -> ft.Array:
        return fnp.where(keep, x / (1 - self.rate), 0)


class Dropout(_Dropout):
    """Zero each element with probability ``rate`` and scale the rest by 1 / (1 - rate).

    In evaluation, which is without `train` and without a key, the layer does nothing.

    Args:
        rate: probability that an element is zeroed, in [0, 1].

    Raises:
        ValueError: ``rate`` is outside [0, 1]; or, when called, ``deterministic=False`` comes
            without a key.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> x = fnp.ones(1000)
        >>> bool((nnx.Dropout(0.5)(x) == x).all())
        True
        >>> y, _ = nnx.train(nnx.Dropout(0.5), random.key(0))(x)
        >>> sorted(set(y.tolist()))
        [0.0, 2.0]
        >>> sorted(set(nnx.Dropout(0.5)(x, key=random.key(0)).tolist()))
        [0.0, 2.0]

    References:
        Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
        JMLR 15 (2014).
    """

    rate: float = static(0.5)


class _ChannelDropout(_Dropout):
    rate: float = static(0.5)

    ranks: ClassVar[tuple[int, ...]]  # with a batch axis
    unbatched: ClassVar[int | None]

    def _together(self, x: Any) -> tuple[int, ...]:
        if x.ndim not in (*self.ranks, self.unbatched):
            known = sorted({*self.ranks, *([self.unbatched] if self.unbatched else [])})
            raise ValueError(
                f"{title(self)} takes an array of {' or '.join(map(str, known))} axes; "
                f"it was given one of shape {x.shape}"
            )
        kept = 2 if x.ndim in self.ranks else 1
        return (*x.shape[:kept], *(1,) * (x.ndim - kept))


class Dropout1d(_ChannelDropout):
    """Zero whole channels with probability ``rate``: (batch, channels, length).

    The batch axis may be missing; as `Dropout` otherwise.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> nnx.Dropout1d(0.5)(fnp.ones((4, 2)), key=random.key(0))
        Array([[0., 0.],
               [0., 0.],
               [2., 2.],
               [2., 2.]], dtype=float32)
    """

    ranks: ClassVar[tuple[int, ...]] = (3,)
    unbatched: ClassVar[int | None] = 2


class Dropout2d(_ChannelDropout):
    """Zero whole channels with probability ``rate``: (batch, channels, height, width).

    Also (batch, channels, length), as in PyTorch; as `Dropout` otherwise.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Dropout2d(0.5)(fnp.ones((1, 1, 2, 2))).shape
        (1, 1, 2, 2)
    """

    ranks: ClassVar[tuple[int, ...]] = (3, 4)
    unbatched: ClassVar[int | None] = None


class Dropout3d(_ChannelDropout):
    """Zero whole channels with probability ``rate``: (batch, channels, depth, height, width).

    The batch axis may be missing; as `Dropout` otherwise.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Dropout3d(0.5)(fnp.ones((1, 1, 2, 2, 2))).shape
        (1, 1, 2, 2, 2)
    """

    ranks: ClassVar[tuple[int, ...]] = (5,)
    unbatched: ClassVar[int | None] = 4


class AlphaDropout(_Dropout):
    """Drop elements so that mean and variance of SELU's outputs stay 0 and 1.

    Dropped elements become SELU's limit for x to -inf, and all are mapped by the affine map that
    restores the moments. As `Dropout` otherwise.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> x = random.normal(random.key(0), (10000,))
        >>> y = nnx.AlphaDropout(0.5)(x, key=random.key(1))
        >>> bool(abs(y.mean()) < 0.05), bool(abs(y.var() - 1) < 0.05)
        (True, True)

    References:
        Klambauer et al., "Self-normalizing neural networks", NeurIPS (2017).
    """

    rate: float = static(0.5)

    def _drop(self, x: Any, keep: Any) -> ft.Array:
        scale = ((1 - self.rate) * (1 + self.rate * _ALPHA**2)) ** -0.5
        return scale * fnp.where(keep, x, _ALPHA) - scale * _ALPHA * self.rate


class FeatureAlphaDropout(AlphaDropout):
    """Drop whole channels as `AlphaDropout` drops elements: (batch, channels, ...).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.FeatureAlphaDropout(0.5)(fnp.ones((1, 2, 3))).shape
        (1, 2, 3)
    """

    def _together(self, x: Any) -> tuple[int, ...]:
        if x.ndim < 2:
            raise ValueError(
                f"{title(self)} takes an array of shape (batch, channels, ...); it was given one "
                f"of shape {x.shape}"
            )
        return (*x.shape[:2], *(1,) * (x.ndim - 2))
