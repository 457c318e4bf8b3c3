"""Mixed precision: policies about dtypes, and scaled losses, whose float16 gradients do not vanish.

`funtorch.autocast` narrows the products of a function; a `Policy` instead casts the parameters and
inputs themselves, so that everything in between is narrow too. Everything here is a pytree and
pure.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import funtorch.numpy as fnp
from funtorch import tree
from funtorch.transforms import autocast

__all__ = [
    "DynamicLossScale",
    "NoOpLossScale",
    "Policy",
    "StaticLossScale",
    "all_finite",
    "autocast",
    "get_policy",
    "select_tree",
]

_SHORT = {
    "half": "float16",
    "full": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "f32": "float32",
}


class Policy(NamedTuple):
    """Which dtype parameters are kept in, which one computes, and which one results have.

    Casting changes the floating-point arrays of a tree; all else stays.

    Attributes:
        param_dtype: of the parameters, where they are kept and updated.
        compute_dtype: of parameters and inputs, where they are used.
        output_dtype: of results.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import amp
        >>> policy = amp.get_policy("params=float32,compute=bfloat16,output=float32")
        >>> policy.cast_to_compute({"w": fnp.ones(2), "n": fnp.arange(2)})["w"].dtype.name
        'bfloat16'
    """

    param_dtype: Any
    compute_dtype: Any
    output_dtype: Any

    def cast_to_param(self, x: Any) -> Any:
        """Convert the floating-point arrays of a tree to the parameters' dtype."""
        return _cast(x, self.param_dtype)

    def cast_to_compute(self, x: Any) -> Any:
        """Convert the floating-point arrays of a tree to the dtype that computes."""
        return _cast(x, self.compute_dtype)

    def cast_to_output(self, x: Any) -> Any:
        """Convert the floating-point arrays of a tree to the results' dtype."""
        return _cast(x, self.output_dtype)

    def with_output_dtype(self, output_dtype: Any) -> Policy:
        """Return a policy with another dtype of results."""
        return self._replace(output_dtype=fnp.dtype(output_dtype))

    def wrap(self, fun: Callable[..., Any]) -> Callable[..., Any]:
        """Make a function compute by the policy: cast its arguments, and its results.

        Args:
            fun: the function.

        Returns:
            A function of the same arguments.
        """

        @functools.wraps(fun)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = self.cast_to_compute((args, kwargs))
            return self.cast_to_output(fun(*args, **kwargs))

        return wrapped


def get_policy(description: str) -> Policy:
    """Read a policy from text.

    Args:
        description: ``params=float32,compute=float16,output=float32``, or one dtype for all three;
            also ``half``, ``full``, ``bf16``, ``f16``, ``f32``. What is not mentioned is float32.

    Returns:
        The policy.

    Raises:
        ValueError: a part is not understood.

    Example:
        >>> from funtorch import amp
        >>> amp.get_policy("compute=half").compute_dtype.name
        'float16'
    """
    fields = {"params": "float32", "compute": "float32", "output": "float32"}
    for part in description.replace(" ", "").split(","):
        name, _, value = part.partition("=")
        if not value:
            fields = dict.fromkeys(fields, name)
        elif name in fields:
            fields[name] = value
        else:
            raise ValueError(f"a policy says params=, compute= and output=; got {part!r}")
    try:
        return Policy(*(fnp.dtype(_SHORT.get(value, value)) for value in fields.values()))
    except TypeError as error:
        raise ValueError(f"a policy names dtypes; got {description!r}: {error}") from None


def _cast(x: Any, dtype: Any) -> Any:
    def cast(leaf: Any) -> Any:
        floats = hasattr(leaf, "dtype") and fnp.issubdtype(leaf.dtype, fnp.floating)
        return fnp.asarray(leaf).astype(dtype) if floats else leaf

    return tree.map(cast, x)


# ------------------------------------------------------------------------------------- loss scales
class NoOpLossScale(NamedTuple):
    """No scaling, with the methods of those that scale."""

    @property
    def loss_scale(self) -> int:
        """The factor: 1."""
        return 1

    def scale(self, x: Any) -> Any:
        """Return the tree as it is."""
        return x

    def unscale(self, x: Any) -> Any:
        """Return the tree as it is."""
        return x

    def adjust(self, grads_finite: Any) -> NoOpLossScale:
        """Return this scale."""
        return self


