"""How arrays in programs are divided over a mesh, as the user asks: `with_sharding_constraint`.

Among processes it is what each of them gets. In one process arrays are whole, and know it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from funtorch import arraytree as tree
from funtorch.core import _state
from funtorch.hardware import Device
from funtorch.placement import known_at
from funtorch.sharding import NamedSharding, PartitionSpec, Sharding, check_spec, named

from .arguments import as_arrays
from .shard_map import shard_map

__all__ = ["Shardings", "auto_axes", "explicit_axes", "reshard", "with_sharding_constraint"]


def _is_place(x: Any) -> bool:
    return x is None or isinstance(x, (Device, Sharding, PartitionSpec))


def with_sharding_constraint(x: Any, shardings: Any) -> Any:
    """Return the same values, divided over a mesh as given.

    Args:
        x: pytree of arrays.
        shardings: how each is divided: `NamedSharding`, or `PartitionSpec` on the current mesh, or
            None for as it is; or a pytree prefix of them.

    Raises:
        ValueError: an array cannot be divided so, or there is no current mesh.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.sharding import NamedSharding, P
        >>> with ft.config.override(num_cpu_devices=2):
        ...     rows = NamedSharding(ft.make_mesh((2,), ("i",)), P("i"))
        ...     ft.lax.with_sharding_constraint(ft.numpy.ones(4), rows).sharding.spec
        PartitionSpec('i')
    """
    return _constrained("with_sharding_constraint", x, shardings)


def reshard(xs: Any, out_shardings: Any) -> Any:
    """Return the same values, divided over a mesh as given; as `with_sharding_constraint`.

    Args:
        xs: pytree of arrays.
        out_shardings: how each is divided, or a pytree prefix.
    """
    return _constrained("reshard", xs, out_shardings)


def auto_axes(
    f: Callable[..., Any] | None = None, /, *, axes: Any = None, out_sharding: Any = None
) -> Any:
    """Return a function whose results are divided as given; arguments may be divided in any way.

    Args:
        f: the function; without it a decorator is returned.
        axes: for compatibility: all axes of meshes are JAX's Auto.
        out_sharding: how results are divided, or a pytree prefix; calls may give another one by
            ``out_sharding=``. None: as they are.
    """
    if f is None:
        return functools.partial(auto_axes, axes=axes, out_sharding=out_sharding)
    usual = out_sharding

    @functools.wraps(f)
    def divided(*args: Any, out_sharding: Any = None, **kwargs: Any) -> Any:
        wanted = usual if out_sharding is None else out_sharding
        outs = f(*args, **kwargs)
        return outs if wanted is None else _constrained("auto_axes", outs, wanted)

    return divided


def explicit_axes(
    f: Callable[..., Any] | None = None, /, *, axes: Any = None, in_sharding: Any = None
) -> Any:
    """Return a function whose arguments are divided as given.

    Args:
        f: the function; without it a decorator is returned.
        axes: for compatibility.
        in_sharding: how arguments are divided: a pytree prefix of the tuple of arguments; calls may
            give another one by ``in_sharding=``. None: as they are.
    """
    if f is None:
        return functools.partial(explicit_axes, axes=axes, in_sharding=in_sharding)
    usual = in_sharding

    @functools.wraps(f)
    def divided(*args: Any, in_sharding: Any = None, **kwargs: Any) -> Any:
        wanted = usual if in_sharding is None else in_sharding
        moved = args if wanted is None else _constrained("explicit_axes", args, wanted)
        return f(*moved, **kwargs)

    return divided


def _constrained(what: str, x: Any, shardings: Any) -> Any:
    places = tree.broadcast_prefix(shardings, x, f"{what}: shardings", is_leaf=_is_place)
    leaves, treedef = tree.flatten(x)
    arrays = as_arrays(leaves, "x", None)
    return treedef.unflatten([_one(what, a, p) for a, p in zip(arrays, places, strict=True)])


def _one(what: str, x: Any, place: Any) -> Any:
    place = named(what, place)
    if not isinstance(place, NamedSharding):
        return x
    mesh, spec = place.mesh, place.spec
    check_spec(what, mesh, spec, x.shape)
    mapped = {name for name, _ in _state.axes}
    if not mesh.is_multi_process or mapped.intersection(mesh.axis_names):
        return known_at(x, place)
    spec = PartitionSpec(*[None if p is PartitionSpec.UNCONSTRAINED else p for p in spec])
    return shard_map(lambda v: v, mesh=mesh, in_specs=spec, out_specs=spec)(x)


class Shardings:
    """What ``jit`` was told about how arguments and results are divided.

    Args:
        name: of the function, for errors.
        ins: a sharding, or a pytree prefix of the tuple of arguments that are not static.
        outs: a sharding, or a pytree prefix of the results.
        static: the positions of static arguments.
    """

    def __init__(self, name: str, ins: Any, outs: Any, static: tuple[int, ...]) -> None:
        self.name, self.ins, self.outs, self.static = name, ins, outs, static

    def arguments(self, args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
        """Return arguments, divided.

        Raises:
            ValueError: one is given by keyword, or cannot be divided so.
        """
        if self.ins is None:
            return args
        if kwargs:
            raise ValueError(
                f"jit of {self.name}: in_shardings are those of arguments by position, and "
                f"{', '.join(kwargs)} came by keyword: pass all of them by position"
            )
        fixed = {n % len(args) for n in self.static if -len(args) <= n < len(args)}
        given = tuple(a for k, a in enumerate(args) if k not in fixed)
        ins = tuple(self.ins) if type(self.ins) is list else self.ins
        moved = iter(_constrained(f"jit of {self.name}: in_shardings", given, ins))
        return tuple(a if k in fixed else next(moved) for k, a in enumerate(args))

    def results(self, outs: Any) -> Any:
        """Return results, divided."""
        if self.outs is None:
            return outs
        return _constrained(f"jit of {self.name}: out_shardings", outs, self.outs)

    def around(self, fun: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose arguments and results are divided so."""

        def divided(*args: Any, **kwargs: Any) -> Any:
            return self.results(fun(*self.arguments(args, kwargs), **kwargs))

        return divided
