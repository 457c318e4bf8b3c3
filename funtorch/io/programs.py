"""Programs as data in JSON: equations by the names of their primitives, sizes that may be symbolic.

What is read is checked, equation by equation, by the primitives' type rules; nothing of it is run
and nothing is imported for it.

A program is an object of ``inputs`` (types; the first of them are the constants), ``equations``
(``[primitive, parameters, operands, types of the results]``) and ``outputs``. An operand is the
number of a value, in the order in which values are made, or a scalar constant. A size is a number
or a polynomial in *atoms*, which are symbols or what is computed from two polynomials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl, ShapedArray, primitives
from funtorch.dims import COMPUTED, Dim, Scope
from funtorch.errors import JaxprTypeError
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var, check_jaxpr, sub_jaxprs

__all__ = ["NotPortable", "SizeLit", "decode_aval", "decode_jaxpr", "decode_size", "encode_aval"]
__all__ += ["encode_jaxpr", "encode_size", "encode_value"]

Json = Any
Sizes = dict[str, int]

_MOST_BYTES = 1 << 47  # of an array: what a process can address


class NotPortable(TypeError):
    """A parameter is a Python function or the like, which is no data.

    ``place``: the equation that holds it, once that is known.
    """

    place = ""


# ------------------------------------------------------------------------------------------ sizes
def encode_size(size: int) -> Json:
    """Describe a size: a number, or a list of products with their factors."""
    if not isinstance(size, Dim):
        return int(size)
    return _encode_terms(size.terms, size.scope)


def _encode_terms(terms: Any, scope: Scope) -> Json:
    return [[factor, [_encode_atom(a, scope) for a in atoms]] for atoms, factor in terms]


def _encode_atom(number: int, scope: Scope) -> Json:
    kind, *args = scope.atoms[number]
    if kind == "symbol":
        return args[0]
    if kind not in COMPUTED:
        raise NotPortable(f"a size is the {kind} of a function")
    return [kind, *(_encode_terms(terms, scope) for terms in args)]


def decode_size(node: Json, sizes: Sizes) -> int:
    """Return the number that a description gives for sizes of the symbols.

    Raises:
        ValueError: it is no size.
    """
    if type(node) is int:
        return node
    total = 0
    for factor, atoms in node:
        for atom in atoms:
            factor *= sizes[atom] if type(atom) is str else _decode_atom(atom, sizes)
        total += factor
    return total


def _decode_atom(node: Json, sizes: Sizes) -> int:
    kind, a, b = node
    return COMPUTED[kind](decode_size(a, sizes), decode_size(b, sizes))


# ------------------------------------------------------------------------------------------ types
def encode_aval(aval: ShapedArray) -> Json:
    """Describe a type: dtype, shape, and whether it is weak."""
    return [aval.dtype.name, [encode_size(n) for n in aval.shape], aval.weak_type]


def decode_aval(node: Json, sizes: Sizes) -> ShapedArray:
    """Return the type that a description describes, for sizes of the symbols."""
    name, shape, weak = node
    found = tuple(decode_size(n, sizes) for n in shape)
    dtype = _dtype(name)
    count = math.prod(n for n in found if not isinstance(n, Dim))
    if any(n < 0 for n in found) or count * dtype.itemsize > _MOST_BYTES:
        raise ValueError(f"an array of shape {found}")
    return ShapedArray(found, dtype, bool(weak))


def _dtype(name: str) -> np.dtype:
    if type(name) is not str:
        raise ValueError(f"{name!r} is no dtype")
    return dtypes.canonical(name)


# ------------------------------------------------------------------------------------------ values
def encode_value(value: Any) -> Json:
    """Describe a parameter.

    Raises:
        NotPortable: it is of a type that is no data, or holds such a thing.
    """
    kind = type(value)
    if isinstance(value, Dim):
        return ["size", encode_size(value)]
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return ["float", value.hex()]
    if kind in (tuple, list):
        return [kind.__name__, [encode_value(v) for v in value]]
    if kind is frozenset:
        return ["frozenset", [encode_value(v) for v in sorted(value)]]
    if kind is dict:
        return ["dict", [[encode_value(k), encode_value(v)] for k, v in value.items()]]
    if isinstance(value, np.dtype):
        return ["dtype", value.name]
    if kind is Jaxpr:
        return ["program", encode_jaxpr(value)]
    if isinstance(value, (np.generic, np.ndarray)):
        return ["array", *_encode_array(np.asarray(value))]
    if kind is ShapedArray:
        return ["type", encode_aval(value)]
    raise NotPortable(f"{value!r:.60} of type {kind.__name__}")


def _decode_value(node: Json, sizes: Sizes) -> Any:
    if type(node) is not list:
        if node is None or type(node) in (bool, int, str):
            return node
        raise ValueError(f"{node!r:.60} is no parameter")
    kind, *rest = node
    return _READERS[kind](sizes, *rest)


def _decode_values(sizes: Sizes, nodes: Json) -> list[Any]:
    return [_decode_value(node, sizes) for node in nodes]


_READERS: dict[str, Callable[..., Any]] = {
    "size": lambda sizes, node: decode_size(node, sizes),
    "float": lambda sizes, text: float.fromhex(text),
    "tuple": lambda sizes, nodes: tuple(_decode_values(sizes, nodes)),
    "list": _decode_values,
    "frozenset": lambda sizes, nodes: frozenset(_decode_values(sizes, nodes)),
    "dict": lambda sizes, pairs: dict(_decode_values(sizes, pair) for pair in pairs),
    "dtype": lambda sizes, name: _dtype(name),
    "program": lambda sizes, node: _decode_program(node, sizes),
    "array": lambda sizes, *node: _decode_array(*node),
    "type": lambda sizes, node: decode_aval(node, sizes),
}


def _encode_array(x: np.ndarray) -> list[Json]:
    return [x.dtype.name, list(x.shape), x.tobytes().hex()]


def _decode_array(name: str, shape: list[int], text: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(text), _dtype(name)).reshape(shape)


# --------------------------------------------------------------------------------------- programs
def encode_jaxpr(jaxpr: Jaxpr) -> Json:
    """Describe a program whose constants are inputs (`Jaxpr.hoisted`).

    Raises:
        NotPortable: a parameter is no data.
    """
    numbers: dict[Var, int] = {}

    def number(found: Sequence[Var]) -> None:
        for v in found:
            numbers[v] = len(numbers)

    def atom(v: Var | Lit) -> Json:
        return _encode_lit(v) if isinstance(v, Lit) else numbers[v]

    number(jaxpr.invars)
    equations = []
    for eqn in jaxpr.eqns:
        try:
            params = {k: encode_value(v) for k, v in eqn.params.items()}
        except NotPortable as error:
            error.place = error.place or f"{eqn.prim.name} at {eqn.source or 'an unknown line'}"
            raise
        operands = [atom(v) for v in eqn.invars]
        number(eqn.outvars)
        equations.append(
            [eqn.prim.name, params, operands, [encode_aval(v.aval) for v in eqn.outvars]]
        )
    return {
        "inputs": [encode_aval(v.aval) for v in jaxpr.invars],
        "equations": equations,
        "outputs": [atom(v) for v in jaxpr.outvars],
    }


def decode_jaxpr(node: Json, sizes: Sizes) -> Jaxpr:
    """Return the program that a description describes, for sizes of its symbols, checked.

    Raises:
        ValueError: it describes no program.
    """
    try:
        found = _decode_program(node, sizes)
        check_jaxpr(found)
        _check_nested(found)
    except JaxprTypeError as error:
        raise ValueError(f"no program: {error}") from error
    except Exception as error:  # what type rules do with what no program of ours holds
        raise ValueError(f"no program: {type(error).__name__}: {error}") from error
    return found


_NESTED = ("scan", "while", "cond", "rewound", "rewind", "swayed")


def _check_nested(jaxpr: Jaxpr) -> None:
    """Check that programs are inside of loops and branches alone, whose type rules look at them."""
    for eqn in jaxpr.eqns:
        inner = sub_jaxprs(eqn.params)
        if inner and eqn.prim.name not in _NESTED:
            raise ValueError(f"{eqn.prim.name} has a program inside, which no exported one has")
        for sub in inner:
            _check_nested(sub)


class SizeLit(Lit):
    """A constant that is a size, or one over a size."""

    __slots__ = ("inverse", "size")

    def __init__(self, val: ArrayImpl, size: int, inverse: bool) -> None:
        super().__init__(val)
        self.size, self.inverse = size, inverse


def _encode_lit(v: Lit) -> Json:
    if isinstance(v, SizeLit):
        size = encode_size(v.size)
        return ["inverse" if v.inverse else "size", size, v.aval.dtype.name, v.aval.weak_type]
    return ["number", *_encode_array(np.asarray(v.val._data)), v.aval.weak_type]


def _decode_lit(node: Json, sizes: Sizes) -> Lit:
    kind, *rest, weak = node
    if kind == "number":
        data = _decode_array(*rest)
    else:
        size = decode_size(rest[0], sizes)
        if isinstance(size, Dim):
            hint = ArrayImpl(np.zeros((), _dtype(rest[1])), bool(weak))
            return SizeLit(hint, size, kind == "inverse")
        data = np.asarray({"size": size, "inverse": 1 / size}[kind], _dtype(rest[1]))
    if data.shape:
        raise ValueError("a constant in an equation is no scalar")
    return Lit(ArrayImpl(data, bool(weak)))


def _decode_program(node: Json, sizes: Sizes) -> Jaxpr:
    values = [Var(decode_aval(a, sizes)) for a in node["inputs"]]
    invars = list(values)

    def atom(found: Json) -> Var | Lit:
        if type(found) is int:
            if found < 0:
                raise IndexError(found)
            return values[found]
        return _decode_lit(found, sizes)

    eqns = []
    for name, params, operands, types in node["equations"]:
        if name not in primitives:
            raise ValueError(f"this funtorch has no primitive {name!r:.40}")
        outs = [Var(decode_aval(a, sizes)) for a in types]
        given = {str(k): _decode_value(v, sizes) for k, v in params.items()}
        eqns.append(Eqn(primitives[name], [atom(a) for a in operands], given, outs))
        values += outs
    return Jaxpr(invars, eqns, [atom(a) for a in node["outputs"]])
