"""Optimizers that are younger, or for special purposes, under optax.contrib's names."""

from funtorch.optim.contrib import (
    adam_variants,
    curvature,
    matrices,
    momentum_models,
    parameter_free,
    wrappers,
)
from funtorch.optim.contrib.adam_variants import *
from funtorch.optim.contrib.curvature import *
from funtorch.optim.contrib.matrices import *
from funtorch.optim.contrib.momentum_models import *
from funtorch.optim.contrib.parameter_free import *
from funtorch.optim.contrib.wrappers import *

__all__: list[str] = []
__all__ += adam_variants.__all__
__all__ += curvature.__all__
__all__ += matrices.__all__
__all__ += momentum_models.__all__
__all__ += parameter_free.__all__
__all__ += wrappers.__all__
