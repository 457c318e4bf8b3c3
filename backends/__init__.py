"""Program to machine: eager rules, the compiler and its targets."""

from .compile import compile_jaxpr
from .explain import cost_analysis, memory_analysis

__all__ = ["compile_jaxpr", "cost_analysis", "memory_analysis"]
