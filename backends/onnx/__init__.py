"""Programs as ONNX models."""

from .graph import to_onnx

__all__ = ["to_onnx"]
