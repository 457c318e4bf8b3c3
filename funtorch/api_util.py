"""Helpers of programs that transform functions, under the names of jax.api_util."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from funtorch import tree
from funtorch.core import ShapedArray
from funtorch.errors import function_name
from funtorch.extend.core import DebugInfo
from funtorch.extend.linear_util import Store, WrappedFun, transformation_with_aux2
from funtorch.transforms.staging import spec_of

__all__ = [
    "argnums_partial",
    "debug_info",
    "donation_vector",
    "flatten_axes",
    "flatten_fun",
    "flatten_fun_nokwargs",
    "rebase_donate_argnums",
    "safe_map",
    "shaped_abstractify",
]


def safe_map(f: Callable[..., Any], *args: Iterable[Any]) -> list[Any]:
    """Return the list of a function's results, of sequences of one length.

    Example:
        >>> safe_map(lambda x, y: x + y, [1, 2], (3, 4))
        [4, 6]
    """
    return [f(*xs) for xs in zip(*args, strict=True)]


@transformation_with_aux2
def flatten_fun(f: Callable[..., Any], store: Store, in_tree: Any, *args: Any) -> list[Any]:
    """Make a function one of flat arguments, of structure ``(args, kwargs)``, and flat results.

    Returns:
        the function, and one without arguments that gives the structure of its results once it
        was called.
    """
    positional, kwargs = tree.unflatten(in_tree, args)
    leaves, out_tree = tree.flatten(f(*positional, **kwargs))
    store.store(out_tree)
    return leaves


@transformation_with_aux2
def flatten_fun_nokwargs(
    f: Callable[..., Any], store: Store, in_tree: Any, *args: Any
) -> list[Any]:
    """Make a function one of flat arguments, of structure ``args``, and flat results.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.extend.linear_util import wrap_init
        >>> leaves, treedef = ft.tree.flatten(({"a": 1, "b": 2},))
        >>> f, out_tree = flatten_fun_nokwargs(wrap_init(lambda d: [d["a"], d["b"], 3]), treedef)
        >>> f.call_wrapped(*leaves), out_tree()
        ([1, 2, 3], PyTreeDef([*, *, *]))
    """
    leaves, out_tree = tree.flatten(f(*tree.unflatten(in_tree, args)))
    store.store(out_tree)
    return leaves


def debug_info(
    traced_for: str,
    fun: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    *,
    static_argnums: Sequence[int] = (),
    static_argnames: Sequence[str] = (),
    result_paths_thunk: Any = None,
    sourceinfo: str | None = None,
    signature: inspect.Signature | None = None,
) -> DebugInfo:
    """Return how tools call a function that is traced, and its arguments.

    Args:
        traced_for: what it is traced for, such as 'jit'.
        fun: the function.
        args, kwargs: its arguments.
        static_argnums, static_argnames: those that are no arrays.
        result_paths_thunk: of no effect.
        sourceinfo: where the function is, if not where its code says.
        signature: of the function, if not its own.
    """
    names = None
    try:
        bound = (signature or inspect.signature(fun)).bind(*args, **kwargs)
        names = tuple([n for n in bound.arguments if n not in static_argnames])
    except (TypeError, ValueError):
        names = None
    code = getattr(fun, "__code__", None)
    where = f" at {code.co_filename}:{code.co_firstlineno}" if code else ""
    return DebugInfo(traced_for, sourceinfo or f"{function_name(fun)}{where}", names)


def shaped_abstractify(x: Any) -> ShapedArray:
    """Return the type of an array, a number, or anything with ``shape`` and ``dtype``."""
    return spec_of(x)


def argnums_partial(
    f: WrappedFun,
    dyn_argnums: int | Sequence[int],
    args: Sequence[Any],
    require_static_args_hashable: bool = True,
) -> tuple[WrappedFun, tuple[Any, ...]]:
    """Fix all arguments of a function but some.

    Args:
        f: the function.
        dyn_argnums: positions of those that are not fixed.
        args: all positional arguments.
        require_static_args_hashable: whether an error names a fixed one that is not hashable.

    Returns:
        the function of the others, and these arguments.
    """
    argnums = (dyn_argnums,) if isinstance(dyn_argnums, int) else tuple(dyn_argnums)
    free = [k % len(args) for k in argnums]
    fixed = {k: x for k, x in enumerate(args) if k not in free}
    if require_static_args_hashable:
        for k, x in fixed.items():
            try:
                hash(x)
            except TypeError:
                raise ValueError(
                    f"static argument {k} of {function_name(f)} is not hashable: it is of type "
                    f"{type(x).__name__}"
                ) from None

    def partial(call: Callable[..., Any], *dynamic: Any, **kwargs: Any) -> Any:
        given = {**fixed, **dict(zip(free, dynamic, strict=True))}
        return call(*[given[k] for k in range(len(args))], **kwargs)

    return f.wrap(partial, (), None), tuple([args[k] for k in free])


def donation_vector(
    donate_argnums: Sequence[int], donate_argnames: Sequence[str], in_tree: Any, kws: bool = True
) -> tuple[bool, ...]:
    """Tell for each leaf of ``(args, kwargs)``, or of ``args`` alone, whether it is donated."""
    children = in_tree.children()
    args, kwargs = (children[0], children[1]) if kws else (in_tree, None)
    flags: list[bool] = []
    for k, part in enumerate(args.children()):
        flags += [k in donate_argnums] * part.num_leaves
    if kwargs is not None:
        for name, part in zip(kwargs.node_data()[1], kwargs.children(), strict=True):
            flags += [name in donate_argnames] * part.num_leaves
    return tuple(flags)


def rebase_donate_argnums(
    donate_argnums: Sequence[int], static_argnums: Sequence[int]
) -> tuple[int, ...]:
    """Return the positions of donated arguments among those that are not static.

    Example:
        >>> rebase_donate_argnums((2, 3), (0,))
        (1, 2)
    """
    static = sorted(static_argnums)
    return tuple([k - sum(s < k for s in static) for k in sorted(set(donate_argnums))])


def flatten_axes(
    name: str, treedef: Any, axis_tree: Any, *, kws: bool = False, tupled_args: bool = False
) -> list[Any]:
    """Return an axis, or None, for each leaf of a structure, from a prefix of it.

    Args:
        name: how errors call the axes.
        treedef: the structure.
        axis_tree: its prefix.
        kws, tupled_args: of no effect: how errors speak of the arguments.

    Example:
        >>> import funtorch as ft
        >>> flatten_axes("in_axes", ft.tree.structure((1, {"a": 2, "b": 3})), (None, 0))
        [None, 0, 0]
    """
    full = tree.unflatten(treedef, [0] * treedef.num_leaves)
    try:
        return tree.broadcast_prefix(axis_tree, full, is_leaf=lambda x: x is None)
    except ValueError as error:
        raise ValueError(f"{name} is no prefix of the structure {treedef}: {error}") from error
