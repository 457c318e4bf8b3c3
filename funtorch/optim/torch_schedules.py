"""PyTorch's learning rate schedulers as pure functions of the number of steps.

Each takes the base rate first, then PyTorch's arguments, and gives after n steps the rate that
PyTorch's class has after n calls of ``step()``. `chain_schedules` and `multiplicative_schedule`
work with factors; for ``ReduceLROnPlateau`` see `contrib.reduce_on_plateau`, for ``SequentialLR``
`join_schedules`.

References:
    The documentation of torch.optim.lr_scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import lax
from funtorch.optim.base import Schedule
from funtorch.optim.schedules import check_steps

__all__ = [
    "chain_schedules",
    "constant_warmup_schedule",
    "cosine_annealing_schedule",
    "cosine_warm_restarts_schedule",
    "cyclic_schedule",
    "exponential_schedule",
    "lambda_schedule",
    "linear_warmup_schedule",
    "multiplicative_schedule",
    "multistep_schedule",
    "onecycle_schedule",
    "polynomial_decay_schedule",
    "step_schedule",
]


def lambda_schedule(base_lr: Any, lr_lambda: Callable[[Any], Any]) -> Schedule:
    """Make a schedule that is a rate times a function of the step: ``LambdaLR``.

    Args:
        base_lr: the rate.
        lr_lambda: the function.

    Returns:
        A function of the step.

    Example:
        >>> optim.lambda_schedule(0.5, lambda step: 0.5**step)(2)
        0.125
    """
    return lambda count: base_lr * lr_lambda(count)


def multiplicative_schedule(base_lr: Any, lr_lambda: Callable[[Any], Any]) -> Schedule:
    """Make a schedule that is multiplied by a function of each step: ``MultiplicativeLR``.

    Args:
        base_lr: the rate at step 0.
        lr_lambda: function of the number of a step, 1 at the first, to the factor.

    Returns:
        A function of the step; it takes as long as there are steps before.

    Example:
        >>> schedule = optim.multiplicative_schedule(1.0, lambda step: 1.0 / step)
        >>> round(float(schedule(4)), 4)
        0.0417
    """

    def schedule(count: Any) -> Any:
        return lax.fori_loop(
            1, fnp.asarray(count) + 1, lambda k, rate: rate * lr_lambda(k),
            fnp.asarray(base_lr, dtype=fnp.float32),
        )  # fmt: skip

    return schedule


def step_schedule(base_lr: Any, step_size: int, gamma: Any = 0.1) -> Schedule:
    """Make a schedule that is multiplied by a factor every so many steps: ``StepLR``.

    Args:
        base_lr: the first rate.
        step_size: steps between two changes.
        gamma: the factor.

    Returns:
        A function of the step.

    Raises:
        ValueError: ``step_size`` is not positive.

    Example:
        >>> schedule = optim.step_schedule(1.0, 2, gamma=0.5)
        >>> [float(schedule(step)) for step in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    check_steps("step_schedule", step_size=step_size)
    return lambda count: base_lr * fnp.power(gamma, fnp.asarray(count) // step_size)


def multistep_schedule(base_lr: Any, milestones: Sequence[int], gamma: Any = 0.1) -> Schedule:
    """Make a schedule that is multiplied by a factor at some steps: ``MultiStepLR``.

    Args:
        base_lr: the first rate.
        milestones: the steps; one that is there twice counts twice.
        gamma: the factor.

    Returns:
        A function of the step.

    Example:
        >>> schedule = optim.multistep_schedule(1.0, [1, 3], gamma=0.5)
        >>> [float(schedule(step)) for step in range(5)]
        [1.0, 0.5, 0.5, 0.25, 0.25]
    """
    places = np.asarray(list(milestones), np.int32)
    return lambda count: base_lr * fnp.power(gamma, fnp.sum(fnp.asarray(count) >= places))


def constant_warmup_schedule(base_lr: Any, factor: Any = 1.0 / 3, total_iters: int = 5) -> Schedule:
    """Make a schedule that is a part of the rate up to some step: ``ConstantLR``.

    Args:
        base_lr: the rate.
        factor: the part.
        total_iters: from which step on it is the whole.

    Returns:
        A function of the step.

    Example:
        >>> schedule = optim.constant_warmup_schedule(1.0, 0.5, 2)
        >>> [float(schedule(step)) for step in range(4)]
        [0.5, 0.5, 1.0, 1.0]
    """
    return lambda count: base_lr * fnp.where(fnp.asarray(count) < total_iters, factor, 1.0)


def linear_warmup_schedule(
    base_lr: Any, start_factor: Any = 1.0 / 3, end_factor: Any = 1.0, total_iters: int = 5
) -> Schedule:
    """Make a schedule that goes from one part of the rate to another along a line: ``LinearLR``.

    Args:
        base_lr: the rate.
        start_factor: the first part.
        end_factor: the last part.
        total_iters: steps from one to the other.

    Returns:
        A function of the step.

    Raises:
        ValueError: ``total_iters`` is not positive.

    Example:
        >>> schedule = optim.linear_warmup_schedule(1.0, 0.5, total_iters=2)
        >>> [float(schedule(step)) for step in range(4)]
        [0.5, 0.75, 1.0, 1.0]
    """
    check_steps("linear_warmup_schedule", total_iters=total_iters)

    def schedule(count: Any) -> Any:
        part = fnp.minimum(count, total_iters) / total_iters
        return base_lr * (start_factor + (end_factor - start_factor) * part)

    return schedule


def exponential_schedule(base_lr: Any, gamma: Any) -> Schedule:
    """Make a schedule that is multiplied by a factor at every step: ``ExponentialLR``.

    Args:
        base_lr: the first rate.
        gamma: the factor.

    Returns:
        A function of the step.

    Example:
        >>> float(optim.exponential_schedule(1.0, 0.5)(3))
        0.125
    """
    return lambda count: base_lr * fnp.power(gamma, count)


def polynomial_decay_schedule(base_lr: Any, total_iters: int = 5, power: Any = 1.0) -> Schedule:
    """Make a schedule that goes to 0 by a power of the time that is left: ``PolynomialLR``.

    Args:
        base_lr: the first rate.
        total_iters: steps to 0.
        power: the power.

    Returns:
        A function of the step.

    Raises:
        ValueError: ``total_iters`` is not positive.

    Example:
        >>> schedule = optim.polynomial_decay_schedule(1.0, 2, power=2.0)
        >>> [float(schedule(step)) for step in range(4)]
        [1.0, 0.25, 0.0, 0.0]
    """
    check_steps("polynomial_decay_schedule", total_iters=total_iters)
    return lambda count: base_lr * (1 - fnp.minimum(count, total_iters) / total_iters) ** power


def cosine_annealing_schedule(base_lr: Any, T_max: int, eta_min: Any = 0.0) -> Schedule:
    """Make a schedule that goes down and up as a cosine: ``CosineAnnealingLR``.

    Args:
        base_lr: the largest rate.
        T_max: steps down, and steps up again.
        eta_min: the least rate.

    Returns:
        A function of the step.

    Raises:
        ValueError: ``T_max`` is not positive.

    Example:
        >>> schedule = optim.cosine_annealing_schedule(1.0, 2)
        >>> [round(float(schedule(step)), 3) for step in range(5)]
        [1.0, 0.5, 0.0, 0.5, 1.0]

    References:
        Loshchilov & Hutter, "SGDR", ICLR (2017).
    """
    check_steps("cosine_annealing_schedule", T_max=T_max)

    def schedule(count: Any) -> Any:
        # PyTorch starts again at the top after a whole wave, and so does the angle here.
        angle = fnp.pi * (fnp.asarray(count) % (2 * T_max)) / T_max
        return eta_min + (base_lr - eta_min) * (1 + fnp.cos(angle)) / 2

    return schedule


def cosine_warm_restarts_schedule(
    base_lr: Any, T_0: int, T_mult: int = 1, eta_min: Any = 0.0
) -> Schedule:
    """Make a schedule that goes down as a cosine again and again: ``CosineAnnealingWarmRestarts``.

    Args:
        base_lr: the largest rate.
        T_0: steps of the first time.
        T_mult: how many times longer each time is than the one before.
        eta_min: the least rate.

    Returns:
        A function of the step.

    Raises:
        ValueError: ``T_0`` or ``T_mult`` is not positive.

    Example:
        >>> schedule = optim.cosine_warm_restarts_schedule(1.0, 2, T_mult=2)
        >>> [round(float(schedule(step)), 3) for step in range(7)]
        [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]

    References:
        Loshchilov & Hutter, "SGDR", ICLR (2017).
    """
    check_steps("cosine_warm_restarts_schedule", T_0=T_0, T_mult=T_mult)
    # All restarts before 2**31 steps; there are at most 31 unless the length stays.
    starts = [0]
    while T_mult > 1 and starts[-1] < 2**31:
        starts.append(starts[-1] * T_mult + T_0)

    def schedule(count: Any) -> Any:
        count = fnp.asarray(count)
        if T_mult == 1:
            part = (count % T_0) / T_0
        else:
            begins = np.array(starts, np.float64)
            place = fnp.sum(count >= begins.astype(np.float32)[1:])
            begin = fnp.asarray(begins, dtype=fnp.float32)[place]
            length = fnp.asarray(T_0 * float(T_mult) ** np.arange(len(starts)), dtype=fnp.float32)
            part = (count - begin) / length[place]
        return eta_min + (base_lr - eta_min) * (1 + fnp.cos(fnp.pi * part)) / 2

    return schedule


_SCALES: dict[str, Callable[[Any, Any, Any], Any]] = {  # of (gamma, cycle, step)
    "triangular": lambda gamma, cycle, count: 1.0,
    "triangular2": lambda gamma, cycle, count: 0.5 ** (cycle - 1),
    "exp_range": lambda gamma, cycle, count: fnp.power(gamma, count),
}


def cyclic_schedule(
    base_lr: Any,
    max_lr: Any,
    step_size_up: int = 2000,
    step_size_down: int | None = None,
    mode: str = "triangular",
    gamma: Any = 1.0,
    scale_fn: Callable[[Any], Any] | None = None,
    scale_mode: str = "cycle",
) -> Schedule:
    """Make a schedule that goes up and down along lines: ``CyclicLR``.

    Args:
        base_lr: the least rate.
        max_lr: the largest rate.
        step_size_up: steps up.
        step_size_down: steps down; as many by default.
        mode: 'triangular', 'triangular2' (each time half as high) or 'exp_range' (a factor of
            ``gamma`` each step).
        gamma: factor for 'exp_range'.
        scale_fn: function to take for the height, instead of ``mode``.
        scale_mode: what it is a function of, the number of the 'cycle' or of 'iterations'.

    Returns:
        A function of the step.

    Raises:
        ValueError: there is no such mode, or a number of steps is not positive.

    Example:
        >>> schedule = optim.cyclic_schedule(0.0, 1.0, step_size_up=2)
        >>> [float(schedule(step)) for step in range(6)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]

    References:
        Smith, "Cyclical learning rates for training neural networks" (2017).
    """
    down = step_size_up if step_size_down is None else step_size_down
    check_steps("cyclic_schedule", step_size_up=step_size_up, step_size_down=down)
    if scale_fn is None and mode not in _SCALES:
        raise ValueError(f"cyclic_schedule: mode is one of {sorted(_SCALES)}, not {mode!r}")
    whole = step_size_up + down

    def schedule(count: Any) -> Any:
        count = fnp.asarray(count)
        cycle, place = 1 + count // whole, count % whole
        height = fnp.where(place <= step_size_up, place / step_size_up, (whole - place) / down) * (
            max_lr - base_lr
        )
        if scale_fn is not None:
            return base_lr + height * scale_fn(cycle if scale_mode == "cycle" else count)
        return base_lr + height * _SCALES[mode](gamma, cycle, count)

    return schedule


def onecycle_schedule(
    max_lr: Any,
    total_steps: int,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """Make a schedule that goes up to a peak and down to nearly nothing: ``OneCycleLR``.

    Args:
        max_lr: the largest rate.
        total_steps: steps altogether.
        pct_start: part of the steps up to the peak.
        anneal_strategy: 'cos' or 'linear'.
        div_factor: largest over first rate.
        final_div_factor: first over last rate.
        three_phase: whether it goes back in as many steps as up, and then to the last rate.

    Returns:
        A function of the step.

    Raises:
        ValueError: there is no such strategy, or ``total_steps`` is not positive.

    Example:
        >>> schedule = optim.onecycle_schedule(1.0, 10, pct_start=0.5)
        >>> [round(float(schedule(step)), 2) for step in (0, 4, 9)]
        [0.04, 1.0, 0.0]

    References:
        Smith & Topin, "Super-convergence" (2017).
    """
    check_steps("onecycle_schedule", total_steps=total_steps)
    if anneal_strategy not in ("cos", "linear"):
        raise ValueError(
            f"onecycle_schedule: anneal_strategy is 'cos' or 'linear', not {anneal_strategy!r}"
        )
    first, up = max_lr / div_factor, pct_start * total_steps - 1
    last = first / final_div_factor
    phases = [(up, first, max_lr)]
    phases += [(2 * up, max_lr, first)] if three_phase else []
    phases += [(total_steps - 1, phases[-1][2], last)]

    def between(start: Any, end: Any, part: Any) -> Any:
        if anneal_strategy == "linear":
            return start + (end - start) * part
        return end + (start - end) / 2.0 * (1 + fnp.cos(fnp.pi * part))

    def schedule(count: Any) -> Any:
        count = fnp.minimum(count, total_steps - 1)
        begin, value = 0.0, None
        for end, low, high in phases:
            part = (count - begin) / (end - begin) if end != begin else fnp.ones(())
            inside = between(low, high, part)
            value = inside if value is None else fnp.where(count > begin, inside, value)
            begin = end
        return value

    return schedule


def chain_schedules(base_lr: Any, *schedules: Schedule) -> Schedule:
    """Multiply the factors of several schedules: ``ChainedScheduler``.

    Args:
        base_lr: the rate that all of them were made with.
        *schedules: the schedules.

    Returns:
        A function of the step.

    Example:
        >>> half = optim.constant_warmup_schedule(1.0, 0.5, 2)
        >>> schedule = optim.chain_schedules(1.0, half, optim.exponential_schedule(1.0, 0.5))
        >>> [float(schedule(step)) for step in range(4)]
        [0.5, 0.25, 0.25, 0.125]
    """

    def schedule(count: Any) -> Any:
        value = base_lr
        for part in schedules:
            value = value * (part(count) / base_lr)
        return value

    return schedule
