"""Sizes that have names, for the types of arguments that `export` is given."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Sequence
from typing import Any

from funtorch import arraytree as tree
from funtorch.dims import Scope

from .staging import ShapeDtypeStruct, spec_of

__all__ = ["BASES", "symbolic_args_specs", "symbolic_shape"]

BASES = (11, 13, 17, 19, 23, 29)
"""Sizes at which a program of symbolic sizes is traced: prime, so that none is mistaken for what is
computed from another."""


def symbolic_shape(
    shape_spec: str,
    *,
    constraints: Sequence[str] = (),
    scope: Scope | None = None,
    like: Sequence[int | None] | None = None,
) -> tuple[int, ...]:
    """Return a shape with sizes that have names, for the types given to `export`.

    Sizes of one name are one size, in all shapes of an export.

    Args:
        shape_spec: sizes separated by commas: numbers, names, sums, differences, products and
            floor quotients of these, and ``_`` for the size in ``like``.
        constraints: comparisons such as ``"b >= 2"``, which calls must fulfil.
        scope: where the names belong; None: a new one.
        like: the shape that ``_`` and ``...`` stand for.

    Returns:
        a tuple of integers, some of which stand for sizes known later.

    Raises:
        ValueError: the text is no shape.

    Example:
        >>> import funtorch as ft
        >>> from funtorch import export
        >>> batch, features = export.symbolic_shape("b, 3")
        >>> f = export.export(lambda x: x.sum(0))(ft.ShapeDtypeStruct((batch, 3), "float32"))
        >>> f.call(ft.numpy.ones((5, 3)))
        Array([5., 5., 5.], dtype=float32)
    """
    scope = Scope() if scope is None else scope
    if constraints:
        raise NotImplementedError(
            f"symbolic_shape: constraints={constraints!r}; sizes are at least 1, and other "
            "conditions are not kept: check them before the call"
        )
    parts = [part.strip() for part in shape_spec.strip().strip("()").split(",") if part.strip()]
    known = list(like or ())
    if "..." in parts:
        at = parts.index("...")
        parts[at : at + 1] = ["_"] * (len(known) - len(parts) + 1)
    return tuple(_parsed(part, k, known, scope, shape_spec) for k, part in enumerate(parts))


_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def _parsed(text: str, place: int, like: Sequence[Any], scope: Scope, whole: str) -> int:
    def value(node: ast.AST) -> int:
        if isinstance(node, ast.Name):
            if node.id != "_":
                return scope.symbol(node.id, BASES[0])
            if place < len(like) and like[place] is not None:
                return like[place]
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        raise ValueError(
            f"symbolic_shape({whole!r}): {text!r} is no size; sizes are numbers, names, and "
            "sums, products and floor quotients of these, such as 'b, 2*n + 1'"
        )

    try:
        return value(ast.parse(text, mode="eval").body)
    except SyntaxError:
        return value(ast.Pass())


def symbolic_args_specs(
    args: Any, shapes_specs: Any, constraints: Sequence[str] = (), scope: Scope | None = None
) -> Any:
    """Return the types of arguments, with sizes that have names.

    Args:
        args: a pytree of arrays or types.
        shapes_specs: a shape as of `symbolic_shape`, or a prefix tree of them; None: as it is.
        constraints: as of `symbolic_shape`.
        scope: as of `symbolic_shape`.
    """
    scope = Scope() if scope is None else scope
    leaves, treedef = tree.flatten(args)
    specs = tree.broadcast_prefix(
        shapes_specs, treedef, "shapes_specs", is_leaf=lambda x: x is None
    )
    found = []
    for x, spec in zip(leaves, specs, strict=True):
        aval = spec_of(x)
        shape = aval.shape
        if spec is not None:
            shape = symbolic_shape(spec, constraints=constraints, scope=scope, like=shape)
        found.append(ShapeDtypeStruct(shape, aval.dtype))
    return treedef.unflatten(found)
