"""Functions for neural networks: activations, softmax, attention, and initializers.

Layers, which hold parameters, are in `funtorch.nnx`.
"""

from __future__ import annotations

from funtorch.nn import initializers
from funtorch.nn.functions import *
from funtorch.nn.functions import __all__ as _functions

__all__ = [*_functions, "initializers"]
