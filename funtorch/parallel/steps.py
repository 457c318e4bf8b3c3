"""A step of training for one process, run by several, each with its part of the batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from funtorch import distributed, hardware, tree
from funtorch.distributed import Mesh, NamedSharding, P
from funtorch.transforms import shard_map
from funtorch.transforms.arguments import normalize_argnums
from funtorch.transforms.jit import jit
from funtorch.transforms.programs import prepared

__all__ = ["data_parallel"]


def data_parallel(
    step: Callable[..., Any],
    *,
    batch_argnums: int | Sequence[int] = -1,
    mesh: Mesh | None = None,
    axis_name: Hashable = "data",
    donate_argnums: int | Sequence[int] = (),
) -> Callable[..., Any]:
    """Compile a step of training for all processes: each has a part of the batch, and all the rest.

    Gradients inside of ``step`` are those of the process's part: average them with `average`,
    `averaged` or `average_gradients`, and what else ``step`` returns and depends on the batch with
    `average`. This is ``jit`` of `shard_map` with ``check_vma=False``; for arrays that are divided
    among processes, such as the state of `zero`, write that with the specs that they need.

    Args:
        step: a function of pytrees of arrays, such as ``step(params, state, batch)``.
        batch_argnums: which arguments each process gives its own part of, of equal shapes, as
            `data.DistributedSampler` makes them; the leading axis is that of examples.
        mesh: with an axis of this name; all processes in a row if None.
        axis_name: the name, for collectives.
        donate_argnums: as of `funtorch.jit`.

    Returns:
        A function of the same arguments, which all processes call together. Its results are the
        same in all of them.

    Raises:
        ValueError: the mesh has no such axis, or an argument has no such number.

    Example:
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> from funtorch import optim, parallel
        >>> optimizer = optim.chain(parallel.average_gradients(), optim.sgd(0.1))
        >>> def step(w, state, x):
        ...     loss, grads = ft.value_and_grad(lambda w: ((w * x - 1) ** 2).mean())(w)
        ...     updates, state = optimizer.update(grads, state, w)
        ...     return w + updates, state, parallel.average(loss)
        >>> w = fnp.zeros(())
        >>> step = parallel.data_parallel(step)
        >>> w, state, loss = step(w, optimizer.init(w), fnp.array([1.0, 2.0]))
        >>> w, loss
        (Array(0.3, dtype=float32), Array(1., dtype=float32))
    """

    @functools.cache
    def compiled(count: int) -> tuple[Callable[..., Any], NamedSharding, frozenset[int]]:
        over = mesh or distributed.make_mesh((_devices(),), (axis_name,))
        if axis_name not in over.axis_names:
            raise ValueError(
                f"data_parallel: {over} has no axis {axis_name!r}: name one of its axes with "
                "axis_name="
            )
        own = frozenset(normalize_argnums(batch_argnums, count, "data_parallel", step))
        divided, whole = P(axis_name), P()
        specs = tuple(divided if k in own else whole for k in range(count))
        run = shard_map(step, mesh=over, in_specs=specs, out_specs=whole, check_vma=False)
        return jit(run, donate_argnums=donate_argnums), NamedSharding(over, divided), own

    @functools.wraps(step)
    def parallel(*args: Any) -> Any:
        run, sharding, own = compiled(len(args))

        def part(x: Any) -> Any:  # in place, since nothing outlives the call
            return distributed.make_array_from_process_local_data(sharding, prepared(x))

        return run(*[tree.map(part, a) if k in own else a for k, a in enumerate(args)])

    return parallel


def _devices() -> int:
    distributed.initialize()
    return len(hardware.cpus())
