"""Run an ONNX graph with our operations: names to values, node by node.

What is known is computed at once, so that shapes are numbers: constants, shapes of arrays, and
small arrays computed from these. All else goes through the public functions of FunTorch, so a
graph can be transformed and compiled like any function.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from funtorch.core import ArrayImpl
from funtorch.transforms import ensure_compile_time_eval, eval_shape

from .node import Node, OnnxError, Rule, UnsupportedOnnx, array
from .tensors import attribute_value, tensor, type_proto

__all__ = ["Context", "operators", "run_graph"]

SMALL = 4096
"""Elements of arrays that are computed at once where all operands are known."""

DEEPEST = 64
"""Functions within functions."""

Values = ChainMap[str, Any]


class Context:
    """What nodes of a graph may use.

    Args:
        rules: by operator, of ONNX's own domain.
        own: by operator, of any domain; they come first.
        opsets: the versions of the domains.
        functions: of the model, by domain and name.
        attributes: that the function around the nodes was called with, as ``AttributeProto``.
        depth: how many functions are around the nodes.
        turns: how many turns of loops have run one by one in this call, in a list.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        own: Mapping[str, Rule],
        opsets: Mapping[str, int],
        functions: Mapping[tuple[str, str], Any],
        attributes: Mapping[str, Any] | None = None,
        depth: int = 0,
        turns: list[int] | None = None,
    ) -> None:
        self.rules, self.own, self.opsets, self.functions = rules, own, opsets, functions
        self.attributes, self.depth, self.turns = attributes, depth, turns or [0]

    def called(self) -> Context:
        """Return what nodes may use in one more call of the model."""
        return Context(self.rules, self.own, self.opsets, self.functions)

    def inside(self, function: Any, attributes: Mapping[str, Any]) -> Context:
        """Return what nodes of a function may use."""
        if self.depth >= DEEPEST:
            raise OnnxError(f"the function {function.name} calls itself, or {DEEPEST} others deep")
        opsets = {**self.opsets, **opset_versions(function.opset_import)}
        depth = self.depth + 1
        return Context(self.rules, self.own, opsets, self.functions, attributes, depth, self.turns)


def opset_versions(imports: Any) -> dict[str, int]:
    """Return the versions of operators that a model or a function asks for."""
    return {"" if i.domain == "ai.onnx" else i.domain: i.version for i in imports}


def run_graph(context: Context, graph: Any, inputs: Sequence[Any], outer: Values) -> list[Any]:
    """Return the outputs of a graph.

    Args:
        context: what its nodes may use.
        graph: a ``GraphProto``.
        inputs: values of its inputs, in order.
        outer: values of the graphs around it.
    """
    own: dict[str, Any] = {t.name: tensor(t) for t in graph.initializer}
    own.update(zip((v.name for v in graph.input), inputs, strict=False))
    values = ChainMap(own, *outer.maps)
    return run_nodes(context, graph.node, values, [v.name for v in graph.output])


def run_nodes(context: Context, nodes: Any, values: Values, wanted: Sequence[str]) -> list[Any]:
    """Return the values of some names once nodes have run."""
    for number, proto in enumerate(nodes):
        node = _node(context, proto, number, values)
        operands = [_value(values, name, node.place) if name else None for name in proto.input]
        while operands and operands[-1] is None:
            operands.pop()
        results = _checked(context, node, proto, operands)
        for name, result in zip(proto.output, results, strict=False):
            if name:
                values[name] = result
        missing = [name for name in proto.output[len(results) :] if name]
        if missing:
            raise node.unsupported(f"its result {missing[0]!r} is not computed")
    return [_value(values, name, "the graph's outputs") if name else None for name in wanted]


def _value(values: Values, name: str, place: str) -> Any:
    if name not in values:
        raise OnnxError(f"{place}: there is no value {name!r} before it; the model is damaged")
    return values[name]


