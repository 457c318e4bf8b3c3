"""Program to machine: eager rules, the compiler and its targets."""

from typing import TYPE_CHECKING

from funtorch.lazy import later

if TYPE_CHECKING:
    from .budget import Fitted, fit
    from .buffers import pool
    from .cache import clear as clear_disk
    from .cache import spelled
    from .compile import compile_jaxpr, kept_by
    from .cost import cost_analysis, memory_analysis
    from .cuda.linalg import OWN_RULES as gpu_rules
    from .explain import Explanation, explain_program
    from .onnx import is_plain, spelled_out, to_onnx
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
    "gpu_rules",
    "is_plain",
    "kept_by",
    "memory_analysis",
    "pool",
    "spelled",
    "spelled_out",
    "to_onnx",
    "to_stablehlo",
    "write_shared",
]

__getattr__ = later(
    __name__,
    {
        "Explanation": ".explain",
        "Fitted": ".budget",
        "Sized": ".sized",
        "clear_disk": ".cache:clear",
        "compile_jaxpr": ".compile",
        "compile_sized": ".sized",
        "cost_analysis": ".cost",
        "explain_program": ".explain",
        "fit": ".budget",
        "gpu_rules": ".cuda.linalg:OWN_RULES",
        "is_plain": ".onnx",
        "kept_by": ".compile",
        "memory_analysis": ".cost",
        "pool": ".buffers",
        "spelled": ".cache",
        "spelled_out": ".onnx",
        "to_onnx": ".onnx",
        "to_stablehlo": ".stablehlo",
        "write_shared": ".shared",
    },
)
