"""Wrappers of optimizers: sharpness-aware, schedule-free, on plateaus, complex, private."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch import lax, random, tree
from funtorch.optim.adding import add_decayed_weights, key_of
from funtorch.optim.base import (
    EmptyState,
    GradientTransformation,
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    apply_updates,
    cast_to,
    chain,
    check_params,
    check_positive,
    each,
    identity,
    piece,
    piece_with_extra,
    stateless,
    with_extra_args_support,
    zero_count,
)
from funtorch.optim.clipping import per_example_global_norm_clip
from funtorch.optim.contrib.adam_variants import at_step
from funtorch.optim.descents import sgd
from funtorch.optim.moments import trace
from funtorch.optim.norms import global_norm, safe_increment
from funtorch.optim.scaling import scale_by_learning_rate, scale_by_rms, times
from funtorch.optim.schedules import warmup_constant_schedule
from funtorch.optim.tree_utils import tree_cast, tree_dtype

__all__ = [
    "DifferentiallyPrivateAggregateState",
    "NormalizeState",
    "ReduceLROnPlateauState",
    "SAMState",
    "ScheduleFreeState",
    "SplitRealAndImaginaryArrays",
    "SplitRealAndImaginaryState",
    "differentially_private_aggregate",
    "dpsgd",
    "normalize",
    "reduce_on_plateau",
    "sam",
    "schedule_free",
    "schedule_free_adamw",
    "schedule_free_eval_params",
    "schedule_free_sgd",
    "split_real_and_imaginary",
]

NormalizeState = EmptyState


class SAMState(NamedTuple):
    """Where in the period the next step is (int32), both states, and where to step from."""

    steps_since_sync: Any
    opt_state: Any
    adv_state: Any
    cache: Any


class ScheduleFreeState(NamedTuple):
    """The interpolation, weights of the average, steps, the optimizer's state, its parameters."""

    b1: Any
    weight_sum: Any
    step_count: Any
    max_lr: Any
    base_optimizer_state: Any
    z: Any


class ReduceLROnPlateauState(NamedTuple):
    """The factor, the best value, steps without a better one, and values since the last look."""

    scale: Any
    best_value: Any
    plateau_count: Any
    cooldown_count: Any
    count: Any
    avg_value: Any


class SplitRealAndImaginaryArrays(NamedTuple):
    """A complex array as two real ones."""

    real: Any
    imaginary: Any


class SplitRealAndImaginaryState(NamedTuple):
    """The state of what works on real arrays."""

    inner_state: Any


class DifferentiallyPrivateAggregateState(NamedTuple):
    """The key of the next noise."""

    rng_key: Any


# ---------------------------------------------------------------------------------------- sharpness
def normalize() -> GradientTransformation:
    """Divide all updates by their global norm.

    Returns:
        The transformation.

    Example:
        >>> optim.contrib.normalize().update([fnp.array([3.0, 4.0])], optim.EmptyState())[0]
        [Array([0.6, 0.8], dtype=float32)]
    """
    return stateless(lambda updates, params: times(updates, 1 / global_norm(updates)))


