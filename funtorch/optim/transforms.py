"""The pieces that optimizers are chained from: each turns gradients into better updates.

A piece is a pair of pure functions. ``init(params)`` gives its state, a pytree; and
``update(updates, state, params)`` gives new updates and a new state. Updates have the structure,
shapes and dtypes of the parameters throughout.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch import tree

__all__ = [
    "EmptyState",
    "GradientTransformation",
    "ScaleByAdamState",
    "ScaleByScheduleState",
    "Schedule",
    "TraceState",
    "add_decayed_weights",
    "apply_updates",
    "chain",
    "clip",
    "clip_by_global_norm",
    "global_norm",
    "identity",
    "scale",
    "scale_by_adam",
    "scale_by_learning_rate",
    "scale_by_schedule",
    "trace",
]

Schedule = Callable[[Any], Any]


class GradientTransformation(NamedTuple):
    """A pair of pure functions that is an optimizer, or a piece of one.

    Attributes:
        init: from parameters to the state before the first step.
        update: from (updates, state, params=None) to (updates, state).
    """

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


class TraceState(NamedTuple):
    """The decaying sum of past updates."""

    trace: Any


class ScaleByAdamState(NamedTuple):
    """How many steps were taken (int32), and the averages of gradients and of their squares."""

    count: Any
    mu: Any
    nu: Any


class ScaleByScheduleState(NamedTuple):
    """How many steps were taken (int32)."""

    count: Any


def apply_updates(params: Any, updates: Any) -> Any:
    """Add updates to parameters, in the parameters' dtypes.

    Args:
        params: a pytree of arrays.
        updates: a pytree of the same structure and shapes.

    Returns:
        The new parameters.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> optim.apply_updates([fnp.array([1.0, 2.0])], [fnp.array([0.5, 0.0])])
        [Array([1.5, 2. ], dtype=float32)]
    """

    def add(param: Any, update: Any) -> Any:
        param = fnp.asarray(param)
        return (param + update).astype(param.dtype)

    return tree.map(add, params, updates)


def global_norm(updates: Any) -> Any:
    """Compute the Euclidean norm of all arrays of a tree, taken as one vector.

    Args:
        updates: a pytree of arrays.

    Returns:
        A scalar, float32 or wider: squares of half-precision numbers overflow early.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> optim.global_norm({"a": fnp.array([3.0]), "b": fnp.array([[4.0]])})
        Array(5., dtype=float32)
    """
    squares = [
        fnp.sum(_abs_square(x.astype(_at_least_float32(x.dtype))))
        for x in map(fnp.asarray, tree.leaves(updates))
    ]
    return fnp.sqrt(functools.reduce(operator.add, squares, fnp.zeros((), fnp.float32)))


def identity() -> GradientTransformation:
    """Pass updates through unchanged.

    Returns:
        The transformation.

    Example:
        >>> from funtorch import optim
        >>> optim.identity().update([1.0], optim.EmptyState())
        ([1.0], EmptyState())
    """
    return _stateless(lambda updates, params: updates)


def chain(*transformations: GradientTransformation) -> GradientTransformation:
    """Apply transformations one after another.

    Args:
        *transformations: each gets the updates of the one before it.

    Returns:
        One transformation; its state is the tuple of theirs.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> optimizer = optim.chain(optim.clip(1.0), optim.scale(-0.5))
        >>> optimizer.update([fnp.array([0.5, 9.0])], optimizer.init(None))[0]
        [Array([-0.25, -0.5 ], dtype=float32)]
    """

    def init(params: Any) -> tuple[Any, ...]:
        return tuple([t.init(params) for t in transformations])

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, tuple[Any, ...]]:
        if len(state) != len(transformations):
            raise ValueError(
                f"a chain of {len(transformations)} transformations was given a state of "
                f"{len(state)}: use the state that this chain's init or update returned"
            )
        new_state = []
        for transformation, own in zip(transformations, state, strict=True):
            updates, own = transformation.update(updates, own, params)
            new_state.append(own)
        return updates, tuple(new_state)

    return GradientTransformation(init, update)


def scale(factor: float) -> GradientTransformation:
    """Multiply updates by a constant.

    Args:
        factor: the constant; negative to descend.

    Returns:
        The transformation.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> optim.scale(-2.0).update([fnp.ones(2)], optim.EmptyState())[0]
        [Array([-2., -2.], dtype=float32)]
    """
    return _stateless(lambda updates, params: _times(updates, factor))


def scale_by_schedule(schedule: Schedule) -> GradientTransformation:
    """Multiply updates by a function of the number of steps taken before.

    Args:
        schedule: from an int32 scalar, 0 at the first step, to a factor.

    Returns:
        The transformation.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> t = optim.scale_by_schedule(lambda step: 1.0 / (step + 1))
        >>> x, state = t.update([fnp.ones(1)], t.init([fnp.ones(1)]))
        >>> t.update([fnp.ones(1)], state)[0]
        [Array([0.5], dtype=float32)]
    """

    def init(params: Any) -> ScaleByScheduleState:
        return ScaleByScheduleState(fnp.zeros((), fnp.int32))

    def update(
        updates: Any, state: ScaleByScheduleState, params: Any = None
    ) -> tuple[Any, ScaleByScheduleState]:
        return _times(updates, schedule(state.count)), ScaleByScheduleState(state.count + 1)

    return GradientTransformation(init, update)


def scale_by_learning_rate(learning_rate: float | Schedule) -> GradientTransformation:
    """Multiply updates by minus the learning rate: the last piece of an optimizer that descends.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.

    Returns:
        The transformation.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> optim.scale_by_learning_rate(0.5).update([fnp.ones(2)], optim.EmptyState())[0]
        [Array([-0.5, -0.5], dtype=float32)]
    """
    if callable(learning_rate):
        return scale_by_schedule(lambda count: -learning_rate(count))
    return scale(-learning_rate)


def trace(decay: float, nesterov: bool = False) -> GradientTransformation:
    """Add up past updates with exponential decay: momentum.

    With m the sum, m <- decay m + g. The update is m, or g + decay m after Nesterov.

    Args:
        decay: how much of the sum stays at each step.
        nesterov: whether to look one step ahead.

    Returns:
        The transformation.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> t = optim.trace(0.5)
        >>> _, state = t.update([fnp.ones(1)], t.init([fnp.zeros(1)]))
        >>> t.update([fnp.ones(1)], state)[0]
        [Array([1.5], dtype=float32)]

    References:
        Sutskever et al., "On the importance of initialization and momentum in deep learning",
        ICML (2013).
    """

    def init(params: Any) -> TraceState:
        return TraceState(tree.map(fnp.zeros_like, params))

    def update(updates: Any, state: TraceState, params: Any = None) -> tuple[Any, TraceState]:
        def look_ahead(g: Any, m: Any) -> Any:
            return g + decay * m

        moved = tree.map(look_ahead, updates, state.trace)
        return (tree.map(look_ahead, updates, moved) if nesterov else moved), TraceState(moved)

    return GradientTransformation(init, update)


def scale_by_adam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, eps_root: float = 0.0
) -> GradientTransformation:
    """Divide the running mean of gradients by the root of the running mean of their squares.

    With m and v the averages of g and |g|², corrected for their start at zero:
    m / (sqrt(v + eps_root) + eps).

    Args:
        b1: decay of the average of gradients, in [0, 1).
        b2: decay of the average of squares, in [0, 1).
        eps: keeps the divisor from 0.
        eps_root: keeps the root from 0, where its derivative is infinite; for those who
            differentiate through the optimizer.

    Returns:
        The transformation.

    Raises:
        ValueError: ``b1`` or ``b2`` is outside [0, 1).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> t = optim.scale_by_adam()
        >>> fnp.round(t.update([fnp.array([3.0, -5.0])], t.init([fnp.zeros(2)]))[0][0], 4)
        Array([ 1., -1.], dtype=float32)

    References:
        Kingma & Ba, "Adam: a method for stochastic optimization", ICLR (2015).
    """
    for name, value in (("b1", b1), ("b2", b2)):
        if not 0 <= value < 1:
            raise ValueError(f"scale_by_adam takes {name} in [0, 1); it was given {value}")

    def init(params: Any) -> ScaleByAdamState:
        squares = tree.map(lambda p: fnp.zeros_like(fnp.real(p)), params)
        return ScaleByAdamState(fnp.zeros((), fnp.int32), tree.map(fnp.zeros_like, params), squares)

    def update(
        updates: Any, state: ScaleByAdamState, params: Any = None
    ) -> tuple[Any, ScaleByAdamState]:
        count = state.count + 1
        mu = tree.map(lambda g, m: b1 * m + (1 - b1) * g, updates, state.mu)
        nu = tree.map(lambda g, v: b2 * v + (1 - b2) * _abs_square(g), updates, state.nu)

        def divide(m: Any, v: Any) -> Any:
            return m / (fnp.sqrt(v + eps_root) + eps)

        updates = tree.map(divide, _unbiased(mu, b1, count), _unbiased(nu, b2, count))
        return updates, ScaleByAdamState(count, mu, nu)

    return GradientTransformation(init, update)


def add_decayed_weights(weight_decay: float, mask: Any = None) -> GradientTransformation:
    """Add the parameters times a constant to the updates: weight decay.

    Args:
        weight_decay: the constant.
        mask: a pytree of bools like the parameters, or a function from parameters to one; only
            where it is true do weights decay. By default everywhere.

    Returns:
        The transformation; its update needs ``params``.

    Raises:
        ValueError: update was called without ``params``.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> t = optim.add_decayed_weights(0.5)
        >>> t.update([fnp.zeros(2)], t.init(None), [fnp.array([2.0, 4.0])])[0]
        [Array([1., 2.], dtype=float32)]
    """

    def decay(updates: Any, params: Any) -> Any:
        if params is None:
            raise ValueError(
                "add_decayed_weights (a piece of adamw) needs the parameters: call "
                "update(grads, state, params)"
            )
        if mask is None:
            return tree.map(lambda g, p: g + weight_decay * p, updates, params)
        chosen = mask(params) if callable(mask) else mask
        return tree.map(lambda g, p, m: g + weight_decay * p if m else g, updates, params, chosen)

    return _stateless(decay)


def clip(max_delta: float) -> GradientTransformation:
    """Clip each element of the updates to [-max_delta, max_delta].

    Args:
        max_delta: the bound.

    Returns:
        The transformation.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> optim.clip(1.0).update([fnp.array([0.5, -9.0])], optim.EmptyState())[0]
        [Array([ 0.5, -1. ], dtype=float32)]
    """

    def clip_all(updates: Any, params: Any) -> Any:
        return tree.map(lambda g: fnp.clip(g, -max_delta, max_delta), updates)

    return _stateless(clip_all)


def clip_by_global_norm(max_norm: float) -> GradientTransformation:
    """Shrink all updates by one factor so that their `global_norm` is at most ``max_norm``.

    Args:
        max_norm: the bound.

    Returns:
        The transformation.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim
        >>> t = optim.clip_by_global_norm(1.0)
        >>> t.update([fnp.array([3.0, 4.0])], t.init(None))[0]
        [Array([0.6, 0.8], dtype=float32)]

    References:
        Pascanu et al., "On the difficulty of training recurrent neural networks", ICML (2013).
    """

    def shrink(updates: Any, params: Any) -> Any:
        # Dividing by the larger of the two never divides by 0 and leaves short updates exact.
        return _times(updates, max_norm / fnp.maximum(global_norm(updates), max_norm))

    return _stateless(shrink)


def _stateless(update: Callable[[Any, Any], Any]) -> GradientTransformation:
    return GradientTransformation(
        lambda params: EmptyState(),
        lambda updates, state, params=None: (update(updates, params), state),
    )


def _times(updates: Any, factor: Any) -> Any:
    # A factor that is an array would otherwise widen half-precision updates.
    return tree.map(lambda g: fnp.asarray(factor, dtype=g.dtype) * g, updates)


def _abs_square(x: Any) -> Any:
    if fnp.issubdtype(x.dtype, fnp.complexfloating):
        return fnp.square(fnp.real(x)) + fnp.square(fnp.imag(x))
    return fnp.square(x)


def _at_least_float32(dtype: Any) -> Any:
    return fnp.promote_types(dtype, fnp.float32)


def _unbiased(moments: Any, decay: float, count: Any) -> Any:
    """Divide averages that started at zero by 1 - decay**count."""
    log_decay = math.log(decay) if decay else -math.inf

    def correct(m: Any) -> Any:
        dtype = _at_least_float32(fnp.finfo(m.dtype).dtype)
        # expm1, since for a decay near 1 the difference 1 - decay**count would lose its digits.
        weight = -fnp.expm1(count.astype(dtype) * log_decay)
        return (m / weight).astype(m.dtype)

    return tree.map(correct, moments)
