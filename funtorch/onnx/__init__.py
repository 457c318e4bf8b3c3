"""ONNX models as functions: `from_onnx`."""

from .model import OnnxModel, from_onnx
from .node import Node, OnnxError, UnsupportedOnnx

__all__ = ["Node", "OnnxError", "OnnxModel", "UnsupportedOnnx", "from_onnx"]
