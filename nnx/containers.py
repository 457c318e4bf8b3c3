"""Thin names for what holds modules: plain lists and dicts do."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["ModuleDict", "ModuleList"]

# A module's fields may hold lists and dicts of modules; these names read as PyTorch's.
ModuleList = list
# A plain dict comes out of a transform in the order of its keys; this one keeps its own.
ModuleDict = OrderedDict
