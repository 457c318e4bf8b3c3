"""Hyperparameters as part of the state: seen, set, scheduled, differentiated."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import Array
from funtorch.optim.base import (
    GradientTransformationExtraArgs,
    Schedule,
    piece_with_extra,
    with_extra_args_support,
    zero_count,
)
from funtorch.optim.norms import at_least_float32, safe_increment
from funtorch.optim.tree_utils import tree_dtype

__all__ = [
    "InjectHyperparamsState",
    "InjectStatefulHyperparamsState",
    "StatefulSchedule",
    "WrappedSchedule",
    "WrappedScheduleState",
    "inject_hyperparams",
    "inject_stateful_hyperparams",
]


class InjectStatefulHyperparamsState(NamedTuple):
    """Steps (int32), hyperparameters by name, states of their schedules, the optimizer's state."""

    count: Any
    hyperparams: dict[str, Any]
    hyperparams_states: dict[str, Any]
    inner_state: Any


InjectHyperparamsState = InjectStatefulHyperparamsState


@runtime_checkable
class StatefulSchedule(Protocol):
    """A schedule that may depend on more than the number of steps."""

    def init(self) -> Any:
        """Return the state before the first step."""

    def update(self, state: Any, **extra_args: Any) -> Any:
        """Return the next state; the extra arguments are those of the optimizer's update."""

    def __call__(self, state: Any, **extra_args: Any) -> Any:
        """Return the value."""


class WrappedScheduleState(NamedTuple):
    """How many steps were taken (int32)."""

    count: Any


class WrappedSchedule:
    """A function of the number of steps as a `StatefulSchedule`.

    Args:
        schedule_fn: the function.

    Example:
        >>> schedule = optim.WrappedSchedule(lambda step: 2.0 * step)
        >>> schedule(schedule.update(schedule.init()))
        Array(2., dtype=float32, weak_type=True)
    """

    def __init__(self, schedule_fn: Schedule) -> None:
        self.schedule_fn = schedule_fn

    def init(self) -> WrappedScheduleState:
        """Return the state before the first step."""
        return WrappedScheduleState(zero_count())

    def update(self, state: WrappedScheduleState, **extra_args: Any) -> WrappedScheduleState:
        """Return the state after another step."""
        return WrappedScheduleState(safe_increment(state.count))

    def __call__(self, state: WrappedScheduleState, **extra_args: Any) -> Any:
        """Return the value."""
        return self.schedule_fn(state.count)


def _as_array(x: Any, dtype: Any) -> Any:
    """Return a hyperparameter as an array; floats without a dtype of their own get ``dtype``."""
    if isinstance(x, Array) and not getattr(x, "weak_type", False):
        return x
    x = fnp.asarray(x)
    return x.astype(dtype) if fnp.issubdtype(x.dtype, fnp.floating) else x


def _is_number(x: Any) -> bool:
    if isinstance(x, (Array, np.ndarray, np.generic)):
        return not dtypes.issubdtype(x.dtype, dtypes.prng_key)
    return isinstance(x, (int, float))


def inject_hyperparams(
    inner_factory: Callable[..., Any],
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: Any = None,
) -> Callable[..., GradientTransformationExtraArgs]:
    """Make a function that makes optimizers keep their hyperparameters in their state.

    Numbers become arrays in ``state.hyperparams``: read them there, or replace them between steps,
    without compiling again. Functions are schedules: from the number of steps to a value.

    Args:
        inner_factory: function that makes an optimizer, such as `adam`.
        static_args: names of arguments that stay as they are.
        hyperparam_dtype: dtype of the numbers; by default the widest of the parameters, at least
            float32.

    Returns:
        A function of the same arguments as ``inner_factory``.

    Raises:
        ValueError: ``static_args`` names no argument of ``inner_factory``.

    Example:
        >>> optimizer = optim.inject_hyperparams(optim.sgd)(learning_rate=0.5)
        >>> state = optimizer.init([fnp.zeros(1)])
        >>> state.hyperparams["learning_rate"] = fnp.asarray(0.25)
        >>> optimizer.update([fnp.ones(1)], state)[0]
        [Array([-0.25], dtype=float32)]
    """
    static = {static_args} if isinstance(static_args, str) else set(static_args)
    signature = inspect.signature(inner_factory)
    unknown = static - set(signature.parameters)
    if unknown:
        raise ValueError(
            f"inject_hyperparams: static_args {sorted(unknown)} are no arguments of "
            f"{inner_factory.__name__}, which has {list(signature.parameters)}"
        )

    @functools.wraps(inner_factory)
    def make(*args: Any, **kwargs: Any) -> GradientTransformationExtraArgs:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        schedules: dict[str, Any] = {}
        numbers: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if name in static or isinstance(value, bool):
                others[name] = value
            elif isinstance(value, StatefulSchedule):
                schedules[name] = value
            elif callable(value):
                schedules[name] = WrappedSchedule(value)
            else:
                (numbers if _is_number(value) else others)[name] = value
        return _injected(inner_factory, schedules, numbers, others, hyperparam_dtype)

    return make


def _injected(
    factory: Callable[..., Any], schedules: dict[str, Any], numbers: dict[str, Any],
    others: dict[str, Any], dtype: Any,
) -> GradientTransformationExtraArgs:  # fmt: skip
    def wide(params: Any) -> Any:
        # In half precision b2 = 0.999 would be 1.
        return at_least_float32(tree_dtype(params, "highest")) if dtype is None else dtype

    def values(states: dict[str, Any], wanted: Any, extra: dict[str, Any]) -> dict[str, Any]:
        return {k: _as_array(s(states[k], **extra), wanted) for k, s in schedules.items()}

    def init(params: Any) -> InjectStatefulHyperparamsState:
        wanted = wide(params)
        states = {k: s.init() for k, s in schedules.items()}
        given = {k: _as_array(v, wanted) for k, v in numbers.items()}
        given |= values(states, wanted, {})
        return InjectStatefulHyperparamsState(
            zero_count(), given, states, factory(**others, **given).init(params)
        )

    def update(
        updates: Any, state: InjectStatefulHyperparamsState, params: Any = None, **extra: Any
    ) -> tuple[Any, InjectStatefulHyperparamsState]:
        wanted = wide(updates if params is None else params)
        given = {k: _as_array(v, wanted) for k, v in state.hyperparams.items()}
        given |= values(state.hyperparams_states, wanted, extra)
        states = {k: s.update(state.hyperparams_states[k], **extra) for k, s in schedules.items()}
        inner = with_extra_args_support(factory(**others, **given))
        updates, inner_state = inner.update(updates, state.inner_state, params, **extra)
        return updates, InjectStatefulHyperparamsState(
            safe_increment(state.count), given, states, inner_state
        )

    init.__qualname__ = f"inject_hyperparams({getattr(factory, '__name__', 'f')})"
    return piece_with_extra(InjectStatefulHyperparamsState, init, update)


inject_stateful_hyperparams = inject_hyperparams
