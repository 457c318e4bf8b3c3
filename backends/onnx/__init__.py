"""Programs as ONNX models."""

from .model import is_plain, spelled_out, to_onnx

__all__ = ["is_plain", "spelled_out", "to_onnx"]
