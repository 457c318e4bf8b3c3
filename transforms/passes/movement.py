"""Movements: chains joined, those that change nothing dropped, transposes put into products."""

from __future__ import annotations

import math
from collections.abc import Sequence

import ml_dtypes

from funtorch import dtypes
from funtorch.dims import fixed
from funtorch.jaxpr import Eqn, Lit
from funtorch.ops.contract import free_axes

from .rewrite import Atom, Rewriter, Rules, rewriter

__all__ = ["MOVEMENT", "join_movements"]

Ints = tuple[int, ...]


def _unchanged(b: Rewriter, eqn: Eqn) -> Atom | None:
    """A movement whose parameters say that nothing moves."""
    x, out, params = eqn.invars[0], eqn.outvars[0].aval, eqn.params
    if x.aval.shape != out.shape:
        return None
    in_order = tuple(range(out.ndim))
    if params.get("perm", in_order) != in_order or params.get("dims", in_order) != in_order:
        return None
    return x


# ---------------------------------------------------------------------- two in a row
def _join_transposes(b: Rewriter, eqn: Eqn) -> Atom | None:
    x, perm = eqn.invars[0], eqn.params["perm"]
    if (inner := b.maker(x, "transpose")) is not None:
        before = inner.params["perm"]
        return b.emit("transpose", inner.invars[0], perm=tuple(before[p] for p in perm))
    if (inner := b.maker(x, "broadcast_in_dim")) is not None:
        dims = tuple(perm.index(d) for d in inner.params["dims"])
        if list(dims) == sorted(dims):
            shape = eqn.outvars[0].aval.shape
            return b.emit("broadcast_in_dim", inner.invars[0], shape=shape, dims=dims)
    return None


def _join_broadcasts(b: Rewriter, eqn: Eqn) -> Atom | None:
    x, dims = eqn.invars[0], eqn.params["dims"]
    if (inner := b.maker(x, "broadcast_in_dim")) is not None:
        joined = tuple(dims[d] for d in inner.params["dims"])
        return b.emit("broadcast_in_dim", inner.invars[0], shape=eqn.params["shape"], dims=joined)
    if (inner := b.maker(x, "reshape")) is not None:
        kept = _same_axes(inner.invars[0].aval.shape, x.aval.shape)
        if kept is not None:
            joined = tuple(dims[d] for d in kept)
            return b.emit(
                "broadcast_in_dim", inner.invars[0], shape=eqn.params["shape"], dims=joined
            )
    return None


def _same_axes(small: Ints, large: Ints) -> Ints | None:
    """Return the axis of ``large`` of every axis of ``small``, which only lacks axes of size 1."""
    found, at = [], 0
    for n in small:
        while at < len(large) and large[at] != n and large[at] == 1:
            at += 1
        if at == len(large) or large[at] != n:
            return None
        found.append(at)
        at += 1
    return tuple(found) if all(n == 1 for n in large[at:]) else None


def _join_reshapes(b: Rewriter, eqn: Eqn) -> Atom | None:
    """reshape(reshape(x)); and a reshape that only adds or drops axes of size 1 of a broadcast."""
    x, shape = eqn.invars[0], eqn.params["shape"]
    if (inner := b.maker(x, "reshape")) is not None:
        return b.emit("reshape", inner.invars[0], shape=shape)
    inner = b.maker(x, "broadcast_in_dim")
    if inner is None:
        return None
    source, dims = inner.invars[0], inner.params["dims"]
    if len(shape) >= x.aval.ndim:
        to = _same_axes(x.aval.shape, shape)
        return (
            None
            if to is None
            else b.emit("broadcast_in_dim", source, shape=shape, dims=tuple(to[d] for d in dims))
        )
    kept = _same_axes(shape, x.aval.shape)
    if kept is None:
        return None
    if any(d not in kept for d in dims):  # axes of size 1 of the source go as well
        rest = tuple(n for n, d in zip(source.aval.shape, dims, strict=True) if d in kept)
        source = b.emit("reshape", source, shape=rest)
    return b.emit(
        "broadcast_in_dim",
        source,
        shape=shape,
        dims=tuple(kept.index(d) for d in dims if d in kept),
    )


def _join_slices(b: Rewriter, eqn: Eqn) -> Atom | None:
    x, p = eqn.invars[0], eqn.params
    inner = b.maker(x, "slice")
    if inner is None:
        return None
    q = inner.params
    axes = range(x.aval.ndim)
    start = tuple(q["start"][k] + p["start"][k] * q["stride"][k] for k in axes)
    stride = tuple(p["stride"][k] * q["stride"][k] for k in axes)
    counts = eqn.outvars[0].aval.shape
    limit = tuple(
        s + (n - 1) * t + 1 if n else s for s, n, t in zip(start, counts, stride, strict=True)
    )
    return b.emit("slice", inner.invars[0], start=start, limit=limit, stride=stride)


