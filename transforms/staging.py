"""Look at programs without running them: `make_jaxpr`, `eval_shape`, `ShapeDtypeStruct`."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch import dtypes
from funtorch import tree as trees
from funtorch.config import config
from funtorch.core import ShapedArray, _state, aval_of
from funtorch.dims import Dim
from funtorch.jaxpr import Jaxpr, stage
from funtorch.origins import call_named
from funtorch.tracebacks import boundary

from .arguments import as_arrays, check_callable, function_name
from .explore import Known, explore
from .references import Bridge, Crossing, bridged, taken_out, with_local_refs

__all__ = ["ShapeDtypeStruct", "eval_shape", "flat_function", "make_jaxpr", "spec_of", "stage_tree"]


class ShapeDtypeStruct:
    """A shape and a dtype: stands for an array where only those matter.

    Example:
        >>> import funtorch as ft
        >>> ft.eval_shape(ft.numpy.sin, ft.ShapeDtypeStruct((2, 3), "float32"))
        ShapeDtypeStruct(shape=(2, 3), dtype=float32)
    """

    __slots__ = ("dtype", "shape", "sharding", "weak_type")

    def __init__(
        self, shape: Sequence[int], dtype: Any, *, sharding: Any = None, weak_type: bool = False
    ) -> None:
        if dtype is None:
            raise ValueError("ShapeDtypeStruct needs a dtype, got None")
        self.shape = tuple([n if isinstance(n, Dim) else operator.index(n) for n in shape])
        self.dtype = dtypes.canonical(dtype)
        self.sharding = sharding
        self.weak_type = weak_type

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def update(self, **changes: Any) -> ShapeDtypeStruct:
        """Return a copy with some of its fields (shape, dtype, ...) replaced."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return ShapeDtypeStruct(**{**fields, **changes})

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object: a ShapeDtypeStruct of shape ()")
        return self.shape[0]

    def _key(self) -> tuple[Any, ...]:
        return self.shape, self.dtype, self.weak_type, self.sharding

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShapeDtypeStruct) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        parts = [f"shape={self.shape}", f"dtype={self.dtype.name}"]
        if self.sharding is not None:
            parts.append(f"sharding={self.sharding}")
        if self.weak_type:
            parts.append("weak_type=True")
        return f"ShapeDtypeStruct({', '.join(parts)})"


def spec_of(x: Any) -> ShapedArray:
    """Return the aval of an array, a number, or anything with ``shape`` and ``dtype``."""
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        dtype = dtypes.canonicalize_dtype(x.dtype, allow_extended_dtype=True)
        return ShapedArray(tuple(x.shape), dtype, getattr(x, "weak_type", False))
    return aval_of(x)


def stage_tree(
    fun: Callable[..., Any],
    treedef: Any,
    avals: Sequence[ShapedArray],
    operands: Sequence[Any] | None = None,
) -> tuple[Jaxpr, Any]:
    """Stage a function of ``(args, kwargs)`` of structure ``treedef``.

    Args:
        fun: the function.
        treedef: the structure of its arguments.
        avals: the types of their leaves.
        operands: the leaves, where the program is for these alone: Python decisions go by them.

    Returns:
        the program, and the structure of its results.
    """
    flat, name = flat_function(fun, treedef), function_name(fun)
    if operands is None and config.python_control_flow:
        return explore(flat, avals, name)
    store: list[Any] = []

    def outputs(*flat_args: Any) -> Sequence[Any]:
        outs, out_tree = flat(*flat_args)
        store.append(out_tree)
        return outs

    trace = None if operands is None else Known(operands, name)
    return stage(outputs, avals, name, trace), store[0]


def _stage_calls(fun: Callable[..., Any], arguments: tuple[Any, Any]) -> tuple[Jaxpr, Any]:
    """Stage a function for arguments of which some may be references."""
    given, refs = taken_out(arguments, fun)
    if refs:
        pure = with_local_refs(fun, list(refs))
        fun = functools.wraps(fun)(lambda *args, **kwargs: pure(*args, **kwargs)[1])
    leaves, treedef = tree.flatten(given)
    avals = [spec_of(x) for x in leaves]

    def with_refs(bridge: Bridge) -> tuple[Jaxpr, Any]:
        def whole(*args: Any, **kwargs: Any) -> Any:
            return bridge.run(bridge.state(), fun, *args, **kwargs)[1]

        return stage_tree(functools.wraps(fun)(whole), treedef, avals)

    try:
        return stage_tree(fun, treedef, avals)
    except Crossing as crossing:
        return bridged(with_refs, crossing)


