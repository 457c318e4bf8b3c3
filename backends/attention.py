"""Attention where its arrays lie: heads that are transposed or sliced views need no copies.

Queries, keys, values, what is made of them and all cotangents may be views of other arrays, as
products' operands may (see `products`), if their features lie side by side.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence

from funtorch.jaxpr import Eqn, Lit, Var

from .plan import Attention
from .products import Strides, destination, in_order, source

__all__ = ["Made", "attending", "made_where", "row_major_step"]

_LANES = 8  # elements of 16 bits that kernels read at once: rows begin at multiples of it

Made = tuple[list[tuple[Var, Strides]], list[Eqn]]
"""Where results are written, and the equations that this does."""


def _operands(eqn: Eqn) -> tuple[int, ...]:
    """Return the positions of the operands that are read where they lie: neither masks nor what is
    known of rows."""
    last = len(eqn.invars)
    return (0, 1, 2) if eqn.prim.name == "attention" else (0, 1, 2, last - 4, last - 1)


def _results(eqn: Eqn) -> range:
    """Return the positions of the results that are written where they go."""
    return range(1 if eqn.prim.name == "attention" else len(eqn.outvars))


def _reads_anywhere(eqn: Eqn, v: Var) -> bool:
    """Tell whether an equation reads an array, attention's result, wherever it lies."""
    places = [k for k, u in enumerate(eqn.invars) if u is v]
    return eqn.prim.name == "attention_grad" and places == [len(eqn.invars) - 4]


def _written(
    v: Var, readers: Mapping[Var, list[Eqn]], moves: set[Eqn], outputs: set[Var]
) -> tuple[Var, tuple[int, ...], list[Eqn]]:
    """Return where an array may be written, as `destination` does; a reshape that takes or adds
    axes of size 1 may come first."""
    found = readers.get(v, ())
    if len(found) == 1 and v not in outputs and found[0] in moves:
        eqn, out = found[0], found[0].outvars[0]
        mine, its = ([n for n in x.aval.shape if n != 1] for x in (v, out))
        if eqn.prim.name == "reshape" and mine == its:
            at, strides, passed = destination(out, readers, moves, outputs)
            long = iter([s for n, s in zip(out.aval.shape, strides, strict=True) if n != 1])
            return at, tuple(next(long) if n != 1 else 0 for n in v.aval.shape), [eqn, *passed]
    return destination(v, readers, moves, outputs)


def made_where(eqn: Eqn, readers: dict[Var, list[Eqn]], moves: set[Eqn], outputs: set[Var]) -> Made:
    """Return where an equation's results may be written instead of arrays of their own."""
    outs, passed = [in_order(v) for v in eqn.outvars], list[Eqn]()
    for k in _results(eqn):
        v = eqn.outvars[k]
        others = [e for e in readers.get(v, ()) if not _reads_anywhere(e, v)]
        at, strides, done = _written(v, ChainMap({v: others}, readers), moves, outputs)
        if strides[-1] == 1:
            outs[k] = at, (0, strides)
            passed += done
    return outs, passed


def attending(
    eqn: Eqn,
    made: Made,
    eqn_of: dict[Var, Eqn],
    moves: set[Eqn],
    held: set[Var],
    stored: Mapping[Var, Var],
    results: Mapping[Var, tuple[Var, Strides]],
) -> Attention:
    """Return the step of an equation, which reads operands where they lie.

    Args:
        made: where its results are written.
        eqn_of: by what they make, the equations of the program.
        moves: those that are movements.
        held: the arrays that are in memory in any case.
        stored: others that are so in another shape, which is what they stand for.
        results: where those of such equations are.
    """
    held = {*held, *stored}
    ins: list[tuple[Var | Lit, Strides]] = [in_order(v) for v in eqn.invars]
    for k in _operands(eqn):
        v = eqn.invars[k]
        if isinstance(v, Var) and v in results:
            ins[k] = results[v]  # elsewhere only where one number is read at a time
        elif isinstance(v, Var):
            at, (offset, strides) = source(v, eqn_of, moves, held)
            begins = [offset, *strides[:-1]]
            if strides[-1] == 1 and all(s >= 0 and s % _LANES == 0 for s in begins):
                ins[k] = stored.get(at, at), (offset, strides)
    return _step(eqn, ins, made[0])


def row_major_step(eqn: Eqn) -> Attention:
    """Return the step of an equation whose arrays are all in memory of their own, row-major."""
    return _step(eqn, [in_order(v) for v in eqn.invars], [in_order(v) for v in eqn.outvars])


def _step(
    eqn: Eqn, ins: Sequence[tuple[Var | Lit, Strides]], outs: Sequence[tuple[Var, Strides]]
) -> Attention:
    places = tuple(place for _, place in (*ins, *outs))
    return Attention(eqn, tuple(v for v, _ in ins), tuple(v for v, _ in outs), places)
