"""When to step: accumulation over several gradients, conditions, slow copies of the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import funtorch.numpy as fnp
from funtorch import lax, tree
from funtorch.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    cast_to,
    check_params,
    check_state,
    each,
    per_leaf,
    piece,
    piece_with_extra,
    with_extra_args_support,
    zero_count,
    zeros_like,
)
from funtorch.optim.norms import safe_increment, squared_norm
from funtorch.transforms import eval_shape

__all__ = [
    "ApplyEvery",
    "ApplyIfFiniteState",
    "ConditionallyMaskState",
    "ConditionallyTransformState",
    "LookaheadParams",
    "LookaheadState",
    "MultiSteps",
    "MultiStepsState",
    "ShouldSkipUpdateFunction",
    "apply_every",
    "apply_if_finite",
    "conditionally_mask",
    "conditionally_transform",
    "lookahead",
    "skip_large_updates",
    "skip_not_finite",
]


class ApplyEvery(NamedTuple):
    """Where in the period the next step is (int32), and the sum of updates."""

    count: Any
    grad_acc: Any


class MultiStepsState(NamedTuple):
    """Gradients since the last step, steps (int32), the optimizer's state, the mean gradient."""

    mini_step: Any
    gradient_step: Any
    inner_opt_state: Any
    acc_grads: Any
    skip_state: Any = ()


class ApplyIfFiniteState(NamedTuple):
    """Bad updates in a row, whether the last was good, all bad ones, and the inner state."""

    notfinite_count: Any
    last_finite: Any
    total_notfinite: Any
    inner_state: Any


class ConditionallyTransformState(NamedTuple):
    """The inner state, and how many steps were taken (int32)."""

    inner_state: Any
    step: Any


class ConditionallyMaskState(NamedTuple):
    """How many steps were taken (int32), and the inner state."""

    step: Any
    inner_state: Any


class LookaheadState(NamedTuple):
    """The fast optimizer's state, and steps since the slow parameters moved (int32)."""

    fast_state: Any
    steps_since_sync: Any


class LookaheadParams(NamedTuple):
    """Two copies of the parameters.

    Attributes:
        fast: where gradients are taken.
        slow: what follows them every few steps.
    """

    fast: Any
    slow: Any

    @classmethod
    def init_synced(cls, params: Any) -> LookaheadParams:
        """Make both copies of the same parameters.

        Args:
            params: a pytree of arrays.

        Returns:
            The pair.

        Example:
            >>> optim.LookaheadParams.init_synced([1.0])
            LookaheadParams(fast=[1.0], slow=[1.0])
        """
        return cls(fast=params, slow=params)


class ShouldSkipUpdateFunction(Protocol):
    """What `MultiSteps` asks before it takes a gradient in."""

    def __call__(self, updates: Any, gradient_step: Any, params: Any) -> tuple[Any, Any]:
        """Return whether to skip (a bool scalar), and a pytree to keep in the state."""


# ------------------------------------------------------------------------------------- accumulation
def apply_every(k: int = 1) -> GradientTransformation:
    """Add up updates, and let the sum through at every k-th step; the others are zero.

    Args:
        k: the period.

    Returns:
        The transformation. `MultiSteps` accumulates gradients, before an optimizer.

    Example:
        >>> t = optim.apply_every(2)
        >>> first, state = t.update([fnp.ones(1)], t.init([fnp.zeros(1)]))
        >>> first, t.update([fnp.ones(1)], state)[0]
        ([Array([0.], dtype=float32)], [Array([2.], dtype=float32)])
    """
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"apply_every takes a period of at least 1; it was given {k!r}")

    def init(params: Any) -> ApplyEvery:
        return ApplyEvery(zero_count(), zeros_like(params))

    def update(updates: Any, state: ApplyEvery, params: Any) -> tuple[Any, ApplyEvery]:
        def step(g: Any, total: Any) -> tuple[Any, Any]:
            total = fnp.where(state.count == 0, 0, total) + g
            return fnp.where(state.count == k - 1, total, 0), total

        updates, total = per_leaf(step, updates, (state.grad_acc,))
        return updates, ApplyEvery((state.count + 1) % k, total)

    return piece(ApplyEvery, init, update)


def skip_not_finite(updates: Any, gradient_step: Any, params: Any) -> tuple[Any, Any]:
    """Skip gradients with an infinity or a nan: for ``should_skip_update_fn`` of `MultiSteps`.

    Args:
        updates: the gradients.
        gradient_step: steps taken.
        params: the parameters.

    Returns:
        (whether to skip, {'should_skip': the same, 'num_not_finite': how many elements}).

    Example:
        >>> bool(optim.skip_not_finite([fnp.array([1.0, fnp.inf])], 0, None)[0])
        True
    """
    bad = [fnp.sum(~fnp.isfinite(x)) for x in tree.leaves(updates)]
    number = sum(bad, start=zero_count())
    return number > 0, {"should_skip": number > 0, "num_not_finite": number}


