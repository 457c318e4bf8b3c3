"""Functions of several operations, called over and over outside of jit on small arrays.

Compiling them would take longer than most of their calls together, and their results could change
in the last bit with the number of calls. So what a function does to arguments of such types is
written down, as for a program, and becomes a Python function of NumPy arrays
(`backends/straight.py`): that computes the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch.config import config
from funtorch.core import ArrayImpl, Eval, ShapedArray, _state

from ..backends.straight import straight
from .passes import drop_dead, inline
from .staging import stage_tree
from .varying import in_body

__all__ = ["AFTER"]

AFTER = 16
"""Calls with arguments of equal types after which a function is written down, which takes as long
as a hundred calls."""

_MOST = 4096  # kinds of calls that are counted or kept; then all are forgotten
_KEYED = frozenset({int, bool, str, type(None), type, np.dtype})
_ndarray = np.ndarray
_known: dict[tuple[Any, ...], Any] = {}  # how often a kind of call came, or what computes it


def _repeated(function: Callable[..., Any], args: Sequence[Any], options: dict[str, Any]) -> Any:
    """Return what a call gives; NotImplemented where it is to be done one by one."""
    key, buffers = [function, config.token], []
    add = key.append
    if options:
        key += options
        args = (*args, *options.values())
    for x in args:
        kind = type(x)
        if kind is ArrayImpl:
            data = x._data
            if x._weak or type(data) is not _ndarray:
                return NotImplemented
            add(data.shape)
            add(data.dtype)
            buffers.append(data)
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
        found = _met(known, found, function, args, tuple(options))
    if found is None:
        return NotImplemented
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
) -> Any:
    """Count a call; after enough of them return what computes it."""
    if len(_known) >= _MOST:
        _known.clear()
    if count < AFTER or config.disable_jit or in_body():
        _known[key] = count + 1
        return None
    try:
        _known[key] = found = _written(function, values, names)
    except Exception:  # the call itself says what is wrong with it
        _known[key] = found = None
    return found


def _written(function: Callable[..., Any], values: Sequence[Any], names: tuple[str, ...]) -> Any:
    """Return what computes calls like this one: a function of buffers, which of its results are
    weak, and their structure; only one of each for a single array."""
    arrays = [x for x in values if type(x) is ArrayImpl]
    count = len(values) - len(names)

    def call(*operands: Any) -> Any:
        rest = iter(operands)
        given = [next(rest) if type(x) is ArrayImpl else x for x in values]
        return function(*given[:count], **dict(zip(names, given[count:], strict=True)))

    avals = [ShapedArray(x.shape, x.dtype) for x in arrays]
    jaxpr, treedef = stage_tree(call, tree.structure((tuple(arrays), {})), avals)
    jaxpr = drop_dead(inline(jaxpr))
    weak = [v.aval.weak_type for v in jaxpr.outvars]
    single = treedef == tree.structure(0)
    compute = straight(jaxpr, single)
    if compute is None:
        return None
    return (compute, weak[0], None) if single else (compute, weak, treedef)


Eval.repeated = staticmethod(_repeated)  # type: ignore[method-assign]
