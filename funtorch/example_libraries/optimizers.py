"""Optimizers as triples of functions: the names of jax.example_libraries.optimizers.

::

    opt_init, opt_update, get_params = optimizers.adam(1e-3)
    opt_state = opt_init(params)
    opt_state = opt_update(i, grads, opt_state)
    params = get_params(opt_state)

``i`` counts steps from 0. Step sizes are numbers, or schedules: functions of ``i``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch import tree

__all__ = [
    "JoinPoint",
    "Optimizer",
    "OptimizerState",
    "adagrad",
    "adam",
    "adamax",
    "clip_grads",
    "constant",
    "exponential_decay",
    "inverse_time_decay",
    "l2_norm",
    "make_schedule",
    "momentum",
    "nesterov",
    "optimizer",
    "pack_optimizer_state",
    "piecewise_constant",
    "polynomial_decay",
    "rmsprop",
    "rmsprop_momentum",
    "sgd",
    "sm3",
    "unpack_optimizer_state",
]

Schedule = Callable[[Any], Any]
Maker = Callable[..., tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]]


class OptimizerState(NamedTuple):
    """The state of all parameters, flat.

    Args:
        packed_state: for each array of the parameters, the leaves of its state.
        tree_def: the structure of the parameters.
        subtree_defs: for each array of the parameters, the structure of its state.
    """

    packed_state: tuple[tuple[Any, ...], ...]
    tree_def: Any
    subtree_defs: tuple[Any, ...]


tree.register_pytree_node(
    OptimizerState,
    lambda state: ((state.packed_state,), (state.tree_def, state.subtree_defs)),
    lambda structure, parts: OptimizerState(parts[0], *structure),
)


class Optimizer(NamedTuple):
    """What an optimizer is.

    Args:
        init_fn: ``init_fn(params)`` gives the first state.
        update_fn: ``update_fn(i, grads, state)`` gives the next state.
        params_fn: ``params_fn(state)`` gives the parameters.
    """

    init_fn: Callable[..., Any]
    update_fn: Callable[..., Any]
    params_fn: Callable[..., Any]


def optimizer(opt_maker: Maker) -> Callable[..., Optimizer]:
    """Make an optimizer of pytrees of one of single arrays.

    Args:
        opt_maker: gives ``init(x0)``, ``update(i, g, state)`` and ``get_params(state)`` for one
            array; a state is any pytree.

    Example:
        >>> @optimizer
        ... def descend(step_size):
        ...     return lambda x: x, lambda i, g, x: x - step_size * g, lambda x: x
        >>> init, update, get_params = descend(0.5)
        >>> get_params(update(0, {"w": 2.0}, init({"w": 3.0})))
        {'w': 2.0}
    """

    @functools.wraps(opt_maker)
    def make(*args: Any, **kwargs: Any) -> Optimizer:
        init, update, get_params = opt_maker(*args, **kwargs)

        def tree_init(params: Any) -> OptimizerState:
            leaves, structure = tree.flatten(params)
            return _pack(map(init, leaves), structure)

        def tree_update(i: Any, grads: Any, state: OptimizerState) -> OptimizerState:
            leaves, structure = tree.flatten(grads)
            if structure != state.tree_def:
                raise TypeError(
                    f"{opt_maker.__name__}: the gradients' structure {structure} is not that of "
                    f"the parameters, {state.tree_def}"
                )
            news = [update(i, g, s) for g, s in zip(leaves, _states(state), strict=True)]
            after = _pack(news, structure)
            if after.subtree_defs != state.subtree_defs:
                raise TypeError(
                    f"{opt_maker.__name__}: the update's state has the structures "
                    f"{after.subtree_defs}, the state before {state.subtree_defs}"
                )
            return after

        def tree_params(state: OptimizerState) -> Any:
            return state.tree_def.unflatten(list(map(get_params, _states(state))))

        return Optimizer(tree_init, tree_update, tree_params)

    return make


def _pack(states: Any, structure: Any) -> OptimizerState:
    pairs = [tree.flatten(s) for s in states]
    return OptimizerState(
        tuple(tuple(leaves) for leaves, _ in pairs), structure, tuple(d for _, d in pairs)
    )


def _states(state: OptimizerState) -> list[Any]:
    return [
        d.unflatten(list(leaves))
        for d, leaves in zip(state.subtree_defs, state.packed_state, strict=True)
    ]


# --------------------------------------------------------------------------------------- optimizers
@optimizer
def sgd(step_size: Any) -> Any:
    """Make gradient descent: ``x - step_size * g``."""
    step = make_schedule(step_size)
    return lambda x0: x0, lambda i, g, x: x - step(i) * g, lambda x: x


def _first(state: Any) -> Any:
    return state[0]


@optimizer
def momentum(step_size: Any, mass: float) -> Any:
    """Make gradient descent with a velocity ``v = mass * v + g``.

    References:
        Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    """
    step = make_schedule(step_size)

    def update(i: Any, g: Any, state: Any) -> Any:
        x, v = state
        v = mass * v + g
        return x - step(i) * v, v

    return lambda x0: (x0, fnp.zeros_like(x0)), update, _first


@optimizer
def nesterov(step_size: Any, mass: float) -> Any:
    """Make gradient descent with a velocity that looks ahead.

    References:
        Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """
    step = make_schedule(step_size)

    def update(i: Any, g: Any, state: Any) -> Any:
        x, v = state
        v = mass * v + g
        return x - step(i) * (mass * v + g), v

    return lambda x0: (x0, fnp.zeros_like(x0)), update, _first


@optimizer
def adagrad(step_size: Any, momentum: float = 0.9) -> Any:
    """Make Adagrad, with momentum.

    References:
        Duchi, Hazan, Singer, "Adaptive Subgradient Methods", 2011.
    """
    step = make_schedule(step_size)

    def update(i: Any, g: Any, state: Any) -> Any:
        x, squares, m = state
        squares = squares + g * g
        scaled = fnp.where(squares > 0, g / fnp.sqrt(fnp.where(squares > 0, squares, 1)), 0)
        m = (1 - momentum) * scaled + momentum * m
        return x - step(i) * m, squares, m

    return lambda x0: (x0, fnp.zeros_like(x0), fnp.zeros_like(x0)), update, _first


@optimizer
def rmsprop(step_size: Any, gamma: float = 0.9, eps: float = 1e-8) -> Any:
    """Make RMSProp: gradients are divided by the root of a running mean of their squares.

    References:
        Tieleman, Hinton, "Lecture 6.5: RMSProp", 2012.
    """
    step = make_schedule(step_size)

    def update(i: Any, g: Any, state: Any) -> Any:
        x, squares = state
        squares = gamma * squares + (1 - gamma) * g * g
        return x - step(i) * g / fnp.sqrt(squares + eps), squares

    return lambda x0: (x0, fnp.zeros_like(x0)), update, _first


@optimizer
def rmsprop_momentum(
    step_size: Any, gamma: float = 0.9, eps: float = 1e-8, momentum: float = 0.9
) -> Any:
    """Make RMSProp with momentum of the steps."""
    step = make_schedule(step_size)

    def update(i: Any, g: Any, state: Any) -> Any:
        x, squares, m = state
        squares = gamma * squares + (1 - gamma) * g * g
        m = momentum * m + step(i) * g / fnp.sqrt(squares + eps)
        return x - m, squares, m

    return lambda x0: (x0, fnp.zeros_like(x0), fnp.zeros_like(x0)), update, _first


@optimizer
def adam(step_size: Any, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Any:
    """Make Adam.

    Args:
        step_size: a number or a schedule.
        b1, b2: how much of the running means of gradients and of their squares is kept in a step.
        eps: is added to the root of the squares.

    References:
        Kingma, Ba, "Adam: a method for stochastic optimization", 2015.

    Example:
        >>> import funtorch as ft
        >>> init, update, get_params = adam(0.1)
        >>> state = init(3.0)
        >>> for i in range(200):
        ...     state = update(i, ft.grad(lambda x: x**2)(get_params(state)), state)
        >>> abs(get_params(state)) < 0.1
        Array(True, dtype=bool)
    """
    step = make_schedule(step_size)

    def update(i: Any, g: Any, state: Any) -> Any:
        x, m, v = state
        m = (1 - b1) * g + b1 * m
        v = (1 - b2) * g * g + b2 * v
        # From float32 on: a power of a counter must not be one of whole numbers.
        m_hat = m / (1 - fnp.asarray(b1, m.dtype) ** (i + 1))
        v_hat = v / (1 - fnp.asarray(b2, m.dtype) ** (i + 1))
        return x - step(i) * m_hat / (fnp.sqrt(v_hat) + eps), m, v

    return lambda x0: (x0, fnp.zeros_like(x0), fnp.zeros_like(x0)), update, _first


@optimizer
def adamax(step_size: Any, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Any:
    """Make Adamax: Adam with the greatest instead of the mean of squares; arguments as of `adam`.

    References:
        Kingma, Ba, "Adam: a method for stochastic optimization", 2015, section 7.
    """
    step = make_schedule(step_size)

    def update(i: Any, g: Any, state: Any) -> Any:
        x, m, u = state
        m = (1 - b1) * g + b1 * m
        u = fnp.maximum(b2 * u, abs(g))
        rate = step(i) / (1 - fnp.asarray(b1, m.dtype) ** (i + 1))
        return x - rate * m / (u + eps), m, u

    return lambda x0: (x0, fnp.zeros_like(x0), fnp.zeros_like(x0)), update, _first


@optimizer
def sm3(step_size: Any, momentum: float = 0.9) -> Any:
    """Make SM3: Adagrad that keeps one vector for each axis instead of a whole array.

    References:
        Anil, Gupta, Koren, Singer, "Memory-Efficient Adaptive Optimization", 2019.
    """
    step = make_schedule(step_size)

    def along(k: int, ndim: int) -> tuple[Any, ...]:
        return tuple(slice(None) if k == axis else None for axis in range(ndim))

    def init(x0: Any) -> Any:
        return x0, fnp.zeros_like(x0), tuple(fnp.zeros(n, x0.dtype) for n in fnp.shape(x0))

    def update(i: Any, g: Any, state: Any) -> Any:
        x, m, maxima = state
        ndim = fnp.ndim(g)
        bound = functools.reduce(
            fnp.minimum, [v[along(k, ndim)] for k, v in enumerate(maxima)], fnp.inf
        )
        squares = (bound if maxima else 0) + g * g
        scaled = fnp.where(squares > 0, g / fnp.sqrt(fnp.where(squares > 0, squares, 1)), 0)
        m = (1 - momentum) * scaled + momentum * m
        maxima = tuple(
            fnp.max(squares, axis=tuple(j for j in range(ndim) if j != k)) for k in range(ndim)
        )
        return x - step(i) * m, m, maxima

    return init, update, _first


# ---------------------------------------------------------------------------------------- schedules
def constant(step_size: float) -> Schedule:
    """Return the schedule that is always the same."""
    return lambda i: step_size


def exponential_decay(step_size: float, decay_steps: int, decay_rate: float) -> Schedule:
    """Return ``i -> step_size * decay_rate ** (i / decay_steps)``."""
    return lambda i: step_size * decay_rate ** (i / decay_steps)


def inverse_time_decay(
    step_size: float, decay_steps: int, decay_rate: float, staircase: bool = False
) -> Schedule:
    """Return ``i -> step_size / (1 + decay_rate * i / decay_steps)``.

    Args:
        staircase: whether to round ``i / decay_steps`` down.
    """
    if staircase:
        return lambda i: step_size / (1 + decay_rate * fnp.floor(i / decay_steps))
    return lambda i: step_size / (1 + decay_rate * i / decay_steps)


def polynomial_decay(
    step_size: float, decay_steps: int, final_step_size: float, power: float = 1.0
) -> Schedule:
    """Return the schedule from ``step_size`` to ``final_step_size`` in ``decay_steps`` steps."""

    def schedule(i: Any) -> Any:
        rest = (1 - fnp.minimum(i, decay_steps) / decay_steps) ** power
        return rest * (step_size - final_step_size) + final_step_size

    return schedule


def piecewise_constant(boundaries: Any, values: Any) -> Schedule:
    """Return the schedule that is ``values[k]`` between ``boundaries[k - 1]`` and the next.

    Raises:
        ValueError: there is not one value more than boundaries, or they are no lists.
    """
    boundaries, values = fnp.array(boundaries), fnp.array(values)
    if boundaries.ndim != 1 or values.shape != (boundaries.shape[0] + 1,):
        raise ValueError(
            "piecewise_constant: one value more than boundaries is needed, in lists; got "
            f"boundaries of shape {boundaries.shape} and values of shape {values.shape}"
        )
    return lambda i: values[fnp.sum(i > boundaries)]


def make_schedule(scalar_or_schedule: Any) -> Schedule:
    """Return a schedule as it is, and for a number the schedule that is always this.

    Raises:
        TypeError: it is neither.
    """
    if callable(scalar_or_schedule):
        return scalar_or_schedule
    if fnp.ndim(scalar_or_schedule) == 0:
        return constant(scalar_or_schedule)
    raise TypeError(
        "a step size is a number or a function of the step's number; got "
        f"an array of shape {fnp.shape(scalar_or_schedule)}"
    )


# --------------------------------------------------------------------------------------- gradients
def l2_norm(tree_: Any) -> Any:
    """Return the Euclidean norm of all elements of a pytree."""
    return fnp.sqrt(sum(fnp.vdot(x, x) for x in tree.leaves(tree_)))


def clip_grads(grad_tree: Any, max_norm: float) -> Any:
    """Scale gradients down to a norm of at most ``max_norm``."""
    norm = l2_norm(grad_tree)
    return tree.map(lambda g: fnp.where(norm < max_norm, g, g * (max_norm / norm)), grad_tree)


# ------------------------------------------------------------------------------------ serialization
class JoinPoint:
    """Where the structure of parameters ends, and that of an optimizer's states begins.

    Args:
        subtree: the state of one array of the parameters.
    """

    def __init__(self, subtree: Any) -> None:
        self.subtree = subtree

    def __iter__(self) -> Any:
        yield self.subtree


def unpack_optimizer_state(opt_state: OptimizerState) -> Any:
    """Return the parameters' pytree with a `JoinPoint` of states at each leaf, for saving."""
    return opt_state.tree_def.unflatten(list(map(JoinPoint, _states(opt_state))))


def pack_optimizer_state(marked_pytree: Any) -> OptimizerState:
    """Undo `unpack_optimizer_state`.

    Raises:
        TypeError: a leaf is no `JoinPoint`.
    """
    leaves, structure = tree.flatten(marked_pytree)
    for x in leaves:
        if not isinstance(x, JoinPoint):
            raise TypeError(f"pack_optimizer_state: leaves must be JoinPoints; got {x!r}")
    return _pack([x.subtree for x in leaves], structure)
