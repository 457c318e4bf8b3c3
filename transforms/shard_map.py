"""`shard_map` and `pmap`: a function of the parts of arrays, run by the devices of a mesh.

In one process the devices are lanes of `vmap`, one nested in another for each axis of the mesh. In
several, each runs the function on its own parts; the primitive `shard_map` stands for that in
programs and has the rules of a call, in which parts keep their places: what the forward pass leaves
for the backward pass stays where it is (`OWN`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any

from funtorch import arraytree as tree
from funtorch.core import LinearArg, Primitive, ShapedArray, _state
from funtorch.hardware import cpus
from funtorch.jaxpr import Jaxpr, eval_jaxpr, stage
from funtorch.ops import shape as shapes
from funtorch.ops.elementwise import mul
from funtorch.ops.families import full_like, spread
from funtorch.ops.shape import reshape, transpose
from funtorch.placement import known_at
from funtorch.processes import world
from funtorch.sharding import (
    AbstractMesh,
    Mesh,
    NamedSharding,
    PartitionSpec,
    axes_of,
    check_names,
    check_spec,
    concrete,
    current_mesh,
    make_mesh,
)
from funtorch.tracebacks import boundary

from .arguments import as_arrays, check_callable, function_name
from .batching import Axis, batch_flat, vmap
from .collectives import axis_size, psum_p
from .ranks import check_mesh
from .restage import batch_program, jvp_program, linearize_program, transpose_program
from .varying import Body, inside, varying_outputs

__all__ = ["OWN", "local_aval", "pmap", "shard_map", "shard_map_p"]


class _Own:
    """In the place of a spec: each process has a value of its own."""

    def __repr__(self) -> str:
        return "own"


OWN = _Own()


def local_aval(aval: ShapedArray, mesh: Mesh, spec: Any) -> ShapedArray:
    """Return the type of the parts of an array."""
    return aval if spec is OWN else aval.update(shape=_sizes(aval.shape, mesh, spec, 1))


def _sizes(shape: tuple[int, ...], mesh: Mesh, spec: Any, power: int) -> tuple[int, ...]:
    """Return a shape divided, or with ``power`` -1 multiplied, along the axes of a mesh."""
    parts = [math.prod(mesh.shape[n] for n in names) for names in axes_of(spec, len(shape))]
    both = zip(shape, parts, strict=True)
    return tuple(n // p if power == 1 else n * p for n, p in both)


def _missing(mesh: Mesh, spec: Any) -> list[Hashable]:
    """Return the axes of a mesh along which an array is the same."""
    named = {n for names in axes_of(spec, 0) for n in names} if spec is not OWN else mesh.axis_names
    return [n for n in mesh.axis_names if n not in named]


# ---------------------------------------------------------------------------------- the primitive
shard_map_p = Primitive("shard_map", multiple_results=True)
shard_map_p.spreads = True


def _type(*avals: Any, jaxpr: Jaxpr, mesh: Mesh, out_specs: Any, **params: Any) -> list[Any]:
    return [
        a if spec is OWN else a.update(shape=_sizes(a.shape, mesh, spec, -1))
        for a, spec in zip(jaxpr.out_avals, out_specs, strict=True)
    ]


def _bind(
    program: Any, args: Sequence[Any], in_specs: Sequence[Any], out_specs: Sequence[Any], mesh: Mesh
) -> list[Any]:
    specs = ((PartitionSpec(),) * len(program.consts) + tuple(in_specs), tuple(out_specs))
    return shard_map_p.bind(
        *program.consts,
        *args,
        jaxpr=program.jaxpr,
        mesh=mesh,
        in_specs=specs[0],
        out_specs=specs[1],
    )


def _chosen(values: Sequence[Any], flags: Sequence[Any]) -> list[Any]:
    return [v for v, f in zip(values, flags, strict=True) if f]


def _jvp(
    primals: Any, tangents: Any, *, jaxpr: Jaxpr, mesh: Mesh, in_specs: Any, out_specs: Any
) -> tuple[list[Any], list[Any]]:
    nonzero = tuple(t is not None for t in tangents)
    program = jvp_program(jaxpr, nonzero)
    ins = [*in_specs, *_chosen(in_specs, nonzero)]
    outs = [*out_specs, *_chosen(out_specs, program.note)]
    results = _bind(program, [*primals, *_chosen(tangents, nonzero)], ins, outs, mesh)
    n, touts = len(out_specs), iter(results[len(out_specs) :])
    return results[:n], [next(touts) if a else None for a in program.note]


def _linearize(
    primals: Any, nonzero: Any, *, jaxpr: Jaxpr, mesh: Mesh, in_specs: Any, out_specs: Any
) -> tuple[list[Any], Any]:
    forward, tape, active = linearize_program(jaxpr, tuple(nonzero))
    n = len(out_specs)
    left = len(forward.jaxpr.outvars) - n
    results = _bind(forward, primals, in_specs, [*out_specs, *[OWN] * left], mesh)

    def linear(*tangents: Any) -> list[Any]:
        touts = shard_map_p.bind(
            *results[n:],
            *tangents,
            jaxpr=tape,
            mesh=mesh,
            in_specs=(*[OWN] * left, *_chosen(in_specs, nonzero)),
            out_specs=tuple(_chosen(out_specs, active)),
        )
        found = iter(touts)
        return [next(found) if a else None for a in active]

    return results[:n], linear


class _Transposed:
    """A linear program backwards, for each device of a mesh.

    Devices share the cotangent of what they have the same, and add up those of what they are given
    the same.
    """

    def __init__(
        self, jaxpr: Jaxpr, linear: Any, nonzero: Any, mesh: Mesh, in_specs: Any, out_specs: Any
    ) -> None:
        program = transpose_program(jaxpr, linear, nonzero)
        self.consts, self.note = program.consts, program.note
        known = _chosen(in_specs, [not f for f in linear])
        cts = _chosen(out_specs, nonzero)
        self.in_specs = [*known, *cts]
        self.out_specs = _chosen(_chosen(in_specs, linear), self.note)
        factors = [1 / math.prod(mesh.shape[n] for n in _missing(mesh, s)) for s in cts]

        def run(*args: Any) -> list[Any]:
            at = len(args) - len(cts)
            scaled = [
                x if f == 1 else mul(x, full_like(x, f))
                for x, f in zip(args[at:], factors, strict=True)
            ]
            outs = eval_jaxpr(program.jaxpr, *args[:at], *scaled)
            return [_total(x, mesh, s) for x, s in zip(outs, self.out_specs, strict=True)]

        self.jaxpr = stage(run, program.jaxpr.in_avals)


def _total(x: Any, mesh: Mesh, spec: Any) -> Any:
    for name in _missing(mesh, spec):
        x = psum_p.bind(x, axis_name=name)
    return x


def _transpose(
    cts: Any, *args: Any, jaxpr: Jaxpr, mesh: Mesh, in_specs: Any, out_specs: Any
) -> list[Any]:
    linear = tuple(type(a) is LinearArg for a in args)
    nonzero = tuple(ct is not None for ct in cts)
    program = _Transposed(jaxpr, linear, nonzero, mesh, in_specs, out_specs)
    known = _chosen(args, [not f for f in linear])
    found = iter(
        _bind(program, [*known, *_chosen(cts, nonzero)], program.in_specs, program.out_specs, mesh)
    )
    note = iter(program.note)
    return [next(found) if f and next(note) else None for f in linear]


def _batch(
    axis: Axis, args: Any, batched: Any, *, jaxpr: Jaxpr, mesh: Mesh, in_specs: Any, out_specs: Any
) -> tuple[list[Any], list[bool]]:
    program = batch_program(jaxpr, axis, tuple(batched))

    def moved(specs: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
        pairs = zip(specs, flags, strict=True)
        return [PartitionSpec(None, *s) if b and s is not OWN else s for s, b in pairs]

    ins, outs = moved(in_specs, batched), moved(out_specs, program.note)
    return _bind(program, args, ins, outs, mesh), program.note


shard_map_p.type = _type
shard_map_p.jvp, shard_map_p.linearize = _jvp, _linearize
shard_map_p.transpose, shard_map_p.batch = _transpose, _batch
shard_map_p.none["eager"] = "its results are spread over processes"


# ------------------------------------------------------------------------------- in one process
def _in_lanes(
    jaxpr: Jaxpr, args: Sequence[Any], mesh: Mesh, in_specs: Sequence[Any], out_specs: Sequence[Any]
) -> list[Any]:
    """Run a program for all devices at once: its inputs and results are whole arrays."""
    names, sizes = mesh.axis_names, mesh.axis_sizes
    parts = [_divided(x, mesh, spec) for x, spec in zip(args, in_specs, strict=True)]
    axes = [{n for group in axes_of(spec, 0) for n in group} for spec in in_specs]
    found: list[list[bool]] = []  # which results have each axis, the innermost first

    def level(k: int, values: Sequence[Any]) -> list[Any]:
        if k == len(names):
            return eval_jaxpr(jaxpr, *values)
        flags = [names[k] in named for named in axes]
        outs, batched = batch_flat(
            lambda *xs: level(k + 1, xs), Axis(sizes[k], names[k]), values, flags
        )
        found.append(batched)
        return outs

    outs = level(0, parts)
    has = [
        [n for n, flags in zip(names, reversed(found), strict=True) if flags[k]]
        for k in range(len(outs))
    ]
    return [
        _joined(x, mesh, spec, names) for x, spec, names in zip(outs, out_specs, has, strict=True)
    ]


def _divided(x: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Return an array with the axes of the mesh that divide it in front, in their order."""
    shape: list[int] = []
    at: dict[Hashable, int] = {}
    rest = []
    for n, names in zip(x.shape, axes_of(spec, x.ndim), strict=True):
        for name in names:
            at[name] = len(shape)
            shape.append(mesh.shape[name])
            n //= mesh.shape[name]
        rest.append(len(shape))
        shape.append(n)
    order = [at[name] for name in mesh.axis_names if name in at]
    return transpose(reshape(x, shape=tuple(shape)), perm=(*order, *rest)) if at else x


