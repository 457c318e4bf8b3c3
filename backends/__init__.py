"""Program to machine: eager rules, the compiler and its targets."""

from .budget import Fitted, fit
from .buffers import pool
from .cache import clear as clear_disk
from .cache import spelled
from .compile import compile_jaxpr, kept_by
from .cost import cost_analysis, memory_analysis
from .explain import Explanation, explain_program
from .onnx import has_complex, of_reals, to_onnx
from .shared import write_shared
from .sized import Sized, compile_sized
from .stablehlo import to_stablehlo

__all__ = [
    "Explanation",
    "Fitted",
    "Sized",
    "clear_disk",
    "compile_jaxpr",
    "compile_sized",
    "cost_analysis",
    "explain_program",
    "fit",
    "has_complex",
    "kept_by",
    "memory_analysis",
    "of_reals",
    "pool",
    "spelled",
    "to_onnx",
    "to_stablehlo",
    "write_shared",
]