def sam(
    optimizer: GradientTransformation,
    adv_optimizer: GradientTransformation,
    sync_period: int = 2,
    reset_state: bool = True,
    opaque_mode: bool = False,
    batch_axis_name: str | None = None,
) -> GradientTransformationExtraArgs:
    """Step by gradients taken uphill, where the loss is highest near the parameters.

    Every so many steps, one is a step of ``optimizer`` from where the last such step ended; those
    between go uphill by ``adv_optimizer``, usually `normalize` and a rate, the radius.

    Args:
        optimizer: what goes downhill.
        adv_optimizer: what goes uphill; it is made for going downhill, like any.
        sync_period: one more than the number of steps uphill.
        reset_state: whether ``adv_optimizer`` starts anew after each step downhill.
        opaque_mode: whether to go uphill inside of one update, which needs
            ``grad_fn(params, number of the step)``.
        batch_axis_name: name of a mapped axis to average those gradients over.

    Returns:
        The optimizer; its update needs ``params``.

    Raises:
        ValueError: the period is less than 1; or ``grad_fn`` is missing in opaque mode.

    Example:
        >>> uphill = optim.chain(optim.contrib.normalize(), optim.sgd(0.5))
        >>> optimizer = optim.contrib.sam(optim.sgd(0.1), uphill, opaque_mode=True)
        >>> params = [fnp.array([1.0])]
        >>> grad = lambda params, step=0: [2 * params[0]]
        >>> state = optimizer.init(params)
        >>> optimizer.update(grad(params), state, params, grad_fn=grad)[0]
        [Array([-0.3], dtype=float32)]

    References:
        Foret et al., "Sharpness-aware minimization", ICLR (2021).
    """
    if sync_period < 1:
        raise ValueError(f"sam takes a sync_period of at least 1, not {sync_period}")
    down, up = with_extra_args_support(optimizer), with_extra_args_support(adv_optimizer)

    def init(params: Any) -> SAMState:
        cache = None if opaque_mode else each(fnp.asarray, params)
        return SAMState(zero_count(), down.init(params), up.init(params), cache)

    def choose(condition: Any, a: Any, b: Any) -> Any:
        return tree.map(lambda x, y: fnp.where(condition, x, y), a, b)

    def in_turns(updates: Any, state: SAMState, params: Any) -> tuple[Any, SAMState]:
        first = state.steps_since_sync == 0
        last = state.steps_since_sync == sync_period - 1
        uphill, adv_state = up.update(updates, state.adv_state, params)
        base = each(lambda kept, p: fnp.where(first, p, kept), state.cache, params)
        downhill, opt_state = down.update(updates, state.opt_state, base)
        moves = each(
            lambda d, u, c, p: fnp.where(last, c - p + d, -u), downhill, uphill, base, params
        )
        again = up.init(params) if reset_state else state.adv_state
        return moves, SAMState(
            (state.steps_since_sync + 1) % sync_period,
            choose(last, opt_state, state.opt_state),
            choose(last, again, adv_state),
            base,
        )

    def at_once(
        updates: Any, state: SAMState, params: Any, grad_fn: Callable[..., Any]
    ) -> tuple[Any, SAMState]:
        place, adv_state = params, state.adv_state
        for number in range(sync_period - 1):
            uphill, adv_state = up.update(updates, adv_state, place)
            place = apply_updates(place, each(fnp.negative, uphill))
            updates = grad_fn(place, number)
            if batch_axis_name is not None:
                updates = lax.pmean(updates, axis_name=batch_axis_name)
        updates, opt_state = down.update(updates, state.opt_state, params)
        again = up.init(params) if reset_state else adv_state
        return updates, SAMState(zero_count(), opt_state, again, None)

    def update(
        updates: Any, state: SAMState, params: Any = None, *, grad_fn: Any = None, **extra: Any
    ) -> tuple[Any, SAMState]:
        check_params("sam", params)
        if not opaque_mode:
            return in_turns(updates, state, params)
        if grad_fn is None:
            raise ValueError(
                "sam with opaque_mode=True takes gradients itself: call update(grads, state, "
                "params, grad_fn=f) with f(params, number of the step)"
            )
        return at_once(updates, state, params, grad_fn)

    return piece_with_extra(SAMState, init, update)


