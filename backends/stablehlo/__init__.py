"""Programs as StableHLO text."""

from .module import to_stablehlo

__all__ = ["to_stablehlo"]
