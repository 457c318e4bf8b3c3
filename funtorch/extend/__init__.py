"""Extending the library: new primitive operations, and programs as data."""

from funtorch.core import LinearArg, ShapedArray
from funtorch.extend import backend, core, linear_util, random, source_info_util
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var, eval_jaxpr
from funtorch.transforms.extension import Operation, primitive

__all__ = [
    "Eqn",
    "Jaxpr",
    "LinearArg",
    "Lit",
    "Operation",
    "ShapedArray",
    "Var",
    "backend",
    "core",
    "eval_jaxpr",
    "linear_util",
    "primitive",
    "random",
    "source_info_util",
]
