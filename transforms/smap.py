"""`smap`: `shard_map` over one axis of a mesh, named by the axes of arrays instead of specs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any

from funtorch import arraytree as tree
from funtorch.numpy.promotion import asarray
from funtorch.sharding import PartitionSpec

from .arguments import check_callable, function_name
from .shard_map import shard_map

__all__ = ["smap"]


def smap(
    f: Callable[..., Any] | None = None,
    /,
    *,
    in_axes: Any = None,
    out_axes: Any,
    axis_name: Hashable,
) -> Any:
    """Run a function on the parts of arrays along one axis of the current mesh.

    Args:
        f: a function of pytrees of arrays; without it a decorator is returned.
        in_axes: which axis of arguments is divided: a number, None for those that are whole, or a
            pytree prefix of the tuple of arguments.
        out_axes: along which axis results are put together, or a pytree prefix; None where they
            are the same.
        axis_name: the axis of the mesh, for collectives.

    Returns:
        A function of whole arrays.

    Raises:
        ValueError: there is no current mesh, an axis is out of range, or it cannot be divided.

    Example:
        >>> import funtorch as ft
        >>> with ft.config.override(num_cpu_devices=2), ft.make_mesh((2,), ("i",)):
        ...     ft.smap(lambda x: x - ft.lax.pmean(x, "i"), in_axes=0, out_axes=0, axis_name="i")(
        ...         ft.numpy.array([1.0, 3.0])
        ...     )
        Array([-1.,  1.], dtype=float32)
    """
    if f is None:
        return functools.partial(smap, in_axes=in_axes, out_axes=out_axes, axis_name=axis_name)
    check_callable(f, "smap")
    what = f"smap of {function_name(f)}"

    def spec(place: str, axis: int | None, ndim: int) -> PartitionSpec:
        if axis is None:
            return PartitionSpec()
        if not -ndim <= axis < ndim:
            raise ValueError(f"{what}: {place} has {axis} for an array of {ndim} axes")
        return PartitionSpec(*[None] * (axis % ndim), axis_name)

    @functools.wraps(f)
    def mapped(*args: Any) -> Any:
        leaves, treedef = tree.flatten(tuple(args))
        axes = in_axes if isinstance(in_axes, int | None) else tuple(in_axes)
        places = tree.broadcast_prefix(axes, args, f"{what}: in_axes", is_leaf=_is_none)
        arrays = [asarray(x) for x in leaves]
        ins = [spec("in_axes", k, x.ndim) for k, x in zip(places, arrays, strict=True)]
        leaves, treedef_out = tree.flatten(out_axes, is_leaf=_is_none)
        negative = [k for k in leaves if k is not None and k < 0]
        if negative:
            raise ValueError(f"{what}: out_axes has {negative[0]}: count axes from the front, 0")
        outs = treedef_out.unflatten([spec("out_axes", k, 1 + (k or 0)) for k in leaves])
        run = shard_map(f, in_specs=treedef.unflatten(ins), out_specs=outs, axis_names={axis_name})
        return run(*treedef.unflatten(arrays))

    return mapped


def _is_none(x: Any) -> bool:
    return x is None
