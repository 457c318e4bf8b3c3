"""Programs as ONNX models."""

from .model import to_onnx

__all__ = ["to_onnx"]
