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

from funtorch import tracebacks as _tracebacks
from funtorch.optim import (
    adams,
    adaptive,
    adding,
    assignment,
    base,
    clipping,
    compact,
    contrib,
    descents,
    inject,
    linesearch,
    losses,
    minimizers,
    moments,
    monitoring,
    numerics,
    perturbations,
    projections,
    pytorch,
    quasi_newton,
    scaling,
    schedules,
    steps,
    torch_schedules,
    tree,
    tree_utils,
    wrappers,
)
from funtorch.optim.adams import *
from funtorch.optim.adaptive import *
from funtorch.optim.adding import *
from funtorch.optim.base import *
from funtorch.optim.clipping import *
from funtorch.optim.compact import *
from funtorch.optim.descents import *
from funtorch.optim.inject import *
from funtorch.optim.linesearch import *
from funtorch.optim.losses import *
from funtorch.optim.minimizers import *
from funtorch.optim.moments import *
from funtorch.optim.monitoring import *
from funtorch.optim.norms import global_norm, safe_increment, safe_norm, safe_root_mean_squares
from funtorch.optim.numerics import *
from funtorch.optim.pytorch import asgd, sparse_adam
from funtorch.optim.quasi_newton import *
from funtorch.optim.scaling import *
from funtorch.optim.schedules import *
from funtorch.optim.states import NamedTupleKey, tree_map_params
from funtorch.optim.steps import *
from funtorch.optim.torch_schedules import *
from funtorch.optim.wrappers import *

__all__ = ["assignment", "asgd", "perturbations", "projections", "pytorch", "sparse_adam"]
__all__ += ["NamedTupleKey", "contrib", "global_norm", "losses", "safe_increment", "safe_norm"]
__all__ += ["safe_root_mean_squares", "schedules", "tree", "tree_map_params", "tree_utils"]
__all__ += adams.__all__
__all__ += adaptive.__all__
__all__ += adding.__all__
__all__ += base.__all__
__all__ += clipping.__all__
__all__ += compact.__all__
__all__ += descents.__all__
__all__ += inject.__all__
__all__ += losses.__all__
__all__ += linesearch.__all__
__all__ += minimizers.__all__
__all__ += moments.__all__
__all__ += monitoring.__all__
__all__ += numerics.__all__
__all__ += quasi_newton.__all__
__all__ += scaling.__all__
__all__ += schedules.__all__
__all__ += steps.__all__
__all__ += torch_schedules.__all__
__all__ += wrappers.__all__

_tracebacks.add_boundaries("funtorch.optim")