def skip_large_updates(
    updates: Any, gradient_step: Any, params: Any, max_squared_norm: float
) -> tuple[Any, Any]:
    """Skip gradients whose squared global norm is too large, or nan.

    Args:
        updates: the gradients.
        gradient_step: steps taken.
        params: the parameters.
        max_squared_norm: the bound; give it by `functools.partial`.

    Returns:
        (whether to skip, {'should_skip': the same, 'norm_squared': the squared norm}).

    Example:
        >>> bool(optim.skip_large_updates([fnp.array([3.0, 4.0])], 0, None, 16.0)[0])
        True
    """
    square = squared_norm(updates)
    skip = ~(square < max_squared_norm)
    return skip, {"should_skip": skip, "norm_squared": square}


def _never_skip(updates: Any, gradient_step: Any, params: Any) -> tuple[Any, Any]:
    return fnp.asarray(False), ()


class MultiSteps:
    """An optimizer that steps once for several gradients, by their mean.

    Between its steps, updates are zero. It has the init and update of a transformation.

    Args:
        opt: the optimizer.
        every_k_schedule: how many gradients to a step; or a function of the number of steps.
        use_grad_mean: whether to take the mean rather than the sum.
        should_skip_update_fn: says which gradients to leave out; see `skip_not_finite`.
        accumulator_dtype: dtype of the mean.

    Example:
        >>> optimizer = optim.MultiSteps(optim.sgd(1.0), every_k_schedule=2)
        >>> state = optimizer.init([fnp.zeros(1)])
        >>> first, state = optimizer.update([fnp.full(1, 1.0)], state)
        >>> second, state = optimizer.update([fnp.full(1, 2.0)], state)
        >>> first, second, bool(optimizer.has_updated(state))
        ([Array([0.], dtype=float32)], [Array([-1.5], dtype=float32)], True)
    """

    def __init__(
        self,
        opt: GradientTransformation,
        every_k_schedule: int | Callable[[Any], Any],
        use_grad_mean: bool = True,
        should_skip_update_fn: ShouldSkipUpdateFunction | None = None,
        accumulator_dtype: Any = fnp.float32,
    ) -> None:
        if isinstance(every_k_schedule, int) and every_k_schedule < 1:
            raise ValueError(
                f"MultiSteps takes at least 1 gradient to a step; it was given {every_k_schedule}"
            )
        self._opt = with_extra_args_support(opt)
        self._period = (
            every_k_schedule if callable(every_k_schedule) else lambda step: every_k_schedule
        )
        self._mean = use_grad_mean
        self._skip = should_skip_update_fn or _never_skip
        self._dtype = accumulator_dtype

    @property
    def inner_opt(self) -> GradientTransformationExtraArgs:
        """The optimizer that steps."""
        return self._opt

    def init(self, params: Any) -> MultiStepsState:
        """Make the state before the first gradient.

        Args:
            params: a pytree of arrays.

        Returns:
            The state.
        """
        return MultiStepsState(
            zero_count(),
            zero_count(),
            self._opt.init(params),
            zeros_like(params, self._dtype),
            self._skip(zeros_like(params), zero_count(), params)[1],
        )

    def update(
        self, updates: Any, state: MultiStepsState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, MultiStepsState]:
        """Take in a gradient, and step if it is the last of its period.

        Args:
            updates: the gradients.
            state: the state.
            params: the parameters, if the optimizer needs them.
            **extra_args: for the optimizer.

        Returns:
            (updates, new state).

        Raises:
            ValueError: ``should_skip_update_fn`` did not return a bool scalar.
        """
        check_state("MultiSteps", state, MultiStepsState)
        skip, skip_state = self._skip(updates, state.gradient_step, params)
        if fnp.shape(skip) != () or fnp.asarray(skip).dtype != fnp.bool_:
            raise ValueError(
                "MultiSteps: should_skip_update_fn must return a bool scalar first, not one of "
                f"shape {fnp.shape(skip)} and dtype {fnp.asarray(skip).dtype}"
            )
        moved, new = self._take_in(updates, state, params, extra_args)
        if self._skip is _never_skip:
            return moved, new
        moved = each(lambda u: fnp.where(skip, 0, u), moved)
        new = tree.map(
            lambda n, o: fnp.where(skip, o, n), new._replace(skip_state=()),
            state._replace(skip_state=()),
        )  # fmt: skip
        return moved, new._replace(skip_state=skip_state)

    def _take_in(self, updates: Any, state: Any, params: Any, extra: Any) -> tuple[Any, Any]:
        period = self._period(state.gradient_step)
        last = state.mini_step == period - 1

        def join(g: Any, mean: Any) -> tuple[Any, Any]:
            new = mean + ((g - mean) / (state.mini_step + 1) if self._mean else g)
            return cast_to(new, g), new

        grads, kept = per_leaf(join, updates, (state.acc_grads,))

        def step(inner: Any) -> tuple[Any, Any]:
            return self._opt.update(grads, inner, params, **extra)

        zeros = self._zeros(step, state.inner_opt_state)
        moved, inner = lax.cond(last, step, lambda inner: (zeros, inner), state.inner_opt_state)
        return moved, MultiStepsState(
            fnp.where(last, 0, state.mini_step + 1).astype(fnp.int32),
            fnp.where(last, safe_increment(state.gradient_step), state.gradient_step),
            inner,
            each(lambda mean: fnp.where(last, 0, mean).astype(mean.dtype), kept),
            (),
        )

    def _zeros(self, step: Callable[..., Any], inner: Any) -> Any:
        shapes, _ = eval_shape(step, inner)
        return tree.map(lambda s: fnp.zeros(s.shape, s.dtype), shapes)

    def has_updated(self, state: MultiStepsState) -> Any:
        """Tell whether the last update made a step.

        Args:
            state: the state that it returned.

        Returns:
            A bool scalar.
        """
        return (state.mini_step == 0) & (state.gradient_step > 0)

    def gradient_transformation(self) -> GradientTransformationExtraArgs:
        """Make a named tuple of init and update.

        Returns:
            The transformation.
        """
        return GradientTransformationExtraArgs(self.init, self.update)


