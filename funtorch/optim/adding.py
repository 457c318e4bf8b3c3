"""What is added to updates: decay of weights, noise; and what keeps them in bounds."""

from __future__ import annotations

from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch import dtypes, random
from funtorch.optim.base import (
    EmptyState,
    GradientTransformation,
    ScalarOrSchedule,
    check_params,
    each,
    per_leaf,
    piece,
    stateless,
    zero_count,
)
from funtorch.optim.norms import safe_increment
from funtorch.optim.tree_utils import tree_random_like
from funtorch.optim.wrappers import masked

__all__ = [
    "AddDecayedWeightsState",
    "AddNoiseState",
    "NonNegativeParamsState",
    "WeightDecaySchedule",
    "ZeroNansState",
    "add_decayed_weights",
    "add_l1_weights",
    "add_noise",
    "keep_params_nonnegative",
    "zero_nans",
]

AddDecayedWeightsState = EmptyState
NonNegativeParamsState = EmptyState


class WeightDecaySchedule(NamedTuple):
    """How many steps were taken (int32)."""

    count: Any


class AddNoiseState(NamedTuple):
    """How many steps were taken (int32), and the key of the next noise."""

    count: Any
    rng_key: Any


class ZeroNansState(NamedTuple):
    """For each array whether the last updates had a nan in it."""

    found_nan: Any


def key_of(key: Any) -> Any:
    """Return a random key, made of an integer if it is none."""
    dtype = getattr(key, "dtype", None)
    is_key = dtype is not None and dtypes.issubdtype(dtype, dtypes.prng_key)
    if is_key or (dtype is not None and fnp.shape(key) == (2,)):
        return key
    return random.key(key)


def _penalty(name: str, strength: Any, gradient: Any, mask: Any) -> GradientTransformation:
    """Return what adds ``strength * gradient(p)``; strength may be a schedule."""

    def add(updates: Any, params: Any, factor: Any) -> Any:
        check_params(name, params)
        return each(
            lambda g, p: g + fnp.asarray(factor, dtype=fnp.asarray(p).dtype) * gradient(p),
            updates,
            params,
        )

    if callable(strength):

        def init(params: Any) -> WeightDecaySchedule:
            return WeightDecaySchedule(zero_count())

        def update(updates: Any, state: WeightDecaySchedule, params: Any) -> tuple[Any, Any]:
            updates = add(updates, params, strength(state.count))
            return updates, WeightDecaySchedule(safe_increment(state.count))

        init.__qualname__ = f"{name}.init"
        transformation = piece(WeightDecaySchedule, init, update)
    else:
        nothing = isinstance(strength, (int, float)) and strength == 0
        transformation = stateless(
            lambda updates, params: (
                updates if nothing and params is not None else add(updates, params, strength)
            )
        )
    return transformation if mask is None else masked(transformation, mask)


def add_decayed_weights(
    weight_decay: ScalarOrSchedule = 0.0, mask: Any = None
) -> GradientTransformation:
    """Add the parameters times a constant to the updates: weight decay.

    Before an optimizer it is a penalty of half the squared weights (L2); after it, and before the
    learning rate, it is decoupled, as in AdamW.

    Args:
        weight_decay: the constant, or a function of the number of steps taken before.
        mask: a pytree of bools like the parameters, or a function from parameters to one; only
            where it is true do weights decay. By default everywhere.

    Returns:
        The transformation; its update needs ``params``.

    Raises:
        ValueError: update was called without ``params``.

    Example:
        >>> t = optim.add_decayed_weights(0.5)
        >>> t.update([fnp.zeros(2)], t.init(None), [fnp.array([2.0, 4.0])])[0]
        [Array([1., 2.], dtype=float32)]

    References:
        Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR (2019).
    """
    return _penalty("add_decayed_weights (a piece of adamw)", weight_decay, lambda p: p, mask)


def add_l1_weights(strength: ScalarOrSchedule, mask: Any = None) -> GradientTransformation:
    """Add the signs of the parameters times a constant: the gradient of an L1 penalty.

    Args:
        strength: the constant, or a function of the number of steps taken before.
        mask: which weights are penalised; see `add_decayed_weights`.

    Returns:
        The transformation; its update needs ``params``.

    Example:
        >>> t = optim.add_l1_weights(0.5)
        >>> t.update([fnp.zeros(2)], t.init(None), [fnp.array([-2.0, 4.0])])[0]
        [Array([-0.5,  0.5], dtype=float32)]

    References:
        Tibshirani, "Regression shrinkage and selection via the lasso" (1996).
    """
    return _penalty("add_l1_weights", strength, fnp.sign, mask)


def add_noise(
    eta: Any, gamma: Any, key: Any = 0, *, seed: int | None = None
) -> GradientTransformation:
    """Add Gaussian noise that fades: of variance eta / t**gamma at step t.

    Args:
        eta: variance at the first step.
        gamma: how fast it fades.
        key: random key, or an integer to make one of.
        seed: another name of an integer key.

    Returns:
        The transformation.

    Example:
        >>> t = optim.add_noise(0.0, 0.5, key=0)
        >>> t.update([fnp.ones(2)], t.init(None))[0]
        [Array([1., 1.], dtype=float32)]

    References:
        Neelakantan et al., "Adding gradient noise improves learning for very deep networks" (2015).
    """

    def init(params: Any) -> AddNoiseState:
        return AddNoiseState(zero_count(), key_of(key if seed is None else seed))

    def update(updates: Any, state: AddNoiseState, params: Any) -> tuple[Any, AddNoiseState]:
        count = safe_increment(state.count)
        deviation = fnp.sqrt(eta / count**gamma)
        rest, now = random.split(state.rng_key)
        noise = tree_random_like(now, updates)
        updates = each(lambda g, n: g + deviation.astype(n.dtype) * n, updates, noise)
        return updates, AddNoiseState(count, rest)

    return piece(AddNoiseState, init, update)


def keep_params_nonnegative() -> GradientTransformation:
    """Change updates that would make a parameter negative, so that they make it 0.

    Returns:
        The transformation; its update needs ``params``.

    Example:
        >>> t = optim.keep_params_nonnegative()
        >>> t.update([fnp.array([-3.0, -1.0])], t.init(None), [fnp.array([2.0, 2.0])])[0]
        [Array([-2., -1.], dtype=float32)]
    """

    def change(updates: Any, params: Any) -> Any:
        check_params("keep_params_nonnegative", params)
        return each(lambda g, p: fnp.where(p + g < 0, -p, g), updates, params)

    return stateless(change)


def zero_nans() -> GradientTransformation:
    """Replace nans in updates by zeros, and keep in the state where there were any.

    Returns:
        The transformation.

    Example:
        >>> t = optim.zero_nans()
        >>> t.update([fnp.array([1.0, fnp.nan])], t.init([fnp.zeros(2)]))
        ([Array([1., 0.], dtype=float32)], ZeroNansState(found_nan=[Array(True, dtype=bool)]))
    """

    def init(params: Any) -> ZeroNansState:
        return ZeroNansState(each(lambda p: fnp.asarray(False), params))

    def step(g: Any, found: Any) -> tuple[Any, Any]:
        nan = fnp.isnan(g)
        return fnp.where(nan, 0, g), fnp.any(nan)

    def update(updates: Any, state: ZeroNansState, params: Any) -> tuple[Any, ZeroNansState]:
        updates, found = per_leaf(step, updates, (state.found_nan,))
        return updates, ZeroNansState(found)

    return piece(ZeroNansState, init, update)
