"""Measuring updates on their way, and functions of large batches in small parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import funtorch.numpy as fnp
from funtorch import lax, tree
from funtorch.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    chain,
    piece,
    piece_with_extra,
    stateless,
    with_extra_args_support,
    zero_count,
)
from funtorch.optim.moments import ema
from funtorch.transforms import eval_shape

__all__ = ["MonitorState", "SnapshotState", "measure_with_ema", "microbatch", "monitor", "snapshot"]


class SnapshotState(NamedTuple):
    """The last measurement, by its name."""

    measurement: dict[str, Any]


class MonitorState(NamedTuple):
    """The last measurements by name, and what they remember."""

    measurements: dict[str, Any]
    measure_states: tuple[Any, ...]


def snapshot(measure_name: str, measure: Callable[[Any], Any]) -> GradientTransformation:
    """Keep a measurement of the updates in the state, and pass them on.

    Args:
        measure_name: its name; `tree.get` finds it by this.
        measure: function of updates.

    Returns:
        The transformation.

    Example:
        >>> t = optim.chain(optim.snapshot("norm", optim.global_norm), optim.scale(-1.0))
        >>> _, state = t.update([fnp.array([3.0, 4.0])], t.init([fnp.zeros(2)]))
        >>> optim.tree.get(state, "norm")
        Array(5., dtype=float32)
    """

    def init(params: Any) -> SnapshotState:
        return SnapshotState({measure_name: measure(params)})

    def update(updates: Any, state: SnapshotState, params: Any) -> tuple[Any, SnapshotState]:
        return updates, SnapshotState({measure_name: measure(updates)})

    return piece(SnapshotState, init, update)


def monitor(
    measures: Mapping[str, Callable[[Any], Any] | GradientTransformation],
) -> GradientTransformationExtraArgs:
    """Keep several measurements of the updates in the state, and pass them on.

    Args:
        measures: by name, functions of updates, or transformations of updates to measurements.

    Returns:
        The transformation.

    Example:
        >>> t = optim.monitor({"norm": optim.global_norm, "largest": optim.tree.max})
        >>> _, state = t.update([fnp.array([3.0, 4.0])], t.init([fnp.zeros(2)]))
        >>> state.measurements
        {'norm': Array(5., dtype=float32), 'largest': Array(4., dtype=float32)}
    """

    def as_transformation(measure: Any) -> GradientTransformationExtraArgs:
        if callable(measure):
            return with_extra_args_support(stateless(lambda updates, params: measure(updates)))
        return with_extra_args_support(measure)

    parts = {name: as_transformation(m) for name, m in measures.items()}

    def init(params: Any) -> MonitorState:
        states = tuple([part.init(params) for part in parts.values()])
        found = [
            part.update(params, state, params)[0]
            for part, state in zip(parts.values(), states, strict=True)
        ]
        # Measurements of the parameters have the shapes of those to come: no program changes.
        return MonitorState(
            {k: tree.map(fnp.zeros_like, v) for k, v in zip(parts, found, strict=True)}, states
        )

    def update(
        updates: Any, state: MonitorState, params: Any = None, **extra: Any
    ) -> tuple[Any, MonitorState]:
        found, states = {}, []
        for (name, part), own in zip(parts.items(), state.measure_states, strict=True):
            found[name], own = part.update(updates, own, params, **extra)
            states.append(own)
        return updates, MonitorState(found, tuple(states))

    return piece_with_extra(MonitorState, init, update)


def measure_with_ema(
    measure: Callable[[Any], Any], decay: float, debias: bool = True, accumulator_dtype: Any = None
) -> GradientTransformationExtraArgs:
    """Average a measurement over steps: for `monitor`.

    Args:
        measure: function of updates.
        decay: how much of the average stays at each step.
        debias: whether to correct for its start at zero.
        accumulator_dtype: of the average.

    Returns:
        A transformation of updates to the measurement.

    Example:
        >>> t = optim.measure_with_ema(optim.global_norm, 0.5)
        >>> t.update([fnp.array([3.0, 4.0])], t.init([fnp.zeros(2)]))[0]
        Array(5., dtype=float32)
    """
    average = ema(decay, debias, accumulator_dtype)

    def init(params: Any) -> Any:
        return average.init(measure(params))

    return chain(stateless(lambda updates, params: measure(updates)), average._replace(init=init))


# ------------------------------------------------------------------------------------ small batches
_ACCUMULATORS = ("sum", "mean", "concat")


def microbatch(
    fun: Callable[..., Any],
    argnums: int | tuple[int, ...],
    microbatch_size: int | None,
    accumulator: Any = "sum",
    *,
    argnames: str | tuple[str, ...] = (),
    in_axes: int | tuple[int, ...] = 0,
    num_real_microbatches: Any = None,
) -> Callable[..., Any]:
    """Compute a function of a batch as a loop over parts of it, in the memory of one part.

    Args:
        fun: the function.
        argnums: numbers of the arguments with a batch axis.
        microbatch_size: examples in a part, a divisor of the batch; None for no parts.
        accumulator: 'sum', 'mean' or 'concat', what becomes of the results of the parts; or a
            pytree of these, a prefix of the function's result.
        argnames: names of named arguments with a batch axis.
        in_axes: where their batch axes are.
        num_real_microbatches: how many parts to compute, if the others are padding.

    Returns:
        A function of the same arguments.

    Raises:
        ValueError: the size does not divide the batch, or there is no such accumulator.

    Example:
        >>> f = optim.microbatch(lambda w, x: (w * x**2).sum(), argnums=1, microbatch_size=2)
        >>> f(2.0, fnp.array([1.0, 2.0, 3.0, 4.0]))
        Array(60., dtype=float32)
    """
    for kind in tree.leaves(accumulator):
        if kind not in _ACCUMULATORS:
            raise ValueError(f"microbatch: an accumulator is one of {_ACCUMULATORS}, not {kind!r}")
    if microbatch_size is None:
        return fun
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    names = (argnames,) if isinstance(argnames, str) else tuple(argnames)
    axes = (in_axes,) * len(numbers + names) if isinstance(in_axes, int) else tuple(in_axes)

    def parted(*args: Any, **kwargs: Any) -> Any:
        batched = [args[k] for k in numbers] + [kwargs[k] for k in names]
        sizes = {
            fnp.shape(x)[axis]
            for given, axis in zip(batched, axes, strict=True)
            for x in tree.leaves(given)
        }
        if len(sizes) != 1 or next(iter(sizes)) % microbatch_size:
            raise ValueError(
                f"microbatch: a microbatch_size of {microbatch_size} must divide one batch size of "
                f"all arguments; the batch sizes are {sorted(sizes)}"
            )
        parts = next(iter(sizes)) // microbatch_size

        def take(index: Any) -> Any:
            chosen = [
                tree.map(
                    lambda x, axis=axis: lax.dynamic_slice_in_dim(
                        x, index * microbatch_size, microbatch_size, axis
                    ),
                    given,
                )
                for given, axis in zip(batched, axes, strict=True)
            ]
            new = list(args)
            for k, value in zip(numbers, chosen, strict=False):
                new[k] = value
            named = dict(zip(names, chosen[len(numbers) :], strict=True))
            return fun(*new, **{**kwargs, **named})

        return _accumulate(take, parts, accumulator, num_real_microbatches)

    return parted


def _accumulate(take: Callable[[Any], Any], parts: int, accumulator: Any, real: Any) -> Any:
    first = eval_shape(take, zero_count())
    kinds = tree.broadcast(accumulator, first)

    def start(kind: str, x: Any) -> Any:
        return fnp.zeros((parts, *x.shape) if kind == "concat" else x.shape, x.dtype)

    def step(index: Any, carry: Any) -> Any:
        found = take(index)
        return tree.map(
            lambda kind, c, x: c.at[index].set(x) if kind == "concat" else c + x,
            kinds, carry, found,
        )  # fmt: skip

    total = lax.fori_loop(0, parts if real is None else real, step, tree.map(start, kinds, first))

    def finish(kind: str, x: Any) -> Any:
        if kind == "concat":
            return x.reshape(-1, *x.shape[2:])
        return x / (parts if real is None else real) if kind == "mean" else x

    return tree.map(finish, kinds, total)
