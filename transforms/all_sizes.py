"""One program for any size: traced at several sizes, and what those programs have in common.

Types are described as in files (`funtorch.io.programs`); sizes that differ become polynomials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch.dims import NotDynamic, Scope
from funtorch.io import programs
from funtorch.jaxpr import Jaxpr, Lit

from .dynamic import Inputs, Sizes, align, fitted
from .sizes import BASES

__all__ = ["for_all_sizes", "lone_symbol", "named_sizes", "shown_type", "symbols_in"]


def symbols_in(nodes: Any) -> dict[str, int]:
    """Return the symbols in descriptions of types, each with the size it is traced at."""
    found: dict[str, int] = {}

    def walk(node: Any) -> None:
        if isinstance(node, str):
            found.setdefault(node, 0)
        elif isinstance(node, list):
            for part in node[1:] if node and isinstance(node[0], str) else node:
                walk(part)

    for _, shape, _ in nodes:
        for size in shape:
            for _, atoms in size if isinstance(size, list) else ():
                for atom in atoms:
                    walk(atom)
    if len(found) > len(BASES):
        raise ValueError(f"export takes up to {len(BASES)} symbolic sizes, got {', '.join(found)}")
    return dict(zip(found, BASES, strict=False))


def for_all_sizes(
    name: str, base: Sizes, traced: Callable[[Sizes], tuple[Jaxpr, Sequence[Any], Any]]
) -> tuple[Jaxpr, Sequence[Any], Any]:
    """Return a program for all sizes, its constants, and the structure of its results."""
    points = [base]
    for symbol, n in base.items():
        points += [{**base, symbol: n + 1}, {**base, symbol: 2 * n}]
    points.append({symbol: 3 * n + 1 for symbol, n in base.items()})
    found = [traced(sizes) for sizes in points]
    jaxprs = [jaxpr for jaxpr, _, _ in found]
    _, consts, out_tree = found[0]
    for _, others, other_tree in found[1:]:
        same = len(consts) == len(others) and all(map(_same, consts, others))
        if not same or other_tree != out_tree:
            raise ValueError(
                f"export of {name}: its constants or the structure of its result depend on the "
                f"sizes {', '.join(base)}"
            )
    try:
        template = align(jaxprs, points, base, _Constants)
    except NotDynamic as error:
        raise ValueError(
            f"export of {name} for any {', '.join(base)}: {error}. Traced at several sizes, it did "
            "not do the same; give that size a number, or write the function without looking at it"
        ) from None
    return template.jaxpr, consts, out_tree


def _same(a: Any, b: Any) -> bool:
    x, y = np.asarray(a), np.asarray(b)
    return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


class _Constants(Inputs):
    """Constants that depend on the sizes: each is a size, or one over a size."""

    def __init__(self, points: Sequence[Sizes], symbols: dict[str, Any]) -> None:
        super().__init__()
        self.points, self.symbols = points, symbols

    def input(self, found: Sequence[Any], top: bool) -> Any:
        if not all(isinstance(v, Lit) for v in found):
            return None
        values = [np.asarray(v.val._data) for v in found]
        if all(_same(values[0], v) for v in values[1:]):
            return None
        for inverse in (False, True):
            sizes = _sizes_of(values, inverse)
            if sizes is not None:
                size = fitted(sizes, self.points, self.symbols)
                return programs.SizeLit(found[0].val, size, inverse)
        shown, where = ", ".join(map(str, values)), "; ".join(map(str, self.points))
        raise NotDynamic(f"a constant is {shown} where sizes are {where}")


def _sizes_of(values: Sequence[np.ndarray], inverse: bool) -> list[int] | None:
    """Return the integers that constants are, or are one over; None if they are not."""
    if inverse and values[0].dtype.kind != "f":
        return None
    with np.errstate(all="ignore"):
        numbers = [float(1 / x if inverse else x.real) for x in values]
    if not all(map(math.isfinite, numbers)):
        return None
    sizes = [round(x) for x in numbers]
    if inverse and not all(sizes):
        return None
    again = [
        np.asarray(1 / n if inverse else n, x.dtype) for n, x in zip(sizes, values, strict=True)
    ]
    return sizes if all(map(_same, again, values)) else None


def named_sizes(symbols: Sequence[str]) -> Sizes:
    """Return sizes that stand for themselves."""
    scope = Scope()
    return {name: scope.symbol(name, n) for name, n in zip(symbols, BASES, strict=False)}


def lone_symbol(node: Any) -> str | None:
    """Return the symbol that a size is, if it is one."""
    if isinstance(node, list) and len(node) == 1:
        ((factor, atoms),) = node
        if factor == 1 and len(atoms) == 1 and isinstance(atoms[0], str):
            return atoms[0]
    return None


def shown_type(node: Any) -> str:
    """Return a described type as text."""
    dtype, shape, _ = node
    return f"{dtype}[{','.join(map(_shown_size, shape))}]"


def _shown_size(node: Any) -> str:
    if not isinstance(node, list):
        return str(node)
    terms = []
    for factor, atoms in node:
        shown = [a if isinstance(a, str) else _shown_atom(a) for a in atoms]
        terms.append("*".join([str(factor)] * (factor != 1 or not shown) + shown))
    return "+".join(terms).replace("+-", "-") or "0"


def _shown_atom(node: Any) -> str:
    kind, a, b = node
    return f"{kind}({_shown_size(a)},{_shown_size(b)})"
