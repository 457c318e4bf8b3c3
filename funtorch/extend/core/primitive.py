"""Primitives that get their rules one by one, as jax.extend.core has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funtorch import core, dtypes
from funtorch.core import Array, ShapedArray, primitives
from funtorch.numpy.promotion import asarray
from funtorch.placement import array_of, buffer_of

__all__ = ["CallPrimitive", "Primitive"]

Rule = Callable[..., Any]


def _type_of(x: Any) -> ShapedArray:
    dtype = dtypes.canonical(x.dtype)
    return ShapedArray(tuple(x.shape), dtype, bool(getattr(x, "weak_type", False)))


class Primitive(core.Primitive):
    """A primitive that gets its rules one by one, as in JAX.

    The rules of `funtorch.interpreters` (ad, batching, mlir) complete it. Compiled programs call
    the implementation where there is no lowering. `funtorch.extend.primitive` makes primitives
    in one call, and checks what their rules give.

    Args:
        name: how programs and errors call it.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.interpreters import ad
        >>> twice_p = Primitive("twice")
        >>> _ = twice_p.def_impl(lambda x: 2 * x)
        >>> _ = twice_p.def_abstract_eval(lambda x: x)
        >>> ad.deflinear(twice_p, lambda ct: [twice_p.bind(ct)])
        >>> float(ft.jit(ft.grad(lambda x: twice_p.bind(x) ** 2))(3.0))
        24.0
    """

    __slots__ = ("impl",)

    def __init__(self, name: str) -> None:
        taken = primitives.get(name)
        super().__init__(name)
        if taken is not None:  # the library's own keep their names in exported programs
            primitives[name] = taken
        self.nests = True
        self.type = _no_rule(self, "Abstract evaluation")
        self.eager = self.impl = _no_rule(self, "Evaluation rule")

    def bind(self, *args: Any, **params: Any) -> Any:
        """Apply the primitive to arrays and numbers; parameters are static, and hashable."""
        return super().bind(*[x if isinstance(x, Array) else asarray(x) for x in args], **params)

    def def_impl(self, impl: Rule) -> Rule:
        """Set what it computes: ``impl(*arrays, **params)`` -> result, a list if it has several."""

        def eager(xp: Any, *buffers: Any, **params: Any) -> Any:
            out = impl(*map(array_of, buffers), **params)
            outs = list(out) if self.multiple_results else [out]
            found = [buffer_of(asarray(o)) for o in outs]
            return found if self.multiple_results else found[0]

        self.eager, self.impl = eager, impl
        return impl

    @property
    def has_impl(self) -> bool:
        """Whether it was said what it computes."""
        return self.eager is not self.impl

    def def_abstract_eval(self, abstract_eval: Rule) -> Rule:
        """Set its type rule: ``abstract_eval(*avals, **params)`` -> what has shape and dtype."""

        def type_rule(*avals: Any, **params: Any) -> Any:
            out = abstract_eval(*avals, **params)
            return [_type_of(a) for a in out] if self.multiple_results else _type_of(out)

        self.type = type_rule
        return abstract_eval


def _no_rule(prim: Primitive, what: str) -> Rule:
    def rule(*args: Any, **params: Any) -> Any:
        raise NotImplementedError(
            f"{what} for {prim.name!r} not implemented: set it by def_impl or def_abstract_eval"
        )

    return rule


class CallPrimitive(Primitive):
    """A primitive that calls a function: ``bind(fun, *args, **params)`` runs it in place."""

    __slots__ = ()
    call_primitive = True

    def __init__(self, name: str) -> None:
        taken = primitives.get(name)
        super().__init__(name)
        self.multiple_results = True
        primitives.pop(name)  # no program contains it
        if taken is not None:
            primitives[name] = taken

    def bind(self, *args: Any, **params: Any) -> Any:
        """Call ``args[0]``, a `funtorch.extend.linear_util.WrappedFun`, with the others."""
        fun, *rest = args
        return getattr(fun, "call_wrapped", fun)(*rest)
