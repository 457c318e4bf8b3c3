"""Mutable references to arrays: `new_ref`, ``ref[...]``, ``ref[i] = v``, `freeze`.

A reference is a name for the array that it holds now: writing replaces that. It lives in one
function, under whatever transforms that is: it cannot be passed to or shared with a function that
is transformed on its own.

References:
    JAX, jax.ref.
"""

from __future__ import annotations

from typing import Any

from funtorch.core import ShapedArray, Trace, current
from funtorch.numpy import zeros
from funtorch.numpy.promotion import asarray, convert

__all__ = [
    "AbstractRef", "Ref", "addupdate", "empty_ref", "free_ref", "freeze", "get", "new_ref", "set",
    "swap",
]  # fmt: skip


class AbstractRef:
    """The type of a mutable reference.

    Args:
        inner_aval: the type of the array that it holds.
    """

    __slots__ = ("inner_aval",)

    def __init__(self, inner_aval: ShapedArray) -> None:
        self.inner_aval = inner_aval

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner_aval.shape

    @property
    def dtype(self) -> Any:
        return self.inner_aval.dtype

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AbstractRef) and self.inner_aval == other.inner_aval

    def __hash__(self) -> int:
        return hash((AbstractRef, self.inner_aval))

    def __repr__(self) -> str:
        return f"Ref{{{self.inner_aval.str_short()}}}"


class Ref:
    """A mutable reference; make one with `new_ref`.

    Example:
        >>> import funtorch as ft
        >>> @ft.jit
        ... def doubled_first(x):
        ...     r = ft.new_ref(x)
        ...     r[0] *= 2
        ...     return r[...]
        >>> doubled_first(ft.numpy.ones(2))
        Array([2., 1.], dtype=float32)
    """

    __slots__ = ("_trace", "_value")
    __hash__ = object.__hash__
    _value: Any

    def __init__(self, value: Any) -> None:
        self._trace: Trace = current()
        self._value = value

    @property
    def aval(self) -> ShapedArray:
        """The type of the array."""
        return self._held().aval

    @property
    def abstract_value(self) -> AbstractRef:
        """What `typeof` gives."""
        return AbstractRef(self.aval)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> Any:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def size(self) -> int:
        return self.aval.size

    def __len__(self) -> int:
        return len(self._held())

    def __getitem__(self, idx: Any) -> Any:
        value = self._held()
        return value if idx is Ellipsis else value[idx]

    def __setitem__(self, idx: Any, value: Any) -> None:
        held = self._held()
        self._value = held.at[idx].set(convert(asarray(value), held.dtype))

    def get(self) -> Any:
        """Return the whole array."""
        return self[...]

    def set(self, value: Any) -> None:
        """Replace the whole array."""
        self[...] = value

    def _held(self) -> Any:
        if self._value is None:
            raise ValueError("this Ref was frozen or freed: make a new one with new_ref")
        if current() is not self._trace:
            raise NotImplementedError(
                f"a Ref made outside of {current().name or 'a transformed function'} is used "
                "inside: references do not cross the border of a function that is transformed on "
                "its own (jit, grad, vmap, scan, cond ...). Pass in ref[...], and return the new "
                "value"
            )
        return self._value

    def __repr__(self) -> str:
        if self._value is None:
            return "Ref(freed)"
        return f"Ref({self._value!r})"


def new_ref(init_val: Any, *, memory_space: Any = None) -> Ref:
    """Make a reference that holds an array.

    Args:
        init_val: array or number.
        memory_space: accepted for compatibility.

    Example:
        >>> r = new_ref(1.0)
        >>> r[...] += 2.0
        >>> float(freeze(r))
        3.0
    """
    value = asarray(init_val)
    return Ref(convert(value, value.dtype))


def empty_ref(shape: Any, dtype: Any) -> Ref:
    """Make a reference that holds zeros: arrays that nobody has set would serve nobody."""
    return new_ref(zeros(shape, dtype))


def freeze(ref: Ref) -> Any:
    """Return the array that a reference holds, and end the reference."""
    value = ref[...]
    free_ref(ref)
    return value


def free_ref(ref: Ref) -> None:
    """End a reference."""
    ref._held()
    ref._value = None


def get(ref: Ref, idx: Any = ...) -> Any:
    """Return ``ref[idx]``."""
    return ref[idx]


def set(ref: Ref, idx: Any, value: Any) -> None:
    """Do ``ref[idx] = value``."""
    ref[idx] = value


def swap(ref: Ref, idx: Any, value: Any) -> Any:
    """Do ``ref[idx] = value``; return what was there."""
    before = ref[idx]
    ref[idx] = value
    return before


def addupdate(ref: Ref, idx: Any, x: Any) -> None:
    """Do ``ref[idx] += x``; places that an index array names several times get each."""
    ref._value = ref._held().at[idx].add(x)
