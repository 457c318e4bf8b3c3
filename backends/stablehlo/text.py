"""A program as StableHLO text: names for values, operations in order, in MLIR's generic syntax.

The rules of the primitives are in `rules.py`; they write operations into a `Text`.

References:
    https://openxla.org/stablehlo/spec
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from funtorch.core import ShapedArray
from funtorch.jaxpr import Jaxpr, Lit, Var

from ..onnx.graph import NotExpressible

__all__ = ["Rule", "Text", "array", "ints", "kind", "tensor"]

Rule = Callable[..., Any]
"""``rule(text, equation, *names of operands)`` gives the names of its results."""

_KINDS = {
    "bool": "i1", "uint8": "ui8", "uint16": "ui16", "uint32": "ui32", "uint64": "ui64",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64", "float16": "f16",
    "bfloat16": "bf16", "float32": "f32", "float64": "f64", "complex64": "complex<f32>",
    "complex128": "complex<f64>",
}  # fmt: skip


def kind(dtype: Any) -> str:
    """Return the name of a dtype."""
    return _KINDS[np.dtype(dtype).name]


def tensor(shape: Sequence[int], dtype: Any) -> str:
    """Return the type of an array."""
    return f"tensor<{''.join(f'{n}x' for n in shape)}{kind(dtype)}>"


def ints(numbers: Sequence[int]) -> str:
    """Return an attribute of integers."""
    numbers = list(map(int, numbers))
    return f"array<i64: {', '.join(map(str, numbers))}>" if numbers else "array<i64>"


def array(numbers: Any) -> str:
    """Return an attribute that is an array of int64."""
    data = np.asarray(numbers, np.int64)
    shown = str(data.tolist()) if data.size else ""
    return f"dense<{shown}> : tensor<{'x'.join(map(str, data.shape))}xi64>"


class Text:
    """Lines in order, and the names and types of values; those of outer texts can be read.

    Args:
        rules: by primitive.
        outer: the text that this one is a region of.
    """

    broadcasts = False

    def __init__(self, rules: Mapping[str, Rule], outer: Text | None = None) -> None:
        self.rules, self.outer = rules, outer
        self.root: Text = outer.root if outer is not None else self
        self.lines: list[str] = []
        self.count = 0
        self.names: dict[Var, str] = {}
        self.types: dict[str, tuple[tuple[int, ...], np.dtype]] = (
            outer.types if outer is not None else {}
        )

    def takes(self, dtype: np.dtype) -> None:
        """Raise if there are no numbers of a dtype."""
        tensor((), dtype)

    # ---------------------------------------------------------------- names
    def fresh(self, shape: Sequence[int], dtype: Any) -> str:
        """Return a new name of a value of some type."""
        self.root.count += 1
        name = f"%v{self.root.count}"
        self.types[name] = tuple(map(int, shape)), np.dtype(dtype)
        return name

    def type(self, name: str) -> str:
        """Return the type of a value."""
        return tensor(*self.types[name])

    def name(self, v: Var | Lit) -> str:
        """Return the name of a program's value."""
        if isinstance(v, Lit):
            return self.const(np.asarray(v.val._data))
        text: Text | None = self
        while text is not None:
            if v in text.names:
                return text.names[v]
            text = text.outer
        raise KeyError(v)

    def operands(self, xs: Sequence[str]) -> list[str]:
        return list(xs)

    # ---------------------------------------------------------------- operations
    def op(
        self, operator: str, xs: Sequence[str], outs: Sequence[ShapedArray], attributes: str = "",
        regions: Sequence[str] = (),
    ) -> Any:  # fmt: skip
        """Write an operation; return the name of its result, or their names."""
        made = [self.fresh(a.shape, a.dtype) for a in outs]
        given = f"({', '.join(xs)})"
        shown = f" <{{{attributes}}}>" if attributes else ""
        inside = f" ({', '.join(regions)})" if regions else ""
        types = f"({', '.join(map(self.type, xs))}) -> ({', '.join(map(self.type, made))})"
        head = f"{', '.join(made)} = " if made else ""
        operator = operator if "." in operator else f"stablehlo.{operator}"
        self.lines.append(f'{head}"{operator}"{given}{shown}{inside} : {types}')
        return made[0] if len(made) == 1 else made

    def like(self, operator: str, *xs: str, attributes: str = "") -> str:
        """Write an elementwise operation, whose result is of the type of its first operand."""
        return self.op(operator, xs, [ShapedArray(*self.types[xs[0]])], attributes)

    def const(self, x: Any, dtype: Any = None) -> str:
        """Write a constant."""
        data = np.asarray(x, dtype)
        if data.dtype == np.bool_:
            bytes_ = self.const(data.astype(np.uint8))
            return self.op("convert", [bytes_], [ShapedArray(data.shape, data.dtype)])
        shown = f'"0x{data.tobytes().hex().upper()}"' if data.size else ""
        aval = ShapedArray(data.shape, data.dtype)
        attribute = f"value = dense<{shown}> : {tensor(data.shape, data.dtype)}"
        return self.op("constant", [], [aval], attribute)

    def full(self, value: Any, shape: Sequence[int], dtype: Any) -> str:
        """Write a constant that is repeated."""
        return self.broadcast(self.const(value, dtype), shape, ())

    def broadcast(self, x: str, shape: Sequence[int], dims: Sequence[int]) -> str:
        aval = ShapedArray(tuple(shape), self.types[x][1])
        return self.op("broadcast_in_dim", [x], [aval], f"broadcast_dimensions = {ints(dims)}")

    def cast(self, x: str, dtype: Any) -> str:
        shape, old = self.types[x]
        same = old == np.dtype(dtype)
        return x if same else self.op("convert", [x], [ShapedArray(shape, np.dtype(dtype))])

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        return self.op("reshape", [x], [ShapedArray(tuple(shape), self.types[x][1])])

    # ---------------------------------------------------------------- programs
    def region(
        self, avals: Sequence[ShapedArray], body: Callable[[Text, list[str]], Sequence[str]]
    ) -> str:
        """Return a region: ``body(text, names of its arguments)`` gives what it returns."""
        inner = Text(self.rules, self)
        given = [inner.fresh(a.shape, a.dtype) for a in avals]
        outs = body(inner, given)
        types = ", ".join(map(inner.type, outs))
        shown = ", ".join(f"{x}: {inner.type(x)}" for x in given)
        lines = [f"^bb0({shown}):"] if given else []
        lines += [*inner.lines, f'"stablehlo.return"({", ".join(outs)}) : ({types}) -> ()']
        return "{\n" + "\n".join(lines) + "\n}"

    def run(self, jaxpr: Jaxpr, inputs: Sequence[str]) -> list[str]:
        """Write a program's equations; return the names of its results."""
        self.names.update(zip(jaxpr.invars, inputs, strict=True))
        for eqn in jaxpr.eqns:
            rule = self.rules.get(eqn.prim.name)
            try:
                if rule is None:
                    raise NotExpressible("has no rule")
                found = rule(self, eqn, *map(self.name, eqn.invars))
            except NotExpressible as error:
                if " at " in str(error):  # of a program inside
                    raise
                where = eqn.source or "an unknown line"
                raise NotExpressible(f"{eqn.prim.name} at {where}: {error} for StableHLO") from None
            many = eqn.prim.multiple_results
            self.names.update(zip(eqn.outvars, found if many else [found], strict=True))
        return [self.name(v) for v in jaxpr.outvars]
