"""Programs as ONNX models."""

from .model import of_reals, to_onnx
from .pairs import has_complex

__all__ = ["has_complex", "of_reals", "to_onnx"]
