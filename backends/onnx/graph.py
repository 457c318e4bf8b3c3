"""A program as a graph of ONNX: names for values, nodes in order, and sizes that are known later.

The rules of the primitives are in `rules.py` and `arrays.py`; they write nodes into a `Graph`. The
graph of a loop's body or of a branch reads values of the graphs around it by their names.

References:
    ONNX operators: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ShapedArray
from funtorch.dims import Dim
from funtorch.io.programs import SizeLit
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var

from .without import REASONS

__all__ = ["OPSET", "Graph", "NotExpressible", "Rule", "symbol_of", "taken", "type_of"]
__all__ += ["value_info", "why"]

OPSET = 21
"""The version of the operators that graphs are written in."""

_TYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7,
    "bool": 9, "float16": 10, "float64": 11, "uint32": 12, "uint64": 13, "bfloat16": 16,
}  # fmt: skip


Rule = Callable[..., Any]
"""``rule(graph, equation, *names of operands)`` gives the names of its results."""


class NotExpressible(NotImplementedError):
    """ONNX has no operator for what a program does."""


def type_of(dtype: np.dtype) -> int:
    """Return ONNX's number of a dtype."""
    if dtype.name not in _TYPES:
        raise NotExpressible(f"of {dtype.name} has no counterpart")
    return _TYPES[dtype.name]


_WIDER = {"i": ("int32", "int64"), "u": ("uint32", "uint64"), "f": ("float32", "float64")}
"""By kind: what narrower numbers of it become."""

_CHOSEN = {"int16": "int32", "uint16": "int32", "uint64": "int64"}
"""What `Where` works on in place of types that onnxruntime has none for; all bits are kept."""

_SPELLINGS = {"float32": "float", "float64": "double"}


@functools.cache
def taken(operator: str, dtype: np.dtype) -> np.dtype:
    """Return the dtype that an operator takes in place of another one: that itself, if it can."""
    import onnx

    schema = onnx.defs.get_schema(operator, OPSET, "")
    kind = schema.inputs[0].type_str
    allowed = {t for c in schema.type_constraints if c.type_param_str == kind
               for t in c.allowed_type_strs}  # fmt: skip
    wider = _WIDER.get("f" if dtypes.is_float(dtype) else dtype.kind, ())
    for name in (dtype.name, *wider):
        if f"tensor({_SPELLINGS.get(name, name)})" in allowed:
            return np.dtype(name) if name != dtype.name else dtype
    return dtype


