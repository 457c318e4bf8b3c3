"""Layers, losses and activations, as pytrees of parameters.

Built only from FunTorch's public names: whatever stands here could stand in your own program.
"""

from .activations import *
from .activations import __all__ as _activations
from .layers import *
from .layers import __all__ as _layers
from .losses import *
from .losses import __all__ as _losses
from .module import *
from .module import __all__ as _module

__all__ = [*_module, *_layers, *_activations, *_losses]
