"""Layers, losses and activations, as pytrees of parameters.

Built only from FunTorch's public names: whatever stands here could stand in your own program. What
a module lists in its ``__all__`` is public here.
"""

from funtorch import tracebacks as _tracebacks

from . import (
    activations,
    adaptive,
    adaptive_softmax,
    attention,
    batchnorm,
    bilinear,
    cells,
    classification,
    containers,
    conv,
    criteria,
    distance,
    dropout,
    embedding,
    fractional,
    general,
    init,
    layers,
    lazy,
    lora,
    losses,
    metric_losses,
    module,
    multihead,
    normalization,
    padding,
    parallel,
    parametrize,
    patches,
    piecewise,
    pooling,
    quantized,
    recurrent,
    resize,
    selection,
    shuffle,
    states,
    summarize,
    training,
    transformer,
    transposed,
    unpooling,
    watch,
)
from .activations import *
from .adaptive import *
from .adaptive_softmax import *
from .attention import *
from .batchnorm import *
from .bilinear import *
from .cells import *
from .classification import *
from .containers import *
from .conv import *
from .criteria import *
from .distance import *
from .dropout import *
from .embedding import *
from .fractional import *
from .general import *
from .layers import *
from .lazy import *
from .lora import *
from .losses import *
from .metric_losses import *
from .module import *
from .multihead import *
from .normalization import *
from .padding import *
from .parallel import *
from .parametrize import *
from .patches import *
from .piecewise import *
from .pooling import *
from .quantized import *
from .recurrent import *
from .resize import *
from .selection import *
from .shuffle import *
from .states import *
from .summarize import *
from .training import *
from .transformer import *
from .transposed import *
from .unpooling import *
from .watch import *

__all__: list[str] = ["init"]
__all__ += activations.__all__
__all__ += adaptive.__all__
__all__ += adaptive_softmax.__all__
__all__ += attention.__all__
__all__ += batchnorm.__all__
__all__ += classification.__all__
__all__ += bilinear.__all__
__all__ += cells.__all__
__all__ += containers.__all__
__all__ += conv.__all__
__all__ += criteria.__all__
__all__ += distance.__all__
__all__ += dropout.__all__
__all__ += embedding.__all__
__all__ += fractional.__all__
__all__ += general.__all__
__all__ += layers.__all__
__all__ += lazy.__all__
__all__ += lora.__all__
__all__ += losses.__all__
__all__ += metric_losses.__all__
__all__ += module.__all__
__all__ += multihead.__all__
__all__ += normalization.__all__
__all__ += padding.__all__
__all__ += parallel.__all__
__all__ += parametrize.__all__
__all__ += patches.__all__
__all__ += piecewise.__all__
__all__ += pooling.__all__
__all__ += quantized.__all__
__all__ += recurrent.__all__
__all__ += resize.__all__
__all__ += selection.__all__
__all__ += shuffle.__all__
__all__ += states.__all__
__all__ += summarize.__all__
__all__ += training.__all__
__all__ += transformer.__all__
__all__ += transposed.__all__
__all__ += unpooling.__all__
__all__ += watch.__all__

for _name in __all__:
    if isinstance(_owner := globals()[_name], type):
        _tracebacks.add_boundaries(_owner)
_tracebacks.add_boundaries("funtorch.nnx")
del _name, _owner
