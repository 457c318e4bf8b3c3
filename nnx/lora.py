"""Low-rank changes of linear layers."""

from __future__ import annotations

import math
from typing import Any

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import random

from .layers import Linear
from .module import Module, static

__all__ = ["LoRA", "LoRALinear"]


class LoRA(Module):
    """Add a low-rank change to a linear layer: y = base(x) + alpha / rank · x Aᵀ Bᵀ.

    At first B is 0 and nothing changes. To train A and B alone, freeze the base:
    ``nnx.freeze(model, lambda m: m.base)``.

    Args:
        base: the layer that is changed.
        rank: how many directions the change has.
        alpha: by what it is scaled; the rank where None, so that the factor is 1.
        key: random key for the initial values of A.

    Raises:
        ValueError: the rank is not positive.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.LoRA(nnx.Linear(8, 4, key=random.key(0)), 2, key=random.key(1))
        >>> x = fnp.ones((5, 8))
        >>> bool((layer(x) == layer.base(x)).all()), layer.lora_A.shape, layer.lora_B.shape
        (True, (2, 8), (4, 2))

    References:
        E. J. Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022.
    """

    base: Linear
    lora_A: ft.Array
    lora_B: ft.Array
    rank: int = static()
    alpha: float = static()

    def __init__(self, base: Linear, rank: int, alpha: float | None = None, *, key: Any) -> None:
        if rank < 1:
            raise ValueError(f"{type(self).__name__} takes a positive rank; it was given {rank}")
        self.base, self.rank = base, rank
        self.alpha = float(rank if alpha is None else alpha)
        outs, ins = base.weight.shape
        bound = 1 / math.sqrt(ins) if ins else 0.0
        self.lora_A = random.uniform(key, (rank, ins), base.weight.dtype, -bound, bound)
        self.lora_B = fnp.zeros((outs, rank), base.weight.dtype)

    def __call__(self, x: Any) -> ft.Array:
        """Map x of shape (..., in_features) to shape (..., out_features)."""
        y = self.base(x)
        return y + (fnp.asarray(x) @ self.lora_A.T) @ self.lora_B.T * (self.alpha / self.rank)

    def merged(self) -> Linear:
        """Return a linear layer that does the same at the cost of the base alone."""
        change = self.lora_B @ self.lora_A * (self.alpha / self.rank)
        return self.base.replace(weight=self.base.weight + change)


class LoRALinear(LoRA):
    """Make a linear layer with a low-rank change of it: as `LoRA`.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        rank: how many directions the change has.
        alpha: by what it is scaled; the rank where None.
        bias: whether the base has a bias.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> nnx.LoRALinear(8, 4, 2, key=random.key(0))(fnp.ones((5, 8))).shape
        (5, 4)
    """

    def __init__(
        self, in_features: int, out_features: int, rank: int, alpha: float | None = None,
        bias: bool = True, *, key: Any, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        base_key, change_key = random.split(key)
        base = Linear(in_features, out_features, key=base_key, bias=bias, dtype=dtype)
        super().__init__(base, rank, alpha, key=change_key)
