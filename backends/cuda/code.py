"""Printed code for the GPU: what a module says and how its kernels are launched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .prelude import PRELUDE

__all__ = ["INT_MAX", "CudaCode", "KernelLaunch", "module_text"]

INT_MAX = 2**31 - (1 << 26)
"""Places up to which they are computed in 32 bits, what is added to them included."""


@dataclass(frozen=True)
class KernelLaunch:
    """One launch of a ``__global__`` function.

    Attributes:
        name: of the function.
        grid: how many blocks there are, along x, y and z.
        block: threads of a block.
        shared: bytes of dynamic shared memory of a block.
    """

    name: str
    grid: tuple[int, int, int]
    block: int
    shared: int = 0


@dataclass(frozen=True)
class CudaCode:
    """Printed functions and the launches, in order on one stream, that do one step.

    Every function takes a pointer to each buffer, in the order of the step's buffers, and a pointer
    to ``scratch`` bytes of memory that nobody else uses meanwhile. It is a pointer to anything
    where ``scratch`` is 0. Pointers are aligned to 16 bytes; scratch holds anything at first.

    Attributes:
        text: the functions, to be put into a module (`module_text`).
        launches: how they are launched; none where there is nothing to do.
        scratch: bytes of memory that the launches share.
        declared: functions and tables that the text needs, by name: equal ones are said once.
        prepared: launches that come before a library's call, where one does the step instead.
    """

    text: str
    launches: tuple[KernelLaunch, ...]
    scratch: int = 0
    declared: dict[str, str] = field(default_factory=dict, hash=False)
    prepared: tuple[KernelLaunch, ...] = ()


def module_text(codes: Iterable[CudaCode]) -> str:
    """Return the text of a module of these functions, which must have names of their own."""
    declared: dict[str, str] = {}
    texts: list[str] = []
    for code in codes:
        declared.update(code.declared)
        texts.append(code.text)
    return "\n".join([PRELUDE, *declared.values(), *texts, ""])
