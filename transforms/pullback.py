"""What `vjp` returns: a function from cotangents to gradients, as a pytree, which can add them
to references.

References:
    JAX, "Autodiff with refs".
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from funtorch import arraytree as tree
from funtorch.core import ShapedArray
from funtorch.dtypes import float0
from funtorch.errors import MismatchError
from funtorch.ops.families import zeros
from funtorch.partial import Partial
from funtorch.treedef import register_node

from .references import Ref

__all__ = ["DidntWant", "DontWant", "GradRef", "GradValue", "Pullback", "RefPullback", "WithRefs"]


class _Mark:
    """A word about one argument's gradient; all of one class are equal."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class GradValue(_Mark):
    """In the place of an argument: return its gradient."""

    __slots__ = ()


class DontWant(_Mark):
    """In the place of an argument: its gradient is not wanted."""

    __slots__ = ()


class GradRef(_Mark):
    """In the place of a gradient: it was added to a reference."""

    __slots__ = ()


class DidntWant(_Mark):
    """In the place of a gradient: it was not wanted."""

    __slots__ = ()


for _mark in (GradRef, DidntWant):
    register_node(_mark, lambda x: ((), type(x)), lambda kind, _: kind())


class Pullback(Partial):
    """The second result of `vjp`: ``f_vjp(ct)`` returns one cotangent per argument.

    Example:
        >>> import funtorch as ft
        >>> total = ft.new_ref(0.0)
        >>> for x in (0.0, 1.0):
        ...     _, f_vjp = ft.vjp(lambda x: x**2, x)
        ...     _ = f_vjp.with_refs(total)(1.0)
        >>> total
        Ref(2., dtype=float32)
    """

    def with_refs(self, *entries: Any) -> Callable[[Any], Any]:
        """Return the function that adds gradients to references.

        Args:
            *entries: one per argument of the differentiated function, a tree like it: a `Ref`, to
                which the gradient is added; ``ad.GradValue()``, return it; or ``ad.DontWant()``.

        Returns:
            A function of the cotangent, whose result has ``ad.GradRef()`` or ``ad.DidntWant()`` in
            the place of gradients that are not returned.

        Raises:
            ValueError: if the entries are not like the arguments.
        """
        leaves, treedef = tree.flatten(entries)
        return functools.partial(self._into, leaves, treedef)

    def _into(self, entries: list[Any], treedef: Any, ct: Any) -> Any:
        grads, found_tree = tree.flatten(super().__call__(ct))
        if found_tree != treedef:
            raise MismatchError(
                f"with_refs takes one entry per argument of the differentiated function, in the "
                f"structure of its arguments, {found_tree}; it was given {treedef}"
            )
        return tree.unflatten(found_tree, [_put(e, g) for e, g in zip(entries, grads, strict=True)])


def _put(entry: Any, grad: Any) -> Any:
    if isinstance(entry, DontWant):
        return DidntWant()
    if not isinstance(entry, Ref):
        return grad
    if grad.dtype != float0:
        entry.addupdate(grad)
    return GradRef()


class WithRefs:
    """The function of a `RefPullback`, and the types of those arguments, by leaf, that are
    references."""

    def __init__(self, func: Callable[..., Any], types: dict[int, ShapedArray]) -> None:
        self.func, self.types = func, types

    def __call__(self, *args: Any) -> Any:
        return self.func(*args)


class RefPullback(Pullback):
    """What `vjp` with respect to references returns: their gradients have to go into references.

    What such a reference holds before counts as the cotangent of what the argument held in the end.
    """

    func: WithRefs

    def __call__(self, /, *cts: Any) -> Any:
        raise ValueError(
            "vjp with respect to an argument that is a Ref: its gradient must be accumulated into "
            "a ref, so bind one with `with_refs`: f_vjp.with_refs(grad_ref)(ct)"
        )

    def _into(self, entries: list[Any], treedef: Any, ct: Any) -> Any:
        types, before = self.func.types, []
        for k, aval in types.items():
            entry = entries[k] if k < len(entries) else None
            if isinstance(entry, DontWant):
                before.append(zeros(aval))
            elif isinstance(entry, Ref):
                before.append(entry.held())
            else:
                self()
        grads, found_tree = tree.flatten(Partial.__call__(self, (before, ct)))
        for k in types:
            if isinstance(entries[k], Ref):
                entries[k].replace(grads[k])
        return tree.unflatten(
            found_tree,
            [
                GradRef() if k in types and isinstance(e, Ref) else _put(e, g)
                for k, (e, g) in enumerate(zip(entries, grads, strict=True))
            ],
        )


for _kind in (Pullback, RefPullback):
    register_node(
        _kind,
        lambda x: ((x.args, x.keywords), (type(x), x.func)),
        lambda kind, parts: kind[0](kind[1], *parts[0], **parts[1]),
    )