def flat_function(
    fun: Callable[..., Any], treedef: Any
) -> Callable[..., tuple[Sequence[Any], Any]]:
    """Return a function of ``(args, kwargs)`` as one of flat arrays that returns a list of arrays
    and their structure."""

    def flat(*flat_args: Any) -> tuple[Sequence[Any], Any]:
        args, kwargs = tree.unflatten(treedef, flat_args)
        result = call_named(fun, args, kwargs)
        outs, out_tree = tree.flatten(result)
        try:
            return as_arrays(outs, "output", fun), out_tree
        except TypeError as error:
            raise _no_array(fun, result) or error from None

    return flat


def _no_array(fun: Callable[..., Any], result: Any) -> TypeError | None:
    """Return the error that names the first part of a result that is no array, if there is one."""
    for path, leaf in tree.leaves_with_path(result):
        try:
            as_arrays([leaf], "output", fun)
        except TypeError:
            return TypeError(
                f"{function_name(fun)} returned {leaf!r:.60}, of type {type(leaf).__name__}, at "
                f"output{tree.keystr(path)}; a function that is traced returns arrays, numbers and "
                "pytrees of them. Return what is no array from outside of it"
            )
    return None


def make_jaxpr(
    fun: Callable[..., Any],
    static_argnums: int | Sequence[int] = (),
    axis_env: Sequence[tuple[Hashable, int]] | None = None,
    return_shape: bool = False,
) -> Callable[..., Any]:
    """Make a function that returns the jaxpr of ``fun`` for given arguments.

    Args:
        fun: a function of arrays or pytrees of arrays.
        static_argnums: positions of arguments that stay Python values.
        axis_env: names and sizes of mapped axes that collectives in the function work across.
        return_shape: whether to return the output's shapes as well.

    Returns:
        A function of the same arguments (arrays, numbers or `ShapeDtypeStruct`) that returns the
        `Jaxpr`.

    Example:
        >>> import funtorch as ft
        >>> print(ft.make_jaxpr(lambda x: ft.numpy.sin(x) * 2.0)(1.0))
        { lambda  ; a:f32[]. let
            b:f32[] = sin a
            c:f32[] = mul b 2.0
          in (c,) }
    """
    check_callable(fun, "make_jaxpr")
    static = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)

    @boundary
    @functools.wraps(fun)
    def jaxpr_maker(*args: Any, **kwargs: Any) -> Any:
        fixed = {k % len(args) for k in static}
        dynamic = [a for k, a in enumerate(args) if k not in fixed]

        def on_dynamic(*some: Any, **kw: Any) -> Any:
            rest = iter(some)
            return fun(*[args[k] if k in fixed else next(rest) for k in range(len(args))], **kw)

        on_dynamic.__wrapped__ = fun  # type: ignore[attr-defined]
        before = len(_state.axes)
        _state.axes.extend(axis_env or ())
        try:
            jaxpr, out_tree = _stage_calls(on_dynamic, (tuple(dynamic), kwargs))
        finally:
            del _state.axes[before:]
        if not return_shape:
            return jaxpr
        return jaxpr, tree.unflatten(
            out_tree, [ShapeDtypeStruct(a.shape, a.dtype) for a in jaxpr.out_avals]
        )

    return jaxpr_maker


def eval_shape(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return the shapes and dtypes of ``fun(*args, **kwargs)`` without computing it.

    Args:
        fun: a function of arrays or pytrees of arrays.
        *args, **kwargs: arrays, numbers, or `ShapeDtypeStruct`.

    Returns:
        The output's pytree with a `ShapeDtypeStruct` at each leaf.

    Example:
        >>> import funtorch as ft
        >>> ft.eval_shape(lambda a, b: a @ b, ft.numpy.zeros((2, 3)), ft.numpy.zeros((3, 5)))
        ShapeDtypeStruct(shape=(2, 5), dtype=float32)
    """
    check_callable(fun, "eval_shape")
    given: list[dict[int, ShapeDtypeStruct]] = []

    @functools.wraps(fun)
    def without_types(*inner: Any, **kw: Any) -> Any:
        """Return numbers in place of results that are types."""
        outs, out_tree = trees.flatten(fun(*inner, **kw))
        given.append({k: x for k, x in enumerate(outs) if isinstance(x, ShapeDtypeStruct)})
        return trees.unflatten(out_tree, [0 if k in given[-1] else x for k, x in enumerate(outs)])

    jaxpr, out_tree = _stage_calls(without_types, (args, kwargs))
    shapes = [ShapeDtypeStruct(a.shape, a.dtype, weak_type=a.weak_type) for a in jaxpr.out_avals]
    result = tree.unflatten(out_tree, shapes)
    if not given[-1]:
        return result
    found, out_tree = trees.flatten(result)
    return trees.unflatten(out_tree, [given[-1].get(k, x) for k, x in enumerate(found)])
