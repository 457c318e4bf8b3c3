"""Programs of one process of many: axes of a mesh become groups of processes.

`bound` puts a `Ranks` in the place of each name of an axis. Sums of narrow numbers are made in 32
bits, and maxima of floats are those of integers of the same order, in which a nan is the largest
(for minima, the smallest): MPI says nothing of nans.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np

from funtorch.core import Primitive, _state
from funtorch.hardware import cpus, processes
from funtorch.jaxpr import Eqn, Jaxpr, Lit, stage, sub_jaxprs
from funtorch.ops.elementwise import (
    bitcast,
    bitwise_and,
    bitwise_xor,
    convert,
    ne,
    select,
    shift_right_arithmetic,
)
from funtorch.ops.families import full_like
from funtorch.processes import WIDER, Ranks
from funtorch.sharding import Mesh
from funtorch.watch import Said, Sayings, agree

__all__ = ["bound", "check_mesh", "meet", "ranks_along"]


def check_mesh(what: str, mesh: Mesh) -> None:
    """Check that a mesh has all processes.

    Raises:
        ValueError: it has not.
    """
    if mesh.is_multi_process and set(mesh.devices.flat) != set(cpus()):
        raise ValueError(
            f"{what}: {mesh} has {mesh.size} devices, and the program runs on {len(cpus())} ranks: "
            "a mesh must have every rank once. Give it another shape, or start as many ranks"
        )


def ranks_along(mesh: Mesh, names: tuple[Hashable, ...]) -> Ranks:
    """Return who is along axes of a mesh with whom; of several axes the last counts fastest.

    Example:
        >>> import funtorch as ft
        >>> with ft.config.override(num_cpu_devices=4):
        ...     ranks_along(Mesh((2, 2), ("a", "b")), ("a",))
        ranks(0 2|1 3)
    """
    numbers, own = mesh.device_ids, [mesh.axis_names.index(name) for name in names]
    others = [k for k in range(numbers.ndim) if k not in own]
    lines = numbers.transpose(*others, *own).reshape(-1, math.prod(numbers.shape[k] for k in own))
    return Ranks(tuple(tuple(map(int, line)) for line in lines), processes.near)


# ------------------------------------------------------------------------------- what MPI can do
def _summed(prim: Primitive, x: Any, **params: Any) -> Any:
    if x.dtype not in WIDER:
        return prim.bind(x, **params)
    wide = prim.bind(convert(x, dtype=WIDER[x.dtype], weak_type=False), **params)
    return convert(wide, dtype=x.dtype, weak_type=x.weak_type)


def _ordered(keys: Any, dtype: np.dtype) -> Any:
    """Turn the bits of floats into integers of their order, or back."""
    signs = shift_right_arithmetic(keys, full_like(keys, dtype.itemsize * 8 - 1))
    return bitwise_xor(keys, bitwise_and(signs, full_like(keys, np.iinfo(keys.dtype).max)))


def _extreme(prim: Primitive, x: Any, **params: Any) -> Any:
    if x.dtype.kind in "iub":
        return prim.bind(x, **params)
    if x.dtype in WIDER:  # floats, which NCCL cannot compare as integers of 16 bits
        wide = _extreme(prim, convert(x, dtype=WIDER[x.dtype], weak_type=False), **params)
        return convert(wide, dtype=x.dtype, weak_type=x.weak_type)
    integer = np.dtype(f"int{x.dtype.itemsize * 8}")
    keys = _ordered(bitcast(x, dtype=integer), x.dtype)
    bounds = np.iinfo(integer)
    worst = bounds.max if prim.name == "pmax" else bounds.min
    keys = prim.bind(select(ne(x, x), full_like(keys, worst), keys), **params)
    return bitcast(_ordered(keys, x.dtype), dtype=x.dtype)


_RULES: dict[str, Callable[..., Any]] = {
    "psum": _summed,
    "psum_scatter": _summed,
    "pmax": _extreme,
    "pmin": _extreme,
}


# -------------------------------------------------------------------------------------- programs
def bound(jaxpr: Jaxpr, mesh: Mesh) -> Jaxpr:
    """Return a program of one process: its collectives over axes of a mesh are between processes.

    Args:
        jaxpr: a program without constants of its own, of what one device has.
        mesh: the mesh.
    """
    found = jaxpr.memo.get(("bound", mesh))
    if found is None:
        found = jaxpr.memo["bound", mesh] = _bound(jaxpr, mesh)
    return found


def _bound(jaxpr: Jaxpr, mesh: Mesh) -> Jaxpr:
    def run(*args: Any) -> list[Any]:
        env: dict[Any, Any] = dict(zip(jaxpr.invars, args, strict=True))
        for eqn in jaxpr.eqns:
            _state.source = eqn.source
            ins = [v.val if type(v) is Lit else env[v] for v in eqn.invars]
            params = {k: _bound_value(v, mesh) for k, v in eqn.params.items()}
            name = params.get("axis_name")
            if name in mesh.axis_names:
                params["axis_name"] = ranks_along(mesh, (name,))
                rule = _RULES.get(eqn.prim.name)
                if rule is not None:
                    env[eqn.outvars[0]] = rule(eqn.prim, *ins, **params)
                    continue
            out = eqn.prim.bind(*ins, **params)
            env.update(zip(eqn.outvars, out if eqn.prim.multiple_results else [out], strict=True))
        return [v.val if type(v) is Lit else env[v] for v in jaxpr.outvars]

    line = _state.source
    try:
        return stage(run, jaxpr.in_avals)
    finally:
        _state.source = line


def meet(jaxpr: Jaxpr, name: str) -> Sayings:
    """Compare a program with those of the other processes, and find the groups that talk in it.

    All processes of a group must find it at once, so it is done before anything that may take
    another time, or another way, in each.

    Returns:
        what is said in the program.

    Raises:
        RuntimeError: other processes are about to run another program.
    """
    if "said" not in jaxpr.memo:
        found = list(_collectives(jaxpr))
        said = [Said(_what(eqn), str(eqn.source)) for eqn in found]
        jaxpr.memo["said"] = Sayings.of(name, said)
        agree(jaxpr.memo["said"])
        for ranks in dict.fromkeys(eqn.params["axis_name"] for eqn in found):
            ranks.prepare()
    return jaxpr.memo["said"]


def _collectives(jaxpr: Jaxpr) -> Iterator[Eqn]:
    for eqn in jaxpr.eqns:
        if type(eqn.params.get("axis_name")) is Ranks:
            yield eqn
        for sub in sub_jaxprs(eqn.params):
            yield from _collectives(sub)


def _what(eqn: Eqn) -> str:
    types = ", ".join(v.aval.str_short() for v in eqn.invars)
    params = [f"{k}={v}" for k, v in sorted(eqn.params.items()) if k != "axis_name"]
    shown = f" with {', '.join(params)}" if params else ""
    return f"{eqn.prim.name} of ({types}){shown} between {eqn.params['axis_name']}"


def _bound_value(value: Any, mesh: Mesh) -> Any:
    if isinstance(value, Jaxpr):
        return bound(value, mesh)
    if isinstance(value, tuple) and any(isinstance(v, Jaxpr) for v in value):
        return tuple(_bound_value(v, mesh) for v in value)
    return value
