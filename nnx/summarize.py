"""What a model is made of: its layers in the order of their calls, shapes, parameters, operations.

The model runs on shapes only, and each call of a module writes a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import funtorch as ft
import funtorch.numpy as fnp

from .module import Module, map_modules, named_leaves, param_count, title
from .watch import called, unwatched, watched

__all__ = ["Row", "Summary", "summary"]


class Row(NamedTuple):
    """One module in a summary.

    Attributes:
        path: its dotted path in the model.
        layer: its class and settings.
        inputs: the shapes of the arrays it was called with; None if it was not called.
        outputs: those of what it returned.
        parameters: how many numbers its parameters have, those of modules in it included.
        flops: operations on numbers in one call.
    """

    path: str
    layer: str
    inputs: tuple[tuple[int, ...], ...] | None
    outputs: tuple[tuple[int, ...], ...] | None
    parameters: int
    flops: float | None


class Summary(NamedTuple):
    """A table of the modules of a model; print it.

    Attributes:
        rows: the modules in the order of their first calls, the model itself first.
        buffers: how many numbers the buffers have.
        size: bytes of all arrays.
    """

    rows: tuple[Row, ...]
    buffers: int
    size: int

    def __str__(self) -> str:
        head = ("layer", "class", "input", "output", "parameters", "flops")
        cells = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[k]) for line in cells) for k in range(len(head))]
        lines = [
            "  ".join(
                text.rjust(width) if k >= 4 else text.ljust(width)
                for k, (text, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        rule = "-" * max(map(len, lines))
        total = self.rows[0]
        lines = [lines[0], rule, *lines[1:], rule]
        lines.append(
            f"{total.parameters:,} parameters, {self.buffers:,} numbers in buffers, "
            f"{_amount(self.size)}B; {_amount(total.flops)} flops"
        )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


def _cells(row: Row) -> tuple[str, ...]:
    depth = row.path.count(".") + 1 if row.path else 0
    name = row.layer.partition("(")[0]
    return (
        "  " * depth + (row.path.rpartition(".")[2] or "model"),
        name,
        _shapes(row.inputs),
        _shapes(row.outputs),
        f"{row.parameters:,}" if row.parameters else "",
        "" if row.flops is None else _amount(row.flops),
    )


def _shapes(shapes: tuple[tuple[int, ...], ...] | None) -> str:
    if shapes is None:
        return "not called"
    return " ".join(f"[{','.join(map(str, shape))}]" for shape in shapes)


def _amount(number: float | None) -> str:
    if number is None:
        return "unknown"
    for unit in ("", "k", "M", "G"):
        if number < 1000:
            return f"{number:.3g}{unit}" if unit else f"{number:.0f}"
        number /= 1000
    return f"{number:.3g}T"


# ------------------------------------------------------------------------------------- watching
class _Notes:
    """Rows by path, in the order of first calls."""

    def __init__(self) -> None:
        self.rows: dict[str, Row | None] = {}

    def call(self, module: Any, path: str, original: type, args: Any, kwargs: Any) -> Any:
        """Do a module's call, and write a row of the first one."""
        known = path in self.rows
        self.rows.setdefault(path, None)
        result = original.__call__(module, *args, **kwargs)  # type: ignore[operator]
        if not known:
            plain = unwatched(module)
            self.rows[path] = Row(
                path,
                title(plain),
                _array_shapes((args, kwargs)),
                _array_shapes(result),
                param_count(plain),
                _flops(plain, args, kwargs),
            )
        return result


def _array_shapes(tree: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(x.shape for x in ft.tree.leaves(tree) if hasattr(x, "shape"))


def _flops(function: Callable[..., Any], args: Any, kwargs: Any) -> float:
    """Count the operations of a call, from the types of what it takes."""
    leaves, treedef = ft.tree.flatten((function, args, kwargs))
    arrays = [hasattr(x, "shape") for x in leaves]

    def call(given: list[Any]) -> Any:
        left = iter(given)
        whole = [next(left) if a else x for a, x in zip(arrays, leaves, strict=True)]
        f, these, named = ft.tree.unflatten(treedef, whole)
        return f(*these, **named)

    types = [
        ft.ShapeDtypeStruct(x.shape, x.dtype) for a, x in zip(arrays, leaves, strict=True) if a
    ]
    return ft.jit(call).lower(types).cost_analysis()["flops"]


def summary(model: Any, *args: Any, method: str | Callable[..., Any] | None = None) -> Summary:
    """Make a table of a model's layers: shapes, parameters and operations of a call in evaluation.

    Nothing is computed: shapes are enough, of the model (as `funtorch.eval_shape` gives it) too.

    Args:
        model: a module, or any pytree of modules.
        *args: what it is called with: arrays, or `funtorch.ShapeDtypeStruct` for them.
        method: what to call instead of the model: the name of a method, or a function whose first
            argument is the model.

    Returns:
        The table. Print it, or read its ``rows``. A layer that is called more than once has one
        row, of its first call; the model's row has the operations of all of them.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> k1, k2 = random.split(random.key(0))
        >>> model = nnx.Sequential(nnx.Linear(4, 8, key=k1), nnx.ReLU(), nnx.Linear(8, 2, key=k2))
        >>> nnx.summary(model, ft.ShapeDtypeStruct((5, 4), fnp.float32))
        layer  class       input  output  parameters  flops
        ---------------------------------------------------
        model  Sequential  [5,4]  [5,2]           58    570
          0    Linear      [5,4]  [5,8]           40    360
          1    ReLU        [5,8]  [5,8]                  40
          2    Linear      [5,8]  [5,2]           18    170
        ---------------------------------------------------
        58 parameters, 0 numbers in buffers, 232B; 570 flops
    """
    notes = _Notes()

    def call(model: Any, *args: Any) -> Any:
        return called(model, method, *args)

    types = ft.tree.map(_type_of, model)
    result = ft.eval_shape(lambda m, *xs: call(watched(m, notes), *xs), types, *args)
    whole = Row(
        "", title(model) if isinstance(model, Module) else type(model).__name__,
        _array_shapes(args), _array_shapes(result), param_count(model),
        _flops(call, (types, *args), {}),
    )  # fmt: skip
    rows = {"": whole, **{path: row for path, row in notes.rows.items() if path and row}}
    map_modules(lambda path, m: rows.setdefault(path, _not_called(path, m)), model, short=True)
    arrays = [leaf for leaf in named_leaves(model) if hasattr(leaf.value, "shape")]
    return Summary(
        tuple(row for row in rows.values() if row is not None),
        sum(leaf.value.size for leaf in arrays if leaf.buffer),
        sum(leaf.value.size * fnp.dtype(leaf.value.dtype).itemsize for leaf in arrays),
    )


def _type_of(x: Any) -> Any:
    return ft.ShapeDtypeStruct(x.shape, x.dtype) if hasattr(x, "shape") else x


def _not_called(path: str, module: Module) -> Row | None:
    count = param_count(module)
    return Row(path, title(module), None, None, count, None) if count else None
