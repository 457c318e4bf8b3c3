"""Mixed precision as a transform: products and convolutions compute in a narrower dtype.

Only the operands of those operations are narrowed, and their results come back as float32, so the
dtypes of a program's values do not change: reductions, losses, normalisations and everything else
stay in float32. Derivatives pass through the same conversions, so theirs are narrow too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Primitive, Trace, _state, aval_of, current
from funtorch.jaxpr import Jaxpr, eval_jaxpr, stage
from funtorch.ops.attention import attention_grad_p, attention_p, attention_tangent_p, narrowed
from funtorch.ops.contract import dot_general_p
from funtorch.ops.conv import conv_general_dilated_p
from funtorch.ops.elementwise import convert
from funtorch.tracebacks import boundary

from .arguments import check_callable

__all__ = ["autocast"]

# What gains by narrow operands: bilinear, most of the work, and summed in float32 inside.
_NARROWED = frozenset({dot_general_p, conv_general_dilated_p})
_ATTENTION = frozenset({attention_p, attention_tangent_p, attention_grad_p})
_WIDE = np.dtype(np.float32)
_NARROW = tuple(map(np.dtype, (dtypes.bfloat16, np.float16)))
# The functions that calls with rules of their own carry.
_RULES = ("fun", "jvp", "fwd", "bwd")


class Autocast(Trace):
    """Narrow the operands of products; run everything else as it is."""

    __slots__ = ("dtype",)

    def __init__(self, parent: Trace, dtype: Any, fun: Any) -> None:
        super().__init__(parent, fun)
        self.dtype = dtype

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        saved, _state.trace = _state.trace, self.parent
        try:
            if prim in _ATTENTION and aval_of(args[0]).dtype == _WIDE:
                return self._attention(prim, args, params)
            if prim not in _NARROWED:
                return prim.bind(*args, **self._inside(params))
            if any(aval_of(a).dtype != _WIDE for a in args):
                return prim.bind(*args, **params)
            narrow = [convert(a, dtype=self.dtype) for a in args]
            # Their sums are rounded too, so that what comes back in the gradient is narrow.
            if params.get("out_dtype") is not None:
                params = {**params, "out_dtype": self.dtype}
            return convert(prim.bind(*narrow, **params), dtype=_WIDE)
        finally:
            _state.trace = saved

    def _attention(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Narrow all but the masks and what the softmax left."""
        places = narrowed(prim, len(args), params)
        given = [convert(a, dtype=self.dtype) if k in places else a for k, a in enumerate(args)]
        found = prim.bind(*given, **params)
        outs = found if prim.multiple_results else [found]
        outs = [convert(x, dtype=_WIDE) if aval_of(x).dtype != _WIDE else x for x in outs]
        return outs if prim.multiple_results else outs[0]

    def _inside(self, params: dict[str, Any]) -> dict[str, Any]:
        """Cast the programs and functions among parameters too."""

        def cast(value: Any) -> Any:
            if isinstance(value, Jaxpr):
                return _program(value, self.dtype)
            if type(value) is tuple and any(isinstance(v, Jaxpr) for v in value):
                return tuple(map(cast, value))
            return value

        cast_params = {name: cast(value) for name, value in params.items()}
        for name in _RULES:
            if callable(params.get(name)):
                cast_params[name] = functools.partial(_run, params[name], self.dtype)
        return cast_params


def _run(f: Callable[..., Any], dtype: Any, *args: Any, **kwargs: Any) -> Any:
    with Autocast(current(), dtype, f):
        return f(*args, **kwargs)


def _program(jaxpr: Jaxpr, dtype: Any) -> Jaxpr:
    key = ("autocast", dtype)
    if key not in jaxpr.memo:
        avals = [v.aval for v in jaxpr.invars]
        body = functools.partial(eval_jaxpr, jaxpr)
        jaxpr.memo[key] = stage(functools.partial(_run, body, dtype), avals)
    return jaxpr.memo[key]


def autocast(fun: Callable[..., Any], *, dtype: Any = dtypes.bfloat16) -> Callable[..., Any]:
    """Make a function compute its products and convolutions in a 16-bit dtype.

    The operands of float32 products and convolutions, also of those in loops, branches, jitted
    and differentiated functions, are converted to ``dtype``; their results are float32 again.
    All other operations stay as they are, and so do the dtypes of arguments and results. In a
    gradient of the new function, the products of the backward pass are narrow too.

    Args:
        fun: a function of arrays or pytrees of arrays.
        dtype: bfloat16, or float16, whose gradients want a scaled loss: see `funtorch.amp`.

    Returns:
        A function of the same arguments and results.

    Raises:
        TypeError: ``fun`` is no function.
        ValueError: ``dtype`` is another one.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> x = fnp.array([[1.0, 2.0**-10]])
        >>> float((x @ x.T - 1)[0, 0]), float(ft.autocast(lambda x: x @ x.T - 1)(x)[0, 0])
        (9.5367431640625e-07, 0.0)

    References:
        Micikevicius et al., "Mixed precision training", ICLR (2018).
    """
    check_callable(fun, "autocast")
    narrow = np.dtype(dtype)
    if narrow not in _NARROW:
        raise ValueError(f"autocast takes dtype bfloat16 or float16, got {narrow.name}")

    @boundary
    @functools.wraps(fun)
    def cast(*args: Any, **kwargs: Any) -> Any:
        return _run(fun, narrow, *args, **kwargs)

    return cast