def _joined(x: Any, mesh: Mesh, spec: PartitionSpec, has: Sequence[Hashable]) -> Any:
    """Return the whole of an array whose leading axes are those of the mesh in ``has``."""
    has, front = list(has), len(has)
    ndim = x.ndim - front
    wanted = axes_of(spec, ndim)
    named = [name for names in wanted for name in names]
    for name in [n for n in has if n not in named]:  # the same on all of them, so the first
        k = has.index(name)
        limit = tuple(1 if j == k else n for j, n in enumerate(x.shape))
        first = shapes.slice(x, start=(0,) * x.ndim, limit=limit, stride=(1,) * x.ndim)
        x = reshape(first, shape=(*x.shape[:k], *x.shape[k + 1 :]))
        has.remove(name)
    for name in [n for n in named if n not in has]:
        x = spread(x, mesh.shape[name])
        has.insert(0, name)
    if not has:
        return x
    perm, shape = [], []
    for k, names in enumerate(wanted):
        perm += [*[has.index(n) for n in names], len(has) + k]
        shape.append(x.shape[len(has) + k] * math.prod(mesh.shape[n] for n in names))
    return reshape(transpose(x, perm=tuple(perm)), shape=tuple(shape))


# ----------------------------------------------------------------------------------------- public
def shard_map(
    f: Callable[..., Any] | None = None,
    mesh: Mesh | None = None,
    in_specs: Any = None,
    out_specs: Any = None,
    *,
    axis_names: Any = None,
    check_vma: bool = True,
    check_rep: bool | None = None,
    auto: Any = (),
) -> Any:
    """Run a function on the parts of arrays, on each device of a mesh.

    Inside, collectives (`funtorch.lax.psum` ...) work across the axes of the mesh. Started by
    `mpirun`, each process is a device and runs the function on its own parts; in a single process,
    all devices' parts are computed at once.

    Args:
        f: a function of pytrees of arrays; they are the parts of the arguments. Without it, a
            decorator is returned.
        mesh: the devices; None: that of the ``with mesh:`` block around the call.
        in_specs: how each argument is divided: a `PartitionSpec`, or a pytree prefix of the
            tuple of arguments. An axis of the mesh that a spec does not name gets all of it.
        out_specs: how the parts of results are put together. Along axes that it does not name,
            they must be the same.
        axis_names: the axes of the mesh that collectives and specs may name; along the others,
            arrays are whole. None or empty: all.
        check_vma: whether to check that, and to take derivatives inside of ``f`` with respect to
            what is the same on several devices as those of all their results: see
            docs/distributed.md.
        check_rep: an older name of ``check_vma``.
        auto: an older way to say it: the axes of the mesh that are not in ``axis_names``.

    Returns:
        A function of whole arrays. Among several processes, results that are divided are arrays
        of which each holds its part.

    Raises:
        ValueError: a spec names what is no axis of the mesh, does not divide an array, or leaves
            out an axis along which results differ.
        TypeError: a spec is none.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.sharding import P
        >>> with ft.config.override(num_cpu_devices=2):
        ...     mesh = ft.make_mesh((2,), ("i",))
        ...     total = ft.shard_map(
        ...         lambda x: ft.lax.psum(x.sum(), "i"), mesh=mesh, in_specs=P("i"), out_specs=P()
        ...     )
        ...     total(ft.numpy.arange(4.0))
        Array(6., dtype=float32)

    References:
        https://docs.jax.dev/en/latest/notebooks/shard_map.html
    """
    if f is None:
        return functools.partial(
            shard_map,
            mesh=mesh,
            in_specs=in_specs,
            out_specs=out_specs,
            axis_names=axis_names,
            check_vma=check_vma,
            check_rep=check_rep,
            auto=auto,
        )
    check_callable(f, "shard_map")
    check = check_vma if check_rep is None else check_rep
    what = f"shard_map of {function_name(f)}"

    @boundary
    @functools.wraps(f)
    def mapped(*args: Any) -> Any:
        over, names, others = _mesh_of(what, mesh, axis_names, auto)
        leaves, treedef = tree.flatten(args)
        arrays = as_arrays(leaves, "argument", f)
        ins = _specs(f"{what}: in_specs", in_specs, args)
        _check_mapped(f"{what}: in_specs", ins, names, others)
        for k, (spec, x) in enumerate(zip(ins, arrays, strict=True)):
            check_spec(f"{what}: {_place(args, k)}", over, spec, x.shape)
        jaxpr, out_tree = _staged(f, treedef, arrays, over, ins, check, names)
        shown = out_tree.unflatten(jaxpr.outvars)
        outs = _specs(f"{what}: out_specs", out_specs, shown)
        _check_mapped(f"{what}: out_specs", outs, names, others)
        _check_outputs(what, jaxpr, over, ins, outs, check)
        in_all = [*[PartitionSpec()] * len(jaxpr.consts), *ins]
        operands = [*jaxpr.consts, *arrays]
        if over.is_multi_process:
            results = shard_map_p.bind(
                *operands,
                jaxpr=jaxpr.hoisted(),
                mesh=over,
                in_specs=tuple(in_all),
                out_specs=tuple(outs),
            )
        else:
            results = _in_lanes(jaxpr.hoisted(), operands, over, in_all, outs)
            shardings = [NamedSharding(over, spec) for spec in outs]
            results = [known_at(x, s) for x, s in zip(results, shardings, strict=True)]
        return out_tree.unflatten(results)

    return mapped


