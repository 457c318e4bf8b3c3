"""Eager work on large arrays as compiled programs, where NumPy takes several times as long.

A primitive, or a function of several, is jitted as it is, once for each set of its static
arguments; `jit` then compiles it for types, and for any size after the second one. Elementwise
functions that NumPy has vector code for, views, and calls of BLAS and LAPACK stay NumPy's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch.config import config
from funtorch.core import Eval, Primitive, eval_trace, primitives, use_trace
from funtorch.numpy.direct import LARGE, SORTED

from ..backends.coverage import ELEMENTWISE
from .jit import Jitted
from .varying import in_body

__all__ = ["LEAST"]


_OTHERS = """
select is_finite masked_mul integer_pow nextafter clz population_count
reduce_sum reduce_prod reduce_max reduce_min reduce_and reduce_or reduce_xor argmax argmin
cumsum cumprod cummax cummin cumlogsumexp overlap_add window_argmax window_argmin
reduce_window_sum reduce_window_max reduce_window_min
gather scatter scatter_add scatter_mul scatter_min scatter_max
"""
LEAST: dict[str, int] = {
    **{name: LARGE for name, row in ELEMENTWISE.items() if row.heavy and row.results == 1},
    **dict.fromkeys(_OTHERS.split(), LARGE),
    "conv_general_dilated": 1 << 13,
    "dot_general": 1 << 13,
    "fft": 1 << 12,
    "sort": SORTED,
}
"""Elements of its largest operand from which a primitive is compiled, by name."""

for _name, _least in LEAST.items():
    primitives[_name].large = _least


@functools.lru_cache(1024)
def _jitted(
    function: Callable[..., Any], nums: tuple[int, ...], names: frozenset[str]
) -> Callable[..., Any]:
    return Jitted(function, nums, names, (), frozenset())


_STATIC = (int, str, tuple, type(None), type, np.dtype)


def _compiled(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    lists = any(isinstance(x, list) for x in (*args, *kwargs.values()))
    if lists or config.disable_jit or in_body():
        return NotImplemented
    nums = tuple([k for k, x in enumerate(args) if isinstance(x, _STATIC)])
    names = frozenset([k for k, x in kwargs.items() if isinstance(x, _STATIC)])
    if len(names) < len(kwargs) and isinstance(getattr(function, "__self__", None), Primitive):
        return NotImplemented  # a parameter is an array, such as what fills gaps
    with use_trace(eval_trace):  # a tape may be current
        return _jitted(function, nums, names)(*args, **kwargs)


Eval.compiled = staticmethod(_compiled)  # type: ignore[method-assign]
