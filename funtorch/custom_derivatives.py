"""Derivative rules of one's own: the names of jax.custom_derivatives."""

from funtorch.transforms.custom import custom_jvp, custom_jvp_call_p, custom_vjp, custom_vjp_call_p
from funtorch.transforms.linear_call import linear_call
from funtorch.transforms.residuals import closure_convert, custom_gradient
from funtorch.transforms.symbolic import (
    CustomVJPPrimal,
    SymbolicZero,
    custom_vjp_primal_tree_values,
    zero_from_primal,
)

__all__ = [
    "CustomVJPPrimal",
    "SymbolicZero",
    "closure_convert",
    "custom_gradient",
    "custom_jvp",
    "custom_jvp_call_p",
    "custom_vjp",
    "custom_vjp_call_p",
    "custom_vjp_primal_tree_values",
    "linear_call",
    "zero_from_primal",
]