# --------------------------------------------------------------------------------------- conditions
def _guarded(
    inner: GradientTransformationExtraArgs, go: Any, otherwise: Callable[[Any], Any],
    updates: Any, state: Any, params: Any, extra: dict[str, Any],
) -> tuple[Any, Any]:  # fmt: skip
    """Return what ``inner`` makes of updates if ``go``; else ``otherwise(updates)``, old state."""

    def step(updates: Any, state: Any) -> tuple[Any, Any]:
        moved, new = inner.update(updates, state, params, **extra)
        return each(cast_to, moved, updates), tree.map(cast_to, new, state)

    return lax.cond(go, step, lambda updates, state: (otherwise(updates), state), updates, state)


def conditionally_transform(
    inner: GradientTransformation,
    should_transform_fn: Callable[..., Any],
    forward_extra_args: bool = False,
) -> GradientTransformationExtraArgs:
    """Transform updates where a condition holds, and pass them on unchanged where it does not.

    Args:
        inner: the transformation.
        should_transform_fn: function of the number of steps taken before, returning a bool scalar.
        forward_extra_args: whether it gets the update's extra arguments too.

    Returns:
        The transformation.

    Example:
        >>> t = optim.conditionally_transform(optim.scale(-1.0), lambda step: step > 0)
        >>> first, state = t.update([fnp.ones(1)], t.init([fnp.zeros(1)]))
        >>> first, t.update([fnp.ones(1)], state)[0]
        ([Array([1.], dtype=float32)], [Array([-1.], dtype=float32)])
    """
    inner = with_extra_args_support(inner)

    def init(params: Any) -> ConditionallyTransformState:
        return ConditionallyTransformState(inner.init(params), zero_count())

    def update(
        updates: Any, state: ConditionallyTransformState, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        go = should_transform_fn(state.step, **(extra if forward_extra_args else {}))
        updates, new = _guarded(inner, go, lambda g: g, updates, state.inner_state, params, extra)
        return updates, ConditionallyTransformState(new, safe_increment(state.step))

    return piece_with_extra(ConditionallyTransformState, init, update)


def conditionally_mask(
    inner: GradientTransformation,
    should_transform_fn: Callable[..., Any],
    forward_extra_args: bool = False,
) -> GradientTransformationExtraArgs:
    """Transform updates where a condition holds, and set them to zero where it does not.

    Args:
        inner: the transformation.
        should_transform_fn: function of the number of steps taken before, returning a bool scalar.
        forward_extra_args: whether it gets the update's extra arguments too.

    Returns:
        The transformation.

    Example:
        >>> t = optim.conditionally_mask(optim.scale(-1.0), lambda step: step > 0)
        >>> first, state = t.update([fnp.ones(1)], t.init([fnp.zeros(1)]))
        >>> first, t.update([fnp.ones(1)], state)[0]
        ([Array([0.], dtype=float32)], [Array([-1.], dtype=float32)])
    """
    inner = with_extra_args_support(inner)

    def init(params: Any) -> ConditionallyMaskState:
        return ConditionallyMaskState(zero_count(), inner.init(params))

    def update(
        updates: Any, state: ConditionallyMaskState, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        go = should_transform_fn(state.step, **(extra if forward_extra_args else {}))
        updates, new = _guarded(inner, go, _zeros_of, updates, state.inner_state, params, extra)
        return updates, ConditionallyMaskState(safe_increment(state.step), new)

    return piece_with_extra(ConditionallyMaskState, init, update)


def _zeros_of(updates: Any) -> Any:
    return each(fnp.zeros_like, updates)


def apply_if_finite(
    inner: GradientTransformation, max_consecutive_errors: int
) -> GradientTransformationExtraArgs:
    """Step only where all updates are finite; else updates are zero and the state stays.

    Args:
        inner: the optimizer.
        max_consecutive_errors: after so many bad updates in a row, bad ones go through.

    Returns:
        The transformation.

    Example:
        >>> t = optim.apply_if_finite(optim.sgd(1.0), max_consecutive_errors=5)
        >>> updates, state = t.update([fnp.full(1, fnp.nan)], t.init([fnp.zeros(1)]))
        >>> updates, int(state.total_notfinite)
        ([Array([0.], dtype=float32)], 1)
    """
    inner = with_extra_args_support(inner)

    def init(params: Any) -> ApplyIfFiniteState:
        return ApplyIfFiniteState(zero_count(), fnp.asarray(True), zero_count(), inner.init(params))

    def update(
        updates: Any, state: ApplyIfFiniteState, params: Any = None, **extra: Any
    ) -> tuple[Any, ApplyIfFiniteState]:
        finite = ~skip_not_finite(updates, 0, None)[0]
        in_a_row = fnp.where(finite, 0, safe_increment(state.notfinite_count))
        total = fnp.where(finite, state.total_notfinite, safe_increment(state.total_notfinite))
        updates, new = _guarded(
            inner, finite | (in_a_row > max_consecutive_errors), _zeros_of, updates,
            state.inner_state, params, extra,
        )  # fmt: skip
        return updates, ApplyIfFiniteState(in_a_row.astype(fnp.int32), finite, total, new)

    return piece_with_extra(ApplyIfFiniteState, init, update)


# -------------------------------------------------------------------------------------- slow copies
def lookahead(
    fast_optimizer: GradientTransformation,
    sync_period: int,
    slow_step_size: float,
    reset_state: bool = False,
) -> GradientTransformation:
    """Let slow parameters follow fast ones every few steps, and the fast ones start from there.

    Args:
        fast_optimizer: what moves the fast parameters.
        sync_period: steps from one meeting to the next.
        slow_step_size: part of the way that the slow parameters go.
        reset_state: whether the fast optimizer starts anew then.

    Returns:
        The transformation; its params and updates are `LookaheadParams`, its gradients those of
        the fast parameters.

    Raises:
        ValueError: the period is less than 1.

    Example:
        >>> t = optim.lookahead(optim.sgd(1.0), sync_period=1, slow_step_size=0.5)
        >>> params = optim.LookaheadParams.init_synced(fnp.zeros(1))
        >>> t.update(fnp.full(1, 2.0), t.init(params), params)[0].slow
        Array([-1.], dtype=float32)

    References:
        Zhang et al., "Lookahead optimizer: k steps forward, 1 step back", NeurIPS (2019).
    """
    if sync_period < 1:
        raise ValueError(f"lookahead takes a sync_period of at least 1, not {sync_period}")

    def init(params: Any) -> LookaheadState:
        return LookaheadState(fast_optimizer.init(getattr(params, "fast", params)), zero_count())

    def update(updates: Any, state: LookaheadState, params: Any) -> tuple[Any, LookaheadState]:
        if not isinstance(check_params("lookahead", params), LookaheadParams):
            raise TypeError(
                "lookahead: update takes LookaheadParams(fast=..., slow=...) as params, not "
                f"{type(params).__name__}; make them by LookaheadParams.init_synced(params)"
            )
        updates, fast_state = fast_optimizer.update(updates, state.fast_state, params.fast)
        meet = state.steps_since_sync == sync_period - 1

        def step(u: Any, fast: Any, slow: Any) -> tuple[Any, Any]:
            way = fnp.where(meet, fast + u - slow, 0)
            return u - (1 - slow_step_size) * way, slow_step_size * way

        fast, slow = (
            each(lambda u, f, s, k=k: step(u, f, s)[k], updates, params.fast, params.slow)
            for k in range(2)
        )
        if reset_state:
            start = fast_optimizer.init(params.fast)
            fast_state = tree.map(lambda now, s: fnp.where(meet, s, now), fast_state, start)
        count = (state.steps_since_sync + 1) % sync_period
        return LookaheadParams(fast, slow), LookaheadState(fast_state, count)

    return piece(LookaheadState, init, update)