class StaticLossScale(NamedTuple):
    """A factor that stays.

    Attributes:
        loss_scale: the factor.
    """

    loss_scale: Any

    def scale(self, x: Any) -> Any:
        """Multiply a loss, or a tree, by the factor."""
        return tree.map(lambda leaf: leaf * _as(self.loss_scale, leaf), x)

    def unscale(self, x: Any) -> Any:
        """Divide gradients by the factor."""
        return tree.map(lambda leaf: leaf * _as(1 / self.loss_scale, leaf), x)

    def adjust(self, grads_finite: Any) -> StaticLossScale:
        """Return this scale."""
        return self


class DynamicLossScale(NamedTuple):
    """A factor that grows while gradients are finite and shrinks when they are not.

    A step whose gradients are not all finite is to be skipped: see `select_tree`.

    Attributes:
        loss_scale: the factor, a float32 scalar.
        counter: finite steps since the last change, an int32 scalar.
        period: after so many of them the factor grows.
        factor: by which it grows and shrinks.
        min_loss_scale: below which it does not fall.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch import amp
        >>> scale = amp.DynamicLossScale(fnp.float32(2.0**15))
        >>> f = ft.autocast(lambda w: (w @ w).sum() * 1e-3, dtype=fnp.float16)
        >>> grads = scale.unscale(ft.grad(lambda w: scale.scale(f(w)))(fnp.eye(2)))
        >>> finite = amp.all_finite(grads)
        >>> bool(finite), float(scale.adjust(False).loss_scale)
        (True, 16384.0)

    References:
        Micikevicius et al., "Mixed precision training", ICLR (2018), section 3.2.
    """

    loss_scale: Any = np.float32(2.0**15)
    counter: Any = np.int32(0)
    period: int = 2000
    factor: int = 2
    min_loss_scale: Any = np.float32(1.0)

    def scale(self, x: Any) -> Any:
        """Multiply a loss, or a tree, by the factor."""
        return StaticLossScale(self.loss_scale).scale(x)

    def unscale(self, x: Any) -> Any:
        """Divide gradients by the factor."""
        return StaticLossScale(self.loss_scale).unscale(x)

    def adjust(self, grads_finite: Any) -> DynamicLossScale:
        """Return the scale for the next step.

        Args:
            grads_finite: whether the gradients of this step were finite, a bool scalar.

        Returns:
            The scale with another factor or counter.
        """
        full = self.counter == self.period - 1
        grown = self.loss_scale * self.factor
        grown = fnp.where(full & fnp.isfinite(grown), grown, self.loss_scale)
        shrunk = fnp.maximum(self.min_loss_scale, self.loss_scale / self.factor)
        return self._replace(
            loss_scale=fnp.where(grads_finite, grown, shrunk).astype(fnp.float32),
            counter=fnp.where(grads_finite & ~full, self.counter + 1, 0).astype(fnp.int32),
        )


def _as(factor: Any, leaf: Any) -> Any:
    return fnp.asarray(factor).astype(fnp.asarray(leaf).dtype)


def all_finite(x: Any) -> Any:
    """Tell whether a tree has neither infinities nor nans.

    Args:
        x: a tree of arrays.

    Returns:
        A bool scalar.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import amp
        >>> bool(amp.all_finite([fnp.ones(2), fnp.array([fnp.inf])]))
        False
    """
    checks = [
        fnp.isfinite(leaf).all()
        for leaf in map(fnp.asarray, tree.leaves(x))
        if fnp.issubdtype(leaf.dtype, fnp.inexact)
    ]
    return functools.reduce(operator.and_, checks, fnp.asarray(True))


def select_tree(pred: Any, a: Any, b: Any) -> Any:
    """Choose between two trees: the new state of training if gradients were finite, or the old.

    Args:
        pred: a bool scalar.
        a: a tree, chosen where ``pred`` is true.
        b: a tree of the same structure.

    Returns:
        One of them, without a branch; leaves that are no arrays must be equal.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import amp
        >>> amp.select_tree(True, [fnp.ones(1)], [fnp.zeros(1)])
        [Array([1.], dtype=float32)]
    """
    return tree.map(lambda x, y: fnp.where(pred, x, y), a, b)