# ------------------------------------------------------------------------------------ schedule-free
def schedule_free(
    base_optimizer: GradientTransformation,
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    weight_lr_power: float = 2.0,
    state_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Replace a decay of the learning rate, and momentum, by an average of parameters.

    The optimizer moves z; x is the average of all z, weighted by rate**weight_lr_power. The
    parameters that gradients are taken at are y = b1 x + (1 - b1) z; those to use in the end, x,
    are what `schedule_free_eval_params` gives.

    Args:
        base_optimizer: the optimizer, without momentum.
        learning_rate: its learning rate, or function of the number of steps, 1 at the first.
        b1: part of the average in y.
        weight_lr_power: exponent of the weights.
        state_dtype: dtype of z; the parameters' by default.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer = optim.contrib.schedule_free(optim.sgd(0.5), 0.5)
        >>> params = [fnp.array([1.0])]
        >>> updates, state = optimizer.update(params, optimizer.init(params), params)
        >>> params = optim.apply_updates(params, updates)
        >>> optim.contrib.schedule_free_eval_params(state, params)
        [Array([0.5], dtype=float32)]

    References:
        Defazio et al., "The road less scheduled" (2024).
    """
    optimizer = with_extra_args_support(base_optimizer)

    def init(params: Any) -> ScheduleFreeState:
        dtype = tree_dtype(params, "lowest")
        return ScheduleFreeState(
            fnp.asarray(b1, dtype=dtype),
            fnp.zeros((), dtype),
            fnp.ones((), fnp.int32),
            fnp.zeros((), dtype),
            optimizer.init(params),
            tree_cast(each(fnp.asarray, params), state_dtype),
        )

    def update(
        updates: Any, state: ScheduleFreeState, params: Any = None, **extra: Any
    ) -> tuple[Any, ScheduleFreeState]:
        check_params("schedule_free", params)
        dtype = state.max_lr.dtype
        rate = fnp.asarray(at_step(learning_rate, state.step_count), dtype=dtype)
        largest = fnp.maximum(state.max_lr, rate)
        weight = largest**weight_lr_power
        weights = state.weight_sum + weight
        # Nothing over nothing is no part of the average; a nan is one that shall be seen.
        none = weights == 0
        part = fnp.where(none, 0, weight / fnp.where(none, 1, weights))
        moves, base = optimizer.update(updates, state.base_optimizer_state, params, **extra)
        z = apply_updates(state.z, moves)

        def step(y: Any, old: Any, new: Any) -> Any:
            x = (y - (1.0 - b1) * old) / b1
            x = (1.0 - part) * x + part * new
            return cast_to(b1 * x + (1.0 - b1) * new - y, y)

        updates = each(step, params, state.z, z)
        count = safe_increment(state.step_count)
        return updates, ScheduleFreeState(state.b1, weights, count, largest, base, z)

    return piece_with_extra(ScheduleFreeState, init, update)


def schedule_free_eval_params(state: ScheduleFreeState, params: Any) -> Any:
    """Compute the averaged parameters of `schedule_free`, which are those to use.

    Args:
        state: its state.
        params: the parameters that gradients are taken at.

    Returns:
        The average.

    Raises:
        TypeError: the state is of another optimizer.

    Example:
        >>> optimizer = optim.contrib.schedule_free_sgd()
        >>> optim.contrib.schedule_free_eval_params(optimizer.init([fnp.ones(1)]), [fnp.ones(1)])
        [Array([1.], dtype=float32)]
    """
    if not hasattr(state, "b1") or not hasattr(state, "z"):
        raise TypeError(
            "schedule_free_eval_params takes the state of schedule_free, a ScheduleFreeState, not "
            f"{type(state).__name__}; optim.tree.get(state, 'ScheduleFreeState') finds one in a "
            "chain's"
        )
    return each(lambda y, z: (y - (1.0 - state.b1) * z) / state.b1, params, state.z)


def _warmed_up(learning_rate: Any, warmup_steps: int | None) -> Any:
    if warmup_steps is None:
        return learning_rate
    return warmup_constant_schedule(0.0, learning_rate, warmup_steps)


def schedule_free_sgd(
    learning_rate: float = 1.0,
    warmup_steps: int | None = None,
    b1: float = 0.9,
    weight_decay: float | None = None,
    weight_lr_power: float = 2.0,
    state_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Make schedule-free gradient descent; see `schedule_free`.

    Args:
        learning_rate: a number.
        warmup_steps: steps in which it grows from 0; None for none.
        b1: part of the average in the parameters.
        weight_decay: part of the parameters that is added to the gradients.
        weight_lr_power: exponent of the average's weights.
        state_dtype: dtype of the optimizer's own parameters.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.contrib.schedule_free_sgd(0.5), [fnp.array([1.0])]
        >>> optimizer.update([fnp.array([2.0])], optimizer.init(params), params)[0]
        [Array([-1.], dtype=float32)]

    References:
        Defazio et al., "The road less scheduled" (2024).
    """
    rate = _warmed_up(learning_rate, warmup_steps)
    optimizer = sgd(rate)
    if weight_decay is not None:
        optimizer = chain(add_decayed_weights(weight_decay), optimizer)
    return schedule_free(optimizer, rate, b1, weight_lr_power, state_dtype)


def schedule_free_adamw(
    learning_rate: float = 0.0025,
    warmup_steps: int | None = None,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    weight_lr_power: float = 2.0,
    state_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Make schedule-free AdamW; see `schedule_free`.

    Args:
        learning_rate: a number.
        warmup_steps: steps in which it grows from 0; None for none.
        b1: part of the average in the parameters.
        b2: decay of the average of squares.
        eps: keeps the divisor from 0.
        weight_decay: times the learning rate, the part of a weight that goes at each step.
        weight_lr_power: exponent of the average's weights.
        state_dtype: dtype of the optimizer's own parameters.

    Returns:
        The optimizer; its update needs ``params``.

    Example:
        >>> optimizer, params = optim.contrib.schedule_free_adamw(0.5), [fnp.array([1.0])]
        >>> optimizer.update([fnp.array([2.0])], optimizer.init(params), params)[0]
        [Array([-0.5], dtype=float32)]

    References:
        Defazio et al., "The road less scheduled" (2024).
    """
    rate = _warmed_up(learning_rate, warmup_steps)
    optimizer = chain(
        scale_by_rms(decay=b2, eps=eps, eps_in_sqrt=False, bias_correction=True),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(rate),
    )
    return schedule_free(optimizer, rate, b1, weight_lr_power, state_dtype)


# ----------------------------------------------------------------------------------------- plateaus
def reduce_on_plateau(
    factor: float = 0.1,
    patience: int = 10,
    rtol: float = 1e-4,
    atol: float = 0.0,
    cooldown: int = 0,
    accumulation_size: int = 1,
    min_scale: float = 0.0,
) -> GradientTransformationExtraArgs:
    """Multiply updates by a factor that shrinks when a value no longer does: ``ReduceLROnPlateau``.

    Args:
        factor: what the factor is multiplied by.
        patience: how many values without a better one it takes.
        rtol: how much better one must be, as a part of the best.
        atol: how much better, besides.
        cooldown: how many values after a change do not count.
        accumulation_size: how many values are averaged to one.
        min_scale: least factor.

    Returns:
        The transformation, to be chained after an optimizer; its update needs ``value``.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> t = optim.contrib.reduce_on_plateau(factor=0.5, patience=1)
        >>> state = t.init([fnp.zeros(1)])
        >>> for loss in (1.0, 1.0, 1.0):
        ...     updates, state = t.update([fnp.ones(1)], state, value=loss)
        >>> updates
        [Array([0.25], dtype=float32)]
    """
    if not 0 < factor < 1:
        raise ValueError(f"reduce_on_plateau takes a factor in (0, 1); it was given {factor}")
    check_positive("reduce_on_plateau", rtol=rtol, atol=atol)
    if rtol > 1 or (rtol == 0 and atol == 0):
        raise ValueError(
            "reduce_on_plateau takes rtol up to 1, and not both of rtol and atol 0; it was given "
            f"rtol={rtol} and atol={atol}"
        )

    def init(params: Any) -> ReduceLROnPlateauState:
        lowest, highest = (tree_dtype(params, kind) for kind in ("lowest", "highest"))
        counts = zero_count()
        return ReduceLROnPlateauState(
            fnp.ones((), lowest), fnp.full((), fnp.inf, highest), counts, counts, counts,
            fnp.zeros((), highest),
        )  # fmt: skip

    def look(state: ReduceLROnPlateauState) -> ReduceLROnPlateauState:
        better = state.avg_value < (1 - rtol) * state.best_value - atol
        cooling = state.cooldown_count > 0
        waited = fnp.where(better, 0, state.plateau_count + 1)
        enough = (waited == patience) & ~cooling
        return ReduceLROnPlateauState(
            fnp.where(enough, fnp.maximum(state.scale * factor, min_scale), state.scale),
            fnp.where(better, state.avg_value, state.best_value),
            fnp.where(enough | cooling, 0, waited),
            fnp.where(cooling, state.cooldown_count - 1, fnp.where(enough, cooldown, 0)),
            zero_count(),
            fnp.zeros_like(state.avg_value),
        )

    def update(
        updates: Any, state: ReduceLROnPlateauState, params: Any = None, *, value: Any, **extra: Any
    ) -> tuple[Any, ReduceLROnPlateauState]:
        count = safe_increment(state.count)
        value = fnp.asarray(value).astype(state.avg_value.dtype)
        mean = (state.count * state.avg_value + value) / count
        seen = state._replace(count=count, avg_value=mean.astype(state.avg_value.dtype))
        new = tree.map(
            lambda a, b: fnp.where(count == accumulation_size, a, b).astype(b.dtype),
            look(seen), seen,
        )  # fmt: skip
        return times(updates, new.scale), new

    return piece_with_extra(ReduceLROnPlateauState, init, update)


# ------------------------------------------------------------------------------------------ complex
def split_real_and_imaginary(inner: GradientTransformation) -> GradientTransformation:
    """Let a transformation see real and imaginary parts of complex parameters as arrays apart.

    Args:
        inner: the transformation.

    Returns:
        The transformation.

    Example:
        >>> t = optim.contrib.split_real_and_imaginary(optim.scale_by_sign())
        >>> t.update([fnp.array([3.0 - 4.0j])], t.init([fnp.zeros(1, fnp.complex64)]))[0]
        [Array([1.-1.j], dtype=complex64)]
    """

    def split(of: Any) -> Any:
        return tree.map(
            lambda x: (
                SplitRealAndImaginaryArrays(fnp.real(x), fnp.imag(x)) if fnp.iscomplexobj(x) else x
            ),
            of,
        )

    def join(x: Any) -> Any:
        if isinstance(x, SplitRealAndImaginaryArrays):
            return lax.complex(x.real, x.imaginary)
        return x

    def init(params: Any) -> SplitRealAndImaginaryState:
        return SplitRealAndImaginaryState(inner.init(split(params)))

    def update(updates: Any, state: SplitRealAndImaginaryState, params: Any) -> tuple[Any, Any]:
        updates, new = inner.update(split(updates), state.inner_state, split(params))
        return (
            tree.map(join, updates, is_leaf=lambda x: isinstance(x, SplitRealAndImaginaryArrays)),
            SplitRealAndImaginaryState(new),
        )

    return piece(SplitRealAndImaginaryState, init, update)


# ------------------------------------------------------------------------------------------ privacy
def differentially_private_aggregate(
    l2_norm_clip: float, noise_multiplier: float, key: Any = 0, *, seed: int | None = None
) -> GradientTransformation:
    """Average gradients of single examples, each clipped, with noise.

    Args:
        l2_norm_clip: largest norm of an example's gradient.
        noise_multiplier: standard deviation of the noise of the sum, over ``l2_norm_clip``.
        key: random key, or an integer to make one of.
        seed: another name of an integer key.

    Returns:
        The transformation, of updates with the batch as first axis of each array, as
        ``vmap(grad(loss), (None, 0))`` gives them.

    Raises:
        ValueError: updates have no batch axis.

    Example:
        >>> t = optim.contrib.differentially_private_aggregate(1.0, 0.0)
        >>> t.update([fnp.array([[3.0, 4.0], [0.0, 0.0]])], t.init(None))[0]
        [Array([0.3, 0.4], dtype=float32)]

    References:
        Abadi et al., "Deep learning with differential privacy" (2016).
    """
    check_positive(
        "differentially_private_aggregate",
        l2_norm_clip=l2_norm_clip,
        noise_multiplier=noise_multiplier,
    )

    def init(params: Any) -> DifferentiallyPrivateAggregateState:
        return DifferentiallyPrivateAggregateState(key_of(key if seed is None else seed))

    def update(
        updates: Any, state: DifferentiallyPrivateAggregateState, params: Any
    ) -> tuple[Any, DifferentiallyPrivateAggregateState]:
        clipped, _ = per_example_global_norm_clip(updates, l2_norm_clip)
        leaves, treedef = tree.flatten(clipped)
        batch = tree.leaves(updates)[0].shape[0]
        rest, *keys = random.split(state.rng_key, len(leaves) + 1)
        deviation = l2_norm_clip * noise_multiplier
        noisy = [
            (g + deviation * random.normal(k, g.shape, g.dtype)) / batch
            for g, k in zip(leaves, keys, strict=True)
        ]
        return tree.unflatten(treedef, noisy), DifferentiallyPrivateAggregateState(rest)

    return piece(DifferentiallyPrivateAggregateState, init, update)


def dpsgd(
    learning_rate: ScalarOrSchedule,
    l2_norm_clip: float,
    noise_multiplier: float,
    seed: int = 0,
    momentum: float | None = None,
    nesterov: bool = False,
) -> GradientTransformationExtraArgs:
    """Make differentially private gradient descent; see `differentially_private_aggregate`.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        l2_norm_clip: largest norm of an example's gradient.
        noise_multiplier: standard deviation of the noise of the sum, over ``l2_norm_clip``.
        seed: of the noise.
        momentum: decay of the sum of past gradients; None for no sum.
        nesterov: whether to use Nesterov's form of momentum.

    Returns:
        The optimizer.

    Example:
        >>> optimizer = optim.contrib.dpsgd(0.5, 1.0, 0.0)
        >>> grads = [fnp.array([[3.0, 4.0], [0.0, 0.0]])]
        >>> optimizer.update(grads, optimizer.init([fnp.zeros(2)]))[0]
        [Array([-0.15, -0.2 ], dtype=float32)]

    References:
        Abadi et al., "Deep learning with differential privacy" (2016).
    """
    return chain(
        differentially_private_aggregate(l2_norm_clip, noise_multiplier, seed),
        identity() if momentum is None else trace(momentum, nesterov),
        scale_by_learning_rate(learning_rate),
    )