def _mesh_of(
    what: str, mesh: Mesh | None, axis_names: Any, auto: Any
) -> tuple[Mesh, frozenset[Hashable], frozenset[Hashable]]:
    """Return the mesh to run on, and the names of its axes that are mapped, and of the others."""
    world()
    mesh = current_mesh() if mesh is None else mesh
    if mesh is None:
        raise ValueError(f"{what}: there is no mesh: pass mesh=, or call it inside of `with mesh:`")
    mesh = concrete(mesh) if isinstance(mesh, AbstractMesh) else mesh
    if not isinstance(mesh, Mesh):
        raise TypeError(f"{what}: mesh is a funtorch.Mesh, got {mesh!r:.60}")
    check_mesh(what, mesh)
    given = (axis_names,) if isinstance(axis_names, str) else axis_names
    names = frozenset(given or mesh.axis_names) - frozenset(auto)
    unknown = [n for n in (*names, *auto) if n not in mesh.axis_names]
    if unknown:
        raise ValueError(
            f"{what}: axis_names has {', '.join(map(repr, unknown))}, and the axes of the mesh are "
            f"{', '.join(map(repr, mesh.axis_names))}"
        )
    others = frozenset(mesh.axis_names) - names
    if mesh.is_multi_process or not others:
        return mesh, names, others
    kept = tuple(slice(None) if n in names else 0 for n in mesh.axis_names)
    over = Mesh(mesh.devices[kept], [n for n in mesh.axis_names if n in names])
    return over, names, others


