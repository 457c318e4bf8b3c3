"""Saving and loading: trees in one safetensors file, and the checkpoints of a training run."""

from .files import load, save
from .manager import Checkpoint, CheckpointManager

__all__ = ["Checkpoint", "CheckpointManager", "load", "save"]