def _node(context: Context, proto: Any, number: int, values: Values) -> Node:
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    shown = f"{domain}:{proto.op_type}" if domain else proto.op_type
    place = f"node {number}, {shown}" + (f" {proto.name!r}" if proto.name else "")
    attributes = {a.name: attribute_value(a, place) for a in _resolved(context, proto, place)}

    def run(graph: Any, inputs: Sequence[Any]) -> list[Any]:
        return run_graph(context, graph, inputs, values)

    wanted = [bool(name) for name in proto.output]
    opset = context.opsets.get(domain, 1)
    return Node(proto.op_type, place, opset, attributes, wanted, run, number, context.turns)


def _resolved(context: Context, proto: Any, place: str) -> list[Any]:
    """Return the attributes of a node, those of the function around it put in their places."""
    found = []
    for given in proto.attribute:
        if not given.ref_attr_name:
            found.append(given)
            continue
        if context.attributes is None:
            raise OnnxError(f"{place}: it refers to an attribute outside of a function")
        if given.ref_attr_name in context.attributes:
            attribute = type(given)()
            attribute.CopyFrom(context.attributes[given.ref_attr_name])
            attribute.name = given.name
            found.append(attribute)
    return found


# ------------------------------------------------------------------------------------ one node
def _checked(context: Context, node: Node, proto: Any, operands: list[Any]) -> Sequence[Any]:
    """Run a node, and say in errors which one it was."""
    try:
        return _results(context, node, proto, operands)
    except OnnxError:
        raise
    except NotImplementedError as error:
        raise UnsupportedOnnx(f"{node.place}: {error}") from error
    except _OF_RULES as error:
        shown = ", ".join(map(_shown, operands))
        raise OnnxError(f"{node.place} of {shown}: {error}") from error


_OF_RULES = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, MemoryError)
"""What rules do with operands and attributes that do not fit each other."""


def _shown(x: Any) -> str:
    if x is None:
        return "nothing"
    if isinstance(x, list):
        return f"a sequence of {len(x)}"
    return f"{x.dtype.name}[{','.join(map(str, x.shape))}]"


def _results(context: Context, node: Node, proto: Any, operands: list[Any]) -> Sequence[Any]:
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    function = context.functions.get((domain, proto.op_type))
    rule = context.own.get(proto.op_type)
    if rule is None and domain == "" and function is None:
        rule = context.rules.get(proto.op_type)
    if rule is None:
        attributes = {a.name: a for a in _resolved(context, proto, node.place)}
        if function is None:
            function = _schema_function(node, proto, domain, operands, attributes)
        attributes = {a.name: a for a in function.attribute_proto} | attributes
        inside = context.inside(function, attributes)
        given = [*operands, *[None] * (len(function.input) - len(operands))]
        values = ChainMap(dict(zip(function.input, given, strict=False)))
        wanted = [
            name if asked else "" for name, asked in zip(function.output, node.wanted, strict=False)
        ]
        return run_nodes(inside, function.node, values, wanted)
    if _at_once(node, rule, operands):
        with ensure_compile_time_eval():
            found = _tuple(rule(node, *operands))
        return [_constant(x) for x in found]
    return _tuple(rule(node, *operands))


def _at_once(node: Node, rule: Rule, operands: Sequence[Any]) -> bool:
    """Tell whether a node is computed while the graph is traced."""
    if node.op in _GRAPHS or not all(
        isinstance(x, np.ndarray) and x.size <= SMALL for x in operands
    ):
        return False
    return node.op not in _GROWING or _elements(rule, node, operands) <= SMALL


def _elements(rule: Rule, node: Node, operands: Sequence[Any]) -> int:
    found = eval_shape(lambda: [array(x) for x in _tuple(rule(node, *operands))])
    return sum(math.prod(x.shape) for x in found)


_GRAPHS = frozenset({"If", "Loop", "Scan"})  # which read values that are no operands

_GROWING = frozenset(
    ("ConstantOfShape", "Expand", "Tile", "Range", "OneHot", "EyeLike", "Pad", "Resize", "Upsample")
    + ("RandomNormal", "RandomUniform", "MelWeightMatrix", "HannWindow", "HammingWindow", "Col2Im")
    + ("BlackmanWindow", "CenterCropPad", "MaxUnpool", "MatMul", "Einsum")
)
"""Operators whose results may be much larger than their operands."""


