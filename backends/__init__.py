"""Program to machine: eager rules, compiler, CPU and CUDA code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funtorch.core import ArrayImpl
from funtorch.jaxpr import Jaxpr, eval_jaxpr

__all__ = ["compile_jaxpr"]


def compile_jaxpr(jaxpr: Jaxpr, donated: frozenset[int] = frozenset()) -> Callable[[list[Any]], list[Any]]:
    """Return a function from input buffers to output buffers."""

    def run(buffers: list[Any]) -> list[Any]:
        return [x._data for x in eval_jaxpr(jaxpr, *[ArrayImpl(b) for b in buffers])]

    return run
