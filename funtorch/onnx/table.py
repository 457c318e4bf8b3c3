"""The table of all rules of ONNX's operators."""

from __future__ import annotations

from .control import CONTROL
from .elementwise import ELEMENTWISE, REDUCTIONS
from .networks import NETWORKS
from .node import Rule
from .quantized import QUANTIZED
from .recurrent import RECURRENT
from .sampling import SAMPLING
from .shapes import SHAPES

__all__ = ["RULES"]

RULES: dict[str, Rule] = {
    **ELEMENTWISE, **REDUCTIONS, **SHAPES, **NETWORKS, **QUANTIZED, **RECURRENT, **SAMPLING,
    **CONTROL,
}  # fmt: skip
"""By operator of ONNX's own domain. What is not here and is a function of other operators by its
definition is run as that function."""
