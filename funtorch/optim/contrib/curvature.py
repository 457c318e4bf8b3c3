"""Sophia: steps divided by an estimate of the diagonal of the Hessian, and clipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch import debug, lax, random
from funtorch.optim.adding import add_decayed_weights, key_of
from funtorch.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    chain,
    check_decay,
    check_params,
    each,
    per_leaf,
    piece_with_extra,
    with_extra_args_support,
    zero_count,
    zeros_like,
)
from funtorch.optim.moments import Unbiased, mix
from funtorch.optim.norms import safe_increment, total
from funtorch.optim.scaling import scale_by_learning_rate
from funtorch.optim.tree_utils import tree_random_like, tree_size
from funtorch.transforms import hvp

__all__ = [
    "HutchinsonState",
    "SophiaState",
    "hutchinson_estimator_diag_hessian",
    "scale_by_sophia",
    "sophia",
]


class HutchinsonState(NamedTuple):
    """The key of the next signs."""

    key: Any


class SophiaState(NamedTuple):
    """Steps (int32), averages of gradients and of curvatures, the estimator's state."""

    count: Any
    mu: Any
    nu: Any
    hessian_fn_state: Any


def hutchinson_estimator_diag_hessian(random_seed: Any = None) -> GradientTransformationExtraArgs:
    """Estimate the diagonal of a Hessian H by r * (H r), with random signs r.

    Args:
        random_seed: key of the signs, or an integer to make one of; 0 by default.

    Returns:
        A transformation whose updates are the estimate; its update needs ``params``, and the loss
        as a function of them as ``obj_fn``.

    Raises:
        ValueError: update was called without them.

    Example:
        >>> t, params = optim.contrib.hutchinson_estimator_diag_hessian(), fnp.ones(2)
        >>> loss = lambda x: (fnp.array([1.0, 3.0]) * x**2).sum()
        >>> t.update(params, t.init(params), params, obj_fn=loss)[0]
        Array([2., 6.], dtype=float32)

    References:
        Hutchinson, "A stochastic estimator of the trace of the influence matrix" (1989).
    """

    def init(params: Any) -> HutchinsonState:
        return HutchinsonState(key_of(0 if random_seed is None else random_seed))

    def update(
        updates: Any,
        state: HutchinsonState,
        params: Any = None,
        *,
        obj_fn: Any = None,
        **extra: Any,
    ) -> tuple[Any, HutchinsonState]:
        check_params("hutchinson_estimator_diag_hessian", params)
        if obj_fn is None:
            raise ValueError(
                "hutchinson_estimator_diag_hessian (a piece of sophia) needs the loss: call "
                "update(grads, state, params, obj_fn=loss), with loss a function of the parameters"
            )
        rest, now = random.split(state.key)
        signs = tree_random_like(now, params, random.rademacher)
        along = hvp(obj_fn, (params,), (signs,))
        return each(lambda h, r: h * r, along, signs), HutchinsonState(rest)

    return piece_with_extra(HutchinsonState, init, update)


