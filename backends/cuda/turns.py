"""Long loops as a loop of a graph's worth of steps: few launches instead of one for each kernel.

A graph is for fixed addresses, but each step of a scan reads and writes other parts of arrays. So
some steps at a time read and write copies of their parts, which lie in one place for all turns:
what a turn does is one graph, and the host copies what it needs and launches it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .instructions import At, Carry, Copy, Instruction, Repeat, Slice, count_of

__all__ = ["MOST_NODES", "in_turns"]

MOST_NODES = 4000  # of one graph: longer programs are launched one by one
_LEAST_STEPS = 4  # of a turn: fewer are hardly worth what is copied
_MOST_BYTES = 1 << 26  # that copies of parts take


def in_turns(
    loop: Repeat, register: Callable[[], int], room: Callable[[int], At]
) -> list[Instruction]:
    """Return a loop as one of turns and one of what is left; as it is where it fits a graph.

    Args:
        loop: it.
        register: returns a new register.
        room: returns memory of a size that nobody else uses.
    """
    steps = _steps(loop)
    if not steps:
        return [loop]
    turns, rest = divmod(loop.length, steps)
    held = [replace(c, old=(at := register()), new=at, spare=None) for c in loop.carries]
    homes = [replace(c, init=c.home) for c in loop.carries]
    inner, slices, before, after = [], [], [], []
    for s in loop.slices:
        own, size = Slice(register(), s.start, steps * s.stride, s.written), steps * s.stride
        there = room(size)
        slices.append(own)
        inner.append(replace(s, start=there))
        if size:
            pair = (there, At(own.register)) if not s.written else (At(own.register), there)
            (after if s.written else before).append(Copy(*pair, size))
    turn = replace(loop, length=steps, slices=tuple(inner), carries=_inside(loop, held))
    body = (*before, turn, *after)
    whole = Repeat(turns, loop.reverse, tuple(held), tuple(slices), body)
    if not rest:
        return [whole]
    late = tuple(replace(s, start=s.start + turns * steps * s.stride) for s in loop.slices)
    last = replace(loop, length=rest, slices=late)
    if loop.reverse:
        carries = tuple(replace(c, init=c.home) for c in held)
        return [last, replace(whole, carries=carries)]
    return [whole, replace(last, carries=tuple(homes))]


def _inside(loop: Repeat, held: list[Carry]) -> tuple[Carry, ...]:
    """Return the carries of a turn, whose values stay where they are between turns."""
    return tuple(
        replace(c, init=At(h.old), home=At(h.old)) for c, h in zip(loop.carries, held, strict=True)
    )


def _steps(loop: Repeat) -> int:
    """Return the steps of a turn, an even number so that each carry ends where it began; 0 where
    a loop is not cut."""
    each, whole = count_of(loop.body), count_of([loop])
    if each is None or whole is None or whole <= MOST_NODES or not each:
        return 0
    steps = (MOST_NODES - 2 * len(loop.carries)) // each
    taken = sum(s.stride for s in loop.slices)
    steps = min(steps, _MOST_BYTES // taken if taken else steps, loop.length // 2)
    steps -= steps % 2
    return steps if steps >= _LEAST_STEPS else 0
