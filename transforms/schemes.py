"""How weights are quantised: schemes, by name or chosen weight by weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["SCHEMES", "Scheme", "Schemes", "chosen", "scheme_of"]


@dataclass(frozen=True)
class Scheme:
    """How a function is quantised.

    Attributes:
        bits: of weights, 8 or 4.
        group: how many weights along a sum share a scale, at most; None: all of them.
        activations: whether the activations that meet weights become int8, too.
        products: whether products of activations by each other, as in attention, become products
            of int8.
        symmetric: whether 0 is the integer 0; else each scale has an integer that stands for 0, and
            all integers are used.
        embeddings: whether tables whose rows are looked up become integers, too: with a scale for
            each row, or for each group of it.

    Example:
        >>> from funtorch import quant
        >>> quant.Scheme(bits=4, group=32, symmetric=False).bits
        4
    """

    bits: int = 8
    group: int | None = None
    activations: bool = False
    products: bool = False
    symmetric: bool = True
    embeddings: bool = False

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise ValueError(f"a Scheme has bits 8 or 4; got {self.bits!r}")
        if self.group is not None and (type(self.group) is not int or self.group < 1):
            raise ValueError(f"a Scheme has a group of 1 or more, or None; got {self.group!r}")
        if self.activations and (self.bits, self.group, self.symmetric) != (8, None, True):
            raise ValueError(
                "a Scheme with int8 activations has bits=8, group=None and symmetric=True, since "
                f"sums of int8 are made in one go; got bits={self.bits}, group={self.group}, "
                f"symmetric={self.symmetric}"
            )


SCHEMES = {
    "int8": Scheme(activations=True),
    "int8-attention": Scheme(activations=True, products=True),
    "int8-weights": Scheme(),
    "int4-weights": Scheme(bits=4, group=64),
}
"""Schemes by name."""


Schemes = str | Scheme | Callable[[str], "str | Scheme | None"]
"""What says how weights are quantised: one scheme, or a function from names to schemes."""


def scheme_of(scheme: str | Scheme) -> Scheme:
    """Return a scheme, which may be given by its name."""
    if isinstance(scheme, Scheme):
        return scheme
    if scheme not in SCHEMES:
        raise ValueError(
            f"a scheme is a quant.Scheme or one of {', '.join(map(repr, SCHEMES))}; got {scheme!r}"
        )
    return SCHEMES[scheme]


def chosen(scheme: Any, skip: Callable[[str], bool] | None) -> Callable[[str], Scheme | None]:
    """Return what gives the scheme of a weight by its name; None where it stays as it is."""

    def of(name: str) -> Scheme | None:
        if skip is not None and skip(name):
            return None
        own = scheme(name) if callable(scheme) else scheme
        return None if own is None else scheme_of(own)

    return of
