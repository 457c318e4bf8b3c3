"""L-BFGS: an estimate of the inverse Hessian from the last steps.

References:
    J. Nocedal, S. Wright, "Numerical optimization" (2006), algorithm 7.4 (two-loop recursion).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch import lax, tree
from funtorch.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    chain,
    check_params,
    each,
    identity,
    piece,
    zero_count,
    zeros_like,
)
from funtorch.optim.linesearch import scale_by_zoom_linesearch
from funtorch.optim.norms import global_norm, safe_increment, squared_norm, total
from funtorch.optim.scaling import scale, scale_by_learning_rate
from funtorch.optim.states import ParamsPlaceholder
from funtorch.optim.tree_utils import tree_dtype

__all__ = ["ScaleByLBFGSState", "lbfgs", "scale_by_lbfgs"]


class ScaleByLBFGSState(NamedTuple):
    """Steps (int32), the last parameters and gradients, and what they changed by in a ring."""

    count: Any
    params: Any
    updates: Any
    diff_params_memory: Any
    diff_updates_memory: Any
    weights_memory: Any


def _dot(x: Any, y: Any) -> Any:
    return total(lambda a, b: fnp.real(fnp.conj(a) * b), x, y)


def scale_by_lbfgs(
    memory_size: int = 10, scale_init_precond: bool = True
) -> GradientTransformation:
    """Multiply updates by an estimate of the inverse Hessian, made of the last steps.

    Args:
        memory_size: how many steps.
        scale_init_precond: whether the estimate starts at a multiple of the identity that fits the
            last step, and at a step of length 1 at most, rather than at the identity.

    Returns:
        The transformation; its update needs ``params``.

    Raises:
        ValueError: ``memory_size`` is not positive.

    Example:
        >>> t, x = optim.scale_by_lbfgs(), fnp.array([2.0])
        >>> first, state = t.update(6 * x, t.init(x), x)
        >>> t.update(6 * (x - first), state, x - first)[0]
        Array([1.], dtype=float32)
    """
    if memory_size < 1:
        raise ValueError(f"scale_by_lbfgs takes a memory_size of at least 1, not {memory_size}")

    def init(params: Any) -> ScaleByLBFGSState:
        ring = each(lambda p: fnp.zeros((memory_size, *p.shape), p.dtype), params)
        placeholder = isinstance(params, ParamsPlaceholder)
        dtype = fnp.real(fnp.zeros((), None if placeholder else tree_dtype(params, "lowest"))).dtype
        zeros = zeros_like(params)
        weights = fnp.zeros(memory_size, dtype)
        return ScaleByLBFGSState(zero_count(), zeros, zeros, ring, ring, weights)

    def update(
        updates: Any, state: ScaleByLBFGSState, params: Any
    ) -> tuple[Any, ScaleByLBFGSState]:
        check_params("scale_by_lbfgs", params)
        dtype = state.weights_memory.dtype
        started = state.count > 0
        steps = each(lambda g, p, o: fnp.where(started, p - o, 0), updates, params, state.params)
        turns = each(lambda g, o: fnp.where(started, g - o, 0), updates, state.updates)
        curvature = _dot(turns, steps).astype(dtype)
        flat = curvature == 0
        weight = fnp.where(flat, 0.0, 1.0 / fnp.where(flat, 1, curvature))
        last = (state.count - 1) % memory_size

        def put(ring: Any, new: Any) -> Any:
            return tree.map(
                lambda u, r, n: r if u is None else r.at[last].set(n.astype(r.dtype)),
                updates, ring, new, is_leaf=lambda x: x is None,
            )  # fmt: skip

        rings = (put(state.diff_params_memory, steps), put(state.diff_updates_memory, turns))
        weights = state.weights_memory.at[last].set(weight.astype(dtype))
        start: Any = fnp.ones((), dtype)
        if scale_init_precond:
            square = squared_norm(turns).astype(dtype)
            fitting = fnp.where(square > 0, curvature / fnp.where(square > 0, square, 1), 1.0)
            norm = global_norm(lax.stop_gradient(updates)).astype(dtype)
            start = fnp.where(started, fitting, fnp.minimum(1.0, 1.0 / norm)).astype(dtype)
        order = (state.count + fnp.arange(memory_size)) % memory_size
        moved = _two_loops(updates, rings, weights, start, order)
        count = safe_increment(state.count)

        def keep(new: Any, old: Any) -> Any:
            return tree.map(
                lambda u, o, n: o if u is None else fnp.asarray(n).astype(o.dtype),
                updates, old, new, is_leaf=lambda x: x is None,
            )  # fmt: skip

        kept, grads = keep(params, state.params), keep(updates, state.updates)
        return moved, ScaleByLBFGSState(count, kept, grads, *rings, weights)

    return piece(ScaleByLBFGSState, init, update)


def _two_loops(updates: Any, rings: Any, weights: Any, start: Any, order: Any) -> Any:
    def at(k: Any) -> tuple[Any, Any]:
        # Only what has an update: the vector has no other places.
        return tuple(each(lambda u, r: r[k], updates, ring) for ring in rings)  # type: ignore[return-value]

    def add(vector: Any, factor: Any, other: Any) -> Any:
        return each(lambda v, o: v + factor.astype(fnp.real(v).dtype) * o, vector, other)

    def back(vector: Any, k: Any) -> tuple[Any, Any]:
        step, turn = at(k)
        alpha = weights[k] * _dot(step, vector).astype(weights.dtype)
        return add(vector, -alpha, turn), alpha

    def forth(vector: Any, row: Any) -> tuple[Any, None]:
        k, alpha = row
        step, turn = at(k)
        beta = weights[k] * _dot(turn, vector).astype(weights.dtype)
        return add(vector, alpha - beta, step), None

    vector, alphas = lax.scan(back, updates, order, reverse=True)
    vector = each(lambda v: start.astype(fnp.real(v).dtype) * v, vector)
    return lax.scan(forth, vector, (order, alphas))[0]


_ZOOM = scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")


def lbfgs(
    learning_rate: ScalarOrSchedule | None = None,
    memory_size: int = 10,
    scale_init_precond: bool = True,
    linesearch: GradientTransformation | None = _ZOOM,
) -> GradientTransformationExtraArgs:
    """Make L-BFGS, for losses without noise.

    Args:
        learning_rate: factor of steps before the line search, a number or a function of the number
            of steps taken before; None for 1.
        memory_size: how many past steps the estimate of the Hessian is made of.
        scale_init_precond: whether that starts at a multiple of the identity that fits.
        linesearch: what finds the step lengths; None for none.

    Returns:
        The optimizer; its update needs ``params``, and for the line search ``value``, ``grad`` and
        ``value_fn``.

    Example:
        >>> optimizer = optim.lbfgs()
        >>> loss = lambda x: (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
        >>> x = fnp.array([-1.0, 1.0])
        >>> state, both = optimizer.init(x), optim.value_and_grad_from_state(loss)
        >>> for _ in range(12):
        ...     value, grad = both(x, state=state)
        ...     updates, state = optimizer.update(
        ...         grad, state, x, value=value, grad=grad, value_fn=loss
        ...     )
        ...     x = optim.apply_updates(x, updates)
        >>> fnp.round(x, 3)
        Array([1., 1.], dtype=float32)

    References:
        Liu & Nocedal, "On the limited memory BFGS method for large scale optimization" (1989).
    """
    rate = scale(-1.0) if learning_rate is None else scale_by_learning_rate(learning_rate)
    search = identity() if linesearch is None else linesearch
    return chain(scale_by_lbfgs(memory_size, scale_init_precond), rate, search)
