"""A node of an ONNX graph as the rules see it: attributes, the version of its operator, errors.

A value is a NumPy array where it is known while a model is read or traced (constants, shapes and
what is computed from them), an Array where it is not, a list for a sequence, and None for what is
absent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

import funtorch.numpy as fnp
from funtorch.core import ArrayImpl
from funtorch.errors import FunTorchError

__all__ = ["NARROW", "Node", "OnnxError", "Rule", "UnsupportedOnnx", "array", "dtype_of", "known"]

Rule = Callable[..., Any]
"""``rule(node, *values)`` gives the value of a node, or a tuple of them."""


class OnnxError(FunTorchError, ValueError):
    """A file is no ONNX model, or a damaged one; or a node cannot do what it is asked."""


class UnsupportedOnnx(OnnxError, NotImplementedError):
    """A model uses an operator, a type or a form of an operator that is not translated."""


DTYPES: dict[int, Any] = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64,
    9: np.bool_, 10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64, 14: np.complex64,
    15: np.complex128, 16: ml_dtypes.bfloat16,
    17: ml_dtypes.float8_e4m3fn, 18: ml_dtypes.float8_e4m3fnuz, 19: ml_dtypes.float8_e5m2,
    20: ml_dtypes.float8_e5m2fnuz, 21: ml_dtypes.uint4, 22: ml_dtypes.int4,
    23: ml_dtypes.float4_e2m1fn, 25: ml_dtypes.uint2, 26: ml_dtypes.int2,
}  # fmt: skip
"""By ONNX's number of a type."""

NARROW = {
    np.dtype(kind): np.dtype(kept)
    for kept, kinds in {
        np.uint8: (ml_dtypes.uint4, ml_dtypes.uint2),
        np.int8: (ml_dtypes.int4, ml_dtypes.int2),
        np.float32: tuple(DTYPES[k] for k in (17, 18, 19, 20, 23)),
    }.items()
    for kind in kinds
}
"""What arrays of types that we have no arrays of are kept in, with the same values."""


def dtype_of(number: int, where: Any) -> np.dtype:
    """Return the dtype that a number of ONNX's stands for."""
    if number not in DTYPES:
        raise UnsupportedOnnx(
            f"{where}: the type {type_name(number)} is not supported; numbers of 2 to 64 bits are, "
            "but strings, exponents alone (FLOAT8E8M0) and the like are not: export without them"
        )
    return np.dtype(DTYPES[number])


def type_name(number: int) -> str:
    """Return ONNX's name of a type."""
    import onnx

    types = onnx.TensorProto.DataType
    return types.Name(number) if number in types.values() else f"number {number}"


def known(x: Any) -> bool:
    """Tell whether a value has been computed already."""
    return isinstance(x, (np.ndarray, ArrayImpl))


def array(x: Any) -> Any:
    """Return a value as an Array."""
    if isinstance(x, np.ndarray) and x.dtype in NARROW:
        x = x.astype(NARROW[x.dtype])
    return fnp.asarray(x)


@dataclass
class Node:
    """A node and where it stands.

    Attributes:
        op: the operator, such as ``'Conv'``.
        place: what errors call the node.
        opset: the version of the operators around it.
        attributes: by name; graphs are ``GraphProto``.
        outputs: how many results are wanted; optional ones that are not may be missing.
        wanted: whether each result has a name.
        run: ``run(graph, inputs)`` gives the values of a graph inside of this node.
        number: the node's place among those of its graph.
        turns: how many turns of loops have run one by one in this call, in a list.
    """

    op: str
    place: str
    opset: int
    attributes: dict[str, Any]
    wanted: Sequence[bool] = (True,)
    run: Callable[[Any, Sequence[Any]], list[Any]] | None = None
    number: int = 0
    turns: list[int] = field(default_factory=lambda: [0])

    @property
    def outputs(self) -> int:
        return len(self.wanted)

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or what it is where it is not given."""
        return self.attributes.get(name, default)

    def need(self, name: str) -> Any:
        """Return an attribute that must be there."""
        if name not in self.attributes:
            raise self.error(f"it has no attribute {name!r}, which {self.op} needs")
        return self.attributes[name]

    def one_of(self, name: str, default: str, *others: str) -> str:
        """Return a word out of those that are understood."""
        found = self.get(name, default)
        if found not in (default, *others):
            raise self.unsupported(f"its {name} is {found!r}; {(default, *others)} are translated")
        return found

    def numbers(self, x: Any, what: str) -> list[int]:
        """Return a vector of integers that must be known while the model is traced."""
        return [int(n) for n in self.static(x, what).reshape(-1)]

    def number_of(self, x: Any, what: str) -> int:
        """Return an integer that must be known while the model is traced."""
        found = self.numbers(x, what)
        if len(found) != 1:
            raise self.error(f"its {what} has {len(found)} elements; it is one number")
        return found[0]

    def static(self, x: Any, what: str) -> np.ndarray:
        """Return a value that must be known while the model is traced."""
        if not known(x):
            raise self.unsupported(
                f"its operand {what} depends on the values of traced inputs, and programs have "
                "shapes that do not. Give an input of integers as a NumPy array that is not "
                "traced, make it an initializer, or call the model outside of jit, grad and vmap"
            )
        return np.asarray(x)

    def axes(self, given: Any, name: str = "axes") -> list[int] | None:
        """Return what is an attribute in old versions and an operand in new ones."""
        if given is not None:
            return self.numbers(given, name)
        found = self.get(name)
        return None if found is None else [int(n) for n in found]

    def axis(self, rank: int, default: int, name: str = "axis") -> int:
        """Return the attribute axis, counted from the front."""
        return self.place_of(int(self.get(name, default)), rank)

    def place_of(self, axis: int, rank: int) -> int:
        """Return an axis counted from the front."""
        if not -rank <= axis < max(rank, 1):
            raise self.error(f"axis {axis} is none of an array with {rank} axes")
        return axis % max(rank, 1)

    def error(self, what: str) -> OnnxError:
        return OnnxError(f"{self.place}: {what}")

    def unsupported(self, what: str) -> UnsupportedOnnx:
        return UnsupportedOnnx(f"{self.place}: {what}")