def scale_by_sophia(
    b1: float = 0.965,
    b2: float = 0.99,
    eps: float = 1e-8,
    gamma: float = 0.01,
    clip_threshold: float | None = 1.0,
    update_interval: int = 10,
    hessian_diagonal_fn: GradientTransformation | None = None,
    mu_dtype: Any = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: int = 0,
) -> GradientTransformationExtraArgs:
    """Divide averaged gradients by averaged curvatures, and clip: m̂ / max(gamma h, eps).

    Args:
        b1: decay of the average of gradients.
        b2: decay of the average of curvatures.
        eps: least divisor.
        gamma: factor of curvatures.
        clip_threshold: bound on each element of the updates; None for none.
        update_interval: steps from one estimate of the curvature to the next.
        hessian_diagonal_fn: transformation that estimates it; Hutchinson's by default.
        mu_dtype: dtype of the average of gradients; the parameters' by default.
        verbose: whether to print the part of elements that are not clipped.
        print_win_rate_every_n_steps: how often.

    Returns:
        The transformation; its update needs ``params`` and what the estimator needs, ``obj_fn``.

    Example:
        >>> t, params = optim.contrib.scale_by_sophia(), fnp.ones(2)
        >>> t.update(params, t.init(params), params, obj_fn=lambda x: (x**2).sum())[0]
        Array([1., 1.], dtype=float32)

    References:
        Liu et al., "Sophia: a scalable stochastic second-order optimizer" (2023).
    """
    check_decay("scale_by_sophia", b1=b1, b2=b2)
    estimator = with_extra_args_support(
        hutchinson_estimator_diag_hessian() if hessian_diagonal_fn is None else hessian_diagonal_fn
    )

    def init(params: Any) -> SophiaState:
        return SophiaState(
            zero_count(), zeros_like(params, mu_dtype), zeros_like(params), estimator.init(params)
        )

    def update(
        updates: Any, state: SophiaState, params: Any = None, **extra: Any
    ) -> tuple[Any, SophiaState]:
        check_params("scale_by_sophia", params)
        count = safe_increment(state.count)
        first = Unbiased(b1, count)

        def step(g: Any, m: Any, h: Any) -> tuple[Any, Any]:
            m = mix(g, m, b1)
            return first(m) / fnp.maximum(gamma * h, eps), m

        moves, mu = per_leaf(step, updates, (state.mu,), state.nu)
        if clip_threshold is not None:
            if verbose:
                _print_part(moves, clip_threshold, count, print_win_rate_every_n_steps)
            moves = each(lambda u: fnp.clip(u, -clip_threshold, clip_threshold), moves)

        def estimate(kept: Any, nu: Any) -> tuple[Any, Any]:
            found, kept = estimator.update(updates, kept, params, **extra)
            return kept, per_leaf(lambda h, v: (h, mix(h, v, b2)), found, (nu,))[1]

        kept, nu = lax.cond(
            state.count % update_interval == 0, estimate, lambda kept, nu: (kept, nu),
            state.hessian_fn_state, state.nu,
        )  # fmt: skip
        return moves, SophiaState(count, mu, nu, kept)

    return piece_with_extra(SophiaState, init, update)


def _print_part(moves: Any, bound: Any, count: Any, interval: int) -> None:
    part = total(lambda u: (fnp.abs(u) < bound).astype(u.dtype), moves) / tree_size(moves)
    lax.cond(
        count % max(interval, 1) == 0,
        lambda part: debug.print("sophia: {} of the steps are not clipped", part),
        lambda part: None,
        part,
    )


def sophia(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.965,
    b2: float = 0.99,
    eps: float = 1e-8,
    weight_decay: ScalarOrSchedule = 1e-4,
    weight_decay_mask: Any | Callable[[Any], Any] = None,
    gamma: float = 0.01,
    clip_threshold: float | None = 1.0,
    update_interval: int = 10,
    hessian_diagonal_fn: GradientTransformation | None = None,
    mu_dtype: Any = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: int = 0,
) -> GradientTransformationExtraArgs:
    """Make Sophia: steps by curvature, clipped; see `scale_by_sophia`.

    Args:
        learning_rate: a number, or a function of the number of steps taken before.
        b1: decay of the average of gradients.
        b2: decay of the average of curvatures.
        eps: least divisor.
        weight_decay: times the learning rate, the part of a weight that goes at each step.
        weight_decay_mask: which weights decay; see `add_decayed_weights`.
        gamma: factor of curvatures.
        clip_threshold: bound on each element of steps; None for none.
        update_interval: steps from one estimate of the curvature to the next.
        hessian_diagonal_fn: transformation that estimates it; Hutchinson's by default.
        mu_dtype: dtype of the average of gradients; the parameters' by default.
        verbose: whether to print the part of elements that are not clipped.
        print_win_rate_every_n_steps: how often.

    Returns:
        The optimizer; its update needs ``params``, and the loss as a function ``obj_fn`` of them.

    Example:
        >>> optimizer, params = optim.contrib.sophia(0.5, weight_decay=0.0), fnp.ones(2)
        >>> state = optimizer.init(params)
        >>> optimizer.update(params, state, params, obj_fn=lambda x: (x**2).sum())[0]
        Array([-0.5, -0.5], dtype=float32)

    References:
        Liu et al., "Sophia: a scalable stochastic second-order optimizer" (2023).
    """
    return chain(
        scale_by_sophia(
            b1, b2, eps, gamma, clip_threshold, update_interval, hessian_diagonal_fn, mu_dtype,
            verbose, print_win_rate_every_n_steps,
        ),
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )  # fmt: skip