def _slice_broadcast(b: Rewriter, eqn: Eqn) -> Atom | None:
    """Slice before a broadcast: along the new axes there is nothing to slice."""
    inner = b.maker(eqn.invars[0], "broadcast_in_dim")
    if inner is None or not eqn.outvars[0].aval.size:
        return None
    x, dims = inner.invars[0], inner.params["dims"]
    cut: dict[str, Ints] = {}
    for key, whole in (("start", (0,) * x.aval.ndim), ("limit", x.aval.shape), ("stride", None)):
        cut[key] = tuple(
            eqn.params[key][d] if n != 1 else (whole[k] if whole else 1)
            for k, (d, n) in enumerate(zip(dims, x.aval.shape, strict=True))
        )
    part = b.emit("slice", x, **cut)
    return b.emit("broadcast_in_dim", part, shape=eqn.outvars[0].aval.shape, dims=dims)


def _rev(b: Rewriter, eqn: Eqn) -> Atom | None:
    """Only axes of more than one element are worth reversing; two reversals are one."""
    x, axes = eqn.invars[0], eqn.params["axes"]
    worth = tuple(a for a in axes if x.aval.shape[a] > 1)
    inner = b.maker(x, "rev")
    if inner is not None:
        both = tuple(sorted(set(worth) ^ set(inner.params["axes"])))
        return b.emit("rev", inner.invars[0], axes=both)
    if not worth:
        return x
    return b.emit("rev", x, axes=worth) if worth != axes else None


def _concatenate(b: Rewriter, eqn: Eqn) -> Atom | None:
    """Drop empty parts; one part alone is the whole."""
    axis = eqn.params["axis"]
    parts = [v for v in eqn.invars if v.aval.shape[axis]] or list(eqn.invars[:1])
    if len(parts) == 1:
        return parts[0]
    return b.emit("concatenate", *parts, axis=axis) if len(parts) < len(eqn.invars) else None


def _split(b: Rewriter, eqn: Eqn) -> list[Atom]:
    """The parts of an array are slices of it."""
    x, axis, stop, parts = eqn.invars[0], eqn.params["axis"], 0, []
    for n in eqn.params["sizes"]:
        start, stop = stop, stop + n
        first = tuple(start if k == axis else 0 for k in range(x.aval.ndim))
        limit = tuple(stop if k == axis else m for k, m in enumerate(x.aval.shape))
        parts.append(b.emit("slice", x, start=first, limit=limit, stride=(1,) * x.aval.ndim))
    return parts


def _pad(b: Rewriter, eqn: Eqn) -> Atom | None:
    p = eqn.params
    return None if any(p["lo"]) or any(p["hi"]) or any(p["interior"]) else eqn.invars[0]


def _dynamic_slice(b: Rewriter, eqn: Eqn) -> Atom | None:
    """The whole array, or a block at a place that is known."""
    x, *starts = eqn.invars
    sizes = eqn.params["sizes"]
    if sizes == x.aval.shape:
        return x
    if not all(
        type(s) is Lit or n == k for s, n, k in zip(starts, x.aval.shape, sizes, strict=True)
    ):
        return None
    first = tuple(
        min(max(int(s.val._data), 0), n - k) if n != k else 0  # type: ignore[union-attr]
        for s, n, k in zip(starts, x.aval.shape, sizes, strict=True)
    )
    limit = tuple(s + k for s, k in zip(first, sizes, strict=True))
    return b.emit("slice", x, start=first, limit=limit, stride=(1,) * len(sizes))


def _dynamic_update_slice(b: Rewriter, eqn: Eqn) -> Atom | None:
    x, update = eqn.invars[:2]
    return update if update.aval.shape == x.aval.shape else None


# ---------------------------------------------------------------------- reductions
def _reduce_movement(b: Rewriter, eqn: Eqn) -> Atom | None:
    """Reduce before a transpose; join two reductions of one kind."""
    x, axes, name = eqn.invars[0], eqn.params["axes"], eqn.prim.name
    if not axes:
        return x
    if (inner := b.maker(x, "transpose")) is not None:
        perm = inner.params["perm"]
        kept = [perm[k] for k in range(x.aval.ndim) if k not in axes]
        if kept == sorted(kept):
            return b.emit(name, inner.invars[0], axes=tuple(sorted(perm[a] for a in axes)))
    if (inner := b.maker(x, name)) is not None and b.once(x):
        before = inner.params["axes"]
        left = [k for k in range(inner.invars[0].aval.ndim) if k not in before]
        return b.emit(
            name, inner.invars[0], axes=tuple(sorted((*before, *(left[a] for a in axes))))
        )
    return None


