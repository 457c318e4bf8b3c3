"""`from_onnx`: an ONNX model as a function of its inputs, with its parameters as leaves."""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes, tree

from .graph import Context, expanded, operators, opset_versions, run_nodes, unknown_operator
from .node import DTYPES, NARROW, OnnxError, UnsupportedOnnx
from .table import RULES
from .tensors import sparse, tensor

__all__ = ["OnnxModel", "from_onnx"]

OLDEST = 7
"""Version of the operators from which on they mean what they mean today, nearly."""


class _Program:
    """What an ONNX model does, without its parameters; compared by identity."""

    def __init__(self, model: Any, context: Context, constants: Mapping[str, Any]) -> None:
        self.graph, self.context, self.constants = model.graph, context, constants
        given = {t.name for t in model.graph.initializer}
        self.inputs = [v for v in model.graph.input if v.name not in given]
        self.names = [v.name for v in self.inputs]
        self.outputs = [v.name for v in model.graph.output]


@tree.register_pytree_with_keys_class
class OnnxModel:
    """A model read by `from_onnx`: a function of its inputs, and a pytree of its parameters.

    Attributes:
        params: floating-point weights by name, which are the leaves of the tree.
        input_names: of the graph's inputs, in order.
        output_names: of the graph's outputs, in order.
    """

    def __init__(self, params: dict[str, Any], program: _Program) -> None:
        self.params = params
        self._program = program

    def tree_flatten_with_keys(self) -> Any:
        return [(tree.GetAttrKey("params"), self.params)], self._program

    def tree_flatten(self) -> Any:
        return (self.params,), self._program

    @classmethod
    def tree_unflatten(cls, program: Any, children: Any) -> OnnxModel:
        return cls(children[0], program)

    @property
    def input_names(self) -> list[str]:
        return list(self._program.names)

    @property
    def output_names(self) -> list[str]:
        return list(self._program.outputs)

    def __repr__(self) -> str:
        inputs = ", ".join(f"{v.name}: {_shown(v)}" for v in self._program.inputs)
        count = len(self.params)
        return f"OnnxModel({inputs} -> {', '.join(self.output_names)}; {count} parameters)"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model.

        Args:
            args: inputs in the order of ``input_names``.
            kwargs: inputs by name.

        Returns:
            the output, or a tuple of them where there are several.

        Raises:
            TypeError: an input is missing, or has another type.
            OnnxError: a node cannot do what it is asked; the message names it.
        """
        return self.apply(self.params, *args, **kwargs)

    def apply(self, params: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Run the model with other parameters, such as an optimizer's."""
        program = self._program
        inputs = _inputs(program, args, kwargs)
        values = ChainMap(dict(inputs), dict(params), dict(program.constants))
        found = run_nodes(program.context.called(), program.graph.node, values, program.outputs)
        outs = [fnp.asarray(x) if isinstance(x, np.ndarray) else x for x in found]
        return outs[0] if len(outs) == 1 else tuple(outs)


def _shown(info: Any) -> str:
    if not info.type.HasField("tensor_type"):
        return info.type.WhichOneof("value") or "?"
    kind = info.type.tensor_type
    name = np.dtype(DTYPES[kind.elem_type]).name if kind.elem_type in DTYPES else "?"
    if not kind.HasField("shape"):
        return name
    sizes = (d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?")
             for d in kind.shape.dim)  # fmt: skip
    return f"{name}[{','.join(sizes)}]"


