"""What `checkpoint` may keep instead of computing it again: its policies.

A policy is a function ``policy(prim, *avals, **params)`` that tells whether the results of an
operation, given by its primitive, the types of its operands and its parameters, may be kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from funtorch.core import Primitive

__all__ = [
    "checkpoint_dots",
    "checkpoint_dots_with_no_batch_dims",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
    "everything_saveable",
    "nothing_saveable",
    "offload_dot_with_no_batch_dims",
    "save_and_offload_only_these_names",
    "save_any_names_but_these",
    "save_anything_except_these_names",
    "save_from_both_policies",
    "save_only_these_names",
]

Policy = Callable[..., bool]


def everything_saveable(prim: Primitive, *avals: Any, **params: Any) -> bool:
    """Keep everything, as without `checkpoint`."""
    return True


def nothing_saveable(prim: Primitive, *avals: Any, **params: Any) -> bool:
    """Compute everything again, as `checkpoint` without a policy does."""
    return False


def dots_saveable(prim: Primitive, *avals: Any, **params: Any) -> bool:
    """Keep the results of matrix products and convolutions."""
    return prim.name in ("dot_general", "conv_general_dilated")


def dots_with_no_batch_dims_saveable(prim: Primitive, *avals: Any, **params: Any) -> bool:
    """Keep the results of matrix products without batch axes, such as those with weights."""
    return prim.name == "dot_general" and not any(params["dimension_numbers"][1])


checkpoint_dots = dots_saveable
checkpoint_dots_with_no_batch_dims = dots_with_no_batch_dims_saveable


@dataclass(frozen=True)
class _Names:
    """Keep values of these names, or of all ``but`` these; ``rest``: and values without one."""

    names: frozenset[str]
    but: bool = False
    rest: bool = False

    def __call__(self, prim: Primitive, *avals: Any, **params: Any) -> bool:
        if prim.name != "name":
            return self.rest
        return (params["name"] in self.names) != self.but


@dataclass(frozen=True)
class _Either:
    """Keep what one of two policies keeps."""

    first: Policy
    second: Policy

    def __call__(self, prim: Primitive, *avals: Any, **params: Any) -> bool:
        return self.first(prim, *avals, **params) or self.second(prim, *avals, **params)


def save_only_these_names(*names_which_can_be_saved: str) -> Policy:
    """Keep the values of these names, given by `checkpoint_name`, and nothing else.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.ad_checkpoint import checkpoint_name
        >>> policy = ft.checkpoint_policies.save_only_these_names("hidden")
        >>> f = ft.checkpoint(
        ...     lambda x: ft.numpy.sin(checkpoint_name(ft.numpy.exp(x), "hidden")), policy=policy
        ... )
        >>> float(ft.grad(f)(0.0)) == float(ft.numpy.cos(1.0))
        True
    """
    return _Names(frozenset(names_which_can_be_saved))


def save_any_names_but_these(*names_not_to_save: str) -> Policy:
    """Keep all values with names but these, and nothing without a name."""
    return _Names(frozenset(names_not_to_save), but=True)


def save_anything_except_these_names(*names_not_to_save: str) -> Policy:
    """Keep everything but the values of these names."""
    return _Names(frozenset(names_not_to_save), but=True, rest=True)


def save_from_both_policies(policy_1: Policy, policy_2: Policy) -> Policy:
    """Keep what one of two policies keeps, or both."""
    return _Either(policy_1, policy_2)


def offload_dot_with_no_batch_dims(offload_src: str, offload_dst: str) -> Policy:
    """Keep matrix products without batch axes; there is one memory, so nothing is moved."""
    return dots_with_no_batch_dims_saveable


def save_and_offload_only_these_names(
    *,
    names_which_can_be_saved: Any,
    names_which_can_be_offloaded: Any,
    offload_src: str,
    offload_dst: str,
) -> Policy:
    """Keep the values of both lists of names; there is one memory, so nothing is moved.

    Raises:
        ValueError: if a name is in both.
    """
    saved, moved = frozenset(names_which_can_be_saved), frozenset(names_which_can_be_offloaded)
    if saved & moved:
        raise ValueError(
            "save_and_offload_only_these_names: a name can be saved or offloaded, not both: "
            f"{sorted(saved & moved)}"
        )
    return _Names(saved | moved)
