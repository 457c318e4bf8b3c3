"""From a jaxpr to a callable."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from funtorch.jaxpr import Jaxpr

from .eager import eager_program

__all__ = ["compile_jaxpr"]


def compile_jaxpr(
    jaxpr: Jaxpr, donated: frozenset[int] = frozenset()
) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    """Return a function from a jaxpr's input buffers to its output buffers.

    Args:
        jaxpr: the program; its consts are concrete arrays.
        donated: positions of the inputs whose memory may be reused for outputs.
    """
    return eager_program(jaxpr)
