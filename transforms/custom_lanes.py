"""vmap of functions with derivative rules of their own: the function and its rules over batches.

They may close over values that the same vmap maps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funtorch.errors import UnexpectedTracerError
from funtorch.ops.families import spread
from funtorch.ops.reduce import reduce_sum

from .arguments import function_name
from .batching import Axis, batch_flat

__all__ = ["Lanes", "batched_bwd", "batched_rule", "batched_vjp_rules"]

Flat = Callable[..., Any]


class Lanes:
    """Whether the outputs of a call are batched: all, or none.

    They are where an argument is. Else the function may close over mapped values: who runs first,
    it or its rule, finds out.
    """

    __slots__ = ("batched",)

    def __init__(self, batched: Sequence[bool]) -> None:
        self.batched = True if True in batched else None

    def settle(self, outs: Sequence[Any], flags: Sequence[bool], axis: Axis, f: Flat) -> list[Any]:
        """Return outputs as they have to be, batched or not; None stands for zero."""
        if self.batched is None:
            self.batched = True in flags
        if not self.batched and True in flags:
            raise UnexpectedTracerError(
                f"a rule of {function_name(f)} closes over a value that vmap maps, and the "
                "function does not: pass the value to both as an argument"
            )
        return _spread_all(outs, flags, axis) if self.batched else list(outs)


def _spread_all(outs: Sequence[Any], flags: Sequence[bool], axis: Axis) -> list[Any]:
    return [o if b or o is None else spread(o, axis.size) for o, b in zip(outs, flags, strict=True)]


def _over_batch(
    f: Flat, axis: Axis, batched: Sequence[bool], args: Sequence[Any]
) -> tuple[list[Any], list[bool]]:
    """Run ``f`` over batches, None standing for zero, in and out."""
    mapped = [b and x is not None for b, x in zip(batched, args, strict=True)]
    return batch_flat(f, axis, args, mapped)


def batched_rule(f: Flat, axis: Axis, batched: Sequence[bool], lanes: Lanes) -> Flat:
    """Return ``f`` over batches."""

    def over_batch(*args: Any) -> list[Any]:
        return lanes.settle(*_over_batch(f, axis, batched, args), axis, f)

    over_batch.__wrapped__ = f  # type: ignore[attr-defined]
    return over_batch


def batched_vjp_rules(
    fwd: Flat, bwd: Flat, axis: Axis, batched: Sequence[bool], lanes: Lanes
) -> tuple[Flat, Flat]:
    kept: list[list[bool]] = []  # of each run: which residuals are batched

    def fwd_batched(nonzero: Sequence[bool], *args: Any) -> Any:
        count: list[int] = []

        def flat(*xs: Any) -> list[Any]:
            outs, res = fwd(nonzero, *xs)
            count.append(len(outs))
            return [*outs, *res]

        results, flags = _over_batch(flat, axis, batched, args)
        n = count[0]
        outs = lanes.settle(results[:n], flags[:n], axis, fwd)
        some = bool(lanes.batched) or True in flags[n:]
        kept.append([some] * (len(results) - n))
        return outs, _spread_all(results[n:], flags[n:], axis) if some else results[n:]

    def mapped(count: int) -> list[bool]:
        return [*kept[-1], *[bool(lanes.batched)] * (count - len(kept[-1]))]

    return fwd_batched, batched_bwd(bwd, axis, batched, mapped)


def batched_bwd(
    bwd: Flat,
    axis: Axis,
    batched: Sequence[bool],
    mapped: Callable[[int], Sequence[bool]] = lambda n: [True] * n,
) -> Flat:
    """Return ``bwd`` over batches of those residuals and cotangents that ``mapped`` says; unbatched
    primals get the sum over the batch."""

    def bwd_batched(*res_ct: Any) -> list[Any]:
        present: list[bool] = []

        def flat(*xs: Any) -> list[Any]:
            cts = bwd(*xs)
            present[:] = [ct is not None for ct in cts]
            return [ct for ct in cts if ct is not None]

        which = mapped(len(res_ct))
        found, flags = _over_batch(flat, axis, which, res_ct)
        if True in which:
            found, flags = _spread_all(found, flags, axis), [True] * len(found)
        given = iter(zip(found, flags, strict=True))
        pairs = [next(given) if p else (None, False) for p in present]
        return [
            reduce_sum(ct, axes=(0,)) if flag and not b else ct
            for (ct, flag), b in zip(pairs, batched, strict=True)
        ]

    return bwd_batched