def _check_mapped(
    what: str,
    specs: Sequence[PartitionSpec],
    names: frozenset[Hashable],
    others: frozenset[Hashable],
) -> None:
    for spec in specs:
        other = [n for group in axes_of(spec, 0) for n in group if n in others]
        if other:
            raise ValueError(
                f"{what}: {spec} names {other[0]!r}, which is not in axis_names "
                f"{sorted(map(str, names))}: along other axes arrays are whole"
            )


def _specs(what: str, specs: Any, values: Any) -> list[PartitionSpec]:
    """Return the spec of each leaf."""
    specs = tuple(specs) if type(specs) is list and isinstance(values, tuple) else specs
    try:
        found = tree.broadcast_prefix(specs, values, what, is_leaf=_is_spec)
    except ValueError as error:
        raise ValueError(f"{error} (a spec, or None, for each of them)") from None
    for spec in found:
        if spec is not None and not isinstance(spec, PartitionSpec):
            raise TypeError(
                f"{what} holds PartitionSpecs, such as P('data') or P(), got {spec!r:.60} of type "
                f"{type(spec).__name__}"
            )
    return [PartitionSpec() if spec is None else spec for spec in found]


def _is_spec(x: Any) -> bool:
    return x is None or isinstance(x, PartitionSpec)