class Graph:
    """Nodes in order, and the names of values.

    Args:
        outer: the graph that this one is inside of, whose values it may read.
        rules: by primitive, of the outermost graph.
    """

    broadcasts = True  # operators do so with their operands

    def __init__(self, outer: Graph | None = None, rules: Mapping[str, Rule] | None = None) -> None:
        self.nodes: list[Any] = []
        self.names: dict[Var, str] = {}
        self.outer = outer
        self.rules = rules or {}
        self.root: Graph = outer.root if outer is not None else self
        self.initializers: list[Any] = []  # of the root
        self.known: dict[Any, str] = {}  # constants of the root
        self.sizes: dict[str, str] = {}  # symbols of the root, as scalars
        self.count = 0
        self.vectors: dict[tuple[Any, ...], str] = {}  # of sizes, by the sizes
        self.narrow: dict[str, str] = {}  # what was expanded, by what it became
        self.opset = OPSET  # of the root: what its operators need

    def takes(self, dtype: np.dtype) -> None:
        """Raise if there are no numbers of a dtype."""
        type_of(dtype)

    # ---------------------------------------------------------------- names
    def fresh(self) -> str:
        self.root.count += 1
        return f"v{self.root.count}"

    def name(self, v: Var | Lit) -> str:
        """Return the name of a value."""
        if isinstance(v, SizeLit):
            size = self.cast(self.size(v.size), v.aval.dtype)
            return self.op("Reciprocal", size) if v.inverse else size
        if isinstance(v, Lit):
            return self.const(np.asarray(v.val._data))
        graph: Graph | None = self
        while graph is not None:
            if v in graph.names:
                return graph.names[v]
            graph = graph.outer
        raise KeyError(v)

    def const(self, x: Any, dtype: Any = None) -> str:
        """Return the name of a constant."""
        import onnx

        data, root = np.asarray(x, dtype), self.root
        key = (data.dtype, data.shape, data.tobytes())
        if key not in root.known:
            root.known[key] = self.fresh()
            tensor = onnx.TensorProto(name=root.known[key], data_type=type_of(data.dtype))
            tensor.dims.extend(data.shape)
            tensor.raw_data = data.tobytes()
            root.initializers.append(tensor)
        return root.known[key]

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Write a node; return the name of its result, or their names."""
        import onnx

        made = [self.fresh() for _ in range(outputs)]
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), made, **attributes))
        return made[0] if outputs == 1 else made

    # ---------------------------------------------------------------- sizes
    def size(self, n: int) -> str:
        """Return the name of a size as an int64 scalar."""
        if not isinstance(n, Dim):
            return self.const(n, np.int64)
        total = None
        for atoms, factor in n.terms:
            term = None if factor == 1 and atoms else self.const(factor, np.int64)
            for atom in atoms:
                found = self._atom(n, atom)
                term = found if term is None else self.op("Mul", term, found)
            assert term is not None
            total = term if total is None else self.op("Add", total, term)
        assert total is not None
        return total

    def _atom(self, n: Dim, number: int) -> str:
        kind, *args = n.scope.atoms[number]
        if kind == "symbol":
            return self.root.sizes[args[0]]
        a, b = (self.size(n.scope.make(terms)) for terms in args)
        if kind == "floor":
            return self.op("Div", a, b)
        if kind in ("least", "most"):
            return self.op("Min" if kind == "least" else "Max", a, b)
        raise NotExpressible(f"a size is the {kind} of two others")

    def ints(self, numbers: Sequence[int]) -> str:
        """Return the name of a vector of int64."""
        if not any(isinstance(n, Dim) for n in numbers):
            return self.const(list(numbers), np.int64)
        key = tuple(numbers)
        if key not in self.vectors:
            one = self.const([1], np.int64)
            parts = [self.op("Reshape", self.size(n), one) for n in numbers]
            self.vectors[key] = self.op("Concat", *parts, axis=0)
        return self.vectors[key]

    # ---------------------------------------------------------------- common expressions
    def cast(self, x: str, dtype: Any) -> str:
        return self.op("Cast", x, to=type_of(np.dtype(dtype)))

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        return self.op("Reshape", x, self.ints(shape), allowzero=1)

    def transpose(self, x: str, perm: Sequence[int]) -> str:
        return x if list(perm) == list(range(len(perm))) else self.op("Transpose", x, perm=perm)

    def cut(self, x: str, axes: Sequence[int], start: Any, stop: Any, step: Any = None) -> str:
        """Return ``x[start:stop:step]`` along some axes; bounds are numbers or names of vectors."""
        step = [1] * len(axes) if step is None else step
        named = [v if isinstance(v, str) else self.ints(v) for v in (start, stop, axes, step)]
        return self.op("Slice", x, *named)

    def expand(self, x: str, shape: Sequence[int]) -> str:
        out = self.op("Expand", x, self.ints(shape))
        self.narrow[out] = x
        return out

    def operands(self, xs: Sequence[str]) -> list[str]:
        """Return operands of an elementwise operator, which expands all but one by itself."""
        if all(x in self.narrow for x in xs):
            return [xs[0], *(self.narrow[x] for x in xs[1:])]
        return [self.narrow.get(x, x) for x in xs]

    def where(self, choice: str, x: str, y: str, dtype: np.dtype) -> str:
        """Return x where a condition holds, else y; in a type that engines have code for."""
        wide = _CHOSEN.get(dtype.name)
        if wide is None:
            return self.op("Where", *self.operands([choice, x, y]))
        x, y = (self.cast(v, wide) for v in (x, y))
        return self.cast(self.op("Where", choice, x, y), dtype)

    # ---------------------------------------------------------------- programs
    def run(self, jaxpr: Jaxpr, inputs: Sequence[str]) -> list[str]:
        """Write a program's equations; return the names of its results."""
        self.names.update(zip(jaxpr.invars, inputs, strict=True))
        for eqn in jaxpr.eqns:
            rule = _nothing if _is_empty(eqn) else self.root.rules.get(eqn.prim.name)
            if rule is None:
                raise NotExpressible(why(eqn, _missing(eqn)))
            try:
                found = rule(self, eqn, *map(self.name, eqn.invars))
            except NotExpressible as error:
                if " at " in str(error):  # of a program inside
                    raise
                raise NotExpressible(why(eqn, str(error))) from None
            many = eqn.prim.multiple_results
            self.names.update(zip(eqn.outvars, found if many else [found], strict=True))
        return [self.name(v) for v in jaxpr.outvars]

    def made(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """Return the graph as ONNX has it."""
        import onnx

        nodes = _needed(self.nodes, {v.name for v in outputs})
        return onnx.helper.make_graph(
            nodes, name, list(inputs), list(outputs), initializer=self.initializers
        )


def _is_empty(eqn: Eqn) -> bool:
    """Tell whether a step has nothing to compute, at any size."""
    shapes = [v.aval.shape for v in eqn.outvars]
    return bool(shapes) and all(
        any(not isinstance(n, Dim) and n == 0 for n in s) and not any(isinstance(n, Dim) for n in s)
        for s in shapes
    )


def _nothing(g: Graph, eqn: Eqn, *xs: str) -> Any:
    found = [g.const(np.zeros(v.aval.shape, v.aval.dtype)) for v in eqn.outvars]
    return found if eqn.prim.multiple_results else found[0]


def _reads(node: Any) -> set[str]:
    """Return what a node and the graphs in it read."""
    found = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                found |= _reads(inner)
            found.update(v.name for v in attribute.g.output)
    return found


def _needed(nodes: Sequence[Any], wanted: set[str]) -> list[Any]:
    """Return the nodes that some results need."""
    found = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            found.append(node)
            wanted |= _reads(node)
    return found[::-1]


def _missing(eqn: Eqn) -> str:
    reason = REASONS.get(eqn.prim.name)
    return "has no counterpart" if reason is None else f"has no counterpart ({reason})"


def why(eqn: Eqn, what: str) -> str:
    """Return a message that names an equation and its line."""
    return f"{eqn.prim.name} at {eqn.source or 'an unknown line'}: {what} in ONNX"


def value_info(name: str, aval: ShapedArray) -> Any:
    """Describe a value's type; sizes that are not numbers or symbols are left open."""
    import onnx

    shape = [symbol_of(n) if isinstance(n, Dim) else n for n in aval.shape]
    return onnx.helper.make_tensor_value_info(name, type_of(aval.dtype), shape)


def symbol_of(n: Any) -> str | None:
    """Return the name of a size that is a symbol."""
    if not isinstance(n, Dim) or len(n.terms) != 1:
        return None
    ((atoms, factor),) = n.terms
    if factor != 1 or len(atoms) != 1 or n.scope.atoms[atoms[0]][0] != "symbol":
        return None
    return n.scope.atoms[atoms[0]][1]
