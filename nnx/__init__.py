"""Layers, losses and activations, as pytrees of parameters.

Built only from FunTorch's public names: whatever stands here could stand in your own program.
"""

from funtorch import tracebacks as _tracebacks

from .activations import (
    ELU,
    GELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    tanh,
)
from .batchnorm import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)
from .conv import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    Conv1d,
    Conv2d,
    Conv3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from .dropout import AlphaDropout, Dropout, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout
from .layers import Flatten, Identity, Lambda, Linear, Sequential
from .losses import bce_with_logits, cross_entropy, huber, l1, mse, nll
from .module import Module, buffer, field, load_state_dict, param_count, state_dict, static
from .parametrize import SpectralNorm, WeightNorm
from .selection import (
    Shared,
    combine,
    filter,
    freeze,
    is_parameter,
    nonfinite,
    parameters,
    partition,
    tree_at,
    unfreeze,
)
from .training import evaluation, grad, train, value_and_grad, vmap_init

__all__ = [
    # modules
    "Module", "buffer", "field", "load_state_dict", "param_count", "state_dict", "static",
    # training, and parts of models
    "Shared", "combine", "evaluation", "filter", "freeze", "grad", "is_parameter", "nonfinite",
    "parameters", "partition", "train", "tree_at", "unfreeze", "value_and_grad", "vmap_init",
    # layers with a state, or that draw random numbers
    "AlphaDropout", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Dropout", "Dropout1d",
    "Dropout2d", "Dropout3d", "FeatureAlphaDropout", "InstanceNorm1d", "InstanceNorm2d",
    "InstanceNorm3d", "SpectralNorm", "WeightNorm",
    # layers
    "Flatten", "Identity", "Lambda", "Linear", "Sequential",
    "AvgPool1d", "AvgPool2d", "AvgPool3d", "Conv1d", "Conv2d", "Conv3d",
    "MaxPool1d", "MaxPool2d", "MaxPool3d",
    # activations
    "ELU", "GELU", "LeakyReLU", "LogSoftmax", "ReLU", "SiLU", "Sigmoid", "Softmax", "Tanh",
    "elu", "gelu", "leaky_relu", "log_softmax", "relu", "sigmoid", "silu", "softmax", "tanh",
    # losses
    "bce_with_logits", "cross_entropy", "huber", "l1", "mse", "nll",
]  # fmt: skip

for _name in __all__:
    if isinstance(_owner := globals()[_name], type):
        _tracebacks.add_boundaries(_owner)
_tracebacks.add_boundaries("funtorch.nnx")
del _name, _owner