def _tuple(found: Any) -> Sequence[Any]:
    return found if isinstance(found, tuple) else (found,)


def _constant(x: Any) -> Any:
    """Return what was computed at once as a value that is known."""
    return np.asarray(x) if isinstance(x, ArrayImpl) and x.size <= SMALL else x


def _schema_function(
    node: Node, proto: Any, domain: str, operands: Sequence[Any], attributes: dict[str, Any]
) -> Any:
    """Return the function of other operators that an operator's definition says it is."""
    import onnx

    if not onnx.defs.has(proto.op_type, node.opset, domain):
        raise unknown_operator(node.place, domain, proto.op_type)
    schema: Any = onnx.defs.get_schema(proto.op_type, node.opset, domain)
    for name, attribute in schema.attributes.items():
        if attribute.default_value.name:
            attributes.setdefault(name, attribute.default_value)
    types = [type_proto(x).SerializeToString() for x in operands]
    plain = [v for v in schema.function_opset_versions if v <= node.opset]
    depends = [v for v in schema.context_dependent_function_opset_versions if v <= node.opset]
    if depends and not plain:
        made = schema.get_context_dependent_function_with_opset_version(
            depends[-1], _with_attributes(proto, attributes).SerializeToString(), types
        )
    elif plain:
        made = schema.get_function_with_opset_version(plain[-1])
    else:
        raise unknown_operator(node.place, domain, proto.op_type)
    if not made:
        raise node.unsupported("its definition gives no function for these operands")
    return onnx.FunctionProto.FromString(made)


def _with_attributes(proto: Any, attributes: Mapping[str, Any]) -> Any:
    found = type(proto)()
    found.CopyFrom(proto)
    del found.attribute[:]
    found.attribute.extend(attributes.values())
    return found


def unknown_operator(place: str, domain: str, op: str) -> UnsupportedOnnx:
    """Return the error that names an operator and what to do."""
    of = f"of the domain {domain!r}, " if domain else ""
    return UnsupportedOnnx(
        f"{place}: the operator {op}, {of}is not translated; give its meaning with "
        f"operators={{{op!r}: function of (node, *values)}}, or export the model without it"
    )


# ------------------------------------------------------------------------------------ checks
def operators(
    nodes: Any, found: Callable[[Any, str], None], place: str = "", depth: int = 0
) -> int:
    """Visit the nodes of a graph and of the graphs in it; return how many there are."""
    if depth > DEEPEST:
        raise OnnxError(f"the model has more than {DEEPEST} graphs inside of each other")
    count = 0
    for number, proto in enumerate(nodes):
        name = f" {proto.name!r}" if proto.name else ""
        here = f"{place}node {number}, {proto.op_type}{name}"
        found(proto, here)
        count += 1
        for attribute in proto.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                count += operators(graph.node, found, f"{here}: ", depth + 1)
    return count


def expanded(functions: Mapping[Any, Any], nodes: Any, most: float = 1e6) -> None:
    """Check that functions do not call themselves, and stand for a number of nodes we can run."""
    sizes: dict[Any, float] = {}

    def size(key: Any, trail: tuple[Any, ...]) -> float:
        if key in trail:
            raise OnnxError(f"the function {key[1]} of the model calls itself")
        if key not in sizes:
            sizes[key] = total(functions[key].node, (*trail, key))
        return sizes[key]

    def total(inside: Any, trail: tuple[Any, ...]) -> float:
        count = 0.0

        def add(proto: Any, place: str) -> None:
            nonlocal count
            key = ("" if proto.domain == "ai.onnx" else proto.domain, proto.op_type)
            count += size(key, trail) if key in functions else 1

        operators(inside, add)
        return count

    if len(functions) > DEEPEST * 16 or total(nodes, ()) > most:
        raise OnnxError(f"the model's functions stand for more than {math.floor(most)} nodes")
