"""Functions of several operations, called over and over outside of jit on small arrays.

Compiling them would take longer than most of their calls together, and their results could change
in the last bit with the number of calls. So what a function does to arguments of such types is
written down, as for a program, and becomes a Python function of NumPy arrays
(`backends/straight.py`): that computes the same, bit for bit. Random draws are the same bit for
bit when they are compiled, too, which they are after some more calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch.config import config
from funtorch.core import ArrayImpl, Eval, _state
from funtorch.numpy.scalars import ScalarMeta
from funtorch.random.keys import KeyArray

from ..backends.straight import straight
from .passes import drop_dead, inline
from .staging import stage_tree
from .varying import in_body

__all__ = ["AFTER", "OFTEN"]

AFTER = 16
"""Calls with arguments of equal types after which a function is written down, which takes as long
as a hundred calls."""

OFTEN = 64
"""Calls after which a random draw is compiled."""

_COMPILED = object()
_MOST = 4096  # kinds of calls that are counted or kept; then all are forgotten
_KEYED = frozenset({int, bool, str, type(None), type, ScalarMeta, np.dtype})
_ARRAYS = (ArrayImpl, KeyArray)
_ndarray = np.ndarray
_known: dict[tuple[Any, ...], Any] = {}  # how often a kind of call came, or what computes it


def _repeated(
    function: Callable[..., Any], args: Sequence[Any], options: dict[str, Any], exact: bool = False
) -> Any:
    """Return what a call gives; NotImplemented where it is to be done one by one.

    ``exact``: the function compiled gives the same bits.
    """
    values = (*args, *options.values()) if options else args
    key, buffers = [function, config.token], []
    add = key.append
    if options:
        key += options
    for x in values:
        kind = type(x)
        if kind is ArrayImpl:
            data = x._data
            if x._weak or type(data) is not _ndarray:
                return NotImplemented
            add(data.shape)
            add(data.dtype)
            buffers.append(data)
        elif kind is KeyArray and type(x._words) is ArrayImpl:
            add(kind)
            add(x._words._data.shape)
            buffers.append(x._words._data)
        else:
            if kind is float:
                x = x or str(x)  # 0.0 and -0.0 are equal
            elif kind not in _KEYED and not (kind is tuple and {int}.issuperset(map(type, x))):
                return NotImplemented
            add(kind)
            add(x)
    known = tuple(key)
    found = _known.get(known, 0)
    if type(found) is int:
        found = _met(known, found, function, values, tuple(options), exact)
    if found is None:
        return NotImplemented
    if found is _COMPILED:
        return Eval.compiled(function, args, options)
    compute, weak, treedef = found
    out = _state.quiet(compute, *buffers)
    if treedef is None:
        return ArrayImpl(out, weak)
    return treedef.unflatten([ArrayImpl(x, w) for x, w in zip(out, weak, strict=True)])


def _met(
    key: tuple[Any, ...],
    count: int,
    function: Callable[..., Any],
    values: Sequence[Any],
    names: tuple[str, ...],
    exact: bool,
) -> Any:
    """Count a call; after enough of them return what computes it."""
    if len(_known) >= _MOST:
        _known.clear()
    if count < (OFTEN if exact else AFTER) or config.disable_jit or in_body():
        _known[key] = count + 1
        return None
    if exact:
        _known[key] = _COMPILED
        return _COMPILED
    try:
        _known[key] = found = _written(function, values, names)
    except Exception:  # the call itself says what is wrong with it
        _known[key] = found = None
    return found


def _written(function: Callable[..., Any], values: Sequence[Any], names: tuple[str, ...]) -> Any:
    """Return what computes calls like this one: a function of buffers, which of its results are
    weak, and their structure; only one of each for a single array."""
    arrays = [x for x in values if type(x) in _ARRAYS]
    count = len(values) - len(names)

    def call(*operands: Any) -> Any:
        rest = iter(operands)
        given = [next(rest) if type(x) in _ARRAYS else x for x in values]
        return function(*given[:count], **dict(zip(names, given[count:], strict=True)))

    leaves, operands = tree.flatten((tuple(arrays), {}))
    jaxpr, treedef = stage_tree(call, operands, [x.aval for x in leaves])
    jaxpr = drop_dead(inline(jaxpr))
    weak = [v.aval.weak_type for v in jaxpr.outvars]
    single = treedef == tree.structure(0)
    compute = straight(jaxpr, single)
    if compute is None:
        return None
    return (compute, weak[0], None) if single else (compute, weak, treedef)


Eval.repeated = staticmethod(_repeated)  # type: ignore[assignment, method-assign]
