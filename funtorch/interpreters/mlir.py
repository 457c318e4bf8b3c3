"""What compiled programs contain for primitives, under the names of jax.interpreters.mlir.

There is no MLIR: a lowering is a function of the library's operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funtorch.core import Primitive

__all__ = ["lower_fun", "register_lowering"]


class _Lowering:
    def __init__(self, fun: Callable[..., Any], multiple_results: bool) -> None:
        self.fun, self.multiple_results = fun, multiple_results

    def expand(self, prim: Primitive) -> Callable[..., Any]:
        def expand(*args: Any, **params: Any) -> Any:
            out = self.fun(*args, **params)
            if prim.multiple_results or not self.multiple_results:
                return out
            return out[0]

        return expand


def lower_fun(fun: Callable[..., Any], multiple_results: bool = True) -> Any:
    """Make a lowering of a function: the program contains its operations.

    Args:
        fun: ``fun(*args, **params)`` -> the result, of traced arrays.
        multiple_results: whether it returns a sequence of results.

    Returns:
        What `register_lowering` takes.
    """
    return _Lowering(fun, multiple_results)


def register_lowering(prim: Primitive, rule: Any, platform: str | None = None) -> Any:
    """Set what compiled programs contain for a primitive.

    Args:
        prim: one of `funtorch.extend.core.Primitive`.
        rule: what `lower_fun` returns. Another one, which writes MLIR, is left alone where the
            primitive has an implementation: programs call that.
        platform: None; lowerings of single platforms are not told apart.

    Raises:
        NotImplementedError: if the rule writes MLIR and there is no implementation, or is for one
            platform.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.extend.core import Primitive
        >>> third_p = Primitive("third")
        >>> _ = third_p.def_abstract_eval(lambda x: x)
        >>> _ = register_lowering(third_p, lower_fun(lambda x: x / 3, multiple_results=False))
        >>> float(ft.jit(third_p.bind)(6.0))
        2.0
    """
    if not isinstance(rule, _Lowering) and getattr(prim, "has_impl", False):
        return rule
    if not isinstance(rule, _Lowering) or platform is not None:
        raise NotImplementedError(
            f"register_lowering of {prim.name}: there is no MLIR here; pass lower_fun(f), of a "
            "function of arrays, for all platforms (without one, programs call def_impl's)"
        )
    prim.expand = rule.expand(prim)
    return rule
