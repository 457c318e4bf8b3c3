"""The stages of a jitted function, one by one: `Traced`, `Lowered`, `Compiled`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from funtorch import arraytree as tree
from funtorch.core import ArrayImpl, ShapedArray, _state, eval_trace
from funtorch.jaxpr import Jaxpr

from .arguments import as_arrays
from .staging import ShapeDtypeStruct

__all__ = ["ArgInfo", "Compiled", "CompilerOptions", "Lowered", "Traced"]

CompilerOptions = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ArgInfo:
    """What a stage knows of an argument: its type, and whether it is donated."""

    aval: ShapedArray
    donated: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> Any:
        return self.aval.dtype


class _Stage:
    """What all stages know: the program, and the types and structure of its arguments."""

    def __init__(
        self, program: Any, in_tree: Any, avals: Sequence[ShapedArray], names: Sequence[str]
    ) -> None:
        self._program = program
        self._names = names
        self._avals = list(avals)
        self.in_tree = in_tree

    @property
    def in_avals(self) -> Any:
        """The arguments' pytree ``(args, kwargs)`` with a `ShapedArray` at each leaf."""
        return self.in_tree.unflatten(self._avals)

    @property
    def jaxpr(self) -> Jaxpr:
        """The program as traced; what it closes over comes first among its inputs."""
        return self._program.jaxpr

    @property
    def out_tree(self) -> Any:
        """The structure of the result."""
        return self._program.out_tree

    @property
    def out_info(self) -> Any:
        """The result's pytree with a `ShapeDtypeStruct` at each leaf."""
        return self._program.out_tree.unflatten(
            [
                ShapeDtypeStruct(a.shape, a.dtype, weak_type=a.weak_type)
                for a in self.jaxpr.out_avals
            ]
        )

    @property
    def args_info(self) -> Any:
        """The arguments' pytree ``(args, kwargs)`` with an `ArgInfo` at each leaf."""
        donated = set(self.donate_argnums)
        return self.in_tree.unflatten([ArgInfo(a, k in donated) for k, a in enumerate(self._avals)])

    @property
    def fun_name(self) -> str:
        """The name of the function."""
        return self._program.name

    @property
    def donate_argnums(self) -> tuple[int, ...]:
        """Positions, among the leaves, of the arguments that may be overwritten."""
        first = len(self._program.consts)
        return tuple(k - first for k in sorted(self._program.donated))


class Traced(_Stage):
    """A traced function: its program as written down."""

    def lower(self) -> Lowered:
        """Go on to the next stage."""
        return Lowered(self._program, self.in_tree, self._avals, self._names)


class Lowered(_Stage):
    """A simplified program, before compilation."""

    def as_text(self, dialect: str | None = None, *, debug_info: bool = False) -> str:
        """Return the simplified program as text.

        Args:
            dialect: None for the library's own, or 'stablehlo'.
            debug_info: for compatibility.

        Raises:
            ValueError: for another dialect.
            NotImplementedError: if an operation has no counterpart in StableHLO.
        """
        if dialect is None:
            return str(self._program.simplified())
        return self.compiler_ir(dialect)

    def compiler_ir(self, dialect: str | None = None) -> str:
        """Return the program as the text of a StableHLO module.

        Args:
            dialect: 'stablehlo', or None for it.

        Raises:
            ValueError: for another dialect.
            NotImplementedError: if an operation has no counterpart in StableHLO.
        """
        if dialect not in (None, "stablehlo"):
            raise ValueError(f"unknown dialect {dialect!r}: there is 'stablehlo'")
        return self._program.stablehlo()

    def cost_analysis(self) -> dict[str, float]:
        """Count the work of the program: 'flops', 'transcendentals', 'bytes accessed'."""
        return self._program.cost_analysis()

    def compile(self, compiler_options: CompilerOptions | None = None) -> Compiled:
        """Compile the program to native code.

        Args:
            compiler_options: for compatibility; there are none but the empty ones.

        Raises:
            ValueError: if there are options.
        """
        if compiler_options:
            raise ValueError(
                f"compile takes no compiler_options: they are XLA's, got {sorted(compiler_options)}"
            )
        self._program.compiled()
        return Compiled(self._program, self.in_tree, self._avals, self._names)


class Compiled(_Stage):
    """A compiled program: call it with arguments of exactly the types it was lowered for."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, treedef = tree.flatten((args, kwargs))
        if treedef != self.in_tree:
            raise TypeError(
                f"the compiled function takes arguments of structure {self.in_tree}, got {treedef}"
            )
        arrays = as_arrays(leaves, "argument", None)
        for k, (x, aval) in enumerate(zip(arrays, self._avals, strict=True)):
            if not x.aval.same_type(aval):
                raise TypeError(
                    f"the compiled function takes {aval.str_short()} as leaf {k}, got "
                    f"{x.aval.str_short()} (argument {self._names[k]}); lower the function again "
                    "for other types, or call the jitted function itself"
                )
        if all(isinstance(x, ArrayImpl) for x in arrays) and _state.trace is eval_trace:
            return self._program.call(arrays)
        return self._program.bind(arrays)

    def as_text(self) -> str:
        """Return the simplified program as text."""
        return str(self._program.simplified())

    def cost_analysis(self) -> dict[str, float]:
        """Count the work of the program: 'flops', 'transcendentals', 'bytes accessed'."""
        return self._program.cost_analysis()

    def memory_analysis(self) -> Any:
        """Return the program's needs of memory in bytes; see `funtorch.backends.cost`."""
        return self._program.memory_analysis()