def _reduce_broadcast(b: Rewriter, eqn: Eqn) -> Atom | None:
    """Reduce before a broadcast: along its new axes a maximum is the value, a sum a multiple."""
    x, axes = eqn.invars[0], eqn.params["axes"]
    inner = b.maker(x, "broadcast_in_dim")
    if inner is None or any(x.aval.shape[a] == 0 for a in axes):
        return None
    source, dims = inner.invars[0], inner.params["dims"]
    shape = source.aval.shape
    # Axes that the broadcast made hold as many copies; of the source's own, real ones are reduced.
    own = tuple(k for k, d in enumerate(dims) if d in axes)
    real = tuple(k for k in own if shape[k] != 1 or x.aval.shape[dims[k]] == 1)
    copies = math.prod(x.aval.shape[a] for a in axes) // math.prod(shape[k] for k in real)
    if copies == 1 and int(source.aval.size) >= int(x.aval.size):
        return None
    out, sums = source, eqn.prim.name == "reduce_sum"
    if sums and not _exact_count(copies, source):
        return None
    if real:
        out = b.emit(eqn.prim.name, out, axes=real)
    gone = [k for k in own if k not in real]
    left = [k for k in range(len(shape)) if k not in real]
    if gone:
        out = b.emit("reshape", out, shape=tuple(shape[k] for k in left if k not in gone))
    if sums:
        if not real:  # a sum of -0 is 0
            out = b.emit("add", out, b.full(0, out.aval))
        out = b.emit("mul", out, b.full(copies, out.aval))
    kept = [k for k in range(x.aval.ndim) if k not in axes]
    place = tuple(kept.index(dims[k]) for k in left if k not in gone)
    return b.emit("broadcast_in_dim", out, shape=eqn.outvars[0].aval.shape, dims=place)


def _exact_count(copies: int, v: Atom) -> bool:
    """Tell whether the number of copies is a value of the dtype."""
    if not fixed(copies):
        return False
    dtype = v.aval.dtype
    if dtypes.is_integer(dtype):
        return True
    return dtypes.is_float(dtype) and copies <= 2 ** int(ml_dtypes.finfo(dtype).nmant)


# ---------------------------------------------------------------------- products
def _is_plain(ndim: int, contracted: Ints, batch: Ints) -> bool:
    """Tell whether an operand is a stack of matrices in memory, transposed or not."""
    lead = tuple(range(len(batch)))
    free, summed = free_axes(ndim, contracted, batch), tuple(sorted(contracted))
    both = tuple(range(ndim))
    return batch == lead and both in ((*lead, *free, *summed), (*lead, *summed, *free))


def _absorb_transposes(b: Rewriter, eqn: Eqn) -> Atom | None:
    """Let a product read an operand as it lay before its transposition."""
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    operands, contracted, batch = list(eqn.invars), [ca, cb], [ba, bb]
    found = False
    for k in (0, 1):
        inner = b.maker(operands[k], "transpose")
        if inner is None:
            continue
        perm = inner.params["perm"]
        free = [perm[d] for d in free_axes(len(perm), contracted[k], batch[k])]
        c, t = (tuple(perm[d] for d in axes) for axes in (contracted[k], batch[k]))
        worse = _is_plain(len(perm), contracted[k], batch[k]) and not _is_plain(len(perm), c, t)
        if free == sorted(free) and not worse:
            operands[k], contracted[k], batch[k], found = inner.invars[0], c, t, True
    if not found:
        return None
    numbers = (tuple(contracted), tuple(batch))
    return b.emit("dot_general", *operands, **{**eqn.params, "dimension_numbers": numbers})


def _transposed_product(b: Rewriter, eqn: Eqn) -> Atom | None:
    """The transpose of a product is the product of the transposed, in the other order."""
    dot = b.maker(eqn.invars[0], "dot_general")
    if dot is None or not b.once(eqn.invars[0]):
        return None
    (x, y), ((ca, cb), (ba, bb)) = dot.invars, dot.params["dimension_numbers"]
    lead, rows = len(ba), x.aval.ndim - len(ca) - len(ba)
    ndim = eqn.invars[0].aval.ndim
    swapped = (*range(lead), *range(lead + rows, ndim), *range(lead, lead + rows))
    if eqn.params["perm"] != swapped:
        return None
    params = {**dot.params, "dimension_numbers": ((cb, ca), (bb, ba))}
    return b.emit("dot_general", y, x, **params)


_REDUCERS: Sequence[str] = ("reduce_sum", "reduce_max", "reduce_min", "reduce_and", "reduce_or")

# fmt: off
MOVEMENT: Rules = {
    "transpose":            (_unchanged, _join_transposes, _transposed_product),
    "broadcast_in_dim":     (_unchanged, _join_broadcasts),
    "reshape":              (_unchanged, _join_reshapes),
    "slice":                (_unchanged, _join_slices, _slice_broadcast),
    "rev":                  (_rev,),
    "concatenate":          (_concatenate,),
    "split":                (_split,),
    "pad":                  (_pad,),
    "dynamic_slice":        (_dynamic_slice,),
    "dynamic_update_slice": (_dynamic_update_slice,),
    "dot_general":          (_absorb_transposes,),
    **dict.fromkeys(_REDUCERS, (_reduce_movement, _reduce_broadcast)),
    "reduce_prod":          (_reduce_movement,),
}
# fmt: on

join_movements = rewriter(
    "join_movements", "Join and drop movements, and put transposes into products.", MOVEMENT
)
