"""Passes on programs: each takes a jaxpr and returns an equal one, the same object if nothing was
to do."""

from .algebra import ALGEBRA, simplify_algebra
from .constants import CONSTANTS, fold_constants
from .loops import hoist, simplify_loops
from .movement import MOVEMENT, join_movements
from .onehot import ONE_HOT
from .pads import PADS
from .rewrite import merged, rewriter
from .structure import drop_dead, inline, share

__all__ = [
    "ALGEBRA",
    "CONSTANTS",
    "MOVEMENT",
    "ONE_HOT",
    "PADS",
    "drop_dead",
    "fold_constants",
    "hoist",
    "inline",
    "join_movements",
    "merged",
    "rewriter",
    "share",
    "simplify_algebra",
    "simplify_loops",
]
