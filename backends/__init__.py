"""Program to machine: eager rules, the compiler and its targets."""

from .compile import compile_jaxpr

__all__ = ["compile_jaxpr"]
