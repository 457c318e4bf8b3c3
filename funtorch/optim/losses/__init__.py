"""Losses by optax's names: one number per sample, to be averaged as you like.

`funtorch.nnx` has PyTorch's, which reduce. Shapes that differ are an error here as there.
"""

from . import classification, embeddings, regression, segmentation, sequences
from .classification import *
from .embeddings import *
from .regression import *
from .segmentation import *
from .sequences import *

__all__: list[str] = []
__all__ += classification.__all__
__all__ += embeddings.__all__
__all__ += regression.__all__
__all__ += segmentation.__all__
__all__ += sequences.__all__