def _place(args: Any, k: int) -> str:
    path, _ = tree.leaves_with_path(args)[k]
    return f"argument {path[0].idx}{tree.keystr(path[1:])}"


def _staged(
    f: Callable[..., Any],
    treedef: Any,
    arrays: Sequence[Any],
    mesh: Mesh,
    specs: Any,
    check: bool,
    names: Collection[Hashable],
) -> tuple[Jaxpr, Any]:
    """Record what one device does."""
    sizes = {name: n for name, n in mesh.shape.items() if name in names}
    avals = [local_aval(x.aval, mesh, s) for x, s in zip(arrays, specs, strict=True)]
    inputs = [frozenset(n for names in axes_of(s, 0) for n in names) for s in specs]
    store: list[Any] = []

    def flat(*parts: Any) -> list[Any]:
        outs, out_tree = tree.flatten(f(*treedef.unflatten(parts)))
        store.append(out_tree)
        return as_arrays(outs, "output", f)

    before = len(_state.axes)
    _state.axes.extend(sizes.items())
    try:
        with inside(Body(sizes, inputs) if check else None):
            jaxpr = stage(flat, avals, function_name(f))
    finally:
        del _state.axes[before:]
    return jaxpr, store[0]


def _check_outputs(
    what: str, jaxpr: Jaxpr, mesh: Mesh, ins: Any, specs: Sequence[Any], check: bool
) -> None:
    inputs = [frozenset(n for names in axes_of(s, 0) for n in names) for s in ins]
    found = varying_outputs(jaxpr, inputs)
    for k, (spec, aval, axes) in enumerate(zip(specs, jaxpr.out_avals, found, strict=True)):
        check_names(f"{what}: output {k}", mesh, spec)
        if len(spec) > aval.ndim:
            raise ValueError(
                f"{what}: out_specs has {spec} for output {k}, and each device's part of it, "
                f"{aval.str_short()}, has {aval.ndim} axes"
            )
        different = [n for n in _missing(mesh, spec) if n in axes]
        if check and different:
            shown = " and ".join(map(repr, different))
            raise ValueError(
                f"{what}: out_specs has {spec} for output {k}, {aval.str_short()}: so it must be "
                f"the same along {shown}, but it may differ there. Name the axis in the spec to "
                f"put the parts together, sum or average them (funtorch.lax.psum, pmean), or, "
                "where they are the same for a reason that cannot be seen, pass check_vma=False"
            )


