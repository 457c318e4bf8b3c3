"""Programs of complex numbers as programs of reals, for what has real numbers alone.

`as_reals` runs a program again with a `Pair` of arrays for every complex one. What moves or adds
numbers does so with both parts, products are of the parts, and functions have formulas
(`complexes.py`). Bodies of loops and branches take and give the parts one after the other. Inputs
and results that are complex become real arrays with a last axis of 2: real and imaginary parts.

A Fourier transform is `dft`, a primitive of such arrays, which ONNX has as an operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import Primitive, ShapedArray, _state, primitives
from funtorch.jaxpr import Eqn, Jaxpr, Lit, stage, sub_jaxprs
from funtorch.ops.fft import TABLES
from funtorch.ops.indexing import default_fill

from .complexes import FORMULAS, Pair, both, multiplied
from .graph import Graph, NotExpressible, Rule, why

__all__ = ["NODES", "PAIRED", "as_reals", "dft_p", "has_complex"]

Written = Callable[[Eqn], Callable[..., Any] | None]
"""What writes an equation in other operations: a function of its operands, or None."""


# ------------------------------------------------------------------------------ Fourier transforms
def _dft_type(x: ShapedArray, *, axis: int, inverse: bool, half: bool) -> ShapedArray:
    if not dtypes.is_float(x.dtype) or x.ndim < 2 or not 0 <= axis < x.ndim - 1:
        raise TypeError(f"dft takes floats (..., n, ..., parts), got {x.str_short()}")
    if x.shape[-1] != (1 if half else 2):
        raise TypeError(f"dft: the last axis of {x.str_short()} is not one of parts")
    n = x.shape[axis] // 2 + 1 if half else x.shape[axis]
    return ShapedArray((*x.shape[:axis], n, *x.shape[axis + 1 : -1], 2), x.dtype)


def _dft_eager(xp: Any, x: Any, *, axis: int, inverse: bool, half: bool) -> Any:
    if half:
        found = xp.fft.rfft(x[..., 0], axis=axis)
    else:
        found = (xp.fft.ifft if inverse else xp.fft.fft)(x[..., 0] + 1j * x[..., 1], axis=axis)
    return xp.stack([found.real, found.imag], -1).astype(x.dtype)


dft_p = Primitive("onnx.dft")
"""``dft(x; axis, inverse, half)`` of (..., 2), or to half the frequencies of (..., 1)."""
dft_p.type, dft_p.eager = _dft_type, _dft_eager
dft_p.none.update(dict.fromkeys(("jvp", "transpose", "batch"), "it stands in finished programs"))


def _dft_node(g: Graph, eqn: Eqn, x: str) -> str:
    p = eqn.params
    axis = g.const(p["axis"], np.int64)
    return g.op("DFT", x, "", axis, inverse=int(p["inverse"]), onesided=int(p["half"]))


NODES: dict[str, Rule] = {dft_p.name: _dft_node}
"""Rules of the primitives that programs of reals have besides, as `RULES` has them."""


def _joined(z: Pair) -> Any:
    return fnp.stack([z.re, z.im], -1)


def _parted(x: Any) -> Pair:
    return Pair(x[..., 0], x[..., 1])


def _fft(eqn: Eqn, z: Any) -> Any:
    kind, axis, n = (eqn.params[k] for k in ("kind", "axis", "n"))
    if kind == "rfft":
        return _parted(dft_p.bind(z[..., None], axis=axis, inverse=False, half=True))
    if kind == "irfft":  # frequencies beyond the half are the conjugate mirror image
        inner = [slice(None)] * z.re.ndim
        inner[axis] = slice(1, n - n // 2)
        again = tuple(inner)
        re = fnp.concatenate([z.re, fnp.flip(z.re[again], axis)], axis)
        im = fnp.concatenate([z.im, -fnp.flip(z.im[again], axis)], axis)
        ends = np.ones(n, im.dtype)
        ends[[0] if n % 2 else [0, n // 2]] = 0  # of these the imaginary part does not count
        wide = [1] * im.ndim
        wide[axis] = n
        z = Pair(re, im * ends.reshape(wide))
    found = dft_p.bind(_joined(z), axis=axis, inverse=kind != "fft", half=False)
    return found[..., 0] if kind == "irfft" else _parted(found)


def _fft_table(eqn: Eqn) -> Pair:
    p = eqn.params
    values = TABLES[p["what"]](p["n"], p["size"]).astype(p["dtype"])
    return _constant(values)


def _constant(values: np.ndarray) -> Pair:
    return Pair(*(fnp.asarray(np.array(part, order="C")) for part in (values.real, values.imag)))


# ------------------------------------------------------------------------------ part by part
def _bind(eqn: Eqn, args: Sequence[Any], **other: Any) -> Any:
    return eqn.prim.bind(*args, **{**eqn.params, **other})


def _part(args: Iterable[Any], name: str) -> list[Any]:
    return [getattr(x, name) if isinstance(x, Pair) else x for x in args]


def _each(eqn: Eqn, *args: Any) -> Any:
    """Do the same to both parts; indices and the like are those of both."""
    re, im = (_bind(eqn, _part(args, name)) for name in ("re", "im"))
    if not eqn.prim.multiple_results:
        return Pair(re, im)
    found = zip(eqn.outvars, re, im, strict=True)
    return [Pair(a, b) if dtypes.is_complex(v.aval.dtype) else a for v, a, b in found]


def _formula(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda eqn, *args: f(*args, **eqn.params)


def _gather(eqn: Eqn, *args: Any) -> Pair:
    fill = eqn.params.get("fill")
    fill = complex(default_fill(eqn.invars[0].aval.dtype) if fill is None else fill)
    parts = (("re", fill.real), ("im", fill.imag))
    return Pair(*(_bind(eqn, _part(args, name), fill=value) for name, value in parts))


def _product(eqn: Eqn, a: Any, b: Any) -> Pair:
    """A product of some kind: of the parts, as numbers are multiplied."""
    out = eqn.params["out_dtype"]
    real = None if out is None else dtypes.real_dtype(out)

    def of(x: Any, y: Any) -> Any:
        return _bind(eqn, (x, y), out_dtype=real)

    if not isinstance(a, Pair):
        return Pair(of(a, b.re), of(a, b.im))
    if not isinstance(b, Pair):
        return Pair(of(a.re, b), of(a.im, b))
    return Pair(of(a.re, b.re) - of(a.im, b.im), of(a.re, b.im) + of(a.im, b.re))


def _iota(eqn: Eqn) -> Pair:
    line = _bind(eqn, (), dtype=dtypes.real_dtype(eqn.params["dtype"]))
    return Pair(line, fnp.zeros_like(line))


def _convert(eqn: Eqn, z: Any) -> Any:
    """Of a complex number, reals are the real part, and bools whether it is not zero."""
    dtype = eqn.params["dtype"]
    if not isinstance(z, Pair):
        line = z.astype(dtypes.real_dtype(dtype))
        return Pair(line, fnp.zeros_like(line))
    if dtypes.is_complex(dtype):
        return both(lambda x: x.astype(dtypes.real_dtype(dtype)))(z)
    return (z.re != 0) | (z.im != 0) if dtype == np.bool_ else z.re.astype(dtype)


def _sort(eqn: Eqn, *args: Any) -> list[Any]:
    """Sort by real parts, then by imaginary ones."""
    keys = sum(1 + isinstance(x, Pair) for x in args[: eqn.params["num_keys"]])
    return _grouped(_bind(eqn, _flat(args), num_keys=keys), [v.aval for v in eqn.outvars])


# ------------------------------------------------------------------------------ products of many
def _places(x: Any, axis: int, start: int, stop: int) -> Any:
    where = [slice(None)] * x.ndim
    where[axis] = slice(start, stop)
    return x[tuple(where)]


def _folded(z: Pair, axis: int) -> Pair:
    """Multiply the numbers along an axis, which stays: halves by each other."""
    while (n := z.re.shape[axis]) > 1:
        half = n // 2
        first, second, rest = (
            both(lambda x, a=a, b=b: _places(x, axis, a, b))(z)
            for a, b in ((0, half), (half, 2 * half), (2 * half, n))
        )
        z = multiplied(first, second)
        if n % 2:
            z = both(lambda x, y: fnp.concatenate([x, y], axis))(z, rest)
    return z


def _reduce_prod(eqn: Eqn, z: Pair) -> Pair:
    for axis in eqn.params["axes"]:
        if not z.re.shape[axis]:
            wide = tuple(1 if d == axis else n for d, n in enumerate(z.re.shape))
            z = Pair(fnp.ones(wide, z.re.dtype), fnp.zeros(wide, z.re.dtype))
        z = _folded(z, axis)
    return both(lambda x: x.reshape(eqn.outvars[0].aval.shape))(z)


def _cumprod(eqn: Eqn, z: Pair) -> Pair:
    axis, reverse = eqn.params["axis"], eqn.params["reverse"]
    turn = both(lambda x: fnp.flip(x, axis))
    z, step = turn(z) if reverse else z, 1
    while step < (n := z.re.shape[axis]):
        width = [(0, 0)] * z.re.ndim
        width[axis] = (step, 0)
        moved = Pair(*(
            fnp.pad(_places(x, axis, 0, n - step), width, constant_values=start)
            for x, start in ((z.re, 1), (z.im, 0))
        ))  # fmt: skip
        z = multiplied(z, moved)
        step *= 2
    return turn(z) if reverse else z


def _scatter_by(eqn: Eqn, x: Pair, updates: Pair, *indices: Any) -> Pair:
    """Scatter what is no sum of parts: one place after the other."""
    how = {"scatter_mul": "mul", "scatter_min": "min", "scatter_max": "max"}[eqn.prim.name]
    mode, axes = eqn.params["mode"], eqn.params["axes"]
    lead = indices[0].ndim
    rows = [fnp.reshape(i, (-1,)) for i in indices]
    count = rows[0].shape[0]
    changes = both(lambda u: u.reshape((count, *u.shape[lead:])))(updates)
    read = {"axes": axes, "mode": "clip" if mode == "drop" else mode, "fill": 0}
    write = {"axes": axes, "mode": mode, "unique": True}

    def step(re: Any, im: Any, ure: Any, uim: Any, *here: Any) -> list[Any]:
        old = Pair(*(primitives["gather"].bind(v, *here, **read) for v in (re, im)))
        new = FORMULAS[how](old, Pair(ure, uim))
        parts = ((re, new.re), (im, new.im))
        return [primitives["scatter"].bind(v, u, *here, **write) for v, u in parts]

    given = [x.re, x.im, changes.re, changes.im, *rows]
    avals = [v.aval for v in given[:2]]
    avals += [ShapedArray(v.shape[1:], v.dtype) for v in given[2:]]
    body = stage(step, avals)
    return Pair(*primitives["scan"].bind(
        *body.consts, *given, jaxpr=body.hoisted(), num_consts=len(body.consts), num_carry=2,
        length=count, reverse=False,
    ))  # fmt: skip


# ------------------------------------------------------------------------------ loops and branches
def _flat(values: Iterable[Any]) -> list[Any]:
    """Return arrays, the parts of pairs one after the other."""
    return [x for v in values for x in ((v.re, v.im) if isinstance(v, Pair) else (v,))]


def _flat_avals(avals: Iterable[ShapedArray]) -> list[ShapedArray]:
    found = []
    for a in avals:
        if dtypes.is_complex(a.dtype):
            found += [ShapedArray(a.shape, dtypes.real_dtype(a.dtype), a.weak_type)] * 2
        else:
            found.append(a)
    return found


def _grouped(flat: Sequence[Any], avals: Iterable[ShapedArray]) -> list[Any]:
    """Return values of some types, of which `_flat` gave these."""
    parts = iter(flat)
    return [
        Pair(next(parts), next(parts)) if dtypes.is_complex(a.dtype) else next(parts) for a in avals
    ]


class _Reals:
    """Runs programs by pairs; ``written`` writes what has no rule here, which is also done with
    the equations of reals that ``apart`` names."""

    def __init__(self, written: Written, apart: frozenset[str]) -> None:
        self.written, self.apart = written, apart

    def body(self, jaxpr: Jaxpr) -> Jaxpr:
        """Return a program of parts; its constants are what it needs besides."""
        avals = jaxpr.in_avals

        def run(*flat: Any) -> list[Any]:
            return _flat(self.run(jaxpr, _grouped(flat, avals)))

        return stage(run, _flat_avals(avals))

    def run(self, jaxpr: Jaxpr, args: Sequence[Any]) -> list[Any]:
        """Run a program on arrays and pairs."""
        env: dict[Any, Any] = dict(zip(jaxpr.invars, args, strict=True))
        env.update((v, _value(c)) for v, c in zip(jaxpr.constvars, jaxpr.consts, strict=True))

        def value(v: Any) -> Any:
            return _value(v.val) if isinstance(v, Lit) else env[v]

        saved = _state.source
        try:
            for eqn in jaxpr.eqns:
                _state.source = eqn.source or saved
                found = self.step(eqn, [value(v) for v in eqn.invars])
                many = eqn.prim.multiple_results
                env.update(zip(eqn.outvars, found if many else [found], strict=True))
        except NotExpressible as error:
            raise error if " at " in str(error) else NotExpressible(why(eqn, str(error))) from None
        finally:
            _state.source = saved
        return [value(v) for v in jaxpr.outvars]

    def step(self, eqn: Eqn, args: list[Any]) -> Any:
        name = eqn.prim.name
        if name in _NESTED:
            return _NESTED[name](self, eqn, args)
        if not _is_complex(eqn) and name not in self.apart:
            return _bind(eqn, args)
        if _is_complex(eqn) and name in PAIRED:
            return PAIRED[name](eqn, *args)
        program = self.written(eqn)
        if program is None:
            if _is_complex(eqn):
                raise NotExpressible("of complex numbers has no counterpart")
            return _bind(eqn, args)
        inner = stage(lambda *xs: _listed(program(*xs)), [v.aval for v in eqn.invars])
        outs = self.run(inner, args)
        return outs if eqn.prim.multiple_results else outs[0]


def _listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, (list, tuple)) else [found]


def _value(x: Any) -> Any:
    return _constant(np.asarray(x._data)) if dtypes.is_complex(x.dtype) else x


def _is_complex(eqn: Eqn) -> bool:
    return any(dtypes.is_complex(v.aval.dtype) for v in (*eqn.invars, *eqn.outvars))


def _scan(reals: _Reals, eqn: Eqn, args: list[Any]) -> list[Any]:
    p, avals = eqn.params, eqn.params["jaxpr"].in_avals
    body = reals.body(p["jaxpr"])
    consts, carries = p["num_consts"], p["num_carry"]
    counts = [len(_flat_avals(part)) for part in (avals[:consts], avals[consts : consts + carries])]
    outs = eqn.prim.bind(*body.consts, *_flat(args), **{
        **p, "jaxpr": body.hoisted(), "num_consts": len(body.consts) + counts[0],
        "num_carry": counts[1],
    })  # fmt: skip
    return _grouped(outs, [v.aval for v in eqn.outvars])


def _while(reals: _Reals, eqn: Eqn, args: list[Any]) -> list[Any]:
    p = eqn.params
    nc, nb = p["cond_nconsts"], p["body_nconsts"]
    cond, body = reals.body(p["cond_jaxpr"]), reals.body(p["body_jaxpr"])
    own = [_flat(args[:nc]), _flat(args[nc : nc + nb])]
    outs = eqn.prim.bind(
        *cond.consts, *own[0], *body.consts, *own[1], *_flat(args[nc + nb :]),
        **{
            **p, "cond_jaxpr": cond.hoisted(), "body_jaxpr": body.hoisted(),
            "cond_nconsts": len(cond.consts) + len(own[0]),
            "body_nconsts": len(body.consts) + len(own[1]),
        },
    )  # fmt: skip
    return _grouped(outs, [v.aval for v in eqn.outvars])


def _cond(reals: _Reals, eqn: Eqn, args: list[Any]) -> list[Any]:
    """Every branch takes the constants of all."""
    index, *rest = args
    branches = [reals.body(b) for b in eqn.params["branches"]]
    consts = [c for b in branches for c in b.consts]
    shared = [v for b in branches for v in b.constvars]
    same = [Jaxpr([*shared, *b.invars], b.eqns, b.outvars) for b in branches]
    params = {**eqn.params, "branches": tuple(same)}
    outs = eqn.prim.bind(index, *consts, *_flat(rest), **params)
    return _grouped(outs, [v.aval for v in eqn.outvars])


_NESTED = {"scan": _scan, "while": _while, "cond": _cond}

_EACH = (
    "add", "sub", "neg", "copy", "stop_gradient", "optimization_barrier", "select",
    "broadcast_in_dim", "reshape", "transpose", "rev", "concatenate", "split", "pad", "slice",
    "dynamic_slice", "dynamic_update_slice", "scatter", "scatter_add", "reduce_sum", "cumsum",
    "windows", "overlap_add", "reduce_window_sum", "interchange",
)  # fmt: skip

PAIRED: dict[str, Callable[..., Any]] = {
    **{name: _formula(f) for name, f in FORMULAS.items()},
    **dict.fromkeys(_EACH, _each),
    "gather": _gather, "dot_general": _product, "conv_general_dilated": _product,
    "iota": _iota, "convert": _convert, "sort": _sort, "fft": _fft,
    "fft_table": _fft_table, "reduce_prod": _reduce_prod, "cumprod": _cumprod,
    **dict.fromkeys(("scatter_mul", "scatter_min", "scatter_max"), _scatter_by),
}  # fmt: skip
"""By primitive, where complex numbers are: ``rule(equation, *arrays or pairs)``."""


# ------------------------------------------------------------------------------ whole programs
def has_complex(jaxpr: Jaxpr) -> bool:
    """Tell whether there is a complex number in a program or in those inside of it."""
    own = [*jaxpr.invars, *jaxpr.constvars, *jaxpr.outvars]
    atoms = [v for e in jaxpr.eqns for v in (*e.invars, *e.outvars)]
    if any(dtypes.is_complex(v.aval.dtype) for v in (*own, *atoms)):
        return True
    return any(has_complex(sub) for e in jaxpr.eqns for sub in sub_jaxprs(e.params))


def as_reals(jaxpr: Jaxpr, written: Written, apart: frozenset[str] = frozenset()) -> Jaxpr:
    """Return a program of reals; complex inputs and results get a last axis of 2.

    Args:
        jaxpr: the program, its sizes numbers.
        written: writes an equation of complex numbers in others, where there is no rule for it.
        apart: names of primitives that it writes of reals, too.

    Raises:
        NotExpressible: there is no rule for an equation; the message names its line.
    """
    reals = _Reals(written, apart)

    def outer(a: ShapedArray) -> ShapedArray:
        if not dtypes.is_complex(a.dtype):
            return a
        return ShapedArray((*a.shape, 2), dtypes.real_dtype(a.dtype))

    def run(*args: Any) -> list[Any]:
        given = [
            _parted(x) if dtypes.is_complex(v.aval.dtype) else x
            for x, v in zip(args, jaxpr.invars, strict=True)
        ]
        return [_joined(z) if isinstance(z, Pair) else z for z in reals.run(jaxpr, given)]

    return stage(run, [outer(a) for a in jaxpr.in_avals])
