"""Values divided over an axis, or the same along it, and the passage between the two.

Inside `shard_map` every process differentiates the loss that it computes itself. Where all
processes of an axis compute the same loss of a value that they summed together, as in a model whose
layers are divided, plain `lax.psum` would count the loss once for each: `copied` and `summed`
count it once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import funtorch.numpy as fnp
from funtorch import lax, tree
from funtorch.transforms import custom_vjp
from funtorch.transforms.varying import in_body

from .averaging import is_mapped, widened

__all__ = ["copied", "pipeline", "summed"]


def _sum(x: Any, axis_name: Any) -> Any:
    return tree.map(lambda v: lax.psum(widened(v), axis_name).astype(v.dtype), x)


def copied(x: Any, axis_name: Hashable = "model") -> Any:
    """Hand a value that all processes of an axis have to the different things that each one does.

    It is the value itself. What each process does with it adds to its gradient, so the gradient is
    summed over the axis. This stands before a layer whose outputs are divided.

    Args:
        x: pytree of arrays of floats, the same along the axis.
        axis_name: the axis. Outside of any mapped axis nothing happens.

    Returns:
        ``x``.

    Raises:
        NameError: other axes are mapped here, but not this one.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch.parallel import copied, summed
        >>> f = lambda x, w: summed(w * copied(x, "model"), "model")
        >>> w = fnp.array([2.0, 3.0])
        >>> ft.vmap(ft.value_and_grad(f), (None, 0), axis_name="model")(fnp.ones(()), w)
        (Array([5., 5.], dtype=float32), Array([5., 5.], dtype=float32))

    References:
        M. Shoeybi et al., "Megatron-LM: training multi-billion parameter language models using
        model parallelism", 2019 (its operators f and g).
    """
    if not is_mapped(axis_name) or in_body():
        return x
    function = custom_vjp(lambda v: v)
    function.defvjp(lambda v: (v, None), lambda _, ct: (_sum(ct, axis_name),))
    return function(x)


def summed(x: Any, axis_name: Hashable = "model") -> Any:
    """Sum a value over an axis, for what all its processes then do alike.

    Unlike with `lax.psum`, the gradient is that of one process, since all have the same. This
    stands after a layer whose inputs are divided.

    Args:
        x: pytree of arrays of floats. float16 and bfloat16 are summed in float32.
        axis_name: the axis. Outside of any mapped axis nothing happens.

    Returns:
        The sums, the same everywhere.

    Raises:
        NameError: other axes are mapped here, but not this one.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch.parallel import summed
        >>> ft.vmap(summed, axis_name="model")(fnp.array([1.0, 2.0]))
        Array([3., 3.], dtype=float32)
    """
    if not is_mapped(axis_name):
        return x
    if in_body():  # shard_map itself counts what is the same once
        return _sum(x, axis_name)
    function = custom_vjp(lambda v: _sum(v, axis_name))
    function.defvjp(lambda v: (_sum(v, axis_name), None), lambda _, ct: (ct,))
    return function(x)


def pipeline(
    stage: Callable[[Any, Any], Any], params: Any, x: Any, axis_name: Hashable = "stage"
) -> Any:
    """Send micro-batches through the stages of a model, one stage in each process (GPipe).

    At each of the M + S - 1 ticks of M micro-batches and S stages every process applies its stage,
    and hands the result to the next one; so a share of (S - 1) / (M + S - 1) is idle.
    Gradients go the same way back.

    Args:
        stage: ``stage(params, x)``: one stage; it gives an array of the shape of ``x``, and must
            be finite for zeros, which it gets while the pipeline fills.
        params: this process's parameters: `shard_map` divides stacked ones along the axis.
        x: (micro-batches, ...), the same along the axis.
        axis_name: the axis, on which process k is stage k. Outside of any mapped axis, ``params``
            are those of all stages, stacked, and one process applies them one after the other.

    Returns:
        What the last stage gave, (micro-batches, ...), the same along the axis.

    Raises:
        NameError: other axes are mapped here, but not this one.
        ValueError: a stage gives another shape or dtype than it takes.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch.parallel import pipeline
        >>> stage = lambda w, x: w * x
        >>> x = fnp.array([[1.0], [2.0], [3.0]])
        >>> run = ft.vmap(lambda w: pipeline(stage, w, x)[:, 0], axis_name="stage")
        >>> run(fnp.array([2.0, 5.0]))
        Array([[10., 20., 30.],
               [10., 20., 30.]], dtype=float32)

    References:
        Y. Huang et al., "GPipe: efficient training of giant neural networks using pipeline
        parallelism", NeurIPS 2019.
    """
    x = fnp.asarray(x)
    if not is_mapped(axis_name):
        return lax.scan(lambda h, p: (_through(stage, p, h), None), x, params)[0]
    stages, place, count = lax.axis_size(axis_name), lax.axis_index(axis_name), len(x)
    x = copied(x, axis_name)
    onwards = [(k, k + 1) for k in range(stages - 1)]
    last = place == stages - 1

    def tick(received: Any, t: Any) -> tuple[Any, Any]:
        fresh = lax.dynamic_index_in_dim(x, fnp.minimum(t, count - 1), keepdims=False)
        given = stage(params, fnp.where(place == 0, fresh, received))
        _check_kept(received, given)
        return lax.ppermute(given, axis_name, onwards), given

    ticks = fnp.arange(count + stages - 1)
    given = lax.scan(tick, fnp.zeros_like(x[0]), ticks)[1][stages - 1 :]
    return summed(fnp.where(last, given, 0), axis_name)


def _through(stage: Callable[[Any, Any], Any], params: Any, x: Any) -> Any:
    """Apply a stage to all micro-batches, each by itself."""
    out = lax.map(lambda part: stage(params, part), x)
    _check_kept(x, out)
    return out


def _check_kept(x: Any, out: Any) -> None:
    if (out.shape, out.dtype) != (x.shape, x.dtype):
        raise ValueError(
            f"pipeline: a stage took {x.dtype}{list(x.shape)} and gave {out.dtype}"
            f"{list(out.shape)}; the next stage needs what it took. Put layers that change the "
            "shape before or after the pipeline"
        )
