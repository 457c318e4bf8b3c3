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

from .optimizers import *
from .optimizers import __all__ as _optimizers
from .transforms import *
from .transforms import __all__ as _transforms

__all__ = [*_optimizers, *_transforms]
