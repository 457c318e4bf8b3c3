"""Schedules: pure functions of the number of steps, under optax's names.

A step may be a Python number or a traced integer; `torch_schedules` has those of PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import funtorch.numpy as fnp
from funtorch.optim.base import Schedule
from funtorch.optim.inject import inject_hyperparams, inject_stateful_hyperparams

__all__ = [
    "constant_schedule",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "exponential_decay",
    "inject_hyperparams",
    "inject_stateful_hyperparams",
    "join_schedules",
    "linear_onecycle_schedule",
    "linear_schedule",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
    "sgdr_schedule",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
]


def check_steps(name: str, **values: Any) -> None:
    """Raise a ValueError for a number of steps that is not positive."""
    for argument, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} takes {argument} above 0; it was given {value}")


def constant_schedule(value: Any) -> Schedule:
    """Make a schedule that does not change.

    Args:
        value: its value.

    Returns:
        A function of the step.

    Example:
        >>> optim.constant_schedule(0.5)(7)
        0.5
    """
    return lambda count: value


def polynomial_schedule(
    init_value: Any, end_value: Any, power: Any, transition_steps: int, transition_begin: int = 0
) -> Schedule:
    """Make a schedule that goes to its end by a power of the time that is left.

    Args:
        init_value: value up to ``transition_begin``.
        end_value: value at the end, and after it.
        power: the power.
        transition_steps: steps from begin to end; 0 for none, so that the value stays.
        transition_begin: step of the beginning.

    Returns:
        A function of the step.

    Example:
        >>> schedule = optim.polynomial_schedule(1.0, 0.0, power=2, transition_steps=4)
        >>> [float(schedule(step)) for step in range(6)]
        [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """
    if transition_steps <= 0:
        return lambda count: init_value
    begin = max(transition_begin, 0)

    def schedule(count: Any) -> Any:
        gone = fnp.clip(count - begin, 0, transition_steps)
        return (init_value - end_value) * (1 - gone / transition_steps) ** power + end_value

    return schedule


def linear_schedule(
    init_value: Any, end_value: Any, transition_steps: int, transition_begin: int = 0
) -> Schedule:
    """Make a schedule that goes to its end along a line.

    Args:
        init_value: value up to ``transition_begin``.
        end_value: value at the end, and after it.
        transition_steps: steps from begin to end; 0 for none, so that the value stays.
        transition_begin: step of the beginning.

    Returns:
        A function of the step.

    Example:
        >>> schedule = optim.linear_schedule(0.0, 1.0, transition_steps=4)
        >>> [float(schedule(step)) for step in range(6)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return polynomial_schedule(init_value, end_value, 1, transition_steps, transition_begin)


def piecewise_constant_schedule(
    init_value: Any, boundaries_and_scales: Mapping[int, Any] | None = None
) -> Schedule:
    """Make a schedule that is multiplied by a factor at each of some steps.

    Args:
        init_value: value before the first.
        boundaries_and_scales: from the number of a step to the factor.

    Returns:
        A function of the step.

    Raises:
        ValueError: a factor is negative.

    Example:
        >>> schedule = optim.piecewise_constant_schedule(1.0, {2: 0.5, 4: 0.5})
        >>> [float(schedule(step)) for step in range(6)]
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """
    changes = _sorted_changes("piecewise_constant_schedule", boundaries_and_scales)

    def schedule(count: Any) -> Any:
        value = init_value
        for boundary, factor in changes:
            value = value * fnp.where(count < boundary, 1.0, factor)
        return value

    return schedule


def _sorted_changes(name: str, changes: Mapping[int, Any] | None) -> list[tuple[int, Any]]:
    for boundary, factor in (changes or {}).items():
        if factor < 0:
            raise ValueError(
                f"{name} takes factors of at least 0; at step {boundary} it was given {factor}"
            )
    return sorted((changes or {}).items())


def exponential_decay(
    init_value: Any,
    transition_steps: int,
    decay_rate: Any,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: Any = None,
) -> Schedule:
    """Make a schedule that is multiplied by one factor every so many steps.

    Args:
        init_value: value up to ``transition_begin``.
        transition_steps: steps for one factor; 0 for none, so that the value stays.
        decay_rate: the factor; 0 for none, too.
        transition_begin: step of the beginning.
        staircase: whether it changes at once at the end of these steps, rather than smoothly.
        end_value: bound, below for factors less than 1, else above.

    Returns:
        A function of the step.

    Example:
        >>> schedule = optim.exponential_decay(1.0, 2, 0.25, end_value=0.1)
        >>> [round(float(schedule(step)), 3) for step in range(5)]
        [1.0, 0.5, 0.25, 0.125, 0.1]
    """
    if transition_steps <= 0 or decay_rate == 0:
        return lambda count: init_value
    begin = max(transition_begin, 0)

    def schedule(count: Any) -> Any:
        power = fnp.maximum(count - begin, 0) / transition_steps
        power = fnp.floor(power) if staircase else power
        value = init_value * fnp.power(decay_rate, power)
        if end_value is None:
            return value
        return (fnp.maximum if decay_rate < 1.0 else fnp.minimum)(value, end_value)

    return schedule


def cosine_decay_schedule(
    init_value: Any, decay_steps: int, alpha: Any = 0.0, exponent: Any = 1.0
) -> Schedule:
    """Make a schedule that goes down as half a wave of the cosine.

    Args:
        init_value: value at the start.
        decay_steps: steps to the end.
        alpha: last value, as a part of the first.
        exponent: power of the wave.

    Returns:
        A function of the step.

    Raises:
        ValueError: ``decay_steps`` is not positive.

    Example:
        >>> schedule = optim.cosine_decay_schedule(1.0, 4)
        >>> [round(float(schedule(step)), 3) for step in range(6)]
        [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]

    References:
        Loshchilov & Hutter, "SGDR", ICLR (2017).
    """
    check_steps("cosine_decay_schedule", decay_steps=decay_steps)

    def schedule(count: Any) -> Any:
        gone = fnp.minimum(count, decay_steps) / decay_steps
        wave = 0.5 * (1 + fnp.cos(fnp.pi * gone))
        return init_value * ((1 - alpha) * wave**exponent + alpha)

    return schedule


_BETWEEN: dict[str, Callable[[Any, Any, Any], Any]] = {
    "linear": lambda start, end, part: (end - start) * part + start,
    "cosine": lambda start, end, part: end + (start - end) / 2 * (fnp.cos(fnp.pi * part) + 1),
}


def piecewise_interpolate_schedule(
    interpolate_type: str, init_value: Any, boundaries_and_scales: Mapping[int, Any] | None = None
) -> Schedule:
    """Make a schedule that goes from value to value, along lines or waves.

    Args:
        interpolate_type: 'linear' or 'cosine'.
        init_value: value at step 0.
        boundaries_and_scales: from the number of a step to the factor between the value there and
            the one before.

    Returns:
        A function of the step.

    Raises:
        ValueError: there is no such type, or a factor is negative.

    Example:
        >>> schedule = optim.piecewise_interpolate_schedule("linear", 1.0, {2: 2.0, 4: 0.5})
        >>> [float(schedule(step)) for step in range(6)]
        [1.0, 1.5, 2.0, 1.5, 1.0, 1.0]
    """
    if interpolate_type not in _BETWEEN:
        raise ValueError(
            "piecewise_interpolate_schedule: interpolate_type is 'linear' or 'cosine', not "
            f"{interpolate_type!r}"
        )
    between = _BETWEEN[interpolate_type]
    changes = _sorted_changes("piecewise_interpolate_schedule", boundaries_and_scales)

    def schedule(count: Any) -> Any:
        begin, value, result = 0, init_value, init_value
        for boundary, factor in changes:
            part = (count - begin) / max(boundary - begin, 1)
            inside = between(value, value * factor, part)
            result = fnp.where(count >= begin, inside, result)
            begin, value = boundary, value * factor
        return fnp.where(count >= begin, value, result) if changes else result

    return schedule


def linear_onecycle_schedule(
    transition_steps: int,
    peak_value: Any,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Make a schedule that goes up to a peak, back, and down to nearly nothing, along lines.

    Args:
        transition_steps: steps altogether.
        peak_value: the largest value.
        pct_start: part of the steps up to the peak.
        pct_final: part of the steps after which it is back where it began.
        div_factor: peak over first value.
        final_div_factor: first over last value.

    Returns:
        A function of the step.

    Raises:
        ValueError: ``transition_steps`` is not positive.

    Example:
        >>> schedule = optim.linear_onecycle_schedule(10, 1.0, 0.5, 0.8)
        >>> [round(float(schedule(step)), 2) for step in (0, 5, 8, 10)]
        [0.04, 1.0, 0.04, 0.0]

    References:
        Smith & Topin, "Super-convergence" (2017).
    """
    check_steps("linear_onecycle_schedule", transition_steps=transition_steps)
    return piecewise_interpolate_schedule(
        "linear",
        peak_value / div_factor,
        {
            int(pct_start * transition_steps): div_factor,
            int(pct_final * transition_steps): 1.0 / div_factor,
            transition_steps: 1.0 / final_div_factor,
        },
    )


def cosine_onecycle_schedule(
    transition_steps: int,
    peak_value: Any,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Make a schedule that goes up to a peak and down to nearly nothing, along waves.

    Args:
        transition_steps: steps altogether.
        peak_value: the largest value.
        pct_start: part of the steps up to the peak.
        div_factor: peak over first value.
        final_div_factor: first over last value.

    Returns:
        A function of the step.

    Raises:
        ValueError: ``transition_steps`` is not positive.

    Example:
        >>> schedule = optim.cosine_onecycle_schedule(10, 1.0, 0.5)
        >>> [round(float(schedule(step)), 2) for step in (0, 5, 10)]
        [0.04, 1.0, 0.0]

    References:
        Smith & Topin, "Super-convergence" (2017).
    """
    check_steps("cosine_onecycle_schedule", transition_steps=transition_steps)
    return piecewise_interpolate_schedule(
        "cosine",
        peak_value / div_factor,
        {
            int(pct_start * transition_steps): div_factor,
            int(transition_steps): 1.0 / (div_factor * final_div_factor),
        },
    )


# ----------------------------------------------------------------------------------------- together
def join_schedules(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """Follow one schedule after another, each from its own beginning.

    Args:
        schedules: the schedules.
        boundaries: at which steps the second, third, ... take over.

    Returns:
        A function of the step.

    Raises:
        ValueError: the number of boundaries is not one less than that of schedules.

    Example:
        >>> parts = [optim.linear_schedule(0.0, 1.0, 2), optim.constant_schedule(0.5)]
        >>> schedule = optim.join_schedules(parts, [3])
        >>> [float(schedule(step)) for step in range(5)]
        [0.0, 0.5, 1.0, 0.5, 0.5]
    """
    if len(boundaries) != len(schedules) - 1:
        raise ValueError(
            f"join_schedules takes one boundary less than schedules; it was given {len(schedules)} "
            f"schedules and {len(boundaries)} boundaries"
        )

    def schedule(count: Any) -> Any:
        value = schedules[0](count)
        for boundary, later in zip(boundaries, schedules[1:], strict=True):
            value = fnp.where(count < boundary, value, later(count - boundary))
        return value

    return schedule


def warmup_constant_schedule(init_value: Any, peak_value: Any, warmup_steps: int) -> Schedule:
    """Make a schedule that goes up along a line and stays.

    Args:
        init_value: value at the start.
        peak_value: value where it stays.
        warmup_steps: steps up to there.

    Returns:
        A function of the step.

    Example:
        >>> schedule = optim.warmup_constant_schedule(0.0, 1.0, 2)
        >>> [float(schedule(step)) for step in range(4)]
        [0.0, 0.5, 1.0, 1.0]
    """
    return linear_schedule(init_value, peak_value, warmup_steps)


def warmup_cosine_decay_schedule(
    init_value: Any,
    peak_value: Any,
    warmup_steps: int,
    decay_steps: int,
    end_value: Any = 0.0,
    exponent: Any = 1.0,
) -> Schedule:
    """Make a schedule that goes up along a line and down as half a wave of the cosine.

    Args:
        init_value: value at the start.
        peak_value: largest value.
        warmup_steps: steps up to there.
        decay_steps: steps altogether.
        end_value: last value.
        exponent: power of the wave.

    Returns:
        A function of the step.

    Raises:
        ValueError: ``decay_steps`` is not above ``warmup_steps``.

    Example:
        >>> schedule = optim.warmup_cosine_decay_schedule(0.0, 1.0, 2, 6)
        >>> [round(float(schedule(step)), 3) for step in range(7)]
        [0.0, 0.5, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if not decay_steps > warmup_steps:
        raise ValueError(
            "warmup_cosine_decay_schedule counts the warm-up among its decay_steps, which must be "
            f"more; it was given warmup_steps={warmup_steps} and decay_steps={decay_steps}"
        )
    alpha = 0.0 if peak_value == 0.0 else end_value / peak_value
    parts = [
        linear_schedule(init_value, peak_value, warmup_steps),
        cosine_decay_schedule(peak_value, decay_steps - warmup_steps, alpha, exponent),
    ]
    return join_schedules(parts, [warmup_steps])


def warmup_exponential_decay_schedule(
    init_value: Any,
    peak_value: Any,
    warmup_steps: int,
    transition_steps: int,
    decay_rate: Any,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: Any = None,
) -> Schedule:
    """Make a schedule that goes up along a line and down by one factor every so many steps.

    Args:
        init_value: value at the start.
        peak_value: largest value.
        warmup_steps: steps up to there.
        transition_steps: steps for one factor.
        decay_rate: the factor.
        transition_begin: steps that the largest value stays.
        staircase: whether it changes at once at the end of these steps, rather than smoothly.
        end_value: bound.

    Returns:
        A function of the step.

    Example:
        >>> schedule = optim.warmup_exponential_decay_schedule(0.0, 1.0, 2, 1, 0.5)
        >>> [float(schedule(step)) for step in range(5)]
        [0.0, 0.5, 1.0, 0.5, 0.25]
    """
    parts = [
        linear_schedule(init_value, peak_value, warmup_steps),
        exponential_decay(
            peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
        ),
    ]
    return join_schedules(parts, [warmup_steps])


def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> Schedule:
    """Follow several warm-ups with cosine decays, one after the other.

    Args:
        cosine_kwargs: for each the arguments of `warmup_cosine_decay_schedule`.

    Returns:
        A function of the step.

    Example:
        >>> wave = dict(init_value=0.0, peak_value=1.0, warmup_steps=1, decay_steps=3)
        >>> schedule = optim.sgdr_schedule([wave, wave])
        >>> [round(float(schedule(step)), 3) for step in range(6)]
        [0.0, 1.0, 0.5, 0.0, 1.0, 0.5]

    References:
        Loshchilov & Hutter, "SGDR", ICLR (2017).
    """
    waves = list(cosine_kwargs)
    ends = [sum(w["decay_steps"] for w in waves[: k + 1]) for k in range(len(waves))]
    return join_schedules([warmup_cosine_decay_schedule(**w) for w in waves], ends[:-1])
