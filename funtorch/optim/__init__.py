"""Optimizers as pairs of pure functions: ``init(params)`` and ``update(grads, state, params)``.

Example:
    >>> import funtorch as ft
    >>> import funtorch.numpy as fnp
    >>> from funtorch import optim
    >>> optimizer = optim.sgd(0.25)
    >>> params = {"w": fnp.array([4.0, -2.0])}
    >>> state = optimizer.init(params)
    >>> grads = ft.grad(lambda p: (p["w"] ** 2).sum())(params)
    >>> updates, state = optimizer.update(grads, state, params)
    >>> optim.apply_updates(params, updates)
    {'w': Array([ 2., -1.], dtype=float32)}
"""

from .optimizers import adam, adamw, sgd
from .transforms import (
    EmptyState,
    GradientTransformation,
    ScaleByAdamState,
    ScaleByScheduleState,
    Schedule,
    TraceState,
    add_decayed_weights,
    apply_updates,
    chain,
    clip,
    clip_by_global_norm,
    global_norm,
    identity,
    scale,
    scale_by_adam,
    scale_by_learning_rate,
    scale_by_schedule,
    trace,
)

__all__ = [
    "adam",
    "adamw",
    "sgd",
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