def pmap(
    fun: Callable[..., Any],
    axis_name: Hashable | None = None,
    *,
    in_axes: Any = 0,
    out_axes: Any = 0,
    static_broadcasted_argnums: Any = (),
    devices: Any = None,
    backend: Any = None,
    axis_size: int | None = None,
    donate_argnums: Any = (),
    global_arg_shapes: Any = None,
) -> Callable[..., Any]:
    """Map a function over the leading axis of arrays, a place on each device.

    Among several processes, each has the place of its own device: arrays have a leading axis of
    size 1, and collectives go across all processes.

    Args:
        fun: a function of pytrees of arrays.
        axis_name: the name of the axis, for collectives.
        in_axes, out_axes: as of `funtorch.vmap`.
        static_broadcasted_argnums: positions of arguments that stay Python values.
        devices, backend, axis_size, donate_argnums, global_arg_shapes: for compatibility.

    Raises:
        ValueError: there are not as many devices as places.

    Example:
        >>> import funtorch as ft
        >>> with ft.config.override(num_cpu_devices=2):
        ...     ft.pmap(lambda x: ft.lax.psum(x, "i"), "i")(ft.numpy.arange(2.0))
        Array([1., 1.], dtype=float32)
    """
    check_callable(fun, "pmap")
    static = static_broadcasted_argnums
    nums = {static} if isinstance(static, int) else set(static)

    @boundary
    @functools.wraps(fun)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        everyone = world()
        kept = {k: a for k, a in enumerate(args) if k in nums}
        others = [a for k, a in enumerate(args) if k not in nums]

        def dynamic(*some: Any, **kw: Any) -> Any:
            rest = iter(some)
            return fun(*[kept[k] if k in kept else next(rest) for k in range(len(args))], **kw)

        axes = in_axes
        if isinstance(in_axes, (tuple, list)):
            axes = tuple(a for k, a in enumerate(in_axes) if k not in nums)
        name = "pmap" if axis_name is None else axis_name
        if everyone.size == 1:
            return vmap(_counted(dynamic, fun, name), axes, out_axes, name)(*others, **kwargs)
        alone = _on_own(dynamic, fun, make_mesh((everyone.size,), (name,)))
        return vmap(_counted(alone, fun, _PLACES), axes, out_axes, _PLACES)(*others, **kwargs)

    return mapped


_PLACES = "places of this process"


def _counted(f: Callable[..., Any], fun: Any, name: Hashable) -> Callable[..., Any]:
    """Return a function under `vmap` that checks how many places there are."""

    def counted(*args: Any, **kwargs: Any) -> Any:
        size, most = axis_size(name), 1 if name is _PLACES else len(cpus())
        if size > most:
            raise ValueError(
                f"pmap of {function_name(fun)}: the mapped axes have size {size}, and "
                + (
                    "each process is one device: give each an axis of size 1, its own part"
                    if name is _PLACES
                    else f"there are {most} devices: start the program with `mpirun -n {size}`, or "
                    f'try it in one process with config.update("num_cpu_devices", {size})'
                )
            )
        return f(*args, **kwargs)

    return counted


def _on_own(f: Callable[..., Any], fun: Any, mesh: Mesh) -> Callable[..., Any]:
    """Return a function that each process runs on its own values, together with the others."""

    def alone(*args: Any, **kwargs: Any) -> Any:
        leaves, treedef = tree.flatten((args, kwargs))
        arrays = as_arrays(leaves, "argument", fun)

        def call(*parts: Any) -> Any:
            a, kw = treedef.unflatten(parts)
            return f(*a, **kw)

        flat = tree.structure(tuple(leaves))
        own = [PartitionSpec()] * len(arrays)
        jaxpr, out_tree = _staged(call, flat, arrays, mesh, own, False, mesh.axis_names)
        results = shard_map_p.bind(
            *jaxpr.consts,
            *arrays,
            jaxpr=jaxpr.hoisted(),
            mesh=mesh,
            in_specs=(OWN,) * (len(jaxpr.consts) + len(arrays)),
            out_specs=(OWN,) * len(jaxpr.outvars),
        )
        return out_tree.unflatten(results)

    return alone