def _inputs(program: _Program, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs by name, checked."""
    names = program.names
    given = dict(zip(names, args, strict=False))
    twice, more = given.keys() & kwargs.keys(), kwargs.keys() - set(names)
    given |= kwargs
    optional = {v.name for v in program.inputs if v.type.HasField("optional_type")}
    missing = [name for name in names if name not in given and name not in optional]
    if twice or more or missing or len(args) > len(names):
        raise TypeError(
            f"the ONNX model takes {', '.join(names)}; missing: {', '.join(missing) or 'none'}; "
            f"not expected: {', '.join(sorted(more | twice)) or max(len(args) - len(names), 0)}"
        )
    sizes: dict[str, int] = {}
    return {v.name: _input(v, given.get(v.name), sizes) for v in program.inputs}


def _input(info: Any, x: Any, sizes: dict[str, int]) -> Any:
    if not info.type.HasField("tensor_type"):
        return [fnp.asarray(part) for part in x] if isinstance(x, (list, tuple)) else x
    kind = info.type.tensor_type
    wanted = np.dtype(DTYPES[kind.elem_type]) if kind.elem_type in DTYPES else None
    if isinstance(x, (bool, int, float)) and wanted is not None:
        x = np.asarray(x, wanted)
    if not _stays(x):
        x = fnp.asarray(x)
    wanted = x.dtype if wanted is None else wanted
    fits = x.dtype in (wanted, NARROW.get(wanted))
    if kind.HasField("shape"):
        fits = fits and len(kind.shape.dim) == x.ndim
        for d, size in zip(kind.shape.dim, x.shape, strict=False):
            if d.dim_param:
                fits = fits and sizes.setdefault(d.dim_param, size) == size
            elif d.HasField("dim_value"):
                fits = fits and d.dim_value == size
    if not fits:
        where = f" where {', '.join(f'{k}={n}' for k, n in sizes.items())}" if sizes else ""
        raise TypeError(
            f"the ONNX model takes {_shown(info)} as {info.name}{where}, got "
            f"{x.dtype.name}[{','.join(map(str, x.shape))}]"
        )
    return x


def _stays(x: Any) -> bool:
    """Tell whether an input is known while the model is traced: integers that NumPy holds."""
    return isinstance(x, np.ndarray) and (x.dtype in NARROW or x.dtype.kind in "iub")


# ------------------------------------------------------------------------------------ reading
def from_onnx(
    model: str | os.PathLike[str] | bytes | Any,
    *,
    operators: Mapping[str, Callable[..., Any]] | None = None,
    trainable: Callable[[str, np.ndarray], bool] | None = None,
) -> OnnxModel:
    """Return an ONNX model as a function of arrays, with its weights as parameters.

    The result is a pytree whose leaves are the model's floating-point weights, so it can be
    differentiated, trained, mapped, compiled and exported like a layer of `nnx`. Shapes that are
    computed in the graph are numbers by the time that it is traced. Nothing in the file is run
    while it is read.

    Args:
        model: a path, the bytes of a file, or an ``onnx.ModelProto``. Data in other files are read
            from the folder of the path.
        operators: meanings of operators that have none here or shall have another:
            ``{"Name": function}``, called as ``function(node, *values)``, where ``node.get(name,
            default)`` gives an attribute.
        trainable: ``(name, array) -> bool`` chooses the parameters among the floating-point
            initializers; None: those with axes, but for running statistics and what shapes are
            computed from. All else is constant.

    Returns:
        an `OnnxModel`.

    Raises:
        FileNotFoundError: there is no such file.
        OnnxError: the file is damaged or holds something else (a ValueError).
        UnsupportedOnnx: an operator or a type is not translated (a NotImplementedError too); the
            message names the node and says what to do.
        ImportError: the package onnx is not installed.

    Example:
        >>> import funtorch as ft
        >>> w = ft.numpy.arange(3.0)
        >>> exported = ft.export(lambda x: x @ w)(ft.ShapeDtypeStruct((2, 3), "float32"))
        >>> model = ft.from_onnx(exported.to_onnx())
        >>> ft.jit(model)(ft.numpy.ones((2, 3)))
        Array([3., 3.], dtype=float32)

    References:
        https://onnx.ai/onnx/operators/
    """
    proto, what = _read(model)
    try:
        return _built(proto, dict(operators or {}), trainable)
    except OnnxError as error:
        raise type(error)(f"{what}: {error}") from error.__cause__


def _read(model: Any) -> tuple[Any, str]:
    try:
        import onnx
        from onnx import external_data_helper
    except ImportError as error:
        raise ImportError("from_onnx needs the package onnx: pip install onnx") from error
    if isinstance(model, onnx.ModelProto):
        return model, "the ONNX model"
    if isinstance(model, (bytes, bytearray, memoryview)):
        return _parsed(bytes(model), "the ONNX model"), "the ONNX model"
    path = Path(model)
    proto = _parsed(path.read_bytes(), str(path))
    folder = path.resolve().parent
    for t in external_data_helper._get_all_tensors(proto):
        if external_data_helper.uses_external_data(t):
            _fetch(t, folder, str(path))
    return proto, str(path)


def _parsed(data: bytes, what: str) -> Any:
    import onnx

    try:
        found = onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf's DecodeError has no base of its own in all versions
        raise OnnxError(f"{what} is no ONNX model: {error}") from error
    if not found.HasField("graph") or not found.opset_import:
        raise OnnxError(f"{what} is no ONNX model: it has no graph, or names no version")
    return found


def _fetch(t: Any, folder: Path, what: str) -> None:
    """Read the data of a tensor that lies in another file of the same folder."""
    about = {entry.key: entry.value for entry in t.external_data}
    place = (folder / about.get("location", "")).resolve()
    if not place.is_relative_to(folder) or not place.is_file():
        raise OnnxError(
            f"{what}: the data of {t.name!r} are to be in {about.get('location', '')!r}, which is "
            f"no file in {folder}"
        )
    numbers = (about.get("offset", "0"), about.get("length", str(place.stat().st_size)))
    if not all(n.isdecimal() and len(n) < 19 for n in numbers):
        raise OnnxError(f"{what}: the data of {t.name!r} have no place: {about}")
    start, length = map(int, numbers)
    if start + (length if "length" in about else 0) > place.stat().st_size:
        raise OnnxError(f"{what}: {place.name} ends before the data of {t.name!r} do")
    with place.open("rb") as file:
        file.seek(start)
        t.raw_data = file.read(length)
    t.data_location = type(t).DEFAULT
    del t.external_data[:]


def _built(proto: Any, own: dict[str, Any], trainable: Any) -> OnnxModel:
    opsets = opset_versions(proto.opset_import)
    _check_versions(opsets)
    functions = {("" if f.domain == "ai.onnx" else f.domain, f.name): f for f in proto.functions}
    _check_operators(proto, own, functions, opsets)
    expanded(functions, proto.graph.node)
    for t in proto.graph.initializer:
        if t.data_type == 8:
            raise UnsupportedOnnx(f"tensor {t.name!r} is of strings; arrays hold numbers")
    values = {t.name: tensor(t) for t in proto.graph.initializer}
    values |= {t.values.name: sparse(t) for t in proto.graph.sparse_initializer}
    fixed = _constant_operands(proto.graph)
    chosen = trainable or (lambda name, x: x.ndim > 0 and name not in fixed)
    params = {
        name: fnp.asarray(x)
        for name, x in values.items()
        if x.dtype not in NARROW and dtypes.is_inexact(x.dtype) and chosen(name, x)
    }
    constants = {name: x for name, x in values.items() if name not in params}
    context = Context(RULES, own, opsets, functions)
    return OnnxModel(params, _Program(proto, context, constants))


def _check_versions(opsets: Mapping[str, int]) -> None:
    import onnx

    for domain, number in opsets.items():
        if not 0 < number < 1 << 31:
            raise OnnxError(
                f"it names version {number} of the operators of {domain or 'ai.onnx'!r}"
            )
    version, newest = opsets.get("", OLDEST), onnx.defs.onnx_opset_version()
    if version > newest:
        raise UnsupportedOnnx(
            f"it is written in version {version} of the operators; the installed onnx "
            f"{onnx.__version__} knows {newest}: upgrade it, or export for an older version"
        )


def _check_operators(
    proto: Any, own: Any, functions: Mapping[Any, Any], opsets: Mapping[str, int]
) -> None:
    """Name the first operator that is not translated."""
    import onnx

    def visit(node: Any, place: str) -> None:
        domain = "" if node.domain == "ai.onnx" else node.domain
        if not domain and opsets.get("", OLDEST) < OLDEST:
            _check_age(node.op_type, opsets[""], place)
        if (domain, node.op_type) in functions or node.op_type in own:
            return
        if not domain:
            _check_node(node, place, opsets)
        if not domain and node.op_type in RULES:
            return
        version = opsets.get(domain, 1)
        if onnx.defs.has(node.op_type, version, domain):
            schema: Any = onnx.defs.get_schema(node.op_type, version, domain)
            if schema.has_function or schema.has_context_dependent_function:
                return
        raise unknown_operator(place, domain, node.op_type)

    operators(proto.graph.node, visit)
    for function in functions.values():
        operators(function.node, visit, f"function {function.name}: ")


def _check_age(op: str, version: int, place: str) -> None:
    """Check that an operator of an old version means what it means in the oldest that is read."""
    import onnx

    ages = [
        onnx.defs.get_schema(op, v, "").since_version if onnx.defs.has(op, v, "") else 0
        for v in (version, OLDEST)
    ]
    if ages[0] != ages[1]:
        raise UnsupportedOnnx(
            f"{place}: it is written in version {version} of the operators, and means something "
            f"else from version {OLDEST} on. Convert the model: "
            "onnx.version_converter.convert_version(model, 13)"
        )


def _check_node(node: Any, place: str, opsets: Mapping[str, int]) -> None:
    """Have onnx's checker compare a node with the definition of its operator."""
    import onnx

    if any(a.HasField("g") or a.graphs for a in node.attribute):
        return  # what these read lies around them
    checks = onnx.checker.C.CheckerContext()
    checks.ir_version = onnx.IR_VERSION
    checks.opset_imports = {"": OLDEST, **opsets}
    try:
        onnx.checker.check_node(node, checks)
    except onnx.checker.ValidationError as error:
        raise OnnxError(f"{place}: {str(error).strip()}") from error
    except (RuntimeError, TypeError, ValueError) as error:
        raise OnnxError(f"{place} is damaged: {error}") from error


# Operands that are no parameters, by operator: they decide shapes, or are running statistics.
_FIXED = {
    "BatchNormalization": (3, 4), "QuantizeLinear": (1,), "DequantizeLinear": (1,),
    "Resize": (1, 2, 3), "Upsample": (1,), "Range": (0, 1, 2), "Dropout": (1, 2),
    "NonMaxSuppression": (3, 4), "MelWeightMatrix": (3, 4),
}  # fmt: skip


def _constant_operands(graph: Any) -> set[str]:
    """Return the values that such operands are computed from."""
    made = {name: node for node in graph.node for name in node.output if name}
    wanted = [
        node.input[k]
        for node in graph.node
        for k in _FIXED.get(node.op_type, ())
        if k < len(node.input)
    ]
    found: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found.add(name)
        node = made.get(name)
        if node is not None and node.op_type not in ("Shape", "Size"):
            wanted += node.input
    return found
