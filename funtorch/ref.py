"""Mutable references to arrays: `new_ref`, ``ref[...]``, ``ref[i] = v``, `freeze`.

Functions that are jitted, mapped, differentiated, checkpointed, or that are bodies of loops and
branches, may use references that were made outside of them. What may not: be returned from such a
function, be there twice, or be written by all lanes of a mapped function that closes over it.

References:
    JAX, jax.ref.
"""

from __future__ import annotations

from typing import Any

from funtorch.numpy import zeros
from funtorch.transforms.references import AbstractRef, Ref, new_ref

__all__ = [
    "AbstractRef", "Ref", "addupdate", "empty_ref", "free_ref", "freeze", "get", "new_ref", "set",
    "swap",
]  # fmt: skip


def empty_ref(ty: Any, dtype: Any = None, *, memory_space: Any = None) -> Ref:
    """Make a reference that holds zeros: arrays that nobody has set would serve nobody.

    Args:
        ty: anything with a shape and a dtype, such as a `ShapeDtypeStruct`; or a shape.
        dtype: the dtype, with a shape.
        memory_space: accepted for compatibility.
    """
    return new_ref(zeros(ty, dtype) if not hasattr(ty, "shape") else zeros(ty.shape, ty.dtype))


def freeze(ref: Ref) -> Any:
    """Return the array that a reference holds, and end the reference."""
    value = ref[...]
    ref.end()
    return value


def free_ref(ref: Ref) -> None:
    """End a reference."""
    ref.end()


def get(ref: Ref, idx: Any = None) -> Any:
    """Return ``ref[idx]``; without an index, the whole array."""
    return ref[_index(idx)]


def set(ref: Ref, idx: Any, value: Any) -> None:
    """Do ``ref[idx] = value``; with None, replace the whole array."""
    ref[_index(idx)] = value


def swap(ref: Ref, idx: Any, value: Any) -> Any:
    """Do ``ref[idx] = value``; return what was there."""
    before = ref[_index(idx)]
    ref[_index(idx)] = value
    return before


def addupdate(ref: Ref, idx: Any, x: Any) -> None:
    """Do ``ref[idx] += x``; places that an index array names several times get each."""
    ref.addupdate(x, _index(idx))


def _index(idx: Any) -> Any:
    return ... if idx is None else idx
