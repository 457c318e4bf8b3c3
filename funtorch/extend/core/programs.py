"""Programs as data, built in the order of arguments that jax.extend.core has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from funtorch import jaxpr as programs
from funtorch.core import Primitive, ShapedArray
from funtorch.errors import Source
from funtorch.jaxpr import Eqn, Lit, Var, check_jaxpr, sub_jaxprs
from funtorch.numpy.promotion import asarray

__all__ = [
    "Atom",
    "ClosedJaxpr",
    "DebugInfo",
    "DropVar",
    "Effect",
    "Effects",
    "Jaxpr",
    "JaxprEqn",
    "Literal",
    "Var",
    "check_jaxpr",
    "eval_jaxpr",
    "gensym",
    "jaxpr_as_fun",
    "jaxprs_in_params",
    "new_jaxpr_eqn",
    "no_effects",
    "subjaxprs",
]

JaxprEqn = Eqn
Literal = Lit
Atom = Var | Lit
Effects = frozenset
no_effects: frozenset[Any] = frozenset()


class Effect:
    """What a program does besides giving results; base class of effects of one's own."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class DebugInfo(NamedTuple):
    """How errors and tools call a traced function and its arguments."""

    traced_for: str
    func_src_info: str
    arg_names: tuple[str, ...] | None = None
    result_paths: tuple[str, ...] | None = None


class DropVar(Var):
    """Stands for a result that nothing uses; programs traced here have plain variables there."""

    __slots__ = ()


class _AnyProgram(type):
    def __instancecheck__(cls, x: object) -> bool:
        return isinstance(x, programs.Jaxpr)


class Jaxpr(programs.Jaxpr, metaclass=_AnyProgram):
    """A program from its parts; every program is an instance.

    Args:
        constvars: variables of constants.
        invars: variables of the arguments.
        outvars: variables, or literals, of the results.
        eqns: equations, see `new_jaxpr_eqn`.
        effects: not needed: the equations tell.
        debug_info: not kept.

    Example:
        >>> import funtorch as ft
        >>> x = ft.make_jaxpr(lambda x: ft.numpy.sin(x) * 2)(1.0)
        >>> print(Jaxpr([], x.invars, x.eqns[0].outvars, x.eqns[:1]))
        { lambda  ; a:f32[]. let
            b:f32[] = sin a
          in (b,) }
    """

    __slots__ = ()

    def __init__(
        self,
        constvars: Sequence[Var],
        invars: Sequence[Var],
        outvars: Sequence[Var | Lit],
        eqns: Sequence[Eqn],
        effects: Any = no_effects,
        debug_info: Any = None,
    ) -> None:
        super().__init__(invars, eqns, outvars, constvars)


class ClosedJaxpr(programs.Jaxpr, metaclass=_AnyProgram):
    """A program with the values of its constants; every program is an instance.

    Args:
        jaxpr: a program.
        consts: values of its ``constvars``.
    """

    __slots__ = ()

    def __init__(self, jaxpr: programs.Jaxpr, consts: Sequence[Any] = ()) -> None:
        if len(jaxpr.constvars) != len(consts):
            raise ValueError(
                f"ClosedJaxpr: the program has {len(jaxpr.constvars)} constants, {len(consts)} "
                "values were given"
            )
        super().__init__(jaxpr.invars, jaxpr.eqns, jaxpr.outvars, jaxpr.constvars, consts)


def new_jaxpr_eqn(
    invars: Sequence[Var | Lit],
    outvars: Sequence[Var],
    primitive: Primitive,
    params: dict[str, Any],
    effects: Any = no_effects,
    source_info: Source | None = None,
    ctx: Any = None,
) -> Eqn:
    """Return an equation; what it does besides giving results is its primitive's business."""
    return Eqn(primitive, invars, params, outvars, source_info)


def gensym() -> Callable[[ShapedArray], Var]:
    """Return a function that makes a new variable of a type."""
    return Var


def jaxprs_in_params(params: dict[str, Any]) -> Iterator[programs.Jaxpr]:
    """Give the programs among the parameters of an equation."""
    return iter(sub_jaxprs(params))


def subjaxprs(jaxpr: programs.Jaxpr) -> Iterator[programs.Jaxpr]:
    """Give the programs among the parameters of a program's equations.

    Example:
        >>> import funtorch as ft
        >>> [len(p.eqns) for p in subjaxprs(ft.make_jaxpr(ft.jit(lambda x: x + 1))(1.0))]
        [1]
    """
    for eqn in jaxpr.eqns:
        yield from sub_jaxprs(eqn.params)


def eval_jaxpr(
    jaxpr: programs.Jaxpr, consts: Sequence[Any], *args: Any, propagate_source_info: bool = True
) -> list[Any]:
    """Run a program on arrays or tracers.

    Args:
        jaxpr: the program.
        consts: values of its ``constvars``.
        args: flat arrays and numbers.
        propagate_source_info: without effect: errors name the program's own lines.

    Returns:
        a list of arrays.

    Example:
        >>> import funtorch as ft
        >>> closed = ft.make_jaxpr(lambda x: 2 * x)(1.0)
        >>> eval_jaxpr(closed.jaxpr, closed.consts, 3.0)
        [Array(6., dtype=float32, weak_type=True)]
    """
    closed = ClosedJaxpr(jaxpr, list(map(asarray, consts))) if jaxpr.constvars else jaxpr
    return programs.eval_jaxpr(closed, *map(asarray, args))


def jaxpr_as_fun(closed_jaxpr: programs.Jaxpr) -> Callable[..., list[Any]]:
    """Return a program as a function of flat arrays that returns a list of arrays.

    Example:
        >>> import funtorch as ft, numpy as np
        >>> f = jaxpr_as_fun(ft.make_jaxpr(lambda x: 2 * x)(1.0))
        >>> [float(x) for x in f(np.float32(3))]
        [6.0]
    """

    def run(*args: Any) -> list[Any]:
        return programs.eval_jaxpr(closed_jaxpr, *map(asarray, args))

    return run
